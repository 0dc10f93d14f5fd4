//! The reset that a TCP segment is answered with when a rule rejects it (RFC 9293, 3.10.7.1): made of that segment, in the
//! same buffer, in the name of the one it was for.

use super::answer::{Envelope, HOPS};
use super::replace;
use crate::header::NetworkHeader;
use crate::packet::Packet;
use crate::wire::checksum::Sum;
use crate::wire::{ethernet, ipv4, ipv6, protocol, tcp};
use core::net::{Ipv4Addr, Ipv6Addr};

/// The reset of an IPv4 segment. `None` of what gets none, or if `allowed`, asked once if it gets one, says no.
#[cold]
#[inline(never)]
pub(crate) fn of_ipv4<P: Packet>(
    mut packet: P,
    header: &NetworkHeader,
    envelope: Envelope<Ipv4Addr>,
    allowed: impl FnOnce() -> bool,
) -> Option<P> {
    let Envelope { frame: (from, to), ends: (source, destination) } = envelope;
    let ends = Sum::ZERO.add_bytes(&source.octets()).add_bytes(&destination.octets());
    let segment = answer(&packet, header, ends).filter(|_| allowed())?;
    let fields = ipv4::Fields {
        tos: 0,
        total_length: (ipv4::LENGTH + segment.len()) as u16,
        // An atomic datagram needs none (RFC 6864, 4.1).
        identification: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: HOPS,
        protocol: protocol::TCP,
        source,
        destination,
    };
    let mut headers = [0; ethernet::LENGTH + ipv4::LENGTH];
    let (frame, rest) = headers.split_first_chunk_mut()?;
    ethernet::emit(frame, to, from, ethernet::ethertype::IPV4);
    fields.emit(rest.first_chunk_mut()?);
    replace(&mut packet, &headers, &segment).ok()?;
    Some(packet)
}

/// As [`of_ipv4`], of an IPv6 segment.
#[cold]
#[inline(never)]
pub(crate) fn of_ipv6<P: Packet>(
    mut packet: P,
    header: &NetworkHeader,
    envelope: Envelope<Ipv6Addr>,
    allowed: impl FnOnce() -> bool,
) -> Option<P> {
    let Envelope { frame: (from, to), ends: (source, destination) } = envelope;
    let ends = Sum::ZERO.add_bytes(&source.octets()).add_bytes(&destination.octets());
    let segment = answer(&packet, header, ends).filter(|_| allowed())?;
    let fields = ipv6::Fields {
        traffic_class: 0,
        payload_length: segment.len() as u16,
        next_header: protocol::TCP,
        hop_limit: HOPS,
        source,
        destination,
    };
    let mut headers = [0; ethernet::LENGTH + ipv6::LENGTH];
    let (frame, rest) = headers.split_first_chunk_mut()?;
    ethernet::emit(frame, to, from, ethernet::ethertype::IPV6);
    fields.emit(rest.first_chunk_mut()?);
    replace(&mut packet, &headers, &segment).ok()?;
    Some(packet)
}

/// The reset of a segment; `None` of a reset, and of what has no TCP header. `ends` is the sum of the addresses.
fn answer(packet: &impl Packet, header: &NetworkHeader, ends: Sum) -> Option<[u8; tcp::LENGTH]> {
    let bytes = packet.head().get(header.transport..)?;
    let asked = tcp::Header::new_checked(bytes, header.payload.into()).ok()?;
    if asked.flags() & tcp::flag::RST != 0 {
        return None;
    }
    let (sequence, acknowledgment, flags) = if asked.flags() & tcp::flag::ACK != 0 {
        (asked.acknowledgment(), 0, tcp::flag::RST)
    } else {
        // SYN and FIN take a place in the sequence as a byte does.
        let controls = (asked.flags() & (tcp::flag::SYN | tcp::flag::FIN)).count_ones();
        let data = u32::from(header.payload) - asked.length() as u32;
        let next = asked.sequence().wrapping_add(data).wrapping_add(controls);
        (0, next, tcp::flag::RST | tcp::flag::ACK)
    };
    let [a, b, c, d, ..] = *bytes.first_chunk::<{ tcp::LENGTH }>()?;
    let mut segment = [0; tcp::LENGTH];
    segment[..4].copy_from_slice(&[c, d, a, b]);
    segment[4..8].copy_from_slice(&u32::to_be_bytes(sequence));
    segment[8..12].copy_from_slice(&u32::to_be_bytes(acknowledgment));
    segment[12] = (tcp::LENGTH as u8 / 4) << 4;
    segment[13] = flags;
    let sum = ends.add(protocol::TCP.into()).add(tcp::LENGTH as u16).add_bytes(&segment);
    tcp::set_checksum(&mut segment, sum.checksum());
    Some(segment)
}
