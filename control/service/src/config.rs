//! The configuration file, read strictly: every mistake is told with file, line, field and legal values.

use crate::ledger::Settings;
use crate::mover::Pace;
use overlane_api::tls::TlsFiles;
use overlane_dataplane::address::Layout;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// A mistake in the configuration file; one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    /// File and, where known, line: `control.toml:7`.
    pub place: String,
    /// The field, what is wrong with it, and its legal values.
    pub message: String,
}

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The store's file.
    pub store: PathBuf,
    /// Layout and log.
    pub settings: Settings,
    /// Where the HTTP API listens.
    pub api: SocketAddr,
    /// The certificate names that may use it.
    pub operators: Vec<String>,
    /// Connections of the API at once.
    pub api_connections: usize,
    /// Where the sync protocol listens.
    pub sync: SocketAddr,
    /// The service's TLS files, for both.
    pub tls: TlsFiles,
    /// Pace of moves.
    pub pace: Pace,
    /// Where metrics and health are shown.
    pub telemetry: Option<SocketAddr>,
    /// What is logged.
    pub log: String,
    /// How long a shutdown may take.
    pub shutdown: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    store: RawStore,
    #[serde(default)]
    substrate: RawSubstrate,
    api: RawApi,
    sync: RawSync,
    tls: TlsFiles,
    #[serde(default, rename = "move")]
    moves: RawMove,
    telemetry: Option<RawTelemetry>,
    #[serde(default)]
    log: RawLog,
    #[serde(default)]
    shutdown: RawShutdown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    path: PathBuf,
    log_revisions: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawSubstrate {
    layout: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApi {
    listen: Spanned<String>,
    operators: Spanned<Vec<String>>,
    connections: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSync {
    listen: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawMove {
    ack_wait_ms: Option<Spanned<u64>>,
    stuck_after_s: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTelemetry {
    listen: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLog {
    filter: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawShutdown {
    deadline_s: Option<Spanned<u64>>,
}

/// The text of a file, to tell lines from.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn at(&self, span: Option<std::ops::Range<usize>>, message: String) -> ConfigError {
        let place = match span.and_then(|span| self.text.get(..span.start)) {
            Some(before) => format!("{}:{}", self.file.display(), before.matches('\n').count() + 1),
            None => self.file.display().to_string(),
        };
        ConfigError { place, message }
    }

    fn refuse<T: std::fmt::Debug>(&self, value: &Spanned<T>, field: &str, legal: &str) -> ConfigError {
        self.at(Some(value.span()), format!("{field} = {:?}: must be {legal}", value.get_ref()))
    }

    fn address(&self, value: &Spanned<String>, field: &str) -> Result<SocketAddr, ConfigError> {
        let legal = "an IP address and a port, like [::]:9443 or 127.0.0.1:9443";
        value.get_ref().parse().map_err(|_| self.refuse(value, field, legal))
    }

    fn number(
        &self,
        value: Option<&Spanned<u64>>,
        field: &str,
        default: u64,
        legal: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        match value {
            None => Ok(default),
            Some(value) if legal.contains(value.get_ref()) => Ok(*value.get_ref()),
            Some(value) => Err(self.refuse(value, field, &format!("{} to {}", legal.start(), legal.end()))),
        }
    }
}

impl Config {
    /// Reads a configuration file. Relative paths in it start from its directory.
    ///
    /// # Errors
    /// [`ConfigError`], for the first mistake.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
            place: file.display().to_string(),
            message: format!("cannot be read: {error}"),
        })?;
        Self::parse(file, &text)
    }

    /// Takes `text` as the contents of `file`.
    ///
    /// # Errors
    /// [`ConfigError`], for the first mistake.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source { file, text };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let message = error.message().replace('`', "").replace('\n', ", ");
            source.at(error.span(), message)
        })?;
        let beside = |path: &PathBuf| file.parent().unwrap_or(Path::new("")).join(path);
        let layout = match &raw.substrate.layout {
            None => Layout::default(),
            Some(name) => name
                .get_ref()
                .parse()
                .map_err(|_| source.refuse(name, "[substrate] layout", "slot64, plain72 or plain64"))?,
        };
        let operators = raw.api.operators.get_ref();
        let is_name = |name: &String| {
            (1..=253).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        };
        if operators.is_empty() || !operators.iter().all(is_name) {
            let legal = "the DNS names in the certificates of those who may use the API, at least one";
            return Err(source.refuse(&raw.api.operators, "[api] operators", legal));
        }
        let telemetry = match &raw.telemetry {
            None => None,
            Some(telemetry) => {
                let address = source.address(&telemetry.listen, "[telemetry] listen")?;
                if !address.ip().is_loopback() {
                    let legal = "a loopback address: it speaks plain HTTP to whoever asks";
                    return Err(source.refuse(&telemetry.listen, "[telemetry] listen", legal));
                }
                Some(address)
            }
        };
        let log = match &raw.log.filter {
            None => "info".to_owned(),
            Some(filter) => {
                filter.get_ref().parse::<tracing_subscriber::EnvFilter>().map_err(|_| {
                    let legal = "a level (error, warn, info, debug, trace) or target=level, joined by commas";
                    source.refuse(filter, "[log] filter", legal)
                })?;
                filter.get_ref().clone()
            }
        };
        let number = |value: &Option<Spanned<u64>>, field, default, legal| {
            source.number(value.as_ref(), field, default, legal)
        };
        let log_revisions =
            number(&raw.store.log_revisions, "[store] log_revisions", 100_000, 1..=10_000_000)?;
        let connections = number(&raw.api.connections, "[api] connections", 256, 1..=65_536)?;
        let ack_wait = number(&raw.moves.ack_wait_ms, "[move] ack_wait_ms", 2000, 0..=600_000)?;
        let stuck_after = number(&raw.moves.stuck_after_s, "[move] stuck_after_s", 60, 1..=86_400)?;
        let deadline = number(&raw.shutdown.deadline_s, "[shutdown] deadline_s", 10, 1..=600)?;
        Ok(Self {
            store: beside(&raw.store.path),
            settings: Settings { layout, log_revisions },
            api: source.address(&raw.api.listen, "[api] listen")?,
            operators: operators.clone(),
            api_connections: usize::try_from(connections).unwrap_or(usize::MAX),
            sync: source.address(&raw.sync.listen, "[sync] listen")?,
            tls: TlsFiles {
                ca: beside(&raw.tls.ca),
                certificate: beside(&raw.tls.certificate),
                key: beside(&raw.tls.key),
            },
            pace: Pace {
                ack_wait: Duration::from_millis(ack_wait),
                stuck_after: Duration::from_secs(stuck_after),
            },
            telemetry,
            log,
            shutdown: Duration::from_secs(deadline),
        })
    }
}
