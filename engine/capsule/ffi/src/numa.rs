//! On which NUMA node a core is.

use crate::sys;
use std::os::raw::c_int;

/// The socket that the EAL, which must be initialised, knows the core to be on; -1 for a core that it cannot have.
///
/// capsule asks libnuma; but it looks for a port's memory pool under the node that the EAL tells, so one of them should tell
/// both.
///
/// # Safety
/// None is needed; unsafe as libnuma's function is.
#[must_use]
pub unsafe fn numa_node_of_cpu(core: c_int) -> c_int {
    match u32::try_from(core) {
        // SAFETY: reads the EAL's table of cores, of that length.
        Ok(core) if core < sys::RTE_MAX_LCORE => unsafe { sys::rte_lcore_to_socket_id(core) as c_int },
        _ => -1,
    }
}
