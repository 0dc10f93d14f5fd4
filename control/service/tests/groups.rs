//! Groups: what engines hear of members that provisioning knows, and of those that nodes' engines report.

mod common;

use common::{Engine, furnished, hello, node};
use overlane_api::sync::Hello;
use overlane_api::sync::InterfaceState::Live;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use tonic::Code;

const VIDEO: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const AUDIO: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 4);
const ALL: Ipv4Addr = Ipv4Addr::BROADCAST;
/// The vnet of the network blue.
const BLUE: u32 = 7;

/// The node web, as `node` has it, with groups.
fn with_groups(host: &str, address: &str, groups: &[&str]) -> Value {
    let mut web = node(host, "web", address);
    web["interfaces"][0]["groups"] = json!(groups);
    web
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_hear_where_members_are_and_that_they_have_gone() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("db", "host-b", "10.0.0.2").await;
    let mut a = site.engine(&service, "host-a", None).await;
    let mut b = site.engine(&service, "host-b", None).await;
    a.until("broadcast", |known| known.groups.get(&(BLUE, ALL)) == Some(&vec![10, 11])).await;
    assert_eq!(a.known.groups.len(), 1);

    // By IGMP, as the engine there says.
    b.until("its own", |known| !known.interfaces.is_empty()).await;
    b.report_groups("db/eth0", Live, &[VIDEO, AUDIO, VIDEO]).await;
    a.until("both groups", |known| known.groups.len() == 3).await;
    assert_eq!(a.known.groups[&(BLUE, VIDEO)], [11]);
    b.report_groups("db/eth0", Live, &[VIDEO]).await;
    a.until("one group less", |known| known.groups.len() == 2).await;

    // By the API, beside what the node says.
    api.put("/v1/nodes/web", with_groups("host-a", "10.0.0.1", &["239.1.2.3", "239.1.2.3"])).await;
    a.until("both hosts", |known| known.groups.get(&(BLUE, VIDEO)) == Some(&vec![10, 11])).await;
    let own = |known: &common::Known| known.interfaces["web/eth0"].1.groups == [VIDEO.to_bits()];
    a.until("the groups of its own interface", own).await;
    let list = api.get("/v1/networks/blue/groups").await;
    let expected = json!([
        {"group": "239.1.2.3", "interface": "db/eth0", "host": "host-b", "provisioned": false, "joined": true},
        {"group": "239.1.2.3", "interface": "web/eth0", "host": "host-a", "provisioned": true, "joined": false},
    ]);
    assert_eq!(list["items"], expected);
    let page = api.get("/v1/networks/blue/groups?limit=1").await;
    assert_eq!((&page["items"][0], &page["next"]), (&expected[0], &json!("239.1.2.3/db/eth0")));
    let page = api.get("/v1/networks/blue/groups?limit=1&after=239.1.2.3/db/eth0").await;
    assert_eq!((&page["items"][0], page.get("next")), (&expected[1], None));
    let node = api.get("/v1/nodes/db").await;
    assert_eq!(node["interfaces"][0]["joined"], json!(["239.1.2.3"]));
    let node = api.get("/v1/nodes/web").await;
    assert_eq!(node["interfaces"][0]["groups"], json!(["239.1.2.3"]));

    // Who comes to the network hears of all its groups at once, and who leaves it of none.
    api.node("mail", "host-c", "10.0.0.3").await;
    let mut c = site.engine(&service, "host-c", None).await;
    c.until("all groups", |known| known.groups.len() == 2).await;
    a.until("the new host", |known| known.groups.get(&(BLUE, ALL)) == Some(&vec![10, 11, 12])).await;
    api.delete("/v1/nodes/db").await;
    a.until("it is gone", |known| {
        known.groups.get(&(BLUE, VIDEO)) == Some(&vec![10])
            && known.groups.get(&(BLUE, ALL)) == Some(&vec![10, 12])
    })
    .await;
    api.put("/v1/nodes/web", with_groups("host-a", "10.0.0.1", &[])).await;
    a.until("no group", |known| known.groups.len() == 1).await;
    assert_eq!(a.snapshots, 1, "all this is told by deltas");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_knows_no_groups_is_told_of_none() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let channel = site.engine_channel(&service, "host-a").connect().await.unwrap();
    let mut old = Engine::hello(channel, Hello { protocol_version: 2, ..hello(None) }).await.unwrap();
    old.until("the vnet", |known| !known.vnets.is_empty()).await;
    api.put("/v1/nodes/web", with_groups("host-a", "10.0.0.1", &["239.1.2.3"])).await;
    api.node("db", "host-b", "10.0.0.2").await;
    old.until("what it knows", |known| known.mappings.len() == 2).await;
    assert!(old.known.groups.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_where_packets_for_them_go_while_they_move() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    api.node("peer", "host-c", "10.0.0.9").await;
    let mut engines = Vec::new();
    for host in ["host-a", "host-b", "host-c"] {
        let mut engine = site.engine(&service, host, None).await;
        engine.until_revision(1).await;
        engines.push(engine);
    }
    let [a, b, c] = &mut engines[..] else { panic!("three engines") };
    a.report_groups("web/eth0", Live, &[VIDEO]).await;
    c.until("a member", |known| known.groups.get(&(BLUE, VIDEO)) == Some(&vec![10])).await;
    let (status, error) = api.call("POST", "/v1/nodes/web/move", json!({"host": "host-b"})).await;
    assert_eq!(status, 202, "{error}");
    b.until("it may come", |known| !known.interfaces.is_empty()).await;
    b.report_groups("web/eth0", Live, &[VIDEO]).await;
    // All acknowledge what they hear, and so the move goes on to its end.
    loop {
        let done = c.known.groups.get(&(BLUE, VIDEO)) == Some(&vec![11]);
        if done {
            break;
        }
        tokio::select! {
            step = a.step() => step.unwrap(),
            step = b.step() => step.unwrap(),
            step = c.step() => step.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_group_is_refused_by_name() {
    let (site, service, mut api) = furnished("").await;
    let put = with_groups("host-a", "10.0.0.1", &["239.1.2.3", "10.0.0.7"]);
    let (status, error) = api.refused("PUT", "/v1/nodes/web", put).await;
    assert_eq!((status, &error["field"]), (400, &json!("interfaces[0].groups[1]")), "{error}");
    let many: Vec<String> = (0..65).map(|last| format!("239.0.0.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let put = with_groups("host-a", "10.0.0.1", &many);
    let (status, error) = api.refused("PUT", "/v1/nodes/web", put).await;
    assert_eq!((status, &error["field"]), (400, &json!("interfaces[0].groups")));
    let network =
        |groups: Value| json!({"entity": "acme", "subnets": [{"cidr": "10.0.0.0/24"}], "groups": groups});
    for (groups, field) in [
        (json!({"confined": ["10.0.0.0/8"]}), "groups.confined"),
        (json!({"confined": ["x"]}), "groups.confined[0]"),
        (json!({"broadcasts": true}), "groups.broadcasts"),
    ] {
        let (status, error) = api.refused("PUT", "/v1/networks/new", network(groups)).await;
        assert_eq!((status, &error["field"]), (400, &json!(field)), "{error}");
    }
    let (status, error) = api.refused("GET", "/v1/networks/blue/groups?after=x", Value::Null).await;
    assert_eq!((status, &error["field"]), (400, &json!("after")));
    let (status, _) = api.refused("GET", "/v1/networks/none/groups", Value::Null).await;
    assert_eq!(status, 404);

    api.node("web", "host-a", "10.0.0.1").await;
    for groups in
        [vec![Ipv4Addr::new(10, 0, 0, 1)], (0..65).map(|last| Ipv4Addr::new(239, 0, 0, last)).collect()]
    {
        let mut engine = site.engine(&service, "host-a", None).await;
        engine.until_revision(1).await;
        engine.report_groups("web/eth0", Live, &groups).await;
        let refused = loop {
            if let Err(status) = engine.step().await {
                break status;
            }
        };
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("224.0.0.0/4"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_network_carries_groups_is_told() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until("the vnet", |known| !known.carrying.is_empty()).await;
    let usual = engine.known.carrying[&BLUE].clone();
    assert_eq!((usual.no_broadcast, usual.confined), (false, vec!["224.0.0.0/24".to_owned()]));
    let mut blue = api.get("/v1/networks/blue").await;
    assert_eq!(blue["groups"], json!({"broadcast": true, "confined": ["224.0.0.0/24"]}));
    blue["groups"] = json!({"broadcast": false, "confined": []});
    for field in ["id", "on_demand", "revision"] {
        blue.as_object_mut().unwrap().remove(field);
    }
    api.put("/v1/networks/blue", blue).await;
    engine.until("the change", |known| known.carrying[&BLUE].no_broadcast).await;
    assert!(engine.known.carrying[&BLUE].confined.is_empty());
}
