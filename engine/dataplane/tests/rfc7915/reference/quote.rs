//! The packet quoted in an ICMP error (RFC 7915, 4.3 and 5.3): translated like any other, except that it may be cut off
//! anywhere, that it is not forwarded, and that it must not be an error itself.

use super::extension::Body;
use super::six_to_four::{Chain, walk};
use super::{Datagram, Part, Refused, Site, four_to_six, icmp, number, six_to_four, transport};
use core::net::{Ipv4Addr, Ipv6Addr};

const fn invalid() -> Refused {
    Refused::silently("icmp_quote_invalid")
}

const fn foreign() -> Refused {
    Refused::silently("icmp_quote_foreign")
}

/// The quoted packet, which the receiver of the error must have sent, under IPv6.
pub(super) fn to_six(site: &Site, body: &Body<'_>, receiver: Ipv4Addr) -> Result<Vec<u8>, Refused> {
    let header = four_to_six::Header::parse(body.quote).map_err(|_| invalid())?;
    if header.source != receiver {
        return Err(foreign());
    }
    let source = (header.source, site.v6(header.source).map_err(|_| foreign())?);
    let destination = (header.destination, site.v6(header.destination).map_err(|_| foreign())?);
    let there = without_padding(body, header.total_length);
    let datagram = Datagram {
        source,
        destination,
        protocol: header.protocol,
        part: header.part(),
        payload: &there[header.length..],
        length: header.total_length - header.length,
    };
    let (next_header, payload) = match header.protocol {
        number::ICMP => (number::ICMPV6, echo(&datagram, true)?),
        other if four_to_six::is_untranslatable(other) => return Err(invalid()),
        other => (other, transport::quoted(&datagram, true)),
    };
    let mut packet = header.under_ipv6(site, &datagram, next_header, datagram.length, header.ttl);
    packet.extend(payload);
    Ok(packet)
}

/// The quoted packet, which the receiver of the error must have sent, under IPv4.
pub(super) fn to_four(site: &Site, body: &Body<'_>, receiver: Ipv6Addr) -> Result<Vec<u8>, Refused> {
    let header = six_to_four::Header::parse(body.quote).map_err(|_| invalid())?;
    if header.source != receiver {
        return Err(foreign());
    }
    let source = (site.v4(header.source).map_err(|_| foreign())?, header.source);
    let destination = (site.v4(header.destination).map_err(|_| foreign())?, header.destination);
    let there = without_padding(body, 40 + header.payload_length);
    let chain = walk(there, header.next_header).map_err(|_| invalid())?;
    if chain.live_route.is_some() {
        return Err(invalid());
    }
    let datagram = Datagram {
        source,
        destination,
        protocol: chain.next_header,
        part: chain.part(),
        payload: &there[chain.length..],
        length: (40 + header.payload_length).checked_sub(chain.length).ok_or(invalid())?,
    };
    let (protocol, payload) = match chain.next_header {
        number::ICMPV6 => (number::ICMP, echo(&datagram, false)?),
        number::ICMP => return Err(invalid()),
        other => (other, transport::quoted(&datagram, false)),
    };
    let site = Site { identification: site.quoted_identification, ..site.clone() };
    let hop_limit = header.hop_limit;
    let mut packet = header.under_ipv4(&site, &datagram, &chain, protocol, datagram.length, hop_limit);
    packet.extend(payload);
    Ok(packet)
}

/// Where the packet quoted in an ICMPv6 error was going.
pub(super) fn was_going_to(site: &Site, message: &[u8]) -> Result<Ipv4Addr, Refused> {
    let header = six_to_four::Header::parse(message.get(8..).unwrap_or(&[])).map_err(|_| invalid())?;
    site.v4(header.destination).map_err(|_| foreign())
}

/// In front of an extension a quoted packet may be padded; no other bytes are taken for padding.
fn without_padding<'a>(body: &Body<'a>, packet: usize) -> &'a [u8] {
    let padded = !body.extension.is_empty() && body.quote.len() > packet;
    if padded { &body.quote[..packet] } else { body.quote }
}

/// A quoted ICMP message: an echo, since nobody may answer an error by an error. Where not even its type is there,
/// it could be one.
fn echo(datagram: &Datagram<'_>, to_six: bool) -> Result<Vec<u8>, Refused> {
    let mut payload = datagram.payload.to_vec();
    if datagram.part == Part::Later {
        return Ok(payload);
    }
    let kind = *payload.first().ok_or(invalid())?;
    let kind = if to_six { icmp::query_four_to_six(kind) } else { icmp::informational_six_to_four(kind) };
    payload[0] = kind.ok_or(invalid())?;
    // A datagram in fragments has no length that a fragment could tell.
    let length = if datagram.part == Part::Whole { datagram.length } else { 0 };
    let pseudo = datagram.pseudo_v6(number::ICMPV6, length);
    let (before, after) = if to_six { (0, pseudo) } else { (pseudo, 0) };
    super::bytes::carry_checksum(2, (datagram.payload, before), (&mut payload, after), false);
    Ok(payload)
}

/// Whether the quoted IPv6 packet has a fragment header.
pub(super) fn is_ipv6_fragment(quote: &[u8]) -> bool {
    let chain = |quote: &[u8]| -> Option<Chain> { walk(quote, *quote.get(6)?).ok() };
    chain(quote).is_some_and(|chain| chain.fragment.is_some())
}
