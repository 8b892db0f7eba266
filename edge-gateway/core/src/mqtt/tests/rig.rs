//! A connection under test with its shell's part played, and packets to feed it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mqtt_proto::{QosPid, v3, v5};
use wire::time::MonoMs;

use crate::mqtt::{
    Connection, Filter, MqttLimits, MqttVersion, Output, SessionGrant, SubscribeOutcome,
    SubscriptionOptions, UnsubscribeOutcome,
};

pub(super) use MqttVersion::{V5, V311};

/// Entropy of every connection under test.
pub(super) const ENTROPY: u128 = 0xabc;

/// A packet with this first byte; the parts make its body.
pub(super) fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![first];
    bytes.extend(variable(body.len()));
    bytes.extend(body);
    bytes
}

/// A variable byte integer.
pub(super) fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// A string or binary data with its length.
pub(super) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

/// The properties with their length.
pub(super) fn properties(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [variable(body.len()), body].concat()
}

/// A user property.
pub(super) fn user(name: &str, value: &str) -> Vec<u8> {
    [vec![0x26], string(name), string(value)].concat()
}

/// A CONNECT with these flags, properties (MQTT 5 only) and payload fields.
pub(super) fn connect_with(
    version: MqttVersion,
    flags: u8,
    keep_alive_s: u16,
    props: &[&[u8]],
    payload: &[&[u8]],
) -> Vec<u8> {
    let level = if version == V5 { 5 } else { 4 };
    let props = if version == V5 { properties(props) } else { Vec::new() };
    let head = [b"\0\x04MQTT".as_slice(), &[level, flags], &keep_alive_s.to_be_bytes()].concat();
    packet(0x10, &[&head, &props, &payload.concat()])
}

/// The plainest CONNECT, of client `dev/1`.
pub(super) fn connect(version: MqttVersion) -> Vec<u8> {
    connect_with(version, 0b10, 0, &[], &[&string("dev/1")])
}

/// A QoS 0 PUBLISH.
pub(super) fn publish0(version: MqttVersion, topic: &str, payload: &[u8]) -> Vec<u8> {
    let props: &[u8] = if version == V5 { &[0] } else { &[] };
    packet(0x30, &[&string(topic), props, payload])
}

/// A QoS 1 PUBLISH.
pub(super) fn publish1(version: MqttVersion, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let props: &[u8] = if version == V5 { &[0] } else { &[] };
    packet(0x32, &[&string(topic), &id.to_be_bytes(), props, payload])
}

/// A QoS 2 PUBLISH.
pub(super) fn publish2(version: MqttVersion, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let props: &[u8] = if version == V5 { &[0] } else { &[] };
    packet(0x34, &[&string(topic), &id.to_be_bytes(), props, payload])
}

/// A PUBREL.
pub(super) fn pubrel(id: u16) -> Vec<u8> {
    packet(0x62, &[&id.to_be_bytes()])
}

/// An MQTT 5 PUBLISH of QoS 1 to `t` with these properties and payload `x`.
pub(super) fn publish_with(id: u16, props: &[&[u8]]) -> Vec<u8> {
    publish1_with(id, "t", props)
}

/// An MQTT 5 PUBLISH of QoS 1 to `topic` with these properties.
pub(super) fn publish1_with(id: u16, topic: &str, props: &[&[u8]]) -> Vec<u8> {
    packet(0x32, &[&string(topic), &id.to_be_bytes(), &properties(props), b"x"])
}

/// The connection and the buffer that its shell reads into.
pub(super) struct Rig {
    pub(super) connection: Connection,
    pub(super) buf: BytesMut,
    pub(super) now: MonoMs,
    /// What the next client is let in with, if not with a new session.
    pub(super) grant: Option<SessionGrant>,
    version: MqttVersion,
}

impl Rig {
    pub(super) fn new(version: MqttVersion) -> Self {
        Self::with_limits(version, MqttLimits::default())
    }

    pub(super) fn with_limits(version: MqttVersion, limits: MqttLimits) -> Self {
        let now = MonoMs(1_000);
        let connection = Connection::new(limits, ENTROPY, now);
        Self { connection, buf: BytesMut::new(), now, grant: None, version }
    }

    /// A connection that is served already.
    pub(super) fn open(version: MqttVersion) -> Self {
        Self::open_with(version, MqttLimits::default(), &connect(version))
    }

    pub(super) fn open_with(version: MqttVersion, limits: MqttLimits, connect: &[u8]) -> Self {
        let mut rig = Self::with_limits(version, limits);
        let outputs = rig.feed(connect);
        assert_eq!(outputs.last().unwrap(), "send CONNACK 0x00", "{outputs:?}");
        rig
    }

    /// A connection that comes back to a session.
    pub(super) fn resumed(version: MqttVersion, grant: SessionGrant) -> Self {
        let mut rig = Self::new(version);
        rig.grant = Some(grant);
        let outputs = rig.feed(&connect_with(version, 0, 0, &[], &[&string("dev/1")]));
        assert_eq!(outputs.last().unwrap(), "send CONNACK 0x00 with session", "{outputs:?}");
        rig
    }

    /// Feeds bytes and lets every client in; gives what came of it, in words.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let outputs = self.feed_raw(bytes);
        outputs.iter().flat_map(|output| describe(self.version, output)).collect()
    }

    pub(super) fn feed_raw(&mut self, bytes: &[u8]) -> Vec<Output> {
        self.buf.extend_from_slice(bytes);
        let mut outputs = Vec::new();
        loop {
            self.connection.handle_input(self.now, &mut self.buf);
            let before = outputs.len();
            while let Some(output) = self.connection.poll_output() {
                match (&output, self.grant.take()) {
                    (Output::Connect(_), Some(grant)) => {
                        self.connection.accept_connect(self.now, grant);
                    }
                    (output, grant) => {
                        self.grant = grant;
                        answer(&mut self.connection, self.now, output);
                    }
                }
                outputs.push(output);
            }
            if outputs.len() == before {
                return outputs;
            }
        }
    }

    /// Reports a commit; gives what came of it, in words.
    pub(super) fn commit(&mut self, count: usize) -> Vec<String> {
        self.connection.committed(self.now, count);
        self.feed(&[])
    }
}

/// Plays the hub's part: lets everybody in, with the session expiry that was asked for, and grants every valid filter.
pub(super) fn answer(connection: &mut Connection, now: MonoMs, output: &Output) {
    match output {
        Output::Connect(request) => {
            let expiry_s = request.session_expiry_s;
            connection.accept_connect(now, SessionGrant { expiry_s, ..SessionGrant::default() });
        }
        Output::Subscribe(request) => {
            let outcome =
                |(text, options): &(Arc<str>, SubscriptionOptions)| match Filter::new(text) {
                    Ok(_) => SubscribeOutcome::Granted(options.qos),
                    Err(fault) => SubscribeOutcome::Invalid(fault),
                };
            let outcomes: Vec<_> = request.filters.iter().map(outcome).collect();
            connection.subscribed(now, request.packet_id, &outcomes);
        }
        Output::Unsubscribe(request) => {
            let outcomes = vec![UnsubscribeOutcome::NotFound; request.filters.len()];
            connection.unsubscribed(now, request.packet_id, &outcomes);
        }
        Output::Publish(_)
        | Output::Refused(_)
        | Output::Dropped(_)
        | Output::Send(_)
        | Output::Close(_) => {}
    }
}

/// An output in words. Every packet sent must be one that a foreign decoder understands.
pub(super) fn describe(version: MqttVersion, output: &Output) -> Vec<String> {
    match output {
        Output::Connect(request) => vec![format!("connect {}", request.client_id)],
        Output::Publish(publish) => {
            let payload = String::from_utf8_lossy(&publish.payload);
            let id = publish.delivery.packet_id().map_or(0, std::num::NonZero::get);
            vec![format!("publish {id} {} {payload}", publish.topic)]
        }
        Output::Refused(refused) => vec![format!("refused {}", refused.refusal)],
        // Answered by the rig, and seen by the answer.
        Output::Subscribe(_) | Output::Unsubscribe(_) => Vec::new(),
        Output::Dropped(reason) => vec![format!("dropped {}", reason.label())],
        Output::Send(bytes) => describe_packets(version, bytes),
        Output::Close(reason) => vec![format!("close {reason}")],
    }
}

fn describe_packets(version: MqttVersion, bytes: &Bytes) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = bytes.as_ref();
    while !rest.is_empty() {
        let (word, len) = match version {
            V311 => {
                let packet = v3::Packet::decode(rest).unwrap().expect("a whole packet");
                (word_v3(&packet), packet.encode_len().unwrap())
            }
            V5 => {
                let packet = v5::Packet::decode(rest).unwrap().expect("a whole packet");
                (word_v5(&packet), packet.encode_len().unwrap())
            }
        };
        words.push(format!("send {word}"));
        rest = &rest[len..];
    }
    words
}

fn connack_word(session_present: bool, code: u8) -> String {
    let session = if session_present { " with session" } else { "" };
    format!("CONNACK {code:#04x}{session}")
}

fn word_v3(packet: &v3::Packet) -> String {
    match packet {
        v3::Packet::Connack(connack) => connack_word(connack.session_present, connack.code as u8),
        v3::Packet::Puback(pid) => format!("PUBACK {} 0x00", pid.value()),
        v3::Packet::Pubrec(pid) => format!("PUBREC {} 0x00", pid.value()),
        v3::Packet::Pubrel(pid) => format!("PUBREL {} 0x00", pid.value()),
        v3::Packet::Publish(publish) => publish_word(
            publish.qos_pid,
            (publish.dup, publish.retain),
            &publish.topic_name,
            &publish.payload,
        ),
        v3::Packet::Pubcomp(pid) => format!("PUBCOMP {} 0x00", pid.value()),
        v3::Packet::Suback(suback) => format!("SUBACK {:?}", suback.topics),
        v3::Packet::Unsuback(pid) => format!("UNSUBACK {}", pid.value()),
        v3::Packet::Pingresp => "PINGRESP".into(),
        other => panic!("a server does not send {other:?}"),
    }
}

fn word_v5(packet: &v5::Packet) -> String {
    match packet {
        v5::Packet::Connack(connack) => {
            connack_word(connack.session_present, connack.reason_code as u8)
        }
        v5::Packet::Puback(ack) => {
            format!("PUBACK {} {:#04x}", ack.pid.value(), ack.reason_code as u8)
        }
        v5::Packet::Pubrec(ack) => {
            format!("PUBREC {} {:#04x}", ack.pid.value(), ack.reason_code as u8)
        }
        v5::Packet::Pubrel(ack) => {
            format!("PUBREL {} {:#04x}", ack.pid.value(), ack.reason_code as u8)
        }
        v5::Packet::Publish(publish) => publish_word(
            publish.qos_pid,
            (publish.dup, publish.retain),
            &publish.topic_name,
            &publish.payload,
        ),
        v5::Packet::Pubcomp(ack) => {
            format!("PUBCOMP {} {:#04x}", ack.pid.value(), ack.reason_code as u8)
        }
        v5::Packet::Suback(suback) => {
            let codes: Vec<_> = suback.topics.iter().map(|code| *code as u8).collect();
            format!("SUBACK {codes:x?}")
        }
        v5::Packet::Unsuback(unsuback) => {
            let codes: Vec<_> = unsuback.topics.iter().map(|code| *code as u8).collect();
            format!("UNSUBACK {codes:x?}")
        }
        v5::Packet::Pingresp => "PINGRESP".into(),
        v5::Packet::Disconnect(disconnect) => {
            format!("DISCONNECT {:#04x}", disconnect.reason_code as u8)
        }
        other => panic!("a server does not send {other:?}"),
    }
}

fn publish_word(
    qos_pid: QosPid,
    (dup, retain): (bool, bool),
    topic: &str,
    payload: &[u8],
) -> String {
    let id = qos_pid.pid().map_or(0, |pid| pid.value());
    let dup = if dup { " again" } else { "" };
    let retain = if retain { " retained" } else { "" };
    let payload = String::from_utf8_lossy(payload);
    format!("PUBLISH{dup}{retain} qos {} {id} {topic} {payload}", qos_pid.qos() as u8)
}
