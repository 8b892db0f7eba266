//! How long the sync under way takes.
//!
//! A disk can hang without an error: a controller that resets, a volume that is detached. What was given to it is neither
//! durable nor failed, so nobody gets an answer. After a while this is worth a line, and after a longer one it is better to
//! end: clients find another broker or a restarted one, and the next start finds out what the disk holds.

use std::time::Duration;

use tokio::time::Instant;

/// A sync that takes longer is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A sync that is found to have taken too long gets so much more. A process that was stopped itself, or whose machine was, finds
/// that of any sync, before it could hear that the disk was done long ago.
const GRACE: Duration = Duration::from_secs(1);

/// What is to be done about the sync under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// Say that it is stuck. This comes once for each sync.
    Stuck,
    /// End the process.
    GiveUp,
}

#[derive(Debug)]
pub(super) struct SyncWatch {
    timeout: Duration,
    since: Option<Instant>,
    is_stuck: bool,
    /// When it was found to take longer than the timeout.
    overdue: Option<Instant>,
}

impl SyncWatch {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, since: None, is_stuck: false, overdue: None }
    }

    pub(super) fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// The sync has ended. Whether it was stuck.
    pub(super) fn end(&mut self) -> bool {
        self.since = None;
        self.overdue = None;
        std::mem::take(&mut self.is_stuck)
    }

    pub(super) fn is_syncing(&self) -> bool {
        self.since.is_some()
    }

    /// When [`SyncWatch::check`] has something to say.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let wait = if self.is_stuck { self.timeout } else { STUCK_AFTER.min(self.timeout) };
        let overdue = self.overdue.map(|overdue| overdue + GRACE);
        overdue.or_else(|| Some(self.since? + wait))
    }

    pub(super) fn check(&mut self, now: Instant) -> Verdict {
        let Some(took) = self.since.map(|since| now.duration_since(since)) else {
            return Verdict::Fine;
        };
        let overdue = (took >= self.timeout).then(|| *self.overdue.get_or_insert(now));
        if overdue.is_some_and(|overdue| now.duration_since(overdue) >= GRACE) {
            Verdict::GiveUp
        } else if took >= STUCK_AFTER && !self.is_stuck {
            self.is_stuck = true;
            Verdict::Stuck
        } else {
            Verdict::Fine
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sync_that_hangs_is_reported_and_then_given_up() {
        let second = Duration::from_secs(1);
        let mut watch = SyncWatch::new(60 * second);
        let start = Instant::now();
        assert_eq!((watch.deadline(), watch.check(start)), (None, Verdict::Fine));
        watch.begin(start);
        assert_eq!(watch.deadline(), Some(start + 10 * second));
        assert_eq!(watch.check(start + 9 * second), Verdict::Fine);
        assert_eq!(watch.check(start + 10 * second), Verdict::Stuck);
        assert_eq!(watch.check(start + 11 * second), Verdict::Fine);
        assert_eq!(watch.deadline(), Some(start + 60 * second));
        assert_eq!(watch.check(start + 60 * second), Verdict::Fine);
        assert_eq!(watch.deadline(), Some(start + 61 * second));
        assert_eq!(watch.check(start + 61 * second), Verdict::GiveUp);
        assert!(watch.end() && !watch.is_syncing());
        assert_eq!((watch.deadline(), watch.check(start + 70 * second)), (None, Verdict::Fine));
        watch.begin(start + 70 * second);
        assert!(!watch.end(), "that one was not stuck");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_timeout_needs_no_warning() {
        let second = Duration::from_secs(1);
        let mut watch = SyncWatch::new(second);
        let start = Instant::now();
        watch.begin(start);
        assert_eq!(watch.deadline(), Some(start + second));
        assert_eq!(watch.check(start + second), Verdict::Fine);
        assert_eq!(watch.check(start + 2 * second), Verdict::GiveUp);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_itself_hears_of_the_disk_first() {
        let second = Duration::from_secs(1);
        let mut watch = SyncWatch::new(60 * second);
        let start = Instant::now();
        watch.begin(start);
        assert_eq!(watch.check(start + 3_600 * second), Verdict::Stuck);
        assert_eq!(watch.deadline(), Some(start + 3_601 * second));
        assert!(watch.end());
        watch.begin(start + 3_600 * second);
        assert_eq!(watch.check(start + 3_601 * second), Verdict::Fine);
    }
}
