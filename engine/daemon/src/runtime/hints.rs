//! What the substrate tells workers of its paths, on its way to the control thread.

use crossbeam::queue::ArrayQueue;
use overlane_dataplane::address::HostPrefix;
use std::sync::Arc;
use tokio::sync::Notify;

/// Path MTUs that wait for the control thread. What does not fit comes again, with the next packet that is too large.
const HINTS: usize = 256;

/// The bounded way from the workers to the control thread.
#[derive(Debug)]
pub(super) struct Hints {
    waiting: ArrayQueue<(HostPrefix, u16)>,
    told: Notify,
}

impl Default for Hints {
    fn default() -> Self {
        Self { waiting: ArrayQueue::new(HINTS), told: Notify::new() }
    }
}

impl Hints {
    /// Leaves a hint; whether there was room for it. [`Hints::tell`] is still to be called.
    pub(super) fn put(&self, host: HostPrefix, mtu: u16) -> bool {
        self.waiting.push((host, mtu)).is_ok()
    }

    /// Wakes who waits for hints.
    pub(super) fn tell(&self) {
        self.told.notify_one();
    }
}

/// Path MTUs that the substrate has told workers, as they come: the largest IPv6 packet to a host, in bytes.
#[derive(Debug, Clone)]
pub struct PathMtuHints(pub(super) Arc<Hints>);

impl PathMtuHints {
    /// The next one.
    pub async fn next(&mut self) -> (HostPrefix, u16) {
        loop {
            if let Some(hint) = self.0.waiting.pop() {
                return hint;
            }
            self.0.told.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_dataplane::address::Layout;

    #[tokio::test]
    async fn hints_come_in_order_and_what_finds_no_room_is_lost() {
        let hints = Arc::new(Hints::default());
        let mut stream = PathMtuHints(hints.clone());
        let host = HostPrefix::parse(Layout::Slot64, "fd00:0:0:b::/64").unwrap();
        // Also one that comes while somebody waits.
        let waits = tokio::spawn(async move { (stream.next().await, stream) });
        tokio::task::yield_now().await;
        assert!(hints.put(host, 1300));
        hints.tell();
        let (first, mut stream) = waits.await.unwrap();
        assert_eq!(first, (host, 1300));
        assert_eq!((0..HINTS as u16 + 10).filter(|n| hints.put(host, 2000 + n)).count(), HINTS);
        hints.tell();
        for n in 0..HINTS as u16 {
            assert_eq!(stream.next().await, (host, 2000 + n));
        }
    }
}
