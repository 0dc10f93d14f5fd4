//! The build script on machines on which something is missing: what it says names the Debian package.

#[path = "../build/probe.rs"]
mod probe;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use probe::Places;
use tempfile::TempDir;

/// A directory with a libclang in it, and with its compiler headers beside it if so wanted.
fn library(root: &Path, version: &str, headers: bool) -> PathBuf {
    let directory = root.join(format!("llvm-{version}/lib"));
    let include = directory.join("clang").join(version).join("include");
    fs::create_dir_all(&include).unwrap();
    fs::write(directory.join("libclang.so.1"), "").unwrap();
    if headers {
        fs::write(include.join("stddef.h"), "").unwrap();
    }
    directory
}

fn places(complete: &[&PathBuf]) -> Places {
    let complete: Vec<PathBuf> = complete.iter().copied().cloned().collect();
    Places { chosen: None, others: complete.clone(), complete }
}

#[test]
fn without_pkg_config_its_package_is_named() {
    let error = probe::pkg_config(Command::new("/nonexistent/pkg-config"), &["--libs"]).unwrap_err();
    assert!(error.contains("install the Debian package `pkg-config`"), "{error}");
}

#[test]
fn without_dpdk_its_package_is_named_with_what_pkg_config_said() {
    let empty = TempDir::new().unwrap();
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_LIBDIR", empty.path()).env_remove("PKG_CONFIG_PATH");
    let error = probe::pkg_config(command, &["--libs"]).unwrap_err();
    assert!(error.contains("install the Debian package `libdpdk-dev`"), "{error}");
    assert!(error.contains("libdpdk.pc'"), "{error}");
}

#[test]
fn a_dpdk_that_is_too_old_is_refused_with_the_version_that_is_needed() {
    for version in ["22.07.0", "21.11.5", "20", ""] {
        let error = probe::check_version(version).unwrap_err();
        assert!(error.contains("needs 22.11 or later") && error.contains("`libdpdk-dev`"), "{error}");
    }
    for version in ["22.11.11", "22.11.0-rc4", "23.03", "24.11.1"] {
        assert_eq!(probe::check_version(version), Ok(()));
    }
}

#[test]
fn without_libclang_its_package_is_named() {
    let empty = TempDir::new().unwrap();
    let error = places(&[&empty.path().to_owned()]).libclang().err().unwrap();
    assert!(error.contains("`libclang-dev`"), "{error}");
}

#[test]
fn a_libclang_without_headers_is_left_to_bindgen_with_advice_should_that_fail() {
    let root = TempDir::new().unwrap();
    let found = places(&[&library(root.path(), "14", false)]).libclang().unwrap();
    assert_eq!((&found.directory, &found.headers), (&None, &None));
    assert!(found.advice().contains("`libclang-dev`"));
}

#[test]
fn a_libclang_with_its_headers_wins_over_a_newer_one_without() {
    let root = TempDir::new().unwrap();
    let (older, newer) = (library(root.path(), "14", true), library(root.path(), "19", false));
    let found = places(&[&newer, &older]).libclang().unwrap();
    assert_eq!(found.directory, Some(older.clone()));
    assert_eq!(found.headers, Some(older.join("clang/14").canonicalize().unwrap()));
    assert_eq!(found.advice(), "");
}

#[test]
fn a_chosen_libclang_is_taken_as_file_or_directory_and_refused_where_there_is_none() {
    let root = TempDir::new().unwrap();
    let (chosen, other) = (library(root.path(), "14", true), library(root.path(), "19", true));
    for path in [chosen.clone(), chosen.join("libclang.so.1")] {
        let found = Places { chosen: Some(path), ..places(&[&other]) }.libclang().unwrap();
        assert_eq!(found.headers, Some(chosen.join("clang/14").canonicalize().unwrap()));
    }
    let nowhere = Places { chosen: Some(root.path().join("none")), ..places(&[&other]) };
    let error = nowhere.libclang().err().unwrap();
    assert!(error.contains("LIBCLANG_PATH is ") && error.contains("`libclang-dev`"), "{error}");
}
