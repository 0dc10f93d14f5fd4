//! ICMP errors as bytes that lie together: read out of a packet, and put in the place of one.

use super::icmp::Whole;
use super::transport::transport;
use crate::drop::DropReason;
use crate::header::{NetworkHeader, contiguous};
use crate::packet::{Checksum, Offload, Packet};
use crate::wire::checksum::sum_of_pieces;
use crate::wire::{ethernet, icmp, ipv6};
use arrayvec::ArrayVec;
use core::net::Ipv6Addr;

/// Bytes of a message that are looked at: with a quoted packet and extensions behind it as long as RFC 4884 lets a
/// length be in IPv6 (255 words of 8), what is further is cut off anyway.
const LOOKED_AT: usize = 2304;

/// A message with all that translation needs.
pub(super) struct Body {
    pub(super) bytes: ArrayVec<u8, LOOKED_AT>,
    pub(super) whole: Whole,
}

/// Whether the packet, which is ICMP for IPv4, is an error, or of a type that may be one.
pub(super) fn is_v4_error(packet: &mut impl Packet, header: &NetworkHeader) -> Result<bool, DropReason> {
    Ok(!icmp::v4::is_query(kind(packet, header)?))
}

/// Whether the packet, which is ICMPv6, is an error (RFC 4443, 2.1).
pub(super) fn is_v6_error(packet: &mut impl Packet, header: &NetworkHeader) -> Result<bool, DropReason> {
    Ok(icmp::v6::is_error(kind(packet, header)?))
}

/// Source and destination of the packet that an ICMPv6 error quotes.
///
/// # Errors
/// [`DropReason::IcmpQuoteInvalid`] if there is no IPv6 header.
pub(crate) fn quoted_ends(
    packet: &mut impl Packet,
    header: &NetworkHeader,
) -> Result<(Ipv6Addr, Ipv6Addr), DropReason> {
    let start = header.transport + icmp::LENGTH;
    if usize::from(header.payload) < icmp::LENGTH + ipv6::LENGTH {
        return Err(DropReason::IcmpQuoteInvalid);
    }
    contiguous(packet, start + ipv6::LENGTH)?;
    let quoted = packet.head().get(start..).unwrap_or(&[]);
    let quoted = ipv6::Header::new_checked(quoted).map_err(|_| DropReason::IcmpQuoteInvalid)?;
    Ok((quoted.source(), quoted.destination()))
}

fn kind(packet: &mut impl Packet, header: &NetworkHeader) -> Result<u8, DropReason> {
    let bytes = transport(packet, header, icmp::LENGTH)?;
    bytes.first().copied().ok_or(DropReason::TransportMalformed)
}

/// Reads the message behind `header`.
pub(super) fn read(packet: &impl Packet, header: &NetworkHeader) -> Result<Body, DropReason> {
    let offload = packet.offload();
    if offload.segmentation.is_some() || matches!(offload.checksum, Checksum::Partial { .. }) {
        return Err(DropReason::OffloadInvalid);
    }
    let mut bytes = ArrayVec::new();
    let mut skip = header.transport;
    for segment in packet.segments() {
        let Some(segment) = segment.get(skip..) else {
            skip -= segment.len();
            continue;
        };
        skip = 0;
        let taken = segment.len().min(bytes.remaining_capacity());
        // It fits, as it was measured.
        let _ = bytes.try_extend_from_slice(segment.get(..taken).unwrap_or(&[]));
    }
    let sum = sum_of_pieces(packet.segments(), header.transport).fold();
    Ok(Body { bytes, whole: Whole { length: header.payload, sum } })
}

/// Makes the packet one of these headers and this message.
pub(crate) fn replace(packet: &mut impl Packet, headers: &[u8], message: &[u8]) -> Result<(), DropReason> {
    packet.truncate(ethernet::LENGTH);
    packet.set_offload(Offload::default());
    let (frame, headers) =
        headers.split_at_checked(ethernet::LENGTH).ok_or(DropReason::SegmentsUnsupported)?;
    let head = packet.head_mut().get_mut(..ethernet::LENGTH).ok_or(DropReason::SegmentsUnsupported)?;
    head.copy_from_slice(frame);
    packet.append(headers).map_err(|_| DropReason::SegmentsUnsupported)?;
    packet.append(message).map_err(|_| DropReason::SegmentsUnsupported)
}
