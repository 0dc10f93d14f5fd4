//! Mappings that are resolved on demand: who asks for which, which are held and for how long, and what was refused.
//!
//! The service tells an engine of every change to a mapping that it has resolved, so what is held is right for as long as
//! there is contact; that it is forgotten after a while only keeps an engine from holding what nobody uses. A mapping that
//! grows old is marked, and whoever uses it asks for it again.

use super::traits::{Dataplane, Kernel};
use super::{Connection, Reconciler};
use crate::provisioning::desired::DesiredState;
use crate::provisioning::model::{Change, Mapping, Target, What};
use crate::provisioning::resolve::{Request, Resolved};
use core::time::Duration;
use hashbrown::{HashMap, HashSet};
use overlane_api::sync::RefusalReason;
use overlane_dataplane::id::VnetId;
use overlane_dataplane::resolve::{Answer, Outcome, Question};
use overlane_dataplane::table::mapping::State;
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Requests that are under way.
const PENDING: usize = 4096;
/// Workers' questions that one request answers.
const ASKERS: usize = 64;
/// How often a request is repeated because its answer was overtaken by changes.
const REPEATS: u8 = 4;
/// Refused addresses that are remembered, so that a change of theirs lifts the refusal.
const REFUSED: usize = 4096;
/// Terminated nodes' addresses that are remembered, and for how long: until whoever talked to them has heard of it.
const GRAVES: usize = 65_536;
const MOURNING: Duration = Duration::from_secs(60);
/// Mappings looked at in one go.
const STEP: usize = 2048;

/// A worker that waits for an answer.
type Asker = (usize, Question);

/// A request that is under way.
#[derive(Debug, Default)]
struct Pending {
    askers: Vec<Asker>,
    /// A change that the answer must not be older than.
    stale: Option<u64>,
    repeats: u8,
}

/// Since when a mapping is held, and whether it is marked as old.
#[derive(Debug, Clone, Copy)]
struct Held {
    since: Instant,
    ageing: bool,
}

/// What is known of mappings on demand.
#[derive(Debug)]
pub(super) struct Resolver {
    requests: mpsc::Sender<Request>,
    /// For how long a mapping is held.
    expiry: Duration,
    pending: HashMap<Request, Pending>,
    held: HashMap<Target, Held>,
    /// Mappings in the order in which they were resolved: to be marked, and then to be forgotten.
    to_mark: VecDeque<(Instant, Target)>,
    to_forget: VecDeque<(Instant, Target)>,
    refused: HashSet<Target>,
    /// What was resolved, to be handed over when what judges it is published.
    ready: Vec<(Target, Vec<Asker>)>,
    /// The vnets of this host and their peers, and which are on demand.
    vnets: HashMap<VnetId, bool>,
    /// See [`overlane_dataplane::snapshot::HostSnapshot::resolve_epoch`].
    epoch: u32,
    graves: HashMap<Target, (Instant, Mapping)>,
    to_close: VecDeque<(Instant, Target)>,
}

impl Resolver {
    pub(super) fn new(requests: mpsc::Sender<Request>, expiry: Duration) -> Self {
        Self {
            requests,
            expiry,
            pending: HashMap::new(),
            held: HashMap::new(),
            to_mark: VecDeque::new(),
            to_forget: VecDeque::new(),
            refused: HashSet::new(),
            ready: Vec::new(),
            vnets: HashMap::new(),
            epoch: 0,
            graves: HashMap::new(),
            to_close: VecDeque::new(),
        }
    }

    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How many mappings are held that were resolved on demand, and how many requests are under way.
    pub(super) fn numbers(&self) -> (usize, usize) {
        (self.held.len(), self.pending.len())
    }

    /// How workers are to take a mapping.
    pub(super) fn state_of(&self, target: Target, mapping: &Mapping) -> State {
        match (mapping.live, self.held.get(&target)) {
            (false, _) => State::Down,
            (true, Some(Held { ageing: true, .. })) => State::Ageing,
            (true, _) => State::Live,
        }
    }

    fn hold(&mut self, target: Target, now: Instant) {
        self.held.insert(target, Held { since: now, ageing: false });
        self.to_mark.push_back((now, target));
    }

    /// Refusals of before are none any more, and answers that are under way may be too old.
    pub(super) fn lift(&mut self, revision: u64) {
        self.epoch = self.epoch.wrapping_add(1);
        self.refused.clear();
        for pending in self.pending.values_mut() {
            pending.stale = Some(revision);
        }
    }

    /// An address that is not held has changed; whether that lifts a refusal.
    pub(super) fn changed(&mut self, target: Target, revision: u64) -> bool {
        let mut concerns = self.refused.len() >= REFUSED || self.refused.contains(&target);
        for (request, pending) in &mut self.pending {
            if request.target == target {
                pending.stale = Some(revision);
                concerns = true;
            }
        }
        if concerns {
            self.epoch = self.epoch.wrapping_add(1);
            self.refused.clear();
        }
        concerns
    }

    /// Remembers a node's address that was terminated.
    pub(super) fn bury(&mut self, target: Target, mapping: Mapping, now: Instant) {
        if self.graves.len() < GRAVES {
            self.graves.insert(target, (now, mapping));
            self.to_close.push_back((now + MOURNING, target));
        }
    }

    /// The mapping of an address that was terminated a short while ago, in a vnet that this host knows.
    pub(super) fn grave(&mut self, target: Target) -> Option<Mapping> {
        if !self.vnets.contains_key(&target.vnet) {
            self.graves.remove(&target);
        }
        self.graves.get(&target).map(|(_, mapping)| mapping.clone())
    }

    /// The address is somebody's again; whether it was marked as gone.
    pub(super) fn open(&mut self, target: Target) -> bool {
        !self.graves.is_empty() && self.graves.remove(&target).is_some()
    }
}

/// The vnets that a state is about, and which of them are on demand.
fn vnets(state: &DesiredState) -> HashMap<VnetId, bool> {
    let mut vnets = HashMap::new();
    for kept in state.vnets.values() {
        vnets.extend(kept.value.peerings.iter().map(|peer| (peer.vnet, peer.on_demand)));
    }
    // What a vnet says of itself counts.
    vnets.extend(state.vnets.iter().map(|(id, kept)| (*id, kept.value.on_demand)));
    vnets
}

impl<D: Dataplane, K: Kernel> Reconciler<D, K> {
    /// Takes what workers ask.
    pub(super) fn take_questions(&mut self, questions: &mut Vec<(usize, Question)>) {
        for asker in questions.drain(..) {
            self.take_question(asker);
        }
    }

    fn take_question(&mut self, asker: Asker) {
        let (_, question) = asker;
        let target = Target { vnet: question.key.vnet_id(), ipv4: question.key.ipv4() };
        let held = self.resolver.held.get(&target);
        let known = self.state.mappings.contains_key(&target);
        let ready = self.resolver.ready.iter_mut().find(|(ready, _)| *ready == target);
        if let Some((_, askers)) = ready {
            askers.push(asker);
            return;
        }
        if known && !held.is_some_and(|held| held.ageing) {
            return self.answer([asker], Outcome::Known);
        }
        let interface = self.attachments.ready().find(|ready| ready.port.id == question.port);
        let interface = interface.map(|ready| ready.interface.id.clone());
        let connected = matches!(self.connection, Connection::Up { .. });
        let Some(interface) = interface.filter(|_| connected) else {
            return self.answer([asker], unanswered(known));
        };
        let request = Request { interface, target };
        if let Some(pending) = self.resolver.pending.get_mut(&request) {
            if pending.askers.len() < ASKERS {
                pending.askers.push(asker);
                return;
            }
        } else if self.resolver.pending.len() < PENDING
            && self.resolver.requests.try_send(request.clone()).is_ok()
        {
            let pending = Pending { askers: vec![asker], ..Pending::default() };
            self.resolver.pending.insert(request, pending);
            return;
        }
        self.answer([asker], unanswered(known));
    }

    fn answer(&self, askers: impl IntoIterator<Item = Asker>, outcome: Outcome) {
        for (worker, question) in askers {
            self.dataplane.answer(worker, Answer { question, outcome, epoch: self.resolver.epoch });
        }
    }

    /// Takes what became of a request.
    pub(super) fn take_resolved(&mut self, request: Request, resolved: Resolved) {
        let Some(mut pending) = self.resolver.pending.remove(&request) else { return };
        let target = request.target;
        let known = self.state.mappings.contains_key(&target);
        let resolution = match resolved {
            Ok(resolution) => resolution,
            Err(error) => {
                tracing::debug!(%target, %error, "a mapping was not resolved");
                return self.answer(pending.askers, unanswered(known));
            }
        };
        let incarnation = self.state.revision.map(|revision| revision.incarnation);
        let overtaken = pending.stale.is_some_and(|stale| resolution.revision.number < stale);
        if incarnation != Some(resolution.revision.incarnation) || overtaken {
            pending.stale = None;
            pending.repeats += 1;
            if pending.repeats <= REPEATS && self.resolver.requests.try_send(request.clone()).is_ok() {
                self.resolver.pending.insert(request, pending);
            } else {
                self.answer(pending.askers, unanswered(known));
            }
            return;
        }
        match resolution.outcome {
            // Meanwhile all of it may be told, or nothing any more.
            Ok(_) if self.resolver.vnets.get(&target.vnet) != Some(&true) => {
                self.answer(pending.askers, unanswered(known));
            }
            Ok((revision, mapping)) => self.take_mapping(target, (revision, mapping), pending.askers),
            Err(RefusalReason::UnknownTarget) => {
                self.forget(target);
                self.refused(target);
                self.answer(pending.askers, Outcome::Unknown);
            }
            // The service will soon have heard that it is.
            Err(RefusalReason::InterfaceNotLive) => self.answer(pending.askers, unanswered(known)),
            Err(reason) => {
                tracing::debug!(interface = %request.interface, %target, ?reason, "a mapping was refused");
                self.refused(target);
                self.answer(pending.askers, Outcome::Refused);
            }
        }
    }

    fn refused(&mut self, target: Target) {
        if self.resolver.refused.len() < REFUSED {
            self.resolver.refused.insert(target);
        }
    }

    fn take_mapping(&mut self, target: Target, (revision, mapping): (u64, Mapping), askers: Vec<Asker>) {
        let tags = self.state.tags_version;
        if let Err(error) = self.state.apply(Change { revision, what: What::PutMapping(target, mapping) }) {
            tracing::error!(%error, "more has been resolved than this engine holds");
            return self.answer(askers, Outcome::Unanswered);
        }
        self.resolver.hold(target, Instant::now());
        // Who carries which tags is published before anybody is reached.
        self.dirty |= self.state.tags_version != tags;
        self.resolver.ready.push((target, askers));
    }

    /// Writes what was resolved and answers who has asked for it, when what judges it is published.
    pub(super) fn hand_over(&mut self) {
        if self.resolver.ready.is_empty() || self.unpublished {
            return;
        }
        for (target, askers) in core::mem::take(&mut self.resolver.ready) {
            self.write(target);
            // The table may have no room.
            let written = !self.unwritten.contains(&target);
            self.answer(askers, if written { Outcome::Known } else { Outcome::Unanswered });
        }
    }

    /// Gives up all requests: there is nobody to answer them.
    pub(super) fn give_up_requests(&mut self) {
        let pending = core::mem::take(&mut self.resolver.pending);
        for (request, pending) in pending {
            let known = self.state.mappings.contains_key(&request.target);
            self.answer(pending.askers, unanswered(known));
        }
    }

    /// Forgets a mapping that was resolved.
    fn forget(&mut self, target: Target) {
        if self.resolver.held.remove(&target).is_some() {
            let revision = u64::MAX;
            if let Err(error) = self.state.apply(Change { revision, what: What::DeleteMapping(target) }) {
                tracing::error!(%error, %target, "cannot forget a mapping");
            }
            self.write(target);
        }
    }

    /// Takes note of which vnets are on demand now.
    pub(super) fn review_vnets(&mut self) {
        let vnets = vnets(&self.state);
        if vnets == self.resolver.vnets {
            return;
        }
        let now = Instant::now();
        let interfaces = self.state.interfaces.values().map(|kept| &kept.value);
        let own: HashSet<Target> = interfaces
            .flat_map(|interface| {
                let vnet = interface.vnet;
                interface.addresses.iter().map(move |ipv4| Target { vnet, ipv4: *ipv4 })
            })
            .collect();
        let mut left = Vec::new();
        for target in self.state.mappings.keys() {
            let is_held = self.resolver.held.contains_key(target);
            match vnets.get(&target.vnet) {
                Some(true) if !own.contains(target) && !is_held => self.resolver.hold(*target, now),
                // From now on the service tells it without being asked.
                Some(false) if is_held => drop(self.resolver.held.remove(target)),
                // What was told the service takes back itself.
                None if is_held => left.push(*target),
                _ => {}
            }
        }
        self.resolver.vnets = vnets;
        for target in left {
            self.forget(target);
        }
    }

    /// Marks what grows old, forgets what is too old and not used, and closes graves.
    pub(super) fn age_mappings(&mut self, now: Instant) {
        // Without contact nothing could be resolved again.
        if matches!(self.connection, Connection::Up { .. }) {
            let (to_mark, to_forget) = (self.resolver.expiry * 3 / 4, self.resolver.expiry);
            for _ in 0..STEP {
                let Some((since, target)) = due(&mut self.resolver.to_mark, to_mark, now) else { break };
                if let Some(held) = self.resolver.held.get_mut(&target)
                    && held.since == since
                {
                    held.ageing = true;
                    self.resolver.to_forget.push_back((since, target));
                    self.write(target);
                }
            }
            for _ in 0..STEP {
                let Some((since, target)) = due(&mut self.resolver.to_forget, to_forget, now) else { break };
                if self.resolver.held.get(&target).is_some_and(|held| held.since == since) {
                    self.forget(target);
                }
            }
        }
        for _ in 0..STEP {
            let Some((at, target)) = due(&mut self.resolver.to_close, Duration::ZERO, now) else { break };
            let is_its = |(since, _): &mut (Instant, Mapping)| *since + MOURNING == at;
            if self.resolver.graves.get_mut(&target).is_some_and(is_its) {
                self.resolver.graves.remove(&target);
                self.write(target);
            }
        }
    }
}

/// Takes the first of a queue if it has been there for so long.
fn due(queue: &mut VecDeque<(Instant, Target)>, after: Duration, now: Instant) -> Option<(Instant, Target)> {
    let is_due = queue.front().is_some_and(|(since, _)| *since + after <= now);
    queue.pop_front_if(|_| is_due)
}

/// What is answered when nobody says anything: what is known goes on to serve.
const fn unanswered(known: bool) -> Outcome {
    if known { Outcome::Known } else { Outcome::Unanswered }
}
