//! How long to wait before the next connection: twice as long after each failure, and never all devices at once.

/// Bounds of the waiting time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffSettings {
    /// After the first failure, in milliseconds; at least 1. Lowering it costs a gateway that restarts a rush.
    pub first_ms: u32,
    /// At most, in milliseconds. Raising it costs delay after a long outage.
    pub max_ms: u32,
}

impl Default for BackoffSettings {
    /// Half a second to one minute.
    fn default() -> Self {
        Self { first_ms: 500, max_ms: 60_000 }
    }
}

/// Exponential backoff with jitter: the wait is drawn from the upper half of what the exponential gives, so that it
/// is never none.
#[derive(Debug, Clone)]
pub struct Backoff {
    settings: BackoffSettings,
    failures: u32,
}

impl Backoff {
    /// Before the first failure.
    #[must_use]
    pub fn new(settings: BackoffSettings) -> Self {
        Self { settings, failures: 0 }
    }

    /// Something worked: the next failure is the first.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Milliseconds to wait after one more failure.
    pub fn failed(&mut self, entropy: u32) -> u32 {
        let BackoffSettings { first_ms, max_ms } = self.settings;
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        jittered(first_ms.saturating_mul(factor).min(max_ms), entropy)
    }

    /// Milliseconds to wait after a failure that will only pass when somebody does something about it.
    #[must_use]
    pub fn hopeless(&self, entropy: u32) -> u32 {
        jittered(self.settings.max_ms, entropy)
    }
}

/// Between half of `ms`, rounded up, and all of it; never 0, or a loop would spin.
fn jittered(ms: u32, entropy: u32) -> u32 {
    let half = ms / 2;
    (ms - half + entropy % (half + 1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew() {
        let settings = BackoffSettings { first_ms: 100, max_ms: 1_000 };
        let mut backoff = Backoff::new(settings);
        for full in [100, 200, 400, 800, 1_000, 1_000] {
            let mut other = backoff.clone();
            assert_eq!(backoff.failed(0), full / 2);
            assert_eq!(other.failed(full / 2), full);
        }
        assert_eq!((backoff.hopeless(0), backoff.hopeless(500)), (500, 1_000));
        backoff.reset();
        assert_eq!(backoff.failed(0), 50);
    }

    #[test]
    fn any_settings_and_entropy_give_a_wait_within_bounds() {
        for (first_ms, max_ms) in [(0, 0), (1, 1), (7, 3), (u32::MAX, u32::MAX), (3, u32::MAX)] {
            let mut backoff = Backoff::new(BackoffSettings { first_ms, max_ms });
            for step in 0..100_u32 {
                let wait = backoff.failed(step.wrapping_mul(0x9e37_79b9));
                assert!(wait >= 1 && wait <= max_ms.max(1), "{wait} of {first_ms}..{max_ms}");
            }
        }
    }
}
