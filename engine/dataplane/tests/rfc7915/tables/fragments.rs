//! Fragments (RFC 7915, 4.1 and 5.1.1).

use super::errors::{down_error, down_error_becomes, quoted_to_alice};
use super::{Row, answer, down, down_refused, up, up_refused};
use crate::build::*;

const UDP: u8 = 17;

pub(super) fn rows() -> Vec<Row> {
    [up_rows(), up_cut(), down_rows(), down_more(), icmp_rows(), refusals()].concat()
}

/// A fragment of Alice's, with this offset in bytes.
fn fragment_v4(protocol: u8, offset: usize, more: bool, payload: &[u8]) -> V4 {
    let flags = (offset / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 };
    V4 { flags, ..v4(protocol, payload.to_vec()) }
}

fn fragment_v6(protocol: u8, offset: usize, more: bool, payload: &[u8]) -> V6 {
    v6(protocol, payload.to_vec()).fragment(offset, more, 0x4321)
}

/// The bytes of a datagram that is to travel in fragments, under both versions.
fn datagram(length: usize) -> (Vec<u8>, Vec<u8>) {
    let payload = udp(&data(length - 8));
    (v4(UDP, payload.clone()).sealed(6).payload, v6(UDP, payload).sealed(6).payload)
}

fn up_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let (four, six) = datagram(3000);
    for (name, offset, end) in [("first", 0, 1448), ("middle", 1448, 2896), ("last", 2896, 3000)] {
        let more = end < 3000;
        let from = fragment_v4(UDP, offset, more, &four[offset..end]);
        let to = fragment_v6(UDP, offset, more, &six[offset..end]);
        rows.push(up(format!("4.1 {name} fragment"), &from, &to));
        let from = V4 { flags: from.flags | DONT_FRAGMENT, ..from };
        rows.push(up(format!("4.1 {name} fragment with DF"), &from, &to));
    }
    // The last one may be as long as fits: 1,452 bytes behind 48.
    let from = fragment_v4(UDP, 800, false, &data(1452));
    rows.push(up("4.1 last fragment that just fits", &from, &fragment_v6(UDP, 800, false, &data(1452))));
    let from = V4 { flags: from.flags | DONT_FRAGMENT, ..fragment_v4(UDP, 800, false, &data(1453)) };
    rows.push(up_refused("4.1 later DF fragment that does not fit", &from, "packet_too_big", None));
    let from = fragment_v4(UDP, 0, true, &four[..1456]).with_flags(MORE_FRAGMENTS | DONT_FRAGMENT);
    let name = "4.1 first DF fragment that does not fit";
    rows.push(up_refused(name, &from, "packet_too_big", answer(3, 4, 1472)));
    // Offsets: the smallest, an odd number of units, the largest.
    for offset in [8, 1368, 65_504] {
        let from = fragment_v4(UDP, offset, false, &data(7));
        let to = fragment_v6(UDP, offset, false, &data(7));
        rows.push(up(format!("4.1 fragment offset {offset}"), &from, &to));
    }
    // Bits that look like an ICMP message, a UDP header without checksum, or TCP in a later fragment are none.
    for protocol in [1, 6, 17, 33, 136, 47, 50] {
        let (from, to) =
            (fragment_v4(protocol, 64, true, &[0; 24]), fragment_v6(protocol, 64, true, &[0; 24]));
        let to = if protocol == 1 { fragment_v6(58, 64, true, &[0; 24]) } else { to };
        rows.push(up(format!("4.1 later fragment of protocol {protocol} is untouched"), &from, &to));
        let from = to.back();
        let to = V4 { identification: 0x4321, flags: 8 | MORE_FRAGMENTS, ..v4(protocol, vec![0; 24]).back() };
        let to = V4 { identification: 0x4321, flags: 8 | MORE_FRAGMENTS, ..to };
        rows.push(down(format!("5.1.1 later fragment of protocol {protocol} is untouched"), &from, &to));
    }
    rows
}

/// "The packet SHOULD be fragmented so the resulting IPv6 packet will be less than or equal to lowest-ipv6-mtu."
fn up_cut() -> Vec<Row> {
    let mut rows = Vec::new();
    let cut = |name: &str, from: V4, pieces: &[V6]| {
        let mut row = up(name, &from, &pieces[0]);
        row.becomes = Ok(pieces.iter().map(V6::bytes).collect());
        row
    };
    // 1,500 less 48 are 1,452: for all but the last in whole units of eight, 1,448.
    for (length, last) in [(1461, 1), (1500, 1), (2896, 1), (2900, 1), (2901, 2), (4000, 2)] {
        let (four, six) = datagram(length);
        let from = V4 { flags: 0, ..v4(UDP, four) };
        let part = |index: usize| {
            let end = if index < last { (index + 1) * 1448 } else { length };
            fragment_v6(UDP, index * 1448, index < last, &six[index * 1448..end])
        };
        let pieces: Vec<_> = (0..=last).map(part).collect();
        rows.push(cut(&format!("4.1 {length} bytes without DF are cut"), from, &pieces));
    }
    let (four, six) = datagram(1460);
    let from = V4 { flags: 0, ..v4(UDP, four) };
    rows.push(up("4.1 1460 bytes without DF are not cut", &from, &v6(UDP, six)));
    // The RFC's own example: 1,280 less 48 is 1,232.
    let (four, six) = datagram(1241);
    let from = V4 { flags: 0, ..v4(UDP, four) };
    let pieces = [fragment_v6(UDP, 0, true, &six[..1232]), fragment_v6(UDP, 1232, false, &six[1232..])];
    let row = cut("4.1 1241 bytes without DF are cut for the smallest MTU", from, &pieces);
    rows.push(row.with(|site| site.lowest_ipv6_mtu = 1280));
    let (four, six) = datagram(1240);
    let row = up(
        "4.1 1240 bytes without DF are not cut for the smallest MTU",
        &V4 { flags: 0, ..v4(UDP, four) },
        &v6(UDP, six),
    );
    rows.push(row.with(|site| site.lowest_ipv6_mtu = 1280));
    // With DF the lowest MTU means nothing, only the link's.
    let (four, six) = datagram(1241);
    let row = up("4.1 1241 bytes with DF are not cut for the smallest MTU", &v4(UDP, four), &v6(UDP, six));
    rows.push(row.with(|site| site.lowest_ipv6_mtu = 1280));
    // A fragment is cut further, and only the last piece of the last fragment is the last.
    for more in [true, false] {
        let payload = data(1456);
        let from = fragment_v4(UDP, 2400, more, &payload);
        let pieces = [
            fragment_v6(UDP, 2400, true, &payload[..1448]),
            fragment_v6(UDP, 2400 + 1448, more, &payload[1448..]),
        ];
        let name = format!("4.1 fragment without DF is cut further, more fragments {more}");
        rows.push(cut(&name, from, &pieces));
    }
    // A whole datagram without checksum gets one before it is cut.
    let (_, six) = datagram(1500);
    let from = V4 { flags: 0, ..v4(UDP, udp(&data(1492))) };
    let pieces = [fragment_v6(UDP, 0, true, &six[..1448]), fragment_v6(UDP, 1448, false, &six[1448..])];
    rows.push(cut("4.5 UDP checksum is computed before the packet is cut", from, &pieces));
    rows
}

fn down_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let payload = udp(&data(2992));
    let six = v6(UDP, payload.clone()).back().sealed(6).payload;
    let four = v4(UDP, payload).back().sealed(6).payload;
    let fragment = |offset: usize, more: bool, payload: &[u8], identification: u32| {
        let v6 = v6(UDP, payload.to_vec()).back();
        v6.fragment(offset, more, identification)
    };
    let becomes = |offset: usize, more: bool, payload: &[u8], identification: u16| {
        let flags = (offset / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 };
        V4 { flags, identification, ..v4(UDP, payload.to_vec()).back() }.with_flags(flags)
    };
    // DF is cleared whatever the size is.
    for (name, offset, end) in [("first", 0, 1448), ("middle", 1448, 2896), ("last", 2896, 3000)] {
        let more = end < 3000;
        // The upper half of the identification is left behind.
        let from = fragment(offset, more, &six[offset..end], 0xdead_4321);
        let to = becomes(offset, more, &four[offset..end], 0x4321);
        rows.push(down(format!("5.1.1 {name} fragment"), &from, &to));
    }
    for offset in [8, 1368, 65_512] {
        let (from, to) = (fragment(offset, false, &data(3), 1), becomes(offset, false, &data(3), 1));
        rows.push(down(format!("5.1.1 fragment offset {offset}"), &from, &to));
    }
    // A fragment that is all of its datagram (RFC 6946) is a packet whose identification is known.
    for length in [20, 1240, 1300, 1452] {
        let payload = udp(&data(length - 8));
        let from = v6(UDP, payload.clone()).back().sealed(6).fragment(0, false, 0x9876_5432);
        let to = v4(UDP, payload).back().sealed(6);
        let to = V4 { identification: 0x5432, ..to };
        rows.push(down(format!("5.1.1 atomic fragment of {length} bytes"), &from, &to));
    }
    // So is the error that comes in one.
    let (quote, told) = quoted_to_alice();
    let from = down_error((1, 4, 0), &quote.bytes()).fragment(0, false, 0x9876_5432);
    let to = V4 { identification: 0x5432, ..down_error_becomes((3, 3, 0), &told.bytes()) };
    rows.push(down("5.1.1 atomic fragment of an error", &from, &to));
    // Reserved bits and the reserved byte say nothing.
    let mut from = fragment(8, true, &data(16), 7);
    from.payload[1] = 0xff;
    from.payload[3] |= 0b110;
    rows.push(down("5.1.1 reserved bits are ignored", &from, &becomes(8, true, &data(16), 7)));
    rows
}

fn down_more() -> Vec<Row> {
    let mut rows = Vec::new();
    // Behind other extension headers, which leave no trace (5.1).
    let options = [0, 1, 4, 0, 0, 0, 0];
    let from = v6(UDP, data(16)).back().fragment(8, true, 7).behind(60, &options).behind(0, &options);
    let to = V4 { identification: 7, ..v4(UDP, data(16)).back() }.with_flags(1 | MORE_FRAGMENTS);
    rows.push(down("5.1.1 fragment header behind options", &from, &to));
    // An extension header in the part that is cut up cannot be skipped in all fragments.
    for number in [0, 43, 44, 60, 135, 139, 140] {
        let from = v6(number, data(16)).back().fragment(8, true, 7);
        let name = format!("5.1.1 extension header {number} behind the fragment header");
        rows.push(down_refused(name, &from, "extension_header_unsupported", None));
    }
    let from = v6(51, data(16)).back().fragment(8, true, 7);
    let name = "5.1.1 authentication header behind the fragment header";
    rows.push(down_refused(name, &from, "authentication_header", None));
    // ESP hides what follows, and is carried.
    let from = v6(50, data(16)).back().fragment(8, true, 7);
    let to = V4 { identification: 7, ..v4(50, data(16)).back() }.with_flags(1 | MORE_FRAGMENTS);
    rows.push(down("5.1.1 ESP behind the fragment header", &from, &to));
    // On an IPv4 link that is too small even for a fragment of the smallest IPv6 MTU.
    let payload = data(1232);
    let from = v6(UDP, payload.clone()).back().fragment(1600, true, 7);
    let piece = |offset: usize, payload: &[u8]| {
        let packet = V4 { identification: 7, ..v4(UDP, payload.to_vec()).back() };
        packet.with_flags((offset / 8) as u16 | MORE_FRAGMENTS).bytes()
    };
    let mut row = down("5.1.1 fragment is cut further", &from, &v4(UDP, Vec::new()));
    row.becomes = Ok(vec![piece(1600, &payload[..976]), piece(1600 + 976, &payload[976..])]);
    rows.push(row.with(|site| site.ipv4_mtu = 1000));
    rows
}

/// Messages in fragments: their pseudo-header's length counts as 0, as no fragment tells it.
fn icmp_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let whole_v4 = v4(1, icmp(8, 0, 7, &data(2000))).sealed(2).payload;
    let whole_v6 = v6(58, icmp(128, 0, 7, &data(2000))).sealed_as(2, 0).payload;
    for (name, offset, end) in [("first", 0, 1448), ("last", 1448, 2008)] {
        let more = end < 2008;
        let from = fragment_v4(1, offset, more, &whole_v4[offset..end]);
        let to = fragment_v6(58, offset, more, &whole_v6[offset..end]);
        rows.push(up(format!("4.2 {name} fragment of an echo request"), &from, &to));
        let refused = |row: Row| row.with(|site| site.carry_fragmented_icmp = false);
        let row = up_refused(
            format!("1.2 {name} fragment of ICMPv4, not to be carried"),
            &from,
            "fragment_icmp",
            None,
        );
        rows.push(refused(row));
        let from = to.back();
        let name = format!("1.2 {name} fragment of ICMPv6, not to be carried");
        rows.push(refused(down_refused(name, &from, "fragment_icmp", None)));
    }
    // The same message, cut by the translator, is the same in the end.
    let from = V4 { flags: 0, ..v4(1, whole_v4.clone()) };
    let pieces =
        [fragment_v6(58, 0, true, &whole_v6[..1448]), fragment_v6(58, 1448, false, &whole_v6[1448..])];
    let mut row = up("4.2 echo request is cut", &from, &pieces[0]);
    row.becomes = Ok(pieces.iter().map(V6::bytes).collect());
    rows.push(row);
    // Where fragments are not to be carried, the receiver is none of us, and gets a checksum over the whole message.
    let whole_v6 = v6(58, icmp(128, 0, 7, &data(2000))).sealed(2).payload;
    let pieces =
        [fragment_v6(58, 0, true, &whole_v6[..1448]), fragment_v6(58, 1448, false, &whole_v6[1448..])];
    let mut row = up("1.2 echo request is cut, not to be carried", &from, &pieces[0]);
    row.becomes = Ok(pieces.iter().map(V6::bytes).collect());
    rows.push(row.with(|site| site.carry_fragmented_icmp = false));

    let payload = v6(58, icmp(129, 0, 7, &data(1400))).back().sealed_as(2, 0).payload;
    let becomes = v4(1, icmp(0, 0, 7, &data(1400))).back().sealed(2).payload;
    let from = v6(58, payload[..1400].to_vec()).back().fragment(0, true, 0x4321);
    let to =
        V4 { identification: 0x4321, ..v4(1, becomes[..1400].to_vec()).back() }.with_flags(MORE_FRAGMENTS);
    rows.push(down("5.2 first fragment of an echo reply", &from, &to));
    // An atomic fragment is a whole message, of known length.
    let from = v6(58, icmp(129, 0, 7, &data(40))).back().sealed(2).fragment(0, false, 0x4321);
    let to = V4 { identification: 0x4321, ..v4(1, icmp(0, 0, 7, &data(40))).back().sealed(2) };
    rows.push(down("5.2 atomic fragment of an echo reply", &from, &to));
    rows
}

fn refusals() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut both =
        |name: &str, protocol: u8, offset: usize, more: bool, payload: &[u8], reason: &'static str| {
            let from = fragment_v4(protocol, offset, more, payload);
            rows.push(up_refused(format!("IPv4 fragment: {name}"), &from, reason, None));
            let number = if protocol == 1 { 58 } else { protocol };
            let from = fragment_v6(number, offset, more, payload).back();
            rows.push(down_refused(format!("IPv6 fragment: {name}"), &from, reason, None));
        };
    both("not a multiple of eight, yet not the last", UDP, 8, true, &data(17), "fragment_malformed");
    both("first, not a multiple of eight", UDP, 0, true, &data(17), "fragment_malformed");
    both("a byte beyond the largest datagram", UDP, 65_512, false, &data(4), "fragment_malformed");
    both("far beyond the largest datagram", UDP, 65_528, false, &data(1000), "fragment_malformed");
    both("nothing in it", UDP, 8, false, &[], "fragment_malformed");
    both("first of TCP without all of its header", 6, 0, true, &data(16), "fragment_tiny");
    both("first of DCCP without all of its header", 33, 0, true, &data(8), "fragment_tiny");
    both("over the TCP header (RFC 1858)", 6, 8, false, &data(24), "fragment_tiny");
    both("first of UDP without checksum", UDP, 0, true, &udp(&[0; 16]), "udp_checksum_zero");
    rows
}
