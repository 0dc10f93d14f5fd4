//! What a lab keeps on disk while it is up: one directory, found again by name, also after a crash.

use super::plan::Plan;
use super::process::start_time;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the directories of labs are.
const ROOT: &str = "/run/overlane-lab";

/// A lab's directory.
#[derive(Debug, Clone)]
pub struct State(PathBuf);

/// What is written down about a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The plan as it is now.
    pub plan: Plan,
    /// How it is provisioned.
    pub mode: Mode,
    /// The process whose lab it is, if it is to end with it: id and start time.
    pub owner: Option<(i32, u64)>,
}

/// How a lab's engines are provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// By the service.
    Service,
    /// By a file that all engines read.
    File,
    /// Not at all: namespaces, links and routes only, without service and engines.
    Wires,
}

impl State {
    /// The directory of the lab with this name, which need not exist.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(Path::new(ROOT).join(name))
    }

    /// Makes the directory. It belongs to this lab alone from now on.
    ///
    /// # Errors
    /// If the lab is up already.
    pub fn create(&self) -> Result<()> {
        std::fs::create_dir_all(ROOT).with_context(|| ROOT.to_owned())?;
        match std::fs::create_dir(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("the lab is up already, or was left by a crash; `overlane lab down` takes it down");
            }
            Err(error) => return Err(error).with_context(|| format!("{:?}", self.0)),
        }
        for part in ["pids", "logs", "pki", "conf"] {
            std::fs::create_dir(self.0.join(part))?;
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.file(name);
        std::fs::write(&file, text).with_context(|| format!("{file:?}"))?;
        Ok(file)
    }

    /// Writes a file that nobody else may read, and tells its path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_secret(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.file(name);
        let mut options = OpenOptions::new();
        let open = options.write(true).create(true).truncate(true).mode(0o600).open(&file);
        open.and_then(|mut open| open.write_all(text.as_bytes())).with_context(|| format!("{file:?}"))?;
        Ok(file)
    }

    /// Writes the record; a reader sees the old one or the new one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, record: &Record) -> Result<()> {
        let fresh = self.write("lab.json.new", &serde_json::to_string_pretty(record)?)?;
        Ok(std::fs::rename(fresh, self.file("lab.json"))?)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// If there is no such lab.
    pub fn load(&self) -> Result<Record> {
        let file = self.file("lab.json");
        let text = match std::fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("no such lab is up; `overlane lab up` makes one");
            }
            text => text.with_context(|| format!("{file:?}"))?,
        };
        serde_json::from_str(&text).with_context(|| format!("{file:?}"))
    }

    /// Removes the directory with everything in it, if it is there.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{:?}", self.0))
            }
            _ => {
                // Other labs may still be in it.
                let _ = std::fs::remove_dir(ROOT);
                Ok(())
            }
        }
    }

    /// The names of all labs that are up or were left by a crash.
    ///
    /// # Errors
    /// If the directory of labs cannot be read.
    pub fn names() -> Result<Vec<String>> {
        let mut names = Vec::new();
        match std::fs::read_dir(ROOT) {
            Ok(entries) => {
                for entry in entries {
                    names.push(entry?.file_name().to_string_lossy().into_owned());
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(ROOT),
        }
        names.sort();
        Ok(names)
    }
}

impl Record {
    /// Whether the lab was to end with a process that has ended.
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        self.owner.is_some_and(|(pid, start)| start_time(pid) != Some(start))
    }
}
