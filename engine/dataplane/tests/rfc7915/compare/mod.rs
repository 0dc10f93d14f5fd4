//! The engine beside the reference: every row, and whatever packets proptest thinks of.

mod packets;
mod properties;
mod standalone;
mod there_and_back;
mod translator;

use crate::build::identifications;
use crate::reference::{Site, Translated, four_to_six, six_to_four};
use crate::tables::{self, Row, compared};
use translator::{Translator, is_fragment};

/// What the reference says, given that the engine's generator of identifications said what is found in `is`.
fn expected(site: &Site, to_six: bool, packet: &[u8], is: &Translated) -> Translated {
    let (identification, quoted_identification) =
        is.as_ref().ok().and_then(|packets| packets.first()).map_or((0, 0), |packet| identifications(packet));
    let site = Site { identification, quoted_identification, ..site.clone() };
    let translate = if to_six { four_to_six } else { six_to_four };
    translate(&site, packet)
}

/// The same, but for the names of reasons: without stages there are others for who is unknown.
fn same_but_reason(is: &Translated, expected: &Translated) -> bool {
    match (is, expected) {
        (Err(is), Err(expected)) => is.answer == expected.answer,
        _ => is == expected,
    }
}

/// An engine for each site. It is kept, except for fragments, which it would remember.
#[derive(Default)]
struct Engines(Vec<(Site, Translator)>);

impl Engines {
    #[track_caller]
    fn translate(&mut self, site: &Site, to_six: bool, packet: &[u8], cuts: &[usize]) -> Translated {
        if is_fragment(to_six, packet) {
            return Translator::new(site).translate(to_six, packet, cuts);
        }
        let place = self.0.iter().position(|(known, _)| known == site).unwrap_or_else(|| {
            self.0.push((site.clone(), Translator::new(site)));
            self.0.len() - 1
        });
        self.0[place].1.translate(to_six, packet, cuts)
    }
}

/// Compares the engine with the reference on each row; in segments cut at each of `cuts`, and in one.
fn compare(rows: Vec<Row>, cuts: impl Fn(&Row) -> Vec<usize>) {
    let (mut engines, mut broken) = (Engines::default(), String::new());
    for row in rows {
        let cuts: Vec<Vec<usize>> = cuts(&row).into_iter().map(|cut| vec![cut]).collect();
        for cuts in [vec![]].iter().chain(&cuts) {
            let is = engines.translate(&row.site, row.to_six, &row.packet, cuts);
            let expected = expected(&row.site, row.to_six, &row.packet, &is);
            assert_eq!(expected.is_ok(), row.becomes.is_ok(), "{}", row.name);
            if is != expected {
                broken += &compared(&format!("{} {cuts:?}", row.name), &is, &expected);
            }
            let alone = standalone::translate(&row.site, row.to_six, &row.packet, cuts);
            let expected = self::expected(&row.site, row.to_six, &row.packet, &alone);
            if !same_but_reason(&alone, &expected) {
                broken += &compared(&format!("alone: {} {cuts:?}", row.name), &alone, &expected);
            }
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

#[test]
fn engine_agrees_with_every_row() {
    compare(tables::all(), |_| vec![]);
}

#[test]
fn headers_may_lie_across_segments() {
    let one_of_many = tables::all().into_iter().step_by(29);
    let rows = tables::extensions().into_iter().chain(one_of_many);
    // Up to the end of what is a header in the largest of them.
    compare(rows.collect(), |row| (0..(row.packet.len() + 14).min(160)).collect());
}
