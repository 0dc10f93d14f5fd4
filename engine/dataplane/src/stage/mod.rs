//! The stages: each runs over the whole burst before the next begins.
//!
//! A stage is a function from what is known of a packet to a bit more, or to a [`DropReason`]. It never counts and
//! never frees: [`Burst::each`] takes what a stage refuses out of the burst and counts it once, so a packet that
//! comes in is transmitted, punted, or counted under one reason.

pub(crate) mod arp;
pub(crate) mod authorise;
pub(crate) mod classify_node;
pub(crate) mod classify_uplink;
pub(crate) mod deliver;
pub(crate) mod destination;
pub(crate) mod look_up;
pub(crate) mod next_hop;
pub(crate) mod source_check;
pub(crate) mod verify_source;

use crate::address::{Delivery, HostPrefix};
use crate::counters::Drops;
use crate::drop::DropReason;
use crate::header::NetworkHeader;
use crate::id::{PortId, Slot, VnetId};
use crate::mac::MacAddr;
use crate::pipeline::{BURST, Outbox};
use crate::snapshot::{HostSnapshot, Interface, Uplink, Vnet};
use crate::table::mapping::Mapping;
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
}

/// What stays the same over a burst from a node.
pub(crate) struct FromNode<'a> {
    pub(crate) snapshot: &'a HostSnapshot,
    pub(crate) interface: &'a Interface,
    pub(crate) drops: &'a Drops,
}

/// What stays the same over a burst from an uplink.
pub(crate) struct FromUplink<'a> {
    pub(crate) snapshot: &'a HostSnapshot,
    pub(crate) uplink: &'a Uplink,
    pub(crate) prefix: Option<HostPrefix>,
    pub(crate) worker: usize,
    pub(crate) drops: &'a Drops,
}

/// Says where a packet that is dropped is counted.
pub(crate) trait Place<I> {
    /// The counters of the packet's port or vnet.
    fn drops<'x>(&'x self, item: &'x I) -> &'x Drops;
}

impl<P> Place<Outbound<'_, P>> for FromNode<'_> {
    fn drops<'x>(&'x self, _: &'x Outbound<'_, P>) -> &'x Drops {
        self.drops
    }
}

impl<P> Place<Inbound<'_, P>> for FromUplink<'_> {
    fn drops<'x>(&'x self, item: &'x Inbound<'_, P>) -> &'x Drops {
        item.vnet.and_then(|vnet| vnet.uplink_drops.get(self.worker)).unwrap_or(self.drops)
    }
}

/// What carries a packet through the stages.
pub(crate) trait Carrier {
    type Packet;
    fn into_packet(self) -> Self::Packet;
}

impl<P> Carrier for Outbound<'_, P> {
    type Packet = P;
    fn into_packet(self) -> P {
        self.packet
    }
}

impl<P> Carrier for Inbound<'_, P> {
    type Packet = P;
    fn into_packet(self) -> P {
        self.packet
    }
}

/// The packets that are still under way.
pub(crate) struct Burst<I>(ArrayVec<I, BURST>);

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
    #[inline]
    pub(crate) fn each(
        &mut self,
        place: &impl Place<I>,
        mut stage: impl FnMut(&mut I) -> Result<(), DropReason>,
    ) {
        self.0.retain(|item| match stage(item) {
            Ok(()) => true,
            Err(reason) => {
                place.drops(item).count(reason);
                false
            }
        });
    }

    /// Runs the last stage, which makes each packet what it is to leave as, and says by which port.
    #[inline]
    pub(crate) fn send(
        &mut self,
        place: &impl Place<I>,
        out: &mut impl Outbox<I::Packet>,
        mut stage: impl FnMut(&mut I) -> Result<PortId, DropReason>,
    ) {
        for mut item in self.0.drain(..) {
            match stage(&mut item) {
                Ok(port) => out.transmit(port, item.into_packet()),
                Err(reason) => place.drops(&item).count(reason),
            }
        }
    }
}
