#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are outside test functions"
)]

use super::*;
use crate::table::Reader;
use proptest::prelude::*;

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn key(number: u32) -> MappingKey {
    MappingKey::new(VnetId::new(1 + number % 3).unwrap(), Ipv4Addr::from_bits(number))
}

fn table_of<V: Copy + Send + Sync>(limbo: usize, expected: usize) -> (Writer<V>, Table<V>, Reader) {
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
