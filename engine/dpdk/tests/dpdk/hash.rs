//! DPDK's hash table.

use overlane_dpdk::hash::{BURST, HashTable};

use crate::{Bench, Case, cases};

pub(crate) const CASES: &[Case] =
    cases![keys_are_found_with_their_values_and_others_are_not, value_that_was_found_outlives_its_successor];

fn keys_are_found_with_their_values_and_others_are_not(bench: &Bench) {
    const KEYS: u64 = 10_000;
    let key = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let entries = (0..KEYS).map(|number| (key(number), number));
    let mut table = HashTable::new(&bench.eal, "found", entries).unwrap();
    let (reader, mut writer) = table.split();
    writer.replace(key(5), 500_000).unwrap();
    for first in (0..KEYS + 256).step_by(BURST) {
        let numbers: [u64; BURST] = core::array::from_fn(|index| first + index as u64);
        let mut found = [None; BURST];
        reader.lookup_burst(&numbers.map(key), &mut found);
        let wanted = numbers.map(|number| match number {
            5 => Some(500_000),
            known if known < KEYS => Some(known),
            _ => None,
        });
        assert_eq!(found.map(|found| found.copied()), wanted);
    }
}

fn value_that_was_found_outlives_its_successor(bench: &Bench) {
    let mut table = HashTable::new(&bench.eal, "outlives", [(7, "old".to_owned())]).unwrap();
    let (reader, mut writer) = table.split();
    let mut found = [None; BURST];
    reader.lookup_burst(&[7; BURST], &mut found);
    for number in 0..100 {
        writer.replace(7, format!("new {number}")).unwrap();
    }
    assert_eq!(found[0].unwrap(), "old");
    reader.lookup_burst(&[7; BURST], &mut found);
    assert_eq!(found[BURST - 1].unwrap(), "new 99");
}
