//! Whole engines without I/O: real bytes into a port of one, over the substrate, out of a port of the other.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should panic where it fails"
)]

mod arp;
mod clamp;
mod delivery;
mod dhcp;
mod errors;
mod externals;
mod failures;
mod flows;
mod fragments;
mod frames;
mod groups;
mod on_demand;
mod oracle;
mod peering;
mod properties;
mod refusals;
mod routes;
mod rules;
mod segmentation;
mod straight_line;
mod trace;
mod world;
