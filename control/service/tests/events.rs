//! Events against the real service: what engines report is told to operators, kept, bounded, and makes no revision.

mod common;

use common::{Client, Engine, furnished, until};
use overlane_api::sync::{EventKind, EventsReport, ReportedEvent, engine_message};
use overlane_control::service::Service;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

fn forged(host: &str, count: u64) -> ReportedEvent {
    ReportedEvent {
        kind: EventKind::VerificationFailed.into(),
        reason: "src_prefix_mismatch".into(),
        prefix: format!("fd00:0:0:{host}::/64"),
        vnet: 7,
        interface_id: String::new(),
        count,
        example: "source fd00:0:0:b:0:7:a00:1".into(),
        first_seconds_ago: 9,
        last_seconds_ago: 1,
    }
}

async fn tell(engine: &Engine, events: Vec<ReportedEvent>) {
    engine.send(engine_message::Body::EventsReport(EventsReport { events })).await;
}

async fn events(api: &mut Client, query: &str, what: &str, wanted: usize) -> Vec<Value> {
    let path = format!("/v1/events?{query}");
    let page = until(api, &path, what, |page| page["items"].as_array().unwrap().len() == wanted).await;
    page["items"].as_array().unwrap().clone()
}

async fn metrics(service: &Service) -> String {
    let mut stream = tokio::net::TcpStream::connect(service.telemetry_address().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_refuses_is_told_with_the_host_that_it_came_from_and_makes_no_revision() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    let before = api.get("/v1/status").await["revision"].clone();
    let spoofing = ReportedEvent {
        kind: EventKind::NodeSpoofing.into(),
        reason: "src_mac_spoofed".into(),
        prefix: String::new(),
        interface_id: "web/eth0".into(),
        ..forged("b", 5)
    };
    tell(&engine, vec![forged("b", 3), forged("dead", 4), spoofing]).await;
    let told = events(&mut api, "", "three events", 3).await;
    let first = &told[0];
    assert_eq!(
        [
            &first["kind"],
            &first["reason"],
            &first["host"],
            &first["prefix"],
            &first["from_host"],
            &first["entity"]
        ],
        ["verification_failed", "src_prefix_mismatch", "host-a", "fd00:0:0:b::/64", "host-b", "acme"]
    );
    assert_eq!((&first["count"], &first["vnet"]), (&json!(3), &json!(7)));
    assert_eq!(first["last_seen"].as_u64().unwrap() - first["first_seen"].as_u64().unwrap(), 8);
    assert_eq!((&told[1]["prefix"], &told[1]["from_host"]), (&json!("fd00:0:0:dead::/64"), &Value::Null));
    assert_eq!((&told[2]["kind"], &told[2]["interface"]), (&json!("node_spoofing"), &json!("web/eth0")));

    // The same again is the same event.
    let again = site.engine(&service, "host-a", None).await;
    tell(&again, vec![forged("b", 10)]).await;
    until(&mut api, "/v1/events", "a count that grows", |page| page["items"][0]["count"] == 13).await;
    assert_eq!(api.get("/v1/status").await["revision"], before, "events are no change");

    let text = metrics(&service).await;
    for line in [
        "overlane_control_events_total{kind=\"verification_failed\",reason=\"src_prefix_mismatch\"} 2",
        "overlane_control_event_occurrences_total{kind=\"verification_failed\",reason=\"src_prefix_mismatch\"} 17",
        "overlane_control_events_total{kind=\"node_spoofing\",reason=\"src_mac_spoofed\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_outlive_the_service_and_their_numbers_go_on() {
    let (site, service, mut api) = furnished("").await;
    let engine = site.engine(&service, "host-a", None).await;
    tell(&engine, vec![forged("b", 1), forged("c", 2)]).await;
    let told = events(&mut api, "", "two events", 2).await;
    let revision = api.get("/v1/status").await["revision"].clone();
    drop((engine, api));
    service.shut_down().await.unwrap();

    let service = site.start().await;
    let mut api = site.api(&service).await;
    assert_eq!(api.get("/v1/events").await["items"], Value::Array(told));
    assert_eq!(api.get("/v1/status").await["revision"], revision, "they were written, and made no revision");
    let engine = site.engine(&service, "host-a", None).await;
    tell(&engine, vec![forged("c", 5), forged("a", 1)]).await;
    let told = events(&mut api, "after=1", "one more event", 2).await;
    assert_eq!((&told[0]["count"], &told[1]["id"]), (&json!(7), &json!(3)));
    overlane_control::ledger::verify(&*service.ledger().view().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_engine_fills_its_own_share_and_speaks_for_its_own_interfaces() {
    let (site, service, mut api) = furnished("[events]\nkeep = 100\n").await;
    api.node("db", "host-b", "10.0.0.2").await;
    let good = site.engine(&service, "host-b", None).await;
    tell(&good, vec![forged("c", 1)]).await;
    events(&mut api, "host=host-b", "the good one's", 1).await;

    let hostile = site.engine(&service, "host-a", None).await;
    let many = (0..60).map(|host| forged(&format!("{:x}", 0x100 + host), 1)).collect();
    tell(&hostile, many).await;
    events(&mut api, "", "a twentieth for the hostile one", 1 + 5).await;
    assert_eq!(events(&mut api, "host=host-b", "the good one's", 1).await[0]["id"], 1);

    // Another's interface, and a terminal's escape sequence.
    let again = site.engine(&service, "host-a", None).await;
    let stolen = ReportedEvent {
        kind: EventKind::NodeSpoofing.into(),
        reason: "arp_spoofed".into(),
        prefix: String::new(),
        interface_id: "db/eth0".into(),
        example: "\x1b[2J\nowned".into(),
        ..forged("b", 1)
    };
    tell(&again, vec![stolen]).await;
    let told = events(&mut api, "kind=node_spoofing", "the claim", 1).await;
    assert_eq!((&told[0]["interface"], &told[0]["detail"]), (&Value::Null, &json!("[2Jowned")));

    // What is not legal ends the stream, with the field's name.
    for (field, event) in [
        ("prefix", ReportedEvent { prefix: "x".repeat(10_000), ..forged("b", 1) }),
        ("vnet", ReportedEvent { vnet: u32::MAX, ..forged("b", 1) }),
        ("count", forged("b", 0)),
    ] {
        let mut engine = site.engine(&service, "host-a", None).await;
        engine.acknowledges = false;
        tell(&engine, vec![event]).await;
        let ended = loop {
            match engine.step().await {
                Ok(()) => {}
                Err(status) => break status,
            }
        };
        assert_eq!(ended.code(), Code::InvalidArgument);
        assert!(ended.message().contains(field), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_filtered_and_paged_and_bad_queries_refused() {
    let (site, service, mut api) = furnished("").await;
    let engine = site.engine(&service, "host-a", None).await;
    tell(&engine, (1..=9).map(|host| forged(&format!("{host}"), 1)).collect()).await;
    events(&mut api, "", "nine", 9).await;
    let page = api.get("/v1/events?limit=4").await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (4, &json!("4")));
    let page = api.get("/v1/events?limit=5&after=4").await;
    assert_eq!((page["items"][0]["id"].clone(), &page["next"]), (json!(5), &Value::Null));
    for (query, count) in [
        ("entity=acme", 9),
        ("entity=umbrella", 0),
        ("host=host-b", 0),
        ("kind=inconsistency", 0),
        ("after=18446744073709551615", 0),
    ] {
        events(&mut api, query, query, count).await;
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("kind=disaster", "kind"),
        ("after=x", "after"),
        ("host=Bad_Id", "host"),
        ("colour=red", "colour"),
    ] {
        let (status, error) = api.refused("GET", &format!("/v1/events?{query}"), Value::Null).await;
        assert_eq!((status, error["field"].as_str()), (400, Some(field)), "{query}: {error}");
        assert!(error["legal"].is_string(), "{query}: {error}");
    }
    let document = api.get("/v1/openapi.json").await;
    assert!(document["paths"]["/v1/events"]["get"].is_object());
    // Nobody but operators.
    let stranger = site.certificate("stranger");
    let mut stranger = Client::connect(service.api_address(), &stranger).await.unwrap();
    assert_eq!(stranger.refused("GET", "/v1/events", Value::Null).await.0, 403);
}
