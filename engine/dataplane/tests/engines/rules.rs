//! Rules: who may send what to whom, and what becomes of what may not pass.

use crate::frames::{self, Transport, echo, shape, tcp, udp, who_has};
use crate::oracle;
use crate::world::*;
use etherparse::{Icmpv4Header, Icmpv4Type, TcpHeader, TcpHeaderSlice, icmpv4};
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::policy::{Action, Peer, Peers, Policy, Rule, RuleSet, TagId};
use overlane_dataplane::table::flow::Account;
use overlane_dataplane::wire::protocol;
use overlane_dataplane::wire::tcp::flag::{ACK, RST, SYN};
use std::sync::Arc;

const LAYOUT: Layout = Layout::Slot64;

fn set(rules: &[Rule]) -> Arc<RuleSet> {
    Arc::new(RuleSet::compile(rules.to_vec()).unwrap())
}

/// Gives a node rules for what it sends and for what it gets.
fn judge(engines: &mut [Engine; 2], node: &Node, egress: &[Rule], ingress: &[Rule]) {
    let policy = Arc::new(Policy { egress: set(egress), ingress: set(ingress) });
    engines[node.host].change_interface(node, |interface| interface.policy = Some(Arc::clone(&policy)));
}

fn udp_to(ports: core::ops::RangeInclusive<u16>, action: Action) -> Rule {
    Rule { protocol: Some(protocol::UDP), destination_ports: Some(ports), ..Rule::all("udp", action) }
}

fn about(peer: &Node, action: Action) -> Rule {
    let net = ipnet::Ipv4Net::new(peer.ipv4, 32).unwrap();
    Rule { peer: Peer::Addresses(vec![(vnet(peer.vnet), net)]), ..Rule::all("peer", action) }
}

/// A packet's way from one node to another, on this host or over the substrate.
#[track_caller]
fn passes(engines: &mut [Engine; 2], from: &Node, to: &Node, transport: Transport) -> Vec<u8> {
    arrives(engines, from, to, &frames::to_node(from, to, transport))
}

#[track_caller]
fn arrives(engines: &mut [Engine; 2], from: &Node, to: &Node, frame: &[u8]) -> Vec<u8> {
    let sent = engines[from.host].receive(from.port, frame).only();
    let arrived = if from.host == to.host {
        sent
    } else {
        engines[to.host].receive(UPLINK, &oracle::routed(&sent.bytes, to)).only()
    };
    assert_eq!(arrived.port, to.port);
    arrived.bytes
}

/// A packet that its sender's host drops.
#[track_caller]
fn is_stopped_here(engines: &mut [Engine; 2], from: &Node, frame: &[u8], reason: DropReason) {
    let outcome = engines[from.host].receive(from.port, frame);
    let name = format!("node{} drop {}", from.port, reason.name());
    assert_eq!((outcome.counted.get(&name), outcome.dropped()), (Some(&1), 1), "{:?}", outcome.counted);
    assert!(outcome.sent.is_empty());
}

/// A packet that its receiver's host drops.
#[track_caller]
fn is_stopped_there(engines: &mut [Engine; 2], from: &Node, to: &Node, frame: &[u8], reason: DropReason) {
    let sent = engines[from.host].receive(from.port, frame).only();
    let outcome = engines[to.host].receive(UPLINK, &oracle::routed(&sent.bytes, to));
    let name = format!("vnet {} drop {}", to.vnet, reason.name());
    assert_eq!((outcome.counted.get(&name), outcome.dropped()), (Some(&1), 1), "{:?}", outcome.counted);
    assert!(outcome.sent.is_empty());
}

/// A segment between ports 40,000 of `from` and 80 of `to`, or `back` between them.
fn segment(from: &Node, to: &Node, back: bool, flags: u8) -> Vec<u8> {
    let mut frame = frames::to_node(from, to, tcp(b""));
    if back {
        frame[34..38].rotate_left(2);
    }
    frame[47] = flags;
    frame
}

#[test]
fn what_a_rule_of_the_sender_forbids_never_leaves_its_host() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &ALICE, &[udp_to(53..=53, Action::Deny)], &[]);
    let frame = frames::to_node(&ALICE, &BOB, udp(b"query"));
    is_stopped_here(&mut engines, &ALICE, &frame, DropReason::EgressDenied);
    // Not its own rules, not this port, not this protocol.
    passes(&mut engines, &ANNA, &BOB, udp(b"query"));
    passes(&mut engines, &ALICE, &BOB, tcp(b"query"));
    passes(&mut engines, &ALICE, &BOB, echo(b"query"));
    passes(&mut engines, &BOB, &ALICE, udp(b"query"));
}

#[test]
fn the_rules_of_a_neighbour_judge_every_packet_of_a_sender_that_has_none() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &ANNA, &[], &[udp_to(53..=53, Action::Deny)]);
    let frame = frames::to_node(&ALICE, &ANNA, udp(b"query"));
    // More than a burst has, one after the other and at once.
    for _ in 0..100 {
        is_stopped_here(&mut engines, &ALICE, &frame, DropReason::IngressDenied);
    }
    for _ in 0..3 {
        let engine = &mut engines[0];
        let burst: Vec<_> = (0..64).map(|_| engine.pool.packet(&frame).unwrap()).collect();
        let outcome = engine.receive_packets(ALICE.port, burst);
        assert_eq!((outcome.sent.len(), outcome.dropped()), (0, 64));
    }
    passes(&mut engines, &ALICE, &ANNA, tcp(b"query"));
}

#[test]
fn what_a_rule_of_the_receiver_forbids_is_dropped_where_the_receiver_is() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &BOB, &[], &[udp_to(53..=53, Action::Deny)]);
    let frame = frames::to_node(&ALICE, &BOB, udp(b"query"));
    is_stopped_there(&mut engines, &ALICE, &BOB, &frame, DropReason::IngressDenied);
    passes(&mut engines, &ALICE, &BOB, tcp(b"query"));
    assert_eq!(engines[1].flows.totals().live(), 1, "what may not pass takes no room");
}

#[test]
fn between_nodes_of_one_host_the_rules_of_both_hold() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &ANNA, &[], &[udp_to(53..=53, Action::Deny)]);
    let frame = frames::to_node(&ALICE, &ANNA, udp(b"query"));
    is_stopped_here(&mut engines, &ALICE, &frame, DropReason::IngressDenied);
    passes(&mut engines, &ALICE, &ANNA, tcp(b"query"));
    judge(&mut engines, &ALICE, &[Rule::all("", Action::Deny)], &[]);
    is_stopped_here(&mut engines, &ALICE, &frame, DropReason::EgressDenied);
}

#[test]
fn replies_pass_by_the_flow_and_what_is_none_does_not() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &ALICE, &[], &[Rule::all("nothing in", Action::Deny)]);
    // Bob cannot begin, Alice can, and then Bob's answers pass.
    is_stopped_there(
        &mut engines,
        &BOB,
        &ALICE,
        &segment(&BOB, &ALICE, true, SYN | ACK),
        DropReason::IngressDenied,
    );
    arrives(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, SYN));
    arrives(&mut engines, &BOB, &ALICE, &segment(&BOB, &ALICE, true, SYN | ACK));
    passes(&mut engines, &ALICE, &BOB, echo(b"ping"));
    passes(&mut engines, &BOB, &ALICE, Transport::EchoReply { payload: b"ping".to_vec() });
    // A request is no reply.
    let frame = frames::to_node(&BOB, &ALICE, segmentless());
    is_stopped_there(&mut engines, &BOB, &ALICE, &frame, DropReason::IngressDenied);
}

fn segmentless() -> Transport {
    Transport::Other { number: 47, payload: b"GRE".to_vec() }
}

#[test]
fn without_a_rule_a_network_says_what_happens_inside_it() {
    let mut engines = world(LAYOUT);
    engines.iter_mut().for_each(|engine| engine.change_vnet(7, |vnet| vnet.default_action = Action::Deny));
    let frame = frames::to_node(&ALICE, &BOB, udp(b"query"));
    is_stopped_here(&mut engines, &ALICE, &frame, DropReason::DefaultDenied);
    // Both ends have to allow it.
    judge(&mut engines, &ALICE, &[udp_to(53..=53, Action::Allow)], &[]);
    is_stopped_there(&mut engines, &ALICE, &BOB, &frame, DropReason::DefaultDenied);
    judge(&mut engines, &BOB, &[], &[about(&ALICE, Action::Allow)]);
    arrives(&mut engines, &ALICE, &BOB, &frame);
    // The other vnet has its own default.
    passes(&mut engines, &STRANGER, &OTHER_BOB, udp(b"query"));
}

#[test]
fn a_stateless_rule_lets_no_reply_pass() {
    let mut engines = world(LAYOUT);
    let out = Rule { stateless: true, ..udp_to(0..=u16::MAX, Action::Allow) };
    judge(&mut engines, &ALICE, &[out], &[Rule::all("nothing in", Action::Deny)]);
    passes(&mut engines, &ALICE, &BOB, udp(b"query"));
    let mut reply = frames::to_node(&BOB, &ALICE, udp(b"reply"));
    reply[34..38].rotate_left(2);
    is_stopped_there(&mut engines, &BOB, &ALICE, &reply, DropReason::IngressDenied);
    assert_eq!(engines[0].flows.totals().live(), 0);
}

/// The reset in a frame that a node gets.
#[track_caller]
fn reset(frame: &[u8]) -> TcpHeader {
    let ip = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap().to_header();
    assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
    let header = TcpHeaderSlice::from_slice(&frame[34..]).unwrap().to_header();
    assert_eq!(header.calc_checksum_ipv4(&ip, &[]).unwrap(), header.checksum);
    assert!(header.rst);
    header
}

#[test]
fn a_rejected_connection_is_reset_and_a_rejected_datagram_answered_by_icmp() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &ALICE, &[Rule::all("no", Action::Reject)], &[]);
    let counted = |outcome: &Outcome| outcome.counted.get("node1 drop egress_denied").copied();

    let outcome = engines[0].receive(ALICE.port, &segment(&ALICE, &BOB, false, SYN));
    assert_eq!((counted(&outcome), outcome.answers()), (Some(1), 1));
    let [answer] = &outcome.sent[..] else { panic!("{outcome:?}") };
    let answered = reset(&answer.bytes);
    assert_eq!((answered.source_port, answered.destination_port), (80, 40_000));
    // A SYN takes one place in the sequence.
    assert_eq!((answered.sequence_number, answered.acknowledgment_number), (0, 0x1020_3041));
    assert!(answered.ack);
    assert_eq!(answer.bytes[26..34], [BOB.ipv4.octets(), ALICE.ipv4.octets()].concat());

    let outcome = engines[0].receive(ALICE.port, &segment(&ALICE, &BOB, false, ACK));
    let answered = reset(&outcome.sent[0].bytes);
    assert_eq!((answered.sequence_number, answered.ack), (0, false));
    // No reset about a reset.
    let outcome = engines[0].receive(ALICE.port, &segment(&ALICE, &BOB, false, RST));
    assert_eq!((counted(&outcome), outcome.sent.len()), (Some(1), 0));

    let outcome = engines[0].receive(ALICE.port, &frames::to_node(&ALICE, &BOB, udp(b"query")));
    let answered = Icmpv4Header::from_slice(&outcome.sent[0].bytes[34..]).unwrap().0;
    assert_eq!(
        answered.icmp_type,
        Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FilterProhibited)
    );
}

#[test]
fn a_receivers_rejection_comes_back_over_the_substrate() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &BOB, &[], &[Rule::all("no", Action::Reject)]);
    // Alice lets nothing in of itself: the answers belong to what she sent.
    judge(&mut engines, &ALICE, &[], &[Rule::all("nothing in", Action::Deny)]);
    for (frame, is_reset) in
        [(segment(&ALICE, &BOB, false, SYN), true), (frames::to_node(&ALICE, &BOB, udp(b"query")), false)]
    {
        let sent = engines[0].receive(ALICE.port, &frame).only();
        let outcome = engines[1].receive(UPLINK, &oracle::routed(&sent.bytes, &BOB));
        assert_eq!(outcome.counted.get("vnet 7 drop ingress_denied"), Some(&1), "{outcome:?}");
        let [answer] = &outcome.sent[..] else { panic!("{outcome:?}") };
        assert_eq!(answer.port, UPLINK);
        let arrived = engines[0].receive(UPLINK, &oracle::routed(&answer.bytes, &ALICE)).only();
        assert_eq!(arrived.port, ALICE.port);
        if is_reset {
            assert_eq!(reset(&arrived.bytes).acknowledgment_number, 0x1020_3041);
        } else {
            // RFC 7915, 5.2: communication administratively prohibited becomes that of a host.
            assert_eq!(arrived.bytes[34..36], [3, 10]);
        }
    }
}

#[test]
fn a_change_of_rules_cuts_an_established_connection_both_ways_and_at_once() {
    for first in [false, true] {
        let mut engines = world(LAYOUT);
        judge(&mut engines, &ALICE, &[], &[]);
        arrives(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, SYN));
        arrives(&mut engines, &BOB, &ALICE, &segment(&BOB, &ALICE, true, SYN | ACK));
        arrives(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, ACK));
        judge(&mut engines, &ALICE, &[about(&BOB, Action::Deny)], &[]);
        // Whichever direction comes first: what is judged is the connection as it was opened.
        if first {
            is_stopped_there(
                &mut engines,
                &BOB,
                &ALICE,
                &segment(&BOB, &ALICE, true, ACK),
                DropReason::EgressDenied,
            );
        }
        let data = segment(&ALICE, &BOB, false, ACK);
        is_stopped_here(&mut engines, &ALICE, &data, DropReason::EgressDenied);
        assert_eq!(engines[0].flows.totals().live(), 0);
    }
}

#[test]
fn a_change_of_rules_that_still_allow_it_leaves_a_connection_alone() {
    let mut engines = world(LAYOUT);
    let nothing_in = [Rule::all("nothing in", Action::Deny)];
    judge(&mut engines, &ALICE, &[], &nothing_in);
    arrives(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, SYN));
    judge(&mut engines, &ALICE, &[udp_to(1..=1, Action::Deny)], &nothing_in);
    arrives(&mut engines, &BOB, &ALICE, &segment(&BOB, &ALICE, true, SYN | ACK));
    arrives(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, ACK));
}

/// Destination port unreachable from `from`, about a packet that `to` sent to `quoted_to`.
fn port_unreachable(from: &Node, to: &Node, quoted_to: &Node, about: Transport) -> Vec<u8> {
    let quoted = frames::ipv4(quoted_to.dummy(), to.mac(), &shape(to, quoted_to, about))[14..].to_vec();
    let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let mut payload = Icmpv4Header::with_checksum(kind, &quoted).to_bytes().to_vec();
    payload.extend(quoted);
    frames::to_node(from, to, Transport::Other { number: protocol::ICMP, payload })
}

#[test]
fn an_error_passes_only_from_whom_it_is_about_and_about_what_was_sent() {
    for neighbour in [BOB, ANNA] {
        let mut engines = world(LAYOUT);
        judge(&mut engines, &ALICE, &[], &[Rule::all("nothing in", Action::Deny)]);
        let stopped = |engines: &mut [Engine; 2], from: &Node, frame: &[u8]| {
            if from.host == ALICE.host {
                is_stopped_here(engines, from, frame, DropReason::IngressDenied);
            } else {
                is_stopped_there(engines, from, &ALICE, frame, DropReason::IngressDenied);
            }
        };
        let error = port_unreachable(&neighbour, &ALICE, &neighbour, udp(b"query"));
        stopped(&mut engines, &neighbour, &error);
        passes(&mut engines, &ALICE, &neighbour, udp(b"query"));
        arrives(&mut engines, &neighbour, &ALICE, &error);
        // Not about another connection, and not from somebody else who knows of this one.
        stopped(&mut engines, &neighbour, &port_unreachable(&neighbour, &ALICE, &neighbour, tcp(b"")));
        stopped(&mut engines, &ADAM, &port_unreachable(&ADAM, &ALICE, &neighbour, udp(b"query")));
    }
}

#[test]
fn rules_about_a_tag_are_about_whoever_carries_it() {
    let mut engines = world(LAYOUT);
    let web = Rule { peer: Peer::Tag(TagId(3)), ..Rule::all("web", Action::Allow) };
    judge(&mut engines, &ALICE, &[web, Rule::all("rest", Action::Deny)], &[]);
    let frame = frames::to_node(&ALICE, &BOB, udp(b"query"));
    is_stopped_here(&mut engines, &ALICE, &frame, DropReason::EgressDenied);
    engines[0].snapshot.peers = Arc::new(Peers::new([((vnet(7), BOB.ipv4), vec![TagId(2), TagId(3)])]));
    arrives(&mut engines, &ALICE, &BOB, &frame);
    let frame = frames::to_node(&ALICE, &ANNA, udp(b"query"));
    is_stopped_here(&mut engines, &ALICE, &frame, DropReason::EgressDenied);
}

#[test]
fn a_rule_about_sizes_judges_every_packet_of_a_flow() {
    let mut engines = world(LAYOUT);
    let large = Rule { size: Some(101..=u16::MAX), ..Rule::all("large", Action::Deny) };
    judge(&mut engines, &ALICE, &[large], &[]);
    for (bytes, passing) in [(72, true), (73, false), (72, true)] {
        let frame = frames::to_node(&ALICE, &BOB, udp(&vec![7; bytes]));
        if passing {
            arrives(&mut engines, &ALICE, &BOB, &frame);
        } else {
            is_stopped_here(&mut engines, &ALICE, &frame, DropReason::EgressDenied);
        }
    }
    // Replies are as long as they like.
    let mut reply = frames::to_node(&BOB, &ALICE, udp(&[7; 900]));
    reply[34..38].rotate_left(2);
    arrives(&mut engines, &BOB, &ALICE, &reply);
}

#[test]
fn icmp_of_the_other_ip_version_is_no_part_of_a_ping() {
    let mut engines = world(LAYOUT);
    let ping = Rule { protocol: Some(protocol::ICMP), ..Rule::all("ping", Action::Allow) };
    judge(&mut engines, &ALICE, &[ping, Rule::all("rest", Action::Deny)], &[]);
    passes(&mut engines, &ALICE, &ANNA, echo(b"ping"));
    let payload = vec![128, 0, 0, 0, 0, 0x77, 0, 3];
    let disguised = Transport::Other { number: protocol::ICMPV6, payload };
    let frame = frames::to_node(&ALICE, &ANNA, disguised);
    is_stopped_here(&mut engines, &ALICE, &frame, DropReason::EgressDenied);
}

#[test]
fn the_rest_of_a_datagram_goes_where_its_forbidden_first_fragment_went() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &ALICE, &[udp_to(53..=53, Action::Deny)], &[]);
    let whole = frames::to_node(&ALICE, &BOB, udp(&[7; 64]));
    let part = |from: usize, to: usize, more: u16| {
        let mut frame = [&whole[..34], &whole[34 + from..34 + to]].concat();
        frame[16..18].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
        frame[20..22].copy_from_slice(&(more << 13 | (from / 8) as u16).to_be_bytes());
        fix_ipv4_checksum(&mut frame);
        frame
    };
    is_stopped_here(&mut engines, &ALICE, &part(0, 40, 1), DropReason::EgressDenied);
    is_stopped_here(&mut engines, &ALICE, &part(40, 72, 0), DropReason::EgressDenied);
}

#[test]
fn arp_is_not_answered_for_those_with_whom_nothing_may_be_exchanged() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &ALICE, &[about(&BOB, Action::Deny)], &[about(&BOB, Action::Deny)]);
    let ask = |engines: &mut [Engine; 2], target: &Node| {
        engines[0].receive(ALICE.port, &who_has(&ALICE, target.ipv4))
    };
    let outcome = ask(&mut engines, &BOB);
    assert_eq!(outcome.counted.get("node1 drop arp_target_unknown"), Some(&1), "{outcome:?}");
    ask(&mut engines, &ANNA).only();
    // Who may be answered must be found.
    judge(&mut engines, &ALICE, &[about(&BOB, Action::Deny)], &[]);
    ask(&mut engines, &BOB).only();
}

#[test]
fn a_reply_is_judged_by_the_rule_that_allowed_what_it_replies_to() {
    let mut engines = world(LAYOUT);
    let request = Rule {
        protocol: Some(protocol::ICMP),
        icmp: Some((8, None)),
        ..Rule::all("echo request", Action::Allow)
    };
    let nothing = Rule::all("nothing", Action::Deny);
    let (egress, ingress) = ([request, nothing.clone()], [nothing]);
    judge(&mut engines, &ALICE, &egress, &ingress);
    passes(&mut engines, &ALICE, &BOB, echo(b"ping"));
    // Judged again, with the reply at hand.
    judge(&mut engines, &ALICE, &egress, &ingress);
    passes(&mut engines, &BOB, &ALICE, Transport::EchoReply { payload: b"ping".to_vec() });
}

#[test]
fn a_connection_from_before_the_rules_is_not_revived_by_the_end_that_must_not_be_reached() {
    for neighbour in [BOB, ANNA] {
        let mut engines = world(LAYOUT);
        // Nobody has noted who opened it.
        arrives(&mut engines, &neighbour, &ALICE, &segment(&neighbour, &ALICE, false, ACK));
        judge(&mut engines, &ALICE, &[], &[Rule::all("nothing in", Action::Deny)]);
        let answer = segment(&ALICE, &neighbour, true, ACK);
        is_stopped_here(&mut engines, &ALICE, &answer, DropReason::IngressDenied);
        // Nor by the answer to its SYN, or to a ping.
        let answer = segment(&ALICE, &neighbour, true, SYN | ACK);
        is_stopped_here(&mut engines, &ALICE, &answer, DropReason::IngressDenied);
        let pong = frames::to_node(&ALICE, &neighbour, Transport::EchoReply { payload: b"ping".to_vec() });
        is_stopped_here(&mut engines, &ALICE, &pong, DropReason::IngressDenied);
        // What Alice opens herself passes.
        arrives(&mut engines, &ALICE, &neighbour, &segment(&ALICE, &neighbour, false, SYN));
    }
}

#[test]
fn just_after_its_start_an_engine_takes_connections_up_again_by_either_end_that_may_send() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &ALICE, &[], &[Rule::all("nothing in", Action::Deny)]);
    let data = segment(&ALICE, &BOB, false, ACK);
    is_stopped_here(&mut engines, &ALICE, &data, DropReason::IngressDenied);
    engines[0].snapshot.resumes = true;
    arrives(&mut engines, &ALICE, &BOB, &data);
    engines[0].snapshot.resumes = false;
    arrives(&mut engines, &BOB, &ALICE, &segment(&BOB, &ALICE, true, ACK));
    arrives(&mut engines, &ALICE, &BOB, &data);
    // Who opened it is still not known: another policy must let both ends send.
    judge(&mut engines, &ALICE, &[], &[Rule::all("nothing in", Action::Deny)]);
    is_stopped_here(&mut engines, &ALICE, &data, DropReason::IngressDenied);
    judge(&mut engines, &ALICE, &[], &[]);
    arrives(&mut engines, &ALICE, &BOB, &data);
}

#[test]
fn datagrams_of_an_interface_that_has_just_got_rules_must_pass_both_ways_for_a_moment() {
    let mut engines = world(LAYOUT);
    judge(&mut engines, &ALICE, &[], &[Rule::all("nothing in", Action::Deny)]);
    engines[0].change_interface(&ALICE, |interface| interface.settling = true);
    let answer = frames::to_node(&ALICE, &BOB, udp(b"an answer, or not"));
    is_stopped_here(&mut engines, &ALICE, &answer, DropReason::IngressDenied);
    // A connection and a ping show what they are.
    arrives(&mut engines, &ALICE, &BOB, &segment(&ALICE, &BOB, false, SYN));
    passes(&mut engines, &ALICE, &BOB, echo(b"ping"));
    engines[0].change_interface(&ALICE, |interface| interface.settling = false);
    arrives(&mut engines, &ALICE, &BOB, &answer);
}

#[test]
fn a_node_that_floods_has_only_its_own_flows_to_fill() {
    let mut engines = world(LAYOUT);
    engines[0].limit_flows(1024, 100);
    for node in [ALICE, ANNA] {
        judge(&mut engines, &node, &[], &[Rule::all("nothing in", Action::Deny)]);
    }
    let syn = |from: &Node, number: u16| {
        let mut frame = segment(from, &BOB, false, SYN);
        frame[34..36].copy_from_slice(&number.to_be_bytes());
        frame
    };
    for number in 0..100 {
        engines[0].receive(ALICE.port, &syn(&ALICE, number)).only();
    }
    for number in 100..200 {
        is_stopped_here(&mut engines, &ALICE, &syn(&ALICE, number), DropReason::FlowLimit);
    }
    // What is known goes on, and others have their room.
    engines[0].receive(ALICE.port, &syn(&ALICE, 5)).only();
    for number in 0..100 {
        engines[0].receive(ANNA.port, &syn(&ANNA, number)).only();
    }
    assert_eq!(engines[0].flows.kept_for(Account::of_port(port(ALICE.port))), 100);
    assert_eq!(engines[0].flows.totals().live(), 200);
    // What is over makes room.
    engines[0].clock.advance(core::time::Duration::from_secs(61));
    (0..3000).for_each(|_| engines[0].expire());
    engines[0].clock.advance(core::time::Duration::from_secs(20));
    (0..3000).for_each(|_| engines[0].expire());
    assert_eq!(engines[0].flows.kept_for(Account::of_port(port(ALICE.port))), 0);
    engines[0].receive(ALICE.port, &syn(&ALICE, 300)).only();
}

#[test]
fn a_flood_from_elsewhere_is_on_the_account_of_whoever_sends_it() {
    let mut engines = world(LAYOUT);
    engines[1].limit_flows(1024, 100);
    judge(&mut engines, &BOB, &[], &[]);
    let mut from = |node: &Node, number: u16| {
        let mut frame = frames::to_node(node, &BOB, udp(b"query"));
        frame[34..36].copy_from_slice(&number.to_be_bytes());
        let sent = engines[0].receive(node.port, &frame).only();
        engines[1].receive(UPLINK, &oracle::routed(&sent.bytes, &BOB))
    };
    for number in 0..100 {
        from(&ALICE, number).only();
    }
    assert_eq!(from(&ALICE, 100).counted.get("vnet 7 drop flow_limit"), Some(&1));
    for number in 0..100 {
        from(&ANNA, number).only();
    }
    let flows = &engines[1].flows;
    assert_eq!(flows.kept_for(flows.account_of(vnet(7), ALICE.ipv4)), 100);
}
