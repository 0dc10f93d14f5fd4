//! The last stage: the packet becomes what it is to leave as, and leaves.

use super::{Burst, FromNode, FromUplink, Inbound, Outbound};
use crate::address::Locator;
use crate::drop::DropReason;
use crate::header::NetworkHeader;
use crate::id::{PortId, Slot};
use crate::mac::MacAddr;
use crate::offload;
use crate::packet::{Offload, Packet};
use crate::pipeline::Outbox;
use crate::snapshot::{Interface, PortRole, Subnet, Vnet};
use crate::translate::{Identifications, LastHop, WayOut, four_to_six, six_to_four};
use crate::wire::checksum::{Change, Sum};
use crate::wire::{ethernet, ipv4};
use core::net::Ipv4Addr;

/// From a node: to another node of this host as it is, or translated to the substrate.
#[inline]
pub(crate) fn outbound<P: Packet>(
    node: &FromNode<'_>,
    burst: &mut Burst<Outbound<'_, P>>,
    out: &mut impl Outbox<P>,
) {
    let layout = node.snapshot.layout;
    let source = own_locator(node);
    let uplink = node.snapshot.uplink().and_then(|uplink| {
        let way = WayOut { source: uplink.mac, next_hop: uplink.next_hop?, mtu: uplink.mtu };
        Some((uplink.port, way))
    });
    burst.send(node, out, |item| {
        let mapping = item.mapping.ok_or(DropReason::NoMapping)?;
        if let Some(port) = mapping.local {
            return locally(node, item, port);
        }
        let source = source.as_ref().ok_or(DropReason::PrefixUnknown)?;
        if mapping.locator.prefix(layout) == source.prefix(layout) {
            // On this host, yet attached to no port: the substrate would only bring the packet back.
            return Err(DropReason::DstNotLive);
        }
        let (port, way) = uplink.as_ref().ok_or(DropReason::UplinkUnresolved)?;
        four_to_six(&mut item.packet, &item.header, source, &mapping.locator, way)?;
        Ok(*port)
    });
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
) -> Result<PortId, DropReason> {
    let PortRole::Node(receiver) = node.snapshot.role(port) else { return Err(DropReason::PortGone) };
    let header = &item.header;
    if receiver.vnet.id != node.interface.vnet.id || !receiver.addresses.contains(&header.destination) {
        // The mapping is newer than the snapshot, or older.
        return Err(DropReason::PortGone);
    }
    if item.routed && header.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    let Offload { checksum, segmentation } = item.packet.offload();
    let segmentation = offload::fit(header, segmentation, header.transport - ethernet::LENGTH, receiver.mtu)?;
    item.packet.set_offload(Offload { checksum, segmentation });

    let (frame, packet) = item.packet.head_mut().split_first_chunk_mut().ok_or(DropReason::FrameTruncated)?;
    ethernet::emit(frame, receiver.mac, sender_mac(&receiver.vnet, header), ethernet::ethertype::IPV4);
    if item.routed {
        ipv4::decrement_ttl(packet.first_chunk_mut().ok_or(DropReason::FrameTruncated)?);
    }
    Ok(port)
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
pub(crate) fn inbound<P: Packet>(
    uplink: &FromUplink<'_>,
    burst: &mut Burst<Inbound<'_, P>>,
    identifications: &mut Identifications,
    out: &mut impl Outbox<P>,
) {
    burst.send(uplink, out, |item| {
        let receiver: &Interface = item.receiver.ok_or(DropReason::DstUnknownNode)?;
        let hop = LastHop {
            source: sender_mac(&receiver.vnet, &item.header),
            destination: receiver.mac,
            mtu: receiver.mtu,
        };
        let locators = locators(item);
        six_to_four(&mut item.packet, &item.header, locators, &hop, identifications)?;
        Ok(receiver.port)
    });
}

/// The sum of what is in front of the virtual addresses in both substrate addresses.
#[inline]
fn locators<P>(item: &Inbound<'_, P>) -> Change {
    Sum::ZERO.add_96(item.source.to_bits() >> 32).add_96(item.substrate_destination.to_bits() >> 32)
}
