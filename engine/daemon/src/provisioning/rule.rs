//! Rules, as provisioning tells them, checked: a value of one of these types is always legal.

use core::ops::RangeInclusive;
use ipnet::Ipv4Net;
use overlane_api::policy::Weekly;
use overlane_dataplane::id::VnetId;
use overlane_dataplane::policy::{self, Action, TagId};
use std::sync::Arc;

/// Most rules that one engine holds.
pub const MAX_RULES: usize = 1 << 18;
/// Most vnets or addresses that one rule names.
pub const MAX_PEERS: usize = 4096;
/// Most tags of one node.
pub const MAX_TAGS: usize = policy::MAX_TAGS;

/// Tags of a node, in order, none twice; most nodes have none.
pub type Tags = Option<Arc<[TagId]>>;

/// Which way packets go, as the interfaces see it whose traffic a rule judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From them.
    Egress,
    /// To them.
    Ingress,
}

/// The interfaces whose traffic a rule judges.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All of a node.
    Node(Arc<str>),
    /// All whose node carries the tag.
    Tag(TagId),
    /// All in these vnets.
    Vnets(Vec<VnetId>),
}

/// The other end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Anybody.
    Any,
    /// Whoever is in one of these vnets.
    Vnets(Vec<VnetId>),
    /// Whoever has one of these addresses, in a vnet, or in that of the judged interface.
    Addresses(Vec<(Option<VnetId>, Ipv4Net)>),
    /// Whoever carries the tag.
    Tag(TagId),
}

/// What may pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its id.
    pub id: Arc<str>,
    /// The lowest that matches decides; among equals the first by id.
    pub priority: u16,
    /// Which way the packets go.
    pub direction: Direction,
    /// Whose traffic it judges.
    pub on: Scope,
    /// The other end.
    pub peer: Peer,
    /// IPv4 protocol number; `None`: any.
    pub protocol: Option<u8>,
    /// Ports of the source; `None`: any.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// Ports of the destination; `None`: any.
    pub destination_ports: Option<RangeInclusive<u16>>,
    /// Type and code of ICMP; `None`: any.
    pub icmp: Option<(u8, Option<u8>)>,
    /// Bytes of the whole IPv4 packet; `None`: any.
    pub size: Option<RangeInclusive<u16>>,
    /// When it is in force; `None`: always.
    pub window: Option<Weekly>,
    /// What happens to what matches.
    pub action: Action,
    /// Whether replies to what it allows need a rule of their own.
    pub stateless: bool,
}

impl Rule {
    /// As the data plane takes it for an interface in `own`.
    #[must_use]
    pub fn compiled(&self, own: VnetId, revision: u64) -> policy::Rule {
        let peer = match &self.peer {
            Peer::Any => policy::Peer::Any,
            Peer::Vnets(vnets) => policy::Peer::Vnets(vnets.clone()),
            Peer::Addresses(nets) => {
                policy::Peer::Addresses(nets.iter().map(|(vnet, net)| (vnet.unwrap_or(own), *net)).collect())
            }
            Peer::Tag(tag) => policy::Peer::Tag(*tag),
        };
        policy::Rule {
            id: self.id.clone(),
            revision,
            peer,
            protocol: self.protocol,
            source_ports: self.source_ports.clone(),
            destination_ports: self.destination_ports.clone(),
            icmp: self.icmp,
            size: self.size.clone(),
            action: self.action,
            stateless: self.stateless,
        }
    }
}

/// Tags as they are kept: in order, none twice; `None` of more than [`MAX_TAGS`].
#[must_use]
pub fn tags(numbers: &[u32]) -> Option<Tags> {
    if numbers.len() > MAX_TAGS {
        return None;
    }
    let mut tags: Vec<TagId> = numbers.iter().copied().map(TagId).collect();
    tags.sort_unstable();
    tags.dedup();
    Some((!tags.is_empty()).then(|| tags.into()))
}
