//! Judging one packet by lists of rules of different lengths, one or none of which matches, by itself and with all else that
//! is done to a packet; and compiling such a list.
//!
//! Rules are like a security group's: each about another peer, a third of them about other ports as well. Packets come from
//! ever other peers, so that what is read of a list is not just what the packet before it needed.

mod cpu_time;

use core::hint::black_box;
use core::net::Ipv4Addr;
use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput};
use overlane_benches::bed::Bed;
use overlane_benches::round::four_to_six;
use overlane_dataplane::id::VnetId;
use overlane_dataplane::policy::{Action, Facts, Peer, Rule, RuleSet};
use overlane_dataplane::wire::protocol;

const BURST: usize = 64;
const LENGTHS: [u32; 4] = [10, 100, 1_000, 10_000];

/// The vnet of the bed.
fn vnet() -> VnetId {
    VnetId::new(7).unwrap_or(VnetId::MIN)
}

const fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + number)
}

fn rules(count: u32) -> Vec<Rule> {
    let rule = |number: u32| {
        let ports = number.is_multiple_of(3).then(|| 1_000..=(1_000 + (number % 500) as u16));
        Rule {
            peer: Peer::Addresses(vec![(vnet(), address(number).into())]),
            protocol: Some(protocol::TCP),
            destination_ports: ports,
            ..Rule::all("rule", Action::Allow)
        }
    };
    (0..count).map(rule).collect()
}

fn facts(peer: u32) -> Facts {
    Facts {
        peer: (vnet(), address(peer)),
        protocol: protocol::TCP,
        ports: Some((40_000, 443)),
        icmp: None,
        size: 60,
    }
}

fn judge(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("rules");
    group.throughput(Throughput::Elements(BURST as u64));
    for count in LENGTHS {
        let Ok(set) = RuleSet::compile(rules(count)) else { return };
        for (what, offset) in [("one matches", 0), ("none matches", 1 << 20)] {
            let mut next = 0u32;
            group.bench_function(BenchmarkId::new(what, count), |bencher| {
                bencher.iter(|| {
                    for _ in 0..BURST {
                        // A step that visits all of them, in an order that is not theirs.
                        next = next.wrapping_add(7_919);
                        black_box(set.first_match(&facts(next % count + offset), &[]));
                    }
                });
            });
        }
    }
    group.finish();
}

/// Whole packets, each judged, since what lets them pass is stateless: as the first packet of a flow is, but that it makes
/// none.
fn carry(criterion: &mut Criterion<CpuTime>) -> overlane_benches::Result<()> {
    let mut group = criterion.benchmark_group("judged packet");
    group.throughput(Throughput::Elements(BURST as u64));
    for count in [0, 10, 100, 1_000, 10_000] {
        // As many peers as there are rules: each packet matches one.
        let mut bed = Bed::new(count.max(10))?;
        if count > 0 {
            let rule = |rule| Rule { stateless: true, destination_ports: None, ..rule };
            bed.judge_by(rules(count).into_iter().map(rule).collect())?;
        }
        let mut round = four_to_six(&mut bed, 60)?;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| bencher.iter(|| round.run()));
    }
    group.finish();
    Ok(())
}

fn compile(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for count in LENGTHS {
        let rules = rules(count);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_with_large_drop(|| RuleSet::compile(rules.clone()));
        });
    }
    group.finish();
}

fn main() -> overlane_benches::Result<()> {
    let mut criterion = Criterion::default().with_measurement(CpuTime).configure_from_args();
    judge(&mut criterion);
    compile(&mut criterion);
    carry(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
