//! Hosts.

use super::acting::Acting;
use super::network::missing;
use super::record::{HostRecord, Touch, load, load_id, pair};
use super::transaction::Transaction;
use super::{Outcome, check, external};
use crate::access::Kind;
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};
use overlane_api::resource::{EngineStatus, Host, HostSpec};
use overlane_dataplane::address::Layout;

pub(super) fn resource(view: &dyn View, layout: Layout, id: &str, record: HostRecord) -> Result<Host> {
    let mut interfaces = 0;
    view.scan(Table::Slots, &pair(id, &[]), &[], &mut |_, _| {
        interfaces += 1;
        Step::Continue(())
    })?;
    Ok(Host {
        id: id.to_owned(),
        prefix: format!("{}/{}", record.prefix, layout.prefix_length()),
        layout: layout.name().to_owned(),
        capacity: record.capacity,
        interfaces,
        engine: EngineStatus::default(),
        revision: record.revision,
    })
}

/// A host; of its engine nothing is known here.
pub(crate) fn read(view: &dyn View, layout: Layout, id: &str) -> Result<Host> {
    let record = load(view, Table::Hosts, id)?.ok_or_else(|| Error::absent("host", id))?;
    resource(view, layout, id, record)
}

/// A host that is referred to.
pub(super) fn referred(txn: &Transaction<'_>, field: &str, id: &str) -> Result<HostRecord> {
    txn.load(Table::Hosts, id)?.ok_or_else(|| missing(field, "host", id))
}

impl Acting<'_> {
    /// Makes a host, or brings it to what is asked. Its prefix cannot change.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn put_host(&self, id: &str, spec: &HostSpec) -> Result<(Outcome, Host)> {
        check::id("id", id)?;
        check::capacity(spec.capacity)?;
        let prefix = check::prefix(self.layout(), &spec.prefix)?;
        self.write(|txn| {
            let found: Option<HostRecord> = txn.load(Table::Hosts, id)?;
            txn.authorise_plain(Kind::Host, id, found.is_some())?;
            let before = match &found {
                Some(found) => Some(resource(txn.view(), txn.layout(), id, found.clone())?),
                None => None,
            };
            let outcome = if found.is_some() { Outcome::Confirmed } else { Outcome::Created };
            if let Some(found) = found {
                if found.prefix != prefix {
                    let has = format!("{}/{}", found.prefix, txn.layout().prefix_length());
                    return Err(Error::conflict(
                        "prefix",
                        format!("host {id} has {has}; that cannot change"),
                        has,
                    ));
                }
                if found.capacity == spec.capacity {
                    return Ok((outcome, resource(txn.view(), txn.layout(), id, found)?));
                }
                let taken = txn.taken_slots(id)?.len();
                if taken > spec.capacity as usize {
                    return Err(Error::conflict(
                        "capacity",
                        format!("host {id} has {taken} interfaces"),
                        format!("{taken} to 64"),
                    ));
                }
            } else {
                // All prefixes have the layout's length: they overlap only if they are the same.
                if let Some(other) = load_id(txn.view(), Table::Prefixes, &prefix.octets())? {
                    return Err(Error::conflict(
                        "prefix",
                        format!("{} belongs to host {other}", spec.prefix),
                        "a prefix that no other host has",
                    ));
                }
                external::check_host(txn, prefix)?;
                txn.put(Table::Prefixes, &prefix.octets(), id.as_bytes())?;
                txn.touch(Touch::Host { host: id.to_owned() });
            }
            let record = HostRecord { prefix, capacity: spec.capacity, revision: txn.revision() };
            txn.save(Table::Hosts, id, &record)?;
            let after = resource(txn.view(), txn.layout(), id, record)?;
            txn.summarise(before.as_ref(), Some(&after));
            Ok((outcome, after))
        })
    }

    /// Deletes a host that has no nodes. Its engine's stream ends.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not there or in use.
    pub fn delete_host(&self, id: &str) -> Result<()> {
        self.write(|txn| {
            let found: HostRecord = txn.load(Table::Hosts, id)?.ok_or_else(|| Error::absent("host", id))?;
            txn.authorise_delete(Kind::Host, id, None)?;
            let users = txn.users(&format!("host/{id}"))?;
            if !users.is_empty() {
                return Err(Error::in_use("host", id, &users));
            }
            txn.delete(Table::Hosts, id.as_bytes())?;
            txn.delete(Table::Prefixes, &found.prefix.octets())?;
            txn.touch(Touch::Host { host: id.to_owned() });
            Ok(())
        })
    }
}
