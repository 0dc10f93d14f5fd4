//! What a worker has done to the table.

use super::state::Progress;
use crate::counters::Counter;

/// One worker's counts; each only grows. What all workers have entered and not taken out is what is live.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct FlowStats {
    /// Flows entered.
    pub inserted: Counter,
    /// Flows taken out after their timeout.
    pub expired: Counter,
    /// Flows taken out because another with the same key began.
    pub replaced: Counter,
    /// Flows taken out to make room for others, by [`Progress`].
    pub evicted: [Counter; Progress::ALL.len()],
    /// Flows that found no room, and nothing that could make way.
    pub refused: Counter,
    /// Entries taken back because another worker entered the same flow at the same time.
    pub collided: Counter,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Inserted,
    Expired,
    Replaced,
    Evicted(Progress),
    Refused,
    Collided,
}

impl FlowStats {
    pub(super) const fn of(&self, event: Event) -> &Counter {
        let [closing, half_open, established] = &self.evicted;
        match event {
            Event::Inserted => &self.inserted,
            Event::Expired => &self.expired,
            Event::Replaced => &self.replaced,
            Event::Evicted(Progress::Closing) => closing,
            Event::Evicted(Progress::HalfOpen) => half_open,
            Event::Evicted(Progress::Established) => established,
            Event::Refused => &self.refused,
            Event::Collided => &self.collided,
        }
    }
}

/// The counts of all workers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowTotals {
    /// Flows entered.
    pub inserted: u64,
    /// Flows taken out after their timeout.
    pub expired: u64,
    /// Flows taken out because another with the same key began.
    pub replaced: u64,
    /// Flows taken out to make room for others, in the order of [`Progress::ALL`].
    pub evicted: [u64; Progress::ALL.len()],
    /// Flows that found no room.
    pub refused: u64,
    /// Entries taken back because another worker entered the same flow at the same time.
    pub collided: u64,
}

impl FlowTotals {
    /// The sum over all workers.
    pub(super) fn of<'a>(workers: impl Iterator<Item = &'a FlowStats>) -> Self {
        workers.fold(Self::default(), |mut total, worker| {
            total.expired += worker.expired.get();
            total.replaced += worker.replaced.get();
            for (total, evicted) in total.evicted.iter_mut().zip(&worker.evicted) {
                *total += evicted.get();
            }
            total.inserted += worker.inserted.get();
            total.refused += worker.refused.get();
            total.collided += worker.collided.get();
            total
        })
    }

    /// Flows that are in the table; while workers change it, about so many.
    #[must_use]
    pub const fn live(&self) -> u64 {
        let [closing, half_open, established] = self.evicted;
        let gone = self.expired + self.replaced + closing + half_open + established;
        self.inserted.saturating_sub(gone)
    }
}
