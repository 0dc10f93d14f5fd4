//! What comes in by each port of the test's host: good and bad, in more bursts than one.

use core::net::{Ipv4Addr, Ipv6Addr};
use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder,
    PacketBuilderStep, UdpHeader,
};
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::mac::MacAddr;

pub(crate) const VNET: u32 = 7;
pub(crate) const UPLINK: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
/// The nodes of this host, in slots 1 and 3.
pub(crate) const WEB: (MacAddr, Ipv4Addr) = (MacAddr([2, 0, 0, 0, 1, 1]), Ipv4Addr::new(10, 0, 0, 5));
pub(crate) const APP: (MacAddr, Ipv4Addr) = (MacAddr([2, 0, 0, 0, 1, 3]), Ipv4Addr::new(10, 0, 0, 7));
/// In slot 2 of host b.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
/// Longer than one buffer.
const LONG: usize = 3_000;
/// How often everything comes: some 200 frames by each port.
const ROUNDS: u16 = 20;

fn dummy(ipv4: Ipv4Addr) -> MacAddr {
    MacAddr::dummy(VnetId::new(VNET).unwrap(), ipv4)
}

fn from(node: (MacAddr, Ipv4Addr), to: Ipv4Addr, ttl: u8) -> PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2(node.0.0, dummy(to).0).ipv4(node.1.octets(), to.octets(), ttl)
}

fn udp(packet: PacketBuilderStep<etherparse::IpHeaders>, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    packet.udp(4_000, 53).write(&mut frame, payload).unwrap();
    frame
}

/// A frame with an IPv4 header as `change` makes it.
fn ipv4(node: (MacAddr, Ipv4Addr), payload: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let (source, destination) = (node.1.octets(), ELSEWHERE.octets());
    let mut header = Ipv4Header::new(payload.len() as u16, 64, IpNumber::UDP, source, destination).unwrap();
    change(&mut header);
    header.header_checksum = header.calc_header_checksum();
    let ethernet =
        Ethernet2Header { source: node.0.0, destination: dummy(ELSEWHERE).0, ether_type: EtherType::IPV4 };
    [&ethernet.to_bytes()[..], &header.to_bytes(), payload].concat()
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let header = UdpHeader::without_ipv4_checksum(4_000, 53, payload.len()).unwrap();
    [&header.to_bytes()[..], payload].concat()
}

pub(crate) fn from_web() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for round in 0..ROUNDS {
        let payload = |length: usize| vec![round as u8; length];
        for length in [0, 1, 100, 1_452] {
            frames.push(udp(from(WEB, ELSEWHERE, 64), &payload(length)));
        }
        let mut tcp = Vec::new();
        let packet = from(WEB, ELSEWHERE, 64).tcp(40_000, 80, u32::from(round), 65_535).syn();
        packet.options_raw(&[2, 4, 5, 0xb4]).unwrap().write(&mut tcp, &[]).unwrap();
        let mut echo = Vec::new();
        from(WEB, ELSEWHERE, 64).icmpv4_echo_request(7, round).write(&mut echo, &payload(56)).unwrap();
        frames.extend([tcp, echo]);
        // Without a checksum: it gets one.
        frames.push(ipv4(WEB, &datagram(&payload(30)), |_| {}));
        // In fragments, the second first.
        let mut whole = datagram(&payload(1_000));
        // A checksum, right or wrong: without one, fragments are dropped.
        whole[6..8].copy_from_slice(&[0x12, 0x34]);
        let (first, second) = whole.split_at(512);
        let part = |header: &mut Ipv4Header, offset: u16, more| {
            header.identification = round;
            header.dont_fragment = false;
            header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
            header.more_fragments = more;
        };
        frames.push(ipv4(WEB, second, |header| part(header, 64, false)));
        frames.push(ipv4(WEB, first, |header| part(header, 0, true)));
        // Too large for the uplink: one is cut, of the other the sender hears.
        frames.push(ipv4(WEB, &datagram(&payload(1_460)), |header| header.dont_fragment = false));
        frames.push(ipv4(WEB, &datagram(&payload(1_460)), |header| header.dont_fragment = true));
        // At its end; from somebody else's address; to nobody; to the node beside it; who has?
        frames.push(udp(from(WEB, ELSEWHERE, 1), b"late"));
        frames.push(udp(from((WEB.0, Ipv4Addr::new(10, 0, 0, 99)), ELSEWHERE, 64), b"spoofed"));
        frames.push(udp(from(WEB, Ipv4Addr::new(10, 0, 0, 98), 64), b"nobody"));
        frames.push(udp(from(WEB, APP.1, 64), &payload(200)));
        frames.push(who_has(WEB, ELSEWHERE));
        // Of several segments.
        frames.push(udp(from(WEB, ELSEWHERE, 64), &payload(LONG)));
    }
    frames
}

pub(crate) fn from_app() -> Vec<Vec<u8>> {
    let frame = |round: u16| udp(from(APP, WEB.1, 64), &vec![round as u8; 300]);
    (0..ROUNDS).map(frame).collect()
}

fn who_has(node: (MacAddr, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let ethernet =
        Ethernet2Header { source: node.0.0, destination: MacAddr::BROADCAST.0, ether_type: EtherType::ARP };
    let mut frame = ethernet.to_bytes().to_vec();
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(node.0.0);
    frame.extend(node.1.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    // Padded, as on a wire.
    frame.resize(60, 0);
    frame
}

/// The substrate address of `ipv4`, in `slot` of the host with that prefix.
fn substrate(prefix: &str, slot: u8, ipv4: Ipv4Addr) -> Ipv6Addr {
    let prefix = HostPrefix::parse(Layout::Slot64, prefix).unwrap();
    let vnet = VnetId::new(VNET).unwrap();
    Locator::new(Layout::Slot64, prefix, Slot::new(slot).unwrap(), vnet).unwrap().address(ipv4)
}

fn across(source: Ipv6Addr, destination: Ipv6Addr, hops: u8) -> PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2(ROUTER.0, UPLINK.0).ipv6(source.octets(), destination.octets(), hops)
}

pub(crate) fn from_uplink() -> Vec<Vec<u8>> {
    let other = substrate("fd00:0:0:b::/64", 2, ELSEWHERE);
    let (web, app) = (substrate("fd00:0:0:a::/64", 1, WEB.1), substrate("fd00:0:0:a::/64", 3, APP.1));
    let mut frames = Vec::new();
    for round in 0..ROUNDS {
        let payload = |length: usize| vec![round as u8; length];
        for length in [0, 1, 100, 1_452] {
            frames.push(udp(across(other, web, 60), &payload(length)));
            frames.push(udp(across(other, app, 60), &payload(length)));
        }
        let (mut tcp, mut echo) = (Vec::new(), Vec::new());
        across(other, web, 60).tcp(80, 40_000, 1, 65_535).ack(2).write(&mut tcp, &payload(700)).unwrap();
        across(other, web, 60).icmpv6_echo_request(7, round).write(&mut echo, &payload(56)).unwrap();
        frames.extend([tcp, echo]);
        // A fragment that is all of its datagram.
        frames.push(atomic(other, web, &payload(40)));
        // From another host than it lives on; from another slot; at its end; to the host itself.
        frames.push(udp(across(substrate("fd00:0:0:c::/64", 2, ELSEWHERE), web, 60), b"spoofed"));
        frames.push(udp(across(substrate("fd00:0:0:b::/64", 9, ELSEWHERE), web, 60), b"spoofed"));
        frames.push(udp(across(other, web, 1), b"late"));
        frames.push(udp(across(other, "fd00:0:0:a::1".parse().unwrap(), 60), b"hello"));
    }
    frames
}

fn atomic(source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header {
        payload_length: (8 + 8 + payload.len()) as u16,
        next_header: IpNumber::IPV6_FRAGMENTATION_HEADER,
        hop_limit: 60,
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv6Header::default()
    };
    let udp = UdpHeader::with_ipv6_checksum(4_000, 53, &header, payload).unwrap();
    let ethernet = Ethernet2Header { source: ROUTER.0, destination: UPLINK.0, ether_type: EtherType::IPV6 };
    let fragment = [17, 0, 0, 0, 0, 0, 0, 9];
    [&ethernet.to_bytes()[..], &header.to_bytes(), &fragment, &udp.to_bytes(), payload].concat()
}
