//! Plain packets, which most are: TCP or UDP right behind a network header of fixed length, in a frame of which nothing is
//! out of the ordinary.
//!
//! They are carried along the straight line, which reads them in fewer steps than [`header`](crate::header) and the
//! translation's functions for any packet take. What is plain is decided here, once. Anything else says no, and is left as
//! it was. What a plain packet's header says is not kept: whoever wants to know reads it again, from a cache line that is at
//! hand.

use crate::header::{NetworkHeader, ipv6_fields, trim};
use crate::packet::{Checksum, Packet};
use crate::wire::word::{u16_at, u32_at, u64_at};
use crate::wire::{checksum, ethernet, ipv4, ipv6, protocol, tcp, udp};
use core::net::{Ipv4Addr, Ipv6Addr};

/// Where the transport header begins in the frame of a plain packet.
pub(crate) const TRANSPORT_4: usize = ethernet::LENGTH + ipv4::LENGTH;
/// The same in IPv6.
pub(crate) const TRANSPORT_6: usize = ethernet::LENGTH + ipv6::LENGTH;

/// What is known of a plain packet: the transport header's fixed part is in the first segment and well formed. It is no SYN,
/// whose MSS may be of interest, and no UDP without checksum. The packet lives on after one more hop, is no fragment and not
/// to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Where in the transport header the checksum lies.
    pub(crate) checksum: u16,
    /// Whether it is left to a device.
    pub(crate) partial: bool,
}

impl Plain {
    /// Looks at the transport header, `transport` bytes into a frame, of a packet with `payload` bytes from there on.
    #[inline(always)]
    pub(crate) fn read(packet: &impl Packet, number: u8, transport: usize, payload: u16) -> Option<Self> {
        let bytes = packet.head().get(transport..)?;
        let payload = usize::from(payload);
        let (checksum, place) = match number {
            protocol::TCP => {
                let view = tcp::Header::new_checked(bytes, payload).ok()?;
                if view.flags() & tcp::flag::SYN != 0 {
                    return None;
                }
                (view.checksum(), tcp::CHECKSUM)
            }
            protocol::UDP => (udp::Header::new_checked(bytes, payload).ok()?.checksum(), udp::CHECKSUM),
            _ => return None,
        };
        let work = packet.offload();
        let partial = match work.checksum {
            Checksum::Complete | Checksum::Verified => false,
            Checksum::Partial { start, offset } => {
                if usize::from(start) != transport || offset != place {
                    return None;
                }
                true
            }
        };
        let missing = number == protocol::UDP && checksum == 0 && !partial;
        if missing || work.segmentation.is_some() { None } else { Some(Self { checksum: place, partial }) }
    }
}

/// Reads the IPv4 header of a plain packet, and cuts Ethernet padding off.
pub(crate) fn read_ipv4(packet: &mut impl Packet) -> Option<(NetworkHeader, Plain)> {
    let front = Four::of(packet)?;
    let (plain, header) = (front.plain(packet)?, front.header());
    trim(packet, TRANSPORT_4 + usize::from(header.payload));
    Some((header, plain))
}

/// Reads the IPv6 header of a plain packet, with its addresses, and cuts Ethernet padding off.
pub(crate) fn read_ipv6(packet: &mut impl Packet) -> Option<((NetworkHeader, Ipv6Addr, Ipv6Addr), Plain)> {
    let front = Six::of(packet)?;
    let (plain, header) = (front.plain(packet)?, front.header());
    trim(packet, TRANSPORT_6 + usize::from(header.0.payload));
    Some((header, plain))
}

/// The Ethernet and IPv4 headers of a frame that may be plain.
#[derive(Clone, Copy)]
pub(crate) struct Four<'p>(&'p [u8; TRANSPORT_4]);

impl<'p> Four<'p> {
    const IP: usize = ethernet::LENGTH;

    #[inline(always)]
    pub(crate) fn of(packet: &'p impl Packet) -> Option<Self> {
        packet.head().first_chunk().map(Self)
    }

    /// The headers of a packet that was found to be plain, and so has them.
    pub(crate) fn of_plain(packet: &'p impl Packet) -> Self {
        Self(packet.head().first_chunk().unwrap_or(&[0; TRANSPORT_4]))
    }

    /// The Ethernet header.
    #[inline(always)]
    pub(crate) fn frame(self) -> Option<ethernet::Header<'p>> {
        ethernet::Header::new_checked(self.0).ok()
    }

    /// The source address, as it lies in memory.
    #[inline(always)]
    pub(crate) fn source(self) -> u32 {
        u32_at(self.0, Self::IP + 12)
    }

    /// The destination address, as it lies in memory.
    #[inline(always)]
    pub(crate) fn destination(self) -> u32 {
        u32_at(self.0, Self::IP + 16)
    }

    #[inline(always)]
    pub(crate) fn traffic_class(self) -> u8 {
        self.0[Self::IP + 1]
    }

    #[inline(always)]
    fn total_length(self) -> u16 {
        u16::from_be(u16_at(self.0, Self::IP + 2))
    }

    /// Bytes behind the header, of a plain packet.
    #[inline(always)]
    pub(crate) fn payload(self) -> u16 {
        self.total_length().wrapping_sub(ipv4::LENGTH as u16)
    }

    #[inline(always)]
    pub(crate) fn dont_fragment(self) -> bool {
        self.0[Self::IP + 6] & 0x40 != 0
    }

    #[inline(always)]
    pub(crate) fn ttl(self) -> u8 {
        self.0[Self::IP + 8]
    }

    #[inline(always)]
    pub(crate) fn protocol(self) -> u8 {
        self.0[Self::IP + 9]
    }

    /// Whether the IPv4 header has no options, is no fragment's, and its checksum is right.
    #[inline(always)]
    fn is_ordinary(self) -> bool {
        // Version and header length; flags and offset, of which DF may be anything.
        const MASK: u64 = u64::from_ne_bytes([0xff, 0, 0, 0, 0, 0, 0xbf, 0xff]);
        const WANT: u64 = u64::from_ne_bytes([0x45, 0, 0, 0, 0, 0, 0, 0]);
        let (one, two) = (u64_at(self.0, Self::IP), u64_at(self.0, Self::IP + 8));
        if one & MASK != WANT {
            return false;
        }
        // The sum of a right header is 0xffff, in either byte order (RFC 1071, 2B), which is 0 modulo itself. Five numbers of
        // 32 bits do not overflow.
        let halves = |word: u64| (word >> 32) + (word & 0xffff_ffff);
        (halves(one) + halves(two) + u64::from(self.destination())).is_multiple_of(0xffff)
    }

    /// Whether the packet is plain. [`Self::trim`] is still to be done.
    #[inline(always)]
    pub(crate) fn plain(self, packet: &impl Packet) -> Option<Plain> {
        let payload = self.total_length().checked_sub(ipv4::LENGTH as u16)?;
        if !self.is_ordinary() || self.ttl() <= 1 || packet.len() < TRANSPORT_4 + usize::from(payload) {
            return None;
        }
        Plain::read(packet, self.protocol(), TRANSPORT_4, payload)
    }

    /// How long the frame of a plain packet is without padding.
    #[inline(always)]
    pub(crate) fn length(self) -> usize {
        TRANSPORT_4 + usize::from(self.payload())
    }

    /// What the header of a plain packet says.
    pub(crate) fn header(self) -> NetworkHeader {
        NetworkHeader {
            source: address(self.source()),
            destination: address(self.destination()),
            protocol: self.protocol(),
            ttl: self.ttl(),
            traffic_class: self.traffic_class(),
            dont_fragment: self.dont_fragment(),
            live_route: 0,
            fragment: None,
            transport: TRANSPORT_4,
            payload: self.payload(),
            transport_length: 0,
        }
    }
}

/// The address that lies in memory as this word.
#[inline(always)]
pub(crate) fn address(word: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be(word))
}

/// The Ethernet and IPv6 headers of a frame that may be plain.
#[derive(Clone, Copy)]
pub(crate) struct Six<'p>(&'p [u8; TRANSPORT_6]);

impl<'p> Six<'p> {
    const IP: usize = ethernet::LENGTH;
    const SOURCE: usize = Self::IP + 8;
    const DESTINATION: usize = Self::IP + 24;

    #[inline(always)]
    pub(crate) fn of(packet: &'p impl Packet) -> Option<Self> {
        packet.head().first_chunk().map(Self)
    }

    /// The headers of a packet that was found to be plain, and so has them.
    pub(crate) fn of_plain(packet: &'p impl Packet) -> Self {
        Self(packet.head().first_chunk().unwrap_or(&[0; TRANSPORT_6]))
    }

    /// The Ethernet header.
    #[inline(always)]
    pub(crate) fn frame(self) -> Option<ethernet::Header<'p>> {
        ethernet::Header::new_checked(self.0).ok()
    }

    /// The IPv6 header.
    #[inline(always)]
    fn network(self) -> &'p [u8; ipv6::LENGTH] {
        self.0.last_chunk().unwrap_or(&[0; ipv6::LENGTH])
    }

    /// The upper half of the source address, as it lies in memory, and the lower half.
    #[inline(always)]
    pub(crate) fn source(self) -> [u64; 2] {
        [u64_at(self.0, Self::SOURCE), u64_at(self.0, Self::SOURCE + 8)]
    }

    /// The source address without the virtual one, as it lies in memory: its first eight octets and the next four.
    #[inline(always)]
    pub(crate) fn source_locator(self) -> (u64, u32) {
        (u64_at(self.0, Self::SOURCE), u32_at(self.0, Self::SOURCE + 8))
    }

    /// The upper half of the destination address, as it lies in memory, and the lower half.
    #[inline(always)]
    pub(crate) fn destination(self) -> [u64; 2] {
        [u64_at(self.0, Self::DESTINATION), u64_at(self.0, Self::DESTINATION + 8)]
    }

    /// The virtual address in the source, as it lies in memory.
    #[inline(always)]
    pub(crate) fn virtual_source(self) -> u32 {
        u32_at(self.0, Self::SOURCE + 12)
    }

    /// The virtual address in the destination, as it lies in memory.
    #[inline(always)]
    pub(crate) fn virtual_destination(self) -> u32 {
        u32_at(self.0, Self::DESTINATION + 12)
    }

    /// The one's-complement sum of what is in front of the virtual addresses.
    #[inline(always)]
    pub(crate) fn sum_of_locators(self) -> u16 {
        let [source, destination] = ipv6::Header::of_checked(self.network()).addresses();
        checksum::sum_of_fronts([source, destination])
    }

    #[inline(always)]
    pub(crate) fn traffic_class(self) -> u8 {
        self.0[Self::IP] << 4 | self.0[Self::IP + 1] >> 4
    }

    /// Bytes behind the header.
    #[inline(always)]
    pub(crate) fn payload(self) -> u16 {
        u16::from_be(u16_at(self.0, Self::IP + 4))
    }

    #[inline(always)]
    pub(crate) fn next_header(self) -> u8 {
        self.0[Self::IP + 6]
    }

    #[inline(always)]
    pub(crate) fn hop_limit(self) -> u8 {
        self.0[Self::IP + 7]
    }

    /// Whether the packet is plain. Padding is still to be cut off.
    #[inline(always)]
    pub(crate) fn plain(self, packet: &impl Packet) -> Option<Plain> {
        let payload = self.payload();
        if self.0[Self::IP] >> 4 != 6 || self.hop_limit() <= 1 || packet.len() < self.length() {
            return None;
        }
        Plain::read(packet, self.next_header(), TRANSPORT_6, payload)
    }

    /// How long the frame of a plain packet is without padding.
    #[inline(always)]
    pub(crate) fn length(self) -> usize {
        TRANSPORT_6 + usize::from(self.payload())
    }

    /// What the header of a plain packet says, with its addresses.
    pub(crate) fn header(self) -> (NetworkHeader, Ipv6Addr, Ipv6Addr) {
        ipv6_fields(ipv6::Header::of_checked(self.network()))
    }
}
