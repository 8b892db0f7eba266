//! A device's batch (docs/formats/device-batch.md), opened on receipt into one row per reading: what docs/protocols/records.md
//! promises to consumers.
//!
//! [`DeviceBatch::read`] looks at every byte, so that a batch is refused before anything of it is stored; the rows are made
//! only for a batch that deduplication takes.

use bytes::Bytes;
use thiserror::Error;
use wire::batch::{BatchError, BatchReader};
use wire::ids::QueueId;
use wire::reading::ClockQuality;
use wire::seq::DeviceSeq;
use wire::time::UnixMs;

use crate::dedupe::Numbered;
use crate::json;
use crate::spool::segment::{DeviceTime, Row};

/// Topics that begin with this are Culvert's own: a client may publish to its own [`is_batch_topic`], to no other.
pub const RESERVED_PREFIX: &str = "culvert/";

const BATCH_PREFIX: &str = "culvert/v1/";
const BATCH_SUFFIX: &str = "/batch";

/// A device's time before this one (2020-01-01 UTC) is not believed: a clock that was set wrong, or never.
pub const MEASURED_MIN: UnixMs = UnixMs(1_577_836_800_000);

/// A device's time so far ahead of its receipt is not believed; milliseconds. One record far in the future would keep
/// everything stored beside it from ever being older than a retention limit.
pub const MEASURED_AHEAD_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// Bytes that the rows of one batch may take. Three bytes of a batch make a row that repeats device, topic and user
/// properties, so without a limit one packet could fill memory.
pub const OPENED_BYTES_MAX: usize = 8 << 20;

const _: () = assert!(OPENED_BYTES_MAX >= wire::limits::MQTT_PACKET_BYTES_MAX);

/// Why a payload is refused as a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchFault {
    /// It has no reading.
    #[error("the batch has no reading")]
    Empty,
    /// Its sequence begins at 0, ends beyond 64 bits, or says that more was lost than there are numbers before it.
    #[error("the batch's sequence numbers make no sense")]
    Numbering,
    /// Its rows would take more than [`OPENED_BYTES_MAX`].
    #[error("the batch takes more than {OPENED_BYTES_MAX} bytes when opened")]
    TooLarge,
    /// Its bytes do not follow the layout.
    #[error("the payload is no device batch: {0:?}")]
    Unreadable(BatchError),
}

/// Whether clients may publish to `topic` only what Culvert defines.
#[must_use]
pub fn is_reserved(topic: &[u8]) -> bool {
    topic.starts_with(RESERVED_PREFIX.as_bytes())
}

/// Whether `topic` is where `device` publishes its batches: `culvert/v1/<device>/batch`.
#[must_use]
pub fn is_batch_topic(topic: &[u8], device: &[u8]) -> bool {
    let topic = std::str::from_utf8(topic).ok().and_then(batch_device);
    !device.is_empty() && topic.map(str::as_bytes) == Some(device)
}

/// The device whose batches go to `topic`, if any do. A client identifier may hold a `/`.
#[must_use]
pub fn batch_device(topic: &str) -> Option<&str> {
    topic.strip_prefix(BATCH_PREFIX)?.strip_suffix(BATCH_SUFFIX)
}

/// The queue that a batch is numbered in, if its header can be read.
#[must_use]
pub fn queue(payload: &[u8]) -> Option<QueueId> {
    BatchReader::new(payload).ok().map(|reader| reader.header().queue)
}

/// A batch of which every reading can be read.
#[derive(Debug, Clone)]
pub struct DeviceBatch<'a> {
    reader: BatchReader<'a>,
    count: u64,
}

impl<'a> DeviceBatch<'a> {
    /// Checks all of `payload`.
    ///
    /// # Errors
    /// Every [`BatchFault`] but [`BatchFault::TooLarge`].
    pub fn read(payload: &'a [u8]) -> Result<Self, BatchFault> {
        let reader = BatchReader::new(payload).map_err(BatchFault::Unreadable)?;
        let mut count = 0;
        for reading in reader.clone() {
            reading.map_err(BatchFault::Unreadable)?;
            count += 1;
        }
        let header = reader.header();
        if count == 0 {
            return Err(BatchFault::Empty);
        }
        let ends = header.first.0.checked_add(count - 1).is_some();
        // The first reading is number 1, and everything lost before this one had a number too.
        if header.lost_before >= header.first.0 || !ends {
            return Err(BatchFault::Numbering);
        }
        Ok(Self { reader, count })
    }

    /// Its place in its device's queue.
    #[must_use]
    pub fn sequence(&self) -> (QueueId, Numbered) {
        let header = self.reader.header();
        let numbered =
            Numbered { first: header.first, count: self.count, lost_before: header.lost_before };
        (header.queue, numbered)
    }

    /// One row per reading, in their order. `like` says what they share; its sequence, time and payload are not used.
    ///
    /// # Errors
    /// [`BatchFault::TooLarge`], as soon as the rows would be.
    pub fn rows(&self, like: &Row) -> Result<Vec<Row>, BatchFault> {
        let header = *self.reader.header();
        let row_bytes = Row { payload: Bytes::new(), ..like.clone() }.bytes_max();
        let mut text = String::new();
        let mut opened = Vec::new();
        for reading in self.reader.clone() {
            let reading = reading.map_err(BatchFault::Unreadable)?;
            let sensor = self.reader.sensor(reading.sensor);
            let sensor = sensor.ok_or(BatchFault::Unreadable(BatchError::Sensor))?;
            let time = device_time(header.clock, reading.time_ms, like.received);
            let start = text.len();
            json::push_reading(&mut text, time.timestamp(like.received), sensor, &reading);
            opened.push((time, start..text.len()));
            if opened.len() * row_bytes + text.len() > OPENED_BYTES_MAX {
                return Err(BatchFault::TooLarge);
            }
        }
        let text = Bytes::from(text);
        let numbered = (header.first.0..=u64::MAX).zip(opened);
        let row = |(seq, (time, place))| Row {
            sequence: Some((header.queue, DeviceSeq(seq))),
            device_time: Some(time),
            payload: text.slice(place),
            ..like.clone()
        };
        Ok(numbered.map(row).collect())
    }
}

/// What a device's time is worth: only that of a synced clock near the time of receipt orders records.
fn device_time(clock: ClockQuality, time_ms: i64, received: UnixMs) -> DeviceTime {
    let latest = received.0.saturating_add(MEASURED_AHEAD_MS_MAX);
    match clock {
        ClockQuality::Uptime => DeviceTime::Uptime(time_ms),
        ClockQuality::Synced if (MEASURED_MIN.0..=latest).contains(&time_ms) => {
            DeviceTime::Measured(UnixMs(time_ms))
        }
        ClockQuality::Synced => DeviceTime::Implausible(time_ms),
    }
}

#[cfg(test)]
mod tests;
