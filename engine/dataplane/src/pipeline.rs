//! The pipeline of one worker: bursts in, packets out.

use crate::address::HostPrefix;
use crate::counters::{Drops, Traffic};
use crate::drop::DropReason;
use crate::id::PortId;
use crate::packet::{Packet, Pool};
use crate::segment::{self, Capabilities};
use crate::snapshot::{HostSnapshot, Interface, PortRole, Uplink};
use crate::stage::{
    Burst, FromNode, FromUplink, arp, authorise, classify_node, classify_uplink, deliver, destination,
    look_up, next_hop, source_check, verify_source,
};
use crate::table::mapping::{MappingKey, MappingTable};
use crate::table::qsbr::Reader;
use crate::translate::Identifications;
use arrayvec::ArrayVec;
use std::sync::Arc;

/// How many packets a burst has at most.
pub const BURST: usize = 64;

/// Where the pipeline leaves packets: the worker's transmit buffers and its bounded way to the control thread.
pub trait Outbox<P> {
    /// The packet is to leave by `port`, and `port` may be gone. What the port's queue cannot do itself is still to be
    /// done, by [`Pipeline::finish`].
    fn transmit(&mut self, port: PortId, packet: P);

    /// The packet, received on the uplink `port`, is for the engine itself (neighbour discovery, ICMPv6, anything to
    /// the engine's own addresses).
    fn punt(&mut self, port: PortId, packet: P);

    /// The substrate says that IPv6 packets to `host` must not be larger than `mtu` bytes, and what it quotes was
    /// sent from here. What becomes of it is the control thread's; it may be lost, since the next packet that is too
    /// large brings it again.
    fn path_mtu(&mut self, host: HostPrefix, mtu: u16);
}

/// The stages of one worker, and what they keep between bursts.
#[derive(Debug)]
pub struct Pipeline<K> {
    worker: usize,
    table: MappingTable,
    pool: K,
    identifications: Identifications,
    unplaced: Arc<Traffic>,
}

impl<K: Pool> Pipeline<K> {
    /// The pipeline of worker `worker` (its index in every [`crate::counters::PerWorker`]).
    #[must_use]
    pub fn new(worker: usize, table: MappingTable, pool: K) -> Self {
        Self { worker, table, pool, identifications: Identifications::new(worker), unplaced: Arc::default() }
    }

    /// Packets from ports that are in no snapshot (any more), which have no other counters.
    #[must_use]
    pub const fn unplaced(&self) -> &Arc<Traffic> {
        &self.unplaced
    }

    /// Carries a burst received on `port` through all stages, and empties it. Each packet is transmitted, punted, or
    /// counted as dropped; what is transmitted is counted by whoever hands it to the port.
    pub fn receive(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        port: PortId,
        burst: &mut ArrayVec<K::Packet, BURST>,
        out: &mut impl Outbox<K::Packet>,
    ) {
        match snapshot.role(port) {
            PortRole::Node(interface) => self.node_burst(reader, snapshot, interface, burst, out),
            PortRole::Uplink(uplink) => self.uplink_burst(reader, snapshot, uplink, burst, out),
            PortRole::Absent => {
                count_received(&self.unplaced, burst);
                for _ in burst.drain(..) {
                    self.unplaced.drops.count(DropReason::PortGone);
                }
            }
        }
    }

    fn node_burst(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        interface: &Interface,
        received: &mut ArrayVec<K::Packet, BURST>,
        out: &mut impl Outbox<K::Packet>,
    ) {
        let traffic = interface.traffic.get(self.worker).unwrap_or(&self.unplaced);
        count_received(traffic, received);
        let node = FromNode { snapshot, interface, drops: &traffic.drops };
        let (mut arps, mut burst) = (ArrayVec::new_const(), Burst::new());

        classify_node::run(&node, received, &mut arps, &mut burst);
        arp::run(&node, &self.table, reader, &mut arps, out);
        source_check::run(&node, &mut burst);
        next_hop::run(&node, &mut burst);
        let vnet = interface.vnet.id;
        look_up::run(
            &self.table,
            reader,
            &mut burst,
            |item| MappingKey::new(vnet, item.header.destination),
            |item, mapping| item.mapping = mapping,
        );
        next_hop::reachable(&node, &mut burst);
        authorise::outbound(&node, &mut burst);
        deliver::outbound(&node, &mut burst, out);
    }

    fn uplink_burst(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        uplink: &Uplink,
        received: &mut ArrayVec<K::Packet, BURST>,
        out: &mut impl Outbox<K::Packet>,
    ) {
        let traffic = uplink.traffic.get(self.worker).unwrap_or(&self.unplaced);
        count_received(traffic, received);
        let drops: &Drops = &traffic.drops;
        let uplink = FromUplink { snapshot, uplink, prefix: snapshot.prefix, worker: self.worker, drops };
        let mut burst = Burst::new();

        classify_uplink::run(&uplink, received, &mut burst, out);
        destination::run(&uplink, &self.table, reader, &mut burst);
        verify_source::run(&uplink, &self.table, reader, &mut burst);
        authorise::inbound(&uplink, &mut burst);
        deliver::inbound(&uplink, &mut burst, &mut self.identifications, out);
    }

    /// Does in software what is left to be done to a packet and what a transmit queue with `capabilities` cannot do:
    /// checksums, and cutting into frames. `emit` gets what is to be sent, in order.
    ///
    /// # Errors
    /// Why the packet, or what was left of it, is lost; whoever transmits counts it, once.
    pub fn finish(
        &self,
        capabilities: Capabilities,
        packet: K::Packet,
        emit: impl FnMut(K::Packet),
    ) -> Result<(), DropReason> {
        segment::finish(&self.pool, capabilities, packet, emit)
    }
}

fn count_received<P: Packet>(traffic: &Traffic, burst: &[P]) {
    traffic.rx_packets.add(burst.len() as u64);
    traffic.rx_bytes.add(burst.iter().map(|packet| packet.len() as u64).sum());
}
