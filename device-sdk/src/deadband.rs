//! Report by exception for one sensor: a value is worth a reading if it moved far enough, if the quality changed, or if
//! nothing was reported for long.
//!
//! What a deadband withholds is no reading: it gets no number and is no loss.

use wire::reading::{Quality, Reading, Value};
use wire::time::MonoMs;

/// How far a value must move from the last reported one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Band {
    /// At least this far, for a float sensor. With 0 or NaN every value is reported.
    Float(f32),
    /// At least this far in steps of the scaled integer. With 0 every value is reported.
    Scaled(u64),
}

/// When a sensor reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// How far the value must move.
    pub band: Band,
    /// A moved value is reported this long after the last report at the earliest; milliseconds, 0 for at once.
    pub interval_ms_min: u64,
    /// This long after the last report the next sample is reported whatever it is; milliseconds. It shows that the
    /// sensor lives; lowering it costs readings.
    pub interval_ms_max: u64,
}

impl Rule {
    /// Reports every sample.
    pub const ALWAYS: Self = Self { band: Band::Scaled(0), interval_ms_min: 0, interval_ms_max: 0 };
}

/// What one sensor reported last, and what that means for the next sample.
#[derive(Debug, Clone, Copy)]
pub struct Deadband {
    rule: Rule,
    last: Option<Report>,
}

impl Deadband {
    /// Nothing reported yet: the first sample will be.
    #[must_use]
    pub const fn new(rule: Rule) -> Self {
        Self { rule, last: None }
    }

    /// Whether this sample is to be recorded; if so it is what the next one is compared with.
    pub fn is_exception(&mut self, now: MonoMs, sample: &Reading) -> bool {
        let exception = self.last.is_none_or(|last| self.rule.is_exception(&last, now, sample));
        if exception {
            self.last = Some(Report { at: now, value: sample.value, quality: sample.quality });
        }
        exception
    }
}

#[derive(Debug, Clone, Copy)]
struct Report {
    at: MonoMs,
    value: Value,
    quality: Quality,
}

impl Rule {
    /// A change of quality waits for no interval: it says that the values before or after are worth nothing.
    fn is_exception(&self, last: &Report, now: MonoMs, sample: &Reading) -> bool {
        let silent_ms = now - last.at;
        sample.quality != last.quality
            || silent_ms >= self.interval_ms_max
            || (silent_ms >= self.interval_ms_min && self.band.is_left(last.value, sample.value))
    }
}

impl Band {
    /// Values that cannot be compared (another kind, NaN on one side) count as moved: a deadband never hides what it
    /// does not understand.
    fn is_left(self, last: Value, value: Value) -> bool {
        match (self, last, value) {
            (Self::Float(band), Value::Float(last), Value::Float(value)) => {
                let both_nan = last.is_nan() && value.is_nan();
                // Written so that NaN compares as moved; infinity minus itself is NaN too.
                let still = last == value || (last - value).abs() < band;
                !(both_nan || still) || band == 0.0
            }
            (Self::Scaled(band), Value::Scaled(last), Value::Scaled(value)) => {
                last.abs_diff(value) >= band
            }
            (Self::Float(_) | Self::Scaled(_), Value::Float(_) | Value::Scaled(_), _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: Value, quality: Quality) -> Reading {
        Reading { sensor: 0, time_ms: 0, value, quality }
    }

    /// Feeds (time, value) and returns the times that were reported.
    fn reported(rule: Rule, samples: &[(u64, Value)]) -> std::vec::Vec<u64> {
        let mut deadband = Deadband::new(rule);
        let report = |&(at, value): &(u64, Value)| {
            deadband.is_exception(MonoMs(at), &sample(value, Quality::Good)).then_some(at)
        };
        samples.iter().filter_map(report).collect()
    }

    #[test]
    fn a_scaled_value_is_compared_with_the_last_reported_one() {
        let rule = Rule { band: Band::Scaled(5), interval_ms_min: 0, interval_ms_max: 1_000_000 };
        let samples =
            [(1, 100), (2, 104), (3, 96), (4, 105), (5, 101), (6, 109), (7, 110), (8, 105)];
        let samples = samples.map(|(at, value)| (at, Value::Scaled(value)));
        assert_eq!(reported(rule, &samples), [1, 4, 7, 8]);
        let extremes = [(1, i64::MIN), (2, i64::MAX), (3, i64::MAX)];
        let extremes = extremes.map(|(at, value)| (at, Value::Scaled(value)));
        let widest = Rule { band: Band::Scaled(u64::MAX), ..rule };
        assert_eq!(reported(widest, &extremes), [1, 2]);
    }

    #[test]
    fn a_float_hides_no_change_to_or_from_what_is_no_number() {
        let rule = Rule { band: Band::Float(0.5), interval_ms_min: 0, interval_ms_max: 1_000_000 };
        let values = [1.0, 1.4, 1.5, f32::NAN, f32::NAN, 1.5, f32::INFINITY, f32::INFINITY, 0.0];
        let samples = core::array::from_fn::<_, 9, _>(|i| (i as u64, Value::Float(values[i])));
        assert_eq!(reported(rule, &samples), [0, 2, 3, 5, 6, 8]);
        for band in [0.0, f32::NAN] {
            let every = Rule { band: Band::Float(band), ..rule };
            let same = [(1, Value::Float(1.0)), (2, Value::Float(2.0)), (3, Value::Float(4.0))];
            assert_eq!(reported(every, &same), [1, 2, 3]);
        }
    }

    #[test]
    fn intervals_hold_back_and_bring_forward() {
        let rule = Rule { band: Band::Scaled(1), interval_ms_min: 10, interval_ms_max: 100 };
        let samples =
            [(0, 0), (5, 9), (9, 0), (10, 1), (15, 2), (20, 1), (109, 1), (110, 1), (250, 1)];
        let samples = samples.map(|(at, value)| (at, Value::Scaled(value)));
        assert_eq!(reported(rule, &samples), [0, 10, 110, 250]);
    }

    #[test]
    fn a_change_of_quality_waits_for_nothing() {
        let rule = Rule { band: Band::Scaled(9), interval_ms_min: 50, interval_ms_max: 1_000 };
        let mut deadband = Deadband::new(rule);
        let rows = [
            (1, Quality::Good, true),
            (2, Quality::Bad, true),
            (3, Quality::Bad, false),
            (4, Quality::Good, true),
        ];
        for (at, quality, expected) in rows {
            let sample = sample(Value::Scaled(0), quality);
            assert_eq!(deadband.is_exception(MonoMs(at), &sample), expected, "at {at}");
        }
    }

    #[test]
    fn the_rule_always_reports_everything() {
        let samples = [(1, Value::Scaled(0)), (1, Value::Scaled(0)), (1, Value::Float(0.0))];
        assert_eq!(reported(Rule::ALWAYS, &samples), [1, 1, 1]);
    }
}
