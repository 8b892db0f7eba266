//! What a gateway sees.

use std::time::{Duration, Instant};

use wire::ids::Tag;
use wire::seq::StreamSeq;
use wire::uplink::{Frame, GoodbyeReason};

use crate::gauge::OneGauge;
use crate::harness::{Broker, PATIENCE, append, goodbye, read_frame, read_state, values};

#[tokio::test(flavor = "multi_thread")]
async fn readings_reach_consumers_and_state_survives_a_restart() {
    let mut broker = Broker::start().await;
    let mut gateway = broker.gateway("plant-1").await;
    let (topic, states) = gateway.welcome(Vec::new()).await;
    assert!(states.is_empty());
    let stream = gateway.stream(topic);
    // Pipelined on a data stream; the third is the second again.
    let (mut send, mut receive) = gateway.connection.open_bi().await.unwrap();
    for (base, tags, values) in
        [(0, (0, 10), &["21.5", "21.6"][..]), (2, (10, 11), &["21.7"]), (2, (10, 11), &["21.7"])]
    {
        let frame = append(stream, base, tags, values);
        send.write_all(&frame).await.unwrap();
    }
    for answers in [10, 11, 11] {
        assert_eq!(read_state(&mut receive).await.answers, Tag(answers));
    }
    let mut consumer = broker.kafka().await;
    let found = values(&consumer.fetch("telemetry", 4, 0).await);
    assert_eq!(found, ["21.5", "21.6", "21.7"]);

    broker.stop().await;
    assert_eq!(goodbye(&mut gateway.receive).await, GoodbyeReason::Stopping);
    broker.go().await.unwrap();
    let mut gateway = broker.gateway("plant-1").await;
    let (same, states) = gateway.welcome(vec![stream]).await;
    assert_eq!(same, topic);
    let (_, state) = states[0];
    assert_eq!((state.last, state.tag), (StreamSeq::new(2), Tag(11)));
    let frame = append(stream, 2, (10, 11), &["21.7"]);
    gateway.send.write_all(&frame).await.unwrap();
    assert_eq!(read_state(&mut gateway.receive).await.state, Some(state));
    let frame = append(stream, 3, (11, 12), &["21.8"]);
    gateway.send.write_all(&frame).await.unwrap();
    let state = read_state(&mut gateway.receive).await.state.unwrap();
    assert_eq!((state.last, state.tag), (StreamSeq::new(3), Tag(12)));
    let mut consumer = broker.kafka().await;
    let found = values(&consumer.fetch("telemetry", 4, 2).await);
    assert_eq!(found, ["21.7", "21.8"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_of_a_long_window_is_answered_once() {
    const FRAMES: i32 = 500;
    let mut broker = Broker::start().await;
    let mut gateway = broker.gateway("plant-1").await;
    let (topic, _) = gateway.welcome(Vec::new()).await;
    let stream = gateway.stream(topic);
    let (mut send, mut receive) = gateway.connection.open_bi().await.unwrap();
    let value = "x".repeat(10_000);
    // More than the session's credits: the broker reads on as it answers.
    let sending = async {
        for base in 0..FRAMES {
            let tag = u64::try_from(base).unwrap();
            let frame = append(stream, base, (tag, tag + 1), &[&value]);
            send.write_all(&frame).await.unwrap();
        }
        send.finish().unwrap();
    };
    let receiving = async {
        for base in 0..FRAMES {
            let state = read_state(&mut receive).await;
            assert_eq!(state.answers.0, u64::try_from(base).unwrap() + 1);
            assert!(state.state.unwrap().last >= StreamSeq::new(base));
        }
        assert_eq!(read_frame(&mut receive).await, None, "and nothing else");
    };
    tokio::join!(sending, receiving);
    // The stream has ended, the session has not.
    let last = u64::try_from(FRAMES).unwrap();
    let frame = append(stream, FRAMES, (last, last + 1), &["end"]);
    gateway.send.write_all(&frame).await.unwrap();
    assert_eq!(read_state(&mut gateway.receive).await.answers, Tag(last + 1));
    broker.stop().await;
}

/// On one thread, so that this broker's gauge is read and no other's.
#[tokio::test]
async fn a_gateway_that_goes_away_leaves_no_session_behind() {
    let sessions = OneGauge::of("culvert_broker_uplink_sessions");
    let _recording = metrics::set_default_local_recorder(&sessions);
    let mut broker = Broker::start().await;
    for _ in 0..3 {
        let mut gateway = broker.gateway("plant-1").await;
        gateway.welcome(Vec::new()).await;
        gateway.connection.close(0_u32.into(), b"gone");
    }
    let mut gateway = broker.gateway("plant-1").await;
    gateway.welcome(Vec::new()).await;
    let leave = Frame::Goodbye(GoodbyeReason::Stopping, "").encode().unwrap();
    gateway.send.write_all(&leave).await.unwrap();
    gateway.connection.closed().await;
    // HELLO has reached the broker, but the session ends before its WELCOME is seen.
    for rest in [&leave[..], &[9, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1], b""] {
        let mut gateway = broker.gateway("plant-1").await;
        let hello = gateway.hello(Vec::new()).encode().unwrap();
        gateway.send.write_all(&[&hello[..], rest].concat()).await.unwrap();
        gateway.send.finish().unwrap();
        gateway.connection.closed().await;
    }
    let mut staying = broker.gateway("plant-2").await;
    staying.welcome(Vec::new()).await;
    sessions.becomes(1.0).await;
    staying.connection.close(0_u32.into(), b"gone");
    sessions.becomes(0.0).await;
    broker.stop().await;
}

/// A killed broker cannot say goodbye. Its successor has the same keys, so its answer to a packet of the old connection
/// is a reset that the gateway believes, long before the idle timeout of a minute.
#[test]
fn a_restart_is_noticed_at_once() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client_side = runtime();
    let first = runtime();
    let mut broker = Broker::prepared();
    first.block_on(broker.go()).unwrap();
    broker.settings.quic_listen = broker.quic_address();
    let mut gateway = client_side.block_on(broker.gateway("plant-1"));
    client_side.block_on(gateway.welcome(Vec::new()));
    first.shutdown_timeout(Duration::from_secs(5));

    let second = runtime();
    second.block_on(broker.go()).unwrap();
    let restarted = Instant::now();
    client_side.block_on(async {
        // Any packet will do.
        let _ = gateway.send.write_all(b"\0\0\0\0").await;
        let closed = tokio::time::timeout(PATIENCE, gateway.connection.closed()).await;
        assert!(
            matches!(closed, Ok(quinn::ConnectionError::Reset)),
            "{closed:?} after {:?}",
            restarted.elapsed()
        );
    });
    second.block_on(broker.stop());
}
