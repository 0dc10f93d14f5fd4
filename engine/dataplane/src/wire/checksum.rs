//! The internet checksum: one's-complement sums (RFC 1071) and their update when a part changes (RFC 1624).
//!
//! A *sum* is not complemented, a *checksum* is: the complement of the sum, as it lies in a header. What a field holds
//! whose checksum is left to the sending device ([`crate::packet::Checksum::Partial`]) is a sum.

/// A one's-complement sum under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds a 16-bit word.
    #[inline]
    #[must_use]
    pub const fn add(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds two 16-bit words, which lie in one of 32 bits.
    #[inline]
    #[must_use]
    pub const fn add_32(self, words: u32) -> Self {
        Self(self.0 + words as u64)
    }

    /// Takes a 16-bit word that has been added away again.
    #[inline]
    #[must_use]
    pub const fn remove(self, word: u16) -> Self {
        self.add(!word)
    }

    /// Adds bytes that begin at an even place of what is summed; a last odd byte is padded with zero.
    #[inline]
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        // Sums do not depend on byte order, so words are added as the machine reads them and turned round once
        // (RFC 1071, 2B). 2^32 words of 32 bits cannot overflow 64.
        let (words, tail) = bytes.as_chunks::<4>();
        let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        let mut last = [0u8; 4];
        for (to, from) in last.iter_mut().zip(tail) {
            *to = *from;
        }
        sum += u64::from(u32::from_ne_bytes(last));
        self.add(u16::from_be(fold(sum)))
    }

    /// The sum of 16 bits.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: the complement of the sum.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

#[inline]
const fn fold(sum: u64) -> u16 {
    // Both halves are added to both: the upper one of the result has the carry out of the lower one in it, which is
    // the carry that comes round at the end.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The sum of the first 96 bits of two IPv6 addresses.
#[inline(always)]
#[must_use]
pub fn sum_of_fronts(addresses: [&[u8; 16]; 2]) -> u16 {
    // As in `add_bytes`: in the machine's byte order, and turned round once.
    let sum = |octets: &[u8; 16]| -> u64 {
        let (words, _) = octets.as_chunks::<4>();
        words.iter().take(3).map(|word| u64::from(u32::from_ne_bytes(*word))).sum()
    };
    let [one, two] = addresses;
    u16::from_be(fold(sum(one) + sum(two)))
}

/// The sum of bytes that lie in several pieces, of any length each, without the first `skip` bytes.
#[must_use]
pub fn sum_of_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>, skip: usize) -> Sum {
    let (mut sum, mut skip, mut odd) = (Sum::ZERO, skip, false);
    for piece in pieces {
        let Some(piece) = piece.get(skip..) else {
            skip -= piece.len();
            continue;
        };
        skip = 0;
        let part = Sum::ZERO.add_bytes(piece).fold();
        sum = sum.add(if odd { part.swap_bytes() } else { part });
        odd ^= piece.len() % 2 != 0;
    }
    sum
}

/// A change of what a checksum covers: the sum of what is new, without what it replaces.
pub type Change = Sum;

/// The checksum after a change of what it covers (RFC 1624, equation 3). Right stays right and wrong stays wrong.
#[inline]
#[must_use]
pub const fn updated(checksum: u16, change: Change) -> u16 {
    !Sum(change.0 + !checksum as u64).fold()
}

/// The sum after a change of what it covers.
#[inline]
#[must_use]
pub const fn updated_sum(sum: u16, change: Change) -> u16 {
    Sum(change.0 + sum as u64).fold()
}

/// A checksum of UDP, where 0 means that there is none: its other spelling (RFC 768).
#[inline]
#[must_use]
pub const fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Word by word with a carry after each, as RFC 1071 describes it.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// 0 and 0xffff are the same number.
    fn same(a: u16, b: u16) -> bool {
        a % 0xffff == b % 0xffff
    }

    proptest! {
        #[test]
        fn sum_is_the_slow_sum(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::ZERO.add_bytes(&bytes).fold(), slow(&bytes));
        }

        #[test]
        fn fronts_sum_like_their_bytes(one: [u8; 16], two: [u8; 16]) {
            let sum = sum_of_fronts([&one, &two]);
            prop_assert_eq!(sum, Sum::ZERO.add_bytes(&one[..12]).add_bytes(&two[..12]).fold());
        }

        #[test]
        fn words_of_32_bits_sum_like_their_halves(words: [u32; 5]) {
            let sum = |sum: Sum, word: &u32| sum.add((*word >> 16) as u16).add(*word as u16);
            let slow = words.iter().fold(Sum::ZERO, sum).fold();
            prop_assert_eq!(words.iter().fold(Sum::ZERO, |sum, word| sum.add_32(*word)).fold(), slow);
        }

        #[test]
        fn pieces_sum_to_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(0usize..200, 0..6),
            skip in 0usize..100,
        ) {
            let skip = skip.min(bytes.len());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
            prop_assert!(same(sum_of_pieces(pieces, skip).fold(), slow(&bytes[skip..])));
        }

        #[test]
        fn update_is_the_sum_of_the_changed_bytes(
            mut bytes in prop::collection::vec(any::<u8>(), 2..100), place: prop::sample::Index, new: u16,
        ) {
            bytes.truncate(bytes.len() / 2 * 2);
            let place = place.index(bytes.len() / 2) * 2;
            let before = Sum::ZERO.add_bytes(&bytes);
            let old = u16::from_be_bytes([bytes[place], bytes[place + 1]]);
            bytes[place..place + 2].copy_from_slice(&new.to_be_bytes());
            let change = Change::ZERO.remove(old).add(new);
            prop_assert!(same(updated(before.checksum(), change), !slow(&bytes)));
            prop_assert!(same(updated_sum(before.fold(), change), slow(&bytes)));
        }
    }

    #[test]
    fn example_of_rfc_1624() {
        // Section 4: checksum 0xdd2f, a word changes from 0x5555 to 0x3285; the right answer is 0x0000.
        assert_eq!(updated(0xdd2f, Change::ZERO.remove(0x5555).add(0x3285)), 0x0000);
    }
}
