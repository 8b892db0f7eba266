use std::net::Ipv4Addr;

use gateway_core::hub::Hub;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::hub_task;

/// One and a half times this, and some more for a busy machine.
const KEEP_ALIVE_S: u16 = 1;
const SILENCE: Duration = Duration::from_secs(3);

/// Far beyond what an answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// MQTT 5, which says goodbye.
fn connect() -> Vec<u8> {
    let [high, low] = KEEP_ALIVE_S.to_be_bytes();
    let mut packet = vec![0x10, 17, 0, 4];
    packet.extend(b"MQTT\x05\x02");
    packet.extend([high, low, 0, 0, 4]);
    packet.extend(b"dev1");
    packet
}

/// QoS 1 to `t`, with 16 KiB.
fn publish() -> Vec<u8> {
    let mut packet = vec![0x32, 0x86, 0x80, 0x01, 0, 1, b't', 0, 1, 0];
    packet.resize(packet.len() + (16 << 10), b'x');
    packet
}

/// A client cannot show life while it is not read, and a disk that takes its time is no fault of its own.
#[tokio::test]
async fn a_client_that_is_not_read_is_not_silent() {
    let (trigger, shutdown) = Shutdown::new();
    let (store, _stalled) = StoreHandle::stalled();
    let clock = Clock::start();
    let (hub, _) = hub_task::spawn(Hub::new(Vec::new()), clock, store.clone(), &trigger);
    let limits = MqttLimits::default();
    let edge = Edge { clock, limits, store, hub, connections_max: 1, shutdown };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let _serving = tokio::spawn(serve(listener, edge));

    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&connect()).await.unwrap();
    let connack = async {
        let (first, len) = (client.read_u8().await.unwrap(), client.read_u8().await.unwrap());
        let mut rest = vec![0; len.into()];
        client.read_exact(&mut rest).await.unwrap();
        (first, rest[1])
    };
    assert_eq!(tokio::time::timeout(PATIENCE, connack).await.unwrap(), (0x20, 0));

    // The first is with the store, the next fill what a connection may hold, the rest is not read.
    let (mut reader, mut writer) = client.split();
    let publishing = async {
        loop {
            writer.write_all(&publish()).await.unwrap();
        }
    };
    let mut word = [0; 4];
    let outcome = tokio::select! {
        () = publishing => unreachable!(),
        () = tokio::time::sleep(SILENCE) => "still there",
        _ = reader.read(&mut word) => "closed",
    };
    assert_eq!(outcome, "still there");
}
