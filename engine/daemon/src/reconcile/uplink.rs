//! The uplink's way to its port, and neighbour discovery on it.

use super::attachments::clamp_mtu;
use super::counted::{Counted, Totals};
use super::links::Links;
use super::traits::{OpenPort, PortSpec};
use crate::config::{UplinkAddress, UplinkConfig, UplinkDevice};
use crate::uplink::{Addressing, Change, Config, Neighbour, Output};
use core::net::Ipv6Addr;
use core::time::Duration;
use overlane_dataplane::address::HostPrefix;
use overlane_dataplane::counters::PerWorker;
use overlane_dataplane::id::PortId;
use overlane_dataplane::limit::TokenBucket;
use overlane_dataplane::snapshot::Uplink;
use std::sync::Arc;
use tokio::time::Instant;

/// Pause after the device could not be opened or isolated.
const RETRY: Duration = Duration::from_secs(1);

/// The uplink.
#[derive(Debug)]
pub(super) struct UplinkDriver {
    config: UplinkConfig,
    stage: Stage,
    retry_at: Option<Instant>,
    next_token: u64,
    /// Why there is no uplink; empty while there is one.
    error: String,
    retired: Arc<Totals>,
    icmp_limit: Arc<PerWorker<TokenBucket>>,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Opening { token: u64, ifindex: Option<u32> },
    Open(Box<Open>),
}

#[derive(Debug)]
struct Open {
    port: OpenPort,
    ifindex: Option<u32>,
    link_up: bool,
    device_mtu: u16,
    neighbour: Neighbour,
    state: Change,
    /// What the kernel keeps away from; `None` before the first time.
    isolated: Option<Isolation>,
    isolating: Option<Isolation>,
    isolate_at: Option<Instant>,
    object: Option<Arc<Uplink>>,
}

/// What the kernel is to keep away from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Isolation {
    pub(super) prefix: Option<HostPrefix>,
    pub(super) addresses: Vec<Ipv6Addr>,
}

/// What came of a step: frames to send, and whether the snapshot is to be built anew.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) changed: bool,
}

impl UplinkDriver {
    pub(super) fn new(config: UplinkConfig, icmp_limit: Arc<PerWorker<TokenBucket>>) -> Self {
        let error = match &config.device {
            UplinkDevice::Packet(device) => format!("waiting for device {device}"),
            UplinkDevice::Devargs(_) => "not open yet".to_owned(),
        };
        Self {
            config,
            stage: Stage::Waiting,
            retry_at: None,
            next_token: 0,
            error,
            retired: Arc::default(),
            icmp_limit,
        }
    }

    /// Compares the device with the port: a port to close, a port to open, frames to send.
    pub(super) fn plan(
        &mut self,
        links: &Links,
        now: Instant,
    ) -> (Option<OpenPort>, Option<(u64, PortSpec)>, Step) {
        let (mut close, mut step) = (None, Step::default());
        match &mut self.stage {
            Stage::Open(open) => match open.ifindex.map(|index| links.get(index)) {
                Some(None) => close = self.close("its device is gone"),
                Some(Some(link)) => {
                    let mtu = clamp_mtu(link.mtu).min(self.config.mtu.unwrap_or(u16::MAX));
                    if mtu > open.port.mtu_max {
                        close = self.close("its MTU has grown beyond what it was opened for");
                    } else {
                        step = open.link(link.up, mtu, now);
                    }
                }
                None => {}
            },
            Stage::Opening { ifindex: Some(index), .. } if links.get(*index).is_none() => {
                close = self.close("its device is gone");
            }
            _ => {}
        }
        let due = self.retry_at.is_none_or(|at| at <= now);
        let spec = match (&self.stage, &self.config.device) {
            (Stage::Waiting, UplinkDevice::Packet(device)) if due => links
                .named(device.as_str())
                .map(|link| (PortSpec::PacketUplink(device.clone()), Some(link.ifindex))),
            (Stage::Waiting, UplinkDevice::Devargs(devargs)) if due => {
                Some((PortSpec::DevargsUplink(devargs.clone(), self.config.mtu), None))
            }
            _ => None,
        };
        let open = spec.map(|(spec, ifindex)| {
            self.next_token += 1;
            self.stage = Stage::Opening { token: self.next_token, ifindex };
            (self.next_token, spec)
        });
        (close, open, step)
    }

    /// Takes the outcome of opening; gives the port back if nobody waits for it any more.
    pub(super) fn opened(
        &mut self,
        token: u64,
        outcome: Result<OpenPort, String>,
        now: Instant,
    ) -> (Option<OpenPort>, Step) {
        let ifindex = match self.stage {
            Stage::Opening { token: awaited, ifindex } if awaited == token => ifindex,
            _ => return (outcome.ok(), Step::default()),
        };
        let port = match outcome {
            Ok(port) => port,
            Err(error) => {
                if self.error != error {
                    tracing::error!(uplink = %self.config.name, %error, "cannot open the uplink; trying again");
                }
                self.error = error;
                self.stage = Stage::Waiting;
                self.retry_at = Some(now + RETRY);
                return (None, Step::default());
            }
        };
        let mtu = port.mtu.min(self.config.mtu.unwrap_or(u16::MAX));
        tracing::info!(uplink = %self.config.name, port = %port.id, mac = %port.mac, mtu, "uplink open");
        let addressing = match self.config.address {
            UplinkAddress::Auto => Addressing::RouterAdvertisement,
            UplinkAddress::Static { address, gateway } => Addressing::Static { address, gateway },
        };
        // The device's own MTU may grow: it is compared with what a router announces whenever either changes.
        let config = Config { mac: port.mac, mtu: u16::MAX, addressing };
        let neighbour = Neighbour::new(config, now.into_std());
        let mut open = Open {
            state: neighbour.state(),
            neighbour,
            // Also a driver's device can be an interface of the kernel.
            ifindex: port.ifindex.or(ifindex),
            link_up: true,
            device_mtu: mtu,
            isolated: None,
            isolating: None,
            isolate_at: None,
            object: None,
            port,
        };
        let mut step = open.tick(now);
        if !open.port.link_up {
            let mut down = open.link(false, open.device_mtu, now);
            step.frames.append(&mut down.frames);
        }
        step.changed = true;
        self.retry_at = None;
        self.error.clear();
        self.stage = Stage::Open(Box::new(open));
        (None, step)
    }

    fn close(&mut self, why: &str) -> Option<OpenPort> {
        self.error = why.to_owned();
        self.retry_at = None;
        match core::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Open(open) => {
                tracing::warn!(uplink = %self.config.name, why, "uplink closed");
                Some(open.port)
            }
            _ => None,
        }
    }

    /// The device of a port is gone for good; gives back the port that is to be closed.
    pub(super) fn lost(&mut self, port: PortId) -> Option<OpenPort> {
        (self.port() == Some(port)).then(|| self.close("its device is gone")).flatten()
    }

    /// The link of a port's device went up or down.
    pub(super) fn port_link(&mut self, port: PortId, up: bool, now: Instant) -> Step {
        match self.open_mut() {
            Some(open) if open.port.id == port => open.link(up, open.device_mtu, now),
            _ => Step::default(),
        }
    }

    fn open_mut(&mut self) -> Option<&mut Open> {
        match &mut self.stage {
            Stage::Open(open) => Some(open),
            _ => None,
        }
    }

    fn open(&self) -> Option<&Open> {
        match &self.stage {
            Stage::Open(open) => Some(open),
            _ => None,
        }
    }

    /// The port, while there is one.
    pub(super) fn port(&self) -> Option<PortId> {
        self.open().map(|open| open.port.id)
    }

    /// Takes a frame that workers handed up.
    pub(super) fn input(&mut self, port: PortId, frame: &[u8], now: Instant) -> Step {
        match self.open_mut() {
            Some(open) if open.port.id == port => {
                let output = open.neighbour.input(frame, now.into_std());
                open.take(output)
            }
            _ => Step::default(),
        }
    }

    /// Does what neighbour discovery has due.
    pub(super) fn tick(&mut self, now: Instant) -> Step {
        self.open_mut().map(|open| open.tick(now)).unwrap_or_default()
    }

    /// When [`UplinkDriver::tick`] or [`UplinkDriver::plan`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting => self.retry_at,
            Stage::Opening { .. } => None,
            Stage::Open(open) => {
                let neighbour = open.neighbour.deadline().map(Instant::from_std);
                let isolation = open.isolating.is_none().then_some(open.isolate_at).flatten();
                neighbour.into_iter().chain(isolation).min()
            }
        }
    }

    /// What the kernel is to be told to keep away from, if it has not been told and is not being told.
    pub(super) fn isolation(&mut self, prefix: Option<HostPrefix>, now: Instant) -> Option<(u32, Isolation)> {
        let open = self.open_mut()?;
        let ifindex = open.ifindex?;
        let wanted = Isolation { prefix, addresses: open.state.addresses.clone() };
        let waits = open.isolate_at.is_some_and(|at| now < at);
        if open.isolating.is_some() || open.isolated.as_ref() == Some(&wanted) || waits {
            return None;
        }
        open.isolating = Some(wanted.clone());
        Some((ifindex, wanted))
    }

    /// Takes the outcome of telling the kernel.
    pub(super) fn isolated(&mut self, port: PortId, outcome: Result<(), String>, now: Instant) {
        let name = self.config.name.clone();
        let Some(open) = self.open_mut().filter(|open| open.port.id == port) else { return };
        let told = open.isolating.take();
        match outcome {
            Ok(()) => (open.isolated, open.isolate_at) = (told, None),
            Err(error) => {
                tracing::error!(uplink = %name, %error, "cannot keep the host's kernel off the uplink's prefix; trying again");
                open.isolate_at = Some(now + RETRY);
            }
        }
    }

    /// The uplink as the data plane is to see it. Without a next hop until the kernel keeps off the prefix.
    pub(super) fn object(&mut self, prefix: Option<HostPrefix>) -> Option<Arc<Uplink>> {
        let (name, icmp_limit) = (self.config.name.clone(), self.icmp_limit.clone());
        let open = self.open_mut()?;
        let apart = open.ifindex.is_none()
            || open
                .isolated
                .as_ref()
                .is_some_and(|isolated| isolated.prefix.is_some() && isolated.prefix == prefix);
        let next_hop = open.state.next_hop.filter(|_| apart);
        let mtu = open.state.mtu.min(open.device_mtu);
        let same = |old: &&Arc<Uplink>| {
            old.mtu == mtu
                && old.next_hop == next_hop
                && old.link_up == open.link_up
                && old.addresses == open.state.addresses
        };
        if let Some(old) = open.object.as_ref().filter(same) {
            return Some(old.clone());
        }
        let object = Arc::new(Uplink {
            name,
            port: open.port.id,
            mac: open.port.mac,
            mtu,
            addresses: open.state.addresses.clone(),
            next_hop,
            link_up: open.link_up,
            traffic: open.port.traffic.clone(),
            icmp_limit,
        });
        open.object = Some(object.clone());
        Some(object)
    }

    /// The engine's own addresses, and the largest packet; as the data plane was told.
    pub(super) fn place(&self) -> (Vec<Ipv6Addr>, Option<u16>) {
        let object = self.open().and_then(|open| open.object.as_ref());
        object.map_or_else(Default::default, |object| (object.addresses.clone(), Some(object.mtu)))
    }

    /// What it has counted.
    pub(super) fn counted(&self) -> Counted {
        Counted {
            name: self.config.name.clone(),
            vnet: None,
            now: self.open().map(|open| open.port.traffic.clone()),
            before: self.retired.clone(),
        }
    }

    /// Adds what a closed port has counted.
    pub(super) fn retire(&mut self, port: &OpenPort) {
        let mut totals = (*self.retired).clone();
        totals.add(&port.traffic);
        self.retired = Arc::new(totals);
    }

    /// Why nothing can be sent; `None` when it can.
    pub(super) fn obstacle(&self) -> Option<String> {
        let name = &self.config.name;
        match self.open() {
            None => Some(format!("uplink {name}: {}", self.error)),
            Some(open) if !open.link_up => Some(format!("uplink {name}: its link is down")),
            Some(open) if open.state.addresses.is_empty() => {
                Some(format!("uplink {name}: no address yet; no router has advertised a prefix"))
            }
            Some(open) if open.state.next_hop.is_none() => {
                Some(format!("uplink {name}: its gateway does not answer neighbour solicitations"))
            }
            Some(open) if open.ifindex.is_some() && open.isolated.is_none() => {
                Some(format!("uplink {name}: the host's kernel is not kept off it yet"))
            }
            Some(_) => None,
        }
    }
}

impl Open {
    fn take(&mut self, output: Output) -> Step {
        let changed = output.change.is_some();
        if let Some(change) = output.change {
            if change.next_hop != self.state.next_hop {
                let next_hop = change.next_hop.map_or_else(|| "lost".to_owned(), |mac| mac.to_string());
                tracing::info!(%next_hop, "the uplink's next hop has changed");
            }
            if change.addresses != self.state.addresses {
                tracing::info!(addresses = ?change.addresses, "the uplink's own addresses have changed");
            }
            self.state = change;
        }
        Step { frames: output.frames, changed }
    }

    fn tick(&mut self, now: Instant) -> Step {
        let output = self.neighbour.tick(now.into_std());
        self.take(output)
    }

    fn link(&mut self, up: bool, mtu: u16, now: Instant) -> Step {
        let mut step = Step::default();
        if self.device_mtu != mtu {
            self.device_mtu = mtu;
            step.changed = true;
        }
        if self.link_up != up {
            self.link_up = up;
            let output = self.neighbour.link(up, now.into_std());
            step = self.take(output);
            step.changed = true;
        }
        step
    }
}
