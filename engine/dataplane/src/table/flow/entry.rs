//! What is kept of a flow, in half a cache line, and what a worker sees of it.

use super::account::Account;
use super::key::{Direction, FlowKey};
use super::state::{Progress, Sign, State, Tick, Timeouts};
use crate::drop::DropReason;
use crate::table::sync::{AcqRel, Acquire, AtomicU64, Relaxed};
use core::fmt;

/// One flow, or room for one. Every field is atomic: a worker that is late may look at an entry of which nothing counts
/// any more, but never at half a word.
#[repr(align(32))]
#[derive(Default)]
pub(super) struct Entry {
    /// The key; changes only while no worker can reach the entry.
    key: [AtomicU64; 2],
    /// A [`State`].
    state: AtomicU64,
    /// A [`Judgement`]; of room for a flow, what follows it in the list of such entries (see `pool`).
    judgement: AtomicU64,
}

// Two on a cache line, and none across two.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == 32);

/// A flow to be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFlow {
    /// The direction of its first packet.
    pub direction: Direction,
    /// What that packet shows.
    pub sign: Sign,
    /// On whose account it is kept.
    pub account: Account,
    /// Whether it was joined in the middle, so that nobody knows which end opened it.
    pub joined: bool,
    /// The policy that judged it.
    pub epoch: u32,
    /// What it said.
    pub verdict: Result<(), DropReason>,
}

/// The word: epoch, 32 bits; whether it was joined, 1; its account, 15; its direction, 1 of 8; the verdict, 8.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Judgement(u64);

impl Judgement {
    const DOWN: u64 = 1 << 8;
    const JOINED: u64 = 1 << 31;

    fn new(new: &NewFlow) -> Self {
        let direction = if new.direction == Direction::Down { Self::DOWN } else { 0 };
        // A port's index is below 4096.
        let joined = if new.joined { Self::JOINED } else { 0 };
        let unjudged = Self(joined | (new.account.index() as u64) << 16 | direction);
        unjudged.again(new.epoch, new.verdict)
    }

    /// The same flow under another policy.
    fn again(self, epoch: u32, verdict: Result<(), DropReason>) -> Self {
        let verdict = verdict.map_or_else(|reason| 1 + reason.index() as u64, |()| 0);
        Self(u64::from(epoch) << 32 | self.0 & 0xffff_ff00 | verdict)
    }

    const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    fn verdict(self) -> Result<(), DropReason> {
        match self.0 as u8 {
            0 => Ok(()),
            refused => Err(refusal(refused)),
        }
    }
}

// A reason and "none" fit 8 bits.
const _: () = assert!(DropReason::COUNT < 255);

#[cold]
fn refusal(code: u8) -> DropReason {
    // `again` wrote it, so there is such a reason.
    DropReason::ALL.get(usize::from(code) - 1).copied().unwrap_or(DropReason::FlowTableFull)
}

impl Entry {
    /// Makes the entry that of a flow; it is published by whoever links it.
    pub(super) fn write(&self, key: FlowKey, new: &NewFlow, now: Tick) {
        for (to, word) in self.key.iter().zip(key.words()) {
            to.store(word, Relaxed);
        }
        self.state.store(State::first(new.direction, new.sign, now).0, Relaxed);
        self.judgement.store(Judgement::new(new).0, Relaxed);
    }

    /// What follows an entry that no flow has, and that no worker can see any more.
    pub(super) const fn link(&self) -> &AtomicU64 {
        &self.judgement
    }

    /// On whose account its flow is kept; of an entry that no flow has it means nothing.
    pub(super) fn account(&self) -> Account {
        Account::from_index((self.judgement.load(Relaxed) >> 16) as usize & 0x7fff)
    }

    #[inline(always)]
    pub(super) fn key(&self) -> FlowKey {
        let [one, two] = &self.key;
        FlowKey::from_words([one.load(Relaxed), two.load(Relaxed)])
    }

    #[inline]
    pub(super) fn state(&self) -> State {
        State(self.state.load(Relaxed))
    }
}

/// A flow that was found, or entered. It may be unlinked at any time, which changes nothing for who holds it: its entry is
/// used for no other flow before the reader has quiesced.
#[derive(Clone, Copy)]
pub struct Flow<'r> {
    pub(super) entry: &'r Entry,
}

/// What a packet means for the flow that was found for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// It is one of the flow's, and has been noted.
    Ours,
    /// The flow has ended, by its packets or by its timeout, and this begins another: remove the old one.
    Successor,
}

impl Flow<'_> {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> FlowKey {
        self.entry.key()
    }

    /// A new flow that is as this one is now, apart from how far it has come.
    pub(crate) fn twin(&self) -> NewFlow {
        let judgement = Judgement(self.entry.judgement.load(Relaxed));
        NewFlow {
            direction: self.opened(),
            sign: Sign::DATAGRAM,
            account: self.account(),
            joined: self.is_joined(),
            epoch: judgement.epoch(),
            verdict: judgement.verdict(),
        }
    }

    /// Comes as far as another flow has.
    pub(crate) fn catch_up(&self, other: &Flow<'_>) {
        self.entry.state.store(other.entry.state().0, Relaxed);
    }

    /// Notes a packet. For most packets of a busy flow this only reads.
    #[inline(always)]
    pub fn observe(&self, direction: Direction, sign: Sign, now: Tick, timeouts: &Timeouts) -> Observed {
        if self.entry.state().has_nothing_to_note(direction, sign, now) {
            return Observed::Ours;
        }
        self.observe_news(direction, sign, now, timeouts)
    }

    #[inline(never)]
    fn observe_news(&self, direction: Direction, sign: Sign, now: Tick, timeouts: &Timeouts) -> Observed {
        let protocol = self.entry.key().protocol();
        let mut old = self.entry.state();
        loop {
            if old.is_succeeded_by(protocol, sign, now, timeouts) {
                return Observed::Successor;
            }
            let new = old.after(direction, sign, now);
            if new == old {
                return Observed::Ours;
            }
            // Fails only because another worker has noted a packet of the flow.
            match self.entry.state.compare_exchange_weak(old.0, new.0, Relaxed, Relaxed) {
                Ok(_) => return Observed::Ours,
                Err(other) => old = State(other),
            }
        }
    }

    /// What the policy `epoch` says of the flow; `None` if the flow was judged by another.
    #[inline]
    #[must_use]
    pub fn judged(&self, epoch: u32) -> Option<Result<(), DropReason>> {
        let judgement = Judgement(self.entry.judgement.load(Acquire));
        (judgement.epoch() == epoch).then(|| judgement.verdict())
    }

    /// Keeps what the policy `epoch` says, unless the flow has been judged by a newer one.
    pub fn judge(&self, epoch: u32, verdict: Result<(), DropReason>) {
        let mut old = Judgement(self.entry.judgement.load(Relaxed));
        // Epochs wrap around: newer is what is less than half the way ahead.
        while epoch.wrapping_sub(old.epoch()).cast_signed() > 0 {
            let new = old.again(epoch, verdict);
            match self.entry.judgement.compare_exchange_weak(old.0, new.0, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(other) => old = Judgement(other),
            }
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.entry.state().progress(self.key().protocol())
    }

    /// Which way the first packet went.
    #[must_use]
    pub fn opened(&self) -> Direction {
        let down = self.entry.judgement.load(Relaxed) & Judgement::DOWN != 0;
        if down { Direction::Down } else { Direction::Up }
    }

    /// On whose account it is kept.
    #[must_use]
    pub fn account(&self) -> Account {
        self.entry.account()
    }

    /// Whether it was joined in the middle, so that nobody knows which end opened it.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.entry.judgement.load(Relaxed) & Judgement::JOINED != 0
    }
}

impl fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("key", &self.key()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn entry(account: Account) -> Entry {
        let entry = Entry::default();
        let new = NewFlow {
            direction: Direction::Down,
            sign: Sign::DATAGRAM,
            account,
            joined: false,
            epoch: u32::MAX,
            verdict: Ok(()),
        };
        entry.write(FlowKey::from_words([1 << 40, 0]), &new, Tick(5));
        entry
    }

    #[test]
    fn a_judgement_holds_for_its_epoch_and_gives_way_to_newer_ones_only() {
        let account = Account::from_index(Account::COUNT - 1);
        let entry = entry(account);
        let flow = Flow { entry: &entry };
        assert_eq!((flow.judged(u32::MAX), flow.judged(0)), (Some(Ok(())), None));
        flow.judge(0, Err(DropReason::VnetMismatch));
        assert_eq!((flow.judged(u32::MAX), flow.judged(0)), (None, Some(Err(DropReason::VnetMismatch))));
        flow.judge(u32::MAX, Ok(()));
        flow.judge(0, Ok(()));
        assert_eq!(flow.judged(0), Some(Err(DropReason::VnetMismatch)));
        assert_eq!((flow.opened(), flow.account()), (Direction::Down, account));
    }

    #[test]
    fn every_verdict_is_kept_as_it_is() {
        let entry = entry(Account::from_index(0));
        let flow = Flow { entry: &entry };
        for (epoch, reason) in (0..).zip(DropReason::ALL) {
            flow.judge(epoch, Err(*reason));
            assert_eq!(flow.judged(epoch), Some(Err(*reason)));
        }
    }
}
