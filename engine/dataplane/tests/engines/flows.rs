//! Stateful vnets: which packets make which flows, and what becomes of packets by their flows.

use crate::frames::{self, Shape, Transport, echo, shape, tcp, udp};
use crate::oracle;
use crate::world::*;
use core::net::Ipv4Addr;
use core::time::Duration;
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::table::flow::{Account, Flow, FlowKey, FlowTotals, Progress};
use overlane_dataplane::wire::protocol;
use overlane_dataplane::wire::tcp::flag::{ACK, FIN, RST, SYN};

const LAYOUT: Layout = Layout::Slot64;

/// Both engines, with Alice's vnet stateful and the other one not.
fn stateful() -> [Engine; 2] {
    let mut engines = world(LAYOUT);
    engines.iter_mut().for_each(|engine| engine.make_stateful(7));
    engines
}

/// One packet from a node to one on the other host; gives the frame that arrives.
#[track_caller]
fn cross(engines: &mut [Engine; 2], from: &Node, to: &Node, shape: &Shape) -> Vec<u8> {
    send(engines, from, to, &frames::ipv4(to.dummy(), from.mac(), shape))
}

#[track_caller]
fn send(engines: &mut [Engine; 2], from: &Node, to: &Node, frame: &[u8]) -> Vec<u8> {
    let sent = engines[from.host].receive(from.port, frame).only();
    let arrived = engines[to.host].receive(UPLINK, &oracle::routed(&sent.bytes, to)).only();
    assert_eq!(arrived.port, to.port);
    arrived.bytes
}

/// A TCP segment between ports 40,000 of `from` and 80 of `to`, or `back` between them.
fn segment(from: &Node, to: &Node, back: bool, flags: u8) -> Vec<u8> {
    let mut frame = frames::ipv4(to.dummy(), from.mac(), &shape(from, to, tcp(b"")));
    if back {
        frame[34..38].rotate_left(2);
    }
    frame[47] = flags;
    frame
}

fn inserted(engine: &Engine) -> u64 {
    engine.flows.totals().inserted
}

/// The flow between Alice's port 40,000 and Bob's port 80.
fn connection(engine: &Engine) -> Option<Flow<'_>> {
    let (key, _) = FlowKey::new(vnet(7), protocol::TCP, (ALICE.ipv4, 40_000), (BOB.ipv4, 80));
    engine.flows.lookup(&engine.reader, key)
}

#[test]
fn traffic_of_other_vnets_never_touches_the_flow_table() {
    let mut engines = stateful();
    for transport in [tcp(b"data"), udp(b"data"), echo(b"ping")] {
        cross(&mut engines, &STRANGER, &OTHER_BOB, &shape(&STRANGER, &OTHER_BOB, transport));
    }
    let mut plain = world(LAYOUT);
    for transport in [tcp(b"data"), udp(b"data"), echo(b"ping")] {
        cross(&mut plain, &ALICE, &BOB, &shape(&ALICE, &BOB, transport));
        plain[0].expire();
    }
    for engine in engines.iter().chain(&plain) {
        assert_eq!(engine.flows.totals(), FlowTotals::default());
    }
}

#[test]
fn packets_of_a_stateful_vnet_arrive_byte_for_byte_as_without() {
    let others = Transport::Other { number: 47, payload: b"GRE, or anything".to_vec() };
    let (mut engines, mut plain) = (stateful(), world(LAYOUT));
    for _ in 0..2 {
        for transport in [tcp(b"hello"), udp(b"hello!"), echo(b"ping"), others.clone()] {
            let shape = shape(&ALICE, &BOB, transport);
            let arrived = cross(&mut engines, &ALICE, &BOB, &shape);
            assert_eq!(arrived, cross(&mut plain, &ALICE, &BOB, &shape));
        }
    }
    assert_eq!(engines.map(|engine| inserted(&engine)), [4, 4]);
}

#[test]
fn both_directions_are_one_flow_on_each_host() {
    let mut engines = stateful();
    send(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, SYN));
    assert_eq!(engines.each_ref().map(inserted), [1, 1]);
    send(&mut engines, &BOB, &ALICE, &segment(&BOB, &ALICE, true, SYN | ACK));
    assert_eq!(engines.each_ref().map(inserted), [1, 1]);
    assert!(engines.iter().all(|engine| connection(engine).unwrap().progress() == Progress::HalfOpen));
    send(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, ACK));
    let from_here = Account::of_port(port(ALICE.port));
    let from_elsewhere = engines[1].flows.account_of(vnet(7), ALICE.ipv4);
    for (engine, account) in engines.iter().zip([from_here, from_elsewhere]) {
        let flow = connection(engine).unwrap();
        assert_eq!((flow.progress(), flow.account()), (Progress::Established, account));
    }
    // An echo's reply has its identifier.
    cross(&mut engines, &ALICE, &BOB, &shape(&ALICE, &BOB, echo(b"ping")));
    let reply = Transport::EchoReply { payload: b"ping".to_vec() };
    cross(&mut engines, &BOB, &ALICE, &shape(&BOB, &ALICE, reply));
    assert_eq!(engines.each_ref().map(inserted), [2, 2]);
}

#[test]
fn packets_between_nodes_of_a_host_are_one_flow_too() {
    let [mut engine, _] = stateful();
    for (from, to, back) in [(&ALICE, &ANNA, false), (&ANNA, &ALICE, true), (&ALICE, &ANNA, false)] {
        let sent = engine.receive(from.port, &segment(from, to, back, ACK)).only();
        assert_eq!(sent.port, to.port);
    }
    assert_eq!((inserted(&engine), engine.flows.totals().live()), (1, 1));
}

#[test]
fn a_flow_that_ended_gives_way_to_a_new_connection_and_one_in_the_middle_is_taken_up() {
    let mut engines = stateful();
    // In the middle, from the side that did not open it.
    send(&mut engines, &BOB, &ALICE, &segment(&BOB, &ALICE, true, ACK));
    send(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, ACK));
    assert_eq!(connection(&engines[0]).unwrap().progress(), Progress::Established);
    send(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, FIN | ACK));
    send(&mut engines, &BOB, &ALICE, &segment(&BOB, &ALICE, true, FIN | ACK));
    send(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, ACK));
    assert_eq!(connection(&engines[0]).unwrap().progress(), Progress::Closing);
    assert_eq!(engines.each_ref().map(inserted), [1, 1]);
    send(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, SYN));
    assert_eq!(connection(&engines[0]).unwrap().progress(), Progress::HalfOpen);
    send(&mut engines, &BOB, &ALICE, &segment(&BOB, &ALICE, true, RST | ACK));
    assert_eq!(connection(&engines[1]).unwrap().progress(), Progress::Closing);
    // Twice in a burst, it is still one.
    let again = segment(&ALICE, &BOB, false, SYN);
    let packets = [engines[0].pool.packet(&again).unwrap(), engines[0].pool.packet(&again).unwrap()];
    assert_eq!(engines[0].receive_packets(ALICE.port, packets).sent.len(), 2);
    let totals = engines[0].flows.totals();
    assert_eq!((totals.inserted, totals.replaced, totals.live()), (3, 2, 1));
}

#[test]
fn only_the_first_fragment_makes_a_flow_and_the_others_go_with_it() {
    let [mut engine, _] = stateful();
    let mut whole = shape(&ALICE, &BOB, udp(&[7; 64]));
    whole.dont_fragment = false;
    let whole = frames::ipv4(BOB.dummy(), ALICE.mac(), &whole);
    let part = |range: core::ops::Range<usize>, more: bool| {
        let mut frame = [&whole[..34], &whole[34..][range.clone()]].concat();
        frame[16..18].copy_from_slice(&(20 + range.len() as u16).to_be_bytes());
        let word = (range.start / 8) as u16 | if more { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        fix_ipv4_checksum(&mut frame);
        frame
    };
    let (first, last) = (part(0..40, true), part(40..72, false));
    // The other way round: the last waits for the first.
    assert_eq!(engine.receive(ALICE.port, &last).sent, []);
    assert_eq!(inserted(&engine), 0);
    assert_eq!(engine.receive(ALICE.port, &first).sent.len(), 2);
    assert_eq!(inserted(&engine), 1);
    // It is the flow of whole packets of the same ports.
    engine.receive(ALICE.port, &whole).only();
    assert_eq!(inserted(&engine), 1);
}

#[test]
fn icmp_errors_make_no_flow() {
    let mut engines = stateful();
    let quoted = frames::ipv4(BOB.dummy(), ALICE.mac(), &shape(&ALICE, &BOB, udp(b"what?")));
    let error = [&[3, 3, 0, 0, 0, 0, 0, 0], &quoted[14..]].concat();
    let error = Transport::Other { number: protocol::ICMP, payload: error };
    cross(&mut engines, &BOB, &ALICE, &shape(&BOB, &ALICE, error));
    assert_eq!(engines.each_ref().map(inserted), [0, 0]);
}

#[test]
fn a_transport_header_that_is_cut_off_is_refused() {
    let [mut engine, _] = stateful();
    for (number, length) in [(6, 19), (17, 7), (132, 7), (136, 7), (33, 7), (1, 7), (6, 0)] {
        let cut_off = Transport::Other { number, payload: vec![0; length] };
        let frame = frames::ipv4(ANNA.dummy(), ALICE.mac(), &shape(&ALICE, &ANNA, cut_off));
        engine.refuses(ALICE.port, &frame, "node1", DropReason::TransportMalformed);
    }
    assert_eq!(inserted(&engine), 0);
}

#[test]
fn a_known_flow_goes_by_its_verdict_until_the_policy_changes() {
    let mut engines = stateful();
    send(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, SYN));
    for engine in &mut engines {
        // As a policy would that refuses the flow: nothing but the entry says so.
        connection(engine).unwrap().judge(1, Err(DropReason::VnetMismatch));
        engine.snapshot.policy_epoch = 1;
    }
    let [here, there] = &mut engines;
    here.refuses(ALICE.port, &segment(&ALICE, &BOB, false, ACK), "node1", DropReason::VnetMismatch);
    here.snapshot.policy_epoch = 2;
    let sent = here.receive(ALICE.port, &segment(&ALICE, &BOB, false, ACK)).only();
    let arriving = oracle::routed(&sent.bytes, &BOB);
    there.refuses(UPLINK, &arriving, "vnet 7", DropReason::VnetMismatch);
    there.snapshot.policy_epoch = 2;
    there.receive(UPLINK, &arriving).only();
    assert!(engines.iter().all(|engine| connection(engine).unwrap().judged(2) == Some(Ok(()))));
    assert_eq!(engines.each_ref().map(inserted), [1, 1]);
}

#[test]
fn the_rest_of_a_datagram_is_refused_with_its_first_fragment() {
    let [mut engine, _] = stateful();
    let mut frame = segment(&ALICE, &BOB, false, SYN);
    engine.receive(ALICE.port, &frame).only();
    connection(&engine).unwrap().judge(1, Err(DropReason::VnetMismatch));
    engine.snapshot.policy_epoch = 1;
    frame[20..22].copy_from_slice(&0x2000_u16.to_be_bytes());
    frame.extend([0; 32]);
    let length = (frame.len() - 14) as u16;
    assert_eq!((length - 20) % 8, 0);
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    fix_ipv4_checksum(&mut frame);
    engine.refuses(ALICE.port, &frame, "node1", DropReason::VnetMismatch);
    let mut rest = frame;
    rest[20..22].copy_from_slice(&((length - 20) / 8).to_be_bytes());
    fix_ipv4_checksum(&mut rest);
    engine.refuses(ALICE.port, &rest, "node1", DropReason::VnetMismatch);
    assert!(!engine.pipeline.is_holding());
}

#[test]
fn flows_are_forgotten_after_their_timeout() {
    let [mut engine, _] = stateful();
    engine.receive(ALICE.port, &frames::to_node(&ALICE, &BOB, udp(b"once"))).only();
    let turn = |engine: &mut Engine, seconds| {
        engine.clock.advance(Duration::from_secs(seconds));
        (0..1000).for_each(|_| engine.expire());
        engine.flows.totals().live()
    };
    assert_eq!(turn(&mut engine, 119), 1);
    assert_eq!(turn(&mut engine, 18), 0);
    assert_eq!(engine.flows.totals().expired, 1);
}

#[test]
fn a_new_flow_that_finds_no_room_is_dropped_and_counted_and_known_ones_go_on() {
    let [mut engine, _] = stateful();
    // All of them may be one node's.
    engine.limit_flows(1024, 1 << 20);
    // A worker that stands still holds all entries back that are taken out.
    let stuck = engine.reader.domain().register("stuck").unwrap();
    let frame = |number: u16| {
        let mut frame = frames::to_node(&ALICE, &BOB, udp(b"one of many"));
        frame[34..36].copy_from_slice(&number.to_be_bytes());
        frame
    };
    let mut refused = 0;
    for number in 0..8000 {
        let outcome = engine.receive(ALICE.port, &frame(number));
        refused += outcome.counted.get("node1 drop flow_table_full").unwrap_or(&0);
        engine.expire();
    }
    assert!(refused > 1000, "{refused}");
    assert_eq!((engine.flows.totals().refused, engine.flows.totals().inserted), (refused, 8000 - refused));
    let known = (0..8000_u16).filter(|number| {
        let (client, server) = ((ALICE.ipv4, *number), (BOB.ipv4, 53));
        let (key, _) = FlowKey::new(vnet(7), protocol::UDP, client, server);
        engine.flows.lookup(&engine.reader, key).is_some()
    });
    let known: Vec<u16> = known.collect();
    assert!(known.len() >= 1024);
    for number in known {
        engine.receive(ALICE.port, &frame(number)).only();
    }
    drop(stuck);
    (0..2).for_each(|_| engine.expire());
    engine.receive(ALICE.port, &frame(9000)).only();
}

#[test]
fn a_vnet_with_the_same_addresses_has_flows_of_its_own() {
    let mut engines = stateful();
    engines.iter_mut().for_each(|engine| engine.make_stateful(9));
    assert_eq!((STRANGER.ipv4, OTHER_BOB.ipv4), (ALICE.ipv4, BOB.ipv4));
    assert_ne!(ALICE.ipv4, Ipv4Addr::UNSPECIFIED);
    send(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, SYN));
    send(&mut engines, &STRANGER, &OTHER_BOB, &segment(&STRANGER, &OTHER_BOB, false, SYN));
    assert_eq!(engines.each_ref().map(inserted), [2, 2]);
}
