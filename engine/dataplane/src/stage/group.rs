//! Broadcast and multicast: what is sent to more than one is copied, once for each member on this host and once for each other
//! host that has members. Nobody gets a copy of their own, and nobody two.
//!
//! These packets leave the line of the others: rules judge each copy by itself, no flow is kept of them, and nobody is told by
//! ICMP what becomes of them (RFC 1122, 3.2.2).

use super::{Arrival, Burst, FromNode, FromUplink, Inbound, Known, Place, deliver, passage};
use crate::address::{HostPrefix, Layout, SubstrateAddress};
use crate::counters::Drops;
use crate::drop::DropReason;
use crate::fragment;
use crate::group::{self, Group};
use crate::header::{NetworkHeader, contiguous};
use crate::id::{PortId, Slot, VnetId};
use crate::limit::TokenBucket;
use crate::mac::MacAddr;
use crate::packet::{Packet, Pool};
use crate::pipeline::{BURST, Outbox};
use crate::policy::{End, Passage, judge};
use crate::refusal::Refusal;
use crate::snapshot::{HostSnapshot, Interface, Vnet};
use crate::translate::{Crossing, Identifications};
use crate::wire::{igmp, protocol};
use arrayvec::ArrayVec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

/// What a packet that must not be forwarded beyond its link has on the substrate, so that it gets there: the routers between
/// two hosts are none of the vnet's.
const HOPS_OF_LINK: u8 = 64;

/// In layouts with slots the slot of a group's address says how far its packets may go: as far as their TTL says.
const AS_FAR_AS_IT_GOES: Slot = Slot::ZERO;
/// Or no further than the link.
const NO_FURTHER: Slot = match Slot::new(1) {
    Ok(slot) => slot,
    Err(_) => Slot::ZERO,
};

/// Whether a packet from a node is for a group, and carried: one to a group's MAC, and to that group.
///
/// # Errors
/// Why it goes nowhere.
pub(crate) fn is_for(node: &FromNode<'_>, mac: MacAddr, destination: Ipv4Addr) -> Result<bool, DropReason> {
    let vnet = &node.interface.vnet;
    let named = destination.is_multicast() || destination.is_broadcast();
    if !mac.is_group() {
        return if named { Err(DropReason::UnknownDstMac) } else { Ok(false) };
    }
    if !named && !is_subnet_broadcast(vnet, destination) || mac != group::mac(destination) {
        return Err(DropReason::UnknownDstMac);
    }
    Ok(true)
}

pub(crate) fn is_subnet_broadcast(vnet: &Vnet, destination: Ipv4Addr) -> bool {
    vnet.subnet_of(destination)
        .is_some_and(|subnet| subnet.net.prefix_len() < 31 && subnet.net.broadcast() == destination)
}

/// Whether a packet from the substrate is for a group, by its address.
pub(crate) fn is_from_substrate(snapshot: &HostSnapshot, fields: &SubstrateAddress) -> bool {
    use crate::address::Delivery::{Group, Owner, Slot};
    match fields.delivery {
        Group => true,
        // Layouts without flags have no other way to say it.
        Owner if !snapshot.layout.has_slots() => {
            snapshot.vnet(fields.vnet).is_some_and(|vnet| is_subnet_broadcast(vnet, fields.ipv4))
        }
        Owner | Slot => false,
    }
}

/// A member here of the group that a packet from the substrate is for: in its name the source is verified.
///
/// # Errors
/// If there are none, or the address is none of a group.
pub(crate) fn receiver<'a>(
    uplink: &FromUplink<'a>,
    fields: &SubstrateAddress,
) -> Result<&'a Interface, DropReason> {
    let vnet = uplink.snapshot.vnet(fields.vnet).ok_or(DropReason::GroupNoMembers)?;
    let destination = fields.ipv4;
    let is_group =
        destination.is_multicast() || destination.is_broadcast() || is_subnet_broadcast(vnet, destination);
    if !is_group || fields.slot != AS_FAR_AS_IT_GOES && fields.slot != NO_FURTHER {
        return Err(DropReason::DstAddressInvalid);
    }
    let group = carried(uplink.snapshot, vnet, destination)?;
    if vnet.groups.confines(destination) {
        return Err(DropReason::GroupConfined);
    }
    let member = group.members.iter().find_map(|member| uplink.snapshot.node(member.port));
    member.map(AsRef::as_ref).ok_or(DropReason::GroupNoMembers)
}

/// Who hears what is sent to `destination`.
fn carried<'a>(
    snapshot: &'a HostSnapshot,
    vnet: &Vnet,
    destination: Ipv4Addr,
) -> Result<&'a Group, DropReason> {
    if !destination.is_multicast() && !vnet.groups.broadcast {
        return Err(DropReason::BroadcastOff);
    }
    snapshot.groups.get(vnet.id, destination).ok_or(DropReason::GroupNoMembers)
}

/// From a node: copies for all that hear it. IGMP goes to the control thread.
#[cold]
#[inline(never)]
pub(crate) fn outbound<P: Packet>(
    node: &FromNode<'_>,
    pool: &impl Pool<Packet = P>,
    packets: &mut ArrayVec<(P, NetworkHeader), BURST>,
    out: &mut impl Outbox<P>,
) {
    let departure = deliver::Departure::new(node);
    // A trace is no worker and has no limit.
    let limit = node.interface.group_limit.get(node.worker).map(|limits| (&limits.copies, node.clock.now()));
    let copies = Copies { pool, drops: &node.traffic.drops, limit };
    for (packet, header) in packets.drain(..) {
        let done = if header.protocol == protocol::IGMP {
            membership(node, packet, &header, out)
        } else {
            send(&departure, &copies, packet, &header, out)
        };
        if let Err(reason) = done {
            node.traffic.drops.count(reason);
        }
    }
}

/// Hands over what a node says of its memberships, if it says anything.
fn membership<P: Packet>(
    node: &FromNode<'_>,
    mut packet: P,
    header: &NetworkHeader,
    out: &mut impl Outbox<P>,
) -> Result<(), DropReason> {
    if header.fragment.is_some() {
        return Err(DropReason::IgmpMalformed);
    }
    let end = header.transport + usize::from(header.payload);
    contiguous(&mut packet, end)?;
    let bytes = packet.head().get(header.transport..end).unwrap_or(&[]);
    match igmp::Message::new_checked(bytes).map_err(|_| DropReason::IgmpMalformed)? {
        // The engine is the only one that asks.
        igmp::Message::Query => return Err(DropReason::IgmpQuery),
        igmp::Message::Join(_) | igmp::Message::Leave(_) | igmp::Message::Report(_) => {}
    }
    let limits = node.interface.group_limit.get(node.worker);
    if limits.is_some_and(|limits| !limits.messages.take(node.clock.now())) {
        return Err(DropReason::IgmpLimited);
    }
    out.punt(node.interface.port, packet);
    Ok(())
}

/// Copies what a node sends. Once one copy is on its way, the packet itself is not dropped; copies that are not made are
/// counted, each.
fn send<P: Packet>(
    departure: &deliver::Departure<'_>,
    copies: &Copies<'_, impl Pool<Packet = P>>,
    mut packet: P,
    header: &NetworkHeader,
    out: &mut impl Outbox<P>,
) -> Result<(), DropReason> {
    let FromNode { snapshot, interface: own, .. } = *departure.node;
    let vnet = &own.vnet;
    let group = carried(snapshot, vnet, header.destination)?;
    let confined = vnet.groups.confines(header.destination);
    let hosts = group.hosts.iter().filter(|host| !confined && Some(**host) != snapshot.prefix);
    let mut hosts = hosts.copied().peekable();
    let members = group.members.iter().filter(|member| member.port != own.port);
    let members = members.filter(|member| member.filter.wants(header.source));
    let mut heard = false;
    let end = |interface| End { vnet: vnet.id, address: header.destination, interface };
    let mut way = None;
    if snapshot.stateful {
        let from = End { vnet: vnet.id, address: header.source, interface: Some(own) };
        way = Some(passage::to_group(&mut packet, header, protocol::ICMP, (from, end(None)))?);
    }
    for receiver in members.filter_map(|member| snapshot.node(member.port)) {
        heard = true;
        copies.send(&packet, out, |copy| {
            may_pass(snapshot, way.map(|way| Passage { to: end(Some(receiver)), ..way }))?;
            deliver::to_member(copy, header, receiver)
        });
    }
    if hosts.peek().is_some() {
        heard = true;
        // What the sender's rules forbid is forbidden for all.
        may_pass(snapshot, way)?;
        let no_further = group::is_of_link(header.destination) || header.ttl <= 1;
        let header = if no_further { NetworkHeader { ttl: HOPS_OF_LINK + 1, ..*header } } else { *header };
        for host in hosts {
            copies.send(&packet, out, |copy| {
                let destination = address(snapshot.layout, host, vnet.id, (header.destination, no_further))?;
                departure.to_group(copy, &header, (host, destination))
            });
        }
    }
    if heard { Ok(()) } else { Err(DropReason::GroupNoMembers) }
}

/// The substrate address of a group's members on a host.
fn address(
    layout: Layout,
    prefix: HostPrefix,
    vnet: VnetId,
    (ipv4, no_further): (Ipv4Addr, bool),
) -> Result<Ipv6Addr, DropReason> {
    use crate::address::Delivery::{Group, Owner};
    let is_group = layout.has_slots() || ipv4.is_multicast() || ipv4.is_broadcast();
    let slot = if layout.has_slots() && no_further { NO_FURTHER } else { AS_FAR_AS_IT_GOES };
    let delivery = if is_group { Group } else { Owner };
    let fields = SubstrateAddress { prefix, slot, delivery, vnet, ipv4 };
    // Only a host of another layout has none.
    layout.encode(&fields).map_err(|_| DropReason::GroupNoMembers)
}

/// What rules say of a copy; nothing, where there are none.
fn may_pass(snapshot: &HostSnapshot, way: Option<Passage<'_>>) -> Result<(), DropReason> {
    way.map_or(Ok(()), |way| judge(snapshot, &way).verdict)
}

/// Makes copies.
struct Copies<'c, K> {
    pool: &'c K,
    drops: &'c Drops,
    /// How many may be made, if that is limited, and when the burst came.
    limit: Option<(&'c TokenBucket, Duration)>,
}

impl<K: Pool> Copies<'_, K> {
    /// One more copy, which `make` makes what it is to leave as, and which leaves; or it is counted why it does not.
    fn send(
        &self,
        packet: &K::Packet,
        out: &mut impl Outbox<K::Packet>,
        make: impl FnOnce(&mut K::Packet) -> Result<(PortId, Crossing), Refusal>,
    ) {
        let sent = || {
            if self.limit.is_some_and(|(limit, now)| !limit.take(now)) {
                return Err(DropReason::GroupLimited);
            }
            let mut copy = self.pool.duplicate(packet).ok_or(DropReason::NoBuffer)?;
            let (port, crossing) = make(&mut copy).map_err(|refusal| refusal.reason)?;
            match crossing {
                Crossing::Whole => out.transmit(port, copy),
                Crossing::Cut { mtu } => {
                    fragment::cut(self.pool, copy, mtu, |part| out.transmit(port, part))?
                }
            }
            Ok(())
        };
        if let Err(reason) = sent() {
            self.drops.count(reason);
        }
    }
}

/// From the substrate: takes what is for groups out of the burst, and copies it for the members on this host.
#[cold]
#[inline(never)]
pub(crate) fn inbound<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    pool: &impl Pool<Packet = P>,
    identifications: &Identifications,
    burst: &mut Burst<P, Inbound<'a>>,
    out: &mut impl Outbox<P>,
) {
    for (packet, mut item) in core::mem::replace(burst, Burst::new()) {
        if !item.is_for_group() {
            burst.push(packet, item);
            continue;
        }
        let drops = uplink.drops(&item);
        if let Err(reason) = receive(uplink, pool, identifications, packet, &mut item, out) {
            drops.count(reason);
        }
    }
}

fn receive<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    pool: &impl Pool<Packet = P>,
    identifications: &Identifications,
    mut packet: P,
    item: &mut Inbound<'a>,
    out: &mut impl Outbox<P>,
) -> Result<(), DropReason> {
    let snapshot = uplink.snapshot;
    let Arrival { header, source, source_vnet, destination, destination_vnet, .. } = *item.arrival(&packet);
    // Members only are let speak to it.
    if source_vnet != destination_vnet {
        return Err(DropReason::VnetMismatch);
    }
    let vnet = snapshot.vnet(destination_vnet).ok_or(DropReason::GroupNoMembers)?;
    let group = carried(snapshot, vnet, header.destination)?;
    let slot = snapshot.layout.decode(destination).map_or(AS_FAR_AS_IT_GOES, |fields| fields.slot);
    let no_further = group::is_of_link(header.destination) || slot == NO_FURTHER;
    // Translation takes one off.
    let header = if no_further { NetworkHeader { ttl: 2, ..header } } else { header };
    let arrival = Arrival {
        header,
        source,
        source_vnet,
        destination,
        destination_vnet,
        not_a_node: None,
        group: true,
        behind: false,
        external: false,
    };
    let end = |address, interface| End { vnet: vnet.id, address, interface };
    let mut way = None;
    if snapshot.stateful {
        let ends = (end(header.source, None), end(header.destination, None));
        way = Some(passage::to_group(&mut packet, &header, protocol::ICMPV6, ends)?);
    }
    let copies = Copies { pool, drops: uplink.drops(item), limit: None };
    let mut heard = false;
    let members = group.members.iter().filter(|member| member.filter.wants(header.source));
    for receiver in members.filter_map(|member| snapshot.node(member.port)) {
        heard = true;
        copies.send(&packet, out, |copy| {
            may_pass(
                snapshot,
                way.map(|way| Passage { to: end(header.destination, Some(receiver)), ..way }),
            )?;
            let crossing = deliver::inbound_to_member(uplink, copy, &arrival, receiver, identifications)?;
            Ok((receiver.port, crossing))
        });
    }
    if heard { Ok(()) } else { Err(DropReason::GroupNoMembers) }
}
