//! What the substrate has told of its paths, and how long that is believed (RFC 8201).

use super::status::PathStatus;
use core::time::Duration;
use hashbrown::HashMap;
use overlane_dataplane::address::HostPrefix;
use overlane_dataplane::path_mtu::PathMtus;
use overlane_dataplane::translate;
use std::sync::Arc;
use tokio::time::Instant;

/// Most paths that are kept. What a packet to another host runs into, its sender still hears of.
const MOST: usize = 4096;

/// Path MTUs by host. A value is only ever lowered, and ends with its time: then packets as large as the uplink takes
/// find out anew.
#[derive(Debug)]
pub(super) struct Paths {
    expiry: Duration,
    learned: HashMap<HostPrefix, Learned>,
    /// When the first value ends, or earlier.
    due: Option<Instant>,
    /// The same, for the data plane.
    published: Arc<PathMtus>,
    /// That there is no more room has been logged.
    full: bool,
}

#[derive(Debug, Clone, Copy)]
struct Learned {
    mtu: u16,
    until: Instant,
}

impl Paths {
    pub(super) fn new(expiry: Duration) -> Self {
        Self { expiry, learned: HashMap::new(), due: None, published: Arc::default(), full: false }
    }

    /// The substrate says what a path carries, while the uplink carries `uplink`; whether that changes anything. What
    /// is said again lasts longer.
    pub(super) fn learn(&mut self, host: HostPrefix, mtu: u16, uplink: u16, now: Instant) -> bool {
        let mtu = mtu.max(translate::Settings::MIN_IPV6_MTU);
        let known = self.learned.get(&host).map(|learned| learned.mtu);
        if mtu >= uplink || known.is_some_and(|known| mtu > known) {
            return false;
        }
        if known.is_none() && self.learned.len() >= MOST {
            if !self.full {
                tracing::warn!(most = MOST, "more paths are narrower than the uplink than are kept");
            }
            self.full = true;
            return false;
        }
        let until = now + self.expiry;
        self.learned.insert(host, Learned { mtu, until });
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
        let changed = known != Some(mtu);
        if changed {
            tracing::debug!(%host, mtu, "a path is narrower than it was known");
            self.publish();
        }
        changed
    }

    /// No mapping leads to the host any more; whether something was known of its path.
    pub(super) fn forget(&mut self, host: HostPrefix) -> bool {
        let known = self.learned.remove(&host).is_some();
        if known {
            self.publish();
        }
        known
    }

    /// When [`Paths::expire`] is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Forgets what has had its time; whether there was something.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        let before = self.learned.len();
        self.learned.retain(|_, learned| now < learned.until);
        self.due = self.learned.values().map(|learned| learned.until).min();
        let changed = self.learned.len() < before;
        if changed {
            self.publish();
        }
        changed
    }

    fn publish(&mut self) {
        self.full &= self.learned.len() >= MOST;
        let paths = self.learned.iter().map(|(host, learned)| (*host, learned.mtu));
        self.published = Arc::new(paths.collect());
    }

    /// For the data plane.
    pub(super) fn published(&self) -> Arc<PathMtus> {
        self.published.clone()
    }

    /// For operators, in the order of hosts.
    pub(super) fn status(&self) -> Vec<PathStatus> {
        let mut paths: Vec<_> = self.learned.iter().collect();
        paths.sort_unstable_by_key(|(host, _)| **host);
        let show = |(host, learned): (&HostPrefix, &Learned)| PathStatus {
            host: host.to_string(),
            mtu: learned.mtu,
            until: learned.until.into_std(),
        };
        paths.into_iter().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_dataplane::address::Layout;

    const EXPIRY: Duration = Duration::from_secs(600);

    fn host(number: u16) -> HostPrefix {
        HostPrefix::parse(Layout::Slot64, &format!("fd00:0:0:{number:x}::/64")).unwrap()
    }

    #[test]
    fn path_is_lowered_at_once_and_never_raised() {
        let (mut paths, now) = (Paths::new(EXPIRY), Instant::now());
        assert!(paths.learn(host(1), 1400, 1500, now));
        assert!(paths.learn(host(1), 1300, 1500, now));
        assert!(!paths.learn(host(1), 1400, 1500, now));
        assert!(!paths.learn(host(1), 1300, 1500, now));
        assert_eq!(paths.published().of(host(1)), Some(1300));
        assert_eq!(paths.published().smallest(), 1300);
    }

    #[test]
    fn path_carries_what_every_path_carries() {
        let (mut paths, now) = (Paths::new(EXPIRY), Instant::now());
        assert!(paths.learn(host(1), 0, 1500, now));
        assert_eq!(paths.published().of(host(1)), Some(1280));
        assert!(!paths.learn(host(1), 600, 1500, now));
        // An uplink that carries no more has no narrower paths.
        assert!(!paths.learn(host(2), 68, 1280, now));
    }

    #[test]
    fn what_the_uplink_does_not_carry_anyway_is_nothing_new() {
        let (mut paths, now) = (Paths::new(EXPIRY), Instant::now());
        assert!(!paths.learn(host(1), 1500, 1500, now));
        assert!(!paths.learn(host(1), 9000, 1500, now));
        assert!(paths.status().is_empty() && paths.deadline().is_none());
    }

    #[test]
    fn value_ends_with_its_time_and_can_be_learned_anew() {
        let (mut paths, start) = (Paths::new(EXPIRY), Instant::now());
        let second = Duration::from_secs(1);
        paths.learn(host(1), 1300, 1500, start);
        paths.learn(host(2), 1400, 1500, start + second);
        // Said again, it lasts longer; something larger is not believed and does not prolong it.
        paths.learn(host(1), 1300, 1500, start + second * 5);
        paths.learn(host(2), 1450, 1500, start + second * 5);
        assert!(!paths.expire(start + EXPIRY));
        assert_eq!(paths.deadline(), Some(start + second + EXPIRY));
        assert!(paths.expire(start + second + EXPIRY));
        assert_eq!((paths.published().of(host(1)), paths.published().of(host(2))), (Some(1300), None));
        assert_eq!(paths.deadline(), Some(start + second * 5 + EXPIRY));
        assert!(paths.expire(start + second * 5 + EXPIRY));
        assert_eq!(*paths.published(), PathMtus::default());
        assert_eq!(paths.deadline(), None);
        assert!(paths.learn(host(2), 1450, 1500, start + EXPIRY * 2));
    }

    #[test]
    fn there_is_room_for_so_many_paths_and_they_make_room_again() {
        let (mut paths, now) = (Paths::new(EXPIRY), Instant::now());
        for number in 1..=MOST as u16 {
            assert!(paths.learn(host(number), 1300, 1500, now));
        }
        assert!(!paths.learn(host(5000), 1300, 1500, now));
        assert!(paths.learn(host(7), 1290, 1500, now));
        assert_eq!(paths.status().len(), MOST);
        assert!(paths.forget(host(9)) && !paths.forget(host(9)));
        assert_eq!(paths.published().of(host(9)), None);
        assert!(paths.learn(host(5000), 1300, 1500, now));
    }
}
