//! The engine: its real runtime and workers, with a node's port and an uplink on the two devices.

use crate::child::{BUFFERS, Setup};
use crate::clock::ThreadClock;
use crate::frames::Direction;
use crate::measure::{Parts, Reading, Share};
use crate::site;
use crate::stamp::{MaybeStamp, Stamp};
use anyhow::{Context, bail};
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::resolve::ResolveLimits;
use overlane_dataplane::table::flow::{FlowLimits, FlowTotals, Timeouts};
use overlane_dpdk::Devargs;
use overlane_engine::config::{Hugepages, Idle, WorkersConfig};
use overlane_engine::kernel::Kernel;
use overlane_engine::runtime::{BusyCycles, OpenPort, PortSpec, Runtime, RuntimeConfig};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long the engine may take to end in order.
const END: Duration = Duration::from_secs(5);
/// How long it may take until every flow is entered.
const ENTER: Duration = Duration::from_secs(30);
/// How often it is seen how many are.
const LOOK: Duration = Duration::from_millis(10);

/// How the engine is to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Engine {
    /// Which of its ports has the input.
    pub(crate) direction: Direction,
    /// Nodes elsewhere.
    pub(crate) mappings: u32,
    /// Flows that the capture and the stamp make; 0: the vnet is stateless.
    pub(crate) flows: u32,
    /// Varies what is received.
    pub(crate) stamp: Option<Stamp>,
}

/// Runs it until `answer_all` returns, which is given what reads packets and time.
pub(crate) fn run(
    setup: &Setup,
    engine: &Engine,
    answer_all: impl FnOnce(&mut dyn FnMut() -> anyhow::Result<Reading>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let kernel = tokio.block_on(async { Kernel::connect() })?;
    let config = RuntimeConfig {
        layout: site::LAYOUT,
        workers: WorkersConfig {
            cores: setup.cores.clone(),
            idle: Idle::Spin,
            mempool: BUFFERS,
            hugepages: if setup.hugepages { Hugepages::Always } else { Hugepages::Never },
        },
        expected_mappings: usize::try_from(engine.mappings)?,
        fragments: FragmentLimits::default(),
        flows: limits(engine.flows)?,
        resolve: ResolveLimits::default(),
        seed: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
        devargs: Vec::new(),
    };
    let (runtime, mut writer) = Runtime::start_with(&config, kernel, &MaybeStamp(engine.stamp))?;
    site::fill(&mut writer, engine.mappings)?;
    let open = |devargs: Devargs| {
        let spec = PortSpec::DevargsUplink { devargs: devargs.as_str().to_owned(), mtu: None };
        tokio.block_on(runtime.open_port(spec))
    };
    let output = open(setup.output()?).context("open the output")?;
    let input = open(setup.input()?).context("open the input")?;
    let (node, uplink) = match engine.direction {
        Direction::FourToSix => (&input, &output),
        Direction::SixToFour => (&output, &input),
    };
    let workers = setup.cores.len();
    runtime
        .publish(site::snapshot(node, uplink, workers, engine.flows > 0)?)
        .map_err(|full| anyhow::anyhow!("{full}"))?;
    let clocks = (0..workers).map(|worker| ThreadClock::of(&format!("overlane-w{worker}")));
    let clocks = clocks.collect::<anyhow::Result<Vec<_>>>()?;
    enter(&runtime, engine.flows)?;
    // Until workers have the snapshot, packets belong to no port: those are not counted among the port's.
    let mut lost = None;
    answer_all(&mut || {
        only_these(&runtime, engine.flows)?;
        let now = Lost::of(&runtime, &input, &output);
        if let Some(before) = lost.replace(now.clone()).filter(|before| *before != now) {
            bail!("not every packet came through: {}", now.beyond(&before));
        }
        read(&clocks, &output.traffic, &runtime)
    })?;
    tokio.block_on(runtime.shutdown(END))
}

/// Room for as many flows as there are; the default's where there are none.
pub(crate) fn limits(flows: u32) -> anyhow::Result<FlowLimits> {
    match flows {
        0 => Ok(FlowLimits::default()),
        // All of them are one node's.
        flows => {
            let flows = usize::try_from(flows)?;
            Ok(FlowLimits::new(flows, Timeouts::default())?.with_per_node(flows)?)
        }
    }
}

/// Waits until every flow is in the table.
fn enter(runtime: &Runtime, flows: u32) -> anyhow::Result<()> {
    let until = Instant::now() + ENTER;
    while runtime.flows().totals().live() < u64::from(flows) {
        if Instant::now() > until {
            bail!("not all of {flows} flows are entered: {:?}", runtime.flows().totals());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Sees to it that the flow table holds these flows and no others, and that none has ever had to go.
fn only_these(runtime: &Runtime, flows: u32) -> anyhow::Result<()> {
    let (totals, inserted) = (runtime.flows().totals(), u64::from(flows));
    if totals != (FlowTotals { inserted, ..FlowTotals::default() }) {
        bail!("the flow table is to hold {flows} flows, and has had {totals:?}");
    }
    Ok(())
}

/// Time first, then packets: the moment between them is the same at both ends of what is measured.
fn read(clocks: &[ThreadClock], sent: &PerWorker<Traffic>, runtime: &Runtime) -> anyhow::Result<Reading> {
    let share = |(clock, traffic): (&ThreadClock, &Traffic)| {
        Ok(Share { cpu: clock.now()?, packets: traffic.tx_packets.get() })
    };
    let shares = clocks.iter().zip(sent.iter()).map(share).collect::<anyhow::Result<_>>()?;
    let counted = runtime.worker_stats().into_iter().map(|worker| {
        let BusyCycles { receive, classify, authorise, translate, send, turns } = worker.cycles;
        Parts { receive, classify, authorise, translate, send, turns }
    });
    let parts = counted.fold(Parts::default(), |sum, worker| sum.with(worker, u64::saturating_add));
    Ok(Reading { shares, parts: Some(parts) })
}

/// What was dropped, by reason.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lost(Vec<u64>);

impl Lost {
    fn of(runtime: &Runtime, input: &OpenPort, output: &OpenPort) -> Self {
        let count = |reason: &DropReason| {
            let unplaced: u64 = runtime.unplaced().iter().map(|traffic| traffic.drops.get(*reason)).sum();
            input.traffic.total(*reason) + output.traffic.total(*reason) + unplaced
        };
        Self(DropReason::ALL.iter().map(count).collect())
    }

    fn beyond(&self, before: &Self) -> String {
        let counts = self.0.iter().zip(&before.0).zip(DropReason::ALL);
        let told = counts
            .filter(|((now, before), _)| now > before)
            .map(|((now, before), reason)| format!("{} {}", now - before, reason.name()));
        told.collect::<Vec<_>>().join(", ")
    }
}
