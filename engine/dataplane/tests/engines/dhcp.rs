//! DHCP from a node: what clients are told, and what gets no answer.

use crate::world::*;
use core::net::Ipv4Addr;
use etherparse::PacketBuilder;
use overlane_dataplane::address::Layout;
use overlane_dataplane::dhcp::{Boot, Settings};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

fn engine(settings: Settings) -> Engine {
    let mut engine = Engine::new(Layout::Slot64, 0);
    engine.change_vnet(7, |vnet| vnet.dhcp = Some(Arc::new(settings)));
    engine
}

/// A client's message, as far as it differs from one to the next.
struct Asked<'a> {
    kind: u8,
    /// The address that the client has, and whether it can be reached there.
    own: Ipv4Addr,
    broadcast: bool,
    mac: MacAddr,
    options: &'a [u8],
}

const ASKED: Asked<'static> =
    Asked { kind: DISCOVER, own: Ipv4Addr::UNSPECIFIED, broadcast: false, mac: ALICE.mac(), options: &[] };

impl Asked<'_> {
    fn message(&self) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, u8::from(self.broadcast) << 7, 0];
        bytes.extend(self.own.octets().iter().chain(&[0; 12]));
        bytes.extend(self.mac.0.iter().chain(&[0; 10 + 64 + 128]));
        bytes.extend([99, 130, 83, 99, 53, 1, self.kind]);
        bytes.extend(self.options.iter().chain(&[255]));
        bytes
    }

    fn frame(&self, to: (MacAddr, Ipv4Addr)) -> Vec<u8> {
        udp((ALICE.mac(), to.0), (self.own, to.1), (68, 67), &self.message())
    }

    /// To everybody, as most of them are.
    fn to_all(&self) -> Vec<u8> {
        self.frame((MacAddr::BROADCAST, Ipv4Addr::BROADCAST))
    }
}

fn udp(macs: (MacAddr, MacAddr), ends: (Ipv4Addr, Ipv4Addr), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0)
        .ipv4(ends.0.octets(), ends.1.octets(), 64)
        .udp(ports.0, ports.1);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// What a client is answered, taken apart by somebody else's parser as far as UDP.
struct Told {
    mac: [u8; 6],
    ends: ([u8; 4], [u8; 4]),
    fixed: Vec<u8>,
    options: BTreeMap<u8, Vec<u8>>,
}

#[track_caller]
fn told(engine: &mut Engine, frame: &[u8]) -> Told {
    let sent = engine.receive(ALICE.port, frame).only();
    assert_eq!(sent.port, ALICE.port);
    let packet = etherparse::SlicedPacket::from_ethernet(&sent.bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else { panic!("{packet:?}") };
    let Some(etherparse::TransportSlice::Udp(datagram)) = packet.transport else { panic!("no UDP") };
    assert_eq!((datagram.source_port(), datagram.destination_port()), (67, 68));
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let sum = datagram.to_header().calc_checksum_ipv4(&header, datagram.payload()).unwrap();
    assert_eq!(datagram.checksum(), sum);
    let (fixed, mut rest) = datagram.payload().split_at(240);
    let mut options = BTreeMap::new();
    while let [code, tail @ ..] = rest {
        match code {
            0 => rest = tail,
            255 => break,
            _ => {
                let (value, tail) = tail[1..].split_at(tail[0].into());
                assert!(options.insert(*code, value.to_vec()).is_none(), "option {code} comes twice");
                rest = tail;
            }
        }
    }
    let mac = sent.bytes[..6].try_into().unwrap();
    Told { mac, ends: (header.source, header.destination), fixed: fixed.to_vec(), options }
}

impl Told {
    fn kind(&self) -> u8 {
        self.options[&53][0]
    }

    fn yours(&self) -> &[u8] {
        &self.fixed[16..20]
    }
}

fn settings() -> Settings {
    Settings {
        dns: vec![Ipv4Addr::new(10, 0, 0, 53), Ipv4Addr::new(9, 9, 9, 9)],
        domain: "acme.example".to_owned(),
        lease_seconds: 1_000,
        routes: vec![("192.168.0.0/17".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 7))],
        boot: Some(Boot { server: Ipv4Addr::new(10, 0, 0, 8), file: "pxelinux.0".to_owned() }),
    }
}

#[test]
fn a_client_is_offered_and_given_what_provisioning_says() {
    let mut engine = engine(settings());
    let offer = told(&mut engine, &ASKED.to_all());
    assert_eq!((offer.kind(), offer.yours()), (OFFER, &ALICE.ipv4.octets()[..]));
    assert_eq!((offer.mac, offer.ends), (ALICE.mac().0, (GATEWAY.octets(), ALICE.ipv4.octets())));
    assert_eq!(offer.fixed[4..8], [0xde, 0xad, 0xbe, 0xef]);
    assert_eq!((&offer.fixed[20..24], &offer.fixed[108..119]), (&[10, 0, 0, 8][..], &b"pxelinux.0\0"[..]));
    let wanted: [(u8, &[u8]); 14] = [
        (1, &[255, 255, 255, 0]),
        (3, &GATEWAY.octets()),
        (6, &[10, 0, 0, 53, 9, 9, 9, 9]),
        (12, b"node1"),
        (15, b"acme.example"),
        (26, &NODE_MTU.to_be_bytes()),
        (28, &[10, 0, 0, 255]),
        (51, &1_000u32.to_be_bytes()),
        (53, &[OFFER]),
        (54, &GATEWAY.octets()),
        (58, &500u32.to_be_bytes()),
        (59, &875u32.to_be_bytes()),
        (61, b"\x01me"),
        // 192.168.0.0/17 by .7, and everything else by the gateway.
        (121, &[17, 192, 168, 0, 10, 0, 0, 7, 0, 10, 0, 0, 1]),
    ];
    let chosen = [50, 4, 10, 0, 0, 10, 54, 4, 10, 0, 0, 1, 61, 3, 1, b'm', b'e'];
    let given = told(&mut engine, &Asked { kind: REQUEST, options: &chosen, ..ASKED }.to_all());
    assert_eq!((given.kind(), given.yours()), (ACK, &ALICE.ipv4.octets()[..]));
    for (code, value) in wanted {
        let of = if code == 53 { &offer } else { &given };
        assert_eq!(of.options.get(&code).map(Vec::as_slice), Some(value), "option {code}");
    }
    assert_eq!(given.options.len(), wanted.len());
}

#[test]
fn a_client_gets_the_options_that_it_asks_for_and_those_that_it_cannot_do_without() {
    let mut engine = engine(settings());
    let asked = Asked { options: &[55, 2, 3, 26], ..ASKED };
    let told = told(&mut engine, &asked.to_all());
    assert_eq!(told.options.into_keys().collect::<Vec<_>>(), [1, 3, 26, 51, 53, 54, 58, 59]);
}

#[test]
fn a_client_goes_on_with_its_own_address_and_no_other() {
    let mut engine = engine(Settings::default());
    let request = |own: Ipv4Addr, options: &'static [u8]| Asked { kind: REQUEST, own, options, ..ASKED };
    // After a restart it asks for what it had; then it renews, at the gateway, and at last asks anybody.
    let had = request(Ipv4Addr::UNSPECIFIED, &[50, 4, 10, 0, 0, 10]);
    let renewed = request(ALICE.ipv4, &[]);
    let gateway = (dummy(7, GATEWAY), GATEWAY);
    for frame in [had.to_all(), renewed.frame(gateway), renewed.to_all()] {
        let told = told(&mut engine, &frame);
        assert_eq!((told.kind(), told.yours()), (ACK, &ALICE.ipv4.octets()[..]));
        assert_eq!(told.ends, (GATEWAY.octets(), ALICE.ipv4.octets()));
    }
    let other = request(Ipv4Addr::UNSPECIFIED, &[50, 4, 10, 0, 0, 11, 61, 1, 7]);
    let told = told(&mut engine, &other.to_all());
    assert_eq!((told.kind(), told.yours()), (NAK, &[0; 4][..]));
    assert_eq!((told.mac, told.ends.1), ([0xff; 6], [255; 4]));
    assert_eq!(told.options.into_keys().collect::<Vec<_>>(), [53, 54, 61]);
}

#[test]
fn who_has_an_address_and_who_cannot_be_reached_yet_are_answered_as_they_can_hear() {
    let mut engine = engine(Settings::default());
    let inform = told(&mut engine, &Asked { kind: INFORM, own: ALICE.ipv4, ..ASKED }.to_all());
    assert_eq!((inform.kind(), inform.yours(), inform.ends.1), (ACK, &[0; 4][..], ALICE.ipv4.octets()));
    assert!(!inform.options.contains_key(&51) && inform.options.contains_key(&3));
    let deaf = told(&mut engine, &Asked { broadcast: true, ..ASKED }.to_all());
    assert_eq!((deaf.mac, deaf.ends.1, deaf.fixed[10]), ([0xff; 6], [255; 4], 0x80));
}

#[test]
fn without_a_gateway_the_engine_answers_in_nobodys_name() {
    let mut engine = engine(Settings::default());
    engine.change_vnet(7, |vnet| vnet.subnets[0].gateway = None);
    let offer = told(&mut engine, &ASKED.to_all());
    assert_eq!((offer.ends.0, &offer.options[&54][..]), ([169, 254, 0, 67], &[169, 254, 0, 67][..]));
    assert!(!offer.options.contains_key(&3));
}

#[track_caller]
fn is_refused(engine: &mut Engine, frame: &[u8], reason: DropReason) {
    engine.refuses(ALICE.port, frame, "node1", reason);
}

#[test]
fn what_needs_no_answer_gets_none() {
    let mut engine = engine(Settings::default());
    let elsewhere = Asked { kind: REQUEST, options: &[54, 4, 10, 0, 0, 2, 50, 4, 10, 0, 0, 10], ..ASKED };
    let aimless = Asked { kind: REQUEST, ..ASKED };
    for asked in [elsewhere, aimless, Asked { kind: DECLINE, ..ASKED }, Asked { kind: RELEASE, ..ASKED }] {
        is_refused(&mut engine, &asked.to_all(), DropReason::DhcpIgnored);
    }
    // What is no client's at the gateway goes where anything does that is for the gateway.
    let other = udp((ALICE.mac(), dummy(7, GATEWAY)), (ALICE.ipv4, GATEWAY), (68, 69), &ASKED.message());
    is_refused(&mut engine, &other, DropReason::GatewayItself);
}

#[test]
fn who_lies_or_plays_the_server_is_refused_and_noted() {
    let mut engine = engine(Settings::default());
    is_refused(&mut engine, &Asked { mac: ANNA.mac(), ..ASKED }.to_all(), DropReason::SrcMacSpoofed);
    is_refused(&mut engine, &Asked { own: ANNA.ipv4, ..ASKED }.to_all(), DropReason::SrcIpv4Spoofed);
    let to_all = (ALICE.mac(), MacAddr::BROADCAST);
    let offer = udp(to_all, (ALICE.ipv4, Ipv4Addr::BROADCAST), (67, 68), &ASKED.message());
    is_refused(&mut engine, &offer, DropReason::DhcpServerForeign);
    let mut noted = Vec::new();
    engine.pipeline.failures().hand_over(|failure| {
        noted.push(failure.reason);
        true
    });
    for reason in [DropReason::SrcMacSpoofed, DropReason::SrcIpv4Spoofed, DropReason::DhcpServerForeign] {
        assert!(noted.contains(&reason), "{noted:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_wherever_it_ends() {
    let mut engine = engine(Settings::default());
    let message = ASKED.message();
    for length in 0..message.len() - 1 {
        let to_all = (ALICE.mac(), MacAddr::BROADCAST);
        let ends = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        is_refused(&mut engine, &udp(to_all, ends, (68, 67), &message[..length]), DropReason::DhcpMalformed);
    }
}

#[test]
fn where_the_engine_answers_none_it_is_a_broadcast_like_any_other() {
    let mut engine = Engine::new(Layout::Slot64, 0);
    is_refused(&mut engine, &Asked { own: ALICE.ipv4, ..ASKED }.to_all(), DropReason::GroupNoMembers);
    // A node that plays the server is none there either.
    for destination in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255)] {
        let (macs, ends) = ((ALICE.mac(), MacAddr::BROADCAST), (ALICE.ipv4, destination));
        is_refused(&mut engine, &udp(macs, ends, (67, 68), &[2; 300]), DropReason::DhcpServerForeign);
    }
}
