//! Whole messages, each compared with one that is built from scratch on the other side.

use super::*;
use crate::drop::DropReason;
use crate::wire::fragment;
use proptest::prelude::*;

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
    error_to_six(message, Whole::of(message), ENDS, UNKNOWN, &Vnet).map(|message| message.to_vec())
}

fn to_four(message: &[u8]) -> Result<Vec<u8>, DropReason> {
    error_to_four(message, Whole::of(message), ENDS, UNKNOWN, &Vnet).map(|message| message.to_vec())
}

/// What a message sums up to with its pseudo-header: 0xffff if it is right.
fn sum_four(message: &[u8]) -> u16 {
    Sum::ZERO.add_bytes(message).fold()
}

fn sum_six(message: &[u8]) -> u16 {
    pseudo(ENDS).add(message.len() as u16).add_bytes(message).fold()
}

#[test]
fn quoted_packet_of_each_transport_is_that_of_the_other_side() {
    for transport in transports() {
        let four = icmp4(3, 3, 0, &four_packet(&transport.four));
        let six = icmp6(1, 4, 0, &six_packet(&transport.six));
        assert_eq!(to_six(&four).unwrap(), six, "{}", transport.four.0);
        assert_eq!(to_four(&six).unwrap(), four, "{}", transport.four.0);
    }
}

#[test]
fn quote_may_be_cut_off_anywhere_behind_its_header() {
    for transport in transports() {
        let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
        // The type of an ICMP message has to be there: it might be an error.
        let least = usize::from(transport.four.0 == protocol::ICMP);
        let behind = transport.four.1.len();
        for cut in 0..20 + least {
            assert_eq!(to_six(&icmp4(11, 0, 0, &four[..cut])), Err(DropReason::IcmpQuoteInvalid), "{cut}");
        }
        for cut in 0..40 + least {
            assert_eq!(to_four(&icmp6(3, 0, 0, &six[..cut])), Err(DropReason::IcmpQuoteInvalid), "{cut}");
        }
        for cut in least..=behind {
            let (mut four, mut six) = (four[..20 + cut].to_vec(), six[..40 + cut].to_vec());
            let (there, back) = (to_six(&icmp4(11, 0, 0, &four)), to_four(&icmp6(3, 0, 0, &six)));
            if let Some(place) = transport.checksum.filter(|place| cut == place + 1) {
                // Half of a checksum stays as it was.
                core::mem::swap(&mut four[20 + place], &mut six[40 + place]);
            }
            assert_eq!(there.unwrap(), icmp6(3, 0, 0, &six), "{} {cut}", transport.four.0);
            assert_eq!(back.unwrap(), icmp4(11, 0, 0, &four), "{} {cut}", transport.four.0);
        }
    }
}

#[test]
fn wrong_quoted_checksum_stays_as_wrong_and_none_stays_none() {
    let Transport { mut four, mut six, .. } = sealed(protocol::UDP, 6, 40);
    four.1[20] ^= 0xff;
    six.1[20] ^= 0xff;
    let (four, six) = (icmp4(3, 3, 0, &four_packet(&four)), icmp6(1, 4, 0, &six_packet(&six)));
    assert_eq!(to_six(&four).unwrap(), six);
    assert_eq!(to_four(&six).unwrap(), four);

    for number in [protocol::UDP, protocol::UDP_LITE] {
        let mut none = opaque(number, 40);
        none.four.1[6..8].fill(0);
        none.six.1[6..8].fill(0);
        let (four, six) = (icmp4(3, 3, 0, &four_packet(&none.four)), icmp6(1, 4, 0, &six_packet(&none.six)));
        assert_eq!(to_six(&four).unwrap(), six);
        assert_eq!(to_four(&six).unwrap(), four);
    }
}

#[test]
fn quoted_fragment_has_a_fragment_header_on_the_ipv6_side_only() {
    for (offset, more) in [(0, true), (185, true), (185, false), (8191, false)] {
        for transport in transports() {
            let mut transport = transport;
            let (number, payload) = &mut transport.four;
            let mut six_payload = transport.six.1.clone();
            if *number == protocol::ICMP && offset == 0 {
                // No fragment tells the length that the pseudo-header has.
                seal_at(&mut six_payload, 2, pseudo_six(58, 0));
            }
            if offset != 0 {
                six_payload.clone_from(payload);
            }
            let fields = four_fields(*number, payload.len());
            let fields = ipv4::Fields {
                more_fragments: more,
                fragment_offset: offset,
                identification: 0xbeef,
                dont_fragment: false,
                ..fields
            };
            let four = icmp4(11, 1, 0, &four_bytes(fields, payload));
            let mut header = [0; 8];
            let next_header = transport.six.0;
            fragment::Fields { next_header, offset, more_fragments: more, identification: 0xbeef }
                .emit(&mut header);
            let behind = [&header[..], &six_payload].concat();
            let six = icmp6(3, 1, 0, &six_packet(&(protocol::FRAGMENT, behind)));
            assert_eq!(to_six(&four).unwrap(), six, "{number} {offset} {more}");
            assert_eq!(to_four(&six).unwrap(), four, "{number} {offset} {more}");
        }
    }
}

#[test]
fn atomic_fragment_keeps_the_lower_half_of_its_identification() {
    let mut transport = sealed(protocol::UDP, 6, 40);
    let header = [protocol::UDP, 0, 0, 0, 0x12, 0x34, 0xbe, 0xef];
    transport.six.1.splice(0..0, header);
    let six = icmp6(1, 4, 0, &six_packet(&(protocol::FRAGMENT, transport.six.1)));
    let fields = ipv4::Fields { identification: 0xbeef, ..four_fields(protocol::UDP, 40) };
    assert_eq!(to_four(&six).unwrap(), icmp4(3, 3, 0, &four_bytes(fields, &transport.four.1)));
}

#[test]
fn quoted_options_and_extension_headers_stay_behind() {
    let transport = sealed(protocol::UDP, 6, 40);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));

    // A source route with addresses left among them: the error is about a packet that has been sent already.
    let mut with_options =
        four_packet(&(protocol::UDP, [&[131, 7, 4, 10, 0, 0, 3, 0][..], &transport.four.1].concat()));
    with_options[0] = 0x47;
    assert_eq!(to_six(&icmp4(3, 5, 0, &with_options)).unwrap(), icmp6(1, 0, 0, &six));

    let hop_by_hop = [60, 1, 1, 4, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0];
    let destination_options = [43, 0, 1, 4, 0, 0, 0, 0];
    let routing = [protocol::UDP, 2, 4, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    let chain = [&hop_by_hop[..], &destination_options, &routing, &transport.six.1].concat();
    let message = icmp6(3, 0, 0, &six_packet(&(protocol::HOP_BY_HOP, chain)));
    assert_eq!(to_four(&message).unwrap(), icmp4(11, 0, 0, &four));
    // Cut off within them, the packet cannot be told.
    for cut in 40..40 + 16 + 8 + 24 {
        let message = icmp6(3, 0, 0, &message[8..8 + cut]);
        assert_eq!(to_four(&message), Err(DropReason::IcmpQuoteInvalid), "{cut}");
    }
}

#[test]
fn quoted_packet_that_could_not_have_crossed_is_refused() {
    let refused = Err(DropReason::IcmpQuoteInvalid);
    let payload = |kind: u8| [&[kind, 0][..], &filler(30)].concat();
    for kind in (0..=255).filter(|kind| ![0, 8].contains(kind)) {
        assert_eq!(to_six(&icmp4(3, 1, 0, &four_packet(&(1, payload(kind))))), refused, "{kind}");
    }
    for kind in (0..=255).filter(|kind| ![128, 129].contains(kind)) {
        assert_eq!(to_four(&icmp6(1, 0, 0, &six_packet(&(58, payload(kind))))), refused, "{kind}");
    }
    for number in [0, 43, 44, 51, 58, 60, 135, 139, 140] {
        assert_eq!(to_six(&icmp4(3, 1, 0, &four_packet(&(number, payload(0))))), refused, "{number}");
    }
    for number in [1, 51, 135, 139, 140] {
        assert_eq!(to_four(&icmp6(1, 0, 0, &six_packet(&(number, payload(0))))), refused, "{number}");
    }
    // Segments left; an extension header behind the fragment header; headers longer than the packet.
    let six = |number, header: [u8; 8]| {
        to_four(&icmp6(1, 0, 0, &six_packet(&(number, [&header[..], &filler(40)].concat()))))
    };
    assert_eq!(six(protocol::ROUTING, [17, 0, 4, 1, 0, 0, 0, 0]), refused);
    assert!(six(protocol::ROUTING, [17, 0, 4, 0, 0, 0, 0, 0]).is_ok());
    assert_eq!(six(protocol::FRAGMENT, [60, 0, 0, 1, 0, 0, 0, 0]), refused);
    assert!(six(protocol::FRAGMENT, [17, 0, 0, 1, 0, 0, 0, 0]).is_ok());
    assert_eq!(
        six(protocol::HOP_BY_HOP, [17, 5, 0, 0, 0, 0, 0, 0]),
        Ok(to_four(&icmp6(1, 0, 0, &six_packet(&(17, vec![])))).unwrap())
    );
    assert_eq!(six(protocol::HOP_BY_HOP, [17, 6, 0, 0, 0, 0, 0, 0]), refused);
    let mut short =
        six_packet(&(protocol::HOP_BY_HOP, [&[17, 0, 1, 4, 0, 0, 0, 0][..], &filler(40)].concat()));
    short[4..6].copy_from_slice(&[0, 7]);
    assert_eq!(to_four(&icmp6(1, 0, 0, &short)), refused);
    // 65,535 bytes behind the IPv6 header are more than an IPv4 packet has.
    let mut long = six_packet(&(17, filler(40)));
    long[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(to_four(&icmp6(1, 0, 0, &long)), refused);
    // The wrong IP version, and an IPv4 packet shorter than its header.
    assert_eq!(to_six(&icmp4(3, 1, 0, &six_packet(&(17, filler(40))))), refused);
    assert_eq!(to_four(&icmp6(1, 0, 0, &four_packet(&(17, filler(40))))), refused);
    let mut short = four_packet(&(17, filler(40)));
    short[2..4].copy_from_slice(&[0, 19]);
    assert_eq!(to_six(&icmp4(3, 1, 0, &short)), refused);
}

#[test]
fn quoted_address_without_counterpart_is_foreign() {
    for place in [12, 16] {
        let mut quote = four_packet(&(17, filler(40)));
        quote[place] = 11;
        assert_eq!(to_six(&icmp4(3, 1, 0, &quote)), Err(DropReason::IcmpQuoteForeign));
    }
    for place in [8, 24] {
        let mut quote = six_packet(&(17, filler(40)));
        quote[place] = 0xfc;
        assert_eq!(to_four(&icmp6(1, 0, 0, &quote)), Err(DropReason::IcmpQuoteForeign));
    }
}

#[test]
fn message_without_counterpart_is_named_and_one_cut_within_its_header_malformed() {
    let (four, six) = (four_packet(&(17, filler(40))), six_packet(&(17, filler(40))));
    for (kind, code, pointer) in
        [(8, 0, 0), (0, 0, 0), (4, 0, 0), (5, 1, 0), (13, 0, 0), (3, 14, 0), (12, 1, 0), (12, 0, 4)]
    {
        let message = icmp4(kind, code, pointer << 24, &four);
        assert_eq!(to_six(&message), Err(DropReason::IcmpUntranslatable), "{kind}/{code}");
    }
    for (kind, code, pointer) in
        [(128, 0, 0), (129, 0, 0), (135, 0, 0), (1, 5, 0), (4, 2, 0), (4, 0, 40), (100, 0, 0)]
    {
        let message = icmp6(kind, code, pointer, &six);
        assert_eq!(to_four(&message), Err(DropReason::IcmpUntranslatable), "{kind}/{code}");
    }
    for cut in 0..8 {
        assert_eq!(to_six(&icmp4(3, 3, 0, &four)[..cut]), Err(DropReason::TransportMalformed));
        assert_eq!(to_four(&icmp6(1, 4, 0, &six)[..cut]), Err(DropReason::TransportMalformed));
    }
}

#[test]
fn pointers_and_mtus_lie_where_their_version_has_them() {
    let transport = sealed(protocol::UDP, 6, 40);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    // Octet 4 of ICMPv4, the second word of ICMPv6.
    assert_eq!(to_six(&icmp4(12, 0, 0x0900_0000, &four)).unwrap(), icmp6(4, 0, 6, &six));
    assert_eq!(to_four(&icmp6(4, 0, 6, &six)).unwrap(), icmp4(12, 0, 0x0900_0000, &four));
    assert_eq!(to_six(&icmp4(3, 2, 0, &four)).unwrap(), icmp6(4, 1, 6, &six));
    assert_eq!(to_four(&icmp6(4, 1, 6, &six)).unwrap(), icmp4(3, 2, 0, &four));
    // The lower half of ICMPv4's second word, all of ICMPv6's.
    assert_eq!(to_six(&icmp4(3, 4, 1400, &four)).unwrap(), icmp6(2, 0, 1420, &six));
    assert_eq!(to_four(&icmp6(2, 0, 1420, &six)).unwrap(), icmp4(3, 4, 1400, &four));
    // The quoted total length tells the plateau, however little is quoted.
    let mut long = four;
    long[2..4].copy_from_slice(&1500u16.to_be_bytes());
    let new = to_six(&icmp4(3, 4, 0, &long)).unwrap();
    assert_eq!((new[0], new[1], &new[4..8]), (2, 0, &1512u32.to_be_bytes()[..]));
    // A fragment has 8 bytes more on the IPv6 side.
    let fields = ipv4::Fields { more_fragments: true, ..four_fields(17, 40) };
    let new = to_six(&icmp4(3, 4, 1400, &four_bytes(fields, &filler(40)))).unwrap();
    assert_eq!(new[4..8], 1428u32.to_be_bytes());
    let new = to_four(&icmp6(2, 0, 1428, &new[8..])).unwrap();
    assert_eq!(new[4..8], 1400u32.to_be_bytes());
}

#[test]
fn message_is_cut_to_what_its_version_allows() {
    let transport = opaque(253, 1500);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    for (quoted, kept) in [(1212, 1232), (1213, 1232), (1520, 1232), (1211, 1231)] {
        let new = to_six(&icmp4(3, 3, 0, &four[..quoted])).unwrap();
        assert_eq!(new, icmp6(1, 4, 0, &six[..kept]), "{quoted}");
    }
    for (quoted, kept) in [(568, 548), (569, 548), (1232, 548), (567, 547)] {
        let new = to_four(&icmp6(1, 4, 0, &six[..quoted])).unwrap();
        assert_eq!(new, icmp4(3, 3, 0, &four[..kept]), "{quoted}");
    }
}

#[test]
fn beginning_of_a_long_message_is_enough() {
    let transport = opaque(253, 9000);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    let whole = icmp4(3, 3, 0, &four);
    let new = error_to_six(&whole[..2300], Whole::of(&whole), ENDS, UNKNOWN, &Vnet).unwrap();
    assert_eq!(new.to_vec(), icmp6(1, 4, 0, &six[..1232]));
    let whole = icmp6(1, 4, 0, &six);
    let new = error_to_four(&whole[..2300], Whole::of(&whole), ENDS, UNKNOWN, &Vnet).unwrap();
    assert_eq!(new.to_vec(), icmp4(3, 3, 0, &four[..548]));
    // An extension structure that is not wholly at hand is left out.
    let whole = icmp4(3, 3, 32 << 16, &[&four[..128], &filler(3000)].concat());
    let new = error_to_six(&whole[..2300], Whole::of(&whole), ENDS, UNKNOWN, &Vnet).unwrap();
    assert_eq!(new.to_vec(), icmp6(1, 4, 0, &six[..148]));
}

/// One row: what is quoted, zeros behind it, the extension structure; the same on the other side.
type Row = (usize, usize, usize, usize, usize, usize);

#[test]
fn extension_structure_stays_whole_behind_a_quote_of_whole_units_of_at_least_128_bytes() {
    #[rustfmt::skip]
    let to_four_rows: [Row; 10] = [
        (152,  0,  20, 132,   0,  20),
        (122,  6,  20, 102,  26,  20),
        (128,  0, 420, 108,  20, 420),
        (128,  0, 421, 108,   0,   0), // leaves 127 bytes for the quote
        (528,  0,  40, 508,   0,  40),
        (536,  0,  40, 508,   0,  40),
        (1192, 0,  40, 508,   0,  40),
        (576,  0, 521, 548,   0,   0),
        (576,  0,  41, 504,   0,  41), // the quote in words of 4 bytes, the structure of any length
        (48,   0,  40,  28, 100,  40), // under 128 bytes, as some routers send it
    ];
    for row in to_four_rows {
        let (quoted, padding, structure, kept, zeros, left) = row;
        let transport = opaque(253, if padding == 0 { 1500 } else { quoted - 40 });
        let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
        let length = ((quoted + padding) / 8) as u32;
        let quote = [&six[..quoted], &vec![0; padding], &filler(structure)].concat();
        let new_quote = [&four[..kept], &vec![0; zeros], &filler(left)].concat();
        let new_length = if left == 0 { 0 } else { (kept + zeros) as u32 / 4 };
        for (old, new) in [((1, 4), (3, 3)), ((3, 0), (11, 0))] {
            let message = icmp6(old.0, old.1, length << 24, &quote);
            let expected = icmp4(new.0, new.1, new_length << 16, &new_quote);
            assert_eq!(to_four(&message).unwrap(), expected, "{row:?}");
        }
    }
    #[rustfmt::skip]
    let to_six_rows: [Row; 11] = [
        (132,  0,   20,  152,  0,   20),
        (126,  2,   20,  144,  0,   20), // 146 bytes do not fill units of 8
        (128,  0,   20,  144,  0,   20),
        (572,  0,  640,  592,  0,  640),
        (1020, 0,  192, 1040,  0,  192),
        (132,  0, 1080,  152,  0, 1080),
        (580,  0,  640,  592,  0,  640),
        (1020, 0,  200, 1032,  0,  200),
        (132,  0, 1104,  128,  0, 1104),
        (132,  0, 1105,  152,  0,    0), // leaves 127 bytes for the quote
        (28,   0,   40,   48, 80,   40), // under 128 bytes, as some routers send it
    ];
    for row in to_six_rows {
        let (quoted, padding, structure, kept, zeros, left) = row;
        let transport = opaque(253, if padding == 0 { 1500 } else { quoted - 20 });
        let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
        let length = ((quoted + padding) / 4) as u32;
        let quote = [&four[..quoted], &vec![0; padding], &filler(structure)].concat();
        let new_quote = [&six[..kept], &vec![0; zeros], &filler(left)].concat();
        let new_length = if left == 0 { 0 } else { (kept + zeros) as u32 / 8 };
        for (old, new) in [((3, 3), (1, 4)), ((11, 0), (3, 0))] {
            let message = icmp4(old.0, old.1, length << 16, &quote);
            let expected = icmp6(new.0, new.1, new_length << 24, &new_quote);
            assert_eq!(to_six(&message).unwrap(), expected, "{row:?}");
        }
    }
}

#[test]
fn extension_structure_is_left_out_where_the_other_type_has_no_length_attribute() {
    let transport = sealed(protocol::UDP, 6, 40);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    let quote = [&four[..], &[0; 68], &filler(20)].concat();
    // Parameter problem, protocol unreachable, fragmentation needed; the padding goes as well.
    assert_eq!(to_six(&icmp4(12, 0, 0x0920_0000, &quote)).unwrap(), icmp6(4, 0, 6, &six));
    assert_eq!(to_six(&icmp4(3, 2, 0x0020_0000, &quote)).unwrap(), icmp6(4, 1, 6, &six));
    assert_eq!(to_six(&icmp4(3, 4, 0x0020_0578, &quote)).unwrap(), icmp6(2, 0, 1420, &six));
    // The first octet of an MTU or a pointer is no length attribute.
    let quote = [&six[..], &[0; 48], &filler(20)].concat();
    let new = to_four(&icmp6(2, 0, 0x1000_0000, &quote)).unwrap();
    assert_eq!(new, icmp4(3, 4, 65515, &[&four[..], &[0; 48], &filler(20)].concat()));
}

#[test]
fn length_attribute_that_leaves_no_room_for_a_structure_means_nothing() {
    let transport = opaque(253, 1500);
    let (four, six) = (four_packet(&transport.four), six_packet(&transport.six));
    for length in [0, 34, 35, 255] {
        let message = icmp4(3, 3, length << 16, &four[..136]);
        assert_eq!(to_six(&message).unwrap(), icmp6(1, 4, 0, &six[..156]), "{length}");
    }
    for length in [0, 18, 19, 255] {
        let message = icmp6(1, 4, length << 24, &six[..144]);
        assert_eq!(to_four(&message).unwrap(), icmp4(3, 3, 0, &four[..124]), "{length}");
    }
}

/// Messages that mostly get somewhere: a likely type and a likely quote, and anything else anywhere.
fn hostile(six_side: bool) -> impl Strategy<Value = Vec<u8>> {
    let kinds = if six_side { vec![1u8, 2, 3, 4] } else { vec![3, 11, 12] };
    let numbers = prop::sample::select(vec![0u8, 1, 6, 17, 33, 43, 44, 50, 51, 58, 60, 136]);
    let header = (prop::sample::select(kinds), 0u8..6, any::<[u8; 4]>(), numbers, any::<u16>());
    let bytes = prop::collection::vec(any::<u8>(), 0..2300);
    (header, bytes).prop_map(move |((kind, code, second, number, length), behind)| {
        let mut message = vec![kind, code, 0x12, 0x34];
        message.extend(second);
        message.extend(behind);
        if six_side && message.len() >= 48 {
            message[8] = 0x60;
            message[12..14].copy_from_slice(&length.to_be_bytes());
            message[14] = number;
        } else if !six_side && message.len() >= 28 {
            message[8] = 0x45 + message[9] % 3;
            message[10..12].copy_from_slice(&length.to_be_bytes());
            message[17] = number;
        }
        message
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Nothing panics, every message is within its limit, its length attribute is within it, and its checksum is as
    /// far from right as it was.
    #[test]
    fn any_icmpv4_message_is_refused_or_becomes_a_sound_one(message in hostile(false)) {
        let Ok(new) = error_to_six(&message, Whole::of(&message), ENDS, UNKNOWN, &Any) else { return Ok(()) };
        prop_assert!(new.len() <= MAX_SIX && new.len() >= 48);
        prop_assert_eq!(sum_six(&new) % 0xffff, sum_four(&message) % 0xffff);
        if matches!(new[0], 1 | 3) && new[4] != 0 {
            prop_assert!(new[4] >= 16 && 8 + usize::from(new[4]) * 8 < new.len());
        }
        prop_assert_eq!(new[8] >> 4, 6);
    }

    #[test]
    fn any_icmpv6_message_is_refused_or_becomes_a_sound_one(message in hostile(true)) {
        let Ok(new) = error_to_four(&message, Whole::of(&message), ENDS, UNKNOWN, &Any) else { return Ok(()) };
        prop_assert!(new.len() <= MAX_FOUR && new.len() >= 28);
        prop_assert_eq!(sum_four(&new) % 0xffff, sum_six(&message) % 0xffff);
        if new[5] != 0 {
            prop_assert!(new[5] >= 32 && 8 + usize::from(new[5]) * 4 < new.len());
        }
        prop_assert!(ipv4::Header::new_checked(&new[8..]).unwrap().is_checksum_right());
    }

    #[test]
    fn any_bytes_at_all_are_answered_without_panic(
        message in prop::collection::vec(any::<u8>(), 0..2300), length in any::<u16>(), sum in any::<u16>(),
    ) {
        let whole = Whole { length, sum };
        let _ = error_to_six(&message, whole, ENDS, UNKNOWN, &Any);
        let _ = error_to_four(&message, whole, ENDS, UNKNOWN, &Any);
        let _ = may_answer_ipv4(&message);
        let _ = may_answer_ipv6(&message);
    }

    /// There and back again: what both versions can say comes back as it was, checksums right or wrong.
    #[test]
    fn error_comes_back_as_it_went(
        which in 0usize..10,
        kind in prop::sample::select(vec![(3u8, 1u8), (3, 3), (3, 4), (3, 10), (11, 0), (11, 1), (12, 0), (3, 2)]),
        pointer in prop::sample::select(vec![0u8, 1, 2, 8, 9, 12, 16]),
        fragment in prop::option::of((0u16..8192, any::<bool>(), any::<u16>())),
        (tos, ttl, wrong, inner_wrong) in any::<(u8, u8, u16, u16)>(),
        cut in 0usize..100,
        extension in prop::option::of(1usize..100),
    ) {
        let mut transport = transports().swap_remove(which).four;
        if let Some(byte) = transport.1.get_mut(20) {
            *byte ^= inner_wrong as u8;
        }
        let mut fields = ipv4::Fields { tos, ttl, ..four_fields(transport.0, transport.1.len()) };
        if let Some((offset, more, identification)) = fragment.filter(|part| part.0 > 0 || part.1) {
            fields = ipv4::Fields { fragment_offset: offset, more_fragments: more, identification, ..fields };
        }
        let mut quote = four_bytes(fields, &transport.1);
        quote.truncate(quote.len().saturating_sub(cut).max(21));
        let mut second = match kind {
            (12, 0) => u32::from(pointer) << 24,
            (3, 4) => 1300,
            _ => 0,
        };
        if let Some(extension) = extension.filter(|_| [(3, 1), (3, 3), (11, 0)].contains(&kind)) {
            quote.resize(128, 0);
            quote.extend(filler(extension));
            second = 32 << 16;
        }
        let mut message = icmp4(kind.0, kind.1, second, &quote);
        let checksum = u16::from_be_bytes([message[2], message[3]]);
        message[2..4].copy_from_slice(&checksum.wrapping_add(wrong).to_be_bytes());
        prop_assume!(sum_four(&message) != 0);

        let there = to_six(&message).unwrap();
        let back = to_four(&there).unwrap();
        // Both spellings of zero are right in a checksum.
        prop_assert_eq!(sum_four(&back), sum_four(&message));
        let mut back = back;
        if u16::from_be_bytes([back[2], back[3]]) % 0xffff == u16::from_be_bytes([message[2], message[3]]) % 0xffff {
            back[2..4].copy_from_slice(&message[2..4]);
        }
        prop_assert_eq!(back, message);
    }
}
