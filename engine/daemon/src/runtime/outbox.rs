//! The way out of a worker: packets gathered by port during a turn, and sent at its end.

use super::hints::Hints;
use super::mailbox::{Mailbox, Way};
use super::questions::Asked;
use super::slots::{Refused, SlotRing};
use arrayvec::ArrayVec;
use overlane_dataplane::address::HostPrefix;
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::id::PortId;
use overlane_dataplane::packet::Packet;
use overlane_dataplane::pipeline::Outbox;
use overlane_dataplane::resolve::Question;
use overlane_dataplane::segment::{self, Capabilities};
use overlane_dpdk::{BURST, Mbuf, Mempool, QueueState, TxQueue};
use std::sync::Arc;

/// A worker's ports, as far as sending goes.
pub(super) struct Out {
    worker: usize,
    pool: Mempool,
    ports: Vec<Option<TxPort>>,
    /// Ports that packets were gathered for in this turn, each once: it has room for all, and so never grows.
    pending: Vec<PortId>,
    peers: Arc<[Arc<Mailbox>]>,
    /// Peers that were handed something in this turn.
    handed: Vec<bool>,
    punts: Arc<SlotRing>,
    punted: bool,
    hints: Arc<Hints>,
    hinted: bool,
    questions: Arc<Asked>,
    asked: bool,
    /// Drops for ports that are not here, which have no counters of their own.
    unplaced: Arc<Traffic>,
}

struct TxPort {
    port: PortId,
    exit: Exit,
    /// It is among the pending ones.
    pending: bool,
    traffic: Arc<PerWorker<Traffic>>,
}

enum Exit {
    Queue { queue: TxQueue, capabilities: Capabilities, gathered: Box<Gathered> },
    Via(usize),
}

/// Packets for a queue, and what was seen of them while they were at hand.
#[derive(Default)]
struct Gathered {
    packets: ArrayVec<Mbuf, BURST>,
    /// All of their bytes.
    bytes: u64,
    /// Some are not [plain](Mbuf::is_plain).
    special: bool,
}

impl Gathered {
    /// One more, for which there is room.
    #[inline]
    fn push(&mut self, packet: Mbuf) {
        self.special |= !packet.is_plain();
        self.bytes += packet.len() as u64;
        self.packets.push(packet);
    }

    /// Gives the queue what it takes; says how many it took and how many it sent, and the bytes of those that it took.
    fn send(&mut self, queue: &mut TxQueue) -> (usize, usize, u64) {
        let Self { packets, bytes, special } = self;
        let (before, gathered) = (packets.len(), *bytes);
        let sent = if *special { queue.send(packets) } else { queue.send_plain(packets) };
        let left = packets.len();
        if left == 0 {
            (*bytes, *special) = (0, false);
        } else {
            *bytes = packets.iter().map(|packet| packet.len() as u64).sum();
        }
        (before - left, sent, gathered - *bytes)
    }

    fn clear(&mut self) -> usize {
        let dropped = self.packets.len();
        *self = Self::default();
        dropped
    }
}

impl Out {
    pub(super) fn new(
        worker: usize,
        pool: Mempool,
        peers: Arc<[Arc<Mailbox>]>,
        punts: Arc<SlotRing>,
        hints: Arc<Hints>,
        questions: Arc<Asked>,
        unplaced: Arc<Traffic>,
    ) -> Self {
        let handed = vec![false; peers.len()];
        Self {
            worker,
            pool,
            ports: Vec::new(),
            pending: Vec::new(),
            peers,
            handed,
            punts,
            punted: false,
            hints,
            hinted: false,
            questions,
            asked: false,
            unplaced,
        }
    }

    pub(super) fn add(&mut self, port: PortId, way: Way, traffic: Arc<PerWorker<Traffic>>) {
        let exit = match way {
            Way::Queue(queue, capabilities) => Exit::Queue { queue, capabilities, gathered: Box::default() },
            Way::Via(worker) => Exit::Via(worker),
        };
        if self.ports.len() <= port.index() {
            self.ports.resize_with(port.index() + 1, || None);
        }
        self.pending.reserve(self.ports.len());
        if let Some(place) = self.ports.get_mut(port.index()) {
            *place = Some(TxPort { port, exit, pending: false, traffic });
        }
    }

    /// Forgets a port; gives its queue, if it is this worker's.
    pub(super) fn remove(&mut self, port: PortId) -> Option<TxQueue> {
        let removed = self.ports.get_mut(port.index())?.take()?;
        self.pending.retain(|pending| *pending != port);
        match removed.exit {
            Exit::Queue { queue, .. } => Some(queue),
            Exit::Via(_) => None,
        }
    }

    pub(super) fn ports(&self) -> Vec<PortId> {
        self.ports.iter().flatten().map(|port| port.port).collect()
    }

    /// Counts a packet that was received on, or was to leave by, `port`.
    fn count(&self, port: PortId, reason: DropReason) {
        let traffic = self.ports.get(port.index()).and_then(|port| port.as_ref()?.traffic.get(self.worker));
        traffic.unwrap_or(&self.unplaced).drops.count(reason);
    }

    /// Sends what was gathered, and wakes whoever was handed something. Gives whether something was punted.
    pub(super) fn flush(&mut self) -> bool {
        for port in self.pending.drain(..) {
            if let Some(port) = self.ports.get_mut(port.index()).and_then(Option::as_mut) {
                port.pending = false;
                port.flush(self.worker);
                port.abandon(self.worker);
            }
        }
        for (handed, peer) in self.handed.iter_mut().zip(self.peers.iter()) {
            if std::mem::take(handed) {
                peer.wake();
            }
        }
        if std::mem::take(&mut self.hinted) {
            self.hints.tell();
        }
        if std::mem::take(&mut self.asked) {
            self.questions.tell();
        }
        std::mem::take(&mut self.punted)
    }
}

impl Outbox<Mbuf> for Out {
    /// The straight line: the queue is this worker's, it has room, and the packet is to leave as it is.
    #[inline]
    fn transmit(&mut self, port: PortId, packet: Mbuf) {
        if let Some(Some(TxPort { exit: Exit::Queue { gathered, .. }, pending, .. })) =
            self.ports.get_mut(port.index())
            && packet.is_plain()
            && !gathered.packets.is_full()
        {
            // Not by whether something is gathered: nothing may have come of the packets before.
            if !std::mem::replace(pending, true) {
                self.pending.push(port);
            }
            gathered.push(packet);
            return;
        }
        self.transmit_otherwise(port, packet);
    }

    /// The same line for a whole burst, which then moves at once.
    #[inline]
    fn transmit_burst(&mut self, port: PortId, packets: &mut ArrayVec<Mbuf, BURST>) {
        if let Some(Some(TxPort { exit: Exit::Queue { gathered, .. }, pending, .. })) =
            self.ports.get_mut(port.index())
            && packets.len() <= gathered.packets.remaining_capacity()
        {
            let (mut bytes, mut plain) = (0, true);
            for packet in packets.iter() {
                bytes += packet.len() as u64;
                plain &= packet.is_plain();
            }
            if plain {
                if !std::mem::replace(pending, true) {
                    self.pending.push(port);
                }
                gathered.bytes += bytes;
                if gathered.packets.is_empty() {
                    std::mem::swap(&mut gathered.packets, packets);
                } else {
                    gathered.packets.extend(packets.drain(..));
                }
                return;
            }
        }
        for packet in packets.drain(..) {
            self.transmit(port, packet);
        }
    }

    fn punt(&mut self, port: PortId, packet: Mbuf) {
        match self.punts.put(port, packet.segments()) {
            Ok(()) => self.punted = true,
            Err(Refused::Full) => self.count(port, DropReason::PuntQueueFull),
            Err(Refused::TooLong) => self.count(port, DropReason::PacketTooBig),
        }
    }

    fn path_mtu(&mut self, host: HostPrefix, mtu: u16) {
        self.hinted |= self.hints.put(host, mtu);
    }

    fn ask(&mut self, question: Question) -> bool {
        let taken = self.questions.put(self.worker, question);
        self.asked |= taken;
        taken
    }
}

impl Out {
    /// Any packet, to any port.
    #[inline(never)]
    fn transmit_otherwise(&mut self, port: PortId, packet: Mbuf) {
        let Some(place) = self.ports.get_mut(port.index()).and_then(Option::as_mut) else {
            self.count(port, DropReason::PortGone);
            return;
        };
        match &place.exit {
            Exit::Queue { capabilities, .. } => {
                if !std::mem::replace(&mut place.pending, true) {
                    self.pending.push(port);
                }
                let capabilities = *capabilities;
                let done = segment::finish(&self.pool, capabilities, packet, |packet| {
                    place.gather(packet, self.worker);
                });
                if let Err(reason) = done {
                    self.count(port, reason);
                }
            }
            Exit::Via(owner) => {
                let owner = *owner;
                match self.peers.get(owner).map(|peer| peer.handoff.push((port, packet))) {
                    Some(Ok(())) => {
                        if let Some(handed) = self.handed.get_mut(owner) {
                            *handed = true;
                        }
                    }
                    _ => self.count(port, DropReason::HandoffFull),
                }
            }
        }
    }
}

impl TxPort {
    fn gather(&mut self, packet: Mbuf, worker: usize) {
        if self.is_full() {
            self.flush(worker);
            if self.is_full() {
                self.abandon(worker);
            }
        }
        if let Exit::Queue { gathered, .. } = &mut self.exit {
            gathered.push(packet);
        }
    }

    fn is_full(&self) -> bool {
        matches!(&self.exit, Exit::Queue { gathered, .. } if gathered.packets.is_full())
    }

    /// Sends as much as the device takes.
    fn flush(&mut self, worker: usize) {
        let Exit::Queue { queue, gathered, .. } = &mut self.exit else { return };
        let (taken, sent, bytes) = gathered.send(queue);
        let Some(traffic) = self.traffic.get(worker) else { return };
        // The device refuses a packet, or loses it, so rarely that its share of the bytes need not be exact.
        let bytes = if sent == taken { bytes } else { bytes * sent as u64 / taken.max(1) as u64 };
        traffic.tx_packets.add(sent as u64);
        traffic.tx_bytes.add(bytes);
        if sent < taken {
            let reason = match queue.state() {
                QueueState::Running => DropReason::TxRefused,
                QueueState::Gone => DropReason::PortGone,
            };
            for _ in sent..taken {
                traffic.drops.count(reason);
            }
        }
    }

    /// Drops what the device has no room for. Kept, it would only grow old: the queue behind the port is the buffer.
    fn abandon(&mut self, worker: usize) {
        let Exit::Queue { queue, gathered, .. } = &mut self.exit else { return };
        if gathered.packets.is_empty() {
            return;
        }
        let reason = match queue.state() {
            QueueState::Running => DropReason::TxQueueFull,
            QueueState::Gone => DropReason::PortGone,
        };
        for _ in 0..gathered.clear() {
            if let Some(traffic) = self.traffic.get(worker) {
                traffic.drops.count(reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_dataplane::packet::{Checksum, Offload};
    use overlane_dpdk::{Devargs, Eal, EalOptions, Hugepages, MempoolOptions, Port, PortOptions};

    #[test]
    fn port_is_pending_once_in_a_turn_whatever_becomes_of_its_packets() {
        let options = EalOptions { memory_mib: 64, hugepages: Hugepages::Never, ..EalOptions::default() };
        let eal = Eal::init(options).unwrap();
        let pool = Mempool::new(&eal, "outbox", &MempoolOptions { size: 1_023, ..MempoolOptions::default() });
        let pool = pool.unwrap();
        let devargs: Devargs = "net_null0".parse().unwrap();
        let (device, rx, mut tx) = Port::attach(&eal, &devargs, &pool, &PortOptions::default()).unwrap();
        let rest = pool.in_use();

        let unplaced = Arc::new(Traffic::default());
        let punts = Arc::new(SlotRing::new(4));
        let mut out =
            Out::new(0, pool.clone(), Arc::new([]), punts, Arc::default(), Arc::default(), unplaced);
        let (port, traffic) = (PortId::new(3).unwrap(), Arc::new(PerWorker::<Traffic>::new(1)));
        let queue = tx.pop().unwrap();
        // It does nothing by itself: checksums are completed before it.
        out.add(port, Way::Queue(queue, Capabilities::default()), Arc::clone(&traffic));
        let room = out.pending.capacity();
        let packet = |checksum| {
            let mut packet = pool.packet(&[0; 60]).unwrap();
            packet.set_offload(Offload { checksum, segmentation: None });
            packet
        };
        for turn in 1..=2 {
            for _ in 0..100 {
                // Its checksum's place lies behind its end.
                out.transmit(port, packet(Checksum::Partial { start: 60, offset: 16 }));
                assert_eq!((&out.pending[..], out.pending.capacity()), (&[port][..], room));
            }
            out.transmit(port, packet(Checksum::Complete));
            out.flush();
            assert!(out.pending.is_empty());
            assert_eq!(traffic.total(DropReason::OffloadInvalid), turn * 100);
            assert_eq!(traffic.get(0).unwrap().tx_packets.get(), turn);
        }
        // A burst moves at once where there is room, and packet by packet where not; either way none is lost.
        let sent = || traffic.get(0).unwrap().tx_packets.get();
        let before = sent();
        for burst in [BURST - 1, 3] {
            let mut burst: ArrayVec<_, BURST> = (0..burst).map(|_| packet(Checksum::Complete)).collect();
            out.transmit_burst(port, &mut burst);
            assert!(burst.is_empty());
            assert_eq!((&out.pending[..], out.pending.capacity()), (&[port][..], room));
        }
        out.flush();
        assert_eq!(sent() - before, BURST as u64 + 2);
        // What has work left is not plain, and has it done.
        let mut burst: ArrayVec<_, BURST> = ArrayVec::new();
        burst.push(packet(Checksum::Complete));
        burst.push(packet(Checksum::Partial { start: 60, offset: 16 }));
        out.transmit_burst(port, &mut burst);
        out.flush();
        assert_eq!((sent() - before, traffic.total(DropReason::OffloadInvalid)), (BURST as u64 + 3, 201));
        assert_eq!(pool.in_use(), rest);
        device.close(rx, out.remove(port).into_iter().collect()).unwrap();
        assert_eq!(pool.in_use(), 0);
    }
}
