//! The default store: one `redb` file, no server.

use super::overlay::Overlay;
use super::{Step, Store, StoreError, Table, Update, View};
use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, TableError, WriteTransaction,
};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Memory for pages of the file that are in use: 64 MiB.
const CACHE: usize = 64 << 20;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

type ReadBytes = ReadOnlyTable<&'static [u8], &'static [u8]>;

const fn definition(table: Table) -> Definition {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Entities => "entities",
        Table::Networks => "networks",
        Table::Hosts => "hosts",
        Table::Nodes => "nodes",
        Table::Interfaces => "interfaces",
        Table::Vnets => "vnets",
        Table::Prefixes => "prefixes",
        Table::Slots => "slots",
        Table::Devices => "devices",
        Table::Addresses => "addresses",
        Table::Macs => "macs",
        Table::Uses => "uses",
        Table::Presence => "presence",
        Table::Moves => "moves",
        Table::Members => "members",
        Table::Routes => "routes",
        Table::Rules => "rules",
        Table::Scopes => "scopes",
        Table::Peerings => "peerings",
        Table::Tags => "tags",
        Table::Tokens => "tokens",
        Table::Usage => "usage",
        Table::Audit => "audit",
        Table::Log => "log",
        Table::Events => "events",
    })
}

/// A store in one `redb` file.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
    path: PathBuf,
}

fn refuse(path: &Path, problem: impl Into<String>) -> StoreError {
    StoreError::Open { path: path.to_owned(), problem: problem.into() }
}

fn access(error: impl std::fmt::Display) -> StoreError {
    StoreError::Access(error.to_string())
}

impl RedbStore {
    /// Opens the store at `path`, or makes it if there is no such file. The file is checked as a whole first, and
    /// left as it is if it is not sound.
    ///
    /// # Errors
    /// [`StoreError::Open`] for a file that is damaged, empty, in use, or not a store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => return Err(refuse(path, "is not a file")),
            Ok(found) if found.len() == 0 => {
                return Err(refuse(
                    path,
                    "is empty: put a backup in its place with `overlane-control restore`, or remove it to start with \
                     nothing provisioned",
                ));
            }
            Ok(_) => Self::check(path)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Made here, so that others of the machine cannot read it.
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)
                    .map_err(|error| refuse(path, format!("cannot be made: {error}")))?;
            }
            Err(error) => return Err(refuse(path, format!("cannot be opened: {error}"))),
        }
        let database =
            Builder::new().set_cache_size(CACHE).create(path).map_err(|error| unopened(path, &error))?;
        Ok(Self { database, path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is sound, tried without writing to it.
    fn check(path: &Path) -> Result<(), StoreError> {
        let unreadable = |error: std::io::Error| refuse(path, format!("cannot be opened: {error}"));
        let file = File::open(path).map_err(unreadable)?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(unopened(path, &DatabaseError::DatabaseAlreadyOpen));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(unreadable(error)),
        }
        let overlay = Overlay::new(file).map_err(unreadable)?;
        Builder::new()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .create_with_backend(overlay)
            .map(drop)
            .map_err(|error| unopened(path, &error))
    }
}

fn unopened(path: &Path, error: &DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => refuse(path, "is in use by another process"),
        other => refuse(
            path,
            format!(
                "is damaged or not a store ({other}); nothing was changed: put a backup in its place with \
                 `overlane-control restore`"
            ),
        ),
    }
}

struct RedbView(ReadTransaction);
struct RedbUpdate(WriteTransaction);

impl RedbView {
    /// `None`: nothing was ever put into it.
    fn table(&self, table: Table) -> Result<Option<ReadBytes>, StoreError> {
        match self.0.open_table(definition(table)) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(access(error)),
        }
    }
}

fn get(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(table.get(key).map_err(access)?.map(|value| value.value().to_vec()))
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
    from: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]) -> Step,
) -> Result<(), StoreError> {
    let start = if from > prefix { from } else { prefix };
    for entry in table.range::<&[u8]>(start..).map_err(access)? {
        let (key, value) = entry.map_err(access)?;
        if !key.value().starts_with(prefix) || visit(key.value(), value.value()).is_break() {
            break;
        }
    }
    Ok(())
}

impl View for RedbView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.table(table)?.map_or(Ok(None), |table| get(&table, key))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Step,
    ) -> Result<(), StoreError> {
        self.table(table)?.map_or(Ok(()), |table| scan(&table, prefix, from, visit))
    }

    fn count(&self, table: Table) -> Result<u64, StoreError> {
        self.table(table)?.map_or(Ok(0), |table| table.len().map_err(access))
    }
}

impl View for RedbUpdate {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.0.open_table(definition(table)).map_err(access)?, key)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Step,
    ) -> Result<(), StoreError> {
        scan(&self.0.open_table(definition(table)).map_err(access)?, prefix, from, visit)
    }

    fn count(&self, table: Table) -> Result<u64, StoreError> {
        self.0.open_table(definition(table)).map_err(access)?.len().map_err(access)
    }
}

impl Update for RedbUpdate {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.0.open_table(definition(table)).map_err(access)?.insert(key, value).map_err(access)?;
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.0.open_table(definition(table)).map_err(access)?.remove(key).map_err(access)?;
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.0.commit().map_err(access)
    }
}

impl Store for RedbStore {
    fn view(&self) -> Result<Box<dyn View + '_>, StoreError> {
        Ok(Box::new(RedbView(self.database.begin_read().map_err(access)?)))
    }

    fn update(&self) -> Result<Box<dyn Update + '_>, StoreError> {
        Ok(Box::new(RedbUpdate(self.database.begin_write().map_err(access)?)))
    }
}
