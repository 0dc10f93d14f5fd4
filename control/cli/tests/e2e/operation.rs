//! What an operator does to engines and service, and what they say to mistakes.

use crate::fixture::{Case, up};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::sys::signal::Signal;
use overlane_api::resource::{Status, WorkerStatus};
use overlane_cli::args::Cli;
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::{Lab, find_binary};
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::process::{Stopped, log_path};
use overlane_cli::lab::progress::Silent;
use overlane_cli::lab::provision;
use overlane_cli::lab::service;
use overlane_cli::lab::session::EchoSession;
use overlane_cli::lab::state::{Mode, State};
use overlane_cli::lab::wait;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = &[
    Case::Alone(
        "a_bad_engine_configuration_is_one_message_with_file_line_field_and_legal_values",
        bad_engine,
    ),
    Case::Alone("a_bad_service_configuration_is_one_message_with_the_file_and_the_field", bad_service),
    Case::Shared("a_truncated_store_is_refused_and_not_overwritten", truncated_store),
    Case::Shared("the_log_level_changes_at_run_time", log_level),
    Case::Shared("status_tells_what_packets_cost_the_workers_of_both_hosts", packet_cycles),
    Case::Shared("an_engine_ends_cleanly_on_sigterm_and_leaves_nothing", sigterm),
    Case::Alone("static_mode_forwards_without_a_service_and_reloads_on_sighup", static_mode),
];

const SOON: Duration = Duration::from_secs(10);

/// Starts a program with a bad configuration and requires exit code 2 and one line with all of `parts`.
fn refused(program: &str, text: &str, parts: &[&str]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("bad.toml");
    std::fs::write(&file, text)?;
    let Output { status, stdout, stderr } =
        Command::new(find_binary(program)?).arg("--config").arg(&file).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.code() == Some(2), "exit code {:?}: {said}", status.code());
    ensure!(said.trim().lines().count() == 1, "not one message: {said}");
    for part in parts {
        ensure!(said.contains(part), "no {part:?} in: {said}");
    }
    Ok(())
}

/// A configuration that is right but for what `change` does to it.
fn engine_configuration(change: impl Fn(String) -> String) -> Result<String> {
    let plan = overlane_cli::lab::plan::Plan::standard("bad")?;
    let text = engine::configuration(&State::of("bad"), &plan, Mode::Service, plan.host("host-a")?)?;
    let changed = change(text.clone());
    ensure!(changed != text, "nothing was changed");
    Ok(changed)
}

fn bad_engine() -> Result<()> {
    for (from, to, parts) in [
        ("idle = \"backoff\"", "idle = \"lazy\"", ["bad.toml:11:", "[workers] idle", "spin or backoff"]),
        ("idle = \"backoff\"", "idel = \"backoff\"", ["bad.toml:11:", "idel", "idle"]),
        ("kind = \"packet\"", "kind = \"tunnel\"", ["bad.toml:5:", "[uplink] kind", "packet or devargs"]),
        ("fd00:0:1:a::e/64", "10.0.0.1/24", ["bad.toml:7:", "[uplink] address", "IPv6"]),
        ("host = \"host-a\"", "host = \"Host A\"", ["bad.toml:2:", "[engine] host", "lower-case"]),
        ("listen = \"127.0.0.1:9464\"", "listen = 9464", ["bad.toml:", "[telemetry] listen", "string"]),
    ] {
        let text = engine_configuration(|text| text.replace(from, to))?;
        refused(engine::PROGRAM, &text, &parts).with_context(|| to.to_owned())?;
    }
    Ok(())
}

fn bad_service() -> Result<()> {
    let good = service::configuration(&State::of("bad"), &overlane_cli::lab::plan::Plan::standard("bad")?);
    for (from, to, parts) in [
        ("[store]", "[stroe]", ["bad.toml:1:", "stroe", "store"]),
        (
            "listen = \"[fd00:0:1:f::5]:7443\"",
            "listen = \"everywhere\"",
            ["bad.toml:5:", "[api] listen", "port"],
        ),
        ("operators = [\"operator\"]", "operators = []", ["bad.toml:6:", "[api] operators", "at least one"]),
    ] {
        ensure!(good.contains(from), "nothing to change: {from}");
        refused(service::PROGRAM, &good.replace(from, to), &parts).with_context(|| to.to_owned())?;
    }
    Ok(())
}

fn truncated_store(lab: &Lab) -> Result<()> {
    let store = lab.state().file(service::STORE);
    let session =
        EchoSession::start(&lab.namespace("acme-1"), &lab.namespace("acme-3"), lab.node("acme-3")?.ipv4)?;
    lab.with_process(service::NAME, |process| process.stop(SOON))?;
    let whole = std::fs::read(&store)?;
    let outcome = (|| {
        for length in [0, 1, 511, whole.len() / 2, whole.len() - 1] {
            let cut = whole.get(..length).context("shorter than that")?;
            std::fs::write(&store, cut)?;
            let mut process = service::start(lab.state(), &lab.plan())?;
            let status = process.wait(SOON).with_context(|| format!("with {length} bytes"))?;
            let status = status.context("no status")?;
            ensure!(!status.success(), "it ended well with a store of {length} of {} bytes", whole.len());
            let said = std::fs::read_to_string(log_path(lab.state().path(), service::NAME))?;
            ensure!(said.contains("store.redb"), "it does not name the store: {said}");
            ensure!(std::fs::read(&store)? == cut, "it changed a store of {length} bytes");
        }
        Ok(())
    })();
    std::fs::write(&store, &whole)?;
    lab.start_service()?;
    outcome?;
    lab.wait_healthy(Duration::from_secs(20))?;
    session.advance(20, SOON)?;
    session.finish()?;
    Ok(())
}

fn log_level(lab: &Lab) -> Result<()> {
    let log = log_path(lab.state().path(), &engine::process_name("host-a"));
    let debug_lines = || -> Result<usize> {
        Ok(std::fs::read_to_string(&log)?.lines().filter(|l| l.contains("DEBUG")).count())
    };
    let before = debug_lines()?;
    let answer = engine::ask(lab, "host-a", "PUT", "/log", "debug")?;
    ensure!((200..300).contains(&answer.status), "/log answers {}: {}", answer.status, answer.body);
    let refused = engine::ask(lab, "host-a", "PUT", "/log", "loud=very")?;
    ensure!(refused.status == 400, "a level that is none: {} {}", refused.status, refused.body);
    // Something to talk about: a device that goes and comes.
    let plan = lab.plan();
    let node = lab.node("globex-2")?;
    overlane_cli::lab::wiring::disconnect_node(&plan, &node)?;
    overlane_cli::lab::wiring::connect_node(&plan, &node)?;
    provision::wait_node_live(lab, &node.id, SOON)?;
    let more = wait::until_ok("lines at debug level", SOON, || {
        let now = debug_lines()?;
        ensure!(now > before, "none");
        Ok(now)
    });
    let back = engine::ask(lab, "host-a", "PUT", "/log", "info")?;
    ensure!((200..300).contains(&back.status), "/log answers {}: {}", back.status, back.body);
    more.map(|_| ())
}

/// What `overlane status` says to the lab's operator, with more on the command line.
fn overlane_status(lab: &Lab, more: &[&str]) -> Result<String> {
    let settings = lab.state().file("conf/cli.toml");
    let words = ["overlane", "--config", settings.to_str().context("a path")?, "status"];
    let cli = Cli::try_parse_from(words.iter().chain(more))?;
    lab.namespace("svc").enter(|| {
        let mut said = Vec::new();
        overlane_cli::run(cli, &mut said)?;
        Ok(String::from_utf8(said)?)
    })
}

fn packet_cycles(lab: &Lab) -> Result<()> {
    const PINGS: u32 = 5;
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    ensure!(from.host != to.host, "both are on {}", to.host);
    let workers = |host: &str| -> Result<Vec<WorkerStatus>> {
        let status: Status = serde_json::from_str(&overlane_status(lab, &["--output", "json"])?)?;
        let engine = status.engines.into_iter().find(|engine| engine.host == host);
        Ok(engine.with_context(|| format!("no workers of {host}"))?.workers)
    };
    let packets =
        |host: &str| -> Result<u64> { Ok(workers(host)?.iter().map(|worker| worker.packets).sum()) };
    let hosts = [from.host.as_str(), to.host.as_str()];
    let before = wait::until_ok("both engines to report", SOON, || hosts.map(packets).into_iter().collect())?;
    let before: Vec<u64> = before;
    ensure!(ping(&lab.namespace("acme-1"), to.ipv4, PINGS)?.is_complete(), "a ping was lost");
    for (host, before) in hosts.into_iter().zip(before) {
        // A request and its answer each.
        wait::until_ok(&format!("{host} to report the pings"), SOON, || {
            let now = packets(host)?;
            ensure!(now >= before + 2 * u64::from(PINGS), "{now} packets, {before} before");
            Ok(())
        })?;
        let workers = workers(host)?;
        let worker = workers.iter().find(|worker| worker.packets > 0).context("no worker with packets")?;
        let cycles = worker.cycles_per_packet.with_context(|| format!("no cycles: {worker:?}"))?;
        // The cheapest of veths costs a system call, and one packet alone has a turn of its own.
        let stages = cycles.classify + cycles.authorise + cycles.translate;
        let parts = cycles.receive + stages + cycles.send;
        // The counters are read one after the other, while the worker counts on: a turn may be in some of them only.
        let slack = cycles.total / 4;
        ensure!((200..10_000_000).contains(&cycles.total) && parts <= cycles.total + slack, "{cycles:?}");
        ensure!(
            cycles.receive > 0 && cycles.classify > 0 && cycles.translate > 0 && cycles.send > 0,
            "{cycles:?}"
        );
        ensure!(worker.busy_permille < 900, "busy with pings: {worker:?}");
        let said = overlane_status(lab, &[])?;
        let told = said.lines().any(|line| line.trim_start().starts_with(host) && line.contains('%'));
        ensure!(told && said.contains("CYCLES/PACKET"), "{host} is not in:\n{said}");
    }
    Ok(())
}

fn sigterm(lab: &Lab) -> Result<()> {
    let host = "host-b";
    let name = engine::process_name(host);
    let pid = lab.with_process(&name, |process| Ok(process.pid()))?;
    let began = Instant::now();
    let stopped = lab.with_process(&name, |process| process.stop(SOON))?;
    let took = began.elapsed();
    let left = leftovers_of(pid);
    lab.start_engine(host)?;
    lab.wait_healthy(Duration::from_secs(20))?;
    let Stopped::Ended(Some(status)) = stopped else { anyhow::bail!("it had to be killed after {took:?}") };
    ensure!(status.code() == Some(0), "it ended with {status} after {took:?}");
    ensure!(took < Duration::from_secs(5), "it took {took:?}");
    ensure!(left.is_empty(), "it left {left:?}");
    Ok(())
}

/// DPDK's run-time directory and hugepage files that carry a process's id.
fn leftovers_of(pid: i32) -> Vec<String> {
    let mut left = Vec::new();
    for directory in ["/run/dpdk", "/var/run/dpdk", "/dev/hugepages", "/dev/shm", "/tmp"] {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.split(|c: char| !c.is_ascii_digit()).any(|number| number == pid.to_string()) {
                left.push(format!("{directory}/{name}"));
            }
        }
    }
    left
}

fn static_mode() -> Result<()> {
    let lab = up("file", Mode::File)?;
    let outcome = reload(&lab);
    let words = lab.last_words();
    lab.down(&Silent)?;
    outcome.with_context(|| words)
}

fn reload(lab: &Lab) -> Result<()> {
    let session =
        EchoSession::start(&lab.namespace("acme-1"), &lab.namespace("acme-3"), lab.node("acme-3")?.ipv4)?;
    session.advance(20, SOON)?;
    let hup = || -> Result<()> {
        for host in &lab.plan().hosts {
            lab.with_process(&engine::process_name(&host.id), |process| process.signal(Signal::SIGHUP))?;
        }
        Ok(())
    };
    let (from, to) = (lab.namespace("globex-1"), lab.node("globex-2")?);
    let answers = |wanted: bool| {
        wait::until_ok(&format!("globex-2 to answer: {wanted}"), SOON, || {
            let result = ping(&from, to.ipv4, 1)?;
            ensure!(result.is_complete() == wanted, "{} of {}", result.received, result.sent);
            Ok(())
        })
    };
    // Without one node.
    let mut plan = lab.plan();
    plan.nodes.retain(|node| node.id != to.id);
    provision::write_file(lab.state(), &plan)?;
    hup()?;
    answers(false)?;
    // A mistake changes nothing, and the engine says which.
    let good = provision::static_file(&lab.plan())?;
    lab.state().write(provision::FILE, &good.replace("slot = 2", "slot = 64"))?;
    hup()?;
    let log = log_path(lab.state().path(), &engine::process_name("host-a"));
    wait::until_ok("the engine to refuse the file", SOON, || {
        let said = std::fs::read_to_string(&log)?;
        ensure!(said.contains("static.toml:") && said.contains("0 to 63"), "it says nothing of it");
        Ok(())
    })?;
    session.advance(20, SOON)?;
    answers(false)?;
    // And with it again.
    lab.state().write(provision::FILE, &good)?;
    hup()?;
    answers(true)?;
    let report = session.finish()?;
    ensure!(report.longest_gap < Duration::from_millis(500), "a pause of {:?}", report.longest_gap);
    Ok(())
}
