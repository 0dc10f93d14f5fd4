//! Which rules judge which interface, compiled; and who carries the tags that they are about.

use crate::provisioning::desired::{DesiredState, Version};
use crate::provisioning::model::Interface;
use crate::provisioning::rule::{Direction, Peer, Rule, Scope};
use core::time::Duration;
use hashbrown::{HashMap, HashSet};
use overlane_dataplane::id::VnetId;
use overlane_dataplane::policy::{Peers, Policy, RuleSet, TagId};
use std::sync::Arc;
use std::time::SystemTime;

/// A rule, and the revision that put it.
type Entry = (Arc<Rule>, u64);

/// An interface as it was when its rules were compiled, and these, if there are any.
type Known = (Arc<Interface>, Option<Arc<Policy>>);

/// Rules by whose traffic they judge.
#[derive(Debug, Default)]
struct Index {
    nodes: HashMap<Arc<str>, Vec<Entry>>,
    tags: HashMap<TagId, Vec<Entry>>,
    vnets: HashMap<VnetId, Vec<Entry>>,
}

/// What tells a list of rules: their ids and revisions, and the vnet of the interface if that matters.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SetKey {
    rules: Vec<(Arc<str>, u64)>,
    own: Option<VnetId>,
}

/// The rules in force, and what was made of them.
#[derive(Debug)]
pub(super) struct Policies {
    rules: Option<Version>,
    tags: Option<Version>,
    index: Index,
    /// Every set that an interface goes by.
    sets: HashMap<SetKey, Arc<RuleSet>>,
    /// What each interface goes by, until rules change.
    of: HashMap<Arc<str>, Known>,
    peers: Arc<Peers>,
    /// When it was last looked which windows are open.
    looked_at: SystemTime,
    /// When the next window of a rule opens or closes.
    turn_at: Option<SystemTime>,
    /// Interfaces whose rules cannot be compiled: nothing passes there.
    problems: HashMap<Arc<str>, String>,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            rules: None,
            tags: None,
            index: Index::default(),
            sets: HashMap::new(),
            of: HashMap::new(),
            peers: Arc::default(),
            looked_at: SystemTime::UNIX_EPOCH,
            turn_at: None,
            problems: HashMap::new(),
        }
    }
}

impl Policies {
    /// Takes notice of what has changed in the rules, in who carries tags, and in the time.
    pub(super) fn refresh(&mut self, state: &DesiredState, now: SystemTime) {
        let rules_changed = self.rules != Some(state.rules_version);
        // The clock may have been set back.
        let turned = self.turn_at.is_some_and(|turn| turn <= now || now < self.looked_at);
        self.looked_at = now;
        if rules_changed || turned {
            self.rules = Some(state.rules_version);
            self.of.clear();
            self.problems.clear();
            self.index(state, now);
        }
        if rules_changed || self.tags != Some(state.tags_version) {
            self.tags = Some(state.tags_version);
            self.peers = Arc::new(carriers(state));
        }
        self.of.retain(|id, _| state.interfaces.contains_key(id));
        self.problems.retain(|id, _| state.interfaces.contains_key(id));
    }

    /// What is left in force at a moment, by whom it is about.
    fn index(&mut self, state: &DesiredState, now: SystemTime) {
        let mut index = Index::default();
        let mut wait: Option<Duration> = None;
        for kept in state.rules.values() {
            let rule = &kept.value;
            if let Some(window) = rule.window {
                let turn = window.next_turn(now);
                wait = Some(wait.map_or(turn, |wait| wait.min(turn)));
                if !window.contains(now) {
                    continue;
                }
            }
            let entry = (rule.clone(), kept.revision);
            match &rule.on {
                Scope::Node(node) => index.nodes.entry(node.clone()).or_default().push(entry),
                Scope::Tag(tag) => index.tags.entry(*tag).or_default().push(entry),
                Scope::Vnets(vnets) => {
                    for vnet in vnets.iter().collect::<HashSet<_>>() {
                        index.vnets.entry(*vnet).or_default().push(entry.clone());
                    }
                }
            }
        }
        self.index = index;
        self.turn_at = wait.map(|wait| now + wait);
    }

    /// When the next window opens or closes.
    pub(super) const fn turn_at(&self) -> Option<SystemTime> {
        self.turn_at
    }

    /// Who carries the tags that rules are about.
    pub(super) const fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// What is wrong with rules of this host.
    pub(super) fn problem(&self) -> Option<String> {
        let (id, problem) = self.problems.iter().min_by_key(|(id, _)| *id)?;
        Some(format!("{id}: {problem}; nothing passes there"))
    }

    /// What an interface goes by; `None`: no rule is about it.
    pub(super) fn of(&mut self, interface: &Arc<Interface>) -> Option<Arc<Policy>> {
        if let Some((known, policy)) = self.of.get(&interface.id)
            && **known == **interface
        {
            return policy.clone();
        }
        let policy = self.make(interface);
        self.of.insert(interface.id.clone(), (interface.clone(), policy.clone()));
        policy
    }

    /// Forgets sets that no interface goes by any more.
    pub(super) fn tidy(&mut self) {
        self.sets.retain(|_, set| Arc::strong_count(set) > 1);
    }

    fn make(&mut self, interface: &Interface) -> Option<Arc<Policy>> {
        let tags = interface.tags.iter().flat_map(|tags| tags.iter());
        let mut rules: Vec<Entry> =
            [self.index.nodes.get(interface.node()), self.index.vnets.get(&interface.vnet)]
                .into_iter()
                .chain(tags.map(|tag| self.index.tags.get(tag)))
                .flatten()
                .flatten()
                .cloned()
                .collect();
        if rules.is_empty() {
            return None;
        }
        rules.sort_unstable_by(|(one, _), (two, _)| (one.priority, &one.id).cmp(&(two.priority, &two.id)));
        let mut list = |direction| {
            let rules: Vec<&Entry> = rules.iter().filter(|(rule, _)| rule.direction == direction).collect();
            self.set(interface, &rules)
        };
        let (egress, ingress) = (list(Direction::Egress), list(Direction::Ingress));
        Some(Arc::new(Policy { egress, ingress }))
    }

    fn set(&mut self, interface: &Interface, rules: &[&Entry]) -> Arc<RuleSet> {
        let own = rules.iter().any(|(rule, _)| names_own(&rule.peer)).then_some(interface.vnet);
        let key = SetKey {
            rules: rules.iter().map(|(rule, revision)| (rule.id.clone(), *revision)).collect(),
            own,
        };
        if let Some(known) = self.sets.get(&key) {
            return known.clone();
        }
        let compiled = rules.iter().map(|(rule, revision)| rule.compiled(interface.vnet, *revision));
        let set = RuleSet::compile(compiled.collect()).unwrap_or_else(|problem| {
            tracing::error!(interface = %interface.id, %problem, "rules cannot be compiled; nothing passes");
            self.problems.insert(interface.id.clone(), problem.to_string());
            RuleSet::deny_all("too-complex")
        });
        let set = Arc::new(set);
        self.sets.insert(key, set.clone());
        set
    }
}

fn names_own(peer: &Peer) -> bool {
    matches!(peer, Peer::Addresses(nets) if nets.iter().any(|(vnet, _)| vnet.is_none()))
}

/// Whoever carries a tag that a rule is about.
fn carriers(state: &DesiredState) -> Peers {
    let asked: HashSet<TagId> = state
        .rules
        .values()
        .filter_map(|kept| match kept.value.peer {
            Peer::Tag(tag) => Some(tag),
            _ => None,
        })
        .collect();
    if asked.is_empty() {
        return Peers::default();
    }
    Peers::new(state.mappings.iter().filter_map(|(target, kept)| {
        let tags = kept.value.tags.as_ref()?.iter().filter(|tag| asked.contains(*tag));
        Some(((target.vnet, target.ipv4), tags.copied().collect()))
    }))
}

#[cfg(test)]
#[path = "tests/policy.rs"]
mod tests;
