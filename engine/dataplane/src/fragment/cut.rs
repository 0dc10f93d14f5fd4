//! Cutting a packet into fragments that fit a link.
//!
//! Payload is copied, from wherever it lies, into buffers of the pool; a packet that fits goes on as it is. What is
//! cut may be a fragment itself: the places in its datagram go on from its own.

use crate::drop::DropReason;
use crate::header::contiguous;
use crate::packet::{Checksum, NoRoom, Packet, Pool};
use crate::wire::checksum::Sum;
use crate::wire::{ethernet, fragment, ipv4, ipv6, protocol};
use crate::{pieces, segment};
use arrayvec::ArrayVec;

/// Fragments of a datagram lie at multiples of so many bytes.
const UNIT: usize = 8;

/// The payload that is to be cut, and where it lies.
struct Payload {
    /// Its first byte in the frame.
    start: usize,
    /// Its bytes.
    length: usize,
    /// Where it lies in its datagram, in units of eight bytes.
    offset: u16,
    /// Whether more fragments of its datagram lie behind it.
    more: bool,
}

/// One of the pieces that a payload is cut into.
struct Piece {
    /// Whether it is the first of them.
    first: bool,
    /// Its bytes.
    length: usize,
    /// As in [`Payload`], and always the piece's own.
    offset: u16,
    more: bool,
}

/// Cuts an Ethernet frame with an IPv4 packet into fragments of at most `mtu` bytes from the IPv4 header on (RFC 791,
/// 3.2), emitted in order. The packet must be one that may be cut: the fragments' DF is 0. `mtu` must leave room for
/// eight bytes behind the packet's header.
///
/// # Errors
/// Why the packet is lost; with [`DropReason::NoBuffer`] its first fragments may have been emitted.
pub(crate) fn four<K: Pool>(
    pool: &K,
    mut packet: K::Packet,
    mtu: u16,
    mut emit: impl FnMut(K::Packet),
) -> Result<(), DropReason> {
    const MALFORMED: DropReason = DropReason::Ipv4Malformed;
    let length = packet.len();
    contiguous(&mut packet, length.min(ethernet::LENGTH + ipv4::MAX_LENGTH))?;
    let bytes = packet.head().get(ethernet::LENGTH..).unwrap_or(&[]);
    let header = ipv4::Header::new_checked(bytes).map_err(|_| MALFORMED)?;
    let total_length = usize::from(header.total_length());
    if total_length <= usize::from(mtu) {
        emit(packet);
        return Ok(());
    }
    let payload = Payload {
        start: ethernet::LENGTH + header.length(),
        length: total_length - header.length(),
        offset: header.fragment_offset(),
        more: header.more_fragments(),
    };
    let (frame, rest) = packet.head().split_first_chunk::<{ ethernet::LENGTH }>().ok_or(MALFORMED)?;
    let (frame, mut fixed): (_, [u8; ipv4::LENGTH]) = (*frame, *rest.first_chunk().ok_or(MALFORMED)?);
    let options: ArrayVec<u8, 40> =
        bytes.get(ipv4::LENGTH..header.length()).unwrap_or(&[]).iter().copied().collect();
    let copied = header.copied_options();
    settle(&mut packet, ethernet::LENGTH + total_length)?;

    let rooms =
        [&options, &copied].map(|options| usize::from(mtu).saturating_sub(ipv4::LENGTH + options.len()));
    cut(pool, &packet, &payload, rooms, emit, |fragment, piece| {
        let options = if piece.first { &options } else { &copied };
        let length = ipv4::LENGTH + options.len();
        // A header has 20 to 60 bytes.
        [fixed[0], ..] = [0x40 | (length / 4) as u8];
        ipv4::set_fragment(&mut fixed, (length + piece.length) as u16, piece.more, piece.offset);
        ipv4::set_checksum(&mut fixed, 0);
        let sum = Sum::ZERO.add_bytes(&fixed).add_bytes(options);
        ipv4::set_checksum(&mut fixed, sum.checksum());
        fragment.append(&frame)?;
        fragment.append(&fixed)?;
        fragment.append(options)
    })
}

/// Cuts an Ethernet frame with an IPv6 packet, whose fragment header follows the fixed one directly, into fragments of at
/// most `mtu` bytes from the IPv6 header on (RFC 8200, 4.5), emitted in order. `mtu` must leave room for eight bytes
/// behind both headers.
///
/// # Errors
/// Why the packet is lost; with [`DropReason::NoBuffer`] its first fragments may have been emitted.
pub(crate) fn six<K: Pool>(
    pool: &K,
    mut packet: K::Packet,
    mtu: u16,
    mut emit: impl FnMut(K::Packet),
) -> Result<(), DropReason> {
    const MALFORMED: DropReason = DropReason::Ipv6Malformed;
    const HEADERS: usize = ipv6::LENGTH + fragment::LENGTH;
    contiguous(&mut packet, ethernet::LENGTH + HEADERS)?;
    let bytes = packet.head().get(ethernet::LENGTH..).unwrap_or(&[]);
    let header = ipv6::Header::new_checked(bytes).map_err(|_| MALFORMED)?;
    let payload_length = usize::from(header.payload_length());
    if header.next_header() != protocol::FRAGMENT || payload_length < fragment::LENGTH {
        return Err(MALFORMED);
    }
    if ipv6::LENGTH + payload_length <= usize::from(mtu) {
        emit(packet);
        return Ok(());
    }
    let bytes = bytes.get(ipv6::LENGTH..).unwrap_or(&[]);
    let header = fragment::Header::new_checked(bytes).map_err(|_| MALFORMED)?;
    let payload = Payload {
        start: ethernet::LENGTH + HEADERS,
        length: payload_length - fragment::LENGTH,
        offset: header.offset(),
        more: header.more_fragments(),
    };
    let (next_header, identification) = (header.next_header(), header.identification());
    let (frame, rest) = packet.head().split_first_chunk::<{ ethernet::LENGTH }>().ok_or(MALFORMED)?;
    let (frame, mut fixed): (_, [u8; ipv6::LENGTH]) = (*frame, *rest.first_chunk().ok_or(MALFORMED)?);
    settle(&mut packet, ethernet::LENGTH + ipv6::LENGTH + payload_length)?;

    let rooms = [usize::from(mtu).saturating_sub(HEADERS); 2];
    cut(pool, &packet, &payload, rooms, emit, |fragment, piece| {
        // No more than the payload that is cut had.
        ipv6::set_payload_length(&mut fixed, (fragment::LENGTH + piece.length) as u16);
        let fields = fragment::Fields {
            next_header,
            offset: piece.offset,
            more_fragments: piece.more,
            identification,
        };
        let mut header = [0; fragment::LENGTH];
        fields.emit(&mut header);
        fragment.append(&frame)?;
        fragment.append(&fixed)?;
        fragment.append(&header)
    })
}

/// Cuts padding off, and completes what a device was to do: no device can complete a checksum over several frames.
fn settle(packet: &mut impl Packet, length: usize) -> Result<(), DropReason> {
    if packet.len() < length {
        return Err(DropReason::FrameTruncated);
    }
    packet.truncate(length);
    let offload = packet.offload();
    if offload.segmentation.is_some() {
        // It is to be cut into segments first; each may then be cut here.
        return Err(DropReason::OffloadInvalid);
    }
    if let Checksum::Partial { start, offset } = offload.checksum {
        segment::complete(packet, usize::from(start), usize::from(offset))?;
    }
    Ok(())
}

/// Emits the pieces of `payload`, each behind what `front` writes. `rooms` is how many bytes of payload the first one and
/// the others can have.
fn cut<K: Pool>(
    pool: &K,
    packet: &K::Packet,
    payload: &Payload,
    rooms: [usize; 2],
    mut emit: impl FnMut(K::Packet),
    mut front: impl FnMut(&mut K::Packet, &Piece) -> Result<(), NoRoom>,
) -> Result<(), DropReason> {
    let end = usize::from(payload.offset) * UNIT + payload.length;
    if end > usize::from(u16::MAX) || payload.more && !payload.length.is_multiple_of(UNIT) {
        return Err(DropReason::FragmentMalformed);
    }
    if rooms.into_iter().any(|room| room < UNIT) {
        return Err(DropReason::PacketTooBig);
    }
    let [first, other] = rooms;
    let (mut bytes, mut done) = (pieces::behind(packet, payload.start), 0);
    while done < payload.length {
        let (room, rest) = (if done == 0 { first } else { other }, payload.length - done);
        let length = if rest <= room { rest } else { room - room % UNIT };
        let piece = Piece {
            first: done == 0,
            length,
            offset: payload.offset + (done / UNIT) as u16,
            more: payload.more || length < rest,
        };
        let mut fragment = pool.allocate().ok_or(DropReason::NoBuffer)?;
        front(&mut fragment, &piece).map_err(|NoRoom| DropReason::SegmentsUnsupported)?;
        bytes.copy_to(pool, &mut fragment, length)?;
        emit(fragment);
        done += length;
    }
    Ok(())
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
