//! OffsetFetch, versions 1 to 9. There are no transactions yet, so every offset is a stable one.

use broker_coordinator::{CommittedOffset, Coordinator, GROUP_OFFSETS_MAX, GroupError, GroupId};
use broker_kafka::generated::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use broker_kafka::runtime::Text;

use super::groups::{code_of, text};

/// The first version that has an error for the whole group.
const GROUP_ERROR_FROM: i16 = 2;

/// The first version that asks for several groups.
const SEVERAL_FROM: i16 = 8;

/// Bytes of one response at most: a request names a partition with four bytes, and gets up to four kilobytes for it. Groups
/// beyond it are to be asked for by themselves, or in parts.
const ANSWERED_BYTES_MAX: usize = 32 << 20;

/// What a partition takes of a response beside its metadata, and a topic beside its name, rounded up.
const ENTRY_BYTES: usize = 96;

// All that a group may have, if it keeps little metadata, is one answer.
const _: () = assert!(GROUP_OFFSETS_MAX * 2 * ENTRY_BYTES < ANSWERED_BYTES_MAX);

/// "No offset".
const NONE: i64 = -1;

/// An OffsetFetch request.
#[derive(Debug)]
pub struct OffsetQuery {
    version: i16,
    groups: Vec<GroupQuery>,
}

#[derive(Debug)]
struct GroupQuery {
    group: Text,
    /// `None`: all that the group has.
    topics: Option<Vec<(Text, Vec<i32>)>>,
}

impl OffsetQuery {
    pub(crate) fn new(version: i16, request: &OffsetFetchRequest) -> Self {
        let groups = if version < SEVERAL_FROM {
            let topics = request.topics.as_ref().map(|topics| {
                let topics = topics.iter();
                topics
                    .map(|topic| (topic.name.detached(), topic.partition_indexes.clone()))
                    .collect()
            });
            vec![GroupQuery { group: request.group_id.detached(), topics }]
        } else {
            let groups = request.groups.iter().map(|group| GroupQuery {
                group: group.group_id.detached(),
                topics: group.topics.as_ref().map(|topics| {
                    let topics = topics.iter();
                    topics
                        .map(|topic| (topic.name.detached(), topic.partition_indexes.clone()))
                        .collect()
                }),
            });
            groups.collect()
        };
        Self { version, groups }
    }

    /// The response; without a coordinator everything is refused for the reason given.
    pub(crate) fn response<A: Copy>(
        &self,
        coordinator: Result<&Coordinator<A>, GroupError>,
    ) -> OffsetFetchResponse {
        let mut left = ANSWERED_BYTES_MAX;
        let mut groups = self.groups.iter().map(|query| query.answer(coordinator, &mut left));
        if self.version >= SEVERAL_FROM {
            let groups = groups.collect();
            return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
        }
        let group = groups.next().unwrap_or_default();
        let topics = if self.version < GROUP_ERROR_FROM && group.error_code != 0 {
            self.groups.iter().flat_map(|query| query.refused(group.error_code)).collect()
        } else {
            group.topics
        };
        OffsetFetchResponse {
            topics: topics.into_iter().map(old_topic).collect(),
            error_code: if self.version < GROUP_ERROR_FROM { 0 } else { group.error_code },
            ..OffsetFetchResponse::default()
        }
    }
}

impl GroupQuery {
    fn answer<A: Copy>(
        &self,
        coordinator: Result<&Coordinator<A>, GroupError>,
        left: &mut usize,
    ) -> OffsetFetchResponseGroup {
        let group = GroupId::from(self.group.as_str());
        let topics = coordinator.and_then(|coordinator| match &self.topics {
            None => all_offsets(coordinator, &group, left),
            Some(topics) => these_offsets(coordinator, &group, topics, left),
        });
        match topics {
            Ok(topics) => OffsetFetchResponseGroup {
                group_id: self.group.clone(),
                topics,
                ..OffsetFetchResponseGroup::default()
            },
            Err(error) => OffsetFetchResponseGroup {
                group_id: self.group.clone(),
                error_code: i16::from(code_of(error)),
                ..OffsetFetchResponseGroup::default()
            },
        }
    }

    /// What was asked for, each partition with this error.
    fn refused(&self, error_code: i16) -> Vec<OffsetFetchResponseTopics> {
        let topics = self.topics.iter().flatten().map(|(name, partitions)| {
            let partitions = partitions.iter();
            OffsetFetchResponseTopics {
                name: name.clone(),
                partitions: partitions
                    .map(|&index| OffsetFetchResponsePartitions {
                        error_code,
                        ..partition(index, None)
                    })
                    .collect(),
                ..OffsetFetchResponseTopics::default()
            }
        });
        topics.collect()
    }
}

fn all_offsets<A: Copy>(
    coordinator: &Coordinator<A>,
    group: &GroupId,
    left: &mut usize,
) -> Result<Vec<OffsetFetchResponseTopics>, GroupError> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (name, index, offset) in coordinator.offsets(group)? {
        take(left, offset.metadata.len())?;
        let found = partition(index, Some(offset));
        match topics.last_mut().filter(|topic| topic.name == name.as_str()) {
            Some(topic) => topic.partitions.push(found),
            None => {
                take(left, name.as_str().len())?;
                topics.push(OffsetFetchResponseTopics {
                    name: text(name.as_str()),
                    partitions: vec![found],
                    ..OffsetFetchResponseTopics::default()
                });
            }
        }
    }
    Ok(topics)
}

fn these_offsets<A: Copy>(
    coordinator: &Coordinator<A>,
    group: &GroupId,
    topics: &[(Text, Vec<i32>)],
    left: &mut usize,
) -> Result<Vec<OffsetFetchResponseTopics>, GroupError> {
    let topics = topics.iter().map(|(name, indexes)| {
        take(left, name.len())?;
        let partitions = indexes.iter().map(|&index| {
            let offset = coordinator.offset(group, name, index)?;
            take(left, offset.map_or(0, |offset| offset.metadata.len()))?;
            Ok(partition(index, offset))
        });
        Ok(OffsetFetchResponseTopics {
            name: name.clone(),
            partitions: partitions.collect::<Result<_, GroupError>>()?,
            ..OffsetFetchResponseTopics::default()
        })
    });
    topics.collect()
}

/// Takes an entry with so much text from what is left of a response.
fn take(left: &mut usize, text_bytes: usize) -> Result<(), GroupError> {
    let rest = left.checked_sub(ENTRY_BYTES + text_bytes);
    *left = rest.ok_or(GroupError::InvalidRequest)?;
    Ok(())
}

fn partition(index: i32, offset: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: offset.map_or(NONE, |offset| offset.offset),
        committed_leader_epoch: offset.map_or(-1, |offset| offset.leader_epoch),
        metadata: Some(offset.map_or(Text::default(), |offset| text(&offset.metadata))),
        error_code: 0,
    }
}

/// The same in the form of versions up to 7.
fn old_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|found| OffsetFetchResponsePartition {
        partition_index: found.partition_index,
        committed_offset: found.committed_offset,
        committed_leader_epoch: found.committed_leader_epoch,
        metadata: found.metadata,
        error_code: found.error_code,
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
}
