//! A trace says what a worker then does, and leaves no trace itself.

use crate::frames::{self, Shape, from_substrate, shape, tcp, to_node, udp, who_has};
use crate::oracle;
use crate::world::*;
use core::net::Ipv4Addr;
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::group::Filter;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::policy::{Action, Peer, Policy, Rule, RuleSet};
use overlane_dataplane::route::{Route, Routes};
use overlane_dataplane::segment::Capabilities;
use overlane_dataplane::table::mapping::State;
use overlane_dataplane::trace::{Fate, Object, Subject, Trace, trace};
use std::sync::Arc;

const LAYOUT: Layout = Layout::Slot64;

fn traced(engine: &Engine, from: u16, frame: &[u8]) -> Trace {
    let subject = Subject {
        reader: &engine.reader,
        domain: engine.reader.domain(),
        snapshot: &engine.snapshot,
        mappings: &engine.mappings.table(),
        flows: &engine.flows,
        workers: 2,
    };
    trace(&subject, engine.clock.clone(), port(from), frame)
}

/// Traces a frame, then lets the engine receive it: both must come to the same.
#[track_caller]
fn same(engine: &mut Engine, from: u16, frame: &[u8]) -> Trace {
    let flows = engine.flows.totals();
    let told = traced(engine, from, frame);
    assert_eq!(engine.flows.totals(), flows, "a trace changes flows");
    let outcome = engine.receive(from, frame);
    // What was counted before it was received would be in the outcome, too.
    assert!(outcome.dropped() <= 1, "a trace is counted: {outcome:?}");
    match told.fate {
        Fate::Dropped(reason) => {
            let names: Vec<_> = outcome.counted.keys().filter(|name| name.contains(" drop ")).collect();
            assert!(names.len() == 1 && names[0].ends_with(&format!(" drop {}", reason.name())), "{names:?}");
        }
        Fate::Punted => assert_eq!(outcome.punted.len(), 1),
        Fate::Sent | Fate::Answered => assert_eq!((outcome.dropped(), outcome.sent.len()), (0, 1)),
        Fate::AwaitsFragment => assert_eq!(engine.pool.outstanding(), 1),
        Fate::AwaitsMapping => assert_eq!(outcome.asked.len(), 1),
    }
    let sent: Vec<_> = outcome
        .sent
        .iter()
        .flat_map(|sent| engine_finish(engine, sent))
        .map(|sent| (port(sent.port), anonymous(sent.bytes)))
        .collect();
    let frames: Vec<_> = told.frames.iter().map(|(port, frame)| (*port, anonymous(frame.clone()))).collect();
    assert_eq!(frames, sent);
    told
}

/// Without the identification of IPv4, which is another one for each packet, and what depends on it.
fn anonymous(mut frame: Vec<u8>) -> Vec<u8> {
    if frame.len() >= 34 && frame[12..14] == [8, 0] {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
    }
    frame
}

fn engine_finish(engine: &Engine, sent: &Sent) -> Vec<Sent> {
    engine.finish(Capabilities::default(), sent, &[]).frames
}

fn rule(id: &str, revision: u64, action: Action) -> Rule {
    Rule {
        id: id.into(),
        revision,
        peer: Peer::Any,
        protocol: None,
        source_ports: None,
        destination_ports: None,
        icmp: None,
        size: None,
        action,
        stateless: false,
    }
}

fn under(engine: &mut Engine, node: &Node, egress: Vec<Rule>, ingress: Vec<Rule>) {
    let compiled = |rules| Arc::new(RuleSet::compile(rules).unwrap());
    let policy = Arc::new(Policy { egress: compiled(egress), ingress: compiled(ingress) });
    engine.change_interface(node, |interface| interface.policy = Some(policy.clone()));
}

fn objects(trace: &Trace) -> Vec<Object> {
    trace.steps.iter().filter_map(|step| step.object.clone()).collect()
}

#[test]
fn a_trace_comes_to_what_the_engine_does() {
    let mut ttl = shape(&ALICE, &BOB, udp(b"old"));
    ttl.ttl = 1;
    let cases: Vec<(u16, Vec<u8>)> = vec![
        (ALICE.port, to_node(&ALICE, &BOB, udp(b"across"))),
        (ALICE.port, to_node(&ALICE, &ANNA, tcp(b"beside"))),
        (ALICE.port, to_node(&ALICE, &DOWN, udp(b"down"))),
        (ALICE.port, frames::ipv4(BOB.dummy(), ALICE.mac(), &ttl)),
        (ALICE.port, frames::ipv4(BOB.dummy(), ANNA.mac(), &shape(&ALICE, &BOB, udp(b"not my MAC")))),
        (ALICE.port, frames::ipv4(BOB.dummy(), ALICE.mac(), &shape(&ANNA, &BOB, udp(b"not my address")))),
        (
            ALICE.port,
            frames::ipv4(dummy(7, Ipv4Addr::new(10, 0, 0, 77)), ALICE.mac(), &shape(&ALICE, &BOB, udp(b""))),
        ),
        (ALICE.port, who_has(&ALICE, BOB.ipv4)),
        (ALICE.port, who_has(&ALICE, Ipv4Addr::new(10, 0, 0, 77))),
        (ALICE.port, vec![0; 13]),
        (6, to_node(&ALICE, &BOB, udp(b"no such port"))),
    ];
    for (from, frame) in cases {
        same(&mut Engine::new(LAYOUT, 0), from, &frame);
    }
    let own = address(LAYOUT, &BOB);
    for source in [
        address(LAYOUT, &ALICE),
        locator(LAYOUT, 2, ALICE.slot, 7).address(ALICE.ipv4),
        locator(LAYOUT, 0, 9, 7).address(ALICE.ipv4),
        address(LAYOUT, &STRANGER),
        address(LAYOUT, &BERTA),
        "fe80::1".parse().unwrap(),
    ] {
        same(&mut Engine::new(LAYOUT, 1), UPLINK, &from_substrate(1, (source, own), udp(b"in")));
    }
}

#[test]
fn every_decision_is_told_with_its_object() {
    let told = same(&mut Engine::new(LAYOUT, 0), ALICE.port, &to_node(&ALICE, &BOB, udp(b"across")));
    let (alice, bob) = (Object::Interface("node1".to_owned()), Object::Mapping(vnet(7), BOB.ipv4));
    assert_eq!(objects(&told), [alice, Object::Vnet(vnet(7)), bob.clone()]);
    let stages: Vec<_> = told.steps.iter().map(|step| step.stage).collect();
    assert_eq!(stages, ["source", "next hop", "mapping", "rules", "translate"]);
    assert!(told.steps[2].decision.contains("fd00:0:0:b::/64, slot 5, live"), "{:?}", told.steps[2]);

    let mut there = Engine::new(LAYOUT, 1);
    let ends = (address(LAYOUT, &ALICE), address(LAYOUT, &BOB));
    let told = same(&mut there, UPLINK, &from_substrate(1, ends, udp(b"in")));
    let stages: Vec<_> = told.steps.iter().map(|step| step.stage).collect();
    assert_eq!(stages, ["destination", "mapping", "source", "rules", "translate"]);
    there.map(&ALICE, |mapping| mapping.state = State::Down);
    let told = same(&mut there, UPLINK, &from_substrate(1, ends, udp(b"in")));
    assert_eq!(told.fate, Fate::Dropped(DropReason::SrcNotLive));
    assert!(told.steps[1].decision.contains("not live"));
}

#[test]
fn the_router_that_a_packet_takes_is_told() {
    let far = Node { ipv4: Ipv4Addr::new(10, 9, 0, 7), ..BOB };
    let mut engines = world(LAYOUT);
    for engine in &mut engines {
        let route = Route { net: "10.9.0.0/16".parse().unwrap(), via: vec![BOB.ipv4], silent: vec![] };
        engine.change_vnet(7, |vnet| vnet.routes = Arc::new(Routes::new(vec![route], vec![]).unwrap()));
    }
    let [here, there] = &mut engines;
    let decisions = |told: &Trace| -> Vec<String> {
        told.steps.iter().map(|step| format!("{}: {}", step.stage, step.decision)).collect()
    };
    let frame = frames::ipv4(dummy(7, GATEWAY), ALICE.mac(), &shape(&ALICE, &far, udp(b"far")));
    let told = same(here, ALICE.port, &frame);
    assert_eq!(decisions(&told)[1], "next hop: by the gateway, to 10.9.0.0/16 by the router 10.0.0.20");
    assert!(objects(&told).contains(&Object::Mapping(vnet(7), BOB.ipv4)));
    let crossing = oracle::forwarded(&told.frames[0].1, uplink_mac(1));
    let told = same(there, UPLINK, &crossing);
    assert!(decisions(&told)[0].ends_with(" is of a network behind it"), "{told:?}");

    let told = same(there, BOB.port, &to_node(&far, &ALICE, udp(b"back")));
    assert!(decisions(&told)[0].starts_with("source: 10.9.0.7 is of a network that it may send from"));
    let crossing = oracle::forwarded(&told.frames[0].1, uplink_mac(0));
    let told = same(here, UPLINK, &crossing);
    assert!(decisions(&told)[2].ends_with(" is behind the router 10.0.0.20, which lives there"), "{told:?}");
}

#[test]
fn the_rule_that_decides_is_named_with_its_revision_and_a_rejection_is_shown() {
    let mut engine = Engine::new(LAYOUT, 0);
    under(&mut engine, &ALICE, vec![rule("no", 42, Action::Reject)], vec![]);
    let told = same(&mut engine, ALICE.port, &to_node(&ALICE, &BOB, tcp(b"")));
    assert_eq!(told.fate, Fate::Dropped(DropReason::EgressDenied));
    assert!(objects(&told).contains(&Object::Rule("no".to_owned(), 42)));
    assert_eq!(told.frames.len(), 1, "the reset that the sender gets");
    // Where no rule matches, the network's default does.
    under(&mut engine, &ALICE, vec![], vec![]);
    let told = same(&mut engine, ALICE.port, &to_node(&ALICE, &BOB, udp(b"")));
    assert!(told.steps.iter().any(|step| step.decision == "no rule matches: allow by default"), "{told:?}");
}

#[test]
fn a_reply_passes_by_a_flow_that_is_known_and_a_trace_enters_none() {
    let mut engine = Engine::new(LAYOUT, 0);
    // Alice may send and nobody may begin anything with her.
    under(&mut engine, &ALICE, vec![], vec![rule("in", 7, Action::Deny)]);
    let request = to_node(&ALICE, &ANNA, udp(b"request"));
    let mut reply = to_node(&ANNA, &ALICE, udp(b"reply"));
    reply[34..38].rotate_left(2);
    assert_eq!(traced(&engine, ALICE.port, &request).fate, Fate::Sent);
    assert_eq!(traced(&engine, ANNA.port, &reply).fate, Fate::Dropped(DropReason::IngressDenied));
    engine.receive(ALICE.port, &request).only();
    let told = same(&mut engine, ANNA.port, &reply);
    assert_eq!(told.fate, Fate::Sent);
    assert!(objects(&told).contains(&Object::Flow));
}

#[test]
fn traces_use_up_no_limit() {
    let mut engine = Engine::new(LAYOUT, 0);
    let mut old = shape(&ALICE, &BOB, udp(b"old"));
    old.ttl = 1;
    let frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &old);
    for _ in 0..1000 {
        assert_eq!(traced(&engine, ALICE.port, &frame).frames.len(), 1);
    }
    assert_eq!(engine.receive(ALICE.port, &frame).answers(), 1);
    assert!(!engine.pipeline.failures().is_waiting());
}

#[test]
fn a_mapping_that_would_be_asked_for_is_told_so() {
    let mut engine = Engine::new(LAYOUT, 0);
    engine.change_vnet(7, |vnet| vnet.on_demand = true);
    engine.mappings.remove(overlane_dataplane::table::mapping::MappingKey::new(vnet(7), BOB.ipv4));
    let told = same(&mut engine, ALICE.port, &to_node(&ALICE, &BOB, udp(b"?")));
    assert_eq!(told.fate, Fate::AwaitsMapping);
}

#[test]
fn a_trace_tells_who_hears_what_is_sent_to_a_group() {
    let mut engines = world(LAYOUT);
    let everybody = [ALICE, ANNA, ADAM, BOB, BERTA].map(|node| (node, Filter::ALL));
    engines.iter_mut().for_each(|engine| engine.join(7, Ipv4Addr::BROADCAST, &everybody));
    let [here, there] = &mut engines;
    let shape = Shape { destination: Ipv4Addr::BROADCAST, ..shape(&ALICE, &ALICE, udp(b"to all")) };
    let frame = frames::ipv4(MacAddr::BROADCAST, ALICE.mac(), &shape);
    let steps = |trace: &Trace| -> Vec<String> {
        trace.steps.iter().map(|step| format!("{}: {}", step.stage, step.decision)).collect()
    };
    let told = traced(here, ALICE.port, &frame);
    assert_eq!((told.fate, told.frames.len()), (Fate::Sent, 3));
    assert_eq!(steps(&told)[1], "group: 255.255.255.255 is heard by 2 here and on 1 other hosts");
    let sent = here.receive(ALICE.port, &frame).sent;
    let crossing = sent.iter().find(|sent| sent.port == UPLINK).unwrap();
    let crossing = oracle::forwarded(&crossing.bytes, uplink_mac(1));
    let told = traced(there, UPLINK, &crossing);
    assert_eq!((told.fate, told.frames.len()), (Fate::Sent, 2));
    assert_eq!(steps(&told)[0], "group: 255.255.255.255 is heard by 2 here and on 0 other hosts");
    let mut forged = crossing;
    forged[30] ^= 4;
    assert_eq!(traced(there, UPLINK, &forged).fate, Fate::Dropped(DropReason::SrcSlotMismatch));
}
