//! The way out of a worker: packets gathered by port during a turn, and sent at its end.

use crate::adapter::{Frame, Frames, send};
use capsule::PortQueue;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use overlane_dataplane::address::HostPrefix;
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::id::PortId;
use overlane_dataplane::packet::Packet;
use overlane_dataplane::pipeline::{BURST, Outbox};
use overlane_dataplane::segment::{self, Capabilities};
use std::sync::Arc;

/// What would go to a control thread, which this driver does not have.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    /// Packets for the engine itself.
    pub(crate) punted: AtomicU64,
    /// Path MTUs that routers told.
    pub(crate) path_mtus: AtomicU64,
}

/// A worker's ports, as far as sending goes.
pub(crate) struct Exits {
    worker: usize,
    /// By port index.
    exits: Vec<Exit>,
    unheard: Arc<Unheard>,
    unplaced: Arc<Traffic>,
    /// Behind the packets: it may be what keeps the thread registered.
    pool: Frames,
}

struct Exit {
    queue: PortQueue,
    packets: Vec<Frame>,
    traffic: Arc<PerWorker<Traffic>>,
}

impl Exits {
    /// The ports by their index, each with its queue of this worker's core and its counters.
    pub(crate) fn new(
        worker: usize,
        pool: Frames,
        ports: Vec<(PortQueue, Arc<PerWorker<Traffic>>)>,
        unheard: Arc<Unheard>,
        unplaced: Arc<Traffic>,
    ) -> Self {
        let exit = |(queue, traffic)| Exit { queue, packets: Vec::with_capacity(BURST), traffic };
        Self { worker, exits: ports.into_iter().map(exit).collect(), unheard, unplaced, pool }
    }

    /// Counts a packet that was received on, or was to leave by, `port`.
    pub(crate) fn count(&self, port: PortId, reason: DropReason) {
        let traffic = self.exits.get(port.index()).and_then(|exit| exit.traffic.get(self.worker));
        traffic.unwrap_or(&self.unplaced).drops.count(reason);
    }

    /// Sends what was gathered.
    pub(crate) fn flush(&mut self) {
        for exit in &mut self.exits {
            exit.flush(self.worker);
        }
    }
}

impl Exit {
    fn flush(&mut self, worker: usize) {
        if self.packets.is_empty() {
            return;
        }
        if let Some(traffic) = self.traffic.get(worker) {
            traffic.tx_packets.add(self.packets.len() as u64);
            traffic.tx_bytes.add(self.packets.iter().map(|packet| packet.len() as u64).sum());
        }
        send(&mut self.queue, &mut self.packets);
    }
}

impl Outbox<Frame> for Exits {
    fn transmit(&mut self, port: PortId, packet: Frame) {
        let Some(exit) = self.exits.get_mut(port.index()) else {
            return self.count(port, DropReason::PortGone);
        };
        let worker = self.worker;
        // capsule's ports do nothing by themselves.
        let done = segment::finish(&self.pool, Capabilities::default(), packet, |packet| {
            if exit.packets.len() == BURST {
                exit.flush(worker);
            }
            exit.packets.push(packet);
        });
        if let Err(reason) = done {
            self.count(port, reason);
        }
    }

    fn punt(&mut self, _: PortId, _: Frame) {
        self.unheard.punted.fetch_add(1, Relaxed);
    }

    fn path_mtu(&mut self, _: HostPrefix, _: u16) {
        self.unheard.path_mtus.fetch_add(1, Relaxed);
    }
}
