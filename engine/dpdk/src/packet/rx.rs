//! Receiving from a packet socket.

use core::mem;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::Packet;

use super::Shared;
use super::ring::{Ring, Slot};
use crate::mempool::CHAIN_MAX;
use crate::queue::BURST;
use crate::tally::{BYTES_MAX, Loss, Received};
use crate::{Mbuf, Mempool, QueueState, vnet};

/// Calls without a packet between two looks at the socket's error. A worker that sleeps in `poll` is woken by an
/// error again and again until somebody has looked.
const IDLE_CALLS: u32 = 64;

/// Bytes of the hardware addresses, behind which a tag stands.
const ADDRESSES: usize = 12;

/// The receive queue of a packet port.
#[derive(Debug)]
pub(crate) struct PacketRx {
    shared: Arc<Shared>,
    ring: Ring,
    idle: u32,
}

impl PacketRx {
    pub(super) fn new(shared: Arc<Shared>, ring: Ring) -> Self {
        Self { shared, ring, idle: 0 }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (self.state() == QueueState::Running).then(|| self.shared.rx.fd().as_fd())
    }

    pub(crate) fn state(&self) -> QueueState {
        self.shared.state()
    }

    pub(crate) fn receive(&mut self, pool: &Mempool, burst: &mut ArrayVec<Mbuf, BURST>) -> usize {
        let mut received = Received::default();
        while !burst.is_full() && received.bytes < BYTES_MAX && received.frames < BURST {
            let Some(slot) = self.ring.front() else { break };
            let frame = if slot.queued { self.read_queued(&slot, pool) } else { copy(&slot, pool) };
            self.ring.release();
            received.take(frame, burst);
        }
        self.note_idle(received.frames);
        received.count(&self.shared.rx_counters)
    }

    fn note_idle(&mut self, slots: usize) {
        if slots > 0 {
            self.idle = 0;
            self.shared.note_up();
            return;
        }
        self.idle += 1;
        if self.idle >= IDLE_CALLS {
            self.idle = 0;
            self.shared.notice_errors();
        }
    }

    /// Reads the frame, too large for its slot, that the kernel queued on the socket, straight into a packet.
    ///
    /// It queues one for each slot that says so, in their order; so whatever is wrong, one must be taken.
    fn read_queued(&self, slot: &Slot<'_>, pool: &Mempool) -> Result<Mbuf, Loss> {
        let mut header = [0; vnet::LENGTH];
        let tag = slot.tag.as_ref().map_or(&[][..], |tag| &tag[..]);
        let Some(mut packet) = pool.chain(slot.length + tag.len()) else {
            // The rest of the frame is cut off and lost, as it must be.
            let _ = self.receive_message(&mut header, None, 0);
            return Err(missing(pool, slot.length + tag.len()));
        };
        let read = self.receive_message(&mut header, Some(&mut packet), tag.len());
        if read.ok() != Some(vnet::LENGTH + slot.length) {
            return Err(Loss::Malformed);
        }
        put_tag(&mut packet, tag)?;
        finish(packet, &header, tag.len())
    }

    /// One `recvmsg`: the header, then the packet's bytes but for `gap` behind the hardware addresses.
    fn receive_message(
        &self,
        header: &mut [u8; vnet::LENGTH],
        packet: Option<&mut Mbuf>,
        gap: usize,
    ) -> io::Result<usize> {
        // Header, first segment in two parts, the other segments.
        let mut parts: ArrayVec<libc::iovec, { CHAIN_MAX + 2 }> = ArrayVec::new();
        parts.push(libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: header.len() });
        for (index, space) in packet.into_iter().flat_map(Mbuf::spaces).enumerate() {
            let (base, length) = (space.as_mut_ptr(), space.len());
            if index == 0 && length > ADDRESSES + gap {
                parts.push(libc::iovec { iov_base: base.cast(), iov_len: ADDRESSES });
                let rest = ADDRESSES + gap;
                // SAFETY: the first segment is longer than `rest`, as checked.
                let base = unsafe { base.add(rest) };
                parts.push(libc::iovec { iov_base: base.cast(), iov_len: length - rest });
            } else {
                parts.push(libc::iovec { iov_base: base.cast(), iov_len: length });
            }
        }
        // SAFETY: a structure of integers and pointers; zero is a value of it.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        let fd = self.shared.rx.fd().as_raw_fd();
        loop {
            // SAFETY: the parts point to memory that header and packet, borrowed, lend exclusively for the call.
            let read = unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) };
            match usize::try_from(read) {
                Ok(read) => return Ok(read),
                Err(_) => {
                    // An error noted on the socket comes before its packets, once.
                    let error = io::Error::last_os_error();
                    match error.raw_os_error() {
                        Some(libc::EINTR | libc::ENETDOWN) => {}
                        _ => return Err(error),
                    }
                }
            }
        }
    }
}

/// Copies a frame out of its slot.
fn copy(slot: &Slot<'_>, pool: &Mempool) -> Result<Mbuf, Loss> {
    let header = slot.vnet.ok_or(Loss::Malformed)?;
    // The socket's queue was full when a frame larger than its slot came.
    if slot.bytes.len() < slot.length {
        return Err(Loss::Malformed);
    }
    let (addresses, rest) = slot.bytes.split_at_checked(ADDRESSES).ok_or(Loss::Malformed)?;
    let tag = slot.tag.as_ref().map_or(&[][..], |tag| &tag[..]);
    let length = slot.bytes.len() + tag.len();
    let mut packet = pool.chain(length).ok_or_else(|| missing(pool, length))?;
    packet.write(&[addresses, tag, rest]);
    finish(packet, header, tag.len())
}

/// Why there is no packet of `length` bytes.
fn missing(pool: &Mempool, length: usize) -> Loss {
    if length > pool.packet_max() { Loss::Malformed } else { Loss::NoBuffer }
}

/// Puts back the tag that the kernel took out: what the node sent is what the stages see.
fn put_tag(packet: &mut Mbuf, tag: &[u8]) -> Result<(), Loss> {
    let place = packet.head_mut().get_mut(ADDRESSES..ADDRESSES + tag.len()).ok_or(Loss::Malformed)?;
    place.copy_from_slice(tag);
    Ok(())
}

fn finish(mut packet: Mbuf, header: &[u8; vnet::LENGTH], tag: usize) -> Result<Mbuf, Loss> {
    vnet::note(&mut packet, header, tag as u16).map_err(|vnet::Malformed| Loss::Malformed)?;
    Ok(packet)
}
