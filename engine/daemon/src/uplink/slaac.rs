//! Addresses of our own, made from what routers announce (RFC 4862), and proved to be nobody else's.

use super::wire::Prefix;
use overlane_dataplane::mac::MacAddr;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

/// Own addresses, the link-local one included; prefixes beyond it are ignored.
pub(super) const ADDRESS_LIMIT: usize = 4;
/// How long a solicitation waits for an objection (RFC 4861, 10: RETRANS_TIMER).
const PROBE_TIME: Duration = Duration::from_secs(1);
/// Interface identifiers tried before giving up (RFC 7217, 6: IDGEN_RETRIES).
const TRIES: u8 = 3;
/// An unauthenticated advertisement does not shorten a lifetime below this (RFC 4862, 5.5.3).
const SHORTEST_CUT: Duration = Duration::from_secs(2 * 3600);
/// RFC 4861, 4.6.2: all one bits stand for infinity.
const INFINITE: Duration = Duration::from_secs(u32::MAX as u64);

/// Whether an address may be used yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// A solicitation is out; usable from then on.
    Tentative(Option<Instant>),
    Usable,
    /// Every identifier that was tried is somebody else's.
    Duplicate,
}

/// One address of our own.
#[derive(Debug)]
struct Own {
    network: Ipv6Addr,
    address: Ipv6Addr,
    standing: Standing,
    tries: u8,
    /// `None`: for ever.
    expires: Option<Instant>,
}

/// The addresses made so far.
#[derive(Debug)]
pub(super) struct Addresses {
    mac: MacAddr,
    own: Vec<Own>,
}

impl Addresses {
    /// Begins with a link-local address.
    pub(super) fn new(mac: MacAddr) -> Self {
        let mut addresses = Self { mac, own: Vec::new() };
        addresses.add(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), None);
        addresses
    }

    /// Addresses that are proved and not expired, link-local first.
    pub(super) fn usable(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.own.iter().filter(|own| own.standing == Standing::Usable).map(|own| own.address)
    }

    /// Every address that is ours or about to be.
    pub(super) fn all(&self) -> Vec<Ipv6Addr> {
        self.own.iter().map(|own| own.address).collect()
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let probes = self.own.iter().filter_map(|own| match own.standing {
            Standing::Tentative(until) => until,
            Standing::Usable | Standing::Duplicate => None,
        });
        probes.chain(self.own.iter().filter_map(|own| own.expires)).min()
    }

    /// Whether some address has yet to be probed for.
    pub(super) fn has_unprobed(&self) -> bool {
        self.own.iter().any(|own| own.standing == Standing::Tentative(None))
    }

    /// Addresses whose probe is to be sent now.
    pub(super) fn begin_probes(&mut self, now: Instant) -> Vec<Ipv6Addr> {
        let mut probes = Vec::new();
        for own in &mut self.own {
            if own.standing == Standing::Tentative(None) {
                own.standing = Standing::Tentative(Some(now + PROBE_TIME));
                probes.push(own.address);
            }
        }
        probes
    }

    /// Settles what is due; gives the addresses that have become usable.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Ipv6Addr> {
        self.own.retain(|own| own.expires.is_none_or(|expires| now < expires));
        let mut proved = Vec::new();
        for own in &mut self.own {
            if matches!(own.standing, Standing::Tentative(Some(until)) if until <= now) {
                own.standing = Standing::Usable;
                proved.push(own.address);
            }
        }
        proved
    }

    /// Somebody else uses, or is about to use, `address`: if ours is not proved yet, another is tried.
    pub(super) fn objection(&mut self, address: Ipv6Addr) {
        let mac = self.mac;
        for own in &mut self.own {
            if own.address == address && matches!(own.standing, Standing::Tentative(_)) {
                own.tries += 1;
                own.standing =
                    if own.tries < TRIES { Standing::Tentative(None) } else { Standing::Duplicate };
                own.address = identified(own.network, mac, own.tries);
            }
        }
    }

    /// A router announces `prefix` (RFC 4862, 5.5.3).
    pub(super) fn announced(&mut self, prefix: &Prefix, now: Instant) {
        let network = Ipv6Addr::from_bits(prefix.network.to_bits() & u128::MAX << 64);
        let refused = !prefix.autonomous
            || prefix.length != 64
            || prefix.preferred > prefix.valid
            || network.is_multicast()
            || network.is_unspecified()
            || network.is_loopback()
            || network.is_unicast_link_local();
        if refused {
            return;
        }
        let expires = (prefix.valid < INFINITE).then(|| now + prefix.valid);
        if let Some(own) = self.own.iter_mut().find(|own| own.network == network) {
            let left = own.expires.map_or(INFINITE, |expires| expires.saturating_duration_since(now));
            if prefix.valid > SHORTEST_CUT || prefix.valid > left {
                own.expires = expires;
            } else if left > SHORTEST_CUT {
                own.expires = Some(now + SHORTEST_CUT);
            }
        } else if !prefix.valid.is_zero() && self.own.len() < ADDRESS_LIMIT {
            self.add(network, expires);
        }
    }

    /// The link is another one now: every address has to be proved again.
    pub(super) fn doubt(&mut self) {
        for own in &mut self.own {
            own.standing = Standing::Tentative(None);
            own.tries = 0;
            own.address = identified(own.network, self.mac, 0);
        }
    }

    fn add(&mut self, network: Ipv6Addr, expires: Option<Instant>) {
        let address = identified(network, self.mac, 0);
        self.own.push(Own { network, address, standing: Standing::Tentative(None), tries: 0, expires });
    }
}

/// An address in `network` that is the same after every restart, and not the one which the host's own kernel makes of
/// the same hardware address (after RFC 7217; what is mixed in is no secret, the substrate knows our MAC anyway).
fn identified(network: Ipv6Addr, mac: MacAddr, tries: u8) -> Ipv6Addr {
    // FNV-1a, 64 bits.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let prefix = network.octets();
    let bytes = prefix.iter().take(8).chain(mac.0.iter()).chain(b"overlane").chain([&tries]);
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    // Bits 6 and 7 of the first octet zero, as RFC 4291 (2.5.1) has them for identifiers that are not universal; never
    // zero, which is the subnet's routers.
    let identifier = (hash & !(0b11 << 56)).max(2);
    Ipv6Addr::from_bits(network.to_bits() | u128::from(identifier))
}
