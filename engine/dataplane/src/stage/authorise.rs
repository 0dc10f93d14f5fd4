//! What may pass without being looked at closely. Interfaces with rules are [tracked](Interface::is_tracked): what they send
//! and get is judged by [`super::flow`], which knows replies.

use crate::drop::DropReason;
use crate::id::VnetId;
use crate::policy::{Action, Policy};
use crate::snapshot::{HostSnapshot, Interface};
use core::net::Ipv4Addr;

/// Of an interface without rules: within its vnet everything may pass, to and from a peer what the peering says, and nothing
/// else.
#[cold]
#[inline(never)]
pub(crate) fn verdict(own: Option<&Interface>, other: VnetId) -> Result<(), DropReason> {
    let own = own.ok_or(DropReason::VnetMismatch)?;
    if own.vnet.id == other {
        return Ok(());
    }
    let default = own.vnet.peering(other).map(|peering| peering.default_action);
    match default {
        None => Err(DropReason::VnetMismatch),
        Some(Action::Allow) => Ok(()),
        Some(Action::Deny | Action::Reject) if own.is_tracked() => Ok(()),
        Some(Action::Deny | Action::Reject) => Err(DropReason::DefaultDenied),
    }
}

/// Whether an interface and an address in its own vnet may have anything to say to each other, in whichever direction.
pub(crate) fn may_talk(snapshot: &HostSnapshot, own: &Interface, address: Ipv4Addr) -> bool {
    let default = own.vnet.default_action == Action::Allow;
    let Some(Policy { egress, ingress }) = own.policy.as_deref() else { return default };
    let peer = (own.vnet.id, address);
    let tags = snapshot.peers.tags(peer);
    [egress, ingress].into_iter().any(|rules| rules.lets_anything_pass(peer, tags, default))
}
