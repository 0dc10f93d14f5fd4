//! Explicit address mappings (RFC 7757): which IPv4 prefix is which IPv6 prefix.

use super::icmp::Correspondence;
use core::cmp::Reverse;
use core::net::{Ipv4Addr, Ipv6Addr};
use hashbrown::HashMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;

/// What each prefix is on the other side, by its length, the longest first.
type ByLength<K, V> = BTreeMap<Reverse<u8>, HashMap<K, V>>;

/// A table of explicit address mappings, for translation without the substrate's address layout. Of prefixes that
/// contain each other the longest counts (RFC 7757, 3.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressMap {
    four: ByLength<Ipv4Net, Ipv6Net>,
    six: ByLength<Ipv6Net, Ipv4Net>,
}

/// A mapping that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// An address behind a prefix's length.
    #[error("{given} has bits behind its prefix; it begins at {network}")]
    NotANetwork {
        /// The prefix.
        given: IpNet,
        /// Where it begins.
        network: IpNet,
    },
    /// The IPv6 prefix has fewer addresses (RFC 7757, 3.2).
    #[error("{ipv6} has fewer addresses than {ipv4}; it must be of length 0 to {longest}")]
    TooSmall {
        /// The IPv4 prefix.
        ipv4: Ipv4Net,
        /// The IPv6 prefix.
        ipv6: Ipv6Net,
        /// The longest that it may be.
        longest: u8,
    },
    /// The prefix is in the table.
    #[error("{0} is mapped already")]
    Taken(IpNet),
}

impl AddressMap {
    /// Adds a mapping. The bits of an IPv4 address behind its prefix follow the IPv6 prefix directly; what is left of the
    /// IPv6 address is 0 on the way to IPv6 and not looked at on the way to IPv4 (RFC 7757, 3.3).
    ///
    /// # Errors
    /// [`MapError`]; the table is unchanged.
    pub fn insert(&mut self, ipv4: Ipv4Net, ipv6: Ipv6Net) -> Result<(), MapError> {
        for (given, network) in
            [(IpNet::V4(ipv4), IpNet::V4(ipv4.trunc())), (IpNet::V6(ipv6), IpNet::V6(ipv6.trunc()))]
        {
            if given != network {
                return Err(MapError::NotANetwork { given, network });
            }
        }
        let longest = u128::BITS as u8 - suffix_length(&ipv4);
        if ipv6.prefix_len() > longest {
            return Err(MapError::TooSmall { ipv4, ipv6, longest });
        }
        let lengths = (Reverse(ipv4.prefix_len()), Reverse(ipv6.prefix_len()));
        if self.four.get(&lengths.0).is_some_and(|mappings| mappings.contains_key(&ipv4)) {
            return Err(MapError::Taken(ipv4.into()));
        }
        if self.six.get(&lengths.1).is_some_and(|mappings| mappings.contains_key(&ipv6)) {
            return Err(MapError::Taken(ipv6.into()));
        }
        self.four.entry(lengths.0).or_default().insert(ipv4, ipv6);
        self.six.entry(lengths.1).or_default().insert(ipv6, ipv4);
        Ok(())
    }

    /// Whether there are no mappings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.four.is_empty()
    }

    /// What an IPv4 address is in IPv6.
    #[must_use]
    pub fn ipv6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let (from, to) = self.four.iter().find_map(|(Reverse(length), mappings)| {
            mappings.get_key_value(&Ipv4Net::new(address, *length).ok()?.trunc())
        })?;
        let suffix = u128::from(address.to_bits() & from.hostmask().to_bits());
        let behind = u32::from(u128::BITS as u8 - to.prefix_len() - suffix_length(from));
        // Shifted out of the whole address there is nothing left, as there was no suffix.
        Some(Ipv6Addr::from_bits(to.network().to_bits() | suffix.checked_shl(behind).unwrap_or(0)))
    }

    /// What an IPv6 address is in IPv4.
    #[must_use]
    pub fn ipv4(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let (from, to) = self.six.iter().find_map(|(Reverse(length), mappings)| {
            mappings.get_key_value(&Ipv6Net::new(address, *length).ok()?.trunc())
        })?;
        let behind = u32::from(u128::BITS as u8 - from.prefix_len() - suffix_length(to));
        let suffix = address.to_bits().checked_shr(behind).unwrap_or(0) as u32 & to.hostmask().to_bits();
        Some(Ipv4Addr::from_bits(to.network().to_bits() | suffix))
    }
}

impl Correspondence for AddressMap {
    fn six(&self, ipv4: Ipv4Addr) -> Option<Ipv6Addr> {
        self.ipv6(ipv4)
    }

    fn four(&self, ipv6: Ipv6Addr) -> Option<Ipv4Addr> {
        self.ipv4(ipv6)
    }
}

/// Bits of an address behind the prefix: 0 to 32.
const fn suffix_length(ipv4: &Ipv4Net) -> u8 {
    ipv4.max_prefix_len() - ipv4.prefix_len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(entries: &[(&str, &str)]) -> Result<AddressMap, MapError> {
        let mut map = AddressMap::default();
        for (ipv4, ipv6) in entries {
            map.insert(ipv4.parse().unwrap(), ipv6.parse().unwrap())?;
        }
        Ok(map)
    }

    #[test]
    fn addresses_are_those_of_rfc_7757_section_4_and_6() {
        let map = map(&[
            ("192.0.2.1/32", "2001:db8:aaaa::/128"),
            ("192.0.2.2/32", "2001:db8:bbbb::b/128"),
            ("192.0.2.16/28", "2001:db8:cccc::/124"),
            ("192.0.2.128/26", "2001:db8:dddd::/64"),
            ("192.0.2.192/29", "2001:db8:eeee:8::/62"),
            ("192.0.2.224/31", "64:ff9b::/127"),
        ])
        .unwrap();
        for (ipv4, ipv6) in [
            ("192.0.2.1", "2001:db8:aaaa::"),
            ("192.0.2.2", "2001:db8:bbbb::b"),
            ("192.0.2.16", "2001:db8:cccc::"),
            ("192.0.2.24", "2001:db8:cccc::8"),
            ("192.0.2.31", "2001:db8:cccc::f"),
            ("192.0.2.128", "2001:db8:dddd::"),
            ("192.0.2.152", "2001:db8:dddd:0:6000::"),
            ("192.0.2.183", "2001:db8:dddd:0:dc00::"),
            ("192.0.2.191", "2001:db8:dddd:0:fc00::"),
            ("192.0.2.193", "2001:db8:eeee:8:8000::"),
            ("192.0.2.199", "2001:db8:eeee:b:8000::"),
            ("192.0.2.224", "64:ff9b::"),
            ("192.0.2.225", "64:ff9b::1"),
        ] {
            let (ipv4, ipv6): (Ipv4Addr, Ipv6Addr) = (ipv4.parse().unwrap(), ipv6.parse().unwrap());
            assert_eq!((map.ipv6(ipv4), map.ipv4(ipv6)), (Some(ipv6), Some(ipv4)), "{ipv4} {ipv6}");
        }
        // What is behind an IPv4 address in IPv6 is not looked at.
        assert_eq!(
            map.ipv4("2001:db8:dddd:0:dfff::1".parse().unwrap()),
            map.ipv4("2001:db8:dddd:0:dc00::".parse().unwrap())
        );
        for ipv4 in ["192.0.2.0", "192.0.2.3", "192.0.2.200", "10.0.0.1"] {
            assert_eq!(map.ipv6(ipv4.parse().unwrap()), None, "{ipv4}");
        }
        for ipv6 in ["2001:db8:aaaa::1", "2001:db8:cccc::10", "2001:db8:eeee:c::", "::"] {
            assert_eq!(map.ipv4(ipv6.parse().unwrap()), None, "{ipv6}");
        }
    }

    #[test]
    fn longest_prefix_counts_in_either_direction() {
        let map = map(&[
            ("0.0.0.0/0", "64:ff9b::/96"),
            ("10.0.0.0/8", "2001:db8::/104"),
            ("10.0.0.7/32", "64:ff9b::a00:7/128"),
            ("10.1.0.0/16", "::/0"),
        ])
        .unwrap();
        let six = |text: &str| map.ipv6(text.parse().unwrap()).unwrap().to_string();
        assert_eq!(six("192.0.2.33"), "64:ff9b::c000:221");
        assert_eq!(six("10.0.0.6"), "2001:db8::6");
        assert_eq!(six("10.0.0.7"), "64:ff9b::a00:7");
        assert_eq!(six("10.1.2.3"), "203::");
        let four = |text: &str| map.ipv4(text.parse().unwrap()).unwrap().to_string();
        assert_eq!(four("64:ff9b::c000:221"), "192.0.2.33");
        assert_eq!(four("64:ff9b::a00:7"), "10.0.0.7");
        assert_eq!(four("2001:db8::ff:fffe"), "10.255.255.254");
        assert_eq!(four("0203:ffff::"), "10.1.2.3");
    }

    #[test]
    fn mapping_that_cannot_be_is_refused() {
        let refused = |entries: &[(&str, &str)]| map(entries).unwrap_err().to_string();
        assert_eq!(
            refused(&[("198.51.100.0/24", "2001:db8::/121")]),
            "2001:db8::/121 has fewer addresses than 198.51.100.0/24; it must be of length 0 to 120"
        );
        assert_eq!(
            refused(&[("198.51.100.1/24", "2001:db8::/120")]),
            "198.51.100.1/24 has bits behind its prefix; it begins at 198.51.100.0/24"
        );
        assert_eq!(
            refused(&[("198.51.100.0/24", "2001:db8::1/120")]),
            "2001:db8::1/120 has bits behind its prefix; it begins at 2001:db8::/120"
        );
        let one = ("10.0.0.1/32", "2001:db8::1/128");
        assert_eq!(refused(&[one, ("10.0.0.1/32", "2001:db8::2/128")]), "10.0.0.1/32 is mapped already");
        assert_eq!(refused(&[one, ("10.0.0.2/32", "2001:db8::1/128")]), "2001:db8::1/128 is mapped already");
        assert!(map(&[]).unwrap().is_empty() && !map(&[one]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn address_of_a_mapping_crosses_and_comes_back(
            bits: u32, network: u128, four in 0u8..=32, more in 0u8..=96,
        ) {
            let six = (96 + four).saturating_sub(more);
            let mut map = AddressMap::default();
            let ipv4 = Ipv4Net::new(Ipv4Addr::from_bits(bits), four).unwrap().trunc();
            let ipv6 = Ipv6Net::new(Ipv6Addr::from_bits(network), six).unwrap().trunc();
            map.insert(ipv4, ipv6).unwrap();
            let address = Ipv4Addr::from_bits(bits);
            let crossed = map.ipv6(address).unwrap();
            prop_assert!(ipv6.contains(&crossed));
            prop_assert_eq!(map.ipv4(crossed), Some(address));
        }
    }
}
