//! The command and the real service: its store in a file, its API over mutual TLS.

use overlane_api::access::Token;
use overlane_api::config::Source;
use overlane_api::event::Event;
use overlane_api::resource::{Entity, Host, Network, Node, Status};
use overlane_api::tls::TlsFiles;
use overlane_cli::{EXIT_FAILED, exit_code};
use overlane_control::config::Config;
use overlane_control::service::Service;
use serde::de::DeserializeOwned;

use crate::support::{OPERATOR_NAME, Pki, overlane};

/// A service of its own for each test, which ends with it.
struct Real {
    pki: Pki,
    flags: Vec<String>,
    service: Option<Service>,
    runtime: tokio::runtime::Runtime,
}

impl Real {
    fn start() -> Self {
        let pki = Pki::new();
        let TlsFiles { ca, certificate, key, .. } = &pki.service;
        let text = format!(
            "[store]\npath = 'store.redb'\n[api]\nlisten = '[::1]:0'\noperators = ['{OPERATOR_NAME}']\n\
             [sync]\nlisten = '[::1]:0'\n[tls]\nca = {ca:?}\ncert = {certificate:?}\nkey = {key:?}\n\
             [move]\nack_wait = '20ms'\n[housekeeping]\nevery = '1s'\n",
        );
        let config = Config::parse(&Source::new(&pki.file("control.toml"), text)).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let service = runtime.block_on(Service::start(&config)).unwrap();
        let flags = pki.flags(service.api_address());
        Self { pki, flags, service: Some(service), runtime }
    }

    /// What `overlane` says to `line`, which must succeed.
    fn says(&self, line: &str) -> String {
        overlane(&self.flags, line).unwrap_or_else(|error| panic!("{line}: {error:#}"))
    }

    /// The same in JSON.
    fn gives<T: DeserializeOwned>(&self, line: &str) -> T {
        let said = self.says(&format!("{line} --output json"));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: {error}: {said}"))
    }

    /// How the service refuses `line`.
    fn refuses(&self, line: &str) -> String {
        let error = overlane(&self.flags, line).expect_err(line);
        assert_eq!(exit_code(&error), EXIT_FAILED, "{line}: {error:#}");
        let said = error.to_string();
        assert!(said.starts_with("the service refused"), "{line}: {said}");
        said
    }

    /// An entity, a network, two hosts, and a node on the first.
    fn populated() -> Self {
        let real = Self::start();
        for line in [
            "entity create acme --description Anvils",
            "network create blue --entity acme --vnet 4711 --subnet 10.0.0.0/24,gateway=10.0.0.254",
            "host create a --prefix fd00:0:0:a::/64",
            "host create b --prefix fd00:0:0:b::/64 --capacity 2",
            "node create web --entity acme --host a --interface name=eth0,network=blue,address=10.0.0.1,device=veth-web",
        ] {
            real.says(line);
        }
        real
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            let ended = self.runtime.block_on(service.shut_down());
            assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
        }
    }
}

#[test]
fn what_is_created_is_listed_and_shown_in_both_forms() {
    let real = Real::populated();
    assert_eq!(real.gives::<Entity>("entity show acme").description, "Anvils");
    assert_eq!(real.gives::<Vec<Network>>("network list --entity acme")[0].vnet, 4711);
    assert_eq!(real.gives::<Host>("host show b").capacity, 2);
    let node: Node = real.gives("node show web");
    assert_eq!((node.host.as_str(), node.interfaces[0].addresses[0].as_str()), ("a", "10.0.0.1"));
    assert_eq!(real.gives::<Vec<Node>>("node list --network blue --host a"), std::slice::from_ref(&node));
    assert!(real.gives::<Vec<Node>>("node list --host b").is_empty());

    for (line, header, row) in [
        ("entity list", "ID DESCRIPTION", "acme Anvils"),
        ("network list", "ID ENTITY VNET SUBNETS", "blue acme 4711 10.0.0.0/24 (gateway 10.0.0.254)"),
        ("host list --limit 1", "ID PREFIX INTERFACES ENGINE", "a fd00:0:0:a::/64 1/64 away"),
        ("node list", "ID ENTITY HOST INTERFACES ADDRESSES STATE", "web acme a eth0@blue 10.0.0.1 defined"),
    ] {
        let table = real.says(line);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = table.lines().map(words).collect();
        assert_eq!(lines, [header, row], "{line}");
    }
    let shown = real.says("node show web");
    for part in [node.interfaces[0].mac.as_str(), "veth veth-web", "4711", "defined"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn creating_again_is_confirmed_and_contradictions_are_refused() {
    let real = Real::populated();
    let again = real.says("entity create acme --description Anvils");
    assert!(again.starts_with("entity acme was there already"), "{again}");
    let said = real.refuses("network create blue --entity acme --vnet 4712 --subnet 10.0.0.0/24");
    assert!(said.contains("(409)") && said.contains("field: vnet"), "{said}");
}

#[test]
fn bad_values_are_refused_with_field_and_legal_values() {
    let real = Real::populated();
    let node = "node create db --entity acme --host a --interface name=eth0,network=blue,device=veth-db";
    for (line, field) in [
        ("network create red --entity acme --subnet 10.0.0.0/99".to_owned(), "subnets[0].cidr"),
        ("network create red --entity acme --vnet 16777216 --subnet 10.0.0.0/24".to_owned(), "vnet"),
        ("host create c --prefix fd00::1/64".to_owned(), "prefix"),
        ("host create c --prefix fd00:0:0:c::/64 --capacity 65".to_owned(), "capacity"),
        (format!("{node},address=10.0.1.1"), "interfaces[0].addresses[0]"),
        (format!("{node},address=10.0.0.2,slot=64"), "interfaces[0].slot"),
        (format!("{node},address=10.0.0.2,mac=x"), "interfaces[0].mac"),
    ] {
        let said = real.refuses(&line);
        assert!(said.contains(&format!("field: {field}\n")) && said.contains("legal: "), "{line}: {said}");
    }
    let said = real.refuses("node show db");
    assert!(said.contains("(404)") && said.contains("db"), "{said}");
}

#[test]
fn what_others_need_is_not_deleted_and_the_rest_is() {
    let real = Real::populated();
    for (kind, dependent) in
        [("entity delete acme", "blue"), ("network delete blue", "web"), ("host delete a", "web")]
    {
        let said = real.refuses(kind);
        assert!(said.contains("(409)") && said.contains(dependent), "{kind}: {said}");
    }
    for line in
        ["node delete web", "network delete blue", "host delete a", "host delete b", "entity delete acme"]
    {
        assert!(real.says(line).ends_with(" deleted\n"), "{line}");
    }
    let status: Status = real.gives("status");
    assert_eq!((status.entities, status.networks, status.hosts, status.nodes), (0, 0, 0, 0));
}

#[test]
fn a_node_is_moved_and_is_on_the_other_host_when_the_command_returns() {
    let real = Real::populated();
    let said = real.says("node move web --to b --interface name=eth0,device=veth-web2,slot=5");
    assert!(said.starts_with("node web moved from a to b\n"), "{said}");
    let node: Node = real.gives("node show web");
    let interface = &node.interfaces[0];
    assert_eq!(
        (node.host.as_str(), interface.slot, interface.attachment.device.as_str()),
        ("b", 5, "veth-web2")
    );
    assert!(real.says("node move web --to b").starts_with("node web is on b\n"));
}

#[test]
fn status_counts_and_says_who_is_not_in_step() {
    let real = Real::populated();
    let said = real.says("status");
    for part in ["2: 0 connected, 0 in step", "0 live, 0 attached, 1 defined, 0 gone", "`overlane host list`"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn a_certificate_that_is_no_operators_is_refused() {
    let mut real = Real::start();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    for (flag, value) in [("--cert", &real.pki.stranger.certificate), ("--key", &real.pki.stranger.key)] {
        let at = real.flags.iter().position(|word| word == flag).unwrap();
        real.flags[at + 1] = path(value);
    }
    assert!(real.refuses("status").contains("(403)"));
}

#[test]
fn a_token_file_is_enough_to_work_with_what_is_an_entitys_own() {
    let real = Real::populated();
    let file = real.pki.file("acme.token");
    let path = file.to_str().unwrap();
    let said = real.says(&format!("token create ci --entity acme --expires-in 90d --secret-file {path}"));
    assert!(said.starts_with("token ci created\n") && !said.contains("ovl_"), "{said}");
    let api =
        |name: &str| real.flags.iter().position(|flag| flag == name).map(|at| real.flags[at + 1].clone());
    let acme: Vec<String> = ["--api", "--ca", "--server-name"]
        .into_iter()
        .flat_map(|flag| [flag.to_owned(), api(flag).unwrap()])
        .chain(["--token-file".to_owned(), path.to_owned()])
        .collect();
    assert!(overlane(&acme, "network list").unwrap().contains("blue"));
    assert!(overlane(&acme, "entity show acme").unwrap().contains("1 of 1000"));
    overlane(&acme, "network create green --entity acme --subnet 10.7.0.0/24").unwrap();
    let error = overlane(&acme, "host list").unwrap_err().to_string();
    assert!(error.contains("(403)") && error.contains("for operators only"), "{error}");

    let log = real.says("audit --actor token/ci");
    assert!(log.lines().count() == 2 && log.contains("create network green"), "{log}");
    assert!(overlane(&acme, "audit --limit 1").unwrap().contains("token/ci"));

    // A secret is told once, and a file is not written over.
    for (line, said) in [
        (format!("token create ci --entity acme --expires-in 90d --secret-file {path}"), "cannot be made"),
        (
            format!("token create ci --entity acme --expires-in 90d --secret-file {path}2"),
            "was there already",
        ),
    ] {
        let error = format!("{:#}", overlane(&real.flags, &line).unwrap_err());
        assert!(error.contains(said), "{error}");
    }
    assert!(!std::path::Path::new(&format!("{path}2")).exists());

    real.says("token delete ci");
    let error = overlane(&acme, "network list").unwrap_err().to_string();
    assert!(error.contains("(401)"), "{error}");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = overlane(&acme, "network list").unwrap_err();
    assert_eq!(exit_code(&error), overlane_cli::EXIT_USAGE);
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn an_operators_token_is_shown_once_and_quotas_are_changed_one_by_one() {
    let real = Real::populated();
    let token: Token = real.gives("token create --operator --name orchestrator");
    assert!(token.secret.as_ref().unwrap().starts_with(&format!("ovl_{}_", token.id)));
    assert!(real.says(&format!("token show {}", token.id)).contains("not since the service was started"));
    assert!(!real.says("token list").contains("ovl_"));

    let line = "entity change acme --quota-nodes 5 --quota-rules 0 --place-on a --device-prefix acme-";
    real.says(line);
    let entity: Entity = real.gives("entity change acme --quota-rules default");
    assert_eq!((entity.description.as_str(), entity.limits.nodes, entity.quota.rules), ("Anvils", 5, None));
    assert_eq!(entity.placement.unwrap().hosts, ["a"]);
    let entity: Entity = real.gives("entity change acme --no-placement");
    assert_eq!((entity.quota.nodes, entity.placement), (Some(5), None));
    let said = real.refuses("entity change acme --place-on nowhere --device-prefix acme-");
    assert!(said.contains("field: placement.hosts[0]"), "{said}");
}

#[test]
fn a_service_that_has_ended_is_unreachable() {
    let mut real = Real::populated();
    let service = real.service.take().unwrap();
    real.runtime.block_on(service.shut_down()).unwrap();
    let error = overlane(&real.flags, "status").unwrap_err();
    assert!(format!("{error:#}").contains("cannot reach the service"), "{error:#}");
}

#[test]
fn what_the_service_finds_wrong_is_in_the_list_of_events() {
    let real = Real::populated();
    assert_eq!(real.gives::<Vec<Event>>("event list"), []);
    real.says("rule create orphan --entity acme --priority 1 --on tag=nobody --ingress --action deny");
    let events = loop {
        let events: Vec<Event> = real.gives("event list --kind inconsistency --entity acme");
        if !events.is_empty() {
            break events;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(events[0].subject.as_deref(), Some("rule/orphan"));
    let said = real.says("event list");
    assert!(said.contains("the service") && said.contains("rule/orphan"), "{said}");
    assert_eq!(real.gives::<Vec<Event>>("event list --kind node_spoofing"), []);
}
