//! Whether the broker works, as probes see it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use process::{Clock, Probe};
use wire::time::MonoMs;

/// A sync that takes longer makes the broker not ready: clients are better served elsewhere, or by waiting.
const SYNC_STUCK_MS: u64 = 10_000;

const SERVING: u8 = 0;
const FAILED: u8 = 1;
const STOPPED: u8 = 2;

/// No sync is under way.
const IDLE: u64 = u64::MAX;

/// Written by the engine, read by probes.
#[derive(Debug)]
pub(crate) struct Health {
    clock: Clock,
    state: AtomicU8,
    syncing_since: AtomicU64,
}

impl Health {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, state: AtomicU8::new(SERVING), syncing_since: AtomicU64::new(IDLE) }
    }

    pub(crate) fn failed(&self) {
        self.state.store(FAILED, Ordering::Relaxed);
    }

    pub(crate) fn stopped(&self) {
        self.state.store(STOPPED, Ordering::Relaxed);
    }

    pub(crate) fn syncing(&self, since: MonoMs) {
        self.syncing_since.store(since.0, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self) {
        self.syncing_since.store(IDLE, Ordering::Relaxed);
    }
}

impl Probe for Health {
    fn name(&self) -> &'static str {
        "broker"
    }

    fn live(&self) -> Result<(), String> {
        match self.state.load(Ordering::Relaxed) {
            SERVING => Ok(()),
            FAILED => Err("the log has failed".to_owned()),
            _ => Err("stopped".to_owned()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.live()?;
        let since = self.syncing_since.load(Ordering::Relaxed);
        if since == IDLE {
            return Ok(());
        }
        let waited_ms = self.clock.mono() - MonoMs(since);
        if waited_ms < SYNC_STUCK_MS {
            Ok(())
        } else {
            Err(format!("the disk has not finished a sync for {waited_ms} ms"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sync_that_hangs_is_not_ready_but_alive() {
        let health = Health::new(Clock::start());
        assert_eq!(health.ready(), Ok(()));
        health.syncing(MonoMs(0));
        tokio::time::sleep(Duration::from_millis(SYNC_STUCK_MS - 1)).await;
        assert_eq!(health.ready(), Ok(()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(health.ready().is_err());
        assert_eq!(health.live(), Ok(()));
        health.synced();
        assert_eq!(health.ready(), Ok(()));
        health.failed();
        assert!(health.ready().is_err() && health.live().is_err());
    }
}
