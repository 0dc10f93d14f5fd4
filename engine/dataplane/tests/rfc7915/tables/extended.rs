//! ICMP extensions (RFC 4884; RFC 7915, 4.2 and 5.2): the length attribute counts 32-bit words in ICMPv4 and 64-bit
//! words in ICMPv6, and a quoted packet in front of an extension has at least 128 bytes.

use super::errors::*;
use super::quotes::{by_alice, to_alice};
use super::{Row, down, down_refused, up, up_refused};
use crate::build::*;

/// An MPLS label stack (RFC 4950) of one entry, with its header; the translator knows nothing of that.
const EXTENSION: [u8; 12] = [0x20, 0, 0xbe, 0xef, 0, 8, 1, 1, 0x12, 0x34, 0x51, 0xff];

/// The quote, padded to `length`, with the extension behind it.
fn extended(quote: &[u8], length: usize, extension: &[u8]) -> Vec<u8> {
    let mut body = quote.to_vec();
    assert!(body.len() <= length, "{} in {length}", body.len());
    body.resize(length, 0);
    body.extend(extension);
    body
}

/// A UDP packet with so many bytes behind its network header, both ways.
fn up_quote(length: usize) -> (Vec<u8>, Vec<u8>) {
    let (from, to) = by_alice(17, udp(&data(length - 8)));
    (from.sealed(6).bytes(), to.sealed(6).bytes())
}

fn down_quote(length: usize) -> (Vec<u8>, Vec<u8>) {
    let (from, to) = to_alice(17, udp(&data(length - 8)));
    (from.sealed(6).bytes(), to.sealed(6).bytes())
}

pub(super) fn rows() -> Vec<Row> {
    [up_rows(), down_rows(), without(), refusals(), too_long()].concat()
}

fn up_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    // Bytes behind the quoted header; the attribute in words of four; in words of eight.
    let lengths = [
        // Padded to 128 both ways.
        (40, 32, 16),
        (88, 32, 16),
        // 108 and 20, one byte more, and so on up to the next unit.
        (89, 32, 17),
        (96, 32, 17),
        (97, 32, 18),
        (108, 32, 19),
        (109, 33, 19),
        (112, 33, 19),
        (113, 34, 20),
        (116, 34, 20),
        (117, 35, 20),
        (500, 130, 68),
    ];
    for (kind, code) in [(3, 0), (3, 1), (3, 3), (3, 13), (11, 0), (11, 1)] {
        for (length, words, units) in lengths {
            let (from, to) = up_quote(length);
            let from = extended(&from, words * 4, &EXTENSION);
            let to = extended(&to, units * 8, &EXTENSION);
            let becomes = match (kind, code) {
                (3, 3) => (1, 4),
                (3, 13) => (1, 1),
                (3, _) => (1, 0),
                _ => (3, code),
            };
            let from = up_error((kind, code, (words as u32) << 16), &from);
            let to = up_error_becomes((becomes.0, becomes.1, (units as u32) << 24), &to);
            let name = format!("RFC 4884 type {kind}, code {code}, {words} words of ICMPv4, {length} bytes");
            rows.push(up(name, &from, &to));
        }
    }
    // A quoted packet that is cut off at the length attribute.
    let (from, to) = up_quote(300);
    let from = up_error((11, 0, 40 << 16), &extended(&from[..160], 160, &EXTENSION));
    let to = up_error_becomes((3, 0, 23 << 24), &extended(&to[..180], 184, &EXTENSION));
    rows.push(up("RFC 4884 quoted packet cut off at 40 words", &from, &to));
    rows
}

fn down_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let lengths = [
        // Bytes behind the quoted header; the attribute in words of eight; in words of four.
        (40, 16, 32),
        (88, 16, 32),
        (89, 17, 32),
        (108, 19, 32),
        (109, 19, 33),
        (112, 19, 33),
        (113, 20, 34),
        (300, 43, 80),
    ];
    for (kind, code) in [(1, 0), (1, 1), (1, 4), (3, 0), (3, 1)] {
        for (length, units, words) in lengths {
            let (from, to) = down_quote(length);
            let from = extended(&from, units * 8, &EXTENSION);
            let to = extended(&to, words * 4, &EXTENSION);
            let becomes = match (kind, code) {
                (1, 0) => (3, 1),
                (1, 1) => (3, 10),
                (1, _) => (3, 3),
                _ => (11, code),
            };
            let from = down_error((kind, code, (units as u32) << 24), &from);
            let to = down_error_becomes((becomes.0, becomes.1, (words as u32) << 16), &to);
            let name = format!("RFC 4884 type {kind}, code {code}, {units} words of ICMPv6, {length} bytes");
            rows.push(down(name, &from, &to));
        }
    }
    rows
}

/// ICMPv6 has no length attribute in Packet Too Big and Parameter Problem: no extension can follow there, and what is
/// quoted needs no padding.
fn without() -> Vec<Row> {
    let mut rows = Vec::new();
    let (from, to) = up_quote(40);
    for (name, header, becomes) in [
        ("protocol unreachable", (3, 2, 32 << 16), (4, 1, 6)),
        ("fragmentation needed", (3, 4, 32 << 16 | 1400), (2, 0, 1420)),
        ("parameter problem", (12, 0, 8 << 24 | 32 << 16), (4, 0, 7)),
    ] {
        let from = up_error(header, &extended(&from, 128, &EXTENSION));
        let name = format!("RFC 4884 extension of {name} is left behind");
        rows.push(up(name, &from, &up_error_becomes(becomes, &to)));
    }
    // Their ICMPv6 forms have other things where the attribute would be.
    let (from, to) = down_quote(40);
    for (name, header, becomes) in [
        ("packet too big", (2, 0, 0x1000_0000 | 1400), (3, 4, 1480)),
        ("unrecognised next header", (4, 1, 0x1000_0006), (3, 2, 0)),
    ] {
        let from = down_error(header, &from);
        let name = format!("RFC 4884 no length attribute in {name}");
        rows.push(down(name, &from, &down_error_becomes(becomes, &to)));
    }
    // Unused bytes of ICMPv4 around the attribute say nothing.
    let (from, to) = up_quote(40);
    let from = up_error((11, 0, 0xff00_ffff), &from);
    rows.push(up("4.2 unused bytes of the header are zeroed", &from, &up_error_becomes((3, 0, 0), &to)));
    let (from, to) = down_quote(40);
    let from = down_error((3, 0, 0x00ff_ffff), &from);
    rows.push(down("5.2 unused bytes of the header are zeroed", &from, &down_error_becomes((11, 0, 0), &to)));
    rows
}

fn refusals() -> Vec<Row> {
    let (from, _) = up_quote(40);
    let from = up_error((11, 0, 64 << 16), &extended(&from, 128, &EXTENSION));
    let (below, _) = down_quote(40);
    let below = down_error((3, 0, 64 << 24), &extended(&below, 128, &EXTENSION));
    vec![
        up_refused("RFC 4884 ICMPv4 length attribute beyond the message", &from, "icmp_quote_invalid", None),
        down_refused(
            "RFC 4884 ICMPv6 length attribute beyond the message",
            &below,
            "icmp_quote_invalid",
            None,
        ),
    ]
}

/// The quoted packet gives way to the extension down to 128 bytes, then the extension is truncated (RFC 7915, 4.2).
fn too_long() -> Vec<Row> {
    let mut rows = Vec::new();
    // 1,232 bytes behind the header; less 12: 1,220, or 152 words of eight.
    let (from, to) = up_quote(980);
    let from = up_error((11, 0, 250 << 16), &extended(&from, 1000, &data(500)));
    // 1,232 less 500 are 732: 91 words of eight, 728 bytes.
    let to = up_error_becomes((3, 0, 91 << 24), &extended(&to[..728], 728, &data(500)));
    rows.push(up("RFC 4884 quoted packet gives way to the extension", &from, &to));
    let (from, to) = up_quote(108);
    let from = up_error((11, 0, 32 << 16), &extended(&from, 128, &data(1200)));
    let to = up_error_becomes((3, 0, 16 << 24), &extended(&to[..128], 128, &data(1232 - 128)));
    rows.push(up("4.2 extension is truncated", &from, &to));
    let (from, to) = down_quote(800);
    let from = down_error((3, 0, 105 << 24), &extended(&from, 840, &EXTENSION));
    // 548 less 12 are 536: 134 words of four.
    let to = down_error_becomes((11, 0, 134 << 16), &extended(&to[..536], 536, &EXTENSION));
    rows.push(down("RFC 4884 quoted packet gives way to the extension, down", &from, &to));
    let (from, to) = down_quote(200);
    let from = down_error((3, 0, 30 << 24), &extended(&from, 240, &data(600)));
    let to = down_error_becomes((11, 0, 32 << 16), &extended(&to[..128], 128, &data(548 - 128)));
    rows.push(down("5.2 extension is truncated", &from, &to));
    rows
}
