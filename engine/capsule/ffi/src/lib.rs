//! The bindings that capsule 0.1.5 expects, which was written for DPDK 19.11, over DPDK 22.11.
//!
//! It takes the place of the published `capsule-ffi` by `[patch.crates-io]`, and offers no more than capsule without its
//! optional features and `overlane-capsule` use. Names and signatures are DPDK's of 19.11 and capsule's; what is behind
//! them is 22.11.

#[allow(unsafe_code)]
mod arguments;
#[allow(unsafe_code)]
mod kni;
#[allow(unsafe_code)]
mod numa;
mod renamed;
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnecessary_transmutes,
    unreachable_pub,
    unsafe_code
)]
mod sys {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

// What is named here goes before what `sys` has under the same name.
pub use arguments::rte_eal_init;
pub use kni::*;
pub use numa::numa_node_of_cpu;
pub use renamed::rte_eth_rx_mq_mode;
pub use sys::*;
