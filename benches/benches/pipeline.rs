//! A burst of 64 through the stages, on plain memory; the address codec; the internet checksum.
//!
//! Packets are used again and again: what left the pipeline gets its old headers back, with another destination (or
//! source) out of all that are mapped. Time is CPU time of the thread, since machines are shared. That stamp is part of each measured round, and its own cost is the row `stamp only`.

use arrayvec::ArrayVec;
use core::hint::black_box;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use nix::time::{ClockId, clock_gettime};
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::buffer::{HeapOptions, HeapPacket, HeapPool};
use overlane_dataplane::counters::PerWorker;
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::id::{PortId, Slot, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::packet::{Clock, Packet};
use overlane_dataplane::pipeline::{BURST, Outbox, Pipeline};
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Subnet, Uplink, Vnet};
use overlane_dataplane::table::mapping::{Mapping, MappingKey, mapping_table};
use overlane_dataplane::table::qsbr::{Domain, Reader};
use overlane_dataplane::wire::checksum::Sum;
use overlane_dataplane::wire::{ethernet, ipv4, ipv6, protocol};
use std::error::Error;
use std::sync::Arc;

type Result<T> = core::result::Result<T, Box<dyn Error>>;

const LAYOUT: Layout = Layout::Slot64;
const NODE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const UPLINK: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
/// How many stamps there are: more than the caches of one core hold destinations for, in 1 M mappings.
const STAMPS: usize = 1 << 16;
const HEADERS_4: usize = ethernet::LENGTH + ipv4::LENGTH;
const HEADERS_6: usize = ethernet::LENGTH + ipv6::LENGTH;

/// CPU time of the measuring thread.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        // The clock of the own thread cannot fail on Linux.
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Time that stands still: nothing that is measured asks for it.
struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// What left the pipeline in this round.
#[derive(Default)]
struct Sent(ArrayVec<HeapPacket, BURST>);

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
struct Bed {
    pipeline: Pipeline<HeapPool, StillClock>,
    snapshot: HostSnapshot,
    reader: Reader,
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
    fn new(mappings: u32) -> Result<Self> {
        let id = VnetId::new(7)?;
        let subnet = Subnet { net: "10.0.0.0/8".parse()?, gateway: None };
        let vnet = Arc::new(Vnet { id, subnets: vec![subnet], uplink_drops: Arc::new(PerWorker::new(1)) });
        let (node, uplink) = (PortId::new(0)?, PortId::new(1)?);
        let interface = Arc::new(Interface {
            name: "node".to_owned(),
            port: node,
            slot: Slot::ZERO,
            vnet: Arc::clone(&vnet),
            mac: NODE,
            addresses: vec![ADDRESS],
            mtu: 1480,
            traffic: Arc::new(PerWorker::new(1)),
            icmp_limit: IcmpLimit::default().buckets(1),
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
                Mapping { locator, also_accept: None, local: None, live: true },
            )?;
        }
        let pool = HeapPool::new(HeapOptions::default());
        let pipeline = Pipeline::new(0, table, pool.clone(), StillClock, FragmentLimits::default(), [5, 6]);
        Ok(Self { pipeline, snapshot, reader, pool, vnet: id, mappings })
    }

    /// The n-th of an even walk over all mappings, far from the one before.
    fn walk(&self, step: usize) -> u32 {
        ((step as u64 * 0x9e37_79b9) % u64::from(self.mappings)) as u32
    }

    /// Headers from the node to every mapping on the walk, for frames of `length` bytes.
    fn stamps_4(&self, length: usize) -> Result<Vec<[u8; HEADERS_4]>> {
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
                protocol: protocol::TCP,
                source: ADDRESS,
                destination,
            };
            fields.emit(packet.first_chunk_mut().ok_or("stamp")?);
            Ok(bytes)
        };
        (0..STAMPS).map(stamp).collect()
    }

    /// Headers from every mapping on the walk to the node, for frames of `length` bytes.
    fn stamps_6(&self, length: usize) -> Result<Vec<[u8; HEADERS_6]>> {
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
    fn burst(&self, length: usize, transport: usize) -> Result<ArrayVec<HeapPacket, BURST>> {
        let mut frame = vec![0; length];
        *frame.get_mut(transport + 12).ok_or("frame too short")? = 0x50;
        (0..BURST).map(|_| self.pool.packet(&frame).ok_or_else(|| "pool exhausted".into())).collect()
    }

    /// Measures rounds of a burst from `port`. `undo` makes room for the old headers again.
    fn measure<const HEADERS: usize>(
        &mut self,
        group: &mut BenchmarkGroup<'_, CpuTime>,
        id: BenchmarkId,
        port: u16,
        stamps: &[[u8; HEADERS]],
        length: usize,
        undo: impl Fn(&mut HeapPacket),
    ) -> Result<()> {
        let port = PortId::new(port)?;
        let mut burst = self.burst(length, HEADERS)?;
        let mut sent = Sent::default();
        let mut stamps = stamps.iter().cycle();
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                for (packet, stamp) in burst.iter_mut().zip(&mut stamps) {
                    packet.head_mut().iter_mut().zip(stamp).for_each(|(to, from)| *to = *from);
                }
                self.pipeline.receive(&self.reader, &self.snapshot, port, &mut burst, &mut sent);
                self.reader.quiesce();
                assert_eq!(sent.0.len(), BURST, "every packet must come through");
                for mut packet in sent.0.drain(..) {
                    undo(&mut packet);
                    burst.push(packet);
                }
            });
        });
        Ok(())
    }
}

fn pipeline(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(BURST as u64));
    for (name, mappings) in [("1k", 1 << 10), ("1M", 1 << 20)] {
        let mut bed = Bed::new(mappings)?;
        for size in [64, 1480] {
            // Without the frame check sequence; and larger than a TCP header over IPv6.
            let length = (size - 4_usize).max(HEADERS_4 + 20);
            let stamps = bed.stamps_4(length)?;
            let id = BenchmarkId::new(format!("4 to 6, {size} B"), name);
            bed.measure(&mut group, id, 0, &stamps, length, |packet| {
                let _ = packet.trim_front(HEADERS_6 - HEADERS_4);
            })?;
            let length = length + (HEADERS_6 - HEADERS_4);
            let stamps = bed.stamps_6(length)?;
            let id = BenchmarkId::new(format!("6 to 4, {size} B"), name);
            bed.measure(&mut group, id, 1, &stamps, length, |packet| {
                let _ = packet.prepend(HEADERS_6 - HEADERS_4);
            })?;
        }
        let length = 60;
        let stamps = bed.stamps_4(length)?;
        let mut burst = bed.burst(length, HEADERS_4)?;
        let mut stamps = stamps.iter().cycle();
        group.bench_function(BenchmarkId::new("stamp only, 64 B", name), |bencher| {
            bencher.iter(|| {
                for (packet, stamp) in burst.iter_mut().zip(&mut stamps) {
                    packet.head_mut().iter_mut().zip(stamp).for_each(|(to, from)| *to = *from);
                }
                black_box(&mut burst);
            });
        });
    }
    group.finish();
    Ok(())
}

fn codec(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    let mut group = criterion.benchmark_group("address");
    for layout in Layout::ALL {
        let prefix = HostPrefix::parse(layout, &format!("fd00:0:0:a::/{}", layout.prefix_length()))?;
        let address = Locator::new(layout, prefix, Slot::ZERO, VnetId::new(7)?)?.address(ADDRESS);
        let fields = layout.decode(address)?;
        group.bench_function(BenchmarkId::new("decode", layout), |bencher| {
            bencher.iter(|| layout.decode(black_box(address)));
        });
        group.bench_function(BenchmarkId::new("encode", layout), |bencher| {
            bencher.iter(|| layout.encode(black_box(&fields)));
        });
    }
    group.finish();
    Ok(())
}

fn checksum(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("checksum");
    for length in [20, 64, 1460, 65_000] {
        let bytes: Vec<u8> = (0..length).map(|index| index as u8).collect();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
            bencher.iter(|| Sum::ZERO.add_bytes(black_box(&bytes)).checksum());
        });
    }
    group.finish();
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().with_measurement(CpuTime).configure_from_args();
    pipeline(&mut criterion)?;
    codec(&mut criterion)?;
    checksum(&mut criterion);
    criterion.final_summary();
    Ok(())
}
