//! Rules, as the data plane takes them: what a packet must be like, and what then happens to it.

use crate::id::VnetId;
use crate::wire::protocol;
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use ipnet::Ipv4Net;
use std::sync::Arc;

/// What nodes are marked with, as a number: rules about a tag are about whoever carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(pub u32);

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
    /// It is dropped, and its sender is told.
    Reject,
}

impl Action {
    /// The name in configuration, CLI and trace.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Reject => "reject",
        }
    }
}

/// The other end of the packets that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Anybody.
    Any,
    /// Whoever is in one of these vnets.
    Vnets(Vec<VnetId>),
    /// Whoever has an address in one of these networks, each within a vnet.
    Addresses(Vec<(VnetId, Ipv4Net)>),
    /// Whoever carries the tag.
    Tag(TagId),
}

/// What may pass, or not. Of the rules in a list the first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What the operator calls it.
    pub id: Arc<str>,
    /// The change that last touched it.
    pub revision: u64,
    /// The other end.
    pub peer: Peer,
    /// The IPv4 protocol number; `None`: any.
    pub protocol: Option<u8>,
    /// Ports of the packet's source; `None`: any. What has no ports has none that match.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// Ports of the packet's destination; as [`Self::source_ports`].
    pub destination_ports: Option<RangeInclusive<u16>>,
    /// ICMP's type, and code if it matters; `None`: any. Nothing but ICMP matches.
    pub icmp: Option<(u8, Option<u8>)>,
    /// Bytes of the whole IPv4 packet; `None`: any.
    pub size: Option<RangeInclusive<u16>>,
    /// What happens to what matches.
    pub action: Action,
    /// Whether replies to what it allows need a rule of their own.
    pub stateless: bool,
}

/// What rules can see of a packet. ICMP's numbers are IPv4's, whichever header it has just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whose address the other end is.
    pub peer: (VnetId, Ipv4Addr),
    /// IPv4 protocol number.
    pub protocol: u8,
    /// Source and destination port, of a protocol that has them.
    pub ports: Option<(u16, u16)>,
    /// Type and code of ICMP.
    pub icmp: Option<(u8, u8)>,
    /// Bytes of the whole IPv4 packet.
    pub size: u16,
}

/// Whether a protocol's header begins with source and destination port.
#[must_use]
pub const fn has_ports(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::DCCP | protocol::SCTP)
}

impl Rule {
    /// A rule about everything.
    #[must_use]
    pub fn all(id: &str, action: Action) -> Self {
        Self {
            id: id.into(),
            revision: 0,
            peer: Peer::Any,
            protocol: None,
            source_ports: None,
            destination_ports: None,
            icmp: None,
            size: None,
            action,
            stateless: false,
        }
    }

    /// Whether it is about all that goes to or comes from its peer.
    #[must_use]
    pub const fn is_about_everything(&self) -> bool {
        self.protocol.is_none()
            && self.source_ports.is_none()
            && self.destination_ports.is_none()
            && self.icmp.is_none()
            && self.size.is_none()
    }

    /// Whether it is about this peer, which carries `tags`.
    #[must_use]
    pub fn is_about(&self, (vnet, address): (VnetId, Ipv4Addr), tags: &[TagId]) -> bool {
        match &self.peer {
            Peer::Any => true,
            Peer::Vnets(vnets) => vnets.contains(&vnet),
            Peer::Addresses(nets) => nets.iter().any(|(of, net)| *of == vnet && net.contains(&address)),
            Peer::Tag(tag) => tags.contains(tag),
        }
    }

    /// Whether a packet is what it is about: condition by condition. [`RuleSet`](super::RuleSet) says the same of many rules
    /// at once.
    #[must_use]
    pub fn matches(&self, facts: &Facts, tags: &[TagId]) -> bool {
        let within = |range: &Option<RangeInclusive<u16>>, value: Option<u16>| {
            range.as_ref().is_none_or(|range| value.is_some_and(|value| range.contains(&value)))
        };
        self.is_about(facts.peer, tags)
            && self.protocol.is_none_or(|protocol| protocol == facts.protocol)
            && within(&self.source_ports, facts.ports.map(|(source, _)| source))
            && within(&self.destination_ports, facts.ports.map(|(_, destination)| destination))
            && within(&self.size, Some(facts.size))
            && self.icmp.is_none_or(|(kind, code)| {
                facts.icmp.is_some_and(|icmp| icmp.0 == kind && code.is_none_or(|code| code == icmp.1))
            })
    }
}

/// The first rule that matches: the obvious way, one after the other. What [`RuleSet`](super::RuleSet) is compared with.
#[must_use]
pub fn first_match<'r>(rules: &'r [Rule], facts: &Facts, tags: &[TagId]) -> Option<&'r Rule> {
    rules.iter().find(|rule| rule.matches(facts, tags))
}
