//! IPv4 to IPv6 to IPv4, over two engines with a router between them, is the identity on all that the RFC preserves.

use super::packets::{cuts, plain_v4};
use super::translator::first_fragment;
use crate::build::{DONT_FRAGMENT, MORE_FRAGMENTS, V4};
use crate::reference::bytes::{checksum, sum, u16_at};
use crate::world::{self, Engine, UPLINK};
use overlane_dataplane::address::Layout;
use overlane_dataplane::packet::Offload;
use proptest::prelude::*;
use proptest::sample::select;

/// The engines of Alice's host and of Bob's.
struct Journey([Engine; 2]);

impl Journey {
    /// What Bob's node receives for a packet of Alice's, without Ethernet headers; nothing if it was refused.
    fn arrives(&mut self, packet: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let [here, there] = &mut self.0;
        let frame = [&world::BOB.dummy().0[..], &world::ALICE.mac().0, &[8, 0], packet].concat();
        let frame = here.packet(&frame, cuts, Offload::default());
        let sent = here.receive_packets(world::ALICE.port, [frame]).sent;
        let mut arrived = Vec::new();
        for sent in sent.iter().filter(|sent| sent.port == UPLINK) {
            let mut frame = sent.bytes.clone();
            frame[0..6].copy_from_slice(&world::uplink_mac(1).0);
            frame[6..12].copy_from_slice(&world::ROUTER.0);
            frame[21] -= 1;
            let frame = there.packet(&frame, cuts, Offload::default());
            let outcome = there.receive_packets(UPLINK, [frame]);
            assert_eq!(outcome.dropped(), 0, "{outcome:?}");
            let at_bob = outcome.sent.into_iter().map(|sent| {
                assert_eq!(sent.port, world::BOB.port);
                sent.bytes[14..].to_vec()
            });
            arrived.extend(at_bob);
        }
        arrived
    }
}

/// What is preserved of a packet's payload. Only a UDP datagram without checksum gets something new: a checksum, which
/// must be right.
fn preserved(packet: &V4, arrived: &[u8]) -> Vec<u8> {
    let mut payload = packet.payload.clone();
    let whole = packet.flags & !DONT_FRAGMENT == 0;
    if whole && packet.protocol == 17 && u16_at(&payload, 6) == 0 {
        let length = u16_at(&payload, 4);
        let pseudo =
            sum(&packet.source.octets()) + sum(&packet.destination.octets()) + 17 + u64::from(length);
        assert_eq!(checksum(pseudo + sum(&arrived[..length.into()])), 0, "computed checksum");
        payload[6..8].copy_from_slice(&arrived[6..8]);
    }
    payload
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn four_to_six_to_four_is_the_identity_on_all_that_is_preserved(
        packet in plain_v4(), layout in select(&Layout::ALL), cuts in cuts(),
    ) {
        // A host and a router more than what one translation takes.
        let packet = V4 { ttl: packet.ttl.max(4), ..packet };
        let mut journey = Journey([Engine::new(layout, 0), Engine::new(layout, 1)]);
        if let Some(first) = first_fragment(true, &packet.bytes()) {
            journey.arrives(&first, &[]);
        }
        let arrived = journey.arrives(&packet.bytes(), &cuts);
        let Some(first) = arrived.first() else { return Ok(()) };

        let is_fragment = packet.flags & !DONT_FRAGMENT != 0 || arrived.len() > 1;
        let mut offset = packet.flags & 0x1fff;
        let mut payload = Vec::new();
        for (index, part) in arrived.iter().enumerate() {
            prop_assert_eq!(part[0], 0x45);
            prop_assert_eq!(usize::from(u16_at(part, 2)), part.len());
            prop_assert_eq!((part[1], part[8], part[9]), (packet.tos, packet.ttl - 3, packet.protocol));
            prop_assert_eq!(&part[12..16], packet.source.octets());
            prop_assert_eq!(&part[16..20], packet.destination.octets());
            prop_assert_eq!(checksum(sum(&part[..20])), 0);
            let last = index + 1 == arrived.len();
            let more = !last || packet.flags & MORE_FRAGMENTS != 0;
            let flags = if is_fragment {
                prop_assert_eq!(u16_at(part, 4), packet.identification);
                offset | if more { MORE_FRAGMENTS } else { 0 }
            } else if part.len() > 1260 {
                DONT_FRAGMENT
            } else {
                0
            };
            prop_assert_eq!(u16_at(part, 6), flags);
            offset += (part.len() as u16 - 20) / 8;
            payload.extend_from_slice(&part[20..]);
        }
        prop_assert_eq!(&payload, &preserved(&packet, &payload));
        prop_assert!(first.len() > 20 || packet.payload.is_empty());
    }
}
