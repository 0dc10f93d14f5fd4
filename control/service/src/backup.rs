//! Backups: the whole store as text, one line of JSON per record, from one consistent moment.
//!
//! A backup does not depend on the store's own file format. The first line says what it is, the last how many lines
//! are between, so that a cut one is refused. The change log stays behind: engines get a snapshot after a restore
//! anyway, since the restored store is a new incarnation. So do events: they tell of what happened to another store. How much
//! an entity has is counted again. Tokens are kept, as their hashes: what was revoked since the backup is good again after a
//! restore.

use crate::error::{Error, Result};
use crate::ledger::record::{meta_number, revision};
use crate::ledger::{OLDEST_SCHEMA, SCHEMA, quota, read_incarnation, verify};
use crate::store::{RedbStore, Step, Store, StoreError, Table, View};
use serde::{Deserialize, Serialize};
use std::io::BufRead;
use std::path::Path;

/// Every table that is kept in a backup.
const TABLES: [(Table, &str); 21] = [
    (Table::Entities, "entities"),
    (Table::Networks, "networks"),
    (Table::Hosts, "hosts"),
    (Table::Nodes, "nodes"),
    (Table::Interfaces, "interfaces"),
    (Table::Vnets, "vnets"),
    (Table::Prefixes, "prefixes"),
    (Table::Slots, "slots"),
    (Table::Devices, "devices"),
    (Table::Addresses, "addresses"),
    (Table::Macs, "macs"),
    (Table::Uses, "uses"),
    (Table::Presence, "presence"),
    (Table::Moves, "moves"),
    (Table::Members, "members"),
    (Table::Rules, "rules"),
    (Table::Scopes, "scopes"),
    (Table::Peerings, "peerings"),
    (Table::Tags, "tags"),
    (Table::Tokens, "tokens"),
    (Table::Audit, "audit"),
];

/// The longest line that is read back, in bytes.
const MAX_LINE: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Line {
    OverlaneBackup { schema: u64, layout: String, revision: u64, incarnation: String },
    Record { table: String, key: String, value: String },
    End { records: u64 },
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let octet = |place| u8::from_str_radix(text.get(place..place + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(octet).collect()
}

/// Tells the backup of a view, line by line (each with its line end), until told that it is enough.
///
/// # Errors
/// [`Error::Store`] if the store cannot be read.
pub fn write(view: &dyn View, tell: &mut dyn FnMut(Vec<u8>) -> Step) -> Result<()> {
    let mut line = |line: &Line| -> Step {
        match serde_json::to_vec(line) {
            Ok(mut text) => {
                text.push(b'\n');
                tell(text)
            }
            Err(_) => Step::Break(()),
        }
    };
    let layout = view.get(Table::Meta, b"layout")?.unwrap_or_default();
    let head = Line::OverlaneBackup {
        schema: meta_number(view, "schema")?.unwrap_or(0),
        layout: String::from_utf8_lossy(&layout).into_owned(),
        revision: revision(view)?,
        incarnation: to_hex(&read_incarnation(view)?),
    };
    let mut enough = line(&head).is_break();
    let mut records = 0;
    for (table, name) in TABLES {
        if enough {
            return Ok(());
        }
        view.scan(table, &[], &[], &mut |key, value| {
            records += 1;
            let step = line(&Line::Record { table: name.to_owned(), key: to_hex(key), value: to_hex(value) });
            enough = step.is_break();
            step
        })?;
    }
    let _ = line(&Line::End { records });
    Ok(())
}

/// Makes a store at `path` out of a backup, as a new incarnation. Nothing is ever overwritten: there must be no file
/// at `path`, and it appears there only when all is well.
///
/// # Errors
/// [`StoreError::Open`] saying what is wrong with the backup or the place.
pub fn restore(backup: &Path, path: &Path) -> Result<u64> {
    let refuse = |problem: String| Error::Store(StoreError::Open { path: backup.to_owned(), problem });
    if path.exists() {
        return Err(Error::Store(StoreError::Open {
            path: path.to_owned(),
            problem: "is there already: move it away first; a restore overwrites nothing".to_owned(),
        }));
    }
    let mut staged = path.as_os_str().to_owned();
    staged.push(".restoring");
    let staged = std::path::PathBuf::from(staged);
    // What an interrupted restore left behind; it never was a store.
    if staged.exists() {
        std::fs::remove_file(&staged).map_err(|error| refuse(format!("{}: {error}", staged.display())))?;
    }
    let file = std::fs::File::open(backup).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let restored = fill(std::io::BufReader::new(file), &staged, &refuse).and_then(|revision| {
        std::fs::hard_link(&staged, path).map_err(|error| {
            Error::Store(StoreError::Open {
                path: path.to_owned(),
                problem: format!("cannot be made: {error}"),
            })
        })?;
        Ok(revision)
    });
    // Linked to its place by now, or worth nothing.
    let _ = std::fs::remove_file(&staged);
    restored
}

/// Reads a line of bounded length; `None` at the end.
fn next_line(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let length = std::io::Read::take(&mut *reader, MAX_LINE as u64 + 1).read_until(b'\n', &mut line)?;
    if length > MAX_LINE {
        return Err(std::io::Error::other(format!("a line longer than {MAX_LINE} bytes")));
    }
    Ok((length > 0).then_some(line))
}

fn fill(mut reader: impl BufRead, staged: &Path, refuse: &impl Fn(String) -> Error) -> Result<u64> {
    let mut number = 0u64;
    let mut next = || -> Result<Option<(u64, Line)>> {
        number += 1;
        let Some(text) = next_line(&mut reader).map_err(|error| refuse(format!("line {number}: {error}")))?
        else {
            return Ok(None);
        };
        let line =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("line {number}: {error}")))?;
        Ok(Some((number, line)))
    };
    let Some((_, Line::OverlaneBackup { schema, layout, revision, .. })) = next()? else {
        return Err(refuse("is not a backup: its first line does not say so".to_owned()));
    };
    if !(OLDEST_SCHEMA..=SCHEMA).contains(&schema) {
        return Err(refuse(format!(
            "has schema version {schema}; this build reads versions {OLDEST_SCHEMA} to {SCHEMA}"
        )));
    }
    let store = RedbStore::open(staged)?;
    let mut update = store.update()?;
    let (mut records, mut tags) = (0, 0u64);
    loop {
        match next()? {
            Some((number, Line::Record { table, key, value })) => {
                let table = TABLES.iter().find(|(_, name)| *name == table).map(|(table, _)| *table);
                let (Some(table), Some(key), Some(value)) = (table, from_hex(&key), from_hex(&value)) else {
                    return Err(refuse(format!(
                        "line {number}: unknown table, or key or value are not hexadecimal"
                    )));
                };
                if table == Table::Tags {
                    let number = value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
                    tags = tags.max(number);
                }
                update.put(table, &key, &value)?;
                records += 1;
            }
            Some((_, Line::End { records: said })) if said == records => break,
            Some((_, Line::End { records: said })) => {
                return Err(refuse(format!("holds {records} records and says that it has {said}")));
            }
            Some((number, Line::OverlaneBackup { .. })) => {
                return Err(refuse(format!("line {number}: a second beginning")));
            }
            None => return Err(refuse(format!("ends after {records} records without saying so: it is cut"))),
        }
    }
    let mut incarnation = [0; 16];
    getrandom::fill(&mut incarnation)?;
    update.put(Table::Meta, b"schema", &SCHEMA.to_be_bytes())?;
    update.put(Table::Meta, b"tags", &tags.to_be_bytes())?;
    update.put(Table::Meta, b"layout", layout.as_bytes())?;
    update.put(Table::Meta, b"incarnation", &incarnation)?;
    update.put(Table::Meta, b"revision", &revision.to_be_bytes())?;
    update.put(Table::Meta, b"compacted", &revision.to_be_bytes())?;
    quota::recount(&mut *update)?;
    verify(&*update).map_err(|error| refuse(format!("contradicts itself: {error}")))?;
    update.commit()?;
    Ok(revision)
}
