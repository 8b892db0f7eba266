//! DescribeLogDirs, versions 1 to 4.
//!
//! There is one place for everything, and partitions share its files: a partition's size is that of its record batches, as if it
//! had files of its own.

use std::collections::BTreeMap;

use broker_kafka::generated::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use broker_kafka::runtime::Text;
use broker_log::Log;

use super::partition_of;
use crate::broker::DiskSpace;
use crate::metadata::{Image, Topic};

/// A DescribeLogDirs request.
#[derive(Debug)]
pub struct LogDirsQuery {
    /// `None`: every partition. A topic that is named twice has all that it is named with.
    topics: Option<BTreeMap<String, Vec<i32>>>,
}

/// The answer.
#[derive(Debug)]
pub struct LogDirsAnswer {
    log_dir: Text,
    space: Option<DiskSpace>,
    topics: Vec<(Text, Vec<(i32, u64)>)>,
}

impl LogDirsQuery {
    /// Takes what matters from a request.
    pub(super) fn new(request: &DescribeLogDirsRequest) -> Self {
        let topics = request.topics.as_ref().map(|topics| {
            let mut wanted: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            for topic in topics {
                wanted.entry(topic.topic.to_string()).or_default().extend(&topic.partitions);
            }
            for partitions in wanted.values_mut() {
                partitions.sort_unstable();
                partitions.dedup();
            }
            wanted
        });
        Self { topics }
    }

    /// The answer as the log stands now. What does not exist is left out, as on Kafka.
    pub(crate) fn look(
        self,
        log: &Log,
        image: &Image,
        log_dir: &str,
        space: Option<DiskSpace>,
    ) -> LogDirsAnswer {
        let sizes = |topic: &Topic, partitions: &mut dyn Iterator<Item = i32>| {
            let sized = partitions.filter_map(|index| {
                let key = partition_of(topic, index).ok()?;
                Some((index, log.partition_bytes(key)?))
            });
            (Text::from(topic.name.as_str()), sized.collect::<Vec<_>>())
        };
        let topics = match self.topics {
            None => {
                let all = |topic: &Topic| 0..i32::try_from(topic.partitions).unwrap_or(i32::MAX);
                image.topics().map(|topic| sizes(topic, &mut all(topic))).collect()
            }
            Some(wanted) => {
                let known = wanted.into_iter().filter_map(|(name, partitions)| {
                    Some(sizes(image.by_name(&name)?, &mut partitions.into_iter()))
                });
                known.filter(|(_, partitions)| !partitions.is_empty()).collect()
            }
        };
        LogDirsAnswer { log_dir: Text::from(log_dir), space, topics }
    }
}

impl LogDirsAnswer {
    pub(super) fn into_response(self) -> DescribeLogDirsResponse {
        let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let topics = self.topics.into_iter().map(|(name, partitions)| {
            let partitions =
                partitions.into_iter().map(|(partition_index, bytes)| DescribeLogDirsPartition {
                    partition_index,
                    partition_size: size(bytes),
                    offset_lag: 0,
                    is_future_key: false,
                });
            DescribeLogDirsTopic { name, partitions: partitions.collect() }
        });
        let result = DescribeLogDirsResult {
            error_code: 0,
            log_dir: self.log_dir,
            topics: topics.collect(),
            // −1 is Kafka's "unknown".
            total_bytes: self.space.map_or(-1, |space| size(space.total_bytes)),
            usable_bytes: self.space.map_or(-1, |space| size(space.usable_bytes)),
        };
        DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
    }
}
