//! ICMP errors: those that the engine sends, those that nodes and the substrate's routers send, and what is learned.

use crate::frames::{self, Transport, echo, shape, tcp, udp};
use crate::world::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4, icmpv6};
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::path_mtu::PathMtus;
use overlane_dataplane::translate::RouterSource;
use std::sync::Arc;

const LAYOUT: Layout = Layout::Slot64;
const ROUTER_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0xff, 0, 0, 0, 1);

/// An ICMPv4 error as a frame, taken apart; its checksums are right.
#[derive(Debug)]
pub(crate) struct Error4 {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) mac: (MacAddr, MacAddr),
    pub(crate) kind: Icmpv4Type,
    pub(crate) quote: Vec<u8>,
}

#[track_caller]
pub(crate) fn error4(frame: &[u8]) -> Error4 {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("{sliced:?}") };
    let Some(TransportSlice::Icmpv4(icmp)) = &sliced.transport else { panic!("{sliced:?}") };
    let header = ip.header().to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    assert_eq!(usize::from(header.total_len), frame.len() - 14);
    let message = &frame[14 + usize::from(ip.header().ihl()) * 4..];
    assert_eq!(icmp.icmp_type().calc_checksum(&message[8..]), icmp.checksum());
    let mac = |at: usize| MacAddr(frame[at..at + 6].try_into().unwrap());
    Error4 {
        source: header.source.into(),
        destination: header.destination.into(),
        mac: (mac(0), mac(6)),
        kind: icmp.icmp_type(),
        quote: message[8..].to_vec(),
    }
}

/// An ICMPv6 error as a packet's addresses, type and quote; its checksum is right.
#[track_caller]
pub(crate) fn error6(frame: &[u8]) -> (Ipv6Addr, Ipv6Addr, Icmpv6Type, Vec<u8>) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("{sliced:?}") };
    let Some(TransportSlice::Icmpv6(icmp)) = &sliced.transport else { panic!("{sliced:?}") };
    let (source, destination) = (ip.header().source(), ip.header().destination());
    assert!(icmp.is_checksum_valid(source, destination));
    let quote = frame[14 + 40 + 8..].to_vec();
    (source.into(), destination.into(), icmp.icmp_type(), quote)
}

/// An ICMPv6 message of a router about a packet (without its Ethernet header), for the packet's source.
pub(crate) fn router_says(host: usize, kind: Icmpv6Type, quoted: &[u8]) -> Vec<u8> {
    let to = Ipv6Addr::from(<[u8; 16]>::try_from(&quoted[8..24]).unwrap());
    router_says_to(host, (ROUTER_ADDRESS, to), kind, quoted)
}

pub(crate) fn router_says_to(
    host: usize,
    ends: (Ipv6Addr, Ipv6Addr),
    kind: Icmpv6Type,
    quoted: &[u8],
) -> Vec<u8> {
    let (source, destination) = (ends.0.octets(), ends.1.octets());
    let icmp = etherparse::Icmpv6Header::with_checksum(kind, source, destination, quoted).unwrap();
    let payload = [&icmp.to_bytes()[..], quoted].concat();
    frames::from_substrate(host, ends, Transport::Other { number: 58, payload })
}

pub(crate) const TIME_EXCEEDED: Icmpv6Type =
    Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded);

pub(crate) const fn too_big(mtu: u32) -> Icmpv6Type {
    Icmpv6Type::PacketTooBig { mtu }
}

/// A frame of Alice's and what leaves her host for it.
fn sent_by_alice(here: &mut Engine, transport: Transport) -> (Vec<u8>, Vec<u8>) {
    let frame = frames::to_node(&ALICE, &BOB, transport);
    let sent = here.receive(ALICE.port, &frame).only();
    (frame, sent.bytes)
}

#[test]
fn packet_whose_ttl_ends_is_answered_by_the_gateway() {
    for (ttl, through) in [(1, BOB.ipv4), (0, BOB.ipv4), (1, GATEWAY)] {
        let mut packet = shape(&ALICE, &BOB, udp(b"traceroute"));
        packet.ttl = ttl;
        let frame = frames::ipv4(dummy(7, through), ALICE.mac(), &packet);
        let mut here = Engine::new(LAYOUT, 0);
        let outcome = here.receive(ALICE.port, &frame);
        assert_eq!((outcome.sent.len(), outcome.dropped(), outcome.answers()), (1, 1, 1));
        assert_eq!(outcome.counted["node1 drop ttl_exceeded"], 1);
        assert_eq!(outcome.sent[0].port, ALICE.port);
        let error = error4(&outcome.sent[0].bytes);
        assert_eq!((error.source, error.destination), (GATEWAY, ALICE.ipv4));
        assert_eq!(error.mac, (ALICE.mac(), dummy(7, GATEWAY)));
        assert_eq!(error.kind, Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit));
        assert_eq!(error.quote, frame[14..]);
    }
}

#[test]
fn hop_limit_that_ends_here_is_answered_from_the_engines_own_address() {
    let mut there = Engine::new(LAYOUT, 1);
    let own = Ipv6Addr::new(0xfd00, 0, 0, 0xff, 0, 0, 0, 0xb);
    there.change_uplink(|uplink| uplink.addresses.push(own));
    let ends = (address(LAYOUT, &ALICE), address(LAYOUT, &BOB));
    for hop_limit in [0, 1] {
        let mut frame = frames::from_substrate(1, ends, udp(b"traceroute"));
        frame[21] = hop_limit;
        let outcome = there.receive(UPLINK, &frame);
        assert_eq!((outcome.sent.len(), outcome.counted["vnet 7 drop hop_limit_exceeded"]), (1, 1));
        let (source, destination, kind, quote) = error6(&outcome.sent[0].bytes);
        assert_eq!((source, destination, kind, outcome.sent[0].port), (own, ends.0, TIME_EXCEEDED, UPLINK));
        assert_eq!(quote, frame[14..]);
    }
}

#[test]
fn packet_that_may_not_be_cut_and_does_not_fit_is_told_the_mtu() {
    for (to, mtu) in [(&BOB, UPLINK_MTU - 20), (&ANNA, NODE_MTU)] {
        let mut here = Engine::new(LAYOUT, 0);
        let frame = frames::to_node(&ALICE, to, udp(&vec![7; 1453]));
        let outcome = here.receive(ALICE.port, &frame);
        assert_eq!(outcome.counted["node1 drop packet_too_big"], 1);
        let error = error4(&outcome.sent[0].bytes);
        let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
        assert_eq!(error.kind, Icmpv4Type::DestinationUnreachable(needed));
        assert_eq!(error.quote, frame[14..][..548], "as much as fits into 576 bytes");
    }
    let mut there = Engine::new(LAYOUT, 1);
    let ends = (address(LAYOUT, &ALICE), address(LAYOUT, &BOB));
    let frame = frames::from_substrate(1, ends, udp(&[7; 1453]));
    let outcome = there.receive(UPLINK, &frame);
    assert_eq!(outcome.counted["vnet 7 drop packet_too_big"], 1);
    let (source, destination, kind, quote) = error6(&outcome.sent[0].bytes);
    assert_eq!((source, destination), (ends.1, ends.0), "the node's limit is told in its name");
    assert_eq!((kind, quote.as_slice()), (too_big(1500), &frame[14..][..1232]));
    // And that is what the sender gets to hear.
    let mut here = Engine::new(LAYOUT, 0);
    let mut back = outcome.sent[0].bytes.clone();
    back[0..6].copy_from_slice(&uplink_mac(0).0);
    let outcome = here.receive(UPLINK, &back);
    assert_eq!(outcome.path_mtus, [], "it says nothing of the path");
    let error = error4(&outcome.only().bytes);
    let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1480 };
    assert_eq!(error.kind, Icmpv4Type::DestinationUnreachable(needed));
    assert_eq!((error.source, error.destination), (BOB.ipv4, ALICE.ipv4));
}

#[test]
fn live_source_route_and_routing_header_are_answered() {
    let mut routed = shape(&ALICE, &BOB, udp(b""));
    routed.options = vec![131, 7, 4, 10, 0, 0, 9, 0];
    let frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &routed);
    let outcome = Engine::new(LAYOUT, 0).receive(ALICE.port, &frame);
    let error = error4(&outcome.sent[0].bytes);
    let failed = icmpv4::DestUnreachableHeader::SourceRouteFailed;
    assert_eq!(error.kind, Icmpv4Type::DestinationUnreachable(failed));
    assert_eq!(error.quote, frame[14..]);

    let ends = (address(LAYOUT, &ALICE), address(LAYOUT, &BOB));
    let payload = vec![17, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 0, 8, 0xff, 0xff];
    let frame = frames::from_substrate(1, ends, Transport::Other { number: 43, payload });
    let outcome = Engine::new(LAYOUT, 1).receive(UPLINK, &frame);
    assert_eq!(outcome.counted["vnet 7 drop routing_header_live"], 1);
    let (_, _, kind, quote) = error6(&outcome.sent[0].bytes);
    let code = icmpv6::ParameterProblemCode::ErroneousHeaderField;
    assert_eq!(kind, Icmpv6Type::ParameterProblem(icmpv6::ParameterProblemHeader { code, pointer: 43 }));
    assert_eq!(quote, frame[14..]);
}

#[test]
fn errors_fragments_and_spoofed_packets_are_never_answered() {
    let mut here = Engine::new(LAYOUT, 0);
    let mut silent = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = frames::to_node(&ALICE, &BOB, udp(b"12345678"));
        frame[22] = 1;
        change(&mut frame);
        fix_ipv4_checksum(&mut frame);
        let outcome = here.receive(ALICE.port, &frame);
        assert_eq!((outcome.sent.len(), outcome.dropped()), (0, 1), "{outcome:?}");
    };
    silent(&|frame| (frame[23], frame[34]) = (1, 3));
    silent(&|frame| frame[26..30].copy_from_slice(&ANNA.ipv4.octets()));
    silent(&|frame| frame[6..12].copy_from_slice(&ANNA.mac().0));
}

#[test]
fn engine_answers_no_faster_than_its_limit() {
    let mut here = Engine::new(LAYOUT, 0);
    let mut packet = shape(&ALICE, &BOB, udp(b""));
    packet.ttl = 1;
    let frame = frames::ipv4(BOB.dummy(), ALICE.mac(), &packet);
    let answered = |here: &mut Engine, times: usize| {
        (0..times).map(|_| here.receive(ALICE.port, &frame)).map(|outcome| outcome.answers()).sum::<usize>()
    };
    let burst = answered(&mut here, 10_000);
    assert!((1..10_000).contains(&burst), "{burst}");
    assert_eq!(answered(&mut here, 10), 0);
    // Another interface has a limit of its own.
    let mut packet = shape(&ANNA, &BOB, udp(b""));
    packet.ttl = 1;
    let anna = frames::ipv4(BOB.dummy(), ANNA.mac(), &packet);
    assert_eq!(here.receive(ANNA.port, &anna).answers(), 1);
    here.clock.advance(Duration::from_secs(3600));
    assert_eq!(answered(&mut here, 10_000), burst);
}

#[test]
fn routers_errors_come_from_the_gateway_or_the_pool() {
    let mut here = Engine::new(LAYOUT, 0);
    let (frame, sent) = sent_by_alice(&mut here, udp(b"traceroute"));
    let says = router_says(0, TIME_EXCEEDED, &sent[14..]);
    let error = error4(&here.receive(UPLINK, &says).only().bytes);
    assert_eq!((error.source, error.destination), (GATEWAY, ALICE.ipv4));
    assert_eq!(error.mac, (ALICE.mac(), dummy(7, GATEWAY)));
    assert_eq!(error.kind, Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit));
    // What is quoted is what Alice sent, as far as it survives: identification and DF do not, and the TTL is lower.
    assert_eq!(error.quote[12..], frame[14 + 12..]);
    assert_eq!(error.quote[2..4], frame[16..18]);

    here.snapshot.translate.router_source = RouterSource::Pool("192.0.0.0/29".parse().unwrap());
    let error = error4(&here.receive(UPLINK, &says).only().bytes);
    assert_eq!(error.source.octets()[..3], [192, 0, 0]);
    assert_eq!(error.mac, (ALICE.mac(), dummy(7, GATEWAY)));
}

#[test]
fn path_mtu_is_learned_from_routers_and_used() {
    let mut here = Engine::new(LAYOUT, 0);
    let (_, sent) = sent_by_alice(&mut here, tcp(&[7; 1400]));
    let outcome = here.receive(UPLINK, &router_says(0, too_big(1300), &sent[14..]));
    let bob = prefix(LAYOUT, 1);
    assert_eq!(outcome.path_mtus, [(bob, 1300)]);
    let error = error4(&outcome.only().bytes);
    let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1280 };
    assert_eq!(error.kind, Icmpv4Type::DestinationUnreachable(needed.clone()));
    let outcome = here.receive(UPLINK, &router_says(0, too_big(600), &sent[14..]));
    assert_eq!(outcome.path_mtus, [(bob, 1280)], "no link carries less");
    let mut says = router_says(0, too_big(1400), &sent[14..]);
    // One more in the code, one less in the checksum.
    says[55] += 1;
    let checksum = u16::from_be_bytes([says[56], says[57]]) - 1;
    says[56..58].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(here.receive(UPLINK, &says).path_mtus, [(bob, 1400)], "receivers ignore the code");

    let mut paths = PathMtus::default();
    paths.insert(bob, 1300);
    here.snapshot.path_mtus = Arc::new(paths);
    // 40 for IPv6, 8 for UDP.
    here.receive(ALICE.port, &frames::to_node(&ALICE, &BOB, udp(&[7; 1252]))).only();
    let outcome = here.receive(ALICE.port, &frames::to_node(&ALICE, &BOB, udp(&[7; 1253])));
    assert_eq!(error4(&outcome.sent[0].bytes).kind, Icmpv4Type::DestinationUnreachable(needed));
}

#[test]
fn routers_are_believed_only_about_what_was_sent() {
    let mut here = Engine::new(LAYOUT, 0);
    let (_, sent) = sent_by_alice(&mut here, udp(b"12345678"));
    let quoted = &sent[14..];
    let mut refuses = |frame: &[u8], reason| {
        let outcome = here.receive(UPLINK, frame);
        assert_eq!(outcome.counted.get(&format!("vnet 7 drop {reason}")), Some(&1), "{outcome:?}");
        assert_eq!(outcome.path_mtus, []);
    };
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut quoted = quoted.to_vec();
        change(&mut quoted);
        quoted
    };
    let alice = address(LAYOUT, &ALICE);
    let says = |quoted: &[u8]| router_says_to(0, (ROUTER_ADDRESS, alice), too_big(1300), quoted);
    // Anna's packet, one to nobody, to another vnet, to a node that is down, to where Bob does not live.
    refuses(&says(&changed(&|quoted| quoted[23] ^= 1)), "icmp_quote_foreign");
    refuses(&says(&changed(&|quoted| quoted[39] = 200)), "icmp_quote_foreign");
    refuses(&says(&changed(&|quoted| quoted[35] = 9)), "icmp_quote_foreign");
    refuses(&says(&changed(&|quoted| quoted[39] = 99)), "icmp_quote_foreign");
    refuses(&says(&changed(&|quoted| quoted[32] ^= 4)), "icmp_quote_foreign");
    refuses(&says(&changed(&|quoted| quoted[31] ^= 1)), "icmp_quote_foreign");
    // Less than an IPv6 header, and none.
    refuses(&says(&quoted[..39]), "icmp_quote_invalid");
    refuses(&says(&changed(&|quoted| quoted[0] = 0x45)), "icmp_quote_invalid");
    // Not an error, or from this very host.
    let request = frames::from_substrate(0, (ROUTER_ADDRESS, alice), echo(b""));
    refuses(&request, "src_address_invalid");
    let own = router_says_to(0, (address(LAYOUT, &ANNA), alice), too_big(1300), quoted);
    refuses(&own, "src_own_prefix");
}

#[test]
fn routers_are_heard_no_more_often_than_the_limit() {
    let mut here = Engine::new(LAYOUT, 0);
    let (_, sent) = sent_by_alice(&mut here, udp(b"12345678"));
    let says = router_says(0, TIME_EXCEEDED, &sent[14..]);
    let through = (0..10_000).filter(|_| !here.receive(UPLINK, &says).sent.is_empty()).count();
    assert!((1..10_000).contains(&through), "{through}");
    here.refuses(UPLINK, &says, "vnet 7", DropReason::IcmpRateLimited);
    here.clock.advance(Duration::from_secs(3600));
    assert_eq!(here.receive(UPLINK, &says).sent.len(), 1);
}

#[test]
fn nodes_errors_cross_with_their_quoted_packets() {
    let [mut here, mut there] = world(LAYOUT);
    let question = frames::to_node(&ALICE, &BOB, udp(b"is anybody there?"));
    let mut crossing = here.receive(ALICE.port, &question).only().bytes;
    crossing[0..6].copy_from_slice(&uplink_mac(1).0);
    let arrived = there.receive(UPLINK, &crossing).only().bytes;
    // Bob's stack says that nobody is, and quotes what it got.
    let quoted = &arrived[14..];
    let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let icmp = etherparse::Icmpv4Header::with_checksum(kind, quoted);
    let payload = [&icmp.to_bytes()[..], quoted].concat();
    let answer = frames::to_node(&BOB, &ALICE, Transport::Other { number: 1, payload });
    let mut crossing = there.receive(BOB.port, &answer).only().bytes;
    let (source, destination, kind, quote) = error6(&crossing);
    assert_eq!((source, destination), (address(LAYOUT, &BOB), address(LAYOUT, &ALICE)));
    assert_eq!(kind, Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port));
    assert_eq!(quote[8..24], address(LAYOUT, &ALICE).octets());
    assert_eq!(quote[24..40], address(LAYOUT, &BOB).octets());
    crossing[0..6].copy_from_slice(&uplink_mac(0).0);
    let back = here.receive(UPLINK, &crossing).only().bytes;
    let error = error4(&back);
    assert_eq!((error.source, error.destination), (BOB.ipv4, ALICE.ipv4));
    assert_eq!(error.quote[12..], question[14 + 12..]);
}
