//! capsule's packets as the data plane's.
//!
//! capsule's `Mbuf` grows at its front only by moving the packet into its tailroom, and hides the mbuf that it stands for. Our
//! `capsule-ffi` therefore writes each mbuf's address into the last eight bytes of its headroom when it gives the mbuf to
//! capsule; here it is read from there, once, before anything is written.

use super::CapsuleThread;
use arrayvec::ArrayVec;
use capsule::batch::{PacketRx, PacketTx};
use capsule::{Mbuf, PortQueue};
use capsule_ffi::rte_mbuf;
use core::fmt;
use core::ptr::{self, NonNull};
use core::slice;
use overlane_dataplane::packet::{NoRoom, Offload, Packet, Pool};
use overlane_dataplane::pipeline::BURST;
use std::rc::Rc;

/// A packet of capsule's, in one segment; returned to its pool on drop.
///
/// capsule has no offloads: what is to be done to the packet is kept beside it, and must be done before it is sent.
pub(crate) struct Frame {
    mbuf: Mbuf,
    /// The mbuf that `mbuf` stands for. Only `self` uses either, never both at once.
    raw: NonNull<rte_mbuf>,
    offload: Offload,
}

impl Frame {
    /// Takes a packet that capsule has just got from our `capsule-ffi`; `None` if it is empty or has several segments.
    ///
    /// # Safety
    /// Since then nothing has changed where its data begin, nor the eight bytes in front of them.
    unsafe fn adopt(mbuf: Mbuf) -> Option<Self> {
        let data: NonNull<u8> = mbuf.read_data(0).ok()?;
        // SAFETY: whatever capsule has came by our `capsule-ffi`, which lets none through without eight bytes of headroom,
        // and wrote the mbuf's address there; the caller promises that it still is. C wrote the pointer, so its
        // provenance is exposed.
        let raw = unsafe { data.cast::<*mut rte_mbuf>().sub(1).read_unaligned() };
        let raw = NonNull::new(raw)?;
        // SAFETY: it is the mbuf that `mbuf` owns, and valid.
        let single = unsafe { raw.as_ref() }.nb_segs == 1;
        single.then(|| Self { mbuf, raw, offload: Offload::default() })
    }

    fn raw(&self) -> &rte_mbuf {
        // SAFETY: valid as long as `self.mbuf`, and only changed through `&mut self`.
        unsafe { self.raw.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: valid as long as `self.mbuf`; `self` is exclusively borrowed.
        unsafe { self.raw.as_mut() }
    }

    fn set_length(&mut self, length: usize) {
        let raw = self.raw_mut();
        raw.data_len = length as u16;
        raw.pkt_len = length as u32;
    }
}

/// Where the packet begins.
fn data(raw: &rte_mbuf) -> *mut u8 {
    // SAFETY: the offset of a valid mbuf lies within its buffer.
    unsafe { raw.buf_addr.cast::<u8>().add(usize::from(raw.data_off)) }
}

fn tailroom(raw: &rte_mbuf) -> usize {
    usize::from(raw.buf_len).saturating_sub(usize::from(raw.data_off) + usize::from(raw.data_len))
}

impl Packet for Frame {
    #[inline]
    fn len(&self) -> usize {
        usize::from(self.raw().data_len)
    }

    #[inline]
    fn head(&self) -> &[u8] {
        let raw = self.raw();
        // SAFETY: the data lie within the buffer, which is ours; whoever set the length wrote them, or left what the
        // buffer held, and pool memory is initialised by its mapping.
        unsafe { slice::from_raw_parts(data(raw), usize::from(raw.data_len)) }
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        let raw = self.raw();
        // SAFETY: as in `head`; the borrow of `self` is exclusive.
        unsafe { slice::from_raw_parts_mut(data(raw), usize::from(raw.data_len)) }
    }

    #[inline]
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(self.head())
    }

    #[inline]
    fn pull_up(&mut self, bytes: usize) -> Result<(), NoRoom> {
        if bytes <= self.len() { Ok(()) } else { Err(NoRoom) }
    }

    #[inline]
    fn prepend(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let raw = self.raw_mut();
        if bytes > usize::from(raw.data_off) || bytes > usize::from(u16::MAX - raw.data_len) {
            return Err(NoRoom);
        }
        raw.data_off -= bytes as u16;
        raw.data_len += bytes as u16;
        raw.pkt_len += bytes as u32;
        Ok(())
    }

    #[inline]
    fn trim_front(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let raw = self.raw_mut();
        if bytes > usize::from(raw.data_len) {
            return Err(NoRoom);
        }
        raw.data_off += bytes as u16;
        raw.data_len -= bytes as u16;
        raw.pkt_len -= bytes as u32;
        Ok(())
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        if length < self.len() {
            self.set_length(length);
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let raw = self.raw();
        if bytes.len() > tailroom(raw) {
            return Err(NoRoom);
        }
        // SAFETY: the bytes fit behind the data, within the buffer, which is exclusively ours, so they cannot lie in it.
        unsafe {
            let end = data(raw).add(usize::from(raw.data_len));
            ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len());
        }
        self.set_length(self.len() + bytes.len());
        Ok(())
    }

    #[inline]
    fn offload(&self) -> Offload {
        self.offload
    }

    #[inline]
    fn set_offload(&mut self, offload: Offload) {
        self.offload = offload;
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("mbuf", &self.mbuf).field("offload", &self.offload).finish()
    }
}

/// The pool that capsule gives the thread.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    /// The pool is there as long as the thread runs; and caches outlive packets.
    _thread: Rc<CapsuleThread>,
}

impl Frames {
    pub(crate) const fn new(thread: Rc<CapsuleThread>) -> Self {
        Self { _thread: thread }
    }
}

impl Pool for Frames {
    type Packet = Frame;

    fn allocate(&self) -> Option<Frame> {
        // On one of a runtime's threads, as the token shows: elsewhere capsule would ask a pool that is not there.
        let mut mbuf = Mbuf::new().ok()?;
        // Where an empty one has its data is not told.
        mbuf.extend(0, 1).ok()?;
        // SAFETY: fresh; growing at the end moved nothing.
        let mut frame = unsafe { Frame::adopt(mbuf) }?;
        frame.set_length(0);
        Some(frame)
    }

    fn append(&self, packet: &mut Frame, bytes: &[u8]) -> Result<(), NoRoom> {
        // Of one segment, as capsule wants it.
        packet.append(bytes)
    }

    fn duplicate(&self, packet: &Frame) -> Option<Frame> {
        let mut copy = self.allocate()?;
        copy.append(packet.head()).ok()?;
        copy.set_offload(packet.offload());
        Some(copy)
    }
}

/// Receives a burst into `burst`, which must be empty, and gives how many packets were dropped because they are of several
/// segments (or empty), which capsule cannot carry.
pub(crate) fn receive(queue: &mut PortQueue, burst: &mut ArrayVec<Frame, BURST>) -> u64 {
    let mut dropped = 0;
    // capsule receives up to 32 at once.
    for mbuf in PacketRx::receive(queue) {
        // SAFETY: just received.
        match unsafe { Frame::adopt(mbuf) } {
            Some(frame) if !burst.is_full() => burst.push(frame),
            _ => dropped += 1,
        }
    }
    dropped
}

/// Sends packets to which nothing is left to be done, and empties the list. capsule tries until the device takes no more,
/// and drops the rest.
pub(crate) fn send(queue: &mut PortQueue, packets: &mut Vec<Frame>) {
    // capsule wants a vector of its own, each time.
    PacketTx::transmit(queue, packets.drain(..).map(|frame| frame.mbuf).collect());
}
