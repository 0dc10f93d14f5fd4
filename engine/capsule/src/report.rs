//! What a run did, as one line of JSON.

use overlane_dataplane::counters::Drops;
use overlane_dataplane::drop::DropReason;
use serde::Serialize;
use std::collections::BTreeMap;

/// Packets dropped, by the name of the reason; reasons without any are left out.
pub type DropCounts = BTreeMap<&'static str, u64>;

/// A run, from the first turn to the last.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Wall-clock time of the run.
    pub seconds: f64,
    /// Packets that came in.
    pub packets: u64,
    /// CPU time of the workers' threads, all of it, in nanoseconds.
    pub cpu_ns: u64,
    /// `cpu_ns` by `packets`.
    pub ns_per_packet: f64,
    /// Packets for the engine itself. Nobody is there to hear them.
    pub punted: u64,
    /// Path MTUs that routers of the substrate told. As above.
    pub path_mtus: u64,
    /// By worker.
    pub workers: Vec<WorkerReport>,
    /// By port, the uplink first.
    pub ports: Vec<PortReport>,
}

/// What a worker did.
#[derive(Debug, Default, Serialize)]
pub struct WorkerReport {
    /// The core it ran on.
    pub core: usize,
    /// Whether DPDK knew its thread, which therefore had a cache of buffers.
    pub registered: bool,
    /// Turns: a burst of each port.
    pub turns: u64,
    /// Packets that it received.
    pub packets: u64,
    /// CPU time of its thread in nanoseconds, with the empty turns.
    pub cpu_ns: u64,
    /// Drops that belong to no port.
    pub unplaced_drops: DropCounts,
}

/// What went through a port.
#[derive(Debug, Default, Serialize)]
pub struct PortReport {
    /// `uplink`, or the interface's id.
    pub name: String,
    /// Packets that the pipeline got from it.
    pub received: u64,
    /// Packets that the device did not receive, as far as it says.
    pub missed: u64,
    /// Packets handed to capsule to be sent by it.
    pub handed: u64,
    /// Packets that the device says it sent. The difference was dropped by capsule, as the device took no more.
    pub sent: u64,
    /// Drops counted at it; those of virtual networks (packets from the substrate) are the uplink's here.
    pub drops: DropCounts,
}

/// Sums drops up by name.
pub(crate) fn drops<'a>(counters: impl IntoIterator<Item = &'a Drops>) -> DropCounts {
    let mut counts = DropCounts::new();
    for counter in counters {
        for reason in DropReason::ALL {
            let count = counter.get(*reason);
            if count > 0 {
                *counts.entry(reason.name()).or_default() += count;
            }
        }
    }
    counts
}
