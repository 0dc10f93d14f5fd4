//! From a node: the frame's destination MAC names the next hop, which must be one for the packet's destination.

use super::{FromNode, Path, routed};
use crate::drop::DropReason;
use crate::header::NetworkHeader;
use crate::mac::MacAddr;
use crate::packet::Packet;
use crate::snapshot::Way;
use crate::table::mapping::{FoundMapping, MappingKey, State};
use core::net::Ipv4Addr;

/// What a frame's destination MAC says of the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NextHop {
    /// Which kind of way it is.
    pub(crate) path: Path,
    /// Whose mapping says where it goes: the destination's, or its router's. To an external the sender's own, which says nothing.
    pub(crate) key: MappingKey,
}

/// Refuses MACs that engines never gave out, and next hops that provisioning does not make routers for the destination.
pub(crate) fn check(
    node: &FromNode<'_>,
    packet: &mut impl Packet,
    mac: MacAddr,
    header: &NetworkHeader,
) -> Result<NextHop, DropReason> {
    let (vnet, destination) = (&node.interface.vnet, header.destination);
    let next_hop = mac.dummy_ipv4(vnet.id).ok_or(DropReason::UnknownDstMac)?;
    let by = |path, vnet, address| Ok(NextHop { path, key: MappingKey::new(vnet, address) });
    let direct = Path::default();
    if next_hop == destination {
        return by(direct, vnet.id, destination);
    }
    if !vnet.is_gateway(next_hop) {
        if !vnet.next_hops(destination).contains(&next_hop) {
            return Err(DropReason::NextHopNotRouter);
        }
        if node.interface.owns(next_hop) {
            return Err(DropReason::RouteLoop);
        }
        return by(Path { behind: true, ..direct }, vnet.id, next_hop);
    }
    let routed = Path { routed: true, ..direct };
    match vnet.route(destination) {
        Way::To(other) => by(routed, other, destination),
        Way::By(route) => {
            let router = routed::next_hop(node, packet, header, route)?;
            by(Path { behind: true, ..routed }, vnet.id, router)
        }
        Way::Out => by(Path { external: true, ..routed }, vnet.id, node.interface.by_way_of(header.source)),
    }
}

/// Refuses destinations that the look-up did not find alive.
#[inline(always)]
pub(crate) fn reachable(
    node: &FromNode<'_>,
    destination: Ipv4Addr,
    mapping: Option<FoundMapping<'_>>,
) -> Result<(), DropReason> {
    match mapping {
        Some(mapping) if mapping.value().state.is_live() => Ok(()),
        Some(mapping) => Err(not_live(mapping.value().state)),
        None => Err(missing(node, destination)),
    }
}

#[cold]
fn not_live(state: State) -> DropReason {
    if state == State::Gone { DropReason::DstTerminated } else { DropReason::DstNotLive }
}

#[cold]
fn missing(node: &FromNode<'_>, destination: Ipv4Addr) -> DropReason {
    let gateway = node.interface.vnet.is_gateway(destination);
    if gateway { DropReason::GatewayItself } else { DropReason::NoMapping }
}
