#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are outside test functions"
)]

use super::account::Account;
use super::lines::{Lines, Place};
use super::table::Sizes;
use super::*;
use crate::drop::DropReason;
use crate::id::{PortId, VnetId};
use crate::table::compare::Compare;
use crate::table::mapping::Hasher;
use crate::table::{Domain, Reader};
use crate::wire::protocol;
use crate::wire::tcp::flag::{ACK, RST, SYN};
use core::net::Ipv4Addr;
use std::sync::Arc;

pub(super) const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const GRAIN: u64 = super::state::GRAIN as u64;

/// Short enough for tests, all different.
pub(super) const TIMEOUTS: Timeouts = Timeouts {
    tcp_half_open: 1000,
    tcp_established: 6000,
    tcp_closing: 500,
    udp: 2000,
    icmp: 3000,
    other: 4000,
};

pub(super) fn key(protocol: u8, number: u32) -> (FlowKey, Direction) {
    let server = (Ipv4Addr::new(10, 0, 0, 1), 443);
    let client = (Ipv4Addr::from_bits(0x0a01_0000 | number >> 8), 1024 + (number & 0xff) as u16);
    FlowKey::new(VnetId::MIN, protocol, client, server)
}

pub(super) fn new(direction: Direction, sign: Sign) -> NewFlow {
    NewFlow {
        direction,
        sign,
        account: Account::of_port(PortId::new(7).unwrap()),
        joined: false,
        epoch: 1,
        verdict: Ok(()),
    }
}

/// A table and all that uses it, on one thread.
pub(super) struct Bed {
    pub(super) table: FlowTable,
    pub(super) worker: FlowWorker,
    pub(super) reader: Reader,
    pub(super) now: Tick,
}

impl Bed {
    pub(super) fn new(buckets: u32, entries: usize, reserve: usize) -> Self {
        let domain = Domain::new(4, 64);
        let table =
            FlowTable::of(&domain, Sizes { buckets, entries, reserve }, (TIMEOUTS, usize::MAX), 2, SEED);
        let reader = domain.register("test").unwrap();
        Self { worker: table.worker(0), table, reader, now: Tick(1 << 33) }
    }

    pub(super) fn insert(&mut self, protocol: u8, number: u32, sign: Sign) -> Result<bool, Full> {
        let (key, direction) = key(protocol, number);
        let new = new(direction, sign);
        let inserted = self.worker.insert(&self.table, &self.reader, key, &new, self.now);
        inserted.map(|(flow, inserted)| {
            assert_eq!(flow.key(), key);
            inserted
        })
    }

    pub(super) fn has(&self, protocol: u8, number: u32) -> bool {
        let (key, _) = key(protocol, number);
        let flow = self.table.lookup(&self.reader, key);
        flow.is_some_and(|flow| {
            assert_eq!(flow.key(), key);
            true
        })
    }

    /// A packet of a flow that is there, in its first direction or back.
    pub(super) fn observe(&self, protocol: u8, number: u32, back: bool, sign: Sign) -> Observed {
        let (key, direction) = key(protocol, number);
        let flow = self.table.lookup(&self.reader, key).unwrap();
        let direction = if back { direction.reverse() } else { direction };
        flow.observe(direction, sign, self.now, self.table.timeouts())
    }

    pub(super) fn turn(&mut self) {
        self.reader.quiesce();
        self.worker.turn(&self.reader, self.now);
    }

    /// Enough turns for the hand to go around.
    pub(super) fn around(&mut self) {
        self.now.0 += 16 * Tick::PER_SECOND;
        for _ in 0..=self.table.shared.lines.buckets() / 4 {
            self.turn();
        }
    }

    /// Words that lead to entries, settled and tentative.
    pub(super) fn words(&self) -> (usize, usize) {
        words(&self.table)
    }

    /// Checks that no entry is lost, and none is there twice.
    pub(super) fn check(&self) {
        let (settled, tentative) = self.words();
        assert_eq!(tentative, 0);
        let shared = &self.table.shared;
        let all = shared.pool.len(&shared.entries) + self.worker.kept() + settled;
        assert_eq!(all, self.table.room());
        assert_eq!(self.table.totals().live(), settled as u64);
    }
}

pub(super) fn words(table: &FlowTable) -> (usize, usize) {
    let lines = &table.shared.lines;
    let words = (0..lines.buckets()).flat_map(Place::of).map(|place| lines.load(place));
    let linked: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let tentative = linked.iter().filter(|word| word.is_tentative()).count();
    (linked.len() - tentative, tentative)
}

const UDP: u8 = protocol::UDP;
const TCP: u8 = protocol::TCP;
const DATAGRAM: Sign = Sign::DATAGRAM;

#[test]
fn what_was_entered_is_found_from_both_sides_in_every_way_and_nothing_else_is() {
    let mut bed = Bed::new(1 << 10, 1 << 12, 64);
    for number in 0..3000 {
        assert_eq!(bed.insert(UDP, number, DATAGRAM), Ok(true));
    }
    for number in 0..3000 {
        assert_eq!(bed.insert(UDP, number, DATAGRAM), Ok(false));
    }
    let keys: Vec<FlowKey> = (0..3200).map(|number| key(UDP, number).0).collect();
    for table in Compare::ALL.into_iter().filter_map(|way| bed.table.with_compare(way)) {
        let mut found = vec![None; keys.len()];
        table.lookup_burst(&bed.reader, &keys, &mut found);
        for (number, (key, flow)) in keys.iter().zip(found).enumerate() {
            assert_eq!(flow.map(|flow| flow.key()), (number < 3000).then_some(*key), "{:?}", table.compare());
        }
        let [low, high] = keys[5].ends();
        assert_eq!(keys[5], FlowKey::new(VnetId::MIN, UDP, high, low).0);
        let other = FlowKey::new(VnetId::MAX, UDP, high, low).0;
        assert!(table.lookup(&bed.reader, other).is_none());
        assert!(table.lookup(&bed.reader, key(TCP, 5).0).is_none());
    }
    assert_eq!(bed.table.totals(), FlowTotals { inserted: 3000, ..FlowTotals::default() });
    bed.check();
}

#[test]
fn a_flow_keeps_its_account_and_first_verdict_whoever_enters_it_again() {
    let mut bed = Bed::new(16, 64, 0);
    let (key, direction) = key(UDP, 1);
    let refused = NewFlow { verdict: Err(DropReason::VnetMismatch), ..new(direction, DATAGRAM) };
    let (flow, _) = bed.worker.insert(&bed.table, &bed.reader, key, &refused, bed.now).unwrap();
    assert_eq!((flow.judged(1), flow.judged(2)), (Some(Err(DropReason::VnetMismatch)), None));
    let back =
        NewFlow { account: Account::of_port(PortId::new(9).unwrap()), ..new(direction.reverse(), DATAGRAM) };
    let (flow, inserted) = bed.worker.insert(&bed.table, &bed.reader, key, &back, bed.now).unwrap();
    assert_eq!(
        (inserted, flow.account(), flow.opened()),
        (false, Account::of_port(PortId::new(7).unwrap()), direction)
    );
    assert_eq!(flow.judged(1), Some(Err(DropReason::VnetMismatch)));
}

#[test]
fn idle_flows_leave_when_the_hand_has_come_around_and_busy_ones_stay() {
    let mut bed = Bed::new(64, 256, 0);
    for number in 0..100 {
        bed.insert(UDP, number, DATAGRAM).unwrap();
        bed.insert(TCP, number, Sign::tcp(SYN)).unwrap();
    }
    // Up to its timeout a flow is not over; half-open TCP is by then.
    bed.now.0 += u64::from(TIMEOUTS.udp) - 16 * Tick::PER_SECOND;
    bed.around();
    for number in 0..100 {
        assert!(bed.has(UDP, number) && !bed.has(TCP, number));
        if number % 2 == 0 {
            assert_eq!(bed.observe(UDP, number, false, DATAGRAM), Observed::Ours);
        }
    }
    bed.now.0 += GRAIN + 1;
    bed.around();
    assert!((0..100).all(|number| bed.has(UDP, number) == (number % 2 == 0)));
    assert_eq!((bed.table.totals().expired, bed.table.totals().live()), (150, 50));
    bed.now.0 += u64::from(TIMEOUTS.udp);
    bed.around();
    bed.turn();
    bed.turn();
    assert_eq!(bed.table.totals().live(), 0);
    assert!(!bed.worker.is_waiting());
    bed.check();
}

#[test]
fn a_packet_after_the_timeout_or_a_new_connection_is_no_packet_of_the_old_flow() {
    let mut bed = Bed::new(16, 64, 0);
    bed.insert(UDP, 1, DATAGRAM).unwrap();
    bed.insert(TCP, 1, Sign::tcp(SYN)).unwrap();
    assert_eq!(bed.observe(TCP, 1, true, Sign::tcp(RST | ACK)), Observed::Ours);
    assert_eq!(bed.observe(TCP, 1, false, Sign::tcp(ACK)), Observed::Ours);
    assert_eq!(bed.observe(TCP, 1, true, Sign::tcp(SYN)), Observed::Successor);
    let (closed, direction) = key(TCP, 1);
    let flow = bed.table.lookup(&bed.reader, closed).unwrap();
    assert!(bed.worker.remove(&bed.reader, flow));
    assert!(!bed.worker.remove(&bed.reader, flow), "twice");
    assert!(!bed.has(TCP, 1));
    // The one that follows is not the one that is removed.
    let again = new(direction.reverse(), Sign::tcp(SYN));
    let (next, inserted) = bed.worker.insert(&bed.table, &bed.reader, closed, &again, bed.now).unwrap();
    assert_eq!((inserted, next.opened()), (true, direction.reverse()));
    assert!(!bed.worker.remove(&bed.reader, flow));
    assert!(bed.has(TCP, 1));
    bed.now.0 += u64::from(TIMEOUTS.udp) + GRAIN;
    assert_eq!(bed.observe(UDP, 1, true, DATAGRAM), Observed::Ours);
    bed.now.0 += u64::from(TIMEOUTS.udp) + GRAIN + 1;
    assert_eq!(bed.observe(UDP, 1, true, DATAGRAM), Observed::Successor);
    assert_eq!(bed.table.totals().replaced, 1);
}

#[test]
fn half_open_flows_make_way_before_established_ones_and_the_longest_idle_first() {
    // Two buckets, so that every flow is in the way of every other.
    let mut bed = Bed::new(2, 64, 0);
    for number in 0..16 {
        bed.insert(TCP, number, Sign::tcp(SYN)).unwrap();
        if number < 12 {
            bed.observe(TCP, number, true, Sign::tcp(SYN | ACK));
            bed.observe(TCP, number, false, Sign::tcp(ACK));
        }
        bed.now.0 += GRAIN;
    }
    bed.observe(TCP, 3, true, Sign::tcp(RST));
    let mut gone = Vec::new();
    for number in 100..117 {
        let there: Vec<u32> = (0..16).filter(|number| bed.has(TCP, *number)).collect();
        bed.insert(TCP, number, Sign::tcp(SYN)).unwrap();
        bed.observe(TCP, number, true, Sign::tcp(SYN | ACK));
        bed.observe(TCP, number, false, Sign::tcp(ACK));
        gone.extend(there.into_iter().filter(|number| !bed.has(TCP, *number)));
        bed.now.0 += GRAIN;
    }
    assert_eq!(gone, [3, 12, 13, 14, 15, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(bed.table.totals().evicted, [1, 4, 12]);
    bed.check();
}

#[test]
fn flows_that_are_over_make_way_before_all_others() {
    let mut bed = Bed::new(2, 64, 0);
    bed.insert(UDP, 0, DATAGRAM).unwrap();
    bed.observe(UDP, 0, true, DATAGRAM);
    bed.now.0 += u64::from(TIMEOUTS.udp) + GRAIN + 1;
    for number in 1..16 {
        bed.insert(UDP, number, DATAGRAM).unwrap();
    }
    bed.insert(UDP, 16, DATAGRAM).unwrap();
    assert!(!bed.has(UDP, 0) && bed.has(UDP, 1));
    assert_eq!((bed.table.totals().expired, bed.table.totals().evicted), (1, [0; 3]));
}

#[test]
fn a_full_table_goes_on_taking_flows_and_holds_as_many_as_it_was_made_for() {
    let (capacity, reserve) = (1024, 128);
    let mut bed = Bed::new(512, capacity + reserve, reserve);
    for number in 0..20_000 {
        assert_eq!(bed.insert(UDP, number, DATAGRAM), Ok(true), "{number}");
        assert!(bed.has(UDP, number));
        if number % 32 == 0 {
            bed.turn();
        }
    }
    let totals = bed.table.totals();
    assert!(totals.live() >= capacity as u64 * 9 / 10, "{}", totals.live());
    assert!(totals.live() <= (capacity + reserve) as u64);
    assert_eq!((totals.refused, totals.expired), (0, 0));
    assert_eq!(totals.evicted[1], 20_000 - totals.live());
    bed.check();
}

#[test]
fn a_reader_that_stands_still_makes_the_table_refuse_and_lose_nothing() {
    let mut bed = Bed::new(64, 256, 64);
    let stuck = bed.table.shared.domain.register("stuck").unwrap();
    let mut refused = 0;
    for number in 0..2000 {
        refused += u64::from(bed.insert(UDP, number, DATAGRAM).is_err());
        bed.turn();
    }
    assert!(refused > 1000);
    assert_eq!(bed.table.totals().refused, refused);
    bed.check();
    // What is there is found all the same.
    let there: Vec<u32> = (0..2000).filter(|number| bed.has(UDP, *number)).collect();
    assert!(!there.is_empty() && there.iter().all(|number| bed.insert(UDP, *number, DATAGRAM) == Ok(false)));
    drop(stuck);
    bed.turn();
    assert_eq!(bed.insert(UDP, 5000, DATAGRAM), Ok(true));
    bed.check();
}

#[test]
fn an_entry_is_used_again_only_after_every_reader_has_quiesced() {
    let mut bed = Bed::new(16, 64, 0);
    bed.insert(UDP, 1, DATAGRAM).unwrap();
    let mut other = bed.table.shared.domain.register("other").unwrap();
    let (first, direction) = key(UDP, 1);
    let table = bed.table.clone();
    let held = table.lookup(&other, first).unwrap();
    assert!(bed.worker.remove(&bed.reader, bed.table.lookup(&bed.reader, first).unwrap()));
    for number in 2..66 {
        let _ = bed.insert(UDP, number, DATAGRAM);
        bed.turn();
    }
    assert_eq!(bed.table.totals().refused, 1, "one entry of 64 cannot be used");
    assert_eq!(held.key(), first);
    // Too late, and harmless.
    held.observe(direction, DATAGRAM, bed.now, &TIMEOUTS);
    other.quiesce();
    bed.turn();
    assert_eq!(bed.insert(UDP, 65, DATAGRAM), Ok(true));
    bed.check();
}

#[test]
fn workers_share_what_they_do_not_need_and_leave_it_to_the_next() {
    let mut bed = Bed::new(256, 1024, 64);
    let mut other = bed.table.worker(1);
    for number in 0..900 {
        bed.insert(UDP, number, DATAGRAM).unwrap();
    }
    // The other one takes out what the first has entered.
    bed.now.0 += u64::from(TIMEOUTS.udp) * 2;
    for _ in 0..100 {
        bed.now.0 += 16;
        bed.reader.quiesce();
        other.turn(&bed.reader, bed.now);
    }
    assert_eq!(bed.table.totals().live(), 0);
    assert!(other.kept() < 64 + 2 * 64, "{}", other.kept());
    for number in 0..850 {
        assert_eq!(bed.insert(UDP, number, DATAGRAM), Ok(true));
        let (key, _) = key(UDP, number);
        other.remove(&bed.reader, bed.table.lookup(&bed.reader, key).unwrap());
        bed.turn();
        other.turn(&bed.reader, bed.now);
    }
    let flow = bed.table.lookup(&bed.reader, key(UDP, 0).0);
    assert!(flow.is_none());
    drop(other);
    bed.check();
    bed.reader.quiesce();
    let heir = bed.table.worker(1);
    let shared = &bed.table.shared;
    assert_eq!(shared.pool.len(&shared.entries) + bed.worker.kept() + heir.kept(), bed.table.room());
}

#[test]
fn a_table_takes_all_the_flows_it_was_made_for_before_any_has_to_make_way() {
    let domain = Domain::new(1, 1);
    let table = FlowTable::of(&domain, Sizes::new(1 << 17, 1), (TIMEOUTS, usize::MAX), 1, SEED);
    let mut bed =
        Bed { worker: table.worker(0), table, reader: domain.register("test").unwrap(), now: Tick(0) };
    for number in 0..1 << 17 {
        bed.insert(UDP, number, DATAGRAM).unwrap();
    }
    assert_eq!(bed.table.totals(), FlowTotals { inserted: 1 << 17, ..FlowTotals::default() });
    for number in 1 << 17..(1 << 17) + 100 {
        bed.insert(UDP, number, DATAGRAM).unwrap();
    }
    assert_eq!(bed.table.totals().evicted, [0, 100, 0]);
}

/// How many keys each bucket is the first home of, at most and at least.
fn spread(seed: [u64; 2], keys: impl Iterator<Item = FlowKey>, buckets: u32) -> (u32, u32) {
    let lines = Lines::new(buckets, Hasher::new(seed));
    let mut counts = vec![0; buckets as usize];
    for key in keys {
        counts[lines.home(key).bucket() as usize] += 1;
    }
    (*counts.iter().max().unwrap(), *counts.iter().min().unwrap())
}

#[test]
fn a_tenant_that_chooses_addresses_and_ports_cannot_aim_at_a_bucket() {
    let (count, buckets) = (1 << 16, 1 << 10);
    let vnet = VnetId::new(5).unwrap();
    let end = |bits: u64| (Ipv4Addr::from_bits((bits >> 16) as u32), bits as u16);
    let of = move |source: u64, destination: u64| FlowKey::new(vnet, TCP, end(source), end(destination)).0;
    // 64 in each bucket on average: a random function has at most some 105 in the fullest and some 35 in the emptiest.
    let even = |name: &str, keys: &dyn Fn(u64) -> FlowKey| {
        for seed in [SEED, [0, 0], [1, u64::MAX]] {
            let (most, least) = spread(seed, (0..count).map(keys), buckets);
            assert!(most < 120 && least > 25, "{name}: {least} to {most}");
        }
    };
    even("ports in order", &|n| of(0x0a00_0001_0000 + n, 0x0a00_0002_01bb));
    even("addresses in order", &|n| of((0x0a00_0000 + n) << 16 | 9, 0x0a00_0002_01bb));
    even("addresses far apart", &|n| of(n << 32 | 9, 0x0a00_0002_01bb));
    even("both ends the same way", &|n| of(n << 16 | 5, n << 16 | 6));
    even("both ends against each other", &|n| of(n << 16 | 5, (0xffff_ffff - n) << 16 | 5));
    even("both ports", &|n| of(0x0a00_0001_0000 | n >> 8, 0x0a00_0002_0000 | n & 0xff));
    // What piles up under a seed that is known is spread under one that is not.
    let known = Lines::new(buckets, Hasher::new([7, 8]));
    let aimed: Vec<FlowKey> = (0..count * 64)
        .map(|n| of(0x0a00_0000_0000 + n, 0x0b00_0002_01bb))
        .filter(|key| known.home(*key).bucket() == 3)
        .collect();
    assert!(aimed.len() > 3000);
    let (most, _) = spread(SEED, aimed.into_iter(), buckets);
    assert!(most < 20, "{most}");
}

#[test]
#[should_panic(expected = "another reclamation domain")]
fn a_reader_of_another_domain_is_refused() {
    let bed = Bed::new(2, 64, 0);
    let stranger = Domain::new(1, 1).register("stranger").unwrap();
    let _ = bed.table.lookup(&stranger, key(UDP, 1).0);
}

#[test]
fn limits_are_checked_and_memory_is_what_they_say() {
    assert!(FlowLimits::new(1023, TIMEOUTS).is_err() && FlowLimits::new((1 << 26) + 1, TIMEOUTS).is_err());
    let limits = FlowLimits::new(10_000, TIMEOUTS).unwrap();
    let domain: Arc<Domain> = Domain::new(1, 1);
    let table = FlowTable::new(&domain, &limits, 3, SEED);
    assert!(table.room() >= 10_000 + 3 * 1024 && table.room() < 10_000 + 3 * 1024 + 64);
    let all = limits.memory(3);
    assert!(table.bytes() < all && all < table.bytes() + 3 * 100_000, "{} {all}", table.bytes());
    // About 80 bytes for each flow.
    let million = FlowLimits::new(1 << 20, TIMEOUTS).unwrap().memory(1);
    assert!(million < 81 << 20, "{million}");
}
