//! IPv6 to IPv4 (RFC 7915, section 5).

use super::replace_front;
use super::transport::{Direction, cross};
use crate::drop::DropReason;
use crate::header::NetworkHeader;
use crate::mac::MacAddr;
use crate::offload;
use crate::packet::{Checksum, Offload, Packet, Segmentation};
use crate::wire::checksum::Change;
use crate::wire::{ethernet, ipv4, protocol};

const HEADERS: usize = ethernet::LENGTH + ipv4::LENGTH;

/// Up to this size an IPv4 packet may be cut behind us, as its IPv6 form was small enough for any link
/// (RFC 7915, 5.1).
const DONT_FRAGMENT_ABOVE: usize = 1260;

/// Gives IPv4 packets their identification (RFC 7915, 5.1). One per worker.
#[derive(Debug)]
pub(crate) struct Identifications(u16);

impl Identifications {
    /// Workers start far apart, as they serve the same nodes.
    pub(crate) const fn new(worker: usize) -> Self {
        Self((worker as u16).wrapping_mul(0x4e35))
    }

    /// The first of `count` identifications in a row: a packet that is to be cut needs one for each segment.
    const fn take(&mut self, count: u16) -> u16 {
        let first = self.0;
        self.0 = first.wrapping_add(count);
        first
    }
}

/// The two ends of a link: how the frame is to be addressed, and the largest IPv4 packet the receiver takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastHop {
    pub(crate) source: MacAddr,
    pub(crate) destination: MacAddr,
    pub(crate) mtu: u16,
}

/// Replaces the frame's Ethernet and IPv6 headers. `locators` is the sum of both addresses' first 96 bits.
#[inline]
pub(crate) fn six_to_four(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    locators: Change,
    hop: &LastHop,
    identifications: &mut Identifications,
) -> Result<(), DropReason> {
    match header.protocol {
        protocol::FRAGMENT => return Err(DropReason::FragmentUnsupported),
        protocol::AUTHENTICATION => return Err(DropReason::ProtocolUntranslatable),
        other if protocol::is_extension_header(other) => return Err(DropReason::ExtensionHeaderUnsupported),
        _ => {}
    }
    if header.ttl <= 1 {
        return Err(DropReason::HopLimitExceeded);
    }
    let total_length = header.payload.checked_add(ipv4::LENGTH as u16).ok_or(DropReason::PacketTooBig)?;
    let segmentation = offload::fit(header, packet.offload().segmentation, ipv4::LENGTH, hop.mtu)?;
    let number = cross(packet, header, Direction::SixToFour, Change::ZERO.remove(locators.fold()))?;
    let checksum = match packet.offload().checksum {
        Checksum::Partial { offset, .. } => Checksum::Partial { start: HEADERS as u16, offset },
        checksum => checksum,
    };
    packet.set_offload(Offload { checksum, segmentation });

    let fields = ipv4::Fields {
        tos: header.traffic_class,
        total_length,
        identification: identifications.take(offload::frames(header, segmentation)),
        dont_fragment: frame_size(header, segmentation) > DONT_FRAGMENT_ABOVE,
        more_fragments: false,
        fragment_offset: 0,
        ttl: header.ttl - 1,
        protocol: number,
        source: header.source,
        destination: header.destination,
    };
    let front: &mut [u8; HEADERS] = replace_front(packet, header.transport)?;
    let (frame, rest) = front.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    ethernet::emit(frame, hop.destination, hop.source, ethernet::ethertype::IPV4);
    fields.emit(rest.first_chunk_mut().ok_or(DropReason::NoHeadroom)?);
    Ok(())
}

/// Bytes of the largest IPv4 packet that comes of it.
fn frame_size(header: &NetworkHeader, segmentation: Option<Segmentation>) -> usize {
    let payload = match segmentation {
        Some(segmentation) => usize::from(header.transport_length) + usize::from(segmentation.size),
        None => usize::from(header.payload),
    };
    ipv4::LENGTH + payload
}
