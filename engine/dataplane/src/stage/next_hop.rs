//! From a node: the frame's destination MAC names the next hop, which must be one for the packet's destination.

use super::{Burst, FromNode, Outbound};
use crate::drop::DropReason;

/// Refuses MACs that engines never gave out, and next hops that provisioning does not make routers.
#[inline]
pub(crate) fn run<P>(node: &FromNode<'_>, burst: &mut Burst<Outbound<'_, P>>) {
    let vnet = &node.interface.vnet;
    burst.each(node, |item| {
        let (mac, destination) = (item.frame_destination, item.header.destination);
        if mac.is_group() || destination.is_multicast() || destination.is_broadcast() {
            return Err(DropReason::GroupNoMembers);
        }
        let next_hop = mac.dummy_ipv4(vnet.id).ok_or(DropReason::UnknownDstMac)?;
        if next_hop != destination {
            if !vnet.is_gateway(next_hop) {
                return Err(DropReason::NextHopNotRouter);
            }
            item.routed = true;
        }
        Ok(())
    });
}

/// Refuses destinations that the look-up did not find alive.
#[inline]
pub(crate) fn reachable<P>(node: &FromNode<'_>, burst: &mut Burst<Outbound<'_, P>>) {
    burst.each(node, |item| match item.mapping {
        Some(mapping) if mapping.live => Ok(()),
        Some(_) => Err(DropReason::DstNotLive),
        None if node.interface.vnet.is_gateway(item.header.destination) => Err(DropReason::GatewayItself),
        None => Err(DropReason::NoMapping),
    });
}
