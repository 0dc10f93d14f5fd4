//! Work left to a device: whether it agrees with the packet, and what it means for the packet's size.
//!
//! What comes with a packet is the word of a node's driver, so it is checked like a header. After [`settle`] a
//! partial checksum lies where the transport has it and inside the packet, and a packet that is to be cut is of the
//! right transport, has its header wholly in the first segment, and carries a partial checksum.

use crate::drop::DropReason;
use crate::header::{NetworkHeader, contiguous};
use crate::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};
use crate::wire::{checksum::Sum, icmp, protocol, tcp, udp};

/// Into how many frames a packet may be cut: 64 KiB at the smallest segments that any stack uses in bulk. Without a
/// bound one packet of a hostile node could ask for 65 535.
const MAX_SEGMENTS: usize = 1024;

/// Where a protocol has its internet checksum, if it has one.
pub(crate) const fn checksum_place(number: u8) -> Option<u16> {
    match number {
        protocol::TCP => Some(tcp::CHECKSUM),
        // UDP-Lite and DCCP have it where UDP has (RFC 3828, 3.1; RFC 4340, 5.1).
        protocol::UDP | protocol::UDP_LITE | protocol::DCCP => Some(udp::CHECKSUM),
        protocol::ICMP | protocol::ICMPV6 => Some(icmp::CHECKSUM),
        _ => None,
    }
}

/// Checks the packet's offload against its headers, and completes it; gives
/// [`transport_length`](NetworkHeader::transport_length). `addresses` sums both addresses, if that is needed.
///
/// Most packets leave nothing to be done. The header goes by value, so that for them it stays in registers.
#[inline]
pub(crate) fn settle(
    packet: &mut impl Packet,
    header: NetworkHeader,
    addresses: impl FnOnce() -> Sum,
) -> Result<u8, DropReason> {
    let offload = packet.offload();
    if offload.segmentation.is_none() && !matches!(offload.checksum, Checksum::Partial { .. }) {
        return Ok(0);
    }
    settle_work(packet, header, addresses(), offload)
}

#[inline(never)]
fn settle_work(
    packet: &mut impl Packet,
    header: NetworkHeader,
    addresses: Sum,
    offload: Offload,
) -> Result<u8, DropReason> {
    if header.fragment.is_some() {
        return Err(DropReason::OffloadInvalid);
    }
    if let Checksum::Partial { start, offset } = offload.checksum {
        let (start, end) = (usize::from(start), usize::from(start) + usize::from(offset) + 2);
        let place = checksum_place(header.protocol);
        if start < header.transport
            || end > header.transport + usize::from(header.payload)
            || place.is_some_and(|place| start != header.transport || offset != place)
        {
            return Err(DropReason::OffloadInvalid);
        }
    }
    let Some(segmentation) = offload.segmentation else { return Ok(0) };
    if offload.checksum == Checksum::Complete {
        return Err(DropReason::OffloadInvalid);
    }
    let payload = usize::from(header.payload);
    let length = match (segmentation.kind, header.protocol) {
        (SegmentationKind::Tcp { .. }, protocol::TCP) => {
            contiguous(packet, header.transport + tcp::LENGTH)?;
            let bytes = packet.head().get(header.transport..).unwrap_or(&[]);
            let view = tcp::Header::new_checked(bytes, payload);
            view.map_err(|_| DropReason::TransportMalformed)?.length()
        }
        (SegmentationKind::Udp, protocol::UDP) if payload >= udp::LENGTH => udp::LENGTH,
        _ => return Err(DropReason::OffloadInvalid),
    };
    contiguous(packet, header.transport + length)?;
    if segmentation.size == 0 || (payload - length).div_ceil(usize::from(segmentation.size)) > MAX_SEGMENTS {
        return Err(DropReason::OffloadInvalid);
    }
    if offload.checksum == Checksum::Verified {
        // Merged by the receiving device, which leaves no meaningful checksum behind: start it anew.
        let Some(offset) = checksum_place(header.protocol) else { return Err(DropReason::OffloadInvalid) };
        let sum = addresses.add(u16::from(header.protocol)).add(header.payload).fold();
        write_word(packet, header.transport + usize::from(offset), sum)?;
        let checksum = Checksum::Partial { start: header.transport as u16, offset };
        packet.set_offload(Offload { checksum, ..offload });
    }
    // A TCP header has at most 60 bytes.
    Ok(length as u8)
}

/// Writes a 16-bit word into the first segment.
#[inline]
pub(crate) fn write_word(packet: &mut impl Packet, place: usize, word: u16) -> Result<(), DropReason> {
    let field = packet.head_mut().get_mut(place..).and_then(|bytes| bytes.first_chunk_mut::<2>());
    *field.ok_or(DropReason::SegmentsUnsupported)? = word.to_be_bytes();
    Ok(())
}

/// How a packet is to be cut so that what leaves, an IP header of `ip_header` bytes in front, fits `mtu`: the same way,
/// in smaller segments, or not at all because it fits.
#[inline]
pub(crate) fn fit(
    header: &NetworkHeader,
    segmentation: Option<Segmentation>,
    ip_header: usize,
    mtu: u16,
) -> Result<Option<Segmentation>, DropReason> {
    let (payload, mtu) = (usize::from(header.payload), usize::from(mtu));
    let Some(segmentation) = segmentation else {
        return if ip_header + payload <= mtu { Ok(None) } else { Err(DropReason::PacketTooBig) };
    };
    let headers = ip_header + usize::from(header.transport_length);
    let room = mtu.saturating_sub(headers);
    let size = match segmentation.kind {
        SegmentationKind::Tcp { .. } if room > 0 => usize::from(segmentation.size).min(room),
        // Datagrams are what their sender made them.
        SegmentationKind::Udp if usize::from(segmentation.size) <= room => usize::from(segmentation.size),
        _ => return Err(DropReason::PacketTooBig),
    };
    if payload - usize::from(header.transport_length) <= size {
        return Ok(None);
    }
    Ok(Some(Segmentation { size: size as u16, ..segmentation }))
}

/// How many frames a packet of `payload` transport bytes stands for.
#[inline]
pub(crate) fn frames(header: &NetworkHeader, segmentation: Option<Segmentation>) -> u16 {
    let Some(segmentation) = segmentation else { return 1 };
    let payload = header.payload.saturating_sub(u16::from(header.transport_length));
    payload.div_ceil(segmentation.size.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn header(payload: u16, transport_length: u8) -> NetworkHeader {
        NetworkHeader {
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
            protocol: protocol::TCP,
            ttl: 64,
            traffic_class: 0,
            dont_fragment: true,
            live_route: 0,
            fragment: None,
            transport: 34,
            payload,
            transport_length,
        }
    }

    const TCP: SegmentationKind = SegmentationKind::Tcp { ecn: false };

    #[test]
    fn segments_shrink_until_they_fit_and_one_segment_is_no_segmentation() {
        let big = header(32 + 10_000, 32);
        let cut = |size, ip, mtu| fit(&big, Some(Segmentation { kind: TCP, size }), ip, mtu);
        assert_eq!(cut(1448, 40, 1500), Ok(Some(Segmentation { kind: TCP, size: 1428 })));
        assert_eq!(cut(1000, 40, 1500), Ok(Some(Segmentation { kind: TCP, size: 1000 })));
        assert_eq!(cut(1448, 40, 20_000), Ok(Some(Segmentation { kind: TCP, size: 1448 })));
        assert_eq!(cut(20_000, 40, 20_000), Ok(None));
        assert_eq!(cut(1448, 40, 72), Err(DropReason::PacketTooBig));
    }

    #[test]
    fn datagrams_are_never_made_smaller() {
        let big = header(8 + 10_000, 8);
        let cut = |size, mtu| fit(&big, Some(Segmentation { kind: SegmentationKind::Udp, size }), 40, mtu);
        assert_eq!(cut(1452, 1500), Ok(Some(Segmentation { kind: SegmentationKind::Udp, size: 1452 })));
        assert_eq!(cut(1453, 1500), Err(DropReason::PacketTooBig));
    }

    #[test]
    fn packet_that_is_not_to_be_cut_must_fit() {
        assert_eq!(fit(&header(1460, 0), None, 40, 1500), Ok(None));
        assert_eq!(fit(&header(1461, 0), None, 40, 1500), Err(DropReason::PacketTooBig));
    }
}
