//! A host with one node, nodes elsewhere, and the packets between them that a device plays without end.

use etherparse::PacketBuilder;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::counters::PerWorker;
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Subnet, Uplink, Vnet};
use overlane_dataplane::table::mapping::{Mapping, MappingKey, MappingWriter, State};
use overlane_engine::runtime::OpenPort;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

/// The substrate's layout.
pub(crate) const LAYOUT: Layout = Layout::Slot64;
/// Packets that are played, each to or from a node of its own elsewhere, and each a flow.
pub(crate) const PACKETS: u16 = 512;

const NODE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const UPLINK: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the node to the substrate.
    FourToSix,
    /// From the substrate to the node.
    SixToFour,
}

fn vnet() -> VnetId {
    VnetId::new(7).unwrap()
}

fn own() -> HostPrefix {
    HostPrefix::parse(LAYOUT, "fd00:0:0:a::/64").unwrap()
}

/// Where the n-th node elsewhere is, and its address.
fn elsewhere(n: u16) -> (Locator, Ipv4Addr) {
    let prefix = HostPrefix::parse(LAYOUT, &format!("fd00:0:0:{:x}::/64", 0x100 + n)).unwrap();
    let locator = Locator::new(LAYOUT, prefix, Slot::new(3).unwrap(), vnet()).unwrap();
    (locator, Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 0).to_bits() + u32::from(n)))
}

/// Puts the nodes elsewhere into the table.
pub(crate) fn fill(writer: &mut MappingWriter) {
    for n in 0..PACKETS {
        let (locator, address) = elsewhere(n);
        let mapping = Mapping { locator, also_accept: None, local: None, state: State::Live };
        writer.insert(MappingKey::new(vnet(), address), mapping).unwrap();
    }
}

fn frame(direction: Direction, n: u16) -> Vec<u8> {
    let (locator, other) = elsewhere(n);
    let (mut frame, payload) = (Vec::new(), [b'o'; 22]);
    match direction {
        Direction::FourToSix => {
            let ethernet = PacketBuilder::ethernet2(NODE.0, MacAddr::dummy(vnet(), other).0);
            let packet = ethernet.ipv4(ADDRESS.octets(), other.octets(), 64).udp(1000, 4242);
            packet.write(&mut frame, &payload).unwrap();
        }
        Direction::SixToFour => {
            let own = Locator::new(LAYOUT, own(), Slot::ZERO, vnet()).unwrap().address(ADDRESS);
            let ethernet = PacketBuilder::ethernet2(ROUTER.0, UPLINK.0);
            let packet = ethernet.ipv6(locator.address(other).octets(), own.octets(), 60).udp(4242, 1000);
            packet.write(&mut frame, &payload).unwrap();
        }
    }
    frame
}

/// Writes the packets of one direction as a capture: classic pcap in this machine's byte order.
pub(crate) fn write_capture(path: &Path, direction: Direction) {
    let (version, longest, ethernet) = (u32::from_ne_bytes([2, 0, 4, 0]), 0x4_0000, 1);
    let mut capture: Vec<u8> =
        [0xa1b2_c3d4, version, 0, 0, longest, ethernet].into_iter().flat_map(u32::to_ne_bytes).collect();
    for n in 0..PACKETS {
        let frame = frame(direction, n);
        let length = u32::try_from(frame.len()).unwrap();
        capture.extend([0, 0, length, length].into_iter().flat_map(u32::to_ne_bytes));
        capture.extend(frame);
    }
    std::fs::write(path, capture).unwrap();
}

/// The host, with its node on one port and the substrate on the other, for one worker.
pub(crate) fn snapshot(node: &OpenPort, uplink: &OpenPort, stateful: bool) -> HostSnapshot {
    let subnet = Subnet { net: "10.0.0.0/8".parse().unwrap(), gateway: None };
    let uplink_drops = Arc::new(PerWorker::new(1));
    let vnet = Arc::new(Vnet { stateful, ..Vnet::new(vnet(), vec![subnet], uplink_drops) });
    let interface = Arc::new(Interface {
        name: "node".to_owned(),
        port: node.id,
        slot: Slot::ZERO,
        vnet: Arc::clone(&vnet),
        mac: NODE,
        addresses: vec![ADDRESS],
        policy: None,
        settling: false,
        mtu: 1_480,
        traffic: Arc::clone(&node.traffic),
        icmp_limit: IcmpLimit::default().buckets(1),
        cap: None,
        group_limit: GroupLimit::default().buckets(1),
    });
    let way = Arc::new(Uplink {
        name: "uplink".to_owned(),
        port: uplink.id,
        mac: UPLINK,
        mtu: 1_500,
        addresses: vec!["fe80::1".parse().unwrap()],
        next_hop: Some(ROUTER),
        link_up: true,
        traffic: Arc::clone(&uplink.traffic),
        icmp_limit: IcmpLimit::default().buckets(1),
    });
    let mut snapshot = HostSnapshot::empty(LAYOUT);
    snapshot.prefix = Some(own());
    snapshot.stateful = stateful;
    snapshot.ports.resize(node.id.index().max(uplink.id.index()) + 1, PortRole::Absent);
    snapshot.ports[node.id.index()] = PortRole::Node(Arc::clone(&interface));
    snapshot.ports[uplink.id.index()] = PortRole::Uplink(Arc::clone(&way));
    snapshot.slots[0] = Some(interface);
    snapshot.vnets = vec![vnet];
    snapshot.uplinks = vec![way];
    snapshot
}
