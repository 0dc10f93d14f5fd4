//! Varies the addresses of received packets over all mappings, at the cost of some nanoseconds.
//!
//! A capture has at most as many packets as its pool can spare; the table is to be asked for millions of keys. So each
//! packet is made to go to, or to come from, another node: a few words change, and the checksums by as much.

use crate::frames::Direction;
use crate::site::{FIRST, FIRST_HOST, LIMIT, NODES_PER_HOST};
use overlane_dataplane::id::PortId;
use overlane_dataplane::packet::Packet;
use overlane_dataplane::wire::checksum::{Sum, nonzero, updated};
use overlane_dataplane::wire::{ethernet, ipv4, ipv6, udp};
use overlane_dpdk::Mbuf;
use overlane_engine::runtime::OnReceived;
use serde::{Deserialize, Serialize};

/// 2^24 over the golden ratio, and odd: multiples of it, modulo a power of two, come to every number once, and
/// neighbours lie far apart.
const STRIDE: u32 = 10_368_889;

/// What to do to each packet, which was made for the first node elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    direction: Direction,
    mask: u32,
    next: u32,
}

impl Stamp {
    /// Packets of that direction, over as many nodes elsewhere: a power of two.
    pub(crate) fn new(direction: Direction, mappings: u32) -> Self {
        Self { direction, mask: mappings.min(LIMIT) - 1, next: 0 }
    }

    /// Changes every packet of the burst.
    #[inline]
    pub(crate) fn burst<P: Packet>(&mut self, burst: &mut [P]) {
        match self.direction {
            Direction::FourToSix => burst.iter_mut().for_each(|packet| four(packet.head_mut(), self.step())),
            Direction::SixToFour => burst.iter_mut().for_each(|packet| six(packet.head_mut(), self.step())),
        }
    }

    #[inline]
    fn step(&mut self) -> u32 {
        let index = self.next & self.mask;
        self.next = self.next.wrapping_add(STRIDE);
        index
    }
}

impl OnReceived for Stamp {
    #[inline]
    fn received(&mut self, _: PortId, burst: &mut [Mbuf]) {
        self.burst(burst);
    }
}

/// Either a stamp or nothing, chosen when the harness starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaybeStamp(pub(crate) Option<Stamp>);

impl OnReceived for MaybeStamp {
    #[inline]
    fn received(&mut self, _: PortId, burst: &mut [Mbuf]) {
        if let Some(stamp) = &mut self.0 {
            stamp.burst(burst);
        }
    }
}

/// The two words of a number.
#[inline]
const fn words(number: u32) -> [u16; 2] {
    [(number >> 16) as u16, number as u16]
}

#[inline]
fn put<const N: usize>(frame: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = frame.get_mut(at..at + N) {
        place.copy_from_slice(&bytes);
    }
}

#[inline]
fn change(frame: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) {
    if let Some(place) = frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *place = change(u16::from_be_bytes(*place)).to_be_bytes();
    }
}

/// To the n-th node elsewhere: its dummy MAC, its address, and both checksums.
#[inline]
fn four(frame: &mut [u8], index: u32) {
    const IP: usize = ethernet::LENGTH;
    const UDP: usize = IP + ipv4::LENGTH;
    let Some(frame) = frame.first_chunk_mut::<{ UDP + udp::LENGTH }>() else { return };
    let address = (FIRST.to_bits() + index).to_be_bytes();
    let [high, low] = words(index);
    let sum = Sum::ZERO.add(high).add(low);
    put(frame, 2, address);
    put(frame, IP + 16, address);
    change(frame, IP + 10, |checksum| updated(checksum, sum));
    change(frame, UDP + udp::CHECKSUM as usize, |checksum| nonzero(updated(checksum, sum)));
}

/// From the n-th node elsewhere: its host, slot and address, and the checksum.
#[inline]
fn six(frame: &mut [u8], index: u32) {
    const IP: usize = ethernet::LENGTH;
    const UDP: usize = IP + ipv6::LENGTH;
    let Some(frame) = frame.first_chunk_mut::<{ UDP + udp::LENGTH }>() else { return };
    let (host, slot) = (index / NODES_PER_HOST, (index % NODES_PER_HOST) as u8);
    // The slot has the upper six bits of its byte, and that byte is the upper half of its word.
    let slot = slot << 2;
    let ([a, b], [c, d]) = (words(host), words(index));
    let sum = Sum::ZERO.add(a).add(b).add(u16::from(slot) << 8).add(c).add(d);
    put(frame, IP + 8, (FIRST_HOST + u64::from(host)).to_be_bytes());
    put(frame, IP + 16, [slot]);
    put(frame, IP + 20, (FIRST.to_bits() + index).to_be_bytes());
    change(frame, UDP + udp::CHECKSUM as usize, |checksum| nonzero(updated(checksum, sum)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Size, frames};
    use overlane_dataplane::buffer::{HeapOptions, HeapPacket, HeapPool};
    use std::collections::HashSet;

    #[test]
    fn stamped_packet_is_the_one_made_for_that_node() {
        for direction in [Direction::FourToSix, Direction::SixToFour] {
            // The n-th packet for the n-th node, and the same packets for the first one.
            let (wanted, mut made) = (
                frames(direction, Size::Bytes(64), LIMIT).unwrap(),
                frames(direction, Size::Bytes(64), 1).unwrap(),
            );
            assert_ne!(wanted, made);
            for (index, frame) in made.iter_mut().enumerate() {
                match direction {
                    Direction::FourToSix => four(frame, index as u32),
                    Direction::SixToFour => six(frame, index as u32),
                }
            }
            assert_eq!(wanted, made);
        }
    }

    #[test]
    fn stamps_come_to_every_mapping_before_they_come_again() {
        let mut stamp = Stamp::new(Direction::FourToSix, 1 << 16);
        let seen: HashSet<_> = (0..1 << 16).map(|_| stamp.step()).collect();
        assert_eq!(seen.len(), 1 << 16);
        assert!(seen.iter().all(|index| *index < 1 << 16));
    }

    #[test]
    fn burst_is_stamped_packet_by_packet() {
        let pool = HeapPool::new(HeapOptions::default());
        let frame = frames(Direction::SixToFour, Size::Bytes(64), 1).unwrap().remove(0);
        let mut burst: Vec<HeapPacket> = (0..3).map(|_| pool.packet(&frame).unwrap()).collect();
        Stamp::new(Direction::SixToFour, LIMIT).burst(&mut burst);
        let different: HashSet<_> = burst.iter().map(|packet| packet.head().to_vec()).collect();
        assert_eq!(different.len(), 3);
    }
}
