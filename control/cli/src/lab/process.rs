//! Processes of the lab that outlive the command which started them.
//!
//! Each has a file with its process id and start time; the two together name one process for good, so that `down`
//! ends the lab's own processes and never one that got a reused id.

use super::wait;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A process the lab started, now or in an earlier command.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: i32,
    start: u64,
    file: PathBuf,
    /// Present where this very command started it, so that it can be reaped.
    child: Option<Child>,
}

/// When a process started, in clock ticks since boot; `None` when it is gone or only waits to be reaped.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after it start with the state (proc(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

impl Process {
    /// Ends what an interrupted command left running under this name.
    ///
    /// # Errors
    /// If it does not end.
    pub fn clear(state: &Path, name: &str) -> Result<()> {
        match Self::load(state, name) {
            Ok(mut process) => process.kill(),
            Err(_) => Ok(()),
        }
    }

    /// Starts `command` in a process group of its own, with output appended to `logs/<name>.log`.
    ///
    /// # Errors
    /// If it cannot be started or written down.
    pub fn start(state: &Path, name: &str, mut command: Command) -> Result<Self> {
        let log = log_path(state, name);
        let output =
            File::options().create(true).append(true).open(&log).with_context(|| format!("{log:?}"))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let pid = i32::try_from(child.id())?;
        let start = start_time(pid).unwrap_or_default();
        let file = state.join("pids").join(name);
        std::fs::write(&file, format!("{pid} {start}\n")).with_context(|| format!("{file:?}"))?;
        Ok(Self { name: name.to_owned(), pid, start, file, child: Some(child) })
    }

    /// Reads back a process that an earlier command started.
    ///
    /// # Errors
    /// If it was never started or its file is damaged.
    pub fn load(state: &Path, name: &str) -> Result<Self> {
        let file = state.join("pids").join(name);
        let text = std::fs::read_to_string(&file).with_context(|| format!("{file:?}"))?;
        let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(pid)), Some(Ok(start))) = (fields.next(), fields.next()) else {
            bail!("{file:?} holds no process id and start time");
        };
        Ok(Self { name: name.to_owned(), pid: i32::try_from(pid)?, start, file, child: None })
    }

    /// All processes written down in the lab's state.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn load_all(state: &Path) -> Result<Vec<Self>> {
        let directory = state.join("pids");
        if !directory.exists() {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            // A file cut short by a crash: its process is found by its namespace instead.
            if let Ok(process) = Self::load(state, &entry?.file_name().to_string_lossy()) {
                all.push(process);
            }
        }
        Ok(all)
    }

    /// Its name in the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        start_time(self.pid) == Some(self.start)
    }

    /// Sends a signal, if it still runs.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.is_running() {
            match kill(Pid::from_raw(self.pid), signal) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => return Err(error).context(format!("{signal} to {}", self.name)),
            }
        }
        Ok(())
    }

    /// Waits until it has ended; `None` for the status of a process that an earlier command started.
    ///
    /// # Errors
    /// If it still runs at the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Result<Option<ExitStatus>> {
        wait::until(&format!("{} to end", self.name), deadline, || Ok((!self.is_running()).then_some(())))?;
        let status = match &mut self.child {
            Some(child) => Some(child.wait()?),
            None => None,
        };
        let _ = std::fs::remove_file(&self.file);
        Ok(status)
    }

    /// Ends it: SIGTERM, and SIGKILL when it has not ended by the deadline.
    ///
    /// # Errors
    /// If it does not even end by SIGKILL.
    pub fn stop(&mut self, deadline: Duration) -> Result<Stopped> {
        self.signal(Signal::SIGTERM)?;
        if let Ok(status) = self.wait(deadline) {
            return Ok(Stopped::Ended(status));
        }
        self.kill()?;
        Ok(Stopped::Killed)
    }

    /// Ends it by SIGKILL.
    ///
    /// # Errors
    /// If it does not end.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(5))?;
        Ok(())
    }
}

/// How a process came to its end.
#[derive(Debug)]
pub enum Stopped {
    /// By itself after SIGTERM, with this status where it is known.
    Ended(Option<ExitStatus>),
    /// Only by SIGKILL.
    Killed,
}

/// Where a process's output goes.
#[must_use]
pub fn log_path(state: &Path, name: &str) -> PathBuf {
    state.join("logs").join(format!("{name}.log"))
}
