//! Reads an engine's telemetry from within its namespace.

use super::netns::Namespace;
pub use crate::telemetry::Answer;

use crate::telemetry;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One plain HTTP/1.0 request from within a namespace.
///
/// # Errors
/// If nobody answers within two seconds, or not by HTTP.
pub fn http(namespace: &Namespace, to: SocketAddr, method: &str, path: &str, body: &str) -> Result<Answer> {
    let stream = namespace.enter(|| {
        TcpStream::connect_timeout(&to, Duration::from_secs(2)).with_context(|| format!("connecting to {to}"))
    })?;
    telemetry::exchange(stream, &to.to_string(), method, path, body)
}

/// One moment's values of all metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric's name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Metrics {
    /// Scrapes a telemetry listener.
    ///
    /// # Errors
    /// If it does not answer, or not in Prometheus' text format.
    pub fn scrape(namespace: &Namespace, from: SocketAddr) -> Result<Self> {
        let answer = http(namespace, from, "GET", "/metrics", "")?;
        ensure!(answer.status == 200, "/metrics answers {}: {}", answer.status, answer.body);
        Self::parse(&answer.body)
    }

    /// Reads Prometheus' text format.
    ///
    /// # Errors
    /// Names the first line that is none.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).with_context(|| format!("metric line {line:?}")));
        Ok(Self { samples: samples.collect::<Result<_>>()? })
    }

    /// Every sample.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The sum over all samples of a metric that have these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(fits).map(|sample| sample.value).sum()
    }

    /// Packets dropped, by reason, over all ports and vnets.
    #[must_use]
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let mut drops = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.name == "overlane_drops_total") {
            if let Some(reason) = sample.labels.get("reason") {
                *drops.entry(reason.clone()).or_default() += sample.value as u64;
            }
        }
        drops.retain(|_, count| *count > 0);
        drops
    }

    /// Drops that have been counted since `before`, by reason.
    #[must_use]
    pub fn drops_since(&self, before: &Self) -> BTreeMap<String, u64> {
        let old = before.drops();
        let mut new = self.drops();
        for (reason, count) in &mut new {
            *count = count.saturating_sub(old.get(reason).copied().unwrap_or(0));
        }
        new.retain(|_, count| *count > 0);
        new
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = match line.find('{') {
        Some(brace) => {
            let (name, rest) = line.split_at(brace);
            (name, rest.get(1..)?)
        }
        None => {
            let (name, value) = line.split_once(' ')?;
            let value = value.split(' ').next()?.parse().ok()?;
            return Some(Sample { name: name.to_owned(), labels: BTreeMap::new(), value });
        }
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    while !rest.starts_with('}') {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(key.trim_start_matches(',').trim().to_owned(), value);
        rest = after;
    }
    let value = rest.strip_prefix('}')?.trim().split(' ').next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, without escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP overlane_drops Packets dropped\n# TYPE overlane_drops counter\n\
        overlane_drops_total{reason=\"src_mac_spoofed\",port=\"acme-1/eth0\",vnet=\"44094\"} 3\n\
        overlane_drops_total{reason=\"src_mac_spoofed\",port=\"acme-2/eth0\",vnet=\"44094\"} 2\n\
        overlane_drops_total{reason=\"no_mapping\",port=\"odd \\\"} name\",vnet=\"1\"} 7 1700000000\n\
        up 1\n# EOF\n";

    #[test]
    fn drops_are_summed_by_reason_and_by_label() {
        let metrics = Metrics::parse(TEXT).unwrap();
        assert_eq!(metrics.drops()["src_mac_spoofed"], 5);
        assert_eq!(metrics.drops()["no_mapping"], 7);
        assert_eq!(metrics.sum("overlane_drops_total", &[("port", "acme-2/eth0")]), 2.0);
        assert_eq!(metrics.sum("up", &[]), 1.0);
    }

    #[test]
    fn only_what_was_counted_since_is_told() {
        let before = Metrics::parse(TEXT).unwrap();
        let after = Metrics::parse(&TEXT.replace("} 3", "} 13")).unwrap();
        assert_eq!(after.drops_since(&before), BTreeMap::from([("src_mac_spoofed".to_owned(), 10)]));
    }

    #[test]
    fn a_line_that_is_none_is_refused() {
        assert!(Metrics::parse("overlane_drops_total{reason=\"x\" 3").is_err());
    }
}
