//! The sync protocol against the real service: snapshot, deltas, resumption, acknowledgement, refusals.

mod common;

use common::{Engine, Site, furnished, hello, node, spot};
use overlane_api::sync::resolve_response::Outcome;
use overlane_api::sync::{
    Ack, EngineMessage, Hello, InterfaceState, MappingState, RefusalReason, ResolveRequest, Revision,
    WorkerReport, WorkersReport, engine_message,
};
use serde_json::json;
use tonic::Code;

fn live(engine: &Engine, last: u8) -> bool {
    engine.known.blue(last).is_some_and(|mapping| mapping.state() == MappingState::Live)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_gets_its_interfaces_and_all_mappings_of_its_vnets_and_nothing_else() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-b", "10.0.0.2").await;
    api.put(
        "/v1/nodes/other",
        json!({"entity": "umbrella", "host": "host-c", "interfaces": [{"name": "eth0", "network": "red",
               "addresses": ["10.0.0.1"], "attachment": {"kind": "tap", "device": "tap0"}}]}),
    )
    .await;

    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    assert_eq!(engine.snapshots, 1);
    assert_eq!(engine.known.host.as_deref(), Some("fd00:0:0:a::/64"));
    assert_eq!(engine.known.vnets.keys().collect::<Vec<_>>(), [&7]);
    assert_eq!(engine.known.interfaces.keys().collect::<Vec<_>>(), ["web/eth0"]);
    assert_eq!(engine.known.mappings.len(), 2);
    assert_eq!(spot(&engine.known.blue(2).unwrap().location), Some((0x0b, 0)));
    assert_eq!(engine.known.blue(2).unwrap().state(), MappingState::Down);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_interface_of_a_vnet_brings_the_whole_vnet_and_the_last_takes_it_away() {
    let (site, service, mut api) = furnished("").await;
    for last in 1..=5 {
        api.node(&format!("n{last}"), "host-b", &format!("10.0.0.{last}")).await;
    }
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    assert!(engine.known.vnets.is_empty() && engine.known.mappings.is_empty());

    api.node("web", "host-a", "10.0.0.9").await;
    engine.until("the vnet", |known| known.mappings.len() == 6 && known.interfaces.len() == 1).await;
    assert_eq!(engine.known.vnets.len(), 1);
    api.delete("/v1/nodes/n1").await;
    engine.until("a mapping less", |known| known.mappings.len() == 5).await;
    api.delete("/v1/nodes/web").await;
    engine.until("the vnet gone", |known| known.vnets.is_empty()).await;
    assert!(engine.known.mappings.is_empty() && engine.known.interfaces.is_empty());
    assert_eq!(engine.snapshots, 1, "all this is told by deltas");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_make_mappings_live_and_an_engine_that_is_away_does_not_make_them_down() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-b", "10.0.0.2").await;
    let mut a = site.engine(&service, "host-a", None).await;
    let b = site.engine(&service, "host-b", None).await;
    a.until_revision(1).await;
    b.report("db/eth0", InterfaceState::Live).await;
    // Not its interface: nothing happens.
    b.report("web/eth0", InterfaceState::Live).await;
    a.until("db live", |known| known.blue(2).is_some_and(|m| m.state() == MappingState::Live)).await;

    drop(b);
    common::until(&mut api, "/v1/hosts/host-b", "b disconnected", |host| {
        host["engine"]["connected"] == false
    })
    .await;
    api.node("third", "host-a", "10.0.0.3").await;
    a.until("third", |known| known.blue(3).is_some()).await;
    assert!(live(&a, 2), "forwarding goes on while an engine is away from the service");
    assert!(!live(&a, 1), "another engine's word does not count");

    let mut b = site.engine(&service, "host-b", None).await;
    b.until_revision(1).await;
    b.report("db/eth0", InterfaceState::Gone).await;
    a.until("db down", |known| known.blue(2).is_some_and(|m| m.state() == MappingState::Down)).await;
    assert_eq!(api.get("/v1/nodes/db").await["interfaces"][0]["state"], "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_shown_while_their_engine_is_there_and_kept_nowhere() {
    let (site, service, mut api) = furnished("").await;
    let engine = site.engine(&service, "host-b", None).await;
    assert_eq!(api.get("/v1/status").await["engines"], json!([]));
    let before = api.get("/v1/status").await["revision"].clone();
    let worker = WorkerReport {
        core: 2,
        packets: 10,
        receive_cycles: 1_000,
        classify_cycles: 2_000,
        authorise_cycles: 500,
        translate_cycles: 1_500,
        send_cycles: 500,
        turn_cycles: 6_000,
        busy_us: 25,
        total_us: 1_000,
    };
    let report = WorkersReport { workers: vec![worker] };
    engine.send(engine_message::Body::WorkersReport(report)).await;
    let cycles = json!({
        "receive": 100, "classify": 200, "authorise": 50, "translate": 150, "send": 50, "total": 600
    });
    let workers = json!([{"core": 2, "packets": 10, "busy_permille": 25, "cycles_per_packet": cycles}]);
    common::until(&mut api, "/v1/status", "the workers", |status| {
        status["engines"] == json!([{"host": "host-b", "workers": workers}])
    })
    .await;
    let host = api.get("/v1/hosts/host-b").await;
    assert_eq!(host["engine"]["workers"], workers);
    assert_eq!(api.get("/v1/status").await["revision"], before, "the store has nothing of it");

    drop(engine);
    common::until(&mut api, "/v1/status", "no workers", |status| status["engines"] == json!([])).await;
    // A new engine begins without, until it reports.
    let _engine = site.engine(&service, "host-b", None).await;
    assert_eq!(api.get("/v1/status").await["engines"], json!([]));
}

/// To a service that does not know it, a message of a newer engine (as this one's of workers once was) has no body.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_known_is_passed_over() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    engine.outbound.send(EngineMessage { body: None }).await.unwrap();
    engine.report("web/eth0", InterfaceState::Live).await;
    engine.until("web live", |known| known.blue(1).is_some_and(|m| m.state() == MappingState::Live)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_too_many_workers_ends_the_stream_with_the_legal_number() {
    let (site, service, _) = furnished("").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    let report = WorkersReport { workers: vec![WorkerReport::default(); 1025] };
    engine.send(engine_message::Body::WorkersReport(report)).await;
    let refused = engine.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("1025 workers; legal: up to 1024"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_stream_hears_only_what_changed() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-b", "10.0.0.2").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    let known = engine.known.clone();
    drop(engine);

    api.node("third", "host-b", "10.0.0.3").await;
    api.delete("/v1/nodes/db").await;
    let mut engine = site.engine(&service, "host-a", known.revision.clone()).await;
    engine.known = known;
    engine.until("the changes", |known| known.blue(3).is_some() && known.blue(2).is_none()).await;
    assert_eq!(engine.snapshots, 0);
    assert!(engine.known.blue(1).is_some());

    // Nothing happened meanwhile: it is told so.
    let revision = engine.known.revision.clone();
    let mut again = site.engine(&service, "host-a", revision.clone()).await;
    again.step().await.unwrap();
    assert_eq!((again.snapshots, again.known.revision.clone()), (0, revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_unknown_and_future_revisions_get_a_snapshot() {
    let (site, service, mut api) = furnished("log_revisions = 2").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    let old = engine.known.revision.clone().unwrap();
    drop(engine);
    for last in 2..6 {
        api.node(&format!("n{last}"), "host-b", &format!("10.0.0.{last}")).await;
    }
    let foreign = Revision { incarnation: vec![9; 16], number: old.number };
    let future = Revision { number: 1 << 40, ..old.clone() };
    for applied in [old, foreign, future] {
        let mut engine = site.engine(&service, "host-a", Some(applied.clone())).await;
        engine.until("all", |known| known.mappings.len() == 5).await;
        assert_eq!(engine.snapshots, 1, "{applied:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_costs_nothing_and_catches_up() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut slow = site.engine(&service, "host-a", None).await;
    // 64 addresses appear and go, over and over, while nobody reads.
    let many = |shift: u32| {
        let addresses: Vec<String> = (0..64).map(|n| format!("10.0.0.{}", 2 + (n + shift) % 250)).collect();
        let mut body = node("host-b", "many", "10.0.0.2");
        body["interfaces"][0]["addresses"] = json!(addresses);
        body
    };
    for round in 0..60 {
        api.put("/v1/nodes/many", many(round * 64)).await;
    }
    let last = api.get("/v1/status").await["revision"].as_u64().unwrap();
    slow.until_revision(last).await;
    assert_eq!(slow.known.mappings.len(), 65);
    let mut fresh = site.engine(&service, "host-a", None).await;
    fresh.until_revision(last).await;
    assert_eq!(slow.known.mappings, fresh.known.mappings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_too_large_for_a_delta_comes_as_a_snapshot() {
    let (site, service, mut api) = furnished("").await;
    let subnets = json!([{"cidr": "10.0.0.0/16"}]);
    api.put("/v1/networks/blue", json!({"entity": "acme", "subnets": subnets})).await;
    for host in ["host-b", "host-c"] {
        for nth in 0..34 {
            let addresses: Vec<String> = (0..64)
                .map(|n| format!("10.0.{}.{}", 1 + nth + if host == "host-b" { 0 } else { 100 }, n + 1))
                .collect();
            let mut body = node(host, &format!("d{nth}"), "10.0.0.1");
            body["interfaces"][0]["addresses"] = json!(addresses);
            api.put(&format!("/v1/nodes/{host}-{nth}"), body).await;
        }
    }
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    api.node("web", "host-a", "10.0.0.1").await;
    engine.until("4353 mappings", |known| known.mappings.len() == 2 * 34 * 64 + 1).await;
    assert_eq!(engine.snapshots, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_shown_and_false_ones_end_the_stream() {
    let (site, service, mut api) = furnished("").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.acknowledges = false;
    engine.until_revision(1).await;
    let status = api.get("/v1/status").await;
    assert_eq!((&status["hosts_connected"], &status["hosts_in_step"]), (&json!(1), &json!(0)));
    let revision = engine.known.revision.clone().unwrap();
    engine.send(engine_message::Body::Ack(Ack { revision: Some(revision.clone()) })).await;
    common::until(&mut api, "/v1/status", "in step", |status| status["hosts_in_step"] == 1).await;
    let host = api.get("/v1/hosts/host-a").await;
    assert_eq!(host["engine"]["acknowledged"], json!(revision.number));
    assert_eq!(host["engine"]["version"], "test");

    let ahead = Revision { number: revision.number + 1, ..revision };
    engine.send(engine_message::Body::Ack(Ack { revision: Some(ahead) })).await;
    let ended = engine.step().await.unwrap_err();
    assert_eq!(ended.code(), Code::InvalidArgument, "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_of_a_host_ends_the_first() {
    let (site, service, mut api) = furnished("").await;
    let mut first = site.engine(&service, "host-a", None).await;
    first.until_revision(1).await;
    let mut second = site.engine(&service, "host-a", None).await;
    let ended = first.step().await.unwrap_err();
    assert_eq!(ended.code(), Code::Aborted, "{ended}");
    second.until_revision(1).await;
    assert_eq!(api.get("/v1/status").await["hosts_connected"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_host_ends_its_engines_stream() {
    let (site, service, mut api) = furnished("").await;
    let mut engine = site.engine(&service, "host-c", None).await;
    engine.until_revision(1).await;
    api.delete("/v1/hosts/host-c").await;
    let ended = engine.step().await.unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_with_the_reason() {
    let (site, service, _) = furnished("").await;

    let channel = site.engine_channel(&service, "host-x").connect().await.unwrap();
    let refused = Engine::hello(channel, hello(None)).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), "no provisioned host is called host-x");

    // A certificate of another authority does not even get to speak.
    let other = Site::new();
    let stranger = other.engine_channel(&service, "host-a");
    let failed = match stranger.connect().await {
        Err(_) => true,
        Ok(channel) => Engine::hello(channel, hello(None)).await.is_err(),
    };
    assert!(failed);

    for (version, code) in [(1, Code::FailedPrecondition), (5, Code::FailedPrecondition)] {
        let channel = site.engine_channel(&service, "host-a").connect().await.unwrap();
        let hello = Hello { protocol_version: version, ..hello(None) };
        let refused = Engine::hello(channel, hello).await.err().unwrap();
        assert_eq!(refused.code(), code);
        assert!(refused.message().contains(&format!("version {version}, the service 3")), "{refused}");
    }
    for version in [2, 4] {
        let channel = site.engine_channel(&service, "host-a").connect().await.unwrap();
        let hello = Hello { protocol_version: version, ..hello(None) };
        assert!(Engine::hello(channel, hello).await.is_ok(), "N talks to N-1 and N+1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resolution_is_authorised_and_each_refusal_has_its_reason() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-b", "10.0.0.2").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    let request = |interface: &str, vnet: u32, last: u8| ResolveRequest {
        vnet,
        interface_id: interface.to_owned(),
        target: u32::from_be_bytes([10, 0, 0, last]),
    };
    let mut client = engine.client.clone();
    let mut reason =
        async |asked: ResolveRequest| match client.resolve(asked).await.unwrap().into_inner().outcome {
            Some(Outcome::Refusal(refusal)) => Some(refusal.reason()),
            Some(Outcome::Mapping(_)) => None,
            None => panic!("no outcome"),
        };
    assert_eq!(reason(request("web/eth0", 7, 2)).await, Some(RefusalReason::InterfaceNotLive));
    engine.report("web/eth0", InterfaceState::Live).await;
    engine.until("web live", |known| known.blue(1).is_some_and(|m| m.state() == MappingState::Live)).await;
    assert_eq!(reason(request("web/eth0", 7, 2)).await, None);
    assert_eq!(reason(request("db/eth0", 7, 1)).await, Some(RefusalReason::NotYourInterface));
    assert_eq!(reason(request("no/eth0", 7, 1)).await, Some(RefusalReason::NotYourInterface));
    assert_eq!(reason(request("web/eth0", 8, 2)).await, Some(RefusalReason::NotAMember));
    assert_eq!(reason(request("web/eth0", 7, 77)).await, Some(RefusalReason::UnknownTarget));
    // One direction is enough to be found by; none is not.
    let deny = |direction: &str| {
        json!({"entity": "acme", "priority": 1, "direction": direction, "on": {"node": "db"},
               "peer": {"node": "web"}, "action": "deny"})
    };
    api.put("/v1/rules/no-in", deny("ingress")).await;
    assert_eq!(reason(request("web/eth0", 7, 2)).await, None);
    api.put("/v1/rules/no-out", deny("egress")).await;
    assert_eq!(reason(request("web/eth0", 7, 2)).await, Some(RefusalReason::Forbidden));
    api.delete("/v1/rules/no-in").await;
    assert_eq!(reason(request("web/eth0", 7, 2)).await, None);
    // Each refusal is told, with what is the engine's own; what it may not know of is not named.
    let told = api.get("/v1/events?kind=resolution_refused&host=host-a").await;
    let told = told["items"].as_array().unwrap().iter().map(|event| {
        let word = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
        (word("reason"), word("interface"), word("entity"), event["count"].as_u64().unwrap())
    });
    let wanted = [
        ("interface_not_live", "web/eth0", "acme", 1),
        ("not_your_interface", "-", "-", 2),
        ("not_a_member", "web/eth0", "acme", 1),
        ("unknown_target", "web/eth0", "acme", 1),
        ("forbidden", "web/eth0", "acme", 1),
    ];
    let wanted = wanted.map(|(reason, interface, entity, count)| {
        (reason.to_owned(), interface.to_owned(), entity.to_owned(), count)
    });
    assert_eq!(told.collect::<Vec<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_on_demand_is_told_only_where_its_own_interfaces_are_and_changes() {
    let (site, service, mut api) = furnished("").await;
    let blue = |mapping: &str| {
        json!({"entity": "acme", "vnet": 7, "mapping": mapping,
               "subnets": [{"cidr": "10.0.0.0/24", "gateway": "10.0.0.254"}]})
    };
    let told = api.put("/v1/networks/blue", blue("on-demand")).await;
    assert_eq!((&told["mapping"], &told["on_demand"]), (&json!("on-demand"), &json!(true)));
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-b", "10.0.0.2").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    assert!(engine.known.on_demand[&7]);
    assert!(engine.known.blue(1).is_some() && engine.known.blue(2).is_none());
    engine.report("web/eth0", InterfaceState::Live).await;
    engine.until("web live", |known| known.blue(1).is_some_and(|m| m.state() == MappingState::Live)).await;
    // What it asks for it is told, with the change that last touched it.
    let asked = ResolveRequest { vnet: 7, interface_id: "web/eth0".to_owned(), target: 0x0a00_0002 };
    let answer = engine.client.clone().resolve(asked).await.unwrap().into_inner();
    let Some(Outcome::Mapping(mapping)) = answer.outcome else { panic!("a mapping") };
    assert_eq!(spot(&mapping.location), Some((0x0b, 0)));
    let (touched, now) = (answer.mapping_revision, answer.revision.unwrap().number);
    assert!(0 < touched && touched <= now, "{touched} {now}");
    // Changes are told whether it has asked or not, and the end of an address as always.
    api.node("db", "host-b", "10.0.0.3").await;
    engine.until("refreshed", |known| known.refreshed == [3]).await;
    assert!(engine.known.blue(3).is_none());
    // When it is not on demand any more, everything is told.
    api.put("/v1/networks/blue", blue("subscribe")).await;
    engine.until("told", |known| known.blue(3).is_some() && !known.on_demand[&7]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_grows_is_on_demand_and_one_that_shrinks_is_told_again() {
    let mut site = Site::new();
    site.config.settings.on_demand_above = 3;
    let service = site.start().await;
    let mut api = site.api(&service).await;
    api.furnish().await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    for last in 2..=3 {
        api.node(&format!("n{last}"), "host-b", &format!("10.0.0.{last}")).await;
    }
    engine.until("all told", |known| known.blue(3).is_some()).await;
    assert!(!engine.known.on_demand[&7]);
    api.node("n4", "host-b", "10.0.0.4").await;
    engine.until("on demand", |known| known.on_demand[&7]).await;
    assert!(engine.known.blue(4).is_none());
    assert_eq!(api.get("/v1/networks/blue").await["on_demand"], true);
    for last in 2..=4 {
        api.delete(&format!("/v1/nodes/n{last}")).await;
    }
    engine.until("told again", |known| !known.on_demand[&7]).await;
    assert_eq!(engine.known.mappings.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_of_a_peer_is_resolved_too_and_of_a_stranger_not() {
    let (site, service, mut api) = furnished("").await;
    let subnets = json!([{"cidr": "10.1.0.0/24"}]);
    let green = json!({"entity": "umbrella", "vnet": 9, "subnets": subnets, "mapping": "on-demand"});
    api.put("/v1/networks/green", green).await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.put(
        "/v1/nodes/far",
        json!({"entity": "umbrella", "host": "host-b", "interfaces": [{"name": "eth0", "network": "green",
               "addresses": ["10.1.0.9"], "attachment": {"kind": "tap", "device": "tap0"}}]}),
    )
    .await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.report("web/eth0", InterfaceState::Live).await;
    engine.until("web live", |known| known.blue(1).is_some_and(|m| m.state() == MappingState::Live)).await;
    let mut client = engine.client.clone();
    let asked = ResolveRequest { vnet: 9, interface_id: "web/eth0".to_owned(), target: 0x0a01_0009 };
    let mut outcome = async || client.resolve(asked.clone()).await.unwrap().into_inner().outcome.unwrap();
    let Outcome::Refusal(refusal) = outcome().await else { panic!("no peer") };
    assert_eq!(refusal.reason(), RefusalReason::NotAMember);
    api.put("/v1/peerings/p", json!({"networks": ["blue", "green"]})).await;
    assert!(matches!(outcome().await, Outcome::Mapping(_)));
}
