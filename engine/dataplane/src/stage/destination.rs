//! From an uplink: which interface of this host is the packet for? The one that owns the embedded (vnet, IPv4): by its
//! slot, or in layouts without slots by its mapping. What is for a group is taken in the name of one of the members.

use super::{Arrival, FromUplink, Inbound, group};
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
    packet: &impl Packet,
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
    accept(uplink, packet, item, destination.delivery, interface.map(AsRef::as_ref))
}

fn accept<'a>(
    uplink: &FromUplink<'a>,
    packet: &impl Packet,
    item: &mut Inbound<'a>,
    delivery: Delivery,
    interface: Option<&'a Interface>,
) -> Result<(), DropReason> {
    let (owner, arrival) = (delivery == Delivery::Owner, item.arrival(packet));
    let Some(interface) = interface.filter(|interface| owner && owns(interface, arrival)) else {
        return Err(refusal(uplink, arrival, delivery));
    };
    item.receiver = Some(interface);
    Ok(())
}

fn owns(interface: &Interface, arrival: &Arrival) -> bool {
    interface.vnet.id == arrival.destination_vnet && interface.owns(arrival.header.destination)
}

/// Why no interface takes it.
fn refusal(uplink: &FromUplink<'_>, arrival: &Arrival, delivery: Delivery) -> DropReason {
    if delivery != Delivery::Owner {
        return DropReason::DstFormUnsupported;
    }
    let mut interfaces = uplink.snapshot.slots.iter().flatten();
    if interfaces.any(|interface| owns(interface, arrival)) {
        let key = MappingKey::new(arrival.destination_vnet, arrival.header.destination);
        let mapping = uplink.table.lookup(uplink.reader, key);
        // While it moves this is no news.
        if mapping.is_none_or(|mapping| mapping.also_accept.is_none()) {
            uplink.note(DropReason::SlotMismatch, arrival.source);
        }
        return DropReason::SlotMismatch;
    }
    DropReason::DstUnknownNode
}
