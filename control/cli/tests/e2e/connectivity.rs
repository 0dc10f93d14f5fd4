//! Who reaches whom: everybody in the own network, nobody in another.

use crate::fixture::Case;
use anyhow::{Context, Result, bail, ensure};
use overlane_cli::lab::capture::{self, Capture};
use overlane_cli::lab::checks;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::RawPort;
use overlane_cli::lab::plan::{GATEWAY, NODE_DEVICE, Node};
use overlane_cli::lab::probe::{Load, Ping, ping};
use overlane_cli::lab::session::{EchoSession, transfer};
use overlane_dataplane::mac::MacAddr;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("every_node_reaches_every_other_of_its_network_at_the_same_time", everybody_at_once),
    Case::Shared("every_byte_of_tcp_arrives_intact_with_stock_offloads", intact),
    Case::Shared("iperf3_runs_both_ways_over_tcp_and_udp", iperf_both_ways),
    Case::Shared("largest_packets_pass_and_larger_ones_do_not", largest_packets),
    Case::Shared("namesakes_in_two_networks_never_see_each_others_packets", namesakes),
    Case::Shared("nodes_see_each_other_by_dummy_macs", dummy_macs),
    Case::Shared("the_substrate_carries_plain_tcp_over_ipv6_without_encapsulation", plain_on_the_wire),
    Case::Shared("an_address_that_nobody_has_is_not_answered_for", nobody),
];

fn complete(result: Ping) -> Result<()> {
    ensure!(result.is_complete(), "{} of {} answered", result.received, result.sent);
    Ok(())
}

fn pairs(lab: &Lab) -> Vec<(Node, Node)> {
    let nodes = lab.plan().nodes;
    let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (from.clone(), to.clone())));
    pairs.filter(|(from, to)| from.network == to.network && from.id != to.id).collect()
}

fn everybody_at_once(lab: &Lab) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = pairs(lab)
            .into_iter()
            .map(|(from, to)| {
                scope.spawn(move || {
                    let result = ping(&lab.namespace(&from.id), to.ipv4, 5)?;
                    complete(result).with_context(|| format!("{} to {}", from.id, to.id))
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(outcome) => outcome?,
                Err(_) => bail!("a ping panicked"),
            }
        }
        Ok(())
    })
}

fn intact(lab: &Lab) -> Result<()> {
    for network in ["acme", "globex"] {
        for number in [2, 3] {
            let (from, to) = (lab.node(&format!("{network}-1"))?, lab.node(&format!("{network}-{number}"))?);
            transfer(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4, 8 << 20)
                .with_context(|| format!("{} and {}", from.id, to.id))?;
        }
    }
    Ok(())
}

fn iperf_both_ways(lab: &Lab) -> Result<()> {
    let from = lab.node("globex-1")?;
    for to in ["globex-2", "globex-3"] {
        for load in [Load::Tcp, Load::TcpReverse, Load::Udp(20), Load::UdpReverse(20)] {
            checks::iperf(lab, &from, &lab.node(to)?, load).with_context(|| format!("{load:?} to {to}"))?;
        }
    }
    Ok(())
}

fn largest_packets(lab: &Lab) -> Result<()> {
    let from = lab.namespace("acme-1");
    for to in ["acme-2", "acme-3"] {
        let to = lab.node(to)?.ipv4.to_string();
        // 1480 bytes of IPv4: 20 of header, 8 of ICMP, 1452 of payload.
        for (payload, fits) in [("1452", true), ("1453", false)] {
            let mut command = from.command("ping");
            let output =
                command.args(["-n", "-c", "1", "-W", "1", "-M", "do", "-s", payload, &to]).output()?;
            ensure!(output.status.success() == fits, "{payload} bytes to {to}: {output:?}");
        }
    }
    Ok(())
}

fn namesakes(lab: &Lab) -> Result<()> {
    for (one, other) in [("acme", "globex"), ("globex", "acme")] {
        for number in [2, 3] {
            checks::isolated(
                lab,
                &format!("{one}-1"),
                &format!("{one}-{number}"),
                &format!("{other}-{number}"),
            )?;
        }
    }
    Ok(())
}

/// What a node's kernel has learned as the hardware address of `address`.
fn learned(lab: &Lab, node: &str, address: std::net::Ipv4Addr) -> Result<MacAddr> {
    let text = lab.namespace(node).enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/arp")?))?;
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(&address.to_string()));
    let mac = line.and_then(|line| line.split_whitespace().nth(3));
    Ok(mac.with_context(|| format!("{node} knows no {address}: {text}"))?.parse()?)
}

fn dummy_macs(lab: &Lab) -> Result<()> {
    let from = lab.node("acme-1")?;
    for to in ["acme-2", "acme-3"] {
        let to = lab.node(to)?;
        let port = RawPort::open(&lab.namespace(&to.id), NODE_DEVICE)?;
        checks::say(lab, &from, &to, "by which address?")?;
        let frame =
            port.receive(Duration::from_secs(2), |frame| checks::contains(frame, "by which address?"))?;
        let frame = frame.context("nothing arrived")?;
        ensure!(frame.get(0..6) == Some(&to.mac()?.0), "the destination is not {}'s own address", to.id);
        ensure!(frame.get(6..12) == Some(&from.dummy_mac()?.0), "the source is not {}'s dummy MAC", from.id);
        ensure!(
            learned(lab, &from.id, to.ipv4)? == to.dummy_mac()?,
            "ARP for {} told another address",
            to.id
        );
    }
    // The gateway only answers ARP; a ping makes the node ask.
    let _ = ping(&lab.namespace(&from.id), GATEWAY, 1)?;
    ensure!(
        learned(lab, &from.id, GATEWAY)? == MacAddr::dummy(from.vnet_id()?, GATEWAY),
        "the gateway's address"
    );
    Ok(())
}

fn plain_on_the_wire(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let (from, to) = (lab.node("globex-1")?, lab.node("globex-3")?);
    let capture = Capture::start(&plan, lab.state().path(), "host-b", "tcp")?;
    let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
    session.advance(5, Duration::from_secs(5))?;
    session.finish()?;
    let frames = capture.finish(10)?;
    let ends = [plan.substrate_address(&from)?, plan.substrate_address(&to)?];
    for frame in &frames {
        let packet = capture::decode(frame).with_context(|| format!("not plain: {frame:02x?}"))?;
        ensure!(
            packet.is_tcp && ends.contains(&packet.source) && ends.contains(&packet.destination),
            "{packet:?}"
        );
    }
    Ok(())
}

fn nobody(lab: &Lab) -> Result<()> {
    let result = ping(&lab.namespace("acme-1"), "10.0.0.99", 1)?;
    ensure!(result.received == 0, "somebody answered");
    let learned = learned(lab, "acme-1", "10.0.0.99".parse()?);
    ensure!(learned.is_err() || learned? == MacAddr::ZERO, "an engine answered ARP for nobody");
    Ok(())
}
