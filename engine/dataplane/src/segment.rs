//! Software for what a device cannot do: completing checksums, and cutting large packets into frames.
//!
//! It works on a frame as it is to leave, of either IP version, in one place: just before a port. The Partial checksum of
//! a packet that is to be cut is the sum of its pseudo-header with the length of the whole packet, as Linux has it.

use crate::drop::DropReason;
use crate::header::contiguous;
use crate::offload::write_word;
use crate::packet::{Checksum, Offload, Packet, Pool, Segmentation, SegmentationKind};
use crate::pieces;
use crate::wire::checksum::{Sum, nonzero, sum_of_pieces};
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{ipv4, ipv6, protocol, tcp, udp};

/// What a transmit queue does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Completes partial checksums.
    pub checksum: bool,
    /// Cuts TCP over IPv4 and IPv6, and completes the checksums of the segments.
    pub tcp_segmentation: bool,
    /// Cuts UDP over IPv4 and IPv6, and completes the checksums of the segments.
    pub udp_segmentation: bool,
}

/// Does to `packet` what a queue with `capabilities` cannot, and gives what is to be sent to `emit`, in order.
///
/// # Errors
/// Why the packet is lost; with [`DropReason::NoBuffer`] its first frames may have been emitted.
pub fn finish<K: Pool>(
    pool: &K,
    capabilities: Capabilities,
    mut packet: K::Packet,
    mut emit: impl FnMut(K::Packet),
) -> Result<(), DropReason> {
    let offload = packet.offload();
    if let Some(segmentation) = offload.segmentation {
        let can = match segmentation.kind {
            SegmentationKind::Tcp { .. } => capabilities.tcp_segmentation,
            SegmentationKind::Udp => capabilities.udp_segmentation,
        };
        if !can {
            return cut(pool, capabilities, packet, segmentation, emit);
        }
    } else if let Checksum::Partial { start, offset } = offload.checksum
        && !capabilities.checksum
    {
        complete(&mut packet, usize::from(start), usize::from(offset))?;
    }
    emit(packet);
    Ok(())
}

/// Completes a partial checksum in place.
pub(crate) fn complete(packet: &mut impl Packet, start: usize, offset: usize) -> Result<(), DropReason> {
    contiguous(packet, start + offset + 2).map_err(|_| DropReason::OffloadInvalid)?;
    let sum = sum_of_pieces(packet.segments(), start);
    // The field is part of the sum: it brings the pseudo-header in. UDP must not have zero, and to the others both
    // zeros are the same.
    write_word(packet, start + offset, nonzero(sum.checksum()))?;
    packet.set_offload(Offload::default());
    Ok(())
}

/// The most that the headers of one frame can have: Ethernet, IPv4 and TCP with all options.
const HEADERS: usize = ethernet::LENGTH + 60 + 60;

/// The headers that each frame gets, and where they lie in it.
#[derive(Clone, Copy)]
struct Headers {
    bytes: [u8; HEADERS],
    length: usize,
    transport: usize,
    version: Version,
    /// The sum of both addresses and the protocol.
    pseudo: Sum,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Four { identification: u16 },
    Six,
}

/// Cuts `packet` into frames.
fn cut<K: Pool>(
    pool: &K,
    capabilities: Capabilities,
    mut packet: K::Packet,
    segmentation: Segmentation,
    mut emit: impl FnMut(K::Packet),
) -> Result<(), DropReason> {
    let headers = read(&mut packet, segmentation.kind)?;
    let size = usize::from(segmentation.size.max(1));
    let total = packet.len() - headers.length;
    let mut payload = pieces::behind(&packet, headers.length);
    let frames = total.div_ceil(size).max(1);
    for index in 0..frames {
        let length = size.min(total - index * size);
        let mut frame = pool.allocate().ok_or(DropReason::NoBuffer)?;
        let bytes = headers.bytes.get(..headers.length).unwrap_or(&[]);
        frame.append(bytes).map_err(|_| DropReason::SegmentsUnsupported)?;
        payload.copy_to(pool, &mut frame, length)?;
        let place = Place { index, first: index == 0, last: index + 1 == frames, size, length };
        adjust(&mut frame, &headers, segmentation.kind, &place)?;
        let offset = match segmentation.kind {
            SegmentationKind::Tcp { .. } => tcp::CHECKSUM,
            SegmentationKind::Udp => udp::CHECKSUM,
        };
        let checksum = Checksum::Partial { start: headers.transport as u16, offset };
        frame.set_offload(Offload { checksum, segmentation: None });
        if !capabilities.checksum {
            complete(&mut frame, headers.transport, usize::from(offset))?;
        }
        emit(frame);
    }
    Ok(())
}

/// Which of the frames it is.
struct Place {
    index: usize,
    first: bool,
    last: bool,
    /// Payload bytes of every frame but the last.
    size: usize,
    /// Payload bytes of this one.
    length: usize,
}

/// Reads the headers of a packet that is to be cut.
fn read(packet: &mut impl Packet, kind: SegmentationKind) -> Result<Headers, DropReason> {
    const INVALID: DropReason = DropReason::OffloadInvalid;
    contiguous(packet, ethernet::LENGTH)?;
    let length = packet.len();
    contiguous(packet, length.min(HEADERS))?;
    let (frame, rest) = packet.head().split_at_checked(ethernet::LENGTH).ok_or(INVALID)?;
    let frame = ethernet::Header::new_checked(frame).map_err(|_| INVALID)?;
    let (transport, number, version, addresses) = match frame.ethertype() {
        ethertype::IPV4 => {
            let header = ipv4::Header::new_checked(rest).map_err(|_| INVALID)?;
            let sum =
                Sum::ZERO.add_bytes(&header.source().octets()).add_bytes(&header.destination().octets());
            let version = Version::Four { identification: header.identification() };
            (header.length(), header.protocol(), version, sum)
        }
        ethertype::IPV6 => {
            let header = ipv6::Header::new_checked(rest).map_err(|_| INVALID)?;
            let sum =
                Sum::ZERO.add_bytes(&header.source().octets()).add_bytes(&header.destination().octets());
            (ipv6::LENGTH, header.next_header(), Version::Six, sum)
        }
        _ => return Err(INVALID),
    };
    let bytes = rest.get(transport..).ok_or(INVALID)?;
    let transport = ethernet::LENGTH + transport;
    let transport_length = match (kind, number) {
        (SegmentationKind::Tcp { .. }, protocol::TCP) => {
            tcp::Header::new_checked(bytes, length - transport).map_err(|_| INVALID)?.length()
        }
        (SegmentationKind::Udp, protocol::UDP) if bytes.len() >= udp::LENGTH => udp::LENGTH,
        _ => return Err(INVALID),
    };
    let mut headers = Headers {
        bytes: [0; HEADERS],
        length: transport + transport_length,
        transport,
        version,
        pseudo: addresses.add(u16::from(number)),
    };
    let from = packet.head().get(..headers.length).ok_or(INVALID)?;
    headers.bytes.get_mut(..headers.length).ok_or(INVALID)?.copy_from_slice(from);
    Ok(headers)
}

/// Makes the copied headers the frame's own; the checksum field holds the pseudo-header's sum.
fn adjust(
    frame: &mut impl Packet,
    headers: &Headers,
    kind: SegmentationKind,
    place: &Place,
) -> Result<(), DropReason> {
    const SHORT: DropReason = DropReason::SegmentsUnsupported;
    let datagram = headers.length - headers.transport + place.length;
    let (network, transport) = frame.head_mut().split_at_mut_checked(headers.transport).ok_or(SHORT)?;
    let network = network.get_mut(ethernet::LENGTH..).ok_or(SHORT)?;
    match headers.version {
        Version::Four { identification } => {
            let total_length = network.len() + datagram;
            let identification = identification.wrapping_add(place.index as u16);
            set_word(network, 2, total_length as u16)?;
            set_word(network, 4, identification)?;
            set_word(network, 10, 0)?;
            let checksum = Sum::ZERO.add_bytes(network).checksum();
            set_word(network, 10, checksum)?;
        }
        Version::Six => set_word(network, 4, datagram as u16)?,
    }
    let sum = headers.pseudo.add(datagram as u16).fold();
    match kind {
        SegmentationKind::Tcp { .. } => {
            let header: &mut [u8; tcp::LENGTH] = transport.first_chunk_mut().ok_or(SHORT)?;
            let view = tcp::Header::new_checked(header, usize::MAX).map_err(|_| SHORT)?;
            let (sequence, mut flags) = (view.sequence(), view.flags());
            if !place.first {
                flags &= !tcp::flag::CWR;
            }
            if !place.last {
                flags &= !(tcp::flag::FIN | tcp::flag::PSH);
            }
            tcp::set_sequence(header, sequence.wrapping_add((place.index * place.size) as u32));
            tcp::set_flags(header, flags);
            set_word(header, usize::from(tcp::CHECKSUM), sum)
        }
        SegmentationKind::Udp => {
            let header: &mut [u8; udp::LENGTH] = transport.first_chunk_mut().ok_or(SHORT)?;
            udp::set_length(header, datagram as u16);
            set_word(header, usize::from(udp::CHECKSUM), sum)
        }
    }
}

fn set_word(bytes: &mut [u8], place: usize, word: u16) -> Result<(), DropReason> {
    let field = bytes.get_mut(place..).and_then(|bytes| bytes.first_chunk_mut::<2>());
    *field.ok_or(DropReason::SegmentsUnsupported)? = word.to_be_bytes();
    Ok(())
}
