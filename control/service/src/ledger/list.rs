//! Lists, a page at a time.

use super::acting::listed;
use super::record::{
    HostRecord, InterfaceRecord, NetworkRecord, NodeRecord, PeeringRecord, RuleRecord, decode, load,
    load_all_users, pair, text, try_scan,
};
use super::{entity, host, moving, network, node, peering, rule, token};
use crate::access::{Caller, Kind};
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};
use overlane_api::access::{Quota, Token};
use overlane_api::policy::{Peering, Rule};
use overlane_api::resource::{Entity, Host, InterfaceCounts, InterfaceState, ListQuery, Network, Node, Page};
use overlane_dataplane::address::Layout;
use std::collections::BTreeSet;

/// How many records one page looks at: a page of a list with a narrow filter may come back short, or empty, with a
/// `next` to go on from.
const MAX_LOOK: usize = 20_000;

/// How many a page may have, and behind which id it begins.
fn bounds(query: &ListQuery) -> Result<(usize, Option<&str>)> {
    let limit = super::check::page(query.limit)?;
    if let Some(after) = &query.after {
        super::check::id("after", after)?;
    }
    Ok((limit, query.after.as_deref()))
}

/// Makes a page from the ids that `take` takes.
fn page<T>(
    view: &dyn View,
    table: Table,
    query: &ListQuery,
    mut take: impl FnMut(&str, &[u8]) -> Result<Option<T>>,
) -> Result<Page<T>> {
    let (limit, after) = bounds(query)?;
    let from = after.map(|after| pair(after, &[])).unwrap_or_default();
    let mut page = Page { items: Vec::new(), next: None };
    let mut last = None;
    let mut looked = 0;
    try_scan(view, table, &[], &from, |key, value| {
        if page.items.len() == limit || looked == MAX_LOOK {
            page.next = last.take();
            return Ok(Step::Break(()));
        }
        looked += 1;
        let id = String::from_utf8_lossy(key).into_owned();
        page.items.extend(take(&id, value)?);
        last = Some(id);
        Ok(Step::Continue(()))
    })?;
    Ok(page)
}

/// The same for what an entity owns, of a kind with its slash (like `node/`), from the index. Every id that is told is one that
/// was taken, so that nobody hears of others' ids.
fn page_of<T>(
    view: &dyn View,
    table: Table,
    (entity, kind): (&str, &str),
    query: &ListQuery,
    mut take: impl FnMut(&str, &[u8]) -> Result<Option<T>>,
) -> Result<Page<T>> {
    let (limit, after) = bounds(query)?;
    let prefix = pair(&format!("entity/{entity}"), kind.as_bytes());
    let from = after.map(|after| [&prefix[..], after.as_bytes(), &[0]].concat()).unwrap_or_default();
    let mut page = Page { items: Vec::new(), next: None };
    let mut last = None;
    try_scan(view, Table::Uses, &prefix, &from, |key, _| {
        let id = text(Table::Uses, key, key.get(prefix.len()..).unwrap_or_default().to_vec())?;
        let Some(value) = view.get(table, id.as_bytes())? else { return Ok(Step::Continue(())) };
        let Some(item) = take(&id, &value)? else { return Ok(Step::Continue(())) };
        if page.items.len() == limit {
            page.next = last.take();
            return Ok(Step::Break(()));
        }
        page.items.push(item);
        last = Some(id);
        Ok(Step::Continue(()))
    })?;
    Ok(page)
}

/// A page of what is an entity's, if the list is of one's: by who asks, and by what is asked for.
fn page_for<T>(
    view: &dyn View,
    (caller, kind, table): (&Caller, Kind, Table),
    query: &ListQuery,
    mut take: impl FnMut(&str, &[u8]) -> Result<Option<T>>,
) -> Result<Page<T>> {
    let own = listed(caller, kind)?;
    let prefix = format!("{}/", kind.name());
    match (own, query.entity.as_deref()) {
        (None, None) => page(view, table, query, take),
        // Others' lists are empty, like those of entities that are not there.
        (Some(own), Some(asked)) if own != asked => {
            bounds(query)?;
            Ok(Page { items: Vec::new(), next: None })
        }
        (Some(entity), _) | (None, Some(entity)) => page_of(view, table, (entity, &prefix), query, &mut take),
    }
}

/// Refuses the filters that a list does not have.
fn no_filter(query: &ListQuery, has: &[&str]) -> Result<()> {
    let given = [("entity", &query.entity), ("network", &query.network), ("host", &query.host)];
    for (name, value) in given {
        if value.is_some() && !has.contains(&name) {
            let legal = [&["limit", "after"], has].concat().join(", ");
            return Err(Error::invalid(name, "this list has no such filter", legal));
        }
        if let Some(value) = value {
            super::check::id(name, value)?;
        }
    }
    Ok(())
}

pub(crate) fn entities(
    view: &dyn View,
    caller: &Caller,
    default: Quota,
    query: &ListQuery,
) -> Result<Page<Entity>> {
    no_filter(query, &[])?;
    let Some(own) = listed(caller, Kind::Entity)? else {
        return page(view, Table::Entities, query, |id, _| entity::read(view, default, id).map(Some));
    };
    let (_, after) = bounds(query)?;
    let mut items = Vec::new();
    if after.is_none_or(|after| own > after) {
        items.push(entity::read(view, default, own)?);
    }
    Ok(Page { items, next: None })
}

pub(crate) fn networks(view: &dyn View, caller: &Caller, query: &ListQuery) -> Result<Page<Network>> {
    no_filter(query, &["entity"])?;
    page_for(view, (caller, Kind::Network, Table::Networks), query, |id, value| {
        let record: NetworkRecord = decode(Table::Networks, id.as_bytes(), value)?;
        Ok(Some(network::resource(id, record)))
    })
}

pub(crate) fn hosts(
    view: &dyn View,
    caller: &Caller,
    layout: Layout,
    query: &ListQuery,
) -> Result<Page<Host>> {
    no_filter(query, &[])?;
    listed(caller, Kind::Host)?;
    page(view, Table::Hosts, query, |id, value| {
        let record: HostRecord = decode(Table::Hosts, id.as_bytes(), value)?;
        host::resource(view, layout, id, record).map(Some)
    })
}

pub(crate) fn nodes(view: &dyn View, caller: &Caller, query: &ListQuery) -> Result<Page<Node>> {
    no_filter(query, &["entity", "network", "host"])?;
    page_for(view, (caller, Kind::Node, Table::Nodes), query, |id, value| {
        let record: NodeRecord = decode(Table::Nodes, id.as_bytes(), value)?;
        let other = |wanted: &Option<String>, is: &str| wanted.as_ref().is_some_and(|wanted| wanted != is);
        let to = record.moving.as_ref().map_or(&record.host, |moving| &moving.to);
        if other(&query.host, &record.host) && other(&query.host, to) {
            return Ok(None);
        }
        let interfaces = node::interfaces(view, id, &record)?;
        if query.network.as_ref().is_some_and(|network| interfaces.iter().all(|is| is.network != *network)) {
            return Ok(None);
        }
        Ok(Some(node::resource(id, &record, &interfaces)))
    })
}

pub(crate) fn rules(view: &dyn View, caller: &Caller, query: &ListQuery) -> Result<Page<Rule>> {
    no_filter(query, &["entity"])?;
    let of = listed(caller, Kind::Rule)?.map(str::to_owned).or(query.entity.clone());
    page_for(view, (caller, Kind::Rule, Table::Rules), query, |id, value| {
        let record: RuleRecord = decode(Table::Rules, id.as_bytes(), value)?;
        // The index has also those of others that are about the entity.
        let others = of.as_ref().is_some_and(|entity| *entity != record.spec.entity);
        Ok((!others).then(|| rule::resource(id, record)))
    })
}

pub(crate) fn tokens(view: &dyn View, caller: &Caller, query: &ListQuery) -> Result<Page<Token>> {
    no_filter(query, &["entity"])?;
    page_for(view, (caller, Kind::Token, Table::Tokens), query, |id, value| {
        Ok(Some(token::resource(id, decode(Table::Tokens, id.as_bytes(), value)?)))
    })
}

pub(crate) fn peerings(view: &dyn View, caller: &Caller, query: &ListQuery) -> Result<Page<Peering>> {
    no_filter(query, &["network"])?;
    let has = |record: &PeeringRecord| {
        query.network.as_ref().is_none_or(|network| record.networks.contains(network))
    };
    let Some(own) = listed(caller, Kind::Peering)? else {
        return page(view, Table::Peerings, query, |id, value| {
            let record: PeeringRecord = decode(Table::Peerings, id.as_bytes(), value)?;
            has(&record).then(|| peering::resource(view, id, &record)).transpose()
        });
    };
    // Those of its networks: as many as there are networks in its quota, and peerings to a network.
    let (limit, after) = bounds(query)?;
    let mut ids = BTreeSet::new();
    for network in load_all_users(view, &format!("entity/{own}"), "network/")? {
        ids.extend(load_all_users(view, &format!("network/{network}"), "peering/")?);
    }
    let mut page: Page<Peering> = Page { items: Vec::new(), next: None };
    for id in ids.into_iter().filter(|id| after.is_none_or(|after| id.as_str() > after)) {
        let Some(record) = load::<PeeringRecord>(view, Table::Peerings, &id)?.filter(has) else { continue };
        if page.items.len() == limit {
            page.next = page.items.last().map(|last| last.id.clone());
            break;
        }
        page.items.push(peering::resource(view, &id, &record)?);
    }
    Ok(page)
}

/// How many interfaces are how far.
pub(crate) fn interface_counts(view: &dyn View) -> Result<InterfaceCounts> {
    let mut counts = InterfaceCounts::default();
    try_scan(view, Table::Interfaces, &[], &[], |key, value| {
        let record: InterfaceRecord = decode(Table::Interfaces, key, value)?;
        *match record.current().state {
            InterfaceState::Defined => &mut counts.defined,
            InterfaceState::Attached => &mut counts.attached,
            InterfaceState::Live => &mut counts.live,
            InterfaceState::Gone => &mut counts.gone,
        } += 1;
        Ok(Step::Continue(()))
    })?;
    Ok(counts)
}

/// The moves under way, as the API tells them.
pub(crate) fn moves(view: &dyn View, limit: usize) -> Result<Vec<overlane_api::resource::NodeMove>> {
    let mut moves = Vec::new();
    for active in moving::active(view, "", limit)? {
        let Some(progress) = node::read(view, &active.node)?.moving else { continue };
        moves.push(overlane_api::resource::NodeMove { node: active.node, progress });
    }
    Ok(moves)
}
