//! Packets of stateful vnets: each belongs to a flow, and goes by what was said of that.
//!
//! A flow that is known and was judged by the policy of now needs no more than its entry. A new one is judged, and
//! entered if it may pass, as is one that is joined in the middle. The look-up of the mapping still says where it leads:
//! moves change that, not the flow.
//!
//! Flows of plain packets are asked for as they come in, which [`Ahead`] does; the rest of it runs after [`super::fragments`]: what is not the first of its datagram has no ports, and is there only because the
//! first one may pass. ICMP other than echo has no flow of its own and goes by the rules alone.

use super::fragments::{self, Fragments, Source};
use super::{Burst, FromNode, FromUplink, Inbound, Known, Outbound, Place, authorise};
use crate::drop::DropReason;
use crate::header::{NetworkHeader, contiguous};
use crate::id::{PortId, VnetId};
use crate::packet::Packet;
use crate::pipeline::BURST;
use crate::snapshot::Vnet;
use crate::table::flow::{
    Direction, Flow, FlowKey, FlowQuery, FlowTable, FlowView, FlowWorker, NewFlow, Observed, Sign, Tick,
};
use crate::table::qsbr::Reader;
use crate::wire::{icmp, protocol, tcp, udp};
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;
use core::time::Duration;

/// The flow table, as one worker uses it.
#[derive(Debug)]
pub(crate) struct Flows {
    table: FlowTable,
    worker: FlowWorker,
    steps: Steps,
}

impl Flows {
    pub(crate) fn new(table: FlowTable, worker: usize) -> Self {
        Self { worker: table.worker(worker), table, steps: Steps::default() }
    }

    /// Whether [`Self::turn`] has something to do even if there is nothing stateful.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.worker.is_waiting()
    }

    /// Ages flows, and takes back what nobody can see any more.
    pub(crate) fn turn(&mut self, reader: &Reader, now: Duration) {
        self.worker.turn(reader, Tick::at(now));
    }

    /// To ask for flows while packets come in, if there may be any; the burst before is forgotten.
    #[inline]
    pub(crate) fn ahead<'a>(&'a mut self, reader: &'a Reader, stateful: bool) -> Option<Ahead<'a>> {
        stateful.then(|| {
            self.steps.clear();
            Ahead { view: self.table.view(reader), steps: &mut self.steps }
        })
    }
}

/// What a packet is to the flow table.
#[derive(Debug, Clone, Copy)]
struct Step {
    query: FlowQuery,
    direction: Direction,
    sign: Sign,
}

/// Which of a burst's steps is a packet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u8);

/// The steps of a burst's packets, on their way.
#[derive(Debug, Default)]
struct Steps {
    steps: ArrayVec<Step, BURST>,
    /// How many of the first of them have come to the second step of their look-up.
    approached: usize,
}

/// How many flows are asked for before those of as many packets before them are approached.
const STRIDE: usize = 16;

impl Steps {
    fn clear(&mut self) {
        self.steps.clear();
        self.approached = 0;
    }

    /// One more; `None` if there is no room, which a burst's packets have.
    #[inline(always)]
    fn push(&mut self, step: Step) -> Option<Ticket> {
        let ticket = Ticket(self.steps.len() as u8);
        self.steps.try_push(step).ok().map(|()| ticket)
    }

    #[inline(always)]
    fn approach(&mut self, view: &FlowView<'_>, end: usize) {
        let due = self.steps.get_mut(self.approached..end).unwrap_or_default();
        view.approach(due.iter_mut().map(|step| &mut step.query));
        self.approached = end;
    }
}

/// Flows are asked for as soon as a packet's headers are read: what else is to be done until they are needed takes about as
/// long as the ways to memory do.
pub(crate) struct Ahead<'a> {
    view: FlowView<'a>,
    steps: &'a mut Steps,
}

/// Whoever looks ahead for flows, or nobody where there are none.
pub(crate) trait Foresight {
    /// Asks for the flow of a plain packet, if it is to have one; the packet's transport header has this number and begins at
    /// `transport`.
    fn ask(
        &mut self,
        packet: &impl Packet,
        vnet: &Vnet,
        protocol: u8,
        transport: usize,
        ends: (Ipv4Addr, Ipv4Addr),
    ) -> Option<Ticket>;
}

/// Where nothing is stateful.
pub(crate) struct Nothing;

impl Foresight for Nothing {
    #[inline(always)]
    fn ask(&mut self, _: &impl Packet, _: &Vnet, _: u8, _: usize, _: (Ipv4Addr, Ipv4Addr)) -> Option<Ticket> {
        None
    }
}

impl Foresight for Ahead<'_> {
    #[inline(always)]
    fn ask(
        &mut self,
        packet: &impl Packet,
        vnet: &Vnet,
        protocol: u8,
        transport: usize,
        (source, destination): (Ipv4Addr, Ipv4Addr),
    ) -> Option<Ticket> {
        if !vnet.stateful {
            return None;
        }
        let bytes = packet.head().get(transport..)?;
        let sign = match protocol {
            protocol::TCP => Sign::tcp(*bytes.get(FLAGS)?),
            _ => Sign::DATAGRAM,
        };
        let (from, to) = ports(bytes);
        let (key, direction) = FlowKey::new(vnet.id, protocol, (source, from), (destination, to));
        let ticket = self.steps.push(Step { query: self.view.ask(key), direction, sign });
        let asked = self.steps.steps.len();
        if asked.is_multiple_of(STRIDE) {
            self.steps.approach(&self.view, asked - STRIDE);
        }
        ticket
    }
}

/// Where TCP's flags are.
const FLAGS: usize = 13;

/// A direction's way to tell a packet's flow.
trait Side<I>: Source<I> {
    /// Whether the packet's vnet is stateful.
    fn is_stateful(&self, item: &I) -> bool;
    /// The vnets of its source and its destination.
    fn vnets(&self, item: &I) -> (VnetId, VnetId);
    fn reader(&self) -> &Reader;
    fn epoch(&self) -> u32;
}

impl Side<Outbound<'_>> for FromNode<'_> {
    fn is_stateful(&self, _: &Outbound<'_>) -> bool {
        self.interface.vnet.stateful
    }

    fn vnets(&self, _: &Outbound<'_>) -> (VnetId, VnetId) {
        (self.interface.vnet.id, self.interface.vnet.id)
    }

    fn reader(&self) -> &Reader {
        self.reader
    }

    fn epoch(&self) -> u32 {
        self.snapshot.policy_epoch
    }
}

impl Side<Inbound<'_>> for FromUplink<'_> {
    fn is_stateful(&self, item: &Inbound<'_>) -> bool {
        item.receiver.is_some_and(|receiver| receiver.vnet.stateful)
    }

    fn vnets(&self, item: &Inbound<'_>) -> (VnetId, VnetId) {
        item.vnets()
    }

    fn reader(&self) -> &Reader {
        self.reader
    }

    fn epoch(&self) -> u32 {
        self.snapshot.policy_epoch
    }
}

/// A node's packets; those to another node of this host come by here once, for both.
#[inline]
pub(crate) fn outbound<'a, P: Packet>(
    node: &FromNode<'a>,
    flows: &mut Flows,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, Outbound<'a>>,
) {
    if node.interface.vnet.stateful {
        run(node, flows, fragments, burst);
    }
}

/// The substrate's packets.
#[inline]
pub(crate) fn inbound<'a, P: Packet>(
    uplink: &FromUplink<'a>,
    flows: &mut Flows,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, Inbound<'a>>,
) {
    if uplink.snapshot.stateful {
        run(uplink, flows, fragments, burst);
    }
}

#[inline(never)]
fn run<'a, P: Packet, I: Known<'a>, S: Side<I> + Place<'a, I>>(
    side: &S,
    flows: &mut Flows,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, I>,
) {
    let Flows { table, worker, steps } = flows;
    let view = table.view(side.reader());
    let (now, epoch) = (Tick::at(side.clock().now()), side.epoch());
    let judge = Judge { table, reader: side.reader(), epoch, port: side.port(), now };
    // Those that nobody has asked for yet.
    burst.each(side, |packet, item| {
        if item.ticket().is_some() || !side.is_stateful(item) {
            return Ok(());
        }
        let read =
            read(side, packet, item).inspect_err(|reason| refused(side, fragments, packet, item, *reason))?;
        *item.ticket() = read
            .and_then(|(key, direction, sign)| steps.push(Step { query: view.ask(key), direction, sign }));
        Ok(())
    });
    steps.approach(&view, steps.steps.len());
    burst.each(side, |packet, item| {
        let step = item.ticket().and_then(|Ticket(number)| steps.steps.get(usize::from(number)));
        // Some belong to no flow.
        let Some(step) = step else { return Ok(()) };
        judge
            .pass(worker, step, view.answer(&step.query), || side.vnets(item))
            .inspect_err(|reason| refused(side, fragments, packet, item, *reason))
    });
}

/// The rest of a datagram goes the way of its first fragment.
fn refused<'a, P: Packet, I: Known<'a>, S: Side<I>>(
    side: &S,
    fragments: &mut Fragments<P>,
    packet: &P,
    item: &mut I,
    reason: DropReason,
) {
    if item.is_fragment() {
        fragments::refused(side, fragments, packet, item, reason);
    }
}

/// What judges the packets of a burst.
struct Judge<'a> {
    table: &'a FlowTable,
    reader: &'a Reader,
    /// The policy of now.
    epoch: u32,
    /// Where the packets come from.
    port: PortId,
    now: Tick,
}

impl Judge<'_> {
    /// `vnets`: those of the packet's source and destination.
    #[inline(always)]
    fn pass(
        &self,
        worker: &mut FlowWorker,
        step: &Step,
        found: Option<Flow<'_>>,
        vnets: impl Fn() -> (VnetId, VnetId),
    ) -> Result<(), DropReason> {
        match found {
            Some(flow) if self.observed(step, flow) == Observed::Ours => self.verdict(step, flow, vnets),
            ended => self.enter(worker, step, ended, vnets()),
        }
    }

    #[inline(always)]
    fn observed(&self, step: &Step, flow: Flow<'_>) -> Observed {
        flow.observe(step.direction, step.sign, self.now, self.table.timeouts())
    }

    /// What was said of a flow, if the policy is still the same.
    #[inline(always)]
    fn verdict(
        &self,
        step: &Step,
        flow: Flow<'_>,
        vnets: impl Fn() -> (VnetId, VnetId),
    ) -> Result<(), DropReason> {
        flow.judged(self.epoch).unwrap_or_else(|| self.judge_again(step, flow, vnets()))
    }

    /// Another policy judges a flow as it was opened, whichever way this packet goes.
    #[cold]
    fn judge_again(
        &self,
        step: &Step,
        flow: Flow<'_>,
        (source, destination): (VnetId, VnetId),
    ) -> Result<(), DropReason> {
        let verdict = if flow.opened() == step.direction {
            authorise::verdict(source, destination)
        } else {
            authorise::verdict(destination, source)
        };
        flow.judge(self.epoch, verdict);
        verdict
    }

    /// A new flow, which may follow one that has `ended`.
    #[cold]
    fn enter(
        &self,
        worker: &mut FlowWorker,
        step: &Step,
        ended: Option<Flow<'_>>,
        vnets: (VnetId, VnetId),
    ) -> Result<(), DropReason> {
        if let Some(ended) = ended {
            worker.remove(self.reader, ended);
        }
        let Step { query, direction, sign } = *step;
        let (source, destination) = vnets;
        let verdict = authorise::verdict(source, destination);
        // What may not pass takes no room.
        verdict?;
        let new = NewFlow { direction, sign, opener: self.port, epoch: self.epoch, verdict };
        match worker.insert(self.table, self.reader, query.key(), &new, self.now) {
            Ok((_, true)) => Ok(()),
            // Another worker, or an earlier packet of the burst, was faster.
            Ok((flow, false)) if self.observed(step, flow) == Observed::Ours => {
                self.verdict(step, flow, || vnets)
            }
            // One that has ended could not be taken out.
            Ok((_, false)) | Err(_) => Err(DropReason::FlowTableFull),
        }
    }
}

/// Reads what tells a packet's flow; `None` if it has none of its own.
#[inline]
fn read<'a, P: Packet, I: Known<'a>, S: Side<I>>(
    side: &S,
    packet: &mut P,
    item: &mut I,
) -> Result<Option<(FlowKey, Direction, Sign)>, DropReason> {
    let (_, vnet) = side.vnets(item);
    let header = *item.header(packet);
    if header.part().is_some_and(|part| part.offset > 0) {
        return Ok(None);
    }
    let ends = |from: u16, to: u16| ((header.source, from), (header.destination, to));
    let (protocol, (source, destination), sign) = match header.protocol {
        protocol::TCP => {
            let segment = transport::<{ tcp::LENGTH }>(packet, &header)?;
            let (source, destination) = ports(segment);
            (protocol::TCP, ends(source, destination), Sign::tcp(segment[FLAGS]))
        }
        // All of these begin with the ports.
        number @ (protocol::UDP | protocol::UDP_LITE | protocol::DCCP | protocol::SCTP) => {
            let (source, destination) = ports(transport::<{ udp::LENGTH }>(packet, &header)?);
            (number, ends(source, destination), Sign::DATAGRAM)
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let [kind, _, _, _, high, low, _, _] = *transport::<{ icmp::LENGTH }>(packet, &header)?;
            let echo = match header.protocol {
                protocol::ICMP => [icmp::v4::ECHO_REQUEST, icmp::v4::ECHO_REPLY],
                _ => [icmp::v6::ECHO_REQUEST, icmp::v6::ECHO_REPLY],
            };
            if !echo.contains(&kind) {
                return Ok(None);
            }
            let identifier = u16::from_be_bytes([high, low]);
            (protocol::ICMP, ends(identifier, identifier), Sign::DATAGRAM)
        }
        other => (other, ends(0, 0), Sign::DATAGRAM),
    };
    let (key, direction) = FlowKey::new(vnet, protocol, source, destination);
    Ok(Some((key, direction, sign)))
}

/// The first bytes of the transport header.
#[inline]
fn transport<'p, const LENGTH: usize>(
    packet: &'p mut impl Packet,
    header: &NetworkHeader,
) -> Result<&'p [u8; LENGTH], DropReason> {
    if usize::from(header.payload) < LENGTH {
        return Err(DropReason::TransportMalformed);
    }
    contiguous(packet, header.transport + LENGTH)?;
    let bytes = packet.head().get(header.transport..).and_then(<[u8]>::first_chunk);
    bytes.ok_or(DropReason::TransportMalformed)
}

#[inline]
const fn ports(transport: &[u8]) -> (u16, u16) {
    match transport {
        [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => (0, 0),
    }
}
