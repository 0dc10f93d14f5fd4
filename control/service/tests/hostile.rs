//! What is thrown at the listeners: bytes that are no TLS, HTTP/2 that is no gRPC, gRPC that is no protocol of ours, and what
//! was said once, said again. The service answers or hangs up, and goes on.

mod common;

use common::{Engine, SERVER_NAME, SOON, Site, furnished, hello};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use overlane_api::resource::InterfaceState as State;
use overlane_api::sync::{
    Ack, EngineMessage, EventsReport, InterfaceReport, InterfaceState, Revision, WorkersReport,
    engine_message::Body,
};
use overlane_api::tls::Credentials;
use overlane_control::service::Service;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// So many different ones, the same each time.
fn some<T: std::fmt::Debug>(count: usize, strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// That both listeners serve as before.
async fn serves(site: &Site, service: &Service) {
    // Any connection from before may have been idle for too long.
    let mut api = site.api(service).await;
    assert_eq!(api.get("/v1/hosts/host-a").await["id"], "host-a");
    let mut engine = site.engine(service, "host-b", None).await;
    engine.until_revision(1).await;
}

/// Sends bytes and reads until the other side hangs up, or has nothing to say.
async fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may hang up in the middle.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it hangs up");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_tls_are_hung_up_on() {
    let (site, service, _api) = furnished("").await;
    let mut thrown = some(60, prop::collection::vec(any::<u8>(), 0..600));
    // Like a TLS record, of which the rest never comes, or is nonsense.
    for mut record in some(60, prop::collection::vec(any::<u8>(), 5..300)) {
        record.splice(..5, [0x16, 3, 1, 0, 200]);
        thrown.push(record);
    }
    thrown.push(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    thrown.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
    for bytes in &thrown {
        throw(service.api_address(), bytes).await;
        throw(service.sync_address(), bytes).await;
    }
    serves(&site, &service).await;
}

/// An HTTP/2 connection of an engine, for what tonic's client would never send.
async fn http2(site: &Site, service: &Service) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let credentials = Credentials::load(&site.certificate("host-a")).unwrap();
    let stream = TcpStream::connect(service.sync_address()).await.unwrap();
    let connector = TlsConnector::from(credentials.rustls_client(&[b"h2"]));
    let stream = connector.connect(SERVER_NAME.try_into().unwrap(), stream).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Bytes as gRPC frames them.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_no_grpc_or_no_message_of_ours_are_refused() {
    let (site, service, _api) = furnished("").await;
    let mut bodies: Vec<Vec<u8>> = some(40, prop::collection::vec(any::<u8>(), 0..300));
    bodies.extend(some(40, prop::collection::vec(any::<u8>(), 0..300)).iter().map(|bytes| framed(bytes)));
    // A length that never comes, compressed nonsense, the longest number, and more than is taken.
    bodies.push(vec![0, 0xff, 0xff, 0xff, 0xff]);
    bodies.push(vec![1, 0, 0, 0, 3, 1, 2, 3]);
    bodies.push(framed(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]));
    bodies.push(framed(&vec![0; 1 << 20]));
    // Deeper than any message of ours.
    bodies.push(framed(&[0x0a, 0x7f].repeat(1000)));
    for path in ["/overlane.v1.Sync/Subscribe", "/overlane.v1.Sync/Resolve", "/overlane.v1.Sync/Nothing", "/"]
    {
        for kind in ["application/grpc", "application/grpc+proto", "text/plain"] {
            let mut sender = http2(&site, &service).await;
            for body in &bodies {
                if sender.ready().await.is_err() {
                    sender = http2(&site, &service).await;
                }
                let request = hyper::Request::builder()
                    .method("POST")
                    .uri(format!("https://{SERVER_NAME}{path}"))
                    .header("content-type", kind)
                    .header("te", "trailers")
                    .body(Full::new(Bytes::from(body.clone())))
                    .unwrap();
                let Ok(response) = timeout(SOON, sender.send_request(request)).await.expect("an answer")
                else {
                    continue;
                };
                let body = timeout(SOON, response.into_body().collect()).await.expect("the end of it");
                let trailers = body.ok().and_then(|body| body.trailers().cloned()).unwrap_or_default();
                assert_ne!(trailers.get("grpc-status").map(|status| status.as_bytes()), Some(&b"13"[..]));
            }
        }
    }
    serves(&site, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_says_what_no_engine_says_loses_its_stream_and_nothing_else() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let incarnation = prop::collection::vec(any::<u8>(), 0..20);
    let text = "\\PC{0,80}";
    let message = prop_oneof![
        (incarnation, any::<u64>()).prop_map(|(incarnation, number)| Body::Ack(Ack {
            revision: Some(Revision { incarnation, number }),
        })),
        (text, any::<i32>(), text, prop::collection::vec(any::<u32>(), 0..70), any::<bool>()).prop_map(
            |(interface_id, state, detail, groups, silent)| {
                Body::InterfaceReport(InterfaceReport { interface_id, state, detail, groups, silent })
            }
        ),
        (0usize..2000).prop_map(|count| Body::WorkersReport(WorkersReport {
            workers: vec![Default::default(); count],
        })),
        (0usize..100)
            .prop_map(|count| Body::EventsReport(EventsReport { events: vec![Default::default(); count] })),
        Just(Body::Hello(hello(None))),
    ];
    for said in some(60, prop::collection::vec(message, 1..6)) {
        let engine = site.engine(&service, "host-a", None).await;
        for body in said {
            // The stream may have been ended by what was said before.
            let _ = engine.outbound.send(EngineMessage { body: Some(body) }).await;
        }
    }
    let mut api = site.api(&service).await;
    let web = api.get("/v1/nodes/web").await;
    assert_eq!(web["interfaces"][0]["state"], State::Defined.to_string());
    serves(&site, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_said_says_nothing_again_and_nothing_in_anothers_mouth() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.report("web/eth0", InterfaceState::Live).await;
    engine.until("live", |known| known.blue(1).is_some_and(|mapping| mapping.state == 1)).await;
    let revision = api.get("/v1/status").await["revision"].as_u64().unwrap();
    let report = |state: InterfaceState| EngineMessage {
        body: Some(Body::InterfaceReport(InterfaceReport {
            interface_id: "web/eth0".to_owned(),
            state: state.into(),
            ..InterfaceReport::default()
        })),
    };
    // The very bytes, as somebody has recorded them.
    let recorded = report(InterfaceState::Live).encode_to_vec();
    for _ in 0..20 {
        engine.outbound.send(EngineMessage::decode(&recorded[..]).unwrap()).await.unwrap();
    }
    // From another host, with its own certificate: also what would do harm.
    let other = site.engine(&service, "host-b", None).await;
    for state in [InterfaceState::Live, InterfaceState::Gone, InterfaceState::Defined] {
        other.outbound.send(report(state)).await.unwrap();
    }
    // What comes behind it on the same streams has been heard when this has an effect.
    api.node("mark", "host-a", "10.0.0.2").await;
    api.node("mark-b", "host-b", "10.0.0.3").await;
    for (stream, id) in [(&engine, "mark/eth0"), (&other, "mark-b/eth0")] {
        stream.report(id, InterfaceState::Live).await;
    }
    engine
        .until("the marks", |known| [2, 3].iter().all(|last| known.blue(*last).is_some_and(|m| m.state == 1)))
        .await;
    let web = api.get("/v1/nodes/web").await;
    assert_eq!(web["interfaces"][0]["state"], "live");
    let made = api.get("/v1/status").await["revision"].as_u64().unwrap() - revision;
    assert_eq!(made, 4, "two nodes and their two reports; nothing that was said again");
    // A stream begun with what was acknowledged on another is another stream: it gets no more than its own.
    let replayed = Engine::hello(
        site.engine_channel(&service, "host-b").connect().await.unwrap(),
        hello(engine.known.revision.clone()),
    );
    let mut replayed = replayed.await.unwrap();
    replayed.until_revision(1).await;
    assert!(replayed.known.interfaces.keys().all(|id| id == "mark-b/eth0"));
}
