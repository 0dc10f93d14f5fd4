#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are outside test functions"
)]

mod adversarial;
mod preempted;

use super::row::Row;
use super::*;
use crate::table::Reader;
use proptest::prelude::*;

pub(super) const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn key(number: u32) -> MappingKey {
    MappingKey::new(VnetId::new(1 + number % 3).unwrap(), Ipv4Addr::from_bits(number))
}

fn table_of<V: Copy + Eq + core::hash::Hash + Send + Sync>(
    limbo: usize,
    expected: usize,
) -> (Writer<V>, Table<V>, Reader) {
    let domain = Domain::new(4, limbo);
    let (writer, table) = Writer::new(&domain, expected, SEED);
    let reader = domain.register("test").unwrap();
    (writer, table, reader)
}

/// The table in every way to compare that this processor has.
fn every_way<V: Copy + Send + Sync>(table: &Table<V>) -> Vec<Table<V>> {
    Compare::ALL.into_iter().filter_map(|way| table.with_compare(way)).collect()
}

#[test]
fn what_was_inserted_is_found_with_its_newest_value_and_nothing_else() {
    let (mut writer, table, mut reader) = table_of(1024, 0);
    for round in 0..3 {
        for number in 0..10_000 {
            let had = writer.insert(key(number), (number, round)).unwrap();
            assert_eq!(had, (round > 0).then(|| (number, round - 1)));
            if number % 500 == 0 {
                reader.quiesce();
            }
        }
        reader.quiesce();
        writer.maintain();
        assert_eq!(writer.len(), 10_000);
        for table in every_way(&table) {
            for number in 0..10_000 {
                assert_eq!(
                    table.lookup(&reader, key(number)),
                    Some(&(number, round)),
                    "{:?}",
                    table.compare()
                );
            }
            assert_eq!(table.lookup(&reader, key(10_001)), None);
        }
    }
}

#[test]
fn a_removed_key_is_invisible_at_once_and_its_value_stays_whole_for_who_holds_it() {
    let (mut writer, table, reader) = table_of(8, 0);
    writer.insert(key(1), 11).unwrap();
    let held = table.lookup(&reader, key(1)).unwrap();
    assert_eq!(writer.remove(key(1)), Some(11));
    assert_eq!(table.lookup(&reader, key(1)), None);
    for number in 2..100 {
        writer.insert(key(number), number).unwrap();
    }
    assert_eq!(*held, 11);
    assert_eq!(writer.remove(key(1)), None);
}

/// Steps of the comparison with the oracle.
#[derive(Debug, Clone)]
enum Step {
    Insert(u32, u32),
    Remove(u32),
    InsertMany(u32, u32),
    RemoveMany(u32, u32),
    Quiesce,
    Maintain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..3000, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => (0u32..3000).prop_map(Step::Remove),
        1 => (0u32..3000, 1u32..600).prop_map(|(from, many)| Step::InsertMany(from, many)),
        1 => (0u32..3000, 1u32..900).prop_map(|(from, many)| Step::RemoveMany(from, many)),
        3 => Just(Step::Quiesce),
        1 => Just(Step::Maintain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn does_what_hashbrown_does(limbo in 1usize..200, steps in prop::collection::vec(step(), 1..120)) {
        let (mut writer, table, mut reader) = table_of(limbo, 0);
        let mut oracle = hashbrown::HashMap::new();
        for step in steps {
            match step {
                Step::Insert(number, value) => insert(&mut writer, &mut oracle, number, value)?,
                Step::InsertMany(from, many) => {
                    for number in from..from + many {
                        insert(&mut writer, &mut oracle, number, number ^ many)?;
                    }
                }
                Step::Remove(number) => {
                    prop_assert_eq!(writer.remove(key(number)), oracle.remove(&number));
                    prop_assert_eq!(table.lookup(&reader, key(number)), None);
                }
                Step::RemoveMany(from, many) => {
                    for number in from..from + many {
                        prop_assert_eq!(writer.remove(key(number)), oracle.remove(&number));
                    }
                }
                Step::Quiesce => reader.quiesce(),
                Step::Maintain => writer.maintain(),
            }
            prop_assert!(writer.in_limbo() <= limbo);
            prop_assert_eq!(writer.len(), oracle.len());
            for number in (0..3600).step_by(7) {
                prop_assert_eq!(writer.get(key(number)), oracle.get(&number).copied());
            }
        }
        // Each pass frees a limbo full at least.
        while writer.is_behind() {
            reader.quiesce();
            writer.maintain();
        }
        for table in every_way(&table) {
            for number in 0..4000 {
                prop_assert_eq!(table.lookup(&reader, key(number)), oracle.get(&number));
            }
        }
    }
}

/// Inserts into both, unless a reader that stands still keeps the table from it.
fn insert(
    writer: &mut Writer<u32>,
    oracle: &mut hashbrown::HashMap<u32, u32>,
    number: u32,
    value: u32,
) -> Result<(), TestCaseError> {
    match writer.insert(key(number), value) {
        Ok(had) => prop_assert_eq!(had, oracle.insert(number, value)),
        Err(error) => {
            prop_assert_eq!(error, TableFull::Behind);
            prop_assert_eq!(writer.get(key(number)), oracle.get(&number).copied());
        }
    }
    Ok(())
}

#[test]
fn a_reader_that_stops_fills_limbo_and_no_more_and_removals_take_effect_meanwhile() {
    const LIMBO: usize = 16;
    let (mut writer, table, mut stopped) = table_of(LIMBO, 1000);
    let reader = writer.domain().register("new look-ups").unwrap();
    for number in 0..600 {
        writer.insert(key(number), 0).unwrap();
    }
    let before = writer.memory();
    for round in 1..=50 {
        for number in 0..300 {
            writer.insert(key(number), round).unwrap();
        }
        assert!(writer.in_limbo() <= LIMBO);
    }
    assert!(writer.is_behind());
    for number in 200..600 {
        assert!(writer.remove(key(number)).is_some());
        assert_eq!(table.lookup(&reader, key(number)), None);
    }
    // A removed key that returns waits; those that keep coming and going are refused, and nothing grows.
    assert_eq!(writer.insert(key(599), 7), Ok(None));
    assert_eq!((writer.get(key(599)), table.lookup(&reader, key(599))), (Some(7), None));
    assert_eq!(writer.insert(key(5_000), 1), Err(TableFull::Behind));
    assert_eq!((writer.in_limbo(), writer.len()), (LIMBO, 201));
    assert_eq!(writer.memory().values, before.values);
    // It catches up, a limbo full each time the readers have moved on.
    drop(reader);
    while writer.is_behind() {
        stopped.quiesce();
        writer.maintain();
    }
    for number in 0..600 {
        let expected = (number < 200).then_some(50).or((number == 599).then_some(7));
        assert_eq!(table.lookup(&stopped, key(number)).copied(), expected, "{number}");
    }
    assert_eq!(writer.insert(key(5_000), 1), Ok(None));
}

#[test]
fn sequential_addresses_of_one_tenant_spread_like_any_others() {
    for seed in [SEED, [0, 0], [1, 2]] {
        let domain = Domain::new(1, 64);
        let (mut writer, _table) = Writer::new(&domain, 100_000, seed);
        // What a tenant can choose: runs, strides of powers of two, one bit at a time.
        let patterns: [fn(u32) -> u32; 3] = [|i| i, |i| i.rotate_left(8), |i| i << 15];
        for (vnet, pattern) in (1..).zip(patterns) {
            for number in 0..33_000 {
                let key = MappingKey::new(VnetId::new(vnet).unwrap(), Ipv4Addr::from_bits(pattern(number)));
                writer.insert(key, number).unwrap();
            }
        }
        let lines = writer.lines();
        let mut homes = vec![0u32; lines.homes() as usize];
        for (word, _) in lines.entries() {
            homes[lines.home(word) as usize] += 1;
        }
        // About 4.8 keys call a bucket home; of a Poisson distribution with that mean, 6 % are beyond 8 and one in
        // ten million beyond 20.
        let crowded = homes.iter().filter(|keys| **keys > 8).count();
        assert!(crowded * 100 < homes.len() * 8, "{crowded} of {} buckets overflow", homes.len());
        assert!(homes.iter().all(|keys| *keys <= 20), "{:?}", homes.iter().max());
    }
}

/// What `number` has for a value of 32 bytes when each is had by `sharing`.
fn wide(number: u32, sharing: u32) -> [u32; 8] {
    [number / sharing; 8]
}

#[test]
fn a_mapping_takes_at_most_64_bytes_while_the_table_grows_and_shrinks() {
    // Hosts with two nodes. With one each the value and its books are not shared.
    for (sharing, bytes) in [(2, 64), (1, 80)] {
        grow_and_shrink(sharing, bytes);
    }
}

fn grow_and_shrink(sharing: u32, bytes: usize) {
    let (mut writer, _table, mut reader) = table_of::<[u32; 8]>(256, 0);
    let mut turn = |writer: &mut Writer<_>, number: u32| {
        if number % 100 == 99 {
            reader.quiesce();
            writer.maintain();
        }
        if number % 10_000 == 9_999 {
            // What the last change or the first maintenance began, the second ends.
            reader.quiesce();
            writer.maintain();
            reader.quiesce();
            writer.maintain();
            let (memory, mappings) = (writer.memory(), writer.len());
            // Beside a chunk that is not full, and huge pages that are not.
            let slack = 3 * (2 << 20) + 64 * 1024;
            assert!(
                memory.resize == 0 && memory.total() <= bytes * mappings + slack,
                "{memory:?}, {mappings}"
            );
        }
    };
    for number in 0..500_000 {
        writer.insert(key(number), wide(number, sharing)).unwrap();
        turn(&mut writer, number);
    }
    for number in 0..490_000 {
        // Scattered over the slots.
        writer.remove(key(number / 7 + number % 7 * 70_000)).unwrap();
        turn(&mut writer, number);
    }
    assert_eq!(writer.len(), 10_000);
}

#[test]
fn readers_go_on_when_the_writer_is_gone() {
    let (mut writer, table, reader) = table_of(8, 0);
    for number in 0..1000 {
        writer.insert(key(number), number).unwrap();
    }
    // The reader has not moved since the table began to grow: old lines are still held back.
    assert!(writer.memory().resize > 0);
    drop(writer);
    assert_eq!(table.lookup(&reader, key(999)), Some(&999));
}

#[test]
fn equal_values_share_a_slot_that_is_free_again_when_nobody_holds_it() {
    let (mut writer, table, mut reader) = table_of::<u32>(64, 0);
    for number in 0..1000 {
        writer.insert(key(number), number % 10).unwrap();
    }
    assert_eq!(writer.values_held(), 10);
    for number in 0..1000 {
        assert_eq!(table.lookup(&reader, key(number)), Some(&(number % 10)));
    }
    // The last that holds one value goes, and one of many that hold another.
    for number in (0..1000).step_by(10).chain([1]) {
        writer.remove(key(number)).unwrap();
        reader.quiesce();
        writer.maintain();
    }
    assert_eq!(writer.values_held(), 9);
    assert_eq!(table.lookup(&reader, key(11)), Some(&1));
    // A replaced value is held until no reader can see it, and its slot is then another's.
    let held = table.lookup(&reader, key(12)).unwrap();
    for number in (2..1000).step_by(10) {
        writer.insert(key(number), 77).unwrap();
    }
    writer.maintain();
    assert_eq!((*held, writer.values_held()), (2, 10));
    reader.quiesce();
    while writer.is_behind() {
        writer.maintain();
        reader.quiesce();
    }
    writer.maintain();
    reader.quiesce();
    writer.maintain();
    assert_eq!(writer.values_held(), 9);
    assert_eq!(table.lookup(&reader, key(2)), Some(&77));
}

#[test]
fn mapping_comes_back_as_it_was_put_in_with_its_slot_and_vnet() {
    use crate::address::{HostPrefix, Layout, Locator};
    use crate::id::{PortId, Slot};
    let domain = Domain::new(1, 64);
    let (mut writer, table) = mapping_table(&domain, 0, SEED);
    let reader = domain.register("reader").unwrap();
    let mut all = Vec::new();
    for (vnet, slot, host, state) in
        (1..=4).flat_map(|vnet| (0..16).map(move |n| (vnet, n * 4 + 3, n as u64 / 8, (n + vnet as u8) % 4)))
    {
        let vnet = VnetId::new(vnet * 0x3f_0101).unwrap();
        let prefix = HostPrefix::new(
            Layout::Slot64,
            core::net::Ipv6Addr::from_bits(u128::from(0xfd00_0000_0000_0001 + host) << 64),
        );
        let locator =
            |slot| Locator::new(Layout::Slot64, prefix.unwrap(), Slot::new(slot).unwrap(), vnet).unwrap();
        let mapping = Mapping {
            locator: locator(slot),
            also_accept: (state == 1).then(|| locator(1)),
            local: (state == 2).then(|| PortId::new(7).unwrap()),
            state: if state == 3 { State::Down } else { State::Live },
        };
        let key = MappingKey::new(vnet, Ipv4Addr::new(10, 0, 0, slot));
        assert_eq!(writer.insert(key, mapping), Ok(None));
        all.push((key, mapping));
    }
    for (key, mapping) in &all {
        assert_eq!((table.lookup(&reader, *key), writer.get(*key)), (Some(*mapping), Some(*mapping)));
        let mut found = [None];
        table.find_burst(&reader, &[*key], &mut found);
        let found = found[0].unwrap();
        assert_eq!(
            (found.words(*key), found.sum(*key).fold()),
            (mapping.locator.words(), mapping.locator.sum())
        );
    }
    assert_eq!(writer.remove(all[0].0), Some(all[0].1));
    assert_eq!(table.lookup(&reader, all[0].0), None);
}

#[test]
fn rows_that_look_like_a_key_are_none() {
    use super::compare::{Scalar, Way};
    fn check<W: Way>() {
        let lines = super::lines::Lines::new(1, super::hash::Hasher::new(SEED));
        for (number, row) in [(1, 7), (2, 9), (3, 5)] {
            lines.put(lines.vacancy(0).unwrap(), key(number).word(), Row::of_bits(row));
        }
        // SAFETY: called only where the processor has the instructions.
        let find = |word| unsafe { lines.find::<W>(0, word) }.map(|(_, row)| row.bits());
        // The first two rows lie in one word, and the third in the next.
        assert_eq!((find(9 << 32 | 7), find(5), find(5 << 32)), (None, None, None));
        assert_eq!([1, 2, 3].map(|number| find(key(number).word())), [Some(7), Some(9), Some(5)]);
        // A row is replaced without its neighbour in the word.
        // SAFETY: as above.
        let (place, _) = unsafe { lines.find::<W>(0, key(1).word()) }.unwrap();
        lines.replace(place, Row::of_bits(8));
        assert_eq!([1, 2, 3].map(|number| find(key(number).word())), [Some(8), Some(9), Some(5)]);
    }
    check::<Scalar>();
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        if Compare::Avx2.is_available() {
            check::<super::compare::Avx2>();
        }
        if Compare::Avx512.is_available() {
            check::<super::compare::Avx512>();
        }
    }
}

#[test]
fn every_way_to_compare_finds_the_same_words() {
    let line = &super::compare::KeyLine::default();
    for (i, word) in line.words.iter().enumerate() {
        word.store(
            [0, 1, 2, 1 << 32, u64::MAX, 1 << 63, 0, 1 << 32 | 1][i],
            core::sync::atomic::Ordering::Relaxed,
        );
    }
    for word in [0, 1, 2, 3, 1 << 32, 1 << 32 | 1, 1 << 63, u64::MAX, 0xffff_ffff] {
        // SAFETY: each is called only where the processor has its instructions.
        unsafe {
            use super::compare::{Scalar, Way};
            let mask = Scalar::equal(line, word);
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            {
                use super::compare::{Avx2, Avx512};
                assert!(!Compare::Avx2.is_available() || Avx2::equal(line, word) == mask, "{word:#x}");
                assert!(!Compare::Avx512.is_available() || Avx512::equal(line, word) == mask, "{word:#x}");
            }
            let expected = line.words.iter().rev().fold(0, |mask, own| {
                mask << 1 | u32::from(own.load(core::sync::atomic::Ordering::Relaxed) == word)
            });
            assert_eq!(mask, expected, "{word:#x}");
        }
    }
}
