//! Networks behind nodes that are routers: which interfaces are next hops for which, and may send from them.

use super::record::{InterfaceRecord, NetworkRecord, SubnetRecord, Touch, in_vnet, load, text, try_scan};
use super::transaction::Transaction;
use super::{check, external, listed, network, peering, shown};
use crate::access::{Caller, Kind};
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};
use ipnet::Ipv4Net;
use overlane_api::resource::{Network, Page};
use overlane_api::route::{Route, RouteQuery};
use overlane_api::sync;
use overlane_dataplane::route::{MAX_NEXT_HOPS, MAX_ROUTES, MAX_TRANSITS};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// What an interface has to do with a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// It is a next hop for it, and may send from it.
    Route,
    /// It may send from it.
    Transit,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Transit => "transit",
        }
    }
}

/// The key of a route: all of a network lie together, and all of a vnet.
pub(super) fn key(vnet: u32, (net, part): (Ipv4Net, Part), interface: &str) -> Vec<u8> {
    let kind = [net.prefix_len(), part as u8];
    in_vnet(vnet, &[&net.addr().octets(), &kind[..], interface.as_bytes()].concat())
}

/// The network, the part and the interface of a key.
fn parts(key: &[u8]) -> Result<Option<(Ipv4Net, Part, String)>> {
    let Some((address, rest)) = key.get(4..).and_then(<[u8]>::split_first_chunk::<4>) else {
        return Ok(None);
    };
    let [length, part, id @ ..] = rest else { return Ok(None) };
    let Ok(net) = Ipv4Net::new(Ipv4Addr::from(*address), *length) else { return Ok(None) };
    let part = if *part == Part::Route as u8 { Part::Route } else { Part::Transit };
    Ok(Some((net, part, text(Table::Routes, key, id.to_vec())?)))
}

impl InterfaceRecord {
    /// All that it has a part in.
    pub(super) fn parts(&self) -> BTreeSet<(Ipv4Net, Part)> {
        let routes = self.routes.iter().map(|net| (*net, Part::Route));
        routes.chain(self.transit.iter().map(|net| (*net, Part::Transit))).collect()
    }

    /// The address by which it is a next hop, if it is a router.
    pub(super) fn router(&self) -> Option<Ipv4Addr> {
        let is_router = !self.routes.is_empty() || !self.transit.is_empty();
        self.addresses.first().copied().filter(|_| is_router)
    }
}

/// Calls `visit` for every route and grant of a vnet.
fn each(
    view: &dyn View,
    vnet: u32,
    from: &[u8],
    mut visit: impl FnMut(Ipv4Net, Part, String) -> Result<Step>,
) -> Result<()> {
    try_scan(view, Table::Routes, &in_vnet(vnet, &[]), from, |key, _| match parts(key)? {
        Some((net, part, id)) => visit(net, part, id),
        None => Ok(Step::Continue(())),
    })
}

/// Brings the index in step with an interface that was so, and is so now; all that are in its vnet hear what has changed.
pub(super) fn settle(
    txn: &mut Transaction<'_>,
    before: Option<&InterfaceRecord>,
    after: Option<&InterfaceRecord>,
) -> Result<()> {
    let Some(record) = after.or(before) else { return Ok(()) };
    let (vnet, id) = (record.vnet, record.id());
    let seen = |record: Option<&InterfaceRecord>| {
        let record = record?;
        Some((record.parts(), record.router()?, record.current().silent))
    };
    let (was, is) = (seen(before), seen(after));
    if was == is {
        return Ok(());
    }
    let (was, is) = [was, is].map(|seen| seen.map(|(parts, ..)| parts).unwrap_or_default()).into();
    for part in was.difference(&is) {
        txn.delete(Table::Routes, &key(vnet, *part, &id))?;
    }
    for part in is.difference(&was) {
        txn.put(Table::Routes, &key(vnet, *part, &id), &[])?;
    }
    if is.difference(&was).next().is_some() {
        check_numbers(txn, record, &is)?;
    }
    txn.touch(Touch::Vnet { vnet, deleted: None });
    Ok(())
}

/// Whether there are not too many routes in the vnet of an interface, with those that it has now.
fn check_numbers(
    txn: &Transaction<'_>,
    record: &InterfaceRecord,
    own: &BTreeSet<(Ipv4Net, Part)>,
) -> Result<()> {
    let (mut routes, mut grants) = (BTreeMap::<Ipv4Net, usize>::new(), 0);
    each(txn.view(), record.vnet, &[], |net, part, _| {
        match part {
            Part::Route => *routes.entry(net).or_default() += 1,
            Part::Transit => grants += 1,
        }
        Ok(Step::Continue(()))
    })?;
    let crowded =
        routes.iter().find(|(net, count)| own.contains(&(**net, Part::Route)) && **count > MAX_NEXT_HOPS);
    if let Some((net, _)) = crowded {
        return Err(Error::exhausted(
            "routes",
            format!("{net} is behind {MAX_NEXT_HOPS} interfaces of network {}", record.network),
            format!("a network behind less than {MAX_NEXT_HOPS} interfaces"),
        ));
    }
    let network = &record.network;
    if routes.len() > MAX_ROUTES && !record.routes.is_empty() {
        return Err(Error::exhausted(
            "routes",
            format!("network {network} would have {} of them", routes.len()),
            format!("up to {MAX_ROUTES} different ones in a network"),
        ));
    }
    if grants > MAX_TRANSITS && !record.transit.is_empty() {
        return Err(Error::exhausted(
            "transit",
            format!("network {network} would have {grants} of them"),
            format!("up to {MAX_TRANSITS} in a network"),
        ));
    }
    Ok(())
}

/// Whether routes of an interface of a network, which have been checked by themselves, lie in no subnet of it, nor of one that it
/// has a peering with: their addresses would belong to that.
pub(super) fn check_outside(
    txn: &Transaction<'_>,
    id: &str,
    network: &NetworkRecord,
    routes: &[String],
) -> Result<()> {
    let mut nets: Vec<_> = network.subnets.iter().map(|subnet| (subnet.net, id.to_owned())).collect();
    for (other, record) in peering::partners(txn, id)? {
        nets.extend(record.subnets.iter().map(|subnet| (subnet.net, other.clone())));
    }
    // What externals have goes before it, too.
    nets.extend(external::nets(&network.externals).into_iter().map(|net| (net, id.to_owned())));
    for (place, text) in routes.iter().enumerate() {
        let Ok(route) = text.parse::<Ipv4Net>() else { continue };
        if let Some((net, of)) = nets.iter().find(|(net, _)| net.contains(&route)) {
            return Err(Error::conflict(
                format!("routes[{place}]"),
                format!("{route} lies in {net} of network {of}"),
                "a network outside of the subnets and externals of its network and the subnets of its peers; it may contain them",
            ));
        }
    }
    Ok(())
}

/// Whether no route of network `id` lies in one of these subnets, of that network or of another that it has a peering with.
pub(super) fn check_subnets(
    txn: &Transaction<'_>,
    id: &str,
    vnet: u32,
    subnets: &[SubnetRecord],
    field: &str,
) -> Result<()> {
    each(txn.view(), vnet, &[], |net, part, interface| {
        let subnet = subnets.iter().find(|subnet| part == Part::Route && subnet.net.contains(&net));
        match subnet {
            None => Ok(Step::Continue(())),
            Some(subnet) => Err(Error::conflict(
                field,
                format!("{net}, which is behind {interface} of network {id}, lies in {}", subnet.net),
                "subnets that no network behind a router lies in",
            )),
        }
    })
}

/// What engines are told of a vnet's.
pub(super) fn told(view: &dyn View, vnet: u32) -> Result<(Vec<sync::Route>, Vec<sync::Transit>)> {
    let (mut routes, mut transits) = (BTreeMap::<Ipv4Net, BTreeMap<Ipv4Addr, bool>>::new(), Vec::new());
    each(view, vnet, &[], |net, part, id| {
        let record = load::<InterfaceRecord>(view, Table::Interfaces, &id)?;
        if let Some(record) = record
            && let Some(via) = record.router()
        {
            match part {
                Part::Route => drop(routes.entry(net).or_default().insert(via, record.current().silent)),
                Part::Transit => transits.push(sync::Transit { cidr: net.to_string(), via: via.to_bits() }),
            }
        }
        Ok(Step::Continue(()))
    })?;
    let routes = routes.into_iter().map(|(net, routers)| sync::Route {
        cidr: net.to_string(),
        via: routers.keys().map(|via| via.to_bits()).collect(),
        silent: routers.iter().filter(|(_, silent)| **silent).map(|(via, _)| via.to_bits()).collect(),
    });
    Ok((routes.collect(), transits))
}

/// What a page begins behind: `CIDR/PART/NODE/INTERFACE`.
fn cursor(after: &str) -> Result<(Ipv4Net, Part, &str)> {
    let parse = || {
        let mut words = after.splitn(4, '/');
        let net = format!("{}/{}", words.next()?, words.next()?).parse().ok()?;
        let part = match words.next()? {
            "route" => Part::Route,
            "transit" => Part::Transit,
            _ => return None,
        };
        Some((net, part, words.next()?))
    };
    parse().ok_or_else(|| {
        let legal = "what next of the page before says, like 10.9.0.0/16/route/edge-1/eth0";
        Error::invalid("after", "it is no route".to_owned(), legal)
    })
}

/// The routes of a network, a page at a time.
pub(crate) fn list(
    view: &dyn View,
    caller: &Caller,
    network: &str,
    query: &RouteQuery,
) -> Result<Page<Route>> {
    check::id("id", network)?;
    let limit = check::page(query.limit)?;
    listed(caller, Kind::Network)?;
    let Network { vnet, .. } = shown(view, caller, network::read(view, network)?)?;
    let from = match &query.after {
        Some(after) => {
            let (net, part, id) = cursor(after)?;
            [key(vnet, (net, part), id), vec![0]].concat()
        }
        None => Vec::new(),
    };
    let mut page: Page<Route> = Page { items: Vec::new(), next: None };
    each(view, vnet, &from, |net, part, id| {
        let Some(record) = load::<InterfaceRecord>(view, Table::Interfaces, &id)? else {
            return Ok(Step::Continue(()));
        };
        if page.items.len() == limit {
            let next = |last: &Route| {
                let part = if last.transit { Part::Transit } else { Part::Route };
                format!("{}/{}/{}", last.cidr, part.name(), last.interface)
            };
            page.next = page.items.last().map(next);
            return Ok(Step::Break(()));
        }
        let place = record.current();
        page.items.push(Route {
            cidr: net.to_string(),
            interface: id,
            host: place.host.clone(),
            via: record.router().map(|via| via.to_string()).unwrap_or_default(),
            transit: part == Part::Transit,
            state: place.state,
            silent: place.silent,
        });
        Ok(Step::Continue(()))
    })?;
    Ok(page)
}
