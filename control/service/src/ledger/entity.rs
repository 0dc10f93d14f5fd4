//! Entities.

use super::record::{EntityRecord, load};
use super::{Ledger, Outcome, check};
use crate::error::{Error, Result};
use crate::store::{Table, View};
use overlane_api::resource::{Entity, EntitySpec};

fn resource(id: &str, record: EntityRecord) -> Entity {
    Entity { id: id.to_owned(), description: record.description, revision: record.revision }
}

/// An entity.
pub(crate) fn read(view: &dyn View, id: &str) -> Result<Entity> {
    let record = load(view, Table::Entities, id)?.ok_or_else(|| Error::absent("entity", id))?;
    Ok(resource(id, record))
}

impl Ledger {
    /// Makes an entity, or brings it to what is asked.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn put_entity(&self, id: &str, spec: &EntitySpec) -> Result<(Outcome, Entity)> {
        check::id("id", id)?;
        check::description(&spec.description)?;
        self.write(|txn| {
            let found: Option<EntityRecord> = txn.load(Table::Entities, id)?;
            let outcome = if found.is_some() { Outcome::Confirmed } else { Outcome::Created };
            let record = match found {
                Some(found) if found.description == spec.description => found,
                _ => {
                    let record =
                        EntityRecord { description: spec.description.clone(), revision: txn.revision() };
                    txn.save(Table::Entities, id, &record)?;
                    record
                }
            };
            Ok((outcome, resource(id, record)))
        })
    }

    /// Deletes an entity that owns nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not there or owns something.
    pub fn delete_entity(&self, id: &str) -> Result<()> {
        self.write(|txn| {
            txn.load::<EntityRecord>(Table::Entities, id)?.ok_or_else(|| Error::absent("entity", id))?;
            let users = txn.users(&format!("entity/{id}"))?;
            if !users.is_empty() {
                return Err(Error::in_use("entity", id, &users));
            }
            txn.delete(Table::Entities, id.as_bytes())
        })
    }
}
