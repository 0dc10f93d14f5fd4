//! What changes the table: entering flows, taking them out, and the clock hand.

use super::entry::{Entry, Flow, NewFlow};
use super::key::FlowKey;
use super::lines::{Home, Place, Word};
use super::pool::Stock;
use super::state::Tick;
use super::stats::Event;
use super::table::{FlowTable, Shared};
use crate::table::compare::{Scalar, WAYS};
use crate::table::qsbr::Reader;
use crate::table::region::prefetch;
use crate::table::sync::{Relaxed, SeqCst, fence};
use arrayvec::ArrayVec;
use core::cmp::Reverse;
use core::fmt;
use core::ptr;
use std::sync::Arc;

/// Places of a key, or of a turn of the hand.
const PLACES: usize = 2 * WAYS;
/// How often a flow is entered again after another worker has taken it back.
const ATTEMPTS: usize = 4;
/// Buckets that one turn looks at for flows that are over.
const BUCKETS_PER_TURN: u64 = 4;
/// Ticks in which the hand goes around once: 16 seconds.
const REVOLUTION: u64 = 16 * Tick::PER_SECOND;

/// Why a flow was not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// There is no room, and nothing that could make way.
    #[error("the flow table has no room")]
    Table,
    /// There are as many on its account as there may be.
    #[error("its node has as many flows as it may")]
    Account,
}

/// What one worker changes the table with.
pub struct FlowWorker {
    shared: Arc<Shared>,
    own: Own,
}

/// What a worker has for itself.
struct Own {
    index: usize,
    stock: Stock,
}

/// What leads to an entry: where, and how.
type Link = (Place, Word);

impl FlowWorker {
    pub(super) fn new(table: &FlowTable, index: usize) -> Self {
        let shared = Arc::clone(&table.shared);
        assert!(shared.stats.get(index).is_some(), "the flow table was made for fewer workers");
        let stock = Stock::new(&shared.pool, shared.reserve);
        Self { shared, own: Own { index, stock } }
    }

    /// Enters a flow, on its account, or finds that it is there; then what `new` says counts for nothing, and its first packet is to be
    /// [observed](Flow::observe) like any other. `true` says that it was entered.
    ///
    /// # Errors
    /// [`Full`], counted.
    ///
    /// # Panics
    /// If the table is not the worker's own, or the reader is registered with another domain.
    pub fn insert<'r>(
        &mut self,
        table: &'r FlowTable,
        reader: &'r Reader,
        key: FlowKey,
        new: &NewFlow,
        now: Tick,
    ) -> Result<(Flow<'r>, bool), Full> {
        assert!(Arc::ptr_eq(&self.shared, &table.shared), "a worker of another flow table");
        assert!(reader.protects(&self.shared.domain), "a reader of another reclamation domain");
        let shared = &*table.shared;
        let home = shared.lines.home(key);
        // As many may have to be taken out until this one is settled, and one to make room.
        if !self.own.stock.has_room(2 * PLACES + 1) {
            // SAFETY: `Scalar` needs no special instructions.
            let found = unsafe { shared.lines.find::<Scalar>(&shared.entries, home, key) };
            let Some((_, _, entry)) = found else { return Err(self.own.refuse(shared)) };
            return Ok((Flow { entry }, false));
        }
        if let Some((entry, _)) = self.own.settle(shared, home, key, None) {
            return Ok((Flow { entry }, false));
        }
        let account = shared.account(new.account);
        if account.is_some_and(|account| account.load(Relaxed) as usize >= shared.per_node) {
            self.own.refuse(shared);
            return Err(Full::Account);
        }
        for _ in 0..ATTEMPTS {
            let Some((own, number)) = self.own.link(shared, home, key, new, now) else { break };
            if let Some((entry, settled)) = self.own.settle(shared, home, key, Some(own)) {
                self.own.make_room(shared, home, now);
                return Ok((Flow { entry }, settled == number));
            }
        }
        Err(self.own.refuse(shared))
    }

    /// Takes out a flow that another with the same key follows (see [`Observed::Successor`](super::Observed)); `false` if
    /// it is out already.
    ///
    /// # Panics
    /// If the reader is registered with another domain.
    pub fn remove(&mut self, reader: &Reader, flow: Flow<'_>) -> bool {
        assert!(reader.protects(&self.shared.domain), "a reader of another reclamation domain");
        let Self { shared, own } = self;
        let (key, lines) = (flow.key(), &shared.lines);
        // SAFETY: `Scalar` needs no special instructions.
        let found = unsafe { lines.find::<Scalar>(&shared.entries, lines.home(key), key) };
        let Some((place, word, _)) = found.filter(|(_, _, entry)| ptr::eq(*entry, flow.entry)) else {
            return false;
        };
        own.stock.has_room(1) && own.unlink(shared, (place, word), Word::EMPTY, Event::Replaced)
    }

    /// Once a turn of the worker: takes entries back that nobody can see any more, and looks at a few buckets for flows
    /// that are over. `now` must not go back.
    ///
    /// # Panics
    /// If the reader is registered with another domain.
    pub fn turn(&mut self, reader: &Reader, now: Tick) {
        assert!(reader.protects(&self.shared.domain), "a reader of another reclamation domain");
        let Self { shared, own } = self;
        own.stock.turn(&shared.domain, &shared.pool, &shared.entries);
        own.advance(shared, now);
    }

    /// Whether entries wait to be taken back, so that [`Self::turn`] is to be called before long.
    #[inline]
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.own.stock.waiting() > 0
    }

    /// How many entries this worker keeps, free or soon to be.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.own.stock.len()
    }
}

impl Own {
    /// Sees to it that at most one word leads to an entry with the key, and gives that entry and its number. `own` is
    /// what this worker has just linked.
    ///
    /// It looks again only because another worker has got further, or to have passed a fence.
    fn settle<'r>(
        &mut self,
        shared: &'r Shared,
        home: Home,
        key: FlowKey,
        own: Option<Link>,
    ) -> Option<(&'r Entry, u32)> {
        let lines = &shared.lines;
        let entry = |word: Word| shared.entries.get(word.entry() as usize);
        let mut seen = own;
        loop {
            if seen.is_some() {
                // Orders the word that was seen before what is looked at now: see the module.
                fence(SeqCst);
            }
            let links = home.places().map(|place| (place, lines.load(place)));
            let same = |word: Word| home.is_akin(word) && entry(word).is_some_and(|entry| entry.key() == key);
            let links: ArrayVec<Link, PLACES> = links.filter(|(_, word)| same(*word)).collect();
            if let Some((_, settled)) = links.iter().find(|(_, word)| !word.is_tentative()) {
                for link in links.iter().filter(|(_, word)| word.is_tentative()) {
                    self.unlink(shared, *link, Word::EMPTY, Event::Collided);
                }
                return entry(*settled).map(|entry| (entry, settled.entry()));
            }
            let (first, others) = links.split_first()?;
            if seen != Some(*first) {
                seen = Some(*first);
                continue;
            }
            let mut alone = true;
            for link in others {
                let gone = self.unlink(shared, *link, Word::EMPTY, Event::Collided);
                alone &= gone || lines.load(link.0) != link.1.settled();
            }
            let (place, word) = *first;
            if alone && lines.exchange(place, word, word.settled()).is_ok() {
                self.count(shared, Event::Inserted);
                let entry = entry(word)?;
                if let Some(account) = shared.account(entry.account()) {
                    account.fetch_add(1, Relaxed);
                }
                return Some((entry, word.entry()));
            }
        }
    }

    /// Writes a free entry and links it, tentatively; gives the link and the entry's number.
    fn link(
        &mut self,
        shared: &Shared,
        home: Home,
        key: FlowKey,
        new: &NewFlow,
        now: Tick,
    ) -> Option<(Link, u32)> {
        let (lines, entries) = (&shared.lines, &*shared.entries);
        let number = self.stock.take(&shared.domain, &shared.pool, entries)?;
        entries.get(number as usize)?.write(key, new, now);
        let word = home.tentative(number);
        for place in lines.preferred(home).into_iter().flat_map(Place::of) {
            if lines.load(place).is_empty() && lines.exchange(place, Word::EMPTY, word).is_ok() {
                return Some(((place, word), number));
            }
        }
        for _ in 0..ATTEMPTS {
            let Some((link, event)) = least(shared, home, now) else { break };
            if self.unlink(shared, link, word, event) {
                return Some(((link.0, word), number));
            }
        }
        self.stock.put_back(number);
        None
    }

    /// Takes a flow out when the reserve runs low and there is nothing to fill it up with.
    fn make_room(&mut self, shared: &Shared, home: Home, now: Tick) {
        if !self.stock.replenish(&shared.pool, &shared.entries)
            && self.stock.has_room(1)
            && let Some((link, event)) = least(shared, home, now)
        {
            self.unlink(shared, link, Word::EMPTY, event);
        }
    }

    /// Puts `new` in a word's place, if that is still there, and counts it; its entry is this worker's then.
    fn unlink(&mut self, shared: &Shared, (place, old): Link, new: Word, event: Event) -> bool {
        let done = shared.lines.exchange(place, old, new).is_ok();
        if done {
            // One that was never settled was on nobody's account.
            let entry = shared.entries.get(old.entry() as usize).filter(|_| !old.is_tentative());
            if let Some(account) = entry.and_then(|entry| shared.account(entry.account())) {
                account.fetch_sub(1, Relaxed);
            }
            self.stock.retire(old.entry());
            self.count(shared, event);
        }
        done
    }

    /// Moves the hand on as time demands, a few buckets at most.
    fn advance(&mut self, shared: &Shared, now: Tick) {
        let (lines, buckets) = (&shared.lines, u64::from(shared.lines.buckets()));
        let due = now.0 / REVOLUTION * buckets + now.0 % REVOLUTION * buckets / REVOLUTION;
        let hand = shared.hand.load(Relaxed);
        if hand >= due || !self.stock.has_room(BUCKETS_PER_TURN as usize * WAYS) {
            return;
        }
        // After a long sleep once around is enough.
        let from = hand.max(due.saturating_sub(buckets));
        let to = due.min(from + BUCKETS_PER_TURN);
        if shared.hand.compare_exchange(hand, to, Relaxed, Relaxed).is_err() {
            return;
        }
        let numbers = (from..to).map(|number| (number % buckets) as u32);
        for bucket in numbers.clone() {
            lines.prefetch(bucket);
        }
        let links = numbers.flat_map(Place::of).filter_map(|place| seen(shared, place));
        let links: ArrayVec<_, { BUCKETS_PER_TURN as usize * WAYS }> = links.collect();
        for (link, entry) in links {
            if entry.state().is_over(entry.key().protocol(), now, &shared.timeouts) {
                self.unlink(shared, link, Word::EMPTY, Event::Expired);
            }
        }
    }

    fn refuse(&self, shared: &Shared) -> Full {
        self.count(shared, Event::Refused);
        Full::Table
    }

    fn count(&self, shared: &Shared, event: Event) {
        if let Some(stats) = shared.stats.get(self.index) {
            stats.of(event).add(1);
        }
    }
}

/// The settled word at a place and its entry, which is asked for.
fn seen(shared: &Shared, place: Place) -> Option<(Link, &Entry)> {
    let word = shared.lines.load(place);
    if word.is_empty() || word.is_tentative() {
        return None;
    }
    let entry = shared.entries.get(word.entry() as usize)?;
    prefetch(entry);
    Some(((place, word), entry))
}

/// Of the flows in a key's buckets, other than its own, the one that can be spared best, and what taking it out is.
fn least(shared: &Shared, home: Home, now: Tick) -> Option<(Link, Event)> {
    let others = home.places().filter_map(|place| seen(shared, place));
    // All are asked for before the first is looked at.
    let others: ArrayVec<_, PLACES> = others.filter(|((_, word), _)| !home.is_akin(*word)).collect();
    let worth = |entry: &Entry| {
        let (state, protocol) = (entry.state(), entry.key().protocol());
        let over = state.is_over(protocol, now, &shared.timeouts);
        (!over, state.progress(protocol), Reverse(state.idle(now)))
    };
    let rated = others.into_iter().map(|(link, entry)| (worth(entry), link));
    let ((alive, progress, _), link) = rated.min_by_key(|(worth, _)| *worth)?;
    Some((link, if alive { Event::Evicted(progress) } else { Event::Expired }))
}

impl Drop for FlowWorker {
    fn drop(&mut self) {
        let shared = &self.shared;
        self.own.stock.leave(&shared.domain, &shared.pool, &shared.entries);
    }
}

impl fmt::Debug for FlowWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowWorker").field("index", &self.own.index).field("kept", &self.kept()).finish()
    }
}
