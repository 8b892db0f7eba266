//! A device's batch, written from docs/formats/device-batch.md and not with the SDK's code.

/// The layout's key.
const SCHEMA_KEY: [u8; 8] = [0x42, 0xa9, 0xec, 0xe1, 0x8f, 0x33, 0x84, 0x55];

/// A batch of one device.
#[derive(Debug, Clone)]
pub struct DeviceBatch<'a> {
    /// The id of the device's queue.
    pub queue: u64,
    /// The number of the first reading.
    pub first: u64,
    /// Readings that the queue dropped right before.
    pub lost_before: u64,
    /// Whether times count from the device's start.
    pub uptime: bool,
    /// What the first time is written as a difference to.
    pub base_time_ms: i64,
    /// Name, unit, and decimal places for values that are integers.
    pub sensors: &'a [(&'a str, &'a str, Option<u8>)],
    /// The readings.
    pub readings: Vec<BatchReading>,
}

/// A reading in a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchReading {
    /// Its sensor's place in the table.
    pub sensor: u8,
    /// 0 good, 1 uncertain, 2 bad.
    pub quality: u8,
    /// Milliseconds.
    pub time_ms: i64,
    /// What was measured.
    pub value: BatchValue,
}

/// A value, as its sensor's kind says.
#[derive(Debug, Clone, Copy)]
pub enum BatchValue {
    /// Single precision.
    Float(f32),
    /// An integer with decimal places.
    Scaled(i64),
}

impl DeviceBatch<'_> {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = SCHEMA_KEY.to_vec();
        push_varint(&mut out, self.queue);
        push_varint(&mut out, self.first);
        push_varint(&mut out, self.lost_before);
        out.push(self.uptime.into());
        push_signed(&mut out, self.base_time_ms);
        push_varint(&mut out, self.sensors.len() as u64);
        for (name, unit, decimals) in self.sensors {
            push_text(&mut out, name);
            push_text(&mut out, unit);
            match decimals {
                None => out.push(0),
                Some(decimals) => out.extend([1, *decimals]),
            }
        }
        let mut time = self.base_time_ms;
        let mut values = vec![0_i64; self.sensors.len()];
        for reading in &self.readings {
            out.push(reading.sensor | reading.quality << 4);
            push_signed(&mut out, reading.time_ms.wrapping_sub(time));
            time = reading.time_ms;
            match reading.value {
                BatchValue::Float(value) => out.extend(value.to_le_bytes()),
                BatchValue::Scaled(value) => {
                    let before = &mut values[usize::from(reading.sensor)];
                    push_signed(&mut out, value.wrapping_sub(*before));
                    *before = value;
                }
            }
        }
        out
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push_varint(out, text.len() as u64);
    out.extend(text.as_bytes());
}

fn push_signed(out: &mut Vec<u8>, value: i64) {
    push_varint(out, (value << 1 ^ value >> 63).cast_unsigned());
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_the_golden_bytes() {
        let reading = |sensor, time_ms, value| BatchReading { sensor, quality: 0, time_ms, value };
        let batch = DeviceBatch {
            queue: 0x0123_4567_89ab_cdef,
            first: 7,
            lost_before: 2,
            uptime: false,
            base_time_ms: 1_700_000_000_000,
            sensors: &[("temp", "Cel", Some(2)), ("vib", "m/s2", None)],
            readings: vec![
                reading(0, 1_700_000_000_010, BatchValue::Scaled(2_150)),
                reading(0, 1_700_000_001_010, BatchValue::Scaled(2_151)),
                reading(1, 1_700_000_001_010, BatchValue::Float(-3.0)),
            ],
        };
        let golden = include_bytes!("../../../wire/tests/golden/device-batch-1.bin");
        assert_eq!(batch.encode(), golden);
    }
}
