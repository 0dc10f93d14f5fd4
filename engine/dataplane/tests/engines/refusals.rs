//! Packets that do not arrive: for each a reason, counted once, in the right place.

use crate::frames::{self, Transport, shape, tcp, udp};
use crate::world::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use overlane_dataplane::address::Layout;
use overlane_dataplane::cap::{Cap, RateLimit};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::table::mapping::State;
use std::sync::Arc;

/// A frame from Alice to Bob, changed, that her host must refuse at her port.
#[track_caller]
fn alice_cannot_send(reason: DropReason, change: impl FnOnce(&mut Vec<u8>)) {
    let mut frame = frames::to_node(&ALICE, &BOB, udp(b"payload"));
    change(&mut frame);
    Engine::new(Layout::Slot64, 0).refuses(ALICE.port, &frame, "node1", reason);
}

/// The same, with the IPv4 header checksum made right again.
#[track_caller]
fn alice_cannot_send_header(reason: DropReason, change: impl FnOnce(&mut Vec<u8>)) {
    alice_cannot_send(reason, |frame| {
        change(frame);
        fix_ipv4_checksum(frame);
    });
}

#[test]
fn spoofed_sources_are_dropped_and_counted() {
    alice_cannot_send(DropReason::SrcMacSpoofed, |frame| frame[6..12].copy_from_slice(&ANNA.mac().0));
    alice_cannot_send_header(DropReason::SrcIpv4Spoofed, |frame| {
        frame[26..30].copy_from_slice(&ANNA.ipv4.octets());
    });
    alice_cannot_send_header(DropReason::SrcIpv4Spoofed, |frame| frame[26..30].fill(0));
}

#[test]
fn next_hops_that_engines_never_gave_out_are_refused() {
    for mac in [BOB.mac(), ROUTER, dummy(9, BOB.ipv4), MacAddr::ZERO] {
        alice_cannot_send(DropReason::UnknownDstMac, |frame| frame[0..6].copy_from_slice(&mac.0));
    }
    alice_cannot_send(DropReason::NextHopNotRouter, |frame| {
        frame[0..6].copy_from_slice(&ANNA.dummy().0);
    });
    alice_cannot_send(DropReason::UnknownDstMac, |frame| frame[0..6].fill(0xff));
    let multicast = Ipv4Addr::new(224, 0, 0, 251);
    alice_cannot_send_header(DropReason::UnknownDstMac, |frame| {
        frame[0..6].copy_from_slice(&dummy(7, multicast).0);
        frame[30..34].copy_from_slice(&multicast.octets());
    });
}

#[test]
fn destinations_that_are_not_there_are_named() {
    let send = |destination: Ipv4Addr, mac: MacAddr, reason| {
        alice_cannot_send_header(reason, |frame| {
            frame[0..6].copy_from_slice(&mac.0);
            frame[30..34].copy_from_slice(&destination.octets());
        });
    };
    let nobody = Ipv4Addr::new(10, 0, 0, 200);
    send(nobody, dummy(7, nobody), DropReason::NoMapping);
    send(nobody, dummy(7, GATEWAY), DropReason::NoMapping);
    send(DOWN.ipv4, DOWN.dummy(), DropReason::DstNotLive);
    send(GATEWAY, dummy(7, GATEWAY), DropReason::GatewayItself);
    send(Ipv4Addr::new(10, 0, 1, 1), dummy(7, GATEWAY), DropReason::GatewayItself);
}

#[test]
fn frames_that_are_no_ipv4_are_refused() {
    alice_cannot_send(DropReason::EthertypeUnsupported, |frame| frame[12..14].copy_from_slice(&[0x86, 0xdd]));
    alice_cannot_send(DropReason::EthertypeUnsupported, |frame| frame[12..14].copy_from_slice(&[0x81, 0x00]));
    alice_cannot_send(DropReason::Ipv4Checksum, |frame| frame[24] ^= 1);
    alice_cannot_send(DropReason::Ipv4Malformed, |frame| frame[14] = 0x65);
    alice_cannot_send(DropReason::Ipv4Malformed, |frame| frame[14] = 0x44);
    alice_cannot_send(DropReason::Ipv4Malformed, |frame| frame[16..18].copy_from_slice(&[0, 19]));
    alice_cannot_send(DropReason::FrameTruncated, |frame| frame.truncate(13));
    alice_cannot_send(DropReason::FrameTruncated, |frame| frame.truncate(33));
    alice_cannot_send(DropReason::FrameTruncated, |frame| frame.truncate(frame.len() - 1));
}

#[test]
fn what_translation_cannot_carry_is_refused_by_name() {
    // 15 bytes, and yet more are to follow.
    alice_cannot_send_header(DropReason::FragmentMalformed, |frame| frame[20] |= 0x20);
    for length in [0, 7, 16] {
        alice_cannot_send(DropReason::TransportMalformed, |frame| frame[39] = length);
    }
    for number in [0, 43, 44, 58, 60, 135, 139, 140] {
        alice_cannot_send_header(DropReason::ProtocolUntranslatable, |frame| frame[23] = number);
    }
    alice_cannot_send_header(DropReason::AuthenticationHeader, |frame| frame[23] = 51);
    for kind in [4, 5, 9, 10, 13, 14, 15, 16, 17, 18, 128] {
        alice_cannot_send_header(DropReason::IcmpUntranslatable, |frame| {
            frame[23] = 1;
            frame[34] = kind;
        });
    }
    // 15 bytes are no TCP header; and a header that says it is longer than the packet.
    alice_cannot_send_header(DropReason::TransportMalformed, |frame| frame[23] = 6);
    let mut short = frames::to_node(&ALICE, &BOB, Transport::Tcp { options: 0, payload: Vec::new() });
    for length in [0x40, 0x60] {
        short[46] = length;
        Engine::new(Layout::Slot64, 0).refuses(ALICE.port, &short, "node1", DropReason::TransportMalformed);
    }
}

#[test]
fn source_route_is_refused() {
    let mut routed = shape(&ALICE, &BOB, udp(b""));
    routed.options = vec![131, 7, 4, 10, 0, 0, 9, 0];
    let frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &routed);
    Engine::new(Layout::Slot64, 0).refuses(ALICE.port, &frame, "node1", DropReason::SourceRoute);
}

#[test]
fn packet_that_fits_exactly_passes_and_one_byte_more_is_too_big() {
    // 1500 on the uplink: 40 for IPv6, 8 for UDP. Beside Alice a node takes 1480: 20 for IPv4, 8 for UDP.
    for (to, most) in [(&BOB, 1452), (&ANNA, 1452)] {
        let mut here = Engine::new(Layout::Slot64, 0);
        here.receive(ALICE.port, &frames::to_node(&ALICE, to, udp(&vec![1; most]))).only();
        let frame = frames::to_node(&ALICE, to, udp(&vec![1; most + 1]));
        here.refuses(ALICE.port, &frame, "node1", DropReason::PacketTooBig);
    }
    let mut there = Engine::new(Layout::Slot64, 1);
    let addresses = (address(Layout::Slot64, &ALICE), address(Layout::Slot64, &BOB));
    there.receive(UPLINK, &frames::from_substrate(1, addresses, udp(&[1; 1452]))).only();
    let frame = frames::from_substrate(1, addresses, udp(&[1; 1453]));
    there.refuses(UPLINK, &frame, "vnet 7", DropReason::PacketTooBig);
}

#[test]
fn local_packet_through_the_gateway_with_ttl_1_expires() {
    let mut local = shape(&ALICE, &ADAM, tcp(b""));
    local.ttl = 1;
    let frame = frames::ipv4(dummy(7, GATEWAY), ALICE.mac(), &local);
    Engine::new(Layout::Slot64, 0).refuses(ALICE.port, &frame, "node1", DropReason::TtlExceeded);
}

#[test]
fn without_prefix_uplink_or_port_nothing_leaves() {
    let frame = frames::to_node(&ALICE, &BOB, udp(b""));
    let mut here = Engine::new(Layout::Slot64, 0);
    here.change_uplink(|uplink| uplink.next_hop = None);
    here.refuses(ALICE.port, &frame, "node1", DropReason::UplinkUnresolved);
    here.change_uplink(|uplink| (uplink.next_hop, uplink.link_up) = (Some(ROUTER), false));
    here.refuses(ALICE.port, &frame, "node1", DropReason::UplinkUnresolved);
    here.snapshot.prefix = None;
    here.refuses(ALICE.port, &frame, "node1", DropReason::PrefixUnknown);
    let arriving = from_alice(|frame| frame[0..6].copy_from_slice(&uplink_mac(0).0));
    here.refuses(UPLINK, &arriving, "uplink", DropReason::NotOurPrefix);
    here.refuses(7, &frame, "unplaced", DropReason::PortGone);
    here.refuses(4000, &frame, "unplaced", DropReason::PortGone);
}

#[test]
fn mapping_and_snapshot_of_different_moments_deliver_to_nobody() {
    let frame = frames::to_node(&ALICE, &ANNA, udp(b""));
    let mut here = Engine::new(Layout::Slot64, 0);
    for wrong in [STRANGER.port, ADAM.port, UPLINK, 7, 99] {
        here.map(&ANNA, |mapping| mapping.local = Some(port(wrong)));
        here.refuses(ALICE.port, &frame, "node1", DropReason::PortGone);
    }
    // The right address on a port of another vnet.
    here.map(&ALICE, |mapping| mapping.local = Some(port(STRANGER.port)));
    let frame = frames::to_node(&ANNA, &ALICE, udp(b""));
    here.refuses(ANNA.port, &frame, "node2", DropReason::PortGone);
    let frame = frames::to_node(&ALICE, &ANNA, udp(b""));
    // Live, on this host, and on no port: the substrate would bring it back.
    here.map(&ANNA, |mapping| mapping.local = None);
    here.refuses(ALICE.port, &frame, "node1", DropReason::DstNotLive);
}

fn addresses() -> (Ipv6Addr, Ipv6Addr) {
    (address(Layout::Slot64, &ALICE), address(Layout::Slot64, &BOB))
}

/// A frame from Alice to Bob, as the substrate brings it, changed.
fn from_alice(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = frames::from_substrate(1, addresses(), udp(b"payload"));
    change(&mut frame);
    frame
}

/// A frame from the substrate that Bob's host must refuse, counted at `place`.
#[track_caller]
fn bob_does_not_get(place: &str, reason: DropReason, change: impl FnOnce(&mut Vec<u8>)) {
    Engine::new(Layout::Slot64, 1).refuses(UPLINK, &from_alice(change), place, reason);
}

#[test]
fn frames_that_are_not_for_this_host_are_counted_at_the_uplink() {
    let uplink = |reason, change: fn(&mut Vec<u8>)| bob_does_not_get("uplink", reason, change);
    uplink(DropReason::NotOurMac, |frame| frame[5] ^= 0xff);
    uplink(DropReason::NotOurMac, |frame| frame[0..6].fill(0xff));
    uplink(DropReason::EthertypeUnsupported, |frame| frame[12..14].copy_from_slice(&[0x08, 0]));
    uplink(DropReason::Ipv6Malformed, |frame| frame[14] = 0x45);
    uplink(DropReason::FrameTruncated, |frame| frame.truncate(53));
    uplink(DropReason::FrameTruncated, |frame| frame.truncate(frame.len() - 1));
    uplink(DropReason::NotOurPrefix, |frame| frame[45] ^= 1);
    uplink(DropReason::NotOurPrefix, |frame| {
        frame[0..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 2]);
        frame[38..54].copy_from_slice(&"ff02::2".parse::<Ipv6Addr>().unwrap().octets());
    });
    // Both flags; vnet 0; a vnet that this host has no part in.
    uplink(DropReason::DstAddressInvalid, |frame| frame[46] |= 3);
    uplink(DropReason::DstAddressInvalid, |frame| frame[47..50].fill(0));
    uplink(DropReason::DstUnknownNode, |frame| frame[49] = 8);
}

#[test]
fn neighbour_discovery_that_was_routed_does_not_reach_the_control_thread() {
    let router: Ipv6Addr = "fe80::1".parse().unwrap();
    for to in [engine_address(1), "ff02::1".parse().unwrap()] {
        for kind in 133..=137 {
            let message = Transport::Other { number: 58, payload: [&[kind][..], &[0; 23]].concat() };
            let mut frame = frames::from_substrate(1, (router, to), message);
            frame[21] = 255;
            let mut there = Engine::new(Layout::Slot64, 1);
            assert_eq!(there.receive(UPLINK, &frame).punted.len(), 1);
            for hop_limit in [0, 1, 64, 254] {
                frame[21] = hop_limit;
                there.refuses(UPLINK, &frame, "uplink", DropReason::NeighbourDiscoveryRouted);
            }
        }
    }
}

#[test]
fn destinations_that_no_interface_has_are_counted_in_their_vnet() {
    let vnet = |reason, change: fn(&mut Vec<u8>)| bob_does_not_get("vnet 7", reason, change);
    vnet(DropReason::SlotMismatch, |frame| frame[46] = 6 << 2);
    vnet(DropReason::SlotMismatch, |frame| frame[46] = 63 << 2);
    vnet(DropReason::DstUnknownNode, |frame| frame[53] = 200);
    vnet(DropReason::DstUnknownNode, |frame| frame[53] = 99);
    // By slot, where others are: a node of another vnet, and nobody.
    vnet(DropReason::SlotMismatch, |frame| frame[46] = 6 << 2 | 2);
    vnet(DropReason::SlotMismatch, |frame| frame[46] = 63 << 2 | 2);
    vnet(DropReason::DstAddressInvalid, |frame| frame[46] |= 1);
}

#[test]
fn a_node_sends_no_more_than_it_may_and_its_neighbours_are_none_the_worse() {
    let mut here = Engine::new(Layout::Slot64, 0);
    let limit = RateLimit { packets_per_second: Some(1000), bits_per_second: None };
    let cap = Arc::new(Cap::new(limit));
    here.change_interface(&ALICE, |interface| interface.cap = Some(Arc::clone(&cap)));
    let frame = frames::to_node(&ALICE, &BOB, udp(b"more"));
    let burst = |engine: &mut Engine, port: u16, frame: &[u8]| {
        let packets: Vec<_> = (0..64).map(|_| engine.pool.packet(frame).unwrap()).collect();
        engine.receive_packets(port, packets).sent.len()
    };
    // A tenth of a second's worth at once, and then as time goes on.
    let sent: Vec<usize> = (0..3).map(|_| burst(&mut here, ALICE.port, &frame)).collect();
    assert_eq!(sent, [64, 36, 0]);
    assert_eq!(here.total("node1", DropReason::RateExceeded), 28 + 64);
    here.clock.advance(Duration::from_millis(10));
    assert_eq!(burst(&mut here, ALICE.port, &frame), 10);
    let other = frames::to_node(&ANNA, &BOB, udp(b"as ever"));
    assert_eq!(burst(&mut here, ANNA.port, &other), 64);
}

#[test]
fn forged_sources_are_dropped_and_counted_in_the_vnet() {
    let vnet = |reason, change: fn(&mut Vec<u8>)| bob_does_not_get("vnet 7", reason, change);
    vnet(DropReason::SrcPrefixMismatch, |frame| frame[29] ^= 0xf0);
    vnet(DropReason::SrcSlotMismatch, |frame| frame[30] = 2 << 2);
    vnet(DropReason::SrcOwnPrefix, |frame| frame[29] = 0xb);
    vnet(DropReason::SrcUnknownVnet, |frame| frame[33] = 8);
    vnet(DropReason::SrcUnknownNode, |frame| frame[37] = 200);
    vnet(DropReason::SrcNotRouted, |frame| frame[30] |= 2);
    vnet(DropReason::SrcAddressInvalid, |frame| frame[30] |= 1);
    vnet(DropReason::SrcAddressInvalid, |frame| frame[30] |= 3);
    vnet(DropReason::SrcAddressInvalid, |frame| frame[31..34].fill(0));
    vnet(DropReason::SrcAddressInvalid, |frame| frame[22..24].copy_from_slice(&[0xfe, 0x80]));
    // Alice's place, with the address of the node that has it in the other vnet: provisioned, and not there.
    vnet(DropReason::SrcSlotMismatch, |frame| frame[33] = 9);
}

#[test]
fn verified_source_of_another_vnet_is_a_mismatch() {
    let stranger = address(Layout::Slot64, &STRANGER);
    let frame = frames::from_substrate(1, (stranger, addresses().1), udp(b"across"));
    Engine::new(Layout::Slot64, 1).refuses(UPLINK, &frame, "vnet 7", DropReason::VnetMismatch);
}

#[test]
fn source_that_is_down_or_has_moved_away_is_refused() {
    let mut there = Engine::new(Layout::Slot64, 1);
    there.map(&ALICE, |mapping| mapping.state = State::Down);
    there.refuses(UPLINK, &from_alice(|_| ()), "vnet 7", DropReason::SrcNotLive);
    let new = locator(Layout::Slot64, 2, 33, 7);
    there.map(&ALICE, |mapping| (mapping.locator, mapping.state) = (new, State::Live));
    there.refuses(UPLINK, &from_alice(|_| ()), "vnet 7", DropReason::SrcPrefixMismatch);
    there.map(&ALICE, |mapping| mapping.also_accept = Some(locator(Layout::Slot64, 0, 2, 7)));
    there.refuses(UPLINK, &from_alice(|_| ()), "vnet 7", DropReason::SrcSlotMismatch);
}

#[test]
fn what_a_node_cannot_get_is_refused_by_name() {
    let vnet = |reason, change: &dyn Fn(&mut Vec<u8>)| bob_does_not_get("vnet 7", reason, change);
    vnet(DropReason::ProtocolUntranslatable, &|frame| frame[20] = 1);
    vnet(DropReason::UdpChecksumZero, &|frame| frame[60..62].fill(0));
    vnet(DropReason::TransportMalformed, &|frame| frame[59] = 16);
    for kind in [130, 135, 200] {
        vnet(DropReason::IcmpUntranslatable, &|frame| (frame[20], frame[54]) = (58, kind));
    }
}

#[test]
fn layouts_without_slots_find_the_receiver_by_its_mapping_and_refuse_the_same() {
    for layout in [Layout::Plain72, Layout::Plain64] {
        let (alice, bob) = (address(layout, &ALICE), address(layout, &BOB));
        let refuses = |from: Ipv6Addr, to: Ipv6Addr, place: &str, reason| {
            let frame = frames::from_substrate(1, (from, to), udp(b""));
            Engine::new(layout, 1).refuses(UPLINK, &frame, place, reason);
        };
        let with_last =
            |address: Ipv6Addr, octet: u8| Ipv6Addr::from_bits(address.to_bits() & !0xff | u128::from(octet));
        refuses(alice, with_last(bob, 200), "vnet 7", DropReason::DstUnknownNode);
        refuses(alice, with_last(bob, 99), "vnet 7", DropReason::DstUnknownNode);
        refuses(with_last(alice, 200), bob, "vnet 7", DropReason::SrcUnknownNode);
        refuses(bob, bob, "vnet 7", DropReason::SrcOwnPrefix);
        let elsewhere = locator(layout, 2, 0, 7).address(ALICE.ipv4);
        refuses(elsewhere, bob, "vnet 7", DropReason::SrcPrefixMismatch);
        let group = locator(layout, 1, 0, 7).address(Ipv4Addr::new(224, 0, 0, 1));
        refuses(alice, group, "vnet 7", DropReason::GroupNoMembers);
    }
}
