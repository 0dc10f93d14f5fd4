//! Each key of the configuration has its effect.

use super::command::{MAPS, Outcome, Place, RAW, capture, translate};
use super::packets::*;
use core::net::Ipv4Addr;
use etherparse::{IpNumber, Ipv6Header};
use std::fs;

fn with(keys: &str, packets: &[&[u8]]) -> Outcome {
    translate(&format!("{keys}\n{MAPS}"), packets)
}

/// An error of a router on the IPv6 side that is in no map, about what A sent to B.
fn routers_error() -> Vec<u8> {
    let router = "fd00::fe".parse().unwrap();
    let error = icmp6((router, A6), 3, 0, 0, &udp_packet_v6(8, 1));
    let header =
        Ipv6Header { source: router.octets(), destination: A6.octets(), ..v6(IpNumber::IPV6_ICMP, &error) };
    v6_bytes(&header, &error)
}

/// The first packet's source.
fn source_v4(outcome: &Outcome) -> Ipv4Addr {
    Ipv4Addr::from(<[u8; 4]>::try_from(&outcome.packets[0].1[12..16]).unwrap())
}

#[test]
fn traffic_class_is_copied_or_zero() {
    let payload = udp(8).0;
    let mut header = v4(IpNumber::UDP, &payload);
    header.dscp = 0x2e.try_into().unwrap();
    let packet = v4_bytes(header, &payload);
    for (value, class) in [("copy", 0xb8), ("zero", 0)] {
        let outcome = with(&format!("[translate]\ntraffic_class = \"{value}\""), &[&packet]);
        let first = u16::from_be_bytes(outcome.packets[0].1[..2].try_into().unwrap());
        assert_eq!(first >> 4 & 0xff, class, "{value}");
    }
}

#[test]
fn udp_without_checksum_gets_one_or_is_dropped() {
    let (mut payload, _) = udp(8);
    payload[6..8].fill(0);
    let packet = v4_bytes(v4(IpNumber::UDP, &payload), &payload);
    let outcome = with("[translate]\nudp_without_checksum = \"compute\"", &[&packet]);
    assert_eq!(outcome.bytes(), [udp_packet(8).1]);
    let outcome = with("[translate]\nudp_without_checksum = \"drop\"", &[&packet]);
    assert_eq!(outcome.verdicts(), [("dropped", Some("udp_checksum_zero"))]);
}

#[test]
fn lowest_ipv6_mtu_is_the_uplinks_or_as_told() {
    let payload = udp(1400).0;
    let mut header = v4(IpNumber::UDP, &payload);
    header.dont_fragment = false;
    let packet = v4_bytes(header, &payload);
    for (value, lengths) in [("\"path\"", vec![1448]), ("1280", vec![1280, 224]), ("1400", vec![1400, 104])] {
        let outcome = with(&format!("[translate]\nlowest_ipv6_mtu = {value}"), &[&packet]);
        assert_eq!(outcome.bytes().iter().map(|packet| packet.len()).collect::<Vec<_>>(), lengths, "{value}");
    }
}

#[test]
fn fragments_of_icmp_are_carried_or_dropped() {
    let message = icmp4(8, 0, 1, &data(64));
    let header = fragment(v4(IpNumber::ICMP, &message[..40]), 0, true);
    let packet = v4_bytes(header, &message[..40]);
    for (value, verdict) in [("carry", ("translated", None)), ("drop", ("dropped", Some("fragment_icmp")))] {
        let outcome = with(&format!("[translate]\nfragmented_icmp = \"{value}\""), &[&packet]);
        assert_eq!(outcome.verdicts(), [verdict]);
    }
}

#[test]
fn router_has_the_gateways_address_or_one_of_a_pool() {
    let error = routers_error();
    let gateway = "[translate]\ngateway = \"198.51.100.1\"\n";
    for (keys, source) in [
        // Where the quoted packet was going.
        (String::new(), B4),
        (gateway.to_owned(), Ipv4Addr::new(198, 51, 100, 1)),
        (format!("{gateway}router_source = \"gateway\""), Ipv4Addr::new(198, 51, 100, 1)),
        (format!("{gateway}router_source = \"203.0.113.8/32\""), Ipv4Addr::new(203, 0, 113, 8)),
    ] {
        let outcome = with(&keys, &[&error]);
        assert_eq!((outcome.verdicts(), source_v4(&outcome)), (vec![("translated", None)], source), "{keys}");
    }
}

#[test]
fn mss_is_lowered_if_asked() {
    let mss = |keys: &str| {
        let outcome = with(keys, &[&syn(9000)]);
        u16::from_be_bytes(outcome.packets[0].1[62..64].try_into().unwrap())
    };
    assert_eq!(mss("[translate]\ntcp_mss_clamp = false"), 9000);
    // 60 bytes of headers.
    assert_eq!(mss("[translate]\ntcp_mss_clamp = true"), 1440);
    assert_eq!(mss("[uplink]\nmtu = 1400\n[translate]\ntcp_mss_clamp = true"), 1340);
}

#[test]
fn mtus_bound_what_crosses() {
    let (four, six) = (udp_packet(1300).0, udp_packet_v6(1300, 64));
    let verdicts = |keys: &str| {
        let outcome = with(keys, &[&four, &six]);
        outcome.verdicts().iter().map(|(_, reason)| reason.is_none()).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(""), [true, true]);
    // The node's is 20 less unless told.
    assert_eq!(verdicts("[uplink]\nmtu = 1347"), [false, false]);
    assert_eq!(verdicts("[uplink]\nmtu = 1348"), [true, true]);
    assert_eq!(verdicts("[uplink]\nmtu = 1347\n[translate]\nnode_mtu = 1328"), [false, true]);
    assert_eq!(verdicts("[translate]\nnode_mtu = 1327"), [true, false]);
}

#[test]
fn errors_come_from_the_translators_own_addresses_or_from_where_the_packet_was_going() {
    let payload = udp(8).0;
    let mut header = v4(IpNumber::UDP, &payload);
    header.time_to_live = 1;
    let (four, six) = (v4_bytes(header, &payload), udp_packet_v6(8, 1));
    for (keys, source, source_v6) in [
        ("", B4, B6),
        ("[uplink]\naddress = \"auto\"", B4, B6),
        (
            "[uplink]\naddress = \"fd00::a/64\"\ngateway = \"fd00::1\"\n[translate]\ngateway = \"198.51.100.1\"",
            Ipv4Addr::new(198, 51, 100, 1),
            "fd00::a".parse().unwrap(),
        ),
    ] {
        let outcome = with(keys, &[&four, &six]);
        assert_eq!(source_v4(&outcome), source, "{keys}");
        assert_eq!(outcome.packets[1].1[8..24], source_v6.octets(), "{keys}");
    }
}

#[test]
fn icmp_errors_are_limited_by_the_time_of_the_capture() {
    let packet = udp_packet_v6(8, 1);
    let at = |millionths| ((1, millionths), packet.clone());
    let place = Place::new(&format!("[icmp]\nrate = 2\nburst = 2{MAPS}"));
    let outcome =
        place.translate(&capture(RAW, &[at(0), at(1), at(2), at(499_999), at(500_000), at(500_001)]));
    let verdicts: Vec<&str> = outcome.verdicts().iter().map(|(verdict, _)| *verdict).collect();
    assert_eq!(verdicts, ["answered", "answered", "dropped", "dropped", "answered", "dropped"]);
    let limited: Vec<bool> = outcome.report.iter().map(|line| line["limited"] == true).collect();
    assert_eq!(limited, [false, false, true, true, false, true]);
    assert!(
        outcome.summary.ends_with("; 3 ICMP errors kept back by [icmp] rate and burst\n"),
        "{}",
        outcome.summary
    );
    // The other side has its own share, and routers share that of their side.
    let (error, mut low) = (routers_error(), udp_packet(8).0);
    (low[8], low[10]) = (1, low[10].wrapping_add(63));
    let packets = [&error, &error, &error, &low].map(|packet| ((1, 0), packet.clone()));
    let outcome = place.translate(&capture(RAW, &packets));
    assert_eq!(
        outcome.verdicts(),
        [
            ("translated", None),
            ("translated", None),
            ("dropped", Some("icmp_rate_limited")),
            ("answered", Some("ttl_exceeded"))
        ]
    );
}

#[test]
fn without_maps_addresses_are_those_of_a_network_of_a_site() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conf/static.toml");
    let payload = udp(8).0;
    let mut header = v4(IpNumber::UDP, &payload);
    (header.source, header.destination) = ([10, 0, 0, 5], [10, 0, 0, 6]);
    let packet = v4_bytes(header, &payload);
    let config = |network: &str| {
        format!("[engine]\nhost = \"host-a\"\n[provisioning]\nfile = {sample:?}\n[translate]\n{network}")
    };
    for (network, source, destination) in [
        ("red", "fd00:0:0:a:0:7:a00:5", "fd00:0:0:b:0:7:a00:6"),
        ("blue", "fd00:0:0:a:400:8:a00:5", "fd00:0:0:b:400:8:a00:6"),
    ] {
        let outcome = translate(&config(&format!("network = \"{network}\"")), &[&packet]);
        let expected =
            [source, destination].map(|text| text.parse::<core::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(outcome.packets[0].1[8..40], *expected.as_flattened());
        // And back.
        let back = translate(&config(&format!("network = \"{network}\"")), &[&outcome.packets[0].1]);
        assert_eq!(back.packets[0].1[12..20], [10, 0, 0, 5, 10, 0, 0, 6]);
    }
    // Errors come from the gateway, of which the network has one.
    let mut low = packet.clone();
    (low[8], low[10]) = (1, low[10].wrapping_add(63));
    let outcome = translate(&config("network = \"red\""), &[&low]);
    assert_eq!(source_v4(&outcome), Ipv4Addr::new(10, 0, 0, 1));

    let place = Place::new(&config(""));
    let (status, error) = place.fails(&capture(RAW, &[]));
    assert_eq!(status, Some(2));
    assert!(error.ends_with("must be said by [translate] network, as one of blue, red\n"), "{error}");
    fs::write(place.path("engine.toml"), format!("{}[substrate]\nlayout = \"plain72\"", config(""))).unwrap();
    let (status, error) = place.fails(&capture(RAW, &[]));
    assert_eq!(status, Some(2));
    assert!(error.ends_with("layout: must be plain72, as [substrate] layout says, not slot64\n"), "{error}");
}
