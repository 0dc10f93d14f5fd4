//! One fragment: which part of its datagram it is, and whether it can be one at all.

use crate::drop::DropReason;
use crate::wire::{icmp, ipv4, protocol, tcp, udp};

/// The generic header of DCCP with its short sequence number, which holds ports and checksum (RFC 4340, 5.1).
const DCCP: usize = 12;

/// UDP-Lite has UDP's header (RFC 3828, 3.1).
const UDP_LITE: usize = udp::LENGTH;

/// A fragment that is possible by itself: a datagram with it can be complete, and if it is the first one, it holds its
/// transport header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its place in the datagram, in units of eight bytes.
    pub(super) start: u16,
    /// The end of its place, rounded up.
    pub(super) end: u16,
    /// The byte behind its last one, in the datagram.
    pub(super) bytes: u16,
    /// Whether more fragments lie behind it.
    pub(super) more: bool,
}

impl Part {
    /// Checks and wraps a fragment of `length` bytes behind its header or headers, at `offset` (in units of eight bytes)
    /// in a datagram of `number`, a protocol of either IP version.
    ///
    /// # Errors
    /// [`DropReason::FragmentMalformed`]: without bytes, or one that ends within a unit although `more` follow, or that
    /// ends behind the largest IPv4 datagram. [`DropReason::FragmentTiny`]: a first one without its whole transport
    /// header, or one that begins inside a TCP header (RFC 1858, 3.2.2).
    pub(crate) fn new_checked(number: u8, offset: u16, more: bool, length: u16) -> Result<Self, DropReason> {
        let end = u32::from(offset) * 8 + u32::from(length);
        if length == 0 || more && !length.is_multiple_of(8) || end > u32::from(ipv4::MAX_PAYLOAD) {
            return Err(DropReason::FragmentMalformed);
        }
        let tiny = match offset {
            0 => usize::from(length) < transport_header(number),
            1 => number == protocol::TCP,
            _ => false,
        };
        if tiny {
            return Err(DropReason::FragmentTiny);
        }
        Ok(Self { start: offset, end: end.div_ceil(8) as u16, bytes: end as u16, more })
    }

    pub(super) const fn is_first(self) -> bool {
        self.start == 0
    }

    /// Whether it is all of its datagram, and so has nothing to do with any other (RFC 6946).
    pub(super) const fn is_whole(self) -> bool {
        self.is_first() && !self.more
    }
}

/// The bytes of a transport header that must be in the first fragment, as translation or a rule reads them.
const fn transport_header(number: u8) -> usize {
    match number {
        protocol::TCP => tcp::LENGTH,
        protocol::UDP => udp::LENGTH,
        protocol::UDP_LITE => UDP_LITE,
        protocol::DCCP => DCCP,
        protocol::ICMP | protocol::ICMPV6 => icmp::LENGTH,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESP: u8 = 50;

    #[test]
    fn first_fragment_without_its_transport_header_is_tiny() {
        for (number, least) in [
            (protocol::TCP, 20),
            (protocol::UDP, 8),
            (protocol::UDP_LITE, 8),
            (protocol::DCCP, 12),
            (protocol::ICMP, 8),
            (protocol::ICMPV6, 8),
            (ESP, 1),
        ] {
            for length in (1..40).filter(|length| length % 8 == 0) {
                let expected = if length < least { Some(DropReason::FragmentTiny) } else { None };
                assert_eq!(Part::new_checked(number, 0, true, length).err(), expected, "{number} {length}");
                assert!(Part::new_checked(number, 2, true, length).is_ok(), "not the first");
            }
            let last = |length| Part::new_checked(number, 0, false, length).is_ok();
            assert!(last(least) && !last(least - 1), "a fragment that is all of its datagram");
        }
    }

    #[test]
    fn fragment_that_begins_inside_a_tcp_header_is_tiny() {
        assert_eq!(Part::new_checked(protocol::TCP, 1, true, 16), Err(DropReason::FragmentTiny));
        assert_eq!(Part::new_checked(protocol::TCP, 1, false, 1), Err(DropReason::FragmentTiny));
        assert!(Part::new_checked(protocol::TCP, 2, true, 16).is_ok());
        assert!(Part::new_checked(protocol::UDP, 1, true, 16).is_ok());
    }

    #[test]
    fn fragment_that_no_datagram_can_have_is_malformed() {
        let malformed = |offset, more, length| {
            Part::new_checked(protocol::UDP, offset, more, length) == Err(DropReason::FragmentMalformed)
        };
        assert!(malformed(10, true, 0) && malformed(10, false, 0) && malformed(0, true, 0));
        assert!(malformed(0, true, 12) && malformed(10, true, 7) && !malformed(10, false, 7));
        // 65,535 - 20 = 8,189 * 8 + 3: the ping of death is one byte longer.
        assert!(!malformed(8189, false, 3) && malformed(8189, false, 4) && malformed(8189, true, 8));
        assert!(malformed(8191, false, u16::MAX) && malformed(u16::MAX, false, u16::MAX));
        assert!(!malformed(8188, true, 8));
    }
}
