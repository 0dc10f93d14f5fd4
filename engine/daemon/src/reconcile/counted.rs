//! What ports have counted, over all the ports that an interface has had.

use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::id::VnetId;
use std::sync::Arc;

/// Sums over workers and over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames handed to the port.
    pub tx_packets: u64,
    /// Bytes handed to the port.
    pub tx_bytes: u64,
    /// ICMP errors sent.
    pub icmp_errors_sent: u64,
    /// ICMP errors not sent, beyond their limit.
    pub icmp_errors_limited: u64,
    /// Drops, by [`DropReason::index`].
    pub drops: [u64; DropReason::COUNT],
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            icmp_errors_sent: 0,
            icmp_errors_limited: 0,
            drops: [0; DropReason::COUNT],
        }
    }
}

impl Totals {
    /// Adds what a port has counted.
    pub fn add(&mut self, traffic: &PerWorker<Traffic>) {
        traffic.iter().for_each(|traffic| self.add_one(traffic));
    }

    /// Adds what one worker has counted.
    pub fn add_one(&mut self, traffic: &Traffic) {
        self.rx_packets += traffic.rx_packets.get();
        self.rx_bytes += traffic.rx_bytes.get();
        self.tx_packets += traffic.tx_packets.get();
        self.tx_bytes += traffic.tx_bytes.get();
        self.icmp_errors_sent += traffic.icmp_errors_sent.get();
        self.icmp_errors_limited += traffic.icmp_errors_limited.get();
        for (sum, reason) in self.drops.iter_mut().zip(DropReason::ALL) {
            *sum += traffic.drops.get(*reason);
        }
    }
}

/// An interface or uplink, and what it has counted.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Its name in metrics.
    pub name: String,
    /// Its vnet; `None` for an uplink.
    pub vnet: Option<VnetId>,
    /// The port it has now.
    pub now: Option<Arc<PerWorker<Traffic>>>,
    /// The ports it had before.
    pub before: Arc<Totals>,
}

impl Counted {
    /// Everything it has counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = (*self.before).clone();
        if let Some(now) = &self.now {
            totals.add(now);
        }
        totals
    }
}
