//! How the command takes what a service says: refusals, pages, moves, and everything a service should not say.

use std::net::{Ipv6Addr, SocketAddr};

use crate::support::{Pki, Scripted, answer, overlane};
use clap::Parser as _;
use overlane_cli::args::Cli;
use overlane_cli::{EXIT_FAILED, EXIT_USAGE, exit_code};

fn entity(id: &str) -> String {
    format!(r#"{{"id":"{id}","description":"","revision":1}}"#)
}

/// What the command says, with all causes, when the service gives `raw` to everything.
fn failure(raw: Option<Vec<u8>>, line: &str) -> String {
    let pki = Pki::new();
    let service = Scripted::start(&pki.service, Box::new(move |_| raw.clone()));
    let error = overlane(&pki.flags(service.address), line).unwrap_err();
    assert_eq!(exit_code(&error), EXIT_FAILED);
    format!("{error:#}")
}

#[test]
fn a_refusal_names_field_and_legal_values() {
    let body = r#"{"error":{"code":"invalid","field":"interfaces[0].slot","message":"71 is out of range","legal":"0 to 63"}}"#;
    let said = failure(answer(400, body), "host create a --prefix x");
    for part in
        ["the service refused (400)", "71 is out of range", "field: interfaces[0].slot", "legal: 0 to 63"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn a_refusal_cannot_steer_the_terminal() {
    let body = r#"{"error":{"code":"invalid","field":null,"message":"\u001b[2Jgone","legal":null}}"#;
    let said = failure(answer(400, body), "status");
    assert!(!said.contains('\x1b'), "{said:?}");
}

#[test]
fn answers_that_are_not_the_apis_are_refused() {
    for (raw, part) in [
        (answer(200, "<html>"), "not the API's (200 OK)"),
        (answer(500, "oops"), "oops"),
        (answer(200, r#"{"id":1}"#), "invalid type"),
        (Some(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()), "broke off"),
        (Some(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "cannot reach the service"),
        (None, "cannot reach the service"),
    ] {
        let said = failure(raw, "entity show a");
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let mut raw = b"HTTP/1.1 200 OK\r\n\r\n[".to_vec();
    raw.resize((16 << 20) + 100, b' ');
    let said = failure(Some(raw), "entity show a");
    assert!(said.contains("longer than 16777216 bytes"), "{said}");
}

#[test]
fn status_tells_what_packets_cost_each_worker_and_does_without_from_an_older_service() {
    let pki = Pki::new();
    let status = |engines: &str| {
        let body = format!(
            r#"{{"version":"1","incarnation":"00","revision":1,"entities":0,"networks":0,"hosts":2,"hosts_connected":2,
                "hosts_in_step":2,"nodes":0,"interfaces":{{"defined":0,"attached":0,"live":0,"gone":0}},"moves":[]{engines}}}"#
        );
        let service = Scripted::start(&pki.service, Box::new(move |_| answer(200, &body)));
        overlane(&pki.flags(service.address), "status").unwrap()
    };
    let said = status(
        r#","engines":[{"host":"rack1-a","workers":[
            {"core":1,"packets":70,"busy_permille":123,
             "cycles_per_packet":{"receive":20,"classify":25,"authorise":5,"translate":20,"send":10,"total":84}},
            {"core":2,"packets":0,"busy_permille":0}]}]"#,
    );
    let lines: Vec<_> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let at = lines.iter().position(|line| line.starts_with("HOST")).unwrap();
    assert_eq!(
        lines[at..at + 3],
        [
            "HOST CORE PACKETS BUSY CYCLES/PACKET RECEIVE CLASSIFY AUTHORISE TRANSLATE SEND",
            "rack1-a 1 70 12.3 % 84 20 25 5 20 10",
            "rack1-a 2 0 0.0 % - - - - - -"
        ]
    );
    assert!(said.contains("`overlane host show HOST`"), "another engine is connected: {said}");
    assert!(!status("").contains("CYCLES"));
}

/// An event's JSON.
fn event(id: u64, host: &str) -> String {
    format!(
        r#"{{"id":{id},"kind":"verification_failed","reason":"src_prefix_mismatch","host":"{host}",
            "prefix":"fd00:0:0:b::/64","from_host":"rack1-b","vnet":7,"entity":"acme","count":12,
            "first_seen":951782399,"last_seen":951782400,"detail":"source\u001b[2J"}}"#
    )
}

#[test]
fn events_are_listed_with_where_they_came_from_and_followed_until_the_service_refuses() {
    let pki = Pki::new();
    let mut asked_again = 0;
    let script = move |asked: &str| {
        let (status, body) = match asked {
            "GET /v1/events?limit=1000&kind=verification_failed" => {
                (200, format!(r#"{{"items":[{}],"next":"3"}}"#, event(3, "a")))
            }
            "GET /v1/events?limit=1000&after=3&kind=verification_failed" => {
                (200, format!(r#"{{"items":[{}]}}"#, event(5, "b")))
            }
            "GET /v1/events?limit=1000&after=5&kind=verification_failed" => {
                asked_again += 1;
                // The service is restarted, and back a moment later.
                if asked_again == 1 {
                    return None;
                }
                (200, format!(r#"{{"items":[{}]}}"#, event(6, "c")))
            }
            _ => (403, r#"{"error":{"code":"forbidden","message":"not any more"}}"#.to_owned()),
        };
        answer(status, &body)
    };
    let service = Scripted::start(&pki.service, Box::new(script));
    let mut line = vec!["overlane".to_owned()];
    line.extend(pki.flags(service.address));
    line.extend(["event", "list", "--kind", "verification_failed", "--follow"].map(str::to_owned));
    let mut out = Vec::new();
    let error = overlane_cli::run(Cli::try_parse_from(line).unwrap(), &mut out).unwrap_err();
    assert!(error.to_string().contains("not any more"), "{error:#}");
    let said = String::from_utf8(out).unwrap();
    let words: Vec<_> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(words[0], "ID LAST COUNT KIND REASON TOLD BY FROM ABOUT DETAIL");
    let row = |id: u64, host: &str| {
        format!(
            "{id} 2000-02-29T00:00:00Z 12 verification_failed src_prefix_mismatch {host} rack1-b (fd00:0:0:b::/64) \
             vnet 7, of acme source\u{fffd}[2J"
        )
    };
    assert_eq!(words[1..], [row(3, "a"), row(5, "b"), row(6, "c")]);
}

#[test]
fn the_latest_events_are_shown_where_not_all_are_wanted_and_pages_that_do_not_go_on_refused() {
    let pki = Pki::new();
    let body = format!(r#"{{"items":[{},{},{}]}}"#, event(1, "a"), event(2, "a"), event(3, "a"));
    let service = Scripted::start(&pki.service, Box::new(move |_| answer(200, &body)));
    let json = overlane(&pki.flags(service.address), "event list --limit 2 --output json").unwrap();
    let events: Vec<overlane_api::event::Event> = serde_json::from_str(&json).unwrap();
    assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), [2, 3]);
    for next in ["x", "7", ""] {
        let page = format!(r#"{{"items":[{}],"next":"{next}"}}"#, event(1, "a"));
        assert!(failure(answer(200, &page), "event list --after 7").contains("does not go on"), "{next}");
    }
}

#[test]
fn a_list_is_read_page_by_page() {
    let pki = Pki::new();
    let pages = |asked: &str| {
        let body = match asked {
            "GET /v1/entities?limit=1000" => format!(r#"{{"items":[{}],"next":"a"}}"#, entity("a")),
            "GET /v1/entities?limit=1000&after=a" => format!(r#"{{"items":[{}],"next":"b"}}"#, entity("b")),
            "GET /v1/entities?limit=1000&after=b" => format!(r#"{{"items":[{}]}}"#, entity("c")),
            other => panic!("{other}"),
        };
        answer(200, &body)
    };
    let service = Scripted::start(&pki.service, Box::new(pages));
    let table = overlane(&pki.flags(service.address), "entity list").unwrap();
    let ids: Vec<_> = table.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(ids, ["ID", "a", "b", "c"]);
    assert_eq!(service.requests().len(), 3);
}

#[test]
fn a_limited_list_asks_for_no_more_and_shows_no_more() {
    let pki = Pki::new();
    let body = format!(r#"{{"items":[{},{}],"next":"b"}}"#, entity("a"), entity("b"));
    let service = Scripted::start(&pki.service, Box::new(move |_| answer(200, &body)));
    let json = overlane(&pki.flags(service.address), "entity list --limit 1 --output json").unwrap();
    let entities: Vec<overlane_api::resource::Entity> = serde_json::from_str(&json).unwrap();
    assert_eq!(entities.len(), 1);
    assert_eq!(service.requests(), ["GET /v1/entities?limit=1"]);
}

#[test]
fn pages_that_do_not_go_on_are_refused() {
    for next in ["a", "../status", ""] {
        let said =
            failure(answer(200, &format!(r#"{{"items":[{}],"next":"{next}"}}"#, entity("a"))), "entity list");
        assert!(said.contains("does not go on"), "{next}: {said}");
    }
}

fn node(host: &str, moving: Option<&str>) -> String {
    let moving = moving.map_or("null".to_owned(), progress);
    format!(
        r#"{{"id":"web","entity":"acme","host":"{host}","interfaces":[],"moving":{moving},"revision":7}}"#
    )
}

fn progress(phase: &str) -> String {
    format!(
        r#"{{"from":"a","to":"b","phase":"{phase}","since":0,"waiting_for":"host b","stuck":false,"interfaces":[]}}"#
    )
}

#[test]
fn a_move_is_followed_to_its_end_though_the_service_is_away_for_a_moment() {
    let pki = Pki::new();
    let mut asked_for_progress = 0;
    let script = move |asked: &str| {
        if asked == "POST /v1/nodes/web/move" {
            return answer(202, &node("a", Some("prepare")));
        }
        assert_eq!(asked, "GET /v1/nodes/web");
        asked_for_progress += 1;
        match asked_for_progress {
            1 => answer(200, &node("a", Some("prepare"))),
            2 => None,
            3 => answer(200, &node("b", Some("retire"))),
            _ => answer(200, &node("b", None)),
        }
    };
    let service = Scripted::start(&pki.service, Box::new(script));
    let said = overlane(&pki.flags(service.address), "node move web --to b").unwrap();
    assert!(said.starts_with("node web moved from a to b\n"), "{said}");
    assert_eq!(service.requests().len(), 5);
}

#[test]
fn a_move_that_ends_elsewhere_is_a_failure() {
    let pki = Pki::new();
    let script = |asked: &str| match asked.starts_with("POST") {
        true => answer(202, &node("a", Some("prepare"))),
        false => answer(200, &node("a", None)),
    };
    let service = Scripted::start(&pki.service, Box::new(script));
    let error = overlane(&pki.flags(service.address), "node move web --to b").unwrap_err();
    assert!(error.to_string().contains("node web is on a, not b"), "{error:#}");
}

#[test]
fn waiting_for_a_move_ends_in_time_and_says_where_it_stands() {
    let pki = Pki::new();
    let script = |asked: &str| match asked.starts_with("POST") {
        true => answer(202, &node("a", Some("prepare"))),
        false => answer(200, &node("a", Some("switch"))),
    };
    let service = Scripted::start(&pki.service, Box::new(script));
    let error = overlane(&pki.flags(service.address), "node move web --to b --timeout 1").unwrap_err();
    assert_eq!(exit_code(&error), EXIT_FAILED);
    for part in ["after 1 s", "a → b, switch, waiting for host b", "overlane node show web"] {
        assert!(error.to_string().contains(part), "{part} in {error:#}");
    }
}

#[test]
fn a_move_that_is_not_waited_for_returns_at_once() {
    let pki = Pki::new();
    let service = Scripted::start(&pki.service, Box::new(|_| answer(202, &node("a", Some("prepare")))));
    let said = overlane(&pki.flags(service.address), "node move web --to b --no-wait").unwrap();
    assert_eq!(said, "node web: a → b, prepare, waiting for host b\n");
    assert_eq!(service.requests(), ["POST /v1/nodes/web/move"]);
}

#[test]
fn a_node_that_is_there_already_is_not_waited_for() {
    let pki = Pki::new();
    let service = Scripted::start(&pki.service, Box::new(|_| answer(202, &node("b", None))));
    let said = overlane(&pki.flags(service.address), "node move web --to b").unwrap();
    assert!(said.starts_with("node web is on b\n"), "{said}");
    assert_eq!(service.requests(), ["POST /v1/nodes/web/move"]);
}

#[test]
fn a_service_that_is_not_there_is_named_with_the_cause() {
    let pki = Pki::new();
    // Bound and not listening: nobody else gets the port, and connecting is refused.
    let held = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, held.local_addr().unwrap().port()));
    let error = overlane(&pki.flags(address), "status").unwrap_err();
    assert_eq!(exit_code(&error), EXIT_FAILED);
    let said = format!("{error:#}");
    assert!(said.contains(&format!("https://{address}")) && said.contains("refused"), "{said}");
}

#[test]
fn a_service_of_another_authority_is_not_believed() {
    let (pki, other) = (Pki::new(), Pki::new());
    let service = Scripted::start(&other.service, Box::new(|_| answer(200, &entity("a"))));
    let said = format!("{:#}", overlane(&pki.flags(service.address), "entity show a").unwrap_err());
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(service.requests(), [""; 0], "it was asked something");
}

#[test]
fn a_service_of_another_name_is_not_believed() {
    let pki = Pki::new();
    let service = Scripted::start(&pki.service, Box::new(|_| answer(200, &entity("a"))));
    let mut flags = pki.flags(service.address);
    flags.extend(["--server-name".to_owned(), "other.test".to_owned()]);
    flags.drain(2..4);
    let said = format!("{:#}", overlane(&flags, "entity show a").unwrap_err());
    assert!(said.contains("not valid for name"), "{said}");
}

#[test]
fn settings_that_make_no_sense_are_usage_errors() {
    let pki = Pki::new();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
    for (flag, value, said) in [
        ("--api", "http://a", "https://control.example.net:9443"),
        ("--ca", "/nowhere/ca.crt", "/nowhere/ca.crt"),
        ("--key", pki.operator.certificate.to_str().unwrap(), "private key"),
        ("--server-name", "a b", "a DNS name"),
        ("--config", "/nowhere/cli.toml", "/nowhere/cli.toml"),
    ] {
        let mut flags = pki.flags(address);
        if let Some(at) = flags.iter().position(|word| word == flag) {
            flags.drain(at..at + 2);
        }
        flags.extend([flag.to_owned(), value.to_owned()]);
        let error = overlane(&flags, "status").unwrap_err();
        assert_eq!(exit_code(&error), EXIT_USAGE, "{error:#}");
        assert!(error.to_string().contains(said), "{said} in {error:#}");
    }
}

/// A node of host a with so many interfaces, or of another and without a move under way.
fn drained(id: &str, interfaces: usize, host: &str, to: Option<&str>) -> String {
    let interface = r#"{"name":"eth0","network":"blue","vnet":7,"mac":"02:00:00:00:00:01","slot":0,"addresses":["10.0.0.1"],
        "attachment":{"kind":"veth","device":"v"},"state":"live"}"#;
    let interfaces = vec![interface; interfaces].join(",");
    let moving = to.map_or("null".to_owned(), |to| {
        progress("prepare").replace(r#""to":"b""#, &format!(r#""to":"{to}""#))
    });
    format!(
        r#"{{"id":"{id}","entity":"acme","host":"{host}","interfaces":[{interfaces}],"moving":{moving},"revision":7}}"#
    )
}

fn host(id: &str, capacity: u32, interfaces: u32) -> String {
    format!(
        r#"{{"id":"{id}","prefix":"fd00:0:0:b::/64","layout":"slot64","capacity":{capacity},"interfaces":{interfaces},
            "engine":{{"connected":true}},"revision":1}}"#
    )
}

#[test]
fn a_host_is_drained_to_where_there_is_room_and_what_finds_none_is_named() {
    let pki = Pki::new();
    let script = |asked: &str| {
        let (status, body) = match asked {
            "GET /v1/nodes?limit=1000&host=a" => {
                let nodes =
                    [("db", 2), ("huge", 9), ("web", 1)].map(|(id, count)| drained(id, count, "a", None));
                (200, format!(r#"{{"items":[{}]}}"#, nodes.join(",")))
            }
            "GET /v1/hosts/b" => (200, host("b", 4, 2)),
            "GET /v1/hosts/c" => (200, host("c", 4, 1)),
            "POST /v1/nodes/db/move" => (202, drained("db", 2, "a", Some("c"))),
            "POST /v1/nodes/web/move" => (202, drained("web", 1, "a", Some("b"))),
            "GET /v1/nodes/db" => (200, drained("db", 2, "c", None)),
            "GET /v1/nodes/web" => (200, drained("web", 1, "b", None)),
            other => panic!("{other}"),
        };
        answer(status, &body)
    };
    let service = Scripted::start(&pki.service, Box::new(script));
    let mut line = vec!["overlane".to_owned()];
    line.extend(pki.flags(service.address));
    line.extend(["host", "drain", "a", "--to", "b,c"].map(str::to_owned));
    let mut out = Vec::new();
    let error = overlane_cli::run(Cli::try_parse_from(line).unwrap(), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "1 of 3 nodes are not moved; host a is not empty");
    let said = String::from_utf8(out).unwrap();
    let words: Vec<_> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    // The larger room first, which then is the smaller one.
    let expected =
        ["NODE TO OUTCOME", "huge - no host has room for its 9 interfaces", "db c moved", "web b moved"];
    assert_eq!(words, expected);
    let moves = service.requests().into_iter().filter(|asked| asked.starts_with("POST")).count();
    assert_eq!(moves, 2);
}

#[test]
fn what_a_host_has_is_listed_and_not_moved() {
    let pki = Pki::new();
    let script = |asked: &str| {
        assert_eq!(asked, "GET /v1/nodes?limit=1000&host=a");
        let nodes = [drained("web", 1, "a", None), drained("db", 1, "b", Some("a"))];
        answer(200, &format!(r#"{{"items":[{}]}}"#, nodes.join(",")))
    };
    let service = Scripted::start(&pki.service, Box::new(script));
    let said = overlane(&pki.flags(service.address), "host drain a --list").unwrap();
    assert!(said.contains("web") && said.contains("node db is on its way to a"), "{said}");
    let error = overlane(&pki.flags(service.address), "host drain a --to a,b").unwrap_err();
    assert!(error.to_string().contains("--to a is the host that is to be empty"), "{error:#}");
}
