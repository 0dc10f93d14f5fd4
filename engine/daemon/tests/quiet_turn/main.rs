//! A worker's turn in steady state is quiet: it asks nothing of the heap, and makes no system call.
//!
//! The real runtime with one worker that spins, on devices that make no calls themselves: `net_pcap` with `infinite_rx`,
//! which plays a capture from packet memory, and `net_null`, which frees what it is sent. So whatever is seen on the
//! worker's thread is a turn's own. A process has one DPDK environment, so each test runs in a process of its own: this
//! binary, called with the test's name in `OVERLANE_SCENARIO`.

#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
#[path = "../common/mod.rs"]
mod common;
mod heap;
mod site;
mod trace;

use libtest_mimic::Trial;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::id::PortId;
use overlane_dpdk::{Devargs, Mbuf};
use overlane_engine::config::Idle;
use overlane_engine::kernel::Kernel;
use overlane_engine::runtime::{Cores, OnReceived, OpenPort, PortSpec, Runtime};
use site::Direction::{self, FourToSix, SixToFour};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SCENARIO: &str = "OVERLANE_SCENARIO";
/// How long a worker may take for its next turn, beside whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is watched: so many packets at least, and so many turns, among which is a look for devices that are gone.
const PACKETS: u64 = 1 << 20;
const TURNS: u64 = 1 << 16;
/// Turns within which it must have happened.
const LONGEST: u64 = 1 << 18;

/// Its name, which way packets go, whether the vnet is stateful, and whether turns make noise.
type Scenario = (&'static str, Direction, bool, bool);

const SCENARIOS: [Scenario; 5] = [
    ("turn_that_carries_packets_from_a_node_is_quiet", FourToSix, false, false),
    ("turn_that_carries_packets_to_a_node_is_quiet", SixToFour, false, false),
    ("turn_that_carries_known_flows_from_a_node_is_quiet", FourToSix, true, false),
    ("turn_that_carries_known_flows_to_a_node_is_quiet", SixToFour, true, false),
    ("noise_in_a_turn_is_heard", FourToSix, false, true),
];

fn main() {
    if trace::traced_one() {
        return;
    }
    if let Ok(name) = std::env::var(SCENARIO) {
        let scenario = SCENARIOS.iter().find(|(known, ..)| *known == name);
        return run(*scenario.expect("a scenario of that name"));
    }
    let root = nix::unistd::Uid::effective().is_root();
    let trial = |(name, ..): Scenario| {
        if !root {
            eprintln!("SKIPPED {name}: needs root, as the engine's workers have it");
        }
        let trial = Trial::test(name, move || {
            let output = Command::new(std::env::current_exe()?).env(SCENARIO, name).output()?;
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if output.status.success() { Ok(()) } else { Err(format!("{}\n{text}", output.status).into()) }
        });
        trial.with_ignored_flag(!root)
    };
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Each test has a worker that spins.
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, SCENARIOS.map(trial).into()).exit();
}

/// Tells from within the worker what its thread has asked of the heap, and makes noise when told to.
#[derive(Debug, Clone, Default)]
struct Ear(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    heap_calls: AtomicU64,
    bursts: AtomicU64,
    noise: AtomicBool,
}

impl OnReceived for Ear {
    fn received(&mut self, _: PortId, _: &mut [Mbuf]) {
        if self.0.noise.load(Relaxed) {
            std::hint::black_box(Vec::<u8>::with_capacity(1));
            nix::unistd::getpid();
        }
        self.0.heap_calls.store(heap::calls(), Relaxed);
        self.0.bursts.fetch_add(1, Relaxed);
    }
}

fn run((name, direction, stateful, noise): Scenario) {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("packets.pcap");
    site::write_capture(&capture, direction);
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let kernel = tokio.block_on(async { Kernel::connect().unwrap() });
    let config = common::runtime_config(Cores::choose(&[]).unwrap().workers, Idle::Spin);
    let ear = Ear::default();
    let (runtime, mut writer) = Runtime::start_with(&config, kernel, &ear).unwrap();
    site::fill(&mut writer);
    let open = |devargs: Devargs| {
        let spec = PortSpec::DevargsUplink { devargs: devargs.as_str().to_owned(), mtu: None };
        tokio.block_on(runtime.open_port(spec)).unwrap()
    };
    let output = open(Devargs::vdev("net_null0").unwrap().argument("no-rx", 1).unwrap());
    let input = Devargs::vdev("net_pcap0").unwrap().argument("rx_pcap", capture.display()).unwrap();
    let input = open(input.argument("infinite_rx", 1).unwrap());
    let (node, uplink) = match direction {
        FourToSix => (&input, &output),
        SixToFour => (&output, &input),
    };
    runtime.publish(site::snapshot(node, uplink, stateful)).unwrap();
    let watched = Watched { runtime: &runtime, ear: &ear.0, input: &input, output: &output };
    watched.listen(name, stateful, noise);
    tokio.block_on(runtime.shutdown(Duration::from_secs(5))).expect("an orderly shutdown");
}

/// A worker at work.
struct Watched<'a> {
    runtime: &'a Runtime,
    ear: &'a Heard,
    input: &'a OpenPort,
    output: &'a OpenPort,
}

/// What a worker has done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Done {
    sent: u64,
    turns: u64,
    heap_calls: u64,
    /// What did not come through, and what became of flows: in steady state, nothing more.
    events: Vec<u64>,
}

impl Watched<'_> {
    fn listen(&self, name: &str, stateful: bool, noise: bool) {
        // Every packet has come round and found its flow, and whatever is made once is made.
        let packets = u64::from(site::PACKETS);
        let flows = if stateful { packets } else { 0 };
        self.until(|done| done.sent > 16 * packets && self.runtime.flows().totals().inserted == flows);
        self.ear.noise.store(noise, Relaxed);
        let traced = trace::Traced::thread(common::held::thread(std::process::id(), "overlane-w0"));
        let before = self.done();
        // Noise stops the worker, for the tracer, in every turn.
        let (packets, turns) = if noise { (PACKETS >> 8, 0) } else { (PACKETS, TURNS) };
        let after =
            self.until(|done| done.sent >= before.sent + packets && done.turns >= before.turns + turns);
        let calls = traced.calls();
        let heap_calls = after.heap_calls - before.heap_calls;
        println!(
            "{name}: {} packets in {} turns, {heap_calls} calls of the heap, {} of the kernel",
            after.sent - before.sent,
            after.turns - before.turns,
            calls.len()
        );
        assert_eq!(after.events, before.events, "packets did not come through, or flows came and went");
        if noise {
            // An allocation, and its end, each turn; and a call.
            assert!(heap_calls > 100 && calls.len() > 50, "{heap_calls} {}", calls.len());
            let getpid = u64::try_from(nix::libc::SYS_getpid).unwrap();
            assert!(calls.iter().all(|call| *call == getpid), "{calls:?}");
        } else {
            assert_eq!((heap_calls, calls), (0, vec![]));
        }
    }

    /// Waits until the worker has done what is wanted, within `LONGEST` turns.
    fn until(&self, wanted: impl Fn(&Done) -> bool) -> Done {
        let last = self.done().turns + LONGEST;
        loop {
            let done = self.done();
            if wanted(&done) {
                return done;
            }
            assert!(done.turns < last, "{done:?}, {:?}", self.runtime.flows().totals());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// As of the end of a burst that began after this was called.
    fn done(&self) -> Done {
        let (burst, until) = (self.ear.bursts.load(Relaxed), Instant::now() + PATIENCE);
        while self.ear.bursts.load(Relaxed) < burst + 2 {
            assert!(Instant::now() < until, "the worker receives nothing");
            std::thread::yield_now();
        }
        let ports = [&self.input.traffic, &self.output.traffic];
        let dropped = DropReason::ALL.iter().map(|reason| {
            let unplaced: u64 =
                self.runtime.unplaced().iter().map(|traffic| traffic.drops.get(*reason)).sum();
            unplaced + ports.iter().map(|traffic| traffic.total(*reason)).sum::<u64>()
        });
        let flows = self.runtime.flows().totals();
        let flows = [flows.inserted, flows.expired, flows.replaced, flows.refused, flows.collided];
        Done {
            sent: self.output.traffic.iter().map(|traffic| traffic.tx_packets.get()).sum(),
            turns: self.runtime.worker_stats().iter().map(|worker| worker.turns).sum(),
            heap_calls: self.ear.heap_calls.load(Relaxed),
            events: dropped.chain(flows).collect(),
        }
    }
}
