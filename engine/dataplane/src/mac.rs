//! Hardware addresses, and the dummy ones that engines present for nodes.

use crate::id::VnetId;
use core::fmt;
use core::net::Ipv4Addr;
use core::str::FromStr;

/// A 48-bit hardware address, in the order it has on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `00:00:00:00:00:00`, no station's address.
    pub const ZERO: Self = Self([0; 6]);

    /// The dummy MAC of (vnet, IPv4), the same on every engine, so that nothing a node has cached goes stale when
    /// an engine restarts or the other node moves.
    ///
    /// The low nibble of octet 0 is 2: locally administered, unicast, in the AAI quadrant of IEEE 802c. Twelve bits
    /// hash the vnet, the last four octets are the IPv4 address.
    #[inline]
    #[must_use]
    pub const fn dummy(vnet: VnetId, ipv4: Ipv4Addr) -> Self {
        let ([hash, more], [a, b, c, d]) = (Self::dummy_hash(vnet), ipv4.octets());
        Self([hash, more, a, b, c, d])
    }

    /// The first two octets of the dummy MACs of a vnet.
    #[inline]
    pub(crate) const fn dummy_hash(vnet: VnetId) -> [u8; 2] {
        // Fibonacci hashing: the top 12 bits of a multiplication by 2^32 / golden ratio.
        let hash = vnet.get().wrapping_mul(0x9e37_79b9) >> 20;
        [((hash >> 4) & 0xf0) as u8 | 0x02, hash as u8]
    }

    /// The IPv4 address in this MAC, if it is a dummy MAC of `vnet`.
    #[inline]
    #[must_use]
    pub fn dummy_ipv4(self, vnet: VnetId) -> Option<Ipv4Addr> {
        let [_, _, a, b, c, d] = self.0;
        let ipv4 = Ipv4Addr::new(a, b, c, d);
        (Self::dummy(vnet, ipv4) == self).then_some(ipv4)
    }

    /// Whether the group bit is set: multicast or broadcast.
    #[inline]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a station may have this address: not a group, not zero.
    #[must_use]
    pub fn is_station(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not six octets in hexadecimal, joined by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six octets like 02:00:5e:10:00:01, not {0:?}")]
pub struct MacSyntax(String);

impl FromStr for MacAddr {
    type Err = MacSyntax;

    fn from_str(text: &str) -> Result<Self, MacSyntax> {
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part =
                parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            let part = part.ok_or_else(|| MacSyntax(text.to_owned()))?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacSyntax(text.to_owned()))?;
        }
        if parts.next().is_some() {
            return Err(MacSyntax(text.to_owned()));
        }
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dummy_mac_is_local_unicast_and_gives_its_address_back() {
        for vnet in [1, 2, 0x1234, 0xff_ffff] {
            let vnet = VnetId::new(vnet).unwrap();
            let ipv4 = Ipv4Addr::new(10, 0, 0, 7);
            let mac = MacAddr::dummy(vnet, ipv4);
            assert_eq!(mac.0[0] & 0x0f, 2);
            assert!(mac.is_station());
            assert_eq!(mac.dummy_ipv4(vnet), Some(ipv4));
        }
    }

    #[test]
    fn dummy_mac_of_another_vnet_is_not_recognised() {
        let (one, two) = (VnetId::new(1).unwrap(), VnetId::new(2).unwrap());
        assert_eq!(MacAddr::dummy(one, Ipv4Addr::new(10, 0, 0, 7)).dummy_ipv4(two), None);
    }

    #[test]
    fn text_and_back() {
        let mac: MacAddr = "02:ab:00:01:fe:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:ab:00:01:fe:ff");
        for bad in [
            "",
            "02:ab:00:01:fe",
            "02:ab:00:01:fe:ff:00",
            "2:ab:00:01:fe:ff",
            "02:ab:00:01:fe:fg",
            "+2:ab:00:01:fe:ff",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }
}
