//! Certificates in wrong hands: an engine's that is used to ask for another host, and those that are good no more, or never
//! were.

use crate::fixture::Case;
use anyhow::{Context, Result, bail, ensure};
use overlane_api::event::Event;
use overlane_api::pki::{Authority, Kind};
use overlane_api::resource::{InterfaceState, Page};
use overlane_api::sync::engine_message::Body as Said;
use overlane_api::sync::resolve_response::Outcome;
use overlane_api::sync::service_message::Body as Told;
use overlane_api::sync::sync_client::SyncClient;
use overlane_api::sync::{
    self, Ack, EngineMessage, Hello, InterfaceReport, PROTOCOL_VERSION, RefusalReason, ResolveRequest,
    change::What,
};
use overlane_api::tls::{Credentials, GRPC_ALPN, TlsFiles, anonymous_client};
use overlane_cli::client::Client;
use overlane_cli::lab::certificates::{authority, file, place, revoke};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::metrics::Metrics;
use overlane_cli::lab::plan::Node;
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::provision::{self, with_client};
use overlane_cli::lab::service::{self, SERVER_NAME};
use overlane_cli::lab::session::EchoSession;
use overlane_cli::lab::wait;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

pub(crate) const CASES: &[Case] = &[
    Case::Shared(
        "attacks::certificates::one_hosts_certificate_gets_nothing_of_another_hosts_interfaces",
        other_host,
    ),
    Case::Shared("attacks::certificates::one_that_has_run_out_is_foreign_or_absent_gets_no_stream", useless),
    Case::Shared("attacks::certificates::one_that_names_no_host_gets_no_stream", stranger),
    Case::Shared(
        "attacks::certificates::a_revoked_engine_is_cut_off_and_a_new_certificate_brings_it_back",
        revoked,
    ),
];

const SOON: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

/// Whose interfaces are asked for, and with whose certificate.
const VICTIM: &str = "acme-1";
const THIEF: &str = "host-b";

/// Does `work` with a connection to the service's engines' listener, by these files.
fn connected<T, W>(
    lab: &Lab,
    files: &TlsFiles,
    work: impl FnOnce(SyncClient<Channel>) -> W + Send,
) -> Result<T>
where
    T: Send,
    W: Future<Output = Result<T>>,
{
    let credentials = Credentials::load(files)?;
    let address = format!("http://{}", lab.plan().sync_endpoint());
    lab.plan().service().enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let endpoint = Endpoint::from_shared(address)?.connect_timeout(SOON);
            let channel = credentials.grpc_connect(endpoint, SERVER_NAME).await?;
            tokio::time::timeout(SOON, work(SyncClient::new(channel))).await?
        })
    })
}

/// Says hello, as an engine that knows nothing yet.
async fn hello(
    client: &mut SyncClient<Channel>,
) -> Result<(mpsc::Sender<EngineMessage>, tonic::Streaming<sync::ServiceMessage>)> {
    let (out, outgoing) = mpsc::channel(4);
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        last_applied: None,
        engine_version: "attack".to_owned(),
        capacity: 64,
    };
    out.send(EngineMessage { body: Some(Said::Hello(hello)) }).await?;
    let incoming = client.subscribe(ReceiverStream::new(outgoing)).await?.into_inner();
    Ok((out, incoming))
}

/// Requires that a counter of the service grows by exactly one by what `work` does.
fn counts_once<T>(
    lab: &Lab,
    name: &str,
    labels: &[(&str, &str)],
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let read = || Ok::<_, anyhow::Error>(service::scrape(lab)?.sum(name, labels));
    let before = read()?;
    let done = work()?;
    // A client may know of its refusal before the service has counted it.
    wait::until(&format!("{name} {labels:?} to be counted"), SOON, || Ok((read()? > before).then_some(())))?;
    let counted = read()? - before;
    ensure!(counted == 1.0, "{name} {labels:?} is counted {counted} times");
    Ok(done)
}

fn talks(lab: &Lab, from: &Node, to: &Node) -> Result<()> {
    let pinged = ping(&lab.namespace(&from.id), to.ipv4, 2)?;
    ensure!(pinged.is_complete(), "{} does not answer {}", to.id, from.id);
    Ok(())
}

fn other_host(lab: &Lab) -> Result<()> {
    let (victim, neighbour) = (lab.node(VICTIM)?, lab.node("acme-3")?);
    ensure!(victim.host != THIEF && neighbour.host == THIEF, "the plan has changed");
    // A copy of what the engine itself uses.
    let files = TlsFiles {
        ca: file(lab, "ca.crt"),
        certificate: file(lab, &format!("{THIEF}.crt")),
        key: file(lab, &format!("{THIEF}.key")),
        crl: None,
    };
    let interface = format!("{VICTIM}/eth0");
    let asked = ResolveRequest {
        vnet: victim.vnet,
        interface_id: interface.clone(),
        target: neighbour.ipv4.to_bits(),
    };
    let outcome = ("outcome", "not_your_interface");
    let answer = counts_once(lab, "overlane_control_resolutions_total", &[outcome], || {
        connected(lab, &files, async |mut client| Ok(client.resolve(asked).await?.into_inner()))
    })?;
    match answer.outcome {
        Some(Outcome::Refusal(refusal)) if refusal.reason() == RefusalReason::NotYourInterface => {}
        other => bail!("the service answers {other:?}"),
    }

    // As a stream it hears of its own host's interfaces, and what it says of others is not believed.
    let told = |reason: &str| -> Result<u64> {
        let page: Page<Event> =
            with_client(lab, async |client: Client| client.get("/v1/events?limit=1000").await)?;
        let is = |event: &&Event| event.reason == reason && event.host.as_deref() == Some(THIEF);
        Ok(page.items.iter().filter(is).map(|event| event.count).sum())
    };
    let before = told("interface_not_placed")?;
    let heard: Vec<String> = connected(lab, &files, async |mut client| {
        let (out, mut incoming) = hello(&mut client).await?;
        let mut heard = Vec::new();
        while let Some(message) = incoming.message().await? {
            match message.body {
                Some(Told::SnapshotPart(part)) => {
                    heard.extend(part.changes.into_iter().filter_map(|change| match change.what {
                        Some(What::PutInterface(put)) => Some(put.id),
                        _ => None,
                    }))
                }
                Some(Told::SnapshotEnd(end)) => {
                    // Who is behind may have something to say of what it has not heard is gone.
                    let ack = Ack { revision: end.revision };
                    out.send(EngineMessage { body: Some(Said::Ack(ack)) }).await?;
                    break;
                }
                _ => {}
            }
        }
        let report = InterfaceReport {
            interface_id: interface.clone(),
            state: sync::InterfaceState::Live.into(),
            ..InterfaceReport::default()
        };
        out.send(EngineMessage { body: Some(Said::InterfaceReport(report)) }).await?;
        // The service reads to the end of what was said before it ends the stream.
        drop(out);
        while let Ok(Some(_)) = incoming.message().await {}
        Ok(heard)
    })?;
    wait::until(
        "the lie to be told of",
        SOON,
        || Ok((told("interface_not_placed")? > before).then_some(())),
    )?;
    let own: Vec<String> = lab
        .plan()
        .nodes
        .iter()
        .filter(|node| node.host == THIEF)
        .map(|node| format!("{}/eth0", node.id))
        .collect();
    ensure!(
        heard.len() == own.len() && heard.iter().all(|id| own.contains(id)),
        "{heard:?} instead of {own:?}"
    );
    ensure!(told("interface_not_placed")? == before + 1, "it is told more than once");
    let state = provision::node(lab, VICTIM)?.interfaces.first().map(|interface| interface.state);
    ensure!(state == Some(InterfaceState::Live), "{VICTIM} is {state:?}");
    // The true engine takes its stream back.
    lab.wait_healthy(SOON)?;
    talks(lab, &victim, &neighbour)
}

/// Requires that a handshake with this set-up comes to nothing, and is counted once for this reason.
fn refused(lab: &Lab, client: Arc<ClientConfig>, reason: &str) -> Result<()> {
    let labels = [("listener", "sync"), ("reason", reason)];
    let heard = counts_once(lab, "overlane_control_handshakes_refused_total", &labels, || {
        let (address, connector) = (lab.plan().sync_endpoint(), TlsConnector::from(client));
        lab.plan().service().enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let stream = tokio::net::TcpStream::connect(address).await?;
                // In TLS 1.3 the client is done before the server has seen its certificate: it is told when it reads.
                let mut stream = connector.connect(SERVER_NAME.try_into()?, stream).await?;
                Ok(stream.read(&mut [0]).await)
            })
        })
    })?;
    ensure!(heard.is_err(), "{reason}: something is said");
    Ok(())
}

fn useless(lab: &Lab) -> Result<()> {
    let set_up =
        |files: &TlsFiles| Ok::<_, anyhow::Error>(Credentials::load(files)?.rustls_client(GRPC_ALPN));
    // Loaded while it is good, shown when it is not.
    let short =
        place(lab, "short", &authority(lab)?.issue_for(Kind::Host, &[THIEF], Duration::from_secs(2))?)?;
    let (until, client) = (Credentials::load(&short)?.validity().until, set_up(&short)?);
    // Certificates count whole seconds.
    let is_over = || -> Result<bool> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        Ok(until < i64::try_from(now)?)
    };
    wait::until("the certificate to run out", SOON, || Ok(is_over()?.then_some(())))?;
    refused(lab, client, "expired")?;
    let foreign = Authority::generate("somebody else's")?.issue_for(Kind::Host, &[THIEF], DAY)?;
    refused(lab, set_up(&place(lab, "foreign", &foreign)?)?, "untrusted")?;
    refused(lab, anonymous_client(&file(lab, "ca.crt"), None)?, "no_certificate")?;
    talks(lab, &lab.node(VICTIM)?, &lab.node("acme-3")?)
}

fn stranger(lab: &Lab) -> Result<()> {
    let files = place(lab, "nobody", &authority(lab)?.issue_for(Kind::Host, &["host-z"], DAY)?)?;
    let outcome = counts_once(lab, "overlane_control_sync_strangers_total", &[], || {
        Ok(connected(lab, &files, async |mut client| hello(&mut client).await.map(|_| ())))
    })?;
    let error = outcome.err().context("a stream is opened")?;
    ensure!(format!("{error:#}").contains("no provisioned host is called host-z"), "{error:#}");
    Ok(())
}

/// Whether all engines are connected.
fn are_all_there(lab: &Lab) -> Result<bool> {
    let status = provision::status(lab)?;
    Ok(status.hosts_connected == status.hosts)
}

fn streams(metrics: &Metrics) -> f64 {
    metrics.sum("overlane_control_sync_streams_total", &[])
}

fn revoked(lab: &Lab) -> Result<()> {
    let (from, to) = (lab.node(VICTIM)?, lab.node("acme-3")?);
    let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
    // The engine takes its new certificate to a new stream by itself.
    let before = streams(&service::scrape(lab)?);
    let issued = authority(lab)?.issue_for(Kind::Host, &[THIEF], DAY)?;
    place(lab, THIEF, &issued)?;
    wait::until("the engine to come with its new certificate", SOON, || {
        Ok((streams(&service::scrape(lab)?) > before).then_some(()))
    })?;
    lab.wait_healthy(SOON)?;

    let cut = || {
        Ok::<_, anyhow::Error>(
            service::scrape(lab)?.sum("overlane_control_connections_cut_total", &[("reason", "revoked")]),
        )
    };
    let before = cut()?;
    revoke(lab, 2, &[issued.serial])?;
    wait::until("the engine to be cut off", SOON, || Ok((!are_all_there(lab)?).then_some(())))?;
    ensure!(cut()? - before == 1.0, "{} connections are cut", cut()? - before);
    // It does not come back, and what it knew it goes on forwarding by.
    let labels = [("listener", "sync"), ("reason", "revoked")];
    wait::until("it to be refused", SOON, || {
        Ok((service::scrape(lab)?.sum("overlane_control_handshakes_refused_total", &labels) >= 1.0)
            .then_some(()))
    })?;
    ensure!(!are_all_there(lab)?, "it is back");
    session.advance(50, SOON)?;

    place(lab, THIEF, &authority(lab)?.issue_for(Kind::Host, &[THIEF], DAY)?)?;
    lab.wait_healthy(SOON)?;
    session.advance(50, SOON)?;
    session.finish().map(|_| ())
}
