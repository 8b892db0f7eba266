//! The one place where a process reads time: everything below a `core/` folder is told the time instead.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use wire::time::{MonoMs, UnixMs};

/// The clocks of a process: a monotonic one that counts from [`Clock::start`], and the wall clock. Copies share one origin.
///
/// Built on tokio's clock, so that a paused test runtime moves it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the monotonic clock. Call it once per process and hand out copies: two origins do not compare.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Milliseconds since the start; never goes back.
    pub fn mono(&self) -> MonoMs {
        MonoMs(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Wall time; may jump either way, and lies before 1970 when the machine's clock does.
    pub fn wall(&self) -> UnixMs {
        let ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        UnixMs(ms)
    }

    /// The instant at which [`Clock::mono`] reads `at`, for `sleep_until`. A time too far to represent becomes one
    /// 30 years from the start: waiting for it is waiting for ever.
    pub fn instant_at(&self, at: MonoMs) -> Instant {
        self.origin
            .checked_add(Duration::from_millis(at.0.min(FAR_AHEAD_MS)))
            .unwrap_or(self.origin)
    }
}

const FAR_AHEAD_MS: u64 = 30 * 365 * 24 * 3_600 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn mono_counts_from_the_start_and_instants_match_it() {
        let clock = Clock::start();
        assert_eq!(clock.mono(), MonoMs(0));
        tokio::time::sleep_until(clock.instant_at(MonoMs(1_500))).await;
        assert_eq!(clock.mono(), MonoMs(1_500));
        assert_eq!(clock.instant_at(MonoMs(1_500)), Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_beyond_every_clock_is_far_ahead() {
        let clock = Clock::start();
        let day = clock.instant_at(MonoMs(24 * 3_600 * 1_000));
        assert!(clock.instant_at(MonoMs(u64::MAX)) > day);
    }

    #[test]
    fn wall_time_is_after_this_was_written() {
        assert!(Clock::start().wall() > UnixMs(1_700_000_000_000));
    }
}
