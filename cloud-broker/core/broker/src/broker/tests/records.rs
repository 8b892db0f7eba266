//! DeleteRecords, and what else tells or changes where a partition's records are: OffsetForLeaderEpoch, DescribeLogDirs.

use broker_kafka::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use broker_kafka::generated::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use broker_kafka::generated::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResponse,
};
use broker_kafka::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use broker_kafka::generated::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use broker_kafka::runtime::Text;
use broker_kafka::{ApiKey, ErrorCode, Request, Response};
use broker_log::Room;
use wire::time::UnixMs;

use super::{OK, lookups, values};
use crate::DiskSpace;
use crate::event::{Asker, Event};
use crate::sim::{Sim, batch, fetch};

const HIGH_WATERMARK: i64 = -1;

fn delete(topic: &str, partitions: &[(i32, i64)]) -> DeleteRecordsRequest {
    let partitions = partitions
        .iter()
        .map(|&(partition_index, offset)| DeleteRecordsPartition { partition_index, offset });
    DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Text::from(topic),
            partitions: partitions.collect(),
        }],
        timeout_ms: 30_000,
    }
}

fn log_dirs(topics: Option<&[(&str, &[i32])]>) -> DescribeLogDirsRequest {
    let topic = |&(topic, partitions): &(&str, &[i32])| DescribableLogDirTopic {
        topic: Text::from(topic),
        partitions: partitions.to_vec(),
    };
    DescribeLogDirsRequest { topics: topics.map(|topics| topics.iter().map(topic).collect()) }
}

fn epoch_end(topic: &str, partition: i32, current: i32, epoch: i32) -> OffsetForLeaderEpochRequest {
    OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: Text::from(topic),
            partitions: vec![OffsetForLeaderPartition {
                partition,
                current_leader_epoch: current,
                leader_epoch: epoch,
            }],
        }],
    }
}

/// Answers of these APIs that hold what they can hold.
pub(super) fn answers_of(sim: &mut Sim, api: ApiKey, version: i16) -> Vec<Response> {
    let requests: Vec<Request> = match api {
        ApiKey::DeleteRecords => ["t", "u"].map(|topic| delete(topic, &[(0, 9)]).into()).into(),
        ApiKey::OffsetForLeaderEpoch => [("t", 0), ("t", 9), ("u", 0)]
            .map(|(topic, epoch)| {
                // The field came with version 3.
                let replica_id = if version >= 3 { -1 } else { -2 };
                let request = epoch_end(topic, 0, -1, epoch);
                OffsetForLeaderEpochRequest { replica_id, ..request }.into()
            })
            .into(),
        ApiKey::DescribeLogDirs => {
            [None, Some(&[("t", &[0][..])][..])].map(|topics| log_dirs(topics).into()).into()
        }
        _ => Vec::new(),
    };
    requests.into_iter().map(|request| sim.admin(version, request)).collect()
}

impl Sim {
    /// Partition, low watermark and error of each.
    fn deletion(&mut self, asker: Asker) -> Vec<(i32, i64, i16)> {
        match self.admin_answer(asker) {
            Response::DeleteRecords(response) => {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                partitions.map(|p| (p.partition_index, p.low_watermark, p.error_code)).collect()
            }
            other => panic!("not the answer: {other:?}"),
        }
    }

    /// The same, for a request that is carried through.
    fn deletes(&mut self, topic: &str, partitions: &[(i32, i64)]) -> Vec<(i32, i64, i16)> {
        let asker = self.request(2, delete(topic, partitions).into());
        self.run_jobs();
        self.deletion(asker)
    }

    fn stores(&mut self, topic: &str, values: &[&str]) {
        for value in values {
            let asker = self.produce(topic, 0, batch(&[value], 1));
            self.commit();
            assert_eq!(self.produced(asker).error_code, OK);
        }
    }

    /// Error, log start and values of a fetch that does not wait.
    fn reads(&mut self, topic: &str, offset: i64) -> (i16, i64, Vec<String>) {
        let mut request = fetch(topic, 0, offset);
        request.max_wait_ms = 0;
        let asker = self.request(12, request.into());
        let response = self.fetched(asker);
        let partition = &response.responses[0].partitions[0];
        (partition.error_code, partition.log_start_offset, values(&response))
    }

    fn log_dirs(&mut self, topics: Option<&[(&str, &[i32])]>) -> DescribeLogDirsResponse {
        match self.admin(4, log_dirs(topics).into()) {
            Response::DescribeLogDirs(response) => response,
            other => panic!("not the answer: {other:?}"),
        }
    }

    /// Both clocks go on.
    fn passes(&mut self, ms: u64) {
        self.wall = UnixMs(self.wall.0 + ms as i64);
        self.wait_ms(ms);
        // As often as maintenance wants to be called.
        for _ in 0..3 {
            self.wait_ms(0);
        }
    }

    fn sets(&mut self, topic: &str, config: &str, value: &str) {
        let resources = vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: Text::from(topic),
            configs: vec![AlterableConfig {
                name: Text::from(config),
                config_operation: 0,
                value: Some(Text::from(value)),
            }],
        }];
        let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
        self.admin(1, request.into());
    }

    fn makes(&mut self, name: &str, policy: &str) {
        let topics = vec![CreatableTopic {
            name: Text::from(name),
            num_partitions: 1,
            replication_factor: 1,
            configs: vec![CreatableTopicConfig {
                name: Text::from("cleanup.policy"),
                value: Some(Text::from(policy)),
            }],
            ..CreatableTopic::default()
        }];
        let request = CreateTopicsRequest { topics, ..CreateTopicsRequest::default() };
        self.admin(7, request.into());
    }
}

#[test]
fn the_greatest_timestamp_is_that_of_what_is_left() {
    for tail_bytes in [0, 1 << 20] {
        let mut sim = Sim::with_topic(tail_bytes, "t");
        // The latest record lies in the same run as others, and is deleted.
        sim.produce("t", 0, batch(&["a"], 900));
        sim.produce("t", 0, batch(&["b"], 100));
        sim.commit();
        sim.produce("t", 0, batch(&["c"], 500));
        sim.commit();
        assert_eq!(lookups::look_up(&mut sim, 10, -3).offset, 0);
        sim.deletes("t", &[(0, 1)]);
        let found = lookups::look_up(&mut sim, 10, -3);
        assert_eq!((found.offset, found.timestamp), (2, 500), "tail {tail_bytes}");
    }
}

#[test]
fn deleted_records_are_gone_at_once_and_for_ever() {
    let out_of_range = i16::from(ErrorCode::OffsetOutOfRange);
    let mut sim = Sim::with_topic(0, "t");
    sim.stores("t", &["a", "b", "c"]);
    let asked = sim.request(2, delete("t", &[(0, 2)]).into());
    assert_eq!(sim.reads("t", 1).0, out_of_range, "it is gone for readers");
    assert_eq!(sim.reads("t", 2), (OK, 2, vec!["c".to_owned()]));
    sim.commit();
    assert!(!sim.answers.contains_key(&asked), "a crash would bring it back");
    assert_eq!(sim.run_jobs(), ["checkpoint"]);
    assert_eq!(sim.deletion(asked), [(0, 2, OK)]);
    sim.restart();
    assert_eq!(sim.reads("t", 1).0, out_of_range);
    assert_eq!(lookups::look_up(&mut sim, 10, -2).offset, 2);
    assert_eq!(sim.reads("t", 2), (OK, 2, vec!["c".to_owned()]));
    // Everything; and what is asked for again is done already.
    assert_eq!(sim.deletes("t", &[(0, HIGH_WATERMARK)]), [(0, 3, OK)]);
    assert_eq!(sim.deletes("t", &[(0, 0), (0, 1)]), [(0, 3, OK), (0, 3, OK)]);
    sim.restart();
    assert_eq!(sim.reads("t", 3), (OK, 3, Vec::new()));
    sim.stores("t", &["d"]);
    assert_eq!(sim.reads("t", 3), (OK, 3, vec!["d".to_owned()]));
}

#[test]
fn a_deletion_that_takes_too_long_is_said_to_have() {
    let mut sim = Sim::with_topic(0, "t");
    sim.stores("t", &["a", "b"]);
    let asked = sim.request(2, delete("t", &[(0, 1), (9, 0)]).into());
    let left = sim.request(2, delete("t", &[(0, 2)]).into());
    let gone = sim.asker(7);
    let keyed = sim.broker.keyed_topics();
    let request = crate::KafkaRequest::prepare(2, delete("t", &[(0, 2)]).into(), keyed).unwrap();
    sim.handle(Event::Kafka(gone, request));
    assert_eq!(sim.broker.stats().parked_answers, 3);
    sim.handle(Event::ClientGone(gone.client));
    assert_eq!(sim.broker.stats().parked_answers, 2);
    sim.wait_ms(29_999);
    assert!(sim.answers.is_empty());
    sim.wait_ms(1);
    let unknown = i16::from(ErrorCode::UnknownTopicOrPartition);
    let timed_out = i16::from(ErrorCode::RequestTimedOut);
    assert_eq!(sim.deletion(asked), [(0, -1, timed_out), (9, -1, unknown)]);
    assert_eq!(sim.deletion(left), [(0, -1, timed_out)]);
    // It happens all the same.
    assert_eq!(sim.run_jobs(), ["checkpoint"]);
    assert!(sim.answers.is_empty());
    assert_eq!(sim.reads("t", 2), (OK, 2, Vec::new()));
}

#[test]
fn what_is_not_deleted() {
    use ErrorCode as E;
    let mut sim = Sim::with_topic(0, "t");
    sim.stores("t", &["a", "b"]);
    sim.makes("compacted", "compact");
    sim.makes("both", "compact,delete");
    let find = broker_kafka::generated::find_coordinator::FindCoordinatorRequest {
        key: Text::from("group"),
        ..Default::default()
    };
    sim.request(3, find.into());
    sim.store_control();
    sim.answers.clear();
    // Not durable, so it cannot be deleted yet.
    sim.produce("t", 0, batch(&["c"], 1));
    for (topic, partition, offset, error) in [
        ("t", 0, 3, E::OffsetOutOfRange),
        ("t", 0, -2, E::OffsetOutOfRange),
        ("t", 0, i64::MAX, E::OffsetOutOfRange),
        ("t", 2, 0, E::UnknownTopicOrPartition),
        ("t", -1, 0, E::UnknownTopicOrPartition),
        ("u", 0, 0, E::UnknownTopicOrPartition),
        ("compacted", 0, 0, E::PolicyViolation),
        ("__consumer_offsets", 0, 0, E::InvalidTopicException),
    ] {
        let asked = sim.request(2, delete(topic, &[(partition, offset)]).into());
        let expected = [(partition, -1, i16::from(error))];
        assert_eq!(sim.deletion(asked), expected, "{topic} {partition} {offset}");
    }
    assert_eq!(sim.deletes("both", &[(0, 0)]), [(0, 0, OK)]);
    assert_eq!(sim.reads("t", 0).2, ["a", "b", "c"]);
}

#[test]
fn the_end_of_each_life_is_told() {
    use ErrorCode as E;
    let mut sim = Sim::with_topic(0, "t");
    let first = sim.broker.log.leader_epoch().0;
    sim.stores("t", &["a", "b"]);
    sim.restart();
    sim.restart();
    sim.stores("t", &["c"]);
    let now = sim.broker.log.leader_epoch().0;
    // A lookup tells the epoch of the record that it finds.
    for (time, offset, epoch) in [(-2, 0, first), (1, 0, first), (-3, 0, first), (-1, 3, now)] {
        let found = lookups::look_up(&mut sim, 10, time);
        assert_eq!((found.offset, found.leader_epoch), (offset, epoch), "{time}");
    }
    let mut end = |topic: &str, partition, current, epoch| {
        let request = epoch_end(topic, partition, current, epoch);
        match sim.admin(4, request.into()) {
            Response::OffsetForLeaderEpoch(response) => {
                let end = &response.topics[0].partitions[0];
                assert_eq!(end.partition, partition);
                (end.error_code, end.leader_epoch, end.end_offset)
            }
            other => panic!("not the answer: {other:?}"),
        }
    };
    assert_eq!(now, first + 2);
    assert_eq!(end("t", 0, now, first), (OK, first, 2));
    assert_eq!(end("t", 0, -1, first + 1), (OK, first, 2), "nothing was stored in it");
    assert_eq!(end("t", 0, -1, now), (OK, now, 3));
    assert_eq!(end("t", 0, -1, now + 1), (OK, -1, -1));
    assert_eq!(end("t", 0, -1, -1), (OK, -1, -1));
    assert_eq!(end("t", 0, now - 1, first), (E::FencedLeaderEpoch.into(), -1, -1));
    assert_eq!(end("t", 0, now + 1, first), (E::UnknownLeaderEpoch.into(), -1, -1));
    assert_eq!(end("t", 2, -1, first), (E::UnknownTopicOrPartition.into(), -1, -1));
    assert_eq!(end("u", 0, -1, first), (E::UnknownTopicOrPartition.into(), -1, -1));
}

#[test]
fn sizes_of_partitions_are_told() {
    let mut sim = Sim::with_topic(0, "t");
    sim.makes("u", "delete");
    let bytes = batch(&["a"], 1).len() as i64;
    sim.stores("t", &["a", "b"]);
    let told = |response: &DescribeLogDirsResponse| {
        let topics = response.results[0].topics.iter();
        let partitions = topics.flat_map(|topic| {
            let sizes = topic.partitions.iter();
            sizes.map(|p| (topic.name.to_string(), p.partition_index, p.partition_size))
        });
        partitions.collect::<Vec<_>>()
    };
    let of = |topic: &str, partition, size| (topic.to_owned(), partition, size);
    let all = sim.log_dirs(None);
    assert_eq!(told(&all), [of("t", 0, 2 * bytes), of("t", 1, 0), of("u", 0, 0)]);
    let dir = &all.results[0];
    assert_eq!((&*dir.log_dir, dir.total_bytes, dir.usable_bytes), ("/log", -1, -1));
    let some = sim.log_dirs(Some(&[("t", &[1, 0, 9, 1]), ("x", &[0]), ("u", &[-1])]));
    assert_eq!(told(&some), [of("t", 0, 2 * bytes), of("t", 1, 0)]);
    assert!(told(&sim.log_dirs(Some(&[]))).is_empty());

    let room = Room { ready_files: 9, below_floor: false, ..Room::ENDLESS };
    sim.broker.set_room(room, DiskSpace { total_bytes: 100, usable_bytes: u64::MAX });
    sim.deletes("t", &[(0, 1)]);
    let all = sim.log_dirs(None);
    assert_eq!(told(&all)[0], of("t", 0, bytes));
    assert_eq!((all.results[0].total_bytes, all.results[0].usable_bytes), (100, i64::MAX));
}

#[test]
fn records_expire_by_the_configs_of_their_topic() {
    const DAY_MS: u64 = 86_400_000;
    let mut sim = Sim::with_topic(0, "t");
    sim.stores("t", &["a"]);
    sim.passes(DAY_MS);
    sim.stores("t", &["b"]);
    sim.passes(6 * DAY_MS - 10_000);
    assert_eq!(sim.reads("t", 0).1, 0, "the default is a week");
    sim.passes(20_000);
    assert_eq!(sim.reads("t", 1), (OK, 1, vec!["b".to_owned()]));
    // Another setting counts from then on, and after a start.
    sim.sets("t", "retention.ms", "-1");
    sim.passes(30 * DAY_MS);
    assert_eq!(sim.reads("t", 1).1, 1, "for ever");
    sim.stores("t", &["c", "d"]);
    sim.sets("t", "retention.bytes", &batch(&["d"], 1).len().to_string());
    sim.restart();
    sim.passes(1_000);
    assert_eq!(sim.reads("t", 3), (OK, 3, vec!["d".to_owned()]));
    assert_eq!(lookups::look_up(&mut sim, 10, -2).offset, 3);
    let out_of_range = i16::from(ErrorCode::OffsetOutOfRange);
    assert_eq!(sim.reads("t", 2).0, out_of_range);
    // A topic that is only compacted keeps everything.
    sim.sets("t", "cleanup.policy", "compact");
    sim.sets("t", "retention.ms", "1");
    sim.passes(30 * DAY_MS);
    assert_eq!(sim.reads("t", 3).1, 3);
}
