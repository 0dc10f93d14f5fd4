//! Packets quoted in ICMP errors: what their addresses are on the other side, and whether such a packet can have been.

use super::verify_source::lives_at;
use super::{Arrival, FromNode, FromUplink, routed};
use crate::address::{Delivery, HostPrefix, Locator};
use crate::drop::DropReason;
use crate::external::Externals;
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
        let (interface, layout) = (self.node.interface, self.node.snapshot.layout);
        if interface.addresses.contains(&ipv4) {
            return Some(self.own.address(ipv4));
        }
        match self.node.table.lookup(self.node.reader, MappingKey::new(interface.vnet.id, ipv4)) {
            Some(mapping) => mapping.state.is_live().then(|| mapping.locator.address(ipv4)),
            None => interface.speaks_for(ipv4).then(|| self.own.by_slot(layout).address(ipv4)),
        }
    }

    fn four(&self, _: Ipv6Addr) -> Option<Ipv4Addr> {
        None
    }
}

/// The addresses in an error from the substrate, after [`check`]: they embed the virtual ones, but for those of externals.
pub(crate) struct Inbound<'a> {
    pub(crate) externals: &'a Externals,
}

impl Correspondence for Inbound<'_> {
    fn six(&self, _: Ipv4Addr) -> Option<Ipv6Addr> {
        None
    }

    fn four(&self, ipv6: Ipv6Addr) -> Option<Ipv4Addr> {
        Some(self.externals.ipv4(ipv6).unwrap_or_else(|| Ipv4Addr::from_bits(ipv6.to_bits() as u32)))
    }
}

/// Where a quoted packet was going.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted {
    /// `None`: to an external.
    pub(crate) host: Option<HostPrefix>,
    pub(crate) destination: Ipv4Addr,
}

/// Checks the packet quoted in an ICMPv6 error: its source must be the very address that the error is for, and its
/// destination a live node, of the same vnet or a peer of it, where it lives, or in a network behind a router that does,
/// or an external. Anything else that node cannot have sent.
pub(crate) fn check<P: Packet>(
    uplink: &FromUplink<'_>,
    packet: &mut P,
    arrival: &Arrival,
) -> Result<Quoted, DropReason> {
    let (source, destination) = quoted_ends(packet, &arrival.header)?;
    if source != arrival.destination {
        return Err(DropReason::IcmpQuoteForeign);
    }
    let layout = uplink.snapshot.layout;
    let own = uplink.snapshot.vnet(arrival.destination_vnet);
    if let Some(external) = own.and_then(|own| own.externals.ipv4(destination)) {
        return Ok(Quoted { host: None, destination: external });
    }
    let reachable =
        |vnet| vnet == arrival.destination_vnet || own.is_some_and(|own| own.peering(vnet).is_some());
    let decoded = layout.decode(destination).ok();
    let to = decoded.filter(|to| reachable(to.vnet)).ok_or(DropReason::IcmpQuoteForeign)?;
    let lives = |key: MappingKey, behind| {
        let mapping = uplink.table.lookup(uplink.reader, key);
        mapping
            .is_some_and(|mapping| mapping.state.is_live() && lives_at(layout, &mapping, destination, behind))
    };
    let owner = to.delivery == Delivery::Owner && lives(MappingKey::new(to.vnet, to.ipv4), false);
    let behind = || {
        let own = own.filter(|own| own.id == to.vnet && to.delivery != Delivery::Group)?;
        routed::router(uplink, own, own.next_hops(to.ipv4).iter().copied(), destination)
    };
    if owner || behind().is_some_and(|router| lives(router, true)) {
        return Ok(Quoted { host: Some(to.prefix), destination: to.ipv4 });
    }
    Err(DropReason::IcmpQuoteForeign)
}
