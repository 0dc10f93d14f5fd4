//! ICMP messages that are no errors, and those that never cross (RFC 7915, 4.2 and 5.2).

use super::{Row, down, down_refused, up, up_refused};
use crate::build::*;

pub(super) fn rows() -> Vec<Row> {
    [echo(), others()].concat()
}

fn echo() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, four, six) in [("echo request", 8, 128), ("echo reply", 0, 129)] {
        for (length, code) in [(0, 0), (1, 0), (56, 0), (57, 0), (1400, 0), (8, 3)] {
            let message = |kind| icmp(kind, code, 0x0077_0003, &data(length));
            let (v4, v6) = (v4(1, message(four)).sealed(2), v6(58, message(six)).sealed(2));
            let row = up(format!("4.2 {name}, {length} bytes, code {code}"), &v4, &v6);
            rows.push(row);
            let dont_fragment = if 20 + 8 + length > 1260 { DONT_FRAGMENT } else { 0 };
            let (mut v4, v6) = (v4.back().sealed(2), v6.back().sealed(2));
            v4.flags = dont_fragment;
            rows.push(down(format!("5.2 {name}, {length} bytes, code {code}"), &v6, &v4));
        }
    }
    rows
}

fn others() -> Vec<Row> {
    let mut rows = Vec::new();
    // A body that would do as a quote, so that the type alone is what is refused.
    let quote = super::errors::quoted_by_alice().0.bytes();
    for kind in (0..=255u8).filter(|kind| ![0, 3, 8, 11, 12].contains(kind)) {
        let name = match kind {
            4 => "source quench",
            5 => "redirect",
            6 => "alternative host address",
            9 => "router advertisement",
            10 => "router solicitation",
            13 => "timestamp",
            14 => "timestamp reply",
            15 => "information request",
            16 => "information reply",
            17 => "address mask request",
            18 => "address mask reply",
            _ => "unknown",
        };
        let packet = v4(1, icmp(kind, 0, 0, &quote)).sealed(2);
        rows.push(up_refused(
            format!("4.2 type {kind} ({name}) is dropped"),
            &packet,
            "icmp_untranslatable",
            None,
        ));
    }
    let quote = super::errors::quoted_to_alice().0.bytes();
    for kind in (0..=255u8).filter(|kind| !(1..=4).contains(kind) && ![128, 129].contains(kind)) {
        let name = match kind {
            130 => "multicast listener query",
            131 => "multicast listener report",
            132 => "multicast listener done",
            133..=137 => "neighbour discovery",
            _ => "unknown",
        };
        let packet = v6(58, icmp(kind, 0, 0, &quote)).back().sealed(2);
        rows.push(down_refused(
            format!("5.2 type {kind} ({name}) is dropped"),
            &packet,
            "icmp_untranslatable",
            None,
        ));
    }
    for length in 0..8 {
        let name = format!("ICMPv4 of {length} bytes is refused");
        rows.push(up_refused(name, &v4(1, data(length)), "transport_malformed", None));
        let name = format!("ICMPv6 of {length} bytes is refused");
        rows.push(down_refused(name, &v6(58, data(length)).back(), "transport_malformed", None));
    }
    rows
}
