//! Bytes handed between a worker and the control thread, in slots allocated once.
//!
//! A packet buffer belongs to workers: one that the control thread held on to, or freed, would cost all of them. So
//! what is punted is copied into a slot, and what is injected is copied out of one.

use crossbeam::queue::ArrayQueue;
use overlane_dataplane::id::PortId;

/// Bytes of a slot; no message that the engine answers is longer.
pub(super) const SLOT_BYTES: usize = 2048;

/// A bounded ring of slots, from any thread to any thread.
#[derive(Debug)]
pub(super) struct SlotRing {
    free: ArrayQueue<Box<Slot>>,
    full: ArrayQueue<Box<Slot>>,
}

#[derive(Debug)]
struct Slot {
    port: Option<PortId>,
    length: usize,
    bytes: [u8; SLOT_BYTES],
}

/// Why bytes were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Longer than a slot.
    TooLong,
    /// Every slot is in use.
    Full,
}

impl SlotRing {
    pub(super) fn new(slots: usize) -> Self {
        let free = ArrayQueue::new(slots);
        for _ in 0..slots {
            // There is room: as many are pushed as it holds.
            let _ = free.push(Box::new(Slot { port: None, length: 0, bytes: [0; SLOT_BYTES] }));
        }
        Self { free, full: ArrayQueue::new(slots) }
    }

    /// Copies the pieces into a slot, one behind the other.
    pub(super) fn put<'a>(
        &self,
        port: PortId,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Refused> {
        let mut slot = self.free.pop().ok_or(Refused::Full)?;
        let mut length = 0;
        let mut fits = true;
        for piece in pieces {
            match slot.bytes.get_mut(length..length + piece.len()) {
                Some(place) => place.copy_from_slice(piece),
                None => fits = false,
            }
            length += piece.len();
        }
        let to = if fits { &self.full } else { &self.free };
        (slot.port, slot.length) = (Some(port), length.min(SLOT_BYTES));
        // There is room: the ring was made for every slot there is.
        let _ = to.push(slot);
        if fits { Ok(()) } else { Err(Refused::TooLong) }
    }

    /// Hands the oldest bytes to `read`, and the slot back; `None` when there are none.
    pub(super) fn take<R>(&self, read: impl FnOnce(PortId, &[u8]) -> R) -> Option<R> {
        let slot = self.full.pop()?;
        let bytes = slot.bytes.get(..slot.length).unwrap_or(&[]);
        let result = slot.port.map(|port| read(port, bytes));
        let _ = self.free.push(slot);
        result
    }

    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_slots_are_used_again() {
        let ring = SlotRing::new(2);
        for round in 0..10u16 {
            let port = PortId::new(round).unwrap();
            ring.put(port, [&b"ab"[..], b"c"].into_iter()).unwrap();
            ring.put(port, [&b"d"[..]].into_iter()).unwrap();
            assert_eq!(ring.put(port, [&b"e"[..]].into_iter()), Err(Refused::Full));
            assert_eq!(ring.take(|from, bytes| (from, bytes.to_vec())), Some((port, b"abc".to_vec())));
            assert_eq!(ring.take(|_, bytes| bytes.to_vec()), Some(b"d".to_vec()));
            assert!(ring.is_empty());
        }
    }

    #[test]
    fn bytes_longer_than_a_slot_are_refused_and_the_slot_is_kept() {
        let ring = SlotRing::new(1);
        let port = PortId::new(0).unwrap();
        let long = [0; SLOT_BYTES];
        assert_eq!(ring.put(port, [&long[..], b"x"].into_iter()), Err(Refused::TooLong));
        assert!(ring.is_empty());
        assert_eq!(ring.put(port, [&long[..]].into_iter()), Ok(()));
    }
}
