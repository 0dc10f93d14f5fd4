//! Path MTU (RFC 7915, 4.2 and 5.2; RFC 1191, 7.1).

use super::errors::*;
use super::{Row, down, up};
use crate::build::*;

pub(super) fn rows() -> Vec<Row> {
    [told_by_ipv4(), plateaus(), told_by_ipv6()].concat()
}

fn told_by_ipv4() -> Vec<Row> {
    let (from, to) = quoted_by_alice();
    let (from, to) = (from.bytes(), to.bytes());
    // MTU told; that of the IPv4 link; that of the IPv6 link; what is told on.
    let rows = [
        (1400, 1480, 1500, 1420, "20 more than told"),
        (1480, 1480, 1500, 1500, "as much as the link has"),
        (1481, 1480, 1500, 1500, "never more than the IPv6 link has"),
        (9000, 9000, 1500, 1500, "never more than the IPv6 link has, by far"),
        (9000, 1480, 9000, 1500, "never more than the IPv4 link has, and 20"),
        (8000, 8980, 9000, 8020, "20 more than told, jumbo"),
        (0xffff, 1480, 1500, 1500, "the largest that can be told"),
        (1261, 1480, 1500, 1281, "just above the floor"),
        (1260, 1480, 1500, 1280, "at the floor"),
        (1259, 1480, 1500, 1280, "below the floor"),
        (576, 1480, 1500, 1280, "far below the floor"),
        (68, 1480, 1500, 1280, "the smallest IPv4 MTU"),
        (1, 1480, 1500, 1280, "one byte"),
    ];
    let row = |(told, ipv4, ipv6, becomes, name): (u32, usize, usize, u32, &str)| {
        let name = format!("4.2 fragmentation needed, MTU {told}, links {ipv4}/{ipv6}: {name}");
        // The upper half of the word is unused, and says nothing.
        up(name, &up_error((3, 4, 0x5a00_0000 | told), &from), &up_error_becomes((2, 0, becomes), &to))
            .with(|site| (site.ipv4_mtu, site.ipv6_mtu) = (ipv4, ipv6))
    };
    rows.map(row).to_vec()
}

/// A router from before RFC 1191 tells no MTU: the quoted packet's total length does.
fn plateaus() -> Vec<Row> {
    let rows = [
        // Quoted total length, plateau below it, and 20 more but at least 1280.
        (65_535, 32_000, 32_020),
        (32_001, 32_000, 32_020),
        (32_000, 17_914, 17_934),
        (17_915, 17_914, 17_934),
        (17_914, 8166, 8186),
        (8166, 4352, 4372),
        (4352, 2002, 2022),
        (2003, 2002, 2022),
        (2002, 1492, 1512),
        (1500, 1492, 1512),
        (1493, 1492, 1512),
        (1492, 1006, 1280),
        (1006, 508, 1280),
        (508, 296, 1280),
        (296, 68, 1280),
        (68, 68, 1280),
        (59, 68, 1280),
    ];
    let row = |(length, plateau, becomes): (usize, usize, u32)| {
        let (mut from, mut to) = quoted_by_alice();
        // The quote holds less than its header claims.
        from.claims = Some(length - 20);
        to.claims = Some(length - 20);
        let name = format!("4.2 fragmentation needed without MTU, total length {length}: plateau {plateau}");
        up(name, &up_error((3, 4, 0), &from.bytes()), &up_error_becomes((2, 0, becomes), &to.bytes()))
            .with(|site| (site.ipv4_mtu, site.ipv6_mtu) = (65_515, 65_535))
    };
    rows.map(row).to_vec()
}

fn told_by_ipv6() -> Vec<Row> {
    let (from, to) = quoted_to_alice();
    let (from, to) = (from.bytes(), to.bytes());
    let rows = [
        (1400, 1480, 1500, 1380, "20 less than told"),
        (1280, 1480, 1500, 1260, "the smallest IPv6 MTU"),
        (1500, 1480, 1500, 1480, "as much as the links have"),
        (1501, 1480, 1500, 1480, "never more than the links have"),
        (9000, 1480, 9000, 1480, "never more than the IPv4 link has"),
        (9000, 9000, 1500, 1480, "never more than the IPv6 link has, less 20"),
        (8000, 8980, 9000, 7980, "20 less than told, jumbo"),
        (65_536, 1480, 1500, 1480, "more than 16 bits can tell"),
        (65_540, 1480, 1500, 1480, "more than 16 bits can tell, and small in the lower half"),
        (u32::MAX, 1480, 1500, 1480, "the largest that can be told"),
        // No IPv6 link has so little: a hint that a router of the kind of RFC 2460, 5 wanted a fragment header.
        (1279, 1480, 1500, 1260, "below the floor"),
        (68, 1480, 1500, 1260, "far below the floor"),
        (0, 1480, 1500, 1260, "nothing"),
    ];
    let row = |(told, ipv4, ipv6, becomes, name)| {
        let name = format!("5.2 packet too big, MTU {told}, links {ipv4}/{ipv6}: {name}");
        down(name, &down_error((2, 0, told), &from), &down_error_becomes((3, 4, becomes), &to))
            .with(|site| (site.ipv4_mtu, site.ipv6_mtu) = (ipv4, ipv6))
    };
    let mut rows = rows.map(row).to_vec();

    // With a fragment header the quoted packet was 28 bytes longer than the node's own.
    let (from, to) = quoted_to_alice();
    let from = from.fragment(0, true, 0x7777).bytes();
    let to = V4 { identification: 0x7777, flags: MORE_FRAGMENTS, ..to }.bytes();
    for (told, becomes) in [(1400, 1372), (1280, 1252), (1500, 1472), (1600, 1472)] {
        let name = format!("5.2 packet too big, MTU {told}, quoting a fragment");
        rows.push(down(name, &down_error((2, 0, told), &from), &down_error_becomes((3, 4, becomes), &to)));
    }
    rows
}
