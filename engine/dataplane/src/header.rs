//! What a packet's network header said, in the terms that both IP versions share.
//!
//! It is read once, when a packet is classified; the stages decide by it, and translation writes the other version's
//! header from it. Reading it checks the header, makes it contiguous, cuts Ethernet padding off, and leaves the
//! packet's [`Offload`](crate::packet::Offload) in agreement with the headers.

use crate::drop::DropReason;
use crate::offload;
use crate::packet::Packet;
use crate::wire::{WireError, checksum::Sum, ethernet, ipv4, ipv6, protocol};
use core::net::{Ipv4Addr, Ipv6Addr};

/// A checked network header, taken apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkHeader {
    /// The sender's virtual address.
    pub(crate) source: Ipv4Addr,
    /// The receiver's virtual address.
    pub(crate) destination: Ipv4Addr,
    /// Protocol or next header, as the packet's own IP version numbers it.
    pub(crate) protocol: u8,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// Type of service or traffic class: DSCP and ECN.
    pub(crate) traffic_class: u8,
    /// Whether the packet is a part of a datagram.
    pub(crate) fragment: bool,
    /// Where the transport header begins in the frame.
    pub(crate) transport: usize,
    /// Bytes from there to the end of the frame.
    pub(crate) payload: u16,
    /// Bytes of the transport header, of a packet that is to be cut; else 0.
    pub(crate) transport_length: u8,
}

/// Makes the first `bytes` bytes of the packet contiguous in its first segment.
#[inline]
pub(crate) fn contiguous(packet: &mut impl Packet, bytes: usize) -> Result<(), DropReason> {
    if packet.head().len() >= bytes {
        return Ok(());
    }
    if packet.len() < bytes {
        return Err(DropReason::FrameTruncated);
    }
    packet.pull_up(bytes).map_err(|_| DropReason::SegmentsUnsupported)
}

/// Cuts what is behind `length` off, or says that the frame is shorter.
#[inline]
fn cut_padding(packet: &mut impl Packet, length: usize) -> Result<(), DropReason> {
    let received = packet.len();
    if received < length {
        return Err(DropReason::FrameTruncated);
    }
    if received > length {
        packet.truncate(length);
    }
    Ok(())
}

/// Reads the IPv4 header of a frame.
#[inline]
pub(crate) fn read_ipv4(packet: &mut impl Packet) -> Result<NetworkHeader, DropReason> {
    contiguous(packet, ethernet::LENGTH + ipv4::LENGTH)?;
    let options = match packet.head().get(ethernet::LENGTH) {
        Some(version_length) => usize::from(version_length & 0xf) * 4,
        None => 0,
    };
    if options > ipv4::LENGTH {
        contiguous(packet, ethernet::LENGTH + options)?;
    }
    let header = packet.head().get(ethernet::LENGTH..).unwrap_or(&[]);
    let header = ipv4::Header::new_checked(header).map_err(|error| match error {
        WireError::Truncated => DropReason::FrameTruncated,
        WireError::Malformed => DropReason::Ipv4Malformed,
    })?;
    if !header.is_checksum_right() {
        return Err(DropReason::Ipv4Checksum);
    }
    if header.length() > ipv4::LENGTH && header.has_live_source_route() {
        return Err(DropReason::SourceRoute);
    }
    let total_length = header.total_length();
    let read = NetworkHeader {
        source: header.source(),
        destination: header.destination(),
        protocol: header.protocol(),
        ttl: header.ttl(),
        traffic_class: header.tos(),
        fragment: header.is_fragment(),
        transport: ethernet::LENGTH + header.length(),
        // The view has checked that this cannot be negative, and a header is at most 60 bytes.
        payload: total_length.saturating_sub(header.length() as u16),
        transport_length: 0,
    };
    let (source, destination) = (read.source.octets(), read.destination.octets());
    cut_padding(packet, ethernet::LENGTH + usize::from(total_length))?;
    let transport_length =
        offload::settle(packet, read, || Sum::ZERO.add_bytes(&source).add_bytes(&destination))?;
    Ok(NetworkHeader { transport_length, ..read })
}

/// Reads the fixed IPv6 header of a frame: its length and addresses.
///
/// The virtual addresses are the last four octets of the substrate addresses in every layout; what is in front of them is
/// for the caller to judge.
#[inline]
pub(crate) fn read_ipv6(packet: &mut impl Packet) -> Result<(NetworkHeader, Ipv6Addr, Ipv6Addr), DropReason> {
    contiguous(packet, ethernet::LENGTH + ipv6::LENGTH)?;
    let header = packet.head().get(ethernet::LENGTH..).unwrap_or(&[]);
    let header = ipv6::Header::new_checked(header).map_err(|error| match error {
        WireError::Truncated => DropReason::FrameTruncated,
        WireError::Malformed => DropReason::Ipv6Malformed,
    })?;
    let (source, destination) = (header.source(), header.destination());
    let read = NetworkHeader {
        source: Ipv4Addr::from_bits(source.to_bits() as u32),
        destination: Ipv4Addr::from_bits(destination.to_bits() as u32),
        protocol: header.next_header(),
        ttl: header.hop_limit(),
        traffic_class: header.traffic_class(),
        fragment: header.next_header() == protocol::FRAGMENT,
        transport: ethernet::LENGTH + ipv6::LENGTH,
        payload: header.payload_length(),
        transport_length: 0,
    };
    cut_padding(packet, read.transport + usize::from(read.payload))?;
    Ok((read, source, destination))
}
