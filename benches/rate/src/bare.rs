//! A loop over our bindings that only receives and sends: what is left of the rate before any stage has run.

use crate::child::{BUFFERS, MEMORY_MIB, Setup};
use crate::clock::ThreadClock;
use crate::measure::{Reading, Share};
use crate::stamp::Stamp;
use anyhow::Context;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use overlane_dpdk::{
    BURST, Devargs, Eal, EalOptions, Hugepages, Mbuf, Mempool, MempoolOptions, Port, PortOptions, RxQueue,
    TxQueue, WorkerThread,
};
use serde::{Deserialize, Serialize};
use std::sync::mpsc::{SyncSender, sync_channel};

/// The name of the thread that forwards.
const THREAD: &str = "bare";

/// How the loop is to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bare {
    /// Changes packets between receiving and sending.
    pub(crate) stamp: Option<Stamp>,
}

/// One port's queues.
struct Queues {
    rx: RxQueue,
    tx: TxQueue,
}

/// Runs it until `answer_all` returns, which is given what reads packets and time.
pub(crate) fn run(
    setup: &Setup,
    bare: &Bare,
    answer_all: impl FnOnce(&mut dyn FnMut() -> anyhow::Result<Reading>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let core = *setup.cores.first().context("a core")?;
    let eal = Eal::init(EalOptions {
        control_cores: vec![setup.control],
        memory_mib: MEMORY_MIB,
        hugepages: if setup.hugepages { Hugepages::Require } else { Hugepages::Never },
        ..EalOptions::default()
    })?;
    let pool = Mempool::new(&eal, "packets", &MempoolOptions { size: BUFFERS, ..MempoolOptions::default() })?;
    let attach = |devargs: Devargs| -> anyhow::Result<Queues> {
        // The port may go: its queues keep the device open.
        let (_, rx, tx) = Port::attach(&eal, &devargs, &pool, &PortOptions::default())?;
        let queues = rx.into_iter().next().zip(tx.into_iter().next());
        queues.map(|(rx, tx)| Queues { rx, tx }).context("a queue of each kind")
    };
    let mut queues = [attach(setup.input()?)?, attach(setup.output()?)?];
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (ready, started) = sync_channel(1);
    std::thread::scope(|scope| {
        let work = || {
            let Some(_worker) = register(&eal, core, &ready) else { return };
            forward(&mut queues, &pool, bare.stamp, &stop, &sent);
        };
        std::thread::Builder::new().name(THREAD.to_owned()).spawn_scoped(scope, work)?;
        let answered = started.recv()?.and_then(|()| {
            let clock = ThreadClock::of(THREAD)?;
            answer_all(&mut || {
                Ok(Reading {
                    shares: vec![Share { cpu: clock.now()?, packets: sent.load(Relaxed) }],
                    parts: None,
                })
            })
        });
        stop.store(true, Relaxed);
        answered
    })
}

fn register(eal: &Eal, core: usize, ready: &SyncSender<anyhow::Result<()>>) -> Option<WorkerThread> {
    match WorkerThread::register(eal, Some(core)) {
        Ok(worker) => ready.send(Ok(())).is_ok().then_some(worker),
        Err(error) => {
            let _ = ready.send(Err(error.into()));
            None
        }
    }
}

/// What testpmd does: a burst of each port to the other one.
fn forward(
    [one, two]: &mut [Queues; 2],
    pool: &Mempool,
    mut stamp: Option<Stamp>,
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
    let mut burst = ArrayVec::<Mbuf, BURST>::new();
    while !stop.load(Relaxed) {
        for (from, to) in [(&mut one.rx, &mut two.tx), (&mut two.rx, &mut one.tx)] {
            if from.receive(pool, &mut burst) == 0 {
                continue;
            }
            if let Some(stamp) = &mut stamp {
                stamp.burst(&mut burst);
            }
            let taken = to.send(&mut burst);
            // This thread alone writes it.
            sent.store(sent.load(Relaxed) + taken as u64, Relaxed);
            burst.clear();
        }
    }
}
