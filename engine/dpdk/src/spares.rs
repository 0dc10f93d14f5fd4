//! Buffers for a frame whose length is not known before it is read.

use core::mem::{ManuallyDrop, MaybeUninit};

use arrayvec::ArrayVec;

use crate::mempool::CHAIN_MAX;
use crate::{Mbuf, Mempool};

/// Fresh buffers of one pool, each its full room long, from which a packet is made once its length is known. They go
/// back to their pool on drop.
#[derive(Debug)]
pub(crate) struct Spares<'pool> {
    pool: &'pool Mempool,
    /// The last one is used first.
    buffers: ArrayVec<Mbuf, CHAIN_MAX>,
}

impl<'pool> Spares<'pool> {
    pub(crate) fn new(pool: &'pool Mempool) -> Self {
        Self { pool, buffers: ArrayVec::new() }
    }

    /// Takes buffers until there is room for `bytes`, as far as the pool has some; a chain's bound is the limit.
    pub(crate) fn refill(&mut self, bytes: usize) {
        let wanted = bytes.div_ceil(self.buffer_room()).min(CHAIN_MAX);
        self.pool.take(wanted.saturating_sub(self.buffers.len()), &mut self.buffers);
    }

    /// Bytes that there is room for.
    pub(crate) fn room(&self) -> usize {
        self.buffers.len() * self.buffer_room()
    }

    fn buffer_room(&self) -> usize {
        usize::from(self.pool.data_room())
    }

    /// Where a frame is to be written, in this order.
    pub(crate) fn spaces(&mut self) -> impl Iterator<Item = &mut [MaybeUninit<u8>]> {
        self.buffers.iter_mut().rev().flat_map(Mbuf::spaces)
    }

    /// Makes a packet of the first `length` bytes of room; `None` if there is less.
    pub(crate) fn packet(&mut self, length: usize) -> Option<Mbuf> {
        let room = self.buffer_room();
        let count = length.div_ceil(room).max(1);
        let first = self.buffers.len().checked_sub(count)?;
        if count == 1 {
            let mut packet = self.buffers.pop()?;
            packet.set_single_length(length);
            return Some(packet);
        }
        let segments: ArrayVec<_, CHAIN_MAX> =
            self.buffers.drain(first..).rev().map(|buffer| ManuallyDrop::new(buffer).as_ptr()).collect();
        // SAFETY: `count` fresh mbufs of one segment each, which nobody else has any more, all of the one pool whose
        // buffers have `room` bytes; `count` is such that the last one has some of the `length` bytes.
        Some(unsafe { Mbuf::from_segments(&segments, length, room) })
    }
}
