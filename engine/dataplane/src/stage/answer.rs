//! What the engine itself sends about a packet that goes no further, ICMP errors and TCP resets: whom it comes from, and how
//! often.

use super::{Arrival, FromNode, FromUplink, Inbound, Known, Outbound};
use crate::counters::Traffic;
use crate::limit::TokenBucket;
use crate::mac::MacAddr;
use crate::packet::{Clock, Packet};
use crate::pipeline::Outbox;
use crate::refusal::Answer;
use crate::snapshot::Subnet;
use crate::translate::answer::{Envelope, about_ipv4, about_ipv6};
use crate::translate::reset;
use crate::wire::protocol;

/// Tells the node, in the name of its gateway; in a subnet without one, of where the packet was going. A reset comes from
/// where the segment was going.
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
    let gateway = interface
        .vnet
        .subnet_of(interface.by_way_of(header.source))
        .and_then(|subnet: &Subnet| subnet.gateway);
    let source = gateway.unwrap_or(header.destination);
    let frame = (MacAddr::dummy(interface.vnet.id, source), interface.mac);
    let allowed = || within_limit(interface.icmp_limit.get(node.worker), node.clock, node.traffic);
    let answer = if answer == Answer::Prohibited && header.protocol == protocol::TCP {
        let header = *header;
        let ends = (header.destination, header.source);
        reset::of_ipv4(packet, &header, Envelope { frame, ends }, allowed)
    } else {
        about_ipv4(packet, answer, Envelope { frame, ends: (source, header.source) }, allowed)
    };
    if let Some(packet) = answer {
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
    let Arrival { header, source: destination, destination: substrate_destination, .. } =
        *item.arrival(&packet);
    let port = uplink.uplink;
    let Some(next_hop) = port.next_hop else { return };
    let own = port.addresses.iter().find(|address| !address.is_unicast_link_local());
    let source = match (answer, own) {
        (Answer::TooBig { .. }, _) | (_, None) => substrate_destination,
        (_, Some(own)) => *own,
    };
    let frame = (port.mac, next_hop);
    let allowed = || within_limit(port.icmp_limit.get(uplink.worker), uplink.clock, uplink.traffic);
    let answer = if answer == Answer::Prohibited && header.protocol == protocol::TCP {
        let ends = (substrate_destination, destination);
        reset::of_ipv6(packet, &header, Envelope { frame, ends }, allowed)
    } else {
        about_ipv6(packet, answer, Envelope { frame, ends: (source, destination) }, allowed)
    };
    if let Some(packet) = answer {
        out.transmit(port.port, packet);
    }
}

fn within_limit(limit: Option<&TokenBucket>, clock: &dyn Clock, traffic: &Traffic) -> bool {
    // A trace is no worker and has no limit: what it would send goes nowhere.
    let within = limit.is_none_or(|limit| limit.take(clock.now()));
    let counter = if within { &traffic.icmp_errors_sent } else { &traffic.icmp_errors_limited };
    counter.add(1);
    within
}
