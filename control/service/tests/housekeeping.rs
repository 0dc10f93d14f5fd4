//! Housekeeping: every inconsistency is an event, and what is as it should be is none.

mod common;

use common::{Client, Engine, Site, hello, node, until};
use overlane_api::access::Quota;
use overlane_api::event::{Event, EventQuery};
use overlane_api::sync::InterfaceState;
use overlane_control::access::{Actor, Caller, Role};
use overlane_control::events::{Events, Limits};
use overlane_control::housekeeping::{Housekeeper, Pace};
use overlane_control::ledger::{AuditLimits, Ledger, Settings};
use overlane_control::mover::Mover;
use overlane_control::service::Service;
use overlane_control::store::{RedbStore, Store, Table};
use overlane_control::sync::Hub;
use overlane_control::telemetry::Metrics;
use overlane_dataplane::address::Layout;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A furnished service that looks around all the time, one record at a time.
async fn watched(unreported: Duration, host_away: Duration) -> (Site, Service, Client) {
    let mut site = Site::with("[move]\nack_wait = '10m'\nstuck_after = '1s'");
    site.config.housekeeping = Pace { every: Duration::from_millis(20), unreported, host_away, page: 1 };
    let service = site.start().await;
    let mut api = site.api(&service).await;
    api.furnish().await;
    (site, service, api)
}

const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(100);

/// Waits for the one event there is.
async fn only(api: &mut Client, reason: &str) -> Value {
    let page = until(api, "/v1/events", reason, |page| page["items"][0]["reason"] == reason).await;
    let events = page["items"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{page}");
    assert_eq!(events[0]["kind"], "inconsistency");
    events[0].clone()
}

/// Waits until everything has been looked at again: a rule without object is told by then.
async fn look_around(api: &mut Client) {
    let rule = json!({"entity": "acme", "priority": 1, "on": {"tag": "marker"}, "direction": "ingress", "action": "deny"});
    api.put("/v1/rules/marker", rule).await;
    until(api, "/v1/events", "the marker", |page| {
        page["items"].as_array().unwrap().iter().any(|event| event["subject"] == "rule/marker")
    })
    .await;
}

async fn reasons(api: &mut Client) -> Vec<String> {
    let page = api.get("/v1/events").await;
    let events = page["items"].as_array().unwrap();
    events.iter().map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_says_nothing_of_an_interface_is_told() {
    let (site, service, mut api) = watched(Duration::from_secs(2), NEVER).await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("quiet", "host-a", "10.0.0.2").await;
    // Of a host that is not there nobody expects a word.
    api.node("away", "host-b", "10.0.0.3").await;
    let engine = site.engine(&service, "host-a", None).await;
    engine.report("web/eth0", InterfaceState::Defined).await;
    engine.report("quiet/eth0", InterfaceState::Defined).await;
    look_around(&mut api).await;
    assert_eq!(reasons(&mut api).await, ["rule_without_object"]);
    api.node("late", "host-a", "10.0.0.4").await;
    let told = until(&mut api, "/v1/events?after=1", "late", |page| page["items"][0].is_object()).await;
    let told = &told["items"][0];
    assert_eq!(
        [&told["reason"], &told["interface"], &told["subject"], &told["entity"]],
        ["interface_not_reported", "late/eth0", "host/host-a", "acme"]
    );
    assert_eq!(reasons(&mut api).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_away_with_live_interfaces_is_told() {
    let (site, service, mut api) = watched(NEVER, SOON).await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-b", "10.0.0.2").await;
    let a = site.engine(&service, "host-a", None).await;
    a.report("web/eth0", InterfaceState::Live).await;
    let b = site.engine(&service, "host-b", None).await;
    b.report("db/eth0", InterfaceState::Gone).await;
    until(&mut api, "/v1/status", "both", |status| {
        status["interfaces"]["live"] == 1 && status["interfaces"]["gone"] == 1
    })
    .await;
    drop((a, b));
    let told = only(&mut api, "host_disconnected").await;
    assert_eq!(told["subject"], "host/host-a", "nothing is live on host-b: {told}");
    assert!(told["detail"].as_str().unwrap().contains("1 of its interfaces"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_interfaces_than_an_engine_can_attach_are_told() {
    let (site, service, mut api) = watched(NEVER, NEVER).await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-a", "10.0.0.2").await;
    let channel = site.engine_channel(&service, "host-a").connect().await.unwrap();
    let _engine =
        Engine::hello(channel, overlane_api::sync::Hello { capacity: 1, ..hello(None) }).await.unwrap();
    let told = only(&mut api, "over_capacity").await;
    assert_eq!(told["detail"], "2 interfaces are placed on host-a, and it can attach 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_stuck_is_told_with_what_it_waits_for() {
    let (_site, _service, mut api) = watched(NEVER, NEVER).await;
    api.node("web", "host-a", "10.0.0.1").await;
    let (status, body) = api.call("POST", "/v1/nodes/web/move", json!({"host": "host-b"})).await;
    assert_eq!(status, 202, "{body}");
    let told = only(&mut api, "move_stuck").await;
    assert_eq!([&told["subject"], &told["entity"]], ["node/web", "acme"]);
    assert!(told["detail"].as_str().unwrap().contains("to acknowledge"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_about_a_tag_that_nobody_carries_is_told() {
    let (_site, _service, mut api) = watched(NEVER, NEVER).await;
    let mut web = node("host-a", "web", "10.0.0.1");
    web["tags"] = json!(["web"]);
    api.put("/v1/nodes/web", web).await;
    let rule = |on: &str, peer: Value| json!({"entity": "acme", "priority": 1, "on": {"tag": on}, "peer": peer, "direction": "ingress", "action": "allow"});
    api.put("/v1/rules/good", rule("web", json!({"node": "web"}))).await;
    api.put("/v1/rules/good-too", rule("web", json!({"network": "red"}))).await;
    api.put("/v1/rules/bad", rule("web", json!({"tag": "web", "entity": "umbrella"}))).await;
    let told = only(&mut api, "rule_without_object").await;
    assert_eq!([&told["subject"], &told["entity"]], ["rule/bad", "acme"]);
    assert_eq!(told["detail"], "rule bad is about tag web of umbrella, which no node carries");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_claims_anothers_interface_is_told_once_it_knows_better() {
    let (site, service, mut api) = watched(NEVER, NEVER).await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-b", "10.0.0.2").await;
    // It has not acknowledged what there is: what it says may be of before.
    let mut behind = site.engine(&service, "host-c", None).await;
    behind.acknowledges = false;
    behind.until_revision(1).await;
    behind.report("db/eth0", InterfaceState::Live).await;

    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    until(&mut api, "/v1/status", "in step", |status| status["hosts_in_step"] == 1).await;
    engine.report("db/eth0", InterfaceState::Gone).await;
    engine.report("db/eth0", InterfaceState::Live).await;
    let told = only(&mut api, "interface_not_placed").await;
    assert_eq!([&told["host"], &told["interface"]], ["host-a", "db/eth0"]);
    assert_eq!(told["detail"], "host-a says that db/eth0 is live, which is on host-b");
    engine.report("no\x1bid", InterfaceState::Live).await;
    let told = until(&mut api, "/v1/events?after=1", "another", |page| page["items"][0].is_object()).await;
    assert_eq!(told["items"][0]["interface"], Value::Null);
}

/// A ledger of its own, whose store can be damaged.
struct Parts {
    _directory: tempfile::TempDir,
    store: Arc<dyn Store>,
    events: Arc<Events>,
    housekeeper: Housekeeper,
}

fn parts(page: usize) -> Parts {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&path).unwrap());
    let quota = Quota { networks: 9, nodes: 9, interfaces: 9, rules: 10_000, tokens: 9 };
    let audit = AuditLimits { keep: 10, age: 3600 };
    let settings =
        Settings { layout: Layout::Slot64, log_revisions: 100, on_demand_above: 1000, quota, audit };
    let caller =
        Caller { actor: Actor::Certificate("operator".to_owned()), role: Role::Operator, source: None };
    let ledger = Arc::new(Ledger::open(store.clone(), &path, settings).unwrap());
    for entity in ["acme", "umbrella"] {
        ledger.by(&caller).put_entity(entity, &serde_json::from_value(json!({})).unwrap()).unwrap();
    }
    for rule in 0..20 {
        let spec = json!({"entity": "acme", "priority": 1, "on": {"tag": "t"}, "direction": "ingress", "action": "deny"});
        ledger.by(&caller).put_rule(&format!("r{rule}"), &serde_json::from_value(spec).unwrap()).unwrap();
    }
    let limits = Limits { keep: 1000, age: Duration::from_secs(3600) };
    let events = Events::open(ledger.clone(), Metrics::new(), limits).unwrap();
    let hub = Hub::new(ledger.clone());
    let pace = overlane_control::mover::Pace { ack_wait: NEVER, stuck_after: NEVER };
    let mover = Mover::new(ledger.clone(), hub.clone(), pace);
    let pace = Pace { every: NEVER, unreported: NEVER, host_away: NEVER, page };
    let housekeeper = Housekeeper::new(ledger, hub, mover, events.clone(), pace);
    Parts { _directory: directory, store, events, housekeeper }
}

impl Parts {
    fn pass(&mut self, now: Instant) -> Vec<Event> {
        self.housekeeper.pass(now).unwrap();
        self.events.list(&EventQuery::default()).unwrap().items
    }

    fn put(&self, table: Table, key: &[u8], value: &[u8]) {
        let mut update = self.store.update().unwrap();
        update.put(table, key, value).unwrap();
        update.commit().unwrap();
    }
}

#[test]
fn everything_is_looked_over_a_bounded_part_at_a_time_and_told_once() {
    for page in [1, 4096] {
        let (mut parts, now) = (parts(page), Instant::now());
        assert_eq!(parts.pass(now).len(), 20, "pages of {page}");
        let again = parts.pass(now + Duration::from_secs(30));
        assert!(again.iter().all(|event| event.count == 1), "{again:?}");
        // What goes on is told again after a while, as the same event.
        let later = parts.pass(now + Duration::from_secs(660));
        assert!(later.len() == 20 && later.iter().all(|event| event.count == 2), "{later:?}");
    }
}

#[test]
fn a_store_that_contradicts_itself_is_told() {
    let (mut parts, now) = (parts(4096), Instant::now());
    parts.put(Table::Slots, b"host-x\0\x01", b"nobody/eth0");
    assert_eq!(parts.pass(now).len(), 20, "it is read as a whole rarely");
    let events = parts.pass(now + Duration::from_secs(700));
    let damaged: Vec<_> = events.iter().filter(|event| event.reason == "store_damaged").collect();
    assert_eq!(damaged.len(), 1, "{events:?}");
    assert!(damaged[0].detail.contains("Slots"), "{events:?}");
}

#[test]
fn a_record_that_cannot_be_read_is_told_and_the_rest_is_looked_at() {
    let (mut parts, now) = (parts(4096), Instant::now());
    parts.put(Table::Hosts, b"host-x", b"no JSON");
    let events = parts.pass(now);
    assert!(events.iter().any(|event| event.detail.contains("Hosts/host-x")), "{events:?}");
    assert_eq!(events.len(), 21, "the rules are looked at all the same");
}
