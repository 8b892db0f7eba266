//! What the devices measure: signals that look like a plant's, and follow from a seed.

use wire::reading::{Quality, Reading, Sensor, Value, ValueKind};

/// The sensors of every device.
pub const SENSORS: [Sensor<'static>; 4] = [
    Sensor { name: "temperature", unit: "Cel", kind: ValueKind::Scaled { decimals: 2 } },
    Sensor { name: "humidity", unit: "%", kind: ValueKind::Scaled { decimals: 1 } },
    Sensor { name: "pressure", unit: "hPa", kind: ValueKind::Scaled { decimals: 1 } },
    Sensor { name: "vibration", unit: "mm/s", kind: ValueKind::Float },
];

/// A machine's hum, in turns of a full circle per sample.
const HUM_STEP: f32 = 0.13;

/// The signals of one device, sample by sample.
#[derive(Debug, Clone)]
pub struct Signals {
    chance: Chance,
    /// In hundredths of a degree.
    temperature: Walk,
    /// In tenths of a percent.
    humidity: Walk,
    /// In tenths of a hectopascal.
    pressure: Walk,
    hum: f32,
}

impl Signals {
    /// The signals of this device.
    pub fn new(seed: u64, device: u32) -> Self {
        let mut chance = Chance(seed ^ (u64::from(device) << 32));
        let mut around = |usual: i64, spread: i64, step: i64| {
            let usual = usual + chance.within(spread);
            Walk { usual, value: usual, step }
        };
        Self {
            temperature: around(2_150, 400, 6),
            humidity: around(450, 120, 3),
            pressure: around(10_132, 60, 1),
            hum: 0.0,
            chance,
        }
    }

    /// One reading of each sensor, taken at this time.
    pub fn sample(&mut self, time_ms: i64) -> [Reading; SENSORS.len()] {
        let chance = &mut self.chance;
        self.hum = (self.hum + HUM_STEP).fract();
        let noise = chance.within(100) as f32 / 400.0;
        let vibration = 2.0 + (self.hum * std::f32::consts::TAU).sin() + noise;
        let values = [
            Value::Scaled(self.temperature.step(chance)),
            Value::Scaled(self.humidity.step(chance)),
            Value::Scaled(self.pressure.step(chance)),
            Value::Float(vibration),
        ];
        let mut sensor = 0;
        values.map(|value| {
            let reading = Reading { sensor, time_ms, value, quality: Quality::Good };
            sensor += 1;
            reading
        })
    }
}

/// A value that wanders and is drawn back to what is usual.
#[derive(Debug, Clone, Copy)]
struct Walk {
    usual: i64,
    value: i64,
    step: i64,
}

impl Walk {
    /// How much of the way back is taken at each step.
    const PULL: i64 = 64;

    fn step(&mut self, chance: &mut Chance) -> i64 {
        let back = (self.usual - self.value) / Self::PULL;
        self.value += back + chance.within(self.step);
        self.value
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): good enough for noise, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `-spread` to `spread`.
    fn within(&mut self, spread: i64) -> i64 {
        let span = spread.unsigned_abs() * 2 + 1;
        i64::try_from(self.next() % span).unwrap_or(0) - spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(seed: u64, device: u32) -> Vec<[Reading; SENSORS.len()]> {
        let mut signals = Signals::new(seed, device);
        (0..5_000).map(|at| signals.sample(at * 200)).collect()
    }

    #[test]
    fn signals_follow_from_seed_and_device() {
        assert_eq!(samples(1, 7), samples(1, 7));
        assert_ne!(samples(1, 7), samples(2, 7));
        assert_ne!(samples(1, 7), samples(1, 8));
    }

    #[test]
    fn signals_are_those_of_a_plant() {
        let ranges = [(0.0, 50.0), (0.0, 100.0), (950.0, 1_080.0), (0.5, 3.5)];
        let decimals = [100.0, 10.0, 10.0, 1.0];
        for device in 0..50 {
            let samples = samples(device.into(), device);
            for (at, (low, high)) in ranges.into_iter().enumerate() {
                let values: Vec<f64> = samples
                    .iter()
                    .map(|readings| match readings[at].value {
                        Value::Scaled(value) => value as f64 / decimals[at],
                        Value::Float(value) => f64::from(value),
                    })
                    .collect();
                assert!(values.iter().all(|v| (low..=high).contains(v)), "{device} {at}");
                assert!(values.iter().any(|v| *v != values[0]), "{device} {at} stands still");
            }
        }
    }
}
