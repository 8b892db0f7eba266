//! One file per Kafka API: what of a request the connection works out, what the broker decides, and what the
//! connection does with the answer.

pub(crate) mod admin;
pub(crate) mod alter_configs;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod groups;
pub(crate) mod heartbeat;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod produce;
pub(crate) mod sync_group;

use broker_kafka::ErrorCode;
use broker_kafka::generated::Request;
use broker_kafka::runtime::{Text, Uuid};
use broker_log::{PartitionKey, Piece, PieceRead, ReadFailed, TopicNo};
use wire::ids::{Partition, TopicId};
use wire::offset::LeaderEpoch;

use crate::metadata::{Image, Topic};

pub use admin::{AdminAnswer, AdminRequest};
pub use alter_configs::{AlterConfigsAnswer, AlterConfigsQuery};
pub use create_partitions::{CreatePartitionsAnswer, CreatePartitionsQuery};
pub use create_topics::{CreateTopicsAnswer, CreateTopicsQuery, TOPICS_PER_REQUEST_MAX};
pub use delete_records::{DELETE_RECORDS_WAIT_MS_MAX, DeleteRecordsAnswer, DeleteRecordsQuery};
pub use delete_topics::{DeleteTopicsAnswer, DeleteTopicsQuery};
pub use describe_configs::{
    DescribeConfigsAnswer, DescribeConfigsQuery, RESOURCES_PER_REQUEST_MAX,
};
pub use fetch::{FETCH_BYTES_MAX, FETCH_WAIT_MS_MAX, FetchAnswer, FetchQuery};
pub use groups::GroupRequest;
pub use init_producer_id::{InitProducerIdAnswer, InitProducerIdQuery};
pub use list_offsets::{LOOKUP_RUNS_MAX, LookupAnswer, LookupProgress, LookupQuery};
pub use metadata::MetadataQuery;
pub use produce::{CheckedProduce, ProduceAnswer};

/// A request as the broker takes it: checked, and without the frame's bytes where it may have to wait.
#[derive(Debug)]
pub enum KafkaRequest {
    /// Of an administrative API.
    Admin(AdminRequest),
    /// Fetch.
    Fetch(FetchQuery),
    /// Anything for the group coordinator.
    Group(GroupRequest),
    /// ListOffsets, or the rest of it.
    Lookup(LookupQuery),
    /// Metadata.
    Metadata(MetadataQuery),
    /// Produce.
    Produce(CheckedProduce),
}

impl KafkaRequest {
    /// Prepares a request for the broker. This is where batches are checked: call it on the connection's task.
    /// `None` for an API that the broker has no part in.
    #[must_use]
    pub fn prepare(version: i16, request: Request) -> Option<Self> {
        match request {
            Request::Fetch(fetch) => Some(Self::Fetch(FetchQuery::new(version, &fetch))),
            Request::ListOffsets(list) => Some(Self::Lookup(LookupQuery::new(version, &list))),
            Request::Metadata(request) => Some(Self::Metadata(MetadataQuery { version, request })),
            Request::Produce(produce) => {
                Some(Self::Produce(CheckedProduce::new(version, &produce)))
            }
            other => AdminRequest::new(version, &other)
                .map(Self::Admin)
                .or_else(|| GroupRequest::prepare(version, &other).map(Self::Group)),
        }
    }
}

/// How a request names a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicName {
    pub(crate) name: Text,
    pub(crate) id: Uuid,
    by: NamedBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    Id,
    Name,
}

impl NamedBy {
    /// How an API names topics that changes to ids in version `ids_from`.
    pub(crate) fn of(version: i16, ids_from: i16) -> Self {
        if version >= ids_from { Self::Id } else { Self::Name }
    }
}

impl TopicName {
    /// A copy, which does not keep the request's frame.
    pub(crate) fn new(name: &Text, id: Uuid, by: NamedBy) -> Self {
        Self { name: name.detached(), id, by }
    }

    pub(crate) fn find<'a>(&self, image: &'a Image) -> Result<&'a Topic, ErrorCode> {
        match self.by {
            NamedBy::Id => image.by_id(TopicId::from(self.id)).ok_or(ErrorCode::UnknownTopicId),
            NamedBy::Name => image.by_name(&self.name).ok_or(ErrorCode::UnknownTopicOrPartition),
        }
    }
}

/// The partition of a topic with this index, if it has it.
pub(crate) fn partition_of(topic: &Topic, index: i32) -> Result<PartitionKey, ErrorCode> {
    match u32::try_from(index) {
        Ok(index) if index < topic.partitions => {
            Ok(PartitionKey { topic_no: TopicNo(topic.no), partition: Partition(index) })
        }
        Ok(_) | Err(_) => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

/// Holds the leader epoch that a client believes in against ours (KIP-320); −1 is "none".
pub(crate) fn check_epoch(claimed: i32, ours: LeaderEpoch) -> Result<(), ErrorCode> {
    if claimed < 0 || claimed == ours.0 {
        Ok(())
    } else if claimed < ours.0 {
        Err(ErrorCode::FencedLeaderEpoch)
    } else {
        Err(ErrorCode::UnknownLeaderEpoch)
    }
}

/// Reads the batches of a piece that does not lie in memory.
pub type ReadPiece<'a> = dyn FnMut(&Piece) -> Result<PieceRead, PieceLost> + 'a;

/// Why a piece is not served. Whoever tried to read it has told the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceLost {
    /// It is not what was written. The client's application has to hear of it, because only it can decide to skip the records.
    Damaged,
    /// The store could not read it, which may pass.
    Unreadable,
}

impl PieceLost {
    /// What a client is told. Of a storage error Java's consumer and librdkafka say nothing to the application and try
    /// again for ever, of a corrupt message they do.
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::Damaged => ErrorCode::CorruptMessage,
            Self::Unreadable => ErrorCode::KafkaStorageError,
        }
    }
}

impl<E> From<&ReadFailed<E>> for PieceLost {
    fn from(failed: &ReadFailed<E>) -> Self {
        match failed {
            ReadFailed::Damaged(_) => Self::Damaged,
            ReadFailed::Source(_) => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_that_differ_are_fenced_or_unknown() {
        let ours = LeaderEpoch(3);
        for (claimed, expected) in [
            (-1, Ok(())),
            (3, Ok(())),
            (2, Err(ErrorCode::FencedLeaderEpoch)),
            (4, Err(ErrorCode::UnknownLeaderEpoch)),
        ] {
            assert_eq!(check_epoch(claimed, ours), expected, "{claimed}");
        }
    }
}
