//! capsule's threads, which are no lcores of DPDK's.

use capsule::batch::Pipeline;
use capsule::{PortQueue, Runtime};
use capsule_ffi as ffi;
use core::marker::PhantomData;
use std::collections::HashMap;

/// The calling thread is one of a capsule runtime's, other than its main one, and registered with DPDK if that could be
/// done. It ends on drop.
///
/// capsule runs only its main thread as an lcore. Without registration the others have no caches of buffers, and each
/// buffer comes from, and goes to, the shared ring.
#[derive(Debug)]
pub(crate) struct CapsuleThread {
    registered: bool,
    /// It cannot leave its thread.
    _of_this_thread: PhantomData<*const ()>,
}

impl CapsuleThread {
    fn enter() -> Self {
        // SAFETY: reads a thread-local of DPDK.
        let is_lcore = unsafe { ffi::_rte_is_lcore() } != 0;
        // SAFETY: the runtime that this thread belongs to has initialised the EAL, and the thread is not registered.
        let registered = !is_lcore && unsafe { ffi::rte_thread_register() } == 0;
        Self { registered, _of_this_thread: PhantomData }
    }

    /// Whether it has caches of buffers of its own.
    pub(crate) const fn is_registered(&self) -> bool {
        self.registered
    }
}

impl Drop for CapsuleThread {
    fn drop(&mut self) {
        if self.registered {
            // SAFETY: the value cannot leave its thread, so this is the thread that registered; it drops once.
            unsafe { ffi::rte_thread_unregister() };
        }
    }
}

/// Has `core`, which must not be the runtime's main one, run what `build` makes of the ports' queues there.
///
/// What runs ends with the runtime's execution, on its own thread: packets that it keeps are returned while their pool is
/// there. (On the main core it would end with the runtime itself, after the pools; hence the restriction.)
pub(crate) fn run_on_core<P: Pipeline + 'static>(
    runtime: &mut Runtime,
    core: usize,
    build: impl FnOnce(CapsuleThread, HashMap<String, PortQueue>) -> P + Send + Sync + 'static,
) -> anyhow::Result<()> {
    runtime.add_pipeline_to_core(core, move |queues| build(CapsuleThread::enter(), queues))?;
    Ok(())
}
