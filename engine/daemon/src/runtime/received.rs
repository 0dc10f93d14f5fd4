//! What sees packets between a receive queue and the stages.

use overlane_dataplane::id::PortId;
use overlane_dpdk::Mbuf;

/// Sees each burst that a worker has received before its stages do, and may change the packets' bytes: what measures
/// the engine varies addresses so. Chosen when the runtime is started, so that it costs nothing where there is none.
pub trait OnReceived: Clone + Send + 'static {
    /// `burst` was received on `port`; there is at least one packet. Runs on the worker: it must not wait, allocate or
    /// make a system call.
    fn received(&mut self, port: PortId, burst: &mut [Mbuf]);
}

/// Leaves packets as they were received.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsReceived;

impl OnReceived for AsReceived {
    #[inline(always)]
    fn received(&mut self, _: PortId, _: &mut [Mbuf]) {}
}
