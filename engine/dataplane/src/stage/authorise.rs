//! Who may talk to whom. Both directions ask here; rules and peerings between vnets find their place in [`verdict`].

use super::{Burst, FromNode, FromUplink, Inbound, Outbound};
use crate::drop::DropReason;
use crate::id::VnetId;

/// The default: within a vnet everything may pass, between vnets nothing.
#[inline]
pub(crate) fn verdict(source: VnetId, destination: VnetId) -> Result<(), DropReason> {
    if source == destination { Ok(()) } else { Err(DropReason::VnetMismatch) }
}

/// A node's packets, to the vnet that their mapping was found in.
#[inline]
pub(crate) fn outbound<P>(node: &FromNode<'_>, burst: &mut Burst<Outbound<'_, P>>) {
    let vnet = node.interface.vnet.id;
    burst.each(node, |_| verdict(vnet, vnet));
}

/// The substrate's packets, from the vnet in their verified source to the one in their destination.
#[inline]
pub(crate) fn inbound<'a, P>(uplink: &FromUplink<'a>, burst: &mut Burst<Inbound<'a, P>>) {
    burst.each(uplink, |item| verdict(item.source_vnet, item.destination_vnet));
}
