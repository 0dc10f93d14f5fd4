//! Queues of a device with a DPDK driver.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use arrayvec::ArrayVec;
use overlane_dataplane::packet::{Checksum, Offload, Packet, SegmentationKind};

use super::Device;
use crate::offload::{Layers, Transport, finish_checksum, from_driver, gather_headers, unfinished};
use crate::queue::{BURST, forget_front};
use crate::{Capabilities, Mbuf, QueueState, sys};

/// A receive queue.
#[derive(Debug)]
pub(crate) struct EthdevRx {
    device: Arc<Device>,
    queue: u16,
    /// The driver passes on what a kernel left unfinished, without telling.
    untold: bool,
}

impl EthdevRx {
    pub(super) fn new(device: Arc<Device>, queue: u16, untold: bool) -> Self {
        Self { device, queue, untold }
    }

    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn state(&self) -> QueueState {
        self.device.state()
    }

    pub(crate) fn receive(&mut self, burst: &mut ArrayVec<Mbuf, BURST>) -> usize {
        let before = burst.len();
        let room = burst.remaining_capacity();
        if room == 0 {
            return 0;
        }
        // SAFETY: the device is started, as we hold it, and this is the queue's only value, so nobody polls it at the
        // same time. There are `room` places behind the vector's length; the driver fills the first `count` with
        // packets that are ours from then on. An Mbuf is a pointer in memory.
        let count = unsafe {
            let places = burst.as_mut_ptr().add(before).cast();
            let count = sys::overlane_rx_burst(self.device.id, self.queue, places, room as u16);
            burst.set_len(before + usize::from(count));
            usize::from(count)
        };
        let received = burst.get_mut(before..).unwrap_or_default();
        // The stages begin with the headers; a device has left them in a cache further out, if in any.
        received.iter().for_each(Mbuf::prefetch);
        if self.untold || !received.iter().all(Mbuf::is_plain) {
            received.iter_mut().for_each(|packet| normalise(packet, self.untold));
        }
        count
    }
}

/// Brings a driver's idea of a packet's metadata into ours. Most drivers set none; `untold`: not even what a kernel left
/// unfinished.
fn normalise(packet: &mut Mbuf, untold: bool) {
    let flags = packet.flags();
    let partial = flags & sys::OVERLANE_RX_L4_MASK == sys::OVERLANE_RX_L4_NONE;
    let merged = flags & sys::OVERLANE_RX_LRO != 0;
    if partial || merged || untold {
        gather_headers(packet);
    }
    if partial || merged {
        // The driver's packing: the segment size has bits 24 to 39.
        let size = merged.then(|| (packet.tx_offload() >> 24) as u16);
        let mut offload = from_driver(packet, partial, size);
        if flags & sys::OVERLANE_RX_L4_MASK == sys::OVERLANE_RX_L4_GOOD {
            offload.checksum = Checksum::Verified;
        }
        packet.set_offload(offload);
    } else if untold && let Some(partial) = unfinished(packet) {
        packet.set_offload(Offload { checksum: partial, segmentation: None });
    }
}

/// A transmit queue.
#[derive(Debug)]
pub(crate) struct EthdevTx {
    device: Arc<Device>,
    queue: u16,
    capabilities: Capabilities,
    segments: Segments,
}

/// How many segments a packet may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segments {
    frame: usize,
    /// One that the device is to cut.
    large: usize,
}

impl Segments {
    /// `offloads` are those in use.
    pub(super) fn of(info: &sys::rte_eth_dev_info, offloads: u64) -> Self {
        if offloads & sys::OVERLANE_TX_OFFLOAD_MULTI_SEGS == 0 {
            return Self { frame: 1, large: 1 };
        }
        // Zero stands for a driver that has not said.
        let limit = |most: u16| if most == 0 { usize::MAX } else { usize::from(most) };
        Self { frame: limit(info.tx_desc_lim.nb_mtu_seg_max), large: limit(info.tx_desc_lim.nb_seg_max) }
    }
}

impl EthdevTx {
    pub(super) fn new(
        device: Arc<Device>,
        queue: u16,
        capabilities: Capabilities,
        segments: Segments,
    ) -> Self {
        Self { device, queue, capabilities, segments }
    }

    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub(crate) fn state(&self) -> QueueState {
        self.device.state()
    }

    pub(crate) fn send(&mut self, packets: &mut ArrayVec<Mbuf, BURST>) -> usize {
        if packets.iter().all(Mbuf::is_plain) {
            return self.hand_over(packets);
        }
        self.send_prepared(packets)
    }

    /// Sends packets of which some have several segments, or want something done.
    #[cold]
    fn send_prepared(&mut self, packets: &mut ArrayVec<Mbuf, BURST>) -> usize {
        let before = packets.len();
        let mut originals = Originals::new();
        let mut index = 0;
        packets.retain(|packet| {
            let ready = self.prepare(packet, index, &mut originals);
            index += usize::from(ready);
            ready
        });
        if !originals.is_empty() {
            self.let_driver_check(packets, &mut originals);
        }
        let refused = before - packets.len();
        if refused > 0 {
            self.device.counters.tx_refused.fetch_add(refused as u64, Ordering::Relaxed);
        }
        let taken = self.hand_over(packets);
        for original in originals {
            if let Some(packet) = original.index.checked_sub(taken).and_then(|index| packets.get_mut(index)) {
                original.restore(packet);
            }
        }
        taken
    }

    /// Gives the driver packets that are as it expects them; says how many it took from the front.
    #[inline]
    pub(crate) fn hand_over(&mut self, packets: &mut ArrayVec<Mbuf, BURST>) -> usize {
        // SAFETY: the device is started, as we hold it, and this is the queue's only value. The packets are in the
        // vector; the driver owns the first `taken` of them from then on, and they leave the vector.
        let taken = unsafe {
            let first = packets.as_mut_ptr().cast();
            let taken = sys::overlane_tx_burst(self.device.id, self.queue, first, packets.len() as u16);
            let taken = usize::from(taken);
            forget_front(packets, taken);
            taken
        };
        if !packets.is_empty() {
            self.device.counters.tx_full.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Turns the packet's metadata into what the driver expects, doing in software what the device cannot. `false`:
    /// it cannot be sent.
    fn prepare(&self, packet: &mut Mbuf, index: usize, originals: &mut Originals) -> bool {
        let offload = packet.offload();
        let most = if offload.segmentation.is_some() { self.segments.large } else { self.segments.frame };
        if packet.segment_count() > most && !packet.gather(&self.device.pool, most) {
            return false;
        }
        let Checksum::Partial { start, offset } = offload.checksum else {
            // A packet to be cut has its checksum left to whoever cuts it.
            return offload.segmentation.is_none();
        };
        gather_headers(packet);
        let layers = Layers::parse(packet.head())
            .filter(|layers| {
                layers.transport_start() == start && layers.transport.checksum_offset() == offset
            })
            .filter(|layers| layers.l2 < 1 << 7 && layers.l3 < 1 << 9);
        let request = match (layers, offload.segmentation) {
            (Some(layers), Some(_)) if self.capabilities.tcp_segmentation => driver_request(layers, offload),
            (Some(layers), None) if self.capabilities.checksum => driver_request(layers, offload),
            (_, None) => return finish_checksum(packet, start, offset),
            (_, Some(_)) => return false,
        };
        let Some((flags, tx_offload)) = request else { return false };
        originals.push(Original { index, flags: packet.flags(), tx_offload: packet.tx_offload() });
        packet.set_flags(packet.flags() | flags);
        packet.set_tx_offload(tx_offload);
        true
    }

    /// Has the driver check, and where its device needs that fill in, the packets with offloads; drops those that it
    /// cannot send.
    fn let_driver_check(&self, packets: &mut ArrayVec<Mbuf, BURST>, originals: &mut Originals) {
        let mut checked = 0;
        while checked < packets.len() {
            // SAFETY: the device is started and this is the queue's only value; the packets are in the vector, and
            // stay ours.
            let good = unsafe {
                let first = packets.as_mut_ptr().add(checked).cast();
                sys::overlane_tx_prepare(self.device.id, self.queue, first, (packets.len() - checked) as u16)
            };
            checked += usize::from(good);
            if checked < packets.len() {
                packets.remove(checked);
                originals.retain(|original| original.index != checked);
                for original in originals.iter_mut().filter(|original| original.index > checked) {
                    original.index -= 1;
                }
            }
        }
    }
}

type Originals = ArrayVec<Original, BURST>;

/// The metadata of a packet before it was prepared, should it come back. What a driver has put in the place of checksums
/// stays: it does so again.
#[derive(Debug)]
struct Original {
    index: usize,
    flags: u64,
    tx_offload: u64,
}

impl Original {
    fn restore(&self, packet: &mut Mbuf) {
        packet.set_flags(self.flags);
        packet.set_tx_offload(self.tx_offload);
    }
}

/// The flags and lengths by which DPDK asks a device for the offload; `None` if it knows none such.
fn driver_request(layers: Layers, offload: Offload) -> Option<(u64, u64)> {
    let mut flags = if layers.version == 4 { sys::OVERLANE_TX_IPV4 } else { sys::OVERLANE_TX_IPV6 };
    let mut lengths = u64::from(layers.l2) | u64::from(layers.l3) << 7;
    match layers.transport {
        Transport::Tcp { .. } => flags |= sys::OVERLANE_TX_TCP_CKSUM,
        Transport::Udp => flags |= sys::OVERLANE_TX_UDP_CKSUM,
    }
    if let Some(segmentation) = offload.segmentation {
        let (SegmentationKind::Tcp { .. }, Transport::Tcp { header }) = (segmentation.kind, layers.transport)
        else {
            return None;
        };
        flags |= sys::OVERLANE_TX_TCP_SEG;
        if layers.version == 4 {
            flags |= sys::OVERLANE_TX_IP_CKSUM;
        }
        lengths |= u64::from(header) << 16 | u64::from(segmentation.size) << 24;
    }
    Some((flags, lengths))
}
