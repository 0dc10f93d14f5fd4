//! ARP as attackers use it: announcing what is not theirs, poisoning caches, looking around.

use super::frames::{Four, macs};
use super::instrument::{Counter, Entrance, LAN_STATION, SECRET, in_lab};
use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use etherparse::ArpOperation;
use overlane_cli::lab::attack::{HOST_IPV4, substrate_port};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::{Macs, arp};
use overlane_cli::lab::netns::run;
use overlane_cli::lab::plan::{GATEWAY, NODE_DEVICE, Node};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;
use std::net::Ipv4Addr;

pub(crate) const CASES: &[Case] = &[
    Case::Alone("attacks::arp::a_gratuitous_arp_of_ones_own_goes_no_further", || in_lab(gratuitous)),
    Case::Alone("attacks::arp::a_gratuitous_arp_in_anothers_name_is_refused", || in_lab(anothers_name)),
    Case::Alone("attacks::arp::answers_that_nobody_asked_for_poison_no_cache", || in_lab(poison)),
    Case::Alone("attacks::arp::arp_from_a_foreign_mac_is_refused", || in_lab(foreign_mac)),
    Case::Alone("attacks::arp::a_probe_for_ones_own_address_is_not_answered", || in_lab(own_probe)),
    Case::Alone("attacks::arp::addresses_that_do_not_exist_are_not_answered_for", || in_lab(scan)),
    Case::Alone("attacks::arp::rarp_is_absorbed", || in_lab(rarp)),
    Case::Alone("attacks::arp::arp_for_other_hardware_and_protocols_is_refused", || in_lab(malformed)),
    Case::Alone("attacks::arp::arp_on_the_substrate_finds_no_virtual_address", || in_lab(on_the_substrate)),
];

const REQUEST: ArpOperation = ArpOperation::REQUEST;
const REPLY: ArpOperation = ArpOperation::REPLY;

/// ARP or RARP.
fn is_arp(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([8, 6] | [0x80, 0x35]))
}

/// Requires that each frame of `from` is refused, and that no ARP comes in anywhere from a hardware address in it, nor any
/// answer.
fn refused(lab: &Lab, from: &Node, reason: DropReason, frames: &[Vec<u8>]) -> Result<()> {
    // Kernels ask as well, for the nodes that they talk to, and are answered with dummy MACs: these are known by what
    // they are about.
    let spoken: Vec<&[u8]> = frames.iter().filter_map(|frame| frame.get(22..42)).collect();
    let asked: Vec<&[u8]> = frames.iter().filter_map(|frame| frame.get(38..42)).collect();
    let attacker = from.mac()?;
    let theirs = |frame: &[u8]| {
        let says = |spoken: &[u8]| frame.get(22..42) == Some(spoken);
        // An answer: for the attacker, from what it has asked for.
        let to_attacker = frame.get(..6) == Some(&attacker.0) && frame.get(20..22) == Some(&[0, 2]);
        let answers = to_attacker && frame.get(28..32).is_some_and(|sender| asked.contains(&sender));
        is_arp(frame) && (spoken.iter().any(|spoken| says(spoken)) || answers)
    };
    Entrance::of(lab, from)?.is_refused(lab, &Counter::of_node(from, reason), frames, theirs)
}

/// What a node's kernel knows of its neighbours, by IPv4 address.
fn cache(lab: &Lab, node: &Node) -> Result<String> {
    run(lab.namespace(&node.id).command("ip").args(["-4", "neigh", "show", "dev", NODE_DEVICE]))
}

/// Requires that whatever the nodes' kernels know of others is their dummy MACs.
fn caches_are_clean(lab: &Lab) -> Result<()> {
    for node in lab.plan().nodes {
        for line in cache(lab, &node)?.lines() {
            let mut words = line.split_whitespace();
            let address: Ipv4Addr = words.next().context("an empty line")?.parse()?;
            let Some(known) = words.skip_while(|word| *word != "lladdr").nth(1) else { continue };
            let dummy = MacAddr::dummy(node.vnet_id()?, address);
            ensure!(known == dummy.to_string(), "{} believes {line}", node.id);
        }
    }
    Ok(())
}

fn to_all(from: &Node) -> Result<Macs> {
    Ok(macs(from.mac()?, MacAddr::BROADCAST))
}

fn gratuitous(lab: &Lab) -> Result<()> {
    let attacker = lab.node("acme-1")?;
    let (own, to_all) = ((attacker.mac()?, attacker.ipv4), to_all(&attacker)?);
    let frames = [
        arp(to_all, REQUEST, own, (MacAddr::ZERO, attacker.ipv4))?,
        arp(to_all, REQUEST, own, (MacAddr::BROADCAST, attacker.ipv4))?,
        arp(to_all, REPLY, own, own)?,
        arp(to_all, REPLY, own, (MacAddr::BROADCAST, attacker.ipv4))?,
    ];
    refused(lab, &attacker, DropReason::ArpAbsorbed, &frames)?;
    caches_are_clean(lab)
}

fn anothers_name(lab: &Lab) -> Result<()> {
    let (attacker, to_all) = (lab.node("acme-1")?, to_all(&lab.node("acme-1")?)?);
    let mut frames = Vec::new();
    // A neighbour here and there, the gateway, somebody who is not there, somebody outside.
    for pretended in [lab.node("acme-2")?.ipv4, lab.node("acme-3")?.ipv4, GATEWAY, nobody(), HOST_IPV4] {
        let sender = (attacker.mac()?, pretended);
        frames.push(arp(to_all, REQUEST, sender, (MacAddr::ZERO, pretended))?);
        frames.push(arp(to_all, REPLY, sender, (MacAddr::BROADCAST, pretended))?);
        frames.push(arp(to_all, REQUEST, sender, (MacAddr::ZERO, attacker.ipv4))?);
    }
    refused(lab, &attacker, DropReason::ArpSpoofed, &frames)?;
    caches_are_clean(lab)
}

fn nobody() -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 77)
}

fn poison(lab: &Lab) -> Result<()> {
    let (attacker, victims) = (lab.node("acme-1")?, [lab.node("acme-2")?, lab.node("acme-3")?]);
    let (mut foreign, mut own) = (Vec::new(), Vec::new());
    for victim in &victims {
        for destination in [victim.mac()?, victim.dummy_mac()?, MacAddr::BROADCAST] {
            let macs = macs(attacker.mac()?, destination);
            let target = (victim.mac()?, victim.ipv4);
            for pretended in [GATEWAY, lab.node("acme-2")?.ipv4, lab.node("acme-3")?.ipv4] {
                foreign.push(arp(macs, REPLY, (attacker.mac()?, pretended), target)?);
                // A request tells its sender's address as well.
                foreign.push(arp(macs, REQUEST, (attacker.mac()?, pretended), target)?);
            }
            own.push(arp(macs, REPLY, (attacker.mac()?, attacker.ipv4), target)?);
        }
    }
    refused(lab, &attacker, DropReason::ArpSpoofed, &foreign)?;
    refused(lab, &attacker, DropReason::ArpAbsorbed, &own)?;
    caches_are_clean(lab)
}

fn foreign_mac(lab: &Lab) -> Result<()> {
    let (attacker, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let target = (MacAddr::ZERO, far.ipv4);
    let (mut in_frame, mut in_packet) = (Vec::new(), Vec::new());
    for pretended in [near.mac()?, near.dummy_mac()?, lab.node("globex-1")?.mac()?, MacAddr::BROADCAST] {
        let from_pretended = macs(pretended, MacAddr::BROADCAST);
        in_frame.push(arp(from_pretended, REQUEST, (pretended, near.ipv4), target)?);
        in_frame.push(arp(from_pretended, REQUEST, (attacker.mac()?, attacker.ipv4), target)?);
        in_packet.push(arp(to_all(&attacker)?, REQUEST, (pretended, attacker.ipv4), target)?);
        in_packet.push(arp(to_all(&attacker)?, REPLY, (pretended, near.ipv4), (far.mac()?, far.ipv4))?);
    }
    refused(lab, &attacker, DropReason::SrcMacSpoofed, &in_frame)?;
    refused(lab, &attacker, DropReason::ArpSpoofed, &in_packet)?;
    caches_are_clean(lab)
}

fn own_probe(lab: &Lab) -> Result<()> {
    let attacker = lab.node("acme-1")?;
    let probe = arp(
        to_all(&attacker)?,
        REQUEST,
        (attacker.mac()?, Ipv4Addr::UNSPECIFIED),
        (MacAddr::ZERO, attacker.ipv4),
    )?;
    refused(lab, &attacker, DropReason::ArpProbeOwn, &[probe])
}

fn scan(lab: &Lab) -> Result<()> {
    let attacker = lab.node("acme-1")?;
    let free = (10..40).map(|last| Ipv4Addr::new(10, 0, 0, last));
    let outside = [
        HOST_IPV4,
        LAN_STATION,
        Ipv4Addr::new(198, 51, 100, 1),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(10, 0, 0, 0),
        Ipv4Addr::new(10, 0, 0, 255),
    ];
    let mut frames = Vec::new();
    for target in free.chain(outside) {
        for sender in [attacker.ipv4, Ipv4Addr::UNSPECIFIED] {
            let sender = (attacker.mac()?, sender);
            frames.push(arp(to_all(&attacker)?, REQUEST, sender, (MacAddr::ZERO, target))?);
        }
    }
    refused(lab, &attacker, DropReason::ArpTargetUnknown, &frames)
}

fn rarp(lab: &Lab) -> Result<()> {
    let (attacker, near) = (lab.node("acme-1")?, lab.node("acme-2")?);
    let mut frames = Vec::new();
    for (operation, mac) in [(3, attacker.mac()?), (3, near.mac()?), (4, near.mac()?)] {
        let mut frame = arp(
            to_all(&attacker)?,
            ArpOperation(operation),
            (attacker.mac()?, attacker.ipv4),
            (mac, near.ipv4),
        )?;
        frame.get_mut(12..14).context("no header")?.copy_from_slice(&[0x80, 0x35]);
        frames.push(frame);
    }
    refused(lab, &attacker, DropReason::ArpAbsorbed, &frames)
}

fn malformed(lab: &Lab) -> Result<()> {
    let (attacker, far) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let request =
        arp(to_all(&attacker)?, REQUEST, (attacker.mac()?, attacker.ipv4), (MacAddr::ZERO, far.ipv4))?;
    let mut frames = Vec::new();
    // Hardware type, protocol type, both lengths; operations of RARP, InARP and nobody.
    for (offset, value) in
        [(15, 6), (16, 0x86), (18, 8), (19, 16), (21, 0), (21, 3), (21, 8), (21, 9), (21, 99)]
    {
        let mut frame = request.clone();
        *frame.get_mut(offset).context("the frame is shorter")? = value;
        frames.push(frame);
    }
    refused(lab, &attacker, DropReason::ArpMalformed, &frames)
}

fn on_the_substrate(lab: &Lab) -> Result<()> {
    let target = lab.node("acme-1")?;
    let (entrance, link) = Entrance::substrate(lab, &target.host)?;
    let (_, Macs { source: router, .. }) = substrate_port(lab, &target.host)?;
    let mut frames = Vec::new();
    for destination in [link.destination, MacAddr::BROADCAST] {
        let macs = macs(router, destination);
        for address in [target.ipv4, GATEWAY, nobody()] {
            let sender = (router, lab.node("acme-3")?.ipv4);
            frames.push(arp(macs, REQUEST, sender, (MacAddr::ZERO, address))?);
            frames.push(arp(macs, REPLY, (router, address), (link.destination, address))?);
        }
        // And IPv4 as it is.
        frames.push(Four::secret(macs, lab.node("acme-3")?.ipv4, target.ipv4)?.frame()?);
    }
    let counter = Counter::of_uplink(&target.host, DropReason::EthertypeUnsupported);
    let theirs = |frame: &[u8]| {
        let to_router = frame.get(..6) == Some(&router.0);
        let in_node = frame.get(22..28) == Some(&router.0);
        is_arp(frame) && (to_router || in_node) || overlane_cli::lab::checks::contains(frame, SECRET)
    };
    entrance.is_refused(lab, &counter, &frames, theirs)?;
    caches_are_clean(lab)
}
