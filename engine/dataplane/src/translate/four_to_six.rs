//! IPv4 to IPv6 (RFC 7915, section 4).

use super::icmp::{self, Correspondence, Mtus};
use super::transport::{Direction, cross, cross_plain};
use super::{Crossing, Settings, message, replace_front, settle, settle_plain};
use crate::drop::DropReason;
use crate::header::{Fragment, NetworkHeader};
use crate::mac::MacAddr;
use crate::offload;
use crate::packet::Packet;
use crate::plain::{Four, Plain, TRANSPORT_4};
use crate::refusal::{Answer, Refusal};
use crate::wire::checksum::Change;
use crate::wire::{ethernet, fragment, ipv4, ipv6, protocol, tcp};
use core::net::{Ipv4Addr, Ipv6Addr};

const HEADERS: usize = ethernet::LENGTH + ipv6::LENGTH;
const HEADERS_OF_FRAGMENT: usize = HEADERS + fragment::LENGTH;

/// By how much a packet grows: the difference of the two versions' headers.
const GROWTH: u16 = (ipv6::LENGTH - ipv4::LENGTH) as u16;

/// The way out of this host: an uplink's address, its next hop, and the largest IPv6 packet that the path carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WayOut {
    /// The Ethernet header.
    frame: ethernet::Prepared,
    pub(crate) mtu: u16,
    /// The largest that a packet becomes which may be cut; not above `mtu`.
    pub(crate) cut_mtu: u16,
    /// The largest IPv4 packet that goes the other way, to the node.
    pub(crate) node_mtu: u16,
}

impl WayOut {
    /// The way of frames from `source` to `next_hop`; `mtus` are this way's and the node's.
    pub(crate) fn new(source: MacAddr, next_hop: MacAddr, mtus: Mtus, settings: &Settings) -> Self {
        let mtu = mtus.six;
        let cut_mtu = settings.lowest_ipv6_mtu.map_or(mtu, |lowest| lowest.min(mtu));
        let frame = ethernet::Prepared::new(next_hop, source, ethernet::ethertype::IPV6);
        Self { frame, mtu, cut_mtu, node_mtu: mtus.four }
    }

    /// The same way for packets of at most `mtu` bytes.
    pub(crate) fn at_most(self, mtu: u16) -> Self {
        Self { mtu: self.mtu.min(mtu), cut_mtu: self.cut_mtu.min(mtu), ..self }
    }

    /// The largest IPv6 packet that one with this header becomes.
    #[inline]
    const fn mtu_for(&self, header: &NetworkHeader) -> u16 {
        if header.dont_fragment { self.mtu } else { self.cut_mtu }
    }
}

/// The addresses that a packet gets, and what its pseudo-header changes by: their sum without the IPv4 addresses'.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) change: Change,
}

/// The way of plain packets from one address: all of their new front that is the same for each of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainWay {
    front: [u8; HEADERS],
    /// The address that they come from, as it lies in memory.
    source: u32,
    /// The most bytes behind the header of a packet, and of one that may be cut.
    most: u16,
    most_cut: u16,
    copy_class: bool,
}

impl PlainWay {
    /// The way of packets from `source`, which becomes `ends.source`.
    pub(crate) fn new(source: Ipv4Addr, ends: Ipv6Addr, way: &WayOut, settings: &Settings) -> Self {
        let mut front = [0; HEADERS];
        let fields = ipv6::Fields {
            traffic_class: 0,
            payload_length: 0,
            next_header: 0,
            hop_limit: 0,
            source: ends,
            destination: Ipv6Addr::UNSPECIFIED,
        };
        emit_front(&mut front, way, &fields);
        let payload = |mtu: u16| mtu.saturating_sub(ipv6::LENGTH as u16);
        Self {
            front,
            source: u32::from_ne_bytes(source.octets()),
            most: payload(way.mtu),
            most_cut: payload(way.cut_mtu),
            copy_class: settings.copy_traffic_class,
        }
    }

    /// Replaces the frame's Ethernet and IPv4 headers if the packet is a plain one from the way's address and fits as it is;
    /// `false`, and it is as it was, if it is for [`four_to_six`], which does the same to plain ones. `ends`: the halves of
    /// the new destination, as they lie in memory, and [`Ends::change`]; asked for late, when what the old header said is
    /// written already and need not be kept.
    #[inline(always)]
    pub(crate) fn carry(
        &self,
        packet: &mut impl Packet,
        plain: Plain,
        ends: impl FnOnce() -> ([u64; 2], Change),
    ) -> bool {
        let Some(old) = Four::of(packet) else { return false };
        let payload = old.payload();
        let fits = payload <= self.most_cut || (payload <= self.most && old.dont_fragment());
        let (class, next_header, hop_limit) = (old.traffic_class(), old.protocol(), old.ttl() - 1);
        if old.source() != self.source || !fits || packet.prepend(HEADERS - TRANSPORT_4).is_err() {
            return false;
        }
        let Some((front, transport)) = packet.head_mut().split_first_chunk_mut::<HEADERS>() else {
            // It cannot be: the headers that were there and the new bytes are as many.
            let _ = packet.trim_front(HEADERS - TRANSPORT_4);
            return false;
        };
        *front = self.front;
        let Some(header) = front.last_chunk_mut() else { return false };
        ipv6::set_own(header, if self.copy_class { class } else { 0 }, payload, next_header, hop_limit);
        let (destination, change) = ends();
        ipv6::set_destination(header, destination);
        cross_plain(transport, plain, change);
        settle_plain(packet, HEADERS, plain);
        true
    }
}

/// Replaces the frame's Ethernet and IPv4 headers; IPv4 options are left behind (RFC 7915, 4.1). A packet that is refused
/// with an answer is as it was.
pub(crate) fn four_to_six(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &Ends,
    way: &WayOut,
    settings: &Settings,
    addresses: &impl Correspondence,
) -> Result<Crossing, Refusal> {
    if header.live_route != 0 {
        return Err(Refusal::told(DropReason::SourceRoute, Answer::SourceRouteFailed));
    }
    if header.ttl <= 1 {
        return Err(Refusal::told(DropReason::TtlExceeded, Answer::TimeExceeded));
    }
    if header.fragment.is_some() || header.protocol == protocol::ICMP {
        return uncommon(packet, header, ends, way, settings, addresses);
    }
    let mtu = way.mtu_for(header);
    let Ok(segmentation) = offload::fit(header, packet.offload().segmentation, ipv6::LENGTH, mtu) else {
        return too_big(packet, header, ends, way, settings);
    };
    let next_header = cross_transport(packet, header, ends, way, settings)?;
    settle(packet, HEADERS, segmentation);
    let front: &mut [u8; HEADERS] = replace_front(packet, header.transport)?;
    emit(front, header, ends, way, settings, header.payload, next_header);
    Ok(Crossing::Whole)
}

/// Fragments, and ICMP.
#[inline(never)]
fn uncommon(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &Ends,
    way: &WayOut,
    settings: &Settings,
    addresses: &impl Correspondence,
) -> Result<Crossing, Refusal> {
    if header.fragment.is_none() && message::is_v4_error(packet, header)? {
        let mtus = Mtus { four: way.node_mtu, six: way.mtu };
        let body = message::read(packet, header)?;
        let body = icmp::error_to_six(
            &body.bytes,
            body.whole,
            (ends.source, ends.destination),
            mtus,
            settings,
            addresses,
        )?;
        let mut front = [0; HEADERS];
        // The message is never longer than the smallest MTU.
        emit(&mut front, header, ends, way, settings, body.len() as u16, protocol::ICMPV6);
        message::replace(packet, &front, &body)?;
        return Ok(Crossing::Whole);
    }
    let grown = if header.fragment.is_some() { HEADERS_OF_FRAGMENT } else { HEADERS } - ethernet::LENGTH;
    if grown + usize::from(header.payload) > usize::from(way.mtu_for(header)) {
        return too_big(packet, header, ends, way, settings);
    }
    carry(packet, header, ends, way, settings, header.fragment)?;
    Ok(Crossing::Whole)
}

/// A packet that does not fit the way: its sender hears of it, or it becomes a fragment of which several are made.
#[cold]
#[inline(never)]
fn too_big(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &Ends,
    way: &WayOut,
    settings: &Settings,
) -> Result<Crossing, Refusal> {
    if header.dont_fragment || packet.offload().segmentation.is_some() {
        let grown = if header.fragment.is_some() { GROWTH + fragment::LENGTH as u16 } else { GROWTH };
        let mtu = way.mtu.saturating_sub(grown);
        return Err(Refusal::told(DropReason::PacketTooBig, Answer::TooBig { mtu }));
    }
    let whole = || Fragment { identification: identification(packet), offset: 0, more: false };
    let part = header.fragment.unwrap_or_else(whole);
    carry(packet, header, ends, way, settings, Some(part))?;
    Ok(Crossing::Cut { mtu: way.mtu_for(header) })
}

/// Carries over what is not to be cut by a device, with a fragment header if it is to be a `part`.
fn carry(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &Ends,
    way: &WayOut,
    settings: &Settings,
    part: Option<Fragment>,
) -> Result<(), DropReason> {
    let crossing = match part {
        // To be cut, it arrives as parts, whose ICMP checksum has no length in it either.
        Some(part) if header.protocol == protocol::ICMP && settings.carry_fragmented_icmp => {
            NetworkHeader { fragment: Some(Fragment { more: true, ..part }), ..*header }
        }
        _ => *header,
    };
    let next_header = cross_transport(packet, &crossing, ends, way, settings)?;
    let Some(part) = part else {
        settle(packet, HEADERS, None);
        let front: &mut [u8; HEADERS] = replace_front(packet, header.transport)?;
        emit(front, header, ends, way, settings, header.payload, next_header);
        return Ok(());
    };
    settle(packet, HEADERS_OF_FRAGMENT, None);
    let front: &mut [u8; HEADERS_OF_FRAGMENT] = replace_front(packet, header.transport)?;
    let (headers, rest) = front.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    // An IPv4 payload leaves room for these 8 bytes in 16 bits.
    let length = header.payload.saturating_add(fragment::LENGTH as u16);
    emit(headers, header, ends, way, settings, length, protocol::FRAGMENT);
    let fields = fragment::Fields {
        next_header,
        offset: part.offset,
        more_fragments: part.more,
        identification: part.identification,
    };
    fields.emit(rest.first_chunk_mut().ok_or(DropReason::NoHeadroom)?);
    Ok(())
}

#[inline]
fn cross_transport(
    packet: &mut impl Packet,
    header: &NetworkHeader,
    ends: &Ends,
    way: &WayOut,
    settings: &Settings,
) -> Result<u8, DropReason> {
    let most = way.mtu.saturating_sub((ipv6::LENGTH + tcp::LENGTH) as u16);
    cross(packet, header, Direction::FourToSix, ends.change, settings, most)
}

/// The identification in the IPv4 header of a frame.
fn identification(packet: &impl Packet) -> u32 {
    let header = packet.head().get(ethernet::LENGTH..).unwrap_or(&[]);
    ipv4::Header::new_checked(header).map_or(0, |header| header.identification().into())
}

/// Writes Ethernet and IPv6 headers.
#[inline(always)]
fn emit(
    front: &mut [u8; HEADERS],
    header: &NetworkHeader,
    ends: &Ends,
    way: &WayOut,
    settings: &Settings,
    payload_length: u16,
    next_header: u8,
) {
    let fields = ipv6::Fields {
        traffic_class: settings.traffic_class(header.traffic_class),
        payload_length,
        next_header,
        hop_limit: header.ttl - 1,
        source: ends.source,
        destination: ends.destination,
    };
    emit_front(front, way, &fields);
}

#[inline(always)]
fn emit_front(front: &mut [u8; HEADERS], way: &WayOut, fields: &ipv6::Fields) {
    if let Some((frame, rest)) = front.split_first_chunk_mut() {
        way.frame.emit(frame);
        if let Some(rest) = rest.first_chunk_mut() {
            fields.emit(rest);
        }
    }
}
