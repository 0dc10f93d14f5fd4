//! Changes on their way into the data plane, a bounded number at a time.

use super::hosts::Hosts;
use super::traits::Dataplane;
use super::{Local, Reconciler};
use crate::provisioning::desired::{DesiredState, Kept, Touched, Version};
use crate::provisioning::model::{Change, Mapping, Revision, Target, What};
use hashbrown::{HashMap, HashSet, hash_map};
use overlane_dataplane::address::{Layout, Locator};
use overlane_dataplane::id::PortId;
use overlane_dataplane::table::mapping::State;
use tokio::time::Instant;

/// Mappings written before others get their turn: about a millisecond.
const STEP: usize = 2048;

/// Changes that are being applied. Nothing else is taken from provisioning meanwhile.
#[derive(Debug)]
pub(super) enum Work {
    /// A delta, in its order, and the mappings that it has touched so far.
    Delta { revision: Revision, changes: std::vec::IntoIter<Change>, touched: Vec<Target> },
    /// The mappings that a delta has touched. Rules and tags are published before them: nobody is reached before all that
    /// judges it is in force.
    Write { revision: Revision, targets: std::vec::IntoIter<Target> },
    /// The mappings of a new state: all that it has first, then what only the old one had.
    Replace { put: std::vec::IntoIter<Target>, old: hash_map::IntoIter<Target, Kept<Mapping>> },
}

impl<D: Dataplane, K: super::traits::Kernel> Reconciler<D, K> {
    /// Begins to apply a complete state as a diff.
    pub(super) fn replace(&mut self, mut new: DesiredState) {
        if new.rules == self.state.rules {
            new.rules_version = self.state.rules_version;
        }
        let old = core::mem::replace(&mut self.state, new);
        let layout = |state: &DesiredState| state.host.as_ref().map(|host| host.value.layout);
        if layout(&old).is_some() && layout(&old) != layout(&self.state) {
            tracing::warn!("the substrate's layout has changed");
        }
        self.resolver.lift(self.state.revision.map_or(0, |revision| revision.number));
        let put: Vec<Target> = self.state.mappings.keys().copied().collect();
        self.dirty = true;
        self.work = Some(Work::Replace { put: put.into_iter(), old: old.mappings.into_iter() });
    }

    /// Does a bounded part of the work.
    pub(super) fn work_on(&mut self) {
        match self.work.take() {
            Some(Work::Delta { revision, mut changes, mut touched }) => {
                let versions = self.versions();
                let (mut lift, now) = (false, Instant::now());
                for change in changes.by_ref().take(STEP) {
                    let dies = match &change.what {
                        What::DeleteMapping(target) => self.state.mappings.get(target).cloned(),
                        _ => None,
                    };
                    match self.state.apply(change) {
                        Ok(Touched::Nothing) => {}
                        Ok(Touched::Host) => (self.dirty, lift) = (true, true),
                        Ok(Touched::Group) => self.dirty = true,
                        Ok(Touched::Mapping(target)) => {
                            touched.push(target);
                            self.dirty |= self.resolver.changed(target, revision.number);
                            if let Some(kept) = dies {
                                self.resolver.bury(target, kept.value, now);
                            }
                        }
                        Ok(Touched::NotHeld(target)) => {
                            // Somebody has the address again: workers are to ask for it, not to say that it is gone.
                            if self.resolver.open(target) {
                                touched.push(target);
                            }
                            self.dirty |= self.resolver.changed(target, revision.number);
                        }
                        Err(error) => {
                            tracing::error!(%error, "provisioning has more than this engine holds");
                            self.overfull = Some(error.to_string());
                        }
                    }
                }
                self.dirty |= self.versions() != versions;
                if lift {
                    self.resolver.lift(revision.number);
                }
                self.work = Some(match changes.len() {
                    0 => Work::Write { revision, targets: touched.into_iter() },
                    _ => Work::Delta { revision, changes, touched },
                });
                return;
            }
            Some(Work::Write { revision, mut targets }) => {
                for target in targets.by_ref().take(STEP) {
                    self.write(target);
                }
                if targets.len() > 0 {
                    self.work = Some(Work::Write { revision, targets });
                    return;
                }
                self.state.revision = Some(revision);
            }
            Some(Work::Replace { mut put, mut old }) => {
                let mut left = STEP;
                for target in put.by_ref().take(left) {
                    left -= 1;
                    self.write(target);
                }
                for (target, _) in old.by_ref().take(left) {
                    if !self.state.mappings.contains_key(&target) {
                        self.write(target);
                    }
                }
                if put.len() > 0 || old.len() > 0 {
                    self.work = Some(Work::Replace { put, old });
                    return;
                }
            }
            None => return,
        }
        self.unacknowledged = true;
        self.dirty = true;
    }

    /// Whether there is work that waits for nothing else.
    pub(super) const fn can_work(&self) -> bool {
        match self.work {
            None => false,
            Some(Work::Write { .. }) => !self.unpublished,
            Some(_) => true,
        }
    }

    /// What tells whether rules, or who carries their tags, have changed.
    fn versions(&self) -> (Version, Version) {
        (self.state.rules_version, self.state.tags_version)
    }

    /// Brings the data plane's mapping of a target in step with the desired one.
    pub(super) fn write(&mut self, target: Target) {
        let Some(kept) = self.state.mappings.get(&target) else {
            return self.unwrite(target);
        };
        self.resolver.open(target);
        let local = placed(&self.local, target, &kept.value);
        let state = self.resolver.state_of(target, &kept.value);
        match self.dataplane.put_mapping(target, &kept.value, local, state) {
            Ok(from) => {
                let to = kept.value.locator;
                self.lead(from, Some(to));
                self.unwritten.remove(&target);
            }
            Err(error) => {
                if self.unwritten.is_empty() {
                    tracing::error!(%target, %error, "cannot write a mapping; trying again");
                }
                self.unwritten.insert(target);
            }
        }
    }

    /// Nobody has the address, and for a while senders to whoever had it are told.
    fn unwrite(&mut self, target: Target) {
        let grave = self.resolver.grave(target);
        let buried = grave.map(|last| self.dataplane.put_mapping(target, &last, None, State::Gone));
        let from = match buried {
            Some(Ok(from)) => from,
            None | Some(Err(_)) => self.dataplane.remove_mapping(target),
        };
        self.lead(from, None);
        self.unwritten.remove(&target);
    }

    /// A mapping leads elsewhere. What is known of a path ends with the last mapping that takes it.
    fn lead(&mut self, from: Option<Locator>, to: Option<Locator>) {
        if let Some(left) = self.hosts.moved(from, to) {
            self.dirty |= self.paths.forget(left);
        }
    }

    /// Counts the hosts that mappings lead to anew, after the layout has changed.
    pub(super) fn count_hosts(&mut self) {
        let layout = self.state.host.as_ref().map_or_else(Layout::default, |host| host.value.layout);
        if self.work.is_none() && self.hosts.layout() != layout {
            let written = self.state.mappings.iter().filter(|(target, _)| !self.unwritten.contains(*target));
            self.hosts = Hosts::count(layout, written.map(|(_, kept)| kept.value.locator));
        }
    }

    /// Tries mappings again that the table had no room for.
    pub(super) fn write_again(&mut self) {
        let again: Vec<Target> = self.unwritten.iter().take(STEP).copied().collect();
        for target in again {
            self.write(target);
        }
    }

    /// Goes over to new ports. Addresses that leave theirs do so now; those that have come to one are returned, to
    /// be written when the ports are in a snapshot.
    pub(super) fn relocate(&mut self, local: Local) -> Vec<Target> {
        let old = core::mem::replace(&mut self.local, local);
        let moved = |other: &HashMap<_, _>, (target, place): (&Target, &(_, _))| {
            (other.get(target) != Some(place)).then_some(*target)
        };
        let gone: HashSet<Target> = old
            .iter()
            .filter(|(target, _)| !self.local.contains_key(*target))
            .map(|(target, _)| *target)
            .collect();
        let come: Vec<Target> = self.local.iter().filter_map(|entry| moved(&old, entry)).collect();
        for target in gone {
            self.write(target);
        }
        come
    }
}

/// The port that a mapping is delivered to: where its address is attached, if that is where the mapping points.
pub(super) fn placed(local: &Local, target: Target, mapping: &Mapping) -> Option<PortId> {
    local.get(&target).filter(|(locator, _)| *locator == mapping.locator).map(|(_, port)| *port)
}
