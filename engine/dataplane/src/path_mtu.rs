//! What is known of paths through the substrate: how large a packet to a host may be.

use crate::address::HostPrefix;
use crate::translate::Settings;
use hashbrown::HashMap;

/// Path MTUs that the substrate has told, by host prefix: an immutable part of the snapshot.
///
/// Paths that are not in it carry what the uplink carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathMtus {
    smallest: u16,
    by_prefix: HashMap<HostPrefix, u16>,
}

impl Default for PathMtus {
    fn default() -> Self {
        Self { smallest: u16::MAX, by_prefix: HashMap::new() }
    }
}

impl PathMtus {
    /// Adds what a path carries, in bytes of IPv6 packet. Less than 1,280 counts as 1,280, which every path carries
    /// (RFC 8200, 5), and of two values for a prefix the smaller counts.
    pub fn insert(&mut self, host: HostPrefix, mtu: u16) {
        let mtu = mtu.max(Settings::MIN_IPV6_MTU);
        let known = self.by_prefix.entry(host).or_insert(mtu);
        *known = mtu.min(*known);
        self.smallest = mtu.min(self.smallest);
    }

    /// What the narrowest path carries, 1,280 to 65,535 bytes: a packet that is not larger fits every path, and needs
    /// no look-up. [`u16::MAX`] when nothing is known.
    #[inline]
    #[must_use]
    pub const fn smallest(&self) -> u16 {
        self.smallest
    }

    /// What the path to a host carries, 1,280 to 65,535 bytes; `None` when nothing is known of it.
    #[must_use]
    pub fn of(&self, host: HostPrefix) -> Option<u16> {
        self.by_prefix.get(&host).copied()
    }
}

impl FromIterator<(HostPrefix, u16)> for PathMtus {
    fn from_iter<I: IntoIterator<Item = (HostPrefix, u16)>>(paths: I) -> Self {
        let mut all = Self::default();
        for (host, mtu) in paths {
            all.insert(host, mtu);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Layout;

    fn host(last: u16) -> HostPrefix {
        HostPrefix::parse(Layout::Slot64, &format!("fd00:0:0:{last:x}::/64")).unwrap()
    }

    #[test]
    fn nothing_known_lets_everything_pass_without_a_look_up() {
        let none = PathMtus::default();
        assert_eq!((none.smallest(), none.of(host(1))), (u16::MAX, None));
    }

    #[test]
    fn each_path_has_its_own_and_the_narrowest_is_known() {
        let paths: PathMtus = [(host(1), 1400), (host(2), 1300), (host(3), 9000)].into_iter().collect();
        assert_eq!(paths.smallest(), 1300);
        assert_eq!([1, 2, 3, 4].map(|n| paths.of(host(n))), [Some(1400), Some(1300), Some(9000), None]);
    }

    #[test]
    fn no_path_is_below_the_least_that_every_path_carries() {
        let paths: PathMtus = [(host(1), 0), (host(2), 1279), (host(3), 1280)].into_iter().collect();
        assert_eq!([1, 2, 3].map(|n| paths.of(host(n))), [Some(1280); 3]);
        assert_eq!(paths.smallest(), 1280);
    }

    #[test]
    fn smaller_of_two_values_counts() {
        let paths: PathMtus = [(host(1), 1300), (host(1), 1400)].into_iter().collect();
        assert_eq!((paths.of(host(1)), paths.smallest()), (Some(1300), 1300));
    }
}
