//! The questions of one worker that are open, the refusals that it remembers, and the packets that wait.

use super::prefixes::Prefixes;
use super::{Answer, Outcome, Question, ResolveLimits, Side};
use crate::id::PortId;
use crate::limit::TokenBucket;
use crate::pipeline::BURST;
use crate::table::mapping::MappingKey;
use arrayvec::ArrayVec;
use core::fmt;
use core::net::Ipv6Addr;
use core::time::Duration;

/// Questions and refusals of one side of an interface.
const QUESTIONS: usize = 64;
/// Packets of one side of an interface that wait.
const PACKETS: usize = 32;
/// Sides of interfaces that have any: enough for 64 interfaces with both.
const DESKS: usize = 128;

// What waits for one answer is carried on as one burst.
const _: () = assert!(PACKETS <= BURST);

/// What is known of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is not asked yet.
    New,
    /// It has been asked.
    Asked,
    /// Nobody has the address.
    Unknown,
    /// The interface may have nothing to do with it.
    Refused,
}

/// Why a question is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unasked {
    /// Too often already.
    Limited,
    /// Too much is open.
    Full,
}

struct Open {
    key: MappingKey,
    /// Never [`Look::New`].
    look: Look,
    /// Until when it counts.
    until: Duration,
    /// When what was refused was so, as [`crate::snapshot::HostSnapshot::resolve_epoch`] counts.
    epoch: u32,
}

struct Held<P> {
    key: MappingKey,
    came_by: PortId,
    packet: P,
}

/// One side of one interface.
struct Desk<P> {
    owner: Option<(PortId, Side)>,
    bucket: TokenBucket,
    open: ArrayVec<Open, QUESTIONS>,
    packets: ArrayVec<Held<P>, PACKETS>,
}

impl<P> Desk<P> {
    /// Whether nothing would be lost but refusals if it were another's.
    fn is_idle(&self) -> bool {
        self.packets.is_empty() && self.open.iter().all(|open| open.look != Look::Asked)
    }
}

/// Everything that waits at one worker.
pub(crate) struct Waiting<P> {
    limits: ResolveLimits,
    prefixes: Prefixes,
    desks: Box<[Desk<P>]>,
    /// Which desk is whose, by port and side; one more than its index, and 0 for none.
    places: Box<[[u8; 2]]>,
    /// Where the search for an idle desk goes on.
    next: usize,
    /// Questions that are open at all desks.
    asked: usize,
    /// Before that no question expires.
    due: Duration,
}

const _: () = assert!(DESKS < u8::MAX as usize);

impl<P> Waiting<P> {
    pub(crate) fn new(limits: ResolveLimits, seed: [u64; 2]) -> Self {
        let desk = |_| Desk {
            owner: None,
            bucket: TokenBucket::of(limits.interface),
            open: ArrayVec::new(),
            packets: ArrayVec::new(),
        };
        Self {
            limits,
            prefixes: Prefixes::new(limits.prefix, seed),
            desks: (0..DESKS).map(desk).collect(),
            places: vec![[0; 2]; PortId::LIMIT].into(),
            next: 0,
            asked: 0,
            due: Duration::ZERO,
        }
    }

    pub(crate) const fn limits(&self) -> &ResolveLimits {
        &self.limits
    }

    /// Whether any question is open, so that [`Self::expire`] is to be called.
    #[inline]
    pub(crate) const fn is_asking(&self) -> bool {
        self.asked > 0
    }

    /// What is known of a question. Refusals of another epoch are forgotten.
    pub(crate) fn look(&mut self, question: Question, epoch: u32, now: Duration) -> Look {
        let Some(desk) = self.desk(question) else { return Look::New };
        let Some(place) = desk.open.iter().position(|open| open.key == question.key) else {
            return Look::New;
        };
        let stale = |open: &Open| open.look != Look::Asked && (open.epoch != epoch || open.until <= now);
        if desk.open.get(place).is_none_or(stale) {
            desk.open.swap_remove(place);
            return Look::New;
        }
        desk.open.get(place).map_or(Look::New, |open| open.look)
    }

    /// Whether the prefix of an address on the substrate may cause one more question.
    pub(crate) fn allow(&self, source: Ipv6Addr, now: Duration) -> bool {
        self.prefixes.allow(source, now)
    }

    /// Notes that a new question is asked; `ask` hands it over, and says whether there was room.
    pub(crate) fn ask(
        &mut self,
        question: Question,
        now: Duration,
        ask: impl FnOnce(Question) -> bool,
    ) -> Result<(), Unasked> {
        let until = now + self.limits.hold;
        let desk = self.desk_for(question).ok_or(Unasked::Full)?;
        if desk.open.is_full() {
            // The refusal that would be forgotten first makes way.
            let refusals = desk.open.iter().enumerate().filter(|(_, open)| open.look != Look::Asked);
            let (oldest, _) = refusals.min_by_key(|(_, open)| open.until).ok_or(Unasked::Full)?;
            desk.open.swap_remove(oldest);
        }
        if !desk.bucket.take(now) {
            return Err(Unasked::Limited);
        }
        if !ask(question) {
            return Err(Unasked::Full);
        }
        desk.open.push(Open { key: question.key, look: Look::Asked, until, epoch: 0 });
        if self.asked == 0 || until < self.due {
            self.due = until;
        }
        self.asked += 1;
        Ok(())
    }

    /// Keeps a packet, which came in by `came_by`, for the answer to a question that is open.
    ///
    /// # Errors
    /// The packet, if too many wait already.
    pub(crate) fn hold(&mut self, question: Question, came_by: PortId, packet: P) -> Result<(), P> {
        let key = question.key;
        match self.desk(question) {
            Some(desk) if !desk.packets.is_full() => {
                desk.packets.push(Held { key, came_by, packet });
                Ok(())
            }
            _ => Err(packet),
        }
    }

    /// Takes note of an answer; what waits for it can be [taken](Self::take) then. One that nobody waits for is none.
    pub(crate) fn answer(&mut self, answer: Answer, now: Duration) {
        let Answer { question, outcome, epoch } = answer;
        let until = now + self.limits.refusal;
        let Some(desk) = self.desk(question) else { return };
        let waits = |open: &Open| open.key == question.key && open.look == Look::Asked;
        let Some(place) = desk.open.iter().position(waits) else { return };
        let look = match outcome {
            Outcome::Known | Outcome::Unanswered => None,
            Outcome::Unknown => Some(Look::Unknown),
            Outcome::Refused => Some(Look::Refused),
        };
        match (look, desk.open.get_mut(place)) {
            (Some(look), Some(open)) => (open.look, open.until, open.epoch) = (look, until, epoch),
            _ => drop(desk.open.swap_remove(place)),
        }
        self.asked -= 1;
    }

    /// Takes the packets that wait for a question's answer and came in by the same port, in their order, until there are no
    /// more.
    pub(crate) fn take(&mut self, question: Question, burst: &mut ArrayVec<P, BURST>) -> Option<PortId> {
        let desk = self.desk(question)?;
        let came_by = desk.packets.iter().find(|held| held.key == question.key)?.came_by;
        let mut left = ArrayVec::new();
        for held in desk.packets.drain(..) {
            if held.key == question.key && held.came_by == came_by {
                // There are no more than a burst.
                drop(burst.try_push(held.packet));
            } else {
                left.push(held);
            }
        }
        desk.packets = left;
        Some(came_by)
    }

    /// Gives up questions that were not answered in time; each is told to `lost`, with each of the packets that waited for it.
    pub(crate) fn expire(&mut self, now: Duration, mut lost: impl FnMut(Question, P)) {
        if now < self.due {
            return;
        }
        let mut due = Duration::MAX;
        for desk in &mut self.desks {
            let Some((port, side)) = desk.owner else { continue };
            let mut place = 0;
            while let Some(open) = desk.open.get(place) {
                if open.look != Look::Asked || open.until > now {
                    if open.look == Look::Asked {
                        due = due.min(open.until);
                    }
                    place += 1;
                    continue;
                }
                let key = open.key;
                desk.open.swap_remove(place);
                self.asked -= 1;
                let mut left = ArrayVec::new();
                for held in desk.packets.drain(..) {
                    if held.key == key {
                        lost(Question { port, key, side }, held.packet);
                    } else {
                        left.push(held);
                    }
                }
                desk.packets = left;
            }
        }
        self.due = due;
    }

    fn place(&self, question: Question) -> Option<usize> {
        let [destination, source] = *self.places.get(question.port.index())?;
        let place = match question.side {
            Side::Destination => destination,
            Side::Source => source,
        };
        usize::from(place).checked_sub(1)
    }

    fn set_place(&mut self, (port, side): (PortId, Side), place: u8) {
        if let Some([destination, source]) = self.places.get_mut(port.index()) {
            match side {
                Side::Destination => *destination = place,
                Side::Source => *source = place,
            }
        }
    }

    /// The desk of a question's side of its interface, if that has one.
    fn desk(&mut self, question: Question) -> Option<&mut Desk<P>> {
        let place = self.place(question)?;
        self.desks.get_mut(place)
    }

    /// The same; one that has none gets one that is not in use.
    fn desk_for(&mut self, question: Question) -> Option<&mut Desk<P>> {
        if let Some(place) = self.place(question) {
            return self.desks.get_mut(place);
        }
        let place = (0..DESKS)
            .map(|ahead| (self.next + ahead) % DESKS)
            .find(|place| self.desks.get(*place).is_some_and(Desk::is_idle))?;
        self.next = place + 1;
        let owner = (question.port, question.side);
        let bucket = TokenBucket::of(self.limits.interface);
        let desk = self.desks.get_mut(place)?;
        let before = desk.owner.replace(owner);
        desk.open.clear();
        desk.bucket = bucket;
        if let Some(before) = before {
            self.set_place(before, 0);
        }
        self.set_place(owner, place as u8 + 1);
        self.desks.get_mut(place)
    }
}

impl<P> fmt::Debug for Waiting<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("asked", &self.asked).finish_non_exhaustive()
    }
}
