//! IPv6 to IPv4 (RFC 7915, section 5).

use super::icmp::{self, Correspondence, Mtus};
use super::transport::{Direction, cross, cross_plain};
use super::{Crossing, Settings, message, replace_front, settle, settle_plain};
use crate::drop::DropReason;
use crate::header::{Fragment, NetworkHeader};
use crate::offload;
use crate::packet::{Packet, Segmentation};
use crate::plain::{Plain, Six, TRANSPORT_6};
use crate::refusal::{Answer, Refusal};
use crate::wire::checksum::{Change, Sum};
use crate::wire::word::put_u32;
use crate::wire::{ethernet, ipv4, ipv6, protocol, tcp};
use core::cell::Cell;
use core::net::{Ipv4Addr, Ipv6Addr};

const HEADERS: usize = ethernet::LENGTH + ipv4::LENGTH;

/// By how much a packet shrinks: the difference of the two versions' headers.
const GROWTH: u16 = (ipv6::LENGTH - ipv4::LENGTH) as u16;

/// Up to this size an IPv4 packet may be cut behind us, as its IPv6 form was small enough for any link
/// (RFC 7915, 5.1).
const DONT_FRAGMENT_ABOVE: usize = 1260;

/// Gives IPv4 packets their identification (RFC 7915, 5.1). One per worker.
#[derive(Debug)]
pub(crate) struct Identifications(Cell<u16>);

impl Identifications {
    /// Workers start far apart, as they serve the same nodes.
    pub(crate) const fn new(worker: usize) -> Self {
        Self(Cell::new((worker as u16).wrapping_mul(0x4e35)))
    }

    /// The first of `count` identifications in a row: a packet that is to be cut needs one for each segment.
    fn take(&self, count: u16) -> u16 {
        self.0.replace(self.0.get().wrapping_add(count))
    }
}

/// The two ends of a link: how the frame is to be addressed, and the largest IPv4 packet the receiver takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastHop {
    /// The Ethernet header.
    pub(crate) frame: ethernet::Prepared,
    pub(crate) mtu: u16,
    /// The largest IPv6 packet that the way back to the sender carries. Asked for by the MSS clamp alone: a SYN offers
    /// what is to come back.
    pub(crate) way_back: u16,
    /// The largest IPv6 packet that goes the other way, to the substrate.
    pub(crate) uplink_mtu: u16,
}

/// The addresses that a packet had, and what its pseudo-header changes by: the sum of the IPv4 addresses, which its
/// header has already, without theirs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormerEnds {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) change: Change,
}

/// The way of plain packets to one address: all of their new front that is the same for each of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainHop {
    front: [u8; HEADERS],
    /// What the constant words of the IPv4 header sum to.
    sum: Sum,
    /// The most bytes behind the header.
    most: u16,
    copy_class: bool,
}

impl PlainHop {
    /// The way of packets to `destination`, over a link that carries IPv4 packets of `mtu` bytes, in frames like `frame`.
    #[inline(always)]
    pub(crate) fn new(
        frame: &ethernet::Prepared,
        destination: Ipv4Addr,
        mtu: u16,
        settings: &Settings,
    ) -> Self {
        let mut front = [0; HEADERS];
        if let Some((ethernet, header)) = front.split_first_chunk_mut() {
            frame.emit(ethernet);
            header.copy_from_slice(&ipv4::draft(destination));
        }
        Self {
            front,
            sum: Sum::ZERO.add_bytes(&ipv4::draft(destination)),
            most: mtu.saturating_sub(ipv4::LENGTH as u16),
            copy_class: settings.copy_traffic_class,
        }
    }

    /// Replaces the frame's Ethernet and IPv6 headers if the packet is a plain one that fits the link as it is; `false`, and
    /// it is as it was, if it is for [`six_to_four`], which does the same to plain ones. `source` is its new source, as it
    /// lies in memory; `sender` what the frame's has in its last four octets; `change` as in [`FormerEnds`].
    #[inline(always)]
    pub(crate) fn carry(
        &self,
        packet: &mut impl Packet,
        plain: Plain,
        [source, sender]: [u32; 2],
        change: Change,
        identifications: &Identifications,
    ) -> bool {
        let Some(old) = Six::of(packet) else { return false };
        let (payload, class) = (old.payload(), if self.copy_class { old.traffic_class() } else { 0 });
        let (hop_limit, protocol) = (old.hop_limit() - 1, old.next_header());
        // That the frame has what is cut off cannot fail, nor that there is room for the headers in the rest; and without it
        // no translation would come to anything else.
        if payload > self.most || packet.trim_front(TRANSPORT_6 - HEADERS).is_err() {
            return false;
        }
        let Some((front, transport)) = packet.head_mut().split_first_chunk_mut::<HEADERS>() else {
            return false;
        };
        *front = self.front;
        put_u32(front, ethernet::SENDER, sender);
        if let Some(header) = front.last_chunk_mut() {
            // What is not larger than an MTU has 16 bits, as an MTU has.
            let length = payload + ipv4::LENGTH as u16;
            let own = ipv4::Own {
                tos: class,
                length,
                identification: identifications.take(1),
                dont_fragment: usize::from(length) > DONT_FRAGMENT_ABOVE,
                ttl: hop_limit,
                protocol,
                source,
            };
            own.complete(header, self.sum);
        }
        cross_plain(transport, plain, change);
        settle_plain(packet, HEADERS, plain);
        true
    }
}

/// Replaces the frame's Ethernet and IPv6 headers, extension headers included. A packet that is refused with an answer is
/// as it was.
pub(crate) fn six_to_four(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &FormerEnds,
    hop: &LastHop,
    settings: &Settings,
    addresses: &impl Correspondence,
    identifications: &Identifications,
) -> Result<Crossing, Refusal> {
    if header.live_route != 0 {
        let problem = Answer::ParameterProblem { pointer: header.live_route };
        return Err(Refusal::told(DropReason::RoutingHeaderLive, problem));
    }
    if header.ttl <= 1 {
        return Err(Refusal::told(DropReason::HopLimitExceeded, Answer::TimeExceeded));
    }
    let total_length = header.payload.checked_add(ipv4::LENGTH as u16).ok_or(DropReason::PacketTooBig)?;
    if header.fragment.is_some() || header.protocol == protocol::ICMPV6 {
        return uncommon(packet, header, ends, hop, settings, addresses, identifications);
    }
    let segmentation = packet.offload().segmentation;
    let Ok(segmentation) = offload::fit(header, segmentation, ipv4::LENGTH, hop.mtu) else {
        return too_big(packet, header, ends, hop, settings, identifications);
    };
    let dont_fragment = frame_size(header, segmentation) > DONT_FRAGMENT_ABOVE;
    let number = cross_transport(packet, header, ends, hop, settings)?;
    settle(packet, HEADERS, segmentation);
    let fields = ipv4::Fields {
        tos: settings.traffic_class(header.traffic_class),
        total_length,
        identification: identifications.take(offload::frames(header, segmentation)),
        dont_fragment,
        more_fragments: false,
        fragment_offset: 0,
        ttl: header.ttl - 1,
        protocol: number,
        source: header.source,
        destination: header.destination,
    };
    emit(replace_front(packet, header.transport)?, &hop.frame, &fields);
    Ok(Crossing::Whole)
}

/// Fragments, and ICMP.
#[inline(never)]
fn uncommon(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &FormerEnds,
    hop: &LastHop,
    settings: &Settings,
    addresses: &impl Correspondence,
    identifications: &Identifications,
) -> Result<Crossing, Refusal> {
    if header.part().is_none() && header.protocol == protocol::ICMPV6 && message::is_v6_error(packet, header)?
    {
        let mtus = Mtus { four: hop.mtu, six: hop.uplink_mtu };
        let body = message::read(packet, header)?;
        let body = icmp::error_to_four(
            &body.bytes,
            body.whole,
            (ends.source, ends.destination),
            mtus,
            settings,
            addresses,
        )?;
        let fields = ipv4::Fields {
            tos: settings.traffic_class(header.traffic_class),
            // The message is never longer than any IPv4 MTU in use.
            total_length: (ipv4::LENGTH + body.len()) as u16,
            // A message may be an atomic fragment, whose identification stays (RFC 7915, 5.1.1).
            identification: header
                .fragment
                .map_or_else(|| identifications.take(1), |fragment| fragment.identification as u16),
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            ttl: header.ttl - 1,
            protocol: protocol::ICMP,
            source: header.source,
            destination: header.destination,
        };
        let mut front = [0; HEADERS];
        emit(&mut front, &hop.frame, &fields);
        message::replace(packet, &front, &body)?;
        return Ok(Crossing::Whole);
    }
    let total_length = ipv4::LENGTH + usize::from(header.payload);
    let fits = total_length <= usize::from(hop.mtu);
    let may_cut = header.fragment.is_some() || total_length <= DONT_FRAGMENT_ABOVE;
    if !fits && !may_cut {
        return Err(told_too_big(hop));
    }
    carry(packet, header, ends, hop, settings, identifications)?;
    Ok(if fits { Crossing::Whole } else { Crossing::Cut { mtu: hop.mtu } })
}

/// A packet that the node does not take whole: it may be cut if its IPv6 form fitted any link.
#[cold]
#[inline(never)]
fn too_big(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &FormerEnds,
    hop: &LastHop,
    settings: &Settings,
    identifications: &Identifications,
) -> Result<Crossing, Refusal> {
    let small = ipv4::LENGTH + usize::from(header.payload) <= DONT_FRAGMENT_ABOVE;
    if !small || packet.offload().segmentation.is_some() {
        return Err(told_too_big(hop));
    }
    carry(packet, header, ends, hop, settings, identifications)?;
    Ok(Crossing::Cut { mtu: hop.mtu })
}

/// Carries over what is not to be cut by a device, fragment or not.
fn carry(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &FormerEnds,
    hop: &LastHop,
    settings: &Settings,
    identifications: &Identifications,
) -> Result<(), DropReason> {
    let number = cross_transport(packet, header, ends, hop, settings)?;
    settle(packet, HEADERS, None);
    let total_length = ipv4::LENGTH + usize::from(header.payload);
    let Fragment { identification, offset, more } = header.fragment.unwrap_or_else(|| Fragment {
        identification: identifications.take(1).into(),
        offset: 0,
        more: false,
    });
    let fields = ipv4::Fields {
        tos: settings.traffic_class(header.traffic_class),
        total_length: u16::try_from(total_length).map_err(|_| DropReason::PacketTooBig)?,
        // The low 16 bits (RFC 7915, 5.1.1).
        identification: identification as u16,
        dont_fragment: header.fragment.is_none() && total_length > DONT_FRAGMENT_ABOVE,
        more_fragments: more,
        fragment_offset: offset,
        ttl: header.ttl - 1,
        protocol: number,
        source: header.source,
        destination: header.destination,
    };
    emit(replace_front(packet, header.transport)?, &hop.frame, &fields);
    Ok(())
}

#[inline]
fn cross_transport(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &FormerEnds,
    hop: &LastHop,
    settings: &Settings,
) -> Result<u8, DropReason> {
    let most = hop.mtu.saturating_sub((ipv4::LENGTH + tcp::LENGTH) as u16);
    let most = most.min(hop.way_back.saturating_sub((ipv6::LENGTH + tcp::LENGTH) as u16));
    cross(packet, header, Direction::SixToFour, ends.change, settings, most)
}

#[cold]
fn told_too_big(hop: &LastHop) -> Refusal {
    Refusal::told(DropReason::PacketTooBig, Answer::TooBig { mtu: hop.mtu.saturating_add(GROWTH) })
}

/// Writes Ethernet and IPv4 headers.
#[inline(always)]
fn emit(front: &mut [u8; HEADERS], to: &ethernet::Prepared, fields: &ipv4::Fields) {
    if let Some((frame, rest)) = front.split_first_chunk_mut() {
        to.emit(frame);
        if let Some(rest) = rest.first_chunk_mut() {
            fields.emit(rest);
        }
    }
}

/// Bytes of the largest IPv4 packet that comes of it.
fn frame_size(header: &NetworkHeader, segmentation: Option<Segmentation>) -> usize {
    let payload = match segmentation {
        Some(segmentation) => usize::from(header.transport_length) + usize::from(segmentation.size),
        None => usize::from(header.payload),
    };
    ipv4::LENGTH + payload
}
