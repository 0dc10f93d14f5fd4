//! Finds what the build needs, and names the Debian package of what is missing.
//!
//! Part of the build script; apart from it so that tests can show it machines on which something is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest DPDK whose API the crate speaks.
const OLDEST: (u32, u32) = (22, 11);

/// Asks pkg-config, which `command` runs, about libdpdk.
pub(super) fn pkg_config(mut command: Command, arguments: &[&str]) -> Result<String, String> {
    let output = command.args(arguments).arg("libdpdk").output().map_err(|error| {
        format!("cannot run pkg-config ({error}); install the Debian package `pkg-config`")
    })?;
    if !output.status.success() {
        return Err(format!(
            "pkg-config does not know libdpdk; install the Debian package `libdpdk-dev`, or set PKG_CONFIG_PATH to \
             where libdpdk.pc is\n{}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Refuses a DPDK that is too old.
pub(super) fn check_version(version: &str) -> Result<(), String> {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        return Err(format!(
            "found DPDK {version}; Overlane needs {}.{} or later (Debian 12's package `libdpdk-dev` has it)",
            OLDEST.0, OLDEST.1
        ));
    }
    Ok(())
}

/// Where a libclang may be.
pub(super) struct Places {
    /// What LIBCLANG_PATH says, a file or a directory: nothing else counts then.
    pub(super) chosen: Option<PathBuf>,
    /// Directories that may have a libclang with its own compiler headers beside it, the best first.
    pub(super) complete: Vec<PathBuf>,
    /// Others that bindgen searches.
    pub(super) others: Vec<PathBuf>,
}

/// A libclang for bindgen.
pub(super) struct Libclang {
    /// The directory to load it from; `None` leaves the search to bindgen.
    pub(super) directory: Option<PathBuf>,
    /// Its compiler headers, where they lie beside it. Elsewhere than on Debian it may know them by itself.
    pub(super) headers: Option<PathBuf>,
}

impl Places {
    /// Chooses a libclang, if it can be one that has its own compiler headers beside it.
    ///
    /// bindgen by itself loads the newest libclang it can find, and a libclang reads only headers (`stddef.h`,
    /// intrinsics) of its own version: a run-time library that some other package brought would break the build.
    pub(super) fn libclang(&self) -> Result<Libclang, String> {
        if let Some(chosen) = &self.chosen {
            let directory = match chosen.parent() {
                Some(parent) if chosen.is_file() => parent,
                _ => chosen,
            };
            if !has_libclang(directory) {
                return Err(format!(
                    "LIBCLANG_PATH is {}, where there is no libclang.so; without LIBCLANG_PATH, that of the Debian \
                     package `libclang-dev` is found",
                    chosen.display()
                ));
            }
            return Ok(Libclang { directory: None, headers: headers_beside(directory) });
        }
        for directory in &self.complete {
            if let (true, Some(headers)) = (has_libclang(directory), headers_beside(directory)) {
                return Ok(Libclang { directory: Some(directory.clone()), headers: Some(headers) });
            }
        }
        // Not laid out as Debian does it: the search is left to bindgen, unless there is plainly nothing to find.
        if !self.others.iter().any(|directory| has_libclang(directory)) {
            return Err("found no libclang with its headers; install the Debian packages `clang` and \
                        `libclang-dev`, or set LIBCLANG_PATH to the directory of libclang.so"
                .to_owned());
        }
        Ok(Libclang { directory: None, headers: None })
    }
}

impl Libclang {
    /// What to do when it cannot read DPDK's headers.
    pub(super) fn advice(&self) -> &'static str {
        match self.headers {
            Some(_) => "",
            None => {
                "\n(there is no libclang that has its compiler headers beside it, only a run-time library; the Debian \
                 package `libclang-dev` brings both)"
            }
        }
    }
}

fn has_libclang(directory: &Path) -> bool {
    std::fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| {
            (name.starts_with("libclang.so") || name.starts_with("libclang-"))
                && !name.starts_with("libclang-cpp")
                && name.contains(".so")
        })
    })
}

fn headers_beside(directory: &Path) -> Option<PathBuf> {
    std::fs::read_dir(directory.join("clang"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("include/stddef.h").is_file())
        .and_then(|path| path.canonicalize().ok())
}
