//! Broadcast and multicast groups: who is a member, by provisioning or by what its node says.

use super::record::{InterfaceRecord, Touch, in_vnet, load, text, try_scan};
use super::transaction::Transaction;
use super::{check, listed, moving, shown};
use crate::access::{Caller, Kind};
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};
use overlane_api::group::{Membership, MembershipQuery};
use overlane_api::resource::{Network, Page};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The key of a membership: all of a group lie together, and all groups of a vnet.
pub(super) fn key(vnet: u32, group: Ipv4Addr, interface: &str) -> Vec<u8> {
    in_vnet(vnet, &[&group.octets(), interface.as_bytes()].concat())
}

/// The group and the interface of a key.
fn parts(key: &[u8]) -> Result<Option<(Ipv4Addr, String)>> {
    let Some((group, id)) = key.get(4..).and_then(<[u8]>::split_first_chunk::<4>) else { return Ok(None) };
    Ok(Some((Ipv4Addr::from(*group), text(Table::Members, key, id.to_vec())?)))
}

impl InterfaceRecord {
    /// The groups that it is a member of where packets for it go.
    pub(super) fn all_groups(&self) -> BTreeSet<Ipv4Addr> {
        self.groups.iter().chain(&self.current().joined).copied().collect()
    }
}

/// Brings the index in step with an interface that was so, and is so now; whoever sends to a group hears where its members are.
pub(super) fn settle(
    txn: &mut Transaction<'_>,
    before: Option<&InterfaceRecord>,
    after: Option<&InterfaceRecord>,
) -> Result<()> {
    let Some(record) = after.or(before) else { return Ok(()) };
    let (vnet, id) = (record.vnet, record.id());
    let seen = |record: Option<&InterfaceRecord>| {
        record.map(|record| (record.all_groups(), record.current().host.clone())).unwrap_or_default()
    };
    let ((was, from), (is, to)) = (seen(before), seen(after));
    for group in was.difference(&is) {
        txn.delete(Table::Members, &key(vnet, *group, &id))?;
    }
    for group in is.difference(&was) {
        txn.put(Table::Members, &key(vnet, *group, &id), &[])?;
    }
    for group in was.union(&is) {
        if from != to || was.contains(group) != is.contains(group) {
            txn.touch(Touch::Group { vnet, group: *group });
        }
    }
    Ok(())
}

/// The hosts that have members of a group; those of 255.255.255.255 are all that have a part in the vnet.
pub(super) fn hosts(view: &dyn View, vnet: u32, group: Ipv4Addr) -> Result<BTreeSet<String>> {
    if group.is_broadcast() {
        return Ok(moving::hosts_of(view, vnet)?.into_iter().collect());
    }
    let mut hosts = BTreeSet::new();
    try_scan(view, Table::Members, &in_vnet(vnet, &group.octets()), &[], |key, _| {
        let Some((_, id)) = parts(key)? else { return Ok(Step::Continue(())) };
        let record = load::<InterfaceRecord>(view, Table::Interfaces, &id)?;
        hosts.extend(record.map(|record| record.current().host.clone()));
        Ok(Step::Continue(()))
    })?;
    Ok(hosts)
}

/// The groups of a vnet that have members, broadcast first.
pub(super) fn of_vnet(view: &dyn View, vnet: u32) -> Result<Vec<Ipv4Addr>> {
    let mut groups = vec![Ipv4Addr::BROADCAST];
    try_scan(view, Table::Members, &in_vnet(vnet, &[]), &[], |key, _| {
        if let Some((group, _)) = parts(key)?
            && groups.last() != Some(&group)
        {
            groups.push(group);
        }
        Ok(Step::Continue(()))
    })?;
    Ok(groups)
}

/// What a page begins behind: `GROUP/NODE/INTERFACE`.
fn cursor(after: &str) -> Result<(Ipv4Addr, &str)> {
    let parsed = after.split_once('/').and_then(|(group, id)| Some((group.parse().ok()?, id)));
    parsed.ok_or_else(|| {
        let message = "it is no membership".to_owned();
        Error::invalid("after", message, "what next of the page before says, like 239.1.2.3/web-1/eth0")
    })
}

/// The memberships of a network, a page at a time.
pub(crate) fn list(
    view: &dyn View,
    caller: &Caller,
    network: &str,
    query: &MembershipQuery,
) -> Result<Page<Membership>> {
    check::id("id", network)?;
    let limit = check::page(query.limit)?;
    listed(caller, Kind::Network)?;
    let Network { vnet, .. } = shown(view, caller, super::network::read(view, network)?)?;
    let from = match &query.after {
        Some(after) => {
            let (group, id) = cursor(after)?;
            [key(vnet, group, id), vec![0]].concat()
        }
        None => Vec::new(),
    };
    let mut page: Page<Membership> = Page { items: Vec::new(), next: None };
    try_scan(view, Table::Members, &in_vnet(vnet, &[]), &from, |key, _| {
        let Some((group, id)) = parts(key)? else { return Ok(Step::Continue(())) };
        let Some(interface) = load::<InterfaceRecord>(view, Table::Interfaces, &id)? else {
            return Ok(Step::Continue(()));
        };
        if page.items.len() == limit {
            page.next = page.items.last().map(|last| format!("{}/{}", last.group, last.interface));
            return Ok(Step::Break(()));
        }
        let place = interface.current();
        page.items.push(Membership {
            group: group.to_string(),
            interface: id,
            host: place.host.clone(),
            provisioned: interface.groups.contains(&group),
            joined: place.joined.contains(&group),
        });
        Ok(Step::Continue(()))
    })?;
    Ok(page)
}
