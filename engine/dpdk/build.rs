//! Finds DPDK, compiles the shims over its inline functions and generates the bindings.
//!
//! Everything that can be missing on a fresh machine is named, with the Debian package that brings it.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The oldest DPDK whose API the crate speaks.
const OLDEST: (u32, u32) = (22, 11);

/// Functions used through their exported symbols. Inline ones have a shim of their own in `csrc/`.
const FUNCTIONS: &[&str] = &[
    "overlane_.*",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eal_hotplug_remove",
    "rte_eal_init",
    "rte_eth_allmulticast_enable",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_is_removed",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_link_get_nowait",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_get_tsc_hz",
    "rte_mempool_avail_count",
    "rte_mempool_free",
    "rte_pktmbuf_copy",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create_by_ops",
    "rte_thread_register",
    "rte_thread_unregister",
];

const TYPES: &[&str] = &["rte_mbuf", "rte_mempool", "rte_eth_conf", "rte_eth_dev_info", "rte_eth_link"];

const CONSTANTS: &[&str] = &["OVERLANE_.*", "RTE_MAX_ETHPORTS", "RTE_PKTMBUF_HEADROOM"];

fn main() {
    for file in ["build.rs", "csrc/shim.c", "csrc/shim.h"] {
        println!("cargo:rerun-if-changed={file}");
    }
    for variable in ["PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG_SYSROOT_DIR", "LIBCLANG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let flags = dpdk();
    shims(&flags);
    bindings(&flags);
}

/// Checks DPDK's version, passes its link flags to cargo and returns its compiler flags.
fn dpdk() -> Vec<String> {
    let version = pkg_config(&["--modversion", "libdpdk"]);
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        fail(&format!(
            "found DPDK {version}; Overlane needs {}.{} or later (Debian 12's package `libdpdk-dev` has it)",
            OLDEST.0, OLDEST.1
        ));
    }
    // Shared linking: the EAL then loads every driver from its plug-in directory, so that which drivers exist is
    // the machine's choice and not the build's.
    let mut libraries = Vec::new();
    for flag in pkg_config(&["--libs", "libdpdk"]).split_whitespace() {
        if let Some(path) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={path}");
        } else if let Some(library) = flag.strip_prefix("-l") {
            libraries.push(library.to_owned());
        }
    }
    // Only what the bindings call, in DPDK's own order: the rest would cost every start of the process.
    const CALLED: &[&str] = &["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"];
    for library in libraries.iter().filter(|library| CALLED.contains(&library.as_str())) {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    pkg_config(&["--cflags", "libdpdk"]).split_whitespace().map(str::to_owned).collect()
}

fn pkg_config(arguments: &[&str]) -> String {
    let output = match Command::new("pkg-config").args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            fail(&format!("cannot run pkg-config ({error}); install the Debian package `pkg-config`"))
        }
    };
    if !output.status.success() {
        fail(&format!(
            "pkg-config does not know libdpdk; install the Debian package `libdpdk-dev`, or set PKG_CONFIG_PATH to \
             where libdpdk.pc is\n{}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Compiles the shims with DPDK's own flags: its inline functions need its `-march` and its configuration header.
fn shims(flags: &[String]) {
    let mut build = cc::Build::new();
    build.file("csrc/shim.c").opt_level(3).warnings(true);
    // DPDK's headers are not ours to warn about.
    for flag in flags {
        match flag.strip_prefix("-I") {
            Some(path) => build.flag("-isystem").flag(path),
            None => build.flag(flag),
        };
    }
    if let Err(error) = build.try_compile("overlane_dpdk_shim") {
        fail(&format!("cannot compile csrc/shim.c: {error}\n(a C compiler is in the Debian package `gcc`)"));
    }
}

fn bindings(flags: &[String]) {
    let resource_dir = libclang();
    let mut builder = bindgen::Builder::default()
        .header("csrc/shim.h")
        .clang_args(flags)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .prepend_enum_name(false)
        .derive_default(false)
        .formatter(bindgen::Formatter::None)
        .generate_comments(false)
        .layout_tests(true);
    if let Some(directory) = resource_dir {
        builder = builder.clang_arg("-resource-dir").clang_arg(directory.display().to_string());
    }
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for kind in TYPES {
        builder = builder.allowlist_type(kind);
    }
    for constant in CONSTANTS {
        builder = builder.allowlist_var(constant);
    }
    // A device's private structures are behind pointers; nothing here looks into them.
    for opaque in ["rte_device", "rte_mempool", "rte_eth_rxseg_capa", "rte_mbuf_ext_shared_info"] {
        builder = builder.opaque_type(opaque);
    }
    let generated = match builder.generate() {
        Ok(generated) => generated,
        Err(error) => fail(&format!("bindgen cannot read DPDK's headers: {error}")),
    };
    let path = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    if let Err(error) = generated.write_to_file(&path) {
        fail(&format!("cannot write {}: {error}", path.display()));
    }
}

/// Chooses a libclang that has its own compiler headers beside it, and returns those headers' directory.
///
/// bindgen by itself loads the newest libclang it can find, and a libclang reads only headers (`stddef.h`,
/// intrinsics) of its own version: a run-time library that some other package brought would break the build.
fn libclang() -> Option<PathBuf> {
    if let Some(chosen) = std::env::var_os("LIBCLANG_PATH") {
        let chosen = PathBuf::from(chosen);
        let directory = if chosen.is_file() { chosen.parent()?.to_owned() } else { chosen };
        return headers_beside(&directory);
    }
    let mut candidates: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix("llvm-")).and_then(|n| n.parse().ok());
        if let Some(version) = version {
            candidates.push((version, entry.path().join("lib")));
        }
    }
    candidates.sort();
    let from_llvm_config = Command::new("llvm-config")
        .arg("--libdir")
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let directories = from_llvm_config.into_iter().chain(candidates.into_iter().rev().map(|(_, path)| path));
    for directory in directories {
        if let (true, Some(headers)) = (has_libclang(&directory), headers_beside(&directory)) {
            // SAFETY: the build script has one thread, so nothing reads the environment meanwhile.
            unsafe { std::env::set_var("LIBCLANG_PATH", &directory) };
            let compiler = directory.with_file_name("bin").join("clang");
            if compiler.is_file() && std::env::var_os("CLANG_PATH").is_none() {
                // SAFETY: as above.
                unsafe { std::env::set_var("CLANG_PATH", compiler) };
            }
            return Some(headers);
        }
    }
    // Not laid out as Debian does it: leave the search to bindgen, unless there is plainly nothing to find.
    let known = [
        "/usr/lib64",
        "/usr/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/local/lib",
    ];
    if !known.iter().any(|directory| has_libclang(Path::new(directory))) {
        fail(
            "found no libclang with its headers; install the Debian packages `clang` and `libclang-dev`, or set \
             LIBCLANG_PATH to the directory of libclang.so",
        );
    }
    None
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

fn fail(message: &str) -> ! {
    eprintln!("\noverlane-dpdk: {message}\n");
    exit(1);
}
