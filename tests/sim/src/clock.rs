//! A host's clocks: the monotonic one drifts, the wall clock is off and can be set.

use gateway_core::gateway::Now;
use wire::time::{MonoMs, UnixMs};

/// Wall time at the beginning of every run.
const BEGINNING: i64 = 1_700_000_000_000;

/// The clocks of one host. Virtual time is what would be true.
#[derive(Debug, Clone)]
pub(crate) struct HostClock {
    boot_ms: u64,
    drift_ppm: i64,
    off_ms: i64,
}

impl HostClock {
    /// Clocks that run `drift_ppm` too fast and are `off_ms` ahead.
    pub(crate) fn new(drift_ppm: i64, off_ms: i64) -> Self {
        Self { boot_ms: 0, drift_ppm, off_ms }
    }

    /// The host starts: its monotonic clock begins at 0 again.
    pub(crate) fn boot(&mut self, ms: u64) {
        self.boot_ms = ms;
    }

    /// Somebody sets the wall clock.
    pub(crate) fn step(&mut self, by_ms: i64) {
        self.off_ms = self.off_ms.saturating_add(by_ms);
    }

    pub(crate) fn mono(&self, ms: u64) -> MonoMs {
        MonoMs(scale(ms.saturating_sub(self.boot_ms), self.drift_ppm))
    }

    pub(crate) fn wall(&self, ms: u64) -> UnixMs {
        UnixMs(BEGINNING + i64::try_from(ms).unwrap_or(i64::MAX / 2) + self.off_ms)
    }

    pub(crate) fn now(&self, ms: u64) -> Now {
        Now { mono: self.mono(ms), wall: self.wall(ms) }
    }

    /// The virtual time at which the monotonic clock shows `at` or a little more.
    pub(crate) fn when(&self, at: MonoMs) -> u64 {
        self.boot_ms + scale(at.0, -self.drift_ppm) + 1
    }
}

/// Exact enough for hours: drifts are far below a thousandth.
fn scale(ms: u64, ppm: i64) -> u64 {
    let drift = i128::from(ms) * i128::from(ppm) / 1_000_000;
    u64::try_from(i128::from(ms) + drift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drifting_clock_comes_to_a_time_when_it_says_so() {
        for drift in [-300, 0, 300] {
            let mut clock = HostClock::new(drift, 0);
            clock.boot(5_000);
            for at in [0, 1, 999, 60_000, 3_600_000] {
                let when = clock.when(MonoMs(at));
                assert!(clock.mono(when) >= MonoMs(at), "{drift} ppm, {at} ms");
                assert!(clock.mono(when) <= MonoMs(at + 3), "{drift} ppm, {at} ms");
            }
        }
    }
}
