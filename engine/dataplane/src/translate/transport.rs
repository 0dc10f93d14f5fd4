//! What becomes of the transport header when the network header in front of it changes its version.

use super::{Settings, mss};
use crate::drop::DropReason;
use crate::header::{Fragment, NetworkHeader, contiguous};
use crate::offload::{checksum_place, write_word};
use crate::packet::{Checksum, Packet};
use crate::plain::Plain;
use crate::wire::checksum::{self, Change, Sum};
use crate::wire::{icmp, protocol, tcp, udp};

/// Which way a packet crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    FourToSix,
    SixToFour,
}

/// Bytes of DCCP's generic header with short sequence numbers (RFC 4340, 5.1).
const DCCP_LENGTH: usize = 12;

/// Carries the transport header over, and returns its number in the other IP version.
///
/// `addresses` is what the pseudo-header changes by: the addresses of the one version for those of the other.
/// `most` is the largest MSS that fits the path, when it is to be clamped.
#[inline]
pub(super) fn cross(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    direction: Direction,
    addresses: Change,
    settings: &Settings,
    most: u16,
) -> Result<u8, DropReason> {
    if let Some(fragment) = header.part() {
        return cross_part(packet, header, fragment, direction, addresses, settings);
    }
    let payload = usize::from(header.payload);
    match header.protocol {
        protocol::TCP => {
            let bytes = transport(packet, header, tcp::LENGTH)?;
            let view =
                tcp::Header::new_checked(bytes, payload).map_err(|_| DropReason::TransportMalformed)?;
            let clamp = settings.clamp_tcp_mss && view.flags() & tcp::flag::SYN != 0;
            update(packet, header, addresses, Change::ZERO)?;
            if clamp {
                mss::clamp(packet, header, most)?;
            }
            Ok(protocol::TCP)
        }
        protocol::UDP => {
            let partial = is_partial(packet);
            let bytes = transport(packet, header, udp::LENGTH)?;
            let view =
                udp::Header::new_checked(bytes, payload).map_err(|_| DropReason::TransportMalformed)?;
            if view.checksum() == 0 && !partial {
                let length = view.length();
                give_checksum(packet, header, length, direction, addresses, settings)?;
            } else {
                update(packet, header, addresses, Change::ZERO)?;
            }
            Ok(protocol::UDP)
        }
        _ => cross_other(packet, header, direction, addresses),
    }
}

/// Carries the transport header of a plain packet, which `transport` begins with, over, as [`cross`] would.
#[inline(always)]
pub(super) fn cross_plain(transport: &mut [u8], plain: Plain, addresses: Change) {
    let place = usize::from(plain.checksum);
    if let Some(field) = transport.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
        let old = u16::from_be_bytes(*field);
        let new = if plain.partial {
            checksum::updated_sum(old, addresses)
        } else if plain.checksum == udp::CHECKSUM {
            checksum::nonzero(checksum::updated(old, addresses))
        } else {
            checksum::updated(old, addresses)
        };
        *field = new.to_be_bytes();
    }
}

/// What is not TCP nor UDP.
#[inline(never)]
fn cross_other(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    direction: Direction,
    addresses: Change,
) -> Result<u8, DropReason> {
    let number = number_across(header.protocol, direction)?;
    match header.protocol {
        protocol::ICMP | protocol::ICMPV6 => echo(packet, header, direction, addresses, header.payload)?,
        protocol::UDP_LITE => with_checksum(packet, header, udp::LENGTH, addresses)?,
        protocol::DCCP => with_checksum(packet, header, DCCP_LENGTH, addresses)?,
        _ if is_partial(packet) => return Err(DropReason::OffloadInvalid),
        _ => {}
    }
    Ok(number)
}

/// A part of a datagram: its first has the transport header, whose checksum changes as in a whole one. Of ICMP, whose
/// pseudo-header has a length that no part tells, only the engines at both ends know: both count it as 0.
#[cold]
#[inline(never)]
fn cross_part(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    fragment: Fragment,
    direction: Direction,
    addresses: Change,
    settings: &Settings,
) -> Result<u8, DropReason> {
    let number = number_across(header.protocol, direction)?;
    let icmp = matches!(header.protocol, protocol::ICMP | protocol::ICMPV6);
    if icmp && !settings.carry_fragmented_icmp {
        return Err(DropReason::FragmentIcmp);
    }
    if fragment.offset != 0 {
        return Ok(number);
    }
    match header.protocol {
        protocol::TCP => with_checksum(packet, header, tcp::LENGTH, addresses)?,
        protocol::UDP => {
            let bytes = transport(packet, header, udp::LENGTH)?;
            // The sum of a datagram that is not all there cannot be had (RFC 7915, 4.5).
            let view = udp::Header::new_checked(bytes, usize::from(u16::MAX));
            if view.map_err(|_| DropReason::TransportMalformed)?.checksum() == 0 {
                return Err(DropReason::UdpChecksumZero);
            }
            update(packet, header, addresses, Change::ZERO)?;
        }
        protocol::UDP_LITE => with_checksum(packet, header, udp::LENGTH, addresses)?,
        protocol::DCCP => with_checksum(packet, header, DCCP_LENGTH, addresses)?,
        _ if icmp => echo(packet, header, direction, addresses, 0)?,
        _ => {}
    }
    Ok(number)
}

/// The number of a transport in the other IP version. A node must not be able to put extension headers into packets of
/// the substrate, nor ICMP of one version into the other.
pub(super) fn number_across(number: u8, direction: Direction) -> Result<u8, DropReason> {
    match (number, direction) {
        (protocol::ICMP, Direction::FourToSix) => Ok(protocol::ICMPV6),
        (protocol::ICMPV6, Direction::SixToFour) => Ok(protocol::ICMP),
        (protocol::AUTHENTICATION, _) => Err(DropReason::AuthenticationHeader),
        // IGMP never leaves its link (RFC 7915, 4.2).
        (protocol::IGMP, Direction::FourToSix) => Err(DropReason::ProtocolUntranslatable),
        (protocol::ICMP | protocol::ICMPV6, _) => Err(DropReason::ProtocolUntranslatable),
        (other, _) if protocol::is_extension_header(other) => Err(DropReason::ProtocolUntranslatable),
        (other, _) => Ok(other),
    }
}

fn is_partial(packet: &impl Packet) -> bool {
    matches!(packet.offload().checksum, Checksum::Partial { .. })
}

/// The bytes from the transport header on, of which `length` must be there.
#[inline]
pub(super) fn transport<'a>(
    packet: &'a mut impl Packet,
    header: &NetworkHeader,
    length: usize,
) -> Result<&'a mut [u8], DropReason> {
    if usize::from(header.payload) < length {
        return Err(DropReason::TransportMalformed);
    }
    contiguous(packet, header.transport + length)?;
    packet.head_mut().get_mut(header.transport..).ok_or(DropReason::SegmentsUnsupported)
}

/// A transport of which only the header's least length and its checksum matter.
fn with_checksum(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    length: usize,
    addresses: Change,
) -> Result<(), DropReason> {
    transport(packet, header, length)?;
    update(packet, header, addresses, Change::ZERO)
}

/// Updates the checksum for a change of the pseudo-header, and of bytes that the checksum covers. A partial checksum
/// holds the pseudo-header's sum only: whoever completes it reads the covered bytes as they are then.
#[inline(always)]
pub(super) fn update(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    pseudo: Change,
    covered: Change,
) -> Result<(), DropReason> {
    let partial = is_partial(packet);
    let place = checksum_place(header.protocol).ok_or(DropReason::ProtocolUntranslatable)?;
    let place = header.transport + usize::from(place);
    let field = packet.head_mut().get_mut(place..).and_then(|bytes| bytes.first_chunk_mut::<2>());
    let field = field.ok_or(DropReason::SegmentsUnsupported)?;
    let old = u16::from_be_bytes(*field);
    *field = updated(old, header.protocol, partial, pseudo, covered).to_be_bytes();
    Ok(())
}

/// What a checksum becomes; see [`update`].
#[inline(always)]
fn updated(old: u16, number: u8, partial: bool, pseudo: Change, covered: Change) -> u16 {
    if partial {
        return checksum::updated_sum(old, pseudo);
    }
    let new = checksum::updated(old, pseudo.add(covered.fold()));
    if matches!(number, protocol::UDP | protocol::UDP_LITE) { checksum::nonzero(new) } else { new }
}

/// Gives a UDP packet that has no checksum one, since IPv6 needs it (RFC 7915, 4.5). IPv6 cannot have sent any.
#[cold]
#[inline(never)]
fn give_checksum(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    length: u16,
    direction: Direction,
    addresses: Change,
    settings: &Settings,
) -> Result<(), DropReason> {
    if direction == Direction::SixToFour || !settings.compute_udp_checksum {
        return Err(DropReason::UdpChecksumZero);
    }
    // The datagram may end before the packet does, and what is behind it is not covered (RFC 768).
    let mut left = header.transport + usize::from(length);
    let covered = packet.segments().map(|segment| {
        let (covered, _) = segment.split_at_checked(left).unwrap_or((segment, &[]));
        left -= covered.len();
        covered
    });
    let sum = checksum::sum_of_pieces(covered, header.transport)
        .add_bytes(&header.source.octets())
        .add_bytes(&header.destination.octets())
        .add(addresses.fold())
        .add(length)
        .add(u16::from(protocol::UDP));
    write_word(packet, header.transport + usize::from(udp::CHECKSUM), checksum::nonzero(sum.checksum()))
}

/// ICMP echo changes its type, and has a pseudo-header under IPv6 only (RFC 4443, 2.3), with `length`.
fn echo(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    direction: Direction,
    addresses: Change,
    length: u16,
) -> Result<(), DropReason> {
    let bytes = transport(packet, header, icmp::LENGTH)?;
    let bytes: &mut [u8; icmp::LENGTH] = bytes.first_chunk_mut().ok_or(DropReason::TransportMalformed)?;
    let view = icmp::Header::new_checked(bytes).map_err(|_| DropReason::TransportMalformed)?;
    let (old, code) = (view.kind(), view.code());
    let new = match (direction, old) {
        (Direction::FourToSix, icmp::v4::ECHO_REQUEST) => icmp::v6::ECHO_REQUEST,
        (Direction::FourToSix, icmp::v4::ECHO_REPLY) => icmp::v6::ECHO_REPLY,
        (Direction::SixToFour, icmp::v6::ECHO_REQUEST) => icmp::v4::ECHO_REQUEST,
        (Direction::SixToFour, icmp::v6::ECHO_REPLY) => icmp::v4::ECHO_REPLY,
        _ => return Err(DropReason::IcmpUntranslatable),
    };
    icmp::set_kind(bytes, new);
    let covered = Change::ZERO.remove(u16::from_be_bytes([old, code])).add(u16::from_be_bytes([new, code]));
    // The addresses of IPv4 are none of what its checksum covers: the change needs them whole.
    let four = Sum::ZERO.add_bytes(&header.source.octets()).add_bytes(&header.destination.octets());
    let rest = four.add(length).add(u16::from(protocol::ICMPV6)).fold();
    let pseudo = match direction {
        Direction::FourToSix => addresses.add(rest),
        Direction::SixToFour => addresses.remove(rest),
    };
    update(packet, header, pseudo, covered)
}
