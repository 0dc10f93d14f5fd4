//! A burst of 64 through the stages, on plain memory; the address codec; the internet checksum.
//!
//! Time is CPU time of the thread, since machines are shared. Stamping the packets anew is part of each measured round,
//! and its own cost is the row `stamp only`.

mod cpu_time;

use core::hint::black_box;
use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput};
use overlane_benches::Result;
use overlane_benches::bed::{ADDRESS, Bed, HEADERS_4, HEADERS_6};
use overlane_benches::round::{four_to_six, six_to_four};
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::pipeline::BURST;
use overlane_dataplane::wire::checksum::Sum;

fn pipeline(criterion: &mut Criterion<CpuTime>) -> Result<()> {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(BURST as u64));
    for (name, mappings) in [("1k", 1 << 10), ("1M", 1 << 20)] {
        let mut bed = Bed::new(mappings)?;
        for size in [64, 1480] {
            // Without the frame check sequence; and larger than a TCP header over IPv6.
            let length = (size - 4_usize).max(HEADERS_4 + 20);
            let mut round = four_to_six(&mut bed, length)?;
            let id = BenchmarkId::new(format!("4 to 6, {size} B"), name);
            group.bench_function(id, |bencher| bencher.iter(|| round.run()));
            let mut round = six_to_four(&mut bed, length + (HEADERS_6 - HEADERS_4))?;
            let id = BenchmarkId::new(format!("6 to 4, {size} B"), name);
            group.bench_function(id, |bencher| bencher.iter(|| round.run()));
        }
        let mut round = four_to_six(&mut bed, 60)?;
        let id = BenchmarkId::new("stamp only, 64 B", name);
        group.bench_function(id, |bencher| bencher.iter(|| round.stamp()));
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
