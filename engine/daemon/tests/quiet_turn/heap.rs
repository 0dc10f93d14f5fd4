//! The heap, counting what each thread asks of it.
//!
//! Rust's allocations are seen here, those of C libraries are not: DPDK's drivers have theirs when a port is opened, and
//! take packets from pools.

#![allow(unsafe_code, reason = "an allocator is the one place that sees every allocation")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Without a destructor and known when it is compiled, so that to count allocates nothing itself.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// How often the calling thread has allocated or freed.
pub(crate) fn calls() -> u64 {
    CALLS.get()
}

fn count() {
    CALLS.set(CALLS.get() + 1);
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static HEAP: Counting = Counting;

// SAFETY: each function does what the system's does, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}
