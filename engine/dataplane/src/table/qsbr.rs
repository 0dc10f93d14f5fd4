//! Reclamation by quiescent states (QSBR): when may memory that was unlinked be freed?
//!
//! The domain has an epoch. Who unlinks something advances it, and that is the start of a grace period. A reader
//! announces, once a turn, the epoch it saw; it holds nothing at that moment, and the borrow checker says so: what
//! a look-up returns borrows the [`Reader`], and [`Reader::quiesce`] takes it `&mut`. When every reader that is
//! online has announced an epoch no older than the grace period's, nobody can still see what was unlinked.
//!
//! Why no fence is needed in `quiesce`: who reads the new epoch (acquire) also sees what was unlinked before it was
//! advanced (release), and every earlier look-up is done before the announcement (release). Coming online is
//! different: a full fence on both sides makes sure that either the reader sees the unlinking, or the other side
//! sees the reader.

use super::sync::{AcqRel, Acquire, AtomicU64, Mutex, Relaxed, Release, SeqCst, fence, lock};
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A reader's word while it is offline or not registered. Epochs begin at 1.
const OFFLINE: u64 = 0;

/// A reader that is online and announces nothing for longer than this is stalled.
pub const STALL: Duration = Duration::from_secs(1);

/// Keeps what one thread writes often off the cache lines of others; two lines, since processors fetch pairs.
#[repr(align(128))]
struct Padded<T>(T);

/// One reclamation domain: tables, snapshots and ports of an engine share it.
pub struct Domain {
    epoch: Padded<AtomicU64>,
    /// What each reader announced last, or [`OFFLINE`].
    readers: Box<[Padded<AtomicU64>]>,
    names: Mutex<Vec<Option<Arc<str>>>>,
    limbo: Mutex<Limbo>,
    limbo_limit: usize,
    probe: Mutex<Probe>,
}

/// What was retired and may still be seen.
struct Limbo {
    /// In the order of their grace periods.
    waiting: VecDeque<(Grace, Box<dyn Send>)>,
    /// Places promised by [`Domain::reserve`].
    reserved: usize,
}

/// An epoch that every reader should have announced, since when: how a silent reader is found.
struct Probe {
    grace: Grace,
    since: Instant,
}

/// A grace period: it is over when every reader online has announced a quiescent state since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grace(u64);

/// All of a domain's readers are taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("all {limit} readers of the reclamation domain are registered")]
pub struct TooManyReaders {
    /// How many the domain was made for.
    pub limit: usize,
}

/// A reader is online and has announced no quiescent state for a while.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reader {reader} has announced no quiescent state for {} ms", silent.as_millis())]
pub struct Stalled {
    /// The name it was registered by.
    pub reader: String,
    /// For how long at least.
    pub silent: Duration,
}

/// Too much waits to be freed; try again when readers have moved on. Gives back what was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many retired values wait for a reader")]
pub struct LimboFull<T = ()>(pub T);

impl Domain {
    /// A domain for up to `max_readers` readers and `limbo_limit` retired values, at least one.
    #[must_use]
    pub fn new(max_readers: usize, limbo_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            epoch: Padded(AtomicU64::new(1)),
            readers: (0..max_readers).map(|_| Padded(AtomicU64::new(OFFLINE))).collect(),
            names: Mutex::new(vec![None; max_readers]),
            limbo: Mutex::new(Limbo { waiting: VecDeque::new(), reserved: 0 }),
            limbo_limit: limbo_limit.max(1),
            probe: Mutex::new(Probe { grace: Grace(1), since: Instant::now() }),
        })
    }

    /// Registers a reader, online at once: call it on the thread that will read, when that is about to.
    ///
    /// # Errors
    /// [`TooManyReaders`] when all are taken; a [`Reader`] that is dropped makes room.
    pub fn register(self: &Arc<Self>, name: &str) -> Result<Reader, TooManyReaders> {
        let mut names = lock(&self.names);
        let free = names.iter_mut().enumerate().find(|(_, place)| place.is_none());
        let Some((index, place)) = free else { return Err(TooManyReaders { limit: self.readers.len() }) };
        *place = Some(name.into());
        drop(names);
        let reader = Reader { domain: Arc::clone(self), index, not_sync: PhantomData };
        reader.come_online();
        Ok(reader)
    }

    /// How many values the limbo holds at most; tables apply the same bound to theirs.
    #[must_use]
    pub const fn limbo_limit(&self) -> usize {
        self.limbo_limit
    }

    /// Begins a grace period for everything that the calling thread has unlinked before.
    #[must_use]
    pub fn begin_grace(&self) -> Grace {
        // Pairs with the fence in `Reader::come_online`.
        fence(SeqCst);
        Grace(self.epoch.0.fetch_add(1, AcqRel) + 1)
    }

    /// Whether the grace period is over.
    #[must_use]
    pub fn is_over(&self, grace: Grace) -> bool {
        self.oldest() >= grace
    }

    /// The newest grace period that is over.
    pub(super) fn oldest(&self) -> Grace {
        let seen = self.readers.iter().map(|word| word.0.load(Acquire)).filter(|word| *word != OFFLINE).min();
        Grace(seen.unwrap_or(u64::MAX))
    }

    /// Waits until everything that the calling thread unlinked before is seen by nobody. Blocks the thread.
    ///
    /// # Errors
    /// [`Stalled`] naming a reader that announced nothing within `deadline`.
    pub fn synchronize(&self, deadline: Duration) -> Result<(), Stalled> {
        self.wait(self.begin_grace(), deadline)
    }

    /// Waits until the grace period is over. Blocks the thread.
    ///
    /// # Errors
    /// [`Stalled`] naming a reader that announced nothing within `deadline`.
    pub fn wait(&self, grace: Grace, deadline: Duration) -> Result<(), Stalled> {
        let began = Instant::now();
        let mut pause = Duration::from_micros(5);
        while let Some(reader) = self.behind(grace) {
            let silent = began.elapsed();
            if silent >= deadline {
                return Err(Stalled { reader, silent });
            }
            #[cfg(loom)]
            loom::thread::yield_now();
            #[cfg(not(loom))]
            std::thread::sleep(pause.min(deadline - silent));
            pause = (pause * 2).min(Duration::from_millis(1));
        }
        self.collect();
        Ok(())
    }

    /// The name of a reader for which the grace period is not over.
    fn behind(&self, grace: Grace) -> Option<String> {
        let late = self.readers.iter().position(|word| {
            let word = word.0.load(Acquire);
            word != OFFLINE && Grace(word) < grace
        })?;
        let names = lock(&self.names);
        Some(names.get(late).and_then(Option::as_deref).unwrap_or("(leaving)").to_owned())
    }

    /// Promises a place in limbo, so that what is unlinked next can be retired without failing.
    ///
    /// # Errors
    /// [`LimboFull`] when the bound is reached and nothing can be freed yet.
    pub fn reserve(&self) -> Result<Reserved<'_>, LimboFull> {
        self.collect();
        let mut limbo = lock(&self.limbo);
        if limbo.waiting.len() + limbo.reserved >= self.limbo_limit {
            return Err(LimboFull(()));
        }
        limbo.reserved += 1;
        Ok(Reserved { domain: self })
    }

    /// Frees what can be freed; returns how many values that were.
    pub fn collect(&self) -> usize {
        let mut freed = Vec::new();
        let mut limbo = lock(&self.limbo);
        if !limbo.waiting.is_empty() {
            let oldest = self.oldest();
            while let Some((_, value)) = limbo.waiting.pop_front_if(|(grace, _)| *grace <= oldest) {
                freed.push(value);
            }
        }
        // Destructors are not ours: they run without the lock.
        drop(limbo);
        freed.len()
    }

    /// How many retired values wait to be freed.
    #[must_use]
    pub fn in_limbo(&self) -> usize {
        lock(&self.limbo).waiting.len()
    }

    /// A reader that has been silent for over [`STALL`] while online. Each call also asks all readers for a sign of
    /// life when none is outstanding, so call it regularly: a stall is found by the calls that follow it.
    #[must_use]
    pub fn stalled(&self) -> Option<Stalled> {
        let mut probe = lock(&self.probe);
        match self.behind(probe.grace) {
            Some(reader) => {
                let silent = probe.since.elapsed();
                (silent > STALL).then_some(Stalled { reader, silent })
            }
            None => {
                *probe = Probe { grace: self.begin_grace(), since: Instant::now() };
                None
            }
        }
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("readers", &self.readers.len()).finish_non_exhaustive()
    }
}

/// A promised place in limbo.
#[derive(Debug)]
#[must_use]
pub struct Reserved<'d> {
    domain: &'d Domain,
}

impl Reserved<'_> {
    /// Drops `value` when no reader can see it any more. It must have been unlinked by now.
    pub fn retire(self, value: Box<dyn Send>) {
        let mut limbo = lock(&self.domain.limbo);
        // Under the lock, so that the queue stays in the order of grace periods.
        let grace = self.domain.begin_grace();
        limbo.waiting.push_back((grace, value));
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        lock(&self.domain.limbo).reserved -= 1;
    }
}

/// A thread that reads the domain's tables. It must announce quiescent states, or go offline, or be dropped:
/// meanwhile nothing that was retired can be freed.
pub struct Reader {
    domain: Arc<Domain>,
    index: usize,
    /// One thread announces for itself; two sharing a word would announce for each other.
    not_sync: PhantomData<Cell<()>>,
}

impl Reader {
    /// Announces a quiescent state: this reader holds nothing that it looked up. Once a turn.
    #[inline]
    pub fn quiesce(&mut self) {
        let epoch = self.domain.epoch.0.load(Acquire);
        self.announce(epoch);
    }

    /// Runs `f`, which may sleep, while this reader is offline and holds nothing back.
    pub fn offline<R>(&mut self, f: impl FnOnce() -> R) -> R {
        /// Comes back online also when `f` unwinds: a reader that looks up while offline would be unsound.
        struct Back<'r>(&'r Reader);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.come_online();
            }
        }
        self.announce(OFFLINE);
        let _back = Back(self);
        f()
    }

    /// The domain it is registered with.
    #[must_use]
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// Whether this reader keeps what is retired in `domain` from being freed.
    #[inline]
    pub(super) fn protects(&self, domain: &Arc<Domain>) -> bool {
        Arc::ptr_eq(&self.domain, domain)
    }

    fn come_online(&self) {
        self.announce(self.domain.epoch.0.load(Acquire));
        // The announcement is seen before anything is looked up; pairs with the fence in `Domain::begin_grace`.
        fence(SeqCst);
    }

    #[inline]
    fn announce(&self, word: u64) {
        if let Some(own) = self.domain.readers.get(self.index) {
            own.0.store(word, Release);
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.domain.readers.get(self.index).map(|word| word.0.load(Relaxed));
        f.debug_struct("Reader").field("index", &self.index).field("epoch", &word).finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.announce(OFFLINE);
        if let Some(name) = lock(&self.domain.names).get_mut(self.index) {
            *name = None;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts how many of it were dropped.
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn retire(domain: &Domain, dropped: &Arc<AtomicUsize>) -> Result<(), LimboFull> {
        domain.reserve().map(|place| place.retire(Box::new(Counted(Arc::clone(dropped)))))
    }

    #[test]
    fn retired_values_are_freed_only_after_every_online_reader_was_quiescent() {
        let domain = Domain::new(3, 8);
        let dropped = Arc::default();
        let (mut one, mut two) = (domain.register("one").unwrap(), domain.register("two").unwrap());
        retire(&domain, &dropped).unwrap();
        one.quiesce();
        assert_eq!(domain.collect(), 0);
        two.quiesce();
        assert_eq!(domain.collect(), 1);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn offline_and_dropped_readers_hold_nothing_back() {
        let domain = Domain::new(1, 8);
        let dropped = Arc::default();
        let mut reader = domain.register("sleeper").unwrap();
        retire(&domain, &dropped).unwrap();
        reader.offline(|| assert_eq!(domain.collect(), 1));
        retire(&domain, &dropped).unwrap();
        assert_eq!(domain.collect(), 0);
        drop(reader);
        assert_eq!(domain.collect(), 1);
    }

    #[test]
    fn a_reader_is_online_again_after_a_panic_while_offline() {
        let domain = Domain::new(1, 8);
        let mut reader = domain.register("worker").unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            reader.offline(|| std::panic::resume_unwind(Box::new(())))
        }));
        assert!(panicked.is_err());
        retire(&domain, &Arc::default()).unwrap();
        assert_eq!(domain.collect(), 0);
    }

    #[test]
    fn limbo_is_bounded_and_recovers() {
        let domain = Domain::new(1, 2);
        let dropped = Arc::default();
        let mut reader = domain.register("slow").unwrap();
        retire(&domain, &dropped).unwrap();
        let promised = domain.reserve().unwrap();
        assert_eq!(retire(&domain, &dropped), Err(LimboFull(())));
        drop(promised);
        retire(&domain, &dropped).unwrap();
        assert_eq!(retire(&domain, &dropped), Err(LimboFull(())));
        assert_eq!(domain.in_limbo(), 2);
        reader.quiesce();
        retire(&domain, &dropped).unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn readers_beyond_the_limit_are_refused_until_one_leaves() {
        let domain = Domain::new(1, 1);
        let first = domain.register("first").unwrap();
        assert_eq!(domain.register("second").unwrap_err(), TooManyReaders { limit: 1 });
        drop(first);
        domain.register("second").unwrap();
    }

    #[test]
    fn synchronize_names_the_reader_that_does_not_answer() {
        let domain = Domain::new(2, 1);
        let mut reader = domain.register("worker 3").unwrap();
        let stalled = domain.synchronize(Duration::from_millis(2)).unwrap_err();
        assert_eq!(stalled.reader, "worker 3");
        reader.offline(|| domain.synchronize(Duration::ZERO)).unwrap();
    }

    #[test]
    fn a_silent_reader_is_reported_as_stalled_until_it_answers() {
        let domain = Domain::new(2, 1);
        let mut reader = domain.register("worker 0").unwrap();
        assert_eq!(domain.stalled(), None);
        lock(&domain.probe).since -= STALL * 2;
        assert_eq!(domain.stalled().unwrap().reader, "worker 0");
        reader.quiesce();
        assert_eq!(domain.stalled(), None);
        // The renewed question is answered too, and then there is nothing to report however late.
        reader.quiesce();
        lock(&domain.probe).since -= STALL * 2;
        assert_eq!(domain.stalled(), None);
    }
}
