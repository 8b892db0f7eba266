//! Compacted topics take only records with keys.

use broker_kafka::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use broker_kafka::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use broker_kafka::runtime::{Text, Uuid};
use broker_kafka::{ErrorCode, Request};
use bytes::Bytes;
use wire::ids::ProducerId;
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder, crc32c};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use super::OK;
use crate::sim::{Sim, batch, produce};

const INVALID: i16 = ErrorCode::InvalidRecord as i16;

/// A batch of records with these keys.
fn keyed(keys: &[Option<&str>]) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    for key in keys {
        builder.push(&Record {
            timestamp: UnixMs(1),
            key: key.map(str::as_bytes),
            value: Some(b"value"),
            headers: &[],
        });
    }
    let producer =
        BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
    Bytes::from(builder.seal(producer, Codec::None, builder.records()).unwrap())
}

fn with_policy(policy: &str) -> Sim {
    let mut sim = Sim::new(1 << 20);
    let topics = vec![CreatableTopic {
        name: Text::from("t"),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig {
            name: Text::from("cleanup.policy"),
            value: Some(Text::from(policy)),
        }],
        ..CreatableTopic::default()
    }];
    sim.admin(7, Request::from(CreateTopicsRequest { topics, ..CreateTopicsRequest::default() }));
    sim
}

/// The error of a batch.
fn produced(sim: &mut Sim, batch: Bytes) -> i16 {
    let asker = sim.produce("t", 0, batch);
    sim.commit();
    sim.produced(asker).error_code
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() {
    for (policy, code) in [("delete", OK), ("compact", INVALID), ("compact,delete", INVALID)] {
        let mut sim = with_policy(policy);
        for _life in 0..2 {
            assert_eq!(produced(&mut sim, batch(&["a"], 1)), code, "{policy}");
            let some = keyed(&[Some("k"), None]);
            assert_eq!(produced(&mut sim, some), code, "{policy}");
            let all = keyed(&[Some("k"), Some("")]);
            assert_eq!(produced(&mut sim, all), OK, "{policy}: an empty key is a key");
            sim.restart();
        }
    }
}

#[test]
fn a_compacted_topic_takes_nothing_that_cannot_be_decoded() {
    for (policy, code) in [("delete", OK), ("compact", INVALID)] {
        let mut sim = with_policy(policy);
        let mut odd = keyed(&[Some("k")]).to_vec();
        // The attributes say gzip.
        odd[22] |= 1;
        let crc = crc32c(&odd[21..]);
        odd[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(produced(&mut sim, Bytes::from(odd)), code, "{policy}");
    }
}

#[test]
fn other_partitions_and_topics_of_a_request_are_taken() {
    let mut sim = with_policy("compact");
    let made = sim.metadata(13, &["u"]);
    sim.store_control();
    sim.metadata_answer(made);
    let mut request = produce("t", 0, -1, batch(&["a"], 1));
    request.topic_data.extend(produce("u", 0, -1, batch(&["a"], 1)).topic_data);
    let asker = sim.request(9, Request::from(request));
    sim.commit();
    let Some(crate::Answer::Produce(answer)) = sim.answers.remove(&asker) else {
        panic!("not a produce answer");
    };
    let codes: Vec<i16> =
        answer.response.responses.iter().map(|t| t.partition_responses[0].error_code).collect();
    assert_eq!(codes, [INVALID, OK]);
    // By id it is the same topic.
    let mut request = produce("", 0, -1, batch(&["a"], 1));
    let id = sim.broker.metadata.image().by_name("t").unwrap().id;
    request.topic_data[0].topic_id = Uuid::from(id);
    let asker = sim.request(13, Request::from(request));
    assert_eq!(sim.produced(asker).error_code, INVALID);
}

#[test]
fn a_change_of_the_policy_counts_from_then_on() {
    let mut sim = with_policy("delete");
    for (policy, code) in [("compact", INVALID), ("delete", OK)] {
        let resources = vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: Text::from("t"),
            configs: vec![AlterableConfig {
                name: Text::from("cleanup.policy"),
                config_operation: 0,
                value: Some(Text::from(policy)),
            }],
        }];
        let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
        sim.admin(1, Request::from(request));
        assert_eq!(produced(&mut sim, batch(&["a"], 1)), code, "{policy}");
    }
}
