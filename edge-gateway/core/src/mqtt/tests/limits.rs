//! Every limit, at it and beyond it.

use std::num::{NonZeroU16, NonZeroU32};

use super::rig::{Rig, V5, V311, connect, connect_with, packet, publish0, publish1, string};
use crate::mqtt::{
    CONNECT_PACKET_LEN_MAX, CONTROL_PACKET_LEN_MAX, MqttLimits, MqttVersion, PACKET_LEN_MAX_DEFAULT,
};

fn few(receive_max: u16, unacknowledged_bytes_max: usize) -> MqttLimits {
    MqttLimits {
        receive_max: NonZeroU16::new(receive_max).unwrap(),
        unacknowledged_bytes_max,
        ..MqttLimits::default()
    }
}

fn open(version: MqttVersion, limits: MqttLimits) -> Rig {
    Rig::open_with(version, limits, &connect(version))
}

#[test]
fn an_mqtt_5_client_beyond_receive_maximum_is_disconnected() {
    let mut rig = open(V5, few(2, usize::MAX));
    let all: Vec<u8> = (1..=3).flat_map(|id| publish1(V5, id, "t", b"")).collect();
    assert_eq!(
        rig.feed(&all),
        [
            "publish 1 t ",
            "publish 2 t ",
            "send DISCONNECT 0x93",
            "close more than 2 publishes unacknowledged",
        ]
    );

    let mut rig = open(V5, few(2, usize::MAX));
    rig.feed(&all[..all.len() / 3 * 2]);
    assert_eq!(rig.feed(&publish0(V5, "t", b"")), ["publish 0 t "], "QoS 0 is not counted");
    assert_eq!(rig.commit(1), ["send PUBACK 1 0x00"]);
    assert_eq!(rig.feed(&publish1(V5, 3, "t", b"")), ["publish 3 t "]);
    // A refused publish counts until its answer leaves.
    let mut rig = open(V5, few(2, usize::MAX));
    rig.feed(&[publish1(V5, 1, "t", b""), publish1(V5, 2, "$x", b"")].concat());
    assert_eq!(rig.feed(&publish1(V5, 3, "t", b""))[0], "send DISCONNECT 0x93");
}

#[test]
fn other_clients_are_not_read_any_further() {
    for version in [V311, V5] {
        let mut rig = open(version, few(2, usize::MAX));
        let burst: Vec<u8> = (0..6).flat_map(|_| publish0(version, "t", b"")).collect();
        assert_eq!(rig.feed(&burst).len(), 4, "twice the receive maximum");
        assert!(!rig.connection.wants_input());
        assert_eq!(rig.buf.len(), burst.len() / 3, "the rest waits");
        assert_eq!(rig.commit(1), ["publish 0 t "]);
        assert!(!rig.connection.wants_input());
        assert_eq!(rig.commit(4), ["publish 0 t "]);
        assert!(rig.connection.wants_input() && rig.buf.is_empty());
    }
    let mut rig = open(V311, few(2, usize::MAX));
    let burst: Vec<u8> = (1..=6).flat_map(|id| publish1(V311, id, "t", b"")).collect();
    assert_eq!(rig.feed(&burst).len(), 4, "MQTT 3.1.1 knows no receive maximum");
}

#[test]
fn unacknowledged_bytes_stop_the_reading_too() {
    for version in [V311, V5] {
        let one = publish0(version, "t", &[7; 100]);
        let mut rig = open(version, few(1_000, one.len() + 1));
        assert_eq!(rig.feed(&one).len(), 1);
        assert!(rig.connection.wants_input());
        assert_eq!(rig.feed(&[&one[..], &one].concat()).len(), 1, "one may overshoot");
        assert!(!rig.connection.wants_input());
        assert_eq!(rig.commit(1).len(), 1);
        assert_eq!(rig.commit(2).len(), 0);
        assert!(rig.connection.wants_input());
    }
}

/// The fixed header is enough to tell: not a byte of the body has come.
#[test]
fn large_packets_are_refused_by_their_header() {
    let limits =
        MqttLimits { packet_len_max: NonZeroU32::new(1_000).unwrap(), ..MqttLimits::default() };
    for (version, limits, at_most) in [
        (V311, limits, 1_000),
        (V5, limits, 1_000),
        (V311, MqttLimits::default(), PACKET_LEN_MAX_DEFAULT.get() as usize),
        (V5, MqttLimits::default(), PACKET_LEN_MAX_DEFAULT.get() as usize),
    ] {
        let overhead = publish0(version, "t", &[]).len() + if at_most > 16_384 { 2 } else { 1 };
        let fits = publish0(version, "t", &vec![7; at_most - overhead]);
        assert_eq!(fits.len(), at_most);
        assert_eq!(open(version, limits).feed(&fits).len(), 1);
        let beyond = publish0(version, "t", &vec![7; at_most - overhead + 1]);
        let words = open(version, limits).feed(&beyond[..4]);
        let close = format!("close packet of {} bytes, {at_most} are allowed", at_most + 1);
        match version {
            V311 => assert_eq!(words, [close]),
            V5 => assert_eq!(words, ["send DISCONNECT 0x95".to_owned(), close]),
        }
    }
}

#[test]
fn connects_and_control_packets_have_limits_of_their_own() {
    let max = CONNECT_PACKET_LEN_MAX as usize;
    let password = |len| string(vec![b'x'; len]);
    let fields = |len| [string("x"), string("u"), password(len)].concat();
    let overhead = connect_with(V311, 0b1100_0010, 0, &[], &[&fields(0)]).len() + 2;
    let fits = connect_with(V311, 0b1100_0010, 0, &[], &[&fields(max - overhead)]);
    assert_eq!(fits.len(), max);
    Rig::open_with(V311, MqttLimits::default(), &fits);
    let beyond = connect_with(V311, 0b1100_0010, 0, &[], &[&fields(max - overhead + 1)]);
    let words = Rig::new(V311).feed(&beyond[..4]);
    assert_eq!(words, [format!("close packet of {} bytes, {max} are allowed", max + 1)]);

    let filters: Vec<u8> = (0..CONTROL_PACKET_LEN_MAX / 4).flat_map(|_| [0, 1, b'a', 0]).collect();
    let subscribe = packet(0x82, &[&[0, 1, 0], &filters]);
    let words = Rig::open(V5).feed(&subscribe);
    assert_eq!(words[0], "send DISCONNECT 0x95");
    let words = Rig::open(V5).feed(&packet(0x82, &[&[0, 1, 0], &filters[..filters.len() - 8]]));
    assert_eq!(words.len(), 1, "one SUBACK for all of them");
}
