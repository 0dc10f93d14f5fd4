//! What is refused because somebody claims to be whom provisioning does not know there: summed up by where it came from.
//!
//! A worker notes each such packet at the cost of a hash and a few compares, in memory of its own that never grows; now and
//! then it hands over what has come together. A good packet costs nothing.

use crate::drop::DropReason;
use crate::id::{PortId, VnetId};
use crate::mac::MacAddr;
use crate::stage::{FromNode, FromUplink};
use core::cell::Cell;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Packets from the substrate that are not from where provisioning says, or not for whom they say.
pub const VERIFICATION: &[DropReason] = &[
    DropReason::SrcPrefixMismatch,
    DropReason::SrcSlotMismatch,
    DropReason::SrcUnknownVnet,
    DropReason::SrcUnknownNode,
    DropReason::SrcNotLive,
    DropReason::SrcOwnPrefix,
    DropReason::SrcAddressInvalid,
    DropReason::SrcNotRouted,
    DropReason::SlotMismatch,
];

/// Packets from a node of this host that claims addresses which are not its own.
pub const SPOOFING: &[DropReason] = &[
    DropReason::SrcMacSpoofed,
    DropReason::SrcIpv4Spoofed,
    DropReason::ArpSpoofed,
    DropReason::DhcpServerForeign,
];

/// Where refused packets came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// From the substrate, with a source in this prefix: its first address, which need not be one that a host can have.
    Substrate(Ipv6Addr),
    /// From the node at this port.
    Node(PortId),
    /// From wherever: there was no room to keep them apart.
    Others,
}

/// What one of them claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// This source on the substrate.
    Source(Ipv6Addr),
    /// This hardware address.
    Mac(MacAddr),
    /// This virtual address.
    Ipv4(Ipv4Addr),
}

impl core::fmt::Display for Claim {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Source(address) => write!(f, "source {address}"),
            Self::Mac(address) => write!(f, "MAC {address}"),
            Self::Ipv4(address) => write!(f, "address {address}"),
        }
    }
}

/// Refused packets that have reason, origin and vnet in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why they were dropped: one of [`VERIFICATION`] or [`SPOOFING`].
    pub reason: DropReason,
    /// Where they came from.
    pub origin: Origin,
    /// The vnet that they claimed to be of, if this host has to do with it.
    pub vnet: Option<VnetId>,
    /// What the first of them claimed; `None` of [`Origin::Others`].
    pub claim: Option<Claim>,
    /// How many.
    pub count: u64,
}

const SETS: usize = 16;
const WAYS: usize = 4;

/// The refused packets of one worker that it has not handed over yet.
#[derive(Debug)]
pub struct Failures {
    sets: [[Cell<Option<Failure>>; WAYS]; SETS],
    /// Those that found no room, by reason.
    others: [Cell<u64>; DropReason::COUNT],
    waiting: Cell<bool>,
    seed: u64,
}

impl Failures {
    /// How many entries there are, beside one for the rest of each reason.
    pub const CAPACITY: usize = SETS * WAYS;

    /// None yet. Which entries share a place depends on `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            sets: core::array::from_fn(|_| core::array::from_fn(|_| Cell::new(None))),
            others: core::array::from_fn(|_| Cell::new(0)),
            waiting: Cell::new(false),
            seed,
        }
    }

    /// Whether there is something to hand over.
    #[inline]
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.get()
    }

    /// Notes one refused packet.
    #[cold]
    pub fn note(&self, reason: DropReason, origin: Origin, vnet: Option<VnetId>, claim: Claim) {
        self.waiting.set(true);
        let set = self.sets.get(self.place(reason, origin, vnet)).into_iter().flatten();
        for place in set {
            let entry = match place.get() {
                Some(entry) if (entry.reason, entry.origin, entry.vnet) == (reason, origin, vnet) => {
                    Failure { count: entry.count.saturating_add(1), ..entry }
                }
                Some(_) => continue,
                None => Failure { reason, origin, vnet, claim: Some(claim), count: 1 },
            };
            place.set(Some(entry));
            return;
        }
        if let Some(others) = self.others.get(reason.index()) {
            others.set(others.get().saturating_add(1));
        }
    }

    fn place(&self, reason: DropReason, origin: Origin, vnet: Option<VnetId>) -> usize {
        let origin = match origin {
            // The prefix is 64 or 72 bits.
            Origin::Substrate(prefix) => (prefix.to_bits() >> 56) as u64,
            Origin::Node(port) => port.index() as u64,
            Origin::Others => 0,
        };
        let what = (reason.index() as u64) << 32 | u64::from(vnet.map_or(0, VnetId::get));
        // Multiplied by an odd number from the golden ratio, the high bits depend on all others (Knuth, 6.4).
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (origin ^ self.seed).wrapping_mul(MIX);
        let mixed = (mixed ^ mixed >> 32 ^ what).wrapping_mul(MIX);
        (mixed >> 32) as usize % SETS
    }

    /// Hands over what has come together. What `take` says `false` to stays, and grows on.
    pub fn hand_over(&self, mut take: impl FnMut(Failure) -> bool) {
        for place in self.sets.iter().flatten() {
            if let Some(entry) = place.get() {
                if !take(entry) {
                    return;
                }
                place.set(None);
            }
        }
        for (others, reason) in self.others.iter().zip(DropReason::ALL) {
            let count = others.get();
            if count > 0 {
                let (reason, origin) = (*reason, Origin::Others);
                if !take(Failure { reason, origin, vnet: None, claim: None, count }) {
                    return;
                }
                others.set(0);
            }
        }
        self.waiting.set(false);
    }
}

impl FromUplink<'_> {
    /// Notes a packet from `source` that is refused.
    #[cold]
    #[inline(never)]
    pub(crate) fn note(&self, reason: DropReason, source: Ipv6Addr) {
        let layout = self.snapshot.layout;
        // Vnets that nobody here has to do with are no way to take up room.
        let known = |vnet: &VnetId| match reason {
            DropReason::SrcPrefixMismatch
            | DropReason::SrcSlotMismatch
            | DropReason::SrcUnknownNode
            | DropReason::SrcNotLive => true,
            _ => self.snapshot.vnet(*vnet).is_some(),
        };
        let vnet = layout.decode(source).ok().map(|fields| fields.vnet).filter(known);
        let prefix = source.to_bits() & !(u128::MAX >> layout.prefix_length());
        let origin = Origin::Substrate(Ipv6Addr::from_bits(prefix));
        self.failures.note(reason, origin, vnet, Claim::Source(source));
    }
}

impl FromNode<'_> {
    /// Notes a packet of this node that is refused.
    #[cold]
    #[inline(never)]
    pub(crate) fn note(&self, reason: DropReason, claim: Claim) {
        let interface = self.interface;
        self.failures.note(reason, Origin::Node(interface.port), Some(interface.vnet.id), claim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: DropReason = DropReason::SrcPrefixMismatch;

    fn source(host: u64) -> Ipv6Addr {
        Ipv6Addr::from_bits((0xfd00_0000_0000_0000 + u128::from(host)) << 64)
    }

    fn note(failures: &Failures, host: u64) {
        let (source, vnet) = (source(host), VnetId::new(7).ok());
        failures.note(REASON, Origin::Substrate(source), vnet, Claim::Source(source));
    }

    fn all(failures: &Failures) -> Vec<Failure> {
        let mut all = Vec::new();
        failures.hand_over(|failure| {
            all.push(failure);
            true
        });
        all
    }

    #[test]
    fn packets_from_one_prefix_are_one_entry_with_the_first_ones_claim() {
        let failures = Failures::new(1);
        assert!(!failures.is_waiting());
        let origin = Origin::Substrate(source(1));
        for last in 1..=5u16 {
            let claim = Claim::Source(Ipv6Addr::from_bits(source(1).to_bits() | u128::from(last)));
            failures.note(REASON, origin, None, claim);
        }
        note(&failures, 2);
        assert!(failures.is_waiting());
        let mut all = all(&failures);
        all.sort_by_key(|failure| failure.count);
        let claim = Some(Claim::Source(Ipv6Addr::from_bits(source(1).to_bits() | 1)));
        assert_eq!(all[1], Failure { reason: REASON, origin, vnet: None, claim, count: 5 });
        assert_eq!((all.len(), all[0].count, all[0].origin), (2, 1, Origin::Substrate(source(2))));
        assert!(!failures.is_waiting());
        failures.hand_over(|_| panic!("they were handed over"));
    }

    #[test]
    fn a_flood_of_prefixes_takes_no_more_room_and_every_packet_is_counted() {
        let failures = Failures::new(2);
        for round in 0..3 {
            for host in 0..10_000 {
                note(&failures, host);
            }
            let all = all(&failures);
            assert!(all.len() <= Failures::CAPACITY + 1, "{round}: {}", all.len());
            // A table that a few prefixes fill would be no use.
            assert!(all.len() > Failures::CAPACITY / 2, "{round}: {}", all.len());
            assert_eq!(all.iter().map(|failure| failure.count).sum::<u64>(), 10_000);
            let others: Vec<_> = all.iter().filter(|failure| failure.origin == Origin::Others).collect();
            assert_eq!((others.len(), others[0].reason), (1, REASON));
        }
    }

    #[test]
    fn what_is_not_taken_stays_and_grows_on() {
        let failures = Failures::new(3);
        for host in [1, 1, 2, 3] {
            note(&failures, host);
        }
        let mut taken = 0;
        failures.hand_over(|failure| {
            taken += failure.count;
            false
        });
        assert!(failures.is_waiting() && taken > 0);
        note(&failures, 1);
        let all = all(&failures);
        assert_eq!((all.len(), all.iter().map(|failure| failure.count).sum::<u64>()), (3, 5));
    }
}
