//! What a worker did with its time: cheap enough to be always on.

use core::time::Duration;
use overlane_dataplane::counters::{Counter, PerWorker};
use overlane_dpdk::TscClock;

/// One worker's counters, written by it alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Work {
    pub(super) turns: Counter,
    pub(super) empty_turns: Counter,
    pub(super) sleeps: Counter,
    pub(super) packets: Counter,
    /// Cycles of turns in which there was something to do.
    pub(super) busy_cycles: Counter,
    /// Cycles of all turns, and between them.
    pub(super) cycles: Counter,
}

/// What a worker has done since it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStats {
    /// The core that it is pinned to.
    pub core: usize,
    /// Turns of its loop.
    pub turns: u64,
    /// Turns in which there was nothing to do.
    pub empty_turns: u64,
    /// Times that it went to sleep.
    pub sleeps: u64,
    /// Packets received, injected or handed over by other workers.
    pub packets: u64,
    /// Time spent on turns that were not empty.
    pub busy: Duration,
    /// Time that it has run, sleeping included.
    pub total: Duration,
}

impl WorkerStats {
    /// The share of its time that the worker was busy, 0 to 1.
    #[must_use]
    pub fn busy_share(&self) -> f64 {
        if self.total.is_zero() { 0.0 } else { self.busy.as_secs_f64() / self.total.as_secs_f64() }
    }
}

pub(super) fn read(work: &PerWorker<Work>, cores: &[usize], clock: &TscClock) -> Vec<WorkerStats> {
    let read = |(work, core): (&Work, &usize)| WorkerStats {
        core: *core,
        turns: work.turns.get(),
        empty_turns: work.empty_turns.get(),
        sleeps: work.sleeps.get(),
        packets: work.packets.get(),
        busy: clock.span(work.busy_cycles.get()),
        total: clock.span(work.cycles.get()),
    };
    work.iter().zip(cores).map(read).collect()
}
