//! Lists, a page at a time.

use super::record::{
    HostRecord, InterfaceRecord, NetworkRecord, NodeRecord, PeeringRecord, RuleRecord, decode, try_scan,
};
use super::{entity, host, moving, network, node, peering, rule};
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};
use overlane_api::policy::{Peering, Rule};
use overlane_api::resource::{
    DEFAULT_PAGE, Entity, Host, InterfaceCounts, InterfaceState, ListQuery, MAX_PAGE, Network, Node, Page,
};
use overlane_dataplane::address::Layout;

/// How many records one page looks at: a page of a list with a narrow filter may come back short, or empty, with a
/// `next` to go on from.
const MAX_LOOK: usize = 20_000;

/// Makes a page from the ids that `take` takes.
fn page<T>(
    view: &dyn View,
    table: Table,
    query: &ListQuery,
    mut take: impl FnMut(&str, &[u8]) -> Result<Option<T>>,
) -> Result<Page<T>> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Error::invalid("limit", format!("{limit} is out of range"), format!("1 to {MAX_PAGE}")));
    }
    let mut from = Vec::new();
    if let Some(after) = &query.after {
        super::check::id("after", after)?;
        from = [after.as_bytes(), &[0]].concat();
    }
    let mut page = Page { items: Vec::new(), next: None };
    let mut last = None;
    let mut looked = 0;
    try_scan(view, table, &[], &from, |key, value| {
        if page.items.len() == limit as usize || looked == MAX_LOOK {
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

pub(crate) fn entities(view: &dyn View, query: &ListQuery) -> Result<Page<Entity>> {
    no_filter(query, &[])?;
    page(view, Table::Entities, query, |id, _| entity::read(view, id).map(Some))
}

pub(crate) fn networks(view: &dyn View, query: &ListQuery) -> Result<Page<Network>> {
    no_filter(query, &["entity"])?;
    page(view, Table::Networks, query, |id, value| {
        let record: NetworkRecord = decode(Table::Networks, id.as_bytes(), value)?;
        if query.entity.as_ref().is_some_and(|entity| *entity != record.entity) {
            return Ok(None);
        }
        Ok(Some(network::resource(id, record)))
    })
}

pub(crate) fn hosts(view: &dyn View, layout: Layout, query: &ListQuery) -> Result<Page<Host>> {
    no_filter(query, &[])?;
    page(view, Table::Hosts, query, |id, value| {
        let record: HostRecord = decode(Table::Hosts, id.as_bytes(), value)?;
        host::resource(view, layout, id, record).map(Some)
    })
}

pub(crate) fn nodes(view: &dyn View, query: &ListQuery) -> Result<Page<Node>> {
    no_filter(query, &["entity", "network", "host"])?;
    page(view, Table::Nodes, query, |id, value| {
        let record: NodeRecord = decode(Table::Nodes, id.as_bytes(), value)?;
        let other = |wanted: &Option<String>, is: &str| wanted.as_ref().is_some_and(|wanted| wanted != is);
        if other(&query.entity, &record.entity) {
            return Ok(None);
        }
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

pub(crate) fn rules(view: &dyn View, query: &ListQuery) -> Result<Page<Rule>> {
    no_filter(query, &["entity"])?;
    page(view, Table::Rules, query, |id, value| {
        let record: RuleRecord = decode(Table::Rules, id.as_bytes(), value)?;
        let others = query.entity.as_ref().is_some_and(|entity| *entity != record.spec.entity);
        Ok((!others).then(|| rule::resource(id, record)))
    })
}

pub(crate) fn peerings(view: &dyn View, query: &ListQuery) -> Result<Page<Peering>> {
    no_filter(query, &["network"])?;
    page(view, Table::Peerings, query, |id, value| {
        let record: PeeringRecord = decode(Table::Peerings, id.as_bytes(), value)?;
        if query.network.as_ref().is_some_and(|network| !record.networks.contains(network)) {
            return Ok(None);
        }
        peering::resource(view, id, &record).map(Some)
    })
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
