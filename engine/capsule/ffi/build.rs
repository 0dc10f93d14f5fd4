//! Compiles the shims over DPDK's inline functions and generates the bindings, under the names that capsule has.
//!
//! What is needed of the machine, and how it is found, is the same as for `overlane-dpdk`.
#![allow(unsafe_code)]

#[path = "../../dpdk/build/machine.rs"]
mod machine;
#[path = "../../dpdk/build/probe.rs"]
mod probe;

use std::path::PathBuf;
use std::process::{Command, exit};

/// Functions used through their exported symbols. Inline ones have a shim in `csrc/`.
const FUNCTIONS: &[&str] = &[
    "_rte_.*",
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eal_init",
    "rte_eth_allmulticast_(dis|en)able",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_(dis|en)able",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_lcore_to_socket_id",
    "rte_mempool_free",
    "rte_mempool_in_use_count",
    "rte_pktmbuf_pool_create",
    "rte_socket_count",
    "rte_socket_id",
    "rte_socket_id_by_idx",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_set_affinity",
    "rte_thread_unregister",
];

const TYPES: &[&str] = &["rte_cpuset_t", "rte_ether_addr", "rte_eth_rx_mq_mode"];

const CONSTANTS: &[&str] =
    &["DEV_TX_OFFLOAD_MBUF_FAST_FREE", "ETH_RSS_.*", "RTE_MBUF_DEFAULT_BUF_SIZE", "RTE_MAX_LCORE"];

/// The libraries that have them. Shared, so that the EAL loads every driver from its plug-in directory.
const LIBRARIES: &[&str] = &["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"];

fn main() {
    for file in
        ["build.rs", "csrc/shim.c", "csrc/shim.h", "../../dpdk/build/machine.rs", "../../dpdk/build/probe.rs"]
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

/// Checks DPDK's version, passes its link flags to cargo and returns its compiler flags.
fn dpdk() -> Vec<String> {
    let version = pkg_config(&["--modversion"]);
    probe::check_version(&version).unwrap_or_else(|error| fail(&error));
    for flag in pkg_config(&["--libs-only-L"]).split_whitespace() {
        if let Some(path) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={path}");
        }
    }
    for library in LIBRARIES {
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
    for flag in flags {
        match flag.strip_prefix("-I") {
            Some(path) => build.flag("-isystem").flag(path),
            None => build.flag(flag),
        };
    }
    if let Err(error) = build.try_compile("overlane_capsule_shim") {
        fail(&format!("cannot compile csrc/shim.c: {error}\n(a C compiler is in the Debian package `gcc`)"));
    }
}

fn bindings(flags: &[String]) {
    let libclang = machine::libclang().unwrap_or_else(|error| fail(&error));
    let mut builder = bindgen::Builder::default()
        .header("csrc/shim.h")
        .clang_args(flags)
        .rust_edition(bindgen::RustEdition::Edition2024)
        // capsule names enumerations' values by their modules, and wants values of plain structures.
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .derive_copy(true)
        .derive_default(true)
        .formatter(bindgen::Formatter::None)
        .generate_comments(false)
        .layout_tests(true);
    if let Some(headers) = &libclang.headers {
        builder = builder.clang_arg("-resource-dir").clang_arg(headers.display().to_string());
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
    for opaque in ["rte_device", "rte_eth_rxseg_capa", "rte_mbuf_ext_shared_info"] {
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
    eprintln!("\ncapsule-ffi: {message}\n");
    exit(1);
}
