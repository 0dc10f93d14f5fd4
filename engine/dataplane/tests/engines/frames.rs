//! Frames as a node or the substrate would send them, built by etherparse.

use crate::world::{Node, ROUTER, dummy, uplink_mac};
use core::net::{Ipv4Addr, Ipv6Addr};
use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header, TcpHeader,
    UdpHeader,
};
use overlane_dataplane::mac::MacAddr;

/// What follows the IP header.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    Tcp { options: usize, payload: Vec<u8> },
    Udp { payload: Vec<u8> },
    EchoRequest { payload: Vec<u8> },
    EchoReply { payload: Vec<u8> },
    Other { number: u8, payload: Vec<u8> },
}

pub(crate) fn tcp(payload: &[u8]) -> Transport {
    Transport::Tcp { options: 12, payload: payload.to_vec() }
}

pub(crate) fn udp(payload: &[u8]) -> Transport {
    Transport::Udp { payload: payload.to_vec() }
}

pub(crate) fn echo(payload: &[u8]) -> Transport {
    Transport::EchoRequest { payload: payload.to_vec() }
}

/// A packet before it has addresses of either IP version.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) identification: u16,
    pub(crate) dont_fragment: bool,
    /// IPv4 options, a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) transport: Transport,
}

pub(crate) fn shape(from: &Node, to: &Node, transport: Transport) -> Shape {
    Shape {
        source: from.ipv4,
        destination: to.ipv4,
        tos: 0xb9,
        ttl: 64,
        identification: 0x4321,
        dont_fragment: true,
        options: Vec::new(),
        transport,
    }
}

impl Transport {
    /// Protocol number and bytes, checksummed for the addresses.
    fn bytes_v4(&self, header: &Ipv4Header) -> (u8, Vec<u8>) {
        let (mut bytes, number, payload) = match self {
            Self::Tcp { options, payload } => {
                let mut tcp = tcp_header(*options);
                tcp.checksum = tcp.calc_checksum_ipv4(header, payload).unwrap();
                (tcp.to_bytes().to_vec(), 6, payload)
            }
            Self::Udp { payload } => {
                let udp = UdpHeader::with_ipv4_checksum(4000, 53, header, payload).unwrap();
                (udp.to_bytes().to_vec(), 17, payload)
            }
            Self::EchoRequest { payload } => (icmpv4(8, payload), 1, payload),
            Self::EchoReply { payload } => (icmpv4(0, payload), 1, payload),
            Self::Other { number, payload } => (Vec::new(), *number, payload),
        };
        bytes.extend_from_slice(payload);
        (number, bytes)
    }

    fn bytes_v6(&self, header: &Ipv6Header) -> (u8, Vec<u8>) {
        let (mut bytes, number, payload) = match self {
            Self::Tcp { options, payload } => {
                let mut tcp = tcp_header(*options);
                tcp.checksum = tcp.calc_checksum_ipv6(header, payload).unwrap();
                (tcp.to_bytes().to_vec(), 6, payload)
            }
            Self::Udp { payload } => {
                let udp = UdpHeader::with_ipv6_checksum(4000, 53, header, payload).unwrap();
                (udp.to_bytes().to_vec(), 17, payload)
            }
            Self::EchoRequest { payload } => (icmpv6(128, header, payload), 58, payload),
            Self::EchoReply { payload } => (icmpv6(129, header, payload), 58, payload),
            Self::Other { number, payload } => (Vec::new(), *number, payload),
        };
        bytes.extend_from_slice(payload);
        (number, bytes)
    }
}

fn tcp_header(options: usize) -> TcpHeader {
    let mut tcp = TcpHeader::new(40_000, 80, 0x1020_3040, 0xffff);
    tcp.ack = true;
    tcp.psh = true;
    // No-operations, as many as are asked for.
    tcp.set_options_raw(&vec![1; options]).unwrap();
    tcp
}

fn icmpv4(kind: u8, payload: &[u8]) -> Vec<u8> {
    let header = etherparse::IcmpEchoHeader { id: 0x77, seq: 3 };
    let kind = match kind {
        8 => etherparse::Icmpv4Type::EchoRequest(header),
        _ => etherparse::Icmpv4Type::EchoReply(header),
    };
    etherparse::Icmpv4Header::with_checksum(kind, payload).to_bytes().to_vec()
}

fn icmpv6(kind: u8, ip: &Ipv6Header, payload: &[u8]) -> Vec<u8> {
    let header = etherparse::IcmpEchoHeader { id: 0x77, seq: 3 };
    let kind = match kind {
        128 => etherparse::Icmpv6Type::EchoRequest(header),
        _ => etherparse::Icmpv6Type::EchoReply(header),
    };
    let icmp = etherparse::Icmpv6Header::with_checksum(kind, ip.source, ip.destination, payload);
    icmp.unwrap().to_bytes().to_vec()
}

fn ethernet(destination: MacAddr, source: MacAddr, ether_type: EtherType) -> Vec<u8> {
    Ethernet2Header { source: source.0, destination: destination.0, ether_type }.to_bytes().to_vec()
}

/// A frame with the shape in IPv4.
pub(crate) fn ipv4(destination: MacAddr, source: MacAddr, shape: &Shape) -> Vec<u8> {
    let mut header =
        Ipv4Header::new(0, shape.ttl, IpNumber(0), shape.source.octets(), shape.destination.octets())
            .unwrap();
    header.dscp = etherparse::IpDscp::try_new(shape.tos >> 2).unwrap();
    header.ecn = etherparse::IpEcn::try_new(shape.tos & 3).unwrap();
    header.identification = shape.identification;
    header.dont_fragment = shape.dont_fragment;
    header.options = Ipv4Options::try_from(shape.options.as_slice()).unwrap();
    let (number, bytes) = shape.transport.bytes_v4(&header);
    header.protocol = IpNumber(number);
    header.set_payload_len(bytes.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut frame = ethernet(destination, source, EtherType::IPV4);
    frame.extend_from_slice(&header.to_bytes());
    frame.extend(bytes);
    frame
}

/// A frame with the shape in IPv6, between these substrate addresses.
pub(crate) fn ipv6(
    destination: MacAddr,
    source: MacAddr,
    addresses: (Ipv6Addr, Ipv6Addr),
    shape: &Shape,
) -> Vec<u8> {
    let mut header = Ipv6Header {
        traffic_class: shape.tos,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: 0,
        next_header: IpNumber(0),
        hop_limit: shape.ttl,
        source: addresses.0.octets(),
        destination: addresses.1.octets(),
    };
    let (number, bytes) = shape.transport.bytes_v6(&header);
    header.next_header = IpNumber(number);
    header.set_payload_length(bytes.len()).unwrap();
    let mut frame = ethernet(destination, source, EtherType::IPV6);
    frame.extend_from_slice(&header.to_bytes());
    frame.extend(bytes);
    frame
}

/// What `from` sends to `to`, on its link.
pub(crate) fn to_node(from: &Node, to: &Node, transport: Transport) -> Vec<u8> {
    ipv4(dummy(from.vnet, to.ipv4), from.mac(), &shape(from, to, transport))
}

/// What the substrate brings to `host` from one address for another.
pub(crate) fn from_substrate(host: usize, addresses: (Ipv6Addr, Ipv6Addr), transport: Transport) -> Vec<u8> {
    let last = |address: Ipv6Addr| Ipv4Addr::from_bits(address.to_bits() as u32);
    let shape = Shape {
        source: last(addresses.0),
        destination: last(addresses.1),
        tos: 0xb9,
        ttl: 60,
        identification: 0,
        dont_fragment: true,
        options: Vec::new(),
        transport,
    };
    ipv6(uplink_mac(host), ROUTER, addresses, &shape)
}

/// An ARP packet in its frame.
pub(crate) fn arp(
    frame: (MacAddr, MacAddr),
    operation: u16,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let mut bytes = ethernet(frame.0, frame.1, EtherType::ARP);
    bytes.extend([0, 1, 8, 0, 6, 4]);
    bytes.extend(operation.to_be_bytes());
    bytes.extend(sender.0.0);
    bytes.extend(sender.1.octets());
    bytes.extend(target.0.0);
    bytes.extend(target.1.octets());
    bytes
}

/// A broadcast request of `node` for `target`.
pub(crate) fn who_has(node: &Node, target: Ipv4Addr) -> Vec<u8> {
    arp((MacAddr::BROADCAST, node.mac()), 1, (node.mac(), node.ipv4), (MacAddr::ZERO, target))
}
