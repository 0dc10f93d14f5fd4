//! Receiving from a tap.

use core::mem::MaybeUninit;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::Shared;
use crate::mempool::CHAIN_MAX;
use crate::queue::BURST;
use crate::spares::Spares;
use crate::tally::{BYTES_MAX, Loss, Received};
use crate::{Mbuf, Mempool, QueueState, vnet};

/// The longest frame that a node's kernel makes unless it is told to make longer ones (`gso_ipv4_max_size`): an IPv4
/// packet, an Ethernet header, and two tags. Its length is known only when it was read.
const FRAME_MAX: usize = 65_535 + 14 + 8;

/// The least that is a frame: an Ethernet header.
const FRAME_MIN: usize = 14;

/// The receive queue of a tap.
#[derive(Debug)]
pub(crate) struct TapRx {
    shared: Arc<Shared>,
}

impl TapRx {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (self.state() == QueueState::Running).then(|| self.shared.device.file().as_fd())
    }

    pub(crate) fn state(&self) -> QueueState {
        self.shared.state()
    }

    pub(crate) fn receive(&mut self, pool: &Mempool, burst: &mut ArrayVec<Mbuf, BURST>) -> usize {
        // Asked before buffers are taken for a frame of any length: most calls find nothing.
        if self.state() == QueueState::Gone || !self.shared.ready() {
            return 0;
        }
        let mut received = Received::default();
        let mut spares = Spares::new(pool);
        while !burst.is_full() && received.bytes < BYTES_MAX && received.frames < BURST {
            spares.refill(FRAME_MAX);
            match self.read(&mut spares) {
                Ok(frame) => received.take(frame, burst),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EBADFD) => {
                        self.shared.note_gone();
                        break;
                    }
                    Some(libc::EAGAIN) => break,
                    // The kernel dropped a frame that it could not describe.
                    _ => received.take(Err(Loss::Malformed), burst),
                },
            }
        }
        received.count(&self.shared.rx_counters)
    }

    /// Reads the next frame, if only to lose it.
    fn read(&self, spares: &mut Spares<'_>) -> io::Result<Result<Mbuf, Loss>> {
        let mut header = [0; vnet::LENGTH];
        // One byte more than there is room for tells a frame that was cut off.
        let (room, mut beyond) = (spares.room(), MaybeUninit::<u8>::uninit());
        let mut parts: ArrayVec<libc::iovec, { CHAIN_MAX + 2 }> = ArrayVec::new();
        parts.push(libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: header.len() });
        let spaces = spares.spaces();
        parts.extend(spaces.map(|s| libc::iovec { iov_base: s.as_mut_ptr().cast(), iov_len: s.len() }));
        parts.push(libc::iovec { iov_base: beyond.as_mut_ptr().cast(), iov_len: 1 });
        // SAFETY: header, the last byte and the spare buffers, all borrowed exclusively, live through the call.
        let read = unsafe { self.shared.device.read(&parts) }?;
        let length = read.saturating_sub(vnet::LENGTH);
        if length > room {
            return Ok(Err(if room < FRAME_MAX { Loss::NoBuffer } else { Loss::Malformed }));
        }
        if length < FRAME_MIN {
            return Ok(Err(Loss::Malformed));
        }
        let Some(mut packet) = spares.packet(length) else { return Ok(Err(Loss::NoBuffer)) };
        let noted = vnet::note(&mut packet, &header, 0);
        Ok(noted.map(|()| packet).map_err(|vnet::Malformed| Loss::Malformed))
    }
}
