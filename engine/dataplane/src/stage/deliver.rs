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
use crate::snapshot::{Interface, PortRole, Subnet, Vnet};
use crate::translate::icmp::Mtus;
use crate::translate::{
    Crossing, Ends, FormerEnds, Identifications, LastHop, WayOut, four_to_six, six_to_four,
};
use crate::wire::checksum::{Change, Sum};
use crate::wire::{ethernet, fragment, ipv4, ipv6};
use core::net::{Ipv4Addr, Ipv6Addr};

/// From a node: to another node of this host as it is, or translated to the substrate.
#[inline]
pub(crate) fn outbound<P: Packet>(
    node: &FromNode<'_>,
    pool: &impl Pool<Packet = P>,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<Outbound<'_, P>>,
    out: &mut impl Outbox<P>,
) {
    let snapshot = node.snapshot;
    let (layout, settings) = (snapshot.layout, &snapshot.translate);
    let source = own_locator(node);
    let uplink = snapshot.uplink().and_then(|uplink| {
        let next_hop = uplink.next_hop?;
        let mtus = Mtus { four: node.interface.mtu, six: uplink.mtu };
        Some((uplink.port, WayOut::new(uplink.mac, next_hop, mtus, settings)))
    });
    // Only a packet that does not fit the narrowest path is worth a look at its own.
    let narrowest = if settings.clamp_tcp_mss { 0 } else { usize::from(snapshot.path_mtus.smallest()) };
    let stage = |item: &mut Outbound<'_, P>| -> Result<(PortId, Crossing), Refusal> {
        let mapping = item.mapping.ok_or(DropReason::NoMapping)?;
        if let Some(port) = mapping.local {
            return locally(node, item, port);
        }
        let source = source.as_ref().ok_or(DropReason::PrefixUnknown)?;
        if mapping.locator.prefix(layout) == source.prefix(layout) {
            // On this host, yet attached to no port: the substrate would only bring the packet back.
            return Err(DropReason::DstNotLive.into());
        }
        let (port, way) = uplink.as_ref().ok_or(DropReason::UplinkUnresolved)?;
        let mut way = *way;
        if LONGEST_HEADERS + usize::from(item.header.payload) > narrowest {
            narrow(&mut way, &snapshot.path_mtus, layout, &mapping.locator);
        }
        let ends = Ends {
            source: source.address(item.header.source),
            destination: mapping.locator.address(item.header.destination),
            change: Change::ZERO.add(source.sum()).add(mapping.locator.sum()),
        };
        let quoted = quote::Outbound { node, header: item.header, own: source, ends: &ends };
        let crossing = four_to_six(&mut item.packet, &item.header, &ends, &way, settings, &quoted)?;
        Ok((*port, crossing))
    };
    burst.send(node, pool, out, stage, |item, refusal, out| {
        if item.header.fragment.is_some() {
            fragments::refused(node, fragments, &item, refusal.reason);
        }
        if let Some(told) = refusal.answer {
            answer::to_node(node, item, told, out);
        }
    });
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
fn locally<P: Packet>(
    node: &FromNode<'_>,
    item: &mut Outbound<'_, P>,
    port: PortId,
) -> Result<(PortId, Crossing), Refusal> {
    let PortRole::Node(receiver) = node.snapshot.role(port) else { return Err(DropReason::PortGone.into()) };
    let header = &item.header;
    if receiver.vnet.id != node.interface.vnet.id || !receiver.addresses.contains(&header.destination) {
        // The mapping is newer than the snapshot, or older.
        return Err(DropReason::PortGone.into());
    }
    if header.live_route != 0 {
        return Err(Refusal::told(DropReason::SourceRoute, Answer::SourceRouteFailed));
    }
    if item.routed && header.ttl <= 1 {
        return Err(Refusal::told(DropReason::TtlExceeded, Answer::TimeExceeded));
    }
    let Offload { checksum, segmentation } = item.packet.offload();
    let ip_header = header.transport - ethernet::LENGTH;
    let (crossing, fitting) = match offload::fit(header, segmentation, ip_header, receiver.mtu) {
        Ok(fitting) => (Crossing::Whole, fitting),
        Err(_) if header.dont_fragment || segmentation.is_some() => {
            let mtu = receiver.mtu;
            return Err(Refusal::told(DropReason::PacketTooBig, Answer::TooBig { mtu }));
        }
        Err(_) => (Crossing::Cut { mtu: receiver.mtu }, None),
    };
    item.packet.set_offload(Offload { checksum, segmentation: fitting });

    let (frame, packet) = item.packet.head_mut().split_first_chunk_mut().ok_or(DropReason::FrameTruncated)?;
    ethernet::emit(frame, receiver.mac, sender_mac(&receiver.vnet, header), ethernet::ethertype::IPV4);
    if item.routed {
        ipv4::decrement_ttl(packet.first_chunk_mut().ok_or(DropReason::FrameTruncated)?);
    }
    Ok((port, crossing))
}

/// The Ethernet source that the receiver sees: the sender's dummy MAC, or its gateway's when the sender is in another
/// subnet.
#[inline]
fn sender_mac(vnet: &Vnet, header: &NetworkHeader) -> MacAddr {
    let gateway = |subnet: &Subnet| {
        if subnet.net.contains(&header.source) { None } else { subnet.gateway }
    };
    let gateway: Option<Ipv4Addr> = vnet.subnet_of(header.destination).and_then(gateway);
    MacAddr::dummy(vnet.id, gateway.unwrap_or(header.source))
}

/// From an uplink: translated to the node.
#[inline]
pub(crate) fn inbound<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    pool: &impl Pool<Packet = P>,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<Inbound<'a, P>>,
    identifications: &mut Identifications,
    out: &mut impl Outbox<P>,
) {
    let settings = &uplink.snapshot.translate;
    let stage = |item: &mut Inbound<'a, P>| -> Result<(PortId, Crossing), Refusal> {
        let receiver: &Interface = item.receiver.ok_or(DropReason::DstUnknownNode)?;
        let hop = LastHop {
            source: sender_mac(&receiver.vnet, &item.header),
            destination: receiver.mac,
            mtu: receiver.mtu,
            way_back: if settings.clamp_tcp_mss { way_back(uplink, item.source) } else { u16::MAX },
            uplink_mtu: uplink.uplink.mtu,
        };
        let ends = FormerEnds {
            source: item.source,
            destination: item.substrate_destination,
            change: Change::ZERO.remove(locators(item).fold()),
        };
        let (packet, header) = (&mut item.packet, &item.header);
        let crossing = six_to_four(packet, header, &ends, &hop, settings, &quote::Inbound, identifications)?;
        Ok((receiver.port, crossing))
    };
    burst.send(uplink, pool, out, stage, |item, refusal, out| {
        if item.header.fragment.is_some() {
            fragments::refused(uplink, fragments, &item, refusal.reason);
        }
        if let Some(told) = refusal.answer {
            answer::to_substrate(uplink, item, told, out);
        }
    });
}

/// What the way back to a sender on the substrate carries, as far as it is known.
#[cold]
#[inline(never)]
fn way_back(uplink: &FromUplink<'_>, source: Ipv6Addr) -> u16 {
    let host = uplink.snapshot.layout.decode(source).map(|sender| sender.prefix);
    let path = host.ok().and_then(|host| uplink.snapshot.path_mtus.of(host));
    path.map_or(uplink.uplink.mtu, |path| path.min(uplink.uplink.mtu))
}

/// The sum of what is in front of the virtual addresses in both substrate addresses.
#[inline]
fn locators<P>(item: &Inbound<'_, P>) -> Change {
    Sum::ZERO.add_96(item.source.to_bits() >> 32).add_96(item.substrate_destination.to_bits() >> 32)
}
