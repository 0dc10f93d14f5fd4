//! The mapping table: (vnet, virtual IPv4) to where it is. One writer, many readers, none of which ever waits.
//!
//! ```text
//! home bucket = high bits of a keyed hash
//!     key line   | k0 | k1 | k2 | k3 | k4 | k5 | k6 | k7 |   64 bytes, compared at once
//!     index line | i0 | i1 | i2 | i3 | i4 | i5 | i6 | i7 |   32 bytes, fetched together with it
//! value slots    | .. | value of k3 | .. |                   immutable while a reader may see it
//! ```
//! A look-up costs two dependent misses: the two lines, then the value. A bucket that is full overflows into the
//! next ones; a bucket that has an empty word ends the search. Keys never move within one generation of lines;
//! a resize builds a new generation beside the readers, in one sequential sweep, since homes keep their order.
//!
//! What changes under a reader: a value is replaced by storing another index. A removed key's word is overwritten
//! at once, so that no new look-up finds it; its word and its value are used again only after a grace period, so
//! that an index read after its key was matched always belongs to that key.

mod hash;
mod lines;
mod slots;
mod table;
mod writer;

pub use compare::Compare;
pub use table::{Query, Table, View};
pub use writer::{Memory, TableFull, Writer};

pub(crate) use hash::Hasher;

use super::qsbr::Domain;
use super::{compare, region};
use crate::address::Locator;
use crate::id::{PortId, VnetId};
use core::fmt;
use core::net::Ipv4Addr;
use std::sync::Arc;

/// A key of the mapping table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MappingKey(u64);

impl MappingKey {
    /// The key of an address in a virtual network.
    #[inline]
    #[must_use]
    pub fn new(vnet: VnetId, ipv4: Ipv4Addr) -> Self {
        // A vnet id is at least 1, so a key is at least 2^32: smaller words are free for marks.
        Self(u64::from(vnet.get()) << 32 | u64::from(ipv4.to_bits()))
    }

    /// The virtual network's id, as a number.
    #[must_use]
    pub const fn vnet(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The virtual address.
    #[must_use]
    pub const fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0 as u32)
    }

    /// The word that lies in the table.
    #[inline]
    const fn word(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for MappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.vnet(), self.ipv4())
    }
}

/// Where a virtual address is. Immutable: a change publishes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Its host and slot.
    pub locator: Locator,
    /// A second location that is accepted as a source, while it moves.
    pub also_accept: Option<Locator>,
    /// Its port, if it is on this host.
    pub local: Option<PortId>,
    /// Whether it may send and receive.
    pub live: bool,
}

// A power of two: a value never lies across two cache lines, and a chunk of them fills huge pages.
const _: () = assert!(size_of::<Mapping>() == 32);

/// The mapping table, for readers.
pub type MappingTable = Table<Mapping>;

/// The mapping table, for a burst.
pub type MappingView<'r> = View<'r, Mapping>;

/// The mapping table, for its writer.
pub type MappingWriter = Writer<Mapping>;

/// Makes a mapping table with room for `expected` mappings, and as many more as come.
///
/// `seed` must be secret and random: who knows it can choose addresses that pile up in one place.
#[must_use]
pub fn mapping_table(domain: &Arc<Domain>, expected: usize, seed: [u64; 2]) -> (MappingWriter, MappingTable) {
    Writer::new(domain, expected, seed)
}

#[cfg(all(test, not(loom)))]
mod stress;
#[cfg(all(test, not(loom)))]
mod tests;
