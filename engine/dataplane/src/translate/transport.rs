//! What becomes of the transport header when the network header in front of it changes its version.

use crate::drop::DropReason;
use crate::header::{NetworkHeader, contiguous};
use crate::offload::checksum_place;
use crate::packet::{Checksum, Packet};
use crate::wire::checksum::{self, Change};
use crate::wire::{icmp, protocol, tcp, udp};

/// Which way a packet crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    FourToSix,
    SixToFour,
}

/// Carries the transport header over, and returns its number in the other IP version.
///
/// `locators` is what the two addresses add to the pseudo-header (4 to 6) or take from it (6 to 4).
#[inline]
pub(super) fn cross(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    direction: Direction,
    locators: Change,
) -> Result<u8, DropReason> {
    let payload = usize::from(header.payload);
    match (header.protocol, direction) {
        (protocol::TCP, _) => {
            let bytes = transport(packet, header, tcp::LENGTH)?;
            tcp::Header::new_checked(bytes, payload).map_err(|_| DropReason::TransportMalformed)?;
            update(packet, header, locators, Change::ZERO)?;
            Ok(protocol::TCP)
        }
        (protocol::UDP, _) => {
            let partial = is_partial(packet);
            let bytes = transport(packet, header, udp::LENGTH)?;
            let view =
                udp::Header::new_checked(bytes, payload).map_err(|_| DropReason::TransportMalformed)?;
            if view.checksum() == 0 && !partial {
                return Err(DropReason::UdpChecksumZero);
            }
            update(packet, header, locators, Change::ZERO)?;
            Ok(protocol::UDP)
        }
        (protocol::ICMP, Direction::FourToSix) | (protocol::ICMPV6, Direction::SixToFour) => {
            echo(packet, header, direction, locators)
        }
        // A node must not be able to put extension headers into packets of the substrate, nor ICMP of one version
        // into the other.
        (protocol::ICMP | protocol::ICMPV6, _) => Err(DropReason::ProtocolUntranslatable),
        (other, _) if protocol::is_extension_header(other) => Err(DropReason::ProtocolUntranslatable),
        (_, _) if is_partial(packet) => Err(DropReason::OffloadInvalid),
        (other, _) => Ok(other),
    }
}

fn is_partial(packet: &impl Packet) -> bool {
    matches!(packet.offload().checksum, Checksum::Partial { .. })
}

/// The bytes from the transport header on, of which `length` must be there.
#[inline]
fn transport<'a>(
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

/// Updates the checksum for a change of the pseudo-header, and of bytes that the checksum covers. A partial checksum
/// holds the pseudo-header's sum only: whoever completes it reads the covered bytes as they are then.
#[inline]
fn update(
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
    let new = if partial {
        checksum::updated_sum(old, pseudo)
    } else {
        let new = checksum::updated(old, pseudo.add(covered.fold()));
        if header.protocol == protocol::UDP { checksum::nonzero(new) } else { new }
    };
    *field = new.to_be_bytes();
    Ok(())
}

/// ICMP echo changes its type, and has a pseudo-header under IPv6 only (RFC 4443, 2.3).
fn echo(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    direction: Direction,
    locators: Change,
) -> Result<u8, DropReason> {
    let bytes = transport(packet, header, icmp::LENGTH)?;
    let bytes: &mut [u8; icmp::LENGTH] = bytes.first_chunk_mut().ok_or(DropReason::TransportMalformed)?;
    let view = icmp::Header::new_checked(bytes).map_err(|_| DropReason::TransportMalformed)?;
    let (old, code) = (view.kind(), view.code());
    let (new, number) = match (direction, old) {
        (Direction::FourToSix, icmp::v4::ECHO_REQUEST) => (icmp::v6::ECHO_REQUEST, protocol::ICMPV6),
        (Direction::FourToSix, icmp::v4::ECHO_REPLY) => (icmp::v6::ECHO_REPLY, protocol::ICMPV6),
        (Direction::SixToFour, icmp::v6::ECHO_REQUEST) => (icmp::v4::ECHO_REQUEST, protocol::ICMP),
        (Direction::SixToFour, icmp::v6::ECHO_REPLY) => (icmp::v4::ECHO_REPLY, protocol::ICMP),
        _ => return Err(DropReason::IcmpUntranslatable),
    };
    icmp::set_kind(bytes, new);
    let covered = Change::ZERO.remove(u16::from_be_bytes([old, code])).add(u16::from_be_bytes([new, code]));
    let rest = Change::ZERO
        .add_bytes(&header.source.octets())
        .add_bytes(&header.destination.octets())
        .add(header.payload)
        .add(u16::from(protocol::ICMPV6));
    let pseudo = match direction {
        Direction::FourToSix => locators.add(rest.fold()),
        Direction::SixToFour => locators.remove(rest.fold()),
    };
    update(packet, header, pseudo, covered)?;
    Ok(number)
}
