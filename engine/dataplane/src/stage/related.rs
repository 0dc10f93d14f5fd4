//! The flow that an ICMP error is about: the one of the packet that it quotes.

use crate::header::NetworkHeader;
use crate::id::VnetId;
use crate::packet::Packet;
use crate::table::flow::FlowKey;
use crate::translate::icmp::quoted_flow;
use crate::wire::{icmp, protocol};
use core::net::Ipv4Addr;

/// Bytes of the quoted packet that are looked at: the longest IPv4 header, or IPv6 with some extension headers, and the
/// ports.
const LOOKED_AT: usize = 128;

/// Which vnet a flow between two ends is kept under, from either side: that of the lower address. Two vnets that exchange
/// packets have no address in common.
#[inline(always)]
pub(crate) fn flow_vnet(source: (Ipv4Addr, VnetId), destination: (Ipv4Addr, VnetId)) -> VnetId {
    if source.0 <= destination.0 { source.1 } else { destination.1 }
}

/// The flow of the packet that an ICMP error quotes, which its receiver has sent; `None` if it is no error, or quotes
/// nothing that has a flow. `vnets` are those of the error's own source and destination; `is_on_the_way` says whether its
/// source is a router for an address.
#[cold]
#[inline(never)]
pub(crate) fn flow(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    icmp: u8,
    (from, to): (VnetId, VnetId),
    is_on_the_way: impl Fn(Ipv4Addr) -> bool,
) -> Option<FlowKey> {
    let start = header.transport;
    let kind = *packet.head().get(start)?;
    let is_error = match icmp {
        protocol::ICMP => icmp::v4::is_error(kind),
        _ => icmp::v6::is_error(kind),
    };
    if !is_error || header.part().is_some() {
        return None;
    }
    // Whatever is there: a quote that is cut off has no ports, and then no flow.
    let there = (start + icmp::LENGTH + LOOKED_AT).min(packet.len());
    if packet.head().len() < there {
        packet.pull_up(there).ok()?;
    }
    let quoted = quoted_flow(icmp, packet.head().get(start + icmp::LENGTH..there)?)?;
    let (source, destination) = quoted.ends;
    // The receiver of the error sent it to the error's sender, or past it: whoever else might know of it has no part in it.
    let was_theirs = destination.0 == header.source || is_on_the_way(destination.0);
    if source.0 != header.destination || !was_theirs {
        return None;
    }
    let vnet = flow_vnet((source.0, to), (destination.0, from));
    Some(FlowKey::new(vnet, quoted.protocol, source, destination).0)
}
