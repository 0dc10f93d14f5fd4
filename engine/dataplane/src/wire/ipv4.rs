//! IPv4 (RFC 791).

use super::WireError;
use super::checksum::Sum;
use super::word::put_u32;
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;

/// Bytes of a header without options.
pub const LENGTH: usize = 20;

/// Bytes of a header with as many options as there can be.
pub const MAX_LENGTH: usize = 60;
/// Bytes of the longest payload: a datagram's, whole or in fragments, behind a header without options.
pub const MAX_PAYLOAD: u16 = u16::MAX - LENGTH as u16;

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Options (RFC 791, 3.1): the flag in the kind of those that every fragment carries; end of list, no operation, and
/// the two that route by a list of addresses.
mod option {
    pub(super) const COPIED: u8 = 0x80;
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub(super) const STRICT_SOURCE_ROUTE: u8 = 137;
}

/// A view of an IPv4 header with its options.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    fixed: &'a [u8; LENGTH],
    options: &'a [u8],
}

impl<'a> Header<'a> {
    /// The header at the beginning of `bytes`: version 4, wholly there, total length at least its own.
    /// The checksum is asked for separately.
    ///
    /// # Errors
    /// [`WireError`].
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (fixed, rest) = bytes.split_first_chunk::<LENGTH>().ok_or(WireError::Truncated)?;
        let [version_length, ..] = *fixed;
        if version_length >> 4 != 4 || version_length & 0xf < 5 {
            return Err(WireError::Malformed);
        }
        let options =
            rest.get(..usize::from(version_length & 0xf) * 4 - LENGTH).ok_or(WireError::Truncated)?;
        let header = Self { fixed, options };
        if usize::from(header.total_length()) < header.length() {
            return Err(WireError::Malformed);
        }
        Ok(header)
    }

    /// Bytes of the header with its options, 20 to 60.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> usize {
        LENGTH + self.options.len()
    }

    /// Bytes of the packet with this header.
    #[inline]
    #[must_use]
    pub const fn total_length(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// Type of service: DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn tos(&self) -> u8 {
        self.fixed[1]
    }

    /// The identification of the datagram that fragments belong to.
    #[inline]
    #[must_use]
    pub const fn identification(&self) -> u16 {
        u16::from_be_bytes([self.fixed[4], self.fixed[5]])
    }

    const fn flags_and_offset(&self) -> u16 {
        u16::from_be_bytes([self.fixed[6], self.fixed[7]])
    }

    /// Whether routers may not cut the packet.
    #[inline]
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.flags_and_offset() & DONT_FRAGMENT != 0
    }

    /// Whether this is a part of a datagram.
    #[inline]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.flags_and_offset() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Whether more fragments of the datagram lie behind this one.
    #[inline]
    #[must_use]
    pub const fn more_fragments(&self) -> bool {
        self.flags_and_offset() & MORE_FRAGMENTS != 0
    }

    /// Where the payload lies in its datagram's, in units of eight bytes, 0 to 8,191.
    #[inline]
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        self.flags_and_offset() & FRAGMENT_OFFSET
    }

    /// Time to live.
    #[inline]
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        self.fixed[8]
    }

    /// The protocol of the payload.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.fixed[9]
    }

    /// Whether the header checksum is right.
    #[inline]
    #[must_use]
    pub fn is_checksum_right(&self) -> bool {
        let sum = Sum::ZERO.add_bytes(self.fixed);
        let sum = if self.options.is_empty() { sum } else { sum.add_bytes(self.options) };
        sum.checksum() == 0
    }

    /// The source address.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.fixed[12], self.fixed[13], self.fixed[14], self.fixed[15])
    }

    /// The destination address.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.fixed[16], self.fixed[17], self.fixed[18], self.fixed[19])
    }

    /// Whether an option routes the packet by a list of addresses, of which some are left (RFC 7915, 4.1).
    #[must_use]
    pub fn has_live_source_route(&self) -> bool {
        let mut options = self.options;
        while let [kind, rest @ ..] = options {
            options = match (*kind, rest) {
                (option::END, _) => return false,
                (option::NOP, rest) => rest,
                (option::LOOSE_SOURCE_ROUTE | option::STRICT_SOURCE_ROUTE, [length, pointer, ..])
                    if pointer <= length =>
                {
                    return true;
                }
                // The length counts the two bytes in front; one that is shorter ends the list, as no more can be
                // read.
                (_, [length @ 2..=u8::MAX, ..]) => options.get(usize::from(*length)..).unwrap_or(&[]),
                (_, _) => &[],
            };
        }
        false
    }

    /// The options that are to be in every fragment of the packet, and not in the first only (RFC 791, 3.1), padded
    /// to a multiple of four bytes. What is behind an option that cannot be read is left out.
    #[must_use]
    pub fn copied_options(&self) -> ArrayVec<u8, { MAX_LENGTH - LENGTH }> {
        let (mut copied, mut options) = (ArrayVec::new(), self.options);
        while let [kind, rest @ ..] = options {
            let length = match (*kind, rest) {
                (option::END, _) => break,
                (option::NOP, _) => 1,
                (_, [length, ..]) if *length >= 2 => usize::from(*length),
                _ => break,
            };
            let Some((option, rest)) = options.split_at_checked(length) else { break };
            if kind & option::COPIED != 0 {
                copied.extend(option.iter().copied());
            }
            options = rest;
        }
        // There is room: the options came in whole words.
        while copied.len() % 4 != 0 {
            copied.push(option::END);
        }
        copied
    }
}

/// The header that a packet is to have; no options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// Type of service.
    pub tos: u8,
    /// Bytes of the packet with this header.
    pub total_length: u16,
    /// Identification.
    pub identification: u16,
    /// Whether routers may not cut it.
    pub dont_fragment: bool,
    /// Whether more fragments of its datagram lie behind it.
    pub more_fragments: bool,
    /// Where its payload lies in its datagram's, in units of eight bytes, 0 to 8,191.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Fields {
    /// Reads a header without options that is no fragment's and whose checksum is right; anything else is for
    /// [`Header`]. The total length is not looked at.
    ///
    /// It is what most packets have, read in as few words as there are.
    #[inline(always)]
    #[must_use]
    pub fn read_plain(header: &[u8; LENGTH]) -> Option<Self> {
        let (one, rest) = header.split_first_chunk::<8>()?;
        let (two, three) = rest.split_first_chunk::<8>()?;
        let (one, two) = (u64::from_be_bytes(*one), u64::from_be_bytes(*two));
        let destination = u32::from_be_bytes(*three.first_chunk::<4>()?);
        // Version, header length and all of flags and offset but DF.
        if one & 0xff00_0000_0000_bfff != 0x4500_0000_0000_0000 {
            return None;
        }
        // Five numbers of 32 bits do not overflow. A right header sums to 0xffff, which is 0 modulo itself.
        let sum =
            (one >> 32) + (one & 0xffff_ffff) + (two >> 32) + (two & 0xffff_ffff) + u64::from(destination);
        if sum % 0xffff != 0 {
            return None;
        }
        Some(Self {
            tos: (one >> 48) as u8,
            total_length: (one >> 32) as u16,
            identification: (one >> 16) as u16,
            dont_fragment: one & u64::from(DONT_FRAGMENT) != 0,
            more_fragments: false,
            fragment_offset: 0,
            ttl: (two >> 56) as u8,
            protocol: (two >> 48) as u8,
            source: Ipv4Addr::from_bits(two as u32),
            destination: Ipv4Addr::from_bits(destination),
        })
    }

    /// Writes the header with its checksum.
    #[inline]
    pub fn emit(&self, header: &mut [u8; LENGTH]) {
        // Words in registers: a header written byte by byte and summed from memory costs more than all the rest.
        let flags = flags_and_offset(self.dont_fragment, self.more_fragments, self.fragment_offset);
        let mut words = [
            0x4500_0000 | u32::from(self.tos) << 16 | u32::from(self.total_length),
            u32::from(self.identification) << 16 | u32::from(flags),
            u32::from(self.ttl) << 24 | u32::from(self.protocol) << 16,
            self.source.to_bits(),
            self.destination.to_bits(),
        ];
        let sum = words.iter().fold(Sum::ZERO, |sum, word| sum.add_32(*word));
        words[2] |= u32::from(sum.checksum());
        for (place, word) in header.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
    }
}

/// A header without options of which only the destination is filled in; the rest is [`Own`]'s.
#[inline(always)]
pub(crate) const fn draft(destination: Ipv4Addr) -> [u8; LENGTH] {
    let [a, b, c, d] = destination.octets();
    [0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
}

/// What is a packet's own in the header of one that is no fragment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) tos: u8,
    /// Bytes of the packet with this header.
    pub(crate) length: u16,
    pub(crate) identification: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    /// As it lies in memory.
    pub(crate) source: u32,
}

impl Own {
    /// Completes a [`draft`] whose bytes sum to `sum`.
    #[inline(always)]
    pub(crate) fn complete(&self, header: &mut [u8; LENGTH], sum: Sum) {
        let one = u32::from(self.tos) << 16 | u32::from(self.length);
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
        let two = u32::from(self.identification) << 16 | u32::from(flags);
        let three = u32::from(self.ttl) << 24 | u32::from(self.protocol) << 16;
        let sum = sum.add_32(one).add_32(two).add_32(three).add_32(u32::from_be(self.source));
        put_u32(header, 0, (0x4500_0000 | one).to_be());
        put_u32(header, 4, two.to_be());
        put_u32(header, 8, (three | u32::from(sum.checksum())).to_be());
        put_u32(header, 12, self.source);
    }
}

#[inline]
const fn flags_and_offset(dont_fragment: bool, more_fragments: bool, fragment_offset: u16) -> u16 {
    let dont_fragment = if dont_fragment { DONT_FRAGMENT } else { 0 };
    let more_fragments = if more_fragments { MORE_FRAGMENTS } else { 0 };
    dont_fragment | more_fragments | fragment_offset & FRAGMENT_OFFSET
}

/// Makes a header that of one fragment, which may be cut again: its length, and its place as in [`Fields`]. The
/// checksum is still to be set.
pub const fn set_fragment(header: &mut [u8; LENGTH], total_length: u16, more: bool, offset: u16) {
    [header[2], header[3]] = total_length.to_be_bytes();
    [header[6], header[7]] = flags_and_offset(false, more, offset).to_be_bytes();
}

/// Sets the header checksum.
#[inline]
pub const fn set_checksum(header: &mut [u8; LENGTH], checksum: u16) {
    [header[10], header[11]] = checksum.to_be_bytes();
}

/// Lowers the TTL by one, which must not be zero, and updates the checksum.
#[inline]
pub const fn decrement_ttl(header: &mut [u8; LENGTH]) {
    let old = u16::from_be_bytes([header[8], header[9]]);
    header[8] = header[8].saturating_sub(1);
    let new = u16::from_be_bytes([header[8], header[9]]);
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    set_checksum(header, super::checksum::updated(checksum, Sum::ZERO.remove(old).add(new)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields() -> Fields {
        Fields {
            tos: 0xb9,
            total_length: 1500,
            identification: 0x1234,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            protocol: 6,
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
        }
    }

    #[test]
    fn header_is_what_etherparse_writes() {
        let mut bytes = [0; LENGTH];
        fields().emit(&mut bytes);
        let (parsed, rest) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
        assert!(rest.is_empty());
        assert_eq!(parsed.to_bytes().as_slice(), bytes);
        assert_eq!(parsed.calc_header_checksum(), parsed.header_checksum);
        let header = Header::new_checked(&bytes).unwrap();
        assert!(header.is_checksum_right() && header.dont_fragment() && !header.is_fragment());
        assert_eq!((header.tos(), header.total_length(), header.identification()), (0xb9, 1500, 0x1234));
        assert_eq!((header.ttl(), header.protocol(), header.length()), (64, 6, 20));
        assert_eq!(header.source(), fields().source);
        assert_eq!(header.destination(), fields().destination);
    }

    #[test]
    fn fragment_is_what_etherparse_reads() {
        for (more_fragments, fragment_offset) in [(true, 0), (true, 185), (false, 8191)] {
            let mut bytes = [0; LENGTH];
            Fields { dont_fragment: false, more_fragments, fragment_offset, ..fields() }.emit(&mut bytes);
            let (parsed, _) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
            assert_eq!((parsed.more_fragments, parsed.dont_fragment), (more_fragments, false));
            assert_eq!(parsed.fragment_offset.value(), fragment_offset);
            let header = Header::new_checked(&bytes).unwrap();
            assert!(header.is_checksum_right() && header.is_fragment());
            assert_eq!(header.more_fragments(), more_fragments);
            assert_eq!(header.fragment_offset(), fragment_offset);

            let mut other = [0; LENGTH];
            fields().emit(&mut other);
            set_fragment(&mut other, 1500, more_fragments, fragment_offset);
            set_checksum(&mut other, u16::from_be_bytes([bytes[10], bytes[11]]));
            assert_eq!(other, bytes);
        }
    }

    #[test]
    fn lowering_the_ttl_keeps_the_checksum_right() {
        for ttl in 1..=255 {
            let mut bytes = [0; LENGTH];
            Fields { ttl, ..fields() }.emit(&mut bytes);
            decrement_ttl(&mut bytes);
            let header = Header::new_checked(&bytes).unwrap();
            assert!(header.is_checksum_right());
            assert_eq!(header.ttl(), ttl - 1);
        }
    }

    #[test]
    fn wrong_version_length_and_truncation_are_refused() {
        let mut bytes = [0; LENGTH];
        fields().emit(&mut bytes);
        for (place, value) in [(0, 0x65), (0, 0x44), (3, 19)] {
            let mut other = bytes;
            other[2] = 0;
            other[place] = value;
            assert_eq!(Header::new_checked(&other).unwrap_err(), WireError::Malformed, "{place}");
        }
        let mut options = bytes;
        options[0] = 0x46;
        assert_eq!(Header::new_checked(&options).unwrap_err(), WireError::Truncated);
        assert_eq!(Header::new_checked(&bytes[..19]).unwrap_err(), WireError::Truncated);
    }

    fn with_options(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        fields().emit(bytes.first_chunk_mut().unwrap());
        bytes[0] += options.len() as u8 / 4;
        bytes.extend(options);
        bytes
    }

    #[test]
    fn fragments_carry_the_options_that_are_to_be_copied_and_no_others() {
        let copied =
            |options: &[u8]| Header::new_checked(&with_options(options)).unwrap().copied_options().to_vec();
        let nothing: [u8; 0] = [];
        assert_eq!(copied(&[]), nothing);
        assert_eq!(copied(&[1, 7, 7, 4, 0, 0, 0, 0]), nothing, "no operation, record route");
        assert_eq!(copied(&[148, 4, 0, 0]), [148, 4, 0, 0], "router alert");
        assert_eq!(copied(&[1, 7, 3, 4, 131, 3, 4, 0]), [131, 3, 4, 0], "behind others, padded");
        assert_eq!(copied(&[148, 4, 0, 0, 136, 4, 1, 2]), [148, 4, 0, 0, 136, 4, 1, 2]);
        assert_eq!(copied(&[0, 148, 4, 0]), nothing, "behind the end of the list");
        assert_eq!(copied(&[148, 1, 0, 0]), nothing, "shorter than its own two bytes");
        assert_eq!(copied(&[136, 4, 1, 2, 148, 5, 0, 0]), [136, 4, 1, 2], "longer than the header");
        assert_eq!(copied(&[1, 1, 1, 148]), nothing, "without length");
        assert_eq!(copied(&[137; 40]), nothing);
    }

    #[test]
    fn source_route_with_addresses_left_is_found_behind_other_options() {
        let with =
            |options: [u8; 8]| Header::new_checked(&with_options(&options)).unwrap().has_live_source_route();
        assert!(with([1, 131, 7, 4, 10, 0, 0, 1]));
        assert!(with([137, 7, 4, 10, 0, 0, 1, 0]));
        assert!(!with([131, 7, 8, 10, 0, 0, 1, 0]), "all addresses used");
        assert!(with([131, 3, 4, 137, 4, 4, 10, 0]), "behind one whose addresses are used");
        assert!(!with([7, 7, 131, 7, 4, 10, 0, 0]), "inside another option");
        assert!(!with([7, 1, 131, 7, 4, 10, 0, 0]), "behind an option that cannot be read");
        assert!(!with([0, 131, 7, 4, 10, 0, 0, 1]), "behind the end of the list");
    }

    proptest! {
        #[test]
        fn any_options_end(options in prop::collection::vec(any::<u8>(), 40)) {
            let mut bytes = [0; 60];
            bytes[0] = 0x4f;
            bytes[3] = 60;
            bytes[20..].copy_from_slice(&options);
            let header = Header::new_checked(&bytes).unwrap();
            let _ = header.has_live_source_route();
            prop_assert!(header.copied_options().len() % 4 == 0);
        }
    }
}
