//! Checksums and segmentation: what the headers say, and finishing in software what a device cannot do.

use overlane_dataplane::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};
use overlane_dataplane::wire::checksum::{Sum, nonzero, sum_of_pieces};

use crate::Mbuf;

/// Where a frame's transport header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layers {
    /// Bytes of the Ethernet header and its tags.
    pub(crate) l2: u16,
    /// The IP version: 4 or 6.
    pub(crate) version: u8,
    /// Bytes of the IP header, with IPv6 extension headers.
    pub(crate) l3: u16,
    /// The transport.
    pub(crate) transport: Transport,
}

/// A transport whose checksum devices know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP, with its header's length.
    Tcp { header: u16 },
    /// UDP.
    Udp,
}

impl Transport {
    /// Offset of the checksum in the header.
    pub(crate) fn checksum_offset(self) -> u16 {
        match self {
            Self::Tcp { .. } => 16,
            Self::Udp => 6,
        }
    }

    /// Bytes of the header.
    pub(crate) fn header(self) -> u16 {
        match self {
            Self::Tcp { header } => header,
            Self::Udp => 8,
        }
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const TCP: u8 = 6;
const UDP: u8 = 17;

impl Layers {
    /// Reads the headers at the beginning of a frame; `None` if it is not TCP or UDP over IP, is a fragment, or
    /// ends within its headers.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let (l2, ethertype) = ethernet(frame)?;
        let packet = frame.get(usize::from(l2)..)?;
        let (version, l3, protocol) = match ethertype {
            ETHERTYPE_IPV4 => ipv4(packet)?,
            ETHERTYPE_IPV6 => ipv6(packet)?,
            _ => return None,
        };
        let header = packet.get(usize::from(l3)..)?;
        let transport = match protocol {
            TCP => {
                let length = u16::from(*header.get(12)? >> 4) * 4;
                (length >= 20 && header.len() >= usize::from(length))
                    .then_some(Transport::Tcp { header: length })?
            }
            UDP => (header.len() >= 8).then_some(Transport::Udp)?,
            _ => return None,
        };
        Some(Self { l2, version, l3, transport })
    }

    /// First byte of the transport header.
    pub(crate) fn transport_start(&self) -> u16 {
        self.l2 + self.l3
    }
}

/// The most that headers which are looked into have: Ethernet's with two tags, IPv4 and TCP with all options, or IPv6
/// with some extension headers and TCP.
const HEADERS: usize = 192;

/// Brings a packet's headers together in its first segment, should they lie across several.
#[inline]
pub(crate) fn gather_headers(packet: &mut Mbuf) {
    if packet.segment_count() > 1 && packet.head().len() < HEADERS {
        // Without room there the packet stays as it is, and is treated as one whose headers are not known.
        let _ = packet.pull_up(packet.len().min(HEADERS));
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes)
}

/// The length of the Ethernet header with up to two tags, and the EtherType behind it.
pub(crate) fn ethernet(frame: &[u8]) -> Option<(u16, u16)> {
    let mut length = 14;
    for _ in 0..3 {
        match word(frame, usize::from(length) - 2)? {
            ETHERTYPE_VLAN | ETHERTYPE_QINQ => length += 4,
            ethertype => return Some((length, ethertype)),
        }
    }
    None
}

fn ipv4(packet: &[u8]) -> Option<(u8, u16, u8)> {
    let header = u16::from(packet.first()? & 0x0f) * 4;
    let fragment = word(packet, 6)? & 0x3fff != 0;
    (packet.first()? >> 4 == 4 && header >= 20 && !fragment).then_some((4, header, *packet.get(9)?))
}

fn ipv6(packet: &[u8]) -> Option<(u8, u16, u8)> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let mut next = *packet.get(6)?;
    let mut length = 40_u16;
    // Hop-by-hop, routing and destination options, a few at most; a fragment has no checksum to offload.
    for _ in 0..8 {
        match next {
            0 | 43 | 60 => {
                next = *packet.get(usize::from(length))?;
                length += u16::from(*packet.get(usize::from(length) + 1)?) * 8 + 8;
            }
            _ => return Some((6, length, next)),
        }
    }
    None
}

/// What a driver's receive flags mean: the place of a checksum it left partial, the kind of packet it merged.
pub(crate) fn from_driver(packet: &Mbuf, partial: bool, merged_size: Option<u16>) -> Offload {
    let Some(layers) = Layers::parse(packet.head()) else { return Offload::default() };
    let start = layers.transport_start();
    let checksum = Checksum::Partial { start, offset: layers.transport.checksum_offset() };
    let kind = match layers.transport {
        Transport::Tcp { .. } => SegmentationKind::Tcp { ecn: false },
        Transport::Udp => SegmentationKind::Udp,
    };
    let segmentation = merged_size.filter(|&size| size > 0).map(|size| Segmentation { kind, size });
    Offload { checksum: if partial { checksum } else { Checksum::Complete }, segmentation }
}

/// The place of a checksum that a kernel left to its device, where nothing tells of it: its field holds the sum of the
/// pseudo-header. A finished one that happens to be the same number, one in 65,536, is computed again to itself.
pub(crate) fn unfinished(packet: &Mbuf) -> Option<Checksum> {
    let frame = packet.head();
    let layers = Layers::parse(frame)?;
    let (l2, start) = (usize::from(layers.l2), layers.transport_start());
    let offset = layers.transport.checksum_offset();
    // What is behind the IP packet is padding.
    let (addresses, end) = match layers.version {
        4 => (frame.get(l2 + 12..l2 + 20)?, l2 + usize::from(word(frame, l2 + 2)?)),
        _ => (frame.get(l2 + 8..l2 + 40)?, l2 + 40 + usize::from(word(frame, l2 + 4)?)),
    };
    let length = u16::try_from(end.checked_sub(usize::from(start))?).ok()?;
    let protocol = match layers.transport {
        Transport::Tcp { .. } => TCP,
        Transport::Udp => UDP,
    };
    let sum = Sum::ZERO.add_bytes(addresses).add(u16::from(protocol)).add(length).fold();
    let field = word(frame, usize::from(start) + usize::from(offset))?;
    (field == sum).then_some(Checksum::Partial { start, offset })
}

/// Computes a partial checksum in software. `false`: its field is not in the packet.
pub(crate) fn finish_checksum(packet: &mut Mbuf, start: u16, offset: u16) -> bool {
    let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
    if field + 2 > packet.len() || packet.pull_up(field + 2).is_err() {
        return false;
    }
    // Zero means "no checksum" to UDP and is the same number as its complement to all.
    let checksum = nonzero(sum_of_pieces(packet.segments(), start).checksum());
    match packet.head_mut().get_mut(field..field + 2) {
        Some(place) => place.copy_from_slice(&checksum.to_be_bytes()),
        None => return false,
    }
    packet.set_offload(Offload { checksum: Checksum::Complete, ..packet.offload() });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_over_ipv6(tags: usize) -> Vec<u8> {
        let mut frame = vec![0; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 5]);
        }
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 6, 64]);
        frame.extend([0; 32]);
        frame.extend([0; 12]);
        frame.extend([0x80, 0x10, 0, 0, 0, 0, 0, 0]);
        frame.extend([1; 12]);
        frame
    }

    #[test]
    fn tcp_over_ipv6_is_found_behind_up_to_two_tags() {
        for tags in 0..3 {
            let layers = Layers::parse(&tcp_over_ipv6(tags)).unwrap();
            let expected = Layers {
                l2: 14 + 4 * tags as u16,
                version: 6,
                l3: 40,
                transport: Transport::Tcp { header: 32 },
            };
            assert_eq!(layers, expected);
        }
        assert_eq!(Layers::parse(&tcp_over_ipv6(3)), None);
    }

    #[test]
    fn headers_cut_at_any_byte_are_refused() {
        let frame = tcp_over_ipv6(1);
        for length in 0..frame.len() {
            assert_eq!(Layers::parse(&frame[..length]), None, "{length}");
        }
    }

    #[test]
    fn ipv4_fragments_and_other_protocols_have_no_transport() {
        let frame = |fragment: u8, protocol: u8| {
            let mut frame = vec![0; 12];
            frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, fragment, 0, 64, protocol]);
            frame.extend([0; 18]);
            frame
        };
        let udp = Layers { l2: 14, version: 4, l3: 20, transport: Transport::Udp };
        assert_eq!(Layers::parse(&frame(0x40, 17)), Some(udp));
        assert_eq!(Layers::parse(&frame(0x20, 17)), None);
        assert_eq!(Layers::parse(&frame(0, 1)), None);
    }
}
