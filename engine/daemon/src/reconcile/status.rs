//! What an operator is told of the engine: one value, replaced whole.

use super::counted::Counted;
use crate::provisioning::InterfaceState;
use overlane_dataplane::counters::{Drops, PerWorker};
use overlane_dataplane::id::VnetId;
use serde::Serialize;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The engine at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// This host's id, as configured.
    pub host: String,
    /// Its prefix; `None` before provisioning has told it.
    pub prefix: Option<String>,
    /// The substrate's layout.
    pub layout: Option<String>,
    /// The revision that the data plane forwards by.
    pub revision: Option<String>,
    /// Its number alone.
    pub revision_number: u64,
    /// Where the desired state comes from, and how that is.
    pub provisioning: Provisioning,
    /// Addresses that are known.
    pub mappings: usize,
    /// Those of them that were resolved on demand.
    pub resolved: usize,
    /// Requests for mappings that are under way.
    pub resolving: usize,
    /// The table's memory is reclaimed more slowly than it is used.
    pub table_behind: bool,
    /// The engine's own addresses on the uplink: where the substrate is to route this host's prefix to.
    pub uplink_addresses: Vec<Ipv6Addr>,
    /// The largest IPv6 packet that the uplink takes, in bytes; `None` while it is closed.
    pub uplink_mtu: Option<u16>,
    /// The largest IPv4 packet that a node's packets over the uplink may be, in bytes, and so the MTU that nodes should
    /// have; `None` while the uplink is closed.
    pub node_mtu: Option<u16>,
    /// Paths through the substrate that are known to carry less than the uplink, by host.
    pub paths: Vec<PathStatus>,
    /// Interfaces, by id.
    pub interfaces: Vec<InterfaceStatus>,
    /// Why the engine is not ready; empty when it is.
    pub unready: Vec<String>,
    /// What ports have counted.
    #[serde(skip)]
    pub counted: Vec<Counted>,
    /// What was dropped at the uplink, by vnet.
    #[serde(skip)]
    pub vnet_drops: Vec<(VnetId, Arc<PerWorker<Drops>>)>,
    /// The uplink's name in metrics.
    #[serde(skip)]
    pub uplink: String,
}

/// Where the desired state comes from, and how that is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Provisioning {
    /// `service` or `file`.
    pub source: &'static str,
    /// In contact with the service; always with a file.
    pub connected: bool,
    /// The service is out of reach, and entries serve from what was known.
    pub stale: bool,
    /// Entries have served for `stale_max` and are gone.
    pub expired: bool,
    /// When the service was last heard of.
    #[serde(serialize_with = "seconds")]
    pub contact: Option<SystemTime>,
    /// Why there is no contact; or the service's version.
    pub detail: String,
}

/// One interface.
#[derive(Debug, Clone, Serialize)]
pub struct InterfaceStatus {
    /// `<node>/<interface>`.
    pub id: String,
    /// Its vnet.
    pub vnet: u32,
    /// Its slot.
    pub slot: u8,
    /// Its hardware address.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<std::net::Ipv4Addr>,
    /// `veth` or `tap`.
    pub kind: &'static str,
    /// Its device.
    pub device: String,
    /// Its device's MTU, in bytes of IPv4 packet; `None` while it is not attached.
    pub mtu: Option<u16>,
    /// What follows from an MTU that is not [`Status::node_mtu`]; empty when it is.
    pub mtu_note: String,
    /// Its state.
    pub state: InterfaceState,
    /// Why it is not live.
    pub detail: String,
    /// It is a router, and does not answer ARP for its own address.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub silent: bool,
}

/// A path through the substrate that carries less than the uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathStatus {
    /// The prefix of the host that it leads to.
    pub host: String,
    /// The largest IPv6 packet that it carries, in bytes.
    pub mtu: u16,
    /// How long that is believed, unless it is heard again; told in seconds.
    #[serde(rename = "seconds_left", serialize_with = "seconds_left")]
    pub until: Instant,
}

fn seconds_left<S: serde::Serializer>(until: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    until.saturating_duration_since(Instant::now()).as_secs().serialize(serializer)
}

fn seconds<S: serde::Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map(|since| since.as_secs()).serialize(serializer)
}
