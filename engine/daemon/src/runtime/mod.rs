//! The runtime: workers that carry packets, and the ports that they carry them between.
//!
//! ```text
//!  control thread ──publish(snapshot), MappingWriter──►  shared tables  ◄──read── workers, one to a core
//!        │ ▲                                                                        ▲    │
//!        │ └─────── punts, hints, events ───────────────────────────────────────────│────┘
//!        └── open_port, close_port ──► port thread ── queues, one owner each ───────┘
//! ```
//! A worker polls the receive queues that it owns, carries each burst through the pipeline, and sends at the end of a
//! turn. A port with fewer transmit queues than there are workers belongs to some of them; the others hand their
//! packets over. Everything between threads is bounded, and what does not fit is dropped under a name.

mod cores;
mod failures;
mod hints;
mod idle;
mod mailbox;
mod outbox;
mod ports;
mod questions;
mod received;
mod slots;
mod stats;
mod worker;

pub use cores::Cores;
pub use failures::FailureReports;
pub use hints::PathMtuHints;
pub use overlane_dpdk::PortStats;
pub use questions::Questions;
pub use received::{AsReceived, OnReceived};
pub use stats::{BusyCycles, WorkerStats};

use crate::config::{Hugepages, WorkersConfig};
use crate::kernel::{Kernel, KernelError, TenantIsolation};
use crate::trace::{PortNames, TraceError};
use anyhow::Context;
use failures::FailureQueue;
use hints::Hints;
use mailbox::Mailbox;
use overlane_dataplane::address::Layout;
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::id::PortId;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::resolve::{Answer, ResolveLimits};
use overlane_dataplane::snapshot::{HostSnapshot, PortRole};
use overlane_dataplane::table::flow::{FlowLimits, FlowTable};
use overlane_dataplane::table::mapping::{MappingTable, MappingWriter, mapping_table};
use overlane_dataplane::table::published::Published;
use overlane_dataplane::table::qsbr::{Domain, LimboFull};
use overlane_dataplane::trace::{Subject, Trace, trace};
use overlane_dpdk::{
    Devargs, DevargsError, Eal, EalOptions, Mempool, MempoolError, MempoolOptions, PacketError, Port,
    PortError, TapError, TscClock,
};
use parking_lot::Mutex;
use ports::{Job, Ports, Source, is_leaky, large_buffers, leaky_buffers};
use questions::Asked;
use slots::{Refused, SlotRing};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use worker::Shared;

/// Packets for the control thread that wait for it.
const PUNTS: usize = 256;
/// Port events that wait; more than there are ports.
const EVENTS: usize = 2 * PortId::LIMIT;
/// Requests that wait for the port thread.
const JOBS: usize = 64;
/// Readers of the reclamation domain beside the workers.
const OTHER_READERS: usize = 4;
/// Retired values that wait for readers, of each kind.
const LIMBO: usize = 1 << 16;
/// Memory for devices, rings and tables of DPDK's own, beside the packet buffers.
const DEVICE_MEMORY_MIB: u64 = 48;
/// Pools for a device that keeps buffers when it is closed, which is then opened again: each lasts for four openings.
const LEAKY_POOLS: u64 = 2;
/// How long the threads may take to end after their last word.
const JOIN: Duration = Duration::from_secs(1);

/// How to start.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// The substrate's layout, for the empty snapshot that workers begin with.
    pub layout: Layout,
    /// Cores, idle policy, packet buffers, memory.
    pub workers: WorkersConfig,
    /// Mappings to have room for at once; more may come.
    pub expected_mappings: usize,
    /// How many datagrams in fragments each worker follows.
    pub fragments: FragmentLimits,
    /// How many flows workers know, and for how long.
    pub flows: FlowLimits,
    /// How much of what is resolved on demand may wait, and be asked.
    pub resolve: ResolveLimits,
    /// Secret and random: places of mappings, flows and datagrams in tables depend on it.
    pub seed: [u64; 2],
    /// Devices that will be opened as [`PortSpec::DevargsUplink`]: DPDK has to know of PCI functions beforehand.
    pub devargs: Vec<String>,
}

/// What to open a port on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortSpec {
    /// The host's end of a veth pair whose other end is a node's. The host's kernel is kept out of it.
    Veth {
        /// Its name.
        device: String,
    },
    /// A tap interface, made for the node, which it is handed by moving it to the node's network namespace and setting it
    /// up there. As long as it is here, the host's kernel is kept out of it.
    Tap {
        /// Its name.
        device: String,
        /// The node's hardware address.
        mac: MacAddr,
    },
    /// An interface shared with the host's kernel. Keeping the kernel from what is for us is the caller's, with
    /// [`Kernel::isolate_prefix`].
    PacketUplink {
        /// Its name.
        device: String,
    },
    /// A device with a DPDK driver.
    DevargsUplink {
        /// A PCI address or a vdev, with its arguments.
        devargs: String,
        /// The MTU that it is to have, at most its interface's if it is on one of the kernel's; `None`: what it has.
        mtu: Option<u16>,
    },
}

/// A port that workers serve.
#[derive(Debug, Clone)]
pub struct OpenPort {
    /// Its id, not used again before every other one was.
    pub id: PortId,
    /// The device's hardware address.
    pub mac: MacAddr,
    /// The device's MTU: bytes of the largest IP packet that it carries.
    pub mtu: u16,
    /// The largest IP packet that it can carry, should the device's MTU grow while it is open.
    pub mtu_max: u16,
    /// Whether its link was up; changes come by rtnetlink for an interface, as [`PortEvent::Link`] for taps and other devices.
    pub link_up: bool,
    /// The interface's index, if it is one of the kernel's.
    pub ifindex: Option<u32>,
    /// Its counters, a block for each worker.
    pub traffic: Arc<PerWorker<Traffic>>,
}

/// Why a port was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel has no such interface, or it could not be kept out of it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The interface is of another kind: isolating it would cut the host off.
    #[error("{device} is not a veth interface but {kind:?}")]
    NotVeth {
        /// The interface.
        device: String,
        /// What it is.
        kind: String,
    },
    /// The tap cannot be made.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The device's name or arguments cannot be DPDK's.
    #[error(transparent)]
    Devargs(#[from] DevargsError),
    /// DPDK did not attach the device.
    #[error(transparent)]
    Device(#[from] PortError),
    /// There is no memory for the packet buffers of its own that it needs.
    #[error(transparent)]
    Buffers(#[from] MempoolError),
    /// The packet socket was not opened.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The interface went away while it was being opened.
    #[error("the interface vanished: {0}")]
    Vanished(io::Error),
    /// All ids are in use.
    #[error("there are {} open ports, which is as many as there can be", PortId::LIMIT)]
    TooManyPorts,
    /// It was closed meanwhile.
    #[error("port {0} is not open")]
    NoSuchPort(PortId),
    /// A worker does not take the port.
    #[error("worker {worker} does not answer")]
    Stalled {
        /// Which.
        worker: usize,
    },
    /// The runtime is shutting down, or has more requests waiting than it takes.
    #[error("the port thread takes no more requests")]
    Busy,
}

/// A packet for the engine itself, received on an uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punt {
    /// Where it came in.
    pub port: PortId,
    /// The frame, from the Ethernet header on; 2048 bytes at most.
    pub bytes: Vec<u8>,
}

/// Something happened to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortEvent {
    /// Its device is gone for good: the port is to be closed.
    Gone {
        /// Which port.
        port: PortId,
    },
    /// The link of a device that the kernel does not tell of went up or down.
    Link {
        /// Which port.
        port: PortId,
        /// Up or down.
        up: bool,
    },
    /// The MTU of a tap has changed in its node's network namespace.
    Mtu {
        /// Which port.
        port: PortId,
        /// Bytes of the largest IP packet that it carries now.
        mtu: u16,
    },
}

/// Why a frame was not taken for sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// Too many wait already.
    #[error("the worker's queue of injected frames is full")]
    Full,
    /// Longer than 2048 bytes.
    #[error("the frame is longer than {} bytes", slots::SLOT_BYTES)]
    TooLong,
    /// The port is not open.
    #[error("the port is not open")]
    NoSuchPort,
}

/// Packet buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// All there are.
    pub total: u32,
    /// Those that hold a packet or wait in a device.
    pub in_use: u32,
}

/// Workers, ports and packet memory, running.
pub struct Runtime {
    kernel: Kernel,
    pool: Mempool,
    clock: TscClock,
    cores: Cores,
    domain: Arc<Domain>,
    flows: FlowTable,
    flow_limits: FlowLimits,
    table: MappingTable,
    snapshot: Arc<Published<HostSnapshot>>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    punts: Arc<SlotRing>,
    punted: Arc<Notify>,
    hints: Arc<Hints>,
    asked: Arc<Asked>,
    failures: Arc<FailureQueue>,
    /// The layout that workers go by, and what ports are for.
    roles: Mutex<(Layout, Vec<PortRole>)>,
    events: Mutex<Option<mpsc::Receiver<PortEvent>>>,
    work: Arc<PerWorker<stats::Work>>,
    unplaced: Vec<Arc<Traffic>>,
    stats: Arc<Mutex<BTreeMap<PortId, PortStats>>>,
    attached: Mutex<HashMap<PortId, Attached>>,
    jobs: SyncSender<Job>,
    threads: Vec<JoinHandle<()>>,
}

/// What is known of an open port on this side.
struct Attached {
    /// A worker that sends by it.
    worker: usize,
    isolation: Option<TenantIsolation>,
}

impl Runtime {
    /// Starts DPDK, the workers and the port thread. Blocks for as long as that takes, up to seconds; once in a
    /// process. Threads started here belong to the calling thread's network namespace.
    ///
    /// # Errors
    /// What is wrong with the cores, the memory or DPDK; nothing runs then.
    pub fn start(config: &RuntimeConfig, kernel: Kernel) -> anyhow::Result<(Self, MappingWriter)> {
        Self::start_with(config, kernel, &AsReceived)
    }

    /// As [`Runtime::start`], with something that sees what workers receive before their stages do. Each worker has a
    /// clone of it.
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_with(
        config: &RuntimeConfig,
        kernel: Kernel,
        on_received: &impl OnReceived,
    ) -> anyhow::Result<(Self, MappingWriter)> {
        let cores = Cores::choose(&config.workers.cores)?;
        let (eal, pool) = memory(config, &cores)?;
        let workers = cores.workers.len();
        let domain = Domain::new(workers + OTHER_READERS, LIMBO);
        let (writer, table) = mapping_table(&domain, config.expected_mappings, config.seed);
        let flows = FlowTable::new(&domain, &config.flows, workers, config.seed);
        let snapshot = Arc::new(Published::new(&domain, HostSnapshot::empty(config.layout)));
        let mailboxes: Arc<[_]> =
            (0..workers).map(|_| Mailbox::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?.into();
        let (event_sender, events) = mpsc::channel(EVENTS);
        let mappings = table.clone();
        let shared = Shared {
            eal: eal.clone(),
            pool: pool.clone(),
            clock: TscClock::new(&eal),
            domain: Arc::clone(&domain),
            table,
            flows: flows.clone(),
            snapshot: Arc::clone(&snapshot),
            mailboxes: Arc::clone(&mailboxes),
            punts: Arc::new(SlotRing::new(PUNTS)),
            punted: Arc::default(),
            hints: Arc::default(),
            asked: Arc::default(),
            failures: Arc::default(),
            events: event_sender.clone(),
            work: Arc::new(PerWorker::new(workers)),
            idle: config.workers.idle,
            fragments: config.fragments,
            resolve: config.resolve,
            seed: config.seed,
        };
        let (jobs, waiting) = sync_channel(JOBS);
        let stats = Arc::default();
        let ports = Ports {
            eal,
            pool: pool.clone(),
            domain: Arc::clone(&domain),
            mailboxes: Arc::clone(&mailboxes),
            events: event_sender,
            open: BTreeMap::new(),
            next: 0,
            load: vec![0; workers],
            stats: Arc::clone(&stats),
            leaky: None,
            large: Vec::new(),
        };
        let mut runtime = Self {
            kernel,
            pool,
            clock: shared.clock.clone(),
            cores: cores.clone(),
            domain,
            flows,
            flow_limits: config.flows,
            table: mappings,
            snapshot,
            mailboxes,
            punts: Arc::clone(&shared.punts),
            punted: Arc::clone(&shared.punted),
            hints: Arc::clone(&shared.hints),
            asked: Arc::clone(&shared.asked),
            failures: Arc::clone(&shared.failures),
            roles: Mutex::new((config.layout, Vec::new())),
            events: Mutex::new(Some(events)),
            work: Arc::clone(&shared.work),
            unplaced: Vec::new(),
            stats,
            attached: Mutex::default(),
            jobs,
            threads: Vec::new(),
        };
        // Should a worker not start, dropping the runtime ends the port thread, and that stops the workers.
        let confined = cores.clone();
        runtime.spawn("overlane-ports", move || {
            if let Err(error) = confined.confine_to_control() {
                tracing::warn!(%error, "the port thread shares its cores with workers");
            }
            ports.run(&waiting);
        })?;
        for (index, core) in cores.workers.iter().copied().enumerate() {
            let (ready, started) = sync_channel(1);
            let (shared, on_received) = (shared.clone(), on_received.clone());
            let run = move || worker::run(shared, on_received, index, core, &ready);
            runtime.spawn(&format!("overlane-w{index}"), run)?;
            runtime.unplaced.push(started.recv().context("a worker ended before it began")??);
        }
        Ok((runtime, writer))
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(thread.with_context(|| format!("start thread {name}"))?);
        Ok(())
    }

    /// Opens a port and gives its queues to workers. They do nothing with its packets until a snapshot names it.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is left open then. A tenant's interface stays isolated.
    pub async fn open_port(&self, spec: PortSpec) -> Result<OpenPort, OpenError> {
        let mut isolation = None;
        let source = match &spec {
            PortSpec::Veth { device } => {
                let link = self.kernel.link_by_name(device).await?;
                if link.kind != "veth" {
                    return Err(OpenError::NotVeth { device: device.clone(), kind: link.kind });
                }
                isolation = Some(self.kernel.isolate_tenant(link.ifindex).await?);
                self.kernel.set_up(link.ifindex, true).await?;
                Source::Interface(link.ifindex)
            }
            PortSpec::Tap { device, .. } => Source::Tap(device.clone()),
            PortSpec::PacketUplink { device } => {
                Source::Interface(self.kernel.link_by_name(device).await?.ifindex)
            }
            PortSpec::DevargsUplink { devargs, mtu } => Source::Device(devargs.clone(), *mtu),
        };
        let mut opened = self.ask(|reply| Job::Open { spec: source, reply }).await??;
        let started = async {
            if let PortSpec::Tap { mac, .. } = &spec {
                let gone = || OpenError::Vanished(io::ErrorKind::NotFound.into());
                let ifindex = opened.ifindex.ok_or_else(gone)?;
                // It is down, and stays so until its node sets it up.
                isolation = Some(self.kernel.isolate_tenant(ifindex).await?);
                self.kernel.set_mac(ifindex, *mac).await?;
                opened.mac = *mac;
            }
            self.ask(|reply| Job::Start { port: opened.id, reply }).await?
        };
        match started.await {
            Ok(worker) => {
                self.attached.lock().insert(opened.id, Attached { worker, isolation });
                Ok(opened)
            }
            Err(error) => {
                if let Err(close) = self.ask(|reply| Job::Close { port: opened.id, reply }).await {
                    tracing::warn!(port = opened.id.index(), %close, "a port that could not be started stays open");
                }
                Err(error)
            }
        }
    }

    /// Closes a port, after a snapshot without it was published: takes its queues back from the workers, waits for a
    /// grace period, and takes back what isolated a tenant's interface.
    ///
    /// # Errors
    /// The port is not open, a worker does not answer, or the device did not close in order.
    pub async fn close_port(&self, port: PortId) -> anyhow::Result<()> {
        let attached = self.attached.lock().remove(&port);
        self.ask(|reply| Job::Close { port, reply }).await??;
        if let Some(isolation) = attached.and_then(|attached| attached.isolation) {
            self.kernel.release_tenant(&isolation).await?;
        }
        Ok(())
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, OpenError> {
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(job(reply)) {
            Ok(()) => answer.await.map_err(|_| OpenError::Busy),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(OpenError::Busy),
        }
    }

    /// Makes workers go by `snapshot` from their next turn on.
    ///
    /// # Errors
    /// [`LimboFull`] when a worker holds back too many old ones: publish the newest again later.
    pub fn publish(&self, snapshot: HostSnapshot) -> Result<(), LimboFull> {
        self.domain.collect();
        let roles = (snapshot.layout, snapshot.ports.clone());
        self.snapshot.publish(snapshot).map_err(|LimboFull(_)| LimboFull(()))?;
        *self.roles.lock() = roles;
        Ok(())
    }

    /// The layout that workers go by.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.roles.lock().0
    }

    /// The name of the interface that is attached to a port.
    #[must_use]
    pub fn interface_at(&self, port: PortId) -> Option<String> {
        match self.roles.lock().1.get(port.index()) {
            Some(PortRole::Node(interface)) => Some(interface.name.clone()),
            _ => None,
        }
    }

    /// The stream of punted packets. Meant for one reader; several share them out.
    #[must_use]
    pub fn punts(&self) -> Punts {
        Punts { ring: Arc::clone(&self.punts), punted: Arc::clone(&self.punted) }
    }

    /// The stream of path MTUs that the substrate tells. Meant for one reader.
    #[must_use]
    pub fn path_mtu_hints(&self) -> PathMtuHints {
        PathMtuHints(Arc::clone(&self.hints))
    }

    /// The stream of mappings that workers ask for. Meant for one reader.
    #[must_use]
    pub fn questions(&self) -> Questions {
        Questions(Arc::clone(&self.asked))
    }

    /// Answers what a worker has asked. What the answer says is so must be published by now. With a full mailbox it is lost,
    /// and the worker stops waiting after a while.
    pub fn answer(&self, worker: usize, answer: Answer) {
        if let Some(mailbox) = self.mailboxes.get(worker) {
            let _ = mailbox.answers.push(answer);
            mailbox.wake();
        }
    }

    /// The stream of what workers refuse because of what senders claim. Meant for one reader.
    #[must_use]
    pub fn failures(&self) -> FailureReports {
        FailureReports(Arc::clone(&self.failures))
    }

    /// What would become of a frame, which `make` makes for a port by what workers go by now; with the frame, and the names of
    /// ports. Blocks for some milliseconds.
    ///
    /// # Errors
    /// That of `make`, or when too many look at the tables already.
    pub fn trace(
        &self,
        make: impl FnOnce(&HostSnapshot) -> Result<(PortId, Vec<u8>), TraceError>,
    ) -> Result<(Trace, PortId, Vec<u8>, PortNames), TraceError> {
        let reader = self.domain.register("trace");
        let reader = reader.map_err(|_| TraceError::Unavailable("too many look at its tables"))?;
        let snapshot = self.snapshot.load(&reader);
        let (port, frame) = make(snapshot)?;
        let subject = Subject {
            reader: &reader,
            domain: &self.domain,
            snapshot,
            mappings: &self.table,
            flows: &self.flows,
            workers: self.cores.workers.len(),
        };
        let told = trace(&subject, self.clock.clone(), port, &frame);
        Ok((told, port, frame, PortNames::of(snapshot)))
    }

    /// The stream of port events; `None` when it was taken before.
    #[must_use]
    pub fn events(&self) -> Option<mpsc::Receiver<PortEvent>> {
        self.events.lock().take()
    }

    /// Leaves a frame for a worker to send by `port`.
    ///
    /// # Errors
    /// [`InjectError`]; the frame is not sent then.
    pub fn inject(&self, port: PortId, frame: &[u8]) -> Result<(), InjectError> {
        let worker = self.attached.lock().get(&port).map(|attached| attached.worker);
        let mailbox = worker.and_then(|worker| self.mailboxes.get(worker)).ok_or(InjectError::NoSuchPort)?;
        mailbox.inject.put(port, std::iter::once(frame)).map_err(|refused| match refused {
            Refused::Full => InjectError::Full,
            Refused::TooLong => InjectError::TooLong,
        })?;
        mailbox.wake();
        Ok(())
    }

    /// What each worker has done.
    #[must_use]
    pub fn worker_stats(&self) -> Vec<WorkerStats> {
        stats::read(&self.work, &self.cores.workers, &self.clock)
    }

    /// What each port's device has counted, as of half a second ago at most.
    #[must_use]
    pub fn port_stats(&self) -> BTreeMap<PortId, PortStats> {
        self.stats.lock().clone()
    }

    /// Packets that belong to no port that is known any more, by worker.
    #[must_use]
    pub fn unplaced(&self) -> &[Arc<Traffic>] {
        &self.unplaced
    }

    /// How many packet buffers there are, and are in use.
    #[must_use]
    pub fn buffers(&self) -> Buffers {
        Buffers { total: self.pool.size(), in_use: self.pool.in_use() }
    }

    /// The flow table.
    #[must_use]
    pub const fn flows(&self) -> &FlowTable {
        &self.flows
    }

    /// How many flows the table has room for at least, and the bytes that it takes.
    #[must_use]
    pub fn flow_room(&self) -> (usize, usize) {
        let limits = &self.flow_limits;
        (limits.capacity(), limits.memory(self.cores.workers.len()))
    }

    /// The reclamation domain of tables and snapshots.
    #[must_use]
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// Which cores are whose.
    #[must_use]
    pub fn cores(&self) -> &Cores {
        &self.cores
    }

    /// Closes every port, stops the workers and releases DPDK. Tenants' interfaces stay isolated: nodes live on while
    /// the engine restarts.
    ///
    /// # Errors
    /// What did not end in order within `deadline`, or packet buffers that did not come back.
    pub async fn shutdown(self, deadline: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + deadline;
        let answer = self.ask(|reply| Job::Shutdown { deadline: until, reply });
        tokio::time::timeout_at(until.into(), answer)
            .await
            .context("the port thread does not answer")???;
        self.join(until).await
    }

    async fn join(self, until: Instant) -> anyhow::Result<()> {
        let Self { threads, pool, jobs, .. } = self;
        drop(jobs);
        let join = tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join));
        let until = until.max(Instant::now() + JOIN);
        match tokio::time::timeout_at(until.into(), join).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => anyhow::bail!("a thread of the runtime panicked"),
            Err(_) => anyhow::bail!("a thread of the runtime does not end"),
        }
        match pool.in_use() {
            0 => Ok(()),
            leaked => anyhow::bail!("{leaked} of {} packet buffers did not come back", pool.size()),
        }
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("cores", &self.cores).finish_non_exhaustive()
    }
}

/// Packets for the engine itself, as they come.
#[derive(Debug, Clone)]
pub struct Punts {
    ring: Arc<SlotRing>,
    punted: Arc<Notify>,
}

impl Punts {
    /// The next one.
    pub async fn next(&mut self) -> Punt {
        loop {
            if let Some(punt) = self.ring.take(|port, bytes| Punt { port, bytes: bytes.to_vec() }) {
                return punt;
            }
            self.punted.notified().await;
        }
    }
}

/// Starts DPDK with as much memory as the packet buffers need, and makes them.
fn memory(config: &RuntimeConfig, cores: &Cores) -> anyhow::Result<(Eal, Mempool)> {
    let buffers = MempoolOptions { size: config.workers.mempool, ..MempoolOptions::default() };
    let mut needed = buffers.memory().div_ceil(1 << 20) + DEVICE_MEMORY_MIB;
    let mut pci = Vec::new();
    for text in &config.devargs {
        let devargs: Devargs = text.parse()?;
        if is_leaky(&devargs) {
            needed += leaky_buffers().memory().div_ceil(1 << 20) * LEAKY_POOLS;
        }
        let data_room = Port::data_room(&devargs);
        if data_room > 0 {
            needed += large_buffers(data_room).memory().div_ceil(1 << 20);
        }
        pci.push(devargs);
    }
    let eal = Eal::init(EalOptions {
        control_cores: cores.control.clone(),
        memory_mib: u32::try_from(needed).context("the packet buffers need more memory than DPDK takes")?,
        hugepages: match config.workers.hugepages {
            Hugepages::Auto => overlane_dpdk::Hugepages::Auto,
            Hugepages::Always => overlane_dpdk::Hugepages::Require,
            Hugepages::Never => overlane_dpdk::Hugepages::Never,
        },
        pci,
        ..EalOptions::default()
    })?;
    let pool = Mempool::new(&eal, "packets", &buffers)?;
    Ok((eal, pool))
}
