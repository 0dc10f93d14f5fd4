//! What engines report of their interfaces.

use super::record::{InterfaceRecord, load};
use super::{Ledger, Result, node};
use crate::store::Table;
use overlane_api::resource::InterfaceState;
use std::net::Ipv4Addr;

/// Longest detail that is kept, in bytes.
const MAX_DETAIL: usize = 256;

/// What an engine reports of an interface.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// How far it is.
    pub state: InterfaceState,
    /// Why it is not live.
    pub detail: &'a str,
    /// The groups that its node has joined, sorted.
    pub joined: &'a [Ipv4Addr],
    /// Whether it is a router that does not answer.
    pub silent: bool,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// It was news, and is kept.
    News,
    /// It was known.
    Known,
    /// The host has no such interface; also the normal end of one that was deleted meanwhile.
    NotThere,
}

/// `text` without control characters, and no longer than is kept.
pub(crate) fn clipped(text: &str) -> String {
    let mut clean = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if clean.len() + c.len_utf8() > MAX_DETAIL {
            break;
        }
        clean.push(c);
    }
    clean
}

impl Ledger {
    /// Keeps what the engine of `host` reports of an interface.
    ///
    /// # Errors
    /// [`Error::Store`](crate::error::Error::Store).
    pub fn report(&self, host: &str, interface: &str, report: &Report<'_>) -> Result<Reported> {
        let Report { state, joined, silent, .. } = *report;
        let detail = clipped(report.detail);
        let news = |record: &InterfaceRecord| {
            let place = record.place_on(host)?;
            let same = place.state == state && place.joined == joined && place.silent == silent;
            Some(!same || place.detail != detail)
        };
        // Most reports are no news; those make no transaction.
        match load::<InterfaceRecord>(&*self.view()?, Table::Interfaces, interface)?.as_ref().and_then(news) {
            None => return Ok(Reported::NotThere),
            Some(false) => return Ok(Reported::Known),
            Some(true) => {}
        }
        self.write(|txn| {
            let Some(before) = txn.load::<InterfaceRecord>(Table::Interfaces, interface)? else {
                return Ok(Reported::NotThere);
            };
            let mut after = before.clone();
            let Some(place) = after.place_on_mut(host) else { return Ok(Reported::NotThere) };
            place.state = state;
            place.detail.clone_from(&detail);
            place.joined = joined.to_vec();
            place.silent = silent;
            match node::replace_state(txn, &before, after)? {
                true => Ok(Reported::News),
                false => Ok(Reported::Known),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::clipped;

    #[test]
    fn details_are_clipped_at_a_character_and_cleaned() {
        assert_eq!(clipped("no\tdevice\n"), "nodevice");
        let long = clipped(&"ä".repeat(300));
        assert_eq!(long.len(), 256);
        assert_eq!(clipped(&format!("a{}", "ä".repeat(300))).len(), 255);
    }
}
