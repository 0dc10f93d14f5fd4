//! ARP for IPv4 over Ethernet (RFC 826).

use super::WireError;
use crate::mac::MacAddr;
use core::net::Ipv4Addr;

/// Bytes of a packet.
pub const LENGTH: usize = 28;

/// Hardware type Ethernet, protocol type IPv4, their address lengths.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// What an ARP packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's hardware address.
    pub sender_mac: MacAddr,
    /// The sender's address; unspecified in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// The target's hardware address; means nothing in a request.
    pub target_mac: MacAddr,
    /// The target's address.
    pub target: Ipv4Addr,
}

impl Packet {
    /// The ARP packet at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`WireError`] for fewer bytes, another hardware or protocol type, or an operation that is neither request
    /// nor reply.
    pub fn new_checked(bytes: &[u8]) -> Result<Self, WireError> {
        let bytes: &[u8; LENGTH] = bytes.first_chunk().ok_or(WireError::Truncated)?;
        let [h0, h1, p0, p1, hlen, plen, o0, o1, addresses @ ..] = *bytes;
        let operation = match u16::from_be_bytes([o0, o1]) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(WireError::Malformed),
        };
        if [h0, h1, p0, p1, hlen, plen] != ETHERNET_IPV4 {
            return Err(WireError::Malformed);
        }
        let [a, b, c, d, e, f, s0, s1, s2, s3, g, h, i, j, k, l, t0, t1, t2, t3] = addresses;
        Ok(Self {
            operation,
            sender_mac: MacAddr([a, b, c, d, e, f]),
            sender: Ipv4Addr::new(s0, s1, s2, s3),
            target_mac: MacAddr([g, h, i, j, k, l]),
            target: Ipv4Addr::new(t0, t1, t2, t3),
        })
    }

    /// Writes the packet.
    pub fn emit(&self, bytes: &mut [u8; LENGTH]) {
        let operation: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        let fields: [&[u8]; 6] = [
            &ETHERNET_IPV4,
            &operation.to_be_bytes(),
            &self.sender_mac.0,
            &self.sender.octets(),
            &self.target_mac.0,
            &self.target.octets(),
        ];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_survives_the_wire_and_other_types_are_refused() {
        let packet = Packet {
            operation: Operation::Reply,
            sender_mac: MacAddr([2, 1, 10, 0, 0, 1]),
            sender: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MacAddr([2, 0, 0, 0, 0, 9]),
            target: Ipv4Addr::new(10, 0, 0, 9),
        };
        let mut bytes = [0; LENGTH];
        packet.emit(&mut bytes);
        assert_eq!(Packet::new_checked(&bytes), Ok(packet));
        assert_eq!(Packet::new_checked(&bytes[..27]), Err(WireError::Truncated));
        for place in 0..8 {
            let mut other = bytes;
            other[place] ^= 0x40;
            assert_eq!(Packet::new_checked(&other), Err(WireError::Malformed));
        }
    }
}
