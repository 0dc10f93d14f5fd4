//! Time from the processor's time-stamp counter.

use core::time::Duration;

use overlane_dataplane::packet::Clock;

use crate::{Eal, sys};

/// A [`Clock`] over the time-stamp counter: monotonic, the same on every core, a few nanoseconds to read.
#[derive(Debug, Clone)]
pub struct TscClock {
    /// Nanoseconds per cycle, times 2^32.
    scale: u64,
}

impl TscClock {
    /// A clock; DPDK measured the counter's frequency when `eal` was initialised.
    #[must_use]
    pub fn new(_eal: &Eal) -> Self {
        // SAFETY: takes nothing; the EAL is initialised, `_eal` shows it.
        let hz = unsafe { sys::rte_get_tsc_hz() }.max(1);
        let scale = (1_000_000_000_u128 << 32) / u128::from(hz);
        Self { scale: u64::try_from(scale).unwrap_or(u64::MAX) }
    }

    /// The span of `cycles`.
    #[must_use]
    pub fn span(&self, cycles: u64) -> Duration {
        let nanos = (u128::from(cycles) * u128::from(self.scale)) >> 32;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Clock for TscClock {
    fn now(&self) -> Duration {
        self.span(self.cycles())
    }

    /// The counter itself.
    #[inline]
    fn cycles(&self) -> u64 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: reads a register that every processor of this kind has.
        return unsafe { core::arch::x86_64::_rdtsc() };
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: reads a register.
        unsafe {
            sys::overlane_tsc()
        }
    }
}
