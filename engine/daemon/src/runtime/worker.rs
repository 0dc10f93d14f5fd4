//! A worker: one thread on one core that carries packets to the end, turn by turn.

use super::PortEvent;
use super::failures::FailureQueue;
use super::hints::Hints;
use super::idle::{SPIN_TURNS, Sleeper};
use super::mailbox::{AddPort, Command, Mailbox, Returned};
use super::outbox::Out;
use super::questions::Asked;
use super::received::OnReceived;
use super::slots::SlotRing;
use super::stats::Work;
use crate::config::Idle;
use arrayvec::ArrayVec;
use core::time::Duration;
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::id::PortId;
use overlane_dataplane::packet::Clock;
use overlane_dataplane::pipeline::{Outbox, Pipeline, StageCycles};
use overlane_dataplane::resolve::ResolveLimits;
use overlane_dataplane::snapshot::HostSnapshot;
use overlane_dataplane::table::flow::FlowTable;
use overlane_dataplane::table::mapping::MappingTable;
use overlane_dataplane::table::published::Published;
use overlane_dataplane::table::qsbr::{Domain, Reader};
use overlane_dpdk::{BURST, Eal, Mbuf, Mempool, QueueState, RxQueue, TscClock, WorkerThread};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

/// Turns between two looks at whether devices are still there, for a worker that never sleeps.
const LOOK_TURNS: u64 = 1 << 16;
/// How often refused packets are handed over at most.
const FAILURES_APART: Duration = Duration::from_secs(1);
/// Packets taken from each mailbox in one turn; the rest waits for the next.
const MAIL_BURST: usize = 64;

/// What every worker shares.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) eal: Eal,
    pub(super) pool: Mempool,
    pub(super) clock: TscClock,
    pub(super) domain: Arc<Domain>,
    pub(super) table: MappingTable,
    pub(super) flows: FlowTable,
    pub(super) snapshot: Arc<Published<HostSnapshot>>,
    pub(super) mailboxes: Arc<[Arc<Mailbox>]>,
    pub(super) punts: Arc<SlotRing>,
    pub(super) punted: Arc<Notify>,
    pub(super) hints: Arc<Hints>,
    pub(super) asked: Arc<Asked>,
    pub(super) failures: Arc<FailureQueue>,
    pub(super) events: mpsc::Sender<PortEvent>,
    pub(super) work: Arc<PerWorker<Work>>,
    pub(super) idle: Idle,
    pub(super) fragments: FragmentLimits,
    pub(super) resolve: ResolveLimits,
    /// Secret and random: places of datagrams in the tables of fragments depend on it.
    pub(super) seed: [u64; 2],
}

struct Worker<R> {
    shared: Shared,
    on_received: R,
    index: usize,
    mailbox: Arc<Mailbox>,
    reader: Reader,
    pipeline: Pipeline<Mempool, TscClock>,
    rx: Vec<RxPort>,
    out: Out,
    sleeper: Sleeper,
    empty_turns: u32,
    turns: u64,
    /// Turns with packets since one was looked at, and their cycles.
    untimed: u32,
    untimed_cycles: u64,
    /// When refused packets were handed over last, by the clock.
    failures_told: Option<Duration>,
}

/// One turn of so many is looked at in parts, when there is something to do in all of them; else each is. To read the
/// counter costs what a fifth of a packet does.
const TIMED: u32 = 16;

/// Cycles of the parts of one turn, if it is one that is looked at.
#[derive(Clone, Copy, Default)]
struct Spent {
    receive: u64,
    stages: StageCycles,
    send: u64,
}

/// Adds up what passes between its calls, in turns that are looked at.
struct Laps {
    clock: TscClock,
    last: u64,
    timed: bool,
}

impl Laps {
    /// Cycles since the last call.
    #[inline]
    fn lap(&mut self) -> u64 {
        if !self.timed {
            return 0;
        }
        let now = self.clock.cycles();
        now.saturating_sub(std::mem::replace(&mut self.last, now))
    }
}

struct RxPort {
    port: PortId,
    queue: RxQueue,
    /// The device is gone, and that was told.
    gone: bool,
}

/// Makes the calling thread worker `index` on `core`, and runs it until it is told to stop. `ready` hears whether it
/// could begin, with its counters of what belongs to no port.
pub(super) fn run<R: OnReceived>(
    shared: Shared,
    on_received: R,
    index: usize,
    core: usize,
    ready: &std::sync::mpsc::SyncSender<anyhow::Result<Arc<Traffic>>>,
) {
    let begin = || -> anyhow::Result<(WorkerThread, Worker<R>)> {
        let registration = WorkerThread::register(&shared.eal, Some(core))?;
        Ok((registration, Worker::new(shared, on_received, index)?))
    };
    match begin() {
        Ok((registration, mut worker)) => {
            let _ = ready.send(Ok(Arc::clone(worker.pipeline.unplaced())));
            worker.run();
            // Its caches of packet buffers are given back by a thread that is still registered.
            drop(worker);
            drop(registration);
        }
        Err(error) => {
            let _ = ready.send(Err(error.context(format!("worker {index} on core {core}"))));
        }
    }
}

impl<R: OnReceived> Worker<R> {
    fn new(shared: Shared, on_received: R, index: usize) -> anyhow::Result<Self> {
        let mailbox = shared.mailboxes.get(index).cloned();
        let mailbox = mailbox.ok_or_else(|| anyhow::anyhow!("there is no mailbox for worker {index}"))?;
        let reader = shared.domain.register(&format!("worker {index}"))?;
        let pipeline = Pipeline::new(
            index,
            shared.table.clone(),
            shared.flows.clone(),
            shared.pool.clone(),
            shared.clock.clone(),
            shared.fragments,
            shared.seed,
        )
        .with_resolve_limits(shared.resolve);
        let (peers, punts) = (Arc::clone(&shared.mailboxes), Arc::clone(&shared.punts));
        let (hints, asked) = (Arc::clone(&shared.hints), Arc::clone(&shared.asked));
        let unplaced = Arc::clone(pipeline.unplaced());
        let out = Out::new(index, shared.pool.clone(), peers, punts, hints, asked, unplaced);
        let sleeper = Sleeper::new(&mailbox)?;
        Ok(Self {
            shared,
            on_received,
            index,
            mailbox,
            reader,
            pipeline,
            rx: Vec::new(),
            out,
            sleeper,
            empty_turns: 0,
            turns: 0,
            untimed: 0,
            untimed_cycles: 0,
            failures_told: None,
        })
    }

    fn run(&mut self) {
        let mut before = self.shared.clock.cycles();
        loop {
            if !self.commands() {
                return;
            }
            let (packets, spent) = self.turn(before);
            self.turns += 1;
            if packets > 0 {
                self.empty_turns = 0;
                self.sleeper.reset();
            } else {
                self.empty_turns = self.empty_turns.saturating_add(1);
                self.idle();
            }
            if self.turns.is_multiple_of(LOOK_TURNS) {
                self.look_for_gone_devices();
            }
            if self.pipeline.failures().is_waiting() {
                self.tell_failures();
            }
            let now = self.shared.clock.cycles();
            self.account(packets, spent, now.saturating_sub(before));
            before = now;
        }
    }

    /// Hands over what was refused, every so often. A worker that has nothing to do wakes often enough for that.
    #[cold]
    fn tell_failures(&mut self) {
        let now = self.shared.clock.now();
        if self.failures_told.is_none_or(|told| now.saturating_sub(told) >= FAILURES_APART) {
            self.failures_told = Some(now);
            self.shared.failures.take_from(self.pipeline.failures());
        }
    }

    fn account(&mut self, packets: usize, spent: Option<Spent>, cycles: u64) {
        let Some(work) = self.shared.work.get(self.index) else { return };
        work.turns.add(1);
        work.cycles.add(cycles);
        if packets == 0 {
            work.empty_turns.add(1);
            return;
        }
        work.packets.add(packets as u64);
        work.busy_cycles.add(cycles);
        self.untimed += 1;
        self.untimed_cycles += cycles;
        let Some(Spent { receive, stages: StageCycles { classify, authorise, translate }, send }) = spent
        else {
            return;
        };
        self.untimed = 0;
        // This turn stands for those that were not looked at.
        let all = std::mem::take(&mut self.untimed_cycles);
        let share = |part: u64| (u128::from(part) * u128::from(all) / u128::from(cycles.max(1))) as u64;
        for (counter, part) in [
            (&work.receive_cycles, receive),
            (&work.classify_cycles, classify),
            (&work.authorise_cycles, authorise),
            (&work.translate_cycles, translate),
            (&work.send_cycles, send),
        ] {
            counter.add(share(part));
        }
    }

    /// Carries a burst of every queue, and what others left, to the end; gives how many packets there were, and what
    /// was spent on them if that was looked at. `began`: the counter at the turn's beginning.
    fn turn(&mut self, began: u64) -> (usize, Option<Spent>) {
        let (mut packets, mut spent) = (0, Spent::default());
        let timed = self.empty_turns > 0 || self.untimed + 1 >= TIMED;
        let mut laps = Laps { clock: self.shared.clock.clone(), last: began, timed };
        let mut burst = ArrayVec::<Mbuf, BURST>::new();
        // Before the snapshot: it has what answers that are there by now depend on.
        let answers = self.mailbox.answers.len().min(MAIL_BURST);
        let snapshot = self.shared.snapshot.load(&self.reader);
        for _ in 0..answers {
            if let Some(answer) = self.mailbox.answers.pop() {
                self.pipeline.answer(&self.reader, snapshot, answer, &mut self.out);
                packets += 1;
            }
        }
        for rx in self.rx.iter_mut().filter(|rx| !rx.gone) {
            let received = rx.queue.receive(&self.shared.pool, &mut burst);
            if received > 0 {
                packets += received;
                self.on_received.received(rx.port, &mut burst);
                spent.receive += laps.lap();
                let stages = timed.then_some(&mut spent.stages);
                let (reader, out) = (&self.reader, &mut self.out);
                self.pipeline.receive_timed(reader, snapshot, rx.port, &mut burst, out, stages);
                laps.lap();
            }
        }
        self.pipeline.expire(snapshot);
        self.pipeline.age_flows(&self.reader, snapshot);
        // Queues that had nothing, up to here.
        laps.lap();
        packets += self.mail();
        if self.out.flush() {
            self.shared.punted.notify_one();
        }
        spent.send = laps.lap();
        self.reader.quiesce();
        (packets, timed.then_some(spent))
    }

    /// Sends what other threads left, as much as fits a turn; gives how many packets there were.
    fn mail(&mut self) -> usize {
        let mut packets = 0;
        // To look costs less than to take nothing, which is a full fence.
        if !self.mailbox.handoff.is_empty() {
            for _ in 0..MAIL_BURST {
                let Some((port, packet)) = self.mailbox.handoff.pop() else { break };
                packets += 1;
                self.out.transmit(port, packet);
            }
        }
        if !self.mailbox.inject.is_empty() {
            for _ in 0..MAIL_BURST {
                let (pool, out) = (&self.shared.pool, &mut self.out);
                let sent = self.mailbox.inject.take(|port, bytes| {
                    // Without a buffer it is lost; whoever injects has timers of its own.
                    if let Some(packet) = pool.packet(bytes) {
                        out.transmit(port, packet);
                    }
                });
                if sent.is_none() {
                    break;
                }
                packets += 1;
            }
        }
        packets
    }

    fn idle(&mut self) {
        if self.shared.idle == Idle::Spin {
            std::hint::spin_loop();
            return;
        }
        if self.empty_turns < SPIN_TURNS {
            return;
        }
        self.look_for_gone_devices();
        let blind = self.rx.iter().any(|rx| !rx.gone && rx.queue.fd().is_none());
        if let Some(work) = self.shared.work.get(self.index) {
            work.sleeps.add(1);
        }
        let (sleeper, mailbox) = (&mut self.sleeper, &self.mailbox);
        self.reader.offline(|| sleeper.sleep(mailbox, blind));
        if !blind {
            // Whatever woke it gets a few turns: a socket's error is noticed by polling.
            self.empty_turns = 0;
        }
    }

    fn look_for_gone_devices(&mut self) {
        for rx in self.rx.iter_mut().filter(|rx| !rx.gone) {
            if rx.queue.state() == QueueState::Gone {
                // With a full channel it is told at the next look.
                rx.gone = self.shared.events.try_send(PortEvent::Gone { port: rx.port }).is_ok();
            }
        }
    }

    /// Does as the port thread says; `false` when the worker is to end.
    #[inline]
    fn commands(&mut self) -> bool {
        // To look costs less than to take nothing, which is a full fence.
        self.mailbox.commands.is_empty() || self.obey()
    }

    #[cold]
    fn obey(&mut self) -> bool {
        while let Some(command) = self.mailbox.commands.pop() {
            match command {
                Command::Add(add) => self.add(add),
                Command::Remove { port, reply } => {
                    let mut returned = Returned::default();
                    self.give_back(port, &mut returned);
                    let _ = reply.send(returned);
                }
                Command::Stop { reply } => {
                    let mut returned = Returned::default();
                    for port in self.out.ports() {
                        self.give_back(port, &mut returned);
                    }
                    while self.mailbox.handoff.pop().is_some() {}
                    let _ = reply.send(returned);
                    return false;
                }
            }
        }
        true
    }

    fn add(&mut self, add: AddPort) {
        self.out.add(add.port, add.way, add.traffic);
        for queue in add.rx {
            if let Err(error) = self.sleeper.watch(&queue) {
                tracing::warn!(port = add.port.index(), %error, "a port cannot wake its worker, which looks for itself");
            }
            self.rx.push(RxPort { port: add.port, queue, gone: false });
        }
        let _ = add.reply.send(Returned::default());
    }

    fn give_back(&mut self, port: PortId, returned: &mut Returned) {
        let (ours, others): (Vec<_>, Vec<_>) = self.rx.drain(..).partition(|rx| rx.port == port);
        self.rx = others;
        for rx in ours {
            self.sleeper.forget(&rx.queue);
            returned.rx.push(rx.queue);
        }
        returned.tx.extend(self.out.remove(port));
    }
}
