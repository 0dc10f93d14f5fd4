//! Hosts: are their engines there, do they say how their interfaces are, can they attach them all?

use super::{Budget, Housekeeper, VIEWS, inconsistency};
use crate::error::Result;
use crate::events::Occurrence;
use crate::ledger::HostRecord;
use crate::ledger::record::{InterfaceRecord, NodeRecord, decode, load, pair, text, try_scan};
use crate::store::{Step, Table, View};
use overlane_api::resource::InterfaceState;
use std::time::{Duration, Instant};

/// What is found here.
const REASONS: [&str; 3] = ["interface_not_reported", "host_disconnected", "over_capacity"];

/// A host, as the store has it.
struct Found {
    id: String,
    capacity: u32,
    /// What is placed on it.
    interfaces: Vec<InterfaceRecord>,
}

impl Housekeeper {
    pub(super) fn hosts(&mut self, now: Instant) -> Result<()> {
        let ledger = self.ledger.clone();
        for _ in 0..VIEWS {
            let mut budget = Budget(self.pace.page);
            let page = {
                let view = ledger.view()?;
                page(&*view, &mut self.hosts, &mut budget)?
            };
            for host in page {
                self.host(&host, now);
            }
            if self.hosts.is_empty() {
                REASONS.iter().for_each(|reason| self.suspects.end_of_round(reason));
                return Ok(());
            }
        }
        Ok(())
    }

    fn host(&mut self, host: &Found, now: Instant) {
        let id = &host.id;
        let subject = Some(format!("host/{id}"));
        let engine = self.hub.engine(id);
        let capacity = engine.capacity.map_or(host.capacity, |capacity| capacity.min(host.capacity));
        let placed = host.interfaces.len();
        if placed > capacity as usize {
            let detail = format!("{placed} interfaces are placed on {id}, and it can attach {capacity}");
            self.tell(id, now, Duration::ZERO, || Occurrence {
                subject: subject.clone(),
                ..inconsistency("over_capacity", detail)
            });
        }
        let ids: Vec<String> = host.interfaces.iter().map(InterfaceRecord::id).collect();
        let Some(unreported) = self.hub.unreported(id, &ids) else {
            let is_live = |record: &&InterfaceRecord| {
                record.place_on(id).is_some_and(|place| place.state == InterfaceState::Live)
            };
            let live = host.interfaces.iter().filter(is_live).count();
            if live > 0 {
                let wait = self.pace.host_away;
                let detail = format!(
                    "the engine of {id} has been away for more than {} s; {live} of its interfaces are live",
                    wait.as_secs()
                );
                self.tell(id, now, wait, || Occurrence {
                    subject,
                    ..inconsistency("host_disconnected", detail)
                });
            }
            return;
        };
        for interface in unreported {
            let Some(record) = host.interfaces.iter().find(|record| record.id() == interface) else {
                continue;
            };
            let wait = self.pace.unreported;
            let detail = format!(
                "{interface} is placed on {id}, whose engine is connected and has said nothing of it for {} s",
                wait.as_secs()
            );
            let entity = self.entity_of(&record.node);
            self.tell(&format!("{id} {interface}"), now, wait, || Occurrence {
                vnet: Some(record.vnet),
                entity,
                interface: Some(interface),
                subject: subject.clone(),
                ..inconsistency("interface_not_reported", detail)
            });
        }
    }

    /// The entity that a node belongs to; `None` where that cannot be told any more.
    pub(super) fn entity_of(&self, node: &str) -> Option<String> {
        let view = self.ledger.view().ok()?;
        let node: Option<NodeRecord> = load(&*view, Table::Nodes, node).ok()?;
        node.map(|node| node.entity)
    }
}

/// The next hosts from `cursor` on, which is empty when there are no more.
fn page(view: &dyn View, cursor: &mut super::Cursor, budget: &mut Budget) -> Result<Vec<Found>> {
    let mut hosts = Vec::new();
    let mut next = super::Cursor::new();
    try_scan(view, Table::Hosts, &[], cursor, |key, value| {
        if budget.0 == 0 {
            next = key.to_vec();
            return Ok(Step::Break(()));
        }
        let record: HostRecord = decode(Table::Hosts, key, value)?;
        let id = text(Table::Hosts, key, key.to_vec())?;
        let mut interfaces = Vec::new();
        try_scan(view, Table::Slots, &pair(&id, &[]), &[], |key, value| {
            let interface = text(Table::Slots, key, value.to_vec())?;
            interfaces.extend(load::<InterfaceRecord>(view, Table::Interfaces, &interface)?);
            Ok(Step::Continue(()))
        })?;
        budget.take(1 + 2 * interfaces.len());
        hosts.push(Found { id, capacity: record.capacity, interfaces });
        Ok(Step::Continue(()))
    })
    .inspect_err(|_| cursor.clear())?;
    *cursor = next;
    Ok(hosts)
}
