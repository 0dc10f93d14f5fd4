//! The stages: each runs over the whole burst before the next begins.
//!
//! A stage is a function from what is known of a packet to a bit more, or to a [`DropReason`]. It never counts and
//! never frees: [`Burst::each`] takes what a stage refuses out of the burst and counts it once, so a packet that
//! comes in is transmitted, punted, or counted under one reason.

pub(crate) mod answer;
pub(crate) mod arp;
pub(crate) mod authorise;
pub(crate) mod classify_node;
pub(crate) mod classify_uplink;
pub(crate) mod deliver;
pub(crate) mod destination;
pub(crate) mod fragments;
pub(crate) mod look_up;
pub(crate) mod next_hop;
pub(crate) mod quote;
pub(crate) mod router;
pub(crate) mod source_check;
pub(crate) mod verify_source;

use crate::address::{Delivery, HostPrefix};
use crate::counters::{Drops, Traffic};
use crate::drop::DropReason;
use crate::fragment;
use crate::header::NetworkHeader;
use crate::id::{PortId, Slot, VnetId};
use crate::mac::MacAddr;
use crate::packet::{Clock, Packet, Pool};
use crate::pipeline::{BURST, Outbox};
use crate::refusal::Refusal;
use crate::snapshot::{HostSnapshot, Interface, Uplink, Vnet};
use crate::table::mapping::{Mapping, MappingTable};
use crate::table::qsbr::Reader;
use crate::translate::Crossing;
use arrayvec::ArrayVec;
use core::net::Ipv6Addr;

/// A packet from a node, and what the stages have found out about it.
pub(crate) struct Outbound<'a, P> {
    pub(crate) packet: P,
    pub(crate) header: NetworkHeader,
    /// Where the node sent the frame.
    pub(crate) frame_destination: MacAddr,
    /// Whether the node sent it to its gateway.
    pub(crate) routed: bool,
    /// The destination's mapping.
    pub(crate) mapping: Option<&'a Mapping>,
}

/// A packet from the substrate, and what the stages have found out about it.
pub(crate) struct Inbound<'a, P> {
    pub(crate) packet: P,
    pub(crate) header: NetworkHeader,
    pub(crate) source: Ipv6Addr,
    /// The vnet in the source address; the destination's until it is known.
    pub(crate) source_vnet: VnetId,
    pub(crate) substrate_destination: Ipv6Addr,
    /// The slot, the form and the vnet in the destination; its virtual address is the header's.
    pub(crate) slot: Slot,
    pub(crate) delivery: Delivery,
    pub(crate) destination_vnet: VnetId,
    /// The destination's vnet, once it is known to be on this host.
    pub(crate) vnet: Option<&'a Vnet>,
    /// The interface that it is for.
    pub(crate) receiver: Option<&'a Interface>,
    /// The mapping that the running stage looks at: in layouts without slots first the destination's, then the
    /// source's.
    pub(crate) mapping: Option<&'a Mapping>,
    /// Why its source is no node's, if it is an ICMPv6 error, which a router of the substrate may send.
    pub(crate) not_a_node: Option<DropReason>,
}

/// What stays the same over a burst from a node.
pub(crate) struct FromNode<'a> {
    pub(crate) snapshot: &'a HostSnapshot,
    pub(crate) table: &'a MappingTable,
    pub(crate) reader: &'a Reader,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) interface: &'a Interface,
    pub(crate) worker: usize,
    pub(crate) traffic: &'a Traffic,
}

/// What stays the same over a burst from an uplink.
pub(crate) struct FromUplink<'a> {
    pub(crate) snapshot: &'a HostSnapshot,
    pub(crate) table: &'a MappingTable,
    pub(crate) reader: &'a Reader,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) uplink: &'a Uplink,
    pub(crate) prefix: Option<HostPrefix>,
    pub(crate) worker: usize,
    pub(crate) traffic: &'a Traffic,
}

/// Says where a packet that is dropped is counted.
pub(crate) trait Place<'a, I> {
    /// The counters of the packet's port or vnet.
    fn drops(&self, item: &I) -> &'a Drops;
}

impl<'a, P> Place<'a, Outbound<'_, P>> for FromNode<'a> {
    fn drops(&self, _: &Outbound<'_, P>) -> &'a Drops {
        &self.traffic.drops
    }
}

impl<'a, P> Place<'a, Inbound<'a, P>> for FromUplink<'a> {
    fn drops(&self, item: &Inbound<'a, P>) -> &'a Drops {
        item.vnet.and_then(|vnet| vnet.uplink_drops.get(self.worker)).unwrap_or(&self.traffic.drops)
    }
}

/// What carries a packet through the stages.
pub(crate) trait Carrier {
    type Packet;
    fn into_packet(self) -> Self::Packet;
    /// Whether it is a part of a datagram.
    fn is_part(&self) -> bool;
}

impl<P> Carrier for Outbound<'_, P> {
    type Packet = P;
    fn into_packet(self) -> P {
        self.packet
    }

    #[inline]
    fn is_part(&self) -> bool {
        self.header.fragment.is_some()
    }
}

impl<P> Carrier for Inbound<'_, P> {
    type Packet = P;
    fn into_packet(self) -> P {
        self.packet
    }

    #[inline]
    fn is_part(&self) -> bool {
        self.header.fragment.is_some()
    }
}

/// The packets that are still under way.
pub(crate) struct Burst<I>(ArrayVec<I, BURST>);

impl<I> IntoIterator for Burst<I> {
    type Item = I;
    type IntoIter = arrayvec::IntoIter<I, BURST>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<I: Carrier> Burst<I> {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self(ArrayVec::new_const())
    }

    /// Takes one more packet in; a burst that came in fits.
    #[inline]
    pub(crate) fn push(&mut self, item: I) {
        self.0.push(item);
    }

    #[inline]
    pub(crate) fn items(&self) -> &[I] {
        &self.0
    }

    #[inline]
    pub(crate) fn items_mut(&mut self) -> &mut [I] {
        &mut self.0
    }

    /// Runs a stage: what it refuses is counted and leaves the burst.
    #[inline(always)]
    pub(crate) fn each<'a>(
        &mut self,
        place: &impl Place<'a, I>,
        mut stage: impl FnMut(&mut I) -> Result<(), DropReason>,
    ) {
        let mut kept = 0;
        for index in 0..self.0.len() {
            let Some(item) = self.0.get_mut(index) else { break };
            if let Err(reason) = stage(item) {
                place.drops(item).count(reason);
                continue;
            }
            if kept != index {
                self.0.swap(kept, index);
            }
            kept += 1;
        }
        self.0.truncate(kept);
    }

    /// Runs the last stage, which makes each packet what it is to leave as, and says by which port. `refused` gets what is
    /// refused, after it has been counted.
    #[inline]
    pub(crate) fn send<'a, K, O>(
        &mut self,
        place: &impl Place<'a, I>,
        pool: &K,
        out: &mut O,
        mut stage: impl FnMut(&mut I) -> Result<(PortId, Crossing), Refusal>,
        mut refused: impl FnMut(I, Refusal, &mut O),
    ) where
        K: Pool<Packet = I::Packet>,
        O: Outbox<I::Packet>,
        I::Packet: Packet,
    {
        for mut item in self.0.drain(..) {
            match stage(&mut item) {
                Ok((port, Crossing::Whole)) => out.transmit(port, item.into_packet()),
                Ok((port, Crossing::Cut { mtu })) => {
                    let drops = place.drops(&item);
                    let cut = fragment::cut(pool, item.into_packet(), mtu, |part| out.transmit(port, part));
                    if let Err(reason) = cut {
                        drops.count(reason);
                    }
                }
                Err(refusal) => {
                    place.drops(&item).count(refusal.reason);
                    refused(item, refusal, out);
                }
            }
        }
    }
}
