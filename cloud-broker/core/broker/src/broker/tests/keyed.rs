//! What compacted topics take.

use broker_kafka::ErrorCode;
use broker_kafka::generated::Request;
use broker_kafka::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use broker_kafka::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use broker_kafka::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use broker_kafka::runtime::Text;
use broker_log::COMPACTED_BATCH_RECORDS_MAX;
use wire::record_batch::{Codec, Record, RecordBatchBuilder};

use super::*;

const INVALID: i16 = ErrorCode::InvalidRecord as i16;

fn keyed(keys: &[Option<&str>]) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new();
    for key in keys {
        builder.push(&Record {
            timestamp: UnixMs(1),
            key: key.map(str::as_bytes),
            value: Some(b"v"),
            headers: &[],
        });
    }
    builder
}

fn sealed(builder: &RecordBatchBuilder, records: &[u8], codec: Codec) -> Bytes {
    let producer =
        BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
    Bytes::from(builder.seal(producer, codec, records).unwrap())
}

fn plain(keys: &[Option<&str>]) -> Bytes {
    let builder = keyed(keys);
    sealed(&builder, builder.records(), Codec::None)
}

fn create(sim: &mut Sim, name: &str, policy: &str) {
    let topic = CreatableTopic {
        name: Text::from(name),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig {
            name: Text::from("cleanup.policy"),
            value: Some(Text::from(policy)),
        }],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    sim.admin(7, Request::from(request));
}

fn set_policy(sim: &mut Sim, topic: &str, policy: &str) {
    let policy = AlterableConfig {
        name: Text::from("cleanup.policy"),
        value: Some(Text::from(policy)),
        ..AlterableConfig::default()
    };
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: Text::from(topic),
        configs: vec![policy],
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        ..IncrementalAlterConfigsRequest::default()
    };
    sim.admin(1, Request::from(request));
}

fn delete(sim: &mut Sim, name: &str) {
    let topic = DeleteTopicState { name: Some(Text::from(name)), topic_id: Uuid::ZERO };
    let request = DeleteTopicsRequest { topics: vec![topic], ..DeleteTopicsRequest::default() };
    sim.admin(6, Request::from(request));
}

/// Error, and the record that it names.
fn produce_to(sim: &mut Sim, version: i16, topic: &str, batch: Bytes) -> (i16, Option<i32>) {
    let mut request = produce(topic, 0, -1, batch);
    if version >= 13 {
        let asked = sim.metadata(13, &[topic]);
        request.topic_data[0].topic_id = sim.metadata_answer(asked).topics[0].topic_id;
    }
    let asker = sim.request(version, Request::from(request));
    sim.commit();
    let produced = sim.produced(asker);
    let record = produced.record_errors.first().map(|error| error.batch_index);
    (produced.error_code, record)
}

#[test]
fn a_compacted_topic_takes_only_records_with_keys() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    create(&mut sim, "compacted", "compact");
    create(&mut sim, "both", "compact,delete");
    create(&mut sim, "deleted", "delete");
    let refused = |record| (INVALID, Some(record));
    let fine = (OK, None);
    let (with, without) = (plain(&[Some("a"), Some("")]), plain(&[Some("a"), Some("b"), None]));
    for version in [9, 13] {
        for (topic, batch, expected) in [
            ("compacted", &with, fine),
            ("compacted", &without, refused(2)),
            ("both", &with, fine),
            ("both", &without, refused(2)),
            ("deleted", &without, fine),
            ("t", &without, fine),
        ] {
            let answer = produce_to(&mut sim, version, topic, batch.clone());
            assert_eq!(answer, expected, "{topic}, version {version}");
        }
    }
}

#[test]
fn what_cannot_be_compacted_is_not_taken() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    create(&mut sim, "compacted", "compact");
    let builder = keyed(&[Some("a"), Some("b")]);
    let compressed = zstd::encode_all(builder.records(), 3).unwrap();
    let first_delta = wire::record_batch::HEADER_BYTES + 3;
    let unordered = changed(&plain(&[Some("a"), Some("b")]), |batch| batch[first_delta] = 2);
    let of_records = |count: u32| {
        changed(&plain(&[Some("a"), Some("b")]), |batch| {
            batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            batch[57..61].copy_from_slice(&count.to_be_bytes());
        })
    };
    for (batch, code) in [
        (of_records(COMPACTED_BATCH_RECORDS_MAX + 1), ErrorCode::MessageTooLarge as i16),
        (of_records(COMPACTED_BATCH_RECORDS_MAX), INVALID),
        (sealed(&builder, &compressed, Codec::Zstd), OK),
        (sealed(&builder, builder.records(), Codec::Zstd), INVALID),
        (sealed(&builder, &compressed[..compressed.len() - 4], Codec::Zstd), INVALID),
        (unordered, INVALID),
    ] {
        // Nobody looks into batches for other topics.
        assert_eq!(produce_to(&mut sim, 9, "t", batch.clone()), (OK, None));
        assert_eq!(produce_to(&mut sim, 9, "compacted", batch), (code, None));
    }
}

#[test]
fn who_needs_keys_changes_with_the_topics() {
    let mut sim = Sim::new(1 << 20);
    let keyless = || plain(&[None]);
    create(&mut sim, "a", "compact");
    create(&mut sim, "b", "delete");
    let before = std::sync::Arc::clone(sim.broker.keyed_topics());
    create(&mut sim, "c", "delete");
    assert!(std::sync::Arc::ptr_eq(&before, sim.broker.keyed_topics()), "nothing has changed");
    assert_eq!(produce_to(&mut sim, 9, "a", keyless()).0, INVALID);

    for (topic, policy, code) in [("a", "delete", OK), ("b", "compact", INVALID)] {
        set_policy(&mut sim, topic, policy);
        assert_eq!(produce_to(&mut sim, 9, topic, keyless()).0, code, "{topic}");
    }
    sim.restart();
    assert_eq!(produce_to(&mut sim, 9, "b", keyless()).0, INVALID, "after a start");
    // A topic of the same name is another one.
    delete(&mut sim, "b");
    create(&mut sim, "b", "delete");
    assert_eq!(produce_to(&mut sim, 9, "b", keyless()).0, OK);
    assert_eq!(**sim.broker.keyed_topics(), crate::KeyedTopics::default());
}
