//! Packets that arrive: what each byte of them is on the way, and what is counted.

use crate::frames::{self, Shape, Transport, echo, shape, tcp, udp};
use crate::oracle;
use crate::world::*;
use overlane_dataplane::address::Layout;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::packet::{Checksum, Offload, Packet as _};
use std::collections::BTreeMap;

fn counted<const N: usize>(changes: [(&str, u64); N]) -> BTreeMap<String, u64> {
    changes.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Sends `shape` from one host to the other, and checks every byte on the substrate and at the node.
#[track_caller]
fn cross(layout: Layout, from: &Node, to: &Node, via: MacAddr, seen: MacAddr, shape: &Shape) {
    let [mut here, mut there] = world(layout);
    let frame = frames::ipv4(via, from.mac(), shape);
    let outcome = here.receive(from.port, &frame);
    let name = format!("node{}", from.port);
    let received = [(format!("{name} rx_packets"), 1), (format!("{name} rx_bytes"), frame.len() as u64)];
    assert_eq!(outcome.counted, BTreeMap::from(received));
    let sent = outcome.only();
    assert_eq!(sent.port, UPLINK);
    assert_eq!(sent.bytes, oracle::on_substrate(layout, from, to, shape));

    let frame = oracle::routed(&sent.bytes, to);
    let outcome = there.receive(UPLINK, &frame);
    assert_eq!(outcome.counted, counted([("uplink rx_packets", 1), ("uplink rx_bytes", frame.len() as u64)]));
    let sent = outcome.only();
    assert_eq!(sent.port, to.port);
    assert_eq!(sent.bytes, oracle::at_node(seen, to, shape, 1, &sent.bytes));
}

#[test]
fn tcp_udp_echo_and_others_cross_the_substrate_in_every_layout() {
    let others = Transport::Other { number: 47, payload: b"GRE, or anything".to_vec() };
    let reply = Transport::EchoReply { payload: b"pong".to_vec() };
    for layout in Layout::ALL {
        for transport in [tcp(b"hello"), udp(b"hello!"), echo(b"ping"), reply.clone(), others.clone()] {
            let shape = shape(&ALICE, &BOB, transport);
            cross(layout, &ALICE, &BOB, BOB.dummy(), ALICE.dummy(), &shape);
        }
    }
}

#[test]
fn vnets_with_the_same_addresses_do_not_meet() {
    let shape = shape(&STRANGER, &OTHER_BOB, udp(b"not for Bob"));
    assert_eq!((STRANGER.ipv4, OTHER_BOB.ipv4), (ALICE.ipv4, BOB.ipv4));
    cross(Layout::Slot64, &STRANGER, &OTHER_BOB, OTHER_BOB.dummy(), STRANGER.dummy(), &shape);
}

#[test]
fn off_link_packet_goes_by_the_gateway_and_comes_from_the_gateway() {
    let shape = shape(&ALICE, &BERTA, tcp(b"routed"));
    let other_gateway = dummy(7, "10.0.1.1".parse().unwrap());
    cross(Layout::Slot64, &ALICE, &BERTA, dummy(7, GATEWAY), other_gateway, &shape);
}

#[test]
fn ipv4_options_and_fragmentable_packets_cross() {
    let mut shape = shape(&ALICE, &BOB, udp(&[7; 1300]));
    cross(Layout::Slot64, &ALICE, &BOB, BOB.dummy(), ALICE.dummy(), &shape);
    shape.dont_fragment = false;
    cross(Layout::Slot64, &ALICE, &BOB, BOB.dummy(), ALICE.dummy(), &shape);
    for words in 1..=10 {
        shape.options = vec![1; words * 4];
        cross(Layout::Slot64, &ALICE, &BOB, BOB.dummy(), ALICE.dummy(), &shape);
    }
}

#[test]
fn ethernet_padding_is_cut_off() {
    let [mut here, mut there] = world(Layout::Slot64);
    let shape = shape(&ALICE, &BOB, echo(b""));
    let mut frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &shape);
    assert!(frame.len() < 60);
    frame.resize(60, 0xaa);
    let sent = here.receive(ALICE.port, &frame).only();
    assert_eq!(sent.bytes, oracle::on_substrate(Layout::Slot64, &ALICE, &BOB, &shape));
    let mut frame = oracle::routed(&sent.bytes, &BOB);
    frame.resize(99, 0xbb);
    let sent = there.receive(UPLINK, &frame).only();
    assert_eq!(sent.bytes, oracle::at_node(ALICE.dummy(), &BOB, &shape, 1, &sent.bytes));
}

#[test]
fn node_beside_the_sender_gets_the_packet_as_it_is() {
    let mut here = Engine::new(Layout::Slot64, 0);
    let mut shape = shape(&ALICE, &ANNA, tcp(b"neighbour"));
    shape.options = vec![1; 8];
    shape.ttl = 1;
    let mut frame = frames::ipv4(ANNA.dummy(), ALICE.mac(), &shape);
    let outcome = here.receive(ALICE.port, &frame);
    let received = [("node1 rx_packets", 1), ("node1 rx_bytes", frame.len() as u64)];
    assert_eq!(outcome.counted, counted(received));
    let sent = outcome.only();
    frame[0..6].copy_from_slice(&ANNA.mac().0);
    frame[6..12].copy_from_slice(&ALICE.dummy().0);
    assert_eq!((sent.port, sent.bytes), (ANNA.port, frame));
}

#[test]
fn fragments_reach_a_node_beside_the_sender() {
    let mut here = Engine::new(Layout::Slot64, 0);
    let mut frame = frames::to_node(&ALICE, &ANNA, udp(&[1; 64]));
    frame[20] = 0x20;
    fix_ipv4_checksum(&mut frame);
    let sent = here.receive(ALICE.port, &frame).only();
    assert_eq!(sent.bytes[14..], frame[14..]);
}

#[test]
fn gateway_lowers_the_ttl_between_subnets_of_one_host() {
    let mut here = Engine::new(Layout::Slot64, 0);
    let mut shape = shape(&ALICE, &ADAM, tcp(b"next door"));
    let frame = frames::ipv4(dummy(7, GATEWAY), ALICE.mac(), &shape);
    let sent = here.receive(ALICE.port, &frame).only();
    shape.ttl -= 1;
    let expected = frames::ipv4(ADAM.mac(), dummy(7, "10.0.1.1".parse().unwrap()), &shape);
    assert_eq!((sent.port, sent.bytes), (ADAM.port, expected));
}

#[test]
fn node_reaches_itself_by_its_own_address() {
    let mut here = Engine::new(Layout::Slot64, 0);
    let frame = frames::to_node(&ALICE, &ALICE, echo(b"me"));
    assert_eq!(here.receive(ALICE.port, &frame).only().port, ALICE.port);
}

#[test]
fn burst_is_delivered_in_order_and_mixed_packets_each_get_their_way() {
    let mut here = Engine::new(Layout::Slot64, 0);
    let frames: Vec<Vec<u8>> = (0..64u8)
        .map(|index| match index % 4 {
            0 => frames::to_node(&ALICE, &BOB, udp(&[index])),
            1 => frames::to_node(&ALICE, &ANNA, udp(&[index])),
            2 => frames::who_has(&ALICE, GATEWAY),
            _ => frames::to_node(&ALICE, &DOWN, udp(&[index])),
        })
        .collect();
    let packets: Vec<_> = frames.iter().map(|frame| here.pool.packet(frame).unwrap()).collect();
    let outcome = here.receive_packets(ALICE.port, packets);
    assert_eq!(outcome.counted["node1 drop dst_not_live"], 16);
    assert_eq!(outcome.dropped(), 16);
    for (port, offset) in [(UPLINK, 0), (ANNA.port, 1)] {
        let last: Vec<u8> = outcome
            .sent
            .iter()
            .filter(|sent| sent.port == port)
            .map(|sent| *sent.bytes.last().unwrap())
            .collect();
        assert_eq!(last, (0..16).map(|index| index * 4 + offset).collect::<Vec<u8>>());
    }
    assert_eq!(outcome.sent.iter().filter(|sent| sent.port == ALICE.port).count(), 16);
}

#[test]
fn during_a_move_both_locations_are_accepted() {
    let mut there = Engine::new(Layout::Slot64, 1);
    let new = locator(Layout::Slot64, 2, 33, 7);
    let to = address(Layout::Slot64, &BOB);
    let old = frames::from_substrate(1, (address(Layout::Slot64, &ALICE), to), udp(b"old"));
    let moved = frames::from_substrate(1, (new.address(ALICE.ipv4), to), udp(b"new"));
    there.map(&ALICE, |mapping| mapping.also_accept = Some(new));
    there.receive(UPLINK, &old).only();
    there.receive(UPLINK, &moved).only();
}

#[test]
fn what_is_for_the_engine_itself_is_punted_untouched() {
    let mut there = Engine::new(Layout::Slot64, 1);
    let router = "fe80::cc".parse().unwrap();
    let mut frame = frames::from_substrate(1, (router, engine_address(1)), udp(b"to the engine"));
    assert_eq!(there.receive(UPLINK, &frame).punted, [frame]);
    for group in ["ff02::1", "ff02::1:ff00:2", "ff02::1:ff12:3456"] {
        frame = frames::from_substrate(1, (router, group.parse().unwrap()), udp(b"solicitation"));
        frame[0..6].copy_from_slice(&[0x33, 0x33, 0xff, 0, 0, 2]);
        assert_eq!(there.receive(UPLINK, &frame).punted, [frame], "{group}");
    }
    // A solicitation straight to a node's address, as neighbours probe whom they know.
    let to = address(Layout::Slot64, &BOB);
    let solicitation = Transport::Other { number: 58, payload: vec![135, 0, 0, 0, 0, 0, 0, 0] };
    let mut frame = frames::from_substrate(1, (router, to), solicitation);
    frame[21] = 255;
    assert_eq!(there.receive(UPLINK, &frame).punted, [frame]);
}

#[test]
fn engine_with_an_address_in_its_own_prefix_gets_its_packets() {
    let mut there = Engine::new(Layout::Slot64, 1);
    let own = prefix(Layout::Slot64, 1).network().to_bits() | 1;
    there.change_uplink(|uplink| uplink.addresses.push(own.into()));
    let frame = frames::from_substrate(1, (address(Layout::Slot64, &ALICE), own.into()), udp(b""));
    assert_eq!(there.receive(UPLINK, &frame).punted, [frame]);
}

#[test]
fn verified_checksum_stays_verified_and_right() {
    let mut here = Engine::new(Layout::Slot64, 0);
    let shape = shape(&ALICE, &BOB, tcp(b"checked by the device"));
    let mut packet = here.pool.packet(&frames::ipv4(BOB.dummy(), ALICE.mac(), &shape)).unwrap();
    let offload = Offload { checksum: Checksum::Verified, segmentation: None };
    packet.set_offload(offload);
    let sent = here.receive_packets(ALICE.port, [packet]).only();
    assert_eq!(sent.offload, offload);
    assert_eq!(sent.bytes, oracle::on_substrate(Layout::Slot64, &ALICE, &BOB, &shape));
}

/// A UDP payload with which the checksum between these addresses is 0, which UDP spells 0xffff.
fn zero_checksum_payload(checksum_of_zeros: u16) -> Transport {
    udp(&checksum_of_zeros.to_be_bytes())
}

#[test]
fn udp_checksum_that_becomes_zero_is_written_as_ones() {
    let field = |frame: &[u8], place: usize| u16::from_be_bytes([frame[place], frame[place + 1]]);
    let mut of_zeros = shape(&ALICE, &BOB, udp(&[0, 0]));
    let six = oracle::on_substrate(Layout::Slot64, &ALICE, &BOB, &of_zeros);
    let crossing = shape(&ALICE, &BOB, zero_checksum_payload(field(&six, 60)));
    assert_eq!(field(&oracle::on_substrate(Layout::Slot64, &ALICE, &BOB, &crossing), 60), 0xffff);
    cross(Layout::Slot64, &ALICE, &BOB, BOB.dummy(), ALICE.dummy(), &crossing);

    of_zeros.ttl = 60;
    let four = frames::ipv4(BOB.mac(), ALICE.dummy(), &of_zeros);
    let arriving = shape(&ALICE, &BOB, zero_checksum_payload(field(&four, 40)));
    assert_eq!(field(&frames::ipv4(BOB.mac(), ALICE.dummy(), &arriving), 40), 0xffff);
    cross(Layout::Slot64, &ALICE, &BOB, BOB.dummy(), ALICE.dummy(), &arriving);
}

#[test]
fn packet_that_was_too_large_for_some_ipv6_link_may_not_be_cut_in_ipv4() {
    // The oracle says so too: up to 1260 bytes of IPv4 the flag is clear, and set above (RFC 7915, 5.1).
    for length in [1260, 1261] {
        let shape = shape(&ALICE, &BOB, udp(&vec![1; length - 28]));
        cross(Layout::Slot64, &ALICE, &BOB, BOB.dummy(), ALICE.dummy(), &shape);
    }
}
