//! A value that is swapped whole: readers load it, the control thread publishes another, the old one is retired.

use super::qsbr::{Domain, LimboFull, Reader};
use super::sync::{AcqRel, Acquire, AtomicPtr, Relaxed};
use core::fmt;
use core::marker::PhantomData;
use std::sync::Arc;

/// A published value.
pub struct Published<T: Send + Sync + 'static> {
    domain: Arc<Domain>,
    /// From `Box::into_raw`; never null; owned by this cell until it is swapped out.
    current: AtomicPtr<T>,
    /// Owns a `T`, and hands `&T` to other threads.
    owns: PhantomData<T>,
}

impl<T: Send + Sync + 'static> Published<T> {
    /// Publishes the first value.
    #[must_use]
    pub fn new(domain: &Arc<Domain>, value: T) -> Self {
        Self {
            domain: Arc::clone(domain),
            current: AtomicPtr::new(Box::into_raw(Box::new(value))),
            owns: PhantomData,
        }
    }

    /// The value now; it stays valid until the reader quiesces, whatever is published meanwhile.
    ///
    /// # Panics
    /// If the reader is registered with another domain: it would not keep the value alive.
    #[inline]
    pub fn load<'r>(&'r self, reader: &'r Reader) -> &'r T {
        assert!(reader.protects(&self.domain), "a reader of another reclamation domain");
        // SAFETY: `current` is a live box: it is freed only by `drop`, which the borrow of `self` forbids for 'r,
        // or by the domain after this reader, which is online, has announced a quiescent state after the swap;
        // it needs `&mut Reader` to, which the borrow of `reader` forbids for 'r. Acquire sees the whole value.
        unsafe { &*self.current.load(Acquire) }
    }

    /// Publishes another value. Readers that hold the old one keep it until they quiesce.
    ///
    /// # Errors
    /// [`LimboFull`] with the value, unpublished, when a reader has held too many old values back: publish the
    /// newest again later.
    pub fn publish(&self, value: T) -> Result<(), LimboFull<T>> {
        let Ok(place) = self.domain.reserve() else { return Err(LimboFull(value)) };
        place.retire(Box::new(Old(self.current.swap(Box::into_raw(Box::new(value)), AcqRel))));
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: nobody borrows `self`, so no reader holds the current value; see `load`.
        drop(unsafe { Box::from_raw(self.current.load(Relaxed)) });
    }
}

/// A value that was swapped out. A pointer, not a box, since a box must be the only way to what it owns, and
/// readers may still look at this.
struct Old<T>(*mut T);

// SAFETY: it owns the `T` behind it and nothing else, and drops it where it is dropped: `T` may be sent there.
unsafe impl<T: Send> Send for Old<T> {}

impl<T> Drop for Old<T> {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw`, the swap made this its only owner, and the domain drops it only
        // when no reader can see it any more.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_value_outlives_its_replacement_until_the_reader_quiesces() {
        let domain = Domain::new(1, 4);
        let mut reader = domain.register("worker").unwrap();
        let cell = Published::new(&domain, String::from("old"));
        let old = cell.load(&reader);
        cell.publish(String::from("new")).unwrap();
        assert_eq!((old.as_str(), domain.collect()), ("old", 0));
        assert_eq!(cell.load(&reader), "new");
        reader.quiesce();
        assert_eq!(domain.collect(), 1);
        assert_eq!(cell.load(&reader), "new");
    }

    #[test]
    fn a_value_is_handed_back_when_limbo_is_full() {
        let domain = Domain::new(1, 1);
        let reader = domain.register("worker").unwrap();
        let cell = Published::new(&domain, 1);
        cell.publish(2).unwrap();
        assert_eq!(cell.publish(3), Err(LimboFull(3)));
        assert_eq!(*cell.load(&reader), 2);
        drop(reader);
        cell.publish(3).unwrap();
    }

    #[test]
    #[should_panic(expected = "another reclamation domain")]
    fn a_reader_of_another_domain_is_refused() {
        let cell = Published::new(&Domain::new(1, 1), 0);
        cell.load(&Domain::new(1, 1).register("stranger").unwrap());
    }
}
