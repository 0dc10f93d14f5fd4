//! Networks whose mappings are resolved on demand, on real parts.

use crate::fixture::{Case, lab_name, up_shaped};
use anyhow::{Context, Result, ensure};
use overlane_api::policy::{Action, Direction, Rule};
use overlane_api::resource::{AttachmentKind, MappingMode, Network, NetworkSpec, Node as NodeResource};
use overlane_cli::client::Client;
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::{self, Lab};
use overlane_cli::lab::inject::{Macs, RawPort, udp4};
use overlane_cli::lab::plan::{NODE_DEVICE, Node, TELEMETRY};
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::progress::{Lines, Silent};
use overlane_cli::lab::provision::{change, network_spec, node_spec, rule_about, wait_node_live};
use overlane_cli::lab::service;
use overlane_cli::lab::session::EchoSession;
use overlane_cli::lab::shape::Shape;
use overlane_cli::lab::state::Mode;
use overlane_cli::lab::wait;
use overlane_dataplane::drop::DropReason;
use std::net::Ipv4Addr;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Alone("a_network_on_demand_is_resolved_as_it_is_used_and_nothing_is_lost_meanwhile", used),
    Case::Alone("a_refusal_is_told_by_its_name_and_lifted_at_once_by_a_change_of_rules", refused),
    Case::Alone("a_scan_is_cut_off_and_counted_and_others_are_resolved_meanwhile", scan),
    Case::Alone("without_the_service_what_was_resolved_goes_on_and_what_was_not_is_dropped_by_name", away),
    Case::Alone("senders_to_a_terminated_node_hear_that_it_is_unreachable", terminated),
];

const SOON: Duration = Duration::from_secs(20);

/// Does `work` in a lab whose acme network is on demand, when engines have forgotten what they were told before.
fn in_lab(label: &str, work: fn(&Lab) -> Result<()>) -> Result<()> {
    let engine = "[resolve]\nexpiry = \"4s\"\nrate = 20\nburst = 16\n".to_owned();
    let lab = up_shaped(label, Mode::Service, Shape { engine, ..Shape::default() })?;
    let outcome = on_demand(&lab).and_then(|()| work(&lab));
    let words = lab.last_words();
    lab.down(&Silent).inspect_err(|_| {
        let _ = handle::down(&lab_name(label), &Lines);
    })?;
    outcome.with_context(|| words)
}

fn on_demand(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let network = plan.networks.iter().find(|network| network.id == "acme-net").context("acme's network")?;
    let spec = NetworkSpec { mapping: MappingMode::OnDemand, ..network_spec(network) };
    let (_, told): (bool, Network) =
        change(lab, async |client: Client| client.put("/v1/networks/acme-net", &spec).await)?;
    ensure!(told.on_demand, "{told:?}");
    wait::until("what engines were told before to be forgotten", SOON, || {
        let mut held = 0;
        for host in &plan.hosts {
            held += resolved(lab, &host.id)?;
        }
        Ok((held == 0).then_some(()))
    })
}

/// How many mappings an engine holds that it has asked for.
fn resolved(lab: &Lab, host: &str) -> Result<u64> {
    let answer = engine::ask(lab, host, "GET", "/status", "")?;
    let status: serde_json::Value = serde_json::from_str(&answer.body)?;
    status["resolved"].as_u64().context("resolved in /status")
}

fn drops(lab: &Lab, host: &str, reason: DropReason) -> Result<u64> {
    let metrics = overlane_cli::lab::metrics::Metrics::scrape(&lab.namespace(host), TELEMETRY)?;
    Ok(metrics.sum("overlane_drops_total", &[("reason", reason.name())]) as u64)
}

fn is_answered(lab: &Lab, from: &Node, to: &Node) -> Result<bool> {
    Ok(ping(&lab.namespace(&from.id), to.ipv4, 2)?.is_complete())
}

fn used() -> Result<()> {
    in_lab("used", |lab| {
        let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
        lab.namespace(&from.id).ip("neigh flush all")?;
        ensure!(is_answered(lab, &from, &to)?, "the first packets are lost");
        wait::until("each end to hold the other", SOON, || {
            Ok((resolved(lab, &from.host)? == 1 && resolved(lab, &to.host)? == 1).then_some(()))
        })?;
        // For longer than a mapping is held: it is renewed while it is used.
        let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            session.advance(10, SOON)?;
        }
        session.finish()?;
        for host in [&from.host, &to.host] {
            for reason in [
                DropReason::ResolveUnanswered,
                DropReason::VerifyUnanswered,
                DropReason::ResolveQueueFull,
                DropReason::VerifyQueueFull,
                DropReason::SrcUnknownNode,
            ] {
                ensure!(drops(lab, host, reason)? == 0, "{} on {host}", reason.name());
            }
        }
        wait::until("what is not used to be forgotten", SOON, || {
            Ok((resolved(lab, &from.host)? + resolved(lab, &to.host)? == 0).then_some(()))
        })?;
        ensure!(is_answered(lab, &to, &from)?, "it is not resolved anew");
        Ok(())
    })
}

fn refused() -> Result<()> {
    in_lab("refused", |lab| {
        let (from, to, friend) = (lab.node("acme-1")?, lab.node("acme-3")?, lab.node("acme-2")?);
        ensure!(is_answered(lab, &from, &to)?, "before the rules");
        // Only the receiver's engine has these rules; the sender's hears of them by the refusal.
        for (id, direction) in [("no-in", Direction::Ingress), ("no-out", Direction::Egress)] {
            let mut spec = rule_about(&to, direction, Action::Deny);
            spec.peer.node = Some(from.id.clone());
            let path = format!("/v1/rules/{id}");
            let _: (bool, Rule) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
        }
        wait::until("the mapping to be forgotten", SOON, || {
            Ok((resolved(lab, &from.host)? == 0).then_some(()))
        })?;
        // Its neighbour entry is there still: packets go out without ARP.
        let before = drops(lab, &from.host, DropReason::ResolveRefused)?;
        let port = RawPort::open(&lab.namespace(&from.id), NODE_DEVICE)?;
        let frame = udp4(Macs::between(&from, &to)?, from.ipv4, to.ipv4, b"refused")?;
        for _ in 0..3 {
            port.send(&frame)?;
        }
        wait::until("the refusals to be counted", SOON, || {
            Ok((drops(lab, &from.host, DropReason::ResolveRefused)? >= before + 3).then_some(()))
        })?;
        ensure!(is_answered(lab, &friend, &to)?, "a refusal for one is one for another");
        for id in ["no-in", "no-out"] {
            let path = format!("/v1/rules/{id}");
            change(lab, async |client: Client| client.delete(&path).await)?;
        }
        lab.namespace(&from.id).ip("neigh flush all")?;
        ensure!(is_answered(lab, &from, &to)?, "the refusal outlives the rules");
        Ok(())
    })
}

fn scan() -> Result<()> {
    in_lab("scan", |lab| {
        let (scanner, friend, to) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
        let port = RawPort::open(&lab.namespace(&scanner.id), NODE_DEVICE)?;
        let [a, b, c, _] = scanner.ipv4.octets();
        for last in 100..200u8 {
            let nobody = Node { ipv4: Ipv4Addr::new(a, b, c, last), ..to.clone() };
            let frame = udp4(Macs::between(&scanner, &nobody)?, scanner.ipv4, nobody.ipv4, b"?")?;
            port.send(&frame)?;
        }
        wait::until("the scan to be cut off", SOON, || {
            Ok((drops(lab, &scanner.host, DropReason::ResolveLimited)? >= 50).then_some(()))
        })?;
        ensure!(is_answered(lab, &friend, &to)?, "a scan by one keeps another from being resolved");
        wait::until("those that were asked for to be unknown", SOON, || {
            Ok((drops(lab, &scanner.host, DropReason::NoMapping)? >= 16).then_some(()))
        })
    })
}

fn away() -> Result<()> {
    in_lab("away", |lab| {
        let (from, known, unknown) = (lab.node("acme-3")?, lab.node("acme-1")?, lab.node("acme-2")?);
        ensure!(is_answered(lab, &from, &known)?, "with the service");
        lab.with_process(service::NAME, |process| process.kill())?;
        wait::until("the engine to notice", SOON, || {
            let status = engine::ask(lab, &from.host, "GET", "/status", "")?;
            let status: serde_json::Value = serde_json::from_str(&status.body)?;
            Ok((status["provisioning"]["connected"] == false).then_some(()))
        })?;
        let before = drops(lab, &from.host, DropReason::ResolveUnanswered)?;
        let port = RawPort::open(&lab.namespace(&from.id), NODE_DEVICE)?;
        port.send(&udp4(Macs::between(&from, &unknown)?, from.ipv4, unknown.ipv4, b"?")?)?;
        wait::until("the packet to be dropped by name", SOON, || {
            Ok((drops(lab, &from.host, DropReason::ResolveUnanswered)? > before).then_some(()))
        })?;
        // Longer than mappings are held otherwise.
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            ensure!(is_answered(lab, &from, &known)?, "what was resolved does not go on");
        }
        lab.start_service()?;
        wait::until("it to be resolved with the service", SOON, || {
            Ok(is_answered(lab, &from, &unknown)?.then_some(()))
        })
    })
}

fn terminated() -> Result<()> {
    in_lab("gone", |lab| {
        let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
        ensure!(is_answered(lab, &from, &to)?, "before its end");
        let path = format!("/v1/nodes/{}", to.id);
        change(lab, async |client: Client| client.delete(&path).await)?;
        let mut command = lab.namespace(&from.id).command("ping");
        let output = command.args(["-n", "-c", "2", "-W", "2", &to.ipv4.to_string()]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.contains("Destination Host Unreachable"), "{said}");
        ensure!(drops(lab, &from.host, DropReason::DstTerminated)? > 0, "not counted");
        // What is put anew is reached anew.
        let spec = node_spec(&to, AttachmentKind::Veth);
        let _: (bool, NodeResource) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
        wait_node_live(lab, &to.id, SOON)?;
        lab.namespace(&from.id).ip("neigh flush all")?;
        wait::until("it to be reached again", SOON, || Ok(is_answered(lab, &from, &to)?.then_some(())))
    })
}
