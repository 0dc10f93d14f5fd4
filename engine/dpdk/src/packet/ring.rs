//! The receive ring that the kernel shares with us: TPACKET_V2.

use core::mem;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::AsRawFd;

use super::socket::Socket;
use crate::vnet;

/// Bytes of a frame that a slot needs room for beside its packet: the kernel's header and alignment, the virtio
/// header, Ethernet's header.
pub(super) const OVERHEAD: u32 = 112;

/// Bytes of the kernel's header at the beginning of a slot.
const HEADER: usize = mem::size_of::<libc::tpacket2_hdr>();

/// Memory that the kernel allocates in one piece.
const BLOCK_MIN: u32 = 64 << 10;

/// The ring, unmapped on drop.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<u8>,
    length: usize,
    slot_bytes: usize,
    slots: usize,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone; nothing in it belongs to a thread.
unsafe impl Send for Ring {}

/// One received frame in its slot.
#[derive(Debug)]
pub(super) struct Slot<'ring> {
    /// The virtio header; `None` if the slot's offsets are not as they should be.
    pub(super) vnet: Option<&'ring [u8; vnet::LENGTH]>,
    /// The bytes that found room.
    pub(super) bytes: &'ring [u8],
    /// Bytes of the whole frame.
    pub(super) length: usize,
    /// Whether the whole frame waits in the socket's queue.
    pub(super) queued: bool,
    /// The tag that the kernel took out of the frame: protocol and control information.
    pub(super) tag: Option<[u8; 4]>,
}

impl Ring {
    /// Sets up the ring of an unbound socket, and maps it.
    pub(super) fn new(socket: &Socket, slot_bytes: u32, ring_bytes: u32) -> io::Result<Self> {
        let block = slot_bytes.max(BLOCK_MIN);
        let blocks = (ring_bytes / block).max(1);
        let slots = blocks * (block / slot_bytes);
        let request = libc::tpacket_req {
            tp_block_size: block,
            tp_block_nr: blocks,
            tp_frame_size: slot_bytes,
            tp_frame_nr: slots,
        };
        socket.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let length = block as usize * blocks as usize;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a mapping at an address of the kernel's choice, disturbing no other.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, socket.fd().as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { base, length, slot_bytes: slot_bytes as usize, slots: slots as usize, next: 0 })
    }

    /// The oldest received frame, if there is one. It stays in place until [`Ring::release`].
    pub(super) fn front(&self) -> Option<Slot<'_>> {
        let flags = self.status().load(Ordering::Acquire);
        if flags & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let slot = self.slot();
        // SAFETY: the slot is ours until its status is reset: the kernel wrote it before the status and does not
        // write to it meanwhile, and we never do.
        let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        // SAFETY: as above, for the bytes behind the header, all within the slot.
        let memory =
            unsafe { core::slice::from_raw_parts(slot.as_ptr().add(HEADER), self.slot_bytes - HEADER) };
        let start = usize::from(header.tp_mac).checked_sub(HEADER);
        let vnet = start.and_then(|start| memory.get(start.checked_sub(vnet::LENGTH)?..start)?.first_chunk());
        let bytes = start.and_then(|start| memory.get(start..start.checked_add(header.tp_snaplen as usize)?));
        let tag = (flags & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            let with_protocol = flags & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let protocol = if with_protocol { header.tp_vlan_tpid } else { 0x8100 };
            let ([p0, p1], [t0, t1]) = (protocol.to_be_bytes(), header.tp_vlan_tci.to_be_bytes());
            [p0, p1, t0, t1]
        });
        Some(Slot {
            vnet: if bytes.is_some() { vnet } else { None },
            bytes: bytes.unwrap_or_default(),
            length: header.tp_len as usize,
            queued: flags & libc::TP_STATUS_COPY != 0,
            tag,
        })
    }

    /// Gives the front slot back to the kernel and goes on to the next; the borrow says that nobody reads it still.
    pub(super) fn release(&mut self) {
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.slots;
    }

    /// Where the front slot begins.
    fn slot(&self) -> NonNull<u8> {
        // Slots are powers of two of bytes, as blocks are, so they lie one after the other without gaps.
        // SAFETY: `next` is below the number of slots, so the slot lies within the mapping.
        unsafe { self.base.add(self.next * self.slot_bytes) }
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: the status is the first word of a slot, aligned as slots are; kernel and we access it atomically,
        // and so it does not belong to the bytes lent by `front`, which begin behind the header.
        unsafe { AtomicU32::from_ptr(self.slot().cast().as_ptr()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}
