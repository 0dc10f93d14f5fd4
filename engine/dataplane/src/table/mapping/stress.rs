//! Readers check every value they read while the writer does everything at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]

use super::tests::SEED;
use super::*;
use crate::table::Reader;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::time::Instant;

/// How long the readers and the writer run.
const RUN: Duration = Duration::from_secs(2);
/// Keys that are always there, and whose values are replaced.
const STABLE: u32 = 2_000;
/// Keys that come and go one by one.
const CHURN: u32 = 3_000;
/// Keys that come and go together, so that the table grows and shrinks.
const WAVE: u32 = 40_000;
/// Keys that are removed one after the other, never to return.
const DOOMED: u32 = 100_000;

/// A value that shows whether it is whole and whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Sealed {
    key: MappingKey,
    version: u64,
    seal: u64,
}

impl Sealed {
    fn new(key: MappingKey, version: u64) -> Self {
        Self {
            key,
            version,
            seal: (key.word() ^ version.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    fn is_of(&self, key: MappingKey) -> bool {
        self.key == key && self.seal == Self::new(key, self.version).seal
    }
}

/// Key `number` of one of the groups above.
fn key(group: u32, number: u32) -> MappingKey {
    MappingKey::new(VnetId::new(group).unwrap(), Ipv4Addr::from_bits(number))
}

fn random(state: &mut u64, below: u32) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) % u64::from(below)) as u32
}

struct Shared {
    stop: AtomicBool,
    /// Doomed keys below this are gone.
    gone: AtomicU32,
    checked: AtomicU64,
}

fn read(table: &Table<Sealed>, mut reader: Reader, shared: &Shared, mut state: u64) {
    let mut seen = vec![0; STABLE as usize];
    while !shared.stop.load(Ordering::Relaxed) {
        let gone = shared.gone.load(Ordering::Acquire);
        let keys: [MappingKey; 48] = core::array::from_fn(|i| match i % 4 {
            0 => key(1, random(&mut state, STABLE)),
            1 => key(2, random(&mut state, CHURN)),
            2 => key(3, random(&mut state, WAVE)),
            _ => key(4, random(&mut state, DOOMED)),
        });
        let mut found = [None; 48];
        table.find_burst(&reader, &keys, &mut found);
        for (i, (key, found)) in keys.iter().zip(found).enumerate() {
            let found = found.map(Found::value);
            assert!(found.is_none_or(|value| value.is_of(*key)), "a wrong value for {key:?}");
            let number = key.ipv4().to_bits();
            match i % 4 {
                0 => {
                    let version = found.expect("a key that is always there is found").version;
                    let newest = &mut seen[number as usize];
                    assert!(version >= *newest, "an older value after a newer one");
                    *newest = version;
                }
                3 => assert!(found.is_none() || number >= gone, "a removed key is found"),
                _ => {}
            }
        }
        shared.checked.fetch_add(48, Ordering::Relaxed);
        if random(&mut state, 1000) == 0 {
            reader.offline(std::thread::yield_now);
        } else {
            reader.quiesce();
        }
    }
}

/// Changes of every kind; returns how many, and how many resizes there were.
fn write(writer: &mut Writer<Sealed>, shared: &Shared) -> (u64, u32) {
    let (mut state, mut version, mut changes) = (99, 0, 0);
    let (mut wave, mut rising) = (0, true);
    let until = Instant::now() + RUN;
    while Instant::now() < until {
        for _ in 0..64 {
            version += 1;
            let stable = key(1, random(&mut state, STABLE));
            writer.insert(stable, Sealed::new(stable, version)).unwrap();
            let churn = key(2, random(&mut state, CHURN));
            // Refused only while a reader is not scheduled for long.
            if random(&mut state, 2) == 0 {
                let _ = writer.insert(churn, Sealed::new(churn, version));
            } else {
                writer.remove(churn);
            }
            let moving = key(3, wave);
            if rising {
                // A refusal leaves a hole in the wave, which nobody counts on.
                let _ = writer.insert(moving, Sealed::new(moving, version));
                wave += 1;
                rising = wave < WAVE;
            } else {
                writer.remove(moving);
                wave = wave.saturating_sub(1);
                rising = wave == 0;
            }
            changes += 3;
            let gone = shared.gone.load(Ordering::Relaxed);
            if version % 8 == 0 && gone < DOOMED {
                writer.remove(key(4, gone)).unwrap();
                shared.gone.store(gone + 1, Ordering::Release);
            }
            assert!(writer.in_limbo() <= writer.domain().limbo_limit());
        }
    }
    (changes, writer.generation())
}

#[test]
fn readers_see_whole_and_right_values_while_the_table_changes_and_resizes() {
    let domain = Domain::new(8, 512);
    let (mut writer, table) = Writer::new(&domain, 0, SEED);
    for number in 0..STABLE {
        writer.insert(key(1, number), Sealed::new(key(1, number), 0)).unwrap();
    }
    for number in 0..DOOMED {
        writer.insert(key(4, number), Sealed::new(key(4, number), 0)).unwrap();
    }
    let shared = Shared { stop: AtomicBool::new(false), gone: AtomicU32::new(0), checked: AtomicU64::new(0) };
    let ways: Vec<_> = Compare::ALL.into_iter().filter_map(|way| table.with_compare(way)).collect();
    let (changes, resizes) = std::thread::scope(|scope| {
        for (number, table) in ways.iter().enumerate() {
            let (shared, domain) = (&shared, &domain);
            scope.spawn(move || {
                let stop = Stop(&shared.stop);
                read(table, domain.register("stress").unwrap(), shared, number as u64);
                drop(stop);
            });
        }
        let stop = Stop(&shared.stop);
        let done = write(&mut writer, &shared);
        drop(stop);
        done
    });
    let checked = shared.checked.load(Ordering::Relaxed);
    println!("{changes} changes, {resizes} resizes, {checked} values checked");
    assert!(resizes > 0 && checked > 0);
    for number in 0..STABLE {
        assert!(writer.get(key(1, number)).unwrap().is_of(key(1, number)));
    }
}

/// Stops everybody when one is done or has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
