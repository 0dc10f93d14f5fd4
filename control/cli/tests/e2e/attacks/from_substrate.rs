//! Whoever can write frames on the link to a host: forged senders, receivers, routers and neighbours.

use super::frames::{DESTINATION_OPTIONS, FRAGMENT, ICMPV6, Six, fragment6, icmp6, macs};
use super::from_nodes::paths;
use super::instrument::{Counter, Entrance, SECRET, in_lab, tells_secret};
use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use overlane_cli::lab::attack::forge;
use overlane_cli::lab::checks::{contains, say};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::{Macs, RawPort};
use overlane_cli::lab::plan::Node;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Alone("attacks::from_substrate::right_vnet_and_wrong_prefix_is_refused", || in_lab(wrong_prefix)),
    Case::Alone("attacks::from_substrate::right_prefix_and_wrong_slot_is_refused", || in_lab(wrong_slot)),
    Case::Alone("attacks::from_substrate::an_unknown_vnet_is_refused", || in_lab(unknown_vnet)),
    Case::Alone("attacks::from_substrate::a_sender_that_does_not_exist_is_refused", || {
        in_lab(unknown_sender)
    }),
    Case::Alone("attacks::from_substrate::the_hosts_own_prefix_as_source_is_refused", || in_lab(own_prefix)),
    Case::Alone("attacks::from_substrate::sources_that_are_no_hosts_are_refused", || in_lab(no_host)),
    Case::Alone("attacks::from_substrate::flags_set_in_the_source_are_refused", || in_lab(source_flags)),
    Case::Alone("attacks::from_substrate::flags_set_in_the_destination_are_refused", || {
        in_lab(destination_flags)
    }),
    Case::Alone("attacks::from_substrate::the_slot_of_another_interface_is_refused", || in_lab(other_slot)),
    Case::Alone("attacks::from_substrate::a_receiver_that_does_not_exist_is_refused", || {
        in_lab(unknown_receiver)
    }),
    Case::Alone("attacks::from_substrate::a_true_sender_of_another_vnet_is_refused", || in_lab(across_vnets)),
    Case::Alone("attacks::from_substrate::a_host_forwards_nothing_to_another", || in_lab(not_our_prefix)),
    Case::Alone("attacks::from_substrate::frames_for_other_stations_are_refused", || in_lab(other_stations)),
    Case::Alone("attacks::from_substrate::a_node_has_no_answer_for_a_router", || in_lab(router_itself)),
    Case::Alone("attacks::from_substrate::a_packet_too_big_about_what_was_never_sent_is_refused", || {
        in_lab(foreign_too_big)
    }),
    Case::Alone("attacks::from_substrate::a_packet_too_big_without_a_packet_is_refused", || {
        in_lab(empty_too_big)
    }),
    Case::Alone("attacks::from_substrate::a_packet_too_big_from_the_hosts_own_prefix_is_refused", || {
        in_lab(own_too_big)
    }),
    Case::Alone("attacks::from_substrate::routed_neighbour_discovery_for_a_node_is_refused", || {
        in_lab(routed_discovery)
    }),
    Case::Alone("attacks::from_substrate::routed_neighbour_discovery_for_the_engine_is_refused", || {
        in_lab(routed_discovery_for_engine)
    }),
    Case::Alone("attacks::from_substrate::forged_neighbour_discovery_changes_no_next_hop", || {
        in_lab(forged_discovery)
    }),
];

/// Whom the attacks are aimed at, and a node on the other host that may talk to it.
struct Scene {
    target: Node,
    friend: Node,
    /// Their substrate addresses.
    to: Ipv6Addr,
    from: Ipv6Addr,
    entrance: Entrance,
    link: Macs,
}

impl Scene {
    fn of(lab: &Lab, target: &str, friend: &str) -> Result<Self> {
        let (target, friend) = (lab.node(target)?, lab.node(friend)?);
        let (to, from) = (lab.plan().substrate_address(&target)?, lab.plan().substrate_address(&friend)?);
        let (entrance, link) = Entrance::substrate(lab, &target.host)?;
        Ok(Self { target, friend, to, from, entrance, link })
    }

    /// The prefix that the target lives behind, or that its friend does, as text.
    fn prefix(lab: &Lab, node: &Node) -> Result<String> {
        Ok(lab.plan().host(&node.host)?.prefix()?.to_string())
    }

    fn secret(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Result<Vec<u8>> {
        Six::secret(self.link, source, destination)?.frame()
    }

    /// Requires that frames with the secret are refused in the target's vnet.
    fn refused(&self, lab: &Lab, reason: DropReason, frames: &[Vec<u8>]) -> Result<()> {
        let counter = Counter::of_vnet(&self.target.host, self.target.vnet, reason);
        self.entrance.is_refused(lab, &counter, frames, tells_secret)
    }

    /// The same, counted at the uplink.
    fn refused_at_uplink(&self, lab: &Lab, reason: DropReason, frames: &[Vec<u8>]) -> Result<()> {
        let counter = Counter::of_uplink(&self.target.host, reason);
        self.entrance.is_refused(lab, &counter, frames, tells_secret)
    }

    /// From each of these to the target.
    fn frames_from(&self, sources: impl IntoIterator<Item = Result<Ipv6Addr>>) -> Result<Vec<Vec<u8>>> {
        sources.into_iter().map(|source| self.secret(source?, self.to)).collect()
    }
}

/// Both directions, and both networks.
const SCENES: [(&str, &str); 2] = [("acme-1", "acme-3"), ("globex-3", "globex-2")];

/// Runs an attack in each of [`SCENES`].
fn each(lab: &Lab, attack: impl Fn(&Scene) -> Result<()>) -> Result<()> {
    for (target, friend) in SCENES {
        let scene = Scene::of(lab, target, friend)?;
        attack(&scene).with_context(|| format!("on {target}, in the name of {friend}"))?;
    }
    Ok(())
}

fn wrong_prefix(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let Node { slot, vnet, ipv4, .. } = scene.friend;
        // Of nobody, of the links between routers and hosts and of the service's, next to the true one, and far away.
        let prefixes =
            ["fd00:0:0:c::/64", "fd00:0:1:a::/64", "fd00:0:1:f::/64", "fd00::/64", "2001:db8::/64"];
        let frames = scene.frames_from(prefixes.map(|prefix| forge(prefix, slot, vnet, ipv4)))?;
        scene.refused(lab, DropReason::SrcPrefixMismatch, &frames)
    })
}

fn wrong_slot(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let prefix = Scene::prefix(lab, &scene.friend)?;
        let Node { slot: own, vnet, ipv4, .. } = scene.friend;
        // Free ones, and those of other interfaces there, of either vnet.
        let slots = [0, 1, 2, 3, 4, 33, 63].into_iter().filter(|slot| *slot != own);
        let frames = scene.frames_from(slots.map(|slot| forge(&prefix, slot, vnet, ipv4)))?;
        scene.refused(lab, DropReason::SrcSlotMismatch, &frames)
    })
}

/// A vnet that nobody has provisioned.
const NO_VNET: u32 = 0x12_3456;

fn unknown_vnet(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let Node { slot, ipv4, .. } = scene.friend;
        let (there, here) = (Scene::prefix(lab, &scene.friend)?, Scene::prefix(lab, &scene.target)?);
        let vnets = [1, NO_VNET, 0xff_ffff];
        let frames = scene.frames_from(vnets.map(|vnet| forge(&there, slot, vnet, ipv4)))?;
        scene.refused(lab, DropReason::SrcUnknownVnet, &frames)?;
        // Both in the same vnet, which is none: who is to be in it is not there.
        let to = forge(&here, scene.target.slot, NO_VNET, scene.target.ipv4)?;
        let frames = [scene.secret(forge(&there, slot, NO_VNET, ipv4)?, to)?, scene.secret(scene.from, to)?];
        scene.refused_at_uplink(lab, DropReason::DstUnknownNode, &frames)?;
        // Vnet 0 is no vnet, on either side.
        let without = |address: Ipv6Addr| Ipv6Addr::from_bits(address.to_bits() & !(0xff_ffff << 32));
        scene.refused(lab, DropReason::SrcAddressInvalid, &[scene.secret(without(scene.from), scene.to)?])?;
        let frames = [scene.secret(scene.from, without(scene.to))?];
        scene.refused_at_uplink(lab, DropReason::DstAddressInvalid, &frames)
    })
}

fn unknown_sender(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let prefix = Scene::prefix(lab, &scene.friend)?;
        let Node { slot, vnet, .. } = scene.friend;
        let nobodies =
            [[10, 0, 0, 77], [10, 0, 0, 0], [10, 0, 0, 254], [10, 0, 0, 255], [8, 8, 8, 8], [0; 4]];
        let sources = nobodies.map(|nobody| forge(&prefix, slot, vnet, Ipv4Addr::from(nobody)));
        scene.refused(lab, DropReason::SrcUnknownNode, &scene.frames_from(sources)?)
    })
}

fn own_prefix(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let prefix = Scene::prefix(lab, &scene.target)?;
        let vnet = scene.target.vnet;
        // Neighbours on the target's host, the friend as if it were there, nobody, and the target itself.
        let mut sources = vec![Ok(scene.to), forge(&prefix, scene.friend.slot, vnet, scene.friend.ipv4)];
        for node in lab.plan().nodes.iter().filter(|node| node.host == scene.target.host) {
            sources.push(forge(&prefix, node.slot, vnet, node.ipv4));
        }
        sources.push(forge(&prefix, 33, vnet, Ipv4Addr::new(10, 0, 0, 77)));
        sources.push(forge(&prefix, 1, NO_VNET, Ipv4Addr::new(10, 0, 0, 2)));
        scene.refused(lab, DropReason::SrcOwnPrefix, &scene.frames_from(sources)?)
    })
}

fn no_host(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        // What would be in front of the friend's slot, vnet and address.
        let tail = scene.from.to_bits() & u128::from(u64::MAX);
        let front = |front: u64| Ok(Ipv6Addr::from_bits(u128::from(front) << 64 | tail));
        let sources = [
            // Multicast of every scope, link-local, and none at all.
            front(0xff02 << 48),
            front(0xff05 << 48),
            front(0xff0e << 48),
            front(0xfe80 << 48),
            front(0xfebf << 48 | 1),
            front(0),
            Ok("ff02::1".parse()?),
            Ok("fe80::1".parse()?),
            Ok(Ipv6Addr::UNSPECIFIED),
            Ok(Ipv6Addr::LOCALHOST),
            Ok(scene.friend.ipv4.to_ipv6_mapped()),
            Ok(scene.friend.ipv4.to_ipv6_compatible()),
            // A host of the Internet.
            Ok("2001:db8::1".parse()?),
        ];
        scene.refused(lab, DropReason::SrcAddressInvalid, &scene.frames_from(sources)?)
    })
}

/// With the U/L bit set, the I/G bit, or both.
fn with_flags(address: Ipv6Addr, flags: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() | flags << 56)
}

fn source_flags(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let from = |flags| Ok(with_flags(scene.from, flags));
        // No node here is behind another.
        scene.refused(lab, DropReason::SrcNotRouted, &scene.frames_from([from(0b10)])?)?;
        scene.refused(lab, DropReason::SrcAddressInvalid, &scene.frames_from([from(0b01), from(0b11)])?)
    })
}

fn destination_flags(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let prefix = Scene::prefix(lab, &scene.target)?;
        let mut frames = Vec::new();
        let forged = |slot, ipv4| forge(&prefix, slot, scene.target.vnet, Ipv4Addr::from(ipv4));
        // A group, an address that nobody has or that is behind nobody, the slot of another.
        let slot = scene.target.slot;
        for (slot, ipv4) in
            [(slot, [224, 0, 0, 1]), (33, [255; 4]), (slot, [10, 9, 0, 7]), (4, [10, 0, 0, 2])]
        {
            frames.push(scene.secret(scene.from, with_flags(forged(slot, ipv4)?, 0b10))?);
        }
        scene.refused(lab, DropReason::SlotMismatch, &frames)?;
        // As if a node was a group, and a group in a slot that means nothing.
        let mut frames = vec![scene.secret(scene.from, with_flags(scene.to, 0b01))?];
        for (slot, ipv4) in [(0, [10, 0, 0, 77]), (33, [255; 4]), (2, [239, 1, 2, 3])] {
            frames.push(scene.secret(scene.from, with_flags(forged(slot, ipv4)?, 0b01))?);
        }
        scene.refused(lab, DropReason::DstAddressInvalid, &frames)?;
        // Groups of a link do not leave their host, and this one has no members.
        let frames = [scene.secret(scene.from, with_flags(forged(0, [224, 0, 0, 1])?, 0b01))?];
        scene.refused(lab, DropReason::GroupConfined, &frames)?;
        let frames = [scene.secret(scene.from, with_flags(forged(0, [239, 1, 2, 3])?, 0b01))?];
        scene.refused(lab, DropReason::GroupNoMembers, &frames)?;
        let frames = [scene.secret(scene.from, with_flags(scene.to, 0b11))?];
        scene.refused_at_uplink(lab, DropReason::DstAddressInvalid, &frames)
    })
}

fn other_slot(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let prefix = Scene::prefix(lab, &scene.target)?;
        let Node { slot: own, vnet, ipv4, .. } = scene.target;
        // Those of its neighbours, of the other vnet's interfaces there, and free ones.
        let slots = [0, 1, 2, 3, 4, 33, 63].into_iter().filter(|slot| *slot != own);
        let mut frames = Vec::new();
        for slot in slots {
            frames.push(scene.secret(scene.from, forge(&prefix, slot, vnet, ipv4)?)?);
        }
        scene.refused(lab, DropReason::SlotMismatch, &frames)
    })
}

fn unknown_receiver(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let prefix = Scene::prefix(lab, &scene.target)?;
        let Node { slot, vnet, .. } = scene.target;
        let mut frames = Vec::new();
        // Also the friend, who lives elsewhere.
        let friend = scene.friend.ipv4.octets();
        for nobody in [[10, 0, 0, 77], [10, 0, 0, 254], [10, 0, 0, 255], [8, 8, 8, 8], friend] {
            frames.push(scene.secret(scene.from, forge(&prefix, slot, vnet, Ipv4Addr::from(nobody))?)?);
        }
        scene.refused(lab, DropReason::DstUnknownNode, &frames)
    })
}

fn across_vnets(lab: &Lab) -> Result<()> {
    for (target, stranger) in [("acme-1", "globex-3"), ("globex-3", "acme-2"), ("globex-2", "acme-3")] {
        let scene = Scene::of(lab, target, stranger)?;
        scene.refused(lab, DropReason::VnetMismatch, &scene.frames_from([Ok(scene.from)])?)?;
    }
    Ok(())
}

fn not_our_prefix(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let Node { slot, vnet, ipv4, .. } = scene.target;
        // It is the engine that is tried: a kernel that routes would send them back, as any router does.
        let kernel = lab.namespace(&scene.target.host);
        kernel.sysctl(&[("ipv6/conf/all/forwarding", "0")])?;
        let mut frames = Vec::new();
        for prefix in [Scene::prefix(lab, &scene.friend)?, "fd00:0:0:c::/64".to_owned()] {
            let elsewhere = forge(&prefix, slot, vnet, ipv4)?;
            frames.push(scene.secret(scene.from, elsewhere)?);
            frames.push(scene.secret(scene.to, scene.from)?);
        }
        let refused = scene.refused_at_uplink(lab, DropReason::NotOurPrefix, &frames);
        kernel.sysctl(&[("ipv6/conf/all/forwarding", "1")])?;
        refused
    })
}

fn other_stations(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let mut frames = Vec::new();
        for destination in [
            MacAddr::BROADCAST,
            MacAddr([0x33, 0x33, 0, 0, 0, 1]),
            MacAddr([1, 0, 0x5e, 0, 0, 1]),
            MacAddr::ZERO,
            scene.target.dummy_mac()?,
            scene.target.mac()?,
        ] {
            let link = macs(scene.link.source, destination);
            frames.push(Six::secret(link, scene.from, scene.to)?.frame()?);
        }
        scene.refused_at_uplink(lab, DropReason::NotOurMac, &frames)
    })
}

/// An ICMPv6 message in a packet of its own.
fn message(
    scene: &Scene,
    (source, destination): (Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
    (kind, words): (u8, [u8; 4]),
    body: &[u8],
) -> Result<Vec<u8>> {
    let payload = icmp6((source, destination), kind, 0, words, body)?;
    let packet = Six::secret(scene.link, source, destination)?;
    Six { next_header: ICMPV6, hop_limit, payload, ..packet }.frame()
}

fn router_itself(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let plan = lab.plan();
        let (near, far) = (plan.host(&scene.target.host)?, plan.host(&scene.friend.host)?);
        let mut frames = Vec::new();
        for source in [near.router(), near.kernel(), far.router(), far.kernel(), far.engine()] {
            frames.push(scene.secret(source, scene.to)?);
            let ends = (source, scene.to);
            frames.push(message(scene, ends, 64, (128, [0, 7, 0, 1]), SECRET.as_bytes())?);
        }
        scene.refused(lab, DropReason::SrcAddressInvalid, &frames)
    })
}

/// ICMPv6 types (RFC 4443): Destination Unreachable, Packet Too Big, Time Exceeded, Parameter Problem.
const UNREACHABLE: (u8, [u8; 4]) = (1, [0; 4]);
const TOO_BIG: (u8, [u8; 4]) = (2, [0, 0, 5, 0]);
const TIME_EXCEEDED: (u8, [u8; 4]) = (3, [0; 4]);
const PARAMETER_PROBLEM: (u8, [u8; 4]) = (4, [0, 0, 0, 6]);

/// A packet as an error quotes it.
fn quote(scene: &Scene, source: Ipv6Addr, destination: Ipv6Addr) -> Result<Vec<u8>> {
    Ok(scene.secret(source, destination)?.split_off(14))
}

/// Requires that no engine believes anything of any path.
fn no_path_is_known(lab: &Lab) -> Result<()> {
    for host in lab.plan().hosts {
        let known = paths(lab, &host.id)?;
        ensure!(known == serde_json::json!([]), "the engine of {} believes {known}", host.id);
    }
    Ok(())
}

fn foreign_too_big(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let plan = lab.plan();
        let router = plan.host(&scene.target.host)?.router();
        let (here, there) = (Scene::prefix(lab, &scene.target)?, Scene::prefix(lab, &scene.friend)?);
        let Node { slot, vnet, ipv4, .. } = scene.friend;
        let stranger = if scene.target.entity == "acme" { "globex-3" } else { "acme-1" };
        let stranger = plan.substrate_address(&lab.node(stranger)?)?;
        let quotes = [
            // Sent by another than the receiver: a neighbour in its slot, the friend, a stranger.
            (forge(&here, scene.target.slot, vnet, Ipv4Addr::new(10, 0, 0, 77))?, scene.from),
            (scene.from, scene.to),
            (stranger, scene.from),
            (with_flags(scene.to, 0b10), scene.from),
            // To nobody; to where the friend does not live; to another vnet; to no node at all.
            (scene.to, forge(&there, slot, vnet, Ipv4Addr::new(10, 0, 0, 77))?),
            (scene.to, forge("fd00:0:0:c::/64", slot, vnet, ipv4)?),
            (scene.to, forge(&there, 33, vnet, ipv4)?),
            (scene.to, stranger),
            (scene.to, with_flags(scene.from, 0b10)),
            (scene.to, router),
        ];
        // An engine hears errors only so often: a few at a time.
        for kind in [TOO_BIG, UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM] {
            for quotes in quotes.chunks(4) {
                let mut frames = Vec::new();
                for (source, destination) in quotes {
                    let quote = quote(scene, *source, *destination)?;
                    frames.push(message(scene, (router, scene.to), 64, kind, &quote)?);
                }
                scene.refused(lab, DropReason::IcmpQuoteForeign, &frames)?;
            }
        }
        no_path_is_known(lab)
    })
}

fn empty_too_big(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let router = lab.plan().host(&scene.target.host)?.router();
        let whole = quote(scene, scene.to, scene.from)?;
        let mut other = whole.clone();
        *other.first_mut().context("no packet")? = 0x45;
        let mut frames = Vec::new();
        for quoted in [&[][..], whole.get(..39).context("a short packet")?, &other] {
            frames.push(message(scene, (router, scene.to), 64, TOO_BIG, quoted)?);
        }
        scene.refused(lab, DropReason::IcmpQuoteInvalid, &frames)?;
        no_path_is_known(lab)
    })
}

fn own_too_big(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let prefix = Scene::prefix(lab, &scene.target)?;
        let quoted = quote(scene, scene.to, scene.from)?;
        let mut frames = Vec::new();
        for source in [scene.to, forge(&prefix, 33, scene.target.vnet, scene.friend.ipv4)?] {
            for kind in [TOO_BIG, UNREACHABLE] {
                frames.push(message(scene, (source, scene.to), 64, kind, &quoted)?);
            }
        }
        scene.refused(lab, DropReason::SrcOwnPrefix, &frames)?;
        no_path_is_known(lab)
    })
}

/// Type, the word behind the checksum, and the rest of an ICMPv6 message.
type Message = ((u8, [u8; 4]), Vec<u8>);

/// Neighbour discovery (RFC 4861, 4): solicitations and advertisements of routers and neighbours, and a redirect. The
/// neighbours' are about `about`, and give `mac` away for it.
fn discovery(about: Ipv6Addr, mac: MacAddr) -> Vec<Message> {
    let link = |kind: u8| [&[kind, 1][..], &mac.0].concat();
    let own = |kind| [&about.octets()[..], &link(kind)].concat();
    vec![
        ((133, [0; 4]), link(1)),
        ((134, [64, 0x08, 0x07, 0x08]), [&[0; 8][..], &link(1)].concat()),
        ((135, [0; 4]), own(1)),
        ((136, [0xe0, 0, 0, 0]), own(2)),
        ((137, [0; 4]), [&about.octets()[..], &own(2)].concat()),
    ]
}

fn routed_discovery(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let router = lab.plan().host(&scene.target.host)?.router();
        let (mut of_router, mut of_friend) = (Vec::new(), Vec::new());
        for (kind, body) in discovery(router, scene.link.source) {
            of_router.push(message(scene, (router, scene.to), 254, kind, &body)?);
            of_friend.push(message(scene, (scene.from, scene.to), 254, kind, &body)?);
        }
        scene.refused(lab, DropReason::SrcAddressInvalid, &of_router)?;
        // In the name of a node that may send to it: a node has no business with it.
        scene.refused(lab, DropReason::IcmpUntranslatable, &of_friend)
    })
}

/// Who is not on the link, but would like the engine's packets.
const THIEF: MacAddr = MacAddr([0x0a, 0, 0, 0, 0x0f, 0x66]);

/// Whether a frame is for the thief.
fn is_stolen(frame: &[u8]) -> bool {
    frame.get(..6) == Some(&THIEF.0)
}

/// Requires that what a node sends still goes to the router.
fn next_hop_is_the_router(lab: &Lab, scene: &Scene) -> Result<()> {
    const WORDS: &str = "still by the router";
    let port = RawPort::open(&lab.plan().router(), &scene.target.host)?;
    say(lab, &scene.target, &scene.friend, WORDS)?;
    let sent = port.arrived(Duration::from_secs(3), |frame| contains(frame, WORDS))?;
    let sent = sent.context("the engine sends nothing any more")?;
    ensure!(sent.get(..6) == Some(&port.mac().0), "it goes to {:02x?}", sent.get(..6));
    Ok(())
}

fn routed_discovery_for_engine(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let plan = lab.plan();
        let host = plan.host(&scene.target.host)?;
        let mut frames = Vec::new();
        for source in [host.router(), "fe80::1".parse()?, Ipv6Addr::UNSPECIFIED, scene.from] {
            for to in [host.engine(), "ff02::1".parse()?] {
                for (kind, body) in discovery(host.router(), THIEF) {
                    frames.push(message(scene, (source, to), 254, kind, &body)?);
                }
            }
        }
        let counter = Counter::of_uplink(&host.id, DropReason::NeighbourDiscoveryRouted);
        scene.entrance.is_refused(lab, &counter, &frames, is_stolen)?;
        next_hop_is_the_router(lab, scene)
    })
}

/// Forgeries that only their checksum, their headers or what they are about tells from what neighbours say: the control
/// thread ignores them.
fn forged_discovery(lab: &Lab) -> Result<()> {
    each(lab, |scene| {
        let plan = lab.plan();
        let host = plan.host(&scene.target.host)?;
        let (router, engine) = (host.router(), host.engine());
        let mut frames = Vec::new();
        for (kind, body) in discovery(router, THIEF) {
            let ends = (router, engine);
            let good = icmp6(ends, kind.0, 0, kind.1, &body)?;
            let mut bad = good.clone();
            *bad.get_mut(2).context("no checksum")? ^= 0x55;
            let packet = Six { hop_limit: 255, ..Six::secret(scene.link, router, engine)? };
            frames.push(Six { next_header: ICMPV6, payload: bad, ..packet.clone() }.frame()?);
            // Within a fragment (RFC 6980), behind options.
            let payload = fragment6(ICMPV6, 7, 0, false, &good);
            frames.push(Six { next_header: FRAGMENT, payload, ..packet.clone() }.frame()?);
            let payload = [&[ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &good].concat();
            frames.push(Six { next_header: DESTINATION_OPTIONS, payload, ..packet }.frame()?);
        }
        // In order, but about others than the gateway: the node itself, its friend, the engine.
        for (about, to) in [(scene.to, engine), (scene.from, engine), (engine, engine), (router, scene.to)] {
            let source = if about == router { scene.from } else { about };
            let (kind, body) = discovery(about, THIEF).swap_remove(if about == router { 2 } else { 3 });
            frames.push(message(scene, (source, to), 255, kind, &body)?);
        }
        scene.entrance.comes_to(lab, &[], &frames, is_stolen)?;
        next_hop_is_the_router(lab, scene)
    })
}
