//! Getting at the hosts' kernels, and through them elsewhere. Those of this lab route, answer ARP for others, and have
//! addresses and a network of their own.

use super::frames::{Four, ICMP, ICMPV6, Six, icmp4, icmp6, macs};
use super::instrument::{Counter, Entrance, LAN_STATION, SECRET, in_lab, kernels, tells_secret};
use crate::fixture::Case;
use anyhow::{Result, ensure};
use etherparse::ArpOperation;
use overlane_cli::lab::attack::HOST_IPV4;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::{RawPort, arp};
use overlane_cli::lab::netns::run;
use overlane_cli::lab::plan::{GATEWAY, Node, UPLINK};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::group;
use overlane_dataplane::mac::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const CASES: &[Case] = &[
    Case::Alone("attacks::host_kernel::arp_does_not_reach_it", || in_lab(by_arp)),
    Case::Alone("attacks::host_kernel::a_ping_to_its_hardware_address_does_not_reach_it", || in_lab(by_ping)),
    Case::Alone("attacks::host_kernel::a_broadcast_does_not_reach_it", || in_lab(by_broadcast)),
    Case::Alone("attacks::host_kernel::the_gateway_does_not_lead_to_it", || in_lab(by_gateway)),
    Case::Alone("attacks::host_kernel::ipv6_does_not_reach_it", || in_lab(by_ipv6)),
    Case::Alone("attacks::host_kernel::it_routes_nothing_for_a_node", || in_lab(through_it)),
    Case::Alone("attacks::host_kernel::it_answers_for_no_address_of_its_engines_prefix", || {
        in_lab(from_the_substrate)
    }),
];

/// Those who attack the kernels of their hosts.
const ATTACKERS: [&str; 3] = ["acme-1", "globex-2", "globex-3"];

/// Requires that what each attacker sends is refused, and that the hosts' kernels have seen none of it.
fn unseen(lab: &Lab, reason: DropReason, frames: fn(&Lab, &Node) -> Result<Vec<Vec<u8>>>) -> Result<()> {
    let before = kernels(lab)?;
    for attacker in ATTACKERS {
        let attacker = lab.node(attacker)?;
        let counter = Counter::of_node(&attacker, reason);
        // An answer of the kernel would come from its side of the attacker's link.
        let kernel = hardware_address(lab, &attacker)?;
        let theirs = |frame: &[u8]| tells_secret(frame) || frame.get(6..12) == Some(&kernel.0);
        Entrance::of(lab, &attacker)?.is_refused(lab, &counter, &frames(lab, &attacker)?, theirs)?;
        let host = lab.namespace(&attacker.host);
        let learned = run(host.command("ip").args(["neigh", "show", "dev", &attacker.device]))?;
        ensure!(learned.is_empty(), "the kernel of {host} has learned {learned}");
    }
    let after = kernels(lab)?;
    ensure!(before == after, "the hosts' kernels saw some: before {before:?}, afterwards {after:?}");
    Ok(())
}

/// The hardware address of the host's side of a node's link.
fn hardware_address(lab: &Lab, node: &Node) -> Result<MacAddr> {
    Ok(RawPort::open(&lab.namespace(&node.host), &node.device)?.mac())
}

/// An echo request with the secret.
fn ping(from: (MacAddr, Ipv4Addr), next_hop: MacAddr, to: Ipv4Addr) -> Result<Vec<u8>> {
    let payload = icmp4(8, 0, [0, 7, 0, 1], SECRET.as_bytes());
    Four { protocol: ICMP, payload, ..Four::secret(macs(from.0, next_hop), from.1, to)? }.frame()
}

/// Addresses of the kernels' own, on whichever device.
const KERNELS: [Ipv4Addr; 3] = [HOST_IPV4, Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::LOCALHOST];

fn by_arp(lab: &Lab) -> Result<()> {
    unseen(lab, DropReason::ArpTargetUnknown, |lab, attacker| {
        let mut frames = Vec::new();
        for destination in [MacAddr::BROADCAST, hardware_address(lab, attacker)?] {
            let macs = macs(attacker.mac()?, destination);
            // For a kernel that answers for others too.
            for target in KERNELS.into_iter().chain([LAN_STATION]) {
                let sender = (attacker.mac()?, attacker.ipv4);
                frames.push(arp(macs, ArpOperation::REQUEST, sender, (MacAddr::ZERO, target))?);
            }
        }
        Ok(frames)
    })
}

fn by_ping(lab: &Lab) -> Result<()> {
    unseen(lab, DropReason::UnknownDstMac, |lab, attacker| {
        let (own, kernel) = ((attacker.mac()?, attacker.ipv4), hardware_address(lab, attacker)?);
        let uplink = RawPort::open(&lab.namespace(&attacker.host), UPLINK)?.mac();
        let mut frames = Vec::new();
        for to in KERNELS {
            for next_hop in [kernel, uplink] {
                frames.push(ping(own, next_hop, to)?);
                frames.push(Four::secret(macs(own.0, next_hop), own.1, to)?.frame()?);
            }
        }
        Ok(frames)
    })
}

fn by_broadcast(lab: &Lab) -> Result<()> {
    unseen(lab, DropReason::UnknownDstMac, |_, attacker| {
        let own = (attacker.mac()?, attacker.ipv4);
        let mut frames = Vec::new();
        for to in KERNELS.into_iter().chain([Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)]) {
            // What is sent to a group's own MAC is for the vnet's nodes.
            let macs = [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1])];
            let is_group = to.is_broadcast() || to.is_multicast();
            for mac in macs.into_iter().filter(|mac| !is_group || *mac != group::mac(to)) {
                frames.push(ping(own, mac, to)?);
            }
        }
        Ok(frames)
    })
}

fn by_gateway(lab: &Lab) -> Result<()> {
    unseen(lab, DropReason::NoMapping, |_, attacker| {
        let (own, vnet) = ((attacker.mac()?, attacker.ipv4), attacker.vnet_id()?);
        let mut frames = Vec::new();
        for to in KERNELS.into_iter().chain([LAN_STATION]) {
            frames.push(ping(own, MacAddr::dummy(vnet, GATEWAY), to)?);
            // As if the kernel were a node of the vnet.
            frames.push(ping(own, MacAddr::dummy(vnet, to), to)?);
        }
        Ok(frames)
    })
}

/// Addresses of the kernel of a node's host: on its uplink, and where the device's own would be.
fn kernel6(lab: &Lab, node: &Node) -> Result<[Ipv6Addr; 3]> {
    let [first, second, third, fourth, fifth, sixth] = hardware_address(lab, node)?.0;
    // The link-local address of that hardware address (RFC 4291, appendix A).
    let identifier = u64::from_be_bytes([first ^ 2, second, third, 0xff, 0xfe, fourth, fifth, sixth]);
    let link_local = Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(identifier));
    Ok([lab.plan().host(&node.host)?.kernel(), link_local, "ff02::1".parse()?])
}

fn by_ipv6(lab: &Lab) -> Result<()> {
    unseen(lab, DropReason::EthertypeUnsupported, |lab, attacker| {
        let own: Ipv6Addr = "fe80::bad".parse()?;
        let mut frames = Vec::new();
        for to in kernel6(lab, attacker)? {
            for next_hop in [hardware_address(lab, attacker)?, MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
                let macs = macs(attacker.mac()?, next_hop);
                let payload = icmp6((own, to), 128, 0, [0, 7, 0, 1], SECRET.as_bytes())?;
                let ping = Six { next_header: ICMPV6, payload, ..Six::secret(macs, own, to)? };
                frames.push(ping.frame()?);
                // Who is there?
                let body = [&to.octets()[..], &[1, 1], &attacker.mac()?.0].concat();
                let payload = icmp6((own, to), 135, 0, [0; 4], &body)?;
                frames.push(Six { payload, hop_limit: 255, ..ping }.frame()?);
            }
        }
        Ok(frames)
    })
}

fn through_it(lab: &Lab) -> Result<()> {
    // To its own network, to another node's link, to the other host's kernel.
    unseen(lab, DropReason::UnknownDstMac, |lab, attacker| {
        let own = (attacker.mac()?, attacker.ipv4);
        let kernel = hardware_address(lab, attacker)?;
        let mut frames = Vec::new();
        for to in [LAN_STATION, Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3), GATEWAY] {
            frames.push(ping(own, kernel, to)?);
            frames.push(Four::secret(macs(own.0, kernel), own.1, to)?.frame()?);
        }
        Ok(frames)
    })
}

fn from_the_substrate(lab: &Lab) -> Result<()> {
    let before = kernels(lab)?;
    for target in ["acme-1", "globex-3"] {
        let target = lab.node(target)?;
        let plan = lab.plan();
        let (entrance, link) = Entrance::substrate(lab, &target.host)?;
        let own = plan.host(&target.host)?.router();
        let prefix = plan.host(&target.host)?.prefix()?.network().to_bits();
        let mut frames = Vec::new();
        // No node's, as they have no vnet. A kernel that sees them sends them back to the router.
        for low in [1, 2, 0xe, 0xff_ffff] {
            let to = Ipv6Addr::from_bits(prefix | low);
            let payload = icmp6((own, to), 128, 0, [0, 7, 0, 1], SECRET.as_bytes())?;
            frames.push(Six { next_header: ICMPV6, payload, ..Six::secret(link, own, to)? }.frame()?);
            frames.push(Six::secret(link, own, to)?.frame()?);
        }
        let counter = Counter::of_uplink(&target.host, DropReason::DstAddressInvalid);
        entrance.is_refused(lab, &counter, &frames, tells_secret)?;
    }
    let after = kernels(lab)?;
    ensure!(before == after, "the hosts' kernels saw some: before {before:?}, afterwards {after:?}");
    Ok(())
}
