//! One generation of key lines and index lines.

use super::compare::{KeyLine, Way};
use super::hash::Hasher;
use super::region::Region;
use crate::table::sync::{Acquire, AtomicU64, Relaxed, Release};
use core::sync::atomic::AtomicU32;

pub(super) use super::compare::WAYS;
pub(super) use super::region::prefetch;

/// How many buckets from its home a key may lie, its home included.
pub(super) const PROBES: usize = if cfg!(loom) { 2 } else { 16 };

/// A word that was never used, or may be used as if so: a search ends at a bucket that has one.
pub(super) const EMPTY: u64 = 0;
/// A removed key's word, until its grace period is over.
pub(super) const REMOVED: u64 = 1;
/// A removed key's word that may be used again, in a bucket that others have overflowed from: no search ends here.
pub(super) const REUSABLE: u64 = 2;
/// The smallest word that is a key.
const FIRST_KEY: u64 = 1 << 32;

/// The value slots of eight keys, on half a cache line.
#[repr(align(32))]
#[derive(Default)]
struct IndexLine {
    slots: [AtomicU32; WAYS],
}

/// A word's place: bucket and position in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    bucket: u32,
    way: u32,
}

/// Lines of one size. The control thread writes, readers read; a resize makes another.
pub(super) struct Lines {
    keys: Region<KeyLine>,
    indices: Region<IndexLine>,
    /// Buckets that are somebody's home; [`PROBES`] - 1 more follow, so that no search wraps around.
    homes: u32,
    hasher: Hasher,
}

impl Lines {
    /// Empty lines for `homes` home buckets.
    pub(super) fn new(homes: u32, hasher: Hasher) -> Self {
        let homes = homes.max(1);
        let buckets = homes as usize + PROBES - 1;
        Self {
            keys: Region::new(buckets, KeyLine::default),
            indices: Region::new(buckets, IndexLine::default),
            homes,
            hasher,
        }
    }

    pub(super) const fn homes(&self) -> u32 {
        self.homes
    }

    /// Bytes of a bucket.
    pub(super) const BUCKET_BYTES: usize = size_of::<KeyLine>() + size_of::<IndexLine>();

    pub(super) fn buckets(&self) -> usize {
        self.keys.len()
    }

    /// Bytes of all lines.
    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes() + self.indices.bytes()
    }

    /// The bucket where the search for a key begins. Monotonic in the hash, so that a resize keeps the order.
    #[inline(always)]
    pub(super) const fn home(&self, key: u64) -> u32 {
        ((self.hasher.hash(key) as u128 * self.homes as u128) >> 64) as u32
    }

    /// The key line of a bucket that `home` returned, or one of the [`PROBES`] - 1 after it.
    #[inline(always)]
    pub(super) fn line(&self, bucket: u32) -> &KeyLine {
        debug_assert!((bucket as usize) < self.keys.len());
        // SAFETY: a home is less than `homes`, and a search goes at most PROBES - 1 further: `new` made that many.
        unsafe { self.keys.get_unchecked(bucket as usize) }
    }

    #[inline(always)]
    fn index(&self, place: Place) -> &AtomicU32 {
        debug_assert!((place.bucket as usize) < self.indices.len() && (place.way as usize) < WAYS);
        // SAFETY: the bucket as in `line`; there are as many index lines as key lines, and a way is a bit's number
        // in a mask of WAYS bits.
        unsafe { self.indices.get_unchecked(place.bucket as usize).slots.get_unchecked(place.way as usize) }
    }

    #[inline(always)]
    fn word(&self, place: Place) -> &AtomicU64 {
        debug_assert!((place.way as usize) < WAYS);
        // SAFETY: a way is a bit's number in a mask of WAYS bits.
        unsafe { self.line(place.bucket).words.get_unchecked(place.way as usize) }
    }

    /// Asks for both lines of a bucket.
    #[inline(always)]
    pub(super) fn prefetch(&self, bucket: u32) {
        prefetch(self.line(bucket));
        prefetch(self.index(Place { bucket, way: 0 }));
    }

    /// The place and value slot of a key, searching from its home.
    ///
    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn find<W: Way>(&self, home: u32, key: u64) -> Option<(Place, u32)> {
        for bucket in home..home + PROBES as u32 {
            let line = self.line(bucket);
            // SAFETY: the caller's promise.
            let mut hits = unsafe { W::equal(line, key) };
            while hits != 0 {
                let place = Place { bucket, way: hits.trailing_zeros() };
                // Again, and in order before the index: whoever stored the key stored its index before.
                if self.word(place).load(Acquire) == key {
                    return Some((place, self.index(place).load(Acquire)));
                }
                hits &= hits - 1;
            }
            // SAFETY: the caller's promise.
            if unsafe { W::equal(line, EMPTY) } != 0 {
                return None;
            }
        }
        None
    }

    // What follows is for the one writer.

    /// The first place where a key with this home can be put.
    pub(super) fn vacancy(&self, home: u32) -> Option<Place> {
        (home..home + PROBES as u32).find_map(|bucket| {
            let mut words = self.line(bucket).words.iter();
            let way = words.position(|word| matches!(word.load(Relaxed), EMPTY | REUSABLE))?;
            Some(Place { bucket, way: way as u32 })
        })
    }

    /// Publishes a key at a vacant place.
    pub(super) fn put(&self, place: Place, key: u64, slot: u32) {
        self.index(place).store(slot, Release);
        self.word(place).store(key, Release);
    }

    /// Publishes another value for the key at a place.
    pub(super) fn replace(&self, place: Place, slot: u32) {
        self.index(place).store(slot, Release);
    }

    /// Marks a place; whoever searches from now on does not find its key.
    pub(super) fn mark(&self, place: Place, mark: u64) {
        self.word(place).store(mark, Release);
    }

    /// Turns reusable words of a bucket that nobody has overflowed from any more into empty ones.
    pub(super) fn clear_reusable(&self, bucket: u32) {
        for word in &self.line(bucket).words {
            if word.load(Relaxed) == REUSABLE {
                word.store(EMPTY, Release);
            }
        }
    }

    /// Every key with its value slot, in the order of buckets.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u32)> {
        self.keys.iter().zip(self.indices.iter()).flat_map(|(keys, indices)| {
            let entries = keys.words.iter().zip(&indices.slots);
            entries.filter_map(|(key, slot)| {
                let key = key.load(Relaxed);
                (key >= FIRST_KEY).then(|| (key, slot.load(Relaxed)))
            })
        })
    }
}

impl Place {
    pub(super) const fn bucket(self) -> u32 {
        self.bucket
    }
}
