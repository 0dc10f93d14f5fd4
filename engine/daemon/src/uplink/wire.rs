//! The frames of neighbour discovery: taken apart and checked, and put together.

use etherparse::{LinkSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use overlane_dataplane::mac::MacAddr;
use std::net::Ipv6Addr;
use std::time::Duration;

/// Hop limit of every neighbour discovery message: no router forwards a packet that arrives with it (RFC 4861, 3.1).
const ND_HOP_LIMIT: u8 = 255;
/// Hop limit of what we send elsewhere.
const ECHO_HOP_LIMIT: u8 = 64;
/// ff02::1.
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// ff02::2.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// ff02::16 (RFC 3810, 5.2.14).
const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Prefix options taken from one router advertisement; more are ignored.
pub(super) const PREFIX_LIMIT: usize = 8;

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;
const OPTION_PREFIX: u8 = 3;
const OPTION_MTU: u8 = 5;

/// A message that passed every check of its own RFC section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received<'a> {
    pub(super) source_mac: MacAddr,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) message: Message<'a>,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// RFC 4861, 4.3.
    Solicitation { target: Ipv6Addr, source_mac: Option<MacAddr> },
    /// RFC 4861, 4.4.
    Advertisement { target: Ipv6Addr, solicited: bool, overrides: bool, target_mac: Option<MacAddr> },
    /// RFC 4861, 4.2.
    Router(RouterAdvertisement),
    /// RFC 4443, 4.1: identifier and sequence number, and the data.
    Echo { id_and_sequence: [u8; 4], data: &'a [u8] },
}

/// A router's advertisement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RouterAdvertisement {
    /// How long it is a default router; zero: not one.
    pub(super) lifetime: Duration,
    /// RFC 4191, 2.1: 1 high, 0 medium, -1 low.
    pub(super) preference: i8,
    /// Zero: unspecified.
    pub(super) reachable: Duration,
    /// Zero: unspecified.
    pub(super) retransmit: Duration,
    pub(super) source_mac: Option<MacAddr>,
    pub(super) mtu: Option<u32>,
    pub(super) prefixes: Vec<Prefix>,
}

/// A prefix that the router announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) network: Ipv6Addr,
    pub(super) length: u8,
    pub(super) autonomous: bool,
    pub(super) valid: Duration,
    pub(super) preferred: Duration,
}

/// Takes a frame apart; `None` for everything that a node has to discard in silence (RFC 4861, 6.1 and 7.1).
pub(super) fn parse(frame: &[u8]) -> Option<Received<'_>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { return None };
    if !packet.link_exts.is_empty() {
        return None;
    }
    let source_mac = MacAddr(ethernet.source());
    let Some(NetSlice::Ipv6(ipv6)) = packet.net else { return None };
    // RFC 6980: no neighbour discovery in fragments. No other extension header has a use here either.
    if !ipv6.extensions().is_empty() || !source_mac.is_station() {
        return None;
    }
    let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else { return None };
    let header = ipv6.header();
    let (source, destination) = (header.source_addr(), header.destination_addr());
    if source.is_multicast() || !icmp.is_checksum_valid(source.octets(), destination.octets()) {
        return None;
    }
    let message = match icmp.type_u8() {
        ECHO_REQUEST if icmp.code_u8() == 0 => {
            Message::Echo { id_and_sequence: icmp.bytes5to8(), data: icmp.payload() }
        }
        kind => {
            if header.hop_limit() != ND_HOP_LIMIT || icmp.code_u8() != 0 {
                return None;
            }
            let words = icmp.bytes5to8();
            match kind {
                NEIGHBOUR_SOLICITATION => solicitation(source, destination, icmp.payload())?,
                NEIGHBOUR_ADVERTISEMENT => advertisement(destination, words, icmp.payload())?,
                ROUTER_ADVERTISEMENT => router(source, words, icmp.payload())?,
                _ => return None,
            }
        }
    };
    Some(Received { source_mac, source, destination, message })
}

fn solicitation(source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> Option<Message<'static>> {
    let (target, rest) = target(body)?;
    let mut source_mac = None;
    for option in options(rest)? {
        if option.kind == OPTION_SOURCE_MAC {
            source_mac = Some(option.mac()?);
        }
    }
    // RFC 4861, 7.1.1: a solicitation from nobody is duplicate address detection.
    if source.is_unspecified() && (destination != solicited_node(target) || source_mac.is_some()) {
        return None;
    }
    Some(Message::Solicitation { target, source_mac })
}

fn advertisement(destination: Ipv6Addr, [flags, ..]: [u8; 4], body: &[u8]) -> Option<Message<'static>> {
    let (target, rest) = target(body)?;
    let solicited = flags & 0x40 != 0;
    if solicited && destination.is_multicast() {
        return None;
    }
    let mut target_mac = None;
    for option in options(rest)? {
        if option.kind == OPTION_TARGET_MAC {
            target_mac = Some(option.mac()?);
        }
    }
    Some(Message::Advertisement { target, solicited, overrides: flags & 0x20 != 0, target_mac })
}

fn router(source: Ipv6Addr, [_, flags, high, low]: [u8; 4], body: &[u8]) -> Option<Message<'static>> {
    if !source.is_unicast_link_local() {
        return None;
    }
    let (&reachable, rest) = body.split_first_chunk()?;
    let (&retransmit, rest) = rest.split_first_chunk()?;
    let mut advertisement = RouterAdvertisement {
        lifetime: Duration::from_secs(u64::from(u16::from_be_bytes([high, low]))),
        // The reserved value counts as medium.
        preference: match flags >> 3 & 0b11 {
            0b01 => 1,
            0b11 => -1,
            _ => 0,
        },
        reachable: Duration::from_millis(u64::from(u32::from_be_bytes(reachable))),
        retransmit: Duration::from_millis(u64::from(u32::from_be_bytes(retransmit))),
        ..RouterAdvertisement::default()
    };
    for option in options(rest)? {
        match option.kind {
            OPTION_SOURCE_MAC => advertisement.source_mac = Some(option.mac()?),
            OPTION_MTU => advertisement.mtu = Some(option.mtu()?),
            OPTION_PREFIX if advertisement.prefixes.len() < PREFIX_LIMIT => {
                advertisement.prefixes.push(option.prefix()?);
            }
            _ => {}
        }
    }
    Some(Message::Router(advertisement))
}

fn target(body: &[u8]) -> Option<(Ipv6Addr, &[u8])> {
    let (octets, rest) = body.split_first_chunk::<16>()?;
    let target = Ipv6Addr::from(*octets);
    (!target.is_multicast() && !target.is_unspecified()).then_some((target, rest))
}

/// One option; `body` is what follows its type and length.
struct NdOption<'a> {
    kind: u8,
    body: &'a [u8],
}

impl NdOption<'_> {
    fn mac(&self) -> Option<MacAddr> {
        let mac = MacAddr(self.body.try_into().ok()?);
        mac.is_station().then_some(mac)
    }

    fn mtu(&self) -> Option<u32> {
        let octets: [u8; 6] = self.body.try_into().ok()?;
        let (_, mtu) = octets.split_last_chunk()?;
        Some(u32::from_be_bytes(*mtu))
    }

    fn prefix(&self) -> Option<Prefix> {
        let body: [u8; 30] = self.body.try_into().ok()?;
        let ([length, flags], rest) = body.split_first_chunk()?;
        let (valid, rest) = rest.split_first_chunk()?;
        let (preferred, rest) = rest.split_first_chunk()?;
        let (_, network) = rest.split_last_chunk::<16>()?;
        Some(Prefix {
            network: Ipv6Addr::from(*network),
            length: *length,
            autonomous: flags & 0x40 != 0,
            valid: Duration::from_secs(u64::from(u32::from_be_bytes(*valid))),
            preferred: Duration::from_secs(u64::from(u32::from_be_bytes(*preferred))),
        })
    }
}

/// The options in `bytes`; `None` if any of them has length zero or is cut off (RFC 4861, 4.6).
fn options(mut bytes: &[u8]) -> Option<Vec<NdOption<'_>>> {
    let mut options = Vec::new();
    while let Some((&[kind, units], _)) = bytes.split_first_chunk() {
        let length = usize::from(units) * 8;
        let (option, rest) = (length > 0).then(|| bytes.split_at_checked(length)).flatten()?;
        options.push(NdOption { kind, body: option.get(2..)? });
        bytes = rest;
    }
    bytes.is_empty().then_some(options)
}

/// The group that solicitations for an address go to: ff02::1:ff00:0 with its last 24 bits (RFC 4291, 2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | address.to_bits() & 0xff_ffff)
}

/// The Ethernet address of a multicast address (RFC 2464, 7).
fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// Asks who has `target`. To `to` alone, or to the target's solicited-node group.
pub(super) fn neighbour_solicitation(
    mac: MacAddr,
    source: Ipv6Addr,
    target: Ipv6Addr,
    to: Option<MacAddr>,
) -> Vec<u8> {
    let (to_mac, destination) = match to {
        Some(mac) => (mac, target),
        None => (multicast_mac(solicited_node(target)), solicited_node(target)),
    };
    let mut body = target.octets().to_vec();
    if !source.is_unspecified() {
        mac_option(&mut body, OPTION_SOURCE_MAC, mac);
    }
    nd(mac, to_mac, source, destination, NEIGHBOUR_SOLICITATION, [0; 4], &body)
}

/// Says that `target` is ours: to one who asked, or to all nodes unasked.
pub(super) fn neighbour_advertisement(
    mac: MacAddr,
    target: Ipv6Addr,
    to: Option<(MacAddr, Ipv6Addr)>,
) -> Vec<u8> {
    let (flags, (to_mac, destination)) = match to {
        Some(to) => (0x60, to),
        None => (0x20, (multicast_mac(ALL_NODES), ALL_NODES)),
    };
    let mut body = target.octets().to_vec();
    mac_option(&mut body, OPTION_TARGET_MAC, mac);
    nd(mac, to_mac, target, destination, NEIGHBOUR_ADVERTISEMENT, [flags, 0, 0, 0], &body)
}

/// Asks routers to advertise themselves.
pub(super) fn router_solicitation(mac: MacAddr, source: Ipv6Addr) -> Vec<u8> {
    let mut body = Vec::new();
    mac_option(&mut body, OPTION_SOURCE_MAC, mac);
    nd(mac, multicast_mac(ALL_ROUTERS), source, ALL_ROUTERS, ROUTER_SOLICITATION, [0; 4], &body)
}

fn mac_option(body: &mut Vec<u8>, kind: u8, mac: MacAddr) {
    body.extend([kind, 1]);
    body.extend(mac.0);
}

fn nd(
    mac: MacAddr,
    to_mac: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    words: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    icmpv6(mac, to_mac, source, destination, ND_HOP_LIMIT, (kind, words), body)
}

/// The answer to an echo request.
pub(super) fn echo_reply(mac: MacAddr, to_mac: MacAddr, request: &Received<'_>) -> Option<Vec<u8>> {
    let Message::Echo { id_and_sequence, data } = request.message else { return None };
    let kind = (ECHO_REPLY, id_and_sequence);
    Some(icmpv6(mac, to_mac, request.destination, request.source, ECHO_HOP_LIMIT, kind, data))
}

fn icmpv6(
    mac: MacAddr,
    to_mac: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    (kind, words): (u8, [u8; 4]),
    body: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac.0, to_mac.0)
        .ipv6(source.octets(), destination.octets(), hop_limit)
        .icmpv6_raw(kind, 0, words);
    let mut frame = Vec::with_capacity(builder.size(body.len()));
    match builder.write(&mut frame, body) {
        Ok(()) => frame,
        // Writing to a vector fails only for a payload over 64 KiB, and no frame that we answer has one.
        Err(_) => Vec::new(),
    }
}

/// Joins the solicited-node groups of `addresses` (MLDv2, RFC 3810, 5.2): without it, a switch that snoops would not
/// let solicitations for them through.
pub(super) fn multicast_report(mac: MacAddr, source: Ipv6Addr, addresses: &[Ipv6Addr]) -> Vec<u8> {
    const MLDV2_REPORT: u8 = 143;
    const CHANGE_TO_EXCLUDE: u8 = 4;
    // Hop-by-hop options: the router alert (RFC 2711) that MLD requires, padded; next header ICMPv6.
    const HOP_BY_HOP: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];
    let groups: Vec<_> = addresses.iter().copied().map(solicited_node).collect();
    let mut icmp = vec![MLDV2_REPORT, 0, 0, 0, 0, 0];
    icmp.extend((groups.len() as u16).to_be_bytes());
    for group in &groups {
        icmp.extend([CHANGE_TO_EXCLUDE, 0, 0, 0]);
        icmp.extend(group.octets());
    }
    let checksum = etherparse::checksum::Sum16BitWords::new()
        .add_16bytes(source.octets())
        .add_16bytes(ALL_MLDV2_ROUTERS.octets())
        .add_4bytes((icmp.len() as u32).to_be_bytes())
        .add_2bytes([0, 58])
        .add_slice(&icmp)
        .ones_complement()
        .to_ne_bytes();
    if let Some(field) = icmp.get_mut(2..4) {
        field.copy_from_slice(&checksum);
    }
    let mut frame = Vec::with_capacity(14 + 40 + HOP_BY_HOP.len() + icmp.len());
    frame.extend(multicast_mac(ALL_MLDV2_ROUTERS).0);
    frame.extend(mac.0);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(((HOP_BY_HOP.len() + icmp.len()) as u16).to_be_bytes());
    frame.extend([0, 1]);
    frame.extend(source.octets());
    frame.extend(ALL_MLDV2_ROUTERS.octets());
    frame.extend(HOP_BY_HOP);
    frame.extend(icmp);
    frame
}
