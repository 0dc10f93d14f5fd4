//! The packet that an ICMP error quotes: read from one IP version, written in the other (RFC 7915, 4.3 and 5.3).
//!
//! It is translated like a packet, with these differences. TTL and hop limit stay as they are. It may be cut off
//! anywhere behind its network header, so lengths are what its header says, not what is there, and a checksum is
//! changed where its field is within the quote. What its own header checksum was is not asked: routers change a TTL
//! before they quote.

use super::{Correspondence, Message, append};
use crate::drop::DropReason;
use crate::extension::MOST;
use crate::header::Fragment;
use crate::policy::has_ports;
use crate::translate::Settings;
use crate::translate::transport::{Direction, number_across};
use crate::wire::checksum::{self, Change, Sum};
use crate::wire::{fragment, icmp, ipv4, ipv6, protocol, tcp, udp};
use core::net::{Ipv4Addr, Ipv6Addr};

/// Up to this size IPv4 packets that come of IPv6 may be cut (RFC 7915, 5.1).
const DONT_FRAGMENT_ABOVE: u16 = 1260;

/// A quoted packet, taken apart. `A` is the kind of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoted<'a, A> {
    source: A,
    destination: A,
    traffic_class: u8,
    ttl: u8,
    /// As its own IP version numbers it, behind all extension headers.
    protocol: u8,
    fragment: Option<Fragment>,
    /// Bytes of the packet that is quoted, with its headers.
    pub(super) total_length: u16,
    /// Bytes of it behind its network headers.
    payload_length: u16,
    /// As many of them as are quoted.
    payload: &'a [u8],
}

/// What is behind an IPv6 fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// What follows the extension headers.
    pub(super) protocol: u8,
    /// Bytes of the extension headers.
    pub(super) length: usize,
    fragment: Option<Fragment>,
    /// Whether a routing header has segments left.
    live_route: bool,
}

impl Chain {
    /// Whether the beginning of what follows the extension headers is in the packet.
    pub(super) fn is_first(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0)
    }
}

/// Walks over the extension headers that RFC 7915, 5.1 ignores, and one fragment header behind them, as
/// [`crate::extension`] does in packets. `None` for what that refuses, and if they are cut off.
pub(super) fn walk(mut protocol: u8, bytes: &[u8]) -> Option<Chain> {
    let (mut length, mut live_route) = (0, false);
    for index in 0..=MOST {
        let header = bytes.get(length..)?;
        match protocol {
            protocol::HOP_BY_HOP if index > 0 => return None,
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                let [next, units, _, segments_left, ..] = *header.first_chunk::<8>()?;
                live_route |= protocol == protocol::ROUTING && segments_left != 0;
                length += (usize::from(units) + 1) * 8;
                protocol = next;
            }
            protocol::FRAGMENT => {
                let header = fragment::Header::new_checked(header).ok()?;
                let protocol = header.next_header();
                let fragment = Some(Fragment {
                    offset: header.offset(),
                    more: header.more_fragments(),
                    identification: header.identification(),
                });
                let length = length + fragment::LENGTH;
                return (!protocol::is_extension_header(protocol)).then_some(Chain {
                    protocol,
                    length,
                    fragment,
                    live_route,
                });
            }
            other if protocol::is_extension_header(other) => return None,
            protocol => return Some(Chain { protocol, length, fragment: None, live_route }),
        }
    }
    None
}

/// Reads a quoted IPv4 packet; its options stay behind.
pub(super) fn read_ipv4(bytes: &[u8]) -> Result<Quoted<'_, Ipv4Addr>, DropReason> {
    const INVALID: DropReason = DropReason::IcmpQuoteInvalid;
    let header = ipv4::Header::new_checked(bytes).map_err(|_| INVALID)?;
    let fragment = header.is_fragment().then(|| Fragment {
        offset: header.fragment_offset(),
        more: header.more_fragments(),
        identification: header.identification().into(),
    });
    Ok(Quoted {
        source: header.source(),
        destination: header.destination(),
        traffic_class: header.tos(),
        ttl: header.ttl(),
        protocol: header.protocol(),
        fragment,
        total_length: header.total_length(),
        // The view has checked that this cannot be negative.
        payload_length: header.total_length().saturating_sub(header.length() as u16),
        payload: bytes.get(header.length()..).unwrap_or(&[]),
    })
}

/// Reads a quoted IPv6 packet; its extension headers but a fragment header stay behind.
pub(super) fn read_ipv6(bytes: &[u8]) -> Result<Quoted<'_, Ipv6Addr>, DropReason> {
    const INVALID: DropReason = DropReason::IcmpQuoteInvalid;
    let header = ipv6::Header::new_checked(bytes).map_err(|_| INVALID)?;
    let behind = bytes.get(ipv6::LENGTH..).unwrap_or(&[]);
    let chain = walk(header.next_header(), behind).ok_or(INVALID)?;
    if chain.live_route {
        return Err(INVALID);
    }
    let payload_length =
        usize::from(header.payload_length()).checked_sub(chain.length).ok_or(INVALID)? as u16;
    Ok(Quoted {
        source: header.source(),
        destination: header.destination(),
        traffic_class: header.traffic_class(),
        ttl: header.hop_limit(),
        protocol: chain.protocol,
        fragment: chain.fragment,
        total_length: header.payload_length().saturating_add(ipv6::LENGTH as u16),
        payload_length,
        payload: behind.get(chain.length..).unwrap_or(&[]),
    })
}

/// What tells a quoted packet's flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotedFlow {
    /// As IPv4 numbers it.
    pub(crate) protocol: u8,
    /// Its virtual addresses and ports; of echo messages the identifier is both.
    pub(crate) ends: ((Ipv4Addr, u16), (Ipv4Addr, u16)),
}

/// What tells the flow of the packet in an error of `icmp`; `None` if there is not enough of it.
pub(crate) fn quoted_flow(icmp: u8, quote: &[u8]) -> Option<QuotedFlow> {
    let virtual_address = |address: Ipv6Addr| Ipv4Addr::from_bits(address.to_bits() as u32);
    match icmp {
        protocol::ICMP => {
            let quoted = read_ipv4(quote).ok()?;
            quoted.flow(icmp, quoted.source, quoted.destination)
        }
        _ => {
            let quoted = read_ipv6(quote).ok()?;
            quoted.flow(icmp, virtual_address(quoted.source), virtual_address(quoted.destination))
        }
    }
}

impl<A> Quoted<'_, A> {
    fn flow(&self, icmp: u8, source: Ipv4Addr, destination: Ipv4Addr) -> Option<QuotedFlow> {
        if self.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return None;
        }
        let word = |at: usize| {
            let bytes = self.payload.get(at..)?.first_chunk()?;
            Some(u16::from_be_bytes(*bytes))
        };
        let is_icmp = self.protocol == icmp;
        let ports = match self.protocol {
            number if has_ports(number) => (word(0)?, word(2)?),
            _ if is_icmp => (word(4)?, word(4)?),
            _ => (0, 0),
        };
        let protocol = if is_icmp { protocol::ICMP } else { self.protocol };
        Some(QuotedFlow { protocol, ends: ((source, ports.0), (destination, ports.1)) })
    }

    /// Whether the packet is a fragment, or one that has a fragment header nevertheless (RFC 6946).
    pub(super) const fn is_fragment(&self) -> bool {
        self.fragment.is_some()
    }

    /// Leaves out what is behind the packet's end, if that is padding.
    pub(super) fn cut_padding(self, padded: bool) -> Self {
        match self.payload.get(..self.payload_length.into()) {
            Some(payload) if padded => Self { payload, ..self },
            _ => self,
        }
    }

    fn number_across(&self, way: Direction) -> Result<u8, DropReason> {
        number_across(self.protocol, way).map_err(|_| DropReason::IcmpQuoteInvalid)
    }

    /// Appends the payload to the message, so that at most `end` bytes are in it, and changes what is in its
    /// transport header.
    fn append_payload(
        &self,
        way: Direction,
        pseudo: Pseudo,
        end: usize,
        out: &mut Message,
    ) -> Result<(), DropReason> {
        let start = out.len();
        let room = end.saturating_sub(start);
        let payload = self.payload.get(..room).unwrap_or(self.payload);
        append(out, payload);
        if self.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return Ok(());
        }
        let transport = out.get_mut(start..).unwrap_or(&mut []);
        // ICMP has a pseudo-header under IPv6 only. No fragment tells the length in it; between engines that carry
        // fragments of ICMP it is left out at both ends, and so it is here.
        let is_part = self.fragment.is_some_and(|fragment| !fragment.is_atomic());
        let length = if is_part { 0 } else { self.payload_length };
        let with_icmp = pseudo.six.add(length).add(protocol::ICMPV6.into());
        match (self.protocol, way) {
            (protocol::ICMP, Direction::FourToSix) => echo(transport, way, with_icmp),
            (protocol::ICMPV6, Direction::SixToFour) => {
                echo(transport, way, Change::ZERO.remove(with_icmp.fold()))
            }
            (number, _) => {
                update(transport, number, pseudo.change(way));
                Ok(())
            }
        }
    }
}

impl Quoted<'_, Ipv4Addr> {
    /// Appends the packet as an IPv6 packet, of which at most `room` bytes are quoted. `receiver` gets the error, so
    /// the packet must be one of its own.
    pub(super) fn emit_ipv6(
        &self,
        receiver: Ipv6Addr,
        settings: &Settings,
        addresses: &impl Correspondence,
        room: usize,
        out: &mut Message,
    ) -> Result<(), DropReason> {
        let end = out.len() + room;
        let source = addresses.six(self.source).filter(|source| *source == receiver);
        let source = source.ok_or(DropReason::IcmpQuoteForeign)?;
        let destination = addresses.six(self.destination).ok_or(DropReason::IcmpQuoteForeign)?;
        let number = self.number_across(Direction::FourToSix)?;
        let (next_header, more) = match self.fragment {
            Some(_) => (protocol::FRAGMENT, fragment::LENGTH as u16),
            None => (number, 0),
        };
        let fields = ipv6::Fields {
            traffic_class: settings.traffic_class(self.traffic_class),
            // An IPv4 payload has at most 65,515 bytes.
            payload_length: self.payload_length.saturating_add(more),
            next_header,
            hop_limit: self.ttl,
            source,
            destination,
        };
        let mut header = [0; ipv6::LENGTH];
        fields.emit(&mut header);
        append(out, &header);
        if let Some(Fragment { offset, more, identification }) = self.fragment {
            let mut header = [0; fragment::LENGTH];
            let fields =
                fragment::Fields { next_header: number, offset, more_fragments: more, identification };
            fields.emit(&mut header);
            append(out, &header);
        }
        let pseudo = Pseudo::new((self.source, self.destination), (source, destination));
        self.append_payload(Direction::FourToSix, pseudo, end, out)
    }
}

impl Quoted<'_, Ipv6Addr> {
    /// Appends the packet as an IPv4 packet, of which at most `room` bytes are quoted. `receiver` gets the error, so
    /// the packet must be one of its own. An identification that was lost on the way to IPv6 is 0.
    pub(super) fn emit_ipv4(
        &self,
        receiver: Ipv6Addr,
        settings: &Settings,
        addresses: &impl Correspondence,
        room: usize,
        out: &mut Message,
    ) -> Result<(), DropReason> {
        let end = out.len() + room;
        let source = addresses.four(self.source).filter(|_| self.source == receiver);
        let source = source.ok_or(DropReason::IcmpQuoteForeign)?;
        let destination = addresses.four(self.destination).ok_or(DropReason::IcmpQuoteForeign)?;
        let total_length =
            self.payload_length.checked_add(ipv4::LENGTH as u16).ok_or(DropReason::IcmpQuoteInvalid)?;
        let fields = ipv4::Fields {
            tos: settings.traffic_class(self.traffic_class),
            total_length,
            identification: self.fragment.map_or(0, |fragment| fragment.identification as u16),
            dont_fragment: !self.is_fragment() && total_length > DONT_FRAGMENT_ABOVE,
            more_fragments: self.fragment.is_some_and(|fragment| fragment.more),
            fragment_offset: self.fragment.map_or(0, |fragment| fragment.offset),
            ttl: self.ttl,
            protocol: self.number_across(Direction::SixToFour)?,
            source,
            destination,
        };
        let mut header = [0; ipv4::LENGTH];
        fields.emit(&mut header);
        append(out, &header);
        let pseudo = Pseudo::new((source, destination), (self.source, self.destination));
        self.append_payload(Direction::SixToFour, pseudo, end, out)
    }
}

/// What its addresses add to the pseudo-header on either side.
#[derive(Debug, Clone, Copy)]
struct Pseudo {
    four: Sum,
    six: Sum,
}

impl Pseudo {
    fn new(four: (Ipv4Addr, Ipv4Addr), six: (Ipv6Addr, Ipv6Addr)) -> Self {
        Self {
            four: Sum::ZERO.add_bytes(&four.0.octets()).add_bytes(&four.1.octets()),
            six: Sum::ZERO.add_bytes(&six.0.octets()).add_bytes(&six.1.octets()),
        }
    }

    /// Protocol and length are the same on both sides.
    const fn change(&self, way: Direction) -> Change {
        match way {
            Direction::FourToSix => self.six.remove(self.four.fold()),
            Direction::SixToFour => self.four.remove(self.six.fold()),
        }
    }
}

/// Updates the checksum of a transport header, if it has one that covers the addresses and is within the quote.
fn update(transport: &mut [u8], number: u8, change: Change) {
    let (place, zero_is_none) = match number {
        protocol::TCP => (tcp::CHECKSUM, false),
        protocol::UDP | protocol::UDP_LITE => (udp::CHECKSUM, true),
        protocol::DCCP => (6, false),
        _ => return,
    };
    let field = transport.get_mut(place.into()..).and_then(|bytes| bytes.first_chunk_mut::<2>());
    let Some(field) = field else { return };
    let old = u16::from_be_bytes(*field);
    // A datagram without checksum gets none here: the bytes to compute it from are mostly not quoted. IPv6 allows no
    // such datagram, but this one has been received already, and its quote only says which one it was.
    if zero_is_none && old == 0 {
        return;
    }
    let new = checksum::updated(old, change);
    *field = if zero_is_none { checksum::nonzero(new) } else { new }.to_be_bytes();
}

/// An echo request or reply changes its type, and has a pseudo-header or has it no more. No error is sent about an
/// error (RFC 792 and RFC 4443, 2.4 e), and other messages never cross.
fn echo(transport: &mut [u8], way: Direction, pseudo: Change) -> Result<(), DropReason> {
    let Some(kind) = transport.first_mut() else { return Err(DropReason::IcmpQuoteInvalid) };
    let old = *kind;
    let new = match (way, old) {
        (Direction::FourToSix, icmp::v4::ECHO_REQUEST) => icmp::v6::ECHO_REQUEST,
        (Direction::FourToSix, icmp::v4::ECHO_REPLY) => icmp::v6::ECHO_REPLY,
        (Direction::SixToFour, icmp::v6::ECHO_REQUEST) => icmp::v4::ECHO_REQUEST,
        (Direction::SixToFour, icmp::v6::ECHO_REPLY) => icmp::v4::ECHO_REPLY,
        _ => return Err(DropReason::IcmpQuoteInvalid),
    };
    *kind = new;
    let place = transport.get_mut(icmp::CHECKSUM.into()..).and_then(|bytes| bytes.first_chunk_mut::<2>());
    if let Some(place) = place {
        let change = pseudo.remove(u16::from(old) << 8).add(u16::from(new) << 8);
        *place = checksum::updated(u16::from_be_bytes(*place), change).to_be_bytes();
    }
    Ok(())
}
