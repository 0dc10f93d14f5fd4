//! Fragments over both engines: cut by nodes or by an engine, in any order, complete or not.

use crate::frames::{self, Transport, echo, shape, tcp, udp};
use crate::world::*;
use core::time::Duration;
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::path_mtu::PathMtus;
use std::sync::Arc;

const LAYOUT: Layout = Layout::Slot64;

/// A frame of Alice's for Bob that may be cut.
fn may_be_cut(transport: Transport) -> Vec<u8> {
    let mut packet = shape(&ALICE, &BOB, transport);
    packet.dont_fragment = false;
    frames::ipv4(BOB.dummy(), ALICE.mac(), &packet)
}

/// The frame cut into IPv4 fragments of at most `most` payload bytes, a multiple of eight.
fn cut(frame: &[u8], most: usize) -> Vec<Vec<u8>> {
    let (headers, payload) = frame.split_at(34);
    let count = payload.len().div_ceil(most);
    let cut = |(index, part): (usize, &[u8])| {
        let mut fragment = [headers, part].concat();
        fragment[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        let more = if index + 1 < count { 0x2000 } else { 0 };
        let word = (index * most / 8) as u16 | more;
        fragment[20..22].copy_from_slice(&word.to_be_bytes());
        fix_ipv4_checksum(&mut fragment);
        fragment
    };
    payload.chunks(most).enumerate().map(cut).collect()
}

/// Puts IPv4 fragments together; they must be in order, without gaps, and of one datagram.
#[track_caller]
fn put_together(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (index, fragment) in fragments.iter().enumerate() {
        let word = u16::from_be_bytes([fragment[20], fragment[21]]);
        assert_eq!(usize::from(word & 0x1fff) * 8, payload.len());
        assert_eq!(word & 0x4000, 0, "DF");
        assert_eq!(word & 0x2000 != 0, index + 1 < fragments.len(), "MF");
        assert_eq!((&fragment[18..20], &fragment[22..24]), (&fragments[0][18..20], &fragments[0][22..24]));
        assert_eq!(fragment.len() - 14, usize::from(u16::from_be_bytes([fragment[16], fragment[17]])));
        payload.extend(&fragment[34..]);
    }
    payload
}

fn across(there: &mut Engine, mut frame: Vec<u8>) -> Outcome {
    frame[0..6].copy_from_slice(&uplink_mac(1).0);
    there.receive(UPLINK, &frame)
}

fn bytes_of(outcome: Outcome) -> Vec<Vec<u8>> {
    outcome.sent.into_iter().map(|sent| sent.bytes).collect()
}

#[test]
fn nodes_fragments_cross_one_by_one_and_make_the_same_datagram() {
    let number = |number| Transport::Other { number, payload: vec![5; 3000] };
    for transport in [udp(&[3; 3000]), tcp(&[4; 3000]), echo(&[5; 3000]), number(132), number(50)] {
        let [mut here, mut there] = world(LAYOUT);
        let whole = may_be_cut(transport);
        let mut arrived = Vec::new();
        for fragment in cut(&whole, 1024) {
            let sent = here.receive(ALICE.port, &fragment).only();
            assert_eq!(sent.bytes[20], 44, "a fragment header");
            assert_eq!(sent.bytes[58..62], [0, 0, 0x43, 0x21], "the identification");
            arrived.push(across(&mut there, sent.bytes).only().bytes);
        }
        assert_eq!(arrived.len(), 3);
        assert_eq!(put_together(&arrived), whole[34..]);
    }
}

#[test]
fn engine_cuts_what_may_be_cut_and_does_not_fit() {
    for transport in [udp(&[3; 1460]), echo(&[5; 1460]), tcp(&[4; 1440])] {
        let [mut here, mut there] = world(LAYOUT);
        let whole = may_be_cut(transport);
        let sent = bytes_of(here.receive(ALICE.port, &whole));
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|frame| frame.len() <= 14 + usize::from(UPLINK_MTU)));
        let arrived: Vec<_> = sent.into_iter().map(|frame| across(&mut there, frame).only().bytes).collect();
        assert_eq!(put_together(&arrived), whole[34..]);
    }
}

#[test]
fn engine_cuts_to_the_path_and_to_the_lowest_mtu_that_is_set() {
    let whole = may_be_cut(udp(&[3; 1400]));
    let largest = |here: &mut Engine| {
        let sent = bytes_of(here.receive(ALICE.port, &whole));
        sent.iter().map(|frame| frame.len() - 14).max().unwrap()
    };
    let mut here = Engine::new(LAYOUT, 0);
    assert_eq!(largest(&mut here), 1448, "whole");
    here.snapshot.translate.lowest_ipv6_mtu = Some(1280);
    assert_eq!(largest(&mut here), 1280);
    // What may not be cut does not care.
    here.receive(ALICE.port, &frames::to_node(&ALICE, &BOB, udp(&[3; 1400]))).only();
    here.snapshot.translate.lowest_ipv6_mtu = None;
    let mut paths = PathMtus::default();
    paths.insert(prefix(LAYOUT, 1), 1304);
    here.snapshot.path_mtus = Arc::new(paths);
    assert_eq!(largest(&mut here), 1304);
}

#[test]
fn engine_cuts_between_nodes_of_one_host() {
    let mut here = Engine::new(LAYOUT, 0);
    let mut packet = shape(&ALICE, &ANNA, udp(&[3; 1480]));
    packet.dont_fragment = false;
    let whole = frames::ipv4(ANNA.dummy(), ALICE.mac(), &packet);
    let arrived = bytes_of(here.receive(ALICE.port, &whole));
    assert_eq!(arrived.len(), 2);
    assert_eq!(put_together(&arrived), whole[34..]);
}

#[test]
fn fragments_before_the_first_wait_for_it() {
    let whole = may_be_cut(udp(&[3; 5000]));
    let mut here = Engine::new(LAYOUT, 0);
    let fragments = cut(&whole, 1024);
    for fragment in fragments[1..].iter().rev() {
        let outcome = here.receive(ALICE.port, fragment);
        assert_eq!((outcome.sent.len(), outcome.dropped()), (0, 0), "held");
    }
    assert!(here.pipeline.is_holding());
    let outcome = here.receive(ALICE.port, &fragments[0]);
    assert_eq!((outcome.sent.len(), outcome.dropped()), (fragments.len(), 0));
    assert!(!here.pipeline.is_holding());
    assert_eq!(here.pool.outstanding(), 0);
}

#[test]
fn fragments_whose_first_does_not_come_are_dropped_in_time() {
    let fragments = cut(&may_be_cut(udp(&[3; 3000])), 1024);
    let mut here = Engine::new(LAYOUT, 0);
    here.receive(ALICE.port, &fragments[1]);
    here.receive(ALICE.port, &fragments[2]);
    here.expire();
    assert_eq!(here.pool.outstanding(), 2);
    here.clock.advance(Duration::from_secs(2));
    here.expire();
    assert_eq!(here.pool.outstanding(), 0);
    let counted = here.total("node1", DropReason::FragmentWithoutFirst);
    assert_eq!(counted, 2);
}

#[test]
fn fragments_that_are_an_attack_are_refused_by_name() {
    let whole = may_be_cut(udp(&[3; 3000]));
    let mut here = Engine::new(LAYOUT, 0);
    let fragments = cut(&whole, 1024);
    here.receive(ALICE.port, &fragments[0]).only();
    here.refuses(ALICE.port, &fragments[0], "node1", DropReason::FragmentOverlap);
    // Over the end of the first, as teardrop did.
    let mut teardrop = fragments[1].clone();
    teardrop[21] -= 1;
    fix_ipv4_checksum(&mut teardrop);
    here.refuses(ALICE.port, &teardrop, "node1", DropReason::FragmentOverlap);
    here.refuses(ALICE.port, &fragments[1], "node1", DropReason::FragmentOverlap);

    let mut tiny = cut(&may_be_cut(tcp(&[4; 100])), 16).remove(0);
    here.refuses(ALICE.port, &tiny, "node1", DropReason::FragmentTiny);
    tiny[21] = 1;
    fix_ipv4_checksum(&mut tiny);
    here.refuses(ALICE.port, &tiny, "node1", DropReason::FragmentTiny);
    let mut death = fragments[1].clone();
    death[20..22].copy_from_slice(&0x1fff_u16.to_be_bytes());
    fix_ipv4_checksum(&mut death);
    here.refuses(ALICE.port, &death, "node1", DropReason::FragmentMalformed);
}

#[test]
fn datagram_whose_first_fragment_is_refused_goes_no_further() {
    let mut fragments = cut(&may_be_cut(udp(&[3; 3000])), 1024);
    fragments[0][40..42].fill(0);
    let mut here = Engine::new(LAYOUT, 0);
    here.refuses(ALICE.port, &fragments[0], "node1", DropReason::UdpChecksumZero);
    here.refuses(ALICE.port, &fragments[1], "node1", DropReason::UdpChecksumZero);
    here.refuses(ALICE.port, &fragments[2], "node1", DropReason::UdpChecksumZero);
}

#[test]
fn fragments_of_icmp_are_refused_where_they_are_not_to_be_carried() {
    let fragments = cut(&may_be_cut(echo(&[3; 3000])), 1024);
    let mut here = Engine::new(LAYOUT, 0);
    here.snapshot.translate.carry_fragmented_icmp = false;
    here.refuses(ALICE.port, &fragments[0], "node1", DropReason::FragmentIcmp);
}

#[test]
fn fragments_that_do_not_fit_are_told_8_bytes_less() {
    let mut fragment = cut(&may_be_cut(udp(&[3; 3000])), 1456).remove(0);
    fragment[20] |= 0x40;
    fix_ipv4_checksum(&mut fragment);
    let outcome = Engine::new(LAYOUT, 0).receive(ALICE.port, &fragment);
    let error = &outcome.sent[0].bytes;
    assert_eq!((error[34], error[35]), (3, 4));
    assert_eq!(u16::from_be_bytes([error[40], error[41]]), UPLINK_MTU - 28);
}
