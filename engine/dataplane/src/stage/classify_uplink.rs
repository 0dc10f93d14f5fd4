//! From an uplink: is it for the engine itself, for a node of this host, or for nobody here?

use super::{Burst, FromUplink, Inbound};
use crate::drop::DropReason;
use crate::extension;
use crate::header::{contiguous, read_ipv6};
use crate::packet::Packet;
use crate::pipeline::{BURST, Outbox};
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{icmp, protocol};
use arrayvec::ArrayVec;
use core::net::Ipv6Addr;

/// Neighbour discovery: router solicitation to redirect (RFC 4861, 4).
const NEIGHBOUR_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=137;

/// Empties `received` into `burst` and the way to the control thread.
#[inline]
pub(crate) fn run<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    received: &mut ArrayVec<P, BURST>,
    burst: &mut Burst<Inbound<'a, P>>,
    out: &mut impl Outbox<P>,
) {
    for packet in received.drain(..) {
        if let Err(reason) = classify(uplink, packet, burst, out) {
            uplink.traffic.drops.count(reason);
        }
    }
}

/// Puts the packet where it belongs; large values are made in their place, not returned.
#[inline]
fn classify<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    mut packet: P,
    burst: &mut Burst<Inbound<'a, P>>,
    out: &mut impl Outbox<P>,
) -> Result<(), DropReason> {
    contiguous(&mut packet, ethernet::LENGTH)?;
    let frame = ethernet::Header::new_checked(packet.head()).map_err(|_| DropReason::FrameTruncated)?;
    let mac = frame.destination();
    if mac != uplink.uplink.mac && !mac.is_group() {
        return Err(DropReason::NotOurMac);
    }
    if frame.ethertype() != ethertype::IPV6 {
        return Err(DropReason::EthertypeUnsupported);
    }
    let (header, source, destination) = read_ipv6(&mut packet)?;
    let own_prefix = uplink.prefix.is_some_and(|prefix| prefix.contains(destination));
    let Some(fields) = uplink.snapshot.layout.decode(destination).ok().filter(|_| own_prefix) else {
        // An engine may have an address in its own prefix, as long as it is none that a node can have.
        if is_for_all(destination) || uplink.uplink.addresses.contains(&destination) {
            out.punt(uplink.uplink.port, packet);
            return Ok(());
        }
        return Err(if own_prefix { DropReason::DstAddressInvalid } else { DropReason::NotOurPrefix });
    };
    if header.protocol == protocol::ICMPV6
        && is_neighbour_discovery(&mut packet, header.transport, header.ttl)
    {
        out.punt(uplink.uplink.port, packet);
        return Ok(());
    }
    if mac.is_group() {
        return Err(DropReason::NotOurMac);
    }
    let header = extension::read(&mut packet, header, (source, destination))?;
    burst.push(Inbound {
        packet,
        header,
        source,
        source_vnet: fields.vnet,
        substrate_destination: destination,
        slot: fields.slot,
        delivery: fields.delivery,
        destination_vnet: fields.vnet,
        vnet: None,
        receiver: None,
        mapping: None,
        not_a_node: None,
    });
    Ok(())
}

/// All nodes, or the group that solicitations for an address go to (RFC 4291, 2.7.1).
fn is_for_all(address: Ipv6Addr) -> bool {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const SOLICITED: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0);
    address == ALL_NODES || address.to_bits() >> 24 == SOLICITED.to_bits() >> 24
}

/// Neighbour discovery comes from the same link, with the full hop limit, or is none (RFC 4861, 7.1).
fn is_neighbour_discovery(packet: &mut impl Packet, transport: usize, hop_limit: u8) -> bool {
    if hop_limit != u8::MAX || contiguous(packet, transport + icmp::LENGTH).is_err() {
        return false;
    }
    let bytes = packet.head().get(transport..).unwrap_or(&[]);
    icmp::Header::new_checked(bytes).is_ok_and(|message| NEIGHBOUR_DISCOVERY.contains(&message.kind()))
}
