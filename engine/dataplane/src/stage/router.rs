//! From an uplink: ICMPv6 errors, the one thing that may come from an address which is no node's.
//!
//! A router of the substrate has no virtual address and gets one (RFC 6791). It is believed only about a packet that the
//! receiver can have sent, only so often, and of a path's MTU only that it is smaller.

use super::{Arrival, FromUplink, quote};
use crate::drop::DropReason;
use crate::header::{NetworkHeader, contiguous};
use crate::packet::Packet;
use crate::pipeline::Outbox;
use crate::snapshot::Interface;
use crate::translate::Settings;
use crate::wire::{icmp, protocol};

/// Whether the packet is an ICMPv6 error, in one piece.
#[inline]
pub(crate) fn is_error(packet: &mut impl Packet, arrival: &Arrival) -> bool {
    arrival.header.protocol == protocol::ICMPV6 && has_error(packet, &arrival.header)
}

#[cold]
fn has_error(packet: &mut impl Packet, header: &NetworkHeader) -> bool {
    let start = header.transport;
    header.part().is_none()
        && usize::from(header.payload) >= icmp::LENGTH
        && contiguous(packet, start + icmp::LENGTH).is_ok()
        && packet.head().get(start).is_some_and(|kind| icmp::v6::is_error(*kind))
}

/// Lets an error through whose quoted packet is in order; one of a router gets its virtual source.
#[cold]
#[inline(never)]
pub(crate) fn accept<P: Packet>(
    uplink: &FromUplink<'_>,
    packet: &mut P,
    arrival: &mut Arrival,
    receiver: &Interface,
    out: &mut impl Outbox<P>,
) -> Result<(), DropReason> {
    let from_router = arrival.not_a_node.is_some();
    let limit = uplink.uplink.icmp_limit.get(uplink.worker);
    // A trace is no worker and has no limit.
    if from_router && limit.is_some_and(|limit| !limit.take(uplink.clock.now())) {
        return Err(DropReason::IcmpRateLimited);
    }
    let quoted = quote::check(uplink, packet, arrival)?;
    if !from_router {
        return Ok(());
    }
    if let Some(host) = quoted.host
        && let Some(mtu) = told_mtu(packet, &arrival.header)
    {
        out.path_mtu(host, mtu);
    }
    let subnet = receiver.vnet.subnet_of(receiver.by_way_of(arrival.header.destination));
    let gateway = subnet.and_then(|subnet| subnet.gateway);
    let address = uplink.snapshot.translate.router_source.address(arrival.source, gateway);
    // Without a gateway the error seems to come from where the packet was going, as errors of its host do.
    arrival.header.source = address.unwrap_or(quoted.destination);
    arrival.source_vnet = arrival.destination_vnet;
    Ok(())
}

/// The MTU in a Packet Too Big, whatever its code (RFC 4443, 3.2), never below what every link carries.
fn told_mtu(packet: &impl Packet, header: &NetworkHeader) -> Option<u16> {
    let message = packet.head().get(header.transport..)?.first_chunk::<{ icmp::LENGTH }>()?;
    let [kind, _, _, _, mtu @ ..] = *message;
    let told = kind == icmp::v6::PACKET_TOO_BIG;
    told.then(|| u16::try_from(u32::from_be_bytes(mtu)).unwrap_or(u16::MAX).max(Settings::MIN_IPV6_MTU))
}
