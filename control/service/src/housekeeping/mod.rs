//! Housekeeping: looks over the whole store every now and then, a bounded part at a time, and raises an event for whatever
//! contradicts something else or does not go on; forgets events that are too old.
//!
//! | reason | what is found | after |
//! | --- | --- | --- |
//! | `interface_not_reported` | an engine is connected and does not say how an interface of its host is | 1 min |
//! | `host_disconnected` | a host with live interfaces whose engine is away | `[housekeeping] host_away` |
//! | `over_capacity` | a host with more interfaces than it, or its engine, can attach | at once |
//! | `move_stuck` | a move that has lasted longer than `[move] stuck_after` | at once |
//! | `rule_without_object` | a rule about a node, tag, network or entity that nobody is, carries or has | at once |
//! | `store_damaged` | records and indexes that disagree | looked for once a day |
//!
//! What engines claim of interfaces that are not theirs (`interface_not_placed`) is found when they report it.

mod hosts;
mod moves;
mod rules;
mod suspects;

use crate::error::{Error, Result};
use crate::events::{Events, Occurrence};
use crate::ledger::{Ledger, verify};
use crate::mover::Mover;
use crate::sync::Hub;
use overlane_api::event::EventKind;
use std::sync::Arc;
use std::time::{Duration, Instant};
use suspects::Suspects;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// When to look, and how long to wait before something is told.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often everything is looked over.
    pub every: Duration,
    /// How long an engine may leave an interface unreported.
    pub unreported: Duration,
    /// How long a host with live interfaces may be away.
    pub host_away: Duration,
    /// How many records are read in one view of the store.
    pub page: usize,
}

/// How long an engine may leave an interface unreported.
pub const UNREPORTED: Duration = Duration::from_secs(60);
/// How many records are read in one view of the store: some milliseconds' worth.
pub const PAGE: usize = 4096;
/// How many views one pass takes; the next one goes on from there.
const VIEWS: usize = 64;
/// When the store is verified first, and how often after that: it reads all of it.
const FIRST_VERIFY: Duration = Duration::from_secs(10 * 60);
const VERIFY: Duration = Duration::from_secs(24 * 3600);

/// Where a look over a table stands: the key that it goes on from; empty at the beginning.
type Cursor = Vec<u8>;

/// Looks for inconsistencies.
pub struct Housekeeper {
    ledger: Arc<Ledger>,
    hub: Arc<Hub>,
    mover: Arc<Mover>,
    events: Arc<Events>,
    pace: Pace,
    suspects: Suspects,
    hosts: Cursor,
    rules: Cursor,
    moves: Cursor,
    verify_due: Instant,
}

/// An inconsistency, about nothing yet.
fn inconsistency(reason: &'static str, detail: String) -> Occurrence {
    Occurrence { detail, ..Occurrence::new(EventKind::Inconsistency, reason) }
}

/// How many records may still be read in a view.
struct Budget(usize);

impl Budget {
    /// `false`: that was the last one.
    fn take(&mut self, records: usize) -> bool {
        self.0 = self.0.saturating_sub(records);
        self.0 > 0
    }
}

impl Housekeeper {
    /// Puts it together; [`Housekeeper::run`] does the work.
    #[must_use]
    pub fn new(
        ledger: Arc<Ledger>,
        hub: Arc<Hub>,
        mover: Arc<Mover>,
        events: Arc<Events>,
        pace: Pace,
    ) -> Self {
        Self {
            ledger,
            hub,
            mover,
            events,
            pace,
            suspects: Suspects::default(),
            hosts: Cursor::new(),
            rules: Cursor::new(),
            moves: Cursor::new(),
            verify_due: Instant::now() + FIRST_VERIFY,
        }
    }

    /// Works until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut due = tokio::time::interval(self.pace.every);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = due.tick() => {}
            }
            let pass = tokio::task::spawn_blocking(move || {
                let done = self.pass(Instant::now());
                (self, done)
            });
            match pass.await {
                Ok((housekeeper, done)) => {
                    self = housekeeper;
                    if let Err(error) = done {
                        tracing::error!(%error, "housekeeping did not get through");
                    }
                }
                Err(_) => {
                    tracing::error!("housekeeping failed; nobody does it until the service is restarted");
                    return;
                }
            }
        }
    }

    /// Looks everything over once, or a large store's next part. Blocks. `now` is what waiting times are measured by.
    ///
    /// # Errors
    /// [`Error::Store`]. Records that cannot be read are events.
    pub fn pass(&mut self, now: Instant) -> Result<()> {
        self.events.expire();
        for part in [Self::hosts, Self::moves, Self::rules] {
            match part(self, now) {
                Err(Error::Record { key, problem }) => self.damaged(&key, &problem, now),
                other => other?,
            }
        }
        if now >= self.verify_due {
            self.verify_due = now + VERIFY;
            let ledger = self.ledger.clone();
            let verified = verify(&*ledger.view()?);
            match verified {
                Err(Error::Record { key, problem }) => self.damaged(&key, &problem, now),
                other => other?,
            }
        }
        Ok(())
    }

    fn damaged(&mut self, key: &str, problem: &str, now: Instant) {
        let detail = format!("the record {}: {problem}", crate::ledger::clipped(key));
        self.tell("store", now, Duration::ZERO, || inconsistency("store_damaged", detail));
    }

    /// Something is wrong: it is told if that has been so for `wait`.
    fn tell(&mut self, subject: &str, now: Instant, wait: Duration, what: impl FnOnce() -> Occurrence) {
        let occurrence = what();
        if self.suspects.is_due(occurrence.reason, subject, now, wait) {
            self.events.raise(occurrence);
        }
    }
}
