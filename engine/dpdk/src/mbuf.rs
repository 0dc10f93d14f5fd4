//! One packet in DPDK's memory.

use core::fmt;
use core::mem::{self, ManuallyDrop, MaybeUninit};
use core::ptr::{self, NonNull};
use core::slice;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, NoRoom, Offload, Packet, Segmentation, SegmentationKind};

use crate::mempool::HEADROOM;
use crate::sys;

/// An owned packet: a chain of one or more segments, returned to its pool on drop.
///
/// It is exclusively ours: no other mbuf shares its buffers, its reference counts are 1. It may be dropped on any
/// thread; a registered worker does it at a fraction of the cost.
///
/// The flags that say what is known of its checksum are DPDK's own for received packets. Where the checksum is and
/// how the packet is to be cut stands in the 64-bit field of transmit offloads, in a packing of our own, as long as
/// the packet is ours; the transmit queue of a device turns it into what the driver expects.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: a packet is exclusively owned, and its pool may be returned to from any thread.
unsafe impl Send for Mbuf {}

/// Bits of `ol_flags` that [`Packet::offload`] reads.
const OFFLOAD_FLAGS: u64 = sys::OVERLANE_RX_L4_MASK | sys::OVERLANE_RX_LRO;

impl Mbuf {
    /// Takes ownership.
    ///
    /// # Safety
    /// `raw` is a valid packet of the initialised EAL whose every segment has a reference count of 1 and is used by
    /// nobody else, and whose offload metadata are in our packing, or not flagged.
    pub(crate) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Self {
        Self(raw)
    }

    /// Chains fresh mbufs to a packet of `length` bytes, each but the last filled with `room` bytes.
    ///
    /// # Safety
    /// Each is a fresh single-segment mbuf owned by the caller, with room for `room` bytes behind its headroom, and
    /// `length` is above `room * (segments.len() - 1)` and not above `room * segments.len()`.
    pub(crate) unsafe fn from_segments(segments: &[*mut sys::rte_mbuf], length: usize, room: usize) -> Self {
        let mut left = length;
        for (index, &segment) in segments.iter().enumerate() {
            let next = segments.get(index + 1).copied().unwrap_or(ptr::null_mut());
            let here = left.min(room);
            // SAFETY: the segment is valid and ours; `here` fits its buffer, whose size is 16 bits.
            unsafe {
                (*segment).next = next;
                (*segment).data_len = here as u16;
            }
            left -= here;
        }
        let first = segments.first().copied().unwrap_or(ptr::null_mut());
        // SAFETY: there are at least two segments (the caller's division says so); the first is valid and ours.
        unsafe {
            (*first).pkt_len = length as u32;
            (*first).nb_segs = segments.len() as u16;
            Self(NonNull::new_unchecked(first))
        }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }

    #[inline]
    fn raw(&self) -> &sys::rte_mbuf {
        // SAFETY: valid as long as `self`, and only changed through `&mut self`.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn raw_mut(&mut self) -> &mut sys::rte_mbuf {
        // SAFETY: valid as long as `self`, which is exclusively borrowed.
        unsafe { self.0.as_mut() }
    }

    /// One segment, nothing left undone and nothing known of its checksum or of how to cut it that a device must hear:
    /// it can be sent as it is.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let raw = self.raw();
        let flags = raw.ol_flags & OFFLOAD_FLAGS;
        // Most often there is none.
        let whole = flags == 0
            || flags & sys::OVERLANE_RX_LRO == 0
                && flags & sys::OVERLANE_RX_L4_MASK != sys::OVERLANE_RX_L4_NONE;
        whole && raw.nb_segs == 1
    }

    /// Asks for the first line of the first segment's bytes, where the headers are.
    #[inline]
    pub(crate) fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint, which touches nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(data(self.raw()).cast()) };
        }
    }

    /// The number of segments.
    #[inline]
    #[must_use]
    pub fn segment_count(&self) -> usize {
        usize::from(self.raw().nb_segs)
    }

    /// Bytes in front of the first segment's data.
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.raw().data_off)
    }

    /// Bytes behind the last segment's data.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        tailroom(self.last())
    }

    /// Makes the packet at most `segments` segments, copying into full buffers of `pool` if need be. `false`: they do
    /// not hold it, or the pool is exhausted; the packet is unchanged then.
    #[must_use]
    pub fn gather(&mut self, pool: &crate::Mempool, segments: usize) -> bool {
        if self.segment_count() <= segments || self.pull_up(self.len()).is_ok() {
            return true;
        }
        if self.len() > usize::from(pool.data_room()).saturating_mul(segments) {
            return false;
        }
        let Some(mut copy) = pool.chain(self.len()) else { return false };
        copy.write_from(self.segments());
        copy.set_offload(self.offload());
        *self = copy;
        true
    }

    /// Returns all packets of a burst at once, which is cheaper than one by one.
    pub fn free<const N: usize>(burst: &mut ArrayVec<Self, N>) {
        let count = burst.len();
        // SAFETY: the packets leave the vector without being dropped; each is ours and freed here, once. An Mbuf is
        // a pointer in memory.
        unsafe {
            burst.set_len(0);
            sys::rte_pktmbuf_free_bulk(burst.as_mut_ptr().cast(), count as u32);
        }
    }

    fn last(&self) -> &sys::rte_mbuf {
        let mut segment = self.raw();
        // SAFETY: the segments of a packet are valid and as exclusively ours as the first.
        while let Some(next) = unsafe { segment.next.as_ref() } {
            segment = next;
        }
        segment
    }

    /// Puts the segments of `other` behind this packet's; what is known of its offloads is forgotten.
    ///
    /// # Errors
    /// `other`, if together they would be more segments than can be counted (65,535).
    pub fn append_chain(&mut self, other: Self) -> Result<(), Self> {
        if self.raw().nb_segs.checked_add(other.raw().nb_segs).is_none() {
            return Err(other);
        }
        let last = ptr::from_ref(self.last()).cast_mut();
        let other = ManuallyDrop::new(other).0;
        let first = self.0.as_ptr();
        // SAFETY: all are valid, exclusively ours, and of two packets; the second one's segments belong to the first
        // from here on. An mbuf that is not a packet's first counts itself alone.
        unsafe {
            (*last).next = other.as_ptr();
            (*first).nb_segs += mem::replace(&mut (*other.as_ptr()).nb_segs, 1);
            (*first).pkt_len += (*other.as_ptr()).pkt_len;
        }
        Ok(())
    }

    /// Brings `missing` bytes, so that there are `bytes`, from further segments to the end of the first.
    #[cold]
    fn pull_up_from_others(&mut self, bytes: usize, missing: usize) -> Result<(), NoRoom> {
        if bytes > self.len() {
            return Err(NoRoom);
        }
        if missing > tailroom(self.raw()) {
            self.move_head(bytes)?;
        }
        let first = self.0.as_ptr();
        let mut left = missing;
        while left > 0 {
            // SAFETY: `first` is ours. The packet is at least `bytes` long, so there are further segments with the
            // bytes still missing; `here` bytes lie in `next` and fit the first segment's tailroom, seen to above.
            unsafe {
                let next = (*first).next;
                let here = left.min(usize::from((*next).data_len));
                let end = data(&*first).add(usize::from((*first).data_len));
                ptr::copy_nonoverlapping(data(&*next), end, here);
                (*first).data_len += here as u16;
                (*next).data_off += here as u16;
                (*next).data_len -= here as u16;
                if (*next).data_len == 0 {
                    (*first).next = (*next).next;
                    (*first).nb_segs -= 1;
                    (*next).next = ptr::null_mut();
                    sys::overlane_mbuf_free_segment(next);
                }
                left -= here;
            }
        }
        Ok(())
    }

    /// Moves the first segment's bytes to the beginning of its room, where `bytes` bytes would fit.
    fn move_head(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let raw = self.raw_mut();
        if raw.data_off <= HEADROOM || usize::from(HEADROOM) + bytes > usize::from(raw.buf_len) {
            return Err(NoRoom);
        }
        let from = data(raw);
        raw.data_off = HEADROOM;
        // SAFETY: both places lie within the segment's buffer, which is ours; they may overlap.
        unsafe { ptr::copy(from, data(raw), usize::from(raw.data_len)) };
        Ok(())
    }

    /// The segments' pointers, first to last.
    fn raw_segments(&self) -> impl Iterator<Item = NonNull<sys::rte_mbuf>> + '_ {
        // SAFETY: the segments of a packet are valid and as exclusively ours as the first.
        core::iter::successors(Some(self.0), |segment| NonNull::new(unsafe { segment.as_ref() }.next))
    }

    /// The segments' bytes, to write; they may be uninitialised.
    pub(crate) fn spaces(&mut self) -> impl Iterator<Item = &mut [MaybeUninit<u8>]> + '_ {
        self.raw_segments().map(|segment| {
            // SAFETY: the segment's data lie within its buffer; the borrow of `self` is exclusive and each segment's
            // buffer comes up once.
            unsafe {
                let segment = segment.as_ref();
                slice::from_raw_parts_mut(data(segment).cast(), usize::from(segment.data_len))
            }
        })
    }

    /// Fills the packet with the parts' bytes, one part after the other, as far as both reach.
    pub(crate) fn write(&mut self, parts: &[&[u8]]) {
        self.write_from(parts.iter().copied());
    }

    fn write_from<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) {
        let mut spaces = self.spaces();
        let mut space: &mut [MaybeUninit<u8>] = &mut [];
        for mut part in parts {
            while !part.is_empty() {
                if space.is_empty() {
                    match spaces.next() {
                        Some(next) => space = next,
                        None => return,
                    }
                }
                let here = part.len().min(space.len());
                // SAFETY: both are at least `here` bytes; a packet being written is not what is read.
                unsafe { ptr::copy_nonoverlapping(part.as_ptr(), space.as_mut_ptr().cast(), here) };
                part = &part[here..];
                space = &mut mem::take(&mut space)[here..];
            }
        }
    }

    /// Sets the length of a fresh one-segment packet, up to its room.
    pub(crate) fn set_single_length(&mut self, length: usize) {
        let raw = self.raw_mut();
        let length = length.min(usize::from(raw.data_len) + tailroom(raw));
        raw.data_len = length as u16;
        raw.pkt_len = length as u32;
    }

    #[inline]
    pub(crate) fn flags(&self) -> u64 {
        self.raw().ol_flags
    }

    #[inline]
    pub(crate) fn set_flags(&mut self, flags: u64) {
        self.raw_mut().ol_flags = flags;
    }

    #[inline]
    pub(crate) fn tx_offload(&self) -> u64 {
        // SAFETY: every bit pattern is a value; the mbuf was initialised when it was allocated.
        unsafe { self.raw().__bindgen_anon_3.tx_offload }
    }

    #[inline]
    pub(crate) fn set_tx_offload(&mut self, value: u64) {
        self.raw_mut().__bindgen_anon_3.tx_offload = value;
    }
}

/// Where the segment's data begin.
#[inline]
fn data(segment: &sys::rte_mbuf) -> *mut u8 {
    // SAFETY: the offset of a valid segment lies within its buffer.
    unsafe { segment.buf_addr.cast::<u8>().add(usize::from(segment.data_off)) }
}

fn tailroom(segment: &sys::rte_mbuf) -> usize {
    usize::from(segment.buf_len).saturating_sub(usize::from(segment.data_off) + usize::from(segment.data_len))
}

impl Packet for Mbuf {
    #[inline]
    fn len(&self) -> usize {
        self.raw().pkt_len as usize
    }

    #[inline]
    fn head(&self) -> &[u8] {
        let raw = self.raw();
        // SAFETY: the data lie within the buffer, which is ours; whoever set the length wrote them, or left what
        // the buffer held, and pool memory is initialised by its mapping.
        unsafe { slice::from_raw_parts(data(raw), usize::from(raw.data_len)) }
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        let raw = self.raw();
        // SAFETY: as in `head`; the borrow of `self` is exclusive.
        unsafe { slice::from_raw_parts_mut(data(raw), usize::from(raw.data_len)) }
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.raw_segments().map(|segment| {
            // SAFETY: as in `head`, for each segment.
            unsafe {
                let segment = segment.as_ref();
                slice::from_raw_parts(data(segment), usize::from(segment.data_len))
            }
        })
    }

    #[inline]
    fn pull_up(&mut self, bytes: usize) -> Result<(), NoRoom> {
        match bytes.checked_sub(usize::from(self.raw().data_len)) {
            None | Some(0) => Ok(()),
            Some(missing) => self.pull_up_from_others(bytes, missing),
        }
    }

    #[inline]
    fn prepend(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let raw = self.raw_mut();
        if bytes > usize::from(raw.data_off) {
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

    fn truncate(&mut self, length: usize) {
        if length >= self.len() {
            return;
        }
        let first = self.0.as_ptr();
        let mut segment = first;
        let mut left = length;
        let mut kept: u16 = 1;
        // SAFETY: the walk stays within the packet's own segments: it is longer than `length`, so the segment in
        // which `length` falls is found before the end. What is behind that one is cut off and freed as a packet,
        // which needs its count of segments only for checks.
        unsafe {
            while left > usize::from((*segment).data_len) {
                left -= usize::from((*segment).data_len);
                segment = (*segment).next;
                kept += 1;
            }
            (*segment).data_len = left as u16;
            let mut rest = mem::replace(&mut (*segment).next, ptr::null_mut());
            while !rest.is_null() {
                let next = mem::replace(&mut (*rest).next, ptr::null_mut());
                sys::overlane_mbuf_free_segment(rest);
                rest = next;
            }
            (*first).nb_segs = kept;
            (*first).pkt_len = length as u32;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let last = ptr::from_ref(self.last()).cast_mut();
        // SAFETY: the last segment is ours and `self` is exclusively borrowed, so it may be changed; the bytes fit
        // its tailroom, and cannot lie in it.
        unsafe {
            if bytes.len() > tailroom(&*last) {
                return Err(NoRoom);
            }
            let end = data(&*last).add(usize::from((*last).data_len));
            ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len());
            (*last).data_len += bytes.len() as u16;
        }
        self.raw_mut().pkt_len += bytes.len() as u32;
        Ok(())
    }

    #[inline]
    fn offload(&self) -> Offload {
        let flags = self.raw().ol_flags & OFFLOAD_FLAGS;
        if flags == 0 {
            return Offload::default();
        }
        let packed = self.tx_offload();
        let checksum = match flags & sys::OVERLANE_RX_L4_MASK {
            sys::OVERLANE_RX_L4_NONE => {
                Checksum::Partial { start: packed as u16, offset: (packed >> 16) as u16 }
            }
            sys::OVERLANE_RX_L4_GOOD => Checksum::Verified,
            _ => Checksum::Complete,
        };
        let kind = match (flags & sys::OVERLANE_RX_LRO, packed >> 48) {
            (0, _) => None,
            (_, KIND_UDP) => Some(SegmentationKind::Udp),
            (_, kind) => Some(SegmentationKind::Tcp { ecn: kind == KIND_TCP_ECN }),
        };
        Offload {
            checksum,
            segmentation: kind.map(|kind| Segmentation { kind, size: (packed >> 32) as u16 }),
        }
    }

    #[inline]
    fn set_offload(&mut self, offload: Offload) {
        let mut packed = 0_u64;
        let mut flags = 0;
        match offload.checksum {
            Checksum::Complete => {}
            Checksum::Verified => flags |= sys::OVERLANE_RX_L4_GOOD,
            Checksum::Partial { start, offset } => {
                flags |= sys::OVERLANE_RX_L4_NONE;
                packed |= u64::from(start) | u64::from(offset) << 16;
            }
        }
        if let Some(Segmentation { kind, size }) = offload.segmentation {
            flags |= sys::OVERLANE_RX_LRO;
            let kind = match kind {
                SegmentationKind::Tcp { ecn: false } => KIND_TCP,
                SegmentationKind::Tcp { ecn: true } => KIND_TCP_ECN,
                SegmentationKind::Udp => KIND_UDP,
            };
            packed |= u64::from(size) << 32 | kind << 48;
        }
        if flags == 0 && self.raw().ol_flags & OFFLOAD_FLAGS == 0 {
            return;
        }
        let raw = self.raw_mut();
        raw.ol_flags = raw.ol_flags & !OFFLOAD_FLAGS | flags;
        raw.__bindgen_anon_3.tx_offload = packed;
    }
}

const KIND_TCP: u64 = 0;
const KIND_TCP_ECN: u64 = 1;
const KIND_UDP: u64 = 2;

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: ours, and gone afterwards.
        unsafe { sys::overlane_mbuf_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("segments", &self.segment_count())
            .field("offload", &self.offload())
            .finish()
    }
}
