//! IPv6 extension headers (RFC 7915, 5.1).

use super::{Row, answer, down, down_refused};
use crate::build::*;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const OPTIONS: u8 = 60;

/// All but the first byte of an extension header of eight bytes: padding options.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
/// The same of a header of 24 bytes.
const LONG: [u8; 23] = [2, 1, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Extension headers, outermost first: each one's number, and all but its first byte.
type Chain<'a> = Vec<(u8, &'a [u8])>;

/// A routing header of eight bytes.
const fn routing(kind: u8, segments_left: u8) -> [u8; 7] {
    [0, kind, segments_left, 0, 0, 0, 0]
}

pub(super) fn rows() -> Vec<Row> {
    [skipped(), live(), limits(), malformed()].concat()
}

/// A TCP segment of Bob's, and as Alice must see it.
fn segment() -> (V6, V4) {
    let payload = tcp(&data(21));
    (v6(6, payload.clone()).back().sealed(16), v4(6, payload).back().sealed(16))
}

fn skipped() -> Vec<Row> {
    let (from, to) = segment();
    let dead = routing(0, 0);
    let long_dead = [2u8, 0, 0].into_iter().chain([0; 20]).collect::<Vec<u8>>();
    let chains: [(&str, Chain<'_>); 9] = [
        ("hop-by-hop", vec![(HOP_BY_HOP, &PADDING)]),
        ("long hop-by-hop", vec![(HOP_BY_HOP, &LONG)]),
        ("destination options", vec![(OPTIONS, &PADDING)]),
        ("long destination options", vec![(OPTIONS, &LONG)]),
        ("routing without segments left", vec![(ROUTING, &dead)]),
        ("routing of an unknown kind without segments left", vec![(ROUTING, &[0, 254, 0, 1, 2, 3, 4])]),
        ("long routing without segments left", vec![(ROUTING, &long_dead)]),
        ("all of them", vec![(HOP_BY_HOP, &LONG), (OPTIONS, &PADDING), (ROUTING, &dead), (OPTIONS, &LONG)]),
        (
            "in an order that nobody recommends",
            vec![(ROUTING, &dead), (OPTIONS, &LONG), (ROUTING, &long_dead)],
        ),
    ];
    let mut rows = Vec::new();
    for (name, chain) in chains {
        let from = wrapped(from.clone(), &chain);
        rows.push(down(format!("5.1 extension headers are skipped: {name}"), &from, &to));
    }
    // Echo, whose pseudo-header counts the message alone.
    let from = v6(58, icmp(129, 0, 9, &data(13))).back().sealed(2).behind(OPTIONS, &LONG).behind(0, &PADDING);
    let to = v4(1, icmp(0, 0, 9, &data(13))).back().sealed(2);
    rows.push(down("5.1 extension headers are skipped: in front of an echo reply", &from, &to));
    // DF goes by what is left.
    let from = v6(47, data(1240)).back().behind(OPTIONS, &LONG);
    rows.push(down("5.1 DF is cleared at 1260 bytes without headers", &from, &v4(47, data(1240)).back()));
    // Nothing follows: its number is a transport's like any other.
    let from = v6(59, Vec::new()).back().behind(OPTIONS, &PADDING);
    rows.push(down("5.1 no next header", &from, &v4(59, Vec::new()).back()));
    rows
}

fn wrapped(packet: V6, chain: &Chain<'_>) -> V6 {
    chain.iter().rev().fold(packet, |packet, (number, rest)| packet.behind(*number, rest))
}

/// "The Pointer field indicating the first byte of the Segments Left field."
fn live() -> Vec<Row> {
    let (from, _) = segment();
    let live = routing(0, 1);
    let many = routing(4, 255);
    let chains: [(&str, Chain<'_>, u32); 4] = [
        ("first", vec![(ROUTING, &live)], 43),
        ("of an unknown kind", vec![(ROUTING, &many)], 43),
        ("behind hop-by-hop", vec![(HOP_BY_HOP, &PADDING), (ROUTING, &live)], 51),
        ("behind long options", vec![(OPTIONS, &LONG), (ROUTING, &live), (OPTIONS, &PADDING)], 67),
    ];
    let rows = chains.map(|(name, chain, pointer)| {
        let from = wrapped(from.clone(), &chain);
        let name = format!("5.1 routing header with segments left: {name}");
        down_refused(name, &from, "routing_header_live", answer(4, 0, pointer))
    });
    rows.to_vec()
}

fn limits() -> Vec<Row> {
    let (from, to) = segment();
    let many = |count: usize| wrapped(from.clone(), &vec![(OPTIONS, &PADDING as &[u8]); count]);
    vec![
        down("eight extension headers are walked", &many(8), &to),
        down_refused("nine extension headers are not walked", &many(9), "extension_header_chain", None),
    ]
}

fn malformed() -> Vec<Row> {
    let mut rows = Vec::new();
    let (from, _) = segment();
    let late = from.clone().behind(HOP_BY_HOP, &PADDING).behind(OPTIONS, &PADDING);
    rows.push(down_refused("hop-by-hop options anywhere but first", &late, "extension_header_chain", None));
    for (name, number) in
        [("hop-by-hop", HOP_BY_HOP), ("routing", ROUTING), ("options", OPTIONS), ("fragment", 44)]
    {
        for length in [0, 1, 7] {
            let cut = v6(number, vec![0; length]).back();
            let name = format!("{name} header of {length} bytes");
            rows.push(down_refused(name, &cut, "extension_header_chain", None));
        }
    }
    for number in [HOP_BY_HOP, OPTIONS, ROUTING] {
        let mut payload = vec![0; 16];
        (payload[0], payload[1]) = (6, 2);
        let cut = v6(number, payload).back();
        let name = format!("extension header {number} longer than the packet");
        rows.push(down_refused(name, &cut, "extension_header_chain", None));
    }
    for (number, name) in [(135, "mobility"), (139, "HIP"), (140, "Shim6")] {
        let packet = from.clone().behind(number, &PADDING);
        rows.push(down_refused(format!("{name} header"), &packet, "extension_header_unsupported", None));
        let packet = from.clone().behind(number, &PADDING).behind(OPTIONS, &PADDING);
        rows.push(down_refused(
            format!("{name} header behind options"),
            &packet,
            "extension_header_unsupported",
            None,
        ));
    }
    let packet = from.behind(51, &PADDING).behind(OPTIONS, &PADDING);
    rows.push(down_refused("authentication header behind options", &packet, "authentication_header", None));
    rows
}
