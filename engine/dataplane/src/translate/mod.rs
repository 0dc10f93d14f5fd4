//! Stateless translation between IPv4 and IPv6 (RFC 7915): TCP, UDP and ICMP echo with their checksums, other
//! protocols byte for byte.
//!
//! The addresses on both sides end in the same 32 bits, and protocol and length are the same in both pseudo-headers,
//! so a transport checksum changes by the sums of the two locators and nothing else. Fragments, ICMP errors, and UDP
//! without checksum are refused by name.

mod four_to_six;
mod settings;
mod six_to_four;
mod transport;

pub use settings::{RouterSource, Settings};

pub(crate) use four_to_six::{WayOut, four_to_six};
pub(crate) use six_to_four::{Identifications, LastHop, six_to_four};

use crate::drop::DropReason;
use crate::packet::Packet;

/// Replaces the first `old` bytes of the packet by `NEW` bytes in headroom, to be written.
#[inline]
fn replace_front<const NEW: usize>(
    packet: &mut impl Packet,
    old: usize,
) -> Result<&mut [u8; NEW], DropReason> {
    match NEW.checked_sub(old) {
        Some(more) => packet.prepend(more).map_err(|_| DropReason::NoHeadroom)?,
        None => packet.trim_front(old - NEW).map_err(|_| DropReason::SegmentsUnsupported)?,
    }
    packet.head_mut().first_chunk_mut().ok_or(DropReason::SegmentsUnsupported)
}
