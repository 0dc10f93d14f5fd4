//! What capsule runs on each core: the data plane, turn by turn.

use crate::adapter::{CapsuleThread, Frame, Frames, receive};
use crate::exits::{Exits, Unheard};
use crate::host::{Host, Port};
use crate::report::WorkerReport;
use crate::tell::WorkerClock;
use arrayvec::ArrayVec;
use capsule::PortQueue;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use nix::time::{ClockId, clock_gettime};
use overlane_dataplane::counters::Traffic;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::id::PortId;
use overlane_dataplane::packet::Clock;
use overlane_dataplane::pipeline::{BURST, Pipeline};
use overlane_dataplane::snapshot::HostSnapshot;
use overlane_dataplane::table::qsbr::Reader;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Where workers leave what they did, when they end.
pub(crate) type Reports = Arc<Mutex<Vec<WorkerReport>>>;

/// What a worker is made of, from the thread that sets up to the one that it runs on.
pub(crate) struct Plan {
    pub(crate) index: usize,
    pub(crate) core: usize,
    pub(crate) host: Arc<Host>,
    pub(crate) reader: Reader,
    pub(crate) seed: [u64; 2],
    pub(crate) unheard: Arc<Unheard>,
    pub(crate) reports: Reports,
    pub(crate) clocks: Sender<WorkerClock>,
}

/// One core's share of the data plane.
pub(crate) struct Worker {
    host: Arc<Host>,
    reader: Reader,
    pipeline: Pipeline<Frames, Monotonic>,
    receivers: Vec<(PortId, PortQueue)>,
    exits: Exits,
    unplaced: Arc<Traffic>,
    began: Duration,
    reports: Reports,
    report: WorkerReport,
}

/// The system's monotonic clock.
#[derive(Debug)]
struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Worker {
    /// Ports of which this core has no queue are left out; there are none, since all ports have all cores.
    pub(crate) fn new(plan: Plan, thread: CapsuleThread, mut queues: HashMap<String, PortQueue>) -> Self {
        let Plan { index, core, host, reader, seed, unheard, reports, clocks } = plan;
        // Where nobody asks for it, nobody hears it.
        let _ = clocks.send(WorkerClock::of_this_thread(index));
        let report = WorkerReport { core, registered: thread.is_registered(), ..WorkerReport::default() };
        let pool = Frames::new(Rc::new(thread));
        let (mut receivers, mut ports) = (Vec::new(), Vec::new());
        for Port { id, name, traffic, .. } in &host.ports {
            if let Some(queue) = queues.remove(name) {
                receivers.push((*id, queue.clone()));
                ports.push((queue, Arc::clone(traffic)));
            }
        }
        let clock = Monotonic(Instant::now());
        let (table, flows) = (host.table.clone(), host.flows.clone());
        let fragments = FragmentLimits::default();
        let pipeline = Pipeline::new(index, table, flows, pool.clone(), clock, fragments, seed);
        let unplaced = Arc::clone(pipeline.unplaced());
        let exits = Exits::new(index, pool, ports, unheard, Arc::clone(&unplaced));
        let began = cpu_time();
        Self { host, reader, pipeline, receivers, exits, unplaced, began, reports, report }
    }

    /// Carries a burst of every port to the end.
    fn turn(&mut self) {
        let snapshot: &HostSnapshot = &self.host.snapshot;
        let mut burst = ArrayVec::<Frame, BURST>::new();
        for (port, queue) in &mut self.receivers {
            for _ in 0..receive(queue, &mut burst) {
                self.exits.count(*port, DropReason::SegmentsUnsupported);
            }
            if !burst.is_empty() {
                self.report.packets += burst.len() as u64;
                self.pipeline.receive(&self.reader, snapshot, *port, &mut burst, &mut self.exits);
            }
        }
        self.pipeline.expire(snapshot);
        self.exits.flush();
        self.reader.quiesce();
        self.report.turns += 1;
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.get_mut().turn();
        // Others of this core come in between, above all the order to stop.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl capsule::batch::Pipeline for Worker {
    fn name(&self) -> &str {
        "overlane"
    }

    fn run_once(&mut self) {
        self.turn();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.report.cpu_ns = cpu_time().saturating_sub(self.began).as_nanos() as u64;
        self.report.unplaced_drops = crate::report::drops([&self.unplaced.drops]);
        if let Ok(mut reports) = self.reports.lock() {
            reports.push(core::mem::take(&mut self.report));
        }
    }
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    // The clock of the own thread cannot fail on Linux.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
