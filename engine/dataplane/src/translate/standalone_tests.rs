use super::*;
use crate::buffer::{HeapPacket, HeapPool};
use crate::translate::RouterSource;
use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, PayloadSlice, TransportHeader};

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 9);
const SERVER: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0x0221);

fn options() -> Options {
    let mut options = Options::default();
    for (ipv4, ipv6) in [("198.51.100.0/24", "2001:db8:1::/120"), ("0.0.0.0/0", "64:ff9b::/96")] {
        options.map.insert(ipv4.parse().unwrap(), ipv6.parse().unwrap()).unwrap();
    }
    options
}

type Emitted = Vec<(Side, Vec<u8>)>;

/// What came of a packet.
fn translate(options: Options, frame: &[u8]) -> (Result<(), DropReason>, Emitted) {
    let (pool, mut out) = (HeapPool::default(), Vec::new());
    let mut emit =
        |side, packet: HeapPacket| out.push((side, packet.segments().flatten().copied().collect()));
    let result =
        Translator::new(options).translate(&pool, pool.packet(frame).unwrap(), &mut |_| true, &mut emit);
    assert_eq!(pool.outstanding(), 0);
    (result, out)
}

fn udp6(source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv6(source.octets(), destination.octets(), hop_limit)
        .udp(4000, 53)
        .write(&mut frame, b"question")
        .unwrap();
    frame
}

fn udp4(source: [u8; 4], destination: [u8; 4], length: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv4(source, destination, 64)
        .udp(53, 4000)
        .write(&mut frame, &vec![0xa5; length])
        .unwrap();
    // etherparse sets DF.
    frame[20] &= !0x40;
    let header = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap().0;
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    frame
}

/// Checks a UDP packet's checksum, and gives its addresses as text.
fn ends(frame: &[u8]) -> String {
    let parsed = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let Some(etherparse::LinkHeader::Ethernet2(link)) = parsed.link else { panic!("Ethernet") };
    assert_eq!((link.source, link.destination), MACS);
    let PayloadSlice::Udp(payload) = parsed.payload else { panic!("UDP") };
    let Some(TransportHeader::Udp(udp)) = parsed.transport else { panic!("UDP") };
    match parsed.net.unwrap() {
        NetHeaders::Ipv4(header, _) => {
            assert_eq!(udp.calc_checksum_ipv4(&header, payload).unwrap(), udp.checksum);
            format!("{} {}", Ipv4Addr::from(header.source), Ipv4Addr::from(header.destination))
        }
        NetHeaders::Ipv6(header, _) => {
            assert_eq!(udp.calc_checksum_ipv6(&header, payload).unwrap(), udp.checksum);
            format!("{} {}", Ipv6Addr::from(header.source), Ipv6Addr::from(header.destination))
        }
        NetHeaders::Arp(_) => panic!("ARP"),
    }
}

#[test]
fn packets_cross_between_prefixes_with_right_checksums() {
    let (result, out) = translate(options(), &udp6(CLIENT, SERVER, 64));
    assert_eq!((result, out[0].0, out.len()), (Ok(()), Side::Ipv4, 1));
    assert_eq!(ends(&out[0].1), "198.51.100.9 192.0.2.33");
    let (result, out) = translate(options(), &udp4([192, 0, 2, 33], [198, 51, 100, 9], 100));
    assert_eq!((result, out[0].0, out.len()), (Ok(()), Side::Ipv6, 1));
    assert_eq!(ends(&out[0].1), "64:ff9b::c000:221 2001:db8:1::9");
}

#[test]
fn packet_without_df_is_cut_at_the_lowest_mtu() {
    let mut options = options();
    options.settings.lowest_ipv6_mtu = Some(1280);
    let (result, out) = translate(options, &udp4([192, 0, 2, 33], [198, 51, 100, 9], 1400));
    assert_eq!(result, Ok(()));
    let lengths: Vec<_> = out.iter().map(|(side, bytes)| (*side, bytes.len() - ethernet::LENGTH)).collect();
    assert_eq!(lengths, [(Side::Ipv6, 1280), (Side::Ipv6, 48 + 1408 - 1232)]);
}

#[test]
fn whoever_is_not_in_the_table_is_named_by_side_and_end() {
    let mut options = options();
    options.map = AddressMap::default();
    let network = |text: &str| text.parse().unwrap();
    options.map.insert(network("198.51.100.0/24"), "2001:db8:1::/120".parse().unwrap()).unwrap();
    let refused = |frame: &[u8]| translate(options.clone(), frame);
    let (known, unknown) = ([198, 51, 100, 9], [192, 0, 2, 33]);
    assert_eq!(refused(&udp4(known, unknown, 1)), (Err(DropReason::NoMapping), vec![]));
    assert_eq!(refused(&udp4(unknown, known, 1)), (Err(DropReason::SrcUnknownNode), vec![]));
    assert_eq!(refused(&udp6(CLIENT, SERVER, 64)), (Err(DropReason::DstUnknownNode), vec![]));
    assert_eq!(refused(&udp6(SERVER, CLIENT, 64)), (Err(DropReason::SrcUnknownNode), vec![]));
    let mut arp = udp4(known, known, 1);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(refused(&arp), (Err(DropReason::EthertypeUnsupported), vec![]));
    assert_eq!(refused(&arp[..13]), (Err(DropReason::FrameTruncated), vec![]));
}

#[test]
fn sender_hears_from_the_translator_itself_or_from_where_the_packet_was_going() {
    let own = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    for (own_ipv4, own_ipv6) in [(None, None), (Some(own.0), Some(own.1))] {
        let options = Options { own_ipv4, own_ipv6, ..options() };
        let (result, out) = translate(options.clone(), &udp6(CLIENT, SERVER, 1));
        assert_eq!((result, out[0].0, out.len()), (Err(DropReason::HopLimitExceeded), Side::Ipv6, 1));
        let answer = &out[0].1;
        assert_eq!((&answer[..6], &answer[6..12]), (&MACS.0[..], &MACS.1[..]));
        assert_eq!(answer[22..38], own_ipv6.unwrap_or(SERVER).octets());
        assert_eq!(answer[38..54], CLIENT.octets());
        assert_eq!(answer[54..56], [3, 0]);

        let mut frame = udp4([192, 0, 2, 33], [198, 51, 100, 9], 1);
        (frame[22], frame[24]) = (1, frame[24].wrapping_add(63));
        let (result, out) = translate(options, &frame);
        assert_eq!((result, out[0].0, out.len()), (Err(DropReason::TtlExceeded), Side::Ipv4, 1));
        let answer = &out[0].1;
        assert_eq!(answer[26..30], own_ipv4.unwrap_or(Ipv4Addr::new(198, 51, 100, 9)).octets());
        assert_eq!(answer[30..34], [192, 0, 2, 33]);
        assert_eq!(answer[34..36], [11, 0]);
    }
}

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);

/// A router's error about what the server sent to the client, which so comes back to the server.
fn routers_error() -> Vec<u8> {
    let quoted = udp6(SERVER, CLIENT, 1);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv6(ROUTER.octets(), SERVER.octets(), 64)
        .icmpv6(etherparse::Icmpv6Type::TimeExceeded(etherparse::icmpv6::TimeExceededCode::HopLimitExceeded))
        .write(&mut frame, &quoted[14..])
        .unwrap();
    frame
}

#[test]
fn errors_are_made_and_taken_from_routers_only_with_leave() {
    let mut low = udp4([192, 0, 2, 33], [198, 51, 100, 9], 1);
    (low[22], low[24]) = (1, low[24].wrapping_add(63));
    for (frame, side, reason) in [
        (low, Side::Ipv4, DropReason::TtlExceeded),
        (udp6(CLIENT, SERVER, 1), Side::Ipv6, DropReason::HopLimitExceeded),
        (routers_error(), Side::Ipv6, DropReason::IcmpRateLimited),
    ] {
        for leave in [true, false] {
            let (pool, mut asked, mut emitted) = (HeapPool::default(), Vec::new(), 0);
            let mut allowed = |side| {
                asked.push(side);
                leave
            };
            let packet = pool.packet(&frame).unwrap();
            let result = Translator::new(options())
                .translate(&pool, packet, &mut allowed, &mut |_, _| emitted += 1usize);
            assert_eq!((asked, emitted), (vec![side], usize::from(leave)));
            let passes = leave && reason == DropReason::IcmpRateLimited;
            assert_eq!(result, if passes { Ok(()) } else { Err(reason) });
        }
    }
}

#[test]
fn error_of_a_router_that_is_not_in_the_table_gets_an_address() {
    let frame = routers_error();
    let own = Ipv4Addr::new(192, 0, 2, 1);
    let pool = "203.0.113.8/32".parse().unwrap();
    for (router_source, own_ipv4, source) in [
        (RouterSource::Gateway, None, [198, 51, 100, 9]),
        (RouterSource::Gateway, Some(own), own.octets()),
        (RouterSource::Pool(pool), Some(own), [203, 0, 113, 8]),
    ] {
        let mut options = Options { own_ipv4, ..options() };
        options.settings.router_source = router_source;
        let (result, out) = translate(options, &frame);
        assert_eq!((result, out[0].0, out.len()), (Ok(()), Side::Ipv4, 1));
        assert_eq!(out[0].1[26..30], source);
        // The error, and the quoted packet's ends.
        assert_eq!(out[0].1[34..36], [11, 0]);
        assert_eq!(out[0].1[54..62], [192, 0, 2, 33, 198, 51, 100, 9]);
    }
    // Nothing but an error has that way in.
    let (result, _) = translate(options(), &udp6(ROUTER, SERVER, 64));
    assert_eq!(result, Err(DropReason::SrcUnknownNode));
}
