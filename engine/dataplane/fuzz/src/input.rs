//! Bytes of a fuzzer as frames that get past the first checks: addresses and checksums are made right, the rest is as
//! it comes.

use crate::{GROUP, dummy, mac, substrate, uplink_mac};
use core::net::Ipv4Addr;
use overlane_dataplane::group;

/// Whom a packet is for whose cut lies there: most often `node`.
#[must_use]
pub const fn receiver(cut: usize, node: Ipv4Addr) -> Ipv4Addr {
    match cut {
        0xe0..0xf0 => Ipv4Addr::BROADCAST,
        0xf0..=0xff => GROUP,
        _ => node,
    }
}

/// Takes an input apart: each packet has its length and the place of a cut between segments in front.
pub fn packets(mut input: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    core::iter::from_fn(move || {
        let (&[high, low, cut], rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high & 0x0f, low])).min(rest.len());
        let (packet, rest) = rest.split_at(length);
        input = rest;
        Some((packet, usize::from(cut)))
    })
    .take(64)
}

/// An IPv4 packet from one node to another, in its frame. Its version, its length, unless `as_it_is`, and its header's
/// checksum are right.
#[must_use]
pub fn from_node(packet: &[u8], ends: (Ipv4Addr, Ipv4Addr), as_it_is: bool) -> Vec<u8> {
    let is_group = ends.1.is_multicast() || ends.1.is_broadcast();
    let to = if is_group { group::mac(ends.1) } else { dummy(ends.1) };
    let mut frame = [&to.0[..], &mac(ends.0).0, &[8, 0]].concat();
    frame.extend(packet);
    let length = packet.len() as u16;
    if let Some(header) = frame.get_mut(14..) {
        put(header, 12, &ends.0.octets());
        put(header, 16, &ends.1.octets());
        if let Some(first) = header.first_mut() {
            *first = 0x40 | (*first & 0xf).max(5);
        }
        if !as_it_is {
            put(header, 2, &length.to_be_bytes());
        }
        let end = header.first().map_or(0, |first| usize::from(first & 0xf) * 4);
        put(header, 10, &[0, 0]);
        let checksum = !sum(header.get(..end).unwrap_or(&[]));
        put(header, 10, &checksum.to_be_bytes());
    }
    frame
}

/// An IPv6 packet of the substrate for a node, in its frame. Its version and, unless `as_it_is`, its length are right.
#[must_use]
pub fn from_substrate(packet: &[u8], host: usize, ends: ([u8; 16], Ipv4Addr), as_it_is: bool) -> Vec<u8> {
    let mut frame = [&uplink_mac(host).0[..], &uplink_mac(1 - host).0, &[0x86, 0xdd]].concat();
    frame.extend(packet);
    let length = packet.len().saturating_sub(40) as u16;
    if let Some(header) = frame.get_mut(14..) {
        put(header, 8, &ends.0);
        put(header, 24, &substrate(ends.1).octets());
        if let Some(first) = header.first_mut() {
            *first = 0x60 | *first & 0xf;
        }
        if !as_it_is {
            put(header, 4, &length.to_be_bytes());
        }
    }
    frame
}

/// Writes bytes where there is room for all of them.
pub fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + new.len()) {
        place.copy_from_slice(new);
    }
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
