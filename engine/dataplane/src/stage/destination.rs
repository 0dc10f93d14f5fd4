//! From an uplink: which interface of this host is the packet for?

use super::{Burst, FromUplink, Inbound, look_up};
use crate::address::Delivery;
use crate::drop::DropReason;
use crate::snapshot::{Interface, PortRole};
use crate::table::mapping::MappingKey;

/// Finds the interface that owns the embedded (vnet, IPv4): by its slot, or in layouts without slots by its mapping.
#[inline]
pub(crate) fn run<'a, P>(uplink: &FromUplink<'a>, burst: &mut Burst<Inbound<'a, P>>) {
    let by_slot = uplink.snapshot.layout.has_slots();
    if !by_slot {
        let key = |item: &Inbound<'a, P>| MappingKey::new(item.destination_vnet, item.header.destination);
        look_up::run(uplink.table, uplink.reader, burst, key, |item, mapping| item.mapping = mapping);
    }
    burst.each(uplink, |item| {
        let receiver = if by_slot { in_slot(uplink, item) } else { by_mapping(uplink, item) };
        let Some(interface) = receiver.filter(|_| item.delivery == Delivery::Owner) else {
            item.vnet = uplink.snapshot.vnet(item.destination_vnet).map(AsRef::as_ref);
            return Err(refusal(uplink, item));
        };
        item.vnet = Some(&interface.vnet);
        item.receiver = Some(interface);
        Ok(())
    });
}

fn owns<P>(interface: &Interface, item: &Inbound<'_, P>) -> bool {
    interface.vnet.id == item.destination_vnet && interface.addresses.contains(&item.header.destination)
}

#[inline]
fn in_slot<'a, P>(uplink: &FromUplink<'a>, item: &Inbound<'a, P>) -> Option<&'a Interface> {
    let interface = uplink.snapshot.interface(item.slot)?;
    owns(interface, item).then_some(interface)
}

fn by_mapping<'a, P>(uplink: &FromUplink<'a>, item: &Inbound<'a, P>) -> Option<&'a Interface> {
    match uplink.snapshot.role(item.mapping?.local?) {
        PortRole::Node(interface) if owns(interface, item) => Some(interface),
        _ => None,
    }
}

/// Why no interface takes it.
fn refusal<P>(uplink: &FromUplink<'_>, item: &Inbound<'_, P>) -> DropReason {
    if item.delivery != Delivery::Owner {
        return DropReason::DstFormUnsupported;
    }
    let mut interfaces = uplink.snapshot.slots.iter().flatten();
    if interfaces.any(|interface| owns(interface, item)) {
        return DropReason::SlotMismatch;
    }
    DropReason::DstUnknownNode
}
