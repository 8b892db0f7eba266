//! OffsetDelete, version 0.
//!
//! Offsets of a group that has members are deleted only in topics that no member reads, which their subscriptions say
//! (`ClassicGroup.validateOffsetDelete`). A group that is about to be rebalanced may read anything.

use std::collections::BTreeSet;

use broker_coordinator::{
    Coordinator, DeleteOffsets, GroupDescription, GroupError, GroupId, OffsetToDelete,
    OffsetVerdict, TopicName,
};
use broker_kafka::generated::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use super::groups::{code_of, text};
use super::partition_of;
use crate::groups::Asked;
use crate::metadata::Image;

/// Kafka's names.
const CONSUMERS: &str = "consumer";
const EMPTY: &str = "Empty";
const STABLE: &str = "Stable";

/// The request as the coordinator takes it; whether topics exist, and who reads them, is still to be seen.
pub(crate) fn query(request: &OffsetDeleteRequest) -> DeleteOffsets {
    let offsets = request.topics.iter().flat_map(|topic| {
        let name = TopicName::from(topic.name.as_str());
        topic.partitions.iter().map(move |partition| OffsetToDelete {
            topic: name.clone(),
            partition: partition.partition_index,
            known: Ok(()),
        })
    });
    DeleteOffsets { group: GroupId::from(request.group_id.as_str()), offsets: offsets.collect() }
}

/// Turns down offsets that the group's members need, and those of partitions that are not there.
pub(crate) fn check(
    delete: &mut DeleteOffsets,
    coordinator: &Coordinator<Asked>,
    image: &Image,
) -> Result<(), GroupError> {
    let group = coordinator.describe(&delete.group)?;
    if group.state != EMPTY && group.protocol_type != CONSUMERS {
        return Err(GroupError::NonEmptyGroup);
    }
    let read = Read::of(&group);
    for offset in &mut delete.offsets {
        let topic = image.by_name(offset.topic.as_str());
        let is_there = topic.is_some_and(|topic| partition_of(topic, offset.partition).is_ok());
        if !is_there {
            offset.known = Err(GroupError::UnknownTopicOrPartition);
        } else if read.includes(offset.topic.as_str()) {
            offset.known = Err(GroupError::GroupSubscribedToTopic);
        }
    }
    Ok(())
}

/// What the members of a group of consumers read.
#[derive(Debug, PartialEq, Eq)]
enum Read<'a> {
    /// Nobody knows.
    Anything,
    Topics(BTreeSet<&'a str>),
}

impl<'a> Read<'a> {
    fn of(group: &'a GroupDescription) -> Self {
        if group.state == EMPTY {
            return Self::Topics(BTreeSet::new());
        }
        let mut topics = BTreeSet::new();
        for member in &group.members {
            match subscription(&member.metadata) {
                Some(of_member) if group.state == STABLE => topics.extend(of_member),
                Some(_) | None => return Self::Anything,
            }
        }
        Self::Topics(topics)
    }

    fn includes(&self, topic: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Topics(topics) => topics.contains(topic),
        }
    }
}

/// The topics of a consumer's subscription (Kafka's `ConsumerProtocolSubscription`, of any version): a version, then the topics
/// as an array of texts. `None` if it is none.
fn subscription(metadata: &[u8]) -> Option<Vec<&str>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (len, text) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (topic, behind) = text.split_at_checked(len)?;
        topics.push(std::str::from_utf8(topic).ok()?);
        rest = behind;
    }
    Some(topics)
}

/// Verdicts are in the order of the request, so those of a topic stand together.
pub(crate) fn response(outcome: Result<Vec<OffsetVerdict>, GroupError>) -> OffsetDeleteResponse {
    let verdicts = match outcome {
        Ok(verdicts) => verdicts,
        Err(error) => {
            let error_code = i16::from(code_of(error));
            return OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() };
        }
    };
    let mut topics: Vec<OffsetDeleteResponseTopic> = Vec::new();
    for verdict in verdicts {
        let error = verdict.outcome.err();
        let partition = OffsetDeleteResponsePartition {
            partition_index: verdict.partition,
            error_code: error.map_or(0, |error| i16::from(code_of(error))),
        };
        match topics.last_mut().filter(|topic| topic.name == verdict.topic.as_str()) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetDeleteResponseTopic {
                name: text(verdict.topic.as_str()),
                partitions: vec![partition],
            }),
        }
    }
    OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() }
}

#[cfg(test)]
mod tests {
    use broker_coordinator::{MemberDescription, MemberId};
    use bytes::Bytes;

    use super::*;

    fn subscribed(topics: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0, 3];
        bytes.extend((topics.len() as i32).to_be_bytes());
        for topic in topics {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.as_bytes());
        }
        bytes
    }

    fn group(state: &'static str, members: &[&[u8]]) -> GroupDescription {
        let members = members.iter().map(|metadata| MemberDescription {
            id: MemberId::from("m"),
            instance: None,
            client_id: String::new(),
            client_host: String::new(),
            metadata: Bytes::copy_from_slice(metadata),
            assignment: Bytes::new(),
        });
        GroupDescription {
            state,
            protocol_type: CONSUMERS.to_owned(),
            protocol: String::new(),
            members: members.collect(),
        }
    }

    #[test]
    fn subscriptions_are_read_or_not_understood() {
        let mut with_more = subscribed(&["a", "b"]);
        with_more.extend([0, 0, 0, 0, 9]);
        assert_eq!(subscription(&with_more), Some(vec!["a", "b"]));
        let good = subscribed(&["topic"]);
        for len in 0..good.len() {
            assert_eq!(subscription(&good[..len]), None, "cut at {len}");
        }
        assert_eq!(subscription(&[0, 0, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(subscription(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(subscription(&[0, 0, 0, 0, 0, 1, 0xff, 0xff]), None);
        assert_eq!(subscription(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None);
    }

    #[test]
    fn what_is_not_known_may_be_read() {
        let (a, b) = (subscribed(&["a"]), subscribed(&["b"]));
        for (state, members, reads) in [
            (EMPTY, &[][..], ""),
            (STABLE, &[&a[..]], "a"),
            (STABLE, &[&a, &b], "ab"),
            (STABLE, &[&a, b"odd"], "abc"),
            ("PreparingRebalance", &[b""], "abc"),
            ("CompletingRebalance", &[&a], "abc"),
        ] {
            let group = group(state, members);
            let read = Read::of(&group);
            let includes: String =
                ["a", "b", "c"].into_iter().filter(|topic| read.includes(topic)).collect();
            assert_eq!(includes, reads, "{state}");
        }
    }
}
