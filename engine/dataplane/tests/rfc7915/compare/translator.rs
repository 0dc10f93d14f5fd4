//! The engine of Alice's host as a translator of IP packets: what her node sends and what the uplink brings for her.

use crate::build::*;
use crate::reference::bytes::{checksum, sum, u16_at, u32_at};
use crate::reference::{Answer, Refused, Site, Translated};
use crate::world::{self, Engine, Outcome, ROUTER, Sent, UPLINK, uplink_mac};
use core::net::Ipv4Addr;
use overlane_dataplane::address::Layout;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::packet::Offload;
use overlane_dataplane::snapshot::{Interface, PortRole, Subnet, Vnet};
use overlane_dataplane::translate::Settings;
use std::sync::Arc;

pub(crate) const ETHERNET: usize = 14;

/// So many ICMP errors that no test ever gets to the end of them.
const PLENTY: IcmpLimit = IcmpLimit { rate: 1_000_000, burst: 1_000_000 };

/// What becomes of a fragment in whose place there is no room for a first one with the transport's header: the engine
/// holds it, and waits for a first one that would have to overlap.
pub(crate) const HELD: &str = "held";

pub(crate) struct Translator {
    pub(crate) engine: Engine,
}

/// What the operator sets.
pub(crate) fn settings(site: &Site) -> Settings {
    Settings {
        copy_traffic_class: site.copy_traffic_class,
        compute_udp_checksum: site.compute_udp_checksum,
        lowest_ipv6_mtu: (site.lowest_ipv6_mtu < site.ipv6_mtu).then_some(site.lowest_ipv6_mtu as u16),
        carry_fragmented_icmp: site.carry_fragmented_icmp,
        ..Settings::default()
    }
}

impl Translator {
    pub(crate) fn new(site: &Site) -> Self {
        let mut engine = Engine::new(Layout::Slot64, 0);
        engine.change_uplink(|uplink| {
            uplink.mtu = site.ipv6_mtu as u16;
            uplink.icmp_limit = PLENTY.buckets(2);
        });
        engine.snapshot.translate = settings(site);
        let mut translator = Self { engine };
        translator.change_alice(site);
        translator
    }

    /// Gives Alice's interface the site's MTU, and its vnet the site's gateway.
    fn change_alice(&mut self, site: &Site) {
        let snapshot = &mut self.engine.snapshot;
        let alice = snapshot.slots[usize::from(world::ALICE.slot)].clone().unwrap();
        let change = |subnet: &Subnet| Subnet {
            gateway: subnet.gateway.filter(|gateway: &Ipv4Addr| gateway.octets()[2] != 0).or(site.router),
            ..*subnet
        };
        let subnets = alice.vnet.subnets.iter().map(change).collect();
        let vnet = Arc::new(Vnet { subnets, ..(*alice.vnet).clone() });
        let alice = Arc::new(Interface {
            vnet: Arc::clone(&vnet),
            mtu: site.ipv4_mtu as u16,
            icmp_limit: PLENTY.buckets(2),
            ..(*alice).clone()
        });
        snapshot.ports[usize::from(world::ALICE.port)] = PortRole::Node(Arc::clone(&alice));
        snapshot.slots[usize::from(world::ALICE.slot)] = Some(alice);
        let place = snapshot.vnets.iter().position(|other| other.id == vnet.id).unwrap();
        snapshot.vnets[place] = vnet;
    }

    /// Translates one packet, which arrives in segments cut at `cuts`.
    #[track_caller]
    pub(crate) fn translate(&mut self, to_six: bool, packet: &[u8], cuts: &[usize]) -> Translated {
        let (from, to) = if to_six { (world::ALICE.port, UPLINK) } else { (UPLINK, world::ALICE.port) };
        if let Some(first) = first_fragment(to_six, packet) {
            self.receive(to_six, &first, &[]);
        }
        let outcome = self.receive(to_six, packet, cuts);
        let (translated, answers): (Vec<_>, Vec<_>) = outcome.sent.iter().partition(|sent| sent.port == to);
        let reason = reason(&outcome);
        assert!(outcome.punted.is_empty(), "{outcome:?}");
        match (reason, translated.as_slice(), answers.as_slice()) {
            (None, packets @ [_, ..], []) => Ok(packets.iter().map(|sent| ip(sent, to_six)).collect()),
            (Some(reason), [], answers @ ([] | [_])) => {
                let answer = answers.first().map(|sent| {
                    assert_eq!(sent.port, from);
                    read_answer(to_six, &ip(sent, !to_six), packet)
                });
                Err(Refused { reason: reason.name(), answer })
            }
            (None, [], []) => Err(Refused { reason: HELD, answer: None }),
            _ => panic!("neither translated nor refused: {outcome:?}"),
        }
    }

    fn receive(&mut self, to_six: bool, packet: &[u8], cuts: &[usize]) -> Outcome {
        let (port, destination, source, ethertype) = if to_six {
            (world::ALICE.port, world::BOB.dummy(), world::ALICE.mac(), [0x08, 0x00])
        } else {
            (UPLINK, uplink_mac(0), ROUTER, [0x86, 0xdd])
        };
        let frame = [&destination.0[..], &source.0, &ethertype, packet].concat();
        let packet = self.engine.packet(&frame, cuts, Offload::default());
        self.engine.receive_packets(port, [packet])
    }
}

/// The one reason that was counted, if one was.
fn reason(outcome: &Outcome) -> Option<DropReason> {
    let dropped = outcome.counted.iter().find_map(|(name, _)| Some(name.split_once(" drop ")?.1));
    let reason = |name| DropReason::ALL.iter().find(|reason| reason.name() == name).copied().unwrap();
    dropped.map(reason)
}

/// A frame's packet.
fn ip(sent: &Sent, is_six: bool) -> Vec<u8> {
    assert_eq!(sent.offload, Offload { checksum: sent.offload.checksum, ..Offload::default() }, "{sent:?}");
    let ethertype: [u8; 2] = if is_six { [0x86, 0xdd] } else { [0x08, 0x00] };
    assert_eq!(sent.bytes[12..14], ethertype, "{sent:?}");
    sent.bytes[ETHERNET..].to_vec()
}

/// An ICMP error that the engine sent for `packet`, which it must quote as it came in.
pub(crate) fn read_answer(to_six: bool, answer: &[u8], packet: &[u8]) -> Answer {
    let (header, protocol, most) = if to_six { (20, answer[9], 576) } else { (40, answer[6], 1280) };
    assert_eq!(protocol, if to_six { 1 } else { 58 });
    assert!(answer.len() <= most);
    let message = &answer[header..];
    let quote = &message[8..];
    assert_eq!(quote, &packet[..quote.len()]);
    // What is behind the packet's own length is padding.
    let length = if to_six { u16_at(packet, 2).into() } else { 40 + usize::from(u16_at(packet, 4)) };
    assert!(quote.len() == length || answer.len() == most, "quotes as much as fits");
    let (sender, receiver) =
        if to_six { (&packet[12..16], &answer[16..20]) } else { (&packet[8..24], &answer[24..40]) };
    assert_eq!(sender, receiver, "goes to the sender");
    let pseudo = if to_six { 0 } else { sum(&answer[8..40]) + 58 + message.len() as u64 };
    assert_eq!(checksum(sum(message) + pseudo), 0, "ICMP checksum");
    assert!(!to_six || checksum(sum(&answer[..20])) == 0, "header checksum");
    Answer { kind: message[0], code: message[1], word: u32::from_be_bytes(message[4..8].try_into().unwrap()) }
}

/// Flags and offset of an IPv4 packet.
fn flags_v4(packet: &[u8]) -> Option<u16> {
    packet.get(6..8).map(|field| u16_at(field, 0))
}

/// The fragment header of an IPv6 packet.
fn fragment_header(packet: &[u8]) -> Option<&[u8]> {
    let (mut next_header, mut place) = (*packet.get(6)?, 40);
    while matches!(next_header, 0 | 43 | 60) {
        let header = packet.get(place..place + 2)?;
        next_header = header[0];
        place += (usize::from(header[1]) + 1) * 8;
    }
    packet.get(place..place + 8).filter(|_| next_header == 44)
}

/// Whether the engine may remember the packet as a part of a datagram.
pub(crate) fn is_fragment(to_six: bool, packet: &[u8]) -> bool {
    let (v4, v6) = (|| flags_v4(packet).is_some_and(|flags| flags & 0x3fff != 0), || fragment_header(packet));
    if to_six { v4() } else { v6().is_some() }
}

/// The engine follows the fragments of a datagram, and lets a later one pass only behind the first: one that goes with
/// `packet`, if that is a later one.
pub(crate) fn first_fragment(to_six: bool, packet: &[u8]) -> Option<Vec<u8>> {
    if to_six {
        let header = packet.get(..20)?;
        let payload = beginning(header[9], (flags_v4(header)? & 0x1fff) * 8)?;
        let identification = u16_at(header, 4);
        return Some(V4 { identification, flags: MORE_FRAGMENTS, ..v4(header[9], payload) }.bytes());
    }
    let header = fragment_header(packet)?;
    let payload = beginning(header[0], u16_at(header, 2) & 0xfff8)?;
    Some(v6(header[0], payload).back().fragment(0, true, u32_at(header, 4)).bytes())
}

/// A transport header, in as many whole units of eight bytes as it takes; `None` if the part behind would overlap it.
fn beginning(protocol: u8, offset: u16) -> Option<Vec<u8>> {
    let mut payload = match protocol {
        1 => icmp(8, 0, 0, &[]),
        58 => icmp(128, 0, 0, &[]),
        6 => tcp(&[0; 4]),
        17 => udp(&[]),
        33 => vec![0, 1, 0, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        _ => vec![0; 8],
    };
    if matches!(protocol, 17 | 136) {
        // A checksum, of whatever value.
        payload[6] = 1;
    }
    (payload.len() <= usize::from(offset)).then_some(payload)
}
