//! Pools of packet memory.

use std::ffi::CString;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{NoRoom, Packet, Pool};

use crate::devargs::c_string;
use crate::{Eal, Mbuf, sys};

/// The ring's synchronisation. With DPDK's default, one preempted thread in mid-operation makes all others wait for
/// it (measured: 1,900 ns instead of 11 an allocation); this one lets them overtake. Those who overtake cannot use the
/// places of the ring that the preempted one has yet to leave, so the ring must have more places than there are buffers:
/// see [`MempoolOptions::buffers`].
const OPS: &std::ffi::CStr = c"ring_mt_rts";
/// The part of a ring by which its head may run ahead of its tail before others do wait (`HTD_MAX_DEF` of DPDK's ring).
const OVERTAKEN: u32 = 8;
/// The most buffers that are moved in one operation where there are no caches.
const AT_ONCE: u32 = 64;

/// How large a pool is.
#[derive(Debug, Clone)]
pub struct MempoolOptions {
    /// Buffers: 64 to 16,777,216. A size just below a power of two is raised to it, a tiny pool with large caches to more
    /// (see [`buffers`](Self::buffers)).
    pub size: u32,
    /// Bytes of each buffer for packet data, without headroom: 1,536 to 65,280. Longer packets are chains.
    pub data_room: u16,
    /// Buffers that each worker keeps to itself: 0 to 512, and at most `size` / 1.5.
    pub cache: u32,
}

impl Default for MempoolOptions {
    fn default() -> Self {
        Self { size: 16_384, data_room: 2_048, cache: 256 }
    }
}

impl MempoolOptions {
    /// How many buffers the pool will have: `size`, or the next larger number that leaves the pool's ring room to spare.
    ///
    /// DPDK gives the ring the next power of two above `size`, less one place. A thread that is preempted while it takes
    /// buffers blocks places behind it, up to an eighth of the ring and one operation of another thread. Buffers that are
    /// given back and find no place are lost for good (`rte_mempool` does not look), so there must be that much room.
    #[must_use]
    pub fn buffers(&self) -> u32 {
        let once = AT_ONCE.max(self.cache.saturating_mul(3) / 2);
        let mut size = self.size;
        loop {
            let ring = ring(size);
            // As no operation is larger than 512 / 2 * 3 buffers, this ends at a ring of 2,048, or at the first doubling.
            if size >= 1 << 24 || ring - 1 - size >= ring / OVERTAKEN + once {
                return size;
            }
            size = ring;
        }
    }

    /// An upper estimate of the memory that the pool takes, in bytes, for [`EalOptions`](crate::EalOptions).
    #[must_use]
    pub fn memory(&self) -> u64 {
        // Object header and trailer, mbuf, headroom, data room, alignment to cache lines and to memory channels.
        let object = 64 + 128 + 128 + u64::from(self.data_room) + 128;
        // The ring holds pointers; caches and chunk alignment are in the last term.
        u64::from(self.buffers()) * object + u64::from(ring(self.buffers())) * 8 + (4 << 20)
    }
}

/// Places that DPDK gives the ring of a pool of `size` buffers; one of them stays empty.
const fn ring(size: u32) -> u32 {
    size.saturating_add(1).next_power_of_two()
}

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// The name does not do as part of DPDK's names.
    #[error("mempool name {0:?}: expected 1 to 25 letters, digits, '_' and '-'")]
    Name(String),
    /// An option is outside its legal values.
    #[error("mempool {field} {value}: legal are {legal}")]
    Option {
        /// Which option.
        field: &'static str,
        /// What was given.
        value: u32,
        /// What is legal.
        legal: &'static str,
    },
    /// DPDK refused: the name is taken, or its memory is used up.
    #[error("cannot create mempool {name}: {source}")]
    Create {
        /// The pool's name.
        name: String,
        /// DPDK's reason.
        source: io::Error,
    },
}

/// A pool of packet buffers; a clone is another handle to the same pool.
///
/// Handles can go before their packets: the pool's memory stays until every packet is back and no worker is
/// registered, and DPDK's environment until then too.
#[derive(Debug, Clone)]
pub struct Mempool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: NonNull<sys::rte_mempool>,
    size: u32,
    data_room: u16,
    name: String,
    eal: Eal,
}

// SAFETY: a mempool may be used from any thread: its ring synchronises, and its caches belong to registered threads,
// each of which uses its own only. The other fields are Send and Sync.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Makes a pool. `name` is its name within DPDK, unique in the process.
    ///
    /// # Errors
    /// [`MempoolError`].
    pub fn new(eal: &Eal, name: &str, options: &MempoolOptions) -> Result<Self, MempoolError> {
        let name_c = check(name, options)?;
        let room = options.data_room + HEADROOM;
        let size = options.buffers();
        eal.reap();
        // SAFETY: name and operations are C strings that live through the call; any socket will do (-1).
        let pool = unsafe {
            sys::rte_pktmbuf_pool_create_by_ops(
                name_c.as_ptr(),
                size,
                options.cache,
                0,
                room,
                -1,
                OPS.as_ptr(),
            )
        };
        let pool = NonNull::new(pool)
            .ok_or_else(|| MempoolError::Create { name: name.to_owned(), source: crate::eal::rte_errno() })?;
        Ok(Self(Arc::new(Inner {
            pool,
            size,
            data_room: options.data_room,
            name: name.to_owned(),
            eal: eal.clone(),
        })))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Buffers altogether.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.0.size
    }

    /// Bytes of packet data that one buffer holds behind its headroom.
    #[must_use]
    pub fn data_room(&self) -> u16 {
        self.0.data_room
    }

    /// Bytes of the longest packet: that of a full chain.
    #[must_use]
    pub fn packet_max(&self) -> usize {
        usize::from(self.0.data_room) * CHAIN_MAX
    }

    /// Buffers not in use: in the pool and in workers' caches. Exact when nobody allocates or frees meanwhile;
    /// walks the caches, so not for every packet.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives as long as a handle.
        unsafe { sys::rte_mempool_avail_count(self.0.pool.as_ptr()) }
    }

    /// Buffers in use: held as [`Mbuf`]s or by devices.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.size().saturating_sub(self.available())
    }

    /// A packet that holds `bytes`, in as many segments as they need; `None` when the pool has too few buffers.
    #[must_use]
    pub fn packet(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut packet = self.chain(bytes.len())?;
        packet.write(&[bytes]);
        Some(packet)
    }

    /// A packet of `length` bytes of garbage, each segment but the last filled; `None` when there are too few
    /// buffers, or more would be needed than a chain may have.
    pub(crate) fn chain(&self, length: usize) -> Option<Mbuf> {
        let room = usize::from(self.0.data_room);
        let count = length.div_ceil(room).max(1);
        if count == 1 {
            let mut packet = self.allocate()?;
            packet.set_single_length(length);
            return Some(packet);
        }
        let mut segments = [core::ptr::null_mut(); CHAIN_MAX];
        let segments = segments.get_mut(..count)?;
        let wanted = u32::try_from(count).ok()?;
        // SAFETY: the array has `count` places; on success each is a packet of its own that we own.
        if unsafe { sys::overlane_mbuf_alloc_bulk(self.0.pool.as_ptr(), segments.as_mut_ptr(), wanted) } != 0
        {
            return None;
        }
        // SAFETY: `count` fresh single-segment mbufs, owned by us, each of `room` bytes at least.
        Some(unsafe { Mbuf::from_segments(segments, length, room) })
    }

    /// Appends up to `count` fresh packets of one segment, each as long as its room, of garbage: as many as there are
    /// buffers and places for.
    pub(crate) fn take(&self, count: usize, into: &mut ArrayVec<Mbuf, CHAIN_MAX>) {
        let count = count.min(into.remaining_capacity());
        let room = usize::from(self.0.data_room);
        let mut full = |mut packet: Mbuf| {
            packet.set_single_length(room);
            into.push(packet);
        };
        let mut fresh = [core::ptr::null_mut(); CHAIN_MAX];
        let wanted = u32::try_from(count).unwrap_or(0);
        // SAFETY: the array has `count` places; on success each is a packet of its own that we own.
        let all = count > 1
            && unsafe { sys::overlane_mbuf_alloc_bulk(self.as_ptr(), fresh.as_mut_ptr(), wanted) } == 0;
        if all {
            for raw in fresh.into_iter().take(count).filter_map(NonNull::new) {
                // SAFETY: as just said; each comes up once.
                full(unsafe { Mbuf::from_raw(raw) });
            }
        } else {
            // All or none is how several are allocated at once: what is left comes one by one.
            core::iter::from_fn(|| self.allocate()).take(count).for_each(full);
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.0.pool.as_ptr()
    }
}

impl Pool for Mempool {
    type Packet = Mbuf;

    fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as a handle; what comes back is null or a packet that we own.
        NonNull::new(unsafe { sys::overlane_mbuf_alloc(self.as_ptr()) })
            .map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    fn append(&self, packet: &mut Mbuf, bytes: &[u8]) -> Result<(), NoRoom> {
        if packet.append(bytes).is_ok() {
            return Ok(());
        }
        let (here, rest) = bytes.split_at(packet.tailroom().min(bytes.len()));
        let mut more = self.chain(rest.len()).ok_or(NoRoom)?;
        more.write(&[rest]);
        if packet.segment_count() + more.segment_count() > CHAIN_MAX {
            return Err(NoRoom);
        }
        packet.append(here)?;
        packet.append_chain(more).map_err(|_| NoRoom)
    }

    fn duplicate(&self, packet: &Mbuf) -> Option<Mbuf> {
        // SAFETY: the source is a valid packet, borrowed for the call; the copy is null or ours.
        NonNull::new(unsafe { sys::rte_pktmbuf_copy(packet.as_ptr(), self.as_ptr(), 0, u32::MAX) })
            .map(|raw| unsafe { Mbuf::from_raw(raw) })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.eal.retire(self.pool, self.size);
    }
}

/// Headroom of a fresh buffer.
pub(crate) const HEADROOM: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;

/// Segments of a chain made here: 64 of the smallest data room hold more than the largest GSO packet.
pub(crate) const CHAIN_MAX: usize = 64;

fn check(name: &str, options: &MempoolOptions) -> Result<CString, MempoolError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !(1..=25).contains(&name.len()) || !name.bytes().all(legal) {
        return Err(MempoolError::Name(name.to_owned()));
    }
    let refuse = |field, value, legal| Err(MempoolError::Option { field, value, legal });
    if !(64..=1 << 24).contains(&options.size) {
        return refuse("size", options.size, "64 to 16777216");
    }
    if !(1_536..=65_280).contains(&options.data_room) {
        return refuse("data_room", u32::from(options.data_room), "1536 to 65280");
    }
    if options.cache > 512 || options.cache * 3 / 2 > options.size {
        return refuse("cache", options.cache, "0 to 512 and at most size / 1.5");
    }
    Ok(c_string(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pools_ring_keeps_room_for_what_a_preempted_thread_blocks() {
        for cache in [0, 32, 256, 512] {
            for size in (64..5_000).chain([16_383, 16_384, 20_000, 30_000, 1 << 20, 0xff_ffff, 1 << 24]) {
                if cache * 3 / 2 > size {
                    continue;
                }
                let buffers = MempoolOptions { size, cache, ..MempoolOptions::default() }.buffers();
                let spare = ring(buffers) - 1 - buffers;
                assert!(buffers >= size);
                assert!(
                    spare >= ring(buffers) / 8 + cache * 3 / 2,
                    "{size} buffers, caches of {cache}: {spare}"
                );
            }
        }
    }

    #[test]
    fn a_size_with_room_to_spare_is_taken_as_it_is() {
        for size in [64, 128, 1_024, 1_400, 16_384, 20_000, 1 << 20] {
            let options = MempoolOptions { size, cache: 0, ..MempoolOptions::default() };
            let wanted = if size == 64 { 64..=256 } else { size..=size };
            assert!(wanted.contains(&options.buffers()), "{size}: {}", options.buffers());
        }
    }
}
