//! `overlane lab status`: what runs, who is where, what is counted.

use super::engine;
use super::handle::Lab;
use super::results::table;
use super::service;
use super::state::Mode;
use anyhow::Result;

/// Writes the lab's state to standard output.
///
/// # Errors
/// If the lab's plan holds an illegal value.
pub fn show(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let mut hosts = table(&["host", "process", "ready", "prefix", "drops by reason"]);
    for host in &plan.hosts {
        let ready = match engine::ask(lab, &host.id, "GET", "/readyz", "") {
            Ok(answer) if answer.status == 200 => "yes".to_owned(),
            Ok(answer) => format!("no: {}", answer.body.trim()),
            Err(error) => format!("no: {error:#}"),
        };
        let drops = match engine::scrape(lab, &host.id) {
            Ok(metrics) => {
                let lines = metrics.drops().into_iter().map(|(reason, count)| format!("{reason} {count}"));
                lines.collect::<Vec<_>>().join("\n")
            }
            Err(_) => String::new(),
        };
        let prefix = host.prefix()?.to_string();
        hosts.add_row([&host.id, &process(lab, &engine::process_name(&host.id)), &ready, &prefix, &drops]);
    }
    println!("{hosts}");
    let mut nodes = table(&["node", "network", "address", "host", "slot", "substrate address", "namespace"]);
    for node in &plan.nodes {
        nodes.add_row([
            &node.id,
            &node.network,
            &node.ipv4.to_string(),
            &node.host,
            &node.slot.to_string(),
            &plan.substrate_address(node)?.to_string(),
            plan.namespace(&node.id).name(),
        ]);
    }
    println!("{nodes}");
    if lab.mode() == Mode::Service {
        println!("service: {}", process(lab, service::NAME));
        println!("ask it:  {}", hint(lab));
    }
    println!("logs:    {}", lab.state().file("logs").display());
    Ok(())
}

/// How an operator speaks to the lab's service.
#[must_use]
pub fn hint(lab: &Lab) -> String {
    format!(
        "ip netns exec {} overlane --config {} status",
        lab.namespace("svc"),
        lab.state().file("conf/cli.toml").display()
    )
}

fn process(lab: &Lab, name: &str) -> String {
    lab.with_process(name, |process| {
        Ok(if process.is_running() { format!("pid {}", process.pid()) } else { "ended".to_owned() })
    })
    .unwrap_or_else(|_| "not started".to_owned())
}
