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
mod burst;
pub(crate) mod classify_node;
pub(crate) mod classify_uplink;
pub(crate) mod deliver;
pub(crate) mod destination;
pub(crate) mod dhcp;
pub(crate) mod external;
pub(crate) mod flow;
pub(crate) mod fragments;
pub(crate) mod group;
pub(crate) mod next_hop;
pub(crate) mod passage;
pub(crate) mod quote;
pub(crate) mod related;
pub(crate) mod resolution;
pub(crate) mod routed;
pub(crate) mod router;
pub(crate) mod source_check;
pub(crate) mod verify_source;

use crate::address::HostPrefix;
use crate::counters::{Drops, Traffic};
use crate::drop::DropReason;
use crate::failure::Failures;
use crate::header::NetworkHeader;
use crate::id::VnetId;
use crate::packet::{Clock, Packet};
use crate::pipeline::BURST;
use crate::plain::{Four, Plain, Six};
use crate::snapshot::{HostSnapshot, Interface, Uplink};
use crate::table::mapping::{FoundMapping, MappingTable, MappingView, Query};
use crate::table::qsbr::Reader;
use arrayvec::ArrayVec;
pub(crate) use burst::{Burst, Line};
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
    /// How it gets there.
    pub(crate) path: Path,
    /// Its flow's look-up, if that is under way.
    ticket: Option<Ticket>,
    /// Why it goes no further, if its sender is to be told; it is not plain any more.
    pub(crate) rejected: Option<DropReason>,
    /// The destination's mapping.
    pub(crate) mapping: Option<FoundMapping<'a>>,
}

/// How a node's packet gets to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Path {
    /// Whether the node sent it to its gateway.
    pub(crate) routed: bool,
    /// Whether the destination is in a network behind a router; then that is whose mapping is looked up.
    pub(crate) behind: bool,
    /// Whether the destination is an external; then its mapping says nothing.
    pub(crate) external: bool,
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
    /// Whether its source is in a network behind a router; then that is whose mapping is looked up.
    pub(crate) behind: bool,
    /// Whether its source is an external, and the header's what nodes know it by; then its mapping says nothing.
    pub(crate) external: bool,
}

impl<'a> Outbound<'a> {
    /// A plain packet, whose header nobody has asked for yet.
    #[inline(always)]
    pub(crate) const fn plain(plain: Plain, asked: Query, ticket: Option<Ticket>) -> Self {
        let path = Path { routed: false, behind: false, external: false };
        Self { plain: Some(plain), header: None, asked, path, ticket, rejected: None, mapping: None }
    }

    /// Any packet.
    pub(crate) const fn any(plain: Option<Plain>, header: NetworkHeader, asked: Query, path: Path) -> Self {
        Self { plain, header: Some(header), asked, path, ticket: None, rejected: None, mapping: None }
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
            behind: false,
            external: false,
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
