//! Memory for many cells of one size, on huge pages where the kernel has some.

use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

/// A huge page of this processor: with one, random look-ups miss the TLB far less.
const HUGE_PAGE: usize = 2 << 20;

/// A boxed slice, on huge pages if it fills one.
pub(super) struct Region<T> {
    first: NonNull<T>,
    length: usize,
    owns: PhantomData<T>,
}

// SAFETY: it owns its cells and nothing else, as a boxed slice does.
unsafe impl<T: Send> Send for Region<T> {}
// SAFETY: it gives out `&T` and nothing else, as a boxed slice does.
unsafe impl<T: Sync> Sync for Region<T> {}

impl<T> Region<T> {
    /// `length` cells.
    pub(super) fn new(length: usize, mut cell: impl FnMut() -> T) -> Self {
        let layout = Self::layout(length);
        if layout.size() == 0 {
            return Self { first: NonNull::dangling(), length, owns: PhantomData };
        }
        // SAFETY: the size is not zero.
        let Some(first) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        #[cfg(not(miri))]
        if layout.align() == HUGE_PAGE {
            // Before the first write, which is when the kernel picks the page. A hint: without huge pages in the
            // kernel it is refused, and ordinary ones serve.
            // SAFETY: the range is this allocation, which begins and ends at a huge page.
            unsafe { libc::madvise(first.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        let first = first.cast::<T>();
        for index in 0..length {
            // SAFETY: within the allocation, which has room for `length` cells and is aligned for them.
            unsafe { first.add(index).write(cell()) };
        }
        Self { first, length, owns: PhantomData }
    }

    fn layout(length: usize) -> Layout {
        let Ok(cells) = Layout::array::<T>(length) else { handle_alloc_error(Layout::new::<T>()) };
        let align = if cells.size() >= HUGE_PAGE { HUGE_PAGE } else { 64 };
        let Ok(layout) = cells.align_to(align) else { handle_alloc_error(cells) };
        layout.pad_to_align()
    }

    /// Bytes that a region of `length` cells takes.
    pub(super) fn bytes_of(length: usize) -> usize {
        Self::layout(length).size()
    }

    /// Bytes taken.
    pub(super) fn bytes(&self) -> usize {
        Self::bytes_of(self.length)
    }

    /// The first cell, to be given to `from_raw`.
    pub(super) const fn into_raw(self) -> *mut T {
        let first = self.first.as_ptr();
        core::mem::forget(self);
        first
    }

    /// The region again.
    ///
    /// # Safety
    /// `first` came from `into_raw` of a region of this length, and this is its only owner.
    pub(super) const unsafe fn from_raw(first: NonNull<T>, length: usize) -> Self {
        Self { first, length, owns: PhantomData }
    }
}

impl<T> Deref for Region<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `new` wrote that many cells, and they are this region's until it is dropped.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }
}

impl<T> Drop for Region<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.length);
        // SAFETY: the cells were written by `new`, and nobody borrows them any more.
        unsafe { core::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.length).drop_in_place() };
        if layout.size() != 0 {
            // SAFETY: `new` allocated it with this layout.
            unsafe { dealloc(self.first.as_ptr().cast(), layout) };
        }
    }
}

/// Asks for the cache line that `target` begins on.
#[inline(always)]
pub(super) fn prefetch<T>(target: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing and faults on nothing, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(target.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = target;
}
