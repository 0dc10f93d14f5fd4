//! Everything that reaches behind capsule's safe interface, into DPDK: all `unsafe` of the driver is here.

mod packet;
mod stats;
mod thread;

pub(crate) use packet::{Frame, Frames, receive, send};
pub(crate) use stats::{device_stats, runtime_directory};
pub(crate) use thread::{CapsuleThread, run_on_core};
