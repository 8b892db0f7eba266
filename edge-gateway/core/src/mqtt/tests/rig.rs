//! A connection under test with its shell's part played, and packets to feed it.

use bytes::{Bytes, BytesMut};
use mqtt_proto::{v3, v5};
use wire::time::MonoMs;

use crate::mqtt::{Connection, MqttLimits, MqttVersion, Output};

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
    version: MqttVersion,
}

impl Rig {
    pub(super) fn new(version: MqttVersion) -> Self {
        Self::with_limits(version, MqttLimits::default())
    }

    pub(super) fn with_limits(version: MqttVersion, limits: MqttLimits) -> Self {
        let now = MonoMs(1_000);
        let connection = Connection::new(limits, ENTROPY, now);
        Self { connection, buf: BytesMut::new(), now, version }
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
                if matches!(output, Output::Connect(_)) {
                    self.connection.accept_connect(self.now);
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

fn word_v3(packet: &v3::Packet) -> String {
    match packet {
        v3::Packet::Connack(connack) => format!("CONNACK {:#04x}", connack.code as u8),
        v3::Packet::Puback(pid) => format!("PUBACK {} 0x00", pid.value()),
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
            assert!(!connack.session_present);
            format!("CONNACK {:#04x}", connack.reason_code as u8)
        }
        v5::Packet::Puback(ack) => {
            format!("PUBACK {} {:#04x}", ack.pid.value(), ack.reason_code as u8)
        }
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
