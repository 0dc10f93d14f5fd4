//! The last stage: the packet becomes what it is to leave as, and leaves.

use super::fragments::{self, Fragments};
use super::{Burst, FromNode, FromUplink, Inbound, Outbound, answer, quote};
use crate::address::{Layout, Locator};
use crate::drop::DropReason;
use crate::header::NetworkHeader;
use crate::id::{PortId, Slot};
use crate::mac::MacAddr;
use crate::offload;
use crate::packet::{Offload, Packet, Pool};
use crate::path_mtu::PathMtus;
use crate::pipeline::Outbox;
use crate::refusal::{Answer, Refusal};
use crate::snapshot::{Interface, PortRole, Vnet};
use crate::table::mapping::Mapping;
use crate::translate::icmp::Mtus;
use crate::translate::{
    Crossing, Ends, FormerEnds, Identifications, LastHop, WayOut, four_to_six, plain_four_to_six,
    plain_six_to_four, six_to_four,
};
use crate::wire::checksum::{self, Change};
use crate::wire::{ethernet, fragment, ipv4, ipv6};
use core::net::{Ipv4Addr, Ipv6Addr};

/// The way of a burst's packets from a node to the substrate: what is the same for all of them.
struct Departure<'a> {
    node: &'a FromNode<'a>,
    /// Where the sender itself lives.
    own: Option<Locator>,
    /// The uplink's port, and the way from there.
    uplink: Option<(PortId, WayOut)>,
    /// What the narrowest path carries: only a larger packet is worth a look at its own.
    narrowest: usize,
}

/// From a node: to another node of this host as it is, or translated to the substrate.
#[inline(always)]
pub(crate) fn outbound<P: Packet>(
    node: &FromNode<'_>,
    pool: &impl Pool<Packet = P>,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, Outbound<'_>>,
    out: &mut impl Outbox<P>,
) {
    let snapshot = node.snapshot;
    let (layout, settings) = (snapshot.layout, &snapshot.translate);
    let uplink = snapshot.uplink().and_then(|uplink| {
        let next_hop = uplink.next_hop?;
        let mtus = Mtus { four: node.interface.mtu, six: uplink.mtu };
        Some((uplink.port, WayOut::new(uplink.mac, next_hop, mtus, settings)))
    });
    let narrowest = usize::from(snapshot.path_mtus.smallest());
    let departure = Departure { node, own: own_locator(node), uplink, narrowest };
    let plain = |packet: &mut P, item: &mut Outbound<'_>| {
        let Departure { own: Some(own), uplink: Some((port, way)), narrowest, .. } = &departure else {
            return None;
        };
        let mapping = item.mapping?;
        let header = &item.header;
        (mapping.local.is_none()
            && !mapping.locator.shares_prefix(own, layout)
            && LONGEST_HEADERS + usize::from(header.payload) <= *narrowest
            && plain_four_to_six(packet, header, &ends(own, mapping, header), way, settings))
        .then_some(*port)
    };
    let any = |packet: &mut P, item: &mut Outbound<'_>| departure.any(packet, item);
    let expected = uplink.as_ref().map(|(port, _)| *port);
    burst.send((node, pool, out), expected, plain, any, |packet, item, refusal, out| {
        if item.header.fragment.is_some() {
            fragments::refused(node, fragments, item, refusal.reason);
        }
        if let Some(told) = refusal.answer {
            answer::to_node(node, packet, item, told, out);
        }
    });
}

impl Departure<'_> {
    /// Any packet's way.
    #[inline(never)]
    fn any<P: Packet>(&self, packet: &mut P, item: &mut Outbound<'_>) -> Result<(PortId, Crossing), Refusal> {
        let (node, snapshot) = (self.node, self.node.snapshot);
        let mapping = item.mapping.ok_or(DropReason::NoMapping)?;
        if let Some(port) = mapping.local {
            return locally(node, packet, item, port);
        }
        let own = self.own.as_ref().ok_or(DropReason::PrefixUnknown)?;
        if mapping.locator.shares_prefix(own, snapshot.layout) {
            // On this host, yet attached to no port: the substrate would only bring the packet back.
            return Err(DropReason::DstNotLive.into());
        }
        let (port, mut way) = self.uplink.ok_or(DropReason::UplinkUnresolved)?;
        // The MSS of a SYN is of packets that are still to come.
        let clamp = snapshot.translate.clamp_tcp_mss;
        if clamp || LONGEST_HEADERS + usize::from(item.header.payload) > self.narrowest {
            narrow(&mut way, &snapshot.path_mtus, snapshot.layout, &mapping.locator);
        }
        let ends = ends(own, mapping, &item.header);
        let quoted = quote::Outbound { node, header: item.header, own, ends: &ends };
        let crossing = four_to_six(packet, &item.header, &ends, &way, &snapshot.translate, &quoted)?;
        Ok((port, crossing))
    }
}

/// The addresses that a packet gets on the substrate.
#[inline(always)]
fn ends(own: &Locator, mapping: &Mapping, header: &NetworkHeader) -> Ends {
    Ends {
        source: own.address(header.source),
        destination: mapping.locator.address(header.destination),
        change: Change::ZERO.add(own.sum()).add(mapping.locator.sum()),
    }
}

/// What a packet has in front of its transport header at most when it leaves.
const LONGEST_HEADERS: usize = ipv6::LENGTH + fragment::LENGTH;

/// Lowers the way's MTU to that of the path to one host.
#[cold]
#[inline(never)]
fn narrow(way: &mut WayOut, paths: &PathMtus, layout: Layout, destination: &Locator) {
    if let Some(mtu) = paths.of(destination.prefix(layout)) {
        way.mtu = way.mtu.min(mtu);
        way.cut_mtu = way.cut_mtu.min(mtu);
    }
}

/// Where the sending interface itself lives: the same for each of its packets.
fn own_locator(node: &FromNode<'_>) -> Option<Locator> {
    let layout = node.snapshot.layout;
    let slot = if layout.has_slots() { node.interface.slot } else { Slot::ZERO };
    Locator::new(layout, node.snapshot.prefix?, slot, node.interface.vnet.id).ok()
}

/// Within the host no IPv6 is involved: on-link a packet keeps its TTL, the gateway lowers it.
fn locally(
    node: &FromNode<'_>,
    packet: &mut impl Packet,
    item: &Outbound<'_>,
    port: PortId,
) -> Result<(PortId, Crossing), Refusal> {
    let PortRole::Node(receiver) = node.snapshot.role(port) else { return Err(DropReason::PortGone.into()) };
    let header = &item.header;
    if receiver.vnet.id != node.interface.vnet.id || !receiver.owns(header.destination) {
        // The mapping is newer than the snapshot, or older.
        return Err(DropReason::PortGone.into());
    }
    if header.live_route != 0 {
        return Err(Refusal::told(DropReason::SourceRoute, Answer::SourceRouteFailed));
    }
    if item.routed && header.ttl <= 1 {
        return Err(Refusal::told(DropReason::TtlExceeded, Answer::TimeExceeded));
    }
    let Offload { checksum, segmentation } = packet.offload();
    let ip_header = header.transport - ethernet::LENGTH;
    let (crossing, fitting) = match offload::fit(header, segmentation, ip_header, receiver.mtu) {
        Ok(fitting) => (Crossing::Whole, fitting),
        Err(_) if header.dont_fragment || segmentation.is_some() => {
            let mtu = receiver.mtu;
            return Err(Refusal::told(DropReason::PacketTooBig, Answer::TooBig { mtu }));
        }
        Err(_) => (Crossing::Cut { mtu: receiver.mtu }, None),
    };
    packet.set_offload(Offload { checksum, segmentation: fitting });

    let (frame, packet) = packet.head_mut().split_first_chunk_mut().ok_or(DropReason::FrameTruncated)?;
    let source = MacAddr::dummy(receiver.vnet.id, last_hop(&receiver.vnet, header));
    ethernet::emit(frame, receiver.mac, source, ethernet::ethertype::IPV4);
    if item.routed {
        ipv4::decrement_ttl(packet.first_chunk_mut().ok_or(DropReason::FrameTruncated)?);
    }
    Ok((port, crossing))
}

/// Whose dummy MAC the receiver sees as Ethernet source: the sender's, or its gateway's when the sender is in another
/// subnet.
#[inline(always)]
fn last_hop(vnet: &Vnet, header: &NetworkHeader) -> Ipv4Addr {
    let subnet = vnet.subnet_of(header.destination).filter(|subnet| !subnet.contains(header.source));
    subnet.and_then(|subnet| subnet.gateway).unwrap_or(header.source)
}

/// From an uplink: translated to the node.
#[inline(always)]
pub(crate) fn inbound<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    pool: &impl Pool<Packet = P>,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, Inbound<'a>>,
    identifications: &Identifications,
    out: &mut impl Outbox<P>,
) {
    let settings = &uplink.snapshot.translate;
    let hop = |receiver: &Interface, header: &NetworkHeader| LastHop {
        frame: ethernet::Prepared::from_dummy(
            receiver.mac,
            receiver.vnet.id,
            last_hop(&receiver.vnet, header),
            ethernet::ethertype::IPV4,
        ),
        mtu: receiver.mtu,
        way_back: u16::MAX,
        uplink_mtu: uplink.uplink.mtu,
    };
    let plain = |packet: &mut P, item: &mut Inbound<'a>| {
        let receiver = item.receiver?;
        let (header, change) = (&item.header, locators(item));
        plain_six_to_four(packet, header, change, &hop(receiver, header), settings, identifications)
            .then_some(receiver.port)
    };
    let any = |packet: &mut P, item: &mut Inbound<'a>| {
        let receiver = item.receiver.ok_or(DropReason::DstUnknownNode)?;
        let hop = hop(receiver, &item.header);
        Ok((receiver.port, inbound_any(uplink, packet, item, hop, identifications)?))
    };
    let expected = burst.items().first().and_then(|item| Some(item.receiver?.port));
    burst.send((uplink, pool, out), expected, plain, any, |packet, item, refusal, out| {
        if item.header.fragment.is_some() {
            fragments::refused(uplink, fragments, item, refusal.reason);
        }
        if let Some(told) = refusal.answer {
            answer::to_substrate(uplink, packet, item, told, out);
        }
    });
}

/// Any packet, translated to the node.
#[inline(never)]
fn inbound_any(
    uplink: &FromUplink<'_>,
    packet: &mut impl Packet,
    item: &Inbound<'_>,
    mut hop: LastHop,
    identifications: &Identifications,
) -> Result<Crossing, Refusal> {
    let settings = &uplink.snapshot.translate;
    if settings.clamp_tcp_mss {
        hop.way_back = way_back(uplink, item.source);
    }
    let (source, destination) = (item.source, item.substrate_destination);
    let ends = FormerEnds { source, destination, change: locators(item) };
    six_to_four(packet, &item.header, &ends, &hop, settings, &quote::Inbound, identifications)
}

/// What the way back to a sender on the substrate carries, as far as it is known.
#[cold]
#[inline(never)]
fn way_back(uplink: &FromUplink<'_>, source: Ipv6Addr) -> u16 {
    let host = uplink.snapshot.layout.decode(source).map(|sender| sender.prefix);
    let path = host.ok().and_then(|host| uplink.snapshot.path_mtus.of(host));
    path.map_or(uplink.uplink.mtu, |path| path.min(uplink.uplink.mtu))
}

/// What a pseudo-header loses: what is in front of the virtual addresses in both substrate addresses.
#[inline(always)]
fn locators(item: &Inbound<'_>) -> Change {
    Change::ZERO.remove(checksum::sum_of_fronts([&item.source, &item.substrate_destination]))
}
