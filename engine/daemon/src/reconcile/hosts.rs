//! Which hosts mappings lead to.

use hashbrown::HashMap;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};

/// How many of the data plane's mappings lead to each host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    layout: Layout,
    mappings: HashMap<HostPrefix, u32>,
}

impl Hosts {
    /// Counts anew, by another layout.
    pub(super) fn count(layout: Layout, locators: impl Iterator<Item = Locator>) -> Self {
        let mut hosts = Self { layout, mappings: HashMap::new() };
        for locator in locators {
            hosts.moved(None, Some(locator));
        }
        hosts
    }

    /// The layout that it counts by.
    pub(super) const fn layout(&self) -> Layout {
        self.layout
    }

    /// A mapping that led to `from` leads to `to`. Gives the host that no mapping leads to any more.
    pub(super) fn moved(&mut self, from: Option<Locator>, to: Option<Locator>) -> Option<HostPrefix> {
        if from == to {
            return None;
        }
        if let Some(to) = to {
            *self.mappings.entry(to.prefix(self.layout)).or_insert(0) += 1;
        }
        let left = from?.prefix(self.layout);
        let count = self.mappings.get_mut(&left)?;
        *count -= 1;
        (*count == 0).then(|| {
            self.mappings.remove(&left);
            left
        })
    }

    /// Whether some mapping leads to the host.
    pub(super) fn contains(&self, host: HostPrefix) -> bool {
        self.mappings.contains_key(&host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_dataplane::id::{Slot, VnetId};

    fn locator(host: &str, slot: u8) -> Locator {
        let prefix = HostPrefix::parse(Layout::Slot64, host).unwrap();
        Locator::new(Layout::Slot64, prefix, Slot::new(slot).unwrap(), VnetId::MIN).unwrap()
    }

    #[test]
    fn host_is_left_with_its_last_mapping() {
        let (a0, a1) = (locator("fd00:0:0:a::/64", 0), locator("fd00:0:0:a::/64", 1));
        let b = locator("fd00:0:0:b::/64", 0);
        let [a, other] = [a0, b].map(|locator| locator.prefix(Layout::Slot64));
        let mut hosts = Hosts::default();
        assert!(!hosts.contains(a));
        assert_eq!(hosts.moved(None, Some(a0)), None);
        assert_eq!(hosts.moved(None, Some(a1)), None);
        assert_eq!(hosts.moved(Some(a1), Some(a1)), None);
        assert_eq!(hosts.moved(Some(a0), Some(b)), None);
        assert!(hosts.contains(a) && hosts.contains(other));
        // Within the host, to another slot.
        assert_eq!(hosts.moved(Some(a1), Some(a0)), None);
        assert_eq!(hosts.moved(Some(a0), None), Some(a));
        assert!(!hosts.contains(a) && hosts.contains(other));
        assert_eq!(hosts.moved(Some(b), None), Some(other));
    }

    #[test]
    fn counting_by_another_layout_knows_its_prefixes() {
        let locators = [locator("fd00:0:0:a::/64", 0), locator("fd00:0:0:a::/64", 1)];
        let mut hosts = Hosts::count(Layout::Plain72, locators.into_iter());
        let host = |text: &str| HostPrefix::parse(Layout::Plain72, text).unwrap();
        assert!(hosts.contains(host("fd00:0:0:a::/72")) && hosts.contains(host("fd00:0:0:a:400::/72")));
        assert_eq!(hosts.moved(Some(locators[1]), None), Some(host("fd00:0:0:a:400::/72")));
        assert_eq!(hosts.layout(), Layout::Plain72);
    }
}
