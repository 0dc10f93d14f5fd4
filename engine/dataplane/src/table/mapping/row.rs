//! What a key leads to, in 32 bits: a value slot, which other keys may share, and six bits of the key's own.

use super::slots::SLOTS;

/// Bits of a slot's number.
const SLOT_BITS: u32 = 26;

const _: () = assert!(SLOTS as u64 <= 1 << SLOT_BITS);

/// Six bits that are a key's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u8);

impl Tag {
    pub(crate) const ZERO: Self = Self(0);
    /// The largest.
    #[cfg(test)]
    pub(super) const MAX: Self = Self(63);

    /// The six bits of a number, whose other bits do not count.
    #[inline(always)]
    pub(crate) const fn new(bits: u8) -> Self {
        Self(bits & 63)
    }

    /// 0 to 63.
    #[inline(always)]
    pub(crate) const fn get(self) -> u8 {
        self.0
    }
}

/// A value slot and a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row(u32);

impl Row {
    /// `slot` is below [`SLOTS`].
    pub(super) const fn new(slot: u32, tag: Tag) -> Self {
        debug_assert!(slot < SLOTS);
        Self(slot | (tag.0 as u32) << SLOT_BITS)
    }

    /// The row whose bits these are.
    #[inline(always)]
    pub(super) const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(super) const fn slot(self) -> u32 {
        self.0 & ((1 << SLOT_BITS) - 1)
    }

    #[inline(always)]
    pub(super) const fn tag(self) -> Tag {
        Tag((self.0 >> SLOT_BITS) as u8)
    }

    /// The same with its value in another slot.
    pub(super) const fn in_slot(self, slot: u32) -> Self {
        Self::new(slot, self.tag())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_and_tag_do_not_touch_each_other() {
        for (slot, tag) in [(0, Tag::ZERO), (SLOTS - 1, Tag::ZERO), (0, Tag::MAX), (SLOTS - 1, Tag::MAX)] {
            let row = Row::of_bits(Row::new(slot, tag).bits());
            assert_eq!((row.slot(), row.tag()), (slot, tag));
            assert_eq!((row.in_slot(1).slot(), row.in_slot(1).tag()), (1, tag));
        }
        assert_eq!(Tag::new(0xff), Tag::MAX);
    }
}
