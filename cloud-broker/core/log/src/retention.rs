//! The clock by which records grow old.
//!
//! A wall clock may jump: a machine that starts in the year 2050 until its time server answers must not delete a log. So the
//! wall clock is believed at once when it steps back, and only after an hour when it steps forward.

use wire::time::{MonoMs, UnixMs};

use crate::log::Now;
use crate::mutant::{self, Mutant};

/// How long the wall clock has to stay ahead before it is believed.
pub(crate) const BELIEVED_AFTER_MS: u64 = 3_600_000;

/// How far ahead of the newest record the clock is believed when the process starts.
const AHEAD_AT_START_MS: i64 = 3_600_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RetentionClock {
    /// Wall time of the newest commit with records that the process found when it started.
    newest: Option<UnixMs>,
    believed: Option<Believed>,
}

/// What the wall clock shows beyond the monotonic one, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Believed {
    ahead: i64,
    /// Since when it shows more, and the least of what it has shown since.
    more: Option<(MonoMs, i64)>,
}

impl RetentionClock {
    /// A clock for a log whose newest records were stored at `newest`.
    pub(crate) fn new(newest: Option<UnixMs>) -> Self {
        Self { newest, believed: None }
    }

    /// Takes in what the clocks say; to be called every now and then.
    pub(crate) fn tick(&mut self, now: Now) {
        let shown = ahead(now);
        let Some(believed) = &mut self.believed else {
            let newest = self.newest.map_or(now.wall, |newest| {
                now.wall.min(UnixMs(newest.0.saturating_add(AHEAD_AT_START_MS)))
            });
            self.believed =
                Some(Believed { ahead: ahead(Now { wall: newest, ..now }), more: None });
            return;
        };
        if shown <= believed.ahead || mutant::is(Mutant::WallClockBelieved) {
            *believed = Believed { ahead: shown, more: None };
            return;
        }
        let (since, least) = believed.more.unwrap_or((now.mono, shown));
        let least = least.min(shown);
        *believed = if now.mono - since >= BELIEVED_AFTER_MS {
            Believed { ahead: least, more: None }
        } else {
            Believed { more: Some((since, least)), ..*believed }
        };
    }

    /// The time by which records are judged. Before the first tick nothing is old.
    pub(crate) fn now(&self, now: Now) -> UnixMs {
        let shown = ahead(now);
        let believed = self.believed.map_or(i64::MIN, |believed| believed.ahead.min(shown));
        let mono = i64::try_from(now.mono.0).unwrap_or(i64::MAX);
        UnixMs(believed.saturating_add(mono))
    }
}

fn ahead(now: Now) -> i64 {
    now.wall.0.saturating_sub(i64::try_from(now.mono.0).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = BELIEVED_AFTER_MS;
    const START: i64 = 1_700_000_000_000;

    fn at(mono: u64, wall: i64) -> Now {
        Now { mono: MonoMs(mono), wall: UnixMs(wall) }
    }

    /// The clock after these readings, and what it says at the last.
    fn after(newest: Option<i64>, readings: &[(u64, i64)]) -> i64 {
        let mut clock = RetentionClock::new(newest.map(UnixMs));
        for (mono, wall) in readings {
            clock.tick(at(*mono, START + wall));
        }
        let (mono, wall) = readings.last().unwrap();
        clock.now(at(*mono, START + wall)).0 - START
    }

    #[test]
    fn the_wall_clock_is_believed_when_it_is_steady() {
        let year = 365 * 24 * HOUR as i64;
        let hour = HOUR as i64;
        for (newest, readings, expected) in [
            // Both clocks run alike.
            (None, &[(0, 0), (1_000, 1_000)][..], 1_000),
            // A step back counts at once.
            (None, &[(0, 0), (1_000, -500)], -500),
            // A step forward counts when it has lasted for an hour, in its least form.
            (None, &[(0, 0), (1_000, year)], 1_000),
            (None, &[(0, 0), (1_000, year), (2_000, 2_000), (HOUR + 1_000, year)], hour + 1_000),
            (None, &[(0, 0), (1_000, year), (HOUR, year)], hour),
            (
                None,
                &[(0, 0), (1_000, year), (2_000, 5_000), (HOUR + 1_000, year)],
                hour + 1_000 + 3_000,
            ),
            (None, &[(0, 0), (1_000, year), (HOUR + 1_000, hour + year)], hour + year),
            // What the log holds is evidence when the process starts.
            (Some(START), &[(0, year)], hour),
            (Some(START), &[(0, hour / 2)], hour / 2),
            (Some(START), &[(0, year), (1, year), (HOUR + 1, year + hour)], year + hour),
            (Some(START + year), &[(0, 0)], 0),
        ] {
            assert_eq!(after(newest, readings), expected, "{newest:?} {readings:?}");
        }
        assert!(RetentionClock::new(None).now(at(5, START)).0 < 0, "nothing is old before a tick");
    }

    #[test]
    fn no_reading_overflows() {
        let extremes =
            [at(0, i64::MIN), at(u64::MAX, i64::MAX), at(u64::MAX, i64::MIN), at(0, i64::MAX)];
        for first in extremes {
            for second in extremes {
                let mut clock = RetentionClock::new(Some(UnixMs(i64::MAX)));
                clock.tick(first);
                clock.tick(second);
                clock.now(second);
            }
        }
    }
}
