//! Packets.

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, NoRoom, Offload, Packet, Pool, Segmentation, SegmentationKind};
use overlane_dpdk::{BURST, Mbuf, Mempool};

use crate::{Bench, Case, cases};

pub(crate) const CASES: &[Case] = cases![
    a_packet_longer_than_a_segment_becomes_a_chain,
    a_fresh_packet_is_empty_and_has_headroom,
    prepending_ends_at_the_headroom,
    trimming_ends_at_the_first_segment,
    appending_ends_at_the_tailroom,
    a_pool_appends_in_further_segments_and_leaves_a_packet_alone_when_it_cannot,
    truncating_frees_segments_that_become_empty,
    pulling_up_moves_bytes_and_frees_emptied_segments,
    a_chain_is_made_as_short_as_need_be_if_its_bytes_fit,
    every_offload_reads_back_as_set,
    a_copy_is_deep,
    an_exhausted_pool_gives_nothing,
    a_burst_is_freed_at_once,
];

pub(crate) fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 256) as u8).collect()
}

pub(crate) fn content(packet: &Mbuf) -> Vec<u8> {
    let bytes: Vec<u8> = packet.segments().flatten().copied().collect();
    assert_eq!(bytes.len(), packet.len());
    assert_eq!(packet.segments().count(), packet.segment_count());
    bytes
}

/// A chain of `bytes`, cut at `cuts` at least.
pub(crate) fn pieces(pool: &Mempool, bytes: &[u8], cuts: &[usize]) -> Mbuf {
    let mut cuts = cuts.iter().copied().chain([bytes.len()]);
    let mut at = cuts.next().unwrap();
    let mut packet = pool.packet(&bytes[..at]).unwrap();
    for next in cuts {
        packet.append_chain(pool.packet(&bytes[at..next]).unwrap()).unwrap();
        at = next;
    }
    packet
}

fn a_packet_longer_than_a_segment_becomes_a_chain(bench: &Bench) {
    let pool = bench.pool(1_024);
    for (length, segments) in [(0, 1), (1, 1), (2_048, 1), (2_049, 2), (4_096, 2), (4_097, 3), (65_550, 33)] {
        let packet = pool.packet(&bytes(length)).unwrap();
        assert_eq!((packet.len(), packet.segment_count()), (length, segments));
        assert_eq!(content(&packet), bytes(length));
        assert_eq!(pool.in_use() as usize, segments);
    }
    assert!(pool.packet(&bytes(pool.packet_max())).is_some());
    assert!(pool.packet(&bytes(pool.packet_max() + 1)).is_none(), "chains are bounded");
}

fn a_fresh_packet_is_empty_and_has_headroom(bench: &Bench) {
    let packet = bench.pool(128).allocate().unwrap();
    assert_eq!((packet.len(), packet.headroom(), packet.tailroom()), (0, 128, 2_048));
    assert!(packet.is_empty() && packet.head().is_empty());
    assert_eq!(packet.offload(), Offload::default());
}

fn prepending_ends_at_the_headroom(bench: &Bench) {
    let mut packet = bench.pool(128).packet(&bytes(3_000)).unwrap();
    packet.prepend(20).unwrap();
    packet.head_mut()[..20].fill(9);
    assert_eq!((packet.len(), packet.headroom()), (3_020, 108));
    assert_eq!(packet.prepend(109), Err(NoRoom));
    assert_eq!(packet.len(), 3_020);
    packet.prepend(108).unwrap();
    packet.trim_front(108).unwrap();
    let whole = content(&packet);
    assert_eq!((&whole[..20], &whole[20..]), (&[9; 20][..], &bytes(3_000)[..]));
    assert_eq!(packet.prepend(usize::MAX), Err(NoRoom));
}

fn trimming_ends_at_the_first_segment(bench: &Bench) {
    let mut packet = bench.pool(128).packet(&bytes(3_000)).unwrap();
    assert_eq!(packet.trim_front(2_049), Err(NoRoom));
    packet.trim_front(2_048).unwrap();
    assert!(packet.head().is_empty());
    assert_eq!(content(&packet), &bytes(3_000)[2_048..]);
    packet.pull_up(952).unwrap();
    assert_eq!(packet.head(), &bytes(3_000)[2_048..]);
    assert_eq!(packet.trim_front(usize::MAX), Err(NoRoom));
}

fn appending_ends_at_the_tailroom(bench: &Bench) {
    let mut packet = bench.pool(128).packet(&bytes(3_000)).unwrap();
    assert_eq!(packet.tailroom(), 2 * 2_048 - 3_000);
    assert_eq!(packet.append(&[1; 1_097]), Err(NoRoom));
    assert_eq!(content(&packet), bytes(3_000));
    packet.append(&[1; 1_096]).unwrap();
    assert_eq!(packet.len(), 4_096);
    assert_eq!(content(&packet)[3_000..], [1; 1_096]);
}

fn a_pool_appends_in_further_segments_and_leaves_a_packet_alone_when_it_cannot(bench: &Bench) {
    let pool = bench.pool(128);
    let mut packet = pool.packet(&bytes(100)).unwrap();
    for (length, segments) in [(2_048, 1), (2_049, 2), (9_014, 5), (9_014, 5), (65_550, 33)] {
        let more = &bytes(length)[packet.len()..];
        pool.append(&mut packet, more).unwrap();
        assert_eq!((packet.len(), packet.segment_count()), (length, segments));
        assert_eq!(content(&packet), bytes(length));
        assert_eq!(pool.in_use() as usize, segments);
    }
    // More than a chain may have, then more than the pool has.
    let most = pool.packet_max();
    assert_eq!(pool.append(&mut packet, &vec![0; most - 65_550 + 1]), Err(NoRoom));
    let _taken = pool.packet(&bytes(60 * 2_048)).unwrap();
    assert_eq!(pool.append(&mut packet, &vec![0; most - 65_550 - 2_048 * 30]), Ok(()));
    let _others: Vec<Mbuf> = std::iter::from_fn(|| pool.allocate()).collect();
    let before = packet.len();
    let room = packet.tailroom();
    assert_eq!(pool.append(&mut packet, &vec![0; room + 1]), Err(NoRoom));
    assert_eq!((packet.len(), &content(&packet)[..65_550]), (before, &bytes(65_550)[..]));
    packet.truncate(9_014);
    assert_eq!((packet.segment_count(), content(&packet)), (5, bytes(9_014)));
}

fn truncating_frees_segments_that_become_empty(bench: &Bench) {
    let pool = bench.pool(128);
    let mut packet = pool.packet(&bytes(6_000)).unwrap();
    for (length, segments) in [(7_000, 3), (6_000, 3), (4_097, 3), (4_096, 2), (2_048, 1), (100, 1), (0, 1)] {
        packet.truncate(length);
        assert_eq!((packet.len(), packet.segment_count()), (length.min(6_000), segments), "{length}");
        assert_eq!(content(&packet), bytes(6_000)[..length.min(6_000)]);
        assert_eq!(pool.in_use() as usize, segments);
    }
    packet.append(b"again").unwrap();
    assert_eq!(packet.head(), b"again");
}

fn pulling_up_moves_bytes_and_frees_emptied_segments(bench: &Bench) {
    let pool = bench.pool(128);
    let mut packet = pool.packet(&bytes(6_000)).unwrap();
    assert_eq!(packet.pull_up(2_049), Err(NoRoom), "the first segment is full");
    packet.trim_front(2_000).unwrap();
    packet.pull_up(100).unwrap();
    assert_eq!((packet.head(), packet.segment_count()), (&bytes(6_000)[2_000..2_100], 3));
    assert_eq!(packet.headroom(), 128, "headroom for a header is kept");
    packet.pull_up(2_048).unwrap();
    assert_eq!((packet.head(), packet.segment_count()), (&bytes(6_000)[2_000..4_048], 3));
    packet.trim_front(48).unwrap();
    packet.pull_up(2_048).unwrap();
    assert_eq!((packet.segment_count(), pool.in_use()), (2, 2));
    assert_eq!(content(&packet), bytes(6_000)[2_048..]);
    drop(packet);

    let mut packet = pool.packet(&bytes(1_000)).unwrap();
    assert_eq!(packet.pull_up(1_001), Err(NoRoom), "the packet is shorter");
    packet.pull_up(1_000).unwrap();
    packet.pull_up(0).unwrap();
    assert_eq!(content(&packet), bytes(1_000));
}

fn a_chain_is_made_as_short_as_need_be_if_its_bytes_fit(bench: &Bench) {
    let pool = bench.pool(128);
    let mut packet = pool.packet(&bytes(3_000)).unwrap();
    assert!(packet.gather(&pool, 2) && !packet.gather(&pool, 1));
    assert_eq!(packet.segment_count(), 2);
    packet.trim_front(1_500).unwrap();
    packet.set_offload(Offload { checksum: Checksum::Verified, segmentation: None });
    assert!(packet.gather(&pool, 1));
    assert_eq!((packet.segment_count(), packet.head()), (1, &bytes(3_000)[1_500..]));
    assert_eq!(packet.offload().checksum, Checksum::Verified);
    assert_eq!(pool.in_use(), 1);

    // A hundred bytes in each of nine segments, and 8,600 in five more.
    let mut packet = pieces(&pool, &bytes(9_500), &[100, 200, 300, 400, 500, 600, 700, 800, 900]);
    assert_eq!(packet.segment_count(), 14);
    assert!(!packet.gather(&pool, 4) && packet.gather(&pool, 8));
    assert_eq!((packet.segment_count(), content(&packet)), (5, bytes(9_500)));
}

fn every_offload_reads_back_as_set(bench: &Bench) {
    let mut packet = bench.pool(128).packet(&bytes(100)).unwrap();
    let partial = Checksum::Partial { start: 34, offset: 16 };
    let far = Checksum::Partial { start: u16::MAX, offset: u16::MAX };
    let kinds =
        [SegmentationKind::Tcp { ecn: false }, SegmentationKind::Tcp { ecn: true }, SegmentationKind::Udp];
    for checksum in [partial, Checksum::Verified, far, Checksum::Complete] {
        let cuts = kinds.iter().flat_map(|&kind| [1, u16::MAX].map(|size| Some(Segmentation { kind, size })));
        for segmentation in cuts.chain([None]) {
            let offload = Offload { checksum, segmentation };
            packet.set_offload(offload);
            assert_eq!(packet.offload(), offload);
            let undone = segmentation.is_some() || matches!(checksum, Checksum::Partial { .. });
            assert_eq!(packet.is_plain(), !undone, "{offload:?}");
        }
    }
    let pool = bench.pool(128);
    assert!(!pool.packet(&bytes(3_000)).unwrap().is_plain(), "it has two segments");
}

fn a_copy_is_deep(bench: &Bench) {
    let pool = bench.pool(128);
    let mut packet = pool.packet(&bytes(5_000)).unwrap();
    let offload = Offload { checksum: Checksum::Partial { start: 54, offset: 16 }, segmentation: None };
    packet.set_offload(offload);
    let copy = pool.duplicate(&packet).unwrap();
    packet.head_mut().fill(0);
    assert_eq!(content(&copy), bytes(5_000));
    assert_eq!((copy.offload(), copy.headroom()), (offload, 128));
    assert_eq!(pool.in_use(), 6);
}

fn an_exhausted_pool_gives_nothing(bench: &Bench) {
    let pool = bench.pool(128);
    let mut taken: Vec<Mbuf> = std::iter::from_fn(|| pool.allocate()).collect();
    assert_eq!((taken.len(), pool.available(), pool.in_use()), (128, 0, 128));
    assert!(pool.allocate().is_none() && pool.packet(b"x").is_none() && pool.duplicate(&taken[0]).is_none());
    drop(taken.pop());
    assert!(pool.packet(&bytes(2_049)).is_none(), "a chain of two does not come from one buffer");
    assert_eq!(pool.available(), 1, "and takes none");
    assert!(pool.packet(b"x").is_some());
}

fn a_burst_is_freed_at_once(bench: &Bench) {
    let pool = bench.pool(1_024);
    let mut burst: ArrayVec<Mbuf, BURST> =
        (0..BURST).map(|n| pool.packet(&bytes(n * 100)).unwrap()).collect();
    assert!(pool.in_use() > BURST as u32);
    Mbuf::free(&mut burst);
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), 0);
    Mbuf::free(&mut burst);
}
