//! From a node: what kind of frame is it? IPv4 headers are read and checked here, and their destinations asked for.

use super::flow::{Ahead, Flows, Foresight, Nothing};
use super::next_hop::{self, NextHop};
use super::source_check::{self, Origin};
use super::{Aside, Burst, FromNode, Line, Outbound, dhcp, group};
use crate::drop::DropReason;
use crate::failure::Claim;
use crate::header::{NetworkHeader, contiguous, read_ipv4, trim};
use crate::mac::MacAddr;
use crate::packet::Packet;
use crate::pipeline::BURST;
use crate::plain::{self, Four, TRANSPORT_4};
use crate::snapshot::Interface;
use crate::table::mapping::{MappingKey, MappingView};
use crate::wire::ethernet::{self, ethertype};
use crate::wire::protocol;
use arrayvec::ArrayVec;

/// Empties `received` into the kinds that there are. Every frame must come from the interface's own MAC, and every packet
/// from its own address and be sent to a next hop that there is.
#[inline(always)]
pub(crate) fn run<'a, P: Packet>(
    node: &FromNode<'a>,
    flows: &mut Flows,
    received: &mut ArrayVec<P, BURST>,
    aside: &mut Aside<P>,
    burst: &mut Burst<P, Outbound<'a>>,
) {
    match flows.ahead(node.reader, node.interface.is_tracked()) {
        None => admit(node, &mut Nothing, received, aside, burst),
        Some(mut ahead) => admit_stateful(node, &mut ahead, received, aside, burst),
    }
}

#[inline(always)]
fn admit<'a, P: Packet>(
    node: &FromNode<'a>,
    ahead: &mut impl Foresight,
    received: &mut ArrayVec<P, BURST>,
    aside: &mut Aside<P>,
    burst: &mut Burst<P, Outbound<'a>>,
) {
    let line = Straight::new(node, ahead);
    burst.admit(received, node.view, line, |packet, burst| admit_any(node, packet, aside, burst));
}

#[inline(never)]
fn admit_stateful<'a, P: Packet>(
    node: &FromNode<'a>,
    ahead: &mut Ahead<'_>,
    received: &mut ArrayVec<P, BURST>,
    aside: &mut Aside<P>,
    burst: &mut Burst<P, Outbound<'a>>,
) {
    admit(node, ahead, received, aside, burst);
}

/// The first octet of multicast, and above it of reserved addresses and broadcast (RFC 5771, RFC 1112).
const FIRST_GROUP: u8 = 224;

/// What most packets are like: plain, from the interface's first address, to the dummy MAC of their destination.
struct Straight<'a, 'f, F> {
    ahead: &'f mut F,
    view: MappingView<'a>,
    interface: &'a Interface,
    /// As it lies in memory.
    address: Option<u32>,
    /// See [`MacAddr::dummy_hash`].
    hash: [u8; 2],
    /// See [`ethernet::source_and_type`].
    source_and_type: u64,
}

impl<'a, 'f, F> Straight<'a, 'f, F> {
    #[inline(always)]
    fn new(node: &FromNode<'a>, ahead: &'f mut F) -> Self {
        Self {
            ahead,
            view: *node.view,
            interface: node.interface,
            address: node.interface.addresses.first().map(|first| u32::from_ne_bytes(first.octets())),
            hash: MacAddr::dummy_hash(node.interface.vnet.id),
            source_and_type: ethernet::source_and_type(node.interface.mac, ethertype::IPV4),
        }
    }
}

impl<'a, P: Packet, F: Foresight> Line<P, Outbound<'a>> for Straight<'a, '_, F> {
    /// What [`classify`] finds out about a packet that is like most, with the same checks in fewer steps.
    #[inline(always)]
    fn admit(&mut self, packet: &mut P) -> Option<Outbound<'a>> {
        let front = Four::of(packet)?;
        let (frame, destination) = (front.frame()?, front.destination());
        let [first, ..] = destination.to_ne_bytes();
        let direct = frame.is_for_dummy(self.hash, destination) && first < FIRST_GROUP;
        if frame.source_and_type() != self.source_and_type || Some(front.source()) != self.address || !direct
        {
            return None;
        }
        let (plain, length) = (front.plain(packet)?, front.length());
        let (source, destination) = (plain::address(front.source()), plain::address(destination));
        let asked = self.view.ask(MappingKey::new(self.interface.vnet.id, destination));
        let ends = (source, destination);
        let ticket = self.ahead.ask(packet, self.interface, front.protocol(), TRANSPORT_4, ends);
        trim(packet, length);
        Some(Outbound::plain(plain, asked, ticket))
    }
}

/// Puts any packet where it belongs.
#[inline(never)]
fn admit_any<'a, P: Packet>(
    node: &FromNode<'a>,
    mut packet: P,
    aside: &mut Aside<P>,
    burst: &mut Burst<P, Outbound<'a>>,
) {
    match classify(node, &mut packet) {
        Ok(Kind::Ipv4(item)) => burst.push(packet, item),
        Ok(Kind::Arp) => aside.arps.push(packet),
        Ok(Kind::Dhcp(header)) => aside.dhcps.push((packet, header)),
        Ok(Kind::Group(header)) => aside.groups.push((packet, header)),
        Err(reason) => node.traffic.drops.count(reason),
    }
}

/// What becomes of a frame.
enum Kind<'a> {
    Ipv4(Outbound<'a>),
    Arp,
    /// A client's.
    Dhcp(NetworkHeader),
    /// For a group, or about one.
    Group(NetworkHeader),
}

fn classify<'a>(node: &FromNode<'a>, packet: &mut impl Packet) -> Result<Kind<'a>, DropReason> {
    contiguous(packet, ethernet::LENGTH)?;
    let frame = ethernet::Header::new_checked(packet.head()).map_err(|_| DropReason::FrameTruncated)?;
    if frame.source() != node.interface.mac {
        node.note(DropReason::SrcMacSpoofed, Claim::Mac(frame.source()));
        return Err(DropReason::SrcMacSpoofed);
    }
    let frame_destination = frame.destination();
    match frame.ethertype() {
        ethertype::IPV4 => {}
        ethertype::ARP => return Ok(Kind::Arp),
        ethertype::RARP => return Err(DropReason::ArpAbsorbed),
        _ => return Err(DropReason::EthertypeUnsupported),
    }
    let (header, plain) = match plain::read_ipv4(packet) {
        Some((header, plain)) => (header, Some(plain)),
        None => (read_ipv4(packet)?, None),
    };
    // To one address it is a packet like any other, which does not leave its link.
    if header.protocol == protocol::IGMP && header.destination.is_multicast() {
        // A host that has no address yet says so too (RFC 3376, 4.2.13).
        if !header.source.is_unspecified() {
            source_check::own(node, header.source)?;
        }
        return Ok(Kind::Group(header));
    }
    let origin = match dhcp::role(node, packet, &header) {
        dhcp::Role::None => source_check::check(node, header.source)?,
        dhcp::Role::Client => {
            if !header.source.is_unspecified() {
                source_check::own(node, header.source)?;
            }
            return Ok(Kind::Dhcp(header));
        }
        dhcp::Role::Server => return Err(DropReason::DhcpServerForeign),
    };
    if group::is_for(node, frame_destination, header.destination)? {
        // Engines elsewhere verify by mapping who sends to a group.
        source_check::own(node, header.source)?;
        return Ok(Kind::Group(header));
    }
    let NextHop { path, key } = next_hop::check(node, packet, frame_destination, &header)?;
    // What is plain goes from the owner of an address to the owner of another.
    let plain = plain.filter(|_| !path.behind && !path.external && origin == Origin::Own);
    Ok(Kind::Ipv4(Outbound::any(plain, header, node.view.ask(key), path)))
}
