//! Finds DPDK, compiles the shims over its inline functions and generates the bindings.
//!
//! Everything that can be missing on a fresh machine is named, with the Debian package that brings it.
#![allow(unsafe_code)]

#[path = "build/machine.rs"]
mod machine;
#[path = "build/probe.rs"]
mod probe;

use std::path::PathBuf;
use std::process::{Command, exit};

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

/// What the feature `hash` adds.
const HASH_FUNCTIONS: &[&str] =
    &["rte_hash_add_key_data", "rte_hash_create", "rte_hash_free", "rte_hash_lookup_bulk_data"];

const TYPES: &[&str] = &["rte_mbuf", "rte_mempool", "rte_eth_conf", "rte_eth_dev_info", "rte_eth_link"];

const CONSTANTS: &[&str] = &["OVERLANE_.*", "RTE_MAX_ETHPORTS", "RTE_PKTMBUF_HEADROOM"];

fn main() {
    for file in
        ["build.rs", "build/machine.rs", "build/probe.rs", "csrc/hash.h", "csrc/shim.c", "csrc/shim.h"]
    {
        println!("cargo:rerun-if-changed={file}");
    }
    for variable in ["PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG_SYSROOT_DIR", "LIBCLANG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let flags = dpdk();
    shims(&flags);
    bindings(&flags);
}

/// Whether DPDK's hash table is asked for.
fn with_hash() -> bool {
    std::env::var_os("CARGO_FEATURE_HASH").is_some()
}

/// Checks DPDK's version, passes its link flags to cargo and returns its compiler flags.
fn dpdk() -> Vec<String> {
    let version = pkg_config(&["--modversion"]);
    probe::check_version(&version).unwrap_or_else(|error| fail(&error));
    // Shared linking: the EAL then loads every driver from its plug-in directory, so that which drivers exist is
    // the machine's choice and not the build's.
    let mut libraries = Vec::new();
    for flag in pkg_config(&["--libs"]).split_whitespace() {
        if let Some(path) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={path}");
        } else if let Some(library) = flag.strip_prefix("-l") {
            libraries.push(library.to_owned());
        }
    }
    // Only what the bindings call, in DPDK's own order: the rest would cost every start of the process.
    const CALLED: &[&str] = &["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"];
    let is_called = |library: &str| CALLED.contains(&library) || library == "rte_hash" && with_hash();
    for library in libraries.iter().filter(|library| is_called(library)) {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    pkg_config(&["--cflags"]).split_whitespace().map(str::to_owned).collect()
}

fn pkg_config(arguments: &[&str]) -> String {
    probe::pkg_config(Command::new("pkg-config"), arguments).unwrap_or_else(|error| fail(&error))
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
    let libclang = machine::libclang().unwrap_or_else(|error| fail(&error));
    let mut builder = bindgen::Builder::default()
        .header("csrc/shim.h")
        .clang_args(flags)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .prepend_enum_name(false)
        .derive_default(false)
        .formatter(bindgen::Formatter::None)
        .generate_comments(false)
        .layout_tests(true);
    if let Some(headers) = &libclang.headers {
        builder = builder.clang_arg("-resource-dir").clang_arg(headers.display().to_string());
    }
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    if with_hash() {
        builder = builder.header("csrc/hash.h").opaque_type("rte_hash").allowlist_var("RTE_HASH_ENTRIES_MAX");
        for function in HASH_FUNCTIONS {
            builder = builder.allowlist_function(function);
        }
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
        Err(error) => fail(&format!("bindgen cannot read DPDK's headers: {error}{}", libclang.advice())),
    };
    let path = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    if let Err(error) = generated.write_to_file(&path) {
        fail(&format!("cannot write {}: {error}", path.display()));
    }
}

fn fail(message: &str) -> ! {
    eprintln!("\noverlane-dpdk: {message}\n");
    exit(1);
}
