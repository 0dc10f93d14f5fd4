//! The log, and its level, which can be changed while the engine runs.

use overlane_api::config::LOG_LEVEL_LEGAL;
use std::fmt::Debug;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// The log's level.
#[derive(Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Starts the log, on standard error, for the whole process. A log that was started before stays.
    ///
    /// # Errors
    /// A level that is not one.
    pub fn start(level: &str) -> Result<Self, String> {
        let (filter, handle) = reload::Layer::new(parse(level)?);
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Ok(Self(handle))
    }

    /// A level that belongs to no log of the process; tests run many engines' parts in one process. It works as long
    /// as the layer that is returned lives.
    #[must_use]
    pub fn detached(level: &str) -> Option<(Self, reload::Layer<EnvFilter, Registry>)> {
        let (filter, handle) = reload::Layer::new(parse(level).ok()?);
        Some((Self(handle), filter))
    }

    /// The level now.
    #[must_use]
    pub fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Changes the level.
    ///
    /// # Errors
    /// What a level must be.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let filter = parse(level)?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

impl Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogLevel").field(&self.get()).finish()
    }
}

fn parse(level: &str) -> Result<EnvFilter, String> {
    let level = level.trim();
    let filter = if level.is_empty() { None } else { EnvFilter::try_new(level).ok() };
    filter.ok_or_else(|| format!("must be {LOG_LEVEL_LEGAL}, not {level:?}"))
}
