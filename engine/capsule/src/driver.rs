//! Sets capsule's runtime up for a site, runs it, and reports.

use crate::adapter::{device_stats, run_on_core, runtime_directory};
use crate::exits::Unheard;
use crate::host::Host;
use crate::report::{PortReport, Report, drops};
use crate::site::{self, Site};
use crate::tell;
use crate::worker::{Plan, Reports, Worker};
use anyhow::{Context, Result, anyhow, bail};
use capsule::Runtime;
use capsule::config::RuntimeConfig;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::{Signal, raise};
use nix::unistd::Pid;
use serde_json::json;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// When a run ends, besides on SIGINT, SIGTERM and SIGHUP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// After that time.
    pub time: Option<Duration>,
    /// Once that many packets have come in, and what became of them has been sent.
    pub packets: Option<u64>,
    /// At the end of standard input, each line of which is answered with what was done so far.
    pub input: bool,
}

/// How often it is seen whether a limit is reached.
const LOOK: Duration = Duration::from_millis(20);
/// Descriptors of each queue.
const DESCRIPTORS: usize = 512;
/// Buffers that each worker keeps to itself, as the engine's.
const CACHE: usize = 256;
/// Bytes of a buffer with all that belongs to it, rounded up.
const BUFFER_BYTES: u64 = 2_560;
/// Memory for all that DPDK has besides buffers, in MiB.
const OTHER_MEMORY_MIB: u64 = 88;

/// Runs the site until a limit or a signal.
///
/// # Errors
/// What cannot be had: cores, memory, devices. Once in a process: DPDK cannot be initialised twice.
pub fn run(site: &Site, limits: Limits) -> Result<Report> {
    let main_core = main_core(site)?;
    let workers = site.cores.len();
    let host = Arc::new(Host::new(site, workers, seed()?)?);
    let mut runtime = Runtime::build(config(site, &host, main_core)?)
        .context("capsule cannot be set up (DPDK's own messages are above)")?;
    // Left behind, it harms nobody.
    let _ = std::fs::remove_dir(runtime_directory(&runtime));

    let (unheard, reports) = (Arc::<Unheard>::default(), Reports::default());
    let (clock_sender, clocks) = channel();
    let seed = seed()?;
    for (index, &core) in site.cores.iter().enumerate() {
        let reader = host.domain.register(&format!("core {core}"))?;
        let (host, unheard, reports) = (Arc::clone(&host), Arc::clone(&unheard), Arc::clone(&reports));
        let clocks = clock_sender.clone();
        // capsule asks for `Sync` of what is used only once.
        let plan = Mutex::new(Plan { index, core, host, reader, seed, unheard, reports, clocks });
        run_on_core(&mut runtime, core, move |thread, queues| {
            let plan = plan.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
            Worker::new(plan, thread, queues)
        })?;
    }
    drop(clock_sender);
    let (began, over) = (Instant::now(), Arc::<AtomicBool>::default());
    if limits.input {
        tell::start(&host, workers, clocks, &over)?;
    }
    watch(&mut runtime, main_core, &host, limits, began, over)?;
    runtime.execute()?;
    let seconds = began.elapsed().as_secs_f64();

    let mut report = Report { seconds, ..Report::default() };
    report.workers = core::mem::take(&mut *reports.lock().map_err(|_| anyhow!("a worker panicked"))?);
    if report.workers.len() != workers {
        bail!("only {} of {workers} workers ended in order", report.workers.len());
    }
    report.workers.sort_unstable_by_key(|worker| worker.core);
    report.packets = report.workers.iter().map(|worker| worker.packets).sum();
    report.cpu_ns = report.workers.iter().map(|worker| worker.cpu_ns).sum();
    report.ns_per_packet = report.cpu_ns as f64 / report.packets.max(1) as f64;
    report.punted = unheard.punted.load(Relaxed);
    report.path_mtus = unheard.path_mtus.load(Relaxed);
    report.ports = ports(&host, &runtime);
    Ok(report)
}

/// Ends the run at its limits. capsule ends at a signal, so that is what the main thread sends itself; it is asked only
/// when the signal is waited for already.
fn watch(
    runtime: &mut Runtime,
    main_core: usize,
    host: &Arc<Host>,
    limits: Limits,
    began: Instant,
    over: Arc<AtomicBool>,
) -> Result<()> {
    if limits.time.is_none() && limits.packets.is_none() && !limits.input {
        return Ok(());
    }
    let host = Arc::clone(host);
    let look = move || {
        let late = limits.time.is_some_and(|time| began.elapsed() >= time);
        let received = |host: &Host| -> u64 {
            let traffic = host.ports.iter().flat_map(|port| port.traffic.iter());
            traffic.map(|traffic| traffic.rx_packets.get()).sum()
        };
        if late || over.load(Relaxed) || limits.packets.is_some_and(|packets| received(&host) >= packets) {
            // It fails for no signal that exists.
            let _ = raise(Signal::SIGTERM);
        }
    };
    runtime.add_periodic_task_to_core(main_core, look, LOOK)?;
    Ok(())
}

fn ports(host: &Host, runtime: &Runtime) -> Vec<PortReport> {
    let report = |port: &crate::host::Port| {
        let device = device_stats(runtime, &port.device.name).unwrap_or_default();
        let sum =
            |count: fn(&overlane_dataplane::counters::Traffic) -> u64| port.traffic.iter().map(count).sum();
        let mut counters: Vec<_> = port.traffic.iter().map(|traffic| &traffic.drops).collect();
        if port.name == site::UPLINK {
            counters.extend(host.snapshot.vnets.iter().flat_map(|vnet| vnet.uplink_drops.iter()));
        }
        PortReport {
            name: port.name.clone(),
            received: sum(|traffic| traffic.rx_packets.get()),
            missed: device.missed,
            handed: sum(|traffic| traffic.tx_packets.get()),
            sent: device.sent,
            drops: drops(counters),
        }
    };
    host.ports.iter().map(report).collect()
}

/// capsule's settings, which can only be had from a file or the like.
fn config(site: &Site, host: &Host, main_core: usize) -> Result<RuntimeConfig> {
    let mut arguments = vec!["--no-telemetry".to_owned()];
    if !host.ports.iter().any(|port| is_pci(&port.device.name)) {
        arguments.push("--no-pci".to_owned());
        arguments.push("--iova-mode=va".to_owned());
    }
    // capsule has a pool for each NUMA node with a worker. Without hugepages memory cannot grow.
    let pools = u64::from(site.buffers) * BUFFER_BYTES * site.cores.len() as u64;
    let memory_mib = (pools >> 20) + OTHER_MEMORY_MIB;
    arguments.extend(["-m".to_owned(), memory_mib.to_string()]);
    if site.hugepages.unwrap_or_else(|| free_hugepages_mib() >= memory_mib) {
        arguments.push("--in-memory".to_owned());
    } else {
        arguments.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]);
    }
    // As the engine's: with DPDK's default, whoever is preempted in the ring holds up all others.
    arguments.push("--mbuf-pool-ops-name=ring_mt_rts".to_owned());
    let port = |port: &crate::host::Port| {
        json!({
            "name": port.name,
            "device": port.device.name,
            "args": port.device.arguments,
            "cores": site.cores,
            "rxd": DESCRIPTORS,
            "txd": DESCRIPTORS,
            "promiscuous": true,
            "multicast": true,
        })
    };
    let config = json!({
        "app_name": "overlane-capsule",
        "app_group": format!("overlane-capsule-{}", std::process::id()),
        "master_core": main_core,
        "mempool": { "capacity": site.buffers, "cache_size": CACHE },
        "ports": host.ports.iter().map(port).collect::<Vec<_>>(),
        "dpdk_args": arguments.join(" "),
    });
    serde_json::from_value(config).context("capsule does not take its settings")
}

fn is_pci(device: &str) -> bool {
    device.contains(':')
}

/// Free memory on hugepages of the usual size.
fn free_hugepages_mib() -> u64 {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    free.ok().and_then(|free| free.trim().parse::<u64>().ok()).unwrap_or(0) * 2
}

/// The core of capsule's main thread: the site's, or the first that the process may use and no worker has.
fn main_core(site: &Site) -> Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("cannot ask for the process's cores")?;
    let is_allowed = |core: &usize| allowed.is_set(*core).unwrap_or(false);
    let wanted = site.cores.iter().copied().chain(site.main_core);
    for core in wanted {
        if !is_allowed(&core) {
            bail!("core {core}: this process may not run there, or there is no such core");
        }
    }
    let other = || (0..CpuSet::count()).find(|core| is_allowed(core) && !site.cores.contains(core));
    site.main_core
        .or_else(other)
        .context("cores: one that this process may use must be left for capsule's main thread")
}

/// Secret numbers.
fn seed() -> Result<[u64; 2]> {
    let number = || getrandom::u64().map_err(|error| anyhow!("no random numbers: {error}"));
    Ok([number()?, number()?])
}
