//! The events in memory: what is the same is told once, and everything is bounded.

use super::Limits;
use overlane_api::event::{Event, EventKind};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What happens again within so many seconds is the same event.
const SAME: u64 = 3600;
/// A host's engine can claim one in so many of all events: a hostile one displaces its own.
const HOSTS_SHARE: usize = 20;
/// What the service finds out itself gets one in so many.
const OWN_SHARE: usize = 2;

/// Something went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// What kind of trouble.
    pub kind: EventKind,
    /// What exactly: one of a closed set, since it is a label of metrics.
    pub reason: &'static str,
    /// The host whose engine tells it; `None`: the service itself.
    pub host: Option<String>,
    /// The substrate prefix that packets came from.
    pub prefix: Option<String>,
    /// The host that has this prefix.
    pub from_host: Option<String>,
    /// The virtual network that it is about.
    pub vnet: Option<u32>,
    /// The entity that it is about.
    pub entity: Option<String>,
    /// The interface that it is about.
    pub interface: Option<String>,
    /// What else it is about, as `kind/id`.
    pub subject: Option<String>,
    /// How often it happened.
    pub count: u64,
    /// How many seconds ago it happened first, and last.
    pub ago: (u64, u64),
    /// For people.
    pub detail: String,
}

impl Occurrence {
    /// Something that happened once, now, about nothing yet.
    #[must_use]
    pub fn new(kind: EventKind, reason: &'static str) -> Self {
        Self {
            kind,
            reason,
            host: None,
            prefix: None,
            from_host: None,
            vnet: None,
            entity: None,
            interface: None,
            subject: None,
            count: 1,
            ago: (0, 0),
            detail: String::new(),
        }
    }
}

/// What makes two occurrences one event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: EventKind,
    reason: String,
    host: Option<String>,
    prefix: Option<String>,
    vnet: Option<u32>,
    interface: Option<String>,
    subject: Option<String>,
}

impl Key {
    fn of(event: &Event) -> Self {
        Self {
            kind: event.kind,
            reason: event.reason.clone(),
            host: event.host.clone(),
            prefix: event.prefix.clone(),
            vnet: event.vnet,
            interface: event.interface.clone(),
            subject: event.subject.clone(),
        }
    }
}

/// All events, and what of them is not written yet.
#[derive(Debug)]
pub(super) struct Book {
    limits: Limits,
    events: BTreeMap<u64, Event>,
    /// The last event of each key.
    latest: HashMap<Key, u64>,
    /// (when it happened last, its number).
    by_age: BTreeSet<(u64, u64)>,
    /// By who tells them; `None` is the service itself.
    by_host: HashMap<Option<String>, BTreeSet<u64>>,
    changed: BTreeSet<u64>,
    next: u64,
}

impl Book {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            events: BTreeMap::new(),
            latest: HashMap::new(),
            by_age: BTreeSet::new(),
            by_host: HashMap::new(),
            changed: BTreeSet::new(),
            next: 1,
        }
    }

    /// The next event has this number at least.
    pub(super) fn go_on_from(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Takes in an event that was written before. They come in the order of their numbers.
    pub(super) fn restore(&mut self, event: Event) {
        self.go_on_from(event.id.saturating_add(1));
        self.insert(event);
        self.make_room();
    }

    /// The number of the event that `occurrence` makes, or `None` if there is one already that tells it.
    pub(super) fn raise(&mut self, occurrence: Occurrence, now: u64) -> Option<u64> {
        let Occurrence { kind, reason, host, prefix, from_host, vnet, entity, interface, subject, .. } =
            occurrence;
        let last_seen = now.saturating_sub(occurrence.ago.1);
        let event = Event {
            id: self.next,
            kind,
            reason: reason.to_owned(),
            host,
            prefix,
            from_host,
            vnet,
            entity,
            interface,
            subject,
            count: occurrence.count,
            first_seen: now.saturating_sub(occurrence.ago.0).min(last_seen),
            last_seen,
            detail: occurrence.detail,
        };
        let known = self.latest.get(&Key::of(&event)).copied();
        if let Some(known) = known.and_then(|id| self.events.get_mut(&id))
            && event.first_seen <= known.last_seen.saturating_add(SAME)
        {
            self.by_age.remove(&(known.last_seen, known.id));
            known.count = known.count.saturating_add(event.count);
            known.last_seen = known.last_seen.max(event.last_seen);
            (known.from_host, known.entity, known.detail) = (event.from_host, event.entity, event.detail);
            self.by_age.insert((known.last_seen, known.id));
            self.changed.insert(known.id);
            return None;
        }
        let id = event.id;
        self.next = self.next.saturating_add(1);
        self.changed.insert(id);
        let host = event.host.clone();
        self.insert(event);
        self.make_room_of(&host);
        self.make_room();
        Some(id)
    }

    fn insert(&mut self, event: Event) {
        self.latest.insert(Key::of(&event), event.id);
        self.by_age.insert((event.last_seen, event.id));
        self.by_host.entry(event.host.clone()).or_default().insert(event.id);
        self.events.insert(event.id, event);
    }

    fn remove(&mut self, id: u64) {
        let Some(event) = self.events.remove(&id) else { return };
        self.by_age.remove(&(event.last_seen, id));
        let key = Key::of(&event);
        if self.latest.get(&key) == Some(&id) {
            self.latest.remove(&key);
        }
        if let Some(ids) = self.by_host.get_mut(&event.host) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_host.remove(&event.host);
            }
        }
        self.changed.insert(id);
    }

    /// How many one teller may have.
    fn share(&self, host: &Option<String>) -> usize {
        let share = if host.is_some() { HOSTS_SHARE } else { OWN_SHARE };
        (self.limits.keep / share).max(1)
    }

    /// Forgets the oldest events of a teller that has more than its share.
    fn make_room_of(&mut self, host: &Option<String>) {
        let share = self.share(host);
        while let Some(ids) = self.by_host.get(host).filter(|ids| ids.len() > share) {
            let age = |id: &&u64| self.events.get(*id).map(|event| (event.last_seen, event.id));
            let Some(oldest) = ids.iter().min_by_key(age).copied() else { return };
            self.remove(oldest);
        }
    }

    fn make_room(&mut self) {
        while self.events.len() > self.limits.keep {
            let Some(&(_, oldest)) = self.by_age.first() else { return };
            self.remove(oldest);
        }
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: u64) {
        let since = now.saturating_sub(self.limits.age.as_secs());
        while let Some(&(last_seen, oldest)) = self.by_age.first()
            && last_seen < since
        {
            self.remove(oldest);
        }
    }

    /// Those with a higher number than `after`, in order.
    pub(super) fn after(&self, after: Option<u64>) -> impl Iterator<Item = &Event> {
        let from = after.map_or(Some(0), |after| after.checked_add(1));
        from.map(|from| self.events.range(from..)).into_iter().flatten().map(|(_, event)| event)
    }

    pub(super) fn count(&self) -> usize {
        self.events.len()
    }

    /// What has changed since the last call, `None` being gone; and the next event's number.
    pub(super) fn take_changed(&mut self) -> (Vec<(u64, Option<Event>)>, u64) {
        let changed = std::mem::take(&mut self.changed);
        (changed.into_iter().map(|id| (id, self.events.get(&id).cloned())).collect(), self.next)
    }

    /// These were not written after all.
    pub(super) fn changed_again(&mut self, ids: impl IntoIterator<Item = u64>) {
        self.changed.extend(ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: u64 = 1_000_000;

    fn book(keep: usize) -> Book {
        Book::new(Limits { keep, age: Duration::from_secs(24 * 3600) })
    }

    fn from(host: &str, prefix: u32) -> Occurrence {
        Occurrence {
            host: Some(host.to_owned()),
            prefix: Some(format!("fd00:0:0:{prefix:x}::/64")),
            ..Occurrence::new(EventKind::VerificationFailed, "src_prefix_mismatch")
        }
    }

    fn all(book: &Book) -> Vec<(u64, u64)> {
        book.after(None).map(|event| (event.id, event.count)).collect()
    }

    #[test]
    fn what_happens_again_within_an_hour_is_the_same_event() {
        let mut book = book(100);
        assert_eq!(book.raise(Occurrence { count: 3, ago: (10, 2), ..from("a", 1) }, NOW), Some(1));
        assert_eq!(book.raise(Occurrence { count: 4, ..from("a", 1) }, NOW + SAME - 2), None);
        let event = book.after(None).next().unwrap();
        assert_eq!((event.count, event.first_seen, event.last_seen), (7, NOW - 10, NOW + SAME - 2));
        // An hour after it happened last it is another one; and so is anything else at once.
        assert_eq!(book.raise(from("a", 1), NOW + 2 * SAME), Some(2));
        assert_eq!(book.raise(from("a", 2), NOW + 2 * SAME), Some(3));
        assert_eq!(book.raise(from("b", 2), NOW + 2 * SAME), Some(4));
        assert_eq!(all(&book), [(1, 7), (2, 1), (3, 1), (4, 1)]);
        assert_eq!(book.after(Some(3)).count(), 1);
        assert_eq!(book.after(Some(u64::MAX)).count(), 0);
    }

    #[test]
    fn a_host_displaces_its_own_events_and_nobody_elses() {
        let mut book = book(200);
        book.raise(from("good", 1), NOW);
        for prefix in 0..1_000 {
            book.raise(from("hostile", prefix), NOW + u64::from(prefix));
        }
        assert_eq!(book.count(), 1 + 200 / HOSTS_SHARE);
        assert_eq!(all(&book).first(), Some(&(1, 1)));
        // The oldest went, and all indexes with them.
        assert_eq!(all(&book).last().unwrap().0, 1_001);
        assert_eq!((book.latest.len(), book.by_age.len()), (book.count(), book.count()));
    }

    #[test]
    fn there_are_never_more_than_are_kept_and_the_oldest_goes() {
        let mut book = book(40);
        for host in 0..100 {
            book.raise(from(&format!("h{host}"), 1), NOW + host);
        }
        assert_eq!(book.count(), 40);
        assert_eq!(all(&book)[0].0, 61);
        book.expire(NOW + 24 * 3600 + 90);
        assert_eq!(all(&book)[0].0, 91);
        assert_eq!((book.by_host.len(), book.latest.len()), (10, 10));
    }

    #[test]
    fn what_changed_is_told_once_and_again_if_it_was_not_written() {
        let mut book = book(40);
        book.raise(from("a", 1), NOW);
        book.raise(from("a", 2), NOW);
        let (changed, next) = book.take_changed();
        assert_eq!((changed.len(), next), (2, 3));
        assert!(book.take_changed().0.is_empty());
        book.changed_again([1]);
        // Of two that one host may have the older one goes.
        book.raise(from("a", 3), NOW);
        let gone: Vec<_> =
            book.take_changed().0.into_iter().map(|(id, event)| (id, event.is_some())).collect();
        assert_eq!(gone, [(1, false), (3, true)]);
    }
}
