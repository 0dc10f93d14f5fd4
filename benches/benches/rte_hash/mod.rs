//! DPDK's `rte_hash`, one writer beside readers that take no lock: the bulk look-up of 64 keys, values of our kind.

use crate::{BURST, Result, Subject, of};
use overlane_dataplane::table::mapping::{Mapping, MappingKey};
use overlane_dpdk::hash::{HashReader, HashTable, HashWriter};
use overlane_dpdk::{Eal, EalOptions, Hugepages, MemoryMode};

/// MiB for what DPDK has besides tables.
const OTHER_MIB: u64 = 64;

pub(crate) struct RteHash(HashTable<Mapping>);

/// DPDK with memory for tables of so many keys, one at a time, and what the rows are called: memory that is not on
/// hugepages slows look-ups down.
pub(crate) fn dpdk(keys: u32) -> Result<(Eal, &'static str)> {
    let needed = (HashTable::<Mapping>::memory(keys as usize) >> 20) + OTHER_MIB;
    let memory_mib = u32::try_from(needed)?;
    let eal = Eal::init(EalOptions { memory_mib, hugepages: Hugepages::Auto, ..EalOptions::default() })?;
    let name = match eal.memory() {
        MemoryMode::Hugepages => "rte_hash",
        MemoryMode::NoHuge => "rte_hash, no hugepages",
    };
    Ok((eal, name))
}

const fn word(key: MappingKey) -> u64 {
    (key.vnet() as u64) << 32 | key.ipv4().to_bits() as u64
}

impl RteHash {
    pub(crate) fn new(eal: &Eal, nodes: Vec<(MappingKey, Mapping)>) -> Result<Self> {
        let nodes = nodes.into_iter().map(|(key, value)| (word(key), value));
        Ok(Self(HashTable::new(eal, "lookup", nodes)?))
    }
}

impl Subject for RteHash {
    type Looker<'a> = HashReader<'a, Mapping>;
    type Changer<'a> = HashWriter<'a, Mapping>;

    fn split(&mut self) -> Result<(Self::Looker<'_>, Self::Changer<'_>)> {
        Ok(self.0.split())
    }

    #[inline]
    fn look_up(looker: &mut Self::Looker<'_>, keys: &[MappingKey; BURST]) -> u64 {
        let mut found = [None; BURST];
        looker.lookup_burst(&keys.map(word), &mut found);
        found.iter().map(|mapping| of(*mapping)).sum()
    }

    fn replace(changer: &mut Self::Changer<'_>, key: MappingKey, value: Mapping) {
        // A key that is there needs no place.
        let _ = changer.replace(word(key), value);
    }
}
