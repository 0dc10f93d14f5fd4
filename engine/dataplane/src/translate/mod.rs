//! Stateless translation between IPv4 and IPv6 (RFC 7915).
//!
//! The addresses on both sides end in the same 32 bits, and protocol and length are the same in both pseudo-headers,
//! so a transport checksum changes by the sums of the two locators and nothing else.

pub(crate) mod answer;
mod four_to_six;
pub(crate) mod icmp;
mod map;
pub(crate) mod message;
mod mss;
pub(crate) mod reset;
mod settings;
mod six_to_four;
mod standalone;
mod transport;

pub(crate) use four_to_six::{Ends, PlainWay, WayOut, four_to_six};
pub use map::{AddressMap, MapError};
pub(crate) use message::{quoted_ends, replace};
pub use settings::{RouterSource, Settings};
pub(crate) use six_to_four::{FormerEnds, Identifications, LastHop, PlainHop, six_to_four};
pub use standalone::{Options, Side, Translator};

use crate::drop::DropReason;
use crate::header::contiguous;
use crate::packet::{Checksum, Offload, Packet, Segmentation};
use crate::plain::Plain;

/// What has become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// It may leave.
    Whole,
    /// It is to be cut into fragments of at most `mtu` bytes: in IPv6 it has the fragment header for it, in IPv4 DF is
    /// clear.
    Cut { mtu: u16 },
}

/// What is left to be done, when the transport header begins at `transport`.
#[inline]
fn settle(packet: &mut impl Packet, transport: usize, segmentation: Option<Segmentation>) {
    let checksum = match packet.offload().checksum {
        Checksum::Partial { offset, .. } => Checksum::Partial { start: transport as u16, offset },
        checksum => checksum,
    };
    packet.set_offload(Offload { checksum, segmentation });
}

/// [`settle`] of a packet that is not to be cut: there is something to be done only if a checksum is left to a device.
#[inline(always)]
fn settle_plain(packet: &mut impl Packet, transport: usize, plain: Plain) {
    if plain.partial {
        settle(packet, transport, None);
    }
}

/// Replaces the first `old` bytes of the packet by `NEW` bytes in headroom, to be written.
#[inline]
fn replace_front<const NEW: usize>(
    packet: &mut impl Packet,
    old: usize,
) -> Result<&mut [u8; NEW], DropReason> {
    // Extension headers were read one by one; what is in front of the transport may still lie in several segments.
    contiguous(packet, old)?;
    match NEW.checked_sub(old) {
        Some(more) => packet.prepend(more).map_err(|_| DropReason::NoHeadroom)?,
        None => packet.trim_front(old - NEW).map_err(|_| DropReason::SegmentsUnsupported)?,
    }
    packet.head_mut().first_chunk_mut().ok_or(DropReason::SegmentsUnsupported)
}
