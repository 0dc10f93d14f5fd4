//! Rounds of one burst through all stages.
//!
//! Packets are used again and again: what left the pipeline gets its old headers back, with another destination (or
//! source) out of all that are mapped. That stamp is part of each round.

use crate::Result;
use crate::bed::{Bed, HEADERS_4, HEADERS_6, Sent};
use arrayvec::ArrayVec;
use core::iter::Cycle;
use core::time::Duration;
use overlane_dataplane::buffer::HeapPacket;
use overlane_dataplane::id::PortId;
use overlane_dataplane::packet::Packet;
use overlane_dataplane::pipeline::BURST;
use overlane_dataplane::wire::protocol;

/// Rounds in one direction, with `HEADERS` bytes of headers in front of TCP on the way in.
#[derive(Debug)]
pub struct Round<'b, const HEADERS: usize> {
    bed: &'b mut Bed,
    port: PortId,
    burst: ArrayVec<HeapPacket, BURST>,
    sent: Sent,
    stamps: Cycle<std::vec::IntoIter<[u8; HEADERS]>>,
    undo: fn(&mut HeapPacket),
}

/// From the node to all others. `length`: of frames, without the frame check sequence.
///
/// # Errors
/// If `length` leaves no room for the headers.
pub fn four_to_six(bed: &mut Bed, length: usize) -> Result<Round<'_, HEADERS_4>> {
    let stamps = bed.stamps_4(length, protocol::TCP)?;
    Round::new(bed, 0, stamps, length, |packet| {
        let _ = packet.trim_front(HEADERS_6 - HEADERS_4);
    })
}

/// From the node to all others, each packet the first of a flow: a datagram, or a SYN. The flow table fills, and then each takes
/// the place of one that is idle, which costs more than a free place.
#[derive(Debug)]
pub struct FirstPackets<'b> {
    round: Round<'b, HEADERS_4>,
    /// The beginning of the transport header, but for the source port.
    transport: [u8; 18],
    flows: u32,
}

/// How much time passes with a burst of new flows: so much that what fills the table has long been idle and makes way.
const BETWEEN: Duration = Duration::from_millis(50);

impl<'b> FirstPackets<'b> {
    /// New flows of this protocol, UDP or TCP, in frames of 60 bytes.
    ///
    /// # Errors
    /// Never.
    pub fn new(bed: &'b mut Bed, protocol: u8) -> Result<Self> {
        let stamps = bed.stamps_4(60, protocol)?;
        let undo = |packet: &mut HeapPacket| {
            let _ = packet.trim_front(HEADERS_6 - HEADERS_4);
        };
        let transport = match protocol {
            // Port 443, 26 bytes, some checksum.
            protocol::UDP => [1, 187, 0, 26, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            // Port 443, a header without options, SYN.
            _ => [1, 187, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 0, 1, 1, 0, 0],
        };
        Ok(Self { round: Round::new(bed, 0, stamps, 60, undo)?, transport, flows: 0 })
    }

    /// Carries a burst of them through all stages, and lets old flows go.
    ///
    /// # Panics
    /// If not every packet comes through.
    pub fn run(&mut self) {
        for packet in &mut self.round.burst {
            let bytes =
                packet.head_mut().get_mut(HEADERS_4..).and_then(|bytes| bytes.first_chunk_mut::<20>());
            if let Some([a, b, rest @ ..]) = bytes {
                // Another port whenever all destinations have been visited.
                [*a, *b] = (1_024 + (self.flows >> 14) as u16 % 60_000).to_be_bytes();
                *rest = self.transport;
            }
            self.flows = self.flows.wrapping_add(1);
        }
        self.round.run();
        let Bed { pipeline, clock, reader, snapshot, .. } = &mut *self.round.bed;
        clock.advance(BETWEEN);
        pipeline.age_flows(reader, snapshot);
    }
}

/// From all others to the node. `length`: of frames, without the frame check sequence.
///
/// # Errors
/// If `length` leaves no room for the headers.
pub fn six_to_four(bed: &mut Bed, length: usize) -> Result<Round<'_, HEADERS_6>> {
    let stamps = bed.stamps_6(length)?;
    Round::new(bed, 1, stamps, length, |packet| {
        let _ = packet.prepend(HEADERS_6 - HEADERS_4);
    })
}

impl<'b, const HEADERS: usize> Round<'b, HEADERS> {
    fn new(
        bed: &'b mut Bed,
        port: u16,
        stamps: Vec<[u8; HEADERS]>,
        length: usize,
        undo: fn(&mut HeapPacket),
    ) -> Result<Self> {
        let burst = bed.burst(length, HEADERS)?;
        let stamps = stamps.into_iter().cycle();
        Ok(Self { bed, port: PortId::new(port)?, burst, sent: Sent::default(), stamps, undo })
    }

    /// Gives each packet of the burst the headers of the next stamp; what every round does first.
    #[inline]
    pub fn stamp(&mut self) {
        for (packet, stamp) in self.burst.iter_mut().zip(&mut self.stamps) {
            if let Some(headers) = packet.head_mut().first_chunk_mut() {
                *headers = stamp;
            }
        }
    }

    /// Carries the burst through all stages.
    ///
    /// # Panics
    /// If not every packet comes through: nothing that is measured is dropped.
    #[inline]
    pub fn run(&mut self) {
        self.stamp();
        let Self { bed, port, burst, sent, undo, .. } = self;
        bed.pipeline.receive(&bed.reader, &bed.snapshot, *port, burst, sent);
        bed.reader.quiesce();
        assert_eq!(sent.0.len(), BURST, "every packet must come through");
        for mut packet in sent.0.drain(..) {
            undo(&mut packet);
            burst.push(packet);
        }
    }
}
