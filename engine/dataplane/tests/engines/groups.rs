//! Broadcast and multicast: who gets a copy, and who none.

use crate::frames::{self, Shape, Transport, shape, udp};
use crate::oracle;
use crate::world::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use overlane_dataplane::address::{Delivery, Layout};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::group::{self, Filter, GroupLimit};
use overlane_dataplane::limit::Rate;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::policy::{Action, Peer, Policy, Rule, RuleSet};
use overlane_dataplane::snapshot::Peering;
use overlane_dataplane::wire::igmp;
use std::sync::Arc;

const ALL: Ipv4Addr = Ipv4Addr::BROADCAST;
const VIDEO: Ipv4Addr = Ipv4Addr::new(239, 129, 2, 3);

/// Both engines, where the vnet of Alice hears broadcast, and Anna, Bob and Berta hear a group.
fn world_of_groups(layout: Layout) -> [Engine; 2] {
    let mut engines = world(layout);
    for engine in &mut engines {
        let everybody = [ALICE, ANNA, ADAM, BOB, BERTA].map(|node| (node, Filter::ALL));
        engine.join(7, ALL, &everybody);
        engine.join(9, ALL, &[STRANGER, OTHER_BOB].map(|node| (node, Filter::ALL)));
        engine.join(7, VIDEO, &[ANNA, BOB, BERTA].map(|node| (node, Filter::ALL)));
    }
    engines
}

fn to_group(from: &Node, destination: Ipv4Addr, change: impl FnOnce(&mut Shape)) -> Vec<u8> {
    let mut shape = Shape { destination, ..shape(from, from, udp(b"to all of you")) };
    change(&mut shape);
    frames::ipv4(group::mac(destination), from.mac(), &shape)
}

/// The copies that the nodes of both hosts get, by their names, and what was dropped.
fn carry(engines: &mut [Engine; 2], from: &Node, frame: &[u8]) -> (Vec<(&'static str, Vec<u8>)>, u64) {
    let name = |host: usize, port: u16| match (host, port) {
        (0, 1) => "Alice",
        (0, 2) => "Anna",
        (0, 4) => "Adam",
        (0, 3) => "Stranger",
        (1, 1) => "Bob",
        (1, 3) => "Berta",
        (1, 2) => "Other Bob",
        _ => panic!("port {port} of host {host}"),
    };
    let outcome = engines[from.host].receive(from.port, frame);
    let (mut copies, mut dropped) = (Vec::new(), outcome.dropped());
    for sent in outcome.sent {
        if sent.port != UPLINK {
            copies.push((name(from.host, sent.port), sent.bytes));
            continue;
        }
        let other = 1 - from.host;
        let outcome = engines[other].receive(UPLINK, &oracle::forwarded(&sent.bytes, uplink_mac(other)));
        dropped += outcome.dropped();
        copies.extend(outcome.sent.into_iter().map(|sent| (name(other, sent.port), sent.bytes)));
    }
    copies.sort();
    (copies, dropped)
}

fn names(copies: &[(&'static str, Vec<u8>)]) -> Vec<&'static str> {
    copies.iter().map(|(name, _)| *name).collect()
}

#[test]
fn broadcast_reaches_everybody_in_the_vnet_once_and_nobody_else() {
    for layout in Layout::ALL {
        for destination in [ALL, Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(10, 0, 1, 255)] {
            let mut engines = world_of_groups(layout);
            let frame = to_group(&ALICE, destination, |shape| shape.dont_fragment = false);
            let (copies, dropped) = carry(&mut engines, &ALICE, &frame);
            assert_eq!((names(&copies), dropped), (vec!["Adam", "Anna", "Berta", "Bob"], 0), "{layout}");
            for (name, copy) in copies {
                assert_eq!(copy[..6], [0xff; 6]);
                // Those of the other subnet see it come from their gateway.
                let other = matches!(name, "Adam" | "Berta");
                let from = if other { Ipv4Addr::new(10, 0, 1, 1) } else { ALICE.ipv4 };
                assert_eq!(copy[6..12], dummy(7, from).0);
                let ip = Ipv4HeaderSlice::from_slice(&copy[14..]).unwrap();
                assert_eq!((ip.source_addr(), ip.destination_addr()), (ALICE.ipv4, destination));
                let is_here = matches!(name, "Adam" | "Anna");
                assert_eq!(ip.ttl(), if is_here { 64 } else { 1 });
                assert_eq!(copy[34..], frame[34..], "the datagram, checksum included");
            }
        }
    }
}

#[test]
fn one_copy_crosses_the_substrate_for_all_members_of_a_host() {
    let mut engines = world_of_groups(Layout::Slot64);
    let outcome = engines[0].receive(ALICE.port, &to_group(&ALICE, VIDEO, |shape| shape.ttl = 9));
    let crossing: Vec<_> = outcome.sent.iter().filter(|sent| sent.port == UPLINK).collect();
    assert_eq!((crossing.len(), outcome.sent.len()), (1, 2));
    let ip = Ipv6HeaderSlice::from_slice(&crossing[0].bytes[14..]).unwrap();
    assert_eq!((ip.source_addr(), ip.hop_limit()), (address(Layout::Slot64, &ALICE), 8));
    let fields = Layout::Slot64.decode(ip.destination_addr()).unwrap();
    assert_eq!(
        (fields.delivery, fields.prefix, fields.ipv4),
        (Delivery::Group, prefix(Layout::Slot64, 1), VIDEO)
    );
    let (copies, dropped) = carry(&mut engines, &ALICE, &to_group(&ALICE, VIDEO, |shape| shape.ttl = 9));
    assert_eq!((names(&copies), dropped), (vec!["Anna", "Berta", "Bob"], 0));
    let ttls = copies.iter().map(|(_, copy)| copy[22]).collect::<Vec<_>>();
    assert_eq!(ttls, [9, 6, 6], "within the host as it was, elsewhere less what engines and the router take");
    assert!(copies.iter().all(|(_, copy)| copy[..6] == [0x01, 0, 0x5e, 1, 2, 3]));
}

#[test]
fn a_ttl_of_one_reaches_the_members_of_other_hosts_and_ends_there() {
    for layout in Layout::ALL {
        let mut engines = world_of_groups(layout);
        let (copies, dropped) = carry(&mut engines, &ALICE, &to_group(&ALICE, VIDEO, |shape| shape.ttl = 1));
        assert_eq!((names(&copies), dropped), (vec!["Anna", "Berta", "Bob"], 0));
        let ttls = copies.iter().map(|(_, copy)| copy[22]).collect::<Vec<_>>();
        // Without slots an address cannot say it.
        assert_eq!(ttls, if layout.has_slots() { [1, 1, 1] } else { [1, 62, 62] });
    }
}

#[test]
fn members_hear_only_the_sources_that_they_want() {
    let mut engines = world(Layout::Slot64);
    for engine in &mut engines {
        let only_alice = Filter::Only(vec![ALICE.ipv4]);
        let all_but_alice = Filter::Except(vec![ALICE.ipv4]);
        let members = [(ANNA, only_alice.clone()), (BOB, all_but_alice), (BERTA, only_alice)];
        engine.join(7, VIDEO, &members);
    }
    let (copies, dropped) = carry(&mut engines, &ALICE, &to_group(&ALICE, VIDEO, |_| ()));
    assert_eq!((names(&copies), dropped), (vec!["Anna", "Berta"], 0));
    let (copies, dropped) = carry(&mut engines, &ADAM, &to_group(&ADAM, VIDEO, |_| ()));
    assert_eq!((names(&copies), dropped), (vec!["Bob"], 0));
}

#[test]
fn without_members_nothing_is_sent() {
    let mut engines = world_of_groups(Layout::Slot64);
    let nobody = Ipv4Addr::new(239, 9, 9, 9);
    engines[0].refuses(ALICE.port, &to_group(&ALICE, nobody, |_| ()), "node1", DropReason::GroupNoMembers);
    // The only member is the sender.
    engines[0].join(7, nobody, &[(ALICE, Filter::ALL)]);
    engines[0].refuses(ALICE.port, &to_group(&ALICE, nobody, |_| ()), "node1", DropReason::GroupNoMembers);
}

#[test]
fn groups_of_the_link_stay_on_their_host_unless_they_are_let_out() {
    let hello = Ipv4Addr::new(224, 0, 0, 5);
    let frame = to_group(&ALICE, hello, |shape| shape.ttl = 1);
    let mut engines = world_of_groups(Layout::Slot64);
    let (copies, dropped) = carry(&mut engines, &ALICE, &frame);
    assert_eq!((names(&copies), dropped), (vec!["Adam", "Anna"], 0));
    let mut open = world_of_groups(Layout::Slot64);
    for engine in &mut open {
        engine.change_vnet(7, |vnet| vnet.groups.confined.clear());
    }
    let (copies, dropped) = carry(&mut open, &ALICE, &frame);
    assert_eq!((names(&copies), dropped), (vec!["Adam", "Anna", "Berta", "Bob"], 0));
    assert!(copies.iter().all(|(_, copy)| copy[22] == 1));
    // What another host lets out is not let in.
    let sent = open[0].receive(ALICE.port, &frame).sent;
    let crossing = sent.iter().find(|sent| sent.port == UPLINK).unwrap();
    let crossing = oracle::forwarded(&crossing.bytes, uplink_mac(1));
    engines[1].refuses(UPLINK, &crossing, "vnet 7", DropReason::GroupConfined);
}

#[test]
fn a_vnet_may_carry_no_broadcast() {
    let mut engines = world_of_groups(Layout::Slot64);
    let crossing = engines[0].receive(ALICE.port, &to_group(&ALICE, ALL, |_| ())).sent;
    let crossing = crossing.iter().find(|sent| sent.port == UPLINK).unwrap();
    for engine in &mut engines {
        engine.change_vnet(7, |vnet| vnet.groups.broadcast = false);
    }
    engines[0].refuses(ALICE.port, &to_group(&ALICE, ALL, |_| ()), "node1", DropReason::BroadcastOff);
    let crossing = oracle::forwarded(&crossing.bytes, uplink_mac(1));
    engines[1].refuses(UPLINK, &crossing, "vnet 7", DropReason::BroadcastOff);
    let (copies, _) = carry(&mut engines, &ALICE, &to_group(&ALICE, VIDEO, |_| ()));
    assert_eq!(names(&copies), ["Anna", "Berta", "Bob"]);
}

#[test]
fn what_is_not_from_where_its_source_lives_reaches_no_member() {
    let mut engines = world_of_groups(Layout::Slot64);
    let sent = engines[0].receive(ALICE.port, &to_group(&ALICE, VIDEO, |_| ())).sent;
    let sent = sent.into_iter().find(|sent| sent.port == UPLINK).unwrap();
    let good = oracle::forwarded(&sent.bytes, uplink_mac(1));
    let mut refuses = |place: &str, reason, change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        engines[1].refuses(UPLINK, &frame, place, reason);
    };
    // Source prefix, slot, vnet and address; then the slot of the destination, and an address that is no group's.
    refuses("vnet 7", DropReason::SrcPrefixMismatch, &|frame| frame[29] ^= 0xf0);
    refuses("vnet 7", DropReason::SrcSlotMismatch, &|frame| frame[30] ^= 4);
    refuses("vnet 7", DropReason::SrcUnknownVnet, &|frame| frame[33] ^= 1);
    refuses("vnet 7", DropReason::SrcUnknownNode, &|frame| frame[37] ^= 0x40);
    refuses("vnet 7", DropReason::SrcAddressInvalid, &|frame| frame[30] |= 1);
    refuses("vnet 7", DropReason::DstAddressInvalid, &|frame| frame[46] |= 8);
    refuses("vnet 7", DropReason::DstAddressInvalid, &|frame| frame[50] = 10);
    refuses("vnet 7", DropReason::GroupNoMembers, &|frame| frame[53] ^= 1);
    // A node of another vnet is no member, even if that is a peer.
    let of_stranger = |frame: &mut Vec<u8>| (frame[30], frame[33]) = (STRANGER.slot << 2, 9);
    refuses("vnet 7", DropReason::VnetMismatch, &of_stranger);
    let peering =
        Peering { vnet: vnet(9), subnets: Vec::new(), default_action: Action::Allow, on_demand: false };
    engines[1].change_vnet(7, |vnet| vnet.peerings = vec![peering]);
    let mut frame = good.clone();
    of_stranger(&mut frame);
    engines[1].refuses(UPLINK, &frame, "vnet 7", DropReason::VnetMismatch);
    let (copies, dropped) = carry(&mut engines, &ALICE, &to_group(&ALICE, VIDEO, |_| ()));
    assert_eq!((copies.len(), dropped), (3, 0));
}

#[test]
fn an_error_to_a_group_is_believed_of_nobody() {
    let mut engines = world_of_groups(Layout::Slot64);
    let sent = engines[0].receive(ALICE.port, &to_group(&ALICE, VIDEO, |_| ())).sent;
    let sent = sent.into_iter().find(|sent| sent.port == UPLINK).unwrap();
    let ip = Ipv6HeaderSlice::from_slice(&sent.bytes[14..]).unwrap();
    let router: Ipv6Addr = "fd00:0:0:ff::1".parse().unwrap();
    let payload = [&[1, 0, 0, 0, 0, 0, 0, 0], &sent.bytes[14..]].concat();
    let error = Transport::Other { number: 58, payload };
    let error = frames::from_substrate(1, (router, ip.destination_addr()), error);
    engines[1].refuses(UPLINK, &error, "vnet 7", DropReason::SrcAddressInvalid);
}

#[test]
fn rules_judge_each_copy() {
    let set = |rules: &[Rule]| Arc::new(RuleSet::compile(rules.to_vec()).unwrap());
    let deny = |node: &Node| {
        let net = ipnet::Ipv4Net::new(node.ipv4, 32).unwrap();
        Rule { peer: Peer::Addresses(vec![(vnet(7), net)]), ..Rule::all("deny", Action::Deny) }
    };
    let mut engines = world_of_groups(Layout::Slot64);
    for node in [ANNA, BOB] {
        let policy = Arc::new(Policy { egress: set(&[]), ingress: set(&[deny(&ALICE)]) });
        engines[node.host].change_interface(&node, |interface| interface.policy = Some(Arc::clone(&policy)));
    }
    let (copies, dropped) = carry(&mut engines, &ALICE, &to_group(&ALICE, ALL, |_| ()));
    assert_eq!((names(&copies), dropped), (vec!["Adam", "Berta"], 2));
    assert_eq!(engines[1].total("vnet 7", DropReason::IngressDenied), 1);
    let (copies, dropped) = carry(&mut engines, &ADAM, &to_group(&ADAM, ALL, |_| ()));
    assert_eq!((names(&copies), dropped), (vec!["Alice", "Anna", "Berta", "Bob"], 0));
    // A sender's rules hold for all that hear it.
    let net = "239.0.0.0/8".parse().unwrap();
    let no_video = Rule { peer: Peer::Addresses(vec![(vnet(7), net)]), ..Rule::all("video", Action::Deny) };
    let policy = Arc::new(Policy { egress: set(&[no_video]), ingress: set(&[]) });
    engines[0].change_interface(&ALICE, |interface| interface.policy = Some(Arc::clone(&policy)));
    let (copies, dropped) = carry(&mut engines, &ALICE, &to_group(&ALICE, VIDEO, |_| ()));
    assert_eq!((copies.len(), dropped), (0, 2), "Anna's, and those for the other host");
    assert_eq!(engines[0].total("node1", DropReason::EgressDenied), 2);
}

#[test]
fn an_interface_has_only_so_many_copies_made() {
    let mut engines = world_of_groups(Layout::Slot64);
    let copies = Rate { rate: 10, burst: 5 };
    let limit = GroupLimit { copies, ..GroupLimit::default() }.buckets(2);
    engines[0].change_interface(&ALICE, |interface| interface.group_limit = Arc::clone(&limit));
    let frame = to_group(&ALICE, ALL, |_| ());
    let made: Vec<usize> = (0..3).map(|_| engines[0].receive(ALICE.port, &frame).sent.len()).collect();
    assert_eq!(made, [3, 2, 0]);
    assert_eq!(engines[0].total("node1", DropReason::GroupLimited), 4);
    engines[0].clock.advance(Duration::from_millis(200));
    assert_eq!(engines[0].receive(ALICE.port, &frame).sent.len(), 2);
    // Others have their own.
    let frame = to_group(&ADAM, ALL, |_| ());
    assert_eq!(engines[0].receive(ADAM.port, &frame).sent.len(), 3);
}

#[test]
fn large_datagrams_come_in_parts_to_each_member() {
    let mut engines = world_of_groups(Layout::Slot64);
    for node in [ANNA, ALICE] {
        engines[0].change_interface(&node, |interface| interface.mtu = 1500);
    }
    let large = |shape: &mut Shape| (shape.transport, shape.dont_fragment) = (udp(&[7; 1472]), false);
    let (copies, dropped) = carry(&mut engines, &ALICE, &to_group(&ALICE, VIDEO, large));
    // Anna takes it whole; the others' host gets two parts, and so do they.
    assert_eq!((names(&copies), dropped), (vec!["Anna", "Berta", "Berta", "Bob", "Bob"], 0));
    let bytes = |name: &str| -> usize {
        copies.iter().filter(|(of, _)| *of == name).map(|(_, copy)| copy.len() - 34).sum()
    };
    assert_eq!([bytes("Anna"), bytes("Bob"), bytes("Berta")], [1480; 3]);
    // What must not be cut is lost without a word.
    let large = |shape: &mut Shape| (shape.transport, shape.dont_fragment) = (udp(&[7; 1472]), true);
    let outcome = engines[0].receive(ALICE.port, &to_group(&ALICE, VIDEO, large));
    assert_eq!((outcome.sent.len(), outcome.answers(), outcome.dropped()), (1, 0, 1));
    assert_eq!(engines[0].total("node1", DropReason::PacketTooBig), 1);
}

#[test]
fn groups_have_their_own_hardware_addresses() {
    let mut engines = world_of_groups(Layout::Slot64);
    let mut refuses = |mac: MacAddr, destination: Ipv4Addr| {
        let shape = Shape { destination, ..shape(&ALICE, &ALICE, udp(b"?")) };
        let frame = frames::ipv4(mac, ALICE.mac(), &shape);
        engines[0].refuses(ALICE.port, &frame, "node1", DropReason::UnknownDstMac);
    };
    refuses(MacAddr::BROADCAST, VIDEO);
    refuses(dummy(7, VIDEO), VIDEO);
    refuses(dummy(7, ALL), ALL);
    refuses(group::mac(VIDEO), ALL);
    refuses(group::mac(VIDEO), Ipv4Addr::new(239, 129, 2, 4));
    refuses(MacAddr::BROADCAST, ANNA.ipv4);
    // Nobody broadcasts to another subnet by a router (RFC 2644).
    let shape = Shape { destination: Ipv4Addr::new(10, 0, 1, 255), ..shape(&ALICE, &ALICE, udp(b"?")) };
    let frame = frames::ipv4(dummy(7, GATEWAY), ALICE.mac(), &shape);
    engines[0].refuses(ALICE.port, &frame, "node1", DropReason::NoMapping);
}

#[test]
fn a_sender_that_claims_another_address_reaches_nobody() {
    let mut engines = world_of_groups(Layout::Slot64);
    let frame = to_group(&ALICE, VIDEO, |shape| shape.source = ANNA.ipv4);
    engines[0].refuses(ALICE.port, &frame, "node1", DropReason::SrcIpv4Spoofed);
}

fn igmp(source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let transport = Transport::Other { number: 2, payload: message.to_vec() };
    let shape = Shape { source, destination, ttl: 1, ..shape(&ALICE, &ALICE, transport) };
    frames::ipv4(group::mac(destination), ALICE.mac(), &shape)
}

/// A report of version 2.
fn join() -> Vec<u8> {
    let [a, b, c, d] = VIDEO.octets();
    let mut message = vec![0x16, 0, 0, 0, a, b, c, d];
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&message).ones_complement();
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
    message
}

#[test]
fn memberships_are_handed_over_and_nobody_else_hears_of_them() {
    let mut engines = world_of_groups(Layout::Slot64);
    for source in [ALICE.ipv4, Ipv4Addr::UNSPECIFIED] {
        let frame = igmp(source, VIDEO, &join());
        let outcome = engines[0].receive(ALICE.port, &frame);
        assert_eq!((outcome.punted, outcome.sent.len()), (vec![frame], 0));
    }
    let mut refuses = |frame: &[u8], reason| engines[0].refuses(ALICE.port, frame, "node1", reason);
    refuses(&igmp(ANNA.ipv4, VIDEO, &join()), DropReason::SrcIpv4Spoofed);
    refuses(&igmp(ALICE.ipv4, VIDEO, &igmp::query(None, 10)), DropReason::IgmpQuery);
    refuses(&igmp(ALICE.ipv4, VIDEO, &join()[..7]), DropReason::IgmpMalformed);
    let mut wrong = join();
    wrong[7] ^= 1;
    refuses(&igmp(ALICE.ipv4, VIDEO, &wrong), DropReason::IgmpMalformed);
    let limit = GroupLimit { messages: Rate { rate: 1, burst: 2 }, ..GroupLimit::default() }.buckets(2);
    engines[0].change_interface(&ALICE, |interface| interface.group_limit = Arc::clone(&limit));
    let punted: usize =
        (0..4).map(|_| engines[0].receive(ALICE.port, &igmp(ALICE.ipv4, VIDEO, &join())).punted.len()).sum();
    assert_eq!((punted, engines[0].total("node1", DropReason::IgmpLimited)), (2, 2));
}
