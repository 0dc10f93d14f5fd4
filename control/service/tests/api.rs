//! The HTTP API: idempotent writes, precise refusals, paging, access.

mod common;

use common::{Client, Site, furnished, node};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_idempotent_and_what_does_not_change_makes_no_revision() {
    let site = Site::new();
    let service = site.start().await;
    let mut api = site.api(&service).await;
    let writes = [
        ("/v1/entities/acme", json!({"description": "a customer"})),
        ("/v1/networks/blue", json!({"entity": "acme", "subnets": [{"cidr": "10.0.0.0/24"}]})),
        ("/v1/hosts/host-a", json!({"prefix": "fd00:0:0:a::/64", "capacity": 8})),
        ("/v1/nodes/web", node("host-a", "web", "10.0.0.1")),
    ];
    for (path, body) in writes {
        let (status, made) = api.call("PUT", path, body.clone()).await;
        assert_eq!(status, 201, "{path}: {made}");
        let before = api.get("/v1/status").await["revision"].clone();
        let (status, again) = api.call("PUT", path, body).await;
        assert_eq!((status, &again), (200, &made), "{path}");
        assert_eq!(api.get(path).await, made);
        assert_eq!(api.get("/v1/status").await["revision"], before, "{path}");
    }
    let vnet = api.get("/v1/networks/blue").await["vnet"].as_u64().unwrap();
    assert!((1..=0xff_ffff).contains(&vnet), "a random id was given");
    // Addresses can change, interfaces come and go, and addresses wander between a node's interfaces.
    let mut body = node("host-a", "web", "10.0.0.2");
    let mut second = body["interfaces"][0].clone();
    second["name"] = json!("eth1");
    second["addresses"] = json!(["10.0.0.1"]);
    second["attachment"]["device"] = json!("web1");
    body["interfaces"].as_array_mut().unwrap().push(second);
    let changed = api.put("/v1/nodes/web", body.clone()).await;
    assert_eq!(changed["interfaces"][1]["slot"], 1);
    body["interfaces"][0]["addresses"] = json!(["10.0.0.1"]);
    body["interfaces"][1]["addresses"] = json!(["10.0.0.2"]);
    api.put("/v1/nodes/web", body).await;
    assert_eq!(api.get("/v1/hosts/host-a").await["interfaces"], 2);
}

/// Changes one value of a node's body.
fn with(path: &str, value: Value) -> Value {
    let mut body = node("host-a", "web", "10.0.0.1");
    *body.pointer_mut(path).unwrap() = value;
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_names_the_field_and_its_legal_values() {
    let (_site, service, mut api) = furnished("").await;
    api.node("there", "host-a", "10.0.0.9").await;
    let network = |vnet: Value, subnets: Value| json!({"entity": "acme", "vnet": vnet, "subnets": subnets});
    let good = json!([{"cidr": "10.1.0.0/24"}]);
    let cases = [
        ("/v1/entities/Bad_Id", json!({}), 400, "id"),
        ("/v1/entities/x", json!({"description": "x".repeat(257)}), 400, "description"),
        ("/v1/entities/x", json!({"colour": "red"}), 400, "colour"),
        ("/v1/networks/x", network(json!(0), good.clone()), 400, "vnet"),
        ("/v1/networks/x", network(json!(0x100_0000), good.clone()), 400, "vnet"),
        ("/v1/networks/x", network(json!("seven"), good.clone()), 400, "vnet"),
        ("/v1/networks/x", network(json!(7), good.clone()), 409, "vnet"),
        ("/v1/networks/x", json!({"entity": "nobody", "subnets": good}), 400, "entity"),
        ("/v1/networks/x", json!({"entity": "acme"}), 400, "subnets"),
        ("/v1/networks/x", network(json!(9), json!([])), 400, "subnets"),
        ("/v1/networks/x", network(json!(9), json!([{"cidr": "10.0.0.1/24"}])), 400, "subnets[0].cidr"),
        ("/v1/networks/x", network(json!(9), json!([{"cidr": "10.0.0.0/31"}])), 400, "subnets[0].cidr"),
        ("/v1/networks/x", network(json!(9), json!([{"cidr": "224.0.0.0/8"}])), 400, "subnets[0].cidr"),
        (
            "/v1/networks/x",
            network(json!(9), json!([{"cidr": "10.0.0.0/16"}, {"cidr": "10.0.1.0/24"}])),
            400,
            "subnets[1].cidr",
        ),
        (
            "/v1/networks/x",
            network(json!(9), json!([{"cidr": "10.0.0.0/24", "gateway": "10.0.0.255"}])),
            400,
            "subnets[0].gateway",
        ),
        (
            "/v1/networks/blue",
            json!({"entity": "umbrella", "subnets": [{"cidr": "10.0.0.0/24"}]}),
            409,
            "entity",
        ),
        (
            "/v1/networks/blue",
            json!({"entity": "acme", "subnets": [{"cidr": "10.9.0.0/24"}]}),
            409,
            "subnets",
        ),
        (
            "/v1/networks/blue",
            json!({"entity": "acme", "subnets": [{"cidr": "10.0.0.0/24", "gateway": "10.0.0.9"}]}),
            409,
            "subnets",
        ),
        ("/v1/hosts/x", json!({"prefix": "fd00::/48"}), 400, "prefix"),
        ("/v1/hosts/x", json!({"prefix": "fd00:0:0:a::/64"}), 409, "prefix"),
        ("/v1/hosts/x", json!({"prefix": "fd00:0:0:d::/64", "capacity": 65}), 400, "capacity"),
        ("/v1/hosts/host-a", json!({"prefix": "fd00:0:0:d::/64"}), 409, "prefix"),
        ("/v1/nodes/web", with("/entity", json!("nobody")), 400, "entity"),
        ("/v1/nodes/web", with("/host", json!("nowhere")), 400, "host"),
        ("/v1/nodes/web", with("/interfaces", json!([])), 400, "interfaces"),
        ("/v1/nodes/web", with("/interfaces/0/name", json!("Eth0")), 400, "interfaces[0].name"),
        ("/v1/nodes/web", with("/interfaces/0/network", json!("none")), 400, "interfaces[0].network"),
        ("/v1/nodes/web", with("/interfaces/0/network", json!("red")), 400, "interfaces[0].network"),
        ("/v1/nodes/web", with("/interfaces/0/addresses", json!([])), 400, "interfaces[0].addresses"),
        (
            "/v1/nodes/web",
            with("/interfaces/0/addresses/0", json!("10.0.0")),
            400,
            "interfaces[0].addresses[0]",
        ),
        (
            "/v1/nodes/web",
            with("/interfaces/0/addresses/0", json!("10.9.0.1")),
            400,
            "interfaces[0].addresses[0]",
        ),
        (
            "/v1/nodes/web",
            with("/interfaces/0/addresses/0", json!("10.0.0.0")),
            400,
            "interfaces[0].addresses[0]",
        ),
        (
            "/v1/nodes/web",
            with("/interfaces/0/addresses/0", json!("10.0.0.255")),
            400,
            "interfaces[0].addresses[0]",
        ),
        (
            "/v1/nodes/web",
            with("/interfaces/0/addresses/0", json!("10.0.0.254")),
            400,
            "interfaces[0].addresses[0]",
        ),
        (
            "/v1/nodes/web",
            with("/interfaces/0/addresses/0", json!("10.0.0.9")),
            409,
            "interfaces[0].addresses[0]",
        ),
        (
            "/v1/nodes/web",
            with("/interfaces/0/addresses", json!(["10.0.0.1", "10.0.0.1"])),
            400,
            "interfaces[0].addresses[1]",
        ),
        (
            "/v1/nodes/web",
            with("/interfaces/0/attachment", json!({"kind": "wire", "device": "x"})),
            400,
            "interfaces[0].attachment.kind",
        ),
        (
            "/v1/nodes/web",
            with("/interfaces/0/attachment/device", json!("a,b")),
            400,
            "interfaces[0].attachment.device",
        ),
        (
            "/v1/nodes/web",
            with("/interfaces/0/attachment/device", json!("there")),
            409,
            "interfaces[0].attachment.device",
        ),
        ("/v1/nodes/there", node("host-b", "there", "10.0.0.9"), 409, "host"),
    ];
    for (path, body, status, field) in cases {
        let (got, error) = api.refused("PUT", path, body.clone()).await;
        assert_eq!((got, &error["field"]), (status, &json!(field)), "{path} {body}: {error}");
        assert!(error["legal"].as_str().is_some_and(|legal| !legal.is_empty()), "{path} {body}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    }
    for (name, value, status) in [
        ("slot", json!(64), 400),
        ("slot", json!(0), 409),
        ("mac", json!("01:00:5e:00:00:01"), 400),
        ("mac", json!("nonsense"), 400),
    ] {
        let mut body = node("host-a", "web", "10.0.0.1");
        body["interfaces"][0][name] = value;
        let (got, error) = api.refused("PUT", "/v1/nodes/web", body).await;
        assert_eq!((got, &error["field"]), (status, &json!(format!("interfaces[0].{name}"))), "{error}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("after=UP", "after"),
        ("entity=acme", "entity"),
        ("colour=red", "colour"),
    ] {
        let (status, error) = api.refused("GET", &format!("/v1/hosts?{query}"), Value::Null).await;
        assert_eq!((status, &error["field"]), (400, &json!(field)), "{query}: {error}");
        assert!(error["legal"].is_string(), "{error}");
    }
    assert_eq!(api.get("/v1/status").await["nodes"], 1, "nothing of all that was done");
    overlane_control::ledger::verify(&*service.ledger().view().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_cannot_be_deleted_and_the_refusal_names_who_needs_it() {
    let (_site, _service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    for (path, user) in [
        ("/v1/entities/acme", "network blue"),
        ("/v1/networks/blue", "node web"),
        ("/v1/hosts/host-a", "node web"),
    ] {
        let (status, error) = api.refused("DELETE", path, Value::Null).await;
        assert_eq!(status, 409, "{path}");
        assert!(error["message"].as_str().unwrap().contains(user), "{path}: {error}");
    }
    for path in ["/v1/nodes/web", "/v1/networks/blue", "/v1/hosts/host-a", "/v1/entities/acme"] {
        api.delete(path).await;
        assert_eq!(api.refused("DELETE", path, Value::Null).await.0, 404, "{path}");
        assert_eq!(api.refused("GET", path, Value::Null).await.0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_takes_as_many_interfaces_as_it_and_its_engine_can() {
    let (site, service, mut api) = furnished("").await;
    api.put("/v1/hosts/small", json!({"prefix": "fd00:0:0:d::/64", "capacity": 2})).await;
    api.node("one", "small", "10.0.0.1").await;
    api.node("two", "small", "10.0.0.2").await;
    let (status, error) = api.refused("PUT", "/v1/nodes/three", node("small", "three", "10.0.0.3")).await;
    assert_eq!(
        (status, &error["code"], &error["field"]),
        (409, &json!("exhausted"), &json!("host")),
        "{error}"
    );
    let body = json!({"prefix": "fd00:0:0:d::/64", "capacity": 1});
    let (status, error) = api.refused("PUT", "/v1/hosts/small", body).await;
    assert_eq!((status, &error["legal"]), (409, &json!("2 to 64")));

    // The record allows 64, the engine says 1.
    let channel = site.engine_channel(&service, "host-a").connect().await.unwrap();
    let hello = overlane_api::sync::Hello { capacity: 1, ..common::hello(None) };
    let _engine = common::Engine::hello(channel, hello).await.unwrap();
    api.node("four", "host-a", "10.0.0.4").await;
    assert_eq!(api.refused("PUT", "/v1/nodes/five", node("host-a", "five", "10.0.0.5")).await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_the_same_one_gets_it() {
    let (site, service, _) = furnished("").await;
    let mut racers = tokio::task::JoinSet::new();
    for racer in 0..8 {
        let mut api = site.api(&service).await;
        racers.spawn(async move {
            let mut body = node("host-a", &format!("d{racer}"), "10.0.0.1");
            body["interfaces"][0]["slot"] = json!(5);
            api.call("PUT", &format!("/v1/nodes/n{racer}"), body).await
        });
    }
    let answers = racers.join_all().await;
    let won = answers.iter().filter(|(status, _)| *status == 201).count();
    let lost = answers.iter().filter(|(status, _)| *status == 409).count();
    assert_eq!((won, lost), (1, 7), "{answers:?}");
    overlane_control::ledger::verify(&*service.ledger().view().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_in_order_and_filtered() {
    let (_site, _service, mut api) = furnished("").await;
    for nth in 1..=25 {
        let host = if nth % 2 == 0 { "host-a" } else { "host-b" };
        api.node(&format!("n{nth:02}"), host, &format!("10.0.0.{nth}")).await;
    }
    let mut ids = Vec::new();
    let mut after = String::new();
    loop {
        let page = api.get(&format!("/v1/nodes?limit=10&host=host-a{after}")).await;
        ids.extend(
            page["items"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let wanted: Vec<String> = (1..=25).filter(|nth| nth % 2 == 0).map(|nth| format!("n{nth:02}")).collect();
    assert_eq!(ids, wanted);
    let count = async |api: &mut Client, path: &str| api.get(path).await["items"].as_array().unwrap().len();
    assert_eq!(count(&mut api, "/v1/nodes?network=red").await, 0);
    assert_eq!(count(&mut api, "/v1/nodes?network=blue&entity=acme").await, 25);
    assert_eq!(count(&mut api, "/v1/networks?entity=acme").await, 1);
    let page = api.get("/v1/hosts?limit=3").await;
    assert_eq!((page["items"].as_array().unwrap().len(), page["next"].is_null()), (3, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_with_a_good_certificate_get_in() {
    let site = Site::new();
    let service = site.start().await;
    let mut nobody = Client::connect(service.api_address(), &site.certificate("host-a")).await.unwrap();
    let (status, error) = nobody.refused("GET", "/v1/status", Value::Null).await;
    assert_eq!((status, &error["code"]), (403, &json!("forbidden")));
    assert!(error["message"].as_str().unwrap().contains("host-a"), "{error}");

    let mut own =
        Client::connect(service.api_address(), &site.certificate(common::SERVER_NAME)).await.unwrap();
    assert_eq!(own.refused("GET", "/v1/status", Value::Null).await.0, 403, "its own is for backups only");

    // Another authority: the connection does not come about, or not past its first use.
    let other = Site::new();
    std::fs::copy(site.path("ca.crt"), other.path("trusted.crt")).unwrap();
    let mut files = other.certificate("operator");
    files.ca = other.path("trusted.crt");
    let credentials = overlane_api::tls::Credentials::load(&files).unwrap();
    let stream = tokio::net::TcpStream::connect(service.api_address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(credentials.rustls_client(&[b"http/1.1"]));
    if let Ok(mut stream) = connector.connect(common::SERVER_NAME.try_into().unwrap(), stream).await {
        let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut answer = Vec::new();
        assert!(stream.read_to_end(&mut answer).await.is_err() || answer.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_get_an_error_body() {
    let site = Site::new();
    let service = site.start().await;
    let mut api = site.api(&service).await;
    let json_kind = "application/json";
    for (method, path, kind, body, status, code) in [
        ("GET", "/v2/status", json_kind, Vec::new(), 404, "not_found"),
        ("POST", "/v1/hosts", json_kind, Vec::new(), 405, "method_not_allowed"),
        ("PUT", "/v1/entities/x", "text/plain", b"{}".to_vec(), 415, "unsupported_media_type"),
        ("PUT", "/v1/entities/x", json_kind, vec![b' '; 300 << 10], 413, "too_large"),
        ("PUT", "/v1/entities/x", json_kind, b"{".to_vec(), 400, "invalid"),
        ("PUT", "/v1/entities/x", json_kind, b"{} {}".to_vec(), 400, "invalid"),
        ("PUT", "/v1/entities/x", json_kind, b"\xff\xfe".to_vec(), 400, "invalid"),
        ("PUT", "/v1/entities/x", json_kind, vec![b'['; 100_000], 400, "invalid"),
    ] {
        let mut api = if status == 413 {
            site.api(&service).await
        } else {
            std::mem::replace(&mut api, site.api(&service).await)
        };
        let (got, body) = api.raw(method, path, kind, body).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((got, &body["error"]["code"]), (status, &json!(code)), "{method} {path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_has_every_path() {
    let site = Site::new();
    let service = site.start().await;
    let mut api = site.api(&service).await;
    let document = api.get("/v1/openapi.json").await;
    let mut found: Vec<String> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        found.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    for kind in ["entities", "networks", "hosts", "nodes", "rules", "peerings"] {
        for wanted in ["get /v1/K", "get /v1/K/{id}", "put /v1/K/{id}", "delete /v1/K/{id}"] {
            let wanted = wanted.replace('K', kind);
            assert!(found.contains(&wanted), "{wanted} in {found:?}");
        }
    }
    for wanted in ["post /v1/nodes/{id}/move", "post /v1/rules/test", "get /v1/status", "get /v1/backup"] {
        assert!(found.contains(&wanted.to_owned()), "{wanted}");
    }
    for schema in ["NodeSpec", "Node", "ErrorBody", "Status", "Move", "Subnet"] {
        assert!(document["components"]["schemas"][schema].is_object(), "{schema}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_shows_metrics_and_health() {
    let site = Site::new();
    let service = site.start().await;
    site.api(&service).await.furnish().await;
    let get = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(service.telemetry_address().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let metrics = get("/metrics").await;
    for wanted in [
        "overlane_control_revision 7",
        "overlane_control_engines_connected 0",
        "api_requests_total{method=\"PUT\",status=\"201\"} 7",
    ] {
        assert!(metrics.contains(wanted), "{wanted} in {metrics}");
    }
    assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_networks_nodes_are_told_by_dhcp_is_checked_kept_and_told_to_engines() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let network = |dhcp: serde_json::Value| {
        json!({"entity": "acme", "vnet": 7, "dhcp": dhcp,
               "subnets": [{"cidr": "10.0.0.0/24", "gateway": "10.0.0.254"}]})
    };
    let route = |cidr: &str, via: &str| json!({"routes": [{"cidr": cidr, "via": via}]});
    for (dhcp, field) in [
        (json!({"dns": ["10.0.0.300"]}), "dhcp.dns[0]"),
        (json!({"dns": ["10.0.0.53", "224.0.0.1"]}), "dhcp.dns[1]"),
        (json!({"domain": "a b"}), "dhcp.domain"),
        (json!({"lease_seconds": 59}), "dhcp.lease_seconds"),
        (route("10.9.0.1/16", "10.0.0.7"), "dhcp.routes[0].cidr"),
        (route("10.9.0.0/16", "x"), "dhcp.routes[0].via"),
        (json!({"boot": {"server": "10.0.0.8", "file": ""}}), "dhcp.boot.file"),
        (json!({"pool": "10.0.0.0/25"}), "dhcp.pool"),
        (json!([]), "dhcp"),
    ] {
        let (status, said) = api.call("PUT", "/v1/networks/blue", network(dhcp)).await;
        assert_eq!((status, &said["error"]["field"]), (400, &json!(field)), "{said}");
    }
    let settings = json!({"dns": ["10.0.0.53"], "domain": "acme.example", "lease_seconds": 600,
        "routes": [{"cidr": "10.9.0.0/16", "via": "10.0.0.7"}],
        "boot": {"server": "10.0.0.8", "file": "pxelinux.0"}});
    let made = api.put("/v1/networks/blue", network(settings.clone())).await;
    assert_eq!(made["dhcp"], settings);
    assert_eq!(api.put("/v1/networks/blue", network(settings)).await["revision"], made["revision"]);
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    let told = engine.known.dhcp[&7].clone().unwrap();
    assert_eq!(
        (&told.dns[..], &*told.domain, told.lease_seconds),
        (&["10.0.0.53".to_owned()][..], "acme.example", 600)
    );
    assert_eq!((&*told.routes[0].via, &*told.boot.unwrap().file), ("10.0.0.7", "pxelinux.0"));
    // None is none again.
    let without =
        json!({"entity": "acme", "vnet": 7, "subnets": [{"cidr": "10.0.0.0/24", "gateway": "10.0.0.254"}]});
    assert_eq!(api.put("/v1/networks/blue", without).await.get("dhcp"), None);
    engine.until("no more DHCP", |known| known.dhcp[&7].is_none()).await;
}
