//! Virtual time, and frames built by hand: what a gateway and a forger would send.

use super::*;
use etherparse::PacketBuilder;
use proptest::prelude::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);
const OWN: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 1);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The machine with a clock that only the test moves.
struct Bench {
    machine: Neighbour,
    now: Instant,
}

impl Bench {
    fn new(addressing: Addressing) -> Self {
        let now = Instant::now();
        Self { machine: Neighbour::new(Config { mac: MAC, mtu: 9000, addressing }, now), now }
    }

    fn fixed() -> Self {
        Self::new(Addressing::Static { address: OWN, gateway: GATEWAY })
    }

    /// Resolved and reachable.
    fn resolved() -> Self {
        let mut bench = Self::fixed();
        let _ = bench.machine.tick(bench.now);
        let _ = bench.input(&advertisement(GATEWAY, OWN, 0x60, ROUTER_MAC));
        assert_eq!(bench.next_hop(), Some(ROUTER_MAC));
        bench
    }

    fn input(&mut self, frame: &[u8]) -> Output {
        self.machine.input(frame, self.now)
    }

    /// Lets `time` pass, doing what is due at the moment it is due; gives everything that was sent.
    fn pass(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = self.now + time;
        let mut sent = Vec::new();
        for _ in 0..10_000 {
            let Some(due) = self.machine.deadline().filter(|due| *due <= end) else {
                self.now = end;
                return sent;
            };
            self.now = self.now.max(due);
            sent.extend(self.machine.tick(self.now).frames);
        }
        panic!("the machine asks to be called over and over without time passing");
    }

    fn next_hop(&self) -> Option<MacAddr> {
        self.machine.state().next_hop
    }
}

fn frame(
    from: MacAddr,
    source: Ipv6Addr,
    to: Ipv6Addr,
    hops: u8,
    kind: u8,
    words: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.0, MAC.0)
        .ipv6(source.octets(), to.octets(), hops)
        .icmpv6_raw(kind, 0, words)
        .write(&mut frame, body)
        .unwrap();
    frame
}

fn advertisement_body(target: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    [&target.octets()[..], &[2, 1], &mac.0].concat()
}

fn advertisement(target: Ipv6Addr, to: Ipv6Addr, flags: u8, mac: MacAddr) -> Vec<u8> {
    frame(mac, target, to, 255, 136, [flags, 0, 0, 0], &advertisement_body(target, mac))
}

fn solicitation(source: Ipv6Addr, target: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    let body = [&target.octets()[..], &[1, 1], &mac.0].concat();
    frame(mac, source, wire::solicited_node(target), 255, 135, [0; 4], &body)
}

fn router_advertisement(source: Ipv6Addr, lifetime: u16, mtu: u32, prefixes: &[(Ipv6Addr, u32)]) -> Vec<u8> {
    let [high, low] = lifetime.to_be_bytes();
    let mut body = [0; 8].to_vec();
    body.extend([1, 1]);
    body.extend(ROUTER_MAC.0);
    body.extend([5, 1, 0, 0]);
    body.extend(mtu.to_be_bytes());
    for (network, valid) in prefixes {
        body.extend([3, 4, 64, 0xc0]);
        body.extend(valid.to_be_bytes());
        body.extend(valid.to_be_bytes());
        body.extend([0; 4]);
        body.extend(network.octets());
    }
    frame(ROUTER_MAC, source, wire::ALL_NODES, 255, 134, [64, 0, high, low], &body)
}

/// (ICMPv6 type, hop limit, destination MAC, source) of a frame that we sent, which has to be sound.
fn sent(frame: &[u8]) -> (u8, u8, MacAddr, Ipv6Addr) {
    let packet = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::LinkSlice::Ethernet2(ethernet)) = packet.link else { panic!("no Ethernet header") };
    let Some(etherparse::NetSlice::Ipv6(ipv6)) = packet.net else { panic!("no IPv6 header") };
    let Some(etherparse::TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("no ICMPv6") };
    let header = ipv6.header();
    assert!(icmp.is_checksum_valid(header.source(), header.destination()));
    (icmp.type_u8(), header.hop_limit(), MacAddr(ethernet.destination()), header.source_addr())
}

fn count(frames: &[Vec<u8>], kind: u8) -> usize {
    frames.iter().filter(|frame| sent(frame).0 == kind).count()
}

#[test]
fn static_gateway_is_solicited_and_resolved() {
    let mut bench = Bench::fixed();
    let output = bench.machine.tick(bench.now);
    let solicit = output.frames.iter().find(|frame| sent(frame).0 == 135).unwrap();
    assert_eq!(sent(solicit), (135, 255, MacAddr([0x33, 0x33, 0xff, 0, 0, 1]), OWN));
    let change = output.change.unwrap();
    assert_eq!((change.addresses, change.next_hop, change.mtu), (vec![OWN], None, 9000));
    let change = bench.input(&advertisement(GATEWAY, OWN, 0x60, ROUTER_MAC)).change.unwrap();
    assert_eq!(change.next_hop, Some(ROUTER_MAC));
}

#[test]
fn silent_gateway_is_asked_for_ever_and_less_often() {
    let mut bench = Bench::fixed();
    assert_eq!(count(&bench.pass(Duration::from_millis(2500)), 135), 3);
    let later = count(&bench.pass(Duration::from_secs(60)), 135);
    assert!((15..=17).contains(&later), "{later}");
}

#[test]
fn own_address_is_announced_three_times_at_start() {
    let mut bench = Bench::fixed();
    let frames = bench.pass(Duration::from_secs(10));
    assert_eq!(count(&frames, 136), 3);
    assert_eq!(count(&frames, 143), 3);
}

#[test]
fn reachable_gateway_is_probed_again_and_kept_while_it_answers() {
    let mut bench = Bench::resolved();
    let frames = bench.pass(Duration::from_secs(60));
    let probe = frames.iter().find(|frame| sent(frame).0 == 135).unwrap();
    assert_eq!(sent(probe).2, ROUTER_MAC);
    let _ = bench.input(&advertisement(GATEWAY, OWN, 0x60, ROUTER_MAC));
    assert_eq!(bench.next_hop(), Some(ROUTER_MAC));
}

#[test]
fn gateway_that_no_longer_answers_is_forgotten_and_asked_for_by_multicast() {
    let mut bench = Bench::resolved();
    let frames = bench.pass(Duration::from_secs(55));
    assert_eq!(bench.next_hop(), None);
    let to: Vec<_> =
        frames.iter().map(|frame| sent(frame)).filter(|frame| frame.0 == 135).map(|f| f.2).collect();
    assert_eq!(to[..3], [ROUTER_MAC; 3]);
    assert_eq!(to[3], MacAddr([0x33, 0x33, 0xff, 0, 0, 1]));
}

#[test]
fn gateway_that_changes_its_mac_and_says_so_is_followed_at_once() {
    let mut bench = Bench::resolved();
    let change = bench.input(&advertisement(GATEWAY, wire::ALL_NODES, 0x20, OTHER_MAC)).change.unwrap();
    assert_eq!(change.next_hop, Some(OTHER_MAC));
}

#[test]
fn gateway_with_a_new_mac_that_asks_for_us_is_followed_and_answered() {
    let mut bench = Bench::resolved();
    let output = bench.input(&solicitation(GATEWAY, OWN, OTHER_MAC));
    assert_eq!(output.change.unwrap().next_hop, Some(OTHER_MAC));
    assert_eq!(sent(&output.frames[0]), (136, 255, OTHER_MAC, OWN));
}

#[test]
fn gateway_that_changes_its_mac_silently_is_found_by_probing() {
    let mut bench = Bench::resolved();
    for _ in 0..120 {
        for frame in bench.pass(Duration::from_millis(500)) {
            let (kind, _, to, _) = sent(&frame);
            if kind == 135 && (to == OTHER_MAC || to.is_group()) {
                let _ = bench.input(&advertisement(GATEWAY, OWN, 0x60, OTHER_MAC));
            }
        }
    }
    assert_eq!(bench.next_hop(), Some(OTHER_MAC));
}

#[test]
fn forged_advertisements_change_nothing() {
    let forged = advertisement_body(GATEWAY, OTHER_MAC);
    let good = advertisement(GATEWAY, OWN, 0x60, OTHER_MAC);
    let mut bad_checksum = good.clone();
    *bad_checksum.last_mut().unwrap() ^= 1;
    let mut zero_option = advertisement_body(GATEWAY, OTHER_MAC);
    zero_option.extend([0; 8]);
    let cases = [
        ("unsolicited, without override", advertisement(GATEWAY, OWN, 0x00, OTHER_MAC)),
        ("hop limit", frame(OTHER_MAC, GATEWAY, OWN, 254, 136, [0x60, 0, 0, 0], &forged)),
        ("solicited, yet multicast", advertisement(GATEWAY, wire::ALL_NODES, 0x60, OTHER_MAC)),
        ("checksum", bad_checksum),
        ("option of length zero", frame(OTHER_MAC, GATEWAY, OWN, 255, 136, [0x60, 0, 0, 0], &zero_option)),
        ("multicast target", advertisement(wire::ALL_NODES, OWN, 0x60, OTHER_MAC)),
        ("group address", advertisement(GATEWAY, OWN, 0x60, MacAddr([0x33; 6]))),
        ("another target", advertisement(ROUTER, OWN, 0x60, OTHER_MAC)),
        ("our own MAC", advertisement(GATEWAY, OWN, 0x60, MAC)),
        ("a router advertisement, address static", router_advertisement(ROUTER, 1800, 1300, &[(OWN, 3600)])),
    ];
    for (name, frame) in cases {
        let mut bench = Bench::resolved();
        assert_eq!(bench.input(&frame), Output::default(), "{name}");
        assert_eq!(bench.next_hop(), Some(ROUTER_MAC), "{name}");
    }
    // The same with everything right is believed: the cases above fail for what they name.
    let mut bench = Bench::resolved();
    assert_eq!(bench.input(&good).change.unwrap().next_hop, Some(OTHER_MAC));
}

#[test]
fn contradiction_without_override_only_casts_doubt() {
    let mut bench = Bench::resolved();
    let _ = bench.input(&advertisement(GATEWAY, OWN, 0x00, OTHER_MAC));
    let frames = bench.pass(Duration::from_secs(6));
    let probe = frames.iter().map(|frame| sent(frame)).find(|frame| frame.0 == 135).unwrap();
    assert_eq!(probe.2, ROUTER_MAC);
}

#[test]
fn frame_cut_anywhere_changes_nothing() {
    let mut bench = Bench::resolved();
    let _ = bench.pass(Duration::from_secs(4));
    for whole in [
        advertisement(GATEWAY, OWN, 0x60, OTHER_MAC),
        solicitation(GATEWAY, OWN, OTHER_MAC),
        router_advertisement(ROUTER, 1800, 1400, &[(OWN, 3600)]),
    ] {
        for length in 0..whole.len() {
            assert_eq!(bench.input(&whole[..length]), Output::default(), "cut to {length}");
        }
    }
}

#[test]
fn solicitation_for_somebody_else_is_not_answered() {
    let mut bench = Bench::resolved();
    let other = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 9);
    assert_eq!(bench.input(&solicitation(ROUTER, other, OTHER_MAC)), Output::default());
}

#[test]
fn duplicate_address_probe_for_our_address_is_answered_to_all_nodes() {
    let mut bench = Bench::resolved();
    let probe =
        frame(OTHER_MAC, Ipv6Addr::UNSPECIFIED, wire::solicited_node(OWN), 255, 135, [0; 4], &OWN.octets());
    let output = bench.input(&probe);
    assert_eq!(sent(&output.frames[0]), (136, 255, MacAddr([0x33, 0x33, 0, 0, 0, 1]), OWN));
}

#[test]
fn echo_to_our_address_is_answered_with_its_data() {
    let mut bench = Bench::resolved();
    let output = bench.input(&frame(ROUTER_MAC, ROUTER, OWN, 7, 128, [1, 2, 3, 4], b"payload"));
    assert_eq!(sent(&output.frames[0]), (129, 64, ROUTER_MAC, OWN));
    assert!(output.frames[0].ends_with(b"\x01\x02\x03\x04payload"));
    let multicast = frame(ROUTER_MAC, ROUTER, wire::ALL_NODES, 7, 128, [1, 2, 3, 4], b"payload");
    assert_eq!(bench.input(&multicast), Output::default());
}

#[test]
fn answers_are_limited_in_rate() {
    let mut bench = Bench::resolved();
    let echo = frame(ROUTER_MAC, ROUTER, OWN, 7, 128, [1, 2, 3, 4], b"payload");
    let answered: usize = (0..1000).map(|_| bench.input(&echo).frames.len()).sum();
    assert_eq!(answered, ANSWER_BURST as usize);
    bench.now += Duration::from_millis(100);
    let answered: usize = (0..1000).map(|_| bench.input(&echo).frames.len()).sum();
    assert_eq!(answered, (ANSWERS_PER_SECOND / 10.0) as usize);
}

/// A machine that has its link-local address, has asked for routers and was answered by one.
fn advertised(prefixes: &[(Ipv6Addr, u32)]) -> Bench {
    let mut bench = Bench::new(Addressing::RouterAdvertisement);
    let frames = bench.pass(Duration::from_millis(1100));
    assert_eq!(count(&frames, 133), 1);
    let _ = bench.input(&router_advertisement(ROUTER, 1800, 1500, prefixes));
    bench
}

const NETWORK: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 0);

#[test]
fn router_advertisement_gives_address_gateway_and_mtu() {
    let mut bench = advertised(&[(NETWORK, 86_400)]);
    assert_eq!(bench.next_hop(), Some(ROUTER_MAC));
    let frames = bench.pass(Duration::from_millis(1100));
    assert!(frames.iter().any(|frame| sent(frame).0 == 135 && sent(frame).3.is_unspecified()));
    let state = bench.machine.state();
    assert_eq!(state.mtu, 1500);
    assert!(state.addresses[0].is_unicast_link_local());
    assert_eq!(state.addresses[1].to_bits() >> 64, NETWORK.to_bits() >> 64);
    let eui64 = [0x00, 0, 0, 0xff, 0xfe, 0, 0, 1];
    assert_ne!(state.addresses[1].octets()[8..], eui64);
}

#[test]
fn without_a_router_solicitations_go_on_slowly() {
    let mut bench = Bench::new(Addressing::RouterAdvertisement);
    assert_eq!(count(&bench.pass(Duration::from_secs(20)), 133), 3);
    let later = count(&bench.pass(Duration::from_secs(300)), 133);
    assert!((6..=10).contains(&later), "{later}");
}

#[test]
fn address_that_somebody_else_has_is_replaced_by_another() {
    let mut bench = Bench::new(Addressing::RouterAdvertisement);
    let frames = bench.machine.tick(bench.now).frames;
    let probe = frames.iter().find(|frame| sent(frame).0 == 135).unwrap();
    let first = Ipv6Addr::from(<[u8; 16]>::try_from(&probe[62..78]).unwrap());
    let _ = bench.input(&advertisement(first, wire::ALL_NODES, 0x20, OTHER_MAC));
    let _ = bench.pass(Duration::from_secs(2));
    let addresses = bench.machine.state().addresses;
    assert_eq!(addresses.len(), 1);
    assert_ne!(addresses[0], first);
}

#[test]
fn router_that_resigns_is_no_gateway_any_more() {
    let mut bench = advertised(&[(NETWORK, 86_400)]);
    let _ = bench.input(&router_advertisement(ROUTER, 0, 1500, &[]));
    let _ = bench.machine.tick(bench.now);
    assert_eq!(bench.next_hop(), None);
}

#[test]
fn silent_router_is_replaced_by_another_that_advertised() {
    let mut bench = advertised(&[(NETWORK, 86_400)]);
    let second = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    let mut body = [0; 8].to_vec();
    body.extend([1, 1]);
    body.extend(OTHER_MAC.0);
    let _ = bench.input(&frame(OTHER_MAC, second, wire::ALL_NODES, 255, 134, [64, 0, 7, 8], &body));
    assert_eq!(bench.next_hop(), Some(ROUTER_MAC));
    let _ = bench.pass(Duration::from_secs(12));
    assert_eq!(bench.next_hop(), Some(OTHER_MAC));
}

#[test]
fn forged_router_advertisements_change_nothing() {
    let global = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 0x66);
    let mut forwarded = router_advertisement(ROUTER, 1800, 1500, &[(NETWORK, 3600)]);
    forwarded[21] = 254;
    let cases = [
        ("hop limit", forwarded),
        ("source not link-local", router_advertisement(global, 1800, 1500, &[(NETWORK, 3600)])),
        ("MTU below 1280, prefixes that no host has", {
            let prefixes = [(wire::ALL_NODES, 3600), (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 3600)];
            router_advertisement(ROUTER, 0, 1279, &prefixes)
        }),
    ];
    for (name, frame) in cases {
        let mut bench = Bench::new(Addressing::RouterAdvertisement);
        let _ = bench.pass(Duration::from_millis(1100));
        assert_eq!(bench.input(&frame), Output::default(), "{name}");
        let _ = bench.pass(Duration::from_millis(1100));
        assert_eq!(bench.machine.state().addresses.len(), 1, "{name}");
    }
}

#[test]
fn flood_of_prefixes_and_routers_is_bounded() {
    let mut bench = advertised(&[]);
    for n in 1..500u16 {
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n);
        let network = Ipv6Addr::new(0xfd00, 0, 0, n, 0, 0, 0, 0);
        let _ = bench.input(&router_advertisement(router, 1800, 1500, &[(network, 3600); 20]));
    }
    let _ = bench.pass(Duration::from_secs(2));
    assert_eq!(bench.machine.state().addresses.len(), slaac::ADDRESS_LIMIT);
    assert_eq!(bench.machine.routers.len(), ROUTER_LIMIT);
}

#[test]
fn forged_short_lifetime_does_not_take_the_address_away() {
    let mut bench = advertised(&[(NETWORK, 86_400)]);
    let _ = bench.pass(Duration::from_secs(2));
    let _ = bench.input(&router_advertisement(ROUTER, 1800, 1500, &[(NETWORK, 1)]));
    let _ = bench.pass(Duration::from_secs(3600));
    assert_eq!(bench.machine.state().addresses.len(), 2);
    let _ = bench.pass(Duration::from_secs(3700));
    assert_eq!(bench.machine.state().addresses.len(), 1);
}

#[test]
fn link_that_comes_back_is_asked_for_everything_anew() {
    let mut bench = Bench::resolved();
    let change = bench.machine.link(false, bench.now).change.unwrap();
    assert_eq!(change.next_hop, None);
    assert_eq!(bench.machine.deadline(), None);
    let output = bench.machine.link(true, bench.now);
    assert_eq!((count(&output.frames, 135), count(&output.frames, 136)), (1, 1));
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic_or_ask_for_time_without_end(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        kind in 128u8..144,
        body in prop::collection::vec(any::<u8>(), 0..120),
        hops in prop::sample::select(vec![255u8, 64]),
        automatic: bool,
    ) {
        let mut bench = if automatic { Bench::new(Addressing::RouterAdvertisement) } else { Bench::fixed() };
        for bytes in &frames {
            let _ = bench.input(bytes);
        }
        let _ = bench.input(&frame(OTHER_MAC, ROUTER, OWN, hops, kind, [0xff; 4], &body));
        let _ = bench.pass(Duration::from_secs(30));
    }
}
