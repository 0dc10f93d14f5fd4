//! Packets quoted in ICMP errors: what their addresses are on the other side, and whether such a packet can have been.

use super::{Arrival, FromNode, FromUplink};
use crate::address::{Delivery, HostPrefix, Locator};
use crate::drop::DropReason;
use crate::header::NetworkHeader;
use crate::packet::Packet;
use crate::table::mapping::MappingKey;
use crate::translate::icmp::Correspondence;
use crate::translate::{Ends, quoted_ends};
use core::net::{Ipv4Addr, Ipv6Addr};

/// The addresses in an error that a node sends. Whether its receiver has sent what is quoted is for the receiver's
/// engine to say.
pub(crate) struct Outbound<'a> {
    pub(crate) node: &'a FromNode<'a>,
    pub(crate) header: NetworkHeader,
    pub(crate) own: &'a Locator,
    pub(crate) ends: &'a Ends,
}

impl Correspondence for Outbound<'_> {
    fn six(&self, ipv4: Ipv4Addr) -> Option<Ipv6Addr> {
        if ipv4 == self.header.destination {
            return Some(self.ends.destination);
        }
        let interface = self.node.interface;
        if interface.addresses.contains(&ipv4) {
            return Some(self.own.address(ipv4));
        }
        let mapping = self.node.table.lookup(self.node.reader, MappingKey::new(interface.vnet.id, ipv4))?;
        mapping.state.is_live().then(|| mapping.locator.address(ipv4))
    }

    fn four(&self, _: Ipv6Addr) -> Option<Ipv4Addr> {
        None
    }
}

/// The addresses in an error from the substrate, after [`check`]: they embed the virtual ones.
pub(crate) struct Inbound;

impl Correspondence for Inbound {
    fn six(&self, _: Ipv4Addr) -> Option<Ipv6Addr> {
        None
    }

    fn four(&self, ipv6: Ipv6Addr) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from_bits(ipv6.to_bits() as u32))
    }
}

/// Where a quoted packet was going.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted {
    pub(crate) host: HostPrefix,
    pub(crate) destination: Ipv4Addr,
}

/// Checks the packet quoted in an ICMPv6 error: its source must be the very address that the error is for, and its
/// destination a live node, of the same vnet or a peer of it, where it lives. Anything else that node cannot have sent.
pub(crate) fn check<P: Packet>(
    uplink: &FromUplink<'_>,
    packet: &mut P,
    arrival: &Arrival,
) -> Result<Quoted, DropReason> {
    let (source, destination) = quoted_ends(packet, &arrival.header)?;
    if source != arrival.destination {
        return Err(DropReason::IcmpQuoteForeign);
    }
    let decoded = uplink.snapshot.layout.decode(destination);
    let own = arrival.destination_vnet;
    let reachable =
        |vnet| vnet == own || uplink.snapshot.vnet(own).is_some_and(|own| own.peering(vnet).is_some());
    let to = decoded.ok().filter(|to| to.delivery == Delivery::Owner && reachable(to.vnet));
    let to = to.ok_or(DropReason::IcmpQuoteForeign)?;
    let mapping = uplink.table.lookup(uplink.reader, MappingKey::new(to.vnet, to.ipv4));
    match mapping {
        Some(mapping) if mapping.state.is_live() && super::verify_source::lives_at(&mapping, destination) => {
            Ok(Quoted { host: to.prefix, destination: to.ipv4 })
        }
        _ => Err(DropReason::IcmpQuoteForeign),
    }
}
