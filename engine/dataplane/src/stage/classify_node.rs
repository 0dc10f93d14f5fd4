//! From a node: what kind of frame is it? IPv4 headers are read and checked here.

use super::{Burst, FromNode, Outbound};
use crate::drop::DropReason;
use crate::header::{contiguous, read_ipv4};
use crate::packet::Packet;
use crate::pipeline::BURST;
use crate::wire::ethernet::{self, ethertype};
use arrayvec::ArrayVec;

/// Empties `received` into the kinds that there are. Every frame must come from the interface's own MAC.
#[inline]
pub(crate) fn run<P: Packet>(
    node: &FromNode<'_>,
    received: &mut ArrayVec<P, BURST>,
    arps: &mut ArrayVec<P, BURST>,
    burst: &mut Burst<Outbound<'_, P>>,
) {
    for packet in received.drain(..) {
        if let Err(reason) = classify(node, packet, arps, burst) {
            node.traffic.drops.count(reason);
        }
    }
}

/// Puts the packet where it belongs; large values are made in their place, not returned.
#[inline]
fn classify<P: Packet>(
    node: &FromNode<'_>,
    mut packet: P,
    arps: &mut ArrayVec<P, BURST>,
    burst: &mut Burst<Outbound<'_, P>>,
) -> Result<(), DropReason> {
    contiguous(&mut packet, ethernet::LENGTH)?;
    let frame = ethernet::Header::new_checked(packet.head()).map_err(|_| DropReason::FrameTruncated)?;
    if frame.source() != node.interface.mac {
        return Err(DropReason::SrcMacSpoofed);
    }
    let frame_destination = frame.destination();
    match frame.ethertype() {
        ethertype::IPV4 => {
            let header = read_ipv4(&mut packet)?;
            burst.push(Outbound { packet, header, frame_destination, routed: false, mapping: None });
        }
        ethertype::ARP => arps.push(packet),
        ethertype::RARP => return Err(DropReason::ArpAbsorbed),
        _ => return Err(DropReason::EthertypeUnsupported),
    }
    Ok(())
}
