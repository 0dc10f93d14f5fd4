//! ARP from a node: who is answered, with what, and who is not.

use crate::frames::{arp, who_has};
use crate::world::*;
use core::net::Ipv4Addr;
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;

/// The answer that `node` must get for `target`, on its own port.
#[track_caller]
fn is_answered(request: &[u8], node: &Node, asker: Ipv4Addr, target: Ipv4Addr) {
    let mut here = Engine::new(Layout::Slot64, 0);
    let sent = here.receive(node.port, request).only();
    let dummy = dummy(node.vnet, target);
    assert_eq!(sent.port, node.port);
    assert_eq!(sent.bytes, arp((node.mac(), dummy), 2, (dummy, target), (node.mac(), asker)));
}

#[track_caller]
fn is_not_answered(request: &[u8], reason: DropReason) {
    Engine::new(Layout::Slot64, 0).refuses(ALICE.port, request, "node1", reason);
}

#[test]
fn live_destinations_and_gateways_are_answered_with_dummy_macs() {
    for target in [ANNA.ipv4, BOB.ipv4, BERTA.ipv4, GATEWAY, Ipv4Addr::new(10, 0, 1, 1)] {
        is_answered(&who_has(&ALICE, target), &ALICE, ALICE.ipv4, target);
    }
    is_answered(&who_has(&STRANGER, OTHER_BOB.ipv4), &STRANGER, STRANGER.ipv4, OTHER_BOB.ipv4);
}

#[test]
fn unicast_request_and_padded_request_are_answered() {
    let mut request = who_has(&ALICE, BOB.ipv4);
    request[0..6].copy_from_slice(&BOB.dummy().0);
    is_answered(&request, &ALICE, ALICE.ipv4, BOB.ipv4);
    request.resize(60, 0x55);
    is_answered(&request, &ALICE, ALICE.ipv4, BOB.ipv4);
}

#[test]
fn probe_is_answered_for_others_and_never_for_the_askers_own_address() {
    let probe = |target| {
        let sender = (ALICE.mac(), Ipv4Addr::UNSPECIFIED);
        arp((MacAddr::BROADCAST, ALICE.mac()), 1, sender, (MacAddr::ZERO, target))
    };
    is_answered(&probe(BOB.ipv4), &ALICE, Ipv4Addr::UNSPECIFIED, BOB.ipv4);
    is_not_answered(&probe(ALICE.ipv4), DropReason::ArpProbeOwn);
}

#[test]
fn what_does_not_exist_or_is_down_is_not_answered() {
    is_not_answered(&who_has(&ALICE, Ipv4Addr::new(10, 0, 0, 200)), DropReason::ArpTargetUnknown);
    is_not_answered(&who_has(&ALICE, DOWN.ipv4), DropReason::ArpTargetUnknown);
    // Berta's address exists in vnet 7 only.
    Engine::new(Layout::Slot64, 0).refuses(
        STRANGER.port,
        &who_has(&STRANGER, BERTA.ipv4),
        "node3",
        DropReason::ArpTargetUnknown,
    );
}

#[test]
fn announcements_replies_and_rarp_are_absorbed() {
    is_not_answered(&who_has(&ALICE, ALICE.ipv4), DropReason::ArpAbsorbed);
    let own = (ALICE.mac(), ALICE.ipv4);
    let reply = arp((BOB.dummy(), ALICE.mac()), 2, own, (BOB.dummy(), BOB.ipv4));
    is_not_answered(&reply, DropReason::ArpAbsorbed);
    let mut rarp = arp((MacAddr::BROADCAST, ALICE.mac()), 3, own, own);
    rarp[12..14].copy_from_slice(&[0x80, 0x35]);
    is_not_answered(&rarp, DropReason::ArpAbsorbed);
}

#[test]
fn spoofed_senders_are_refused() {
    let target = (MacAddr::ZERO, BOB.ipv4);
    let frame = (MacAddr::BROADCAST, ALICE.mac());
    is_not_answered(&arp(frame, 1, (ANNA.mac(), ALICE.ipv4), target), DropReason::ArpSpoofed);
    is_not_answered(&arp(frame, 1, (ALICE.mac(), ANNA.ipv4), target), DropReason::ArpSpoofed);
    is_not_answered(&arp(frame, 2, (ALICE.mac(), ANNA.ipv4), target), DropReason::ArpSpoofed);
    is_not_answered(&arp(frame, 2, (ALICE.mac(), Ipv4Addr::UNSPECIFIED), target), DropReason::ArpSpoofed);
    let frame = (MacAddr::BROADCAST, ANNA.mac());
    is_not_answered(&arp(frame, 1, (ALICE.mac(), ALICE.ipv4), target), DropReason::SrcMacSpoofed);
}

#[test]
fn malformed_arp_is_refused() {
    let request = who_has(&ALICE, BOB.ipv4);
    for place in 14..22 {
        let mut other = request.clone();
        other[place] ^= 0x10;
        is_not_answered(&other, DropReason::ArpMalformed);
    }
    is_not_answered(&request[..41], DropReason::FrameTruncated);
}
