//! What workers share, and how they find flows.

use super::entry::{Entry, Flow};
use super::key::FlowKey;
use super::lines::{Home, Lines};
use super::pool::{BATCH, Pool, Stock};
use super::state::Timeouts;
use super::stats::{FlowStats, FlowTotals};
use super::worker::FlowWorker;
use crate::counters::PerWorker;
use crate::id::OutOfRange;
use crate::table::compare::{Compare, Scalar, Way};
use crate::table::mapping::Hasher;
use crate::table::qsbr::{Domain, Reader};
use crate::table::region::{Region, prefetch};
use crate::table::sync::AtomicU64;
use core::fmt;
use core::ops::RangeInclusive;
use std::sync::Arc;

/// Keys whose buckets are asked for before the first is looked at.
const BURST: usize = 64;

/// Entries that each worker strives to have in reserve: what it enters while it waits for a grace period.
const RESERVE: usize = 1024;

/// How many flows a table has room for, and for how long it remembers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowLimits {
    capacity: usize,
    timeouts: Timeouts,
}

impl FlowLimits {
    /// How many flows a table may have room for.
    pub const CAPACITY: RangeInclusive<usize> = 1024..=1 << 26;

    /// Checks and wraps the limits: room for `capacity` flows, 1,024 to 67,108,864.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub const fn new(capacity: usize, timeouts: Timeouts) -> Result<Self, OutOfRange> {
        if capacity < *Self::CAPACITY.start() || capacity > *Self::CAPACITY.end() {
            let given = capacity as u64;
            return Err(OutOfRange { field: "flow capacity", legal: "1024 to 67108864", given });
        }
        Ok(Self { capacity, timeouts })
    }

    /// How many flows the table has room for at least.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// For how long flows are remembered.
    #[must_use]
    pub const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Bytes that the table of so many workers takes, all of them from the beginning.
    #[must_use]
    pub const fn memory(&self, workers: usize) -> usize {
        let sizes = Sizes::new(self.capacity, workers);
        sizes.entries * size_of::<Entry>()
            + Lines::bytes_of(sizes.buckets as usize)
            + workers * (Stock::bytes_of(sizes.reserve) + size_of::<FlowStats>())
    }
}

impl Default for FlowLimits {
    /// 262,144 flows.
    fn default() -> Self {
        Self { capacity: 1 << 18, timeouts: Timeouts::default() }
    }
}

/// How large the parts are.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) buckets: u32,
    /// A multiple of [`BATCH`].
    pub(super) entries: usize,
    pub(super) reserve: usize,
}

impl Sizes {
    /// Buckets are half full when all entries are in use, so that two are hardly ever both full.
    const fn new(capacity: usize, workers: usize) -> Self {
        let entries = (capacity + workers * RESERVE).next_multiple_of(BATCH);
        Self { buckets: entries.div_ceil(4) as u32, entries, reserve: RESERVE }
    }
}

/// What all workers share.
pub(super) struct Shared {
    pub(super) domain: Arc<Domain>,
    pub(super) lines: Lines,
    pub(super) entries: Region<Entry>,
    pub(super) pool: Pool,
    /// How many buckets have been looked at for flows that are over, since time began.
    pub(super) hand: AtomicU64,
    pub(super) timeouts: Timeouts,
    pub(super) reserve: usize,
    pub(super) stats: PerWorker<FlowStats>,
}

/// A flow table, to look flows up in; cheap to clone. Who enters flows also needs a [`FlowWorker`].
#[derive(Clone)]
pub struct FlowTable {
    pub(super) shared: Arc<Shared>,
    compare: Compare,
}

impl FlowTable {
    /// A table for workers 0 to `workers` - 1, whose readers are registered with `domain`.
    ///
    /// `seed` must be secret and random: who knows it can choose ports and addresses that pile up in one place.
    #[must_use]
    pub fn new(domain: &Arc<Domain>, limits: &FlowLimits, workers: usize, seed: [u64; 2]) -> Self {
        Self::of(domain, Sizes::new(limits.capacity, workers), limits.timeouts, workers, seed)
    }

    pub(super) fn of(
        domain: &Arc<Domain>,
        sizes: Sizes,
        timeouts: Timeouts,
        workers: usize,
        seed: [u64; 2],
    ) -> Self {
        let entries = Region::new(sizes.entries.next_multiple_of(BATCH), Entry::default);
        let shared = Shared {
            domain: Arc::clone(domain),
            lines: Lines::new(sizes.buckets, Hasher::new(seed)),
            pool: Pool::new(&entries),
            entries,
            hand: AtomicU64::new(0),
            timeouts,
            reserve: sizes.reserve,
            stats: PerWorker::new(workers),
        };
        Self { shared: Arc::new(shared), compare: Compare::detect() }
    }

    /// The same table, its words compared in the given way; `None` where the processor has no such instructions.
    #[must_use]
    pub fn with_compare(&self, compare: Compare) -> Option<Self> {
        compare.is_available().then(|| Self { shared: Arc::clone(&self.shared), compare })
    }

    /// How words are compared.
    #[must_use]
    pub const fn compare(&self) -> Compare {
        self.compare
    }

    /// What worker `index` enters flows with; it must be the only one with this index, since it alone counts there.
    #[must_use]
    pub fn worker(&self, index: usize) -> FlowWorker {
        FlowWorker::new(self, index)
    }

    /// For how long flows are remembered.
    #[inline]
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.shared.timeouts
    }

    /// The counts of each worker.
    #[must_use]
    pub fn stats(&self) -> &PerWorker<FlowStats> {
        &self.shared.stats
    }

    /// The counts of all workers.
    #[must_use]
    pub fn totals(&self) -> FlowTotals {
        FlowTotals::of(self.shared.stats.iter())
    }

    /// How many flows fit at most: some more than was asked for, since workers keep some room in reserve.
    #[must_use]
    pub fn room(&self) -> usize {
        self.shared.entries.len()
    }

    /// Bytes taken by what workers share.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.entries.bytes() + Lines::bytes_of(self.shared.lines.buckets() as usize)
    }

    /// The flow of a key.
    ///
    /// # Panics
    /// If the reader is registered with another domain: it would not keep the flow from being reused.
    #[inline]
    #[must_use]
    pub fn lookup<'r>(&'r self, reader: &'r Reader, key: FlowKey) -> Option<Flow<'r>> {
        let mut found = [None];
        self.lookup_burst(reader, &[key], &mut found);
        let [found] = found;
        found
    }

    /// The flows of many keys: `found[i]` becomes that of `keys[i]`. Faster than one by one, since memory is asked for
    /// all of them at once. As many as the shorter of the two has; longer than 64 is done in parts.
    ///
    /// # Panics
    /// If the reader is registered with another domain: it would not keep the flows from being reused.
    #[inline]
    pub fn lookup_burst<'r>(&'r self, reader: &'r Reader, keys: &[FlowKey], found: &mut [Option<Flow<'r>>]) {
        assert!(reader.protects(&self.shared.domain), "a reader of another reclamation domain");
        for (keys, found) in keys.chunks(BURST).zip(found.chunks_mut(BURST)) {
            match self.compare {
                // SAFETY: needs no special instructions.
                Compare::Scalar => unsafe { self.shared.burst::<Scalar>(keys, found) },
                #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
                // SAFETY: `detect` or `with_compare` saw the instructions.
                Compare::Avx2 => unsafe { self.shared.burst_avx2(keys, found) },
                #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
                // SAFETY: `detect` or `with_compare` saw the instructions.
                Compare::Avx512 => unsafe { self.shared.burst_avx512(keys, found) },
                #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
                // SAFETY: as for `Scalar`.
                Compare::Avx2 | Compare::Avx512 => unsafe { self.shared.burst::<Scalar>(keys, found) },
            }
        }
    }
}

impl Shared {
    /// Looks up to [`BURST`] keys up. What is found stays that key's as long as the caller's reader does not quiesce.
    ///
    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    unsafe fn burst<'r, W: Way>(&'r self, keys: &[FlowKey], found: &mut [Option<Flow<'r>>]) {
        let (lines, entries) = (&self.lines, &*self.entries);
        let mut homes: [Option<Home>; BURST] = [None; BURST];
        for (key, home) in keys.iter().zip(&mut homes) {
            let at = lines.home(*key);
            lines.prefetch_first(at);
            *home = Some(at);
        }
        let mut candidates: [Option<&Entry>; BURST] = [None; BURST];
        for (home, candidate) in homes.iter().flatten().zip(&mut candidates) {
            // SAFETY: the caller's promise.
            let word = unsafe { lines.candidate::<W>(*home) };
            *candidate = word.and_then(|word| entries.get(word.entry() as usize));
            match candidate {
                Some(entry) => prefetch(*entry),
                None => lines.prefetch_second(*home),
            }
        }
        for (((key, home), candidate), found) in
            keys.iter().zip(homes.iter().flatten()).zip(candidates).zip(found)
        {
            *found = match candidate {
                Some(entry) if entry.key() == *key => Some(Flow { entry }),
                // SAFETY: the caller's promise.
                _ => unsafe { lines.find::<W>(entries, *home, *key) }.map(|(_, _, entry)| Flow { entry }),
            };
        }
    }

    /// # Safety
    /// As for `burst`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx2")]
    unsafe fn burst_avx2<'r>(&'r self, keys: &[FlowKey], found: &mut [Option<Flow<'r>>]) {
        // SAFETY: the caller's promise.
        unsafe { self.burst::<crate::table::compare::Avx2>(keys, found) };
    }

    /// # Safety
    /// As for `burst`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx512f")]
    unsafe fn burst_avx512<'r>(&'r self, keys: &[FlowKey], found: &mut [Option<Flow<'r>>]) {
        // SAFETY: the caller's promise.
        unsafe { self.burst::<crate::table::compare::Avx512>(keys, found) };
    }
}

impl fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowTable").field("room", &self.room()).field("compare", &self.compare).finish()
    }
}
