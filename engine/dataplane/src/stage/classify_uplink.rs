//! From an uplink: is it for the engine itself, for a node of this host, or for nobody here?

use super::flow::{Ahead, Flows, Foresight, Nothing};
use super::{Arrival, Burst, FromUplink, Inbound, Line, Place, destination, group, verify_source};
use crate::address::{Layout, SubstrateAddress};
use crate::drop::DropReason;
use crate::extension;
use crate::header::{NetworkHeader, contiguous, read_ipv6, trim};
use crate::mac::MacAddr;
use crate::packet::Packet;
use crate::pipeline::{BURST, Outbox};
use crate::plain::{Six, TRANSPORT_6};
use crate::snapshot::{HostSnapshot, Interface};
use crate::table::mapping::{MappingKey, MappingView};
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{icmp, protocol};
use arrayvec::ArrayVec;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Neighbour discovery: router solicitation to redirect (RFC 4861, 4).
const NEIGHBOUR_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=137;

/// Empties `received` into `burst` and the way to the control thread. In layouts with slots what gets into `burst` has its
/// receiver, and its source was asked for; in others its destination was.
#[inline(always)]
pub(crate) fn run<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    flows: &mut Flows,
    received: &mut ArrayVec<P, BURST>,
    burst: &mut Burst<P, Inbound<'a>>,
    out: &mut impl Outbox<P>,
) {
    match flows.ahead(uplink.reader, uplink.snapshot.stateful) {
        None => admit(uplink, &mut Nothing, received, burst, out),
        Some(mut ahead) => admit_stateful(uplink, &mut ahead, received, burst, out),
    }
}

#[inline(always)]
fn admit<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    ahead: &mut impl Foresight,
    received: &mut ArrayVec<P, BURST>,
    burst: &mut Burst<P, Inbound<'a>>,
    out: &mut impl Outbox<P>,
) {
    let line = Straight::new(uplink, ahead);
    burst.admit(received, uplink.view, line, |packet, burst| admit_any(uplink, packet, burst, out));
}

#[inline(never)]
fn admit_stateful<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    ahead: &mut Ahead<'_>,
    received: &mut ArrayVec<P, BURST>,
    burst: &mut Burst<P, Inbound<'a>>,
    out: &mut impl Outbox<P>,
) {
    admit(uplink, ahead, received, burst, out);
}

/// What most packets are like: plain, to our own MAC and the owner of an address here, whose vnet their source is in too,
/// in a layout with slots.
struct Straight<'a, 'f, F> {
    ahead: &'f mut F,
    view: MappingView<'a>,
    snapshot: &'a HostSnapshot,
    mac: MacAddr,
    /// Our prefix as it lies in memory, if the layout has slots.
    prefix: Option<u64>,
}

impl<'a, 'f, F> Straight<'a, 'f, F> {
    #[inline(always)]
    fn new(uplink: &FromUplink<'a>, ahead: &'f mut F) -> Self {
        let prefix = uplink.prefix.filter(|_| uplink.snapshot.layout.has_slots());
        let prefix = prefix.map(|prefix| ((prefix.network().to_bits() >> 64) as u64).to_be());
        Self { ahead, view: *uplink.view, snapshot: uplink.snapshot, mac: uplink.uplink.mac, prefix }
    }
}

impl<'a, P: Packet, F: Foresight> Line<P, Inbound<'a>> for Straight<'a, '_, F> {
    /// What [`classify`] and the stages behind it find out about a packet that is like most, with the same checks in fewer
    /// steps.
    #[inline(always)]
    fn admit(&mut self, packet: &mut P) -> Option<Inbound<'a>> {
        let front = Six::of(packet)?;
        let frame = front.frame()?;
        let ([from, source], [to, destination]) = (front.source(), front.destination());
        // A source in our own prefix is none; that is the one thing which its mapping cannot tell.
        let prefixes = Some(to) == self.prefix && Some(from) != self.prefix;
        if !frame.is_for(self.mac) || frame.ethertype() != ethertype::IPV6 || !prefixes {
            return None;
        }
        let (source, destination) = (u64::from_be(source), u64::from_be(destination));
        let (slot, vnet) = Layout::owner_in_slot(destination)?;
        let receiver: &Interface = self.snapshot.interface(slot)?;
        let owns = receiver.vnet.id == vnet && receiver.owns(Ipv4Addr::from_bits(destination as u32));
        if !owns || Layout::vnet_and_flags(source) != vnet.get() {
            return None;
        }
        let (plain, length) = (front.plain(packet)?, front.length());
        let ends = (Ipv4Addr::from_bits(source as u32), Ipv4Addr::from_bits(destination as u32));
        let asked = self.view.ask(MappingKey::new(vnet, ends.0));
        let ticket = self.ahead.ask(packet, receiver, front.next_header(), TRANSPORT_6, ends);
        trim(packet, length);
        Some(Inbound::plain(plain, asked, receiver, ticket))
    }
}

/// Puts any packet where it belongs.
#[inline(never)]
fn admit_any<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    mut packet: P,
    burst: &mut Burst<P, Inbound<'a>>,
    out: &mut impl Outbox<P>,
) {
    let (mut item, fields) = match classify(uplink, &mut packet) {
        Ok(Kind::Ours(item, fields)) => (item, fields),
        Ok(Kind::Engines) => return out.punt(uplink.uplink.port, packet),
        Err(reason) => return uplink.traffic.drops.count(reason),
    };
    if uplink.snapshot.layout.has_slots()
        && let Err(reason) = destination::in_slot(uplink, &packet, &mut item, fields)
            .and_then(|()| verify_source::ask(uplink, &mut packet, &mut item))
    {
        return uplink.drops(&item).count(reason);
    }
    burst.push(packet, item);
}

/// In layouts without slots: finds the receivers by the mappings of the destinations, and then asks for the sources'.
#[inline(never)]
pub(crate) fn receivers_by_mapping<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    burst: &mut Burst<P, Inbound<'a>>,
) {
    burst.find(uplink.view);
    burst.each(uplink, |packet, item| {
        destination::by_mapping(uplink, packet, item, item.mapping)?;
        verify_source::ask(uplink, packet, item)
    });
}

/// What becomes of a frame.
enum Kind<'a> {
    /// It is for a node, or would be: what its destination says.
    Ours(Inbound<'a>, SubstrateAddress),
    /// It is for the engine itself.
    Engines,
}

fn classify<'a>(uplink: &FromUplink<'a>, packet: &mut impl Packet) -> Result<Kind<'a>, DropReason> {
    contiguous(packet, ethernet::LENGTH)?;
    let frame = ethernet::Header::new_checked(packet.head()).map_err(|_| DropReason::FrameTruncated)?;
    let mac = frame.destination();
    if mac != uplink.uplink.mac && !mac.is_group() {
        return Err(DropReason::NotOurMac);
    }
    if frame.ethertype() != ethertype::IPV6 {
        return Err(DropReason::EthertypeUnsupported);
    }
    let (header, source, destination) = read_ipv6(packet)?;
    let layout = uplink.snapshot.layout;
    let own = uplink.prefix.filter(|prefix| prefix.contains(destination));
    let Some(fields) = own.and_then(|prefix| layout.decode_behind(prefix, destination).ok()) else {
        // An engine may have an address in its own prefix, as long as it is none that a node can have.
        if is_for_all(destination) || uplink.uplink.addresses.contains(&destination) {
            // The control thread is spared what no neighbour has sent.
            return match discovery(packet, &header) {
                Some(Discovery::Routed) => Err(DropReason::NeighbourDiscoveryRouted),
                _ => Ok(Kind::Engines),
            };
        }
        return Err(if own.is_some() { DropReason::DstAddressInvalid } else { DropReason::NotOurPrefix });
    };
    if discovery(packet, &header) == Some(Discovery::OfLink) {
        return Ok(Kind::Engines);
    }
    if mac.is_group() {
        return Err(DropReason::NotOurMac);
    }
    let (header, plain) = extension::read(packet, header, (source, destination))?;
    let arrival = Arrival {
        header,
        source,
        source_vnet: fields.vnet,
        destination,
        destination_vnet: fields.vnet,
        not_a_node: None,
        group: group::is_from_substrate(uplink.snapshot, &fields),
        behind: false,
        external: false,
    };
    let asked = uplink.view.ask(MappingKey::new(fields.vnet, header.destination));
    Ok(Kind::Ours(Inbound::any(plain, arrival, asked), fields))
}

/// All nodes, or the group that solicitations for an address go to (RFC 4291, 2.7.1).
fn is_for_all(address: Ipv6Addr) -> bool {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const SOLICITED: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0);
    address == ALL_NODES || address.to_bits() >> 24 == SOLICITED.to_bits() >> 24
}

/// Where a message of neighbour discovery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Discovery {
    /// The same link: it has the full hop limit.
    OfLink,
    /// A router has forwarded it, so it is none (RFC 4861, 7.1).
    Routed,
}

/// Whether the packet is neighbour discovery, directly behind the fixed header.
#[inline]
fn discovery(packet: &mut impl Packet, header: &NetworkHeader) -> Option<Discovery> {
    if header.protocol == protocol::ICMPV6 { discovery_in(packet, header) } else { None }
}

#[cold]
#[inline(never)]
fn discovery_in(packet: &mut impl Packet, header: &NetworkHeader) -> Option<Discovery> {
    contiguous(packet, header.transport + icmp::LENGTH).ok()?;
    let bytes = packet.head().get(header.transport..)?;
    let kind = icmp::Header::new_checked(bytes).ok()?.kind();
    let of_link = if header.ttl == u8::MAX { Discovery::OfLink } else { Discovery::Routed };
    NEIGHBOUR_DISCOVERY.contains(&kind).then_some(of_link)
}
