//! What holds for every packet: right ones arrive unchanged, wrong checksums stay wrong, and whatever the bytes are,
//! each packet is sent, punted, or counted once (the world asserts that for every burst).

use crate::frames::{self, Shape, Transport};
use crate::oracle;
use crate::world::*;
use overlane_dataplane::address::Layout;
use overlane_dataplane::packet::{Checksum, Offload, Segmentation, SegmentationKind};
use overlane_dataplane::segment::Capabilities;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn transports() -> impl Strategy<Value = Transport> {
    let payload = || prop::collection::vec(any::<u8>(), 0..1300);
    prop_oneof![
        (0usize..=10, payload()).prop_map(|(words, payload)| Transport::Tcp { options: words * 4, payload }),
        payload().prop_map(|payload| Transport::Udp { payload }),
        payload().prop_map(|payload| Transport::EchoRequest { payload }),
        payload().prop_map(|payload| Transport::EchoReply { payload }),
        (select(&[4u8, 47, 50, 89, 132, 255]), payload())
            .prop_map(|(number, payload)| Transport::Other { number, payload }),
    ]
}

/// A packet from Alice to Bob that can cross two engines and a router.
fn shapes() -> impl Strategy<Value = Shape> {
    (transports(), any::<u8>(), 4u8..=255, any::<u16>(), any::<bool>(), 0usize..=10).prop_map(
        |(transport, tos, ttl, identification, dont_fragment, words)| Shape {
            source: ALICE.ipv4,
            destination: BOB.ipv4,
            tos,
            ttl,
            identification,
            dont_fragment,
            options: vec![1; words * 4],
            transport,
        },
    )
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..1500, 0..4)
}

/// Where the frame's transport begins, and where in it the checksum is.
fn checksum_place(frame: &[u8]) -> Option<usize> {
    let (transport, number) = match frame[14] >> 4 {
        4 => (14 + usize::from(frame[14] & 0xf) * 4, frame[23]),
        _ => (54, frame[20]),
    };
    let offset = match number {
        6 => 16,
        17 => 6,
        1 | 58 => 2,
        _ => return None,
    };
    Some(transport + offset)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn packet_arrives_as_if_built_anew_and_its_transport_is_untouched(
        shape in shapes(), layout in select(&Layout::ALL), cuts in cuts(),
    ) {
        let [mut here, mut there] = world(layout);
        let frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &shape);
        let packet = here.packet(&frame, &cuts, Offload::default());
        let sent = here.receive_packets(ALICE.port, [packet]).only();
        prop_assert_eq!(&sent.bytes, &oracle::on_substrate(layout, &ALICE, &BOB, &shape));

        let packet = there.packet(&oracle::routed(&sent.bytes, &BOB), &cuts, Offload::default());
        let sent = there.receive_packets(UPLINK, [packet]).only();
        prop_assert_eq!(&sent.bytes, &oracle::at_node(ALICE.dummy(), &BOB, &shape, 1, &sent.bytes));
        prop_assert_eq!(&sent.bytes[34..], &frame[34 + shape.options.len()..]);
    }

    #[test]
    fn wrong_checksum_stays_wrong(shape in shapes(), error in 1u16..0xffff) {
        let [mut here, mut there] = world(Layout::Slot64);
        let mut frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &shape);
        let Some(place) = checksum_place(&frame) else { return Ok(()) };
        let field = |frame: &[u8]| {
            let place = checksum_place(frame).unwrap();
            u16::from_be_bytes([frame[place], frame[place + 1]])
        };
        // One's-complement addition: never the same number again.
        let sum = u32::from(field(&frame)) + u32::from(error);
        let wrong = ((sum & 0xffff) + (sum >> 16)) as u16;
        prop_assume!(wrong != 0);
        frame[place..place + 2].copy_from_slice(&wrong.to_be_bytes());

        let sent = here.receive(ALICE.port, &frame).only();
        let right = oracle::on_substrate(Layout::Slot64, &ALICE, &BOB, &shape);
        prop_assert_ne!(field(&sent.bytes) % 0xffff, field(&right) % 0xffff);
        let sent = there.receive(UPLINK, &oracle::routed(&sent.bytes, &BOB)).only();
        prop_assert_eq!(field(&sent.bytes) % 0xffff, wrong % 0xffff);
    }

    #[test]
    fn any_bytes_are_accounted_for(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
        layout in select(&Layout::ALL), port in select(&[UPLINK, 1, 7]), offload in offloads(), cuts in cuts(),
    ) {
        let mut here = Engine::new(layout, 0);
        let packets: Vec<_> = frames.iter().map(|frame| here.packet(frame, &cuts, offload)).collect();
        here.receive_packets(port, packets);
    }

    #[test]
    fn changed_packets_are_accounted_for_and_so_is_what_comes_of_them(
        shape in shapes(), up in any::<bool>(), layout in select(&Layout::ALL), offload in offloads(), cuts in cuts(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4), fix in any::<bool>(),
        length in prop::option::of(any::<Index>()),
    ) {
        let [mut here, mut there] = world(layout);
        let mut frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &shape);
        if !up {
            frame = oracle::routed(&here.receive(ALICE.port, &frame).only().bytes, &BOB);
        }
        for (place, value) in changes {
            // Headers, most of the time.
            let place = place.index(frame.len().min(80));
            frame[place] = value;
        }
        if fix && up && frame.len() >= 14 + usize::from(frame[14] & 0xf) * 4 && frame[14] & 0xf >= 5 {
            fix_ipv4_checksum(&mut frame);
        }
        if let Some(length) = length {
            frame.truncate(length.index(frame.len() + 1));
        }
        let (engine, port) = if up { (&mut here, ALICE.port) } else { (&mut there, UPLINK) };
        let packet = engine.packet(&frame, &cuts, offload);
        let outcome = engine.receive_packets(port, [packet]);
        for sent in &outcome.sent {
            // Nothing but NoBuffer may be left to refuse after the stages, and the pool is large enough.
            let finished = engine.finish(Capabilities::default(), sent, &cuts);
            prop_assert_eq!(finished.result, Ok(()), "{:?}", sent);
            prop_assert!(!finished.frames.is_empty());
        }
    }

    #[test]
    fn finishing_any_bytes_panics_and_leaks_nothing(
        frame in prop::collection::vec(any::<u8>(), 0..200), offload in offloads(), cuts in cuts(),
    ) {
        let here = Engine::new(Layout::Slot64, 0);
        here.finish(Capabilities::default(), &Sent { port: UPLINK, bytes: frame, offload }, &cuts);
    }
}

/// Offloads that agree with a packet, and some that do not.
fn offloads() -> impl Strategy<Value = Offload> {
    let place = |number: &[u16]| select(number.to_vec());
    let partial = (place(&[34, 54, 38, 0, 0xffff]), place(&[16, 6, 2, 8, 0xffff]))
        .prop_map(|(start, offset)| Checksum::Partial { start, offset });
    let checksum = prop_oneof![4 => Just(Checksum::Complete), 1 => Just(Checksum::Verified), 3 => partial];
    let kind = select(vec![SegmentationKind::Tcp { ecn: false }, SegmentationKind::Udp]);
    let segmentation =
        (kind, select(vec![0u16, 1, 100, 1000, 0xffff])).prop_map(|(kind, size)| Segmentation { kind, size });
    (checksum, prop::option::weighted(0.3, segmentation))
        .prop_map(|(checksum, segmentation)| Offload { checksum, segmentation })
}

#[test]
fn every_truncation_of_every_kind_of_packet_is_accounted_for() {
    let payload = b"some payload".to_vec();
    let transports = [
        Transport::Tcp { options: 40, payload: payload.clone() },
        Transport::Udp { payload: payload.clone() },
        Transport::EchoRequest { payload: payload.clone() },
        Transport::Other { number: 47, payload },
    ];
    let [mut here, mut there] = world(Layout::Slot64);
    for transport in transports {
        let mut shape = frames::shape(&ALICE, &BOB, transport);
        shape.options = vec![1; 12];
        let frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &shape);
        let arriving = oracle::routed(&here.receive(ALICE.port, &frame).only().bytes, &BOB);
        for (engine, port, frame) in [(&mut here, ALICE.port, &frame), (&mut there, UPLINK, &arriving)] {
            for length in 0..frame.len() {
                let outcome = engine.receive(port, &frame[..length]);
                assert_eq!(outcome.dropped(), 1, "{length}: {outcome:?}");
            }
            // At every place cut into two segments, it passes.
            for cut in 0..=frame.len() {
                let packet = engine.packet(frame, &[cut], Offload::default());
                engine.receive_packets(port, [packet]).only();
            }
        }
    }
    let request = frames::who_has(&ALICE, BOB.ipv4);
    for length in 0..request.len() {
        assert_eq!(here.receive(ALICE.port, &request[..length]).dropped(), 1);
    }
}
