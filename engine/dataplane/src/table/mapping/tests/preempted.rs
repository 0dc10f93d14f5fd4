//! A reader that is not scheduled, for seconds or across resizes, while the writer goes on at full speed.
#![allow(clippy::expect_used, reason = "helpers of tests are outside test functions")]

use super::super::table::Query;
use super::*;
use crate::table::qsbr::STALL;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::time::Instant;

/// How long the reader stands still, and how often every key changes meanwhile, at least.
const HELD: Duration = Duration::from_secs(2);
const ROUNDS: u64 = 24;
const LIMBO: usize = 2048;
/// Keys that are always there and change, and keys that are deleted.
const STABLE: u32 = 20_000;
const DOOMED: u32 = 20_000;

fn value(number: u32, version: u64) -> (MappingKey, u64) {
    (key(number), version)
}

/// What readers that run see and the writer tells.
struct Shared {
    stop: AtomicBool,
    /// Doomed keys below this are gone, doomed ones being those from `STABLE` on.
    gone: AtomicU32,
    checked: AtomicU64,
}

/// Looks keys up until it is told to stop, as a worker that runs does.
fn run(table: &Table<(MappingKey, u64)>, mut reader: Reader, shared: &Shared) {
    let mut newest = vec![0; STABLE as usize];
    let mut numbers = (0..STABLE + DOOMED).map(|n| n.wrapping_mul(7_919) % (STABLE + DOOMED)).cycle();
    while !shared.stop.load(Ordering::Relaxed) {
        let gone = shared.gone.load(Ordering::Acquire);
        let numbers: [u32; 32] = core::array::from_fn(|_| numbers.next().unwrap());
        let mut found = [None; 32];
        table.find_burst(&reader, &numbers.map(key), &mut found);
        for (number, found) in numbers.into_iter().zip(found) {
            let found = found.map(Found::value);
            assert!(found.is_none_or(|found| found.0 == key(number)), "a wrong value for {number}");
            match newest.get_mut(number as usize) {
                Some(newest) => {
                    let version = found.expect("a key that is always there is found").1;
                    assert!(version >= *newest, "an older value after a newer one");
                    *newest = version;
                }
                None => assert!(found.is_none() || number >= gone, "a deleted key is found"),
            }
        }
        shared.checked.fetch_add(32, Ordering::Relaxed);
        reader.quiesce();
    }
}

#[test]
fn a_reader_preempted_for_seconds_costs_bounded_memory_and_the_writer_catches_up() {
    let domain = Domain::new(4, LIMBO);
    let (mut writer, table) = Writer::new(&domain, 0, SEED);
    for number in 0..STABLE + DOOMED {
        writer.insert(key(number), value(number, 0)).unwrap();
    }
    let mut stopped = domain.register("stopped").unwrap();
    let shared =
        Shared { stop: AtomicBool::new(false), gone: AtomicU32::new(STABLE), checked: AtomicU64::new(0) };
    let ways = every_way(&table);
    let (changes, version) = std::thread::scope(|scope| {
        for table in ways.iter().rev().take(2) {
            let (shared, reader) = (&shared, domain.register("running"));
            scope.spawn(move || {
                let stop = Stop(&shared.stop);
                run(table, reader.unwrap(), shared);
                drop(stop);
            });
        }
        let stop = Stop(&shared.stop);
        let done = go_on(&mut writer, &table, &stopped, &shared);
        drop(stop);
        done
    });
    // Only the newest wish of each key waits.
    let waiting = writer.pending();
    assert!(writer.is_behind() && waiting <= (STABLE + DOOMED) as usize);
    assert!(changes > 10 * waiting as u64, "{changes} changes, {waiting} wait");
    // It moves on: each time a limbo full is done, and so everything, in as few turns as that takes.
    let most = waiting / LIMBO + 2;
    let turns = (1..=most).find(|_| {
        stopped.quiesce();
        writer.maintain();
        !writer.is_behind()
    });
    let turns =
        turns.unwrap_or_else(|| panic!("behind after {most} turns: {} of {waiting}", writer.pending()));
    println!(
        "{changes} changes, {waiting} waited and took {turns} turns, {} values checked",
        shared.checked.load(Ordering::Relaxed)
    );
    for table in &ways {
        for number in 0..STABLE + DOOMED {
            let wanted = (number < STABLE).then(|| value(number, version));
            assert_eq!(table.lookup(&stopped, key(number)).copied(), wanted, "{number}");
        }
    }
    for _ in 0..2 {
        stopped.quiesce();
        writer.maintain();
    }
    assert_eq!((writer.in_limbo(), writer.pending(), writer.memory().resize), (0, 0, 0));
    assert_eq!(domain.stalled(), None);
}

/// The writer, while a reader stands still that holds what it has looked up; gives how many changes were made, and the
/// version that every stable key should have.
fn go_on(
    writer: &mut Writer<(MappingKey, u64)>,
    table: &Table<(MappingKey, u64)>,
    stopped: &Reader,
    shared: &Shared,
) -> (u64, u64) {
    let domain = writer.domain().clone();
    let held: Vec<_> = (0..1000).map(|number| table.lookup(stopped, key(number)).unwrap()).collect();
    // Silent from the first question on.
    assert_eq!(domain.stalled(), None);
    let (began, mut changes, mut version, mut bound) = (Instant::now(), 0, 0, None);
    while began.elapsed() < HELD || version < ROUNDS {
        version += 1;
        for number in 0..STABLE {
            assert!(writer.insert(key(number), value(number, version)).unwrap().is_some());
            changes += 1;
            let gone = shared.gone.load(Ordering::Relaxed);
            if number % 8 == 0 && gone < STABLE + DOOMED {
                assert!(writer.remove(key(gone)).is_some());
                shared.gone.store(gone + 1, Ordering::Release);
                changes += 1;
            }
            assert!(writer.in_limbo() <= LIMBO);
        }
        // What every key's wish took is all that is ever taken.
        if shared.gone.load(Ordering::Relaxed) == STABLE + DOOMED {
            let memory = writer.memory();
            assert_eq!(*bound.get_or_insert(memory), memory, "memory grows while a reader stands still");
        }
    }
    assert_eq!(writer.in_limbo(), LIMBO, "limbo fills, and no more");
    assert!(bound.is_some(), "everything has happened");
    let stalled = domain.stalled().expect("a reader that is silent for over a second is told");
    assert!(stalled.reader == "stopped" && stalled.silent >= STALL, "{stalled}");
    for (number, held) in (0..).zip(held) {
        assert_eq!(*held, value(number, 0), "what a reader holds has changed under it");
    }
    (changes, version)
}

/// Stops everybody when one is done or has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_look_up_begun_before_resizes_ends_in_the_lines_that_it_began_in() {
    let (mut writer, table, mut reader) = table_of(1024, 0);
    for number in 0..500 {
        writer.insert(key(number), number).unwrap();
    }
    let (before, view) = (writer.generation(), table.view(&reader));
    let asked: Vec<Query> = (0..500).map(|number| view.ask(key(number))).collect();
    for number in 1_000..6_000 {
        writer.insert(key(number), number).unwrap();
    }
    assert!(writer.generation() > before + 1);
    for number in 0..500 {
        assert_eq!(writer.remove(key(number)), Some(number));
    }
    // Would take the slots of those.
    for number in 6_000..7_000 {
        writer.insert(key(number), number).unwrap();
    }
    let mut found = [None; 500];
    let _ = view.answer(asked.iter().copied().zip(&mut found));
    for ((number, found), query) in (0..).zip(found).zip(asked) {
        let found = found.or_else(|| view.answer_rest(query));
        assert_eq!(found.map(Found::value), Some(&number));
        assert_eq!(table.lookup(&reader, key(number)), None);
    }
    assert!(writer.memory().resize > 0);
    // The first time may begin another resize, now that there is room.
    for _ in 0..2 {
        reader.quiesce();
        writer.maintain();
    }
    assert_eq!(writer.memory().resize, 0);
}
