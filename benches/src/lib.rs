//! What benches and instruction counts measure, and what both share.

pub mod bed;
pub mod round;

/// What a measurement needs could not be had.
pub type Result<T> = core::result::Result<T, Box<dyn std::error::Error>>;
