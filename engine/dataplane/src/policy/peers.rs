//! Who carries which tags.

use super::rule::TagId;
use crate::id::VnetId;
use core::net::Ipv4Addr;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::hash::RandomState;

/// Most tags that one peer carries.
pub const MAX_TAGS: usize = 16;

/// The tags of those peers that carry some. Immutable: another one takes its place when anything changes.
///
/// The hash is keyed at random, since tenants choose the addresses.
#[derive(Debug, Default)]
pub struct Peers {
    sets: Vec<Box<[TagId]>>,
    of: HashMap<(VnetId, Ipv4Addr), u32, RandomState>,
}

impl Peers {
    /// Of all that carry tags, each named once; the tags beyond [`MAX_TAGS`] of one are left out.
    pub fn new(carriers: impl IntoIterator<Item = ((VnetId, Ipv4Addr), Vec<TagId>)>) -> Self {
        let (mut sets, mut of) = (Vec::new(), HashMap::default());
        let mut known: HashMap<Box<[TagId]>, u32> = HashMap::new();
        for (peer, tags) in carriers {
            let tags: BTreeSet<TagId> = tags.into_iter().collect();
            let tags: Box<[TagId]> = tags.into_iter().take(MAX_TAGS).collect();
            if tags.is_empty() {
                continue;
            }
            let number = *known.entry(tags).or_insert_with_key(|tags| {
                sets.push(tags.clone());
                // Fewer than there are peers, which are fewer than 2^32.
                (sets.len() - 1) as u32
            });
            of.insert(peer, number);
        }
        Self { sets, of }
    }

    /// The tags of a peer, in order.
    #[inline]
    #[must_use]
    pub fn tags(&self, peer: (VnetId, Ipv4Addr)) -> &[TagId] {
        if self.of.is_empty() {
            return &[];
        }
        let set = self.of.get(&peer).and_then(|number| self.sets.get(*number as usize));
        set.map_or(&[], |tags| tags)
    }

    /// How many peers carry tags.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether nobody carries any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_with_the_same_tags_share_one_set() {
        let peer = |last| (VnetId::MIN, Ipv4Addr::new(10, 0, 0, last));
        let tags = vec![TagId(9), TagId(3), TagId(9)];
        let peers = Peers::new([(peer(1), tags.clone()), (peer(2), tags), (peer(3), Vec::new())]);
        assert_eq!(peers.tags(peer(1)), [TagId(3), TagId(9)]);
        assert_eq!(peers.tags(peer(2)), peers.tags(peer(1)));
        assert_eq!((peers.len(), peers.sets.len()), (2, 1));
        assert_eq!(peers.tags(peer(3)), []);
        assert_eq!(peers.tags((VnetId::MAX, peer(1).1)), []);
    }
}
