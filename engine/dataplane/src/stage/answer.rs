//! ICMP errors that the engine itself sends about a packet that goes no further: whom they come from, and how often.

use super::{Arrival, FromNode, FromUplink, Inbound, Known, Outbound};
use crate::counters::Traffic;
use crate::limit::TokenBucket;
use crate::mac::MacAddr;
use crate::packet::{Clock, Packet};
use crate::pipeline::Outbox;
use crate::refusal::Answer;
use crate::snapshot::Subnet;
use crate::translate::answer::{Envelope, about_ipv4, about_ipv6};

/// Tells the node, in the name of its gateway; in a subnet without one, of where the packet was going.
#[cold]
#[inline(never)]
pub(crate) fn to_node<P: Packet>(
    node: &FromNode<'_>,
    packet: P,
    item: &mut Outbound<'_>,
    answer: Answer,
    out: &mut impl Outbox<P>,
) {
    let header = item.header(&packet);
    let interface = node.interface;
    let gateway = interface.vnet.subnet_of(header.source).and_then(|subnet: &Subnet| subnet.gateway);
    let source = gateway.unwrap_or(header.destination);
    let envelope = Envelope {
        frame: (MacAddr::dummy(interface.vnet.id, source), interface.mac),
        ends: (source, header.source),
    };
    let allowed = || within_limit(interface.icmp_limit.get(node.worker), node.clock, node.traffic);
    if let Some(packet) = about_ipv4(packet, answer, envelope, allowed) {
        out.transmit(interface.port, packet);
    }
}

/// Tells the sender on the substrate. A packet too big for the node is the node's own limit and told in its name, so that
/// nobody takes it for the path's; the rest comes from the engine's own address, as from a router's.
#[cold]
#[inline(never)]
pub(crate) fn to_substrate<P: Packet>(
    uplink: &FromUplink<'_>,
    packet: P,
    item: &mut Inbound<'_>,
    answer: Answer,
    out: &mut impl Outbox<P>,
) {
    let Arrival { source: destination, destination: substrate_destination, .. } = *item.arrival(&packet);
    let port = uplink.uplink;
    let Some(next_hop) = port.next_hop else { return };
    let own = port.addresses.iter().find(|address| !address.is_unicast_link_local());
    let source = match (answer, own) {
        (Answer::TooBig { .. }, _) | (_, None) => substrate_destination,
        (_, Some(own)) => *own,
    };
    let envelope = Envelope { frame: (port.mac, next_hop), ends: (source, destination) };
    let allowed = || within_limit(port.icmp_limit.get(uplink.worker), uplink.clock, uplink.traffic);
    if let Some(packet) = about_ipv6(packet, answer, envelope, allowed) {
        out.transmit(port.port, packet);
    }
}

fn within_limit(limit: Option<&TokenBucket>, clock: &dyn Clock, traffic: &Traffic) -> bool {
    let within = limit.is_some_and(|limit| limit.take(clock.now()));
    let counter = if within { &traffic.icmp_errors_sent } else { &traffic.icmp_errors_limited };
    counter.add(1);
    within
}
