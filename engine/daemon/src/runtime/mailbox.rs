//! What others leave for a worker: commands, packets for ports that it owns, frames to send. All bounded.

use super::slots::SlotRing;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};
use crossbeam::queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::id::PortId;
use overlane_dataplane::resolve::Answer;
use overlane_dataplane::segment::Capabilities;
use overlane_dpdk::{Mbuf, RxQueue, TxQueue};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Commands that wait. The port thread waits for an answer to each, so there are never many.
const COMMANDS: usize = 16;
/// Packets that wait for the owner of their port.
const HANDOFF: usize = 1024;
/// Frames of the engine's own that wait to be sent.
const INJECT: usize = 64;
/// Answers that wait for the worker.
const ANSWERS: usize = 1024;

/// What the port thread tells a worker.
pub(super) enum Command {
    /// A port is there.
    Add(AddPort),
    /// A port goes: its queues are given back.
    Remove { port: PortId, reply: SyncSender<Returned> },
    /// Give back every queue and end.
    Stop { reply: SyncSender<Returned> },
}

/// A worker's share of a port.
pub(super) struct AddPort {
    pub(super) port: PortId,
    pub(super) rx: Vec<RxQueue>,
    pub(super) way: Way,
    pub(super) traffic: Arc<PerWorker<Traffic>>,
    /// Answered with nothing to give back.
    pub(super) reply: SyncSender<Returned>,
}

/// How a worker's packets leave by a port.
pub(super) enum Way {
    /// By a queue of its own, which does by itself what is said.
    Queue(TxQueue, Capabilities),
    /// By another worker's.
    Via(usize),
}

/// Queues that a worker gives back.
#[derive(Default)]
pub(super) struct Returned {
    pub(super) rx: Vec<RxQueue>,
    pub(super) tx: Vec<TxQueue>,
}

/// Everything that is left for one worker.
pub(super) struct Mailbox {
    pub(super) commands: ArrayQueue<Command>,
    pub(super) handoff: ArrayQueue<(PortId, Mbuf)>,
    pub(super) inject: SlotRing,
    pub(super) answers: ArrayQueue<Answer>,
    asleep: AtomicBool,
    event: EventFd,
}

impl Mailbox {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            commands: ArrayQueue::new(COMMANDS),
            handoff: ArrayQueue::new(HANDOFF),
            inject: SlotRing::new(INJECT),
            answers: ArrayQueue::new(ANSWERS),
            asleep: AtomicBool::new(false),
            event: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// Wakes the worker, if it sleeps, after something was left for it.
    pub(super) fn wake(&self) {
        // Pairs with the fence in `may_sleep`: either the worker sees what was left, or this sees it asleep.
        fence(SeqCst);
        if self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst) {
            // It cannot fail but by a full counter, and then the worker is woken already.
            let _ = self.event.write(1);
        }
    }

    /// Announces that the worker is about to sleep; `false` if it must not, since something waits for it.
    pub(super) fn may_sleep(&self) -> bool {
        self.asleep.store(true, SeqCst);
        fence(SeqCst);
        let nothing = self.commands.is_empty()
            && self.handoff.is_empty()
            && self.inject.is_empty()
            && self.answers.is_empty();
        if !nothing {
            self.asleep.store(false, SeqCst);
        }
        nothing
    }

    /// The worker is awake.
    pub(super) fn awake(&self) {
        if !self.asleep.swap(false, SeqCst) {
            // Somebody woke it: the counter goes back to zero.
            let _ = self.event.read();
        }
    }

    /// Readable when the worker was woken.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn is_readable(mailbox: &Mailbox) -> bool {
        poll(&mut [PollFd::new(mailbox.fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn sleeper_is_woken_once_and_only_while_it_sleeps() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.wake();
        assert!(!is_readable(&mailbox));
        assert!(mailbox.may_sleep());
        mailbox.wake();
        mailbox.wake();
        assert!(is_readable(&mailbox));
        mailbox.awake();
        assert!(!is_readable(&mailbox));
    }

    #[test]
    fn worker_with_something_in_its_mailbox_does_not_sleep() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.inject.put(PortId::new(0).unwrap(), [&b"frame"[..]].into_iter()).unwrap();
        assert!(!mailbox.may_sleep());
        mailbox.wake();
        assert!(!is_readable(&mailbox));
    }
}
