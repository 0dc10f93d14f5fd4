//! Devices with a DPDK driver: by PCI address or virtual, attached and detached at run time.

use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};
use std::ffi::CString;
use std::io;
use std::sync::Arc;

use overlane_dataplane::mac::MacAddr;

use self::frames::Frames;
use crate::queue::{RxKind, TxKind};
use crate::{Capabilities, CloseError, Devargs, Eal, Mempool, PortStats, QueueState, RxQueue, TxQueue, sys};

mod configure;
mod frames;
mod queue;

use queue::Segments;
pub(crate) use queue::{EthdevRx, EthdevTx};

/// How to set up a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortOptions {
    /// Receive queues: 1 to what the device has. With more than one, the device spreads flows by RSS.
    pub rx_queues: u16,
    /// Transmit queues: 1 to what the device has.
    pub tx_queues: u16,
    /// Descriptors of each receive queue; moved to what the device allows.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue; moved to what the device allows.
    pub tx_descriptors: u16,
    /// Bytes of an IP packet: 68 to what the device allows, and at most the interface's if the device is on one of the
    /// kernel's. `None`: the interface's, else as the device comes up.
    pub mtu: Option<u16>,
    /// Receive frames to every address, not only the device's own and groups.
    pub promiscuous: bool,
}

impl Default for PortOptions {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1_024,
            tx_descriptors: 1_024,
            mtu: None,
            promiscuous: false,
        }
    }
}

/// Why a device could not be attached or changed.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// A port of that name is open.
    #[error("device {0} is attached already")]
    AlreadyAttached(String),
    /// DPDK's build has room for no further port.
    #[error("DPDK's build has room for {} ports and all are taken", Port::CAPACITY)]
    TooManyPorts,
    /// No driver, no such device, or the driver refused it; its reason is in the log, under the target `dpdk`.
    #[error(
        "cannot probe device {device}: {source} (DPDK's own messages are in the log under target `dpdk`)"
    )]
    Probe {
        /// The device.
        device: String,
        /// DPDK's reason.
        source: io::Error,
    },
    /// An option is outside what the device allows.
    #[error("{field} {value} of device {device}: legal are {legal}")]
    Option {
        /// The device.
        device: String,
        /// Which option.
        field: &'static str,
        /// What was given.
        value: u64,
        /// What is legal.
        legal: String,
    },
    /// The driver refused a step.
    #[error("cannot {step} of device {device}: {source}")]
    Device {
        /// The device.
        device: String,
        /// What was tried.
        step: &'static str,
        /// The driver's reason.
        source: io::Error,
    },
}

/// A started device with a DPDK driver.
///
/// Its queues keep the device open: should the port be dropped, the device closes when the last queue is gone.
/// [`Port::close`] is the orderly way, and tells what went wrong.
#[derive(Debug)]
pub struct Port {
    device: Arc<Device>,
    mac: MacAddr,
    /// The MTU that it was given, if its driver was not told all of it.
    mtu: Option<u16>,
    mtu_max: u16,
    interface: Option<u32>,
    capabilities: Capabilities,
}

/// What port and queues share; its drop closes the device, so there is none to poll when it is closed.
#[derive(Debug)]
struct Device {
    id: u16,
    name: CString,
    eal: Eal,
    /// Outlives the device, whose receive queues allocate from it.
    pool: Mempool,
    frames: Frames,
    counters: Counters,
    open: bool,
}

/// What the driver does not count.
#[derive(Debug, Default)]
struct Counters {
    tx_full: AtomicU64,
    tx_refused: AtomicU64,
}

impl Port {
    /// Ports that DPDK's build has room for.
    pub const CAPACITY: u32 = sys::RTE_MAX_ETHPORTS;

    /// Attaches the device and starts it. Its receive queues take their buffers from `pool`.
    ///
    /// # Errors
    /// [`PortError`]; the device is detached again then.
    pub fn attach(
        eal: &Eal,
        devargs: &Devargs,
        pool: &Mempool,
        options: &PortOptions,
    ) -> Result<(Self, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let mut devices = eal.devices();
        let devargs = &frames::with_slots(devargs);
        let name = devargs.name_to_c_string();
        if devices.contains(&name) {
            return Err(PortError::AlreadyAttached(devargs.name().to_owned()));
        }
        if devices.len() >= Self::CAPACITY as usize {
            return Err(PortError::TooManyPorts);
        }
        let id = probe(devargs, &name)?;
        devices.insert(name.clone());
        // From here on the value's drop detaches; it takes the lock itself.
        let device = Device {
            id,
            name,
            eal: eal.clone(),
            pool: pool.clone(),
            frames: Frames::of(devargs),
            counters: Counters::default(),
            open: true,
        };
        let started = device.start(options);
        drop(devices);
        let Started { mac, mtu_max, offloads, segments, interface } = started?;
        let capabilities = capabilities(offloads);
        // What a capture file holds was sent by nobody here.
        let untold = ["net_af_xdp", "net_af_packet", "net_pcap"].iter().any(|driver| devargs.is_of(driver))
            && devargs.value("rx_pcap").is_none();
        let device = Arc::new(device);
        let rx = (0..options.rx_queues)
            .map(|queue| RxQueue::new(RxKind::Ethdev(EthdevRx::new(Arc::clone(&device), queue, untold))))
            .collect();
        let tx = (0..options.tx_queues)
            .map(|queue| {
                TxQueue::new(TxKind::Ethdev(Box::new(EthdevTx::new(
                    Arc::clone(&device),
                    queue,
                    capabilities,
                    segments,
                ))))
            })
            .collect();
        let mtu = options.mtu.filter(|_| device.frames.understates());
        Ok((Self { device, mac, mtu, mtu_max, interface, capabilities }, rx, tx))
    }

    /// The device's name within DPDK.
    #[must_use]
    pub fn name(&self) -> String {
        self.device.name()
    }

    /// The device's hardware address.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The index of the kernel's interface that the device sends and receives by, such as `net_af_xdp`'s `iface`. The
    /// kernel knows its link and MTU; the driver does not. None for a tap: its interface is the far end.
    #[must_use]
    pub fn interface(&self) -> Option<u32> {
        self.interface
    }

    /// What the device can do to the packets it sends.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Bytes of the largest IP packet that passes whole, should the device's or its interface's MTU be raised while it
    /// is open.
    #[must_use]
    pub fn mtu_max(&self) -> u16 {
        self.mtu_max
    }

    /// Bytes of data room that buffers for the device must have, 0 for any. `net_af_packet` insists on buffers as
    /// large as its slots, which are made for its interface's MTU as it is when this, and when the device, is asked.
    #[must_use]
    pub fn data_room(devargs: &Devargs) -> u16 {
        frames::data_room(devargs)
    }

    /// Bytes of an IP packet, as the driver knows it: not always what the kernel knows of the device's interface.
    ///
    /// # Errors
    /// [`PortError::Device`].
    pub fn mtu(&self) -> Result<u16, PortError> {
        if let Some(mtu) = self.mtu {
            return Ok(mtu);
        }
        let mut mtu = 0;
        // SAFETY: the port is open; the place lives through the call.
        let result = unsafe { sys::rte_eth_dev_get_mtu(self.device.id, &raw mut mtu) };
        self.device.check("read the MTU", result).map(|()| mtu)
    }

    /// Changes the MTU while the device runs, where its driver can do that.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn set_mtu(&self, mtu: u16) -> Result<(), PortError> {
        let _one_at_a_time = self.device.eal.devices();
        // SAFETY: the port is open.
        let result = unsafe { sys::rte_eth_dev_set_mtu(self.device.id, mtu) };
        self.device.check("set the MTU", result)
    }

    /// Whether the link is up, as the driver knows it.
    #[must_use]
    pub fn link_up(&self) -> bool {
        // SAFETY: a plain structure of integers; zero is a value of it.
        let mut link: sys::rte_eth_link = unsafe { mem::zeroed() };
        // SAFETY: the port is open; the place lives through the call.
        unsafe { sys::rte_eth_link_get_nowait(self.device.id, &raw mut link) == 0 && link.link_status() == 1 }
    }

    /// Whether the device is there.
    #[must_use]
    pub fn state(&self) -> QueueState {
        self.device.state()
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        // SAFETY: a plain structure of integers; zero is a value of it.
        let mut stats: sys::rte_eth_stats = unsafe { mem::zeroed() };
        // SAFETY: the port is open; the place lives through the call. If it fails, the counts stay zero.
        unsafe { sys::rte_eth_stats_get(self.device.id, &raw mut stats) };
        PortStats {
            rx_packets: stats.ipackets,
            tx_packets: stats.opackets,
            rx_missed: stats.imissed,
            rx_no_buffer: stats.rx_nombuf,
            rx_errors: stats.ierrors,
            tx_full: self.device.counters.tx_full.load(Ordering::Relaxed),
            tx_lost: stats.oerrors,
            tx_refused: self.device.counters.tx_refused.load(Ordering::Relaxed),
        }
    }

    /// Stops, closes and detaches the device, for which all of its queues must be given back.
    ///
    /// # Errors
    /// [`CloseError::Queues`] with everything that was given, or [`CloseError::Device`].
    pub fn close(self, rx: Vec<RxQueue>, tx: Vec<TxQueue>) -> Result<(), CloseError<Self>> {
        let ours =
            |device: Option<&Arc<Device>>| device.is_some_and(|device| Arc::ptr_eq(device, &self.device));
        let all_ours =
            rx.iter().all(|queue| ours(queue.ethdev())) && tx.iter().all(|queue| ours(queue.ethdev()));
        if !all_ours || Arc::strong_count(&self.device) != 1 + rx.len() + tx.len() {
            return Err(CloseError::Queues { port: self, rx, tx });
        }
        drop((rx, tx));
        let name = self.name();
        match Arc::into_inner(self.device) {
            Some(mut device) => {
                device.shut_down().map_err(|(step, source)| CloseError::Device { port: name, step, source })
            }
            // Queues cannot be cloned, so the count above was right and this does not happen; the drop closes then.
            None => Ok(()),
        }
    }
}

impl RxQueue {
    fn ethdev(&self) -> Option<&Arc<Device>> {
        match &self.kind {
            RxKind::Ethdev(queue) => Some(queue.device()),
            RxKind::Packet(_) | RxKind::Tap(_) => None,
        }
    }
}

impl TxQueue {
    fn ethdev(&self) -> Option<&Arc<Device>> {
        match &self.kind {
            TxKind::Ethdev(queue) => Some(queue.device()),
            TxKind::Packet(_) | TxKind::Tap(_) => None,
        }
    }
}

/// Lets DPDK find the device, unless it did so when it started (as with PCI functions), and returns its port.
fn probe(devargs: &Devargs, name: &CString) -> Result<u16, PortError> {
    let mut id = 0;
    // SAFETY: a C string and a place that live through the call.
    let mut find = || unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
    if find() == 0 {
        return Ok(id);
    }
    let failed = |result: i32| PortError::Probe {
        device: devargs.to_string(),
        source: io::Error::from_raw_os_error(result.saturating_neg()),
    };
    let text = devargs.to_c_string();
    // SAFETY: a C string that lives through the call; the caller holds the lock that makes this the only attempt.
    match unsafe { sys::rte_dev_probe(text.as_ptr()) } {
        0 => {}
        result => return Err(failed(result)),
    }
    match find() {
        0 => Ok(id),
        result => {
            // A device of another kind, a cryptographic one say: it is not to stay.
            let bus = if devargs.is_pci() { c"pci" } else { c"vdev" };
            // SAFETY: C strings that live through the call.
            unsafe { sys::rte_eal_hotplug_remove(bus.as_ptr(), name.as_ptr()) };
            Err(failed(result))
        }
    }
}

/// What is known of a device once it runs.
struct Started {
    mac: MacAddr,
    mtu_max: u16,
    /// Transmit offloads in use.
    offloads: u64,
    segments: Segments,
    interface: Option<u32>,
}

fn capabilities(offloads: u64) -> Capabilities {
    let checksum = sys::OVERLANE_TX_OFFLOAD_TCP_CKSUM | sys::OVERLANE_TX_OFFLOAD_UDP_CKSUM;
    Capabilities {
        checksum: offloads & checksum == checksum,
        tcp_segmentation: offloads & sys::OVERLANE_TX_OFFLOAD_TCP_TSO != 0,
        udp_segmentation: false,
    }
}

impl Device {
    fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    fn check(&self, step: &'static str, result: i32) -> Result<(), PortError> {
        match result {
            0.. => Ok(()),
            _ => Err(self.failed(step, io::Error::from_raw_os_error(result.saturating_neg()))),
        }
    }

    fn failed(&self, step: &'static str, source: io::Error) -> PortError {
        PortError::Device { device: self.name(), step, source }
    }

    fn option(&self, field: &'static str, value: u64, legal: String) -> PortError {
        PortError::Option { device: self.name(), field, value, legal }
    }

    fn info(&self) -> Result<sys::rte_eth_dev_info, PortError> {
        // SAFETY: a structure of integers and pointers; zero is a value of it.
        let mut info: sys::rte_eth_dev_info = unsafe { mem::zeroed() };
        // SAFETY: the port is open; the place lives through the call.
        let result = unsafe { sys::rte_eth_dev_info_get(self.id, &raw mut info) };
        self.check("read the capabilities", result).map(|()| info)
    }

    fn state(&self) -> QueueState {
        // SAFETY: the port is open.
        if unsafe { sys::rte_eth_dev_is_removed(self.id) } == 1 {
            QueueState::Gone
        } else {
            QueueState::Running
        }
    }

    /// Stops, closes and detaches; the first failure is reported and the rest still done.
    fn shut_down(&mut self) -> Result<(), (&'static str, io::Error)> {
        if !mem::replace(&mut self.open, false) {
            return Ok(());
        }
        let mut devices = self.eal.devices();
        let device = self.info().map_or(core::ptr::null_mut(), |info| info.device);
        let mut outcome = Ok(());
        let mut note = |step, result: i32| {
            if result < 0 && outcome.is_ok() {
                outcome = Err((step, io::Error::from_raw_os_error(result.saturating_neg())));
            }
        };
        // SAFETY: the port is open and no queue is left to poll it: they hold the device that is dropped here.
        note("stop", unsafe { sys::rte_eth_dev_stop(self.id) });
        // SAFETY: as above.
        note("close", unsafe { sys::rte_eth_dev_close(self.id) });
        if !device.is_null() {
            // SAFETY: closing a port leaves its device, which is removed once; the lock makes us the only ones.
            note("detach", unsafe { sys::rte_dev_remove(device) });
        }
        devices.remove(&self.name);
        outcome
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err((step, error)) = self.shut_down() {
            tracing::warn!(port = %self.name(), step, %error, "cannot close a device cleanly");
        }
    }
}
