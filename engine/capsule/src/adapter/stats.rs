//! What DPDK tells of itself: what devices counted, and where its files are.

use capsule_ffi as ffi;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Packets that a device counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DeviceStats {
    /// Received by it.
    pub(crate) received: u64,
    /// Not received for want of room or buffers, or wrong.
    pub(crate) missed: u64,
    /// Sent by it.
    pub(crate) sent: u64,
}

/// The numbers of the device, by its DPDK name; `None` when there is none (any more). The runtime that has the device
/// must not have been dropped.
pub(crate) fn device_stats(_: &capsule::Runtime, device: &str) -> Option<DeviceStats> {
    let name = CString::new(device).ok()?;
    let mut port = 0;
    // SAFETY: a C string and a place for the answer; the EAL is initialised, the runtime shows it.
    if unsafe { ffi::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut port) } != 0 {
        return None;
    }
    let mut stats = ffi::rte_eth_stats::default();
    // SAFETY: a place for the answer.
    if unsafe { ffi::rte_eth_stats_get(port, &raw mut stats) } != 0 {
        return None;
    }
    let missed = stats.imissed + stats.ierrors + stats.rx_nombuf;
    Some(DeviceStats { received: stats.ipackets, missed, sent: stats.opackets })
}

/// DPDK's directory for what processes share. Nothing is shared here, so it is empty, and DPDK leaves it.
pub(crate) fn runtime_directory(_: &capsule::Runtime) -> PathBuf {
    // SAFETY: DPDK's own string of static life; the EAL is initialised, the runtime shows it.
    let directory = unsafe { CStr::from_ptr(ffi::rte_eal_get_runtime_dir()) };
    OsStr::from_bytes(directory.to_bytes()).into()
}
