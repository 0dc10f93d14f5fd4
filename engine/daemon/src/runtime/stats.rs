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
    /// Of these, those spent on receiving, on each part of the stages, and on sending, as turns that were looked at tell.
    pub(super) receive_cycles: Counter,
    pub(super) classify_cycles: Counter,
    pub(super) authorise_cycles: Counter,
    pub(super) translate_cycles: Counter,
    pub(super) send_cycles: Counter,
    /// Cycles of all turns, and between them.
    pub(super) cycles: Counter,
}

/// Cycles of the time-stamp counter, in turns that were not empty. Under load the parts are those of some of the turns, which
/// stand for the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BusyCycles {
    /// Receiving: what drivers do, and bringing their packets into our form.
    pub receive: u64,
    /// Reading and checking headers, and looking up where they lead.
    pub classify: u64,
    /// Seeing whether packets may pass: verifying their sources, fragments, flows.
    pub authorise: u64,
    /// Making packets what they are to leave as, and gathering them by port.
    pub translate: u64,
    /// Sending: what was gathered, and what other threads left.
    pub send: u64,
    /// The whole turns. What is left of them is the loop itself, and queues that had nothing.
    pub turns: u64,
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
    /// Cycles of turns that were not empty.
    pub cycles: BusyCycles,
    /// Time spent on turns that were not empty.
    pub busy: Duration,
    /// Time that it has run, sleeping included.
    pub total: Duration,
}

impl BusyCycles {
    /// The share of each of `count` packets, or turns: whole cycles, 0 of none.
    #[must_use]
    pub fn for_each(&self, count: u64) -> Self {
        let share = |cycles: u64| cycles.checked_div(count).unwrap_or(0);
        Self {
            receive: share(self.receive),
            classify: share(self.classify),
            authorise: share(self.authorise),
            translate: share(self.translate),
            send: share(self.send),
            turns: share(self.turns),
        }
    }
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
        cycles: BusyCycles {
            receive: work.receive_cycles.get(),
            classify: work.classify_cycles.get(),
            authorise: work.authorise_cycles.get(),
            translate: work.translate_cycles.get(),
            send: work.send_cycles.get(),
            turns: work.busy_cycles.get(),
        },
        busy: clock.span(work.busy_cycles.get()),
        total: clock.span(work.cycles.get()),
    };
    work.iter().zip(cores).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_shared_out_among_packets_and_none_among_no_packets() {
        let cycles =
            BusyCycles { receive: 10, classify: 41, authorise: 3, translate: 17, send: 8, turns: 64 };
        let each = BusyCycles { receive: 2, classify: 10, authorise: 0, translate: 4, send: 2, turns: 16 };
        assert_eq!(cycles.for_each(4), each);
        assert_eq!(cycles.for_each(0), BusyCycles::default());
    }
}
