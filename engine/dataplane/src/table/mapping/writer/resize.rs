//! Growing, shrinking and compacting, by building new lines beside the readers.

use super::Writer;
use crate::table::mapping::lines::{Lines, WAYS};
use crate::table::mapping::slots::{SLOTS, Slots};
use crate::table::mapping::table::OldLines;
use crate::table::mapping::values::Moves;
use crate::table::qsbr::Grace;
use crate::table::sync::AcqRel;
use core::hash::Hash;

/// Fewest home buckets of a table.
const LEAST_HOMES: u32 = if cfg!(loom) { 1 } else { 8 };
/// Most home buckets: what fits the slots at the load after growing.
const MOST_HOMES: u32 = SLOTS / WAYS as u32 * 2;
/// Loads of the lines, in percent: full enough to grow, what a resize leaves, sparse enough to shrink. At the last,
/// 32-byte values take 62 bytes each with everything around them.
const GROW: usize = 70;
const RESIZED: usize = 60;
const SHRINK: usize = 50;

/// What a resize left behind.
pub(super) struct Old {
    pub(super) lines: OldLines,
    bytes: usize,
    pub(super) grace: Grace,
    /// Whether values were moved out of slots from [`Writer::next`] on, so that their chunks can be freed.
    pub(super) compacted: bool,
}

/// Home buckets at which `keys` keys make the load that a resize leaves.
pub(super) fn homes_for(keys: usize) -> u32 {
    let homes = (keys * 100).div_ceil(RESIZED * WAYS);
    u32::try_from(homes).unwrap_or(MOST_HOMES).clamp(LEAST_HOMES, MOST_HOMES)
}

impl<V: Copy + Eq + Hash + Send + Sync + 'static> Writer<V> {
    pub(super) fn grow_if_crowded(&mut self) {
        if self.listed * 100 >= self.lines().homes() as usize * WAYS * GROW {
            // Failing, it goes on with the lines it has, as long as they have room near a key's home.
            self.grow(homes_for(self.listed + WAYS));
        }
    }

    /// Moves to more lines. Those held back by a reader never take more than the new ones: until it moves on, the
    /// table doubles.
    pub(super) fn grow(&mut self, homes: u32) -> bool {
        self.collect();
        let held = if self.old.is_empty() { 0 } else { self.old_bytes() + self.lines().bytes() };
        let doubled = u32::try_from(held.div_ceil(Lines::BUCKET_BYTES)).unwrap_or(MOST_HOMES);
        let homes = homes.max(doubled).min(MOST_HOMES);
        homes > self.lines().homes() && self.rebuild(homes, None)
    }

    pub(super) fn old_bytes(&self) -> usize {
        self.old.iter().map(|old| old.bytes).sum()
    }

    /// Shrinks lines and slots when too much of them is unused.
    pub(super) fn shrink_if_sparse(&mut self) {
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        if !self.old.is_empty() {
            return;
        }
        let homes = self.lines().homes();
        let target = homes_for(self.listed).max(self.least_homes);
        let lines = target < homes && self.listed * 100 < homes as usize * WAYS * SHRINK;
        let held = self.values.held();
        let cut = (held + held / 32) as u32 + 64;
        let slots = self.values.unused() > held / 10 && Slots::<V>::can_release(cut, self.values.next());
        if !lines && !slots {
            return;
        }
        self.rest = self.listed / 16;
        if slots && self.pending.is_empty() && self.drain() {
            self.rebuild(if lines { target } else { homes }, Some(cut));
        } else if lines {
            self.rebuild(target, None);
        }
    }

    /// Waits a little until nothing is in limbo.
    fn drain(&mut self) -> bool {
        self.collect();
        if let Some((grace, _)) = self.limbo.back() {
            self.wait(*grace);
        }
        self.limbo.is_empty()
    }

    /// Builds new lines beside the readers; with `cut`, also moves values into the slots below it. Then nothing may
    /// be in limbo, pending or held back. `false`, and nothing has changed, if a key has no room near its home.
    fn rebuild(&mut self, homes: u32, cut: Option<u32>) -> bool {
        let lines = Lines::new(homes, self.hasher);
        let mut overflowed = vec![0u8; lines.buckets()];
        let moves = match cut {
            Some(cut) => self.values.moves(&self.shared.slots, cut),
            None => Some(Moves::default()),
        };
        let Some(moves) = moves else { return false };
        for (word, row) in self.lines().entries() {
            let home = lines.home(word);
            let Some(place) = lines.vacancy(home) else { return false };
            lines.put(place, word, row.in_slot(moves.of(row.slot())));
            for passed in overflowed.get_mut(home as usize..place.bucket() as usize).unwrap_or_default() {
                *passed += 1;
            }
        }
        let bytes = self.lines().bytes();
        let old = self.shared.lines.swap(Box::into_raw(Box::new(lines)), AcqRel);
        self.overflowed = overflowed;
        self.generation = self.generation.wrapping_add(1);
        if let Some(cut) = cut {
            self.values.cut(&self.shared.slots, cut, &moves);
        }
        let grace = self.shared.domain.begin_grace();
        self.old.push_back(Old { lines: OldLines(old), bytes, grace, compacted: cut.is_some() });
        true
    }
}
