//! The kernel NIC interface, which DPDK 22.11 is built without: making one fails, and so none of the rest is reached.

use crate::sys::{rte_mbuf, rte_mempool};
use std::os::raw::{c_char, c_int, c_uint};
use std::ptr;

/// `-ENOTSUP`: there is no such thing in this DPDK.
const NOT_SUPPORTED: c_int = -95;

/// A kernel interface. There is none.
#[repr(C)]
#[derive(Debug)]
#[allow(non_camel_case_types)]
pub struct rte_kni {
    _none: [u8; 0],
}

/// What a kernel interface is to be like.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct rte_kni_conf {
    /// Its name.
    pub name: [c_char; 32],
    /// The port that it stands for.
    pub group_id: u16,
    /// Bytes of a buffer.
    pub mbuf_size: c_uint,
    /// Its hardware address.
    pub mac_addr: [u8; 6],
}

/// What is called when the kernel wants something of the port.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct rte_kni_ops {
    /// The port.
    pub port_id: u16,
    /// Another MTU.
    pub change_mtu: Option<unsafe extern "C" fn(u16, c_uint) -> c_int>,
    /// Up or down.
    pub config_network_if: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
    /// Another hardware address.
    pub config_mac_address: Option<unsafe extern "C" fn(u16, *mut u8) -> c_int>,
    /// All frames, or not.
    pub config_promiscusity: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
}

/// Refuses.
///
/// # Safety
/// None is needed; unsafe as DPDK's function is.
#[must_use]
pub unsafe fn rte_kni_init(_interfaces: c_uint) -> c_int {
    NOT_SUPPORTED
}

/// Makes none.
///
/// # Safety
/// None is needed; unsafe as DPDK's function is.
#[must_use]
pub unsafe fn rte_kni_alloc(
    _: *mut rte_mempool,
    _: *const rte_kni_conf,
    _: *mut rte_kni_ops,
) -> *mut rte_kni {
    ptr::null_mut()
}

/// Refuses.
///
/// # Safety
/// None is needed; unsafe as DPDK's function is.
#[must_use]
pub unsafe fn rte_kni_release(_: *mut rte_kni) -> c_int {
    NOT_SUPPORTED
}

/// Refuses.
///
/// # Safety
/// None is needed; unsafe as DPDK's function is.
#[must_use]
pub unsafe fn rte_kni_handle_request(_: *mut rte_kni) -> c_int {
    NOT_SUPPORTED
}

/// Receives nothing.
///
/// # Safety
/// None is needed; unsafe as DPDK's function is.
#[must_use]
pub unsafe fn rte_kni_rx_burst(_: *mut rte_kni, _: *mut *mut rte_mbuf, _: c_uint) -> c_uint {
    0
}

/// Takes nothing.
///
/// # Safety
/// None is needed; unsafe as DPDK's function is.
#[must_use]
pub unsafe fn rte_kni_tx_burst(_: *mut rte_kni, _: *mut *mut rte_mbuf, _: c_uint) -> c_uint {
    0
}

/// Has nothing to close.
///
/// # Safety
/// None is needed; unsafe as DPDK's function is.
pub unsafe fn rte_kni_close() {}
