//! Where state is kept: one ordered key-value store with transactions, behind a trait, so that an embedded file and
//! a distributed store can both be it.
//!
//! The trait knows nothing of networks or hosts; what the keys mean is the ledger's.

mod overlay;
mod redb;

pub use redb::RedbStore;

use std::path::PathBuf;

/// The kinds of things kept. A kind's number is its first key byte in stores that have no tables of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// `schema`, `incarnation`, `revision`, `compacted`, `layout`, `tags` (the last number given to one).
    Meta,
    /// id → entity.
    Entities,
    /// id → network.
    Networks,
    /// id → host.
    Hosts,
    /// id → node.
    Nodes,
    /// `node/name` → interface.
    Interfaces,
    /// vnet → network id. Unique.
    Vnets,
    /// Substrate prefix → host id. Unique.
    Prefixes,
    /// (host, slot) → interface id. Unique; all placements of a host lie together.
    Slots,
    /// (host, device) → interface id. Unique.
    Devices,
    /// (vnet, IPv4) → interface id. Unique; all addresses of a vnet lie together.
    Addresses,
    /// (vnet, MAC) → interface id. Unique.
    Macs,
    /// (what is used, who uses it) → nothing.
    Uses,
    /// (vnet, host) → how many placements of the vnet the host has.
    Presence,
    /// node id → nothing: nodes that are moving.
    Moves,
    /// (vnet, group, interface id) → nothing; all members of a group lie together.
    Members,
    /// (vnet, network, whether it is a route or a grant of transit, interface id) → nothing; all of a network lie together.
    Routes,
    /// id → rule.
    Rules,
    /// (whose traffic, rule id) → nothing; all rules that judge somebody's traffic lie together.
    Scopes,
    /// id → peering.
    Peerings,
    /// (entity, tag) → the tag's number.
    Tags,
    /// id → API token.
    Tokens,
    /// entity → how much it has.
    Usage,
    /// revision → who made it, and how.
    Audit,
    /// revision → what it touched.
    Log,
    /// number → event; `next` → the next one's number. Written beside the ledger's changes, without a revision.
    Events,
}

/// Trouble with the store itself.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be opened, or must not be.
    #[error("store {}: {problem}", path.display())]
    Open {
        /// The store's file.
        path: PathBuf,
        /// What is wrong, and what can be done.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("store: {0}")]
    Access(String),
}

/// What one step of a scan says: go on, or enough.
pub type Step = std::ops::ControlFlow<()>;

/// The state at one moment.
pub trait View {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Access`].
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Shows the keys that begin with `prefix` and are at or behind `from`, in order, until told that it is enough.
    ///
    /// # Errors
    /// [`StoreError::Access`].
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Step,
    ) -> Result<(), StoreError>;

    /// How many keys a table has.
    ///
    /// # Errors
    /// [`StoreError::Access`].
    fn count(&self, table: Table) -> Result<u64, StoreError>;
}

/// A transaction: sees its own writes; there is one at a time; dropped without commit, nothing has happened.
pub trait Update: View {
    /// Puts a value.
    ///
    /// # Errors
    /// [`StoreError::Access`].
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    /// [`StoreError::Access`].
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError>;

    /// Makes all of it visible and durable, or none.
    ///
    /// # Errors
    /// [`StoreError::Access`].
    fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// A store. Its calls block: never make them on a thread that drives other tasks.
pub trait Store: Send + Sync + 'static {
    /// The state now; later changes do not show in it.
    ///
    /// # Errors
    /// [`StoreError::Access`].
    fn view(&self) -> Result<Box<dyn View + '_>, StoreError>;

    /// Begins a transaction, once the one before it has ended.
    ///
    /// # Errors
    /// [`StoreError::Access`].
    fn update(&self) -> Result<Box<dyn Update + '_>, StoreError>;
}
