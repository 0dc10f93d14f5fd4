//! Capture files in the classic pcap format, read and written record by record, so that one of any size takes the memory
//! of its largest packet.
//!
//! Ours, as a header of 24 bytes and one of 16 per packet are all there is to it: of the crates that are kept up, one
//! binds the C library and one only reads, and the last stable release of the one that does both is years old.
//!
//! The format is `draft-ietf-opsawg-pcap`; link types are those of <https://www.tcpdump.org/linktypes.html>.

use core::time::Duration;
use std::io::{self, Read, Write};

/// Most bytes of one packet, as in libpcap (`MAXIMUM_SNAPLEN`): what claims more is no capture of packets.
pub const MOST: u32 = 262_144;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// First block of a pcapng file, the same in both byte orders.
const PCAPNG: u32 = 0x0a0d_0d0a;
const VERSION: (u16, u16) = (2, 4);

/// What is wrong with a capture. Offsets are bytes from the beginning of the file.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It could not be read.
    #[error("cannot be read at offset {offset}: {error}")]
    Read {
        /// What was to be read from.
        offset: u64,
        /// Why it was not.
        error: io::Error,
    },
    /// It ends within a header or a packet.
    #[error("is cut off: the {what} at offset {offset} has {wanted} bytes, the file {there} of them")]
    CutOff {
        /// What is cut off.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        wanted: usize,
        /// How much of it is there.
        there: usize,
    },
    /// It is of the newer format.
    #[error("is pcapng, not classic pcap; convert it with: tcpdump -r IN.pcapng -w OUT.pcap")]
    Pcapng,
    /// It is no capture.
    #[error("is no pcap file: it begins with {0:#010x}")]
    Magic(u32),
    /// It is of an unknown version of the format.
    #[error("is pcap {0}.{1} at offset 4; only 2.4 is known")]
    Version(u16, u16),
    /// Its packets begin with something else than Ethernet or IP.
    #[error(
        "has link type {0:#x} at offset 20; only Ethernet (1) and raw IP (101, 12, 14) can be translated"
    )]
    Link(u32),
    /// A packet is longer than any may be.
    #[error(
        "is malformed: the packet at offset {offset} has {length} bytes, and at most {MOST} are possible"
    )]
    TooLong {
        /// Where its header begins.
        offset: u64,
        /// How long it claims to be.
        length: u32,
    },
    /// More was captured of a packet than it had.
    #[error(
        "is malformed: the packet at offset {offset} had {length} bytes, of which {captured} were captured"
    )]
    Lengths {
        /// Where its header begins.
        offset: u64,
        /// How long the packet was.
        length: u32,
        /// How much of it was captured.
        captured: u32,
    },
}

/// What a packet of a capture begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// An IPv4 or IPv6 header.
    Raw,
}

impl Link {
    fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            // 101 in files; 12 and 14 are what some systems call the same when they capture, and some write.
            101 | 12 | 14 => Some(Self::Raw),
            _ => None,
        }
    }
}

/// The header of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What its packets begin with.
    pub link: Link,
    big_endian: bool,
    nanoseconds: bool,
    time_zone: u32,
    accuracy: u32,
    snap_length: u32,
    link_number: u32,
}

impl Header {
    fn parse(bytes: [u8; FILE_HEADER]) -> Result<Self, CaptureError> {
        let magic = word(&bytes, 0, true);
        let (big_endian, nanoseconds) = match (magic, magic.swap_bytes()) {
            (MICROSECONDS, _) => (true, false),
            (NANOSECONDS, _) => (true, true),
            (_, MICROSECONDS) => (false, false),
            (_, NANOSECONDS) => (false, true),
            (PCAPNG, _) => return Err(CaptureError::Pcapng),
            _ => return Err(CaptureError::Magic(magic)),
        };
        let word = |at| word(&bytes, at, big_endian);
        // The two halves lie in the order of the bytes.
        let versions = if big_endian { word(4).rotate_right(16) } else { word(4) };
        let version = (versions as u16, (versions >> 16) as u16);
        if version != VERSION {
            return Err(CaptureError::Version(version.0, version.1));
        }
        let link_number = word(20);
        Ok(Self {
            link: Link::of(link_number).ok_or(CaptureError::Link(link_number))?,
            big_endian,
            nanoseconds,
            time_zone: word(8),
            accuracy: word(12),
            snap_length: word(16),
            link_number,
        })
    }

    /// Whether the first bytes are those of a capture that can be read.
    fn is_known(bytes: &[u8; FILE_HEADER]) -> bool {
        let magic = word(bytes, 0, true);
        [magic, magic.swap_bytes()].iter().any(|magic| [MICROSECONDS, NANOSECONDS].contains(magic))
    }

    fn emit(&self) -> [u8; FILE_HEADER] {
        let mut bytes = [0; FILE_HEADER];
        let magic = if self.nanoseconds { NANOSECONDS } else { MICROSECONDS };
        let (major, minor) = (u32::from(VERSION.0), u32::from(VERSION.1));
        let versions = if self.big_endian { major << 16 | minor } else { minor << 16 | major };
        let words = [magic, versions, self.time_zone, self.accuracy, self.snap_length, self.link_number];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *place = self.order(word);
        }
        bytes
    }

    const fn order(&self, word: u32) -> [u8; 4] {
        if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() }
    }
}

/// When a packet was captured, as it is written in the capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    seconds: u32,
    /// Of a second: billionths or millionths, as the capture has it.
    fraction: u32,
    nanoseconds: bool,
}

impl Timestamp {
    /// Time since 1970.
    #[must_use]
    pub fn since_epoch(self) -> Duration {
        let scale = if self.nanoseconds { 1 } else { 1000 };
        let nanoseconds = u64::from(self.fraction) * scale;
        Duration::from_secs(self.seconds.into()) + Duration::from_nanos(nanoseconds)
    }
}

/// A packet of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was captured.
    pub time: Timestamp,
    /// What of it was captured.
    pub bytes: &'a [u8],
    /// How long it was: at least as long as what was captured.
    pub length: u32,
}

impl Record<'_> {
    /// Whether only its beginning was captured.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        (self.bytes.len() as u64) < u64::from(self.length)
    }
}

/// Reads a capture.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Header,
    offset: u64,
    bytes: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the header. `input` should be buffered.
    ///
    /// # Errors
    /// [`CaptureError`] if it is none of a capture that can be read.
    pub fn new(mut input: R) -> Result<Self, CaptureError> {
        let mut bytes = [0; FILE_HEADER];
        let there = fill(&mut input, &mut bytes, 0)?;
        // A file that is something else is often shorter, too; what it is says more.
        if there < FILE_HEADER && (there < 4 || Header::is_known(&bytes)) {
            let what = "file header";
            return Err(CaptureError::CutOff { what, offset: 0, wanted: FILE_HEADER, there });
        }
        let header = Header::parse(bytes)?;
        Ok(Self { input, header, offset: FILE_HEADER as u64, bytes: Vec::new() })
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The next packet, or `None` at the end of the capture.
    ///
    /// # Errors
    /// [`CaptureError`]; nothing more can be read then.
    pub fn read(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        let mut header = [0; RECORD_HEADER];
        let offset = self.offset;
        let there = fill(&mut self.input, &mut header, offset)?;
        if there == 0 {
            return Ok(None);
        }
        if there < RECORD_HEADER {
            let what = "packet header";
            return Err(CaptureError::CutOff { what, offset, wanted: RECORD_HEADER, there });
        }
        let word = |at| word(&header, at, self.header.big_endian);
        let time = Timestamp { seconds: word(0), fraction: word(4), nanoseconds: self.header.nanoseconds };
        let (captured, length) = (word(8), word(12));
        if captured > MOST {
            return Err(CaptureError::TooLong { offset, length: captured });
        }
        if captured > length {
            return Err(CaptureError::Lengths { offset, length, captured });
        }
        let wanted = captured as usize;
        self.bytes.resize(wanted, 0);
        self.offset += RECORD_HEADER as u64;
        let there = fill(&mut self.input, &mut self.bytes, self.offset)?;
        if there < wanted {
            return Err(CaptureError::CutOff { what: "packet", offset: self.offset, wanted, there });
        }
        self.offset += u64::from(captured);
        Ok(Some(Record { time, bytes: &self.bytes, length }))
    }
}

/// Writes a capture like another one: in its byte order, with its resolution of time and its link type.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    header: Header,
}

impl<W: Write> Writer<W> {
    /// Writes the header. `output` should be buffered.
    ///
    /// # Errors
    /// Of `output`.
    pub fn like(header: &Header, mut output: W) -> io::Result<Self> {
        // Packets become longer; 0 stands for no limit.
        let snap_length = if header.snap_length == 0 { 0 } else { header.snap_length.max(MOST) };
        let header = Header { snap_length, ..*header };
        output.write_all(&header.emit())?;
        Ok(Self { output, header })
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// Of `output`.
    pub fn write(&mut self, time: Timestamp, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        for word in [time.seconds, time.fraction, length, length] {
            self.output.write_all(&self.header.order(word))?;
        }
        self.output.write_all(bytes)
    }

    /// What it was written to.
    pub fn into_inner(self) -> W {
        self.output
    }
}

/// Fills `bytes` as far as the input goes; how far that is.
fn fill(input: &mut impl Read, bytes: &mut [u8], offset: u64) -> Result<usize, CaptureError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CaptureError::Read { offset: offset + filled as u64, error }),
        }
    }
    Ok(filled)
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
