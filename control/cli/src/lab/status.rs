//! `overlane lab status`: what runs, who is where, what is counted.

use super::engine;
use super::handle::Lab;
use super::metrics::Metrics;
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
    let mut hosts = table(&["host", "process", "ready", "prefix", "MTU", "drops by reason"]);
    for host in &plan.hosts {
        let ready = match engine::ask(lab, &host.id, "GET", "/readyz", "") {
            Ok(answer) if answer.status == 200 => "yes".to_owned(),
            Ok(answer) => format!("no: {}", answer.body.trim()),
            Err(error) => format!("no: {error:#}"),
        };
        let (mtu, drops) = match engine::scrape(lab, &host.id) {
            Ok(metrics) => {
                let lines = metrics.drops().into_iter().map(|(reason, count)| format!("{reason} {count}"));
                (mtu(&metrics), lines.collect::<Vec<_>>().join("\n"))
            }
            Err(_) => Default::default(),
        };
        let prefix = host.prefix()?.to_string();
        let process = process(lab, &engine::process_name(&host.id));
        hosts.add_row([&host.id, &process, &ready, &prefix, &mtu, &drops]);
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

/// What an engine's uplink carries, what that leaves its nodes, and how many paths carry less.
fn mtu(metrics: &Metrics) -> String {
    let bytes = |of| metrics.sum("overlane_mtu_bytes", &[("of", of)]);
    if bytes("uplink") == 0.0 {
        return "no uplink".to_owned();
    }
    let all = format!("{}, nodes {}", bytes("uplink"), bytes("node"));
    match metrics.sum("overlane_narrow_paths", &[]) {
        0.0 => all,
        paths => format!("{all}\nnarrower paths: {paths}"),
    }
}

fn process(lab: &Lab, name: &str) -> String {
    lab.with_process(name, |process| {
        Ok(if process.is_running() { format!("pid {}", process.pid()) } else { "ended".to_owned() })
    })
    .unwrap_or_else(|_| "not started".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtu_tells_what_nodes_may_send_and_that_paths_are_narrower() {
        let shown = |text: &str| mtu(&Metrics::parse(text).unwrap());
        let mtus = "overlane_mtu_bytes{of=\"uplink\"} 1500\noverlane_mtu_bytes{of=\"node\"} 1480\n";
        assert_eq!(shown(&format!("{mtus}overlane_narrow_paths 0")), "1500, nodes 1480");
        assert_eq!(shown(&format!("{mtus}overlane_narrow_paths 2")), "1500, nodes 1480\nnarrower paths: 2");
        assert_eq!(shown("overlane_narrow_paths 0"), "no uplink");
    }
}
