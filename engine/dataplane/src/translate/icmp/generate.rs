//! ICMP errors that the engine itself sends about a packet.

use super::error::start;
use super::quote::walk;
use super::{MAX_FOUR, MAX_SIX, Message, append, pseudo, seal};
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
        Answer::Prohibited => (v4::DESTINATION_UNREACHABLE, unreachable::PROHIBITED, 0),
        Answer::HostUnreachable => (v4::DESTINATION_UNREACHABLE, unreachable::HOST, 0),
        Answer::ParameterProblem { .. } => return None,
    };
    let mut message = start(kind, code, second);
    append(&mut message, packet.get(..MAX_FOUR - icmp::LENGTH).unwrap_or(packet));
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
        Answer::Prohibited => (v6::DESTINATION_UNREACHABLE, v6::unreachable::PROHIBITED, 0),
        Answer::HostUnreachable => (v6::DESTINATION_UNREACHABLE, v6::unreachable::ADDRESS, 0),
        Answer::SourceRouteFailed => return None,
    };
    let mut message = start(kind, code, second.into());
    append(&mut message, packet.get(..MAX_SIX - icmp::LENGTH).unwrap_or(packet));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;

    const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const ENDS: (Ipv6Addr, Ipv6Addr) =
        (Ipv6Addr::new(0xfd00, 0, 0, 0xa, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0xb, 0, 7, 0xa00, 1));

    fn four(edit: impl FnOnce(&mut ipv4::Fields), behind: &[u8]) -> Vec<u8> {
        let mut fields = ipv4::Fields {
            tos: 0,
            total_length: (ipv4::LENGTH + behind.len()) as u16,
            identification: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 1,
            protocol: protocol::UDP,
            source: NODE,
            destination: PEER,
        };
        edit(&mut fields);
        let mut header = [0; ipv4::LENGTH];
        fields.emit(&mut header);
        [&header[..], behind].concat()
    }

    fn six(edit: impl FnOnce(&mut ipv6::Fields), behind: &[u8]) -> Vec<u8> {
        let mut fields = ipv6::Fields {
            traffic_class: 0,
            payload_length: behind.len() as u16,
            next_header: protocol::UDP,
            hop_limit: 1,
            source: ENDS.1,
            destination: ENDS.0,
        };
        edit(&mut fields);
        let mut header = [0; ipv6::LENGTH];
        fields.emit(&mut header);
        [&header[..], behind].concat()
    }

    #[test]
    fn each_answer_has_its_type_and_code_and_a_right_checksum_in_ipv4() {
        let packet = four(|_| (), &[7; 100]);
        for (answer, head) in [
            (Answer::TimeExceeded, [11, 0, 0, 0, 0, 0]),
            (Answer::TooBig { mtu: 1480 }, [3, 4, 0, 0, 0x05, 0xc8]),
            (Answer::SourceRouteFailed, [3, 5, 0, 0, 0, 0]),
            (Answer::Prohibited, [3, 13, 0, 0, 0, 0]),
            (Answer::HostUnreachable, [3, 1, 0, 0, 0, 0]),
        ] {
            let message = answer_ipv4(answer, &packet).unwrap();
            assert_eq!([message[0], message[1], message[4], message[5], message[6], message[7]], head);
            assert_eq!(message[8..], packet);
            assert_eq!(Sum::ZERO.add_bytes(&message).checksum(), 0);
            let (parsed, quote) = etherparse::Icmpv4Slice::from_slice(&message)
                .map(|slice| (slice.header(), slice.payload()))
                .unwrap();
            assert_eq!(parsed.icmp_type.calc_checksum(quote), parsed.checksum);
        }
        assert!(answer_ipv4(Answer::ParameterProblem { pointer: 42 }, &packet).is_none());
    }

    #[test]
    fn each_answer_has_its_type_and_code_and_a_right_checksum_in_ipv6() {
        let packet = six(|_| (), &[7; 101]);
        for (answer, head) in [
            (Answer::TimeExceeded, [3, 0, 0, 0, 0, 0]),
            (Answer::TooBig { mtu: 1480 }, [2, 0, 0, 0, 0x05, 0xc8]),
            (Answer::Prohibited, [1, 1, 0, 0, 0, 0]),
            (Answer::HostUnreachable, [1, 3, 0, 0, 0, 0]),
            (Answer::ParameterProblem { pointer: 0x102 }, [4, 0, 0, 0, 1, 2]),
        ] {
            let message = answer_ipv6(answer, &packet, ENDS).unwrap();
            assert_eq!([message[0], message[1], message[4], message[5], message[6], message[7]], head);
            assert_eq!(message[8..], packet);
            let slice = etherparse::Icmpv6Slice::from_slice(&message).unwrap();
            assert!(slice.is_checksum_valid(ENDS.0.octets(), ENDS.1.octets()));
        }
        assert!(answer_ipv6(Answer::SourceRouteFailed, &packet, ENDS).is_none());
    }

    #[test]
    fn answers_quote_as_much_as_their_packets_may_hold() {
        let message = answer_ipv4(Answer::TimeExceeded, &four(|_| (), &[7; 1400])).unwrap();
        assert_eq!(ipv4::LENGTH + message.len(), 576);
        let message = answer_ipv6(Answer::TimeExceeded, &six(|_| (), &[7; 1400]), ENDS).unwrap();
        assert_eq!(ipv6::LENGTH + message.len(), 1280);
    }

    #[test]
    fn ipv4_errors_go_to_single_hosts_only_and_about_what_went_to_one() {
        assert!(may_answer_ipv4(&four(|_| (), &[0; 8])));
        for (address, single) in [
            ([0, 0, 0, 0], false),
            ([0, 1, 2, 3], false),
            ([127, 0, 0, 1], false),
            ([224, 0, 0, 1], false),
            ([239, 255, 255, 255], false),
            ([240, 0, 0, 1], false),
            ([255, 255, 255, 255], false),
            ([1, 0, 0, 0], true),
            ([126, 0, 0, 1], true),
            ([128, 0, 0, 1], true),
            ([223, 255, 255, 254], true),
        ] {
            let address = Ipv4Addr::from(address);
            let from = four(|fields| fields.source = address, &[0; 8]);
            let to = four(|fields| fields.destination = address, &[0; 8]);
            assert_eq!((may_answer_ipv4(&from), may_answer_ipv4(&to)), (single, single), "{address}");
        }
    }

    #[test]
    fn ipv4_errors_are_about_first_fragments_only() {
        let fragment = |offset| {
            let place = |fields: &mut ipv4::Fields| {
                (fields.more_fragments, fields.fragment_offset) = (true, offset);
            };
            may_answer_ipv4(&four(place, &[0; 8]))
        };
        assert!(fragment(0) && !fragment(1) && !fragment(0x1fff));
    }

    #[test]
    fn no_icmpv4_error_is_about_what_could_be_one() {
        let icmp = |behind: &[u8]| may_answer_ipv4(&four(|fields| fields.protocol = protocol::ICMP, behind));
        for kind in 0..=255 {
            let query = matches!(kind, 0 | 8..=10 | 13..=18 | 42 | 43);
            assert_eq!(icmp(&[kind, 0, 0, 0, 0, 0, 0, 0]), query, "{kind}");
        }
        assert!(!icmp(&[]), "the type is not there");
        // Behind options, where the type is not at octet 20.
        let mut error = four(|fields| fields.protocol = protocol::ICMP, &[8, 8, 8, 8, 3, 1]);
        error[0] = 0x46;
        assert!(!may_answer_ipv4(&error));
        error[24] = 8;
        assert!(may_answer_ipv4(&error));
        assert!(!may_answer_ipv4(&error[..19]));
    }

    #[test]
    fn ipv6_errors_go_to_single_nodes_only_and_about_what_went_to_one() {
        assert!(may_answer_ipv6(&six(|_| (), &[0; 8])));
        for (address, as_source, as_destination) in [
            (Ipv6Addr::UNSPECIFIED, false, true),
            (Ipv6Addr::LOCALHOST, false, true),
            (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), false, false),
            (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), true, true),
        ] {
            let from = six(|fields| fields.source = address, &[0; 8]);
            assert_eq!(may_answer_ipv6(&from), as_source, "{address}");
            let to = six(|fields| fields.destination = address, &[0; 8]);
            assert_eq!(may_answer_ipv6(&to), as_destination, "{address}");
        }
    }

    #[test]
    fn no_icmpv6_error_is_about_what_could_be_one_behind_any_extension_headers() {
        let chained = |next: u8, chain: &[u8], behind: &[u8]| {
            may_answer_ipv6(&six(|fields| fields.next_header = next, &[chain, behind].concat()))
        };
        let options = [protocol::ICMPV6, 0, 1, 4, 0, 0, 0, 0];
        let route = [protocol::ICMPV6, 0, 4, 1, 0, 0, 0, 0];
        let first = [protocol::ICMPV6, 0, 0, 1, 0, 0, 0, 9];
        let later = [protocol::UDP, 0, 0, 9, 0, 0, 0, 9];
        for kind in 0..=255 {
            let answered = kind >= 128 && kind != 137;
            assert_eq!(chained(protocol::ICMPV6, &[], &[kind]), answered, "{kind}");
            assert_eq!(chained(protocol::DESTINATION_OPTIONS, &options, &[kind]), answered, "{kind}");
            // The very packets that are answered because of their routing header.
            assert_eq!(chained(protocol::ROUTING, &route, &[kind]), answered, "{kind}");
            assert_eq!(chained(protocol::FRAGMENT, &first, &[kind]), answered, "{kind}");
            assert!(!chained(protocol::FRAGMENT, &later, &[kind]));
        }
        assert!(!chained(protocol::ICMPV6, &[], &[]), "the type is not there");
        assert!(!chained(protocol::DESTINATION_OPTIONS, &options[..7], &[]), "nor the headers before it");
        assert!(!may_answer_ipv6(&[0x60; 39]));
    }
}
