//! Parts of datagrams: each must go with its datagram's first, which tells what transport it is.
//!
//! They are never put together. One that comes before the first waits, as it was received, and is carried through all
//! stages once more when the first has passed.

use super::{Burst, FromNode, FromUplink, Inbound, Known, Outbound, Place};
use crate::counters::Drops;
use crate::drop::DropReason;
use crate::fragment::{FragmentLimits, FragmentTable, Key, Part, Verdict};
use crate::header::NetworkHeader;
use crate::id::{PortId, VnetId};
use crate::packet::{Clock, Packet};
use crate::pipeline::BURST;
use crate::snapshot::{HostSnapshot, PortRole};
use arrayvec::ArrayVec;
use core::time::Duration;

/// The datagrams in fragments that a worker follows.
#[derive(Debug)]
pub(crate) struct Fragments<P> {
    table: FragmentTable<P>,
    /// Datagrams of the running burst whose first fragment has come after others.
    released: ArrayVec<Key, BURST>,
}

impl<P> Fragments<P> {
    pub(crate) fn new(limits: FragmentLimits, seed: [u64; 2]) -> Self {
        Self { table: FragmentTable::new(limits, seed), released: ArrayVec::new_const() }
    }

    /// Whether any packet waits.
    #[inline]
    pub(crate) const fn is_holding(&self) -> bool {
        self.table.is_holding()
    }

    /// Gives what waited for a first fragment in the last burst, a datagram at a time; `false` when there is no more.
    #[inline]
    pub(crate) fn take_released(&mut self, burst: &mut ArrayVec<P, BURST>) -> bool {
        while let Some(key) = self.released.pop() {
            // A datagram has no more than a burst.
            self.table.release(&key, |packet| drop(burst.try_push(packet)));
            if !burst.is_empty() {
                return true;
            }
        }
        false
    }

    /// Drops what has waited too long.
    pub(crate) fn expire(&mut self, now: Duration, lost: &Lost<'_>) {
        self.table.expire(now, &mut |key, reason, packet| lost.count(key, reason, packet));
    }

    /// All of a datagram goes the way of its first fragment, which could not go on.
    #[cold]
    fn refuse(&mut self, key: &Key, reason: DropReason, lost: &Lost<'_>) {
        self.table.refuse(key, reason, &mut |key, reason, packet| lost.count(key, reason, packet));
    }
}

/// Where packets are counted that waited and are lost, whatever port they came from.
pub(crate) struct Lost<'a> {
    pub(crate) snapshot: &'a HostSnapshot,
    pub(crate) worker: usize,
    pub(crate) unplaced: &'a Drops,
}

impl Lost<'_> {
    fn count<P>(&self, key: &Key, reason: DropReason, packet: P) {
        drop(packet);
        let port = match self.snapshot.role(key.port) {
            PortRole::Node(interface) => interface.traffic.get(self.worker).map(|traffic| &traffic.drops),
            PortRole::Uplink(_) => {
                self.snapshot.vnet(key.vnet).and_then(|vnet| vnet.uplink_drops.get(self.worker))
            }
            PortRole::Absent => None,
        };
        port.unwrap_or(self.unplaced).count(reason);
    }
}

/// A direction's way to tell a fragment's datagram.
pub(crate) trait Source<I> {
    /// The port that the packets came from.
    fn port(&self) -> PortId;
    /// The vnet of a packet's source.
    fn vnet(&self, item: &I) -> VnetId;
    fn clock(&self) -> &dyn Clock;
    fn lost(&self) -> Lost<'_>;
}

impl Source<Outbound<'_>> for FromNode<'_> {
    fn port(&self) -> PortId {
        self.interface.port
    }

    fn vnet(&self, _: &Outbound<'_>) -> VnetId {
        self.interface.vnet.id
    }

    fn clock(&self) -> &dyn Clock {
        self.clock
    }

    fn lost(&self) -> Lost<'_> {
        Lost { snapshot: self.snapshot, worker: self.worker, unplaced: &self.traffic.drops }
    }
}

impl Source<Inbound<'_>> for FromUplink<'_> {
    fn port(&self) -> PortId {
        self.uplink.port
    }

    fn vnet(&self, item: &Inbound<'_>) -> VnetId {
        item.vnets().0
    }

    fn clock(&self) -> &dyn Clock {
        self.clock
    }

    fn lost(&self) -> Lost<'_> {
        Lost { snapshot: self.snapshot, worker: self.worker, unplaced: &self.traffic.drops }
    }
}

/// Judges the fragments in a burst; what is none goes on.
#[inline]
pub(crate) fn run<'a, P: Packet, I: Known<'a>, S: Source<I> + Place<'a, I>>(
    source: &S,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, I>,
) {
    if burst.has_parts() {
        judge(source, fragments, burst);
    }
}

#[cold]
#[inline(never)]
fn judge<'a, P: Packet, I: Known<'a>, S: Source<I> + Place<'a, I>>(
    source: &S,
    fragments: &mut Fragments<P>,
    burst: &mut Burst<P, I>,
) {
    let (now, places) = (source.clock().now(), source.lost());
    let Fragments { table, released } = fragments;
    for (packet, mut item) in core::mem::replace(burst, Burst::new()) {
        let vnet = source.vnet(&item);
        let header = *item.header(&packet);
        let Some(key) = key(&header, source.port(), vnet) else {
            burst.push(packet, item);
            continue;
        };
        let drops = source.drops(&item);
        let mut lost = |key: &Key, reason, packet| places.count(key, reason, packet);
        let verdict = part(&header).and_then(|part| table.judge(now, &key, part, &mut lost));
        match verdict {
            Ok(Verdict::Pass) => burst.push(packet, item),
            Ok(Verdict::PassAndRelease) => {
                burst.push(packet, item);
                // There are no more datagrams than packets in a burst.
                let _ = released.try_push(key);
            }
            Ok(Verdict::Hold) => {
                if let Err((reason, packet)) = table.hold(&key, packet) {
                    drop(packet);
                    drops.count(reason);
                }
            }
            Err(reason) => drops.count(reason),
        }
    }
}

/// A packet was refused after it was judged: if it was the first of its datagram, so is the rest.
#[cold]
#[inline(never)]
pub(crate) fn refused<'a, P: Packet, I: Known<'a>, S: Source<I>>(
    source: &S,
    fragments: &mut Fragments<P>,
    packet: &P,
    item: &mut I,
    reason: DropReason,
) {
    let vnet = source.vnet(item);
    let header = item.header(packet);
    let first = header.part().is_some_and(|part| part.offset == 0);
    if let Some(key) = key(header, source.port(), vnet).filter(|_| first) {
        fragments.refuse(&key, reason, &source.lost());
    }
}

fn key(header: &NetworkHeader, port: PortId, vnet: VnetId) -> Option<Key> {
    let fragment = header.part()?;
    Some(Key {
        port,
        vnet,
        source: header.source,
        destination: header.destination,
        protocol: header.protocol,
        identification: fragment.identification,
    })
}

fn part(header: &NetworkHeader) -> Result<Part, DropReason> {
    let fragment = header.part().ok_or(DropReason::FragmentMalformed)?;
    Part::new_checked(header.protocol, fragment.offset, fragment.more, header.payload)
}
