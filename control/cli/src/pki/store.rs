//! The authority's directory: its key and certificate, what it has issued, and what of it is revoked.
//!
//! `index.json` is written before a certificate or a list is: after a crash a certificate may be on record that nobody has,
//! but none that is not on record, and a list can be written anew.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use overlane_api::pki::{Authority, Issued, Kind, Revoked, Serial, write};
use serde::{Deserialize, Serialize};

const DAY: u64 = 24 * 3600;
/// How long a list is good for, unless told otherwise: thirty days.
const LIST_LIFETIME: u64 = 30 * DAY;
/// How long ended certificates are remembered: a year.
const MEMORY: u64 = 365 * DAY;
/// How long ended certificates stay on the list: clocks differ.
const GRACE: u64 = DAY;

/// One certificate that was issued.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    /// 32 hexadecimal digits.
    pub(super) serial: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// More names.
    pub(super) san: Vec<String>,
    /// Seconds since 1970.
    pub(super) not_after: u64,
    /// Seconds since 1970.
    pub(super) revoked: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// Of the last list.
    crl_number: u64,
    crl_lifetime: u64,
    certificates: Vec<Entry>,
}

/// Which certificates to revoke.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    Name(&'a str),
    Serial(Serial),
}

/// An authority's directory, locked against others while this lives.
pub(super) struct Directory {
    path: PathBuf,
    authority: Authority,
    index: Index,
    _lock: File,
}

impl Directory {
    /// Makes an authority where there is none.
    pub(super) fn init(path: &Path, name: &str) -> Result<()> {
        ensure!(
            (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control),
            "name: must be 1 to 64 printable characters"
        );
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("{}: cannot be made", path.display()))?;
        let lock = lock(path)?;
        for file in ["ca.key", "ca.crt", "index.json"] {
            let file = path.join(file);
            ensure!(!file.exists(), "{} is there already; an authority is never overwritten", file.display());
        }
        let authority = Authority::generate(name)?;
        authority.save(path)?;
        let index = Index { crl_number: 0, crl_lifetime: LIST_LIFETIME, certificates: Vec::new() };
        let mut made = Self { path: path.to_owned(), authority, index, _lock: lock };
        made.write_list()
    }

    /// Opens one.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let hint = || format!("{}: no authority there; `overlane pki init` makes one", path.display());
        ensure!(path.join("ca.crt").exists(), hint());
        let lock = lock(path)?;
        let authority = Authority::load(path)?;
        let file = path.join("index.json");
        let text = std::fs::read(&file).with_context(|| format!("{}: cannot read it", file.display()))?;
        let index = serde_json::from_slice(&text)
            .with_context(|| format!("{}: not an index of certificates", file.display()))?;
        Ok(Self { path: path.to_owned(), authority, index, _lock: lock })
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.index.certificates
    }

    /// Makes a certificate for a name that has none.
    pub(super) fn issue(
        &mut self,
        name: &str,
        kind: Kind,
        san: &[String],
        lifetime: Duration,
    ) -> Result<Entry> {
        check_name(name)?;
        for extension in ["crt", "key"] {
            let file = self.file(name, extension);
            ensure!(
                !file.exists(),
                "{} is there already; `overlane pki renew {name}` replaces it",
                file.display()
            );
        }
        self.make(name, kind, san, lifetime)
    }

    /// Makes a new certificate in place of the last one of `name`.
    pub(super) fn renew(&mut self, name: &str, lifetime: Duration, revoke: bool) -> Result<Entry> {
        check_name(name)?;
        let last = self.index.certificates.iter().rev().find(|entry| entry.name == name).cloned();
        let last = last.with_context(|| format!("{name}: no certificate of that name was issued"))?;
        let made = self.make(name, last.kind, &last.san, lifetime)?;
        if revoke {
            // The new one first: a name is never without a certificate.
            self.take_back(|entry| entry.name == name && entry.serial != made.serial)?;
        }
        Ok(made)
    }

    /// Takes certificates back; those that it concerned.
    pub(super) fn revoke(&mut self, which: Which<'_>) -> Result<Vec<Entry>> {
        let revoked = match which {
            Which::Name(name) => self.take_back(|entry| entry.name == name)?,
            Which::Serial(serial) => {
                let serial = serial.to_string();
                self.take_back(|entry| entry.serial == serial)?
            }
        };
        ensure!(
            !revoked.is_empty(),
            "no certificate of that name or serial number is valid; `overlane pki list` shows all"
        );
        Ok(revoked)
    }

    /// Writes the list anew, good for `lifetime`, as those that follow.
    pub(super) fn refresh(&mut self, lifetime: Duration) -> Result<()> {
        self.index.crl_lifetime = lifetime.as_secs();
        self.write_list()
    }

    fn make(&mut self, name: &str, kind: Kind, san: &[String], lifetime: Duration) -> Result<Entry> {
        let names: Vec<&str> = [name].into_iter().chain(san.iter().map(String::as_str)).collect();
        let Issued { serial, not_after, certificate_pem, key_pem } =
            self.authority.issue_for(kind, &names, lifetime)?;
        ensure!(not_after > now(), "the authority's own certificate has run out");
        let (serial, name) = (serial.to_string(), name.to_owned());
        let entry = Entry { serial, name, kind, san: san.to_vec(), not_after, revoked: None };
        self.index.certificates.push(entry.clone());
        self.write_index()?;
        write(&self.file(&entry.name, "key"), &key_pem, 0o600)?;
        write(&self.file(&entry.name, "crt"), &certificate_pem, 0o644)?;
        Ok(entry)
    }

    /// Revokes what `concerns` says, and writes the list.
    fn take_back(&mut self, concerns: impl Fn(&Entry) -> bool) -> Result<Vec<Entry>> {
        let now = now();
        let mut revoked = Vec::new();
        for entry in &mut self.index.certificates {
            if concerns(entry) && entry.revoked.is_none() && entry.not_after > now {
                entry.revoked = Some(now);
                revoked.push(entry.clone());
            }
        }
        self.write_list()?;
        Ok(revoked)
    }

    fn write_list(&mut self) -> Result<()> {
        self.index.crl_number += 1;
        self.write_index()?;
        let now = now();
        let on_it = self.index.certificates.iter().filter(|entry| entry.not_after + GRACE > now);
        let revoked = on_it
            .filter_map(|entry| Some((entry, entry.revoked?)))
            .map(|(entry, at)| {
                let serial = entry.serial.parse().map_err(anyhow::Error::msg).context("index.json")?;
                Ok(Revoked { serial, at })
            })
            .collect::<Result<Vec<_>>>()?;
        let lifetime = Duration::from_secs(self.index.crl_lifetime);
        let list = self.authority.revocation_list(&revoked, self.index.crl_number, lifetime)?;
        Ok(write(&self.path.join("ca.crl"), &list, 0o644)?)
    }

    fn write_index(&mut self) -> Result<()> {
        let now = now();
        self.index.certificates.retain(|entry| entry.not_after.saturating_add(MEMORY) > now);
        let text = serde_json::to_string_pretty(&self.index)?;
        Ok(write(&self.path.join("index.json"), &text, 0o600)?)
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.path.join(format!("{name}.{extension}"))
    }
}

/// Waits for whoever else is at work in the directory.
fn lock(directory: &Path) -> Result<File> {
    let file = directory.join(".lock");
    let lock = || {
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file)?;
        open.lock()?;
        Ok::<_, std::io::Error>(open)
    };
    lock().with_context(|| format!("{}: cannot lock it", file.display()))
}

/// A name is a DNS name in a certificate and the name of two files.
fn check_name(name: &str) -> Result<()> {
    let legal = (1..=253).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && !name.starts_with('.');
    if !legal || name == "ca" {
        bail!(
            "name: must be 1 to 253 letters, digits, '-', '.' and '_', not begin with '.' and not be \"ca\", not {name:?}"
        );
    }
    Ok(())
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
