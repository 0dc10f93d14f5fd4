//! The packets that the input device plays again and again, and the capture that it reads them from.

use crate::site::{ADDRESS, LAYOUT, NODE, ROUTER, UPLINK, elsewhere, own_address, vnet};
use anyhow::Context;
use core::net::{Ipv4Addr, Ipv6Addr};
use overlane_dataplane::id::VnetId;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::wire::checksum::{Sum, nonzero};
use overlane_dataplane::wire::{ethernet, ipv4, ipv6, protocol, udp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Packets in a capture. They live in the pool that packets are received into, so they must stay few.
pub(crate) const PACKETS: u32 = 1_024;
/// Bytes that Ethernet has behind a frame, and that sizes count: the frame check sequence.
const FCS: usize = 4;
/// The simple IMIX, seven to four to one, in an order without runs.
const IMIX: [usize; 12] = [64, 594, 64, 64, 594, 64, 1_518, 64, 594, 64, 594, 64];

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Direction {
    /// From the node to the substrate.
    FourToSix,
    /// From the substrate to the node.
    SixToFour,
}

/// How large frames are on the node's side, frame check sequence included. On the substrate they have 20 bytes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Size {
    /// All of as many bytes.
    Bytes(usize),
    /// 64, 594 and 1,518 bytes, seven to four to one.
    Imix,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
            Self::Imix => f.write_str("IMIX"),
        }
    }
}

/// Bytes at a datagram's end that make the sums of all equal.
const EVEN: usize = 2;
/// What they all sum up to; any number but 0 and 0xffff, which are the same.
const TOTAL: u16 = 0x1234;

/// A capture: `PACKETS` flows of UDP, to or from the first `spread` nodes elsewhere.
pub(crate) fn frames(direction: Direction, size: Size, spread: u32) -> anyhow::Result<Vec<Vec<u8>>> {
    let vnet = vnet()?;
    (0..PACKETS)
        .map(|flow| {
            let size = match size {
                Size::Bytes(bytes) => bytes,
                Size::Imix => *IMIX.get(flow as usize % IMIX.len()).context("a size")?,
            };
            let length =
                size.checked_sub(FCS + ethernet::LENGTH + ipv4::LENGTH).context("the size is too small")?;
            frame(direction, vnet, flow, flow % spread.max(1), length)
        })
        .collect()
}

/// One frame with `length` bytes behind its IP header. Frames of one node have the same checksums, whatever their flow
/// and length, so that the stamp need not read them.
pub(crate) fn frame(
    direction: Direction,
    vnet: VnetId,
    flow: u32,
    index: u32,
    length: usize,
) -> anyhow::Result<Vec<u8>> {
    let (locator, other) = elsewhere(vnet, index)?;
    let own = own_address(vnet)?;
    let payload = u16::try_from(length)?;
    let mut bytes = Vec::with_capacity(length + ethernet::LENGTH + ipv6::LENGTH);
    let pseudo = match direction {
        Direction::FourToSix => {
            bytes.extend(ethernet_header(MacAddr::dummy(vnet, other), NODE, ethernet::ethertype::IPV4));
            bytes.extend(ipv4_header(ADDRESS, other, payload)?);
            Sum::ZERO.add_bytes(&ADDRESS.octets()).add_bytes(&other.octets())
        }
        Direction::SixToFour => {
            let source = locator.address(other);
            debug_assert!(LAYOUT.decode(source).is_ok());
            bytes.extend(ethernet_header(UPLINK, ROUTER, ethernet::ethertype::IPV6));
            bytes.extend(ipv6_header(source, own, payload));
            Sum::ZERO.add_bytes(&source.octets()).add_bytes(&own.octets())
        }
    };
    let start = bytes.len();
    anyhow::ensure!(length >= udp::LENGTH + EVEN && length.is_multiple_of(2), "the size is odd or too small");
    bytes.extend((1_024 + u16::try_from(flow % 50_000)?).to_be_bytes());
    bytes.extend(4_242_u16.to_be_bytes());
    bytes.extend(payload.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.resize(start + length - EVEN, b'o');
    // What the rest sums up to, taken away.
    let datagram = bytes.get(start..).context("a datagram")?;
    let rest = Sum::ZERO.add(payload).add_bytes(datagram).fold();
    bytes.extend(Sum::ZERO.add(TOTAL).remove(rest).fold().to_be_bytes());
    let datagram = bytes.get(start..).context("a datagram")?;
    let sum = pseudo.add(u16::from(protocol::UDP)).add(payload).add_bytes(datagram);
    let at = start + usize::from(udp::CHECKSUM);
    let field = bytes.get_mut(at..at + 2).context("the size is too small for UDP")?;
    field.copy_from_slice(&nonzero(sum.checksum()).to_be_bytes());
    Ok(bytes)
}

fn ethernet_header(destination: MacAddr, source: MacAddr, ethertype: u16) -> [u8; ethernet::LENGTH] {
    let mut header = [0; ethernet::LENGTH];
    ethernet::emit(&mut header, destination, source, ethertype);
    header
}

fn ipv4_header(source: Ipv4Addr, destination: Ipv4Addr, payload: u16) -> anyhow::Result<[u8; ipv4::LENGTH]> {
    let mut header = [0; ipv4::LENGTH];
    let total_length = payload + u16::try_from(ipv4::LENGTH)?;
    let fields = ipv4::Fields {
        tos: 0,
        total_length,
        // Both together sum up to the same in every header.
        identification: !total_length,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: protocol::UDP,
        source,
        destination,
    };
    fields.emit(&mut header);
    Ok(header)
}

fn ipv6_header(source: Ipv6Addr, destination: Ipv6Addr, payload_length: u16) -> [u8; ipv6::LENGTH] {
    let mut header = [0; ipv6::LENGTH];
    let fields = ipv6::Fields {
        traffic_class: 0,
        payload_length,
        next_header: protocol::UDP,
        hop_limit: 60,
        source,
        destination,
    };
    fields.emit(&mut header);
    header
}

/// Writes a capture of Ethernet frames in pcap's format, which is in the writer's byte order.
pub(crate) fn write_capture(path: &Path, frames: &[Vec<u8>]) -> anyhow::Result<()> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const VERSION_2_4: u32 =
        u32::from_ne_bytes(if cfg!(target_endian = "little") { [2, 0, 4, 0] } else { [0, 2, 0, 4] });
    const LONGEST: u32 = 0x4_0000;
    const ETHERNET: u32 = 1;
    let mut capture: Vec<u8> =
        [MAGIC, VERSION_2_4, 0, 0, LONGEST, ETHERNET].into_iter().flat_map(u32::to_ne_bytes).collect();
    for frame in frames {
        let length = u32::try_from(frame.len())?;
        capture.extend([0, 0, length, length].into_iter().flat_map(u32::to_ne_bytes));
        capture.extend(frame);
    }
    std::fs::write(path, capture).with_context(|| format!("write {}", path.display()))
}
