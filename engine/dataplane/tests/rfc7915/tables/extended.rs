//! ICMP extensions (RFC 4884; RFC 7915, 4.2 and 5.2): the length attribute counts 32-bit words in ICMPv4 and 64-bit
//! words in ICMPv6, and a quoted packet in front of an extension has at least 128 bytes.

use super::errors::*;
use super::quotes::{by_alice, to_alice};
use super::{Row, down, up};
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
    [up_rows(), down_rows(), without(), beyond(), too_long()].concat()
}

fn up_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    // Bytes behind the quoted header; the attribute in words of four; in words of eight.
    let lengths = [
        // Padded to 128 both ways.
        (40, 32, 16),
        (88, 32, 16),
        // 109 and 20 are 129, of which 128 are a whole number of words of eight, and so on.
        (89, 32, 16),
        (95, 32, 16),
        (96, 32, 17),
        (103, 32, 17),
        (104, 32, 18),
        (108, 32, 18),
        (109, 33, 18),
        (112, 33, 19),
        (113, 34, 19),
        (500, 130, 67),
    ];
    for (kind, code) in [(3, 0), (3, 1), (3, 3), (3, 13), (11, 0), (11, 1)] {
        for (length, words, units) in lengths {
            let (from, to) = up_quote(length);
            let from = extended(&from, words * 4, &EXTENSION);
            let to = extended(&to[..to.len().min(units * 8)], units * 8, &EXTENSION);
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
    let to = up_error_becomes((3, 0, 22 << 24), &extended(&to[..176], 176, &EXTENSION));
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
        (111, 19, 32),
        (112, 19, 33),
        (113, 20, 33),
        (300, 43, 80),
    ];
    for (kind, code) in [(1, 0), (1, 1), (1, 4), (3, 0), (3, 1)] {
        for (length, units, words) in lengths {
            let (from, to) = down_quote(length);
            let from = extended(&from, units * 8, &EXTENSION);
            let to = extended(&to[..to.len().min(words * 4)], words * 4, &EXTENSION);
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

/// A length attribute that leaves nothing for an extension says nothing: all is quoted packet, with what follows it.
fn beyond() -> Vec<Row> {
    let mut rows = Vec::new();
    for more in [0, 1, 30] {
        let (from, to) = up_quote(40);
        let (from, to) = (extended(&from, 128, &EXTENSION), extended(&to, 148, &EXTENSION));
        let from = up_error((11, 0, (35 + more) << 16), &from);
        let name = format!("RFC 4884 ICMPv4 length attribute {more} words beyond the message");
        rows.push(up(name, &from, &up_error_becomes((3, 0, 0), &to)));
        let (from, to) = down_quote(40);
        let (from, to) = (extended(&from, 132, &EXTENSION), extended(&to, 112, &EXTENSION));
        let from = down_error((3, 0, (18 + more) << 24), &from);
        let name = format!("RFC 4884 ICMPv6 length attribute {more} words beyond the message");
        rows.push(down(name, &from, &down_error_becomes((11, 0, 0), &to)));
    }
    rows
}

/// The quoted packet gives way to the extension down to 128 bytes. Beyond that the extension is left out.
fn too_long() -> Vec<Row> {
    let mut rows = Vec::new();
    // 1,232 bytes behind the header, less 500, are 732: 91 words of eight, 728 bytes.
    let (from, to) = up_quote(980);
    let from = up_error((11, 0, 250 << 16), &extended(&from, 1000, &data(500)));
    let to = up_error_becomes((3, 0, 91 << 24), &extended(&to[..728], 728, &data(500)));
    rows.push(up("RFC 4884 quoted packet gives way to the extension", &from, &to));
    for (length, fits) in [(1104, true), (1105, false), (1200, false)] {
        let (from, to) = up_quote(108);
        let from = up_error((11, 0, 32 << 16), &extended(&from, 128, &data(length)));
        let to = if fits {
            up_error_becomes((3, 0, 16 << 24), &extended(&to[..128], 128, &data(length)))
        } else {
            up_error_becomes((3, 0, 0), &to)
        };
        rows.push(up(format!("4.2 extension of {length} bytes"), &from, &to));
    }
    // 548 bytes behind the header, less 12, are 536: 134 words of four.
    let (from, to) = down_quote(800);
    let from = down_error((3, 0, 105 << 24), &extended(&from, 840, &EXTENSION));
    let to = down_error_becomes((11, 0, 134 << 16), &extended(&to[..536], 536, &EXTENSION));
    rows.push(down("RFC 4884 quoted packet gives way to the extension, down", &from, &to));
    for (length, fits) in [(420, true), (421, false), (600, false)] {
        let (from, to) = down_quote(200);
        let from = down_error((3, 0, 30 << 24), &extended(&from, 240, &data(length)));
        let to = if fits {
            down_error_becomes((11, 0, 32 << 16), &extended(&to[..128], 128, &data(length)))
        } else {
            down_error_becomes((11, 0, 0), &to)
        };
        rows.push(down(format!("5.2 extension of {length} bytes"), &from, &to));
    }
    rows
}
