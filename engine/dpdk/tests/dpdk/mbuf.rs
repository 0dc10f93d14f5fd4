//! Packets and pools.

use overlane_dataplane::packet::{NoRoom, Packet, Pool};

use crate::{Bench, Case};

pub(crate) const CASES: &[Case] =
    &[("a_packet_longer_than_a_segment_becomes_a_chain", a_packet_longer_than_a_segment_becomes_a_chain)];

fn a_packet_longer_than_a_segment_becomes_a_chain(bench: &Bench) {
    let pool = bench.pool("chain");
    let bytes: Vec<u8> = (0..5_000_u32).map(|n| n as u8).collect();
    let mut packet = pool.packet(&bytes).unwrap();
    assert_eq!((packet.len(), packet.segment_count()), (5_000, 3));
    assert_eq!(packet.segments().flatten().copied().collect::<Vec<_>>(), bytes);
    assert_eq!(packet.pull_up(2_049), Err(NoRoom));
    assert_eq!(pool.in_use(), 3);
    let copy = pool.duplicate(&packet).unwrap();
    assert_eq!(copy.segments().flatten().copied().collect::<Vec<_>>(), bytes);
    drop((packet, copy));
    assert_eq!(pool.in_use(), 0);
}
