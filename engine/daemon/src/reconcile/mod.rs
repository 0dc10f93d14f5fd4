//! The control thread's heart: one task that owns the desired state and keeps the data plane in step with it, with the
//! kernel's interfaces and with the substrate.
//!
//! Everything comes in as events: changes from provisioning, links from rtnetlink, frames that workers hand up, ports
//! that have been opened. A turn takes a bounded number of each, then `Reconciler::settle` does what follows from
//! them, once: mappings leave ports that go, a new snapshot is published, mappings come to ports that are new, ports
//! that are in no snapshot any more are closed, and then the revision is acknowledged.

mod attachments;
pub mod counted;
mod health;
mod hosts;
mod links;
mod membership;
mod mtu;
mod paths;
mod persist;
mod policy;
mod resolver;
mod settle;
mod snapshot;
pub mod status;
#[cfg(test)]
mod tests;
pub mod traits;
mod uplink;
mod work;

use crate::config::UplinkConfig;
use crate::provisioning::desired::DesiredState;
use crate::provisioning::disk::{StateDirectory, Stored};
use crate::provisioning::model::{Change, Target, What};
use crate::provisioning::resolve::Request;
use crate::provisioning::{Applied, Connection, Event, Reports};
use crate::telemetry::Pulse;
use crate::trace::{Known, Lookup};
use attachments::Attachments;
use core::time::Duration;
use hashbrown::HashSet;
use health::Health;
use hosts::Hosts;
use links::Links;
use membership::Memberships;
use overlane_dataplane::address::HostPrefix;
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::id::PortId;
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::resolve::Question;
use overlane_dataplane::translate;
use paths::Paths;
use persist::Persist;
use resolver::Resolver;
use snapshot::{Builder, Local};
use status::Status;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use traits::{Dataplane, Kernel, LinkEvent, OpenPort, PortEvent};
use uplink::UplinkDriver;
use work::Work;

/// What the reconciler needs to know at start.
#[derive(Debug)]
pub struct Settings {
    /// This host's id.
    pub host: String,
    /// The uplink.
    pub uplink: UplinkConfig,
    /// How many workers count.
    pub workers: usize,
    /// How packets are translated.
    pub translate: translate::Settings,
    /// How many ICMP errors an interface, and an uplink, is worth to each worker.
    pub icmp: IcmpLimit,
    /// What an interface may ask of each worker for groups.
    pub groups: GroupLimit,
    /// How long a path MTU that the substrate has told lasts.
    pub path_mtu_expiry: Duration,
    /// For how long a mapping is held that was resolved on demand.
    pub mapping_expiry: Duration,
    /// How long entries serve without contact to the service; `None` when a file is the source.
    pub stale_max: Option<Duration>,
    /// Where the state is kept; `None` when a file is the source.
    pub directory: Option<StateDirectory>,
    /// The state that was kept.
    pub stored: Option<Stored>,
}

/// What comes in.
#[derive(Debug)]
pub struct Inputs {
    /// From the source of the desired state.
    pub events: mpsc::Receiver<Event>,
    /// From rtnetlink; every link that exists comes first.
    pub links: mpsc::Receiver<LinkEvent>,
    /// From ports whose devices the kernel does not tell of.
    pub ports: mpsc::Receiver<PortEvent>,
    /// Frames that workers hand up.
    pub punts: mpsc::Receiver<(PortId, Vec<u8>)>,
    /// Path MTUs that workers hear of: the largest IPv6 packet to a host, in bytes.
    pub hints: mpsc::Receiver<(HostPrefix, u16)>,
    /// Questions about what is desired.
    pub lookups: mpsc::Receiver<Lookup>,
    /// Mappings that workers ask for, and which worker.
    pub questions: mpsc::Receiver<(usize, Question)>,
    /// Ends the reconciler when it becomes true, or when its sender is gone.
    pub shutdown: watch::Receiver<bool>,
}

/// What is told to others.
#[derive(Debug)]
pub struct Outputs {
    /// To the source of the desired state.
    pub applied: watch::Sender<Applied>,
    /// To the source of the desired state.
    pub reports: watch::Sender<Arc<Reports>>,
    /// To the service, if that is the source of the desired state: mappings that are needed.
    pub requests: mpsc::Sender<Request>,
    /// To operators.
    pub status: watch::Sender<Arc<Status>>,
    /// Shows that the reconciler turns.
    pub pulse: Arc<Pulse>,
}

/// A task has ended.
#[derive(Debug)]
enum Completion {
    Opened { id: Arc<str>, token: u64, ifindex: Option<u32>, outcome: Result<OpenPort, String> },
    UplinkOpened { token: u64, outcome: Result<OpenPort, String> },
    UplinkIsolated { port: PortId, outcome: Result<(), String> },
    Closed { id: Option<Arc<str>>, port: OpenPort },
}

/// Events of a kind taken in one turn.
const BATCH: usize = 64;
/// How often it is looked whether workers go by what is to be acknowledged: a turn of theirs takes much less.
const GRACE: Duration = Duration::from_millis(1);
/// How often the table's memory is looked after and refused mappings are tried again.
const UPKEEP: Duration = Duration::from_millis(250);

/// The reconciler.
#[derive(Debug)]
pub struct Reconciler<D: Dataplane, K> {
    host: String,
    dataplane: D,
    kernel: K,
    inputs: Inputs,
    outputs: Outputs,
    state: DesiredState,
    links: Links,
    attachments: Attachments,
    memberships: Memberships,
    health: Health,
    uplink: UplinkDriver,
    builder: Builder,
    translate: translate::Settings,
    hosts: Hosts,
    paths: Paths,
    resolver: Resolver,
    local: Local,
    work: Option<Work>,
    backlog: VecDeque<Event>,
    completions: (mpsc::UnboundedSender<Completion>, mpsc::UnboundedReceiver<Completion>),
    /// Something of the host's has changed since the last `Reconciler::settle`.
    dirty: bool,
    /// Ports that are to be closed when a snapshot without them is published.
    closing: Vec<(Option<Arc<str>>, OpenPort)>,
    /// The newest snapshot could not be published.
    unpublished: bool,
    /// A revision is complete and has not been told.
    unacknowledged: bool,
    /// What is told when workers go by it.
    grace: Option<(D::Grace, Applied)>,
    /// Mappings that the table had no room for.
    unwritten: HashSet<Target>,
    overfull: Option<String>,
    connection: Connection,
    stale_max: Option<Duration>,
    /// When the service was last heard of, while it is away.
    contact: Option<SystemTime>,
    expires_at: Option<Instant>,
    /// When rules come into force or go out of it, or the clock is looked at again.
    turn_at: Option<Instant>,
    expired: bool,
    table_behind: bool,
    upkeep_at: Instant,
    persist: Option<Persist>,
}

impl<D: Dataplane, K: Kernel> Reconciler<D, K> {
    /// A reconciler; call [`Reconciler::run`]. Has to be called within a tokio runtime.
    #[must_use]
    pub fn new(settings: Settings, dataplane: D, kernel: K, inputs: Inputs, outputs: Outputs) -> Self {
        let now = Instant::now();
        let resolver = Resolver::new(outputs.requests.clone(), settings.mapping_expiry);
        let mut new = Self {
            host: settings.host,
            dataplane,
            kernel,
            inputs,
            outputs,
            state: DesiredState::default(),
            links: Links::default(),
            attachments: Attachments::default(),
            memberships: Memberships::new(now),
            health: Health::default(),
            uplink: UplinkDriver::new(settings.uplink, settings.icmp.buckets(settings.workers)),
            builder: Builder::new(settings.workers, settings.icmp, settings.groups),
            translate: settings.translate,
            hosts: Hosts::default(),
            paths: Paths::new(settings.path_mtu_expiry),
            resolver,
            local: Local::new(),
            work: None,
            backlog: VecDeque::new(),
            completions: mpsc::unbounded_channel(),
            dirty: true,
            closing: Vec::new(),
            unpublished: false,
            unacknowledged: false,
            grace: None,
            unwritten: HashSet::new(),
            overfull: None,
            connection: Connection::Down(match settings.stale_max {
                Some(_) => "not yet in contact".to_owned(),
                None => String::new(),
            }),
            stale_max: settings.stale_max,
            contact: None,
            expires_at: None,
            turn_at: None,
            expired: false,
            table_behind: false,
            upkeep_at: now + UPKEEP,
            persist: settings.directory.map(|directory| Persist::new(directory, now)),
        };
        if let (Some(stored), Some(stale_max)) = (settings.stored, settings.stale_max) {
            new.restore(stored, stale_max, now);
        }
        new
    }

    /// Takes the state that was kept on disk, as long as it may serve.
    fn restore(&mut self, stored: Stored, stale_max: Duration, now: Instant) {
        let Stored { mut state, contact } = stored;
        if state.host.as_ref().is_some_and(|kept| kept.value.id != self.host) {
            tracing::warn!("the state on disk is another host's; not used");
            return;
        }
        // A contact in the future means that a clock was set: the age is not known, and counted from now.
        let age = SystemTime::now().duration_since(contact).unwrap_or_default();
        let mappings = state.mappings.len();
        if age >= stale_max {
            tracing::warn!(?age, ?stale_max, "the state on disk is too old to forward by");
            state.mappings.clear();
            state.revision = None;
            self.expired = true;
        } else {
            tracing::info!(?age, mappings, "forwarding by the state on disk");
            self.expires_at = Some(now + (stale_max - age));
        }
        self.contact = Some(contact);
        self.replace(state);
    }

    /// Runs until shutdown; then writes the state down. The data plane goes on until its owner stops it.
    pub async fn run(mut self) {
        let mut events = Vec::with_capacity(BATCH);
        let mut links = Vec::with_capacity(BATCH);
        let mut punts = Vec::with_capacity(BATCH);
        let mut hints = Vec::with_capacity(BATCH);
        let mut questions = Vec::with_capacity(BATCH);
        self.settle();
        loop {
            self.take_backlog();
            let timer = self.deadline();
            let free = self.work.is_none() && self.backlog.is_empty();
            tokio::select! {
                () = stopped(&mut self.inputs.shutdown) => break,
                count = self.inputs.events.recv_many(&mut events, BATCH), if free && !self.inputs.events.is_closed() => {
                    tracing::trace!(count, "events from provisioning");
                    self.backlog.extend(events.drain(..));
                }
                _ = self.inputs.links.recv_many(&mut links, BATCH), if !self.inputs.links.is_closed() => {
                    for event in links.drain(..) {
                        self.links.apply(event);
                    }
                    self.dirty = true;
                }
                _ = self.inputs.punts.recv_many(&mut punts, BATCH), if !self.inputs.punts.is_closed() => {
                    let now = Instant::now();
                    for (port, frame) in punts.drain(..) {
                        self.take_frame(port, &frame, now);
                    }
                }
                _ = self.inputs.hints.recv_many(&mut hints, BATCH), if !self.inputs.hints.is_closed() => {
                    self.take_hints(&mut hints);
                }
                _ = self.inputs.questions.recv_many(&mut questions, BATCH), if !self.inputs.questions.is_closed() => {
                    self.take_questions(&mut questions);
                }
                Some(lookup) = self.inputs.lookups.recv() => self.look_up(lookup),
                Some(event) = self.inputs.ports.recv() => self.take_port_event(event),
                Some(completion) = self.completions.1.recv() => self.complete(completion),
                () = written(self.persist.as_mut()) => {}
                () = tokio::time::sleep_until(timer) => self.on_time(),
                () = tokio::task::yield_now(), if self.can_work() => self.work_on(),
            }
            self.settle();
        }
        self.shut_down().await;
    }

    /// Takes events in their order, until one of them is work for several turns.
    fn take_backlog(&mut self) {
        while self.work.is_none()
            && let Some(event) = self.backlog.pop_front()
        {
            match event {
                Event::Connection(connection) => self.take_connection(connection),
                Event::Snapshot(state) => {
                    self.expired = false;
                    self.overfull = None;
                    self.replace(*state);
                }
                Event::Delta { revision, changes } => self.take_delta(revision, changes),
                Event::Resolved(request, resolved) => self.take_resolved(request, resolved),
            }
        }
        self.settle();
    }

    fn take_delta(&mut self, revision: crate::provisioning::model::Revision, changes: Vec<Change>) {
        match self.state.revision {
            Some(reached) if reached.incarnation == revision.incarnation => {
                if reached.number < revision.number {
                    self.work =
                        Some(Work::Delta { revision, changes: changes.into_iter(), touched: Vec::new() });
                } else {
                    self.unacknowledged = true;
                }
            }
            // The state expired while this was on its way; the stream that follows begins with a snapshot.
            _ => tracing::warn!(%revision, "a delta to a state that is not there any more; not used"),
        }
    }

    fn take_connection(&mut self, connection: Connection) {
        match &connection {
            Connection::Up { host, .. } => {
                self.expires_at = None;
                let known = self.state.host.as_ref().map(|kept| &kept.value);
                // A snapshot brings the host itself; between snapshots only the prefix can have changed.
                if self.state.revision.is_some() && known != Some(host) {
                    let revision = self.state.host.as_ref().map_or(0, |kept| kept.revision);
                    let _ = self.state.apply(Change { revision, what: What::PutHost(host.clone()) });
                }
            }
            Connection::Down(_) => {
                self.give_up_requests();
                if matches!(self.connection, Connection::Up { .. }) {
                    self.contact = Some(SystemTime::now());
                    self.expires_at = self.stale_max.map(|stale_max| Instant::now() + stale_max);
                }
            }
        }
        self.connection = connection;
        self.dirty = true;
    }

    fn complete(&mut self, completion: Completion) {
        let now = Instant::now();
        self.dirty = true;
        match completion {
            Completion::Opened { id, token, ifindex, outcome } => {
                if let Some(port) = self.attachments.opened(&id, token, ifindex, outcome, now) {
                    self.close(Some(id), port);
                }
            }
            Completion::UplinkOpened { token, outcome } => {
                let (unwanted, step) = self.uplink.opened(token, outcome, now);
                if let Some(port) = unwanted {
                    self.close(None, port);
                }
                self.take_step(step);
            }
            Completion::UplinkIsolated { port, outcome } => self.uplink.isolated(port, outcome, now),
            Completion::Closed { id: Some(id), port } => self.attachments.retire(&id, &port),
            Completion::Closed { id: None, port } => self.uplink.retire(&port),
        }
    }

    fn take_port_event(&mut self, event: PortEvent) {
        let now = Instant::now();
        self.dirty = true;
        match event {
            PortEvent::Gone(port) => {
                let uplink = self.uplink.lost(port).map(|port| (None, port));
                let node = self.attachments.lost(port).map(|(id, port)| (Some(id), port));
                self.closing.extend(uplink.or(node));
            }
            PortEvent::Link(port, up) => {
                let step = self.uplink.port_link(port, up, now);
                self.take_step(step);
                self.attachments.port_link(port, up);
            }
            PortEvent::Mtu(port, mtu) => self.attachments.port_mtu(port, mtu),
        }
    }

    /// Believes what the substrate says of paths to hosts that mappings lead to.
    fn take_hints(&mut self, hints: &mut Vec<(HostPrefix, u16)>) {
        let now = Instant::now();
        let (_, uplink) = self.uplink.place();
        for (host, mtu) in hints.drain(..) {
            if let Some(uplink) = uplink.filter(|_| self.hosts.contains(host)) {
                self.dirty |= self.paths.learn(host, mtu, uplink, now);
            }
        }
    }

    /// Says what last touched what somebody asks about.
    fn look_up(&self, lookup: Lookup) {
        let revision = |known: &Known| match known {
            Known::Interface(id) => self.state.interfaces.get(id.as_str()).map(|kept| kept.revision),
            Known::Vnet(id) => self.state.vnets.get(id).map(|kept| kept.revision),
            Known::Mapping(target) => self.state.mappings.get(target).map(|kept| kept.revision),
        };
        // Whoever does not wait any more needs no answer.
        let _ = lookup.answer.send(lookup.of.iter().map(revision).collect());
    }

    /// Takes a frame that a worker has handed up: of a node's what it wants to hear, else of the uplink's.
    fn take_frame(&mut self, port: PortId, frame: &[u8], now: Instant) {
        match self.memberships.input(port, frame, now) {
            Some(changed) => self.dirty |= changed,
            None => {
                let step = self.uplink.input(port, frame, now);
                self.take_step(step);
            }
        }
    }

    fn take_step(&mut self, step: uplink::Step) {
        if let Some(port) = self.uplink.port() {
            for frame in &step.frames {
                self.dataplane.inject(port, frame);
            }
        }
        self.dirty |= step.changed;
    }

    fn deadline(&self) -> Instant {
        let mut deadline = self.upkeep_at;
        let others = [
            self.uplink.deadline(),
            self.attachments.retry_at(),
            self.memberships.deadline(),
            self.health.deadline(),
            self.expires_at,
            self.paths.deadline(),
            self.turn_at,
            self.grace.map(|_| Instant::now() + GRACE),
            self.persist.as_ref().map(Persist::deadline),
        ];
        for other in others.into_iter().flatten() {
            deadline = deadline.min(other);
        }
        deadline
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        let step = self.uplink.tick(now);
        self.take_step(step);
        for (questions, changed) in [self.memberships.tick(now), self.health.tick(now)] {
            for (port, frame) in &questions {
                self.dataplane.inject(*port, frame);
            }
            self.dirty |= changed;
        }
        if self.uplink.deadline().is_some_and(|at| at <= now)
            || self.attachments.retry_at().is_some_and(|at| at <= now)
        {
            self.dirty = true;
        }
        self.dirty |= self.paths.expire(now) || self.turn_at.is_some_and(|at| at <= now);
        if self.upkeep_at <= now {
            self.upkeep_at = now + UPKEEP;
            self.outputs.pulse.beat();
            let behind = self.dataplane.maintain();
            if behind != self.table_behind {
                self.table_behind = behind;
                self.dirty = true;
            }
            if !self.unwritten.is_empty() {
                self.write_again();
                self.dirty = true;
            }
            self.age_mappings(now);
            self.tell_numbers();
            self.dirty |= self.unpublished;
        }
        if self.expires_at.is_some_and(|at| at <= now) && self.work.is_none() {
            self.expire();
        }
        let contact = self.heard_of();
        if let Some(persist) = &mut self.persist
            && persist.deadline() <= now
        {
            persist.step(&self.state, contact, now);
        }
    }

    /// When the service was last heard of.
    fn heard_of(&self) -> Option<SystemTime> {
        match self.connection {
            Connection::Up { .. } => Some(SystemTime::now()),
            Connection::Down(_) => self.contact,
        }
    }

    /// Entries have served without contact for as long as they may.
    fn expire(&mut self) {
        tracing::error!("without contact to the service for stale_max: nothing is forwarded any more");
        self.expires_at = None;
        self.expired = true;
        let mut state = self.state.clone();
        state.mappings.clear();
        state.revision = None;
        self.replace(state);
    }

    async fn shut_down(mut self) {
        let contact = self.heard_of();
        if let Some(persist) = &mut self.persist {
            persist.finish(&self.state, contact).await;
        }
    }
}

/// Returns when the engine is to stop.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Returns when a write to disk has ended.
async fn written(persist: Option<&mut Persist>) {
    match persist {
        Some(persist) => persist.finished().await,
        None => core::future::pending().await,
    }
}
