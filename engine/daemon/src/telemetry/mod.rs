//! What operators and Prometheus ask: metrics, health, status, the log's level. Plain HTTP, meant for loopback.

pub mod log;
mod metrics;
#[cfg(test)]
mod tests;

use crate::events::{EventLog, Refused};
use crate::reconcile::counted::Totals;
use crate::reconcile::status::Status;
use crate::runtime::BusyCycles;
use crate::trace::{TraceError, Tracer};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use core::fmt::Debug;
use core::time::Duration;
use log::LogLevel;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// What workers and packet memory tell of themselves.
pub trait Vitals: Debug + Send + Sync + 'static {
    /// The workers, in their order.
    fn workers(&self) -> Vec<WorkerVitals>;
    /// How many packet buffers there are, and are in use.
    fn buffers(&self) -> (u32, u32);
    /// What the flow table holds and has done.
    fn flows(&self) -> FlowVitals;
    /// Why workers are not as they should be; `None` when they are.
    fn stalled(&self) -> Option<String>;
    /// What was counted for no port.
    fn unplaced(&self) -> Totals;
}

/// What a worker has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct WorkerVitals {
    /// Its core.
    pub core: usize,
    /// Turns of its loop.
    pub turns: u64,
    /// Turns in which there was nothing to do.
    pub empty_turns: u64,
    /// Times that it went to sleep.
    pub sleeps: u64,
    /// Packets that it took in.
    pub packets: u64,
    /// Cycles of the time-stamp counter, in turns that were not empty.
    pub cycles: BusyCycles,
    /// The same for each packet, whole cycles.
    pub cycles_per_packet: BusyCycles,
    /// The whole cycles of a turn that was not empty.
    pub cycles_per_turn: u64,
    /// Time spent on turns that were not empty.
    pub busy: Duration,
    /// Time that it has run.
    pub total: Duration,
}

/// What the flow table holds and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct FlowVitals {
    /// Flows that it has room for at least.
    pub capacity: usize,
    /// Bytes that it takes.
    pub memory: usize,
    /// Flows that it knows.
    pub live: u64,
    /// Flows entered.
    pub inserted: u64,
    /// Flows taken out after their timeout.
    pub expired: u64,
    /// Flows taken out because another with the same key began.
    pub replaced: u64,
    /// Flows taken out to make room, by how far they had come.
    pub evicted: Evicted,
    /// Flows that found no room.
    pub refused: u64,
    /// Entries taken back because two workers entered the same flow at once.
    pub collided: u64,
}

/// Flows taken out to make room, by how far they had come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Evicted {
    /// TCP connections that had ended.
    pub closing: u64,
    /// Those that nothing had come back for, or TCP not acknowledged both ways.
    pub half_open: u64,
    /// Those that were alive both ways.
    pub established: u64,
}

/// The control thread's sign of life.
#[derive(Debug)]
pub struct Pulse(Mutex<Instant>);

/// The largest request for a trace, in bytes: a jumbo frame in digits.
const TRACE: usize = 64 << 10;
/// A control thread that is silent for this long hangs.
const SILENCE: Duration = Duration::from_secs(10);

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Pulse {
    /// The control thread turns.
    pub fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    fn silence(&self) -> Duration {
        self.0.lock().elapsed()
    }
}

/// What the listener serves from.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// The engine's status.
    pub status: watch::Receiver<Arc<Status>>,
    /// Workers and packet memory.
    pub vitals: Arc<dyn Vitals>,
    /// What was refused because of what senders claimed.
    pub refused: Arc<EventLog>,
    /// The control thread's sign of life.
    pub pulse: Arc<Pulse>,
    /// Tells what would become of packets.
    pub tracer: Tracer,
    /// The log's level.
    pub log: LogLevel,
}

impl Telemetry {
    /// The HTTP routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/status", get(status))
            .route("/log", get(level).put(set_level))
            .layer(DefaultBodyLimit::max(4096))
            .route("/trace", post(trace).layer(DefaultBodyLimit::max(TRACE)))
            .with_state(self)
    }

    /// Why the engine is not ready; empty when it is.
    fn unready(&self) -> Vec<String> {
        let mut reasons = self.dead();
        reasons.extend(self.vitals.stalled());
        reasons.extend(self.status.borrow().unready.iter().cloned());
        reasons
    }

    /// Why the engine is not alive; empty when it is.
    fn dead(&self) -> Vec<String> {
        let silence = self.pulse.silence();
        if self.status.has_changed().is_err() {
            vec!["the control thread has ended".to_owned()]
        } else if silence > SILENCE {
            vec![format!("the control thread has been silent for {} s", silence.as_secs())]
        } else {
            Vec::new()
        }
    }
}

/// 200 and one word, or 503 and a line for each reason.
fn health(word: &'static str, reasons: &[String]) -> (StatusCode, String) {
    if reasons.is_empty() {
        (StatusCode::OK, format!("{word}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
    }
}

async fn livez(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    health("live", &telemetry.dead())
}

async fn readyz(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    health("ready", &telemetry.unready())
}

async fn metrics(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    let ready = telemetry.unready().is_empty();
    let status = telemetry.status.borrow().clone();
    match metrics::render(status, telemetry.vitals, telemetry.refused, ready) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The status, with what only the listener knows.
#[derive(serde::Serialize)]
struct FullStatus<'a> {
    version: &'static str,
    ready: bool,
    #[serde(flatten)]
    status: &'a Status,
    unready: Vec<String>,
    workers: Vec<WorkerVitals>,
    flows: FlowVitals,
    refused: Vec<Refused>,
}

async fn status(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    let unready = telemetry.unready();
    let status = telemetry.status.borrow().clone();
    let full = FullStatus {
        version: env!("CARGO_PKG_VERSION"),
        ready: unready.is_empty(),
        status: &status,
        unready,
        workers: telemetry.vitals.workers(),
        flows: telemetry.vitals.flows(),
        refused: telemetry.refused.recent(),
    };
    match serde_json::to_value(&full) {
        Ok(value) => Json(value).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// What would become of a packet.
async fn trace(State(telemetry): State<Telemetry>, body: String) -> impl IntoResponse {
    let request = match serde_json::from_str(&body) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let revision = telemetry.status.borrow().revision.clone();
    match telemetry.tracer.trace(request, revision).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error @ TraceError::Field { .. }) => {
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

async fn level(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    telemetry.log.get() + "\n"
}

async fn set_level(State(telemetry): State<Telemetry>, body: String) -> impl IntoResponse {
    match telemetry.log.set(&body) {
        Ok(()) => {
            let level = telemetry.log.get();
            tracing::info!(%level, "the log's level has been changed");
            (StatusCode::OK, level + "\n")
        }
        Err(error) => (StatusCode::BAD_REQUEST, error + "\n"),
    }
}
