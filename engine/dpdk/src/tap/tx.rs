//! Sending on a tap.

use std::sync::Arc;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::Packet;

use super::Shared;
use crate::queue::BURST;
use crate::tally::{Outcome, PARTS_MAX, send_all};
use crate::{Capabilities, Mbuf, QueueState, vnet};

/// The transmit queue of a tap.
#[derive(Debug)]
pub(crate) struct TapTx {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    parts: Parts,
}

/// What a system call needs, kept so that none is allocated for a packet. Its pointers mean something only within one
/// call of [`TapTx::write`].
struct Parts(Vec<libc::iovec>);

// SAFETY: outside of a call, in which the value stays on its thread, the pointers are never followed.
unsafe impl Send for Parts {}

impl core::fmt::Debug for Parts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Parts")
    }
}

impl TapTx {
    pub(super) fn new(shared: Arc<Shared>, capabilities: Capabilities) -> Self {
        Self { shared, capabilities, parts: Parts(Vec::with_capacity(PARTS_MAX)) }
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
            rest.first_mut().map_or(Outcome::Full, |packet| self.write(packet))
        })
    }

    fn write(&mut self, packet: &mut Mbuf) -> Outcome {
        let Parts(parts) = &mut self.parts;
        let Ok(mut header) = vnet::express(packet) else { return Outcome::Refused };
        if packet.segment_count() >= PARTS_MAX {
            return Outcome::Refused;
        }
        parts.clear();
        parts.push(libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: header.len() });
        // The kernel only reads what is written.
        parts.extend(packet.segments().map(|segment| libc::iovec {
            iov_base: segment.as_ptr().cast_mut().cast(),
            iov_len: segment.len(),
        }));
        // SAFETY: header and the borrowed packet live through the call.
        match unsafe { self.shared.device.write(parts) } {
            Ok(_) => Outcome::Sent(1),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => Outcome::Again,
                // The node's kernel holds as much as it may.
                Some(libc::EAGAIN) => Outcome::Full,
                // The interface is down, or its kernel has no memory.
                Some(libc::EIO | libc::ENOMEM | libc::ENOBUFS) => Outcome::Lost(1),
                Some(libc::EBADFD) => {
                    self.shared.note_gone();
                    Outcome::Lost(1)
                }
                // No frame, or one whose header this kernel does not take.
                _ => Outcome::Refused,
            },
        }
    }
}
