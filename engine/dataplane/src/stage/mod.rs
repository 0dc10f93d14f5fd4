//! The stages: each runs over the whole burst before the next begins.
//!
//! A stage is a function from what is known of a packet to a bit more, or to a [`DropReason`]. It never counts and
//! never frees: [`Burst::each`] takes what a stage refuses out of the burst and counts it once, so a packet that
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
pub(crate) mod dhcp;
pub(crate) mod flow;
pub(crate) mod fragments;
pub(crate) mod group;
pub(crate) mod next_hop;
pub(crate) mod passage;
pub(crate) mod quote;
pub(crate) mod related;
pub(crate) mod resolution;
pub(crate) mod router;
pub(crate) mod source_check;
pub(crate) mod verify_source;

use crate::address::HostPrefix;
use crate::counters::{Drops, Traffic};
use crate::drop::DropReason;
use crate::failure::Failures;
use crate::fragment;
use crate::header::NetworkHeader;
use crate::id::{PortId, VnetId};
use crate::packet::{Clock, Packet, Pool};
use crate::pipeline::{BURST, Outbox};
use crate::plain::{Four, Plain, Six};
use crate::refusal::Refusal;
use crate::snapshot::{HostSnapshot, Interface, Uplink};
use crate::table::mapping::{FoundMapping, MappingTable, MappingView, Query, bits};
use crate::table::qsbr::Reader;
use crate::translate::Crossing;
use arrayvec::ArrayVec;
use core::net::Ipv6Addr;
use flow::Ticket;

/// What the stages have found out about a packet from a node.
pub(crate) struct Outbound<'a> {
    /// Whether it may be carried along the straight line.
    pub(crate) plain: Option<Plain>,
    /// What its header says; of a plain packet only if somebody has asked.
    header: Option<NetworkHeader>,
    /// The look-up of its destination.
    pub(crate) asked: Query,
    /// Whether the node sent it to its gateway.
    pub(crate) routed: bool,
    /// Its flow's look-up, if that is under way.
    ticket: Option<Ticket>,
    /// Why it goes no further, if its sender is to be told; it is not plain any more.
    pub(crate) rejected: Option<DropReason>,
    /// The destination's mapping.
    pub(crate) mapping: Option<FoundMapping<'a>>,
}

/// What the stages have found out about a packet from the substrate.
pub(crate) struct Inbound<'a> {
    /// Whether it may be carried along the straight line.
    pub(crate) plain: Option<Plain>,
    /// What its headers say; of a plain packet only if somebody has asked.
    arrival: Option<Arrival>,
    /// The look-up of its source; in layouts without slots first of its destination.
    pub(crate) asked: Query,
    /// The interface that it is for.
    pub(crate) receiver: Option<&'a Interface>,
    /// Its flow's look-up, if that is under way.
    ticket: Option<Ticket>,
    /// Why it goes no further, if its sender is to be told; it is not plain any more.
    pub(crate) rejected: Option<DropReason>,
    /// The mapping that the running stage looks at: in layouts without slots first the destination's, then the
    /// source's.
    pub(crate) mapping: Option<FoundMapping<'a>>,
}

/// What the headers of a packet from the substrate say.
pub(crate) struct Arrival {
    pub(crate) header: NetworkHeader,
    pub(crate) source: Ipv6Addr,
    /// The vnet in the source address; the destination's until it is known.
    pub(crate) source_vnet: VnetId,
    pub(crate) destination: Ipv6Addr,
    /// The vnet in the destination; its virtual address is the header's.
    pub(crate) destination_vnet: VnetId,
    /// Why its source is no node's, if it is an ICMPv6 error, which a router of the substrate may send.
    pub(crate) not_a_node: Option<DropReason>,
    /// Whether its destination is a group's: then its receiver is one of the members.
    pub(crate) group: bool,
}

impl<'a> Outbound<'a> {
    /// A plain packet, whose header nobody has asked for yet.
    #[inline(always)]
    pub(crate) const fn plain(plain: Plain, asked: Query, ticket: Option<Ticket>) -> Self {
        Self { plain: Some(plain), header: None, asked, routed: false, ticket, rejected: None, mapping: None }
    }

    /// Any packet.
    pub(crate) const fn any(plain: Option<Plain>, header: NetworkHeader, asked: Query, routed: bool) -> Self {
        Self { plain, header: Some(header), asked, routed, ticket: None, rejected: None, mapping: None }
    }
}

impl<'a> Inbound<'a> {
    /// A plain packet for `receiver`, from a source in its vnet, whose headers nobody has asked for yet.
    #[inline(always)]
    pub(crate) const fn plain(
        plain: Plain,
        asked: Query,
        receiver: &'a Interface,
        ticket: Option<Ticket>,
    ) -> Self {
        Self {
            plain: Some(plain),
            arrival: None,
            asked,
            receiver: Some(receiver),
            ticket,
            rejected: None,
            mapping: None,
        }
    }

    /// Any packet.
    pub(crate) const fn any(plain: Option<Plain>, arrival: Arrival, asked: Query) -> Self {
        Self {
            plain,
            arrival: Some(arrival),
            asked,
            receiver: None,
            ticket: None,
            rejected: None,
            mapping: None,
        }
    }

    /// The vnets of source and destination.
    #[inline(always)]
    pub(crate) fn vnets(&self) -> (VnetId, VnetId) {
        match (&self.arrival, self.receiver) {
            (Some(arrival), _) => (arrival.source_vnet, arrival.destination_vnet),
            // A packet whose headers nobody has asked for is in the vnet of its receiver.
            (None, Some(receiver)) => (receiver.vnet.id, receiver.vnet.id),
            // There is no such packet; it would pass nowhere.
            (None, None) => (VnetId::MIN, VnetId::MAX),
        }
    }

    /// What the headers say.
    pub(crate) fn arrival(&mut self, packet: &impl Packet) -> &mut Arrival {
        let receiver = self.receiver;
        self.arrival.get_or_insert_with(|| Arrival::of_plain(packet, receiver))
    }
}

impl Arrival {
    /// What the headers of a plain packet say, which is in the vnet of its receiver.
    fn of_plain(packet: &impl Packet, receiver: Option<&Interface>) -> Self {
        let (header, source, destination) = Six::of_plain(packet).header();
        let vnet = receiver.map_or(VnetId::MIN, |receiver| receiver.vnet.id);
        Self {
            header,
            source,
            source_vnet: vnet,
            destination,
            destination_vnet: vnet,
            not_a_node: None,
            group: false,
        }
    }
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
    pub(crate) failures: &'a Failures,
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
    pub(crate) failures: &'a Failures,
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
        let vnet = match (item.receiver, &item.arrival) {
            (Some(receiver), _) => Some(&receiver.vnet),
            (None, arrival) => {
                arrival.as_ref().and_then(|arrival| self.snapshot.vnet(arrival.destination_vnet))
            }
        };
        vnet.and_then(|vnet| vnet.uplink_drops.get(self.worker)).unwrap_or(&self.traffic.drops)
    }
}

/// What is known of a packet from either side.
pub(crate) trait Known<'a> {
    /// What its header says.
    fn header(&mut self, packet: &impl Packet) -> &NetworkHeader;
    /// Whether it is a fragment of a datagram, or says so. None is plain.
    fn is_fragment(&self) -> bool;
    /// Whether it is from the substrate and for a group. None is plain.
    fn is_for_group(&self) -> bool;
    /// The look-up that was asked for it, and where its answer belongs.
    fn lookup(&mut self) -> (Query, &mut Option<FoundMapping<'a>>);
    /// The look-up of its flow.
    fn ticket(&mut self) -> &mut Option<Ticket>;
    /// It goes no further, and its sender is to be told: the last stage does that.
    fn reject(&mut self, reason: DropReason);
}

impl<'a> Known<'a> for Outbound<'a> {
    fn header(&mut self, packet: &impl Packet) -> &NetworkHeader {
        self.header.get_or_insert_with(|| Four::of_plain(packet).header())
    }

    fn is_fragment(&self) -> bool {
        self.header.as_ref().is_some_and(|header| header.fragment.is_some())
    }

    fn is_for_group(&self) -> bool {
        false
    }

    #[inline(always)]
    fn lookup(&mut self) -> (Query, &mut Option<FoundMapping<'a>>) {
        (self.asked, &mut self.mapping)
    }

    #[inline(always)]
    fn ticket(&mut self) -> &mut Option<Ticket> {
        &mut self.ticket
    }

    fn reject(&mut self, reason: DropReason) {
        (self.plain, self.rejected) = (None, Some(reason));
    }
}

impl<'a> Known<'a> for Inbound<'a> {
    fn header(&mut self, packet: &impl Packet) -> &NetworkHeader {
        &self.arrival(packet).header
    }

    fn is_fragment(&self) -> bool {
        self.arrival.as_ref().is_some_and(|arrival| arrival.header.fragment.is_some())
    }

    fn is_for_group(&self) -> bool {
        self.arrival.as_ref().is_some_and(|arrival| arrival.group)
    }

    #[inline(always)]
    fn lookup(&mut self) -> (Query, &mut Option<FoundMapping<'a>>) {
        (self.asked, &mut self.mapping)
    }

    #[inline(always)]
    fn ticket(&mut self) -> &mut Option<Ticket> {
        &mut self.ticket
    }

    fn reject(&mut self, reason: DropReason) {
        (self.plain, self.rejected) = (None, Some(reason));
    }
}

/// What a node sends that does not go one way: it is for the engine itself, or for a group.
pub(crate) struct Aside<P> {
    pub(crate) arps: ArrayVec<P, BURST>,
    pub(crate) dhcps: ArrayVec<(P, NetworkHeader), BURST>,
    /// What it says of its groups, and what it sends to some.
    pub(crate) groups: ArrayVec<(P, NetworkHeader), BURST>,
}

impl<P> Aside<P> {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self { arps: ArrayVec::new_const(), dhcps: ArrayVec::new_const(), groups: ArrayVec::new_const() }
    }
}

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
