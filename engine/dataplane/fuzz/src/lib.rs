//! Two engines for fuzzing: what leaves one host goes into the other, and every packet must be accounted for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in the setting is to be seen at once")]

pub mod input;

use arrayvec::ArrayVec;
use core::cell::Cell;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use overlane_dataplane::address::{Delivery, HostPrefix, Layout, Locator, SubstrateAddress};
use overlane_dataplane::buffer::{HeapOptions, HeapPacket, HeapPool};
use overlane_dataplane::counters::{Drops, PerWorker};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::external::{External, Externals};
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::group::{Filter, Group, GroupLimit, Member};
use overlane_dataplane::id::{PortId, Slot, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::packet::{Clock, Packet};
use overlane_dataplane::pipeline::{BURST, Outbox, Pipeline};
use overlane_dataplane::route::{Route, Routes, Transit};
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Subnet, Uplink, Vnet};
use overlane_dataplane::table::flow::{FlowLimits, FlowTable, Timeouts};
use overlane_dataplane::table::mapping::{Mapping, MappingKey, MappingWriter, State, mapping_table};
use overlane_dataplane::table::qsbr::{Domain, Reader};
use std::rc::Rc;
use std::sync::Arc;

/// The node on the first host.
pub const ALICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// The node on the second host.
pub const BOB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
/// A node beside Alice.
pub const ANNA: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
/// A group that all nodes are members of.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 129, 2, 3);
const LAYOUT: Layout = Layout::Slot64;
const VNET: u32 = 7;
const UPLINK: u16 = 0;
const MTU: u16 = 1500;

fn vnet() -> VnetId {
    VnetId::new(VNET).unwrap()
}

fn port(index: u16) -> PortId {
    PortId::new(index).unwrap()
}

/// The hardware address of the node with this address.
#[must_use]
pub fn mac(node: Ipv4Addr) -> MacAddr {
    MacAddr([2, 0xee, 0, 0, 0, node.octets()[3]])
}

/// The hardware address that others in the vnet see.
#[must_use]
pub fn dummy(node: Ipv4Addr) -> MacAddr {
    MacAddr::dummy(vnet(), node)
}

/// The hardware address of a host's uplink.
#[must_use]
pub fn uplink_mac(host: usize) -> MacAddr {
    MacAddr([2, 0xaa, 0, 0, 0, host as u8])
}

fn locator(node: Ipv4Addr) -> Locator {
    let (host, slot) = match node {
        ALICE => (0, 1),
        ANNA => (0, 2),
        _ => (1, 5),
    };
    Locator::new(LAYOUT, prefix(host), Slot::new(slot).unwrap(), vnet()).unwrap()
}

fn prefix(host: usize) -> HostPrefix {
    HostPrefix::parse(LAYOUT, ["fd00:0:0:a::/64", "fd00:0:0:b::/64"].get(host).unwrap()).unwrap()
}

/// The substrate address of a node, or of a group on the second host.
#[must_use]
pub fn substrate(node: Ipv4Addr) -> Ipv6Addr {
    if node.is_multicast() || node.is_broadcast() {
        let (prefix, slot, delivery) = (prefix(1), Slot::ZERO, Delivery::Group);
        let fields = SubstrateAddress { prefix, slot, delivery, vnet: vnet(), ipv4: node };
        return LAYOUT.encode(&fields).unwrap();
    }
    locator(node).address(node)
}

/// Time that passes when a target says so.
#[derive(Debug, Clone, Default)]
struct FuzzClock(Rc<Cell<Duration>>);

impl Clock for FuzzClock {
    fn now(&self) -> Duration {
        self.0.get()
    }
}

/// What left an engine, and how much of it was an answer.
#[derive(Default)]
struct Out {
    uplink: Vec<Vec<u8>>,
    sent: usize,
    punted: usize,
    cut: bool,
}

impl Outbox<HeapPacket> for Out {
    fn transmit(&mut self, port: PortId, packet: HeapPacket) {
        self.sent += 1;
        let bytes: Vec<u8> = packet.segments().flatten().copied().collect();
        let fragment = match bytes.get(12..24) {
            Some([0x08, 0, _, _, _, _, _, _, high, low, ..]) => {
                u16::from_be_bytes([*high, *low]) & 0x3fff != 0
            }
            _ => bytes.get(20) == Some(&44),
        };
        self.cut |= fragment;
        if port.index() == usize::from(UPLINK) {
            self.uplink.push(bytes);
        }
    }

    fn punt(&mut self, _: PortId, _: HeapPacket) {
        self.punted += 1;
    }

    fn path_mtu(&mut self, _: HostPrefix, mtu: u16) {
        assert!(mtu >= 1280, "the least of any link");
    }
}

/// Whether the frame is for a group: of a node's, or on the substrate.
fn is_for_group(frame: &[u8]) -> bool {
    let odd = |place: usize| frame.get(place).is_some_and(|octet| octet & 1 != 0);
    odd(0) || frame.get(12) == Some(&0x86) && odd(46)
}

/// One host.
pub struct Host {
    snapshot: HostSnapshot,
    pipeline: Pipeline<HeapPool, FuzzClock>,
    pool: HeapPool,
    reader: Reader,
    clock: FuzzClock,
    /// Keeps the table's memory.
    _mappings: MappingWriter,
}

impl Host {
    /// A host with its nodes, in the one vnet that there is.
    #[must_use]
    pub fn new(host: usize) -> Self {
        let subnet =
            Subnet { net: "10.0.0.0/24".parse().unwrap(), gateway: Some(Ipv4Addr::new(10, 0, 0, 1)) };
        let subnets = vec![subnet];
        // With flows on one host and without on the other.
        let (stateful, uplink_drops) = (host == 0, Arc::new(PerWorker::new(1)));
        let dhcp = Some(Arc::default());
        let route =
            |net: &str, router| Route { net: net.parse().unwrap(), via: vec![router], silent: Vec::new() };
        let all = "0.0.0.0/0".parse().unwrap();
        let routes = vec![route("10.8.0.0/16", ANNA), route("10.9.0.0/16", BOB), route("0.0.0.0/0", BOB)];
        let routes = Arc::new(Routes::new(routes, vec![Transit { net: all, via: ANNA }]).unwrap());
        let (ipv6, ipv4) = ("2001:db8::/120".parse().unwrap(), "10.255.0.0/24".parse().unwrap());
        let externals = Arc::new(Externals::new(vec![External { ipv6, ipv4 }]).unwrap());
        let usual = Vnet::new(vnet(), subnets, uplink_drops);
        let own = Arc::new(Vnet { stateful, dhcp, routes, externals, ..usual });
        let uplink = Arc::new(Uplink {
            name: "uplink".to_owned(),
            port: port(UPLINK),
            mac: uplink_mac(host),
            mtu: MTU,
            addresses: vec![Ipv6Addr::new(0xfd00, 0, 0, 0xff, 0, 0, 0, host as u16 + 0xa)],
            next_hop: Some(uplink_mac(1 - host)),
            link_up: true,
            traffic: Arc::new(PerWorker::new(1)),
            icmp_limit: IcmpLimit::default().buckets(1),
        });
        let mut snapshot = HostSnapshot::empty(LAYOUT);
        snapshot.prefix = Some(prefix(host));
        snapshot.ports = vec![PortRole::Uplink(Arc::clone(&uplink))];
        snapshot.uplinks = vec![uplink];
        snapshot.vnets = vec![Arc::clone(&own)];
        snapshot.stateful = stateful;
        let domain = Domain::new(1, 64);
        let reader = domain.register("fuzz").unwrap();
        let (mut mappings, table) = mapping_table(&domain, 16, [1, 2]);
        for node in [ALICE, ANNA, BOB] {
            let here = locator(node).prefix(LAYOUT) == prefix(host);
            let place = port(snapshot.ports.len() as u16);
            let slot = locator(node).slot(LAYOUT);
            if here {
                let interface = Arc::new(Interface {
                    name: node.to_string(),
                    port: place,
                    slot,
                    vnet: Arc::clone(&own),
                    mac: mac(node),
                    addresses: vec![node],
                    policy: None,
                    settling: false,
                    mtu: if node == ANNA { 600 } else { MTU - 20 },
                    traffic: Arc::new(PerWorker::new(1)),
                    icmp_limit: IcmpLimit::default().buckets(1),
                    cap: None,
                    group_limit: GroupLimit::default().buckets(1),
                });
                snapshot.ports.push(PortRole::Node(Arc::clone(&interface)));
                *snapshot.slots.get_mut(usize::from(slot.get())).unwrap() = Some(interface);
            }
            let mapping = Mapping {
                locator: locator(node),
                also_accept: None,
                local: here.then_some(place),
                state: State::Live,
            };
            mappings.insert(MappingKey::new(vnet(), node), mapping).unwrap();
        }
        let groups = Arc::get_mut(&mut snapshot.groups).unwrap();
        for group in [Ipv4Addr::BROADCAST, GROUP] {
            let nodes = snapshot.ports.iter().filter_map(|role| match role {
                PortRole::Node(interface) => Some(Member { port: interface.port, filter: Filter::ALL }),
                _ => None,
            });
            let hosts = [prefix(1 - host)].into();
            *groups.entry(vnet(), group) = Group { members: nodes.collect(), hosts };
        }
        let pool = HeapPool::new(HeapOptions::default());
        let clock = FuzzClock::default();
        // Small, so that hosts are made quickly and limits are met.
        let limits = FragmentLimits::new(64, 16, Duration::from_secs(2)).unwrap();
        let flows = FlowLimits::new(1024, Timeouts::default()).unwrap();
        let flows = FlowTable::new(&domain, &flows, 1, [5, 6]);
        let pipeline = Pipeline::new(0, table, flows, pool.clone(), clock.clone(), limits, [3, 4]);
        Self { snapshot, pipeline, pool, reader, clock, _mappings: mappings }
    }

    /// Frames into the port of the first node of this host, or into the uplink; gives what left by the uplink.
    pub fn receive(&mut self, from_uplink: bool, frames: &[(Vec<u8>, usize)]) -> Vec<Vec<u8>> {
        let mut leaving = Vec::new();
        for burst in frames.chunks(BURST) {
            let before = self.dropped() + self.pool.outstanding();
            let answered = self.answered();
            let mut packets: ArrayVec<HeapPacket, BURST> = burst
                .iter()
                .map(|(frame, at)| {
                    let (head, rest) = frame.split_at(*at.min(&frame.len()));
                    self.pool.packet_of([head, rest]).unwrap()
                })
                .collect();
            let mut out = Out::default();
            let from = port(u16::from(!from_uplink));
            self.pipeline.receive(&self.reader, &self.snapshot, from, &mut packets, &mut out);
            self.reader.quiesce();
            assert!(packets.is_empty());
            let after = self.dropped() + self.pool.outstanding() - before;
            // Of what is for a group many leave, or are dropped.
            let many = out.cut || burst.iter().any(|(frame, _)| is_for_group(frame));
            let gone = out.sent + out.punted + after - (self.answered() - answered);
            assert!(
                if many { gone >= burst.len() } else { gone == burst.len() },
                "{gone} of {}",
                burst.len()
            );
            leaving.append(&mut out.uplink);
        }
        leaving
    }

    /// Lets time pass until nothing is held any more.
    pub fn settle(&mut self) {
        self.clock.0.set(self.clock.0.get() + Duration::from_secs(3));
        while self.pipeline.is_holding() {
            self.pipeline.expire(&self.snapshot);
            self.pipeline.age_flows(&self.reader, &self.snapshot);
        }
        assert_eq!(self.pool.outstanding(), 0, "a packet leaked");
    }

    fn dropped(&self) -> usize {
        let sum = |drops: &Drops| DropReason::ALL.iter().map(|reason| drops.get(*reason)).sum::<u64>();
        let vnets = self.snapshot.vnets.iter().map(|vnet| sum(vnet.uplink_drops.get(0).unwrap()));
        let ports = self.traffic().map(|traffic| sum(&traffic.get(0).unwrap().drops));
        (vnets.sum::<u64>() + ports.sum::<u64>()) as usize
    }

    fn answered(&self) -> usize {
        let sent = self.traffic().map(|traffic| traffic.get(0).unwrap().icmp_errors_sent.get());
        sent.sum::<u64>() as usize
    }

    fn traffic(&self) -> impl Iterator<Item = &PerWorker<overlane_dataplane::counters::Traffic>> {
        self.snapshot.ports.iter().filter_map(|role| match role {
            PortRole::Node(interface) => Some(&*interface.traffic),
            PortRole::Uplink(uplink) => Some(&*uplink.traffic),
            PortRole::Absent => None,
        })
    }
}
