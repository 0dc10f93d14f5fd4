//! Events: what went wrong, told once, where operators look.
//!
//! ```text
//!  engines' reports ──intake──►┐
//!                              ├──raise──► book (memory, bounded) ──flush, every few seconds──► Table::Events
//!  refused resolutions ────────┤              │
//!  housekeeping ───────────────┘              │
//!                                             └──► GET /v1/events, metrics
//! ```
//! Events are no part of what is provisioned: they are written beside the ledger's transactions, make no revision, and no
//! engine is woken for one. What the service has not written when it is killed, a few seconds' worth, is lost.

mod book;
mod intake;

pub use book::Occurrence;
pub(crate) use intake::check;

use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::ledger::record::{decode, encode, try_scan};
use crate::store::{Step, Table, View};
use crate::telemetry::{EventLabels, Metrics};
use book::Book;
use overlane_api::event::{Event, EventQuery};
use overlane_api::resource::Page;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many events; beyond it the one that happened last longest ago goes.
    pub keep: usize,
    /// For how long after it happened last.
    pub age: Duration,
}

/// How often what is new is written.
const FLUSH: Duration = Duration::from_secs(2);
/// How many events one page looks at: one with a narrow filter may come back short, with a `next` to go on from.
const MAX_LOOK: usize = 20_000;
/// The key of the next event's number; those of events have eight bytes.
const NEXT: &[u8] = b"next";

/// All events.
pub struct Events {
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    book: Mutex<Book>,
    /// Held while something is written, so that what is older never overwrites what is newer.
    writing: Mutex<()>,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Events {
    /// Reads what the store has. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`], or [`Error::Record`] if there is something else in its place.
    pub fn open(ledger: Arc<Ledger>, metrics: Arc<Metrics>, limits: Limits) -> Result<Arc<Self>> {
        let mut book = Book::new(limits);
        {
            let view = ledger.view()?;
            book.go_on_from(next(&*view)?);
            try_scan(&*view, Table::Events, &[], &[], |key, value| {
                if key != NEXT {
                    book.restore(decode::<Event>(Table::Events, key, value)?);
                }
                Ok(Step::Continue(()))
            })?;
        }
        book.expire(now());
        Ok(Arc::new(Self { ledger, metrics, book: Mutex::new(book), writing: Mutex::default() }))
    }

    /// Something went wrong: it is told as an event of its own, or counted in the one that tells it already.
    pub fn raise(&self, occurrence: Occurrence) {
        let labels = EventLabels { kind: occurrence.kind.name(), reason: occurrence.reason };
        self.metrics.event_occurrences.get_or_create(&labels).inc_by(occurrence.count);
        let (kind, reason, detail) = (occurrence.kind, occurrence.reason, occurrence.detail.clone());
        let host = occurrence.host.clone().unwrap_or_default();
        let Some(id) = self.book.lock().raise(occurrence, now()) else { return };
        self.metrics.events.get_or_create(&labels).inc();
        tracing::warn!(id, %kind, reason, host, detail, "event");
    }

    /// Forgets what is too old.
    pub fn expire(&self) {
        self.book.lock().expire(now());
    }

    /// The events that a query is about, in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn list(&self, query: &EventQuery) -> Result<Page<Event>> {
        let limit = crate::ledger::check::page(query.limit)?;
        for (field, id) in [("host", &query.host), ("entity", &query.entity)] {
            id.as_ref().map(|id| crate::ledger::check::id(field, id)).transpose()?;
        }
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let wanted = |event: &Event| {
            query.kind.is_none_or(|kind| kind == event.kind)
                && (is(&query.host, &event.host) || is(&query.host, &event.from_host))
                && is(&query.entity, &event.entity)
        };
        let mut page = Page { items: Vec::new(), next: None };
        let mut last = None;
        let book = self.book.lock();
        for (looked, event) in book.after(query.after).enumerate() {
            if page.items.len() == limit || looked == MAX_LOOK {
                page.next = last.map(|id: u64| id.to_string());
                break;
            }
            page.items.extend(wanted(event).then(|| event.clone()));
            last = Some(event.id);
        }
        Ok(page)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.book.lock().count()
    }

    /// Writes what has changed. Blocks.
    ///
    /// # Errors
    /// [`Error::Store`]; it is written with the next flush then.
    pub fn flush(&self) -> Result<()> {
        let _turn = self.writing.lock();
        let (changed, next) = self.book.lock().take_changed();
        if changed.is_empty() {
            return Ok(());
        }
        let written = self.ledger.write_aside(|update| {
            update.put(Table::Events, NEXT, &next.to_be_bytes())?;
            for (id, event) in &changed {
                let key = id.to_be_bytes();
                match event {
                    Some(event) => update.put(Table::Events, &key, &encode(Table::Events, &key, event)?)?,
                    None => update.delete(Table::Events, &key)?,
                }
            }
            Ok(())
        });
        if written.is_err() {
            self.book.lock().changed_again(changed.iter().map(|(id, _)| *id));
        }
        written
    }

    /// Writes what is new, every few seconds until `shutdown`, and a last time then.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut due = tokio::time::interval(FLUSH);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                () = shutdown.cancelled() => true,
                _ = due.tick() => false,
            };
            let events = self.clone();
            match tokio::task::spawn_blocking(move || events.flush()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "events are not written"),
                Err(_) => tracing::error!("the writer of events failed"),
            }
            if last {
                return;
            }
        }
    }
}

/// The number that the next event is to have at least.
fn next(view: &dyn View) -> Result<u64> {
    let Some(value) = view.get(Table::Events, NEXT)? else { return Ok(1) };
    let bytes = value.try_into().map_err(|_| Error::Record {
        key: "Events/next".to_owned(),
        problem: "it is not a number of 8 bytes".to_owned(),
    })?;
    Ok(u64::from_be_bytes(bytes))
}

/// Whether all events can be read, and are where they belong.
///
/// # Errors
/// The first thing that is wrong, as [`Error::Record`].
pub(crate) fn verify(view: &dyn View) -> Result<()> {
    next(view)?;
    try_scan(view, Table::Events, &[], &[], |key, value| {
        if key != NEXT && decode::<Event>(Table::Events, key, value)?.id.to_be_bytes() != *key {
            return Err(Error::Record {
                key: format!("Events/{}", crate::backup::to_hex(key)),
                problem: "it has another event's number".to_owned(),
            });
        }
        Ok(Step::Continue(()))
    })
}
