//! How many questions each prefix of the substrate may cause.

use crate::limit::{Rate, TokenBucket};
use crate::table::mapping::Hasher;
use core::net::Ipv6Addr;
use core::time::Duration;

/// Prefixes share this many limits; which ones share one nobody outside can tell.
const LIMITS: usize = 256;

/// The limits of all prefixes.
pub(super) struct Prefixes {
    hasher: Hasher,
    buckets: Box<[TokenBucket]>,
}

impl Prefixes {
    pub(super) fn new(rate: Rate, seed: [u64; 2]) -> Self {
        let buckets = (0..LIMITS).map(|_| TokenBucket::of(rate)).collect();
        Self { hasher: Hasher::new(seed), buckets }
    }

    /// Whether one more question may be asked about an address on the substrate.
    pub(super) fn allow(&self, source: Ipv6Addr, now: Duration) -> bool {
        // Hosts' prefixes have 64 bits at least; those of 72 are told apart by the first 64 only.
        let place = self.hasher.hash((source.to_bits() >> 64) as u64) >> (u64::BITS - LIMITS.ilog2());
        self.buckets.get(place as usize).is_some_and(|bucket| bucket.take(now))
    }
}
