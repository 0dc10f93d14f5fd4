//! IPv4 headers to IPv6 headers (RFC 7915, 4.1).

use super::bytes::{put_u16, put_u32, sum, u16_at};
use super::{Datagram, Part, Refused, Site, Translated, icmp, mtu, number, transport};
use core::net::Ipv4Addr;

/// An IPv4 header, taken apart.
pub(super) struct Header {
    /// Bytes with options.
    pub(super) length: usize,
    tos: u8,
    pub(super) total_length: usize,
    identification: u16,
    dont_fragment: bool,
    more_fragments: bool,
    /// In bytes.
    offset: usize,
    pub(super) ttl: u8,
    pub(super) protocol: u8,
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
}

impl Header {
    /// Reads a header that is wholly there; its checksum is not looked at.
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Refused> {
        if packet.len() < 20 {
            return Err(Refused::silently("frame_truncated"));
        }
        let (version, length) = (packet[0] >> 4, usize::from(packet[0] & 0xf) * 4);
        let total_length = usize::from(u16_at(packet, 2));
        if version != 4 || length < 20 || total_length < length {
            return Err(Refused::silently("ipv4_malformed"));
        }
        if packet.len() < length {
            return Err(Refused::silently("frame_truncated"));
        }
        let flags = u16_at(packet, 6);
        let address = |place: usize| Ipv4Addr::from_octets(packet[place..place + 4].try_into().unwrap());
        Ok(Self {
            length,
            tos: packet[1],
            total_length,
            identification: u16_at(packet, 4),
            dont_fragment: flags & 0x4000 != 0,
            more_fragments: flags & 0x2000 != 0,
            offset: usize::from(flags & 0x1fff) * 8,
            ttl: packet[8],
            protocol: packet[9],
            source: address(12),
            destination: address(16),
        })
    }

    pub(super) const fn part(&self) -> Part {
        match (self.offset, self.more_fragments) {
            (0, false) => Part::Whole,
            (0, true) => Part::First,
            _ => Part::Later,
        }
    }

    /// The headers of the packet under IPv6, in front of `length` bytes of payload.
    pub(super) fn under_ipv6(
        &self,
        site: &Site,
        datagram: &Datagram<'_>,
        next_header: u8,
        length: usize,
        hop_limit: u8,
    ) -> Vec<u8> {
        if self.part() == Part::Whole {
            return ipv6(site, self.tos, datagram, next_header, length, hop_limit);
        }
        self.fragment_under_ipv6(
            site,
            datagram,
            next_header,
            length,
            hop_limit,
            (self.offset, self.more_fragments),
        )
    }

    fn fragment_under_ipv6(
        &self,
        site: &Site,
        datagram: &Datagram<'_>,
        next_header: u8,
        length: usize,
        hop_limit: u8,
        (offset, more): (usize, bool),
    ) -> Vec<u8> {
        let mut header = ipv6(site, self.tos, datagram, number::FRAGMENT, length + 8, hop_limit);
        header.extend([next_header, 0]);
        // The offset counts units of 8 bytes, in the upper 13 bits; M is the lowest.
        header.extend((offset as u16 & 0xfff8 | u16::from(more)).to_be_bytes());
        header.extend(u32::from(self.identification).to_be_bytes());
        header
    }
}

fn ipv6(
    site: &Site,
    tos: u8,
    datagram: &Datagram<'_>,
    next_header: u8,
    length: usize,
    hop_limit: u8,
) -> Vec<u8> {
    let mut header = vec![0; 8];
    let traffic_class = if site.copy_traffic_class { tos } else { 0 };
    put_u32(&mut header, 0, 6 << 28 | u32::from(traffic_class) << 20);
    put_u16(&mut header, 4, length as u16);
    (header[6], header[7]) = (next_header, hop_limit);
    header.extend(datagram.source.1.octets());
    header.extend(datagram.destination.1.octets());
    header
}

/// Protocols that would be something else in IPv6: extension headers, and ICMPv6 itself; and IGMP, which 4.2 drops.
pub(super) const fn is_untranslatable(protocol: u8) -> bool {
    use number::*;
    matches!(
        protocol,
        HOP_BY_HOP
            | IGMP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | ICMPV6
            | DESTINATION_OPTIONS
            | MOBILITY
            | HIP
            | SHIM6
    )
}

/// Whether a source route has addresses left. Options without a length byte are end (0) and no operation (1).
fn has_live_source_route(mut options: &[u8]) -> bool {
    while !options.is_empty() && options[0] != 0 {
        let length = match options {
            [1, ..] => 1,
            // Loose and strict: the pointer, relative to the option, is beyond its end once all are used.
            [131 | 137, length, pointer, ..] if pointer <= length => return true,
            [_, length, ..] if *length >= 2 => usize::from(*length).min(options.len()),
            _ => return false,
        };
        options = &options[length..];
    }
    false
}

/// Whether the packet is an ICMP query, which can be cut; an error never has to be.
fn is_query(header: &Header, payload: &[u8]) -> bool {
    let is_query = |kind: &u8| icmp::query_four_to_six(*kind).is_some();
    header.protocol == number::ICMP && payload.first().is_some_and(is_query)
}

/// ICMP types that are no queries and could be errors, the unknown ones among them (RFC 792, 950, 1256).
const fn may_be_error(kind: u8) -> bool {
    !matches!(kind, 0 | 8..=10 | 13..=18 | 42 | 43)
}

/// A whole packet. Bytes behind its total length are a link's padding.
pub(crate) fn four_to_six(site: &Site, packet: &[u8]) -> Translated {
    let header = Header::parse(packet)?;
    translate(site, packet, &header).map_err(|refused| {
        let kind = packet.get(header.length).filter(|_| header.protocol == number::ICMP);
        refused.about(header.part(), kind.copied(), may_be_error)
    })
}

fn translate(site: &Site, packet: &[u8], header: &Header) -> Translated {
    if super::bytes::checksum(sum(&packet[..header.length])) != 0 {
        return Err(Refused::silently("ipv4_checksum"));
    }
    if packet.len() < header.total_length {
        return Err(Refused::silently("frame_truncated"));
    }
    if has_live_source_route(&packet[20..header.length]) {
        return Err(Refused::answered("source_route", 3, 5, 0));
    }
    if header.ttl <= 1 {
        return Err(Refused::answered("ttl_exceeded", 11, 0, 0));
    }
    if header.protocol == number::AUTHENTICATION {
        return Err(Refused::silently("authentication_header"));
    }
    if is_untranslatable(header.protocol) {
        return Err(Refused::silently("protocol_untranslatable"));
    }
    let payload = &packet[header.length..header.total_length];
    if header.part() != Part::Whole {
        check_fragment(header, payload)?;
    }

    let has_fragment_header = header.part() != Part::Whole;
    let larger = if has_fragment_header { 48 } else { 40 };
    let cut = !header.dont_fragment && larger + payload.len() > site.lowest_ipv6_mtu;
    let datagram = Datagram {
        source: (header.source, site.v6(header.source)?),
        destination: (header.destination, site.v6(header.destination)?),
        protocol: header.protocol,
        // Where fragments of messages are carried, one that is to be cut is one in fragments already. Elsewhere it is for
        // receivers that know nothing of this, as a whole.
        part: match header.part() {
            Part::Whole if cut && site.carry_fragmented_icmp && is_query(header, payload) => Part::First,
            part => part,
        },
        payload,
        length: payload.len(),
    };
    let (next_header, payload) = match header.protocol {
        number::ICMP => (number::ICMPV6, icmp::four_to_six(site, &datagram)?),
        other => (other, transport::four_to_six(site, &datagram)?),
    };
    let hop_limit = header.ttl - 1;
    if cut && larger + payload.len() > site.lowest_ipv6_mtu {
        return Ok(in_pieces(site, header, &datagram, next_header, &payload));
    }
    if larger + payload.len() > site.ipv6_mtu {
        let grows = if has_fragment_header { mtu::FRAGMENT_HEADERS } else { mtu::HEADERS };
        return Err(Refused::answered("packet_too_big", 3, 4, (site.ipv6_mtu - grows) as u32));
    }
    let mut translated = header.under_ipv6(site, &datagram, next_header, payload.len(), hop_limit);
    translated.extend(payload);
    Ok(vec![translated])
}

/// "The packet SHOULD be fragmented so the resulting IPv6 packet (with Fragment Header added to each fragment) will be
/// less than or equal to lowest-ipv6-mtu."
fn in_pieces(
    site: &Site,
    header: &Header,
    datagram: &Datagram<'_>,
    next_header: u8,
    payload: &[u8],
) -> Vec<Vec<u8>> {
    let pieces = super::cut(payload, site.lowest_ipv6_mtu - 48, header.more_fragments);
    let pieces = pieces.into_iter().map(|(offset, more, piece)| {
        let place = (header.offset + offset, more);
        let hop_limit = header.ttl - 1;
        let mut packet =
            header.fragment_under_ipv6(site, datagram, next_header, piece.len(), hop_limit, place);
        packet.extend(piece);
        packet
    });
    pieces.collect()
}

/// A fragment must fit its datagram, and the first one must hold the transport header (RFC 791, RFC 1858, RFC 8200).
fn check_fragment(header: &Header, payload: &[u8]) -> Result<(), Refused> {
    super::six_to_four::check_fragment(header.protocol, header.offset, header.more_fragments, payload.len())
}
