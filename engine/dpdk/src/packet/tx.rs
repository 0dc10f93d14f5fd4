//! Sending on a packet socket.

use core::mem;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::Packet;

use super::Shared;
use crate::queue::BURST;
use crate::tally::{Outcome, PARTS_MAX, send_all};
use crate::{Capabilities, Mbuf, QueueState, vnet};

/// The transmit queue of a packet port.
#[derive(Debug)]
pub(crate) struct PacketTx {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    scratch: Scratch,
}

/// What a system call needs, kept so that none is allocated for a burst. Its pointers mean something only within
/// one call of [`PacketTx::submit`].
struct Scratch {
    headers: [[u8; vnet::LENGTH]; BURST],
    parts: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

// SAFETY: outside of a call, in which the value stays on its thread, the pointers are never followed.
unsafe impl Send for Scratch {}

impl core::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Scratch")
    }
}

impl PacketTx {
    pub(super) fn new(shared: Arc<Shared>, capabilities: Capabilities) -> Self {
        let scratch = Scratch {
            headers: [[0; vnet::LENGTH]; BURST],
            parts: Vec::with_capacity(PARTS_MAX),
            messages: Vec::with_capacity(BURST),
        };
        Self { shared, capabilities, scratch }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub(crate) fn state(&self) -> QueueState {
        self.shared.state()
    }

    pub(crate) fn send(&mut self, packets: &mut ArrayVec<Mbuf, BURST>) -> usize {
        let shared = Arc::clone(&self.shared);
        send_all(packets, &shared.tx_counters, |rest| {
            if self.state() == QueueState::Gone {
                return Outcome::Lost(rest.len());
            }
            match self.submit(rest) {
                Ok(0) => Outcome::Refused,
                Ok(count) => Outcome::Sent(count),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => Outcome::Again,
                    // The socket's queue is full: the interface is slower than we are.
                    Some(libc::EAGAIN) => Outcome::Full,
                    // The driver had no room and dropped the first one.
                    Some(libc::ENOBUFS) => Outcome::Lost(1),
                    Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => {
                        self.shared.note_missing();
                        Outcome::Lost(rest.len())
                    }
                    // Too long, or an offload that this kernel does not do.
                    _ => Outcome::Refused,
                },
            }
        })
    }

    /// Gives as many of the packets to the kernel as it takes at once. `Ok(0)`: the first one cannot be expressed.
    fn submit(&mut self, packets: &mut [Mbuf]) -> io::Result<usize> {
        let Scratch { headers, parts, messages } = &mut self.scratch;
        parts.clear();
        messages.clear();
        for (packet, header) in packets.iter_mut().zip(headers) {
            if parts.len() + 1 + packet.segment_count() > PARTS_MAX {
                break;
            }
            let Ok(built) = vnet::express(packet) else { break };
            *header = built;
            let first = parts.len();
            parts.push(libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: header.len() });
            // The kernel only reads what a message to be sent points to.
            parts.extend(packet.segments().map(|segment| libc::iovec {
                iov_base: segment.as_ptr().cast_mut().cast(),
                iov_len: segment.len(),
            }));
            // SAFETY: a structure of integers and pointers; zero is a value of it.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            // SAFETY: `first` is within the vector, which does not grow beyond its capacity and so does not move.
            message.msg_hdr.msg_iov = unsafe { parts.as_mut_ptr().add(first) };
            message.msg_hdr.msg_iovlen = parts.len() - first;
            messages.push(message);
        }
        if messages.is_empty() {
            return Ok(0);
        }
        let fd = self.shared.tx.fd().as_raw_fd();
        // SAFETY: messages, parts, headers and the borrowed packets live through the call.
        let sent =
            unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), messages.len() as u32, libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
