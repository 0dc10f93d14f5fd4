//! The configuration file, read strictly: every mistake is told with file, line, field and legal values.

use crate::events::Limits;
use crate::housekeeping;
use crate::ledger::{AuditLimits, Settings};
use crate::mover::Pace;
use overlane_api::access::{Quota, QuotaSpec};
use overlane_api::config::{FileError, LOG_LEVEL_LEGAL, Source, Text, Value};
use overlane_api::tls::TlsFiles;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use tracing_subscriber::EnvFilter;

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
    /// The service's TLS files, for both; `None`: no TLS, and both listen on this machine alone.
    pub tls: Option<TlsFiles>,
    /// Pace of moves.
    pub pace: Pace,
    /// How many events are remembered, and for how long.
    pub events: Limits,
    /// How often everything is looked over.
    pub housekeeping: housekeeping::Pace,
    /// Where metrics and health are shown.
    pub telemetry: Option<SocketAddr>,
    /// What is logged, as `tracing_subscriber::EnvFilter` directives.
    pub log_level: String,
    /// How long a shutdown may take.
    pub shutdown_deadline: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    service: RawService,
    store: RawStore,
    #[serde(default)]
    substrate: RawSubstrate,
    api: RawApi,
    sync: RawSync,
    tls: RawTls,
    #[serde(default, rename = "move")]
    moves: RawMove,
    #[serde(default)]
    quota: QuotaSpec,
    #[serde(default)]
    audit: RawAudit,
    #[serde(default)]
    events: RawEvents,
    #[serde(default)]
    housekeeping: RawHousekeeping,
    telemetry: Option<RawTelemetry>,
    #[serde(default)]
    log: RawLog,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawService {
    shutdown_deadline: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    path: Spanned<String>,
    log_revisions: Value<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawSubstrate {
    layout: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApi {
    listen: Spanned<String>,
    operators: Spanned<Vec<String>>,
    connections: Value<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSync {
    listen: Spanned<String>,
    on_demand_above: Value<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    ca: Text,
    cert: Text,
    key: Text,
    crl: Text,
    #[serde(default)]
    insecure: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawMove {
    ack_wait: Text,
    stuck_after: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawAudit {
    keep: Value<u64>,
    days: Value<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawEvents {
    keep: Value<usize>,
    days: Value<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawHousekeeping {
    every: Text,
    host_away: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTelemetry {
    listen: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLog {
    level: Text,
}

/// Default of `[store] log_revisions`.
const LOG_REVISIONS: u64 = 100_000;
/// Default of `[sync] on_demand_above`: about a mebibyte for each engine to be told, and to be told anew.
const ON_DEMAND_ABOVE: u64 = 16_384;
/// Default of `[api] connections`.
const CONNECTIONS: usize = 256;
/// Default of `[move] ack_wait`.
const ACK_WAIT: Duration = Duration::from_secs(2);
/// Default of `[move] stuck_after`.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// Defaults of `[quota]`.
pub const QUOTA: Quota =
    Quota { networks: 1000, nodes: 10_000, interfaces: 20_000, rules: 10_000, tokens: 100 };
/// Default of `[audit] keep`.
const AUDIT_KEEP: u64 = 100_000;
/// Default of `[audit] days`.
const AUDIT_DAYS: u64 = 365;
/// Default of `[events] keep`.
const EVENTS: usize = 10_000;
/// Default of `[events] days`.
const DAYS: u64 = 30;
const DAY: u64 = 24 * 3600;
/// Default of `[housekeeping] every`.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// Default of `[housekeeping] host_away`.
const HOST_AWAY: Duration = Duration::from_secs(300);
/// Default of `[service] shutdown_deadline`.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

impl Config {
    /// Reads and checks a configuration file. Relative paths in it start from its directory.
    ///
    /// # Errors
    /// [`FileError`] naming file, line, field and legal values of the first thing that is wrong.
    pub fn load(file: &Path) -> Result<Self, FileError> {
        Self::parse(&Source::read(file)?)
    }

    /// Checks configuration text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(source: &Source) -> Result<Self, FileError> {
        let raw: Raw = source.parse()?;
        let seconds = |least, most| Duration::from_secs(least)..=Duration::from_secs(most);
        let example = "[::]:9443 or 127.0.0.1:9443";
        let level = |text: &str| {
            (!text.trim().is_empty() && EnvFilter::try_new(text).is_ok()).then(|| text.to_owned())
        };
        Ok(Self {
            store: source.path(&raw.store.path)?,
            settings: Settings {
                layout: source
                    .optional(&raw.substrate.layout, "slot64, plain72 or plain64", |text| text.parse().ok())?
                    .unwrap_or_default(),
                log_revisions: source
                    .number(&raw.store.log_revisions, "", &(1..=10_000_000))?
                    .unwrap_or(LOG_REVISIONS),
                quota: quota(&raw.quota),
                audit: AuditLimits {
                    keep: source.number(&raw.audit.keep, "", &(1..=10_000_000))?.unwrap_or(AUDIT_KEEP),
                    age: 24 * 3600 * source.number(&raw.audit.days, "", &(1..=3650))?.unwrap_or(AUDIT_DAYS),
                },
                on_demand_above: source
                    .number(&raw.sync.on_demand_above, " addresses", &(0..=u64::from(u32::MAX)))?
                    .unwrap_or(ON_DEMAND_ABOVE),
            },
            api: source.listen(&raw.api.listen, example)?,
            operators: operators(source, &raw.api.operators)?,
            api_connections: source.number(&raw.api.connections, "", &(1..=65_536))?.unwrap_or(CONNECTIONS),
            sync: source.listen(&raw.sync.listen, example)?,
            tls: tls(source, &raw)?,
            pace: Pace {
                ack_wait: source.duration(&raw.moves.ack_wait, &seconds(0, 600))?.unwrap_or(ACK_WAIT),
                stuck_after: source
                    .duration(&raw.moves.stuck_after, &seconds(1, 24 * 3600))?
                    .unwrap_or(STUCK_AFTER),
            },
            events: Limits {
                keep: source.number(&raw.events.keep, "", &(100..=100_000))?.unwrap_or(EVENTS),
                age: Duration::from_secs(
                    source.number(&raw.events.days, "", &(1..=365))?.unwrap_or(DAYS) * DAY,
                ),
            },
            housekeeping: housekeeping::Pace {
                every: source.duration(&raw.housekeeping.every, &seconds(1, 3600))?.unwrap_or(HOUSEKEEPING),
                unreported: housekeeping::UNREPORTED,
                host_away: source
                    .duration(&raw.housekeeping.host_away, &seconds(1, DAY))?
                    .unwrap_or(HOST_AWAY),
                page: housekeeping::PAGE,
            },
            telemetry: raw.telemetry.map(|table| telemetry(source, &table.listen)).transpose()?,
            log_level: source
                .optional(&raw.log.level, LOG_LEVEL_LEGAL, level)?
                .unwrap_or_else(|| "info".to_owned()),
            shutdown_deadline: source
                .duration(&raw.service.shutdown_deadline, &seconds(1, 300))?
                .unwrap_or(SHUTDOWN_DEADLINE),
        })
    }
}

/// The TLS files, or none: without them only this machine may be served.
fn tls(source: &Source, raw: &Raw) -> Result<Option<TlsFiles>, FileError> {
    let RawTls { ca, cert, key, crl, insecure } = &raw.tls;
    if *insecure {
        for value in [ca, cert, key, crl] {
            source.refuse(value, "has no effect with insecure = true; remove one of them")?;
        }
        for listen in [&raw.api.listen, &raw.sync.listen] {
            let legal = "127.0.0.1 or [::1] and a port, with [tls] insecure = true";
            source.text(listen, legal, |text| {
                text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback())
            })?;
        }
        return Ok(None);
    }
    let need = |value: &Text, field: &str| match value {
        Some(value) => source.path(value),
        None => Err(source
            .missing(format!("[tls] {field}"), "is missing; without TLS files only with insecure = true")),
    };
    Ok(Some(TlsFiles {
        ca: need(ca, "ca")?,
        certificate: need(cert, "cert")?,
        key: need(key, "key")?,
        crl: crl.as_ref().map(|file| source.path(file)).transpose()?,
    }))
}

fn operators(source: &Source, names: &Spanned<Vec<String>>) -> Result<Vec<String>, FileError> {
    let is_name = |name: &String| {
        (1..=253).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    if names.as_ref().is_empty() || !names.as_ref().iter().all(is_name) {
        let message = format!(
            "must be the DNS names in the certificates of those who may use the API, at least one, not {:?}",
            names.as_ref()
        );
        return Err(source.error(&names.span(), message));
    }
    Ok(names.as_ref().clone())
}

const fn quota(raw: &QuotaSpec) -> Quota {
    const fn or(given: Option<u32>, default: u32) -> u32 {
        match given {
            Some(given) => given,
            None => default,
        }
    }
    Quota {
        networks: or(raw.networks, QUOTA.networks),
        nodes: or(raw.nodes, QUOTA.nodes),
        interfaces: or(raw.interfaces, QUOTA.interfaces),
        rules: or(raw.rules, QUOTA.rules),
        tokens: or(raw.tokens, QUOTA.tokens),
    }
}

/// Plain HTTP to whoever asks belongs on loopback.
fn telemetry(source: &Source, listen: &Spanned<String>) -> Result<SocketAddr, FileError> {
    let legal = "a loopback address and port, like 127.0.0.1:9445";
    source.text(listen, legal, |text| {
        text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())
    })
}
