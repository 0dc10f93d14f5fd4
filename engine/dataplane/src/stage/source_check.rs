//! From a node: a packet must come from one of the interface's own addresses.

use super::FromNode;
use crate::drop::DropReason;
use crate::failure::Claim;
use core::net::Ipv4Addr;

/// Refuses addresses that are not the interface's; the MAC has been checked for every kind of frame, and the port is
/// the attachment.
pub(crate) fn check(node: &FromNode<'_>, source: Ipv4Addr) -> Result<(), DropReason> {
    if node.interface.owns(source) {
        return Ok(());
    }
    // Who has no address yet claims nobody's.
    if !source.is_unspecified() {
        node.note(DropReason::SrcIpv4Spoofed, Claim::Ipv4(source));
    }
    Err(DropReason::SrcIpv4Spoofed)
}
