//! One deadband for each sensor of a device: of the samples offered, the readings worth recording.

use wire::reading::Reading;
use wire::time::MonoMs;

use crate::deadband::{Deadband, Rule};

/// The deadbands of the first `SENSORS` sensors of the device's sensor table, in its order.
#[derive(Debug, Clone)]
pub struct Sampler<const SENSORS: usize> {
    deadbands: [Deadband; SENSORS],
}

impl<const SENSORS: usize> Sampler<SENSORS> {
    /// One rule for each sensor.
    #[must_use]
    pub fn new(rules: [Rule; SENSORS]) -> Self {
        Self { deadbands: rules.map(Deadband::new) }
    }

    /// Whether this sample is worth a reading. A sample of a sensor without a rule always is.
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
        let mut sampler = Sampler::new([rule, rule]);
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
    }
}
