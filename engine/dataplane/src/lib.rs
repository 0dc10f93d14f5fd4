//! Overlane's data plane: packets in, packets out, no I/O.
//!
//! The crate is generic, by static dispatch, over three small traits ([`packet::Packet`], [`packet::Pool`],
//! [`packet::Clock`]). DPDK's mbufs implement them in `overlane-dpdk`; a plain buffer implements them over plain
//! memory, so everything here is tested, fuzzed and sanitised on a machine without DPDK.

pub mod address;
pub mod buffer;
pub mod cap;
pub mod counters;
pub mod dhcp;
pub mod drop;
mod extension;
pub mod external;
pub mod failure;
pub mod fragment;
pub mod group;
mod header;
pub mod id;
pub mod illegal;
pub mod limit;
pub mod mac;
mod offload;
pub mod packet;
pub mod path_mtu;
mod pieces;
pub mod pipeline;
mod plain;
pub mod policy;
mod refusal;
pub mod resolve;
pub mod route;
pub mod segment;
pub mod snapshot;
mod stage;
#[allow(unsafe_code)]
pub mod table;
pub mod trace;
pub mod translate;
pub mod wire;
