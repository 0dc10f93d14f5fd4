//! What a packet's network header said, in the terms that both IP versions share.
//!
//! It is read once, when a packet is classified; the stages decide by it, and translation writes the other version's
//! header from it. Reading it checks the header, makes it contiguous, cuts Ethernet padding off, and leaves the
//! packet's [`Offload`](crate::packet::Offload) in agreement with the headers.

use crate::drop::DropReason;
use crate::offload;
use crate::packet::Packet;
use crate::wire::{WireError, checksum::Sum, ethernet, ipv4, ipv6};
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
    /// IPv4's DF; IPv6 packets are never cut on the way.
    pub(crate) dont_fragment: bool,
    /// The place, from the beginning of the network header, of what routes the packet by addresses that are left: an
    /// IPv6 routing header's count of them, any number for IPv4's options; 0 when there are none.
    pub(crate) live_route: u16,
    /// Which part of a datagram it is, if it is one, or says so (an atomic fragment, RFC 6946).
    pub(crate) fragment: Option<Fragment>,
    /// Where the transport header, or the fragment's part of the datagram, begins in the frame.
    pub(crate) transport: usize,
    /// Bytes from there to the end of the frame.
    pub(crate) payload: u16,
    /// Bytes of the transport header, of a packet that is to be cut; else 0.
    pub(crate) transport_length: u8,
}

/// Which part of a datagram a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// What all parts of the datagram share; 16 bits in IPv4.
    pub(crate) identification: u32,
    /// Where it lies in the datagram, in units of eight bytes, 0 to 8,191.
    pub(crate) offset: u16,
    /// Whether more follow.
    pub(crate) more: bool,
}

impl Fragment {
    /// Whether it is a whole datagram after all (RFC 6946).
    pub(crate) const fn is_atomic(self) -> bool {
        self.offset == 0 && !self.more
    }
}

impl NetworkHeader {
    /// The fragment that it is, unless it is a whole datagram.
    #[inline]
    pub(crate) fn part(&self) -> Option<Fragment> {
        self.fragment.filter(|fragment| !fragment.is_atomic())
    }
}

/// Makes the first `bytes` bytes of the packet contiguous in its first segment.
#[inline(always)]
pub(crate) fn contiguous(packet: &mut impl Packet, bytes: usize) -> Result<(), DropReason> {
    if packet.head().len() >= bytes { Ok(()) } else { pull_up(packet, bytes) }
}

#[cold]
#[inline(never)]
fn pull_up(packet: &mut impl Packet, bytes: usize) -> Result<(), DropReason> {
    if packet.len() < bytes {
        return Err(DropReason::FrameTruncated);
    }
    packet.pull_up(bytes).map_err(|_| DropReason::SegmentsUnsupported)
}

/// Cuts what is behind `length` off, of a frame that is at least as long.
#[inline(always)]
pub(crate) fn trim(packet: &mut impl Packet, length: usize) {
    if packet.len() > length {
        packet.truncate(length);
    }
}

/// Cuts what is behind `length` off, or says that the frame is shorter.
#[inline(always)]
pub(crate) fn cut_padding(packet: &mut impl Packet, length: usize) -> Result<(), DropReason> {
    let received = packet.len();
    if received < length {
        return Err(DropReason::FrameTruncated);
    }
    trim(packet, length);
    Ok(())
}

/// What a fixed IPv6 header says, with its addresses.
pub(crate) fn ipv6_fields(header: ipv6::Header<'_>) -> (NetworkHeader, Ipv6Addr, Ipv6Addr) {
    let (source, destination) = (header.source(), header.destination());
    let read = NetworkHeader {
        source: Ipv4Addr::from_bits(source.to_bits() as u32),
        destination: Ipv4Addr::from_bits(destination.to_bits() as u32),
        protocol: header.next_header(),
        ttl: header.hop_limit(),
        traffic_class: header.traffic_class(),
        dont_fragment: true,
        live_route: 0,
        fragment: None,
        transport: ethernet::LENGTH + ipv6::LENGTH,
        payload: header.payload_length(),
        transport_length: 0,
    };
    (read, source, destination)
}

/// Reads the IPv4 header of a frame, whatever it is.
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
    let live_route = header.length() > ipv4::LENGTH && header.has_live_source_route();
    let total_length = header.total_length();
    let read = NetworkHeader {
        source: header.source(),
        destination: header.destination(),
        protocol: header.protocol(),
        ttl: header.ttl(),
        traffic_class: header.tos(),
        dont_fragment: header.dont_fragment(),
        live_route: live_route.into(),
        fragment: header.is_fragment().then(|| Fragment {
            identification: header.identification().into(),
            offset: header.fragment_offset(),
            more: header.more_fragments(),
        }),
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

/// Reads the fixed IPv6 header of a frame: its length and addresses. Extension headers are for
/// [`extension::read`](crate::extension::read).
///
/// The virtual addresses are the last four octets of the substrate addresses in every layout; what is in front of them is
/// for the caller to judge.
pub(crate) fn read_ipv6(packet: &mut impl Packet) -> Result<(NetworkHeader, Ipv6Addr, Ipv6Addr), DropReason> {
    contiguous(packet, ethernet::LENGTH + ipv6::LENGTH)?;
    let header = packet.head().get(ethernet::LENGTH..).unwrap_or(&[]);
    let header = ipv6::Header::new_checked(header).map_err(|error| match error {
        WireError::Truncated => DropReason::FrameTruncated,
        WireError::Malformed => DropReason::Ipv6Malformed,
    })?;
    let (read, source, destination) = ipv6_fields(header);
    cut_padding(packet, read.transport + usize::from(read.payload))?;
    Ok((read, source, destination))
}
