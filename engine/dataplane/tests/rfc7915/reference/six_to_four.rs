//! IPv6 headers to IPv4 headers (RFC 7915, 5.1 and 5.1.1).

use super::bytes::{checksum, put_u16, sum, u16_at, u32_at};
use super::{Datagram, Part, Refused, Site, Translated, icmp, mtu, number, quote, transport};
use core::net::Ipv6Addr;

/// More extension headers than this are not walked.
const MOST_HEADERS: usize = 8;

/// Up to this size an IPv4 packet may be cut by those behind us (5.1).
const DONT_FRAGMENT_ABOVE: usize = 1260;

/// An IPv6 header, taken apart.
pub(super) struct Header {
    traffic_class: u8,
    pub(super) payload_length: usize,
    pub(super) next_header: u8,
    pub(super) hop_limit: u8,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
}

/// What lies between the IPv6 header and the transport.
pub(super) struct Chain {
    /// Bytes up to the transport, with the IPv6 header.
    pub(super) length: usize,
    /// The transport.
    pub(super) next_header: u8,
    pub(super) fragment: Option<Fragment>,
    /// Where the first routing header with segments left says how many.
    pub(super) live_route: Option<usize>,
}

/// A fragment header.
#[derive(Clone, Copy)]
pub(super) struct Fragment {
    /// In bytes.
    offset: usize,
    more: bool,
    identification: u32,
}

impl Chain {
    pub(super) const fn part(&self) -> Part {
        match self.fragment {
            None | Some(Fragment { offset: 0, more: false, .. }) => Part::Whole,
            Some(Fragment { offset: 0, more: true, .. }) => Part::First,
            Some(_) => Part::Later,
        }
    }
}

impl Header {
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Refused> {
        if packet.len() < 40 {
            return Err(Refused::silently("frame_truncated"));
        }
        if packet[0] >> 4 != 6 {
            return Err(Refused::silently("ipv6_malformed"));
        }
        let address = |place: usize| Ipv6Addr::from_octets(packet[place..place + 16].try_into().unwrap());
        Ok(Self {
            traffic_class: (u16_at(packet, 0) >> 4) as u8,
            payload_length: usize::from(u16_at(packet, 4)),
            next_header: packet[6],
            hop_limit: packet[7],
            source: address(8),
            destination: address(24),
        })
    }

    /// The header of the packet under IPv4, in front of `length` bytes of payload.
    pub(super) fn under_ipv4(
        &self,
        site: &Site,
        datagram: &Datagram<'_>,
        chain: &Chain,
        protocol: u8,
        length: usize,
        ttl: u8,
    ) -> Vec<u8> {
        let (identification, flags) = match chain.fragment {
            Some(Fragment { offset, more, identification }) => {
                (identification as u16, (offset / 8) as u16 | if more { 0x2000 } else { 0 })
            }
            None if 20 + length > DONT_FRAGMENT_ABOVE => (site.identification, 0x4000),
            None => (site.identification, 0),
        };
        self.ipv4(site, datagram, protocol, (length, ttl), (identification, flags))
    }

    fn ipv4(
        &self,
        site: &Site,
        datagram: &Datagram<'_>,
        protocol: u8,
        (length, ttl): (usize, u8),
        (identification, flags): (u16, u16),
    ) -> Vec<u8> {
        let mut header = vec![0x45, if site.copy_traffic_class { self.traffic_class } else { 0 }];
        header.extend(((20 + length) as u16).to_be_bytes());
        header.extend(identification.to_be_bytes());
        header.extend(flags.to_be_bytes());
        header.extend([ttl, protocol, 0, 0]);
        header.extend(datagram.source.0.octets());
        header.extend(datagram.destination.0.octets());
        let checksum = checksum(sum(&header));
        put_u16(&mut header, 10, checksum);
        header
    }
}

/// Walks the extension headers of a packet whose IPv6 header names `first`.
pub(super) fn walk(packet: &[u8], first: u8) -> Result<Chain, Refused> {
    let (mut next_header, mut place, mut live_route) = (first, 40, None);
    let cut_off = Refused::silently("extension_header_chain");
    for count in 0.. {
        match next_header {
            number::AUTHENTICATION => return Err(Refused::silently("authentication_header")),
            number::MOBILITY | number::HIP | number::SHIM6 => {
                return Err(Refused::silently("extension_header_unsupported"));
            }
            number::HOP_BY_HOP if count > 0 => return Err(cut_off),
            number::HOP_BY_HOP | number::ROUTING | number::DESTINATION_OPTIONS | number::FRAGMENT => {}
            _ => return Ok(Chain { length: place, next_header, fragment: None, live_route }),
        }
        let header = packet.get(place..place + 8).ok_or(cut_off)?;
        if count == MOST_HEADERS {
            return Err(cut_off);
        }
        if next_header == number::ROUTING && header[3] != 0 {
            live_route = live_route.or(Some(place + 3));
        }
        if next_header == number::FRAGMENT {
            let chain = behind_fragment_header(header, place + 8)?;
            return Ok(Chain { live_route, ..chain });
        }
        next_header = header[0];
        place += (usize::from(header[1]) + 1) * 8;
        if place > packet.len() {
            return Err(cut_off);
        }
    }
    unreachable!()
}

/// Behind a fragment header there must be a transport (5.1.1).
fn behind_fragment_header(header: &[u8], length: usize) -> Result<Chain, Refused> {
    use number::*;
    match header[0] {
        AUTHENTICATION => return Err(Refused::silently("authentication_header")),
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => {
            return Err(Refused::silently("extension_header_unsupported"));
        }
        _ => {}
    }
    let field = u16_at(header, 2);
    let fragment = Fragment {
        offset: usize::from(field & 0xfff8),
        more: field & 1 != 0,
        identification: u32_at(header, 4),
    };
    Ok(Chain { length, next_header: header[0], fragment: Some(fragment), live_route: None })
}

/// A fragment must fit its datagram, and the first one must hold the transport header.
pub(super) fn check_fragment(protocol: u8, offset: usize, more: bool, length: usize) -> Result<(), Refused> {
    // All but the last are made of whole units of 8 bytes, and no IPv4 datagram is longer than 65,535 bytes with its
    // header.
    if length == 0 || more && !length.is_multiple_of(8) || offset + length > 65_515 {
        return Err(Refused::silently("fragment_malformed"));
    }
    // Would write over the first one's TCP flags (RFC 1858, 4).
    if protocol == number::TCP && offset == 8 {
        return Err(Refused::silently("fragment_tiny"));
    }
    Ok(())
}

/// A whole packet. Bytes behind its payload length are a link's padding.
pub(crate) fn six_to_four(site: &Site, packet: &[u8]) -> Translated {
    let header = Header::parse(packet)?;
    let size = 40 + header.payload_length;
    let packet = packet.get(..size).ok_or(Refused::silently("frame_truncated"))?;
    let chain = walk(packet, header.next_header)?;
    let payload = &packet[chain.length..];
    translate(site, &header, &chain, payload).map_err(|refused| {
        let kind = payload.first().filter(|_| chain.next_header == number::ICMPV6);
        refused.about(chain.part(), kind.copied(), |kind| kind < 128 || kind == REDIRECT)
    })
}

/// Told about a router's routes, and never to be answered (RFC 4443, 2.4 e).
const REDIRECT: u8 = 137;

fn translate(site: &Site, header: &Header, chain: &Chain, payload: &[u8]) -> Translated {
    if let Some(pointer) = chain.live_route {
        // The pointer is to the first byte of Segments Left.
        return Err(Refused::answered("routing_header_live", 4, 0, pointer as u32));
    }
    if header.hop_limit <= 1 {
        return Err(Refused::answered("hop_limit_exceeded", 3, 0, 0));
    }
    if chain.part() != Part::Whole {
        let Some(Fragment { offset, more, .. }) = chain.fragment else { unreachable!() };
        check_fragment(chain.next_header, offset, more, payload.len())?;
    }
    let is_error = chain.next_header == number::ICMPV6 && payload.first().is_some_and(|kind| *kind < 128);
    let source = match site.v4(header.source) {
        // The error of a router that has no virtual address (RFC 6791): it gets one, or else that of the node where the
        // packet in question was going, whose own errors look the same.
        Err(_) if is_error => site.router.map_or_else(|| quote::was_going_to(site, payload), Ok)?,
        known => known?,
    };
    let datagram = Datagram {
        source: (source, header.source),
        destination: (site.v4(header.destination)?, header.destination),
        protocol: chain.next_header,
        part: chain.part(),
        payload,
        length: payload.len(),
    };
    let (protocol, payload) = match chain.next_header {
        number::ICMPV6 => (number::ICMP, icmp::six_to_four(site, &datagram)?),
        number::ICMP => return Err(Refused::silently("protocol_untranslatable")),
        other => (other, transport::six_to_four(&datagram)?),
    };
    if 20 + payload.len() > 65_535 {
        return Err(Refused::silently("packet_too_big"));
    }
    let ttl = header.hop_limit - 1;
    if 20 + payload.len() > site.ipv4_mtu {
        // With DF=0 it is cut as IPv4 routers do; that is all that any IPv6 link carries, and whatever is cut already.
        if chain.fragment.is_none() && 20 + payload.len() > DONT_FRAGMENT_ABOVE {
            return Err(Refused::answered("packet_too_big", 2, 0, (site.ipv4_mtu + mtu::HEADERS) as u32));
        }
        return Ok(in_pieces(site, header, &datagram, chain, protocol, &payload));
    }
    let mut translated = header.under_ipv4(site, &datagram, chain, protocol, payload.len(), ttl);
    translated.extend(payload);
    Ok(vec![translated])
}

/// What may be cut is not too big for any link (5.1.1, RFC 791).
fn in_pieces(
    site: &Site,
    header: &Header,
    datagram: &Datagram<'_>,
    chain: &Chain,
    protocol: u8,
    payload: &[u8],
) -> Vec<Vec<u8>> {
    let (base, more, identification) = match chain.fragment {
        Some(fragment) => (fragment.offset, fragment.more, fragment.identification as u16),
        None => (0, false, site.identification),
    };
    let pieces = super::cut(payload, site.ipv4_mtu - 20, more).into_iter().map(|(offset, more, piece)| {
        let flags = ((base + offset) / 8) as u16 | if more { 0x2000 } else { 0 };
        let (length, ttl) = (piece.len(), header.hop_limit - 1);
        let mut packet = header.ipv4(site, datagram, protocol, (length, ttl), (identification, flags));
        packet.extend(piece);
        packet
    });
    pieces.collect()
}
