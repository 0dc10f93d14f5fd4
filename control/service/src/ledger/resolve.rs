//! Authorised resolution: one mapping, for one of the asking engine's own live interfaces.

use super::delta::mapping;
use super::record::{InterfaceRecord, NetworkRecord, in_vnet, load, load_id, revision};
use super::{judge, peering};
use crate::error::Result;
use crate::store::{Table, View};
use overlane_api::resource::InterfaceState;
use overlane_api::sync::{Refusal, RefusalReason, ResolveRequest, resolve_response::Outcome};
use overlane_dataplane::address::Layout;
use std::net::Ipv4Addr;

/// An answer, and what it is true for.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// The mapping, or why it is not told.
    pub outcome: Outcome,
    /// The revision that it is true for.
    pub revision: u64,
    /// The change that last touched the mapping; 0 without one.
    pub mapping_revision: u64,
}

/// Answers the engine of `host`.
///
/// # Errors
/// [`Error::Store`](crate::error::Error::Store).
pub fn resolve(view: &dyn View, layout: Layout, host: &str, asked: &ResolveRequest) -> Result<Resolution> {
    let revision = revision(view)?;
    let refuse = |reason: RefusalReason, detail: String| {
        let outcome = Outcome::Refusal(Refusal { reason: reason.into(), detail });
        Ok(Resolution { outcome, revision, mapping_revision: 0 })
    };
    let asker: Option<InterfaceRecord> = load(view, Table::Interfaces, &asked.interface_id)?;
    // One of somebody else's and one that does not exist look the same from outside.
    let Some((asker, place)) = asker.as_ref().and_then(|asker| Some((asker, asker.place_on(host)?))) else {
        let detail = format!("host {host} has no such interface");
        return refuse(RefusalReason::NotYourInterface, detail);
    };
    if place.state != InterfaceState::Live {
        let detail = format!("interface {} is {}, not live", asked.interface_id, place.state);
        return refuse(RefusalReason::InterfaceNotLive, detail);
    }
    let is_peer = |(_, other): &(_, NetworkRecord)| other.vnet == asked.vnet;
    if asker.vnet != asked.vnet && !peering::of_network(view, &asker.network)?.iter().any(is_peer) {
        let (id, vnet) = (&asked.interface_id, asked.vnet);
        let detail = format!("interface {id} is in vnet {}, not in {vnet} nor a peer of it", asker.vnet);
        return refuse(RefusalReason::NotAMember, detail);
    }
    let target = Ipv4Addr::from_bits(asked.target);
    let owner = load_id(view, Table::Addresses, &in_vnet(asked.vnet, &target.octets()))?;
    let owner = owner.map(|id| load::<InterfaceRecord>(view, Table::Interfaces, &id)).transpose()?.flatten();
    match owner {
        // Whoever may have to do with what is behind a router has to know where it is; rules judge what passes.
        Some(owner)
            if (owner.router() != Some(target) || asker.vnet != owner.vnet)
                && !judge::may_talk(view, asker, (&owner, target))? =>
        {
            let detail = format!("no rule lets {} and {target} exchange anything", asked.interface_id);
            refuse(RefusalReason::Forbidden, detail)
        }
        Some(owner) => Ok(Resolution {
            outcome: Outcome::Mapping(mapping(view, layout, target, &owner)?),
            revision,
            mapping_revision: owner.revision,
        }),
        None => refuse(RefusalReason::UnknownTarget, format!("nobody has {target} in vnet {}", asked.vnet)),
    }
}
