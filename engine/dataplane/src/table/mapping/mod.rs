//! The mapping table: (vnet, virtual IPv4) to where it is. One writer, many readers, none of which ever waits.
//!
//! ```text
//! home bucket = high bits of a keyed hash
//!     line       | k0 | k1 | k2 | k3 | k4 | r0 r1 | r2 r3 | r4 |   64 bytes, compared at once
//! value slots    | .. | value of r3 | .. |                         immutable while a reader may see it
//! ```
//! A row is a value slot and six bits that are the key's own. Equal values share a slot: of the mappings of a host's nodes
//! there is one, in the order of hosts and not of nodes, so that most are in a cache.
//!
//! A look-up costs two misses at most, one after the other: the line, then the value. A bucket that is full overflows into the
//! next ones; a bucket that has an empty word ends the search. Keys never move within one generation of lines;
//! a resize builds a new generation beside the readers, in one sequential sweep, since homes keep their order.
//!
//! What changes under a reader: a value is replaced by storing another row. A removed key's word is overwritten
//! at once, so that no new look-up finds it; its word and its value are used again only after a grace period, so
//! that a row read after its key was matched always belongs to that key.

mod hash;
mod home;
mod lines;
mod row;
mod slots;
mod table;
mod values;
mod writer;

pub use compare::Compare;
pub use home::{FoundMapping, Mapping, MappingTable, MappingView, MappingWriter, State};
pub(crate) use table::bits;
pub use table::{Found, Query, Table, View};
pub use writer::{Memory, TableFull, Writer};

pub(crate) use hash::Hasher;

use super::qsbr::Domain;
use super::{compare, region};
use crate::id::VnetId;
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

    /// The virtual network.
    #[must_use]
    pub const fn vnet_id(self) -> VnetId {
        match VnetId::new(self.vnet()) {
            Ok(vnet) => vnet,
            // No key is made of anything else.
            Err(_) => VnetId::MIN,
        }
    }

    /// The virtual address.
    #[must_use]
    pub const fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0 as u32)
    }

    /// The key that lies in the table as this word.
    #[inline]
    const fn of_word(word: u64) -> Self {
        Self(word)
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

/// Makes a mapping table with room for `expected` mappings, and as many more as come.
///
/// `seed` must be secret and random: who knows it can choose addresses that pile up in one place.
#[must_use]
pub fn mapping_table(domain: &Arc<Domain>, expected: usize, seed: [u64; 2]) -> (MappingWriter, MappingTable) {
    MappingWriter::new(domain, expected, seed)
}

#[cfg(all(test, not(loom)))]
mod stress;
#[cfg(all(test, not(loom)))]
mod tests;
