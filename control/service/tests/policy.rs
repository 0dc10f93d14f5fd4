//! Rules and peerings: what is refused, whom they reach, and what they say.

mod common;

use common::{Client, furnished, node};
use overlane_api::sync::peer::What as Peer;
use overlane_api::sync::{InterfaceState, MappingState, scope};
use serde_json::{Value, json};

fn rule(on: Value, peer: Value) -> Value {
    json!({"entity": "acme", "priority": 100, "direction": "ingress", "on": on, "peer": peer, "action": "deny"})
}

fn tagged(host: &str, device: &str, address: &str, tags: &[&str]) -> Value {
    let mut body = node(host, device, address);
    body["tags"] = json!(tags);
    body
}

/// A network of acme's beside blue, with other addresses.
async fn green(api: &mut Client) {
    let subnets = json!([{"cidr": "10.5.0.0/24", "gateway": "10.5.0.1"}]);
    api.put("/v1/networks/green", json!({"entity": "acme", "vnet": 9, "subnets": subnets})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_a_rule_names_the_field() {
    let (_site, _service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let with = |field: &str, value: Value| {
        let mut body = rule(json!({"node": "web"}), json!({}));
        body[field] = value;
        body
    };
    let node = |id: &str| json!({"node": id});
    let cases = [
        (with("entity", json!("nobody")), "entity"),
        (with("priority", json!(65_536)), "priority"),
        (with("direction", json!("sideways")), "direction"),
        (with("action", json!("maybe")), "action"),
        (with("protocol", json!("tcpp")), "protocol"),
        (with("ports", json!("80")), "ports"),
        (with("description", json!("x".repeat(257))), "description"),
        (with("size", json!({"min": 9, "max": 8})), "size"),
        (with("window", json!({"from": "8", "until": "9"})), "window.from"),
        (with("colour", json!(1)), "colour"),
        (with("on", json!({})), "on"),
        (with("on", json!({"cidr": "10.0.0.0/8"})), "on"),
        (with("on", json!({"node": "web", "tag": "web"})), "on"),
        (with("on", node("no-such")), "on.node"),
        (with("on", json!({"network": "red"})), "on.network"),
        (with("on", json!({"entity": "umbrella"})), "on.entity"),
        (with("on", json!({"tag": "Web"})), "on.tag"),
        (with("peer", node("no-such")), "peer.node"),
        (with("peer", json!({"network": "no-such"})), "peer.network"),
        (with("peer", json!({"cidr": "10.0.0.1/8"})), "peer.cidr"),
        (with("peer", json!({"node": "web", "cidr": "10.0.0.0/8"})), "peer"),
    ];
    for (body, field) in cases {
        let (status, error) = api.refused("PUT", "/v1/rules/r", body.clone()).await;
        assert_eq!((status, &error["field"]), (400, &json!(field)), "{body}: {error}");
    }
    api.put("/v1/rules/r", rule(json!({"node": "web"}), json!({}))).await;
    let other = json!({"entity": "umbrella", "priority": 1, "direction": "egress", "on": {"network": "red"}, "action": "allow"});
    let (status, error) = api.refused("PUT", "/v1/rules/r", other).await;
    assert_eq!((status, &error["field"]), (409, &json!("entity")));
    let (status, error) = api.refused("DELETE", "/v1/nodes/web", Value::Null).await;
    assert_eq!(status, 409);
    assert!(error["message"].as_str().unwrap().contains("in use by rule r"), "{error}");
    api.delete("/v1/rules/r").await;
    api.delete("/v1/nodes/web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_written_read_and_listed_by_entity() {
    let (_site, _service, mut api) = furnished("").await;
    let body = json!({
        "entity": "acme", "description": "the web", "priority": 7, "direction": "egress", "on": {"tag": "web"},
        "peer": {"tag": "db", "entity": "umbrella"}, "protocol": "tcp", "ports": "5432", "source_ports": "1024-65535",
        "size": {"max": 1500}, "window": {"days": ["mon"], "from": "08:00", "until": "18:00"},
        "action": "allow", "stateless": true,
    });
    let (status, made) = api.call("PUT", "/v1/rules/to-db", body.clone()).await;
    assert_eq!(status, 201);
    let mut expected = body.clone();
    (expected["id"], expected["revision"]) = (json!("to-db"), made["revision"].clone());
    assert_eq!(made, expected);
    let before = api.get("/v1/status").await["revision"].clone();
    assert_eq!(api.call("PUT", "/v1/rules/to-db", body).await, (200, made.clone()));
    assert_eq!(api.get("/v1/status").await["revision"], before, "nothing has changed");
    assert_eq!(api.get("/v1/rules?entity=acme").await["items"], json!([made]));
    assert_eq!(api.get("/v1/rules?entity=umbrella").await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_hears_of_the_rules_of_its_own_interfaces_and_of_whom_they_name() {
    let (site, service, mut api) = furnished("").await;
    api.put("/v1/nodes/web", tagged("host-a", "web", "10.0.0.1", &["web", "front"])).await;
    api.node("db", "host-b", "10.0.0.2").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    api.put("/v1/rules/mine", rule(json!({"tag": "web"}), json!({"node": "db"}))).await;
    api.put("/v1/rules/others", rule(json!({"node": "db"}), json!({}))).await;
    api.put("/v1/rules/all", rule(json!({"network": "blue"}), json!({"tag": "web"}))).await;
    engine.until("rules", |known| known.rules.len() == 2 && known.rules.contains_key("all")).await;
    let (_, mine) = engine.known.rules["mine"].clone();
    let Some(scope::What::Tag(number)) = mine.on.and_then(|on| on.what) else { panic!("no tag") };
    let interface = &engine.known.interfaces["web/eth0"].1;
    assert!(interface.tags.contains(&number) && interface.tags.len() == 2);
    assert_eq!(engine.known.blue(1).unwrap().tags, interface.tags);
    let addresses =
        |known: &common::Known| match known.rules["mine"].1.peer.clone().and_then(|peer| peer.what) {
            Some(Peer::Addresses(addresses)) => {
                addresses.ranges.iter().map(|range| range.cidr.clone()).collect()
            }
            _ => Vec::new(),
        };
    assert_eq!(addresses(&engine.known), ["10.0.0.2/32"]);
    // Whom a rule names may move within its network.
    api.node("db", "host-b", "10.0.0.22").await;
    engine.until("the new address", |known| addresses(known) == ["10.0.0.22/32"]).await;
    // Without the tag the rule is none of this host's.
    api.put("/v1/nodes/web", tagged("host-a", "web", "10.0.0.1", &["front"])).await;
    engine.until("the rule's end", |known| !known.rules.contains_key("mine")).await;
    assert!(engine.known.rules.contains_key("all"));
    api.delete("/v1/rules/all").await;
    engine.until("no rule", |known| known.rules.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peering_brings_the_peers_mappings_and_its_end_takes_them_away() {
    let (site, service, mut api) = furnished("").await;
    green(&mut api).await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut other = node("host-b", "store", "10.5.0.2");
    other["interfaces"][0]["network"] = json!("green");
    api.put("/v1/nodes/store", other).await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    let there = (9, u32::from_be_bytes([10, 5, 0, 2]));
    assert!(!engine.known.mappings.contains_key(&there));
    let made = api.put("/v1/peerings/p", json!({"networks": ["green", "blue"]})).await;
    assert_eq!((&made["open"], &made["networks"]), (&json!(true), &json!(["blue", "green"])));
    engine.until("the peer", |known| known.mappings.contains_key(&there)).await;
    assert!(engine.known.vnets.contains_key(&7) && !engine.known.vnets.contains_key(&9));
    api.delete("/v1/peerings/p").await;
    engine.until("no peer", |known| !known.mappings.contains_key(&there)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peerings_of_networks_with_overlapping_addresses_are_refused_and_so_is_what_would_make_them_so() {
    let (_site, _service, mut api) = furnished("").await;
    green(&mut api).await;
    for (networks, field, status) in [
        (json!(["blue", "red"]), "networks", 409),
        (json!(["blue", "blue"]), "networks", 400),
        (json!(["blue"]), "networks", 400),
        (json!(["blue", "no-such"]), "networks[1]", 400),
    ] {
        let (got, error) = api.refused("PUT", "/v1/peerings/p", json!({"networks": networks})).await;
        assert_eq!((got, &error["field"]), (status, &json!(field)), "{error}");
    }
    api.put("/v1/peerings/p", json!({"networks": ["blue", "green"]})).await;
    let (status, _) = api.refused("PUT", "/v1/peerings/again", json!({"networks": ["green", "blue"]})).await;
    assert_eq!(status, 409);
    // A peer of a peer is none, but its addresses must be told apart where the two meet.
    let (status, error) = api.refused("PUT", "/v1/peerings/q", json!({"networks": ["red", "green"]})).await;
    assert_eq!(status, 409);
    assert!(error["message"].as_str().unwrap().contains("overlap"), "{error}");
    let subnets = json!([{"cidr": "10.5.0.0/24", "gateway": "10.5.0.1"}, {"cidr": "10.0.0.128/25"}]);
    let (status, error) =
        api.refused("PUT", "/v1/networks/green", json!({"entity": "acme", "subnets": subnets})).await;
    assert_eq!((status, &error["field"]), (409, &json!("subnets")));
    let (status, error) = api.refused("DELETE", "/v1/networks/green", Value::Null).await;
    assert_eq!(status, 409);
    assert!(error["message"].as_str().unwrap().contains("in use by peering p"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_is_judged_by_the_rules_of_both_ends_before_it_is_sent() {
    let (site, service, mut api) = furnished("").await;
    green(&mut api).await;
    api.put("/v1/nodes/web", tagged("host-a", "web", "10.0.0.1", &["web"])).await;
    api.node("db", "host-b", "10.0.0.2").await;
    let mut store = node("host-b", "store", "10.5.0.2");
    store["interfaces"][0]["network"] = json!("green");
    api.put("/v1/nodes/store", store).await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.report("web/eth0", InterfaceState::Live).await;
    let live =
        |known: &common::Known| known.blue(1).is_some_and(|mapping| mapping.state() == MappingState::Live);
    engine.until("web live", live).await;
    let ask = async |api: &mut Client, from: &str, to: &str, port: u32| -> Value {
        let body = json!({"from": from, "to": to, "protocol": "tcp", "port": port});
        let (status, verdict) = api.call("POST", "/v1/rules/test", body).await;
        assert_eq!(status, 200, "{verdict}");
        verdict
    };
    let verdict = ask(&mut api, "web", "db/eth0", 5432).await;
    assert_eq!((&verdict["passes"], &verdict["default_action"]), (&json!(true), &json!("allow")));
    assert_eq!(verdict["obstacles"], json!(["db/eth0 is defined, not live"]));

    let allow = json!({"entity": "acme", "priority": 10, "direction": "ingress", "on": {"node": "db"},
                       "peer": {"tag": "web"}, "protocol": "tcp", "ports": "5432", "action": "allow"});
    api.put("/v1/rules/db-in", allow).await;
    let mut rest = rule(json!({"node": "db"}), json!({}));
    rest["action"] = json!("reject");
    let revision = api.put("/v1/rules/db-rest", rest).await["revision"].clone();
    let verdict = ask(&mut api, "web", "db", 5432).await;
    assert_eq!((&verdict["passes"], &verdict["ingress"]["rule"]), (&json!(true), &json!("db-in")));
    let verdict = ask(&mut api, "web", "db", 22).await;
    assert_eq!((&verdict["passes"], &verdict["reason"]), (&json!(false), &json!("ingress_denied")));
    assert_eq!(verdict["ingress"], json!({"rule": "db-rest", "revision": revision, "action": "reject"}));
    assert_eq!(verdict["rejected"], true);

    let verdict = ask(&mut api, "web", "store", 80).await;
    assert_eq!((&verdict["reason"], &verdict["default_action"]), (&json!("vnet_mismatch"), &Value::Null));
    api.put("/v1/peerings/p", json!({"networks": ["blue", "green"], "default_action": "deny"})).await;
    let verdict = ask(&mut api, "web", "store", 80).await;
    assert_eq!((&verdict["reason"], &verdict["default_action"]), (&json!("default_denied"), &json!("deny")));

    for (body, field) in [
        (json!({"from": "no", "to": "db", "protocol": "tcp", "port": 1}), "from"),
        (json!({"from": "web", "to": "db/eth9", "protocol": "tcp", "port": 1}), "to"),
        (json!({"from": "web", "to": "db", "protocol": "tcp"}), "port"),
        (json!({"from": "web", "to": "db", "protocol": "gre", "port": 1}), "port"),
        (json!({"from": "web", "to": "db", "protocol": "tcp", "port": 65_536}), "port"),
        (json!({"from": "web", "to": "db", "protocol": "udp", "port": 1, "icmp": {"type": 8}}), "icmp"),
        (json!({"from": "web", "to": "db", "protocol": "icmp", "size": 19}), "size"),
    ] {
        let (status, error) = api.refused("POST", "/v1/rules/test", body).await;
        assert_eq!((status, &error["field"]), (400, &json!(field)), "{error}");
    }
}
