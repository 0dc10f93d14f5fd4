//! What would happen to a packet between two interfaces: judged by the very code that engines judge by, with the rules of
//! both.

use super::acting::listed;
use super::record::{InterfaceRecord, NetworkRecord, NodeRecord, RuleRecord, interface_id, load, revision};
use super::resolved::{self, Resolved};
use super::{check, peering, rule};
use crate::access::{Caller, Kind};
use crate::error::{Error, Result};
use crate::store::{Table, View};
use overlane_api::policy::{
    Action, Decision, DefaultAction, Direction, IcmpMatch, RuleTest, RuleVerdict, has_ports, parse_protocol,
};
use overlane_api::resource::InterfaceState;
use overlane_dataplane::address::Layout;
use overlane_dataplane::counters::PerWorker;
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::id::{PortId, Slot, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::policy::{self, End, Passage, Peers, Policy, RuleSet, TagId, judge};
use overlane_dataplane::snapshot::{HostSnapshot, Interface, Peering, Vnet};
use overlane_dataplane::wire::{icmp, protocol};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

/// A port of the first packet of a flow, where none is given (RFC 6335, 6).
const DYNAMIC_PORT: u32 = 49_152;
/// The smallest packet, and one of usual size.
const SMALLEST: u32 = 20;
const USUAL: u32 = 60;

const fn default_action(action: DefaultAction) -> policy::Action {
    match action {
        DefaultAction::Allow => policy::Action::Allow,
        DefaultAction::Deny => policy::Action::Deny,
    }
}

const fn told(action: policy::Action) -> Action {
    match action {
        policy::Action::Allow => Action::Allow,
        policy::Action::Deny => Action::Deny,
        policy::Action::Reject => Action::Reject,
    }
}

fn unreadable(record: &InterfaceRecord, problem: impl ToString) -> Error {
    Error::Record { key: format!("Interfaces/{}", record.id()), problem: problem.to_string() }
}

/// The rules of an interface that are in force at a moment, compiled; `None`: there are no rules about it.
fn policy_of(view: &dyn View, record: &InterfaceRecord, moment: SystemTime) -> Result<Option<Arc<Policy>>> {
    let own = VnetId::new(record.vnet).map_err(|error| unreadable(record, error))?;
    let mut rules = Vec::new();
    for scope in resolved::scopes(view, record)? {
        for id in rule::of_scope(view, &scope.key())? {
            if let Some(found) = load::<RuleRecord>(view, Table::Rules, &id)? {
                rules.push(Resolved::new(view, &id, &found)?);
            }
        }
    }
    rules.retain(|rule| rule.is_in_force(moment));
    if rules.is_empty() {
        return Ok(None);
    }
    rules.sort_by(|one, two| one.order().cmp(&two.order()));
    let list = |direction| {
        let rules = rules.iter().filter(|rule| rule.direction() == direction);
        // What an engine cannot compile it lets nothing pass by, and says so.
        Arc::new(
            RuleSet::compile(rules.map(|rule| rule.compiled(own)).collect())
                .unwrap_or_else(|_| RuleSet::deny_all("too-complex")),
        )
    };
    Ok(Some(Arc::new(Policy { egress: list(Direction::Egress), ingress: list(Direction::Ingress) })))
}

/// An interface as its engine has it, as far as judging goes.
fn interface(view: &dyn View, record: &InterfaceRecord, moment: SystemTime) -> Result<Interface> {
    let network: NetworkRecord = load(view, Table::Networks, &record.network)?
        .ok_or_else(|| unreadable(record, "its network is missing"))?;
    let vnet = |id: u32| VnetId::new(id).map_err(|error| unreadable(record, error));
    let mut own = Vnet::new(vnet(record.vnet)?, Vec::new(), Arc::new(PerWorker::new(0)));
    own.default_action = default_action(network.default_action);
    for (peering, other) in peering::of_network(view, &record.network)? {
        own.peerings.push(Peering {
            vnet: vnet(other.vnet)?,
            subnets: other.subnets.iter().map(|subnet| subnet.net).collect(),
            default_action: default_action(peering.default_action),
            on_demand: false,
        });
    }
    Ok(Interface {
        name: record.id(),
        port: PortId::new(0).map_err(|error| unreadable(record, error))?,
        slot: Slot::ZERO,
        vnet: Arc::new(own),
        mac: record.mac.parse().map_err(|error| unreadable(record, error))?,
        addresses: record.addresses.clone(),
        policy: policy_of(view, record, moment)?,
        settling: false,
        mtu: u16::MAX,
        traffic: Arc::new(PerWorker::new(0)),
        icmp_limit: IcmpLimit::default().buckets(0),
        cap: None,
        group_limit: GroupLimit::default().buckets(0),
    })
}

fn peers(records: [&InterfaceRecord; 2]) -> Peers {
    let of = |record: &InterfaceRecord| {
        let tags: Vec<TagId> = record.tags.iter().map(|number| TagId(*number)).collect();
        let vnet = VnetId::new(record.vnet).ok();
        record.addresses.iter().filter_map(move |ip| Some(((vnet?, *ip), tags.clone()))).collect::<Vec<_>>()
    };
    Peers::new(records.into_iter().flat_map(of))
}

/// Whether an interface may have anything to say to an address of another one, or the other way round.
pub(super) fn may_talk(
    view: &dyn View,
    asker: &InterfaceRecord,
    target: (&InterfaceRecord, Ipv4Addr),
) -> Result<bool> {
    let moment = SystemTime::now();
    let (one, two) = (interface(view, asker, moment)?, interface(view, target.0, moment)?);
    let peers = peers([asker, target.0]);
    let default = if one.vnet.id == two.vnet.id {
        Some(one.vnet.default_action)
    } else {
        one.vnet.peering(two.vnet.id).map(|peering| peering.default_action)
    };
    let Some(default) = default.map(|action| action == policy::Action::Allow) else { return Ok(false) };
    let Some(own) = one.addresses.first() else { return Ok(false) };
    let passes = |of: &Interface, list: fn(&Policy) -> &RuleSet, peer: (VnetId, Ipv4Addr)| {
        let rules = of.policy.as_deref().map(list);
        rules.map_or(default, |rules| rules.lets_anything_pass(peer, peers.tags(peer), default))
    };
    let (asker, target) = ((one.vnet.id, *own), (two.vnet.id, target.1));
    let forth =
        passes(&one, |policy| &policy.egress, target) && passes(&two, |policy| &policy.ingress, asker);
    let back = passes(&two, |policy| &policy.egress, asker) && passes(&one, |policy| &policy.ingress, target);
    Ok(forth || back)
}

/// The interface that is called so: a node's only one, or `node/interface`.
fn named(view: &dyn View, own: Option<&str>, field: &str, name: &str) -> Result<InterfaceRecord> {
    let (node, interface) = name.split_once('/').map_or((name, None), |(node, rest)| (node, Some(rest)));
    check::id(field, node)?;
    let absent = || Error::invalid(field, format!("there is no {name:?}"), "a node, or node/interface");
    let found: Option<NodeRecord> = load(view, Table::Nodes, node)?;
    let found = found.filter(|found| own.is_none_or(|own| own == found.entity)).ok_or_else(absent)?;
    let interface = match (interface, &found.interfaces[..]) {
        (Some(interface), _) => interface.to_owned(),
        (None, [only]) => only.clone(),
        (None, all) => {
            let legal: Vec<String> = all.iter().map(|name| format!("{node}/{name}")).collect();
            return Err(Error::invalid(field, format!("{node} has several interfaces"), legal.join(", ")));
        }
    };
    load(view, Table::Interfaces, &interface_id(node, &interface))?.ok_or_else(absent)
}

fn within(field: &str, value: u32, least: u32) -> Result<u16> {
    let legal = || Error::invalid(field, format!("{value} is out of range"), format!("{least} to 65535"));
    u16::try_from(value).ok().filter(|value| u32::from(*value) >= least).ok_or_else(legal)
}

fn octet(field: &str, value: u32) -> Result<u8> {
    u8::try_from(value).map_err(|_| Error::invalid(field, format!("{value} is out of range"), "0 to 255"))
}

/// What would happen to the first packet of a flow.
///
/// # Errors
/// [`Error::Refused`] naming the field that makes no sense.
pub(crate) fn test(
    view: &dyn View,
    caller: &Caller,
    layout: Layout,
    asked: &RuleTest,
) -> Result<RuleVerdict> {
    let own = listed(caller, Kind::RuleTest)?;
    let moment = SystemTime::now();
    let (from, to) = (named(view, own, "from", &asked.from)?, named(view, own, "to", &asked.to)?);
    let number = parse_protocol(&asked.protocol)?;
    let ports = if has_ports(number) {
        let legal = "0 to 65535, for a protocol with ports";
        let port = asked.port.ok_or_else(|| Error::invalid("port", "it is missing", legal))?;
        let source = within("source_port", asked.source_port.unwrap_or(DYNAMIC_PORT), 0)?;
        Some((source, within("port", port, 0)?))
    } else {
        let given = [("port", asked.port), ("source_port", asked.source_port)];
        if let Some((field, _)) = given.into_iter().find(|(_, value)| value.is_some()) {
            return Err(Error::invalid(field, "the protocol has no ports", "absent"));
        }
        None
    };
    let icmp = match (number, asked.icmp) {
        (protocol::ICMP, None) => Some((icmp::v4::ECHO_REQUEST, 0)),
        (protocol::ICMP, Some(IcmpMatch { kind, code })) => {
            Some((octet("icmp.type", kind)?, octet("icmp.code", code.unwrap_or(0))?))
        }
        (_, Some(_)) => return Err(Error::invalid("icmp", "the protocol is not icmp", "absent")),
        (_, None) => None,
    };
    let size = within("size", asked.size.unwrap_or(USUAL), SMALLEST)?;
    let (sender, receiver) = (interface(view, &from, moment)?, interface(view, &to, moment)?);
    let mut snapshot = HostSnapshot::empty(layout);
    snapshot.peers = Arc::new(peers([&from, &to]));
    let end = |interface| -> Option<End<'_>> {
        let interface: &Interface = interface;
        let address = *interface.addresses.first()?;
        Some(End { vnet: interface.vnet.id, address, interface: Some(interface) })
    };
    let ends = end(&sender).zip(end(&receiver));
    let (source, destination) = ends.ok_or_else(|| unreadable(&from, "it has no address"))?;
    let passage = Passage { from: source, to: destination, protocol: number, ports, icmp, size };
    let judgement = judge(&snapshot, &passage);
    let decision = |rule: &policy::Rule| Decision {
        rule: rule.id.to_string(),
        revision: rule.revision,
        action: told(rule.action),
    };
    let default = policy::default_between(&passage.from, &passage.to);
    let obstacles = [&from, &to].into_iter().filter(|end| end.current().state != InterfaceState::Live);
    Ok(RuleVerdict {
        passes: judgement.verdict.is_ok(),
        reason: judgement.verdict.err().map(|reason| reason.name().to_owned()),
        rejected: judgement.reject,
        stateless: judgement.stateless,
        egress: judgement.egress.map(decision),
        ingress: judgement.ingress.map(decision),
        default_action: default.map(told),
        obstacles: obstacles
            .map(|end| format!("{} is {}, not live", end.id(), end.current().state))
            .collect(),
        revision: revision(view)?,
    })
}
