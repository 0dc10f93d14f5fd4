//! What an engine has to hear: everything, or what changed since it last listened.
//!
//! The log says which keys were touched; values are taken as they are now. So however long an engine was away or
//! slow, what it hears is as long as what is different, and nothing queues up for it.

use super::network::each_address;
use super::record::{
    EntityRecord, HostRecord, InterfaceRecord, NetworkRecord, NodeRecord, RuleRecord, Touch, decode, in_vnet,
    load, load_id, meta_number, pair, revision, text, try_scan, vnet_key,
};
use super::resolved::{self, Resolved};
use super::{check, external, group, network, peering, route, rule};
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};
use overlane_api::dhcp::{Dhcp, DhcpBoot, DhcpRoute};
use overlane_api::policy::DefaultAction;
use overlane_api::resource::{AttachmentKind, RateLimit};
use overlane_api::sync::{self, Change, change::What};
use overlane_dataplane::address::Layout;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

/// What an engine that has everything up to some revision has to hear.
#[derive(Debug, Clone, PartialEq)]
pub enum Catchup {
    /// Nothing that concerns it, up to this revision.
    Nothing(u64),
    /// These changes, up to this revision; no more than the limit.
    Delta(u64, Vec<Change>),
    /// Everything: what it has is too old, or too much has changed.
    Snapshot,
}

/// The longest part of a snapshot, in changes.
pub(crate) const PART: usize = 512;

/// The engine that is told.
#[derive(Debug, Clone, Copy)]
pub struct Audience<'a> {
    /// The substrate's layout.
    pub layout: Layout,
    /// Its host.
    pub host: &'a str,
    /// Whether it knows of groups, as engines do since version 3 of the protocol.
    pub groups: bool,
}

/// Turns records into messages for one engine.
struct Teller<'a> {
    view: &'a dyn View,
    layout: Layout,
    host: &'a str,
    /// Substrate prefixes of hosts, as locations carry them.
    prefixes: HashMap<String, Vec<u8>>,
}

impl<'a> Teller<'a> {
    fn new(view: &'a dyn View, audience: Audience<'a>) -> Self {
        let Audience { layout, host, .. } = audience;
        Self { view, layout, host, prefixes: HashMap::new() }
    }

    /// Those of these vnets whose mappings the engine has to ask for.
    fn on_demand(&self, vnets: impl IntoIterator<Item = u32>) -> Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for vnet in vnets {
            if network::of_vnet(self.view, vnet)?.is_some_and(|record| record.on_demand) {
                found.insert(vnet);
            }
        }
        Ok(found)
    }

    /// The substrate prefix of a host.
    fn prefix(&mut self, host: &str) -> Result<Vec<u8>> {
        Ok(match self.prefixes.get(host) {
            Some(prefix) => prefix.clone(),
            None => {
                let record: HostRecord = load(self.view, Table::Hosts, host)?.ok_or_else(|| {
                    Error::Record { key: format!("Hosts/{host}"), problem: "it is missing".to_owned() }
                })?;
                let length = usize::from(self.layout.prefix_length() / 8);
                let prefix = record.prefix.octets().get(..length).unwrap_or_default().to_vec();
                self.prefixes.insert(host.to_owned(), prefix.clone());
                prefix
            }
        })
    }

    fn location(&mut self, (host, slot): (&str, u8)) -> Result<sync::Location> {
        let prefix = self.prefix(host)?;
        // Layouts without slots have no place for one in addresses.
        let slot = if self.layout.has_slots() { u32::from(slot) } else { 0 };
        Ok(sync::Location { prefix, slot })
    }

    fn mapping(&mut self, ipv4: Ipv4Addr, record: &InterfaceRecord) -> Result<sync::Mapping> {
        let route = record.route();
        let state = if route.live { sync::MappingState::Live } else { sync::MappingState::Down };
        Ok(sync::Mapping {
            key: Some(sync::MappingKey { vnet: record.vnet, ipv4: ipv4.to_bits() }),
            location: Some(self.location(route.location)?),
            also_accept: route.also_accept.map(|place| self.location(place)).transpose()?,
            state: state.into(),
            tags: record.tags.clone(),
        })
    }

    fn put_mapping(&mut self, ipv4: Ipv4Addr, record: &InterfaceRecord) -> Result<Change> {
        Ok(Change { revision: record.revision, what: Some(What::PutMapping(self.mapping(ipv4, record)?)) })
    }

    /// Where a group's members are; as it is at `revision`. `None`: there are none.
    fn put_group(&mut self, vnet: u32, ipv4: Ipv4Addr, revision: u64) -> Result<Option<Change>> {
        let hosts = group::hosts(self.view, vnet, ipv4)?;
        let hosts = hosts.iter().map(|host| self.prefix(host)).collect::<Result<Vec<_>>>()?;
        let message = sync::Group { vnet, ipv4: ipv4.to_bits(), hosts };
        let some = !message.hosts.is_empty();
        Ok(some.then_some(Change { revision, what: Some(What::PutGroup(message)) }))
    }

    /// The mappings of the host's own interfaces in these vnets.
    fn own_mappings(&mut self, interfaces: &[InterfaceRecord], vnets: &BTreeSet<u32>) -> Result<Vec<Change>> {
        let mut puts = Vec::new();
        for interface in interfaces.iter().filter(|interface| vnets.contains(&interface.vnet)) {
            for ipv4 in &interface.addresses {
                puts.push(self.put_mapping(*ipv4, interface)?);
            }
        }
        Ok(puts)
    }

    fn put_interface(&self, record: &InterfaceRecord) -> Result<Option<Change>> {
        let Some(place) = record.place_on(self.host) else { return Ok(None) };
        let kind = match place.attachment.kind {
            AttachmentKind::Veth => sync::AttachmentKind::Veth,
            AttachmentKind::Tap => sync::AttachmentKind::Tap,
        };
        let Ok(mac) = record.mac.parse::<overlane_dataplane::mac::MacAddr>() else { return Ok(None) };
        Ok(Some(Change {
            revision: record.revision,
            what: Some(What::PutInterface(sync::Interface {
                id: record.id(),
                vnet: record.vnet,
                slot: u32::from(place.slot),
                mac: mac.0.to_vec(),
                addresses: record.addresses.iter().map(|address| address.to_bits()).collect(),
                attachment: Some(sync::Attachment {
                    kind: kind.into(),
                    device: place.attachment.device.clone(),
                }),
                tags: record.tags.clone(),
                groups: record.groups.iter().map(|group| group.to_bits()).collect(),
                rate: self.rate(record)?,
            })),
        }))
    }

    /// How much an interface's node may send: what it and its entity say.
    fn rate(&self, record: &InterfaceRecord) -> Result<Option<sync::RateLimit>> {
        let node: Option<NodeRecord> = load(self.view, Table::Nodes, &record.node)?;
        let entity = node.map(|node| load::<EntityRecord>(self.view, Table::Entities, &node.entity));
        let most = entity.transpose()?.flatten().map_or(RateLimit::default(), |entity| entity.rate);
        let both = check::limit(record.rate).and(check::limit(most));
        Ok((!both.is_none()).then(|| sync::RateLimit {
            packets_per_second: both.packets_per_second.unwrap_or_default(),
            bits_per_second: both.bits_per_second.unwrap_or_default(),
        }))
    }

    fn put_vnet(&self, vnet: u32) -> Result<Option<Change>> {
        let Some(id) = load_id(self.view, Table::Vnets, &vnet_key(vnet))? else { return Ok(None) };
        let Some(record) = load::<NetworkRecord>(self.view, Table::Networks, &id)? else { return Ok(None) };
        let subnets = record.subnets.iter().map(|subnet| sync::Subnet {
            cidr: subnet.net.to_string(),
            gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        });
        let mut peerings = Vec::new();
        for (peering, other) in peering::of_network(self.view, &id)? {
            peerings.push(sync::Peering {
                vnet: other.vnet,
                cidrs: other.subnets.iter().map(|subnet| subnet.net.to_string()).collect(),
                default_action: default_action(peering.default_action).into(),
                on_demand: other.on_demand,
            });
        }
        let (routes, transits) = route::told(self.view, vnet)?;
        let message = sync::Vnet {
            id: vnet,
            name: id,
            subnets: subnets.collect(),
            default_action: default_action(record.default_action).into(),
            peerings,
            on_demand: record.on_demand,
            dhcp: record.dhcp.map(dhcp),
            groups: Some(sync::GroupSettings {
                no_broadcast: !record.groups.broadcast,
                confined: record.groups.confined,
            }),
            routes,
            transits,
            externals: external::told(&record.externals),
        };
        Ok(Some(Change { revision: record.revision, what: Some(What::PutVnet(message)) }))
    }

    fn put_rule(&self, id: &str, record: &RuleRecord) -> Result<Change> {
        let message = Resolved::new(self.view, id, record)?.message();
        Ok(Change { revision: record.revision, what: Some(What::PutRule(message)) })
    }

    /// The vnets that these exchange packets with.
    fn peers(&self, vnets: impl IntoIterator<Item = u32>) -> Result<BTreeSet<u32>> {
        let mut peers = BTreeSet::new();
        for vnet in vnets {
            let Some(id) = load_id(self.view, Table::Vnets, &vnet_key(vnet))? else { continue };
            peers.extend(peering::of_network(self.view, &id)?.iter().map(|(_, other)| other.vnet));
        }
        Ok(peers)
    }

    /// The ids of the rules that judge the traffic of these interfaces.
    fn rules<'r>(
        &self,
        interfaces: impl IntoIterator<Item = &'r InterfaceRecord>,
    ) -> Result<BTreeSet<String>> {
        let mut scopes = BTreeSet::new();
        for interface in interfaces {
            scopes.extend(resolved::scopes(self.view, interface)?);
        }
        let mut rules = BTreeSet::new();
        for scope in &scopes {
            rules.extend(rule::of_scope(self.view, &scope.key())?);
        }
        Ok(rules)
    }

    fn put_host(&self, record: &HostRecord) -> Change {
        Change {
            revision: record.revision,
            what: Some(What::PutHost(host_message(self.layout, self.host, record))),
        }
    }

    /// The host's interfaces, and through them its vnets.
    fn interfaces(&self) -> Result<Vec<InterfaceRecord>> {
        let mut found = Vec::new();
        try_scan(self.view, Table::Slots, &pair(self.host, &[]), &[], |key, id| {
            let id = text(Table::Slots, key, id.to_vec())?;
            found.extend(load::<InterfaceRecord>(self.view, Table::Interfaces, &id)?);
            Ok(Step::Continue(()))
        })?;
        Ok(found)
    }
}

const fn default_action(action: DefaultAction) -> sync::Action {
    match action {
        DefaultAction::Allow => sync::Action::Allow,
        DefaultAction::Deny => sync::Action::Deny,
    }
}

fn host_message(layout: Layout, id: &str, record: &HostRecord) -> sync::Host {
    sync::Host {
        id: id.to_owned(),
        layout: layout.name().to_owned(),
        prefix: format!("{}/{}", record.prefix, layout.prefix_length()),
    }
}

/// The host of an engine, if it is provisioned.
pub(crate) fn host(view: &dyn View, layout: Layout, id: &str) -> Result<Option<sync::Host>> {
    let record: Option<HostRecord> = load(view, Table::Hosts, id)?;
    Ok(record.map(|record| host_message(layout, id, &record)))
}

/// Tells all that the engine of `host` needs, in parts, in an order that can be applied as it comes; the revision
/// that it is true for. `None` if the host is not provisioned, or `tell` has had enough.
///
/// # Errors
/// [`Error::Store`].
pub fn snapshot(
    view: &dyn View,
    audience: Audience<'_>,
    tell: &mut dyn FnMut(Vec<Change>) -> Step,
) -> Result<Option<u64>> {
    let Some(record) = load::<HostRecord>(view, Table::Hosts, audience.host)? else { return Ok(None) };
    let mut teller = Teller::new(view, audience);
    let interfaces = teller.interfaces()?;
    let vnets: BTreeSet<u32> = interfaces.iter().map(|interface| interface.vnet).collect();
    let mut part = vec![teller.put_host(&record)];
    for vnet in &vnets {
        part.extend(teller.put_vnet(*vnet)?);
    }
    let mut enough = false;
    let peers = teller.peers(vnets.iter().copied())?;
    let all: BTreeSet<u32> = vnets.union(&peers).copied().collect();
    let on_demand = teller.on_demand(all.iter().copied())?;
    part.extend(teller.own_mappings(&interfaces, &on_demand)?);
    for vnet in all.difference(&on_demand).copied() {
        each_address(view, vnet, |ipv4, record| {
            part.push(teller.put_mapping(ipv4, &record)?);
            if part.len() >= PART && tell(std::mem::take(&mut part)).is_break() {
                enough = true;
                return Ok(Step::Break(()));
            }
            Ok(Step::Continue(()))
        })?;
        if enough {
            return Ok(None);
        }
    }
    for id in teller.rules(&interfaces)? {
        if let Some(record) = load::<RuleRecord>(view, Table::Rules, &id)? {
            part.push(teller.put_rule(&id, &record)?);
        }
        if part.len() >= PART && tell(std::mem::take(&mut part)).is_break() {
            return Ok(None);
        }
    }
    for record in &interfaces {
        part.extend(teller.put_interface(record)?);
    }
    let now = revision(view)?;
    for vnet in vnets.iter().copied().filter(|_| audience.groups) {
        for ipv4 in group::of_vnet(view, vnet)? {
            part.extend(teller.put_group(vnet, ipv4, now)?);
            if part.len() >= PART && tell(std::mem::take(&mut part)).is_break() {
                return Ok(None);
            }
        }
    }
    if tell(part).is_break() { Ok(None) } else { Ok(Some(now)) }
}

/// What was touched, key by key; with the revision of what was deleted last.
#[derive(Default)]
struct Touched {
    host: bool,
    vnets: BTreeMap<u32, Option<u64>>,
    presence: BTreeSet<u32>,
    peerings: Vec<[u32; 2]>,
    rules: BTreeMap<String, Option<u64>>,
    /// Scopes of rules that an interface of the host has left.
    left: BTreeSet<String>,
    interfaces: BTreeMap<String, Option<u64>>,
    /// Vnets whose mappings engines may have to hear of as a whole, or not any more.
    whole: BTreeSet<u32>,
    mappings: BTreeMap<(u32, Ipv4Addr), Option<u64>>,
    /// Groups whose members are elsewhere than they were.
    groups: BTreeSet<(u32, Ipv4Addr)>,
    /// Vnets that were on demand and are not any more.
    subscribed: BTreeSet<u32>,
}

/// What the log says of keys that concern `host`, which has `interfaces` in `vnets` and hears of mappings in all of `told`.
/// `None`: more than `limit`.
fn touched(
    teller: &Teller<'_>,
    vnets: &BTreeSet<u32>,
    told: &BTreeSet<u32>,
    since: u64,
    limit: usize,
) -> Result<Option<Touched>> {
    let mut touched = Touched::default();
    let host = teller.host;
    let from = (since + 1).to_be_bytes();
    let log = |visit: &mut dyn FnMut(Touch) -> bool| {
        try_scan(teller.view, Table::Log, &[], &from, |key, value| {
            for touch in decode::<Vec<Touch>>(Table::Log, key, value)? {
                if !visit(touch) {
                    return Ok(Step::Break(()));
                }
            }
            Ok(Step::Continue(()))
        })
    };
    let mut full = false;
    log(&mut |touch| {
        match touch {
            Touch::Host { host: of } if of == host => touched.host = true,
            Touch::Vnet { vnet, deleted } => {
                touched.vnets.insert(vnet, deleted);
            }
            Touch::Interface { host: of, id, deleted, left } if of == host => {
                touched.interfaces.insert(id, deleted);
                touched.left.extend(left);
            }
            Touch::Presence { host: of, vnet } if of == host => {
                touched.presence.insert(vnet);
            }
            // All that are in a vnet hear broadcast.
            Touch::Presence { vnet, .. } if vnets.contains(&vnet) => {
                touched.groups.insert((vnet, Ipv4Addr::BROADCAST));
            }
            Touch::Group { vnet, group } if vnets.contains(&vnet) => {
                touched.groups.insert((vnet, group));
            }
            Touch::Peering { vnets } => touched.peerings.push(vnets),
            Touch::Rule { id, deleted } => {
                touched.rules.insert(id, deleted);
            }
            Touch::Whole { vnet } if told.contains(&vnet) => drop(touched.subscribed.insert(vnet)),
            Touch::Mapping { vnet, ipv4, deleted } if told.contains(&vnet) => {
                touched.mappings.insert((vnet, ipv4), deleted);
            }
            _ => {}
        }
        let changes =
            [touched.mappings.len(), touched.interfaces.len(), touched.vnets.len(), touched.rules.len()];
        full = changes.into_iter().sum::<usize>() + touched.peerings.len() + touched.groups.len() > limit;
        !full
    })?;
    if full {
        return Ok(None);
    }
    // Where the host has come or gone, or a peer of where it is, or was.
    let here = |vnet: &u32| vnets.contains(vnet) || touched.presence.contains(vnet);
    touched.whole = teller.peers(touched.presence.iter().copied())?;
    touched.whole.extend(&touched.presence);
    touched.whole.extend(touched.peerings.iter().filter(|pair| pair.iter().any(here)).flatten());
    touched.whole.extend(&touched.subscribed);
    // That a vnet has left is known only now; what was deleted in it before concerns the engine too.
    let left: BTreeSet<u32> = touched.whole.difference(told).copied().collect();
    if !left.is_empty() {
        log(&mut |touch| {
            if let Touch::Mapping { vnet, ipv4, deleted } = touch
                && left.contains(&vnet)
            {
                touched.mappings.insert((vnet, ipv4), deleted);
            }
            full = touched.mappings.len() > limit;
            !full
        })?;
    }
    Ok((!full).then_some(touched))
}

/// What an engine has to hear, if it has everything up to revision `since`; at most `limit` changes.
///
/// # Errors
/// [`Error::Store`].
pub fn catch_up(view: &dyn View, audience: Audience<'_>, since: u64, limit: usize) -> Result<Catchup> {
    let host = audience.host;
    let now = revision(view)?;
    if since == now {
        return Ok(Catchup::Nothing(now));
    }
    let compacted = meta_number(view, "compacted")?.unwrap_or(0);
    if since > now || since < compacted {
        return Ok(Catchup::Snapshot);
    }
    let mut teller = Teller::new(view, audience);
    let interfaces = teller.interfaces()?;
    let vnets: BTreeSet<u32> = interfaces.iter().map(|interface| interface.vnet).collect();
    let mut told = teller.peers(vnets.iter().copied())?;
    told.extend(&vnets);
    let Some(mut touched) = touched(&teller, &vnets, &told, since, limit)? else {
        return Ok(Catchup::Snapshot);
    };

    let mut puts = Vec::new();
    let mut deletes = Vec::new();
    if touched.host
        && let Some(record) = load::<HostRecord>(view, Table::Hosts, host)?
    {
        puts.push(teller.put_host(&record));
    }
    for &vnet in &vnets {
        if touched.presence.contains(&vnet) || touched.vnets.contains_key(&vnet) {
            puts.extend(teller.put_vnet(vnet)?);
        }
    }
    let concerned = told.union(&touched.whole).copied();
    let on_demand = teller.on_demand(concerned)?;
    // Of a vnet that has come or gone, every mapping counts as touched; of one on demand the engine knows its own, and forgets
    // by itself what it has resolved. What it was told before the vnet was on demand it keeps until that is taken back.
    let mut full = false;
    let came = touched.whole.intersection(&on_demand).copied().collect();
    puts.extend(teller.own_mappings(&interfaces, &came)?);
    for &vnet in &touched.whole {
        let came = told.contains(&vnet);
        let mode_is_old = !touched.vnets.contains_key(&vnet);
        if on_demand.contains(&vnet) && (came || mode_is_old) {
            continue;
        }
        each_address(view, vnet, |ipv4, record| {
            let deleted = (!came).then_some(record.revision);
            touched.mappings.insert((vnet, ipv4), deleted);
            full = touched.mappings.len() > limit;
            Ok(if full { Step::Break(()) } else { Step::Continue(()) })
        })?;
        if full {
            return Ok(Catchup::Snapshot);
        }
    }
    for (&(vnet, ipv4), &deleted) in &touched.mappings {
        let key = in_vnet(vnet, &ipv4.octets());
        let owner = match load_id(view, Table::Addresses, &key)? {
            Some(id) if told.contains(&vnet) => load::<InterfaceRecord>(view, Table::Interfaces, &id)?,
            _ => None,
        };
        match owner {
            Some(record) if on_demand.contains(&vnet) && record.place_on(host).is_none() => {
                let what = Some(What::RefreshMapping(teller.mapping(ipv4, &record)?));
                puts.push(Change { revision: record.revision, what });
            }
            Some(record) => puts.push(teller.put_mapping(ipv4, &record)?),
            None => deletes.push(Change {
                revision: deleted.unwrap_or(now),
                what: Some(What::DeleteMapping(sync::MappingKey { vnet, ipv4: ipv4.to_bits() })),
            }),
        }
    }
    // An interface that has come, or has other tags, brings its rules; of others those that were touched.
    let mut changed = Vec::new();
    for id in touched.interfaces.keys() {
        let record = load::<InterfaceRecord>(view, Table::Interfaces, id)?;
        changed.extend(record.filter(|record| record.place_on(host).is_some()));
    }
    let mut due: BTreeSet<String> = teller.rules(&changed)?;
    for scope in &touched.left {
        for id in rule::of_scope(view, scope)? {
            touched.rules.entry(id).or_insert(None);
        }
    }
    let concerned = if touched.rules.is_empty() { BTreeSet::new() } else { teller.rules(&interfaces)? };
    for (id, deleted) in touched.rules {
        if concerned.contains(&id) {
            due.insert(id);
        } else {
            let revision = deleted.unwrap_or(now);
            deletes.push(Change { revision, what: Some(What::DeleteRule(id)) });
        }
    }
    for id in due {
        if let Some(record) = load::<RuleRecord>(view, Table::Rules, &id)? {
            puts.push(teller.put_rule(&id, &record)?);
        }
    }
    for (id, deleted) in touched.interfaces {
        let record = load::<InterfaceRecord>(view, Table::Interfaces, &id)?;
        match record.map(|record| teller.put_interface(&record)).transpose()?.flatten() {
            Some(put) => puts.push(put),
            None => deletes
                .push(Change { revision: deleted.unwrap_or(now), what: Some(What::DeleteInterface(id)) }),
        }
    }
    if audience.groups {
        // A vnet that has come brings all its groups; one that has gone takes them along.
        for &vnet in touched.presence.intersection(&vnets) {
            touched.groups.extend(group::of_vnet(view, vnet)?.into_iter().map(|group| (vnet, group)));
        }
        for (vnet, ipv4) in touched.groups {
            match teller.put_group(vnet, ipv4, now)? {
                Some(put) => puts.push(put),
                None => {
                    let key = sync::MappingKey { vnet, ipv4: ipv4.to_bits() };
                    deletes.push(Change { revision: now, what: Some(What::DeleteGroup(key)) });
                }
            }
        }
    }
    for &vnet in touched.presence.difference(&vnets) {
        let put = teller.put_vnet(vnet)?.map(|put| put.revision);
        let deleted = put.or_else(|| touched.vnets.get(&vnet).copied().flatten()).unwrap_or(now);
        deletes.push(Change { revision: deleted, what: Some(What::DeleteVnet(vnet)) });
    }
    puts.extend(deletes);
    Ok(match puts.len() {
        0 => Catchup::Nothing(now),
        length if length > limit => Catchup::Snapshot,
        _ => Catchup::Delta(now, puts),
    })
}

/// A mapping, as a resolution tells it.
pub(super) fn mapping(
    view: &dyn View,
    layout: Layout,
    ipv4: Ipv4Addr,
    record: &InterfaceRecord,
) -> Result<sync::Mapping> {
    Teller::new(view, Audience { layout, host: "", groups: false }).mapping(ipv4, record)
}

/// As engines are told it.
fn dhcp(settings: Dhcp) -> sync::Dhcp {
    let Dhcp { dns, domain, lease_seconds, routes, boot } = settings;
    let route = |DhcpRoute { cidr, via }| sync::DhcpRoute { cidr, via };
    sync::Dhcp {
        dns,
        domain: domain.unwrap_or_default(),
        lease_seconds,
        routes: routes.into_iter().map(route).collect(),
        boot: boot.map(|DhcpBoot { server, file }| sync::DhcpBoot { server, file }),
    }
}
