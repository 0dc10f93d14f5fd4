//! Work left to devices: partial checksums and packets that stand for many, through translation and in software.

use crate::frames::{self, Transport, shape, tcp, udp};
use crate::oracle;
use crate::world::*;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::packet::{Checksum, Offload, Segmentation, SegmentationKind};
use overlane_dataplane::segment::{self, Capabilities};

const NONE: Capabilities = Capabilities { checksum: false, tcp_segmentation: false, udp_segmentation: false };
const CHECKSUM: Capabilities = Capabilities { checksum: true, ..NONE };
const TCP: SegmentationKind = SegmentationKind::Tcp { ecn: false };
const LAYOUT: Layout = Layout::Slot64;

/// The sum that a checksum starts from, as the frame's own addresses and length make it.
fn pseudo_sum(frame: &[u8]) -> u16 {
    let (transport, addresses, number) = match frame[14] >> 4 {
        4 => (14 + usize::from(frame[14] & 0xf) * 4, &frame[26..34], frame[23]),
        _ => (54, &frame[22..54], frame[20]),
    };
    let mut sum: u32 =
        addresses.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    sum += u32::from(number) + (frame.len() - transport) as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn checksum_place(frame: &[u8]) -> (usize, usize) {
    let (transport, number) = match frame[14] >> 4 {
        4 => (14 + usize::from(frame[14] & 0xf) * 4, frame[23]),
        _ => (54, frame[20]),
    };
    (transport, if number == 6 { 16 } else { 6 })
}

/// Leaves the frame's checksum to be done, as a node's kernel does.
fn make_partial(frame: &mut [u8], segmentation: Option<Segmentation>) -> Offload {
    let (start, offset) = checksum_place(frame);
    let sum = pseudo_sum(frame);
    frame[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
    Offload { checksum: Checksum::Partial { start: start as u16, offset: offset as u16 }, segmentation }
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 256) as u8).collect()
}

/// Payload and TCP header of a frame that must be right in every length and checksum.
#[track_caller]
fn right(frame: &[u8]) -> (Vec<u8>, Option<etherparse::TcpHeader>) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Tcp(slice)) = &packet.transport else {
        let Some(TransportSlice::Udp(slice)) = &packet.transport else { panic!("{frame:02x?}") };
        let (udp, payload) = (slice.to_header(), slice.payload());
        assert_eq!(usize::from(udp.length), payload.len() + 8);
        let expected = match packet.net.unwrap() {
            NetSlice::Ipv4(ip) => udp.calc_checksum_ipv4(&ip.header().to_header(), payload).unwrap(),
            NetSlice::Ipv6(ip) => udp.calc_checksum_ipv6(&ip.header().to_header(), payload).unwrap(),
            NetSlice::Arp(_) => panic!("ARP"),
        };
        assert_eq!(udp.checksum, expected);
        return (payload.to_vec(), None);
    };
    let (tcp, payload) = (slice.to_header(), slice.payload());
    let expected = match packet.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            tcp.calc_checksum_ipv4(&header, payload).unwrap()
        }
        NetSlice::Ipv6(ip) => tcp.calc_checksum_ipv6(&ip.header().to_header(), payload).unwrap(),
        NetSlice::Arp(_) => panic!("ARP"),
    };
    assert_eq!(tcp.checksum, expected);
    (payload.to_vec(), Some(tcp))
}

#[test]
fn partial_checksum_is_the_other_versions_pseudo_sum_and_completes_to_the_right_one() {
    for (transport, cuts) in [(tcp(&payload(777)), vec![]), (udp(&payload(776)), vec![100, 333])] {
        let [mut here, mut there] = world(LAYOUT);
        let shape = shape(&ALICE, &BOB, transport);
        let mut frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &shape);
        let offload = make_partial(&mut frame, None);
        let packet = here.packet(&frame, &cuts, offload);
        let sent = here.receive_packets(ALICE.port, [packet]).only();
        let (start, offset) = checksum_place(&sent.bytes);
        let checksum = Checksum::Partial { start: start as u16, offset: offset as u16 };
        assert_eq!(sent.offload, Offload { checksum, segmentation: None });
        let field = u16::from_be_bytes([sent.bytes[start + offset], sent.bytes[start + offset + 1]]);
        assert_eq!(field, pseudo_sum(&sent.bytes));

        let frames = here.finish(NONE, &sent, &cuts).frames;
        assert_eq!(frames[0].bytes, oracle::on_substrate(LAYOUT, &ALICE, &BOB, &shape));
        assert_eq!(frames[0].offload, Offload::default());
        assert_eq!(
            here.finish(CHECKSUM, &sent, &cuts).frames,
            std::slice::from_ref(&sent),
            "left to the device"
        );

        let packet = there.packet(&oracle::routed(&sent.bytes, &BOB), &cuts, sent.offload);
        let sent = there.receive_packets(UPLINK, [packet]).only();
        let frames = there.finish(NONE, &sent, &cuts).frames;
        assert_eq!(frames[0].bytes, oracle::at_node(ALICE.dummy(), &BOB, &shape, 1, &frames[0].bytes));
    }
}

#[test]
fn partial_checksum_of_zero_is_not_a_missing_one() {
    let mut here = Engine::new(LAYOUT, 0);
    let mut frame = frames::to_node(&ALICE, &BOB, udp(b"zero is a sum like any other"));
    let offload = make_partial(&mut frame, None);
    frame[40..42].fill(0);
    let packet = here.packet(&frame, &[], offload);
    here.receive_packets(ALICE.port, [packet]).only();
}

#[test]
fn datagram_whose_completed_checksum_is_zero_gets_ones() {
    let here = Engine::new(LAYOUT, 0);
    let frame = frames::to_node(&ALICE, &BOB, udp(&[0, 0]));
    let of_zeros = [frame[40], frame[41]];
    let mut frame = frames::to_node(&ALICE, &BOB, udp(&of_zeros));
    let whole = frame.clone();
    let offload = make_partial(&mut frame, None);
    let finished = here.finish(NONE, &Sent { port: UPLINK, bytes: frame, offload }, &[]);
    assert_eq!(finished.frames[0].bytes[40..42], [0xff, 0xff]);
    assert_eq!(finished.frames[0].bytes, whole);
}

#[test]
fn unknown_checksum_left_to_be_done_passes_between_nodes_of_one_host() {
    let mut here = Engine::new(LAYOUT, 0);
    let frame = frames::to_node(&ALICE, &ANNA, Transport::Other { number: 132, payload: payload(64) });
    let offload = Offload { checksum: Checksum::Partial { start: 34, offset: 8 }, segmentation: None };
    let packet = here.packet(&frame, &[], offload);
    let sent = here.receive_packets(ALICE.port, [packet]).only();
    assert_eq!((sent.offload, &sent.bytes[14..]), (offload, &frame[14..]));
}

/// A TCP packet that stands for many, with every flag that belongs to one end of it.
fn large_tcp(from: &Node, to: &Node, length: usize) -> Vec<u8> {
    let mut frame = frames::to_node(from, to, tcp(&payload(length)));
    frame[47] |= 0x81;
    frame
}

#[test]
fn large_tcp_packet_crosses_whole_with_segments_that_fit_and_is_cut_at_the_port() {
    let [mut here, mut there] = world(LAYOUT);
    let mut frame = large_tcp(&ALICE, &BOB, 10_000);
    let offload = make_partial(&mut frame, Some(Segmentation { kind: TCP, size: 1448 }));
    let cuts = [200, 2000, 2001, 5000];
    let packet = here.packet(&frame, &cuts, offload);
    let sent = here.receive_packets(ALICE.port, [packet]).only();
    // 1500 without 40 for IPv6 and 32 for TCP with its options.
    assert_eq!(sent.offload.segmentation, Some(Segmentation { kind: TCP, size: 1428 }));

    let finished = here.finish(NONE, &sent, &cuts);
    assert_eq!((finished.result, finished.frames.len()), (Ok(()), 8));
    let mut all = Vec::new();
    for (index, frame) in finished.frames.iter().enumerate() {
        let (payload, tcp) = right(&frame.bytes);
        let tcp = tcp.unwrap();
        assert!(frame.bytes.len() <= 14 + usize::from(UPLINK_MTU));
        assert_eq!(frame.offload, Offload::default());
        assert_eq!(tcp.sequence_number, 0x1020_3040 + index as u32 * 1428);
        let (first, last) = (index == 0, index == 7);
        assert_eq!((tcp.cwr, tcp.fin, tcp.psh, tcp.ack), (first, last, last, true));
        all.extend(payload);
    }
    assert_eq!(all, payload(10_000));

    // The device of the receiver has put them together again.
    let packet = there.packet(&oracle::routed(&sent.bytes, &BOB), &cuts, sent.offload);
    let sent = there.receive_packets(UPLINK, [packet]).only();
    assert_eq!(sent.offload.segmentation, Some(Segmentation { kind: TCP, size: 1428 }));
    let finished = there.finish(NONE, &sent, &[40, 41]);
    let mut all = Vec::new();
    let id = |frame: &Sent| u16::from_be_bytes([frame.bytes[18], frame.bytes[19]]);
    for (index, frame) in finished.frames.iter().enumerate() {
        all.extend(right(&frame.bytes).0);
        assert!(frame.bytes.len() <= 14 + usize::from(NODE_MTU));
        assert_eq!(id(frame), id(&finished.frames[0]).wrapping_add(index as u16));
    }
    assert_eq!(all, payload(10_000));
    let next = frames::from_substrate(1, (address(LAYOUT, &ALICE), address(LAYOUT, &BOB)), udp(b""));
    let next = there.receive(UPLINK, &next).only();
    assert_eq!(id(&next), id(&finished.frames[0]).wrapping_add(8), "no identification is used twice");
}

#[test]
fn jumbo_frames_are_cut_into_as_many_segments_as_a_buffer_is_too_small_for() {
    let mut here = Engine::new(LAYOUT, 0);
    here.change_uplink(|uplink| uplink.mtu = 9000);
    let mut frame = large_tcp(&ALICE, &BOB, 30_000);
    let offload = make_partial(&mut frame, Some(Segmentation { kind: TCP, size: 8948 }));
    let packet = here.packet(&frame, &[2048, 4096, 6000], offload);
    let sent = here.receive_packets(ALICE.port, [packet]).only();
    for capabilities in [NONE, CHECKSUM] {
        let finished = here.finish(capabilities, &sent, &[66, 4000]);
        assert_eq!((finished.result, finished.frames.len()), (Ok(()), 4));
        let mut all = Vec::new();
        for frame in &finished.frames {
            assert!(frame.bytes.len() <= 14 + 9000);
            let completed = here.finish(NONE, frame, &[2048, 4096]).frames.remove(0);
            all.extend(right(&completed.bytes).0);
        }
        assert_eq!(finished.frames[0].bytes.len(), 14 + 9000);
        assert_eq!(all, payload(30_000));
    }
}

#[test]
fn device_that_completes_checksums_gets_frames_with_partial_ones() {
    let mut here = Engine::new(LAYOUT, 0);
    let mut frame = large_tcp(&ALICE, &BOB, 4000);
    let offload = make_partial(&mut frame, Some(Segmentation { kind: TCP, size: 1000 }));
    let packet = here.packet(&frame, &[], offload);
    let sent = here.receive_packets(ALICE.port, [packet]).only();
    let partial = here.finish(CHECKSUM, &sent, &[]).frames;
    let whole = here.finish(NONE, &sent, &[]).frames;
    assert_eq!((partial.len(), whole.len()), (4, 4));
    for (partial, whole) in partial.iter().zip(&whole) {
        assert_eq!(partial.offload.checksum, Checksum::Partial { start: 54, offset: 16 });
        let completed = here.finish(NONE, partial, &[60]).frames;
        assert_eq!(completed[0].bytes, whole.bytes);
    }
}

#[test]
fn datagrams_cross_and_are_cut_as_their_sender_made_them() {
    let mut here = Engine::new(LAYOUT, 0);
    let mut frame = frames::to_node(&ALICE, &BOB, udp(&payload(5000)));
    let segmentation = Segmentation { kind: SegmentationKind::Udp, size: 1200 };
    let offload = make_partial(&mut frame, Some(segmentation));
    let packet = here.packet(&frame, &[1000], offload);
    let sent = here.receive_packets(ALICE.port, [packet]).only();
    assert_eq!(sent.offload.segmentation, Some(segmentation));
    let frames: Vec<Vec<u8>> =
        here.finish(NONE, &sent, &[]).frames.iter().map(|frame| right(&frame.bytes).0).collect();
    assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [1200, 1200, 1200, 1200, 200]);
    assert_eq!(frames.concat(), payload(5000));
}

#[test]
fn large_packet_to_a_node_beside_the_sender_stays_whole_and_fits_its_mtu() {
    let mut here = Engine::new(LAYOUT, 0);
    let mut frame = large_tcp(&ALICE, &ANNA, 10_000);
    let offload = make_partial(&mut frame, Some(Segmentation { kind: TCP, size: 9000 }));
    let packet = here.packet(&frame, &[], offload);
    let sent = here.receive_packets(ALICE.port, [packet]).only();
    assert_eq!(sent.offload.checksum, offload.checksum);
    assert_eq!(sent.offload.segmentation, Some(Segmentation { kind: TCP, size: NODE_MTU - 52 }));
    let finished = here.finish(NONE, &sent, &[]);
    assert_eq!(
        finished.frames.iter().flat_map(|frame| right(&frame.bytes).0).collect::<Vec<_>>(),
        payload(10_000)
    );
}

#[test]
fn packet_merged_by_the_receiving_device_gets_a_partial_checksum() {
    let mut there = Engine::new(LAYOUT, 1);
    let addresses = (address(LAYOUT, &ALICE), address(LAYOUT, &BOB));
    let mut frame = frames::from_substrate(1, addresses, tcp(&payload(4000)));
    frame[70..72].copy_from_slice(&[0xde, 0xad]);
    let segmentation = Some(Segmentation { kind: TCP, size: 1000 });
    let packet = there.packet(&frame, &[], Offload { checksum: Checksum::Verified, segmentation });
    let sent = there.receive_packets(UPLINK, [packet]).only();
    assert_eq!(sent.offload.checksum, Checksum::Partial { start: 34, offset: 16 });
    let frames = there.finish(NONE, &sent, &[]).frames;
    assert_eq!(frames.iter().flat_map(|frame| right(&frame.bytes).0).collect::<Vec<_>>(), payload(4000));
}

#[test]
fn packet_merged_on_the_way_in_is_cut_again_to_the_nodes_mtu() {
    let mut there = Engine::new(LAYOUT, 1);
    let addresses = (address(LAYOUT, &ALICE), address(LAYOUT, &BOB));
    // The segments filled larger packets than the node takes, 40 and 32 bytes of headers each, or smaller ones.
    for (size, cut) in [(8928, NODE_MTU - 52), (NODE_MTU - 51, NODE_MTU - 52), (1000, 1000)] {
        let mut frame = frames::from_substrate(1, addresses, tcp(&payload(20_000)));
        let offload = make_partial(&mut frame, Some(Segmentation { kind: TCP, size }));
        let packet = there.packet(&frame, &[], offload);
        let sent = there.receive_packets(UPLINK, [packet]).only();
        // A port that takes it whole is told what the node takes; for the others it is cut before.
        assert_eq!(sent.offload.segmentation, Some(Segmentation { kind: TCP, size: cut }));
        let frames = there.finish(NONE, &sent, &[]).frames;
        assert_eq!(frames.len(), 20_000_usize.div_ceil(cut.into()));
        assert!(frames.iter().all(|frame| frame.bytes.len() <= 14 + usize::from(NODE_MTU)));
        let carried: Vec<u8> = frames.iter().flat_map(|frame| right(&frame.bytes).0).collect();
        assert_eq!(carried, payload(20_000));
    }
}

#[test]
fn what_fits_in_one_frame_is_not_cut() {
    let mut here = Engine::new(LAYOUT, 0);
    let shape = shape(&ALICE, &BOB, tcp(b"small"));
    let mut frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &shape);
    let offload = make_partial(&mut frame, Some(Segmentation { kind: TCP, size: 1448 }));
    let packet = here.packet(&frame, &[], offload);
    let sent = here.receive_packets(ALICE.port, [packet]).only();
    assert_eq!(sent.offload.segmentation, None);
    assert_eq!(
        here.finish(NONE, &sent, &[]).frames[0].bytes,
        oracle::on_substrate(LAYOUT, &ALICE, &BOB, &shape)
    );
}

#[test]
fn offload_that_contradicts_its_packet_is_refused() {
    let mut here = Engine::new(LAYOUT, 0);
    let mut refused = |transport: Transport, offload: Offload| {
        let frame = frames::to_node(&ALICE, &BOB, transport);
        let packet = here.packet(&frame, &[], offload);
        let outcome = here.receive_packets(ALICE.port, [packet]);
        assert_eq!(outcome.counted.get("node1 drop offload_invalid"), Some(&1), "{offload:?}");
    };
    let partial = |start, offset| Checksum::Partial { start, offset };
    let cut = |kind, size| Some(Segmentation { kind, size });
    for (start, offset) in [(33, 16), (35, 16), (34, 6), (0, 16), (34, 0xffff), (0xffff, 0xffff)] {
        refused(tcp(b"x"), Offload { checksum: partial(start, offset), segmentation: None });
    }
    // SCTP's checksum is a CRC: what is left to be done there, translation cannot judge.
    let sctp = Transport::Other { number: 132, payload: payload(64) };
    refused(sctp, Offload { checksum: partial(34, 8), segmentation: None });
    // A header too short to have the checksum in it.
    let short = Transport::Other { number: 6, payload: payload(17) };
    refused(short, Offload { checksum: partial(34, 16), segmentation: None });
    let cut_of = |checksum, segmentation| Offload { checksum, segmentation };
    refused(tcp(&payload(3000)), cut_of(Checksum::Complete, cut(TCP, 1000)));
    refused(tcp(&payload(3000)), cut_of(partial(34, 16), cut(TCP, 0)));
    refused(tcp(&payload(3000)), cut_of(partial(34, 16), cut(TCP, 2)));
    refused(tcp(&payload(3000)), cut_of(partial(34, 16), cut(SegmentationKind::Udp, 1000)));
    refused(udp(&payload(3000)), cut_of(partial(34, 6), cut(TCP, 1000)));
}

#[test]
fn exhausted_pool_loses_the_rest_of_the_packet_and_leaks_nothing() {
    let here = Engine::with_pool(LAYOUT, 0, 4);
    let mut frame = large_tcp(&ALICE, &BOB, 10_000);
    let offload = make_partial(&mut frame, Some(Segmentation { kind: TCP, size: 1000 }));
    let sent = Sent { port: UPLINK, bytes: frame, offload };
    let held: Vec<_> = (0..3).map(|_| here.pool.packet(b"").unwrap()).collect();
    let packet = here.packet(&sent.bytes, &[], sent.offload);
    let mut frames = 0;
    let result = segment::finish(&here.pool, NONE, packet, |_| frames += 1);
    assert_eq!((result, frames), (Err(DropReason::NoBuffer), 0));
    assert_eq!(here.pool.outstanding(), 3);
    drop(held);
    assert_eq!(here.finish(NONE, &sent, &[]).frames.len(), 10);
}
