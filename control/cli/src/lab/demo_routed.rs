//! The demo's chapter of routers: a machine behind a node, reached and refused.

use super::attack::expect_drops;
use super::behind::Behind;
use super::handle::Lab;
use super::path::{Probe, traceroute};
use super::plan::Node;
use super::probe::ping;
use super::provision::{change, node_spec};
use super::session::transfer;
use crate::client::Client;
use anyhow::{Result, ensure};
use overlane_api::resource::{AttachmentKind, Node as NodeResource};
use overlane_dataplane::drop::DropReason;
use std::net::Ipv4Addr;

/// The machine.
const MACHINE: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 2);
/// A machine in a network that the node is no router for.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 2);

pub(super) fn show(lab: &Lab) -> Result<String> {
    let (router, from) = (lab.node("acme-3")?, lab.node("acme-1")?);
    let machines = [Behind::make(lab, &router, 1, MACHINE)?, Behind::make(lab, &router, 2, OTHER)?];
    println!("  behind {}: {MACHINE}, and {OTHER}, of which provisioning knows nothing", router.id);
    route(lab, &router, &["192.168.9.0/24"])?;
    let outcome = reach(lab, (&router, &from), &machines);
    route(lab, &router, &[])?;
    outcome
}

fn reach(lab: &Lab, (router, from): (&Node, &Node), [machine, other]: &[Behind; 2]) -> Result<String> {
    let namespace = lab.namespace(&from.id);
    let result = ping(&namespace, MACHINE, 5)?;
    println!("  {} -> {MACHINE}: {} of {} answered", from.id, result.received, result.sent);
    ensure!(result.is_complete(), "the machine behind {} does not answer", router.id);
    let hops = traceroute(&namespace, MACHINE, Probe::Udp)?;
    let told: Vec<_> =
        hops.iter().map(|hop| hop.map_or_else(|| "*".to_owned(), |hop| hop.to_string())).collect();
    println!("  by {}", told.join(", "));
    ensure!(hops.contains(&Some(router.ipv4)), "the path does not lead through {}", router.id);
    transfer(machine.machine(), &namespace, from.ipv4, 1 << 20)?;
    println!("  {MACHINE} -> {}: 1 MiB by TCP, byte for byte", from.id);
    let refused = expect_drops(lab, &router.host, &[(DropReason::SrcIpv4Spoofed, 3)], || {
        let result = ping(other.machine(), from.ipv4, 3)?;
        println!("  {OTHER} -> {}: {} of {} answered", from.id, result.received, result.sent);
        Ok(())
    })?;
    Ok(format!("reached from a stock node through a stock router; from the other: {refused}"))
}

fn route(lab: &Lab, node: &Node, routes: &[&str]) -> Result<()> {
    let mut spec = node_spec(node, AttachmentKind::Veth);
    for interface in &mut spec.interfaces {
        interface.routes = routes.iter().map(|net| (*net).to_owned()).collect();
    }
    let path = format!("/v1/nodes/{}", node.id);
    let _: (bool, NodeResource) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
    Ok(())
}
