//! Between the sync protocol's rules and the checked ones.

use super::rule::{Direction, MAX_PEERS, MAX_TAGS, Peer, Rule, Scope, Tags, tags};
use super::wire::{WireError, absent, name, vnet_id, wrong};
use core::ops::RangeInclusive;
use ipnet::Ipv4Net;
use overlane_api::policy::Weekly;
use overlane_api::sync::{self, peer, scope};
use overlane_dataplane::id::VnetId;
use overlane_dataplane::policy::{Action, TagId, has_ports};
use overlane_dataplane::wire::protocol;

/// Checks a rule.
pub(super) fn rule(put: sync::Rule) -> Result<Rule, WireError> {
    let direction = match put.direction() {
        sync::Direction::Egress => Direction::Egress,
        sync::Direction::Ingress => Direction::Ingress,
        sync::Direction::Unspecified => {
            return Err(wrong("put_rule.direction", "egress or ingress", put.direction));
        }
    };
    let action = action("put_rule.action", put.action)?;
    let protocol = put.protocol.map(|number| octet("put_rule.protocol", number)).transpose()?;
    let ports = |field, ports: Option<sync::Range>| match ports {
        Some(_) if !protocol.is_some_and(has_ports) => {
            Err(wrong(field, "absent for this protocol", "present"))
        }
        ports => ports.map(|ports| range(field, ports)).transpose(),
    };
    let icmp = match (put.icmp_type, put.icmp_code) {
        (Some(_), _) if protocol != Some(protocol::ICMP) => {
            return Err(wrong("put_rule.icmp_type", "absent for this protocol", "present"));
        }
        (Some(kind), code) => Some((
            octet("put_rule.icmp_type", kind)?,
            code.map(|code| octet("put_rule.icmp_code", code)).transpose()?,
        )),
        (None, Some(code)) => return Err(wrong("put_rule.icmp_code", "absent without a type", code)),
        (None, None) => None,
    };
    let window = |window: sync::Window| {
        let given = format!("days {}, from {}, until {}", window.days, window.from, window.until);
        let legal = "days 1 to 127, times 0 to 1439";
        let window = Weekly::new(window.days, window.from, window.until);
        window.ok_or_else(|| wrong("put_rule.window", legal, given))
    };
    Ok(Rule {
        id: name("put_rule.id", &put.id)?.into(),
        priority: u16::try_from(put.priority)
            .map_err(|_| wrong("put_rule.priority", "0 to 65535", put.priority))?,
        direction,
        on: on(put.on.ok_or_else(|| absent("put_rule.on"))?)?,
        peer: peer(put.peer.ok_or_else(|| absent("put_rule.peer"))?)?,
        protocol,
        source_ports: ports("put_rule.source_ports", put.source_ports)?,
        destination_ports: ports("put_rule.destination_ports", put.destination_ports)?,
        icmp,
        size: put.size.map(|size| range("put_rule.size", size)).transpose()?,
        window: put.window.map(window).transpose()?,
        action,
        stateless: put.stateless,
    })
}

/// Checks what happens to packets.
pub(super) fn action(field: &'static str, action: i32) -> Result<Action, WireError> {
    match sync::Action::try_from(action) {
        Ok(sync::Action::Allow) => Ok(Action::Allow),
        Ok(sync::Action::Deny) => Ok(Action::Deny),
        Ok(sync::Action::Reject) => Ok(Action::Reject),
        Ok(sync::Action::Unspecified) | Err(_) => Err(wrong(field, "allow, deny or reject", action)),
    }
}

pub(super) const fn encode_action(action: Action) -> sync::Action {
    match action {
        Action::Allow => sync::Action::Allow,
        Action::Deny => sync::Action::Deny,
        Action::Reject => sync::Action::Reject,
    }
}

/// Checks the tags of a node.
pub(super) fn node_tags(field: &'static str, numbers: &[u32]) -> Result<Tags, WireError> {
    tags(numbers).ok_or_else(|| wrong(field, format!("at most {MAX_TAGS} tags"), numbers.len()))
}

pub(super) fn encode_tags(tags: &Tags) -> Vec<u32> {
    tags.iter().flat_map(|tags| tags.iter()).map(|tag| tag.0).collect()
}

fn octet(field: &'static str, number: u32) -> Result<u8, WireError> {
    u8::try_from(number).map_err(|_| wrong(field, "0 to 255", number))
}

fn range(field: &'static str, range: sync::Range) -> Result<RangeInclusive<u16>, WireError> {
    let end = |number: u32| u16::try_from(number).ok();
    match end(range.first).zip(end(range.last)) {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err(wrong(field, "a range within 0 to 65535", format!("{} to {}", range.first, range.last))),
    }
}

fn vnets(field: &'static str, vnets: sync::Vnets) -> Result<Vec<VnetId>, WireError> {
    if vnets.ids.len() > MAX_PEERS {
        return Err(wrong(field, format!("at most {MAX_PEERS}"), vnets.ids.len()));
    }
    vnets.ids.into_iter().map(|id| vnet_id(field, id)).collect()
}

fn on(on: sync::Scope) -> Result<Scope, WireError> {
    Ok(match on.what.ok_or_else(|| absent("put_rule.on.what"))? {
        scope::What::Node(node) => Scope::Node(name("put_rule.on.node", &node)?.into()),
        scope::What::Tag(tag) => Scope::Tag(TagId(tag)),
        scope::What::Vnets(ids) => Scope::Vnets(vnets("put_rule.on.vnets", ids)?),
    })
}

fn peer(peer: sync::Peer) -> Result<Peer, WireError> {
    Ok(match peer.what.ok_or_else(|| absent("put_rule.peer.what"))? {
        peer::What::Any(_) => Peer::Any,
        peer::What::Vnets(ids) => Peer::Vnets(vnets("put_rule.peer.vnets", ids)?),
        peer::What::Tag(tag) => Peer::Tag(TagId(tag)),
        peer::What::Addresses(addresses) => {
            if addresses.ranges.len() > MAX_PEERS {
                let legal = format!("at most {MAX_PEERS}");
                return Err(wrong("put_rule.peer.addresses", legal, addresses.ranges.len()));
            }
            Peer::Addresses(addresses.ranges.iter().map(addresses_in).collect::<Result<_, _>>()?)
        }
    })
}

fn addresses_in(range: &sync::AddressRange) -> Result<(Option<VnetId>, Ipv4Net), WireError> {
    let legal = "IPv4 in CIDR form, like 10.0.0.0/24, with zeros behind the prefix length";
    let net: Option<Ipv4Net> = range.cidr.parse().ok().filter(|net: &Ipv4Net| net.trunc() == *net);
    let net = net.ok_or_else(|| wrong("put_rule.peer.addresses.cidr", legal, &range.cidr))?;
    let vnet = match range.vnet {
        0 => None,
        id => Some(vnet_id("put_rule.peer.addresses.vnet", id)?),
    };
    Ok((vnet, net))
}

/// A rule as a message.
pub(super) fn encode_rule(rule: &Rule) -> sync::Rule {
    let ids = |vnets: &[VnetId]| sync::Vnets { ids: vnets.iter().map(|vnet| vnet.get()).collect() };
    let range = |range: &RangeInclusive<u16>| sync::Range {
        first: u32::from(*range.start()),
        last: u32::from(*range.end()),
    };
    let on = match &rule.on {
        Scope::Node(node) => scope::What::Node(node.to_string()),
        Scope::Tag(tag) => scope::What::Tag(tag.0),
        Scope::Vnets(vnets) => scope::What::Vnets(ids(vnets)),
    };
    let peer = match &rule.peer {
        Peer::Any => peer::What::Any(sync::Any {}),
        Peer::Vnets(vnets) => peer::What::Vnets(ids(vnets)),
        Peer::Tag(tag) => peer::What::Tag(tag.0),
        Peer::Addresses(nets) => {
            let range = |(vnet, net): &(Option<VnetId>, Ipv4Net)| sync::AddressRange {
                vnet: vnet.map_or(0, VnetId::get),
                cidr: net.to_string(),
            };
            peer::What::Addresses(sync::AddressRanges { ranges: nets.iter().map(range).collect() })
        }
    };
    let direction = match rule.direction {
        Direction::Egress => sync::Direction::Egress,
        Direction::Ingress => sync::Direction::Ingress,
    };
    let window = |window: Weekly| {
        let (days, from, until) = window.parts();
        sync::Window { days: days.into(), from: from.into(), until: until.into() }
    };
    sync::Rule {
        id: rule.id.to_string(),
        priority: rule.priority.into(),
        direction: direction.into(),
        on: Some(sync::Scope { what: Some(on) }),
        peer: Some(sync::Peer { what: Some(peer) }),
        protocol: rule.protocol.map(u32::from),
        source_ports: rule.source_ports.as_ref().map(range),
        destination_ports: rule.destination_ports.as_ref().map(range),
        icmp_type: rule.icmp.map(|(kind, _)| kind.into()),
        icmp_code: rule.icmp.and_then(|(_, code)| code).map(u32::from),
        size: rule.size.as_ref().map(range),
        window: rule.window.map(window),
        action: encode_action(rule.action).into(),
        stateless: rule.stateless,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> sync::Rule {
        encode_rule(&Rule {
            id: "web-in".into(),
            priority: 100,
            direction: Direction::Ingress,
            on: Scope::Tag(TagId(4)),
            peer: Peer::Addresses(vec![
                (None, "10.0.0.0/8".parse().unwrap()),
                (Some(VnetId::MIN), "0.0.0.0/0".parse().unwrap()),
            ]),
            protocol: Some(6),
            source_ports: None,
            destination_ports: Some(443..=444),
            icmp: None,
            size: Some(20..=1500),
            window: Weekly::new(0x1f, 480, 1080),
            action: Action::Reject,
            stateless: true,
        })
    }

    #[test]
    fn a_rule_comes_out_as_it_went_in() {
        let read = rule(good()).unwrap();
        assert_eq!(encode_rule(&read), good());
        let icmp = sync::Rule {
            protocol: Some(1),
            destination_ports: None,
            icmp_type: Some(8),
            icmp_code: Some(0),
            ..good()
        };
        assert_eq!(encode_rule(&rule(icmp.clone()).unwrap()), icmp);
    }

    #[test]
    fn each_illegal_field_of_a_rule_is_named() {
        let refused = |change: fn(&mut sync::Rule)| {
            let mut bad = good();
            change(&mut bad);
            rule(bad).unwrap_err().field
        };
        assert_eq!(refused(|rule| rule.id.clear()), "put_rule.id");
        assert_eq!(refused(|rule| rule.priority = 65_536), "put_rule.priority");
        assert_eq!(refused(|rule| rule.direction = 0), "put_rule.direction");
        assert_eq!(refused(|rule| rule.action = 0), "put_rule.action");
        assert_eq!(refused(|rule| rule.action = 99), "put_rule.action");
        assert_eq!(refused(|rule| rule.on = None), "put_rule.on");
        assert_eq!(refused(|rule| rule.on = Some(sync::Scope { what: None })), "put_rule.on.what");
        assert_eq!(refused(|rule| rule.peer = None), "put_rule.peer");
        assert_eq!(refused(|rule| rule.protocol = Some(256)), "put_rule.protocol");
        assert_eq!(refused(|rule| rule.protocol = None), "put_rule.destination_ports");
        assert_eq!(refused(|rule| rule.icmp_type = Some(8)), "put_rule.icmp_type");
        assert_eq!(refused(|rule| rule.icmp_code = Some(8)), "put_rule.icmp_code");
        let backwards = |rule: &mut sync::Rule| rule.size = Some(sync::Range { first: 2, last: 1 });
        assert_eq!(refused(backwards), "put_rule.size");
        let never = |rule: &mut sync::Rule| rule.window = Some(sync::Window { days: 0, from: 0, until: 0 });
        assert_eq!(refused(never), "put_rule.window");
        let addresses = |rule: &mut sync::Rule, vnet, cidr: &str| {
            let ranges = vec![sync::AddressRange { vnet, cidr: cidr.to_owned() }];
            let what = peer::What::Addresses(sync::AddressRanges { ranges });
            rule.peer = Some(sync::Peer { what: Some(what) });
        };
        for (vnet, cidr, field) in [
            (1 << 24, "10.0.0.0/8", "put_rule.peer.addresses.vnet"),
            (0, "10.0.0.1/8", "put_rule.peer.addresses.cidr"),
            (0, "10.0.0.0/33", "put_rule.peer.addresses.cidr"),
        ] {
            let mut bad = good();
            addresses(&mut bad, vnet, cidr);
            assert_eq!(rule(bad).unwrap_err().field, field);
        }
    }

    #[test]
    fn more_tags_than_a_node_has_are_refused() {
        let numbers: Vec<u32> = (0..=MAX_TAGS as u32).collect();
        assert_eq!(node_tags("put_mapping.tags", &numbers).unwrap_err().field, "put_mapping.tags");
        let some = node_tags("put_mapping.tags", &[3, 1, 3]).unwrap();
        assert_eq!(encode_tags(&some), [1, 3]);
        assert_eq!(node_tags("put_mapping.tags", &[]).unwrap(), None);
    }
}
