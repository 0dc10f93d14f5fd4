//! An ordered list of rules, compiled: what it costs to judge a packet hardly grows with the rules that do not match it.

use super::bits::{Arena, LeftByPeer, MAX_RULES, Span, Sparse, intersection};
use super::intervals::{Budget, Intervals};
use super::peers::MAX_TAGS;
use super::rule::{Action, Facts, Peer, Rule, TagId};
use crate::id::VnetId;
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use hashbrown::HashMap;
use std::hash::RandomState;

/// Why a list of rules cannot be compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooComplex {
    /// There are too many.
    #[error("more than {} rules in one direction", RuleSet::MAX_RULES)]
    Rules,
    /// They overlap so much that telling them apart takes too much memory.
    #[error("rules that overlap so much that they take more than {} MiB", RuleSet::MAX_MEMORY >> 20)]
    Memory,
}

/// A list of rules for one direction of an interface, compiled. Immutable; interfaces with the same rules share one.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    places: Intervals,
    tags: HashMap<TagId, Span, RandomState>,
    tagged: Arena,
    protocols: Intervals,
    source_ports: Intervals,
    destination_ports: Intervals,
    icmp: Intervals,
    sizes: Intervals,
    looks_at_size: bool,
}

impl RuleSet {
    /// Most rules in one list.
    pub const MAX_RULES: usize = MAX_RULES;
    /// Most bytes that it takes to tell the rules of a list apart.
    pub const MAX_MEMORY: usize = 64 << 20;

    /// Compiles a list of rules, of which the first that matches is to decide.
    ///
    /// # Errors
    /// [`TooComplex`].
    pub fn compile(rules: Vec<Rule>) -> Result<Self, TooComplex> {
        if rules.len() > Self::MAX_RULES {
            return Err(TooComplex::Rules);
        }
        let budget = &mut Budget(Self::MAX_MEMORY);
        let mut members: HashMap<TagId, Vec<u32>> = HashMap::new();
        for (number, rule) in (0..).zip(&rules) {
            if let Peer::Tag(tag) = rule.peer {
                members.entry(tag).or_default().push(number);
            }
        }
        let mut tagged = Arena::default();
        let tags: HashMap<_, _, _> =
            members.into_iter().map(|(tag, rules)| (tag, tagged.add(&rules))).collect();
        budget.take(tags.values().map(|set| set.bytes()).sum())?;
        let range = |range: &RangeInclusive<u16>| vec![u64::from(*range.start())..=u64::from(*range.end())];
        Ok(Self {
            places: Intervals::new(rules.iter().map(|rule| places(&rule.peer)), budget)?,
            tags,
            tagged,
            protocols: Intervals::new(
                rules.iter().map(|rule| rule.protocol.map(|number| vec![number.into()..=number.into()])),
                budget,
            )?,
            source_ports: Intervals::new(
                rules.iter().map(|rule| rule.source_ports.as_ref().map(range)),
                budget,
            )?,
            destination_ports: Intervals::new(
                rules.iter().map(|rule| rule.destination_ports.as_ref().map(range)),
                budget,
            )?,
            icmp: Intervals::new(rules.iter().map(|rule| rule.icmp.map(messages)), budget)?,
            sizes: Intervals::new(rules.iter().map(|rule| rule.size.as_ref().map(range)), budget)?,
            looks_at_size: rules.iter().any(|rule| rule.size.is_some()),
            rules,
        })
    }

    /// One rule, which denies everything.
    #[must_use]
    pub fn deny_all(id: &str) -> Self {
        let nobody_looks = Intervals::nobody_looks(1);
        Self {
            rules: vec![Rule::all(id, Action::Deny)],
            places: nobody_looks.clone(),
            tags: HashMap::default(),
            tagged: Arena::default(),
            protocols: nobody_looks.clone(),
            source_ports: nobody_looks.clone(),
            destination_ports: nobody_looks.clone(),
            icmp: nobody_looks.clone(),
            sizes: nobody_looks,
            looks_at_size: false,
        }
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether some rule looks at a packet's size, so that what is said of a flow's first packet does not hold for all.
    #[must_use]
    pub const fn looks_at_size(&self) -> bool {
        self.looks_at_size
    }

    /// The first rule that matches a packet whose peer carries `tags`.
    #[inline]
    #[must_use]
    pub fn first_match(&self, facts: &Facts, tags: &[TagId]) -> Option<&Rule> {
        let tagged = self.tagged(tags);
        let (source, destination) = facts.ports.unzip();
        let others = [
            self.protocols.left(Some(facts.protocol.into())),
            self.source_ports.left(source.map(u64::from)),
            self.destination_ports.left(destination.map(u64::from)),
            self.icmp.left(facts.icmp.map(|(kind, code)| message(kind, code))),
            self.sizes.left(Some(facts.size.into())),
        ];
        let by_peer = LeftByPeer { place: self.places.left(Some(place(facts.peer))), tags: &tagged };
        let first = intersection(&by_peer, &others, self.rules.len()).next()?;
        self.rules.get(first)
    }

    /// Whether anything may pass between here and a peer that carries `tags`; `otherwise` is what holds without a rule.
    #[must_use]
    pub fn lets_anything_pass(&self, peer: (VnetId, Ipv4Addr), tags: &[TagId], otherwise: bool) -> bool {
        let by_peer = LeftByPeer { place: self.places.left(Some(place(peer))), tags: &self.tagged(tags) };
        let mut about_it =
            intersection(&by_peer, &[], self.rules.len()).filter_map(|rule| self.rules.get(rule));
        let decisive = about_it.find(|rule| rule.action == Action::Allow || rule.is_about_everything());
        decisive.map_or(otherwise, |rule| rule.action == Action::Allow)
    }

    /// The rules about the tags that a peer carries.
    #[inline]
    fn tagged(&self, tags: &[TagId]) -> ArrayVec<Sparse<'_>, MAX_TAGS> {
        if self.tags.is_empty() {
            return ArrayVec::new_const();
        }
        let sets = tags.iter().filter_map(|tag| self.tags.get(tag));
        sets.take(MAX_TAGS).map(|set| self.tagged.get(*set)).collect()
    }
}

/// Where somebody is, as one number: addresses of a vnet lie together.
#[inline]
fn place((vnet, address): (VnetId, Ipv4Addr)) -> u64 {
    u64::from(vnet.get()) << 32 | u64::from(address.to_bits())
}

/// The places that a rule is about. One about a tag is about none, whatever its carriers.
fn places(peer: &Peer) -> Option<Vec<RangeInclusive<u64>>> {
    Some(match peer {
        Peer::Any => return None,
        Peer::Tag(_) => Vec::new(),
        Peer::Vnets(vnets) => {
            let ends = |vnet| place((vnet, Ipv4Addr::UNSPECIFIED))..=place((vnet, Ipv4Addr::BROADCAST));
            vnets.iter().map(|vnet| ends(*vnet)).collect()
        }
        Peer::Addresses(nets) => nets
            .iter()
            .map(|(vnet, net)| place((*vnet, net.network()))..=place((*vnet, net.broadcast())))
            .collect(),
    })
}

/// A kind of ICMP message as one number.
#[inline]
fn message(kind: u8, code: u8) -> u64 {
    u16::from_be_bytes([kind, code]).into()
}

fn messages((kind, code): (u8, Option<u8>)) -> Vec<RangeInclusive<u64>> {
    vec![message(kind, code.unwrap_or(0))..=message(kind, code.unwrap_or(u8::MAX))]
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
