//! A thread that is held up: another process, which is this binary again, traces it.

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Names the thread that this process is to hold up, in its environment.
const HOLD: &str = "OVERLANE_HOLD";

/// The thread of a process that has this name.
pub(crate) fn thread(process: u32, name: &str) -> u32 {
    let is = |path: &std::path::Path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|own| own.trim_end() == name)
    };
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let task = tasks.map(|task| task.unwrap()).find(|task| is(&task.path()));
    let task = task.unwrap_or_else(|| panic!("process {process} has no thread {name}")).file_name();
    task.to_str().unwrap().parse().unwrap()
}

/// A thread that is held up as long as the value lives.
pub(crate) struct Held(Child);

impl Held {
    /// Holds up a thread, of this process or another.
    pub(crate) fn thread(thread: u32) -> Self {
        let holder = Command::new(std::env::current_exe().unwrap())
            .env(HOLD, thread.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut held = Self(holder);
        let mut line = String::new();
        BufReader::new(held.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success() || std::thread::panicking());
    }
}

/// To be called first in `main`: whether this process was the one that holds a thread, which it does until its standard
/// input ends.
pub(crate) fn held_one() -> bool {
    let Ok(thread) = std::env::var(HOLD) else { return false };
    let thread = Pid::from_raw(thread.parse().unwrap());
    stop(thread);
    println!("held");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    ptrace::detach(thread, None).unwrap();
    true
}

/// Begins to trace a thread, which stands still then.
fn stop(thread: Pid) {
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(thread).unwrap();
    let stopped = waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    assert!(matches!(stopped, WaitStatus::PtraceEvent(..)), "{stopped:?}");
}
