//! IGMP (RFC 2236, RFC 3376): which groups the one host on a link wants to hear.

use super::WireError;
use super::checksum::Sum;
use core::net::Ipv4Addr;

/// Bytes of the shortest message, and of what is in front of a report's records.
pub const LENGTH: usize = 8;
/// Bytes of a query of version 3 without sources.
pub const QUERY_LENGTH: usize = 12;
/// Bytes of a record without its sources.
const RECORD: usize = 8;

/// The types that there are (RFC 3376, 4).
mod kind {
    pub(super) const QUERY: u8 = 0x11;
    pub(super) const REPORT_1: u8 = 0x12;
    pub(super) const REPORT_2: u8 = 0x16;
    pub(super) const LEAVE: u8 = 0x17;
    pub(super) const REPORT_3: u8 = 0x22;
}

/// A message, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Versions 1 and 2: the host is a member of the group, whoever sends to it.
    Join(Ipv4Addr),
    /// Version 2: the host is no member of the group any more.
    Leave(Ipv4Addr),
    /// Version 3: what has changed, or all that there is.
    Report(Records<'a>),
    /// A router asks who is a member.
    Query,
}

/// The records of a report, all of them whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records<'a> {
    bytes: &'a [u8],
    left: u16,
}

/// What a report says of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it says.
    pub kind: RecordKind,
    /// Of which group.
    pub group: Ipv4Addr,
    sources: &'a [u8],
}

/// What a record says (RFC 3376, 4.2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Only these sources are wanted (`IS_IN`, `TO_IN`).
    Include,
    /// All sources but these are wanted (`IS_EX`, `TO_EX`).
    Exclude,
    /// These are wanted besides (`ALLOW`).
    Allow,
    /// These are not wanted any more (`BLOCK`).
    Block,
}

impl<'a> Message<'a> {
    /// The message that `bytes`, the whole payload of an IPv4 packet, are. Of records whose kind is not known nothing is
    /// told, nor of those of addresses that are no groups.
    ///
    /// # Errors
    /// [`WireError`] for a message that is cut off, has a wrong checksum or is of another type.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, WireError> {
        let header: &[u8; LENGTH] = bytes.first_chunk().ok_or(WireError::Truncated)?;
        if Sum::ZERO.add_bytes(bytes).checksum() != 0 {
            return Err(WireError::Malformed);
        }
        let [kind, _, _, _, a, b, c, d] = *header;
        let group = Ipv4Addr::new(a, b, c, d);
        match kind {
            kind::QUERY => Ok(Self::Query),
            kind::REPORT_1 | kind::REPORT_2 if group.is_multicast() => Ok(Self::Join(group)),
            kind::LEAVE if group.is_multicast() => Ok(Self::Leave(group)),
            kind::REPORT_3 => {
                let left = u16::from_be_bytes([c, d]);
                let records = Records { bytes: bytes.get(LENGTH..).unwrap_or(&[]), left };
                let mut rest = records;
                for _ in 0..left {
                    rest.step().ok_or(WireError::Truncated)?;
                }
                Ok(Self::Report(records))
            }
            _ => Err(WireError::Malformed),
        }
    }
}

impl<'a> Records<'a> {
    /// The next record, if its kind is known and it is of a group; `None` if there is none, or it is cut off.
    fn step(&mut self) -> Option<Option<Record<'a>>> {
        self.left = self.left.checked_sub(1)?;
        let [kind, auxiliary, high, low, a, b, c, d] = *self.bytes.first_chunk::<RECORD>()?;
        let sources = usize::from(u16::from_be_bytes([high, low])) * 4;
        let end = RECORD + sources;
        let record = self.bytes.get(RECORD..end)?;
        // There is none that means anything (RFC 3376, 4.2.11).
        self.bytes = self.bytes.get(end + usize::from(auxiliary) * 4..)?;
        let kind = match kind {
            1 | 3 => RecordKind::Include,
            2 | 4 => RecordKind::Exclude,
            5 => RecordKind::Allow,
            6 => RecordKind::Block,
            _ => return Some(None),
        };
        let group = Ipv4Addr::new(a, b, c, d);
        Some(group.is_multicast().then_some(Record { kind, group, sources: record }))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            if let Some(record) = self.step()? {
                return Some(record);
            }
        }
    }
}

impl Record<'_> {
    /// The sources that it names.
    pub fn sources(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.sources.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets))
    }
}

/// A query of version 3, which older hosts take for one of theirs: who is a member of `group`, or, without one, of what?
/// Answers are due within `tenths` of a second, up to 127.
#[must_use]
pub fn query(group: Option<Ipv4Addr>, tenths: u8) -> [u8; QUERY_LENGTH] {
    /// How often a host says what it has to say, since something may be lost (RFC 3376, 4.1.6).
    const ROBUSTNESS: u8 = 2;
    /// How many seconds lie between queries (RFC 3376, 8.2).
    const INTERVAL: u8 = 125;
    let [a, b, c, d] = group.unwrap_or(Ipv4Addr::UNSPECIFIED).octets();
    let mut bytes = [kind::QUERY, tenths.min(127), 0, 0, a, b, c, d, ROBUSTNESS, INTERVAL, 0, 0];
    let [high, low] = Sum::ZERO.add_bytes(&bytes).checksum().to_be_bytes();
    (bytes[2], bytes[3]) = (high, low);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

    fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[2..4].fill(0);
        let sum = Sum::ZERO.add_bytes(&bytes).checksum();
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn record(kind: u8, group: Ipv4Addr, sources: &[Ipv4Addr], auxiliary: u8) -> Vec<u8> {
        let mut bytes = vec![kind, auxiliary];
        bytes.extend((sources.len() as u16).to_be_bytes());
        bytes.extend(group.octets());
        bytes.extend(sources.iter().flat_map(|source| source.octets()));
        bytes.extend(vec![0xee; usize::from(auxiliary) * 4]);
        bytes
    }

    fn report(records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0x22, 0, 0, 0, 0, 0];
        bytes.extend((records.len() as u16).to_be_bytes());
        bytes.extend(records.concat());
        signed(bytes)
    }

    #[test]
    fn messages_of_each_version_are_read() {
        let [a, b, c, d] = GROUP.octets();
        for (kind, expected) in
            [(0x12, Message::Join(GROUP)), (0x16, Message::Join(GROUP)), (0x17, Message::Leave(GROUP))]
        {
            let bytes = signed(vec![kind, 0, 0, 0, a, b, c, d]);
            assert_eq!(Message::new_checked(&bytes), Ok(expected));
            // No group.
            let bytes = signed(vec![kind, 0, 0, 0, 10, 0, 0, 1]);
            assert_eq!(Message::new_checked(&bytes), Err(WireError::Malformed));
        }
        let sources = [Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::new(10, 0, 0, 8)];
        let bytes = report(&[
            record(4, GROUP, &[], 0),
            record(9, GROUP, &sources, 0),
            record(1, Ipv4Addr::new(10, 0, 0, 1), &[], 0),
            record(5, GROUP, &sources, 2),
            record(6, GROUP, &sources[..1], 0),
        ]);
        let Ok(Message::Report(records)) = Message::new_checked(&bytes) else { panic!("a report") };
        let read: Vec<_> =
            records.map(|record| (record.kind, record.sources().collect::<Vec<_>>())).collect();
        let expected = [
            (RecordKind::Exclude, vec![]),
            (RecordKind::Allow, sources.to_vec()),
            (RecordKind::Block, sources[..1].to_vec()),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_cut_off_or_has_a_wrong_sum_is_refused() {
        let whole = report(&[record(3, GROUP, &[GROUP], 1)]);
        for length in 0..whole.len() {
            let part = whole[..length].to_vec();
            assert!(Message::new_checked(&part).is_err());
            if length >= LENGTH {
                assert_eq!(Message::new_checked(&signed(part)), Err(WireError::Truncated));
            }
        }
        for place in 0..whole.len() {
            let mut other = whole.clone();
            other[place] ^= 1;
            assert_eq!(Message::new_checked(&other), Err(WireError::Malformed));
        }
    }

    #[test]
    fn query_is_one() {
        let bytes = query(Some(GROUP), 10);
        assert_eq!(Message::new_checked(&bytes), Ok(Message::Query));
        assert_eq!((bytes[1], &bytes[4..8]), (10, &GROUP.octets()[..]));
        assert_eq!(query(None, 255)[1], 127);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), three: bool) {
            let mut bytes = bytes;
            if let (true, Some(first)) = (three, bytes.first_mut()) {
                *first = 0x22;
            }
            if bytes.len() >= LENGTH {
                bytes = signed(bytes);
            }
            if let Ok(Message::Report(records)) = Message::new_checked(&bytes) {
                for record in records {
                    prop_assert!(record.group.is_multicast());
                    prop_assert!(record.sources().count() * 4 <= bytes.len());
                }
            }
        }
    }
}
