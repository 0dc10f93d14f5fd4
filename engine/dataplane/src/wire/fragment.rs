//! The IPv6 fragment header (RFC 8200, 4.5).

use super::WireError;

/// Bytes of the header.
pub const LENGTH: usize = 8;

const MORE_FRAGMENTS: u16 = 1;
const OFFSET_SHIFT: u32 = 3;

/// A view of an IPv6 fragment header. Reserved bits are not looked at.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; LENGTH]);

impl<'a> Header<'a> {
    /// The header at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, WireError> {
        bytes.first_chunk().map(Self).ok_or(WireError::Truncated)
    }

    /// The header that follows in the datagram; only in the first fragment it follows this one.
    #[inline]
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        self.0[0]
    }

    const fn offset_and_flag(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Where the payload lies in the datagram's, in units of eight bytes, 0 to 8,191.
    #[inline]
    #[must_use]
    pub const fn offset(&self) -> u16 {
        self.offset_and_flag() >> OFFSET_SHIFT
    }

    /// Whether more fragments of the datagram lie behind this one.
    #[inline]
    #[must_use]
    pub const fn more_fragments(&self) -> bool {
        self.offset_and_flag() & MORE_FRAGMENTS != 0
    }

    /// Whether it is a datagram's only fragment, which has nothing to do with any other (RFC 6946).
    #[inline]
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        self.offset() == 0 && !self.more_fragments()
    }

    /// The identification of the datagram that fragments belong to.
    #[inline]
    #[must_use]
    pub const fn identification(&self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }
}

/// The header that a fragment is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// The header that follows in the datagram.
    pub next_header: u8,
    /// Where the payload lies in the datagram's, in units of eight bytes, 0 to 8,191.
    pub offset: u16,
    /// Whether more fragments of the datagram lie behind it.
    pub more_fragments: bool,
    /// The identification of the datagram.
    pub identification: u32,
}

impl Fields {
    /// Writes the header.
    #[inline]
    pub const fn emit(&self, header: &mut [u8; LENGTH]) {
        let more_fragments = if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        let word = (self.offset << OFFSET_SHIFT | more_fragments) as u64;
        let bytes = (self.next_header as u64) << 56 | word << 32 | self.identification as u64;
        *header = bytes.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_what_etherparse_reads() {
        for (offset, more_fragments) in [(0, true), (181, true), (8191, false), (0, false)] {
            let fields = Fields { next_header: 17, offset, more_fragments, identification: 0x89ab_cdef };
            let mut bytes = [0xff; LENGTH];
            fields.emit(&mut bytes);
            let (parsed, rest) = etherparse::Ipv6FragmentHeader::from_slice(&bytes).unwrap();
            assert!(rest.is_empty());
            assert_eq!(parsed.to_bytes(), bytes);
            assert_eq!((parsed.next_header.0, parsed.identification), (17, 0x89ab_cdef));
            assert_eq!((parsed.fragment_offset.value(), parsed.more_fragments), (offset, more_fragments));
            let header = Header::new_checked(&bytes).unwrap();
            assert_eq!((header.next_header(), header.identification()), (17, 0x89ab_cdef));
            assert_eq!((header.offset(), header.more_fragments()), (offset, more_fragments));
            assert_eq!(header.is_atomic(), !parsed.is_fragmenting_payload());
        }
    }

    #[test]
    fn reserved_bits_are_ignored_and_truncation_is_refused() {
        let header = [58, 0xff, 0x00, 0x06, 0, 0, 0, 1];
        let view = Header::new_checked(&header).unwrap();
        assert!(view.is_atomic() && view.next_header() == 58 && view.identification() == 1);
        assert_eq!(Header::new_checked(&header[..7]).unwrap_err(), WireError::Truncated);
    }
}
