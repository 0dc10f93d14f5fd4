//! DPDK's own hash table, to be measured beside others: nothing that is shipped has it.
//!
//! Keys are 64-bit numbers, values lie outside. One writer beside any number of readers, none of which takes a lock.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use std::io;

use crate::devargs::c_string;
use crate::eal::{Eal, rte_errno};
use crate::sys;

/// Keys that are looked up at once, `RTE_HASH_LOOKUP_BULK_MAX`.
pub const BURST: usize = 64;
/// Bytes of a key.
const KEY: u32 = 8;
/// Bytes that a key takes, and its share of the buckets and of the ring of free places, rounded up.
const BYTES_PER_KEY: u64 = 64;

/// Why a table cannot be made or written.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// There are more keys than a table takes.
    #[error("{0} keys: legal are 0 to 715827877")]
    Keys(usize),
    /// `rte_hash_create` failed.
    #[error("rte_hash_create failed: {0}")]
    Create(io::Error),
    /// A key found no place.
    #[error("rte_hash_add_key_data failed: {0}")]
    Full(io::Error),
}

/// A table with values of `V`.
#[derive(Debug)]
pub struct HashTable<V> {
    table: NonNull<sys::rte_hash>,
    /// The values it was made with, out of a box; entries point at them until they are replaced. Never changed.
    values: NonNull<[V]>,
    /// Those that came later. All stay until the table goes: readers may still look at those that were replaced.
    later: Vec<NonNull<V>>,
    /// The table is in its memory.
    _eal: Eal,
}

// SAFETY: the table is reached from other threads only by `HashReader` and `HashWriter`, see there; moved as a whole it
// is nobody else's.
unsafe impl<V: Send + Sync> Send for HashTable<V> {}

/// Looks keys up, on any thread.
#[derive(Debug)]
pub struct HashReader<'t, V> {
    table: NonNull<sys::rte_hash>,
    _values: core::marker::PhantomData<&'t V>,
}

/// Replaces values: the only one of its table.
#[derive(Debug)]
pub struct HashWriter<'t, V> {
    table: NonNull<sys::rte_hash>,
    later: &'t mut Vec<NonNull<V>>,
}

// SAFETY: with RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF look-ups may run on any threads beside one writer, and the borrow
// of the table sees to it that there is one. Values are shared between threads, hence `Sync`.
unsafe impl<V: Sync> Send for HashReader<'_, V> {}
// SAFETY: as above. The writer makes values on its thread that others look at, and the table's owner drops, hence `Send`.
unsafe impl<V: Send + Sync> Send for HashWriter<'_, V> {}

impl<V> HashTable<V> {
    /// Memory that a table of so many keys takes in DPDK's heap, in bytes, without values.
    #[must_use]
    pub const fn memory(keys: usize) -> u64 {
        places(keys) as u64 * BYTES_PER_KEY
    }

    /// Makes a table called `name` of keys and their values. It has room for half as many again.
    ///
    /// # Errors
    /// [`HashError`].
    pub fn new(
        eal: &Eal,
        name: &str,
        entries: impl IntoIterator<Item = (u64, V)>,
    ) -> Result<Self, HashError> {
        let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let count = places(keys.len());
        let legal = u32::try_from(count).ok().filter(|count| *count <= sys::RTE_HASH_ENTRIES_MAX);
        let count = legal.ok_or(HashError::Keys(keys.len()))?;
        let name = c_string(name);
        let parameters = sys::rte_hash_parameters {
            name: name.as_ptr(),
            entries: count,
            reserved: 0,
            key_len: KEY,
            // DPDK's default: CRC32 where the processor has it.
            hash_func: None,
            hash_func_init_val: 0,
            socket_id: sys::OVERLANE_HASH_ANY_SOCKET,
            extra_flag: sys::OVERLANE_HASH_LOCK_FREE,
        };
        // SAFETY: complete parameters, which are copied; the EAL is initialised.
        let table = unsafe { sys::rte_hash_create(&raw const parameters) };
        let table = NonNull::new(table).ok_or_else(|| HashError::Create(rte_errno()))?;
        let values = NonNull::from(Box::leak(values.into_boxed_slice()));
        let made = Self { table, values, later: Vec::new(), _eal: eal.clone() };
        for (index, key) in keys.iter().enumerate() {
            // SAFETY: there are as many values as keys. The table is nobody else's; the value stays as long as it.
            unsafe { add(table, *key, values.cast::<V>().add(index).as_ptr())? };
        }
        Ok(made)
    }

    /// A reader and the writer.
    #[must_use]
    pub fn split(&mut self) -> (HashReader<'_, V>, HashWriter<'_, V>) {
        let Self { table, later, .. } = self;
        (
            HashReader { table: *table, _values: core::marker::PhantomData },
            HashWriter { table: *table, later },
        )
    }
}

impl<V> Drop for HashTable<V> {
    fn drop(&mut self) {
        // SAFETY: it was made once; readers and writer borrow it, so there are none.
        unsafe { sys::rte_hash_free(self.table.as_ptr()) };
        // SAFETY: they came out of a box, once, and nothing points at them any more.
        drop(unsafe { Box::from_raw(self.values.as_ptr()) });
        for value in self.later.drain(..) {
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(value.as_ptr()) });
        }
    }
}

impl<'t, V> HashReader<'t, V> {
    /// Looks all keys up, by one call of `rte_hash_lookup_bulk_data`.
    #[inline]
    pub fn lookup_burst(&self, keys: &[u64; BURST], found: &mut [Option<&'t V>; BURST]) {
        let pointers = keys.each_ref().map(|key| ptr::from_ref(key).cast::<c_void>());
        let mut data = [ptr::null_mut::<c_void>(); BURST];
        let mut hits = 0;
        // SAFETY: as many keys as are told, of the length that the table has, and room for as many answers.
        unsafe {
            sys::rte_hash_lookup_bulk_data(
                self.table.as_ptr(),
                pointers.as_ptr().cast_mut(),
                BURST as u32,
                &raw mut hits,
                data.as_mut_ptr(),
            );
        }
        for (index, (found, data)) in found.iter_mut().zip(data).enumerate() {
            let hit = hits >> index & 1 != 0;
            // SAFETY: what was put there is a value that stays as long as the table, which `'t` borrows; it was written
            // before it was put there, and never since.
            *found = if hit { unsafe { data.cast::<V>().as_ref() } } else { None };
        }
    }
}

impl<V> HashWriter<'_, V> {
    /// Gives a key another value; the old one stays in memory until the table goes.
    ///
    /// # Errors
    /// [`HashError::Full`], for a key that is new and finds no place.
    pub fn replace(&mut self, key: u64, value: V) -> Result<(), HashError> {
        let value = NonNull::from(Box::leak(Box::new(value)));
        self.later.push(value);
        // SAFETY: the only writer; the value is in `later` and so stays as long as the table.
        unsafe { add(self.table, key, value.as_ptr().cast_const()) }
    }
}

/// Puts a key and a pointer to its value into a table, or another pointer to a key that is there.
///
/// # Safety
/// The table is valid and has no other writer; the value stays as long as the table.
unsafe fn add<V>(table: NonNull<sys::rte_hash>, key: u64, value: *const V) -> Result<(), HashError> {
    // SAFETY: the caller's promise; the key is copied.
    let done = unsafe {
        sys::rte_hash_add_key_data(table.as_ptr(), ptr::from_ref(&key).cast(), value.cast_mut().cast())
    };
    if done == 0 { Ok(()) } else { Err(HashError::Full(io::Error::from_raw_os_error(-done))) }
}

/// Half as many again as there are keys: a table that is nearly full finds no place for some.
const fn places(keys: usize) -> usize {
    keys + keys / 2 + 8
}
