//! One engine's stream.
//!
//! Nothing queues up for a slow engine: the stream remembers up to where the engine was told, and when the engine
//! has taken the last message, it is told what is different by then, or everything if that is shorter.

use super::hub::{Introduction, Ticket};
use super::{SyncService, blocking};
use crate::ledger::{Audience, Catchup, Report, Reported, catch_up, snapshot};
use crate::store::Step;
use overlane_api::resource::InterfaceState;
use overlane_api::sync::{
    self, Changes, Delta, EngineMessage, Hello, PROTOCOL_VERSION, Revision, ServiceMessage, SnapshotBegin,
    SnapshotEnd, Welcome, engine_message, service_message::Body,
};
use overlane_dataplane::group;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

/// How long an engine may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// How long an engine may take to make room for the next part of a snapshot: it holds a view of the store open.
const STALL: Duration = Duration::from_secs(30);
/// The longest delta, in changes; beyond it a snapshot is sent.
const MAX_DELTA: usize = 4096;
/// Engines know of groups since this version of the protocol.
const GROUPS_SINCE: u32 = 3;
/// Reports of events that come sooner after the one before are left unread.
const EVENTS_APART: Duration = Duration::from_secs(4);
/// Of how many interfaces that are not its an engine can claim on one stream that they are live, and it is told.
const MAX_CLAIMS: usize = 64;
/// How many messages wait for an engine.
const QUEUE: usize = 4;

type Outbound = mpsc::Sender<Result<ServiceMessage, Status>>;

/// Takes an engine's hello and opens its stream.
pub(super) async fn open(
    service: SyncService,
    host: String,
    mut inbound: Streaming<EngineMessage>,
) -> Result<Response<ReceiverStream<Result<ServiceMessage, Status>>>, Status> {
    let first = timeout(HELLO, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello within 10 s"))??;
    let Some(engine_message::Body::Hello(hello)) = first.and_then(|message| message.body) else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    let Some(version) = sync::negotiate(hello.protocol_version) else {
        return Err(Status::failed_precondition(format!(
            "the engine speaks protocol version {}, the service {PROTOCOL_VERSION}; they may be one apart at most",
            hello.protocol_version
        )));
    };
    let introduction = introduction(&service, hello)?;
    let (outbound, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let ticket = Arc::new(service.hub.join(&host, introduction.clone()));
        tracing::info!(
            host,
            version = introduction.version,
            applied = introduction.applied,
            "engine connected"
        );
        service.metrics.streams.inc();
        let ended = tokio::select! {
            ended = tell(&service, &host, version, &introduction, &ticket, &outbound) => ended,
            ended = listen(&service, &host, &ticket, &mut inbound) => ended,
            () = ticket.replaced.cancelled() => Err(Status::aborted("another stream of this host took over")),
            () = service.shutdown.cancelled() => Err(Status::unavailable("the service is shutting down")),
        };
        match &ended {
            Ok(()) => tracing::info!(host, "engine disconnected"),
            Err(status) => tracing::info!(host, reason = status.message(), "stream ended"),
        }
        if let Err(status) = ended {
            // Whoever does not read has to do without the reason.
            let _ = timeout(Duration::from_secs(1), outbound.send(Err(status))).await;
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// The groups in a report, checked, sorted, each once.
fn joined(given: &[u32]) -> Result<Vec<Ipv4Addr>, Status> {
    let groups: BTreeSet<_> = given.iter().map(|bits| Ipv4Addr::from_bits(*bits)).collect();
    if given.len() > group::MAX_GROUPS || groups.iter().any(|group| !group.is_multicast()) {
        let most = group::MAX_GROUPS;
        return Err(Status::invalid_argument(format!(
            "InterfaceReport.groups must be up to {most} of 224.0.0.0/4"
        )));
    }
    Ok(groups.into_iter().collect())
}

fn introduction(service: &SyncService, hello: Hello) -> Result<Introduction, Status> {
    let version = hello.engine_version;
    if version.len() > 64 || version.chars().any(char::is_control) {
        return Err(Status::invalid_argument("engine_version must be up to 64 bytes of plain text"));
    }
    let applied = hello
        .last_applied
        .filter(|revision| revision.incarnation == service.ledger.incarnation())
        .map(|revision| revision.number);
    // From the future of this history: it cannot be ours.
    let applied = applied.filter(|number| *number <= *service.ledger.revisions().borrow());
    Ok(Introduction { version, capacity: hello.capacity, applied })
}

fn message(body: Body) -> Result<ServiceMessage, Status> {
    Ok(ServiceMessage { body: Some(body) })
}

/// Tells the engine what it needs, until there is a reason to stop.
async fn tell(
    service: &SyncService,
    host: &str,
    version: u32,
    engine: &Introduction,
    ticket: &Arc<Ticket>,
    outbound: &Outbound,
) -> Result<(), Status> {
    let ledger = &service.ledger;
    let revision = |number| Some(Revision { incarnation: ledger.incarnation().to_vec(), number });
    let own = {
        let host = host.to_owned();
        blocking(ledger, move |ledger| crate::ledger::delta::host(&*ledger.view()?, ledger.layout(), &host))
            .await?
    };
    let own =
        own.ok_or_else(|| Status::permission_denied(format!("host {host} is not provisioned any more")))?;
    let welcome = Welcome {
        protocol_version: version,
        service_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: Some(own),
    };
    if outbound.send(message(Body::Welcome(welcome))).await.is_err() {
        return Ok(());
    }
    let mut revisions = ledger.revisions();
    let groups = version >= GROUPS_SINCE;
    let mut told = engine.applied;
    let mut first = true;
    loop {
        revisions.mark_unchanged();
        let since = told;
        let wanted = host.to_owned();
        let next = blocking(ledger, move |ledger| {
            let view = ledger.view()?;
            let layout = ledger.layout();
            if crate::ledger::delta::host(&*view, layout, &wanted)?.is_none() {
                return Ok(None);
            }
            match since {
                Some(since) => {
                    let audience = Audience { layout, host: &wanted, groups };
                    catch_up(&*view, audience, since, MAX_DELTA).map(Some)
                }
                None => Ok(Some(Catchup::Snapshot)),
            }
        })
        .await?;
        let next = next
            .ok_or_else(|| Status::permission_denied(format!("host {host} is not provisioned any more")))?;
        match next {
            // The first answer says that the engine is up to date, even if there is nothing else to say.
            Catchup::Nothing(now) if first => {
                send_delta(service, ticket, outbound, revision(now), now, Vec::new()).await?;
                told = Some(now);
            }
            Catchup::Nothing(now) => {
                ticket.covered(now);
                told = Some(now);
            }
            Catchup::Delta(now, changes) => {
                send_delta(service, ticket, outbound, revision(now), now, changes).await?;
                told = Some(now);
            }
            Catchup::Snapshot => {
                told = Some(send_snapshot(service, (host, groups), ticket, outbound).await?);
            }
        }
        first = false;
        if revisions.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn gone<T>(_: T) -> Status {
    Status::cancelled("the engine went away")
}

async fn send_delta(
    service: &SyncService,
    ticket: &Ticket,
    outbound: &Outbound,
    revision: Option<Revision>,
    number: u64,
    changes: Vec<sync::Change>,
) -> Result<(), Status> {
    let permit = outbound.reserve().await.map_err(gone)?;
    ticket.sending(number);
    service.metrics.deltas.inc();
    permit.send(message(Body::Delta(Delta { revision, changes: Some(Changes { changes }) })));
    Ok(())
}

/// Sends everything, in parts, from one view of the store.
async fn send_snapshot(
    service: &SyncService,
    (host, groups): (&str, bool),
    ticket: &Arc<Ticket>,
    outbound: &Outbound,
) -> Result<u64, Status> {
    // Each one occupies a thread for as long as the engine takes to read it.
    let _turn = service.hub.snapshot_turn().await;
    service.metrics.snapshots.inc();
    ticket.starts_over();
    let (outbound, ticket, host) = (outbound.clone(), ticket.clone(), host.to_owned());
    let incarnation = service.ledger.incarnation().to_vec();
    let runtime = tokio::runtime::Handle::current();
    let stalled = Status::aborted("the engine does not read its snapshot");
    let sent = blocking(&service.ledger, move |ledger| {
        let view = ledger.view()?;
        let number = crate::ledger::record::revision(&*view)?;
        let revision = Some(Revision { incarnation, number });
        let send = |body: Body| match runtime.block_on(timeout(STALL, outbound.send(message(body)))) {
            Ok(Ok(())) => Step::Continue(()),
            _ => Step::Break(()),
        };
        if send(Body::SnapshotBegin(SnapshotBegin { revision: revision.clone() })).is_break() {
            return Ok(None);
        }
        let audience = Audience { layout: ledger.layout(), host: &host, groups };
        let told = snapshot(&*view, audience, &mut |changes| send(Body::SnapshotPart(Changes { changes })))?;
        if told.is_none() {
            return Ok(None);
        }
        ticket.sending(number);
        Ok(send(Body::SnapshotEnd(SnapshotEnd { revision })).is_continue().then_some(number))
    })
    .await?;
    sent.ok_or(stalled)
}

/// Whether an engine has everything that concerns it: what it says then is not about what was, and is under way.
fn is_in_step(service: &SyncService, host: &str) -> bool {
    let last = *service.ledger.revisions().borrow();
    service.hub.has_applied(host, last)
}

/// Hears what the engine says, until it ends the stream.
async fn listen(
    service: &SyncService,
    host: &str,
    ticket: &Ticket,
    inbound: &mut Streaming<EngineMessage>,
) -> Result<(), Status> {
    let mut last_events: Option<Instant> = None;
    let mut claims = 0;
    while let Some(message) = inbound.message().await? {
        match message.body {
            Some(engine_message::Body::Ack(ack)) => {
                let revision = ack.revision.unwrap_or_default();
                if revision.incarnation != service.ledger.incarnation()
                    || !ticket.acknowledged(revision.number)
                {
                    return Err(Status::invalid_argument(format!(
                        "Ack of revision {} that was not sent on this stream",
                        revision.number
                    )));
                }
            }
            Some(engine_message::Body::InterfaceReport(report)) => {
                let state = match sync::InterfaceState::try_from(report.state) {
                    Ok(sync::InterfaceState::Defined) => InterfaceState::Defined,
                    Ok(sync::InterfaceState::Attached) => InterfaceState::Attached,
                    Ok(sync::InterfaceState::Live) => InterfaceState::Live,
                    Ok(sync::InterfaceState::Gone) => InterfaceState::Gone,
                    _ => {
                        return Err(Status::invalid_argument(format!(
                            "InterfaceReport with state {}; legal: 1 (defined) to 4 (gone)",
                            report.state
                        )));
                    }
                };
                let joined = joined(&report.groups)?;
                service.metrics.reports.inc();
                let of = host.to_owned();
                let (id, reported) = blocking(&service.ledger, move |ledger| {
                    let said =
                        Report { state, detail: &report.detail, joined: &joined, silent: report.silent };
                    let reported = ledger.report(&of, &report.interface_id, &said)?;
                    tracing::debug!(host = of, interface = report.interface_id, %state, ?reported, "report");
                    Ok((report.interface_id, reported))
                })
                .await?;
                if reported != Reported::NotThere {
                    ticket.reported(id);
                } else if state == InterfaceState::Live && claims < MAX_CLAIMS && is_in_step(service, host) {
                    claims += 1;
                    let (events, of) = (service.events.clone(), host.to_owned());
                    blocking(&service.ledger, move |_| events.claimed(&of, &id)).await?;
                }
            }
            Some(engine_message::Body::WorkersReport(report)) => ticket.workers(report)?,
            Some(engine_message::Body::EventsReport(report)) => {
                let report = crate::events::check(service.ledger.layout(), host, report)?;
                // No engine of ours tells more often.
                if last_events.is_none_or(|last| last.elapsed() >= EVENTS_APART) {
                    last_events = Some(Instant::now());
                    let events = service.events.clone();
                    blocking(&service.ledger, move |_| events.report(report)).await?;
                }
            }
            Some(engine_message::Body::Hello(_)) => {
                return Err(Status::invalid_argument("a second Hello"));
            }
            // From a newer engine: it knows that we are older.
            None => {}
        }
    }
    Ok(())
}
