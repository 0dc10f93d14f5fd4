//! Words of several octets, read or written at once in the machine's own byte order: to be compared, summed
//! or moved on.
//!
//! Places are constants wherever these are called, so that what is out of bounds is out at compile time; there they read
//! as zero, and nothing is written.

/// The two octets from `at` on.
#[inline(always)]
pub(crate) fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    chunk(bytes, at).map_or(0, |chunk| u16::from_ne_bytes(*chunk))
}

/// The four octets from `at` on.
#[inline(always)]
pub(crate) fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    chunk(bytes, at).map_or(0, |chunk| u32::from_ne_bytes(*chunk))
}

/// The eight octets from `at` on.
#[inline(always)]
pub(crate) fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    chunk(bytes, at).map_or(0, |chunk| u64::from_ne_bytes(*chunk))
}

/// Eight octets of two halves, as they follow each other in memory.
#[inline(always)]
pub(crate) const fn joined(first: u32, second: u32) -> u64 {
    let (first, second) = (first as u64, second as u64);
    if cfg!(target_endian = "little") { first | second << 32 } else { first << 32 | second }
}

/// Writes the two octets from `at` on.
#[inline(always)]
pub(crate) fn put_u16<const N: usize>(bytes: &mut [u8; N], at: usize, word: u16) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = word.to_ne_bytes();
    }
}

/// Writes the four octets from `at` on.
#[inline(always)]
pub(crate) fn put_u32<const N: usize>(bytes: &mut [u8; N], at: usize, word: u32) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = word.to_ne_bytes();
    }
}

/// Writes the eight octets from `at` on.
#[inline(always)]
pub(crate) fn put_u64<const N: usize>(bytes: &mut [u8; N], at: usize, word: u64) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = word.to_ne_bytes();
    }
}

#[inline(always)]
fn chunk<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> Option<&[u8; M]> {
    bytes.get(at..)?.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_octets_of_their_place() {
        let bytes: [u8; 12] = core::array::from_fn(|index| index as u8);
        assert_eq!(u16_at(&bytes, 3).to_ne_bytes(), [3, 4]);
        assert_eq!(u32_at(&bytes, 8).to_ne_bytes(), [8, 9, 10, 11]);
        assert_eq!(u64_at(&bytes, 1).to_ne_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((u32_at(&bytes, 9), u64_at(&bytes, 13)), (0, 0));
        assert_eq!(joined(u32_at(&bytes, 1), u32_at(&bytes, 5)), u64_at(&bytes, 1));
    }

    #[test]
    fn words_are_written_whole_or_not_at_all() {
        let mut bytes = [0; 10];
        put_u64(&mut bytes, 1, u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]));
        put_u64(&mut bytes, 3, u64::MAX);
        put_u32(&mut bytes, 1, u32::from_ne_bytes([11, 12, 13, 14]));
        put_u32(&mut bytes, 7, u32::MAX);
        assert_eq!(bytes, [0, 11, 12, 13, 14, 5, 6, 7, 8, 0]);
        put_u16(&mut bytes, 9, u16::MAX);
        put_u16(&mut bytes, 8, u16::from_ne_bytes([9, 10]));
        assert_eq!(bytes, [0, 11, 12, 13, 14, 5, 6, 7, 9, 10]);
    }
}
