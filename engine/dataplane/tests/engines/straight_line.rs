//! The straight line and the way of any packet are one: what becomes of a packet does not depend on which it takes.
//!
//! A frame whose first segment ends inside its Ethernet header is for the way of any packet, whatever it is. So each burst
//! goes through two engines, as it is and with every frame cut there, and nothing may be different.

use crate::frames::{self, Shape, Transport};
use crate::oracle;
use crate::world::*;
use overlane_dataplane::address::Layout;
use overlane_dataplane::packet::{Checksum, Offload, Segmentation, SegmentationKind};
use proptest::prelude::*;
use proptest::sample::select;

/// Inside the Ethernet header.
const CUT: usize = 13;

/// A frame on its way, and what is left to a device.
type Frame = (Vec<u8>, Offload);

fn transports() -> impl Strategy<Value = Transport> {
    let payload = || prop_oneof![4 => prop::collection::vec(any::<u8>(), 0..64), 1 => prop::collection::vec(any::<u8>(), 1200..1480)];
    prop_oneof![
        4 => (0usize..=2, payload()).prop_map(|(words, payload)| Transport::Tcp { options: words * 4, payload }),
        4 => payload().prop_map(|payload| Transport::Udp { payload }),
        1 => payload().prop_map(|payload| Transport::EchoRequest { payload }),
        1 => (select(&[47u8, 50, 132]), payload()).prop_map(|(number, payload)| Transport::Other { number, payload }),
    ]
}

fn shapes() -> impl Strategy<Value = Shape> {
    let node = select(&[BOB, BOB, BOB, BERTA, ANNA, DOWN]);
    let ttl = prop_oneof![4 => 3u8..=255, 1 => 0u8..3];
    (transports(), node, any::<u8>(), ttl, any::<u16>(), any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(transport, node, tos, ttl, identification, dont_fragment, options)| Shape {
            source: ALICE.ipv4,
            destination: node.ipv4,
            tos,
            ttl,
            identification,
            dont_fragment,
            options: vec![1; if options { 4 } else { 0 }],
            transport,
        },
    )
}

/// Most are as their transport has it, at `transport` bytes into the frame.
fn offloads(transport: u16) -> impl Strategy<Value = Offload> {
    let right = select(&[16u16, 6]).prop_map(move |offset| Checksum::Partial { start: transport, offset });
    let wrong = (any::<u16>(), any::<u16>()).prop_map(|(start, offset)| Checksum::Partial { start, offset });
    let checksum =
        prop_oneof![6 => Just(Checksum::Complete), 2 => Just(Checksum::Verified), 4 => right, 1 => wrong];
    let kind = select(&[SegmentationKind::Tcp { ecn: false }, SegmentationKind::Udp]);
    let cut = (kind, select(&[0u16, 8, 1000])).prop_map(|(kind, size)| Segmentation { kind, size });
    (checksum, prop::option::weighted(0.1, cut))
        .prop_map(|(checksum, segmentation)| Offload { checksum, segmentation })
}

/// Bytes that are written over others: anywhere in the headers, or where the straight line decides by them: Ethernet,
/// version and length, flags, addresses, checksum and length of UDP, data offset and flags of TCP.
fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let place = prop_oneof![
        0usize..80,
        select(&[0usize, 6, 12, 14, 17, 20, 21, 26, 33, 38, 40, 41, 46, 47, 58, 60, 61, 66, 67])
    ];
    let value = prop_oneof![any::<u8>(), Just(0), Just(2), Just(0x50)];
    prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec((place, value), 1..3)]
}

/// What takes more than a change of one byte.
#[derive(Debug, Clone, Copy)]
enum Special {
    None,
    /// UDP without a checksum.
    NoChecksum,
    /// A SYN with an MSS of 1460.
    Syn,
}

fn specials() -> impl Strategy<Value = Special> {
    prop_oneof![6 => Just(Special::None), 1 => Just(Special::NoChecksum), 1 => Just(Special::Syn)]
}

impl Special {
    /// Makes the transport at `at` in the frame a special one, if it is what that is.
    fn make(self, transport: &Transport, frame: &mut [u8], at: usize) {
        match (self, transport) {
            (Self::NoChecksum, Transport::Udp { .. }) => frame[at + 6..at + 8].fill(0),
            (Self::Syn, Transport::Tcp { options: 4.., .. }) => {
                frame[at + 13] = 0x02;
                frame[at + 20..at + 24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
            }
            _ => {}
        }
    }
}

fn change(frame: &mut Vec<u8>, changes: &[(usize, u8)], padding: usize) {
    for (place, value) in changes {
        if let Some(byte) = frame.get_mut(*place) {
            *byte = *value;
        }
    }
    frame.resize(frame.len() + padding, 0xa5);
}

/// How long a frame is beyond what its packet says.
fn paddings() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0usize), 1 => 1usize..30]
}

fn from_alice() -> impl Strategy<Value = Frame> {
    let hop = prop_oneof![6 => Just(None), 1 => select(&[GATEWAY, BOB.ipv4]).prop_map(Some)];
    (shapes(), hop, offloads(34), specials(), changes(), paddings(), prop::bool::weighted(0.8)).prop_map(
        |(shape, hop, offload, special, changes, padding, fix)| {
            let mac = dummy(ALICE.vnet, hop.unwrap_or(shape.destination));
            let mut frame = frames::ipv4(mac, ALICE.mac(), &shape);
            special.make(&shape.transport, &mut frame, 34 + shape.options.len());
            change(&mut frame, &changes, padding);
            if fix && frame[14] & 0xf >= 5 && frame.len() >= 14 + usize::from(frame[14] & 0xf) * 4 {
                fix_ipv4_checksum(&mut frame);
            }
            (frame, offload)
        },
    )
}

fn from_substrate(layout: Layout) -> impl Strategy<Value = Frame> {
    let source = select(&[ALICE, ALICE, ALICE, ANNA, STRANGER, DOWN, BERTA]);
    // Some in the slot of one node with the vnet and the address of another, which is nobody's.
    let in_slot_of = |slot: u8, node: Node| Node { slot, ..node };
    let target = select(vec![
        BOB,
        BOB,
        BOB,
        BERTA,
        OTHER_BOB,
        in_slot_of(BOB.slot, OTHER_BOB),
        in_slot_of(OTHER_BOB.slot, BOB),
        in_slot_of(BOB.slot, BERTA),
    ]);
    (shapes(), source, target, offloads(54), specials(), changes(), paddings()).prop_map(
        move |(mut shape, source, target, offload, special, changes, padding)| {
            shape.ttl = shape.ttl.max(2);
            let sent = frames::ipv6(
                ROUTER,
                uplink_mac(source.host),
                (address(layout, &source), address(layout, &target)),
                &shape,
            );
            let mut frame = oracle::routed(&sent, &target);
            special.make(&shape.transport, &mut frame, 54);
            change(&mut frame, &changes, padding);
            (frame, offload)
        },
    )
}

/// What came of a burst, without identifications: each engine gives them in an order of its own.
fn outcome(engine: &mut Engine, port: u16, burst: &[Frame], cuts: &[usize]) -> Outcome {
    let packets: Vec<_> = burst.iter().map(|(frame, offload)| engine.packet(frame, cuts, *offload)).collect();
    let mut outcome = engine.receive_packets(port, packets);
    for sent in &mut outcome.sent {
        if sent.bytes[12..14] == [0x08, 0x00] && sent.bytes.len() >= 34 && port == UPLINK {
            sent.bytes[18..20].fill(0);
            fix_ipv4_checksum(&mut sent.bytes);
        }
    }
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn packets_of_a_node_fare_the_same_on_either_way(
        burst in prop::collection::vec(from_alice(), 1..12), layout in select(&Layout::ALL),
        clamp in any::<bool>(), copy in any::<bool>(), lowest in prop::option::of(Just(1280)),
        narrow in prop::option::of(Just(1300)),
    ) {
        let [line, any] = [&[][..], &[CUT]].map(|cuts| {
            let mut engine = Engine::new(layout, 0);
            engine.snapshot.translate.clamp_tcp_mss = clamp;
            engine.snapshot.translate.copy_traffic_class = copy;
            engine.snapshot.translate.lowest_ipv6_mtu = lowest;
            engine.snapshot.path_mtus =
                std::sync::Arc::new(narrow.map(|mtu| (prefix(layout, 1), mtu)).into_iter().collect());
            outcome(&mut engine, ALICE.port, &burst, cuts)
        });
        prop_assert_eq!(line, any);
    }

    #[test]
    fn packets_from_the_substrate_fare_the_same_on_either_way(
        (layout, burst) in select(&Layout::ALL).prop_flat_map(|layout| {
            (Just(layout), prop::collection::vec(from_substrate(layout), 1..12))
        }),
        clamp in any::<bool>(), copy in any::<bool>(), moved in any::<bool>(),
    ) {
        let [line, any] = [&[][..], &[CUT]].map(|cuts| {
            let mut engine = Engine::new(layout, 1);
            engine.snapshot.translate.clamp_tcp_mss = clamp;
            engine.snapshot.translate.copy_traffic_class = copy;
            if moved {
                engine.map(&ALICE, |mapping| mapping.also_accept = Some(locator(layout, 2, 9, ALICE.vnet)));
            }
            outcome(&mut engine, UPLINK, &burst, cuts)
        });
        prop_assert_eq!(line, any);
    }
}

/// Of a burst with a bit of everything, what is sent to one place comes there in the order it was received in.
#[test]
fn order_is_kept_between_packets_on_the_line_and_others() {
    let mut here = Engine::new(Layout::Slot64, 0);
    let transports = |index: u8| match index % 3 {
        0 => frames::tcp(&[index; 40]),
        1 => frames::echo(&[index; 40]),
        _ => frames::udp(&[index; 40]),
    };
    let burst: Vec<Frame> = (0..64)
        .map(|index| {
            let shape = frames::shape(&ALICE, &BOB, transports(index));
            (frames::ipv4(BOB.dummy(), ALICE.mac(), &shape), Offload::default())
        })
        .collect();
    let sent = outcome(&mut here, ALICE.port, &burst, &[]).sent;
    let order: Vec<u8> = sent.iter().map(|sent| *sent.bytes.last().unwrap()).collect();
    assert_eq!(order, (0..64).collect::<Vec<u8>>());
}
