//! What the reconciler needs of the data plane and of the kernel, so that tests can stand in for both.

use crate::provisioning::model::{DeviceName, Mapping, Target};
pub use crate::runtime::OpenPort;
use core::future::Future;
use core::net::Ipv6Addr;
use overlane_dataplane::address::{HostPrefix, Locator};
use overlane_dataplane::id::PortId;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::resolve::Answer;
use overlane_dataplane::snapshot::HostSnapshot;
use overlane_dataplane::table::mapping::State;

/// A port to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortSpec {
    /// A node's veth, by its host side.
    Veth(DeviceName),
    /// A node's tap, to be made with the node's hardware address.
    Tap(DeviceName, MacAddr),
    /// An uplink through a packet socket.
    PacketUplink(DeviceName),
    /// An uplink that is a DPDK device, with the MTU that it is to have, if that is said.
    DevargsUplink(String, Option<u16>),
}

/// The data plane, as the one task that changes it sees it.
pub trait Dataplane: Send + 'static {
    /// Keeps the host's kernel away from the device of a tenant, opens it and gives its queues to workers; nothing is
    /// delivered to it before it is in a snapshot.
    fn open_port(&self, spec: PortSpec) -> impl Future<Output = Result<OpenPort, String>> + Send + 'static;

    /// Takes a port back from the workers and closes it. It is in no snapshot any more. Whatever fails is logged: there
    /// is nothing that the caller could do.
    fn close_port(&self, port: PortId) -> impl Future<Output = ()> + Send + 'static;

    /// Makes workers go by this snapshot from their next turn on.
    ///
    /// # Errors
    /// When a worker holds back too many old ones; the newest is to be published again later.
    fn publish(&self, snapshot: HostSnapshot) -> Result<(), String>;

    /// Sends a frame of the engine's own out of a port. It may be lost, as any frame may.
    fn inject(&self, port: PortId, frame: &[u8]);

    /// Writes a mapping; `local` is the port it is delivered to on this host, and `state` says how it is to be taken. Gives
    /// where it led before, if it led anywhere: one of a node that is gone does not.
    ///
    /// # Errors
    /// When the table has no room; nothing is changed.
    fn put_mapping(
        &mut self,
        target: Target,
        mapping: &Mapping,
        local: Option<PortId>,
        state: State,
    ) -> Result<Option<Locator>, String>;

    /// Removes a mapping, if it is there. Gives where it led.
    fn remove_mapping(&mut self, target: Target) -> Option<Locator>;

    /// Tells a worker what it has asked. It may be lost.
    fn answer(&self, worker: usize, answer: Answer);

    /// What tells how far workers have come.
    type Grace: Copy + core::fmt::Debug + Send;

    /// The beginning of a grace period: when it is over, every worker goes by all that was published before.
    fn begin_grace(&self) -> Self::Grace;

    /// Whether a grace period is over.
    fn is_over(&self, grace: Self::Grace) -> bool;

    /// Frees what can be freed by now; whether the table is behind with that.
    fn maintain(&mut self) -> bool;
}

/// The host's kernel.
pub trait Kernel: Clone + Send + Sync + 'static {
    /// Keeps the host's kernel away from what the substrate sends to a prefix and to the engine's own addresses.
    fn isolate_prefix(
        &self,
        ifindex: u32,
        prefix: Option<HostPrefix>,
        addresses: Vec<Ipv6Addr>,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static;
}

/// Something happened to a port whose device the kernel does not tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortEvent {
    /// Its device is gone for good.
    Gone(PortId),
    /// Its link went up or down.
    Link(PortId, bool),
    /// It has another MTU.
    Mtu(PortId, u16),
}

/// What happened to a kernel interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is there, or it has changed.
    New(Link),
    /// It is not there any more.
    Gone(u32),
}

/// A kernel interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index, unique while it exists.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up and has a carrier.
    pub up: bool,
    /// Its MTU.
    pub mtu: u32,
}
