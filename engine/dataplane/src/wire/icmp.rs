//! ICMP for IPv4 (RFC 792) and for IPv6 (RFC 4443); both have the same shape.

use super::WireError;

/// Bytes of the header.
pub const LENGTH: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM: u16 = 2;

/// Message types of ICMP for IPv4.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
}

/// Message types of ICMP for IPv6.
pub mod v6 {
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
}

/// A view of an ICMP header.
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

    /// The message type.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.0[0]
    }

    /// The code, a refinement of the type.
    #[inline]
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.0[1]
    }
}

/// Sets the message type.
pub const fn set_kind(header: &mut [u8; LENGTH], kind: u8) {
    header[0] = kind;
}
