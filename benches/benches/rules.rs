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
use overlane_benches::round::{FirstPackets, four_to_six};
use overlane_dataplane::id::VnetId;
use overlane_dataplane::policy::{Action, Facts, Peer, Rule, RuleSet};
use overlane_dataplane::table::flow::FlowLimits;
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

/// Whole packets, each the first of a flow: looked up, judged, entered in the flow table and translated, and old flows aged. The
/// rules are about some of the node's peers each, the last one about all, and the packets go to all peers alike: nothing but
/// the rules differs from row to row.
fn first(criterion: &mut Criterion<CpuTime>) -> overlane_benches::Result<()> {
    // As many as there are by default, all of them the node's own.
    let limits = FlowLimits::default().with_per_node(FlowLimits::default().capacity() * 2)?;
    for (what, protocol) in [("first packet, UDP", protocol::UDP), ("first packet, TCP", protocol::TCP)] {
        let mut group = criterion.benchmark_group(what);
        group.throughput(Throughput::Elements(BURST as u64));
        for count in LENGTHS {
            let mut bed = Bed::with_flows(PEERS, &limits)?;
            let mut list: Vec<Rule> = rules(count - 1)
                .into_iter()
                .map(|rule| Rule { protocol: Some(protocol), destination_ports: None, ..rule })
                .collect();
            list.push(Rule::all("rest", Action::Allow));
            bed.judge_by(list)?;
            let mut packets = FirstPackets::new(&mut bed, protocol)?;
            group
                .bench_function(BenchmarkId::from_parameter(count), |bencher| bencher.iter(|| packets.run()));
        }
        group.finish();
    }
    Ok(())
}

/// Peers of the node: more than there are rules.
const PEERS: u32 = 1 << 14;

/// Whole packets, each judged, since what lets them pass is stateless.
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
    first(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
