//! On whose account flows are kept, so that nobody takes all the room.

use crate::id::{PortId, VnetId};
use crate::table::mapping::Hasher;
use core::net::Ipv4Addr;

/// Whoever opened a flow: a node of this host by its port, or one on the substrate by its address, of which several may
/// share an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account(u16);

/// Accounts of those on the substrate, as a power of two.
const REMOTE_BITS: u32 = 12;

impl Account {
    /// How many there are.
    pub(super) const COUNT: usize = PortId::LIMIT + (1 << REMOTE_BITS);

    /// That of a node of this host.
    #[must_use]
    pub const fn of_port(port: PortId) -> Self {
        Self(port.index() as u16)
    }

    /// That of a node elsewhere. The hash is keyed: nobody can choose an address that shares another's.
    pub(super) fn of_remote(hasher: &Hasher, vnet: VnetId, address: Ipv4Addr) -> Self {
        let hash = hasher.hash(u64::from(vnet.get()) << 32 | u64::from(address.to_bits()));
        Self(PortId::LIMIT as u16 + (hash >> (u64::BITS - REMOTE_BITS)) as u16)
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The one that is kept as this number.
    pub(super) const fn from_index(index: usize) -> Self {
        Self(index as u16)
    }
}
