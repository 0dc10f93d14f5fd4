//! The one writer of the table.

mod resize;

use self::resize::{Old, homes_for};
use super::MappingKey;
use super::compare::Scalar;
use super::hash::Hasher;
use super::lines::{EMPTY, Lines, Place, REMOVED, REUSABLE};
use super::row::{Row, Tag};
use super::slots::Slots;
use super::table::{Shared, Table};
use super::values::Values;
use crate::table::qsbr::{Domain, Grace};
use crate::table::sync::{AtomicPtr, Mutex, lock};
use core::fmt;
use core::hash::Hash;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How many retired slots gather before the readers' words are looked at.
const BATCH: usize = 32;
/// How long a change waits for readers when it cannot do without; a reader's turn takes microseconds.
const PATIENCE: Duration = Duration::from_millis(20);

/// A key cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableFull {
    /// A reader has held so much back that there is no room; try again when it has moved on.
    #[error("the mapping table is behind: a reader holds retired values back")]
    Behind,
    /// The table has reached its largest size.
    #[error("the mapping table holds as many mappings as it can")]
    Capacity,
}

/// Bytes that a table takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Lines of keys and value slots.
    pub lines: usize,
    /// Value slots.
    pub values: usize,
    /// What the writer keeps for itself.
    pub writer: usize,
    /// Lines of before the last resize, until no reader can see them.
    pub resize: usize,
}

impl Memory {
    /// All of it.
    #[must_use]
    pub const fn total(self) -> usize {
        self.lines + self.values + self.writer + self.resize
    }
}

/// A hold of a value slot that is unlinked, and the word that led to it if its key was removed.
#[derive(Clone, Copy)]
struct Retired {
    slot: u32,
    /// The generation of lines that the place is in.
    place: Option<(u32, Place)>,
}

/// What is to become of a key when limbo has room again; only the newest wish counts.
struct Pending<V> {
    /// Its place, if it was removed meanwhile.
    retired: Option<Retired>,
    /// Whether readers find the key, with an older value.
    listed: bool,
    /// Its newest value, unless it is to stay removed.
    value: Option<(V, Tag)>,
}

/// A table, for its one writer. Changes are seen by every look-up that begins after they return.
///
/// A reader that stops keeps removed and replaced values from being freed. When limbo is at its bound for that,
/// removals still take effect at once and new keys are still added while there is room; replacements, and removed keys
/// that come back, wait (only the newest for each key), and [`Writer::is_behind`] says so.
pub struct Writer<V: Copy + Eq + Hash + Send + Sync + 'static> {
    shared: Arc<Shared<V>>,
    hasher: Hasher,
    /// Home buckets that the table never shrinks below.
    least_homes: u32,
    /// Keys in the lines.
    listed: usize,
    /// Pending keys that are not in the lines, and shall be.
    unlisted: usize,
    /// Pending keys whose removed word and value wait for limbo to have room.
    withheld: usize,
    generation: u32,
    /// For each bucket, how many keys have gone past it for want of room; at most 31 buckets of 5.
    overflowed: Vec<u8>,
    values: Values,
    limbo: VecDeque<(Grace, Retired)>,
    pending: HashMap<u64, Pending<V>>,
    /// The keys of `pending`, oldest first.
    queue: VecDeque<u64>,
    /// Oldest first. More than one only while a reader stands still and the table grows all the same.
    old: VecDeque<Old>,
    /// The newest grace period that was over when waiting for the next was in vain.
    in_vain: Option<Grace>,
    /// Removals until the next attempt to shrink.
    rest: usize,
}

impl<V: Copy + Eq + Hash + Send + Sync + 'static> Writer<V> {
    pub(in crate::table) fn new(domain: &Arc<Domain>, expected: usize, seed: [u64; 2]) -> (Self, Table<V>) {
        let hasher = Hasher::new(seed);
        let lines = Lines::new(homes_for(expected), hasher);
        let (homes, buckets) = (lines.homes(), lines.buckets());
        let shared = Arc::new(Shared {
            domain: Arc::clone(domain),
            lines: AtomicPtr::new(Box::into_raw(Box::new(lines))),
            slots: Slots::new(),
            orphans: Mutex::new(Vec::new()),
        });
        let table = Table::new(Arc::clone(&shared));
        let writer = Self {
            shared,
            hasher,
            least_homes: homes,
            listed: 0,
            unlisted: 0,
            withheld: 0,
            generation: 0,
            overflowed: vec![0; buckets],
            values: Values::new(),
            limbo: VecDeque::new(),
            pending: HashMap::new(),
            queue: VecDeque::new(),
            old: VecDeque::new(),
            in_vain: None,
            rest: 0,
        };
        (writer, table)
    }

    /// The domain that its readers must be registered with.
    #[must_use]
    pub fn domain(&self) -> &Arc<Domain> {
        &self.shared.domain
    }

    /// How often the lines were rebuilt: grown, shrunk or compacted.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Another handle for readers.
    #[must_use]
    pub fn table(&self) -> Table<V> {
        Table::new(Arc::clone(&self.shared))
    }

    /// Adds a key or replaces its value; returns the value that it had.
    ///
    /// # Errors
    /// [`TableFull`], and nothing has changed. Never for a key that has a value.
    pub fn insert(&mut self, key: MappingKey, value: V) -> Result<Option<V>, TableFull> {
        Ok(self.insert_tagged(key, (value, Tag::ZERO))?.map(|(value, _)| value))
    }

    /// [`Self::insert`] of a value with what is the key's own.
    ///
    /// # Errors
    /// As there.
    pub(super) fn insert_tagged(
        &mut self,
        key: MappingKey,
        value: (V, Tag),
    ) -> Result<Option<(V, Tag)>, TableFull> {
        self.catch_up();
        let word = key.word();
        if let Some(pending) = self.pending.get_mut(&word) {
            let had = pending.value.replace(value);
            if had.is_none() {
                self.unlisted += 1;
            }
            return Ok(had);
        }
        let Some((place, row)) = self.find(word) else {
            if self.withheld >= self.shared.domain.limbo_limit() {
                // Else adding and removing ever new keys would grow without bound while a reader stands still.
                return Err(TableFull::Behind);
            }
            self.add(word, value)?;
            return Ok(None);
        };
        let had = self.value(row);
        if self.limbo_has_room() && self.replace(place, row, value).is_ok() {
            return Ok(Some(had));
        }
        self.postpone(word, Pending { retired: None, listed: true, value: Some(value) });
        Ok(Some(had))
    }

    /// Removes a key; returns the value that it had. No look-up that begins afterwards finds it.
    pub fn remove(&mut self, key: MappingKey) -> Option<V> {
        self.remove_tagged(key).map(|(value, _)| value)
    }

    /// [`Self::remove`], with what was the key's own.
    pub(super) fn remove_tagged(&mut self, key: MappingKey) -> Option<(V, Tag)> {
        self.catch_up();
        let word = key.word();
        if let Some(pending) = self.pending.get_mut(&word) {
            let had = pending.value.take();
            if pending.listed {
                pending.listed = false;
                let retired = self.unlist(word).map(|(retired, _)| retired);
                self.withheld += 1;
                if let Some(pending) = self.pending.get_mut(&word) {
                    pending.retired = retired;
                }
            } else if had.is_some() {
                self.unlisted -= 1;
            }
            return had;
        }
        let (retired, had) = self.unlist(word)?;
        if self.limbo_has_room() {
            self.retire(retired);
        } else {
            self.withheld += 1;
            self.postpone(word, Pending { retired: Some(retired), listed: false, value: None });
        }
        self.shrink_if_sparse();
        Some(had)
    }

    /// The value that a key has, or will have when the table is no longer behind.
    #[must_use]
    pub fn get(&self, key: MappingKey) -> Option<V> {
        self.get_tagged(key).map(|(value, _)| value)
    }

    /// [`Self::get`], with what is the key's own.
    pub(super) fn get_tagged(&self, key: MappingKey) -> Option<(V, Tag)> {
        if let Some(pending) = self.pending.get(&key.word()) {
            return pending.value;
        }
        self.find(key.word()).map(|(_, row)| self.value(row))
    }

    /// How many keys there are, counting those that wait to be added again.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.listed + self.unlisted
    }

    /// Whether there is no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether changes wait, or the next one would, for a reader that holds limbo full.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.pending.is_empty() || !self.limbo_has_room()
    }

    /// How many keys wait for limbo to have room.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many unlinked values a reader may still see; never more than [`Domain::limbo_limit`].
    #[must_use]
    pub fn in_limbo(&self) -> usize {
        self.limbo.len()
    }

    /// How many different values there are, with those that a reader may still see.
    #[cfg(all(test, not(loom)))]
    pub(super) fn values_held(&self) -> usize {
        self.values.held()
    }

    /// Bytes taken. Outside a resize at most 64 for each key if two share a value, once there are more than was expected and than
    /// fill a few chunks.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            lines: self.lines().bytes(),
            values: self.shared.slots.bytes(),
            writer: self.overflowed.capacity()
                + self.values.bytes()
                + self.limbo.capacity() * size_of::<(Grace, Retired)>()
                + self.pending.capacity() * size_of::<(u64, Pending<V>)>()
                + self.queue.capacity() * size_of::<u64>(),
            resize: self.old_bytes(),
        }
    }

    /// Frees what can be freed and applies what waits. Every change begins with it; call it now and then when there
    /// are none.
    pub fn maintain(&mut self) {
        self.collect();
        self.catch_up();
        self.rest = 0;
        self.shrink_if_sparse();
        // What a crowd of waiting changes took is given back.
        let usual = self.shared.domain.limbo_limit();
        self.pending.shrink_to(usual);
        self.queue.shrink_to(usual);
        self.values.shrink_to(usual);
    }

    pub(super) fn lines(&self) -> &Lines {
        // SAFETY: this is the writer: only its own `&mut` methods swap lines out.
        unsafe { self.shared.lines() }
    }

    fn find(&self, word: u64) -> Option<(Place, Row)> {
        let lines = self.lines();
        // SAFETY: `Scalar` needs no special instructions.
        unsafe { lines.find::<Scalar>(lines.home(word), word) }
    }

    /// The value that a row of the lines leads to.
    fn value(&self, row: Row) -> (V, Tag) {
        // SAFETY: it was written before it was linked, and only `&mut` methods of this writer reuse slots.
        (unsafe { *self.shared.slots.get(row.slot()) }, row.tag())
    }

    fn limbo_has_room(&self) -> bool {
        self.limbo.len() < self.shared.domain.limbo_limit()
    }

    fn postpone(&mut self, word: u64, pending: Pending<V>) {
        self.pending.insert(word, pending);
        self.queue.push_back(word);
    }

    /// Adds a key that is not in the lines.
    fn add(&mut self, word: u64, value: (V, Tag)) -> Result<(), TableFull> {
        self.grow_if_crowded();
        let row = self.hold(value)?;
        let mut place = self.vacancy(word);
        if place.is_none() && self.grow(self.lines().homes().saturating_mul(5) / 4 + 1) {
            place = self.vacancy(word);
        }
        let Some((home, place)) = place else {
            self.values.release(&self.shared.slots, row.slot());
            return Err(TableFull::Capacity);
        };
        self.lines().put(place, word, row);
        for passed in self.passed(home, place) {
            *passed += 1;
        }
        self.listed += 1;
        Ok(())
    }

    fn vacancy(&self, word: u64) -> Option<(u32, Place)> {
        let lines = self.lines();
        let home = lines.home(word);
        lines.vacancy(home).map(|place| (home, place))
    }

    /// The overflow counts of the buckets from a key's home to before its place.
    fn passed(&mut self, home: u32, place: Place) -> impl Iterator<Item = &mut u8> {
        let range = home as usize..place.bucket() as usize;
        self.overflowed.get_mut(range).unwrap_or_default().iter_mut()
    }

    fn replace(&mut self, place: Place, row: Row, value: (V, Tag)) -> Result<(), TableFull> {
        let new = self.hold(value)?;
        self.lines().replace(place, new);
        self.retire(Retired { slot: row.slot(), place: None });
        Ok(())
    }

    /// Takes a key out of the lines.
    fn unlist(&mut self, word: u64) -> Option<(Retired, (V, Tag))> {
        let (place, row) = self.find(word)?;
        let had = self.value(row);
        self.lines().mark(place, REMOVED);
        let home = self.lines().home(word);
        for passed in self.passed(home, place) {
            *passed -= 1;
        }
        for bucket in home..place.bucket() {
            // Searches may end here again when nobody else has gone past.
            if self.overflowed.get(bucket as usize) == Some(&0) {
                self.lines().clear_reusable(bucket);
            }
        }
        self.listed -= 1;
        Some((Retired { slot: row.slot(), place: Some((self.generation, place)) }, had))
    }

    fn retire(&mut self, retired: Retired) {
        self.limbo.push_back((self.shared.domain.begin_grace(), retired));
    }

    /// Holds a value: where it lies already, or in a slot that no reader can see.
    fn hold(&mut self, (value, tag): (V, Tag)) -> Result<Row, TableFull> {
        if let Some(slot) = self.values.hold_again(&self.shared.slots, &value) {
            return Ok(Row::new(slot, tag));
        }
        if !self.values.has_free() {
            self.collect();
        }
        if !self.values.has_free() {
            self.fresh_slot()?;
        }
        let slot = self.values.hold_new(&self.shared.slots, value).ok_or(TableFull::Capacity)?;
        Ok(Row::new(slot, tag))
    }

    fn fresh_slot(&mut self) -> Result<(), TableFull> {
        if let Some(grace) = self.old.iter().find(|old| old.compacted).map(|old| old.grace)
            && !self.wait(grace)
        {
            // Slots from `next` on were emptied, but a reader may still look at them.
            return Err(TableFull::Behind);
        }
        self.values.freshen(&self.shared.slots).ok_or(TableFull::Capacity)
    }

    /// Makes free what no reader can see any more.
    fn collect(&mut self) {
        if self.limbo.is_empty() && self.old.is_empty() {
            return;
        }
        let oldest = self.shared.domain.oldest();
        while let Some((_, retired)) = self.limbo.pop_front_if(|(grace, _)| *grace <= oldest) {
            self.values.release(&self.shared.slots, retired.slot);
            if let Some((generation, place)) = retired.place
                && generation == self.generation
            {
                let overflowed = self.overflowed.get(place.bucket() as usize) != Some(&0);
                self.lines().mark(place, if overflowed { REUSABLE } else { EMPTY });
            }
        }
        while let Some(old) = self.old.pop_front_if(|old| old.grace <= oldest) {
            if old.compacted {
                // SAFETY: values were moved out of these slots before the grace period began, and none of them was
                // handed out since: `fresh_slot` waits for this.
                unsafe { self.shared.slots.release(self.values.next()) };
            }
            drop(old.lines);
        }
    }

    /// Applies what waits, as far as limbo has room.
    fn catch_up(&mut self) {
        if self.limbo.len() >= BATCH.min(self.shared.domain.limbo_limit()) {
            self.collect();
        }
        while self.limbo_has_room() {
            let Some(word) = self.queue.pop_front() else { return };
            let Some(mut pending) = self.pending.remove(&word) else { continue };
            if let Some(retired) = pending.retired.take() {
                self.withheld -= 1;
                self.retire(retired);
            }
            let Some(value) = pending.value else { continue };
            let done = match self.find(word) {
                Some((place, row)) => self.replace(place, row, value),
                None => self.add(word, value).inspect(|()| self.unlisted -= 1),
            };
            if done.is_err() {
                return self.postpone(word, pending);
            }
        }
    }

    /// Waits a little for a grace period, once for each time that readers stand still.
    fn wait(&mut self, grace: Grace) -> bool {
        let domain = &self.shared.domain;
        if self.in_vain != Some(domain.oldest()) {
            self.in_vain = domain.wait(grace, PATIENCE).is_err().then(|| domain.oldest());
        }
        let over = domain.is_over(grace);
        self.collect();
        over
    }
}

impl<V: Copy + Eq + Hash + Send + Sync + 'static> Drop for Writer<V> {
    fn drop(&mut self) {
        // Readers may go on: what they may still see stays until the table is gone.
        lock(&self.shared.orphans).extend(self.old.drain(..).map(|old| old.lines));
    }
}

impl<V: Copy + Eq + Hash + Send + Sync + 'static> fmt::Debug for Writer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("len", &self.len())
            .field("in_limbo", &self.limbo.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}
