//! Whether routers are there at all: each is asked by ARP for its own address, and one that leaves some questions unanswered is
//! silent. Then others take what it would have been sent, if there are others.

use super::attachments::Ready;
use core::net::Ipv4Addr;
use core::time::Duration;
use hashbrown::HashMap;
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::id::PortId;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::wire::{arp, ethernet};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::time::Instant;

/// How often a router is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How many questions it may leave unanswered.
const PATIENCE: u32 = 3;

/// The routers of this host.
#[derive(Debug, Default)]
pub(super) struct Health {
    by_id: HashMap<Arc<str>, Watched>,
}

#[derive(Debug)]
struct Watched {
    port: PortId,
    traffic: Arc<PerWorker<Traffic>>,
    question: Vec<u8>,
    /// How many answers had come from it when it was asked last.
    heard: u64,
    /// How many questions it has left unanswered.
    missed: u32,
    ask_at: Instant,
}

impl Watched {
    const fn is_silent(&self) -> bool {
        self.missed >= PATIENCE
    }
}

impl Health {
    /// Takes notice of which routers are attached, by which of their addresses they are next hops, and of their gateways.
    pub(super) fn attach<'a>(
        &mut self,
        routers: impl Iterator<Item = (Ready<'a>, Ipv4Addr, Option<Ipv4Addr>)>,
        now: Instant,
    ) {
        let mut attached = BTreeSet::new();
        for (Ready { interface, port, .. }, address, gateway) in routers {
            attached.insert(interface.id.clone());
            let question = question(
                MacAddr::dummy(interface.vnet, gateway.unwrap_or(Ipv4Addr::UNSPECIFIED)),
                gateway,
                (interface.mac, address),
            );
            let begin = || Watched {
                port: port.id,
                traffic: port.traffic.clone(),
                question: question.clone(),
                heard: heard(&port.traffic),
                missed: 0,
                ask_at: now,
            };
            let watched = self.by_id.entry(interface.id.clone()).or_insert_with(begin);
            if watched.port != port.id {
                *watched = begin();
            }
            watched.question = question;
        }
        self.by_id.retain(|id, _| attached.contains(id));
    }

    /// The questions that are due by now, and whether a router has fallen silent or speaks again.
    pub(super) fn tick(&mut self, now: Instant) -> (Vec<(PortId, Vec<u8>)>, bool) {
        let (mut frames, mut changed) = (Vec::new(), false);
        for watched in self.by_id.values_mut().filter(|watched| watched.ask_at <= now) {
            let (before, heard) = (watched.is_silent(), heard(&watched.traffic));
            watched.missed = if heard == watched.heard { watched.missed.saturating_add(1) } else { 0 };
            (watched.heard, watched.ask_at) = (heard, now + ASK_EVERY);
            changed |= watched.is_silent() != before;
            frames.push((watched.port, watched.question.clone()));
        }
        (frames, changed)
    }

    /// When there is a question to be asked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_id.values().map(|watched| watched.ask_at).min()
    }

    /// Whether an interface is a router that does not answer.
    pub(super) fn is_silent(&self, id: &str) -> bool {
        self.by_id.get(id).is_some_and(Watched::is_silent)
    }
}

/// Answers that have come from a node: nobody else asks it anything by ARP. Those that are not in its own name are counted
/// otherwise.
fn heard(traffic: &PerWorker<Traffic>) -> u64 {
    traffic.total(DropReason::ArpAbsorbed)
}

/// Asks a node for its own address, in the gateway's name; without one in nobody's, as hosts do that have no address yet (RFC
/// 5227, 2.1.1). It is sent to the node alone (RFC 1122, 2.3.2.1).
fn question(from: MacAddr, gateway: Option<Ipv4Addr>, (mac, address): (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let (mut header, mut body) = ([0; ethernet::LENGTH], [0; arp::LENGTH]);
    ethernet::emit(&mut header, mac, from, ethernet::ethertype::ARP);
    let asked = arp::Packet {
        operation: arp::Operation::Request,
        sender_mac: from,
        sender: gateway.unwrap_or(Ipv4Addr::UNSPECIFIED),
        target_mac: MacAddr::ZERO,
        target: address,
    };
    asked.emit(&mut body);
    [&header[..], &body[..]].concat()
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
