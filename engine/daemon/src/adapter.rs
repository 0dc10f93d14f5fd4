//! The real data plane and the real kernel, as the reconciler and telemetry see them.

use crate::events::EventLog;
use crate::kernel::{self, LinkChange};
use crate::provisioning::model::{Mapping, Target};
use crate::reconcile::counted::Totals;
use crate::reconcile::traits::{self, Dataplane, Link, LinkEvent, OpenPort, PortEvent};
use crate::runtime::{self, Runtime};
use crate::telemetry::{Evicted, FlowVitals, Vitals, WorkerVitals};
use core::net::Ipv6Addr;
use overlane_dataplane::address::{HostPrefix, Locator};
use overlane_dataplane::failure::Origin;
use overlane_dataplane::id::PortId;
use overlane_dataplane::resolve::{Answer, Question};
use overlane_dataplane::snapshot::HostSnapshot;
use overlane_dataplane::table::mapping::{self, MappingKey, MappingWriter, State};
use overlane_dataplane::table::qsbr::Grace;
use std::sync::{Arc, Weak};
use tokio::sync::mpsc;

/// The running workers, their ports and the mapping table.
#[derive(Debug)]
pub struct Running {
    /// Workers and ports.
    pub runtime: Arc<Runtime>,
    /// The one writer of the mapping table.
    pub writer: MappingWriter,
}

impl Dataplane for Running {
    fn open_port(
        &self,
        spec: traits::PortSpec,
    ) -> impl Future<Output = Result<OpenPort, String>> + Send + 'static {
        let runtime = Arc::clone(&self.runtime);
        let spec = match spec {
            traits::PortSpec::Veth(device) => runtime::PortSpec::Veth { device: device.to_string() },
            traits::PortSpec::Tap(device, mac) => runtime::PortSpec::Tap { device: device.to_string(), mac },
            traits::PortSpec::PacketUplink(device) => {
                runtime::PortSpec::PacketUplink { device: device.to_string() }
            }
            traits::PortSpec::DevargsUplink(devargs, mtu) => {
                runtime::PortSpec::DevargsUplink { devargs, mtu }
            }
        };
        async move { runtime.open_port(spec).await.map_err(|error| error.to_string()) }
    }

    fn close_port(&self, port: PortId) -> impl Future<Output = ()> + Send + 'static {
        let runtime = Arc::clone(&self.runtime);
        async move {
            if let Err(error) = runtime.close_port(port).await {
                tracing::warn!(%port, error = format!("{error:#}"), "a port did not close in order");
            }
        }
    }

    fn publish(&self, snapshot: HostSnapshot) -> Result<(), String> {
        self.runtime.publish(snapshot).map_err(|error| error.to_string())
    }

    fn inject(&self, port: PortId, frame: &[u8]) {
        if let Err(error) = self.runtime.inject(port, frame) {
            tracing::debug!(%port, %error, "a frame of the engine's own was not sent");
        }
    }

    fn put_mapping(
        &mut self,
        target: Target,
        mapping: &Mapping,
        local: Option<PortId>,
        state: State,
    ) -> Result<Option<Locator>, String> {
        let Mapping { locator, also_accept, .. } = *mapping;
        let value = mapping::Mapping { locator, also_accept, local, state };
        let key = MappingKey::new(target.vnet, target.ipv4);
        let old = self.writer.get(key);
        if old != Some(value) {
            self.writer.insert(key, value).map_err(|error| error.to_string())?;
        }
        Ok(led(old))
    }

    fn remove_mapping(&mut self, target: Target) -> Option<Locator> {
        led(self.writer.remove(MappingKey::new(target.vnet, target.ipv4)))
    }

    fn answer(&self, worker: usize, answer: Answer) {
        self.runtime.answer(worker, answer);
    }

    type Grace = Grace;

    fn begin_grace(&self) -> Grace {
        self.runtime.domain().begin_grace()
    }

    fn is_over(&self, grace: Grace) -> bool {
        self.runtime.domain().is_over(grace)
    }

    fn maintain(&mut self) -> bool {
        self.writer.maintain();
        self.runtime.domain().collect();
        self.writer.is_behind()
    }
}

impl traits::Kernel for kernel::Kernel {
    fn isolate_prefix(
        &self,
        ifindex: u32,
        prefix: Option<HostPrefix>,
        addresses: Vec<Ipv6Addr>,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let kernel = self.clone();
        async move { kernel.isolate_prefix(ifindex, prefix, &addresses).await.map_err(|error| error.to_string()) }
    }
}

/// Where a mapping led.
fn led(mapping: Option<mapping::Mapping>) -> Option<Locator> {
    mapping.filter(|mapping| mapping.state != State::Gone).map(|mapping| mapping.locator)
}

/// Passes on what workers ask for.
pub async fn forward_questions(mut questions: runtime::Questions, out: mpsc::Sender<(usize, Question)>) {
    loop {
        let asked = questions.next().await;
        if out.send(asked).await.is_err() {
            return;
        }
    }
}

/// The runtime, as telemetry sees it: it does not keep it from ending.
#[derive(Debug)]
pub struct RuntimeVitals(pub Weak<Runtime>);

impl Vitals for RuntimeVitals {
    fn workers(&self) -> Vec<WorkerVitals> {
        let stats = self.0.upgrade().map(|runtime| runtime.worker_stats()).unwrap_or_default();
        let vitals = |stats: runtime::WorkerStats| WorkerVitals {
            core: stats.core,
            turns: stats.turns,
            empty_turns: stats.empty_turns,
            sleeps: stats.sleeps,
            packets: stats.packets,
            cycles: stats.cycles,
            cycles_per_packet: stats.cycles.for_each(stats.packets),
            cycles_per_turn: stats.cycles.for_each(stats.turns.saturating_sub(stats.empty_turns)).turns,
            busy: stats.busy,
            total: stats.total,
        };
        stats.into_iter().map(vitals).collect()
    }

    fn buffers(&self) -> (u32, u32) {
        let buffers = self.0.upgrade().map(|runtime| runtime.buffers());
        buffers.map_or((0, 0), |buffers| (buffers.total, buffers.in_use))
    }

    fn flows(&self) -> FlowVitals {
        let Some(runtime) = self.0.upgrade() else { return FlowVitals::default() };
        let (totals, (capacity, memory)) = (runtime.flows().totals(), runtime.flow_room());
        let [closing, half_open, established] = totals.evicted;
        FlowVitals {
            capacity,
            memory,
            live: totals.live(),
            inserted: totals.inserted,
            expired: totals.expired,
            replaced: totals.replaced,
            evicted: Evicted { closing, half_open, established },
            refused: totals.refused,
            collided: totals.collided,
        }
    }

    fn stalled(&self) -> Option<String> {
        match self.0.upgrade() {
            Some(runtime) => runtime.domain().stalled().map(|stalled| stalled.to_string()),
            None => Some("the engine is shutting down".to_owned()),
        }
    }

    fn unplaced(&self) -> Totals {
        let mut totals = Totals::default();
        if let Some(runtime) = self.0.upgrade() {
            runtime.unplaced().iter().for_each(|traffic| totals.add_one(traffic));
        }
        totals
    }
}

/// Passes on what the kernel tells of its interfaces, until it tells no more.
pub async fn forward_links(mut watch: kernel::Watch, links: mpsc::Sender<LinkEvent>) {
    while let Some(event) = watch.next().await {
        let event = match event.change {
            LinkChange::New { running, mtu, .. } => {
                LinkEvent::New(Link { ifindex: event.ifindex, name: event.name, up: running, mtu })
            }
            LinkChange::Gone { .. } => LinkEvent::Gone(event.ifindex),
        };
        if links.send(event).await.is_err() {
            return;
        }
    }
}

/// Passes on what happens to ports.
pub async fn forward_ports(mut events: mpsc::Receiver<runtime::PortEvent>, ports: mpsc::Sender<PortEvent>) {
    while let Some(event) = events.recv().await {
        let event = match event {
            runtime::PortEvent::Gone { port } => PortEvent::Gone(port),
            runtime::PortEvent::Link { port, up } => PortEvent::Link(port, up),
            runtime::PortEvent::Mtu { port, mtu } => PortEvent::Mtu(port, mtu),
        };
        if ports.send(event).await.is_err() {
            return;
        }
    }
}

/// Passes on what the substrate tells workers of its paths.
pub async fn forward_hints(mut hints: runtime::PathMtuHints, out: mpsc::Sender<(HostPrefix, u16)>) {
    loop {
        let hint = hints.next().await;
        if out.send(hint).await.is_err() {
            return;
        }
    }
}

/// Passes on what workers refuse because of what senders claim, until the runtime ends.
pub async fn forward_failures(
    mut failures: runtime::FailureReports,
    runtime: Weak<Runtime>,
    events: Arc<EventLog>,
) {
    loop {
        let failure = failures.next().await;
        let Some(runtime) = runtime.upgrade() else { return };
        let (prefix, interface) = match failure.origin {
            Origin::Substrate(prefix) => {
                (Some(format!("{prefix}/{}", runtime.layout().prefix_length())), None)
            }
            Origin::Node(port) => (None, runtime.interface_at(port)),
            Origin::Others => (None, None),
        };
        drop(runtime);
        events.note(&failure, prefix, interface);
    }
}

/// Passes on the frames that workers hand up.
pub async fn forward_punts(mut punts: runtime::Punts, out: mpsc::Sender<(PortId, Vec<u8>)>) {
    loop {
        let punt = punts.next().await;
        if out.send((punt.port, punt.bytes)).await.is_err() {
            return;
        }
    }
}
