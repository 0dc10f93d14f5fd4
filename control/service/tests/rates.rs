//! How much nodes may send: what interfaces and entities say, and what engines hear of both.

mod common;

use common::{Engine, Known, furnished, node};
use serde_json::{Value, json};

fn with_rate(rate: Value) -> Value {
    let mut web = node("host-a", "web", "10.0.0.1");
    web["interfaces"][0]["rate"] = rate;
    web
}

/// What the engine of the node's host knows of its interface: packets and bits a second.
fn told(known: &Known) -> Option<(u32, u64)> {
    let (_, interface) = known.interfaces.get("web/eth0")?;
    interface.rate.map(|rate| (rate.packets_per_second, rate.bits_per_second))
}

async fn hears(engine: &mut Engine, what: &str, rate: Option<(u32, u64)>) {
    engine.until(what, |known| known.interfaces.contains_key("web/eth0") && told(known) == rate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stricter_of_interface_and_entity_holds_and_changes_are_told() {
    let (site, service, mut api) = furnished("").await;
    api.put("/v1/nodes/web", with_rate(json!({"packets_per_second": 1000}))).await;
    let mut engine = site.engine(&service, "host-a", None).await;
    hears(&mut engine, "the interface's", Some((1000, 0))).await;
    api.put("/v1/entities/acme", json!({"rate": {"packets_per_second": 500, "bits_per_second": 1_000_000}}))
        .await;
    hears(&mut engine, "the entity's", Some((500, 1_000_000))).await;
    api.put("/v1/nodes/web", with_rate(json!({"packets_per_second": 100}))).await;
    hears(&mut engine, "the stricter one", Some((100, 1_000_000))).await;
    api.put("/v1/entities/acme", json!({})).await;
    hears(&mut engine, "the interface's alone", Some((100, 0))).await;
    api.put("/v1/nodes/web", with_rate(json!({}))).await;
    hears(&mut engine, "none", None).await;
    assert_eq!(engine.snapshots, 1);
    for (rate, field) in [
        (json!({"packets_per_second": 0}), "interfaces[0].rate.packets_per_second"),
        (json!({"bits_per_second": 7999}), "interfaces[0].rate.bits_per_second"),
        (json!({"bytes": 1}), "interfaces[0].rate.bytes"),
    ] {
        let (status, error) = api.refused("PUT", "/v1/nodes/web", with_rate(rate)).await;
        assert_eq!((status, &error["field"]), (400, &json!(field)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_cannot_raise_what_operators_say() {
    let (site, service, mut api) = furnished("").await;
    api.put("/v1/entities/acme", json!({"rate": {"packets_per_second": 500}})).await;
    api.put("/v1/nodes/web", with_rate(json!({}))).await;
    let mut engine = site.engine(&service, "host-a", None).await;
    hears(&mut engine, "the entity's", Some((500, 0))).await;
    let token = api.put("/v1/tokens/ci", json!({"role": "entity", "entity": "acme"})).await;
    let mut acme = site.bearer(&service, token["secret"].as_str().unwrap()).await;
    let (status, _) = acme.refused("PUT", "/v1/entities/acme", json!({})).await;
    assert_eq!(status, 403);
    acme.put("/v1/nodes/web", with_rate(json!({"packets_per_second": 50_000, "bits_per_second": 8_000})))
        .await;
    hears(&mut engine, "what it adds, within what it may", Some((500, 8_000))).await;
}
