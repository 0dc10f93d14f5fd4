//! What rules and flows see of a packet, whichever side it comes from.

use super::fragments::Source;
use super::{FromNode, FromUplink, Inbound, Known, Outbound};
use crate::drop::DropReason;
use crate::header::{NetworkHeader, contiguous};
use crate::id::VnetId;
use crate::packet::Packet;
use crate::policy::{End, Passage, has_ports};
use crate::snapshot::{HostSnapshot, Interface};
use crate::table::qsbr::Reader;
use crate::translate::icmp::ipv4_type;
use crate::wire::{icmp, ipv4, protocol};

/// A side that packets come from.
pub(crate) trait Side<'a, I>: Source<I> {
    /// ICMP, as this side's IP version numbers it.
    const ICMP: u8;

    fn snapshot(&self) -> &'a HostSnapshot;
    fn reader(&self) -> &Reader;
    /// Whether an interface that the packet comes from or goes to is.
    fn is_tracked(&self, item: &I) -> bool;
    /// The interfaces of this host that the packet comes from and goes to.
    fn interfaces(&self, item: &I) -> (Option<&'a Interface>, Option<&'a Interface>);
    /// The vnets that it comes from and goes to.
    fn vnets(&self, item: &I) -> (VnetId, VnetId);
    /// Whether it is an error that no node has sent, and that has been seen to.
    fn is_routers(&self, item: &I) -> bool;
}

impl<'a> Side<'a, Outbound<'_>> for FromNode<'a> {
    const ICMP: u8 = protocol::ICMP;

    fn snapshot(&self) -> &'a HostSnapshot {
        self.snapshot
    }

    fn reader(&self) -> &Reader {
        self.reader
    }

    fn is_tracked(&self, item: &Outbound<'_>) -> bool {
        self.interface.is_tracked() || receiver(self, item).is_some_and(Interface::is_tracked)
    }

    fn interfaces(&self, item: &Outbound<'_>) -> (Option<&'a Interface>, Option<&'a Interface>) {
        (Some(self.interface), receiver(self, item))
    }

    fn vnets(&self, item: &Outbound<'_>) -> (VnetId, VnetId) {
        (self.interface.vnet.id, item.asked.key().vnet_id())
    }

    fn is_routers(&self, _: &Outbound<'_>) -> bool {
        false
    }
}

/// The interface of this host that a node's packet goes to.
fn receiver<'a>(node: &FromNode<'a>, item: &Outbound<'_>) -> Option<&'a Interface> {
    if item.path.external {
        return None;
    }
    node.snapshot.node(item.mapping?.value().local?).map(AsRef::as_ref)
}

impl<'a> Side<'a, Inbound<'a>> for FromUplink<'a> {
    const ICMP: u8 = protocol::ICMPV6;

    fn snapshot(&self) -> &'a HostSnapshot {
        self.snapshot
    }

    fn reader(&self) -> &Reader {
        self.reader
    }

    fn is_tracked(&self, item: &Inbound<'a>) -> bool {
        item.receiver.is_some_and(Interface::is_tracked)
    }

    fn interfaces(&self, item: &Inbound<'a>) -> (Option<&'a Interface>, Option<&'a Interface>) {
        (None, item.receiver)
    }

    fn vnets(&self, item: &Inbound<'a>) -> (VnetId, VnetId) {
        item.vnets()
    }

    fn is_routers(&self, item: &Inbound<'a>) -> bool {
        item.arrival.as_ref().is_some_and(|arrival| arrival.not_a_node.is_some())
    }
}

/// The packet on its way, as rules judge it. Of a datagram in fragments this is for the first.
pub(crate) fn of<'a, P: Packet, I: Known<'a>, S: Side<'a, I>>(
    side: &S,
    packet: &mut P,
    item: &mut I,
) -> Result<Passage<'a>, DropReason> {
    let header = *item.header(packet);
    let ((sender, receiver), (source, destination)) = (side.interfaces(item), side.vnets(item));
    let from = End { vnet: source, address: header.source, interface: sender };
    let to = End { vnet: destination, address: header.destination, interface: receiver };
    between(packet, &header, S::ICMP, (from, to))
}

/// A packet for a group, as rules judge it. The parts of a datagram behind its first have no ports, and so are let pass only
/// by rules that name none.
pub(crate) fn to_group<'a>(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    icmp: u8,
    ends: (End<'a>, End<'a>),
) -> Result<Passage<'a>, DropReason> {
    if header.part().is_some_and(|part| part.offset > 0) {
        let protocol = if header.protocol == icmp { protocol::ICMP } else { header.protocol };
        let ((from, to), size) = (ends, size(packet, header));
        return Ok(Passage { from, to, protocol, ports: None, icmp: None, size });
    }
    between(packet, header, icmp, ends)
}

/// A packet on its way between two ends, of a side on which ICMP has the number `icmp`.
fn between<'a>(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    icmp: u8,
    (from, to): (End<'a>, End<'a>),
) -> Result<Passage<'a>, DropReason> {
    let protocol = if header.protocol == icmp { protocol::ICMP } else { header.protocol };
    let start = if has_ports(protocol) || protocol == protocol::ICMP {
        *transport::<4>(packet, header)?
    } else {
        [0; 4]
    };
    let [a, b, c, d] = start;
    Ok(Passage {
        from,
        to,
        protocol,
        ports: has_ports(protocol).then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
        icmp: (protocol == protocol::ICMP)
            .then(|| if icmp == protocol::ICMP { (a, b) } else { ipv4_type(a, b) }),
        size: size(packet, header),
    })
}

/// Bytes of the IPv4 packet, without options; of many in one the largest.
fn size(packet: &impl Packet, header: &NetworkHeader) -> u16 {
    let payload = match packet.offload().segmentation {
        Some(cut) => header.payload.min(cut.size.saturating_add(header.transport_length.into())),
        None => header.payload,
    };
    payload.saturating_add(ipv4::LENGTH as u16)
}

/// The first bytes of the transport header.
#[inline]
pub(crate) fn transport<'p, const LENGTH: usize>(
    packet: &'p mut impl Packet,
    header: &NetworkHeader,
) -> Result<&'p [u8; LENGTH], DropReason> {
    if usize::from(header.payload) < LENGTH {
        return Err(DropReason::TransportMalformed);
    }
    contiguous(packet, header.transport + LENGTH)?;
    let bytes = packet.head().get(header.transport..).and_then(<[u8]>::first_chunk);
    bytes.ok_or(DropReason::TransportMalformed)
}

/// Types of echo request and reply in an IP version.
pub(crate) const fn echo(icmp: u8) -> [u8; 2] {
    match icmp {
        protocol::ICMP => [icmp::v4::ECHO_REQUEST, icmp::v4::ECHO_REPLY],
        _ => [icmp::v6::ECHO_REQUEST, icmp::v6::ECHO_REPLY],
    }
}
