//! Mappings that are resolved on demand: `[resolve]`.

use core::ops::RangeInclusive;
use core::time::Duration;
use overlane_api::config::{FileError, Source, Text, Value};
use overlane_dataplane::limit::Rate;
use overlane_dataplane::resolve::ResolveLimits;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolve {
    expiry: Text,
    refusal_expiry: Text,
    hold: Text,
    rate: Value<u32>,
    burst: Value<u32>,
    prefix_rate: Value<u32>,
    prefix_burst: Value<u32>,
    refused: Text,
}

/// Default of `expiry`: short enough to forget what is not used, long enough to ask seldom.
const EXPIRY: Duration = Duration::from_secs(600);
const EXPIRY_LEGAL: RangeInclusive<Duration> = Duration::from_secs(4)..=Duration::from_secs(24 * 3600);
const REFUSAL_LEGAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const HOLD_LEGAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10);
const RATE_LEGAL: RangeInclusive<u32> = 1..=100_000;

impl Resolve {
    /// The limits, and for how long mappings are held.
    pub(super) fn check(&self, source: &Source) -> Result<(ResolveLimits, Duration), FileError> {
        let usual = ResolveLimits::default();
        let rate = |rate, burst, usual: Rate| -> Result<Rate, FileError> {
            Ok(Rate {
                rate: source.number(rate, " questions per second", &RATE_LEGAL)?.unwrap_or(usual.rate),
                burst: source.number(burst, " questions", &RATE_LEGAL)?.unwrap_or(usual.burst),
            })
        };
        let tell_refused = source.optional(&self.refused, "drop or prohibited", |text| match text {
            "drop" => Some(false),
            "prohibited" => Some(true),
            _ => None,
        })?;
        let limits = ResolveLimits {
            hold: source.duration(&self.hold, &HOLD_LEGAL)?.unwrap_or(usual.hold),
            refusal: source.duration(&self.refusal_expiry, &REFUSAL_LEGAL)?.unwrap_or(usual.refusal),
            interface: rate(&self.rate, &self.burst, usual.interface)?,
            prefix: rate(&self.prefix_rate, &self.prefix_burst, usual.prefix)?,
            tell_refused: tell_refused.unwrap_or(usual.tell_refused),
        };
        Ok((limits, source.duration(&self.expiry, &EXPIRY_LEGAL)?.unwrap_or(EXPIRY)))
    }
}
