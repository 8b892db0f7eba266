//! A device's batch: readings with consecutive sequence numbers, postcard-coded with time and value differences.
//!
//! Layout (docs/formats/device-batch.md): the header, the sensor table, then readings to the end of the payload. The
//! count is not stored: an encoder may stop after any reading. Both sides work in the caller's buffers.

use serde::{Deserialize, Serialize};

use crate::ids::QueueId;
use crate::reading::{ClockQuality, Quality, Reading, Sensor, Value, ValueKind};
use crate::schema::SchemaKey;
use crate::seq::DeviceSeq;

/// Key of this layout; another layout has another key.
pub const BATCH_SCHEMA: SchemaKey = SchemaKey::of(
    "culvert batch 1: key[8] queue:u64 first:u64 lost_before:u64 clock:enum base_time:i64 \
     sensors:[name:str unit:str kind:enum] {sensor|quality<<4:u8 dt:i64 (f32|dv:i64)}*",
);

/// Most sensors in one batch: a reading names its sensor in four bits.
pub const BATCH_SENSORS_MAX: usize = 16;

/// Most readings in one batch.
pub const BATCH_READINGS_MAX: usize = 4_096;

/// Bytes by which [`with_lost_before`] may make a batch longer: a u64 takes one to ten.
pub const LOST_BEFORE_GROWTH_MAX: usize = 9;

/// Most bytes of one reading: its lead, a time difference and a value difference.
pub const READING_BYTES_MAX: usize = 1 + 10 + 10;

/// Longest name of a sensor, in bytes: a gateway repeats it with every reading.
pub const SENSOR_NAME_BYTES_MAX: usize = 64;

/// Longest unit of a sensor, in bytes.
pub const SENSOR_UNIT_BYTES_MAX: usize = 32;

/// What a batch says about all its readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// The device's queue.
    pub queue: QueueId,
    /// Sequence number of the first reading; the others follow without gaps.
    pub first: DeviceSeq,
    /// Readings that the device's own queue dropped just before the first one.
    pub lost_before: u64,
    /// How to read the times.
    pub clock: ClockQuality,
    /// Time that the first reading's difference counts from, in milliseconds.
    pub base_time_ms: i64,
}

/// Why a batch could not be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchError {
    /// The buffer is full (encoder) or the payload ends within a field (decoder).
    Length,
    /// The payload carries another schema key.
    Schema,
    /// A limit of this module is exceeded.
    Limit,
    /// A field's bytes are not of its type.
    Malformed,
    /// A reading names a sensor that is not in the table, or has a value of another kind than its sensor.
    Sensor,
}

/// Writes a batch into a caller's buffer.
#[derive(Debug)]
pub struct BatchEncoder<'b> {
    buf: &'b mut [u8],
    len: usize,
    count: usize,
    kinds: [Option<ValueKind>; BATCH_SENSORS_MAX],
    deltas: Deltas,
}

impl<'b> BatchEncoder<'b> {
    /// Begins a batch.
    ///
    /// # Errors
    /// [`BatchError::Limit`] for too many sensors or too long names, [`BatchError::Length`] if header and table do not fit.
    pub fn new(
        buf: &'b mut [u8],
        header: &BatchHeader,
        sensors: &[Sensor<'_>],
    ) -> Result<Self, BatchError> {
        if sensors.len() > BATCH_SENSORS_MAX || !sensors.iter().all(fits) {
            return Err(BatchError::Limit);
        }
        let mut kinds = [None; BATCH_SENSORS_MAX];
        for (slot, sensor) in kinds.iter_mut().zip(sensors) {
            *slot = Some(sensor.kind);
        }
        let deltas = Deltas::new(header.base_time_ms);
        let mut encoder = Self { buf, len: 0, count: 0, kinds, deltas };
        encoder.put(&BATCH_SCHEMA)?;
        encoder.put(header)?;
        encoder.put(sensors)?;
        Ok(encoder)
    }

    /// Appends a reading. On an error nothing was written and the batch can still be finished.
    ///
    /// # Errors
    /// [`BatchError::Length`] if it does not fit, [`BatchError::Limit`] past [`BATCH_READINGS_MAX`],
    /// [`BatchError::Sensor`] for an unknown sensor or another kind of value.
    pub fn push(&mut self, reading: &Reading) -> Result<(), BatchError> {
        if self.count == BATCH_READINGS_MAX {
            return Err(BatchError::Limit);
        }
        let index = usize::from(reading.sensor);
        let kind = self.kinds.get(index).copied().flatten().ok_or(BatchError::Sensor)?;
        let (start, mut deltas) = (self.len, self.deltas);
        let lead = reading.sensor | ((reading.quality as u8) << 4);
        let written = match (kind, reading.value) {
            (ValueKind::Float, Value::Float(value)) => {
                self.put(&(lead, deltas.time_out(reading.time_ms), value))
            }
            (ValueKind::Scaled { .. }, Value::Scaled(value)) => {
                self.put(&(lead, deltas.time_out(reading.time_ms), deltas.value_out(index, value)))
            }
            (ValueKind::Float, Value::Scaled(_)) | (ValueKind::Scaled { .. }, Value::Float(_)) => {
                Err(BatchError::Sensor)
            }
        };
        match written {
            Ok(()) => {
                self.deltas = deltas;
                self.count += 1;
            }
            Err(_) => self.len = start,
        }
        written
    }

    /// Readings written so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the buffer: the payload may become this long.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buf.len()
    }

    /// The payload.
    #[must_use]
    pub fn finish(self) -> &'b [u8] {
        let (buf, len) = self.into_buffer();
        &buf[..len]
    }

    /// Ends the batch and gives the buffer back, with the length of the payload at its beginning.
    #[must_use]
    pub fn into_buffer(self) -> (&'b mut [u8], usize) {
        (self.buf, self.len)
    }

    fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), BatchError> {
        self.len += put(value, self.buf, self.len)?;
        Ok(())
    }
}

/// Copies a batch into `out` with another `lost_before`: what was dropped before a batch is known for certain only when
/// it is sent. Returns the payload's length, at most [`LOST_BEFORE_GROWTH_MAX`] more than before.
///
/// # Errors
/// [`BatchError::Length`] if `out` is too small or `payload` ends within its header, [`BatchError::Schema`] and
/// [`BatchError::Malformed`] if `payload` is no batch.
pub fn with_lost_before(
    payload: &[u8],
    lost_before: u64,
    out: &mut [u8],
) -> Result<usize, BatchError> {
    let (key, rest) = take::<SchemaKey>(payload)?;
    if key != BATCH_SCHEMA {
        return Err(BatchError::Schema);
    }
    let (header, rest) = take::<BatchHeader>(rest)?;
    let mut len = put(&key, out, 0)?;
    len += put(&BatchHeader { lost_before, ..header }, out, len)?;
    out.get_mut(len..len + rest.len()).ok_or(BatchError::Length)?.copy_from_slice(rest);
    Ok(len + rest.len())
}

/// Reads a batch: header and table at once, then one reading after the other.
#[derive(Debug, Clone)]
pub struct BatchReader<'a> {
    header: BatchHeader,
    sensors: [Option<Sensor<'a>>; BATCH_SENSORS_MAX],
    rest: &'a [u8],
    count: usize,
    deltas: Deltas,
}

impl<'a> BatchReader<'a> {
    /// Reads header and sensor table of `payload`.
    ///
    /// # Errors
    /// Every [`BatchError`] but [`BatchError::Sensor`].
    pub fn new(payload: &'a [u8]) -> Result<Self, BatchError> {
        let (key, rest) = take::<SchemaKey>(payload)?;
        if key != BATCH_SCHEMA {
            return Err(BatchError::Schema);
        }
        let (header, rest) = take::<BatchHeader>(rest)?;
        let (count, mut rest) = take::<u32>(rest)?;
        let mut sensors = [None; BATCH_SENSORS_MAX];
        let count = usize::try_from(count).map_err(|_| BatchError::Limit)?;
        for slot in sensors.get_mut(..count).ok_or(BatchError::Limit)? {
            let (sensor, after) = take::<Sensor<'a>>(rest)?;
            if !fits(&sensor) {
                return Err(BatchError::Limit);
            }
            *slot = Some(sensor);
            rest = after;
        }
        let deltas = Deltas::new(header.base_time_ms);
        Ok(Self { header, sensors, rest, count: 0, deltas })
    }

    /// What holds for all readings.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The sensor at this place of the table.
    #[must_use]
    pub fn sensor(&self, index: u8) -> Option<&Sensor<'a>> {
        self.sensors.get(usize::from(index))?.as_ref()
    }

    fn read(&mut self) -> Result<Reading, BatchError> {
        if self.count == BATCH_READINGS_MAX {
            return Err(BatchError::Limit);
        }
        let ((lead, dt), rest) = take::<(u8, i64)>(self.rest)?;
        let sensor = lead & 0x0f;
        let quality = match lead >> 4 {
            0 => Quality::Good,
            1 => Quality::Uncertain,
            2 => Quality::Bad,
            _ => return Err(BatchError::Malformed),
        };
        let kind = self.sensor(sensor).ok_or(BatchError::Sensor)?.kind;
        let time_ms = self.deltas.time_in(dt);
        let (value, rest) = match kind {
            ValueKind::Float => take::<f32>(rest).map(|(v, rest)| (Value::Float(v), rest))?,
            ValueKind::Scaled { .. } => {
                let (dv, rest) = take::<i64>(rest)?;
                (Value::Scaled(self.deltas.value_in(usize::from(sensor), dv)), rest)
            }
        };
        self.rest = rest;
        self.count += 1;
        Ok(Reading { sensor, time_ms, value, quality })
    }
}

impl Iterator for BatchReader<'_> {
    type Item = Result<Reading, BatchError>;

    /// The next reading; after an error, nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let reading = self.read();
        if reading.is_err() {
            self.rest = &[];
        }
        Some(reading)
    }
}

/// What differences count from: the last time, and the last value of each sensor. Arithmetic wraps, so that any two
/// values have a difference and decoding undoes encoding for all of them.
#[derive(Debug, Clone, Copy)]
struct Deltas {
    time_ms: i64,
    values: [i64; BATCH_SENSORS_MAX],
}

impl Deltas {
    fn new(base_time_ms: i64) -> Self {
        Self { time_ms: base_time_ms, values: [0; BATCH_SENSORS_MAX] }
    }

    fn time_out(&mut self, time_ms: i64) -> i64 {
        time_ms.wrapping_sub(core::mem::replace(&mut self.time_ms, time_ms))
    }

    fn time_in(&mut self, delta: i64) -> i64 {
        self.time_ms = self.time_ms.wrapping_add(delta);
        self.time_ms
    }

    fn value_out(&mut self, sensor: usize, value: i64) -> i64 {
        value.wrapping_sub(core::mem::replace(&mut self.values[sensor], value))
    }

    fn value_in(&mut self, sensor: usize, delta: i64) -> i64 {
        self.values[sensor] = self.values[sensor].wrapping_add(delta);
        self.values[sensor]
    }
}

fn put<T: Serialize + ?Sized>(value: &T, out: &mut [u8], at: usize) -> Result<usize, BatchError> {
    let rest = out.get_mut(at..).ok_or(BatchError::Length)?;
    Ok(postcard::to_slice(value, rest).map_err(|_| BatchError::Length)?.len())
}

fn fits(sensor: &Sensor<'_>) -> bool {
    sensor.name.len() <= SENSOR_NAME_BYTES_MAX && sensor.unit.len() <= SENSOR_UNIT_BYTES_MAX
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), BatchError> {
    postcard::take_from_bytes(bytes).map_err(|error| match error {
        postcard::Error::DeserializeUnexpectedEnd => BatchError::Length,
        _ => BatchError::Malformed,
    })
}

#[cfg(test)]
mod tests;
