//! RFC 7915 to the letter: an obvious reference translator, its rows, and the engine beside it.
//!
//! `reference` is written from the RFCs alone, `tables` has the RFCs' rows with what is expected of each worked out by
//! hand; the reference has to agree with the rows. `compare` puts the engine beside both.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should panic where it fails"
)]

mod build;
mod compare;
mod reference;
mod tables;
#[allow(dead_code, reason = "there is more in the engines' world than these tests look at")]
#[path = "../engines/world.rs"]
mod world;
