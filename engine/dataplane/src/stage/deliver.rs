//! The last stage: the packet becomes what it is to leave as, and leaves.

use super::fragments::{self, Fragments};
use super::{Arrival, Burst, FromNode, FromUplink, Inbound, Known, Outbound, Path, answer, quote};
use crate::address::{HostPrefix, Locator};
use crate::drop::DropReason;
use crate::group;
use crate::header::NetworkHeader;
use crate::id::{PortId, Slot, VnetId};
use crate::mac::MacAddr;
use crate::offload;
use crate::packet::{Offload, Packet, Pool};
use crate::path_mtu::PathMtus;
use crate::pipeline::Outbox;
use crate::plain::{self, Six};
use crate::refusal::{Answer, Refusal};
use crate::snapshot::Interface;
use crate::translate::icmp::Mtus;
use crate::translate::{
    Crossing, Ends, FormerEnds, Identifications, LastHop, PlainHop, PlainWay, Settings, WayOut, four_to_six,
    six_to_four,
};
use crate::wire::checksum::{self, Change};
use crate::wire::{ethernet, fragment, ipv4, ipv6, protocol, word};
use core::net::{Ipv4Addr, Ipv6Addr};

/// The way of a burst's packets from a node to the substrate: what is the same for all of them.
pub(crate) struct Departure<'a> {
    pub(crate) node: &'a FromNode<'a>,
    /// Where the sender itself lives.
    own: Option<Locator>,
    /// The uplink's port, and the way from there.
    uplink: Option<(PortId, WayOut)>,
    /// What the narrowest path carries: only a larger packet is worth a look at its own.
    narrowest: usize,
}

/// The straight line of such a burst: from the interface's first address, for what every path carries.
struct Line {
    own: Locator,
    port: PortId,
    way: PlainWay,
}

/// From a node: to another node of this host as it is, or translated to the substrate.
#[inline(always)]
pub(crate) fn outbound<P: Packet>(
    node: &FromNode<'_>,
    pool: &impl Pool<Packet = P>,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, Outbound<'_>>,
    out: &mut impl Outbox<P>,
) {
    let snapshot = node.snapshot;
    let (layout, settings) = (snapshot.layout, &snapshot.translate);
    let departure = Departure::new(node);
    let Departure { uplink, .. } = departure;
    let first = node.interface.addresses.first();
    let line = departure.own.zip(uplink).zip(first).map(|((own, (port, way)), first)| {
        let narrowest = snapshot.path_mtus.smallest();
        let way = PlainWay::new(*first, own.address(*first), &way.at_most(narrowest), settings);
        Line { own, port, way }
    });
    let plain = |packet: &mut P, item: &mut Outbound<'_>| {
        let (Line { own, port, way }, plain, mapping) = (line.as_ref()?, item.plain?, item.mapping?);
        let (home, key) = (mapping.value(), item.asked.key());
        if home.local.is_some() || home.stem.shares_prefix(mapping.tag().get(), own, layout) {
            return None;
        }
        let ends = || {
            let (upper, four) = mapping.words(key);
            let lower = word::joined(four, u32::from_ne_bytes(key.ipv4().octets()));
            ([upper, lower], change(own, mapping.sum(key)))
        };
        way.carry(packet, plain, ends).then_some(*port)
    };
    let any = |packet: &mut P, item: &mut Outbound<'_>| departure.any(packet, item);
    let expected = uplink.as_ref().map(|(port, _)| *port);
    burst.send((node, pool, out), expected, plain, any, |packet, item, refusal, out| {
        if item.is_fragment() {
            fragments::refused(node, fragments, &packet, item, refusal.reason);
        }
        if let Some(told) = refusal.answer {
            answer::to_node(node, packet, item, told, out);
        }
    });
}

impl<'a> Departure<'a> {
    #[inline(always)]
    pub(crate) fn new(node: &'a FromNode<'a>) -> Self {
        let snapshot = node.snapshot;
        let uplink = snapshot.uplink().and_then(|uplink| {
            let next_hop = uplink.next_hop?;
            let mtus = Mtus { four: node.interface.mtu, six: uplink.mtu };
            Some((uplink.port, WayOut::new(uplink.mac, next_hop, mtus, &snapshot.translate)))
        });
        let narrowest = snapshot.path_mtus.smallest().into();
        Self { node, own: own_locator(node), uplink, narrowest }
    }

    /// The way of a copy of what is sent to a group to the members on another host.
    pub(crate) fn to_group(
        &self,
        packet: &mut impl Packet,
        header: &NetworkHeader,
        (host, destination): (HostPrefix, Ipv6Addr),
    ) -> Result<(PortId, Crossing), Refusal> {
        let (node, snapshot) = (self.node, self.node.snapshot);
        let own = self.own.as_ref().ok_or(DropReason::PrefixUnknown)?;
        let (port, mut way) = self.uplink.ok_or(DropReason::UplinkUnresolved)?;
        if LONGEST_HEADERS + usize::from(header.payload) > self.narrowest {
            narrow(&mut way, &snapshot.path_mtus, host);
        }
        let source = own.address(header.source);
        let fronts = checksum::sum_of_fronts([&source.octets(), &destination.octets()]);
        let ends = Ends { source, destination, change: Change::ZERO.add(fronts) };
        let quoted = quote::Outbound { node, header: *header, own, ends: &ends };
        let crossing = four_to_six(packet, header, &ends, &way, &snapshot.translate, &quoted)?;
        Ok((port, crossing))
    }

    /// The way to a system without an engine, at its own address.
    #[cold]
    fn to_external(
        &self,
        packet: &mut impl Packet,
        header: &NetworkHeader,
    ) -> Result<(PortId, Crossing), Refusal> {
        let (node, snapshot) = (self.node, self.node.snapshot);
        let known = node.interface.vnet.externals.ipv6(header.destination);
        let destination = known.ok_or(DropReason::NoMapping)?;
        refuse_part(header, protocol::ICMP)?;
        let own = self.own.as_ref().ok_or(DropReason::PrefixUnknown)?;
        let (port, way) = self.uplink.ok_or(DropReason::UplinkUnresolved)?;
        let from = if node.interface.owns(header.source) { *own } else { own.by_slot(snapshot.layout) };
        let source = from.address(header.source);
        let old = whole(&header.source.octets(), &header.destination.octets());
        let change = whole(&source.octets(), &destination.octets()).remove(old.fold());
        let ends = Ends { source, destination, change };
        let quoted = quote::Outbound { node, header: *header, own, ends: &ends };
        let crossing = four_to_six(packet, header, &ends, &way, &snapshot.translate, &quoted)?;
        Ok((port, crossing))
    }

    /// Any packet's way.
    #[inline(never)]
    fn any<P: Packet>(&self, packet: &mut P, item: &mut Outbound<'_>) -> Result<(PortId, Crossing), Refusal> {
        let (node, snapshot) = (self.node, self.node.snapshot);
        let mapping = item.mapping.ok_or(DropReason::NoMapping)?.mapping(item.asked.key());
        if let Some(reason) = item.rejected {
            return Err(Refusal::told(reason, Answer::Prohibited));
        }
        let (vnet, path) = (item.asked.key().vnet_id(), item.path);
        let header = item.header(packet);
        if path.external {
            return self.to_external(packet, header);
        }
        if let Some(port) = mapping.local {
            return locally(node, packet, header, (vnet, path), port);
        }
        let own = self.own.as_ref().ok_or(DropReason::PrefixUnknown)?;
        if mapping.locator.shares_prefix(own, snapshot.layout) {
            // On this host, yet attached to no port: the substrate would only bring the packet back.
            return Err(DropReason::DstNotLive.into());
        }
        let (port, mut way) = self.uplink.ok_or(DropReason::UplinkUnresolved)?;
        // The MSS of a SYN is of packets that are still to come.
        let clamp = snapshot.translate.clamp_tcp_mss;
        if clamp || LONGEST_HEADERS + usize::from(header.payload) > self.narrowest {
            narrow(&mut way, &snapshot.path_mtus, mapping.locator.prefix(snapshot.layout));
        }
        let layout = snapshot.layout;
        let to = if path.behind { mapping.locator.by_slot(layout) } else { mapping.locator };
        let from = if node.interface.owns(header.source) { *own } else { own.by_slot(layout) };
        let ends = ends(&from, &to, header.source, header.destination);
        let quoted = quote::Outbound { node, header: *header, own, ends: &ends };
        let crossing = four_to_six(packet, header, &ends, &way, &snapshot.translate, &quoted)?;
        Ok((port, crossing))
    }
}

/// The addresses that a packet gets on the substrate.
#[inline(always)]
fn ends(from: &Locator, to: &Locator, source: Ipv4Addr, destination: Ipv4Addr) -> Ends {
    Ends {
        source: from.address(source),
        destination: to.address(destination),
        change: change(from, Change::ZERO.add(to.sum())),
    }
}

/// A part of an ICMP message has no right checksum on the other side, where it covers how long the whole is (RFC 7915, 1.2).
/// Between nodes both engines are wrong by the same; an external would not know.
fn refuse_part(header: &NetworkHeader, icmp: u8) -> Result<(), DropReason> {
    let is_part = header.protocol == icmp && header.part().is_some();
    if is_part { Err(DropReason::FragmentIcmp) } else { Ok(()) }
}

/// The sum of two whole addresses.
fn whole(source: &[u8], destination: &[u8]) -> Change {
    Change::ZERO.add_bytes(source).add_bytes(destination)
}

/// What a pseudo-header gets: what is in front of the virtual addresses in both substrate addresses.
#[inline(always)]
const fn change(own: &Locator, other: Change) -> Change {
    other.add(own.sum())
}

/// What a packet has in front of its transport header at most when it leaves.
const LONGEST_HEADERS: usize = ipv6::LENGTH + fragment::LENGTH;

/// Lowers the way's MTU to that of the path to one host.
#[cold]
#[inline(never)]
fn narrow(way: &mut WayOut, paths: &PathMtus, destination: HostPrefix) {
    if let Some(mtu) = paths.of(destination) {
        way.mtu = way.mtu.min(mtu);
        way.cut_mtu = way.cut_mtu.min(mtu);
    }
}

/// Where the sending interface itself lives: the same for each of its packets.
fn own_locator(node: &FromNode<'_>) -> Option<Locator> {
    let layout = node.snapshot.layout;
    let slot = if layout.has_slots() { node.interface.slot } else { Slot::ZERO };
    Locator::new(layout, node.snapshot.prefix?, slot, node.interface.vnet.id).ok()
}

/// Within the host no IPv6 is involved: on-link a packet keeps its TTL, the gateway lowers it.
fn locally(
    node: &FromNode<'_>,
    packet: &mut impl Packet,
    header: &NetworkHeader,
    (vnet, path): (VnetId, Path),
    port: PortId,
) -> Result<(PortId, Crossing), Refusal> {
    let receiver = node.snapshot.node(port).ok_or(DropReason::PortGone)?;
    let takes = if path.behind { Interface::routes } else { Interface::owns };
    if receiver.vnet.id != vnet || !takes(receiver, header.destination) {
        // The mapping is newer than the snapshot, or older.
        return Err(DropReason::PortGone.into());
    }
    if header.live_route != 0 {
        return Err(Refusal::told(DropReason::SourceRoute, Answer::SourceRouteFailed));
    }
    if path.routed && header.ttl <= 1 {
        return Err(Refusal::told(DropReason::TtlExceeded, Answer::TimeExceeded));
    }
    let crossing = hand_over(packet, header, receiver, Arm::new(receiver, header.destination))?;
    if path.routed {
        let packet = packet.head_mut().get_mut(ethernet::LENGTH..).and_then(<[u8]>::first_chunk_mut);
        ipv4::decrement_ttl(packet.ok_or(DropReason::FrameTruncated)?);
    }
    Ok((port, crossing))
}

/// A copy of what a node sends to a group, for a member on this host.
pub(crate) fn to_member(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    member: &Interface,
) -> Result<(PortId, Crossing), Refusal> {
    if header.live_route != 0 {
        return Err(DropReason::SourceRoute.into());
    }
    Ok((member.port, hand_over(packet, header, member, Arm::of_group(member, header.destination))?))
}

/// Gives a packet to a node of this host as it is, as far as the node takes it.
fn hand_over(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    receiver: &Interface,
    arm: Arm,
) -> Result<Crossing, Refusal> {
    let Offload { checksum, segmentation } = packet.offload();
    let ip_header = header.transport - ethernet::LENGTH;
    let (crossing, fitting) = match offload::fit(header, segmentation, ip_header, receiver.mtu) {
        Ok(fitting) => (Crossing::Whole, fitting),
        Err(_) if header.dont_fragment || segmentation.is_some() => {
            let mtu = receiver.mtu;
            return Err(Refusal::told(DropReason::PacketTooBig, Answer::TooBig { mtu }));
        }
        Err(_) => (Crossing::Cut { mtu: receiver.mtu }, None),
    };
    packet.set_offload(Offload { checksum, segmentation: fitting });

    let frame = packet.head_mut().first_chunk_mut().ok_or(DropReason::FrameTruncated)?;
    arm.frame_from(header.source).emit(frame);
    Ok(crossing)
}

/// The way to one address of a receiver, which sees packets come from the dummy MAC of their sender, or of its own gateway
/// when the sender is in another subnet.
struct Arm {
    /// The subnet that both ends may be in, as its network and mask, and its gateway, as they lie in memory. Without a subnet,
    /// or a gateway in it, all addresses are in it.
    network: u32,
    mask: u32,
    gateway: u32,
    frame: ethernet::Prepared,
}

impl Arm {
    /// The way to an address of the receiver, or to one of a network behind it.
    fn new(receiver: &Interface, destination: Ipv4Addr) -> Self {
        Self::to(receiver, receiver.by_way_of(destination), receiver.mac)
    }

    /// The way to a member of `group`, which gets it at the group's MAC.
    fn of_group(member: &Interface, group: Ipv4Addr) -> Self {
        let own = member.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        Self::to(member, own, group::mac(group))
    }

    fn to(receiver: &Interface, destination: Ipv4Addr, mac: MacAddr) -> Self {
        let subnet =
            receiver.vnet.subnet_of(destination).and_then(|subnet| Some((subnet.net, subnet.gateway?)));
        let words = subnet.map(|(net, gateway)| [net.network(), net.netmask(), gateway]);
        let word = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
        let [network, mask, gateway] = words.map_or([0; 3], |words| words.map(word));
        let (vnet, kind) = (receiver.vnet.id, ethernet::ethertype::IPV4);
        let frame = ethernet::Prepared::from_dummy(mac, vnet, destination, kind);
        Self { network, mask, gateway, frame }
    }

    /// Whose dummy MAC packets from `source` come from; both as they lie in memory.
    #[inline(always)]
    const fn sender(&self, source: u32) -> u32 {
        if (source ^ self.network) & self.mask == 0 { source } else { self.gateway }
    }

    /// The Ethernet header of packets from `source`.
    fn frame_from(&self, source: Ipv4Addr) -> ethernet::Prepared {
        self.frame.sent_by(self.sender(u32::from_ne_bytes(source.octets())))
    }
}

/// The straight line to one address of a receiver.
struct Arrow<'a> {
    receiver: &'a Interface,
    /// As it lies in memory.
    destination: u32,
    arm: Arm,
    way: PlainHop,
}

impl<'a> Arrow<'a> {
    #[inline(never)]
    fn new(receiver: &'a Interface, destination: u32, settings: &Settings) -> Self {
        let address = plain::address(destination);
        let arm = Arm::new(receiver, address);
        let way = PlainHop::new(&arm.frame, address, receiver.mtu, settings);
        Self { receiver, destination, arm, way }
    }

    #[inline(always)]
    fn is_to(&self, receiver: &Interface, destination: u32) -> bool {
        core::ptr::eq(self.receiver, receiver) && self.destination == destination
    }
}

/// From an uplink: translated to the node.
#[inline(always)]
pub(crate) fn inbound<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    pool: &impl Pool<Packet = P>,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, Inbound<'a>>,
    identifications: &Identifications,
    out: &mut impl Outbox<P>,
) {
    let settings = &uplink.snapshot.translate;
    // Packets behind each other often go to the same address.
    let mut last: Option<Arrow<'a>> = None;
    let plain = |packet: &mut P, item: &mut Inbound<'a>| {
        let (receiver, plain, front) = (item.receiver?, item.plain?, Six::of(packet)?);
        let destination = front.virtual_destination();
        if !last.as_ref().is_some_and(|last| last.is_to(receiver, destination)) {
            last = Some(Arrow::new(receiver, destination, settings));
        }
        let (arrow, source) = (last.as_ref()?, front.virtual_source());
        let change = Change::ZERO.remove(front.sum_of_locators());
        let ends = [source, arrow.arm.sender(source)];
        arrow.way.carry(packet, plain, ends, change, identifications).then_some(receiver.port)
    };
    let any = |packet: &mut P, item: &mut Inbound<'a>| {
        let receiver = item.receiver.ok_or(DropReason::DstUnknownNode)?;
        if let Some(reason) = item.rejected {
            return Err(Refusal::told(reason, Answer::Prohibited));
        }
        let arrival = item.arrival(packet);
        let arm = Arm::new(receiver, arrival.header.destination);
        Ok((receiver.port, inbound_any(uplink, packet, arrival, (receiver, arm), identifications)?))
    };
    let expected = burst.items().first().and_then(|item| Some(item.receiver?.port));
    burst.send((uplink, pool, out), expected, plain, any, |packet, item, refusal, out| {
        if item.is_fragment() {
            fragments::refused(uplink, fragments, &packet, item, refusal.reason);
        }
        if let Some(told) = refusal.answer {
            answer::to_substrate(uplink, packet, item, told, out);
        }
    });
}

/// A copy of what is for a group, translated to a member.
pub(crate) fn inbound_to_member(
    uplink: &FromUplink<'_>,
    packet: &mut impl Packet,
    arrival: &Arrival,
    member: &Interface,
    identifications: &Identifications,
) -> Result<Crossing, Refusal> {
    let arm = Arm::of_group(member, arrival.header.destination);
    inbound_any(uplink, packet, arrival, (member, arm), identifications)
}

/// Any packet, translated to the node.
#[inline(never)]
fn inbound_any(
    uplink: &FromUplink<'_>,
    packet: &mut impl Packet,
    arrival: &Arrival,
    (receiver, arm): (&Interface, Arm),
    identifications: &Identifications,
) -> Result<Crossing, Refusal> {
    let settings = &uplink.snapshot.translate;
    let Arrival { header, source, destination, .. } = arrival;
    let way_back = if settings.clamp_tcp_mss { way_back(uplink, *source) } else { u16::MAX };
    let frame = arm.frame_from(header.source);
    let hop = LastHop { frame, mtu: receiver.mtu, way_back, uplink_mtu: uplink.uplink.mtu };
    // What a pseudo-header loses: what is in front of the virtual addresses in both substrate addresses.
    let change = if arrival.external {
        refuse_part(header, protocol::ICMPV6)?;
        let old = whole(&source.octets(), &destination.octets());
        whole(&header.source.octets(), &header.destination.octets()).remove(old.fold())
    } else {
        Change::ZERO.remove(checksum::sum_of_fronts([&source.octets(), &destination.octets()]))
    };
    let ends = FormerEnds { source: *source, destination: *destination, change };
    let quoted = quote::Inbound { externals: &receiver.vnet.externals };
    six_to_four(packet, header, &ends, &hop, settings, &quoted, identifications)
}

/// What the way back to a sender on the substrate carries, as far as it is known.
#[cold]
#[inline(never)]
fn way_back(uplink: &FromUplink<'_>, source: Ipv6Addr) -> u16 {
    let host = uplink.snapshot.layout.decode(source).map(|sender| sender.prefix);
    let path = host.ok().and_then(|host| uplink.snapshot.path_mtus.of(host));
    path.map_or(uplink.uplink.mtu, |path| path.min(uplink.uplink.mtu))
}
