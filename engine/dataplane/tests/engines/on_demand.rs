//! Vnets whose mappings are resolved on demand: what waits, what is asked, and what comes of the answers.

use crate::frames::{self, from_substrate, shape, udp, who_has};
use crate::oracle;
use crate::world::*;
use core::net::Ipv4Addr;
use core::time::Duration;
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::limit::Rate;
use overlane_dataplane::resolve::{Outcome, Question, ResolveLimits, Side};
use overlane_dataplane::table::mapping::{MappingKey, State};

const LAYOUT: Layout = Layout::Slot64;

/// The engine of `host`, to which nothing has been told of vnet 7 but what lives there.
fn engine(host: usize) -> Engine {
    engine_with(host, ResolveLimits::default())
}

fn engine_with(host: usize, limits: ResolveLimits) -> Engine {
    let mut engine = Engine::new(LAYOUT, host);
    engine.limit_resolution(limits);
    engine.change_vnet(7, |vnet| vnet.on_demand = true);
    for node in NODES.iter().filter(|node| node.host != host && node.vnet == 7) {
        engine.mappings.remove(MappingKey::new(vnet(7), node.ipv4));
    }
    engine
}

/// The mapping of a node is told.
fn tell(engine: &mut Engine, node: &Node) {
    let mapping = Engine::new(LAYOUT, 0).mappings.get(MappingKey::new(vnet(node.vnet), node.ipv4)).unwrap();
    engine.mappings.insert(MappingKey::new(vnet(node.vnet), node.ipv4), mapping).unwrap();
}

fn question(of: &Node, about: &Node, side: Side) -> Question {
    Question { port: port(of.port), key: MappingKey::new(vnet(about.vnet), about.ipv4), side }
}

fn to_bob(payload: &[u8]) -> Vec<u8> {
    frames::ipv4(BOB.dummy(), ALICE.mac(), &shape(&ALICE, &BOB, udp(payload)))
}

fn to(last: u8) -> Vec<u8> {
    let node = Node { ipv4: Ipv4Addr::new(10, 0, 0, last), ..BOB };
    frames::ipv4(node.dummy(), ALICE.mac(), &shape(&ALICE, &node, udp(b"?")))
}

fn from_alice(payload: &[u8]) -> Vec<u8> {
    from_substrate(1, (address(LAYOUT, &ALICE), address(LAYOUT, &BOB)), udp(payload))
}

#[test]
fn packets_wait_for_the_mapping_and_go_on_in_order_when_it_is_told() {
    let mut engine = engine(0);
    let first = engine.receive(ALICE.port, &to_bob(b"one"));
    let asked = question(&ALICE, &BOB, Side::Destination);
    assert_eq!((first.asked, first.sent.len(), engine.pool.outstanding()), (vec![asked], 0, 1));
    // A second packet waits for the same answer.
    let second = engine.receive(ALICE.port, &to_bob(b"two"));
    assert_eq!((second.asked, engine.pool.outstanding()), (vec![], 2));
    tell(&mut engine, &BOB);
    let sent = engine.answer(asked, Outcome::Known).sent;
    let arrived: Vec<Vec<u8>> = sent.iter().map(|sent| oracle::routed(&sent.bytes, &BOB)).collect();
    assert_eq!(arrived.iter().map(|frame| &frame[frame.len() - 3..]).collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!(engine.pool.outstanding(), 0);
    // From now on nothing waits.
    engine.receive(ALICE.port, &to_bob(b"three")).only();
}

#[test]
fn refusal_is_remembered_until_it_is_old_or_what_it_depends_on_changes() {
    for (outcome, reason) in
        [(Outcome::Unknown, DropReason::NoMapping), (Outcome::Refused, DropReason::ResolveRefused)]
    {
        let mut engine = engine(0);
        let asked = question(&ALICE, &BOB, Side::Destination);
        engine.receive(ALICE.port, &to_bob(b"one"));
        let answered = engine.answer(asked, outcome);
        let counted = format!("node1 drop {}", reason.name());
        assert_eq!((answered.counted.get(&counted), answered.dropped()), (Some(&1), 1));
        engine.refuses(ALICE.port, &to_bob(b"again"), "node1", reason);
        engine.clock.advance(Duration::from_millis(9_999));
        engine.refuses(ALICE.port, &to_bob(b"still"), "node1", reason);
        engine.clock.advance(Duration::from_millis(2));
        assert_eq!(engine.receive(ALICE.port, &to_bob(b"anew")).asked, [asked]);
        engine.answer(asked, outcome);
        engine.refuses(ALICE.port, &to_bob(b"again"), "node1", reason);
        engine.snapshot.resolve_epoch += 1;
        assert_eq!(engine.receive(ALICE.port, &to_bob(b"now")).asked, [asked]);
    }
}

#[test]
fn refusal_for_one_interface_is_none_for_another() {
    let mut engine = engine(0);
    engine.receive(ALICE.port, &to_bob(b"one"));
    engine.answer(question(&ALICE, &BOB, Side::Destination), Outcome::Refused);
    let from_anna = frames::ipv4(BOB.dummy(), ANNA.mac(), &shape(&ANNA, &BOB, udp(b"mine")));
    let asked = engine.receive(ANNA.port, &from_anna).asked;
    assert_eq!(asked, [question(&ANNA, &BOB, Side::Destination)]);
}

#[test]
fn without_an_answer_packets_are_dropped_in_time_and_the_next_one_asks_again() {
    let mut engine = engine(0);
    engine.receive(ALICE.port, &to_bob(b"one"));
    engine.clock.advance(Duration::from_millis(1_999));
    engine.expire();
    assert_eq!(engine.pool.outstanding(), 1);
    engine.clock.advance(Duration::from_millis(2));
    engine.expire();
    assert_eq!((engine.pool.outstanding(), engine.pipeline.is_holding()), (0, false));
    assert_eq!(engine.total("node1", DropReason::ResolveUnanswered), 1);
    assert_eq!(engine.receive(ALICE.port, &to_bob(b"two")).asked.len(), 1);
    let asked = question(&ALICE, &BOB, Side::Destination);
    assert_eq!(engine.answer(asked, Outcome::Unanswered).dropped(), 1);
    assert_eq!(engine.total("node1", DropReason::ResolveUnanswered), 2);
    // An answer that nobody waits for changes nothing.
    let late = engine.answer(asked, Outcome::Refused);
    assert!(late.counted.is_empty() && late.sent.is_empty());
    assert_eq!(engine.receive(ALICE.port, &to_bob(b"three")).asked.len(), 1);
}

#[test]
fn who_has_waits_for_the_answer_and_gets_none_of_its_own_when_it_is_refused() {
    let mut engine = engine(0);
    let request = who_has(&ALICE, BOB.ipv4);
    let asked = question(&ALICE, &BOB, Side::Destination);
    assert_eq!(engine.receive(ALICE.port, &request).asked, [asked]);
    tell(&mut engine, &BOB);
    let reply = engine.answer(asked, Outcome::Known).only();
    assert_eq!((reply.port, &reply.bytes[22..28]), (ALICE.port, &BOB.dummy().0[..]));

    let mut refused = self::engine(0);
    refused.receive(ALICE.port, &request);
    let answered = refused.answer(asked, Outcome::Refused);
    assert_eq!((answered.sent.len(), answered.counted["node1 drop arp_target_unknown"]), (0, 1));
}

#[test]
fn scan_of_the_subnet_is_cut_off_and_counted_and_hinders_nobody_else() {
    let limits = ResolveLimits { interface: Rate { rate: 10, burst: 8 }, ..ResolveLimits::default() };
    let mut engine = engine_with(0, limits);
    let asked: usize = (100..200).map(|last| engine.receive(ALICE.port, &to(last)).asked.len()).sum();
    assert_eq!((asked, engine.total("node1", DropReason::ResolveLimited)), (8, 92));
    let from_anna = frames::ipv4(BOB.dummy(), ANNA.mac(), &shape(&ANNA, &BOB, udp(b"mine")));
    assert_eq!(engine.receive(ANNA.port, &from_anna).asked.len(), 1);
    // It may ask again as time passes.
    engine.clock.advance(Duration::from_millis(100));
    assert_eq!(engine.receive(ALICE.port, &to(201)).asked.len(), 1);
}

#[test]
fn packets_that_wait_and_questions_that_are_open_are_bounded_for_each_interface() {
    let limits = ResolveLimits { interface: Rate { rate: 1, burst: 1000 }, ..ResolveLimits::default() };
    let mut engine = engine_with(0, limits);
    for _ in 0..40 {
        engine.receive(ALICE.port, &to_bob(b"."));
    }
    assert_eq!((engine.pool.outstanding(), engine.total("node1", DropReason::ResolveQueueFull)), (32, 8));
    // 63 more questions fit, whose packets do not; then none does.
    let asked: usize = (100..200).map(|last| engine.receive(ALICE.port, &to(last)).asked.len()).sum();
    assert_eq!((asked, engine.pool.outstanding()), (63, 32));
    let mut deaf = self::engine(0);
    deaf.deaf = true;
    deaf.refuses(ALICE.port, &to_bob(b"."), "node1", DropReason::ResolveQueueFull);
}

#[test]
fn refusals_make_way_for_questions() {
    let limits = ResolveLimits { interface: Rate { rate: 1, burst: 1000 }, ..ResolveLimits::default() };
    let mut engine = engine_with(0, limits);
    for last in 100..200 {
        let asked = engine.receive(ALICE.port, &to(last)).asked;
        assert_eq!(asked.len(), 1, "{last}");
        engine.answer(asked[0], Outcome::Unknown);
    }
}

#[test]
fn address_outside_the_subnets_is_not_asked_for() {
    let mut engine = engine(0);
    let nobody = Node { ipv4: Ipv4Addr::new(192, 0, 2, 1), ..BOB };
    let frame = frames::ipv4(dummy(7, GATEWAY), ALICE.mac(), &shape(&ALICE, &nobody, udp(b"?")));
    engine.refuses(ALICE.port, &frame, "node1", DropReason::NoMapping);
}

#[test]
fn source_is_verified_before_its_packet_is_delivered() {
    let mut engine = engine(1);
    let asked = question(&BOB, &ALICE, Side::Source);
    let first = engine.receive(UPLINK, &from_alice(b"one"));
    assert_eq!((first.asked, engine.pool.outstanding()), (vec![asked], 1));
    tell(&mut engine, &ALICE);
    let delivered = engine.answer(asked, Outcome::Known).only();
    assert_eq!((delivered.port, &delivered.bytes[delivered.bytes.len() - 3..]), (BOB.port, &b"one"[..]));
}

#[test]
fn source_that_turns_out_to_live_elsewhere_is_spoofed() {
    let mut engine = engine(1);
    let mallory = Node { host: 2, ..ALICE };
    let frame = from_substrate(1, (address(LAYOUT, &mallory), address(LAYOUT, &BOB)), udp(b"!"));
    let asked = engine.receive(UPLINK, &frame).asked;
    tell(&mut engine, &ALICE);
    let answered = engine.answer(asked[0], Outcome::Known);
    assert_eq!((answered.sent.len(), answered.counted["vnet 7 drop src_prefix_mismatch"]), (0, 1));
}

#[test]
fn source_that_nobody_is_or_that_is_refused_is_dropped_and_remembered() {
    for (outcome, reason) in
        [(Outcome::Unknown, DropReason::SrcUnknownNode), (Outcome::Refused, DropReason::ResolveRefused)]
    {
        let mut engine = engine(1);
        let asked = engine.receive(UPLINK, &from_alice(b"one")).asked;
        assert_eq!(engine.answer(asked[0], outcome).dropped(), 1);
        engine.refuses(UPLINK, &from_alice(b"two"), "vnet 7", reason);
        assert_eq!(engine.total("vnet 7", reason), 2);
    }
}

#[test]
fn flood_from_one_prefix_becomes_no_flood_of_questions_and_another_prefix_is_verified_meanwhile() {
    let limits = ResolveLimits {
        interface: Rate { rate: 1_000, burst: 1_000 },
        prefix: Rate { rate: 1, burst: 16 },
        ..ResolveLimits::default()
    };
    let mut engine = engine_with(1, limits);
    let from = |host: usize, last: u8| {
        let node = Node { host, ipv4: Ipv4Addr::new(10, 0, 0, last), ..ALICE };
        from_substrate(1, (address(LAYOUT, &node), address(LAYOUT, &BOB)), udp(b"."))
    };
    let asked: usize = (100..200).map(|last| engine.receive(UPLINK, &from(2, last)).asked.len()).sum();
    assert_eq!((asked, engine.total("vnet 7", DropReason::VerifyQueueFull)), (16, 84));
    assert_eq!(engine.receive(UPLINK, &from_alice(b"me")).asked.len(), 1);
    engine.clock.advance(Duration::from_secs(3));
    engine.expire();
    assert_eq!(engine.total("vnet 7", DropReason::VerifyUnanswered), 17);
}

#[test]
fn mapping_that_ages_is_used_and_asked_for_again_once() {
    let mut engine = engine(0);
    tell(&mut engine, &BOB);
    engine.map(&BOB, |mapping| mapping.state = State::Ageing);
    let outcome = engine.receive(ALICE.port, &to_bob(b"one"));
    assert_eq!((outcome.asked.len(), outcome.sent.len()), (1, 1));
    let outcome = engine.receive(ALICE.port, &to_bob(b"two"));
    assert_eq!((outcome.asked.len(), outcome.sent.len()), (0, 1));
    // The same for sources.
    let mut engine = self::engine(1);
    tell(&mut engine, &ALICE);
    engine.map(&ALICE, |mapping| mapping.state = State::Ageing);
    let outcome = engine.receive(UPLINK, &from_alice(b"one"));
    assert_eq!((outcome.asked.len(), outcome.sent.len()), (1, 1));
}

#[test]
fn refused_sender_is_told_where_it_went_by_its_gateway_and_configuration_says_so() {
    let limits = ResolveLimits { tell_refused: true, ..ResolveLimits::default() };
    for (host_mac, told) in [(dummy(7, GATEWAY), 1), (BOB.dummy(), 0)] {
        let mut engine = engine_with(0, limits);
        let frame = frames::ipv4(host_mac, ALICE.mac(), &shape(&ALICE, &BOB, udp(b"one")));
        let asked = engine.receive(ALICE.port, &frame).asked;
        let answered = engine.answer(asked[0], Outcome::Refused);
        assert_eq!((answered.answers(), answered.dropped()), (told, 1));
        if let Some(error) = answered.sent.first() {
            assert_eq!((error.port, &error.bytes[34..36]), (ALICE.port, &[3, 13][..]));
        }
    }
}

#[test]
fn sender_to_a_terminated_node_hears_that_the_host_is_unreachable() {
    let mut engine = Engine::new(LAYOUT, 0);
    engine.map(&BOB, |mapping| mapping.state = State::Gone);
    let outcome = engine.receive(ALICE.port, &to_bob(b"one"));
    assert_eq!((outcome.answers(), outcome.counted["node1 drop dst_terminated"]), (1, 1));
    assert_eq!((outcome.sent[0].port, &outcome.sent[0].bytes[34..36]), (ALICE.port, &[3, 1][..]));
    // Its substrate address is nobody's, and nobody is there for ARP.
    let mut there = Engine::new(LAYOUT, 1);
    there.map(&ALICE, |mapping| mapping.state = State::Gone);
    there.refuses(UPLINK, &from_alice(b"two"), "vnet 7", DropReason::SrcNotLive);
    engine.refuses(ALICE.port, &who_has(&ALICE, BOB.ipv4), "node1", DropReason::ArpTargetUnknown);
}
