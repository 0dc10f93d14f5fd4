//! A lab that is up: made, found again, taken down.

use super::netns::Namespace;
use super::plan::{Node, Plan};
use super::process::{Process, log_path};
use super::progress::Progress;
use super::shape::Shape;
use super::state::{Mode, Record, State};
use super::{engine, provision, service, traces, wiring};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a process may take to end by itself before it is killed: longer than the engine's own deadline.
const PATIENCE: Duration = Duration::from_secs(12);

/// What lab to make.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Its name, the first part of every namespace's name.
    pub name: String,
    /// How its engines are provisioned.
    pub mode: Mode,
    /// Whether it is to end with this process: after a crash, the next lab of this kind clears it away.
    pub owned: bool,
    /// The MTUs, offloads and engine settings.
    pub shape: Shape,
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    state: State,
    record: Mutex<Record>,
    processes: Mutex<BTreeMap<String, Process>>,
}

impl Lab {
    /// Makes a lab and waits until every interface is live. Whatever goes wrong, what was made is taken down again.
    ///
    /// # Errors
    /// What went wrong, with the last lines of the logs.
    pub fn up(options: &LabOptions, progress: &dyn Progress) -> Result<Self> {
        require_machine()?;
        if options.mode != Mode::Wires {
            find_binary(engine::PROGRAM)?;
        }
        if options.mode == Mode::Service {
            find_binary(service::PROGRAM)?;
        }
        let plan = Plan::shaped(&options.name, options.shape.clone())?;
        let state = State::of(&options.name);
        state.create()?;
        let pid = i32::try_from(std::process::id())?;
        let owner =
            options.owned.then(|| super::process::start_time(pid).map(|start| (pid, start))).flatten();
        let record = Record { plan, mode: options.mode, owner };
        let lab = Self { state, record: Mutex::new(record), processes: Mutex::default() };
        match lab.make(options.mode, progress) {
            Ok(()) => Ok(lab),
            Err(error) => {
                let logs = lab.last_words();
                let error = if logs.is_empty() { error } else { error.context(logs) };
                match down(&options.name, progress) {
                    Ok(_) => Err(error),
                    Err(left) => Err(error.context(format!("and it could not be taken down: {left:#}"))),
                }
            }
        }
    }

    fn make(&self, mode: Mode, progress: &dyn Progress) -> Result<()> {
        self.save()?;
        let plan = self.plan();
        progress.step("router, hosts and links");
        wiring::make_router(&plan)?;
        wiring::make_service_namespace(&plan)?;
        for host in &plan.hosts {
            wiring::make_host(&plan, host)?;
        }
        progress.step("nodes");
        for node in &plan.nodes {
            wiring::make_node(&plan, node)?;
        }
        if !plan.shape.offloads {
            wiring::set_offloads(&plan, false)?;
        }
        match mode {
            Mode::Wires => return Ok(()),
            Mode::File => provision::write_file(&self.state, &plan)?,
            Mode::Service => {
                progress.step("certificates");
                service::make_pki(&self.state, &plan)?;
                progress.step("provisioning service");
                self.start_service()?;
                progress.step("entities, networks, hosts and nodes");
                provision::provision(self)?;
            }
        }
        progress.step("engines");
        for host in &plan.hosts {
            self.start_engine(&host.id)?;
        }
        progress.step("waiting for every interface to be live");
        self.wait_healthy(Duration::from_secs(30))
    }

    /// Finds a lab that an earlier command made.
    ///
    /// # Errors
    /// If it is not up.
    pub fn find(name: &str) -> Result<Self> {
        let state = State::of(name);
        let record = state.load().with_context(|| format!("lab {name}"))?;
        Ok(Self { state, record: Mutex::new(record), processes: Mutex::default() })
    }

    /// Takes it down.
    ///
    /// # Errors
    /// What is left, and why.
    pub fn down(self, progress: &dyn Progress) -> Result<()> {
        // Its own children are reaped by ending them through their handles.
        for process in self.processes.lock().values() {
            process.signal(Signal::SIGTERM)?;
        }
        for process in self.processes.lock().values_mut() {
            process.stop(PATIENCE)?;
        }
        down(&self.plan().name, progress).map(|_| ())
    }

    /// The plan as it is now.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.record.lock().plan.clone()
    }

    /// How its engines are provisioned.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.record.lock().mode
    }

    /// Its directory.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A node of the plan, where it is now.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&self, id: &str) -> Result<Node> {
        self.record.lock().plan.node(id).cloned()
    }

    /// The namespace of a host, a node, `router` or `svc`.
    #[must_use]
    pub fn namespace(&self, of: &str) -> Namespace {
        self.record.lock().plan.namespace(of)
    }

    /// Notes that a node is elsewhere now.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn relocate(&self, node: &str, host: &str, slot: u8) -> Result<()> {
        for entry in &mut self.record.lock().plan.nodes {
            if entry.id == node {
                host.clone_into(&mut entry.host);
                entry.slot = slot;
            }
        }
        self.save()
    }

    /// Turns the offloads of every link on or off, under way.
    ///
    /// # Errors
    /// If a device refuses, or it cannot be written down.
    pub fn set_offloads(&self, on: bool) -> Result<()> {
        self.record.lock().plan.shape.offloads = on;
        self.save()?;
        wiring::set_offloads(&self.plan(), on)
    }

    fn save(&self) -> Result<()> {
        self.state.save(&self.record.lock())
    }

    /// Starts the service and waits until it answers.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_service(&self) -> Result<()> {
        let process = service::start(&self.state, &self.plan())?;
        self.processes.lock().insert(service::NAME.to_owned(), process);
        service::wait_ready(self)
    }

    /// Starts a host's engine, without waiting until it is ready.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_engine(&self, host: &str) -> Result<()> {
        let process = engine::start(self, host)?;
        self.processes.lock().insert(engine::process_name(host), process);
        Ok(())
    }

    /// Does something with a process of the lab, whichever command started it.
    ///
    /// # Errors
    /// If it was never started, or `work` fails.
    pub fn with_process<T>(&self, name: &str, work: impl FnOnce(&mut Process) -> Result<T>) -> Result<T> {
        let mut processes = self.processes.lock();
        match processes.get_mut(name) {
            Some(process) => work(process),
            None => work(&mut Process::load(self.state.path(), name)?),
        }
    }

    /// Waits until every engine is ready and forwards for all of its interfaces.
    ///
    /// # Errors
    /// At the deadline, naming who is not.
    pub fn wait_healthy(&self, deadline: Duration) -> Result<()> {
        for host in &self.plan().hosts {
            engine::wait_ready(self, &host.id, deadline)?;
        }
        engine::wait_interfaces(self, deadline)
    }

    /// The last lines that the lab's processes wrote, and what engines dropped, for an error message.
    #[must_use]
    pub fn last_words(&self) -> String {
        let mut words = String::new();
        for host in &self.plan().hosts {
            // An engine that does not answer has its reason in its log.
            let Ok(metrics) = engine::scrape(self, &host.id) else { continue };
            words.push_str(&format!("--- {} dropped {:?}\n", host.id, metrics.drops()));
        }
        let names = self.plan().hosts.iter().map(|host| engine::process_name(&host.id)).collect::<Vec<_>>();
        for name in names.iter().map(String::as_str).chain([service::NAME]) {
            let Ok(text) = std::fs::read_to_string(log_path(self.state.path(), name)) else { continue };
            let lines: Vec<&str> = text.lines().rev().take(8).collect();
            words.push_str(&format!("--- the end of {name}'s log:\n"));
            for line in lines.iter().rev() {
                words.push_str(line);
                words.push('\n');
            }
        }
        words
    }
}

static TAKING_DOWN: Mutex<()> = Mutex::new(());

/// Takes a lab down, in whatever state it is: ends its processes, removes its namespaces with all devices in them,
/// and its directory. False if there was none.
///
/// # Errors
/// What is left, and why.
pub fn down(name: &str, progress: &dyn Progress) -> Result<bool> {
    let _one_at_a_time = TAKING_DOWN.lock();
    // Also checks the name, which is about to become part of paths.
    let namespaces = traces::namespaces(name)?;
    let state = State::of(name);
    if !state.exists() && namespaces.is_empty() {
        return Ok(false);
    }
    progress.step("ending the lab's processes");
    let mut processes = Process::load_all(state.path())?;
    for process in &processes {
        process.signal(Signal::SIGTERM)?;
    }
    for process in &mut processes {
        process.stop(PATIENCE)?;
    }
    progress.step("removing namespaces and devices");
    for namespace in namespaces {
        // What a crash kept from being written down; also what an operator left running in there.
        for pid in namespace.processes()? {
            match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("process {pid} in {namespace}")),
            }
        }
        super::wait::until(&format!("the processes in {namespace} to end"), Duration::from_secs(5), || {
            let running =
                namespace.processes()?.into_iter().any(|pid| super::process::start_time(pid).is_some());
            Ok((!running).then_some(()))
        })?;
        namespace.delete()?;
    }
    state.remove()?;
    let left = traces::of(name)?;
    ensure!(left.is_empty(), "still there: {}", left.join("; "));
    Ok(true)
}

/// Takes down every lab whose owner has ended without doing so.
///
/// # Errors
/// What is left, and why.
pub fn clear_orphans(progress: &dyn Progress) -> Result<()> {
    for name in State::names()? {
        if State::of(&name).load().is_ok_and(|record| record.is_orphaned()) {
            down(&name, progress)?;
        }
    }
    Ok(())
}

/// What stands against running a lab on this machine.
///
/// # Errors
/// Names what is missing.
pub fn require_machine() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the lab needs root: it makes network namespaces");
    for (program, package) in
        [("ip", "iproute2"), ("ping", "iputils-ping"), ("iperf3", "iperf3"), ("tcpdump", "tcpdump")]
    {
        ensure!(find_in_path(program).is_some(), "{program} is missing; Debian has it in package {package}");
    }
    // Root in a container may still not be allowed to.
    let probe = Namespace::named(format!("overlane-probe-{}", std::process::id()));
    let made = probe.create();
    let removed = probe.delete();
    made.and(removed).context("this machine gives no network namespaces")
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Finds a binary of Overlane: in `OVERLANE_BIN_DIR`, beside this program (or, for a test, in the directory above
/// it), or in `PATH`.
///
/// # Errors
/// If it is nowhere, saying how to build it.
pub fn find_binary(name: &str) -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("OVERLANE_BIN_DIR") {
        let file = Path::new(&directory).join(name);
        ensure!(file.is_file(), "OVERLANE_BIN_DIR has no {name}: {file:?}");
        return Ok(file);
    }
    let exe = std::env::current_exe()?;
    let beside = exe.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|f| f.is_file());
    match beside.or_else(|| find_in_path(name)) {
        Some(file) => Ok(file),
        None => bail!("{name} is neither beside {exe:?} nor in PATH; `cargo build --workspace` builds it"),
    }
}
