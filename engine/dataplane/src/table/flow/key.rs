//! What tells a flow from others: its virtual network, its two ends, and its protocol.

use crate::id::VnetId;
use crate::table::mapping::Hasher;
use core::fmt;
use core::net::Ipv4Addr;

/// One end of a flow: an address, and a port; for ICMP echo, the identifier in the place of both ports; for protocols
/// without ports, 0.
pub type End = (Ipv4Addr, u16);

/// A key of the flow table, the same for both directions: the ends are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// vnet, 24 bits; protocol, 8; the lower end's address, 32. Then the higher end's address and both ports. Never 0,
    /// since no vnet is.
    words: [u64; 2],
}

/// Which way a packet of a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the lower end to the higher.
    Up,
    /// From the higher end to the lower.
    Down,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

impl FlowKey {
    /// The key of a packet from `source` to `destination`, and its direction. `protocol` is IPv4's number.
    #[inline]
    #[must_use]
    pub fn new(vnet: VnetId, protocol: u8, source: End, destination: End) -> (Self, Direction) {
        let rank = |end: End| u64::from(end.0.to_bits()) << 16 | u64::from(end.1);
        let (source, destination) = (rank(source), rank(destination));
        let (low, high, direction) = if source <= destination {
            (source, destination, Direction::Up)
        } else {
            (destination, source, Direction::Down)
        };
        let kind = u64::from(vnet.get()) << 8 | u64::from(protocol);
        // high is an address and a port, 48 bits, and makes room for the lower end's port.
        let words = [kind << 32 | low >> 16, high << 16 | (low & 0xffff)];
        (Self { words }, direction)
    }

    /// The virtual network's id, as a number.
    #[must_use]
    pub const fn vnet(self) -> u32 {
        let [kind, _] = self.words;
        (kind >> 40) as u32
    }

    /// The protocol, as IPv4 numbers it.
    #[inline]
    #[must_use]
    pub const fn protocol(self) -> u8 {
        let [kind, _] = self.words;
        (kind >> 32) as u8
    }

    /// The ends, the lower one first.
    #[must_use]
    pub const fn ends(self) -> [End; 2] {
        let [low, high] = self.words;
        [
            (Ipv4Addr::from_bits(low as u32), high as u16),
            (Ipv4Addr::from_bits((high >> 32) as u32), (high >> 16) as u16),
        ]
    }

    /// The words that lie in the table.
    #[inline(always)]
    pub(super) const fn words(self) -> [u64; 2] {
        self.words
    }

    #[inline(always)]
    pub(super) const fn from_words(words: [u64; 2]) -> Self {
        Self { words }
    }

    /// A keyed hash; the same for both directions, since the key is.
    #[inline(always)]
    pub(super) const fn hash(self, hasher: &Hasher) -> u64 {
        hasher.hash_two(self.words)
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(low, low_port), (high, high_port)] = self.ends();
        write!(f, "({}, {}, {low}:{low_port}, {high}:{high_port})", self.vnet(), self.protocol())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_directions_have_one_key_which_holds_all_that_it_was_made_of(
            vnet in 1u32..=0xff_ffff,
            protocol: u8,
            source: (u32, u16),
            destination: (u32, u16),
        ) {
            let end = |(address, port)| (Ipv4Addr::from_bits(address), port);
            let (source, destination) = (end(source), end(destination));
            let vnet_id = VnetId::new(vnet).unwrap();
            let (key, direction) = FlowKey::new(vnet_id, protocol, source, destination);
            let (back, reverse) = FlowKey::new(vnet_id, protocol, destination, source);
            prop_assert_eq!(key, back);
            if source != destination {
                prop_assert_eq!(direction, reverse.reverse());
            }
            prop_assert_eq!((key.vnet(), key.protocol()), (vnet, protocol));
            let [low, high] = key.ends();
            let ends = if direction == Direction::Up { (low, high) } else { (high, low) };
            prop_assert_eq!(ends, (source, destination));
            let hasher = Hasher::new([1, 2]);
            prop_assert_eq!(key.hash(&hasher), back.hash(&hasher));
        }
    }

    #[test]
    fn a_packet_to_its_own_sender_has_one_direction() {
        let end = (Ipv4Addr::LOCALHOST, 7);
        assert_eq!(FlowKey::new(VnetId::MIN, 17, end, end).1, Direction::Up);
    }
}
