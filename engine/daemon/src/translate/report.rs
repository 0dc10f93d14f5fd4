//! What became of each packet, and of all together.

use super::output::Output;
use core::fmt;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::translate::Side;
use serde::{Serialize, Serializer};
use std::io::{self, BufWriter, Write};

/// What became of one packet: a line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// Counts the packets that were read, from 1.
    pub(super) index: u64,
    /// The side that it came from; `None`: it is no IP packet.
    #[serde(serialize_with = "side_or_null")]
    pub(super) side: Option<Side>,
    pub(super) verdict: Verdict,
    #[serde(serialize_with = "reason", skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<DropReason>,
    /// Whether an ICMP error was kept back, as there were too many already.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub(super) limited: bool,
    pub(super) outputs: Vec<Leaving>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Translated,
    Answered,
    Dropped,
    Truncated,
}

/// A packet that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Leaving {
    /// Counts the packets that were written, from 1.
    pub(super) index: u64,
    #[serde(serialize_with = "side")]
    pub(super) side: Side,
    pub(super) direction: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    /// To the other side.
    Across,
    /// To where the packet came from.
    Back,
}

const fn name(side: Side) -> &'static str {
    match side {
        Side::Ipv4 => "ipv4",
        Side::Ipv6 => "ipv6",
    }
}

fn side<S: Serializer>(value: &Side, to: S) -> Result<S::Ok, S::Error> {
    name(*value).serialize(to)
}

fn side_or_null<S: Serializer>(value: &Option<Side>, to: S) -> Result<S::Ok, S::Error> {
    value.map(name).serialize(to)
}

fn reason<S: Serializer>(value: &Option<DropReason>, to: S) -> Result<S::Ok, S::Error> {
    value.map(DropReason::name).serialize(to)
}

/// What became of all packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    read: u64,
    written: u64,
    verdicts: [u64; 4],
    limited: u64,
    reasons: [u64; DropReason::COUNT],
}

impl Default for Summary {
    fn default() -> Self {
        Self { read: 0, written: 0, verdicts: [0; 4], limited: 0, reasons: [0; DropReason::COUNT] }
    }
}

impl Summary {
    fn add(&mut self, entry: &Entry) {
        self.read += 1;
        self.written += entry.outputs.len() as u64;
        self.verdicts[entry.verdict as usize] += 1;
        self.limited += u64::from(entry.limited);
        if let Some(reason) = entry.reason {
            self.reasons[reason.index()] += 1;
        }
    }
}

impl fmt::Display for Summary {
    /// In one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [translated, answered, dropped, truncated] = self.verdicts;
        write!(
            f,
            "{} packets read, {} written; translated {translated}, answered {answered}, dropped {dropped}, \
             truncated {truncated}",
            self.read, self.written
        )?;
        let counted = DropReason::ALL.iter().zip(self.reasons).filter(|(_, count)| *count > 0);
        for (index, (reason, count)) in counted.enumerate() {
            write!(f, "{} {} {count}", if index == 0 { "; reasons:" } else { "," }, reason.name())?;
        }
        match self.limited {
            0 => Ok(()),
            limited => write!(f, "; {limited} ICMP errors kept back by [icmp] rate and burst"),
        }
    }
}

/// Takes down what becomes of each packet.
#[derive(Debug)]
pub(super) struct Report {
    lines: Option<BufWriter<Output>>,
    summary: Summary,
}

impl Report {
    /// With a line for each packet.
    pub(super) fn to(lines: BufWriter<Output>) -> Self {
        Self { lines: Some(lines), summary: Summary::default() }
    }

    /// Of sums only.
    pub(super) fn none() -> Self {
        Self { lines: None, summary: Summary::default() }
    }

    pub(super) fn add(&mut self, entry: &Entry) -> io::Result<()> {
        self.summary.add(entry);
        let Some(lines) = &mut self.lines else { return Ok(()) };
        serde_json::to_writer(&mut *lines, entry)?;
        lines.write_all(b"\n")
    }

    /// The sums, and the lines to be put in their place.
    pub(super) fn finish(self) -> (Summary, Option<BufWriter<Output>>) {
        (self.summary, self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(entry: &Entry) -> String {
        serde_json::to_string(entry).unwrap()
    }

    #[test]
    fn line_says_what_became_of_a_packet_and_where_it_is_written() {
        let across = |index| Leaving { index, side: Side::Ipv6, direction: Direction::Across };
        let mut entry = Entry {
            index: 7,
            side: Some(Side::Ipv4),
            verdict: Verdict::Translated,
            reason: None,
            limited: false,
            outputs: vec![across(1), across(2)],
        };
        assert_eq!(
            line(&entry),
            "{\"index\":7,\"side\":\"ipv4\",\"verdict\":\"translated\",\"outputs\":[\
             {\"index\":1,\"side\":\"ipv6\",\"direction\":\"across\"},\
             {\"index\":2,\"side\":\"ipv6\",\"direction\":\"across\"}]}"
        );
        entry.verdict = Verdict::Answered;
        entry.reason = Some(DropReason::PacketTooBig);
        entry.outputs = vec![Leaving { index: 3, side: Side::Ipv4, direction: Direction::Back }];
        assert_eq!(
            line(&entry),
            "{\"index\":7,\"side\":\"ipv4\",\"verdict\":\"answered\",\"reason\":\"packet_too_big\",\"outputs\":[\
             {\"index\":3,\"side\":\"ipv4\",\"direction\":\"back\"}]}"
        );
        let entry = Entry { side: None, verdict: Verdict::Dropped, limited: true, outputs: vec![], ..entry };
        assert_eq!(
            line(&entry),
            "{\"index\":7,\"side\":null,\"verdict\":\"dropped\",\"reason\":\"packet_too_big\",\"limited\":true,\
             \"outputs\":[]}"
        );
    }

    #[test]
    fn summary_counts_verdicts_and_reasons() {
        let mut summary = Summary::default();
        let mut add = |verdict, reason, limited, outputs: usize| {
            let output = Leaving { index: 1, side: Side::Ipv4, direction: Direction::Back };
            let outputs = vec![output; outputs];
            summary.add(&Entry { index: 1, side: None, verdict, reason, limited, outputs });
        };
        add(Verdict::Translated, None, false, 2);
        add(Verdict::Translated, None, false, 1);
        add(Verdict::Truncated, None, false, 0);
        add(Verdict::Answered, Some(DropReason::TtlExceeded), false, 1);
        add(Verdict::Dropped, Some(DropReason::TtlExceeded), true, 0);
        add(Verdict::Dropped, Some(DropReason::NoMapping), false, 0);
        assert_eq!(
            summary.to_string(),
            "6 packets read, 4 written; translated 2, answered 1, dropped 2, truncated 1; reasons: no_mapping 1, \
             ttl_exceeded 2; 1 ICMP errors kept back by [icmp] rate and burst"
        );
        let nothing = "0 packets read, 0 written; translated 0, answered 0, dropped 0, truncated 0";
        assert_eq!(Summary::default().to_string(), nothing);
    }
}
