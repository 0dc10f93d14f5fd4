//! ICMP errors, type by type and code by code (RFC 7915, 4.2 and 5.2).

use super::{Row, down, down_refused, up, up_refused};
use crate::build::*;

/// A packet that Bob sent to Alice, as her node quotes it, and as his has to see it.
pub(super) fn quoted_by_alice() -> (V4, V6) {
    let v4 = V4 {
        source: BOB,
        destination: ALICE,
        tos: 0x12,
        identification: 0x7777,
        flags: 0,
        ttl: 1,
        ..v4(17, udp(&data(31)))
    };
    let v6 = V6 {
        source: BOB_V6,
        destination: ALICE_V6,
        traffic_class: 0x12,
        hop_limit: 1,
        ..v6(17, udp(&data(31)))
    };
    (v4.sealed(6), v6.sealed(6))
}

/// A packet that Alice sent to Bob, as the IPv6 network quotes it, and as her node has to see it.
pub(super) fn quoted_to_alice() -> (V6, V4) {
    let v6 = V6 { traffic_class: 0x12, hop_limit: 1, ..v6(17, udp(&data(31))) };
    let v4 =
        V4 { tos: 0x12, identification: QUOTED_IDENTIFICATION, flags: 0, ttl: 1, ..v4(17, udp(&data(31))) };
    (v6.sealed(6), v4.sealed(6))
}

/// An error of Alice's node with this header and quote.
pub(super) fn up_error(header: (u8, u8, u32), quote: &[u8]) -> V4 {
    v4(1, icmp(header.0, header.1, header.2, quote)).sealed(2)
}

pub(super) fn up_error_becomes(header: (u8, u8, u32), quote: &[u8]) -> V6 {
    v6(58, icmp(header.0, header.1, header.2, quote)).sealed(2)
}

/// An error from Bob's side.
pub(super) fn down_error(header: (u8, u8, u32), quote: &[u8]) -> V6 {
    v6(58, icmp(header.0, header.1, header.2, quote)).back().sealed(2)
}

pub(super) fn down_error_becomes(header: (u8, u8, u32), quote: &[u8]) -> V4 {
    v4(1, icmp(header.0, header.1, header.2, quote)).back().sealed(2)
}

/// A code, its name, and type and code of what it becomes.
type Code = (u8, &'static str, Option<(u8, u8)>);

/// ICMPv4 destination unreachable by code.
const UNREACHABLE_V4: [Code; 16] = [
    (0, "net unreachable", Some((1, 0))),
    (1, "host unreachable", Some((1, 0))),
    (2, "protocol unreachable", Some((4, 1))),
    (3, "port unreachable", Some((1, 4))),
    (4, "fragmentation needed", Some((2, 0))),
    (5, "source route failed", Some((1, 0))),
    (6, "destination network unknown", Some((1, 0))),
    (7, "destination host unknown", Some((1, 0))),
    (8, "source host isolated", Some((1, 0))),
    (9, "network prohibited", Some((1, 1))),
    (10, "host prohibited", Some((1, 1))),
    (11, "network unreachable for type of service", Some((1, 0))),
    (12, "host unreachable for type of service", Some((1, 0))),
    (13, "administratively prohibited", Some((1, 1))),
    (14, "host precedence violation", None),
    (15, "precedence cut-off in effect", Some((1, 1))),
];

/// The same for ICMPv6.
const UNREACHABLE_V6: [Code; 7] = [
    (0, "no route to destination", Some((3, 1))),
    (1, "administratively prohibited", Some((3, 10))),
    (2, "beyond scope of source address", Some((3, 1))),
    (3, "address unreachable", Some((3, 1))),
    (4, "port unreachable", Some((3, 3))),
    (5, "source address failed policy", None),
    (6, "reject route to destination", None),
];

pub(super) fn rows() -> Vec<Row> {
    [up_rows(), down_rows()].concat()
}

fn up_rows() -> Vec<Row> {
    let (from, to) = quoted_by_alice();
    let (from, to) = (from.bytes(), to.bytes());
    let mut rows = Vec::new();
    let mut row = |name: String, (kind, code, word): (u8, u8, u32), becomes: Option<(u8, u8, u32)>| {
        let packet = up_error((kind, code, word), &from);
        rows.push(match becomes {
            Some(header) => up(name, &packet, &up_error_becomes(header, &to)),
            None => up_refused(name, &packet, "icmp_untranslatable", None),
        });
    };
    for (code, name, becomes) in UNREACHABLE_V4 {
        // Fragmentation needed has an MTU: 1400 here, so 1420 there. Protocol unreachable points at next header.
        let word = if code == 4 { 1400 } else { 0 };
        let becomes = becomes.map(|(kind, code)| match kind {
            2 => (kind, code, 1420),
            4 => (kind, code, 6),
            _ => (kind, code, 0),
        });
        row(format!("4.2 destination unreachable, code {code} ({name})"), (3, code, word), becomes);
    }
    for code in 16..=255 {
        row(format!("4.2 destination unreachable, code {code} (unknown)"), (3, code, 0), None);
    }
    for code in 0..=255 {
        let name = ["TTL exceeded", "reassembly time exceeded"].get(usize::from(code)).unwrap_or(&"unknown");
        row(format!("4.2 time exceeded, code {code} ({name})"), (11, code, 0), Some((3, code, 0)));
    }
    // The pointer is to the TTL, so to the hop limit; what other pointers become is in another table.
    row("4.2 parameter problem, code 0 (pointer)".into(), (12, 0, 8 << 24), Some((4, 0, 7)));
    row("4.2 parameter problem, code 1 (missing option)".into(), (12, 1, 8 << 24), None);
    row("4.2 parameter problem, code 2 (bad length)".into(), (12, 2, 8 << 24), Some((4, 0, 7)));
    for code in 3..=255 {
        row(format!("4.2 parameter problem, code {code} (unknown)"), (12, code, 8 << 24), None);
    }
    rows
}

fn down_rows() -> Vec<Row> {
    let (from, to) = quoted_to_alice();
    let (from, to) = (from.bytes(), to.bytes());
    let mut rows = Vec::new();
    let mut row = |name: String, (kind, code, word): (u8, u8, u32), becomes: Option<(u8, u8, u32)>| {
        let packet = down_error((kind, code, word), &from);
        rows.push(match becomes {
            Some(header) => down(name, &packet, &down_error_becomes(header, &to)),
            None => down_refused(name, &packet, "icmp_untranslatable", None),
        });
    };
    for (code, name, becomes) in UNREACHABLE_V6 {
        let becomes = becomes.map(|(kind, code)| (kind, code, 0));
        row(format!("5.2 destination unreachable, code {code} ({name})"), (1, code, 0), becomes);
    }
    for code in 7..=255 {
        row(format!("5.2 destination unreachable, code {code} (unknown)"), (1, code, 0), None);
    }
    // The code of a Packet Too Big is ignored by receivers.
    for code in [0, 1, 255] {
        row(format!("5.2 packet too big, code {code}"), (2, code, 1400), Some((3, 4, 1380)));
    }
    for code in 0..=255 {
        let name =
            ["hop limit exceeded", "reassembly time exceeded"].get(usize::from(code)).unwrap_or(&"unknown");
        row(format!("5.2 time exceeded, code {code} ({name})"), (3, code, 0), Some((11, code, 0)));
    }
    row("5.2 parameter problem, code 0 (erroneous field)".into(), (4, 0, 7), Some((12, 0, 8 << 24)));
    row("5.2 parameter problem, code 1 (unrecognised next header)".into(), (4, 1, 6), Some((3, 2, 0)));
    row("5.2 parameter problem, code 2 (unrecognised option)".into(), (4, 2, 7), None);
    for code in 3..=255 {
        row(format!("5.2 parameter problem, code {code} (unknown)"), (4, code, 7), None);
    }
    rows
}
