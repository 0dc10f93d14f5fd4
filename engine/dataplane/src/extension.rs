//! IPv6 extension headers (RFC 8200, 4): those that mean nothing to IPv4 are skipped, the others refused.

use crate::drop::DropReason;
use crate::header::{Fragment, NetworkHeader, contiguous};
use crate::offload;
use crate::packet::Packet;
use crate::plain::Plain;
use crate::wire::checksum::Sum;
use crate::wire::{ethernet, fragment, protocol};
use core::net::Ipv6Addr;

/// How many extension headers a packet may have. Each kind is to occur once, destination options twice (RFC 8200,
/// 4.1), so real packets have far fewer.
pub(crate) const MOST: usize = 8;

/// Bytes of the part that all extension headers begin with and that is read here.
const FIXED: usize = 8;

/// Reads what follows the fixed IPv6 header of a frame, whose source and destination are `ends`: `header` moves behind the
/// extension headers, and the packet's [`Offload`](crate::packet::Offload) is brought in agreement with it. Says as well
/// whether the packet is plain.
pub(crate) fn read(
    packet: &mut impl Packet,
    header: NetworkHeader,
    (source, destination): (Ipv6Addr, Ipv6Addr),
) -> Result<(NetworkHeader, Option<Plain>), DropReason> {
    let NetworkHeader { protocol, transport, payload, ttl, .. } = header;
    if ttl > 1
        && let Some(plain) = Plain::read(packet, protocol, transport, payload)
    {
        return Ok((header, Some(plain)));
    }
    let header = skip(packet, header)?;
    let addresses = || Sum::ZERO.add_bytes(&source.octets()).add_bytes(&destination.octets());
    let transport_length = offload::settle(packet, header, addresses)?;
    Ok((NetworkHeader { transport_length, ..header }, None))
}

/// Moves `header` behind the extension headers of the frame: protocol, place and length are those of the transport, or
/// of the fragment's part of the datagram.
#[inline(always)]
fn skip(packet: &mut impl Packet, header: NetworkHeader) -> Result<NetworkHeader, DropReason> {
    let NetworkHeader { protocol, transport, payload, .. } = header;
    if !protocol::is_extension_header(protocol) {
        return Ok(header);
    }
    // Only what changes goes to the walk and comes back: a header whose address is taken would be written to memory for
    // every packet, field by field, and be read again in larger pieces, which the processor has to wait for.
    let begin = Chain { protocol, transport, payload, live_route: 0, fragment: None };
    let Chain { protocol, transport, payload, live_route, fragment } = walk(packet, begin)?;
    Ok(NetworkHeader { protocol, transport, payload, live_route, fragment, ..header })
}

/// How far the walk has come; the fields are [`NetworkHeader`]'s.
struct Chain {
    protocol: u8,
    transport: usize,
    payload: u16,
    live_route: u16,
    fragment: Option<Fragment>,
}

#[cold]
#[inline(never)]
fn walk(packet: &mut impl Packet, mut chain: Chain) -> Result<Chain, DropReason> {
    for index in 0..=MOST {
        match chain.protocol {
            protocol::HOP_BY_HOP if index > 0 => return Err(DropReason::ExtensionHeaderChain),
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS | protocol::ROUTING => {}
            protocol::FRAGMENT => return fragment(packet, chain),
            protocol::AUTHENTICATION => return Err(DropReason::AuthenticationHeader),
            other if protocol::is_extension_header(other) => {
                return Err(DropReason::ExtensionHeaderUnsupported);
            }
            _ => return Ok(chain),
        }
        let [next, units, _, left, ..] = chain.fixed(packet)?;
        if chain.protocol == protocol::ROUTING && left != 0 && chain.live_route == 0 {
            // The fourth octet is the count of segments left.
            chain.live_route = (chain.transport + 3 - ethernet::LENGTH) as u16;
        }
        chain.advance(next, FIXED + usize::from(units) * 8)?;
    }
    Err(DropReason::ExtensionHeaderChain)
}

/// The fragment header (RFC 8200, 4.5) ends the walk: what follows is in the first fragment only. RFC 7915, 5.1.1 drops
/// fragments that continue with an extension header.
fn fragment(packet: &mut impl Packet, mut chain: Chain) -> Result<Chain, DropReason> {
    let bytes = chain.fixed(packet)?;
    let view = fragment::Header::new_checked(&bytes).map_err(|_| DropReason::ExtensionHeaderChain)?;
    let next = view.next_header();
    match next {
        protocol::AUTHENTICATION => return Err(DropReason::AuthenticationHeader),
        other if protocol::is_extension_header(other) => return Err(DropReason::ExtensionHeaderUnsupported),
        _ => {}
    }
    chain.fragment = Some(Fragment {
        identification: view.identification(),
        offset: view.offset(),
        more: view.more_fragments(),
    });
    chain.advance(next, FIXED)?;
    Ok(chain)
}

impl Chain {
    /// The first eight bytes of the extension header that it has come to.
    fn fixed(&self, packet: &mut impl Packet) -> Result<[u8; FIXED], DropReason> {
        if usize::from(self.payload) < FIXED {
            return Err(DropReason::ExtensionHeaderChain);
        }
        contiguous(packet, self.transport + FIXED)?;
        let bytes = packet.head().get(self.transport..).and_then(|bytes| bytes.first_chunk());
        bytes.copied().ok_or(DropReason::SegmentsUnsupported)
    }

    /// Goes on to the header behind one of `bytes` bytes.
    fn advance(&mut self, next: u8, bytes: usize) -> Result<(), DropReason> {
        let left = usize::from(self.payload).checked_sub(bytes).ok_or(DropReason::ExtensionHeaderChain)?;
        self.payload = left as u16;
        self.transport += bytes;
        self.protocol = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::HeapPool;
    use crate::header::read_ipv6;
    use crate::wire::ipv6;

    /// A packet with these extension headers in front of 12 bytes of `last`.
    fn walked(first: u8, headers: &[&[u8]]) -> Result<NetworkHeader, DropReason> {
        let body: Vec<u8> = headers.concat().into_iter().chain([0xee; 12]).collect();
        let mut frame = vec![0; ethernet::LENGTH + ipv6::LENGTH];
        let fields = ipv6::Fields {
            traffic_class: 0,
            payload_length: body.len() as u16,
            next_header: first,
            hop_limit: 64,
            source: "fd00::1".parse().unwrap(),
            destination: "fd00::2".parse().unwrap(),
        };
        fields.emit(frame[ethernet::LENGTH..].first_chunk_mut().unwrap());
        frame.extend(body);
        for cut in 0..frame.len() {
            let mut packet = HeapPool::default().packet_of([&frame[..cut], &frame[cut..]]).unwrap();
            let (header, ..) = read_ipv6(&mut packet).unwrap();
            let result = skip(&mut packet, header);
            if cut + 1 == frame.len() {
                return result;
            }
        }
        unreachable!()
    }

    const OPTIONS_8: &[u8] = &[17, 0, 1, 4, 0, 0, 0, 0];

    fn then(next: u8, header: &[u8]) -> Vec<u8> {
        let mut header = header.to_vec();
        header[0] = next;
        header
    }

    #[test]
    fn headers_without_meaning_for_ipv4_are_skipped() {
        let long: &[u8] = &[&[17, 1, 1, 12][..], &[0; 12]].concat();
        let header = walked(0, &[&then(60, OPTIONS_8), &then(43, long), &[17, 0, 4, 0, 0, 0, 0, 0]]).unwrap();
        assert_eq!((header.protocol, header.payload, header.live_route), (17, 12, 0));
        assert_eq!(header.transport, 14 + 40 + 8 + 16 + 8);
        assert_eq!(walked(17, &[]).unwrap().transport, 54);
    }

    #[test]
    fn routing_header_with_segments_left_is_remembered_with_its_place() {
        let header = walked(60, &[&then(43, OPTIONS_8), &[17, 0, 4, 2, 0, 0, 0, 0]]).unwrap();
        assert_eq!(header.live_route, 40 + 8 + 3);
    }

    #[test]
    fn fragment_header_is_read_and_ends_the_walk() {
        let header = walked(44, &[&[6, 0, 0x05, 0xa9, 1, 2, 3, 4]]).unwrap();
        let fragment = Fragment { identification: 0x0102_0304, offset: 181, more: true };
        assert_eq!((header.fragment, header.protocol, header.payload), (Some(fragment), 6, 12));
        assert!(header.part().is_some());
        let atomic = walked(44, &[&[6, 0, 0, 0, 1, 2, 3, 4]]).unwrap();
        assert!(atomic.fragment.is_some() && atomic.part().is_none());
        let refused = walked(44, &[&then(60, &[0; 8]), OPTIONS_8]);
        assert_eq!(refused.unwrap_err(), DropReason::ExtensionHeaderUnsupported);
    }

    #[test]
    fn what_cannot_be_skipped_is_named() {
        let refused = |first, headers: &[&[u8]]| walked(first, headers).unwrap_err();
        assert_eq!(refused(51, &[]), DropReason::AuthenticationHeader);
        assert_eq!(refused(60, &[&then(51, OPTIONS_8)]), DropReason::AuthenticationHeader);
        assert_eq!(refused(44, &[&[51, 0, 0, 0, 0, 0, 0, 1]]), DropReason::AuthenticationHeader);
        for number in [135, 139, 140] {
            assert_eq!(refused(number, &[]), DropReason::ExtensionHeaderUnsupported);
        }
        assert_eq!(refused(60, &[&then(0, OPTIONS_8), OPTIONS_8]), DropReason::ExtensionHeaderChain);
        let nine: Vec<Vec<u8>> = (0..8).map(|_| then(60, OPTIONS_8)).chain([OPTIONS_8.to_vec()]).collect();
        let nine: Vec<&[u8]> = nine.iter().map(AsRef::as_ref).collect();
        assert_eq!(refused(60, &nine), DropReason::ExtensionHeaderChain);
        assert!(walked(60, &nine[1..]).is_ok());
    }

    #[test]
    fn chain_that_is_cut_off_is_refused() {
        for length in 1..=3 {
            let beyond = [17, length, 1, 4, 0, 0, 0, 0];
            let fits = usize::from(length) * 8 <= 12;
            assert_eq!(walked(60, &[&beyond]).is_ok(), fits, "{length}");
        }
        // A second header of which only four bytes are there.
        let refused = walked(60, &[&[60, 1, 1, 4, 0, 0, 0, 0]]).unwrap_err();
        assert_eq!(refused, DropReason::ExtensionHeaderChain);
    }
}
