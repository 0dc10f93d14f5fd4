//! When the state is written to disk: soon after a change, off the control thread, never twice at once.

use crate::provisioning::desired::DesiredState;
use crate::provisioning::disk::StateDirectory;
use core::time::Duration;
use std::time::SystemTime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Changes within this time of each other are written together.
const SETTLE: Duration = Duration::from_secs(1);
/// How often the time of contact is written.
const CONTACT: Duration = Duration::from_secs(60);
/// Writing takes at most this share of the time: a large state is written less often.
const SHARE: u32 = 10;

/// Keeps the state on disk.
#[derive(Debug)]
pub(super) struct Persist {
    directory: StateDirectory,
    due: Option<Instant>,
    contact_due: Instant,
    running: Option<JoinHandle<std::io::Result<()>>>,
    started: Instant,
    not_before: Instant,
}

impl Persist {
    pub(super) fn new(directory: StateDirectory, now: Instant) -> Self {
        Self {
            directory,
            due: None,
            contact_due: now + CONTACT,
            running: None,
            started: now,
            not_before: now,
        }
    }

    /// The state has changed.
    pub(super) fn changed(&mut self, now: Instant) {
        self.due.get_or_insert(now + SETTLE);
    }

    /// When [`Persist::step`] is to be called.
    pub(super) fn deadline(&self) -> Instant {
        match self.due {
            Some(due) if self.running.is_none() => due.max(self.not_before).min(self.contact_due),
            _ => self.contact_due,
        }
    }

    /// Writes what is due. `contact`: when the service was last heard of.
    pub(super) fn step(&mut self, state: &DesiredState, contact: Option<SystemTime>, now: Instant) {
        if self.running.is_some() {
            self.contact_due = self.contact_due.max(now + SETTLE);
            return;
        }
        let Some(contact) = contact else {
            self.due = None;
            self.contact_due = now + CONTACT;
            return;
        };
        let directory = self.directory.clone();
        self.started = now;
        if self.due.is_some_and(|due| due.max(self.not_before) <= now) {
            self.due = None;
            self.contact_due = now + CONTACT;
            let state = state.clone();
            self.running = Some(tokio::task::spawn_blocking(move || directory.save(&state, contact)));
        } else if self.contact_due <= now {
            self.contact_due = now + CONTACT;
            self.running = Some(tokio::task::spawn_blocking(move || directory.save_contact(contact)));
        }
    }

    /// Waits for the write that is under way; for ever, when none is.
    pub(super) async fn finished(&mut self) {
        let Some(running) = &mut self.running else { return core::future::pending().await };
        let outcome = running.await;
        self.running = None;
        let now = Instant::now();
        self.not_before = now + (now - self.started) * SHARE;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot keep the state on disk; a restart would begin with an older one");
                self.due.get_or_insert(now + CONTACT);
            }
            Err(error) => tracing::error!(%error, "the task that keeps the state on disk has failed"),
        }
    }

    /// Writes what is not written yet, at shutdown.
    pub(super) async fn finish(&mut self, state: &DesiredState, contact: Option<SystemTime>) {
        if self.running.is_some() {
            self.finished().await;
        }
        let now = Instant::now();
        self.not_before = now;
        self.contact_due = now;
        self.due = self.due.map(|_| now);
        self.step(state, contact, now);
        if self.running.is_some() {
            self.finished().await;
        }
    }
}
