//! The demo's chapter of externals: a plain IPv6 host, a node, and a web server on each.

use super::handle::Lab;
use super::outside::Outside;
use super::provision::{change, network_spec};
use super::web::WebServer;
use crate::client::Client;
use anyhow::{Context, Result};
use overlane_api::external::{External, Externals};
use overlane_api::resource::{Network, NetworkSpec};
use std::net::{IpAddr, Ipv4Addr};

const PORT: u16 = 8080;

pub(super) fn show(lab: &Lab) -> Result<String> {
    let outside = Outside::make(lab, 7)?;
    let system = External { name: "plain".to_owned(), address: outside.address().to_string(), ipv4: None };
    let known = set(lab, Externals { pool: Some("10.255.0.0/24".to_owned()), systems: vec![system] })?;
    let outcome = fetch(lab, &outside, &known);
    set(lab, Externals::default())?;
    outcome
}

fn fetch(lab: &Lab, outside: &Outside, known: &Externals) -> Result<String> {
    let seen = known.systems.first().and_then(|system| system.ipv4.as_deref()).context("no address")?;
    let seen: Ipv4Addr = seen.parse()?;
    let node = lab.node("acme-1")?;
    let (namespace, at) = (lab.namespace(&node.id), lab.plan().substrate_address(&node)?);
    println!(
        "  nodes of {} know {} by {seen}, and it knows {} by {at}",
        node.network,
        outside.address(),
        node.id
    );
    let state = lab.state().path();
    WebServer::start(state, "outside", outside.host(), PORT)?.fetched(&namespace, IpAddr::V4(seen))?;
    println!("  {}: curl http://{seen}:{PORT}/file", node.id);
    WebServer::start(state, "inside", &namespace, PORT)?.fetched(outside.host(), IpAddr::V6(at))?;
    println!("  outside: curl http://[{at}]:{PORT}/file");
    Ok("2 MiB each way, byte for byte, and nothing but a web server at either end".to_owned())
}

/// Has the network acme-net have just these externals; with the addresses that nodes know them by.
fn set(lab: &Lab, externals: Externals) -> Result<Externals> {
    let plan = lab.plan();
    let network = plan.networks.iter().find(|network| network.id == "acme-net").context("acme-net")?;
    let spec = NetworkSpec { externals, ..network_spec(network) };
    let path = format!("/v1/networks/{}", network.id);
    let (_, now): (bool, Network) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
    Ok(now.externals)
}
