//! A node that says it is somebody else, or sends what no node is to send.

use super::frames::{Four, ICMP, Six, ethernet, icmp4, icmp6, macs};
use super::instrument::{Counter, Entrance, SECRET, in_lab, tells_secret};
use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::Macs;
use overlane_cli::lab::plan::{GATEWAY, Node};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::group;
use overlane_dataplane::mac::MacAddr;
use std::net::Ipv4Addr;

pub(crate) const CASES: &[Case] = &[
    Case::Alone("attacks::from_nodes::another_nodes_mac_as_source_is_refused", || in_lab(anothers_mac)),
    Case::Alone("attacks::from_nodes::another_nodes_ipv4_as_source_is_refused", || in_lab(anothers_ipv4)),
    Case::Alone("attacks::from_nodes::mac_and_ipv4_of_another_node_together_are_refused", || in_lab(both)),
    Case::Alone("attacks::from_nodes::a_node_of_another_vnet_cannot_be_impersonated", || {
        in_lab(another_vnet)
    }),
    Case::Alone("attacks::from_nodes::the_gateway_cannot_be_impersonated", || in_lab(gateway)),
    Case::Alone("attacks::from_nodes::addresses_that_no_node_can_have_are_refused_as_sources", || {
        in_lab(no_nodes_ipv4)
    }),
    Case::Alone("attacks::from_nodes::dummy_macs_of_another_vnet_lead_nowhere", || in_lab(foreign_next_hop)),
    Case::Alone("attacks::from_nodes::a_neighbour_does_not_route", || in_lab(neighbour_as_router)),
    Case::Alone("attacks::from_nodes::the_gateway_routes_to_nothing_outside_the_vnet", || {
        in_lab(out_of_the_vnet)
    }),
    Case::Alone("attacks::from_nodes::a_unicast_packet_to_a_group_mac_is_delivered_to_nobody", || {
        in_lab(group_macs)
    }),
    Case::Alone("attacks::from_nodes::a_directed_broadcast_reaches_nobody", || in_lab(directed_broadcast)),
    Case::Alone("attacks::from_nodes::native_ipv6_does_not_get_onto_the_substrate", || in_lab(native_ipv6)),
    Case::Alone("attacks::from_nodes::tagged_and_foreign_frames_are_refused", || in_lab(foreign_frames)),
    Case::Alone("attacks::from_nodes::an_icmp_error_about_what_its_receiver_never_sent_is_refused", || {
        in_lab(foreign_quote)
    }),
    Case::Alone("attacks::from_nodes::a_nodes_word_on_a_paths_mtu_changes_no_engine", || in_lab(path_mtu)),
];

fn refused(lab: &Lab, from: &Node, reason: DropReason, frames: &[Vec<u8>]) -> Result<()> {
    let counter = Counter::of_node(from, reason);
    Entrance::of(lab, from)?.is_refused(lab, &counter, frames, tells_secret)
}

/// A datagram with the secret from `source` to each of the targets.
fn secrets(source: (MacAddr, Ipv4Addr), targets: &[&Node]) -> Result<Vec<Vec<u8>>> {
    let secret =
        |target: &&Node| Four::secret(macs(source.0, target.dummy_mac()?), source.1, target.ipv4)?.frame();
    targets.iter().map(secret).collect()
}

fn anothers_mac(lab: &Lab) -> Result<()> {
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let vnet = attacker.vnet_id()?;
    let mut frames = Vec::new();
    for mac in [
        near.mac()?,
        far.mac()?,
        lab.node("globex-1")?.mac()?,
        near.dummy_mac()?,
        // Its own, as others see it.
        attacker.dummy_mac()?,
        MacAddr::dummy(vnet, GATEWAY),
        MacAddr::BROADCAST,
        MacAddr::ZERO,
    ] {
        frames.extend(secrets((mac, attacker.ipv4), &[&near, &far])?);
    }
    refused(lab, &attacker, DropReason::SrcMacSpoofed, &frames)
}

fn anothers_ipv4(lab: &Lab) -> Result<()> {
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let mut frames = secrets((attacker.mac()?, near.ipv4), &[&far, &near])?;
    frames.extend(secrets((attacker.mac()?, far.ipv4), &[&near, &far])?);
    refused(lab, &attacker, DropReason::SrcIpv4Spoofed, &frames)
}

fn both(lab: &Lab) -> Result<()> {
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let mut frames = secrets((near.mac()?, near.ipv4), &[&far, &near])?;
    frames.extend(secrets((far.mac()?, far.ipv4), &[&near])?);
    refused(lab, &attacker, DropReason::SrcMacSpoofed, &frames)
}

fn another_vnet(lab: &Lab) -> Result<()> {
    let attacker = lab.node("acme-1")?;
    let (pretended, near, far) = (lab.node("globex-2")?, lab.node("globex-1")?, lab.node("globex-3")?);
    let frames = secrets((pretended.mac()?, pretended.ipv4), &[&near, &far])?;
    refused(lab, &attacker, DropReason::SrcMacSpoofed, &frames)?;
    // Its address alone, which is a neighbour's as well.
    let frames = secrets((attacker.mac()?, pretended.ipv4), &[&near, &far])?;
    refused(lab, &attacker, DropReason::SrcIpv4Spoofed, &frames)
}

fn gateway(lab: &Lab) -> Result<()> {
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let mac = MacAddr::dummy(attacker.vnet_id()?, GATEWAY);
    let frames = secrets((mac, GATEWAY), &[&near, &far])?;
    refused(lab, &attacker, DropReason::SrcMacSpoofed, &frames)?;
    let mut frames = secrets((attacker.mac()?, GATEWAY), &[&near, &far])?;
    // "The path is narrow", "send it to me": in the gateway's name.
    let quote = Four::secret(macs(far.mac()?, near.dummy_mac()?), far.ipv4, near.ipv4)?.frame()?;
    let quote = quote.get(14..).context("no packet")?;
    let me = attacker.ipv4.octets();
    for message in [icmp4(3, 4, [0, 0, 2, 64], quote), icmp4(5, 1, me, quote), icmp4(3, 1, [0; 4], quote)] {
        let macs = macs(attacker.mac()?, far.dummy_mac()?);
        let error = Four { protocol: ICMP, payload: message, ..Four::secret(macs, GATEWAY, far.ipv4)? };
        frames.push(error.frame()?);
    }
    refused(lab, &attacker, DropReason::SrcIpv4Spoofed, &frames)
}

fn no_nodes_ipv4(lab: &Lab) -> Result<()> {
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let mut frames = Vec::new();
    for source in [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(169, 254, 0, 1),
        // The subnet's own address, its broadcast, one that is free, and one that lies elsewhere.
        Ipv4Addr::new(10, 0, 0, 0),
        Ipv4Addr::new(10, 0, 0, 255),
        Ipv4Addr::new(10, 0, 0, 77),
        Ipv4Addr::new(8, 8, 8, 8),
    ] {
        frames.extend(secrets((attacker.mac()?, source), &[&near, &far])?);
    }
    refused(lab, &attacker, DropReason::SrcIpv4Spoofed, &frames)
}

fn foreign_next_hop(lab: &Lab) -> Result<()> {
    let attacker = lab.node("acme-1")?;
    let own = (attacker.mac()?, attacker.ipv4);
    let mut frames = secrets(own, &[&lab.node("globex-2")?, &lab.node("globex-3")?])?;
    // The other network's gateway, and nodes' true hardware addresses.
    let others = lab.node("globex-3")?;
    let next_hops = [MacAddr::dummy(others.vnet_id()?, GATEWAY), others.mac()?, lab.node("acme-2")?.mac()?];
    for next_hop in next_hops {
        frames.push(Four::secret(macs(own.0, next_hop), own.1, others.ipv4)?.frame()?);
    }
    refused(lab, &attacker, DropReason::UnknownDstMac, &frames)
}

fn neighbour_as_router(lab: &Lab) -> Result<()> {
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let mut frames = Vec::new();
    for (next_hop, destination) in [(&near, far.ipv4), (&far, near.ipv4), (&near, Ipv4Addr::new(8, 8, 8, 8))]
    {
        let macs = Macs::between(&attacker, next_hop)?;
        frames.push(Four::secret(macs, attacker.ipv4, destination)?.frame()?);
    }
    refused(lab, &attacker, DropReason::NextHopNotRouter, &frames)
}

fn out_of_the_vnet(lab: &Lab) -> Result<()> {
    let attacker = lab.node("acme-1")?;
    let macs = macs(attacker.mac()?, MacAddr::dummy(attacker.vnet_id()?, GATEWAY));
    let mut frames = Vec::new();
    for destination in [
        overlane_cli::lab::attack::HOST_IPV4,
        super::instrument::LAN_STATION,
        Ipv4Addr::new(198, 51, 100, 1),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        // Where clouds keep credentials.
        Ipv4Addr::new(169, 254, 169, 254),
        Ipv4Addr::new(10, 0, 0, 77),
    ] {
        frames.push(Four::secret(macs, attacker.ipv4, destination)?.frame()?);
    }
    refused(lab, &attacker, DropReason::NoMapping, &frames)
}

fn group_macs(lab: &Lab) -> Result<()> {
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let mut frames = Vec::new();
    for destination in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1]), MacAddr([0x33, 0x33, 0, 0, 0, 1])]
    {
        for target in [near.ipv4, far.ipv4, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
            // What is sent to a group's own MAC is no attack.
            if destination == group::mac(target) && (target.is_broadcast() || target.is_multicast()) {
                continue;
            }
            frames.push(Four::secret(macs(attacker.mac()?, destination), attacker.ipv4, target)?.frame()?);
        }
    }
    // A lease of one's own making, to whoever asks for one.
    let offer = macs(attacker.mac()?, MacAddr::BROADCAST);
    let mut offer = Four::secret(offer, attacker.ipv4, Ipv4Addr::BROADCAST)?;
    let ports = [0, 67, 0, 68];
    offer.payload.get_mut(..4).context("no ports")?.copy_from_slice(&ports);
    refused(lab, &attacker, DropReason::UnknownDstMac, &frames)?;
    refused(lab, &attacker, DropReason::DhcpServerForeign, &[offer.frame()?])
}

fn directed_broadcast(lab: &Lab) -> Result<()> {
    let attacker = lab.node("acme-1")?;
    let vnet = attacker.vnet_id()?;
    let mut frames = Vec::new();
    for destination in [Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(10, 0, 0, 0)] {
        for next_hop in [MacAddr::dummy(vnet, destination), MacAddr::dummy(vnet, GATEWAY)] {
            let macs = macs(attacker.mac()?, next_hop);
            frames.push(Four::secret(macs, attacker.ipv4, destination)?.frame()?);
        }
    }
    refused(lab, &attacker, DropReason::NoMapping, &frames)
}

fn native_ipv6(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let target = plan.substrate_address(&far)?;
    let mut frames = Vec::new();
    for next_hop in [far.dummy_mac()?, MacAddr::dummy(attacker.vnet_id()?, GATEWAY), MacAddr::BROADCAST] {
        for source in [&attacker, &near, &lab.node("globex-1")?] {
            let source = plan.substrate_address(source)?;
            frames.push(Six::secret(macs(attacker.mac()?, next_hop), source, target)?.frame()?);
        }
    }
    // A router advertisement to all nodes.
    let (router, all) = ("fe80::bad".parse()?, "ff02::1".parse()?);
    let words = [64, 0, 0x07, 0x08];
    let payload = icmp6((router, all), 134, 0, words, &[&[0; 8], SECRET.as_bytes()].concat())?;
    let to_all = macs(attacker.mac()?, MacAddr([0x33, 0x33, 0, 0, 0, 1]));
    let advertisement = Six { next_header: 58, hop_limit: 255, payload, ..Six::secret(to_all, router, all)? };
    frames.push(advertisement.frame()?);
    refused(lab, &attacker, DropReason::EthertypeUnsupported, &frames)
}

fn foreign_frames(lab: &Lab) -> Result<()> {
    let (attacker, far) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let to_far = Macs::between(&attacker, &far)?;
    let inner = Four::secret(to_far, attacker.ipv4, far.ipv4)?.frame()?;
    let inner = inner.get(12..).context("no packet")?;
    let tagged = [&[0, 7], inner].concat();
    let twice = [&[0, 7, 0x81, 0, 0, 8], inner].concat();
    let mut frames = Vec::new();
    for macs in [to_far, macs(attacker.mac()?, MacAddr([1, 0x80, 0xc2, 0, 0, 0]))] {
        for (ethertype, body) in [
            // VLAN tags, MPLS, PPPoE, LLDP, the length of an LLC frame, loopback.
            (0x8100, &tagged),
            (0x88a8, &twice),
            (0x8847, &tagged),
            (0x8864, &tagged),
            (0x88cc, &tagged),
            (0x0040, &tagged),
            (0x9000, &tagged),
        ] {
            frames.push(ethernet(macs, ethertype, body));
        }
    }
    refused(lab, &attacker, DropReason::EthertypeUnsupported, &frames)
}

/// An ICMP error of `attacker` for `victim` about a packet that went from `quoted.0` to `quoted.1`.
fn error(
    attacker: &Node,
    victim: &Node,
    quoted: (Ipv4Addr, Ipv4Addr),
    (kind, code, words): (u8, u8, [u8; 4]),
) -> Result<Vec<u8>> {
    let to_victim = Macs::between(attacker, victim)?;
    let quote = Four::secret(to_victim, quoted.0, quoted.1)?.frame()?;
    let payload = icmp4(kind, code, words, quote.get(14..).context("no packet")?);
    Four { protocol: ICMP, payload, ..Four::secret(to_victim, attacker.ipv4, victim.ipv4)? }.frame()
}

const NEEDS_FRAGMENTATION: (u8, u8, [u8; 4]) = (3, 4, [0, 0, 5, 20]);

fn foreign_quote(lab: &Lab) -> Result<()> {
    let (attacker, near, victim) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let mut frames = Vec::new();
    // About packets of others than the receiver.
    for quoted in [(near.ipv4, attacker.ipv4), (attacker.ipv4, victim.ipv4)] {
        for message in [NEEDS_FRAGMENTATION, (3, 3, [0; 4]), (11, 0, [0; 4])] {
            frames.push(error(&attacker, &victim, quoted, message)?);
        }
    }
    // It does not even get onto the substrate.
    refused(lab, &attacker, DropReason::IcmpQuoteForeign, &frames)
}

fn path_mtu(lab: &Lab) -> Result<()> {
    let (attacker, victim) = (lab.node("acme-1")?, lab.node("acme-3")?);
    // About a packet that the victim may well have sent: it hears it, as on any network; its engine does not listen.
    let frame = error(&attacker, &victim, (victim.ipv4, attacker.ipv4), NEEDS_FRAGMENTATION)?;
    let nowhere = |_: &[u8]| false;
    Entrance::of(lab, &attacker)?.comes_to(lab, &[], &[frame], nowhere)?;
    for host in lab.plan().hosts {
        let paths = paths(lab, &host.id)?;
        ensure!(paths == serde_json::json!([]), "the engine of {} believes {paths}", host.id);
    }
    Ok(())
}

/// The paths whose MTUs an engine has learned.
pub(crate) fn paths(lab: &Lab, host: &str) -> Result<serde_json::Value> {
    let answer = engine::ask(lab, host, "GET", "/status", "")?;
    let mut status: serde_json::Value = serde_json::from_str(&answer.body)?;
    status.get_mut("paths").map(serde_json::Value::take).context("the status has no paths")
}
