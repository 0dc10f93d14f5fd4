//! What a lab consists of: names and addresses, before anything is made.
//!
//! ```text
//!   acme-1 acme-2 globex-1 globex-2 initech-1    acme-3 globex-3 initech-3   nodes: eth0, 10.0.0.x/24 in the networks of
//!       |      |      |        |        |           |       |        |       acme and globex, 10.7.0.x/24 in initech's
//!   [ host-a: engine ::e, kernel ::2            ]  [ host-b: engine ::e, kernel ::2 ]
//!                  |  fd00:0:1:a::/64             |  fd00:0:1:b::/64
//!               [ router: fd00:0:0:a::/64 via …:a::e, fd00:0:0:b::/64 via …:b::e ]
//!                                   |  fd00:0:1:f::/64
//!                           [ svc: overlane-control ]
//! ```

use super::netns::Namespace;
use super::shape::Shape;
use anyhow::{Result, ensure};
use overlane_dataplane::address::{Delivery, HostPrefix, Layout, SubstrateAddress};
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::mac::MacAddr;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The gateway of the networks of acme and globex.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
/// The address layout of the lab's substrate.
pub const LAYOUT: Layout = Layout::Slot64;
/// Port of the HTTP API.
pub const API_PORT: u16 = 7443;
/// Port of the engines' sync streams.
pub const SYNC_PORT: u16 = 7444;
/// Port of each engine's telemetry, on its namespace's loopback.
pub const TELEMETRY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
/// The uplink's device in every host and in the service's namespace.
pub const UPLINK: &str = "up0";
/// A node's device.
pub const NODE_DEVICE: &str = "eth0";
/// The name of a node's interface.
pub const INTERFACE: &str = "eth0";

/// The whole lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The lab's name, the first part of every namespace's name.
    pub name: String,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The virtual networks.
    pub networks: Vec<Network>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The MTUs, offloads and engine settings.
    pub shape: Shape,
}

/// A host with an engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// Its id, also the name in its certificate.
    pub id: String,
    /// The last group of its prefix and of its link's prefix.
    pub number: u16,
}

/// A virtual network and the entity that owns it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its owner.
    pub entity: String,
    /// The 24-bit id.
    pub vnet: u32,
    /// Its one subnet.
    pub subnet: String,
    /// Its gateway.
    pub gateway: Ipv4Addr,
}

/// A node with one interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// Its network's id.
    pub network: String,
    /// Its owner.
    pub entity: String,
    /// Where it is now.
    pub host: String,
    /// Its slot on that host.
    pub slot: u8,
    /// Its hardware address.
    pub mac: String,
    /// Its virtual address.
    pub ipv4: Ipv4Addr,
    /// The host's side of its veth pair.
    pub device: String,
    /// Its vnet.
    pub vnet: u32,
}

impl Plan {
    /// The standard lab: three entities with a network each, two of which use the same addresses, and on each host some of
    /// their nodes.
    ///
    /// # Errors
    /// For a name that does not do for namespaces.
    pub fn standard(name: &str) -> Result<Self> {
        ensure!(
            (1..=12).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && name.starts_with(|c: char| c.is_ascii_lowercase()),
            "the lab's name must be 1 to 12 of a-z, 0-9 and -, with a letter first; not {name:?}"
        );
        let hosts = vec![
            Host { id: "host-a".to_owned(), number: 0xa },
            Host { id: "host-b".to_owned(), number: 0xb },
        ];
        let network = |entity: &str, vnet, third| Network {
            id: format!("{entity}-net"),
            entity: entity.to_owned(),
            vnet,
            subnet: format!("10.{third}.0.0/24"),
            gateway: Ipv4Addr::new(10, third, 0, 254),
        };
        let networks = vec![
            network("acme", 0x00_ac3e, 0),
            network("globex", 0x09_10be, 0),
            network("initech", 0x01_17ec, 7),
        ];
        let mut nodes = Vec::new();
        for (which, network) in (0u8..).zip(&networks) {
            let numbers: &[u8] = if which < 2 { &[1, 2, 3] } else { &[1, 3] };
            for &number in numbers {
                let (host, slot) =
                    if number < 3 { ("host-a", which * 2 + number) } else { ("host-b", which + 1) };
                let [a, b, c, _] = network.gateway.octets();
                nodes.push(Node {
                    id: format!("{}-{number}", network.entity),
                    network: network.id.clone(),
                    entity: network.entity.clone(),
                    host: host.to_owned(),
                    slot,
                    mac: format!("0a:00:00:00:{:02x}:{number:02x}", which + 1),
                    ipv4: Ipv4Addr::new(a, b, c, number),
                    device: format!("v-{}-{number}", network.entity),
                    vnet: network.vnet,
                });
            }
        }
        Ok(Self { name: name.to_owned(), hosts, networks, nodes, shape: Shape::default() })
    }

    /// The standard lab with other links or engine settings.
    ///
    /// # Errors
    /// For a name that does not do for namespaces, or a shape that no lab can have.
    pub fn shaped(name: &str, shape: Shape) -> Result<Self> {
        let plan = Self::standard(name)?;
        shape.check(&plan)?;
        Ok(Self { shape, ..plan })
    }

    /// The host with this id.
    ///
    /// # Errors
    /// If there is none.
    pub fn host(&self, id: &str) -> Result<&Host> {
        self.hosts
            .iter()
            .find(|host| host.id == id)
            .ok_or_else(|| anyhow::anyhow!("the lab has no host {id}"))
    }

    /// The node with this id.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&self, id: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .ok_or_else(|| anyhow::anyhow!("the lab has no node {id}"))
    }

    /// The namespace of a host, a node, `router` or `svc`.
    #[must_use]
    pub fn namespace(&self, of: &str) -> Namespace {
        Namespace::named(format!("{}-{of}", self.name))
    }

    /// The router's namespace.
    #[must_use]
    pub fn router(&self) -> Namespace {
        self.namespace("router")
    }

    /// The service's namespace.
    #[must_use]
    pub fn service(&self) -> Namespace {
        self.namespace("svc")
    }

    /// Every namespace of the lab.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Namespace> {
        let ids = self.nodes.iter().map(|n| n.id.as_str()).chain(self.hosts.iter().map(|h| h.id.as_str()));
        ids.chain(["router", "svc"]).map(|id| self.namespace(id)).collect()
    }

    /// Where the service listens for engines.
    #[must_use]
    pub fn sync_endpoint(&self) -> SocketAddr {
        SocketAddr::new(service_address().into(), SYNC_PORT)
    }

    /// Where the service listens for the API.
    #[must_use]
    pub fn api_endpoint(&self) -> SocketAddr {
        SocketAddr::new(service_address().into(), API_PORT)
    }

    /// The substrate address of a node, by its place in the plan.
    ///
    /// # Errors
    /// If the plan holds an illegal value.
    pub fn substrate_address(&self, node: &Node) -> Result<Ipv6Addr> {
        Ok(LAYOUT.encode(&SubstrateAddress {
            prefix: self.host(&node.host)?.prefix()?,
            slot: Slot::new(node.slot)?,
            delivery: Delivery::Owner,
            vnet: node.vnet_id()?,
            ipv4: node.ipv4,
        })?)
    }
}

impl Host {
    /// The prefix of its nodes' substrate addresses.
    ///
    /// # Errors
    /// If the codec refuses it.
    pub fn prefix(&self) -> Result<HostPrefix> {
        Ok(HostPrefix::new(LAYOUT, Ipv6Addr::new(0xfd00, 0, 0, self.number, 0, 0, 0, 0))?)
    }

    /// An address on its link to the router: `::1` the router, `::2` the host's kernel, `::e` the engine.
    #[must_use]
    pub const fn link_address(&self, last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 1, self.number, 0, 0, 0, last)
    }

    /// The router's address on its link.
    #[must_use]
    pub const fn router(&self) -> Ipv6Addr {
        self.link_address(1)
    }

    /// Its kernel's address.
    #[must_use]
    pub const fn kernel(&self) -> Ipv6Addr {
        self.link_address(2)
    }

    /// Its engine's own address.
    #[must_use]
    pub const fn engine(&self) -> Ipv6Addr {
        self.link_address(0xe)
    }
}

impl Node {
    /// The gateway of its network.
    #[must_use]
    pub const fn gateway(&self) -> Ipv4Addr {
        let [a, b, c, _] = self.ipv4.octets();
        Ipv4Addr::new(a, b, c, GATEWAY.octets()[3])
    }

    /// Its hardware address.
    ///
    /// # Errors
    /// If the plan holds none.
    pub fn mac(&self) -> Result<MacAddr> {
        Ok(self.mac.parse()?)
    }

    /// Its vnet.
    ///
    /// # Errors
    /// If the plan holds an illegal one.
    pub fn vnet_id(&self) -> Result<VnetId> {
        Ok(VnetId::new(self.vnet)?)
    }

    /// The hardware address that nodes of its network see it by.
    ///
    /// # Errors
    /// If the plan holds an illegal vnet.
    pub fn dummy_mac(&self) -> Result<MacAddr> {
        Ok(MacAddr::dummy(self.vnet_id()?, self.ipv4))
    }

    /// The interface's id in the sync protocol and in metrics.
    #[must_use]
    pub fn interface_id(&self) -> String {
        format!("{}/{INTERFACE}", self.id)
    }
}

/// Where the service is on the substrate.
#[must_use]
pub const fn service_address() -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 1, 0xf, 0, 0, 0, 5)
}

/// The router's address on the service's link.
#[must_use]
pub const fn service_router() -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 1, 0xf, 0, 0, 0, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn two_networks_use_the_same_addresses_and_nothing_else_is_shared() {
        let plan = Plan::standard("ovl").unwrap();
        let addresses = |network: &str| -> BTreeSet<Ipv4Addr> {
            plan.nodes.iter().filter(|n| n.network == network).map(|n| n.ipv4).collect()
        };
        assert_eq!(addresses("acme-net"), addresses("globex-net"));
        let substrate: BTreeSet<_> = plan.nodes.iter().map(|n| plan.substrate_address(n).unwrap()).collect();
        let macs: BTreeSet<_> = plan.nodes.iter().map(|n| n.mac().unwrap().0).collect();
        let slots: BTreeSet<_> = plan.nodes.iter().map(|n| (n.host.clone(), n.slot)).collect();
        let devices: BTreeSet<_> = plan.nodes.iter().map(|n| n.device.clone()).collect();
        for count in [substrate.len(), macs.len(), slots.len(), devices.len()] {
            assert_eq!(count, plan.nodes.len());
        }
    }

    #[test]
    fn device_names_fit_the_kernel() {
        let plan = Plan::standard("abcdefghijkl").unwrap();
        assert!(plan.nodes.iter().all(|node| node.device.len() <= 15));
    }

    #[test]
    fn names_that_do_not_do_are_refused() {
        for bad in ["", "a/b", "..", "ABC", "1a", "abcdefghijklm", "a b"] {
            assert!(Plan::standard(bad).is_err(), "{bad}");
        }
    }
}
