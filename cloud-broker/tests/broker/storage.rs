//! What the log does with its disk, on real files: sealing, checkpoints, sorting, giving space back, too little space.

use std::path::Path;
use std::time::Duration;

use broker_kafka::Response;
use broker_kafka::generated::delete_topics::DeleteTopicsRequest;
use broker_kafka::runtime::Text;
use tokio::time::{sleep, timeout};

use crate::gauge::OneGauge;
use crate::harness::{Broker, Kafka, PATIENCE, fetch, produce, values};

const KAFKA_STORAGE_ERROR: i16 = 56;

/// A broker whose files are so small that a few requests fill them.
fn small_files() -> Broker {
    let mut broker = Broker::prepared();
    let storage = &mut broker.settings.storage;
    storage.log.wal_file_bytes = 256 << 10;
    storage.log.checkpoint_bytes_min = 1 << 20;
    storage.log.space_checkpoint_ms = 50;
    // What is read must come from files.
    storage.log.tail_bytes = 0;
    broker
}

fn value(n: usize) -> String {
    format!("{n:06}").repeat(2_000)
}

async fn fill(client: &mut Kafka, topic: &str, numbers: std::ops::Range<usize>) {
    for n in numbers {
        client.produce(topic, &[&value(n)]).await;
    }
}

/// Everything from `from` on.
async fn read_all(client: &mut Kafka, topic: &str, from: usize, end: usize) -> Vec<String> {
    let mut found = Vec::new();
    while from + found.len() < end {
        let offset = (from + found.len()) as i64;
        let more = values(&client.fetch(topic, 0, offset).await);
        assert!(!more.is_empty(), "nothing at {offset}");
        found.extend(more);
    }
    found
}

/// What the files in a folder and below it take up.
fn used(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => used(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

async fn becomes(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_leaves_nothing_to_replay() {
    let mut broker = small_files();
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    fill(&mut client, "t", 0..200).await;
    drop(client);
    broker.stop().await;

    let slots = OneGauge::of("culvert_broker_recovery_slots");
    {
        let _recorder = metrics::set_default_local_recorder(&slots);
        broker.go().await.unwrap();
        slots.becomes(0.0).await;
    }
    let mut client = broker.kafka().await;
    let found = read_all(&mut client, "t", 0, 200).await;
    assert!(found.iter().enumerate().all(|(n, found)| *found == value(n)));
    assert_eq!(client.produce("t", &["next"]).await, 200);
    drop(client);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_checkpoints_is_replayed() {
    let mut broker = small_files();
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    fill(&mut client, "t", 0..50).await;
    drop(client);
    broker.stop().await;
    // As the releases before checkpoints left it.
    std::fs::remove_dir_all(broker.settings.data_dir.join("ckpt")).unwrap();
    std::fs::remove_dir_all(broker.settings.data_dir.join("unit")).unwrap();
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    assert_eq!(read_all(&mut client, "t", 0, 50).await.len(), 50);
    drop(client);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_removed_at_the_next_start() {
    let mut broker = small_files();
    broker.go().await.unwrap();
    broker.kafka().await.make_topic("t").await;
    broker.stop().await;
    let data = broker.settings.data_dir.clone();
    let left = ["unit/00000000000000ff.unit", "unit/0000000000000100.unit.tmp", "wal/a.wal.tmp"]
        .map(|name| data.join(name));
    for path in &left {
        std::fs::write(path, b"half made").unwrap();
    }
    broker.go().await.unwrap();
    for path in &left {
        assert!(!path.exists(), "{}", path.display());
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_gives_its_space_back() {
    let mut broker = small_files();
    broker.go().await.unwrap();
    let data = broker.settings.data_dir.clone();
    let mut client = broker.kafka().await;
    client.make_topic("gone").await;
    client.make_topic("kept").await;
    fill(&mut client, "gone", 0..300).await;
    fill(&mut client, "kept", 0..5).await;
    let before = used(&data);
    assert!(before > 3 << 20, "{before} bytes of 300 records");
    let request = DeleteTopicsRequest {
        topic_names: vec![Text::from("gone")],
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    let Response::DeleteTopics(response) = client.call(5, request).await else {
        panic!("not a response of DeleteTopics");
    };
    assert_eq!(response.responses[0].error_code, 0);
    // What is left is the open file, what is ready, what `kept` lies in, and two checkpoints.
    becomes("space comes back", || used(&data) < 2 << 20).await;
    assert_eq!(read_all(&mut client, "kept", 0, 5).await.len(), 5);
    drop(client);
    broker.stop().await;
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    assert_eq!(read_all(&mut client, "kept", 0, 5).await.len(), 5);
    drop(client);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_runs_are_sorted_into_units_while_they_are_read() {
    let mut broker = small_files();
    let log = &mut broker.settings.storage.log;
    log.l0_bytes_max = 512 << 10;
    log.rewrite_bytes_min = 256 << 10;
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    let units = broker.settings.data_dir.join("unit");
    let mut written = 0;
    while files(&units) < 2 {
        assert!(written < 2_000, "nothing is ever sorted");
        fill(&mut client, "t", written..written + 20).await;
        written += 20;
        let found = read_all(&mut client, "t", 0, written).await;
        assert!(found.iter().enumerate().all(|(n, found)| *found == value(n)));
    }
    drop(client);
    broker.stop().await;
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    let found = read_all(&mut client, "t", 0, written).await;
    assert!(found.iter().enumerate().all(|(n, found)| *found == value(n)));
    drop(client);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_space_refuses_what_is_new_and_serves_what_is_there() {
    let mut broker = small_files();
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    fill(&mut client, "t", 0..10).await;
    drop(client);
    broker.stop().await;

    // No disk has so much: this is a start on a full one.
    broker.settings.storage.disk_free_floor_bytes = Some(u64::MAX);
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    let Response::Produce(response) = client.call(9, produce("t", -1, &["new"])).await else {
        panic!("not a response of Produce");
    };
    let refused = response.responses[0].partition_responses[0].error_code;
    assert_eq!(refused, KAFKA_STORAGE_ERROR);
    assert_eq!(read_all(&mut client, "t", 0, 10).await.len(), 10);
    assert_eq!(broker.running().probe.live(), Ok(()));
    let end = client.call(12, fetch("t", 0, 10, 0)).await;
    assert!(matches!(end, Response::Fetch(end) if values(&end).is_empty()));
    drop(client);
    broker.stop().await;

    broker.settings.storage.disk_free_floor_bytes = Some(0);
    broker.go().await.unwrap();
    assert_eq!(broker.kafka().await.produce("t", &["new"]).await, 10);
    broker.stop().await;
}
