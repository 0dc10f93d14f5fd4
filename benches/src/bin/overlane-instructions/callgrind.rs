//! This program under callgrind.

use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};

/// The instructions of a process that runs a case so many rounds.
pub(crate) fn instructions(case: &str, rounds: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", case, &rounds.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("valgrind (Debian package valgrind) cannot be run")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{case} under callgrind: {}\n{text}", output.status);
    // ==1234== Collected : 5678
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.with_context(|| format!("callgrind tells no count:\n{text}"))?;
    number.trim().parse().with_context(|| format!("callgrind counts {number:?}"))
}
