//! Nodes and their interfaces.

use super::acting::Acting;
use super::network::missing;
use super::quota::{self, Of};
use super::record::{
    InterfaceRecord, NetworkRecord, NodeRecord, Placement, Touch, in_vnet, interface_id, load, load_all_users,
};
use super::transaction::Transaction;
use super::{Outcome, check, group, host, moving, route, rule, tag};
use crate::access::Kind;
use crate::error::{Error, Result};
use crate::store::{Table, View};
use overlane_api::resource::{Interface, InterfaceSpec, InterfaceState, Node, NodeSpec};
use overlane_dataplane::id::Slot;
use overlane_dataplane::mac::MacAddr;
use std::collections::BTreeSet;

/// The records of a node's interfaces, in order.
pub(super) fn interfaces(view: &dyn View, id: &str, node: &NodeRecord) -> Result<Vec<InterfaceRecord>> {
    let one = |name: &String| {
        let key = interface_id(id, name);
        load(view, Table::Interfaces, &key)?.ok_or_else(|| Error::Record {
            key: format!("Interfaces/{key}"),
            problem: "it is missing".to_owned(),
        })
    };
    node.interfaces.iter().map(one).collect()
}

/// A node.
pub(crate) fn read(view: &dyn View, id: &str) -> Result<Node> {
    let record: NodeRecord = load(view, Table::Nodes, id)?.ok_or_else(|| Error::absent("node", id))?;
    let interfaces = interfaces(view, id, &record)?;
    Ok(resource(id, &record, &interfaces))
}

pub(super) fn resource(id: &str, record: &NodeRecord, interfaces: &[InterfaceRecord]) -> Node {
    let seen = |interface: &InterfaceRecord| {
        let place = interface.current();
        Interface {
            name: interface.name.clone(),
            network: interface.network.clone(),
            vnet: interface.vnet,
            mac: interface.mac.clone(),
            slot: u32::from(place.slot),
            addresses: interface.addresses.iter().map(ToString::to_string).collect(),
            groups: interface.groups.iter().map(ToString::to_string).collect(),
            rate: interface.rate,
            joined: place.joined.iter().map(ToString::to_string).collect(),
            routes: interface.routes.iter().map(ToString::to_string).collect(),
            transit: interface.transit.iter().map(ToString::to_string).collect(),
            silent: place.silent,
            attachment: place.attachment.clone(),
            state: place.state,
            detail: place.detail.clone(),
        }
    };
    Node {
        id: id.to_owned(),
        entity: record.entity.clone(),
        host: interfaces.first().map_or(&record.host, |interface| &interface.current().host).clone(),
        tags: record.tags.clone(),
        interfaces: interfaces.iter().map(seen).collect(),
        moving: record.moving.as_ref().map(|moving| moving::resource(moving, interfaces)),
        revision: record.revision,
    }
}

/// Replaces interfaces of a node: records, indexes, and what engines hear of it. Whether anything changed.
pub(super) fn replace(
    txn: &mut Transaction<'_>,
    before: &[InterfaceRecord],
    after: &mut [InterfaceRecord],
) -> Result<bool> {
    let revision = txn.revision();
    let twin = |name: &str| before.iter().find(|record| record.name == name);
    let gone: Vec<_> =
        before.iter().filter(|was| !after.iter().any(|is| is.name == was.name)).cloned().collect();
    let changed: Vec<bool> = after.iter().map(|is| twin(&is.name) != Some(is)).collect();
    if gone.is_empty() && !changed.contains(&true) {
        return Ok(false);
    }
    // First everything out, then everything in: so interfaces of one node can swap what is unique.
    for was in &gone {
        txn.unindex(was)?;
        txn.delete(Table::Interfaces, was.id().as_bytes())?;
        group::settle(txn, Some(was), None)?;
        route::settle(txn, Some(was), None)?;
        txn.touch_interface(Some(was), None)?;
    }
    for (is, _) in after.iter().zip(&changed).filter(|(_, changed)| **changed) {
        if let Some(was) = twin(&is.name) {
            txn.unindex(was)?;
        }
    }
    for (place, (is, _)) in after.iter_mut().zip(&changed).enumerate().filter(|(_, (_, changed))| **changed) {
        is.revision = revision;
        txn.index(is).map_err(|error| match error {
            // A host is the node's, not the interface's.
            Error::Refused(detail) if detail.field.as_deref() == Some("host") => Error::Refused(detail),
            other => other.within(&format!("interfaces[{place}]")),
        })?;
        txn.save(Table::Interfaces, &is.id(), is)?;
        group::settle(txn, twin(&is.name), Some(is))?;
        route::settle(txn, twin(&is.name), Some(is))
            .map_err(|error| error.within(&format!("interfaces[{place}]")))?;
        txn.touch_interface(twin(&is.name), Some(is))?;
    }
    Ok(true)
}

/// Replaces the record of an interface whose places, addresses and MAC stay: only its state changes.
pub(super) fn replace_state(
    txn: &mut Transaction<'_>,
    before: &InterfaceRecord,
    mut after: InterfaceRecord,
) -> Result<bool> {
    if *before == after {
        return Ok(false);
    }
    after.revision = txn.revision();
    txn.save(Table::Interfaces, &after.id(), &after)?;
    group::settle(txn, Some(before), Some(&after))?;
    route::settle(txn, Some(before), Some(&after))?;
    txn.touch_interface(Some(before), Some(&after))?;
    Ok(true)
}

/// Has engines told anew of all interfaces of an entity's nodes.
pub(super) fn touch_all(txn: &mut Transaction<'_>, entity: &str) -> Result<()> {
    for id in load_all_users(txn.view(), &format!("entity/{entity}"), "node/")? {
        let Some(record) = txn.load::<NodeRecord>(Table::Nodes, &id)? else { continue };
        for interface in interfaces(txn.view(), &id, &record)? {
            for place in interface.places() {
                let (host, id) = (place.host.clone(), interface.id());
                txn.touch(Touch::Interface { host, id, deleted: None, left: Vec::new() });
            }
        }
    }
    Ok(())
}

/// What a node needs, as `kind/id`.
fn needs(record: Option<&NodeRecord>, interfaces: &[InterfaceRecord]) -> BTreeSet<String> {
    let mut needs = BTreeSet::new();
    if let Some(record) = record {
        needs.insert(format!("entity/{}", record.entity));
        needs.insert(format!("host/{}", record.host));
        needs.extend(record.moving.iter().map(|moving| format!("host/{}", moving.to)));
        needs.extend(interfaces.iter().map(|interface| format!("network/{}", interface.network)));
    }
    needs
}

/// Notes what a node needs now that it did not before, and the other way round.
pub(super) fn settle_uses(
    txn: &mut Transaction<'_>,
    id: &str,
    before: (Option<&NodeRecord>, &[InterfaceRecord]),
    after: (Option<&NodeRecord>, &[InterfaceRecord]),
) -> Result<()> {
    let (was, is) = (needs(before.0, before.1), needs(after.0, after.1));
    let user = format!("node/{id}");
    for used in was.difference(&is) {
        txn.drop_use(used, &user)?;
    }
    for used in is.difference(&was) {
        txn.add_use(used, &user)?;
    }
    Ok(())
}

/// The lowest slot of a host that is free, also of those spoken for; it is spoken for from now on.
pub(super) fn lowest_free(taken: &mut BTreeSet<u8>, host: &str) -> Result<u8> {
    let free = (0..Slot::COUNT as u8).find(|slot| !taken.contains(slot)).ok_or_else(|| {
        Error::exhausted("host", format!("all 64 slots of host {host} are taken"), "a host with room")
    })?;
    taken.insert(free);
    Ok(free)
}

/// A locally administered hardware address that nobody has in the vnet.
fn free_mac(txn: &Transaction<'_>, vnet: u32, spoken_for: &[String]) -> Result<String> {
    loop {
        let [_, _, _, a, b, c, d, e] = getrandom::u64()?.to_be_bytes();
        let mac = MacAddr([0x02, a, b, c, d, e]).to_string();
        let known = txn.view().get(Table::Macs, &in_vnet(vnet, mac.as_bytes()))?.is_some();
        if !known && !spoken_for.contains(&mac) {
            return Ok(mac);
        }
    }
}

/// What can be said against a node's specification by itself.
fn check_spec(spec: &NodeSpec) -> Result<()> {
    check::id("entity", &spec.entity)?;
    check::id("host", &spec.host)?;
    check::interfaces(spec.interfaces.len())?;
    for (place, interface) in spec.interfaces.iter().enumerate() {
        let outer = format!("interfaces[{place}]");
        let checked = || {
            check::id("name", &interface.name)?;
            check::id("network", &interface.network)?;
            check::attachment(&interface.attachment)?;
            if spec.interfaces.iter().take(place).any(|other| other.name == interface.name) {
                return Err(Error::invalid(
                    "name",
                    format!("{} is given twice", interface.name),
                    "each name once",
                ));
            }
            interface.slot.map(check::slot).transpose()?;
            interface.mac.as_deref().map(check::mac).transpose()?;
            check::groups(&interface.groups)?;
            check::routes(&interface.routes)?;
            check::transit(&interface.transit)?;
            check::rate(interface.rate)?;
            check::addresses(&interface.addresses).map(|_| ())
        };
        checked().map_err(|error| error.within(&outer))?;
    }
    Ok(())
}

/// An interface of an existing node: only what it says to others can change, not where it is.
fn kept(found: &InterfaceRecord, spec: &InterfaceSpec) -> Result<InterfaceRecord> {
    let current = found.current();
    let fixed = |field: &str, is: String| {
        let id = found.id();
        Err(Error::conflict(
            field,
            format!(
                "interface {id} has {is}; only addresses, groups, routes, transit and rate can change: make another \
                 interface"
            ),
            is,
        ))
    };
    if spec.network != found.network {
        return fixed("network", found.network.clone());
    }
    if let Some(mac) = spec.mac.as_deref().map(check::mac).transpose()?
        && mac != found.mac
    {
        return fixed("mac", found.mac.clone());
    }
    if let Some(slot) = spec.slot.map(check::slot).transpose()?
        && slot != current.slot
    {
        return fixed("slot", current.slot.to_string());
    }
    if spec.attachment.device != current.attachment.device {
        return fixed("attachment.device", current.attachment.device.clone());
    }
    if spec.attachment.kind != current.attachment.kind {
        return fixed("attachment.kind", format!("{:?}", current.attachment.kind).to_lowercase());
    }
    let (addresses, groups) = (check::addresses(&spec.addresses)?, check::groups(&spec.groups)?);
    let (routes, transit) = (check::routes(&spec.routes)?, check::transit(&spec.transit)?);
    Ok(InterfaceRecord { addresses, groups, routes, transit, rate: spec.rate, ..found.clone() })
}

/// The records that a specification asks for; those that stay as they are, are as they were.
fn asked(
    txn: &Transaction<'_>,
    id: &str,
    spec: &NodeSpec,
    found: &[InterfaceRecord],
) -> Result<Vec<InterfaceRecord>> {
    let freed = |slot: &u8| {
        found
            .iter()
            .any(|was| was.home.slot == *slot && !spec.interfaces.iter().any(|is| is.name == was.name))
    };
    let mut taken: BTreeSet<u8> =
        txn.taken_slots(&spec.host)?.into_iter().filter(|slot| !freed(slot)).collect();
    taken.extend(spec.interfaces.iter().filter_map(|is| is.slot).filter_map(|slot| u8::try_from(slot).ok()));
    let mut macs = Vec::new();
    let mut records = Vec::with_capacity(spec.interfaces.len());
    for (place, is) in spec.interfaces.iter().enumerate() {
        let mut make = || -> Result<InterfaceRecord> {
            let network: NetworkRecord = txn
                .load(Table::Networks, &is.network)?
                .ok_or_else(|| missing("network", "network", &is.network))?;
            if network.entity != spec.entity && txn.confined_to().is_some() {
                return Err(missing("network", "network", &is.network));
            }
            if network.entity != spec.entity {
                return Err(Error::invalid(
                    "network",
                    format!(
                        "{} belongs to entity {}, the node to {}",
                        is.network, network.entity, spec.entity
                    ),
                    "a network of the node's entity",
                ));
            }
            for (nth, text) in is.addresses.iter().enumerate() {
                let address = text.parse().map_err(|_| Error::invalid("addresses", text.clone(), "IPv4"))?;
                check::address_in(&network.subnets, address).map_err(|error| match error {
                    Error::Refused(mut detail) => {
                        detail.field = Some(format!("addresses[{nth}]"));
                        Error::Refused(detail)
                    }
                    other => other,
                })?;
            }
            route::check_outside(txn, &is.network, &network, &is.routes)?;
            if let Some(was) = found.iter().find(|was| was.name == is.name) {
                return kept(was, is);
            }
            let mac = match is.mac.as_deref() {
                Some(mac) => check::mac(mac)?,
                None => free_mac(txn, network.vnet, &macs)?,
            };
            macs.push(mac.clone());
            let slot = match is.slot {
                Some(slot) => check::slot(slot)?,
                None => lowest_free(&mut taken, &spec.host)?,
            };
            Ok(InterfaceRecord {
                node: id.to_owned(),
                name: is.name.clone(),
                network: is.network.clone(),
                vnet: network.vnet,
                mac,
                addresses: check::addresses(&is.addresses)?,
                groups: check::groups(&is.groups)?,
                routes: check::routes(&is.routes)?,
                transit: check::transit(&is.transit)?,
                rate: is.rate,
                tags: Vec::new(),
                home: Placement {
                    host: spec.host.clone(),
                    slot,
                    attachment: is.attachment.clone(),
                    state: InterfaceState::Defined,
                    detail: String::new(),
                    joined: Vec::new(),
                    silent: false,
                },
                next: None,
                revision: 0,
            })
        };
        let made = make().map_err(|error| match error {
            Error::Refused(detail) if detail.field.as_deref() == Some("host") => Error::Refused(detail),
            other => other.within(&format!("interfaces[{place}]")),
        })?;
        records.push(made);
    }
    Ok(records)
}

impl Acting<'_> {
    /// Makes a node, or brings it to what is asked. Its entity cannot change, its host by a move only.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn put_node(&self, id: &str, spec: &NodeSpec) -> Result<(Outcome, Node)> {
        check::id("id", id)?;
        check_spec(spec)?;
        let tags = check::tags(&spec.tags)?;
        self.write(|txn| {
            let found: Option<NodeRecord> = txn.load(Table::Nodes, id)?;
            let owner = found.as_ref().map(|found| found.entity.as_str());
            txn.authorise_put(Kind::Node, id, owner, &spec.entity)?;
            let before = match &found {
                Some(found) => interfaces(txn.view(), id, found)?,
                None => Vec::new(),
            };
            check_placement(txn, spec, &before)?;
            if let Some(found) = &found {
                check_fixed(id, found, &before, spec)?;
            } else {
                txn.entity(&spec.entity)?;
                quota::count(txn, &spec.entity, Of::Nodes, 1)?;
                host::referred(txn, "host", &spec.host)?;
            }
            let of = |tags: &[String]| -> BTreeSet<(String, String)> {
                tags.iter().map(|tag| (spec.entity.clone(), tag.clone())).collect()
            };
            let tagged = found.as_ref().map(|found| of(&found.tags)).unwrap_or_default();
            let numbers = tag::settle(txn, &format!("node/{id}"), &tagged, &of(&tags))?;
            let mut after = asked(txn, id, spec, &before)?;
            after.iter_mut().for_each(|interface| interface.tags.clone_from(&numbers));
            let names: Vec<String> = after.iter().map(|interface| interface.name.clone()).collect();
            let tags = tags.clone();
            if let Some(found) = &found
                && found.interfaces == names
                && found.tags == tags
                && before == after
            {
                return Ok((Outcome::Confirmed, resource(id, found, &before)));
            }
            if found.as_ref().is_some_and(|found| found.moving.is_some()) {
                return Err(Error::conflict(
                    "interfaces",
                    format!("node {id} is moving"),
                    "what they are, until the move is done",
                ));
            }
            let more = after.len() as i64 - before.len() as i64;
            quota::count(txn, &spec.entity, Of::Interfaces, more)?;
            replace(txn, &before, &mut after)?;
            if addresses(&before) != addresses(&after) {
                rule::touch_users(txn, &format!("node/{id}"), |_| true)?;
            }
            let record = NodeRecord {
                entity: spec.entity.clone(),
                host: spec.host.clone(),
                interfaces: names,
                tags,
                moving: None,
                revision: txn.revision(),
            };
            txn.save(Table::Nodes, id, &record)?;
            settle_uses(txn, id, (found.as_ref(), &before), (Some(&record), &after))?;
            let outcome = if found.is_some() { Outcome::Confirmed } else { Outcome::Created };
            let made = resource(id, &record, &after);
            txn.summarise(found.map(|found| resource(id, &found, &before)).as_ref(), Some(&made));
            Ok((outcome, made))
        })
    }

    /// Deletes a node with its interfaces, also while it moves.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not there, or a rule names it.
    pub fn delete_node(&self, id: &str) -> Result<()> {
        self.write(|txn| {
            let found: NodeRecord = txn.load(Table::Nodes, id)?.ok_or_else(|| Error::absent("node", id))?;
            txn.authorise_delete(Kind::Node, id, Some(&found.entity))?;
            let users = txn.users(&format!("node/{id}"))?;
            if !users.is_empty() {
                return Err(Error::in_use("node", id, &users));
            }
            let before = interfaces(txn.view(), id, &found)?;
            quota::count(txn, &found.entity, Of::Interfaces, -(before.len() as i64))?;
            quota::count(txn, &found.entity, Of::Nodes, -1)?;
            let tagged = found.tags.iter().map(|tag| (found.entity.clone(), tag.clone())).collect();
            tag::settle(txn, &format!("node/{id}"), &tagged, &BTreeSet::new())?;
            replace(txn, &before, &mut [])?;
            settle_uses(txn, id, (Some(&found), &before), (None, &[]))?;
            txn.delete(Table::Moves, id.as_bytes())?;
            txn.delete(Table::Nodes, id.as_bytes())
        })
    }
}

/// Whether the caller may place the interfaces that are new where they are to be: a device's name alone does not say whose it
/// is, so an entity gets those that operators have set aside for it.
fn check_placement(txn: &Transaction<'_>, spec: &NodeSpec, before: &[InterfaceRecord]) -> Result<()> {
    let Some(entity) = txn.confined_to() else { return Ok(()) };
    let is_new = |is: &InterfaceSpec| !before.iter().any(|was| was.name == is.name);
    let Some((place, first)) = spec.interfaces.iter().enumerate().find(|(_, is)| is_new(is)) else {
        return Ok(());
    };
    let Some(granted) = txn.entity(entity)?.placement else {
        let message = format!("entity {entity} may not place {} by itself", first.name);
        let legal = "interfaces that are there; operators place others, or grant the entity a placement";
        return Err(Error::forbidden(Some(&format!("interfaces[{place}]")), message, legal));
    };
    if !granted.hosts.contains(&spec.host) {
        let message = format!("entity {entity} may not place nodes on {}", spec.host);
        return Err(Error::forbidden(Some("host"), message, granted.hosts.join(", ")));
    }
    for (place, is) in spec.interfaces.iter().enumerate().filter(|(_, is)| is_new(is)) {
        if !is.attachment.device.starts_with(&granted.device_prefix) {
            let field = format!("interfaces[{place}].attachment.device");
            let message = format!("entity {entity} may not have device {}", is.attachment.device);
            let legal = format!("a device whose name begins with {}", granted.device_prefix);
            return Err(Error::forbidden(Some(&field), message, legal));
        }
    }
    Ok(())
}

/// Where a node is to be found.
fn addresses(interfaces: &[InterfaceRecord]) -> BTreeSet<(u32, std::net::Ipv4Addr)> {
    let of = |interface: &InterfaceRecord| {
        let vnet = interface.vnet;
        interface.addresses.iter().map(move |address| (vnet, *address)).collect::<Vec<_>>()
    };
    interfaces.iter().flat_map(of).collect()
}

fn check_fixed(id: &str, found: &NodeRecord, before: &[InterfaceRecord], spec: &NodeSpec) -> Result<()> {
    if found.entity != spec.entity {
        return Err(Error::conflict(
            "entity",
            format!("node {id} belongs to {}; that cannot change", found.entity),
            found.entity.clone(),
        ));
    }
    let host = before.first().map_or(&found.host, |interface| &interface.current().host);
    if *host != spec.host {
        return Err(Error::conflict(
            "host",
            format!("node {id} is on {host}; POST /v1/nodes/{id}/move moves it"),
            host.clone(),
        ));
    }
    Ok(())
}
