//! Value slots: where values lie, in chunks that never move.

use super::region::Region;
use crate::table::sync::{Acquire, AtomicPtr, Relaxed, Release};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

/// Slots of a chunk: 65,536 (few where every one is a state to explore).
const CHUNK_BITS: u32 = if cfg!(loom) { 3 } else { 16 };
pub(super) const CHUNK: u32 = 1 << CHUNK_BITS;
/// Chunks of a table: room for 67 million values.
const CHUNKS: u32 = if cfg!(loom) { 2 } else { 1024 };
/// Slots of a table.
pub(super) const SLOTS: u32 = CHUNKS * CHUNK;

type Cell<V> = UnsafeCell<MaybeUninit<V>>;

/// The value slots of a table. Which are in use is the writer's business.
pub(super) struct Slots<V> {
    /// Each null, or the first of a chunk's slots.
    chunks: Box<[AtomicPtr<Cell<V>>]>,
    owns: PhantomData<V>,
}

// SAFETY: a slot is written only while no reader can see it (see `write`), and then only read: sharing the slots is
// sharing and sending values.
unsafe impl<V: Send + Sync> Sync for Slots<V> {}
// SAFETY: as for `Sync`; the pointers own what they point to.
unsafe impl<V: Send> Send for Slots<V> {}

impl<V: Copy> Slots<V> {
    pub(super) fn new() -> Self {
        Self { chunks: (0..CHUNKS).map(|_| AtomicPtr::new(ptr::null_mut())).collect(), owns: PhantomData }
    }

    /// Makes sure that the slot's chunk exists. For the one writer.
    pub(super) fn ensure(&self, slot: u32) {
        if let Some(place) = self.chunks.get((slot >> CHUNK_BITS) as usize)
            && place.load(Relaxed).is_null()
        {
            let chunk = Region::new(CHUNK as usize, || Cell::<V>::new(MaybeUninit::uninit()));
            place.store(chunk.into_raw(), Release);
        }
    }

    /// Whether freeing slots from `first` on, of those before `end`, would free a chunk.
    pub(super) const fn can_release(first: u32, end: u32) -> bool {
        first.div_ceil(CHUNK) < end.div_ceil(CHUNK)
    }

    /// Frees the chunks that hold only slots from `first` on.
    ///
    /// # Safety
    /// No reader can see any of those slots, and the caller is the one writer.
    pub(super) unsafe fn release(&self, first: u32) {
        for place in self.chunks.iter().skip(first.div_ceil(CHUNK) as usize) {
            let chunk = place.load(Relaxed);
            place.store(ptr::null_mut(), Relaxed);
            // SAFETY: the pointer is null or came from `ensure`, and is no longer in the directory; the caller
            // promises that nobody else still has it.
            unsafe { free(chunk) };
        }
    }

    /// The address of a slot; for a slot whose chunk exists.
    ///
    /// # Safety
    /// `ensure(slot)` was called, in an order that the caller sees, and the chunk was not released since.
    #[inline(always)]
    unsafe fn address(&self, slot: u32) -> *const Cell<V> {
        debug_assert!(slot < SLOTS);
        // SAFETY: the slot is one that `ensure` took, so it is below SLOTS and its chunk is in the directory.
        unsafe {
            let chunk = self.chunks.get_unchecked((slot >> CHUNK_BITS) as usize).load(Acquire);
            debug_assert!(!chunk.is_null());
            chunk.add((slot % CHUNK) as usize)
        }
    }

    /// The value in a slot, which memory is asked for.
    ///
    /// # Safety
    /// The slot was written, in an order that the caller sees, and is not written again or released for 'r.
    #[inline(always)]
    pub(super) unsafe fn get<'r>(&self, slot: u32) -> &'r V {
        // SAFETY: the caller's promise.
        let value = unsafe { (*(*self.address(slot)).get()).assume_init_ref() };
        super::lines::prefetch(value);
        if !64usize.is_multiple_of(size_of::<V>()) {
            // It may lie across two lines.
            super::lines::prefetch(core::ptr::from_ref(value).cast::<u8>().wrapping_add(size_of::<V>() - 1));
        }
        value
    }

    /// Writes a slot.
    ///
    /// # Safety
    /// `ensure(slot)` was called, no reader can see the slot, and the caller is the one writer.
    pub(super) unsafe fn write(&self, slot: u32, value: V) {
        // SAFETY: the caller's promise; what the slot held is `Copy`, so there is nothing to drop.
        unsafe { (*(*self.address(slot)).get()).write(value) };
    }

    /// Bytes of all chunks and their directory.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().filter(|chunk| !chunk.load(Relaxed).is_null()).count();
        chunks * Region::<Cell<V>>::bytes_of(CHUNK as usize) + size_of_val::<[AtomicPtr<_>]>(&self.chunks)
    }
}

/// Frees a chunk.
///
/// # Safety
/// `chunk` is null or came from `Slots::ensure`, and the caller is its only owner.
unsafe fn free<V>(chunk: *mut Cell<V>) {
    if let Some(chunk) = NonNull::new(chunk) {
        // SAFETY: the caller's promise; `ensure` made it of this length.
        drop(unsafe { Region::from_raw(chunk, CHUNK as usize) });
    }
}

impl<V> Drop for Slots<V> {
    fn drop(&mut self) {
        for place in &self.chunks {
            // SAFETY: nobody borrows the slots any more, so this is the only owner; see `release`.
            unsafe { free(place.load(Relaxed)) };
        }
    }
}
