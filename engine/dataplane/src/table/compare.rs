//! How the eight words of a key line are compared: one function, three ways, one of them chosen at start.

use super::sync::{AtomicU64, Relaxed};

/// Words of a line.
pub(super) const WAYS: usize = 8;

/// Eight words that are looked for, on one cache line.
#[repr(align(64))]
#[derive(Default)]
pub(super) struct KeyLine {
    pub(super) words: [AtomicU64; WAYS],
}

/// Which instructions compare a line of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compare {
    /// Word by word; anywhere, also under sanitizers, which see it all.
    Scalar,
    /// Two halves (AVX2).
    Avx2,
    /// The whole line at once (AVX-512F).
    Avx512,
}

impl Compare {
    /// Every way, the plainest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// The fastest that this processor has.
    #[must_use]
    pub fn detect() -> Self {
        Self::ALL.into_iter().rev().find(|way| way.is_available()).unwrap_or(Self::Scalar)
    }

    /// Whether this processor has the instructions.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2"),
            #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
            Self::Avx512 => std::arch::is_x86_feature_detected!("avx512f"),
            #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }
}

/// One way to compare; a type, so that each look-up function is compiled for one.
pub(super) trait Way {
    /// Bit i is set where word i of the line is `word`.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn equal(line: &KeyLine, word: u64) -> u32;

    /// Bit i is set where word i of the line has the same bits as `word` from bit `FROM` on.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn equal_from<const FROM: u32>(line: &KeyLine, word: u64) -> u32;
}

pub(super) struct Scalar;

impl Way for Scalar {
    #[inline(always)]
    unsafe fn equal(line: &KeyLine, word: u64) -> u32 {
        line.words.iter().enumerate().map(|(i, own)| u32::from(own.load(Relaxed) == word) << i).sum()
    }

    #[inline(always)]
    unsafe fn equal_from<const FROM: u32>(line: &KeyLine, word: u64) -> u32 {
        let same = |own: &AtomicU64| (own.load(Relaxed) ^ word) >> FROM == 0;
        line.words.iter().enumerate().map(|(i, own)| u32::from(same(own)) << i).sum()
    }
}

// The vector loads are written in assembly because Rust has no atomic load of this width: to the language each
// block is eight relaxed loads, which is what the processor does (aligned words of a vector load do not tear).

#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
pub(super) use vector::{Avx2, Avx512};

#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
mod vector {
    use super::{KeyLine, Way};
    use core::arch::asm;

    pub(in super::super) struct Avx2;

    impl Way for Avx2 {
        #[inline(always)]
        unsafe fn equal(line: &KeyLine, word: u64) -> u32 {
            let (low, high): (u32, u32);
            // SAFETY: reads the 64 bytes that `line` borrows and nothing else; the caller has AVX2.
            unsafe {
                asm!(
                    "vmovq xmm0, {word}",
                    "vpbroadcastq ymm0, xmm0",
                    "vpcmpeqq ymm1, ymm0, [{line}]",
                    "vpcmpeqq ymm0, ymm0, [{line} + 32]",
                    "vmovmskpd {low:e}, ymm1",
                    "vmovmskpd {high:e}, ymm0",
                    word = in(reg) word,
                    line = in(reg) line,
                    low = lateout(reg) low,
                    high = lateout(reg) high,
                    out("ymm0") _,
                    out("ymm1") _,
                    options(readonly, nostack, preserves_flags),
                );
            }
            low | high << 4
        }

        #[inline(always)]
        unsafe fn equal_from<const FROM: u32>(line: &KeyLine, word: u64) -> u32 {
            let (low, high): (u32, u32);
            // SAFETY: reads the 64 bytes that `line` borrows and nothing else; the caller has AVX2.
            unsafe {
                asm!(
                    "vmovq xmm0, {word}",
                    "vpbroadcastq ymm0, xmm0",
                    "vmovdqa ymm1, [{line}]",
                    "vmovdqa ymm2, [{line} + 32]",
                    "vpsrlq ymm1, ymm1, {from}",
                    "vpsrlq ymm2, ymm2, {from}",
                    "vpcmpeqq ymm1, ymm1, ymm0",
                    "vpcmpeqq ymm2, ymm2, ymm0",
                    "vmovmskpd {low:e}, ymm1",
                    "vmovmskpd {high:e}, ymm2",
                    word = in(reg) word >> FROM,
                    line = in(reg) line,
                    from = const FROM,
                    low = lateout(reg) low,
                    high = lateout(reg) high,
                    out("ymm0") _,
                    out("ymm1") _,
                    out("ymm2") _,
                    options(readonly, nostack, preserves_flags),
                );
            }
            low | high << 4
        }
    }

    pub(in super::super) struct Avx512;

    impl Way for Avx512 {
        #[inline(always)]
        unsafe fn equal(line: &KeyLine, word: u64) -> u32 {
            let mask: u32;
            // SAFETY: reads the 64 bytes that `line` borrows and nothing else; the caller has AVX-512F.
            unsafe {
                asm!(
                    "vpbroadcastq zmm16, {word}",
                    "vpcmpeqq k1, zmm16, [{line}]",
                    "kmovw {mask:e}, k1",
                    word = in(reg) word,
                    line = in(reg) line,
                    mask = lateout(reg) mask,
                    out("zmm16") _,
                    out("k1") _,
                    options(readonly, nostack, preserves_flags),
                );
            }
            mask
        }

        #[inline(always)]
        unsafe fn equal_from<const FROM: u32>(line: &KeyLine, word: u64) -> u32 {
            let mask: u32;
            // SAFETY: reads the 64 bytes that `line` borrows and nothing else; the caller has AVX-512F.
            unsafe {
                asm!(
                    "vpbroadcastq zmm16, {word}",
                    "vpsrlq zmm17, [{line}], {from}",
                    "vpcmpeqq k1, zmm16, zmm17",
                    "kmovw {mask:e}, k1",
                    word = in(reg) word >> FROM,
                    line = in(reg) line,
                    from = const FROM,
                    mask = lateout(reg) mask,
                    out("zmm16") _,
                    out("zmm17") _,
                    out("k1") _,
                    options(readonly, nostack, preserves_flags),
                );
            }
            mask
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_way_finds_the_same_words() {
        fn check<W: Way>() {
            let line = KeyLine::default();
            for (way, word) in line.words.iter().enumerate() {
                word.store(0xabc0_0000_0000_0000 | ((way as u64 % 3) << 40) | way as u64, Relaxed);
            }
            for (word, equal, from_40) in [
                (0xabc0_0000_0000_0000, 0b0000_0001, 0b0100_1001),
                (0xabc0_0100_0000_0004, 0b0001_0000, 0b1001_0010),
                (0xabc0_0200_0000_00ff, 0, 0b0010_0100),
                (0x2bc0_0100_0000_0004, 0, 0),
            ] {
                // SAFETY: only called for what the processor has.
                let found = unsafe { (W::equal(&line, word), W::equal_from::<40>(&line, word)) };
                assert_eq!(found, (equal, from_40), "{word:x}");
            }
        }
        check::<Scalar>();
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if Compare::Avx2.is_available() {
                check::<Avx2>();
            }
            if Compare::Avx512.is_available() {
                check::<Avx512>();
            }
        }
    }
}
