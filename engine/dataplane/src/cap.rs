//! What a node may send: so many packets and bits a second, whichever workers take them.
//!
//! A cap is a leaky bucket of the kind that keeps no level but the moment at which it would be empty (GCRA, ITU-T I.371): one
//! word, which workers share, changed once for each burst. There are two, one for packets and one for bits, and a packet passes
//! if both let it.

use crate::counters::Drops;
use crate::drop::DropReason;
use crate::illegal::Illegal;
use crate::packet::{Packet, Segmentation};
use crate::pipeline::BURST;
use arrayvec::ArrayVec;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;

/// How much a node may send; `None`: as much as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimit {
    /// Packets per second. A packet that is to be cut into segments counts as so many.
    pub packets_per_second: Option<u32>,
    /// Bits per second of frames without FCS.
    pub bits_per_second: Option<u64>,
}

impl RateLimit {
    /// The legal numbers of packets per second.
    pub const PACKETS: RangeInclusive<u32> = 1..=100_000_000;
    /// The legal numbers of bits per second: from 8 kbit/s to 400 Gbit/s.
    pub const BITS: RangeInclusive<u64> = 8_000..=400_000_000_000;

    /// Checks what provisioning says.
    ///
    /// # Errors
    /// [`Illegal`] naming the field.
    pub fn check(&self) -> Result<(), Illegal> {
        if let Some(rate) = self.packets_per_second.filter(|rate| !Self::PACKETS.contains(rate)) {
            let legal = format!("{} to {}", Self::PACKETS.start(), Self::PACKETS.end());
            return Err(Illegal::new("packets_per_second", legal, rate.to_string()));
        }
        if let Some(rate) = self.bits_per_second.filter(|rate| !Self::BITS.contains(rate)) {
            let legal = format!("{} to {}", Self::BITS.start(), Self::BITS.end());
            return Err(Illegal::new("bits_per_second", legal, rate.to_string()));
        }
        Ok(())
    }

    /// The stricter of two in each respect.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            packets_per_second: [self.packets_per_second, other.packets_per_second]
                .into_iter()
                .flatten()
                .min(),
            bits_per_second: [self.bits_per_second, other.bits_per_second].into_iter().flatten().min(),
        }
    }

    /// Whether it limits anything.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.packets_per_second.is_none() && self.bits_per_second.is_none()
    }
}

/// Ticks in a nanosecond: a word of them lasts for nine years.
const TICKS: u64 = 64;
const SECOND: u64 = 1_000_000_000 * TICKS;
/// How much may come at once after a pause: what may come in a tenth of a second, but never less than a burst.
const AT_ONCE: u64 = SECOND / 10;
const LEAST_PACKETS: u64 = BURST as u64;
const LEAST_BYTES: u64 = 1 << 17;

/// The cap of an interface.
#[derive(Debug)]
pub struct Cap {
    limit: RateLimit,
    packets: Bucket,
    bytes: Bucket,
}

/// One of its two buckets.
#[derive(Debug)]
struct Bucket {
    /// Ticks that a unit takes, in units of 2^-20.
    cost: u64,
    /// How far it may be ahead of the time, in ticks.
    tolerance: u64,
    /// When it is empty, in ticks.
    empty_at: AtomicU64,
}

const FRACTION: u32 = 20;

impl Bucket {
    /// Units per second, of which `least` may always come at once; without a rate everything passes.
    fn new(rate: Option<u64>, least: u64) -> Self {
        let cost = rate.map_or(0, |rate| (u128::from(SECOND) << FRACTION) / u128::from(rate.max(1)));
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let mut bucket = Self { cost, tolerance: 0, empty_at: AtomicU64::new(0) };
        bucket.tolerance = AT_ONCE.max(bucket.ticks(least));
        bucket
    }

    fn ticks(&self, units: u64) -> u64 {
        u64::try_from((u128::from(self.cost) * u128::from(units)) >> FRACTION).unwrap_or(u64::MAX)
    }

    /// How many units may pass now.
    fn room(&self, now: u64) -> u64 {
        let ahead = self.empty_at.load(Relaxed).saturating_sub(now);
        let left = u128::from(self.tolerance.saturating_sub(ahead)) << FRACTION;
        let room = left.checked_div(self.cost.into());
        room.map_or(u64::MAX, |room| u64::try_from(room).unwrap_or(u64::MAX))
    }

    /// Notes what has passed.
    fn take(&self, now: u64, units: u64) {
        let ticks = self.ticks(units);
        if ticks == 0 {
            return;
        }
        let later = |empty_at: u64| Some(empty_at.max(now).saturating_add(ticks));
        // It never says no.
        let _ = self.empty_at.fetch_update(Relaxed, Relaxed, later);
    }
}

impl Cap {
    /// An empty one.
    #[must_use]
    pub fn new(limit: RateLimit) -> Self {
        let packets = Bucket::new(limit.packets_per_second.map(u64::from), LEAST_PACKETS);
        let bytes = Bucket::new(limit.bits_per_second.map(|bits| bits / 8), LEAST_BYTES);
        Self { limit, packets, bytes }
    }

    /// What it was made of.
    #[must_use]
    pub const fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Drops those packets of a burst that are more than may pass now; the others keep their order.
    ///
    /// A packet passes as long as there is any room, however large it is, and what it takes beyond that is paid for
    /// afterwards: so a packet of more segments than may come at once passes in its turn.
    pub(crate) fn police<P: Packet>(&self, now: Duration, burst: &mut ArrayVec<P, BURST>, drops: &Drops) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).saturating_mul(TICKS);
        let (room, room_bytes) = (self.packets.room(now), self.bytes.room(now));
        let (mut packets, mut bytes) = (0, 0);
        burst.retain(|packet| {
            let passes = packets < room && bytes < room_bytes;
            if passes {
                let length = packet.len() as u64;
                let segments = |cut: Segmentation| length.div_ceil(u64::from(cut.size.max(1)));
                packets += packet.offload().segmentation.map_or(1, segments);
                bytes += length;
            } else {
                drops.count(DropReason::RateExceeded);
            }
            passes
        });
        self.packets.take(now, packets);
        self.bytes.take(now, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{HeapOptions, HeapPacket, HeapPool};
    use crate::packet::{Offload, Segmentation, SegmentationKind};
    use proptest::prelude::*;

    fn burst(pool: &HeapPool, count: usize, length: usize) -> ArrayVec<HeapPacket, BURST> {
        (0..count).map(|_| pool.packet(&vec![0; length]).unwrap()).collect()
    }

    /// How many of a burst pass at a moment.
    fn passed(cap: &Cap, pool: &HeapPool, now: Duration, count: usize, length: usize) -> usize {
        let mut burst = burst(pool, count, length);
        let drops = Drops::default();
        cap.police(now, &mut burst, &drops);
        assert_eq!(burst.len() + drops.get(DropReason::RateExceeded) as usize, count);
        burst.len()
    }

    fn packets(rate: u32) -> RateLimit {
        RateLimit { packets_per_second: Some(rate), bits_per_second: None }
    }

    fn bits(rate: u64) -> RateLimit {
        RateLimit { packets_per_second: None, bits_per_second: Some(rate) }
    }

    #[test]
    fn who_sends_too_much_gets_what_may_be_and_no_more() {
        let pool = HeapPool::new(HeapOptions::default());
        for (limit, length, expected) in [(packets(1000), 60, 1000.0), (bits(8_000_000), 1000, 1000.0)] {
            let cap = Cap::new(limit);
            let start = Duration::from_secs(5);
            let mut all = 0;
            // Ten times as much as may be, for ten seconds.
            for step in 0..10_000 {
                all += passed(&cap, &pool, start + Duration::from_millis(step), 10, length);
            }
            let most = expected * 10.0 + 240.0;
            assert!((expected * 10.0..=most).contains(&(all as f64)), "{all} of {limit:?}");
        }
    }

    #[test]
    fn who_sends_less_loses_nothing() {
        let pool = HeapPool::new(HeapOptions::default());
        let cap = Cap::new(packets(1000).and(bits(80_000_000)));
        for step in 0..1000 {
            assert_eq!(passed(&cap, &pool, Duration::from_millis(step * 60), 60, 1500), 60);
        }
    }

    #[test]
    fn a_packet_of_many_segments_counts_as_many_and_passes_in_its_turn() {
        let pool = HeapPool::new(HeapOptions::default());
        let cap = Cap::new(packets(100));
        let large = |now: Duration| {
            let mut large = burst(&pool, 3, 60_000);
            for packet in &mut large {
                let kind = SegmentationKind::Tcp { ecn: false };
                let segmentation = Some(Segmentation { kind, size: 600 });
                packet.set_offload(Offload { segmentation, ..Offload::default() });
            }
            cap.police(now, &mut large, &Drops::default());
            large.len()
        };
        // More segments than may come at once, which takes a second to be paid for; then the next one.
        let start = Duration::from_secs(1);
        let passed = [0, 300, 400, 900].map(|later| large(start + Duration::from_millis(later)));
        assert_eq!(passed, [1, 0, 1, 0]);
        let all: usize = (0..100).map(|step| large(start + Duration::from_millis(1000 + step * 100))).sum();
        assert_eq!(all, 10, "one a second, as 100 segments");
    }

    #[test]
    fn the_stricter_of_two_holds_in_each_respect() {
        let one = RateLimit { packets_per_second: Some(5), bits_per_second: Some(90_000) };
        let two = RateLimit { packets_per_second: Some(7), bits_per_second: Some(80_000) };
        let both = RateLimit { packets_per_second: Some(5), bits_per_second: Some(80_000) };
        assert_eq!((one.and(two), two.and(one), one.and(RateLimit::default())), (both, both, one));
        assert!(RateLimit::default().is_none() && !one.is_none());
        assert!(one.check().is_ok());
        assert_eq!(packets(0).check().unwrap_err().field, "packets_per_second");
        let said = bits(7_999).check().unwrap_err().to_string();
        assert_eq!(said, "bits_per_second must be 8000 to 400000000000, not 7999");
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_what_may_come_at_once(
            rate in 1u32..100_000, steps in prop::collection::vec((0u64..50_000_000, 1usize..64), 1..60),
        ) {
            let pool = HeapPool::new(HeapOptions::default());
            let cap = Cap::new(packets(rate));
            let (mut now, mut all) = (0, 0);
            for (step, count) in steps {
                now += step;
                all += passed(&cap, &pool, Duration::from_nanos(now), count, 60) as u64;
            }
            let at_once = (u64::from(rate) / 10).max(LEAST_PACKETS);
            let most = u128::from(rate) * u128::from(now) / 1_000_000_000 + u128::from(at_once) + 2;
            prop_assert!(u128::from(all) <= most, "{all} of {most}");
        }
    }
}
