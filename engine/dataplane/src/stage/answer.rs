//! ICMP errors that the engine itself sends about a packet that goes no further.
//!
//! The packet becomes its own answer: its first bytes are quoted behind new headers in the same buffer. What may be
//! answered is RFC 1122, 3.2.2 and RFC 4443, 2.4 (e); how often, the port's limit says.

use super::{FromNode, FromUplink, Inbound, Outbound};
use crate::counters::Traffic;
use crate::limit::TokenBucket;
use crate::mac::MacAddr;
use crate::packet::{Clock, Packet};
use crate::pipeline::Outbox;
use crate::refusal::Answer;
use crate::snapshot::Subnet;
use crate::translate::icmp::{MAX_SIX, answer_ipv4, answer_ipv6, may_answer_ipv4, may_answer_ipv6};
use crate::translate::replace;
use crate::wire::{ethernet, ipv4, ipv6, protocol};
use arrayvec::ArrayVec;

/// TTL and hop limit of what the engine itself sends (RFC 1700's default).
const HOPS: u8 = 64;
/// Precedence "internetwork control" (RFC 1812, 4.3.2.5).
const CONTROL: u8 = 0xc0;

/// Tells the node, in the name of its gateway; in a subnet without one, of where the packet was going.
#[cold]
#[inline(never)]
pub(crate) fn to_node<P: Packet>(
    node: &FromNode<'_>,
    item: Outbound<'_, P>,
    answer: Answer,
    out: &mut impl Outbox<P>,
) {
    let Outbound { mut packet, header, .. } = item;
    let quoted = quote(&packet);
    if !may_answer_ipv4(&quoted) {
        return;
    }
    let Some(message) = answer_ipv4(answer, &quoted) else { return };
    let interface = node.interface;
    if !within_limit(interface.icmp_limit.get(node.worker), node.clock, node.traffic) {
        return;
    }
    let gateway = interface.vnet.subnet_of(header.source).and_then(|subnet: &Subnet| subnet.gateway);
    let source = gateway.unwrap_or(header.destination);
    let fields = ipv4::Fields {
        tos: CONTROL,
        total_length: (ipv4::LENGTH + message.len()) as u16,
        // An atomic datagram needs none (RFC 6864, 4.1).
        identification: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: HOPS,
        protocol: protocol::ICMP,
        source,
        destination: header.source,
    };
    let mut headers = [0; ethernet::LENGTH + ipv4::LENGTH];
    if let Some((frame, rest)) = headers.split_first_chunk_mut() {
        let dummy = MacAddr::dummy(interface.vnet.id, source);
        ethernet::emit(frame, interface.mac, dummy, ethernet::ethertype::IPV4);
        if let Some(rest) = rest.first_chunk_mut() {
            fields.emit(rest);
        }
    }
    if replace(&mut packet, &headers, &message).is_ok() {
        out.transmit(interface.port, packet);
    }
}

/// Tells the sender on the substrate. A packet too big for the node is the node's own limit and told in its name, so that
/// nobody takes it for the path's; the rest comes from the engine's own address, as from a router's.
#[cold]
#[inline(never)]
pub(crate) fn to_substrate<P: Packet>(
    uplink: &FromUplink<'_>,
    item: Inbound<'_, P>,
    answer: Answer,
    out: &mut impl Outbox<P>,
) {
    let Inbound { mut packet, source: destination, substrate_destination, .. } = item;
    let port = uplink.uplink;
    let Some(next_hop) = port.next_hop else { return };
    let own = port.addresses.iter().find(|address| !address.is_unicast_link_local());
    let source = match (answer, own) {
        (Answer::TooBig { .. }, _) | (_, None) => substrate_destination,
        (_, Some(own)) => *own,
    };
    let quoted = quote(&packet);
    if !may_answer_ipv6(&quoted) {
        return;
    }
    let Some(message) = answer_ipv6(answer, &quoted, (source, destination)) else { return };
    if !within_limit(port.icmp_limit.get(uplink.worker), uplink.clock, uplink.traffic) {
        return;
    }
    let fields = ipv6::Fields {
        traffic_class: CONTROL,
        payload_length: message.len() as u16,
        next_header: protocol::ICMPV6,
        hop_limit: HOPS,
        source,
        destination,
    };
    let mut headers = [0; ethernet::LENGTH + ipv6::LENGTH];
    if let Some((frame, rest)) = headers.split_first_chunk_mut() {
        ethernet::emit(frame, next_hop, port.mac, ethernet::ethertype::IPV6);
        if let Some(rest) = rest.first_chunk_mut() {
            fields.emit(rest);
        }
    }
    if replace(&mut packet, &headers, &message).is_ok() {
        out.transmit(port.port, packet);
    }
}

/// The first bytes of the packet without its Ethernet header: as many as any answer quotes.
fn quote(packet: &impl Packet) -> ArrayVec<u8, MAX_SIX> {
    let mut bytes = ArrayVec::new();
    let mut skip = ethernet::LENGTH;
    for segment in packet.segments() {
        let segment = segment.get(skip.min(segment.len())..).unwrap_or(&[]);
        skip = 0;
        let taken = segment.len().min(bytes.remaining_capacity());
        let _ = bytes.try_extend_from_slice(segment.get(..taken).unwrap_or(&[]));
    }
    bytes
}

fn within_limit(limit: Option<&TokenBucket>, clock: &dyn Clock, traffic: &Traffic) -> bool {
    let within = limit.is_some_and(|limit| limit.take(clock.now()));
    let counter = if within { &traffic.icmp_errors_sent } else { &traffic.icmp_errors_limited };
    counter.add(1);
    within
}
