//! Groups: who hears what is sent to all of a virtual network, or to those that want to hear it.
//!
//! A sender's engine makes one copy for each host that has members, and one for each member on its own host; the engine
//! there makes the copies for its members. Who is a member provisioning knows, since engines tell it what nodes say by IGMP.

use crate::address::HostPrefix;
use crate::counters::PerWorker;
use crate::id::{PortId, VnetId};
use crate::illegal::Illegal;
use crate::limit::{Rate, TokenBucket};
use crate::mac::MacAddr;
use core::net::Ipv4Addr;
use hashbrown::HashMap;
use ipnet::Ipv4Net;
use std::hash::RandomState;
use std::sync::Arc;

/// Most sources that a member's filter names.
pub const MAX_SOURCES: usize = 64;
/// Most groups that an interface is a member of.
pub const MAX_GROUPS: usize = 64;
/// Most ranges that a vnet keeps on each host.
pub const MAX_CONFINED: usize = 16;

/// Groups of one link, which no router forwards (RFC 5771, 4).
pub const LINK_SCOPE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 24);
/// All groups (RFC 5771, 3).
pub const ALL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);

/// How a virtual network carries what is sent to more than one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether broadcast is carried.
    pub broadcast: bool,
    /// Groups that never leave a host.
    pub confined: Vec<Ipv4Net>,
}

impl Default for Settings {
    /// Broadcast is carried, groups of a link stay on their host.
    fn default() -> Self {
        Self { broadcast: true, confined: vec![LINK_SCOPE] }
    }
}

impl Settings {
    /// Checks what provisioning says.
    ///
    /// # Errors
    /// [`Illegal`] naming the field.
    pub fn check(&self) -> Result<(), Illegal> {
        let illegal = |legal: String, given: String| Err(Illegal::new("confined", legal, given));
        if self.confined.len() > MAX_CONFINED {
            return illegal(format!("at most {MAX_CONFINED} ranges"), self.confined.len().to_string());
        }
        match self.confined.iter().find(|net| !ALL.contains(*net) || net.trunc() != **net) {
            Some(net) => illegal(format!("ranges within {ALL}, like {LINK_SCOPE}"), net.to_string()),
            None => Ok(()),
        }
    }

    /// Whether what is sent to `group` stays on its host.
    #[must_use]
    pub fn confines(&self, group: Ipv4Addr) -> bool {
        self.confined.iter().any(|net| net.contains(&group))
    }
}

/// Whether what is sent to `group` reaches no further than its link, whatever its TTL.
#[must_use]
pub fn is_of_link(group: Ipv4Addr) -> bool {
    !group.is_multicast() || LINK_SCOPE.contains(&group)
}

/// The hardware address of a group (RFC 1112, 6.4), or of broadcast.
#[must_use]
pub const fn mac(group: Ipv4Addr) -> MacAddr {
    if group.is_multicast() {
        let [_, b, c, d] = group.octets();
        MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    } else {
        MacAddr::BROADCAST
    }
}

/// The group whose members hear what is sent to `destination`: that of all interfaces of the vnet for broadcast, and for the
/// groups of a link too, which not everybody joins who listens (RFC 4541, 2.1.2).
#[must_use]
pub fn of(destination: Ipv4Addr) -> Ipv4Addr {
    if is_of_link(destination) { Ipv4Addr::BROADCAST } else { destination }
}

/// Whom a member wants to hear (RFC 3376, 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All but these, which are sorted.
    Except(Vec<Ipv4Addr>),
    /// Only these, which are sorted.
    Only(Vec<Ipv4Addr>),
}

impl Filter {
    /// Everybody.
    pub const ALL: Self = Self::Except(Vec::new());

    /// Whether what `source` sends is wanted.
    #[must_use]
    pub fn wants(&self, source: Ipv4Addr) -> bool {
        match self {
            Self::Except(sources) => sources.binary_search(&source).is_err(),
            Self::Only(sources) => sources.binary_search(&source).is_ok(),
        }
    }
}

/// A member on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The port that it is attached to.
    pub port: PortId,
    /// Whom it wants to hear.
    pub filter: Filter,
}

/// The members of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// On this host, each port once.
    pub members: Vec<Member>,
    /// The hosts that have some; this one does not count.
    pub hosts: Arc<[HostPrefix]>,
}

/// The groups of the vnets of this host. Immutable: others take their place when anything changes.
///
/// The hash is keyed at random, since tenants choose the addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups(HashMap<(VnetId, Ipv4Addr), Group, RandomState>);

impl Groups {
    /// The members of the group whose members hear what is sent to `destination`.
    #[must_use]
    pub fn get(&self, vnet: VnetId, destination: Ipv4Addr) -> Option<&Group> {
        self.0.get(&(vnet, of(destination)))
    }

    /// The members of a group, to be changed: those of 255.255.255.255 hear broadcast and the groups of the link.
    pub fn entry(&mut self, vnet: VnetId, group: Ipv4Addr) -> &mut Group {
        self.0.entry((vnet, group)).or_default()
    }
}

/// How much an interface may ask of each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimit {
    /// Copies of what its node sends to groups.
    pub copies: Rate,
    /// IGMP messages of its node.
    pub messages: Rate,
}

impl Default for GroupLimit {
    /// 50,000 copies per second and 5,000 at once: a video of 20 Mbit/s to 25 hosts; 10 messages per second and 100 at once.
    fn default() -> Self {
        Self { copies: Rate { rate: 50_000, burst: 5_000 }, messages: Rate { rate: 10, burst: 100 } }
    }
}

/// What is left of a [`GroupLimit`].
#[derive(Debug)]
pub struct GroupBuckets {
    pub(crate) copies: TokenBucket,
    pub(crate) messages: TokenBucket,
}

impl GroupLimit {
    /// Full buckets for each of `workers` workers.
    #[must_use]
    pub fn buckets(self, workers: usize) -> Arc<PerWorker<GroupBuckets>> {
        let buckets = || GroupBuckets {
            copies: TokenBucket::of(self.copies),
            messages: TokenBucket::of(self.messages),
        };
        Arc::new(PerWorker::from_fn(workers, buckets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_their_hardware_address() {
        assert_eq!(mac(Ipv4Addr::new(239, 129, 2, 3)).to_string(), "01:00:5e:01:02:03");
        assert_eq!(mac(Ipv4Addr::new(10, 0, 0, 255)), MacAddr::BROADCAST);
    }

    #[test]
    fn filters_want_whom_they_name_or_all_others() {
        let [one, two] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        assert!(Filter::ALL.wants(one));
        assert!(Filter::Only(vec![one]).wants(one) && !Filter::Only(vec![one]).wants(two));
        assert!(!Filter::Except(vec![one]).wants(one) && Filter::Except(vec![one]).wants(two));
    }

    #[test]
    fn settings_that_are_no_groups_are_refused() {
        let settings = |nets: &[&str]| Settings {
            confined: nets.iter().map(|net| net.parse().unwrap()).collect(),
            ..Settings::default()
        };
        assert!(Settings::default().check().is_ok());
        assert!(settings(&["224.0.0.0/16", "239.255.0.0/16"]).check().is_ok());
        for wrong in ["10.0.0.0/8", "224.0.0.1/24", "192.0.0.0/2"] {
            assert_eq!(settings(&[wrong]).check().unwrap_err().given, wrong);
        }
        assert_eq!(settings(&["224.0.0.0/24"; 17]).check().unwrap_err().given, "17");
    }
}
