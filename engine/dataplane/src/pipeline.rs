//! The pipeline of one worker: bursts in, packets out.

use crate::address::HostPrefix;
use crate::counters::Traffic;
use crate::drop::DropReason;
use crate::failure::Failures;
use crate::fragment::FragmentLimits;
use crate::header::NetworkHeader;
use crate::id::PortId;
use crate::packet::{Clock, Packet, Pool};
use crate::resolve::{Answer, Outcome, Question, ResolveLimits, Side, Waiting};
use crate::snapshot::{HostSnapshot, Interface, PortRole, Uplink};
use crate::stage::flow::Flows;
use crate::stage::fragments::{Fragments, Lost};
use crate::stage::{
    Aside, Burst, FromNode, FromUplink, Inbound, Outbound, arp, authorise, classify_node, classify_uplink,
    deliver, dhcp, flow, fragments, group, next_hop, resolution, verify_source,
};
use crate::table::flow::FlowTable;
use crate::table::mapping::MappingTable;
use crate::table::qsbr::Reader;
use crate::translate::Identifications;
use arrayvec::ArrayVec;
use std::sync::Arc;

/// How many packets a burst has at most.
pub const BURST: usize = 64;

/// Where the pipeline leaves packets: the worker's transmit buffers and its bounded way to the control thread.
pub trait Outbox<P> {
    /// The packet is to leave by `port`, and `port` may be gone. What the port's queue cannot do itself is still to be
    /// done, by [`segment::finish`](crate::segment::finish).
    fn transmit(&mut self, port: PortId, packet: P);

    /// The packets are to leave by `port`, in their order, as by [`Self::transmit`]. Those that are left in `packets` are
    /// dropped.
    fn transmit_burst(&mut self, port: PortId, packets: &mut ArrayVec<P, BURST>) {
        for packet in packets.drain(..) {
            self.transmit(port, packet);
        }
    }

    /// The packet, received on the uplink `port`, is for the engine itself (neighbour discovery, ICMPv6, anything to
    /// the engine's own addresses).
    fn punt(&mut self, port: PortId, packet: P);

    /// A router of the substrate says that IPv6 packets to `host` must not be larger than `mtu` bytes (at least 1,280), and
    /// what it quotes can have been sent from here. What becomes of it is the control thread's; it may be lost, since the
    /// next packet that is too large brings it again.
    fn path_mtu(&mut self, host: HostPrefix, mtu: u16);

    /// A mapping is needed that is resolved on demand; the answer comes by [`Pipeline::answer`]. Says whether there was room
    /// for the question: there never is where nobody answers any.
    fn ask(&mut self, question: Question) -> bool {
        let _ = question;
        false
    }
}

/// What stages took, as the pipeline's [`Clock::cycles`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageCycles {
    /// Reading and checking headers, and looking up where they lead; ARP too.
    pub classify: u64,
    /// Seeing whether packets may pass: verifying their sources, fragments, flows.
    pub authorise: u64,
    /// Making packets what they are to leave as, and gathering them by port.
    pub translate: u64,
}

/// Whoever looks on while a burst goes from stage to stage.
pub(crate) trait Observer<P> {
    /// A part of the stages is done.
    fn lap(&mut self, clock: &impl Clock, part: fn(&mut StageCycles) -> &mut u64);

    /// What is left of packets of a node.
    #[inline(always)]
    fn outbound<'a>(&mut self, _: Moment, _: &FromNode<'a>, _: &mut Flows, _: &mut Burst<P, Outbound<'a>>) {}

    /// What a node sends to groups, or says of them.
    fn groups(&mut self, _: &FromNode<'_>, _: &[(P, NetworkHeader)]) {}

    /// What is left of packets from the substrate.
    #[inline(always)]
    fn inbound<'a>(&mut self, _: Moment, _: &FromUplink<'a>, _: &mut Flows, _: &mut Burst<P, Inbound<'a>>) {}
}

/// How far packets have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Mappings have been looked up.
    Found,
    /// They are from where they say and go where somebody is; rules come next.
    Checked,
    /// Rules and flows let them pass, or their senders are to be told.
    Judged,
}

/// Adds up what passes between its calls, if anybody wants to know.
struct Stopwatch<'s> {
    last: u64,
    spent: Option<&'s mut StageCycles>,
}

impl<'s> Stopwatch<'s> {
    fn start(clock: &impl Clock, spent: Option<&'s mut StageCycles>) -> Self {
        Self { last: if spent.is_some() { clock.cycles() } else { 0 }, spent }
    }
}

impl<P> Observer<P> for Stopwatch<'_> {
    #[inline(always)]
    fn lap(&mut self, clock: &impl Clock, part: fn(&mut StageCycles) -> &mut u64) {
        if let Some(spent) = &mut self.spent {
            let now = clock.cycles();
            *part(spent) += now.saturating_sub(core::mem::replace(&mut self.last, now));
        }
    }
}

/// The stages of one worker, and what they keep between bursts.
#[derive(Debug)]
pub struct Pipeline<K: Pool, C> {
    worker: usize,
    table: MappingTable,
    pool: K,
    clock: C,
    identifications: Identifications,
    fragments: Fragments<K::Packet>,
    flows: Flows,
    waiting: Waiting<K::Packet>,
    seed: [u64; 2],
    unplaced: Arc<Traffic>,
    failures: Failures,
}

impl<K: Pool, C: Clock> Pipeline<K, C> {
    /// The pipeline of worker `worker` (its index in every [`crate::counters::PerWorker`]). `seed` is secret and random,
    /// so that nobody can aim fragments at one place of the table.
    ///
    /// # Panics
    /// If the flow table was made for fewer workers.
    #[must_use]
    pub fn new(
        worker: usize,
        table: MappingTable,
        flows: FlowTable,
        pool: K,
        clock: C,
        fragments: FragmentLimits,
        seed: [u64; 2],
    ) -> Self {
        Self {
            worker,
            table,
            pool,
            clock,
            identifications: Identifications::new(worker),
            fragments: Fragments::new(fragments, seed),
            flows: Flows::new(flows, worker),
            waiting: Waiting::new(ResolveLimits::default(), seed),
            seed,
            unplaced: Arc::default(),
            failures: Failures::new(seed[0]),
        }
    }

    /// With other limits of what is resolved on demand.
    #[must_use]
    pub fn with_resolve_limits(mut self, limits: ResolveLimits) -> Self {
        self.waiting = Waiting::new(limits, self.seed);
        self
    }

    /// Packets from ports that are in no snapshot (any more), which have no other counters.
    #[must_use]
    pub const fn unplaced(&self) -> &Arc<Traffic> {
        &self.unplaced
    }

    /// What was refused because somebody claimed to be whom provisioning does not know there, until it is handed over.
    #[must_use]
    pub const fn failures(&self) -> &Failures {
        &self.failures
    }

    /// [`Self::receive_timed`], and nobody wants to know what it takes.
    pub fn receive(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        port: PortId,
        burst: &mut ArrayVec<K::Packet, BURST>,
        out: &mut impl Outbox<K::Packet>,
    ) {
        self.receive_timed(reader, snapshot, port, burst, out, None);
    }

    /// Carries a burst received on `port` through all stages, and empties it. Each packet is transmitted, punted,
    /// counted as dropped, or a fragment that is held until its datagram's first one comes, or [`Self::expire`]
    /// counts it; what is transmitted is counted by whoever hands it to the port.
    ///
    /// What each part of it takes is added to `spent`.
    pub fn receive_timed(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        port: PortId,
        burst: &mut ArrayVec<K::Packet, BURST>,
        out: &mut impl Outbox<K::Packet>,
        spent: Option<&mut StageCycles>,
    ) {
        let mut watch = Stopwatch::start(&self.clock, spent);
        let (traffic, cap) = match snapshot.role(port) {
            PortRole::Node(interface) => (interface.traffic.get(self.worker), interface.cap.as_ref()),
            PortRole::Uplink(uplink) => (uplink.traffic.get(self.worker), None),
            PortRole::Absent => (None, None),
        };
        let traffic = traffic.unwrap_or(&self.unplaced);
        count_received(traffic, burst);
        if let Some(cap) = cap {
            cap.police(self.clock.now(), burst, &traffic.drops);
        }
        self.carry(reader, snapshot, port, burst, out, &mut watch);
    }

    /// Carries a burst that has been counted through all stages, and with it what it releases.
    #[inline(always)]
    fn carry(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        port: PortId,
        burst: &mut ArrayVec<K::Packet, BURST>,
        out: &mut impl Outbox<K::Packet>,
        watch: &mut impl Observer<K::Packet>,
    ) {
        match snapshot.role(port) {
            PortRole::Node(interface) => {
                self.node_burst(reader, snapshot, interface, burst, out, watch);
                while self.fragments.take_released(burst) {
                    self.node_burst(reader, snapshot, interface, burst, out, watch);
                }
            }
            PortRole::Uplink(uplink) => {
                self.uplink_burst(reader, snapshot, uplink, burst, out, watch);
                while self.fragments.take_released(burst) {
                    self.uplink_burst(reader, snapshot, uplink, burst, out, watch);
                }
            }
            PortRole::Absent => {
                for _ in burst.drain(..) {
                    self.unplaced.drops.count(DropReason::PortGone);
                }
            }
        }
    }

    /// Carries one packet through all stages, with somebody who looks on.
    pub(crate) fn observe(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        port: PortId,
        packet: K::Packet,
        out: &mut impl Outbox<K::Packet>,
        observer: &mut impl Observer<K::Packet>,
    ) {
        let mut burst = ArrayVec::new();
        burst.push(packet);
        self.carry(reader, snapshot, port, &mut burst, out, observer);
    }

    /// Takes the answer to a question that was [asked](Outbox::ask), and carries on what waited for it. A mapping that is
    /// known is in the table by now.
    #[cold]
    pub fn answer(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        answer: Answer,
        out: &mut impl Outbox<K::Packet>,
    ) {
        self.waiting.answer(answer, self.clock.now());
        let mut burst = ArrayVec::new();
        while let Some(port) = self.waiting.take(answer.question, &mut burst) {
            if answer.outcome == Outcome::Unanswered {
                for _ in burst.drain(..) {
                    count_unanswered(snapshot, answer.question, self.worker, &self.unplaced);
                }
            } else {
                let mut watch = Stopwatch::start(&self.clock, None);
                self.carry(reader, snapshot, port, &mut burst, out, &mut watch);
            }
        }
    }

    /// Drops fragments whose datagram's first one has not come in time, and what waits for a mapping that nobody tells. Once a
    /// turn; without any that wait it costs
    /// nothing.
    #[inline]
    pub fn expire(&mut self, snapshot: &HostSnapshot) {
        if self.is_holding() {
            self.expire_held(snapshot);
        }
    }

    #[cold]
    fn expire_held(&mut self, snapshot: &HostSnapshot) {
        let now = self.clock.now();
        let lost = Lost { snapshot, worker: self.worker, unplaced: &self.unplaced.drops };
        self.fragments.expire(now, &lost);
        let (worker, unplaced) = (self.worker, &self.unplaced);
        self.waiting.expire(now, |question, _| count_unanswered(snapshot, question, worker, unplaced));
    }

    /// Whether fragments or questions wait, so that [`Self::expire`] is to be called before long.
    #[inline]
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.fragments.is_holding() || self.waiting.is_asking()
    }

    /// Ages flows, and takes back what no worker can see any more: once a turn. Where nothing is stateful it costs nothing.
    #[inline]
    pub fn age_flows(&mut self, reader: &Reader, snapshot: &HostSnapshot) {
        if snapshot.stateful || self.flows.is_waiting() {
            self.flows.turn(reader, self.clock.now());
        }
    }

    fn node_burst(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        interface: &Interface,
        received: &mut ArrayVec<K::Packet, BURST>,
        out: &mut impl Outbox<K::Packet>,
        watch: &mut impl Observer<K::Packet>,
    ) {
        let (worker, table, clock) = (self.worker, &self.table, &self.clock);
        let traffic = interface.traffic.get(worker).unwrap_or(&self.unplaced);
        let view = &table.view(reader);
        let failures = &self.failures;
        let node = FromNode { snapshot, view, table, reader, clock, interface, worker, traffic, failures };
        let (mut aside, mut burst) = (Aside::new(), Burst::new());

        classify_node::run(&node, &mut self.flows, received, &mut aside, &mut burst);
        if !aside.arps.is_empty() {
            arp::run(&node, &mut self.waiting, &mut aside.arps, out);
        }
        if !aside.dhcps.is_empty() {
            dhcp::run(&node, &mut aside.dhcps, out);
        }
        if !aside.groups.is_empty() {
            watch.groups(&node, &aside.groups);
            group::outbound(&node, &self.pool, &mut aside.groups, out);
        }
        burst.find(view);
        resolution::outbound(&node, &mut self.waiting, &mut burst, out);
        watch.outbound(Moment::Found, &node, &mut self.flows, &mut burst);
        watch.lap(clock, |spent| &mut spent.classify);
        let (mut gone, mut to_gateway) = (false, false);
        burst.each(&node, |_, item: &mut Outbound<'_>| {
            let to = item.asked.key();
            if item.path.external {
                return Ok(());
            }
            match next_hop::reachable(&node, to.ipv4(), item.mapping) {
                // Its sender is told, if it may send there at all.
                Err(DropReason::DstTerminated) => gone = true,
                // Where the gateway answers DHCP it may be asked.
                Err(DropReason::GatewayItself) if interface.vnet.dhcp.is_some() => to_gateway = true,
                reachable => reachable?,
            }
            // Only by a gateway packets leave their vnet.
            if item.path.routed { authorise::verdict(Some(interface), to.vnet_id()) } else { Ok(()) }
        });
        if gone {
            resolution::terminated(&node, &mut burst, out);
        }
        if to_gateway {
            dhcp::to_gateway(&node, &mut burst, out);
        }
        fragments::run(&node, &mut self.fragments, &mut burst);
        watch.outbound(Moment::Checked, &node, &mut self.flows, &mut burst);
        flow::outbound(&node, &mut self.flows, &mut self.fragments, &mut burst);
        watch.outbound(Moment::Judged, &node, &mut self.flows, &mut burst);
        watch.lap(clock, |spent| &mut spent.authorise);
        deliver::outbound(&node, &self.pool, &mut self.fragments, &mut burst, out);
        watch.lap(clock, |spent| &mut spent.translate);
    }

    fn uplink_burst(
        &mut self,
        reader: &Reader,
        snapshot: &HostSnapshot,
        uplink: &Uplink,
        received: &mut ArrayVec<K::Packet, BURST>,
        out: &mut impl Outbox<K::Packet>,
        watch: &mut impl Observer<K::Packet>,
    ) {
        let (worker, table, clock) = (self.worker, &self.table, &self.clock);
        let traffic = uplink.traffic.get(worker).unwrap_or(&self.unplaced);
        let prefix = snapshot.prefix;
        let view = &table.view(reader);
        let failures = &self.failures;
        let uplink =
            FromUplink { snapshot, view, table, reader, clock, uplink, prefix, worker, traffic, failures };
        let mut burst = Burst::new();

        classify_uplink::run(&uplink, &mut self.flows, received, &mut burst, out);
        if !snapshot.layout.has_slots() {
            classify_uplink::receivers_by_mapping(&uplink, &mut burst);
        }
        burst.find(view);
        resolution::inbound(&uplink, &mut self.waiting, &mut burst, out);
        watch.inbound(Moment::Found, &uplink, &mut self.flows, &mut burst);
        watch.lap(clock, |spent| &mut spent.classify);
        burst.each(&uplink, |packet, item: &mut Inbound<'_>| {
            verify_source::check(&uplink, packet, item, out)?;
            let (source, destination) = item.vnets();
            if source == destination { Ok(()) } else { authorise::verdict(item.receiver, source) }
        });
        if burst.has_groups() {
            group::inbound(&uplink, &self.pool, &self.identifications, &mut burst, out);
        }
        fragments::run(&uplink, &mut self.fragments, &mut burst);
        watch.inbound(Moment::Checked, &uplink, &mut self.flows, &mut burst);
        flow::inbound(&uplink, &mut self.flows, &mut self.fragments, &mut burst);
        watch.inbound(Moment::Judged, &uplink, &mut self.flows, &mut burst);
        watch.lap(clock, |spent| &mut spent.authorise);
        let (fragments, identifications) = (&mut self.fragments, &self.identifications);
        deliver::inbound(&uplink, &self.pool, fragments, &mut burst, identifications, out);
        watch.lap(clock, |spent| &mut spent.translate);
    }
}

/// Counts a packet that waited for an answer in vain where its like is counted.
fn count_unanswered(snapshot: &HostSnapshot, question: Question, worker: usize, unplaced: &Traffic) {
    let interface = snapshot.node(question.port);
    let (drops, reason) = match question.side {
        Side::Destination => {
            let traffic = interface.and_then(|interface| interface.traffic.get(worker));
            (traffic.map(|traffic| &traffic.drops), DropReason::ResolveUnanswered)
        }
        Side::Source => {
            let drops = interface.and_then(|interface| interface.vnet.uplink_drops.get(worker));
            (drops, DropReason::VerifyUnanswered)
        }
    };
    drops.unwrap_or(&unplaced.drops).count(reason);
}

fn count_received<P: Packet>(traffic: &Traffic, burst: &[P]) {
    traffic.rx_packets.add(burst.len() as u64);
    traffic.rx_bytes.add(burst.iter().map(|packet| packet.len() as u64).sum());
}
