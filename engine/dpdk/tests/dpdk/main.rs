//! The crate against real DPDK and a real kernel, in one process, as DPDK allows one environment per process.
//!
//! Each case is a test of the harness, and has failed when a packet of its pools is still out afterwards. Cases that
//! make network namespaces need root, and one runs all others again on hugepages; where these are missing, the cases
//! are ignored and standard error says why.

#![allow(unsafe_code)] // System calls, each with its reason.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use overlane_dpdk::{Eal, EalOptions, Hugepages, MemoryMode, Mempool, MempoolOptions};

mod eal;
mod ethdev;
mod forward;
#[cfg(feature = "hash")]
mod hash;
mod jumbo;
mod kernel;
mod mbuf;
mod net;
mod packet;
mod tap;
mod virtio;

/// One case: its name and body.
pub(crate) type Case = (&'static str, fn(&Bench));

/// Makes cases of functions, by their names.
macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn(&$crate::Bench))),*] };
}
pub(crate) use cases;

/// What a case works with.
pub(crate) struct Bench {
    pub(crate) eal: Eal,
    pools: Mutex<Vec<Mempool>>,
}

impl Bench {
    /// A pool that must be full again when the case is over.
    pub(crate) fn pool(&self, size: u32) -> Mempool {
        self.pool_with(&MempoolOptions { size, data_room: 2_048, cache: 32 })
    }

    pub(crate) fn pool_with(&self, options: &MempoolOptions) -> Mempool {
        // Never twice the same, so that a pool that one case spoils is not the next one's trouble.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("case-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let pool = Mempool::new(&self.eal, &name, options).unwrap();
        self.pools.lock().unwrap().push(pool.clone());
        pool
    }
}

/// Set in the process that runs the cases on hugepages.
const ON_HUGEPAGES: &str = "OVERLANE_TEST_ON_HUGEPAGES";
const MEMORY_MIB: u32 = 128;

fn main() {
    if std::env::var_os(eal::TO_THE_END).is_some() {
        return eal::live_to_the_end();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for (name, body) in [eal::CASES, mbuf::CASES, ethdev::CASES, virtio::CASES].concat() {
        trials.push(Trial::test(name, move || run(body)));
    }
    #[cfg(feature = "hash")]
    for (name, body) in hash::CASES {
        trials.push(Trial::test(*name, move || run(*body)));
    }
    // SAFETY: no arguments, no failure.
    let root = unsafe { libc::geteuid() } == 0;
    for (name, body) in [packet::CASES, tap::CASES, jumbo::CASES, kernel::CASES].concat() {
        trials.push(Trial::test(name, move || run(body)).with_ignored_flag(ignored(
            name,
            root,
            "it needs root",
        )));
    }
    if std::env::var_os(ON_HUGEPAGES).is_none() {
        let name = "all_other_cases_pass_on_hugepages";
        let ignore =
            ignored(name, free_hugepages_mib() >= u64::from(MEMORY_MIB), "too few hugepages are free");
        trials.push(Trial::test(name, run_on_hugepages).with_ignored_flag(ignore));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn ignored(name: &str, possible: bool, why: &str) -> bool {
    if !possible {
        eprintln!("IGNORED: {name}: {why}");
    }
    !possible
}

fn free_hugepages_mib() -> u64 {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    free.ok().and_then(|free| free.trim().parse::<u64>().ok()).unwrap_or(0) * 2
}

fn run_on_hugepages() -> Result<(), Failed> {
    let output = Command::new(std::env::current_exe()?).env(ON_HUGEPAGES, "1").output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        .into())
}

fn run(body: fn(&Bench)) -> Result<(), Failed> {
    static EAL: OnceLock<Eal> = OnceLock::new();
    let eal = EAL.get_or_init(|| {
        let wanted =
            std::env::var_os(ON_HUGEPAGES).map(|_| MemoryMode::Hugepages).unwrap_or(MemoryMode::NoHuge);
        let hugepages = if wanted == MemoryMode::NoHuge { Hugepages::Never } else { Hugepages::Require };
        let options = EalOptions { memory_mib: MEMORY_MIB, hugepages, ..EalOptions::default() };
        let eal = Eal::init(options).unwrap();
        assert_eq!(eal.memory(), wanted);
        eal
    });
    let bench = Bench { eal: eal.clone(), pools: Mutex::default() };
    body(&bench);
    for pool in bench.pools.into_inner().unwrap() {
        assert_eq!(pool.in_use(), 0, "packets of {} leaked", pool.name());
    }
    Ok(())
}
