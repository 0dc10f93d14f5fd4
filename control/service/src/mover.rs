//! Takes moves from phase to phase.
//!
//! What a move waits for is all in the store and the hub, so a service that restarts goes on where it was. Only how
//! long a phase has lasted starts again: engines have to reconnect first.

use crate::error::Result;
use crate::ledger::{ActiveMove, Ledger, MoveStep, moving};
use crate::sync::Hub;
use overlane_api::resource::{Move, MovePhase};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// How moves are paced.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long a phase waits for engines that do not acknowledge.
    pub ack_wait: Duration,
    /// After how long a move counts as stuck.
    pub stuck_after: Duration,
}

/// The most moves that are taken on at once.
const MAX_MOVES: usize = 10_000;
/// How long to let a failing store be.
const RETRY: Duration = Duration::from_secs(1);

/// Takes moves on, and knows what each waits for.
pub struct Mover {
    ledger: Arc<Ledger>,
    hub: Arc<Hub>,
    pace: Pace,
    waits: Mutex<HashMap<String, String>>,
}

impl Mover {
    /// Puts it together; [`Mover::run`] does the work.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, hub: Arc<Hub>, pace: Pace) -> Arc<Self> {
        Arc::new(Self { ledger, hub, pace, waits: Mutex::new(HashMap::new()) })
    }

    /// Adds to a move's progress what only the mover knows.
    pub fn annotate(&self, node: &str, progress: &mut Move) {
        let waits = self.waits.lock().get(node).cloned();
        progress.waiting_for = waits.unwrap_or_else(|| "the service to look at it".to_owned());
        progress.stuck = self.is_stuck(progress.since);
    }

    /// What a move waits for, if it has done so for too long.
    #[must_use]
    pub fn stuck(&self, active: &ActiveMove) -> Option<String> {
        let waits = || self.waits.lock().get(&active.node).cloned();
        self.is_stuck(active.since).then(|| waits().unwrap_or_else(|| "the service to look at it".to_owned()))
    }

    fn is_stuck(&self, since: u64) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(Duration::from_secs(since)) >= self.pace.stuck_after
    }

    /// How many moves are under way.
    pub fn count(&self) -> usize {
        self.waits.lock().len()
    }

    /// Works until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut revisions = self.ledger.revisions();
        let mut news = self.hub.news();
        // When each phase was first seen.
        let mut seen: HashMap<(String, u64), Instant> = HashMap::new();
        loop {
            revisions.mark_unchanged();
            news.mark_unchanged();
            let mover = self.clone();
            let turn = tokio::task::spawn_blocking(move || {
                let next = mover.turn(&mut seen);
                (seen, next)
            });
            let Ok((back, next)) = turn.await else {
                tracing::error!("the mover failed; moves stand still until the service is restarted");
                return;
            };
            seen = back;
            let wait = match next {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "moves stand still");
                    Some(RETRY)
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = revisions.changed() => {}
                _ = news.changed(), if wait.is_some() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    /// Looks at every move once; when to look again, if nothing happens before.
    fn turn(&self, seen: &mut HashMap<(String, u64), Instant>) -> Result<Option<Duration>> {
        let (moves, hosts) = {
            let view = self.ledger.view()?;
            let moves = moving::active(&*view, "", MAX_MOVES)?;
            let vnets: BTreeSet<u32> = moves.iter().flat_map(|active| active.vnets.iter().copied()).collect();
            let mut hosts = HashMap::new();
            for vnet in vnets {
                hosts.insert(vnet, moving::hosts_of(&*view, vnet)?);
            }
            (moves, hosts)
        };
        seen.retain(|(node, phase), _| {
            moves.iter().any(|active| active.node == *node && active.phase_revision == *phase)
        });
        let mut waits = HashMap::new();
        let mut next: Option<Duration> = None;
        for active in &moves {
            let since =
                *seen.entry((active.node.clone(), active.phase_revision)).or_insert_with(Instant::now);
            let left = self.pace.ack_wait.saturating_sub(since.elapsed());
            match self.waits_for(active, &hosts, left) {
                Some(reason) => {
                    if !left.is_zero() {
                        next = Some(next.map_or(left, |next| next.min(left)));
                    }
                    if self.is_stuck(active.since) {
                        tracing::debug!(node = active.node, to = active.to, reason, "move is stuck");
                    }
                    waits.insert(active.node.clone(), reason);
                }
                None => {
                    tracing::info!(node = active.node, to = active.to, phase = ?active.phase, "move goes on");
                    self.ledger.step_move(&active.node, active.phase_revision, MoveStep::Advance)?;
                }
            }
        }
        *self.waits.lock() = waits;
        Ok(next)
    }

    fn waits_for(
        &self,
        active: &ActiveMove,
        hosts: &HashMap<u32, Vec<String>>,
        left: Duration,
    ) -> Option<String> {
        if !left.is_zero() {
            let concerned: BTreeSet<&String> =
                active.vnets.iter().filter_map(|vnet| hosts.get(vnet)).flatten().collect();
            let mut late =
                concerned.into_iter().filter(|host| !self.hub.has_applied(host, active.phase_revision));
            if let Some(first) = late.next() {
                let others = match late.count() {
                    0 => String::new(),
                    others => format!(" and {others} more"),
                };
                return Some(format!("the engine of {first}{others} to acknowledge"));
            }
        }
        if active.phase == MovePhase::Prepare && !active.not_live.is_empty() {
            return Some(format!("{} to be live", active.not_live.join("; ")));
        }
        None
    }
}
