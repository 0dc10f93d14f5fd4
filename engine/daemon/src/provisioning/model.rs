//! What provisioning tells an engine, checked: a value of one of these types is always legal.

use super::rule::{Rule, Tags};
use core::fmt;
use core::net::Ipv4Addr;
use overlane_api::resource::is_device_name;
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::cap::RateLimit;
use overlane_dataplane::dhcp;
use overlane_dataplane::external::Externals;
use overlane_dataplane::group;
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::policy::Action;
use overlane_dataplane::route::Routes;
use overlane_dataplane::snapshot::{Peering, Subnet};
use std::sync::Arc;

/// Most virtual networks that one engine takes part in.
pub const MAX_VNETS: usize = 4096;
/// Most interfaces on one host, whatever the layout.
pub const MAX_INTERFACES: usize = 4096;
/// Most mappings that one engine holds: 32 Mi, about 4 GiB over all copies.
pub const MAX_MAPPINGS: usize = 32 << 20;
/// Most addresses of one interface.
pub const MAX_ADDRESSES: usize = 1024;
/// Most subnets of one virtual network.
pub const MAX_SUBNETS: usize = 1024;
/// Most peers of one virtual network.
pub const MAX_PEERINGS: usize = 256;
/// Most groups of all virtual networks.
pub const MAX_GROUPS: usize = 1 << 18;
/// Most hosts that have members of one group.
pub const MAX_GROUP_HOSTS: usize = 4096;
/// Longest name or id, in bytes.
pub const MAX_NAME: usize = 255;

/// A moment in the provisioning service's one total order of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Identifies the store's history; another incarnation's numbers mean nothing.
    pub incarnation: [u8; 16],
    /// Counts changes from 1.
    pub number: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.incarnation;
        write!(f, "{}@{a:02x}{b:02x}{c:02x}{d:02x}", self.number)
    }
}

/// This engine's own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id, the name in the engine's certificate.
    pub id: String,
    /// The substrate's address layout.
    pub layout: Layout,
    /// The prefix that the substrate routes to this host.
    pub prefix: HostPrefix,
}

/// A virtual network with interfaces on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vnet {
    /// Its id.
    pub id: VnetId,
    /// Its name, for people.
    pub name: String,
    /// Its subnets; they do not overlap.
    pub subnets: Vec<Subnet>,
    /// Whether its packets go by flows even without rules. Only a site file says so.
    pub stateful: bool,
    /// What happens inside it to what no rule decides.
    pub default_action: Action,
    /// The vnets that it exchanges packets with; no subnet of theirs overlaps with its own.
    pub peerings: Vec<Peering>,
    /// Whether its mappings are resolved on demand.
    pub on_demand: bool,
    /// What its nodes are told by DHCP; `None`: the engine answers none.
    pub dhcp: Option<Arc<dhcp::Settings>>,
    /// How it carries broadcast and multicast.
    pub groups: group::Settings,
    /// The networks behind its routers.
    pub routes: Arc<Routes>,
    /// The systems without an engine that its nodes exchange packets with.
    pub externals: Arc<Externals>,
}

/// An interface of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// `<node>/<interface name>`.
    pub id: Arc<str>,
    /// Its virtual network.
    pub vnet: VnetId,
    /// Its slot on this host.
    pub slot: Slot,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Its addresses; at least one, none twice.
    pub addresses: Vec<Ipv4Addr>,
    /// How it is attached to this host.
    pub attachment: Attachment,
    /// The tags of its node.
    pub tags: Tags,
    /// The groups that it is a member of whatever its node says, sorted.
    pub groups: Vec<Ipv4Addr>,
    /// How much its node may send.
    pub rate: RateLimit,
}

impl Interface {
    /// The node that it belongs to.
    #[must_use]
    pub fn node(&self) -> &str {
        self.id.split_once('/').map_or(&self.id, |(node, _)| node)
    }
}

/// How an interface is attached to its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What kind of device.
    pub kind: AttachmentKind,
    /// The kernel device: the veth's host side, or the tap to be made.
    pub device: DeviceName,
}

/// Kind of an attachment's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentKind {
    /// The host's side of a veth pair that somebody else makes.
    Veth,
    /// A tap that the engine makes.
    Tap,
}

impl AttachmentKind {
    /// The name in configuration and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::Tap => "tap",
        }
    }
}

/// A kernel device's name: [`DEVICE_NAME_LEGAL`](overlane_api::resource::DEVICE_NAME_LEGAL).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// Checks and wraps a name; `None` if it is not legal.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        is_device_name(name).then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose location: an address within a virtual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The virtual network.
    pub vnet: VnetId,
    /// The address.
    pub ipv4: Ipv4Addr,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in vnet {}", self.ipv4, self.vnet)
    }
}

/// Where a virtual address lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Host and slot.
    pub locator: Locator,
    /// During a move: packets from here are accepted too.
    pub also_accept: Option<Locator>,
    /// Whether the interface there is live.
    pub live: bool,
    /// The tags of its node.
    pub tags: Tags,
}

/// One change to the desired state.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The revision that made it; of a deletion, the revision of what it deletes.
    pub revision: u64,
    /// What changes.
    pub what: What,
}

/// What a [`Change`] changes.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// This host is so.
    PutHost(Host),
    /// This vnet is so.
    PutVnet(Vnet),
    /// This vnet has no part on this host any more.
    DeleteVnet(VnetId),
    /// This interface is so.
    PutInterface(Interface),
    /// This interface is not on this host any more.
    DeleteInterface(Arc<str>),
    /// This address lives there.
    PutMapping(Target, Mapping),
    /// This address lives nowhere.
    DeleteMapping(Target),
    /// This address lives there, if anybody here wants to know.
    RefreshMapping(Target, Mapping),
    /// These hosts have members of this group.
    PutGroup(Target, Arc<[HostPrefix]>),
    /// This group has no members.
    DeleteGroup(Target),
    /// This rule is so.
    PutRule(Rule),
    /// This rule concerns nobody here any more.
    DeleteRule(Arc<str>),
}
