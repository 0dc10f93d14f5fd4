//! Who may talk to whom. Both directions ask here; rules and peerings between vnets find their place in [`verdict`].

use crate::drop::DropReason;
use crate::id::VnetId;

/// The default: within a vnet everything may pass, between vnets nothing.
#[inline(always)]
pub(crate) fn verdict(source: VnetId, destination: VnetId) -> Result<(), DropReason> {
    if source == destination { Ok(()) } else { Err(DropReason::VnetMismatch) }
}
