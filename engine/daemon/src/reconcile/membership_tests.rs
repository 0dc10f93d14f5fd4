use super::*;
use crate::provisioning::model::{Attachment, AttachmentKind, DeviceName};
use crate::runtime::OpenPort;
use overlane_dataplane::cap::RateLimit;
use overlane_dataplane::counters::PerWorker;
use overlane_dataplane::id::{Slot, VnetId};

const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const VIDEO: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const ONE_MORE: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 4);
const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 21);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 22);
const THREE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 23);

fn port(number: u16) -> PortId {
    PortId::new(number).unwrap()
}

pub(in super::super) fn interface() -> Arc<Interface> {
    Arc::new(Interface {
        id: "web/eth0".into(),
        vnet: VnetId::MIN,
        slot: Slot::ZERO,
        mac: MacAddr([2, 0, 0, 0, 0, 7]),
        addresses: vec![NODE],
        attachment: Attachment { kind: AttachmentKind::Veth, device: DeviceName::new("veth0").unwrap() },
        tags: None,
        groups: Vec::new(),
        rate: RateLimit::default(),
    })
}

pub(in super::super) fn open_port(number: u16) -> OpenPort {
    OpenPort {
        id: port(number),
        mac: interface().mac,
        mtu: 1480,
        mtu_max: 1480,
        link_up: true,
        ifindex: None,
        traffic: Arc::new(PerWorker::new(1)),
    }
}

/// The node is attached to a port, or to none.
fn attach(memberships: &mut Memberships, to: Option<u16>, now: Instant) {
    let interface = interface();
    let port = to.map(open_port);
    let ready = port.iter().map(|port| (Ready { interface: &interface, port, mtu: 1480 }, Some(GATEWAY)));
    memberships.attach(ready, now);
}

fn attached() -> (Memberships, Instant) {
    let now = Instant::now();
    let mut memberships = Memberships::new(now);
    attach(&mut memberships, Some(3), now);
    (memberships, now)
}

/// A message of the node's, in its frame.
fn frame(mut message: Vec<u8>) -> Vec<u8> {
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&message).ones_complement();
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 7], [1, 0, 0x5e, 0, 0, 22]);
    let mut frame = Vec::new();
    let builder = builder.ipv4(NODE.octets(), [224, 0, 0, 22], 1);
    builder.write(&mut frame, etherparse::IpNumber::IGMP, &message).unwrap();
    frame
}

fn record(kind: u8, group: Ipv4Addr, sources: &[Ipv4Addr]) -> Vec<u8> {
    let mut message = vec![0x22, 0, 0, 0, 0, 0, 0, 1, kind, 0];
    message.extend((sources.len() as u16).to_be_bytes());
    message.extend(group.octets());
    message.extend(sources.iter().flat_map(Ipv4Addr::octets));
    frame(message)
}

fn short(kind: u8, group: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(group.octets());
    frame(message)
}

fn wanted(memberships: &Memberships) -> Vec<(Ipv4Addr, Filter)> {
    memberships.of("web/eth0").map(|(group, filter)| (group, filter.clone())).collect()
}

#[test]
fn nodes_join_and_leave_in_each_version() {
    let (mut memberships, now) = attached();
    for (join, leave) in [
        (short(0x12, VIDEO), record(3, VIDEO, &[])),
        (short(0x16, VIDEO), short(0x17, VIDEO)),
        (record(4, VIDEO, &[]), record(3, VIDEO, &[])),
    ] {
        assert_eq!(memberships.input(port(3), &join, now), Some(true));
        assert_eq!(memberships.input(port(3), &join, now), Some(false), "it is known");
        assert_eq!(wanted(&memberships), [(VIDEO, Filter::ALL)]);
        assert_eq!(memberships.input(port(3), &leave, now), Some(true));
        assert!(wanted(&memberships).is_empty());
    }
    // Another port's frame, everybody's group, what cannot be read.
    assert_eq!(memberships.input(port(4), &short(0x16, VIDEO), now), None);
    assert_eq!(memberships.input(port(3), &short(0x16, Ipv4Addr::new(224, 0, 0, 1)), now), Some(false));
    assert_eq!(memberships.input(port(3), &short(0x16, VIDEO)[..30], now), Some(false));
    assert!(wanted(&memberships).is_empty());
}

#[test]
fn source_filters_are_as_the_records_say() {
    let (mut memberships, now) = attached();
    let only = |sources: &[Ipv4Addr]| vec![(VIDEO, Filter::Only(sources.to_vec()))];
    let except = |sources: &[Ipv4Addr]| vec![(VIDEO, Filter::Except(sources.to_vec()))];
    for (kind, sources, then) in [
        (5, &[TWO, ONE][..], only(&[ONE, TWO])),
        (5, &[THREE], only(&[ONE, TWO, THREE])),
        (6, &[ONE], only(&[TWO, THREE])),
        (3, &[ONE], only(&[ONE])),
        (6, &[ONE], vec![]),
        (4, &[ONE], except(&[ONE])),
        (6, &[TWO], except(&[ONE, TWO])),
        (5, &[ONE], except(&[TWO])),
        (2, &[], except(&[])),
        (1, &[THREE], only(&[THREE])),
    ] {
        assert_eq!(memberships.input(port(3), &record(kind, VIDEO, sources), now), Some(true));
        assert_eq!(wanted(&memberships), then, "record {kind} of {sources:?}");
    }
    let many: Vec<Ipv4Addr> = (0..100).map(|last| Ipv4Addr::new(10, 0, 1, last)).collect();
    memberships.input(port(3), &record(3, VIDEO, &many), now);
    assert_eq!(wanted(&memberships), except(&[]), "the node sorts out by itself what it does not want");
    memberships.input(port(3), &record(4, VIDEO, &many), now);
    assert_eq!(wanted(&memberships), except(&many[..MAX_SOURCES]));
}

#[test]
fn groups_are_as_many_as_one_may_have_and_the_first_stay() {
    let (mut memberships, now) = attached();
    for last in 0..=255 {
        memberships.input(port(3), &short(0x16, Ipv4Addr::new(239, 0, 0, last)), now);
    }
    assert_eq!(wanted(&memberships).len(), MAX_GROUPS);
    assert_eq!(memberships.input(port(3), &short(0x17, Ipv4Addr::new(239, 0, 0, 0)), now), Some(true));
    assert_eq!(memberships.input(port(3), &short(0x16, VIDEO), now), Some(true));
}

#[test]
fn nodes_are_asked_at_once_and_again_and_who_is_silent_is_no_member_any_more() {
    let (mut memberships, mut now) = attached();
    let mut asked = Vec::new();
    memberships.input(port(3), &short(0x16, VIDEO), now);
    let start = now;
    while now < start + Duration::from_secs(300) {
        let (frames, changed) = memberships.tick(now);
        if !frames.is_empty() {
            asked.push((now - start).as_secs());
            assert_eq!(frames[0].0, port(3));
            assert_eq!(payload(&frames[0].1).map(Message::new_checked), Some(Ok(Message::Query)));
            let packet = etherparse::SlicedPacket::from_ethernet(&frames[0].1).unwrap();
            let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else { panic!("an IPv4 packet") };
            assert_eq!((ip.header().source_addr(), ip.header().ttl()), (GATEWAY, 1));
            assert_eq!(ip.header().options(), [0x94, 4, 0, 0]);
        }
        if changed {
            memberships.told("web/eth0", now);
        }
        now = memberships.deadline().unwrap();
    }
    assert_eq!(asked, [0, 1, 6, 131, 256]);
    assert!(wanted(&memberships).is_empty(), "it has not answered");
}

#[test]
fn what_is_joined_and_left_fast_is_told_slowly() {
    let (mut memberships, start) = attached();
    let (mut news, mut last) = (0, Vec::new());
    for step in 0..1000_u64 {
        let now = start + Duration::from_millis(step * 10);
        let message = if step % 2 == 0 { short(0x16, VIDEO) } else { short(0x17, VIDEO) };
        assert_eq!(memberships.input(port(3), &message, now), Some(true));
        let told = memberships.told("web/eth0", now);
        news += u32::from(told != last);
        last = told;
    }
    assert!((16..=26).contains(&news), "{news} times within 10 s");
    // In the end what is told is what is.
    let now = start + Duration::from_secs(20);
    assert!(memberships.tick(now).1);
    assert!(memberships.told("web/eth0", now).is_empty());
}

#[test]
fn interface_that_goes_takes_its_memberships_along_and_one_on_another_port_is_asked() {
    let (mut memberships, now) = attached();
    memberships.input(port(3), &short(0x16, VIDEO), now);
    memberships.tick(now);
    attach(&mut memberships, Some(5), now);
    assert_eq!(wanted(&memberships), [(VIDEO, Filter::ALL)]);
    assert_eq!(memberships.tick(now).0.len(), 1);
    let other = short(0x16, ONE_MORE);
    assert_eq!([3, 5].map(|number| memberships.input(port(number), &other, now)), [None, Some(true)]);
    attach(&mut memberships, None, now);
    assert!(wanted(&memberships).is_empty() && memberships.deadline().is_none());
}
