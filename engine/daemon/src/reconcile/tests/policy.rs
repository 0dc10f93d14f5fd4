use super::*;
use crate::provisioning::model::{Attachment, AttachmentKind, Change, DeviceName, Mapping, Target, What};
use crate::provisioning::rule::{Tags, tags};
use core::net::Ipv4Addr;
use overlane_api::policy::Weekly;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::cap::RateLimit;
use overlane_dataplane::id::Slot;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::policy::{Action, Facts};

fn vnet() -> VnetId {
    VnetId::new(7).unwrap()
}

fn interface(id: &str, tags: &[u32]) -> Arc<Interface> {
    Arc::new(Interface {
        id: id.into(),
        vnet: vnet(),
        slot: Slot::ZERO,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        addresses: vec![Ipv4Addr::new(10, 0, 0, 1)],
        attachment: Attachment { kind: AttachmentKind::Veth, device: DeviceName::new("veth-n1").unwrap() },
        tags: crate::provisioning::rule::tags(tags).unwrap(),
        groups: Vec::new(),
        rate: RateLimit::default(),
    })
}

fn rule(id: &str, priority: u16, on: Scope, action: Action) -> Rule {
    Rule {
        id: id.into(),
        priority,
        direction: Direction::Ingress,
        on,
        peer: Peer::Any,
        protocol: None,
        source_ports: None,
        destination_ports: None,
        icmp: None,
        size: None,
        window: None,
        action,
        stateless: false,
    }
}

fn state(rules: impl IntoIterator<Item = Rule>) -> DesiredState {
    let mut state = DesiredState::default();
    for id in ["n1/eth0", "n2/eth0"] {
        let what = What::PutInterface((*interface(id, &[])).clone());
        state.apply(Change { revision: 1, what }).unwrap();
    }
    for rule in rules {
        state.apply(Change { revision: 2, what: What::PutRule(rule) }).unwrap();
    }
    state
}

fn put_mapping(state: &mut DesiredState, revision: u64, last: u8, tags: Tags) {
    let prefix = HostPrefix::parse(Layout::Slot64, "fd00:0:0:a::/64").unwrap();
    let locator = Locator::new(Layout::Slot64, prefix, Slot::ZERO, vnet()).unwrap();
    let target = Target { vnet: vnet(), ipv4: Ipv4Addr::new(10, 0, 0, last) };
    let what = What::PutMapping(target, Mapping { locator, also_accept: None, live: true, tags });
    state.apply(Change { revision, what }).unwrap();
}

/// 2024-01-01, a Monday, at this many minutes after midnight.
fn monday(minutes: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200 + minutes * 60)
}

fn facts() -> Facts {
    Facts {
        peer: (vnet(), Ipv4Addr::new(10, 0, 0, 9)),
        protocol: 6,
        ports: Some((1, 2)),
        icmp: None,
        size: 40,
    }
}

/// The rule that decides what the interface gets.
fn decides(policies: &mut Policies, interface: &Arc<Interface>) -> Option<String> {
    let policy = policies.of(interface)?;
    policy.ingress.first_match(&facts(), &[]).map(|rule| rule.id.to_string())
}

#[test]
fn an_interface_goes_by_the_rules_of_its_node_its_tags_and_its_vnet_in_their_order() {
    let by_tag = rule("tag", 20, Scope::Tag(TagId(3)), Action::Allow);
    let by_vnet = rule("vnet", 30, Scope::Vnets(vec![vnet(), vnet()]), Action::Deny);
    let by_node = rule("node", 10, Scope::Node("n1".into()), Action::Deny);
    let egress =
        Rule { direction: Direction::Egress, ..rule("other way", 0, by_vnet.on.clone(), Action::Deny) };
    let mut policies = Policies::default();
    policies.refresh(&state([by_vnet, by_tag, by_node, egress]), monday(0));
    let ids = |policies: &mut Policies, interface: &Arc<Interface>| -> Vec<String> {
        let policy = policies.of(interface).unwrap();
        policy.ingress.rules().iter().map(|rule| rule.id.to_string()).collect()
    };
    assert_eq!(ids(&mut policies, &interface("n1/eth0", &[3])), ["node", "tag", "vnet"]);
    assert_eq!(ids(&mut policies, &interface("n1/eth0", &[4])), ["node", "vnet"]);
    assert_eq!(ids(&mut policies, &interface("n2/eth0", &[])), ["vnet"]);
}

#[test]
fn interfaces_with_the_same_rules_share_one_compiled_list_and_nobody_else_keeps_it() {
    let mut policies = Policies::default();
    policies.refresh(&state([rule("a", 1, Scope::Vnets(vec![vnet()]), Action::Deny)]), monday(0));
    let one = policies.of(&interface("n1/eth0", &[])).unwrap();
    let two = policies.of(&interface("n2/eth0", &[])).unwrap();
    assert!(Arc::ptr_eq(&one.ingress, &two.ingress));
    assert!(Arc::ptr_eq(&one, &policies.of(&interface("n1/eth0", &[])).unwrap()));
    policies.refresh(&state([]), monday(0));
    assert!(policies.of(&interface("n1/eth0", &[])).is_none());
    drop((one, two));
    policies.refresh(&DesiredState::default(), monday(0));
    policies.tidy();
    assert!(policies.sets.is_empty() && policies.of.is_empty());
}

#[test]
fn a_rule_with_a_window_is_in_force_while_that_is_open() {
    let window = Weekly::new(1, 8 * 60, 18 * 60);
    let state = state([Rule { window, ..rule("day", 1, Scope::Vnets(vec![vnet()]), Action::Deny) }]);
    let mut policies = Policies::default();
    let n1 = interface("n1/eth0", &[]);
    policies.refresh(&state, monday(0));
    assert_eq!((decides(&mut policies, &n1), policies.turn_at()), (None, Some(monday(8 * 60))));
    policies.refresh(&state, monday(8 * 60));
    assert_eq!(decides(&mut policies, &n1).as_deref(), Some("day"));
    assert_eq!(policies.turn_at(), Some(monday(18 * 60)));
    policies.refresh(&state, monday(18 * 60));
    assert_eq!((decides(&mut policies, &n1), policies.turn_at()), (None, Some(monday(7 * 1440 + 8 * 60))));
    // Somebody sets the clock back.
    policies.refresh(&state, monday(9 * 60));
    assert_eq!(decides(&mut policies, &n1).as_deref(), Some("day"));
}

#[test]
fn only_carriers_of_tags_that_rules_are_about_are_remembered() {
    let about = Rule { peer: Peer::Tag(TagId(5)), ..rule("a", 1, Scope::Node("n1".into()), Action::Deny) };
    let mut state = state([about]);
    put_mapping(&mut state, 3, 9, tags(&[4, 5]).unwrap());
    put_mapping(&mut state, 3, 8, tags(&[4]).unwrap());
    let mut policies = Policies::default();
    policies.refresh(&state, monday(0));
    let peer = |last| (vnet(), Ipv4Addr::new(10, 0, 0, last));
    assert_eq!((policies.peers().tags(peer(9)), policies.peers().len()), (&[TagId(5)][..], 1));
    let before = policies.peers().clone();
    put_mapping(&mut state, 4, 9, tags(&[5, 4]).unwrap());
    policies.refresh(&state, monday(0));
    assert!(Arc::ptr_eq(&before, policies.peers()), "the same tags are no news");
    put_mapping(&mut state, 5, 9, None);
    policies.refresh(&state, monday(0));
    assert!(policies.peers().is_empty());
}

#[test]
fn an_address_range_without_a_vnet_is_in_that_of_the_interface() {
    let peer = Peer::Addresses(vec![(None, "10.0.0.8/30".parse().unwrap())]);
    let about = Rule { peer, ..rule("a", 1, Scope::Tag(TagId(1)), Action::Deny) };
    let mut policies = Policies::default();
    policies.refresh(&state([about]), monday(0));
    let own = interface("n1/eth0", &[1]);
    let other = Arc::new(Interface { vnet: VnetId::MAX, ..(*interface("n2/eth0", &[1])).clone() });
    assert_eq!(decides(&mut policies, &own).as_deref(), Some("a"));
    assert_eq!(decides(&mut policies, &other), None);
}

#[test]
fn where_rules_are_too_complex_nothing_passes_and_it_is_said() {
    let nested = (0u16..7000).map(|number| Rule {
        source_ports: Some(number..=60_000 - number),
        protocol: Some(6),
        ..rule(&format!("r{number:04}"), number, Scope::Node("n1".into()), Action::Allow)
    });
    let mut policies = Policies::default();
    policies.refresh(&state(nested), monday(0));
    assert_eq!(decides(&mut policies, &interface("n1/eth0", &[])).as_deref(), Some("too-complex"));
    let problem = policies.problem().unwrap();
    assert!(problem.starts_with("n1/eth0: ") && problem.ends_with("nothing passes there"), "{problem}");
}
