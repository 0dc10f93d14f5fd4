//! IPv4 to IPv6 (RFC 7915, section 4).

use super::replace_front;
use super::transport::{Direction, cross};
use crate::address::Locator;
use crate::drop::DropReason;
use crate::header::NetworkHeader;
use crate::mac::MacAddr;
use crate::offload;
use crate::packet::{Checksum, Offload, Packet};
use crate::wire::checksum::Change;
use crate::wire::{ethernet, ipv6};

const HEADERS: usize = ethernet::LENGTH + ipv6::LENGTH;

/// The way out of this host: an uplink's address, its next hop, and the largest IPv6 packet it carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WayOut {
    pub(crate) source: MacAddr,
    pub(crate) next_hop: MacAddr,
    pub(crate) mtu: u16,
}

/// Replaces the frame's Ethernet and IPv4 headers; IPv4 options are left behind (RFC 7915, 4.1).
#[inline]
pub(crate) fn four_to_six(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    source: &Locator,
    destination: &Locator,
    way: &WayOut,
) -> Result<(), DropReason> {
    if header.fragment {
        return Err(DropReason::FragmentUnsupported);
    }
    if header.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    let segmentation = offload::fit(header, packet.offload().segmentation, ipv6::LENGTH, way.mtu)?;
    let locators = Change::ZERO.add(source.sum()).add(destination.sum());
    let next_header = cross(packet, header, Direction::FourToSix, locators)?;
    let checksum = match packet.offload().checksum {
        Checksum::Partial { offset, .. } => Checksum::Partial { start: HEADERS as u16, offset },
        checksum => checksum,
    };
    packet.set_offload(Offload { checksum, segmentation });

    let front: &mut [u8; HEADERS] = replace_front(packet, header.transport)?;
    let (frame, rest) = front.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    ethernet::emit(frame, way.next_hop, way.source, ethernet::ethertype::IPV6);
    let fields = ipv6::Fields {
        traffic_class: header.traffic_class,
        payload_length: header.payload,
        next_header,
        hop_limit: header.ttl - 1,
        source: source.address(header.source),
        destination: destination.address(header.destination),
    };
    fields.emit(rest.first_chunk_mut().ok_or(DropReason::NoHeadroom)?);
    Ok(())
}
