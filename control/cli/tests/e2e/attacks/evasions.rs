//! Headers made to hide what is behind them: fragments that have no ports or have them twice, extension headers, options,
//! protocols that mean something else in the other IP version. Senders and receivers are true ones.

use super::frames::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, Four, ICMP, ICMPV6, ROUTING, Six, TCP, UDP, fragment6,
    icmp4, syn, udp6,
};
use super::instrument::{ATTEMPTS, Counter, Entrance, SECRET, in_lab, tells_secret};
use crate::fixture::Case;
use anyhow::{Context, Result};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::Macs;
use overlane_cli::lab::plan::Node;
use overlane_dataplane::drop::DropReason;
use std::net::Ipv6Addr;

pub(crate) const CASES: &[Case] = &[
    Case::Alone("attacks::evasions::a_fragment_too_short_for_its_ports_is_refused", || in_lab(tiny)),
    Case::Alone("attacks::evasions::a_fragment_within_a_tcp_header_is_refused", || in_lab(within_tcp)),
    Case::Alone("attacks::evasions::a_fragment_that_writes_over_the_first_is_refused", || {
        in_lab(overlapping)
    }),
    Case::Alone("attacks::evasions::a_first_fragment_that_comes_twice_is_refused", || in_lab(twice)),
    Case::Alone("attacks::evasions::fragments_that_no_datagram_can_have_are_refused", || in_lab(impossible)),
    Case::Alone("attacks::evasions::fragments_without_a_first_are_given_up", || in_lab(without_first)),
    Case::Alone("attacks::evasions::a_flood_of_fragments_without_a_first_is_the_flooders_loss", || {
        in_lab(fragment_flood)
    }),
    Case::Alone("attacks::evasions::a_fragment_hides_no_forged_sender", || in_lab(forged_fragments)),
    Case::Alone("attacks::evasions::a_fragment_hides_no_spoofed_sender", || in_lab(spoofed_fragments)),
    Case::Alone("attacks::evasions::extension_headers_in_no_order_are_refused", || in_lab(chains)),
    Case::Alone("attacks::evasions::extension_headers_that_cannot_be_carried_are_refused", || {
        in_lab(unsupported)
    }),
    Case::Alone("attacks::evasions::an_authentication_header_is_refused", || in_lab(authentication)),
    Case::Alone("attacks::evasions::a_routing_header_with_segments_left_is_refused", || {
        in_lab(routing_header)
    }),
    Case::Alone("attacks::evasions::an_ipv4_source_route_is_refused", || in_lab(source_route)),
    Case::Alone("attacks::evasions::protocols_of_the_other_ip_version_are_refused", || in_lab(other_version)),
    Case::Alone("attacks::evasions::transport_headers_that_lie_about_their_length_are_refused", || {
        in_lab(lying_lengths)
    }),
];

/// A node and a friend of its on the other host, and how frames go from one to the other, in both versions; and to a
/// neighbour on the same host, where nothing is translated.
struct Pair {
    from: Node,
    to: Node,
    four: Four,
    local: Four,
    node: Entrance,
    six: Six,
    substrate: Entrance,
}

impl Pair {
    fn of(lab: &Lab) -> Result<Self> {
        let (from, near, to) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
        let local = Four::secret(Macs::between(&from, &near)?, from.ipv4, near.ipv4)?;
        let four = Four::secret(Macs::between(&from, &to)?, from.ipv4, to.ipv4)?;
        let (source, destination) =
            (lab.plan().substrate_address(&from)?, lab.plan().substrate_address(&to)?);
        let (substrate, link) = Entrance::substrate(lab, &to.host)?;
        let node = Entrance::of(lab, &from)?;
        let six = Six::secret(link, source, destination)?;
        Ok(Self { from, to, four, local, node, six, substrate })
    }

    fn by_node(&self, reason: DropReason) -> Counter {
        Counter::of_node(&self.from, reason)
    }

    fn by_substrate(&self, reason: DropReason) -> Counter {
        Counter::of_vnet(&self.to.host, self.to.vnet, reason)
    }

    /// Extension headers are read before it is known whose the packet is.
    fn by_uplink(&self, reason: DropReason) -> Counter {
        Counter::of_uplink(&self.to.host, reason)
    }

    /// By a node, in IPv4: a fragment of a datagram.
    fn four(&self, protocol: u8, fragment: (u16, u16, bool), payload: &[u8]) -> Result<Vec<u8>> {
        Four { protocol, fragment, payload: payload.to_vec(), ..self.four.clone() }.frame()
    }

    /// By the substrate, with this behind the fixed header.
    fn six(&self, next_header: u8, payload: Vec<u8>) -> Result<Vec<u8>> {
        Six { next_header, payload, ..self.six.clone() }.frame()
    }

    /// What a UDP datagram with the secret has behind its fixed header.
    fn udp(&self) -> Result<Vec<u8>> {
        udp6(self.six.source, self.six.destination, SECRET.as_bytes())
    }

    /// Requires that these are refused, sent by the node and from the substrate.
    fn both_refused(&self, lab: &Lab, reason: DropReason, four: &[Vec<u8>], six: &[Vec<u8>]) -> Result<()> {
        let refused = self.node.is_refused(lab, &self.by_node(reason), four, tells_secret);
        refused.context("by the node")?;
        let refused = self.substrate.is_refused(lab, &self.by_substrate(reason), six, tells_secret);
        refused.context("from the substrate")
    }
}

/// So many bytes, with the secret at their end.
fn hidden(bytes: usize) -> Vec<u8> {
    let mut part = vec![0; bytes.saturating_sub(SECRET.len())];
    part.extend(SECRET.as_bytes());
    part
}

/// A part of a datagram: protocol; identification, offset, whether more follow; bytes.
type Part = (u8, (u16, u16, bool), Vec<u8>);

/// The parts as a node sends them, to another host and to a neighbour.
fn fours(pair: &Pair, parts: &[Part]) -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for packet in [&pair.four, &pair.local] {
        for (protocol, fragment, part) in parts {
            let (protocol, fragment, payload) = (*protocol, *fragment, part.clone());
            frames.push(Four { protocol, fragment, payload, ..packet.clone() }.frame()?);
        }
    }
    Ok(frames)
}

/// The parts as the substrate brings them.
fn sixes(pair: &Pair, parts: &[Part]) -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for (protocol, (id, offset, more), part) in parts {
        let protocol = if *protocol == ICMP { ICMPV6 } else { *protocol };
        frames.push(pair.six(FRAGMENT, fragment6(protocol, (*id).into(), *offset, *more, part))?);
    }
    Ok(frames)
}

/// Requires that these parts are refused, whoever sends them.
fn parts_refused(lab: &Lab, reason: DropReason, parts: &[Part]) -> Result<()> {
    let pair = Pair::of(lab)?;
    pair.both_refused(lab, reason, &fours(&pair, parts)?, &sixes(&pair, parts)?)
}

/// The same of parts that are sent once, of which those in `good` pass: each attempt has an identification of its own,
/// which no other of these cases has used, as what is known of a datagram stays for a while.
fn once_refused(
    lab: &Lab,
    reason: DropReason,
    ids: u16,
    attempts: u16,
    [good, bad]: [fn(u16) -> Vec<Part>; 2],
) -> Result<()> {
    let pair = Pair::of(lab)?;
    let parts = |from: u16| (from..from + attempts).flat_map(|id| [good(id), bad(id)].concat());
    let refused = (ids..ids + attempts).map(|id| bad(id).len() as u64).sum::<u64>();
    // What the node sends comes to the other host's engine too, and leaves its identifications there.
    let by_node = fours(&pair, &parts(ids).collect::<Vec<_>>())?;
    let counters = [(pair.by_node(reason), 2 * refused)];
    pair.node.sent_once_come_to(lab, &counters, &by_node, tells_secret).context("by the node")?;
    let by_substrate = sixes(&pair, &parts(ids + attempts).collect::<Vec<_>>())?;
    let counters = [(pair.by_substrate(reason), refused)];
    let refused = pair.substrate.sent_once_come_to(lab, &counters, &by_substrate, tells_secret);
    refused.context("from the substrate")
}

fn tiny(lab: &Lab) -> Result<()> {
    // TCP's ports are in its first 8 bytes, its flags behind them; a last one that is all of its datagram may be shorter.
    let syn = syn();
    let parts = [
        (TCP, (1, 0, true), syn.get(..8).context("no ports")?.to_vec()),
        (TCP, (2, 0, true), syn.get(..16).context("no flags")?.to_vec()),
        (33, (3, 0, true), vec![0; 8]),
    ];
    parts_refused(lab, DropReason::FragmentTiny, &parts)
}

fn within_tcp(lab: &Lab) -> Result<()> {
    // RFC 1858, 3.1: at offset 8, over flags that a first fragment had in order.
    let syn = syn();
    let flags = syn.get(8..).context("no flags")?;
    let flags = flags.get(..flags.len() / 8 * 8).context("too short")?;
    let parts = [(TCP, (1, 1, true), flags.to_vec()), (TCP, (2, 1, false), hidden(33))];
    parts_refused(lab, DropReason::FragmentTiny, &parts)
}

/// The first 16 bytes of a datagram that says nothing.
fn first(id: u16) -> Part {
    (UDP, (id, 0, true), [&[0x0f, 0xa0, 0, 9, 0, 200, 0x12, 0x34][..], &[0; 8]].concat())
}

fn overlapping(lab: &Lab) -> Result<()> {
    let bad = |id| {
        vec![
            // Over the end of the first, as teardrop did; and what would be in order, of a datagram that is spoilt by then.
            (UDP, (id, 1, true), hidden(24)),
            (UDP, (id, 2, true), hidden(24)),
            (UDP, (id, 5, false), hidden(24)),
        ]
    };
    once_refused(lab, DropReason::FragmentOverlap, 0x4000, TIMES, [|id| vec![first(id)], bad])
}

/// How often what is sent once is tried.
const TIMES: u16 = ATTEMPTS as u16;

fn twice(lab: &Lab) -> Result<()> {
    // The second has other ports, and the secret.
    let bad = |id| {
        let other = [&[0, 53, 0, 22, 0, 200, 0x43, 0x21][..], &hidden(24)].concat();
        vec![(UDP, (id, 0, true), other)]
    };
    once_refused(lab, DropReason::FragmentOverlap, 0x5000, TIMES, [|id| vec![first(id)], bad])
}

fn impossible(lab: &Lab) -> Result<()> {
    let parts = [
        // Ends within a unit although more follow; nothing at all; beyond the largest datagram, as the ping of death.
        (UDP, (1, 2, true), hidden(33)),
        (UDP, (2, 0, true), hidden(31)),
        (UDP, (3, 10, true), Vec::new()),
        (UDP, (4, 10, false), Vec::new()),
        (UDP, (5, 8189, false), hidden(32)),
        (ICMP, (6, 8189, false), hidden(32)),
        (ICMP, (7, 8191, true), hidden(32)),
    ];
    parts_refused(lab, DropReason::FragmentMalformed, &parts)
}

/// The second half of a datagram whose first is never sent.
fn orphan(id: u16) -> Part {
    (UDP, (id, 4, false), hidden(32))
}

fn without_first(lab: &Lab) -> Result<()> {
    let reason = DropReason::FragmentWithoutFirst;
    once_refused(lab, reason, 0x6000, 2 * TIMES, [|_| Vec::new(), |id| vec![orphan(id)]])
}

/// How many fragments an engine holds back, as configured by default.
const HELD: u16 = 256;

fn fragment_flood(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    let more = 44;
    let parts: Vec<Part> = (0x7000..0x7000 + HELD + more).map(orphan).collect();
    let mut frames = fours(&pair, &parts)?;
    frames.truncate(parts.len());
    // Those that make way, and those that wait in vain.
    let counters = [
        (pair.by_node(DropReason::FragmentTableFull), more.into()),
        (pair.by_node(DropReason::FragmentWithoutFirst), HELD.into()),
    ];
    pair.node.sent_once_come_to(lab, &counters, &frames, tells_secret)
}

fn forged_fragments(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    // From where the sender does not live: with ports, and without.
    let elsewhere = Ipv6Addr::from_bits(pair.six.source.to_bits() ^ 6 << 64);
    let mut frames = Vec::new();
    for (_, (id, offset, more), part) in
        [first(0x3000), (UDP, (0x3000, 2, false), hidden(32)), orphan(0x3001)]
    {
        let payload = fragment6(UDP, id.into(), offset, more, &part);
        let packet = Six { source: elsewhere, next_header: FRAGMENT, payload, ..pair.six.clone() };
        frames.push(packet.frame()?);
    }
    let counter = pair.by_substrate(DropReason::SrcPrefixMismatch);
    pair.substrate.is_refused(lab, &counter, &frames, tells_secret)
}

fn spoofed_fragments(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    let source = lab.node("acme-2")?.ipv4;
    let mut frames = Vec::new();
    for (protocol, fragment, payload) in
        [first(0x3000), (UDP, (0x3000, 2, false), hidden(32)), orphan(0x3001)]
    {
        frames.push(Four { source, protocol, fragment, payload, ..pair.four.clone() }.frame()?);
    }
    pair.node.is_refused(lab, &pair.by_node(DropReason::SrcIpv4Spoofed), &frames, tells_secret)
}

/// An extension header of eight bytes that holds nothing but padding (RFC 8200, 4.2).
fn padding(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

const HOP_BY_HOP: u8 = 0;

fn chains(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    let udp = pair.udp()?;
    let options = |count: usize| {
        let mut chain: Vec<u8> = (1..count).flat_map(|_| padding(DESTINATION_OPTIONS)).collect();
        chain.extend(padding(UDP));
        [chain, udp.clone()].concat()
    };
    let mut beyond = padding(UDP);
    *beyond.get_mut(1).context("too short")? = 255;
    let frames = [
        // More than are walked; more than anybody would walk.
        pair.six(DESTINATION_OPTIONS, options(9))?,
        pair.six(DESTINATION_OPTIONS, options(100))?,
        // Hop-by-hop options that are not the first, and twice.
        pair.six(DESTINATION_OPTIONS, [padding(HOP_BY_HOP), padding(UDP), udp.clone()].concat())?,
        pair.six(HOP_BY_HOP, [padding(HOP_BY_HOP), padding(UDP), udp.clone()].concat())?,
        // One that ends behind the packet, one of which half is there, and a fragment header of which half is.
        pair.six(DESTINATION_OPTIONS, [beyond, udp.clone()].concat())?,
        pair.six(DESTINATION_OPTIONS, vec![UDP, 0, 1, 4])?,
        pair.six(DESTINATION_OPTIONS, [padding(ROUTING), vec![UDP, 0, 0, 0]].concat())?,
        pair.six(FRAGMENT, vec![UDP, 0, 0, 1])?,
        // Nothing behind the promise.
        pair.six(DESTINATION_OPTIONS, Vec::new())?,
        pair.six(HOP_BY_HOP, padding(DESTINATION_OPTIONS))?,
    ];
    let counter = pair.by_uplink(DropReason::ExtensionHeaderChain);
    pair.substrate.is_refused(lab, &counter, &frames, tells_secret)
}

fn unsupported(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    let udp = pair.udp()?;
    let mut frames = Vec::new();
    // Mobility, HIP, Shim6.
    for header in [135, 139, 140] {
        frames.push(pair.six(header, [padding(UDP), udp.clone()].concat())?);
        frames.push(pair.six(DESTINATION_OPTIONS, [padding(header), padding(UDP), udp.clone()].concat())?);
    }
    // Behind a fragment header, in a whole datagram and in its first part; a fragment of a fragment.
    for more in [false, true] {
        let behind = [padding(UDP), padding(UDP), udp.clone()].concat();
        let behind = behind.get(..behind.len() / 8 * 8).context("too short")?;
        frames.push(pair.six(FRAGMENT, fragment6(DESTINATION_OPTIONS, 1, 0, more, behind))?);
        let inner = fragment6(UDP, 2, 0, false, behind);
        frames.push(pair.six(FRAGMENT, fragment6(FRAGMENT, 3, 0, more, &inner))?);
    }
    let counter = pair.by_uplink(DropReason::ExtensionHeaderUnsupported);
    pair.substrate.is_refused(lab, &counter, &frames, tells_secret)
}

fn authentication(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    // RFC 4302, 2: in units of four bytes less two; SPI, sequence number, no check value.
    let header = [UDP, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
    let behind = [&header[..], &pair.udp()?].concat();
    let first = behind.get(..behind.len() / 8 * 8).context("too short")?;
    let six = [
        pair.six(AUTHENTICATION, behind.clone())?,
        pair.six(DESTINATION_OPTIONS, [padding(AUTHENTICATION), behind.clone()].concat())?,
        pair.six(FRAGMENT, fragment6(AUTHENTICATION, 1, 0, true, first))?,
    ];
    let counter = pair.by_uplink(DropReason::AuthenticationHeader);
    pair.substrate.is_refused(lab, &counter, &six, tells_secret).context("from the substrate")?;
    let four = [pair.four(AUTHENTICATION, (0, 0, false), &behind)?];
    let counter = pair.by_node(DropReason::AuthenticationHeader);
    pair.node.is_refused(lab, &counter, &four, tells_secret).context("by the node")
}

fn routing_header(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    let udp = pair.udp()?;
    let elsewhere = lab.plan().substrate_address(&lab.node("globex-3")?)?;
    let mut frames = Vec::new();
    // Source route (RFC 5095 forbids it), mobile IPv6's, segment routing, one that nobody has defined.
    for kind in [0, 2, 4, 200] {
        let header = [&[UDP, 2, kind, 1, 0, 0, 0, 0][..], &elsewhere.octets()].concat();
        frames.push(pair.six(ROUTING, [&header[..], &udp].concat())?);
    }
    let header = [&[UDP, 2, 0, 255, 0, 0, 0, 0][..], &elsewhere.octets()].concat();
    frames.push(pair.six(DESTINATION_OPTIONS, [&padding(ROUTING)[..], &header, &udp].concat())?);
    // The sender is told (RFC 7915, 5.1), where in a header that IPv4 does not have: its engine has no words for that.
    let count = ATTEMPTS * frames.len() as u64;
    let told = Counter::of_vnet(&pair.from.host, pair.from.vnet, DropReason::IcmpUntranslatable);
    let counters = [(pair.by_substrate(DropReason::RoutingHeaderLive), count), (told, count)];
    let is_error = |frame: &[u8]| frame.get(20) == Some(&ICMPV6) && frame.get(54) == Some(&4);
    let theirs = |frame: &[u8]| tells_secret(frame) && !is_error(frame);
    pair.substrate.comes_to(lab, &counters, &frames, theirs)
}

fn source_route(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    let (near, far) = (lab.node("acme-2")?.ipv4.octets(), pair.to.ipv4.octets());
    let mut frames = Vec::new();
    // Loose and strict, alone and behind another option; to the neighbour as well, where nothing is translated.
    for kind in [131, 137] {
        let [a, b, c, d] = near;
        let route = vec![kind, 7, 4, a, b, c, d, 0];
        let behind = [&[1, 1, 1, 1][..], &route].concat();
        for options in [route.clone(), behind] {
            frames.push(Four { options, ..pair.four.clone() }.frame()?);
        }
        let neighbour = lab.node("acme-2")?;
        let [a, b, c, d] = far;
        let options = vec![kind, 7, 4, a, b, c, d, 0];
        let local = Four::secret(Macs::between(&pair.from, &neighbour)?, pair.from.ipv4, neighbour.ipv4)?;
        frames.push(Four { options, ..local }.frame()?);
    }
    // The sender is told, with its own words.
    let theirs = |frame: &[u8]| tells_secret(frame) && frame.get(34..36) != Some(&[3, 5]);
    pair.node.is_refused(lab, &pair.by_node(DropReason::SourceRoute), &frames, theirs)
}

fn other_version(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    let udp = pair.udp()?;
    let mut four = Vec::new();
    // What would be extension headers and ICMPv6 behind the IPv6 header that it gets.
    for number in [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS, 135, 139, 140] {
        four.push(pair.four(number, (0, 0, false), &[padding(UDP), udp.clone()].concat())?);
    }
    four.push(pair.four(ICMPV6, (0, 0, false), &icmp4(135, 0, [0; 4], SECRET.as_bytes()))?);
    let six = [pair.six(ICMP, icmp4(8, 0, [0; 4], SECRET.as_bytes()))?];
    pair.both_refused(lab, DropReason::ProtocolUntranslatable, &four, &six)
}

fn lying_lengths(lab: &Lab) -> Result<()> {
    let pair = Pair::of(lab)?;
    let udp = pair.udp()?;
    let (mut four, mut six) = (Vec::new(), Vec::new());
    // UDP: more than there is, less than its header. (Less than there is may be: RFC 9868 has options there.)
    for length in [u16::MAX, 200, 7, 0] {
        let mut lying = udp.clone();
        lying.get_mut(4..6).context("no length")?.copy_from_slice(&length.to_be_bytes());
        four.push(pair.four(UDP, (0, 0, false), &lying)?);
        six.push(pair.six(UDP, lying)?);
    }
    // TCP: a header that is longer than the segment, or shorter than a header can be.
    for offset in [0xf0, 0x40, 0] {
        let mut lying = syn();
        *lying.get_mut(12).context("no offset")? = offset;
        four.push(pair.four(TCP, (0, 0, false), &lying)?);
        six.push(pair.six(TCP, lying)?);
    }
    pair.both_refused(lab, DropReason::TransportMalformed, &four, &six)
}
