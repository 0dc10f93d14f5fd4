//! Packets written down byte by byte, checksums included, by nobody's code but this file's.

use core::net::{Ipv4Addr, Ipv6Addr};

/// A node on the translator's IPv4 side, and its address on the other.
pub(crate) const ALICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub(crate) const ALICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0x0400, 7, 0x0a00, 0x000a);
/// A node beyond the IPv6 network.
pub(crate) const BOB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
pub(crate) const BOB_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0xb, 0x1400, 7, 0x0a00, 0x0014);
/// Their common gateway, and a router of the IPv6 network.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0xffff, 0, 0, 0, 1);

/// Adds the words up with end-around carry.
fn add(sum: u16, bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// An IPv4 packet; `options` are a multiple of four bytes.
#[derive(Debug, Clone)]
pub(crate) struct V4 {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) tos: u8,
    pub(crate) identification: u16,
    /// Flags and fragment offset as they lie in the header.
    pub(crate) flags: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// What the header claims of the payload's length, where that is not the truth.
    pub(crate) claims: Option<usize>,
}

/// An IPv6 packet; extension headers are part of the payload.
#[derive(Debug, Clone)]
pub(crate) struct V6 {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) traffic_class: u8,
    pub(crate) flow_label: u32,
    pub(crate) hop_limit: u8,
    pub(crate) next_header: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) claims: Option<usize>,
}

pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;

/// From Alice to Bob under IPv4, as her node sends it.
pub(crate) fn v4(protocol: u8, payload: Vec<u8>) -> V4 {
    V4 {
        source: ALICE,
        destination: BOB,
        tos: 0xb9,
        identification: 0x4321,
        flags: DONT_FRAGMENT,
        ttl: 64,
        protocol,
        options: Vec::new(),
        payload,
        claims: None,
    }
}

/// From Alice to Bob under IPv6, as it must leave her host.
pub(crate) fn v6(next_header: u8, payload: Vec<u8>) -> V6 {
    V6 {
        source: ALICE_V6,
        destination: BOB_V6,
        traffic_class: 0xb9,
        flow_label: 0,
        hop_limit: 63,
        next_header,
        payload,
        claims: None,
    }
}

/// The generator's identifications in what the reference makes.
pub(crate) const IDENTIFICATION: u16 = 0x1111;
pub(crate) const QUOTED_IDENTIFICATION: u16 = 0x2222;

impl V4 {
    /// The same in the other direction, as it must reach Alice when it left Bob's host with a hop limit of 63.
    pub(crate) fn back(self) -> Self {
        let mut packet = self.reversed();
        packet.ttl = 62;
        packet.identification = IDENTIFICATION;
        packet.flags = 0;
        packet
    }

    /// The same with its addresses the other way round, and nothing else changed.
    pub(crate) fn reversed(mut self) -> Self {
        core::mem::swap(&mut self.source, &mut self.destination);
        self
    }

    pub(crate) fn with_flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut bytes = vec![0x40 | (header / 4) as u8, self.tos];
        bytes.extend(((header + self.claims.unwrap_or(self.payload.len())) as u16).to_be_bytes());
        bytes.extend(self.identification.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.options);
        let checksum = !add(0, &bytes);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Writes the checksum at `place` of the payload, with a pseudo-header unless this is ICMP.
    pub(crate) fn sealed(mut self, place: usize) -> Self {
        let mut pseudo = Vec::new();
        if self.protocol != 1 {
            pseudo.extend(self.source.octets());
            pseudo.extend(self.destination.octets());
            pseudo.extend([0, self.protocol]);
            pseudo.extend((self.payload.len() as u16).to_be_bytes());
        }
        seal(&mut self.payload, place, &pseudo);
        self
    }
}

impl V6 {
    /// The same in the other direction, as it left Bob's host.
    pub(crate) fn back(mut self) -> Self {
        core::mem::swap(&mut self.source, &mut self.destination);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend((self.claims.unwrap_or(self.payload.len()) as u16).to_be_bytes());
        bytes.extend([self.next_header, self.hop_limit]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.payload);
        bytes
    }

    /// Writes the checksum at `place` of the payload, which has no extension headers.
    pub(crate) fn sealed(self, place: usize) -> Self {
        let length = self.payload.len();
        self.sealed_as(place, length)
    }

    /// The same, with this length in the pseudo-header.
    pub(crate) fn sealed_as(mut self, place: usize, length: usize) -> Self {
        let mut pseudo = self.source.octets().to_vec();
        pseudo.extend(self.destination.octets());
        pseudo.extend((length as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, self.next_header]);
        seal(&mut self.payload, place, &pseudo);
        self
    }

    /// Puts an extension header in front of the payload; `rest` is all of it but its first byte.
    pub(crate) fn behind(mut self, number: u8, rest: &[u8]) -> Self {
        let mut payload = vec![self.next_header];
        payload.extend(rest);
        payload.extend(&self.payload);
        (self.next_header, self.payload) = (number, payload);
        self
    }

    /// Puts a fragment header in front of the payload.
    pub(crate) fn fragment(self, offset: usize, more: bool, identification: u32) -> Self {
        let mut rest = vec![0];
        rest.extend((offset as u16 | u16::from(more)).to_be_bytes());
        rest.extend(identification.to_be_bytes());
        self.behind(44, &rest)
    }
}

fn seal(payload: &mut [u8], place: usize, pseudo: &[u8]) {
    payload[place..place + 2].fill(0);
    let checksum = !add(add(0, pseudo), payload);
    payload[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Bytes that are all different, for a while.
pub(crate) fn data(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// A TCP segment without options and without checksum.
pub(crate) fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0, 80, 0x10, 0x20, 0x30, 0x40, 1, 2, 3, 4, 0x50, 0x18, 0xff, 0xff];
    segment.extend([0; 4]);
    segment.extend(payload);
    segment
}

/// A UDP datagram without checksum.
pub(crate) fn udp(payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x0f, 0xa0, 0, 53];
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// An ICMP message without checksum.
pub(crate) fn icmp(kind: u8, code: u8, word: u32, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(body);
    message
}
/// The identifications in an IPv4 packet: its own, and that of the packet quoted in it if it is an ICMP error.
pub(crate) fn identifications(packet: &[u8]) -> (u16, u16) {
    let at = |place: usize| packet.get(place..place + 2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
    (at(4), at(32))
}
