//! The engine is right about any packet, and neither more nor less strict than the reference.

use super::packets::{Packet, cuts, fix_header_checksum, from_node, from_uplink};
use super::translator::{HELD, first_fragment};
use super::{Engines, expected, standalone};
use crate::build::{ALICE, ALICE_V6, BOB, BOB_V6};
use crate::reference::{Site, Translated};
use crate::tables::{compared, site};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::cell::RefCell;

/// What the operator may have set.
fn sites() -> impl Strategy<Value = Site> {
    let mtus =
        select(vec![(1480, 1500), (1480, 1500), (1480, 1500), (8980, 9000), (1000, 1500), (1480, 1280)]);
    (mtus, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |((ipv4_mtu, ipv6_mtu), lowest, copy_traffic_class, compute_udp_checksum, carry_fragmented_icmp)| {
            let lowest_ipv6_mtu = if lowest { 1280 } else { ipv6_mtu };
            Site {
                ipv4_mtu,
                ipv6_mtu,
                lowest_ipv6_mtu,
                copy_traffic_class,
                compute_udp_checksum,
                carry_fragmented_icmp,
                ..site()
            }
        },
    )
}

/// Bytes in a buffer behind the headroom, less than the pool's by what is in front of an IP packet's extension headers.
const ROOM: usize = 2048 - 54;

thread_local! {
    static ENGINES: RefCell<Engines> = RefCell::default();
}

/// Translates a packet by the engine and by the reference, which must agree: by the engine's stages, and without them.
fn agree(site: &Site, to_six: bool, packet: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
    let alone = standalone::translate(site, to_six, packet, cuts);
    judge("alone", site, to_six, packet, cuts, &alone)?;
    if !to_six && is_neighbour_discovery(packet) {
        // With the full hop limit it is for the engine itself, whoever it is addressed to (RFC 4861, 7.1).
        return Ok(());
    }
    let is = ENGINES.with_borrow_mut(|engines| engines.translate(site, to_six, packet, cuts));
    let held = is.as_ref().is_err_and(|refused| refused.reason == HELD);
    if held && first_fragment(to_six, packet).is_none() {
        return Ok(());
    }
    judge("engine", site, to_six, packet, cuts, &is)
}

/// Whether an IPv6 packet is what every engine takes for itself.
fn is_neighbour_discovery(packet: &[u8]) -> bool {
    matches!(packet, [_, _, _, _, _, _, 58, 255, ..]) && matches!(packet.get(40), Some(133..=137))
}

/// Of several reasons to refuse a packet either may find another one first: rows have one each.
fn judge(
    who: &str,
    site: &Site,
    to_six: bool,
    packet: &[u8],
    cuts: &[usize],
    is: &Translated,
) -> Result<(), TestCaseError> {
    // A chain of extension headers that is longer than a buffer, and begins in one, stays in several.
    let in_pieces = is.as_ref().is_err_and(|refused| refused.reason == "segments_unsupported");
    if in_pieces && !cuts.is_empty() && packet.len() > ROOM {
        return Ok(());
    }
    let expected = expected(site, to_six, packet, is);
    let agree = *is == expected || is.is_err() && expected.is_err();
    prop_assert!(agree, "{}", compared(who, is, &expected));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn any_packet_of_a_node_becomes_what_the_reference_says(
        site in sites(), packet in from_node(), cuts in cuts(),
    ) {
        agree(&site, true, &packet.0, &cuts)?;
    }

    #[test]
    fn any_packet_from_the_uplink_becomes_what_the_reference_says(
        site in sites(), packet in from_uplink(), cuts in cuts(),
    ) {
        agree(&site, false, &packet.0, &cuts)?;
    }

    /// Bytes changed anywhere but in the addresses, whose owners other stages judge.
    #[test]
    fn changed_packets_become_what_the_reference_says(
        to_six in any::<bool>(), four in from_node(), six in from_uplink(), cuts in cuts(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        length in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let Packet(mut packet) = if to_six { four } else { six };
        let (addresses, near) = if to_six { (12..20, 80) } else { (8..40, 120) };
        for (place, value) in changes {
            // Where the headers are.
            let place = place.index(packet.len().min(near));
            if !addresses.contains(&place) {
                packet[place] = value;
            }
        }
        if to_six {
            fix_header_checksum(&mut packet);
        }
        if let Some(length) = length {
            packet.truncate(length.index(packet.len() + 1));
        }
        agree(&site(), to_six, &packet, &cuts)?;
    }

    /// Any bytes at all between the right addresses.
    #[test]
    fn garbage_becomes_what_the_reference_says(
        to_six in any::<bool>(), mut packet in prop::collection::vec(any::<u8>(), 40..300), cuts in cuts(),
        numbers in select(vec![0u8, 1, 6, 17, 33, 43, 44, 50, 58, 60, 136]), length in any::<bool>(),
    ) {
        let total = packet.len() as u16;
        if to_six {
            packet[0] = 0x40 | packet[0] & 0xf;
            packet[9] = numbers;
            packet[12..16].copy_from_slice(&ALICE.octets());
            packet[16..20].copy_from_slice(&BOB.octets());
            if length {
                packet[2..4].copy_from_slice(&total.to_be_bytes());
            }
            fix_header_checksum(&mut packet);
        } else {
            packet[0] = 0x60 | packet[0] & 0xf;
            packet[6] = numbers;
            packet[8..24].copy_from_slice(&BOB_V6.octets());
            packet[24..40].copy_from_slice(&ALICE_V6.octets());
            if length {
                packet[4..6].copy_from_slice(&(total - 40).to_be_bytes());
            }
        }
        agree(&site(), to_six, &packet, &cuts)?;
    }
}
