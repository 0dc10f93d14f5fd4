//! The header before each frame on packet sockets and taps: `struct virtio_net_hdr` in the machine's byte order.

use overlane_dataplane::packet::{Checksum, Offload, Packet, Segmentation, SegmentationKind};

use crate::Mbuf;
use crate::offload::{Layers, Transport, gather_headers};

/// Bytes of the header.
pub(crate) const LENGTH: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The frame's metadata make no sense, or are of a kind that Overlane does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Notes on a received packet what its header says; `tag` as for [`parse`].
///
/// # Errors
/// [`Malformed`]; the packet is to be dropped.
pub(crate) fn note(packet: &mut Mbuf, header: &[u8; LENGTH], tag: u16) -> Result<(), Malformed> {
    let offload = parse(header, packet.len(), tag)?;
    if offload != Offload::default() {
        packet.set_offload(offload);
    }
    Ok(())
}

/// The header of a packet to be sent, whose own headers are brought together if they have to be read.
///
/// # Errors
/// [`Malformed`] if it cannot be expressed.
pub(crate) fn express(packet: &mut Mbuf) -> Result<[u8; LENGTH], Malformed> {
    if packet.offload().segmentation.is_some() {
        gather_headers(packet);
    }
    build(packet.head(), packet.len(), packet.offload())
}

/// Reads the header of a frame of `length` bytes. `tag` bytes were put into the frame behind its addresses after
/// the header was written.
///
/// The kernel wrote it, but from what a node sent or a device said: every number is checked.
fn parse(header: &[u8; LENGTH], length: usize, tag: u16) -> Result<Offload, Malformed> {
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
    if size == 0 {
        return Err(Malformed);
    }
    Ok(Offload { checksum, segmentation: Some(Segmentation { kind, size }) })
}

/// Writes the header of a frame to be sent, which has `length` bytes and begins with `head`.
///
/// # Errors
/// [`Malformed`] if the frame's own headers contradict what is asked for it.
fn build(head: &[u8], length: usize, offload: Offload) -> Result<[u8; LENGTH], Malformed> {
    let Checksum::Partial { start, offset } = offload.checksum else {
        return match offload.segmentation {
            // What a device verified once is still right: only ever rewritten by increment.
            None if offload.checksum == Checksum::Verified => Ok(encode(DATA_VALID, GSO_NONE, 0, 0, 0, 0)),
            None => Ok([0; LENGTH]),
            Some(_) => Err(Malformed),
        };
    };
    if usize::from(start) + usize::from(offset) + 2 > length {
        return Err(Malformed);
    }
    let Some(segmentation) = offload.segmentation else {
        return Ok(encode(NEEDS_CSUM, GSO_NONE, 0, 0, start, offset));
    };
    let layers = Layers::parse(head).filter(|layers| layers.transport_start() == start).ok_or(Malformed)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of these fields; the length of the headers is the kernel's own hint and is not read.
    fn header(flags: u8, gso: u8, size: u16, start: u16, offset: u16) -> [u8; LENGTH] {
        encode(flags, gso, 0xffff, size, start, offset)
    }

    const PARTIAL: Checksum = Checksum::Partial { start: 34, offset: 16 };
    const TCP: SegmentationKind = SegmentationKind::Tcp { ecn: false };

    #[test]
    fn each_kind_of_header_is_read() {
        let offload = |checksum, segmentation| Ok(Offload { checksum, segmentation });
        let cut = |kind, size| Some(Segmentation { kind, size });
        let ecn = SegmentationKind::Tcp { ecn: true };
        let cases = [
            (header(0, GSO_NONE, 0, 0, 0), offload(Checksum::Complete, None)),
            (header(DATA_VALID, GSO_NONE, 0, 0, 0), offload(Checksum::Verified, None)),
            (header(NEEDS_CSUM, GSO_NONE, 0, 34, 16), offload(PARTIAL, None)),
            (header(NEEDS_CSUM, GSO_TCPV4, 1_448, 34, 16), offload(PARTIAL, cut(TCP, 1_448))),
            (header(NEEDS_CSUM, GSO_TCPV6 | GSO_ECN, 1, 34, 16), offload(PARTIAL, cut(ecn, 1))),
            (
                header(NEEDS_CSUM, GSO_UDP_L4, u16::MAX, 34, 16),
                offload(PARTIAL, cut(SegmentationKind::Udp, u16::MAX)),
            ),
            (header(DATA_VALID, GSO_TCPV4, 9, 0, 0), offload(Checksum::Verified, cut(TCP, 9))),
        ];
        for (header, expected) in cases {
            assert_eq!(parse(&header, 2_000, 0), expected, "{header:?}");
        }
    }

    #[test]
    fn a_checksum_field_outside_of_the_frame_is_refused() {
        let at =
            |start, offset, length, tag| parse(&header(NEEDS_CSUM, GSO_NONE, 0, start, offset), length, tag);
        assert!(at(34, 16, 52, 0).is_ok());
        assert_eq!(at(34, 16, 51, 0), Err(Malformed));
        assert_eq!(at(13, 16, 2_000, 0), Err(Malformed), "within the Ethernet header");
        assert_eq!(at(u16::MAX, u16::MAX, 2_000, 0), Err(Malformed));
        assert_eq!(
            at(34, u16::MAX, 70_000, 0).unwrap().checksum,
            Checksum::Partial { start: 34, offset: u16::MAX }
        );
    }

    #[test]
    fn a_tag_put_back_moves_the_checksum() {
        let tagged = parse(&header(NEEDS_CSUM, GSO_NONE, 0, 34, 16), 56, 4);
        assert_eq!(tagged.unwrap().checksum, Checksum::Partial { start: 38, offset: 16 });
        assert_eq!(parse(&header(NEEDS_CSUM, GSO_NONE, 0, 34, 16), 55, 4), Err(Malformed));
        assert_eq!(parse(&header(NEEDS_CSUM, GSO_NONE, 0, u16::MAX - 3, 0), 1 << 20, 4), Err(Malformed));
    }

    #[test]
    fn a_segmentation_that_is_not_known_or_has_no_size_is_refused() {
        assert_eq!(parse(&header(NEEDS_CSUM, GSO_TCPV4, 0, 34, 16), 2_000, 0), Err(Malformed));
        let known = [GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN, GSO_TCPV6 | GSO_ECN];
        for gso in (0..=255).filter(|gso| !known.contains(gso)) {
            assert_eq!(parse(&header(NEEDS_CSUM, gso, 1_000, 34, 16), 2_000, 0), Err(Malformed), "{gso}");
        }
    }

    #[test]
    fn no_header_whatever_panics() {
        let mut state = 1_u64;
        for _ in 0..100_000 {
            let mut header = [0; LENGTH];
            for byte in &mut header {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            let length = usize::from(header[2]) * 256;
            if let Ok(Offload { checksum: Checksum::Partial { start, offset }, .. }) =
                parse(&header, length, 4)
            {
                assert!(usize::from(start) + usize::from(offset) + 2 <= length);
            }
        }
    }

    /// The headers of TCP over IPv4, or UDP over IPv6.
    fn frame(version: u8) -> Vec<u8> {
        let mut frame = vec![0; 12];
        if version == 4 {
            frame.extend([8, 0, 0x45, 0, 5, 200, 0, 0, 0, 0, 64, 6]);
            frame.extend([0; 22]);
            frame.extend([0x80, 0x10]);
            frame.extend([0; 18]);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 5, 200, 17, 64]);
            frame.extend([0; 40]);
        }
        frame
    }

    #[test]
    fn what_is_built_reads_back() {
        let udp = Checksum::Partial { start: 54, offset: 6 };
        let cut = |kind| Some(Segmentation { kind, size: 1_000 });
        let cases = [
            (4, Checksum::Complete, None),
            (4, Checksum::Verified, None),
            (4, PARTIAL, None),
            (4, PARTIAL, cut(TCP)),
            (4, PARTIAL, cut(SegmentationKind::Tcp { ecn: true })),
            (6, udp, cut(SegmentationKind::Udp)),
        ];
        for (version, checksum, segmentation) in cases {
            let offload = Offload { checksum, segmentation };
            let built = build(&frame(version), 5_000, offload).unwrap();
            assert_eq!(parse(&built, 5_000, 0), Ok(offload));
        }
        let built = build(&frame(4), 5_000, Offload { checksum: PARTIAL, segmentation: cut(TCP) }).unwrap();
        assert_eq!((built[1], u16::from_ne_bytes([built[2], built[3]])), (GSO_TCPV4, 34 + 32));
        let built =
            build(&frame(6), 5_000, Offload { checksum: udp, segmentation: cut(SegmentationKind::Udp) });
        assert_eq!(u16::from_ne_bytes([built.unwrap()[2], built.unwrap()[3]]), 54 + 8);
    }

    #[test]
    fn what_the_frame_contradicts_is_not_built() {
        let cut = |kind| Some(Segmentation { kind, size: 1_000 });
        let elsewhere = Checksum::Partial { start: 38, offset: 16 };
        let cases = [
            (5_000, Checksum::Complete, cut(TCP)),
            (5_000, Checksum::Verified, cut(TCP)),
            (5_000, PARTIAL, cut(SegmentationKind::Udp)),
            (5_000, elsewhere, cut(TCP)),
            (51, PARTIAL, None),
            (5_000, Checksum::Partial { start: u16::MAX, offset: u16::MAX }, None),
        ];
        for (length, checksum, segmentation) in cases {
            let refused = build(&frame(4), length, Offload { checksum, segmentation });
            assert_eq!(refused, Err(Malformed), "{length} {checksum:?} {segmentation:?}");
        }
        let offload = Offload { checksum: PARTIAL, segmentation: cut(TCP) };
        assert_eq!(
            build(&frame(4)[..60], 5_000, offload),
            Err(Malformed),
            "the header is not in the first segment"
        );
    }
}
