//! Interfaces and the ports they are attached to: which are to be opened, which closed, and how each is.

use super::counted::{Counted, Totals};
use super::links::Links;
use super::mtu;
use super::traits::{OpenPort, PortSpec};
use crate::provisioning::desired::DesiredState;
use crate::provisioning::model::{AttachmentKind, Interface};
use crate::provisioning::{InterfaceState, Report, Reports};
use core::time::Duration;
use hashbrown::HashMap;
use overlane_dataplane::id::{PortId, Slot};
use std::sync::Arc;
use tokio::time::Instant;

/// First and longest pause after a device could not be attached.
const RETRY_LEAST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// One interface's way to its port.
#[derive(Debug)]
struct Attachment {
    interface: Arc<Interface>,
    stage: Stage,
    attached_before: bool,
    failures: u32,
    retry_at: Option<Instant>,
    /// The device that could not be attached; another one is tried at once.
    failed_on: Option<u32>,
    /// Why it is not attached, when that is an error.
    error: Option<String>,
    /// The MTU that it had, and the one that it should have had, when that was logged last.
    mtu_told: Option<(u16, u16)>,
    retired: Arc<Totals>,
}

#[derive(Debug)]
enum Stage {
    /// For its device, or for a time to try again.
    Waiting,
    /// A task opens the port.
    Opening { token: u64, ifindex: Option<u32> },
    /// Workers poll it.
    Open { port: OpenPort, ifindex: Option<u32>, link_up: bool, mtu: u16 },
}

/// A port that is to be opened.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) id: Arc<str>,
    pub(super) token: u64,
    pub(super) spec: PortSpec,
    /// The device, when it exists before the port does.
    pub(super) ifindex: Option<u32>,
}

/// An interface that is attached.
#[derive(Debug)]
pub(super) struct Ready<'a> {
    pub(super) interface: &'a Arc<Interface>,
    pub(super) port: &'a OpenPort,
    pub(super) mtu: u16,
}

/// What has to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) open: Vec<Opening>,
    pub(super) close: Vec<(Arc<str>, OpenPort)>,
}

/// All interfaces of this host.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    by_id: HashMap<Arc<str>, Attachment>,
    next_token: u64,
}

impl Attachments {
    /// Compares what is with what is to be.
    pub(super) fn plan(&mut self, state: &DesiredState, links: &Links, now: Instant) -> Plan {
        let mut plan = Plan::default();
        self.by_id.retain(|id, attachment| {
            let wanted = state.interfaces.contains_key(id);
            if !wanted && let Some(port) = attachment.close() {
                plan.close.push((id.clone(), port));
            }
            wanted
        });
        let slots = slot_owners(state);
        for (id, kept) in &state.interfaces {
            let attachment =
                self.by_id.entry(id.clone()).or_insert_with(|| Attachment::new(kept.value.clone()));
            let closed = attachment.update(&kept.value, links);
            plan.close.extend(closed.map(|port| (id.clone(), port)));
            let obstacle = obstacle(state, &kept.value, &slots);
            if obstacle.is_some() {
                plan.close.extend(attachment.close().map(|port| (id.clone(), port)));
                attachment.error = obstacle;
                attachment.retry_at = None;
                continue;
            }
            if !matches!(attachment.stage, Stage::Waiting) {
                continue;
            }
            let Some((spec, ifindex)) = attachment.spec(links) else {
                attachment.error = None;
                attachment.retry_at = None;
                continue;
            };
            if attachment.failed_on == ifindex && attachment.retry_at.is_some_and(|at| at > now) {
                continue;
            }
            self.next_token += 1;
            let token = self.next_token;
            attachment.stage = Stage::Opening { token, ifindex };
            plan.open.push(Opening { id: id.clone(), token, spec, ifindex });
        }
        plan
    }

    /// Takes the outcome of an [`Opening`]; gives the port back if nobody waits for it any more.
    pub(super) fn opened(
        &mut self,
        id: &str,
        token: u64,
        ifindex: Option<u32>,
        outcome: Result<OpenPort, String>,
        now: Instant,
    ) -> Option<OpenPort> {
        let attachment = self.by_id.get_mut(id);
        let attachment = attachment
            .filter(|a| matches!(a.stage, Stage::Opening { token: awaited, .. } if awaited == token));
        let Some(attachment) = attachment else { return outcome.ok() };
        match outcome {
            Ok(port) => {
                tracing::info!(interface = id, port = %port.id, mtu = port.mtu, "interface attached");
                attachment.attached_before = true;
                attachment.failures = 0;
                attachment.retry_at = None;
                attachment.error = None;
                let (link_up, mtu) = (port.link_up, port.mtu);
                attachment.stage = Stage::Open { port, ifindex, link_up, mtu };
            }
            Err(error) => {
                let pause = RETRY_LEAST.saturating_mul(1 << attachment.failures.min(10)).min(RETRY_MOST);
                if attachment.error.as_ref() != Some(&error) {
                    tracing::warn!(interface = id, %error, "cannot attach the interface; trying again");
                }
                attachment.failures += 1;
                attachment.retry_at = Some(now + pause);
                attachment.failed_on = ifindex;
                attachment.error = Some(error);
                attachment.stage = Stage::Waiting;
            }
        }
        None
    }

    /// Adds what a closed port has counted to what its interface has counted before.
    pub(super) fn retire(&mut self, id: &str, port: &OpenPort) {
        if let Some(attachment) = self.by_id.get_mut(id) {
            let mut totals = (*attachment.retired).clone();
            totals.add(&port.traffic);
            attachment.retired = Arc::new(totals);
        }
    }

    /// When an attachment is to be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let waiting = self.by_id.values().filter(|a| matches!(a.stage, Stage::Waiting));
        waiting.filter_map(|attachment| attachment.retry_at).min()
    }

    /// The interfaces that are attached.
    pub(super) fn ready(&self) -> impl Iterator<Item = Ready<'_>> {
        self.by_id.values().filter_map(|attachment| match &attachment.stage {
            Stage::Open { port, mtu, .. } => {
                Some(Ready { interface: &attachment.interface, port, mtu: *mtu })
            }
            _ => None,
        })
    }

    /// The device of a port is gone for good; gives back the port that is to be closed.
    pub(super) fn lost(&mut self, port: PortId) -> Option<(Arc<str>, OpenPort)> {
        let (id, attachment) = self.by_id.iter_mut().find(|(_, attachment)| attachment.has(port))?;
        tracing::info!(interface = %id, "the interface's device is gone");
        attachment.close().map(|port| (id.clone(), port))
    }

    /// The link of a port's device went up or down.
    pub(super) fn port_link(&mut self, port: PortId, up: bool) {
        let attachment = self.by_id.values_mut().find(|attachment| attachment.has(port));
        if let Some(Stage::Open { link_up, .. }) = attachment.map(|attachment| &mut attachment.stage) {
            *link_up = up;
        }
    }

    /// A port's device has another MTU.
    pub(super) fn port_mtu(&mut self, port: PortId, now: u16) {
        let attachment = self.by_id.values_mut().find(|attachment| attachment.has(port));
        if let Some(Stage::Open { mtu, .. }) = attachment.map(|attachment| &mut attachment.stage) {
            *mtu = now;
        }
    }

    /// The MTU of an interface's device, while it is attached.
    pub(super) fn mtu(&self, id: &str) -> Option<u16> {
        match self.by_id.get(id)?.stage {
            Stage::Open { mtu, .. } => Some(mtu),
            _ => None,
        }
    }

    /// Logs, once each, which devices have another MTU than the one that the uplink leaves them.
    pub(super) fn compare_mtus(&mut self, wanted: Option<u16>) {
        let Some(wanted) = wanted else { return };
        for (id, attachment) in &mut self.by_id {
            let Stage::Open { mtu: is, .. } = attachment.stage else { continue };
            let differs = (is != wanted).then_some((is, wanted));
            let told = core::mem::replace(&mut attachment.mtu_told, differs);
            if differs.is_some() && differs != told {
                tracing::warn!(interface = %id, "{}", mtu::note(is, wanted));
            }
        }
    }

    /// How the interfaces are.
    pub(super) fn reports(&self) -> Reports {
        self.by_id.iter().map(|(id, attachment)| (id.clone(), attachment.report())).collect()
    }

    /// What the interfaces have counted.
    pub(super) fn counted(&self) -> impl Iterator<Item = Counted> {
        self.by_id.values().map(|attachment| Counted {
            name: attachment.interface.id.to_string(),
            vnet: Some(attachment.interface.vnet),
            now: match &attachment.stage {
                Stage::Open { port, .. } => Some(port.traffic.clone()),
                _ => None,
            },
            before: attachment.retired.clone(),
        })
    }
}

impl Attachment {
    fn new(interface: Arc<Interface>) -> Self {
        Self {
            interface,
            stage: Stage::Waiting,
            attached_before: false,
            failures: 0,
            retry_at: None,
            failed_on: None,
            error: None,
            mtu_told: None,
            retired: Arc::default(),
        }
    }

    /// Takes a new description and the device's state; gives a port back that is to be closed.
    fn update(&mut self, interface: &Arc<Interface>, links: &Links) -> Option<OpenPort> {
        let tap = interface.attachment.kind == AttachmentKind::Tap;
        let same_device = self.interface.attachment == interface.attachment
            && (!tap || self.interface.mac == interface.mac);
        self.interface = interface.clone();
        if !same_device {
            self.attached_before = false;
            self.retry_at = None;
            self.error = None;
            return self.close();
        }
        match &mut self.stage {
            // A tap moves into its node's network namespace, out of sight: its port tells of it.
            _ if tap => None,
            Stage::Open { ifindex: Some(index), link_up, mtu, .. } => match links.get(*index) {
                Some(link) => {
                    *link_up = link.up;
                    *mtu = clamp_mtu(link.mtu);
                    None
                }
                None => {
                    let device = &interface.attachment.device;
                    tracing::info!(interface = %interface.id, %device, "the interface's device is gone");
                    self.close()
                }
            },
            Stage::Opening { ifindex: Some(index), .. } if links.get(*index).is_none() => self.close(),
            _ => None,
        }
    }

    fn has(&self, id: PortId) -> bool {
        matches!(&self.stage, Stage::Open { port, .. } if port.id == id)
    }

    /// Back to waiting. A port that is being opened is given back when it is open.
    fn close(&mut self) -> Option<OpenPort> {
        match core::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Open { port, .. } => Some(port),
            _ => None,
        }
    }

    /// The port to open, if its device is there or is to be made.
    fn spec(&self, links: &Links) -> Option<(PortSpec, Option<u32>)> {
        let device = &self.interface.attachment.device;
        match self.interface.attachment.kind {
            AttachmentKind::Veth => {
                links.named(device.as_str()).map(|link| (PortSpec::Veth(device.clone()), Some(link.ifindex)))
            }
            AttachmentKind::Tap => Some((PortSpec::Tap(device.clone(), self.interface.mac), None)),
        }
    }

    fn report(&self) -> Report {
        let device = &self.interface.attachment.device;
        let (state, detail) = match (&self.stage, &self.error) {
            (Stage::Open { link_up: true, .. }, _) => (InterfaceState::Live, String::new()),
            (Stage::Open { link_up: false, .. }, _) => {
                (InterfaceState::Attached, format!("the link of device {device} is down"))
            }
            (_, Some(error)) => (InterfaceState::Defined, error.clone()),
            (Stage::Waiting, None) if self.attached_before => {
                (InterfaceState::Gone, format!("device {device} is gone"))
            }
            (_, None) => (InterfaceState::Defined, format!("waiting for device {device}")),
        };
        Report { state, detail, groups: Vec::new(), silent: false }
    }
}

/// The MTU of a port as the data plane keeps it.
pub(super) fn clamp_mtu(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

/// Who has each slot; when provisioning names two, the later one.
fn slot_owners(state: &DesiredState) -> HashMap<Slot, (u64, Arc<str>)> {
    let mut owners: HashMap<Slot, (u64, Arc<str>)> = HashMap::new();
    if state.host.as_ref().is_some_and(|host| host.value.layout.has_slots()) {
        for (id, kept) in &state.interfaces {
            let claim = (kept.revision, id.clone());
            let owner = owners.entry(kept.value.slot).or_insert_with(|| claim.clone());
            if *owner < claim {
                *owner = claim;
            }
        }
    }
    owners
}

/// Why an interface cannot be attached, whatever its device is.
fn obstacle(
    state: &DesiredState,
    interface: &Interface,
    slots: &HashMap<Slot, (u64, Arc<str>)>,
) -> Option<String> {
    if state.host.is_none() {
        return Some("provisioning has not said which host this is".to_owned());
    }
    if !state.vnets.contains_key(&interface.vnet) {
        return Some(format!("provisioning has not described its vnet {}", interface.vnet));
    }
    match slots.get(&interface.slot) {
        Some((_, owner)) if *owner != interface.id => {
            Some(format!("slot {} is interface {owner}'s", interface.slot))
        }
        _ => None,
    }
}
