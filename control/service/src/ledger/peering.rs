//! Peerings: pairs of networks that may exchange packets.

use super::acting::{Acting, has_part, taken};
use super::record::{NetworkRecord, PeeringRecord, SubnetRecord, Touch, load, load_all_users};
use super::transaction::Transaction;
use super::{Outcome, check, external, network::missing, route};
use crate::access::Kind;
use crate::error::{Error, Result};
use crate::store::{Table, View};
use overlane_api::policy::{Peering, PeeringSpec};
use std::collections::BTreeSet;

/// Most peerings of a network.
const MAX_PEERINGS: usize = 256;
const LEGAL: &str = "the ids of two different networks";

pub(super) fn resource(view: &dyn View, id: &str, record: &PeeringRecord) -> Result<Peering> {
    Ok(Peering {
        id: id.to_owned(),
        networks: record.networks.to_vec(),
        default_action: record.default_action,
        accepted: record.accepted.iter().cloned().collect(),
        open: is_open(view, record)?,
        revision: record.revision,
    })
}

/// A peering.
pub(crate) fn read(view: &dyn View, id: &str) -> Result<Peering> {
    let record = load(view, Table::Peerings, id)?.ok_or_else(|| Error::absent("peering", id))?;
    resource(view, id, &record)
}

/// Whether the owners of both networks want it.
fn is_open(view: &dyn View, record: &PeeringRecord) -> Result<bool> {
    for id in &record.networks {
        let network: Option<NetworkRecord> = load(view, Table::Networks, id)?;
        if !network.is_some_and(|network| record.accepted.contains(&network.entity)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The open peerings of a network: the others' records.
pub(super) fn of_network(view: &dyn View, id: &str) -> Result<Vec<(PeeringRecord, NetworkRecord)>> {
    let mut found = Vec::new();
    for peering in load_all_users(view, &format!("network/{id}"), "peering/")? {
        let Some(record) = load::<PeeringRecord>(view, Table::Peerings, &peering)? else { continue };
        if !is_open(view, &record)? {
            continue;
        }
        let other = record.networks.iter().find(|other| *other != id);
        if let Some(other) = other
            && let Some(network) = load::<NetworkRecord>(view, Table::Networks, other)?
        {
            found.push((record, network));
        }
    }
    Ok(found)
}

/// The networks that a network has a peering with, also one that is not open yet: it may be at any time.
pub(super) fn partners(txn: &Transaction<'_>, id: &str) -> Result<Vec<(String, NetworkRecord)>> {
    let mut partners = Vec::new();
    for peering in load_all_users(txn.view(), &format!("network/{id}"), "peering/")? {
        let Some(record) = txn.load::<PeeringRecord>(Table::Peerings, &peering)? else { continue };
        for other in record.networks.iter().filter(|other| *other != id) {
            let network = txn.load::<NetworkRecord>(Table::Networks, other)?;
            partners.extend(network.map(|network| (other.clone(), network)));
        }
    }
    Ok(partners)
}

/// Whether no address is in more than one of a network's subnets and those of all its peers: its gateways would not know
/// which one is meant. `id` has `subnets`, and `more` are of a peer that it is about to have.
pub(super) fn check_apart(
    txn: &Transaction<'_>,
    id: &str,
    subnets: &[SubnetRecord],
    more: Option<(&str, &[SubnetRecord])>,
    field: &str,
) -> Result<()> {
    let mut nets: Vec<_> = subnets.iter().map(|subnet| (subnet.net, id.to_owned())).collect();
    for (other, network) in partners(txn, id)? {
        nets.extend(network.subnets.iter().map(|subnet| (subnet.net, other.clone())));
    }
    if let Some((other, subnets)) = more {
        nets.extend(subnets.iter().map(|subnet| (subnet.net, other.to_owned())));
    }
    // Sorted by their beginning, what overlaps lies side by side.
    nets.sort_unstable();
    let overlap = nets.iter().zip(nets.iter().skip(1)).find(|((one, _), (two, _))| one.contains(two));
    match overlap {
        None => Ok(()),
        Some(((one, of_one), (two, of_two))) => Err(Error::conflict(
            field,
            format!("{one} of network {of_one} and {two} of network {of_two} overlap"),
            "networks whose addresses, and whose peers' addresses, are different from each other",
        )),
    }
}

/// Two different networks, in order.
fn pair_of(networks: &[String]) -> Result<[String; 2]> {
    match networks {
        [one, two] if one < two => Ok([one.clone(), two.clone()]),
        [one, two] if one > two => Ok([two.clone(), one.clone()]),
        _ => Err(Error::invalid("networks", format!("{} is not legal", networks.join(", ")), LEGAL)),
    }
}

/// Lets the caller make a peering, or change it. An entity makes those between its own networks; one with another entity's, which
/// opens both to each other, operators make for both.
fn authorise(
    txn: &mut Transaction<'_>,
    id: &str,
    found: Option<&PeeringRecord>,
    records: &[NetworkRecord],
) -> Result<()> {
    let Some(own) = txn.confined_to().map(str::to_owned) else {
        let owner = records.first().map(|record| record.entity.as_str()).unwrap_or_default();
        return txn.authorise_put(Kind::Peering, id, found.map(|_| owner), owner);
    };
    if records.iter().any(|record| record.entity != own) {
        return Err(Error::forbidden(
            None,
            format!("peering {id} is with another entity: operators change it"),
            "peerings between networks of your own; any that you have a part in can be deleted",
        ));
    }
    txn.authorise_put(Kind::Peering, id, found.map(|_| own.as_str()), &own)
}

impl Acting<'_> {
    /// Makes a peering, in the name of the owners of both networks, or brings it to what is asked. Its networks cannot
    /// change.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn put_peering(&self, id: &str, spec: &PeeringSpec) -> Result<(Outcome, Peering)> {
        check::id("id", id)?;
        for (place, network) in spec.networks.iter().enumerate() {
            check::id(&format!("networks[{place}]"), network)?;
        }
        let networks = pair_of(&spec.networks)?;
        self.write(|txn| {
            let found: Option<PeeringRecord> = txn.load(Table::Peerings, id)?;
            let own = txn.confined_to().map(str::to_owned);
            if let (Some(own), Some(found)) = (&own, &found)
                && !has_part(txn.view(), &found.networks, own)?
            {
                return Err(taken(Kind::Peering, id));
            }
            let is_part = |id: &String| found.as_ref().is_some_and(|found| found.networks.contains(id));
            let mut owners = BTreeSet::new();
            let mut records = Vec::new();
            for (place, network) in networks.iter().enumerate() {
                let field = format!("networks[{place}]");
                let record: Option<NetworkRecord> = txn.load(Table::Networks, network)?;
                let known = |record: &NetworkRecord| {
                    own.as_ref().is_none_or(|own| *own == record.entity) || is_part(network)
                };
                let record = record.filter(known).ok_or_else(|| missing(&field, "network", network))?;
                owners.insert(record.entity.clone());
                records.push(record);
            }
            authorise(txn, id, found.as_ref(), &records)?;
            if let Some(found) = &found {
                if found.networks != networks {
                    let is = found.networks.join(" and ");
                    let problem = format!("peering {id} is of {is}; that cannot change");
                    return Err(Error::conflict("networks", problem, is));
                }
                if found.default_action == spec.default_action && found.accepted == owners {
                    return Ok((Outcome::Confirmed, resource(txn.view(), id, found)?));
                }
            } else {
                check_new(txn, &networks, &records)?;
                for network in &networks {
                    txn.add_use(&format!("network/{network}"), &format!("peering/{id}"))?;
                }
            }
            let record = PeeringRecord {
                networks: networks.clone(),
                default_action: spec.default_action,
                accepted: owners,
                revision: txn.revision(),
            };
            txn.save(Table::Peerings, id, &record)?;
            touch(txn, &networks, records)?;
            let outcome = if found.is_some() { Outcome::Confirmed } else { Outcome::Created };
            let before = found.map(|found| resource(txn.view(), id, &found)).transpose()?;
            let after = resource(txn.view(), id, &record)?;
            txn.summarise(before.as_ref(), Some(&after));
            Ok((outcome, after))
        })
    }

    /// Deletes a peering: nothing passes between its networks any more.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not there.
    pub fn delete_peering(&self, id: &str) -> Result<()> {
        self.write(|txn| {
            let found: PeeringRecord =
                txn.load(Table::Peerings, id)?.ok_or_else(|| Error::absent("peering", id))?;
            let mut records = Vec::new();
            for network in &found.networks {
                records.extend(txn.load::<NetworkRecord>(Table::Networks, network)?);
            }
            // Whoever has a part in it can end it.
            let owners: Vec<&str> = records.iter().map(|record| record.entity.as_str()).collect();
            let own = txn.confined_to().and_then(|own| owners.iter().find(|owner| **owner == own).copied());
            txn.authorise_delete(Kind::Peering, id, own.or(owners.first().copied()))?;
            for network in &found.networks {
                txn.drop_use(&format!("network/{network}"), &format!("peering/{id}"))?;
            }
            txn.delete(Table::Peerings, id.as_bytes())?;
            touch(txn, &found.networks, records)
        })
    }
}

fn check_new(txn: &Transaction<'_>, networks: &[String; 2], records: &[NetworkRecord]) -> Result<()> {
    let [one, two] = records else { return Ok(()) };
    for (id, other, record, of_other) in
        [(&networks[0], &networks[1], one, two), (&networks[1], &networks[0], two, one)]
    {
        let peers = load_all_users(txn.view(), &format!("network/{id}"), "peering/")?;
        if peers.len() >= MAX_PEERINGS {
            return Err(Error::exhausted(
                "networks",
                format!("network {id} has {} peerings", peers.len()),
                format!("networks with less than {MAX_PEERINGS} peerings"),
            ));
        }
        for peering in &peers {
            let found: Option<PeeringRecord> = txn.load(Table::Peerings, peering)?;
            if found.is_some_and(|found| found.networks.contains(other)) {
                let problem = format!("peering {peering} is of the same networks");
                return Err(Error::conflict("networks", problem, "networks that have no peering yet"));
            }
        }
        check_apart(txn, id, &record.subnets, Some((other, &of_other.subnets)), "networks")?;
        route::check_subnets(txn, id, record.vnet, &of_other.subnets, "networks")?;
        let others: Vec<_> = of_other.subnets.iter().map(|subnet| (subnet.net, other.clone())).collect();
        external::check_subnets(&external::nets(&record.externals), &others, "networks")?;
    }
    Ok(())
}

/// What engines hear of a peering that comes, goes or changes: both networks, which have other peers now.
fn touch(txn: &mut Transaction<'_>, networks: &[String; 2], records: Vec<NetworkRecord>) -> Result<()> {
    let vnets: Vec<u32> = records.iter().map(|record| record.vnet).collect();
    for (id, record) in networks.iter().zip(records) {
        txn.touch(Touch::Vnet { vnet: record.vnet, deleted: None });
        txn.save(Table::Networks, id, &NetworkRecord { revision: txn.revision(), ..record })?;
    }
    if let [one, two] = vnets[..] {
        txn.touch(Touch::Peering { vnets: [one, two] });
    }
    Ok(())
}
