//! Systems without an engine: what their addresses may be, and what nodes know them by.

use super::record::{HostRecord, NetworkRecord, SubnetRecord, decode, try_scan};
use super::route;
use super::transaction::Transaction;
use super::{check, peering};
use crate::error::{Error, Result};
use crate::store::{Step, Table};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use overlane_api::external::{External as Spec, Externals as Asked};
use overlane_api::sync;
use overlane_dataplane::address::HostPrefix;
use overlane_dataplane::external::{self, External, Externals};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The shortest pool: a million addresses.
const SHORTEST_POOL: u8 = 12;

/// An address or a prefix, as it is written the shorter way.
fn written(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn ipv6(text: &str) -> Option<Ipv6Net> {
    text.parse().ok().or_else(|| text.parse::<Ipv6Addr>().ok().map(Ipv6Net::from))
}

fn ipv4(text: &str) -> Option<Ipv4Net> {
    text.parse().ok().or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
}

/// What is kept: all have IPv4 addresses. Those that are asked for without one keep what they had, or get one of the pool.
pub(super) fn settle(found: &Asked, asked: &Asked) -> Result<Asked> {
    let pool = asked.pool.as_ref().map(|text| pool(text)).transpose()?;
    let field = |place: usize, name: &str| format!("externals.systems[{place}].{name}");
    let mut all: Vec<Option<External>> = Vec::with_capacity(asked.systems.len());
    let mut parsed = Vec::with_capacity(asked.systems.len());
    for (place, system) in asked.systems.iter().enumerate() {
        check::id(&field(place, "name"), &system.name)?;
        if asked.systems.iter().take(place).any(|other| other.name == system.name) {
            let message = format!("{} is given twice", system.name);
            return Err(Error::invalid(field(place, "name"), message, "each name once"));
        }
        let address = ipv6(&system.address).filter(|address| external::check(*address).is_ok());
        let address = address.ok_or_else(|| {
            let message = format!("{} is none", check::shown(&system.address));
            Error::invalid(field(place, "address"), message, external::LEGAL)
        })?;
        let same = |other: &&Spec| other.name == system.name && ipv6(&other.address) == Some(address);
        let given = match &system.ipv4 {
            Some(text) => Some(ipv4(text).ok_or_else(|| {
                let message = format!("{} is none", check::shown(text));
                Error::invalid(field(place, "ipv4"), message, "an IPv4 address or prefix, like 10.255.0.1")
            })?),
            None => {
                let kept = found.systems.iter().find(same).and_then(|kept| ipv4(kept.ipv4.as_deref()?));
                kept.filter(|kept| pool.is_some_and(|pool| pool.contains(kept)))
            }
        };
        parsed.push(address);
        all.push(given.map(|ipv4| External { ipv6: address, ipv4 }));
    }
    for (place, address) in parsed.iter().enumerate() {
        if all.get(place).is_some_and(Option::is_none) {
            let taken: Vec<_> = all.iter().flatten().map(|external| external.ipv4).collect();
            let ipv4 = free(pool, address.prefix_len() - 96, &taken)
                .map_err(|error| error.within(&format!("externals.systems[{place}]")))?;
            if let Some(slot) = all.get_mut(place) {
                *slot = Some(External { ipv6: *address, ipv4 });
            }
        }
    }
    let all: Vec<External> = all.into_iter().flatten().collect();
    Externals::new(all.clone()).map_err(|illegal| {
        let message = format!("{} is not legal", check::shown(&illegal.given));
        Error::invalid("externals.systems", message, illegal.legal)
    })?;
    let systems = asked.systems.iter().zip(&all).map(|(system, external)| Spec {
        name: system.name.clone(),
        address: written(external.ipv6.into()),
        ipv4: Some(written(external.ipv4.into())),
    });
    Ok(Asked { pool: pool.map(|pool| pool.to_string()), systems: systems.collect() })
}

fn pool(text: &str) -> Result<Ipv4Net> {
    let legal = "a unicast IPv4 network of length 12 to 30 without bits behind it, like 10.255.0.0/24";
    let pool = text.parse::<Ipv4Net>().ok().filter(|net| {
        overlane_dataplane::route::check("pool", *net).is_ok()
            && (SHORTEST_POOL..=30).contains(&net.prefix_len())
    });
    pool.ok_or_else(|| Error::invalid("externals.pool", format!("{} is none", check::shown(text)), legal))
}

/// The lowest addresses of a pool, as many as a prefix of `length` has, that nobody has. The pool's first and last address, which
/// look as if they were not a system's, are no single one's.
fn free(pool: Option<Ipv4Net>, length: u8, taken: &[Ipv4Net]) -> Result<Ipv4Net> {
    let legal = "an IPv4 address, or externals.pool with room";
    let Some(pool) = pool else {
        return Err(Error::invalid("ipv4", "there is no pool to take one from".to_owned(), legal));
    };
    let usual = |net: &Ipv4Net| {
        net.prefix_len() < 32 || (net.addr() != pool.network() && net.addr() != pool.broadcast())
    };
    let mut blocks = pool.subnets(length).into_iter().flatten().filter(usual);
    let apart = |net: &Ipv4Net| !taken.iter().any(|other| other.contains(net) || net.contains(other));
    blocks.find(apart).ok_or_else(|| {
        Error::exhausted("ipv4", format!("{pool} has no {} addresses left", 1u64 << (32 - length)), legal)
    })
}

/// What the data plane makes of what is kept.
fn known(kept: &Asked) -> Vec<External> {
    let external =
        |system: &Spec| Some(External { ipv6: ipv6(&system.address)?, ipv4: ipv4(system.ipv4.as_deref()?)? });
    kept.systems.iter().filter_map(external).collect()
}

/// The IPv4 networks that externals have, and may get.
pub(super) fn nets(kept: &Asked) -> Vec<Ipv4Net> {
    let pool = kept.pool.as_deref().and_then(ipv4);
    known(kept).into_iter().map(|external| external.ipv4).chain(pool).collect()
}

/// What nodes know those externals by whose own addresses are in an IPv6 network.
pub(super) fn within(kept: &Asked, cidr: &str) -> Vec<Ipv4Net> {
    let Some(net) = ipv6(cidr) else { return Vec::new() };
    let part = |External { ipv6, ipv4 }: External| {
        if net.contains(&ipv6) {
            return Some(ipv4);
        }
        // Of some that follow each other only a part: as many bits further on.
        let further =
            ipv6.contains(&net).then(|| (net.network().to_bits() - ipv6.network().to_bits()) as u32)?;
        let first = Ipv4Addr::from_bits(ipv4.network().to_bits() + further);
        Ipv4Net::new(first, net.prefix_len() - 96).ok()
    };
    known(kept).into_iter().filter_map(part).collect()
}

/// Whether nobody else of the network `id`, or of those that it has a peering with, has what externals have. `subnets` are the
/// network's own.
pub(super) fn check_apart(
    txn: &Transaction<'_>,
    (id, vnet): (&str, u32),
    kept: &Asked,
    subnets: &[SubnetRecord],
    field: &str,
) -> Result<()> {
    let nets = nets(kept);
    let mut others: Vec<_> = subnets.iter().map(|subnet| (subnet.net, id.to_owned())).collect();
    for (other, record) in peering::partners(txn, id)? {
        others.extend(record.subnets.iter().map(|subnet| (subnet.net, other.clone())));
    }
    check_subnets(&nets, &others, field)?;
    let records: Vec<_> = nets.iter().map(|net| SubnetRecord { net: *net, gateway: None }).collect();
    route::check_subnets(txn, id, vnet, &records, field)?;
    let externals = known(kept);
    try_scan(txn.view(), Table::Hosts, &[], &[], |key, value| {
        let record: HostRecord = decode(Table::Hosts, key, value)?;
        check_prefix(txn, record.prefix, &externals, field)?;
        Ok(Step::Continue(()))
    })
}

/// Whether IPv4 networks of externals are apart from these subnets of networks.
pub(super) fn check_subnets(nets: &[Ipv4Net], subnets: &[(Ipv4Net, String)], field: &str) -> Result<()> {
    for net in nets {
        if let Some((subnet, of)) =
            subnets.iter().find(|(subnet, _)| subnet.contains(net) || net.contains(subnet))
        {
            return Err(Error::conflict(
                field,
                format!("{net}, of externals, and {subnet}, a subnet of network {of}, overlap"),
                "addresses that are in no subnet of the network and of its peers",
            ));
        }
    }
    Ok(())
}

fn check_prefix(txn: &Transaction<'_>, prefix: Ipv6Addr, externals: &[External], field: &str) -> Result<()> {
    let Ok(prefix) = HostPrefix::new(txn.layout(), prefix) else { return Ok(()) };
    match externals.iter().find(|external| prefix.contains(external.ipv6.network())) {
        None => Ok(()),
        Some(external) => Err(Error::conflict(
            field,
            format!("{} is in {prefix}, the prefix of a host", written(external.ipv6.into())),
            "systems outside of all hosts' prefixes",
        )),
    }
}

/// Whether no network has an external in the prefix of a new host.
pub(super) fn check_host(txn: &Transaction<'_>, prefix: Ipv6Addr) -> Result<()> {
    try_scan(txn.view(), Table::Networks, &[], &[], |key, value| {
        let record: NetworkRecord = decode(Table::Networks, key, value)?;
        check_prefix(txn, prefix, &known(&record.externals), "prefix")?;
        Ok(Step::Continue(()))
    })
}

/// What engines are told.
pub(super) fn told(kept: &Asked) -> Vec<sync::External> {
    let message = |external: External| sync::External {
        ipv6: external.ipv6.to_string(),
        ipv4: external.ipv4.to_string(),
    };
    known(kept).into_iter().map(message).collect()
}

/// Refuses a change by whoever is confined to an entity: externals are the substrate's business, on which there is more than what
/// nodes may reach.
pub(super) fn authorise(txn: &Transaction<'_>, found: &Asked, asked: &Asked) -> Result<()> {
    if found == asked || txn.confined_to().is_none() {
        return Ok(());
    }
    Err(Error::forbidden(
        Some("externals"),
        "operators say which systems of the substrate a network's nodes exchange packets with",
        "what they are now",
    ))
}
