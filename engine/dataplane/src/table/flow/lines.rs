//! The buckets: eight words on a cache line, each of which is empty or leads to an entry.

use super::entry::Entry;
use super::key::FlowKey;
use crate::table::compare::{KeyLine, WAYS, Way};
use crate::table::mapping::Hasher;
use crate::table::region::{Region, prefetch};
use crate::table::sync::{AcqRel, Acquire, AtomicU64};

/// Words of a bucket that are used: all of them (two where every one is a state to explore).
const USED: usize = if cfg!(loom) { 2 } else { WAYS };

/// A bucket with more empty words than this is taken without a look at the other.
const PLENTY: usize = 2;

/// Bits of a word for an entry's number.
pub(super) const ENTRY_BITS: u32 = 28;
/// Set while it is not yet sure that no other word leads to an entry with the same key. Such a word is no look-up's.
const TENTATIVE: u64 = 1 << ENTRY_BITS;
/// Where the tag begins: as much of the hash as there is room for.
const TAG: u32 = ENTRY_BITS + 1;
/// Set in every word that is not empty.
const OCCUPIED: u64 = 1 << 63;

/// A word of a bucket: empty, or what a flow is found by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word(u64);

impl Word {
    /// Leads nowhere.
    pub(super) const EMPTY: Self = Self(0);

    pub(super) const fn entry(self) -> u32 {
        self.0 as u32 & ((1 << ENTRY_BITS) - 1)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn is_tentative(self) -> bool {
        self.0 & TENTATIVE != 0
    }

    /// The word that it becomes when no other has the same key.
    pub(super) const fn settled(self) -> Self {
        Self(self.0 & !TENTATIVE)
    }

    /// Whether both have the same tag, however settled.
    const fn is_akin(self, other: Self) -> bool {
        (self.0 ^ other.0) >> TAG == 0
    }
}

/// Where a key may lie, and what its words look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home {
    first: u32,
    second: u32,
    /// A settled word with the key's tag, without an entry.
    word: Word,
}

impl Home {
    /// The word of the key's entry while it is not settled.
    pub(super) const fn tentative(self, entry: u32) -> Word {
        Word(self.word.0 | TENTATIVE | entry as u64)
    }

    /// The bucket where the key is most often.
    #[cfg(test)]
    pub(super) const fn bucket(self) -> u32 {
        self.first
    }

    /// Whether a word may lead to the key.
    pub(super) const fn is_akin(self, word: Word) -> bool {
        self.word.is_akin(word)
    }

    /// Both buckets.
    pub(super) const fn buckets(self) -> [u32; 2] {
        [self.first, self.second]
    }

    /// Every place where the key may lie, always in the same order.
    pub(super) fn places(self) -> impl Iterator<Item = Place> {
        self.buckets().into_iter().flat_map(Place::of)
    }
}

/// A word's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    bucket: u32,
    way: u32,
}

impl Place {
    /// The places of a bucket.
    pub(super) fn of(bucket: u32) -> impl Iterator<Item = Self> {
        (0..USED as u32).map(move |way| Self { bucket, way })
    }
}

/// All buckets.
pub(super) struct Lines {
    lines: Region<KeyLine>,
    hasher: Hasher,
    /// What a place outside the table has; never asked for.
    nowhere: AtomicU64,
}

impl Lines {
    /// At least two, so that every key has two.
    pub(super) fn new(buckets: u32, hasher: Hasher) -> Self {
        Self {
            lines: Region::new(buckets.max(2) as usize, KeyLine::default),
            hasher,
            nowhere: AtomicU64::new(0),
        }
    }

    pub(super) fn buckets(&self) -> u32 {
        self.lines.len() as u32
    }

    pub(super) const fn bytes_of(buckets: usize) -> usize {
        buckets * size_of::<KeyLine>()
    }

    #[inline(always)]
    pub(super) const fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    pub(super) fn home(&self, key: FlowKey) -> Home {
        let hash = key.hash(&self.hasher);
        let buckets = self.lines.len() as u64;
        let bucket = |hash: u64| ((u128::from(hash) * u128::from(buckets)) >> 64) as u32;
        let (first, second) = (bucket(hash), bucket(hash.rotate_left(32)));
        let second = if second == first { (first + 1) % buckets as u32 } else { second };
        Home { first, second, word: Word(OCCUPIED | hash << TAG) }
    }

    #[inline(always)]
    fn line(&self, bucket: u32) -> Option<&KeyLine> {
        self.lines.get(bucket as usize)
    }

    fn word(&self, place: Place) -> &AtomicU64 {
        let line = self.line(place.bucket);
        line.and_then(|line| line.words.get(place.way as usize)).unwrap_or(&self.nowhere)
    }

    /// A key's buckets, the one to put it in first: where look-ups look first, as long as there is plenty of room. So
    /// one in twenty is in its second bucket when all entries are in use, and two that are both full are hardly ever met.
    pub(super) fn preferred(&self, home: Home) -> [u32; 2] {
        let room = |bucket| Place::of(bucket).filter(|place| self.load(*place).is_empty()).count();
        let plenty = room(home.first);
        if plenty > PLENTY || plenty >= room(home.second) {
            home.buckets()
        } else {
            [home.second, home.first]
        }
    }

    #[inline]
    pub(super) fn load(&self, place: Place) -> Word {
        Word(self.word(place).load(Acquire))
    }

    /// Puts `new` in the place of `old`.
    ///
    /// # Errors
    /// What is there, if it is not `old`.
    #[inline]
    pub(super) fn exchange(&self, place: Place, old: Word, new: Word) -> Result<(), Word> {
        // Releases what was written into the entry.
        let done = self.word(place).compare_exchange(old.0, new.0, AcqRel, Acquire);
        done.map(drop).map_err(Word)
    }

    /// Asks for the bucket where a key is most often.
    #[inline(always)]
    pub(super) fn prefetch_first(&self, home: Home) {
        self.prefetch(home.first);
    }

    /// Asks for the bucket where a key is else.
    #[inline(always)]
    pub(super) fn prefetch_second(&self, home: Home) {
        self.prefetch(home.second);
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, bucket: u32) {
        if let Some(line) = self.line(bucket) {
            prefetch(line);
        }
    }

    /// A settled word in the key's first bucket that leads to it, unless another key has the same tag.
    ///
    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn candidate<W: Way>(&self, home: Home) -> Option<Word> {
        let line = self.line(home.first)?;
        // SAFETY: the caller's promise.
        let hits = unsafe { W::equal_from::<ENTRY_BITS>(line, home.word.0) };
        let word = Word(line.words.get(hits.trailing_zeros() as usize)?.load(Acquire));
        home.is_akin(word).then_some(word)
    }

    /// The settled word that leads to an entry with the key.
    ///
    /// # Safety
    /// The processor has the instructions of `W`.
    #[inline(always)]
    pub(super) unsafe fn find<'e, W: Way>(
        &self,
        entries: &'e [Entry],
        home: Home,
        key: FlowKey,
    ) -> Option<(Place, Word, &'e Entry)> {
        for bucket in home.buckets() {
            let line = self.line(bucket)?;
            // SAFETY: the caller's promise.
            let mut hits = unsafe { W::equal_from::<ENTRY_BITS>(line, home.word.0) };
            while hits != 0 {
                let place = Place { bucket, way: hits.trailing_zeros() };
                // Again, and in order before the entry: whoever linked it had written it before.
                let word = self.load(place);
                if home.is_akin(word)
                    && !word.is_tentative()
                    && let Some(entry) = entries.get(word.entry() as usize)
                    && entry.key() == key
                {
                    return Some((place, word, entry));
                }
                hits &= hits - 1;
            }
        }
        None
    }
}
