//! A trace of one thread's system calls: another process, which is this binary again, does it.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Names the thread that this process is to trace, in its environment.
const TRACE: &str = "OVERLANE_TRACE";

/// A thread that is traced; it runs on meanwhile.
pub(crate) struct Traced {
    tracer: Child,
    output: BufReader<ChildStdout>,
}

impl Traced {
    /// Traces a thread of this process from now on.
    pub(crate) fn thread(thread: u32) -> Self {
        let mut tracer = Command::new(std::env::current_exe().unwrap())
            .env(TRACE, thread.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(tracer.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "tracing\n");
        Self { tracer, output }
    }

    /// Ends the trace and gives the numbers of the system calls that the thread made, in their order.
    pub(crate) fn calls(mut self) -> Vec<u64> {
        drop(self.tracer.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        assert!(self.tracer.wait().unwrap().success(), "{text}");
        text.lines().map(|number| number.parse().unwrap()).collect()
    }
}

/// To be called first in `main`: whether this process was the one that traces, which it does until its standard input
/// ends; then it writes the numbers of the calls, a line each.
pub(crate) fn traced_one() -> bool {
    let Ok(thread) = std::env::var(TRACE) else { return false };
    let thread = Pid::from_raw(thread.parse().unwrap());
    ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    stop(thread);
    println!("tracing");
    let (mut calls, mut within) = (Vec::new(), false);
    // It stops where a call begins and where it ends.
    let mut note = |status: WaitStatus| {
        if matches!(status, WaitStatus::PtraceSyscall(_)) {
            within = !within;
            if within {
                calls.push(call(thread));
            }
        }
    };
    ptrace::syscall(thread, None).unwrap();
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive if input_has_ended() => break,
            WaitStatus::StillAlive => {}
            status => {
                note(status);
                ptrace::syscall(thread, None).unwrap();
            }
        }
    }
    while let Some(status) = stop(thread) {
        note(status);
        ptrace::syscall(thread, None).unwrap();
    }
    ptrace::detach(thread, None).unwrap();
    calls.iter().for_each(|call| println!("{call}"));
    true
}

/// Makes the thread stop; gives what it stopped for if that was something else.
fn stop(thread: Pid) -> Option<WaitStatus> {
    ptrace::interrupt(thread).unwrap();
    match waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap() {
        WaitStatus::PtraceEvent(..) => None,
        other => Some(other),
    }
}

/// The number of the call that a stopped thread is about to make.
fn call(thread: Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a call's number")
}

/// Whether standard input has ended, within a millisecond.
fn input_has_ended() -> bool {
    let input = std::io::stdin();
    let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(1_u8)) {
        Ok(ready) => ready > 0,
        Err(Errno::EINTR) => false,
        Err(error) => panic!("poll: {error}"),
    }
}
