//! The time that slots bear, by which records grow old.
//!
//! Records that are appended while the wall clock stands behind would be too old as soon as it is set right. So no slot bears an
//! earlier time than the one before it, also across a restart: what is appended meanwhile counts as appended when that
//! one was, or when the clock was looked at last.
//!
//! If the slot before lies more than a day ahead, nobody can tell which of the two times is wrong, and the clock of now is
//! believed: otherwise a clock that was far ahead once would make everything that is ever appended look as if it came from
//! that future, and nothing would be deleted by age any more. But a clock that shows a time before this program was written is
//! wrong for certain: so do machines begin that have no battery, until they hear of a time server.

use wire::time::UnixMs;

/// How far the slot before may lie ahead of the clock, in milliseconds: a day.
pub(crate) const AHEAD_MAX_MS: i64 = 86_400_000;

/// No clock that is right shows an earlier time: the beginning of 2020.
const EARLIEST: UnixMs = UnixMs(1_577_836_800_000);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct AppendClock {
    last: Option<UnixMs>,
}

impl AppendClock {
    /// Goes on from the latest time that the log knows of.
    pub(crate) fn new(last: Option<UnixMs>) -> Self {
        Self { last }
    }

    /// The time that something bears which is appended when the wall clock shows `wall`.
    pub(crate) fn stamp(&mut self, wall: UnixMs) -> UnixMs {
        let believed = self.last.filter(|last| {
            let is_near = last.0.saturating_sub(wall.0) <= AHEAD_MAX_MS;
            is_near || (wall < EARLIEST && *last >= EARLIEST)
        });
        let stamp = believed.map_or(wall, |last| last.max(wall));
        self.last = Some(stamp);
        stamp
    }

    /// What was appended last bears this time.
    pub(crate) fn last(&self) -> Option<UnixMs> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000_000;
    const DAY: i64 = AHEAD_MAX_MS;
    const YEAR: i64 = 365 * DAY;

    #[test]
    fn time_goes_on_unless_it_went_astray() {
        let start = Some(START);
        for (last, wall, expected) in [
            (None, 5, 5),
            (None, START, START),
            (start, START + 1, START + 1),
            (start, START - 1, START),
            (start, START - DAY, START),
            (start, START + YEAR, START + YEAR),
            // Which of the two is wrong, nobody can tell.
            (start, START - DAY - 1, START - DAY - 1),
            (Some(START + YEAR), START, START),
            // Here somebody can.
            (start, 0, START),
            (start, EARLIEST.0 - 1, START),
            (start, EARLIEST.0, EARLIEST.0),
            (Some(5), 4, 5),
            (Some(2 * DAY), 4, 4),
            (Some(i64::MAX), i64::MIN, i64::MAX),
            (Some(i64::MIN), i64::MAX, i64::MAX),
        ] {
            let mut clock = AppendClock::new(last.map(UnixMs));
            assert_eq!(clock.stamp(UnixMs(wall)), UnixMs(expected), "{last:?} {wall}");
            assert_eq!(clock.last(), Some(UnixMs(expected)));
        }
    }
}
