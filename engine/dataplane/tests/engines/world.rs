//! Two engines without I/O: real bytes go into a port, and everything that comes out, and every counter that
//! changed, is there to be asserted.

use arrayvec::ArrayVec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::buffer::{HeapOptions, HeapPacket, HeapPool};
use overlane_dataplane::counters::{Drops, PerWorker};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::group::{Filter, Group, GroupLimit, Member};
use overlane_dataplane::id::{PortId, Slot, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::packet::{Clock, Offload, Packet};
use overlane_dataplane::pipeline::{BURST, Outbox, Pipeline};
use overlane_dataplane::resolve::{self, Answer, Question, ResolveLimits};
use overlane_dataplane::segment::{self, Capabilities};
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Subnet, Uplink, Vnet};
use overlane_dataplane::table::flow::{FlowLimits, FlowTable, Timeouts};
use overlane_dataplane::table::mapping::{Mapping, MappingKey, MappingWriter, State, mapping_table};
use overlane_dataplane::table::qsbr::{Domain, Reader};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of two workers, the one whose pipeline runs here.
const WORKER: usize = 1;
pub(crate) const UPLINK_MTU: u16 = 1500;
pub(crate) const NODE_MTU: u16 = 1480;

pub(crate) fn vnet(id: u32) -> VnetId {
    VnetId::new(id).unwrap()
}

pub(crate) fn port(index: u16) -> PortId {
    PortId::new(index).unwrap()
}

/// The uplink of either engine.
pub(crate) const UPLINK: u16 = 0;
/// The next hop of either engine: the substrate's router.
pub(crate) const ROUTER: MacAddr = MacAddr([2, 0xcc, 0, 0, 0, 1]);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A node's interface in the test's world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) host: usize,
    pub(crate) port: u16,
    pub(crate) slot: u8,
    pub(crate) vnet: u32,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) live: bool,
    /// Whether it is attached to a port.
    pub(crate) attached: bool,
}

impl Node {
    pub(crate) const fn mac(&self) -> MacAddr {
        MacAddr([2, 0xee, self.host as u8, 0, 0, self.slot])
    }

    pub(crate) const fn dummy(&self) -> MacAddr {
        dummy(self.vnet, self.ipv4)
    }
}

pub(crate) const fn dummy(vnet: u32, ipv4: Ipv4Addr) -> MacAddr {
    match VnetId::new(vnet) {
        Ok(vnet) => MacAddr::dummy(vnet, ipv4),
        Err(_) => panic!("vnet id"),
    }
}

const fn node(host: usize, port: u16, slot: u8, vnet: u32, last: [u8; 2]) -> Node {
    let ipv4 = Ipv4Addr::new(10, 0, last[0], last[1]);
    Node { host, port, slot, vnet, ipv4, live: true, attached: true }
}

/// On host 0, in vnet 7.
pub(crate) const ALICE: Node = node(0, 1, 1, 7, [0, 10]);
/// Beside Alice, in her subnet.
pub(crate) const ANNA: Node = node(0, 2, 2, 7, [0, 11]);
/// Beside Alice, in the other subnet of her vnet.
pub(crate) const ADAM: Node = node(0, 4, 4, 7, [1, 10]);
/// Beside Alice, with her address in another vnet.
pub(crate) const STRANGER: Node = node(0, 3, 3, 9, [0, 10]);
/// On host 1, in Alice's subnet.
pub(crate) const BOB: Node = node(1, 1, 5, 7, [0, 20]);
/// On host 1, in the other subnet.
pub(crate) const BERTA: Node = node(1, 3, 7, 7, [1, 20]);
/// On host 1, with Bob's address in the other vnet.
pub(crate) const OTHER_BOB: Node = node(1, 2, 6, 9, [0, 20]);
/// On host 1, provisioned and down.
pub(crate) const DOWN: Node = Node { live: false, attached: false, ..node(1, 9, 40, 7, [0, 99]) };

pub(crate) fn fix_ipv4_checksum(frame: &mut [u8]) {
    let length = usize::from(frame[14] & 0xf) * 4;
    frame[24..26].fill(0);
    let words = frame[14..14 + length].chunks(2);
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

pub(crate) const NODES: [Node; 8] = [ALICE, ANNA, ADAM, STRANGER, BOB, BERTA, OTHER_BOB, DOWN];

/// What left an engine by a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) port: u16,
    pub(crate) bytes: Vec<u8>,
    pub(crate) offload: Offload,
}

/// What came of a burst.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) sent: Vec<Sent>,
    pub(crate) punted: Vec<Vec<u8>>,
    /// Path MTUs that the control thread is told.
    pub(crate) path_mtus: Vec<(HostPrefix, u16)>,
    /// Mappings that it is asked for.
    pub(crate) asked: Vec<Question>,
    /// Every counter that changed, and by how much.
    pub(crate) counted: BTreeMap<String, u64>,
}

impl Outcome {
    /// ICMP errors that the engine sent of itself.
    pub(crate) fn answers(&self) -> usize {
        let sent = self.counted.iter().filter(|(name, _)| name.ends_with("icmp_errors_sent"));
        sent.map(|(_, count)| *count as usize).sum()
    }

    /// Packets dropped, whatever the reason and place.
    pub(crate) fn dropped(&self) -> u64 {
        self.counted.iter().filter(|(name, _)| name.contains("drop")).map(|(_, count)| count).sum()
    }

    /// The one packet that left.
    #[track_caller]
    pub(crate) fn only(self) -> Sent {
        assert_eq!((self.sent.len(), self.punted.len(), self.dropped()), (1, 0, 0), "{self:?}");
        self.sent.into_iter().next().unwrap()
    }
}

/// What came of finishing a packet in software.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) frames: Vec<Sent>,
    pub(crate) result: Result<(), DropReason>,
}

#[derive(Default)]
struct Collected {
    sent: Vec<(PortId, HeapPacket)>,
    punted: Vec<(PortId, HeapPacket)>,
    path_mtus: Vec<(HostPrefix, u16)>,
    asked: Vec<Question>,
    /// Whether nobody takes questions.
    deaf: bool,
}

impl Outbox<HeapPacket> for Collected {
    fn transmit(&mut self, port: PortId, packet: HeapPacket) {
        self.sent.push((port, packet));
    }

    fn punt(&mut self, port: PortId, packet: HeapPacket) {
        self.punted.push((port, packet));
    }

    fn path_mtu(&mut self, host: HostPrefix, mtu: u16) {
        self.path_mtus.push((host, mtu));
    }

    fn ask(&mut self, question: Question) -> bool {
        if !self.deaf {
            self.asked.push(question);
        }
        !self.deaf
    }
}

pub(crate) fn bytes(packet: &HeapPacket) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}

/// Time that passes when a test says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}

/// One engine: a host's snapshot, its mapping table, and a worker's pipeline.
pub(crate) struct Engine {
    pub(crate) pool: HeapPool,
    pub(crate) snapshot: HostSnapshot,
    pub(crate) mappings: MappingWriter,
    pub(crate) pipeline: Pipeline<HeapPool, TestClock>,
    pub(crate) clock: TestClock,
    pub(crate) flows: FlowTable,
    pub(crate) reader: Reader,
    /// Whether nobody takes questions.
    pub(crate) deaf: bool,
    /// Whether there are groups, so that of one packet many may leave.
    copies: bool,
    before: BTreeMap<String, u64>,
}

pub(crate) fn prefix(layout: Layout, host: usize) -> HostPrefix {
    let text = format!("fd00:0:0:{:x}::/{}", 0xa + host, layout.prefix_length());
    HostPrefix::parse(layout, &text).unwrap()
}

pub(crate) fn slot_of(layout: Layout, slot: u8) -> Slot {
    if layout.has_slots() { Slot::new(slot).unwrap() } else { Slot::ZERO }
}

pub(crate) fn locator(layout: Layout, host: usize, slot: u8, id: u32) -> Locator {
    Locator::new(layout, prefix(layout, host), slot_of(layout, slot), vnet(id)).unwrap()
}

/// The substrate address of a node.
pub(crate) fn address(layout: Layout, node: &Node) -> Ipv6Addr {
    locator(layout, node.host, node.slot, node.vnet).address(node.ipv4)
}

pub(crate) const fn uplink_mac(host: usize) -> MacAddr {
    MacAddr([2, 0xaa, 0, 0, 0, host as u8])
}

/// The engine's own address on its uplink.
pub(crate) fn engine_address(host: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host as u16 + 1)
}

impl Engine {
    /// The engine of `host` in the test's world.
    pub(crate) fn new(layout: Layout, host: usize) -> Self {
        Self::with_pool(layout, host, 4096)
    }

    /// The same with a pool of `limit` packets.
    pub(crate) fn with_pool(layout: Layout, host: usize, limit: usize) -> Self {
        let subnet = |third: u8| Subnet {
            net: format!("10.0.{third}.0/24").parse().unwrap(),
            gateway: Some(Ipv4Addr::new(10, 0, third, 1)),
        };
        let vnets: Vec<Arc<Vnet>> = [7, 9]
            .map(|id| {
                let uplink_drops = Arc::new(PerWorker::new(2));
                let subnets = vec![subnet(0), subnet(1)];
                Arc::new(Vnet::new(vnet(id), subnets, uplink_drops))
            })
            .into();
        let uplink = Arc::new(Uplink {
            name: "uplink".to_owned(),
            port: port(UPLINK),
            mac: uplink_mac(host),
            mtu: UPLINK_MTU,
            addresses: vec![engine_address(host)],
            next_hop: Some(ROUTER),
            link_up: true,
            traffic: Arc::new(PerWorker::new(2)),
            icmp_limit: IcmpLimit::default().buckets(2),
        });
        let mut snapshot = HostSnapshot::empty(layout);
        snapshot.prefix = Some(prefix(layout, host));
        snapshot.ports = vec![PortRole::Absent; 8];
        snapshot.ports[usize::from(UPLINK)] = PortRole::Uplink(Arc::clone(&uplink));
        snapshot.uplinks = vec![uplink];
        for node in NODES.iter().filter(|node| node.host == host && node.attached) {
            let interface = Arc::new(Interface {
                name: format!("node{}", node.port),
                port: port(node.port),
                slot: Slot::new(node.slot).unwrap(),
                vnet: Arc::clone(vnets.iter().find(|vnet| vnet.id.get() == node.vnet).unwrap()),
                mac: node.mac(),
                addresses: vec![node.ipv4],
                policy: None,
                settling: false,
                mtu: NODE_MTU,
                traffic: Arc::new(PerWorker::new(2)),
                icmp_limit: IcmpLimit::default().buckets(2),
                cap: None,
                group_limit: GroupLimit::default().buckets(2),
            });
            snapshot.ports[usize::from(node.port)] = PortRole::Node(Arc::clone(&interface));
            snapshot.slots[usize::from(node.slot)] = Some(interface);
        }
        snapshot.vnets = vnets;

        let domain = Domain::new(2, 1024);
        let reader = domain.register("test").unwrap();
        let (mut mappings, table) = mapping_table(&domain, 64, [1, 2]);
        for node in NODES {
            let mapping = Mapping {
                locator: locator(layout, node.host, node.slot, node.vnet),
                also_accept: None,
                local: (node.host == host && node.attached).then(|| port(node.port)),
                state: if node.live { State::Live } else { State::Down },
            };
            mappings.insert(MappingKey::new(vnet(node.vnet), node.ipv4), mapping).unwrap();
        }
        let pool = HeapPool::new(HeapOptions { limit, ..HeapOptions::default() });
        let clock = TestClock::default();
        let (fragments, seed) = (FragmentLimits::default(), [3, 4]);
        let limits = FlowLimits::new(1024, Timeouts::default()).unwrap();
        let flows = FlowTable::new(&domain, &limits, 2, [5, 6]);
        let (memory, time) = (pool.clone(), clock.clone());
        let pipeline = Pipeline::new(WORKER, table, flows.clone(), memory, time, fragments, seed);
        Self {
            pool,
            snapshot,
            mappings,
            pipeline,
            clock,
            flows,
            reader,
            deaf: false,
            copies: false,
            before: BTreeMap::new(),
        }
    }

    /// Has a group heard by these nodes, of which those on other hosts count by their hosts.
    pub(crate) fn join(&mut self, id: u32, group: Ipv4Addr, nodes: &[(Node, Filter)]) {
        let (layout, own) = (self.snapshot.layout, self.snapshot.prefix.unwrap());
        let (mut members, mut hosts) = (Vec::new(), Vec::new());
        for (node, filter) in nodes {
            let host = prefix(layout, node.host);
            if host == own {
                members.push(Member { port: port(node.port), filter: filter.clone() });
            } else if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let groups = Arc::get_mut(&mut self.snapshot.groups).unwrap();
        *groups.entry(vnet(id), group) = Group { members, hosts: hosts.into() };
        self.copies = true;
    }

    /// Begins anew with room for `capacity` flows, of which one node may have so many.
    pub(crate) fn limit_flows(&mut self, capacity: usize, per_node: usize) {
        let limits = FlowLimits::new(capacity, Timeouts::default()).unwrap();
        let limits = limits.with_per_node(per_node).unwrap();
        let domain = Arc::clone(self.reader.domain());
        self.flows = FlowTable::new(&domain, &limits, 2, [5, 6]);
        let (pool, clock) = (self.pool.clone(), self.clock.clone());
        let (table, flows) = (self.mappings.table(), self.flows.clone());
        self.pipeline = Pipeline::new(WORKER, table, flows, pool, clock, FragmentLimits::default(), [3, 4]);
    }

    /// Begins anew with other limits of what is resolved on demand.
    pub(crate) fn limit_resolution(&mut self, limits: ResolveLimits) {
        let (pool, clock, flows) = (self.pool.clone(), self.clock.clone(), self.flows.clone());
        let (table, fragments) = (self.mappings.table(), FragmentLimits::default());
        let pipeline = Pipeline::new(WORKER, table, flows, pool, clock, fragments, [3, 4]);
        self.pipeline = pipeline.with_resolve_limits(limits);
    }

    /// Makes a vnet stateful.
    pub(crate) fn make_stateful(&mut self, id: u32) {
        let epoch = self.snapshot.policy_epoch;
        self.change_vnet(id, |vnet| vnet.stateful = true);
        // There are no flows yet that would have to be judged again.
        self.snapshot.policy_epoch = epoch;
    }

    /// Changes a vnet, as the control thread would.
    pub(crate) fn change_vnet(&mut self, id: u32, change: impl FnOnce(&mut Vnet)) {
        let place = self.snapshot.vnets.iter_mut().find(|other| other.id == vnet(id)).unwrap();
        change(Arc::make_mut(place));
        let changed = Arc::clone(place);
        self.change_interfaces(|interface| {
            if interface.vnet.id == changed.id {
                interface.vnet = Arc::clone(&changed);
            }
        });
    }

    /// Changes the interface of a node.
    pub(crate) fn change_interface(&mut self, node: &Node, change: impl Fn(&mut Interface)) {
        let node = port(node.port);
        self.change_interfaces(|interface| {
            if interface.port == node {
                change(interface);
            }
        });
    }

    fn change_interfaces(&mut self, change: impl Fn(&mut Interface)) {
        let snapshot = &mut self.snapshot;
        for role in &mut snapshot.ports {
            if let PortRole::Node(interface) = role {
                change(Arc::make_mut(interface));
                snapshot.slots[usize::from(interface.slot.get())] = Some(Arc::clone(interface));
            }
        }
        snapshot.policy_epoch = snapshot.policy_epoch.wrapping_add(1);
        snapshot.settle();
    }

    /// Changes the mapping of a node.
    pub(crate) fn map(&mut self, node: &Node, change: impl FnOnce(&mut Mapping)) {
        let key = MappingKey::new(vnet(node.vnet), node.ipv4);
        let mut mapping = self.mappings.get(key).unwrap();
        change(&mut mapping);
        self.mappings.insert(key, mapping).unwrap();
    }

    /// Replaces the uplink by one that is a bit different.
    pub(crate) fn change_uplink(&mut self, change: impl FnOnce(&mut Uplink)) {
        let uplink = &self.snapshot.uplinks[0];
        let mut changed = Uplink {
            name: uplink.name.clone(),
            addresses: uplink.addresses.clone(),
            traffic: Arc::clone(&uplink.traffic),
            icmp_limit: Arc::clone(&uplink.icmp_limit),
            ..**uplink
        };
        change(&mut changed);
        let uplink = Arc::new(changed);
        self.snapshot.ports[usize::from(UPLINK)] = PortRole::Uplink(Arc::clone(&uplink));
        self.snapshot.uplinks = vec![uplink];
    }

    /// One frame in one segment into a port.
    #[track_caller]
    pub(crate) fn receive(&mut self, port: u16, frame: &[u8]) -> Outcome {
        let packet = self.pool.packet(frame).unwrap();
        self.receive_packets(port, [packet])
    }

    /// A burst into a port. Every packet must be accounted for, and nothing may leak.
    #[track_caller]
    pub(crate) fn receive_packets(
        &mut self,
        from: u16,
        packets: impl IntoIterator<Item = HeapPacket>,
    ) -> Outcome {
        let mut burst: ArrayVec<HeapPacket, BURST> = packets.into_iter().collect();
        // Among them are the burst's.
        let held = self.pool.outstanding() - burst.len();
        let (count, octets) = (burst.len() as u64, burst.iter().map(Packet::len).sum::<usize>() as u64);
        let mut out = Collected { deaf: self.deaf, ..Collected::default() };
        self.pipeline.receive(&self.reader, &self.snapshot, port(from), &mut burst, &mut out);
        assert!(burst.is_empty());
        assert!(out.punted.iter().all(|(port, _)| port.index() == usize::from(from)));
        self.account(out, held, (count, octets))
    }

    /// An answer to what was asked for. What waited for it must be accounted for.
    #[track_caller]
    pub(crate) fn answer(&mut self, question: Question, outcome: resolve::Outcome) -> Outcome {
        let held = self.pool.outstanding();
        let mut out = Collected { deaf: self.deaf, ..Collected::default() };
        let answer = Answer { question, outcome, epoch: self.snapshot.resolve_epoch };
        self.pipeline.answer(&self.reader, &self.snapshot, answer, &mut out);
        self.account(out, held, (0, 0))
    }

    /// What came of packets: `held` of before and as many as were `received` now, with their bytes.
    #[track_caller]
    fn account(&mut self, out: Collected, held: usize, received: (u64, u64)) -> Outcome {
        self.reader.quiesce();
        let (count, octets) = received;
        let mut outcome = Outcome { path_mtus: out.path_mtus, asked: out.asked, ..Outcome::default() };
        for (port, packet) in out.sent {
            let offload = packet.offload();
            outcome.sent.push(Sent { port: port.index() as u16, bytes: bytes(&packet), offload });
        }
        for (_, packet) in out.punted {
            outcome.punted.push(bytes(&packet));
        }
        assert!(self.pool.outstanding() == 0 || self.pipeline.is_holding(), "a packet leaked");
        let now = self.counters();
        for (name, value) in &now {
            let before = self.before.get(name).copied().unwrap_or(0);
            if *value != before {
                outcome.counted.insert(name.clone(), value - before);
            }
        }
        self.before = now;
        // A packet that is cut leaves as several, and what was held may have come with the first of its datagram.
        let out = (outcome.sent.len() + outcome.punted.len() - outcome.answers() + self.pool.outstanding())
            as u64
            + outcome.dropped();
        let (fragments, all) =
            (outcome.sent.iter().any(|sent| is_fragment(&sent.bytes)), count + held as u64);
        assert!(
            if fragments || self.copies { out >= all } else { out == all },
            "each packet is sent, punted, held, or counted once: {outcome:?}"
        );
        // What was received is counted on the port that it came from, and nowhere else.
        let received = |what: &str| -> u64 {
            outcome.counted.iter().filter(|(name, _)| name.ends_with(what)).map(|(_, count)| count).sum()
        };
        assert_eq!((received("rx_packets"), received("rx_bytes")), (count, octets));
        outcome
    }

    /// What the worker does in a turn beside receiving.
    pub(crate) fn expire(&mut self) {
        self.pipeline.expire(&self.snapshot);
        self.pipeline.age_flows(&self.reader, &self.snapshot);
        self.reader.quiesce();
        self.before = self.counters();
    }

    /// Packets dropped at a place so far.
    pub(crate) fn total(&self, place: &str, reason: DropReason) -> u64 {
        self.counters()[&format!("{place} drop {}", reason.name())]
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        let mut drops = |place: &str, drops: &Drops| {
            for reason in DropReason::ALL {
                all.insert(format!("{place} drop {}", reason.name()), drops.get(*reason));
            }
        };
        for vnet in &self.snapshot.vnets {
            drops(&format!("vnet {}", vnet.id), vnet.uplink_drops.get(WORKER).unwrap());
        }
        let ports = self.snapshot.ports.iter().filter_map(|role| match role {
            PortRole::Absent => None,
            PortRole::Node(interface) => Some((interface.name.as_str(), interface.traffic.get(WORKER)?)),
            PortRole::Uplink(uplink) => Some((uplink.name.as_str(), uplink.traffic.get(WORKER)?)),
        });
        let ports: Vec<_> = ports.chain([("unplaced", &**self.pipeline.unplaced())]).collect();
        for (name, traffic) in &ports {
            drops(name, &traffic.drops);
        }
        for (name, traffic) in ports {
            all.insert(format!("{name} rx_packets"), traffic.rx_packets.get());
            all.insert(format!("{name} rx_bytes"), traffic.rx_bytes.get());
            all.insert(format!("{name} tx_packets"), traffic.tx_packets.get());
            all.insert(format!("{name} tx_bytes"), traffic.tx_bytes.get());
            all.insert(format!("{name} icmp_errors_sent"), traffic.icmp_errors_sent.get());
            all.insert(format!("{name} icmp_errors_limited"), traffic.icmp_errors_limited.get());
        }
        all
    }

    /// A packet of these bytes, cut into segments at `cuts`, with this offload.
    pub(crate) fn packet(&self, frame: &[u8], cuts: &[usize], offload: Offload) -> HeapPacket {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(frame.len())).collect();
        cuts.extend([0, frame.len()]);
        cuts.sort_unstable();
        let mut packet = self.pool.packet_of(cuts.windows(2).map(|cut| &frame[cut[0]..cut[1]])).unwrap();
        packet.set_offload(offload);
        packet
    }

    /// What a port with `capabilities` sends for a packet that left the pipeline.
    pub(crate) fn finish(&self, capabilities: Capabilities, sent: &Sent, cuts: &[usize]) -> Finished {
        let packet = self.packet(&sent.bytes, cuts, sent.offload);
        let mut frames = Vec::new();
        let result = segment::finish(&self.pool, capabilities, packet, |packet| {
            frames.push(Sent { port: sent.port, bytes: bytes(&packet), offload: packet.offload() });
        });
        assert_eq!(self.pool.outstanding(), 0, "a packet leaked");
        Finished { frames, result }
    }

    /// A frame that must be dropped, for one reason, counted in one place.
    #[track_caller]
    pub(crate) fn refuses(&mut self, port: u16, frame: &[u8], place: &str, reason: DropReason) {
        let outcome = self.receive(port, frame);
        let name = format!("{place} drop {}", reason.name());
        assert_eq!(outcome.counted.get(&name), Some(&1), "expected {name}: {:?}", outcome.counted);
        assert_eq!(outcome.dropped(), 1);
    }
}

/// Whether a frame is a part of a datagram.
fn is_fragment(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff != 0,
        _ => frame[20] == 44,
    }
}

/// Both engines of the test's world.
pub(crate) fn world(layout: Layout) -> [Engine; 2] {
    [Engine::new(layout, 0), Engine::new(layout, 1)]
}
