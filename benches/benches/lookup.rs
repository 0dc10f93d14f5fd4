//! Look-ups in the mapping table, in bursts of 64, beside what one would use in its place: hashbrown behind a lock,
//! papaya, and, with the feature `rte-hash`, DPDK's `rte_hash`. Each at three sizes, with keys that are all as frequent and
//! such that few are most of them, without and with a writer that replaces 100,000 values a second meanwhile.
//!
//! Every value that is found is read. Time is CPU time of the looking-up thread; waiting for a lock is none.

mod cpu_time;
#[cfg(feature = "rte-hash")]
mod rte_hash;

use core::hint::black_box;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;
use cpu_time::CpuTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use hashbrown::HashMap;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::table::mapping::{
    Mapping, MappingKey, MappingTable, MappingWriter, State, mapping_table,
};
use overlane_dataplane::table::qsbr::{Domain, Reader};
use parking_lot::RwLock;
use std::error::Error;
use std::time::Instant;

type Result<T> = core::result::Result<T, Box<dyn Error>>;

const BURST: usize = 64;
/// How many look-ups there are before they come again: so many bytes that no cache keeps the order.
const WALK: usize = 1 << 22;
/// How many bursts are checked before measuring.
const CHECKED: usize = 1 << 10;
/// What the writer does in each of its steps, a millisecond long.
const UPDATES: u32 = 100;
const STEP: Duration = Duration::from_millis(1);

/// A table that is looked into by one thread and changed by another.
trait Subject {
    type Looker<'a>
    where
        Self: 'a;
    type Changer<'a>: Send
    where
        Self: 'a;

    fn split(&mut self) -> Result<(Self::Looker<'_>, Self::Changer<'_>)>;
    /// Looks the keys up; the sum of something out of every value.
    fn look_up(looker: &mut Self::Looker<'_>, keys: &[MappingKey; BURST]) -> u64;
    fn replace(changer: &mut Self::Changer<'_>, key: MappingKey, value: Mapping);
}

/// The n-th node's key: 65,536 in a vnet.
#[inline]
fn key(index: u32) -> MappingKey {
    let vnet = VnetId::new(1 + (index >> 16)).unwrap_or(VnetId::MAX);
    MappingKey::new(vnet, Ipv4Addr::from_bits(0x0a00_0000 | (index & 0xffff)))
}

/// The n-th node: 64 on a host.
fn node(index: u32) -> Result<(MappingKey, Mapping)> {
    let network = 0xfd00_0000_0001_0000_u128 + u128::from(index / 64);
    let prefix = HostPrefix::new(Layout::Slot64, Ipv6Addr::from_bits(network << 64))?;
    let vnet = VnetId::new(1 + (index >> 16))?;
    let locator = Locator::new(Layout::Slot64, prefix, Slot::new((index % 64) as u8)?, vnet)?;
    Ok((key(index), Mapping { locator, also_accept: None, local: None, state: State::Live }))
}

fn of(mapping: Option<&Mapping>) -> u64 {
    mapping.map_or(0, |mapping| u64::from(mapping.locator.sum()))
}

struct Overlane {
    table: MappingTable,
    writer: MappingWriter,
}

impl Subject for Overlane {
    type Looker<'a> = (&'a MappingTable, Reader);
    type Changer<'a> = &'a mut MappingWriter;

    fn split(&mut self) -> Result<(Self::Looker<'_>, Self::Changer<'_>)> {
        let reader = self.writer.domain().register("bench")?;
        Ok(((&self.table, reader), &mut self.writer))
    }

    #[inline]
    fn look_up((table, reader): &mut Self::Looker<'_>, keys: &[MappingKey; BURST]) -> u64 {
        let mut found = [None; BURST];
        table.find_burst(reader, keys, &mut found);
        let mappings = found.iter().zip(keys).map(|(found, key)| found.map(|found| found.mapping(*key)));
        let sum = mappings.map(|mapping| of(mapping.as_ref())).sum();
        reader.quiesce();
        sum
    }

    fn replace(writer: &mut Self::Changer<'_>, key: MappingKey, value: Mapping) {
        // A value that is replaced cannot be refused.
        let _ = writer.insert(key, value);
    }
}

struct Locked(RwLock<HashMap<MappingKey, Mapping>>);

impl Subject for Locked {
    type Looker<'a> = &'a Self;
    type Changer<'a> = &'a Self;

    fn split(&mut self) -> Result<(&Self, &Self)> {
        Ok((self, self))
    }

    #[inline]
    fn look_up(looker: &mut &Self, keys: &[MappingKey; BURST]) -> u64 {
        let map = looker.0.read();
        keys.iter().map(|key| of(map.get(key))).sum()
    }

    fn replace(changer: &mut &Self, key: MappingKey, value: Mapping) {
        changer.0.write().insert(key, value);
    }
}

struct Papaya(papaya::HashMap<MappingKey, Mapping>);

impl Subject for Papaya {
    type Looker<'a> = &'a Self;
    type Changer<'a> = &'a Self;

    fn split(&mut self) -> Result<(&Self, &Self)> {
        Ok((self, self))
    }

    #[inline]
    fn look_up(looker: &mut &Self, keys: &[MappingKey; BURST]) -> u64 {
        let map = looker.0.pin();
        keys.iter().map(|key| of(map.get(key))).sum()
    }

    fn replace(changer: &mut &Self, key: MappingKey, value: Mapping) {
        changer.0.pin().insert(key, value);
    }
}

/// Pseudo-random numbers (SplitMix64: Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u32
    }

    /// 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[derive(Clone, Copy)]
enum Spread {
    Uniform,
    /// The n-th most frequent is 1/n as frequent as the first (exponent 0.99, as in YCSB).
    Zipf,
}

impl Spread {
    const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "Zipf",
        }
    }

    /// The walk over `size` nodes.
    fn walk(self, size: u32) -> Vec<u32> {
        const SKEW: f64 = 1.0 - 0.99;
        let mut random = Random(7);
        let most = f64::from(size).powf(SKEW) - 1.0;
        let step = || match self {
            Self::Uniform => random.below(size),
            Self::Zipf => {
                // The inverse of the continuous distribution's; ranks lie far from each other.
                let rank = most.mul_add(random.unit(), 1.0).powf(1.0 / SKEW) as u32 - 1;
                (u64::from(rank.min(size - 1)) * 0x9e37_79b1 % u64::from(size)) as u32
            }
        };
        core::iter::repeat_with(step).take(WALK.min(size as usize * 4)).collect()
    }
}

fn measure<S: Subject>(
    group: &mut BenchmarkGroup<'_, CpuTime>,
    name: &str,
    subject: &mut S,
    size: u32,
    spread: Spread,
) -> Result<()> {
    let walk = spread.walk(size);
    let (mut looker, mut changer) = subject.split()?;
    for burst in walk.as_chunks::<BURST>().0.iter().take(CHECKED) {
        let wanted: u64 = burst.iter().map(|index| Ok(of(Some(&node(*index)?.1)))).sum::<Result<u64>>()?;
        // What does not find everything is not worth measuring.
        assert_eq!(S::look_up(&mut looker, &burst.map(key)), wanted, "{name}");
    }
    let mut bursts = walk.as_chunks::<BURST>().0.iter().cycle();
    let mut run = |group: &mut BenchmarkGroup<'_, CpuTime>, id: BenchmarkId| {
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                let Some(burst) = bursts.next() else { return 0 };
                black_box(S::look_up(&mut looker, &burst.map(key)))
            });
        });
    };
    run(group, BenchmarkId::new(name, spread.name()));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut random, mut next) = (Random(8), Instant::now());
            while !stop.load(Relaxed) {
                for _ in 0..UPDATES {
                    let Ok((key, mut value)) = node(random.below(size)) else { return };
                    value.also_accept = Some(value.locator);
                    S::replace(&mut changer, key, value);
                }
                next += STEP;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        run(group, BenchmarkId::new(format!("{name}, writer"), spread.name()));
        stop.store(true, Relaxed);
    });
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().with_measurement(CpuTime).configure_from_args();
    // Without measuring, small ones do.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let sizes: &[_] =
        if measuring { &[("64K", 1 << 16), ("1M", 1 << 20), ("16M", 1 << 24)] } else { &[("1K", 1 << 10)] };
    #[cfg(feature = "rte-hash")]
    let (eal, rte_hash) = rte_hash::dpdk(sizes.iter().map(|(_, size)| *size).max().unwrap_or_default())?;
    for (name, size) in sizes {
        let nodes = || (0..*size).map(node);
        let mut group = criterion.benchmark_group(format!("lookup/{name}"));
        group.throughput(Throughput::Elements(BURST as u64));
        group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1));

        let (mut writer, table) = mapping_table(&Domain::new(2, 1024), *size as usize, [3, 4]);
        for node in nodes() {
            let (key, value) = node?;
            writer.insert(key, value)?;
        }
        let mut subject = Overlane { table, writer };
        for spread in [Spread::Uniform, Spread::Zipf] {
            measure(&mut group, "overlane", &mut subject, *size, spread)?;
        }
        drop(subject);

        let mut subject = Locked(RwLock::new(nodes().collect::<Result<_>>()?));
        for spread in [Spread::Uniform, Spread::Zipf] {
            measure(&mut group, "hashbrown and RwLock", &mut subject, *size, spread)?;
        }
        drop(subject);

        let mut subject = Papaya(nodes().collect::<Result<_>>()?);
        for spread in [Spread::Uniform, Spread::Zipf] {
            measure(&mut group, "papaya", &mut subject, *size, spread)?;
        }
        drop(subject);

        #[cfg(feature = "rte-hash")]
        {
            let mut subject = rte_hash::RteHash::new(&eal, nodes().collect::<Result<_>>()?)?;
            for spread in [Spread::Uniform, Spread::Zipf] {
                measure(&mut group, rte_hash, &mut subject, *size, spread)?;
            }
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}
