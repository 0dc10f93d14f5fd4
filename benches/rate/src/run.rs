//! Measures rows: makes the capture, starts both sides, and compares them.

use crate::bare::Bare;
use crate::capsule::{self, Capsule};
use crate::child::{Contender, MEMORY_MIB, Setup, Task};
use crate::engine::{Engine, limits};
use crate::frames::{Direction, Size, frames, write_capture};
use crate::hugepages::Hugepages;
use crate::measure::{Comparison, Reading, Side, compare};
use crate::rows::{Row, What};
use crate::stamp::Stamp;
use crate::testpmd::{self, Testpmd};
use anyhow::{Context, bail};
use overlane_engine::runtime::Cores;
use std::path::Path;
use std::time::Duration;

/// Memory of a mapping, with room to grow the table, in bytes.
const MAPPING: u64 = 96;
/// Cores that rows with two workers need: theirs and one for everything else.
const CORES_FOR_TWO: usize = 3;
/// Cores that capsule needs: its main thread's is none of its worker's.
const CORES_FOR_CAPSULE: usize = 2;

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
}

/// A row and what came of it.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) row: Row,
    pub(crate) outcome: Outcome,
}

/// What came of a row.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was measured.
    Compared(Comparison),
    /// This machine cannot: why.
    Skipped(String),
}

/// Where rows are measured.
#[derive(Debug)]
pub(crate) struct Bench {
    cores: Vec<usize>,
    control: usize,
    hugepages: Hugepages,
    directory: tempfile::TempDir,
}

impl Side for Testpmd {
    fn measure(&mut self, time: Duration) -> anyhow::Result<Reading> {
        Testpmd::measure(self, time)
    }
}

/// Cores for so many workers, as far from each other as there are cores: neighbours are often two threads of one core, which
/// share what they are measured by.
fn apart(cores: &[usize], workers: usize) -> Vec<usize> {
    let step = cores.len().checked_div(workers).unwrap_or(1).max(1);
    cores.iter().copied().step_by(step).take(workers).collect()
}

impl Bench {
    /// Looks at the machine, and prepares memory on it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        if !testpmd::is_installed() {
            bail!("{} is not installed; Debian has it in dpdk-dev", testpmd::PROGRAM);
        }
        let shared = Cores::choose(&[])?;
        let (cores, control) = (shared.workers, shared.control);
        let first = *control.first().context("a core")?;
        // Workers get the last cores, testpmd the last one.
        let cores = cores.into_iter().chain(control.into_iter().rev()).collect();
        // Two sides live at a time.
        let hugepages = Hugepages::reserve(u64::from(MEMORY_MIB) * 2);
        let directory = tempfile::Builder::new().prefix("overlane-rate-").tempdir()?;
        Ok(Self { cores, control: first, hugepages, directory })
    }

    /// Whether packet memory is on hugepages.
    pub(crate) fn hugepages(&self) -> bool {
        self.hugepages.enough()
    }

    /// Measures a row. `go_on` is asked before each round.
    pub(crate) fn measure(
        &self,
        row: Row,
        effort: Effort,
        go_on: &dyn Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<Measured> {
        if let Some(reason) = self.missing(&row) {
            return Ok(Measured { row, outcome: Outcome::Skipped(reason) });
        }
        let compared = self.compare(row, effort, go_on).with_context(|| format!("row {row}"))?;
        Ok(Measured { row, outcome: Outcome::Compared(compared) })
    }

    /// What the row needs and the machine has not.
    fn missing(&self, row: &Row) -> Option<String> {
        if row.workers() > 1 && self.cores.len() < CORES_FOR_TWO {
            return Some(format!(
                "needs {CORES_FOR_TWO} cores, and this process may use {}",
                self.cores.len()
            ));
        }
        if matches!(row.what, What::Capsule { .. }) {
            if capsule::program().is_none() {
                return Some(format!("the capsule driver is not built: {}", capsule::BUILD));
            }
            if self.cores.len() < CORES_FOR_CAPSULE {
                return Some("capsule's main thread and its worker need a core each".to_owned());
            }
        }
        let flows = limits(row.flows()).map_or(0, |limits| limits.memory(row.workers()) as u64);
        let needed = (u64::from(row.mappings()) * MAPPING + flows) >> 20;
        let free = available_mib().unwrap_or(u64::MAX);
        (needed > free)
            .then(|| format!("needs {needed} MiB of memory for its tables, and {free} MiB are available"))
    }

    fn compare(
        &self,
        row: Row,
        effort: Effort,
        go_on: &dyn Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<Comparison> {
        let engine = |direction, mappings| -> anyhow::Result<Task> {
            let stamp = row.is_stamped().then(|| Stamp::new(direction, mappings)).transpose()?;
            Ok(Task::Engine(Engine { direction, mappings, flows: row.flows(), stamp }))
        };
        let (direction, size) = match row.what {
            What::Engine { direction, size, .. }
            | What::Stateful { direction, size, .. }
            | What::Capsule { direction, size, .. }
            | What::Bare { direction, size }
            | What::Stamp { direction, size }
            | What::TwoWorkers { direction, size, .. } => (direction, size),
        };
        // What the stamp writes is added to packets of the first node.
        let spread = if row.is_stamped() { 1 } else { row.mappings().max(1) };
        let capture = self.capture(direction, size, spread)?;
        let setup = |workers: usize| Setup {
            capture: capture.clone(),
            hugepages: self.hugepages(),
            cores: apart(&self.cores, workers),
            control: self.control,
        };
        let ours = |task, workers| -> anyhow::Result<Box<dyn Side>> {
            Ok(Box::new(Contender::start(&setup(workers), &task)?))
        };
        let side = |workers| -> anyhow::Result<Box<dyn Side>> {
            match row.what {
                What::Engine { direction, mappings, .. } | What::TwoWorkers { direction, mappings, .. } => {
                    ours(engine(direction, mappings)?, workers)
                }
                What::Stateful { direction, flows, .. } => ours(engine(direction, flows)?, workers),
                What::Capsule { direction, mappings, .. } => {
                    let site = self.directory.path().join("capsule.toml");
                    Ok(Box::new(Capsule::start(&setup(workers), direction, mappings, &site)?))
                }
                What::Bare { .. } => ours(Task::Bare(Bare { stamp: None }), workers),
                What::Stamp { direction, .. } => {
                    ours(Task::Bare(Bare { stamp: Some(Stamp::new(direction, u32::MAX)?) }), workers)
                }
            }
        };
        let mut baseline = match row.what {
            What::TwoWorkers { .. } => side(1)?,
            _ => Box::new(Testpmd::start(&setup(1))?),
        };
        let mut contender = side(row.workers())?;
        compare(&mut *contender, &mut *baseline, effort.rounds, effort.time, go_on)
    }

    fn capture(&self, direction: Direction, size: Size, spread: u32) -> anyhow::Result<std::path::PathBuf> {
        let path = self.directory.path().join(format!("{direction:?}-{size}-{spread}.pcap"));
        write_capture(&path, &frames(direction, size, spread)?)?;
        Ok(path)
    }
}

/// Memory that programs can still have, in MiB.
fn available_mib() -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_on_cores_far_apart() {
        let cores: Vec<usize> = (0..16).rev().collect();
        assert_eq!(apart(&cores, 1), [15]);
        assert_eq!(apart(&cores, 2), [15, 7]);
        assert_eq!(apart(&[2, 1, 0], 2), [2, 1]);
        assert_eq!(apart(&[1, 0], 1), [1]);
    }
}
