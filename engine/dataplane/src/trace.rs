//! What would become of a packet, and why: it is carried through the very stages that workers run.
//!
//! The stages are not copied, their surroundings are. A trace has a pipeline of its own, over the live snapshot and mapping
//! table and a flow table of its own, into which the one flow is copied that the verdict depends on. What it counts, it counts as a
//! worker that there is none of, and so nowhere that anybody looks; what it sends, asks and learns stays here. An
//! observer, which for workers is a stopwatch, notes what is known between the stages.

use crate::address::HostPrefix;
use crate::buffer::{HeapOptions, HeapPacket, HeapPool};
use crate::drop::DropReason;
use crate::fragment::FragmentLimits;
use crate::group::Member;
use crate::header::NetworkHeader;
use crate::id::{PortId, VnetId};
use crate::packet::{Clock, Packet};
use crate::pipeline::{Moment, Observer, Outbox, Pipeline, StageCycles};
use crate::policy::{Action, Rule, default_between, judge};
use crate::resolve::Question;
use crate::segment::{self, Capabilities};
use crate::snapshot::{HostSnapshot, Interface, Vnet};
use crate::stage::flow::{self, Flows};
use crate::stage::passage::{self, Side};
use crate::stage::{Burst, FromNode, FromUplink, Inbound, Known, Outbound, Path};
use crate::table::flow::{FlowLimits, FlowTable, Timeouts};
use crate::table::mapping::{FoundMapping, MappingKey, MappingTable, State};
use crate::table::qsbr::{Domain, Reader};
use crate::wire::protocol;
use core::net::Ipv4Addr;
use std::sync::Arc;

/// What a trace looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Protects the tables; nothing else uses it meanwhile.
    pub reader: &'a Reader,
    /// Its domain.
    pub domain: &'a Arc<Domain>,
    /// What workers go by.
    pub snapshot: &'a HostSnapshot,
    /// The mappings.
    pub mappings: &'a MappingTable,
    /// The flows; they are only read.
    pub flows: &'a FlowTable,
    /// How many workers there are.
    pub workers: usize,
}

/// What a decision was made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// An interface, by its id.
    Interface(String),
    /// A virtual network.
    Vnet(VnetId),
    /// The mapping of an address.
    Mapping(VnetId, Ipv4Addr),
    /// A rule, and the revision that put it.
    Rule(String, u64),
    /// A flow that is known.
    Flow,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The part of the way, like `source`.
    pub stage: &'static str,
    /// What was decided; for people.
    pub decision: String,
    /// By what.
    pub object: Option<Object>,
}

/// What became of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It leaves, as it is or in parts.
    Sent,
    /// It is answered by the engine itself: ARP.
    Answered,
    /// It goes to the control thread.
    Punted,
    /// It waits for the first fragment of its datagram.
    AwaitsFragment,
    /// It waits for a mapping that the service is asked for.
    AwaitsMapping,
    /// It is dropped.
    Dropped(DropReason),
}

/// What would become of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The decisions, in their order.
    pub steps: Vec<Step>,
    /// What became of it.
    pub fate: Fate,
    /// Frames that would leave: the packet, or what its sender is told, and by which port.
    pub frames: Vec<(PortId, Vec<u8>)>,
}

/// Carries a frame that would come in by `port`, which need not be an open one.
#[must_use]
pub fn trace(subject: &Subject<'_>, clock: impl Clock + Clone, port: PortId, frame: &[u8]) -> Trace {
    let pool = HeapPool::new(HeapOptions { limit: 256, ..HeapOptions::default() });
    let Subject { reader, domain, snapshot, mappings, flows, workers } = *subject;
    // Room for the one flow, for a worker behind the last.
    let limits = FlowLimits::new(*FlowLimits::CAPACITY.start(), Timeouts::default()).unwrap_or_default();
    let own_flows = FlowTable::new(domain, &limits, workers + 1, [0, 0]);
    let (fragments, table) = (FragmentLimits::default(), mappings.clone());
    let mut pipeline =
        Pipeline::new(workers, table, own_flows, pool.clone(), clock.clone(), fragments, [0, 0]);
    let mut tracer = Tracer { flows, steps: Vec::new(), is_for_group: false };
    let mut out = Told::default();
    if let Some(packet) = pool.packet(frame) {
        pipeline.observe(reader, snapshot, port, packet, &mut out, &mut tracer);
    }
    let dropped = DropReason::ALL.iter().copied().find(|reason| pipeline.unplaced().drops.get(*reason) > 0);
    let mut frames = Vec::new();
    let sent = !out.sent.is_empty();
    for (port, packet) in out.sent {
        // What ports do that can do nothing by themselves.
        let finished = segment::finish(&pool, Capabilities::default(), packet, |packet| {
            frames.push((port, packet.segments().flatten().copied().collect()));
        });
        if finished.is_err() {
            tracer.note("send", "it cannot be made what ports can send".to_owned(), None);
        }
    }
    let fate = match dropped {
        // Of what is for a group some copies may be dropped and others not.
        Some(_) if sent && tracer.is_for_group => Fate::Sent,
        Some(reason) => Fate::Dropped(reason),
        None if out.punted => Fate::Punted,
        None if sent && tracer.steps.is_empty() => Fate::Answered,
        None if sent => Fate::Sent,
        None if out.asked => Fate::AwaitsMapping,
        None => Fate::AwaitsFragment,
    };
    Trace { steps: tracer.steps, fate, frames }
}

/// Keeps what would leave.
#[derive(Default)]
struct Told {
    sent: Vec<(PortId, HeapPacket)>,
    punted: bool,
    asked: bool,
}

impl Outbox<HeapPacket> for Told {
    fn transmit(&mut self, port: PortId, packet: HeapPacket) {
        self.sent.push((port, packet));
    }

    fn punt(&mut self, _: PortId, _: HeapPacket) {
        self.punted = true;
    }

    fn path_mtu(&mut self, _: HostPrefix, _: u16) {}

    fn ask(&mut self, _: Question) -> bool {
        self.asked = true;
        true
    }
}

struct Tracer<'t> {
    flows: &'t FlowTable,
    steps: Vec<Step>,
    is_for_group: bool,
}

impl Tracer<'_> {
    fn note(&mut self, stage: &'static str, decision: String, object: Option<Object>) {
        self.steps.push(Step { stage, decision, object });
    }

    fn mapping(&mut self, snapshot: &HostSnapshot, key: MappingKey, mapping: Option<FoundMapping<'_>>) {
        let object = Some(Object::Mapping(key.vnet_id(), key.ipv4()));
        let decision = match mapping.map(|mapping| mapping.mapping(key)) {
            None => "nobody there that is known here".to_owned(),
            Some(mapping) => {
                let layout = snapshot.layout;
                let state = match mapping.state {
                    State::Live => "live",
                    State::Ageing => "live, to be asked for again",
                    State::Down => "not live",
                    State::Gone => "terminated",
                };
                let prefix = mapping.locator.prefix(layout);
                let slot = if layout.has_slots() {
                    format!(", slot {}", mapping.locator.slot(layout))
                } else {
                    String::new()
                };
                let local = mapping.local.map_or(String::new(), |port| format!(", here at port {port}"));
                let moves =
                    if mapping.also_accept.is_some() { ", moving: a second place is accepted" } else { "" };
                format!("{prefix}{slot}, {state}{local}{moves}")
            }
        };
        self.note("mapping", decision, object);
    }

    /// Who hears what is sent to a group.
    fn group(&mut self, snapshot: &HostSnapshot, vnet: &Vnet, header: &NetworkHeader, port: Option<PortId>) {
        self.is_for_group = true;
        let group = snapshot.groups.get(vnet.id, header.destination);
        let wants = |member: &&Member| Some(member.port) != port && member.filter.wants(header.source);
        let members = group.map_or(0, |group| group.members.iter().filter(wants).count());
        // What comes from the substrate goes no further.
        let confined = port.is_none() || vnet.groups.confines(header.destination);
        let hosts = group.iter().flat_map(|group| group.hosts.iter());
        let hosts = hosts.filter(|host| !confined && Some(**host) != snapshot.prefix).count();
        let decision =
            format!("{} is heard by {members} here and on {hosts} other hosts", header.destination);
        self.note("group", decision, Some(Object::Vnet(vnet.id)));
    }

    /// What rules say of a packet, and the flow that it is of, which is made known to the stages.
    fn judge<'a, P: Packet, I: Known<'a>, S: Side<'a, I>>(
        &mut self,
        side: &S,
        own: (&mut Flows, &dyn Clock),
        packet: &mut P,
        item: &mut I,
    ) {
        if !side.is_tracked(item) {
            return self.note(
                "rules",
                "none are about either end here, and the network lets all pass".to_owned(),
                None,
            );
        }
        let key = flow::key_of(side, packet, item);
        let known = key.and_then(|key| self.flows.lookup(side.reader(), key));
        if let Some(known) = known {
            let (flows, clock) = own;
            flows.copy(side.reader(), &known, clock.now());
            let decision = match known.judged(side.snapshot().policy_epoch) {
                Some(Ok(())) => "known, and may go on".to_owned(),
                Some(Err(reason)) => format!("known, and refused as {}", reason.name()),
                None => "known, and to be judged again: rules have changed".to_owned(),
            };
            self.note("flow", decision, Some(Object::Flow));
        } else if key.is_some() {
            self.note("flow", "a new one".to_owned(), None);
        }
        let Ok(passage) = passage::of(side, packet, item) else { return };
        let judgement = judge(side.snapshot(), &passage);
        let default = default_between(&passage.from, &passage.to).map_or("nothing", Action::name);
        for (stage, end, rule) in [
            ("egress", passage.from.interface, judgement.egress),
            ("ingress", passage.to.interface, judgement.ingress),
        ] {
            match (end, rule) {
                (None, _) => {}
                (Some(_), Some(Rule { id, revision, action, stateless, .. })) => {
                    let stateless = if *stateless { ", stateless" } else { "" };
                    let object = Some(Object::Rule(id.to_string(), *revision));
                    self.note(stage, format!("{}{stateless}", action.name()), object);
                }
                (Some(interface), None) => {
                    let object = Some(Object::Vnet(interface.vnet.id));
                    self.note(stage, format!("no rule matches: {default} by default"), object);
                }
            }
        }
    }

    fn judged(&mut self, rejected: Option<DropReason>) {
        if let Some(reason) = rejected {
            self.note("verdict", format!("rejected as {}: its sender is told", reason.name()), None);
        }
    }
}

fn interface(interface: &Interface) -> Option<Object> {
    Some(Object::Interface(interface.name.clone()))
}

impl Observer<HeapPacket> for Tracer<'_> {
    fn lap(&mut self, _: &impl Clock, _: fn(&mut StageCycles) -> &mut u64) {}

    fn groups(&mut self, node: &FromNode<'_>, packets: &[(HeapPacket, NetworkHeader)]) {
        for (_, header) in packets.iter().filter(|(_, header)| header.protocol != protocol::IGMP) {
            let own = format!("{} and {} are its own", header.source, node.interface.mac);
            self.note("source", own, interface(node.interface));
            self.group(node.snapshot, &node.interface.vnet, header, Some(node.interface.port));
        }
    }

    fn outbound<'a>(
        &mut self,
        moment: Moment,
        node: &FromNode<'a>,
        flows: &mut Flows,
        burst: &mut Burst<HeapPacket, Outbound<'a>>,
    ) {
        let Some((packet, item)) = burst.first_mut() else { return };
        match moment {
            Moment::Found => {
                let (vnet, header) = (node.interface.vnet.id, item.header(packet));
                let (source, destination) = (header.source, header.destination);
                let own = if node.interface.owns(source) {
                    format!("{source} and {} are its own", node.interface.mac)
                } else {
                    format!(
                        "{source} is of a network that it may send from, and {} its own",
                        node.interface.mac
                    )
                };
                self.note("source", own, interface(node.interface));
                let (key, Path { routed, behind, external }) = (item.asked.key(), item.path);
                let known = node.interface.vnet.externals.ipv6(destination).filter(|_| external);
                if let Some(system) = known {
                    let way = format!("by the gateway, to the external {system}");
                    return self.note("next hop", way, Some(Object::Vnet(vnet)));
                }
                let way = match (routed, key.vnet_id()) {
                    (_, _) if behind => {
                        let by = if routed { "by the gateway, " } else { "" };
                        let route = node.interface.vnet.routes.of(destination);
                        let net =
                            route.map_or_else(|| destination.to_string(), |route| route.net.to_string());
                        format!("{by}to {net} by the router {}", key.ipv4())
                    }
                    (false, _) => "to the address itself".to_owned(),
                    (true, other) if other == vnet => "by the gateway, within its vnet".to_owned(),
                    (true, other) => format!("by the gateway, to vnet {other}"),
                };
                self.note("next hop", way, Some(Object::Vnet(vnet)));
                self.mapping(node.snapshot, key, item.mapping);
            }
            Moment::Checked => self.judge(node, (flows, node.clock), packet, item),
            Moment::Judged => {
                self.judged(item.rejected);
                if item.rejected.is_none()
                    && !item.path.external
                    && let Some(port) = item.mapping.and_then(|mapping| mapping.value().local)
                    && let Some(receiver) = node.snapshot.node(port)
                {
                    self.note("deliver", "on this host, as it is".to_owned(), interface(receiver));
                } else if item.rejected.is_none() {
                    self.note("translate", "IPv4 to IPv6, and out to the substrate".to_owned(), None);
                }
            }
        }
    }

    fn inbound<'a>(
        &mut self,
        moment: Moment,
        uplink: &FromUplink<'a>,
        flows: &mut Flows,
        burst: &mut Burst<HeapPacket, Inbound<'a>>,
    ) {
        let Some((packet, item)) = burst.first_mut() else { return };
        match moment {
            Moment::Found => {
                let destination = item.arrival(packet).destination;
                if item.is_for_group()
                    && let Some(vnet) = uplink.snapshot.vnet(item.vnets().1)
                {
                    let header = item.arrival(packet).header;
                    self.group(uplink.snapshot, vnet, &header, None);
                } else if let Some(receiver) = item.receiver {
                    let own = receiver.owns(item.arrival(packet).header.destination);
                    let whose = if own { "its own" } else { "of a network behind it" };
                    self.note("destination", format!("{destination} is {whose}"), interface(receiver));
                }
                if !item.arrival(packet).external {
                    self.mapping(uplink.snapshot, item.asked.key(), item.mapping);
                }
            }
            Moment::Checked => {
                let arrival = item.arrival(packet);
                let (source, router) = (arrival.source, arrival.not_a_node.is_some());
                let (behind, external, known) = (arrival.behind, arrival.external, arrival.header.source);
                let key = item.asked.key();
                let decision = if router {
                    format!("{source} is no node's, and its error is about what was sent")
                } else if external {
                    format!("{source} is an external, known as {known}")
                } else if behind {
                    format!("{source} is behind the router {}, which lives there", key.ipv4())
                } else {
                    format!("{source} is where it says it lives")
                };
                self.note("source", decision, Some(Object::Mapping(key.vnet_id(), key.ipv4())));
                self.judge(uplink, (flows, uplink.clock), packet, item);
            }
            Moment::Judged => {
                self.judged(item.rejected);
                if item.rejected.is_none()
                    && let Some(receiver) = item.receiver
                {
                    self.note("translate", "IPv6 to IPv4, and to the node".to_owned(), interface(receiver));
                }
            }
        }
    }
}
