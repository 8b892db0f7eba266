//! One deadband for each sensor of a device: of the samples offered, the readings worth recording.

use wire::batch::BATCH_SENSORS_MAX;
use wire::reading::Reading;
use wire::time::MonoMs;

use crate::deadband::{Deadband, Rule};

/// The deadbands of up to [`BATCH_SENSORS_MAX`] sensors, in the order of the device's sensor table.
#[derive(Debug, Clone)]
pub struct Sampler {
    deadbands: [Deadband; BATCH_SENSORS_MAX],
}

impl Sampler {
    /// One rule for each sensor; a sensor without one reports everything, rules beyond the last sensor are not used.
    #[must_use]
    pub fn new(rules: &[Rule]) -> Self {
        let mut deadbands = [const { Deadband::new(Rule::ALWAYS) }; BATCH_SENSORS_MAX];
        for (deadband, rule) in deadbands.iter_mut().zip(rules) {
            *deadband = Deadband::new(*rule);
        }
        Self { deadbands }
    }

    /// Whether this sample is worth a reading. A sample of an unknown sensor is, so that recording it says what is
    /// wrong.
    pub fn is_exception(&mut self, now: MonoMs, sample: &Reading) -> bool {
        self.deadbands
            .get_mut(usize::from(sample.sensor))
            .is_none_or(|deadband| deadband.is_exception(now, sample))
    }
}

#[cfg(test)]
mod tests {
    use wire::reading::{Quality, Value};

    use super::*;
    use crate::deadband::Band;

    #[test]
    fn sensors_do_not_know_of_each_other() {
        let rule = Rule { band: Band::Scaled(10), interval_ms_min: 0, interval_ms_max: 1_000 };
        let mut sampler = Sampler::new(&[rule, rule]);
        let rows =
            [(0, 5, true), (1, 50, true), (0, 9, false), (1, 60, true), (2, 0, true), (2, 0, true)];
        for (sensor, value, expected) in rows {
            let value = Value::Scaled(value);
            let sample = Reading { sensor, time_ms: 0, value, quality: Quality::Good };
            assert_eq!(sampler.is_exception(MonoMs(1), &sample), expected, "{sample:?}");
        }
        let unknown =
            Reading { sensor: 99, time_ms: 0, value: Value::Scaled(0), quality: Quality::Good };
        assert!(sampler.is_exception(MonoMs(1), &unknown));
        assert!(Sampler::new(&[rule; 40]).is_exception(MonoMs(0), &unknown));
    }
}
