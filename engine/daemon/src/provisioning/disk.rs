//! The last state, kept on disk, so that a restarted engine forwards before it reaches the service.
//!
//! Two files in the state directory. `state` holds the whole state: a header (magic, format version, length and
//! CRC-32 of the body, all big-endian) and a body of length-delimited sync-protocol messages. It is replaced whole:
//! written beside, synced, renamed, directory synced. `contact` holds when the service was last heard of, so that
//! this changes without writing a large state again. A file that is not exactly what was written is set aside, and
//! said so.

use super::desired::{DesiredState, Kept};
use super::model::{Change, What};
use super::wire;
use core::time::Duration;
use overlane_api::sync;
use prost::Message;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The engine's state directory.
#[derive(Debug, Clone)]
pub struct StateDirectory(PathBuf);

/// What was found on disk.
#[derive(Debug)]
pub struct Stored {
    /// The state.
    pub state: DesiredState,
    /// When the service was last heard of.
    pub contact: SystemTime,
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not what an engine wrote; it has been renamed to `kept`.
    #[error("{}: {problem}; ignored, and kept as {}", file.display(), kept.display())]
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// Where it is now.
        kept: PathBuf,
    },
}

const MAGIC: &[u8; 8] = b"OVLSTATE";
const CONTACT_MAGIC: &[u8; 8] = b"OVLCTACT";
/// Version of both formats. One of before does not say which vnets are on demand, so its revision is no place to go on from.
const VERSION: u32 = 2;
/// Magic, version, body length, body CRC.
const HEADER: usize = 8 + 4 + 8 + 4;
/// A larger file cannot be an engine's: 8 GiB.
const MAX_FILE: u64 = 8 << 30;
/// Changes per message of the body.
const CHUNK: usize = 1024;

impl StateDirectory {
    /// Opens (and makes) the directory, for this user only.
    ///
    /// # Errors
    /// Whatever making or checking it returns.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    fn state_file(&self) -> PathBuf {
        self.0.join("state")
    }

    fn contact_file(&self) -> PathBuf {
        self.0.join("contact")
    }

    /// Reads what was saved; `None` when nothing was. The caller decides whether it is too old.
    ///
    /// # Errors
    /// [`LoadError`]; a corrupt file has been set aside.
    pub fn load(&self) -> Result<Option<Stored>, LoadError> {
        let file = self.state_file();
        let bytes = match std::fs::metadata(&file).and_then(|metadata| {
            if metadata.len() > MAX_FILE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than any state"));
            }
            std::fs::read(&file)
        }) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LoadError::Io { file, error }),
        };
        match decode(&bytes) {
            Ok(Stored { state, contact }) => {
                Ok(Some(Stored { state, contact: self.load_contact().unwrap_or(contact) }))
            }
            Err(problem) => {
                let kept = self.0.join("state.corrupt");
                std::fs::rename(&file, &kept).map_err(|error| LoadError::Io { file: file.clone(), error })?;
                Err(LoadError::Corrupt { file, problem, kept })
            }
        }
    }

    /// Writes the state; the old one stays until the new one is safe.
    ///
    /// # Errors
    /// Whatever writing returns; the old state is still there.
    pub fn save(&self, state: &DesiredState, contact: SystemTime) -> io::Result<()> {
        let bytes = encode(state, contact);
        // A stale contact file must not make the new state look older than it is.
        self.replace(&self.contact_file(), &encode_contact(contact))?;
        self.replace(&self.state_file(), &bytes)
    }

    /// Writes only when the service was last heard of.
    ///
    /// # Errors
    /// Whatever writing returns.
    pub fn save_contact(&self, contact: SystemTime) -> io::Result<()> {
        self.replace(&self.contact_file(), &encode_contact(contact))
    }

    fn load_contact(&self) -> Option<SystemTime> {
        let bytes = std::fs::read(self.contact_file()).ok()?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let time = body.strip_prefix(CONTACT_MAGIC)?;
        let time = <[u8; 8]>::try_from(time).ok()?;
        (crc32fast::hash(body) == u32::from_be_bytes(*crc)).then(|| from_seconds(u64::from_be_bytes(time)))?
    }

    fn replace(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let new = file.with_extension("new");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut out = options.open(&new)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        std::fs::rename(&new, file)?;
        File::open(&self.0)?.sync_all()
    }
}

fn from_seconds(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn to_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn encode_contact(contact: SystemTime) -> Vec<u8> {
    let mut bytes = CONTACT_MAGIC.to_vec();
    bytes.extend_from_slice(&to_seconds(contact).to_be_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// The body: time of contact (8 bytes), the revision (length-delimited, empty when there is none), then changes, the
/// host's first.
fn encode(state: &DesiredState, contact: SystemTime) -> Vec<u8> {
    let mut body = to_seconds(contact).to_be_bytes().to_vec();
    let revision = state.revision.map(wire::encode_revision).unwrap_or_default();
    push(&mut body, &revision);
    if let Some(Kept { revision, value: host }) = &state.host {
        let layout = host.layout;
        let mut chunk = sync::Changes::default();
        let mut add = |revision: u64, what: What| {
            chunk.changes.push(wire::encode_change(&Change { revision, what }, layout));
            if chunk.changes.len() == CHUNK {
                push(&mut body, &chunk);
                chunk.changes.clear();
            }
        };
        add(*revision, What::PutHost(host.clone()));
        for kept in state.vnets.values() {
            add(kept.revision, What::PutVnet((*kept.value).clone()));
        }
        for kept in state.interfaces.values() {
            add(kept.revision, What::PutInterface((*kept.value).clone()));
        }
        for (target, kept) in &state.mappings {
            add(kept.revision, What::PutMapping(*target, kept.value.clone()));
        }
        for (group, kept) in &state.groups {
            add(kept.revision, What::PutGroup(*group, kept.value.clone()));
        }
        for kept in state.rules.values() {
            add(kept.revision, What::PutRule((*kept.value).clone()));
        }
        if !chunk.changes.is_empty() {
            push(&mut body, &chunk);
        }
    }
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn push(body: &mut Vec<u8>, message: &impl Message) {
    body.extend_from_slice(&message.encode_length_delimited_to_vec());
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8], what: &str) -> Result<&'a [u8; N], String> {
    let (front, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| format!("cut off in its {what}"))?;
    *bytes = rest;
    Ok(front)
}

fn decode(bytes: &[u8]) -> Result<Stored, String> {
    let mut rest = bytes;
    if take::<8>(&mut rest, "header")? != MAGIC {
        return Err("not an engine's state".to_owned());
    }
    let version = u32::from_be_bytes(*take(&mut rest, "header")?);
    if version != VERSION {
        return Err(format!("of format version {version}, and this engine reads {VERSION}"));
    }
    let length = u64::from_be_bytes(*take(&mut rest, "header")?);
    let crc = u32::from_be_bytes(*take(&mut rest, "header")?);
    if rest.len() as u64 != length {
        return Err(format!("{} bytes long where its header says {length}", rest.len()));
    }
    if crc32fast::hash(rest) != crc {
        return Err("damaged: its checksum is wrong".to_owned());
    }
    let contact =
        from_seconds(u64::from_be_bytes(*take(&mut rest, "body")?)).ok_or("of a time that does not exist")?;
    let parse = |error: prost::DecodeError| format!("damaged: {error}");
    let mut state = DesiredState::default();
    let revision = sync::Revision::decode_length_delimited(&mut rest).map_err(parse)?;
    if revision != sync::Revision::default() {
        state.revision = Some(wire::revision(Some(&revision)).map_err(|error| error.to_string())?);
    }
    let mut layout = None;
    while !rest.is_empty() {
        let chunk = sync::Changes::decode_length_delimited(&mut rest).map_err(parse)?;
        for change in chunk.changes {
            if let (None, Some(sync::change::What::PutHost(host))) = (layout, &change.what) {
                layout = Some(wire::host(host).map_err(|error| error.to_string())?.layout);
            }
            let layout = layout.ok_or("without a host")?;
            let change = wire::change(change, layout).map_err(|error| error.to_string())?;
            state.apply(change).map_err(|error| error.to_string())?;
        }
    }
    Ok(Stored { state, contact })
}

#[cfg(test)]
mod tests {
    use super::super::model::{Host, Mapping, Revision, Target};
    use super::*;
    use core::net::Ipv4Addr;
    use overlane_dataplane::address::{HostPrefix, Layout, Locator};
    use overlane_dataplane::id::{Slot, VnetId};

    fn state(mappings: u32) -> DesiredState {
        let prefix = HostPrefix::parse(Layout::Slot64, "fd00:0:0:a::/64").unwrap();
        let locator = Locator::new(Layout::Slot64, prefix, Slot::ZERO, VnetId::MIN).unwrap();
        let mut state = DesiredState {
            revision: Some(Revision { incarnation: [7; 16], number: 42 }),
            ..DesiredState::default()
        };
        let host = Host { id: "host-a".into(), layout: Layout::Slot64, prefix };
        state.apply(Change { revision: 1, what: What::PutHost(host) }).unwrap();
        for index in 1..=mappings {
            let target = Target { vnet: VnetId::MIN, ipv4: Ipv4Addr::from_bits(0x0a00_0000 + index) };
            let mapping = Mapping { locator, also_accept: None, live: index % 2 == 0, tags: None };
            let what = What::PutMapping(target, mapping);
            state.apply(Change { revision: index.into(), what }).unwrap();
        }
        state
    }

    fn open() -> (tempfile::TempDir, StateDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(directory.path()).unwrap();
        (directory, state)
    }

    fn time(seconds: u64) -> SystemTime {
        from_seconds(seconds).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded_with_revision_and_time() {
        let (_keep, directory) = open();
        assert!(directory.load().unwrap().is_none());
        let saved = state(3000);
        directory.save(&saved, time(1_000_000)).unwrap();
        let loaded = directory.load().unwrap().unwrap();
        assert_eq!(loaded.state.revision, saved.revision);
        assert_eq!(loaded.state.host, saved.host);
        assert_eq!(loaded.state.mappings, saved.mappings);
        assert_eq!(loaded.contact, time(1_000_000));
    }

    #[test]
    fn a_later_contact_counts_without_writing_the_state_again() {
        let (_keep, directory) = open();
        directory.save(&state(1), time(1_000_000)).unwrap();
        directory.save_contact(time(2_000_000)).unwrap();
        assert_eq!(directory.load().unwrap().unwrap().contact, time(2_000_000));
        std::fs::write(directory.contact_file(), b"OVLCTACTgarbage").unwrap();
        assert_eq!(directory.load().unwrap().unwrap().contact, time(1_000_000));
    }

    #[test]
    fn a_file_cut_at_any_byte_is_set_aside_not_believed() {
        let whole = encode(&state(3), time(1));
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "{length}");
        }
        assert!(decode(&whole).is_ok());
        let (_keep, directory) = open();
        std::fs::write(directory.state_file(), &whole[..whole.len() - 1]).unwrap();
        let error = directory.load().unwrap_err().to_string();
        assert!(error.contains("bytes long where its header says"), "{error}");
        assert!(!directory.state_file().exists());
        assert!(directory.0.join("state.corrupt").exists());
        assert!(directory.load().unwrap().is_none());
    }

    #[test]
    fn a_file_with_any_byte_changed_is_not_believed() {
        let whole = encode(&state(3), time(1));
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] ^= 0x10;
            assert!(decode(&damaged).is_err(), "{index}");
        }
    }
}
