//! The keyed hash that spreads keys over buckets.

/// A hash function, chosen by two secret words.
///
/// Two rounds of a folded multiplication: the two halves of the 128-bit product, xored. Without the secrets nobody
/// can choose keys that collide on purpose; it is not a signature, and is used for nothing but spreading.
#[derive(Clone, Copy)]
pub(crate) struct Hasher {
    before: [u64; 2],
    factor: [u64; 2],
}

impl Hasher {
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        let [one, two] = seed;
        // Spread, so that even seeds like 0 and 1 give usable words; factors are odd so that no bit of the input is
        // lost in the low half.
        Self {
            before: [splitmix(one), splitmix(one ^ splitmix(two))],
            factor: [splitmix(two) | 1, splitmix(two ^ splitmix(!one)) | 1],
        }
    }

    /// The hash of a key word; the high bits are the best.
    #[inline(always)]
    pub(crate) const fn hash(&self, word: u64) -> u64 {
        let [before_one, before_two] = self.before;
        let [factor_one, factor_two] = self.factor;
        fold(fold(word ^ before_one, factor_one) ^ before_two, factor_two)
    }

    /// The hash of two words, in as many rounds: the first multiplies one by the other.
    #[inline(always)]
    pub(crate) const fn hash_two(&self, [one, two]: [u64; 2]) -> u64 {
        let [before_one, before_two] = self.before;
        let [factor_one, factor_two] = self.factor;
        fold(fold(one ^ before_one, two ^ factor_one) ^ before_two, factor_two)
    }
}

#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The output function of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
const fn splitmix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
