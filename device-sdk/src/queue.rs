//! What waits for a gateway: closed batches, in order, until one has acknowledged them.
//!
//! A queue stores and forgets what it is told to; *which* batch may be forgotten is decided by the
//! [`Outbox`](crate::outbox::Outbox) alone. The calls do not wait, because the flash inside of a microcontroller does not
//! let others work meanwhile either; a slow external flash belongs behind a RAM queue.

mod ram;

pub use ram::RamQueue;

use wire::seq::DeviceSeq;

/// Longest batch that a queue takes, in bytes.
pub const QUEUED_BYTES_MAX: usize = u16::MAX as usize;

/// One batch of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued<'a> {
    /// Sequence number of the first reading.
    pub first: DeviceSeq,
    /// Readings, at least 1.
    pub count: u16,
    /// The batch as the batcher closed it (docs/formats/device-batch.md), with `lost_before` 0.
    pub bytes: &'a [u8],
}

impl Queued<'_> {
    /// Sequence number of the last reading.
    #[must_use]
    pub fn last(&self) -> DeviceSeq {
        DeviceSeq(self.first.0.saturating_add(u64::from(self.count).saturating_sub(1)))
    }
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// There is no room now; there will be when batches were removed.
    #[error("the queue is full")]
    Full,
    /// It would not fit into the empty queue: the batcher's buffer is larger than the queue.
    #[error("the batch is larger than the queue")]
    TooLarge,
}

/// A device's queue of batches. Indices count from the oldest batch, which is 0.
pub trait Queue {
    /// Appends a batch; in a durable queue it is durable when this returns.
    ///
    /// # Errors
    /// See [`QueueError`]. Nothing was changed then.
    fn push(&mut self, batch: &Queued<'_>) -> Result<(), QueueError>;

    /// The batch at `index`.
    fn peek(&mut self, index: usize) -> Option<Queued<'_>>;

    /// Forgets the batch at `index`; those behind move up. Nothing happens if there is none.
    fn remove(&mut self, index: usize);

    /// Longest batch that would be taken now.
    fn room(&self) -> usize;

    /// Longest batch that the empty queue takes.
    fn capacity(&self) -> usize;
}
