//! From an uplink: which interface of this host is the packet for? The one that owns the embedded (vnet, IPv4): by its
//! slot, or in layouts without slots by its mapping; or one that routes it. What is for a group is taken in the name of one of
//! the members.

use super::{Arrival, FromUplink, Inbound, group, routed};
use crate::address::{Delivery, SubstrateAddress};
use crate::drop::DropReason;
use crate::packet::Packet;
use crate::snapshot::Interface;
use crate::table::mapping::{FoundMapping, MappingKey};

/// Finds the interface in the slot that the packet is for.
pub(crate) fn in_slot<'a>(
    uplink: &FromUplink<'a>,
    packet: &impl Packet,
    item: &mut Inbound<'a>,
    destination: SubstrateAddress,
) -> Result<(), DropReason> {
    if item.arrival(packet).group {
        item.receiver = Some(group::receiver(uplink, &destination)?);
        return Ok(());
    }
    let interface = uplink.snapshot.interface(destination.slot).map(AsRef::as_ref);
    accept(uplink, packet, item, destination.delivery, interface)
}

/// Finds the interface that the mapping of the packet's destination is on.
pub(crate) fn by_mapping<'a>(
    uplink: &FromUplink<'a>,
    packet: &mut impl Packet,
    item: &mut Inbound<'a>,
    mapping: Option<FoundMapping<'_>>,
) -> Result<(), DropReason> {
    let destination = uplink.snapshot.layout.decode(item.arrival(packet).destination);
    let destination = destination.map_err(|_| DropReason::DstAddressInvalid)?;
    if item.arrival(packet).group {
        item.receiver = Some(group::receiver(uplink, &destination)?);
        return Ok(());
    }
    let interface = mapping.and_then(|mapping| uplink.snapshot.node(mapping.value().local?));
    let interface = match interface {
        Some(owner) => Some(owner.as_ref()),
        None => routed::receiver(uplink, packet, item.arrival(packet)),
    };
    accept(uplink, packet, item, destination.delivery, interface)
}

fn accept<'a>(
    uplink: &FromUplink<'a>,
    packet: &impl Packet,
    item: &mut Inbound<'a>,
    delivery: Delivery,
    interface: Option<&'a Interface>,
) -> Result<(), DropReason> {
    let arrival = item.arrival(packet);
    let takes = |interface: &&Interface| match delivery {
        Delivery::Owner if uplink.snapshot.layout.has_slots() => owns(interface, arrival),
        Delivery::Owner | Delivery::Slot => owns(interface, arrival) || routes(interface, arrival),
        Delivery::Group => false,
    };
    let Some(interface) = interface.filter(takes) else {
        return Err(refusal(uplink, arrival, delivery));
    };
    item.receiver = Some(interface);
    Ok(())
}

fn owns(interface: &Interface, arrival: &Arrival) -> bool {
    interface.vnet.id == arrival.destination_vnet && interface.owns(arrival.header.destination)
}

fn routes(interface: &Interface, arrival: &Arrival) -> bool {
    interface.vnet.id == arrival.destination_vnet && interface.routes(arrival.header.destination)
}

/// Why no interface takes it.
fn refusal(uplink: &FromUplink<'_>, arrival: &Arrival, delivery: Delivery) -> DropReason {
    let takes = |interface: &&Interface| {
        owns(interface, arrival) || delivery == Delivery::Slot && routes(interface, arrival)
    };
    let mut interfaces = uplink.snapshot.slots.iter().flatten().map(AsRef::as_ref);
    let Some(interface) = interfaces.find(takes) else {
        return if delivery == Delivery::Owner {
            DropReason::DstUnknownNode
        } else {
            DropReason::SlotMismatch
        };
    };
    let address = interface.by_way_of(arrival.header.destination);
    let mapping = uplink.table.lookup(uplink.reader, MappingKey::new(arrival.destination_vnet, address));
    // While it moves this is no news.
    if mapping.is_none_or(|mapping| mapping.also_accept.is_none()) {
        uplink.note(DropReason::SlotMismatch, arrival.source);
    }
    DropReason::SlotMismatch
}
