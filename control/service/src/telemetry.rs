//! Metrics, and the listener that shows them.

use crate::ledger::Ledger;
use crate::mover::Mover;
use crate::sync::Hub;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use overlane_api::sync::{RefusalReason, resolve_response::Outcome};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// One answered request of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Like `PUT`; one of the known methods, or `other`.
    pub method: &'static str,
    /// Like `201`.
    pub status: u16,
}

/// One kind of refusal at the API's door.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// `unauthenticated`, `forbidden` or `rate_limited`.
    pub reason: &'static str,
}

/// One answered request for a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResolutionLabels {
    /// `mapping`, or why there is none.
    pub outcome: &'static str,
}

impl ResolutionLabels {
    /// What became of it.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let outcome = match outcome {
            Outcome::Mapping(_) => "mapping",
            Outcome::Refusal(refusal) => match refusal.reason() {
                RefusalReason::NotYourInterface => "not_your_interface",
                RefusalReason::InterfaceNotLive => "interface_not_live",
                RefusalReason::NotAMember => "not_a_member",
                RefusalReason::UnknownTarget => "unknown_target",
                RefusalReason::Forbidden => "forbidden",
                RefusalReason::Unspecified => "unspecified",
            },
        };
        Self { outcome }
    }
}

/// One kind of event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// Like `verification_failed`.
    pub kind: &'static str,
    /// Like `src_prefix_mismatch`; one of a closed set for each kind.
    pub reason: &'static str,
}

/// One reading of changed TLS files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `loaded` or `failed`.
    pub outcome: &'static str,
}

/// One handshake that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandshakeLabels {
    /// `sync` or `api`.
    pub listener: &'static str,
    /// `no_certificate`, `revoked`, `expired`, `untrusted`, `list_expired`, or `other`: not TLS, or not in time.
    pub reason: &'static str,
}

/// One connection that was cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CutLabels {
    /// What has become of its certificate: `revoked`, `expired` or `untrusted`.
    pub reason: &'static str,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    /// Streams that engines opened.
    pub streams: Counter,
    /// Snapshots begun.
    pub snapshots: Counter,
    /// Deltas sent.
    pub deltas: Counter,
    /// Interface reports heard.
    pub reports: Counter,
    /// Resolutions answered.
    pub resolutions: Family<ResolutionLabels, Counter>,
    /// Answered requests of the HTTP API.
    pub requests: Family<RequestLabels, Counter>,
    /// Requests refused at the API's door.
    pub refusals: Family<RefusalLabels, Counter>,
    /// Events raised.
    pub events: Family<EventLabels, Counter>,
    /// How often what they tell of happened.
    pub event_occurrences: Family<EventLabels, Counter>,
    /// How often changed TLS files were read.
    pub tls_reloads: Family<ReloadLabels, Counter>,
    /// Handshakes that came to nothing.
    pub handshakes_refused: Family<HandshakeLabels, Counter>,
    /// Calls of the sync protocol by certificates that name no host.
    pub strangers: Counter,
    /// Connections that were cut because of their certificates.
    pub connections_cut: Family<CutLabels, Counter>,
    /// Seconds until the service's certificate runs out.
    pub certificate_expires: Gauge,
    /// Seconds until the revocation list runs out.
    pub revocation_list_expires: Gauge,
    revision: Gauge,
    engines: Gauge,
    engines_in_step: Gauge,
    moves: Gauge,
}

impl Metrics {
    /// Nothing has been counted yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("overlane_control");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let streams = counter("sync_streams", "Streams that engines opened");
        let snapshots = counter("sync_snapshots", "Snapshots begun");
        let deltas = counter("sync_deltas", "Deltas sent");
        let reports = counter("interface_reports", "Interface reports heard from engines");
        let strangers =
            counter("sync_strangers", "Calls of the sync protocol refused, as the certificate names no host");
        let resolutions = Family::default();
        registry.register("resolutions", "Requests for mappings answered, by outcome", resolutions.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let revision = gauge("revision", "Number of the store's last change");
        let engines = gauge("engines_connected", "Engines that are subscribed");
        let engines_in_step =
            gauge("engines_in_step", "Connected engines that have acknowledged all that concerns them");
        let moves = gauge("moves", "Moves under way");
        let certificate_expires =
            gauge("certificate_expires_seconds", "Seconds until the service's certificate runs out");
        let revocation_list_expires = gauge(
            "revocation_list_expires_seconds",
            "Seconds until the first of the revocation lists runs out; 0 without any",
        );
        let requests = Family::default();
        registry.register("api_requests", "Answered requests of the HTTP API", requests.clone());
        let refusals = Family::default();
        let help =
            "Requests of the HTTP API refused for who asked: unauthenticated, forbidden or rate_limited";
        registry.register("api_refusals", help, refusals.clone());
        let events = Family::default();
        registry.register("events", "Events raised: each told once", events.clone());
        let event_occurrences = Family::default();
        let help = "How often what events tell of happened, in packets or findings";
        registry.register("event_occurrences", help, event_occurrences.clone());
        let tls_reloads = Family::default();
        registry.register("tls_reloads", "Readings of changed TLS files, by outcome", tls_reloads.clone());
        let handshakes_refused = Family::default();
        let help = "Handshakes that came to nothing, by listener and by what was wrong with the client's certificate";
        registry.register("handshakes_refused", help, handshakes_refused.clone());
        let connections_cut = Family::default();
        let help = "Connections cut since their certificates are good no more, by what has become of them";
        registry.register("connections_cut", help, connections_cut.clone());
        Arc::new(Self {
            registry,
            streams,
            snapshots,
            deltas,
            reports,
            resolutions,
            requests,
            refusals,
            events,
            event_occurrences,
            tls_reloads,
            handshakes_refused,
            strangers,
            connections_cut,
            certificate_expires,
            revocation_list_expires,
            revision,
            engines,
            engines_in_step,
            moves,
        })
    }
}

/// What the telemetry listener needs to answer.
#[derive(Clone)]
pub struct Observed {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// For the revision and for readiness.
    pub ledger: Arc<Ledger>,
    /// For the engines.
    pub hub: Arc<Hub>,
    /// For the moves.
    pub mover: Arc<Mover>,
    /// Cancelled: not ready any more.
    pub shutdown: CancellationToken,
}

/// `/metrics`, `/livez` and `/readyz`.
pub fn router(observed: Observed) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(ready))
        .with_state(observed)
}

async fn metrics(State(observed): State<Observed>) -> Response {
    let metrics = &observed.metrics;
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let (connected, in_step) = observed.hub.counts();
    metrics.revision.set(number(*observed.ledger.revisions().borrow()));
    metrics.engines.set(number(connected));
    metrics.engines_in_step.set(number(in_step));
    metrics.moves.set(number(observed.mover.count() as u64));
    let mut text = String::new();
    match encode(&mut text, &metrics.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Ready: the store can be read, and nobody has asked us to stop.
async fn ready(State(observed): State<Observed>) -> Response {
    if observed.shutdown.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    let ledger = observed.ledger;
    let read =
        tokio::task::spawn_blocking(move || crate::ledger::record::revision(&*ledger.view()?).map(|_| ()));
    match read.await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store's reader failed\n").into_response(),
    }
}
