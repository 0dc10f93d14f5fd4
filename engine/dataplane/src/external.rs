//! Externals: systems with IPv6 addresses of their own and no engine, which nodes of a vnet exchange packets with. Nodes know
//! them by IPv4 addresses that nobody else has.
//!
//! A prefix of theirs is one of IPv4 with as many bits behind it (RFC 7757), so that the two are the same addresses for as long
//! as provisioning says so, on every host.

use crate::address::HostPrefix;
use crate::illegal::Illegal;
use crate::route;
use crate::translate::AddressMap;
use core::net::{Ipv4Addr, Ipv6Addr};
use ipnet::{Ipv4Net, Ipv6Net};

/// Most externals of a vnet.
pub const MAX_EXTERNALS: usize = 256;
/// The shortest prefix of externals: 65,536 addresses.
pub const SHORTEST: u8 = 112;

/// What the address of an external looks like, for people.
pub const LEGAL: &str =
    "a unicast IPv6 address or a prefix of length 112 to 128, like 2001:db8::5 or 2001:db8::/120";

/// Some systems, and what nodes know them by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct External {
    /// Their addresses.
    pub ipv6: Ipv6Net,
    /// What nodes know them by: as many addresses.
    pub ipv4: Ipv4Net,
}

/// All of a vnet's. Immutable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Externals {
    all: Vec<External>,
    map: AddressMap,
}

/// Whether these can be addresses of externals.
///
/// # Errors
/// [`Illegal`] naming the field.
pub fn check(ipv6: Ipv6Net) -> Result<(), Illegal> {
    let first = ipv6.network();
    // 0000::/8 has what is no address (RFC 4291, 2.5), and IPv4 in other clothes (2.5.5).
    let usual = !first.is_multicast() && !first.is_unicast_link_local() && first.octets().first() != Some(&0);
    if ipv6.trunc() != ipv6 || ipv6.prefix_len() < SHORTEST || !usual {
        return Err(Illegal::new("address", LEGAL, ipv6.to_string()));
    }
    Ok(())
}

impl Externals {
    /// Checks what provisioning says.
    ///
    /// # Errors
    /// [`Illegal`] naming the field.
    pub fn new(all: Vec<External>) -> Result<Self, Illegal> {
        if all.len() > MAX_EXTERNALS {
            return Err(Illegal::new("externals", format!("at most {MAX_EXTERNALS}"), all.len().to_string()));
        }
        let mut map = AddressMap::default();
        for (place, External { ipv6, ipv4 }) in all.iter().enumerate() {
            check(*ipv6)?;
            route::check("ipv4", *ipv4)?;
            if 32 - ipv4.prefix_len() != 128 - ipv6.prefix_len() {
                let legal =
                    format!("of length {}, for as many addresses as {ipv6} has", ipv6.prefix_len() - 96);
                return Err(Illegal::new("ipv4", legal, ipv4.to_string()));
            }
            let others = all.get(..place).unwrap_or_default();
            let overlaps = |other: &&External| {
                let one = other.ipv6.contains(ipv6) || ipv6.contains(&other.ipv6);
                one || other.ipv4.contains(ipv4) || ipv4.contains(&other.ipv4)
            };
            if let Some(other) = others.iter().find(overlaps) {
                let legal = format!("apart from {}, which is {}", other.ipv6, other.ipv4);
                return Err(Illegal::new("externals", legal, format!("{ipv6} as {ipv4}")));
            }
            map.insert(*ipv4, *ipv6)
                .map_err(|error| Illegal::new("externals", error.to_string(), ipv6.to_string()))?;
        }
        Ok(Self { all, map })
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[External] {
        &self.all
    }

    /// The external that nodes know by this address.
    #[must_use]
    pub fn ipv6(&self, ipv4: Ipv4Addr) -> Option<Ipv6Addr> {
        if self.is_empty() { None } else { self.map.ipv6(ipv4) }
    }

    /// What nodes know an external by.
    #[must_use]
    pub fn ipv4(&self, ipv6: Ipv6Addr) -> Option<Ipv4Addr> {
        if self.is_empty() { None } else { self.map.ipv4(ipv6) }
    }

    /// The first whose IPv4 addresses overlap with one of these networks, and that.
    #[must_use]
    pub fn among(&self, nets: &[Ipv4Net]) -> Option<(Ipv4Net, Ipv4Net)> {
        self.all.iter().find_map(|External { ipv4, .. }| {
            let overlaps = |net: &&Ipv4Net| net.contains(ipv4) || ipv4.contains(*net);
            Some((*ipv4, *nets.iter().find(overlaps)?))
        })
    }

    /// The first that has an address in a host's prefix: it would be a node's.
    #[must_use]
    pub fn inside(&self, prefix: HostPrefix) -> Option<Ipv6Net> {
        // None is shorter than a prefix.
        self.all.iter().map(|external| external.ipv6).find(|ipv6| prefix.contains(ipv6.network()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Layout;

    fn externals(of: &[(&str, &str)]) -> Result<Externals, Illegal> {
        let one = |(ipv6, ipv4): &(&str, &str)| External {
            ipv6: ipv6.parse().unwrap(),
            ipv4: ipv4.parse().unwrap(),
        };
        Externals::new(of.iter().map(one).collect())
    }

    #[test]
    fn each_address_is_another_and_the_same_again_the_other_way() {
        let known = externals(&[("2001:db8::5/128", "10.255.0.1/32"), ("2001:db8:1::/120", "10.255.1.0/24")])
            .unwrap();
        for (ipv6, ipv4) in [
            ("2001:db8::5", "10.255.0.1"),
            ("2001:db8:1::", "10.255.1.0"),
            ("2001:db8:1::7f", "10.255.1.127"),
            ("2001:db8:1::ff", "10.255.1.255"),
        ] {
            let (ipv6, ipv4) = (ipv6.parse().unwrap(), ipv4.parse().unwrap());
            assert_eq!((known.ipv4(ipv6), known.ipv6(ipv4)), (Some(ipv4), Some(ipv6)));
        }
        for stranger in ["2001:db8::4", "2001:db8:1::100", "2001:db8:1:0:1::7f"] {
            assert_eq!(known.ipv4(stranger.parse().unwrap()), None);
        }
        assert_eq!(known.ipv6(Ipv4Addr::new(10, 255, 0, 2)), None);
        let prefix = |text| HostPrefix::parse(Layout::Slot64, text).unwrap();
        assert_eq!(known.inside(prefix("2001:db8:1::/64")), Some("2001:db8:1::/120".parse().unwrap()));
        assert_eq!(known.inside(prefix("2001:db8:2::/64")), None);
    }

    #[test]
    fn what_can_be_no_external_is_refused_by_field() {
        let field = |ipv6, ipv4| externals(&[(ipv6, ipv4)]).unwrap_err().field;
        for bad in [
            "2001:db8::/111",
            "2001:db8::5/120",
            "ff02::1/128",
            "fe80::1/128",
            "::1/128",
            "::ffff:10.0.0.1/128",
        ] {
            assert_eq!(field(bad, "10.255.0.1/32"), "address", "{bad}");
        }
        for bad in ["10.255.0.0/24", "224.0.0.1/32", "127.0.0.1/32", "10.255.0.0/31"] {
            assert_eq!(field("2001:db8::5/128", bad), "ipv4", "{bad}");
        }
        let twice = |one, two| externals(&[one, two]).unwrap_err().field;
        assert_eq!(
            twice(("2001:db8::5/128", "10.255.0.1/32"), ("2001:db8::/120", "10.9.0.0/24")),
            "externals"
        );
        assert_eq!(
            twice(("2001:db8::5/128", "10.255.0.1/32"), ("2001:db8:1::/120", "10.255.0.0/24")),
            "externals"
        );
        let many: Vec<_> = (0..=MAX_EXTERNALS as u32)
            .map(|number| External {
                ipv6: Ipv6Net::new(Ipv6Addr::from_bits(0x2001 << 112 | u128::from(number)), 128).unwrap(),
                ipv4: Ipv4Net::new(Ipv4Addr::from_bits(10 << 24 | number), 32).unwrap(),
            })
            .collect();
        assert_eq!(Externals::new(many).unwrap_err().field, "externals");
    }
}
