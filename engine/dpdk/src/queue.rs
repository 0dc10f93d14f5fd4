//! Queues: one type over every kind of port.

use core::cell::Cell;
use core::marker::PhantomData;
use std::os::fd::BorrowedFd;

use arrayvec::ArrayVec;

use crate::ethdev::{EthdevRx, EthdevTx};
use crate::packet::{PacketRx, PacketTx};
use crate::tap::{TapRx, TapTx};
use crate::{Capabilities, Mbuf, Mempool};

/// Packets that one call carries at most.
pub const BURST: usize = 64;

/// Whether a queue's device is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueState {
    /// It is; packets come and go as the link allows.
    Running,
    /// The device was removed from the system. Nothing will be received or sent again; the port can be closed.
    Gone,
}

/// Counts of a port since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets lost before they were read, because the reader was behind.
    pub rx_missed: u64,
    /// Packets lost on reception for want of buffers in the pool.
    pub rx_no_buffer: u64,
    /// Packets received that were malformed, cut short, or whose metadata made no sense; dropped.
    pub rx_errors: u64,
    /// Times that the device took no more packets for want of room. The packets stayed with the caller.
    pub tx_full: u64,
    /// Packets that the device's driver or link lost after it was given them.
    pub tx_lost: u64,
    /// Packets not sent because the device cannot send such a packet: larger than its MTU, or asking for an offload
    /// it does not have.
    pub tx_refused: u64,
}

/// Why a port was not closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError<P> {
    /// Not all of the port's queues, or queues of another port, were given back. Everything comes back.
    #[error("a port closes only with all of its own queues given back")]
    Queues {
        /// The port, still open.
        port: P,
        /// The receive queues that were given.
        rx: Vec<RxQueue>,
        /// The transmit queues that were given.
        tx: Vec<TxQueue>,
    },
    /// The device could not be stopped or detached cleanly; it is closed as far as that went.
    #[error("cannot close {port} cleanly: {step}: {source}")]
    Device {
        /// The port's name.
        port: String,
        /// What failed.
        step: &'static str,
        /// The reason.
        source: std::io::Error,
    },
}

/// Makes its holder unfit to be shared between threads, though it may be sent to one.
pub(crate) type NotSync = PhantomData<Cell<()>>;

/// One receive queue. It belongs to whoever holds it: it can be sent to a worker, but neither shared nor cloned.
#[derive(Debug)]
pub struct RxQueue {
    pub(crate) kind: RxKind,
    pub(crate) _not_sync: NotSync,
}

#[derive(Debug)]
pub(crate) enum RxKind {
    Ethdev(EthdevRx),
    Packet(Box<PacketRx>),
    Tap(TapRx),
}

impl RxQueue {
    pub(crate) fn new(kind: RxKind) -> Self {
        Self { kind, _not_sync: PhantomData }
    }

    /// Appends received packets to `burst` as far as there is room, and says how many. Never waits.
    ///
    /// Buffers come from `pool`, but those of a device with a DPDK driver from the pool that it was attached with.
    #[inline]
    pub fn receive(&mut self, pool: &Mempool, burst: &mut ArrayVec<Mbuf, BURST>) -> usize {
        match &mut self.kind {
            RxKind::Ethdev(queue) => queue.receive(burst),
            RxKind::Packet(queue) => queue.receive(pool, burst),
            RxKind::Tap(queue) => queue.receive(pool, burst),
        }
    }

    /// A descriptor that becomes readable when a packet arrives, for `poll` when idle. `None`: the queue must be
    /// polled, or its device is gone.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            RxKind::Ethdev(_) => None,
            RxKind::Packet(queue) => queue.fd(),
            RxKind::Tap(queue) => queue.fd(),
        }
    }

    /// Whether the device is there, as far as the last call noticed.
    #[must_use]
    pub fn state(&self) -> QueueState {
        match &self.kind {
            RxKind::Ethdev(queue) => queue.state(),
            RxKind::Packet(queue) => queue.state(),
            RxKind::Tap(queue) => queue.state(),
        }
    }
}

/// One transmit queue. It belongs to whoever holds it: it can be sent to a worker, but neither shared nor cloned.
#[derive(Debug)]
pub struct TxQueue {
    pub(crate) kind: TxKind,
    pub(crate) _not_sync: NotSync,
}

#[derive(Debug)]
pub(crate) enum TxKind {
    Ethdev(Box<EthdevTx>),
    Packet(Box<PacketTx>),
    Tap(Box<TapTx>),
}

impl TxQueue {
    pub(crate) fn new(kind: TxKind) -> Self {
        Self { kind, _not_sync: PhantomData }
    }

    /// Takes packets from the front of `packets` as far as the device has room, and says how many it sent. Never
    /// waits.
    ///
    /// Packets that the device cannot send at all, or that it lost, are taken as well and counted in its
    /// [`PortStats`]; so `before - after` may be more than the result. What stays did not fit now: it may be tried
    /// again, on this queue, or dropped.
    #[inline]
    pub fn send(&mut self, packets: &mut ArrayVec<Mbuf, BURST>) -> usize {
        match &mut self.kind {
            TxKind::Ethdev(queue) => queue.send(packets),
            TxKind::Packet(queue) => queue.send(packets),
            TxKind::Tap(queue) => queue.send(packets),
        }
    }

    /// [`Self::send`] of packets that are all plain ([`Mbuf::is_plain`]), as the caller has seen while he had them at hand: a
    /// device with a DPDK driver gets them without another look. One that is not plain would leave as if it were.
    #[inline]
    pub fn send_plain(&mut self, packets: &mut ArrayVec<Mbuf, BURST>) -> usize {
        debug_assert!(packets.iter().all(Mbuf::is_plain));
        match &mut self.kind {
            TxKind::Ethdev(queue) => queue.hand_over(packets),
            TxKind::Packet(queue) => queue.send(packets),
            TxKind::Tap(queue) => queue.send(packets),
        }
    }

    /// What the device does by itself. What it does not, the worker does before (`segment::finish`): here a checksum
    /// is computed in software after all, and a packet to be cut is refused.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        match &self.kind {
            TxKind::Ethdev(queue) => queue.capabilities(),
            TxKind::Packet(queue) => queue.capabilities(),
            TxKind::Tap(queue) => queue.capabilities(),
        }
    }

    /// Whether the device is there, as far as the last call noticed.
    #[must_use]
    pub fn state(&self) -> QueueState {
        match &self.kind {
            TxKind::Ethdev(queue) => queue.state(),
            TxKind::Packet(queue) => queue.state(),
            TxKind::Tap(queue) => queue.state(),
        }
    }
}

/// Removes the first `count` packets of `packets` without dropping them: someone else owns them now.
///
/// # Safety
/// `count` is at most the length, and those packets are owned elsewhere.
pub(crate) unsafe fn forget_front(packets: &mut ArrayVec<Mbuf, BURST>, count: usize) {
    let left = packets.len() - count;
    // SAFETY: both ranges lie within the vector's length; an Mbuf may be moved in memory. The caller answers for
    // those that vanish, and the moved ones are counted once.
    unsafe {
        let start = packets.as_mut_ptr();
        core::ptr::copy(start.add(count), start, left);
        packets.set_len(left);
    }
}
