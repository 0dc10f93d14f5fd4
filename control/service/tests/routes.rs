//! Networks behind routers: what engines are told of them, who may have them, and who may know where a router is.

mod common;

use common::{Engine, furnished, node, spot};
use overlane_api::sync::InterfaceState::{Gone, Live};
use overlane_api::sync::resolve_response::Outcome;
use overlane_api::sync::{MappingState, RefusalReason, ResolveRequest};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The vnet of the network blue.
const BLUE: u32 = 7;

/// A node as `node` has it, with networks behind it.
fn router(host: &str, device: &str, address: &str, routes: &[&str], transit: &[&str]) -> Value {
    let mut router = node(host, device, address);
    router["interfaces"][0]["routes"] = json!(routes);
    router["interfaces"][0]["transit"] = json!(transit);
    router
}

/// Waits until the engine knows just these routes in blue, and grants of transit.
async fn knows(engine: &mut Engine, routes: &[(&str, &[u8])], transits: &[(&str, u8)]) {
    let routes: BTreeMap<_, _> = routes.iter().map(|(net, via)| ((*net).to_owned(), via.to_vec())).collect();
    let transits: Vec<_> = transits.iter().map(|(net, via)| ((*net).to_owned(), *via)).collect();
    let expected = (routes, transits);
    engine.until("the routes", |known| known.routes.get(&BLUE) == Some(&expected)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_host_of_the_network_hears_what_is_behind_a_router_until_it_is_gone() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut a = site.engine(&service, "host-a", None).await;
    knows(&mut a, &[], &[]).await;
    api.put("/v1/nodes/edge", router("host-b", "edge", "10.0.0.2", &["10.9.0.0/16", "0.0.0.0/0"], &[])).await;
    knows(&mut a, &[("0.0.0.0/0", &[2]), ("10.9.0.0/16", &[2])], &[]).await;
    // More than one of them, and one that only sends.
    api.put("/v1/nodes/twin", router("host-c", "twin", "10.0.0.3", &["10.9.0.0/16"], &["10.0.0.0/25"])).await;
    let both: &[(&str, &[u8])] = &[("0.0.0.0/0", &[2]), ("10.9.0.0/16", &[2, 3])];
    knows(&mut a, both, &[("10.0.0.0/25", 3)]).await;
    // Who comes later hears of all at once.
    let mut c = site.engine(&service, "host-c", None).await;
    knows(&mut c, both, &[("10.0.0.0/25", 3)]).await;
    let edge = api.get("/v1/nodes/edge").await;
    assert_eq!(edge["interfaces"][0]["routes"], json!(["0.0.0.0/0", "10.9.0.0/16"]));
    // Other networks, another address, another order of addresses.
    api.put("/v1/nodes/twin", router("host-c", "twin", "10.0.0.3", &["10.8.0.0/16"], &[])).await;
    knows(&mut a, &[("0.0.0.0/0", &[2]), ("10.8.0.0/16", &[3]), ("10.9.0.0/16", &[2])], &[]).await;
    let mut moved = router("host-c", "twin", "10.0.0.33", &["10.8.0.0/16"], &[]);
    moved["interfaces"][0]["addresses"] = json!(["10.0.0.33", "10.0.0.3"]);
    api.put("/v1/nodes/twin", moved).await;
    knows(&mut a, &[("0.0.0.0/0", &[2]), ("10.8.0.0/16", &[33]), ("10.9.0.0/16", &[2])], &[]).await;
    api.delete("/v1/nodes/edge").await;
    knows(&mut a, &[("10.8.0.0/16", &[33])], &[]).await;
    api.put("/v1/nodes/twin", router("host-c", "twin", "10.0.0.33", &[], &[])).await;
    knows(&mut a, &[], &[]).await;
    assert_eq!(a.snapshots, 1, "all this is told by deltas");
}

#[tokio::test(flavor = "multi_thread")]
async fn which_routers_are_silent_is_told_and_listed() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.put("/v1/nodes/edge", router("host-b", "edge", "10.0.0.2", &["10.9.0.0/16"], &[])).await;
    api.put("/v1/nodes/twin", router("host-c", "twin", "10.0.0.3", &["10.9.0.0/16"], &[])).await;
    let mut a = site.engine(&service, "host-a", None).await;
    let mut b = site.engine(&service, "host-b", None).await;
    b.until("its own", |known| !known.interfaces.is_empty()).await;
    knows(&mut a, &[("10.9.0.0/16", &[2, 3])], &[]).await;
    for silent in [true, false, true] {
        b.report_silence("edge/eth0", Live, silent).await;
        let expected = if silent { vec![2] } else { vec![] };
        a.until("whether it is silent", |known| known.silent.get(&BLUE) == Some(&expected)).await;
        let list = api.get("/v1/networks/blue/routes").await;
        assert_eq!(
            (&list["items"][0]["silent"], &list["items"][1]["silent"]),
            (&json!(silent), &json!(false))
        );
        assert_eq!(api.get("/v1/nodes/edge").await["interfaces"][0].get("silent").is_some(), silent);
    }
    knows(&mut a, &[("10.9.0.0/16", &[2, 3])], &[]).await;
    // Whether one is live the mapping tells.
    b.report_silence("edge/eth0", Gone, false).await;
    a.until("it is down", |known| known.blue(2).is_some_and(|m| m.state() == MappingState::Down)).await;
    knows(&mut a, &[("10.9.0.0/16", &[2, 3])], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_listed_a_page_at_a_time() {
    let (_site, _service, mut api) = furnished("").await;
    api.put("/v1/nodes/edge", router("host-b", "edge", "10.0.0.2", &["10.9.0.0/16"], &["10.9.0.0/16"])).await;
    api.put("/v1/nodes/twin", router("host-c", "twin", "10.0.0.3", &["10.9.0.0/16", "0.0.0.0/0"], &[])).await;
    let item = |cidr: &str, node: &str, host: &str, via: &str, transit: bool| {
        json!({"cidr": cidr, "interface": format!("{node}/eth0"), "host": host, "via": via, "transit": transit,
               "state": "defined", "silent": false})
    };
    let expected = [
        item("0.0.0.0/0", "twin", "host-c", "10.0.0.3", false),
        item("10.9.0.0/16", "edge", "host-b", "10.0.0.2", false),
        item("10.9.0.0/16", "twin", "host-c", "10.0.0.3", false),
        item("10.9.0.0/16", "edge", "host-b", "10.0.0.2", true),
    ];
    assert_eq!(api.get("/v1/networks/blue/routes").await["items"], json!(expected));
    let (mut found, mut after) = (Vec::new(), String::new());
    for _ in 0..4 {
        let page = api.get(&format!("/v1/networks/blue/routes?limit=1{after}")).await;
        found.extend(page["items"].as_array().unwrap().clone());
        after = page["next"].as_str().map(|next| format!("&after={next}")).unwrap_or_default();
    }
    assert_eq!((found, after.as_str()), (expected.to_vec(), ""));
    for bad in ["x", "10.9.0.0/16", "10.9.0.0/16/way/edge/eth0", "10.9.0.0/33/route/edge/eth0"] {
        let path = format!("/v1/networks/blue/routes?after={bad}");
        let (status, error) = api.refused("GET", &path, Value::Null).await;
        assert_eq!((status, &error["field"]), (400, &json!("after")), "{bad}");
    }
    let (status, _) = api.refused("GET", "/v1/networks/none/routes", Value::Null).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_behind_no_router_is_refused_by_name() {
    let (_site, _service, mut api) = furnished("").await;
    let green = json!({"entity": "acme", "vnet": 9, "subnets": [{"cidr": "10.1.0.0/24"}]});
    api.put("/v1/networks/green", green).await;
    api.put("/v1/peerings/p", json!({"networks": ["blue", "green"]})).await;
    for (routes, transit, status, field) in [
        (vec!["x"], vec![], 400, "routes[0]"),
        (vec!["10.9.0.0/16", "10.9.0.1/16"], vec![], 400, "routes[1]"),
        (vec!["224.0.0.0/4"], vec![], 400, "routes[0]"),
        (vec!["127.0.0.0/8"], vec![], 400, "routes[0]"),
        (vec!["10.9.0.0/16", "10.9.0.0/16"], vec![], 400, "routes[1]"),
        (vec!["10.9.0.0/16"; 65], vec![], 400, "routes"),
        (vec!["10.9.0.0/16", "10.0.0.0/24"], vec![], 409, "routes[1]"),
        (vec!["10.0.0.128/25"], vec![], 409, "routes[0]"),
        // In a peer's.
        (vec!["10.1.0.0/30"], vec![], 409, "routes[0]"),
        (vec![], vec!["169.254.0.0/24"], 400, "transit[0]"),
        (vec![], vec!["10.9.0.0/16"; 17], 400, "transit"),
    ] {
        let put = router("host-a", "edge", "10.0.0.1", &routes, &transit);
        let (given, error) = api.refused("PUT", "/v1/nodes/edge", put).await;
        assert_eq!((given, &error["field"]), (status, &json!(format!("interfaces[0].{field}"))), "{error}");
    }
    // It may contain subnets, and transit may be granted for some.
    api.put("/v1/nodes/edge", router("host-a", "edge", "10.0.0.1", &["10.0.0.0/8"], &["10.0.0.0/24"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_network_gets_subnets_that_something_behind_a_router_lies_in() {
    let (_site, _service, mut api) = furnished("").await;
    for (id, vnet, cidr) in [("green", 9, "10.1.0.0/24"), ("grey", 10, "10.9.0.0/16")] {
        let network = json!({"entity": "acme", "vnet": vnet, "subnets": [{"cidr": cidr}]});
        api.put(&format!("/v1/networks/{id}"), network).await;
    }
    api.put("/v1/peerings/p", json!({"networks": ["blue", "green"]})).await;
    api.put("/v1/nodes/edge", router("host-a", "edge", "10.0.0.1", &["10.9.7.0/24", "10.0.0.0/8"], &[]))
        .await;
    let subnets = |more: &[&str]| {
        let all = ["10.0.0.0/24"].iter().chain(more).map(|cidr| json!({"cidr": cidr})).collect::<Vec<_>>();
        json!({"entity": "acme", "vnet": 7, "subnets": all})
    };
    let (status, error) = api.refused("PUT", "/v1/networks/blue", subnets(&["10.9.0.0/16"])).await;
    assert_eq!((status, &error["field"]), (409, &json!("subnets")), "{error}");
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("10.9.7.0/24") && said.contains("edge/eth0"), "{said}");
    let green = json!({"entity": "acme", "vnet": 9, "subnets": [{"cidr": "10.9.7.0/24"}]});
    let (status, error) = api.refused("PUT", "/v1/networks/green", green).await;
    assert_eq!((status, &error["field"]), (409, &json!("subnets")), "{error}");
    let (status, error) = api.refused("PUT", "/v1/peerings/q", json!({"networks": ["blue", "grey"]})).await;
    assert_eq!((status, &error["field"]), (409, &json!("networks")), "{error}");
    api.put("/v1/networks/blue", subnets(&["10.9.8.0/24"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_has_a_bounded_number_of_routes_and_of_routers_for_each() {
    let (_site, _service, mut api) = furnished("").await;
    for last in 1..=8 {
        let id = format!("edge-{last}");
        let address = format!("10.0.0.{last}");
        let put = router("host-a", &id, &address, &["10.9.0.0/16"], &["10.9.0.0/16", "0.0.0.0/0"]);
        api.put(&format!("/v1/nodes/{id}"), put).await;
    }
    let one_more = |routes: &[&str], transit: &[&str]| router("host-b", "more", "10.0.0.9", routes, transit);
    let (status, error) = api.refused("PUT", "/v1/nodes/more", one_more(&["10.9.0.0/16"], &[])).await;
    assert_eq!((status, &error["field"]), (409, &json!("interfaces[0].routes")), "{error}");
    let (status, error) = api.refused("PUT", "/v1/nodes/more", one_more(&[], &["10.9.0.0/16"])).await;
    assert_eq!((status, &error["field"]), (409, &json!("interfaces[0].transit")), "{error}");
    // 1024 of them, one of which is there.
    for number in 0..16_u32 {
        let routes: Vec<String> = (0..64).map(|last| format!("172.16.{number}.{last}/32")).collect();
        let routes: Vec<&str> = routes.iter().map(String::as_str).skip(usize::from(number == 0)).collect();
        let (id, address) = (format!("many-{number}"), format!("10.0.0.{}", 100 + number));
        api.put(&format!("/v1/nodes/{id}"), router("host-c", &id, &address, &routes, &[])).await;
    }
    let (status, error) = api.refused("PUT", "/v1/nodes/more", one_more(&["192.168.0.0/16"], &[])).await;
    assert_eq!((status, &error["field"]), (409, &json!("interfaces[0].routes")), "{error}");
    api.delete("/v1/nodes/edge-8").await;
    api.put("/v1/nodes/more", one_more(&["10.9.0.0/16"], &["10.9.0.0/16"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_in_its_network_may_know_where_a_router_is_whatever_rules_say() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-b", "10.0.0.2").await;
    api.put("/v1/nodes/edge", router("host-c", "edge", "10.0.0.3", &["10.9.0.0/16"], &[])).await;
    let deny = json!({"entity": "acme", "priority": 1, "direction": "egress", "on": {"network": "blue"},
                      "peer": {}, "action": "deny"});
    for direction in ["egress", "ingress"] {
        let mut rule = deny.clone();
        rule["direction"] = json!(direction);
        api.put(&format!("/v1/rules/no-{direction}"), rule).await;
    }
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.report("web/eth0", Live).await;
    engine.until("web live", |known| known.blue(1).is_some_and(|m| m.state() == MappingState::Live)).await;
    let mut client = engine.client.clone();
    let mut resolve = async |last: u8| {
        let target = u32::from_be_bytes([10, 0, 0, last]);
        let asked = ResolveRequest { vnet: BLUE, interface_id: "web/eth0".to_owned(), target };
        client.resolve(asked).await.unwrap().into_inner().outcome.unwrap()
    };
    let Outcome::Refusal(refusal) = resolve(2).await else { panic!("a node that rules keep apart") };
    assert_eq!(refusal.reason(), RefusalReason::Forbidden);
    let Outcome::Mapping(mapping) = resolve(3).await else { panic!("the router") };
    assert_eq!(spot(&mapping.location), Some((12, 0)));
    // It is one no longer.
    api.put("/v1/nodes/edge", router("host-c", "edge", "10.0.0.3", &[], &[])).await;
    assert!(matches!(resolve(3).await, Outcome::Refusal(_)));
}
