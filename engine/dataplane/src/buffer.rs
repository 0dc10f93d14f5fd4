//! Packets in plain memory, where there is no DPDK: in tests, fuzzing and benches, and for packets of a file.

use crate::packet::{NoRoom, Offload, Packet, Pool};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

/// How a [`HeapPool`] makes its buffers.
#[derive(Debug, Clone, Copy)]
pub struct HeapOptions {
    /// How many packets may be out at once.
    pub limit: usize,
    /// Free bytes in front of an empty packet.
    pub headroom: usize,
    /// Bytes that a first segment holds behind its headroom.
    pub room: usize,
}

impl Default for HeapOptions {
    /// The shape of DPDK's usual mbuf: 128 bytes of headroom, 2 KiB of data.
    fn default() -> Self {
        Self { limit: 1024, headroom: 128, room: 2048 }
    }
}

/// A pool of [`HeapPacket`]s that counts what is out, so that a test can tell a leak.
#[derive(Debug, Clone)]
pub struct HeapPool {
    options: HeapOptions,
    out: Arc<AtomicUsize>,
}

impl HeapPool {
    /// A pool from which nothing is out.
    #[must_use]
    pub fn new(options: HeapOptions) -> Self {
        Self { options, out: Arc::default() }
    }

    /// Packets that have been allocated and not dropped.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.out.load(Relaxed)
    }

    /// A packet of these bytes in one segment, however long they are, or `None` when the pool is exhausted.
    #[must_use]
    pub fn packet(&self, bytes: &[u8]) -> Option<HeapPacket> {
        self.packet_of([bytes])
    }

    /// A packet of these segments, or `None` when the pool is exhausted. Only the first has headroom, and as much
    /// tailroom as the pool's options give; the others fit exactly.
    #[must_use]
    pub fn packet_of<'a>(&self, segments: impl IntoIterator<Item = &'a [u8]>) -> Option<HeapPacket> {
        let mut segments = segments.into_iter();
        let taken =
            self.out.fetch_update(Relaxed, Relaxed, |out| (out < self.options.limit).then_some(out + 1));
        taken.ok()?;
        let HeapOptions { headroom, room, .. } = self.options;
        let first = Segment::new(headroom, room, segments.next().unwrap_or(&[]));
        let rest = segments.map(|bytes| Segment::new(0, 0, bytes)).collect();
        let out = Arc::clone(&self.out);
        Some(HeapPacket(Box::new(Inner { first, rest, offload: Offload::default(), out })))
    }
}

impl Default for HeapPool {
    fn default() -> Self {
        Self::new(HeapOptions::default())
    }
}

impl Pool for HeapPool {
    type Packet = HeapPacket;

    fn allocate(&self) -> Option<HeapPacket> {
        self.packet_of([])
    }

    fn append(&self, packet: &mut HeapPacket, bytes: &[u8]) -> Result<(), NoRoom> {
        let inner = &mut *packet.0;
        let last = inner.rest.last_mut().unwrap_or(&mut inner.first);
        let (here, rest) = bytes.split_at_checked(last.tailroom()).unwrap_or((bytes, &[]));
        last.append(here)?;
        let room = self.options.room.max(1);
        inner.rest.extend(rest.chunks(room).map(|part| Segment::new(0, room, part)));
        Ok(())
    }

    fn duplicate(&self, packet: &HeapPacket) -> Option<HeapPacket> {
        let mut copy = self.packet_of(packet.segments())?;
        copy.0.offload = packet.0.offload;
        Some(copy)
    }
}

/// A packet in plain memory; like an mbuf it is a pointer, so that it moves at the same cost.
#[derive(Debug)]
pub struct HeapPacket(Box<Inner>);

#[derive(Debug)]
struct Inner {
    first: Segment,
    rest: Vec<Segment>,
    offload: Offload,
    out: Arc<AtomicUsize>,
}

/// Bytes with room around them; `start <= end <= memory.len()`.
#[derive(Debug)]
struct Segment {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Segment {
    #[inline]
    fn new(headroom: usize, room: usize, bytes: &[u8]) -> Self {
        let mut memory = vec![0; headroom + room.max(bytes.len())].into_boxed_slice();
        let end = headroom + bytes.len();
        if let Some(place) = memory.get_mut(headroom..end) {
            place.copy_from_slice(bytes);
        }
        Self { memory, start: headroom, end }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.end).unwrap_or(&[])
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.end).unwrap_or(&mut [])
    }

    #[inline]
    const fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    const fn tailroom(&self) -> usize {
        self.memory.len() - self.end
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let end = self.end + bytes.len();
        self.memory.get_mut(self.end..end).ok_or(NoRoom)?.copy_from_slice(bytes);
        self.end = end;
        Ok(())
    }
}

impl Packet for HeapPacket {
    #[inline]
    fn len(&self) -> usize {
        self.0.first.len() + self.0.rest.iter().map(Segment::len).sum::<usize>()
    }

    #[inline]
    fn head(&self) -> &[u8] {
        self.0.first.bytes()
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        self.0.first.bytes_mut()
    }

    #[inline]
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(&self.0.first).chain(&self.0.rest).map(Segment::bytes)
    }

    #[inline]
    fn pull_up(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let Some(mut missing) = bytes.checked_sub(self.0.first.len()) else { return Ok(()) };
        if bytes > self.len() || self.0.first.end + missing > self.0.first.memory.len() {
            return Err(NoRoom);
        }
        for segment in &mut self.0.rest {
            let part = segment.bytes();
            let part = part.get(..missing).unwrap_or(part);
            self.0.first.append(part)?;
            missing -= part.len();
            segment.start += part.len();
        }
        self.0.rest.retain(|segment| segment.len() > 0);
        Ok(())
    }

    #[inline]
    fn prepend(&mut self, bytes: usize) -> Result<(), NoRoom> {
        self.0.first.start = self.0.first.start.checked_sub(bytes).ok_or(NoRoom)?;
        Ok(())
    }

    #[inline]
    fn trim_front(&mut self, bytes: usize) -> Result<(), NoRoom> {
        if bytes > self.0.first.len() {
            return Err(NoRoom);
        }
        self.0.first.start += bytes;
        Ok(())
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        let mut left = length;
        for segment in core::iter::once(&mut self.0.first).chain(&mut self.0.rest) {
            segment.end = segment.end.min(segment.start + left);
            left -= segment.len();
        }
        self.0.rest.retain(|segment| segment.len() > 0);
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        self.0.rest.last_mut().unwrap_or(&mut self.0.first).append(bytes)
    }

    #[inline]
    fn offload(&self) -> Offload {
        self.0.offload
    }

    #[inline]
    fn set_offload(&mut self, offload: Offload) {
        self.0.offload = offload;
    }
}

impl Drop for HeapPacket {
    #[inline]
    fn drop(&mut self) {
        self.0.out.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(packet: &HeapPacket) -> Vec<u8> {
        packet.segments().flatten().copied().collect()
    }

    fn pool() -> HeapPool {
        HeapPool::new(HeapOptions { limit: 2, headroom: 4, room: 8 })
    }

    #[test]
    fn pool_gives_no_more_than_its_limit_and_counts_what_is_out() {
        let pool = pool();
        let one = pool.packet(b"one").unwrap();
        let two = pool.duplicate(&one).unwrap();
        assert_eq!(bytes(&two), b"one");
        assert!(pool.allocate().is_none());
        drop(one);
        assert_eq!(pool.outstanding(), 1);
        assert!(pool.allocate().is_some());
    }

    #[test]
    fn pull_up_gathers_over_segments_as_far_as_the_first_has_room() {
        let pool = pool();
        let mut packet = pool.packet_of([b"ab".as_slice(), b"cd", b"efgh", b"ij"]).unwrap();
        assert_eq!(packet.pull_up(2), Ok(()));
        assert_eq!(packet.pull_up(5), Ok(()));
        assert_eq!(packet.head(), b"abcde");
        assert_eq!(packet.pull_up(9), Err(NoRoom), "first segment holds 8");
        assert_eq!(packet.pull_up(11), Err(NoRoom), "packet is shorter");
        assert_eq!((packet.len(), bytes(&packet).as_slice()), (10, b"abcdefghij".as_slice()));
    }

    #[test]
    fn front_grows_and_shrinks_within_headroom_and_first_segment() {
        let pool = pool();
        let mut packet = pool.packet_of([b"abcd".as_slice(), b"ef"]).unwrap();
        assert_eq!(packet.prepend(5), Err(NoRoom));
        assert_eq!(packet.prepend(4), Ok(()));
        assert_eq!(packet.trim_front(9), Err(NoRoom));
        assert_eq!(packet.trim_front(6), Ok(()));
        assert_eq!(bytes(&packet), b"cdef");
    }

    #[test]
    fn truncate_frees_segments_that_become_empty_and_append_uses_the_last() {
        let pool = pool();
        let mut packet = pool.packet_of([b"abcd".as_slice(), b"ef", b"gh"]).unwrap();
        packet.truncate(99);
        assert_eq!(packet.append(b"i"), Err(NoRoom), "the last segment is full");
        packet.truncate(4);
        assert_eq!(packet.segments().count(), 1);
        assert_eq!(packet.append(b"xyzw"), Ok(()));
        assert_eq!(packet.append(b"!"), Err(NoRoom));
        assert_eq!(bytes(&packet), b"abcdxyzw");
    }

    #[test]
    fn pool_appends_what_the_last_segment_has_no_room_for_in_further_ones() {
        let pool = pool();
        let mut packet = pool.packet(b"abcd").unwrap();
        assert_eq!(pool.append(&mut packet, b"ef"), Ok(()));
        assert_eq!(packet.segments().count(), 1);
        assert_eq!(pool.append(&mut packet, b"ghijklmnopqrs"), Ok(()));
        let lengths: Vec<usize> = packet.segments().map(<[u8]>::len).collect();
        assert_eq!(lengths, [8, 8, 3]);
        assert_eq!(pool.append(&mut packet, b"t"), Ok(()));
        assert_eq!(
            (packet.segments().count(), bytes(&packet).as_slice()),
            (3, b"abcdefghijklmnopqrst".as_slice())
        );
    }
}
