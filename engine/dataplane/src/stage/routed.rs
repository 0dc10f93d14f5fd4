//! Networks behind routers: which router a packet for one takes, and which one an address of one is behind.

use super::passage::transport;
use super::verify_source::lives_at;
use super::{Arrival, FromNode, FromUplink};
use crate::drop::DropReason;
use crate::header::NetworkHeader;
use crate::packet::Packet;
use crate::policy::has_ports;
use crate::route::Route;
use crate::snapshot::{Interface, Vnet};
use crate::table::mapping::{Hasher, MappingKey};
use core::net::{Ipv4Addr, Ipv6Addr};

/// The router that a node's packet takes, of those that its destination is behind: one that is live and not silent, if there is
/// one. Packets of a flow take the same one for as long as it is; when it goes, the flows of the others stay where they are.
pub(crate) fn next_hop(
    node: &FromNode<'_>,
    packet: &mut impl Packet,
    header: &NetworkHeader,
    route: &Route,
) -> Result<Ipv4Addr, DropReason> {
    let others = || route.via.iter().copied().filter(|router| !node.interface.owns(*router));
    if let [only] = &route.via[..] {
        return others().next().map_or(Err(DropReason::RouteLoop), |_| Ok(*only));
    }
    let flow = flow(packet, header)?;
    let weight = |router: &Ipv4Addr| Hasher::new([0; 2]).hash_two([flow, u64::from(router.to_bits())]);
    let live = |router: &Ipv4Addr| {
        let vnet = &node.interface.vnet;
        let mapping = node.table.lookup(node.reader, MappingKey::new(vnet.id, *router));
        mapping.map_or(vnet.on_demand, |mapping| mapping.state.is_live())
    };
    // The best are live and answer, the next best are live.
    let rank = |router: &Ipv4Addr| match (live(router), route.silent.contains(router)) {
        (true, false) => 2,
        (true, true) => 1,
        (false, _) => 0,
    };
    let chosen = others().max_by_key(|router| (rank(router), weight(router)));
    chosen.ok_or(DropReason::RouteLoop)
}

/// What the packets of a flow that goes one way have in common; those of a datagram in fragments have no ports.
fn flow(packet: &mut impl Packet, header: &NetworkHeader) -> Result<u64, DropReason> {
    let ports = if has_ports(header.protocol) && header.fragment.is_none() {
        u32::from_be_bytes(*transport(packet, header)?)
    } else {
        0
    };
    let ends = u64::from(header.source.to_bits()) << 32 | u64::from(header.destination.to_bits());
    Ok(Hasher::new([0; 2]).hash_two([ends, u64::from(header.protocol) << 32 | u64::from(ports)]))
}

/// In layouts without flags: the interface of this host that routes the destination of a packet from the substrate.
pub(crate) fn receiver<'a>(
    uplink: &FromUplink<'a>,
    packet: &mut impl Packet,
    arrival: &Arrival,
) -> Option<&'a Interface> {
    let (snapshot, header) = (uplink.snapshot, &arrival.header);
    let vnet = snapshot.vnet(arrival.destination_vnet)?;
    let routers = vnet.next_hops(header.destination);
    let flow = if routers.is_empty() { return None } else { flow(packet, header).ok()? };
    let here = routers.iter().filter_map(|router| {
        let mapping = uplink.table.lookup(uplink.reader, MappingKey::new(vnet.id, *router))?;
        Some((router, snapshot.node(mapping.local?)?))
    });
    let weight = |router: &Ipv4Addr| Hasher::new([0; 2]).hash_two([flow, u64::from(router.to_bits())]);
    here.max_by_key(|(router, _)| weight(router)).map(|(_, interface)| interface.as_ref())
}

/// The router that the source of a packet is behind, if it is behind one and `receiver`'s network knows it.
///
/// # Errors
/// If its address says so, and nobody there is a router for it.
pub(crate) fn source(
    uplink: &FromUplink<'_>,
    arrival: &mut Arrival,
    receiver: Option<&Interface>,
) -> Result<Option<MappingKey>, DropReason> {
    let Some(vnet) = receiver.map(|receiver| &*receiver.vnet) else { return Ok(None) };
    let address = arrival.header.source;
    if uplink.snapshot.layout.has_slots() {
        return match arrival.behind {
            false => Ok(None),
            true => router(uplink, vnet, vnet.routers_of(address), arrival.source)
                .map_or(Err(DropReason::SrcNotRouted), |key| Ok(Some(key))),
        };
    }
    // Where no flag says it, an address is behind a router if it is not simply where it lives itself.
    if vnet.routes.is_empty() || vnet.id != arrival.source_vnet || arrival.group {
        return Ok(None);
    }
    let own = uplink.table.lookup(uplink.reader, MappingKey::new(vnet.id, address));
    if own.is_some_and(|own| lives_at(uplink.snapshot.layout, &own, arrival.source, false)) {
        return Ok(None);
    }
    let key = router(uplink, vnet, vnet.routers_of(address), arrival.source);
    arrival.behind = key.is_some();
    Ok(key)
}

/// Of some routers the one that lives where `address` says it is; of those that are not known here the first, which is to be
/// resolved; or any.
pub(crate) fn router(
    uplink: &FromUplink<'_>,
    vnet: &Vnet,
    routers: impl Iterator<Item = Ipv4Addr>,
    address: Ipv6Addr,
) -> Option<MappingKey> {
    let (mut any, mut unknown) = (None, None);
    for router in routers {
        let key = MappingKey::new(vnet.id, router);
        match uplink.table.lookup(uplink.reader, key) {
            Some(mapping) if lives_at(uplink.snapshot.layout, &mapping, address, true) => return Some(key),
            Some(_) => any = any.or(Some(key)),
            None => unknown = unknown.or(Some(key)),
        }
    }
    if vnet.on_demand { unknown.or(any) } else { any.or(unknown) }
}
