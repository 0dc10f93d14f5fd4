//! From a node: ARP. The engine answers in place, with dummy MACs, for gateways and for live destinations that the asker
//! may reach; it learns nothing from what nodes say.

use super::{FromNode, authorise, resolution};
use crate::drop::DropReason;
use crate::failure::Claim;
use crate::header::contiguous;
use crate::mac::MacAddr;
use crate::packet::{Offload, Packet};
use crate::pipeline::{BURST, Outbox};
use crate::resolve::{Question, Waiting};
use crate::table::mapping::MappingKey;
use crate::wire::{WireError, arp, ethernet};
use arrayvec::ArrayVec;

const FRAME: usize = ethernet::LENGTH + arp::LENGTH;

/// Answers or drops each packet.
pub(crate) fn run<P: Packet>(
    node: &FromNode<'_>,
    waiting: &mut Waiting<P>,
    arps: &mut ArrayVec<P, BURST>,
    out: &mut impl Outbox<P>,
) {
    for mut packet in arps.drain(..) {
        let reason = match answer(node, &mut packet) {
            Ok(Verdict::Answer) => {
                out.transmit(node.interface.port, packet);
                continue;
            }
            Ok(Verdict::Resolve(question)) => {
                // What is asked for and what is refused is nobody there, as far as ARP goes.
                match resolution::destination(node, waiting, question, packet, out) {
                    Ok(()) => continue,
                    Err((_, DropReason::NoMapping | DropReason::ResolveRefused)) => {
                        DropReason::ArpTargetUnknown
                    }
                    Err((_, reason)) => reason,
                }
            }
            Err(reason) => reason,
        };
        node.traffic.drops.count(reason);
    }
}

/// What becomes of a request.
enum Verdict {
    /// It has become its answer.
    Answer,
    /// Its target's mapping has to be resolved first.
    Resolve(Question),
}

/// Turns a request into its answer, if it deserves one.
fn answer(node: &FromNode<'_>, packet: &mut impl Packet) -> Result<Verdict, DropReason> {
    contiguous(packet, FRAME)?;
    let interface = node.interface;
    let bytes = packet.head().get(ethernet::LENGTH..).unwrap_or(&[]);
    let asked = arp::Packet::new_checked(bytes).map_err(|error| match error {
        WireError::Truncated => DropReason::FrameTruncated,
        WireError::Malformed => DropReason::ArpMalformed,
    })?;

    let probe = asked.sender.is_unspecified() && asked.operation == arp::Operation::Request;
    // A router asks in the name of what it answers, which may be its address in a network behind it.
    let may_be = |sender| interface.owns(sender) || interface.speaks_for(sender);
    if asked.sender_mac != interface.mac || !(probe || may_be(asked.sender)) {
        let mac = asked.sender_mac != interface.mac;
        let claim = if mac { Claim::Mac(asked.sender_mac) } else { Claim::Ipv4(asked.sender) };
        node.note(DropReason::ArpSpoofed, claim);
        return Err(DropReason::ArpSpoofed);
    }
    if asked.operation == arp::Operation::Reply {
        return Err(DropReason::ArpAbsorbed);
    }
    if interface.addresses.contains(&asked.target) {
        // Its own address: a probe for a duplicate (RFC 5227), or an announcement.
        return Err(if probe { DropReason::ArpProbeOwn } else { DropReason::ArpAbsorbed });
    }
    let vnet = &interface.vnet;
    if !vnet.is_gateway(asked.target) {
        let key = MappingKey::new(vnet.id, asked.target);
        let mapping = node.table.lookup(node.reader, key);
        if mapping.is_none()
            && let Some(question) = resolution::of_arp(node, key)
        {
            return Ok(Verdict::Resolve(question));
        }
        let lives = mapping.is_some_and(|mapping| mapping.state.is_live());
        // A router is also for those who may have to do with what is behind it alone.
        let may_reach = || {
            authorise::may_talk(node.snapshot, interface, asked.target)
                || vnet.routes.has_router(asked.target)
        };
        if !lives || !may_reach() {
            return Err(DropReason::ArpTargetUnknown);
        }
    }

    let dummy = MacAddr::dummy(vnet.id, asked.target);
    let reply = arp::Packet {
        operation: arp::Operation::Reply,
        sender_mac: dummy,
        sender: asked.target,
        target_mac: asked.sender_mac,
        target: asked.sender,
    };
    packet.truncate(FRAME);
    packet.set_offload(Offload::default());
    let frame: &mut [u8; FRAME] = packet.head_mut().first_chunk_mut().ok_or(DropReason::FrameTruncated)?;
    let (header, body) = frame.split_first_chunk_mut().ok_or(DropReason::FrameTruncated)?;
    ethernet::emit(header, interface.mac, dummy, ethernet::ethertype::ARP);
    reply.emit(body.first_chunk_mut().ok_or(DropReason::FrameTruncated)?);
    Ok(Verdict::Answer)
}
