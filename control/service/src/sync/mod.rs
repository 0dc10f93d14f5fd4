//! The sync protocol's server: one stream per engine, and resolutions.

mod hub;
mod incoming;
mod stream;
mod workers;

pub use hub::Hub;
pub(crate) use incoming::incoming;

use crate::error::Error;
use crate::events::Events;
use crate::ledger::{Ledger, Resolution};
use crate::telemetry::{Metrics, ResolutionLabels};
use overlane_api::sync::HOST_METADATA;
use overlane_api::sync::resolve_response::Outcome;
use overlane_api::sync::sync_server::{Sync, SyncServer};
use overlane_api::sync::{EngineMessage, ResolveRequest, ResolveResponse, Revision, ServiceMessage};
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// The largest message taken from an engine, in bytes.
const MAX_REQUEST: usize = 64 << 10;

/// The sync service.
#[derive(Clone)]
pub struct SyncService {
    ledger: Arc<Ledger>,
    hub: Arc<Hub>,
    events: Arc<Events>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    /// Whether engines are believed who they are.
    insecure: bool,
}

impl SyncService {
    /// Puts it together; streams end when `shutdown` is cancelled.
    #[must_use]
    pub fn new(
        ledger: Arc<Ledger>,
        hub: Arc<Hub>,
        events: Arc<Events>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { ledger, hub, events, metrics, shutdown, insecure: false }
    }

    /// The same without certificates: each engine is whose it says it is. For this machine alone.
    #[must_use]
    pub fn insecure(self) -> Self {
        Self { insecure: true, ..self }
    }

    /// As a gRPC server.
    #[must_use]
    pub fn into_server(self) -> SyncServer<Self> {
        SyncServer::new(self).max_decoding_message_size(MAX_REQUEST)
    }

    /// The host that the peer speaks for: a name in its certificate that is a provisioned host.
    async fn identify<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let names = if self.insecure { said(request)? } else { certified(request)? };
        let said = names.join(", ");
        let layout = self.ledger.layout();
        let host = blocking(&self.ledger, move |ledger| {
            let view = ledger.view()?;
            for name in names {
                if crate::ledger::delta::host(&*view, layout, &name)?.is_some() {
                    return Ok(Some(name));
                }
            }
            Ok(None)
        })
        .await?;
        host.ok_or_else(|| {
            self.metrics.strangers.inc();
            Status::permission_denied(format!("no provisioned host is called {said}"))
        })
    }
}

/// The names in the peer's certificate.
fn certified<T>(request: &Request<T>) -> Result<Vec<String>, Status> {
    let certificates =
        request.peer_certs().ok_or_else(|| Status::unauthenticated("no certificate was shown"))?;
    let leaf = certificates.first().ok_or_else(|| Status::unauthenticated("no certificate was shown"))?;
    let names =
        overlane_api::tls::dns_names(leaf).map_err(|error| Status::unauthenticated(error.to_string()))?;
    if names.is_empty() {
        return Err(Status::unauthenticated("the certificate has no DNS name in its SAN"));
    }
    Ok(names)
}

/// The name that the peer gives itself.
fn said<T>(request: &Request<T>) -> Result<Vec<String>, Status> {
    let name = request.metadata().get(HOST_METADATA).and_then(|name| name.to_str().ok());
    name.map(|name| vec![name.to_owned()])
        .ok_or_else(|| Status::unauthenticated(format!("no {HOST_METADATA} was given")))
}

/// Runs something that blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    ledger: &Arc<Ledger>,
    work: impl FnOnce(&Ledger) -> crate::error::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let ledger = ledger.clone();
    match tokio::task::spawn_blocking(move || work(&ledger)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(status(&error)),
        Err(_) => Err(Status::internal("the service's worker failed")),
    }
}

fn status(error: &Error) -> Status {
    match error {
        Error::Refused(detail) => Status::invalid_argument(detail.to_string()),
        other => {
            tracing::error!(error = %other, "the store failed");
            Status::internal("the store failed; the service's log says more")
        }
    }
}

#[tonic::async_trait]
impl Sync for SyncService {
    type SubscribeStream = ReceiverStream<Result<ServiceMessage, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<EngineMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let host = self.identify(&request).await.inspect_err(|status| {
            tracing::warn!(peer = ?request.remote_addr(), message = status.message(), "refused a stream");
        })?;
        stream::open(self.clone(), host, request.into_inner()).await
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let host = self.identify(&request).await?;
        let (asked, layout) = (request.into_inner(), self.ledger.layout());
        let events = self.events.clone();
        let (resolution, labels) = blocking(&self.ledger, move |ledger| {
            let resolution = crate::ledger::resolve(&*ledger.view()?, layout, &host, &asked)?;
            let labels = ResolutionLabels::of(&resolution.outcome);
            if let Outcome::Refusal(refusal) = &resolution.outcome {
                events.refused(&host, &asked, labels.outcome, &refusal.detail)?;
            }
            Ok((resolution, labels))
        })
        .await?;
        let Resolution { outcome, revision: number, mapping_revision } = resolution;
        self.metrics.resolutions.get_or_create(&labels).inc();
        let revision = Some(Revision { incarnation: self.ledger.incarnation().to_vec(), number });
        Ok(Response::new(ResolveResponse { revision, outcome: Some(outcome), mapping_revision }))
    }
}
