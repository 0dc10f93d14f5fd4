//! Mappings that are missing, of vnets that resolve them on demand: the packet waits, and comes once more with the answer.
//!
//! This runs between the look-up and what goes by it. Where no vnet is on demand it costs one comparison a burst.

use super::{Burst, FromNode, FromUplink, Inbound, Outbound, Place, answer};
use crate::drop::DropReason;
use crate::id::PortId;
use crate::packet::{Clock, Packet};
use crate::pipeline::Outbox;
use crate::refusal::Answer;
use crate::resolve::{Look, Question, Side, Unasked, Waiting};
use crate::table::mapping::{FoundMapping, MappingKey, State};

/// From a node: the mappings of destinations.
#[inline]
pub(crate) fn outbound<P: Packet>(
    node: &FromNode<'_>,
    waiting: &mut Waiting<P>,
    burst: &mut Burst<P, Outbound<'_>>,
    out: &mut impl Outbox<P>,
) {
    let resolves = |item: &Outbound<'_>| {
        let key = item.asked.key();
        concerns(item.mapping) && node.interface.vnet.resolves(key.vnet_id(), key.ipv4())
    };
    if node.snapshot.on_demand && burst.items().iter().any(resolves) {
        resolve_destinations(node, waiting, burst, resolves, out);
    }
}

/// From the substrate: the mappings of sources.
#[inline]
pub(crate) fn inbound<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    waiting: &mut Waiting<P>,
    burst: &mut Burst<P, Inbound<'a>>,
    out: &mut impl Outbox<P>,
) {
    let resolves = |item: &Inbound<'_>| {
        let key = item.asked.key();
        // An error of a substrate router's has no node's address to be resolved.
        let routers = item.arrival.as_ref().is_some_and(|arrival| arrival.not_a_node.is_some());
        let within = |vnet: &crate::snapshot::Vnet| vnet.resolves(key.vnet_id(), key.ipv4());
        concerns(item.mapping) && !routers && item.receiver.is_some_and(|receiver| within(&receiver.vnet))
    };
    if uplink.snapshot.on_demand && burst.items().iter().any(resolves) {
        resolve_sources(uplink, waiting, burst, resolves, out);
    }
}

/// Whether there is something to be asked about what was found.
#[inline]
fn concerns(mapping: Option<FoundMapping<'_>>) -> bool {
    mapping.is_none_or(|mapping| mapping.value().state == State::Ageing)
}

#[cold]
#[inline(never)]
fn resolve_destinations<'a, P: Packet>(
    node: &FromNode<'_>,
    waiting: &mut Waiting<P>,
    burst: &mut Burst<P, Outbound<'a>>,
    resolves: impl Fn(&Outbound<'a>) -> bool,
    out: &mut impl Outbox<P>,
) {
    let port = node.interface.port;
    for (packet, mut item) in core::mem::replace(burst, Burst::new()) {
        if !resolves(&item) {
            burst.push(packet, item);
            continue;
        }
        let question = Question { port, key: item.asked.key(), side: Side::Destination };
        if item.mapping.is_some() {
            renew(node, waiting, question, out);
            burst.push(packet, item);
            continue;
        }
        if let Err((packet, reason)) = destination(node, waiting, question, packet, out) {
            node.traffic.drops.count(reason);
            let told =
                reason == DropReason::ResolveRefused && item.path.routed && waiting.limits().tell_refused;
            if told {
                answer::to_node(node, packet, &mut item, Answer::Prohibited, out);
            }
        }
    }
}

/// Has a packet of a node wait for the mapping of an address, which is asked for unless that is done already. The error is the
/// packet that cannot, and why.
pub(crate) fn destination<P>(
    node: &FromNode<'_>,
    waiting: &mut Waiting<P>,
    question: Question,
    packet: P,
    out: &mut impl Outbox<P>,
) -> Result<(), (P, DropReason)> {
    let (now, epoch) = (node.clock.now(), node.snapshot.resolve_epoch);
    let reason = match waiting.look(question, epoch, now) {
        Look::Asked => None,
        Look::Unknown => Some(DropReason::NoMapping),
        Look::Refused => Some(DropReason::ResolveRefused),
        Look::New => match waiting.ask(question, now, |question| out.ask(question)) {
            Ok(()) => None,
            Err(Unasked::Limited) => Some(DropReason::ResolveLimited),
            Err(Unasked::Full) => Some(DropReason::ResolveQueueFull),
        },
    };
    match reason {
        Some(reason) => Err((packet, reason)),
        None => {
            let held = waiting.hold(question, question.port, packet);
            held.map_err(|packet| (packet, DropReason::ResolveQueueFull))
        }
    }
}

#[cold]
#[inline(never)]
fn resolve_sources<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    waiting: &mut Waiting<P>,
    burst: &mut Burst<P, Inbound<'a>>,
    resolves: impl Fn(&Inbound<'a>) -> bool,
    out: &mut impl Outbox<P>,
) {
    for (packet, mut item) in core::mem::replace(burst, Burst::new()) {
        let Some(receiver) = item.receiver.filter(|_| resolves(&item)) else {
            burst.push(packet, item);
            continue;
        };
        let question = Question { port: receiver.port, key: item.asked.key(), side: Side::Source };
        if item.mapping.is_some() {
            renew(uplink, waiting, question, out);
            burst.push(packet, item);
            continue;
        }
        let source = item.arrival(&packet).source;
        if let Err(reason) = verify(uplink, waiting, question, source, packet, out) {
            uplink.drops(&item).count(reason);
        }
    }
}

/// Has a packet from the substrate wait until its source is verified.
fn verify<P>(
    uplink: &FromUplink<'_>,
    waiting: &mut Waiting<P>,
    question: Question,
    source: core::net::Ipv6Addr,
    packet: P,
    out: &mut impl Outbox<P>,
) -> Result<(), DropReason> {
    let (now, epoch) = (uplink.clock.now(), uplink.snapshot.resolve_epoch);
    match waiting.look(question, epoch, now) {
        Look::Asked => {}
        Look::Unknown => {
            uplink.note(DropReason::SrcUnknownNode, source);
            return Err(DropReason::SrcUnknownNode);
        }
        Look::Refused => return Err(DropReason::ResolveRefused),
        Look::New => {
            // Whoever floods uses up what its own prefix may cause.
            let asked = waiting.allow(source, now)
                && waiting.ask(question, now, |question| out.ask(question)).is_ok();
            if !asked {
                return Err(DropReason::VerifyQueueFull);
            }
        }
    }
    waiting.hold(question, uplink.uplink.port, packet).map_err(|_| DropReason::VerifyQueueFull)
}

/// Says that a mapping is in use which would be forgotten otherwise. Nothing waits for that.
fn renew<P>(side: &impl Asking, waiting: &mut Waiting<P>, question: Question, out: &mut impl Outbox<P>) {
    let (now, epoch) = (side.clock().now(), side.epoch());
    if waiting.look(question, epoch, now) == Look::New {
        // It comes again with the next packet.
        let _ = waiting.ask(question, now, |question| out.ask(question));
    }
}

/// What a question needs of the side that it comes from.
trait Asking {
    fn clock(&self) -> &dyn Clock;
    fn epoch(&self) -> u32;
}

impl Asking for FromNode<'_> {
    fn clock(&self) -> &dyn Clock {
        self.clock
    }

    fn epoch(&self) -> u32 {
        self.snapshot.resolve_epoch
    }
}

impl Asking for FromUplink<'_> {
    fn clock(&self) -> &dyn Clock {
        self.clock
    }

    fn epoch(&self) -> u32 {
        self.snapshot.resolve_epoch
    }
}

/// Tells senders that the node which they sent to has been terminated.
#[cold]
#[inline(never)]
pub(crate) fn terminated<P: Packet>(
    node: &FromNode<'_>,
    burst: &mut Burst<P, Outbound<'_>>,
    out: &mut impl Outbox<P>,
) {
    for (packet, mut item) in core::mem::replace(burst, Burst::new()) {
        if item.mapping.is_none_or(|mapping| mapping.value().state != State::Gone) {
            burst.push(packet, item);
            continue;
        }
        node.traffic.drops.count(DropReason::DstTerminated);
        answer::to_node(node, packet, &mut item, Answer::HostUnreachable, out);
    }
}

/// The question about the target of an ARP request, if it is one that is resolved on demand.
pub(crate) fn of_arp(node: &FromNode<'_>, key: MappingKey) -> Option<Question> {
    let resolves = node.snapshot.on_demand && node.interface.vnet.resolves(key.vnet_id(), key.ipv4());
    let port: PortId = node.interface.port;
    resolves.then_some(Question { port, key, side: Side::Destination })
}
