//! The packet that an ICMP error about another one travels in: made of that one, in the same buffer.
//!
//! What may be answered is RFC 1122, 3.2.2 and RFC 4443, 2.4 (e).

use super::icmp::{MAX_SIX, answer_ipv4, answer_ipv6, may_answer_ipv4, may_answer_ipv6};
use super::replace;
use crate::mac::MacAddr;
use crate::packet::Packet;
use crate::refusal::Answer;
use crate::wire::{ethernet, ipv4, ipv6, protocol};
use arrayvec::ArrayVec;
use core::net::{Ipv4Addr, Ipv6Addr};

/// TTL and hop limit of what the engine itself sends (RFC 1700's default).
pub(crate) const HOPS: u8 = 64;
/// Precedence "internetwork control" (RFC 1812, 4.3.2.5).
const CONTROL: u8 = 0xc0;

/// How the answer is to be addressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<A> {
    /// Whose hardware address it comes from, and whose it goes to.
    pub(crate) frame: (MacAddr, MacAddr),
    /// Whom it comes from, and whom it goes to: the sender of what is answered.
    pub(crate) ends: (A, A),
}

/// The error that an IPv4 packet is answered with. `None` if none may be sent about it, or if `allowed`, asked once if
/// one may, says no.
#[cold]
#[inline(never)]
pub(crate) fn about_ipv4<P: Packet>(
    mut packet: P,
    answer: Answer,
    envelope: Envelope<Ipv4Addr>,
    allowed: impl FnOnce() -> bool,
) -> Option<P> {
    let quoted = quote(&packet);
    if !may_answer_ipv4(&quoted) {
        return None;
    }
    let message = answer_ipv4(answer, &quoted).filter(|_| allowed())?;
    let Envelope { frame: (from, to), ends: (source, destination) } = envelope;
    let fields = ipv4::Fields {
        tos: CONTROL,
        total_length: (ipv4::LENGTH + message.len()) as u16,
        // An atomic datagram needs none (RFC 6864, 4.1).
        identification: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: HOPS,
        protocol: protocol::ICMP,
        source,
        destination,
    };
    let mut headers = [0; ethernet::LENGTH + ipv4::LENGTH];
    let (frame, rest) = headers.split_first_chunk_mut()?;
    ethernet::emit(frame, to, from, ethernet::ethertype::IPV4);
    fields.emit(rest.first_chunk_mut()?);
    replace(&mut packet, &headers, &message).ok()?;
    Some(packet)
}

/// As [`about_ipv4`], for an IPv6 packet.
#[cold]
#[inline(never)]
pub(crate) fn about_ipv6<P: Packet>(
    mut packet: P,
    answer: Answer,
    envelope: Envelope<Ipv6Addr>,
    allowed: impl FnOnce() -> bool,
) -> Option<P> {
    let quoted = quote(&packet);
    if !may_answer_ipv6(&quoted) {
        return None;
    }
    let Envelope { frame: (from, to), ends: (source, destination) } = envelope;
    let message = answer_ipv6(answer, &quoted, (source, destination)).filter(|_| allowed())?;
    let fields = ipv6::Fields {
        traffic_class: CONTROL,
        payload_length: message.len() as u16,
        next_header: protocol::ICMPV6,
        hop_limit: HOPS,
        source,
        destination,
    };
    let mut headers = [0; ethernet::LENGTH + ipv6::LENGTH];
    let (frame, rest) = headers.split_first_chunk_mut()?;
    ethernet::emit(frame, to, from, ethernet::ethertype::IPV6);
    fields.emit(rest.first_chunk_mut()?);
    replace(&mut packet, &headers, &message).ok()?;
    Some(packet)
}

/// The first bytes of the packet without its Ethernet header: as many as any answer quotes.
fn quote(packet: &impl Packet) -> ArrayVec<u8, MAX_SIX> {
    let mut bytes = ArrayVec::new();
    let mut skip = ethernet::LENGTH;
    for segment in packet.segments() {
        let segment = segment.get(skip.min(segment.len())..).unwrap_or(&[]);
        skip = 0;
        let taken = segment.len().min(bytes.remaining_capacity());
        let _ = bytes.try_extend_from_slice(segment.get(..taken).unwrap_or(&[]));
    }
    bytes
}
