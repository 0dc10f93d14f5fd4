//! The real binary: configuration, signals, backup and restore.

mod common;

use common::{Site, configuration};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use overlane_api::config::Source;
use overlane_control::config::Config;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn binary(site: &Site) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overlane-control"));
    command.arg("--config").arg(site.path("control.toml")).env_remove("RUST_LOG");
    command
}

fn output(site: &Site, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = binary(site).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A running service, killed if a test fails.
struct Running {
    child: Child,
    api: SocketAddr,
}

impl Running {
    fn start(site: &Site) -> Self {
        let mut child = binary(site).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let api = loop {
            let start = seen.len();
            assert_ne!(log.read_line(&mut seen).unwrap(), 0, "it ended: {seen}");
            if let Some(rest) = seen[start..].split("api=").nth(1) {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        // Nobody reads on; a pipe that is full must not hold it up.
        std::thread::spawn(move || std::io::copy(&mut log.take(1 << 30), &mut std::io::sink()));
        Self { child, api }
    }

    fn terminate(mut self) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "SIGTERM does not end it");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_sample_configuration_is_right_and_shows_the_defaults() {
    let sample = include_str!("../../../conf/control.toml");
    let parse = |text: &str| {
        let source = Source::new(Path::new("conf/control.toml"), text.to_owned());
        Config::parse(&source).unwrap()
    };
    let all = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(field) if field.starts_with(|c: char| c.is_ascii_lowercase()) => field,
        _ => line,
    });
    let all = all.collect::<Vec<_>>().join("\n");
    assert_ne!(all, sample);
    assert_eq!(format!("{:?}", parse(sample)), format!("{:?}", parse(&all)));
}

#[test]
fn a_bad_configuration_is_told_in_one_line_with_exit_status_2() {
    let site = Site::new();
    let good = configuration("");
    let cases = [
        (
            good.replace("operators", "operaters"),
            ":6: [api] operaters: unknown field 'operaters', expected one of 'listen', 'operators', 'connections'",
        ),
        (good.replace("[\"operator\"]", "[]"), ":6: [api] operators: must be the DNS names"),
        (
            good.replacen("127.0.0.1:0", "127.0.0.1", 1),
            ":5: [api] listen: must be an address and port, like [::]:9443 or 127.0.0.1:9443, not \"127.0.0.1\"",
        ),
        (
            good.replace("[telemetry]\nlisten = \"127.0.0.1:0\"", "[telemetry]\nlisten = \"0.0.0.0:9\""),
            "[telemetry] listen: must be a loopback address and port, like 127.0.0.1:9445, not \"0.0.0.0:9\"",
        ),
        (configuration("log_revisions = 0"), ":3: [store] log_revisions: must be 1 to 10000000, not 0"),
        (configuration("log_revisions = -1"), ":3: "),
        (
            configuration("[substrate]\nlayout = \"wide\""),
            "[substrate] layout: must be slot64, plain72 or plain64, not \"wide\"",
        ),
        (
            configuration("[log]\nlevel = \"a=b=c\""),
            "[log] level: must be error, warn, info, debug or trace, or",
        ),
        (configuration("[log]\nlevel = \"\""), "[log] level: must be error, warn, info, debug or trace, or"),
        (
            configuration("[move]\nack_wait = \"600001ms\""),
            "[move] ack_wait: must be a time from 0s to 10m, a number with ms, s, m, h or d behind it, not \"600001ms\"",
        ),
        (configuration("[move]\nstuck_after = 60"), "[move] stuck_after: invalid type: integer '60'"),
        (
            configuration("[service]\nshutdown_deadline = \"0s\""),
            "shutdown_deadline: must be a time from 1s to 5m",
        ),
        (good.replace("\"ca.crt\"", "\"\""), "[tls] ca: must be a path, not \"\""),
        (good.replace("[tls]", "[tsl]"), "unknown field 'tsl'"),
        ("[store".to_owned(), ":1: "),
        (String::new(), "missing field 'store'"),
    ];
    for (text, wanted) in cases {
        std::fs::write(site.path("control.toml"), &text).unwrap();
        let (status, _, stderr) = output(&site, &[]);
        assert_eq!(status, Some(2), "{text}\n{stderr}");
        assert!(stderr.contains(wanted), "{wanted:?} in {stderr}");
        assert!(stderr.contains("control.toml"), "{stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    }
    assert!(!site.path("store.redb").exists());
}

#[test]
fn check_config_loads_the_certificates_and_help_teaches() {
    let site = Site::new();
    let (status, stdout, _) = output(&site, &["check-config"]);
    assert_eq!(status, Some(0));
    assert!(stdout.contains("right; the certificate names control"), "{stdout}");
    std::fs::remove_file(site.path("control.key")).unwrap();
    for command in [&["check-config"][..], &[]] {
        let (status, _, stderr) = output(&site, command);
        assert_eq!(status, Some(2), "{command:?}: {stderr}");
        assert!(stderr.contains("control.key: cannot read it"), "{stderr}");
    }
    assert!(!site.path("store.redb").exists());
    let (status, stdout, _) = output(&site, &["--help"]);
    assert_eq!(status, Some(0));
    for word in ["check-config", "backup", "restore", "SIGTERM", "Exit status"] {
        assert!(stdout.contains(word), "{word}");
    }
}

#[test]
fn a_cut_store_keeps_it_from_starting_and_stays_as_it_is() {
    let site = Site::new();
    let running = Running::start(&site);
    assert_eq!(running.terminate(), Some(0));
    let whole = std::fs::read(site.path("store.redb")).unwrap();
    let cut = &whole[..whole.len() / 2];
    std::fs::write(site.path("store.redb"), cut).unwrap();
    let (status, _, stderr) = output(&site, &[]);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("store.redb") && stderr.contains("nothing was changed"), "{stderr}");
    assert_eq!(std::fs::read(site.path("store.redb")).unwrap(), cut);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_order_and_a_killed_one_comes_back_with_everything() {
    let site = Site::new();
    let mut running = Running::start(&site);
    let mut api = common::Client::connect(running.api, &site.certificate("operator")).await.unwrap();
    api.furnish().await;
    let before = api.get("/v1/hosts").await;
    // Killed, not asked to end.
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    drop(running);

    let running = Running::start(&site);
    let mut api = common::Client::connect(running.api, &site.certificate("operator")).await.unwrap();
    assert_eq!(api.get("/v1/hosts").await, before);
    // With a connection open and idle.
    let status = tokio::task::spawn_blocking(move || running.terminate()).await.unwrap();
    assert_eq!(status, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_the_running_service_is_restored_as_a_new_incarnation() {
    let site = Site::new();
    let running = Running::start(&site);
    let mut api = common::Client::connect(running.api, &site.certificate("operator")).await.unwrap();
    api.furnish().await;
    api.node("web", "host-a", "10.0.0.1").await;
    let (nodes, status) = (api.get("/v1/nodes").await, api.get("/v1/status").await);
    // The configuration says port 0; a backup has to be told where the service is.
    let text = configuration("").replacen("127.0.0.1:0", &running.api.to_string(), 1);
    std::fs::write(site.path("control.toml"), text).unwrap();
    let backup = site.path("backup");
    let name = backup.to_str().unwrap();
    let (code, stdout, stderr) = output(&site, &["backup", name]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("records"), "{stdout}");
    let taken = std::fs::read(&backup).unwrap();
    let (code, _, stderr) = output(&site, &["backup", name]);
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(std::fs::read(&backup).unwrap(), taken, "a backup overwrites nothing");

    drop(api);
    assert_eq!(tokio::task::spawn_blocking(move || running.terminate()).await.unwrap(), Some(0));
    let (code, _, stderr) = output(&site, &["backup", site.path("offline").to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(std::fs::read(site.path("offline")).unwrap(), taken, "the file says what the service said");

    let (code, _, stderr) = output(&site, &["restore", name]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("store.redb: is there already"), "{stderr}");
    std::fs::rename(site.path("store.redb"), site.path("old.redb")).unwrap();

    let half = site.path("half");
    std::fs::write(&half, &taken[..taken.len() * 2 / 3]).unwrap();
    let (code, _, stderr) = output(&site, &["restore", half.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("half: "), "{stderr}");
    assert!(!site.path("store.redb").exists() && !site.path("store.redb.restoring").exists());

    let (code, _, stderr) = output(&site, &["restore", name]);
    assert_eq!(code, Some(0), "{stderr}");
    std::fs::write(site.path("control.toml"), configuration("")).unwrap();
    let running = Running::start(&site);
    let mut api = common::Client::connect(running.api, &site.certificate("operator")).await.unwrap();
    assert_eq!(api.get("/v1/nodes").await, nodes);
    let restored: Value = api.get("/v1/status").await;
    assert_eq!(restored["revision"], status["revision"]);
    assert_ne!(restored["incarnation"], status["incarnation"]);
}
