//! What an interface may ask of each worker for broadcast and multicast: `[groups]`.

use core::ops::RangeInclusive;
use overlane_api::config::{FileError, Source, Value};
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::limit::Rate;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Groups {
    copy_rate: Value<u32>,
    copy_burst: Value<u32>,
    igmp_rate: Value<u32>,
    igmp_burst: Value<u32>,
}

/// More is no limit any more.
const COPIES_LEGAL: RangeInclusive<u32> = 1..=100_000_000;
/// More is more than one control thread can do for many nodes.
const MESSAGES_LEGAL: RangeInclusive<u32> = 1..=1000;

impl Groups {
    pub(super) fn check(&self, source: &Source) -> Result<GroupLimit, FileError> {
        let GroupLimit { copies, messages } = GroupLimit::default();
        let number = |value, unit, legal, usual| -> Result<u32, FileError> {
            Ok(source.number(value, unit, legal)?.unwrap_or(usual))
        };
        Ok(GroupLimit {
            copies: Rate {
                rate: number(&self.copy_rate, " copies per second", &COPIES_LEGAL, copies.rate)?,
                burst: number(&self.copy_burst, " copies", &COPIES_LEGAL, copies.burst)?,
            },
            messages: Rate {
                rate: number(&self.igmp_rate, " messages per second", &MESSAGES_LEGAL, messages.rate)?,
                burst: number(&self.igmp_burst, " messages", &MESSAGES_LEGAL, messages.burst)?,
            },
        })
    }
}
