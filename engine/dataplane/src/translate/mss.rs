//! The TCP MSS clamp: a SYN's offer is lowered to what the path carries (an option; off by default).

use super::transport::{transport, update};
use crate::drop::DropReason;
use crate::header::{NetworkHeader, contiguous};
use crate::packet::Packet;
use crate::wire::checksum::Change;
use crate::wire::tcp;

/// Options (RFC 9293, 3.2).
const END: u8 = 0;
const NOP: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
const LENGTH: u8 = 4;

/// Lowers the MSS in the SYN segment of `header` to `most`. A segment without the option stays so: its sender's peer
/// then takes 536 bytes (RFC 9293, 3.7.1), which fit every path.
#[cold]
#[inline(never)]
pub(super) fn clamp(packet: &mut impl Packet, header: &NetworkHeader, most: u16) -> Result<(), DropReason> {
    let bytes = transport(packet, header, tcp::LENGTH)?;
    let length = tcp::Header::new_checked(bytes, usize::from(header.payload));
    let length = length.map_err(|_| DropReason::TransportMalformed)?.length();
    contiguous(packet, header.transport + length)?;
    let bytes = packet.head_mut().get_mut(header.transport..).and_then(|bytes| bytes.get_mut(..length));
    let Some((place, field)) = bytes.and_then(find) else { return Ok(()) };
    let old = u16::from_be_bytes(*field);
    if old <= most {
        return Ok(());
    }
    *field = most.to_be_bytes();
    // At an odd place a word lies across two of those that are summed, which is the same with its octets swapped.
    let turned = |word: u16| if place % 2 == 0 { word } else { word.swap_bytes() };
    update(packet, header, Change::ZERO, Change::ZERO.remove(turned(old)).add(turned(most)))
}

/// The value of the MSS option and its place in the header.
fn find(header: &mut [u8]) -> Option<(usize, &mut [u8; 2])> {
    let mut place = tcp::LENGTH;
    loop {
        let [kind, length] = *header.get(place..)?.first_chunk()?;
        match (kind, length) {
            (END, _) => return None,
            (NOP, _) => place += 1,
            (MAXIMUM_SEGMENT_SIZE, LENGTH) => {
                let field = header.get_mut(place + 2..)?.first_chunk_mut()?;
                return Some((place + 2, field));
            }
            (_, length) if length < 2 => return None,
            (_, length) => place += usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::HeapPool;
    use crate::wire::checksum::Sum;
    use crate::wire::protocol;
    use core::net::Ipv4Addr;

    /// A SYN with these options, 12 in front of it, clamped to 1400; the sum of all must stay the same.
    fn clamped(options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xa5; 12];
        frame.extend([0; tcp::LENGTH]);
        frame[12 + 12] = ((tcp::LENGTH + options.len()) * 4) as u8;
        frame[12 + 13] = tcp::flag::SYN;
        frame.extend(options);
        let sum = |frame: &[u8]| Sum::ZERO.add_bytes(&frame[12..]).fold() % 0xffff;
        let mut packet = HeapPool::default().packet(&frame).unwrap();
        let header = NetworkHeader {
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::UNSPECIFIED,
            protocol: protocol::TCP,
            ttl: 64,
            traffic_class: 0,
            dont_fragment: true,
            live_route: 0,
            fragment: None,
            transport: 12,
            payload: (frame.len() - 12) as u16,
            transport_length: 0,
        };
        clamp(&mut packet, &header, 1400).unwrap();
        assert_eq!(sum(packet.head()), sum(&frame), "the checksum follows the change");
        packet.head()[12 + tcp::LENGTH..].to_vec()
    }

    #[test]
    fn larger_offer_is_lowered_at_even_and_odd_places() {
        assert_eq!(clamped(&[2, 4, 0x05, 0xb4]), [2, 4, 0x05, 0x78]);
        assert_eq!(clamped(&[1, 2, 4, 0x05, 0xb4, 0, 0, 0]), [1, 2, 4, 0x05, 0x78, 0, 0, 0]);
        assert_eq!(clamped(&[4, 2, 8, 2, 2, 4, 0xff, 0xff]), [4, 2, 8, 2, 2, 4, 0x05, 0x78]);
    }

    #[test]
    fn smaller_offer_and_none_stay() {
        for options in [&[2, 4, 0x05, 0x78][..], &[2, 4, 0x02, 0x18], &[0, 2, 4, 0xff], &[1, 1, 1, 1], &[]] {
            assert_eq!(clamped(options), options);
        }
    }

    #[test]
    fn options_that_are_broken_end_the_search() {
        for options in [&[5, 0, 2, 4][..], &[5, 1, 2, 4], &[5, 200, 2, 4], &[1, 1, 2, 4], &[2, 3, 0xff, 0xff]]
        {
            assert_eq!(clamped(options), options);
        }
    }
}
