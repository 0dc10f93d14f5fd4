//! The RFC's rows: what goes in, and what has to come out, each with its own name.

mod errors;
mod extended;
mod extensions;
mod fragments;
mod golden;
mod headers;
mod mtu;
mod pointers;
mod queries;
mod quotes;
mod routes;
mod transports;

use crate::build::*;
use crate::reference::{Answer, Refused, Site, Translated, four_to_six, six_to_four};

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Whether the packet is an IPv4 packet.
    pub(crate) to_six: bool,
    pub(crate) packet: Vec<u8>,
    /// What comes of it: one packet, as a rule.
    pub(crate) becomes: Translated,
    /// What the operator changed for this row.
    pub(crate) site: Site,
}

impl Row {
    fn with(mut self, change: impl FnOnce(&mut Site)) -> Self {
        change(&mut self.site);
        self
    }
}

/// What there is without any configuration: Ethernet on the IPv6 side, and as much less on the IPv4 side as headers grow.
pub(crate) fn site() -> Site {
    Site {
        hosts: vec![(ALICE, ALICE_V6), (BOB, BOB_V6)],
        router: Some(GATEWAY),
        ipv4_mtu: 1480,
        ipv6_mtu: 1500,
        lowest_ipv6_mtu: 1500,
        copy_traffic_class: true,
        compute_udp_checksum: true,
        carry_fragmented_icmp: true,
        identification: IDENTIFICATION,
        quoted_identification: QUOTED_IDENTIFICATION,
    }
}

fn up(name: impl Into<String>, from: &V4, to: &V6) -> Row {
    let becomes = Ok(vec![to.bytes()]);
    Row { name: name.into(), to_six: true, packet: from.bytes(), becomes, site: site() }
}

fn down(name: impl Into<String>, from: &V6, to: &V4) -> Row {
    let becomes = Ok(vec![to.bytes()]);
    Row { name: name.into(), to_six: false, packet: from.bytes(), becomes, site: site() }
}

fn up_refused(name: impl Into<String>, from: &V4, reason: &'static str, answer: Option<Answer>) -> Row {
    let becomes = Err(Refused { reason, answer });
    Row { name: name.into(), to_six: true, packet: from.bytes(), becomes, site: site() }
}

fn down_refused(name: impl Into<String>, from: &V6, reason: &'static str, answer: Option<Answer>) -> Row {
    let becomes = Err(Refused { reason, answer });
    Row { name: name.into(), to_six: false, packet: from.bytes(), becomes, site: site() }
}

const fn answer(kind: u8, code: u8, word: u32) -> Option<Answer> {
    Some(Answer { kind, code, word })
}

/// Every row there is.
pub(crate) fn all() -> Vec<Row> {
    [
        golden::rows(),
        headers::rows(),
        routes::rows(),
        transports::rows(),
        fragments::rows(),
        extensions::rows(),
        queries::rows(),
        errors::rows(),
        pointers::rows(),
        mtu::rows(),
        quotes::rows(),
    ]
    .concat()
}

/// The rows about IPv6 extension headers.
pub(crate) fn extensions() -> Vec<Row> {
    extensions::rows()
}

/// What came out beside what should have, as far as it differs and a bit more.
pub(crate) fn compared(name: &str, is: &Translated, expected: &Translated) -> String {
    const SHOWN: usize = 160;
    let hex = |packet: &Vec<u8>| {
        let pairs = packet[..packet.len().min(SHOWN)].chunks(2);
        let digits = |pair: &[u8]| pair.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{:>5}: {}", packet.len(), pairs.map(digits).collect::<Vec<_>>().join(" "))
    };
    let show = |result: &Translated| match result {
        Ok(packets) => packets.iter().map(hex).collect::<Vec<_>>().join("\n     and "),
        Err(refused) => format!("{refused:?}"),
    };
    let place = match (is, expected) {
        (Ok(is), Ok(expected)) => {
            let differs = |(index, pair): (usize, (&Vec<u8>, &Vec<u8>))| {
                let byte = pair.0.iter().zip(pair.1).position(|(is, expected)| is != expected)?;
                Some(format!(" (packet {index}, byte {byte})"))
            };
            is.iter().zip(expected).enumerate().find_map(differs).unwrap_or_default()
        }
        _ => String::new(),
    };
    format!("{name}{place}\n      is {}\nexpected {}\n", show(is), show(expected))
}

#[test]
fn reference_agrees_with_every_row() {
    let rows = all();
    for row in &rows {
        let translate = if row.to_six { four_to_six } else { six_to_four };
        let is = translate(&row.site, &row.packet);
        assert!(is == row.becomes, "{}", compared(&row.name, &is, &row.becomes));
    }
    assert!(rows.len() > 5000, "{} rows: some got lost", rows.len());
}

#[test]
fn rows_have_names_of_their_own() {
    let mut names: Vec<_> = all().into_iter().map(|row| row.name).collect();
    names.sort();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before);
}
