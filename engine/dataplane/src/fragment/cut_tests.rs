use super::*;
use crate::buffer::{HeapOptions, HeapPacket, HeapPool};
use crate::packet::{Offload, Segmentation, SegmentationKind};
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

fn pool(room: usize) -> HeapPool {
    HeapPool::new(HeapOptions { limit: 100_000, room, ..HeapOptions::default() })
}

fn bytes(packet: &HeapPacket) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 256) as u8).collect()
}

fn four_frame(options: &[u8], payload: &[u8], offset: u16, more: bool) -> Vec<u8> {
    let mut header = [0; ipv4::LENGTH];
    let fields = ipv4::Fields {
        tos: 0xb9,
        total_length: (ipv4::LENGTH + options.len() + payload.len()) as u16,
        identification: 0x1234,
        dont_fragment: false,
        more_fragments: more,
        fragment_offset: offset,
        ttl: 61,
        protocol: 17,
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::new(10, 0, 0, 2),
    };
    fields.emit(&mut header);
    header[0] += (options.len() / 4) as u8;
    ipv4::set_checksum(&mut header, 0);
    let sum = Sum::ZERO.add_bytes(&header).add_bytes(options);
    ipv4::set_checksum(&mut header, sum.checksum());
    [&MACS, [8, 0].as_slice(), &header, options, payload].concat()
}

fn six_frame(payload: &[u8], offset: u16, more: bool) -> Vec<u8> {
    let fields = ipv6::Fields {
        traffic_class: 0xb9,
        payload_length: (fragment::LENGTH + payload.len()) as u16,
        next_header: protocol::FRAGMENT,
        hop_limit: 61,
        source: Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 1),
        destination: Ipv6Addr::new(0xfd00, 0, 0, 2, 0, 0, 0, 2),
    };
    let (mut header, mut extension) = ([0; ipv6::LENGTH], [0; fragment::LENGTH]);
    fields.emit(&mut header);
    fragment::Fields { next_header: 17, offset, more_fragments: more, identification: 0x89ab_cdef }
        .emit(&mut extension);
    [&MACS, [0x86, 0xdd].as_slice(), &header, &extension, payload].concat()
}

/// What etherparse reads of a fragment: its header as text without what may differ, offset, more, payload.
fn read(frame: &[u8]) -> (String, Vec<u8>, usize, bool, Vec<u8>) {
    let (ethernet, rest) = etherparse::Ethernet2Header::from_slice(frame).unwrap();
    let (version, options, offset, more, payload) = match ethernet.ether_type.0 {
        0x0800 => {
            let (mut header, payload) = etherparse::Ipv4Header::from_slice(rest).unwrap();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len), rest.len());
            assert!(!header.dont_fragment);
            let (offset, more) = (header.fragment_offset, header.more_fragments);
            let options = std::mem::take(&mut header.options);
            (header.header_checksum, header.total_len) = (0, 0);
            (header.more_fragments, header.fragment_offset) = (false, 0.try_into().unwrap());
            (format!("{header:?}"), options.to_vec(), offset, more, payload)
        }
        _ => {
            let (mut header, rest) = etherparse::Ipv6Header::from_slice(rest).unwrap();
            assert_eq!(usize::from(header.payload_length), rest.len());
            assert_eq!(header.next_header.0, 44);
            let (fragment, payload) = etherparse::Ipv6FragmentHeader::from_slice(rest).unwrap();
            header.payload_length = 0;
            let constant = (header, fragment.next_header, fragment.identification);
            (format!("{constant:?}"), vec![], fragment.fragment_offset, fragment.more_fragments, payload)
        }
    };
    let constant = format!("{ethernet:?}{version}");
    (constant, options, usize::from(offset.value()) * 8, more, payload.to_vec())
}

/// Puts fragments that came in order together again, as a receiver that believes nothing: the headers of the first,
/// where the payload lies, whether more lies behind it, and the payload.
#[track_caller]
fn together(fragments: &[Vec<u8>], mtu: usize) -> (String, usize, bool, Vec<u8>) {
    let (constant, _, start, mut more, mut all) = read(&fragments[0]);
    assert!(fragments[0].len() <= 14 + mtu);
    for fragment in &fragments[1..] {
        let (other, _, offset, others, payload) = read(fragment);
        assert!(more, "a fragment behind the last");
        assert!(fragment.len() <= 14 + mtu && !payload.is_empty());
        assert_eq!(other, constant);
        assert_eq!(offset, start + all.len());
        (more, _) = (others, all.extend(payload));
    }
    (constant, start, more, all)
}

type Cut = fn(&HeapPool, HeapPacket, u16, &mut dyn FnMut(HeapPacket)) -> Result<(), DropReason>;
const FOUR: Cut = |pool, packet, mtu, emit| four(pool, packet, mtu, emit);
const SIX: Cut = |pool, packet, mtu, emit| six(pool, packet, mtu, emit);

#[track_caller]
fn cut_with(
    cut: Cut,
    pool: &HeapPool,
    packet: HeapPacket,
    mtu: u16,
) -> (Result<(), DropReason>, Vec<Vec<u8>>) {
    let mut out = vec![];
    let result = cut(pool, packet, mtu, &mut |fragment| {
        assert_eq!(fragment.offload(), Offload::default());
        out.push(bytes(&fragment));
    });
    assert_eq!(pool.outstanding(), 0);
    (result, out)
}

fn cut_frame(cut: Cut, frame: &[u8], mtu: u16) -> (Result<(), DropReason>, Vec<Vec<u8>>) {
    let pool = pool(2048);
    let packet = pool.packet(frame).unwrap();
    cut_with(cut, &pool, packet, mtu)
}

#[test]
fn ipv4_fragments_are_as_large_as_units_of_eight_allow() {
    let (result, out) = cut_frame(FOUR, &four_frame(&[], &payload(3000), 0, false), 1500);
    assert_eq!(result, Ok(()));
    let places: Vec<_> = out.iter().map(|frame| (read(frame).2, read(frame).3, frame.len())).collect();
    assert_eq!(places, [(0, true, 14 + 1500), (1480, true, 14 + 1500), (2960, false, 14 + 20 + 40)]);
    let (_, out) = cut_frame(FOUR, &four_frame(&[], &payload(3000), 0, false), 1499);
    assert_eq!(out.iter().map(Vec::len).collect::<Vec<_>>(), [14 + 1492, 14 + 1492, 14 + 20 + 56]);
}

#[test]
fn ipv6_fragments_are_as_large_as_units_of_eight_allow() {
    let (result, out) = cut_frame(SIX, &six_frame(&payload(2000), 0, false), 1280);
    assert_eq!(result, Ok(()));
    let places: Vec<_> = out.iter().map(|frame| (read(frame).2, read(frame).3, frame.len())).collect();
    assert_eq!(places, [(0, true, 14 + 1280), (1232, false, 14 + 48 + 768)]);
}

#[test]
fn packet_that_fits_goes_on_as_it_is() {
    for (cut, frame) in
        [(FOUR, four_frame(&[], &payload(80), 0, false)), (SIX, six_frame(&payload(52), 0, false))]
    {
        let pool = pool(2048);
        let mut packet = pool.packet(&frame).unwrap();
        let partial = Checksum::Partial { start: 34, offset: 6 };
        packet.set_offload(Offload { checksum: partial, segmentation: None });
        let mut out = vec![];
        assert_eq!(
            cut(&pool, packet, 100, &mut |packet| out.push((packet.offload(), bytes(&packet)))),
            Ok(())
        );
        assert_eq!(out, [(Offload { checksum: partial, segmentation: None }, frame.clone())]);
        drop(out);
        assert_eq!(cut_frame(cut, &frame, 99).1.len(), 2);
    }
}

#[test]
fn copied_options_are_in_every_fragment_and_others_in_the_first() {
    // Record route with one address, then router alert, which is copied.
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0];
    let (result, out) = cut_frame(FOUR, &four_frame(&options, &payload(200), 0, false), 100);
    assert_eq!(result, Ok(()));
    let carried: Vec<_> = out.iter().map(|frame| read(frame).1).collect();
    assert_eq!(carried[0], options);
    assert!(carried.len() == 3 && carried[1..].iter().all(|options| options == &[148, 4, 0, 0]));
    assert_eq!(out[0].len(), 14 + 32 + 64);
    assert_eq!(out[1].len(), 14 + 24 + 72, "the shorter header leaves more room");
    assert_eq!(together(&out, 100).3, payload(200));
}

#[test]
fn fragment_that_is_cut_keeps_its_place_in_its_datagram() {
    for (cut, frame) in
        [(FOUR, four_frame(&[], &payload(1480), 185, true)), (SIX, six_frame(&payload(1480), 185, true))]
    {
        let (result, out) = cut_frame(cut, &frame, 600);
        assert_eq!((result, out.len()), (Ok(()), 3));
        let (_, start, more, all) = together(&out, 600);
        assert_eq!((start, more, all), (1480, true, payload(1480)));
    }
}

#[test]
fn mtu_without_room_for_eight_bytes_is_refused() {
    for (cut, frame, least) in [
        (FOUR, four_frame(&[], &payload(100), 0, false), 28),
        (FOUR, four_frame(&[7; 40], &payload(100), 0, false), 68),
        (SIX, six_frame(&payload(100), 0, false), 56),
    ] {
        assert_eq!(cut_frame(cut, &frame, least - 1), (Err(DropReason::PacketTooBig), vec![]));
        assert_eq!(cut_frame(cut, &frame, 0), (Err(DropReason::PacketTooBig), vec![]));
        assert_eq!(together(&cut_frame(cut, &frame, least).1, least.into()).3, payload(100));
    }
}

#[test]
fn partial_checksum_is_completed_over_the_whole_datagram() {
    let mut data = payload(3000);
    let udp = etherparse::UdpHeader::with_ipv4_checksum(7, 9, &four_header(8 + data.len()), &data).unwrap();
    let pseudo = etherparse::UdpHeader { checksum: pseudo_sum(8 + data.len() as u16), ..udp.clone() };
    data.splice(0..0, pseudo.to_bytes());
    let mut frame = four_frame(&[], &data, 0, false);
    frame.extend([0xee; 6]); // Padding, which the checksum does not cover.
    let pool = pool(2048);
    // The checksum's field lies over two segments.
    let mut packet = pool.packet_of([&frame[..41], &frame[41..1000], &frame[1000..]]).unwrap();
    let checksum = Checksum::Partial { start: 34, offset: 6 };
    packet.set_offload(Offload { checksum, segmentation: None });
    let (result, out) = cut_with(FOUR, &pool, packet, 1500);
    assert_eq!(result, Ok(()));
    data[..8].copy_from_slice(&udp.to_bytes());
    assert_eq!(together(&out, 1500).3, data);
}

fn four_header(length: usize) -> etherparse::Ipv4Header {
    etherparse::Ipv4Header::new(length as u16, 64, 17.into(), [10, 0, 0, 1], [10, 0, 0, 2]).unwrap()
}

fn pseudo_sum(length: u16) -> u16 {
    Sum::ZERO.add(0x0a00).add(1).add(0x0a00).add(2).add(17).add(length).fold()
}

#[test]
fn packet_that_is_to_be_cut_into_segments_first_is_refused() {
    let pool = pool(2048);
    let mut packet = pool.packet(&four_frame(&[], &payload(3000), 0, false)).unwrap();
    let segmentation = Some(Segmentation { kind: SegmentationKind::Udp, size: 1000 });
    packet.set_offload(Offload { checksum: Checksum::Verified, segmentation });
    assert_eq!(cut_with(FOUR, &pool, packet, 1500), (Err(DropReason::OffloadInvalid), vec![]));
}

#[test]
fn padding_behind_the_packet_is_in_no_fragment() {
    for (cut, mut frame) in
        [(FOUR, four_frame(&[], &payload(100), 0, false)), (SIX, six_frame(&payload(100), 0, false))]
    {
        frame.extend([0xee; 30]);
        let (result, out) = cut_frame(cut, &frame, 90);
        assert_eq!(result, Ok(()));
        assert_eq!(together(&out, 90).3, payload(100));
    }
}

#[test]
fn exhausted_pool_loses_the_rest_and_leaks_nothing() {
    for (cut, frame) in
        [(FOUR, four_frame(&[], &payload(1000), 0, false)), (SIX, six_frame(&payload(1000), 0, false))]
    {
        let pool = HeapPool::new(HeapOptions { limit: 3, ..HeapOptions::default() });
        let packet = pool.packet(&frame).unwrap();
        let mut out = vec![];
        assert_eq!(cut(&pool, packet, 200, &mut |packet| out.push(packet)), Err(DropReason::NoBuffer));
        assert_eq!((out.len(), pool.outstanding()), (2, 2));
    }
}

#[test]
fn fragment_larger_than_a_buffer_lies_in_several() {
    for (cut, frame) in
        [(FOUR, four_frame(&[], &payload(20_000), 0, false)), (SIX, six_frame(&payload(20_000), 0, false))]
    {
        let pool = pool(2048);
        let packet = pool.packet(&frame).unwrap();
        let mut segments = vec![];
        assert_eq!(cut(&pool, packet, 9000, &mut |packet| segments.push(packet.segments().count())), Ok(()));
        assert_eq!(segments, [5, 5, 2]);
        assert_eq!(together(&cut_frame(cut, &frame, 9000).1, 9000).3, payload(20_000));
    }
}

#[test]
fn buffer_without_room_for_the_headers_is_refused() {
    for (cut, frame, headers) in [
        (FOUR, four_frame(&[7; 40], &payload(1000), 0, false), 74),
        (SIX, six_frame(&payload(1000), 0, false), 62),
    ] {
        let small = pool(headers - 1);
        let packet = small.packet(&frame).unwrap();
        assert_eq!(cut_with(cut, &small, packet, 500), (Err(DropReason::SegmentsUnsupported), vec![]));
        let enough = pool(headers);
        let packet = enough.packet(&frame).unwrap();
        assert_eq!(cut_with(cut, &enough, packet, 500).0, Ok(()));
    }
}

#[test]
fn contradicting_headers_are_refused() {
    let four =
        |offset, more, length| cut_frame(FOUR, &four_frame(&[], &payload(length), offset, more), 100).0;
    let six = |offset, more, length| cut_frame(SIX, &six_frame(&payload(length), offset, more), 100).0;
    for cut in [&four as &dyn Fn(u16, bool, usize) -> _, &six] {
        assert_eq!(cut(8191, false, 200), Err(DropReason::FragmentMalformed), "past the largest datagram");
        assert_eq!(cut(0, true, 201), Err(DropReason::FragmentMalformed), "not a multiple of eight");
        assert_eq!(cut(8191 - 24, false, 199), Ok(()));
    }
    let frame = six_frame(&payload(200), 0, false);
    let with = |place: usize, value: u8| {
        let mut frame = frame.clone();
        frame[place] = value;
        cut_frame(SIX, &frame, 100).0
    };
    assert_eq!(with(20, 17), Err(DropReason::Ipv6Malformed), "no fragment header");
    assert_eq!(with(14, 0x45), Err(DropReason::Ipv6Malformed));
    assert_eq!(with(19, 255), Err(DropReason::FrameTruncated));
    assert_eq!(cut_frame(SIX, &frame[..60], 100).0, Err(DropReason::FrameTruncated));
    let mut frame = four_frame(&[], &payload(200), 0, false);
    frame[17] += 1;
    assert_eq!(cut_frame(FOUR, &frame, 100).0, Err(DropReason::FrameTruncated));
    assert_eq!(cut_frame(FOUR, &frame[..33], 100).0, Err(DropReason::Ipv4Malformed));
}

/// The frame in as many segments as the cuts make, the last one with what is left.
fn in_segments(pool: &HeapPool, frame: &[u8], cuts: &[prop::sample::Index]) -> HeapPacket {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(frame.len() + 1)).collect();
    cuts.extend([0, frame.len()]);
    cuts.sort_unstable();
    pool.packet_of(cuts.windows(2).map(|cut| &frame[cut[0]..cut[1]])).unwrap()
}

proptest! {
    #[test]
    fn fragments_put_together_are_the_packet(
        six: bool,
        length in 1usize..20_000,
        options in prop::collection::vec(prop_oneof![Just(vec![1u8]), Just(vec![148, 4, 0, 0]),
            Just(vec![7, 5, 4, 9, 9])], 0..8),
        mtu in prop_oneof![76u16..2000, 2000u16..9001],
        offset in 0u16..5600,
        more: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let data = payload(if more { length.next_multiple_of(8) } else { length });
        let mut options = options.concat();
        options.resize(options.len().next_multiple_of(4), 0);
        let (cut, frame) = if six {
            (SIX, six_frame(&data, offset, more))
        } else {
            (FOUR, four_frame(&options, &data, offset, more))
        };
        let pool = pool(2048);
        let packet = in_segments(&pool, &frame, &cuts);
        let (result, out) = cut_with(cut, &pool, packet, mtu);
        prop_assert_eq!(result, Ok(()));
        let whole = read(&frame);
        if out.len() > 1 {
            let together = together(&out, mtu.into());
            prop_assert_eq!(&together, &(whole.0, whole.2, more, data));
            let copied = |options: &[u8]| options.iter().filter(|byte| **byte == 148).count();
            for fragment in &out {
                prop_assert_eq!(copied(&read(fragment).1), copied(&whole.1));
            }
            prop_assert!(out[1..].iter().all(|fragment| !read(fragment).1.contains(&7)));
        } else {
            prop_assert_eq!(&out[0], &frame);
        }
    }

    #[test]
    fn any_bytes_are_cut_or_refused(
        six: bool,
        head in prop::collection::vec(any::<u8>(), 0..80),
        length in 0usize..2000,
        mtu: u16,
    ) {
        let mut frame = if six { six_frame(&payload(length), 0, false) } else {
            four_frame(&[], &payload(length), 0, false)
        };
        for (to, from) in frame.iter_mut().skip(15).zip(&head) {
            *to = *from;
        }
        let (result, out) = cut_frame(if six { SIX } else { FOUR }, &frame, mtu);
        prop_assert!(result.is_ok() || out.is_empty());
    }
}
