//! One generation of lines of keys and rows.

use super::compare::{KeyLine, Way};
use super::hash::Hasher;
use super::region::Region;
use super::row::Row;
use crate::table::sync::{Acquire, AtomicU64, Relaxed, Release};

pub(super) use super::region::prefetch;

/// Keys of a bucket. Its line has eight words: one for each key, and three for their rows, two in each.
pub(super) const WAYS: usize = 5;
/// The words that are keys, in a mask that has a bit for each word.
const KEYS: u32 = (1 << WAYS) - 1;

/// How many buckets from its home a key may lie, its home included.
pub(super) const PROBES: usize = if cfg!(loom) { 2 } else { 32 };

/// A word that was never used, or may be used as if so: a search ends at a bucket that has one.
pub(super) const EMPTY: u64 = 0;
/// A removed key's word, until its grace period is over.
pub(super) const REMOVED: u64 = 1;
/// A removed key's word that may be used again, in a bucket that others have overflowed from: no search ends here.
pub(super) const REUSABLE: u64 = 2;
/// The smallest word that is a key.
const FIRST_KEY: u64 = 1 << 32;

/// A key's place: bucket and position in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    bucket: u32,
    way: u32,
}

/// Lines of one size. The control thread writes, readers read; a resize makes another.
pub(super) struct Lines {
    lines: Region<KeyLine>,
    /// Buckets that are somebody's home; [`PROBES`] - 1 more follow, so that no search wraps around.
    homes: u32,
    hasher: Hasher,
}

impl Lines {
    /// Empty lines for `homes` home buckets.
    pub(super) fn new(homes: u32, hasher: Hasher) -> Self {
        let homes = homes.max(1);
        let buckets = homes as usize + PROBES - 1;
        Self { lines: Region::new(buckets, KeyLine::default), homes, hasher }
    }

    pub(super) const fn homes(&self) -> u32 {
        self.homes
    }

    /// Bytes of a bucket.
    pub(super) const BUCKET_BYTES: usize = size_of::<KeyLine>();

    pub(super) fn buckets(&self) -> usize {
        self.lines.len()
    }

    /// Bytes of all lines.
    pub(super) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// The bucket where the search for a key begins. Monotonic in the hash, so that a resize keeps the order.
    #[inline(always)]
    pub(super) const fn home(&self, key: u64) -> u32 {
        ((self.hasher.hash(key) as u128 * self.homes as u128) >> 64) as u32
    }

    /// The line of a bucket that `home` returned, or one of the [`PROBES`] - 1 after it.
    #[inline(always)]
    pub(super) fn line(&self, bucket: u32) -> &KeyLine {
        debug_assert!((bucket as usize) < self.lines.len());
        // SAFETY: a home is less than `homes`, and a search goes at most PROBES - 1 further: `new` made that many.
        unsafe { self.lines.get_unchecked(bucket as usize) }
    }

    #[inline(always)]
    fn key(&self, place: Place) -> &AtomicU64 {
        debug_assert!((place.way as usize) < WAYS);
        // SAFETY: a way is a bit's number in a mask of WAYS bits, and a line has more words.
        unsafe { self.line(place.bucket).words.get_unchecked(place.way as usize) }
    }

    /// The word that the row of a place lies in, and how far it is to be shifted for it.
    #[inline(always)]
    fn pair(&self, place: Place) -> (&AtomicU64, u32) {
        let word = WAYS + place.way as usize / 2;
        debug_assert!(word < self.line(place.bucket).words.len());
        // SAFETY: a way is below WAYS, which is 5; half of it, 5 further, is one of the line's eight words.
        (unsafe { self.line(place.bucket).words.get_unchecked(word) }, place.way % 2 * 32)
    }

    /// The row of a place; in order after whatever was read before with `Acquire`.
    #[inline(always)]
    fn row(&self, place: Place) -> Row {
        let (pair, shift) = self.pair(place);
        Row::of_bits((pair.load(Acquire) >> shift) as u32)
    }

    /// Asks for a bucket.
    #[inline(always)]
    pub(super) fn prefetch(&self, bucket: u32) {
        prefetch(self.line(bucket));
    }

    /// The place and row of a key, searching from its home.
    ///
    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn find<W: Way>(&self, home: u32, key: u64) -> Option<(Place, Row)> {
        for bucket in home..home + PROBES as u32 {
            // SAFETY: the caller's promise.
            let found = unsafe { self.find_in::<W>(bucket, key) };
            // SAFETY: the caller's promise.
            if found.is_some() || unsafe { W::equal(self.line(bucket), EMPTY) } & KEYS != 0 {
                return found;
            }
        }
        None
    }

    /// The row of a key that is in its home bucket, as most are; else the next bucket is asked for, where it may be.
    ///
    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn find_at_home<W: Way>(&self, home: u32, key: u64) -> Option<Row> {
        // SAFETY: the caller's promise.
        let found = unsafe { self.find_in::<W>(home, key) };
        if found.is_none() {
            self.prefetch(home + 1);
        }
        found.map(|(_, row)| row)
    }

    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    unsafe fn find_in<W: Way>(&self, bucket: u32, key: u64) -> Option<(Place, Row)> {
        // SAFETY: the caller's promise.
        let mut hits = unsafe { W::equal(self.line(bucket), key) } & KEYS;
        while hits != 0 {
            let place = Place { bucket, way: hits.trailing_zeros() };
            // Again, and in order before the row: whoever stored the key stored that before.
            if self.key(place).load(Acquire) == key {
                return Some((place, self.row(place)));
            }
            hits &= hits - 1;
        }
        None
    }

    // What follows is for the one writer.

    /// The first place where a key with this home can be put.
    pub(super) fn vacancy(&self, home: u32) -> Option<Place> {
        (home..home + PROBES as u32).find_map(|bucket| {
            let mut words = self.line(bucket).words.iter().take(WAYS);
            let way = words.position(|word| matches!(word.load(Relaxed), EMPTY | REUSABLE))?;
            Some(Place { bucket, way: way as u32 })
        })
    }

    /// Publishes a key at a vacant place.
    pub(super) fn put(&self, place: Place, key: u64, row: Row) {
        self.replace(place, row);
        self.key(place).store(key, Release);
    }

    /// Publishes another value for the key at a place.
    pub(super) fn replace(&self, place: Place, row: Row) {
        // The other half stays what it is: nobody else writes.
        let (pair, shift) = self.pair(place);
        let others = pair.load(Relaxed) & !(u64::from(u32::MAX) << shift);
        pair.store(others | u64::from(row.bits()) << shift, Release);
    }

    /// Marks a place; whoever searches from now on does not find its key.
    pub(super) fn mark(&self, place: Place, mark: u64) {
        self.key(place).store(mark, Release);
    }

    /// Turns reusable words of a bucket that nobody has overflowed from any more into empty ones.
    pub(super) fn clear_reusable(&self, bucket: u32) {
        for word in self.line(bucket).words.iter().take(WAYS) {
            if word.load(Relaxed) == REUSABLE {
                word.store(EMPTY, Release);
            }
        }
    }

    /// Every key with its row, in the order of buckets.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, Row)> {
        let places = (0..self.buckets() as u32)
            .flat_map(|bucket| (0..WAYS as u32).map(move |way| Place { bucket, way }));
        places.filter_map(|place| {
            let key = self.key(place).load(Relaxed);
            (key >= FIRST_KEY).then(|| (key, self.row(place)))
        })
    }
}

impl Place {
    pub(super) const fn bucket(self) -> u32 {
        self.bucket
    }
}
