//! The ledger: what is provisioned, as records in a [`Store`], under one total order of revisions.
//!
//! Every write is one transaction that checks all its conditions, changes records and indexes together, and appends
//! to the log what it touched. A write that changes nothing makes no revision.

mod acting;
pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod delta;
pub(crate) mod entity;
mod external;
pub(crate) mod group;
pub(crate) mod host;
pub(crate) mod judge;
pub(crate) mod list;
pub(crate) mod moving;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod peering;
pub(crate) mod quota;
pub(crate) mod record;
mod report;
mod resolve;
mod resolved;
pub(crate) mod route;
pub(crate) mod rule;
mod size;
mod tag;
pub(crate) mod token;
mod transaction;
mod verify;

pub use acting::Acting;
pub(crate) use acting::{listed, shown};
pub use delta::{Audience, Catchup, catch_up, snapshot};
pub use moving::{ActiveMove, MoveStep};
pub(crate) use record::HostRecord;
pub(crate) use report::clipped;
pub use report::{Report, Reported};
pub use resolve::{Resolution, resolve};
pub(crate) use token::seconds;
pub use verify::verify;

use crate::access::Caller;
use crate::error::{Error, Result};
use crate::store::{Store, StoreError, Table, Update, View};
pub use audit::AuditLimits;
use overlane_api::access::Quota;
use overlane_dataplane::address::Layout;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
pub(crate) use transaction::Transaction;

/// The version of the records' meaning that this build reads and writes. Version 2 has rules and peerings, version 3 tokens,
/// quotas and the audit log, version 4 groups, version 5 networks behind routers: whoever does not know them must not serve it.
pub const SCHEMA: u64 = 5;
/// The oldest version that is one of this build's without them.
pub(crate) const OLDEST_SCHEMA: u64 = 1;

/// What the ledger needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The substrate's address layout. A store has one for its life.
    pub layout: Layout,
    /// How many changes are remembered for engines that catch up.
    pub log_revisions: u64,
    /// How much an entity may have, where its record says nothing else.
    pub quota: Quota,
    /// How much of the audit log is kept.
    pub audit: AuditLimits,
    /// A network with more addresses is on demand, unless it says otherwise; below half of that it is not any more.
    pub on_demand_above: u64,
}

/// Whether a write made something or confirmed what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there before.
    Created,
    /// It was there, and now is as asked.
    Confirmed,
}

/// What is provisioned. All its calls block.
pub struct Ledger {
    // Fields go in this order: the store before `open`, which tells that it is gone.
    store: Arc<dyn Store>,
    settings: Settings,
    incarnation: [u8; 16],
    revision: watch::Sender<u64>,
    /// How many interfaces connected engines said they can attach.
    engine_capacity: RwLock<HashMap<String, u32>>,
    /// Goes last, when the store is released.
    open: watch::Sender<()>,
}

/// Tells when a ledger is gone, and its store released with it.
pub struct Released(watch::Receiver<()>);

impl Released {
    /// Returns once nobody holds the ledger any more.
    pub async fn wait(mut self) {
        // Nothing is ever sent: it ends with the sender.
        while self.0.changed().await.is_ok() {}
    }
}

impl Ledger {
    /// Takes a store over: makes it a ledger's if it is empty, and checks that this build can work with it if not.
    ///
    /// # Errors
    /// [`StoreError::Open`] for a store of a newer schema or another layout.
    pub fn open(store: Arc<dyn Store>, path: &std::path::Path, settings: Settings) -> Result<Self> {
        let refuse = |problem: String| Error::Store(StoreError::Open { path: PathBuf::from(path), problem });
        let (found, layout) = {
            let view = store.view()?;
            (record::meta_number(&*view, "schema")?, view.get(Table::Meta, b"layout")?)
        };
        match found {
            None => {
                if store.view()?.count(Table::Meta)? != 0 {
                    return Err(refuse(
                        "has no schema version: it is not a store of this service".to_owned(),
                    ));
                }
                let mut update = store.update()?;
                let mut incarnation = [0; 16];
                getrandom::fill(&mut incarnation)?;
                update.put(Table::Meta, b"schema", &SCHEMA.to_be_bytes())?;
                update.put(Table::Meta, b"incarnation", &incarnation)?;
                update.put(Table::Meta, b"layout", settings.layout.name().as_bytes())?;
                update.commit()?;
            }
            Some(version @ OLDEST_SCHEMA..=SCHEMA) => {
                let layout = String::from_utf8_lossy(&layout.unwrap_or_default()).into_owned();
                if layout != settings.layout.name() {
                    return Err(refuse(format!(
                        "was made for the layout {layout}, the configuration says {}; the layout of a store cannot \
                         change",
                        settings.layout
                    )));
                }
                if version != SCHEMA {
                    let mut update = store.update()?;
                    quota::recount(&mut *update)?;
                    update.put(Table::Meta, b"schema", &SCHEMA.to_be_bytes())?;
                    update.commit()?;
                    tracing::info!(from = version, to = SCHEMA, "the store goes by a newer schema now");
                }
            }
            Some(other) => {
                return Err(refuse(format!(
                    "has schema version {other}; this build of overlane-control knows versions {OLDEST_SCHEMA} to \
                     {SCHEMA} and leaves it alone"
                )));
            }
        }
        let (incarnation, revision) = {
            let view = store.view()?;
            (read_incarnation(&*view)?, record::revision(&*view)?)
        };
        Ok(Self {
            store,
            settings,
            incarnation,
            revision: watch::Sender::new(revision),
            engine_capacity: RwLock::new(HashMap::new()),
            open: watch::Sender::new(()),
        })
    }

    /// Will tell when this ledger is gone.
    #[must_use]
    pub fn released(&self) -> Released {
        Released(self.open.subscribe())
    }

    /// Which history this is.
    #[must_use]
    pub const fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    /// The substrate's address layout.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.settings.layout
    }

    /// The number of the last change, and news of later ones.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The state at this moment.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn view(&self) -> Result<Box<dyn View + '_>> {
        Ok(self.store.view()?)
    }

    /// Remembers how many interfaces a host's engine can attach; `None` when it is not connected.
    pub fn set_engine_capacity(&self, host: &str, capacity: Option<u32>) {
        let mut capacities = self.engine_capacity.write();
        match capacity {
            Some(capacity) => capacities.insert(host.to_owned(), capacity),
            None => capacities.remove(host),
        };
    }

    /// Writes what is no part of what is provisioned, and stands in a table of its own: no revision is made, and nobody
    /// is told.
    pub(crate) fn write_aside(&self, write: impl FnOnce(&mut dyn Update) -> Result<()>) -> Result<()> {
        let mut update = self.store.update()?;
        write(&mut *update)?;
        Ok(update.commit()?)
    }

    /// How much an entity may have, where its record says nothing else.
    #[must_use]
    pub const fn default_quota(&self) -> Quota {
        self.settings.quota
    }

    /// The ledger in somebody's name: what is changed is what the caller may change, and it is written down who did it.
    #[must_use]
    pub const fn by<'a>(&'a self, caller: &'a Caller) -> Acting<'a> {
        Acting::new(self, caller)
    }

    /// Makes a change of the service's own accord: all of it, or nothing.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        self.write_for(None, change)
    }

    fn write_for<T>(
        &self,
        caller: Option<&Caller>,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut transaction = Transaction::begin(self, caller)?;
        let result = change(&mut transaction)?;
        if let Some(revision) = transaction.finish()? {
            self.revision.send_if_modified(|last| {
                let news = revision > *last;
                *last = revision.max(*last);
                news
            });
        }
        Ok(result)
    }
}

pub(crate) fn read_incarnation(view: &(impl View + ?Sized)) -> Result<[u8; 16]> {
    let incarnation = view.get(Table::Meta, b"incarnation")?.unwrap_or_default();
    incarnation.try_into().map_err(|_| Error::Record {
        key: "Meta/incarnation".to_owned(),
        problem: "it is not 16 bytes long".to_owned(),
    })
}
