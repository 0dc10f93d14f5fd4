//! The packets of a burst on their way through the stages.

use super::{Known, Place};
use crate::drop::DropReason;
use crate::fragment;
use crate::id::PortId;
use crate::packet::{Packet, Pool};
use crate::pipeline::{BURST, Outbox};
use crate::refusal::Refusal;
use crate::table::mapping::{MappingView, bits};
use crate::translate::Crossing;
use arrayvec::ArrayVec;

/// The straight line into a burst.
pub(crate) trait Line<P, I> {
    /// What is known of a packet that is on it; of any other nothing has changed.
    fn admit(&mut self, packet: &mut P) -> Option<I>;
}

/// The packets that are still under way, and what is known of each.
///
/// What is known lies apart from the packets: nothing large moves when a packet does.
pub(crate) struct Burst<P, I> {
    packets: ArrayVec<P, BURST>,
    items: ArrayVec<I, BURST>,
    /// How many of the first of them have their mapping, if there is one, and not only a look-up under way.
    answered: usize,
    /// Which of these have none yet: a bit for each.
    missing: u64,
    /// Whether there may be a fragment among them.
    parts: bool,
    /// Whether there may be something for a group among them.
    groups: bool,
}

/// How many packets are looked at before the look-ups of as many before them are answered: about as long as memory takes.
const STEP: usize = 16;

impl<P, I> IntoIterator for Burst<P, I> {
    type Item = (P, I);
    type IntoIter = core::iter::Zip<arrayvec::IntoIter<P, BURST>, arrayvec::IntoIter<I, BURST>>;

    fn into_iter(self) -> Self::IntoIter {
        self.packets.into_iter().zip(self.items)
    }
}

impl<P, I> Burst<P, I> {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            packets: ArrayVec::new_const(),
            items: ArrayVec::new_const(),
            answered: 0,
            missing: 0,
            parts: false,
            groups: false,
        }
    }

    /// Takes what was received: `line` is asked first, and says no to what `any` is to put somewhere, here or elsewhere.
    /// While all are on it, they stay where they are.
    ///
    /// Look-ups are answered some packets after they were asked for: then the first way from memory is over, and the
    /// second, to the mapping, has as long as it takes to look at the packets behind.
    #[inline(always)]
    pub(crate) fn admit<'a>(
        &mut self,
        received: &mut ArrayVec<P, BURST>,
        view: &MappingView<'a>,
        mut line: impl Line<P, I>,
        any: impl FnMut(P, &mut Self),
    ) where
        I: Known<'a>,
    {
        self.packets = core::mem::replace(received, ArrayVec::new_const());
        let Self { packets, items, answered, missing, .. } = self;
        for packet in packets.iter_mut() {
            let Some(item) = line.admit(packet) else { break };
            items.push(item);
            if items.len().is_multiple_of(STEP) {
                let due = items.len() - STEP;
                *missing |= answer(view, items.get_mut(*answered..due)) << *answered;
                *answered = due;
            }
        }
        if self.items.len() < self.packets.len() {
            self.admit_rest(line, any);
        }
    }

    #[inline(never)]
    fn admit_rest<'a>(&mut self, mut line: impl Line<P, I>, mut any: impl FnMut(P, &mut Self))
    where
        I: Known<'a>,
    {
        let rest: ArrayVec<P, BURST> = self.packets.drain(self.items.len()..).collect();
        for mut packet in rest {
            match line.admit(&mut packet) {
                Some(item) => self.push(packet, item),
                None => any(packet, self),
            }
        }
    }

    /// Takes one more packet in; a burst that came in fits.
    pub(crate) fn push<'a>(&mut self, packet: P, item: I)
    where
        I: Known<'a>,
    {
        self.parts |= item.is_fragment();
        self.groups |= item.is_for_group();
        self.packets.push(packet);
        self.items.push(item);
    }

    /// Whether there may be something for a group among them.
    #[inline(always)]
    pub(crate) const fn has_groups(&self) -> bool {
        self.groups
    }

    /// Whether there may be a fragment among them.
    #[inline(always)]
    pub(crate) const fn has_parts(&self) -> bool {
        self.parts
    }

    #[inline]
    pub(crate) fn items(&self) -> &[I] {
        &self.items
    }

    /// The first packet that is still under way, and what is known of it.
    pub(crate) fn first_mut(&mut self) -> Option<(&mut P, &mut I)> {
        self.packets.first_mut().zip(self.items.first_mut())
    }

    /// Runs a stage: what it refuses is counted and leaves the burst.
    #[inline(always)]
    pub(crate) fn each<'a>(
        &mut self,
        place: &impl Place<'a, I>,
        mut stage: impl FnMut(&mut P, &mut I) -> Result<(), DropReason>,
    ) {
        let mut refused = Refused(0);
        for (index, (packet, item)) in self.packets.iter_mut().zip(&mut self.items).enumerate() {
            if let Err(reason) = stage(packet, item) {
                place.drops(item).count(reason);
                refused.add(index);
            }
        }
        if refused.any() {
            self.remove(refused);
        }
    }

    /// Answers all look-ups.
    #[inline(always)]
    pub(crate) fn find<'a>(&mut self, view: &MappingView<'a>)
    where
        I: Known<'a>,
    {
        // Of a full burst that is answered already nothing is left, and there is no 65th bit.
        let late = answer(view, self.items.get_mut(self.answered..));
        let missing = self.missing | late.checked_shl(self.answered as u32).unwrap_or(0);
        for index in bits(missing) {
            if let Some(item) = self.items.get_mut(index) {
                let (query, found) = item.lookup();
                *found = view.answer_rest(query);
            }
        }
        (self.answered, self.missing) = (0, 0);
    }

    /// Takes packets out; the others keep their order.
    #[cold]
    #[inline(never)]
    fn remove(&mut self, refused: Refused) {
        let mut kept = 0;
        for index in 0..self.packets.len() {
            if !refused.has(index) {
                self.packets.swap(kept, index);
                self.items.swap(kept, index);
                kept += 1;
            }
        }
        self.packets.truncate(kept);
        self.items.truncate(kept);
    }

    /// Runs the last stage, which makes each packet what it is to leave as, and says by which port.
    ///
    /// `plain` is asked first, and says no to what is for `any`. What `any` refuses `refused` gets, after it has been
    /// counted. Most often all packets leave by `expected`: then they leave as they are, together.
    #[inline(always)]
    pub(crate) fn send<'a, K, O>(
        &mut self,
        (place, pool, out): (&impl Place<'a, I>, &K, &mut O),
        expected: Option<PortId>,
        mut plain: impl FnMut(&mut P, &mut I) -> Option<PortId>,
        any: impl FnMut(&mut P, &mut I) -> Result<(PortId, Crossing), Refusal>,
        refused: impl FnMut(P, &mut I, Refusal, &mut O),
    ) where
        K: Pool<Packet = P>,
        O: Outbox<P>,
        P: Packet,
    {
        let (mut ports, mut others) = ([None; BURST], 0);
        for ((packet, item), port) in self.packets.iter_mut().zip(&mut self.items).zip(&mut ports) {
            *port = plain(packet, item);
            others += usize::from(*port != expected);
        }
        match expected {
            Some(port) if others == 0 => {
                out.transmit_burst(port, &mut self.packets);
                self.packets.clear();
            }
            _ => self.send_each((place, pool, out), &ports, any, refused),
        }
        self.items.clear();
    }

    /// Sends packets which do not all leave by one port: those that `ports` says, the others as `any` says.
    #[inline(never)]
    fn send_each<'a, K, O>(
        &mut self,
        (place, pool, out): (&impl Place<'a, I>, &K, &mut O),
        ports: &[Option<PortId>; BURST],
        mut any: impl FnMut(&mut P, &mut I) -> Result<(PortId, Crossing), Refusal>,
        mut refused: impl FnMut(P, &mut I, Refusal, &mut O),
    ) where
        K: Pool<Packet = P>,
        O: Outbox<P>,
        P: Packet,
    {
        let mut run = Run { port: None, packets: ArrayVec::new_const() };
        for ((mut packet, item), port) in self.packets.drain(..).zip(&mut self.items).zip(ports) {
            let crossing = match port {
                Some(port) => Ok((*port, Crossing::Whole)),
                None => any(&mut packet, item),
            };
            match crossing {
                Ok((port, Crossing::Whole)) => run.push(port, packet, out),
                Ok((port, Crossing::Cut { mtu })) => {
                    run.leave(out);
                    let cut = fragment::cut(pool, packet, mtu, |part| out.transmit(port, part));
                    if let Err(reason) = cut {
                        place.drops(item).count(reason);
                    }
                }
                Err(refusal) => {
                    run.leave(out);
                    place.drops(item).count(refusal.reason);
                    refused(packet, item, refusal, out);
                }
            }
        }
        run.leave(out);
    }
}

/// Answers look-ups that were asked for, and says which of them are not answered yet.
#[inline(always)]
fn answer<'a, I: Known<'a>>(view: &MappingView<'a>, items: Option<&mut [I]>) -> u64 {
    view.answer(items.unwrap_or_default().iter_mut().map(Known::lookup))
}

/// Which packets of a burst are refused: a bit for each.
struct Refused(u64);

const _: () = assert!(BURST <= u64::BITS as usize);

impl Refused {
    #[inline(always)]
    const fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    #[inline(always)]
    const fn any(&self) -> bool {
        self.0 != 0
    }

    const fn has(&self, index: usize) -> bool {
        self.0 >> index & 1 != 0
    }
}

/// Packets that are to leave by the same port.
struct Run<P> {
    port: Option<PortId>,
    packets: ArrayVec<P, BURST>,
}

impl<P> Run<P> {
    #[inline(always)]
    fn push(&mut self, port: PortId, packet: P, out: &mut impl Outbox<P>) {
        if self.port != Some(port) {
            self.leave(out);
            self.port = Some(port);
        }
        self.packets.push(packet);
    }

    #[inline]
    fn leave(&mut self, out: &mut impl Outbox<P>) {
        if let Some(port) = self.port
            && !self.packets.is_empty()
        {
            out.transmit_burst(port, &mut self.packets);
            self.packets.clear();
        }
    }
}
