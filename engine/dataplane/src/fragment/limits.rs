//! How much of fragmented traffic a worker remembers.

use crate::id::OutOfRange;
use core::ops::RangeInclusive;
use core::time::Duration;

/// How many datagrams a worker follows, how many fragments it keeps back, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    pub(super) datagrams: usize,
    pub(super) held: usize,
    pub(super) timeout: Duration,
}

impl FragmentLimits {
    /// How many datagrams may be followed.
    pub const DATAGRAMS: RangeInclusive<usize> = 64..=1 << 20;
    /// How many fragments may be kept back.
    pub const HELD: RangeInclusive<usize> = 1..=1 << 16;
    /// For how long; RFC 8200, 4.5 gives a receiver 60 s.
    pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);

    /// Checks and wraps the limits of one worker: `datagrams` in fragments that it follows at once, 64 to 1,048,576;
    /// fragments that it keeps back until their first one comes, `held`, 1 to 65,536 (each is a packet buffer); and
    /// for how long it does both, `timeout`, 10 ms to 60 s.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub const fn new(datagrams: usize, held: usize, timeout: Duration) -> Result<Self, OutOfRange> {
        if datagrams < *Self::DATAGRAMS.start() || datagrams > *Self::DATAGRAMS.end() {
            let given = datagrams as u64;
            return Err(OutOfRange { field: "datagrams in fragments", legal: "64 to 1048576", given });
        }
        if held < *Self::HELD.start() || held > *Self::HELD.end() {
            return Err(OutOfRange { field: "fragments held", legal: "1 to 65536", given: held as u64 });
        }
        let given = timeout.as_millis();
        if given < Self::TIMEOUT.start().as_millis() || given > Self::TIMEOUT.end().as_millis() {
            let (field, legal) = ("fragment timeout", "10 to 60000 milliseconds");
            return Err(OutOfRange { field, legal, given: given as u64 });
        }
        Ok(Self { datagrams, held, timeout })
    }

    /// How many datagrams in fragments a worker follows.
    #[must_use]
    pub const fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// How many fragments a worker keeps back: packet buffers that it has no other use of.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// For how long.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Default for FragmentLimits {
    /// 4,096 datagrams, 256 fragments, 2 seconds.
    fn default() -> Self {
        Self { datagrams: 4096, held: 256, timeout: Duration::from_secs(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_out_of_range_are_refused_by_name() {
        let new = |datagrams, held, millis| {
            FragmentLimits::new(datagrams, held, Duration::from_millis(millis)).map_err(|error| error.field)
        };
        assert_eq!(new(4096, 256, 2000), Ok(FragmentLimits::default()));
        assert!(new(64, 1, 10).is_ok() && new(1 << 20, 1 << 16, 60_000).is_ok());
        for datagrams in [0, 63, (1 << 20) + 1] {
            assert_eq!(new(datagrams, 256, 2000), Err("datagrams in fragments"));
        }
        for held in [0, (1 << 16) + 1] {
            assert_eq!(new(4096, held, 2000), Err("fragments held"));
        }
        for millis in [0, 9, 60_001] {
            assert_eq!(new(4096, 256, millis), Err("fragment timeout"));
        }
    }
}
