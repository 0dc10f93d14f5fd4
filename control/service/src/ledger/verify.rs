//! What must hold after every change; checked by tests, and before a backup takes a store's place.

use super::check::address_in;
use super::record::{
    AuditRecord, InterfaceRecord, NetworkRecord, NodeRecord, RuleRecord, TokenRecord, decode, in_vnet,
    interface_id, load, load_all_users, pair, try_scan,
};
use super::{group, quota, route, rule, tag, token};
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};

/// Whether every index agrees with the records, and every record with the others: what must hold after every change.
///
/// # Errors
/// The first thing that does not hold, as [`Error::Record`].
pub fn verify(view: &dyn View) -> Result<()> {
    let mut found = [0u64; 6];
    let wrong = |key: String, problem: &str| Err(Error::Record { key, problem: problem.to_owned() });
    try_scan(view, Table::Nodes, &[], &[], |key, value| {
        let id = String::from_utf8_lossy(key).into_owned();
        let node: NodeRecord = decode(Table::Nodes, key, value)?;
        if view.get(Table::Moves, key)?.is_some() != node.moving.is_some() {
            return wrong(format!("Moves/{id}"), "it disagrees with the node").map(|()| Step::Break(()));
        }
        for name in &node.interfaces {
            if load::<InterfaceRecord>(view, Table::Interfaces, &interface_id(&id, name))?.is_none() {
                return wrong(format!("Interfaces/{id}/{name}"), "it is missing").map(|()| Step::Break(()));
            }
            found[0] += 1;
        }
        Ok(Step::Continue(()))
    })?;
    let mut presence = std::collections::BTreeMap::<Vec<u8>, i64>::new();
    try_scan(view, Table::Interfaces, &[], &[], |key, value| {
        let record: InterfaceRecord = decode(Table::Interfaces, key, value)?;
        let network: Option<NetworkRecord> = load(view, Table::Networks, &record.network)?;
        let mut keys = vec![(Table::Macs, in_vnet(record.vnet, record.mac.as_bytes()))];
        for place in record.places() {
            keys.push((Table::Slots, pair(&place.host, &[place.slot])));
            keys.push((Table::Devices, pair(&place.host, place.attachment.device.as_bytes())));
            *presence.entry(in_vnet(record.vnet, place.host.as_bytes())).or_default() += 1;
            found[1] += 1;
        }
        for address in &record.addresses {
            let fits = network.as_ref().is_some_and(|network| {
                network.vnet == record.vnet && address_in(&network.subnets, *address).is_ok()
            });
            if !fits {
                return wrong(format!("Interfaces/{}", record.id()), "an address does not fit its network")
                    .map(|()| Step::Break(()));
            }
            keys.push((Table::Addresses, in_vnet(record.vnet, &address.octets())));
            found[2] += 1;
        }
        for group in record.all_groups() {
            let index = group::key(record.vnet, group, &record.id());
            if view.get(Table::Members, &index)?.is_none() {
                return wrong(format!("Members/{group}/{}", record.id()), "it is missing")
                    .map(|()| Step::Break(()));
            }
            found[4] += 1;
        }
        for part in record.parts() {
            let index = route::key(record.vnet, part, &record.id());
            if view.get(Table::Routes, &index)?.is_none() {
                return wrong(format!("Routes/{}/{}", part.0, record.id()), "it is missing")
                    .map(|()| Step::Break(()));
            }
            found[5] += 1;
        }
        for (table, index) in keys {
            if view.get(table, &index)?.as_deref() != Some(key) {
                let key = format!("{table:?}/{}", String::from_utf8_lossy(&index));
                return wrong(key, "it does not lead to its interface").map(|()| Step::Break(()));
            }
        }
        found[3] += 1;
        Ok(Step::Continue(()))
    })?;
    try_scan(view, Table::Nodes, &[], &[], |key, value| {
        let node: NodeRecord = decode(Table::Nodes, key, value)?;
        let id = String::from_utf8_lossy(key).into_owned();
        let mut numbers = Vec::new();
        for name in &node.tags {
            numbers.extend(tag::number(view, &node.entity, name)?);
        }
        numbers.sort_unstable();
        for name in &node.interfaces {
            let record: Option<InterfaceRecord> = load(view, Table::Interfaces, &interface_id(&id, name))?;
            if numbers.len() != node.tags.len() || record.is_some_and(|record| record.tags != numbers) {
                return wrong(format!("Interfaces/{id}/{name}"), "its tags are not its node's")
                    .map(|()| Step::Break(()));
            }
        }
        Ok(Step::Continue(()))
    })?;
    try_scan(view, Table::Rules, &[], &[], |key, value| {
        let record: RuleRecord = decode(Table::Rules, key, value)?;
        let scope = rule::scope(view, &record.spec)?;
        if view.get(Table::Scopes, &pair(&scope.key(), key))?.is_none() {
            let key = format!("Scopes/{}", scope.key());
            return wrong(key, "it does not lead to its rule").map(|()| Step::Break(()));
        }
        Ok(Step::Continue(()))
    })?;
    try_scan(view, Table::Tags, &[], &[], |key, _| {
        let name = String::from_utf8_lossy(key).replacen('\0', "/", 1);
        if load_all_users(view, &format!("tag/{name}"), "")?.is_empty() {
            return wrong(format!("Tags/{name}"), "nobody has to do with it").map(|()| Step::Break(()));
        }
        Ok(Step::Continue(()))
    })?;
    quota::verify(view)?;
    try_scan(view, Table::Tokens, &[], &[], |key, value| {
        let record: TokenRecord = decode(Table::Tokens, key, value)?;
        token::known(&String::from_utf8_lossy(key), &record)?;
        Ok(Step::Continue(()))
    })?;
    try_scan(view, Table::Audit, &[], &[], |key, value| {
        let record: AuditRecord = decode(Table::Audit, key, value)?;
        if record.entry.revision.to_be_bytes() != key {
            return wrong(format!("Audit/{}", record.entry.revision), "it stands in another's place")
                .map(|()| Step::Break(()));
        }
        Ok(Step::Continue(()))
    })?;
    crate::events::verify(view)?;
    for (key, count) in &presence {
        let kept = view.get(Table::Presence, key)?.map(|value| decode::<i64>(Table::Presence, key, &value));
        if kept.transpose()? != Some(*count) {
            return wrong(format!("Presence/{}", String::from_utf8_lossy(key)), "it miscounts");
        }
    }
    let [interfaces, places, addresses, records, members, routes] = found;
    let sizes = [
        (Table::Interfaces, interfaces),
        (Table::Macs, records),
        (Table::Slots, places),
        (Table::Devices, places),
        (Table::Addresses, addresses),
        (Table::Members, members),
        (Table::Routes, routes),
        (Table::Presence, presence.len() as u64),
        (Table::Vnets, view.count(Table::Networks)?),
        (Table::Prefixes, view.count(Table::Hosts)?),
        (Table::Scopes, view.count(Table::Rules)?),
    ];
    for (table, size) in sizes {
        if view.count(table)? != size {
            return wrong(format!("{table:?}"), "it holds what no record explains");
        }
    }
    Ok(())
}
