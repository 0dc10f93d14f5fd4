//! What readers see of the table.

use super::MappingKey;
use super::compare::{Compare, Scalar, Way};
use super::lines::Lines;
use super::row::{Row, Tag};
use super::slots::Slots;
use crate::table::qsbr::{Domain, Reader};
use crate::table::sync::{Acquire, AtomicPtr, Mutex, Relaxed};
use arrayvec::ArrayVec;
use core::fmt;
use std::sync::Arc;

/// Keys whose lines are asked for before the first is looked at.
const BURST: usize = 64;

/// A table, for readers: cheap to clone, one per worker.
pub struct Table<V: Copy + Send + Sync + 'static> {
    shared: Arc<Shared<V>>,
    compare: Compare,
}

/// What readers and the writer share.
pub(super) struct Shared<V> {
    pub(super) domain: Arc<Domain>,
    /// The newest lines, from `Box::into_raw`; never null.
    pub(super) lines: AtomicPtr<Lines>,
    pub(super) slots: Slots<V>,
    /// Lines that a writer left behind when it was dropped before their grace period was over.
    pub(super) orphans: Mutex<Vec<OldLines>>,
}

/// Lines that a resize replaced. A pointer, not a box: readers may still look at them.
pub(super) struct OldLines(pub(super) *mut Lines);

// SAFETY: it owns the lines, which are `Send`, and nothing else.
unsafe impl Send for OldLines {}

impl Drop for OldLines {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw`, was swapped out of `Shared::lines`, and whoever drops it knows that
        // no reader can see it: its grace period is over, or the table has no reader left.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl<V> Drop for Shared<V> {
    fn drop(&mut self) {
        drop(OldLines(self.lines.load(Relaxed)));
    }
}

/// The numbers of the bits that are set.
#[inline]
pub(crate) fn bits(mut bits: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (lowest < u64::BITS).then_some(lowest as usize)
    })
}

impl<V: Copy + Send + Sync + 'static> Table<V> {
    pub(super) fn new(shared: Arc<Shared<V>>) -> Self {
        Self { shared, compare: Compare::detect() }
    }

    /// The same table, its keys compared in the given way; `None` where the processor has no such instructions.
    #[must_use]
    pub fn with_compare(&self, compare: Compare) -> Option<Self> {
        compare.is_available().then(|| Self { shared: Arc::clone(&self.shared), compare })
    }

    /// How keys are compared.
    #[must_use]
    pub const fn compare(&self) -> Compare {
        self.compare
    }

    /// The value of a key; it stays valid until the reader quiesces, whatever the writer does.
    ///
    /// # Panics
    /// If the reader is registered with another domain: it would not keep the value alive.
    #[inline]
    #[must_use]
    pub fn lookup<'r>(&'r self, reader: &'r Reader, key: MappingKey) -> Option<&'r V> {
        self.find(reader, key).map(|found| found.value)
    }

    /// [`Self::lookup`], with what is the key's own.
    ///
    /// # Panics
    /// As there.
    #[inline]
    pub(super) fn find<'r>(&'r self, reader: &'r Reader, key: MappingKey) -> Option<Found<'r, V>> {
        let mut found = [None];
        self.find_burst(reader, &[key], &mut found);
        let [found] = found;
        found
    }

    /// The values of many keys: `found[i]` becomes that of `keys[i]`. Faster than one by one, since memory is asked
    /// for all of them at once. As many as the shorter of the two has; longer than 64 is done in parts.
    ///
    /// # Panics
    /// If the reader is registered with another domain: it would not keep the values alive.
    #[inline]
    pub fn find_burst<'r>(
        &'r self,
        reader: &'r Reader,
        keys: &[MappingKey],
        found: &mut [Option<Found<'r, V>>],
    ) {
        let view = self.view(reader);
        for (keys, found) in keys.chunks(BURST).zip(found.chunks_mut(BURST)) {
            let queries: ArrayVec<Query, BURST> = keys.iter().map(|key| view.ask(*key)).collect();
            let missing = view.answer(queries.iter().copied().zip(&mut *found));
            for index in bits(missing) {
                if let (Some(query), Some(found)) = (queries.get(index), found.get_mut(index)) {
                    *found = view.answer_rest(*query);
                }
            }
        }
    }

    /// The table now, for look-ups in two steps.
    ///
    /// # Panics
    /// If the reader is registered with another domain: it would not keep the values alive.
    #[inline]
    #[must_use]
    pub fn view<'r>(&'r self, reader: &'r Reader) -> View<'r, V> {
        assert!(reader.protects(&self.shared.domain), "a reader of another reclamation domain");
        // SAFETY: the reader is online, of this domain, and borrowed.
        View { shared: &self.shared, lines: unsafe { self.shared.lines() }, compare: self.compare }
    }
}

/// What a look-up found.
#[derive(Debug)]
pub struct Found<'r, V> {
    value: &'r V,
    tag: Tag,
}

impl<V> Clone for Found<'_, V> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Found<'_, V> {}

impl<'r, V> Found<'r, V> {
    /// The value, which other keys may share.
    #[inline(always)]
    #[must_use]
    pub const fn value(self) -> &'r V {
        self.value
    }

    /// What is the key's own.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn tag(self) -> Tag {
        self.tag
    }
}

/// The table as it is for a burst: first memory is asked for each key, as soon as it is known, then the values are
/// taken, so that the way from memory is gone once for all of them.
#[derive(Clone, Copy)]
pub struct View<'r, V> {
    shared: &'r Shared<V>,
    lines: &'r Lines,
    compare: Compare,
}

/// A look-up that memory has been asked for; for the view that made it.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    word: u64,
    home: u32,
}

impl Query {
    /// What was asked for.
    #[inline(always)]
    #[must_use]
    pub const fn key(&self) -> MappingKey {
        MappingKey::of_word(self.word)
    }
}

impl<'r, V: Copy> View<'r, V> {
    /// Asks memory for a key.
    #[inline(always)]
    #[must_use]
    pub fn ask(&self, key: MappingKey) -> Query {
        let home = self.lines.home(key.word());
        self.lines.prefetch(home);
        Query { word: key.word(), home }
    }

    /// The values, as far as keys are where most are: each query's comes to be where it is paired with. Memory is asked for
    /// the values, and for where the other keys may be. Which were not found, of the first 64, as bits: they are for
    /// [`Self::answer_rest`], which is the faster the later it is called.
    #[inline]
    pub fn answer<'f>(&self, asked: impl Iterator<Item = (Query, &'f mut Option<Found<'r, V>>)>) -> u64
    where
        'r: 'f,
    {
        match self.compare {
            Compare::Scalar => {
                // SAFETY: needs no special instructions.
                unsafe { self.find::<Scalar>(asked) }
            }
            #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
            Compare::Avx2 => {
                // SAFETY: `detect` or `with_compare` saw the instructions.
                unsafe { self.find_avx2(asked) }
            }
            #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
            Compare::Avx512 => {
                // SAFETY: `detect` or `with_compare` saw the instructions.
                unsafe { self.find_avx512(asked) }
            }
            #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
            Compare::Avx2 | Compare::Avx512 => {
                // SAFETY: as for `Scalar`.
                unsafe { self.find::<Scalar>(asked) }
            }
        }
    }

    /// The value of a key that [`Self::answer`] did not find, if it is there at all.
    #[must_use]
    pub fn answer_rest(&self, query: Query) -> Option<Found<'r, V>> {
        if !self.is_mine(query) {
            return None;
        }
        // SAFETY: `Scalar` needs no special instructions; the row as in `find`.
        unsafe {
            let found = self.lines.find::<Scalar>(query.home, query.word);
            found.map(|(_, row)| self.found(row))
        }
    }

    /// What a row leads to.
    ///
    /// # Safety
    /// It was found in this view's lines.
    #[inline(always)]
    unsafe fn found(&self, row: Row) -> Found<'r, V> {
        // SAFETY: the caller's promise; see `find`.
        Found { value: unsafe { self.shared.slots.get(row.slot()) }, tag: row.tag() }
    }

    /// Another view's lines may have more homes.
    #[inline(always)]
    const fn is_mine(&self, query: Query) -> bool {
        query.home < self.lines.homes()
    }

    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    unsafe fn find<'f, W: Way>(
        &self,
        asked: impl Iterator<Item = (Query, &'f mut Option<Found<'r, V>>)>,
    ) -> u64
    where
        'r: 'f,
    {
        let (mut missing, mut bit) = (0, 1);
        for (query, found) in asked {
            *found = None;
            let row = if self.is_mine(query) {
                // SAFETY: the processor has the instructions.
                unsafe { self.lines.find_at_home::<W>(query.home, query.word) }
            } else {
                None
            };
            match row {
                // SAFETY: a row that is found was stored after its slot was written, and the slot is not used again before
                // the reader, which this view borrows for 'r, has quiesced.
                Some(row) => *found = Some(unsafe { self.found(row) }),
                None => missing |= bit,
            }
            bit <<= 1;
        }
        missing
    }

    /// # Safety
    /// As for `find`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx2")]
    unsafe fn find_avx2<'f>(&self, asked: impl Iterator<Item = (Query, &'f mut Option<Found<'r, V>>)>) -> u64
    where
        'r: 'f,
    {
        // SAFETY: the caller's promise.
        unsafe { self.find::<super::compare::Avx2>(asked) }
    }

    /// # Safety
    /// As for `find`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx512f")]
    unsafe fn find_avx512<'f>(
        &self,
        asked: impl Iterator<Item = (Query, &'f mut Option<Found<'r, V>>)>,
    ) -> u64
    where
        'r: 'f,
    {
        // SAFETY: the caller's promise.
        unsafe { self.find::<super::compare::Avx512>(asked) }
    }
}

impl<V> fmt::Debug for View<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("compare", &self.compare).finish_non_exhaustive()
    }
}

impl<V: Copy> Shared<V> {
    /// The newest lines.
    ///
    /// # Safety
    /// The caller is the writer, or borrows a reader that is online in `domain` for 'r: lines that are swapped out
    /// are freed only after it has quiesced.
    #[inline(always)]
    pub(super) unsafe fn lines<'r>(&self) -> &'r Lines {
        // SAFETY: never null, from `Box::into_raw`, and alive by the caller's promise.
        unsafe { &*self.lines.load(Acquire) }
    }
}

impl<V: Copy + Send + Sync + 'static> Clone for Table<V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), compare: self.compare }
    }
}

impl<V: Copy + Send + Sync + 'static> fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("compare", &self.compare).finish_non_exhaustive()
    }
}
