//! Several workers enter, see, remove and age the same few flows at full speed, from both directions, while there is not
//! enough room; each flow that is found is checked against its key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]

use super::account::Account;
use super::table::Sizes;
use super::tests::{SEED, TIMEOUTS, words};
use super::{Direction, FlowKey, FlowTable, FlowTotals, FlowWorker, Full, NewFlow, Observed, Sign, Tick};
use crate::id::{PortId, VnetId};
use crate::table::compare::Compare;
use crate::table::{Domain, Reader};
use crate::wire::protocol;
use crate::wire::tcp::flag::{ACK, FIN, SYN};
use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::time::Instant;

/// How long the workers run at least, and at most while something has not happened yet.
const RUN: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
const WORKERS: usize = 4;
/// Flows; more than there is room for.
const FLOWS: u32 = 6000;
/// Flows that all workers are at all the time.
const HOT: u32 = 16;

fn random(state: &mut u64, below: u32) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) % u64::from(below)) as u32
}

/// A packet of flow `number`, there or back.
fn packet(number: u32, back: bool) -> (FlowKey, Direction) {
    let protocol = if number.is_multiple_of(3) { protocol::UDP } else { protocol::TCP };
    let client = (Ipv4Addr::from_bits(0x0a01_0000 + number / 7), 1000 + (number % 7) as u16);
    let server = (Ipv4Addr::new(10, 0, 0, 1), 443);
    let (source, destination) = if back { (server, client) } else { (client, server) };
    FlowKey::new(VnetId::MIN, protocol, source, destination)
}

struct Shared {
    stop: AtomicBool,
    time: AtomicU64,
    checked: AtomicU64,
}

/// Stops everybody when one is done or has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn work(table: &FlowTable, worker: &mut FlowWorker, mut reader: Reader, shared: &Shared, mut state: u64) {
    let account = Account::of_port(PortId::new(state as u16).unwrap());
    while !shared.stop.load(Ordering::Relaxed) {
        // Now and then most flows are over at once.
        let step = if random(&mut state, 64) == 0 { 4000 } else { 1 };
        let now = Tick(shared.time.fetch_add(step, Ordering::Relaxed));
        let numbers: [u32; 48] =
            core::array::from_fn(
                |index| {
                    if index < 8 { random(&mut state, HOT) } else { random(&mut state, FLOWS) }
                },
            );
        // Each worker sees other packets of a flow than the others do.
        let packets = numbers.map(|number| packet(number, random(&mut state, 2) == 0));
        let mut found = [None; 48];
        table.lookup_burst(&reader, &packets.map(|(key, _)| key), &mut found);
        for ((key, direction), found) in packets.into_iter().zip(found) {
            let flags = [SYN, ACK, ACK, FIN | ACK][random(&mut state, 4) as usize];
            let sign = if key.protocol() == protocol::TCP { Sign::tcp(flags) } else { Sign::DATAGRAM };
            if let Some(flow) = found {
                assert_eq!(flow.key(), key, "an entry of another key");
                shared.checked.fetch_add(1, Ordering::Relaxed);
                if flow.observe(direction, sign, now, table.timeouts()) == Observed::Ours {
                    assert!(flow.judged(3).is_some());
                    if random(&mut state, 64) != 0 {
                        continue;
                    }
                }
                worker.remove(&reader, flow);
            }
            let new = NewFlow { direction, sign, account, joined: false, epoch: 3, verdict: Ok(()) };
            match worker.insert(table, &reader, key, &new, now) {
                Ok((flow, _)) => assert_eq!(flow.key(), key, "an entry of another key"),
                // Another worker holds entries back: it should run.
                Err(Full::Table | Full::Account) => std::thread::yield_now(),
            }
        }
        // Held since the look-up, and still the flow that it was.
        for ((key, _), flow) in packets.iter().zip(&found) {
            assert!(flow.is_none_or(|flow| flow.key() == *key), "an entry was used again under a reader");
        }
        reader.quiesce();
        worker.turn(&reader, now);
    }
}

#[test]
fn flows_stay_whole_and_single_and_no_entry_is_lost_under_many_workers() {
    let domain = Domain::new(WORKERS, 64);
    let sizes = Sizes { buckets: 400, entries: 1600 + WORKERS * 256, reserve: 256 };
    let table = FlowTable::of(&domain, sizes, (TIMEOUTS, usize::MAX), WORKERS, SEED);
    let shared = Shared { stop: AtomicBool::new(false), time: AtomicU64::new(0), checked: AtomicU64::new(0) };
    let mut workers: Vec<FlowWorker> = (0..WORKERS).map(|index| table.worker(index)).collect();
    std::thread::scope(|scope| {
        for (index, worker) in workers.iter_mut().enumerate() {
            let ways: Vec<_> = Compare::ALL.into_iter().filter_map(|way| table.with_compare(way)).collect();
            let table = ways[index % ways.len()].clone();
            let (shared, domain) = (&shared, &domain);
            scope.spawn(move || {
                let stop = Stop(&shared.stop);
                let reader = domain.register("stress").unwrap();
                work(&table, worker, reader, shared, index as u64);
                drop(stop);
            });
        }
        let began = Instant::now();
        while !shared.stop.load(Ordering::Relaxed) {
            let enough = has_seen_everything(&table.totals());
            if began.elapsed() > if enough { RUN } else { LONGEST } {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        drop(Stop(&shared.stop));
    });
    let totals = table.totals();
    let checked = shared.checked.load(Ordering::Relaxed);
    println!("{totals:?}, {} live, {checked} hits checked", totals.live());
    assert!(checked > 0 && has_seen_everything(&totals), "{totals:?}");
    let (settled, tentative) = words(&table);
    assert_eq!((settled as u64, tentative), (totals.live(), 0));
    let accounts = table.shared.accounts.iter().map(|account| u64::from(account.load(Ordering::Relaxed)));
    assert_eq!(accounts.sum::<u64>(), totals.live(), "each flow is on one account");
    let kept: usize = workers.iter().map(FlowWorker::kept).sum();
    assert_eq!(table.shared.pool.len(&table.shared.entries) + kept + settled, table.room());
    no_key_is_there_twice(&table);
}

fn has_seen_everything(totals: &FlowTotals) -> bool {
    let FlowTotals { inserted, expired, replaced, evicted, refused: _, collided } = totals;
    [inserted, expired, replaced, collided].into_iter().chain(evicted).all(|count| *count > 0)
}

fn no_key_is_there_twice(table: &FlowTable) {
    let lines = &table.shared.lines;
    let places = (0..lines.buckets()).flat_map(super::lines::Place::of);
    let words = places.map(|place| lines.load(place)).filter(|word| !word.is_empty());
    let mut keys: Vec<_> =
        words.map(|word| table.shared.entries[word.entry() as usize].key().words()).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
}
