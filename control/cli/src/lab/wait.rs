//! Waiting for a condition, with a deadline and a name.

use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// How often a condition that raises no event is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks at `condition` until it gives a value.
///
/// # Errors
/// At the deadline, naming what was waited for, or at once when `condition` fails.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition().with_context(|| format!("waiting for {what}"))? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {} s in vain for {what}", deadline.as_secs_f32());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Like [`until`], for conditions that fail while they do not hold; the last failure is told at the deadline.
///
/// # Errors
/// At the deadline, with the condition's own words.
pub fn until_ok<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("waited {} s in vain for {what}", deadline.as_secs_f32())));
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}
