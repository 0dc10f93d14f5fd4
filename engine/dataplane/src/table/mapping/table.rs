//! What readers see of the table.

use super::MappingKey;
use super::compare::{Compare, Scalar, Way};
use super::lines::Lines;
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
        let mut found = [None];
        self.lookup_burst(reader, &[key], &mut found);
        let [found] = found;
        found
    }

    /// The values of many keys: `found[i]` becomes that of `keys[i]`. Faster than one by one, since memory is asked
    /// for all of them at once. As many as the shorter of the two has; longer than 64 is done in parts.
    ///
    /// # Panics
    /// If the reader is registered with another domain: it would not keep the values alive.
    #[inline]
    pub fn lookup_burst<'r>(&'r self, reader: &'r Reader, keys: &[MappingKey], found: &mut [Option<&'r V>]) {
        let view = self.view(reader);
        for (keys, found) in keys.chunks(BURST).zip(found.chunks_mut(BURST)) {
            let queries: ArrayVec<Query, BURST> = keys.iter().map(|key| view.ask(*key)).collect();
            view.answer(&queries, found, |query| *query);
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

impl<'r, V: Copy> View<'r, V> {
    /// Asks memory for a key.
    #[inline(always)]
    #[must_use]
    pub fn ask(&self, key: MappingKey) -> Query {
        let home = self.lines.home(key.word());
        self.lines.prefetch(home);
        Query { word: key.word(), home }
    }

    /// The values: `found[i]` becomes that of the query in `asked[i]`, as many as the shorter of the two has. Memory is
    /// asked for the values only.
    #[inline]
    pub fn answer<I>(&self, asked: &[I], found: &mut [Option<&'r V>], query: impl Fn(&I) -> Query) {
        match self.compare {
            Compare::Scalar => {
                // SAFETY: needs no special instructions.
                unsafe { self.find::<Scalar, I>(asked, found, query) }
            }
            #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
            Compare::Avx2 => {
                // SAFETY: `detect` or `with_compare` saw the instructions.
                unsafe { self.find_avx2(asked, found, query) }
            }
            #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
            Compare::Avx512 => {
                // SAFETY: `detect` or `with_compare` saw the instructions.
                unsafe { self.find_avx512(asked, found, query) }
            }
            #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
            Compare::Avx2 | Compare::Avx512 => {
                // SAFETY: as for `Scalar`.
                unsafe { self.find::<Scalar, I>(asked, found, query) }
            }
        }
    }

    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    unsafe fn find<W: Way, I>(&self, asked: &[I], found: &mut [Option<&'r V>], query: impl Fn(&I) -> Query) {
        for (item, found) in asked.iter().zip(found) {
            let query = query(item);
            // Another view's lines may have more homes.
            if query.home >= self.lines.homes() {
                *found = None;
                continue;
            }
            // SAFETY: the processor has the instructions. An index that is found was stored after its slot was written,
            // and the slot is not used again before the reader, which this view borrows for 'r, has quiesced.
            *found = unsafe {
                self.lines.find::<W>(query.home, query.word).map(|(_, slot)| {
                    self.shared.slots.prefetch(slot);
                    self.shared.slots.get(slot)
                })
            };
        }
    }

    /// # Safety
    /// As for `find`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx2")]
    unsafe fn find_avx2<I>(&self, asked: &[I], found: &mut [Option<&'r V>], query: impl Fn(&I) -> Query) {
        // SAFETY: the caller's promise.
        unsafe { self.find::<super::compare::Avx2, I>(asked, found, query) };
    }

    /// # Safety
    /// As for `find`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx512f")]
    unsafe fn find_avx512<I>(&self, asked: &[I], found: &mut [Option<&'r V>], query: impl Fn(&I) -> Query) {
        // SAFETY: the caller's promise.
        unsafe { self.find::<super::compare::Avx512, I>(asked, found, query) };
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
