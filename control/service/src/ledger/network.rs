//! Virtual networks.

use super::acting::Acting;
use super::quota::{self, Of};
use super::record::{
    InterfaceRecord, NetworkRecord, SubnetRecord, Touch, decode, load, load_id, try_scan, vnet_key,
};
use super::transaction::Transaction;
use super::{Outcome, check, external, peering, route, rule, size};
use crate::access::Kind;
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};
use overlane_api::external::Externals;
use overlane_api::resource::{Network, NetworkSpec, Subnet};
use overlane_dataplane::id::VnetId;

pub(super) fn resource(id: &str, record: NetworkRecord) -> Network {
    let subnets = record.subnets.iter().map(|subnet| Subnet {
        cidr: subnet.net.to_string(),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()),
    });
    Network {
        id: id.to_owned(),
        subnets: subnets.collect(),
        entity: record.entity,
        vnet: record.vnet,
        default_action: record.default_action,
        mapping: record.mapping,
        on_demand: record.on_demand,
        dhcp: record.dhcp,
        groups: record.groups,
        externals: record.externals,
        revision: record.revision,
    }
}

/// A network.
pub(crate) fn read(view: &dyn View, id: &str) -> Result<Network> {
    let record = load(view, Table::Networks, id)?.ok_or_else(|| Error::absent("network", id))?;
    Ok(resource(id, record))
}

/// A random id that no network has. Ids are sparse: a few tries find one, unless nearly all are taken.
fn free_vnet(txn: &Transaction<'_>) -> Result<u32> {
    const TRIES: usize = 256;
    for _ in 0..TRIES {
        let candidate = getrandom::u32()? & VnetId::MAX.get();
        if VnetId::new(candidate).is_ok() && txn.network_of(candidate)?.is_none() {
            return Ok(candidate);
        }
    }
    Err(Error::exhausted(
        "vnet",
        format!("no free id was found in {TRIES} random tries"),
        "a free id from 1 to 16777215, given by you",
    ))
}

/// Whether all addresses in use keep their place when the subnets change.
fn check_addresses_stay(txn: &Transaction<'_>, vnet: u32, subnets: &[SubnetRecord]) -> Result<()> {
    try_scan(txn.view(), Table::Addresses, &vnet_key(vnet), &[], |key, value| {
        let Some(octets) = key.get(4..8).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) else {
            return Ok(Step::Continue(()));
        };
        let address = octets.into();
        if check::address_in(subnets, address).is_err() {
            return Err(Error::conflict(
                "subnets",
                format!(
                    "{} has {address}, which would lie in none of them or be special in one",
                    String::from_utf8_lossy(value)
                ),
                "subnets that leave every address in use where it is",
            ));
        }
        Ok(Step::Continue(()))
    })
}

impl Acting<'_> {
    /// Makes a network, or brings it to what is asked. Its entity and its id on the substrate cannot change.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn put_network(&self, id: &str, spec: &NetworkSpec) -> Result<(Outcome, Network)> {
        check::id("id", id)?;
        check::id("entity", &spec.entity)?;
        let vnet = spec.vnet.map(check::vnet).transpose()?;
        let subnets = check::subnets(&spec.subnets)?;
        spec.dhcp.as_ref().map(check::dhcp).transpose()?;
        check::group_settings(&spec.groups)?;
        self.write(|txn| {
            let found: Option<NetworkRecord> = txn.load(Table::Networks, id)?;
            let owner = found.as_ref().map(|found| found.entity.as_str());
            txn.authorise_put(Kind::Network, id, owner, &spec.entity)?;
            if let Some(found) = found {
                let before = resource(id, found.clone());
                let after = resource(id, change(txn, id, found, spec, vnet, subnets)?);
                txn.summarise(Some(&before), Some(&after));
                return Ok((Outcome::Confirmed, after));
            }
            txn.entity(&spec.entity)?;
            let none = Externals::default();
            let externals = external::settle(&none, &spec.externals)?;
            external::authorise(txn, &none, &externals)?;
            quota::count(txn, &spec.entity, Of::Networks, 1)?;
            let vnet = match vnet {
                Some(vnet) => vnet,
                None => free_vnet(txn)?,
            };
            if let Some(other) = txn.network_of(vnet)? {
                return Err(Error::conflict(
                    "vnet",
                    format!(
                        "{vnet} belongs to {}",
                        txn.named(&format!("network/{other}"), &format!("network {other}"))?
                    ),
                    "a free id from 1 to 16777215, or none to be given one",
                ));
            }
            external::check_apart(txn, (id, vnet), &externals, &subnets, "externals")?;
            let record = NetworkRecord {
                entity: spec.entity.clone(),
                vnet,
                subnets,
                default_action: spec.default_action,
                mapping: spec.mapping,
                on_demand: txn.on_demand(spec.mapping, false, 0),
                dhcp: spec.dhcp.clone(),
                groups: spec.groups.clone(),
                externals,
                revision: txn.revision(),
            };
            txn.save(Table::Networks, id, &record)?;
            txn.put(Table::Vnets, &vnet_key(vnet), id.as_bytes())?;
            txn.add_use(&format!("entity/{}", spec.entity), &format!("network/{id}"))?;
            rule::touch_entity(txn, &spec.entity)?;
            txn.touch(Touch::Vnet { vnet, deleted: None });
            let made = resource(id, record);
            txn.summarise(None, Some(&made));
            Ok((Outcome::Created, made))
        })
    }

    /// Deletes a network that no interface is in.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not there or in use.
    pub fn delete_network(&self, id: &str) -> Result<()> {
        self.write(|txn| {
            let found: NetworkRecord =
                txn.load(Table::Networks, id)?.ok_or_else(|| Error::absent("network", id))?;
            txn.authorise_delete(Kind::Network, id, Some(&found.entity))?;
            let users = txn.users(&format!("network/{id}"))?;
            if !users.is_empty() {
                return Err(Error::in_use("network", id, &users));
            }
            quota::count(txn, &found.entity, Of::Networks, -1)?;
            txn.delete(Table::Networks, id.as_bytes())?;
            txn.delete(Table::Vnets, &vnet_key(found.vnet))?;
            txn.forget_size(found.vnet)?;
            txn.drop_use(&format!("entity/{}", found.entity), &format!("network/{id}"))?;
            rule::touch_entity(txn, &found.entity)?;
            txn.touch(Touch::Vnet { vnet: found.vnet, deleted: Some(found.revision) });
            Ok(())
        })
    }
}

/// The refusal of a reference to something that is not there.
pub(super) fn missing(field: &str, kind: &str, id: &str) -> Error {
    Error::invalid(field, format!("there is no {kind} {id}"), format!("the id of an existing {kind}"))
}

fn change(
    txn: &mut Transaction<'_>,
    id: &str,
    found: NetworkRecord,
    spec: &NetworkSpec,
    vnet: Option<u32>,
    subnets: Vec<SubnetRecord>,
) -> Result<NetworkRecord> {
    if found.entity != spec.entity {
        return Err(Error::conflict(
            "entity",
            format!("network {id} belongs to {}; that cannot change", found.entity),
            found.entity,
        ));
    }
    if let Some(vnet) = vnet
        && vnet != found.vnet
    {
        return Err(Error::conflict(
            "vnet",
            format!("network {id} has {}; that cannot change", found.vnet),
            format!("{}, or none", found.vnet),
        ));
    }
    let externals = external::settle(&found.externals, &spec.externals)?;
    external::authorise(txn, &found.externals, &externals)?;
    let size = size::addresses(txn.view(), found.vnet)?;
    let on_demand = txn.on_demand(spec.mapping, found.on_demand, size);
    let was_on_demand = found.on_demand;
    let is_same = found.subnets == subnets
        && found.default_action == spec.default_action
        && found.mapping == spec.mapping
        && found.dhcp == spec.dhcp
        && found.groups == spec.groups
        && found.externals == externals
        && was_on_demand == on_demand;
    if is_same {
        return Ok(found);
    }
    check_addresses_stay(txn, found.vnet, &subnets)?;
    if found.subnets != subnets || found.externals != externals {
        external::check_apart(txn, (id, found.vnet), &externals, &subnets, "externals")?;
    }
    if found.subnets != subnets {
        peering::check_apart(txn, id, &subnets, None, "subnets")?;
        route::check_subnets(txn, id, found.vnet, &subnets, "subnets")?;
        let own: Vec<_> = subnets.iter().map(|subnet| (subnet.net, id.to_owned())).collect();
        for (other, record) in peering::partners(txn, id)? {
            route::check_subnets(txn, &other, record.vnet, &subnets, "subnets")?;
            external::check_subnets(&external::nets(&record.externals), &own, "subnets")?;
        }
        // Peers send packets for these addresses here.
        for (_, other) in peering::of_network(txn.view(), id)? {
            txn.touch(Touch::Vnet { vnet: other.vnet, deleted: None });
        }
    }
    if found.externals != externals {
        rule::touch_users(txn, &format!("network/{id}"), |spec| rule::names_externals(&spec.peer))?;
    }
    let record = NetworkRecord {
        subnets,
        default_action: spec.default_action,
        mapping: spec.mapping,
        on_demand,
        dhcp: spec.dhcp.clone(),
        groups: spec.groups.clone(),
        externals,
        revision: txn.revision(),
        ..found
    };
    txn.save(Table::Networks, id, &record)?;
    txn.touch(Touch::Vnet { vnet: record.vnet, deleted: None });
    if record.on_demand != was_on_demand {
        txn.touch_mode(id, &record)?;
    }
    Ok(record)
}

/// The network that has a vnet.
pub(super) fn of_vnet(view: &dyn View, vnet: u32) -> Result<Option<NetworkRecord>> {
    let id = load_id(view, Table::Vnets, &vnet_key(vnet))?;
    Ok(id.map(|id| load(view, Table::Networks, &id)).transpose()?.flatten())
}

/// Calls `visit` for every interface in a vnet once per address.
pub(crate) fn each_address(
    view: &dyn View,
    vnet: u32,
    mut visit: impl FnMut(std::net::Ipv4Addr, InterfaceRecord) -> Result<Step>,
) -> Result<()> {
    try_scan(view, Table::Addresses, &vnet_key(vnet), &[], |key, value| {
        let Some(octets) = key.get(4..8).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) else {
            return Ok(Step::Continue(()));
        };
        match view.get(Table::Interfaces, value)? {
            Some(record) => visit(octets.into(), decode(Table::Interfaces, value, &record)?),
            None => Ok(Step::Continue(())),
        }
    })
}
