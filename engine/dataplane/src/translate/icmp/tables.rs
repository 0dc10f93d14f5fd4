//! The tables of RFC 7915: which error an error becomes, where a pointer points then, and what an MTU is on the other side.

use crate::wire::icmp::{v4, v6};
use crate::wire::{fragment, ipv4, ipv6};

/// The next hops' MTUs in bytes, of either IP version; `u16::MAX` where one is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mtus {
    /// Where the IPv4 packets go.
    pub(crate) four: u16,
    /// Where the IPv6 packets go.
    pub(crate) six: u16,
}

/// The first octets of an error on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) kind: u8,
    pub(super) code: u8,
    pub(super) rest: Rest,
}

/// What the second word of an error holds, besides the length attribute of RFC 4884.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    Unused,
    /// A place in the quoted packet's header.
    Pointer(u8),
    /// The next hop's MTU, which depends on the quoted packet.
    Mtu,
}

const fn error(kind: u8, code: u8, rest: Rest) -> Option<Error> {
    Some(Error { kind, code, rest })
}

/// Where IPv6 has its next header field (RFC 8200, 3).
const NEXT_HEADER: u8 = 6;

/// The ICMPv6 error that an ICMPv4 error becomes (RFC 7915, 4.2); `None` if there is none. `pointer` is octet 4.
pub(super) fn to_six(kind: u8, code: u8, pointer: u8) -> Option<Error> {
    use v4::{parameter_problem as problem, unreachable};
    let unreachable = |code| error(v6::DESTINATION_UNREACHABLE, code, Rest::Unused);
    match (kind, code) {
        (v4::DESTINATION_UNREACHABLE, code) => match code {
            unreachable::NET
            | unreachable::HOST
            | unreachable::SOURCE_ROUTE_FAILED
            | unreachable::NET_UNKNOWN
            | unreachable::HOST_UNKNOWN
            | unreachable::SOURCE_ISOLATED
            | unreachable::NET_TOS
            | unreachable::HOST_TOS => unreachable(v6::unreachable::NO_ROUTE),
            unreachable::NET_PROHIBITED
            | unreachable::HOST_PROHIBITED
            | unreachable::PROHIBITED
            | unreachable::PRECEDENCE_CUTOFF => unreachable(v6::unreachable::PROHIBITED),
            unreachable::PORT => unreachable(v6::unreachable::PORT),
            unreachable::PROTOCOL => {
                let code = v6::parameter_problem::NEXT_HEADER;
                error(v6::PARAMETER_PROBLEM, code, Rest::Pointer(NEXT_HEADER))
            }
            unreachable::FRAGMENTATION_NEEDED => error(v6::PACKET_TOO_BIG, 0, Rest::Mtu),
            _ => None,
        },
        (v4::TIME_EXCEEDED, code) => error(v6::TIME_EXCEEDED, code, Rest::Unused),
        (v4::PARAMETER_PROBLEM, problem::POINTER | problem::BAD_LENGTH) => {
            let pointer = Rest::Pointer(pointer_to_six(pointer)?);
            error(v6::PARAMETER_PROBLEM, v6::parameter_problem::HEADER_FIELD, pointer)
        }
        _ => None,
    }
}

/// The ICMPv4 error that an ICMPv6 error becomes (RFC 7915, 5.2); `None` if there is none. `pointer` is the second
/// word.
pub(super) fn to_four(kind: u8, code: u8, pointer: u32) -> Option<Error> {
    use v4::unreachable as four;
    use v6::{parameter_problem as problem, unreachable};
    let unreachable = |code| error(v4::DESTINATION_UNREACHABLE, code, Rest::Unused);
    match (kind, code) {
        (v6::DESTINATION_UNREACHABLE, code) => match code {
            unreachable::NO_ROUTE | unreachable::BEYOND_SCOPE | unreachable::ADDRESS => {
                unreachable(four::HOST)
            }
            unreachable::PROHIBITED => unreachable(four::HOST_PROHIBITED),
            unreachable::PORT => unreachable(four::PORT),
            _ => None,
        },
        // The code means nothing to a receiver (RFC 4443, 3.2).
        (v6::PACKET_TOO_BIG, _) => error(v4::DESTINATION_UNREACHABLE, four::FRAGMENTATION_NEEDED, Rest::Mtu),
        (v6::TIME_EXCEEDED, code) => error(v4::TIME_EXCEEDED, code, Rest::Unused),
        (v6::PARAMETER_PROBLEM, problem::HEADER_FIELD) => {
            let pointer = Rest::Pointer(pointer_to_four(pointer)?);
            error(v4::PARAMETER_PROBLEM, v4::parameter_problem::POINTER, pointer)
        }
        (v6::PARAMETER_PROBLEM, problem::NEXT_HEADER) => unreachable(four::PROTOCOL),
        _ => None,
    }
}

/// The type and code in IPv4 of an ICMPv6 message (RFC 7915, 5.2). What has no counterpart keeps its number, which no
/// message of IPv4 has.
pub(crate) fn ipv4_type(kind: u8, code: u8) -> (u8, u8) {
    match kind {
        v6::ECHO_REQUEST => (v4::ECHO_REQUEST, code),
        v6::ECHO_REPLY => (v4::ECHO_REPLY, code),
        _ => to_four(kind, code, 0).map_or((kind, code), |error| (error.kind, error.code)),
    }
}

/// RFC 7915, figure 3.
const fn pointer_to_six(pointer: u8) -> Option<u8> {
    Some(match pointer {
        0 => 0,        // version and header length: version and traffic class
        1 => 1,        // type of service: traffic class and flow label
        2 | 3 => 4,    // total length: payload length
        8 => 7,        // time to live: hop limit
        9 => 6,        // protocol: next header
        12..=15 => 8,  // source address
        16..=19 => 24, // destination address
        _ => return None,
    })
}

/// RFC 7915, figure 6.
const fn pointer_to_four(pointer: u32) -> Option<u8> {
    Some(match pointer {
        0 => 0,        // version and traffic class: version and header length
        1 => 1,        // traffic class and flow label: type of service
        4 | 5 => 2,    // payload length: total length
        6 => 9,        // next header: protocol
        7 => 8,        // hop limit: time to live
        8..=23 => 12,  // source address
        24..=39 => 16, // destination address
        _ => return None,
    })
}

/// The smallest MTU that IPv6 has (RFC 8200, 5).
const MIN_SIX: u16 = 1280;

/// MTUs of the links of 1990, which a path MTU most likely is when a router does not tell it (RFC 1191, 7.1).
const PLATEAUS: [u16; 11] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// How many bytes longer a packet is on the IPv6 side.
const GROWTH: u16 = (ipv6::LENGTH - ipv4::LENGTH) as u16;

/// The MTU for packet too big, of the one in fragmentation needed (RFC 7915, 4.2). `length` is the quoted packet's total
/// length. The fragment header that it may have on the IPv6 side does not count: the sender will take the MTU for
/// packets without one as well, which would be 8 bytes too long then.
pub(super) fn mtu_to_six(advertised: u16, length: u16, mtus: Mtus) -> u16 {
    let advertised = match advertised {
        0 => PLATEAUS.into_iter().find(|plateau| *plateau < length).unwrap_or(0),
        advertised => advertised,
    };
    let path = advertised.saturating_add(GROWTH);
    path.min(mtus.six).min(mtus.four.saturating_add(GROWTH)).max(MIN_SIX)
}

/// The MTU for fragmentation needed, of the one in packet too big (RFC 7915, 5.2). One under IPv6's smallest is taken for
/// that, as no IPv6 sender goes below it (RFC 8201, 4). `fragment` is whether the quoted packet has a fragment header.
pub(super) fn mtu_to_four(advertised: u32, fragment: bool, mtus: Mtus) -> u16 {
    let growth = if fragment { GROWTH + fragment::LENGTH as u16 } else { GROWTH };
    let advertised = u16::try_from(advertised).unwrap_or(u16::MAX).max(MIN_SIX);
    (advertised - growth).min(mtus.four).min(mtus.six.saturating_sub(growth))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Mtus = Mtus { four: u16::MAX, six: u16::MAX };

    /// Every code of every type; what is not listed has no counterpart.
    #[test]
    fn each_icmpv4_type_and_code_is_as_in_rfc_7915_section_4_2() {
        let unused = Rest::Unused;
        let listed = |kind: u8, code: u8| match (kind, code) {
            (3, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => error(1, 0, unused),
            (3, 2) => error(4, 1, Rest::Pointer(6)),
            (3, 3) => error(1, 4, unused),
            (3, 4) => error(2, 0, Rest::Mtu),
            (3, 9 | 10 | 13 | 15) => error(1, 1, unused),
            (11, code) => error(3, code, unused),
            (12, 0 | 2) => error(4, 0, Rest::Pointer(0)),
            _ => None,
        };
        for kind in 0..=255 {
            for code in 0..=255 {
                assert_eq!(to_six(kind, code, 0), listed(kind, code), "{kind}/{code}");
            }
        }
    }

    #[test]
    fn each_icmpv6_type_and_code_is_as_in_rfc_7915_section_5_2() {
        let unused = Rest::Unused;
        let listed = |kind: u8, code: u8| match (kind, code) {
            (1, 0 | 2 | 3) => error(3, 1, unused),
            (1, 1) => error(3, 10, unused),
            (1, 4) => error(3, 3, unused),
            (2, _) => error(3, 4, Rest::Mtu),
            (3, code) => error(11, code, unused),
            (4, 0) => error(12, 0, Rest::Pointer(0)),
            (4, 1) => error(3, 2, unused),
            _ => None,
        };
        for kind in 0..=255 {
            for code in 0..=255 {
                assert_eq!(to_four(kind, code, 0), listed(kind, code), "{kind}/{code}");
            }
        }
    }

    #[test]
    fn pointers_are_as_in_figures_3_and_6() {
        const NONE: Option<u8> = None;
        #[rustfmt::skip]
        let six = [
            Some(0), Some(1), Some(4), Some(4), NONE, NONE, NONE, NONE, Some(7), Some(6), NONE, NONE,
            Some(8), Some(8), Some(8), Some(8), Some(24), Some(24), Some(24), Some(24), NONE, NONE,
        ];
        for (pointer, expected) in (0..).zip(six) {
            assert_eq!(pointer_to_six(pointer), expected, "{pointer}");
        }
        assert!((20..=255).all(|pointer| pointer_to_six(pointer).is_none()));
        let four = [Some(0), Some(1), NONE, NONE, Some(2), Some(2), Some(9), Some(8)];
        let four = four.into_iter().chain([Some(12); 16]).chain([Some(16); 16]).chain([NONE; 8]);
        for (pointer, expected) in (0..).zip(four) {
            assert_eq!(pointer_to_four(pointer), expected, "{pointer}");
        }
        // Not the low octet of something larger.
        assert_eq!(pointer_to_four(0x100), None);
        assert_eq!(to_six(12, 0, 4), None);
        assert_eq!(to_four(4, 0, 2), None);
    }

    #[test]
    fn mtu_towards_ipv6_is_the_least_of_the_path_and_both_hops_and_never_under_1280() {
        let hops = |four, six| Mtus { four, six };
        for (advertised, mtus, expected) in [
            (1400, UNKNOWN, 1420),
            (1400, hops(1300, 1500), 1320),
            (1400, hops(1500, 1300), 1300),
            (1261, UNKNOWN, 1281),
            (1260, UNKNOWN, 1280),
            (1259, UNKNOWN, 1280),
            (68, hops(100, 1280), 1280),
            (65535, UNKNOWN, 65535),
        ] {
            assert_eq!(mtu_to_six(advertised, 1500, mtus), expected, "{advertised}");
        }
    }

    #[test]
    fn router_that_tells_no_mtu_has_the_next_plateau_below_the_packet() {
        for (length, expected) in [
            (65535, 32020),
            (32000, 17934),
            (9000, 8186),
            (8166, 4372),
            (2003, 2022),
            (1500, 1512),
            (1493, 1512),
            (1492, 1280),
            (20, 1280),
        ] {
            assert_eq!(mtu_to_six(0, length, UNKNOWN), expected, "{length}");
        }
    }

    #[test]
    fn mtu_towards_ipv4_is_the_least_of_the_path_and_both_hops() {
        let hops = |four, six| Mtus { four, six };
        for (advertised, fragment, mtus, expected) in [
            (1500, false, UNKNOWN, 1480),
            (1500, true, UNKNOWN, 1472),
            (1500, false, hops(1400, 1500), 1400),
            (1500, false, hops(1500, 1400), 1380),
            (1500, true, hops(1500, 1400), 1372),
            (1280, false, UNKNOWN, 1260),
            (1279, false, UNKNOWN, 1260),
            (0, true, UNKNOWN, 1252),
            (u32::MAX, false, UNKNOWN, 65515),
            (0x1_0000, false, hops(9000, 65535), 9000),
        ] {
            assert_eq!(mtu_to_four(advertised, fragment, mtus), expected, "{advertised} {fragment}");
        }
    }
}
