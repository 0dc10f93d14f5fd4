//! The bounded store of packets that wait for the first fragment of their datagram.

use super::queue::{Index, NONE};

/// Which packets of a store are one datagram's, in the order in which they came. Only the store that it was filled by
/// can empty it.
#[derive(Debug)]
pub(super) struct Held {
    head: Index,
    tail: Index,
    count: usize,
}

impl Held {
    pub(super) const NOTHING: Self = Self { head: NONE, tail: NONE, count: 0 };

    pub(super) const fn count(&self) -> usize {
        self.count
    }
}

struct Slot<P> {
    packet: Option<P>,
    /// The next one of the datagram, or the next free one.
    behind: Index,
}

/// Packets of all datagrams.
pub(super) struct Store<P> {
    slots: Box<[Slot<P>]>,
    free: Index,
    count: usize,
}

impl<P> Store<P> {
    /// A store for at most `limit` packets.
    pub(super) fn new(limit: usize) -> Self {
        let slot = |index: usize| Slot {
            packet: None,
            behind: if index + 1 < limit { index as Index + 1 } else { NONE },
        };
        Self { slots: (0..limit).map(slot).collect(), free: 0, count: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) const fn is_full(&self) -> bool {
        self.count == self.slots.len()
    }

    /// Keeps one more packet for the datagram that `held` is of.
    ///
    /// # Errors
    /// The packet, if the store is full.
    pub(super) fn push(&mut self, held: &mut Held, packet: P) -> Result<(), P> {
        let index = self.free;
        let Some(slot) = self.slots.get_mut(index as usize) else { return Err(packet) };
        self.free = slot.behind;
        *slot = Slot { packet: Some(packet), behind: NONE };
        match self.slots.get_mut(held.tail as usize) {
            Some(last) => last.behind = index,
            None => held.head = index,
        }
        held.tail = index;
        held.count += 1;
        self.count += 1;
        Ok(())
    }

    /// The packet of the datagram that came first, if there is one left.
    pub(super) fn pop(&mut self, held: &mut Held) -> Option<P> {
        let index = held.head;
        let slot = self.slots.get_mut(index as usize)?;
        let packet = slot.packet.take();
        held.head = core::mem::replace(&mut slot.behind, self.free);
        self.free = index;
        self.count -= 1;
        held.count -= 1;
        if held.count == 0 {
            *held = Held::NOTHING;
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn store_is_a_queue_for_each_datagram_within_one_bound(
            steps in prop::collection::vec((0usize..3, any::<bool>()), 0..200),
        ) {
            let mut store = Store::new(7);
            let mut held = [Held::NOTHING, Held::NOTHING, Held::NOTHING];
            let mut oracle: [VecDeque<usize>; 3] = Default::default();
            for (number, (which, push)) in steps.into_iter().enumerate() {
                let total: usize = oracle.iter().map(VecDeque::len).sum();
                prop_assert_eq!((store.is_empty(), store.is_full()), (total == 0, total == 7));
                if push {
                    let expected = if total == 7 { Err(number) } else { Ok(()) };
                    if total < 7 {
                        oracle[which].push_back(number);
                    }
                    prop_assert_eq!(store.push(&mut held[which], number), expected);
                } else {
                    prop_assert_eq!(store.pop(&mut held[which]), oracle[which].pop_front());
                }
                prop_assert_eq!(held[which].count(), oracle[which].len());
            }
        }
    }
}
