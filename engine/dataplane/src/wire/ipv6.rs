//! IPv6 (RFC 8200).

use super::WireError;
use super::word::{put_u16, put_u64, u64_at};
use core::net::Ipv6Addr;

/// Bytes of the fixed header.
pub const LENGTH: usize = 40;

/// Where the addresses begin.
const ADDRESSES: usize = 8;

/// A view of an IPv6 fixed header.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; LENGTH]);

impl<'a> Header<'a> {
    /// The header at the beginning of `bytes`, of version 6.
    ///
    /// # Errors
    /// [`WireError`].
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, WireError> {
        let header: &[u8; LENGTH] = bytes.first_chunk().ok_or(WireError::Truncated)?;
        if header[0] >> 4 != 6 {
            return Err(WireError::Malformed);
        }
        Ok(Self(header))
    }

    /// The header in these bytes, whose version has been looked at.
    #[inline(always)]
    pub(crate) const fn of_checked(bytes: &'a [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// The octets of both addresses, the source's first.
    #[inline(always)]
    pub(crate) fn addresses(&self) -> [&'a [u8; 16]; 2] {
        let octets = |at: usize| self.0.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 16]);
        [octets(ADDRESSES), octets(ADDRESSES + size_of::<Ipv6Addr>())]
    }

    /// Traffic class: DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.0[0] << 4 | self.0[1] >> 4
    }

    /// Bytes behind this header.
    #[inline]
    #[must_use]
    pub const fn payload_length(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// The header that follows.
    #[inline]
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        self.0[6]
    }

    /// Hop limit.
    #[inline]
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        self.0[7]
    }

    /// The source address.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        let [_, _, _, _, _, _, _, _, addresses @ ..] = self.0;
        addresses.first_chunk().map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from_octets(*octets))
    }

    /// The destination address.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        self.0.last_chunk().map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from_octets(*octets))
    }
}

/// The header that a packet is to have; its flow label is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// Traffic class.
    pub traffic_class: u8,
    /// Bytes behind the header.
    pub payload_length: u16,
    /// The header that follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Fields {
    /// Writes the header.
    #[inline(always)]
    pub fn emit(&self, header: &mut [u8; LENGTH]) {
        let Self { traffic_class, payload_length, next_header, hop_limit, source, destination } = *self;
        let fixed = 0x6000_0000 | u64::from(traffic_class) << 20;
        let rest = u64::from(payload_length) << 16 | u64::from(next_header) << 8 | u64::from(hop_limit);
        put_u64(header, 0, (fixed << 32 | rest).to_be());
        for (place, half) in
            (ADDRESSES..).step_by(8).zip([halves(source), halves(destination)].as_flattened())
        {
            put_u64(header, place, *half);
        }
    }
}

/// Writes what is a packet's own into a header with a traffic class of 0.
#[inline(always)]
pub(crate) fn set_own(
    header: &mut [u8; LENGTH],
    traffic_class: u8,
    payload_length: u16,
    next_header: u8,
    hop_limit: u8,
) {
    if traffic_class != 0 {
        [header[0], header[1]] = [0x60 | traffic_class >> 4, traffic_class << 4];
    }
    put_u16(header, 4, payload_length.to_be());
    header[6] = next_header;
    header[7] = hop_limit;
}

/// Writes the destination: the halves of the address, as they lie in memory.
#[inline(always)]
pub(crate) fn set_destination(header: &mut [u8; LENGTH], [upper, lower]: [u64; 2]) {
    put_u64(header, ADDRESSES + 16, upper);
    put_u64(header, ADDRESSES + 24, lower);
}

/// The halves of an address, as they lie in memory.
#[inline]
pub(crate) fn halves(address: Ipv6Addr) -> [u64; 2] {
    let octets = address.octets();
    [u64_at(&octets, 0), u64_at(&octets, 8)]
}

/// Sets how many bytes there are behind the header.
#[inline]
pub const fn set_payload_length(header: &mut [u8; LENGTH], length: u16) {
    [header[4], header[5]] = length.to_be_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_what_etherparse_reads() {
        let fields = Fields {
            traffic_class: 0xb9,
            payload_length: 1460,
            next_header: 17,
            hop_limit: 63,
            source: "fd00:0:0:a:400:7:a00:1".parse().unwrap(),
            destination: "fd00:0:0:b:1400:7:a00:2".parse().unwrap(),
        };
        let mut bytes = [0xff; LENGTH];
        fields.emit(&mut bytes);
        let (parsed, _) = etherparse::Ipv6Header::from_slice(&bytes).unwrap();
        assert_eq!(parsed.to_bytes(), bytes);
        assert_eq!(parsed.flow_label.value(), 0);
        assert_eq!((parsed.traffic_class, parsed.payload_length), (0xb9, 1460));
        let header = Header::new_checked(&bytes).unwrap();
        assert_eq!(header.source(), fields.source);
        assert_eq!(header.destination(), parsed.destination_addr());
        assert_eq!((header.traffic_class(), header.payload_length()), (0xb9, 1460));
        assert_eq!((header.next_header(), header.hop_limit()), (17, 63));
    }

    #[test]
    fn wrong_version_and_truncation_are_refused() {
        let mut bytes = [0; LENGTH];
        bytes[0] = 0x45;
        assert_eq!(Header::new_checked(&bytes).unwrap_err(), WireError::Malformed);
        bytes[0] = 0x60;
        assert!(Header::new_checked(&bytes).is_ok());
        assert_eq!(Header::new_checked(&bytes[..39]).unwrap_err(), WireError::Truncated);
    }
}
