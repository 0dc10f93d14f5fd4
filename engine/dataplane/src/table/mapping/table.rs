//! What readers see of the table.

use super::MappingKey;
use super::compare::{Compare, Scalar, Way};
use super::lines::Lines;
use super::slots::Slots;
use crate::table::qsbr::{Domain, Reader};
use crate::table::sync::{Acquire, AtomicPtr, Mutex, Relaxed};
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
        assert!(reader.protects(&self.shared.domain), "a reader of another reclamation domain");
        for (keys, found) in keys.chunks(BURST).zip(found.chunks_mut(BURST)) {
            match self.compare {
                Compare::Scalar => {
                    // SAFETY: needs no special instructions; the reader is online, of this domain, and borrowed.
                    unsafe { self.shared.burst::<Scalar>(keys, found) }
                }
                #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
                Compare::Avx2 => {
                    // SAFETY: `detect` or `with_compare` saw the instructions; the reader as above.
                    unsafe { self.shared.burst_avx2(keys, found) }
                }
                #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
                Compare::Avx512 => {
                    // SAFETY: `detect` or `with_compare` saw the instructions; the reader as above.
                    unsafe { self.shared.burst_avx512(keys, found) }
                }
                #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
                Compare::Avx2 | Compare::Avx512 => {
                    // SAFETY: as for `Scalar`.
                    unsafe { self.shared.burst::<Scalar>(keys, found) }
                }
            }
        }
    }

    /// Asks for the lines of keys that are looked up soon, for example in the next burst. A hint, nothing more.
    ///
    /// # Panics
    /// If the reader is registered with another domain.
    #[inline]
    pub fn prefetch_burst(&self, reader: &Reader, keys: &[MappingKey]) {
        assert!(reader.protects(&self.shared.domain), "a reader of another reclamation domain");
        // SAFETY: the reader is online, of this domain, and borrowed.
        let lines = unsafe { self.shared.lines() };
        for key in keys {
            lines.prefetch(lines.home(key.word()));
        }
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

    /// Looks up to [`BURST`] keys up.
    ///
    /// # Safety
    /// As for `lines`; and the processor has the instructions of `W`.
    #[inline(always)]
    unsafe fn burst<'r, W: Way>(&'r self, keys: &[MappingKey], found: &mut [Option<&'r V>]) {
        // SAFETY: the caller's promise.
        let lines = unsafe { self.lines() };
        let mut homes = [0; BURST];
        for (key, home) in keys.iter().zip(&mut homes) {
            *home = lines.home(key.word());
            lines.prefetch(*home);
        }
        for ((key, home), found) in keys.iter().zip(homes).zip(found) {
            // SAFETY: the processor has the instructions. An index that is found was stored after its slot was
            // written, and the slot is not used again before the reader, which is borrowed for 'r, has quiesced.
            *found = unsafe {
                lines.find::<W>(home, key.word()).map(|(_, slot)| {
                    self.slots.prefetch(slot);
                    self.slots.get(slot)
                })
            };
        }
    }

    /// # Safety
    /// As for `burst`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx2")]
    unsafe fn burst_avx2<'r>(&'r self, keys: &[MappingKey], found: &mut [Option<&'r V>]) {
        // SAFETY: the caller's promise.
        unsafe { self.burst::<super::compare::Avx2>(keys, found) };
    }

    /// # Safety
    /// As for `burst`.
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    #[target_feature(enable = "avx512f")]
    unsafe fn burst_avx512<'r>(&'r self, keys: &[MappingKey], found: &mut [Option<&'r V>]) {
        // SAFETY: the caller's promise.
        unsafe { self.burst::<super::compare::Avx512>(keys, found) };
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
