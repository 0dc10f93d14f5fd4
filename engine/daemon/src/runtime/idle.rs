//! What a worker does when there is nothing to do.

use super::mailbox::Mailbox;
use core::time::Duration;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use overlane_dpdk::RxQueue;
use std::os::fd::AsFd;

/// Empty turns before a worker sleeps: a packet that follows soon finds it awake.
pub(super) const SPIN_TURNS: u32 = 64;
/// Longest sleep while every port can wake the worker.
const LONGEST: Duration = Duration::from_millis(100);
/// Sleeps while some port cannot: from the first on each twice as long as the one before.
const FIRST_BLIND: Duration = Duration::from_micros(30);
const LONGEST_BLIND: Duration = Duration::from_micros(250);

/// Where a worker sleeps until a packet or a command comes.
pub(super) struct Sleeper {
    epoll: Epoll,
    next_blind: Duration,
}

impl Sleeper {
    pub(super) fn new(mailbox: &Mailbox) -> std::io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(mailbox.fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(Self { epoll, next_blind: FIRST_BLIND })
    }

    /// Wakes the worker for `queue` from now on, if the queue has a way to.
    pub(super) fn watch(&self, queue: &RxQueue) -> std::io::Result<()> {
        let Some(fd) = queue.fd() else { return Ok(()) };
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))?)
    }

    /// The queue goes elsewhere. One whose device is gone is quiet, and vanishes here when it is closed.
    pub(super) fn forget(&self, queue: &RxQueue) {
        if let Some(fd) = queue.fd() {
            let _ = self.epoll.delete(fd);
        }
    }

    /// A packet came: the next sleep is a short one again.
    pub(super) fn reset(&mut self) {
        self.next_blind = FIRST_BLIND;
    }

    /// Sleeps until something comes, or for a bounded time. `blind`: some port cannot wake the worker.
    pub(super) fn sleep(&mut self, mailbox: &Mailbox, blind: bool) {
        if !mailbox.may_sleep() {
            return;
        }
        let time = if blind { self.next_blind } else { LONGEST };
        if blind {
            self.next_blind = (self.next_blind * 2).min(LONGEST_BLIND);
        }
        // Interrupted or timed out, it is the same: the next turn looks.
        let mut fds = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(time)), None);
        mailbox.awake();
    }
}
