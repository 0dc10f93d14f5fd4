//! What workers ask the control thread for, on its way there.

use crossbeam::queue::ArrayQueue;
use overlane_dataplane::resolve::Question;
use std::sync::Arc;
use tokio::sync::Notify;

/// Questions that wait for the control thread; those of one interface are limited before they come here.
const QUESTIONS: usize = 1024;

/// The bounded way from the workers to the control thread.
#[derive(Debug)]
pub(super) struct Asked {
    waiting: ArrayQueue<(usize, Question)>,
    told: Notify,
}

impl Default for Asked {
    fn default() -> Self {
        Self { waiting: ArrayQueue::new(QUESTIONS), told: Notify::new() }
    }
}

impl Asked {
    /// Leaves a question of a worker; whether there was room for it. [`Asked::tell`] is still to be called.
    pub(super) fn put(&self, worker: usize, question: Question) -> bool {
        self.waiting.push((worker, question)).is_ok()
    }

    /// Wakes who waits for questions.
    pub(super) fn tell(&self) {
        self.told.notify_one();
    }
}

/// What workers ask for, as it comes, with the worker that the answer is for.
#[derive(Debug, Clone)]
pub struct Questions(pub(super) Arc<Asked>);

impl Questions {
    /// The next one.
    pub async fn next(&mut self) -> (usize, Question) {
        loop {
            if let Some(asked) = self.0.waiting.pop() {
                return asked;
            }
            self.0.told.notified().await;
        }
    }
}
