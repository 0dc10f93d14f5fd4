//! The host snapshot: what this host is and has, immutable, swapped whole, loaded once a turn.
//!
//! The control thread builds a new snapshot for every change and publishes it; objects that did not change are
//! shared between snapshots, and counters live in them by `Arc`, so that numbers survive every change.

use crate::address::{HostPrefix, Layout};
use crate::cap::Cap;
use crate::counters::{Drops, PerWorker, Traffic};
use crate::dhcp;
use crate::external::Externals;
use crate::group::{self, GroupBuckets, Groups};
use crate::id::{PortId, Slot, VnetId};
use crate::limit::TokenBucket;
use crate::mac::MacAddr;
use crate::path_mtu::PathMtus;
use crate::policy::{Action, Peers, Policy};
use crate::route::{Route, Routes};
use crate::translate;
use core::net::{Ipv4Addr, Ipv6Addr};
use ipnet::Ipv4Net;
use std::sync::Arc;

/// Everything the stages need to know of this host, at one moment.
#[derive(Debug)]
pub struct HostSnapshot {
    /// The substrate's address layout.
    pub layout: Layout,
    /// This host's prefix; `None` until provisioning has told it, and until then nothing goes to or comes from the
    /// substrate.
    pub prefix: Option<HostPrefix>,
    /// What each port is for, by [`PortId::index`].
    pub ports: Vec<PortRole>,
    /// Interfaces by slot ([`Slot::COUNT`] places), for layouts with slots.
    pub slots: Vec<Option<Arc<Interface>>>,
    /// The virtual networks present on this host, sorted by id.
    pub vnets: Vec<Arc<Vnet>>,
    /// The uplinks, best first; traffic leaves by the first that is [`Uplink::is_usable`].
    pub uplinks: Vec<Arc<Uplink>>,
    /// How translation decides where the standards leave a choice.
    pub translate: translate::Settings,
    /// Whether any of the interfaces is [tracked](Interface::is_tracked); [`Self::settle`] finds out.
    pub stateful: bool,
    /// Whether any rule of this host looks at the sizes of packets; [`Self::settle`] finds out.
    pub judges_sizes: bool,
    /// Whether the engine has just started, so that TCP connections which it has forgotten may be joined by a segment that is
    /// let pass in its own direction.
    pub resumes: bool,
    /// Who carries which of the tags that rules of this host are about.
    pub peers: Arc<Peers>,
    /// Who hears what is sent to groups.
    pub groups: Arc<Groups>,
    /// Number of what decides who may talk to whom, counted up (and around) with each change: flows that were judged by
    /// another are judged again.
    pub policy_epoch: u32,
    /// What is known of paths through the substrate.
    pub path_mtus: Arc<PathMtus>,
    /// Whether mappings of any vnet are resolved on demand; [`Self::settle`] finds out.
    pub on_demand: bool,
    /// Number of what refusals of mappings depend on, counted up (and around) with each change: those of before are
    /// forgotten.
    pub resolve_epoch: u32,
}

/// What a port is for.
#[derive(Debug, Clone, Default)]
pub enum PortRole {
    /// No such port (any more).
    #[default]
    Absent,
    /// A node's interface is attached to it.
    Node(Arc<Interface>),
    /// It leads to the substrate.
    Uplink(Arc<Uplink>),
}

/// A node's interface that is attached to a port of this host.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its name in metrics and logs.
    pub name: String,
    /// The port it is attached to.
    pub port: PortId,
    /// Its slot.
    pub slot: Slot,
    /// Its virtual network.
    pub vnet: Arc<Vnet>,
    /// Its own hardware address, the only one it may send from.
    pub mac: MacAddr,
    /// Its own addresses, the only ones it may send from; at least one.
    pub addresses: Vec<Ipv4Addr>,
    /// Its rules, if there are any.
    pub policy: Option<Arc<Policy>>,
    /// Whether it was not tracked a moment ago: datagrams may be answers to others that nobody has noted.
    pub settling: bool,
    /// Largest IPv4 packet the node takes, in bytes.
    pub mtu: u16,
    /// Traffic and drops on its port.
    pub traffic: Arc<PerWorker<Traffic>>,
    /// How many ICMP errors are still sent for packets of its node.
    pub icmp_limit: Arc<PerWorker<TokenBucket>>,
    /// How much its node may send, if that is limited.
    pub cap: Option<Arc<Cap>>,
    /// How much its node may still do with groups.
    pub group_limit: Arc<PerWorker<GroupBuckets>>,
}

/// A virtual network with interfaces on this host.
#[derive(Debug, Clone)]
pub struct Vnet {
    /// Its id.
    pub id: VnetId,
    /// Its subnets; they do not overlap.
    pub subnets: Vec<Subnet>,
    /// Whether its packets go by flows, even where no rule says so.
    pub stateful: bool,
    /// What happens inside it to what no rule decides.
    pub default_action: Action,
    /// The vnets that it exchanges packets with.
    pub peerings: Vec<Peering>,
    /// Whether its mappings are resolved on demand, and not all told.
    pub on_demand: bool,
    /// What its nodes are told by DHCP; `None`: the engine answers none.
    pub dhcp: Option<Arc<dhcp::Settings>>,
    /// How broadcast and multicast are carried.
    pub groups: group::Settings,
    /// The networks behind its routers.
    pub routes: Arc<Routes>,
    /// The systems without an engine that its nodes exchange packets with.
    pub externals: Arc<Externals>,
    /// Packets of this vnet that came in by an uplink and were dropped.
    pub uplink_drops: Arc<PerWorker<Drops>>,
}

/// Where a gateway sends packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// To the address itself, in this vnet.
    To(VnetId),
    /// To one of the routers of a network that the address is in, which are nodes of the gateway's vnet.
    By(&'a Route),
    /// To a system without an engine, at its own address.
    Out,
}

/// What a virtual network has to do with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peering {
    /// The other one.
    pub vnet: VnetId,
    /// The other one's subnets; none overlaps with the vnet's own.
    pub subnets: Vec<Ipv4Net>,
    /// What happens between the two to what no rule decides.
    pub default_action: Action,
    /// Whether the other one's mappings are resolved on demand.
    pub on_demand: bool,
}

/// A subnet of a virtual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Its addresses.
    pub net: Ipv4Net,
    /// The gateway's address in it, if it has one. No node has this address: the engine answers for it.
    pub gateway: Option<Ipv4Addr>,
}

/// A port to the substrate.
#[derive(Debug)]
pub struct Uplink {
    /// Its name in metrics and logs.
    pub name: String,
    /// Its port.
    pub port: PortId,
    /// The engine's own hardware address on it.
    pub mac: MacAddr,
    /// Largest IPv6 packet it carries, in bytes.
    pub mtu: u16,
    /// The engine's own addresses on it; packets to them are punted.
    pub addresses: Vec<Ipv6Addr>,
    /// The hardware address of its next hop, once resolved.
    pub next_hop: Option<MacAddr>,
    /// Whether the link is up.
    pub link_up: bool,
    /// Traffic on it, and drops of packets whose vnet is not known.
    pub traffic: Arc<PerWorker<Traffic>>,
    /// How many ICMP errors are still sent for packets from it, or taken from substrate routers.
    pub icmp_limit: Arc<PerWorker<TokenBucket>>,
}

impl HostSnapshot {
    /// A host that has nothing yet.
    #[must_use]
    pub fn empty(layout: Layout) -> Self {
        Self {
            layout,
            prefix: None,
            ports: Vec::new(),
            slots: vec![None; Slot::COUNT],
            vnets: Vec::new(),
            uplinks: Vec::new(),
            translate: translate::Settings::default(),
            stateful: false,
            judges_sizes: false,
            resumes: false,
            peers: Arc::default(),
            groups: Arc::default(),
            policy_epoch: 0,
            path_mtus: Arc::default(),
            on_demand: false,
            resolve_epoch: 0,
        }
    }

    /// Says once for all interfaces what holds for some of them.
    pub fn settle(&mut self) {
        let interfaces = || {
            self.ports.iter().filter_map(|role| match role {
                PortRole::Node(interface) => Some(interface),
                _ => None,
            })
        };
        let by_size = |interface: &Arc<Interface>| {
            interface.policy.as_ref().is_some_and(|policy| !policy.holds_for_flows())
        };
        self.stateful = interfaces().any(|interface| interface.is_tracked());
        self.judges_sizes = interfaces().any(by_size);
        let vnets = || interfaces().map(|interface| &interface.vnet);
        self.on_demand =
            vnets().any(|vnet| vnet.on_demand || vnet.peerings.iter().any(|peer| peer.on_demand));
    }

    /// What the port is for.
    #[inline]
    #[must_use]
    pub fn role(&self, port: PortId) -> &PortRole {
        self.ports.get(port.index()).unwrap_or(&PortRole::Absent)
    }

    /// The node's interface that is attached to the port.
    #[inline]
    #[must_use]
    pub fn node(&self, port: PortId) -> Option<&Arc<Interface>> {
        match self.role(port) {
            PortRole::Node(interface) => Some(interface),
            PortRole::Uplink(_) | PortRole::Absent => None,
        }
    }

    /// The interface in a slot.
    #[inline]
    #[must_use]
    pub fn interface(&self, slot: Slot) -> Option<&Arc<Interface>> {
        self.slots.get(usize::from(slot.get()))?.as_ref()
    }

    /// The vnet, if it has interfaces on this host.
    #[must_use]
    pub fn vnet(&self, id: VnetId) -> Option<&Arc<Vnet>> {
        let place = self.vnets.binary_search_by_key(&id, |vnet| vnet.id).ok()?;
        self.vnets.get(place)
    }

    /// The uplink that traffic leaves by now.
    #[must_use]
    pub fn uplink(&self) -> Option<&Arc<Uplink>> {
        self.uplinks.iter().find(|uplink| uplink.is_usable())
    }
}

impl Interface {
    /// Whether `address` is one of its own.
    #[inline(always)]
    #[must_use]
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        match &self.addresses[..] {
            [only] => *only == address,
            all => all.contains(&address),
        }
    }

    /// Whether it is a next hop for an address that is not its own.
    #[must_use]
    pub fn routes(&self, address: Ipv4Addr) -> bool {
        self.vnet.next_hops(address).iter().any(|router| self.owns(*router))
    }

    /// Whether it may send from an address that is not its own.
    #[must_use]
    pub fn speaks_for(&self, address: Ipv4Addr) -> bool {
        !self.vnet.routes.is_empty() && self.vnet.routers_of(address).any(|router| self.owns(router))
    }

    /// The address of its own by which packets for `destination`, its own or in a network behind it, reach it.
    #[must_use]
    pub fn by_way_of(&self, destination: Ipv4Addr) -> Ipv4Addr {
        if self.owns(destination) {
            return destination;
        }
        let next_hop = self.vnet.next_hops(destination).iter().find(|router| self.owns(**router));
        next_hop.or(self.addresses.first()).copied().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Whether its packets go by flows: those that no rule concerns need none.
    #[inline]
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        self.policy.is_some() || self.vnet.is_tracked()
    }
}

impl Subnet {
    /// Whether `address` lies in it.
    #[inline(always)]
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let different = address.to_bits() ^ self.net.addr().to_bits();
        // In 64 bits a shift by 32, of the network of all addresses, is none too far.
        u64::from(different) >> (32 - u32::from(self.net.prefix_len())) == 0
    }
}

impl Uplink {
    /// Whether packets can leave by it: link up and next hop resolved.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.link_up && self.next_hop.is_some()
    }
}

impl Vnet {
    /// A virtual network in which everything may pass, and which has no peers.
    #[must_use]
    pub fn new(id: VnetId, subnets: Vec<Subnet>, uplink_drops: Arc<PerWorker<Drops>>) -> Self {
        let (stateful, default_action, peerings) = (false, Action::Allow, Vec::new());
        let (on_demand, dhcp) = (false, None);
        let (groups, routes, externals) = (group::Settings::default(), Arc::default(), Arc::default());
        Self {
            id,
            subnets,
            stateful,
            default_action,
            peerings,
            on_demand,
            dhcp,
            groups,
            routes,
            externals,
            uplink_drops,
        }
    }

    /// The subnet that `address` lies in.
    #[inline]
    #[must_use]
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.contains(address))
    }

    /// Whether all its interfaces are tracked.
    #[inline]
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        self.stateful || self.default_action != Action::Allow
    }

    /// Where its gateways send packets for `address`: to its own subnets first, then to those of its peers, to externals, and
    /// then to networks behind routers. None of these lies in one that goes before it.
    #[must_use]
    pub fn route(&self, address: Ipv4Addr) -> Way<'_> {
        let only_own = self.peerings.is_empty() && self.routes.is_empty() && self.externals.is_empty();
        if only_own || self.subnet_of(address).is_some() {
            return Way::To(self.id);
        }
        let leads = |peering: &&Peering| peering.subnets.iter().any(|subnet| subnet.contains(&address));
        if let Some(peering) = self.peerings.iter().find(leads) {
            return Way::To(peering.vnet);
        }
        if self.externals.ipv6(address).is_some() {
            return Way::Out;
        }
        self.routes.of(address).map_or(Way::To(self.id), Way::By)
    }

    /// The nodes that are the next hops for an address in a network behind them.
    #[must_use]
    pub fn next_hops(&self, address: Ipv4Addr) -> &[Ipv4Addr] {
        match self.route(address) {
            Way::By(route) => &route.via,
            Way::To(_) | Way::Out => &[],
        }
    }

    /// The nodes that may send from an address which need not be their own: the next hops for it, and those that are granted
    /// transit. Nobody speaks for a peer's nodes, nor for externals, but they themselves.
    pub fn routers_of(&self, address: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let (next_hops, may_be_granted) = match self.route(address) {
            Way::By(route) => (&route.via[..], true),
            Way::To(vnet) => (&[][..], vnet == self.id),
            Way::Out => (&[][..], false),
        };
        let length = self.subnet_of(address).map_or(0, |subnet| subnet.net.prefix_len());
        let granted = may_be_granted.then(|| self.routes.transit(address, length));
        next_hops.iter().copied().chain(granted.into_iter().flatten())
    }

    /// What it has to do with another vnet.
    #[must_use]
    pub fn peering(&self, other: VnetId) -> Option<&Peering> {
        self.peerings.iter().find(|peering| peering.vnet == other)
    }

    /// Whether an address, of its own or of a peer, is one whose mapping is resolved on demand.
    #[must_use]
    pub fn resolves(&self, of: VnetId, address: Ipv4Addr) -> bool {
        if of == self.id {
            return self.on_demand && self.subnet_of(address).is_some();
        }
        let within = |peer: &Peering| peer.subnets.iter().any(|subnet| subnet.contains(&address));
        self.peering(of).is_some_and(|peer| peer.on_demand && within(peer))
    }

    /// Whether `address` is a gateway's.
    #[must_use]
    pub fn is_gateway(&self, address: Ipv4Addr) -> bool {
        self.subnets.iter().any(|subnet| subnet.gateway == Some(address))
    }
}
