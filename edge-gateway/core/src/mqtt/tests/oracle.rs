//! Our reading of PUBLISH against that of `mqtt-proto`, on packets right and wrong.

use bytes::{Buf, Bytes};
use mqtt_proto::{PollHeader, v3, v5};

use super::fuzz::{ROUNDS, Random, mutate};
use super::rig::{
    V5, V311, packet, properties, publish_with, publish0, publish1, publish2, string, user,
};
use crate::mqtt::frame::FixedHeader;
use crate::mqtt::publish::{self, Parsed};
use crate::mqtt::{CloseReason, MqttVersion, SEQUENCE_PROPERTY, Text};

/// Why ours may refuse what the library takes: rules that it leaves out.
const STRICTER: [&str; 5] = [
    "DUP on a QoS 0 PUBLISH",
    "U+0000",
    "a length with more bytes than it needs",
    "a subscription identifier",
    "a response topic that names no topic",
];

#[test]
fn both_read_publishes_alike() {
    let props: &[u8] = &[1, 1, 2, 0, 0, 0, 9, 3, 0, 1, b'c', 8, 0, 1, b'r', 9, 0, 1, 0, 0x23, 0, 3];
    let seeds = [
        (V311, publish0(V311, "a/b", b"x")),
        (V311, publish1(V311, 7, "grün", b"payload")),
        (V311, publish2(V311, 7, "a/b", b"x")),
        (V5, publish0(V5, "a/b", b"x")),
        (V5, publish2(V5, 8, "a/b", b"x")),
        (V5, publish_with(9, &[props, &user("k", "v"), &user("k", "")])),
        (V5, publish_with(10, &[&user("cv-queue", "1"), &user(SEQUENCE_PROPERTY, "2")])),
        (V5, packet(0x3b, &[&string(""), &[0, 11], &properties(&[&[0x23, 0, 3]]), b"x"])),
    ];
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..ROUNDS {
        let mut random = Random::new(seed);
        let (version, mut bytes) = seeds[random.below(seeds.len())].clone();
        mutate(&mut random, &mut bytes);
        // The frame is made right again, so that its contents are what is compared.
        let body = bytes.split_off(bytes.len().min(2));
        let bytes = packet(0x30 | bytes.first().unwrap_or(&0) & 0xf, &[&body]);
        let header = FixedHeader::peek(&bytes).unwrap().unwrap();
        let mut frame = Bytes::from(bytes.clone());
        frame.advance(header.header_len as usize);
        match publish::parse(version, header, frame.clone()) {
            Ok(parsed) => {
                taken += 1;
                check_taken(version, header, &frame, &parsed);
            }
            Err(reason) => {
                refused += 1;
                check_refused(version, header, &frame, &reason);
            }
        }
    }
    assert!(taken > 10_000 && refused > 10_000, "taken {taken}, refused {refused}");
}

fn check_taken(version: MqttVersion, header: FixedHeader, body: &Bytes, ours: &Parsed) {
    match version {
        V311 => {
            let theirs =
                library_v3(header, body).unwrap_or_else(|error| panic!("{error}: {body:x?}"));
            assert_eq!(
                fields(ours),
                (&*theirs.topic_name, theirs.qos_pid.pid().map(|pid| pid.value()))
            );
            assert_eq!((ours.retain, ours.dup), (theirs.retain, theirs.dup));
            assert_eq!(ours.payload, theirs.payload);
        }
        V5 => match library_v5(header, body) {
            Ok(theirs) => check_taken_v5(ours, &theirs),
            // The one thing that only the library checks: a receiver may (v5 3.3.2.3.2).
            Err(v5::ErrorV5::InvalidPayloadFormat) => {
                assert!(std::str::from_utf8(&ours.payload).is_err());
            }
            Err(error) => panic!("{error}: {body:x?}"),
        },
    }
}

fn check_taken_v5(ours: &Parsed, theirs: &v5::Publish) {
    assert_eq!(fields(ours), (&*theirs.topic_name, theirs.qos_pid.pid().map(|pid| pid.value())));
    assert_eq!((ours.retain, ours.dup), (theirs.retain, theirs.dup));
    assert_eq!(ours.payload, theirs.payload);
    assert_eq!(ours.topic_alias, theirs.properties.topic_alias);
    let numbering = |name: &str| ["cv-queue", "cv-seq", "cv-lost", "cv-maybe-dup"].contains(&name);
    let properties = ours.properties.as_deref().cloned().unwrap_or_default();
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.as_str().to_owned());
    assert_eq!(properties.payload_is_utf8, theirs.properties.payload_is_utf8.unwrap_or(false));
    assert_eq!(properties.message_expiry_s, theirs.properties.message_expiry_interval);
    assert_eq!(
        text(&properties.content_type).as_deref(),
        theirs.properties.content_type.as_deref()
    );
    assert_eq!(
        text(&properties.response_topic).as_deref(),
        theirs.properties.response_topic.as_deref()
    );
    assert_eq!(properties.correlation_data, theirs.properties.correlation_data);
    let theirs: Vec<_> = (theirs.properties.user_properties.iter())
        .map(|property| (&*property.name, &*property.value))
        .filter(|(name, _)| !numbering(name))
        .collect();
    let ours: Vec<_> =
        properties.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(ours, theirs);
}

fn check_refused(version: MqttVersion, header: FixedHeader, body: &Bytes, reason: &CloseReason) {
    let taken_by_library = match version {
        V311 => library_v3(header, body).is_ok(),
        V5 => library_v5(header, body).is_ok(),
    };
    let text = reason.to_string();
    let stricter = STRICTER.iter().any(|rule| text.contains(rule));
    assert!(!taken_by_library || stricter, "{text}: {body:x?}");
}

fn fields(ours: &Parsed) -> (&str, Option<u16>) {
    let topic = ours.topic.as_ref().map_or("", |topic| topic.as_str());
    (topic, ours.delivery.packet_id().map(std::num::NonZero::get))
}

fn library_v3(header: FixedHeader, body: &[u8]) -> Result<v3::Publish, mqtt_proto::Error> {
    let header = v3::Header::new_with(header.first, header.body_len, header.total_len())?;
    match header.decode_buffer(body, &mut 0)? {
        v3::Packet::Publish(publish) => Ok(publish),
        other => panic!("{other:?}"),
    }
}

fn library_v5(header: FixedHeader, body: &[u8]) -> Result<v5::Publish, v5::ErrorV5> {
    let header = v5::Header::new_with(header.first, header.body_len, header.total_len())?;
    match header.decode_buffer(body, &mut 0)? {
        v5::Packet::Publish(publish) => Ok(publish),
        other => panic!("{other:?}"),
    }
}
