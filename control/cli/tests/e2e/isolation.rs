//! What nodes and strangers on the substrate must not do: each attempt ends in its own counter, and nowhere else.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use etherparse::ArpOperation;
use overlane_cli::lab::attack::{self, expect_drops, forge, repeat, substrate_port};
use overlane_cli::lab::checks::{contains, say};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::{Macs, RawPort, arp, udp4, udp6};
use overlane_cli::lab::plan::{GATEWAY, NODE_DEVICE, Node};
use overlane_cli::lab::session::is_silent;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("a_neighbours_ipv4_address_as_source_is_dropped_and_counted", spoofed_ipv4),
    Case::Shared("another_mac_as_source_is_dropped_and_counted", spoofed_mac),
    Case::Shared("arp_in_a_neighbours_name_is_dropped_and_counted", spoofed_arp),
    Case::Shared("frames_to_macs_that_engines_never_gave_out_are_dropped_and_counted", unknown_macs),
    Case::Shared("destinations_that_do_not_exist_are_dropped_by_reason", unreachable),
    Case::Shared("forged_sources_on_the_substrate_are_dropped_each_by_its_reason", forged_sources),
    Case::Shared("forged_destinations_on_the_substrate_are_dropped_each_by_its_reason", forged_destinations),
    Case::Shared("a_node_does_not_reach_its_hosts_kernel", host_kernel),
    Case::Shared("the_hosts_kernel_does_not_answer_on_tenant_devices", no_kernel_on_tenant_devices),
];

const ATTEMPTS: u64 = 25;
const SECRET: &str = "must not arrive";

/// Tries something, and requires that `target` receives none of it: a datagram that `friend` may send comes first.
fn unseen(lab: &Lab, friend: &Node, target: &Node, attempt: impl FnOnce() -> Result<()>) -> Result<()> {
    let port = RawPort::open(&lab.namespace(&target.id), NODE_DEVICE)?;
    attempt()?;
    say(lab, friend, target, "a marker")?;
    let seen = port.receive(Duration::from_secs(2), |f| contains(f, SECRET) || contains(f, "a marker"))?;
    let seen = seen.with_context(|| format!("{} does not reach {}", friend.id, target.id))?;
    ensure!(!contains(&seen, SECRET), "{} received it", target.id);
    Ok(())
}

fn from_node(lab: &Lab, node: &Node, frames: &[Vec<u8>]) -> Result<()> {
    let port = RawPort::open(&lab.namespace(&node.id), NODE_DEVICE)?;
    frames.iter().try_for_each(|frame| repeat(&port, frame, ATTEMPTS))
}

fn spoofed_ipv4(lab: &Lab) -> Result<()> {
    let (attacker, victim) = (lab.node("acme-1")?, lab.node("acme-2")?);
    // Across hosts, to a neighbour on the same host, and with an address that is nobody's.
    for (target, pretended) in [
        ("acme-3", victim.ipv4),
        ("acme-2", Ipv4Addr::new(10, 0, 0, 3)),
        ("acme-3", Ipv4Addr::new(8, 8, 8, 8)),
    ] {
        let target = lab.node(target)?;
        unseen(lab, &attacker, &target, || {
            let frame = udp4(Macs::between(&attacker, &target)?, pretended, target.ipv4, SECRET.as_bytes())?;
            expect_drops(lab, &attacker.host, &[(DropReason::SrcIpv4Spoofed, ATTEMPTS)], || {
                from_node(lab, &attacker, &[frame])
            })
            .map(|_| ())
        })?;
    }
    Ok(())
}

fn spoofed_mac(lab: &Lab) -> Result<()> {
    let (attacker, target) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let others = [lab.node("acme-2")?.mac()?, lab.node("globex-1")?.mac()?, target.dummy_mac()?];
    for source in others {
        unseen(lab, &attacker, &target, || {
            let macs = Macs { source, destination: target.dummy_mac()? };
            let frame = udp4(macs, attacker.ipv4, target.ipv4, SECRET.as_bytes())?;
            expect_drops(lab, &attacker.host, &[(DropReason::SrcMacSpoofed, ATTEMPTS)], || {
                from_node(lab, &attacker, &[frame])
            })
            .map(|_| ())
        })?;
    }
    Ok(())
}

fn spoofed_arp(lab: &Lab) -> Result<()> {
    let (attacker, victim, target) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let macs = Macs { source: attacker.mac()?, destination: MacAddr::BROADCAST };
    let nobody = (MacAddr::ZERO, target.ipv4);
    let frames = [
        // "acme-2 is at my address": asked, announced, answered, with either MAC.
        arp(macs, ArpOperation::REQUEST, (attacker.mac()?, victim.ipv4), nobody)?,
        arp(macs, ArpOperation::REQUEST, (attacker.mac()?, victim.ipv4), (MacAddr::ZERO, victim.ipv4))?,
        arp(macs, ArpOperation::REPLY, (attacker.mac()?, victim.ipv4), (target.mac()?, target.ipv4))?,
        arp(macs, ArpOperation::REQUEST, (victim.mac()?, attacker.ipv4), nobody)?,
        arp(macs, ArpOperation::REPLY, (attacker.mac()?, GATEWAY), (target.mac()?, target.ipv4))?,
    ];
    let count = ATTEMPTS * frames.len() as u64;
    expect_drops(lab, &attacker.host, &[(DropReason::ArpSpoofed, count)], || {
        from_node(lab, &attacker, &frames)
    })?;
    // Its own announcement is no attack: it is absorbed.
    let own =
        arp(macs, ArpOperation::REQUEST, (attacker.mac()?, attacker.ipv4), (MacAddr::ZERO, attacker.ipv4))?;
    expect_drops(lab, &attacker.host, &[(DropReason::ArpAbsorbed, ATTEMPTS)], || {
        from_node(lab, &attacker, &[own])
    })?;
    Ok(())
}

fn unknown_macs(lab: &Lab) -> Result<()> {
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let source = from.mac()?;
    let stranger = lab.node("globex-3")?;
    // The true MAC of the destination, a namesake's dummy MAC of another network, and one out of thin air.
    for destination in [to.mac()?, stranger.dummy_mac()?, "02:12:34:56:78:9a".parse()?] {
        let frame = udp4(Macs { source, destination }, from.ipv4, to.ipv4, SECRET.as_bytes())?;
        expect_drops(lab, &from.host, &[(DropReason::UnknownDstMac, ATTEMPTS)], || {
            from_node(lab, &from, &[frame])
        })
        .with_context(|| format!("to {destination}"))?;
    }
    // A neighbour is no router.
    let neighbour = lab.node("acme-2")?;
    let frame = udp4(Macs::between(&from, &neighbour)?, from.ipv4, to.ipv4, SECRET.as_bytes())?;
    expect_drops(lab, &from.host, &[(DropReason::NextHopNotRouter, ATTEMPTS)], || {
        from_node(lab, &from, &[frame])
    })?;
    Ok(())
}

fn unreachable(lab: &Lab) -> Result<()> {
    let from = lab.node("acme-1")?;
    let gateway = Macs { source: from.mac()?, destination: MacAddr::dummy(from.vnet_id()?, GATEWAY) };
    for (to, reason) in [
        (Ipv4Addr::new(10, 0, 0, 99), DropReason::NoMapping),
        (Ipv4Addr::new(192, 0, 2, 1), DropReason::NoMapping),
        (GATEWAY, DropReason::GatewayItself),
        (Ipv4Addr::new(224, 0, 0, 7), DropReason::UnknownDstMac),
        (Ipv4Addr::BROADCAST, DropReason::UnknownDstMac),
    ] {
        let frame = udp4(gateway, from.ipv4, to, SECRET.as_bytes())?;
        expect_drops(lab, &from.host, &[(reason, ATTEMPTS)], || from_node(lab, &from, &[frame]))
            .with_context(|| format!("to {to}"))?;
    }
    Ok(())
}

/// Sends from the router to `target`'s host, and requires the reason.
fn from_substrate(
    lab: &Lab,
    target: &Node,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    reason: DropReason,
) -> Result<()> {
    let friend = lab.node(&format!("{}-2", target.entity))?;
    let (port, macs) = substrate_port(lab, &target.host)?;
    unseen(lab, &friend, target, || {
        let frame = udp6(macs, source, destination, SECRET.as_bytes())?;
        expect_drops(lab, &target.host, &[(reason, ATTEMPTS)], || repeat(&port, &frame, ATTEMPTS)).map(|_| ())
    })
    .with_context(|| format!("{source} to {destination}"))
}

/// With the U/L bit set, the I/G bit, or both.
fn with_flags(address: Ipv6Addr, flags: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() | flags << 56)
}

fn forged_sources(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let (target, victim, stranger) = (lab.node("acme-1")?, lab.node("acme-3")?, lab.node("globex-3")?);
    let destination = plan.substrate_address(&target)?;
    let true_source = plan.substrate_address(&victim)?;
    let (own, there, elsewhere) = ("fd00:0:0:a::/64", "fd00:0:0:b::/64", "fd00:0:0:c::/64");
    let nobody = Ipv4Addr::new(10, 0, 0, 77);
    for (source, reason) in [
        (forge(elsewhere, victim.slot, victim.vnet, victim.ipv4)?, DropReason::SrcPrefixMismatch),
        (forge(there, 33, victim.vnet, victim.ipv4)?, DropReason::SrcSlotMismatch),
        (forge(there, victim.slot, victim.vnet, nobody)?, DropReason::SrcUnknownNode),
        (forge(there, victim.slot, 0x12_3456, victim.ipv4)?, DropReason::SrcUnknownVnet),
        (plan.substrate_address(&stranger)?, DropReason::VnetMismatch),
        (
            forge(own, lab.node("acme-2")?.slot, victim.vnet, lab.node("acme-2")?.ipv4)?,
            DropReason::SrcOwnPrefix,
        ),
        ("2001:db8::1".parse()?, DropReason::SrcAddressInvalid),
        (with_flags(true_source, 0b10), DropReason::SrcNotRouted),
        (with_flags(true_source, 0b01), DropReason::SrcAddressInvalid),
        (with_flags(true_source, 0b11), DropReason::SrcAddressInvalid),
    ] {
        from_substrate(lab, &target, source, destination, reason)?;
    }
    Ok(())
}

fn forged_destinations(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let (target, sender) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let source = plan.substrate_address(&sender)?;
    let own = "fd00:0:0:a::/64";
    let true_destination = plan.substrate_address(&target)?;
    for (destination, reason) in [
        (forge(own, 33, target.vnet, target.ipv4)?, DropReason::SlotMismatch),
        (forge(own, target.slot, target.vnet, Ipv4Addr::new(10, 0, 0, 78))?, DropReason::DstUnknownNode),
        (forge(own, target.slot, 0x12_3456, target.ipv4)?, DropReason::DstUnknownNode),
        ("fd00:0:0:a::1".parse()?, DropReason::DstAddressInvalid),
        (with_flags(forge(own, 33, target.vnet, target.ipv4)?, 0b10), DropReason::SlotMismatch),
        (with_flags(true_destination, 0b01), DropReason::DstAddressInvalid),
        (with_flags(true_destination, 0b11), DropReason::DstAddressInvalid),
    ] {
        from_substrate(lab, &target, source, destination, reason)?;
    }
    Ok(())
}

fn host_kernel(lab: &Lab) -> Result<()> {
    for node in ["acme-1", "globex-3"] {
        attack::reach_host_kernel(lab, &lab.node(node)?, ATTEMPTS).with_context(|| node.to_owned())?;
    }
    // Nor by the ordinary way, through the gateway: not the kernel's addresses, not the engine's telemetry.
    let node = lab.namespace("acme-1");
    for to in [SocketAddr::from((attack::HOST_IPV4, 22)), SocketAddr::from((attack::HOST_IPV4, 9464))] {
        ensure!(is_silent(&node, to, Duration::from_millis(500))?, "{to} answered");
    }
    Ok(())
}

fn no_kernel_on_tenant_devices(lab: &Lab) -> Result<()> {
    for node in lab.plan().nodes {
        let host = lab.namespace(&node.host);
        let disabled = host.read_sysctl(&format!("ipv6/conf/{}/disable_ipv6", node.device))?;
        ensure!(disabled == "1", "IPv6 is on at {} of {host}", node.device);
        let mut command = host.command("tc");
        let output = command.args(["filter", "show", "dev", &node.device, "ingress"]).output()?;
        let filters = String::from_utf8_lossy(&output.stdout);
        ensure!(filters.contains("bpf"), "no ingress drop at {} of {host}: {filters:?}", node.device);
    }
    Ok(())
}
