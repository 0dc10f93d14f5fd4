//! Builds host snapshots; objects that did not change are the same objects, and counters outlive all of them.

use super::attachments::Attachments;
use super::membership::Memberships;
use super::policy::Policies;
use super::work::placed;
use crate::provisioning::desired::DesiredState;
use crate::provisioning::desired::Version;
use crate::provisioning::model::Target;
use core::net::Ipv4Addr;
use core::time::Duration;
use hashbrown::HashMap;
use overlane_dataplane::address::{Layout, Locator};
use overlane_dataplane::cap::{Cap, RateLimit};
use overlane_dataplane::counters::{Drops, PerWorker};
use overlane_dataplane::group::{Filter, GroupLimit, Groups, Member};
use overlane_dataplane::id::{PortId, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::policy::Peers;
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Uplink, Vnet};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

/// The objects of the last snapshot.
#[derive(Debug)]
pub(super) struct Builder {
    workers: usize,
    icmp: IcmpLimit,
    vnets: HashMap<VnetId, Arc<Vnet>>,
    policies: Policies,
    /// Who carried tags in the last snapshot.
    peers: Arc<Peers>,
    /// Who hears what in the last snapshot.
    groups: Arc<Groups>,
    limit: GroupLimit,
    /// How often what decides who may talk to whom has changed.
    policy_epoch: u32,
    interfaces: HashMap<Arc<str>, Arc<Interface>>,
    /// Interfaces that are tracked and were not a moment ago, and until when that matters.
    settling: HashMap<Arc<str>, Instant>,
    /// Until when connections that were open before the engine started may be joined, and by which rules: only as long as
    /// they stay as they are.
    resumes: (Instant, Option<Version>),
}

/// For how long an answer to a datagram may be on its way.
const SETTLING: Duration = Duration::from_secs(1);
/// For how long after the start connections are taken up again by whichever end may send. Those that are silent for longer
/// have to be let pass both ways.
const RESUMES: Duration = Duration::from_secs(120);

/// Where the addresses that are delivered on this host live, and the ports they are delivered to.
pub(super) type Local = HashMap<Target, (Locator, PortId)>;

impl Builder {
    pub(super) fn new(workers: usize, icmp: IcmpLimit, limit: GroupLimit) -> Self {
        Self {
            workers,
            icmp,
            vnets: HashMap::new(),
            policies: Policies::default(),
            peers: Arc::default(),
            groups: Arc::default(),
            limit,
            policy_epoch: 0,
            interfaces: HashMap::new(),
            settling: HashMap::new(),
            resumes: (Instant::now() + RESUMES, None),
        }
    }

    /// The snapshot of now.
    pub(super) fn build(
        &mut self,
        state: &DesiredState,
        (attachments, memberships, local): (&Attachments, &Memberships, &Local),
        uplink: Option<Arc<Uplink>>,
        (clock, now): (SystemTime, Instant),
    ) -> HostSnapshot {
        let host = state.host.as_ref().map(|kept| &kept.value);
        let mut snapshot = HostSnapshot::empty(host.map_or_else(Layout::default, |host| host.layout));
        snapshot.prefix = host.map(|host| host.prefix);
        self.policies.refresh(state, clock);
        // Whether flows may have to be judged otherwise than before.
        let mut judged_anew = !Arc::ptr_eq(&self.peers, self.policies.peers());
        self.peers = self.policies.peers().clone();
        snapshot.peers = self.peers.clone();
        self.vnets.retain(|id, _| state.vnets.contains_key(id));
        for (id, kept) in &state.vnets {
            let wanted = &kept.value;
            let old = self.vnets.get(id);
            let same_policy = old.is_some_and(|vnet| {
                vnet.stateful == wanted.stateful
                    && vnet.default_action == wanted.default_action
                    && vnet.peerings == wanted.peerings
                    && vnet.on_demand == wanted.on_demand
            });
            judged_anew |= !same_policy;
            let same = |vnet: &Arc<Vnet>| {
                vnet.subnets == wanted.subnets
                    && vnet.dhcp == wanted.dhcp
                    && vnet.groups == wanted.groups
                    && vnet.routes == wanted.routes
                    && vnet.externals == wanted.externals
            };
            if !same_policy || !old.is_some_and(same) {
                let uplink_drops = match old {
                    Some(old) => old.uplink_drops.clone(),
                    None => Arc::new(PerWorker::<Drops>::new(self.workers)),
                };
                let vnet = Vnet {
                    stateful: wanted.stateful,
                    default_action: wanted.default_action,
                    peerings: wanted.peerings.clone(),
                    on_demand: wanted.on_demand,
                    dhcp: wanted.dhcp.clone(),
                    groups: wanted.groups.clone(),
                    routes: wanted.routes.clone(),
                    externals: wanted.externals.clone(),
                    ..Vnet::new(*id, wanted.subnets.clone(), uplink_drops)
                };
                self.vnets.insert(*id, Arc::new(vnet));
            }
        }
        snapshot.vnets = self.vnets.values().cloned().collect();
        snapshot.vnets.sort_unstable_by_key(|vnet| vnet.id);
        self.settling.retain(|_, until| *until > now);
        let mut interfaces = HashMap::with_capacity(self.interfaces.len());
        for ready in attachments.ready() {
            let wanted = ready.interface;
            let Some(vnet) = self.vnets.get(&wanted.vnet) else { continue };
            let policy = self.policies.of(wanted);
            let old = self.interfaces.get(&wanted.id);
            let same_policy =
                |old: &Interface| old.policy.as_ref().map(Arc::as_ptr) == policy.as_ref().map(Arc::as_ptr);
            judged_anew |= !old.is_some_and(|old| same_policy(old));
            let is_tracked = policy.is_some() || vnet.is_tracked();
            if is_tracked && old.is_some_and(|old| !old.is_tracked()) {
                self.settling.insert(wanted.id.clone(), now + SETTLING);
            }
            let settling = self.settling.contains_key(&wanted.id);
            let same = |old: &&Arc<Interface>| {
                old.port == ready.port.id
                    && old.slot == wanted.slot
                    && Arc::ptr_eq(&old.vnet, vnet)
                    && old.mac == wanted.mac
                    && old.addresses == wanted.addresses
                    && old.mtu == ready.mtu
                    && old.settling == settling
                    && old.cap.as_ref().map_or(RateLimit::default(), |cap| cap.limit()) == wanted.rate
                    && same_policy(old)
            };
            let interface = match old.filter(same) {
                Some(same) => same.clone(),
                None => Arc::new(Interface {
                    name: wanted.id.to_string(),
                    port: ready.port.id,
                    slot: wanted.slot,
                    vnet: vnet.clone(),
                    mac: wanted.mac,
                    addresses: wanted.addresses.clone(),
                    policy: policy.clone(),
                    settling,
                    mtu: ready.mtu,
                    traffic: ready.port.traffic.clone(),
                    icmp_limit: old
                        .map_or_else(|| self.icmp.buckets(self.workers), |old| old.icmp_limit.clone()),
                    cap: cap(wanted.rate, old.and_then(|old| old.cap.as_ref())),
                    group_limit: old
                        .map_or_else(|| self.limit.buckets(self.workers), |old| old.group_limit.clone()),
                }),
            };
            if snapshot.layout.has_slots()
                && let Some(place) = snapshot.slots.get_mut(usize::from(wanted.slot.get()))
            {
                *place = Some(interface.clone());
            }
            set_role(&mut snapshot.ports, ready.port.id, PortRole::Node(interface.clone()));
            interfaces.insert(wanted.id.clone(), interface);
        }
        self.interfaces = interfaces;
        let groups = groups(state, (attachments, memberships, local));
        if *self.groups != groups {
            self.groups = Arc::new(groups);
        }
        snapshot.groups = self.groups.clone();
        self.policies.tidy();
        if judged_anew {
            self.policy_epoch = self.policy_epoch.wrapping_add(1);
        }
        snapshot.policy_epoch = self.policy_epoch;
        snapshot.resumes = self.resumes(state, now);
        snapshot.settle();
        if let Some(uplink) = uplink {
            set_role(&mut snapshot.ports, uplink.port, PortRole::Uplink(uplink.clone()));
            snapshot.uplinks.push(uplink);
        }
        snapshot
    }

    fn resumes(&mut self, state: &DesiredState, now: Instant) -> bool {
        let (until, rules) = &mut self.resumes;
        // Before there is a host there are no rules either.
        if rules.is_none() && state.host.is_some() {
            *rules = Some(state.rules_version);
        }
        if rules.is_some_and(|rules| rules != state.rules_version) {
            *until = now;
        }
        now < *until
    }

    /// When another snapshot is due, since rules come into force or go out of it.
    pub(super) const fn turn_at(&self) -> Option<SystemTime> {
        self.policies.turn_at()
    }

    /// When another snapshot is due, since something is long enough ago.
    pub(super) fn settled_at(&self, now: Instant) -> Option<Instant> {
        let resumed = Some(self.resumes.0).filter(|until| *until > now);
        self.settling.values().copied().chain(resumed).min()
    }

    /// What is wrong with rules of this host.
    pub(super) fn problem(&self) -> Option<String> {
        self.policies.problem()
    }

    /// Where the addresses of attached interfaces live.
    pub(super) fn local(state: &DesiredState, attachments: &Attachments) -> Local {
        let mut local = Local::new();
        let Some(host) = state.host.as_ref().map(|kept| &kept.value) else { return local };
        for ready in attachments.ready() {
            let wanted = ready.interface;
            let Ok(locator) = Locator::new(host.layout, host.prefix, wanted.slot, wanted.vnet) else {
                continue;
            };
            for ipv4 in &wanted.addresses {
                local.insert(Target { vnet: wanted.vnet, ipv4: *ipv4 }, (locator, ready.port.id));
            }
        }
        local
    }

    /// The vnets of the last snapshot, with what was dropped of them at the uplink.
    pub(super) fn vnets(&self) -> impl Iterator<Item = &Arc<Vnet>> {
        self.vnets.values()
    }
}

/// The cap of an interface: the one that it has, as long as its limit stays.
fn cap(limit: RateLimit, old: Option<&Arc<Cap>>) -> Option<Arc<Cap>> {
    let same = old.filter(|cap| cap.limit() == limit).cloned();
    same.or_else(|| (!limit.is_none()).then(|| Arc::new(Cap::new(limit))))
}

/// Who hears what is sent to groups.
fn groups(
    state: &DesiredState,
    (attachments, memberships, local): (&Attachments, &Memberships, &Local),
) -> Groups {
    let mut groups = Groups::default();
    for (target, kept) in &state.groups {
        groups.entry(target.vnet, target.ipv4).hosts = kept.value.clone();
    }
    for ready in attachments.ready() {
        let wanted = ready.interface;
        // One that is moving hears where packets for it go.
        let first = wanted.addresses.first().map(|ipv4| Target { vnet: wanted.vnet, ipv4: *ipv4 });
        let place = first.and_then(|target| placed(local, target, &state.mappings.get(&target)?.value));
        if place != Some(ready.port.id) {
            continue;
        }
        let mut join = |group, filter: &Filter| {
            let member = Member { port: ready.port.id, filter: filter.clone() };
            groups.entry(wanted.vnet, group).members.push(member);
        };
        join(Ipv4Addr::BROADCAST, &Filter::ALL);
        wanted.groups.iter().for_each(|group| join(*group, &Filter::ALL));
        let said = memberships.of(&wanted.id).filter(|(group, _)| !wanted.groups.contains(group));
        said.for_each(|(group, filter)| join(group, filter));
    }
    groups
}

fn set_role(ports: &mut Vec<PortRole>, port: PortId, role: PortRole) {
    if ports.len() <= port.index() {
        ports.resize(port.index() + 1, PortRole::Absent);
    }
    if let Some(place) = ports.get_mut(port.index()) {
        *place = role;
    }
}
