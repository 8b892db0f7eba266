//! OffsetForLeaderEpoch, versions 2 to 4: where an epoch ends, by which a consumer sees that it has read what was taken back.
//!
//! Here nothing that was readable is ever taken back, so the answer only confirms what the consumer has. An epoch is a life of
//! the broker; one in which nothing was stored has no place in a partition.

use broker_kafka::ErrorCode;
use broker_kafka::generated::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};
use broker_kafka::runtime::Text;
use broker_log::Log;
use wire::offset::{LeaderEpoch, Offset};

use super::{check_epoch, partition_of};
use crate::metadata::Image;

/// Kafka's "unknown", of epoch and offset.
const UNDEFINED: (i32, i64) = (-1, -1);

/// An OffsetForLeaderEpoch request.
#[derive(Debug)]
pub struct EpochQuery {
    topics: Vec<(Text, Vec<Asked>)>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    index: i32,
    /// What the client believes is the epoch now.
    current: i32,
    /// The epoch whose end it asks for.
    epoch: i32,
}

/// The answer.
#[derive(Debug)]
pub struct EpochAnswer {
    topics: Vec<(Text, Vec<EpochEndOffset>)>,
}

impl EpochQuery {
    /// Takes what matters from a request.
    pub(super) fn new(request: &OffsetForLeaderEpochRequest) -> Self {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| Asked {
                index: partition.partition,
                current: partition.current_leader_epoch,
                epoch: partition.leader_epoch,
            });
            (topic.topic.detached(), partitions.collect())
        });
        Self { topics: topics.collect() }
    }

    /// The answer as the log stands now.
    pub(crate) fn look(self, log: &Log, image: &Image) -> EpochAnswer {
        let topics = self.topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|asked| {
                let found = asked.look(&name, log, image);
                let (leader_epoch, end_offset) = found.unwrap_or(UNDEFINED);
                EpochEndOffset {
                    error_code: found.err().map_or(0, i16::from),
                    partition: asked.index,
                    leader_epoch,
                    end_offset,
                }
            });
            let partitions = partitions.collect();
            (name, partitions)
        });
        EpochAnswer { topics: topics.collect() }
    }
}

impl Asked {
    fn look(&self, name: &str, log: &Log, image: &Image) -> Result<(i32, i64), ErrorCode> {
        let topic = image.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let key = partition_of(topic, self.index)?;
        check_epoch(self.current, log.leader_epoch())?;
        let offsets = log.offsets(key).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let epoch = u32::try_from(self.epoch).ok().map(|_| LeaderEpoch(self.epoch));
        Ok(epoch.map_or(UNDEFINED, |epoch| {
            end_of(epoch, log.epochs(key), log.leader_epoch(), offsets.high_watermark)
        }))
    }
}

/// The largest epoch up to this one and where it ends (Kafka's `LeaderEpochFileCache.endOffsetFor`).
fn end_of(
    asked: LeaderEpoch,
    epochs: &[(LeaderEpoch, Offset)],
    current: LeaderEpoch,
    high_watermark: Offset,
) -> (i32, i64) {
    if asked == current {
        return (asked.0, high_watermark.0);
    }
    let Some(&(_, end)) = epochs.iter().find(|(epoch, _)| *epoch > asked) else {
        // Later than anything that is stored, and not now.
        return match epochs.last() {
            Some(&(last, _)) if asked < current => (last.0, high_watermark.0),
            Some(_) | None => UNDEFINED,
        };
    };
    // Before the first one: nothing of it is left.
    let before = epochs.iter().rev().find(|(epoch, _)| *epoch <= asked);
    (before.map_or(asked.0, |(epoch, _)| epoch.0), end.0)
}

impl EpochAnswer {
    pub(super) fn into_response(self) -> OffsetForLeaderEpochResponse {
        let topics = self.topics.into_iter();
        let topics =
            topics.map(|(topic, partitions)| OffsetForLeaderTopicResult { topic, partitions });
        OffsetForLeaderEpochResponse {
            topics: topics.collect(),
            ..OffsetForLeaderEpochResponse::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_ends_where_the_next_one_begins() {
        let epochs = [(2, 10), (3, 20), (6, 30)].map(|(e, o)| (LeaderEpoch(e), Offset(o)));
        for (asked, expected) in [
            (0, (0, 10)),
            (1, (1, 10)),
            (2, (2, 20)),
            (3, (3, 30)),
            (4, (3, 30)),
            (5, (3, 30)),
            (6, (6, 40)),
            (7, (6, 40)),
            (8, (8, 40)),
            (9, UNDEFINED),
        ] {
            let found = end_of(LeaderEpoch(asked), &epochs, LeaderEpoch(8), Offset(40));
            assert_eq!(found, expected, "{asked}");
        }
        let of_empty = |asked| end_of(LeaderEpoch(asked), &[], LeaderEpoch(8), Offset(40));
        assert_eq!((of_empty(8), of_empty(7), of_empty(9)), ((8, 40), UNDEFINED, UNDEFINED));
    }
}
