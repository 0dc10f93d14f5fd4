//! Transport headers (RFC 7915, 4.5 and 5.5): checksums that cover the addresses are brought in line with the other
//! version's addresses, everything else is left as it is.

use super::bytes::{carry_checksum, checksum, put_u16, sum, u16_at};
use super::{Datagram, Part, Refused, Site, number};

/// Where a transport has the checksum that covers the addresses, and how many bytes its header has at least.
const fn checksummed(protocol: u8) -> Option<(usize, usize)> {
    match protocol {
        number::TCP => Some((16, 20)),
        number::UDP | number::UDP_LITE => Some((6, 8)),
        number::DCCP => Some((6, 12)),
        _ => None,
    }
}

/// Whether a transport writes a checksum of 0 as 0xffff, since 0 says that there is none (RFC 768, RFC 3828).
const fn has_zero_for_none(protocol: u8) -> bool {
    matches!(protocol, number::UDP | number::UDP_LITE)
}

/// Refuses headers that are cut off, or that contradict the length of the packet.
fn check(datagram: &Datagram<'_>) -> Result<(), Refused> {
    let Some((_, least)) = checksummed(datagram.protocol) else { return Ok(()) };
    let payload = datagram.payload;
    if datagram.part == Part::First && payload.len() < least {
        // A first fragment holds the transport header, though not its options (RFC 1858, 3.1).
        return Err(Refused::silently("fragment_tiny"));
    }
    if datagram.part != Part::Whole {
        return Ok(());
    }
    let malformed = Refused::silently("transport_malformed");
    if payload.len() < least {
        return Err(malformed);
    }
    let own_length = match datagram.protocol {
        number::TCP => usize::from(payload[12] >> 4) * 4,
        number::UDP => usize::from(u16_at(payload, 4)),
        _ => least,
    };
    if own_length < least || own_length > payload.len() { Err(malformed) } else { Ok(()) }
}

/// The checksum field of UDP says that there is none. In UDP-Lite, which always has one, 0 is a wrong checksum
/// (RFC 3828, 3.1), and stays wrong like others.
fn is_without_checksum(datagram: &Datagram<'_>) -> bool {
    datagram.protocol == number::UDP && datagram.payload.len() >= 8 && u16_at(datagram.payload, 6) == 0
}

/// TCP, UDP and all others but ICMP, from IPv4 to IPv6.
pub(super) fn four_to_six(site: &Site, datagram: &Datagram<'_>) -> Result<Vec<u8>, Refused> {
    check(datagram)?;
    let mut payload = datagram.payload.to_vec();
    if datagram.part == Part::Later {
        return Ok(payload);
    }
    if is_without_checksum(datagram) {
        if datagram.part == Part::First || !site.compute_udp_checksum {
            return Err(Refused::silently("udp_checksum_zero"));
        }
        let length = usize::from(u16_at(&payload, 4));
        let sum = datagram.pseudo_v6(number::UDP, length) + sum(&payload[..length]);
        let computed = checksum(sum);
        put_u16(&mut payload, 6, if computed == 0 { 0xffff } else { computed });
        return Ok(payload);
    }
    carry(datagram, &mut payload, true);
    Ok(payload)
}

/// The same from IPv6 to IPv4.
pub(super) fn six_to_four(datagram: &Datagram<'_>) -> Result<Vec<u8>, Refused> {
    check(datagram)?;
    let mut payload = datagram.payload.to_vec();
    if datagram.part == Part::Later {
        return Ok(payload);
    }
    if is_without_checksum(datagram) {
        // Not legal in IPv6 (RFC 8200, 8.1).
        return Err(Refused::silently("udp_checksum_zero"));
    }
    carry(datagram, &mut payload, false);
    Ok(payload)
}

/// The transport of a packet quoted in an error, which may be cut off anywhere: what is there is carried over.
pub(super) fn quoted(datagram: &Datagram<'_>, to_six: bool) -> Vec<u8> {
    let mut payload = datagram.payload.to_vec();
    // A receiver has had the packet, and said something about it: a checksum of 0 is what it had.
    let is_zero = has_zero_for_none(datagram.protocol) && payload.len() >= 8 && u16_at(&payload, 6) == 0;
    if datagram.part != Part::Later && !is_zero {
        carry(datagram, &mut payload, to_six);
    }
    payload
}

/// The checksum is brought in line with the other version's pseudo-header. Protocol and length, which both versions'
/// pseudo-headers have alike, are left out of both.
fn carry(datagram: &Datagram<'_>, payload: &mut [u8], to_six: bool) {
    let Some((place, _)) = checksummed(datagram.protocol) else { return };
    let (v4, v6) = (datagram.pseudo_v4(0, 0), datagram.pseudo_v6(0, 0));
    let (before, after) = if to_six { (v4, v6) } else { (v6, v4) };
    let ones = has_zero_for_none(datagram.protocol);
    carry_checksum(place, (datagram.payload, before), (payload, after), ones);
}
