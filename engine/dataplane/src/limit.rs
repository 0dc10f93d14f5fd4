//! Rate limits of workers: token buckets in whole numbers.

use crate::counters::PerWorker;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::sync::Arc;

/// How many ICMP errors an interface, or an uplink, is worth to each worker (RFC 4443, 2.4 (f); RFC 1812, 4.3.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpLimit {
    /// Errors per second, in the long run.
    pub rate: u32,
    /// Errors at once, after a pause.
    pub burst: u32,
}

impl Default for IcmpLimit {
    /// 1,000 per second and 100 at once: as many as many `traceroute`s and path MTU discoveries want together, and
    /// less than a thousandth of what a worker carries.
    fn default() -> Self {
        Self { rate: 1000, burst: 100 }
    }
}

impl IcmpLimit {
    /// A full bucket for each of `workers` workers.
    #[must_use]
    pub fn buckets(self, workers: usize) -> Arc<PerWorker<TokenBucket>> {
        Arc::new(PerWorker::from_fn(workers, || TokenBucket::new(self)))
    }
}

/// How often something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Times per second, in the long run.
    pub rate: u32,
    /// Times at once, after a pause.
    pub burst: u32,
}

/// Billionths of a token in a token: a rate per second is as many of them per nanosecond.
const TOKEN: u64 = 1_000_000_000;

/// A token bucket with one writer, its worker, which therefore needs neither locks nor atomic read-modify-write.
///
/// It counts in billionths of a token and nanoseconds, so no rate is rounded and no error adds up.
#[derive(Debug)]
#[repr(align(64))]
pub struct TokenBucket {
    limit: Rate,
    /// Billionths of tokens that are there, as of `filled_at`.
    level: AtomicU64,
    /// When tokens were last added, in nanoseconds of the worker's clock.
    filled_at: AtomicU64,
}

impl TokenBucket {
    /// A full bucket for ICMP errors.
    #[must_use]
    pub const fn new(IcmpLimit { rate, burst }: IcmpLimit) -> Self {
        Self::of(Rate { rate, burst })
    }

    /// A full bucket.
    #[must_use]
    pub const fn of(limit: Rate) -> Self {
        let level = AtomicU64::new(limit.burst as u64 * TOKEN);
        Self { limit, level, filled_at: AtomicU64::new(0) }
    }

    /// Takes a token, if there is one. `now` is of one clock; time in which it stands still brings no tokens, nor does
    /// a jump back, from where it goes on. Only the owning worker may call this.
    #[must_use]
    pub fn take(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let passed = now.saturating_sub(self.filled_at.load(Relaxed));
        self.filled_at.store(now, Relaxed);
        let more = passed.saturating_mul(self.limit.rate.into());
        let full = u64::from(self.limit.burst) * TOKEN;
        let level = self.level.load(Relaxed).saturating_add(more).min(full);
        let left = level.checked_sub(TOKEN);
        self.level.store(left.unwrap_or(level), Relaxed);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(rate: u32, burst: u32) -> TokenBucket {
        TokenBucket::new(IcmpLimit { rate, burst })
    }

    fn taken(bucket: &TokenBucket, now: Duration, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(bucket.take(now))).sum()
    }

    #[test]
    fn burst_is_there_at_once_and_nothing_more_while_time_stands_still() {
        let bucket = bucket(10, 5);
        let now = Duration::from_secs(1000);
        assert_eq!(taken(&bucket, now, 100), 5);
        assert_eq!(taken(&bucket, now, 100), 0);
        assert_eq!(taken(&bucket, now + Duration::from_millis(99), 100), 0);
        assert_eq!(taken(&bucket, now + Duration::from_millis(100), 100), 1);
    }

    #[test]
    fn rate_is_exact_however_often_the_bucket_is_asked() {
        // A third of a second and a seventh of one are no whole numbers of nanoseconds.
        for (rate, step) in [(3, 1), (7, 13), (1_000, 999_983), (999_999_937, 7)] {
            let bucket = bucket(rate, 10);
            let start = Duration::from_secs(5);
            assert_eq!(taken(&bucket, start, 20), 10);
            let steps = 100_000u64;
            let sum: u32 =
                (1..=steps).map(|n| taken(&bucket, start + Duration::from_nanos(n * step), 20)).sum();
            let expected = u128::from(rate) * u128::from(steps * step) / u128::from(TOKEN);
            assert_eq!(u128::from(sum), expected, "{rate} per second, asked every {step} ns");
        }
    }

    #[test]
    fn jump_forward_fills_the_bucket_and_no_more() {
        for (rate, burst) in [(1, 3), (u32::MAX, 3), (1, 1)] {
            let bucket = bucket(rate, burst);
            assert_eq!(taken(&bucket, Duration::ZERO, 10), burst);
            assert_eq!(taken(&bucket, Duration::MAX, 10), burst);
        }
        // The product of rate and time is 2^64.
        let wide = bucket(1 << 31, 3);
        assert_eq!(taken(&wide, Duration::ZERO, 10), 3);
        assert_eq!(taken(&wide, Duration::from_nanos(1 << 33), 10), 3);
        let most = bucket(u32::MAX, u32::MAX);
        assert_eq!(taken(&most, Duration::MAX, 1000), 1000);
    }

    #[test]
    fn jump_back_brings_nothing_and_silences_nothing() {
        let bucket = bucket(10, 1);
        assert!(bucket.take(Duration::from_secs(1_000_000)));
        assert!(!bucket.take(Duration::from_secs(5)));
        assert!(bucket.take(Duration::from_millis(5_100)));
    }

    #[test]
    fn nothing_passes_a_limit_of_nothing() {
        assert_eq!(taken(&bucket(1_000, 0), Duration::from_secs(10), 10), 0);
        let once = bucket(0, 2);
        assert_eq!(taken(&once, Duration::from_secs(10), 10), 2);
        assert_eq!(taken(&once, Duration::from_secs(1_000_000), 10), 0);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_since(
            rate: u32, burst in 0u32..64, moves in prop::collection::vec((0u64..1 << 40, 0u32..8), 0..64),
        ) {
            let bucket = bucket(rate, burst);
            let (mut now, mut sum) = (0u64, 0u64);
            for (step, tries) in moves {
                now += step;
                sum += u64::from(taken(&bucket, Duration::from_nanos(now), tries));
            }
            let most = u128::from(burst) + u128::from(rate) * u128::from(now) / u128::from(TOKEN);
            prop_assert!(u128::from(sum) <= most);
        }
    }
}
