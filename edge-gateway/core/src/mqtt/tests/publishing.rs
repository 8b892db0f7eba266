//! What a publish says reaches the store, and which publishes are refused.

use bytes::Bytes;
use wire::ids::QueueId;
use wire::seq::DeviceSeq;

use super::rig::{
    Rig, V5, V311, packet, properties, publish_with, publish0, publish1, publish1_with, string,
    user,
};
use crate::mqtt::{
    DeviceSequence, Output, Publish, PublishProperties, PublishRefusal, Qos, Refused,
    TOPIC_LEN_MAX, Text, USER_PROPERTIES_LEN_MAX, USER_PROPERTIES_MAX,
};

fn text(text: &str) -> Text {
    Text::new(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn published(output: Output) -> Publish {
    match output {
        Output::Publish(publish) => publish,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_field_of_a_publish() {
    let props: [&[u8]; 10] = [
        &user("cv-maybe-dup", "1"),
        &user("unit", "°C"),
        &[0x01, 1],
        &[0x02, 0, 0, 0, 30],
        &[&[0x03], string("text/plain").as_slice()].concat(),
        &[&[0x08], string("answers").as_slice()].concat(),
        &[&[0x09], string(b"\x00\xff").as_slice()].concat(),
        &user("cv-queue", "7"),
        &[user("cv-seq", "12"), user("cv-lost", "3")].concat(),
        &user("unit", "K"),
    ];
    let bytes = packet(0x3b, &[&string("a/ü"), &[1, 2], &properties(&props), b"\xff\0"]);
    let publish = published(Rig::open(V5).feed_raw(&bytes).remove(0));
    assert_eq!(publish.topic.as_str(), "a/ü");
    assert_eq!(publish.payload, &b"\xff\0"[..]);
    assert_eq!(
        (publish.delivery.qos(), publish.retain, publish.dup),
        (Qos::AtLeastOnce, true, true)
    );
    assert_eq!(publish.delivery.packet_id().unwrap().get(), 0x102);
    assert_eq!(
        publish.sequence,
        Some(DeviceSequence { queue: QueueId(7), first: DeviceSeq(12), lost_before: 3 })
    );
    assert!(publish.maybe_dup);
    let user = [(text("unit"), text("°C")), (text("unit"), text("K"))];
    assert_eq!(publish.user_properties(), user);
    assert_eq!(
        *publish.properties.unwrap(),
        PublishProperties {
            payload_is_utf8: true,
            message_expiry_s: Some(30),
            content_type: Some(text("text/plain")),
            response_topic: Some(text("answers")),
            correlation_data: Some(Bytes::from_static(b"\0\xff")),
            user: user.to_vec(),
        }
    );
}

#[test]
fn plain_publishes_keep_no_properties() {
    for (version, bytes) in [
        (V311, publish1(V311, 1, "t", b"")),
        (V5, publish1(V5, 1, "t", b"")),
        (V5, publish_with(1, &[&user("cv-queue", "1"), &user("cv-seq", "1")])),
    ] {
        let publish = published(Rig::open(version).feed_raw(&bytes).remove(0));
        assert_eq!(publish.properties, None);
        assert!(publish.user_properties().is_empty());
    }
}

#[test]
fn fields_share_the_read_buffer() {
    let mut rig = Rig::open(V5);
    let user = user("name", "value");
    rig.buf.reserve(4_096);
    rig.buf.extend_from_slice(&publish_with(1, &[&user]));
    let range = rig.buf.as_ptr_range();
    rig.connection.handle_input(rig.now, &mut rig.buf);
    let publish = published(rig.connection.poll_output().unwrap());
    let (name, value) = publish.user_properties()[0].clone();
    for bytes in
        [publish.topic.into_bytes(), publish.payload, name.into_bytes(), value.into_bytes()]
    {
        assert!(range.contains(&bytes.as_ptr()));
    }
}

#[test]
fn large_and_empty_payloads_come_byte_for_byte() {
    let large: Vec<u8> = (0..300 * 1024_u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
    for version in [V311, V5] {
        for payload in [&large[..], &[]] {
            let outputs = Rig::open(version).feed_raw(&publish1(version, 1, "t", payload));
            assert!(published(outputs.into_iter().next().unwrap()).payload == payload);
        }
    }
}

#[test]
fn topic_aliases() {
    let alias = |topic: &str, alias: u16, id: u16| {
        let [high, low] = alias.to_be_bytes();
        packet(0x32, &[&string(topic), &id.to_be_bytes(), &properties(&[&[0x23, high, low]]), b"x"])
    };
    let mut rig = Rig::open(V5);
    assert_eq!(rig.feed(&alias("one", 1, 1)), ["publish 1 one x"]);
    assert_eq!(rig.feed(&alias("sixteen", 16, 2)), ["publish 2 sixteen x"]);
    assert_eq!(rig.feed(&alias("", 1, 3)), ["publish 3 one x"]);
    assert_eq!(rig.feed(&alias("uno", 1, 4)), ["publish 4 uno x"]);
    assert_eq!(rig.feed(&alias("", 1, 5)), ["publish 5 uno x"]);
    assert_eq!(rig.feed(&alias("", 16, 6)), ["publish 6 sixteen x"]);
    // An alias of a topic that may not be published to is one all the same.
    let refused = rig.feed(&alias("$x", 2, 7));
    assert_eq!(refused.len(), 1);
    assert_eq!(rig.feed(&alias("", 2, 8)), refused);
    assert_eq!(
        rig.feed(&alias("", 3, 9)),
        ["send DISCONNECT 0x82", "close protocol error: a topic alias that stands for nothing"]
    );
}

#[test]
fn refused_publishes_leave_an_mqtt_5_connection_open() {
    let long = "x".repeat(TOPIC_LEN_MAX + 1);
    let many: Vec<_> = (0..=USER_PROPERTIES_MAX).map(|_| user("a", "b")).collect();
    let many: Vec<_> = many.iter().map(Vec::as_slice).collect();
    let big = user("a", &"b".repeat(USER_PROPERTIES_LEN_MAX));
    let table = [
        (publish1(V5, 4, "$SYS/x", b"x"), "0x90", PublishRefusal::ReservedTopic),
        (publish1(V5, 4, "$", b"x"), "0x90", PublishRefusal::ReservedTopic),
        (publish1(V5, 4, &long, b"x"), "0x90", PublishRefusal::TopicTooLong),
    ];
    for (bytes, code, refusal) in table {
        let mut rig = Rig::open(V5);
        let words = [format!("refused {refusal}"), format!("send PUBACK 4 {code}")];
        assert_eq!(rig.feed(&bytes), words);
        assert_eq!(rig.feed(&publish1(V5, 5, "t", b"x")), ["publish 5 t x"]);
    }
    // Numbered, or perhaps numbered: the next reading must not be taken in the place of the refused one.
    let sequence = [user("cv-queue", "7"), user("cv-seq", "1")];
    let sequence: Vec<_> = sequence.iter().map(Vec::as_slice).collect();
    let numbered = publish1_with(4, "$SYS/x", &sequence);
    for (bytes, code) in
        [(publish_with(4, &many), "0x97"), (publish_with(4, &[&big]), "0x97"), (numbered, "0x90")]
    {
        let words = Rig::open(V5).feed(&bytes);
        assert_eq!(words[1], format!("send PUBACK 4 {code}"));
        assert_eq!(words[2], format!("send DISCONNECT {code}"));
        assert_eq!(words.len(), 4, "{words:?}");
    }
    let fits = user("a", &"b".repeat(USER_PROPERTIES_LEN_MAX - 1));
    assert_eq!(Rig::open(V5).feed(&publish_with(4, &many[1..])), ["publish 4 t x"]);
    assert_eq!(Rig::open(V5).feed(&publish_with(4, &[&fits])), ["publish 4 t x"]);
    let topic = &long[1..];
    assert_eq!(Rig::open(V5).feed(&publish1(V5, 4, topic, b"x")), [format!("publish 4 {topic} x")]);
}

#[test]
fn a_refused_qos_0_publish_is_only_reported() {
    let mut rig = Rig::open(V5);
    let outputs = rig.feed_raw(&publish0(V5, "$SYS/x", b"x"));
    let Output::Refused(Refused { topic, delivery, refusal }) = &outputs[0] else { panic!() };
    assert_eq!((topic.as_str(), delivery.qos()), ("$SYS/x", Qos::AtMostOnce));
    assert_eq!(*refusal, PublishRefusal::ReservedTopic);
    assert_eq!(outputs.len(), 1);
    assert_eq!(rig.feed(&[0xc0, 0]), ["send PINGRESP"]);
}

#[test]
fn mqtt_3_1_1_closes_where_it_cannot_refuse() {
    for topic in ["$SYS/x".to_owned(), "x".repeat(TOPIC_LEN_MAX + 1)] {
        let outputs = Rig::open(V311).feed(&publish1(V311, 4, &topic, b"x"));
        assert_eq!(outputs.len(), 2, "{outputs:?}");
        assert!(outputs[0].starts_with("refused "));
        assert!(outputs[1].starts_with("close publish refused: "));
    }
}

#[test]
fn a_bad_numbering_closes_after_what_came_before() {
    for (id, props) in [
        (2, vec![user("cv-queue", "1")]),
        (2, vec![user("cv-queue", "1"), user("cv-seq", "x")]),
        (2, vec![user("cv-queue", "1"), user("cv-seq", "0")]),
    ] {
        let props: Vec<_> = props.iter().map(Vec::as_slice).collect();
        let mut rig = Rig::open(V5);
        assert_eq!(rig.feed(&publish1(V5, 1, "t", b"x")), ["publish 1 t x"]);
        let refused = rig.feed(&publish_with(id, &props));
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].starts_with("refused device sequence: "), "{refused:?}");
        assert!(!rig.connection.wants_input());
        assert_eq!(rig.feed(&publish1(V5, 3, "t", b"x")), [""; 0], "nothing more is taken");
        let after = rig.commit(1);
        let codes = ["send PUBACK 1 0x00", "send PUBACK 2 0x83", "send DISCONNECT 0x83"];
        assert_eq!(after[..3], codes);
        assert!(after[3].starts_with("close publish refused: device sequence: "), "{after:?}");

        // With nothing before it, at once.
        let words = Rig::open(V5).feed(&publish_with(id, &props));
        assert_eq!(words[1..3], codes[1..]);
        // A QoS 0 publish has no PUBACK.
        let bytes = packet(0x30, &[&string("t"), &properties(&props), b"x"]);
        let words = Rig::open(V5).feed(&bytes);
        assert_eq!(words[1], codes[2]);
    }
}
