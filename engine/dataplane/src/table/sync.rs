//! The atomics and locks of this module: the standard ones, or loom's when its model checker runs the tests.
//!
//! Blind spots of the model: memory behind raw pointers is not tracked, and the vector compares are not used there.

#[cfg(loom)]
pub(super) use loom::sync::{
    Mutex,
    atomic::{AtomicPtr, AtomicU64, fence},
};
pub(super) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
#[cfg(not(loom))]
pub(super) use std::sync::{
    Mutex,
    atomic::{AtomicPtr, AtomicU64, fence},
};
use std::sync::{MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: what these locks protect is whole between any two statements.
#[cfg(not(loom))]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(loom)]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> loom::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
