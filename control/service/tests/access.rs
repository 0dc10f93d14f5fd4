//! Tokens, roles, quotas and the audit log, over the real API.

mod common;

use common::{Client, Site, furnished, node};
use overlane_control::access::{Authenticator, Decision, Refusal, Role, decide, of_route};
use overlane_control::api::Peer;
use overlane_control::service::Service;
use serde_json::{Value, json};
use std::time::Instant;

/// A token's secret, made by an operator.
async fn token(api: &mut Client, id: &str, spec: Value) -> String {
    api.put(&format!("/v1/tokens/{id}"), spec).await["secret"].as_str().unwrap().to_owned()
}

/// A site with acme (blue, the node mine) and umbrella (red, the node theirs, a rule, a token), and a client with a token of
/// acme's, which may place nodes on host-a.
async fn two_entities() -> (Site, Service, Client, Client) {
    let (site, service, mut api) = furnished("").await;
    let placement = json!({"hosts": ["host-a"], "device_prefix": "acme-"});
    api.put("/v1/entities/acme", json!({"placement": placement})).await;
    api.node("mine", "host-a", "10.0.0.1").await;
    let mut theirs = node("host-a", "theirs", "10.0.0.1");
    theirs["entity"] = json!("umbrella");
    theirs["interfaces"][0]["network"] = json!("red");
    theirs["interfaces"][0]["slot"] = json!(9);
    api.put("/v1/nodes/theirs", theirs).await;
    api.put("/v1/rules/theirs", rule("umbrella", json!({"network": "red"}))).await;
    api.put("/v1/rules/mine", rule("acme", json!({"network": "blue"}))).await;
    api.put(
        "/v1/networks/red2",
        json!({"entity": "umbrella", "vnet": 9, "subnets": [{"cidr": "10.7.0.0/24"}]}),
    )
    .await;
    api.put("/v1/peerings/theirs", json!({"networks": ["red", "red2"]})).await;
    token(&mut api, "theirs", json!({"role": "entity", "entity": "umbrella"})).await;
    let secret = token(&mut api, "mine", json!({"role": "entity", "entity": "acme"})).await;
    let acme = site.bearer(&service, &secret).await;
    (site, service, api, acme)
}

fn rule(entity: &str, on: Value) -> Value {
    json!({"entity": entity, "priority": 1, "direction": "ingress", "on": on, "action": "deny"})
}

/// The node of acme's, on a device that it may have.
fn placed(device: &str, address: &str) -> Value {
    node("host-a", device, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_told_once_and_lets_its_bearer_in_until_it_is_revoked() {
    let (site, service, mut api) = furnished("").await;
    let spec = json!({"name": "the orchestrator", "role": "operator"});
    let (status, made) = api.call("POST", "/v1/tokens", spec.clone()).await;
    assert_eq!((status, &api.headers["cache-control"]), (201, &"no-store".parse().unwrap()), "{made}");
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let (prefix, random) = secret.split_at(secret.len() - 43);
    assert_eq!((prefix, random.contains('=')), (format!("ovl_{id}_").as_str(), false));

    let mut bearer = site.bearer(&service, secret).await;
    assert_eq!(bearer.get("/v1/status").await["entities"], 2);
    let path = format!("/v1/tokens/{id}");
    let shown = api.get(&path).await;
    assert!(shown["secret"].is_null() && shown["last_used"].as_u64().is_some(), "{shown}");
    assert!(!api.get("/v1/tokens").await.to_string().contains(random));
    let (_, backup) = api.raw("GET", "/v1/backup", "application/json", Vec::new()).await;
    let hex: String = random.bytes().map(|byte| format!("{byte:02x}")).collect();
    let backup = String::from_utf8(backup).unwrap();
    assert!(backup.contains("\"tokens\"") && !backup.contains(&hex), "hashed at rest");

    // The same again is confirmed, and tells no secret; what a token may do never changes.
    let (status, again) = api.call("PUT", &path, spec).await;
    assert_eq!((status, &again["secret"]), (200, &Value::Null));
    for (field, spec) in [
        ("role", json!({"role": "entity", "entity": "acme"})),
        ("expires_in", json!({"role": "operator", "expires_in": 60})),
    ] {
        let (status, error) = api.refused("PUT", &path, spec).await;
        assert_eq!((status, error["field"].as_str()), (409, Some(field)), "{error}");
    }
    for (field, spec) in [
        ("entity", json!({"role": "entity"})),
        ("entity", json!({"role": "operator", "entity": "acme"})),
        ("entity", json!({"role": "entity", "entity": "nobody"})),
        ("expires_in", json!({"role": "operator", "expires_in": 59})),
        ("name", json!({"role": "operator", "name": "x".repeat(257)})),
    ] {
        let (status, error) = api.refused("PUT", "/v1/tokens/bad", spec).await;
        assert_eq!((status, error["field"].as_str()), (400, Some(field)), "{error}");
    }

    api.delete(&path).await;
    assert_eq!(
        bearer.refused("GET", "/v1/status", Value::Null).await.0,
        401,
        "revoked on an open connection"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_known_is_told_401_and_whoever_may_not_403() {
    let (site, service, mut api) = furnished("").await;
    let secret = token(&mut api, "ci", json!({"role": "operator"})).await;
    let mut nobody = Client::anonymous(service.api_address(), &site.path("ca.crt")).await.unwrap();
    let wrong = format!("{}{}", &secret[..secret.len() - 1], if secret.ends_with('A') { 'B' } else { 'A' });
    for shown in [
        None,
        Some(String::new()),
        Some("Basic b3BlcmF0b3I6".to_owned()),
        Some("Bearer".to_owned()),
        Some(format!("Bearer {wrong}")),
        Some(format!("Bearer {}", secret.replace("ovl_ci_", "ovl_other_"))),
        Some(format!("Bearer {}", "x".repeat(8000))),
    ] {
        nobody.authorization.clone_from(&shown);
        // Nor does anybody learn which paths there are.
        for path in ["/v1/status", "/v1/openapi.json", "/v1/nowhere"] {
            let (status, error) = nobody.refused("GET", path, Value::Null).await;
            assert_eq!((status, &error["code"]), (401, &json!("unauthenticated")), "{shown:?}: {error}");
            assert_eq!(nobody.headers["www-authenticate"], "Bearer");
        }
        // Too many of these and the address has to wait: a new service forgives.
        if shown.as_deref() == Some("Bearer") {
            break;
        }
    }
    // A certificate that names no operator is known, and may not; with a token it is who the token says.
    let mut engine = Client::connect(service.api_address(), &site.certificate("host-a")).await.unwrap();
    assert_eq!(engine.refused("GET", "/v1/status", Value::Null).await.0, 403);
    engine.authorization = Some(format!("bearer {secret}"));
    engine.get("/v1/status").await;
    // Whoever shows a token wants to be what it says, and no more: also an operator.
    api.authorization = Some(format!("Bearer {wrong}"));
    assert_eq!(api.refused("GET", "/v1/status", Value::Null).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_lets_nobody_in() {
    let (site, service, mut api) = furnished("").await;
    let secret = token(&mut api, "short", json!({"role": "operator", "expires_in": 60})).await;
    site.bearer(&service, &secret).await.get("/v1/status").await;
    let expires = api.get("/v1/tokens/short").await["expires"].as_u64().unwrap();
    let authenticator = Authenticator::new(service.ledger().clone(), Vec::new(), Some(Vec::new()));
    let header = format!("Bearer {secret}");
    let at = |time| {
        authenticator.admit_at(&Peer::default(), Some(header.as_bytes()), Instant::now(), time).unwrap()
    };
    assert_eq!(at(expires - 1).map(|caller| caller.role), Ok(Role::Operator));
    assert_eq!(at(expires), Err(Refusal::BadToken));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_fails_too_often_has_to_wait_and_operators_do_not() {
    let (site, service, mut api) = furnished("").await;
    let mut guesser = site.bearer(&service, &format!("ovl_ci_{}", "A".repeat(43))).await;
    let mut statuses = Vec::new();
    for _ in 0..25 {
        statuses.push(guesser.refused("GET", "/v1/status", Value::Null).await.0);
    }
    assert_eq!((statuses[19], statuses[24]), (401, 429), "{statuses:?}");
    let wait: u64 = guesser.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    api.get("/v1/status").await;
    let metrics = common::metrics(&service).await;
    for wanted in
        ["api_refusals_total{reason=\"unauthenticated\"} 20", "api_refusals_total{reason=\"rate_limited\"} 5"]
    {
        assert!(metrics.contains(wanted), "{wanted} in {metrics}");
    }
}

/// A body that would do, for a path and method of the document, if the caller was allowed.
fn body(path: &str) -> Value {
    let networks = json!([{"cidr": "10.9.0.0/24"}]);
    match path {
        "/v1/networks/{id}" => json!({"entity": "umbrella", "subnets": networks}),
        "/v1/nodes/{id}" => {
            let mut body = node("host-a", "theirs", "10.0.0.1");
            body["entity"] = json!("umbrella");
            body["interfaces"][0]["network"] = json!("red");
            body
        }
        "/v1/nodes/{id}/move" => json!({"host": "host-b"}),
        "/v1/hosts/{id}" => json!({"prefix": "fd00:0:0:f::/64"}),
        "/v1/rules/{id}" => rule("umbrella", json!({"network": "red"})),
        "/v1/rules/test" => json!({"from": "theirs", "to": "mine", "protocol": "icmp"}),
        "/v1/peerings/{id}" => json!({"networks": ["red", "red2"], "default_action": "deny"}),
        "/v1/tokens" | "/v1/tokens/{id}" => json!({"role": "operator"}),
        _ => json!({}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entitys_token_gets_nothing_of_another_entity_by_any_path_and_method_of_the_document() {
    let (_site, _service, mut api, mut acme) = two_entities().await;
    let document = api.get("/v1/openapi.json").await;
    let revision = api.get("/v1/status").await["revision"].clone();
    let role = Role::Entity("acme".to_owned());
    let mut looked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let Some((kind, verb)) = of_route(&method, path) else {
                panic!("nobody has decided who may {method} {path}: see access/decide.rs");
            };
            let theirs = match kind.name() {
                "network" => "red",
                "entity" => "umbrella",
                "host" => "host-a",
                _ => "theirs",
            };
            let at = path.replace("{id}", theirs);
            let value = if matches!(method.as_str(), "PUT" | "POST") { body(path) } else { Value::Null };
            let (status, answer) = acme.call(&method, &at, value).await;
            let said = format!("{method} {at}: {status} {answer}");
            looked += 1;
            match decide(&role, kind, verb) {
                Decision::Never => assert_eq!(status, 403, "{said}"),
                Decision::Own if path.contains("{id}") && method == "PUT" => {
                    assert_eq!(status, 409, "{said}")
                }
                Decision::Own if path.contains("{id}") => assert_eq!(status, 404, "{said}"),
                Decision::Own if method == "POST" => assert_eq!(status, 400, "{said}"),
                Decision::Own | Decision::Any => assert_eq!(status, 200, "{said}"),
            }
            if decide(&role, kind, verb) != Decision::Any {
                // But for what was asked for.
                let told = answer.to_string().replace(&format!(" {theirs} is taken"), "");
                let told = told.replace(&format!("there is no {} {theirs}", kind.name()), "");
                let told =
                    told.replace("there is no entity umbrella", "").replace("there is no \\\"theirs", "");
                for word in told.split(|c: char| !c.is_ascii_alphanumeric()) {
                    assert!(!["umbrella", "theirs", "red", "red2"].contains(&word), "{word} in {said}");
                }
            }
        }
    }
    assert!(looked >= 30, "{looked}");
    assert_eq!(api.get("/v1/status").await["revision"], revision, "nothing has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_anothers_looks_exactly_as_if_it_did_not_exist() {
    let (_site, _service, mut api, mut acme) = two_entities().await;
    for (method, theirs, nobodys) in [
        ("GET", "/v1/networks/red", "/v1/networks/xxx"),
        ("DELETE", "/v1/networks/red", "/v1/networks/xxx"),
        ("GET", "/v1/nodes/theirs", "/v1/nodes/xxxxxx"),
        ("DELETE", "/v1/nodes/theirs", "/v1/nodes/xxxxxx"),
        ("GET", "/v1/rules/theirs", "/v1/rules/xxxxxx"),
        ("DELETE", "/v1/rules/theirs", "/v1/rules/xxxxxx"),
        ("GET", "/v1/peerings/theirs", "/v1/peerings/xxxxxx"),
        ("DELETE", "/v1/peerings/theirs", "/v1/peerings/xxxxxx"),
        ("GET", "/v1/entities/umbrella", "/v1/entities/xxxxxxxx"),
    ] {
        let name = |path: &str| path.rsplit('/').next().unwrap().to_owned();
        let (status, one) = acme.refused(method, theirs, Value::Null).await;
        let (_, two) = acme.refused(method, nobodys, Value::Null).await;
        assert_eq!((status, one.to_string().replace(&name(theirs), &name(nobodys))), (404, two.to_string()));
    }
    // Named from something of one's own, it is not there either.
    let interface = |network: &str| {
        let mut body = placed("acme-x", "10.0.0.9");
        body["interfaces"][0]["network"] = json!(network);
        body
    };
    let on = |on: Value, peer: Value| {
        let mut body = rule("acme", on);
        body["peer"] = peer;
        body
    };
    let blue = || json!({"network": "blue"});
    for (path, theirs, nobodys) in [
        ("/v1/nodes/new", interface("red"), interface("xxx")),
        ("/v1/rules/new", on(json!({"network": "red"}), json!({})), on(json!({"network": "xxx"}), json!({}))),
        ("/v1/rules/new", on(json!({"node": "theirs"}), json!({})), on(json!({"node": "xxxxxx"}), json!({}))),
        ("/v1/rules/new", on(blue(), json!({"network": "red"})), on(blue(), json!({"network": "xxx"}))),
        ("/v1/rules/new", on(blue(), json!({"node": "theirs"})), on(blue(), json!({"node": "xxxxxx"}))),
        (
            "/v1/rules/new",
            on(blue(), json!({"entity": "umbrella"})),
            on(blue(), json!({"entity": "xxxxxxxx"})),
        ),
        ("/v1/peerings/new", json!({"networks": ["blue", "red"]}), json!({"networks": ["blue", "xxx"]})),
        (
            "/v1/networks/new",
            json!({"entity": "umbrella", "subnets": [{"cidr": "10.8.0.0/24"}]}),
            json!({"entity": "xxxxxxxx", "subnets": [{"cidr": "10.8.0.0/24"}]}),
        ),
        (
            "/v1/rules/test",
            json!({"from": "mine", "to": "theirs", "protocol": "icmp"}),
            json!({"from": "mine", "to": "xxxxxx", "protocol": "icmp"}),
        ),
    ] {
        let method = if path.ends_with("test") { "POST" } else { "PUT" };
        let (status, one) = acme.refused(method, path, theirs).await;
        let (_, two) = acme.refused(method, path, nobodys).await;
        let mut said = one.to_string();
        for (name, other) in [("umbrella", "xxxxxxxx"), ("theirs", "xxxxxx"), ("red", "xxx")] {
            said = said.replace(name, other);
        }
        assert_eq!((status, said), (400, two.to_string()), "{path}");
    }
    // A clash does not tell with whom.
    let clash = |slot: u32, device: &str| {
        let mut body = placed(device, "10.0.0.9");
        body["interfaces"][0]["slot"] = json!(slot);
        body
    };
    let taken = json!({"entity": "acme", "vnet": 8, "subnets": [{"cidr": "10.8.0.0/24"}]});
    for (path, body) in [
        ("/v1/nodes/new", clash(9, "acme-x")),
        ("/v1/networks/new", taken),
        ("/v1/networks/red", json!({"entity": "acme", "subnets": [{"cidr": "10.8.0.0/24"}]})),
        ("/v1/peerings/theirs", json!({"networks": ["red", "red2"]})),
    ] {
        let (status, error) = acme.refused("PUT", path, body).await;
        let told = error.to_string().replace("network red ", "").replace("peering theirs", "");
        assert_eq!(status, 409, "{path}: {error}");
        assert!(!told.contains("red") && !told.contains("theirs") && !told.contains("umbrella"), "{error}");
    }
    // And what others say about it keeps their names to themselves.
    let mut about = rule("umbrella", json!({"network": "red"}));
    about["peer"] = json!({"network": "blue"});
    api.put("/v1/rules/secret", about).await;
    acme.delete("/v1/rules/mine").await;
    acme.delete("/v1/nodes/mine").await;
    let (status, error) = acme.refused("DELETE", "/v1/networks/blue", Value::Null).await;
    assert_eq!(status, 409);
    assert!(error["message"].as_str().unwrap().ends_with("in use by somebody else"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_does_what_it_likes_with_its_own() {
    let (_site, _service, mut api, mut acme) = two_entities().await;
    for (path, mine) in
        [("/v1/networks", "blue"), ("/v1/nodes", "mine"), ("/v1/rules", "mine"), ("/v1/entities", "acme")]
    {
        for query in ["", "?entity=acme", "?limit=1"] {
            if path == "/v1/entities" && query.contains("entity") {
                continue;
            }
            let page = acme.get(&format!("{path}{query}")).await;
            let ids: Vec<_> =
                page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
            assert_eq!((ids, &page["next"]), (vec![json!(mine)], &Value::Null), "{path}{query}");
        }
    }
    assert_eq!(acme.get("/v1/nodes?entity=umbrella").await["items"], json!([]));
    assert_eq!(acme.get("/v1/peerings").await["items"], json!([]));

    let green = json!({"entity": "acme", "subnets": [{"cidr": "10.5.0.0/24"}]});
    acme.put("/v1/networks/green", green).await;
    acme.put("/v1/peerings/own", json!({"networks": ["blue", "green"]})).await;
    acme.put("/v1/peerings/own", json!({"networks": ["blue", "green"], "default_action": "deny"})).await;
    acme.put("/v1/nodes/web", placed("acme-web", "10.0.0.2")).await;
    acme.put("/v1/nodes/web", placed("acme-web", "10.0.0.3")).await;
    let mut body = node("host-a", "mine", "10.0.0.4");
    body["tags"] = json!(["db"]);
    acme.put("/v1/nodes/mine", body).await;
    let asked = json!({"from": "web", "to": "mine", "protocol": "icmp"});
    let (status, verdict) = acme.call("POST", "/v1/rules/test", asked).await;
    assert_eq!((status, &verdict["ingress"]["rule"]), (200, &json!("mine")), "{verdict}");

    // Where it may place nodes, operators say; and moving is theirs.
    for (field, body) in [
        ("host", node("host-b", "acme-x", "10.0.0.9")),
        ("interfaces[0].attachment.device", node("host-a", "eth0", "10.0.0.9")),
    ] {
        let (status, error) = acme.refused("PUT", "/v1/nodes/new", body).await;
        assert_eq!((status, error["field"].as_str()), (403, Some(field)), "{error}");
    }
    api.put("/v1/entities/acme", json!({})).await;
    let (status, error) = acme.refused("PUT", "/v1/nodes/new", placed("acme-x", "10.0.0.9")).await;
    assert_eq!((status, error["field"].as_str()), (403, Some("interfaces[0]")), "{error}");
    assert_eq!(acme.refused("POST", "/v1/nodes/mine/move", json!({"host": "host-b"})).await.0, 403);
    let greedy = json!({"quota": {"nodes": 1_000_000}});
    assert_eq!(acme.refused("PUT", "/v1/entities/acme", greedy).await.0, 403, "its own quota least of all");

    // A peering with another entity's network is the operators' to make; either side can end it, and sees it till then.
    let red2 = json!({"networks": ["green", "red2"]});
    api.put("/v1/peerings/both", red2.clone()).await;
    let seen = acme.get("/v1/peerings").await;
    assert_eq!(seen["items"].as_array().unwrap().len(), 2, "{seen}");
    assert_eq!(acme.refused("PUT", "/v1/peerings/both", red2).await.0, 403);
    let mut about = rule("acme", json!({"network": "blue"}));
    about["peer"] = json!({"network": "red2"});
    acme.put("/v1/rules/peer", about).await;
    acme.delete("/v1/peerings/both").await;
    for path in ["/v1/rules/peer", "/v1/peerings/own", "/v1/nodes/web", "/v1/networks/green"] {
        acme.delete(path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_refuses_what_is_more_and_nothing_else() {
    let (_site, service, mut api) = furnished("[quota]\nrules = 1\ntokens = 1\n").await;
    let quota = json!({"networks": 1, "nodes": 2, "interfaces": 2});
    let acme = api.put("/v1/entities/acme", json!({"quota": quota})).await;
    assert_eq!(acme["limits"], json!({"networks": 1, "nodes": 2, "interfaces": 2, "rules": 1, "tokens": 1}));
    let exhausted = async |api: &mut Client, path: &str, body: Value, what: &str, numbers: &str| {
        let (status, error) = api.refused("PUT", path, body).await;
        assert_eq!((status, &error["code"]), (409, &json!("exhausted")), "{path}: {error}");
        assert_eq!(error["field"], format!("quota.{what}"));
        assert!(error["message"].as_str().unwrap().contains(numbers), "{error}");
    };
    let network = json!({"entity": "acme", "subnets": [{"cidr": "10.5.0.0/24"}]});
    exhausted(&mut api, "/v1/networks/green", network, "networks", "1 of 1 networks").await;
    api.node("one", "host-a", "10.0.0.1").await;
    let mut two = node("host-a", "two", "10.0.0.2");
    let mut more = two["interfaces"][0].clone();
    more["name"] = json!("eth1");
    more["addresses"] = json!(["10.0.0.3"]);
    more["attachment"]["device"] = json!("three");
    two["interfaces"].as_array_mut().unwrap().push(more);
    exhausted(&mut api, "/v1/nodes/two", two, "interfaces", "1 of 2 interfaces").await;
    api.node("two", "host-a", "10.0.0.2").await;
    exhausted(&mut api, "/v1/nodes/three", node("host-a", "x", "10.0.0.4"), "nodes", "2 of 2 nodes").await;
    api.put("/v1/rules/one", rule("acme", json!({"network": "blue"}))).await;
    exhausted(&mut api, "/v1/rules/two", rule("acme", json!({"network": "blue"})), "rules", "1 of 1 rules")
        .await;
    let spec = json!({"role": "entity", "entity": "acme"});
    token(&mut api, "one", spec.clone()).await;
    exhausted(&mut api, "/v1/tokens/two", spec, "tokens", "1 of 1 tokens").await;
    let used = json!({"networks": 1, "nodes": 2, "interfaces": 2, "rules": 1, "tokens": 1});
    assert_eq!(api.get("/v1/entities/acme").await["used"], used);

    // Lowered below what there is: what is there can change and go.
    api.put("/v1/entities/acme", json!({"quota": {"nodes": 0, "interfaces": 0}})).await;
    api.node("one", "host-a", "10.0.0.8").await;
    api.delete("/v1/nodes/one").await;
    exhausted(&mut api, "/v1/nodes/one", node("host-a", "one", "10.0.0.1"), "nodes", "1 of 0 nodes").await;
    overlane_control::ledger::verify(&*service.ledger().view().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_is_in_the_audit_log_with_who_what_from_where_and_revision() {
    let (_site, _service, mut api, mut acme) = two_entities().await;
    let start = api.get("/v1/status").await["revision"].as_u64().unwrap();
    let all = api.get("/v1/audit?limit=1000").await;
    let revisions: Vec<u64> =
        all["items"].as_array().unwrap().iter().map(|entry| entry["revision"].as_u64().unwrap()).collect();
    assert_eq!(revisions, (1..=start).collect::<Vec<_>>(), "each change so far was an operator's");

    acme.put("/v1/nodes/web", placed("acme-web", "10.0.0.2")).await;
    acme.put("/v1/nodes/web", placed("acme-web", "10.0.0.3")).await;
    // Confirmed, and refused: neither is a write.
    acme.put("/v1/nodes/web", placed("acme-web", "10.0.0.3")).await;
    acme.refused("DELETE", "/v1/nodes/theirs", Value::Null).await;
    api.call("POST", "/v1/nodes/web/move", json!({"host": "host-b"})).await;
    acme.refused("PUT", "/v1/hosts/host-z", json!({"prefix": "fd00:0:0:f::/64"})).await;
    api.put("/v1/entities/acme", json!({"description": "changed"})).await;
    let page = api.get(&format!("/v1/audit?after={start}")).await;
    let told: Vec<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
            assert_eq!(text("source"), "127.0.0.1");
            format!(
                "{} {} {} {} of {}",
                text("actor"),
                text("verb"),
                text("kind"),
                text("id"),
                text("entity")
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "token/mine create node web of acme",
            "token/mine change node web of acme",
            "certificate/operator move node web of acme",
            "certificate/operator change entity acme of acme",
        ]
    );
    let summary = |nth: usize| page["items"][nth]["summary"].as_str().unwrap();
    assert!(summary(0).contains("10.0.0.2") && summary(1).contains("10.0.0.3"), "{page}");
    assert_eq!((summary(2), summary(3).contains("\"changed\"")), ("from: \"host-a\"; to: \"host-b\"", true));

    // An entity reads of itself; of operators it is not told which, nor from where.
    let own = acme.get("/v1/audit?limit=1000").await;
    for entry in own["items"].as_array().unwrap() {
        assert_eq!(entry["entity"], "acme");
        let by_itself = entry["actor"] == "token/mine" && entry["source"] == "127.0.0.1";
        assert!(by_itself || (entry["actor"] == "operator" && entry["source"].is_null()), "{entry}");
    }
    assert_eq!(acme.get("/v1/audit?entity=umbrella").await["items"], json!([]));
    assert_eq!(acme.get("/v1/audit?actor=certificate/operator").await["items"], json!([]));
    let by = api.get("/v1/audit?actor=token/mine&entity=acme&limit=1").await;
    assert_eq!((by["items"].as_array().unwrap().len(), &by["more"]), (1, &json!(true)));
    let rest = api.get(&format!("/v1/audit?actor=token/mine&after={}", by["next"])).await;
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["more"]), (1, &json!(false)));
    for query in ["limit=0", "limit=x", "entity=A", "colour=red"] {
        assert_eq!(api.refused("GET", &format!("/v1/audit?{query}"), Value::Null).await.0, 400, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_keeps_as_much_as_it_is_told_to() {
    let (_site, _service, mut api) = furnished("[audit]\nkeep = 3\n").await;
    let page = api.get("/v1/audit").await;
    let revisions: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|entry| entry["revision"].clone()).collect();
    assert_eq!(revisions, [5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_quotas_and_the_audit_log_survive_a_backup() {
    let (site, service, mut api) = furnished("").await;
    let secret = token(&mut api, "ci", json!({"role": "entity", "entity": "acme"})).await;
    let (before, log) = (api.get("/v1/entities/acme").await, api.get("/v1/audit").await);
    let file = site.path("backup");
    overlane_control::remote::backup(&with_ports(&site, &service), &file).await.unwrap();
    service.shut_down().await.unwrap();
    std::fs::remove_file(&site.config.store).unwrap();
    overlane_control::backup::restore(&file, &site.config.store).unwrap();
    let service = site.start().await;
    let mut acme = site.bearer(&service, &secret).await;
    assert_eq!(acme.get("/v1/entities/acme").await, before);
    assert_eq!(site.api(&service).await.get("/v1/audit").await, log);
}

/// The site's configuration with the port that its service listens on.
fn with_ports(site: &Site, service: &Service) -> overlane_control::config::Config {
    overlane_control::config::Config { api: service.api_address(), ..site.config.clone() }
}
