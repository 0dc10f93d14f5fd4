//! Tags: words that an entity marks its nodes with, as numbers on the wire.
//!
//! A tag has a number for as long as a node carries it or a rule is about it; numbers are not given out again.

use super::record::{load_number, meta_number, pair};
use super::transaction::Transaction;
use crate::error::{Error, Result};
use crate::store::{Table, View};
use std::collections::BTreeSet;

/// The number of an entity's tag, if anybody has to do with it.
pub(super) fn number(view: &dyn View, entity: &str, tag: &str) -> Result<Option<u32>> {
    load_number(view, Table::Tags, &pair(entity, tag.as_bytes()))
}

/// What is used, as `kind/id`.
fn used(entity: &str, tag: &str) -> String {
    format!("tag/{entity}/{tag}")
}

/// Notes which tags of an entity `user` has to do with now, and had before; the numbers of those now, ascending.
pub(super) fn settle(
    txn: &mut Transaction<'_>,
    user: &str,
    before: &BTreeSet<(String, String)>,
    after: &BTreeSet<(String, String)>,
) -> Result<Vec<u32>> {
    let mut numbers = Vec::with_capacity(after.len());
    for (entity, tag) in after {
        let key = pair(entity, tag.as_bytes());
        let number = match number(txn.view(), entity, tag)? {
            Some(number) => number,
            None => {
                let next = meta_number(txn.view(), "tags")?.unwrap_or(0) + 1;
                let number = u32::try_from(next).map_err(|_| {
                    Error::exhausted("tags", "all numbers of tags have been given out", "tags that there are")
                })?;
                txn.put(Table::Meta, b"tags", &next.to_be_bytes())?;
                txn.put(Table::Tags, &key, &number.to_be_bytes())?;
                number
            }
        };
        numbers.push(number);
        if !before.contains(&(entity.clone(), tag.clone())) {
            txn.add_use(&used(entity, tag), user)?;
        }
    }
    for (entity, tag) in before.difference(after) {
        txn.drop_use(&used(entity, tag), user)?;
        if txn.users(&used(entity, tag))?.is_empty() {
            txn.delete(Table::Tags, &pair(entity, tag.as_bytes()))?;
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
