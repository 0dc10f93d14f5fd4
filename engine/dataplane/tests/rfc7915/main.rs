//! RFC 7915 to the letter: an obvious reference translator, its rows, and the engine beside it.
//!
//! `reference` is written from the RFCs alone, `tables` has the RFCs' rows with what is expected of each worked out by
//! hand; the reference has to agree with the rows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should panic where it fails"
)]

mod build;
mod reference;
mod tables;
