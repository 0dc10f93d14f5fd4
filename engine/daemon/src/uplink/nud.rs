//! Neighbour unreachability detection for the one neighbour that matters, the gateway (RFC 4861, 7.3).
//!
//! The gateway is always in use, so a stale entry is probed after the delay without waiting for a packet. It never
//! gives up: a gateway that does not answer is asked for by multicast, less and less often (RFC 7048).

use overlane_dataplane::mac::MacAddr;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

/// RFC 4861, 10: DELAY_FIRST_PROBE_TIME.
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// RFC 4861, 10: MAX_UNICAST_SOLICIT.
const UNICAST_PROBES: u32 = 3;
/// RFC 4861, 10: MAX_MULTICAST_SOLICIT; slower from then on.
pub(super) const MULTICAST_PROBES: u32 = 3;
/// RFC 4861, 10: RETRANS_TIMER and REACHABLE_TIME.
const RETRANSMIT: Duration = Duration::from_secs(1);
const REACHABLE: Duration = Duration::from_secs(30);
/// Longest pause between two multicast solicitations. Short, because nothing leaves the host meanwhile.
const SLOWEST_RETRANSMIT: Duration = Duration::from_secs(4);
/// What routers may set; beyond it they would make us silent or a nuisance.
const RETRANSMIT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const REACHABLE_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// RFC 4861, 7.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Incomplete { asked: u32 },
    Reachable(MacAddr),
    Stale(MacAddr),
    Probe { mac: MacAddr, asked: u32 },
}

/// A solicitation that is due: to one station, or to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Solicit {
    pub(super) to: Option<MacAddr>,
}

/// What is known of the gateway's hardware address.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: Ipv6Addr,
    state: State,
    due: Instant,
    retransmit: Duration,
    reachable: Duration,
}

impl Entry {
    /// Nothing is known yet; asks at once.
    pub(super) fn new(address: Ipv6Addr, now: Instant) -> Self {
        let state = State::Incomplete { asked: 0 };
        Self { address, state, due: now, retransmit: RETRANSMIT, reachable: REACHABLE }
    }

    pub(super) fn mac(&self) -> Option<MacAddr> {
        match self.state {
            State::Incomplete { .. } => None,
            State::Reachable(mac) | State::Stale(mac) | State::Probe { mac, .. } => Some(mac),
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether it has been asked for in vain, as often as the RFC says before calling it unreachable.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.state, State::Incomplete { asked } if asked >= MULTICAST_PROBES)
    }

    /// Takes the timers that a router advertises; zero leaves one as it is.
    pub(super) fn set_timers(&mut self, reachable: Duration, retransmit: Duration) {
        if !reachable.is_zero() {
            self.reachable = reachable.clamp(REACHABLE_RANGE.0, REACHABLE_RANGE.1);
        }
        if !retransmit.is_zero() {
            self.retransmit = retransmit.clamp(RETRANSMIT_RANGE.0, RETRANSMIT_RANGE.1);
        }
    }

    /// The link went down and came back: whoever is there now may be somebody else.
    pub(super) fn forget(&mut self, now: Instant) {
        self.state = State::Incomplete { asked: 0 };
        self.due = now;
    }

    /// A solicitation or router advertisement from the gateway names its hardware address (RFC 4861, 7.2.3).
    pub(super) fn heard(&mut self, mac: MacAddr, now: Instant) {
        if self.mac() != Some(mac) {
            self.stale(mac, now);
        }
    }

    /// A neighbour advertisement for the gateway (RFC 4861, 7.2.5).
    pub(super) fn advertised(
        &mut self,
        mac: Option<MacAddr>,
        solicited: bool,
        overrides: bool,
        now: Instant,
        jitter: f64,
    ) {
        let Some(known) = self.mac() else {
            match mac {
                Some(mac) if solicited => self.reached(mac, now, jitter),
                Some(mac) => self.stale(mac, now),
                None => {}
            }
            return;
        };
        let new = mac.unwrap_or(known);
        if new != known && !overrides {
            // Somebody contradicts what we know, without authority to replace it: only doubt is cast.
            if matches!(self.state, State::Reachable(_)) {
                self.stale(known, now);
            }
        } else if solicited {
            self.reached(new, now, jitter);
        } else if new != known {
            self.stale(new, now);
        }
    }

    /// Moves on when [`Entry::due`] has come; `jitter` is 0.5 to 1.5 (RFC 4861, 6.3.2).
    pub(super) fn tick(&mut self, now: Instant) -> Option<Solicit> {
        if now < self.due {
            return None;
        }
        match self.state {
            State::Incomplete { asked } => {
                let slower = asked.saturating_sub(MULTICAST_PROBES - 1).min(8);
                let pause = (self.retransmit * (1 << slower)).min(SLOWEST_RETRANSMIT.max(self.retransmit));
                self.state = State::Incomplete { asked: asked.saturating_add(1) };
                self.due = now + pause;
                Some(Solicit { to: None })
            }
            State::Reachable(mac) => {
                self.stale(mac, now);
                None
            }
            State::Stale(mac) => self.probe(mac, 0, now),
            State::Probe { mac, asked } if asked < UNICAST_PROBES => self.probe(mac, asked, now),
            State::Probe { .. } => {
                self.forget(now);
                self.tick(now)
            }
        }
    }

    fn probe(&mut self, mac: MacAddr, asked: u32, now: Instant) -> Option<Solicit> {
        self.state = State::Probe { mac, asked: asked + 1 };
        self.due = now + self.retransmit;
        Some(Solicit { to: Some(mac) })
    }

    fn reached(&mut self, mac: MacAddr, now: Instant, jitter: f64) {
        self.state = State::Reachable(mac);
        self.due = now + self.reachable.mul_f64(jitter.clamp(0.5, 1.5));
    }

    fn stale(&mut self, mac: MacAddr, now: Instant) {
        self.state = State::Stale(mac);
        self.due = now + DELAY_FIRST_PROBE;
    }
}
