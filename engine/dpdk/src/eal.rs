//! DPDK's environment: one per process.

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::devargs::{Devargs, c_string};
use crate::sys;

pub(crate) mod affinity;
mod log;
mod memory;

pub use memory::MemoryMode;

/// Where packet memory is to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// Hugepages if enough are free, else ordinary pages.
    #[default]
    Auto,
    /// Hugepages, or an error.
    Require,
    /// Ordinary pages.
    Never,
}

/// How to initialise DPDK.
#[derive(Debug, Clone)]
pub struct EalOptions {
    /// Tells this process's DPDK files from others': 1 to 32 letters, digits, `_` and `-`. By default it holds the
    /// process id.
    pub file_prefix: String,
    /// The cores that DPDK's own threads (interrupts, alarms) may use: those of the control thread, never a worker's.
    /// Empty: every core that the calling thread may use.
    pub control_cores: Vec<usize>,
    /// Memory for mempools, rings and devices, in MiB: 16 to 1,048,576. Without hugepages it cannot grow later;
    /// [`MempoolOptions::memory`](crate::MempoolOptions::memory) tells what a pool takes.
    pub memory_mib: u32,
    /// Hugepages or not.
    pub hugepages: Hugepages,
    /// The PCI functions that DPDK may touch, with their driver's arguments: a function that is bound already is set up
    /// with them when DPDK starts. Virtual devices among them are passed over. No function: DPDK does not look at the
    /// PCI bus.
    pub pci: Vec<Devargs>,
}

impl Default for EalOptions {
    fn default() -> Self {
        Self {
            file_prefix: format!("overlane-{}", std::process::id()),
            control_cores: Vec::new(),
            memory_mib: 512,
            hugepages: Hugepages::Auto,
            pci: Vec::new(),
        }
    }
}

/// Why DPDK could not be initialised.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// This process has, or had, an EAL; DPDK allows one for the life of a process.
    #[error("DPDK was initialised in this process already")]
    AlreadyInitialised,
    /// An option is outside its legal values.
    #[error("{field} {value}: legal are {legal}")]
    Option {
        /// Which option.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is legal.
        legal: String,
    },
    /// Hugepages are required and there are too few.
    #[error(
        "hugepages are required: {needed_mib} MiB are needed and {free_mib} MiB are free; reserve some with sysctl vm.nr_hugepages"
    )]
    NoHugepages {
        /// Needed memory.
        needed_mib: u32,
        /// Free memory on hugepages of all sizes.
        free_mib: u64,
    },
    /// The operating system refused something.
    #[error("cannot {what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// `rte_eal_init` failed; the reason is in the log, under the target `dpdk`.
    #[error("rte_eal_init failed: {0} (DPDK's own messages are in the log under target `dpdk`)")]
    Init(io::Error),
}

/// A handle to DPDK's environment. The environment lives until the last handle is gone; pools, ports and workers
/// hold one each.
#[derive(Debug, Clone)]
pub struct Eal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: MemoryMode,
    registry: Mutex<Registry>,
    devices: Mutex<HashSet<CString>>,
}

#[derive(Debug, Default)]
struct Registry {
    /// Registered worker threads.
    workers: usize,
    /// Pools without a handle left, to be freed as soon as that is known to be safe.
    retired: Vec<RetiredPool>,
}

#[derive(Debug)]
struct RetiredPool {
    pool: NonNull<sys::rte_mempool>,
    size: u32,
}

// SAFETY: the pool is only touched through functions of DPDK that any thread may call, under the registry's lock.
unsafe impl Send for RetiredPool {}

static INITIALISED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Initialises DPDK, in a thread that ends with the call.
    ///
    /// `rte_eal_init` pins its caller, and the threads that it spawns inherit the caller's cores; a thread of its
    /// own, confined to the control cores, keeps both away from workers and from the caller.
    ///
    /// # Errors
    /// [`EalError`]. After [`EalError::Init`] the process cannot try again.
    pub fn init(options: EalOptions) -> Result<Self, EalError> {
        if INITIALISED.load(Ordering::SeqCst) {
            return Err(EalError::AlreadyInitialised);
        }
        let cores = control_cores(&options)?;
        check(&options)?;
        let memory = memory::choose(options.hugepages, options.memory_mib)?;
        let arguments = arguments(&options, &cores, memory);
        if INITIALISED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyInitialised);
        }
        let initialise = move || {
            affinity::pin(&cores)
                .map_err(|source| EalError::Os { what: "confine a thread to the control cores", source })?;
            log::redirect().map_err(|source| EalError::Os { what: "redirect DPDK's log", source })?;
            initialise(arguments)
        };
        let thread = std::thread::Builder::new().name("eal-init".to_owned()).spawn(initialise);
        let thread = thread.map_err(|source| EalError::Os { what: "start a thread", source })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(EalError::Init(io::Error::other("the initialising thread panicked"))))?;
        Ok(Self(Arc::new(Inner { memory, registry: Mutex::default(), devices: Mutex::default() })))
    }

    /// Which memory was chosen.
    #[must_use]
    pub fn memory(&self) -> MemoryMode {
        self.0.memory
    }

    /// The names of attached devices. Held by whoever attaches, closes or configures one: DPDK leaves it to its
    /// caller that there is only one at a time.
    pub(crate) fn devices(&self) -> MutexGuard<'_, HashSet<CString>> {
        self.0.devices.lock()
    }

    /// Counts the calling thread among the workers, if `register` succeeds.
    pub(crate) fn enter_worker<E>(&self, register: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut registry = self.0.registry.lock();
        register()?;
        registry.workers += 1;
        Ok(())
    }

    /// The opposite of [`Self::enter_worker`].
    pub(crate) fn leave_worker(&self, unregister: impl FnOnce()) {
        let mut registry = self.0.registry.lock();
        unregister();
        registry.workers = registry.workers.saturating_sub(1);
        registry.reap();
    }

    /// Frees retired pools whose packets are back.
    pub(crate) fn reap(&self) {
        self.0.registry.lock().reap();
    }

    /// Takes over a pool whose last handle is gone. Packets of it may still be out, in a queue or a worker's hands.
    pub(crate) fn retire(&self, pool: NonNull<sys::rte_mempool>, size: u32) {
        let mut registry = self.0.registry.lock();
        registry.retired.push(RetiredPool { pool, size });
        registry.reap();
    }
}

impl Registry {
    /// Frees retired pools whose packets have all come back.
    ///
    /// A worker that returns a packet counts it in its cache before it has finished writing there, so a pool that
    /// looks full may still be written to; with no worker registered there is no cache in use, and a packet that is
    /// visible in the ring is one that its returner is done with. A pool without a handle cannot be allocated from.
    fn reap(&mut self) {
        if self.workers != 0 {
            return;
        }
        self.retired.retain(|retired| {
            // SAFETY: the pool is valid: it was created once and is freed only below, when it leaves the list.
            let full = unsafe { sys::rte_mempool_avail_count(retired.pool.as_ptr()) } == retired.size;
            if full {
                // SAFETY: nothing refers to it: no handle, no packet and, as said above, no thread amidst returning.
                unsafe { sys::rte_mempool_free(retired.pool.as_ptr()) };
            }
            !full
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let registry = self.registry.get_mut();
        registry.reap();
        if !registry.retired.is_empty() {
            // Packets are still out: they must stay readable, so DPDK's memory must stay mapped.
            tracing::warn!(
                pools = registry.retired.len(),
                "packets outlive DPDK's last user: its memory is kept"
            );
            return;
        }
        // SAFETY: ports, pools, workers and the packets of every pool are gone; nothing of DPDK is used afterwards,
        // as INITIALISED stays set.
        unsafe { sys::rte_eal_cleanup() };
    }
}

/// DPDK's error number of the calling thread. Its own codes, above 1000, show as unknown errors.
pub(crate) fn rte_errno() -> io::Error {
    // SAFETY: reads a thread-local.
    io::Error::from_raw_os_error(unsafe { sys::overlane_errno() })
}

fn control_cores(options: &EalOptions) -> Result<Vec<usize>, EalError> {
    let allowed =
        affinity::allowed().map_err(|source| EalError::Os { what: "read the thread's affinity", source })?;
    if options.control_cores.is_empty() {
        return Ok(allowed);
    }
    match options.control_cores.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(EalError::Option {
            field: "control_cores",
            value: core.to_string(),
            legal: format!("the cores this process may run on: {allowed:?}"),
        }),
        None => Ok(options.control_cores.clone()),
    }
}

fn check(options: &EalOptions) -> Result<(), EalError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let prefix = &options.file_prefix;
    if !(1..=32).contains(&prefix.len()) || !prefix.bytes().all(legal) {
        return Err(EalError::Option {
            field: "file_prefix",
            value: format!("{prefix:?}"),
            legal: "1 to 32 letters, digits, '_' and '-'".to_owned(),
        });
    }
    if !(16..=1 << 20).contains(&options.memory_mib) {
        return Err(EalError::Option {
            field: "memory_mib",
            value: options.memory_mib.to_string(),
            legal: "16 to 1048576".to_owned(),
        });
    }
    Ok(())
}

fn arguments(options: &EalOptions, cores: &[usize], memory: MemoryMode) -> Vec<CString> {
    let cores = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut arguments = vec![
        "overlane".to_owned(),
        // One lcore, floating over the control cores; workers register themselves and get the next numbers.
        format!("--lcores=0@({cores})"),
        format!("--file-prefix={}", options.file_prefix),
        "--no-telemetry".to_owned(),
        "-m".to_owned(),
        options.memory_mib.to_string(),
    ];
    match memory {
        MemoryMode::Hugepages => arguments.push("--in-memory".to_owned()),
        MemoryMode::NoHuge => arguments.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]),
    }
    let mut functions = options.pci.iter().filter(|devargs| devargs.is_pci()).peekable();
    if functions.peek().is_none() {
        arguments.extend(["--no-pci".to_owned(), "--iova-mode=va".to_owned()]);
    }
    for function in functions {
        arguments.extend(["-a".to_owned(), function.as_str().to_owned()]);
    }
    arguments.iter().map(|argument| c_string(argument)).collect()
}

fn initialise(arguments: Vec<CString>) -> Result<(), EalError> {
    // DPDK keeps pointers into its arguments; they are few, and this happens once in a process.
    let mut pointers: Vec<_> = arguments.into_iter().map(CString::into_raw).collect();
    let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
    pointers.push(core::ptr::null_mut());
    // SAFETY: an argument vector as main() gets it; strings and vector are leaked and so live on.
    if unsafe { sys::rte_eal_init(count, Vec::leak(pointers).as_mut_ptr()) } < 0 {
        return Err(EalError::Init(rte_errno()));
    }
    remove_runtime_directory();
    Ok(())
}

/// DPDK makes a directory for what processes share and, as nothing is shared here, leaves it empty, for ever.
fn remove_runtime_directory() {
    // SAFETY: DPDK's own string of static life; it is set once the EAL is initialised.
    let directory = unsafe { CStr::from_ptr(sys::rte_eal_get_runtime_dir()) };
    let directory = Path::new(OsStr::from_bytes(directory.to_bytes()));
    if let Err(error) = std::fs::remove_dir(directory) {
        tracing::debug!(directory = %directory.display(), %error, "cannot remove DPDK's run-time directory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pci_function_comes_with_its_drivers_arguments_and_a_virtual_device_not_at_all() {
        let of = |pci: &[&str]| {
            let pci = pci.iter().map(|text| text.parse().unwrap()).collect();
            let options = EalOptions { pci, ..EalOptions::default() };
            arguments(&options, &[0], MemoryMode::NoHuge)
                .into_iter()
                .map(|argument| argument.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let with = of(&["03:00.0,speed=10000", "net_null0"]);
        assert!(with.ends_with(&["-a".to_owned(), "0000:03:00.0,speed=10000".to_owned()]), "{with:?}");
        assert!(!with.contains(&"--no-pci".to_owned()));
        assert!(of(&["net_null0,size=64"]).contains(&"--no-pci".to_owned()));
    }

    #[test]
    fn options_outside_their_range_are_refused_by_name() {
        let refused = |options: EalOptions| match Eal::init(options) {
            Err(EalError::Option { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        for file_prefix in ["", "a b", "a,b", "../a", &"a".repeat(33)] {
            let options = EalOptions { file_prefix: file_prefix.to_owned(), ..EalOptions::default() };
            assert_eq!(refused(options), "file_prefix", "{file_prefix:?}");
        }
        for memory_mib in [0, 15, (1 << 20) + 1] {
            assert_eq!(refused(EalOptions { memory_mib, ..EalOptions::default() }), "memory_mib");
        }
        for core in [1_023, 1_024, usize::MAX] {
            let options = EalOptions { control_cores: vec![core], ..EalOptions::default() };
            assert_eq!(refused(options), "control_cores");
        }
    }
}
