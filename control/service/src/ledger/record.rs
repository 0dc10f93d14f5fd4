//! What the store holds, and the keys it is held under.
//!
//! Values are JSON: a store can be read with ordinary tools, and a field can be added without a migration. Keys are
//! bytes, so that what is asked for together lies together.

use super::Result;
use crate::error::Error;
use crate::store::{Step, Table, View};
use ipnet::Ipv4Net;
use overlane_api::access::{AuditEntry, Placement as Grant, QuotaSpec, TokenRole};
use overlane_api::dhcp::Dhcp;
use overlane_api::external::Externals;
use overlane_api::group::GroupSettings;
use overlane_api::policy::{DefaultAction, RuleSpec};
use overlane_api::resource::{Attachment, InterfaceState, MappingMode, MovePhase, RateLimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntityRecord {
    pub(crate) description: String,
    #[serde(default, skip_serializing_if = "QuotaSpec::is_default")]
    pub(crate) quota: QuotaSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) placement: Option<Grant>,
    #[serde(default, skip_serializing_if = "RateLimit::is_default")]
    pub(crate) rate: RateLimit,
    pub(crate) revision: u64,
}

/// A subnet of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubnetRecord {
    pub(crate) net: Ipv4Net,
    pub(crate) gateway: Option<Ipv4Addr>,
}

/// A virtual network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub(crate) entity: String,
    pub(crate) vnet: u32,
    pub(crate) subnets: Vec<SubnetRecord>,
    #[serde(default)]
    pub(crate) default_action: DefaultAction,
    #[serde(default)]
    pub(crate) mapping: MappingMode,
    /// Whether engines ask for its mappings: as it says, or by how many there are.
    #[serde(default)]
    pub(crate) on_demand: bool,
    #[serde(default)]
    pub(crate) dhcp: Option<Dhcp>,
    #[serde(default, skip_serializing_if = "GroupSettings::is_default")]
    pub(crate) groups: GroupSettings,
    /// Each with what nodes know it by.
    #[serde(default, skip_serializing_if = "Externals::is_empty")]
    pub(crate) externals: Externals,
    pub(crate) revision: u64,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    /// The prefix's first address; its length is the layout's.
    pub(crate) prefix: Ipv6Addr,
    pub(crate) capacity: u32,
    pub(crate) revision: u64,
}

/// A node. Its interfaces have records of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) entity: String,
    /// Where its interfaces' `home` is.
    pub(crate) host: String,
    /// Their names, in the order they were given.
    pub(crate) interfaces: Vec<String>,
    /// Sorted, none twice.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    pub(crate) moving: Option<MoveRecord>,
    pub(crate) revision: u64,
}

/// A move under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MoveRecord {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) phase: MovePhase,
    /// Seconds since 1970.
    pub(crate) since: u64,
    /// The change that began the phase; engines have to acknowledge it.
    pub(crate) phase_revision: u64,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InterfaceRecord {
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) network: String,
    pub(crate) vnet: u32,
    pub(crate) mac: String,
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// The groups that it is a member of whatever its node says, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<Ipv4Addr>,
    /// The networks behind it, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<Ipv4Net>,
    /// The networks that it may send from besides, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) transit: Vec<Ipv4Net>,
    #[serde(default, skip_serializing_if = "RateLimit::is_default")]
    pub(crate) rate: RateLimit,
    /// The numbers of its node's tags, ascending.
    #[serde(default)]
    pub(crate) tags: Vec<u32>,
    /// Where it is.
    pub(crate) home: Placement,
    /// Where it goes, while it moves.
    pub(crate) next: Option<Next>,
    pub(crate) revision: u64,
}

/// An interface's place on a host, and how far it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placement {
    pub(crate) host: String,
    pub(crate) slot: u8,
    pub(crate) attachment: Attachment,
    pub(crate) state: InterfaceState,
    pub(crate) detail: String,
    /// The groups that its node has joined there, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) joined: Vec<Ipv4Addr>,
    /// Whether it is a router that does not answer there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) silent: bool,
}

/// The place that an interface moves to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Next {
    pub(crate) place: Placement,
    /// Packets go there already.
    pub(crate) switched: bool,
    /// It was live when the move began: nobody hears of the moment in which it is live nowhere.
    pub(crate) was_live: bool,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuleRecord {
    pub(crate) spec: RuleSpec,
    pub(crate) revision: u64,
}

/// Two networks that may exchange packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeeringRecord {
    /// In order.
    pub(crate) networks: [String; 2],
    pub(crate) default_action: DefaultAction,
    /// The entities that want it.
    pub(crate) accepted: BTreeSet<String>,
    pub(crate) revision: u64,
}

/// An API token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub(crate) name: String,
    pub(crate) role: TokenRole,
    pub(crate) entity: Option<String>,
    pub(crate) expires_in: Option<u64>,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// SHA-256 of the secret, in hexadecimal.
    pub(crate) hash: String,
    pub(crate) revision: u64,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditRecord {
    #[serde(flatten)]
    pub(crate) entry: AuditEntry,
    /// The entity whose token it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
}

/// Whose traffic a rule judges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Node(String),
    Tag(u32),
    Vnet(u32),
    Entity(String),
}

impl Scope {
    /// What it is called in [`Table::Scopes`].
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Node(id) => format!("node/{id}"),
            Self::Tag(number) => format!("tag/{number}"),
            Self::Vnet(vnet) => format!("vnet/{vnet}"),
            Self::Entity(id) => format!("entity/{id}"),
        }
    }
}

/// Where packets for an address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    pub(crate) location: (&'a str, u8),
    pub(crate) also_accept: Option<(&'a str, u8)>,
    pub(crate) live: bool,
}

impl InterfaceRecord {
    pub(crate) fn id(&self) -> String {
        interface_id(&self.node, &self.name)
    }

    /// Its places: one, or two while it moves.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Placement> {
        std::iter::once(&self.home).chain(self.next.as_ref().map(|next| &next.place))
    }

    pub(crate) fn place_on(&self, host: &str) -> Option<&Placement> {
        self.places().find(|place| place.host == host)
    }

    pub(crate) fn place_on_mut(&mut self, host: &str) -> Option<&mut Placement> {
        if self.home.host == host {
            return Some(&mut self.home);
        }
        self.next.as_mut().map(|next| &mut next.place).filter(|place| place.host == host)
    }

    /// Where it is as others see it.
    pub(crate) fn current(&self) -> &Placement {
        match &self.next {
            Some(next) if next.switched => &next.place,
            _ => &self.home,
        }
    }

    pub(crate) fn route(&self) -> Route<'_> {
        let at = |place: &Placement| place.state == InterfaceState::Live;
        let spot = |place| -> (&str, u8) {
            let place: &Placement = place;
            (&place.host, place.slot)
        };
        match &self.next {
            None => Route { location: spot(&self.home), also_accept: None, live: at(&self.home) },
            Some(next) => {
                let (location, other) =
                    if next.switched { (&next.place, &self.home) } else { (&self.home, &next.place) };
                Route {
                    location: spot(location),
                    also_accept: Some(spot(other)),
                    live: next.was_live || at(&self.home) || at(&next.place),
                }
            }
        }
    }
}

/// What a revision touched: the keys, not the values. Whoever catches up takes the values as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Touch {
    #[serde(rename = "h")]
    Host { host: String },
    #[serde(rename = "v")]
    Vnet {
        vnet: u32,
        /// The revision of what was deleted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deleted: Option<u64>,
    },
    #[serde(rename = "i")]
    Interface {
        host: String,
        id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deleted: Option<u64>,
        /// Scopes of rules that it is not in any more, on that host.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<String>,
    },
    #[serde(rename = "r")]
    Rule {
        id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deleted: Option<u64>,
    },
    /// The two became peers, or are none any more, or in another way.
    #[serde(rename = "e")]
    Peering { vnets: [u32; 2] },
    /// Engines are told all mappings of the vnet from now on.
    #[serde(rename = "w")]
    Whole { vnet: u32 },
    /// The first interface of the vnet came to the host, or its last one left.
    #[serde(rename = "p")]
    Presence { host: String, vnet: u32 },
    /// The group has other members than before, or they are elsewhere.
    #[serde(rename = "g")]
    Group { vnet: u32, group: Ipv4Addr },
    #[serde(rename = "m")]
    Mapping {
        vnet: u32,
        ipv4: Ipv4Addr,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deleted: Option<u64>,
    },
}

pub(crate) fn interface_id(node: &str, name: &str) -> String {
    format!("{node}/{name}")
}

/// Keys of two parts: ids hold no zero byte, so it can stand between them.
pub(crate) fn pair(first: &str, second: &[u8]) -> Vec<u8> {
    [first.as_bytes(), &[0], second].concat()
}

pub(crate) fn vnet_key(vnet: u32) -> [u8; 4] {
    vnet.to_be_bytes()
}

pub(crate) fn in_vnet(vnet: u32, rest: &[u8]) -> Vec<u8> {
    [&vnet.to_be_bytes(), rest].concat()
}

fn unreadable(table: Table, key: &[u8], problem: impl ToString) -> Error {
    Error::Record { key: format!("{table:?}/{}", String::from_utf8_lossy(key)), problem: problem.to_string() }
}

pub(crate) fn decode<T: DeserializeOwned>(table: Table, key: &[u8], value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| unreadable(table, key, error))
}

pub(crate) fn encode<T: Serialize>(table: Table, key: &[u8], value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| unreadable(table, key, error))
}

/// The record of a key.
pub(crate) fn load<T: DeserializeOwned>(
    view: &(impl View + ?Sized),
    table: Table,
    key: &str,
) -> Result<Option<T>> {
    let key = key.as_bytes();
    view.get(table, key)?.map(|value| decode(table, key, &value)).transpose()
}

/// An id that an index holds.
pub(crate) fn load_id(view: &(impl View + ?Sized), table: Table, key: &[u8]) -> Result<Option<String>> {
    view.get(table, key)?.map(|value| text(table, key, value)).transpose()
}

pub(crate) fn text(table: Table, key: &[u8], value: Vec<u8>) -> Result<String> {
    String::from_utf8(value).map_err(|error| unreadable(table, key, error))
}

/// The ids of all of a kind (with its slash, like `rule/`) that need `used`.
pub(crate) fn load_all_users(view: &(impl View + ?Sized), used: &str, kind: &str) -> Result<Vec<String>> {
    let prefix = pair(used, kind.as_bytes());
    let mut users = Vec::new();
    try_scan(view, Table::Uses, &prefix, &[], |key, _| {
        let id = key.get(prefix.len()..).unwrap_or_default().to_vec();
        users.push(text(Table::Uses, key, id)?);
        Ok(Step::Continue(()))
    })?;
    Ok(users)
}

/// A number of four bytes.
pub(crate) fn load_number(view: &(impl View + ?Sized), table: Table, key: &[u8]) -> Result<Option<u32>> {
    let Some(value) = view.get(table, key)? else { return Ok(None) };
    let bytes: [u8; 4] =
        value.try_into().map_err(|_| unreadable(table, key, "it is not a number of 4 bytes"))?;
    Ok(Some(u32::from_be_bytes(bytes)))
}

/// A number from [`Table::Meta`].
pub(crate) fn meta_number(view: &(impl View + ?Sized), key: &str) -> Result<Option<u64>> {
    let Some(value) = view.get(Table::Meta, key.as_bytes())? else { return Ok(None) };
    let bytes: [u8; 8] = value
        .try_into()
        .map_err(|_| unreadable(Table::Meta, key.as_bytes(), "it is not a number of 8 bytes"))?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

/// The number of the last change.
pub(crate) fn revision(view: &(impl View + ?Sized)) -> Result<u64> {
    Ok(meta_number(view, "revision")?.unwrap_or(0))
}

/// Scans with a visitor that can fail; the first failure ends the scan.
pub(crate) fn try_scan(
    view: &(impl View + ?Sized),
    table: Table,
    prefix: &[u8],
    from: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<Step>,
) -> Result<()> {
    let mut failure = None;
    view.scan(table, prefix, from, &mut |key, value| match visit(key, value) {
        Ok(step) => step,
        Err(error) => {
            failure = Some(error);
            Step::Break(())
        }
    })?;
    failure.map_or(Ok(()), Err)
}
