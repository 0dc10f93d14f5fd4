//! ICMP messages (RFC 7915, 4.2 and 5.2): each arm below is a row there.

use super::bytes::{carry_checksum, put_u16, put_u32, u16_at, u32_at};
use super::{Datagram, Part, Refused, Site, extension, mtu, number, quote};

const HEADER: usize = 8;

/// An ICMPv6 error is as long as fits into the smallest IPv6 MTU, with its IPv6 header (RFC 4443, 2.4 c).
const ICMPV6_BODY: usize = 1280 - 40 - HEADER;
/// An ICMPv4 error is no longer than 576 bytes, with its IPv4 header (RFC 1812, 4.3.2.3).
const ICMPV4_BODY: usize = 576 - 20 - HEADER;

const fn untranslatable() -> Refused {
    Refused::silently("icmp_untranslatable")
}

/// The one thing that ICMP messages in fragments, in pieces of unknown number, can have as the length in their
/// pseudo-header.
const UNKNOWN_LENGTH: usize = 0;

/// Query messages that have a counterpart in IPv6.
pub(super) const fn query_four_to_six(kind: u8) -> Option<u8> {
    match kind {
        8 => Some(128),
        0 => Some(129),
        // Information, timestamp, address mask, router advertisement and solicitation, and unknown ones.
        _ => None,
    }
}

/// Informational messages that have a counterpart in IPv4.
pub(super) const fn informational_six_to_four(kind: u8) -> Option<u8> {
    match kind {
        128 => Some(8),
        129 => Some(0),
        // Multicast listener and neighbour discovery, which never leave a link, and unknown ones.
        _ => None,
    }
}

/// What an error's header becomes.
struct Becomes {
    kind: u8,
    code: u8,
    /// The second word: an MTU or a pointer, in its place.
    word: u32,
    /// Whether such a message can have an extension (RFC 4884, 4).
    extensible: bool,
}

/// What is refused before any type matters, and whether the message is a fragment.
fn check(site: &Site, datagram: &Datagram<'_>) -> Result<(), Refused> {
    if datagram.part != Part::Whole && !site.carry_fragmented_icmp {
        return Err(Refused::silently("fragment_icmp"));
    }
    match datagram.part {
        Part::Whole if datagram.payload.len() < HEADER => Err(Refused::silently("transport_malformed")),
        Part::First if datagram.payload.len() < HEADER => Err(Refused::silently("fragment_tiny")),
        _ => Ok(()),
    }
}

/// ICMPv4 to ICMPv6 (4.2).
pub(super) fn four_to_six(site: &Site, datagram: &Datagram<'_>) -> Result<Vec<u8>, Refused> {
    check(site, datagram)?;
    let before = datagram.payload;
    if datagram.part == Part::Later {
        return Ok(before.to_vec());
    }
    let (mut after, length) = if let Some(kind) = query_four_to_six(before[0]) {
        let mut after = before.to_vec();
        after[0] = kind;
        let length = if datagram.part == Part::Whole { after.len() } else { UNKNOWN_LENGTH };
        (after, length)
    } else {
        let after = error_four_to_six(site, datagram)?;
        let length = after.len();
        (after, length)
    };
    let pseudo = datagram.pseudo_v6(number::ICMPV6, length);
    carry_checksum(2, (before, 0), (&mut after, pseudo), false);
    Ok(after)
}

/// ICMPv6 to ICMPv4 (5.2).
pub(super) fn six_to_four(site: &Site, datagram: &Datagram<'_>) -> Result<Vec<u8>, Refused> {
    check(site, datagram)?;
    let before = datagram.payload;
    if datagram.part == Part::Later {
        return Ok(before.to_vec());
    }
    let (mut after, length) = if let Some(kind) = informational_six_to_four(before[0]) {
        let mut after = before.to_vec();
        after[0] = kind;
        (after, if datagram.part == Part::Whole { before.len() } else { UNKNOWN_LENGTH })
    } else {
        (error_six_to_four(site, datagram)?, before.len())
    };
    let pseudo = datagram.pseudo_v6(number::ICMPV6, length);
    carry_checksum(2, (before, pseudo), (&mut after, 0), false);
    Ok(after)
}

fn error_four_to_six(site: &Site, datagram: &Datagram<'_>) -> Result<Vec<u8>, Refused> {
    let message = datagram.payload;
    let (kind, code) = (message[0], message[1]);
    let plain = |kind, code| Becomes { kind, code, word: 0, extensible: true };
    let problem = |code, pointer| Becomes { kind: 4, code, word: pointer, extensible: false };
    let becomes = match (kind, code) {
        // Destination unreachable.
        (3, 0 | 1) => plain(1, 0),
        // Protocol unreachable: the pointer is to the IPv6 next header field.
        (3, 2) => problem(1, 6),
        (3, 3) => plain(1, 4),
        (3, 4) => {
            let quoted_total_length = message.get(HEADER + 2..HEADER + 4).map_or(0, |field| u16_at(field, 0));
            let told = usize::from(u16_at(message, 6));
            let mtu = mtu::four_to_six(site, told, usize::from(quoted_total_length));
            Becomes { kind: 2, code: 0, word: mtu as u32, extensible: false }
        }
        (3, 5..=8) => plain(1, 0),
        (3, 9 | 10) => plain(1, 1),
        (3, 11 | 12) => plain(1, 0),
        (3, 13 | 15) => plain(1, 1),
        // Host precedence violation, and codes unknown.
        (3, _) => return Err(untranslatable()),
        // Time exceeded.
        (11, code) => plain(3, code),
        // Parameter problem: by pointer, or bad length; "missing a required option" and others have no counterpart.
        (12, 0 | 2) => problem(0, pointer_four_to_six(message[4]).ok_or(untranslatable())?),
        (12, _) => return Err(untranslatable()),
        // Redirect, alternative host address, source quench; obsolete queries; types unknown.
        _ => return Err(untranslatable()),
    };
    if datagram.part != Part::Whole {
        return Err(untranslatable());
    }
    let length = usize::from(message[5]) * 4;
    let body = extension::split(&message[HEADER..], length);
    let quote = quote::to_six(site, &body, datagram.destination.0)?;
    let kept = if becomes.extensible { body.extension } else { &[] };
    let (body, units) = extension::join(quote, kept, 8, ICMPV6_BODY);

    let mut after = vec![0; HEADER];
    (after[0], after[1]) = (becomes.kind, becomes.code);
    put_u16(&mut after, 2, u16_at(message, 2));
    put_u32(&mut after, 4, becomes.word);
    if becomes.extensible {
        after[4] = units;
    }
    after.extend(body);
    Ok(after)
}

fn error_six_to_four(site: &Site, datagram: &Datagram<'_>) -> Result<Vec<u8>, Refused> {
    let message = datagram.payload;
    let (kind, code) = (message[0], message[1]);
    let word = u32_at(message, 4);
    let plain = |kind, code| Becomes { kind, code, word: 0, extensible: true };
    // The length attribute of an ICMPv6 message, where it has one.
    let mut length = 0;
    let becomes = match (kind, code) {
        // Destination unreachable; codes beyond have no counterpart.
        (1, 0 | 2 | 3) => plain(3, 1),
        (1, 1) => plain(3, 10),
        (1, 4) => plain(3, 3),
        (1, _) => return Err(untranslatable()),
        // Packet too big, whatever its code (RFC 4443, 3.2).
        (2, _) => {
            let mtu = mtu::six_to_four(site, word as usize, quote::is_ipv6_fragment(&message[HEADER..]));
            Becomes { kind: 3, code: 4, word: mtu as u32, extensible: true }
        }
        // Time exceeded.
        (3, code) => plain(11, code),
        // Parameter problem.
        (4, 0) => {
            let pointer = pointer_six_to_four(word).ok_or(untranslatable())?;
            Becomes { kind: 12, code: 0, word: pointer << 24, extensible: true }
        }
        // Unrecognised next header: protocol unreachable.
        (4, 1) => plain(3, 2),
        // Unrecognised option, and codes unknown; types unknown.
        _ => return Err(untranslatable()),
    };
    if datagram.part != Part::Whole {
        return Err(untranslatable());
    }
    if matches!(kind, 1 | 3) {
        length = usize::from(message[4]) * 8;
    }
    let body = extension::split(&message[HEADER..], length);
    let quote = quote::to_four(site, &body, datagram.destination.1)?;
    let (body, units) = extension::join(quote, body.extension, 4, ICMPV4_BODY);

    let mut after = vec![0; HEADER];
    (after[0], after[1]) = (becomes.kind, becomes.code);
    put_u16(&mut after, 2, u16_at(message, 2));
    put_u32(&mut after, 4, becomes.word);
    if becomes.extensible {
        after[5] = units;
    }
    after.extend(body);
    Ok(after)
}

/// Figure 3.
const fn pointer_four_to_six(pointer: u8) -> Option<u32> {
    match pointer {
        // Version and header length: version and traffic class.
        0 => Some(0),
        // Type of service: traffic class.
        1 => Some(1),
        // Total length: payload length.
        2 | 3 => Some(4),
        // Identification, flags, fragment offset.
        4..=7 => None,
        // Time to live: hop limit.
        8 => Some(7),
        // Protocol: next header.
        9 => Some(6),
        // Header checksum.
        10 | 11 => None,
        // Source address.
        12..=15 => Some(8),
        // Destination address.
        16..=19 => Some(24),
        _ => None,
    }
}

/// Figure 6.
const fn pointer_six_to_four(pointer: u32) -> Option<u32> {
    match pointer {
        // Version and traffic class: version, header length, type of service.
        0 => Some(0),
        // Traffic class: type of service.
        1 => Some(1),
        // Flow label.
        2 | 3 => None,
        // Payload length: total length.
        4 | 5 => Some(2),
        // Next header: protocol.
        6 => Some(9),
        // Hop limit: time to live.
        7 => Some(8),
        // Source address.
        8..=23 => Some(12),
        // Destination address.
        24..=39 => Some(16),
        _ => None,
    }
}
