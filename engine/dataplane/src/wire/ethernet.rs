//! Ethernet II.

use super::WireError;
use crate::mac::MacAddr;

/// Bytes of the header; there are no VLAN tags on a port.
pub const LENGTH: usize = 14;

/// The EtherType numbers that the engine knows.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// Reverse ARP (RFC 903), sent today to announce that a virtual machine has moved.
    pub const RARP: u16 = 0x8035;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// A view of an Ethernet header.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8; LENGTH]);

impl<'a> Header<'a> {
    /// The header at the beginning of `frame`.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn new_checked(frame: &'a [u8]) -> Result<Self, WireError> {
        frame.first_chunk().map(Self).ok_or(WireError::Truncated)
    }

    /// The destination MAC.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = *self.0;
        MacAddr([a, b, c, d, e, f])
    }

    /// The source MAC.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> MacAddr {
        let [_, _, _, _, _, _, a, b, c, d, e, f, _, _] = *self.0;
        MacAddr([a, b, c, d, e, f])
    }

    /// The EtherType.
    #[inline]
    #[must_use]
    pub const fn ethertype(&self) -> u16 {
        let [.., high, low] = *self.0;
        u16::from_be_bytes([high, low])
    }
}

/// Writes a header.
#[inline]
pub const fn emit(header: &mut [u8; LENGTH], destination: MacAddr, source: MacAddr, ethertype: u16) {
    let (MacAddr(d), MacAddr(s), [high, low]) = (destination, source, ethertype.to_be_bytes());
    *header = [d[0], d[1], d[2], d[3], d[4], d[5], s[0], s[1], s[2], s[3], s[4], s[5], high, low];
}
