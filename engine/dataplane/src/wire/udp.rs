//! UDP (RFC 768).

use super::WireError;

/// Bytes of the header.
pub const LENGTH: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM: u16 = 6;

/// A view of a UDP header.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; LENGTH]);

impl<'a> Header<'a> {
    /// The header at the beginning of `bytes`, in a packet with `length` bytes from here on.
    ///
    /// # Errors
    /// [`WireError`], also if the datagram's own length is under 8 or over `length`.
    #[inline]
    pub fn new_checked(bytes: &'a [u8], length: usize) -> Result<Self, WireError> {
        let header = Self(bytes.first_chunk().ok_or(WireError::Truncated)?);
        let own = usize::from(header.length());
        if own < LENGTH {
            return Err(WireError::Malformed);
        }
        if own > length {
            return Err(WireError::Truncated);
        }
        Ok(header)
    }

    /// Bytes of the datagram with this header.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// The checksum field; 0 means that there is none.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }
}

/// Sets the datagram's length.
pub const fn set_length(header: &mut [u8; LENGTH], length: u16) {
    [header[4], header[5]] = length.to_be_bytes();
}

/// Sets the checksum field.
#[inline]
pub const fn set_checksum(header: &mut [u8; LENGTH], checksum: u16) {
    [header[6], header[7]] = checksum.to_be_bytes();
}
