//! Which cores workers have, and which are left for everything else.

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores of the workers and of the rest of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores {
    /// One worker on each.
    pub workers: Vec<usize>,
    /// For the control thread and DPDK's own threads: the others, or all if there are no others.
    pub control: Vec<usize>,
}

impl Cores {
    /// Shares out the cores that the calling thread may use. `workers` empty: one worker, on the last core.
    ///
    /// # Errors
    /// A core that is not among them, or is named twice.
    pub fn choose(workers: &[usize]) -> anyhow::Result<Self> {
        let set = sched_getaffinity(Pid::from_raw(0)).context("read the cores that the process may use")?;
        let allowed: Vec<_> =
            (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect();
        Self::share(&allowed, workers)
    }

    fn share(allowed: &[usize], wanted: &[usize]) -> anyhow::Result<Self> {
        for (place, core) in wanted.iter().enumerate() {
            if !allowed.contains(core) {
                bail!("worker core {core}: legal are the cores that this process may use: {allowed:?}");
            }
            if wanted.iter().take(place).any(|other| other == core) {
                bail!("worker core {core} is named twice: a core has one worker");
            }
        }
        let workers = match allowed.last() {
            Some(last) if wanted.is_empty() => vec![*last],
            _ => wanted.to_vec(),
        };
        let others: Vec<_> = allowed.iter().copied().filter(|core| !workers.contains(core)).collect();
        let control = if others.is_empty() { allowed.to_vec() } else { others };
        Ok(Self { workers, control })
    }

    /// Confines the calling thread, and the threads that it spawns from now on, to the control cores.
    ///
    /// # Errors
    /// The kernel's.
    pub fn confine_to_control(&self) -> anyhow::Result<()> {
        let mut set = CpuSet::new();
        for core in &self.control {
            set.set(*core)?;
        }
        sched_setaffinity(Pid::from_raw(0), &set).context("confine a thread to the control cores")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_control_do_not_share_cores_while_there_are_enough() {
        let cores = Cores::share(&[0, 1, 2, 3], &[1, 3]).unwrap();
        assert_eq!((cores.workers, cores.control), (vec![1, 3], vec![0, 2]));
        let cores = Cores::share(&[2, 5], &[]).unwrap();
        assert_eq!((cores.workers, cores.control), (vec![5], vec![2]));
        let cores = Cores::share(&[7], &[]).unwrap();
        assert_eq!((cores.workers, cores.control), (vec![7], vec![7]));
    }

    #[test]
    fn core_that_is_not_ours_or_named_twice_is_refused_by_number() {
        assert!(Cores::share(&[0, 1], &[4]).unwrap_err().to_string().contains("core 4"));
        assert!(Cores::share(&[0, 1], &[1, 1]).unwrap_err().to_string().contains("twice"));
    }
}
