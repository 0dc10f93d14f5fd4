//! The stages: each runs over the whole burst before the next begins.
//!
//! A stage is a function from what is known of a packet to a bit more, or to a [`DropReason`]. It never counts and
//! never frees: [`Burst::each_found`] takes what a stage refuses out of the burst and counts it once, so a packet that
//! comes in is transmitted, punted, or counted under one reason.
//!
//! Stages that need nothing of other packets are functions of one packet, and run one after the other while it is at
//! hand: all up to the look-up as packets come in, all behind it when the burst's values are there. What most packets are
//! is decided by few comparisons in line; everything else branches off to functions of its own.

pub(crate) mod answer;
pub(crate) mod arp;
pub(crate) mod authorise;
pub(crate) mod classify_node;
pub(crate) mod classify_uplink;
pub(crate) mod deliver;
pub(crate) mod destination;
pub(crate) mod flow;
pub(crate) mod fragments;
pub(crate) mod next_hop;
pub(crate) mod quote;
pub(crate) mod router;
pub(crate) mod source_check;
pub(crate) mod verify_source;

use crate::address::HostPrefix;
use crate::counters::{Drops, Traffic};
use crate::drop::DropReason;
use crate::fragment;
use crate::header::NetworkHeader;
use crate::id::{PortId, VnetId};
use crate::packet::{Clock, Packet, Pool};
use crate::pipeline::{BURST, Outbox};
use crate::refusal::Refusal;
use crate::snapshot::{HostSnapshot, Interface, Uplink};
use crate::table::mapping::{Mapping, MappingTable, MappingView, Query};
use crate::table::qsbr::Reader;
use crate::translate::Crossing;
use arrayvec::ArrayVec;
use core::net::Ipv6Addr;

/// What the stages have found out about a packet from a node.
pub(crate) struct Outbound<'a> {
    pub(crate) header: NetworkHeader,
    /// The look-up of its destination.
    pub(crate) asked: Query,
    /// Whether the node sent it to its gateway.
    pub(crate) routed: bool,
    /// The destination's mapping.
    pub(crate) mapping: Option<&'a Mapping>,
}

/// What the stages have found out about a packet from the substrate.
pub(crate) struct Inbound<'a> {
    pub(crate) header: NetworkHeader,
    /// The look-up of its source; in layouts without slots first of its destination.
    pub(crate) asked: Query,
    pub(crate) source: Ipv6Addr,
    /// The vnet in the source address; the destination's until it is known.
    pub(crate) source_vnet: VnetId,
    pub(crate) substrate_destination: Ipv6Addr,
    /// The vnet in the destination; its virtual address is the header's.
    pub(crate) destination_vnet: VnetId,
    /// The interface that it is for.
    pub(crate) receiver: Option<&'a Interface>,
    /// The mapping that the running stage looks at: in layouts without slots first the destination's, then the
    /// source's.
    pub(crate) mapping: Option<&'a Mapping>,
    /// Why its source is no node's, if it is an ICMPv6 error, which a router of the substrate may send.
    pub(crate) not_a_node: Option<DropReason>,
}

/// What stays the same over a burst from a node.
pub(crate) struct FromNode<'a> {
    pub(crate) snapshot: &'a HostSnapshot,
    pub(crate) view: &'a MappingView<'a>,
    pub(crate) table: &'a MappingTable,
    pub(crate) reader: &'a Reader,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) interface: &'a Interface,
    pub(crate) worker: usize,
    pub(crate) traffic: &'a Traffic,
}

/// What stays the same over a burst from an uplink.
pub(crate) struct FromUplink<'a> {
    pub(crate) snapshot: &'a HostSnapshot,
    pub(crate) view: &'a MappingView<'a>,
    pub(crate) table: &'a MappingTable,
    pub(crate) reader: &'a Reader,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) uplink: &'a Uplink,
    pub(crate) prefix: Option<HostPrefix>,
    pub(crate) worker: usize,
    pub(crate) traffic: &'a Traffic,
}

/// Says where a packet that is dropped is counted.
pub(crate) trait Place<'a, I> {
    /// The counters of the packet's port or vnet.
    fn drops(&self, item: &I) -> &'a Drops;
}

impl<'a> Place<'a, Outbound<'_>> for FromNode<'a> {
    fn drops(&self, _: &Outbound<'_>) -> &'a Drops {
        &self.traffic.drops
    }
}

impl<'a> Place<'a, Inbound<'a>> for FromUplink<'a> {
    fn drops(&self, item: &Inbound<'a>) -> &'a Drops {
        let vnet = match item.receiver {
            Some(receiver) => Some(&receiver.vnet),
            None => self.snapshot.vnet(item.destination_vnet),
        };
        vnet.and_then(|vnet| vnet.uplink_drops.get(self.worker)).unwrap_or(&self.traffic.drops)
    }
}

/// What is known of a packet from either side.
pub(crate) trait Known {
    fn header(&self) -> &NetworkHeader;
    /// The look-up that was asked for it.
    fn asked(&self) -> Query;
}

impl Known for Outbound<'_> {
    #[inline(always)]
    fn header(&self) -> &NetworkHeader {
        &self.header
    }

    #[inline(always)]
    fn asked(&self) -> Query {
        self.asked
    }
}

impl Known for Inbound<'_> {
    #[inline(always)]
    fn header(&self) -> &NetworkHeader {
        &self.header
    }

    #[inline(always)]
    fn asked(&self) -> Query {
        self.asked
    }
}

/// The packets that are still under way, and what is known of each.
///
/// What is known lies apart from the packets: nothing large moves when a packet does.
pub(crate) struct Burst<P, I> {
    packets: ArrayVec<P, BURST>,
    items: ArrayVec<I, BURST>,
    /// Whether there may be a fragment among them.
    parts: bool,
}

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
        Self { packets: ArrayVec::new_const(), items: ArrayVec::new_const(), parts: false }
    }

    /// Takes one more packet in, a plain one; a burst that came in fits.
    #[inline(always)]
    pub(crate) fn push(&mut self, packet: P, item: I) {
        self.packets.push(packet);
        self.items.push(item);
    }

    /// Takes one more packet in, of any kind.
    pub(crate) fn push_any(&mut self, packet: P, item: I)
    where
        I: Known,
    {
        self.parts |= item.header().fragment.is_some();
        self.push(packet, item);
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

    /// Takes what was found for each packet, and runs a stage with it.
    #[inline(always)]
    pub(crate) fn each_found<'a, 'r>(
        &mut self,
        place: &impl Place<'a, I>,
        view: &MappingView<'r>,
        mut stage: impl FnMut(&mut P, &mut I, Option<&'r Mapping>) -> Result<(), DropReason>,
    ) where
        I: Known,
    {
        let mut found = [None; BURST];
        view.answer(&self.items, &mut found, Known::asked);
        let mut found = found.iter();
        self.each(place, |packet, item| stage(packet, item, found.next().copied().flatten()));
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
