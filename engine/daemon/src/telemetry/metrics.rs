//! Metrics in OpenMetrics text, collected when they are asked for.
//!
//! Drops that have not happened have no line: there are some fifty reasons for each port, and an absent counter is 0.

use super::{FlowVitals, Vitals};
use crate::events::EventLog;
use crate::provisioning::InterfaceState;
use crate::reconcile::counted::Totals;
use crate::reconcile::status::Status;
use core::fmt;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::table::flow::Progress;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// Everything at one moment.
#[derive(Debug)]
struct Moment {
    status: Arc<Status>,
    vitals: Arc<dyn Vitals>,
    refused: Arc<EventLog>,
    ready: bool,
}

/// All metrics as text.
///
/// # Errors
/// Those of formatting.
pub(super) fn render(
    status: Arc<Status>,
    vitals: Arc<dyn Vitals>,
    refused: Arc<EventLog>,
    ready: bool,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("overlane");
    registry.register_collector(Box::new(Moment { status, vitals, refused, ready }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

type Labels<'a> = Vec<(&'static str, String)>;

/// One family of metrics.
fn family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'static>, M)>,
    kind: MetricType,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in samples {
        value.encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'static>, u64)>,
) -> fmt::Result {
    let samples = samples.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
    family(encoder, name, help, samples, MetricType::Counter)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

impl Collector for Moment {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.ports(&mut encoder)?;
        self.workers(&mut encoder)?;
        self.flows(&mut encoder)?;
        self.refused(&mut encoder)?;
        self.state(&mut encoder)
    }
}

impl Moment {
    fn ports(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let vnet = |vnet: Option<_>| {
            vnet.map_or_else(String::new, |id: overlane_dataplane::id::VnetId| id.to_string())
        };
        let counted = self.status.counted.iter();
        let mut ports: Vec<(String, String, Totals)> =
            counted.map(|counted| (counted.name.clone(), vnet(counted.vnet), counted.totals())).collect();
        // Packets that belonged to no port any more when they were dropped.
        ports.push((String::new(), String::new(), self.vitals.unplaced()));
        for (id, drops) in &self.status.vnet_drops {
            let mut totals = Totals::default();
            for (sum, reason) in totals.drops.iter_mut().zip(DropReason::ALL) {
                *sum = drops.total(*reason);
            }
            ports.push((self.status.uplink.clone(), id.to_string(), totals));
        }
        ports.sort_unstable_by(|one, two| (&one.0, &one.1).cmp(&(&two.0, &two.1)));
        let drops = ports.iter().flat_map(|(port, vnet, totals)| {
            let counted = DropReason::ALL.iter().zip(&totals.drops).filter(|(_, count)| **count > 0);
            counted.map(move |(reason, count)| {
                let labels = vec![
                    ("reason", reason.name().to_owned()),
                    ("port", port.clone()),
                    ("vnet", vnet.clone()),
                ];
                (labels, *count)
            })
        });
        counters(
            encoder,
            "drops",
            "Packets dropped, by reason, the port that they came in or were to go out by, and vnet",
            drops,
        )?;
        let has_traffic =
            |name: &str, vnet: &str| !(name.is_empty() || name == self.status.uplink && !vnet.is_empty());
        let traffic: Vec<_> = ports.iter().filter(|(name, vnet, _)| has_traffic(name, vnet)).collect();
        let each = |value: fn(&Totals) -> u64| {
            let labels = |port: &str, vnet: &str| vec![("port", port.to_owned()), ("vnet", vnet.to_owned())];
            traffic.iter().map(move |(port, vnet, totals)| (labels(port, vnet), value(totals)))
        };
        counters(encoder, "rx_packets", "Frames received", each(|totals| totals.rx_packets))?;
        counters(
            encoder,
            "rx_bytes",
            "Bytes received, from the Ethernet header on",
            each(|totals| totals.rx_bytes),
        )?;
        counters(encoder, "tx_packets", "Frames handed to the port", each(|totals| totals.tx_packets))?;
        counters(
            encoder,
            "tx_bytes",
            "Bytes handed to the port, from the Ethernet header on",
            each(|totals| totals.tx_bytes),
        )?;
        let errors = traffic.iter().flat_map(|(port, vnet, totals)| {
            let results = [("sent", totals.icmp_errors_sent), ("limited", totals.icmp_errors_limited)];
            results.map(|(result, count)| {
                let labels =
                    vec![("result", result.to_owned()), ("port", port.clone()), ("vnet", vnet.clone())];
                (labels, count)
            })
        });
        counters(
            encoder,
            "icmp_errors",
            "ICMP errors of the engine's own about packets received on a port, sent, or not sent beyond their limit",
            errors,
        )
    }

    fn workers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let workers = self.vitals.workers();
        let labels =
            |index: usize, core: usize| vec![("worker", index.to_string()), ("core", core.to_string())];
        let each = |value: fn(&super::WorkerVitals) -> u64| {
            workers.iter().enumerate().map(move |(index, worker)| (labels(index, worker.core), value(worker)))
        };
        counters(encoder, "worker_turns", "Turns of a worker's loop", each(|worker| worker.turns))?;
        counters(
            encoder,
            "worker_empty_turns",
            "Turns in which there was nothing to do",
            each(|worker| worker.empty_turns),
        )?;
        counters(
            encoder,
            "worker_sleeps",
            "Times that a worker went to sleep",
            each(|worker| worker.sleeps),
        )?;
        counters(encoder, "worker_packets", "Packets that a worker took in", each(|worker| worker.packets))?;
        let cycles = workers.iter().enumerate().flat_map(|(index, worker)| {
            let cycles = worker.cycles;
            let known = cycles.receive + cycles.classify + cycles.authorise + cycles.translate + cycles.send;
            let parts = [
                ("receive", cycles.receive),
                ("classify", cycles.classify),
                ("authorise", cycles.authorise),
                ("translate", cycles.translate),
                ("send", cycles.send),
                ("other", cycles.turns.saturating_sub(known)),
            ];
            parts.map(|(part, cycles)| {
                let mut labels = labels(index, worker.core);
                labels.push(("part", part.to_owned()));
                (labels, cycles)
            })
        });
        counters(
            encoder,
            "worker_cycles",
            "Cycles of the time-stamp counter in turns that were not empty, by what a worker did; over worker_packets \
             they are a packet's",
            cycles,
        )?;
        let seconds = |value: fn(&super::WorkerVitals) -> core::time::Duration| {
            workers.iter().enumerate().map(move |(index, worker)| {
                (labels(index, worker.core), ConstCounter::new(value(worker).as_secs_f64()))
            })
        };
        family(
            encoder,
            "worker_busy_seconds",
            "Time that a worker spent on turns that were not empty",
            seconds(|worker| worker.busy),
            MetricType::Counter,
        )?;
        family(
            encoder,
            "worker_seconds",
            "Time that a worker has run",
            seconds(|worker| worker.total),
            MetricType::Counter,
        )?;
        let (size, in_use) = self.vitals.buffers();
        gauge(encoder, "mempool_size", "Packet buffers", size.into())?;
        gauge(encoder, "mempool_free", "Packet buffers that are free", size.saturating_sub(in_use).into())
    }

    fn flows(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let FlowVitals { capacity, memory, live, inserted, expired, replaced, evicted, refused, collided } =
            self.vitals.flows();
        gauge(encoder, "flows", "Flows of stateful vnets that are known", live)?;
        gauge(encoder, "flow_capacity", "Flows that there is room for", capacity as u64)?;
        gauge(encoder, "flow_memory_bytes", "Memory of the flow table", memory as u64)?;
        let mut count = |name: &str, help: &str, value: u64| {
            let value = ConstCounter::new(value);
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        count("flows_inserted", "Flows entered", inserted)?;
        count("flows_expired", "Flows taken out after their timeout", expired)?;
        count("flows_replaced", "Flows taken out because another with the same key began", replaced)?;
        count("flows_refused", "Flows that found no room", refused)?;
        count(
            "flows_collided",
            "Entries taken back because two workers entered the same flow at once",
            collided,
        )?;
        let evicted = [
            (Progress::Closing, evicted.closing),
            (Progress::HalfOpen, evicted.half_open),
            (Progress::Established, evicted.established),
        ];
        let evicted = evicted.map(|(state, count)| (vec![("state", state.name().to_owned())], count));
        counters(encoder, "flows_evicted", "Flows taken out to make room, by how far they had come", evicted)
    }

    fn refused(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.refused.totals().into_iter().map(|(kind, reason, count)| {
            (vec![("kind", kind.to_owned()), ("reason", reason.name().to_owned())], count)
        });
        let help =
            "Packets dropped because of what their sender claimed to be, as the service is told of them";
        counters(encoder, "claims_refused", help, totals)
    }

    fn state(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let status = &self.status;
        let provisioning = &status.provisioning;
        gauge(encoder, "ready", "Whether the engine is ready", self.ready.into())?;
        gauge(encoder, "mappings", "Addresses whose place is known", status.mappings as u64)?;
        gauge(
            encoder,
            "narrow_paths",
            "Paths through the substrate that are known to carry less than the uplink",
            status.paths.len() as u64,
        )?;
        // Without an uplink there is none to tell.
        let mtus = [("uplink", status.uplink_mtu), ("node", status.node_mtu)].into_iter();
        let mtus = mtus
            .filter_map(|(of, mtu)| Some((vec![("of", of.to_owned())], ConstGauge::new(i64::from(mtu?)))));
        family(
            encoder,
            "mtu_bytes",
            "The largest IPv6 packet of the uplink, and the largest IPv4 packet that it leaves nodes",
            mtus,
            MetricType::Gauge,
        )?;
        gauge(
            encoder,
            "revision",
            "Number of the revision that the data plane forwards by",
            status.revision_number,
        )?;
        gauge(
            encoder,
            "provisioning_connected",
            "Whether the source of the desired state is in contact",
            provisioning.connected.into(),
        )?;
        gauge(
            encoder,
            "stale",
            "Whether entries serve without contact to the service",
            provisioning.stale.into(),
        )?;
        gauge(
            encoder,
            "table_behind",
            "Whether the mapping table reclaims memory more slowly than it uses it",
            status.table_behind.into(),
        )?;
        let states = [
            (InterfaceState::Defined, "defined"),
            (InterfaceState::Attached, "attached"),
            (InterfaceState::Live, "live"),
            (InterfaceState::Gone, "gone"),
        ];
        let interfaces = states.map(|(state, name)| {
            let count = status.interfaces.iter().filter(|interface| interface.state == state).count();
            (vec![("state", name.to_owned())], ConstGauge::new(count as i64))
        });
        family(encoder, "interfaces", "Interfaces of this host, by state", interfaces, MetricType::Gauge)?;
        let build = [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], ConstGauge::new(1i64))];
        family(encoder, "build_info", "The engine's version", build, MetricType::Gauge)
    }
}
