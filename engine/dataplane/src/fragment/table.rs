//! The datagrams in fragments that a worker follows.
//!
//! - **What passes**: of every datagram the first fragment, once, and then others that cover nothing that has gone by.
//!   Others that come before the first are held and go by after it, in the order in which they came. A fragment
//!   that has gone by once more is refused. One that covers another in part, or that tells another end of the
//!   datagram, spoils it: what is held is lost, and all of it that still comes is refused (RFC 5722; RFC 8200, 4.5).
//! - **A datagram of which everything has gone by is forgotten at once.** Senders of large datagrams come round to the
//!   same identification within a second (RFC 4963), which must not look like a duplicate. The price: a duplicate that
//!   comes after the last fragment is held and lost, or begins the datagram anew if it is of the first one.
//! - **A datagram is forgotten after the timeout**, whatever became of it, counted from its first fragment to come.
//! - **Bounds.** All memory is allocated at the beginning. Datagrams belong to lanes, by a keyed hash of port and
//!   vnet. When there is no room, what has timed out goes first, and then the oldest datagram of the lane that has the
//!   most; the same, counted in packets, for those that are held. So whoever floods loses his own, and a lane with less
//!   than its equal share loses nothing to others. On an uplink, where a port has many vnets, that protects them from
//!   each other; within a vnet its own nodes share.

use super::FragmentLimits;
use super::hold::{Held, Store};
use super::part::Part;
use super::queue::{Index, Links, NONE, Queue};
use super::ranges::{Fit, Ranges};
use crate::drop::DropReason;
use crate::id::{PortId, VnetId};
use crate::table::mapping::Hasher;
use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;

/// How many fragments of one datagram are held: more than the largest one has on an Ethernet, and no more than a burst.
const HELD_PER_DATAGRAM: usize = 64;

/// How many datagrams are given up in one go when their time is over: a flood's must not stop the worker for long.
const EXPIRED_AT_ONCE: usize = 64;

/// Into how many lanes ports and vnets are spread. More make it rarer that two share one; all are looked at when there
/// is no room.
const LANES: usize = 256;

/// What fragments of one datagram have in common (RFC 791, 3.2; RFC 8200, 4.5), on the port that they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// The port that they are received on.
    pub(crate) port: PortId,
    /// The vnet of both addresses.
    pub(crate) vnet: VnetId,
    /// The sender's virtual address.
    pub(crate) source: Ipv4Addr,
    /// The receiver's virtual address.
    pub(crate) destination: Ipv4Addr,
    /// Protocol or next header, as the packet's own IP version numbers it.
    pub(crate) protocol: u8,
    /// The identification; 16 bits in IPv4.
    pub(crate) identification: u32,
}

/// What is to be done with a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on.
    Pass,
    /// It goes on, and behind it what was held: [`FragmentTable::release`].
    PassAndRelease,
    /// It is to be held until the first one comes: [`FragmentTable::hold`].
    Hold,
}

/// One datagram.
struct Datagram {
    key: Key,
    /// When its first fragment to come came.
    begun: Duration,
    bucket: usize,
    lane: usize,
    /// Whether its first fragment is still to come.
    waiting: bool,
    /// Why all of it is refused.
    spoilt: Option<DropReason>,
    /// Its length, once its last fragment has come.
    length: Option<u16>,
    /// What has gone by; what is held, while it waits.
    seen: Ranges,
    held: Held,
}

/// A place for a datagram.
struct Slot {
    datagram: Option<Datagram>,
    /// The next one in the same bucket, or the next free one.
    behind: Index,
}

/// The datagrams of a lane, and those of them that wait for their first fragment, in the order in which they began; and how
/// much it has.
struct Lane {
    all: Queue,
    waiting: Queue,
    datagrams: usize,
    held: usize,
}

/// The datagrams in fragments that one worker follows; see the [module](self).
pub(crate) struct FragmentTable<P> {
    timeout: Duration,
    hasher: Hasher,
    /// The first datagram of each bucket; a power of two.
    buckets: Box<[Index]>,
    slots: Box<[Slot]>,
    free: Index,
    /// All datagrams, in the order in which they began.
    all: Queue,
    all_links: Links,
    lanes: Box<[Lane]>,
    lane_links: Links,
    waiting_links: Links,
    store: Store<P>,
}

impl<P> FragmentTable<P> {
    /// An empty table. `seed` must be secret and random: who knows it can choose datagrams that pile up in one place.
    pub(crate) fn new(limits: FragmentLimits, seed: [u64; 2]) -> Self {
        let FragmentLimits { datagrams, held, timeout } = limits;
        let slot = |index: usize| Slot {
            datagram: None,
            behind: if index + 1 < datagrams { index as Index + 1 } else { NONE },
        };
        let lane = |_| Lane { all: Queue::EMPTY, waiting: Queue::EMPTY, datagrams: 0, held: 0 };
        Self {
            timeout,
            hasher: Hasher::new(seed),
            buckets: vec![NONE; datagrams.next_power_of_two()].into(),
            slots: (0..datagrams).map(slot).collect(),
            free: 0,
            all: Queue::EMPTY,
            all_links: Links::new(datagrams),
            lanes: (0..LANES).map(lane).collect(),
            lane_links: Links::new(datagrams),
            waiting_links: Links::new(datagrams),
            store: Store::new(held),
        }
    }

    /// What is to be done with a fragment that has come at `now`; if it is to go on, it has gone by. What was held is judged
    /// once more after its release. `lost` gets what was held and is lost, with what it has in common and the reason.
    ///
    /// # Errors
    /// Why it is refused: [`DropReason::FragmentOverlap`] or [`DropReason::FragmentMalformed`] if it contradicts others
    /// or one did before, [`DropReason::FragmentTableFull`].
    #[inline(never)]
    pub(crate) fn judge(
        &mut self,
        now: Duration,
        key: &Key,
        part: Part,
        lost: &mut impl FnMut(&Key, DropReason, P),
    ) -> Result<Verdict, DropReason> {
        if part.is_whole() {
            return Ok(Verdict::Pass);
        }
        let bucket = self.bucket(key);
        let mut known = self.find(bucket, key);
        if let Some(index) = known.filter(|index| self.is_over(*index, now)) {
            self.forget(index, DropReason::FragmentWithoutFirst, lost);
            known = None;
        }
        if let Some(datagram) = known.and_then(|index| self.datagram(index)) {
            match datagram.fit(part) {
                Ok(()) => {}
                Err(Refusal::Fragment(reason)) => return Err(reason),
                Err(Refusal::Datagram(reason)) => {
                    self.refuse(key, reason, lost);
                    return Err(reason);
                }
            }
        }
        let waits = known.is_none_or(|index| self.datagram(index).is_some_and(|datagram| datagram.waiting));
        if waits && !part.is_first() {
            self.make_room(now, key, known, lost)?;
        }
        let index = match known {
            Some(index) => index,
            None => self.begin(now, key, bucket, lost)?,
        };
        if part.is_first() {
            self.open(index);
        }
        let datagram = self.datagram_mut(index).ok_or(DropReason::FragmentTableFull)?;
        datagram.seen.insert(part.start, part.end);
        if !part.more {
            datagram.length = Some(part.bytes);
        }
        if datagram.waiting {
            return Ok(Verdict::Hold);
        }
        if datagram.held.count() > 0 {
            return Ok(if part.is_first() { Verdict::PassAndRelease } else { Verdict::Pass });
        }
        if datagram.length.is_some_and(|length| datagram.seen.is_whole(length.div_ceil(8))) {
            self.forget(index, DropReason::FragmentWithoutFirst, lost);
        }
        Ok(Verdict::Pass)
    }

    /// Holds a packet, as it was received, after [`Verdict::Hold`] and before anything else is judged.
    ///
    /// # Errors
    /// The packet and [`DropReason::FragmentTableFull`], if its datagram or the room for it is gone.
    pub(crate) fn hold(&mut self, key: &Key, packet: P) -> Result<(), (DropReason, P)> {
        let index = self.find(self.bucket(key), key);
        let slot = index.and_then(|index| self.slots.get_mut(index as usize));
        let datagram = slot.and_then(|slot| slot.datagram.as_mut()).filter(|datagram| datagram.waiting);
        let Some(datagram) = datagram else { return Err((DropReason::FragmentTableFull, packet)) };
        let kept = self.store.push(&mut datagram.held, packet);
        kept.map_err(|packet| (DropReason::FragmentTableFull, packet))?;
        if let Some(lane) = self.lanes.get_mut(datagram.lane) {
            lane.held += 1;
        }
        Ok(())
    }

    /// Gives back what was held, in the order in which it came, after [`Verdict::PassAndRelease`].
    pub(crate) fn release(&mut self, key: &Key, mut each: impl FnMut(P)) {
        // It may have been pushed out since then, and begun anew.
        let index = self.find(self.bucket(key), key);
        let waits = |index: &Index| self.datagram(*index).is_some_and(|datagram| datagram.waiting);
        if let Some(index) = index.filter(|index| !waits(index)) {
            self.empty(index, |_, packet| each(packet));
        }
    }

    /// Refuses all of a datagram that still comes for `reason`, since its first fragment, which was let pass, has been
    /// refused for it later on its way; or does nothing if it is not followed. What is held is lost.
    pub(crate) fn refuse(
        &mut self,
        key: &Key,
        reason: DropReason,
        lost: &mut impl FnMut(&Key, DropReason, P),
    ) {
        let Some(index) = self.find(self.bucket(key), key) else { return };
        self.open(index);
        if let Some(datagram) = self.datagram_mut(index) {
            datagram.spoilt = Some(reason);
        }
        self.empty(index, |key, packet| lost(key, reason, packet));
    }

    /// Forgets datagrams whose time is over, a bounded number of them; what was held is lost as
    /// [`DropReason::FragmentWithoutFirst`]. To be called every so often while [`FragmentTable::is_holding`].
    pub(crate) fn expire(&mut self, now: Duration, lost: &mut impl FnMut(&Key, DropReason, P)) {
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(index) = self.all.head().filter(|index| self.is_over(*index, now)) else { return };
            self.forget(index, DropReason::FragmentWithoutFirst, lost);
        }
    }

    /// Whether any packet is held.
    #[inline]
    pub(crate) const fn is_holding(&self) -> bool {
        !self.store.is_empty()
    }

    fn bucket(&self, key: &Key) -> usize {
        let addresses = u64::from(key.source.to_bits()) << 32 | u64::from(key.destination.to_bits());
        let rest = u64::from(key.protocol) << 32 | u64::from(key.identification);
        let hash = self.hasher.hash(self.origin(key) ^ addresses);
        let hash = self.hasher.hash(hash ^ rest);
        (hash >> 32) as usize & (self.buckets.len() - 1)
    }

    /// Which share of the table a fragment counts against.
    fn lane(&self, key: &Key) -> usize {
        (self.origin(key) >> 32) as usize % LANES
    }

    fn origin(&self, key: &Key) -> u64 {
        self.hasher.hash((key.port.index() as u64) << 32 | u64::from(key.vnet.get()))
    }

    fn find(&self, bucket: usize, key: &Key) -> Option<Index> {
        let mut index = *self.buckets.get(bucket)?;
        while let Some(Slot { datagram: Some(datagram), behind }) = self.slots.get(index as usize) {
            if datagram.key == *key {
                return Some(index);
            }
            index = *behind;
        }
        None
    }

    fn datagram(&self, index: Index) -> Option<&Datagram> {
        self.slots.get(index as usize)?.datagram.as_ref()
    }

    fn datagram_mut(&mut self, index: Index) -> Option<&mut Datagram> {
        self.slots.get_mut(index as usize)?.datagram.as_mut()
    }

    fn is_over(&self, index: Index, now: Duration) -> bool {
        self.datagram(index).is_some_and(|datagram| now.saturating_sub(datagram.begun) >= self.timeout)
    }

    /// Begins to follow a datagram that is not followed.
    fn begin(
        &mut self,
        now: Duration,
        key: &Key,
        bucket: usize,
        lost: &mut impl FnMut(&Key, DropReason, P),
    ) -> Result<Index, DropReason> {
        const FULL: DropReason = DropReason::FragmentTableFull;
        let lane = self.lane(key);
        if self.free == NONE {
            self.expire(now, lost);
        }
        if self.free == NONE {
            let victim = most(&self.lanes, lane, |lane| lane.datagrams);
            let oldest = self.lanes.get(victim).and_then(|lane| lane.all.head());
            self.forget(oldest.ok_or(FULL)?, FULL, lost);
        }
        let index = self.free;
        let slot = self.slots.get_mut(index as usize).ok_or(FULL)?;
        let (first, lane_of) =
            (self.buckets.get_mut(bucket).ok_or(FULL)?, self.lanes.get_mut(lane).ok_or(FULL)?);
        self.free = slot.behind;
        slot.behind = core::mem::replace(first, index);
        slot.datagram = Some(Datagram {
            key: *key,
            begun: now,
            bucket,
            lane,
            waiting: true,
            spoilt: None,
            length: None,
            seen: Ranges::default(),
            held: Held::NOTHING,
        });
        self.all_links.push(&mut self.all, index);
        self.lane_links.push(&mut lane_of.all, index);
        self.waiting_links.push(&mut lane_of.waiting, index);
        lane_of.datagrams += 1;
        Ok(index)
    }

    /// Makes room for one more packet of the datagram with `key`, which is at `known` if it is followed.
    fn make_room(
        &mut self,
        now: Duration,
        key: &Key,
        known: Option<Index>,
        lost: &mut impl FnMut(&Key, DropReason, P),
    ) -> Result<(), DropReason> {
        const FULL: DropReason = DropReason::FragmentTableFull;
        let held = known.and_then(|index| self.datagram(index)).map_or(0, |datagram| datagram.held.count());
        if held >= HELD_PER_DATAGRAM {
            return Err(FULL);
        }
        if self.store.is_full() {
            self.expire(now, lost);
        }
        if self.store.is_full() {
            let victim = most(&self.lanes, self.lane(key), |lane| lane.held);
            let oldest = self.lanes.get(victim).and_then(|lane| lane.waiting.head());
            // It would be of no use to lose the fragments that this one belongs to.
            let other = oldest.filter(|index| Some(*index) != known);
            let next = oldest.and_then(|index| self.waiting_links.behind(index));
            self.forget(other.or(next).ok_or(FULL)?, FULL, lost);
        }
        // Each datagram that waits holds something, so there is room now.
        if self.store.is_full() { Err(FULL) } else { Ok(()) }
    }

    /// From now on the datagram does not wait for its first fragment, and what goes by is remembered anew: what is held
    /// has not gone by yet.
    fn open(&mut self, index: Index) {
        let Some(datagram) = self.slots.get_mut(index as usize).and_then(|slot| slot.datagram.as_mut())
        else {
            return;
        };
        if core::mem::take(&mut datagram.waiting)
            && let Some(lane) = self.lanes.get_mut(datagram.lane)
        {
            datagram.seen = Ranges::default();
            self.waiting_links.remove(&mut lane.waiting, index);
        }
    }

    /// Takes what is held of a datagram.
    fn empty(&mut self, index: Index, mut each: impl FnMut(&Key, P)) {
        let Some(datagram) = self.slots.get_mut(index as usize).and_then(|slot| slot.datagram.as_mut())
        else {
            return;
        };
        if let Some(lane) = self.lanes.get_mut(datagram.lane) {
            lane.held -= datagram.held.count();
        }
        while let Some(packet) = self.store.pop(&mut datagram.held) {
            each(&datagram.key, packet);
        }
    }

    /// Stops to follow a datagram; what is held is lost for `reason`.
    fn forget(&mut self, index: Index, reason: DropReason, lost: &mut impl FnMut(&Key, DropReason, P)) {
        self.empty(index, |key, packet| lost(key, reason, packet));
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(datagram) = slot.datagram.take() else { return };
        let behind = core::mem::replace(&mut slot.behind, self.free);
        self.free = index;
        // Whatever leads to it in its bucket now leads behind it.
        match self.buckets.get_mut(datagram.bucket) {
            Some(first) if *first == index => *first = behind,
            Some(first) => {
                let mut before = *first;
                while let Some(slot) = self.slots.get_mut(before as usize) {
                    if slot.behind == index {
                        slot.behind = behind;
                        break;
                    }
                    before = slot.behind;
                }
            }
            None => {}
        }
        self.all_links.remove(&mut self.all, index);
        if let Some(lane) = self.lanes.get_mut(datagram.lane) {
            self.lane_links.remove(&mut lane.all, index);
            if datagram.waiting {
                self.waiting_links.remove(&mut lane.waiting, index);
            }
            lane.datagrams -= 1;
        }
    }
}

/// The lane that has the most, which is `own` if no other has more. In two passes, as the compiler makes vectors of the
/// first.
fn most(lanes: &[Lane], own: usize, of: impl Fn(&Lane) -> usize) -> usize {
    let most = lanes.iter().map(&of).max().unwrap_or(0);
    if lanes.get(own).is_some_and(|lane| of(lane) == most) {
        return own;
    }
    lanes.iter().position(|lane| of(lane) == most).unwrap_or(own)
}

/// What a fragment's contradiction to others refuses.
enum Refusal {
    /// This fragment.
    Fragment(DropReason),
    /// All of the datagram from now on.
    Datagram(DropReason),
}

impl Datagram {
    /// Whether a fragment agrees with what is known of the datagram.
    fn fit(&self, part: Part) -> Result<(), Refusal> {
        if let Some(reason) = self.spoilt {
            return Err(Refusal::Fragment(reason));
        }
        let contradicts = match self.length {
            Some(length) if part.more => part.bytes >= length,
            Some(length) => part.bytes != length,
            // Behind each one that has been seen there must be more.
            None => !part.more && self.seen.end() >= part.end,
        };
        if contradicts {
            return Err(Refusal::Datagram(DropReason::FragmentMalformed));
        }
        match self.seen.fit(part.start, part.end) {
            Fit::New => Ok(()),
            Fit::Duplicate => Err(Refusal::Fragment(DropReason::FragmentOverlap)),
            Fit::Overlap => Err(Refusal::Datagram(DropReason::FragmentOverlap)),
            Fit::Full => Err(Refusal::Fragment(DropReason::FragmentTableFull)),
        }
    }
}

impl<P> fmt::Debug for FragmentTable<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FragmentTable").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
