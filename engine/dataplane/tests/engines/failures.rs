//! What is told of refused senders: exactly those, with where they came from; and nothing during a move.

use crate::frames::{self, udp};
use crate::world::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::failure::{Claim, Failure, Origin};
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::table::mapping::State;

const LAYOUTS: [Layout; 3] = [Layout::Slot64, Layout::Plain72, Layout::Plain64];

/// What an engine has to tell by now.
fn told(engine: &Engine) -> Vec<Failure> {
    let mut told = Vec::new();
    engine.pipeline.failures().hand_over(|failure| {
        told.push(failure);
        true
    });
    assert!(!engine.pipeline.failures().is_waiting());
    told
}

/// The one thing that it has to tell.
#[track_caller]
fn only(engine: &Engine) -> Failure {
    let told = told(engine);
    assert_eq!(told.len(), 1, "{told:?}");
    told[0]
}

fn origin(address: Ipv6Addr, length: u8) -> Origin {
    Origin::Substrate(Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> length)))
}

/// An engine that has got packets from `from` to Bob.
fn bobs(layout: Layout, from: Ipv6Addr, count: usize) -> Engine {
    let mut there = Engine::new(layout, 1);
    for _ in 0..count {
        there.receive(UPLINK, &frames::from_substrate(1, (from, address(layout, &BOB)), udp(b"forged")));
    }
    there
}

#[test]
fn forged_sources_are_told_with_their_prefix_in_every_layout() {
    for layout in LAYOUTS {
        let length = layout.prefix_length();
        let at = |host, slot, vnet, ipv4| locator(layout, host, slot, vnet).address(ipv4);
        let nobody = Ipv4Addr::new(10, 0, 0, 200);
        let elsewhere = at(2, ALICE.slot, 7, ALICE.ipv4);
        for (reason, from, known) in [
            (DropReason::SrcPrefixMismatch, elsewhere, Some(vnet(7))),
            (DropReason::SrcUnknownNode, at(0, 1, 7, nobody), Some(vnet(7))),
            (DropReason::SrcOwnPrefix, at(1, BOB.slot, 7, BOB.ipv4), Some(vnet(7))),
            // A vnet that is made up is no way to be told under another name each time.
            (DropReason::SrcUnknownVnet, at(0, 1, 1234, ALICE.ipv4), None),
            (DropReason::SrcAddressInvalid, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), None),
        ] {
            let there = bobs(layout, from, 3);
            let (vnet, claim) = (known, Some(Claim::Source(from)));
            let wanted = Failure { reason, origin: origin(from, length), vnet, claim, count: 3 };
            assert_eq!(only(&there), wanted, "{layout}");
        }
        assert_eq!(told(&bobs(layout, address(layout, &ALICE), 5)), [], "a good packet costs nothing");
    }
}

#[test]
fn wrong_slots_and_senders_that_are_down_are_told() {
    let layout = Layout::Slot64;
    let there = bobs(layout, locator(layout, 0, 2, 7).address(ALICE.ipv4), 2);
    let told = only(&there);
    assert_eq!((told.reason, told.count, told.vnet), (DropReason::SrcSlotMismatch, 2, Some(vnet(7))));

    let mut there = Engine::new(layout, 1);
    there.map(&ALICE, |mapping| mapping.state = State::Down);
    let ends = (address(layout, &ALICE), address(layout, &BOB));
    there.receive(UPLINK, &frames::from_substrate(1, ends, udp(b"dead")));
    assert_eq!(only(&there).reason, DropReason::SrcNotLive);

    // Bob's address in another's slot.
    let wrong = locator(layout, 1, OTHER_BOB.slot, 7).address(BOB.ipv4);
    there.receive(UPLINK, &frames::from_substrate(1, (ends.0, wrong), udp(b"to another slot")));
    let told = only(&there);
    assert_eq!((told.reason, told.origin), (DropReason::SlotMismatch, origin(ends.0, 64)));
}

#[test]
fn mismatches_during_a_move_are_counted_and_not_told() {
    let layout = Layout::Slot64;
    let mut there = Engine::new(layout, 1);
    there.map(&ALICE, |mapping| mapping.also_accept = Some(locator(layout, 2, 33, 7)));
    let forged = |from| frames::from_substrate(1, (from, address(layout, &BOB)), udp(b"forged"));
    let third = forged(locator(layout, 3, 1, 7).address(ALICE.ipv4));
    there.refuses(UPLINK, &third, "vnet 7", DropReason::SrcPrefixMismatch);
    let slot = forged(locator(layout, 2, 34, 7).address(ALICE.ipv4));
    there.refuses(UPLINK, &slot, "vnet 7", DropReason::SrcSlotMismatch);
    there.map(&BOB, |mapping| mapping.also_accept = Some(locator(layout, 2, 33, 7)));
    let wrong = locator(layout, 1, OTHER_BOB.slot, 7).address(BOB.ipv4);
    let frame = frames::from_substrate(1, (address(layout, &ALICE), wrong), udp(b"to another slot"));
    there.refuses(UPLINK, &frame, "vnet 7", DropReason::SlotMismatch);
    assert_eq!(told(&there), []);

    there.map(&ALICE, |mapping| mapping.also_accept = None);
    there.refuses(UPLINK, &third, "vnet 7", DropReason::SrcPrefixMismatch);
    assert_eq!(only(&there).count, 1, "the move is over");
}

#[test]
fn nodes_that_claim_others_addresses_are_told_with_their_port() {
    let mut here = Engine::new(Layout::Slot64, 0);
    let mut frame = frames::to_node(&ALICE, &BOB, udp(b"payload"));
    frame[6..12].copy_from_slice(&ANNA.mac().0);
    here.receive(ALICE.port, &frame);
    let told = only(&here);
    assert_eq!((told.reason, told.origin), (DropReason::SrcMacSpoofed, Origin::Node(port(ALICE.port))));
    assert_eq!((told.vnet, told.claim), (Some(vnet(7)), Some(Claim::Mac(ANNA.mac()))));

    let mut frame = frames::to_node(&ALICE, &BOB, udp(b"payload"));
    frame[26..30].copy_from_slice(&ANNA.ipv4.octets());
    fix_ipv4_checksum(&mut frame);
    here.receive(ALICE.port, &frame);
    let told = only(&here);
    assert_eq!((told.reason, told.claim), (DropReason::SrcIpv4Spoofed, Some(Claim::Ipv4(ANNA.ipv4))));
    // Without an address yet: dropped, and nothing to tell.
    frame[26..30].fill(0);
    fix_ipv4_checksum(&mut frame);
    here.refuses(ALICE.port, &frame, "node1", DropReason::SrcIpv4Spoofed);

    for (mac, sender, claim) in [
        (ALICE.mac(), ANNA.ipv4, Claim::Ipv4(ANNA.ipv4)),
        (MacAddr([2, 0, 0, 0, 0, 9]), ALICE.ipv4, Claim::Mac(MacAddr([2, 0, 0, 0, 0, 9]))),
    ] {
        let mut frame = frames::who_has(&ALICE, BOB.ipv4);
        frame[22..28].copy_from_slice(&mac.0);
        frame[28..32].copy_from_slice(&sender.octets());
        here.receive(ALICE.port, &frame);
        let told = only(&here);
        assert_eq!((told.reason, told.claim), (DropReason::ArpSpoofed, Some(claim)));
    }
}
