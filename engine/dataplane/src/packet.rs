//! The three traits between the stages and whatever holds the bytes.

use core::time::Duration;

/// A packet buffer: one or more segments, of which the first carries the headers.
///
/// The first segment has headroom in front of its bytes. Stages work on [`Packet::head`] and never read past it
/// without [`Packet::pull_up`]; the payload behind it is not touched.
pub trait Packet: Sized {
    /// Bytes of the whole packet, over all segments.
    fn len(&self) -> usize;

    /// Whether the packet has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the first segment.
    fn head(&self) -> &[u8];

    /// The bytes of the first segment, to change.
    fn head_mut(&mut self) -> &mut [u8];

    /// The segments in order; the first is [`Packet::head`].
    fn segments(&self) -> impl Iterator<Item = &[u8]>;

    /// Makes the first `bytes` bytes contiguous in the first segment.
    ///
    /// # Errors
    /// [`NoRoom`] if the packet is shorter, or the first segment cannot hold them.
    fn pull_up(&mut self, bytes: usize) -> Result<(), NoRoom>;

    /// Grows the packet at its front into headroom; the new bytes hold garbage.
    ///
    /// # Errors
    /// [`NoRoom`] if the headroom is smaller than `bytes`; the packet is unchanged.
    fn prepend(&mut self, bytes: usize) -> Result<(), NoRoom>;

    /// Removes `bytes` from the front, all within the first segment.
    ///
    /// # Errors
    /// [`NoRoom`] if the first segment is shorter; the packet is unchanged.
    fn trim_front(&mut self, bytes: usize) -> Result<(), NoRoom>;

    /// Cuts the packet to `length` bytes, freeing segments that become empty. Longer than the packet: no change.
    fn truncate(&mut self, length: usize);

    /// Appends `bytes`, to the last segment's tailroom.
    ///
    /// # Errors
    /// [`NoRoom`] if they do not fit; the packet is unchanged.
    fn append(&mut self, bytes: &[u8]) -> Result<(), NoRoom>;

    /// What has been, or is to be, done to the packet outside software.
    fn offload(&self) -> Offload;

    /// Sets what is to be done to the packet outside software.
    fn set_offload(&mut self, offload: Offload);
}

/// The buffer has no room for the operation, or not the bytes it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room in the packet buffer")]
pub struct NoRoom;

/// What a checksum field holds, and how a packet larger than the MTU is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// State of the transport checksum.
    pub checksum: Checksum,
    /// How to cut the packet, if it is larger than one frame may be.
    pub segmentation: Option<Segmentation>,
}

/// State of the transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// The field is what the sender computed; nothing is known about it.
    #[default]
    Complete,
    /// The receiving device found it right.
    Verified,
    /// The field holds the folded sum of the pseudo-header, not complemented; whoever sends the packet on a wire
    /// sums from `start` to the end and stores the complement at `start + offset` (virtio's `VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    Partial {
        /// First byte to sum, from the beginning of the frame.
        start: u16,
        /// The field, from `start`.
        offset: u16,
    },
}

/// A packet that stands for many: TCP segments (or UDP datagrams) with one header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// Which transport the segments are of.
    pub kind: SegmentationKind,
    /// Payload bytes of each segment, 1 to 65 535.
    pub size: u16,
}

/// The transport of a packet that is to be cut. The IP version is the packet's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentationKind {
    /// TCP (TSO/GSO); `ecn` says that CWR is to be in the first segment only.
    Tcp {
        /// The sender's ECN flag (virtio's `VIRTIO_NET_HDR_GSO_ECN`).
        ecn: bool,
    },
    /// UDP datagrams of equal size (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

/// Where packets come from.
pub trait Pool {
    /// The buffers of this pool.
    type Packet: Packet;

    /// An empty packet with headroom, or `None` when the pool is exhausted.
    fn allocate(&self) -> Option<Self::Packet>;

    /// Appends `bytes` to `packet`: to its last segment's tailroom, and what finds no room there in further segments.
    ///
    /// # Errors
    /// [`NoRoom`] if the pool is exhausted, or the packet would have more segments than one may; it is unchanged.
    fn append(&self, packet: &mut Self::Packet, bytes: &[u8]) -> Result<(), NoRoom>;

    /// A deep copy, or `None` when the pool is exhausted.
    fn duplicate(&self, packet: &Self::Packet) -> Option<Self::Packet>;
}

/// Monotonic time; reading it costs nanoseconds.
pub trait Clock {
    /// Time since an arbitrary fixed moment.
    fn now(&self) -> Duration;

    /// A counter that runs on at a fixed rate, whatever that is: to see cheaply what time went on. Nanoseconds, unless there is
    /// something cheaper.
    #[inline]
    fn cycles(&self) -> u64 {
        self.now().as_nanos() as u64
    }
}
