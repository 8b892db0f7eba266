//! Topics that are made and deleted, and idempotent producers, over restarts.

use broker_kafka::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use broker_kafka::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use broker_kafka::generated::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use broker_kafka::generated::init_producer_id::InitProducerIdRequest;
use broker_kafka::runtime::{Text, Uuid};
use broker_kafka::{ErrorCode, Response};
use wire::ids::ProducerId;
use wire::record_batch::BatchProducer;
use wire::seq::{StreamEpoch, StreamSeq};

use crate::harness::{Broker, Kafka, keyed_batch, offset_of, produce_as, values};

async fn create(client: &mut Kafka, name: &str) -> Uuid {
    create_with(client, name, &[]).await
}

async fn create_with(client: &mut Kafka, name: &str, configs: &[(&str, &str)]) -> Uuid {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: Text::from(*name),
        value: Some(Text::from(*value)),
    });
    let topic = CreatableTopic {
        name: Text::from(name),
        num_partitions: 1,
        replication_factor: 3,
        configs: configs.collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    let Response::CreateTopics(response) = client.call(7, request).await else {
        panic!("not a CreateTopics response");
    };
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
    response.topics[0].topic_id
}

async fn producer_id(client: &mut Kafka) -> ProducerId {
    let request =
        InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
    let Response::InitProducerId(response) = client.call(5, request).await else {
        panic!("not an InitProducerId response");
    };
    assert_eq!(response.error_code, 0);
    ProducerId(response.producer_id)
}

async fn produce(client: &mut Kafka, id: ProducerId, base: i32, values: &[&str]) -> i64 {
    let producer =
        BatchProducer { id, epoch: StreamEpoch::FIRST, base: StreamSeq::new(base).unwrap() };
    let request = produce_as(producer, "t", -1, values);
    match client.call(9, request).await {
        Response::Produce(response) => offset_of(&response),
        other => panic!("not a produce response: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_recognised_by_the_next_life() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    create(&mut client, "t").await;
    let id = producer_id(&mut client).await;
    assert_eq!(produce(&mut client, id, 0, &["a", "b"]).await, 0);
    assert_eq!(produce(&mut client, id, 2, &["c"]).await, 2);
    assert_eq!(produce(&mut client, id, 0, &["a", "b"]).await, 0);
    broker.stop().await;
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    assert_eq!(produce(&mut client, id, 2, &["c"]).await, 2);
    assert_eq!(produce(&mut client, id, 3, &["d"]).await, 3);
    assert_ne!(producer_id(&mut client).await, id);
    assert_eq!(values(&client.fetch("t", 0, 0).await), ["a", "b", "c", "d"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_stays_deleted() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    let first = create(&mut client, "t").await;
    assert_eq!(client.produce("t", &["old"]).await, 0);
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: None, topic_id: first }],
        ..DeleteTopicsRequest::default()
    };
    let Response::DeleteTopics(response) = client.call(6, request).await else {
        panic!("not a DeleteTopics response");
    };
    assert_eq!(response.responses[0].error_code, 0);
    broker.stop().await;
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: Text::from("t"),
            configuration_keys: None,
        }],
        ..DescribeConfigsRequest::default()
    };
    let Response::DescribeConfigs(response) = client.call(4, request).await else {
        panic!("not a DescribeConfigs response");
    };
    let unknown = i16::from(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(response.results[0].error_code, unknown);
    assert_ne!(create(&mut client, "t").await, first);
    assert_eq!(client.produce("t", &["new"]).await, 0);
    assert_eq!(values(&client.fetch("t", 0, 0).await), ["new"]);
    // Once more, now that the log holds the batches of both.
    broker.stop().await;
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    assert_eq!(values(&client.fetch("t", 0, 0).await), ["new"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_takes_no_record_without_a_key() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    create_with(&mut client, "compacted", &[("cleanup.policy", "compact")]).await;
    for _ in 0..2 {
        let plain =
            BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
        let mut request = produce_as(plain, "compacted", -1, &["keyed"]);
        request.topic_data[0].partition_data[0].records =
            Some(keyed_batch(plain, None, &["keyless"]));
        let Response::Produce(response) = client.call(9, request).await else {
            panic!("not a produce response");
        };
        let produced = &response.responses[0].partition_responses[0];
        assert_eq!(produced.error_code, i16::from(ErrorCode::InvalidRecord));
        assert_eq!(produced.record_errors[0].batch_index, 0);
        assert!(client.produce("compacted", &["keyed"]).await >= 0);
        // The next life knows it from its first request on.
        broker.stop().await;
        broker.go().await.unwrap();
        client = broker.kafka().await;
    }
    broker.stop().await;
}
