//! Networks behind routers: what is for them, what comes from them, and who must not speak for them.

use crate::errors::{TIME_EXCEEDED, error4, error6, router_says, router_says_to, too_big};
use crate::frames::{self, Shape, Transport, echo, from_substrate, shape, tcp, to_node, udp, who_has};
use crate::oracle;
use crate::world::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use etherparse::{Icmpv4Header, Icmpv4Type, icmpv4};
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::policy::{Action, Peer, Policy, Rule, RuleSet};
use overlane_dataplane::resolve::{Outcome, Question, Side};
use overlane_dataplane::route::{Route, Routes, Transit};
use overlane_dataplane::snapshot::Peering;
use overlane_dataplane::table::mapping::{MappingKey, State};
use std::collections::BTreeSet;
use std::sync::Arc;

const LAYOUT: Layout = Layout::Slot64;

/// In the network behind Bob, on the other host.
const BEHIND_BOB: Node = Node { ipv4: Ipv4Addr::new(10, 9, 0, 7), ..BOB };
/// In the network behind Anna, beside Alice.
const BEHIND_ANNA: Node = Node { ipv4: Ipv4Addr::new(10, 8, 0, 7), ..ANNA };
/// In the network that is behind both.
const FAR: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);

fn routes() -> Routes {
    let route = |net: &str, via: &[Node]| Route {
        net: net.parse().unwrap(),
        via: via.iter().map(|node| node.ipv4).collect(),
        silent: Vec::new(),
    };
    let routes = vec![
        route("10.9.0.0/16", &[BOB]),
        route("10.8.0.0/16", &[ANNA]),
        route("172.16.0.0/12", &[ANNA, BOB]),
    ];
    Routes::new(routes, Vec::new()).unwrap()
}

/// Both engines, with these routes in vnet 7.
fn engines_with(layout: Layout, routes: &Routes) -> [Engine; 2] {
    let mut engines = world(layout);
    for engine in &mut engines {
        engine.change_vnet(7, |vnet| vnet.routes = Arc::new(routes.clone()));
    }
    engines
}

fn engines(layout: Layout) -> [Engine; 2] {
    engines_with(layout, &routes())
}

/// The substrate address of what is behind a node.
fn behind(layout: Layout, node: &Node) -> Ipv6Addr {
    locator(layout, node.host, node.slot, node.vnet).by_slot(layout).address(node.ipv4)
}

fn via(next_hop: Ipv4Addr, from: &Node, shape: &Shape) -> Vec<u8> {
    frames::ipv4(dummy(from.vnet, next_hop), from.mac(), shape)
}

/// A frame on the substrate, as the slow translator makes it.
fn on_substrate(host: usize, ends: (Ipv6Addr, Ipv6Addr), shape: &Shape) -> Vec<u8> {
    let shape = Shape { ttl: shape.ttl - 1, ..shape.clone() };
    frames::ipv6(ROUTER, uplink_mac(host), ends, &shape)
}

/// A packet goes over the substrate between these addresses, and arrives from `mac`.
#[track_caller]
fn crosses(
    engines: &mut [Engine; 2],
    (from, next_hop, to): (&Node, Ipv4Addr, &Node),
    ends: (Ipv6Addr, Ipv6Addr),
    mac: MacAddr,
) {
    for transport in [tcp(b"hello"), udp(b"hello"), echo(b"hello")] {
        let shape = shape(from, to, transport);
        let sent = engines[from.host].receive(from.port, &via(next_hop, from, &shape)).only();
        assert_eq!(sent.bytes, on_substrate(from.host, ends, &shape));
        let arrived = engines[to.host].receive(UPLINK, &oracle::routed(&sent.bytes, to)).only();
        assert_eq!(arrived.port, to.port);
        assert_eq!(arrived.bytes, oracle::at_node(mac, to, &shape, 1, &arrived.bytes));
    }
}

#[test]
fn what_is_for_a_network_behind_a_router_reaches_it_by_slot_and_answers_come_back() {
    for layout in Layout::ALL {
        let mut engines = engines(layout);
        let (alice, far) = (address(layout, &ALICE), behind(layout, &BEHIND_BOB));
        // By the gateway, and by the router itself.
        for next_hop in [GATEWAY, BOB.ipv4] {
            crosses(&mut engines, (&ALICE, next_hop, &BEHIND_BOB), (alice, far), ALICE.dummy());
        }
        // Who sends from another subnet seems to be the gateway, to either.
        let adam = address(layout, &ADAM);
        let gateway_of_adam = Ipv4Addr::new(10, 0, 1, 1);
        crosses(&mut engines, (&ADAM, gateway_of_adam, &BEHIND_BOB), (adam, far), dummy(7, GATEWAY));
        crosses(&mut engines, (&BEHIND_BOB, ALICE.ipv4, &ALICE), (far, alice), dummy(7, GATEWAY));
        crosses(&mut engines, (&BEHIND_BOB, GATEWAY, &ADAM), (far, adam), dummy(7, gateway_of_adam));
        // What the router itself sends and gets is any node's.
        let bob = address(layout, &BOB);
        crosses(&mut engines, (&BOB, ALICE.ipv4, &ALICE), (bob, alice), BOB.dummy());
        crosses(&mut engines, (&ALICE, BOB.ipv4, &BOB), (alice, bob), ALICE.dummy());
    }
}

#[test]
fn networks_behind_two_routers_reach_each_other() {
    for layout in Layout::ALL {
        let ends = (behind(layout, &BEHIND_ANNA), behind(layout, &BEHIND_BOB));
        for next_hop in [GATEWAY, BOB.ipv4] {
            crosses(&mut engines(layout), (&BEHIND_ANNA, next_hop, &BEHIND_BOB), ends, dummy(7, GATEWAY));
        }
    }
}

#[test]
fn within_a_host_the_gateway_lowers_the_ttl_and_the_router_gets_it_as_it_is() {
    let mut here = engines(LAYOUT).into_iter().next().unwrap();
    let packet = shape(&ALICE, &BEHIND_ANNA, udp(b"near"));
    for (next_hop, ttl) in [(GATEWAY, 63), (ANNA.ipv4, 64)] {
        let sent = here.receive(ALICE.port, &via(next_hop, &ALICE, &packet)).only();
        let shape = Shape { ttl, ..packet.clone() };
        assert_eq!((sent.port, sent.bytes), (ANNA.port, frames::ipv4(ANNA.mac(), ALICE.dummy(), &shape)));
    }
    let back = shape(&BEHIND_ANNA, &ALICE, udp(b"back"));
    let sent = here.receive(ANNA.port, &via(ALICE.ipv4, &BEHIND_ANNA, &back)).only();
    let from_gateway = frames::ipv4(ALICE.mac(), dummy(7, GATEWAY), &back);
    assert_eq!((sent.port, sent.bytes), (ALICE.port, from_gateway));
}

#[test]
fn nodes_speak_for_no_network_that_is_not_behind_them() {
    let [mut here, mut there] = engines(LAYOUT);
    let from =
        |node: &Node, source: Node, to: &Node| to_node(&Node { ipv4: source.ipv4, ..*node }, to, udp(b"?"));
    let spoofed = DropReason::SrcIpv4Spoofed;
    here.refuses(ALICE.port, &from(&ALICE, BEHIND_BOB, &BOB), "node1", spoofed);
    here.refuses(ANNA.port, &from(&ANNA, BEHIND_BOB, &BOB), "node2", spoofed);
    there.refuses(BOB.port, &from(&BOB, BEHIND_ANNA, &ALICE), "node1", spoofed);
    // A router's own subnet is nothing behind it, and what nobody forwards is not either.
    here.refuses(ANNA.port, &from(&ANNA, ALICE, &BOB), "node2", spoofed);
    let all = Route { net: "0.0.0.0/0".parse().unwrap(), via: vec![ANNA.ipv4], silent: Vec::new() };
    let all = Arc::new(Routes::new(vec![all], Vec::new()).unwrap());
    here.change_vnet(7, |vnet| vnet.routes = Arc::clone(&all));
    for source in [ALICE.ipv4, [127, 0, 0, 1].into(), [0, 0, 0, 1].into(), [240, 0, 0, 1].into()] {
        let source = Node { ipv4: source, ..ANNA };
        here.refuses(ANNA.port, &from(&ANNA, source, &BOB), "node2", spoofed);
    }
    let internet = Node { ipv4: [8, 8, 8, 8].into(), ..ANNA };
    assert_eq!(here.receive(ANNA.port, &from(&ANNA, internet, &BOB)).only().port, UPLINK);
    // By ARP it may ask in the name of what is behind it, but not in another's.
    assert_eq!(here.receive(ANNA.port, &who_has(&internet, ALICE.ipv4)).only().port, ANNA.port);
    let other = Node { ipv4: ADAM.ipv4, ..ANNA };
    here.refuses(ANNA.port, &who_has(&other, ALICE.ipv4), "node2", DropReason::ArpSpoofed);
    // Nothing behind it sends to groups.
    let group = Node { ipv4: [239, 1, 2, 3].into(), ..ANNA };
    let mac = MacAddr([1, 0, 0x5e, 1, 2, 3]);
    let frame = frames::ipv4(mac, ANNA.mac(), &shape(&internet, &group, udp(b"all")));
    here.refuses(ANNA.port, &frame, "node2", spoofed);
}

#[test]
fn only_routers_are_next_hops_and_none_is_sent_what_it_sends() {
    let [mut here, mut there] = engines(LAYOUT);
    let to_far = |from: &Node, next_hop, to: &Node| via(next_hop, from, &shape(from, to, udp(b"?")));
    let not_router = DropReason::NextHopNotRouter;
    here.refuses(ALICE.port, &to_far(&ALICE, ANNA.ipv4, &BEHIND_BOB), "node1", not_router);
    here.refuses(ALICE.port, &to_far(&ALICE, ADAM.ipv4, &BEHIND_BOB), "node1", not_router);
    // A router for some networks is none for nodes of the vnet.
    here.refuses(ALICE.port, &to_far(&ALICE, BOB.ipv4, &ANNA), "node1", not_router);
    there.refuses(BOB.port, &to_far(&BOB, GATEWAY, &BEHIND_BOB), "node1", DropReason::RouteLoop);
    there.refuses(BOB.port, &to_far(&BEHIND_BOB, GATEWAY, &BEHIND_BOB), "node1", DropReason::RouteLoop);
    there.refuses(BOB.port, &to_far(&BOB, BOB.ipv4, &BEHIND_BOB), "node1", DropReason::RouteLoop);
    let nowhere = Node { ipv4: [192, 168, 0, 1].into(), ..BOB };
    here.refuses(ALICE.port, &to_far(&ALICE, GATEWAY, &nowhere), "node1", DropReason::NoMapping);
    here.map(&BOB, |mapping| mapping.state = State::Down);
    here.refuses(ALICE.port, &to_far(&ALICE, GATEWAY, &BEHIND_BOB), "node1", DropReason::DstNotLive);
}

#[test]
fn sources_behind_a_router_are_verified_to_come_from_where_it_lives() {
    let [mut here, _] = engines(LAYOUT);
    let alice = address(LAYOUT, &ALICE);
    let from = |node: &Node| from_substrate(0, (behind(LAYOUT, node), alice), udp(b"forged"));
    let place = |engine: &mut Engine, node: &Node, reason| {
        engine.refuses(UPLINK, &from(node), "vnet 7", reason);
    };
    place(&mut here, &Node { host: 2, ..BEHIND_BOB }, DropReason::SrcPrefixMismatch);
    place(&mut here, &Node { slot: BERTA.slot, ..BEHIND_BOB }, DropReason::SrcSlotMismatch);
    place(&mut here, &Node { ipv4: [10, 7, 0, 7].into(), ..BOB }, DropReason::SrcNotRouted);
    // Behind the other router, which is on this host.
    place(&mut here, &Node { ipv4: BEHIND_ANNA.ipv4, ..BOB }, DropReason::SrcPrefixMismatch);
    // No node of the vnet is behind another, nor a router behind itself.
    place(&mut here, &BERTA, DropReason::SrcNotRouted);
    place(&mut here, &BOB, DropReason::SrcNotRouted);
    // It must be said that it is behind one.
    let owner = from_substrate(0, (address(LAYOUT, &BEHIND_BOB), alice), udp(b"forged"));
    here.refuses(UPLINK, &owner, "vnet 7", DropReason::SrcUnknownNode);
    // Another vnet has no part in it, whether it is a peer or not.
    let other = behind(LAYOUT, &Node { vnet: 9, ..BEHIND_BOB });
    let frame = from_substrate(0, (other, alice), udp(b"forged"));
    here.refuses(UPLINK, &frame, "vnet 7", DropReason::SrcNotRouted);
    here.map(&BOB, |mapping| mapping.state = State::Down);
    place(&mut here, &BEHIND_BOB, DropReason::SrcNotLive);
}

#[test]
fn only_an_interface_that_routes_an_address_gets_what_is_sent_to_its_slot() {
    let [_, mut there] = engines(LAYOUT);
    let alice = address(LAYOUT, &ALICE);
    let to = |node: &Node| from_substrate(1, (alice, behind(LAYOUT, node)), udp(b"?"));
    for node in [BEHIND_BOB, BOB, Node { ipv4: FAR, ..BOB }] {
        assert_eq!(there.receive(UPLINK, &to(&node)).only().port, BOB.port);
    }
    for node in [
        Node { slot: BERTA.slot, ..BEHIND_BOB },
        Node { slot: 63, ..BEHIND_BOB },
        Node { slot: OTHER_BOB.slot, ..BEHIND_BOB },
        Node { ipv4: BEHIND_ANNA.ipv4, ..BOB },
        Node { ipv4: BERTA.ipv4, ..BOB },
        Node { ipv4: [127, 0, 0, 1].into(), ..BOB },
    ] {
        there.refuses(UPLINK, &to(&node), "vnet 7", DropReason::SlotMismatch);
    }
}

/// Where packets of many flows to the network behind both routers go: the ports of the flows, by router.
fn spread(here: &mut Engine) -> [BTreeSet<u16>; 2] {
    let mut ports = [BTreeSet::new(), BTreeSet::new()];
    for port in 1000..1256_u16 {
        for _ in 0..2 {
            let to = Node { ipv4: FAR, ..BOB };
            let mut payload = vec![0; 12];
            payload[..2].copy_from_slice(&port.to_be_bytes());
            payload[4..6].copy_from_slice(&12_u16.to_be_bytes());
            payload[6..8].copy_from_slice(&[0xff, 0xff]);
            let transport = Transport::Other { number: 17, payload };
            let sent = here.receive(ALICE.port, &via(GATEWAY, &ALICE, &shape(&ALICE, &to, transport))).only();
            ports[usize::from(sent.port == UPLINK)].insert(port);
        }
    }
    ports
}

#[test]
fn routers_of_one_network_share_its_flows_and_keep_theirs_when_another_goes() {
    let [mut here, _] = engines(LAYOUT);
    let [anna, bob] = spread(&mut here);
    assert!(anna.is_disjoint(&bob), "a flow takes one way");
    assert!(anna.len() > 64 && bob.len() > 64, "{} and {}", anna.len(), bob.len());
    here.map(&BOB, |mapping| mapping.state = State::Down);
    assert_eq!(spread(&mut here), [anna.union(&bob).copied().collect(), BTreeSet::new()]);
    here.map(&BOB, |mapping| mapping.state = State::Live);
    assert_eq!(spread(&mut here), [anna.clone(), bob.clone()]);
    // One that does not answer is as good as none, as long as there is another, and may still send.
    let quiet = |silent: &[Node]| {
        let silent = silent.iter().map(|node| node.ipv4).collect();
        let via = vec![ANNA.ipv4, BOB.ipv4];
        let route = Route { net: "172.16.0.0/12".parse().unwrap(), via, silent };
        Arc::new(Routes::new(vec![route], Vec::new()).unwrap())
    };
    let all = anna.union(&bob).copied().collect();
    here.change_vnet(7, |vnet| vnet.routes = quiet(&[ANNA]));
    assert_eq!(spread(&mut here), [BTreeSet::new(), all]);
    let from = Node { ipv4: FAR, ..ANNA };
    assert_eq!(here.receive(ANNA.port, &to_node(&from, &ALICE, udp(b"still"))).only().port, ALICE.port);
    here.change_vnet(7, |vnet| vnet.routes = quiet(&[ANNA, BOB]));
    assert_eq!(spread(&mut here), [anna, bob]);
    // One of them never gets back what it sends.
    let to = Node { ipv4: FAR, ..BOB };
    for source in 0..64 {
        let from = Node { ipv4: [172, 16, 9, source].into(), ..ANNA };
        let frame = via(GATEWAY, &from, &shape(&from, &to, udp(b"elsewhere")));
        assert_eq!(here.receive(ANNA.port, &frame).only().port, UPLINK);
    }
}

#[test]
fn parts_of_a_datagram_take_the_same_router() {
    let [mut here, _] = engines(LAYOUT);
    for host in 0..32 {
        let to = Node { ipv4: [172, 16, 1, host].into(), ..BOB };
        let mut ports = BTreeSet::new();
        for (offset, more) in [(0_u16, 1_u8), (1, 1), (2, 0)] {
            let payload = [0x0f, host, 0, 53, 0, 24, 0, 1].to_vec();
            let transport = Transport::Other { number: 17, payload };
            let packet = Shape { dont_fragment: false, ..shape(&ALICE, &to, transport) };
            let mut frame = via(GATEWAY, &ALICE, &packet);
            frame[20..22].copy_from_slice(&(u16::from(more) << 13 | offset).to_be_bytes());
            fix_ipv4_checksum(&mut frame);
            ports.insert(here.receive(ALICE.port, &frame).only().port);
        }
        assert_eq!(ports.len(), 1);
    }
}

#[test]
fn whoever_is_granted_transit_may_send_and_gets_nothing_for_it() {
    let grant = |net: &str, node: &Node| Transit { net: net.parse().unwrap(), via: node.ipv4 };
    let transits = vec![grant("0.0.0.0/0", &BOB), grant("10.0.1.0/24", &BOB)];
    for layout in Layout::ALL {
        let mut engines = engines_with(layout, &Routes::new(Vec::new(), transits.clone()).unwrap());
        let alice = address(layout, &ALICE);
        // From anywhere, and also in the name of nodes of the one subnet that is named.
        for source in [[8, 8, 8, 8], [10, 0, 1, 99]] {
            let from = Node { ipv4: source.into(), ..BOB };
            let ends = (behind(layout, &from), alice);
            crosses(&mut engines, (&from, ALICE.ipv4, &ALICE), ends, dummy(7, GATEWAY));
        }
        let [here, there] = &mut engines;
        let from = Node { ipv4: ANNA.ipv4, ..BOB };
        there.refuses(BOB.port, &to_node(&from, &ALICE, udp(b"?")), "node1", DropReason::SrcIpv4Spoofed);
        let internet = Node { ipv4: [8, 8, 8, 8].into(), ..BOB };
        let frame = via(GATEWAY, &ALICE, &shape(&ALICE, &internet, udp(b"?")));
        here.refuses(ALICE.port, &frame, "node1", DropReason::NoMapping);
    }
}

#[test]
fn while_a_router_moves_both_its_places_are_accepted() {
    let [mut here, _] = engines(LAYOUT);
    let elsewhere = Node { host: 2, slot: 9, ..BEHIND_BOB };
    let from =
        |node: &Node| from_substrate(0, (behind(LAYOUT, node), address(LAYOUT, &ALICE)), udp(b"on the move"));
    let next = locator(LAYOUT, elsewhere.host, elsewhere.slot, 7);
    here.map(&BOB, |mapping| mapping.also_accept = Some(next));
    for node in [BEHIND_BOB, elsewhere] {
        assert_eq!(here.receive(UPLINK, &from(&node)).only().port, ALICE.port);
    }
    here.map(&BOB, |mapping| (mapping.locator, mapping.also_accept) = (next, None));
    here.refuses(UPLINK, &from(&BEHIND_BOB), "vnet 7", DropReason::SrcPrefixMismatch);
    let sent = here.receive(ALICE.port, &via(GATEWAY, &ALICE, &shape(&ALICE, &BEHIND_BOB, udp(b"after it"))));
    assert_eq!(sent.only().bytes[38..54], behind(LAYOUT, &elsewhere).octets());
}

#[test]
fn subnets_of_peers_go_before_networks_behind_routers() {
    let all = Route { net: "0.0.0.0/0".parse().unwrap(), via: vec![BOB.ipv4], silent: Vec::new() };
    let [mut here, _] = engines_with(LAYOUT, &Routes::new(vec![all], Vec::new()).unwrap());
    let apart = Node { ipv4: [10, 77, 0, 20].into(), ..OTHER_BOB };
    here.change_vnet(7, |vnet_7| {
        let subnets = vec!["10.77.0.0/24".parse().unwrap()];
        let default_action = Action::Allow;
        vnet_7.peerings = vec![Peering { vnet: vnet(9), subnets, default_action, on_demand: false }];
    });
    let mapping = here.mappings.get(MappingKey::new(vnet(9), OTHER_BOB.ipv4)).unwrap();
    here.mappings.insert(MappingKey::new(vnet(9), apart.ipv4), mapping).unwrap();
    let mut to = |node: &Node| {
        let sent = here.receive(ALICE.port, &via(GATEWAY, &ALICE, &shape(&ALICE, node, udp(b"?")))).only();
        <[u8; 16]>::try_from(&sent.bytes[38..54]).unwrap()
    };
    assert_eq!(to(&apart), address(LAYOUT, &apart).octets());
    assert_eq!(to(&BERTA), address(LAYOUT, &BERTA).octets());
    let internet = Node { ipv4: [8, 8, 8, 8].into(), ..BOB };
    assert_eq!(to(&internet), behind(LAYOUT, &internet).octets());
    // Nor does a router of this vnet speak for a peer's nodes, whatever it is granted.
    let grants = ["0.0.0.0/0", "10.77.0.0/24"]
        .map(|net| Transit { net: net.parse().unwrap(), via: ANNA.ipv4 })
        .to_vec();
    let routes = Arc::new(Routes::new(Vec::new(), grants).unwrap());
    here.change_vnet(7, |vnet| vnet.routes = Arc::clone(&routes));
    let posing = Node { ipv4: apart.ipv4, ..ANNA };
    here.refuses(ANNA.port, &to_node(&posing, &ALICE, udp(b"?")), "node2", DropReason::SrcIpv4Spoofed);
    let internet = Node { ipv4: internet.ipv4, ..ANNA };
    assert_eq!(here.receive(ANNA.port, &to_node(&internet, &ALICE, udp(b"?"))).only().port, ALICE.port);
}

#[test]
fn routers_are_resolved_on_demand_for_what_is_behind_them_both_ways() {
    let [mut here, _] = engines(LAYOUT);
    here.change_vnet(7, |vnet| vnet.on_demand = true);
    let key = MappingKey::new(vnet(7), BOB.ipv4);
    let told = here.mappings.get(key).unwrap();
    here.mappings.remove(key);
    let question = |side| Question { port: port(ALICE.port), key, side };
    let resolved = |here: &mut Engine, side, from: u16, frame: &[u8]| {
        let waits = here.receive(from, frame);
        assert_eq!((waits.asked, waits.sent.len(), waits.counted.len()), (vec![question(side)], 0, 2));
        here.mappings.insert(key, told).unwrap();
        let sent = here.answer(question(side), Outcome::Known).only();
        here.mappings.remove(key);
        sent
    };
    let frame = via(GATEWAY, &ALICE, &shape(&ALICE, &BEHIND_BOB, udp(b"to whom?")));
    let sent = resolved(&mut here, Side::Destination, ALICE.port, &frame);
    assert_eq!(sent.bytes[38..54], behind(LAYOUT, &BEHIND_BOB).octets());
    let ends = (behind(LAYOUT, &BEHIND_BOB), address(LAYOUT, &ALICE));
    let sent = resolved(&mut here, Side::Source, UPLINK, &from_substrate(0, ends, udp(b"from whom?")));
    assert_eq!(sent.port, ALICE.port);
}

#[test]
fn flows_go_both_ways_through_a_router() {
    let mut engines = engines(LAYOUT);
    for engine in &mut engines {
        engine.make_stateful(7);
    }
    let (alice, far) = (address(LAYOUT, &ALICE), behind(LAYOUT, &BEHIND_BOB));
    crosses(&mut engines, (&ALICE, GATEWAY, &BEHIND_BOB), (alice, far), ALICE.dummy());
    crosses(&mut engines, (&BEHIND_BOB, ALICE.ipv4, &ALICE), (far, alice), dummy(7, GATEWAY));
    // TCP and UDP have ports the other way round in an answer, so these are flows of their own; echo is none.
    assert!(engines.iter().all(|engine| engine.flows.totals().live() >= 2));
}

/// What a stack says of a packet that it got, as a frame.
fn says(kind: Icmpv4Type, frame: &[u8]) -> Transport {
    let payload =
        [&Icmpv4Header::with_checksum(kind.clone(), &frame[14..]).to_bytes()[..], &frame[14..]].concat();
    Transport::Other { number: 1, payload }
}

const EXPIRED: Icmpv4Type = Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit);

/// A frame crosses from one engine to the other.
fn across(engine: &mut Engine, frame: &[u8], host: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[0..6].copy_from_slice(&uplink_mac(host).0);
    engine.receive(UPLINK, &frame).only().bytes
}

#[test]
fn errors_about_packets_to_a_network_behind_a_router_get_back_with_what_was_sent() {
    for layout in Layout::ALL {
        let [mut here, mut there] = engines(layout);
        let question = via(GATEWAY, &ALICE, &shape(&ALICE, &BEHIND_BOB, udp(b"is anybody there?")));
        let crossing = here.receive(ALICE.port, &question).only().bytes;
        // The substrate's.
        let outcome = here.receive(UPLINK, &router_says(0, too_big(1300), &crossing[14..]));
        assert_eq!(outcome.path_mtus, [(prefix(layout, 1), 1300)]);
        let error = error4(&outcome.only().bytes);
        assert_eq!(
            (error.source, error.destination, &error.quote[12..]),
            (GATEWAY, ALICE.ipv4, &question[26..])
        );
        // The router's, and that of a machine behind it.
        let arrived = across(&mut there, &crossing, 1);
        for from in [BOB, BEHIND_BOB] {
            let answer = to_node(&from, &ALICE, says(EXPIRED, &arrived));
            let crossing = there.receive(BOB.port, &answer).only().bytes;
            let (_, _, kind, quote) = error6(&crossing);
            assert_eq!(kind, TIME_EXCEEDED);
            assert_eq!(quote[8..24], address(layout, &ALICE).octets());
            assert_eq!(quote[24..40], behind(layout, &BEHIND_BOB).octets());
            let error = error4(&across(&mut here, &crossing, 0));
            assert_eq!((error.source, error.destination, error.kind), (from.ipv4, ALICE.ipv4, EXPIRED));
            assert_eq!(error.quote[12..], question[26..]);
        }
    }
}

#[test]
fn errors_about_packets_of_a_network_behind_a_router_get_back_to_it() {
    for layout in Layout::ALL {
        let [mut here, mut there] = engines(layout);
        let question = to_node(&BEHIND_BOB, &ALICE, udp(b"is anybody there?"));
        let crossing = there.receive(BOB.port, &question).only().bytes;
        let error =
            error4(&there.receive(UPLINK, &router_says(1, TIME_EXCEEDED, &crossing[14..])).only().bytes);
        assert_eq!((error.source, error.destination), (GATEWAY, BEHIND_BOB.ipv4));
        assert_eq!((error.mac, &error.quote[12..]), ((BOB.mac(), dummy(7, GATEWAY)), &question[26..]));
        let arrived = across(&mut here, &crossing, 0);
        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
        let answer = via(GATEWAY, &ALICE, &shape(&ALICE, &BEHIND_BOB, says(kind.clone(), &arrived)));
        let crossing = here.receive(ALICE.port, &answer).only().bytes;
        let error = error4(&across(&mut there, &crossing, 1));
        assert_eq!((error.source, error.destination, error.kind), (ALICE.ipv4, BEHIND_BOB.ipv4, kind));
        assert_eq!(error.quote[12..], question[26..]);
        // And the engine's own: the gateway lowers the TTL.
        let packet = Shape { ttl: 1, ..shape(&BEHIND_BOB, &ALICE, udp(b"traceroute")) };
        let outcome = there.receive(BOB.port, &frames::ipv4(ALICE.dummy(), BOB.mac(), &packet));
        let error = error4(&outcome.sent[0].bytes);
        assert_eq!((error.source, error.destination), (GATEWAY, BEHIND_BOB.ipv4));
        assert_eq!(error.mac, (BOB.mac(), dummy(7, GATEWAY)));
    }
}

#[test]
fn errors_are_believed_only_about_what_can_be_behind_a_router() {
    let [mut here, _] = engines(LAYOUT);
    let crossing =
        here.receive(ALICE.port, &via(GATEWAY, &ALICE, &shape(&ALICE, &BEHIND_BOB, udp(b"12345678"))));
    let quoted = crossing.only().bytes[14..].to_vec();
    let mut refuses = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut quoted = quoted.clone();
        change(&mut quoted);
        here.refuses(UPLINK, &router_says(0, too_big(1300), &quoted), "vnet 7", DropReason::IcmpQuoteForeign);
    };
    // To a network behind nobody, or behind another router; to an owner; to another slot, host, or vnet.
    refuses(&|quoted| quoted[37] = 7);
    refuses(&|quoted| quoted[37] = 8);
    refuses(&|quoted| quoted[32] &= !2);
    refuses(&|quoted| quoted[32] ^= 4);
    refuses(&|quoted| quoted[31] ^= 1);
    refuses(&|quoted| quoted[35] = 9);
}

#[test]
fn a_routers_errors_belong_to_the_flow_that_they_are_about() {
    let [mut here, _] = engines(LAYOUT);
    let allow = Rule {
        id: "out".into(),
        revision: 1,
        peer: Peer::Any,
        protocol: Some(17),
        source_ports: None,
        destination_ports: None,
        icmp: None,
        size: None,
        action: Action::Allow,
        stateless: false,
    };
    let set = |rules| Arc::new(RuleSet::compile(rules).unwrap());
    let policy = Arc::new(Policy { egress: set(vec![allow]), ingress: set(Vec::new()) });
    here.change_vnet(7, |vnet| vnet.default_action = Action::Deny);
    here.change_interface(&ALICE, |interface| interface.policy = Some(Arc::clone(&policy)));
    let question = via(GATEWAY, &ALICE, &shape(&ALICE, &BEHIND_BOB, udp(b"is anybody there?")));
    let crossing = here.receive(ALICE.port, &question).only().bytes;
    // As Bob's engine translates it, of Bob's own and of one that is no router for this.
    let error = |from: &Node| {
        let ends = (address(LAYOUT, from), address(LAYOUT, &ALICE));
        router_says_to(0, ends, TIME_EXCEEDED, &crossing[14..])
    };
    assert_eq!(here.receive(UPLINK, &error(&BOB)).only().port, ALICE.port);
    here.refuses(UPLINK, &error(&BERTA), "vnet 7", DropReason::DefaultDenied);
}
