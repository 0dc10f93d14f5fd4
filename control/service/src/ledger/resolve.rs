//! Authorised resolution: one mapping, for one of the asking engine's own live interfaces.

use super::delta::mapping;
use super::judge;
use super::record::{InterfaceRecord, in_vnet, load, load_id, revision};
use crate::error::Result;
use crate::store::{Table, View};
use overlane_api::resource::InterfaceState;
use overlane_api::sync::{Refusal, RefusalReason, ResolveRequest, resolve_response::Outcome};
use overlane_dataplane::address::Layout;
use std::net::Ipv4Addr;

/// Answers the engine of `host`; with the revision that the answer is true for.
///
/// # Errors
/// [`Error::Store`](crate::error::Error::Store).
pub fn resolve(
    view: &dyn View,
    layout: Layout,
    host: &str,
    asked: &ResolveRequest,
) -> Result<(Outcome, u64)> {
    let revision = revision(view)?;
    let refuse = |reason: RefusalReason, detail: String| {
        Ok((Outcome::Refusal(Refusal { reason: reason.into(), detail }), revision))
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
    if asker.vnet != asked.vnet {
        let detail =
            format!("interface {} is in vnet {}, not in {}", asked.interface_id, asker.vnet, asked.vnet);
        return refuse(RefusalReason::NotAMember, detail);
    }
    let target = Ipv4Addr::from_bits(asked.target);
    let owner = load_id(view, Table::Addresses, &in_vnet(asked.vnet, &target.octets()))?;
    let owner = owner.map(|id| load::<InterfaceRecord>(view, Table::Interfaces, &id)).transpose()?.flatten();
    match owner {
        Some(owner) if !judge::may_talk(view, asker, (&owner, target))? => {
            let detail = format!("no rule lets {} and {target} exchange anything", asked.interface_id);
            refuse(RefusalReason::Forbidden, detail)
        }
        Some(owner) => Ok((Outcome::Mapping(mapping(view, layout, target, &owner)?), revision)),
        None => refuse(RefusalReason::UnknownTarget, format!("nobody has {target} in vnet {}", asked.vnet)),
    }
}
