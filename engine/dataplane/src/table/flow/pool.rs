//! Entries that no flow has: each worker keeps some for itself, and shares the rest in batches.

use super::entry::Entry;
use crate::table::qsbr::{Domain, Grace};
use crate::table::sync::{Acquire, AtomicU64, Mutex, Relaxed, Release, lock};
use std::collections::VecDeque;

/// Entries that change hands together.
pub(super) const BATCH: usize = if cfg!(loom) { 1 } else { 64 };

/// The entries that no worker keeps for itself: a stack of batches, linked through the entries. No lock, and an
/// exchange only once in [`BATCH`] entries.
pub(super) struct Pool {
    /// The number of the topmost batch's first entry, plus 1, or 0; above it, how often the stack has changed, so that an
    /// exchange fails even if the same batch came back on top meanwhile.
    top: AtomicU64,
    /// What workers that are gone still waited for. Only used when one comes or goes.
    orphans: Mutex<Vec<(Grace, u32)>>,
}

const NUMBER: u64 = u32::MAX as u64;

impl Pool {
    /// A stack of all entries; their number must be a multiple of [`BATCH`].
    pub(super) fn new(entries: &[Entry]) -> Self {
        let pool = Self { top: AtomicU64::new(0), orphans: Mutex::new(Vec::new()) };
        let numbers: Vec<u32> = (0..entries.len() as u32).collect();
        for batch in numbers.rchunks_exact(BATCH) {
            pool.push(entries, batch);
        }
        pool
    }

    /// Shares a batch of entries that are the caller's.
    fn push(&self, entries: &[Entry], batch: &[u32]) {
        let entry = |number: u32| entries.get(number as usize);
        let Some((first, rest)) = batch.split_first() else { return };
        let mut next = 0;
        for number in rest.iter().rev() {
            if let Some(entry) = entry(*number) {
                entry.link().store(next, Relaxed);
                next = u64::from(*number) + 1;
            }
        }
        let Some(top_entry) = entry(*first) else { return };
        let mut top = self.top.load(Relaxed);
        loop {
            // Below the next entry of the batch, above the next batch.
            top_entry.link().store((top & NUMBER) << 32 | next, Relaxed);
            let new = ((top >> 32) + 1) << 32 | (u64::from(*first) + 1);
            // Releases the links.
            match self.top.compare_exchange_weak(top, new, Release, Relaxed) {
                Ok(_) => return,
                Err(other) => top = other,
            }
        }
    }

    /// Takes a batch, calling `take` for each of its entries; `false` when there is none.
    fn pop(&self, entries: &[Entry], mut take: impl FnMut(u32)) -> bool {
        let mut top = self.top.load(Acquire);
        let mut number = loop {
            let number = top & NUMBER;
            let Some(entry) = number.checked_sub(1).and_then(|first| entries.get(first as usize)) else {
                return false;
            };
            // Another worker may have taken it, and whatever it wrote there is read; then the exchange fails.
            let below = entry.link().load(Relaxed) >> 32;
            let new = ((top >> 32) + 1) << 32 | below;
            match self.top.compare_exchange_weak(top, new, Acquire, Acquire) {
                Ok(_) => break number,
                Err(other) => top = other,
            }
        };
        while let Some(first) = number.checked_sub(1) {
            number = entries.get(first as usize).map_or(0, |entry| entry.link().load(Relaxed) & NUMBER);
            take(first as u32);
        }
        true
    }

    /// How many entries are shared. Only while nobody takes or shares any.
    #[cfg(test)]
    pub(super) fn len(&self, entries: &[Entry]) -> usize {
        let (mut number, mut batches) = (self.top.load(Acquire) & NUMBER, 0);
        while let Some(first) = number.checked_sub(1) {
            batches += 1;
            number = entries[first as usize].link().load(Relaxed) >> 32;
        }
        let orphans = lock(&self.orphans).len();
        batches * BATCH + orphans
    }
}

/// The entries that one worker keeps: free ones, and those that it has unlinked and others may still look at.
///
/// All of it has its memory from the beginning.
#[derive(Debug)]
pub(super) struct Stock {
    free: Vec<u32>,
    /// Unlinked, in grace periods that have begun.
    limbo: VecDeque<(Grace, u32)>,
    /// Unlinked since the last grace period began.
    unlinked: Vec<u32>,
    reserve: usize,
}

impl Stock {
    /// That of a worker that strives to have `reserve` entries, free or soon to be. It inherits from workers that are
    /// gone.
    pub(super) fn new(pool: &Pool, reserve: usize) -> Self {
        let limbo_limit = Self::limbo_limit(reserve);
        let orphans = core::mem::take(&mut *lock(&pool.orphans));
        let mut limbo = VecDeque::with_capacity(limbo_limit + orphans.len());
        limbo.extend(orphans);
        // Grace periods end in order.
        limbo.make_contiguous().sort_unstable();
        Self {
            free: Vec::with_capacity(reserve + 2 * BATCH + limbo.capacity()),
            limbo,
            unlinked: Vec::with_capacity(limbo_limit),
            reserve,
        }
    }

    /// Twice the reserve, since the hand unlinks too; and what one insertion may take out at most.
    const fn limbo_limit(reserve: usize) -> usize {
        2 * reserve + 128
    }

    /// Bytes of a worker's own memory.
    pub(super) const fn bytes_of(reserve: usize) -> usize {
        let limbo = Self::limbo_limit(reserve);
        (reserve + 2 * BATCH + 2 * limbo) * size_of::<u32>() + limbo * size_of::<(Grace, u32)>()
    }

    /// Whether `more` entries can be unlinked.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.limbo.len() + self.unlinked.len() + more <= Self::limbo_limit(self.reserve)
    }

    /// Takes care of an entry that this worker has unlinked.
    pub(super) fn retire(&mut self, number: u32) {
        debug_assert!(self.has_room(1));
        self.unlinked.push(number);
    }

    /// Takes an entry back that was never linked.
    pub(super) fn put_back(&mut self, number: u32) {
        self.free.push(number);
    }

    /// A free entry.
    pub(super) fn take(&mut self, domain: &Domain, pool: &Pool, entries: &[Entry]) -> Option<u32> {
        if self.free.is_empty() {
            self.collect(domain);
            if self.free.is_empty() {
                pool.pop(entries, |number| self.free.push(number));
            }
        }
        self.free.pop()
    }

    /// Whether there is enough in reserve, with a batch from the pool if need be and if it has one.
    pub(super) fn replenish(&mut self, pool: &Pool, entries: &[Entry]) -> bool {
        self.len() >= self.reserve || pool.pop(entries, |number| self.free.push(number))
    }

    /// Begins a grace period for what was unlinked, takes back what nobody can see any more, and shares what is
    /// beyond the reserve.
    pub(super) fn turn(&mut self, domain: &Domain, pool: &Pool, entries: &[Entry]) {
        if !self.unlinked.is_empty() {
            let grace = domain.begin_grace();
            self.limbo.extend(self.unlinked.drain(..).map(|number| (grace, number)));
        }
        if !self.limbo.is_empty() {
            self.collect(domain);
        }
        while self.free.len() >= self.reserve + 2 * BATCH {
            let batch = self.free.len() - BATCH;
            pool.push(entries, self.free.get(batch..).unwrap_or_default());
            self.free.truncate(batch);
        }
    }

    fn collect(&mut self, domain: &Domain) {
        let oldest = domain.oldest();
        while let Some((_, number)) = self.limbo.pop_front_if(|(grace, _)| *grace <= oldest) {
            self.free.push(number);
        }
    }

    /// Entries that are free or soon will be.
    pub(super) fn len(&self) -> usize {
        self.free.len() + self.limbo.len() + self.unlinked.len()
    }

    /// Entries that wait for a grace period, or for one to begin.
    pub(super) fn waiting(&self) -> usize {
        self.limbo.len() + self.unlinked.len()
    }

    /// Leaves everything to the others.
    pub(super) fn leave(&mut self, domain: &Domain, pool: &Pool, entries: &[Entry]) {
        self.turn(domain, pool, entries);
        let whole = self.free.len() - self.free.len() % BATCH;
        for batch in self.free.get(..whole).unwrap_or_default().chunks_exact(BATCH) {
            pool.push(entries, batch);
        }
        let grace = domain.begin_grace();
        let rest = self.free.drain(..).skip(whole).map(|number| (grace, number));
        lock(&pool.orphans).extend(self.limbo.drain(..).chain(rest));
    }
}
