//! The port thread: the one place where ports are opened and closed, one at a time, while workers poll the others.

use super::mailbox::{AddPort, Command, Mailbox, Returned, Way};
use super::{OpenError, OpenPort, PortEvent};
use core::time::Duration;
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::id::PortId;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::segment::Capabilities;
use overlane_dataplane::table::qsbr::Domain;
use overlane_dpdk::{
    CloseError, Devargs, Eal, Interface, Mempool, MempoolOptions, PacketOptions, PacketPort, Port, PortError,
    PortOptions, PortStats, RxQueue, TapOptions, TapPort, TxQueue,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// How long a worker may take to answer. It answers within a turn, so that silence means it is stuck.
const ANSWER: Duration = Duration::from_secs(5);
/// How often devices without rtnetlink events are asked for their link.
const LINK_POLL: Duration = Duration::from_millis(500);

/// See [`leaky_buffers`].
const LEAKY_BUFFERS: u32 = 16_384;
/// See [`large_buffers`]: what such a device has received lasts until it is sent.
const LARGE_BUFFERS: u32 = 2_047;
const LARGE_DATA_ROOM: u16 = 9_216;
/// A driver whose offloads are not to be trusted: with those that it does itself (in software, by rte_gso), TCP was seen
/// to stall.
const NET_TAP: &str = "net_tap";

/// What the port thread is asked to do.
pub(super) enum Job {
    /// Open a port, without giving it to workers yet.
    Open { spec: Source, reply: oneshot::Sender<Result<OpenPort, OpenError>> },
    /// Give an open port to the workers; answered with one that sends by it.
    Start { port: PortId, reply: oneshot::Sender<Result<usize, OpenError>> },
    /// Close a port.
    Close { port: PortId, reply: oneshot::Sender<anyhow::Result<()>> },
    /// Stop the workers, close every port, and end.
    Shutdown { deadline: Instant, reply: oneshot::Sender<anyhow::Result<()>> },
}

/// Where a port comes from, once its name is resolved.
pub(super) enum Source {
    /// An interface of the kernel.
    Interface(u32),
    /// A tap that is to be made.
    Tap(String),
    /// A DPDK device, and its MTU if that is said.
    Device(String, Option<u16>),
}

pub(super) struct Ports {
    pub(super) eal: Eal,
    pub(super) pool: Mempool,
    pub(super) domain: Arc<Domain>,
    pub(super) mailboxes: Arc<[Arc<Mailbox>]>,
    pub(super) events: mpsc::Sender<PortEvent>,
    pub(super) open: BTreeMap<PortId, Held>,
    pub(super) next: usize,
    /// Receive queues that each worker has.
    pub(super) load: Vec<usize>,
    pub(super) stats: Arc<Mutex<BTreeMap<PortId, PortStats>>>,
    /// The pool of devices that keep buffers when they are closed, and its number.
    pub(super) leaky: Option<(u32, Mempool)>,
    /// Pools of devices that want larger buffers than those of all others.
    pub(super) large: Vec<Mempool>,
}

/// Whether a device keeps buffers of its pool when it is closed: `net_af_xdp` does, those that wait for packets.
pub(super) fn is_leaky(devargs: &Devargs) -> bool {
    devargs.is_of("net_af_xdp")
}

/// Buffers of the pool that such a device has to itself: some 2,000 wait for packets, as many again are sent at most.
pub(super) fn leaky_buffers() -> MempoolOptions {
    MempoolOptions { size: LEAKY_BUFFERS, ..MempoolOptions::default() }
}

/// The pool of devices whose driver wants a whole frame in each buffer, of `data_room` bytes or what frames of 9,000
/// bytes need: the device's MTU may be raised.
pub(super) fn large_buffers(data_room: u16) -> MempoolOptions {
    let data_room = data_room.max(LARGE_DATA_ROOM);
    MempoolOptions { size: LARGE_BUFFERS, data_room, ..MempoolOptions::default() }
}

/// A port, and whatever of its queues is not with workers.
pub(super) struct Held {
    kind: Kind,
    idle: Option<(Vec<RxQueue>, Vec<TxQueue>)>,
    traffic: Arc<PerWorker<Traffic>>,
    /// Its offloads are not to be trusted.
    by_software: bool,
    /// It has to be asked for its link: the kernel tells of interfaces in this network namespace, and a tap leaves it for
    /// its node's.
    tells_link: bool,
    /// How many queues of either kind it has.
    queues: (usize, usize),
    /// The worker that has the first of either.
    first: usize,
    link_up: bool,
    mtu: u16,
}

enum Kind {
    Packet(PacketPort),
    Tap(TapPort),
    Device(Port),
}

impl Ports {
    /// Serves jobs until told to shut down, or until there is nobody left to ask.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(LINK_POLL) {
                Ok(Job::Open { spec, reply }) => {
                    let opened = self.open(&spec);
                    let id = opened.as_ref().ok().map(|opened| opened.id);
                    // Nobody waits for it any more: nobody would close it either.
                    if reply.send(opened).is_err()
                        && let Some(id) = id
                    {
                        let _ = self.close(id, Instant::now() + ANSWER);
                    }
                }
                Ok(Job::Start { port, reply }) => {
                    let _ = reply.send(self.start(port));
                }
                Ok(Job::Close { port, reply }) => {
                    let _ = reply.send(self.close(port, Instant::now() + ANSWER));
                }
                Ok(Job::Shutdown { deadline, reply }) => {
                    let _ = reply.send(self.shutdown(deadline));
                    return;
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = self.shutdown(Instant::now() + ANSWER) {
                        tracing::warn!(%error, "the workers were not stopped in order");
                    }
                    return;
                }
            }
        }
    }

    fn open(&mut self, source: &Source) -> Result<OpenPort, OpenError> {
        let id = self.free_id()?;
        let workers = self.mailboxes.len();
        let traffic = Arc::new(PerWorker::new(workers));
        let mut by_software = false;
        let (kind, rx, tx) = match source {
            Source::Interface(ifindex) => {
                let (port, rx, tx) = PacketPort::open(*ifindex, &PacketOptions::default())?;
                (Kind::Packet(port), rx, tx)
            }
            Source::Tap(device) => {
                let (port, rx, tx) = TapPort::create(device, &TapOptions::default())?;
                (Kind::Tap(port), rx, tx)
            }
            Source::Device(devargs, mtu) => {
                let devargs: Devargs = devargs.parse()?;
                by_software = devargs.is_of(NET_TAP);
                let (port, rx, tx) = self.attach_spread(&devargs, *mtu)?;
                (Kind::Device(port), rx, tx)
            }
        };
        let (mac, mtu, link_up, ifindex) = describe(&kind)?;
        let mtu_max = match &kind {
            Kind::Packet(_) | Kind::Tap(_) => u16::MAX,
            Kind::Device(port) => port.mtu_max(),
        };
        let tells_link = matches!(kind, Kind::Tap(_)) || ifindex.is_none();
        let queues = (rx.len(), tx.len());
        let held = Held {
            kind,
            idle: Some((rx, tx)),
            traffic: Arc::clone(&traffic),
            by_software,
            tells_link,
            queues,
            first: 0,
            link_up,
            mtu,
        };
        self.open.insert(id, held);
        Ok(OpenPort { id, mac, mtu, mtu_max, link_up, ifindex, traffic })
    }

    /// As many queues as there are workers, or one of each if the device has not that many.
    fn attach_spread(
        &mut self,
        devargs: &Devargs,
        mtu: Option<u16>,
    ) -> Result<(Port, Vec<RxQueue>, Vec<TxQueue>), OpenError> {
        let pool =
            if is_leaky(devargs) { self.leaky_pool()? } else { self.pool_with(Port::data_room(devargs))? };
        let workers = u16::try_from(self.mailboxes.len()).unwrap_or(1);
        let one = PortOptions { mtu, ..PortOptions::default() };
        let spread = PortOptions { rx_queues: workers, tx_queues: workers, ..one.clone() };
        match Port::attach(&self.eal, devargs, &pool, &spread) {
            Err(PortError::Option { field: "rx_queues" | "tx_queues", .. }) if workers > 1 => {
                Ok(Port::attach(&self.eal, devargs, &pool, &one)?)
            }
            other => Ok(other?),
        }
    }

    /// The pool of devices that keep buffers when they are closed: the last one as long as half of it is left, then
    /// a fresh one.
    fn leaky_pool(&mut self) -> Result<Mempool, OpenError> {
        if let Some((_, pool)) = &self.leaky
            && pool.available() >= LEAKY_BUFFERS / 2
        {
            return Ok(pool.clone());
        }
        let number = self.leaky.as_ref().map_or(0, |(number, _)| number + 1);
        let pool = Mempool::new(&self.eal, &format!("uplink-{number}"), &leaky_buffers())?;
        self.leaky = Some((number, pool.clone()));
        Ok(pool)
    }

    /// A pool whose buffers have room for `data_room` bytes: the workers', if that will do.
    fn pool_with(&mut self, data_room: u16) -> Result<Mempool, OpenError> {
        let fits = |pool: &&Mempool| pool.data_room() >= data_room;
        if let Some(pool) = std::iter::once(&self.pool).chain(&self.large).find(fits) {
            return Ok(pool.clone());
        }
        let name = format!("large-{}", self.large.len());
        let pool = Mempool::new(&self.eal, &name, &large_buffers(data_room))?;
        self.large.push(pool.clone());
        Ok(pool)
    }

    /// The next id that is free, in a circle: one that was freed comes again after all others, when no worker, ring or
    /// snapshot can hold it any more.
    fn free_id(&mut self) -> Result<PortId, OpenError> {
        for step in 0..PortId::LIMIT {
            let index = (self.next + step) % PortId::LIMIT;
            let id = u16::try_from(index).ok().and_then(|index| PortId::new(index).ok());
            if let Some(id) = id.filter(|id| !self.open.contains_key(id)) {
                self.next = index + 1;
                return Ok(id);
            }
        }
        Err(OpenError::TooManyPorts)
    }

    /// Shares a port's queues out among the workers, each to exactly one, beginning with the least laden; gives a
    /// worker that sends by the port itself.
    fn start(&mut self, id: PortId) -> Result<usize, OpenError> {
        let workers = self.mailboxes.len();
        let first = (0..workers).min_by_key(|worker| self.load.get(*worker)).unwrap_or(0);
        let held = self.open.get_mut(&id).ok_or(OpenError::NoSuchPort(id))?;
        let Some((rx, tx)) = held.idle.take() else { return Ok(held.first) };
        held.first = first;
        let owner = |queue: usize| (first + queue) % workers;
        // A worker without a transmit queue hands its packets to one that has one.
        let via = |worker: usize| owner((worker + workers - first) % tx.len().max(1));
        let mut shares: Vec<(Vec<RxQueue>, Way)> =
            (0..workers).map(|worker| (Vec::new(), Way::Via(via(worker)))).collect();
        for (queue, rx) in rx.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(owner(queue)) {
                share.0.push(rx);
            }
            if let Some(load) = self.load.get_mut(owner(queue)) {
                *load += 1;
            }
        }
        for (queue, tx) in tx.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(owner(queue)) {
                let capabilities = if held.by_software { Capabilities::default() } else { tx.capabilities() };
                share.1 = Way::Queue(tx, capabilities);
            }
        }
        let add = |((rx, way), mailbox): ((Vec<RxQueue>, Way), &Arc<Mailbox>)| {
            let traffic = Arc::clone(&held.traffic);
            ask(mailbox, move |reply| Command::Add(AddPort { port: id, rx, way, traffic, reply }))
        };
        let answers: Vec<_> = shares.into_iter().zip(self.mailboxes.iter()).map(add).collect();
        match collect(answers, Instant::now() + ANSWER) {
            Ok(_) => Ok(first),
            Err(worker) => Err(OpenError::Stalled { worker }),
        }
    }

    fn close(&mut self, id: PortId, deadline: Instant) -> anyhow::Result<()> {
        let mut held = self.open.remove(&id).ok_or_else(|| anyhow::anyhow!("port {id} is not open"))?;
        let returned = match held.idle.take() {
            Some((rx, tx)) => Returned { rx, tx },
            None => {
                let remove =
                    |mailbox: &Arc<Mailbox>| ask(mailbox, |reply| Command::Remove { port: id, reply });
                let answers: Vec<_> = self.mailboxes.iter().map(remove).collect();
                let returned = collect(answers, deadline).map_err(silent)?;
                for queue in 0..held.queues.0 {
                    if let Some(load) = self.load.get_mut((held.first + queue) % self.mailboxes.len()) {
                        *load = load.saturating_sub(1);
                    }
                }
                returned
            }
        };
        // Whoever looked the port up in a snapshot or a mapping has handed its packets on after this.
        self.domain.synchronize(deadline.saturating_duration_since(Instant::now()))?;
        self.stats.lock().remove(&id);
        held.close(returned)
    }

    fn shutdown(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            let closed = self.close(id, deadline);
            outcome = outcome.and(closed.map_err(|error| error.context(format!("close port {id}"))));
        }
        let stop = |mailbox: &Arc<Mailbox>| ask(mailbox, |reply| Command::Stop { reply });
        let answers: Vec<_> = self.mailboxes.iter().map(stop).collect();
        let stopped = collect(answers, deadline);
        // Packets that were handed over to a worker that had stopped already.
        for mailbox in self.mailboxes.iter() {
            while mailbox.handoff.pop().is_some() {}
        }
        let leaked = self.large.iter().map(Mempool::in_use).sum::<u32>();
        let returned = if leaked == 0 {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{leaked} large buffers did not come back"))
        };
        outcome.and(stopped.map(|_| ()).map_err(silent)).and(returned)
    }

    /// Looks at what no event tells: how devices are that have to be asked, and what all have counted.
    fn look(&mut self) {
        let mut stats = BTreeMap::new();
        for (id, held) in &mut self.open {
            if held.tells_link {
                held.tell(*id, &self.events);
            }
            let counted = match &held.kind {
                Kind::Packet(port) => port.stats(),
                Kind::Tap(port) => port.stats(),
                Kind::Device(port) => port.stats(),
            };
            stats.insert(*id, counted);
        }
        *self.stats.lock() = stats;
    }
}

impl Held {
    /// Tells how the device's link and MTU have changed. With a full channel it is told at the next look.
    fn tell(&mut self, port: PortId, events: &mpsc::Sender<PortEvent>) {
        let (up, mtu) = match &self.kind {
            Kind::Device(device) => (device.link_up(), self.mtu),
            Kind::Tap(tap) => match tap.interface() {
                Ok(interface) => (is_running(&interface), clamp_mtu(&interface)),
                // It is gone, which its worker notices, or the kernel is too old to tell: then it is as it was.
                Err(_) => return,
            },
            Kind::Packet(_) => return,
        };
        if up != self.link_up && events.try_send(PortEvent::Link { port, up }).is_ok() {
            self.link_up = up;
        }
        if mtu != self.mtu && events.try_send(PortEvent::Mtu { port, mtu }).is_ok() {
            self.mtu = mtu;
        }
    }

    fn close(self, Returned { rx, tx }: Returned) -> anyhow::Result<()> {
        if (rx.len(), tx.len()) != self.queues {
            let (rx, tx) = (rx.len(), tx.len());
            anyhow::bail!("only {rx} receive and {tx} transmit queues of {:?} came back", self.queues);
        }
        match self.kind {
            Kind::Packet(port) => port.close(rx, tx).map_err(in_words),
            Kind::Tap(port) => port.close(rx, tx).map_err(in_words),
            Kind::Device(port) => port.close(rx, tx).map_err(in_words),
        }
    }
}

/// Leaves a command with a worker; `None` if the worker has not even taken the ones before.
fn ask(
    mailbox: &Mailbox,
    command: impl FnOnce(SyncSender<Returned>) -> Command,
) -> Option<Receiver<Returned>> {
    let (reply, answer) = sync_channel(1);
    let left = mailbox.commands.push(command(reply)).is_ok();
    mailbox.wake();
    left.then_some(answer)
}

/// Waits for every worker's answer.
///
/// # Errors
/// A worker that does not give one.
fn collect(answers: Vec<Option<Receiver<Returned>>>, deadline: Instant) -> Result<Returned, usize> {
    let mut all = Returned::default();
    for (worker, answer) in answers.into_iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let returned = answer.ok_or(worker)?.recv_timeout(left).map_err(|_| worker)?;
        all.rx.extend(returned.rx);
        all.tx.extend(returned.tx);
    }
    Ok(all)
}

fn silent(worker: usize) -> anyhow::Error {
    anyhow::anyhow!("worker {worker} does not answer")
}

fn in_words<P>(error: CloseError<P>) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

fn describe(kind: &Kind) -> Result<(MacAddr, u16, bool, Option<u32>), OpenError> {
    let interface = match kind {
        Kind::Packet(port) => port.interface(),
        Kind::Tap(port) => port.interface(),
        Kind::Device(port) => match port.interface() {
            Some(index) => Interface::by_index(index),
            None => return Ok((port.mac(), port.mtu()?, port.link_up(), None)),
        },
    };
    let interface = interface.map_err(OpenError::Vanished)?;
    Ok((interface.mac, clamp_mtu(&interface), is_running(&interface), Some(interface.index)))
}

fn is_running(interface: &Interface) -> bool {
    interface.up && interface.running
}

fn clamp_mtu(interface: &Interface) -> u16 {
    u16::try_from(interface.mtu).unwrap_or(u16::MAX)
}
