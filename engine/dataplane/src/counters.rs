//! Counters that workers write and the control thread reads.
//!
//! Each counter has one writer (its worker), so counting is a load and a store without a lock prefix; readers may
//! see a value a few packets old, never a torn or lost one.

use crate::drop::DropReason;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows, written by one worker.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One worker's drops by reason.
#[derive(Debug)]
#[repr(align(64))]
pub struct Drops([Counter; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Counter::default()))
    }
}

impl Drops {
    /// Counts one packet dropped for `reason`.
    #[inline]
    pub fn count(&self, reason: DropReason) {
        if let Some(counter) = self.0.get(reason.index()) {
            counter.add(1);
        }
    }

    /// Packets dropped for `reason`.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason.index()).map_or(0, Counter::get)
    }
}

/// One worker's traffic on one port, frames without FCS.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Traffic {
    /// Frames received.
    pub rx_packets: Counter,
    /// Bytes received, from the Ethernet header on.
    pub rx_bytes: Counter,
    /// Frames handed to the port.
    pub tx_packets: Counter,
    /// Bytes handed to the port, from the Ethernet header on.
    pub tx_bytes: Counter,
    /// ICMP errors and TCP resets of the engine's own about packets received on this port.
    pub icmp_errors_sent: Counter,
    /// Those that were not sent, beyond their limit ([`crate::limit`]).
    pub icmp_errors_limited: Counter,
    /// Frames received on this port and dropped, or dropped on the way out of it.
    pub drops: Drops,
}

/// A counter block per worker.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[T]>);

impl<T: Default> PerWorker<T> {
    /// Blocks for `workers` workers, all zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self::from_fn(workers, T::default)
    }
}

impl<T> PerWorker<T> {
    /// Blocks for `workers` workers, each made by `make`.
    #[must_use]
    pub fn from_fn(workers: usize, make: impl Fn() -> T) -> Self {
        Self((0..workers).map(|_| make()).collect())
    }

    /// The block of worker `index`, or `None` when there are fewer workers.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)
    }

    /// All blocks.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl PerWorker<Drops> {
    /// Packets that all workers dropped for `reason`.
    #[must_use]
    pub fn total(&self, reason: DropReason) -> u64 {
        self.iter().map(|drops| drops.get(reason)).sum()
    }
}

impl PerWorker<Traffic> {
    /// Packets that all workers dropped for `reason`.
    #[must_use]
    pub fn total(&self, reason: DropReason) -> u64 {
        self.iter().map(|traffic| traffic.drops.get(reason)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_all_workers_are_summed_by_reason() {
        let ports = PerWorker::<Traffic>::new(2);
        ports.get(0).unwrap().drops.count(DropReason::NoMapping);
        ports.get(1).unwrap().drops.count(DropReason::NoMapping);
        ports.get(1).unwrap().drops.count(DropReason::ArpSpoofed);
        assert_eq!(ports.total(DropReason::NoMapping), 2);
        assert_eq!(ports.total(DropReason::ArpSpoofed), 1);
        assert!(ports.get(2).is_none());
    }
}
