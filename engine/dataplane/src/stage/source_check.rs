//! From a node: a packet must come from one of the interface's own addresses, or from a network that it may send from.

use super::FromNode;
use crate::drop::DropReason;
use crate::failure::Claim;
use core::net::Ipv4Addr;

/// Whose a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The interface's own.
    Own,
    /// A network's behind it, or one that it is granted transit for.
    Routed,
}

/// Refuses addresses that are not the interface's, nor of a network that it may send from; the MAC has been checked for every
/// kind of frame, and the port is the attachment.
pub(crate) fn check(node: &FromNode<'_>, source: Ipv4Addr) -> Result<Origin, DropReason> {
    if node.interface.owns(source) {
        return Ok(Origin::Own);
    }
    if node.interface.speaks_for(source) {
        return Ok(Origin::Routed);
    }
    refuse(node, source)
}

/// Refuses addresses that are not the interface's own.
pub(crate) fn own(node: &FromNode<'_>, source: Ipv4Addr) -> Result<(), DropReason> {
    if node.interface.owns(source) { Ok(()) } else { refuse(node, source) }
}

#[cold]
fn refuse<T>(node: &FromNode<'_>, source: Ipv4Addr) -> Result<T, DropReason> {
    // Who has no address yet claims nobody's.
    if !source.is_unspecified() {
        node.note(DropReason::SrcIpv4Spoofed, Claim::Ipv4(source));
    }
    Err(DropReason::SrcIpv4Spoofed)
}
