//! Network namespaces: made, entered by a thread, and taken away again.

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where iproute2 keeps the handles of named namespaces.
const HANDLES: &str = "/run/netns";

/// A named network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace(String);

impl Namespace {
    /// The namespace with this name, which need not exist yet.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Makes it, with its loopback up.
    ///
    /// # Errors
    /// If it exists, or the kernel refuses.
    pub fn create(&self) -> Result<()> {
        run(Command::new("ip").args(["netns", "add", &self.0]))?;
        self.ip("link set lo up")
    }

    /// Removes it if it exists; devices in it go with it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn delete(&self) -> Result<()> {
        if self.exists() {
            run(Command::new("ip").args(["netns", "del", &self.0]))?;
        }
        Ok(())
    }

    /// Whether it exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.handle().exists()
    }

    fn handle(&self) -> PathBuf {
        Path::new(HANDLES).join(&self.0)
    }

    /// All named namespaces of this machine.
    ///
    /// # Errors
    /// If the directory of handles exists and cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        let entries = match std::fs::read_dir(HANDLES) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context(HANDLES),
        };
        let mut all = Vec::new();
        for entry in entries {
            all.push(Self(entry?.file_name().to_string_lossy().into_owned()));
        }
        all.sort();
        Ok(all)
    }

    /// Runs iproute2 commands in it, one per line, in one process.
    ///
    /// # Errors
    /// The first command that fails, with iproute2's own words.
    pub fn ip(&self, batch: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.0, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("ip (of iproute2)")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A child that gave up early says why on standard error.
            let _ = stdin.write_all(batch.as_bytes());
        }
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "ip in namespace {}: {} (of: {})",
            self.0,
            String::from_utf8_lossy(&output.stderr).trim(),
            batch.trim()
        );
        Ok(())
    }

    /// A command that will run in it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program.as_ref());
        command
    }

    /// Runs `work` on a thread of its own that is in the namespace; sockets made there stay there.
    ///
    /// # Errors
    /// If the namespace does not exist, or whatever `work` returns.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let handle = File::open(self.handle()).with_context(|| format!("network namespace {}", self.0))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(handle, CloneFlags::CLONE_NEWNET).context("setns")?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Sets kernel parameters under `net.`, given as paths like `ipv6/conf/all/forwarding`.
    ///
    /// # Errors
    /// The first that cannot be set.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (path, value) in settings {
                std::fs::write(Path::new("/proc/sys/net").join(path), value)
                    .with_context(|| format!("sysctl net/{path} = {value}"))?;
            }
            Ok(())
        })
    }

    /// Reads a kernel parameter under `net.`.
    ///
    /// # Errors
    /// If there is none.
    pub fn read_sysctl(&self, path: &str) -> Result<String> {
        self.enter(|| {
            let text =
                std::fs::read_to_string(Path::new("/proc/sys/net").join(path)).context(path.to_owned())?;
            Ok(text.trim().to_owned())
        })
    }

    /// Names of the network devices in it.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn devices(&self) -> Result<Vec<String>> {
        self.enter(|| {
            let mut names: Vec<String> = nix::net::if_::if_nameindex()?
                .iter()
                .map(|i| i.name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            Ok(names)
        })
    }

    /// Ids of the processes with their main thread in it.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let Ok(handle) = std::fs::metadata(self.handle()) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            // The process may be gone by now.
            let Ok(namespace) = std::fs::metadata(entry.path().join("ns/net")) else { continue };
            if (namespace.dev(), namespace.ino()) == (handle.dev(), handle.ino()) {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs a short command to its end.
///
/// # Errors
/// With the command's own words, if it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
