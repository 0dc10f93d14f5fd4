//! The atomics and locks of this module: the standard ones, or loom's when its model checker runs the tests.
//!
//! Blind spots of the model: memory behind raw pointers is not tracked, and the vector compares are not used there.

#[cfg(loom)]
use loom::sync as primitives;
#[cfg(not(loom))]
use std::sync as primitives;

pub(super) use primitives::{
    Mutex,
    atomic::{AtomicPtr, AtomicU64, fence},
};
pub(super) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// Locks, also after a panic elsewhere: what these locks protect is whole between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> primitives::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
