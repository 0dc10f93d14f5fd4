//! Systems without an engine: what nodes know them by, what they may not be, who may say so, and what engines hear.

mod common;

use common::furnished;
use serde_json::{Value, json};

/// The vnet of the network blue.
const BLUE: u32 = 7;

/// The network blue, as it is furnished, with externals.
fn blue(externals: Value) -> Value {
    let subnets = json!([{"cidr": "10.0.0.0/24", "gateway": "10.0.0.254"}]);
    json!({"entity": "acme", "vnet": BLUE, "subnets": subnets, "externals": externals})
}

fn system(name: &str, address: &str, ipv4: Option<&str>) -> Value {
    let mut system = json!({"name": name, "address": address});
    if let Some(ipv4) = ipv4 {
        system["ipv4"] = json!(ipv4);
    }
    system
}

#[tokio::test(flavor = "multi_thread")]
async fn each_external_keeps_its_address_of_the_pool_and_engines_hear_of_it() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until("the vnet", |known| known.externals.get(&BLUE) == Some(&Vec::new())).await;
    let many = system("many", "2001:db8:1::/126", None);
    let systems =
        json!([system("db", "2001:db8::0:5", None), many, system("own", "2001:db8::9", Some("10.9.9.9"))]);
    let put = api.put("/v1/networks/blue", blue(json!({"pool": "10.255.0.0/28", "systems": systems}))).await;
    let expected = json!({"pool": "10.255.0.0/28", "systems": [
        system("db", "2001:db8::5", Some("10.255.0.1")),
        system("many", "2001:db8:1::/126", Some("10.255.0.4/30")),
        system("own", "2001:db8::9", Some("10.9.9.9")),
    ]});
    assert_eq!(put["externals"], expected);
    let told = |of: &[(&str, &str)]| {
        let of: Vec<_> = of.iter().map(|(six, four)| ((*six).to_owned(), (*four).to_owned())).collect();
        move |known: &common::Known| known.externals.get(&BLUE) == Some(&of)
    };
    let all = [
        ("2001:db8::5/128", "10.255.0.1/32"),
        ("2001:db8:1::/126", "10.255.0.4/30"),
        ("2001:db8::9/128", "10.9.9.9/32"),
    ];
    engine.until("the externals", told(&all)).await;
    // What is given as it was read changes nothing.
    let revision = api.get("/v1/status").await["revision"].clone();
    api.put("/v1/networks/blue", blue(expected)).await;
    assert_eq!(api.get("/v1/status").await["revision"], revision);
    // Others come and go, and those that stay are who they were. The pool's own ends are nobody's.
    let systems = json!([system("new", "2001:db8::6", None), system("db", "2001:db8::5", None)]);
    let put = api.put("/v1/networks/blue", blue(json!({"pool": "10.255.0.0/28", "systems": systems}))).await;
    assert_eq!(put["externals"]["systems"][0]["ipv4"], "10.255.0.2");
    assert_eq!(put["externals"]["systems"][1]["ipv4"], "10.255.0.1");
    engine
        .until(
            "the change",
            told(&[("2001:db8::6/128", "10.255.0.2/32"), ("2001:db8::5/128", "10.255.0.1/32")]),
        )
        .await;
    let systems: Vec<_> =
        (0..15).map(|last| system(&format!("s{last}"), &format!("2001:db8::{last}"), None)).collect();
    let full = json!({"pool": "10.255.0.0/28", "systems": systems});
    let (status, error) = api.refused("PUT", "/v1/networks/blue", blue(full)).await;
    assert_eq!((status, &error["field"]), (409, &json!("externals.systems[14].ipv4")), "{error}");
    api.put("/v1/networks/blue", blue(json!({}))).await;
    engine.until("none", told(&[])).await;
    assert_eq!(engine.snapshots, 1, "all this is told by deltas");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_no_external_is_refused_by_name() {
    let (_site, _service, mut api) = furnished("").await;
    let green = json!({"entity": "acme", "vnet": 9, "subnets": [{"cidr": "10.1.0.0/24"}]});
    api.put("/v1/networks/green", green).await;
    api.put("/v1/peerings/p", json!({"networks": ["blue", "green"]})).await;
    let mut edge = common::node("host-a", "edge", "10.0.0.1");
    edge["interfaces"][0]["routes"] = json!(["10.77.0.0/24", "0.0.0.0/0"]);
    api.put("/v1/nodes/edge", edge).await;
    let one = |address: &str, ipv4: Option<&str>| json!({"systems": [system("db", address, ipv4)]});
    for (externals, status, field) in [
        (json!({"pool": "10.255.0.1/24"}), 400, "externals.pool"),
        (json!({"pool": "10.0.0.0/8"}), 400, "externals.pool"),
        (json!({"pool": "224.0.0.0/24"}), 400, "externals.pool"),
        (one("2001:db8::5", None), 400, "externals.systems[0].ipv4"),
        (one("x", Some("10.255.0.1")), 400, "externals.systems[0].address"),
        (one("ff02::1", Some("10.255.0.1")), 400, "externals.systems[0].address"),
        (one("fe80::1", Some("10.255.0.1")), 400, "externals.systems[0].address"),
        (one("::ffff:10.0.0.1", Some("10.255.0.1")), 400, "externals.systems[0].address"),
        (one("2001:db8::/64", Some("10.255.0.1")), 400, "externals.systems[0].address"),
        (one("2001:db8::5", Some("x")), 400, "externals.systems[0].ipv4"),
        (one("2001:db8::/120", Some("10.255.0.1")), 400, "externals.systems"),
        (one("2001:db8::5", Some("224.0.0.1")), 400, "externals.systems"),
        (json!({"systems": [system("Ä", "2001:db8::5", None)]}), 400, "externals.systems[0].name"),
        (json!({"servers": []}), 400, "externals.servers"),
        // In its own subnet, in a peer's, in what is behind a router; in a host's prefix.
        (one("2001:db8::5", Some("10.0.0.77")), 409, "externals"),
        (json!({"pool": "10.1.0.0/28"}), 409, "externals"),
        (one("2001:db8::/120", Some("10.77.0.0/24")), 409, "externals"),
        (one("fd00:0:0:b::5", Some("10.255.0.1")), 409, "externals"),
    ] {
        let (given, error) = api.refused("PUT", "/v1/networks/blue", blue(externals)).await;
        assert_eq!((given, &error["field"]), (status, &json!(field)), "{error}");
    }
    let twice = json!({"pool": "10.255.0.0/24", "systems": [system("db", "2001:db8::5", None), system("db", "2001:db8::6", None)]});
    let (_, error) = api.refused("PUT", "/v1/networks/blue", blue(twice)).await;
    assert_eq!(error["field"], "externals.systems[1].name");
    let twice = json!({"pool": "10.255.0.0/16", "systems": [system("a", "2001:db8::5", None), system("b", "2001:db8::/120", None)]});
    let (_, error) = api.refused("PUT", "/v1/networks/blue", blue(twice)).await;
    assert_eq!(error["field"], "externals.systems");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_gets_the_addresses_of_externals() {
    let (_site, _service, mut api) = furnished("").await;
    let systems = json!([system("db", "2001:db8:0:5::5", None)]);
    api.put("/v1/networks/blue", blue(json!({"pool": "10.255.0.0/24", "systems": systems}))).await;
    // A subnet, a peer's, a network behind a router, a host's prefix.
    let mut more = blue(json!({"pool": "10.255.0.0/24", "systems": systems}));
    more["subnets"] = json!([{"cidr": "10.0.0.0/24"}, {"cidr": "10.255.0.128/25"}]);
    let (status, error) = api.refused("PUT", "/v1/networks/blue", more).await;
    assert_eq!((status, &error["field"]), (409, &json!("externals")), "{error}");
    let green = |cidr: &str| json!({"entity": "acme", "vnet": 9, "subnets": [{"cidr": cidr}]});
    api.put("/v1/networks/green", green("10.255.0.0/16")).await;
    let (status, error) = api.refused("PUT", "/v1/peerings/p", json!({"networks": ["blue", "green"]})).await;
    assert_eq!((status, &error["field"]), (409, &json!("networks")), "{error}");
    api.put("/v1/networks/green", green("10.1.0.0/24")).await;
    api.put("/v1/peerings/p", json!({"networks": ["blue", "green"]})).await;
    let (status, error) = api.refused("PUT", "/v1/networks/green", green("10.255.0.0/16")).await;
    assert_eq!((status, &error["field"]), (409, &json!("subnets")), "{error}");
    let mut edge = common::node("host-a", "edge", "10.0.0.1");
    edge["interfaces"][0]["routes"] = json!(["10.255.0.64/26"]);
    let (status, error) = api.refused("PUT", "/v1/nodes/edge", edge).await;
    assert_eq!((status, &error["field"]), (409, &json!("interfaces[0].routes[0]")), "{error}");
    let host = json!({"prefix": "2001:db8:0:5::/64"});
    let (status, error) = api.refused("PUT", "/v1/hosts/host-d", host).await;
    assert_eq!((status, &error["field"]), (409, &json!("prefix")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_alone_say_which_systems_of_the_substrate_nodes_reach() {
    let (site, service, mut api) = furnished("").await;
    let systems = json!([system("db", "2001:db8::5", None)]);
    let externals = json!({"pool": "10.255.0.0/24", "systems": systems});
    api.put("/v1/networks/blue", blue(externals.clone())).await;
    let (status, token) = api.call("POST", "/v1/tokens", json!({"role": "entity", "entity": "acme"})).await;
    assert_eq!(status, 201, "{token}");
    let mut own = site.bearer(&service, token["secret"].as_str().unwrap()).await;
    let found = own.get("/v1/networks/blue").await;
    assert_eq!(found["externals"]["systems"][0]["ipv4"], "10.255.0.1");
    // What is as it was may be given again.
    own.put("/v1/networks/blue", blue(externals)).await;
    for other in [json!({}), json!({"pool": "10.255.0.0/24", "systems": [system("db", "2001:db8::6", None)]})]
    {
        let (status, error) = own.refused("PUT", "/v1/networks/blue", blue(other)).await;
        assert_eq!((status, &error["field"]), (403, &json!("externals")), "{error}");
    }
    let new = json!({"entity": "acme", "subnets": [{"cidr": "10.3.0.0/24"}],
                     "externals": {"systems": [system("db", "2001:db8::5", Some("10.255.0.1"))]}});
    let (status, _) = own.refused("PUT", "/v1/networks/new", new).await;
    assert_eq!(status, 403);
}

/// The addresses that the one rule of a host is about.
fn peers(known: &common::Known) -> Vec<(u32, String)> {
    use overlane_api::sync::peer::What;
    let of = |rule: &overlane_api::sync::Rule| match rule.peer.clone().and_then(|peer| peer.what) {
        Some(What::Addresses(addresses)) => addresses.ranges,
        other => panic!("{other:?}"),
    };
    let ranges = known.rules.values().flat_map(|(_, rule)| of(rule));
    ranges.map(|range| (range.vnet, range.cidr)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_name_externals_by_their_own_addresses_and_follow_them() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let systems = json!([
        system("db", "2001:db8::5", Some("10.255.0.1")),
        system("many", "2001:db8:1::/120", Some("10.255.1.0/24")),
        system("other", "2001:db9::5", Some("10.255.0.9")),
    ]);
    api.put("/v1/networks/blue", blue(json!({"systems": systems}))).await;
    let rule = |cidr: &str| {
        json!({"entity": "acme", "priority": 1, "direction": "egress", "on": {"node": "web"},
               "peer": {"cidr": cidr, "network": "blue"}, "action": "deny"})
    };
    let mut engine = site.engine(&service, "host-a", None).await;
    for (cidr, expected) in [
        ("2001:db8::/32", vec!["10.255.0.1/32", "10.255.1.0/24"]),
        ("2001:db8:1::40/122", vec!["10.255.1.64/26"]),
        ("2001:db8:1::7/128", vec!["10.255.1.7/32"]),
        ("2001:dba::/32", vec![]),
        ("2001:db9::/32", vec!["10.255.0.9/32"]),
    ] {
        api.put("/v1/rules/out", rule(cidr)).await;
        let expected: Vec<_> = expected.into_iter().map(|net| (BLUE, net.to_owned())).collect();
        engine.until(cidr, |known| known.rules.len() == 1 && peers(known) == expected).await;
    }
    // They are others.
    let systems = json!([system("new", "2001:db9::77", Some("10.255.0.7"))]);
    api.put("/v1/networks/blue", blue(json!({"systems": systems}))).await;
    engine.until("the new one", |known| peers(known) == [(BLUE, "10.255.0.7/32".to_owned())]).await;
    // The network has to be said, and bits behind the length are none.
    let mut bare = rule("2001:db8::/32");
    bare["peer"] = json!({"cidr": "2001:db8::/32"});
    let (status, error) = api.refused("PUT", "/v1/rules/bare", bare).await;
    assert_eq!((status, &error["field"]), (400, &json!("peer.network")), "{error}");
    let (status, error) = api.refused("PUT", "/v1/rules/bare", rule("2001:db8::5/32")).await;
    assert_eq!((status, &error["field"]), (400, &json!("peer.cidr")), "{error}");
    let mut on = rule("2001:db8::/32");
    on["on"] = json!({"cidr": "2001:db8::/32", "network": "blue"});
    let (status, error) = api.refused("PUT", "/v1/rules/bare", on).await;
    assert_eq!((status, &error["field"]), (400, &json!("on")), "{error}");
}
