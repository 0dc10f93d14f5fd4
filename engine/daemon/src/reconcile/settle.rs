//! What follows from a turn's events, done once.

use super::mtu::{self, node_mtu};
use super::snapshot::Builder;
use super::status::{InterfaceStatus, Provisioning, Status};
use super::traits::{Dataplane, Kernel, OpenPort};
use super::work::Work;
use super::{Completion, Reconciler};
use crate::provisioning::model::Interface;
use crate::provisioning::{Applied, Connection, Reports};
use core::time::Duration;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

/// For how long nobody is presumed to set the clock, by which rules come into force.
const CLOCK_IS_TRUSTED: Duration = Duration::from_secs(30);

impl<D: Dataplane, K: Kernel> Reconciler<D, K> {
    /// Brings everything in step with what has changed.
    pub(super) fn settle(&mut self) {
        // A state that is half before a delta and half behind it is not acted on.
        if matches!(self.work, Some(Work::Delta { .. })) {
            return;
        }
        if self.dirty {
            self.dirty = false;
            self.align();
            self.tell();
        }
        self.hand_over();
        self.acknowledge();
        if self.unacknowledged && self.grace.is_none() && self.is_complete() {
            self.unacknowledged = false;
            let layout = self.state.host.as_ref().map(|host| host.value.layout);
            let applied = Applied { revision: self.state.revision, layout };
            self.grace = Some((self.dataplane.begin_grace(), applied));
            // Without contact nothing new has come: what is on disk is this.
            if let (Some(persist), Connection::Up { .. }) = (&mut self.persist, &self.connection) {
                persist.changed(Instant::now());
            }
        }
        self.acknowledge();
    }

    /// Tells what every worker goes by: once it is told, nothing is judged by what was before it.
    fn acknowledge(&mut self) {
        if let Some((_, applied)) = self.grace.take_if(|(grace, _)| self.dataplane.is_over(*grace)) {
            self.outputs.applied.send_replace(applied);
        }
    }

    /// Whether all that has come is in the data plane.
    fn is_complete(&self) -> bool {
        self.work.is_none() && self.unwritten.is_empty() && !self.unpublished
    }

    /// Ports, snapshot and mappings.
    fn align(&mut self) {
        let now = Instant::now();
        self.count_hosts();
        self.review_vnets();
        let (uplink_close, uplink_open, step) = self.uplink.plan(&self.links, now);
        self.take_step(step);
        self.dirty = false;
        let plan = self.attachments.plan(&self.state, &self.links, now);
        let prefix = self.state.host.as_ref().map(|host| host.value.prefix);
        if let Some((ifindex, isolation)) = self.uplink.isolation(prefix, now) {
            self.isolate_uplink(ifindex, isolation);
        }
        let uplink = self.uplink.object(prefix);
        let come = self.relocate(Builder::local(&self.state, &self.attachments));
        self.closing.extend(plan.close.into_iter().map(|(id, port)| (Some(id), port)));
        self.closing.extend(uplink_close.map(|port| (None, port)));
        let clock = SystemTime::now();
        let vnets = &self.state.vnets;
        let gateway = |interface: &Interface| {
            let subnets = &vnets.get(&interface.vnet)?.value.subnets;
            let address = interface.addresses.first()?;
            subnets.iter().find(|subnet| subnet.contains(*address))?.gateway
        };
        let ready = self.attachments.ready().map(|ready| {
            let gateway = gateway(ready.interface);
            (ready, gateway)
        });
        self.memberships.attach(ready, now);
        let routers = self.attachments.ready().filter_map(|ready| {
            let routes = &vnets.get(&ready.interface.vnet)?.value.routes;
            let address = ready.interface.addresses.iter().find(|address| routes.has_router(**address))?;
            let gateway = gateway(ready.interface);
            Some((ready, *address, gateway))
        });
        self.health.attach(routers, now);
        let mut snapshot = self.builder.build(
            &self.state,
            (&self.attachments, &self.memberships, &self.local),
            uplink,
            (clock, now),
        );
        let windows = self.builder.turn_at().map(|turn| {
            let wait = turn.duration_since(clock).unwrap_or_default();
            now + wait.min(CLOCK_IS_TRUSTED)
        });
        self.turn_at = windows.into_iter().chain(self.builder.settled_at(now)).min();
        snapshot.translate = self.translate;
        snapshot.resolve_epoch = self.resolver.epoch();
        snapshot.path_mtus = self.paths.published();
        if let Err(error) = self.dataplane.publish(snapshot) {
            if !self.unpublished {
                tracing::error!(%error, "cannot publish a snapshot; trying again");
            }
            // Nothing is closed or acknowledged before workers can see what has changed.
            self.unpublished = true;
        } else {
            self.unpublished = false;
            for (id, port) in core::mem::take(&mut self.closing) {
                self.close(id, port);
            }
        }
        for target in come {
            self.write(target);
        }
        for opening in plan.open {
            let port = self.dataplane.open_port(opening.spec.clone());
            let done = self.completions.0.clone();
            tokio::spawn(async move {
                let outcome = port.await;
                let (id, token, ifindex) = (opening.id, opening.token, opening.ifindex);
                let _ = done.send(Completion::Opened { id, token, ifindex, outcome });
            });
        }
        if let Some((token, spec)) = uplink_open {
            let port = self.dataplane.open_port(spec);
            let done = self.completions.0.clone();
            tokio::spawn(async move {
                let _ = done.send(Completion::UplinkOpened { token, outcome: port.await });
            });
        }
    }

    fn isolate_uplink(&self, ifindex: u32, isolation: super::uplink::Isolation) {
        let Some(port) = self.uplink.port() else { return };
        let isolated = self.kernel.isolate_prefix(ifindex, isolation.prefix, isolation.addresses);
        let done = self.completions.0.clone();
        tokio::spawn(async move {
            let _ = done.send(Completion::UplinkIsolated { port, outcome: isolated.await });
        });
    }

    /// Closes a port that no snapshot has.
    pub(super) fn close(&self, id: Option<Arc<str>>, port: OpenPort) {
        let closed = self.dataplane.close_port(port.id);
        let done = self.completions.0.clone();
        tokio::spawn(async move {
            closed.await;
            let _ = done.send(Completion::Closed { id, port });
        });
    }

    /// Reports and status.
    fn tell(&mut self) {
        let node_mtu = self.uplink.place().1.map(node_mtu);
        self.attachments.compare_mtus(node_mtu);
        let mut reports = self.attachments.reports();
        let now = Instant::now();
        for (id, report) in &mut reports {
            report.groups = self.memberships.told(id, now);
            report.silent = self.health.is_silent(id);
        }
        let status = self.status(&reports);
        self.outputs.reports.send_if_modified(|told| {
            let changed = **told != reports;
            if changed {
                *told = Arc::new(reports);
            }
            changed
        });
        self.outputs.status.send_replace(Arc::new(status));
    }

    /// How many mappings are resolved changes without anything else.
    pub(super) fn tell_numbers(&self) {
        let (resolved, resolving) = self.resolver.numbers();
        self.outputs.status.send_if_modified(|told| {
            let changed = (told.resolved, told.resolving) != (resolved, resolving);
            if changed {
                let mappings = self.state.mappings.len();
                *told = Arc::new(Status { mappings, resolved, resolving, ..Status::clone(told) });
            }
            changed
        });
    }

    fn status(&self, reports: &Reports) -> Status {
        let host = self.state.host.as_ref().map(|kept| &kept.value);
        let connected = matches!(self.connection, Connection::Up { .. });
        let static_mode = self.stale_max.is_none();
        let (uplink_addresses, uplink_mtu) = self.uplink.place();
        let node_mtu = uplink_mtu.map(node_mtu);
        let interfaces = self.state.interfaces.iter().filter_map(|(id, kept)| {
            let report = reports.get(id)?;
            let mtu = self.attachments.mtu(id);
            Some(InterfaceStatus {
                id: id.to_string(),
                vnet: kept.value.vnet.get(),
                slot: kept.value.slot.get(),
                mac: kept.value.mac.to_string(),
                addresses: kept.value.addresses.clone(),
                kind: kept.value.attachment.kind.name(),
                device: kept.value.attachment.device.to_string(),
                mtu,
                mtu_note: mtu.zip(node_mtu).map(|(is, wanted)| mtu::note(is, wanted)).unwrap_or_default(),
                state: report.state,
                detail: report.detail.clone(),
                silent: report.silent,
            })
        });
        let mut interfaces: Vec<_> = interfaces.collect();
        interfaces.sort_unstable_by(|one, two| one.id.cmp(&two.id));
        let mut unready = Vec::new();
        if self.expired {
            unready.push(
                "provisioning: entries have served without contact for stale_max and are gone".to_owned(),
            );
        } else if self.state.revision.is_none() {
            unready.push("provisioning: no state yet".to_owned());
        }
        unready.extend(self.uplink.obstacle());
        if self.table_behind {
            unready.push("mapping table: reclaiming memory is behind".to_owned());
        }
        if !self.unwritten.is_empty() {
            unready.push(format!("mapping table: {} mappings found no room", self.unwritten.len()));
        }
        unready.extend(self.builder.problem().map(|problem| format!("rules: {problem}")));
        unready.extend(self.overfull.as_ref().map(|error| format!("provisioning: {error}")));
        let uplink = self.uplink.counted();
        let (resolved, resolving) = self.resolver.numbers();
        Status {
            host: self.host.clone(),
            prefix: host.map(|host| host.prefix.to_string()),
            layout: host.map(|host| host.layout.to_string()),
            revision: self.state.revision.map(|revision| revision.to_string()),
            revision_number: self.state.revision.map_or(0, |revision| revision.number),
            provisioning: Provisioning {
                source: if static_mode { "file" } else { "service" },
                connected: connected || static_mode,
                stale: !connected && !static_mode,
                expired: self.expired,
                contact: if static_mode { None } else { self.heard_of() },
                detail: match &self.connection {
                    Connection::Up { service_version, .. } => service_version.clone(),
                    Connection::Down(why) => why.clone(),
                },
            },
            mappings: self.state.mappings.len(),
            resolved,
            resolving,
            table_behind: self.table_behind,
            uplink_addresses,
            uplink_mtu,
            node_mtu,
            paths: self.paths.status(),
            interfaces,
            unready,
            uplink: uplink.name.clone(),
            counted: self.attachments.counted().chain([uplink]).collect(),
            vnet_drops: self.builder.vnets().map(|vnet| (vnet.id, vnet.uplink_drops.clone())).collect(),
        }
    }
}
