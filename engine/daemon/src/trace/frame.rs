//! Frames to be traced: made of fields, or read; and what their headers say.

use super::{TraceError, wrong};
use etherparse::{LinkSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use overlane_api::trace::{TracePacket, TraceRequest};
use overlane_dataplane::id::PortId;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Subnet, Uplink};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest frame that is traced, in bytes.
const LONGEST: usize = 9216;
/// The longest payload that is made up.
const PAYLOAD: u16 = 8900;
/// A source port where none is given (RFC 6335, 6).
const DYNAMIC_PORT: u16 = 49_152;
const TTL: u8 = 64;

/// The frame of a request, and the port that it comes in by.
pub(super) fn of(snapshot: &HostSnapshot, request: &TraceRequest) -> Result<(PortId, Vec<u8>), TraceError> {
    match (&request.interface, &request.frame, &request.packet) {
        (_, Some(_), Some(_)) | (_, None, None) => {
            Err(wrong("frame", "either there, or packet", "both or none"))
        }
        (Some(id), frame, packet) => {
            let interface = interface(snapshot, id)?;
            let bytes = match (frame, packet) {
                (Some(hex), _) => from_hex(hex)?,
                (None, Some(packet)) => from_node(interface, packet)?,
                (None, None) => Vec::new(),
            };
            Ok((interface.port, bytes))
        }
        (None, frame, packet) => {
            let uplink = snapshot.uplinks.first().ok_or(TraceError::Unavailable("there is no uplink"))?;
            let bytes = match (frame, packet) {
                (Some(hex), _) => from_hex(hex)?,
                (None, Some(packet)) => from_substrate(uplink, packet)?,
                (None, None) => Vec::new(),
            };
            Ok((uplink.port, bytes))
        }
    }
}

fn interface<'a>(snapshot: &'a HostSnapshot, id: &str) -> Result<&'a Interface, TraceError> {
    let mut all = snapshot.ports.iter().filter_map(|role| match role {
        PortRole::Node(interface) => Some(interface.as_ref()),
        _ => None,
    });
    let found = all.clone().find(|interface| interface.name == id);
    found.ok_or_else(|| {
        let names: Vec<&str> = all.by_ref().take(8).map(|interface| interface.name.as_str()).collect();
        let legal = match names.is_empty() {
            true => "an attached interface of this host, of which there is none".to_owned(),
            false => format!("an attached interface of this host, like {}", names.join(", ")),
        };
        wrong("interface", legal, id)
    })
}

/// Digits, with whatever stands between them.
fn from_hex(text: &str) -> Result<Vec<u8>, TraceError> {
    let legal = || format!("an even number of hexadecimal digits, of up to {LONGEST} bytes");
    let digits: Vec<char> = text.chars().filter(|c| !c.is_ascii_whitespace() && *c != ':').collect();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * LONGEST || digits.is_empty() {
        return Err(wrong("frame", legal(), format!("{} of them", digits.len())));
    }
    let value = |c: &char| c.to_digit(16).ok_or_else(|| wrong("frame", legal(), c));
    digits.as_chunks::<2>().0.iter().map(|[high, low]| Ok((value(high)? << 4 | value(low)?) as u8)).collect()
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The frame that a node would send.
fn from_node(interface: &Interface, packet: &TracePacket) -> Result<Vec<u8>, TraceError> {
    let ipv4 = |field, text: &str| {
        text.parse::<Ipv4Addr>().map_err(|_| wrong(field, "an IPv4 address, like 10.0.0.5", text))
    };
    let own = interface.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let from = packet.from.as_deref().map_or(Ok(own), |text| ipv4("packet.from", text))?;
    let to = ipv4("packet.to", &packet.to)?;
    let vnet = &interface.vnet;
    // As the node's own routes have it: what is in its subnet it sends there itself.
    let subnet: Option<&Subnet> = vnet.subnet_of(own);
    let next_hop = match subnet {
        Some(subnet) if subnet.contains(to) => to,
        Some(Subnet { gateway: Some(gateway), .. }) => *gateway,
        _ => to,
    };
    let builder = PacketBuilder::ethernet2(interface.mac.0, MacAddr::dummy(vnet.id, next_hop).0);
    let mut header = etherparse::Ipv4Header::new(
        0,
        packet.ttl.unwrap_or(TTL),
        etherparse::IpNumber::UDP,
        from.octets(),
        to.octets(),
    )
    .map_err(|_| wrong("packet", "one that IPv4 has", "another"))?;
    header.dont_fragment = packet.dont_fragment;
    let ip = etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default());
    finish(builder.ip(ip), packet, false)
}

/// The frame that the substrate's router would send.
fn from_substrate(uplink: &Uplink, packet: &TracePacket) -> Result<Vec<u8>, TraceError> {
    let ipv6 = |field, text: &str| {
        text.parse::<Ipv6Addr>().map_err(|_| wrong(field, "an IPv6 address of the substrate", text))
    };
    let from = packet.from.as_deref().ok_or_else(|| wrong("packet.from", "there", "absent"))?;
    let (from, to) = (ipv6("packet.from", from)?, ipv6("packet.to", &packet.to)?);
    let router = uplink.next_hop.unwrap_or(MacAddr([2, 0, 0, 0, 0, 0]));
    let builder = PacketBuilder::ethernet2(router.0, uplink.mac.0);
    finish(builder.ipv6(from.octets(), to.octets(), packet.ttl.unwrap_or(TTL)), packet, true)
}

fn finish(
    ip: etherparse::PacketBuilderStep<etherparse::IpHeaders>,
    packet: &TracePacket,
    six: bool,
) -> Result<Vec<u8>, TraceError> {
    let length = packet.payload.unwrap_or(0);
    if length > PAYLOAD {
        return Err(wrong("packet.payload", format!("0 to {PAYLOAD}"), length));
    }
    let payload = vec![0; length.into()];
    let has_ports = matches!(packet.protocol.as_str(), "tcp" | "udp");
    let (source, port) = match (has_ports, packet.source_port, packet.port) {
        (true, source, Some(port)) => (source.unwrap_or(DYNAMIC_PORT), port),
        (true, _, None) => return Err(wrong("packet.port", "0 to 65535, with tcp and udp", "absent")),
        (false, None, None) => (0, 0),
        (false, _, _) => return Err(wrong("packet.port", "absent: the protocol has no ports", "there")),
    };
    let mut frame = Vec::new();
    let written = match packet.protocol.as_str() {
        "tcp" => ip.tcp(source, port, 1, 65_535).syn().write(&mut frame, &payload),
        "udp" => ip.udp(source, port).write(&mut frame, &payload),
        "icmp" if six => ip.icmpv6_echo_request(1, 1).write(&mut frame, &payload),
        "icmp" => ip.icmpv4_echo_request(1, 1).write(&mut frame, &payload),
        other => return Err(wrong("packet.protocol", "tcp, udp or icmp", other)),
    };
    written.map_err(|error| wrong("packet", "one that can be made", error))?;
    Ok(frame)
}

/// What the headers of a frame say, one in each; as far as they can be read.
pub(super) fn headers(frame: &[u8]) -> Vec<String> {
    let mut told = Vec::new();
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return vec![format!("{} bytes, which cannot be read", frame.len())];
    };
    if let Some(LinkSlice::Ethernet2(link)) = &packet.link {
        let (from, to) = (MacAddr(link.source()), MacAddr(link.destination()));
        told.push(format!("Ethernet {from} to {to}, type {:#06x}", link.ether_type().0));
    }
    match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let df = if header.dont_fragment() { ", DF" } else { "" };
            let (from, to) = (header.source_addr(), header.destination_addr());
            told.push(format!(
                "IPv4 {from} to {to}, TTL {}, {} bytes, protocol {}{df}",
                header.ttl(),
                header.total_len(),
                header.protocol().0
            ));
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            told.push(format!(
                "IPv6 {} to {}, hop limit {}, {} bytes behind it, next header {}",
                header.source_addr(),
                header.destination_addr(),
                header.hop_limit(),
                header.payload_length(),
                header.next_header().0
            ));
        }
        _ => {}
    }
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = [
                (tcp.syn(), "SYN"),
                (tcp.ack(), "ACK"),
                (tcp.fin(), "FIN"),
                (tcp.rst(), "RST"),
                (tcp.psh(), "PSH"),
            ];
            let set: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
            told.push(format!("TCP {} to {}, {}", tcp.source_port(), tcp.destination_port(), set.join(" ")));
        }
        Some(TransportSlice::Udp(udp)) => {
            told.push(format!("UDP {} to {}", udp.source_port(), udp.destination_port()));
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            told.push(format!("ICMP type {}, code {}", icmp.type_u8(), icmp.code_u8()));
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            told.push(format!("ICMPv6 type {}, code {}", icmp.type_u8(), icmp.code_u8()));
        }
        Some(_) | None => {}
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_read_with_what_stands_between_them() {
        assert_eq!(from_hex("02:ff 0a\n0B").unwrap(), [2, 255, 10, 11]);
        for bad in ["", "0", "0g", "é0"] {
            assert!(
                from_hex(bad).unwrap_err().to_string().starts_with("frame: must be an even number"),
                "{bad}"
            );
        }
        assert_eq!(to_hex(&[2, 255]), "02ff");
        assert!(from_hex(&"00".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn headers_of_anything_can_be_told() {
        assert_eq!(headers(&[]), ["0 bytes, which cannot be read"]);
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let packet = TracePacket { protocol: "tcp".to_owned(), port: Some(443), ..TracePacket::default() };
        frame.extend(finish(builder.ipv6([0xfd; 16], [0xfe; 16], 9), &packet, true).unwrap());
        let told = headers(&frame);
        assert!(told[1].contains("hop limit 9") && told[2] == "TCP 49152 to 443, SYN", "{told:?}");
    }

    #[test]
    fn fields_that_make_no_sense_are_named() {
        let ip = || PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10; 4], [11; 4], 64);
        let of = |protocol: &str, port, payload| {
            let packet =
                TracePacket { protocol: protocol.to_owned(), port, payload, ..TracePacket::default() };
            finish(ip(), &packet, false).map_err(|error| error.to_string())
        };
        assert!(of("icmp", None, Some(56)).is_ok());
        assert!(of("tcp", None, None).unwrap_err().starts_with("packet.port: must be 0 to 65535"));
        assert!(of("icmp", Some(1), None).unwrap_err().starts_with("packet.port: must be absent"));
        assert!(of("sctp", None, None).unwrap_err().starts_with("packet.protocol: must be tcp, udp or icmp"));
        assert!(of("udp", Some(1), Some(9000)).unwrap_err().starts_with("packet.payload: must be 0 to 8900"));
    }
}
