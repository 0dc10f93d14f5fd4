//! The packet quoted in an ICMP error (RFC 7915, 4.3 and 5.3), and its length (RFC 4443, 2.4; RFC 1812, 4.3.2.3).

use super::errors::*;
use super::{Row, down, down_refused, up, up_refused};
use crate::build::*;

/// Port unreachable, both ways.
const UNREACHABLE_V4: (u8, u8, u32) = (3, 3, 0);
const UNREACHABLE_V6: (u8, u8, u32) = (1, 4, 0);

pub(super) fn rows() -> Vec<Row> {
    [
        super::extended::rows(),
        transports(),
        truncated(),
        headers(),
        fragments(),
        refusals(),
        too_long(),
        routers(),
    ]
    .concat()
}

/// A row in which a quote goes up.
pub(super) fn quote_up(name: &str, from: &[u8], to: &[u8]) -> Row {
    let from = up_error(UNREACHABLE_V4, from);
    up(format!("4.3 {name}"), &from, &up_error_becomes(UNREACHABLE_V6, to))
}

/// A row in which a quote goes down.
pub(super) fn quote_down(name: &str, from: &[u8], to: &[u8]) -> Row {
    let from = down_error(UNREACHABLE_V6, from);
    down(format!("5.3 {name}"), &from, &down_error_becomes(UNREACHABLE_V4, to))
}

/// A packet from Bob to Alice that her node quotes, with this transport, and what it becomes.
pub(super) fn by_alice(protocol: u8, payload: Vec<u8>) -> (V4, V6) {
    let (v4, v6) = quoted_by_alice();
    let next_header = if protocol == 1 { 58 } else { protocol };
    (V4 { protocol, payload: payload.clone(), ..v4 }, V6 { next_header, payload, ..v6 })
}

/// A packet from Alice to Bob that the IPv6 side quotes, and what it becomes.
pub(super) fn to_alice(next_header: u8, payload: Vec<u8>) -> (V6, V4) {
    let (v6, v4) = quoted_to_alice();
    let protocol = if next_header == 58 { 1 } else { next_header };
    (V6 { next_header, payload: payload.clone(), ..v6 }, V4 { protocol, payload, ..v4 })
}

fn transports() -> Vec<Row> {
    let mut rows = Vec::new();
    let lite = {
        let mut packet = udp(&data(20));
        packet[4..6].fill(0);
        packet
    };
    let dccp = vec![0x13, 0x88, 0x13, 0x89, 4, 0, 0, 0, 0x05, 0, 1, 2, 3, 4, 5, 6];
    for (name, number, place, payload) in [
        ("TCP", 6, 16, tcp(&data(20))),
        ("UDP", 17, 6, udp(&data(20))),
        ("UDP-Lite", 136, 6, lite),
        ("DCCP", 33, 6, dccp),
    ] {
        let (from, to) = by_alice(number, payload.clone());
        let (from, to) = (from.sealed(place), to.sealed(place));
        rows.push(quote_up(&format!("quoted {name}"), &from.bytes(), &to.bytes()));
        let (from, to) = to_alice(number, payload);
        let (from, to) = (from.sealed(place), to.sealed(place));
        rows.push(quote_down(&format!("quoted {name}"), &from.bytes(), &to.bytes()));
    }
    for number in [47, 50, 132, 255] {
        let (from, to) = by_alice(number, data(40));
        rows.push(quote_up(&format!("quoted protocol {number}"), &from.bytes(), &to.bytes()));
        let (from, to) = to_alice(number, data(40));
        rows.push(quote_down(&format!("quoted protocol {number}"), &from.bytes(), &to.bytes()));
    }
    for (name, four, six) in [("request", 8, 128), ("reply", 0, 129)] {
        let message = |kind| icmp(kind, 0, 0x0077_0003, &data(21));
        let (from, _) = by_alice(1, message(four));
        let (_, to) = by_alice(1, message(six));
        let (from, to) = (from.sealed(2), to.sealed(2));
        rows.push(quote_up(&format!("quoted echo {name}"), &from.bytes(), &to.bytes()));
        let (from, _) = to_alice(58, message(six));
        let (_, to) = to_alice(58, message(four));
        let (from, to) = (from.sealed(2), to.sealed(2));
        rows.push(quote_down(&format!("quoted echo {name}"), &from.bytes(), &to.bytes()));
    }
    // There is no checksum to carry over, and too little to compute one from.
    let (from, to) = by_alice(17, udp(&data(20)));
    rows.push(quote_up("quoted UDP without checksum stays so", &from.bytes(), &to.bytes()));
    rows
}

/// The first bytes of a packet, as the first bytes of its original become: right for the whole packet, but where the
/// quote ends between the two bytes of the transport's checksum, since one byte cannot be updated without the other.
fn beginning(from: &[u8], to: &[u8], checksum: usize) -> Vec<u8> {
    let mut to = to.to_vec();
    if to.len() == checksum + 1 {
        to[checksum] = from[from.len() - 1];
    }
    to
}

/// A quote may end anywhere behind the network header.
fn truncated() -> Vec<Row> {
    let mut rows = Vec::new();
    let message = |kind| icmp(kind, 0, 0x0077_0003, &data(21));
    let tcp = |pair: (V4, V6)| (pair.0.sealed(16).bytes(), pair.1.sealed(16).bytes());
    let (from, to) = tcp(by_alice(6, super::tcp(&data(10))));
    for cut in 20..from.len() {
        let name = format!("quoted TCP cut off at {cut} bytes");
        let to = beginning(&from[..cut], &to[..cut + 20], 40 + 16);
        rows.push(quote_up(&name, &from[..cut], &to));
    }
    let (to_six, from) = (by_alice(1, message(128)).1.sealed(2), by_alice(1, message(8)).0.sealed(2));
    let (from, to) = (from.bytes(), to_six.bytes());
    for cut in 21..from.len() {
        let name = format!("quoted echo request cut off at {cut} bytes");
        let to = beginning(&from[..cut], &to[..cut + 20], 40 + 2);
        rows.push(quote_up(&name, &from[..cut], &to));
    }
    let pair = to_alice(6, super::tcp(&data(10)));
    let (from, to) = (pair.0.sealed(16).bytes(), pair.1.sealed(16).bytes());
    for cut in 40..from.len() {
        let name = format!("quoted TCP cut off at {cut} bytes");
        let to = beginning(&from[..cut], &to[..cut - 20], 20 + 16);
        rows.push(quote_down(&name, &from[..cut], &to));
    }
    let (from, to) = (to_alice(58, message(129)).0.sealed(2), to_alice(58, message(0)).1.sealed(2));
    let (from, to) = (from.bytes(), to.bytes());
    for cut in 41..from.len() {
        let name = format!("quoted echo reply cut off at {cut} bytes");
        let to = beginning(&from[..cut], &to[..cut - 20], 20 + 2);
        rows.push(quote_down(&name, &from[..cut], &to));
    }
    let (from, _) = quoted_by_alice();
    for cut in 0..20 {
        let from = up_error(UNREACHABLE_V4, &from.bytes()[..cut]);
        rows.push(up_refused(
            format!("4.3 quoted header cut off at {cut} bytes"),
            &from,
            "icmp_quote_invalid",
            None,
        ));
    }
    let (from, _) = quoted_to_alice();
    for cut in 0..40 {
        let from = down_error(UNREACHABLE_V6, &from.bytes()[..cut]);
        rows.push(down_refused(
            format!("5.3 quoted header cut off at {cut} bytes"),
            &from,
            "icmp_quote_invalid",
            None,
        ));
    }
    rows
}

fn headers() -> Vec<Row> {
    let mut rows = Vec::new();
    let (from, to) = quoted_by_alice();
    let options = V4 { options: vec![7, 7, 4, 0, 0, 0, 0, 0], ..from.clone() };
    rows.push(quote_up("options of the quoted packet are left behind", &options.bytes(), &to.bytes()));
    let mut wrong = from.bytes();
    wrong[10] ^= 0x55;
    rows.push(quote_up("header checksum of the quoted packet says nothing", &wrong, &to.bytes()));
    for ttl in [0, 1, 255] {
        let (v4, v6) = (V4 { ttl, ..from.clone() }, V6 { hop_limit: ttl, ..to.clone() });
        rows.push(quote_up(&format!("quoted TTL {ttl} is as it was"), &v4.bytes(), &v6.bytes()));
        let (v6, v4) = quoted_to_alice();
        let (v4, v6) = (V4 { ttl, ..v4 }, V6 { hop_limit: ttl, ..v6 });
        rows.push(quote_down(&format!("quoted hop limit {ttl} is as it was"), &v6.bytes(), &v4.bytes()));
    }
    // What is told of its length is of the whole packet, of which a part is there; DF goes by that.
    for (claims, flags) in [(1240, 0), (1241, DONT_FRAGMENT), (8000, DONT_FRAGMENT)] {
        let claims = Some(claims);
        let (v4, v6) = quoted_by_alice();
        let (v4, v6) = (V4 { claims, ..v4 }, V6 { claims, ..v6 });
        rows.push(quote_up(&format!("quoted packet claims {claims:?} bytes"), &v4.bytes(), &v6.bytes()));
        let (v6, v4) = quoted_to_alice();
        let (v4, v6) = (V4 { claims, flags, ..v4 }, V6 { claims, ..v6 });
        rows.push(quote_down(&format!("quoted packet claims {claims:?} bytes"), &v6.bytes(), &v4.bytes()));
    }
    // Of both headers.
    let outer = up_error(UNREACHABLE_V4, &from.bytes());
    let to = up_error_becomes(UNREACHABLE_V6, &V6 { traffic_class: 0, ..to }.bytes());
    let row = up("4.3 traffic class is 0 when so configured", &outer, &V6 { traffic_class: 0, ..to });
    rows.push(row.with(|site| site.copy_traffic_class = false));
    // A flow label in the quoted packet is left behind; an extension header is skipped.
    let (from, to) = quoted_to_alice();
    let from = V6 { flow_label: 0x54321, ..from };
    rows.push(quote_down("flow label of the quoted packet is left behind", &from.bytes(), &to.bytes()));
    let from = from.behind(60, &[0, 1, 4, 0, 0, 0, 0]);
    rows.push(quote_down("quoted options are skipped", &from.bytes(), &to.bytes()));
    rows
}

fn fragments() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, number, place, payload) in [("UDP", 17, 6, udp(&data(32))), ("TCP", 6, 16, tcp(&data(36)))] {
        let (v4, v6) = by_alice(number, payload.clone());
        let (v4, v6) = (v4.sealed(place), v6.sealed(place));
        for (part, offset, more) in [("first", 0, true), ("later", 1480, true), ("last", 1480, false)] {
            // A later fragment has no transport header, whatever its bytes look like.
            let (v4, v6) =
                if offset == 0 { (v4.clone(), v6.clone()) } else { by_alice(number, payload.clone()) };
            let from = v4.with_flags((offset / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 });
            let to = v6.fragment(offset, more, 0x7777);
            rows.push(quote_up(&format!("quoted {part} fragment of {name}"), &from.bytes(), &to.bytes()));
            let cut = format!("quoted {part} fragment of {name}, cut off");
            rows.push(quote_up(&cut, &from.bytes()[..28], &to.bytes()[..56]));
        }
        let (v6, v4) = to_alice(number, payload.clone());
        let (v6, v4) = (v6.sealed(place), v4.sealed(place));
        for (part, offset, more) in [("first", 0, true), ("later", 1480, true), ("last", 1480, false)] {
            let (v6, v4) =
                if offset == 0 { (v6.clone(), v4.clone()) } else { to_alice(number, payload.clone()) };
            let from = v6.fragment(offset, more, 0xabcd_7777);
            let to = v4.with_flags((offset / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 });
            let to = V4 { identification: 0x7777, ..to };
            rows.push(quote_down(&format!("quoted {part} fragment of {name}"), &from.bytes(), &to.bytes()));
            let cut = format!("quoted {part} fragment of {name}, cut off");
            rows.push(quote_down(&cut, &from.bytes()[..56], &to.bytes()[..28]));
        }
    }
    // One that is all of its datagram (RFC 6946): its identification is known, its length too, and it may be cut.
    let message = |kind| icmp(kind, 0, 0x0077_0003, &data(24));
    for (name, number, place, sent, told) in [
        ("UDP", 17, 6, udp(&data(32)), udp(&data(32))),
        ("TCP", 6, 16, tcp(&data(36)), tcp(&data(36))),
        ("an echo request", 58, 2, message(128), message(8)),
        ("UDP of 1,300 bytes", 17, 6, udp(&data(1292)), udp(&data(1292))),
    ] {
        let from = to_alice(number, sent).0.sealed(place).fragment(0, false, 0xabcd_7777);
        let to = V4 { identification: 0x7777, ..to_alice(number, told).1.sealed(place) };
        // An ICMPv4 error has 576 bytes at most.
        let quoted = to.bytes().len().min(576 - 28);
        let (from, to) = (&from.bytes()[..quoted + 28], &to.bytes()[..quoted]);
        rows.push(quote_down(&format!("quoted atomic fragment of {name}"), from, to));
    }
    // An echo in fragments, of which the pseudo-header knows no length.
    let from = by_alice(1, message(8)).0.sealed(2).with_flags(MORE_FRAGMENTS);
    let to = by_alice(1, message(128)).1.sealed_as(2, 0).fragment(0, true, 0x7777);
    rows.push(quote_up("quoted first fragment of an echo request", &from.bytes(), &to.bytes()));
    let from = to_alice(58, message(128)).0.sealed_as(2, 0).fragment(0, true, 0x7777);
    let to = to_alice(58, message(8)).1.sealed(2).with_flags(MORE_FRAGMENTS);
    let to = V4 { identification: 0x7777, ..to };
    rows.push(quote_down("quoted first fragment of an echo request", &from.bytes(), &to.bytes()));
    // Bytes of a later fragment that look like an error are none.
    let from = by_alice(1, message(3)).0.with_flags(4);
    let to = by_alice(1, message(3)).1.fragment(32, false, 0x7777);
    rows.push(quote_up("quoted last fragment of ICMPv4", &from.bytes(), &to.bytes()));
    rows
}

fn refusals() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut up_row = |name: &str, quote: &V4, reason: &'static str| {
        let from = up_error(UNREACHABLE_V4, &quote.bytes());
        rows.push(up_refused(format!("4.3 {name}"), &from, reason, None));
    };
    for kind in [3, 4, 5, 11, 12] {
        let (quote, _) = by_alice(1, icmp(kind, 0, 0, &data(28)));
        up_row(&format!("quoted ICMPv4 type {kind}: an error about an error"), &quote, "icmp_quote_invalid");
    }
    for kind in [9, 13, 42] {
        let (quote, _) = by_alice(1, icmp(kind, 0, 0, &data(28)));
        up_row(&format!("quoted ICMPv4 type {kind} has no counterpart"), &quote, "icmp_quote_invalid");
    }
    for protocol in [0, 43, 44, 51, 58, 60, 135, 139, 140] {
        let (quote, _) = by_alice(protocol, data(28));
        up_row(&format!("quoted protocol {protocol} has no counterpart"), &quote, "icmp_quote_invalid");
    }
    let (quote, _) = by_alice(1, Vec::new());
    up_row("quoted ICMPv4 without a type, which could be an error", &quote, "icmp_quote_invalid");
    let (quote, _) = quoted_by_alice();
    let other = V4 { source: ALICE, destination: BOB, ..quote.clone() };
    up_row("quoted packet that the receiver did not send", &other, "icmp_quote_foreign");
    let nobody = V4 { destination: [10, 0, 0, 77].into(), ..quote };
    up_row("quoted packet to an address that nobody has", &nobody, "icmp_quote_foreign");

    let mut down_row = |name: &str, quote: &V6, reason: &'static str| {
        let from = down_error(UNREACHABLE_V6, &quote.bytes());
        rows.push(down_refused(format!("5.3 {name}"), &from, reason, None));
    };
    for kind in [1, 2, 3, 4] {
        let (quote, _) = to_alice(58, icmp(kind, 0, 0, &data(28)));
        down_row(
            &format!("quoted ICMPv6 type {kind}: an error about an error"),
            &quote,
            "icmp_quote_invalid",
        );
    }
    for kind in [0, 130, 135, 200] {
        let (quote, _) = to_alice(58, icmp(kind, 0, 0, &data(28)));
        down_row(&format!("quoted ICMPv6 type {kind} has no counterpart"), &quote, "icmp_quote_invalid");
    }
    let (quote, _) = to_alice(58, Vec::new());
    down_row("quoted ICMPv6 without a type, which could be an error", &quote, "icmp_quote_invalid");
    for number in [1, 51, 135, 139, 140] {
        let (quote, _) = to_alice(number, data(28));
        down_row(&format!("quoted next header {number} has no counterpart"), &quote, "icmp_quote_invalid");
    }
    let (quote, _) = quoted_to_alice();
    let live = quote.clone().behind(43, &[0, 0, 1, 0, 0, 0, 0]);
    down_row("quoted routing header with segments left", &live, "icmp_quote_invalid");
    let cut = V6 { payload: vec![17, 4, 0, 0, 0, 0, 0, 0], next_header: 60, ..quote.clone() };
    down_row("quoted options that are cut off", &cut, "icmp_quote_invalid");
    let other = quote.clone().back();
    down_row("quoted packet that the receiver did not send", &other, "icmp_quote_foreign");
    let nobody = V6 { destination: "fd00:0:0:b:1400:7:a00:4d".parse().unwrap(), ..quote };
    down_row("quoted packet to an address that nobody has", &nobody, "icmp_quote_foreign");

    // An error whose own first fragment this is: what it quotes is not all there.
    let (quote, _) = quoted_by_alice();
    let from = up_error(UNREACHABLE_V4, &quote.bytes()[..56]).with_flags(MORE_FRAGMENTS);
    rows.push(up_refused("4.2 first fragment of an error", &from, "icmp_untranslatable", None));
    let (quote, _) = quoted_to_alice();
    let from = down_error(UNREACHABLE_V6, &quote.bytes()[..72]).fragment(0, true, 1);
    rows.push(down_refused("5.2 first fragment of an error", &from, "icmp_untranslatable", None));
    rows
}

/// An ICMPv6 error ends at 1,280 bytes, an ICMPv4 error at 576.
fn too_long() -> Vec<Row> {
    let mut rows = Vec::new();
    for length in [1183, 1184, 1185, 1400] {
        let (from, to) = by_alice(17, udp(&data(length - 8)));
        let (from, to) = (from.sealed(6).bytes(), to.sealed(6).bytes());
        // 1,280 less the headers of the error itself, and of the quoted packet.
        let to = &to[..to.len().min(1280 - 48)];
        rows.push(quote_up(&format!("quoted packet with {length} bytes behind its header"), &from, to));
    }
    for length in [527, 528, 529, 1180] {
        let (from, to) = to_alice(17, udp(&data(length - 8)));
        let (from, to) = (from.sealed(6).bytes(), to.sealed(6).bytes());
        let to = &to[..to.len().min(576 - 28)];
        rows.push(quote_down(&format!("quoted packet with {length} bytes behind its header"), &from, to));
    }
    // Nothing says that these bytes are padding, so they are part of the quote.
    let (mut from, mut to) = (quoted_by_alice().0.bytes(), quoted_by_alice().1.bytes());
    from.extend([0xee; 5]);
    to.extend([0xee; 5]);
    rows.push(quote_up("bytes behind the quoted packet, without length attribute", &from, &to));
    // A wrong checksum stays wrong, even if bytes get lost.
    let (from, to) = to_alice(17, udp(&data(1000)));
    let (from, to) = (from.sealed(6).bytes(), to.sealed(6).bytes());
    let mut from = down_error(UNREACHABLE_V6, &from);
    let mut to = down_error_becomes(UNREACHABLE_V4, &to[..576 - 28]);
    for payload in [&mut from.payload, &mut to.payload] {
        let sum = u32::from(u16::from_be_bytes([payload[2], payload[3]])) + 0x0101;
        let sum = ((sum & 0xffff) + (sum >> 16)) % 0xffff;
        payload[2..4].copy_from_slice(&(sum as u16).to_be_bytes());
    }
    rows.push(down("5.2 error whose checksum is wrong by 0x0101 stays so", &from, &to));
    rows
}

/// Errors of routers that have no virtual address (RFC 6791).
fn routers() -> Vec<Row> {
    let (from, to) = quoted_to_alice();
    let (from, to) = (from.bytes(), to.bytes());
    let mut rows = Vec::new();
    for (name, six, four) in [
        ("no route", (1, 0, 0), (3, 1, 0)),
        ("packet too big", (2, 0, 1400), (3, 4, 1380)),
        ("hop limit exceeded", (3, 0, 0), (11, 0, 0)),
        ("erroneous field", (4, 0, 7), (12, 0, 8 << 24)),
    ] {
        let from = V6 { source: ROUTER_V6, ..down_error(six, &from) }.sealed(2);
        let to = V4 { source: GATEWAY, ..down_error_becomes(four, &to) }.sealed(2);
        rows.push(down(format!("RFC 6791 {name}, told by a router"), &from, &to));
        let name = format!("RFC 6791 {name}, with no address to give it");
        let row = down(name, &from, &V4 { source: BOB, ..to }.sealed(2));
        rows.push(row.with(|site| site.router = None));
    }
    let echo = V6 { source: ROUTER_V6, ..v6(58, icmp(128, 0, 7, &data(9))).back() }.sealed(2);
    rows.push(down_refused("RFC 6791 is for errors only", &echo, "src_address_invalid", None));
    rows
}
