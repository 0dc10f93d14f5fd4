//! Rules and peerings of a static file.

use super::Site;
use crate::provisioning::model::{MAX_PEERINGS, What};
use crate::provisioning::rule::{Direction, MAX_RULES, Peer, Rule, Scope, Tags, tags};
use crate::provisioning::wire::check_peerings;
use core::ops::Range;
use ipnet::Ipv4Net;
use overlane_api::config::FileError;
use overlane_api::policy::{self as api, IcmpMatch, Matches, RuleSpec, Selector, SizeMatch, Window};
use overlane_api::resource::is_id;
use overlane_dataplane::policy::{Action, TagId};
use overlane_dataplane::snapshot::Peering;
use serde::Deserialize;
use std::sync::Arc;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    id: Spanned<String>,
    priority: u32,
    direction: api::Direction,
    on: Selector,
    #[serde(default)]
    peer: Selector,
    protocol: Option<String>,
    ports: Option<String>,
    source_ports: Option<String>,
    icmp: Option<IcmpMatch>,
    size: Option<SizeMatch>,
    window: Option<Window>,
    action: api::Action,
    #[serde(default)]
    stateless: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPeering {
    networks: Spanned<[String; 2]>,
    #[serde(default)]
    default_action: api::DefaultAction,
}

/// What happens to what no rule decides.
pub(super) const fn default_action(action: api::DefaultAction) -> Action {
    match action {
        api::DefaultAction::Allow => Action::Allow,
        api::DefaultAction::Deny => Action::Deny,
    }
}

const ON_LEGAL: &str = "one of node, tag, network";
const PEER_LEGAL: &str = "none, or one of node, tag, network, cidr (with a network)";

impl Site<'_> {
    /// The number of a tag; the first to name one gives it its number.
    fn tag(&mut self, name: &str) -> TagId {
        let next = self.tags.len() as u32;
        TagId(*self.tags.entry(name.to_owned()).or_insert(next))
    }

    /// The tags of an interface's node.
    pub(super) fn tags_of(&mut self, names: &[Spanned<String>]) -> Result<Tags, FileError> {
        let mut numbers = Vec::new();
        for name in names {
            let legal = is_id(name.as_ref()).then(|| name.as_ref().clone());
            let name = self.check(name, super::ID_LEGAL, legal)?;
            numbers.push(self.tag(&name).0);
        }
        let found = tags(&numbers);
        let at = names.first().map_or(0..0, Spanned::span);
        found.ok_or_else(|| self.source.error(&at, format!("{} tags; at most 16 are legal", names.len())))
    }

    pub(super) fn peering(&mut self, raw: &RawPeering) -> Result<(), FileError> {
        let at = raw.networks.span();
        let mut vnets = Vec::new();
        for name in raw.networks.as_ref() {
            let known = self.networks.get(name).cloned();
            let problem = || self.source.error(&at, format!("there is no [[network]] {name}"));
            vnets.push(known.ok_or_else(problem)?);
        }
        let [one, two] = &vnets[..] else { return Ok(()) };
        for (own, other) in [(one, two), (two, one)] {
            let mut changed = (**own).clone();
            changed.peerings.push(Peering {
                vnet: other.id,
                subnets: other.subnets.iter().map(|subnet| subnet.net).collect(),
                default_action: default_action(raw.default_action),
                on_demand: false,
            });
            if changed.peerings.len() > MAX_PEERINGS {
                return self.refuse(&at, format!("network {} has more than {MAX_PEERINGS} peers", own.name));
            }
            if let Err((legal, given)) = check_peerings(own.id, &own.subnets, &changed.peerings) {
                let message = format!("network {} must be {legal}, not {given}", own.name);
                return self.refuse(&at, message);
            }
            self.networks.insert(own.name.clone(), Arc::new(changed));
        }
        Ok(())
    }

    /// Takes a rule in; all interfaces are known.
    pub(super) fn rule(&mut self, raw: &RawRule) -> Result<(), FileError> {
        let at = raw.id.span();
        let id = is_id(raw.id.as_ref()).then(|| raw.id.as_ref().clone());
        let id = self.check(&raw.id, super::ID_LEGAL, id)?;
        let spec = RuleSpec {
            entity: String::new(),
            description: String::new(),
            priority: raw.priority,
            direction: raw.direction,
            on: raw.on.clone(),
            peer: raw.peer.clone(),
            protocol: raw.protocol.clone(),
            ports: raw.ports.clone(),
            source_ports: raw.source_ports.clone(),
            icmp: raw.icmp,
            size: raw.size,
            window: raw.window.clone(),
            action: raw.action,
            stateless: raw.stateless,
        };
        let Matches { priority, protocol, source_ports, destination_ports, icmp, size, window } =
            Matches::of(&spec).map_err(|error| self.source.error(&at, format!("rule {id}: {error}")))?;
        let rule = Rule {
            id: id.as_str().into(),
            priority,
            direction: match raw.direction {
                api::Direction::Egress => Direction::Egress,
                api::Direction::Ingress => Direction::Ingress,
            },
            on: self.scope(&id, &at, &raw.on)?,
            peer: self.peer(&id, &at, &raw.peer)?,
            protocol,
            source_ports,
            destination_ports,
            icmp,
            size,
            window,
            action: match raw.action {
                api::Action::Allow => Action::Allow,
                api::Action::Deny => Action::Deny,
                api::Action::Reject => Action::Reject,
            },
            stateless: raw.stateless,
        };
        if self.state.rules.contains_key(&rule.id) {
            return self.refuse(&at, format!("rule {id} is there already"));
        }
        if self.state.rules.len() >= MAX_RULES {
            return self.refuse(&at, format!("more than {MAX_RULES} rules"));
        }
        // It cannot be full, and is the first of its id.
        let _ = self.state.apply(super::Change { revision: super::REVISION, what: What::PutRule(rule) });
        Ok(())
    }

    fn scope(&mut self, id: &str, at: &Range<usize>, on: &Selector) -> Result<Scope, FileError> {
        match on {
            Selector { node: Some(node), tag: None, network: None, entity: None, cidr: None } => {
                self.addresses_of(id, at, "on", node)?;
                Ok(Scope::Node(node.as_str().into()))
            }
            Selector { tag: Some(name), node: None, network: None, entity: None, cidr: None } => {
                Ok(Scope::Tag(self.tag(name)))
            }
            Selector { network: Some(name), node: None, tag: None, entity: None, cidr: None } => {
                Ok(Scope::Vnets(vec![self.vnet_of(id, at, "on", name)?]))
            }
            _ => self.refuse(at, format!("rule {id}: on must be {ON_LEGAL}, not {on}")),
        }
    }

    fn peer(&mut self, id: &str, at: &Range<usize>, peer: &Selector) -> Result<Peer, FileError> {
        match peer {
            any if any.is_any() => Ok(Peer::Any),
            Selector { node: Some(node), tag: None, network: None, entity: None, cidr: None } => {
                Ok(Peer::Addresses(self.addresses_of(id, at, "peer", node)?))
            }
            Selector { tag: Some(name), node: None, network: None, entity: None, cidr: None } => {
                Ok(Peer::Tag(self.tag(name)))
            }
            Selector { network: Some(name), node: None, tag: None, entity: None, cidr: None } => {
                Ok(Peer::Vnets(vec![self.vnet_of(id, at, "peer", name)?]))
            }
            Selector { cidr: Some(cidr), network, node: None, tag: None, entity: None } => {
                let net = cidr.parse::<Ipv4Net>().ok().filter(|net| net.trunc() == *net);
                let legal = "IPv4 in CIDR form with zeros behind the prefix length, like 10.0.0.0/24";
                let Some(net) = net else {
                    return self.refuse(at, format!("rule {id}: peer.cidr must be {legal}, not {cidr:?}"));
                };
                let vnet = network.as_ref().map(|name| self.vnet_of(id, at, "peer", name)).transpose()?;
                Ok(Peer::Addresses(vec![(vnet, net)]))
            }
            _ => self.refuse(at, format!("rule {id}: peer must be {PEER_LEGAL}, not {peer}")),
        }
    }

    fn vnet_of(
        &self,
        id: &str,
        at: &Range<usize>,
        field: &str,
        name: &str,
    ) -> Result<overlane_dataplane::id::VnetId, FileError> {
        let found = self.networks.get(name).map(|network| network.id);
        let message = || format!("rule {id}: {field}.network must be the id of a [[network]], not {name:?}");
        found.ok_or_else(|| self.source.error(at, message()))
    }

    fn addresses_of(
        &self,
        id: &str,
        at: &Range<usize>,
        field: &str,
        node: &str,
    ) -> Result<Vec<(Option<overlane_dataplane::id::VnetId>, Ipv4Net)>, FileError> {
        let Some(addresses) = self.nodes.get(node) else {
            let message =
                format!("rule {id}: {field}.node must be the node of an [[interface]], not {node:?}");
            return self.refuse(at, message);
        };
        Ok(addresses.iter().map(|target| (Some(target.vnet), Ipv4Net::from(target.ipv4))).collect())
    }
}
