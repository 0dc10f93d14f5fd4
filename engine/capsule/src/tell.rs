//! What a run has done so far, for whoever asks on standard input.

use crate::host::Host;
use anyhow::Context;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;
use overlane_dataplane::counters::Traffic;
use overlane_dataplane::drop::DropReason;
use serde::Serialize;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// What a run has done so far.
#[derive(Debug, Serialize)]
pub struct SoFar {
    /// By worker.
    pub workers: Vec<WorkerSoFar>,
    /// Packets dropped, by anyone.
    pub dropped: u64,
}

/// What a worker has done so far.
#[derive(Debug, Serialize)]
pub struct WorkerSoFar {
    /// Packets that it handed to capsule to be sent.
    pub handed: u64,
    /// CPU time of its thread in nanoseconds, all of it.
    pub cpu_ns: u64,
}

/// The clock of a worker's CPU time, which every thread of the process can read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerClock {
    index: usize,
    clock: ClockId,
}

impl WorkerClock {
    /// That of the calling thread, which is worker `index`.
    pub(crate) fn of_this_thread(index: usize) -> Self {
        // How Linux numbers the clocks of threads: the complement of the thread's number, then three bits, of which 4
        // means a thread's and 2 scheduler time (clock_getres(2) has the process's, `CPUCLOCK_PERTHREAD_MASK`).
        Self { index, clock: ClockId::from_raw(!gettid().as_raw() << 3 | 4 | 2) }
    }
}

/// Answers each line on standard input with [`SoFar`], once every worker runs, and says so in `over` when there are no more.
pub(crate) fn tell(
    host: &Host,
    workers: usize,
    clocks: &Receiver<WorkerClock>,
    over: &AtomicBool,
) -> anyhow::Result<()> {
    let mut clocks = clocks.iter().take(workers).collect::<Vec<_>>();
    clocks.sort_unstable_by_key(|clock| clock.index);
    let result = std::io::stdin().lock().lines().try_for_each(|line| {
        line?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&so_far(host, &clocks)?)?)?;
        out.flush().context("standard output")
    });
    over.store(true, Relaxed);
    result
}

fn so_far(host: &Host, clocks: &[WorkerClock]) -> anyhow::Result<SoFar> {
    let traffic = |worker| host.ports.iter().filter_map(move |port| port.traffic.get(worker));
    let worker = |clock: &WorkerClock| {
        // Time first: the moment between them is the same whenever it is asked.
        let cpu: Duration = clock_gettime(clock.clock).context("a worker's clock")?.into();
        let handed = traffic(clock.index).map(|traffic: &Traffic| traffic.tx_packets.get()).sum();
        Ok(WorkerSoFar { handed, cpu_ns: u64::try_from(cpu.as_nanos())? })
    };
    let ports = host.ports.iter().flat_map(|port| port.traffic.iter()).map(|traffic| &traffic.drops);
    let vnets = host.snapshot.vnets.iter().flat_map(|vnet| vnet.uplink_drops.iter());
    let drops = ports.chain(vnets);
    let dropped = drops.flat_map(|drops| DropReason::ALL.iter().map(|reason| drops.get(*reason))).sum();
    Ok(SoFar { workers: clocks.iter().map(worker).collect::<anyhow::Result<_>>()?, dropped })
}

/// Tells on a thread of its own, which nobody waits for: it may wait for standard input for ever.
pub(crate) fn start(
    host: &Arc<Host>,
    workers: usize,
    clocks: Receiver<WorkerClock>,
    over: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let (host, over) = (Arc::clone(host), Arc::clone(over));
    let tell = move || {
        if let Err(error) = tell(&host, workers, &clocks, &over) {
            eprintln!("overlane-capsule: nobody is told any more: {error:#}");
        }
    };
    std::thread::Builder::new().name("tell".to_owned()).spawn(tell)?;
    Ok(())
}
