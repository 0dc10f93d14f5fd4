//! Which engines are connected, and how far each is.

use super::workers::Workers;
use crate::ledger::Ledger;
use overlane_api::resource::{EngineStatus, HostWorkers};
use overlane_api::sync::WorkersReport;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The connected engines.
pub struct Hub {
    ledger: Arc<Ledger>,
    sessions: Mutex<HashMap<String, Session>>,
    /// Counts what happens to sessions.
    news: watch::Sender<u64>,
    snapshots: Semaphore,
}

/// How many snapshots are sent at once.
const SNAPSHOTS_AT_ONCE: usize = 16;

#[derive(Debug)]
struct Session {
    number: u64,
    end: CancellationToken,
    version: String,
    capacity: u32,
    acknowledged: u64,
    /// The last revision that was sent to it.
    sent: u64,
    /// The last revision that was looked at for it: it has all that concerns it up to here, once it has
    /// acknowledged what was sent.
    covered: u64,
    workers: Workers,
    /// The interfaces of its host that it has said how they are.
    reported: HashSet<String>,
}

/// What an engine said of itself.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    pub(super) version: String,
    pub(super) capacity: u32,
    /// What it has of this incarnation.
    pub(super) applied: Option<u64>,
}

/// A place in the hub, given back when dropped.
pub(super) struct Ticket {
    hub: Arc<Hub>,
    host: String,
    number: u64,
    /// Cancelled when another stream of the same host takes the place.
    pub(super) replaced: CancellationToken,
}

impl Hub {
    /// No engine is connected yet.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            sessions: Mutex::new(HashMap::new()),
            news: watch::Sender::new(0),
            snapshots: Semaphore::new(SNAPSHOTS_AT_ONCE),
        })
    }

    /// Changes whenever an engine comes, goes or acknowledges.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// A host's engine, as seen now.
    #[must_use]
    pub fn engine(&self, host: &str) -> EngineStatus {
        self.sessions.lock().get(host).map_or_else(EngineStatus::default, |session| EngineStatus {
            connected: true,
            version: Some(session.version.clone()),
            capacity: Some(session.capacity),
            acknowledged: Some(session.acknowledged),
            sent: Some(session.sent),
            workers: session.workers.status().to_vec(),
        })
    }

    /// The workers of the first `limit` hosts whose engine has reported any, in the order of hosts.
    #[must_use]
    pub fn workers(&self, limit: usize) -> Vec<HostWorkers> {
        let sessions = self.sessions.lock();
        let reported = sessions.iter().filter(|(_, session)| !session.workers.status().is_empty());
        let mut reported: Vec<_> = reported.collect();
        reported.sort_unstable_by_key(|(host, _)| *host);
        let workers = |(host, session): (&String, &Session)| HostWorkers {
            host: host.clone(),
            workers: session.workers.status().to_vec(),
        };
        reported.into_iter().take(limit).map(workers).collect()
    }

    /// How many engines are connected, and how many of them have acknowledged all that concerns them.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let last = *self.ledger.revisions().borrow();
        let sessions = self.sessions.lock();
        let in_step = sessions
            .values()
            .filter(|session| session.covered >= last && session.acknowledged >= session.sent);
        (sessions.len() as u64, in_step.count() as u64)
    }

    /// Whether the engine of `host` is connected and forwards by `revision`, as far as that concerns it.
    #[must_use]
    pub fn has_applied(&self, host: &str, revision: u64) -> bool {
        self.sessions.lock().get(host).is_some_and(|session| {
            session.acknowledged >= revision
                || session.covered >= revision && session.acknowledged >= session.sent
        })
    }

    /// Of a host's `interfaces`, all that it has, those that its engine has not said anything of since it connected; `None`
    /// while it is not connected.
    #[must_use]
    pub fn unreported(&self, host: &str, interfaces: &[String]) -> Option<Vec<String>> {
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(host)?;
        let reported = std::mem::take(&mut session.reported);
        let (known, unknown): (Vec<_>, Vec<_>) =
            interfaces.iter().cloned().partition(|id| reported.contains(id));
        // Of those that are the host's no more nothing is remembered.
        session.reported = known.into_iter().collect();
        Some(unknown)
    }

    /// Takes the place of `host`; a stream that had it before is told to end.
    pub(super) fn join(self: &Arc<Self>, host: &str, engine: Introduction) -> Ticket {
        let replaced = CancellationToken::new();
        let mut sessions = self.sessions.lock();
        let number = sessions.get(host).map_or(0, |before| before.number + 1);
        let applied = engine.applied.unwrap_or(0);
        let session = Session {
            number,
            end: replaced.clone(),
            version: engine.version,
            capacity: engine.capacity,
            acknowledged: applied,
            sent: applied,
            covered: 0,
            workers: Workers::default(),
            reported: HashSet::new(),
        };
        if let Some(before) = sessions.insert(host.to_owned(), session) {
            before.end.cancel();
        }
        self.ledger.set_engine_capacity(host, Some(engine.capacity));
        drop(sessions);
        self.tell();
        Ticket { hub: self.clone(), host: host.to_owned(), number, replaced }
    }

    /// Waits for a turn to send a snapshot. `None`: never, since the semaphore is never closed.
    pub(super) async fn snapshot_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.snapshots.acquire().await.ok()
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Ticket {
    fn with(&self, change: impl FnOnce(&mut Session)) {
        self.with_quietly(change);
        self.hub.tell();
    }

    /// The same for what nobody waits for.
    fn with_quietly<T>(&self, change: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let mut sessions = self.hub.sessions.lock();
        let session = sessions.get_mut(&self.host).filter(|session| session.number == self.number);
        session.map(change)
    }

    /// Something is about to be sent that is true up to `revision`.
    pub(super) fn sending(&self, revision: u64) {
        self.with(|session| {
            session.sent = revision;
            session.covered = revision;
        });
    }

    /// Up to `revision` there is nothing to send.
    pub(super) fn covered(&self, revision: u64) {
        self.with(|session| session.covered = revision);
    }

    /// The engine forwards by `revision`. `false`: it was never sent that.
    pub(super) fn acknowledged(&self, revision: u64) -> bool {
        let mut known = true;
        self.with(|session| {
            known = revision <= session.sent;
            if known {
                session.acknowledged = session.acknowledged.max(revision);
            }
        });
        known
    }

    /// The engine tells what its workers do.
    ///
    /// # Errors
    /// What is wrong with the report.
    pub(super) fn workers(&self, report: WorkersReport) -> Result<(), Status> {
        self.with_quietly(|session| session.workers.report(report)).unwrap_or(Ok(()))
    }

    /// The engine has said how an interface of its host is.
    pub(super) fn reported(&self, interface: String) {
        self.with_quietly(|session| session.reported.insert(interface));
    }

    /// The engine starts over: what it acknowledged before does not count.
    pub(super) fn starts_over(&self) {
        self.with(|session| session.acknowledged = 0);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut sessions = self.hub.sessions.lock();
        if sessions.get(&self.host).is_some_and(|session| session.number == self.number) {
            sessions.remove(&self.host);
            self.hub.ledger.set_engine_capacity(&self.host, None);
        }
        drop(sessions);
        self.hub.tell();
    }
}
