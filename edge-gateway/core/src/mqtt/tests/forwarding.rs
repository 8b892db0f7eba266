//! Messages to clients: flows of QoS 1 and 2, the client's window and limits, and what a new connection sends again.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;
use wire::ids::QueueId;
use wire::seq::DeviceSeq;
use wire::time::MonoMs;

use super::rig::{Rig, V5, V311, connect_with, packet, properties, string, user};
use crate::mqtt::{
    Credit, DeviceSequence, Forward, INFLIGHT_BYTES_MAX, INFLIGHT_MAX, Message, MqttLimits,
    MqttVersion, Output, PublishProperties, Qos, SessionGrant, Text, Topic,
};
use Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};

const ROOM: usize = usize::MAX;

fn text(text: &str) -> Text {
    Text::new(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn message(topic: &str, payload: &[u8]) -> Message {
    Message {
        topic: Topic::new(text(topic)).unwrap(),
        payload: Bytes::copy_from_slice(payload),
        qos: ExactlyOnce,
        retain: false,
        sequence: None,
        maybe_dup: false,
        properties: None,
        publisher: None,
        expires_at: None,
    }
}

pub(super) fn forward(qos: Qos, payload: &str) -> Forward {
    let message = Arc::new(message("t", payload.as_bytes()));
    Forward { message, qos, retain: false, subscription_ids: Vec::new() }
}

impl Rig {
    /// Gives these to the connection and lets it send; gives what came of it, in words.
    fn deliver(&mut self, forwards: impl IntoIterator<Item = Forward>) -> Vec<String> {
        for forward in forwards {
            self.connection.forward(forward);
        }
        self.connection.fill(self.now, ROOM);
        self.feed(&[])
    }

    /// What the client says, and what may be sent after that.
    fn hear(&mut self, first: u8, id: u8) -> Vec<String> {
        let mut words = self.feed(&packet(first, &[&[0, id]]));
        self.connection.fill(self.now, ROOM);
        words.extend(self.feed(&[]));
        words
    }
}

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;

#[test]
fn the_flows_of_all_three() {
    for version in [V311, V5] {
        let mut rig = Rig::open(version);
        let all = [forward(AtMostOnce, "a"), forward(AtLeastOnce, "b"), forward(ExactlyOnce, "c")];
        let sent = rig.deliver(all);
        let expected =
            ["send PUBLISH qos 0 0 t a", "send PUBLISH qos 1 1 t b", "send PUBLISH qos 2 2 t c"];
        assert_eq!(sent, expected);
        assert_eq!(rig.hear(PUBACK, 1), [""; 0]);
        assert_eq!(rig.hear(PUBREC, 2), ["send PUBREL 2 0x00"]);
        assert_eq!(rig.hear(PUBREC, 2), ["send PUBREL 2 0x00"], "said again, answered again");
        assert_eq!(rig.hear(PUBCOMP, 2), [""; 0]);
        assert_eq!(rig.connection.take_session().unacknowledged(), 0);
    }
}

#[test]
fn wrong_answers_end_the_connection() {
    for (qos, first, what) in [
        (ExactlyOnce, PUBACK, "a PUBACK for a QoS 2 publish"),
        (AtLeastOnce, PUBREC, "a PUBREC for a QoS 1 publish"),
        (ExactlyOnce, PUBCOMP, "a PUBCOMP before its PUBREC"),
    ] {
        let mut rig = Rig::open(V5);
        rig.deliver([forward(qos, "a")]);
        let words = rig.hear(first, 1);
        let close = format!("close protocol error: {what}");
        assert_eq!(words, ["send DISCONNECT 0x82", &close], "{what}");
    }
}

#[test]
fn a_refused_publish_is_over() {
    let mut rig = Rig::open(V5);
    rig.deliver([forward(ExactlyOnce, "a")]);
    assert_eq!(rig.feed(&packet(0x50, &[&[0, 1, 0x83]])), [""; 0]);
    assert_eq!(rig.hear(PUBCOMP, 1), [""; 0]);
    assert_eq!(rig.connection.take_session().unacknowledged(), 0);
}

#[test]
fn the_clients_window_is_kept() {
    let connect = connect_with(V5, 2, 0, &[&[0x21, 0, 2]], &[&string("dev/1")]);
    let mut rig = Rig::open_with(V5, MqttLimits::default(), &connect);
    let all = ["a", "b", "c"].map(|payload| forward(ExactlyOnce, payload));
    let sent = rig.deliver(all.into_iter().chain([forward(AtMostOnce, "d")]));
    assert_eq!(sent, ["send PUBLISH qos 2 1 t a", "send PUBLISH qos 2 2 t b"]);
    assert_eq!(rig.hear(PUBREC, 1), ["send PUBREL 1 0x00"], "not over before PUBCOMP");
    let freed = rig.hear(PUBCOMP, 1);
    assert_eq!(freed, ["send PUBLISH qos 2 3 t c", "send PUBLISH qos 0 0 t d"], "in order");
}

#[test]
fn our_own_window_holds_messages_and_bytes() {
    let mut rig = Rig::open(V311);
    let many = (0..=INFLIGHT_MAX).map(|_| forward(AtLeastOnce, "x"));
    assert_eq!(rig.deliver(many).len(), INFLIGHT_MAX);
    assert_eq!(rig.hear(PUBACK, 1).len(), 1);

    let mut rig = Rig::open(V311);
    let half = "x".repeat(INFLIGHT_BYTES_MAX / 2 - 300);
    let large = "x".repeat(INFLIGHT_BYTES_MAX + 1);
    let all = [&*half, &half, "y", &large, "z"].map(|payload| forward(AtLeastOnce, payload));
    assert_eq!(rig.deliver(all).len(), 2);
    assert_eq!(rig.hear(PUBACK, 1), ["send PUBLISH qos 1 3 t y"]);
    assert_eq!(rig.hear(PUBACK, 2).len(), 0, "a large one goes alone");
    assert_eq!(rig.hear(PUBACK, 3).len(), 1);
    assert_eq!(rig.hear(PUBACK, 4), ["send PUBLISH qos 1 5 t z"]);
}

#[test]
fn room_is_kept_and_credit_is_told() {
    let mut rig = Rig::open(V311);
    for _ in 0..10 {
        rig.connection.forward(forward(AtMostOnce, "12345"));
    }
    rig.connection.fill(rig.now, 25);
    assert_eq!(rig.feed(&[]).len(), 3, "one may overshoot");
    assert_eq!(rig.connection.take_credit(), None, "not worth telling yet");
    rig.connection.fill(rig.now, ROOM);
    assert_eq!(rig.feed(&[]).len(), 7);
    let bytes = 10 * forward(AtMostOnce, "12345").memory_bytes();
    assert_eq!(rig.connection.take_credit(), Some(Credit { count: 10, bytes }));
    assert_eq!(rig.connection.take_credit(), None);
}

#[test]
fn a_new_connection_sends_again_what_was_not_acknowledged() {
    for version in [V311, V5] {
        let mut rig = Rig::open(version);
        let all = [AtLeastOnce, ExactlyOnce, ExactlyOnce, AtLeastOnce, AtMostOnce];
        rig.deliver(all.into_iter().zip(["a", "b", "c", "d", "e"]).map(|(q, p)| forward(q, p)));
        rig.hear(PUBREC, 2);
        rig.hear(PUBACK, 4);
        let mut state = rig.connection.take_session();
        assert_eq!(state.suspend(), []);
        let grant = SessionGrant { present: true, state, ..SessionGrant::default() };
        let mut rig = Rig::resumed(version, grant);
        let again = rig.deliver([forward(AtLeastOnce, "f")]);
        let expected = [
            "send PUBLISH again qos 1 1 t a",
            "send PUBREL 2 0x00",
            "send PUBLISH again qos 2 3 t c",
            "send PUBLISH qos 1 5 t f",
        ];
        assert_eq!(again, expected, "in their order, and before anything new");
        rig.hear(PUBACK, 1);
        rig.hear(PUBCOMP, 2);
        assert_eq!(rig.hear(PUBREC, 3), ["send PUBREL 3 0x00"]);
        assert_eq!(rig.connection.take_session().unacknowledged(), 2);
    }
}

/// The window of the new connection may be smaller (v5 4.9).
#[test]
fn sending_again_keeps_the_window_too() {
    let mut rig = Rig::open(V5);
    rig.deliver(["a", "b", "c"].map(|payload| forward(AtLeastOnce, payload)));
    let mut state = rig.connection.take_session();
    state.suspend();
    let mut rig = Rig::new(V5);
    rig.grant = Some(SessionGrant { present: true, state, ..SessionGrant::default() });
    rig.feed(&connect_with(V5, 0, 0, &[&[0x21, 0, 1]], &[&string("dev/1")]));
    assert_eq!(rig.deliver([forward(AtLeastOnce, "d")]), ["send PUBLISH again qos 1 1 t a"]);
    assert_eq!(rig.hear(PUBACK, 2), [""; 0], "an answer from before, which counts for nothing");
    assert_eq!(rig.hear(PUBACK, 1), ["send PUBLISH again qos 1 2 t b"]);
    assert_eq!(rig.hear(PUBACK, 2), ["send PUBLISH again qos 1 3 t c"]);
    assert_eq!(rig.hear(PUBACK, 3), ["send PUBLISH qos 1 4 t d"]);
}

#[test]
fn what_was_not_sent_is_given_back() {
    let connect = connect_with(V5, 2, 0, &[&[0x21, 0, 1]], &[&string("dev/1")]);
    let mut rig = Rig::open_with(V5, MqttLimits::default(), &connect);
    rig.deliver(["a", "b", "c"].map(|payload| forward(AtLeastOnce, payload)));
    rig.connection.taken_over();
    assert_eq!(rig.deliver([forward(AtLeastOnce, "d")]).len(), 2, "DISCONNECT and the end");
    let back = rig.connection.take_session().suspend();
    assert_eq!(back, ["b", "c", "d"].map(|payload| forward(AtLeastOnce, payload)));
}

#[test]
fn identifiers_go_round_and_skip_what_is_under_way() {
    let mut rig = Rig::open(V311);
    rig.deliver([forward(AtLeastOnce, "first")]);
    for id in 2..=u16::MAX {
        rig.deliver([forward(AtLeastOnce, "x")]);
        rig.feed(&packet(PUBACK, &[&id.to_be_bytes()]));
    }
    assert_eq!(rig.deliver([forward(AtLeastOnce, "y")]), ["send PUBLISH qos 1 2 t y"]);
}

#[test]
fn a_message_that_is_too_late_is_dropped() {
    let mut rig = Rig::open(V311);
    let mut late = forward(AtLeastOnce, "x");
    Arc::make_mut(&mut late.message).expires_at = Some(rig.now);
    let words = rig.deliver([late, forward(AtLeastOnce, "y")]);
    assert_eq!(words, ["dropped expired", "send PUBLISH qos 1 1 t y"]);
}

#[test]
fn a_message_that_the_client_does_not_take_is_dropped() {
    let connect = connect_with(V5, 2, 0, &[&[0x27, 0, 0, 0, 64]], &[&string("dev/1")]);
    let mut rig = Rig::open_with(V5, MqttLimits::default(), &connect);
    // Beside the payload: fixed header 2, topic 3, length of the properties 1, packet identifier 2.
    for (qos, len, word) in [
        (AtMostOnce, 58, "send"),
        (AtMostOnce, 59, "dropped too_large"),
        (AtLeastOnce, 57, "dropped too_large"),
        (AtLeastOnce, 56, "send"),
    ] {
        let words = rig.deliver([forward(qos, &"x".repeat(len))]);
        assert!(words.len() == 1 && words[0].starts_with(word), "{len}: {words:?}");
    }
    assert_eq!(rig.connection.take_session().unacknowledged(), 1);
}

/// The packet byte by byte: properties in the order of their identifiers, user properties last.
#[test]
fn every_property_is_passed_on() {
    let mut rig = Rig::open(V5);
    let kept = PublishProperties {
        payload_is_utf8: true,
        message_expiry_s: Some(30),
        content_type: Some(text("text/plain")),
        response_topic: Some(text("answers")),
        correlation_data: Some(Bytes::from_static(b"\0\xff")),
        user: vec![(text("b"), text("2")), (text("a"), text("1"))],
    };
    let message = Message {
        sequence: Some(DeviceSequence { queue: QueueId(7), first: DeviceSeq(12), lost_before: 3 }),
        maybe_dup: true,
        properties: Some(Box::new(kept)),
        expires_at: Some(MonoMs(rig.now.0 + 12_001)),
        ..message("grün", b"x")
    };
    let (message, subscription_ids) = (Arc::new(message), vec![1, 268_435_455]);
    rig.connection.forward(Forward { message, qos: AtLeastOnce, retain: true, subscription_ids });
    rig.connection.fill(rig.now, ROOM);
    let props = [
        vec![0x01, 1],
        [vec![0x03], string("text/plain")].concat(),
        [vec![0x08], string("answers")].concat(),
        [vec![0x09], string(b"\0\xff")].concat(),
        vec![0x02, 0, 0, 0, 13],
        vec![0x0b, 1],
        vec![0x0b, 0xff, 0xff, 0xff, 0x7f],
        user("b", "2"),
        user("a", "1"),
        user("cv-queue", "7"),
        user("cv-seq", "12"),
        user("cv-lost", "3"),
        user("cv-maybe-dup", "1"),
    ];
    let props: Vec<&[u8]> = props.iter().map(Vec::as_slice).collect();
    let expected = packet(0x33, &[&string("grün"), &[0, 1], &properties(&props), b"x"]);
    assert_eq!(rig.connection.poll_output(), Some(Output::Send(expected.into())));
}

#[test]
fn mqtt_3_1_1_has_no_properties() {
    let mut rig = Rig::open(V311);
    let properties = PublishProperties { payload_is_utf8: true, ..PublishProperties::default() };
    let message = Message { properties: Some(Box::new(properties)), ..message("t", b"x") };
    let (message, subscription_ids) = (Arc::new(message), vec![7]);
    rig.connection.forward(Forward { message, qos: AtMostOnce, retain: true, subscription_ids });
    rig.connection.fill(rig.now, ROOM);
    let expected = packet(0x31, &[&string("t"), b"x"]);
    assert_eq!(rig.connection.poll_output(), Some(Output::Send(expected.into())));
}

#[test]
fn who_leaves_a_will() {
    let open = |version: MqttVersion| Rig::open(version);
    let check = |rig: &Rig, expected: bool, why: &str| {
        assert_eq!(rig.connection.departure().with_will, expected, "{why}");
    };
    for version in [V311, V5] {
        let mut rig = open(version);
        check(&rig, true, "the connection is lost");
        rig.feed(&[0xe0, 0]);
        check(&rig, false, "a normal goodbye");
        let mut rig = open(version);
        rig.feed(&[0xd0, 0]);
        check(&rig, true, "a protocol error");
        let mut rig = open(version);
        rig.connection.taken_over();
        rig.feed(&[]);
        check(&rig, true, "a takeover");
        let mut rig = open(version);
        rig.connection.shutdown();
        rig.feed(&[]);
        check(&rig, false, "the gateway stops");
        let keep_alive = connect_with(version, 2, 10, &[], &[&string("dev/1")]);
        let mut rig = Rig::open_with(version, MqttLimits::default(), &keep_alive);
        rig.connection.handle_timeout(MonoMs(rig.now.0 + 15_000));
        check(&rig, true, "silence");
    }
    let mut rig = open(V5);
    rig.feed(&packet(0xe0, &[&[4]]));
    check(&rig, true, "a goodbye with will");
    let expiring = connect_with(V5, 2, 0, &[&[0x11, 0, 0, 0, 9]], &[&string("dev/1")]);
    let mut rig = Rig::open_with(V5, MqttLimits::default(), &expiring);
    rig.feed(&packet(0xe0, &[&[0, 5, 0x11, 0, 0, 0, 7]]));
    assert_eq!(rig.connection.departure().session_expiry_s, Some(7));
}

#[test]
fn a_session_is_announced() {
    for version in [V311, V5] {
        let grant = SessionGrant { present: true, expiry_s: 5, ..SessionGrant::default() };
        let mut rig = Rig::new(version);
        rig.grant = Some(grant);
        let words = rig.feed(&connect_with(version, 0, 0, &[&[0x11, 0, 0, 0, 9]], &[&string("x")]));
        assert_eq!(words[1], "send CONNACK 0x00 with session");
    }
    // The expiry is told where it is not what was asked for.
    let connack = |asked: &[u8], expiry_s| {
        let mut rig = Rig::new(V5);
        rig.grant = Some(SessionGrant { expiry_s, ..SessionGrant::default() });
        rig.feed_raw(&connect_with(V5, 2, 0, &[asked], &[&string("x")])).remove(1)
    };
    let Output::Send(told) = connack(&[0x11, 0, 0, 0, 9], 5) else { panic!() };
    assert!(told.windows(5).any(|bytes| bytes == [0x11, 0, 0, 0, 5]), "{told:x?}");
    let Output::Send(untold) = connack(&[0x11, 0, 0, 0, 9], 9) else { panic!() };
    assert_eq!(untold.len() + 5, told.len());
}

#[test]
fn batches_go_where_their_device_may() {
    let publish = |first: u8, topic: &str| {
        let id: &[u8] = if first & 6 == 0 { &[] } else { &[0, 1] };
        packet(first, &[&string(topic), id, &[0], b"x"])
    };
    let own = "culvert/v1/dev/1/batch";
    for (first, id) in [(0x30, 0), (0x33, 1), (0x34, 1)] {
        let outputs = Rig::open(V5).feed_raw(&publish(first, own));
        let Output::Publish(taken) = &outputs[0] else { panic!("{outputs:?}") };
        assert!(!taken.retain, "never retained");
        assert_eq!(taken.delivery.packet_id(), NonZeroU16::new(id));
    }
    let foreign = "only the client with that identifier may publish a device's batches";
    for (topic, code, refusal, closes) in [
        ("culvert/v1/dev/2/batch", "0x87", foreign, true),
        ("culvert/v1//batch", "0x87", foreign, true),
        (
            "culvert/v1/gateway",
            "0x90",
            "topics that begin with $ or culvert/ are the server's own",
            false,
        ),
        ("culvert", "0x90", "topics that begin with $ or culvert/ are the server's own", false),
    ] {
        for (first, ack) in [(0x32, "PUBACK"), (0x34, "PUBREC")] {
            let words = Rig::open(V5).feed(&publish(first, topic));
            assert_eq!(words[..2], [format!("refused {refusal}"), format!("send {ack} 1 {code}")]);
            assert_eq!(words.len(), if closes { 4 } else { 2 }, "{topic}: {words:?}");
        }
        let words = Rig::open(V5).feed(&publish(0x30, topic));
        assert_eq!(words.len(), if closes { 3 } else { 1 }, "{topic}: {words:?}");
        let words = Rig::open(V311).feed(&packet(0x32, &[&string(topic), &[0, 1], b"x"]));
        assert!(words[1].starts_with("close publish refused"), "{words:?}");
    }
    assert_eq!(Rig::open(V5).feed(&publish(0x32, "culverts/x")), ["publish 1 culverts/x x"]);
}
