//! How fast long jobs may write.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use broker_log::{Pace, Proceed};

use crate::sync_latency::SyncLatency;

/// Longest pause for commits that suffer, for each [`PAUSED_BYTES`] that were written: a job that stood still would never give
/// space back.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// See [`PAUSE_MAX`].
const PAUSED_BYTES: usize = 4 << 20;

/// How often it is looked whether they still suffer.
const PAUSE_STEP: Duration = Duration::from_millis(50);

/// What was not written while there was nothing to write may not be made up for beyond this.
const CREDIT_MAX: Duration = Duration::from_millis(100);

/// So many bytes may be read for one that may be written: nothing is synced, but somebody decompresses and hashes them.
const READS_PER_WRITE: usize = 4;

/// Tells threads to end. Clones tell the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Stop {
    pub(super) fn now(&self) {
        let (stopped, changed) = &*self.shared;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits for so long, or until the end; says which.
    fn wait(&self, at_most: Duration) -> Proceed {
        let (stopped, changed) = &*self.shared;
        let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(stopped, at_most, |stopped| !*stopped);
        let (stopped, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *stopped { Proceed::Stop } else { Proceed::Go }
    }
}

/// Holds a job back to a rate, and further while commits suffer.
#[derive(Debug)]
pub(super) struct Pacer {
    bytes_per_second: u64,
    /// When everything that was written so far would have been written at the rate.
    paid_until: Instant,
    syncs: Arc<SyncLatency>,
    stop: Stop,
}

impl Pacer {
    pub(super) fn new(bytes_per_second: u64, syncs: Arc<SyncLatency>, stop: Stop) -> Self {
        Self { bytes_per_second, paid_until: Instant::now(), syncs, stop }
    }

    /// How long to wait after `bytes` were written.
    fn debt(&mut self, now: Instant, bytes: usize) -> Duration {
        let earliest = now.checked_sub(CREDIT_MAX).unwrap_or(now);
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.paid_until = self.paid_until.max(earliest) + cost;
        self.paid_until.saturating_duration_since(now)
    }
}

impl Pace for Pacer {
    fn wrote(&mut self, bytes: usize) -> Proceed {
        let now = Instant::now();
        self.syncs.disturbed(now);
        let debt = self.debt(now, bytes);
        let mut proceed = self.stop.wait(debt);
        let until = Instant::now() + pause_max(bytes);
        loop {
            let now = Instant::now();
            let left = until.saturating_duration_since(now);
            if proceed == Proceed::Stop || left.is_zero() || !self.syncs.suffers(now) {
                return proceed;
            }
            proceed = self.stop.wait(left.min(PAUSE_STEP));
        }
    }

    fn read(&mut self, bytes: usize) -> Proceed {
        self.wrote(bytes / READS_PER_WRITE)
    }
}

/// How long a job may be held back for commits that suffer after it has written so much: however small its pieces are, it comes
/// to its end.
fn pause_max(bytes: usize) -> Duration {
    PAUSE_MAX.mul_f64(bytes.min(PAUSED_BYTES) as f64 / PAUSED_BYTES as f64)
}

/// For jobs that others wait for.
#[derive(Debug)]
pub(super) struct Unpaced;

impl Pace for Unpaced {
    fn wrote(&mut self, _: usize) -> Proceed {
        Proceed::Go
    }

    fn breathe(&mut self) {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacer(stop: &Stop) -> Pacer {
        Pacer::new(1_000_000, Arc::default(), stop.clone())
    }

    #[test]
    fn what_is_written_is_paid_for_at_the_rate() {
        let mut pacer = pacer(&Stop::default());
        let ms = Duration::from_millis;
        let now = pacer.paid_until + ms(1_000);
        // A tenth of a second is made up for.
        assert_eq!(pacer.debt(now, 100_000), ms(0));
        assert_eq!(pacer.debt(now, 250_000), ms(250));
        assert_eq!(pacer.debt(now + ms(100), 250_000), ms(400));
        assert_eq!(pacer.debt(now + ms(5_000), 300_000), ms(200));
    }

    #[test]
    fn small_pieces_are_held_back_no_longer_than_large_ones() {
        assert_eq!(pause_max(64 << 20), Duration::from_secs(1));
        assert_eq!(pause_max(4 << 20), Duration::from_secs(1));
        assert_eq!(pause_max(32 << 10) * 128, Duration::from_secs(1));
        assert_eq!(pause_max(0), Duration::ZERO);
    }

    #[test]
    fn reading_is_paid_for_too() {
        let mut pacer = pacer(&Stop::default());
        let before = pacer.paid_until;
        assert_eq!(pacer.read(400_000), Proceed::Go);
        assert!(pacer.paid_until >= before + Duration::from_millis(100));
    }

    #[test]
    fn a_stop_ends_every_wait() {
        let stop = Stop::default();
        let mut pacer = pacer(&stop);
        assert_eq!(pacer.wrote(1_000), Proceed::Go);
        let waiting = std::thread::spawn(move || pacer.wrote(1 << 40));
        stop.now();
        assert_eq!(waiting.join().unwrap(), Proceed::Stop);
    }
}
