//! From a node: the frame's destination MAC names the next hop, which must be one for the packet's destination.

use super::FromNode;
use crate::drop::DropReason;
use crate::id::VnetId;
use crate::mac::MacAddr;
use crate::table::mapping::{FoundMapping, State};
use core::net::Ipv4Addr;

/// What a frame's destination MAC says of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextHop {
    /// Whether the packet is sent to a gateway.
    pub(crate) routed: bool,
    /// The vnet that the packet's destination is in.
    pub(crate) vnet: VnetId,
}

/// Refuses MACs that engines never gave out, and next hops that provisioning does not make routers.
pub(crate) fn check(node: &FromNode<'_>, mac: MacAddr, destination: Ipv4Addr) -> Result<NextHop, DropReason> {
    let vnet = &node.interface.vnet;
    let next_hop = mac.dummy_ipv4(vnet.id).ok_or(DropReason::UnknownDstMac)?;
    if next_hop == destination {
        return Ok(NextHop { routed: false, vnet: vnet.id });
    }
    if !vnet.is_gateway(next_hop) {
        return Err(DropReason::NextHopNotRouter);
    }
    Ok(NextHop { routed: true, vnet: vnet.route(destination) })
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
