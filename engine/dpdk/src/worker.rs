//! Worker threads: pinned to a core and known to DPDK.

use core::marker::PhantomData;
use std::io;

use crate::{Eal, eal::affinity, sys};

/// Why a thread could not become a worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The process may not run on the core, or the machine has none of that number.
    #[error(
        "cannot pin the thread to core {core}: {source}; legal are the cores this process may run on: {allowed:?}"
    )]
    Pin {
        /// The core asked for.
        core: usize,
        /// The cores that the process may use.
        allowed: Vec<usize>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread is a registered worker already.
    #[error("this thread is registered with DPDK already")]
    AlreadyRegistered,
    /// DPDK has no place for another thread (128 in Debian's build), or another process of it is attached.
    #[error("DPDK refuses to register another thread: {0}")]
    Register(io::Error),
}

/// The calling thread's registration with DPDK; it ends on drop.
///
/// A registered thread has a mempool cache of its own, without which allocation and freeing cost more than twice as
/// much. It cannot be sent to another thread: what is registered is the thread itself.
#[derive(Debug)]
pub struct WorkerThread {
    eal: Eal,
    core: Option<usize>,
    _of_this_thread: PhantomData<*const ()>,
}

impl WorkerThread {
    /// Registers the calling thread, after pinning it to `core` if one is given.
    ///
    /// # Errors
    /// [`WorkerError`]; the thread is not registered then, but may be pinned.
    pub fn register(eal: &Eal, core: Option<usize>) -> Result<Self, WorkerError> {
        if let Some(core) = core {
            affinity::pin(&[core]).map_err(|source| WorkerError::Pin {
                core,
                allowed: affinity::allowed().unwrap_or_default(),
                source,
            })?;
        }
        // SAFETY: reads a thread-local of DPDK.
        if unsafe { sys::overlane_lcore_id() } != sys::OVERLANE_LCORE_ID_ANY {
            return Err(WorkerError::AlreadyRegistered);
        }
        eal.enter_worker(|| {
            // SAFETY: the EAL is initialised and this thread is not registered.
            if unsafe { sys::rte_thread_register() } == 0 {
                Ok(())
            } else {
                Err(WorkerError::Register(crate::eal::rte_errno()))
            }
        })?;
        Ok(Self { eal: eal.clone(), core, _of_this_thread: PhantomData })
    }

    /// The core that the thread is pinned to, if it is.
    #[must_use]
    pub fn core(&self) -> Option<usize> {
        self.core
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        // SAFETY: the value cannot leave its thread, so this is the thread that registered; it drops once.
        self.eal.leave_worker(|| unsafe { sys::rte_thread_unregister() });
    }
}
