//! Ports on interfaces of the kernel, by packet sockets: for nodes on veth pairs and for shared uplinks.
//!
//! Two sockets, so that the two directions can have different workers. Received frames come through a ring that the
//! kernel fills without a system call of ours; one larger than a slot is announced there and read from the socket's
//! queue. Frames are sent by `sendmmsg`, a system call a burst, straight from the packets' segments: a transmit ring
//! would save nothing (it needs the call too), copy the frames a second time, and lend the kernel pages that a slow
//! receiver can keep for as long as it likes.

use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::sync::Arc;

use crate::queue::{RxKind, TxKind};
use crate::tally::{RxCounters, TxCounters, stats};
use crate::{Capabilities, CloseError, PortStats, QueueState, RxQueue, TxQueue};

mod ring;
mod rx;
mod socket;
mod tx;

pub(crate) use rx::PacketRx;
pub use socket::Interface;
use socket::Socket;
pub(crate) use tx::PacketTx;

/// How to set up a port on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketOptions {
    /// Bytes of the receive ring: 65,536 to 268,435,456. Its slots hold a frame of the interface's MTU each.
    pub ring_bytes: u32,
    /// Bytes of each socket's queue: 65,536 to 268,435,456. On reception it holds the frames larger than a slot,
    /// which a kernel's segmentation offload makes; on sending, what the interface has not taken yet.
    pub socket_bytes: u32,
    /// Receive frames to every address. A veth pair passes them in any case.
    pub promiscuous: bool,
}

impl Default for PacketOptions {
    fn default() -> Self {
        Self { ring_bytes: 4 << 20, socket_bytes: 4 << 20, promiscuous: true }
    }
}

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// There is no such interface in the calling thread's network namespace.
    #[error("no interface has number {0}")]
    NoInterface(u32),
    /// The interface's frames have no Ethernet header.
    #[error("interface {0} is not an Ethernet interface")]
    NotEthernet(String),
    /// An option is outside its legal values.
    #[error("{field} {value}: legal are 65536 to 268435456")]
    Option {
        /// Which option.
        field: &'static str,
        /// What was given.
        value: u32,
    },
    /// The kernel refused a step; packet sockets need the capability `CAP_NET_RAW`.
    #[error("cannot {step} on interface {interface}: {source}")]
    Os {
        /// The interface.
        interface: String,
        /// What was tried.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// A port on an interface of the kernel.
///
/// It is tied to the interface's number: another interface of the same name is not taken for it. The interface may
/// go down and up again; when it is removed, the queues' state is [`QueueState::Gone`] for good.
#[derive(Debug)]
pub struct PacketPort {
    shared: Arc<Shared>,
}

/// What port and queues share.
#[derive(Debug)]
struct Shared {
    ifindex: u32,
    name: String,
    rx: Socket,
    tx: Socket,
    /// The interface was seen to be down, and no frame has come since.
    down: AtomicBool,
    gone: AtomicBool,
    rx_counters: RxCounters,
    tx_counters: TxCounters,
}

impl PacketPort {
    /// Opens the interface with this number, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn open(
        ifindex: u32,
        options: &PacketOptions,
    ) -> Result<(Self, Vec<RxQueue>, Vec<TxQueue>), PacketError> {
        for (field, value) in [("ring_bytes", options.ring_bytes), ("socket_bytes", options.socket_bytes)] {
            if !(1 << 16..=1 << 28).contains(&value) {
                return Err(PacketError::Option { field, value });
            }
        }
        let nameless = |step| move |source| PacketError::Os { interface: ifindex.to_string(), step, source };
        let rx = Socket::new().map_err(nameless("open a packet socket"))?;
        let tx = Socket::new().map_err(nameless("open a packet socket"))?;
        let interface = rx.interface(ifindex).map_err(|_| PacketError::NoInterface(ifindex))?;
        if !interface.ethernet {
            return Err(PacketError::NotEthernet(interface.name));
        }
        let failed = |step| {
            let interface = interface.name.clone();
            move |source| PacketError::Os { interface, step, source }
        };
        set_up_tx(&tx, ifindex, options).map_err(failed("set up a sending socket"))?;
        let ring = set_up_rx(&rx, &interface, options).map_err(failed("set up a receiving socket"))?;
        let shared = Arc::new(Shared {
            ifindex,
            name: interface.name,
            rx,
            tx,
            down: AtomicBool::new(!interface.up),
            gone: AtomicBool::new(false),
            rx_counters: RxCounters::default(),
            tx_counters: TxCounters::default(),
        });
        let rx = RxQueue::new(RxKind::Packet(Box::new(PacketRx::new(Arc::clone(&shared), ring))));
        let tx = TxQueue::new(TxKind::Packet(Box::new(PacketTx::new(Arc::clone(&shared), capabilities()))));
        Ok((Self { shared }, vec![rx], vec![tx]))
    }

    /// The interface's name when it was opened.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The interface's number.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.shared.ifindex
    }

    /// What the kernel says of the interface now: address, MTU, state.
    ///
    /// # Errors
    /// `ENODEV` when it is gone.
    pub fn interface(&self) -> io::Result<Interface> {
        self.shared.tx.interface(self.shared.ifindex)
    }

    /// What the port can do to the packets it sends: the kernel does everything.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    /// Whether the interface is there.
    #[must_use]
    pub fn state(&self) -> QueueState {
        self.shared.notice_errors();
        self.shared.state()
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        let Shared { rx, rx_counters, tx_counters, .. } = &*self.shared;
        // Reading clears the kernel's count, so it is added up; if it cannot be read, the next time tells more.
        rx_counters.add_missed(rx.statistics().map_or(0, |statistics| statistics.drops.into()));
        stats(rx_counters, tx_counters)
    }

    /// Closes the port, for which both of its queues must be given back.
    ///
    /// # Errors
    /// [`CloseError::Queues`] with everything that was given.
    pub fn close(self, rx: Vec<RxQueue>, tx: Vec<TxQueue>) -> Result<(), CloseError<Self>> {
        let ours =
            |shared: Option<&Arc<Shared>>| shared.is_some_and(|shared| Arc::ptr_eq(shared, &self.shared));
        let all_ours =
            rx.iter().all(|queue| ours(queue.packet())) && tx.iter().all(|queue| ours(queue.packet()));
        if !all_ours || Arc::strong_count(&self.shared) != 1 + rx.len() + tx.len() {
            return Err(CloseError::Queues { port: self, rx, tx });
        }
        Ok(())
    }
}

impl RxQueue {
    fn packet(&self) -> Option<&Arc<Shared>> {
        match &self.kind {
            RxKind::Packet(queue) => Some(queue.shared()),
            RxKind::Ethdev(_) | RxKind::Tap(_) => None,
        }
    }
}

impl TxQueue {
    fn packet(&self) -> Option<&Arc<Shared>> {
        match &self.kind {
            TxKind::Packet(queue) => Some(queue.shared()),
            TxKind::Ethdev(_) | TxKind::Tap(_) => None,
        }
    }
}

impl Shared {
    fn state(&self) -> QueueState {
        if self.gone.load(Ordering::Relaxed) { QueueState::Gone } else { QueueState::Running }
    }

    /// Takes the errors noted on the sockets, without which `poll` would return at once for ever, and finds out
    /// whether the interface is gone or only down.
    fn notice_errors(&self) {
        let noted = [self.rx.take_error(), self.tx.take_error()];
        if noted.iter().any(Option::is_some) {
            self.down.store(true, Ordering::Relaxed);
        }
        // An interface that is removed goes down first, which is an error, and then goes, which is none.
        if self.down.load(Ordering::Relaxed) && self.rx.unbound() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that the kernel found no interface, or one that is down, to send on.
    fn note_missing(&self) {
        self.down.store(true, Ordering::Relaxed);
        self.notice_errors();
    }

    /// Notes that frames are coming, so the interface is up.
    fn note_up(&self) {
        if self.down.load(Ordering::Relaxed) {
            self.down.store(false, Ordering::Relaxed);
        }
    }
}

fn set_up_tx(socket: &Socket, ifindex: u32, options: &PacketOptions) -> io::Result<()> {
    socket.enable(libc::PACKET_VNET_HDR)?;
    socket.enable(libc::PACKET_QDISC_BYPASS)?;
    socket.set_buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.socket_bytes)?;
    socket.bind(ifindex, 0)
}

fn set_up_rx(socket: &Socket, interface: &Interface, options: &PacketOptions) -> io::Result<ring::Ring> {
    socket.set(libc::SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V2)?;
    socket.enable(libc::PACKET_VNET_HDR)?;
    socket.enable(libc::PACKET_COPY_THRESH)?;
    socket.ignore_outgoing()?;
    socket.set_buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.socket_bytes)?;
    let slot = interface.mtu.saturating_add(ring::OVERHEAD).clamp(2_048, 1 << 16).next_power_of_two();
    let ring = ring::Ring::new(socket, slot, options.ring_bytes)?;
    if options.promiscuous {
        socket.join_promiscuous(interface.index)?;
    }
    // Last: from here on frames arrive, all of them through the ring.
    socket.bind(interface.index, libc::ETH_P_ALL as u16)?;
    Ok(ring)
}

const TPACKET_V2: core::ffi::c_int = 1;

/// Linux cuts TCP for a packet socket since 2.6.37, UDP since 6.2.
fn capabilities() -> Capabilities {
    Capabilities {
        checksum: true,
        tcp_segmentation: true,
        udp_segmentation: kernel_release().is_some_and(|release| release >= (6, 2)),
    }
}

fn kernel_release() -> Option<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
