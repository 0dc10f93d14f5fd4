//! `overlane-engine translate`: the real command on captures, against packets that etherparse makes from scratch.

mod command;
mod files;
mod keys;
mod packets;

use command::{Captured, ETHERNET, MACS, MAPS, Place, RAW, capture, translate};
use core::net::Ipv6Addr;
use etherparse::{IpNumber, Ipv6Header};
use packets::*;
use serde_json::json;

/// A line of the report about a packet that crossed as `outputs`.
fn crossed(index: u64, from: &str, to: &str, outputs: &[u64]) -> serde_json::Value {
    let outputs: Vec<_> =
        outputs.iter().map(|index| json!({"index": index, "side": to, "direction": "across"})).collect();
    json!({"index": index, "side": from, "verdict": "translated", "outputs": outputs})
}

/// A line about a packet that came back as an error.
fn answered(index: u64, side: &str, reason: &str, output: u64) -> serde_json::Value {
    let outputs = json!([{"index": output, "side": side, "direction": "back"}]);
    json!({"index": index, "side": side, "verdict": "answered", "reason": reason, "outputs": outputs})
}

/// A line about a packet that went nowhere.
fn dropped(index: u64, side: Option<&str>, reason: &str) -> serde_json::Value {
    json!({"index": index, "side": side, "verdict": "dropped", "reason": reason, "outputs": []})
}

#[test]
fn packets_of_both_sides_cross_byte_for_byte_in_frames_and_without() {
    let (four, six) = udp_packet(100);
    let from_six = udp_packet_v6(100, 64);
    // Up to 1,260 bytes there is no DF, and the identifications are the translator's, from 0.
    let payload = udp(100).0;
    let mut header = v4(IpNumber::UDP, &payload);
    (header.dont_fragment, header.identification, header.time_to_live) = (false, 0, 63);
    let becomes = v4_bytes(header, &payload);
    let times = [(1_700_000_000, 123_456), (1_700_000_000, 123_457)];
    for (link, frame) in [(ETHERNET, true), (RAW, false), (12, false), (14, false)] {
        let captured = |packets: [&[u8]; 2]| -> Vec<Captured> {
            let frame = |packet: &[u8]| match (frame, packet[0] >> 4) {
                (false, _) => packet.to_vec(),
                (true, 4) => [&MACS, &[0x08, 0x00][..], packet].concat(),
                (true, _) => [&MACS, &[0x86, 0xdd][..], packet].concat(),
            };
            times.into_iter().zip(packets.map(frame)).collect()
        };
        let place = Place::new(MAPS);
        let outcome = place.translate(&capture(link, &captured([&four, &from_six])));
        assert_eq!(outcome.packets, captured([&six, &becomes]), "link type {link}");
        assert_eq!(outcome.report, [crossed(1, "ipv4", "ipv6", &[1]), crossed(2, "ipv6", "ipv4", &[2])]);
        assert_eq!(
            outcome.summary,
            "overlane-engine: 2 packets read, 2 written; translated 2, answered 0, dropped 0, truncated 0\n"
        );
    }
}

#[test]
fn packet_with_df_that_is_too_big_comes_back_as_fragmentation_needed() {
    let config = format!("[uplink]\nmtu = 1400\n[translate]\ngateway = \"198.51.100.1\"{MAPS}");
    let (fits, becomes) = udp_packet(1400 - 48);
    let (large, _) = udp_packet(1400 - 47);
    let outcome = translate(&config, &[&fits, &large]);
    assert_eq!(outcome.report, [crossed(1, "ipv4", "ipv6", &[1]), answered(2, "ipv4", "packet_too_big", 2)]);
    // As much of the packet as makes 576 bytes (RFC 1812, 4.3.2.3).
    let error = icmp4(3, 4, 1380, &large[..576 - 28]);
    let mut header = v4(IpNumber::ICMP, &error);
    (header.source, header.destination) = ([198, 51, 100, 1], A4.octets());
    (header.identification, header.dscp) = (0, 0x30.try_into().unwrap());
    assert_eq!(outcome.bytes(), [becomes, v4_bytes(header, &error)]);
}

#[test]
fn large_packet_from_ipv6_comes_back_as_packet_too_big() {
    let own: Ipv6Addr = "fd00::a".parse().unwrap();
    let config = format!("[uplink]\naddress = \"{own}/64\"\n[translate]\nnode_mtu = 1300{MAPS}");
    let large = udp_packet_v6(1301 - 28, 64);
    let outcome = translate(&config, &[&udp_packet_v6(1300 - 28, 64), &large]);
    assert_eq!(outcome.report, [crossed(1, "ipv6", "ipv4", &[1]), answered(2, "ipv6", "packet_too_big", 2)]);
    assert_eq!(outcome.packets[0].1.len(), 1300);
    let error = icmp6((own, A6), 2, 0, 1320, &large[..1280 - 48]);
    let header = Ipv6Header {
        traffic_class: 0xc0,
        hop_limit: 64,
        source: own.octets(),
        destination: A6.octets(),
        ..v6(IpNumber::IPV6_ICMP, &error)
    };
    assert_eq!(outcome.packets[1].1, v6_bytes(&header, &error));
}

#[test]
fn large_packet_without_df_crosses_in_fragments() {
    let (four, six) = udp(2000);
    let mut header = v4(IpNumber::UDP, &four);
    header.dont_fragment = false;
    let outcome = translate(MAPS, &[&v4_bytes(header, &four)]);
    assert_eq!(outcome.report, [crossed(1, "ipv4", "ipv6", &[1, 2])]);
    // 1,448 bytes are the most behind both headers in 1,500.
    let part = |offset: usize, more: bool, part: &[u8]| {
        let field = (offset as u16 | u16::from(more)).to_be_bytes();
        let payload = [&[17, 0][..], &field, &[0, 0, 0, 7], part].concat();
        v6_bytes(&v6(IpNumber::IPV6_FRAGMENTATION_HEADER, &payload), &payload)
    };
    assert_eq!(outcome.bytes(), [part(0, true, &six[..1448]), part(1448, false, &six[1448..])]);
}

#[test]
fn fragments_cross_each_by_itself() {
    let (four, six) = udp(1000);
    let header = |offset, more, part: &[u8]| v4_bytes(fragment(v4(IpNumber::UDP, part), offset, more), part);
    // The later one comes first, and the other never.
    let outcome = translate(MAPS, &[&header(504, false, &four[504..]), &header(0, true, &four[..504])]);
    assert_eq!(outcome.report, [crossed(1, "ipv4", "ipv6", &[1]), crossed(2, "ipv4", "ipv6", &[2])]);
    let behind: Vec<&[u8]> = outcome.bytes().iter().map(|packet| &packet[48..]).collect();
    assert_eq!(behind, [&six[504..], &six[..504]]);
}

#[test]
fn what_goes_no_further_has_the_reason_that_metrics_have() {
    let (packet, _) = udp_packet(8);
    let to = |destination: [u8; 4]| {
        let payload = udp(8).0;
        let mut header = v4(IpNumber::UDP, &payload);
        header.destination = destination;
        v4_bytes(header, &payload)
    };
    let mut spoilt = packet.clone();
    spoilt[10] ^= 1;
    let arp = [&[0xff; 6][..], &MACS[6..], &[0x08, 0x06], &[0; 28]].concat();
    let outcome =
        translate(MAPS, &[&to([10, 0, 0, 1]), &to([10, 0, 0, 2]), &spoilt, &packet[..27], &[0x50; 40], &[]]);
    assert!(outcome.packets.is_empty());
    let reasons = ["no_mapping", "no_mapping", "ipv4_checksum", "frame_truncated"];
    let mut expected: Vec<_> =
        reasons.iter().zip(1..).map(|(why, index)| dropped(index, Some("ipv4"), why)).collect();
    expected.extend([dropped(5, None, "ethertype_unsupported"), dropped(6, None, "ethertype_unsupported")]);
    assert_eq!(outcome.report, expected);
    assert!(
        outcome.summary.ends_with(
            "dropped 6, truncated 0; reasons: frame_truncated 1, ethertype_unsupported 2, ipv4_checksum 1, no_mapping \
             2\n"
        ),
        "{}",
        outcome.summary
    );
    let outcome = Place::new(MAPS).translate(&capture(ETHERNET, &[((1, 0), arp), ((1, 0), MACS.to_vec())]));
    let expected = [dropped(1, None, "ethertype_unsupported"), dropped(2, None, "frame_truncated")];
    assert_eq!(outcome.report, expected);
}

#[test]
fn ttl_at_its_end_is_told_to_the_sender_on_either_side() {
    let own: Ipv6Addr = "fd00::a".parse().unwrap();
    let config = format!("[uplink]\naddress = \"{own}/64\"\n[translate]\ngateway = \"198.51.100.1\"{MAPS}");
    let payload = udp(8).0;
    let mut header = v4(IpNumber::UDP, &payload);
    header.time_to_live = 1;
    let (four, six) = (v4_bytes(header, &payload), udp_packet_v6(8, 1));
    let outcome = translate(&config, &[&four, &six]);
    assert_eq!(
        outcome.report,
        [answered(1, "ipv4", "ttl_exceeded", 1), answered(2, "ipv6", "hop_limit_exceeded", 2)]
    );
    let error = icmp4(11, 0, 0, &four);
    let mut header = v4(IpNumber::ICMP, &error);
    (header.source, header.destination) = ([198, 51, 100, 1], A4.octets());
    (header.identification, header.dscp) = (0, 0x30.try_into().unwrap());
    let error_v6 = icmp6((own, A6), 3, 0, 0, &six);
    let header_v6 = Ipv6Header {
        traffic_class: 0xc0,
        hop_limit: 64,
        source: own.octets(),
        destination: A6.octets(),
        ..v6(IpNumber::IPV6_ICMP, &error_v6)
    };
    assert_eq!(outcome.bytes(), [v4_bytes(header, &error), v6_bytes(&header_v6, &error_v6)]);
}

#[test]
fn icmp_error_crosses_with_the_packet_that_it_quotes() {
    // A says that what B sent reached no port.
    let (four, six) = udp(32);
    let mut quoted = v4(IpNumber::UDP, &four);
    (quoted.source, quoted.destination) = (B4.octets(), A4.octets());
    let error = icmp4(3, 3, 0, &v4_bytes(quoted, &four));
    let quoted = Ipv6Header {
        hop_limit: 64,
        source: B6.octets(),
        destination: A6.octets(),
        ..v6(IpNumber::UDP, &six)
    };
    let becomes = icmp6((A6, B6), 1, 4, 0, &v6_bytes(&quoted, &six));
    let outcome = translate(MAPS, &[&v4_bytes(v4(IpNumber::ICMP, &error), &error)]);
    assert_eq!(outcome.report, [crossed(1, "ipv4", "ipv6", &[1])]);
    assert_eq!(outcome.bytes(), [v6_bytes(&v6(IpNumber::IPV6_ICMP, &becomes), &becomes)]);
}
