//! Files that appear when they are complete.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file that is being written.
#[derive(Debug)]
pub(super) enum Output {
    /// It takes its place at the end; if it never comes to that, it is removed.
    New { file: NamedTempFile, place: PathBuf },
    /// A pipe or a device is written at once.
    Stream(File),
}

impl Output {
    /// Begins to write what will be at `path`.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Ok(Self::Stream(OpenOptions::new().write(true).open(path)?));
        }
        let place = place(path)?;
        let (Some(directory), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        };
        let mut prefix = name.to_owned();
        prefix.push(".");
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".partial")
            // Less what the umask takes, as for any file.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        Ok(Self::New { file, place })
    }

    /// Puts a file that is complete in its place.
    pub(super) fn put(self) -> io::Result<()> {
        match self {
            Self::New { file, place } => file.persist(place).map(|_| ()).map_err(|error| error.error),
            Self::Stream(_) => Ok(()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::New { file, .. } => file.write(bytes),
            Self::Stream(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::New { file, .. } => file.flush(),
            Self::Stream(file) => file.flush(),
        }
    }
}

/// Writes what is still in memory; the file is complete then.
pub(super) fn complete(output: BufWriter<Output>) -> io::Result<Output> {
    output.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Where a file is or will be, whatever leads to it.
pub(super) fn place(path: &Path) -> io::Result<PathBuf> {
    if let Ok(place) = path.canonicalize() {
        return Ok(place);
    }
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::NotFound.into()) };
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    Ok(directory.unwrap_or(Path::new(".")).canonicalize()?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::FileTypeExt;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn file_is_replaced_as_a_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        fs::write(&path, "before").unwrap();
        let mut output = BufWriter::new(Output::create(&path).unwrap());
        output.write_all(b"after").unwrap();
        output.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert!(
            names(directory.path())[1].starts_with("out.")
                && names(directory.path())[1].ends_with(".partial")
        );
        complete(output).unwrap().put().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");

        drop(BufWriter::new(Output::create(&path).unwrap()));
        assert_eq!(
            (fs::read(&path).unwrap(), names(directory.path())),
            (b"after".to_vec(), vec!["out".to_owned()])
        );
    }

    #[test]
    fn link_leads_to_the_file_that_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("out"), directory.path().join("link"));
        fs::write(&path, "before").unwrap();
        std::os::unix::fs::symlink("out", &link).unwrap();
        let mut output = BufWriter::new(Output::create(&link).unwrap());
        output.write_all(b"after").unwrap();
        complete(output).unwrap().put().unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"after");
    }

    #[test]
    fn pipe_is_written_to_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // To open a pipe for both never waits.
        let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut output = BufWriter::new(Output::create(&path).unwrap());
        output.write_all(b"at once").unwrap();
        complete(output).unwrap().put().unwrap();
        let mut read = [0; 7];
        reader.read_exact(&mut read).unwrap();
        assert_eq!((&read, names(directory.path())), (b"at once", vec!["pipe".to_owned()]));
        assert!(path.metadata().unwrap().file_type().is_fifo());
    }

    #[test]
    fn directory_is_no_place_for_a_file() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Output::create(directory.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let missing = directory.path().join("missing/out");
        assert_eq!(Output::create(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
