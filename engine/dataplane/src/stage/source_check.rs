//! From a node: a packet must come from one of the interface's own addresses.

use super::{Burst, FromNode, Outbound};
use crate::drop::DropReason;

/// Refuses addresses that are not the interface's; the MAC has been checked for every kind of frame, and the port is
/// the attachment.
#[inline]
pub(crate) fn run<P>(node: &FromNode<'_>, burst: &mut Burst<Outbound<'_, P>>) {
    burst.each(node, |item| {
        let own = node.interface.addresses.contains(&item.header.source);
        if own { Ok(()) } else { Err(DropReason::SrcIpv4Spoofed) }
    });
}
