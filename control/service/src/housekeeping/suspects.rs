//! What seems wrong, and since when: something may be on its way, and what goes on is not told with every look.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often what goes on is told: often enough to be the same event.
const AGAIN: Duration = Duration::from_secs(10 * 60);
/// The most that are remembered; what is found beyond is told when others are over.
const MOST: usize = 10_000;

#[derive(Debug)]
struct Suspect {
    since: Instant,
    told: Option<Instant>,
    seen: u64,
}

/// Everything that seems wrong.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    found: HashMap<(&'static str, String), Suspect>,
    /// Counts looks over a whole table, for each reason that is found there.
    round: HashMap<&'static str, u64>,
}

impl Suspects {
    /// Notes that something is wrong now; whether it is to be told: it has been wrong for `wait`, and was not told lately.
    pub(super) fn is_due(
        &mut self,
        reason: &'static str,
        subject: &str,
        now: Instant,
        wait: Duration,
    ) -> bool {
        let seen = self.round.get(reason).copied().unwrap_or(0);
        let key = (reason, subject.to_owned());
        if self.found.len() >= MOST && !self.found.contains_key(&key) {
            return false;
        }
        let suspect = self.found.entry(key).or_insert(Suspect { since: now, told: None, seen });
        suspect.seen = seen;
        let waited = now.saturating_duration_since(suspect.since) >= wait;
        let due = waited && suspect.told.is_none_or(|told| now.saturating_duration_since(told) >= AGAIN);
        if due {
            suspect.told = Some(now);
        }
        due
    }

    /// Everything has been looked at in which `reason` is found: what was not found this time is over.
    pub(super) fn end_of_round(&mut self, reason: &'static str) {
        let round = self.round.entry(reason).or_default();
        self.found.retain(|(of, _), suspect| *of != reason || suspect.seen == *round);
        *round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_wrong_for_long_enough_is_told_and_again_only_after_a_while() {
        let (mut suspects, begin) = (Suspects::default(), Instant::now());
        let mut due = |after: u64| {
            let due = suspects.is_due("a", "x", begin + Duration::from_secs(after), WAIT);
            suspects.end_of_round("a");
            due
        };
        assert_eq!([0, 59, 60, 90, 659, 660].map(&mut due), [false, false, true, false, false, true]);
    }

    #[test]
    fn what_was_over_meanwhile_begins_anew() {
        let (mut suspects, begin) = (Suspects::default(), Instant::now());
        assert!(!suspects.is_due("a", "x", begin, WAIT));
        suspects.end_of_round("a");
        // Another reason's round is none of this one's.
        suspects.end_of_round("b");
        assert!(suspects.is_due("a", "x", begin + WAIT, WAIT));
        suspects.end_of_round("a");
        suspects.end_of_round("a");
        assert!(suspects.found.is_empty());
        assert!(!suspects.is_due("a", "x", begin + 2 * WAIT, WAIT));
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        let told = (0..MOST + 9).filter(|n| suspects.is_due("a", &n.to_string(), now, Duration::ZERO));
        assert_eq!(told.count(), MOST);
        assert_eq!(suspects.found.len(), MOST);
    }
}
