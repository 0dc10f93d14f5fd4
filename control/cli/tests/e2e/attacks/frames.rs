//! Frames that no kernel would send: IPv4 and IPv6 with every field chosen freely, and checksums that are right, so that
//! nothing but the attack is wrong with them.

use super::instrument::SECRET;
use anyhow::Result;
use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header,
    TcpHeader, UdpHeader,
};
use overlane_cli::lab::inject::Macs;
use overlane_dataplane::mac::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Numbers of protocols and of extension headers (IANA, protocol numbers).
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

/// The port that attackers send from and to.
const PORT: u16 = 4000;

/// Any frame.
pub(crate) fn ethernet(macs: Macs, ethertype: u16, body: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header {
        source: macs.source.0,
        destination: macs.destination.0,
        ether_type: EtherType(ethertype),
    };
    [&header.to_bytes()[..], body].concat()
}

/// An IPv4 packet in the making.
#[derive(Debug, Clone)]
pub(crate) struct Four {
    pub(crate) macs: Macs,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) options: Vec<u8>,
    /// Identification, offset in units of eight bytes, whether more follow.
    pub(crate) fragment: (u16, u16, bool),
    pub(crate) payload: Vec<u8>,
}

impl Four {
    /// A UDP datagram with the secret.
    pub(crate) fn secret(macs: Macs, source: Ipv4Addr, destination: Ipv4Addr) -> Result<Self> {
        let header = UdpHeader::with_ipv4_checksum(
            PORT,
            PORT,
            &Ipv4Header::new(0, 64, IpNumber::UDP, source.octets(), destination.octets())?,
            SECRET.as_bytes(),
        )?;
        let payload = [&header.to_bytes()[..], SECRET.as_bytes()].concat();
        Ok(Self {
            macs,
            source,
            destination,
            protocol: UDP,
            options: Vec::new(),
            fragment: (0, 0, false),
            payload,
        })
    }

    /// The frame.
    pub(crate) fn frame(&self) -> Result<Vec<u8>> {
        let mut header = Ipv4Header::new(
            u16::try_from(self.payload.len())?,
            64,
            IpNumber(self.protocol),
            self.source.octets(),
            self.destination.octets(),
        )?;
        header.dont_fragment = false;
        (header.identification, header.more_fragments) = (self.fragment.0, self.fragment.2);
        header.fragment_offset = IpFragOffset::try_new(self.fragment.1)?;
        header.options = Ipv4Options::try_from(self.options.as_slice())?;
        header.set_payload_len(self.payload.len())?;
        header.header_checksum = header.calc_header_checksum();
        Ok(ethernet(self.macs, EtherType::IPV4.0, &[&header.to_bytes()[..], &self.payload].concat()))
    }
}

/// An IPv6 packet in the making.
#[derive(Debug, Clone)]
pub(crate) struct Six {
    pub(crate) macs: Macs,
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) hop_limit: u8,
    pub(crate) next_header: u8,
    pub(crate) payload: Vec<u8>,
}

impl Six {
    /// A UDP datagram with the secret.
    pub(crate) fn secret(macs: Macs, source: Ipv6Addr, destination: Ipv6Addr) -> Result<Self> {
        let payload = udp6(source, destination, SECRET.as_bytes())?;
        Ok(Self { macs, source, destination, hop_limit: 64, next_header: UDP, payload })
    }

    /// The frame.
    pub(crate) fn frame(&self) -> Result<Vec<u8>> {
        let header = Ipv6Header {
            traffic_class: 0,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: u16::try_from(self.payload.len())?,
            next_header: IpNumber(self.next_header),
            hop_limit: self.hop_limit,
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
        Ok(ethernet(self.macs, EtherType::IPV6.0, &[&header.to_bytes()[..], &self.payload].concat()))
    }
}

/// A UDP header for IPv6 and what follows it.
pub(crate) fn udp6(source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Result<Vec<u8>> {
    let ip = Ipv6Header {
        source: source.octets(),
        destination: destination.octets(),
        next_header: IpNumber::UDP,
        ..Ipv6Header::default()
    };
    let header = UdpHeader::with_ipv6_checksum(PORT, PORT, &ip, payload)?;
    Ok([&header.to_bytes()[..], payload].concat())
}

/// A TCP header that opens a connection, with the checksum of no pseudo-header, and the secret.
pub(crate) fn syn() -> Vec<u8> {
    let mut header = TcpHeader::new(PORT, 22, 1, 1024);
    header.syn = true;
    [&header.to_bytes()[..], SECRET.as_bytes()].concat()
}

/// An ICMPv6 message with its checksum (RFC 4443, 2.3).
pub(crate) fn icmp6(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    kind: u8,
    code: u8,
    words: [u8; 4],
    body: &[u8],
) -> Result<Vec<u8>> {
    let message = [&[kind, code, 0, 0], &words[..], body].concat();
    let length = u32::try_from(message.len())?.to_be_bytes();
    let pseudo = [&source.octets()[..], &destination.octets(), &length, &[0, 0, 0, ICMPV6]].concat();
    let [high, low] = checksum(&[&pseudo[..], &message].concat()).to_be_bytes();
    Ok([&[kind, code, high, low], &words[..], body].concat())
}

/// An ICMP message with its checksum (RFC 792).
pub(crate) fn icmp4(kind: u8, code: u8, words: [u8; 4], body: &[u8]) -> Vec<u8> {
    let [high, low] = checksum(&[&[kind, code, 0, 0], &words[..], body].concat()).to_be_bytes();
    [&[kind, code, high, low], &words[..], body].concat()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// An IPv6 fragment header (RFC 8200, 4.5) in front of a part of a datagram.
pub(crate) fn fragment6(next: u8, identification: u32, offset: u16, more: bool, part: &[u8]) -> Vec<u8> {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    [&[next, 0, high, low][..], &identification.to_be_bytes(), part].concat()
}

/// Every hardware address is a station's.
pub(crate) fn macs(source: MacAddr, destination: MacAddr) -> Macs {
    Macs { source, destination }
}
