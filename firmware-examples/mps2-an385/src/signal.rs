//! What the board would measure, had it sensors: a machine's temperature, which swings slowly, and its vibration. All of
//! it follows from the reading's number, so that a test can tell what must arrive.

use wire::reading::{Quality, Reading, Sensor, Value, ValueKind};

/// The sensors, which take turns.
pub const SENSORS: &[Sensor<'_>] = &[
    Sensor { name: "vibration", unit: "mm/s", kind: ValueKind::Float },
    Sensor { name: "temp", unit: "Cel", kind: ValueKind::Scaled { decimals: 2 } },
];

/// Every so many readings the sensor is in doubt.
const UNCERTAIN_EVERY: u32 = 100;

/// Readings in a swing of the temperature.
const SWING: i64 = 500;

/// The highest deviation from [`TEMPERATURE_MEAN`], in hundredths of a degree.
const SWING_HEIGHT: i64 = 600;

/// In hundredths of a degree.
const TEMPERATURE_MEAN: i64 = 2_150;

/// Reading `number`, taken at `time_ms`.
pub fn reading(number: u32, time_ms: i64) -> Reading {
    let (sensor, value) = match number.is_multiple_of(2) {
        true => (0, Value::Float(vibration(number))),
        false => (1, Value::Scaled(temperature(number))),
    };
    let in_doubt = number.is_multiple_of(UNCERTAIN_EVERY);
    let quality = if in_doubt { Quality::Uncertain } else { Quality::Good };
    Reading { sensor, time_ms, value, quality }
}

/// In hundredths of a degree Celsius.
fn temperature(number: u32) -> i64 {
    let (half, place) = (SWING / 2, i64::from(number) % SWING);
    // Two parabolas make a sine that is good enough.
    let arc = |x: i64| 4 * SWING_HEIGHT * x * (half - x) / (half * half);
    let swing = if place < half { arc(place) } else { -arc(place - half) };
    TEMPERATURE_MEAN + swing + i64::from(noise(number) % 7) - 3
}

/// In millimetres a second; a multiple of 1/64, which a float holds exactly.
fn vibration(number: u32) -> f32 {
    (128 + noise(number) % 64) as f32 / 64.0
}

/// The upper bits of a multiplicative hash.
fn noise(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b9) >> 16
}
