//! The flow table by itself, one worker, in bursts of 64; a flow is a 64th of a row.
//!
//! Every live flow is used once before the first is used again, in an order that is not the table's.

mod cpu_time;

use core::hint::black_box;
use core::net::Ipv4Addr;
use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput};
use overlane_dataplane::id::{PortId, VnetId};
use overlane_dataplane::table::flow::{
    Account, Direction, FlowKey, FlowLimits, FlowTable, FlowWorker, NewFlow, Observed, Sign, Tick, Timeouts,
};
use overlane_dataplane::table::qsbr::{Domain, Reader};
use overlane_dataplane::wire::protocol;
use std::error::Error;

type Result<T> = core::result::Result<T, Box<dyn Error>>;

const BURST: usize = 64;

/// A table, its one worker, and what both need.
struct Bed {
    table: FlowTable,
    worker: FlowWorker,
    reader: Reader,
    vnet: VnetId,
    account: Account,
    now: Tick,
}

impl Bed {
    /// An empty table for so many flows.
    fn new(capacity: usize) -> Result<Self> {
        let domain = Domain::new(1, 64);
        let limits = FlowLimits::new(capacity, Timeouts::default())?.with_per_node(capacity)?;
        let table = FlowTable::new(&domain, &limits, 1, [3, 4]);
        let (worker, reader) = (table.worker(0), domain.register("bench")?);
        Ok(Self {
            table,
            worker,
            reader,
            vnet: VnetId::new(7)?,
            account: Account::of_port(PortId::new(0)?),
            now: Tick(1),
        })
    }

    /// The n-th flow, of a client of its own for every 16.
    fn key(&self, number: u32) -> (FlowKey, Direction) {
        let client = (Ipv4Addr::from_bits(0x0a00_0000 + number / 16), 40_000 + (number % 16) as u16);
        FlowKey::new(self.vnet, protocol::UDP, client, (Ipv4Addr::new(10, 255, 0, 1), 53))
    }

    fn insert(&mut self, number: u32) -> Result<()> {
        let (key, direction) = self.key(number);
        let (account, sign) = (self.account, Sign::DATAGRAM);
        let new = NewFlow { direction, sign, account, joined: false, epoch: 1, verdict: Ok(()) };
        self.worker.insert(&self.table, &self.reader, key, &new, self.now)?;
        Ok(())
    }

    fn turn(&mut self) {
        self.reader.quiesce();
        self.worker.turn(&self.reader, self.now);
    }

    fn fill(&mut self, flows: u32) -> Result<()> {
        for number in 0..flows {
            self.insert(number)?;
            if number % BURST as u32 == 0 {
                self.turn();
            }
        }
        Ok(())
    }
}

fn hit(criterion: &mut Criterion<CpuTime>, name: &str, flows: u32) -> Result<()> {
    let mut bed = Bed::new(flows as usize)?;
    bed.fill(flows)?;
    // An odd step goes through all of a power of two.
    let walk = |step: u32| step.wrapping_mul(0x9e37_79b1) % flows;
    let packets: Vec<_> = (0..flows).map(|step| bed.key(walk(step))).collect();
    let mut bursts = packets.chunks_exact(BURST).cycle();
    let mut group = criterion.benchmark_group("flow");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function(BenchmarkId::new("hit", name), |bencher| {
        bencher.iter(|| {
            let Some(burst) = bursts.next() else { return };
            let mut keys = [burst[0].0; BURST];
            keys.iter_mut().zip(burst).for_each(|(to, (key, _))| *to = *key);
            let mut found = [None; BURST];
            bed.table.lookup_burst(&bed.reader, &keys, &mut found);
            for (flow, (_, direction)) in found.iter().zip(burst) {
                let Some(flow) = flow else { panic!("every flow is there") };
                let observed = flow.observe(*direction, Sign::DATAGRAM, bed.now, bed.table.timeouts());
                assert_eq!(observed, Observed::Ours);
                black_box(flow.judged(1));
            }
        });
        bed.reader.quiesce();
    });
    group.finish();
    Ok(())
}

fn change(criterion: &mut Criterion<CpuTime>, name: &str, flows: u32) -> Result<()> {
    let mut group = criterion.benchmark_group("flow");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut bed = Bed::new(flows as usize)?;
    bed.fill(flows / 2)?;
    let mut next = flows;
    group.bench_function(BenchmarkId::new("insert and remove", name), |bencher| {
        bencher.iter(|| {
            let numbers = next..next + BURST as u32;
            next = numbers.end % (1 << 30) + flows;
            for number in numbers.clone() {
                bed.insert(number).expect("there is room");
            }
            for number in numbers {
                let (key, _) = bed.key(number);
                let flow = bed.table.lookup(&bed.reader, key).expect("it has just been entered");
                bed.worker.remove(&bed.reader, flow);
            }
            bed.turn();
        });
    });
    bed.fill(2 * flows)?;
    let mut next = 4 * flows;
    group.bench_function(BenchmarkId::new("insert into a full table", name), |bencher| {
        bencher.iter(|| {
            for _ in 0..BURST {
                next = (next + 1) % (1 << 31);
                bed.insert(next).expect("something makes way");
            }
            bed.turn();
        });
    });
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().with_measurement(CpuTime).configure_from_args();
    for (name, flows) in [("64k", 1 << 16), ("1M", 1 << 20)] {
        hit(&mut criterion, name, flows)?;
        change(&mut criterion, name, flows)?;
    }
    criterion.final_summary();
    Ok(())
}
