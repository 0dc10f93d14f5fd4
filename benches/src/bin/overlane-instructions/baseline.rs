//! The committed counts, and what they hold for.

use anyhow::{Context, Result, ensure};
use core::fmt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What counts depend on besides the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    rustc: String,
    /// Whether callgrind runs AVX2, which it does where the processor has it.
    avx2: bool,
}

impl Machine {
    /// This one, and the compiler that `cargo` uses.
    pub(crate) fn here() -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(&rustc).arg("--version").output();
        let output = output.with_context(|| format!("{} cannot be run", rustc.display()))?;
        ensure!(output.status.success(), "{} --version: {}", rustc.display(), output.status);
        let rustc = String::from_utf8(output.stdout)?.trim().to_owned();
        #[cfg(target_arch = "x86_64")]
        let avx2 = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let avx2 = false;
        Ok(Self { rustc, avx2 })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} AVX2", self.rustc, if self.avx2 { "with" } else { "without" })
    }
}

/// Instructions per operation, by case.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    #[serde(flatten)]
    pub(crate) machine: Machine,
    instructions: BTreeMap<String, f64>,
}

impl Baseline {
    pub(crate) const fn new(machine: Machine) -> Self {
        Self { machine, instructions: BTreeMap::new() }
    }

    pub(crate) fn get(&self, case: &str) -> Option<f64> {
        self.instructions.get(case).copied()
    }

    pub(crate) fn set(&mut self, case: &str, count: f64) {
        // A tenth is what the table shows.
        self.instructions.insert(case.to_owned(), (count * 10.0).round() / 10.0);
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }
}
