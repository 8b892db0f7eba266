//! How long to wait before the next attempt to reach the broker.

/// Exponential backoff with full jitter: gateways that lost one broker together do not come back together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Longest wait after the first failure, in milliseconds.
    pub const FIRST_MS: u64 = 200;
    /// Longest wait after many failures, in milliseconds: what a recovered broker waits for its gateways at most.
    pub const MAX_MS: u64 = 5_000;
    /// Shortest wait, in milliseconds: even luck must not make a busy loop.
    pub const MIN_MS: u64 = 50;

    /// Milliseconds to wait now; `random` decides within the range.
    pub fn failed(&mut self, random: u64) -> u64 {
        let ceiling = (Self::FIRST_MS << self.failures.min(16)).min(Self::MAX_MS);
        self.failures = self.failures.saturating_add(1);
        Self::MIN_MS + random % (ceiling - Self::MIN_MS + 1)
    }

    /// The session did its work: the next failure is a first one again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

const _: () = assert!(Backoff::MIN_MS <= Backoff::FIRST_MS && Backoff::FIRST_MS <= Backoff::MAX_MS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_start_over() {
        let mut backoff = Backoff::default();
        for failures in 0..100_u32 {
            let ceiling = (Backoff::FIRST_MS << failures.min(10)).min(Backoff::MAX_MS);
            let wait = backoff.failed(u64::from(failures) * 7919);
            assert!((Backoff::MIN_MS..=ceiling).contains(&wait), "{failures}: {wait}");
        }
        backoff.succeeded();
        assert!(backoff.failed(u64::MAX) <= Backoff::FIRST_MS);
    }
}
