//! The client of the service's sync stream.
//!
//! Whatever the service sends is checked before it leaves this module. A message that fails a check is refused whole,
//! the stream is ended, and the next one asks for a full snapshot.

use super::desired::DesiredState;
use super::model::{Host, Revision, What};
use super::resolve::{Request, Resolved};
use super::wire::{self, WireError};
use super::{Applied, Connection, Event, InterfaceState, Report, Reports};
use crate::config::ServiceConfig;
use crate::events::{self, EventLog};
use crate::telemetry::Vitals;
use core::time::Duration;
use hashbrown::HashMap;
use overlane_api::sync::engine_message::Body as Outgoing;
use overlane_api::sync::service_message::Body as Incoming;
use overlane_api::sync::sync_client::SyncClient;
use overlane_api::sync::{self as proto, EngineMessage, PROTOCOL_VERSION, ServiceMessage};
use overlane_api::tls::{Credentials, FilesState, TlsFiles};
use overlane_dataplane::address::Layout;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// The client, and its channels to the reconciler.
#[derive(Debug)]
pub struct Client {
    /// Where the service is.
    pub service: ServiceConfig,
    /// This host's id.
    pub host: String,
    /// The layout that the service must have, if configuration gives one.
    pub layout: Option<Layout>,
    /// How many interfaces the engine can attach.
    pub capacity: u32,
    /// To the reconciler.
    pub events: mpsc::Sender<Event>,
    /// What the data plane has applied.
    pub applied: watch::Receiver<Applied>,
    /// Mappings that the reconciler asks for.
    pub requests: mpsc::Receiver<Request>,
    /// How the interfaces are.
    pub reports: watch::Receiver<Arc<Reports>>,
    /// What was refused because of what senders claimed.
    pub refused: Arc<EventLog>,
    /// What the workers do.
    pub vitals: Arc<dyn Vitals>,
}

/// Largest message that is taken.
const MAX_MESSAGE: usize = 16 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// A service that does not answer a ping for this long is away.
const KEEPALIVE: Duration = Duration::from_secs(5);
const BACKOFF_LEAST: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// A stream that lasted this long was a good one: the next attempt comes soon.
const GOOD_STREAM: Duration = Duration::from_secs(30);

/// Requests for mappings that are under way at once; the next ones wait.
const MOST_RESOLVING: usize = 64;
/// A service that answers later than this is as good as away.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the service is told what the workers have done.
const WORKERS_REPORT: Duration = Duration::from_secs(5);
/// How often it is looked whether there is another certificate.
const RENEWAL: Duration = Duration::from_secs(2);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, String),
    #[error("{0}")]
    Tls(#[from] overlane_api::tls::TlsError),
    #[error("the service ended the stream: {0}")]
    Status(String),
    #[error("the service closed the stream")]
    Closed,
    #[error("no Welcome within {} s", WELCOME_TIMEOUT.as_secs())]
    NoWelcome,
    #[error(
        "the service speaks protocol version {0}, this engine {PROTOCOL_VERSION}; they may differ by one at most"
    )]
    Version(u32),
    #[error("{0}")]
    Disagreement(String),
    #[error("refused a message: {0}")]
    Refused(String),
    #[error("certificate, key, authorities or revocation lists have changed")]
    Renewed,
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Self::Refused(error.to_string())
    }
}

fn refused(why: &str) -> Ended {
    Ended::Refused(why.to_owned())
}

impl Client {
    /// Keeps a stream to the service for as long as the reconciler takes events.
    pub async fn run(mut self) {
        let mut backoff = BACKOFF_LEAST;
        let mut full = false;
        let mut last_error = String::new();
        loop {
            let start = Instant::now();
            let ended = match self.stream(full).await {
                Err(Ended::ShuttingDown) => return,
                Err(Ended::Renewed) => {
                    tracing::info!("{}; the stream goes on with them", Ended::Renewed);
                    (full, backoff) = (false, BACKOFF_LEAST);
                    continue;
                }
                Err(ended) => ended,
                Ok(never) => match never {},
            };
            // What was refused comes again unless everything is asked for anew.
            full = matches!(ended, Ended::Refused(_) | Ended::Disagreement(_));
            let error = ended.to_string();
            if error == last_error {
                tracing::debug!(%error, "still without the provisioning service");
            } else {
                tracing::warn!(%error, "without the provisioning service; forwarding goes on with the last state");
            }
            if self.events.send(Event::Connection(Connection::Down(error.clone()))).await.is_err() {
                return;
            }
            last_error = error;
            if start.elapsed() > GOOD_STREAM {
                backoff = BACKOFF_LEAST;
                last_error.clear();
            }
            tokio::select! {
                () = tokio::time::sleep(jitter(backoff)) => {}
                () = self.events.closed() => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MOST);
        }
    }

    async fn connect(&self) -> Result<(SyncClient<Channel>, Option<Renewal>), Ended> {
        let unreachable = |error: &tonic::transport::Error| {
            Ended::Unreachable(self.service.address.clone(), sources(error))
        };
        let endpoint = Endpoint::from_shared(format!("http://{}", self.service.address))
            .map_err(|error| unreachable(&error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let (channel, renewal) = match &self.service.tls {
            Some(files) => {
                // Read each time, so that a renewed certificate and the latest revocation list are used.
                let state = files.state();
                let credentials = Credentials::load(files)?;
                warn_of_end(&credentials);
                let renewal = Renewal { files: files.clone(), state, due: every(RENEWAL) };
                (credentials.grpc_connect(endpoint, &self.service.server_name).await, Some(renewal))
            }
            None => (endpoint.connect().await, None),
        };
        let channel = channel.map_err(|error| unreachable(&error))?;
        Ok((SyncClient::new(channel).max_decoding_message_size(MAX_MESSAGE), renewal))
    }

    /// One stream, from connecting to its end.
    async fn stream(&mut self, full: bool) -> Result<core::convert::Infallible, Ended> {
        let (mut client, renewal) = self.connect().await?;
        let applied = *self.applied.borrow_and_update();
        let last_applied = applied.revision.filter(|_| !full);
        let (out, outgoing) = mpsc::channel(16);
        let hello = proto::Hello {
            protocol_version: PROTOCOL_VERSION,
            last_applied: last_applied.map(wire::encode_revision),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            capacity: self.capacity,
        };
        let hello = EngineMessage { body: Some(Outgoing::Hello(hello)) };
        out.try_send(hello).map_err(|_| Ended::Closed)?;
        let welcome = async {
            let request = self.signed(ReceiverStream::new(outgoing));
            let response = client.subscribe(request).await.map_err(|s| status(&s))?;
            let mut incoming = response.into_inner();
            let message = next(&mut incoming).await?;
            Ok::<_, Ended>((message, incoming))
        };
        let (message, incoming) =
            tokio::time::timeout(WELCOME_TIMEOUT, welcome).await.map_err(|_| Ended::NoWelcome)??;
        let (host, service_version) = self.welcome(message)?;
        if last_applied.is_some() && applied.layout != Some(host.layout) {
            let message =
                format!("the substrate's layout is {} now; asking for everything anew", host.layout);
            return Err(Ended::Disagreement(message));
        }
        tracing::info!(host = %host.id, prefix = %host.prefix, %service_version, "in contact with the provisioning service");
        let layout = host.layout;
        let up = Event::Connection(Connection::Up { host: host.clone(), service_version });
        let mut session = Session {
            layout,
            host,
            incoming,
            out,
            reached: last_applied,
            staged: None,
            event: Some(up),
            ack: None,
            reported: HashMap::new(),
            rpc: client,
            resolving: JoinSet::new(),
            workers: None,
            workers_due: every(WORKERS_REPORT),
            refused: None,
            renewal,
        };
        let ended = session.run(self).await;
        if let Some(report) = session.refused.take() {
            self.refused.put_back(report);
        }
        ended
    }

    /// A message to the service, which says whom it is from where no certificate does.
    fn signed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if self.service.tls.is_none()
            && let Ok(host) = self.host.parse()
        {
            request.metadata_mut().insert(proto::HOST_METADATA, host);
        }
        request
    }

    fn welcome(&self, message: ServiceMessage) -> Result<(Host, String), Ended> {
        let Some(Incoming::Welcome(welcome)) = message.body else {
            return Err(refused("the first message must be Welcome"));
        };
        if proto::negotiate(welcome.protocol_version).is_none() {
            return Err(Ended::Version(welcome.protocol_version));
        }
        let host = wire::host(welcome.host.as_ref().ok_or_else(|| refused("Welcome without host"))?)?;
        if host.id != self.host {
            let message =
                format!("[engine] host is {:?}, and the service takes us for {:?}", self.host, host.id);
            return Err(Ended::Disagreement(message));
        }
        if let Some(layout) = self.layout
            && layout != host.layout
        {
            let message = format!("[substrate] layout is {layout}, and the service says {}", host.layout);
            return Err(Ended::Disagreement(message));
        }
        let version = welcome.service_version.chars().filter(|c| !c.is_control()).take(64).collect();
        Ok((host, version))
    }
}

/// One stream after its Welcome.
struct Session {
    layout: Layout,
    host: Host,
    incoming: Streaming<ServiceMessage>,
    out: mpsc::Sender<EngineMessage>,
    /// The revision that the last event brings the reconciler to.
    reached: Option<Revision>,
    /// The snapshot that is coming in.
    staged: Option<DesiredState>,
    /// The event that waits for the reconciler; nothing is read from the service meanwhile.
    event: Option<Event>,
    ack: Option<Revision>,
    reported: HashMap<Arc<str>, Report>,
    /// For requests beside the stream.
    rpc: SyncClient<Channel>,
    /// Requests that are under way.
    resolving: JoinSet<(Request, Resolved)>,
    /// What the workers have done, while the service is to be told.
    workers: Option<proto::WorkersReport>,
    workers_due: Interval,
    /// What the service is to be told of refused packets.
    refused: Option<events::Report>,
    renewal: Option<Renewal>,
}

/// The TLS files as they were when the stream began.
struct Renewal {
    files: TlsFiles,
    /// Of those that were tried last.
    state: FilesState,
    due: Interval,
}

impl Renewal {
    /// Whether there are others now, and they can be used.
    fn is_there(&mut self) -> bool {
        let state = self.files.state();
        if state == self.state {
            return false;
        }
        self.state = state;
        let loaded = Credentials::load(&self.files);
        if let Err(error) = &loaded {
            tracing::warn!(%error, "changed certificates or lists cannot be used; the stream goes on with those before");
        }
        loaded.is_ok()
    }
}

/// Whether there are other files, each time that it is due; never without any.
async fn renewed(renewal: &mut Option<Renewal>) -> bool {
    let Some(renewal) = renewal else { return core::future::pending().await };
    renewal.due.tick().await;
    renewal.is_there()
}

/// Says so if the certificate is in the last third of its life.
fn warn_of_end(credentials: &Credentials) {
    let validity = credentials.validity();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = validity.until.saturating_sub_unsigned(now);
    if left < (validity.until - validity.from) / 3 {
        tracing::warn!(
            seconds = left,
            "the engine's certificate runs out soon: the service will cut it off then"
        );
    }
}

/// At once, and then this often; after a pause no faster than that.
fn every(period: Duration) -> Interval {
    let mut due = interval(period);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}

impl Session {
    async fn run(&mut self, client: &mut Client) -> Result<core::convert::Infallible, Ended> {
        let out = self.out.clone();
        loop {
            let next_out = self.next_out(&client.reports.borrow());
            let quiet = self.is_quiet();
            tokio::select! {
                permit = client.events.reserve(), if self.event.is_some() => {
                    let permit = permit.map_err(|_| Ended::ShuttingDown)?;
                    if let Some(event) = self.event.take() {
                        permit.send(event);
                    }
                }
                message = next(&mut self.incoming), if self.event.is_none() => {
                    self.event = self.take(message?)?;
                }
                Some(request) = client.requests.recv(), if self.resolving.len() < MOST_RESOLVING => {
                    let asked = client.signed(question(&request));
                    self.resolving.spawn(resolve(self.rpc.clone(), (request, asked), self.layout));
                }
                Some(resolved) = self.resolving.join_next(), if self.event.is_none() => {
                    // A request that is lost to a panic is given up with the stream.
                    self.event = resolved.ok().map(|(request, resolved)| Event::Resolved(request, resolved));
                }
                permit = out.reserve(), if next_out.is_some() => {
                    let permit = permit.map_err(|_| Ended::Closed)?;
                    if let Some(body) = next_out {
                        self.note_sent(&body, &client.reports.borrow());
                        permit.send(EngineMessage { body: Some(body) });
                    }
                }
                changed = client.applied.changed() => {
                    changed.map_err(|_| Ended::ShuttingDown)?;
                    let applied = client.applied.borrow_and_update().revision;
                    // Only what this stream has brought, or what it began from, means something to its service.
                    self.ack = applied.filter(|applied| self.covers(*applied)).or(self.ack);
                }
                changed = client.reports.changed() => {
                    changed.map_err(|_| Ended::ShuttingDown)?;
                    let reports = client.reports.borrow_and_update();
                    self.reported.retain(|id, _| reports.contains_key(id));
                }
                () = client.refused.due(), if self.refused.is_none() => {
                    self.refused = client.refused.take();
                }
                renewed = renewed(&mut self.renewal), if quiet => {
                    if renewed {
                        return Err(Ended::Renewed);
                    }
                }
                _ = self.workers_due.tick() => {
                    self.workers = wire::workers(&client.vitals.workers());
                }
            }
        }
    }

    /// Whether nothing is under way that a new stream would not take up by itself.
    fn is_quiet(&self) -> bool {
        self.event.is_none() && self.staged.is_none() && self.ack.is_none() && self.resolving.is_empty()
    }

    fn covers(&self, applied: Revision) -> bool {
        self.reached.is_some_and(|reached| {
            reached.incarnation == applied.incarnation && applied.number <= reached.number
        })
    }

    /// What is to be said next: acknowledgements first, then the first report that the service does not have, then what the
    /// workers do, and last what they refused.
    fn next_out(&self, reports: &Reports) -> Option<Outgoing> {
        if let Some(revision) = self.ack {
            return Some(Outgoing::Ack(proto::Ack { revision: Some(wire::encode_revision(revision)) }));
        }
        let news = reports.iter().find(|(id, report)| self.reported.get(*id) != Some(*report));
        let Some((id, report)) = news else {
            let workers = self.workers.clone().map(Outgoing::WorkersReport);
            return workers.or_else(|| Some(Outgoing::EventsReport(self.refused.as_ref()?.encode())));
        };
        let state = match report.state {
            InterfaceState::Defined => proto::InterfaceState::Defined,
            InterfaceState::Attached => proto::InterfaceState::Attached,
            InterfaceState::Live => proto::InterfaceState::Live,
            InterfaceState::Gone => proto::InterfaceState::Gone,
        };
        Some(Outgoing::InterfaceReport(proto::InterfaceReport {
            interface_id: id.to_string(),
            state: state.into(),
            detail: report.detail.clone(),
            groups: report.groups.iter().map(|group| group.to_bits()).collect(),
            silent: report.silent,
        }))
    }

    fn note_sent(&mut self, body: &Outgoing, reports: &Reports) {
        match body {
            Outgoing::Ack(_) => self.ack = None,
            Outgoing::InterfaceReport(sent) => {
                if let Some((id, report)) = reports.get_key_value(sent.interface_id.as_str()) {
                    self.reported.insert(id.clone(), report.clone());
                }
            }
            Outgoing::WorkersReport(_) => self.workers = None,
            Outgoing::EventsReport(_) => self.refused = None,
            Outgoing::Hello(_) => {}
        }
    }

    /// Takes one message; an event when it completes one.
    fn take(&mut self, message: ServiceMessage) -> Result<Option<Event>, Ended> {
        match message.body.ok_or_else(|| refused("a message without body"))? {
            Incoming::Welcome(_) => Err(refused("a second Welcome")),
            Incoming::SnapshotBegin(begin) => {
                let revision = wire::revision(begin.revision.as_ref())?;
                let mut staged = DesiredState { revision: Some(revision), ..DesiredState::default() };
                let host = What::PutHost(self.host.clone());
                let _ = staged.apply(super::model::Change { revision: 0, what: host });
                self.staged = Some(staged);
                Ok(None)
            }
            Incoming::SnapshotPart(part) => {
                let layout = self.layout;
                let staged =
                    self.staged.as_mut().ok_or_else(|| refused("a snapshot part outside a snapshot"))?;
                for change in part.changes {
                    let change = wire::change(change, layout)?;
                    if let What::DeleteVnet(_) | What::DeleteInterface(_) | What::DeleteMapping(_) =
                        change.what
                    {
                        return Err(refused("a deletion in a snapshot"));
                    }
                    staged.apply(change).map_err(|error| Ended::Refused(error.to_string()))?;
                }
                Ok(None)
            }
            Incoming::SnapshotEnd(end) => {
                let revision = wire::revision(end.revision.as_ref())?;
                let staged = self.staged.take().ok_or_else(|| refused("the end of no snapshot"))?;
                if staged.revision != Some(revision) {
                    return Err(refused("a snapshot that ends with another revision than it began with"));
                }
                self.reached = Some(revision);
                Ok(Some(Event::Snapshot(Box::new(staged))))
            }
            Incoming::Delta(delta) => {
                if self.staged.is_some() {
                    return Err(refused("a delta inside a snapshot"));
                }
                let revision = wire::revision(delta.revision.as_ref())?;
                let reached = self.reached.ok_or_else(|| refused("a delta without a snapshot before it"))?;
                if reached.incarnation != revision.incarnation {
                    return Err(refused("a delta of another incarnation"));
                }
                if revision.number <= reached.number {
                    tracing::debug!(%revision, %reached, "a delta that is known already");
                    return Ok(None);
                }
                let changes = delta.changes.unwrap_or_default().changes;
                let changes = changes
                    .into_iter()
                    .map(|change| wire::change(change, self.layout))
                    .collect::<Result<Vec<_>, _>>()?;
                self.reached = Some(revision);
                Ok(Some(Event::Delta { revision, changes }))
            }
        }
    }
}

/// Asks for one mapping.
fn question(request: &Request) -> proto::ResolveRequest {
    proto::ResolveRequest {
        vnet: request.target.vnet.get(),
        interface_id: request.interface.to_string(),
        target: request.target.ipv4.to_bits(),
    }
}

async fn resolve(
    mut rpc: SyncClient<Channel>,
    (request, asked): (Request, tonic::Request<proto::ResolveRequest>),
    layout: Layout,
) -> (Request, Resolved) {
    let resolved = match tokio::time::timeout(RESOLVE_TIMEOUT, rpc.resolve(asked)).await {
        Err(_) => Err(format!("no answer within {} s", RESOLVE_TIMEOUT.as_secs())),
        Ok(Err(error)) => Err(status(&error).to_string()),
        Ok(Ok(response)) => wire::resolution(response.into_inner(), request.target, layout)
            .map_err(|error| Ended::from(error).to_string()),
    };
    (request, resolved)
}

async fn next(incoming: &mut Streaming<ServiceMessage>) -> Result<ServiceMessage, Ended> {
    incoming.message().await.map_err(|error| status(&error))?.ok_or(Ended::Closed)
}

fn status(status: &tonic::Status) -> Ended {
    let message: String = status.message().chars().filter(|c| !c.is_control()).take(256).collect();
    Ended::Status(format!("{:?}: {message}", status.code()))
}

/// An error with its causes: TLS failures hide three levels deep.
fn sources(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Half to one and a half times `duration`, so that engines do not come back all at once.
fn jitter(duration: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as u32;
    duration / 2 + duration.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
