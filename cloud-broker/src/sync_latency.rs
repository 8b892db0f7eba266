//! Whether commits suffer from what else is written.
//!
//! The measure is the 99th percentile of recent syncs against what it is when nothing else is written. A disk that is slow
//! by itself is no reason to hold anything back: then nothing would ever be sorted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Syncs are looked at in windows of this.
const WINDOW: Duration = Duration::from_millis(500);

/// Syncs of a window that are kept; later ones of it say the same.
const SAMPLES_MAX: usize = 1_024;

/// Windows that the usual is taken from: the last quarter of a minute without other writes.
const QUIET_WINDOWS: usize = 30;

/// Commits suffer when they take so many times as long as usual.
const FACTOR: u32 = 3;

/// Syncs that are shorter than this hurt nobody.
const HARMLESS: Duration = Duration::from_millis(5);

/// Shared by the thread that syncs, and by those whose writes are held back. A plain lock, held for a few moves.
#[derive(Debug, Default)]
pub struct SyncLatency {
    windows: Mutex<Windows>,
}

impl SyncLatency {
    /// A commit's write and sync took so long, up to now.
    pub fn synced(&self, now: Instant, took: Duration) {
        self.lock().synced(now, took);
    }

    /// Something else was written.
    pub(crate) fn disturbed(&self, now: Instant) {
        self.lock().disturbed(now);
    }

    /// Whether commits take much longer than usual.
    pub(crate) fn suffers(&self, now: Instant) -> bool {
        self.lock().suffers(now)
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        // Figures that are a little off after a panic elsewhere do no harm.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Windows {
    current: Option<Window>,
    /// The last window before, if it is not long ago.
    last: Option<(Instant, Duration)>,
    /// The 99th percentiles of windows in which nothing else was written.
    quiet: VecDeque<Duration>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    samples: Vec<Duration>,
    is_quiet: bool,
}

impl Windows {
    fn synced(&mut self, now: Instant, took: Duration) {
        let window = self.window(now);
        if window.samples.len() < SAMPLES_MAX {
            window.samples.push(took);
        }
    }

    fn disturbed(&mut self, now: Instant) {
        self.window(now).is_quiet = false;
    }

    fn suffers(&mut self, now: Instant) -> bool {
        self.window(now);
        let recent = self.last.filter(|(since, _)| now.duration_since(*since) < 3 * WINDOW);
        let (Some((_, recent)), Some(usual)) = (recent, self.usual()) else {
            return false;
        };
        recent > (usual * FACTOR).max(HARMLESS)
    }

    /// The median of what the percentiles of quiet windows were.
    fn usual(&self) -> Option<Duration> {
        let mut quiet: Vec<Duration> = self.quiet.iter().copied().collect();
        quiet.sort_unstable();
        quiet.get(quiet.len() / 2).copied()
    }

    /// The window that `now` is in; closes the one before.
    fn window(&mut self, now: Instant) -> &mut Window {
        let is_over = |window: &Window| now.duration_since(window.since) >= WINDOW;
        if let Some(over) = self.current.take_if(|window| is_over(window)) {
            self.close(over);
        }
        let new = || Window { since: now, samples: Vec::new(), is_quiet: true };
        self.current.get_or_insert_with(new)
    }

    fn close(&mut self, mut window: Window) {
        window.samples.sort_unstable();
        let Some(at) = (window.samples.len() * 99 / 100).checked_sub(1).or(Some(0)) else {
            return;
        };
        let Some(percentile) = window.samples.get(at).copied() else {
            return;
        };
        self.last = Some((window.since, percentile));
        if window.is_quiet {
            self.quiet.push_back(percentile);
            if self.quiet.len() > QUIET_WINDOWS {
                self.quiet.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Two seconds of syncs that take so long; ends at the time that is given back.
    fn run(windows: &mut Windows, from: Instant, took: Duration, is_quiet: bool) -> Instant {
        let mut now = from;
        for _ in 0..200 {
            now += 10 * MS;
            windows.synced(now, took);
            if !is_quiet {
                windows.disturbed(now);
            }
        }
        now
    }

    #[test]
    fn commits_suffer_when_they_take_three_times_as_long() {
        let mut windows = Windows::default();
        let now = run(&mut windows, Instant::now(), 4 * MS, true);
        assert!(!windows.suffers(now));
        let now = run(&mut windows, now, 11 * MS, false);
        assert!(!windows.suffers(now), "less than three times");
        let now = run(&mut windows, now, 13 * MS, false);
        assert!(windows.suffers(now));
        // Nothing was held back for a while: it is over.
        let now = run(&mut windows, now, 4 * MS, true);
        assert!(!windows.suffers(now));
    }

    #[test]
    fn a_disk_that_is_slow_by_itself_holds_nothing_back() {
        let mut windows = Windows::default();
        let mut now = run(&mut windows, Instant::now(), MS, true);
        now = run(&mut windows, now, 20 * MS, true);
        assert!(windows.suffers(now), "not known yet to be the disk");
        for _ in 0..10 {
            now = run(&mut windows, now, 20 * MS, true);
        }
        assert!(!windows.suffers(now));
    }

    #[test]
    fn short_syncs_and_old_ones_hurt_nobody() {
        let mut windows = Windows::default();
        let now = run(&mut windows, Instant::now(), MS / 10, true);
        let now = run(&mut windows, now, 4 * MS, false);
        assert!(!windows.suffers(now));
        let now = run(&mut windows, now, 6 * MS, false);
        assert!(windows.suffers(now));
        assert!(!windows.suffers(now + 10 * WINDOW), "nobody commits any more");
    }

    #[test]
    fn one_slow_sync_in_hundreds_is_no_pattern() {
        let mut windows = Windows::default();
        let mut now = run(&mut windows, Instant::now(), 4 * MS, true);
        for n in 0..2_000 {
            now += MS;
            windows.synced(now, if n % 400 == 0 { 900 * MS } else { 4 * MS });
            windows.disturbed(now);
        }
        assert!(!windows.suffers(now));
    }
}
