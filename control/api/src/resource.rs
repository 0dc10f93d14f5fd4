//! The JSON resources of the HTTP API `/v1`.
//!
//! What is written (`*Spec`, [`MoveRequest`]) refuses unknown fields and carries numbers and text as they came, so
//! that the service can say precisely what is wrong with them. What is read back carries the id, what the service
//! chose, and `revision`: the number of the change that last touched it.

use crate::access::{Placement, Quota, QuotaSpec};
use crate::dhcp::Dhcp;
use crate::external::Externals;
use crate::group::GroupSettings;
use crate::policy::DefaultAction;
pub use crate::rate::RateLimit;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::{IntoParams, ToSchema};

/// What a client-chosen id looks like, as a regular expression.
pub const ID_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
/// The same, as a person reads it.
pub const ID_LEGAL: &str =
    "1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit (like web-1)";

/// Whether `id` matches [`ID_PATTERN`].
#[must_use]
pub fn is_id(id: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = id.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= 63 && edge(first) && edge(last) && bytes.iter().all(|&byte| edge(byte) || byte == b'-')
}

/// What a kernel device's name must be.
pub const DEVICE_NAME_LEGAL: &str = "a kernel device name of 1 to 15 letters, digits, '_', '.' and '-', not beginning with '-' \
     (nor ., .., all or default)";

/// Whether a kernel device may have this name: [`DEVICE_NAME_LEGAL`].
///
/// The kernel allows more, but every other character means something in devargs, in sysctl paths or in a shell.
#[must_use]
pub fn is_device_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    // These are directories under /proc/sys/net, not devices.
    let reserved = matches!(name, "." | ".." | "all" | "default");
    (1..=15).contains(&name.len()) && name.bytes().all(legal) && !name.starts_with('-') && !reserved
}

/// A customer, as written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitySpec {
    /// For people; up to 256 bytes.
    #[serde(default)]
    pub description: String,
    /// How much it may have.
    #[serde(default, skip_serializing_if = "QuotaSpec::is_default")]
    pub quota: QuotaSpec,
    /// Where it may place nodes with a token of its own; nowhere if absent: operators do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The most that each interface of its nodes may send, whatever the interface itself says.
    #[serde(default, skip_serializing_if = "RateLimit::is_default")]
    pub rate: RateLimit,
}

/// A customer; owns networks and nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entity {
    /// Its id.
    pub id: String,
    /// For people.
    pub description: String,
    /// How much it may have, where that is not the service's default.
    #[serde(default, skip_serializing_if = "QuotaSpec::is_default")]
    pub quota: QuotaSpec,
    /// The most that it may have, the service's defaults included.
    #[serde(default)]
    pub limits: Quota,
    /// What it has.
    #[serde(default)]
    pub used: Quota,
    /// Where it may place nodes with a token of its own; nowhere if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The most that each interface of its nodes may send, whatever the interface itself says.
    #[serde(default, skip_serializing_if = "RateLimit::is_default")]
    pub rate: RateLimit,
    /// The change that last touched it.
    pub revision: u64,
}

/// A part of a virtual network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// IPv4 network, /8 to /30, like `10.0.0.0/24`.
    pub cidr: String,
    /// The gateway's address in it; the engines answer for it, no node may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// A virtual network, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// The entity that owns it. Cannot change.
    pub entity: String,
    /// Its 24-bit id on the substrate, 1 to 16777215; a random free one if absent. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnet: Option<u32>,
    /// Its subnets, 1 to 64, not overlapping.
    pub subnets: Vec<Subnet>,
    /// What happens inside it to what no rule decides: `allow` or `deny`; `allow` if absent.
    #[serde(default)]
    pub default_action: DefaultAction,
    /// How engines get to know where its addresses are; `automatic` if absent.
    #[serde(default)]
    pub mapping: MappingMode,
    /// What its nodes are told by DHCP; if absent, engines answer none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
    /// How it carries broadcast and multicast.
    #[serde(default, skip_serializing_if = "GroupSettings::is_default")]
    pub groups: GroupSettings,
    /// Systems without an engine that its nodes exchange packets with; operators say which.
    #[serde(default, skip_serializing_if = "Externals::is_empty")]
    pub externals: Externals,
}

/// How engines get to know where a network's addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MappingMode {
    /// On demand in a network that has more addresses than the service is configured for.
    #[default]
    Automatic,
    /// Each engine with a part in it is told all of them, and every change.
    Subscribe,
    /// Each engine asks for those that it needs, when it needs them, and is told their changes.
    OnDemand,
}

impl MappingMode {
    /// The name in JSON and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Subscribe => "subscribe",
            Self::OnDemand => "on-demand",
        }
    }
}

impl fmt::Display for MappingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for MappingMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Automatic, Self::Subscribe, Self::OnDemand];
        let found = all.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("must be automatic, subscribe or on-demand, not {text:?}"))
    }
}

/// A virtual network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// The entity that owns it.
    pub entity: String,
    /// Its 24-bit id on the substrate.
    pub vnet: u32,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// What happens inside it to what no rule decides.
    #[serde(default)]
    pub default_action: DefaultAction,
    /// How engines are to get to know where its addresses are.
    #[serde(default)]
    pub mapping: MappingMode,
    /// Whether they ask for them, now.
    #[serde(default)]
    pub on_demand: bool,
    /// What its nodes are told by DHCP; if absent, engines answer none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
    /// How it carries broadcast and multicast.
    #[serde(default)]
    pub groups: GroupSettings,
    /// Systems without an engine that its nodes exchange packets with.
    #[serde(default, skip_serializing_if = "Externals::is_empty")]
    pub externals: Externals,
    /// The change that last touched it.
    pub revision: u64,
}

/// How many interfaces a host takes unless told otherwise; also the most a host can have.
pub const DEFAULT_CAPACITY: u32 = 64;

const fn default_capacity() -> u32 {
    DEFAULT_CAPACITY
}

/// A host, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// Its substrate prefix, like `fd00:0:0:a::/64`. Cannot change.
    pub prefix: String,
    /// How many interfaces may be placed on it, 1 to 64; 64 if absent.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
}

/// A host: runs one engine, owns one substrate prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Its id: the DNS name in its engine's certificate.
    pub id: String,
    /// Its substrate prefix.
    pub prefix: String,
    /// The substrate's address layout: `slot64`, `plain72` or `plain64`.
    pub layout: String,
    /// How many interfaces may be placed on it.
    pub capacity: u32,
    /// How many are.
    pub interfaces: u32,
    /// Its engine, as the service sees it now.
    pub engine: EngineStatus,
    /// The change that last touched it.
    pub revision: u64,
}

/// A host's engine, as the service sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct EngineStatus {
    /// Whether it is subscribed.
    pub connected: bool,
    /// Its version, when connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many interfaces it said that it can attach, when connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
    /// The last revision it acknowledged, when connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
    /// The last revision it was sent, when connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Its workers, when connected and once it has reported them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerStatus>,
}

/// A worker of an engine, as its engine reports it every few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerStatus {
    /// The core that it runs on.
    pub core: u32,
    /// Packets that it has taken in since the engine started.
    pub packets: u64,
    /// How much of its time it was busy between the last two reports, in thousandths.
    pub busy_permille: u32,
    /// What a packet cost, between the last two reports in which there were any; absent before the first packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycles_per_packet: Option<PacketCycles>,
}

/// Cycles of the processor's time-stamp counter for each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PacketCycles {
    /// Receiving it.
    pub receive: u64,
    /// Reading and checking its headers, and looking up where they lead.
    pub classify: u64,
    /// Seeing whether it may pass.
    pub authorise: u64,
    /// Making it what it is to leave as.
    pub translate: u64,
    /// Sending it.
    pub send: u64,
    /// All of it, with the worker's loop itself.
    pub total: u64,
}

/// What an interface is attached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttachmentKind {
    /// The host's side of a veth pair, made by the orchestrator.
    Veth,
    /// A tap that the engine makes.
    Tap,
}

/// Where on its host an interface is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// By what.
    pub kind: AttachmentKind,
    /// The kernel interface on the host: 1 to 15 of letters, digits, `_`, `.` and `-`.
    pub device: String,
}

/// An interface, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSpec {
    /// Its name within the node, like an id.
    pub name: String,
    /// The network it belongs to.
    pub network: String,
    /// Its hardware address, like `02:00:5e:10:00:01`; a random one that is free if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Which interface of its host it is, 0 to 63; the lowest free one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Its IPv4 addresses, 1 to 64, each inside a subnet of the network.
    pub addresses: Vec<String>,
    /// Multicast groups that it is a member of whatever its node says by IGMP, up to 64, like `239.1.2.3`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Networks behind it, up to 64, like `10.9.0.0/16`: its node is a router. What is for them is sent to its first address, and
    /// it may send from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Networks that it may send from besides, up to 16, and gets nothing for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transit: Vec<String>,
    /// How much its node may send, within what its entity may.
    #[serde(default, skip_serializing_if = "RateLimit::is_default")]
    pub rate: RateLimit,
    /// Where it is attached.
    pub attachment: Attachment,
}

/// A computing node, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// The entity that owns it. Cannot change.
    pub entity: String,
    /// The host it is on. Changed by a move only.
    pub host: String,
    /// What rules know it by (security groups): up to 16, each like an id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its interfaces, 1 to 16. Of one that exists only addresses, groups, routes, transit and rate can change.
    pub interfaces: Vec<InterfaceSpec>,
}

/// How far an interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceState {
    /// Provisioned; its device has not appeared.
    Defined,
    /// Its device is attached; link down.
    Attached,
    /// Forwarding.
    Live,
    /// Terminated, or its device is gone after it was attached.
    Gone,
}

impl InterfaceState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Defined, Self::Attached, Self::Live, Self::Gone];

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Attached => "attached",
            Self::Live => "live",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for InterfaceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An interface of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Its name within the node.
    pub name: String,
    /// The network it belongs to.
    pub network: String,
    /// That network's id on the substrate.
    pub vnet: u32,
    /// Its hardware address.
    pub mac: String,
    /// Which interface of its host it is.
    pub slot: u32,
    /// Its IPv4 addresses.
    pub addresses: Vec<String>,
    /// Multicast groups that it is a member of by provisioning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Multicast groups that its node has joined by IGMP, as its engine last reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<String>,
    /// Networks behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Networks that it may send from besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transit: Vec<String>,
    /// Whether it is a router that does not answer ARP, as its engine last reported.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// How much its node may send, within what its entity may.
    #[serde(default, skip_serializing_if = "RateLimit::is_default")]
    pub rate: RateLimit,
    /// Where it is attached.
    pub attachment: Attachment,
    /// How far it is, as its engine last reported.
    pub state: InterfaceState,
    /// Why, when it is not live.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A computing node: a VM, container, process or physical machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// The entity that owns it.
    pub entity: String,
    /// The host it is on; during a move the one it comes from, until the switch.
    pub host: String,
    /// What rules know it by, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// The move under way, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Move>,
    /// The change that last touched it.
    pub revision: u64,
}

/// Asks for a node to be moved: the body of `POST /v1/nodes/{id}/move`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The host it goes to.
    pub host: String,
    /// Where its interfaces go there. One that is not named keeps its attachment, and takes its old slot if that is
    /// free, else the lowest free one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<MoveInterfaceSpec>,
}

/// Where an interface goes in a move, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveInterfaceSpec {
    /// Which interface of the node.
    pub name: String,
    /// Its slot on the new host, 0 to 63.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Its attachment on the new host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MovePhase {
    /// Receivers accept the old and the new location; packets go to the old one. Lasts until what was live at the
    /// old host is live at the new one; a move to the old host takes the move back.
    Prepare,
    /// Packets go to the new location; receivers accept both.
    Switch,
    /// The old location is refused and forgotten; waits for the engines to know it.
    Retire,
}

/// A move under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Move {
    /// The host it leaves.
    pub from: String,
    /// The host it goes to.
    pub to: String,
    /// How far it is.
    pub phase: MovePhase,
    /// When it was asked for, in seconds since 1970.
    pub since: u64,
    /// What it waits for; for people.
    pub waiting_for: String,
    /// Whether it has waited longer than the service's `[move] stuck_after`.
    pub stuck: bool,
    /// Its interfaces at the new host.
    pub interfaces: Vec<MoveInterface>,
}

/// An interface at its new host, while it moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveInterface {
    /// Which interface of the node.
    pub name: String,
    /// Its slot there.
    pub slot: u32,
    /// Its attachment there.
    pub attachment: Attachment,
    /// Its state there.
    pub state: InterfaceState,
    /// Why, when it is not live.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// One page of a list, ordered by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// What is on this page.
    pub items: Vec<T>,
    /// Give this as `after` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How many items a page has unless told otherwise.
pub const DEFAULT_PAGE: u32 = 100;
/// The most items a page has.
pub const MAX_PAGE: u32 = 1000;

/// What to list. Filters that a kind of resource does not have are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// How many, 1 to 1000; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only those behind this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only those of this entity (networks, nodes, rules).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Only those with an interface in this network, or that are this network's (nodes, peerings).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Only those on, or moving to, this host (nodes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// The service, at one glance: `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The service's version.
    pub version: String,
    /// Which history the store holds: 16 bytes in hexadecimal.
    pub incarnation: String,
    /// The number of its last change.
    pub revision: u64,
    /// How many entities there are.
    pub entities: u64,
    /// How many networks.
    pub networks: u64,
    /// How many hosts.
    pub hosts: u64,
    /// How many of those have their engine connected.
    pub hosts_connected: u64,
    /// How many of those have acknowledged all that they were sent.
    pub hosts_in_step: u64,
    /// How many nodes.
    pub nodes: u64,
    /// How many interfaces, by state.
    pub interfaces: InterfaceCounts,
    /// Nodes that are moving; the first 100.
    pub moves: Vec<NodeMove>,
    /// Workers of the engines that have reported them, by host; the first 100 hosts.
    #[serde(default)]
    pub engines: Vec<HostWorkers>,
}

/// The workers of a host's engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostWorkers {
    /// Which host.
    pub host: String,
    /// Its workers, in the engine's order.
    pub workers: Vec<WorkerStatus>,
}

/// How many interfaces are how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct InterfaceCounts {
    /// Provisioned, no device.
    pub defined: u64,
    /// Attached, link down.
    pub attached: u64,
    /// Forwarding.
    pub live: u64,
    /// Device gone.
    pub gone: u64,
}

/// A node that is moving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeMove {
    /// Which node.
    pub node: String,
    /// How far it is.
    pub progress: Move,
}

/// What kind of mistake or trouble an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A value that is never legal (400).
    Invalid,
    /// Neither a certificate nor a token that is known (401).
    Unauthenticated,
    /// Whoever asks may not do this (403).
    Forbidden,
    /// No such path or resource (404).
    NotFound,
    /// The path exists; the method does not (405).
    MethodNotAllowed,
    /// Legal in itself; clashes with what there is (409).
    Conflict,
    /// Nothing is left: slots, capacity, ids, quota (409).
    Exhausted,
    /// The body is larger than allowed (413).
    TooLarge,
    /// The body is not `application/json` (415).
    UnsupportedMediaType,
    /// Too many failed authentications from one address (429).
    TooManyRequests,
    /// It took too long (504). A write may have been done.
    Timeout,
    /// Shutting down or overloaded; try again (503).
    Unavailable,
    /// Our fault; the service's log says more (500).
    Internal,
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// What kind it is.
    pub code: ErrorCode,
    /// The field that is wrong, like `interfaces[0].addresses[1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For people: what was given and why it is refused.
    pub message: String,
    /// The legal values of the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal: Option<String>,
}

impl fmt::Display for ErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(legal) = &self.legal {
            write!(f, " (legal: {legal})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ErrorDetail {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_the_pattern_says() {
        for good in ["a", "7", "web-1", &"a".repeat(63)] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", &"a".repeat(64)] {
            assert!(!is_id(bad), "{bad}");
        }
    }

    #[test]
    fn device_names_hold_no_metacharacters() {
        for good in ["eth0", "veth-n1.red", "a", "fifteen-letters"] {
            assert!(is_device_name(good), "{good}");
        }
        let bad = "|sixteen-letters-|a b|a,b|a/b|..|.|all|default|a=b|-x|é|a\0";
        for bad in bad.split('|') {
            assert!(!is_device_name(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_written_refuses_unknown_fields() {
        let error = serde_json::from_str::<HostSpec>(r#"{"prefix":"fd00::/64","capcity":3}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `capcity`, expected `prefix` or `capacity`"));
    }

    #[test]
    fn errors_read_as_one_line() {
        let error = ErrorDetail {
            code: ErrorCode::Invalid,
            field: Some("vnet".to_owned()),
            message: "0 is reserved".to_owned(),
            legal: Some("1 to 16777215".to_owned()),
        };
        assert_eq!(error.to_string(), "vnet: 0 is reserved (legal: 1 to 16777215)");
    }
}
