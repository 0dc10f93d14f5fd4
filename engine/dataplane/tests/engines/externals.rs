//! Systems without an engine: what nodes exchange with them, under addresses that provisioning gives them.

use crate::errors::{TIME_EXCEEDED, error4, router_says, too_big};
use crate::frames::{self, Shape, Transport, echo, from_substrate, shape, tcp, to_node, udp};
use crate::oracle;
use crate::world::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, icmpv4, icmpv6};
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::external::{External, Externals};
use overlane_dataplane::policy::{Action, Peer, Policy, Rule, RuleSet};
use overlane_dataplane::route::{Route, Routes, Transit};
use overlane_dataplane::trace::{Fate, Subject, trace};
use std::sync::Arc;

const LAYOUT: Layout = Layout::Slot64;

/// A system and what nodes know it by.
const SYSTEM: (Ipv6Addr, Ipv4Addr) =
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5), Ipv4Addr::new(10, 255, 0, 1));
/// One of many.
const ONE_OF_MANY: (Ipv6Addr, Ipv4Addr) =
    (Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x17), Ipv4Addr::new(10, 255, 1, 0x17));
/// One whose address looks like that of Bob's neighbour in slot 1 of another host.
const LOOKALIKE: (Ipv6Addr, Ipv4Addr) =
    (Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0x0400, 0x0007, 0x0a00, 0x000b), Ipv4Addr::new(10, 255, 0, 3));

fn known() -> Externals {
    let external =
        |ipv6: &str, ipv4: &str| External { ipv6: ipv6.parse().unwrap(), ipv4: ipv4.parse().unwrap() };
    let lookalike = format!("{}/128", LOOKALIKE.0);
    let all = [
        ("2001:db8::5/128", "10.255.0.1/32"),
        ("2001:db8:1::/120", "10.255.1.0/24"),
        (lookalike.as_str(), "10.255.0.3/32"),
    ];
    Externals::new(all.map(|(ipv6, ipv4)| external(ipv6, ipv4)).to_vec()).unwrap()
}

/// The engine of host 0, whose vnet 7 knows these.
fn engine(layout: Layout) -> Engine {
    let mut engine = Engine::new(layout, 0);
    let externals = Arc::new(known());
    engine.change_vnet(7, |vnet| vnet.externals = Arc::clone(&externals));
    engine
}

/// As nodes see it.
fn seen(address: Ipv4Addr) -> Node {
    Node { ipv4: address, ..BOB }
}

fn by_gateway(from: &Node, shape: &Shape) -> Vec<u8> {
    let [a, b, c, _] = from.ipv4.octets();
    frames::ipv4(dummy(7, Ipv4Addr::new(a, b, c, 1)), from.mac(), shape)
}

/// What comes from the substrate for a node, from an address that embeds none.
fn from_outside(
    layout: Layout,
    system: (Ipv6Addr, Ipv4Addr),
    to: &Node,
    transport: Transport,
) -> (Vec<u8>, Shape) {
    let shape = Shape { ttl: 60, ..shape(&seen(system.1), to, transport) };
    let ends = (system.0, address(layout, to));
    (frames::ipv6(uplink_mac(to.host), ROUTER, ends, &shape), shape)
}

#[test]
fn nodes_and_externals_exchange_packets_each_at_the_addresses_that_it_knows() {
    for layout in Layout::ALL {
        let mut here = engine(layout);
        for system in [SYSTEM, ONE_OF_MANY, LOOKALIKE] {
            for (node, gateway) in [(ALICE, GATEWAY), (ADAM, Ipv4Addr::new(10, 0, 1, 1))] {
                for transport in [tcp(b"hello"), udp(b"hello!"), echo(b"hello"), udp(&[7; 1400])] {
                    let out = shape(&node, &seen(system.1), transport.clone());
                    let sent = here.receive(node.port, &by_gateway(&node, &out)).only();
                    let ends = (address(layout, &node), system.0);
                    let lower = Shape { ttl: out.ttl - 1, ..out };
                    assert_eq!(sent.bytes, frames::ipv6(ROUTER, uplink_mac(0), ends, &lower));
                    assert_eq!(sent.port, UPLINK);
                    let (frame, back) = from_outside(layout, system, &node, transport);
                    let arrived = here.receive(UPLINK, &frame).only();
                    let shape = Shape { ttl: back.ttl + 1, ..back };
                    let expected = oracle::at_node(dummy(7, gateway), &node, &shape, 0, &arrived.bytes);
                    assert_eq!((arrived.port, arrived.bytes), (node.port, expected));
                }
            }
        }
    }
}

#[test]
fn only_the_externals_of_a_network_speak_to_its_nodes_and_nobody_for_them() {
    let mut here = engine(LAYOUT);
    let from = |system: Ipv6Addr, to: &Node| from_outside(LAYOUT, (system, SYSTEM.1), to, udp(b"?")).0;
    here.refuses(
        UPLINK,
        &from("2001:db8::6".parse().unwrap(), &ALICE),
        "vnet 7",
        DropReason::SrcAddressInvalid,
    );
    // One of another network's.
    here.refuses(UPLINK, &from(SYSTEM.0, &STRANGER), "vnet 9", DropReason::SrcAddressInvalid);
    let group = locator(LAYOUT, 0, 0, 7).address([239, 1, 2, 3].into());
    let mut octets = group.octets();
    octets[8] |= 1;
    let frame = from_substrate(0, (SYSTEM.0, octets.into()), udp(b"to all"));
    assert_eq!(here.receive(UPLINK, &frame).dropped(), 1);
    // A node in its name, and a router that may send from anywhere.
    let posing = Node { ipv4: SYSTEM.1, ..ANNA };
    here.refuses(ANNA.port, &to_node(&posing, &ALICE, udp(b"?")), "node2", DropReason::SrcIpv4Spoofed);
    let all = "0.0.0.0/0".parse().unwrap();
    let route = Route { net: all, via: vec![ANNA.ipv4], silent: Vec::new() };
    let routes = Arc::new(Routes::new(vec![route], vec![Transit { net: all, via: ANNA.ipv4 }]).unwrap());
    here.change_vnet(7, |vnet| vnet.routes = Arc::clone(&routes));
    here.refuses(ANNA.port, &to_node(&posing, &ALICE, udp(b"?")), "node2", DropReason::SrcIpv4Spoofed);
    // What is sent to it goes to itself.
    let frame = by_gateway(&ALICE, &shape(&ALICE, &seen(SYSTEM.1), udp(b"?")));
    assert_eq!(here.receive(ALICE.port, &frame).only().bytes[38..54], SYSTEM.0.octets());
    // And in this host's own prefix there is none, whatever provisioning says.
    let own = locator(LAYOUT, 0, 9, 7).address([10, 0, 0, 77].into());
    let external =
        External { ipv6: format!("{own}/128").parse().unwrap(), ipv4: "10.255.0.9/32".parse().unwrap() };
    let externals = Arc::new(Externals::new(vec![external]).unwrap());
    here.change_vnet(7, |vnet| vnet.externals = Arc::clone(&externals));
    here.refuses(UPLINK, &from(own, &ALICE), "vnet 7", DropReason::SrcOwnPrefix);
}

#[test]
fn networks_behind_a_router_reach_externals_too() {
    let mut here = engine(LAYOUT);
    let route = Route { net: "10.8.0.0/16".parse().unwrap(), via: vec![ANNA.ipv4], silent: Vec::new() };
    let routes = Arc::new(Routes::new(vec![route], Vec::new()).unwrap());
    here.change_vnet(7, |vnet| vnet.routes = Arc::clone(&routes));
    let machine = Node { ipv4: [10, 8, 0, 7].into(), ..ANNA };
    let behind = locator(LAYOUT, 0, ANNA.slot, 7).by_slot(LAYOUT).address(machine.ipv4);
    let frame = frames::ipv4(dummy(7, GATEWAY), ANNA.mac(), &shape(&machine, &seen(SYSTEM.1), tcp(b"out")));
    let sent = here.receive(ANNA.port, &frame).only();
    assert_eq!(sent.bytes[22..54], [behind.octets(), SYSTEM.0.octets()].concat());
    let arrived = here.receive(UPLINK, &from_substrate(0, (SYSTEM.0, behind), tcp(b"back"))).only();
    assert_eq!(
        (arrived.port, &arrived.bytes[26..34]),
        (ANNA.port, &[[10, 255, 0, 1], [10, 8, 0, 7]].concat()[..])
    );
}

#[test]
fn errors_cross_with_the_addresses_of_both_sides() {
    let mut here = engine(LAYOUT);
    let question = by_gateway(&ALICE, &shape(&ALICE, &seen(SYSTEM.1), udp(b"is anybody there?")));
    let crossing = here.receive(ALICE.port, &question).only().bytes;
    // A router on the way there says something; of the path to a host nothing is learned by it.
    let outcome = here.receive(UPLINK, &router_says(0, too_big(1300), &crossing[14..]));
    assert_eq!(outcome.path_mtus, []);
    let error = error4(&outcome.only().bytes);
    assert_eq!((error.source, error.destination, &error.quote[12..]), (GATEWAY, ALICE.ipv4, &question[26..]));
    let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1280 };
    assert_eq!(error.kind, Icmpv4Type::DestinationUnreachable(needed));
    // The system itself does.
    let kind = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
    let ends = (SYSTEM.0, address(LAYOUT, &ALICE));
    let icmp = Icmpv6Header::with_checksum(kind, ends.0.octets(), ends.1.octets(), &crossing[14..]).unwrap();
    let payload = [&icmp.to_bytes()[..], &crossing[14..]].concat();
    let frame = from_substrate(0, ends, Transport::Other { number: 58, payload });
    let error = error4(&here.receive(UPLINK, &frame).only().bytes);
    assert_eq!(
        (error.source, error.destination, &error.quote[12..]),
        (SYSTEM.1, ALICE.ipv4, &question[26..])
    );
    // And the node about what the system has sent.
    let (frame, _) = from_outside(LAYOUT, SYSTEM, &ALICE, udp(b"is anybody here?"));
    let arrived = here.receive(UPLINK, &frame).only().bytes;
    let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let payload =
        [&Icmpv4Header::with_checksum(kind, &arrived[14..]).to_bytes()[..], &arrived[14..]].concat();
    let answer = shape(&ALICE, &seen(SYSTEM.1), Transport::Other { number: 1, payload });
    let (source, destination, _, quote) =
        crate::errors::error6(&here.receive(ALICE.port, &by_gateway(&ALICE, &answer)).only().bytes);
    assert_eq!((source, destination), (address(LAYOUT, &ALICE), SYSTEM.0));
    assert_eq!(quote[8..40], [SYSTEM.0.octets(), address(LAYOUT, &ALICE).octets()].concat());
    // Somebody else's packet is not believed.
    let mut foreign = crossing[14..].to_vec();
    foreign[39] ^= 1;
    here.refuses(UPLINK, &router_says(0, TIME_EXCEEDED, &foreign), "vnet 7", DropReason::IcmpQuoteForeign);
}

#[test]
fn flows_with_externals_are_known_both_ways_and_what_is_rejected_is_told() {
    let mut here = engine(LAYOUT);
    here.make_stateful(7);
    for system in [SYSTEM, LOOKALIKE] {
        let before = here.flows.totals().live();
        let frame = by_gateway(&ALICE, &shape(&ALICE, &seen(system.1), udp(b"question")));
        here.receive(ALICE.port, &frame).only();
        let (mut back, _) = from_outside(LAYOUT, system, &ALICE, udp(b"question"));
        // The ports are the other way round in the answer, which leaves the checksum as it is.
        back[54..58].rotate_left(2);
        here.receive(UPLINK, &back).only();
        assert_eq!(here.flows.totals().live(), before + 1, "one flow, whichever way");
    }
    // What the sender itself may not be sent is no matter of what it sends.
    let deny = Rule {
        id: "in".into(),
        revision: 1,
        peer: Peer::Any,
        protocol: None,
        source_ports: None,
        destination_ports: None,
        icmp: None,
        size: None,
        action: Action::Deny,
        stateless: false,
    };
    let set = |rules| Arc::new(RuleSet::compile(rules).unwrap());
    let policy = Arc::new(Policy { egress: set(Vec::new()), ingress: set(vec![deny]) });
    here.change_interface(&ANNA, |interface| interface.policy = Some(Arc::clone(&policy)));
    here.receive(ANNA.port, &by_gateway(&ANNA, &shape(&ANNA, &seen(SYSTEM.1), udp(b"out")))).only();
    let (frame, _) = from_outside(LAYOUT, SYSTEM, &ANNA, tcp(b"in"));
    here.refuses(UPLINK, &frame, "vnet 7", DropReason::IngressDenied);
    // A packet that ends here is answered, to the system's own address.
    let (mut frame, _) = from_outside(LAYOUT, SYSTEM, &ALICE, udp(b"old"));
    frame[21] = 1;
    let outcome = here.receive(UPLINK, &frame);
    assert_eq!(outcome.sent[0].bytes[38..54], SYSTEM.0.octets());
}

#[test]
fn a_trace_names_the_external() {
    let here = engine(LAYOUT);
    let subject = Subject {
        reader: &here.reader,
        domain: here.reader.domain(),
        snapshot: &here.snapshot,
        mappings: &here.mappings.table(),
        flows: &here.flows,
        workers: 2,
    };
    let told = |from: u16, frame: &[u8]| {
        let trace = trace(&subject, here.clock.clone(), port(from), frame);
        assert_eq!((trace.fate, trace.frames.len()), (Fate::Sent, 1));
        trace.steps.iter().map(|step| format!("{}: {}", step.stage, step.decision)).collect::<Vec<_>>()
    };
    let out = told(ALICE.port, &by_gateway(&ALICE, &shape(&ALICE, &seen(SYSTEM.1), udp(b"?"))));
    assert_eq!(out[1], "next hop: by the gateway, to the external 2001:db8::5");
    assert_eq!(out.last().unwrap(), "translate: IPv4 to IPv6, and out to the substrate");
    let back = told(UPLINK, &from_outside(LAYOUT, SYSTEM, &ALICE, udp(b"!")).0);
    assert_eq!(back[1], "source: 2001:db8::5 is an external, known as 10.255.0.1");
}

#[test]
fn parts_of_datagrams_cross_and_parts_of_icmp_do_not() {
    let mut here = engine(LAYOUT);
    // The first and the last part of a datagram, of which only the first has a checksum.
    let payload = [&[0x0f, 0xa0, 0, 53, 0, 24, 0x12, 0x34][..], &[7; 8]].concat();
    for (number, reason) in [(17, None), (1, Some("fragment_icmp"))] {
        let mut dropped = Vec::new();
        for (offset, more) in [(0_u16, 1_u16), (2, 0)] {
            let transport = Transport::Other { number, payload: payload.clone() };
            let packet = Shape { dont_fragment: false, ..shape(&ALICE, &seen(SYSTEM.1), transport) };
            let mut frame = by_gateway(&ALICE, &packet);
            frame[20..22].copy_from_slice(&(more << 13 | offset).to_be_bytes());
            fix_ipv4_checksum(&mut frame);
            let outcome = here.receive(ALICE.port, &frame);
            if reason.is_none() {
                let sent = &outcome.sent[0].bytes;
                assert_eq!((sent[20], &sent[38..54]), (44, &SYSTEM.0.octets()[..]));
            }
            dropped.extend(outcome.counted.keys().filter(|name| name.contains(" drop ")).cloned());
        }
        assert_eq!(dropped.len(), if reason.is_some() { 2 } else { 0 }, "{dropped:?}");
        assert!(
            dropped.iter().all(|name| reason.is_some_and(|reason| name.ends_with(reason))),
            "{dropped:?}"
        );
    }
    // The other way: a fragment header, of ICMPv6 and of UDP.
    for (number, passes) in [(58, false), (17, true)] {
        let fragment = [number, 0, 0, 1, 0, 0, 0, 9];
        let payload = [&fragment[..], &[128, 0, 0x12, 0x34, 0, 24, 0, 1], &[7; 8]].concat();
        let ends = (SYSTEM.0, address(LAYOUT, &ALICE));
        let frame = from_substrate(0, ends, Transport::Other { number: 44, payload });
        let outcome = here.receive(UPLINK, &frame);
        assert_eq!(outcome.sent.len(), usize::from(passes));
        let counted = outcome.counted.get("vnet 7 drop fragment_icmp").copied();
        assert_eq!(counted, (!passes).then_some(1), "{outcome:?}");
    }
}
