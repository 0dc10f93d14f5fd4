//! Which places of a datagram have been seen, in units of eight bytes.

use arrayvec::ArrayVec;

/// How many places that do not touch are remembered of one datagram. Fragments that come in order, or in the opposite
/// one, make one or two.
const LIMIT: usize = 16;

/// A place that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u16,
    end: u16,
    /// Whether it is of several fragments that touch, whose bounds are not known any more.
    joined: bool,
}

/// How a fragment lies to those that have been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It covers nothing of them.
    New,
    /// It is one of them once more. Where the bounds of those that touch are not known any more: it may be, as all
    /// of it has been seen.
    Duplicate,
    /// It covers one of them in part.
    Overlap,
    /// It covers nothing of them, and there is no room to remember it.
    Full,
}

/// The places that were seen, in order; no two of them overlap or touch.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    seen: ArrayVec<Range, LIMIT>,
    /// The end of the first fragment; 0 if it has not been seen. What is in it decides about the whole datagram, so
    /// its bounds are always known.
    first: u16,
}

impl Ranges {
    /// How a fragment from `start` to `end` lies to what was seen.
    pub(super) fn fit(&self, start: u16, end: u16) -> Fit {
        let Some(range) = self.seen.iter().find(|range| range.start < end && start < range.end) else {
            let touches = self.seen.iter().any(|range| range.start == end || range.end == start);
            return if touches || !self.seen.is_full() { Fit::New } else { Fit::Full };
        };
        let same = if start < self.first {
            (start, end) == (0, self.first)
        } else {
            range.joined && range.start <= start && end <= range.end
                || (range.start, range.end) == (start, end)
        };
        if same { Fit::Duplicate } else { Fit::Overlap }
    }

    /// Remembers a fragment that [`Ranges::fit`] found new.
    pub(super) fn insert(&mut self, start: u16, end: u16) {
        if start == 0 {
            self.first = end;
        }
        let place = self.seen.partition_point(|range| range.start < start);
        let behind = self.seen.get(place).filter(|range| range.start == end).copied();
        let before = place.checked_sub(1).and_then(|before| self.seen.get_mut(before));
        match (before.filter(|range| range.end == start), behind) {
            (Some(before), Some(behind)) => {
                (before.end, before.joined) = (behind.end, true);
                self.seen.remove(place);
            }
            (Some(before), None) => (before.end, before.joined) = (end, true),
            (None, Some(_)) => {
                if let Some(behind) = self.seen.get_mut(place) {
                    (behind.start, behind.joined) = (start, true);
                }
            }
            // A fragment that does not fit was found so before.
            (None, None) => drop(self.seen.try_insert(place, Range { start, end, joined: false })),
        }
    }

    /// The end of what was seen.
    pub(super) fn end(&self) -> u16 {
        self.seen.last().map_or(0, |range| range.end)
    }

    /// Whether all up to `end` has been seen, and nothing behind.
    pub(super) fn is_whole(&self, end: u16) -> bool {
        matches!(self.seen.as_slice(), [range] if range.start == 0 && range.end == end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(parts: &[(u16, u16)]) -> Ranges {
        let mut ranges = Ranges::default();
        for (start, end) in parts {
            assert_eq!(ranges.fit(*start, *end), Fit::New);
            ranges.insert(*start, *end);
        }
        ranges
    }

    #[test]
    fn fragments_that_touch_take_one_place_in_any_order() {
        for parts in [[(0, 5), (5, 9), (9, 12)], [(9, 12), (5, 9), (0, 5)], [(0, 5), (9, 12), (5, 9)]] {
            let ranges = of(&parts);
            assert_eq!(ranges.seen.len(), 1);
            assert!(ranges.is_whole(12) && !ranges.is_whole(11) && !ranges.is_whole(13));
        }
        assert!(!of(&[(0, 5), (6, 12)]).is_whole(12));
        assert!(!of(&[(5, 12)]).is_whole(12));
    }

    #[test]
    fn duplicate_is_told_from_overlap_as_long_as_bounds_are_known() {
        let ranges = of(&[(10, 20), (30, 40)]);
        assert_eq!(ranges.fit(10, 20), Fit::Duplicate);
        for (start, end) in [(9, 11), (19, 21), (9, 21), (11, 19), (10, 19), (11, 20), (15, 35), (0, 50)] {
            assert_eq!(ranges.fit(start, end), Fit::Overlap, "{start} {end}");
        }
        let joined = of(&[(10, 20), (20, 30), (30, 40)]);
        assert_eq!(joined.fit(20, 30), Fit::Duplicate);
        assert_eq!(joined.fit(12, 38), Fit::Duplicate, "may be one");
        assert_eq!(joined.fit(9, 38), Fit::Overlap);
    }

    #[test]
    fn bounds_of_the_first_fragment_are_always_known() {
        let ranges = of(&[(0, 10), (10, 20)]);
        assert_eq!(ranges.fit(0, 10), Fit::Duplicate);
        for (start, end) in [(0, 9), (0, 11), (0, 20), (3, 5), (9, 10), (9, 20), (9, 30)] {
            assert_eq!(ranges.fit(start, end), Fit::Overlap, "{start} {end}");
        }
        assert_eq!(ranges.fit(10, 20), Fit::Duplicate);
    }

    #[test]
    fn no_more_gaps_are_remembered_than_the_limit() {
        let mut ranges = of(&(0..16).map(|n| (n * 10 + 2, n * 10 + 4)).collect::<Vec<_>>());
        assert_eq!(ranges.fit(200, 201), Fit::Full);
        assert_eq!(ranges.fit(0, 1), Fit::Full);
        assert_eq!(ranges.fit(3, 5), Fit::Overlap);
        assert_eq!(ranges.fit(2, 4), Fit::Duplicate);
        assert_eq!(ranges.fit(4, 6), Fit::New, "touches one");
        ranges.insert(4, 12);
        assert_eq!(ranges.fit(200, 201), Fit::New, "two became one");
    }

    proptest! {
        /// Against a list of the fragments themselves.
        #[test]
        fn ranges_tell_what_the_list_of_all_fragments_tells(
            parts in prop::collection::vec((0u16..60, 1u16..9), 0..60),
        ) {
            let (mut ranges, mut list) = (Ranges::default(), Vec::<(u16, u16)>::new());
            for (start, length) in parts {
                let end = start + length;
                let fit = ranges.fit(start, end);
                let seen = |unit: u16| list.iter().any(|(from, to)| (*from..*to).contains(&unit));
                if fit == Fit::Full {
                    prop_assert!(!(start..end).any(seen));
                    let borders = (0..80).filter(|unit| seen(*unit) != (*unit > 0 && seen(unit - 1)));
                    prop_assert_eq!(borders.count(), 2 * LIMIT);
                    continue;
                }
                let exact = list.contains(&(start, end));
                let first = list.iter().find(|(from, _)| *from == 0).map_or(0, |(_, to)| *to);
                let all_seen = (start..end).all(seen) && start >= first
                    && !list.iter().any(|(from, to)| {
                        // A fragment that touches no other has known bounds.
                        *from <= start && end <= *to && !seen(*to) && (*from == 0 || !seen(from - 1))
                    });
                let expected = if !(start..end).any(seen) { Fit::New }
                    else if exact || all_seen { Fit::Duplicate } else { Fit::Overlap };
                prop_assert_eq!(fit, expected);
                if fit == Fit::New {
                    ranges.insert(start, end);
                    list.push((start, end));
                }
                let end = list.iter().map(|(_, to)| *to).max().unwrap_or(0);
                prop_assert_eq!(ranges.end(), end);
                let whole = (0..end).all(|unit| list.iter().any(|(from, to)| (*from..*to).contains(&unit)));
                prop_assert_eq!(ranges.is_whole(end), whole && end > 0);
            }
        }
    }
}
