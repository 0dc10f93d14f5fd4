//! The pipeline of one worker: bursts in, packets out.

use crate::id::PortId;

/// How many packets a burst has at most.
pub const BURST: usize = 64;

/// Where the pipeline leaves packets: the worker's transmit buffers and its bounded way to the control thread.
pub trait Outbox<P> {
    /// The packet is to leave by `port`. What the port's queue cannot do itself is still to be done
    ///, and `port` may be gone.
    fn transmit(&mut self, port: PortId, packet: P);

    /// The packet, received on the uplink `port`, is for the engine itself (neighbour discovery, ICMPv6, anything to
    /// the engine's own addresses).
    fn punt(&mut self, port: PortId, packet: P);
}
