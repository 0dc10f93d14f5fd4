//! Refusals in number: how often an address may fail, and how often that is logged.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How many addresses are remembered; 64 bytes or so each.
const ADDRESSES: usize = 4096;
/// How many failures an address has at once.
const BURST: u32 = 20;
/// After how long it has one more.
const REFILL: Duration = Duration::from_secs(3);
/// How often refusals are logged.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// Failed authentications by source address, in bounded memory. IPv6 addresses count by their /64, which is what one
/// machine can have all of.
pub struct Failures {
    /// When each address will have all its failures again: further away with each one.
    until: Mutex<HashMap<IpAddr, Instant>>,
}

impl Default for Failures {
    fn default() -> Self {
        Self { until: Mutex::new(HashMap::new()) }
    }
}

fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

impl Failures {
    /// Whether an address has failed too often; for how long it has to wait.
    pub fn barred(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let until = *self.until.lock().get(&counted(address))?;
        let owed = until.saturating_duration_since(now);
        let allowed = REFILL * (BURST - 1);
        (owed > allowed).then(|| owed - allowed)
    }

    /// An address has failed once more.
    pub fn note(&self, address: IpAddr, now: Instant) {
        let mut all = self.until.lock();
        let address = counted(address);
        if !all.contains_key(&address) && all.len() >= ADDRESSES {
            all.retain(|_, until| *until > now);
            // Whoever has least to answer for makes room: a flood from many addresses forgets itself first.
            let least = all.iter().min_by_key(|(_, until)| **until).map(|(address, _)| *address);
            if let (true, Some(least)) = (all.len() >= ADDRESSES, least) {
                all.remove(&least);
            }
        }
        let until = all.entry(address).or_insert(now);
        *until = (*until).max(now) + REFILL;
    }
}

/// Lets a warning pass once in a while, and counts those between.
#[derive(Default)]
pub struct Warnings {
    last: Mutex<(Option<Instant>, u64)>,
}

impl Warnings {
    /// Whether to warn now; if so, of how many more that nobody was told of.
    pub fn due(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock();
        if last.0.is_some_and(|then| now.saturating_duration_since(then) < WARN_EVERY) {
            last.1 += 1;
            return None;
        }
        let suppressed = last.1;
        *last = (Some(now), 0);
        Some(suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_fails_so_often_then_waits_and_others_do_not() {
        let (failures, mut now) = (Failures::default(), Instant::now());
        let (one, same, other): (IpAddr, IpAddr, IpAddr) =
            ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), "10.0.0.1".parse().unwrap());
        for _ in 0..BURST {
            assert_eq!(failures.barred(one, now), None);
            failures.note(one, now);
        }
        let wait = failures.barred(same, now).unwrap();
        assert_eq!((wait, failures.barred(other, now)), (REFILL, None));
        now += wait;
        assert_eq!(failures.barred(one, now), None);
        failures.note(one, now);
        assert!(failures.barred(one, now).is_some(), "one more, and no more");
    }

    #[test]
    fn however_many_addresses_fail_memory_is_bounded_and_the_worst_is_remembered() {
        let (failures, now) = (Failures::default(), Instant::now());
        let worst: IpAddr = "10.255.255.255".parse().unwrap();
        (0..BURST).for_each(|_| failures.note(worst, now));
        for number in 0..2 * ADDRESSES as u32 {
            failures.note(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), now);
        }
        assert_eq!(failures.until.lock().len(), ADDRESSES);
        assert!(failures.barred(worst, now).is_some());
    }

    #[test]
    fn warnings_are_counted_while_they_are_not_told() {
        let (warnings, now) = (Warnings::default(), Instant::now());
        assert_eq!(warnings.due(now), Some(0));
        assert_eq!((warnings.due(now), warnings.due(now)), (None, None));
        assert_eq!(warnings.due(now + WARN_EVERY), Some(2));
    }
}
