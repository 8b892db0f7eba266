//! What peers do to a broker that they should not, and that it goes on for the others.

use std::time::Duration;

use broker_kafka::generated::api_versions::ApiVersionsRequest;
use tokio::io::AsyncWriteExt;
use wire::uplink::{Frame, GoodbyeReason};

use crate::harness::{Authority, Broker, Gateway, fetch, goodbye, metadata, values};

/// Numbers that look random and are the same every time (xorshift).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 as u8
        };
        (0..len).map(|_| next()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_close_their_connection_only() {
    let mut broker = Broker::start().await;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut good = broker.kafka().await;
    for round in 0..200_usize {
        let mut bad = broker.kafka().await;
        let mut bytes = noise.bytes(16 + round);
        // Half of them are frames of plausible length and key.
        if round % 2 == 0 {
            let length = u32::try_from(bytes.len() - 4).unwrap();
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            let key = [0_i16, 1, 2, 3, 18][round / 2 % 5];
            bytes[4..6].copy_from_slice(&key.to_be_bytes());
            bytes[6..8].copy_from_slice(&5_i16.to_be_bytes());
        }
        // The broker may close before everything is written.
        let _ = bad.socket.write_all(&bytes).await;
        let _ = bad.socket.shutdown().await;
        let mut rest = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut bad.socket, &mut rest);
        let closed = tokio::time::timeout(Duration::from_secs(10), read).await;
        assert!(closed.is_ok(), "round {round} was not closed");
        good.call(3, ApiVersionsRequest::default()).await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_too_long_are_not_waited_for() {
    let mut broker = Broker::start().await;
    for (length, key) in
        [(i32::MAX, 0_i16), (101 << 20, 0), ((1 << 20) + 1, 3), (-1, 3), (0, 3), (9, 18)]
    {
        let mut client = broker.kafka().await;
        let mut head = length.to_be_bytes().to_vec();
        head.extend_from_slice(&key.to_be_bytes());
        client.socket.write_all(&head).await.unwrap();
        assert!(client.is_closed().await, "length {length} for API {key}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_in_a_frame_holds_up_nobody() {
    let mut broker = Broker::start().await;
    let mut hanging = Vec::new();
    for _ in 0..20 {
        let mut client = broker.kafka().await;
        let mut head = (1_i32 << 20).to_be_bytes().to_vec();
        head.extend_from_slice(&0_i16.to_be_bytes());
        client.socket.write_all(&head).await.unwrap();
        hanging.push(client);
    }
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    assert_eq!(client.produce("t", &["a"]).await, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_its_answers_holds_up_nobody() {
    let mut broker = Broker::prepared();
    broker.settings.request_memory_bytes = 64 << 20;
    // What is read must be gathered from files.
    broker.settings.storage.log.tail_bytes = 0;
    broker.go().await.unwrap();
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    let value = "x".repeat(500 << 10);
    for _ in 0..24 {
        client.produce("t", &[&value]).await;
    }
    let mut stuck = Vec::new();
    for _ in 0..8 {
        // 12 MB each, which is more than the kernel keeps for who does not read.
        let mut other = broker.kafka().await;
        other.send(12, fetch("t", 0, 0, 0)).await;
        stuck.push(other);
    }
    for other in &stuck[..4] {
        other.socket.readable().await.unwrap();
    }
    let mut from = 0;
    while from < 24 {
        let found = values(&client.fetch("t", 0, from).await);
        assert!(!found.is_empty(), "it does not get on behind {from}");
        from += found.len() as i64;
    }
    drop(stuck);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_sending_still_gets_its_answers() {
    let mut broker = Broker::start().await;
    let mut client = broker.kafka().await;
    client.make_topic("t").await;
    let first = client.send(12, metadata("t")).await;
    let second = client.send(12, fetch("t", 0, 0, 200)).await;
    client.socket.shutdown().await.unwrap();
    client.receive(&first).await;
    client.receive(&second).await;
    assert!(client.is_closed().await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_another_authority_gets_no_session() {
    let mut broker = Broker::start().await;
    let stranger = Authority::new();
    let address = broker.quic_address();
    let connected = Gateway::connect(&broker.authority, &stranger, "plant-1", address).await;
    // TLS 1.3 lets a client believe that it is connected before the server has seen its certificate.
    if let Ok(mut gateway) = connected {
        let hello = gateway.hello(Vec::new()).encode().unwrap();
        let _ = gateway.send.write_all(&hello).await;
        assert_eq!(crate::harness::read_frame(&mut gateway.receive).await, None);
        let reason = gateway.connection.closed().await.to_string();
        assert!(reason.contains("UnknownIssuer") || reason.contains("certificate"), "{reason}");
    }
    broker.gateway("plant-1").await.welcome(Vec::new()).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_speaks_for_its_own_gateway_only() {
    let mut broker = Broker::start().await;
    let mut gateway = broker.gateway("plant-1").await;
    gateway.name = "plant-2".to_owned();
    let hello = gateway.hello(Vec::new()).encode().unwrap();
    let reason = gateway.say_goodbye_after(&hello).await;
    assert_eq!(reason, GoodbyeReason::Unauthorized);
    let (authority, address) = (&broker.authority, broker.quic_address());
    let nameless = Gateway::connect(authority, authority, "not a gateway id", address).await;
    let closed = match nameless {
        Ok(gateway) => gateway.connection.closed().await,
        Err(error) => error,
    };
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_uplink_frame_ends_its_session_only() {
    let mut broker = Broker::start().await;
    let mut good = broker.gateway("good").await;
    let (topic, _) = good.welcome(Vec::new()).await;
    let mut noise = Noise(77);
    let state = Frame::Goodbye(GoodbyeReason::Stopping, "x");
    let too_long = (64_u32 << 20).to_le_bytes().to_vec();
    let garbage = [&40_u32.to_le_bytes()[..], &noise.bytes(40)].concat();
    let early = crate::harness::append(good.stream(topic), 0, (0, 1), &["a"]);
    for bytes in [too_long, garbage, early] {
        let mut bad = broker.gateway("bad").await;
        let reason = bad.say_goodbye_after(&bytes).await;
        assert_eq!(reason, GoodbyeReason::Protocol);
        bad.connection.closed().await;
    }
    // After WELCOME and on a data stream as well.
    let mut bad = broker.gateway("bad").await;
    bad.welcome(Vec::new()).await;
    let (mut send, mut receive) = bad.connection.open_bi().await.unwrap();
    send.write_all(&[9, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]).await.unwrap();
    assert_eq!(goodbye(&mut receive).await, GoodbyeReason::Protocol);
    bad.connection.closed().await;
    // Who says goodbye is let go.
    let mut leaving = broker.gateway("leaving").await;
    leaving.welcome(Vec::new()).await;
    leaving.send.write_all(&state.encode().unwrap()).await.unwrap();
    leaving.connection.closed().await;

    let append = crate::harness::append(good.stream(topic), 0, (0, 1), &["a"]);
    good.send.write_all(&append).await.unwrap();
    let state = crate::harness::read_state(&mut good.receive).await;
    assert_eq!(state.state.unwrap().tag.0, 1);
    broker.stop().await;
}
