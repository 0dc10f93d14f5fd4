//! Vnets that are peers: what crosses from one to the other, and what does not.

use crate::frames::{self, Transport, echo, shape, tcp, udp};
use crate::oracle;
use crate::world::*;
use core::net::Ipv4Addr;
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::policy::{Action, Policy, Rule, RuleSet};
use overlane_dataplane::snapshot::{Peering, Subnet};
use overlane_dataplane::table::mapping::{Mapping, MappingKey, State};
use overlane_dataplane::wire::tcp::flag::SYN;
use std::sync::Arc;

const LAYOUT: Layout = Layout::Slot64;

/// In vnet 9, with addresses that vnet 7 does not have.
const STRANGER_APART: Node = Node { ipv4: Ipv4Addr::new(10, 9, 0, 10), ..STRANGER };
const BOB_APART: Node = Node { ipv4: Ipv4Addr::new(10, 9, 0, 20), ..OTHER_BOB };

/// Both engines; vnets 7 and 9 are peers.
fn peers(layout: Layout, default_action: Action) -> [Engine; 2] {
    let mut engines = world(layout);
    for (host, engine) in engines.iter_mut().enumerate() {
        let apart: Subnet =
            Subnet { net: "10.9.0.0/24".parse().unwrap(), gateway: Some(Ipv4Addr::new(10, 9, 0, 1)) };
        engine.change_vnet(7, |own| {
            own.peerings =
                vec![Peering { vnet: vnet(9), subnets: vec![apart.net], default_action, on_demand: false }];
        });
        engine.change_vnet(9, |own| {
            let subnets = ["10.0.0.0/24", "10.0.1.0/24"].map(|net| net.parse().unwrap()).into();
            own.subnets = vec![apart];
            own.peerings = vec![Peering { vnet: vnet(7), subnets, default_action, on_demand: false }];
        });
        for node in [STRANGER_APART, BOB_APART] {
            let mapping = Mapping {
                locator: locator(layout, node.host, node.slot, node.vnet),
                also_accept: None,
                local: (node.host == host).then(|| port(node.port)),
                state: State::Live,
            };
            engine.mappings.insert(MappingKey::new(vnet(9), node.ipv4), mapping).unwrap();
            engine.change_interface(&node, |interface| {
                if node.host == host {
                    interface.addresses = vec![node.ipv4];
                }
            });
        }
    }
    engines
}

/// A packet to somebody in the other vnet goes to the sender's gateway.
fn to_gateway(from: &Node, to: &Node, transport: Transport) -> Vec<u8> {
    frames::ipv4(gateway(from), from.mac(), &shape(from, to, transport))
}

fn gateway(node: &Node) -> overlane_dataplane::mac::MacAddr {
    let [a, b, c, _] = node.ipv4.octets();
    dummy(node.vnet, Ipv4Addr::new(a, b, c, 1))
}

/// A packet's way, on this host or over the substrate.
#[track_caller]
fn arrives(engines: &mut [Engine; 2], from: &Node, to: &Node, transport: Transport) {
    let frame = to_gateway(from, to, transport.clone());
    let sent = engines[from.host].receive(from.port, &frame).only();
    let arrived = if from.host == to.host {
        sent
    } else {
        engines[to.host].receive(UPLINK, &oracle::routed(&sent.bytes, to)).only()
    };
    assert_eq!(arrived.port, to.port);
    // It comes from the receiver's own gateway.
    assert_eq!(arrived.bytes[..12], [to.mac().0, gateway(to).0].concat());
    assert_eq!(arrived.bytes[26..34], [from.ipv4.octets(), to.ipv4.octets()].concat());
}

#[test]
fn packets_cross_between_peers_through_the_gateways_and_back() {
    for layout in [Layout::Slot64, Layout::Plain72, Layout::Plain64] {
        let mut engines = peers(layout, Action::Allow);
        for transport in [tcp(b"data"), udp(b"data"), echo(b"ping")] {
            for (from, to) in [
                (ALICE, BOB_APART),
                (BOB_APART, ALICE),
                (ALICE, STRANGER_APART),
                (STRANGER_APART, ALICE),
                (STRANGER_APART, BOB),
            ] {
                arrives(&mut engines, &from, &to, transport.clone());
            }
        }
    }
}

#[test]
fn without_a_peering_nothing_crosses() {
    let mut engines = peers(LAYOUT, Action::Allow);
    arrives(&mut engines, &ALICE, &BOB_APART, tcp(b""));
    let frame = to_gateway(&ALICE, &BOB_APART, tcp(b""));
    let on_its_way = engines[0].receive(ALICE.port, &frame).only();
    for engine in &mut engines {
        engine.change_vnet(7, |vnet| vnet.peerings.clear());
        engine.change_vnet(9, |vnet| vnet.peerings.clear());
    }
    engines[0].refuses(ALICE.port, &frame, "node1", DropReason::NoMapping);
    let late = oracle::routed(&on_its_way.bytes, &BOB_APART);
    engines[1].refuses(UPLINK, &late, "vnet 9", DropReason::VnetMismatch);
}

#[test]
fn a_peering_that_denies_by_default_lets_pass_what_rules_of_both_ends_allow() {
    let mut engines = peers(LAYOUT, Action::Deny);
    let mut frame = to_gateway(&ALICE, &BOB_APART, tcp(b""));
    frame[47] = SYN;
    engines[0].refuses(ALICE.port, &frame, "node1", DropReason::DefaultDenied);
    let allow = || Arc::new(RuleSet::compile(vec![Rule::all("all", Action::Allow)]).unwrap());
    let none = || Arc::new(RuleSet::compile(Vec::new()).unwrap());
    let policy = Arc::new(Policy { egress: allow(), ingress: none() });
    engines[0].change_interface(&ALICE, |interface| interface.policy = Some(Arc::clone(&policy)));
    let sent = engines[0].receive(ALICE.port, &frame).only();
    let routed = oracle::routed(&sent.bytes, &BOB_APART);
    engines[1].refuses(UPLINK, &routed, "vnet 9", DropReason::DefaultDenied);
    let policy = Arc::new(Policy { egress: none(), ingress: allow() });
    engines[1].change_interface(&BOB_APART, |interface| interface.policy = Some(Arc::clone(&policy)));
    let sent = engines[0].receive(ALICE.port, &frame).only();
    engines[1].receive(UPLINK, &oracle::routed(&sent.bytes, &BOB_APART)).only();
    // Back by the flow; nothing else.
    let mut reply = to_gateway(&BOB_APART, &ALICE, tcp(b""));
    reply[34..38].rotate_left(2);
    let sent = engines[1].receive(BOB_APART.port, &reply).only();
    engines[0].receive(UPLINK, &oracle::routed(&sent.bytes, &ALICE)).only();
    engines[1].refuses(
        BOB_APART.port,
        &to_gateway(&BOB_APART, &ALICE, udp(b"")),
        "node2",
        DropReason::DefaultDenied,
    );
}

#[test]
fn a_flow_between_peers_on_one_host_is_one_flow() {
    let mut engines = peers(LAYOUT, Action::Allow);
    engines[0].make_stateful(7);
    arrives(&mut engines, &ALICE, &STRANGER_APART, udp(b"query"));
    let mut reply = to_gateway(&STRANGER_APART, &ALICE, udp(b"reply"));
    reply[34..38].rotate_left(2);
    assert_eq!(engines[0].receive(STRANGER_APART.port, &reply).only().port, ALICE.port);
    assert_eq!((engines[0].flows.totals().inserted, engines[0].flows.totals().live()), (1, 1));
}

#[test]
fn a_source_that_claims_to_be_in_a_peer_is_verified_there() {
    let mut engines = peers(LAYOUT, Action::Allow);
    let sent = engines[0].receive(ALICE.port, &to_gateway(&ALICE, &BOB_APART, udp(b""))).only();
    let routed = oracle::routed(&sent.bytes, &BOB_APART);
    // Alice's address, of a slot that is not hers.
    let mut forged = routed.clone();
    forged[14 + 8 + 8] ^= 0x40;
    engines[1].refuses(UPLINK, &forged, "vnet 9", DropReason::SrcSlotMismatch);
    // A vnet that neither has anything to do with this host nor is a peer.
    let mut forged = routed;
    forged[14 + 8 + 11] = 77;
    engines[1].refuses(UPLINK, &forged, "vnet 9", DropReason::SrcUnknownVnet);
}
