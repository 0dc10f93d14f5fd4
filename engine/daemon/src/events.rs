//! What this engine refused because of what senders claimed: summed up for the service, `/status` and metrics.
//!
//! Workers hand over what they have noted; the sync client takes what has come together every few seconds. While the service
//! is away it is kept here, in memory that does not grow.

use overlane_api::sync as proto;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::failure::{Failure, SPOOFING, VERIFICATION};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often the service is told at most.
pub const PERIOD: Duration = Duration::from_secs(5);
/// Entries of one report: as many as the protocol has.
const MOST: usize = 64;
/// Those that are kept apart: there is one more for what finds no room, for each reason.
const APART: usize = MOST - VERIFICATION.len() - SPOOFING.len();

/// What makes two refused packets one entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    reason: DropReason,
    prefix: Option<String>,
    vnet: Option<u32>,
    interface: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    count: u64,
    first: Instant,
    last: Instant,
    example: String,
}

impl Entry {
    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        if self.example.is_empty() {
            self.example = other.example;
        }
    }
}

/// Entries by what they have in common, never more than [`MOST`].
#[derive(Debug, Default)]
struct Sums(HashMap<Key, Entry>);

impl Sums {
    fn add(&mut self, key: Key, entry: Entry) {
        if let Some(known) = self.0.get_mut(&key) {
            return known.add(entry);
        }
        let key =
            if self.0.len() < APART { key } else { Key { prefix: None, vnet: None, interface: None, ..key } };
        self.0.entry(key).and_modify(|known| known.add(entry.clone())).or_insert(entry);
    }
}

/// What is to be told to the service.
#[derive(Debug)]
pub struct Report(Sums);

impl Report {
    /// As a message.
    #[must_use]
    pub fn encode(&self) -> proto::EventsReport {
        let now = Instant::now();
        let ago =
            |then: Instant| u32::try_from(now.saturating_duration_since(then).as_secs()).unwrap_or(u32::MAX);
        let event = |(key, entry): (&Key, &Entry)| proto::ReportedEvent {
            kind: kind(key.reason).0.into(),
            reason: key.reason.name().to_owned(),
            prefix: key.prefix.clone().unwrap_or_default(),
            vnet: key.vnet.unwrap_or(0),
            interface_id: key.interface.clone().unwrap_or_default(),
            count: entry.count,
            example: entry.example.clone(),
            first_seconds_ago: ago(entry.first),
            last_seconds_ago: ago(entry.last),
        };
        proto::EventsReport { events: self.0.0.iter().map(event).collect() }
    }
}

/// The kind of a reason, and its name.
fn kind(reason: DropReason) -> (proto::EventKind, &'static str) {
    if SPOOFING.contains(&reason) {
        (proto::EventKind::NodeSpoofing, "node_spoofing")
    } else {
        (proto::EventKind::VerificationFailed, "verification_failed")
    }
}

/// One entry for `/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// `verification_failed` or `node_spoofing`.
    pub kind: &'static str,
    /// The reason under which the packets were dropped.
    pub reason: &'static str,
    /// The substrate prefix that they came from.
    pub prefix: Option<String>,
    /// The vnet that they claimed to be of.
    pub vnet: Option<u32>,
    /// The interface that sent them.
    pub interface: Option<String>,
    /// How many.
    pub count: u64,
    /// What one of them claimed.
    pub example: String,
    /// How many seconds ago the last one came.
    pub seconds_ago: u64,
}

#[derive(Debug)]
struct State {
    waiting: Sums,
    /// The service is not told before.
    not_before: Instant,
    /// Since the engine's start; the one that was quiet longest makes way.
    recent: HashMap<Key, Entry>,
    totals: BTreeMap<DropReason, u64>,
}

/// What was refused because of what senders claimed.
#[derive(Debug)]
pub struct EventLog {
    state: Mutex<State>,
    news: Notify,
}

impl Default for EventLog {
    fn default() -> Self {
        let state = State {
            waiting: Sums::default(),
            not_before: Instant::now(),
            recent: HashMap::new(),
            totals: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), news: Notify::new() }
    }
}

impl EventLog {
    /// Adds what a worker has handed over. `prefix` and `interface` say in words where it came from.
    pub fn note(&self, failure: &Failure, prefix: Option<String>, interface: Option<String>) {
        let now = Instant::now();
        let example = failure.claim.map_or_else(String::new, |claim| claim.to_string());
        let entry = Entry { count: failure.count, first: now, last: now, example };
        let vnet = failure.vnet.map(|vnet| vnet.get());
        let key = Key { reason: failure.reason, prefix, vnet, interface };
        let mut state = self.state.lock();
        let total = state.totals.entry(failure.reason).or_default();
        *total = total.saturating_add(failure.count);
        let recent = &mut state.recent;
        if !recent.contains_key(&key) && recent.len() >= MOST {
            let quiet = recent.iter().min_by_key(|(_, entry)| entry.last).map(|(key, _)| key.clone());
            quiet.map(|quiet| recent.remove(&quiet));
        }
        recent.entry(key.clone()).and_modify(|known| known.add(entry.clone())).or_insert(entry.clone());
        state.waiting.add(key, entry);
        drop(state);
        self.news.notify_one();
    }

    /// Returns when the service is to be told something: at once, and then no more often than every [`PERIOD`].
    pub async fn due(&self) {
        loop {
            let next = {
                let state = self.state.lock();
                (!state.waiting.0.is_empty()).then_some(state.not_before)
            };
            match next {
                None => self.news.notified().await,
                Some(next) if next <= Instant::now() => return,
                Some(next) => tokio::time::sleep_until(next).await,
            }
        }
    }

    /// Takes what is to be told; what comes from now on is told [`PERIOD`] later. `None`: there is nothing.
    #[must_use]
    pub fn take(&self) -> Option<Report> {
        let mut state = self.state.lock();
        if state.waiting.0.is_empty() {
            return None;
        }
        state.not_before = Instant::now() + PERIOD;
        Some(Report(std::mem::take(&mut state.waiting)))
    }

    /// A report could not be sent: it is told with the next.
    pub fn put_back(&self, report: Report) {
        let mut state = self.state.lock();
        state.not_before = Instant::now();
        for (key, entry) in report.0.0 {
            state.waiting.add(key, entry);
        }
    }

    /// What was refused lately, the latest first: 64 entries at most.
    #[must_use]
    pub fn recent(&self) -> Vec<Refused> {
        let state = self.state.lock();
        let mut recent: Vec<_> = state.recent.iter().collect();
        recent.sort_by_key(|(key, entry)| (std::cmp::Reverse(entry.last), key.reason));
        let refused = |(key, entry): (&Key, &Entry)| Refused {
            kind: kind(key.reason).1,
            reason: key.reason.name(),
            prefix: key.prefix.clone(),
            vnet: key.vnet,
            interface: key.interface.clone(),
            count: entry.count,
            example: entry.example.clone(),
            seconds_ago: entry.last.elapsed().as_secs(),
        };
        recent.into_iter().map(refused).collect()
    }

    /// How many packets, by kind and reason, since the engine's start.
    #[must_use]
    pub fn totals(&self) -> Vec<(&'static str, DropReason, u64)> {
        let totals = self.state.lock().totals.clone();
        totals.into_iter().map(|(reason, count)| (kind(reason).1, reason, count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_dataplane::failure::{Claim, Origin};
    use overlane_dataplane::id::VnetId;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn failure(reason: DropReason, count: u64) -> Failure {
        Failure {
            reason,
            origin: Origin::Substrate(Ipv6Addr::UNSPECIFIED),
            vnet: VnetId::new(7).ok(),
            claim: Some(Claim::Ipv4(Ipv4Addr::new(10, 0, 0, 9))),
            count,
        }
    }

    fn note(log: &EventLog, prefix: usize, count: u64) {
        let prefix = Some(format!("fd00:0:0:{prefix:x}::/64"));
        log.note(&failure(DropReason::SrcPrefixMismatch, count), prefix, None);
    }

    fn sum(report: &proto::EventsReport) -> u64 {
        report.events.iter().map(|event| event.count).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_at_once_and_what_follows_summed_up() {
        let log = EventLog::default();
        assert!(log.take().is_none());
        note(&log, 0xb, 3);
        log.due().await;
        let begin = Instant::now();
        let report = log.take().unwrap().encode();
        assert_eq!(sum(&report), 3);
        let event = &report.events[0];
        assert_eq!(
            (event.reason.as_str(), event.prefix.as_str()),
            ("src_prefix_mismatch", "fd00:0:0:b::/64")
        );
        assert_eq!((event.kind(), event.vnet), (proto::EventKind::VerificationFailed, 7));
        assert_eq!(event.example, "address 10.0.0.9");

        note(&log, 0xb, 4);
        tokio::time::advance(Duration::from_secs(2)).await;
        note(&log, 0xb, 5);
        log.due().await;
        assert_eq!(begin.elapsed(), PERIOD);
        let report = log.take().unwrap().encode();
        let event = &report.events[0];
        assert_eq!((event.count, event.first_seconds_ago, event.last_seconds_ago), (9, 5, 3));
        // After a quiet time it is at once again.
        tokio::time::advance(PERIOD * 2).await;
        note(&log, 0xb, 1);
        let again = Instant::now();
        log.due().await;
        assert_eq!(again.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_while_the_service_is_away_takes_no_more_room_and_is_told_in_full() {
        let log = EventLog::default();
        for prefix in 0..1000 {
            note(&log, prefix, 2);
        }
        let spoofed = failure(DropReason::ArpSpoofed, 7);
        log.note(&spoofed, None, Some("web/eth0".to_owned()));
        let report = log.take().unwrap();
        let message = report.encode();
        assert!(message.events.len() <= MOST, "{}", message.events.len());
        assert_eq!(sum(&message), 2007);
        let others: Vec<_> = message.events.iter().filter(|event| event.prefix.is_empty()).collect();
        assert_eq!(others.len(), 2, "one for each reason: {others:?}");
        // It was not sent, and more has come meanwhile.
        note(&log, 1, 1);
        log.put_back(report);
        log.due().await;
        let message = log.take().unwrap().encode();
        assert!(message.events.len() <= MOST, "{}", message.events.len());
        assert_eq!(sum(&message), 2008);
        assert!(log.take().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn status_shows_the_latest_and_totals_all() {
        let log = EventLog::default();
        for prefix in 0..200 {
            tokio::time::advance(Duration::from_secs(1)).await;
            note(&log, prefix, 1);
        }
        let recent = log.recent();
        assert_eq!((recent.len(), recent[0].seconds_ago), (MOST, 0));
        assert_eq!(recent[0].prefix.as_deref(), Some("fd00:0:0:c7::/64"));
        assert_eq!(log.totals(), [("verification_failed", DropReason::SrcPrefixMismatch, 200)]);
    }
}
