//! Appends: whether a batch is taken, and its place.

use bytes::Bytes;
use wire::limits::RECORD_BATCH_BYTES_MAX;
use wire::offset::Offset;
use wire::record_batch::RecordBatchHeader;
use wire::time::UnixMs;
use wire::uplink::RefusedCode;

use super::Log;
use crate::ids::{PartitionKey, SlotNo};
use crate::settings::UPLINK_STREAMS_MAX;
use crate::slot::{BatchToPlace, ENTRY_BYTES_PER_BATCH, RunFlags};
use crate::uplink_stream::UplinkAppend;

/// Why a batch was not appended. Nothing has changed. What is wrong with the batch is told before what is wrong with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits for the disk: try again after the next commit.
    #[error("the log has too much to write; try again")]
    Busy,
    /// The disk is full, or nearly: try again once space was given back.
    #[error("no space left for the log")]
    DiskFull,
    /// Not one whole batch, or its counts contradict each other: it will never be taken.
    #[error("not a record batch that the log takes")]
    Invalid,
    /// Larger than [`RECORD_BATCH_BYTES_MAX`]: cut it smaller.
    #[error("record batch exceeds {RECORD_BATCH_BYTES_MAX} bytes")]
    TooLarge,
    /// No such partition: refresh the metadata.
    #[error("no such partition")]
    UnknownPartition,
}

/// A batch has its place, which is not durable yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Acknowledge it when this slot is durable.
    pub slot_no: SlotNo,
}

/// What becomes of an uplink append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkOutcome {
    /// Stored once its slot is durable.
    Appended(Appended),
    /// It does not come right after what the stream holds. Answer with the stream's state, which says why.
    Misfit {
        /// Answer when this slot is durable; `None`: now (rule B2).
        answer_after: Option<SlotNo>,
    },
    /// It fits but is not stored.
    Refused {
        /// Why. [`RefusedCode::Unavailable`] passes, the others are for ever.
        code: RefusedCode,
        /// Answer when this slot is durable; `None`: now (rule B2).
        answer_after: Option<SlotNo>,
    },
}

impl Log {
    /// Appends `batch`: one whole record batch without a producer id, its CRC checked by the caller. Those with one go
    /// through [`Log::append_idempotent`] or [`Log::append_uplink`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed then.
    pub fn append(
        &mut self,
        now: UnixMs,
        key: PartitionKey,
        batch: Bytes,
    ) -> Result<Appended, AppendError> {
        let header = self.admit(&batch)?;
        if header.producer_id.0 >= 0 {
            return Err(AppendError::Invalid);
        }
        self.stage(now, key, &header, batch, None)
    }

    /// Appends an uplink stream's batch if it comes right after what the stream holds (rule B1), judged before
    /// anything else (B3). `batch` is the frame's record batch, its CRC checked by the caller.
    pub fn append_uplink(
        &mut self,
        now: UnixMs,
        append: &UplinkAppend,
        batch: Bytes,
    ) -> UplinkOutcome {
        let answer_after = self.slot_for_answer();
        if !self.streams.fits(append) {
            return UplinkOutcome::Misfit { answer_after };
        }
        let key = append.stream.key;
        let appended = self.admit(&batch).and_then(|header| {
            if !append.agrees_with(&header) {
                return Err(AppendError::Invalid);
            }
            let is_new = !self.streams.is_known(&append.stream);
            if is_new && self.streams.len() >= UPLINK_STREAMS_MAX {
                return Err(AppendError::Busy);
            }
            self.stage(now, key, &header, batch, Some(*append))
        });
        match appended {
            Ok(appended) => {
                self.streams.note_appended(append);
                UplinkOutcome::Appended(appended)
            }
            Err(error) => UplinkOutcome::Refused {
                code: match error {
                    AppendError::Busy | AppendError::DiskFull | AppendError::UnknownPartition => {
                        RefusedCode::Unavailable
                    }
                    AppendError::Invalid => RefusedCode::Invalid,
                    AppendError::TooLarge => RefusedCode::TooLarge,
                },
                answer_after,
            },
        }
    }

    /// Whether `batch` may be appended now.
    fn admit(&self, batch: &Bytes) -> Result<RecordBatchHeader, AppendError> {
        let header = check(batch)?;
        self.check_room(batch.len())?;
        Ok(header)
    }

    /// Whether there is room for `bytes` among what waits for the disk.
    pub(super) fn check_room(&self, bytes: usize) -> Result<(), AppendError> {
        let pending = self.staging.bytes() + self.bytes_under_way();
        if pending + bytes + ENTRY_BYTES_PER_BATCH > self.settings.pending_bytes_max {
            return Err(AppendError::Busy);
        }
        self.check_disk(bytes)
    }

    /// Gives an admitted batch its offsets and its slot.
    pub(super) fn stage(
        &mut self,
        now: UnixMs,
        key: PartitionKey,
        header: &RecordBatchHeader,
        bytes: Bytes,
        uplink: Option<UplinkAppend>,
    ) -> Result<Appended, AppendError> {
        let partition = self.partitions.get_mut(&key);
        let partition = partition.ok_or(AppendError::UnknownPartition)?;
        let base_offset = partition.next();
        // Counts are the producer's word: not even 2^32 batches that claim 2^31 records each may wrap the offset.
        let next = base_offset.0.checked_add(i64::from(header.record_count));
        let last_offset = Offset(next.ok_or(AppendError::Invalid)? - 1);
        partition.append_through(last_offset);
        let batch = BatchToPlace {
            key,
            leader_epoch: self.leader_epoch,
            base_offset,
            last_offset,
            max_timestamp: header.max_timestamp,
            flags: RunFlags::of(header),
            bytes,
            uplink,
        };
        let slot_no = self.staging.push_batch(self.append_clock.stamp(now), batch);
        Ok(Appended { base_offset, slot_no })
    }
}

/// Whether `batch` may ever be appended.
pub(super) fn check(batch: &Bytes) -> Result<RecordBatchHeader, AppendError> {
    if batch.len() > RECORD_BATCH_BYTES_MAX {
        return Err(AppendError::TooLarge);
    }
    let header = RecordBatchHeader::parse(batch).map_err(|_| AppendError::Invalid)?;
    // Offsets are dense: a new batch has a record for each of its offsets.
    let is_dense = header.last_offset_delta == header.record_count - 1;
    if header.total_len != batch.len() || !is_dense {
        return Err(AppendError::Invalid);
    }
    Ok(header)
}
