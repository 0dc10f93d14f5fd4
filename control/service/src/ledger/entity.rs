//! Entities.

use super::acting::{Acting, outcome};
use super::record::{EntityRecord, load};
use super::transaction::Transaction;
use super::{Outcome, check, network::missing, node, quota};
use crate::access::Kind;
use crate::error::{Error, Result};
use crate::store::{Table, View};
use overlane_api::access::Quota;
use overlane_api::resource::{Entity, EntitySpec};

fn resource(view: &dyn View, default: Quota, id: &str, record: EntityRecord) -> Result<Entity> {
    Ok(Entity {
        id: id.to_owned(),
        description: record.description,
        quota: record.quota,
        limits: quota::limits(&record.quota, default),
        used: quota::used(view, id)?,
        placement: record.placement,
        rate: record.rate,
        revision: record.revision,
    })
}

/// An entity; `default` is how much one may have whose record says nothing else.
pub(crate) fn read(view: &dyn View, default: Quota, id: &str) -> Result<Entity> {
    let record = load(view, Table::Entities, id)?.ok_or_else(|| Error::absent("entity", id))?;
    resource(view, default, id, record)
}

/// Whether the hosts on which an entity may place nodes are there.
fn check_hosts(txn: &Transaction<'_>, spec: &EntitySpec) -> Result<()> {
    for (place, host) in spec.placement.iter().flat_map(|placement| &placement.hosts).enumerate() {
        if txn.view().get(Table::Hosts, host.as_bytes())?.is_none() {
            return Err(missing(&format!("placement.hosts[{place}]"), "host", host));
        }
    }
    Ok(())
}

impl Acting<'_> {
    /// Makes an entity, or brings it to what is asked.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn put_entity(&self, id: &str, spec: &EntitySpec) -> Result<(Outcome, Entity)> {
        check::id("id", id)?;
        check::description(&spec.description)?;
        spec.placement.as_ref().map(check::placement).transpose()?;
        check::rate(spec.rate)?;
        self.write(|txn| {
            let default = txn.settings().quota;
            let found: Option<EntityRecord> = txn.load(Table::Entities, id)?;
            txn.authorise_put(Kind::Entity, id, found.is_some().then_some(id), id)?;
            let asked = EntityRecord {
                description: spec.description.clone(),
                quota: spec.quota,
                placement: spec.placement.clone(),
                rate: spec.rate,
                revision: found.as_ref().map_or(0, |found| found.revision),
            };
            let outcome = outcome(found.is_some());
            let before = found.map(|found| resource(txn.view(), default, id, found)).transpose()?;
            let now = resource(txn.view(), default, id, asked.clone())?;
            if before.as_ref() == Some(&now) {
                return Ok((outcome, now));
            }
            check_hosts(txn, spec)?;
            let record = EntityRecord { revision: txn.revision(), ..asked };
            txn.save(Table::Entities, id, &record)?;
            if before.as_ref().is_some_and(|before| before.rate != spec.rate) {
                node::touch_all(txn, id)?;
            }
            let after = resource(txn.view(), default, id, record)?;
            txn.summarise(before.as_ref(), Some(&after));
            Ok((outcome, after))
        })
    }

    /// Deletes an entity that owns nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not there or owns something.
    pub fn delete_entity(&self, id: &str) -> Result<()> {
        self.write(|txn| {
            txn.load::<EntityRecord>(Table::Entities, id)?.ok_or_else(|| Error::absent("entity", id))?;
            txn.authorise_delete(Kind::Entity, id, Some(id))?;
            let users = txn.users(&format!("entity/{id}"))?;
            if !users.is_empty() {
                return Err(Error::in_use("entity", id, &users));
            }
            txn.delete(Table::Entities, id.as_bytes())
        })
    }
}
