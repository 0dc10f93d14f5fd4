//! What tests on real interfaces need: network namespaces, and a way to say that they cannot be had.

pub(crate) mod held;
pub(crate) mod site;

use libtest_mimic::Trial;
use nix::sched::{CloneFlags, unshare};
use overlane_dataplane::address::Layout;
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::table::flow::FlowLimits;
use overlane_engine::config::{Hugepages, Idle, WorkersConfig};
use overlane_engine::runtime::RuntimeConfig;
use std::fs::File;
use std::process::{Child, Command, Stdio};

/// A small runtime with a worker on each of `cores`, on ordinary pages.
pub(crate) fn runtime_config(cores: Vec<usize>, idle: Idle) -> RuntimeConfig {
    RuntimeConfig {
        layout: Layout::Slot64,
        workers: WorkersConfig { cores, idle, mempool: 8191, hugepages: Hugepages::Never },
        expected_mappings: 1024,
        fragments: FragmentLimits::default(),
        flows: FlowLimits::default(),
        resolve: overlane_dataplane::resolve::ResolveLimits::default(),
        seed: [1, 2],
        devargs: Vec::new(),
    }
}

/// Runs a command in the calling thread's network namespace; panics with its words if it fails.
pub(crate) fn run(command: &str) -> String {
    let (success, text) = attempt(command);
    assert!(success, "{command}: {text}");
    text
}

/// Runs a command; gives whether it succeeded, and all it said.
pub(crate) fn attempt(command: &str) -> (bool, String) {
    let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A network namespace that lives as long as the value: another machine, as far as the network goes.
pub(crate) struct Node(Child);

impl Node {
    /// A namespace with its loopback up.
    pub(crate) fn new() -> Self {
        let child =
            Command::new("unshare").args(["--net", "sleep", "300"]).stdout(Stdio::null()).spawn().unwrap();
        let node = Self(child);
        // The child has a namespace of its own once unshare has run.
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", node.pid());
        while std::fs::read_link(&path).unwrap() == own {
            std::thread::yield_now();
        }
        node.run("ip link set lo up");
        node
    }

    /// What `ip` takes as `netns`.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Runs a part of the test in there.
    pub(crate) fn within<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let enter = move || {
            nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            run()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// The command, as it has to be called to run in there.
    pub(crate) fn wrap(&self, command: &str) -> String {
        format!("nsenter --net=/proc/{}/ns/net sh -c '{command}'", self.pid())
    }

    /// Runs a command in there; panics if it fails.
    pub(crate) fn run(&self, command: &str) -> String {
        run(&self.wrap(command))
    }

    /// Runs a command in there.
    pub(crate) fn attempt(&self, command: &str) -> (bool, String) {
        attempt(&self.wrap(command))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A test that needs root: in a network namespace of its own, within a tokio runtime on one thread.
pub(crate) fn in_netns(name: &'static str, test: impl AsyncFnOnce() + Send + 'static) -> Trial {
    let trial = Trial::test(name, move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("unshare: {error}"))?;
        run("ip link set lo up");
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test());
        Ok(())
    });
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("SKIPPED {name}: needs root, for network namespaces");
        return trial.with_ignored_flag(true);
    }
    trial
}
