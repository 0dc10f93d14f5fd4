//! One packet of a capture after the other through the translator.

use super::capture::{Link, Record, Writer};
use super::report::{Direction, Entry, Leaving, Verdict};
use overlane_dataplane::buffer::{HeapOptions, HeapPacket, HeapPool};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::limit::{IcmpLimit, TokenBucket};
use overlane_dataplane::packet::Packet;
use overlane_dataplane::translate::{Options, Side, Translator};
use overlane_dataplane::wire::ethernet::{self, ethertype};
use std::io::{self, Write};

/// Most packets that come of one: an IPv4 link's least MTU carries 48 bytes of 65,535 in each fragment.
const MOST: usize = 2048;
/// Of an Ethernet header, what is before the type.
const TYPE: usize = ethernet::LENGTH - 2;

/// The translator, and what lasts from packet to packet.
#[derive(Debug)]
pub(super) struct Conversion {
    translator: Translator,
    pool: HeapPool,
    /// What each side is worth in ICMP errors, by the time of the capture.
    limits: [TokenBucket; 2],
    read: u64,
    written: u64,
    /// Memory for one frame after the other.
    frame: Vec<u8>,
    emitted: Vec<(Side, HeapPacket)>,
}

impl Conversion {
    pub(super) fn new(options: Options, limit: IcmpLimit) -> Self {
        Self {
            translator: Translator::new(options),
            pool: HeapPool::new(HeapOptions { limit: MOST, ..HeapOptions::default() }),
            limits: [TokenBucket::new(limit), TokenBucket::new(limit)],
            read: 0,
            written: 0,
            frame: Vec::new(),
            emitted: Vec::new(),
        }
    }

    /// Translates a packet and writes what comes of it, at the packet's own time.
    ///
    /// # Errors
    /// Of `writer`.
    pub(super) fn packet(
        &mut self,
        link: Link,
        record: &Record<'_>,
        writer: &mut Writer<impl Write>,
    ) -> io::Result<Entry> {
        self.read += 1;
        link.frame(record.bytes, &mut self.frame);
        let side = side(&self.frame);
        let (index, mut limited, outputs) = (self.read, false, Vec::new());
        if record.is_truncated() {
            let verdict = Verdict::Truncated;
            return Ok(Entry { index, side, verdict, reason: None, limited, outputs });
        }
        let mut allowed = |side: Side| {
            let within = self.limits[side as usize].take(record.time.since_epoch());
            limited |= !within;
            within
        };
        let mut emit = |side, packet| self.emitted.push((side, packet));
        let reason = match self.pool.packet(&self.frame) {
            Some(packet) => self.translator.translate(&self.pool, packet, &mut allowed, &mut emit).err(),
            None => Some(DropReason::NoBuffer),
        };
        let verdict = match (reason, self.emitted.as_slice()) {
            (None, _) => Verdict::Translated,
            (Some(_), []) => Verdict::Dropped,
            (Some(_), _) => Verdict::Answered,
        };
        let mut entry = Entry { index, side, verdict, reason, limited, outputs };
        for (to, packet) in self.emitted.drain(..) {
            self.written += 1;
            let direction = if Some(to) == side { Direction::Back } else { Direction::Across };
            entry.outputs.push(Leaving { index: self.written, side: to, direction });
            self.frame.clear();
            self.frame.extend(packet.segments().flatten());
            writer.write(record.time, link.captured(&self.frame))?;
        }
        Ok(entry)
    }
}

impl Link {
    /// A captured packet as an Ethernet frame.
    fn frame(self, bytes: &[u8], frame: &mut Vec<u8>) {
        frame.clear();
        if self == Self::Raw {
            let version = bytes.first().map(|first| first >> 4);
            let ethertype = match version {
                Some(4) => ethertype::IPV4,
                Some(6) => ethertype::IPV6,
                _ => 0,
            };
            frame.extend([0; TYPE]);
            frame.extend(ethertype.to_be_bytes());
        }
        frame.extend(bytes);
    }

    /// What of a frame is captured.
    fn captured(self, frame: &[u8]) -> &[u8] {
        match self {
            Self::Ethernet => frame,
            Self::Raw => frame.get(ethernet::LENGTH..).unwrap_or(&[]),
        }
    }
}

/// The IP version of a frame.
fn side(frame: &[u8]) -> Option<Side> {
    match u16::from_be_bytes(*frame.get(TYPE..)?.first_chunk()?) {
        ethertype::IPV4 => Some(Side::Ipv4),
        ethertype::IPV6 => Some(Side::Ipv6),
        _ => None,
    }
}
