//! The audit log: who changed what, from where. An entry is written in the transaction of the change itself.

use super::acting::listed;
use super::record::{AuditRecord, decode, try_scan};
use super::{Result, check, record};
use crate::access::{Caller, Kind};
use crate::store::{Step, Table, View};
use overlane_api::access::{AuditEntry, AuditPage, AuditQuery};
use serde::Serialize;
use serde_json::Value;

/// How much of the audit log is kept. What is beyond either limit goes, a few entries with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditLimits {
    /// How many entries.
    pub keep: u64,
    /// For how long, in seconds.
    pub age: u64,
}

/// The longest summary, in bytes.
const MAX_SUMMARY: usize = 512;
/// How many entries one page looks at.
const MAX_LOOK: usize = 20_000;

/// What will be an entry, when the change is made.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) verb: String,
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) entity: Option<String>,
    pub(super) summary: String,
}

/// Text that fits into a summary.
fn clipped(mut text: String) -> String {
    if text.len() > MAX_SUMMARY {
        let mut end = MAX_SUMMARY - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What is different between two states of a resource, field by field; all of it, where there was none before.
pub(super) fn difference<T: Serialize>(before: Option<&T>, after: Option<&T>) -> String {
    // Of what is always there, or no part of what was asked, there is nothing to tell.
    const SILENT: [&str; 8] = ["id", "revision", "used", "limits", "engine", "layout", "created", "expired"];
    let fields = |of: Option<&T>| match of.and_then(|of| serde_json::to_value(of).ok()) {
        Some(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    if after.is_none() {
        return String::new();
    }
    let (was, is) = (fields(before), fields(after));
    let names: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let mut parts = Vec::new();
    for name in names.into_iter().filter(|name| !SILENT.contains(&name.as_str())) {
        match (was.get(name), is.get(name)) {
            (was, is) if was == is => {}
            (None, Some(Value::String(text))) if text.is_empty() => {}
            (None, Some(is)) => parts.push(format!("{name}: {is}")),
            (Some(was), Some(is)) => parts.push(format!("{name}: {was} -> {is}")),
            (Some(was), None) => parts.push(format!("{name}: {was} -> none")),
            (None, None) => {}
        }
    }
    clipped(parts.join("; "))
}

/// An entry as the caller is told it: which operator it was, and where that one sits, is not for entities.
fn told(caller: &Caller, record: AuditRecord) -> AuditEntry {
    let mut entry = record.entry;
    if caller.entity().is_some_and(|own| record.by.as_deref() != Some(own)) {
        entry.actor = "operator".to_owned();
        entry.source = None;
    }
    entry
}

/// A page of the audit log.
///
/// # Errors
/// [`Error::Refused`] naming the field.
pub(crate) fn read(view: &dyn View, caller: &Caller, query: &AuditQuery) -> Result<AuditPage> {
    let limit = check::page(query.limit)?;
    if let Some(entity) = &query.entity {
        check::id("entity", entity)?;
    }
    let own = listed(caller, Kind::Audit)?;
    let after = query.after.unwrap_or(0);
    let Some(from) = after.checked_add(1) else {
        return Ok(AuditPage { items: Vec::new(), next: after, more: false });
    };
    let mut page = AuditPage { items: Vec::new(), next: after, more: false };
    let mut looked = 0;
    try_scan(view, Table::Audit, &[], &from.to_be_bytes(), |key, value| {
        if page.items.len() == limit || looked == MAX_LOOK {
            page.more = true;
            return Ok(Step::Break(()));
        }
        looked += 1;
        let record: AuditRecord = decode(Table::Audit, key, value)?;
        page.next = record.entry.revision;
        let of = |entity: &str| record.entry.entity.as_deref() == Some(entity);
        if own.is_none_or(of) && query.entity.as_deref().is_none_or(of) {
            let entry = told(caller, record);
            if query.actor.as_ref().is_none_or(|actor| *actor == entry.actor) {
                page.items.push(entry);
            }
        }
        Ok(Step::Continue(()))
    })?;
    if !page.more {
        page.next = page.next.max(record::revision(view)?);
    }
    Ok(page)
}
