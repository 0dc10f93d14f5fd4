//! The slow, obvious translator: the same shape, built anew in the other IP version with every checksum computed from
//! scratch by etherparse. What the engine makes by increment must be equal to it, byte for byte.

use crate::frames::{self, Shape};
use crate::world::{Node, ROUTER, address, uplink_mac};
use overlane_dataplane::address::Layout;
use overlane_dataplane::mac::MacAddr;

/// The frame that must leave the sender's host for a packet of this shape.
pub(crate) fn on_substrate(layout: Layout, from: &Node, to: &Node, shape: &Shape) -> Vec<u8> {
    let shape = Shape { ttl: shape.ttl - 1, ..shape.clone() };
    frames::ipv6(ROUTER, uplink_mac(from.host), (address(layout, from), address(layout, to)), &shape)
}

/// The frame as a plain router hands it to the receiver's host: other MACs, one hop less.
pub(crate) fn routed(frame: &[u8], to: &Node) -> Vec<u8> {
    forwarded(frame, uplink_mac(to.host))
}

/// The same to any MAC.
pub(crate) fn forwarded(frame: &[u8], to: MacAddr) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[0..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&ROUTER.0);
    frame[21] -= 1;
    frame
}

/// The frame that must reach the node, after the substrate has taken `hops` hops and the engines two. The
/// identification is the receiving engine's choice: it is taken from what arrived.
pub(crate) fn at_node(source_mac: MacAddr, to: &Node, shape: &Shape, hops: u8, arrived: &[u8]) -> Vec<u8> {
    let mut shape = Shape { ttl: shape.ttl - 2 - hops, options: Vec::new(), ..shape.clone() };
    shape.identification = u16::from_be_bytes([arrived[18], arrived[19]]);
    let size = frames::ipv4(to.mac(), source_mac, &shape).len() - 14;
    shape.dont_fragment = size > 1260;
    frames::ipv4(to.mac(), source_mac, &shape)
}
