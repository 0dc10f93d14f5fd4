//! How far a flow has come, in one word: when its last packet came, and what each direction has shown.

use super::key::Direction;
use crate::wire::{protocol, tcp};
use core::time::Duration;

/// A moment in the life of a table: 64 in a second, from any fixed moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// How many there are in a second.
    pub const PER_SECOND: u64 = 64;

    /// The tick at a moment of a clock.
    #[inline]
    #[must_use]
    pub const fn at(now: Duration) -> Self {
        const NANOS: u32 = 1_000_000_000 / Tick::PER_SECOND as u32;
        Self(now.as_secs() * Self::PER_SECOND + (now.subsec_nanos() / NANOS) as u64)
    }
}

/// How late the last packet's moment may be noted, in ticks: half a second. So most packets of a busy flow only read.
pub(super) const GRAIN: u32 = (Tick::PER_SECOND / 2) as u32;

/// What one packet shows of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign(u8);

impl Sign {
    const SEEN: u8 = 1;
    const SYN: u8 = 1 << 1;
    const ACK: u8 = 1 << 2;
    const FIN: u8 = 1 << 3;
    const RST: u8 = 1 << 4;

    /// A packet of a protocol without connections.
    pub const DATAGRAM: Self = Self(Self::SEEN);

    /// A TCP segment with these flags ([`tcp::Header::flags`]).
    #[inline]
    #[must_use]
    pub const fn tcp(flags: u8) -> Self {
        let mut bits = Self::SEEN;
        if flags & tcp::flag::SYN != 0 {
            bits |= Self::SYN;
        }
        if flags & tcp::flag::ACK != 0 {
            bits |= Self::ACK;
        }
        if flags & tcp::flag::FIN != 0 {
            bits |= Self::FIN;
        }
        if flags & tcp::flag::RST != 0 {
            bits |= Self::RST;
        }
        Self(bits)
    }

    /// Whether it asks for a new connection: SYN and nothing that belongs to one.
    pub(crate) const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }
}

/// How far a flow has come; the first is what can be spared best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// TCP: reset, or both directions have ended.
    Closing,
    /// TCP: not yet acknowledged both ways. Else: nothing has come back.
    HalfOpen,
    /// Both directions are alive.
    Established,
}

impl Progress {
    /// Every one, in order.
    pub const ALL: [Self; 3] = [Self::Closing, Self::HalfOpen, Self::Established];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closing => "closing",
            Self::HalfOpen => "half_open",
            Self::Established => "established",
        }
    }
}

/// For how long flows are remembered after their last packet, in ticks (see [`Tick::PER_SECOND`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP that is not acknowledged both ways.
    pub tcp_half_open: u32,
    /// TCP that is. RFC 5382, REQ-5 asks for at least 2 hours and 4 minutes.
    pub tcp_established: u32,
    /// TCP that has ended both ways, or was reset.
    pub tcp_closing: u32,
    /// UDP. RFC 4787, REQ-5 asks for at least 2 minutes.
    pub udp: u32,
    /// ICMP echo. RFC 5508, REQ-2 asks for at least 60 seconds.
    pub icmp: u32,
    /// Every other protocol.
    pub other: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        const SECOND: u32 = Tick::PER_SECOND as u32;
        Self {
            tcp_half_open: 60 * SECOND,
            tcp_established: 7440 * SECOND,
            tcp_closing: 30 * SECOND,
            udp: 120 * SECOND,
            icmp: 60 * SECOND,
            other: 120 * SECOND,
        }
    }
}

impl Timeouts {
    /// The timeout of a flow of `protocol` that has come so far.
    #[inline]
    const fn of(&self, protocol: u8, progress: Progress) -> u32 {
        match (protocol, progress) {
            (protocol::TCP, Progress::HalfOpen) => self.tcp_half_open,
            (protocol::TCP, Progress::Established) => self.tcp_established,
            (protocol::TCP, Progress::Closing) => self.tcp_closing,
            (protocol::UDP, _) => self.udp,
            (protocol::ICMP, _) => self.icmp,
            _ => self.other,
        }
    }
}

/// The word: 32 bits of the last packet's tick; 8 of signs for each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

impl State {
    const UP: u32 = 32;
    const DOWN: u32 = 40;

    /// That of a flow with one packet.
    pub(super) const fn first(direction: Direction, sign: Sign, now: Tick) -> Self {
        Self(now.0 as u32 as u64 | (sign.0 as u64) << Self::shift(direction))
    }

    const fn shift(direction: Direction) -> u32 {
        match direction {
            Direction::Up => Self::UP,
            Direction::Down => Self::DOWN,
        }
    }

    /// After one more packet.
    #[inline]
    pub(super) const fn after(self, direction: Direction, sign: Sign, now: Tick) -> Self {
        let tick = if self.idle(now) < GRAIN { self.0 as u32 } else { now.0 as u32 };
        let signs = self.0 & !(u32::MAX as u64) | (sign.0 as u64) << Self::shift(direction);
        Self(signs | tick as u64)
    }

    /// Whether one more packet is one of the flow's and changes nothing: the last one was a moment ago, and has shown as much.
    #[inline(always)]
    pub(super) const fn has_nothing_to_note(self, direction: Direction, sign: Sign, now: Tick) -> bool {
        let seen = (self.0 >> Self::shift(direction)) as u8;
        self.idle(now) < GRAIN && sign.0 & !seen == 0 && !sign.opens()
    }

    /// Ticks since the last packet; 0 if that was noted by a worker whose clock is ahead.
    #[inline]
    pub(super) const fn idle(self, now: Tick) -> u32 {
        let idle = (now.0 as u32).wrapping_sub(self.0 as u32);
        if idle > i32::MAX as u32 { 0 } else { idle }
    }

    /// How far a flow of `protocol` has come.
    #[inline]
    pub(super) const fn progress(self, protocol: u8) -> Progress {
        let (up, down) = ((self.0 >> Self::UP) as u8, (self.0 >> Self::DOWN) as u8);
        let (both, either) = (up & down, up | down);
        let alive = if protocol == protocol::TCP {
            if either & Sign::RST != 0 || both & Sign::FIN != 0 {
                return Progress::Closing;
            }
            Sign::ACK
        } else {
            Sign::SEEN
        };
        if both & alive != 0 { Progress::Established } else { Progress::HalfOpen }
    }

    /// Whether the flow has been idle for longer than its timeout.
    #[inline]
    pub(super) const fn is_over(self, protocol: u8, now: Tick, timeouts: &Timeouts) -> bool {
        // The last packet may have come that much later than was noted.
        let idle = self.idle(now).saturating_sub(GRAIN);
        idle > 0 && idle > timeouts.of(protocol, self.progress(protocol))
    }

    /// Whether a packet does not belong to the flow any more, but begins another with the same key.
    #[inline]
    pub(super) const fn is_succeeded_by(
        self,
        protocol: u8,
        sign: Sign,
        now: Tick,
        timeouts: &Timeouts,
    ) -> bool {
        sign.opens() && matches!(self.progress(protocol), Progress::Closing)
            || self.idle(now) >= GRAIN && self.is_over(protocol, now, timeouts)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Direction::{Down, Up};
    use super::*;
    use crate::wire::tcp::flag::{ACK, FIN, PSH, RST, SYN};

    const NOW: Tick = Tick(1 << 40 | 0xffff_fff0);

    /// The progress after each of these TCP segments.
    fn tcp(segments: &[(Direction, u8)]) -> Vec<Progress> {
        let mut state: Option<State> = None;
        let after = |&(direction, flags)| {
            let next = match state {
                None => State::first(direction, Sign::tcp(flags), NOW),
                Some(state) => state.after(direction, Sign::tcp(flags), NOW),
            };
            state = Some(next);
            next.progress(protocol::TCP)
        };
        segments.iter().map(after).collect()
    }

    #[test]
    fn tcp_goes_from_half_open_to_established_to_closing() {
        use Progress::{Closing, Established, HalfOpen};
        let whole = [(Up, SYN), (Down, SYN | ACK), (Up, ACK), (Up, ACK | PSH), (Up, FIN | ACK), (Down, ACK)];
        assert_eq!(tcp(&whole), [HalfOpen, HalfOpen, Established, Established, Established, Established]);
        assert_eq!(tcp(&[&whole[..], &[(Down, FIN | ACK)]].concat()).last(), Some(&Closing));
        assert_eq!(tcp(&[(Up, SYN), (Down, RST | ACK)]), [HalfOpen, Closing]);
        // Joined in the middle.
        assert_eq!(tcp(&[(Down, ACK), (Down, ACK), (Up, ACK)]), [HalfOpen, HalfOpen, Established]);
    }

    #[test]
    fn datagrams_are_established_once_something_came_back() {
        let one = State::first(Up, Sign::DATAGRAM, NOW).after(Up, Sign::DATAGRAM, NOW);
        assert_eq!(one.progress(protocol::UDP), Progress::HalfOpen);
        assert_eq!(one.after(Down, Sign::DATAGRAM, NOW).progress(protocol::UDP), Progress::Established);
    }

    #[test]
    fn a_syn_begins_another_connection_only_when_the_last_has_ended() {
        let (syn, timeouts) = (Sign::tcp(SYN), Timeouts::default());
        let succeeded = |state: State, sign| state.is_succeeded_by(protocol::TCP, sign, NOW, &timeouts);
        let open = State::first(Up, syn, NOW);
        assert!(!succeeded(open, syn), "sent again");
        let closed = open.after(Down, Sign::tcp(RST | ACK), NOW);
        assert!(succeeded(closed, syn));
        assert!(!succeeded(closed, Sign::tcp(ACK)) && !succeeded(closed, Sign::tcp(SYN | ACK)));
    }

    #[test]
    fn a_flow_is_over_after_the_timeout_of_its_protocol_and_progress() {
        let timeouts = Timeouts {
            tcp_half_open: 100,
            tcp_established: 200,
            tcp_closing: 300,
            udp: 400,
            icmp: 500,
            other: 600,
        };
        let first = |flags| State::first(Up, Sign::tcp(flags), NOW);
        let of = |protocol, state: State, timeout: u64| {
            let at = |idle| Tick(NOW.0 + idle + u64::from(GRAIN));
            assert!(!state.is_over(protocol, at(timeout), &timeouts));
            assert!(state.is_over(protocol, at(timeout + 1), &timeouts));
            assert!(state.is_succeeded_by(protocol, Sign::DATAGRAM, at(timeout + 1), &timeouts));
        };
        of(protocol::TCP, first(SYN), 100);
        of(protocol::TCP, first(ACK).after(Down, Sign::tcp(ACK), NOW), 200);
        of(protocol::TCP, first(RST), 300);
        of(protocol::UDP, first(0), 400);
        of(protocol::ICMP, first(0), 500);
        of(132, first(0), 600);
    }

    #[test]
    fn the_moment_is_noted_when_it_is_far_enough_from_the_last_and_never_goes_back() {
        let state = State::first(Up, Sign::DATAGRAM, NOW);
        let at = |ticks: i64| Tick(NOW.0.wrapping_add_signed(ticks));
        let grain = i64::from(GRAIN);
        assert_eq!(state.after(Up, Sign::DATAGRAM, at(grain - 1)), state);
        assert_eq!(state.after(Up, Sign::DATAGRAM, at(grain)).idle(at(grain)), 0);
        // From a worker that is behind; and across the end of 32 bits.
        assert_eq!(state.after(Up, Sign::DATAGRAM, at(-100)), state);
        assert_eq!(state.idle(at(-100)), 0);
        assert_eq!(state.idle(at(1000)), 1000);
    }

    #[test]
    fn there_are_64_ticks_in_a_second() {
        assert_eq!(Tick::at(Duration::from_millis(15)), Tick(0));
        assert_eq!(Tick::at(Duration::from_micros(15_625)), Tick(1));
        assert_eq!(Tick::at(Duration::from_nanos(2_999_999_999)), Tick(191));
        assert_eq!(Tick::at(Duration::from_secs(3)), Tick(192));
    }
}
