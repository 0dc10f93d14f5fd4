//! Overlane's data plane on capsule 0.1.5: the same stages as in `overlane-engine`, on capsule's runtime and packets.
//!
//! ```text
//! Site (a TOML file) ─► Host: snapshot, mapping table ─┐
//!                    └► capsule's Runtime ─► Worker, on each core: PortQueue ─► adapter ─► Pipeline ─► Exits ─► PortQueue
//! ```
//! What it is for, and what it cannot do, is in the README beside it.

#[allow(unsafe_code)]
mod adapter;
pub mod bench;
pub mod driver;
mod exits;
pub mod host;
pub mod pcap;
pub mod report;
pub mod site;
pub mod tell;
mod worker;
