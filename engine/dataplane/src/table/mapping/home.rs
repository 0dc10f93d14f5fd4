//! Mappings in the table: what nodes of one host have in common is there once, and most of a mapping is that.

use super::row::Tag;
use super::table::{Found, Table, View};
use super::writer::{Memory, TableFull, Writer};
use super::{Compare, MappingKey};
use crate::address::{Locator, LocatorStem};
use crate::id::PortId;
use crate::table::qsbr::{Domain, Reader};
use crate::wire::checksum::Sum;
use std::sync::Arc;

/// How the interface that has an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// It may send and receive.
    Live,
    /// The same; and whoever uses the mapping is to say so, or it will be forgotten.
    Ageing,
    /// It is provisioned, and neither sends nor receives.
    Down,
    /// It was terminated a short while ago.
    Gone,
}

impl State {
    /// Whether it may send and receive.
    #[inline(always)]
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Ageing)
    }
}

/// Where a virtual address is. Immutable: a change publishes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Its host and slot; in the vnet of its key.
    pub locator: Locator,
    /// A second location that is accepted as a source, while it moves.
    pub also_accept: Option<Locator>,
    /// Its port, if it is on this host.
    pub local: Option<PortId>,
    /// How the interface that has it is.
    pub state: State,
}

/// A mapping without what its key says and without its slot: the same for all nodes of a host of which there is nothing
/// else to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(align(32))]
pub struct Home {
    pub(crate) stem: LocatorStem,
    also_accept: Option<Locator>,
    pub(crate) local: Option<PortId>,
    pub(crate) state: State,
}

// It never lies across two cache lines, and a chunk of them fills huge pages.
const _: () = assert!(size_of::<Home>() == 32);

impl Mapping {
    fn split(self) -> (Home, Tag) {
        let Self { locator, also_accept, local, state } = self;
        let (stem, slot) = locator.split();
        (Home { stem, also_accept, local, state }, Tag::new(slot))
    }

    fn join(key: MappingKey, home: &Home, tag: Tag) -> Self {
        let Home { stem, also_accept, local, state } = *home;
        Self { locator: stem.join(tag.get(), key.vnet()), also_accept, local, state }
    }
}

impl Found<'_, Home> {
    /// The mapping, of the key that was looked up.
    #[inline]
    #[must_use]
    pub fn mapping(self, key: MappingKey) -> Mapping {
        Mapping::join(key, self.value(), self.tag())
    }

    /// What [`Mapping::locator`] would be, as it lies in memory: its first eight octets, and the next four.
    #[inline(always)]
    pub(crate) const fn words(self, key: MappingKey) -> (u64, u32) {
        self.value().stem.words(self.tag().get(), key.vnet())
    }

    /// The one's-complement sum of the locator's words.
    #[inline(always)]
    pub(crate) const fn sum(self, key: MappingKey) -> Sum {
        self.value().stem.sum(self.tag().get(), key.vnet())
    }
}

/// What a look-up of a mapping found.
pub type FoundMapping<'r> = Found<'r, Home>;

/// The mapping table, for a burst.
pub type MappingView<'r> = View<'r, Home>;

/// The mapping table, for readers: cheap to clone, one per worker.
#[derive(Debug, Clone)]
pub struct MappingTable(Table<Home>);

impl MappingTable {
    /// The same table, its keys compared in the given way; `None` where the processor has no such instructions.
    #[must_use]
    pub fn with_compare(&self, compare: Compare) -> Option<Self> {
        self.0.with_compare(compare).map(Self)
    }

    /// How keys are compared.
    #[must_use]
    pub const fn compare(&self) -> Compare {
        self.0.compare()
    }

    /// The mapping of a key.
    ///
    /// # Panics
    /// If the reader is registered with another domain.
    #[inline]
    #[must_use]
    pub fn lookup(&self, reader: &Reader, key: MappingKey) -> Option<Mapping> {
        self.0.find(reader, key).map(|found| found.mapping(key))
    }

    /// What is found for many keys: `found[i]` becomes that of `keys[i]`. Faster than one by one, since memory is asked for
    /// all of them at once. It stays valid until the reader quiesces, whatever the writer does.
    ///
    /// # Panics
    /// If the reader is registered with another domain.
    #[inline]
    pub fn find_burst<'r>(
        &'r self,
        reader: &'r Reader,
        keys: &[MappingKey],
        found: &mut [Option<FoundMapping<'r>>],
    ) {
        self.0.find_burst(reader, keys, found);
    }

    /// The table now, for look-ups in steps.
    ///
    /// # Panics
    /// If the reader is registered with another domain.
    #[inline]
    #[must_use]
    pub fn view<'r>(&'r self, reader: &'r Reader) -> MappingView<'r> {
        self.0.view(reader)
    }
}

/// The mapping table, for its one writer; see [`Writer`].
#[derive(Debug)]
pub struct MappingWriter(Writer<Home>);

impl MappingWriter {
    pub(super) fn new(domain: &Arc<Domain>, expected: usize, seed: [u64; 2]) -> (Self, MappingTable) {
        let (writer, table) = Writer::new(domain, expected, seed);
        (Self(writer), MappingTable(table))
    }

    /// Adds a mapping or replaces it; returns the one that there was. Its locator's vnet is its key's.
    ///
    /// # Errors
    /// [`TableFull`], and nothing has changed. Never for a key that has a mapping.
    pub fn insert(&mut self, key: MappingKey, mapping: Mapping) -> Result<Option<Mapping>, TableFull> {
        let had = self.0.insert_tagged(key, mapping.split())?;
        Ok(had.map(|(home, tag)| Mapping::join(key, &home, tag)))
    }

    /// Removes a mapping; returns it. No look-up that begins afterwards finds it.
    pub fn remove(&mut self, key: MappingKey) -> Option<Mapping> {
        self.0.remove_tagged(key).map(|(home, tag)| Mapping::join(key, &home, tag))
    }

    /// The mapping that a key has, or will have when the table is no longer behind.
    #[must_use]
    pub fn get(&self, key: MappingKey) -> Option<Mapping> {
        self.0.get_tagged(key).map(|(home, tag)| Mapping::join(key, &home, tag))
    }

    /// How many mappings there are, counting those that wait to be added again.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no mapping.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether changes wait, or the next one would, for a reader that holds limbo full.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.0.is_behind()
    }

    /// Bytes taken; see [`Writer::memory`].
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.0.memory()
    }

    /// The domain that its readers must be registered with.
    #[must_use]
    pub fn domain(&self) -> &Arc<Domain> {
        self.0.domain()
    }

    /// Another handle for readers.
    #[must_use]
    pub fn table(&self) -> MappingTable {
        MappingTable(self.0.table())
    }

    /// Frees what can be freed and applies what waits; see [`Writer::maintain`].
    pub fn maintain(&mut self) {
        self.0.maintain();
    }
}
