//! `dpdk-testpmd`, the measure of all rows: it receives, swaps two addresses and sends.

use crate::child::{BUFFERS, MEMORY_MIB, Setup};
use crate::clock::{find_task, scheduled};
use crate::measure::{Reading, Share};
use anyhow::{Context, bail};
use overlane_dpdk::BURST;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The program; Debian has it in `dpdk-dev`.
pub(crate) const PROGRAM: &str = "dpdk-testpmd";
/// What the thread that forwards is called: DPDK's first lcore beside the main one.
const THREAD: &str = "rte-worker-1";
/// What it calls that thread since DPDK 23.07.
const THREAD_LATER: &str = "dpdk-worker1";

/// A testpmd that waits to be told to forward.
#[derive(Debug)]
pub(crate) struct Testpmd {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The directory of its forwarding thread.
    task: PathBuf,
}

/// Whether the program is there.
pub(crate) fn is_installed() -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(PROGRAM).is_file())
}

impl Testpmd {
    /// Starts it and waits for its prompt. One core forwards, whatever `setup` has.
    pub(crate) fn start(setup: &Setup) -> anyhow::Result<Self> {
        let core = setup.cores.first().context("a core")?;
        // Into a pipe its library buffers whole blocks, and its answers would come too late.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", PROGRAM, "--no-pci", "--no-telemetry"]);
        command.arg(format!("--lcores=0@{},1@{core}", setup.control));
        command.arg(format!("--file-prefix={}", prefix()));
        command.args(["-m", &MEMORY_MIB.to_string()]);
        command.args(if setup.hugepages { &["--in-memory"][..] } else { &["--no-huge", "--no-shconf"] });
        command.args(["--iova-mode=va", &format!("--vdev={}", setup.input()?.as_str())]);
        command.args([&format!("--vdev={}", setup.output()?.as_str()), "--", "--interactive"]);
        // Without emptying receive queues first, which an endless capture would never let it finish.
        command.args(["--forward-mode=macswap", "--nb-cores=1", "--no-flush-rx", "--mbcache=256"]);
        command.args([&format!("--burst={BURST}"), &format!("--total-num-mbufs={BUFFERS}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("start {PROGRAM}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.context("its pipes")?;
        let mut testpmd = Self { child, input, output: BufReader::new(output), task: PathBuf::new() };
        // It says so last before its prompt, which has no end of line.
        testpmd.hear("Checking link statuses...")?;
        let tasks = PathBuf::from(format!("/proc/{}/task", testpmd.child.id()));
        let task = find_task(&tasks, THREAD).or_else(|_| find_task(&tasks, THREAD_LATER));
        testpmd.task = task.with_context(|| format!("the forwarding thread of {PROGRAM}"))?;
        Ok(testpmd)
    }

    /// Forwards for `time`. Its thread sleeps before and after, so that all of its time goes into these packets.
    pub(crate) fn measure(&mut self, time: Duration) -> anyhow::Result<Reading> {
        let before = self.asleep()?;
        writeln!(self.input, "start")?;
        std::thread::sleep(time);
        writeln!(self.input, "stop")?;
        // The same words come for each port, and before this for all of them.
        self.hear("Accumulated forward statistics for all ports")?;
        let text = self.hear("RX-packets:")?;
        self.hear("Done.")?;
        let count =
            text.split("RX-packets:").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let packets = count.with_context(|| format!("{PROGRAM} counts {text:?}"))?;
        let cpu = self.asleep()?.saturating_sub(before);
        if packets == 0 || cpu.is_zero() {
            bail!("{PROGRAM} forwarded {packets} packets in {cpu:?}");
        }
        Ok(Reading { shares: vec![Share { packets, cpu }], parts: None })
    }

    /// The thread's time, once it sleeps.
    fn asleep(&self) -> anyhow::Result<Duration> {
        let until = Instant::now() + Duration::from_secs(5);
        let stat = self.task.join("stat");
        loop {
            let text = std::fs::read_to_string(&stat).with_context(|| format!("{PROGRAM} ended"))?;
            // The state is behind the name, which is in brackets and may hold anything.
            if text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S')) {
                return scheduled(&self.task);
            }
            if Instant::now() > until {
                bail!("the forwarding thread of {PROGRAM} does not come to rest");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads up to the line that holds `words`, and gives it.
    fn hear(&mut self, words: &str) -> anyhow::Result<String> {
        let mut said = String::new();
        loop {
            let start = said.len();
            if self.output.read_line(&mut said)? == 0 {
                bail!("{PROGRAM} ended ({}) before it said {words:?}; it said:\n{said}", self.child.wait()?);
            }
            let line = said.get(start..).unwrap_or_default();
            if line.contains(words) {
                return Ok(line.to_owned());
            }
        }
    }
}

/// Tells its files from those of other DPDK programs.
fn prefix() -> String {
    format!("overlane-rate-{}", std::process::id())
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // DPDK makes a directory for what processes share, and leaves it, though here nothing is shared.
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !nix::unistd::Uid::effective().is_root());
        let runtime = runtime.map_or_else(|| PathBuf::from("/var/run"), PathBuf::from);
        let _ = std::fs::remove_dir(runtime.join("dpdk").join(prefix()));
    }
}
