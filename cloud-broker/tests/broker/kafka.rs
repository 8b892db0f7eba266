//! What a Kafka client sees.

use broker_kafka::generated::api_versions::ApiVersionsRequest;
use broker_kafka::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use broker_kafka::generated::metadata::MetadataRequest;
use broker_kafka::runtime::Text;
use broker_kafka::versions::ADVERTISED;
use broker_kafka::{ApiKey, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Broker, Kafka, fetch, metadata, produce, values};

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_and_survive_a_restart() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    let Response::ApiVersions(versions) = client.call(3, ApiVersionsRequest::default()).await
    else {
        panic!("not an ApiVersions response");
    };
    assert_eq!(versions.api_keys.len(), ADVERTISED.len());
    let described = client.make_topic("t").await;
    let port = i32::from(broker.kafka_address().port());
    assert_eq!(described.brokers[0].port, port);
    assert_eq!(client.produce("t", &["a", "b"]).await, 0);
    assert_eq!(client.produce("t", &["c"]).await, 2);
    assert_eq!(values(&client.fetch("t", 0, 0).await), ["a", "b", "c"]);

    broker.stop().await;
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    let again = client.make_topic("t").await;
    assert_eq!(again.cluster_id, described.cluster_id);
    assert_eq!(again.topics[0].topic_id, described.topics[0].topic_id);
    // Nothing is in memory now: this comes from the files.
    assert_eq!(values(&client.fetch("t", 0, 1).await), ["a", "b", "c"]);
    assert_eq!(client.produce("t", &["d"]).await, 3);
    assert_eq!(values(&client.fetch("t", 0, 2).await), ["c", "d"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_keep_the_order_of_the_requests() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    // The fetch waits for what another client produces; what was asked behind it waits with it.
    let waiting = client.send(12, fetch("t", 0, 0, 10_000)).await;
    let behind = client.send(12, metadata("t")).await;
    let produced = client.send(9, produce("t", -1, &["mine"])).await;
    let last = client.send(0, ApiVersionsRequest::default()).await;
    let Response::Fetch(response) = client.receive(&waiting).await else {
        panic!("not a fetch response");
    };
    assert_eq!(values(&response), ["mine"]);
    for header in [behind, produced, last] {
        client.receive(&header).await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_behind_what_waits_is_not_answered_ahead() {
    let mut broker = Broker::start().await;
    let mut other = broker.kafka().await;
    other.make_topic("t").await;
    let mut client = broker.kafka().await;
    let waiting = client.send(12, fetch("t", 0, 0, 20_000)).await;
    // Each is carried out as soon as it is asked.
    let mut behind = Vec::new();
    for n in 0..20 {
        behind.push(client.send(12, metadata(&format!("t{n}"))).await);
    }
    let only_look = |n: usize| MetadataRequest {
        allow_auto_topic_creation: false,
        ..metadata(&format!("t{n}"))
    };
    let is_there = async |client: &mut Kafka, n| {
        let Response::Metadata(found) = client.call(12, only_look(n)).await else {
            panic!("not a metadata response");
        };
        found.topics[0].error_code == 0
    };
    while !is_there(&mut other, 0).await {}
    // What had been asked by now would be stored with these, or before.
    for name in ["u", "v", "w"] {
        other.make_topic(name).await;
    }
    assert!(!is_there(&mut other, 5).await, "answers pile up for a client that waits");
    other.produce("t", &["a"]).await;
    client.receive(&waiting).await;
    for header in behind {
        client.receive(&header).await;
    }
    assert!(is_there(&mut other, 19).await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_api_versions_request_is_answered_in_version_0() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    let key = ApiKey::ApiVersions as i16;
    let mut frame = Vec::new();
    frame.extend_from_slice(&14_i32.to_be_bytes());
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&99_i16.to_be_bytes());
    frame.extend_from_slice(&7_i32.to_be_bytes());
    frame.extend_from_slice(&(-1_i16).to_be_bytes());
    frame.extend_from_slice(b"\0new");
    client.socket.write_all(&frame).await.unwrap();
    let length = client.socket.read_u32().await.unwrap();
    let mut response = vec![0; length as usize];
    client.socket.read_exact(&mut response).await.unwrap();
    assert_eq!(response[..4], 7_i32.to_be_bytes());
    assert_eq!(response[4..6], 35_i16.to_be_bytes());
    // The connection goes on.
    client.call(4, ApiVersionsRequest::default()).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_has_no_response_and_closes_on_failure() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    client.send(9, produce("t", 0, &["quiet"])).await;
    // The next response on the wire is the next request's.
    client.make_topic("t").await;
    let mut reader = broker.kafka().await;
    let Response::Fetch(response) = reader.call(12, fetch("t", 0, 0, 5_000)).await else {
        panic!("not a fetch response");
    };
    assert_eq!(values(&response), ["quiet"]);
    client.send(9, produce("unknown", 0, &["lost"])).await;
    assert!(client.is_closed().await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_is_sent_before_a_failure_closes_the_connection() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    // The last one is refused at once, while the first still waits for the disk.
    let produced = client.send(9, produce("t", -1, &["a"])).await;
    let described = client.send(12, metadata("t")).await;
    client.send(9, produce("unknown", 0, &["lost"])).await;
    for header in [produced, described] {
        assert!(client.try_receive(&header).await.is_some());
    }
    assert!(client.is_closed().await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_fetches_read_many_files() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    let value = "x".repeat(200 << 10);
    for _ in 0..20 {
        client.produce("t", &[&value]).await;
    }
    broker.stop().await;
    let files = std::fs::read_dir(broker.wal_folder()).unwrap();
    assert!(files.count() > 4, "4 MiB in files of 1 MiB");
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    let all = values(&client.fetch("t", 0, 0).await);
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|found| *found == value));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_looked_up_in_files() {
    let mut broker = Broker::start().await;
    broker.kafka().await.make_topic("t").await;
    broker.kafka().await.produce("t", &["a", "b"]).await;
    broker.stop().await;
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    for (timestamp, offset) in [(-1, 2), (-2, 0), (-3, 0), (1, 0), (1_800_000_000_000, -1)] {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: Text::from("t"),
                partitions: vec![ListOffsetsPartition {
                    current_leader_epoch: -1,
                    timestamp,
                    ..ListOffsetsPartition::default()
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let Response::ListOffsets(response) = client.call(10, request).await else {
            panic!("not a ListOffsets response");
        };
        let found = &response.topics[0].partitions[0];
        assert_eq!((found.error_code, found.offset), (0, offset), "{timestamp}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_produce_and_nothing_is_lost() {
    const CLIENTS: usize = 20;
    const ROUNDS: usize = 20;
    let mut broker = Broker::start().await;
    broker.kafka().await.make_topic("t").await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let address = broker.kafka_address();
        clients.spawn(async move {
            let mut kafka = Kafka::connect(address).await;
            let mut offsets = Vec::new();
            for round in 0..ROUNDS {
                let value = format!("{client}/{round}");
                offsets.push((kafka.produce("t", &[&value]).await, value));
            }
            offsets
        });
    }
    let mut expected: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    expected.sort();
    broker.stop().await;
    broker.go().await.unwrap();
    let found = values(&broker.kafka().await.fetch("t", 0, 0).await);
    let expected: Vec<_> = (0..)
        .zip(expected)
        .map(|(at, (offset, value))| {
            assert_eq!(at, offset, "offsets are dense");
            value
        })
        .collect();
    assert_eq!(found, expected);
    broker.stop().await;
}
