//! The fields of the network headers (RFC 7915, 4.1 and 5.1).

use super::{Row, answer, down, down_refused, up, up_refused};
use crate::build::*;
use crate::reference::{Answer, Refused};

/// A protocol that is carried byte for byte.
const GRE: u8 = 47;

pub(super) fn rows() -> Vec<Row> {
    [up_fields(), up_sizes(), up_malformed(), down_fields(), down_sizes(), down_malformed()].concat()
}

fn gre_v4(length: usize) -> V4 {
    v4(GRE, data(length))
}

fn gre_v6(length: usize) -> V6 {
    v6(GRE, data(length))
}

fn up_fields() -> Vec<Row> {
    let mut rows = Vec::new();
    for tos in [0, 1, 2, 3, 0x10, 0xb8, 0xfc, 0xff] {
        let (v4, v6) = (V4 { tos, ..gre_v4(9) }, V6 { traffic_class: tos, ..gre_v6(9) });
        rows.push(up(format!("4.1 traffic class is copied from TOS {tos:#04x}"), &v4, &v6));
        let v6 = V6 { traffic_class: 0, ..v6 };
        let row = up(format!("4.1 traffic class is 0 when so configured, TOS {tos:#04x}"), &v4, &v6);
        rows.push(row.with(|site| site.copy_traffic_class = false));
    }
    for ttl in [2, 3, 64, 128, 255] {
        let (v4, v6) = (V4 { ttl, ..gre_v4(9) }, V6 { hop_limit: ttl - 1, ..gre_v6(9) });
        rows.push(up(format!("4.1 hop limit is one less than TTL {ttl}"), &v4, &v6));
    }
    for ttl in [0, 1] {
        let v4 = V4 { ttl, ..gre_v4(9) };
        rows.push(up_refused(format!("4.1 TTL {ttl} ends here"), &v4, "ttl_exceeded", answer(11, 0, 0)));
    }
    for (name, flags) in [("DF", DONT_FRAGMENT), ("no flags", 0), ("the reserved flag", 0x8000)] {
        let v4 = V4 { flags, ..gre_v4(9) };
        rows.push(up(format!("4.1 whole packet with {name} gets no fragment header"), &v4, &gre_v6(9)));
    }
    let options: [(&str, &[u8]); 6] = [
        ("no operations", &[1, 1, 1, 0]),
        ("record route", &[7, 7, 4, 0, 0, 0, 0, 0]),
        ("timestamp", &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("router alert", &[148, 4, 0, 0]),
        ("an unknown one", &[0x9e, 4, 0xaa, 0xbb]),
        ("as many as there can be", &[1; 40]),
    ];
    for (name, options) in options {
        let v4 = V4 { options: options.to_vec(), ..gre_v4(9) };
        rows.push(up(format!("4.1 options are ignored: {name}"), &v4, &gre_v6(9)));
    }
    let mut padded = up("4.1 bytes behind the total length are padding", &gre_v4(9), &gre_v6(9));
    padded.packet.extend([0xee; 17]);
    rows.push(padded);
    rows
}

fn up_sizes() -> Vec<Row> {
    let mut rows = Vec::new();
    for length in [0, 1, 2, 1239, 1240, 1241, 1459, 1460] {
        let name = format!("4.1 payload length, {length} bytes");
        rows.push(up(name, &gre_v4(length), &gre_v6(length)));
    }
    // With options the IPv4 packet is longer than the link's MTU; as an IPv6 packet it fits.
    let v4 = V4 { options: vec![1; 40], ..gre_v4(1460) };
    rows.push(up("4.1 only the translated packet has to fit", &v4, &gre_v6(1460)));
    for length in [1461, 1462, 8000, 65_515] {
        rows.push(up_refused(
            format!("4.1 DF packet of {length} bytes does not fit"),
            &gre_v4(length),
            "packet_too_big",
            answer(3, 4, 1480),
        ));
    }
    // With a jumbo link both ways.
    let row = up("4.1 jumbo frame fits a jumbo link", &gre_v4(8960), &gre_v6(8960));
    rows.push(row.with(|site| (site.ipv6_mtu, site.lowest_ipv6_mtu) = (9000, 9000)));
    rows
}

fn up_malformed() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name: &str, change: &dyn Fn(&mut Vec<u8>), reason: &'static str| {
        let mut row = up_refused(name, &gre_v4(9), reason, None);
        change(&mut row.packet);
        rows.push(row);
    };
    row(
        "total length beyond the bytes received",
        &|packet| packet.truncate(packet.len() - 1),
        "frame_truncated",
    );
    row("header cut off", &|packet| packet.truncate(19), "frame_truncated");
    row(
        "options cut off",
        &|packet| {
            packet[0] = 0x4f;
            packet[3] = 60;
        },
        "frame_truncated",
    );
    row("version 5", &|packet| packet[0] = 0x55, "ipv4_malformed");
    row("header of four words", &|packet| packet[0] = 0x44, "ipv4_malformed");
    row("total length below the header's", &|packet| packet[3] = 19, "ipv4_malformed");
    for bit in 0..16 {
        let flip = |packet: &mut Vec<u8>| packet[10 + bit / 8] ^= 1 << (bit % 8);
        row(&format!("header checksum with bit {bit} wrong"), &flip, "ipv4_checksum");
    }
    rows
}

fn down_fields() -> Vec<Row> {
    let mut rows = Vec::new();
    for traffic_class in [0, 1, 2, 3, 0x10, 0xb8, 0xfc, 0xff] {
        let v6 = V6 { traffic_class, ..gre_v6(9) }.back();
        let v4 = V4 { tos: traffic_class, ..gre_v4(9).back() };
        rows.push(down(format!("5.1 TOS is copied from traffic class {traffic_class:#04x}"), &v6, &v4));
        let v4 = V4 { tos: 0, ..v4 };
        let row =
            down(format!("5.1 TOS is 0 when so configured, traffic class {traffic_class:#04x}"), &v6, &v4);
        rows.push(row.with(|site| site.copy_traffic_class = false));
    }
    for flow_label in [1, 0x12345, 0xfffff] {
        let v6 = V6 { flow_label, ..gre_v6(9) }.back();
        rows.push(down(format!("5.1 flow label {flow_label:#x} is left behind"), &v6, &gre_v4(9).back()));
    }
    for hop_limit in [2, 3, 64, 255] {
        let v6 = V6 { hop_limit, ..gre_v6(9) }.back();
        let v4 = V4 { ttl: hop_limit - 1, ..gre_v4(9).back() };
        rows.push(down(format!("5.1 TTL is one less than hop limit {hop_limit}"), &v6, &v4));
    }
    for hop_limit in [0, 1] {
        let v6 = V6 { hop_limit, ..gre_v6(9) }.back();
        rows.push(down_refused(
            format!("5.1 hop limit {hop_limit} ends here"),
            &v6,
            "hop_limit_exceeded",
            answer(3, 0, 0),
        ));
    }
    let mut padded =
        down("5.1 bytes behind the payload length are padding", &gre_v6(9).back(), &gre_v4(9).back());
    padded.packet.extend([0xee; 17]);
    rows.push(padded);
    rows
}

fn down_sizes() -> Vec<Row> {
    let mut rows = Vec::new();
    // DF is cleared up to 1,260 bytes of IPv4 packet, so up to 1,240 of payload.
    for (length, flags) in [
        (0, 0),
        (1, 0),
        (1239, 0),
        (1240, 0),
        (1241, DONT_FRAGMENT),
        (1459, DONT_FRAGMENT),
        (1460, DONT_FRAGMENT),
    ] {
        let v4 = V4 { flags, ..gre_v4(length).back() };
        let df = if flags == 0 { "cleared" } else { "set" };
        let name = format!("5.1 DF is {df} at {} bytes", 20 + length);
        rows.push(down(name, &gre_v6(length).back(), &v4));
    }
    for length in [1461, 1462, 8000, 65_515, 65_516, 65_535] {
        // Beyond the last two no IPv4 packet could be as long, whatever its link.
        let answer = (length <= 65_515).then_some(Answer { kind: 2, code: 0, word: 1500 });
        rows.push(down_refused(
            format!("5.1 payload of {length} bytes does not fit"),
            &gre_v6(length).back(),
            "packet_too_big",
            answer,
        ));
    }
    rows.push(down_cut());
    rows
}

/// What any IPv6 link carries has to reach an IPv4 link of any MTU: in pieces (5.1.1).
fn down_cut() -> Row {
    let v6 = gre_v6(1240).back();
    let piece = |payload: &[u8], flags| V4 { flags, payload: payload.to_vec(), ..gre_v4(0).back() }.bytes();
    let payload = data(1240);
    // 1,000 less a header, in whole units of eight: 976.
    let becomes = vec![piece(&payload[..976], MORE_FRAGMENTS), piece(&payload[976..], 976 / 8)];
    let mut row = down("5.1.1 1,280 bytes are cut for a smaller IPv4 link", &v6, &gre_v4(0));
    row.becomes = Ok(becomes);
    row.with(|site| site.ipv4_mtu = 1000)
}

fn down_malformed() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name: &str, change: &dyn Fn(&mut Vec<u8>), reason: &'static str| {
        let mut row = down_refused(name, &gre_v6(9).back(), reason, None);
        change(&mut row.packet);
        row.becomes = Err(Refused { reason, answer: None });
        rows.push(row);
    };
    row(
        "payload length beyond the bytes received",
        &|packet| packet.truncate(packet.len() - 1),
        "frame_truncated",
    );
    row("IPv6 header cut off", &|packet| packet.truncate(39), "frame_truncated");
    row("version 7", &|packet| packet[0] = 0x70, "ipv6_malformed");
    rows
}
