//! Collects readings into a batch in the caller's buffer, and numbers them.
//!
//! A batch is closed when it has enough readings, when the buffer is full, when it is old enough, when the clock's
//! quality changes, and when the caller says so. A closed batch stays until somebody took it; meanwhile nothing can be
//! added. A reading that found no place keeps its number: the gap is what the next batch declares as lost.

use wire::batch::{BATCH_READINGS_MAX, BatchEncoder, BatchError, BatchHeader, READING_BYTES_MAX};
use wire::ids::QueueId;
use wire::reading::{ClockQuality, Reading, Sensor};
use wire::seq::DeviceSeq;
use wire::time::MonoMs;

use crate::queue::{QUEUED_BYTES_MAX, Queued};

// A batch keeps its count in 16 bits.
const _: () = assert!(BATCH_READINGS_MAX <= u16::MAX as usize);

/// When a batch is closed, besides by a full buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// With this many readings, 1 to [`BATCH_READINGS_MAX`]. Raising it costs delay, lowering it bytes per reading.
    pub readings: u16,
    /// This long after its first reading, in milliseconds: how long a reading waits for others.
    pub age_ms: u64,
}

impl Default for BatchLimits {
    /// 32 readings or one second.
    fn default() -> Self {
        Self { readings: 32, age_ms: 1_000 }
    }
}

/// Why a batcher could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The buffer does not hold the header, these sensors and one reading; or it is larger than a queue takes.
    #[error("the batch buffer has the wrong size for these sensors")]
    Buffer,
    /// The limit on readings is 0 or beyond what a batch may have.
    #[error("a batch has 1 to 4096 readings")]
    Readings,
    /// There are too many sensors, or a name or a unit is too long.
    #[error("a batch has at most 16 sensors, with short names and units")]
    Sensors,
}

/// Why a reading was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddError {
    /// The batch is closed; take it, then try again.
    Closed,
    /// The reading is of no sensor in the table, or of another kind than its sensor. It got no number.
    Sensor,
}

/// Collects readings into batches and numbers them from 1.
#[derive(Debug)]
pub struct Batcher<'b> {
    queue: QueueId,
    sensors: &'b [Sensor<'b>],
    limits: BatchLimits,
    clock: ClockQuality,
    next: DeviceSeq,
    phase: Phase<'b>,
}

#[derive(Debug)]
enum Phase<'b> {
    Empty(&'b mut [u8]),
    Open { encoder: BatchEncoder<'b>, first: DeviceSeq, since: MonoMs },
    Closed { buf: &'b mut [u8], len: usize, first: DeviceSeq, count: u16 },
}

impl<'b> Batcher<'b> {
    /// For a queue that has held no reading yet: `queue` must be random, and new whenever the queue begins anew (at
    /// every boot, for a queue in RAM).
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(
        queue: QueueId,
        sensors: &'b [Sensor<'b>],
        buf: &'b mut [u8],
        limits: BatchLimits,
    ) -> Result<Self, SetupError> {
        if !(1..=BATCH_READINGS_MAX).contains(&usize::from(limits.readings)) {
            return Err(SetupError::Readings);
        }
        let longest = BatchHeader {
            queue: QueueId(u64::MAX),
            first: DeviceSeq(u64::MAX),
            lost_before: 0,
            clock: ClockQuality::Uptime,
            base_time_ms: i64::MIN,
        };
        let head = match BatchEncoder::new(buf, &longest, sensors) {
            Ok(encoder) => encoder.finish().len(),
            Err(BatchError::Limit) => return Err(SetupError::Sensors),
            Err(_) => return Err(SetupError::Buffer),
        };
        if head + READING_BYTES_MAX > buf.len() || buf.len() > QUEUED_BYTES_MAX {
            return Err(SetupError::Buffer);
        }
        let clock = ClockQuality::Uptime;
        Ok(Self { queue, sensors, limits, clock, next: DeviceSeq(1), phase: Phase::Empty(buf) })
    }

    /// Goes on numbering behind `last`, for a durable queue that was opened again under the same queue id.
    #[must_use]
    pub fn resumed_after(self, last: DeviceSeq) -> Self {
        Self { next: DeviceSeq(last.0.saturating_add(1)), ..self }
    }

    /// What the times of the following readings mean: uptime, until this is called. Closes the batch if it changes.
    pub fn set_clock(&mut self, clock: ClockQuality) {
        if clock != self.clock {
            self.clock = clock;
            self.close();
        }
    }

    /// Length of the longest batch, in bytes.
    #[must_use]
    pub fn batch_len_max(&self) -> usize {
        match &self.phase {
            Phase::Empty(buf) | Phase::Closed { buf, .. } => buf.len(),
            Phase::Open { encoder, .. } => encoder.capacity(),
        }
    }

    /// When the open batch is to be closed by [`Batcher::close_if_due`].
    #[must_use]
    pub fn due(&self) -> Option<MonoMs> {
        match &self.phase {
            Phase::Open { since, .. } => Some(*since + self.limits.age_ms),
            Phase::Empty(_) | Phase::Closed { .. } => None,
        }
    }

    /// Closes the batch if it is old enough.
    pub fn close_if_due(&mut self, now: MonoMs) {
        if self.due().is_some_and(|due| due <= now) {
            self.close();
        }
    }

    /// Closes the batch, if there is one.
    pub fn close(&mut self) {
        self.phase = match core::mem::replace(&mut self.phase, Phase::Empty(&mut [])) {
            Phase::Open { encoder, first, .. } => {
                let count = u16::try_from(encoder.count()).unwrap_or(u16::MAX);
                let (buf, len) = encoder.into_buffer();
                Phase::Closed { buf, len, first, count }
            }
            other => other,
        };
    }

    /// The closed batch, if there is one.
    #[must_use]
    pub fn closed(&self) -> Option<Queued<'_>> {
        match &self.phase {
            Phase::Closed { buf, len, first, count } => {
                Some(Queued { first: *first, count: *count, bytes: &buf[..*len] })
            }
            Phase::Empty(_) | Phase::Open { .. } => None,
        }
    }

    /// Readings that are in no queue yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        match &self.phase {
            Phase::Empty(_) => 0,
            Phase::Open { encoder, .. } => encoder.count() as u64,
            Phase::Closed { count, .. } => u64::from(*count),
        }
    }

    /// Forgets the closed batch: a queue has it.
    pub(crate) fn taken(&mut self) {
        self.phase = match core::mem::replace(&mut self.phase, Phase::Empty(&mut [])) {
            Phase::Closed { buf, .. } => Phase::Empty(buf),
            other => other,
        };
    }

    /// Gives a number to a reading that is lost.
    pub(crate) fn skip(&mut self) {
        self.next = DeviceSeq(self.next.0.saturating_add(1));
    }

    /// Adds a reading, and closes the batch if that makes it full.
    pub(crate) fn add(&mut self, now: MonoMs, reading: &Reading) -> Result<DeviceSeq, AddError> {
        self.open(now, reading)?;
        let Phase::Open { encoder, .. } = &mut self.phase else {
            return Err(AddError::Closed);
        };
        match encoder.push(reading) {
            Ok(()) => {}
            Err(BatchError::Sensor) => {
                // An empty batch would be a batch without a first reading.
                if encoder.count() == 0 {
                    self.close();
                    self.taken();
                }
                return Err(AddError::Sensor);
            }
            Err(_) => {
                self.close();
                return Err(AddError::Closed);
            }
        }
        if encoder.count() >= usize::from(self.limits.readings) {
            self.close();
        }
        let seq = self.next;
        self.skip();
        Ok(seq)
    }

    fn open(&mut self, now: MonoMs, reading: &Reading) -> Result<(), AddError> {
        let Phase::Empty(buf) = &mut self.phase else {
            return Ok(());
        };
        let header = BatchHeader {
            queue: self.queue,
            first: self.next,
            lost_before: 0,
            clock: self.clock,
            base_time_ms: reading.time_ms,
        };
        let encoder = BatchEncoder::new(core::mem::take(buf), &header, self.sensors)
            .map_err(|_| AddError::Closed)?;
        self.phase = Phase::Open { encoder, first: self.next, since: now };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
