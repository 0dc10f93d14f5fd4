//! Ports on taps: interfaces that we make for nodes, whose other end is a descriptor of ours.
//!
//! What a node's kernel sends on the interface is read here, frame by frame, straight into packets' buffers, and what is
//! written here its kernel receives. Each frame has a virtio header before it, so that partial checksums and packets
//! that stand for many cross both ways, as on a packet port. The kernel has no call for several frames at once.

use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::queue::{RxKind, TxKind};
use crate::tally::{RxCounters, TxCounters, stats};
use crate::{Capabilities, CloseError, Interface, PortStats, QueueState, RxQueue, TxQueue};

mod device;
mod place;
mod rx;
mod tx;

use device::{Device, Ready};
use place::Place;
pub(crate) use rx::TapRx;
pub(crate) use tx::TapTx;

/// How to make a tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapOptions {
    /// Bytes sent that the node's kernel may hold before it takes no more: 65,536 to 268,435,456. What it received
    /// is its own as soon as its stack has it, so this bounds what waits in its queueing disciplines.
    pub socket_bytes: u32,
}

impl Default for TapOptions {
    fn default() -> Self {
        Self { socket_bytes: 4 << 20 }
    }
}

/// Why a tap was not made.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The kernel would not take the name, or would make another of it.
    #[error(
        "{0:?} is no name for a tap: 1 to 15 bytes without '/', ':', '%' and blanks, and not \".\" or \"..\""
    )]
    Name(String),
    /// An option is outside its legal values.
    #[error("{field} {value}: legal are 65536 to 268435456")]
    Option {
        /// Which option.
        field: &'static str,
        /// What was given.
        value: u32,
    },
    /// There is an interface of that name.
    #[error("there is an interface {0} already")]
    Exists(String),
    /// The kernel refused a step; it takes the capability `CAP_NET_ADMIN` and the device `/dev/net/tun`.
    #[error("cannot {step} for tap {name}: {source}")]
    Os {
        /// The tap.
        name: String,
        /// What was tried.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// A port on a tap.
///
/// The interface lives as long as the port: closing it, or the end of the process, takes it away, wherever it is by then.
/// It may be renamed and moved to another network namespace. Who deletes it makes the queues [`QueueState::Gone`].
#[derive(Debug)]
pub struct TapPort {
    shared: Arc<Shared>,
    place: Mutex<Place>,
}

/// What port and queues share.
#[derive(Debug)]
struct Shared {
    name: String,
    device: Device,
    gone: AtomicBool,
    rx_counters: RxCounters,
    tx_counters: TxCounters,
}

impl TapPort {
    /// Makes a tap of this name in the network namespace of the calling thread. It is down.
    ///
    /// # Errors
    /// [`TapError`].
    pub fn create(name: &str, options: &TapOptions) -> Result<(Self, Vec<RxQueue>, Vec<TxQueue>), TapError> {
        check_name(name)?;
        if !(1 << 16..=1 << 28).contains(&options.socket_bytes) {
            return Err(TapError::Option { field: "socket_bytes", value: options.socket_bytes });
        }
        let failed = |step| move |source| TapError::Os { name: name.to_owned(), step, source };
        let device = Device::open().map_err(failed("open /dev/net/tun"))?;
        match device.create(name) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(TapError::Exists(name.to_owned()));
            }
            created => created.map_err(failed("make an interface"))?,
        }
        device.set_header_length().map_err(failed("set the length of headers"))?;
        let cuts_udp = device.offer_offloads().map_err(failed("offer offloads"))?;
        device.set_send_buffer(options.socket_bytes).map_err(failed("bound what is sent"))?;
        let place = Place::open().map_err(failed("open a netlink socket"))?;
        let capabilities =
            Capabilities { checksum: true, tcp_segmentation: true, udp_segmentation: cuts_udp };
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            device,
            gone: AtomicBool::new(false),
            rx_counters: RxCounters::default(),
            tx_counters: TxCounters::default(),
        });
        let rx = RxQueue::new(RxKind::Tap(TapRx::new(Arc::clone(&shared))));
        let tx = TxQueue::new(TxKind::Tap(Box::new(TapTx::new(Arc::clone(&shared), capabilities))));
        Ok((Self { shared, place: Mutex::new(place) }, vec![rx], vec![tx]))
    }

    /// The interface's name when it was made.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What the kernel says of the interface now: name, number, address, MTU, state, in whatever network namespace it is.
    ///
    /// # Errors
    /// The kernel's reason; that the interface is gone among them. Linux before 5.7 cannot tell where it is.
    pub fn interface(&self) -> io::Result<Interface> {
        let (interface, dropped) = self.place.lock().look(&self.shared.device)?;
        self.shared.rx_counters.set_missed(dropped);
        Ok(interface)
    }

    /// Whether the interface is there.
    #[must_use]
    pub fn state(&self) -> QueueState {
        self.shared.ready();
        self.shared.state()
    }

    /// What it has counted. What it missed is as of the last time that the kernel could be asked.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        let _ = self.interface();
        stats(&self.shared.rx_counters, &self.shared.tx_counters)
    }

    /// Closes the port, for which both of its queues must be given back; the interface is gone then.
    ///
    /// # Errors
    /// [`CloseError::Queues`] with everything that was given.
    pub fn close(self, rx: Vec<RxQueue>, tx: Vec<TxQueue>) -> Result<(), CloseError<Self>> {
        let ours =
            |shared: Option<&Arc<Shared>>| shared.is_some_and(|shared| Arc::ptr_eq(shared, &self.shared));
        let all_ours = rx.iter().all(|queue| ours(queue.tap())) && tx.iter().all(|queue| ours(queue.tap()));
        if !all_ours || Arc::strong_count(&self.shared) != 1 + rx.len() + tx.len() {
            return Err(CloseError::Queues { port: self, rx, tx });
        }
        Ok(())
    }
}

impl RxQueue {
    fn tap(&self) -> Option<&Arc<Shared>> {
        match &self.kind {
            RxKind::Tap(queue) => Some(queue.shared()),
            RxKind::Ethdev(_) | RxKind::Packet(_) => None,
        }
    }
}

impl TxQueue {
    fn tap(&self) -> Option<&Arc<Shared>> {
        match &self.kind {
            TxKind::Tap(queue) => Some(queue.shared()),
            TxKind::Ethdev(_) | TxKind::Packet(_) => None,
        }
    }
}

impl Shared {
    fn state(&self) -> QueueState {
        if self.gone.load(Ordering::Relaxed) { QueueState::Gone } else { QueueState::Running }
    }

    /// Whether a frame waits; notes that the interface is gone.
    fn ready(&self) -> bool {
        match self.device.ready() {
            Ready::Nothing => false,
            Ready::Frame => true,
            Ready::Gone => {
                self.note_gone();
                false
            }
        }
    }

    fn note_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// The names that Linux takes for interfaces (`dev_valid_name`), but for templates, of which it makes other names.
fn check_name(name: &str) -> Result<(), TapError> {
    let length = (1..libc::IFNAMSIZ).contains(&name.len());
    let bytes = name.bytes().all(|byte| !matches!(byte, b'/' | b':' | b'%' | 0..=b' ' | 0x7f | 0xa0));
    if length && bytes && name != "." && name != ".." {
        return Ok(());
    }
    Err(TapError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_refuses_or_changes_are_refused() {
        for name in ["t", "tap-shop.1", "123456789012345", "...", "täp"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "1234567890123456", "tap%d", "a/b", "a:b", "a b", "a\tb", "a\0b", "a\nb"]
        {
            assert!(matches!(check_name(name), Err(TapError::Name(refused)) if refused == name), "{name:?}");
        }
    }
}
