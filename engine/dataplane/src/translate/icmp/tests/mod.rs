//! Whole messages, each compared with one that is built from scratch on the other side.

mod messages;
mod properties;
mod quotes;

use super::*;
use crate::drop::DropReason;
use crate::translate::Settings;

const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const UNKNOWN: Mtus = Mtus { four: u16::MAX, six: u16::MAX };
/// The error goes from the peer to the node.
const ENDS: (Ipv6Addr, Ipv6Addr) = (six(PEER), six(NODE));

/// The addresses of 10.0.0.0/24 live on hosts of their own; there are no others.
struct Vnet;

const fn six(ipv4: Ipv4Addr) -> Ipv6Addr {
    let [.., last] = ipv4.octets();
    Ipv6Addr::from_bits(
        0xfd00_0000_ffff_0000_0400_0007_0000_0000 | (last as u128) << 64 | ipv4.to_bits() as u128,
    )
}

impl Correspondence for Vnet {
    fn six(&self, ipv4: Ipv4Addr) -> Option<Ipv6Addr> {
        (ipv4.octets()[..3] == [10, 0, 0]).then(|| six(ipv4))
    }

    fn four(&self, ipv6: Ipv6Addr) -> Option<Ipv4Addr> {
        let ipv4 = Ipv4Addr::from_bits(ipv6.to_bits() as u32);
        (self.six(ipv4) == Some(ipv6)).then_some(ipv4)
    }
}

/// Every address is its own counterpart, somehow.
struct Any;

impl Correspondence for Any {
    fn six(&self, ipv4: Ipv4Addr) -> Option<Ipv6Addr> {
        Some(six(ipv4))
    }

    fn four(&self, ipv6: Ipv6Addr) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from_bits(ipv6.to_bits() as u32))
    }
}

fn pseudo_four(protocol: u8, length: usize) -> Sum {
    let sum = Sum::ZERO.add_bytes(&NODE.octets()).add_bytes(&PEER.octets());
    sum.add(protocol.into()).add(length as u16)
}

fn pseudo_six(protocol: u8, length: usize) -> Sum {
    let sum = Sum::ZERO.add_bytes(&six(NODE).octets()).add_bytes(&six(PEER).octets());
    sum.add(protocol.into()).add(length as u16)
}

fn seal_at(bytes: &mut [u8], place: usize, pseudo: Sum) {
    bytes[place..place + 2].copy_from_slice(&[0, 0]);
    let checksum = pseudo.add_bytes(bytes).checksum();
    bytes[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
}

fn filler(length: usize) -> Vec<u8> {
    (0..length).map(|place| place as u8 ^ 0x5a).collect()
}

/// A quoted transport under both IP versions: number, bytes, and the offset of its checksum.
struct Transport {
    four: (u8, Vec<u8>),
    six: (u8, Vec<u8>),
    checksum: Option<usize>,
}

/// A transport whose checksum covers a pseudo-header on both sides.
fn sealed(number: u8, place: usize, length: usize) -> Transport {
    let mut four = filler(length);
    let mut six = four.clone();
    seal_at(&mut four, place, pseudo_four(number, length));
    seal_at(&mut six, place, pseudo_six(number, length));
    Transport { four: (number, four), six: (number, six), checksum: Some(place) }
}

fn echo(four_kind: u8, six_kind: u8, length: usize) -> Transport {
    let (mut four, mut six) = (filler(length), filler(length));
    four[..2].copy_from_slice(&[four_kind, 0]);
    six[..2].copy_from_slice(&[six_kind, 0]);
    seal_at(&mut four, 2, Sum::ZERO);
    seal_at(&mut six, 2, pseudo_six(58, length));
    Transport { four: (1, four), six: (58, six), checksum: Some(2) }
}

/// Byte for byte.
fn opaque(number: u8, length: usize) -> Transport {
    Transport { four: (number, filler(length)), six: (number, filler(length)), checksum: None }
}

fn transports() -> Vec<Transport> {
    vec![
        sealed(protocol::TCP, 16, 61),
        sealed(protocol::UDP, 6, 40),
        sealed(protocol::UDP_LITE, 6, 40),
        sealed(protocol::DCCP, 6, 40),
        echo(8, 128, 64),
        echo(0, 129, 9),
        opaque(50, 44),
        opaque(132, 44),
        opaque(59, 0),
        opaque(253, 3),
    ]
}

fn four_fields(protocol: u8, payload: usize) -> ipv4::Fields {
    ipv4::Fields {
        tos: 0xb9,
        total_length: (20 + payload) as u16,
        identification: 0,
        dont_fragment: 20 + payload > 1260,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 3,
        protocol,
        source: NODE,
        destination: PEER,
    }
}

fn six_fields(next_header: u8, payload: usize) -> ipv6::Fields {
    ipv6::Fields {
        traffic_class: 0xb9,
        payload_length: payload as u16,
        next_header,
        hop_limit: 3,
        source: six(NODE),
        destination: six(PEER),
    }
}

fn four_bytes(fields: ipv4::Fields, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; ipv4::LENGTH];
    fields.emit(&mut header);
    [&header[..], payload].concat()
}

fn six_bytes(fields: ipv6::Fields, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; ipv6::LENGTH];
    fields.emit(&mut header);
    [&header[..], payload].concat()
}

fn four_packet((protocol, payload): &(u8, Vec<u8>)) -> Vec<u8> {
    four_bytes(four_fields(*protocol, payload.len()), payload)
}

fn six_packet((next_header, payload): &(u8, Vec<u8>)) -> Vec<u8> {
    six_bytes(six_fields(*next_header, payload.len()), payload)
}

fn icmp4(kind: u8, code: u8, second: u32, quote: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0][..], &second.to_be_bytes(), quote].concat();
    seal_at(&mut bytes, 2, Sum::ZERO);
    bytes
}

fn icmp6(kind: u8, code: u8, second: u32, quote: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0][..], &second.to_be_bytes(), quote].concat();
    let length = bytes.len() as u16;
    seal_at(&mut bytes, 2, pseudo(ENDS).add(length));
    bytes
}

fn to_six(message: &[u8]) -> Result<Vec<u8>, DropReason> {
    error_to_six(message, Whole::of(message), ENDS, UNKNOWN, &Settings::default(), &Vnet)
        .map(|message| message.to_vec())
}

fn to_four(message: &[u8]) -> Result<Vec<u8>, DropReason> {
    error_to_four(message, Whole::of(message), ENDS, UNKNOWN, &Settings::default(), &Vnet)
        .map(|message| message.to_vec())
}

/// What a message sums up to with its pseudo-header: 0xffff if it is right.
fn sum_four(message: &[u8]) -> u16 {
    Sum::ZERO.add_bytes(message).fold()
}

fn sum_six(message: &[u8]) -> u16 {
    pseudo(ENDS).add(message.len() as u16).add_bytes(message).fold()
}
