//! The kernel's interfaces, as rtnetlink has told.

use super::traits::{Link, LinkEvent};
use hashbrown::HashMap;

/// The kernel's interfaces.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_index: HashMap<u32, Link>,
    by_name: HashMap<String, u32>,
}

impl Links {
    pub(super) fn apply(&mut self, event: LinkEvent) {
        let index = match &event {
            LinkEvent::New(link) => link.ifindex,
            LinkEvent::Gone(index) => *index,
        };
        // Also a renamed link leaves its old name.
        if let Some(old) = self.by_index.remove(&index)
            && self.by_name.get(&old.name) == Some(&index)
        {
            self.by_name.remove(&old.name);
        }
        if let LinkEvent::New(link) = event {
            self.by_name.insert(link.name.clone(), index);
            self.by_index.insert(index, link);
        }
    }

    pub(super) fn named(&self, name: &str) -> Option<&Link> {
        self.by_name.get(name).and_then(|index| self.by_index.get(index))
    }

    pub(super) fn get(&self, ifindex: u32) -> Option<&Link> {
        self.by_index.get(&ifindex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str) -> LinkEvent {
        LinkEvent::New(Link { ifindex, name: name.into(), up: true, mtu: 1500 })
    }

    #[test]
    fn a_renamed_link_leaves_its_old_name() {
        let mut links = Links::default();
        links.apply(link(3, "a"));
        links.apply(link(3, "b"));
        assert!(links.named("a").is_none());
        assert_eq!(links.named("b").unwrap().ifindex, 3);
    }

    #[test]
    fn a_recreated_link_survives_the_late_end_of_its_predecessor() {
        let mut links = Links::default();
        links.apply(link(3, "a"));
        links.apply(link(4, "a"));
        links.apply(LinkEvent::Gone(3));
        assert_eq!(links.named("a").unwrap().ifindex, 4);
        assert!(links.get(3).is_none());
    }
}
