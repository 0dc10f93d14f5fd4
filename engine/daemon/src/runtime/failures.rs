//! What workers refused because of what senders claimed, on its way to the control thread.

use crossbeam::queue::ArrayQueue;
use overlane_dataplane::failure::{Failure, Failures};
use std::sync::Arc;
use tokio::sync::Notify;

/// Entries that wait for the control thread: two workers' full tables. What does not fit stays with its worker, and grows on.
const WAITING: usize = 2 * Failures::CAPACITY;

/// The bounded way from the workers to the control thread.
#[derive(Debug)]
pub(super) struct FailureQueue {
    waiting: ArrayQueue<Failure>,
    told: Notify,
}

impl Default for FailureQueue {
    fn default() -> Self {
        Self { waiting: ArrayQueue::new(WAITING), told: Notify::new() }
    }
}

impl FailureQueue {
    /// Takes what a worker has noted, as far as there is room, and wakes who waits for it.
    pub(super) fn take_from(&self, noted: &Failures) {
        noted.hand_over(|failure| self.waiting.push(failure).is_ok());
        self.told.notify_one();
    }
}

/// What workers refused because of what senders claimed, as they hand it over. Meant for one reader.
#[derive(Debug, Clone)]
pub struct FailureReports(pub(super) Arc<FailureQueue>);

impl FailureReports {
    /// The next entry.
    pub async fn next(&mut self) -> Failure {
        loop {
            if let Some(failure) = self.0.waiting.pop() {
                return failure;
            }
            self.0.told.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_dataplane::drop::DropReason;
    use overlane_dataplane::failure::{Claim, Origin};
    use std::net::Ipv6Addr;

    fn note(noted: &Failures, host: u128) {
        let source = Ipv6Addr::from_bits(0xfd << 120 | host << 64);
        noted.note(DropReason::SrcUnknownNode, Origin::Substrate(source), None, Claim::Source(source));
    }

    #[tokio::test]
    async fn what_finds_no_room_stays_with_its_worker_and_nothing_is_lost() {
        let queue = Arc::new(FailureQueue::default());
        let mut reports = FailureReports(queue.clone());
        let waits = tokio::spawn(async move { (reports.next().await, reports) });
        tokio::task::yield_now().await;
        let noted = Failures::new(5);
        note(&noted, 1);
        queue.take_from(&noted);
        let (first, mut reports) = waits.await.unwrap();
        assert_eq!((first.count, noted.is_waiting()), (1, false));

        // A reader that is slow: three full tables, and room for two.
        let mut sent = 0;
        for round in 0..3 {
            for host in 0..1000 {
                note(&noted, round << 16 | host);
                sent += 1;
            }
            queue.take_from(&noted);
        }
        assert!(noted.is_waiting(), "there was no room for all");
        let mut heard = 0;
        loop {
            while let Some(failure) = reports.0.waiting.pop() {
                heard += failure.count;
            }
            if !noted.is_waiting() {
                break;
            }
            queue.take_from(&noted);
        }
        assert_eq!(heard, sent);
        // Wakes though it was told before there was a reader.
        note(&noted, 7);
        queue.take_from(&noted);
        assert_eq!(reports.next().await.count, 1);
    }
}
