//! Ethernet II.

use super::WireError;
use super::word::{u16_at, u32_at};
use crate::id::VnetId;
use crate::mac::MacAddr;
use core::net::Ipv4Addr;

/// Bytes of the header; there are no VLAN tags on a port.
pub const LENGTH: usize = 14;
/// Where the last four octets of the source MAC lie: an IPv4 address, where it is a dummy.
pub(crate) const SENDER: usize = 8;

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

    /// Whether it is for the dummy MAC of the address that lies in memory as `ipv4`, in a vnet whose
    /// [`MacAddr::dummy_hash`] is `hash`.
    #[inline(always)]
    #[must_use]
    pub(crate) fn is_for_dummy(&self, hash: [u8; 2], ipv4: u32) -> bool {
        u16_at(self.0, 0) == u16::from_ne_bytes(hash) && u32_at(self.0, 2) == ipv4
    }

    /// Whether it is for `mac`.
    #[inline(always)]
    #[must_use]
    pub const fn is_for(&self, mac: MacAddr) -> bool {
        let ([a, b, c, d, e, f, ..], [g, h, i, j, k, l]) = (*self.0, mac.0);
        u32::from_ne_bytes([a, b, c, d]) == u32::from_ne_bytes([g, h, i, j])
            && u16::from_ne_bytes([e, f]) == u16::from_ne_bytes([k, l])
    }

    /// The source MAC and the EtherType, to be compared with [`source_and_type`].
    #[inline(always)]
    #[must_use]
    pub const fn source_and_type(&self) -> u64 {
        let [.., a, b, c, d, e, f, high, low] = *self.0;
        u64::from_ne_bytes([a, b, c, d, e, f, high, low])
    }

    /// The EtherType.
    #[inline]
    #[must_use]
    pub const fn ethertype(&self) -> u16 {
        let [.., high, low] = *self.0;
        u16::from_be_bytes([high, low])
    }
}

/// A source MAC and an EtherType as they lie in a header, in one word.
#[must_use]
pub const fn source_and_type(source: MacAddr, ethertype: u16) -> u64 {
    let ([a, b, c, d, e, f], [high, low]) = (source.0, ethertype.to_be_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, high, low])
}

/// A header that is written often, in as few words as there are: an array of its octets the compiler takes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    one: u64,
    two: u32,
    three: u16,
}

impl Prepared {
    /// The header of frames from `source` to `destination`.
    #[inline]
    #[must_use]
    pub fn new(destination: MacAddr, source: MacAddr, ethertype: u16) -> Self {
        let [a, b, c, d, e, f] = source.0;
        Self::of_words(destination, u16::from_ne_bytes([a, b]), u32::from_ne_bytes([c, d, e, f]), ethertype)
    }

    /// The header of frames to `destination` from the dummy MAC of (`vnet`, `ipv4`).
    #[inline(always)]
    #[must_use]
    pub fn from_dummy(destination: MacAddr, vnet: VnetId, ipv4: Ipv4Addr, ethertype: u16) -> Self {
        let hash = u16::from_ne_bytes(MacAddr::dummy_hash(vnet));
        Self::of_words(destination, hash, u32::from_ne_bytes(ipv4.octets()), ethertype)
    }

    /// The same header, from the dummy MAC of another address in the vnet, given as it lies in memory.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn sent_by(self, ipv4: u32) -> Self {
        Self { two: ipv4, ..self }
    }

    #[inline(always)]
    fn of_words(destination: MacAddr, source: u16, rest: u32, ethertype: u16) -> Self {
        let (four, two) = destination.0.split_at(size_of::<u32>());
        let four = four.first_chunk().map_or(0, |four| u32::from_ne_bytes(*four));
        let two = two.first_chunk().map_or(0, |two| u16::from_ne_bytes(*two));
        let words = [u64::from(four), u64::from(two), u64::from(source)];
        let one = match words {
            [four, two, source] if cfg!(target_endian = "little") => four | two << 32 | source << 48,
            [four, two, source] => four << 32 | two << 16 | source,
        };
        Self { one, two: rest, three: ethertype.to_be() }
    }

    /// The last four octets of the source MAC, as they lie in memory.
    #[inline(always)]
    pub(crate) const fn sender(&self) -> u32 {
        self.two
    }

    /// Writes the header.
    #[inline(always)]
    pub fn emit(&self, header: &mut [u8; LENGTH]) {
        let (one, rest) = header.split_at_mut(size_of::<u64>());
        let (two, three) = rest.split_at_mut(size_of::<u32>());
        one.copy_from_slice(&self.one.to_ne_bytes());
        two.copy_from_slice(&self.two.to_ne_bytes());
        three.copy_from_slice(&self.three.to_ne_bytes());
    }
}

/// Writes a header.
#[inline]
pub const fn emit(header: &mut [u8; LENGTH], destination: MacAddr, source: MacAddr, ethertype: u16) {
    let (MacAddr(d), MacAddr(s), [high, low]) = (destination, source, ethertype.to_be_bytes());
    *header = [d[0], d[1], d[2], d[3], d[4], d[5], s[0], s[1], s[2], s[3], s[4], s[5], high, low];
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: (MacAddr, MacAddr) = (MacAddr([2, 1, 2, 3, 4, 5]), MacAddr([2, 6, 7, 8, 9, 10]));

    #[test]
    fn prepared_header_is_the_header() {
        let (mut plain, mut prepared) = ([0; LENGTH], [0xff; LENGTH]);
        emit(&mut plain, MACS.0, MACS.1, ethertype::IPV6);
        Prepared::new(MACS.0, MACS.1, ethertype::IPV6).emit(&mut prepared);
        assert_eq!(plain, prepared);

        let (vnet, ipv4) = (VnetId::new(0x12_3456).unwrap(), Ipv4Addr::new(10, 1, 2, 3));
        emit(&mut plain, MACS.0, MacAddr::dummy(vnet, ipv4), ethertype::IPV4);
        Prepared::from_dummy(MACS.0, vnet, ipv4, ethertype::IPV4).emit(&mut prepared);
        assert_eq!(plain, prepared);
        let other = Ipv4Addr::new(10, 9, 8, 7);
        emit(&mut plain, MACS.0, MacAddr::dummy(vnet, other), ethertype::IPV4);
        Prepared::from_dummy(MACS.0, vnet, ipv4, ethertype::IPV4)
            .sent_by(u32::from_ne_bytes(other.octets()))
            .emit(&mut prepared);
        assert_eq!(plain, prepared);
    }

    #[test]
    fn words_compare_like_addresses() {
        let (vnet, ipv4) = (VnetId::new(0x12_3456).unwrap(), Ipv4Addr::new(10, 1, 2, 3));
        let mut frame = [0; LENGTH];
        for place in 0..LENGTH {
            emit(&mut frame, MacAddr::dummy(vnet, ipv4), MACS.1, ethertype::IPV4);
            let same = |frame: &[u8; LENGTH]| {
                let header = Header::new_checked(frame).unwrap();
                let dummy = header.is_for_dummy(MacAddr::dummy_hash(vnet), u32::from_ne_bytes(ipv4.octets()));
                assert_eq!(header.is_for(MacAddr::dummy(vnet, ipv4)), dummy);
                (dummy, header.source_and_type() == source_and_type(MACS.1, ethertype::IPV4))
            };
            assert_eq!(same(&frame), (true, true));
            frame[place] ^= 0x10;
            assert_eq!(same(&frame), (place >= 6, place < 6), "{place}");
        }
    }
}
