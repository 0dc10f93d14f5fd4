//! How many flows of stateful vnets are known, and for how long: `[flows]`.

use core::ops::RangeInclusive;
use core::time::Duration;
use overlane_api::config::{FileError, Source, Text, Value};
use overlane_dataplane::table::flow::{FlowLimits, Tick, Timeouts};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flows {
    capacity: Value<usize>,
    per_node: Value<usize>,
    tcp_half_open: Text,
    tcp_established: Text,
    tcp_closing: Text,
    udp: Text,
    icmp: Text,
    other: Text,
}

/// For how long a flow may be remembered; a day is what the longest-lived connections send keep-alives in.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

impl Flows {
    pub(super) fn check(&self, source: &Source) -> Result<FlowLimits, FileError> {
        let default = FlowLimits::default();
        let capacity = source.number(&self.capacity, " flows", &FlowLimits::CAPACITY)?;
        let ticks = |value: &Text, default: u32| {
            let given = source.duration(value, &TIMEOUT)?;
            // A day is far below 32 bits of ticks.
            Ok(given.map_or(default, |given| Tick::at(given).0 as u32))
        };
        let usual = default.timeouts();
        let timeouts = Timeouts {
            tcp_half_open: ticks(&self.tcp_half_open, usual.tcp_half_open)?,
            tcp_established: ticks(&self.tcp_established, usual.tcp_established)?,
            tcp_closing: ticks(&self.tcp_closing, usual.tcp_closing)?,
            udp: ticks(&self.udp, usual.udp)?,
            icmp: ticks(&self.icmp, usual.icmp)?,
            other: ticks(&self.other, usual.other)?,
        };
        let limits = FlowLimits::new(capacity.unwrap_or(default.capacity()), timeouts)
            .map_err(|error| source.missing("[flows]", error.to_string()))?;
        let legal = 1..=*FlowLimits::CAPACITY.end();
        match source.number(&self.per_node, " flows", &legal)? {
            Some(flows) => {
                limits.with_per_node(flows).map_err(|error| source.missing("[flows]", error.to_string()))
            }
            None => Ok(limits),
        }
    }
}
