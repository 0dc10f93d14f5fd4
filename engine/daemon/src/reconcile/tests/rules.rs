//! Rules on their way into the data plane.

use super::*;
use crate::provisioning::rule::{Direction, Peer, Rule, Scope, tags};
use overlane_dataplane::policy::TagId;

fn deny(id: &str, peer: Peer) -> What {
    What::PutRule(Rule {
        id: id.into(),
        priority: 1,
        direction: Direction::Egress,
        on: Scope::Node("n1".into()),
        peer,
        protocol: None,
        source_ports: None,
        destination_ports: None,
        icmp: None,
        size: None,
        window: None,
        action: Action::Deny,
        stateless: false,
    })
}

/// The rules of n1 in the last snapshot.
fn rules(bench: &Bench) -> Vec<String> {
    let seen = bench.fake.seen.lock();
    let interface = seen.snapshots.last().and_then(|snapshot| snapshot.interface(Slot::ZERO));
    let policy = interface.and_then(|interface| interface.policy.as_ref());
    policy.map_or_else(Vec::new, |policy| {
        policy.egress.rules().iter().map(|rule| rule.id.to_string()).collect()
    })
}

fn epoch(bench: &Bench) -> u32 {
    bench.fake.seen.lock().snapshots.last().unwrap().policy_epoch
}

async fn live() -> Bench {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    bench.snapshot(site(1)).await;
    bench.until("live", |bench| bench.state_of("n1/eth0") == Some(InterfaceState::Live)).await;
    bench.applied(1).await;
    bench
}

#[tokio::test]
async fn a_rule_is_in_force_when_it_is_acknowledged_and_so_is_its_end() {
    let mut bench = live().await;
    let before = epoch(&bench);
    bench.delta(2, vec![deny("no", Peer::Any)]).await;
    bench.applied(2).await;
    assert_eq!(rules(&bench), ["no"]);
    assert_ne!(epoch(&bench), before);
    assert!(bench.fake.seen.lock().snapshots.last().unwrap().stateful);
    bench.delta(3, vec![What::DeleteRule("no".into())]).await;
    bench.applied(3).await;
    assert!(rules(&bench).is_empty());
    let before = epoch(&bench);
    bench.delta(4, vec![What::PutMapping(target(7), elsewhere(1))]).await;
    bench.applied(4).await;
    assert_eq!(epoch(&bench), before, "a mapping is no policy");
}

#[tokio::test]
async fn nothing_is_acknowledged_before_every_worker_goes_by_it() {
    let mut bench = live().await;
    bench.fake.seen.lock().is_held = true;
    bench.delta(2, vec![deny("no", Peer::Any)]).await;
    let before = bench.fake.seen.lock().looks;
    bench.until("looked at ten times", |bench| bench.fake.seen.lock().looks > before + 10).await;
    assert_eq!(rules(&bench), ["no"]);
    assert_eq!(bench.applied.borrow().revision, Some(revision(1)));
    bench.fake.seen.lock().is_held = false;
    bench.applied(2).await;
}

#[tokio::test]
async fn whoever_comes_with_a_tag_is_judged_by_it_from_the_first_packet_on() {
    let mut bench = live().await;
    bench.delta(2, vec![deny("no", Peer::Tag(TagId(5)))]).await;
    bench.applied(2).await;
    let newcomer = Mapping { tags: tags(&[5]).unwrap(), ..elsewhere(3) };
    bench.fake.seen.lock().told.clear();
    bench.delta(3, vec![What::PutMapping(target(9), newcomer)]).await;
    bench.applied(3).await;
    let published = bench.place(|told| matches!(told, Told::Publish(_)));
    let mapped = bench.place(|told| *told == Told::Put(target(9), None));
    assert!(published < mapped);
    let seen = bench.fake.seen.lock();
    let peers = &seen.snapshots.last().unwrap().peers;
    assert_eq!(peers.tags((vnet_id(), Ipv4Addr::new(10, 0, 0, 9))), [TagId(5)]);
}

/// Of the last snapshot: whether n1 has just become tracked, and whether old connections are joined.
fn caution(bench: &Bench) -> (bool, bool) {
    let seen = bench.fake.seen.lock();
    let snapshot = seen.snapshots.last().unwrap();
    (snapshot.interface(Slot::ZERO).unwrap().settling, snapshot.resumes)
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_gets_its_first_rules_settles_and_the_start_is_over() {
    let mut bench = live().await;
    assert_eq!(caution(&bench), (false, true));
    bench.delta(2, vec![deny("no", Peer::Any)]).await;
    bench.applied(2).await;
    assert_eq!(caution(&bench), (true, false));
    bench.until("settled", |bench| caution(bench) == (false, false)).await;
    bench.delta(3, vec![deny("nor", Peer::Any)]).await;
    bench.applied(3).await;
    assert_eq!(caution(&bench), (false, false), "it was tracked before");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_with_the_same_rules_does_not_end_the_start_but_time_does() {
    let mut bench = live().await;
    bench.snapshot(site(2)).await;
    bench.applied(2).await;
    assert_eq!(caution(&bench), (false, true));
    tokio::time::sleep(Duration::from_secs(119)).await;
    assert_eq!(caution(&bench), (false, true));
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.until("the start is over", |bench| caution(bench) == (false, false)).await;
}
