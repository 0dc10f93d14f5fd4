//! Whether TLS files have changed since they were read.

use super::TlsFiles;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What tells one state of a file from another: device, inode, time of the last change (seconds and nanoseconds), length.
/// `None`: it is not there.
type State = Option<(u64, u64, i64, i64, u64)>;

/// A state of [`TlsFiles`]: equal to another one if nothing has been written or put in their place in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesState([State; 4]);

impl TlsFiles {
    /// The files as they are now, by what the file system says of them. To be asked for before they are read: then a change
    /// while they are is seen later.
    #[must_use]
    pub fn state(&self) -> FilesState {
        let Self { ca, certificate, key, crl } = self;
        FilesState(
            [Some(ca), Some(certificate), Some(key), crl.as_ref()]
                .map(|file| file.and_then(|file| state(file))),
        )
    }
}

fn state(file: &Path) -> State {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.ctime(), found.ctime_nsec(), found.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_done_to_a_file_is_another_state() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["ca", "certificate", "key", "crl"] {
            fs::write(path(name), name).unwrap();
        }
        let files = TlsFiles {
            ca: path("ca"),
            certificate: path("certificate"),
            key: path("key"),
            crl: Some(path("crl")),
        };
        let mut last = files.state();
        assert_eq!(files.state(), last);
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(path("crl"), "another").unwrap(),
            &|| fs::remove_file(path("key")).unwrap(),
            &|| fs::write(path("key"), "key").unwrap(),
            &|| {
                fs::write(path("new"), "certificate").unwrap();
                fs::rename(path("new"), path("certificate")).unwrap();
            },
        ];
        for change in changes {
            change();
            assert_ne!(std::mem::replace(&mut last, files.state()), files.state());
        }
    }
}
