//! Which groups nodes want to hear: the engine is the one IGMP router of each node's link (RFC 3376, 6), and the node its
//! one host, so what a node says last is all that there is to know.

use super::attachments::Ready;
use crate::provisioning::model::Interface;
use core::net::Ipv4Addr;
use core::time::Duration;
use hashbrown::HashMap;
use overlane_dataplane::group::{Filter, MAX_GROUPS, MAX_SOURCES, mac};
use overlane_dataplane::id::PortId;
use overlane_dataplane::limit::{Rate, TokenBucket};
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::wire::igmp::{self, Message, RecordKind};
use overlane_dataplane::wire::{ethernet, ipv4, protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// How often nodes are asked what they want to hear (RFC 3376, 8.2).
const ASK_EVERY: Duration = Duration::from_secs(125);
/// A node that has just been attached may not listen yet: it is asked again so soon, and so often.
const ASK_FIRST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// How long a node may take to answer, in tenths of a second; at first it is to be quick.
const ANSWER_WITHIN: u8 = 100;
const ANSWER_FIRST: u8 = 5;
/// How long a membership lasts that is not said again: two questions, and an answer (RFC 3376, 8.4).
const LASTS: Duration = Duration::from_secs(2 * 125 + 10);
/// How often others are told of one interface's groups: what is joined and left faster makes no work for the whole network.
const TELLING: Rate = Rate { rate: 1, burst: 16 };
/// Groups of a link that everybody hears anyway, and that nobody needs to tell.
const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// What the nodes of this host want to hear.
#[derive(Debug)]
pub(super) struct Memberships {
    by_id: HashMap<Arc<str>, Listener>,
    began: Instant,
}

/// What one node wants to hear.
#[derive(Debug)]
struct Listener {
    port: PortId,
    /// From whom, and to whom, questions go: the interface as it is.
    interface: Arc<Interface>,
    gateway: Option<Ipv4Addr>,
    groups: BTreeMap<Ipv4Addr, Membership>,
    ask_at: Instant,
    asked: usize,
    /// What others have been told.
    told: Vec<Ipv4Addr>,
    telling: TokenBucket,
}

#[derive(Debug)]
struct Membership {
    filter: Filter,
    until: Instant,
}

impl Memberships {
    pub(super) fn new(now: Instant) -> Self {
        Self { by_id: HashMap::new(), began: now }
    }

    /// Takes notice of which interfaces are attached. One that comes to another port is asked anew; what it wanted before it
    /// still wants until then.
    pub(super) fn attach<'a>(
        &mut self,
        ready: impl Iterator<Item = (Ready<'a>, Option<Ipv4Addr>)>,
        now: Instant,
    ) {
        let mut attached = BTreeSet::new();
        for (Ready { interface, port, .. }, gateway) in ready {
            attached.insert(interface.id.clone());
            let listener = self.by_id.entry(interface.id.clone()).or_insert_with(|| Listener {
                port: port.id,
                interface: interface.clone(),
                gateway,
                groups: BTreeMap::new(),
                ask_at: now,
                asked: 0,
                told: Vec::new(),
                telling: TokenBucket::of(TELLING),
            });
            if listener.port != port.id {
                (listener.port, listener.ask_at, listener.asked) = (port.id, now, 0);
            }
            if listener.interface.vnet != interface.vnet {
                listener.groups.clear();
            }
            (listener.interface, listener.gateway) = (interface.clone(), gateway);
        }
        self.by_id.retain(|id, _| attached.contains(id));
    }

    /// Takes a frame that a worker has handed up; whether anything changed. `None`: the port is no node's.
    pub(super) fn input(&mut self, port: PortId, frame: &[u8], now: Instant) -> Option<bool> {
        let listener = self.by_id.values_mut().find(|listener| listener.port == port)?;
        let message = payload(frame).and_then(|bytes| Message::new_checked(bytes).ok());
        Some(message.is_some_and(|message| listener.take(message, now)))
    }

    /// What is due by now: questions to nodes, and whether memberships have ended or others are still to be told of some. They
    /// are told as soon as they may be if this is called a few times a second.
    pub(super) fn tick(&mut self, now: Instant) -> (Vec<(PortId, Vec<u8>)>, bool) {
        let (mut frames, mut changed) = (Vec::new(), false);
        for listener in self.by_id.values_mut() {
            if listener.ask_at <= now {
                let within = if listener.asked < ASK_FIRST.len() { ANSWER_FIRST } else { ANSWER_WITHIN };
                let pause = ASK_FIRST.get(listener.asked).copied().unwrap_or(ASK_EVERY);
                listener.ask_at = now + pause;
                listener.asked += 1;
                frames.push((listener.port, listener.question(within)));
            }
            let before = listener.groups.len();
            listener.groups.retain(|_, membership| membership.until > now);
            changed |= listener.groups.len() != before || !listener.is_told();
        }
        (frames, changed)
    }

    /// When there is a question to be asked, or a membership ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let of = |listener: &Listener| {
            let ends = listener.groups.values().map(|membership| membership.until);
            ends.fold(listener.ask_at, Instant::min)
        };
        self.by_id.values().map(of).min()
    }

    /// What the node of an interface wants to hear.
    pub(super) fn of(&self, id: &str) -> impl Iterator<Item = (Ipv4Addr, &Filter)> {
        let listener = self.by_id.get(id);
        listener.into_iter().flat_map(|listener| {
            listener.groups.iter().map(|(group, membership)| (*group, &membership.filter))
        })
    }

    /// What others are to be told of an interface, which is not always the newest.
    pub(super) fn told(&mut self, id: &str, now: Instant) -> Vec<Ipv4Addr> {
        let Some(listener) = self.by_id.get_mut(id) else { return Vec::new() };
        if !listener.is_told() && listener.telling.take(now - self.began) {
            listener.told = listener.groups.keys().copied().collect();
        }
        listener.told.clone()
    }
}

impl Listener {
    fn is_told(&self) -> bool {
        self.groups.keys().eq(&self.told)
    }

    fn take(&mut self, message: Message<'_>, now: Instant) -> bool {
        match message {
            Message::Join(group) => self.set(group, Some(Filter::ALL), now),
            Message::Leave(group) => self.set(group, None, now),
            Message::Report(records) => {
                let mut changed = false;
                for record in records {
                    let filter = self.heard(record.group, record.kind, record.sources());
                    changed |= self.set(record.group, filter, now);
                }
                changed
            }
            Message::Query => false,
        }
    }

    /// Whom the node wants to hear in a group, by what a record says; `None`: nobody.
    fn heard(
        &self,
        group: Ipv4Addr,
        kind: RecordKind,
        sources: impl Iterator<Item = Ipv4Addr>,
    ) -> Option<Filter> {
        let sources: BTreeSet<Ipv4Addr> = sources.collect();
        let nobody = Filter::Only(Vec::new());
        let known = self.groups.get(&group).map_or(&nobody, |membership| &membership.filter);
        let more = |known: &[Ipv4Addr]| sources.iter().chain(known).copied().collect::<BTreeSet<_>>();
        let less = |known: &[Ipv4Addr]| {
            known.iter().filter(|source| !sources.contains(*source)).copied().collect::<BTreeSet<_>>()
        };
        let (is_only, sources) = match (kind, known) {
            (RecordKind::Include, _) => (true, sources),
            (RecordKind::Exclude, _) => (false, sources),
            (RecordKind::Allow, Filter::Only(known)) => (true, more(known)),
            (RecordKind::Allow, Filter::Except(known)) => (false, less(known)),
            (RecordKind::Block, Filter::Only(known)) => (true, less(known)),
            (RecordKind::Block, Filter::Except(known)) => (false, more(known)),
        };
        match (is_only, sources.len()) {
            (true, 0) => None,
            (true, 1..=MAX_SOURCES) => Some(Filter::Only(sources.into_iter().collect())),
            // Of a filter that is too long the node's own does the rest.
            (true, _) => Some(Filter::ALL),
            (false, _) => Some(Filter::Except(sources.into_iter().take(MAX_SOURCES).collect())),
        }
    }

    /// The node wants this of a group, or nothing; whether that is news.
    fn set(&mut self, group: Ipv4Addr, filter: Option<Filter>, now: Instant) -> bool {
        if group == ALL_SYSTEMS {
            return false;
        }
        let Some(filter) = filter else { return self.groups.remove(&group).is_some() };
        let until = now + LASTS;
        if let Some(known) = self.groups.get_mut(&group) {
            known.until = until;
            let changed = known.filter != filter;
            known.filter = filter;
            return changed;
        }
        if self.groups.len() >= MAX_GROUPS {
            return false;
        }
        self.groups.insert(group, Membership { filter, until });
        true
    }

    /// Asks what the node wants to hear, in the gateway's name; without one in nobody's, as bridges do (RFC 4541, 2.1.1).
    fn question(&self, within: u8) -> Vec<u8> {
        /// Every packet of IGMP carries it, so that routers look at it (RFC 2113).
        const ROUTER_ALERT: [u8; 4] = [0x94, 0x04, 0, 0];
        /// Network control (RFC 3376, 4).
        const PRECEDENCE: u8 = 0xc0;
        let source = self.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let query = igmp::query(None, within);
        let length = ipv4::LENGTH + ROUTER_ALERT.len();
        let mut header = vec![0x40 | (length / 4) as u8, PRECEDENCE];
        header.extend(((length + query.len()) as u16).to_be_bytes());
        header.extend([0, 0, 0, 0, 1, protocol::IGMP, 0, 0]);
        header.extend(source.octets());
        header.extend(ALL_SYSTEMS.octets());
        header.extend(ROUTER_ALERT);
        let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&header).ones_complement();
        if let Some(field) = header.get_mut(10..12) {
            field.copy_from_slice(&sum.to_ne_bytes());
        }
        let mut frame = [0; ethernet::LENGTH];
        let from = MacAddr::dummy(self.interface.vnet, source);
        ethernet::emit(&mut frame, mac(ALL_SYSTEMS), from, ethernet::ethertype::IPV4);
        [&frame[..], &header, &query].concat()
    }
}

/// The IGMP message in a frame.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let packet = frame.get(ethernet::LENGTH..)?;
    let header = ipv4::Header::new_checked(packet).ok()?;
    let bytes = packet.get(header.length()..usize::from(header.total_length()))?;
    (header.protocol() == protocol::IGMP).then_some(bytes)
}

#[cfg(test)]
#[path = "membership_tests.rs"]
pub(super) mod tests;
