//! What ports on the kernel count, and how they go through a burst: every packet is accounted for.

use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use overlane_dataplane::packet::Packet;

use crate::queue::BURST;
use crate::{Mbuf, PortStats};

/// Bytes that one call receives before it returns: large frames take many buffers each, and other ports wait.
pub(crate) const BYTES_MAX: usize = 512 << 10;

/// Parts of memory that one system call gathers, over all packets: Linux's `UIO_MAXIOV`.
pub(crate) const PARTS_MAX: usize = 1_024;

/// Counters of the receiving worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct RxCounters {
    packets: AtomicU64,
    missed: AtomicU64,
    no_buffer: AtomicU64,
    errors: AtomicU64,
}

impl RxCounters {
    /// Adds frames that the kernel had no room for.
    pub(crate) fn add_missed(&self, frames: u64) {
        self.missed.fetch_add(frames, Ordering::Relaxed);
    }

    /// Notes how many frames the kernel has had no room for altogether.
    pub(crate) fn set_missed(&self, frames: u64) {
        self.missed.store(frames, Ordering::Relaxed);
    }
}

/// Counters of the sending worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct TxCounters {
    packets: AtomicU64,
    full: AtomicU64,
    lost: AtomicU64,
    refused: AtomicU64,
}

/// The counters as a port tells them.
pub(crate) fn stats(rx: &RxCounters, tx: &TxCounters) -> PortStats {
    PortStats {
        rx_packets: rx.packets.load(Ordering::Relaxed),
        tx_packets: tx.packets.load(Ordering::Relaxed),
        rx_missed: rx.missed.load(Ordering::Relaxed),
        rx_no_buffer: rx.no_buffer.load(Ordering::Relaxed),
        rx_errors: rx.errors.load(Ordering::Relaxed),
        tx_full: tx.full.load(Ordering::Relaxed),
        tx_lost: tx.lost.load(Ordering::Relaxed),
        tx_refused: tx.refused.load(Ordering::Relaxed),
    }
}

/// Adds to a counter, if there is something to add.
fn count(counter: &AtomicU64, by: usize) {
    if by > 0 {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}

/// Why a frame was not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The pool has too few buffers.
    NoBuffer,
    /// The frame is cut short or longer than any packet, or its metadata make no sense.
    Malformed,
}

/// What one call has received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Frames, lost ones too.
    pub(crate) frames: usize,
    /// Bytes of packets.
    pub(crate) bytes: usize,
    packets: usize,
    no_buffer: usize,
    errors: usize,
}

impl Received {
    /// Takes one frame, for which the burst has room.
    pub(crate) fn take(&mut self, frame: Result<Mbuf, Loss>, burst: &mut ArrayVec<Mbuf, BURST>) {
        self.frames += 1;
        match frame {
            Ok(packet) => {
                self.bytes += packet.len();
                self.packets += 1;
                burst.push(packet);
            }
            Err(Loss::NoBuffer) => self.no_buffer += 1,
            Err(Loss::Malformed) => self.errors += 1,
        }
    }

    /// Counts it all; gives the number of packets.
    pub(crate) fn count(self, counters: &RxCounters) -> usize {
        count(&counters.packets, self.packets);
        count(&counters.no_buffer, self.no_buffer);
        count(&counters.errors, self.errors);
        self.packets
    }
}

/// What became of the first of some packets, or of several of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// So many were sent.
    Sent(usize),
    /// Nothing happened: to be tried again.
    Again,
    /// There is no room for it now.
    Full,
    /// So many were lost by the device.
    Lost(usize),
    /// The first cannot be sent by this device.
    Refused,
}

/// Sends packets from the front by `step`, which is given those that are left, until all are gone or there is no room.
/// Gives how many were sent.
pub(crate) fn send_all(
    packets: &mut ArrayVec<Mbuf, BURST>,
    counters: &TxCounters,
    mut step: impl FnMut(&mut [Mbuf]) -> Outcome,
) -> usize {
    let (mut sent, mut lost, mut refused, mut full) = (0, 0, 0, 0);
    let mut done = 0;
    while let Some(rest) = packets.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match step(rest) {
            Outcome::Sent(packets) => sent += packets,
            Outcome::Again => {}
            Outcome::Full => {
                full = 1;
                break;
            }
            Outcome::Lost(packets) => lost += packets,
            Outcome::Refused => refused += 1,
        }
        done = sent + lost + refused;
    }
    packets.drain(..done);
    count(&counters.packets, sent);
    count(&counters.lost, lost);
    count(&counters.refused, refused);
    count(&counters.full, full);
    sent
}
