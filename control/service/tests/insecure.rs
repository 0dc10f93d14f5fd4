//! A service without TLS: for whoever is on its machine, and for nobody else.

mod common;

use common::{Client, Engine, Site, furnished, hello, until};
use overlane_api::config::Source;
use overlane_api::sync::sync_client::SyncClient;
use overlane_api::sync::{
    HOST_METADATA, InterfaceState, MappingState, RefusalReason, ResolveRequest, resolve_response::Outcome,
};
use overlane_control::config::Config;
use overlane_control::service::Service;
use serde_json::json;
use tonic::Code;
use tonic::transport::Endpoint;

const TEXT: &str = "[store]\npath = \"store.redb\"\n[api]\nlisten = \"127.0.0.1:0\"\noperators = [\"operator\"]\n\
                    [sync]\nlisten = \"[::1]:0\"\n[tls]\ninsecure = true\n";

fn parse(site: &Site, text: &str) -> Result<Config, String> {
    let source = Source::new(&site.path("control.toml"), text.to_owned());
    Config::parse(&source).map_err(|error| format!("{}: {}", error.field, error.message))
}

#[test]
fn nobody_elsewhere_may_reach_what_has_no_tls() {
    let site = Site::new();
    parse(&site, TEXT).unwrap();
    for (from, to, said) in [
        (
            "127.0.0.1:0",
            "0.0.0.0:0",
            "[api] listen: must be 127.0.0.1 or [::1] and a port, with [tls] insecure = true",
        ),
        (
            "[::1]:0",
            "[fd00::1]:0",
            "[sync] listen: must be 127.0.0.1 or [::1] and a port, with [tls] insecure = true",
        ),
        (
            "insecure = true",
            "insecure = true\nca = \"ca.crt\"",
            "[tls] ca: has no effect with insecure = true",
        ),
        (
            "insecure = true",
            "insecure = false",
            "[tls] ca: is missing; without TLS files only with insecure = true",
        ),
        ("insecure = true", "ca = \"a\"\ncert = \"b\"", "[tls] key: is missing"),
    ] {
        let error = parse(&site, &TEXT.replace(from, to)).unwrap_err();
        assert!(error.starts_with(said), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_everybody_here_is_an_operator_and_an_engine_is_whose_it_says() {
    let site = Site::new();
    let service = Service::start(&parse(&site, TEXT).unwrap()).await.unwrap();
    let mut api = Client::plain(service.api_address()).await.unwrap();
    api.host = "127.0.0.1:9443";
    api.furnish().await;
    let audit = api.get("/v1/audit").await;
    let entry = &audit["items"][0];
    assert_eq!((&entry["actor"], &entry["source"]), (&json!("anybody"), &json!("127.0.0.1")));
    // A page in a browser on this machine has another name lead here.
    api.host = "evil.example";
    let (status, said) = api.refused("GET", "/v1/hosts", json!(null)).await;
    assert_eq!((status, &said["message"]), (403, &json!("the request is for another machine")));
    api.host = "localhost";
    // A token is still no more than it says.
    api.authorization = Some("Bearer ovl_nobody_nothing".to_owned());
    assert_eq!(api.call("GET", "/v1/hosts", json!(null)).await.0, 401);
    api.authorization = None;

    let endpoint = Endpoint::from_shared(format!("http://{}", service.sync_address())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let refused = Engine::hello(channel.clone(), hello(None)).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(ResolveRequest::default());
    request.metadata_mut().insert(HOST_METADATA, "host-a".parse().unwrap());
    let answer = SyncClient::new(channel.clone()).resolve(request).await.unwrap().into_inner();
    assert!(answer.outcome.is_some());
    let mut request = tonic::Request::new(ResolveRequest::default());
    request.metadata_mut().insert(HOST_METADATA, "host-z".parse().unwrap());
    let refused = SyncClient::new(channel).resolve(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    until(&mut api, "/v1/events", "the refusal", |page| {
        page["items"][0]["reason"] == "not_your_interface" && page["items"][0]["host"] == "host-a"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_the_certificate_says_whose_an_engine_is_and_nothing_else_does() {
    let (site, service, mut api) = furnished("").await;
    api.node("web", "host-a", "10.0.0.1").await;
    let mut engine = site.engine(&service, "host-a", None).await;
    engine.until_revision(1).await;
    engine.report("web/eth0", InterfaceState::Live).await;
    engine.until("web live", |known| known.blue(1).is_some_and(|m| m.state() == MappingState::Live)).await;
    for (certificate, said, refused) in [
        ("host-b", "host-a", RefusalReason::NotYourInterface),
        // One that is nobody's to be refused for: there is no such address.
        ("host-a", "host-b", RefusalReason::UnknownTarget),
    ] {
        let channel = site.engine_channel(&service, certificate).connect().await.unwrap();
        let asked = ResolveRequest { vnet: 7, interface_id: "web/eth0".to_owned(), target: 0x0a00_004d };
        let mut request = tonic::Request::new(asked);
        request.metadata_mut().insert(HOST_METADATA, said.parse().unwrap());
        let answer = SyncClient::new(channel).resolve(request).await.unwrap().into_inner();
        let Some(Outcome::Refusal(refusal)) = answer.outcome else { panic!("{certificate}: a mapping") };
        assert_eq!(refusal.reason(), refused, "{certificate}");
    }
}
