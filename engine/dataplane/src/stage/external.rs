//! From an uplink: packets of externals, which are no nodes and which provisioning lets speak to nodes of a vnet.
//!
//! Where they come from only the substrate can know (BCP 38).

use super::{FromUplink, Inbound};
use crate::packet::Packet;
use crate::table::mapping::MappingKey;

/// Whether the packet is from an external of its receiver's vnet: then its source is what nodes know that by, and nothing is
/// looked up.
pub(crate) fn accept(uplink: &FromUplink<'_>, packet: &impl Packet, item: &mut Inbound<'_>) -> bool {
    let Some(receiver) = item.receiver.filter(|receiver| !receiver.vnet.externals.is_empty()) else {
        return false;
    };
    let arrival = item.arrival(packet);
    if arrival.external {
        return true;
    }
    let known = receiver.vnet.externals.ipv4(arrival.source);
    let own = uplink.prefix.is_some_and(|prefix| prefix.contains(arrival.source));
    let Some(address) = known.filter(|_| !own && !arrival.group) else { return false };
    arrival.header.source = address;
    arrival.source_vnet = arrival.destination_vnet;
    (arrival.external, arrival.behind) = (true, false);
    let key = MappingKey::new(arrival.destination_vnet, receiver.by_way_of(arrival.header.destination));
    // What is plain has its virtual addresses in it, and so has whoever looked ahead for its flow.
    (item.plain, item.ticket) = (None, None);
    item.asked = uplink.view.ask(key);
    true
}
