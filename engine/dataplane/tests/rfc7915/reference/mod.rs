//! The slow, obvious translator: whole IP packets in, whole IP packets out, written from the RFCs and from nothing
//! else.
//!
//! Nothing here is clever. Every packet is copied, every checksum is summed over all bytes that it covers, and each
//! function follows one section of RFC 7915 from top to bottom. It knows no table of fragments, no rates and no
//! links: what it cannot know is in [`Site`].

pub(crate) mod bytes;
mod extension;
mod four_to_six;
mod icmp;
mod mtu;
mod quote;
mod six_to_four;
mod transport;

use core::net::{Ipv4Addr, Ipv6Addr};

pub(crate) use four_to_six::four_to_six;
pub(crate) use six_to_four::six_to_four;

/// What RFC 7915 leaves to the operator, and what it takes from the links around the translator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// Who is who.
    pub(crate) hosts: Vec<(Ipv4Addr, Ipv6Addr)>,
    /// Where ICMPv6 errors come from whose sender is none of the hosts (RFC 6791).
    pub(crate) router: Option<Ipv4Addr>,
    /// The MTU of the link on the IPv4 side.
    pub(crate) ipv4_mtu: usize,
    /// The MTU of the link on the IPv6 side.
    pub(crate) ipv6_mtu: usize,
    /// Above this size a packet with DF=0 is cut (4.1); at most `ipv6_mtu`.
    pub(crate) lowest_ipv6_mtu: usize,
    /// Whether DSCP and ECN are carried over.
    pub(crate) copy_traffic_class: bool,
    /// Whether a whole UDP packet without checksum gets one.
    pub(crate) compute_udp_checksum: bool,
    /// Whether fragments of ICMP messages pass.
    pub(crate) carry_fragmented_icmp: bool,
    /// What the generator of identifications says next (5.1).
    pub(crate) identification: u16,
    /// The same for the header of a packet quoted in an ICMP error.
    pub(crate) quoted_identification: u16,
}

impl Site {
    fn v6(&self, address: Ipv4Addr) -> Result<Ipv6Addr, Refused> {
        let found = self.hosts.iter().find(|(v4, _)| *v4 == address);
        found.map(|(_, v6)| *v6).ok_or(Refused::silently("no_mapping"))
    }

    fn v4(&self, address: Ipv6Addr) -> Result<Ipv4Addr, Refused> {
        let found = self.hosts.iter().find(|(_, v6)| *v6 == address);
        found.map(|(v4, _)| *v4).ok_or(Refused::silently("src_address_invalid"))
    }
}

/// The ICMP error that the sender is to get, in its own IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The second word of the message: an MTU, a pointer, or 0.
    pub(crate) word: u32,
}

/// Why a packet is not translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The engine's name of the reason.
    pub(crate) reason: &'static str,
    pub(crate) answer: Option<Answer>,
}

impl Refused {
    const fn silently(reason: &'static str) -> Self {
        Self { reason, answer: None }
    }

    /// The same, if the sender may be told: nothing is said about what is or could be an ICMP error itself, nor about
    /// fragments but the first (RFC 1122, 3.2.2; RFC 4443, 2.4 e).
    fn about(self, part: Part, kind: Option<u8>, may_be_error: fn(u8) -> bool) -> Self {
        let quiet = part == Part::Later || kind.is_some_and(may_be_error);
        if quiet { Self::silently(self.reason) } else { self }
    }

    const fn answered(reason: &'static str, kind: u8, code: u8, word: u32) -> Self {
        Self { reason, answer: Some(Answer { kind, code, word }) }
    }
}

/// One packet, or the fragments that it was cut into.
pub(crate) type Translated = Result<Vec<Vec<u8>>, Refused>;

/// Which part of a datagram a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of it.
    Whole,
    /// Its beginning, with the transport header.
    First,
    /// A later part, without one.
    Later,
}

/// A packet without its network header, as both IP versions see it.
struct Datagram<'a> {
    source: (Ipv4Addr, Ipv6Addr),
    destination: (Ipv4Addr, Ipv6Addr),
    /// Protocol or next header, as the IP version that it comes from numbers it.
    protocol: u8,
    part: Part,
    payload: &'a [u8],
    /// What the network header says of the length of `payload`, of which a quote may hold less.
    length: usize,
}

impl Datagram<'_> {
    /// The sum of the pseudo-header under IPv4 (RFC 768, RFC 9293).
    fn pseudo_v4(&self, protocol: u8, length: usize) -> u64 {
        let addresses = bytes::sum(&self.source.0.octets()) + bytes::sum(&self.destination.0.octets());
        addresses + u64::from(protocol) + length as u64
    }

    /// The sum of the pseudo-header under IPv6 (RFC 8200, 8.1).
    fn pseudo_v6(&self, protocol: u8, length: usize) -> u64 {
        let addresses = bytes::sum(&self.source.1.octets()) + bytes::sum(&self.destination.1.octets());
        addresses + u64::from(protocol) + length as u64
    }
}

/// Cuts a payload into parts of at most `room` bytes: where each one is, whether more follow, and its bytes. All but
/// the last of a datagram are whole units of eight bytes.
fn cut(payload: &[u8], room: usize, more: bool) -> Vec<(usize, bool, &[u8])> {
    let (mut parts, mut place) = (Vec::new(), 0);
    loop {
        let left = &payload[place..];
        if left.len() <= room {
            parts.push((place, more, left));
            return parts;
        }
        let length = room / 8 * 8;
        parts.push((place, true, &left[..length]));
        place += length;
    }
}

/// Protocol numbers that the RFC has something to say about.
mod number {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ICMP: u8 = 1;
    pub(super) const IGMP: u8 = 2;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const DCCP: u8 = 33;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const ICMPV6: u8 = 58;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const UDP_LITE: u8 = 136;
    pub(super) const HIP: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}
