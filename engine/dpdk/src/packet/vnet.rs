//! The header before each frame on a packet socket: `struct virtio_net_hdr` in the machine's byte order.

use overlane_dataplane::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};

use crate::offload::{Layers, Transport};

/// Bytes of the header.
pub(super) const LENGTH: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The frame's metadata make no sense, or are of a kind that Overlane does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the header of a frame of `length` bytes. `tag` bytes were put into the frame behind its addresses after
/// the header was written.
///
/// The kernel wrote it, but from what a node sent or a device said: every number is checked.
pub(super) fn parse(header: &[u8; LENGTH], length: usize, tag: u16) -> Result<Offload, Malformed> {
    let [flags, gso, _, _, size_low, size_high, start_low, start_high, offset_low, offset_high] = *header;
    let start = u16::from_ne_bytes([start_low, start_high]);
    let offset = u16::from_ne_bytes([offset_low, offset_high]);
    let size = u16::from_ne_bytes([size_low, size_high]);
    let checksum = if flags & NEEDS_CSUM != 0 {
        let start = start.checked_add(tag).ok_or(Malformed)?;
        let end = usize::from(start) + usize::from(offset) + 2;
        // Behind an Ethernet header at least, and with its field in the frame.
        if start < 14 || end > length {
            return Err(Malformed);
        }
        Checksum::Partial { start, offset }
    } else if flags & DATA_VALID != 0 {
        Checksum::Verified
    } else {
        Checksum::Complete
    };
    let kind = match (gso & !GSO_ECN, gso & GSO_ECN != 0) {
        (GSO_NONE, false) => return Ok(Offload { checksum, segmentation: None }),
        (GSO_TCPV4 | GSO_TCPV6, ecn) => SegmentationKind::Tcp { ecn },
        (GSO_UDP_L4, false) => SegmentationKind::Udp,
        _ => return Err(Malformed),
    };
    match checksum {
        Checksum::Partial { .. } if size > 0 => {
            Ok(Offload { checksum, segmentation: Some(Segmentation { kind, size }) })
        }
        _ => Err(Malformed),
    }
}

/// Writes the header of a frame to be sent.
///
/// # Errors
/// [`Malformed`] if the packet asks for something that its own headers contradict.
pub(super) fn build(packet: &impl Packet) -> Result<[u8; LENGTH], Malformed> {
    let offload = packet.offload();
    let Checksum::Partial { start, offset } = offload.checksum else {
        return match offload.segmentation {
            // What a device verified once is still right: only ever rewritten by increment.
            None if offload.checksum == Checksum::Verified => Ok(encode(DATA_VALID, GSO_NONE, 0, 0, 0, 0)),
            None => Ok([0; LENGTH]),
            Some(_) => Err(Malformed),
        };
    };
    if usize::from(start) + usize::from(offset) + 2 > packet.len() {
        return Err(Malformed);
    }
    let Some(segmentation) = offload.segmentation else {
        return Ok(encode(NEEDS_CSUM, GSO_NONE, 0, 0, start, offset));
    };
    let layers =
        Layers::parse(packet.head()).filter(|layers| layers.transport_start() == start).ok_or(Malformed)?;
    let gso = match (segmentation.kind, layers.transport, layers.version) {
        (SegmentationKind::Tcp { ecn }, Transport::Tcp { .. }, version) => {
            (if version == 4 { GSO_TCPV4 } else { GSO_TCPV6 }) | if ecn { GSO_ECN } else { 0 }
        }
        (SegmentationKind::Udp, Transport::Udp, _) => GSO_UDP_L4,
        _ => return Err(Malformed),
    };
    let headers = start.checked_add(layers.transport.header()).ok_or(Malformed)?;
    Ok(encode(NEEDS_CSUM, gso, headers, segmentation.size, start, offset))
}

fn encode(flags: u8, gso: u8, headers: u16, size: u16, start: u16, offset: u16) -> [u8; LENGTH] {
    let [headers_low, headers_high] = headers.to_ne_bytes();
    let [size_low, size_high] = size.to_ne_bytes();
    let [start_low, start_high] = start.to_ne_bytes();
    let [offset_low, offset_high] = offset.to_ne_bytes();
    [
        flags,
        gso,
        headers_low,
        headers_high,
        size_low,
        size_high,
        start_low,
        start_high,
        offset_low,
        offset_high,
    ]
}
