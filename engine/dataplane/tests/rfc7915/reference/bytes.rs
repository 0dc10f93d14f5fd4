//! Fields in network byte order, and the one's-complement sum (RFC 1071).

pub(crate) fn u16_at(bytes: &[u8], place: usize) -> u16 {
    u16::from_be_bytes([bytes[place], bytes[place + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_be_bytes([bytes[place], bytes[place + 1], bytes[place + 2], bytes[place + 3]])
}

pub(crate) fn put_u16(bytes: &mut [u8], place: usize, value: u16) {
    bytes[place..place + 2].copy_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_u32(bytes: &mut [u8], place: usize, value: u32) {
    bytes[place..place + 4].copy_from_slice(&value.to_be_bytes());
}

/// The sum of all 16-bit words, nothing folded; an odd last byte is the upper half of a word.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

/// The checksum of what adds up to `sum`: the complement of the folded sum.
pub(crate) fn checksum(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sets the checksum at `place` of `after` so that it is as right, or as wrong, as the one at the same place of
/// `before`: everything covered, with its checksum, adds up to the same number as before. With the checksum right that
/// number is 0 in one's complement. Nothing is done where the bytes end before the checksum does.
pub(crate) fn carry_checksum(
    place: usize,
    before: (&[u8], u64),
    after: (&mut [u8], u64),
    zero_is_written_as_ones: bool,
) {
    let ((before, pseudo_before), (after, pseudo_after)) = (before, after);
    if after.len() < place + 2 {
        return;
    }
    let error = (sum(before) + pseudo_before) % 0xffff;
    put_u16(after, place, 0);
    // One's complement counts modulo 0xffff: what is missing to `error` is the checksum.
    let covered = (sum(after) + pseudo_after) % 0xffff;
    let missing = ((error + 0xffff - covered) % 0xffff) as u16;
    put_u16(after, place, if missing == 0 && zero_is_written_as_ones { 0xffff } else { missing });
}
