//! A host with one node, on plain memory, and traffic for it: what benches and instruction counts measure.

use crate::Result;
use arrayvec::ArrayVec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::buffer::{HeapOptions, HeapPacket, HeapPool};
use overlane_dataplane::counters::PerWorker;
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::id::{PortId, Slot, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::packet::Clock;
use overlane_dataplane::pipeline::{BURST, Outbox, Pipeline};
use overlane_dataplane::policy::{Policy, Rule, RuleSet};
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Subnet, Uplink, Vnet};
use overlane_dataplane::table::flow::{FlowLimits, FlowTable};
use overlane_dataplane::table::mapping::{Mapping, MappingKey, State, mapping_table};
use overlane_dataplane::table::qsbr::{Domain, Reader};
use overlane_dataplane::wire::{ethernet, ipv4, ipv6, protocol};
use std::sync::Arc;

/// The substrate's layout.
pub const LAYOUT: Layout = Layout::Slot64;
/// The node's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
/// Bytes of Ethernet and IPv4 headers.
pub const HEADERS_4: usize = ethernet::LENGTH + ipv4::LENGTH;
/// Bytes of Ethernet and IPv6 headers.
pub const HEADERS_6: usize = ethernet::LENGTH + ipv6::LENGTH;
const NODE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const UPLINK: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
/// How many stamps there are: more than the caches of one core hold destinations for, in 1 M mappings.
const STAMPS: usize = 1 << 16;

/// Time that passes when a bench says so.
#[derive(Debug, Clone, Default)]
pub struct BenchClock(Arc<AtomicU64>);

impl BenchClock {
    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Relaxed);
    }
}

impl Clock for BenchClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}

/// What left the pipeline in this round.
#[derive(Debug, Default)]
pub struct Sent(pub ArrayVec<HeapPacket, BURST>);

impl Outbox<HeapPacket> for Sent {
    fn transmit(&mut self, _: PortId, packet: HeapPacket) {
        self.0.push(packet);
    }

    fn punt(&mut self, _: PortId, packet: HeapPacket) {
        drop(packet);
    }

    fn path_mtu(&mut self, _: HostPrefix, _: u16) {}
}

/// A host with one node, and a vnet of `mappings` nodes elsewhere.
#[derive(Debug)]
pub struct Bed {
    pub(crate) pipeline: Pipeline<HeapPool, BenchClock>,
    pub(crate) clock: BenchClock,
    pub(crate) snapshot: HostSnapshot,
    pub(crate) reader: Reader,
    pool: HeapPool,
    vnet: VnetId,
    mappings: u32,
}

/// Where the n-th node elsewhere lives: 64 on a host.
fn elsewhere(vnet: VnetId, index: u32) -> Result<(Locator, Ipv4Addr)> {
    let network = 0xfd00_0000_0001_0000_u128 + u128::from(index / 64);
    let prefix = HostPrefix::new(LAYOUT, Ipv6Addr::from_bits(network << 64))?;
    let locator = Locator::new(LAYOUT, prefix, Slot::new((index % 64) as u8)?, vnet)?;
    Ok((locator, Ipv4Addr::from_bits(0x0a00_0000 + index)))
}

impl Bed {
    /// A bed with so many mappings, at most 2^24 - 2^16.
    ///
    /// # Errors
    /// If there is no room for them.
    pub fn new(mappings: u32) -> Result<Self> {
        Self::with_flows(mappings, &FlowLimits::default())
    }

    /// The same, and flows are remembered as these limits say.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_flows(mappings: u32, limits: &FlowLimits) -> Result<Self> {
        let id = VnetId::new(7)?;
        let subnet = Subnet { net: "10.0.0.0/8".parse()?, gateway: None };
        let uplink_drops = Arc::new(PerWorker::new(1));
        let vnet = Arc::new(Vnet::new(id, vec![subnet], uplink_drops));
        let (node, uplink) = (PortId::new(0)?, PortId::new(1)?);
        let interface = Arc::new(Interface {
            name: "node".to_owned(),
            port: node,
            slot: Slot::ZERO,
            vnet: Arc::clone(&vnet),
            mac: NODE,
            addresses: vec![ADDRESS],
            policy: None,
            settling: false,
            mtu: 1480,
            traffic: Arc::new(PerWorker::new(1)),
            icmp_limit: IcmpLimit::default().buckets(1),
            cap: None,
            group_limit: GroupLimit::default().buckets(1),
        });
        let way = Arc::new(Uplink {
            name: "uplink".to_owned(),
            port: uplink,
            mac: UPLINK,
            mtu: 1500,
            addresses: vec!["fe80::1".parse()?],
            next_hop: Some(ROUTER),
            link_up: true,
            traffic: Arc::new(PerWorker::new(1)),
            icmp_limit: IcmpLimit::default().buckets(1),
        });
        let mut snapshot = HostSnapshot::empty(LAYOUT);
        snapshot.prefix = Some(HostPrefix::parse(LAYOUT, "fd00:0:0:a::/64")?);
        snapshot.ports = vec![PortRole::Node(Arc::clone(&interface)), PortRole::Uplink(Arc::clone(&way))];
        if let Some(place) = snapshot.slots.first_mut() {
            *place = Some(interface);
        }
        snapshot.vnets = vec![vnet];
        snapshot.uplinks = vec![way];

        let domain = Domain::new(1, 1024);
        let reader = domain.register("bench")?;
        let (mut writer, table) = mapping_table(&domain, mappings as usize, [3, 4]);
        for index in 0..mappings {
            let (locator, ipv4) = elsewhere(id, index)?;
            writer.insert(
                MappingKey::new(id, ipv4),
                Mapping { locator, also_accept: None, local: None, state: State::Live },
            )?;
        }
        let pool = HeapPool::new(HeapOptions::default());
        let flows = FlowTable::new(&domain, limits, 1, [7, 8]);
        let fragments = FragmentLimits::default();
        let clock = BenchClock::default();
        let pipeline = Pipeline::new(0, table, flows, pool.clone(), clock.clone(), fragments, [5, 6]);
        Ok(Self { pipeline, clock, snapshot, reader, pool, vnet: id, mappings })
    }

    /// Gives the node rules for what it sends.
    ///
    /// # Errors
    /// If they are too complex.
    pub fn judge_by(&mut self, rules: Vec<Rule>) -> Result<()> {
        let (egress, ingress) = (RuleSet::compile(rules)?, RuleSet::compile(Vec::new())?);
        let policy = Arc::new(Policy { egress: Arc::new(egress), ingress: Arc::new(ingress) });
        for role in &mut self.snapshot.ports {
            if let PortRole::Node(interface) = role {
                Arc::make_mut(interface).policy = Some(Arc::clone(&policy));
            }
        }
        self.snapshot.settle();
        Ok(())
    }

    /// The n-th of an even walk over all mappings, far from the one before.
    pub(crate) fn walk(&self, step: usize) -> u32 {
        ((step as u64 * 0x9e37_79b9) % u64::from(self.mappings)) as u32
    }

    /// Headers from the node to every mapping on the walk, for frames of `length` bytes.
    pub(crate) fn stamps_4(&self, length: usize, protocol: u8) -> Result<Vec<[u8; HEADERS_4]>> {
        let stamp = |step| {
            let (_, destination) = elsewhere(self.vnet, self.walk(step))?;
            let mut bytes = [0; HEADERS_4];
            let (frame, packet) = bytes.split_first_chunk_mut().ok_or("stamp")?;
            ethernet::emit(frame, MacAddr::dummy(self.vnet, destination), NODE, ethernet::ethertype::IPV4);
            let fields = ipv4::Fields {
                tos: 0,
                total_length: u16::try_from(length - ethernet::LENGTH)?,
                identification: 0,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
                ttl: 64,
                protocol,
                source: ADDRESS,
                destination,
            };
            fields.emit(packet.first_chunk_mut().ok_or("stamp")?);
            Ok(bytes)
        };
        (0..STAMPS).map(stamp).collect()
    }

    /// Headers from every mapping on the walk to the node, for frames of `length` bytes.
    pub(crate) fn stamps_6(&self, length: usize) -> Result<Vec<[u8; HEADERS_6]>> {
        let prefix = self.snapshot.prefix.ok_or("no prefix")?;
        let destination = Locator::new(LAYOUT, prefix, Slot::ZERO, self.vnet)?.address(ADDRESS);
        let stamp = |step| {
            let (locator, source) = elsewhere(self.vnet, self.walk(step))?;
            let mut bytes = [0; HEADERS_6];
            let (frame, packet) = bytes.split_first_chunk_mut().ok_or("stamp")?;
            ethernet::emit(frame, UPLINK, ROUTER, ethernet::ethertype::IPV6);
            let fields = ipv6::Fields {
                traffic_class: 0,
                payload_length: u16::try_from(length - HEADERS_6)?,
                next_header: protocol::TCP,
                hop_limit: 60,
                source: locator.address(source),
                destination,
            };
            fields.emit(packet.first_chunk_mut().ok_or("stamp")?);
            Ok(bytes)
        };
        (0..STAMPS).map(stamp).collect()
    }

    /// A burst of frames of `length` bytes, whose headers are still to be stamped. Each has a TCP header without
    /// options at `transport`.
    pub(crate) fn burst(&self, length: usize, transport: usize) -> Result<ArrayVec<HeapPacket, BURST>> {
        let mut frame = vec![0; length];
        *frame.get_mut(transport + 12).ok_or("frame too short")? = 0x50;
        (0..BURST).map(|_| self.pool.packet(&frame).ok_or_else(|| "pool exhausted".into())).collect()
    }
}
