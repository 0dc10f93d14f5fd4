//! Moves, phase by phase, as engines and operators see them.

mod common;

use common::{Client, Engine, Site, furnished, spot, until};
use overlane_api::sync::{InterfaceState, MappingState};
use overlane_control::service::Service;
use serde_json::{Value, json};

const A: Spot = Some((0x0a, 0));
const B: Spot = Some((0x0b, 0));

/// A phase that waits for acknowledgements waits for ever, so that a test sees it.
const PATIENT: &str = "[move]\nack_wait = '10m'\nstuck_after = '1s'";

/// `web` live on host-a, a peer on host-c that hears of it, and engines of a, b and c.
async fn set_up(site: &Site, service: &Service) -> (Client, [Engine; 3]) {
    let mut api = site.api(service).await;
    api.furnish().await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("peer", "host-c", "10.0.0.3").await;
    let mut engines = Vec::new();
    for host in ["host-a", "host-b", "host-c"] {
        let mut engine = site.engine(service, host, None).await;
        engine.until_revision(1).await;
        engines.push(engine);
    }
    let mut engines: [Engine; 3] = engines.try_into().ok().unwrap();
    engines[0].report("web/eth0", InterfaceState::Live).await;
    for place in [0, 2] {
        engines[place].until("web live", is_live).await;
    }
    (api, engines)
}

fn is_live(known: &common::Known) -> bool {
    known.blue(1).is_some_and(|mapping| mapping.state() == MappingState::Live)
}

/// A host's letter, and a slot.
type Spot = Option<(u8, u32)>;

fn route(known: &common::Known) -> (Spot, Spot) {
    let mapping = known.blue(1);
    (mapping.and_then(|m| spot(&m.location)), mapping.and_then(|m| spot(&m.also_accept)))
}

async fn begin(api: &mut Client, to: &str) -> Value {
    let (status, node) = api.call("POST", "/v1/nodes/web/move", json!({"host": to})).await;
    assert_eq!(status, 202, "{node}");
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_goes_through_its_phases_and_its_mapping_is_live_all_the_time() {
    let site = Site::with(PATIENT);
    let service = site.start().await;
    let (mut api, [mut a, mut b, mut c]) = set_up(&site, &service).await;
    b.acknowledges = false;

    let node = begin(&mut api, "host-b").await;
    assert_eq!((&node["host"], &node["moving"]["phase"]), (&json!("host-a"), &json!("prepare")));
    c.until("both accepted", |known| route(known) == (A, B)).await;
    a.until("both accepted", |known| route(known) == (A, B)).await;
    b.until("the interface at the new host", |known| known.interfaces.contains_key("web/eth0")).await;
    assert_eq!(route(&b.known), (A, B));

    // The device appears; but as long as host-b has not acknowledged, nothing goes on.
    a.report("web/eth0", InterfaceState::Gone).await;
    b.report("web/eth0", InterfaceState::Live).await;
    let waiting =
        |node: &Value| node["moving"]["waiting_for"].as_str().unwrap_or("").contains("host-b to acknowledge");
    let node = until(&mut api, "/v1/nodes/web", "waits for host-b", waiting).await;
    assert_eq!(node["moving"]["phase"], "prepare");
    assert!(is_live(&c.known), "what is gone at the old host is live: it moves");

    b.acknowledges = true;
    b.report("web/eth0", InterfaceState::Attached).await;
    b.report("web/eth0", InterfaceState::Live).await;
    api.node("nudge", "host-b", "10.0.0.9").await;
    tokio::join!(
        a.until("gone from the old host", |known| known.interfaces.is_empty() && known.vnets.is_empty()),
        b.until("retired", |known| route(known) == (B, None)),
        c.until("retired", |known| {
            assert!(is_live(known), "never down");
            route(known) == (B, None)
        }),
    );
    let node = until(&mut api, "/v1/nodes/web", "the move is done", |node| node["moving"].is_null()).await;
    assert_eq!((&node["host"], &node["interfaces"][0]["state"]), (&json!("host-b"), &json!("live")));
    assert_eq!(api.get("/v1/hosts/host-a").await["interfaces"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_sends_packets_to_the_new_host_and_still_accepts_the_old() {
    let site = Site::with(PATIENT);
    let service = site.start().await;
    let (mut api, [mut a, mut b, mut c]) = set_up(&site, &service).await;
    begin(&mut api, "host-b").await;
    b.until("the interface", |known| known.interfaces.contains_key("web/eth0")).await;
    b.report("web/eth0", InterfaceState::Live).await;
    a.until("prepared", |known| route(known) == (A, B)).await;
    c.until("prepared", |known| route(known) == (A, B)).await;
    // c takes what comes but no longer acknowledges: the switch stays.
    c.acknowledges = false;
    c.until("switched", |known| route(known) == (B, A)).await;
    a.until("switched", |known| route(known) == (B, A)).await;
    assert!(a.known.interfaces.contains_key("web/eth0"), "the old host forwards stragglers");
    let node = api.get("/v1/nodes/web").await;
    assert_eq!((&node["host"], &node["moving"]["phase"]), (&json!("host-b"), &json!("switch")));
    let (status, error) = api.refused("POST", "/v1/nodes/web/move", json!({"host": "host-a"})).await;
    assert_eq!((status, &error["field"]), (409, &json!("host")));
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_do_not_answer_hold_a_move_up_for_a_bounded_time_only() {
    let (_site, _service, mut api) = furnished("[move]\nack_wait = '50ms'").await;
    // Nothing was live, no engine is there: there is nobody to wait for.
    api.node("web", "host-a", "10.0.0.1").await;
    begin(&mut api, "host-b").await;
    let node = until(&mut api, "/v1/nodes/web", "the move is done", |node| node["moving"].is_null()).await;
    assert_eq!(node["host"], "host-b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_without_a_device_is_stuck_in_sight_and_can_be_taken_back() {
    let site = Site::with(PATIENT);
    let service = site.start().await;
    let (mut api, [mut a, mut b, mut c]) = set_up(&site, &service).await;
    begin(&mut api, "host-b").await;
    for engine in [&mut a, &mut b, &mut c] {
        engine.until("prepared", |known| route(known) == (A, B)).await;
    }
    let stuck = |node: &Value| {
        let waiting = node["moving"]["waiting_for"].as_str().unwrap_or("");
        waiting.contains("web/eth0 is defined on host-b") && node["moving"]["stuck"] == true
    };
    let node = until(&mut api, "/v1/nodes/web", "stuck", stuck).await;
    assert_eq!((&node["host"], &node["moving"]["phase"]), (&json!("host-a"), &json!("prepare")));
    assert_eq!(api.get("/v1/status").await["moves"][0]["node"], "web");
    // Asked again: the same answer. Another change of the node: not now.
    begin(&mut api, "host-b").await;
    let body = common::node("host-a", "web", "10.0.0.77");
    let (status, error) = api.refused("PUT", "/v1/nodes/web", body).await;
    assert_eq!((status, &error["field"]), (409, &json!("interfaces")));

    let node = begin(&mut api, "host-a").await;
    assert!(node["moving"].is_null());
    c.until("taken back", |known| route(known) == (A, None)).await;
    b.until("gone", |known| known.interfaces.is_empty()).await;
    assert!(b.known.vnets.is_empty());
    assert!(is_live(&c.known));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_service_goes_on_with_a_move_where_it_was() {
    let site = Site::with("[move]\nack_wait = '100ms'");
    let service = site.start().await;
    let (mut api, [a, b, c]) = set_up(&site, &service).await;
    begin(&mut api, "host-b").await;
    drop((a, b, c));
    service.shut_down().await.unwrap();

    let service = site.start().await;
    let mut api = site.api(&service).await;
    let node = api.get("/v1/nodes/web").await;
    assert_eq!(node["moving"]["phase"], "prepare");
    let mut b = site.engine(&service, "host-b", None).await;
    b.until_revision(1).await;
    b.report("web/eth0", InterfaceState::Live).await;
    b.until("moved", |known| route(known) == (B, None)).await;
    let node = until(&mut api, "/v1/nodes/web", "done", |node| node["moving"].is_null()).await;
    assert_eq!((&node["host"], &node["interfaces"][0]["state"]), (&json!("host-b"), &json!("live")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_interface_takes_its_slot_if_free_and_bad_requests_name_the_field() {
    let (_site, _service, mut api) = furnished("[move]\nack_wait = '0s'").await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("there", "host-b", "10.0.0.2").await;
    let path = "/v1/nodes/web/move";
    for (body, status, field) in [
        (json!({"host": "nowhere"}), 400, "host"),
        (json!({"host": "host-b", "interfaces": [{"name": "eth9"}]}), 400, "interfaces[0].name"),
        (json!({"host": "host-b", "interfaces": [{"name": "eth0", "slot": 64}]}), 400, "interfaces[0].slot"),
        (json!({"host": "host-b", "interfaces": [{"name": "eth0", "slot": 0}]}), 409, "interfaces[0].slot"),
        (
            json!({"host": "host-b", "interfaces": [{"name": "eth0", "attachment": {"kind": "veth", "device": "there"}}]}),
            409,
            "interfaces[0].attachment.device",
        ),
        (json!({"host": "host-b", "to": "x"}), 400, "to"),
    ] {
        let (got, error) = api.refused("POST", path, body.clone()).await;
        assert_eq!((got, &error["field"]), (status, &json!(field)), "{body}: {error}");
        assert!(error["legal"].is_string(), "{error}");
    }
    assert_eq!(api.refused("POST", "/v1/nodes/no/move", json!({"host": "host-b"})).await.0, 404);
    begin(&mut api, "host-b").await;
    let node = until(&mut api, "/v1/nodes/web", "done", |node| node["moving"].is_null()).await;
    assert_eq!(node["interfaces"][0]["slot"], 1, "slot 0 was taken there");
}
