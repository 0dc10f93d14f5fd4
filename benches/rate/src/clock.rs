//! The CPU time of a thread.

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The clock of one thread of this process, read from any of its threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadClock(ClockId);

impl ThreadClock {
    /// The clock of the thread of that name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn of(name: &str) -> anyhow::Result<Self> {
        let task = find_task(Path::new("/proc/self/task"), name)?;
        let number = task.file_name().and_then(|number| number.to_str()?.parse::<i32>().ok());
        let number = number.with_context(|| format!("{} is no thread's", task.display()))?;
        // How Linux numbers the clocks of threads: the complement of the thread's number, then three bits, of which 4
        // means a thread's and 2 scheduler time (clock_getres(2) has the process's, `CPUCLOCK_PERTHREAD_MASK`).
        Ok(Self(ClockId::from_raw(!number << 3 | 4 | 2)))
    }

    /// What the thread has used so far.
    pub(crate) fn now(self) -> anyhow::Result<Duration> {
        Ok(clock_gettime(self.0).context("read a thread's clock")?.into())
    }
}

/// The directory of a process's thread with a name that begins so.
///
/// # Errors
/// There is none.
pub(crate) fn find_task(tasks: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(tasks).with_context(|| format!("read {}", tasks.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let is = |path: &PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|own| own.trim_end().starts_with(name))
    };
    paths.find(is).with_context(|| format!("there is no thread {name} in {}", tasks.display()))
}

/// What another process's thread has used so far. The kernel brings it up to date when the thread goes to sleep.
pub(crate) fn scheduled(task: &Path) -> anyhow::Result<Duration> {
    let path = task.join("schedstat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.with_context(|| format!("{} is {text:?}", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_of_a_thread_moves_with_its_work_alone() {
        let (go, told) = std::sync::mpsc::channel::<()>();
        let (done, heard) = std::sync::mpsc::channel();
        let work = move || {
            for () in told {
                let own = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap();
                let until = own() + Duration::from_millis(20);
                while own() < until {}
                done.send(()).unwrap();
            }
        };
        let thread = std::thread::Builder::new().name("clocked".to_owned()).spawn(work).unwrap();
        go.send(()).unwrap();
        heard.recv().unwrap();
        let clock = ThreadClock::of("clocked").unwrap();
        let before = clock.now().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(clock.now().unwrap() - before < Duration::from_millis(10));
        go.send(()).unwrap();
        heard.recv().unwrap();
        assert!(clock.now().unwrap() - before >= Duration::from_millis(20));
        drop(go);
        thread.join().unwrap();
        assert!(ThreadClock::of("clocked").is_err());
    }
}
