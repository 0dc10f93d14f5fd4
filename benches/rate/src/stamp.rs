//! Varies the addresses of received packets over all mappings, at the cost of some nanoseconds.
//!
//! A capture has at most as many packets as its pool can spare; the table is to be asked for millions of keys. So each
//! packet is made to go to, or to come from, another node: a few words are written, the checksums among them.

use crate::frames::{Direction, Size, frames};
use crate::site::{FIRST, FIRST_HOST, LIMIT, NODES_PER_HOST};
use anyhow::Context;
use overlane_dataplane::id::PortId;
use overlane_dataplane::packet::Packet;
use overlane_dataplane::wire::checksum::{Sum, nonzero};
use overlane_dataplane::wire::{ethernet, ipv4, ipv6, udp};
use overlane_dpdk::Mbuf;
use overlane_engine::runtime::OnReceived;
use serde::{Deserialize, Serialize};

/// 2^24 over the golden ratio, and odd: multiples of it, modulo a power of two, come to every number once, and
/// neighbours lie far apart.
const STRIDE: u32 = 10_368_889;
const IP: usize = ethernet::LENGTH;
const UDP_4: usize = IP + ipv4::LENGTH;
const UDP_6: usize = IP + ipv6::LENGTH;
const UDP_CHECKSUM: usize = udp::CHECKSUM as usize;
/// Where the slot begins in the lower half of an address.
const SLOT: u32 = 58;

/// What to do to each packet, which was made for the first node elsewhere.
///
/// What is written does not depend on what was there: the packets of a capture differ, and have the same checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    direction: Direction,
    mask: u32,
    next: u32,
    base: Base,
}

/// What the packets of the first node have in the places that change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Base {
    /// The sum that is the complement of IPv4's checksum; 0 for IPv6, which has none.
    ip: u16,
    /// The same of UDP's.
    udp: u16,
    /// The lower half of the IPv6 source: slot, vnet and address. 0 for IPv4.
    interface: u64,
}

impl Stamp {
    /// Packets of that direction, over as many nodes elsewhere: a power of two.
    pub(crate) fn new(direction: Direction, mappings: u32) -> anyhow::Result<Self> {
        let first = frames(direction, Size::Bytes(64), 1)?;
        let first = first.first().context("a packet")?;
        let sum = |at| Some(!u16::from_be_bytes(*first.get(at..)?.first_chunk()?));
        let base = match direction {
            Direction::FourToSix => {
                sum(IP + 10).zip(sum(UDP_4 + UDP_CHECKSUM)).map(|(ip, udp)| Base { ip, udp, interface: 0 })
            }
            Direction::SixToFour => {
                let interface = first.get(IP + 16..).and_then(<[u8]>::first_chunk).copied();
                let sums = interface.map(u64::from_be_bytes).zip(sum(UDP_6 + UDP_CHECKSUM));
                sums.map(|(interface, udp)| Base { ip: 0, udp, interface })
            }
        };
        let base = base.context("a packet with headers")?;
        Ok(Self { direction, mask: mappings.min(LIMIT) - 1, next: 0, base })
    }

    /// Changes every packet of the burst.
    #[inline]
    pub(crate) fn burst<P: Packet>(&mut self, burst: &mut [P]) {
        let base = self.base;
        match self.direction {
            Direction::FourToSix => {
                burst.iter_mut().for_each(|packet| base.four(packet.head_mut(), self.step()));
            }
            Direction::SixToFour => {
                burst.iter_mut().for_each(|packet| base.six(packet.head_mut(), self.step()));
            }
        }
    }

    #[inline]
    fn step(&mut self) -> u32 {
        let index = self.next & self.mask;
        self.next = self.next.wrapping_add(STRIDE);
        index
    }
}

impl Base {
    /// To the n-th node elsewhere: its dummy MAC, its address, and both checksums.
    #[inline]
    fn four(self, frame: &mut [u8], index: u32) {
        let Some(frame) = frame.first_chunk_mut::<{ UDP_4 + udp::LENGTH }>() else { return };
        let address = (FIRST.to_bits() + index).to_be_bytes();
        put::<2, 4, _>(frame, address);
        put::<{ IP + 10 }, 2, _>(frame, checksum(self.ip, index).to_be_bytes());
        put::<{ IP + 16 }, 4, _>(frame, address);
        put::<{ UDP_4 + UDP_CHECKSUM }, 2, _>(frame, nonzero(checksum(self.udp, index)).to_be_bytes());
    }

    /// From the n-th node elsewhere: its host, slot and address, and the checksum.
    #[inline]
    fn six(self, frame: &mut [u8], index: u32) {
        let Some(frame) = frame.first_chunk_mut::<{ UDP_6 + udp::LENGTH }>() else { return };
        let (host, slot) = (index / NODES_PER_HOST, index % NODES_PER_HOST);
        let interface = self.interface + (u64::from(slot) << SLOT) + u64::from(index);
        // The slot's place in its word of 16 bits.
        let change = host + index + (slot << (SLOT % 16));
        put::<{ IP + 8 }, 8, _>(frame, (FIRST_HOST + u64::from(host)).to_be_bytes());
        put::<{ IP + 16 }, 8, _>(frame, interface.to_be_bytes());
        put::<{ UDP_6 + UDP_CHECKSUM }, 2, _>(frame, nonzero(checksum(self.udp, change)).to_be_bytes());
    }
}

/// The checksum over what has this sum, and numbers whose sum, below 2^31, is `change`. A number adds as much as its
/// words do: 2^16 is 1 there.
#[inline]
const fn checksum(sum: u16, change: u32) -> u16 {
    Sum::ZERO.add_32(change + sum as u32).checksum()
}

/// Writes `BYTES` bytes at `AT`, which the compiler sees are there.
#[inline]
const fn put<const AT: usize, const BYTES: usize, const LENGTH: usize>(
    frame: &mut [u8; LENGTH],
    bytes: [u8; BYTES],
) {
    const { assert!(AT + BYTES <= LENGTH) };
    if let Some((_, rest)) = frame.split_at_mut_checked(AT)
        && let Some(place) = rest.first_chunk_mut()
    {
        *place = bytes;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{PACKETS, frame};
    use crate::site::vnet;
    use overlane_dataplane::buffer::{HeapOptions, HeapPacket, HeapPool};
    use std::collections::HashSet;

    #[test]
    fn stamped_packet_is_the_one_made_for_that_node() {
        let vnet = vnet().unwrap();
        // Where words carry, the ends, and all over.
        let edges = [0, 63, 64, 0xfffe, 0xffff, 0x1_0000, 0x3f_ffff, LIMIT - 1];
        let indices: Vec<_> = edges.into_iter().chain((0..50_000).map(|step| step * 331)).collect();
        for direction in [Direction::FourToSix, Direction::SixToFour] {
            let stamp = Stamp::new(direction, LIMIT).unwrap();
            for (number, index) in indices.iter().enumerate() {
                // Of any flow and any length.
                let (flow, length) = (number as u32 % PACKETS, 10 + number % 7 * 100);
                let wanted = frame(direction, vnet, flow, *index, length).unwrap();
                let mut made = frame(direction, vnet, flow, 0, length).unwrap();
                match direction {
                    Direction::FourToSix => stamp.base.four(&mut made, *index),
                    Direction::SixToFour => stamp.base.six(&mut made, *index),
                }
                assert_eq!(wanted, made, "{direction:?}, node {index}");
            }
        }
    }

    #[test]
    fn stamps_come_to_every_mapping_before_they_come_again() {
        let mut stamp = Stamp::new(Direction::FourToSix, 1 << 16).unwrap();
        let seen: HashSet<_> = (0..1 << 16).map(|_| stamp.step()).collect();
        assert_eq!(seen.len(), 1 << 16);
        assert!(seen.iter().all(|index| *index < 1 << 16));
    }

    #[test]
    fn burst_is_stamped_packet_by_packet() {
        let pool = HeapPool::new(HeapOptions::default());
        let frame = frames(Direction::SixToFour, Size::Bytes(64), 1).unwrap().remove(0);
        let mut burst: Vec<HeapPacket> = (0..3).map(|_| pool.packet(&frame).unwrap()).collect();
        Stamp::new(Direction::SixToFour, LIMIT).unwrap().burst(&mut burst);
        let different: HashSet<_> = burst.iter().map(|packet| packet.head().to_vec()).collect();
        assert_eq!(different.len(), 3);
    }
}
