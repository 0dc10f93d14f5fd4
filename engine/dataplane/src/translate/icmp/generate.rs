//! ICMP errors that the engine itself sends about a packet.

use super::error::start;
use super::quote::walk;
use super::{MAX_FOUR, MAX_SIX, Message, pseudo, seal};
use crate::refusal::Answer;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, v4, v6};
use crate::wire::{ipv4, ipv6, protocol};
use core::net::{Ipv4Addr, Ipv6Addr};

/// A right checksum makes a message sum up to this.
const RIGHT: u16 = 0xffff;

/// The ICMPv4 error about an IPv4 packet, at most [`MAX_FOUR`] bytes; `None` for an answer that IPv4 does not have.
///
/// `packet` is the packet from its IPv4 header to its end, or the first 548 bytes of it.
pub(crate) fn answer_ipv4(answer: Answer, packet: &[u8]) -> Option<Message> {
    use v4::unreachable;
    let (kind, code, second) = match answer {
        Answer::TimeExceeded => (v4::TIME_EXCEEDED, 0, 0),
        Answer::TooBig { mtu } => {
            (v4::DESTINATION_UNREACHABLE, unreachable::FRAGMENTATION_NEEDED, u32::from(mtu))
        }
        Answer::SourceRouteFailed => (v4::DESTINATION_UNREACHABLE, unreachable::SOURCE_ROUTE_FAILED, 0),
        Answer::ParameterProblem { .. } => return None,
    };
    let mut message = start(kind, code, second);
    message.extend(packet.iter().copied().take(MAX_FOUR - icmp::LENGTH));
    seal(&mut message, Sum::ZERO, RIGHT);
    Some(message)
}

/// The ICMPv6 error about an IPv6 packet, at most [`MAX_SIX`] bytes; `None` for an answer that IPv6 does not have.
///
/// `packet` is the packet from its IPv6 header to its end, or the first 1,232 bytes of it; `ends` are the source and
/// destination of the packet that the error is to be in.
pub(crate) fn answer_ipv6(answer: Answer, packet: &[u8], ends: (Ipv6Addr, Ipv6Addr)) -> Option<Message> {
    use v6::parameter_problem;
    let (kind, code, second) = match answer {
        Answer::TimeExceeded => (v6::TIME_EXCEEDED, 0, 0),
        Answer::TooBig { mtu } => (v6::PACKET_TOO_BIG, 0, mtu),
        Answer::ParameterProblem { pointer } => {
            (v6::PARAMETER_PROBLEM, parameter_problem::HEADER_FIELD, pointer)
        }
        Answer::SourceRouteFailed => return None,
    };
    let mut message = start(kind, code, second.into());
    message.extend(packet.iter().copied().take(MAX_SIX - icmp::LENGTH));
    let length = message.len() as u16;
    seal(&mut message, pseudo(ends).add(length), RIGHT);
    Some(message)
}

/// Whether an error may be sent about an IPv4 packet (RFC 1122, 3.2.2): not about errors nor about what could be one,
/// not about fragments but the first, not about what went to a group, and only to a single host.
///
/// `packet` is the packet from its header on, with at least the first byte behind it. Broadcasts that only a subnet's
/// prefix tells are for the caller to know.
pub(crate) fn may_answer_ipv4(packet: &[u8]) -> bool {
    let Ok(header) = ipv4::Header::new_checked(packet) else { return false };
    if !is_host(header.source()) || !is_host(header.destination()) || header.fragment_offset() != 0 {
        return false;
    }
    header.protocol() != protocol::ICMP || packet.get(header.length()).is_some_and(|kind| v4::is_query(*kind))
}

/// Whether the address is that of a single host: neither 0.0.0.0/8, loopback, multicast, nor what was class E, the
/// limited broadcast among it.
const fn is_host(address: Ipv4Addr) -> bool {
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

/// Whether an error may be sent about an IPv6 packet (RFC 4443, 2.4 e): not about errors, redirects nor what could be
/// one, not about what went to a group, and only to a single node; not about fragments but the first, as they do
/// not tell what they are a part of.
///
/// `packet` is the packet from its header on, with its extension headers and at least one byte behind them.
pub(crate) fn may_answer_ipv6(packet: &[u8]) -> bool {
    let Ok(header) = ipv6::Header::new_checked(packet) else { return false };
    let source = header.source();
    if source.is_unspecified() || source.is_multicast() || source.is_loopback() {
        return false;
    }
    let behind = packet.get(ipv6::LENGTH..).unwrap_or(&[]);
    let Some(chain) = walk(header.next_header(), behind) else { return false };
    if header.destination().is_multicast() || !chain.is_first() {
        return false;
    }
    chain.protocol != protocol::ICMPV6
        || behind.get(chain.length).is_some_and(|kind| !v6::is_error(*kind) && *kind != v6::REDIRECT)
}
