//! Where things are on this machine. Part of build scripts, like `probe`, which must be beside it.

use super::probe::{Libclang, Places};
use std::path::PathBuf;
use std::process::Command;

/// Chooses a libclang for bindgen, and tells bindgen by the environment.
pub(super) fn libclang() -> Result<Libclang, String> {
    let libclang = places().libclang()?;
    if let Some(directory) = &libclang.directory {
        // SAFETY: the build script has one thread, so nothing reads the environment meanwhile.
        unsafe { std::env::set_var("LIBCLANG_PATH", directory) };
        let compiler = directory.with_file_name("bin").join("clang");
        if compiler.is_file() && std::env::var_os("CLANG_PATH").is_none() {
            // SAFETY: as above.
            unsafe { std::env::set_var("CLANG_PATH", compiler) };
        }
    }
    Ok(libclang)
}

/// Where a libclang may be on this machine.
fn places() -> Places {
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix("llvm-")).and_then(|n| n.parse().ok());
        if let Some(version) = version {
            versions.push((version, entry.path().join("lib")));
        }
    }
    versions.sort();
    let from_llvm_config = Command::new("llvm-config")
        .arg("--libdir")
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let others = [
        "/usr/lib64",
        "/usr/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/local/lib",
    ];
    Places {
        chosen: std::env::var_os("LIBCLANG_PATH").map(PathBuf::from),
        complete: from_llvm_config
            .into_iter()
            .chain(versions.into_iter().rev().map(|(_, path)| path))
            .collect(),
        others: others.map(PathBuf::from).to_vec(),
    }
}
