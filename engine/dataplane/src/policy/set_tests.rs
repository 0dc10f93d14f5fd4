//! The compiled list of rules beside the obvious way to judge.

use super::*;
use crate::policy::rule::first_match;
use crate::wire::protocol;
use ipnet::Ipv4Net;
use proptest::prelude::*;

fn vnet(number: u32) -> VnetId {
    VnetId::new(number).unwrap()
}

fn some_address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        (0u8..4, 0u8..4).prop_map(|(a, b)| Ipv4Addr::new(10, 0, a, b)),
        Just(Ipv4Addr::UNSPECIFIED),
        Just(Ipv4Addr::BROADCAST),
    ]
}

fn some_peer() -> impl Strategy<Value = Peer> {
    let net = (some_address(), prop::sample::select(vec![0u8, 8, 24, 30, 31, 32]))
        .prop_map(|(address, length)| Ipv4Net::new(address, length).unwrap().trunc());
    prop_oneof![
        Just(Peer::Any),
        prop::collection::vec((1u32..4).prop_map(vnet), 0..3).prop_map(Peer::Vnets),
        prop::collection::vec(((1u32..4).prop_map(vnet), net), 0..4).prop_map(Peer::Addresses),
        (0u32..5).prop_map(|tag| Peer::Tag(TagId(tag))),
    ]
}

fn some_number() -> impl Strategy<Value = u16> {
    prop_oneof![0u16..6, Just(u16::MAX), Just(u16::MAX - 1)]
}

/// Also ranges in which nothing lies.
fn some_range() -> impl Strategy<Value = Option<RangeInclusive<u16>>> {
    prop::option::of((some_number(), some_number()).prop_map(|(first, last)| first..=last))
}

fn some_protocol() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![protocol::ICMP, protocol::TCP, protocol::UDP, 47, 0, 255])
}

fn some_rule() -> impl Strategy<Value = Rule> {
    let icmp = prop::option::weighted(0.2, (0u8..3, prop::option::of(0u8..3)));
    let action = prop::sample::select(vec![Action::Allow, Action::Deny, Action::Reject]);
    (some_peer(), prop::option::of(some_protocol()), some_range(), some_range(), icmp, some_range(), action)
        .prop_map(|(peer, protocol, source_ports, destination_ports, icmp, size, action)| Rule {
            peer,
            protocol,
            source_ports,
            destination_ports,
            icmp,
            size,
            ..Rule::all("", action)
        })
}

fn some_facts() -> impl Strategy<Value = Facts> {
    let ports = prop::option::of((some_number(), some_number()));
    let icmp = prop::option::of((0u8..4, 0u8..4));
    ((1u32..5).prop_map(vnet), some_address(), some_protocol(), ports, icmp, some_number()).prop_map(
        |(vnet, address, protocol, ports, icmp, size)| Facts {
            peer: (vnet, address),
            protocol,
            ports,
            icmp,
            size,
        },
    )
}

fn some_tags() -> impl Strategy<Value = Vec<TagId>> {
    prop::collection::btree_set(0u32..6, 0..4).prop_map(|tags| tags.into_iter().map(TagId).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The same rule decides, and it is the same one: it is told apart by its number.
    #[test]
    fn a_compiled_list_judges_as_the_rules_do_one_after_the_other(
        rules in prop::collection::vec(some_rule(), 0..24),
        packets in prop::collection::vec((some_facts(), some_tags()), 1..16),
    ) {
        let rules: Vec<Rule> = (0..).zip(rules).map(|(revision, rule)| Rule { revision, ..rule }).collect();
        let set = RuleSet::compile(rules.clone()).unwrap();
        for (facts, tags) in &packets {
            prop_assert_eq!(set.first_match(facts, tags), first_match(&rules, facts, tags));
        }
    }

    /// Some packet passes by the rules about a peer if and only if they are said to let anything pass.
    #[test]
    fn what_lets_nothing_pass_lets_no_packet_pass(
        rules in prop::collection::vec(some_rule(), 0..12),
        packets in prop::collection::vec((some_facts(), some_tags()), 1..16),
        otherwise: bool,
    ) {
        let set = RuleSet::compile(rules).unwrap();
        for (facts, tags) in &packets {
            let passes = set.first_match(facts, tags).map_or(otherwise, |rule| rule.action == Action::Allow);
            prop_assert!(!passes || set.lets_anything_pass(facts.peer, tags, otherwise));
        }
    }
}

fn tcp_to(peer: [u8; 4], port: u16) -> Facts {
    let peer = (vnet(1), Ipv4Addr::from(peer));
    Facts { peer, protocol: protocol::TCP, ports: Some((40_000, port)), icmp: None, size: 60 }
}

#[test]
fn ten_thousand_rules_are_told_apart() {
    let rules = (0u16..10_000).map(|number| {
        let [high, low] = number.to_be_bytes();
        let net = Ipv4Net::new(Ipv4Addr::new(10, 0, high, low), 32).unwrap();
        Rule {
            peer: Peer::Addresses(vec![(vnet(1), net)]),
            protocol: Some(protocol::TCP),
            destination_ports: Some(443..=443),
            revision: number.into(),
            ..Rule::all("", Action::Allow)
        }
    });
    let set = RuleSet::compile(rules.collect()).unwrap();
    for number in [0u16, 1, 63, 64, 4095, 4096, 9_999] {
        let [high, low] = number.to_be_bytes();
        let found = set.first_match(&tcp_to([10, 0, high, low], 443), &[]);
        assert_eq!(found.map(|rule| rule.revision), Some(number.into()));
        assert_eq!(set.first_match(&tcp_to([10, 0, high, low], 80), &[]), None);
    }
    assert_eq!(set.first_match(&tcp_to([10, 1, 0, 0], 443), &[]), None);
}

#[test]
fn the_last_of_as_many_rules_as_there_can_be_decides() {
    let mut rules =
        vec![Rule { protocol: Some(protocol::UDP), ..Rule::all("", Action::Deny) }; RuleSet::MAX_RULES];
    *rules.last_mut().unwrap() = Rule::all("last", Action::Reject);
    let set = RuleSet::compile(rules.clone()).unwrap();
    assert_eq!(set.first_match(&tcp_to([10, 0, 0, 1], 1), &[]).map(|rule| &*rule.id), Some("last"));
    rules.push(Rule::all("", Action::Allow));
    assert_eq!(RuleSet::compile(rules).unwrap_err(), TooComplex::Rules);
}

#[test]
fn a_set_that_denies_all_denies_all() {
    let set = RuleSet::deny_all("shut");
    let found = set.first_match(&tcp_to([10, 0, 0, 1], 1), &[TagId(1)]);
    assert_eq!(found, Some(&Rule::all("shut", Action::Deny)));
    assert!(!set.lets_anything_pass((vnet(1), Ipv4Addr::new(10, 0, 0, 1)), &[], true));
}

#[test]
fn a_denial_of_everything_hides_what_comes_behind_it() {
    let to_web = Peer::Tag(TagId(7));
    let rules = vec![
        Rule {
            destination_ports: Some(80..=80),
            protocol: Some(protocol::TCP),
            ..Rule::all("", Action::Deny)
        },
        Rule { peer: to_web, ..Rule::all("", Action::Deny) },
        Rule::all("", Action::Allow),
    ];
    let set = RuleSet::compile(rules).unwrap();
    let peer = (vnet(1), Ipv4Addr::new(10, 0, 0, 1));
    assert!(set.lets_anything_pass(peer, &[], false));
    assert!(!set.lets_anything_pass(peer, &[TagId(7)], true));
}
