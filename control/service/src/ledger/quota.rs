//! How much an entity has, and may have. The numbers are kept beside the records, so that a write does not count what is
//! there.

use super::Result;
use super::record::{
    EntityRecord, NetworkRecord, NodeRecord, RuleRecord, TokenRecord, decode, encode, load, try_scan,
};
use super::transaction::Transaction;
use crate::error::Error;
use crate::store::{Step, Table, Update, View};
use overlane_api::access::{Quota, QuotaSpec};
use std::collections::BTreeMap;

/// What there is a quota of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Networks,
    Nodes,
    Interfaces,
    Rules,
    Tokens,
}

impl Of {
    const fn name(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Nodes => "nodes",
            Self::Interfaces => "interfaces",
            Self::Rules => "rules",
            Self::Tokens => "tokens",
        }
    }

    const fn place(self, quota: &mut Quota) -> &mut u32 {
        match self {
            Self::Networks => &mut quota.networks,
            Self::Nodes => &mut quota.nodes,
            Self::Interfaces => &mut quota.interfaces,
            Self::Rules => &mut quota.rules,
            Self::Tokens => &mut quota.tokens,
        }
    }
}

/// What an entity may have.
pub(super) fn limits(spec: &QuotaSpec, default: Quota) -> Quota {
    Quota {
        networks: spec.networks.unwrap_or(default.networks),
        nodes: spec.nodes.unwrap_or(default.nodes),
        interfaces: spec.interfaces.unwrap_or(default.interfaces),
        rules: spec.rules.unwrap_or(default.rules),
        tokens: spec.tokens.unwrap_or(default.tokens),
    }
}

/// What an entity has.
pub(super) fn used(view: &dyn View, entity: &str) -> Result<Quota> {
    Ok(load(view, Table::Usage, entity)?.unwrap_or_default())
}

/// Counts what an entity has more, or less.
///
/// # Errors
/// [`Error::Refused`] if it is more than its quota. Less is always possible, also from above a quota that was lowered.
pub(super) fn count(txn: &mut Transaction<'_>, entity: &str, of: Of, by: i64) -> Result<()> {
    if by == 0 {
        return Ok(());
    }
    let mut used = used(txn.view(), entity)?;
    let has = *of.place(&mut used);
    let now = u32::try_from(i64::from(has) + by).map_err(|_| Error::Record {
        key: format!("Usage/{entity}"),
        problem: format!("{has} {} and {by} more is no number", of.name()),
    })?;
    if by > 0 {
        let spec = txn.load::<EntityRecord>(Table::Entities, entity)?.map(|record| record.quota);
        let limit = *of.place(&mut limits(&spec.unwrap_or_default(), txn.settings().quota));
        if now > limit {
            let what = of.name();
            return Err(Error::exhausted(
                format!("quota.{what}"),
                format!("entity {entity} has {has} of {limit} {what}, and this would be {by} more"),
                format!("{limit} {what} at most: delete some, or let an operator raise the entity's quota"),
            ));
        }
    }
    *of.place(&mut used) = now;
    if used == Quota::default() {
        return txn.delete(Table::Usage, entity.as_bytes());
    }
    txn.save(Table::Usage, entity, &used)
}

/// What all entities have, from their records.
fn counted(view: &dyn View) -> Result<BTreeMap<String, Quota>> {
    let mut all: BTreeMap<String, Quota> = BTreeMap::new();
    let mut add = |entity: String, of: Of, by: usize| {
        let place = of.place(all.entry(entity).or_default());
        *place = place.saturating_add(u32::try_from(by).unwrap_or(u32::MAX));
    };
    try_scan(view, Table::Networks, &[], &[], |key, value| {
        add(decode::<NetworkRecord>(Table::Networks, key, value)?.entity, Of::Networks, 1);
        Ok(Step::Continue(()))
    })?;
    try_scan(view, Table::Nodes, &[], &[], |key, value| {
        let node: NodeRecord = decode(Table::Nodes, key, value)?;
        add(node.entity.clone(), Of::Interfaces, node.interfaces.len());
        add(node.entity, Of::Nodes, 1);
        Ok(Step::Continue(()))
    })?;
    try_scan(view, Table::Rules, &[], &[], |key, value| {
        add(decode::<RuleRecord>(Table::Rules, key, value)?.spec.entity, Of::Rules, 1);
        Ok(Step::Continue(()))
    })?;
    try_scan(view, Table::Tokens, &[], &[], |key, value| {
        if let Some(entity) = decode::<TokenRecord>(Table::Tokens, key, value)?.entity {
            add(entity, Of::Tokens, 1);
        }
        Ok(Step::Continue(()))
    })?;
    Ok(all)
}

/// Counts everything anew: for stores that come from before there were quotas, and for restored ones.
pub(crate) fn recount(update: &mut dyn Update) -> Result<()> {
    let mut stale = Vec::new();
    update.scan(Table::Usage, &[], &[], &mut |key, _| {
        stale.push(key.to_vec());
        Step::Continue(())
    })?;
    for key in stale {
        update.delete(Table::Usage, &key)?;
    }
    for (entity, quota) in counted(&*update)? {
        let value = encode(Table::Usage, entity.as_bytes(), &quota)?;
        update.put(Table::Usage, entity.as_bytes(), &value)?;
    }
    Ok(())
}

/// Whether the numbers are those of the records.
pub(super) fn verify(view: &dyn View) -> Result<()> {
    let mut kept = BTreeMap::new();
    try_scan(view, Table::Usage, &[], &[], |key, value| {
        let quota: Quota = decode(Table::Usage, key, value)?;
        kept.insert(String::from_utf8_lossy(key).into_owned(), quota);
        Ok(Step::Continue(()))
    })?;
    if kept == counted(view)? {
        return Ok(());
    }
    Err(Error::Record { key: "Usage".to_owned(), problem: "it miscounts".to_owned() })
}
