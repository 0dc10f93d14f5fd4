//! Doubly linked queues over the slots of a table: an index is in one queue at a time, and leaves it from any place.

/// The index of a slot; [`NONE`] is none.
pub(super) type Index = u32;

/// No slot: behind any table's last.
pub(super) const NONE: Index = Index::MAX;

/// The two ends of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    head: Index,
    tail: Index,
}

impl Queue {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE };

    /// The index that has been in the queue for the longest.
    pub(super) const fn head(&self) -> Option<Index> {
        if self.head == NONE { None } else { Some(self.head) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Link {
    before: Index,
    behind: Index,
}

/// What connects the indices in queues.
#[derive(Debug)]
pub(super) struct Links(Box<[Link]>);

impl Links {
    /// Links for indices below `count`, all of them in no queue.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![Link { before: NONE, behind: NONE }; count].into())
    }

    /// The index behind `index` in its queue.
    pub(super) fn behind(&self, index: Index) -> Option<Index> {
        self.0.get(index as usize).map(|link| link.behind).filter(|behind| *behind != NONE)
    }

    /// Puts `index`, which is in no queue, at the end of `queue`.
    pub(super) fn push(&mut self, queue: &mut Queue, index: Index) {
        let Some(link) = self.0.get_mut(index as usize) else { return };
        *link = Link { before: queue.tail, behind: NONE };
        match self.0.get_mut(queue.tail as usize) {
            Some(last) => last.behind = index,
            None => queue.head = index,
        }
        queue.tail = index;
    }

    /// Takes `index`, which is in `queue`, out of it.
    pub(super) fn remove(&mut self, queue: &mut Queue, index: Index) {
        let Some(&Link { before, behind }) = self.0.get(index as usize) else { return };
        match self.0.get_mut(before as usize) {
            Some(link) => link.behind = behind,
            None => queue.head = behind,
        }
        match self.0.get_mut(behind as usize) {
            Some(link) => link.before = before,
            None => queue.tail = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn queues_keep_the_order_of_their_vectors(steps in prop::collection::vec((0u32..12, 0usize..3), 0..200)) {
            let (mut links, mut queues) = (Links::new(12), [Queue::EMPTY; 3]);
            let mut oracle: [Vec<Index>; 3] = Default::default();
            for (index, to) in steps {
                if let Some(from) = oracle.iter().position(|queue| queue.contains(&index)) {
                    links.remove(&mut queues[from], index);
                    oracle[from].retain(|other| *other != index);
                }
                links.push(&mut queues[to], index);
                oracle[to].push(index);
                for (queue, expected) in queues.iter().zip(&oracle) {
                    let walk = core::iter::successors(queue.head(), |index| links.behind(*index));
                    prop_assert_eq!(&walk.collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
