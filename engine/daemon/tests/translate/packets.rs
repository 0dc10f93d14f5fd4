//! Packets by etherparse, from scratch.

use core::net::{Ipv4Addr, Ipv6Addr};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};

/// Two hosts, and what they are on the other side by [`MAPS`](super::command::MAPS).
pub(crate) const A4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
pub(crate) const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 9);
pub(crate) const B4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 33);
pub(crate) const B6: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0x21);

/// The same payload each time.
pub(crate) fn data(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 7) as u8).collect()
}

/// An IPv4 packet from A to B that may not be cut and has seen no router.
pub(crate) fn v4(protocol: IpNumber, payload: &[u8]) -> Ipv4Header {
    let length = payload.len() as u16;
    let mut header = Ipv4Header::new(length, 64, protocol, A4.octets(), B4.octets()).unwrap();
    (header.dont_fragment, header.identification) = (true, 7);
    header
}

/// Its bytes.
pub(crate) fn v4_bytes(mut header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], payload].concat()
}

/// What it becomes: an IPv6 packet from A to B that has seen one router.
pub(crate) fn v6(next: IpNumber, payload: &[u8]) -> Ipv6Header {
    Ipv6Header {
        payload_length: payload.len() as u16,
        next_header: next,
        hop_limit: 63,
        source: A6.octets(),
        destination: B6.octets(),
        ..Ipv6Header::default()
    }
}

pub(crate) fn v6_bytes(header: &Ipv6Header, payload: &[u8]) -> Vec<u8> {
    [&header.to_bytes()[..], payload].concat()
}

/// A UDP datagram from A to B in IPv4, and as it is in IPv6.
pub(crate) fn udp(length: usize) -> (Vec<u8>, Vec<u8>) {
    let data = data(length);
    let header = v4(IpNumber::UDP, &[]);
    let four = UdpHeader::with_ipv4_checksum(4000, 53, &header, &data).unwrap();
    let six = UdpHeader::with_ipv6_checksum(4000, 53, &v6(IpNumber::UDP, &[]), &data).unwrap();
    ([&four.to_bytes()[..], &data].concat(), [&six.to_bytes()[..], &data].concat())
}

/// A whole UDP packet in IPv4, and what it becomes in IPv6.
pub(crate) fn udp_packet(length: usize) -> (Vec<u8>, Vec<u8>) {
    let (four, six) = udp(length);
    (v4_bytes(v4(IpNumber::UDP, &four), &four), v6_bytes(&v6(IpNumber::UDP, &six), &six))
}

/// A UDP packet in IPv6 from A to B with this hop limit.
pub(crate) fn udp_packet_v6(length: usize, hop_limit: u8) -> Vec<u8> {
    let payload = udp(length).1;
    v6_bytes(&Ipv6Header { hop_limit, ..v6(IpNumber::UDP, &payload) }, &payload)
}

/// A TCP segment of IPv4 that opens a connection, with this MSS.
pub(crate) fn syn(mss: u16) -> Vec<u8> {
    let mut tcp = TcpHeader::new(4000, 80, 1, 1000);
    tcp.syn = true;
    tcp.set_options(&[etherparse::TcpOptionElement::MaximumSegmentSize(mss)]).unwrap();
    tcp.checksum = tcp.calc_checksum_ipv4(&v4(IpNumber::TCP, &[]), &[]).unwrap();
    let payload = tcp.to_bytes();
    v4_bytes(v4(IpNumber::TCP, &payload), &payload)
}

/// An ICMPv4 message.
pub(crate) fn icmp4(kind: u8, code: u8, word: u32, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &word.to_be_bytes(), body].concat();
    let checksum = checksum(&[&message]);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// An ICMPv6 message between these.
pub(crate) fn icmp6(ends: (Ipv6Addr, Ipv6Addr), kind: u8, code: u8, word: u32, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &word.to_be_bytes(), body].concat();
    let length = (message.len() as u32).to_be_bytes();
    let checksum = checksum(&[&ends.0.octets(), &ends.1.octets(), &length, &[0, 0, 0, 58], &message]);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// The Internet checksum over these, of which only the last may be odd (RFC 1071).
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A fragment of an IPv4 header's datagram: its offset in bytes, and whether more follow.
pub(crate) fn fragment(mut header: Ipv4Header, offset: u16, more: bool) -> Ipv4Header {
    header.fragment_offset = IpFragOffset::try_new(offset / 8).unwrap();
    (header.more_fragments, header.dont_fragment) = (more, false);
    header
}
