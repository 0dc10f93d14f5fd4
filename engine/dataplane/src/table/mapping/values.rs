//! Which value lies in which slot: equal values share one, and it is free when nobody holds it any more.

use super::slots::{SLOTS, Slots};
use core::hash::{BuildHasher, Hash};
use hashbrown::HashTable;

#[cfg(not(loom))]
type HashState = hashbrown::DefaultHashBuilder;
/// loom runs a model again and again, and each time must come by the same atomics: also where hashes collide.
#[cfg(loom)]
type HashState = core::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// The writer's books of the value slots.
pub(super) struct Values {
    /// How many hold the value in each slot, of those below `next`.
    holders: Vec<u32>,
    /// The slots that are held, by the hash of their values.
    index: HashTable<u32>,
    hasher: HashState,
    /// Slots that can be written.
    free: Vec<u32>,
    /// Slots from here on were never used, or are being freed.
    next: u32,
}

impl Values {
    pub(super) fn new() -> Self {
        Self {
            holders: Vec::new(),
            index: HashTable::new(),
            hasher: HashState::default(),
            free: Vec::new(),
            next: 0,
        }
    }

    /// Slots from here on were never used, or are being freed.
    pub(super) const fn next(&self) -> u32 {
        self.next
    }

    /// Slots whose values are held.
    pub(super) fn held(&self) -> usize {
        self.index.len()
    }

    /// Slots below `next` whose values nobody holds.
    pub(super) const fn unused(&self) -> usize {
        self.free.len()
    }

    /// Bytes taken.
    pub(super) fn bytes(&self) -> usize {
        (self.holders.capacity() + self.free.capacity()) * size_of::<u32>() + self.index.allocation_size()
    }

    /// Gives back what is needed only now and then, but for room for `usual` slots.
    pub(super) fn shrink_to(&mut self, usual: usize) {
        self.free.shrink_to(usual + self.free.len());
    }

    /// Holds a value that lies in a slot already, and says in which.
    pub(super) fn hold_again<V: Copy + Eq + Hash>(&mut self, slots: &Slots<V>, value: &V) -> Option<u32> {
        let hash = self.hasher.hash_one(value);
        let slot = *self.index.find(hash, |slot| at(slots, *slot) == value)?;
        *self.holders.get_mut(slot as usize)? += 1;
        Some(slot)
    }

    /// Whether a slot can be had without a fresh one.
    pub(super) const fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// A fresh slot; `None` when there are no more.
    pub(super) fn freshen<V: Copy>(&mut self, slots: &Slots<V>) -> Option<()> {
        if self.next >= SLOTS {
            return None;
        }
        slots.ensure(self.next);
        self.free.push(self.next);
        self.holders.push(0);
        self.next += 1;
        Some(())
    }

    /// Puts a value that lies nowhere into a free slot, and holds it.
    pub(super) fn hold_new<V: Copy + Eq + Hash>(&mut self, slots: &Slots<V>, value: V) -> Option<u32> {
        let slot = self.free.pop()?;
        // SAFETY: its chunk was ensured when it was fresh; it is fresh, or nobody holds it any more, and who lets go waits
        // for the grace period; the writer alone has these books.
        unsafe { slots.write(slot, value) };
        if let Some(holders) = self.holders.get_mut(slot as usize) {
            *holders = 1;
        }
        let hasher = &self.hasher;
        self.index.insert_unique(hasher.hash_one(value), slot, |slot| hasher.hash_one(at(slots, *slot)));
        Some(slot)
    }

    /// Lets go of a slot that no reader can have from whoever held it.
    pub(super) fn release<V: Copy + Eq + Hash>(&mut self, slots: &Slots<V>, slot: u32) {
        let Some(holders) = self.holders.get_mut(slot as usize) else { return };
        *holders -= 1;
        if *holders == 0 {
            let hash = self.hasher.hash_one(at(slots, slot));
            if let Ok(entry) = self.index.find_entry(hash, |held| *held == slot) {
                entry.remove();
            }
            self.free.push(slot);
        }
    }

    /// Where values from slot `cut` on would go so that none is left there; `None` if there is no room below.
    pub(super) fn moves<V: Copy>(&self, slots: &Slots<V>, cut: u32) -> Option<Moves> {
        let mut low = self.free.iter().copied().filter(|slot| *slot < cut);
        let held = self.index.iter().copied().filter(|slot| *slot >= cut);
        let mut moves = hashbrown::HashMap::new();
        for from in held {
            let to = low.next()?;
            // SAFETY: `to` is free, and is not handed out meanwhile.
            unsafe { slots.write(to, *at(slots, from)) };
            moves.insert(from, to);
        }
        Some(Moves(moves))
    }

    /// The values lie where `moves` put them, and slots from `cut` on are being freed.
    pub(super) fn cut<V: Copy + Eq + Hash>(&mut self, slots: &Slots<V>, cut: u32, moves: &Moves) {
        for (from, to) in &moves.0 {
            let held = self.holders.get_mut(*from as usize).map(core::mem::take);
            if let (Some(held), Some(holders)) = (held, self.holders.get_mut(*to as usize)) {
                *holders = held;
            }
        }
        self.next = cut;
        self.holders.truncate(cut as usize);
        self.holders.shrink_to_fit();
        self.free.clear();
        self.index = HashTable::new();
        let hasher = &self.hasher;
        let hash = |slot: &u32| hasher.hash_one(at(slots, *slot));
        for (slot, holders) in (0..cut).zip(&self.holders) {
            if *holders == 0 {
                self.free.push(slot);
            } else {
                self.index.insert_unique(hash(&slot), slot, hash);
            }
        }
    }
}

/// Where values are moved to.
#[derive(Default)]
pub(super) struct Moves(hashbrown::HashMap<u32, u32>);

impl Moves {
    /// Where the value in a slot is afterwards.
    pub(super) fn of(&self, slot: u32) -> u32 {
        self.0.get(&slot).copied().unwrap_or(slot)
    }
}

/// The value in a slot that is held, or was a moment ago.
fn at<V: Copy>(slots: &Slots<V>, slot: u32) -> &V {
    // SAFETY: it was written before it was held, and only the writer, whose books these are, writes it again.
    unsafe { slots.get(slot) }
}
