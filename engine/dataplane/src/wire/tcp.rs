//! TCP (RFC 9293).

use super::WireError;

/// Bytes of a header without options.
pub const LENGTH: usize = 20;
/// Where the checksum lies in the header.
pub const CHECKSUM: u16 = 16;

/// Flags that translation, cutting and the flow table look at.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// The first segment of either direction.
    pub const SYN: u8 = 0x02;
    /// The connection is aborted.
    pub const RST: u8 = 0x04;
    /// Deliver without waiting for more.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// A view of a TCP header without its options.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; LENGTH]);

impl<'a> Header<'a> {
    /// The header at the beginning of `bytes`, in a packet with `length` bytes from here on.
    ///
    /// # Errors
    /// [`WireError`], also if the header's own length is under 20 or over `length`.
    #[inline]
    pub fn new_checked(bytes: &'a [u8], length: usize) -> Result<Self, WireError> {
        let header = Self(bytes.first_chunk().ok_or(WireError::Truncated)?);
        if header.length() < LENGTH {
            return Err(WireError::Malformed);
        }
        if header.length() > length {
            return Err(WireError::Truncated);
        }
        Ok(header)
    }

    /// Bytes of the header with its options, 20 to 60.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> usize {
        (self.0[12] >> 4) as usize * 4
    }

    /// The sequence number of the first payload byte.
    #[inline]
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// The sequence number that the sender expects next, if [`flag::ACK`] is set.
    #[inline]
    #[must_use]
    pub const fn acknowledgment(&self) -> u32 {
        u32::from_be_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }

    /// The checksum field.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.0[16], self.0[17]])
    }

    /// The eight flags from CWR to FIN.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.0[13]
    }
}

/// Sets the sequence number.
pub const fn set_sequence(header: &mut [u8; LENGTH], sequence: u32) {
    [header[4], header[5], header[6], header[7]] = sequence.to_be_bytes();
}

/// Sets the eight flags from CWR to FIN.
pub const fn set_flags(header: &mut [u8; LENGTH], flags: u8) {
    header[13] = flags;
}

/// Sets the checksum field.
#[inline]
pub const fn set_checksum(header: &mut [u8; LENGTH], checksum: u16) {
    [header[16], header[17]] = checksum.to_be_bytes();
}
