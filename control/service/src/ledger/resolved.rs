//! Rules with everything that they name looked up: as engines are told of them, and as the service judges by them itself.

use super::record::{
    InterfaceRecord, NetworkRecord, NodeRecord, RuleRecord, Scope, interface_id, load, load_all_users,
};
use super::{external, rule, tag};
use crate::error::{Error, Result};
use crate::store::{Table, View};
use ipnet::Ipv4Net;
use overlane_api::policy::{Action, Direction, Matches, Selector};
use overlane_api::sync::{self, peer, scope};
use overlane_dataplane::id::VnetId;
use overlane_dataplane::policy;
use std::ops::RangeInclusive;
use std::time::SystemTime;

/// The other end of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Peer {
    Any,
    Vnets(Vec<u32>),
    /// `None`: in the vnet of the judged interface.
    Addresses(Vec<(Option<u32>, Ipv4Net)>),
    Tag(u32),
}

/// A rule whose names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    id: String,
    revision: u64,
    direction: Direction,
    scope: Scope,
    /// The vnets that an entity's rule is about.
    own: Vec<u32>,
    peer: Peer,
    matches: Matches,
    action: Action,
    stateless: bool,
}

/// The vnets of an entity's networks.
fn vnets_of(view: &dyn View, entity: &str) -> Result<Vec<u32>> {
    let mut vnets = Vec::new();
    for id in load_all_users(view, &format!("entity/{entity}"), "network/")? {
        vnets.extend(load::<NetworkRecord>(view, Table::Networks, &id)?.map(|network| network.vnet));
    }
    vnets.sort_unstable();
    Ok(vnets)
}

/// The vnet of a network that a rule names, and so cannot be gone.
fn vnet_of(view: &dyn View, id: &str) -> Result<u32> {
    let network: Option<NetworkRecord> = load(view, Table::Networks, id)?;
    let gone = || Error::Record { key: format!("Networks/{id}"), problem: "it is missing".to_owned() };
    Ok(network.ok_or_else(gone)?.vnet)
}

fn peer(view: &dyn View, entity: &str, selector: &Selector) -> Result<Peer> {
    Ok(match selector {
        Selector { node: Some(id), .. } => {
            let node: Option<NodeRecord> = load(view, Table::Nodes, id)?;
            let mut addresses = Vec::new();
            for name in node.map(|node| node.interfaces).unwrap_or_default() {
                let found: Option<InterfaceRecord> = load(view, Table::Interfaces, &interface_id(id, &name))?;
                let Some(found) = found else { continue };
                addresses.extend(found.addresses.iter().map(|ip| (Some(found.vnet), Ipv4Net::from(*ip))));
            }
            Peer::Addresses(addresses)
        }
        Selector { tag: Some(name), entity: of, .. } => {
            match tag::number(view, of.as_deref().unwrap_or(entity), name)? {
                Some(number) => Peer::Tag(number),
                None => Peer::Vnets(Vec::new()),
            }
        }
        Selector { cidr: Some(cidr), network: Some(id), .. } if rule::names_externals(selector) => {
            let gone =
                || Error::Record { key: format!("Networks/{id}"), problem: "it is missing".to_owned() };
            let network: NetworkRecord = load(view, Table::Networks, id)?.ok_or_else(gone)?;
            let nets = external::within(&network.externals, cidr);
            Peer::Addresses(nets.into_iter().map(|net| (Some(network.vnet), net)).collect())
        }
        Selector { cidr: Some(cidr), network, .. } => {
            let vnet = network.as_ref().map(|id| vnet_of(view, id)).transpose()?;
            // It was checked when it came.
            Peer::Addresses(cidr.parse().map(|net| (vnet, net)).into_iter().collect())
        }
        Selector { network: Some(id), .. } => Peer::Vnets(vec![vnet_of(view, id)?]),
        Selector { entity: Some(id), .. } => Peer::Vnets(vnets_of(view, id)?),
        _ => Peer::Any,
    })
}

impl Resolved {
    /// Looks everything up that a rule names.
    pub(super) fn new(view: &dyn View, id: &str, record: &RuleRecord) -> Result<Self> {
        let spec = &record.spec;
        let scope = rule::scope(view, spec)?;
        let own = match &scope {
            Scope::Entity(entity) => vnets_of(view, entity)?,
            Scope::Vnet(vnet) => vec![*vnet],
            _ => Vec::new(),
        };
        Ok(Self {
            id: id.to_owned(),
            revision: record.revision,
            direction: spec.direction,
            scope,
            own,
            peer: peer(view, &spec.entity, &spec.peer)?,
            matches: Matches::of(spec)?,
            action: spec.action,
            stateless: spec.stateless,
        })
    }

    /// Which way the packets go.
    pub(super) const fn direction(&self) -> Direction {
        self.direction
    }

    /// What decides which of two rules comes first.
    pub(super) fn order(&self) -> (u16, &str) {
        (self.matches.priority, &self.id)
    }

    /// Whether it is in force at a moment.
    pub(super) fn is_in_force(&self, moment: SystemTime) -> bool {
        self.matches.window.is_none_or(|window| window.contains(moment))
    }

    /// As the data plane takes it for an interface in `own`.
    pub(super) fn compiled(&self, own: VnetId) -> policy::Rule {
        let vnet = |id: &u32| VnetId::new(*id).ok();
        let peer = match &self.peer {
            Peer::Any => policy::Peer::Any,
            Peer::Vnets(vnets) => policy::Peer::Vnets(vnets.iter().filter_map(vnet).collect()),
            Peer::Tag(number) => policy::Peer::Tag(policy::TagId(*number)),
            Peer::Addresses(nets) => policy::Peer::Addresses(
                nets.iter().map(|(id, net)| (id.as_ref().and_then(vnet).unwrap_or(own), *net)).collect(),
            ),
        };
        let Matches { protocol, icmp, .. } = self.matches;
        policy::Rule {
            id: self.id.as_str().into(),
            revision: self.revision,
            peer,
            protocol,
            source_ports: self.matches.source_ports.clone(),
            destination_ports: self.matches.destination_ports.clone(),
            icmp,
            size: self.matches.size.clone(),
            action: match self.action {
                Action::Allow => policy::Action::Allow,
                Action::Deny => policy::Action::Deny,
                Action::Reject => policy::Action::Reject,
            },
            stateless: self.stateless,
        }
    }

    /// As engines are told of it.
    pub(super) fn message(&self) -> sync::Rule {
        let ids = |vnets: &[u32]| sync::Vnets { ids: vnets.to_vec() };
        let range = |range: &RangeInclusive<u16>| sync::Range {
            first: u32::from(*range.start()),
            last: u32::from(*range.end()),
        };
        let on = match &self.scope {
            Scope::Node(id) => scope::What::Node(id.clone()),
            Scope::Tag(number) => scope::What::Tag(*number),
            Scope::Vnet(_) | Scope::Entity(_) => scope::What::Vnets(ids(&self.own)),
        };
        let peer = match &self.peer {
            Peer::Any => peer::What::Any(sync::Any {}),
            Peer::Vnets(vnets) => peer::What::Vnets(ids(vnets)),
            Peer::Tag(number) => peer::What::Tag(*number),
            Peer::Addresses(nets) => {
                let range = |(vnet, net): &(Option<u32>, Ipv4Net)| sync::AddressRange {
                    vnet: vnet.unwrap_or(0),
                    cidr: net.to_string(),
                };
                peer::What::Addresses(sync::AddressRanges { ranges: nets.iter().map(range).collect() })
            }
        };
        let direction = match self.direction {
            Direction::Egress => sync::Direction::Egress,
            Direction::Ingress => sync::Direction::Ingress,
        };
        let Matches { priority, protocol, source_ports, destination_ports, icmp, size, window } =
            &self.matches;
        sync::Rule {
            id: self.id.clone(),
            priority: (*priority).into(),
            direction: direction.into(),
            on: Some(sync::Scope { what: Some(on) }),
            peer: Some(sync::Peer { what: Some(peer) }),
            protocol: protocol.map(u32::from),
            source_ports: source_ports.as_ref().map(range),
            destination_ports: destination_ports.as_ref().map(range),
            icmp_type: icmp.map(|(kind, _)| kind.into()),
            icmp_code: icmp.and_then(|(_, code)| code).map(u32::from),
            size: size.as_ref().map(range),
            window: window.map(|window| {
                let (days, from, until) = window.parts();
                sync::Window { days: days.into(), from: from.into(), until: until.into() }
            }),
            action: action(self.action).into(),
            stateless: self.stateless,
        }
    }
}

/// As messages say it.
pub(super) const fn action(action: Action) -> sync::Action {
    match action {
        Action::Allow => sync::Action::Allow,
        Action::Deny => sync::Action::Deny,
        Action::Reject => sync::Action::Reject,
    }
}

/// The scopes that an interface is in: its rules are theirs.
pub(super) fn scopes(view: &dyn View, interface: &InterfaceRecord) -> Result<Vec<Scope>> {
    let network: Option<NetworkRecord> = load(view, Table::Networks, &interface.network)?;
    let mut scopes = vec![Scope::Node(interface.node.clone()), Scope::Vnet(interface.vnet)];
    scopes.extend(network.map(|network| Scope::Entity(network.entity)));
    scopes.extend(interface.tags.iter().map(|number| Scope::Tag(*number)));
    Ok(scopes)
}
