//! One property of a packet, as a number: which rules its value is right for.

use super::bits::{Arena, Dense, Left, Span};
use super::set::TooComplex;
use core::ops::RangeInclusive;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// Cuts the numbers into intervals within which every value is right for the same rules.
#[derive(Debug, Clone)]
pub(super) struct Intervals {
    /// Rules that do not look at it.
    any: Dense,
    /// Where intervals begin, ascending. What is before the first is right for none.
    starts: Vec<u64>,
    /// The rules of each interval, in `sets`.
    rules: Vec<Span>,
    sets: Arena,
}

/// Bytes that may still be taken.
pub(super) struct Budget(pub(super) usize);

impl Budget {
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), TooComplex> {
        self.0 = self.0.checked_sub(bytes).ok_or(TooComplex::Memory)?;
        Ok(())
    }
}

impl Intervals {
    /// `conditions` says of each rule, in their order, which values are right; `None`: it does not look.
    pub(super) fn new(
        conditions: impl IntoIterator<Item = Option<Vec<RangeInclusive<u64>>>>,
        budget: &mut Budget,
    ) -> Result<Self, TooComplex> {
        let mut any = Vec::new();
        // What begins and ends where: how many ranges of which rule.
        let mut turns: BTreeMap<u64, Vec<(u32, i32)>> = BTreeMap::new();
        for (rule, condition) in (0..).zip(conditions) {
            let Some(ranges) = condition else {
                any.push(rule);
                continue;
            };
            for range in ranges.iter().filter(|range| !range.is_empty()) {
                turns.entry(*range.start()).or_default().push((rule, 1));
                if let Some(behind) = range.end().checked_add(1) {
                    turns.entry(behind).or_default().push((rule, -1));
                }
            }
        }
        let (mut starts, mut rules) = (Vec::with_capacity(turns.len()), Vec::with_capacity(turns.len()));
        let (mut sets, mut known) = (Arena::default(), HashMap::<Vec<u32>, Span>::new());
        // How many ranges of each rule the running interval lies in.
        let mut open: BTreeMap<u32, i32> = BTreeMap::new();
        for (start, changes) in turns {
            for (rule, by) in changes {
                let count = open.entry(rule).or_default();
                *count += by;
                if *count == 0 {
                    open.remove(&rule);
                }
            }
            let members: Vec<u32> = open.keys().copied().collect();
            let set = match known.get(&members) {
                Some(set) => *set,
                None => {
                    let set = sets.add(&members);
                    // With what it takes to know it again, while this is being made.
                    budget.take(set.bytes() + size_of_val::<[u32]>(&members))?;
                    known.insert(members, set);
                    set
                }
            };
            budget.take(size_of::<u64>() + size_of::<Span>())?;
            starts.push(start);
            rules.push(set);
        }
        Ok(Self { any: Dense::new(any), starts, rules, sets })
    }

    /// Of so many rules, none of which looks at it.
    pub(super) fn nobody_looks(rules: u32) -> Self {
        Self { any: Dense::new(0..rules), starts: Vec::new(), rules: Vec::new(), sets: Arena::default() }
    }

    /// What a value leaves; without one, the rules that do not look at it.
    #[inline]
    pub(super) fn left(&self, value: Option<u64>) -> Left<'_> {
        let right = match value {
            Some(value) if !self.starts.is_empty() => {
                let behind = self.starts.partition_point(|start| *start <= value);
                behind.checked_sub(1).and_then(|place| self.rules.get(place)).map(|set| self.sets.get(*set))
            }
            _ => None,
        };
        Left { any: &self.any, right }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::bits::Part;

    fn intervals(conditions: Vec<Option<Vec<RangeInclusive<u64>>>>) -> Intervals {
        Intervals::new(conditions, &mut Budget(1 << 20)).unwrap()
    }

    #[test]
    fn intervals_begin_and_end_where_they_say() {
        let conditions =
            vec![Some(vec![10..=20, 15..=30]), None, Some(vec![0..=u64::MAX]), Some(vec![30..=30])];
        let map = intervals(conditions);
        for (value, expected) in [(0, 0b110), (9, 0b110), (10, 0b111), (20, 0b111), (21, 0b111), (29, 0b111)]
            .into_iter()
            .chain([(30, 0b1111), (31, 0b110), (u64::MAX, 0b110)])
        {
            assert_eq!(map.left(Some(value)).word(0), expected, "{value}");
        }
        assert_eq!(map.left(None).word(0), 0b10);
    }

    #[test]
    fn what_takes_too_much_memory_is_refused() {
        let nested = (0..2000).map(|rule| Some(vec![rule..=10_000 - rule]));
        assert_eq!(Intervals::new(nested, &mut Budget(1 << 16)).unwrap_err(), TooComplex::Memory);
    }
}
