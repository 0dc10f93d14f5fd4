//! DPDK, the kernel's packet sockets and its taps, safely: the only crate of Overlane that speaks to them.
//!
//! [`Eal`] is DPDK's environment, [`Mempool`] its packet memory, [`Mbuf`] one owned packet. [`Port`] is a device with
//! a DPDK driver, [`PacketPort`] an interface of the kernel, [`TapPort`] the other end of one; all give the same
//! [`RxQueue`] and [`TxQueue`], each of which belongs to exactly one worker. A port closes only when its queues have come back, so nobody can poll a
//! closed port. The crate's README tells how the parts fit and what is subtle about them.
#![allow(unsafe_code)] // The crate's purpose; every block states its invariant.

mod clock;
mod devargs;
mod eal;
mod ethdev;
#[cfg(feature = "hash")]
pub mod hash;
mod mbuf;
mod mempool;
mod offload;
mod packet;
mod queue;
mod spares;
mod sys;
mod tally;
mod tap;
mod vnet;
mod worker;

pub use clock::TscClock;
pub use devargs::{Devargs, DevargsError, PciAddress};
pub use eal::{Eal, EalError, EalOptions, Hugepages, MemoryMode};
pub use ethdev::{Port, PortError, PortOptions};
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolError, MempoolOptions};
#[doc(no_inline)]
pub use overlane_dataplane::segment::Capabilities;
pub use packet::{Interface, PacketError, PacketOptions, PacketPort};
pub use queue::{BURST, CloseError, PortStats, QueueState, RxQueue, TxQueue};
pub use tap::{TapError, TapOptions, TapPort};
pub use worker::{WorkerError, WorkerThread};
