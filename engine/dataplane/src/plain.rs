//! Plain packets, which most are: TCP or UDP right behind a network header of fixed length, in a frame of which nothing is
//! out of the ordinary.
//!
//! They are read in fewer steps than [`header`](crate::header) and the translation's functions for any packet take, and
//! carried along the straight line. What is plain is decided here, once. Anything else says no, and is left as it was.

use crate::header::{NetworkHeader, cut_padding, ipv6_fields};
use crate::packet::{Checksum, Packet};
use crate::wire::{ethernet, ipv4, ipv6, protocol, tcp, udp};
use core::net::Ipv6Addr;

/// Where the transport header begins in the frame of a plain packet.
pub(crate) const TRANSPORT_4: usize = ethernet::LENGTH + ipv4::LENGTH;
/// The same in IPv6.
pub(crate) const TRANSPORT_6: usize = ethernet::LENGTH + ipv6::LENGTH;

/// What is known of the transport of a plain packet: the header's fixed part is in the first segment and well formed. It
/// is no SYN, whose MSS may be of interest, and no UDP without checksum. The packet lives on after one more hop, is no
/// fragment and not to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain {
    /// The checksum field as it came.
    pub(crate) checksum: u16,
    /// Whether it is left to a device; it is where the transport has it.
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
        if missing || work.segmentation.is_some() { None } else { Some(Self { checksum, partial }) }
    }
}

/// Reads the IPv4 header of a frame, and cuts Ethernet padding off.
#[inline(always)]
pub(crate) fn read_ipv4(packet: &mut impl Packet) -> Option<NetworkHeader> {
    let fields = ipv4::Fields::read_plain(packet.head().get(ethernet::LENGTH..)?.first_chunk()?)?;
    let payload = fields.total_length.checked_sub(ipv4::LENGTH as u16)?;
    if fields.ttl <= 1 {
        return None;
    }
    let plain = Plain::read(packet, fields.protocol, TRANSPORT_4, payload)?;
    cut_padding(packet, TRANSPORT_4 + usize::from(payload)).ok()?;
    Some(NetworkHeader {
        source: fields.source,
        destination: fields.destination,
        protocol: fields.protocol,
        ttl: fields.ttl,
        traffic_class: fields.tos,
        dont_fragment: fields.dont_fragment,
        live_route: 0,
        fragment: None,
        transport: TRANSPORT_4,
        payload,
        transport_length: 0,
        plain: Some(plain),
    })
}

/// Reads the IPv6 header of a frame, with its addresses, and cuts Ethernet padding off.
#[inline(always)]
pub(crate) fn read_ipv6(packet: &mut impl Packet) -> Option<(NetworkHeader, Ipv6Addr, Ipv6Addr)> {
    let header = packet.head().get(ethernet::LENGTH..)?;
    let (header, source, destination) = ipv6_fields(ipv6::Header::new_checked(header).ok()?);
    if header.ttl <= 1 {
        return None;
    }
    let plain = Plain::read(packet, header.protocol, TRANSPORT_6, header.payload)?;
    cut_padding(packet, TRANSPORT_6 + usize::from(header.payload)).ok()?;
    Some((NetworkHeader { plain: Some(plain), ..header }, source, destination))
}
