//! Everything between a reading and its PUBACK, without I/O: batcher, queue and window put together.
//!
//! The device's side calls [`Outbox::record`] for each reading, [`Outbox::poll`] when [`Outbox::due`] has come, and
//! [`Outbox::flush`] if a batch is not to wait. The connection's side calls [`Outbox::connected`] after CONNACK,
//! [`Outbox::spool_seen`] with the retained message of `culvert/v1/gateway`, then [`Outbox::next_publish`] until it gives
//! nothing, [`Outbox::acknowledged`] or [`Outbox::refused`] for every PUBACK, and [`Outbox::disconnected`] when the
//! connection ends, for whatever reason.
//!
//! Losses (docs/decisions/0006-losses-are-declared-when-sent.md): a batch is stored without `lost_before`; it is
//! computed when the batch is sent, from the number of the reading before it that a gateway has or will have. Batches
//! that were sent once are never dropped, so what was said about a batch stays true.

use wire::batch::{BatchError, LOST_BEFORE_GROWTH_MAX, with_lost_before};
use wire::ids::SpoolId;
use wire::reading::{ClockQuality, Reading};
use wire::seq::DeviceSeq;
use wire::time::MonoMs;

use crate::batcher::{AddError, Batcher, SetupError};
use crate::mutant::{self, Mutant};
use crate::queue::{Queue, QueueError};
use crate::window::Window;

pub use crate::window::{Attachment, WINDOW_MAX};

/// What gives way when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Readings recorded now are lost until there is room.
    DropNewest,
    /// The oldest batches that were never sent are dropped. If all were sent, readings recorded now are lost.
    DropOldest,
}

/// Settings of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxSettings {
    /// What gives way when the queue is full.
    pub when_full: WhenFull,
    /// Batches in flight, 1 to [`WINDOW_MAX`]. Raising it costs the MQTT client a batch of memory each.
    pub window: usize,
}

/// Where a durable queue left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The last [`Outbox::attachment`].
    pub attachment: Option<Attachment>,
    /// The last reading that was acknowledged.
    pub acknowledged: DeviceSeq,
    /// The last number that was given to a reading.
    pub numbered: DeviceSeq,
}

/// Why a reading was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The queue is full: the reading is lost, and counted.
    #[error("the queue is full, the reading is lost")]
    Full,
    /// The sensor table has no such sensor, or one of another kind: the reading never existed. Correct the program.
    #[error("the reading does not fit the sensor table")]
    Sensor,
}

/// A batch to be published now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// Number of its first reading; names the batch in every call about it.
    pub first: DeviceSeq,
    /// Readings.
    pub count: u16,
    /// Readings lost right before it.
    pub lost_before: u64,
    /// It may be in a log already, by way of another spool: publish it with the user property `cv-maybe-dup` = `1`.
    pub maybe_dup: bool,
    index: usize,
}

/// What a gateway's refusal of a batch asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The gateway is full or in trouble: try again later.
    Busy,
    /// The gateway will never take this batch; another one it may.
    Invalid,
    /// The gateway will take nothing from this device until somebody changes a setting.
    NotAuthorized,
}

impl Refusal {
    /// By the reason code of a PUBACK (MQTT 5, table 3-4); `None` if it is no refusal.
    #[must_use]
    pub fn of_reason_code(code: u8) -> Option<Self> {
        match code {
            0..0x80 => None,
            // Not authorized; topic name invalid: it is the same for every batch.
            0x87 | 0x90 => Some(Self::NotAuthorized),
            // Packet too large, payload format invalid.
            0x95 | 0x99 => Some(Self::Invalid),
            // Quota exceeded, and whatever else a gateway may come to say: data is thrown away only for a known reason.
            _ => Some(Self::Busy),
        }
    }
}

/// Counts of readings since the outbox was made. What a resumed queue held counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Given a number.
    pub recorded: u64,
    /// Acknowledged by a gateway: on its disk.
    pub acknowledged: u64,
    /// Lost because the queue was full.
    pub lost: u64,
    /// Lost because the gateway refused their batch for good.
    pub refused: u64,
}

impl Counts {
    /// Readings that wait for a gateway.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.recorded.saturating_sub(self.acknowledged + self.lost + self.refused)
    }
}

/// A device's readings on their way to a gateway.
#[derive(Debug)]
pub struct Outbox<'b, Q> {
    batcher: Batcher<'b>,
    queue: Q,
    window: Window,
    when_full: WhenFull,
    counts: Counts,
}

impl<'b, Q: Queue> Outbox<'b, Q> {
    /// With an empty queue.
    ///
    /// # Errors
    /// [`SetupError::Buffer`] if the batcher's batches do not fit into the queue.
    pub fn new(
        batcher: Batcher<'b>,
        queue: Q,
        settings: OutboxSettings,
    ) -> Result<Self, SetupError> {
        if batcher.batch_len_max() > queue.capacity() {
            return Err(SetupError::Buffer);
        }
        let OutboxSettings { when_full, window } = settings;
        let window = Window::new(window);
        Ok(Self { batcher, queue, window, when_full, counts: Counts::default() })
    }

    /// With a durable queue that may hold batches. Nobody knows any more which of them were sent, so the first
    /// [`WINDOW_MAX`] count as sent.
    ///
    /// # Errors
    /// As [`Outbox::new`].
    pub fn resume(
        batcher: Batcher<'b>,
        queue: Q,
        settings: OutboxSettings,
        resume: Resume,
    ) -> Result<Self, SetupError> {
        let mut outbox = Self::new(batcher.resumed_after(resume.numbered), queue, settings)?;
        let (mut sent, mut sent_through) = (0, resume.acknowledged);
        let mut index = 0;
        while let Some(batch) = outbox.queue.peek(index) {
            index += 1;
            if index <= WINDOW_MAX {
                (sent, sent_through) = (index, batch.last());
            }
            outbox.counts.recorded += u64::from(batch.count);
        }
        outbox.window.resume(resume.attachment, resume.acknowledged, sent, sent_through);
        Ok(outbox)
    }

    /// Records a reading. Returns its number.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn record(&mut self, now: MonoMs, reading: &Reading) -> Result<DeviceSeq, RecordError> {
        self.poll(now);
        loop {
            match self.batcher.add(now, reading) {
                Ok(seq) => {
                    self.counts.recorded += 1;
                    self.store();
                    return Ok(seq);
                }
                Err(AddError::Sensor) => return Err(RecordError::Sensor),
                Err(AddError::Closed) if self.store() => {}
                Err(AddError::Closed) => {
                    self.batcher.skip();
                    self.counts.recorded += 1;
                    self.counts.lost += 1;
                    return Err(RecordError::Full);
                }
            }
        }
    }

    /// What the times of the following readings mean: uptime, until this is called.
    pub fn set_clock(&mut self, clock: ClockQuality) {
        self.batcher.set_clock(clock);
        self.store();
    }

    /// Closes the open batch: it waits for no further reading.
    pub fn flush(&mut self) {
        self.batcher.close();
        self.store();
    }

    /// When [`Outbox::poll`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<MonoMs> {
        self.batcher.due()
    }

    /// Closes the open batch if it is old enough.
    pub fn poll(&mut self, now: MonoMs) {
        self.batcher.close_if_due(now);
        self.store();
    }

    /// A connection was accepted by a gateway.
    pub fn connected(&mut self) {
        self.window.connected();
    }

    /// The connection has ended. Everything unacknowledged will be sent again.
    pub fn disconnected(&mut self) {
        if mutant::is(Mutant::ForgetInFlight) {
            (0..self.window.in_flight()).for_each(|_| self.queue.remove(0));
        }
        self.window.disconnected();
    }

    /// The gateway has said which spool it writes to; nothing is published before. Returns whether the connection may
    /// go on: if not, close it and connect again.
    #[must_use]
    pub fn spool_seen(&mut self, spool: SpoolId) -> bool {
        self.window.spool_seen(spool)
    }

    /// The spool seen last, and the doubts that came with it: what a durable queue keeps for [`Resume`], written
    /// before the first publish to a new spool. Without the doubts a reboot would send copies without their flag.
    #[must_use]
    pub fn attachment(&self) -> Option<Attachment> {
        self.window.attachment()
    }

    /// The last reading that was acknowledged, likewise for [`Resume`].
    #[must_use]
    pub fn acknowledged_through(&self) -> DeviceSeq {
        self.window.acknowledged_through()
    }

    /// The batch to publish next, if the window has room. It counts as sent from now on.
    pub fn next_publish(&mut self) -> Option<Publish> {
        let index = self.window.next()?;
        let batch = self.queue.peek(index)?;
        let label = self.window.label(&batch);
        self.window.sending(&batch);
        Some(Publish {
            first: batch.first,
            count: batch.count,
            lost_before: label.lost_before,
            maybe_dup: label.maybe_dup,
            index,
        })
    }

    /// Writes the payload of a batch that [`Outbox::next_publish`] gave, before any other call. Returns its length, at
    /// most [`Outbox::payload_len_max`].
    ///
    /// # Errors
    /// [`BatchError::Length`] if `out` is too small; [`BatchError::Malformed`] if the batch is not there any more.
    pub fn payload(&mut self, publish: &Publish, out: &mut [u8]) -> Result<usize, BatchError> {
        match self.queue.peek(publish.index) {
            Some(batch) if batch.first == publish.first => {
                with_lost_before(batch.bytes, publish.lost_before, out)
            }
            Some(_) | None => Err(BatchError::Malformed),
        }
    }

    /// Length of the longest payload, in bytes.
    #[must_use]
    pub fn payload_len_max(&self) -> usize {
        self.batcher.batch_len_max() + LOST_BEFORE_GROWTH_MAX
    }

    /// The batch that begins with `first` was not sent after all: not one byte of it. Only for the newest one.
    pub fn withdrawn(&mut self, first: DeviceSeq) {
        self.window.withdrawn(first);
    }

    /// A gateway has acknowledged the batch that begins with `first`. Batches leave the queue in order.
    pub fn acknowledged(&mut self, first: DeviceSeq) {
        let (batches, readings) = self.window.acknowledged(first);
        self.counts.acknowledged += readings;
        for _ in 0..batches {
            self.queue.remove(0);
        }
        self.store();
    }

    /// A gateway has refused the batch that begins with `first`. The connection is over, here as at the gateway (a
    /// later batch must not be taken in the place of this one). A batch that no gateway will ever take leaves the
    /// queue; the next one declares its readings as lost.
    pub fn refused(&mut self, first: DeviceSeq, refusal: Refusal) {
        if refusal == Refusal::Invalid
            && let Some(readings) = self.window.discarded(first)
        {
            self.counts.refused += readings;
            self.queue.remove(0);
        }
        self.window.disconnected();
        self.store();
    }

    /// Counts of readings.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Batches in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.window.in_flight()
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Q {
        &self.queue
    }

    /// Gives the queue back, for one that outlives its outbox. What the batcher holds is in no queue yet: flush first.
    #[must_use]
    pub fn into_queue(self) -> Q {
        self.queue
    }

    /// Puts the closed batch into the queue. Returns whether the batcher has room again.
    fn store(&mut self) -> bool {
        loop {
            let Some(batch) = self.batcher.closed() else {
                return true;
            };
            match self.queue.push(&batch) {
                Ok(()) => {
                    self.batcher.taken();
                    return true;
                }
                Err(QueueError::Full) if self.drop_oldest() => {}
                // Too large cannot be: the sizes were compared at the start.
                Err(QueueError::Full | QueueError::TooLarge) => return false,
            }
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.window.sent();
        match (self.when_full, self.queue.peek(oldest)) {
            (WhenFull::DropOldest, Some(batch)) => {
                self.counts.lost += u64::from(batch.count);
                self.queue.remove(oldest);
                true
            }
            (WhenFull::DropNewest, _) | (WhenFull::DropOldest, None) => false,
        }
    }
}

#[cfg(test)]
mod tests;
