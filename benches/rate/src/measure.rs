//! Rounds: each measures both sides, one directly after the other, and gives one ratio.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a thread has forwarded, and the CPU time that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) packets: u64,
    pub(crate) cpu: Duration,
}

/// What every forwarding thread of one side has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) shares: Vec<Share>,
    /// The engine's workers also count what went on what.
    pub(crate) parts: Option<Parts>,
}

/// What the engine's workers counted, all together, in cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// Receiving, and the stamp.
    pub(crate) receive: u64,
    pub(crate) classify: u64,
    pub(crate) authorise: u64,
    pub(crate) translate: u64,
    pub(crate) send: u64,
    /// Everything.
    pub(crate) turns: u64,
}

impl Parts {
    /// Each of these, and of others, as `f` says.
    pub(crate) fn with(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            receive: f(self.receive, other.receive),
            classify: f(self.classify, other.classify),
            authorise: f(self.authorise, other.authorise),
            translate: f(self.translate, other.translate),
            send: f(self.send, other.send),
            turns: f(self.turns, other.turns),
        }
    }
}

impl Reading {
    /// Packets per second of CPU time, of all threads together: as if none had had to share its core.
    pub(crate) fn rate(&self) -> f64 {
        self.shares.iter().map(|share| share.packets as f64 / share.cpu.as_secs_f64()).sum()
    }
}

/// A side of a comparison.
pub(crate) trait Side {
    /// Forwards for `time`, and says what came of it.
    fn measure(&mut self, time: Duration) -> anyhow::Result<Reading>;
}

/// The middle of some numbers, and the outermost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without numbers.
    pub(crate) fn of(numbers: &[f64]) -> Option<Self> {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (upper, lower) = (sorted.get(sorted.len() / 2)?, sorted.get((sorted.len() - 1) / 2)?);
        Some(Self { median: (upper + lower) / 2.0, min: *sorted.first()?, max: *sorted.last()? })
    }
}

/// What came of all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// Packets per second of CPU time of what the row is about.
    pub(crate) rate: Spread,
    /// The same of what it is compared with.
    pub(crate) baseline_rate: Spread,
    /// The one over the other, of each round.
    pub(crate) ratio: Spread,
    /// What the engine's workers counted in all rounds, if it is about them.
    pub(crate) parts: Option<Parts>,
}

/// Measures in `rounds` rounds of `time` for each side. `go_on` is asked before each.
pub(crate) fn compare(
    contender: &mut dyn Side,
    baseline: &mut dyn Side,
    rounds: usize,
    time: Duration,
    go_on: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<Comparison> {
    let (mut rates, mut baseline_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut parts: Option<Parts> = None;
    for _ in 0..rounds {
        go_on()?;
        let beside = baseline.measure(time)?.rate();
        let reading = contender.measure(time)?;
        let rate = reading.rate();
        parts = reading.parts.map(|more| parts.unwrap_or_default().with(more, u64::saturating_add));
        rates.push(rate);
        baseline_rates.push(beside);
        ratios.push(rate / beside);
    }
    let spread = |numbers: &[f64]| Spread::of(numbers).ok_or_else(|| anyhow::anyhow!("there was no round"));
    let (rate, baseline_rate, ratio) = (spread(&rates)?, spread(&baseline_rates)?, spread(&ratios)?);
    Ok(Comparison { rate, baseline_rate, ratio, parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Vec<u64>);

    impl Side for Fixed {
        fn measure(&mut self, cpu: Duration) -> anyhow::Result<Reading> {
            let parts = Some(Parts { turns: 10, send: 3, ..Parts::default() });
            Ok(Reading { shares: vec![Share { packets: self.0.remove(0), cpu }], parts })
        }
    }

    #[test]
    fn median_of_ratios_is_of_rounds_and_not_of_rates() {
        // A machine that is half as fast in the second round changes no ratio.
        let (mut one, mut two) = (Fixed(vec![40, 20, 44]), Fixed(vec![100, 50, 100]));
        let compared = compare(&mut one, &mut two, 3, Duration::from_secs(2), || Ok(())).unwrap();
        assert_eq!(compared.ratio, Spread { median: 0.4, min: 0.4, max: 0.44 });
        assert_eq!(compared.rate, Spread { median: 20.0, min: 10.0, max: 22.0 });
        assert_eq!(compared.baseline_rate.median, 50.0);
        let parts = compared.parts.unwrap();
        assert_eq!((parts.turns, parts.send, parts.receive), (30, 9, 0), "of all rounds");
    }

    #[test]
    fn even_number_of_rounds_has_the_mean_of_the_middle_two_for_median() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0, 10.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn rate_of_threads_is_the_sum_of_theirs() {
        let share = |packets, seconds| Share { packets, cpu: Duration::from_secs(seconds) };
        assert_eq!(Reading { shares: vec![share(10, 1), share(10, 2)], parts: None }.rate(), 15.0);
    }
}
