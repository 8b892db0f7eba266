//! OffsetCommit, versions 2 to 9.

use broker_coordinator::{
    CommitOffsets, GroupError, GroupId, OffsetToCommit, OffsetVerdict, TopicName,
};
use broker_kafka::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::groups::{code_of, member_name, text};
use super::partition_of;
use crate::metadata::Image;

/// The request as the coordinator takes it; whether topics exist is still to be seen.
pub(crate) fn query(request: &OffsetCommitRequest) -> CommitOffsets {
    let offsets = request.topics.iter().flat_map(|topic| {
        let name = TopicName::from(topic.name.as_str());
        topic.partitions.iter().map(move |partition| offset(&name, partition))
    });
    CommitOffsets {
        group: GroupId::from(request.group_id.as_str()),
        member: member_name(&request.member_id, request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
        retention_ms: u64::try_from(request.retention_time_ms).ok(),
        offsets: offsets.collect(),
    }
}

fn offset(topic: &TopicName, partition: &OffsetCommitRequestPartition) -> OffsetToCommit {
    OffsetToCommit {
        topic: topic.clone(),
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
        known: Ok(()),
    }
}

/// Turns down offsets of partitions that are not there.
pub(crate) fn check_topics(commit: &mut CommitOffsets, image: &Image) {
    for offset in &mut commit.offsets {
        let topic = image.by_name(offset.topic.as_str());
        let is_there = topic.is_some_and(|topic| partition_of(topic, offset.partition).is_ok());
        if !is_there {
            offset.known = Err(GroupError::UnknownTopicOrPartition);
        }
    }
}

/// Verdicts are in the order of the request, so those of a topic stand together.
pub(crate) fn response(verdicts: Vec<OffsetVerdict>) -> OffsetCommitResponse {
    let mut topics: Vec<OffsetCommitResponseTopic> = Vec::new();
    for verdict in verdicts {
        let error = verdict.outcome.err();
        let partition = OffsetCommitResponsePartition {
            partition_index: verdict.partition,
            error_code: error.map_or(0, |error| i16::from(code_of(error))),
        };
        match topics.last_mut().filter(|topic| topic.name == verdict.topic.as_str()) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetCommitResponseTopic {
                name: text(verdict.topic.as_str()),
                partitions: vec![partition],
                ..OffsetCommitResponseTopic::default()
            }),
        }
    }
    OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
}

/// What a commit gets that nobody takes.
pub(crate) fn all_refused(commit: &CommitOffsets, error: GroupError) -> OffsetCommitResponse {
    let verdicts = commit.offsets.iter().map(|offset| OffsetVerdict {
        topic: offset.topic.clone(),
        partition: offset.partition,
        outcome: Err(error),
    });
    response(verdicts.collect())
}
