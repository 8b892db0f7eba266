//! Appends of Kafka's idempotent producers.

use bytes::Bytes;
use wire::offset::Offset;
use wire::time::UnixMs;

use super::append::check;
use super::{AppendError, Appended, Log};
use crate::ids::{PartitionKey, SlotNo};
use crate::producer::{Original, Place, ProducerBatch};

/// What becomes of an idempotent producer's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdempotentOutcome {
    /// Stored once its slot is durable.
    Appended(Appended),
    /// The log has it: answer as for the original.
    Duplicate {
        /// Offset of the original's first record.
        base_offset: Offset,
        /// The broker's time that the original bears instead of its producer's, if it does.
        append_time: Option<UnixMs>,
        /// Answer when this slot is durable, and the original with it; `None`: now.
        answer_after: Option<SlotNo>,
    },
}

/// Why an idempotent producer's batch was not appended. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdempotentError {
    /// As for any other batch.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The producer has a newer epoch: this one is over.
    #[error("the producer has a newer epoch")]
    Fenced,
    /// Batches are missing before it, or it is a copy of one that is not remembered any more.
    #[error("the batch's sequence does not go on where the producer's last one ended")]
    OutOfOrder,
}

impl Log {
    /// Appends a batch that has a producer id, unless the log has it already. Its CRC was checked by the caller.
    ///
    /// # Errors
    /// [`IdempotentError`]; nothing has changed then.
    pub fn append_idempotent(
        &mut self,
        now: UnixMs,
        key: PartitionKey,
        batch: Bytes,
    ) -> Result<IdempotentOutcome, IdempotentError> {
        let header = check(&batch)?;
        let produced = ProducerBatch::of(key, &header).ok_or(AppendError::Invalid)?;
        match self.producers.place(&produced) {
            Place::Copy(Original { base_offset, append_time }) => {
                return Ok(IdempotentOutcome::Duplicate {
                    base_offset,
                    append_time,
                    answer_after: self.slot_for_answer(),
                });
            }
            Place::Fenced => return Err(IdempotentError::Fenced),
            Place::OutOfOrder => return Err(IdempotentError::OutOfOrder),
            Place::Next => {}
        }
        self.check_room(batch.len())?;
        let appended = self.stage(now, key, &header, batch, None)?;
        // As recovery finds it.
        let stamp = self.append_clock.last().unwrap_or(now);
        self.producers.note(stamp, &produced, appended.base_offset);
        Ok(IdempotentOutcome::Appended(appended))
    }
}
