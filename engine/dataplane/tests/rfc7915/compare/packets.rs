//! Packets that proptest thinks of: nearly all valid, of every kind that the RFC knows.

use crate::build::*;
use crate::reference::bytes::{checksum, sum};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A packet's bytes, which a test that fails shows as hexadecimal numbers.
#[derive(Clone)]
pub(crate) struct Packet(pub(crate) Vec<u8>);

impl core::fmt::Debug for Packet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What follows the network headers, before it has a checksum.
#[derive(Debug)]
struct Content {
    /// Protocol under IPv4, next header under IPv6.
    numbers: (u8, u8),
    /// The bytes under either version, and where their checksum is.
    bytes: (Vec<u8>, Vec<u8>),
    checksum: Option<usize>,
}

impl Content {
    fn same(number: u8, bytes: Vec<u8>, checksum: Option<usize>) -> Self {
        Self { numbers: (number, number), bytes: (bytes.clone(), bytes), checksum }
    }

    fn into_v4(self, headers: &V4) -> V4 {
        let packet = V4 { protocol: self.numbers.0, payload: self.bytes.0, ..headers.clone() };
        match self.checksum {
            Some(place) => packet.sealed(place),
            None => packet,
        }
    }

    fn into_v6(self, headers: &V6) -> V6 {
        let packet = V6 { next_header: self.numbers.1, payload: self.bytes.1, ..headers.clone() };
        match self.checksum {
            Some(place) => packet.sealed(place),
            None => packet,
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let any = |range| prop::collection::vec(any::<u8>(), range);
    prop_oneof![4 => any(0..40), 2 => any(0..1500), 1 => any(1200..1480), 1 => any(1440..3000)]
}

/// Everything but ICMP errors.
fn plain() -> impl Strategy<Value = Content> {
    let with_options = |words: usize, payload: Vec<u8>| {
        let mut segment = tcp(&[vec![1; words * 4], payload].concat());
        segment[12] = (5 + words as u8) << 4;
        Content::same(6, segment, Some(16))
    };
    let echo = |request: bool, code, word, payload: Vec<u8>| {
        let (four, six) = if request { (8, 128) } else { (0, 129) };
        let bytes = (icmp(four, code, word, &payload), icmp(six, code, word, &payload));
        Content { numbers: (1, 58), bytes, checksum: Some(2) }
    };
    let lite = |payload: &[u8]| {
        let mut packet = udp(payload);
        packet[4..6].fill(0);
        packet
    };
    let dccp = |payload: &[u8]| [&[0x13, 0x88, 0x13, 0x89, 3, 0, 0, 0, 4, 0, 1, 2], payload].concat();
    prop_oneof![
        3 => (0usize..=10, bytes()).prop_map(move |(words, payload)| with_options(words, payload)),
        3 => bytes().prop_map(|payload| Content::same(17, udp(&payload), Some(6))),
        1 => bytes().prop_map(|payload| Content::same(17, udp(&payload), None)),
        1 => bytes().prop_map(move |payload| Content::same(136, lite(&payload), Some(6))),
        1 => bytes().prop_map(move |payload| Content::same(33, dccp(&payload), Some(6))),
        3 => (any::<bool>(), prop_oneof![4 => Just(0u8), 1 => any::<u8>()], any::<u32>(), bytes())
            .prop_map(move |(request, code, word, payload)| echo(request, code, word, payload)),
        2 => (any::<u8>(), bytes()).prop_map(|(number, payload)| Content::same(number, payload, None)),
    ]
}

/// Whether, and how, a packet is a fragment: which part of its payload it carries.
#[derive(Debug, Clone)]
enum Cut {
    Whole,
    /// Whole, yet with a fragment header where there are such.
    Atomic,
    Between(Index, Index),
}

fn cut() -> impl Strategy<Value = Cut> {
    let between = (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Cut::Between(from, to));
    prop_oneof![6 => Just(Cut::Whole), 1 => Just(Cut::Atomic), 3 => between]
}

impl Cut {
    /// The part of the payload, its offset, and whether more follows; `None` for a whole packet.
    fn of(&self, payload: &mut Vec<u8>) -> Option<(usize, bool)> {
        match self {
            Self::Whole => None,
            Self::Atomic => Some((0, false)),
            Self::Between(from, to) => {
                let units = payload.len().div_ceil(8).max(1);
                let (from, to) = (from.index(units), to.index(units) + 1);
                let (from, to) = (from.min(to - 1) * 8, to.max(from + 1) * 8);
                let more = to < payload.len();
                *payload = payload[from.min(payload.len())..to.min(payload.len())].to_vec();
                Some((from, more))
            }
        }
    }
}

/// Adds to the checksum: one's complement of any number but 0 makes it wrong.
fn spoil(payload: &mut [u8], place: Option<usize>, error: u16) {
    let Some(place) = place else { return };
    if let Some([upper, lower]) = payload.get(place..place + 2) {
        let sum = u32::from(u16::from_be_bytes([*upper, *lower])) + u32::from(error);
        let sum = ((sum & 0xffff) + (sum >> 16)) as u16 % 0xffff;
        payload[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

fn error() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(0u16), 1 => 1u16..0xfffe]
}

fn hops() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 4u8..=255, 1 => 0u8..4]
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let option: [&[u8]; 7] = [
        &[1, 1, 1, 1],
        &[7, 7, 4, 0, 0, 0, 0, 1],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[148, 4, 0, 0],
        &[131, 7, 8, 10, 0, 0, 1, 1],
        &[0, 0xff, 0xff, 0xff],
        &[137, 7, 4, 10, 0, 0, 1, 1],
    ];
    prop_oneof![
        6 => Just(Vec::new()),
        2 => prop::collection::vec(select(option[..6].to_vec()), 1..5).prop_map(|all| all.concat()),
        1 => Just(option[6].to_vec()),
    ]
}

/// The headers of an IPv4 packet from Alice to Bob.
fn headers_v4() -> impl Strategy<Value = V4> {
    (any::<u8>(), any::<u16>(), hops(), any::<bool>(), options()).prop_map(
        |(tos, identification, ttl, dont_fragment, options)| {
            let flags = if dont_fragment { DONT_FRAGMENT } else { 0 };
            V4 { tos, identification, ttl, flags, options, ..v4(0, Vec::new()) }
        },
    )
}

/// An IPv4 packet from Alice to Bob that is no error.
pub(crate) fn plain_v4() -> impl Strategy<Value = V4> {
    (headers_v4(), plain(), cut(), error()).prop_map(|(headers, content, cut, error)| {
        let place = content.checksum;
        let mut packet = content.into_v4(&headers);
        spoil(&mut packet.payload, place, error);
        let part = cut.of(&mut packet.payload);
        let (offset, more) = part.unwrap_or((0, false));
        packet.flags |= (offset / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 };
        packet
    })
}

/// The headers of an IPv6 packet from Alice to Bob.
fn headers_v6() -> impl Strategy<Value = V6> {
    (any::<u8>(), 0u32..=0xfffff, hops()).prop_map(|(traffic_class, flow_label, hop_limit)| V6 {
        traffic_class,
        flow_label,
        hop_limit,
        ..v6(0, Vec::new())
    })
}

/// Extension headers, innermost first; the last of them may be hop-by-hop options.
fn chain() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let padded =
        |units: usize| [vec![units as u8, 1, (units * 8 + 4) as u8], vec![0; units * 8 + 4]].concat();
    let routing = |units: usize, kind, left| [vec![units as u8, kind, left], vec![0; units * 8 + 4]].concat();
    let left = prop_oneof![9 => Just(0u8), 1 => any::<u8>()];
    let header = prop_oneof![
        (0usize..4).prop_map(move |units| (60, padded(units))),
        (0usize..4, any::<u8>(), left).prop_map(move |(units, kind, left)| (43, routing(units, kind, left))),
    ];
    let hop_by_hop = prop::option::of((0usize..4).prop_map(move |units| (0, padded(units))));
    let some = (prop::collection::vec(header, 0..4), hop_by_hop)
        .prop_map(|(headers, hop_by_hop)| headers.into_iter().chain(hop_by_hop).collect());
    prop_oneof![3 => Just(Vec::new()), 1 => some]
}

/// An IPv6 packet from Alice to Bob that is no error.
fn plain_v6() -> impl Strategy<Value = V6> {
    (headers_v6(), plain(), cut(), any::<u32>(), error(), chain()).prop_map(
        |(headers, content, cut, identification, error, chain)| {
            let place = content.checksum;
            let mut packet = content.into_v6(&headers);
            spoil(&mut packet.payload, place, error);
            if let Some((offset, more)) = cut.of(&mut packet.payload) {
                packet = packet.fragment(offset, more, identification);
            }
            chain.into_iter().fold(packet, |packet, (number, rest)| packet.behind(number, &rest))
        },
    )
}

/// The header of an error: mostly a type and code that there are.
fn error_header(kinds: &'static [u8]) -> impl Strategy<Value = (u8, u8, u32)> {
    let word = prop_oneof![
        Just(0u32),
        any::<u32>(),
        (0u32..2000),
        (0u32..48),
        (0u32..48).prop_map(|pointer| pointer << 24),
    ];
    (select(kinds), prop_oneof![8 => 0u8..16, 1 => any::<u8>()], word)
}

/// The body of an error: a quote, cut off anywhere, and sometimes an extension; with the length attribute in units.
fn body(quote: impl Strategy<Value = Vec<u8>>, unit: usize) -> impl Strategy<Value = (Vec<u8>, Option<u8>)> {
    let extension = prop::option::weighted(0.3, prop::collection::vec(any::<u8>(), 1..80));
    (quote, prop::option::of(any::<Index>()), extension).prop_map(move |(mut quote, end, extension)| {
        if let Some(end) = end {
            quote.truncate(end.index(quote.len() + 1));
        }
        let Some(extension) = extension else { return (quote, None) };
        quote.truncate(unit * 255);
        quote.resize(quote.len().next_multiple_of(unit).max(128), 0);
        let units = quote.len() / unit;
        quote.extend(extension);
        (quote, Some(units as u8))
    })
}

/// An ICMPv4 error of Alice's.
fn error_v4() -> impl Strategy<Value = V4> {
    let quote = plain_v4().prop_map(|packet| packet.reversed().bytes());
    (headers_v4(), error_header(&[3, 3, 3, 11, 12, 5]), body(quote, 4), error()).prop_map(
        |(headers, (kind, code, word), (body, units), error)| {
            let mut message = icmp(kind, code, word, &body);
            message[5] = units.unwrap_or(0);
            let mut packet = V4 { protocol: 1, payload: message, ..headers }.sealed(2);
            spoil(&mut packet.payload, Some(2), error);
            packet
        },
    )
}

/// An ICMPv6 error of Alice's about a packet of hers: its sender is Bob once it is turned round.
fn error_v6() -> impl Strategy<Value = V6> {
    let quote = plain_v6().prop_map(|packet| packet.bytes());
    let atomic = prop::option::weighted(0.2, any::<u32>());
    (headers_v6(), error_header(&[1, 1, 2, 2, 3, 4, 5]), body(quote, 8), error(), atomic, chain()).prop_map(
        |(headers, (kind, code, word), (body, units), error, atomic, chain)| {
            let mut message = icmp(kind, code, word, &body);
            if matches!(kind, 1 | 3) {
                message[4] = units.unwrap_or(0);
            }
            let mut packet = V6 { next_header: 58, payload: message, ..headers }.sealed(2);
            spoil(&mut packet.payload, Some(2), error);
            if let Some(identification) = atomic {
                packet = packet.fragment(0, false, identification);
            }
            chain.into_iter().fold(packet, |packet, (number, rest)| packet.behind(number, &rest))
        },
    )
}

/// Any packet that Alice's node may send to Bob.
pub(crate) fn from_node() -> impl Strategy<Value = Packet> {
    prop_oneof![2 => plain_v4(), 1 => error_v4()].prop_map(|packet| Packet(packet.bytes()))
}

/// Any packet that the uplink may bring from Bob for Alice.
pub(crate) fn from_uplink() -> impl Strategy<Value = Packet> {
    prop_oneof![2 => plain_v6(), 1 => error_v6()].prop_map(|packet| Packet(packet.back().bytes()))
}

/// Places to cut a frame into segments.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![1 => Just(Vec::new()), 2 => prop::collection::vec(0usize..200, 1..5)]
}

/// Makes an IPv4 header's checksum right again, if the header is one.
pub(crate) fn fix_header_checksum(packet: &mut [u8]) {
    let length = usize::from(packet.first().map_or(0, |first| first & 0xf)) * 4;
    if (20..=packet.len()).contains(&length) {
        packet[10..12].fill(0);
        let checksum = checksum(sum(&packet[..length]));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}
