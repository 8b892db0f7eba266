//! DeleteRecords, versions 0 to 2.
//!
//! The records are gone for readers at once. The answer waits until a checkpoint says so too: until then they would come back
//! with a crash. A topic that is only compacted keeps what it has, as on Kafka.

use broker_kafka::ErrorCode;
use broker_kafka::generated::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use broker_kafka::runtime::Text;
use broker_log::store::CheckpointId;
use broker_log::{DeleteRecordsError, Log, PartitionKey};
use wire::offset::Offset;

use super::partition_of;
use crate::groups::is_internal;
use crate::metadata::{Image, Topic};
use crate::topic_config::RetentionDefaults;

/// Longest wait for the checkpoint, whatever the client asks for, in milliseconds.
pub const DELETE_RECORDS_WAIT_MS_MAX: u64 = 300_000;

/// Everything that is durable.
const HIGH_WATERMARK: i64 = -1;

/// A DeleteRecords request.
#[derive(Debug)]
pub struct DeleteRecordsQuery {
    topics: Vec<(Text, Vec<Before>)>,
    wait_ms: u64,
}

/// Records of a partition below an offset.
#[derive(Debug, Clone, Copy)]
struct Before {
    index: i32,
    offset: i64,
}

/// The answer.
#[derive(Debug)]
pub struct DeleteRecordsAnswer {
    topics: Vec<(Text, Vec<Deleted>)>,
}

/// What became of a partition.
#[derive(Debug, Clone, Copy)]
struct Deleted {
    index: i32,
    /// Where it begins now.
    outcome: Result<Offset, ErrorCode>,
    /// Whether that can still be taken back by a crash.
    waits: bool,
}

impl DeleteRecordsQuery {
    /// Takes what matters from a request.
    pub(super) fn new(request: &DeleteRecordsRequest) -> Self {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| Before {
                index: partition.partition_index,
                offset: partition.offset,
            });
            (topic.name.detached(), partitions.collect())
        });
        let wait_ms = u64::try_from(request.timeout_ms).unwrap_or(0);
        Self { topics: topics.collect(), wait_ms: wait_ms.min(DELETE_RECORDS_WAIT_MS_MAX) }
    }

    pub(crate) fn wait_ms(&self) -> u64 {
        self.wait_ms
    }

    /// Deletes what can be deleted. The answer may leave when the checkpoint is durable; without one, now.
    pub(crate) fn delete(
        self,
        log: &mut Log,
        image: &Image,
        defaults: &RetentionDefaults,
    ) -> (DeleteRecordsAnswer, Option<CheckpointId>) {
        let mut after: Option<CheckpointId> = None;
        let mut topics = Vec::with_capacity(self.topics.len());
        for (name, partitions) in self.topics {
            let topic = admit(&name, image, defaults);
            let partitions = partitions.into_iter().map(|before| {
                let key = topic.and_then(|topic| partition_of(topic, before.index));
                let deleted = key.and_then(|key| delete(log, key, before.offset));
                let waits_for = deleted.ok().and_then(|(_, waits_for)| waits_for);
                // The latest: all of them are said when the answer leaves.
                after = [after, waits_for].into_iter().flatten().max_by_key(|id| id.n);
                Deleted {
                    index: before.index,
                    outcome: deleted.map(|(log_start, _)| log_start),
                    waits: waits_for.is_some(),
                }
            });
            let partitions = partitions.collect();
            topics.push((name, partitions));
        }
        (DeleteRecordsAnswer { topics }, after)
    }
}

/// The topic, if its records may be deleted.
fn admit<'a>(
    name: &str,
    image: &'a Image,
    defaults: &RetentionDefaults,
) -> Result<&'a Topic, ErrorCode> {
    let topic = image.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if is_internal(name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    if !topic.configs.cleans_by("delete", defaults) {
        return Err(ErrorCode::PolicyViolation);
    }
    Ok(topic)
}

fn delete(
    log: &mut Log,
    key: PartitionKey,
    before: i64,
) -> Result<(Offset, Option<CheckpointId>), ErrorCode> {
    let offsets = log.offsets(key).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let before = if before == HIGH_WATERMARK { offsets.high_watermark } else { Offset(before) };
    let deleted = log.delete_records(key, before).map_err(|error| match error {
        DeleteRecordsError::OutOfRange(_) => ErrorCode::OffsetOutOfRange,
        DeleteRecordsError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
    })?;
    Ok((deleted.log_start, deleted.answer_after))
}

impl DeleteRecordsAnswer {
    /// The answer of somebody who has waited for as long as they wanted.
    pub(crate) fn timed_out(mut self) -> Self {
        let partitions = self.topics.iter_mut().flat_map(|(_, partitions)| partitions);
        for deleted in partitions.filter(|deleted| deleted.waits) {
            deleted.outcome = Err(ErrorCode::RequestTimedOut);
        }
        self
    }

    pub(super) fn into_response(self) -> DeleteRecordsResponse {
        let topics = self.topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.iter().map(|deleted| DeleteRecordsPartitionResult {
                partition_index: deleted.index,
                low_watermark: deleted.outcome.map_or(-1, |log_start| log_start.0),
                error_code: deleted.outcome.err().map_or(0, i16::from),
            });
            DeleteRecordsTopicResult { name, partitions: partitions.collect() }
        });
        DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
    }
}
