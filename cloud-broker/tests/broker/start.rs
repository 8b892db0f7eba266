//! Starting: fast, or not at all and with a reason.

use std::time::{Duration, Instant};

use cloud_broker::{StartError, WalError};

use crate::harness::{Broker, produce, values};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_is_served_quickly() {
    let mut broker = Broker::prepared();
    let begun = Instant::now();
    broker.go().await.unwrap();
    let took = begun.elapsed();
    // Unoptimised and beside other tests; optimised and alone it is a tenth of this.
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(broker.running().probe.ready(), Ok(()));
    let probe = std::sync::Arc::clone(&broker.running().probe);
    broker.stop().await;
    assert!(probe.live().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_port_is_named_with_its_flag() {
    let mut broker = Broker::start().await;
    let mut second = Broker::prepared();
    second.settings.kafka_listen = broker.kafka_address();
    let error = second.go().await.unwrap_err().to_string();
    assert!(error.starts_with("--kafka-listen: 127.0.0.1:"), "{error}");
    let mut third = Broker::prepared();
    third.settings.quic_listen = broker.quic_address();
    let error = third.go().await.unwrap_err().to_string();
    assert!(error.starts_with("--quic-listen: 127.0.0.1:"), "{error}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_do_not_share_a_folder() {
    let mut broker = Broker::start().await;
    let mut second = Broker::prepared();
    second.settings.data_dir = broker.settings.data_dir.clone();
    let error = second.go().await.unwrap_err();
    assert!(matches!(error, StartError::Wal(WalError::Locked { .. })), "{error}");
    broker.stop().await;
    second.go().await.unwrap();
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_listener_needs_a_word() {
    let mut broker = Broker::prepared();
    broker.settings.kafka_listen = ([0, 0, 0, 0], 0).into();
    let error = broker.go().await.unwrap_err().to_string();
    assert!(error.contains("insecure"), "{error}");
    broker.settings.insecure = true;
    broker.go().await.unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_metadata_is_not_made_anew_over_a_log() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    client.produce("t", &["a"]).await;
    broker.stop().await;
    let file = broker.settings.data_dir.join("ctl").join("cluster");
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let error = broker.go().await.unwrap_err();
    assert!(matches!(error, StartError::Broker(_)), "{error}");
    std::fs::write(&file, b"damaged").unwrap();
    assert!(broker.go().await.is_err());
    std::fs::write(&file, kept).unwrap();
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    assert_eq!(client.produce("t", &["b"]).await, 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_ends_the_broker_without_an_answer() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    client.produce("t", &["kept"]).await;
    let probe = std::sync::Arc::clone(&broker.running().probe);
    // The file that is open can be written on; the next one cannot be made.
    let gone = broker.settings.data_dir.join("gone");
    std::fs::rename(broker.wal_folder(), &gone).unwrap();
    let value = "x".repeat(100 << 10);
    let mut acknowledged = 1;
    loop {
        let header = client.send(9, produce("t", -1, &[&value])).await;
        match client.try_receive(&header).await {
            Some(_) => acknowledged += 1,
            None => break,
        }
        assert!(acknowledged < 100, "the file of 1 MiB is full at some time");
    }
    let why = broker.ended().await;
    assert!(why.starts_with("wal: "), "{why}");
    assert!(probe.live().is_err());

    std::fs::rename(&gone, broker.wal_folder()).unwrap();
    broker.go().await.unwrap();
    let found = values(&broker.kafka().await.fetch("t", 0, 0).await);
    assert!(found.len() >= acknowledged, "{} of {acknowledged}", found.len());
    broker.stop().await;
}
