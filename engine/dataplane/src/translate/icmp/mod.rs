//! ICMP errors: carried from one IP version to the other (RFC 7915, 4.2, 4.3, 5.2 and 5.3), and made by the engine itself.
//!
//! Everything here is a function of bytes: the message goes in from its first byte, contiguous, and a new one comes
//! out. Errors are rare, so they are built anew and not changed in place.

mod error;
mod extension;
mod generate;
mod quote;
mod tables;
#[cfg(test)]
mod tests;

pub(crate) use error::{Whole, error_to_four, error_to_six};
pub(crate) use generate::{answer_ipv4, answer_ipv6, may_answer_ipv4, may_answer_ipv6};
pub(crate) use quote::quoted_flow;
pub(crate) use tables::{Mtus, ipv4_type};

use crate::wire::checksum::Sum;
use crate::wire::{ipv4, ipv6, protocol};
use arrayvec::ArrayVec;
use core::net::{Ipv4Addr, Ipv6Addr};

/// The most bytes of an ICMPv6 error: a packet of 1,280 bytes without its IPv6 header (RFC 4443, 2.4 c).
pub(crate) const MAX_SIX: usize = 1280 - ipv6::LENGTH;
/// The most bytes of an ICMPv4 error: a packet of 576 bytes without its IPv4 header (RFC 1812, 4.3.2.3).
pub(crate) const MAX_FOUR: usize = 576 - ipv4::LENGTH;

/// The bytes of an ICMP error, from its type on.
pub(crate) type Message = ArrayVec<u8, MAX_SIX>;

/// What a virtual address is on the other side, for the addresses inside quoted packets. `None` is for addresses that
/// the receiver of the error has nothing to do with.
pub(crate) trait Correspondence {
    /// The substrate address of a virtual one.
    fn six(&self, ipv4: Ipv4Addr) -> Option<Ipv6Addr>;
    /// The virtual address of a substrate one.
    fn four(&self, ipv6: Ipv6Addr) -> Option<Ipv4Addr>;
}

/// Appends bytes to a message, as far as there is room for them.
fn append(message: &mut Message, bytes: &[u8]) {
    let fitting = bytes.get(..message.remaining_capacity()).unwrap_or(bytes);
    let _ = message.try_extend_from_slice(fitting);
}

/// The sum of ICMPv6's pseudo-header (RFC 8200, 8.1) without the message's length.
fn pseudo((source, destination): (Ipv6Addr, Ipv6Addr)) -> Sum {
    Sum::ZERO.add_bytes(&source.octets()).add_bytes(&destination.octets()).add(u16::from(protocol::ICMPV6))
}

/// Sets the checksum so that message and pseudo-header sum up to `sum`: 0xffff is right, anything else is as wrong
/// as it was before.
fn seal(message: &mut Message, pseudo: Sum, sum: u16) {
    // A message has at most 1,240 bytes.
    let checksum = pseudo.add_bytes(message).remove(sum).checksum();
    if let Some(place) = message.get_mut(2..4).and_then(|bytes| bytes.first_chunk_mut()) {
        *place = checksum.to_be_bytes();
    }
}
