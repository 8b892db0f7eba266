//! PUBLISH packets to a client, written by hand: the library knows one subscription identifier per packet only, and
//! there may be several (v5 3.3.2.3.8).

use std::num::NonZeroU16;

use bytes::{BufMut, BytesMut};
use wire::time::MonoMs;

use super::connect::MqttVersion;
use super::frame;
use super::message::{Forward, Message};
use super::properties::id;
use super::sequence::{LOST_PROPERTY, MAYBE_DUP_PROPERTY, QUEUE_PROPERTY, SEQUENCE_PROPERTY};

const FIRST_BYTE: u8 = 0x30;
const FLAG_RETAIN: u8 = 0b0001;
const FLAG_DUP: u8 = 0b1000;

/// First bytes of the packets that release a QoS 2 publish and of those that acknowledge: all have the same form.
const PUBREL: u8 = 0x62;

/// How a client is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) version: MqttVersion,
    /// Longest packet that the client takes, in bytes.
    pub(super) len_max: u32,
}

/// Appends a PUBLISH; `false` and nothing appended if it is longer than the client takes [MQTT-3.1.2-24].
pub(super) fn put_publish(
    out: &mut BytesMut,
    form: Form,
    forward: &Forward,
    packet_id: Option<NonZeroU16>,
    dup: bool,
    now: MonoMs,
) -> bool {
    let message = &*forward.message;
    let mut properties = BytesMut::new();
    if form.version == MqttVersion::V5 {
        put_properties(&mut properties, forward, now);
    }
    let topic = message.topic.as_str().as_bytes();
    let head_len = 2 + topic.len() + if packet_id.is_some() { 2 } else { 0 };
    let properties_len = u32::try_from(properties.len()).unwrap_or(u32::MAX);
    let prefix_len = match form.version {
        MqttVersion::V311 => 0,
        MqttVersion::V5 => frame::variable_len(properties_len) as usize,
    };
    let body_len = head_len + prefix_len + properties.len() + message.payload.len();
    let Ok(body_len) = u32::try_from(body_len) else { return false };
    let total_len = u64::from(body_len) + 1 + u64::from(frame::variable_len(body_len));
    if body_len > frame::VARIABLE_MAX || total_len > u64::from(form.len_max) {
        return false;
    }
    let dup = if dup { FLAG_DUP } else { 0 };
    let retain = if forward.retain { FLAG_RETAIN } else { 0 };
    out.reserve(usize::try_from(total_len).unwrap_or(0));
    out.put_u8(FIRST_BYTE | dup | (forward.qos as u8) << 1 | retain);
    frame::put_variable(out, body_len);
    put_binary(out, topic);
    if let Some(packet_id) = packet_id {
        out.put_u16(packet_id.get());
    }
    if form.version == MqttVersion::V5 {
        frame::put_variable(out, properties_len);
        out.put_slice(&properties);
    }
    out.put_slice(&message.payload);
    true
}

/// Appends a PUBREL of success, the same in both versions (v5 3.6.2.1).
pub(super) fn put_pubrel(out: &mut BytesMut, packet_id: NonZeroU16) {
    out.put_slice(&[PUBREL, 2]);
    out.put_u16(packet_id.get());
}

fn put_properties(out: &mut BytesMut, forward: &Forward, now: MonoMs) {
    let message = &*forward.message;
    if let Some(properties) = message.properties.as_deref() {
        if properties.payload_is_utf8 {
            out.put_slice(&[id::PAYLOAD_FORMAT_INDICATOR, 1]);
        }
        if let Some(content_type) = &properties.content_type {
            out.put_u8(id::CONTENT_TYPE);
            put_binary(out, content_type.as_bytes());
        }
        if let Some(topic) = &properties.response_topic {
            out.put_u8(id::RESPONSE_TOPIC);
            put_binary(out, topic.as_bytes());
        }
        if let Some(data) = &properties.correlation_data {
            out.put_u8(id::CORRELATION_DATA);
            put_binary(out, data);
        }
    }
    if let Some(at) = message.expires_at {
        // What is left of it [MQTT-3.3.2-6], rounded up: an expired message is not sent.
        let seconds = u32::try_from((at - now).div_ceil(1_000)).unwrap_or(u32::MAX);
        out.put_u8(id::MESSAGE_EXPIRY_INTERVAL);
        out.put_u32(seconds);
    }
    for subscription_id in &forward.subscription_ids {
        out.put_u8(id::SUBSCRIPTION_IDENTIFIER);
        frame::put_variable(out, *subscription_id);
    }
    put_user_properties(out, message);
}

/// [MQTT-3.3.2-17]: user properties are passed on in their order. Those that say what is known of copies come last.
fn put_user_properties(out: &mut BytesMut, message: &Message) {
    let user = message.properties.as_deref().map_or(&[][..], |properties| &properties.user);
    for (name, value) in user {
        put_user(out, name.as_bytes(), value.as_bytes());
    }
    if let Some(sequence) = message.sequence {
        put_user(out, QUEUE_PROPERTY.as_bytes(), sequence.queue.0.to_string().as_bytes());
        put_user(out, SEQUENCE_PROPERTY.as_bytes(), sequence.first.0.to_string().as_bytes());
        if sequence.lost_before > 0 {
            put_user(out, LOST_PROPERTY.as_bytes(), sequence.lost_before.to_string().as_bytes());
        }
    }
    if message.maybe_dup {
        put_user(out, MAYBE_DUP_PROPERTY.as_bytes(), b"1");
    }
}

fn put_user(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_u8(id::USER_PROPERTY);
    put_binary(out, name);
    put_binary(out, value);
}

/// Two bytes of length, then the bytes. Everything that is put came out of such a field or is short.
fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(len);
    out.put_slice(&bytes[..usize::from(len)]);
}
