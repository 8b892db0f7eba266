//! What the spool asks of a disk. One transaction at a time, opened by [`SpoolStore::begin`]; nothing in it is stored
//! before [`SpoolStore::commit`] has returned, and everything in it is durable from then on.

use thiserror::Error;
use wire::ids::{Lane, QueueId, SpoolId};
use wire::seq::DeviceSeq;

use super::RowNo;
use super::segment::Segment;
use crate::ledger::Ledger;
use crate::uplink::window::{Batch, BatchNo, Stream};

/// Why a store could not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No room: roll back, refuse the readings, go on. What is stored stays intact.
    #[error("the spool has no room left: {0}")]
    Full(String),
    /// Writing or syncing failed: nothing is known about what is on the disk, so the process must end.
    #[error("the spool's disk failed: {0}")]
    Disk(String),
    /// What is stored is not what was written.
    #[error("the spool is damaged: {0}")]
    Damaged(String),
}

/// What a spool remembers, read once when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The spool's identity.
    pub spool: SpoolId,
    /// The number that the next row gets.
    pub next_row: RowNo,
    /// Per lane, the first row that is in no batch yet.
    pub assigned: Vec<(Lane, RowNo)>,
    /// The streams and where they were acknowledged.
    pub streams: Vec<Stream>,
    /// The unacknowledged batches, in the order of their assignment.
    pub window: Vec<Batch>,
    /// The number that the next batch gets.
    pub next_batch: BatchNo,
    /// The ledger.
    pub ledger: Ledger,
    /// Rows of the live lane that are on disk.
    pub spooled: u64,
}

/// A spool's storage. Every implementation passes the suite in `spool/conformance.rs`.
pub trait SpoolStore {
    /// Opens a transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Closes the transaction. When this returns `Ok`, all of it is on the disk.
    ///
    /// # Errors
    /// [`StoreError::Full`] if nothing of it was stored; [`StoreError::Disk`] if that is not known.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Undoes the open transaction, if there is one.
    fn rollback(&mut self);

    /// Everything but rows and devices.
    ///
    /// # Errors
    /// [`StoreError`].
    fn recover(&mut self) -> Result<Recovered, StoreError>;

    /// The last sequence stored for a device's queue.
    ///
    /// # Errors
    /// [`StoreError`].
    fn device_last(
        &mut self,
        device: &[u8],
        queue: QueueId,
    ) -> Result<Option<DeviceSeq>, StoreError>;

    /// Stores the last sequence of a device's queue, and forgets the device's oldest queues beyond
    /// [`crate::dedupe::QUEUES_PER_DEVICE`].
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_device_last(
        &mut self,
        device: &[u8],
        queue: QueueId,
        last: DeviceSeq,
    ) -> Result<(), StoreError>;

    /// Appends a segment; its first row is the next row.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_segment(&mut self, segment: &Segment) -> Result<(), StoreError>;

    /// The lane's segments from row `from` on, in order, until they hold `bytes_max` bytes or `rows_max` rows: at least
    /// one if there is one, and none that would exceed a limit behind it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn segments(
        &mut self,
        lane: Lane,
        from: RowNo,
        bytes_max: usize,
        rows_max: u32,
    ) -> Result<Vec<Segment>, StoreError>;

    /// Deletes the lane's segments that end at or below `below`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete_segments(&mut self, lane: Lane, below: RowNo) -> Result<(), StoreError>;

    /// Stores that everything of the lane below `row` is in a batch.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_assigned(&mut self, lane: Lane, row: RowNo) -> Result<(), StoreError>;

    /// Stores an unacknowledged batch.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_batch(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Forgets an acknowledged batch.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete_batch(&mut self, number: BatchNo) -> Result<(), StoreError>;

    /// Stores where a stream stands.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_stream(&mut self, stream: &Stream) -> Result<(), StoreError>;

    /// Stores the ledger.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_ledger(&mut self, ledger: &Ledger) -> Result<(), StoreError>;

    /// Bytes that the spool takes up on the disk, free pages within it not counted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn used_bytes(&mut self) -> Result<u64, StoreError>;
}
