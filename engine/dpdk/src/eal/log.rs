//! DPDK's own log, as `tracing` events of target `dpdk`.

use core::ffi::{c_char, c_int};
use std::io;
use std::panic::catch_unwind;

use crate::sys;

/// Sends DPDK's log to `tracing` from now on.
pub(super) fn redirect() -> io::Result<()> {
    // SAFETY: the sink is a function of static life that upholds the shim's contract; called before rte_eal_init,
    // so no thread of DPDK logs yet.
    if unsafe { sys::overlane_log_redirect(Some(sink)) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// One message. DPDK's notices are about itself, not the operator's business: they become debug events.
extern "C" fn sink(level: c_int, text: *const c_char, length: usize) {
    // SAFETY: stdio hands over `length` readable bytes, which nobody writes during the call.
    let bytes = unsafe { core::slice::from_raw_parts(text.cast::<u8>(), length) };
    let message = String::from_utf8_lossy(bytes);
    let message = message.trim_end();
    if message.is_empty() {
        return;
    }
    let level = u32::try_from(level).unwrap_or(0);
    // A subscriber that panics must not unwind into C; there is nobody to tell.
    let _ = catch_unwind(|| {
        if level <= sys::OVERLANE_LOG_ERR {
            tracing::error!(target: "dpdk", "{message}");
        } else if level == sys::OVERLANE_LOG_WARNING {
            tracing::warn!(target: "dpdk", "{message}");
        } else if level <= sys::OVERLANE_LOG_INFO {
            tracing::debug!(target: "dpdk", "{message}");
        } else {
            tracing::trace!(target: "dpdk", "{message}");
        }
    });
}
