//! Sets of rules as bits, a bit for each rule in their order, with a summary: a bit for each word that is not zero.
//!
//! With the summaries of several sets at hand, their intersection is found without reading words that cannot be in it
//! (aggregated bit vectors: Baboescu and Varghese, SIGCOMM 2001).

/// Bits in a word.
const WORD: usize = 64;
/// Most rules in a set.
pub(super) const MAX_RULES: usize = 1 << 16;
/// Words of the longest summary.
const SUMMARY: usize = MAX_RULES / WORD / WORD;

/// A set most of whose words may be something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dense {
    words: Vec<u64>,
    summary: Vec<u64>,
}

impl Dense {
    pub(super) fn new(members: impl IntoIterator<Item = u32>) -> Self {
        let (mut words, mut summary) = (Vec::new(), Vec::new());
        for member in members {
            set(&mut words, member as usize);
            set(&mut summary, member as usize / WORD);
        }
        Self { words, summary }
    }

    #[inline]
    fn summary(&self, index: usize) -> u64 {
        self.summary.get(index).copied().unwrap_or(0)
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }
}

fn set(words: &mut Vec<u64>, bit: usize) {
    if words.len() <= bit / WORD {
        words.resize(bit / WORD + 1, 0);
    }
    if let Some(word) = words.get_mut(bit / WORD) {
        *word |= 1 << (bit % WORD);
    }
}

/// Many sets most of whose words are zero, which are not kept. They lie side by side: what is read of one is on a line or two.
#[derive(Debug, Clone, Default)]
pub(super) struct Arena(Vec<u64>);

/// Where a set is in its arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    at: u32,
    /// Words of its summary, and of itself behind it.
    summary: u16,
    words: u16,
}

const _: () = assert!(MAX_RULES / WORD <= u16::MAX as usize);

impl Span {
    /// Bytes that the set takes, and this.
    pub(super) const fn bytes(self) -> usize {
        size_of::<Self>() + (self.summary as usize + self.words as usize) * size_of::<u64>()
    }
}

impl Arena {
    /// Puts in a set of members in ascending order. An arena is bounded by the budget of whoever fills it, far below what a span
    /// can say.
    pub(super) fn add(&mut self, members: &[u32]) -> Span {
        let (mut words, mut summary, mut last) = (Vec::new(), Vec::new(), None);
        for member in members {
            let place = *member as usize / WORD;
            set(&mut summary, place);
            if last != Some(place) {
                words.push(0u64);
                last = Some(place);
            }
            if let Some(word) = words.last_mut() {
                *word |= 1 << (*member as usize % WORD);
            }
        }
        let span = Span { at: self.0.len() as u32, summary: summary.len() as u16, words: words.len() as u16 };
        self.0.extend(summary.into_iter().chain(words));
        span
    }

    /// The set of a span that this arena gave.
    #[inline]
    pub(super) fn get(&self, span: Span) -> Sparse<'_> {
        let behind = self.0.get(span.at as usize..).unwrap_or(&[]);
        let (summary, behind) = behind.split_at_checked(span.summary.into()).unwrap_or((&[], &[]));
        Sparse { summary, words: behind.get(..span.words.into()).unwrap_or(&[]) }
    }
}

/// A set most of whose words are zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sparse<'a> {
    summary: &'a [u64],
    /// Those that are not zero, in order.
    words: &'a [u64],
}

impl Sparse<'_> {
    #[inline]
    fn summary(&self, index: usize) -> u64 {
        self.summary.get(index).copied().unwrap_or(0)
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        let (place, bit) = (index / WORD, index % WORD);
        let summary = self.summary(place);
        if summary >> bit & 1 == 0 {
            return 0;
        }
        let before: u32 = self.summary.iter().take(place).map(|word| word.count_ones()).sum();
        let rank = before + (summary & ((1 << bit) - 1)).count_ones();
        self.words.get(rank as usize).copied().unwrap_or(0)
    }
}

/// The rules that one property of a packet leaves: those that do not look at it, and those that its value is right for.
pub(super) trait Part {
    fn summary(&self, index: usize) -> u64;
    fn word(&self, index: usize) -> u64;
}

/// What most properties leave.
pub(super) struct Left<'a> {
    pub(super) any: &'a Dense,
    pub(super) right: Option<Sparse<'a>>,
}

impl Part for Left<'_> {
    #[inline]
    fn summary(&self, index: usize) -> u64 {
        self.any.summary(index) | self.right.map_or(0, |right| right.summary(index))
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.any.word(index) | self.right.map_or(0, |right| right.word(index))
    }
}

/// What the peer leaves: rules are right for where it is, and for each tag that it carries.
pub(super) struct LeftByPeer<'a> {
    pub(super) place: Left<'a>,
    pub(super) tags: &'a [Sparse<'a>],
}

impl Part for LeftByPeer<'_> {
    #[inline]
    fn summary(&self, index: usize) -> u64 {
        self.tags.iter().fold(self.place.summary(index), |all, tag| all | tag.summary(index))
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.tags.iter().fold(self.place.word(index), |all, tag| all | tag.word(index))
    }
}

/// The members that all parts have, in order.
pub(super) fn intersection<'a, const PARTS: usize>(
    peer: &'a LeftByPeer<'_>,
    others: &'a [Left<'_>; PARTS],
    rules: usize,
) -> impl Iterator<Item = usize> + 'a {
    let summaries = rules.div_ceil(WORD * WORD).min(SUMMARY);
    (0..summaries).flat_map(move |place| {
        let summary = others.iter().fold(peer.summary(place), |all, part| all & part.summary(place));
        ones(summary).flat_map(move |bit| {
            let index = place * WORD + bit;
            let word = others.iter().fold(peer.word(index), |all, part| all & part.word(index));
            ones(word).map(move |bit| index * WORD + bit)
        })
    })
}

/// The places of the bits that are set, lowest first.
#[inline]
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros() as usize;
            word &= word - 1;
            bit
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_and_dense_sets_say_the_same_of_every_word() {
        let members = [0, 1, 63, 64, 4095, 4096, 4097, 8191, 40_000, 65_535];
        let (mut arena, dense) = (Arena::default(), Dense::new(members));
        // Not alone, and not the first.
        let others = [arena.add(&[3, 99]), arena.add(&members), arena.add(&[])];
        let sparse = arena.get(others[1]);
        for index in 0..MAX_RULES / WORD + 2 {
            assert_eq!(sparse.word(index), dense.word(index), "{index}");
        }
        for index in 0..SUMMARY + 2 {
            assert_eq!(sparse.summary(index), dense.summary(index), "{index}");
        }
        assert_eq!((sparse.words.len(), arena.get(others[0]).words), (7, &[8, 1 << 35][..]));
        assert_eq!(arena.get(others[2]).word(0), 0);
    }

    #[test]
    fn an_intersection_has_what_is_in_all_of_them() {
        let all: Vec<u32> = (0..10_000).collect();
        let any = Dense::new(all.iter().copied());
        let mut arena = Arena::default();
        let thirds = arena.add(&all.iter().copied().filter(|n| n % 3 == 0).collect::<Vec<_>>());
        let none = Dense::new([]);
        let fives = Dense::new(all.iter().copied().filter(|n| n % 5 == 0));
        let peer = LeftByPeer { place: Left { any: &none, right: None }, tags: &[arena.get(thirds)] };
        let others = [Left { any: &fives, right: None }, Left { any: &any, right: None }];
        let found: Vec<usize> = intersection(&peer, &others, 10_000).collect();
        assert_eq!(found, (0..10_000).filter(|n| n % 15 == 0).collect::<Vec<_>>());
    }
}
