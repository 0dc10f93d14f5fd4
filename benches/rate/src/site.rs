//! The site that is measured: a host with one node, and a virtual network of many nodes elsewhere.
//!
//! The n-th node elsewhere has an address, a host and a slot that follow from n, so that a packet can be made to come
//! from it, or to go to it, by changing a few words.

use anyhow::Context;
use core::net::{Ipv4Addr, Ipv6Addr};
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::counters::PerWorker;
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Subnet, Uplink, Vnet};
use overlane_dataplane::table::mapping::{Mapping, MappingKey, MappingWriter, State};
use overlane_engine::runtime::OpenPort;
use std::sync::Arc;

/// The substrate's layout.
pub(crate) const LAYOUT: Layout = Layout::Slot64;
/// The node's hardware address.
pub(crate) const NODE: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 1]);
/// The uplink's hardware address.
pub(crate) const UPLINK: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 2]);
/// The hardware address of the uplink's next hop.
pub(crate) const ROUTER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 3]);
/// The node's address.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(40, 0, 0, 1);
/// The address of the first node elsewhere: its low 24 bits are free for a number.
pub(crate) const FIRST: Ipv4Addr = Ipv4Addr::new(41, 0, 0, 0);
/// The network part of the first host elsewhere: its low 16 bits are free for a number, and there is room above.
pub(crate) const FIRST_HOST: u64 = 0xfd00_0000_0001_0000;
/// Nodes on each host elsewhere, one to a slot.
pub(crate) const NODES_PER_HOST: u32 = 64;
/// The most nodes elsewhere that there can be.
pub(crate) const LIMIT: u32 = 1 << 24;

/// The virtual network's subnet.
pub(crate) const SUBNET: &str = "40.0.0.0/6";
/// The host's prefix.
pub(crate) const PREFIX: &str = "fd00:0:0:a::/64";
/// What a node sends at most.
pub(crate) const NODE_MTU: u16 = 1_500;
/// What that may have grown to on the substrate.
pub(crate) const UPLINK_MTU: u16 = 1_520;

/// The virtual network.
pub(crate) fn vnet() -> anyhow::Result<VnetId> {
    Ok(VnetId::new(7)?)
}

/// Where the n-th node elsewhere lives, and its address.
pub(crate) fn elsewhere(vnet: VnetId, index: u32) -> anyhow::Result<(Locator, Ipv4Addr)> {
    let network = u128::from(FIRST_HOST + u64::from(index / NODES_PER_HOST));
    let prefix = HostPrefix::new(LAYOUT, Ipv6Addr::from_bits(network << 64))?;
    let slot = Slot::new(u8::try_from(index % NODES_PER_HOST)?)?;
    let address = Ipv4Addr::from_bits(FIRST.to_bits() + index);
    Ok((Locator::new(LAYOUT, prefix, slot, vnet)?, address))
}

/// The node's own address on the substrate.
pub(crate) fn own_address(vnet: VnetId) -> anyhow::Result<Ipv6Addr> {
    let prefix = HostPrefix::parse(LAYOUT, PREFIX)?;
    Ok(Locator::new(LAYOUT, prefix, Slot::ZERO, vnet)?.address(ADDRESS))
}

/// Writes `mappings` nodes elsewhere into the table.
pub(crate) fn fill(writer: &mut MappingWriter, mappings: u32) -> anyhow::Result<()> {
    let vnet = vnet()?;
    for index in 0..mappings {
        let (locator, ipv4) = elsewhere(vnet, index)?;
        let mapping = Mapping { locator, also_accept: None, local: None, state: State::Live };
        writer.insert(MappingKey::new(vnet, ipv4), mapping).context("fill the mapping table")?;
    }
    Ok(())
}

/// The host, with its node on one port and the substrate on the other, for `workers` workers. `stateful`: every packet
/// belongs to a flow.
pub(crate) fn snapshot(
    node: &OpenPort,
    uplink: &OpenPort,
    workers: usize,
    stateful: bool,
) -> anyhow::Result<HostSnapshot> {
    let subnet = Subnet { net: SUBNET.parse()?, gateway: None };
    let uplink_drops = Arc::new(PerWorker::new(workers));
    let vnet = Arc::new(Vnet { stateful, ..Vnet::new(vnet()?, vec![subnet], uplink_drops) });
    let interface = Arc::new(Interface {
        name: "node".to_owned(),
        port: node.id,
        slot: Slot::ZERO,
        vnet: Arc::clone(&vnet),
        mac: NODE,
        addresses: vec![ADDRESS],
        policy: None,
        settling: false,
        mtu: NODE_MTU,
        traffic: Arc::clone(&node.traffic),
        icmp_limit: IcmpLimit::default().buckets(workers),
        cap: None,
        group_limit: GroupLimit::default().buckets(workers),
    });
    let way = Arc::new(Uplink {
        name: "uplink".to_owned(),
        port: uplink.id,
        mac: UPLINK,
        mtu: UPLINK_MTU,
        addresses: vec!["fe80::1".parse()?],
        next_hop: Some(ROUTER),
        link_up: true,
        traffic: Arc::clone(&uplink.traffic),
        icmp_limit: IcmpLimit::default().buckets(workers),
    });
    let mut snapshot = HostSnapshot::empty(LAYOUT);
    snapshot.prefix = Some(HostPrefix::parse(LAYOUT, PREFIX)?);
    snapshot.ports.resize(node.id.index().max(uplink.id.index()) + 1, PortRole::Absent);
    for (port, role) in
        [(node, PortRole::Node(Arc::clone(&interface))), (uplink, PortRole::Uplink(Arc::clone(&way)))]
    {
        *snapshot.ports.get_mut(port.id.index()).context("a place for the port")? = role;
    }
    *snapshot.slots.first_mut().context("a slot")? = Some(interface);
    snapshot.vnets = vec![vnet];
    snapshot.stateful = stateful;
    snapshot.uplinks = vec![way];
    Ok(snapshot)
}
