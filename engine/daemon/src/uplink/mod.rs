//! An uplink's place in the substrate: its own addresses, and the hardware address of its gateway.
//!
//! A pure state machine: frames and time go in, frames and changes come out, so that every timer and every forgery is
//! tested without a network. It speaks neighbour discovery (RFC 4861), makes addresses from router advertisements (RFC
//! 4862) when it was given none, and answers echo requests to its own addresses.
//!
//! What comes in is a stranger's: a message that fails a check changes nothing, answers are limited in rate, and the
//! lists of routers, prefixes and addresses are short.

mod nud;
mod slaac;
#[cfg(test)]
mod tests;
mod wire;

use nud::Entry;
use overlane_dataplane::mac::MacAddr;
use slaac::Addresses;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};
use wire::{Message, Received, RouterAdvertisement};

/// Default routers remembered; more are ignored.
const ROUTER_LIMIT: usize = 4;
/// RFC 4861, 10: MAX_RTR_SOLICITATIONS, RTR_SOLICITATION_INTERVAL.
const ROUTER_SOLICITATIONS: u32 = 3;
const ROUTER_SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// Pause between solicitations when no router has answered the first ones (RFC 7559 lets it grow; an engine without
/// an address is no use, so it does not grow far).
const ROUTER_SOLICITATION_SLOW: Duration = Duration::from_secs(30);
/// RFC 4861, 10: MAX_NEIGHBOR_ADVERTISEMENT.
const ANNOUNCEMENTS: u8 = 3;
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// Answers in a burst, and a second, to whoever asks.
const ANSWER_BURST: f64 = 64.0;
const ANSWERS_PER_SECOND: f64 = 200.0;
/// RFC 8200, 5.
const MINIMUM_MTU: u16 = 1280;

/// How the uplink gets its address and its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// As configured.
    Static {
        /// The engine's own address.
        address: Ipv6Addr,
        /// The next hop of everything, link-local or not.
        gateway: Ipv6Addr,
    },
    /// From router advertisements.
    RouterAdvertisement,
}

/// What an uplink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The engine's hardware address on it.
    pub mac: MacAddr,
    /// The device's MTU, in bytes; a router may announce a smaller one.
    pub mtu: u16,
    /// Where address and gateway come from.
    pub addressing: Addressing,
}

/// What the data plane needs to know of the uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The engine's own addresses that may be used; packets to them are punted.
    pub addresses: Vec<Ipv6Addr>,
    /// Hardware address of the gateway, once known.
    pub next_hop: Option<MacAddr>,
    /// Largest IPv6 packet for the substrate, 1280 at least.
    pub mtu: u16,
}

/// What an input led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Output {
    /// Frames to send on the uplink.
    pub frames: Vec<Vec<u8>>,
    /// The new state, if it differs from the one last given.
    pub change: Option<Change>,
}

/// A default router.
#[derive(Debug)]
struct Router {
    address: Ipv6Addr,
    preference: i8,
    expires: Instant,
    mac: Option<MacAddr>,
}

/// Neighbour discovery on one uplink.
#[derive(Debug)]
pub struct Neighbour {
    config: Config,
    since: Instant,
    link_up: bool,
    /// Addresses made from advertisements; none when the address is static.
    made: Option<Addresses>,
    routers: Vec<Router>,
    gateway: Option<Entry>,
    mtu: u16,
    solicited_routers: u32,
    solicit_routers_at: Instant,
    announcements: u8,
    announce_at: Instant,
    answers: f64,
    answers_at: Instant,
    random: u64,
    told: Option<Change>,
}

impl Neighbour {
    /// A machine for a link that is up. Call [`Neighbour::tick`] at once: what is due first is due now.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        let mut seed = [1; 8];
        seed[2..].copy_from_slice(&config.mac.0);
        let mut machine = Self {
            config,
            since: now,
            link_up: true,
            made: None,
            routers: Vec::new(),
            gateway: None,
            mtu: config.mtu.max(MINIMUM_MTU),
            solicited_routers: 0,
            solicit_routers_at: now,
            announcements: 0,
            announce_at: now,
            answers: ANSWER_BURST,
            answers_at: now,
            random: u64::from_be_bytes(seed),
            told: None,
        };
        match config.addressing {
            Addressing::Static { gateway, .. } => {
                machine.gateway = Some(Entry::new(gateway, now));
                machine.announce(now);
            }
            Addressing::RouterAdvertisement => machine.made = Some(Addresses::new(config.mac)),
        }
        machine
    }

    /// When [`Neighbour::tick`] is to be called next; `None` while the link is down.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if !self.link_up {
            return None;
        }
        let made = self.made.as_ref();
        if made.is_some_and(Addresses::has_unprobed) {
            return Some(self.since);
        }
        let gateway = self.gateway.as_ref().filter(|gateway| self.source_for(gateway.address).is_some());
        let solicit = made.is_some() && self.routers.is_empty() && self.link_local().is_some();
        [
            made.and_then(Addresses::due),
            gateway.map(Entry::due),
            solicit.then_some(self.solicit_routers_at),
            (self.announcements > 0).then_some(self.announce_at),
            self.routers.iter().map(|router| router.expires).min(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) -> Output {
        let mut output = Output::default();
        if self.link_up {
            self.tick_addresses(now, &mut output);
            self.routers.retain(|router| now < router.expires);
            self.choose_router(now);
            self.tick_router_solicitation(now, &mut output);
            self.tick_gateway(now, &mut output);
            self.tick_announcements(now, &mut output);
        }
        self.settle(output)
    }

    /// Takes a frame from the uplink.
    pub fn input(&mut self, frame: &[u8], now: Instant) -> Output {
        let mut output = Output::default();
        if let Some(received) = wire::parse(frame).filter(|received| received.source_mac != self.config.mac) {
            match received.message {
                Message::Solicitation { target, source_mac } => {
                    self.solicited(&received, target, source_mac, now, &mut output);
                }
                Message::Advertisement { target, solicited, overrides, target_mac } => {
                    if let Some(made) = &mut self.made {
                        made.objection(target);
                    }
                    let jitter = self.jitter();
                    let mac = target_mac.filter(|mac| *mac != self.config.mac);
                    if let Some(gateway) = self.gateway.as_mut().filter(|gateway| gateway.address == target) {
                        gateway.advertised(mac, solicited, overrides, now, jitter);
                    }
                }
                Message::Router(ref advertisement) => self.advertised(received.source, advertisement, now),
                Message::Echo { .. } => self.echo(&received, now, &mut output),
            }
        }
        self.settle(output)
    }

    /// The link went up or down. After a time down everything is asked for anew.
    pub fn link(&mut self, up: bool, now: Instant) -> Output {
        if up && !self.link_up {
            if let Some(gateway) = &mut self.gateway {
                gateway.forget(now);
            }
            if let Some(made) = &mut self.made {
                made.doubt();
            } else {
                self.announce(now);
            }
            self.solicited_routers = 0;
            self.solicit_routers_at = now;
        }
        self.link_up = up;
        self.tick(now)
    }

    /// The state as the data plane is to see it.
    #[must_use]
    pub fn state(&self) -> Change {
        let addresses = match self.config.addressing {
            Addressing::Static { address, .. } => vec![address],
            Addressing::RouterAdvertisement => self.made.iter().flat_map(Addresses::usable).collect(),
        };
        let next_hop = self.gateway.as_ref().filter(|_| self.link_up).and_then(Entry::mac);
        Change { addresses, next_hop, mtu: self.mtu }
    }

    fn settle(&mut self, mut output: Output) -> Output {
        let state = self.state();
        if self.told.as_ref() != Some(&state) {
            self.told = Some(state.clone());
            output.change = Some(state);
        }
        output
    }

    fn link_local(&self) -> Option<Ipv6Addr> {
        self.made.iter().flat_map(Addresses::usable).find(Ipv6Addr::is_unicast_link_local)
    }

    /// Which of our addresses asks for `target`.
    fn source_for(&self, target: Ipv6Addr) -> Option<Ipv6Addr> {
        match self.config.addressing {
            Addressing::Static { address, .. } => Some(address),
            Addressing::RouterAdvertisement if target.is_unicast_link_local() => self.link_local(),
            Addressing::RouterAdvertisement => self.made.iter().flat_map(Addresses::usable).last(),
        }
    }

    fn is_own(&self, address: Ipv6Addr) -> bool {
        match self.config.addressing {
            Addressing::Static { address: own, .. } => own == address,
            Addressing::RouterAdvertisement => {
                self.made.iter().flat_map(Addresses::usable).any(|own| own == address)
            }
        }
    }

    fn tick_addresses(&mut self, now: Instant, output: &mut Output) {
        let mac = self.config.mac;
        let Some(made) = &mut self.made else { return };
        let proved = !made.tick(now).is_empty();
        let probes = made.begin_probes(now);
        if !probes.is_empty() {
            output.frames.push(wire::multicast_report(mac, Ipv6Addr::UNSPECIFIED, &made.all()));
        }
        for address in probes {
            output.frames.push(wire::neighbour_solicitation(mac, Ipv6Addr::UNSPECIFIED, address, None));
        }
        if proved {
            self.announce(now);
        }
    }

    fn announce(&mut self, now: Instant) {
        self.announcements = ANNOUNCEMENTS;
        self.announce_at = now;
    }

    fn tick_announcements(&mut self, now: Instant, output: &mut Output) {
        if self.announcements == 0 || now < self.announce_at {
            return;
        }
        self.announcements -= 1;
        self.announce_at = now + ANNOUNCEMENT_INTERVAL;
        let own = self.state().addresses;
        let source = self.link_local().unwrap_or(Ipv6Addr::UNSPECIFIED);
        output.frames.push(wire::multicast_report(self.config.mac, source, &own));
        let announcements = own.iter().map(|own| wire::neighbour_advertisement(self.config.mac, *own, None));
        output.frames.extend(announcements);
    }

    fn tick_router_solicitation(&mut self, now: Instant, output: &mut Output) {
        if !self.routers.is_empty() || now < self.solicit_routers_at {
            return;
        }
        let Some(source) = self.link_local() else { return };
        self.solicited_routers = self.solicited_routers.saturating_add(1);
        let first = self.solicited_routers < ROUTER_SOLICITATIONS;
        let pause = if first { ROUTER_SOLICITATION_INTERVAL } else { ROUTER_SOLICITATION_SLOW };
        self.solicit_routers_at = now + pause.mul_f64(self.jitter().max(1.0));
        output.frames.push(wire::router_solicitation(self.config.mac, source));
    }

    fn tick_gateway(&mut self, now: Instant, output: &mut Output) {
        let Some(source) = self.gateway.as_ref().and_then(|gateway| self.source_for(gateway.address)) else {
            return;
        };
        let Some(gateway) = &mut self.gateway else { return };
        if let Some(solicit) = gateway.tick(now) {
            let mac = self.config.mac;
            output.frames.push(wire::neighbour_solicitation(mac, source, gateway.address, solicit.to));
        }
    }

    /// Keeps to the gateway in use while it answers; else takes the best other router (RFC 4861, 6.3.6).
    fn choose_router(&mut self, now: Instant) {
        if self.made.is_none() {
            return;
        }
        let current = self.gateway.as_ref().map(|gateway| (gateway.address, gateway.is_silent()));
        let listed = |address| self.routers.iter().find(|router| router.address == address);
        let mut others: Vec<_> = self
            .routers
            .iter()
            .filter(|router| current.is_none_or(|(used, _)| router.address != used))
            .collect();
        // The sort is stable: among equals, the router that was heard of first.
        others.sort_by_key(|router| -router.preference);
        let best = others.first();
        let keep = current.and_then(|(used, silent)| listed(used).map(|router| (router, silent)));
        let chosen = match (keep, best) {
            (Some((used, false)), Some(best)) if best.preference <= used.preference => return,
            (Some(_), None) => return,
            (_, Some(best)) => *best,
            (None, None) => {
                self.gateway = None;
                return;
            }
        };
        let mut entry = Entry::new(chosen.address, now);
        if let Some(mac) = chosen.mac {
            entry.heard(mac, now);
        }
        self.gateway = Some(entry);
    }

    fn advertised(&mut self, router: Ipv6Addr, advertisement: &RouterAdvertisement, now: Instant) {
        let Some(made) = &mut self.made else { return };
        for prefix in &advertisement.prefixes {
            made.announced(prefix, now);
        }
        let mtu = advertisement.mtu.and_then(|mtu| u16::try_from(mtu).ok());
        if let Some(mtu) = mtu.filter(|mtu| (MINIMUM_MTU..=self.config.mtu).contains(mtu)) {
            self.mtu = mtu;
        }
        let mac = advertisement.source_mac.filter(|mac| *mac != self.config.mac);
        let known = self.routers.iter().position(|known| known.address == router);
        let entry = Router {
            address: router,
            preference: advertisement.preference,
            expires: now + advertisement.lifetime,
            mac: mac.or(known.and_then(|place| self.routers.get(place)?.mac)),
        };
        match known {
            Some(place) if advertisement.lifetime.is_zero() => {
                self.routers.remove(place);
            }
            Some(place) => {
                if let Some(known) = self.routers.get_mut(place) {
                    *known = entry;
                }
            }
            None if !advertisement.lifetime.is_zero() && self.routers.len() < ROUTER_LIMIT => {
                self.routers.push(entry);
            }
            None => {}
        }
        self.choose_router(now);
        if let Some(gateway) = self.gateway.as_mut().filter(|gateway| gateway.address == router) {
            gateway.set_timers(advertisement.reachable, advertisement.retransmit);
            if let Some(mac) = mac {
                gateway.heard(mac, now);
            }
        }
    }

    fn solicited(
        &mut self,
        received: &Received<'_>,
        target: Ipv6Addr,
        source_mac: Option<MacAddr>,
        now: Instant,
        output: &mut Output,
    ) {
        let probe = received.source.is_unspecified();
        if probe && let Some(made) = &mut self.made {
            made.objection(target);
        }
        if !self.is_own(target) || !self.may_answer(now) {
            return;
        }
        let source_mac = source_mac.filter(|mac| *mac != self.config.mac);
        if let (Some(gateway), Some(mac)) = (&mut self.gateway, source_mac)
            && gateway.address == received.source
        {
            gateway.heard(mac, now);
        }
        let to = (!probe).then(|| (source_mac.unwrap_or(received.source_mac), received.source));
        output.frames.push(wire::neighbour_advertisement(self.config.mac, target, to));
    }

    fn echo(&mut self, received: &Received<'_>, now: Instant, output: &mut Output) {
        let answerable = self.is_own(received.destination) && !received.source.is_unspecified();
        if answerable && self.may_answer(now) {
            output.frames.extend(wire::echo_reply(self.config.mac, received.source_mac, received));
        }
    }

    /// A token bucket over all answers.
    fn may_answer(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.answers_at).as_secs_f64();
        self.answers = (self.answers + passed * ANSWERS_PER_SECOND).min(ANSWER_BURST);
        self.answers_at = now;
        if self.answers < 1.0 {
            return false;
        }
        self.answers -= 1.0;
        true
    }

    /// 0.5 to 1.5, so that engines which started together do not ask together (xorshift, Marsaglia 2003).
    fn jitter(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        0.5 + (self.random >> 40) as f64 / f64::from(1u32 << 24)
    }
}
