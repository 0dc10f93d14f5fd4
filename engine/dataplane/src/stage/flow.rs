//! Packets of interfaces that are tracked: each belongs to a flow, and goes by what was said of that.
//!
//! A flow that is known and was judged by the policy of now needs no more than its entry; both its directions pass. A new
//! one is judged by the rules, and entered if it may pass. One that is joined in the middle, by a TCP segment that is no SYN
//! or by an echo reply, must be let pass both ways, since either end may have opened it: a rule that forbids what one end
//! has opened is not got round by an answer of the other. Only just after an engine has started one way is enough. The look-up of the mapping
//! still says where it leads: moves change that, not the flow.
//!
//! Flows of plain packets are asked for as they come in, which [`Ahead`] does; the rest of it runs after
//! [`super::fragments`]: what is not the first of its datagram has no ports, and is there only because the first one may
//! pass. ICMP errors belong to the flow of what they quote; other ICMP than echo goes by the rules alone.

use super::fragments::{self, Fragments};
use super::passage::{self, Side, transport};
use super::related;
use super::{Burst, FromNode, FromUplink, Inbound, Known, Outbound, Place};
use crate::drop::DropReason;
use crate::packet::Packet;
use crate::pipeline::BURST;
use crate::policy::{Passage, judge};
use crate::snapshot::{HostSnapshot, Interface};
use crate::table::flow::{
    Account, Direction, Flow, FlowKey, FlowQuery, FlowTable, FlowView, FlowWorker, Full, NewFlow, Observed,
    Sign, Tick,
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

    /// Makes a flow of another table known in this one, as it is there.
    pub(crate) fn copy(&mut self, reader: &Reader, flow: &Flow<'_>, now: Duration) {
        let entered = self.worker.insert(&self.table, reader, flow.key(), &flow.twin(), Tick::at(now));
        if let Ok((twin, true)) = entered {
            twin.catch_up(flow);
        }
    }

    /// Whether [`Self::turn`] has something to do even if nothing is tracked.
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
    /// Whether it can be a flow's first packet.
    begins: bool,
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
    /// Asks for the flow of a plain packet between `interface` and another in its vnet, if it is to have one; the packet's
    /// transport header has this number and begins at `transport`.
    fn ask(
        &mut self,
        packet: &impl Packet,
        interface: &Interface,
        protocol: u8,
        transport: usize,
        ends: (Ipv4Addr, Ipv4Addr),
    ) -> Option<Ticket>;
}

/// Where nothing is tracked.
pub(crate) struct Nothing;

impl Foresight for Nothing {
    #[inline(always)]
    fn ask(
        &mut self,
        _: &impl Packet,
        _: &Interface,
        _: u8,
        _: usize,
        _: (Ipv4Addr, Ipv4Addr),
    ) -> Option<Ticket> {
        None
    }
}

impl Foresight for Ahead<'_> {
    #[inline(always)]
    fn ask(
        &mut self,
        packet: &impl Packet,
        interface: &Interface,
        protocol: u8,
        transport: usize,
        (source, destination): (Ipv4Addr, Ipv4Addr),
    ) -> Option<Ticket> {
        if !interface.is_tracked() {
            return None;
        }
        let bytes = packet.head().get(transport..)?;
        let (sign, begins) = match protocol {
            protocol::TCP => tcp_sign(*bytes.get(FLAGS)?),
            _ => (Sign::DATAGRAM, true),
        };
        let (from, to) = ports(bytes);
        let (key, direction) = FlowKey::new(interface.vnet.id, protocol, (source, from), (destination, to));
        let ticket = self.steps.push(Step { query: self.view.ask(key), direction, sign, begins });
        let asked = self.steps.steps.len();
        if asked.is_multiple_of(STRIDE) {
            self.steps.approach(&self.view, asked - STRIDE);
        }
        ticket
    }
}

/// Where TCP's flags are.
const FLAGS: usize = 13;

/// A node's packets; those to another node of this host come by here once, for both.
#[inline]
pub(crate) fn outbound<'a, P: Packet>(
    node: &FromNode<'a>,
    flows: &mut Flows,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, Outbound<'a>>,
) {
    if node.snapshot.stateful {
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
fn run<'a, P: Packet, I: Known<'a>, S: Side<'a, I> + Place<'a, I>>(
    side: &S,
    flows: &mut Flows,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, I>,
) {
    let Flows { table, worker, steps } = flows;
    let view = table.view(side.reader());
    let (now, snapshot) = (Tick::at(side.clock().now()), side.snapshot());
    let judge = Judge { table, reader: side.reader(), snapshot, now };
    // Those that nobody has asked for yet.
    burst.each(side, |packet, item| {
        if item.ticket().is_some() || !side.is_tracked(item) {
            return Ok(());
        }
        let denied = match read(side, packet, item) {
            Ok(Belongs::ToFlow(key, direction, (sign, begins))) => {
                let ticket = steps.push(Step { query: view.ask(key), direction, sign, begins });
                *item.ticket() = ticket;
                // There is room for all of a burst; what had none must not pass as if it belonged to no flow.
                return ticket.map(|_| ()).ok_or(DropReason::FlowTableFull);
            }
            Ok(Belongs::ToFirst) => return Ok(()),
            Ok(Belongs::ToQuoted(key)) if judge.is_open(key) => return Ok(()),
            Ok(Belongs::ToQuoted(_) | Belongs::Alone) => passage::of(side, packet, item)
                .map_err(Denial::from)
                .and_then(|passage| judge.alone(&passage)),
            Err(reason) => Err(reason.into()),
        };
        denied.or_else(|denial| refuse(side, fragments, packet, item, denial))
    });
    steps.approach(&view, steps.steps.len());
    burst.each(side, |packet, item| {
        let step = item.ticket().and_then(|Ticket(number)| steps.steps.get(usize::from(number)));
        // Some belong to no flow.
        let Some(step) = step else { return Ok(()) };
        judge
            .pass(worker, step, view.answer(&step.query), || passage::of(side, packet, item))
            .or_else(|denial| refuse(side, fragments, packet, item, denial))
    });
    // The next burst may be of a sender that nobody looks ahead for, and its packets belong to these steps as little as to the
    // room that they take.
    steps.clear();
}

/// What must not pass is dropped here, or, if its sender is to be told, by the last stage. The rest of a datagram goes the
/// way of its first fragment.
#[cold]
#[inline(never)]
fn refuse<'a, P: Packet, I: Known<'a>, S: Side<'a, I>>(
    side: &S,
    fragments: &mut Fragments<P>,
    packet: &P,
    item: &mut I,
    Denial { reason, reject }: Denial,
) -> Result<(), DropReason> {
    if reject {
        item.reject(reason);
        return Ok(());
    }
    if item.is_fragment() {
        fragments::refused(side, fragments, packet, item, reason);
    }
    Err(reason)
}

/// A packet must not pass.
#[derive(Debug, Clone, Copy)]
struct Denial {
    reason: DropReason,
    /// Whether its sender is to be told.
    reject: bool,
}

impl From<DropReason> for Denial {
    fn from(reason: DropReason) -> Self {
        Self { reason, reject: false }
    }
}

/// What judges the packets of a burst.
struct Judge<'a, 'r> {
    table: &'r FlowTable,
    reader: &'r Reader,
    snapshot: &'a HostSnapshot,
    now: Tick,
}

impl<'a> Judge<'a, '_> {
    #[inline(always)]
    fn pass(
        &self,
        worker: &mut FlowWorker,
        step: &Step,
        found: Option<Flow<'_>>,
        passage: impl FnOnce() -> Result<Passage<'a>, DropReason>,
    ) -> Result<(), Denial> {
        match found {
            Some(flow) if self.observed(step, flow) == Observed::Ours => {
                match flow.judged(self.snapshot.policy_epoch) {
                    Some(Ok(())) if !self.snapshot.judges_sizes => Ok(()),
                    judged => self.judge_again(worker, step, flow, judged, &passage()?),
                }
            }
            ended => self.enter(worker, step, ended, &passage()?),
        }
    }

    #[inline(always)]
    fn observed(&self, step: &Step, flow: Flow<'_>) -> Observed {
        flow.observe(step.direction, step.sign, self.now, self.table.timeouts())
    }

    /// What is said of a packet that belongs to no flow.
    fn alone(&self, passage: &Passage<'a>) -> Result<(), Denial> {
        let judgement = judge(self.snapshot, passage);
        judgement.verdict.map_err(|reason| Denial { reason, reject: judgement.reject })
    }

    /// Whether a flow is known that may go on.
    #[cold]
    fn is_open(&self, key: FlowKey) -> bool {
        let flow = self.table.lookup(self.reader, key);
        flow.and_then(|flow| flow.judged(self.snapshot.policy_epoch)) == Some(Ok(()))
    }

    /// Another policy judges a flow as it was opened, whichever way this packet goes; where sizes matter, each packet that
    /// goes that way is judged.
    #[cold]
    #[inline(never)]
    fn judge_again(
        &self,
        worker: &mut FlowWorker,
        step: &Step,
        flow: Flow<'_>,
        judged: Option<Result<(), DropReason>>,
        passage: &Passage<'a>,
    ) -> Result<(), Denial> {
        let (forth, by_size) = (flow.opened() == step.direction, looks_at_size(passage));
        match judged {
            Some(Ok(())) if forth && by_size => return self.alone(passage),
            Some(verdict) => return verdict.map_err(Denial::from),
            None => {}
        }
        if by_size && !forth {
            // What size the packets that opened it had is not known any more.
            worker.remove(self.reader, flow);
            return self.alone(passage);
        }
        let opened = if forth { *passage } else { passage.reversed() };
        let mut judgement = judge(self.snapshot, &opened);
        if judgement.verdict.is_ok() && flow.is_joined() {
            judgement = judge(self.snapshot, &opened.reversed());
        }
        match judgement.verdict {
            Ok(()) if !judgement.stateless => {
                flow.judge(self.snapshot.policy_epoch, Ok(()));
                Ok(())
            }
            // Each direction needs a judgement of its own from now on.
            Ok(()) => {
                worker.remove(self.reader, flow);
                self.alone(passage)
            }
            Err(reason) => {
                worker.remove(self.reader, flow);
                Err(Denial { reason, reject: judgement.reject })
            }
        }
    }

    /// A new flow, which may follow one that has `ended`.
    #[cold]
    fn enter(
        &self,
        worker: &mut FlowWorker,
        step: &Step,
        ended: Option<Flow<'_>>,
        passage: &Passage<'a>,
    ) -> Result<(), Denial> {
        if let Some(ended) = ended {
            worker.remove(self.reader, ended);
        }
        let judgement = judge(self.snapshot, passage);
        // What may not pass takes no room.
        judgement.verdict.map_err(|reason| Denial { reason, reject: judgement.reject })?;
        if judgement.stateless {
            return Ok(());
        }
        let Step { query, direction, sign, begins } = *step;
        // Of a flow that is joined in the middle nobody knows which end opened it: either may have. TCP and ping show
        // what is none of the first packet.
        let shows = matches!(passage.protocol, protocol::TCP | protocol::ICMP);
        let is_joined = !begins || !shows && is_settling(passage);
        if is_joined && !self.snapshot.resumes {
            self.alone(&passage.reversed())?;
        }
        let from = &passage.from;
        let account = match from.interface {
            Some(sender) => Account::of_port(sender.port),
            None => self.table.account_of(from.vnet, from.address),
        };
        let epoch = self.snapshot.policy_epoch;
        let new = NewFlow { direction, sign, account, joined: is_joined, epoch, verdict: Ok(()) };
        match worker.insert(self.table, self.reader, query.key(), &new, self.now) {
            Ok((_, true)) => Ok(()),
            // Another worker, or an earlier packet of the burst, was faster.
            Ok((flow, false)) if self.observed(step, flow) == Observed::Ours => match flow.judged(epoch) {
                Some(Ok(())) => Ok(()),
                judged => self.judge_again(worker, step, flow, judged, passage),
            },
            Err(Full::Account) => Err(DropReason::FlowLimit.into()),
            // One that has ended could not be taken out.
            Ok((_, false)) | Err(Full::Table) => Err(DropReason::FlowTableFull.into()),
        }
    }
}

/// Whether some rule of either end looks at sizes.
fn looks_at_size(passage: &Passage<'_>) -> bool {
    let ends = [passage.from.interface, passage.to.interface].into_iter().flatten();
    ends.filter_map(|interface| interface.policy.as_ref()).any(|policy| !policy.holds_for_flows())
}

/// Whether either end was not tracked a moment ago, so that what comes may be an answer to what nobody has noted.
fn is_settling(passage: &Passage<'_>) -> bool {
    let ends = [passage.from.interface, passage.to.interface];
    ends.into_iter().flatten().any(|interface| interface.settling)
}

/// What a TCP segment with these flags shows of its flow, and whether it can be its first.
#[inline(always)]
const fn tcp_sign(flags: u8) -> (Sign, bool) {
    let sign = Sign::tcp(flags);
    (sign, sign.opens())
}

/// The flow that the verdict on a packet depends on, if there is one: its own, or the one of what it quotes.
pub(crate) fn key_of<'a, P: Packet, I: Known<'a>, S: Side<'a, I>>(
    side: &S,
    packet: &mut P,
    item: &mut I,
) -> Option<FlowKey> {
    match read(side, packet, item) {
        Ok(Belongs::ToFlow(key, ..) | Belongs::ToQuoted(key)) => Some(key),
        Ok(Belongs::ToFirst | Belongs::Alone) | Err(_) => None,
    }
}

/// What a packet goes by.
enum Belongs {
    /// What is said of its flow: what it shows of that, and whether it can be its first.
    ToFlow(FlowKey, Direction, (Sign, bool)),
    /// What is said of the flow of the packet that it quotes.
    ToQuoted(FlowKey),
    /// What was said of its datagram's first fragment, or has been seen to.
    ToFirst,
    /// The rules alone.
    Alone,
}

/// Reads what a packet goes by.
#[inline]
fn read<'a, P: Packet, I: Known<'a>, S: Side<'a, I>>(
    side: &S,
    packet: &mut P,
    item: &mut I,
) -> Result<Belongs, DropReason> {
    let vnets = side.vnets(item);
    let header = *item.header(packet);
    if header.part().is_some_and(|part| part.offset > 0) || side.is_routers(item) {
        return Ok(Belongs::ToFirst);
    }
    let ends = |from: u16, to: u16| ((header.source, from), (header.destination, to));
    let (protocol, (source, destination), sign) = match header.protocol {
        protocol::TCP => {
            let segment = transport::<{ tcp::LENGTH }>(packet, &header)?;
            let (source, destination) = ports(segment);
            (protocol::TCP, ends(source, destination), tcp_sign(segment[FLAGS]))
        }
        // All of these begin with the ports.
        number @ (protocol::UDP | protocol::UDP_LITE | protocol::DCCP | protocol::SCTP) => {
            let (source, destination) = ports(transport::<{ udp::LENGTH }>(packet, &header)?);
            (number, ends(source, destination), (Sign::DATAGRAM, true))
        }
        number if number == S::ICMP => {
            let [kind, _, _, _, high, low, _, _] = *transport::<{ icmp::LENGTH }>(packet, &header)?;
            let [request, reply] = passage::echo(S::ICMP);
            if kind != request && kind != reply {
                let vnet = side.snapshot().vnet(vnets.0).filter(|own| own.id == vnets.1);
                let is_on_the_way = |to| vnet.is_some_and(|vnet| vnet.next_hops(to).contains(&header.source));
                let quoted = related::flow(packet, &header, S::ICMP, vnets, is_on_the_way);
                return Ok(quoted.map_or(Belongs::Alone, Belongs::ToQuoted));
            }
            let identifier = u16::from_be_bytes([high, low]);
            (protocol::ICMP, ends(identifier, identifier), (Sign::DATAGRAM, kind == request))
        }
        other => (other, ends(0, 0), (Sign::DATAGRAM, true)),
    };
    let vnet = related::flow_vnet((source.0, vnets.0), (destination.0, vnets.1));
    let (key, direction) = FlowKey::new(vnet, protocol, source, destination);
    Ok(Belongs::ToFlow(key, direction, sign))
}

#[inline]
const fn ports(transport: &[u8]) -> (u16, u16) {
    match transport {
        [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => (0, 0),
    }
}
