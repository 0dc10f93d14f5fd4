//! Capture files of the classic kind, Ethernet, as libpcap has them.

use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;

const MAGIC: u32 = 0xa1b2_c3d4;
const ETHERNET: u32 = 1;
const SNAPLEN: u32 = 65_535;
const HEADER: usize = 24;
const RECORD: usize = 16;

/// Writes frames into a new file.
///
/// # Errors
/// The file's.
pub fn write(file: &Path, frames: &[Vec<u8>]) -> Result<()> {
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, word: u32| bytes.extend(word.to_le_bytes());
    // Version 2.4.
    for value in [MAGIC, 0x0004_0002, 0, 0, SNAPLEN, ETHERNET] {
        word(&mut bytes, value);
    }
    for frame in frames {
        let length = u32::try_from(frame.len())?;
        for value in [0, 0, length, length] {
            word(&mut bytes, value);
        }
        bytes.extend(frame);
    }
    Ok(fs::write(file, bytes)?)
}

/// Reads the frames of a file that this machine's libpcap, or [`write`], wrote.
///
/// # Errors
/// The file's; that it is none of that kind, or ends in a frame.
pub fn read(file: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(file)?;
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map(u32::from_le_bytes)
    };
    // In nanoseconds or microseconds: nobody looks at the times.
    ensure!(matches!(word(&bytes, 0), Some(MAGIC | 0xa1b2_3c4d)), "{} is no capture", file.display());
    let (mut frames, mut rest) = (Vec::new(), bytes.get(HEADER..).unwrap_or(&[]));
    while !rest.is_empty() {
        let length = word(rest, 8).map(|length| length as usize);
        let frame = length.and_then(|length| rest.get(RECORD..RECORD + length));
        let Some(frame) = frame else { anyhow::bail!("{} ends in a frame", file.display()) };
        frames.push(frame.to_vec());
        rest = rest.get(RECORD + frame.len()..).unwrap_or(&[]);
    }
    Ok(frames)
}
