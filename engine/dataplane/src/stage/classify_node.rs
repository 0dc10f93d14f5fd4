//! From a node: what kind of frame is it? IPv4 headers are read and checked here.

use super::{Burst, FromNode, Outbound};
use crate::drop::DropReason;
use crate::header::{NetworkHeader, contiguous, read_ipv4};
use crate::mac::MacAddr;
use crate::packet::Packet;
use crate::pipeline::BURST;
use crate::wire::ethernet::{self, ethertype};
use arrayvec::ArrayVec;

enum Kind {
    Arp,
    Ipv4(NetworkHeader, MacAddr),
}

/// Empties `received` into the kinds that there are. Every frame must come from the interface's own MAC.
#[inline]
pub(crate) fn run<P: Packet>(
    node: &FromNode<'_>,
    received: &mut ArrayVec<P, BURST>,
    arps: &mut ArrayVec<P, BURST>,
    burst: &mut Burst<Outbound<'_, P>>,
) {
    for mut packet in received.drain(..) {
        match kind(node, &mut packet) {
            Ok(Kind::Ipv4(header, frame_destination)) => {
                burst.push(Outbound { packet, header, frame_destination, routed: false, mapping: None });
            }
            Ok(Kind::Arp) => arps.push(packet),
            Err(reason) => node.drops.count(reason),
        }
    }
}

#[inline]
fn kind(node: &FromNode<'_>, packet: &mut impl Packet) -> Result<Kind, DropReason> {
    contiguous(packet, ethernet::LENGTH)?;
    let frame = ethernet::Header::new_checked(packet.head()).map_err(|_| DropReason::FrameTruncated)?;
    if frame.source() != node.interface.mac {
        return Err(DropReason::SrcMacSpoofed);
    }
    let destination = frame.destination();
    match frame.ethertype() {
        ethertype::IPV4 => Ok(Kind::Ipv4(read_ipv4(packet)?, destination)),
        ethertype::ARP => Ok(Kind::Arp),
        ethertype::RARP => Err(DropReason::ArpAbsorbed),
        _ => Err(DropReason::EthertypeUnsupported),
    }
}
