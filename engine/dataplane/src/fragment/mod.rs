//! Fragments: cutting packets into them, and letting pass only those that a receiver can put together in one way.
//!
//! Nothing is reassembled here. The table remembers which bytes of a datagram have gone by, so that no
//! fragment writes over another, and keeps those back that come before the first one.

mod cut;
mod hold;
mod limits;
mod part;
mod queue;
mod ranges;
mod table;

pub use limits::FragmentLimits;
pub(crate) use part::Part;
pub(crate) use table::{FragmentTable, Key, Verdict};

use crate::drop::DropReason;
use crate::packet::{Packet, Pool};
use crate::wire::ethernet::{self, ethertype};
use cut::{four, six};

/// Cuts a frame, of either IP version, into fragments of at most `mtu` bytes, and gives them to `emit` in order.
///
/// # Errors
/// As of [`four`] and [`six`].
#[cold]
#[inline(never)]
pub(crate) fn cut<K: Pool>(
    pool: &K,
    packet: K::Packet,
    mtu: u16,
    emit: impl FnMut(K::Packet),
) -> Result<(), DropReason> {
    let frame = ethernet::Header::new_checked(packet.head()).map_err(|_| DropReason::FrameTruncated)?;
    match frame.ethertype() {
        ethertype::IPV4 => four(pool, packet, mtu, emit),
        _ => six(pool, packet, mtu, emit),
    }
}
