//! What workers share, and how they find flows.

use super::account::Account;
use super::entry::{Entry, Flow};
use super::key::FlowKey;
use super::lines::{Home, Lines, Word};
use super::pool::{BATCH, Pool, Stock};
use super::state::Timeouts;
use super::stats::{FlowStats, FlowTotals};
use super::worker::FlowWorker;
use crate::counters::PerWorker;
use crate::id::{OutOfRange, VnetId};
use crate::table::compare::{Compare, Scalar, Way};
use crate::table::mapping::Hasher;
use crate::table::qsbr::{Domain, Reader};
use crate::table::region::{Region, prefetch};
use crate::table::sync::AtomicU64;
use arrayvec::ArrayVec;
use core::fmt;
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

/// Keys whose buckets are asked for before the first is looked at.
const BURST: usize = 64;

/// Entries that each worker strives to have in reserve: what it enters while it waits for a grace period.
const RESERVE: usize = 1024;

/// How many flows a table has room for, and for how long it remembers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowLimits {
    capacity: usize,
    per_node: usize,
    timeouts: Timeouts,
}

impl FlowLimits {
    /// How many flows a table may have room for.
    pub const CAPACITY: RangeInclusive<usize> = 1024..=1 << 26;

    /// Checks and wraps the limits: room for `capacity` flows, 1,024 to 67,108,864, of which one node may have a quarter.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub const fn new(capacity: usize, timeouts: Timeouts) -> Result<Self, OutOfRange> {
        if capacity < *Self::CAPACITY.start() || capacity > *Self::CAPACITY.end() {
            let given = capacity as u64;
            return Err(OutOfRange { field: "flow capacity", legal: "1024 to 67108864", given });
        }
        Ok(Self { capacity, per_node: capacity / 4, timeouts })
    }

    /// The same with another number of flows that one node may have, 1 to 67,108,864.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub const fn with_per_node(self, flows: usize) -> Result<Self, OutOfRange> {
        if flows == 0 || flows > *Self::CAPACITY.end() {
            let given = flows as u64;
            return Err(OutOfRange { field: "flows per node", legal: "1 to 67108864", given });
        }
        Ok(Self { per_node: flows, ..self })
    }

    /// How many flows may be kept on one account: that of a node of this host, or of nodes elsewhere that share one.
    #[must_use]
    pub const fn per_node(&self) -> usize {
        self.per_node
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
    /// 262,144 flows, of which one node may have 65,536.
    fn default() -> Self {
        Self { capacity: 1 << 18, per_node: 1 << 16, timeouts: Timeouts::default() }
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
    pub(super) const fn new(capacity: usize, workers: usize) -> Self {
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
    /// How many flows are kept on each account, and how many may be. Not part of the protocol: a worker that
    /// reads an old number lets one more pass.
    pub(super) accounts: Box<[AtomicU32]>,
    pub(super) per_node: usize,
}

impl Shared {
    /// How many flows are kept on an account.
    pub(super) fn account(&self, account: Account) -> Option<&AtomicU32> {
        self.accounts.get(account.index())
    }
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
        let sizes = Sizes::new(limits.capacity, workers);
        Self::of(domain, sizes, (limits.timeouts, limits.per_node), workers, seed)
    }

    pub(super) fn of(
        domain: &Arc<Domain>,
        sizes: Sizes,
        (timeouts, per_node): (Timeouts, usize),
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
            accounts: (0..Account::COUNT).map(|_| AtomicU32::new(0)).collect(),
            per_node,
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

    /// The account of a node on another host.
    #[must_use]
    pub fn account_of(&self, vnet: VnetId, address: Ipv4Addr) -> Account {
        Account::of_remote(self.shared.lines.hasher(), vnet, address)
    }

    /// How many flows are kept on an account.
    #[must_use]
    pub fn kept_for(&self, account: Account) -> usize {
        self.shared.account(account).map_or(0, |account| account.load(Relaxed) as usize)
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

    /// The table, for look-ups in steps.
    ///
    /// # Panics
    /// If the reader is registered with another domain: it would not keep flows from being reused.
    #[inline]
    #[must_use]
    pub fn view<'r>(&'r self, reader: &'r Reader) -> FlowView<'r> {
        assert!(reader.protects(&self.shared.domain), "a reader of another reclamation domain");
        FlowView { shared: &self.shared, compare: self.compare }
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
        let view = self.view(reader);
        for (keys, found) in keys.chunks(BURST).zip(found.chunks_mut(BURST)) {
            let mut queries: ArrayVec<FlowQuery, BURST> = keys.iter().map(|key| view.ask(*key)).collect();
            view.approach(queries.iter_mut());
            for (query, found) in queries.iter().zip(found) {
                *found = view.answer(query);
            }
        }
    }
}

/// The table, for one burst. A look-up has three steps, and memory is asked for in each of the first two; the longer a
/// caller does something else in between, the less of it is waited for.
#[derive(Clone, Copy)]
pub struct FlowView<'r> {
    shared: &'r Shared,
    compare: Compare,
}

/// A look-up under way; for the table that was asked.
#[derive(Debug, Clone, Copy)]
pub struct FlowQuery {
    key: FlowKey,
    home: Home,
    /// The number of the entry where the flow most likely is; [`NOWHERE`] if it is not in its first bucket.
    candidate: u32,
}

/// No entry's number.
const NOWHERE: u32 = u32::MAX;

impl FlowQuery {
    /// What is looked for.
    #[inline]
    #[must_use]
    pub const fn key(&self) -> FlowKey {
        self.key
    }
}

impl<'r> FlowView<'r> {
    /// The first step: asks for the bucket where the key is most often.
    #[inline(always)]
    #[must_use]
    pub fn ask(&self, key: FlowKey) -> FlowQuery {
        let home = self.shared.lines.home(key);
        self.shared.lines.prefetch_first(home);
        FlowQuery { key, home, candidate: NOWHERE }
    }

    /// The second step: looks into the buckets, and asks for the entries.
    #[inline]
    pub fn approach<'q>(&self, queries: impl Iterator<Item = &'q mut FlowQuery>) {
        match self.compare {
            // SAFETY: needs no special instructions.
            Compare::Scalar => unsafe { self.shared.approach::<Scalar>(queries) },
            #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
            // SAFETY: `detect` or `with_compare` saw the instructions.
            Compare::Avx2 => unsafe { self.shared.approach_avx2(queries) },
            #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
            // SAFETY: `detect` or `with_compare` saw the instructions.
            Compare::Avx512 => unsafe { self.shared.approach_avx512(queries) },
            #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
            // SAFETY: as for `Scalar`.
            Compare::Avx2 | Compare::Avx512 => unsafe { self.shared.approach::<Scalar>(queries) },
        }
    }

    /// The last step. What is found stays the key's as long as the reader does not quiesce.
    #[inline(always)]
    #[must_use]
    pub fn answer(&self, query: &FlowQuery) -> Option<Flow<'r>> {
        match self.shared.entries.get(query.candidate as usize) {
            Some(entry) if entry.key() == query.key => Some(Flow { entry }),
            _ => self.answer_otherwise(query),
        }
    }

    /// The flow is in its second bucket, or nowhere; or another has the same tag.
    #[cold]
    #[inline(never)]
    fn answer_otherwise(&self, query: &FlowQuery) -> Option<Flow<'r>> {
        let FlowQuery { key, home, .. } = *query;
        // SAFETY: `Scalar` needs no special instructions.
        let found = unsafe { self.shared.lines.find::<Scalar>(&self.shared.entries, home, key) };
        found.map(|(_, _, entry)| Flow { entry })
    }
}

impl Shared {
    /// See [`FlowView::approach`].
    ///
    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    unsafe fn approach<'q, W: Way>(&self, queries: impl Iterator<Item = &'q mut FlowQuery>) {
        let (lines, entries) = (&self.lines, &*self.entries);
        for query in queries {
            // SAFETY: the caller's promise.
            let word = unsafe { lines.candidate::<W>(query.home) };
            if let Some(number) = word.map(Word::entry)
                && let Some(entry) = entries.get(number as usize)
            {
                prefetch(entry);
                query.candidate = number;
            } else {
                lines.prefetch_second(query.home);
            }
        }
    }

    /// # Safety
    /// As for `approach`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx2")]
    unsafe fn approach_avx2<'q>(&self, queries: impl Iterator<Item = &'q mut FlowQuery>) {
        // SAFETY: the caller's promise.
        unsafe { self.approach::<crate::table::compare::Avx2>(queries) };
    }

    /// # Safety
    /// As for `approach`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx512f")]
    unsafe fn approach_avx512<'q>(&self, queries: impl Iterator<Item = &'q mut FlowQuery>) {
        // SAFETY: the caller's promise.
        unsafe { self.approach::<crate::table::compare::Avx512>(queries) };
    }
}

impl fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowTable").field("room", &self.room()).field("compare", &self.compare).finish()
    }
}
