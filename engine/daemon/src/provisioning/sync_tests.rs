//! The client against a real server, with real mutual TLS, whose every word is scripted.

use super::super::model::Target;
use super::*;
use crate::reconcile::counted::Totals;
use crate::runtime::BusyCycles;
use crate::telemetry::{FlowVitals, WorkerVitals};
use core::net::Ipv4Addr;
use overlane_api::pki::Authority;
use overlane_api::sync::sync_server::{Sync, SyncServer};
use overlane_api::tls::TlsFiles;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::failure::{Failure, Origin};
use overlane_dataplane::id::VnetId;
use std::pin::Pin;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic::{Response, Status};

/// One stream, from the server's side.
struct Served {
    incoming: Streaming<EngineMessage>,
    outgoing: mpsc::Sender<Result<ServiceMessage, Status>>,
    /// Which host it says it is of.
    host: Option<String>,
}

/// A request for a mapping, and the way to answer it.
type Asked = (proto::ResolveRequest, oneshot::Sender<Result<proto::ResolveResponse, Status>>);

struct Scripted(mpsc::Sender<Served>, mpsc::Sender<Asked>);

#[tonic::async_trait]
impl Sync for Scripted {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<ServiceMessage, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: tonic::Request<Streaming<EngineMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (outgoing, stream) = mpsc::channel(64);
        let host = request.metadata().get(proto::HOST_METADATA).map(|host| host.to_str().unwrap().to_owned());
        let _ = self.0.send(Served { incoming: request.into_inner(), outgoing, host }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn resolve(
        &self,
        request: tonic::Request<proto::ResolveRequest>,
    ) -> Result<Response<proto::ResolveResponse>, Status> {
        let (answer, answered) = oneshot::channel();
        let _ = self.1.send((request.into_inner(), answer)).await;
        let answer = answered.await.unwrap_or_else(|_| Err(Status::unavailable("gone")));
        answer.map(Response::new)
    }
}

impl Served {
    async fn hear(&mut self) -> Outgoing {
        let wait = tokio::time::timeout(Duration::from_secs(20), self.incoming.message());
        wait.await.expect("a message in time").unwrap().unwrap().body.unwrap()
    }

    async fn hello(&mut self) -> proto::Hello {
        match self.hear().await {
            Outgoing::Hello(hello) => hello,
            other => panic!("Hello comes first, not {other:?}"),
        }
    }

    async fn say(&self, body: Incoming) {
        self.outgoing.send(Ok(ServiceMessage { body: Some(body) })).await.unwrap();
    }

    async fn welcome(&self) {
        self.welcome_with(|_| {}).await;
    }

    async fn welcome_with(&self, spoil: impl FnOnce(&mut proto::Welcome)) {
        let host =
            proto::Host { id: "host-a".into(), layout: "slot64".into(), prefix: "fd00:0:0:a::/64".into() };
        let mut welcome = proto::Welcome {
            protocol_version: PROTOCOL_VERSION,
            service_version: "9".into(),
            host: Some(host),
        };
        spoil(&mut welcome);
        self.say(Incoming::Welcome(welcome)).await;
    }

    async fn snapshot(&self, number: u64, parts: Vec<proto::Change>) {
        let revision = Some(wire_revision(number));
        self.say(Incoming::SnapshotBegin(proto::SnapshotBegin { revision: revision.clone() })).await;
        self.say(Incoming::SnapshotPart(proto::Changes { changes: parts })).await;
        self.say(Incoming::SnapshotEnd(proto::SnapshotEnd { revision })).await;
    }

    async fn delta(&self, number: u64, changes: Vec<proto::Change>) {
        let changes = Some(proto::Changes { changes });
        self.say(Incoming::Delta(proto::Delta { revision: Some(wire_revision(number)), changes })).await;
    }
}

/// The workers of an engine, and nothing else of it.
#[derive(Debug, Default)]
struct Workers(parking_lot::Mutex<Vec<WorkerVitals>>);

impl Vitals for Workers {
    fn workers(&self) -> Vec<WorkerVitals> {
        self.0.lock().clone()
    }

    fn buffers(&self) -> (u32, u32) {
        (0, 0)
    }

    fn flows(&self) -> FlowVitals {
        FlowVitals::default()
    }

    fn stalled(&self) -> Option<String> {
        None
    }

    fn unplaced(&self) -> Totals {
        Totals::default()
    }
}

struct World {
    directory: tempfile::TempDir,
    authority: Authority,
    streams: mpsc::Receiver<Served>,
    events: mpsc::Receiver<Event>,
    applied: watch::Sender<Applied>,
    reports: watch::Sender<Arc<Reports>>,
    workers: Arc<Workers>,
    requests: mpsc::Sender<Request>,
    asked: mpsc::Receiver<Asked>,
    refused: Arc<EventLog>,
}

async fn world(certificate_name: &str) -> World {
    world_with(certificate_name, true).await
}

async fn world_with(certificate_name: &str, secure: bool) -> World {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::generate("test").unwrap();
    let server = authority.provision(directory.path(), "service", &["control.test"]).unwrap();
    let engine = authority.provision(directory.path(), "engine", &[certificate_name]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stream_sender, streams) = mpsc::channel(4);
    let (asked_sender, asked) = mpsc::channel(4);
    let pem = |file: &std::path::Path| std::fs::read(file).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(pem(&server.certificate), pem(&server.key)))
        .client_ca_root(Certificate::from_pem(pem(&server.ca)));
    let mut builder = tonic::transport::Server::builder();
    if secure {
        builder = builder.tls_config(tls).unwrap();
    }
    let router = builder.add_service(SyncServer::new(Scripted(stream_sender, asked_sender)));
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    let (event_sender, events) = mpsc::channel(4);
    let (applied, applied_in) = watch::channel(Applied::default());
    let (reports, reports_in) = watch::channel(Arc::default());
    let workers = Arc::new(Workers::default());
    let (requests, requests_in) = super::super::resolve::channel();
    let refused = Arc::<EventLog>::default();
    let service =
        ServiceConfig { address, server_name: "control.test".into(), tls: secure.then_some(engine) };
    let client = Client {
        service,
        host: "host-a".into(),
        layout: None,
        capacity: 64,
        events: event_sender,
        applied: applied_in,
        requests: requests_in,
        reports: reports_in,
        refused: refused.clone(),
        vitals: workers.clone(),
    };
    tokio::spawn(client.run());
    World { directory, authority, streams, events, applied, reports, workers, refused, requests, asked }
}

impl World {
    async fn stream(&mut self) -> Served {
        let wait = tokio::time::timeout(Duration::from_secs(20), self.streams.recv());
        wait.await.expect("a stream in time").unwrap()
    }

    /// The next event that is not about the connection going down.
    async fn event(&mut self) -> Event {
        loop {
            let wait = tokio::time::timeout(Duration::from_secs(20), self.events.recv());
            match wait.await.expect("an event in time").unwrap() {
                Event::Connection(Connection::Down(_)) => {}
                event => return event,
            }
        }
    }

    async fn up(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, Event::Connection(Connection::Up { .. })), "{event:?}");
    }

    async fn down(&mut self) -> String {
        loop {
            let wait = tokio::time::timeout(Duration::from_secs(20), self.events.recv());
            if let Event::Connection(Connection::Down(why)) = wait.await.expect("an event in time").unwrap() {
                return why;
            }
        }
    }

    fn apply(&self, number: u64) {
        let revision = Some(Revision { incarnation: [3; 16], number });
        self.applied.send_replace(Applied { revision, layout: Some(Layout::Slot64) });
    }
}

fn wire_revision(number: u64) -> proto::Revision {
    proto::Revision { incarnation: vec![3; 16], number }
}

fn put(revision: u64, last: u32) -> proto::Change {
    let mapping = proto::Mapping {
        key: Some(proto::MappingKey { vnet: 7, ipv4: 0x0a00_0000 + last }),
        location: Some(proto::Location { prefix: vec![0xfd, 0, 0, 0, 0, 0, 0, 11], slot: 1 }),
        also_accept: None,
        state: proto::MappingState::Live.into(),
        tags: Vec::new(),
    };
    proto::Change { revision, what: Some(proto::change::What::PutMapping(mapping)) }
}

fn target(last: u8) -> Target {
    Target { vnet: VnetId::new(7).unwrap(), ipv4: Ipv4Addr::new(10, 0, 0, last) }
}

fn ack(number: u64) -> Outgoing {
    Outgoing::Ack(proto::Ack { revision: Some(wire_revision(number)) })
}

#[tokio::test]
async fn a_revision_is_acknowledged_when_it_is_applied_and_not_before() {
    let mut world = world("host-a").await;
    let mut stream = world.stream().await;
    let hello = stream.hello().await;
    assert_eq!((hello.protocol_version, hello.last_applied, hello.capacity), (PROTOCOL_VERSION, None, 64));
    stream.welcome().await;
    world.up().await;
    stream.snapshot(4, vec![put(2, 5), put(4, 6)]).await;
    let Event::Snapshot(state) = world.event().await else { panic!("a snapshot") };
    assert_eq!(state.mappings.len(), 2);
    assert_eq!(state.mappings[&target(6)].revision, 4);
    assert_eq!(state.host.unwrap().value.id, "host-a");
    stream.delta(7, vec![put(7, 8)]).await;
    let Event::Delta { revision, changes } = world.event().await else { panic!("a delta") };
    assert_eq!((revision.number, changes.len()), (7, 1));
    // Nothing has been acknowledged: the first word after Hello is the acknowledgement of what is applied now.
    world.apply(4);
    assert_eq!(stream.hear().await, ack(4));
    world.apply(7);
    assert_eq!(stream.hear().await, ack(7));
}

#[tokio::test]
async fn reports_are_sent_when_they_change_and_all_of_them_to_a_new_stream() {
    let mut world = world("host-a").await;
    let report = |state| {
        let report =
            Report { state, detail: String::new(), groups: vec![Ipv4Addr::new(239, 1, 2, 3)], silent: true };
        Arc::new(Reports::from_iter([(Arc::from("n1/eth0"), report)]))
    };
    world.reports.send_replace(report(InterfaceState::Defined));
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome().await;
    world.up().await;
    let heard = |message, wanted: proto::InterfaceState| match message {
        Outgoing::InterfaceReport(report) => assert_eq!((report.state(), report.silent), (wanted, true)),
        other => panic!("{other:?}"),
    };
    heard(stream.hear().await, proto::InterfaceState::Defined);
    world.reports.send_replace(report(InterfaceState::Live));
    heard(stream.hear().await, proto::InterfaceState::Live);
    drop(stream);
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome().await;
    heard(stream.hear().await, proto::InterfaceState::Live);
}

/// Packets that were refused, from a prefix.
fn refuse(world: &World, prefix: &str, count: u64) {
    let failure = Failure {
        reason: DropReason::SrcPrefixMismatch,
        origin: Origin::Others,
        vnet: VnetId::new(7).ok(),
        claim: None,
        count,
    };
    world.refused.note(&failure, Some(prefix.to_owned()), None);
}

#[tokio::test]
async fn what_was_refused_is_told_once_behind_reports_and_kept_while_the_service_is_away() {
    let mut world = world("host-a").await;
    let told = |message: Outgoing| match message {
        Outgoing::EventsReport(report) => {
            report.events.into_iter().map(|event| (event.prefix, event.count)).collect::<Vec<_>>()
        }
        other => panic!("a report of events, not {other:?}"),
    };
    // Before there is a stream.
    refuse(&world, "fd00:0:0:b::/64", 3);
    let report =
        Report { state: InterfaceState::Live, detail: String::new(), groups: Vec::new(), silent: false };
    world.reports.send_replace(Arc::new(Reports::from_iter([(Arc::from("n1/eth0"), report)])));
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome().await;
    assert!(matches!(stream.hear().await, Outgoing::InterfaceReport(_)));
    assert_eq!(told(stream.hear().await), [("fd00:0:0:b::/64".to_owned(), 3)]);

    // The stream ends, more comes meanwhile, and the next stream hears it, and nothing of before.
    drop(stream);
    world.up().await;
    world.down().await;
    refuse(&world, "fd00:0:0:b::/64", 4);
    refuse(&world, "fd00:0:0:b::/64", 5);
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome().await;
    assert!(matches!(stream.hear().await, Outgoing::InterfaceReport(_)));
    assert_eq!(told(stream.hear().await), [("fd00:0:0:b::/64".to_owned(), 9)]);
}

#[tokio::test]
async fn workers_are_reported_to_each_new_stream_and_not_with_every_change() {
    let mut world = world("host-a").await;
    let worker = |packets| WorkerVitals {
        core: 3,
        packets,
        cycles: BusyCycles {
            receive: 300,
            classify: 250,
            authorise: 50,
            translate: 200,
            send: 100,
            turns: 1000,
        },
        busy: Duration::from_millis(2),
        total: Duration::from_secs(1),
        ..WorkerVitals::default()
    };
    let wanted = |packets| {
        let worker = proto::WorkerReport {
            core: 3,
            packets,
            receive_cycles: 300,
            classify_cycles: 250,
            authorise_cycles: 50,
            translate_cycles: 200,
            send_cycles: 100,
            turn_cycles: 1000,
            busy_us: 2_000,
            total_us: 1_000_000,
        };
        Outgoing::WorkersReport(proto::WorkersReport { workers: vec![worker] })
    };
    *world.workers.0.lock() = vec![worker(10)];
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome().await;
    assert_eq!(stream.hear().await, wanted(10));

    // What happens meanwhile is told by itself.
    let begin = Instant::now();
    *world.workers.0.lock() = vec![worker(20)];
    for number in 1..=3 {
        let report = Report {
            state: InterfaceState::Live,
            detail: number.to_string(),
            groups: Vec::new(),
            silent: false,
        };
        world.reports.send_replace(Arc::new(Reports::from_iter([(Arc::from("n1/eth0"), report)])));
        assert!(matches!(stream.hear().await, Outgoing::InterfaceReport(_)));
    }
    assert_eq!(stream.hear().await, wanted(20));
    assert!(begin.elapsed() > Duration::from_secs(2), "{:?}", begin.elapsed());

    drop(stream);
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome().await;
    let heard = [stream.hear().await, stream.hear().await];
    assert!(heard.contains(&wanted(20)), "{heard:?}");
}

#[tokio::test]
async fn a_new_stream_goes_on_from_what_is_applied() {
    let mut world = world("host-a").await;
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome().await;
    world.up().await;
    stream.snapshot(4, vec![]).await;
    world.event().await;
    world.apply(4);
    assert_eq!(stream.hear().await, ack(4));
    drop(stream);
    let mut stream = world.stream().await;
    assert_eq!(stream.hello().await.last_applied, Some(wire_revision(4)));
    stream.welcome().await;
    world.up().await;
    stream.delta(4, vec![put(4, 5)]).await;
    stream.delta(5, vec![put(5, 5)]).await;
    // What is known already is not passed on.
    let Event::Delta { revision, .. } = world.event().await else { panic!("a delta") };
    assert_eq!(revision.number, 5);
}

#[tokio::test]
async fn without_tls_the_engine_says_which_host_it_is_and_with_it_its_certificate_does() {
    for secure in [false, true] {
        let mut world = world_with("host-a", secure).await;
        let mut stream = world.stream().await;
        stream.hello().await;
        stream.welcome().await;
        world.up().await;
        assert_eq!(stream.host.as_deref(), (!secure).then_some("host-a"));
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_to_a_new_stream_that_goes_on_where_the_old_one_was() {
    let mut world = world("host-a").await;
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome().await;
    world.up().await;
    stream.snapshot(4, vec![]).await;
    world.event().await;
    // What cannot be used yet changes nothing.
    let key = world.directory.path().join("engine.key");
    std::fs::write(&key, "nonsense").unwrap();
    world.apply(4);
    assert_eq!(stream.hear().await, ack(4));
    world.authority.provision(world.directory.path(), "engine", &["host-a"]).unwrap();
    let mut renewed = world.stream().await;
    assert_eq!(renewed.hello().await.last_applied, Some(wire_revision(4)));
    renewed.welcome().await;
    // Nobody hears that the service was away: it was not.
    let wait = tokio::time::timeout(Duration::from_secs(20), world.events.recv());
    let event = wait.await.expect("an event in time").unwrap();
    assert!(matches!(event, Event::Connection(Connection::Up { .. })), "{event:?}");
    renewed.delta(5, vec![put(5, 5)]).await;
    let Event::Delta { revision, .. } = world.event().await else { panic!("a delta") };
    assert_eq!(revision.number, 5);
}

#[tokio::test]
async fn hostile_messages_are_refused_and_everything_is_asked_for_anew() {
    let mut world = world("host-a").await;
    world.apply(4);
    let bad_mapping = || {
        let mut change = put(9, 5);
        if let Some(proto::change::What::PutMapping(mapping)) = &mut change.what {
            mapping.location.as_mut().unwrap().slot = 64;
        }
        change
    };
    let delta = |changes| {
        let changes = Some(proto::Changes { changes });
        Incoming::Delta(proto::Delta { revision: Some(wire_revision(9)), changes })
    };
    let other = proto::Revision { incarnation: vec![4; 16], number: 9 };
    let delete = proto::Change { revision: 1, what: Some(proto::change::What::DeleteVnet(7)) };
    let hostile = [
        (vec![delta(vec![bad_mapping()])], "mapping.location.slot must be 0 to 63, not 64"),
        (vec![Incoming::SnapshotEnd(proto::SnapshotEnd { revision: None })], "revision must be present"),
        (vec![Incoming::SnapshotPart(proto::Changes::default())], "a snapshot part outside a snapshot"),
        (
            vec![Incoming::Delta(proto::Delta { revision: Some(other), changes: None })],
            "a delta without a snapshot",
        ),
        (
            vec![
                Incoming::SnapshotBegin(proto::SnapshotBegin { revision: Some(wire_revision(9)) }),
                Incoming::SnapshotPart(proto::Changes { changes: vec![delete] }),
            ],
            "a deletion in a snapshot",
        ),
    ];
    for (index, (messages, why)) in hostile.into_iter().enumerate() {
        let mut stream = world.stream().await;
        let last_applied = stream.hello().await.last_applied;
        assert_eq!(last_applied.is_some(), index == 0, "after a refusal everything is asked for");
        stream.welcome().await;
        for message in messages {
            stream.say(message).await;
        }
        let told = world.down().await;
        assert!(told.starts_with("refused a message: ") && told.contains(why), "{told}");
    }
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome_with(|welcome| welcome.protocol_version = PROTOCOL_VERSION + 2).await;
    let told = world.down().await;
    assert!(told.contains("speaks protocol version"), "{told}");
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome_with(|welcome| welcome.host.as_mut().unwrap().id = "host-b".into()).await;
    let told = world.down().await;
    assert!(told.contains("the service takes us for \"host-b\""), "{told}");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named_with_the_reason() {
    let mut world = world("host-a").await;
    let stream = world.stream().await;
    drop(stream);
    let mut with = ServiceConfig {
        address: "127.0.0.1:1".into(),
        server_name: "control.test".into(),
        tls: Some(TlsFiles {
            ca: world.directory.path().join("ca.crt"),
            certificate: world.directory.path().join("engine.crt"),
            key: world.directory.path().join("engine.key"),
            crl: None,
        }),
    };
    let (events, mut told) = mpsc::channel(4);
    let client = |service: ServiceConfig, events| Client {
        service,
        host: "host-a".into(),
        layout: None,
        capacity: 64,
        events,
        applied: world.applied.subscribe(),
        requests: super::super::resolve::channel().1,
        reports: world.reports.subscribe(),
        refused: world.refused.clone(),
        vitals: world.workers.clone(),
    };
    tokio::spawn(client(with.clone(), events.clone()).run());
    let Some(Event::Connection(Connection::Down(why))) = told.recv().await else { panic!("down") };
    assert!(why.contains("cannot reach 127.0.0.1:1") && why.contains("refused"), "{why}");
    with.tls.as_mut().unwrap().ca = "/nonexistent/ca.crt".into();
    let (events, mut told) = mpsc::channel(4);
    tokio::spawn(client(with, events).run());
    let Some(Event::Connection(Connection::Down(why))) = told.recv().await else { panic!("down") };
    assert!(why.contains("/nonexistent/ca.crt"), "{why}");
}

fn request(last: u8) -> Request {
    Request { interface: "n1/eth0".into(), target: target(last) }
}

#[tokio::test]
async fn requests_are_answered_beside_the_stream_and_each_with_what_the_service_says() {
    let mut world = world("host-a").await;
    let mut stream = world.stream().await;
    stream.hello().await;
    stream.welcome().await;
    world.up().await;
    world.requests.send(request(1)).await.unwrap();
    world.requests.send(request(2)).await.unwrap();
    let (first, answer_first) = world.asked.recv().await.unwrap();
    let (_, answer_second) = world.asked.recv().await.unwrap();
    // Two are under way at once, and one that waits does not stop the stream.
    stream.snapshot(5, vec![put(1, 1)]).await;
    assert!(matches!(world.event().await, Event::Snapshot(_)));
    let (first_last, second_last) = if first.target == 0x0a00_0001 { (1, 2) } else { (2, 1) };
    assert_eq!((first.vnet, first.interface_id.as_str()), (7, "n1/eth0"));
    let refusal = proto::Refusal { reason: proto::RefusalReason::Forbidden.into(), detail: "no".into() };
    let response = |outcome| proto::ResolveResponse {
        outcome: Some(outcome),
        revision: Some(wire_revision(5)),
        mapping_revision: 3,
    };
    answer_second.send(Ok(response(proto::resolve_response::Outcome::Refusal(refusal)))).unwrap();
    let Event::Resolved(of, Ok(resolution)) = world.event().await else { panic!("resolved") };
    assert_eq!((of, resolution.outcome), (request(second_last), Err(proto::RefusalReason::Forbidden)));
    let Some(proto::change::What::PutMapping(mapping)) = put(1, u32::from(first_last)).what else { panic!() };
    answer_first.send(Ok(response(proto::resolve_response::Outcome::Mapping(mapping.clone())))).unwrap();
    let Event::Resolved(of, Ok(resolution)) = world.event().await else { panic!("resolved") };
    assert_eq!((of, resolution.revision.number), (request(first_last), 5));
    assert_eq!(resolution.outcome.unwrap().0, 3);
    // Somebody else's mapping is no answer, nor is a failure.
    world.requests.send(request(9)).await.unwrap();
    let (_, answer) = world.asked.recv().await.unwrap();
    answer.send(Ok(response(proto::resolve_response::Outcome::Mapping(mapping)))).unwrap();
    let Event::Resolved(_, Err(error)) = world.event().await else { panic!("refused") };
    assert!(error.contains("resolve.mapping.key"), "{error}");
    world.requests.send(request(9)).await.unwrap();
    let (_, answer) = world.asked.recv().await.unwrap();
    answer.send(Err(Status::resource_exhausted("too many"))).unwrap();
    let Event::Resolved(_, Err(error)) = world.event().await else { panic!("failed") };
    assert!(error.contains("too many"), "{error}");
}
