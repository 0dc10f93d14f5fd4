//! The desired state: everything provisioning has said, at one revision.

use super::model::{
    Change, Host, Interface, MAX_GROUPS, MAX_INTERFACES, MAX_MAPPINGS, MAX_VNETS, Mapping, Revision, Target,
    Vnet, What,
};
use super::rule::{MAX_RULES, Rule};
use hashbrown::HashMap;
use overlane_dataplane::address::HostPrefix;
use overlane_dataplane::id::VnetId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything provisioning has said.
#[derive(Debug, Clone, Default)]
pub struct DesiredState {
    /// Everything up to here is contained; `None`: no revision is complete yet, or it means nothing any more.
    pub revision: Option<Revision>,
    /// This host.
    pub host: Option<Kept<Host>>,
    /// Vnets with interfaces on this host.
    pub vnets: HashMap<VnetId, Kept<Arc<Vnet>>>,
    /// This host's interfaces.
    pub interfaces: HashMap<Arc<str>, Kept<Arc<Interface>>>,
    /// Where the addresses of these vnets and their peers live.
    pub mappings: HashMap<Target, Kept<Mapping>>,
    /// The hosts that have members of groups.
    pub groups: HashMap<Target, Kept<Arc<[HostPrefix]>>>,
    /// What may pass.
    pub rules: HashMap<Arc<str>, Kept<Arc<Rule>>>,
    /// Another number whenever rules may have changed.
    pub rules_version: Version,
    /// Another number whenever the tags of an address may have changed.
    pub tags_version: Version,
}

/// Tells one state of something from all others in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(u64);

impl Version {
    /// One that nothing else has.
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::new()
    }
}

/// A value, and the revision that put it there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kept<T> {
    /// The revision that put it.
    pub revision: u64,
    /// The value.
    pub value: T,
}

/// What a change touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// Nothing: it was late, or says what is known.
    Nothing,
    /// The host, a vnet, an interface or a rule.
    Host,
    /// Who hears what is sent to a group, which changes no answer about a mapping.
    Group,
    /// One mapping.
    Mapping(Target),
    /// A mapping that is not held has changed.
    NotHeld(Target),
}

/// The state is full; the change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} {of}")]
pub struct TooMany {
    /// Of what.
    pub of: &'static str,
    /// The limit.
    pub limit: usize,
}

impl DesiredState {
    /// Applies one change. A put that is older than what is kept, and a deletion of something put later than it
    /// knew, are late: they change nothing.
    ///
    /// # Errors
    /// [`TooMany`] if the state is full; it is unchanged.
    pub fn apply(&mut self, change: Change) -> Result<Touched, TooMany> {
        let Change { revision, what } = change;
        Ok(match what {
            What::PutHost(host) => match &mut self.host {
                Some(kept) if kept.revision > revision => Touched::Nothing,
                kept => {
                    *kept = Some(Kept { revision, value: host });
                    Touched::Host
                }
            },
            What::PutVnet(vnet) => {
                touched_host(put(&mut self.vnets, vnet.id, Arc::new(vnet), revision, MAX_VNETS, "vnets")?)
            }
            What::DeleteVnet(id) => {
                let deleted = delete(&mut self.vnets, &id, revision);
                if deleted {
                    self.groups.retain(|group, _| group.vnet != id);
                }
                touched_host(deleted)
            }
            What::PutGroup(group, hosts) => {
                touched_group(put(&mut self.groups, group, hosts, revision, MAX_GROUPS, "groups")?)
            }
            What::DeleteGroup(group) => touched_group(delete(&mut self.groups, &group, revision)),
            What::PutInterface(new) => {
                let id = new.id.clone();
                touched_host(put(
                    &mut self.interfaces,
                    id,
                    Arc::new(new),
                    revision,
                    MAX_INTERFACES,
                    "interfaces",
                )?)
            }
            What::DeleteInterface(id) => touched_host(delete(&mut self.interfaces, &id, revision)),
            What::PutMapping(target, mapping) => {
                let before = self.mappings.get(&target).and_then(|kept| kept.value.tags.clone());
                let changes_tags = before != mapping.tags;
                match put(&mut self.mappings, target, mapping, revision, MAX_MAPPINGS, "mappings")? {
                    true => self.touched_mapping(target, changes_tags),
                    false => Touched::Nothing,
                }
            }
            What::DeleteMapping(target) => {
                let tagged = self.mappings.get(&target).is_some_and(|kept| kept.value.tags.is_some());
                match delete(&mut self.mappings, &target, revision) {
                    true => self.touched_mapping(target, tagged),
                    false => Touched::Nothing,
                }
            }
            What::RefreshMapping(target, mapping) => {
                if !self.mappings.contains_key(&target) {
                    return Ok(Touched::NotHeld(target));
                }
                return self.apply(Change { revision, what: What::PutMapping(target, mapping) });
            }
            What::PutRule(new) => {
                let id = new.id.clone();
                let changed = put(&mut self.rules, id, Arc::new(new), revision, MAX_RULES, "rules")?;
                self.touched_rules(changed)
            }
            What::DeleteRule(id) => {
                let changed = delete(&mut self.rules, &id, revision);
                self.touched_rules(changed)
            }
        })
    }

    fn touched_mapping(&mut self, target: Target, changes_tags: bool) -> Touched {
        if changes_tags {
            self.tags_version = Version::new();
        }
        Touched::Mapping(target)
    }

    fn touched_rules(&mut self, changed: bool) -> Touched {
        if changed {
            self.rules_version = Version::new();
        }
        touched_host(changed)
    }
}

fn touched_host(changed: bool) -> Touched {
    if changed { Touched::Host } else { Touched::Nothing }
}

fn touched_group(changed: bool) -> Touched {
    if changed { Touched::Group } else { Touched::Nothing }
}

/// Puts a value unless a later one is kept; whether anything but the revision changed.
fn put<K: std::hash::Hash + Eq, V: PartialEq>(
    map: &mut HashMap<K, Kept<V>>,
    key: K,
    value: V,
    revision: u64,
    limit: usize,
    of: &'static str,
) -> Result<bool, TooMany> {
    if let Some(kept) = map.get_mut(&key) {
        if kept.revision > revision {
            return Ok(false);
        }
        let changed = kept.value != value;
        *kept = Kept { revision, value };
        return Ok(changed);
    }
    if map.len() >= limit {
        return Err(TooMany { of, limit });
    }
    map.insert(key, Kept { revision, value });
    Ok(true)
}

/// Deletes what was put at `revision` or before; whether there was something.
fn delete<Q, K, V>(map: &mut HashMap<K, Kept<V>>, key: &Q, revision: u64) -> bool
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ?Sized,
{
    let due = map.get(key).is_some_and(|kept| kept.revision <= revision);
    if due {
        map.remove(key);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use overlane_dataplane::address::{HostPrefix, Layout, Locator};
    use overlane_dataplane::id::Slot;
    use proptest::prelude::*;

    fn target(last: u8) -> Target {
        Target { vnet: VnetId::MIN, ipv4: Ipv4Addr::new(10, 0, 0, last) }
    }

    fn mapping(slot: u8) -> Mapping {
        let prefix = HostPrefix::parse(Layout::Slot64, "fd00:0:0:a::/64").unwrap();
        let locator = Locator::new(Layout::Slot64, prefix, Slot::new(slot).unwrap(), VnetId::MIN).unwrap();
        Mapping { locator, also_accept: None, live: true, tags: None }
    }

    fn put(revision: u64, last: u8, slot: u8) -> Change {
        Change { revision, what: What::PutMapping(target(last), mapping(slot)) }
    }

    fn delete(revision: u64, last: u8) -> Change {
        Change { revision, what: What::DeleteMapping(target(last)) }
    }

    #[test]
    fn a_late_delete_never_kills_a_newer_put() {
        let mut state = DesiredState::default();
        assert_eq!(state.apply(put(5, 1, 1)), Ok(Touched::Mapping(target(1))));
        assert_eq!(state.apply(put(9, 1, 2)), Ok(Touched::Mapping(target(1))));
        assert_eq!(state.apply(delete(5, 1)), Ok(Touched::Nothing));
        assert_eq!(state.mappings[&target(1)].value, mapping(2));
        assert_eq!(state.apply(delete(9, 1)), Ok(Touched::Mapping(target(1))));
        assert!(state.mappings.is_empty());
    }

    #[test]
    fn a_late_put_never_overwrites_a_newer_one() {
        let mut state = DesiredState::default();
        state.apply(put(9, 1, 2)).unwrap();
        assert_eq!(state.apply(put(5, 1, 1)), Ok(Touched::Nothing));
        assert_eq!(state.mappings[&target(1)].value, mapping(2));
    }

    #[test]
    fn a_put_that_says_what_is_known_touches_nothing_but_counts_as_newer() {
        let mut state = DesiredState::default();
        state.apply(put(1, 1, 2)).unwrap();
        assert_eq!(state.apply(put(7, 1, 2)), Ok(Touched::Nothing));
        assert_eq!(state.apply(delete(6, 1)), Ok(Touched::Nothing));
        assert_eq!(state.mappings.len(), 1);
    }

    proptest! {
        /// Each put has its own revision and each delete names one: whatever the order they come in, the newest put
        /// survives unless a delete of it (or of a later one) came after it.
        #[test]
        fn the_newest_put_wins_in_any_order(
            steps in prop::collection::vec((1u64..40, 0u8..4, any::<bool>()), 0..80),
        ) {
            let mut state = DesiredState::default();
            let mut oracle: std::collections::BTreeMap<u8, u64> = Default::default();
            for (revision, last, is_put) in steps {
                let kept = oracle.get(&last).copied();
                if is_put {
                    state.apply(put(revision, last, (revision % 64) as u8)).unwrap();
                    if kept.is_none_or(|kept| revision >= kept) {
                        oracle.insert(last, revision);
                    }
                } else {
                    state.apply(delete(revision, last)).unwrap();
                    if kept.is_some_and(|kept| kept <= revision) {
                        oracle.remove(&last);
                    }
                }
                let now: std::collections::BTreeMap<u8, u64> =
                    state.mappings.iter().map(|(key, kept)| (key.ipv4.octets()[3], kept.revision)).collect();
                prop_assert_eq!(&now, &oracle);
                for kept in state.mappings.values() {
                    prop_assert_eq!(&kept.value, &mapping((kept.revision % 64) as u8));
                }
            }
        }
    }
}
