//! What a trace says of a live engine is what then happens.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use overlane_api::policy::{Action, Direction, Rule, RuleSpec};
use overlane_api::trace::{TraceAnswer, TracePacket, TraceRequest};
use overlane_cli::client::Client;
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::{Lab, find_binary};
use overlane_cli::lab::plan::TELEMETRY;
use overlane_cli::lab::provision::{change, rule_about};
use overlane_cli::lab::session;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("a_trace_names_what_decides_with_its_revision_and_changes_nothing", named),
    Case::Shared("a_trace_knows_the_flows_that_there_are", flows),
    Case::Shared("the_command_shows_a_trace_and_says_by_its_exit_status_whether_the_packet_passes", command),
];

fn trace(lab: &Lab, host: &str, request: &TraceRequest) -> Result<TraceAnswer> {
    let answer = engine::ask(lab, host, "POST", "/trace", &serde_json::to_string(request)?)?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
    Ok(serde_json::from_str(&answer.body)?)
}

fn to(lab: &Lab, from: &str, to: &str, port: u16, source_port: Option<u16>) -> Result<TraceRequest> {
    let packet = TracePacket {
        to: lab.node(to)?.ipv4.to_string(),
        protocol: "tcp".to_owned(),
        port: Some(port),
        source_port,
        ..TracePacket::default()
    };
    Ok(TraceRequest { interface: Some(format!("{from}/eth0")), frame: None, packet: Some(packet) })
}

/// Does `work` while nothing may come to acme-3 by TCP.
fn closed<T>(lab: &Lab, work: impl FnOnce(&Rule) -> Result<T>) -> Result<T> {
    let spec = RuleSpec {
        protocol: Some("tcp".to_owned()),
        ..rule_about(&lab.node("acme-3")?, Direction::Ingress, Action::Reject)
    };
    let path = "/v1/rules/traced";
    let (_, rule): (bool, Rule) = change(lab, async |client: Client| client.put(path, &spec).await)?;
    let outcome = work(&rule);
    change(lab, async |client: Client| client.delete(path).await)?;
    outcome
}

fn named(lab: &Lab) -> Result<()> {
    let (from, there) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let before = engine::scrape(lab, &from.host)?.drops();
    let sent = trace(lab, &from.host, &to(lab, &from.id, &there.id, 7, None)?)?;
    ensure!(sent.fate == "sent" && sent.frames.len() == 1, "{sent:?}");
    let mapping = sent.steps.iter().find(|step| step.stage == "mapping").context("the mapping")?;
    ensure!(mapping.revision.is_some_and(|revision| revision > 0), "{mapping:?}");
    closed(lab, |rule| {
        // The same packet, as it comes to the other host.
        let frame = sent.frames.first().context("a frame")?;
        let there_mac = engine_mac(lab, &there.host)?;
        let hex = format!("{there_mac}{}", frame.hex.get(12..).unwrap_or_default());
        let inbound = TraceRequest { interface: None, frame: Some(hex), packet: None };
        let told = trace(lab, &there.host, &inbound)?;
        ensure!(told.reason.as_deref() == Some("ingress_denied"), "{told:?}");
        let decided = told.steps.iter().find(|step| step.stage == "ingress").context("the rule")?;
        ensure!(decided.object.as_deref() == Some("rule traced"), "{decided:?}");
        ensure!(decided.revision == Some(rule.revision), "{decided:?} and {rule:?}");
        // Its sender would be told: a reset.
        let reset = told.frames.first().context("an answer")?;
        ensure!(reset.headers.iter().any(|header| header.contains("RST")), "{reset:?}");
        Ok(())
    })?;
    let after = engine::scrape(lab, &from.host)?.drops();
    ensure!(before.get("ingress_denied") == after.get("ingress_denied"), "a trace is counted");
    Ok(())
}

/// The hardware address of an engine's uplink, in digits.
fn engine_mac(lab: &Lab, host: &str) -> Result<String> {
    let any = TraceRequest {
        interface: None,
        frame: None,
        packet: Some(TracePacket {
            from: Some("fd00::1".to_owned()),
            to: "fd00::2".to_owned(),
            protocol: "icmp".to_owned(),
            ..TracePacket::default()
        }),
    };
    let told = trace(lab, host, &any)?;
    ensure!(told.reason.as_deref() == Some("not_our_prefix"), "{told:?}");
    Ok(told.frame.hex.get(..12).unwrap_or_default().to_owned())
}

fn flows(lab: &Lab) -> Result<()> {
    let (client, server) = (lab.node("acme-1")?, lab.node("acme-2")?);
    // Nothing may begin with the client, and it may begin what it likes.
    let spec = rule_about(&client, Direction::Ingress, Action::Deny);
    let path = "/v1/rules/outward";
    let _: (bool, Rule) = change(lab, async |api: Client| api.put(path, &spec).await)?;
    let outcome = (|| -> Result<()> {
        let (near, far) =
            session::connect(&lab.namespace(&client.id), &lab.namespace(&server.id), server.ipv4)?;
        let (port, source) = (near.local_addr()?.port(), far.local_addr()?.port());
        let reply = trace(lab, &client.host, &to(lab, &server.id, &client.id, port, Some(source))?)?;
        ensure!(reply.fate == "sent", "{reply:?}");
        ensure!(reply.steps.iter().any(|step| step.stage == "flow"), "{reply:?}");
        let begun = trace(lab, &client.host, &to(lab, &server.id, &client.id, port, Some(source ^ 1))?)?;
        ensure!(begun.reason.as_deref() == Some("ingress_denied"), "{begun:?}");
        // The connection has noticed nothing.
        session::exchange(&near, &far, [1000, 1000])?;
        Ok(())
    })();
    change(lab, async |api: Client| api.delete(path).await)?;
    outcome
}

fn command(lab: &Lab) -> Result<()> {
    let (from, there) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let run = |more: &[&str]| -> Result<(bool, String)> {
        let mut command = lab.namespace(&from.host).command(find_binary("overlane")?);
        let output = command
            .args(["trace", "--engine", &TELEMETRY.to_string(), "--interface", "acme-1/eth0"])
            .args(more)
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (passes, said) = run(&["--to", &there.ipv4.to_string(), "--udp", "53"])?;
    ensure!(passes && said.contains("it is sent, by revision") && said.contains("IPv6 "), "{said}");
    let (passes, said) = run(&["--to", "10.0.0.200"])?;
    ensure!(!passes && said.contains("it is dropped as no_mapping"), "{said}");
    let (passes, said) = run(&["--to", "nowhere"])?;
    ensure!(!passes && said.contains("packet.to: must be an IPv4 address"), "{said}");
    Ok(())
}
