//! One attack of each class, for the demo: what a node can try, and what somebody on the substrate can.

use super::attack::{expect_drops, forge, repeat, substrate_port};
use super::handle::Lab;
use super::inject::{Macs, RawPort, arp, tcp4, udp4, udp6};
use super::plan::{GATEWAY, NODE_DEVICE, Node};
use anyhow::{Context, Result};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An attack: what it tries, the reason that it is to be counted by, and its frame.
struct Attack {
    what: &'static str,
    reason: DropReason,
    frame: Vec<u8>,
}

/// Tries each `count` times; a line for each, with the counter that it ended in.
///
/// # Errors
/// If one is not stopped by exactly its reason.
pub(super) fn all(lab: &Lab, count: u64) -> Result<usize> {
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let port = RawPort::open(&lab.namespace(&attacker.id), NODE_DEVICE)?;
    let mut stopped = 0;
    for attack in from_node(lab, &attacker, &near, &far)? {
        try_it(lab, &attacker.host, &port, &attack, count)?;
        stopped += 1;
    }
    let (port, macs) = substrate_port(lab, &attacker.host)?;
    for attack in from_substrate(lab, macs, &attacker, &far)? {
        try_it(lab, &attacker.host, &port, &attack, count)?;
        stopped += 1;
    }
    Ok(stopped)
}

fn try_it(lab: &Lab, host: &str, port: &RawPort, attack: &Attack, count: u64) -> Result<()> {
    let Attack { what, reason, frame } = attack;
    let expected = [(*reason, count)];
    expect_drops(lab, host, &expected, || repeat(port, frame, count)).with_context(|| (*what).to_owned())?;
    println!("  {what:<58} {} x {count}", reason.name());
    Ok(())
}

fn from_node(lab: &Lab, attacker: &Node, near: &Node, far: &Node) -> Result<Vec<Attack>> {
    let own = Macs::between(attacker, far)?;
    let stranger = lab.node("globex-1")?;
    let gateway = MacAddr::dummy(attacker.vnet_id()?, GATEWAY);
    let secret = b"an attack";
    let datagram = |macs, from: Ipv4Addr, to: Ipv4Addr| udp4(macs, from, to, secret);
    let attack = |what, reason, frame: Result<Vec<u8>>| Ok(Attack { what, reason, frame: frame? });
    let others = arp_as(own.source, near.ipv4, (attacker, far))?;
    let announced = arp_as(own.source, attacker.ipv4, (attacker, attacker))?;
    let mut odd = tcp4(own, attacker.ipv4, far.ipv4, b"")?;
    if let Some(version) = odd.get_mut(14) {
        // There is no IP version 5.
        *version = 0x55;
    }
    [
        attack(
            "a node sends from its neighbour's MAC",
            DropReason::SrcMacSpoofed,
            datagram(Macs { source: near.mac()?, ..own }, attacker.ipv4, far.ipv4),
        ),
        attack(
            "from its neighbour's MAC and address",
            DropReason::SrcMacSpoofed,
            datagram(Macs { source: near.mac()?, ..own }, near.ipv4, far.ipv4),
        ),
        attack("in its gateway's name", DropReason::SrcIpv4Spoofed, datagram(own, GATEWAY, far.ipv4)),
        attack(
            "to a node of another network, by that one's dummy MAC",
            DropReason::UnknownDstMac,
            datagram(Macs { destination: stranger.dummy_mac()?, ..own }, attacker.ipv4, stranger.ipv4),
        ),
        attack(
            "by its gateway to an address outside its network",
            DropReason::NoMapping,
            datagram(Macs { destination: gateway, ..own }, attacker.ipv4, Ipv4Addr::new(198, 51, 100, 1)),
        ),
        attack("claims its neighbour's address by ARP", DropReason::ArpSpoofed, Ok(others)),
        attack("announces itself by gratuitous ARP", DropReason::ArpAbsorbed, Ok(announced)),
        attack("an IPv4 header of no version", DropReason::Ipv4Malformed, Ok(odd)),
    ]
    .into_iter()
    .collect()
}

fn arp_as(mac: MacAddr, sender: Ipv4Addr, (from, target): (&Node, &Node)) -> Result<Vec<u8>> {
    use etherparse::ArpOperation;
    arp(
        Macs { source: from.mac()?, destination: MacAddr::BROADCAST },
        ArpOperation::REQUEST,
        (mac, sender),
        (MacAddr::ZERO, target.ipv4),
    )
}

fn from_substrate(lab: &Lab, macs: Macs, target: &Node, friend: &Node) -> Result<Vec<Attack>> {
    let plan = lab.plan();
    let (home, there) =
        (plan.host(&target.host)?.prefix()?.to_string(), plan.host(&friend.host)?.prefix()?.to_string());
    let to = plan.substrate_address(target)?;
    let from = |prefix: &str, slot, vnet, ipv4| forge(prefix, slot, vnet, ipv4);
    let attack = |what, reason, source: Ipv6Addr, to: Ipv6Addr| {
        Ok(Attack { what, reason, frame: udp6(macs, source, to, b"forged")? })
    };
    let (slot, vnet, ipv4) = (friend.slot, friend.vnet, friend.ipv4);
    [
        attack(
            "on the substrate: as a node, in the wrong slot",
            DropReason::SrcSlotMismatch,
            from(&there, slot ^ 1, vnet, ipv4)?,
            to,
        ),
        attack(
            "as a node that nobody has provisioned",
            DropReason::SrcUnknownNode,
            from(&there, slot, vnet, Ipv4Addr::new(10, 0, 0, 200))?,
            to,
        ),
        attack(
            "as a node of a network that does not exist",
            DropReason::SrcUnknownVnet,
            from(&there, slot, 0x00_dead, ipv4)?,
            to,
        ),
        attack(
            "from the receiving host's own prefix",
            DropReason::SrcOwnPrefix,
            from(&home, slot, vnet, ipv4)?,
            to,
        ),
        attack("from a link-local address", DropReason::SrcAddressInvalid, "fe80::bad".parse()?, to),
        attack(
            "to an address in the slot of another interface",
            DropReason::SlotMismatch,
            plan.substrate_address(friend)?,
            from(&home, target.slot ^ 1, target.vnet, target.ipv4)?,
        ),
    ]
    .into_iter()
    .collect()
}
