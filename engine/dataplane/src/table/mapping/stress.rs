//! Readers check every value they read while the writer does everything at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]

use super::tests::SEED;
use super::*;
use crate::table::Reader;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::time::Instant;

/// How long the readers and the writer run at least, and at most while something has not happened yet.
const RUN: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
/// Fewest readers; there is one for each way to compare. With many more than cores the writer would wait for them.
const READERS: usize = 2;
/// Keys that are always there, and whose values are replaced.
const STABLE: u32 = 2_000;
/// Those of them that half of all looks and changes are for, so that they meet.
const HOT: u32 = 8;
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

/// One of the keys that are always there.
fn stable(state: &mut u64) -> MappingKey {
    let among = if random(state, 2) == 0 { HOT } else { STABLE };
    key(1, random(state, among))
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
            0 => stable(&mut state),
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
        // Often enough that it seldom loses its core while it is online: the writer would wait for it then.
        if random(&mut state, 64) == 0 {
            reader.offline(std::thread::yield_now);
        } else {
            reader.quiesce();
        }
    }
}

/// What the writer has done.
#[derive(Debug, Default)]
struct Seen {
    /// Values that were replaced.
    updated: u64,
    /// Keys that were removed, and of these, that came back.
    removed: u64,
    returned: u64,
    /// Resizes to more lines and to fewer.
    grown: u32,
    shrunk: u32,
    /// Times that value slots were given back, so that values had to move.
    compacted: u32,
}

impl Seen {
    fn everything(&self) -> bool {
        let Self { updated, removed, returned, grown, shrunk, compacted } = *self;
        [updated, removed, returned]
            .into_iter()
            .chain([grown, shrunk, compacted].map(u64::from))
            .all(|n| n > 0)
    }
}

/// Changes of every kind.
fn write(writer: &mut Writer<Sealed>, shared: &Shared) -> Seen {
    let (mut state, mut version, mut seen) = (99, 0, Seen::default());
    let (mut wave, mut rising) = (0, true);
    let (mut lines, mut values) = (writer.lines().homes(), writer.memory().values);
    let mut left = vec![false; CHURN as usize];
    let began = Instant::now();
    while began.elapsed() < if seen.everything() { RUN } else { LONGEST }
        && !shared.stop.load(Ordering::Relaxed)
    {
        for _ in 0..64 {
            version += 1;
            let stable = stable(&mut state);
            writer.insert(stable, Sealed::new(stable, version)).unwrap();
            seen.updated += 1;
            let number = random(&mut state, CHURN);
            let (churn, left) = (key(2, number), &mut left[number as usize]);
            if random(&mut state, 2) == 0 {
                // Refused only while a reader is not scheduled for long.
                if writer.insert(churn, Sealed::new(churn, version)).is_ok() {
                    seen.returned += u64::from(std::mem::take(left));
                }
            } else if writer.remove(churn).is_some() {
                seen.removed += 1;
                *left = true;
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
            let gone = shared.gone.load(Ordering::Relaxed);
            if version % 8 == 0 && gone < DOOMED {
                writer.remove(key(4, gone)).unwrap();
                shared.gone.store(gone + 1, Ordering::Release);
            }
            let before = std::mem::replace(&mut lines, writer.lines().homes());
            seen.grown += u32::from(lines > before);
            seen.shrunk += u32::from(lines < before);
            assert!(writer.in_limbo() <= writer.domain().limbo_limit());
        }
        let before = std::mem::replace(&mut values, writer.memory().values);
        seen.compacted += u32::from(values < before);
    }
    seen
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
    let seen = std::thread::scope(|scope| {
        for (number, table) in ways.iter().cycle().take(READERS.max(ways.len())).enumerate() {
            let (shared, domain) = (&shared, &domain);
            scope.spawn(move || {
                let stop = Stop(&shared.stop);
                read(table, domain.register("stress").unwrap(), shared, number as u64);
                drop(stop);
            });
        }
        let stop = Stop(&shared.stop);
        let seen = write(&mut writer, &shared);
        drop(stop);
        seen
    });
    let checked = shared.checked.load(Ordering::Relaxed);
    println!("{seen:?}, {checked} values checked by {} ways to compare", ways.len());
    assert!(seen.everything() && checked > 0, "{seen:?}");
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
