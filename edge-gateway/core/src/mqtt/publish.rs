//! PUBLISH, read by hand: it is the hot path, and every field shares the read buffer.

use std::num::NonZeroU16;

use bytes::Bytes;

use super::close::{CloseReason, PublishRefusal};
use super::connect::MqttVersion;
use super::frame::FixedHeader;
use super::properties;
use super::qos::Qos;
use super::reader::Reader;
use super::sequence::DeviceSequence;
use super::text::{Text, Topic};

const FLAG_RETAIN: u8 = 0b0001;
const FLAG_DUP: u8 = 0b1000;

/// One application message from a client, waiting to be stored. Its bytes pin the buffer they were read into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Where it is published to.
    pub topic: Topic,
    /// The message, byte for byte.
    pub payload: Bytes,
    /// Quality of service, and the packet identifier that goes with it.
    pub delivery: Delivery,
    /// To be kept for future subscribers.
    pub retain: bool,
    /// The client says that it may have sent this before. Never a reason to drop it.
    pub dup: bool,
    /// The number of the reading in its device's queue, if the client numbers them.
    pub sequence: Option<DeviceSequence>,
    /// The client says that a copy may be in the log already (`cv-maybe-dup`).
    pub maybe_dup: bool,
    /// The other properties of MQTT 5, if there are any.
    pub properties: Option<Box<PublishProperties>>,
}

impl Publish {
    /// The user properties in their order, without those that make [`Publish::sequence`].
    #[must_use]
    pub fn user_properties(&self) -> &[(Text, Text)] {
        self.properties.as_deref().map_or(&[], |properties| &properties.user)
    }
}

/// How a publish is to be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0: not at all.
    AtMostOnce,
    /// QoS 1: with a PUBACK of this packet identifier, once it is durable.
    AtLeastOnce {
        /// Packet identifier of the client's choosing.
        packet_id: NonZeroU16,
    },
    /// QoS 2: with a PUBREC of this packet identifier, once it is durable.
    ExactlyOnce {
        /// Packet identifier of the client's choosing.
        packet_id: NonZeroU16,
    },
}

impl Delivery {
    /// The packet identifier, if the publish has one.
    #[must_use]
    pub fn packet_id(self) -> Option<NonZeroU16> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { packet_id } | Self::ExactlyOnce { packet_id } => Some(packet_id),
        }
    }

    /// The quality of service.
    #[must_use]
    pub fn qos(self) -> Qos {
        match self {
            Self::AtMostOnce => Qos::AtMostOnce,
            Self::AtLeastOnce { .. } => Qos::AtLeastOnce,
            Self::ExactlyOnce { .. } => Qos::ExactlyOnce,
        }
    }
}

/// What an MQTT 5 client says about a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishProperties {
    /// Payload format indicator 1. It is passed on, not checked.
    pub payload_is_utf8: bool,
    /// Message expiry interval, in seconds.
    pub message_expiry_s: Option<u32>,
    /// Content type.
    pub content_type: Option<Text>,
    /// Response topic; names a topic.
    pub response_topic: Option<Text>,
    /// Correlation data.
    pub correlation_data: Option<Bytes>,
    /// User properties in their order, without those that number the reading.
    pub user: Vec<(Text, Text)>,
}

impl PublishProperties {
    /// The same properties in buffers of their own, for those that are kept long.
    #[must_use]
    pub(super) fn detached(&self) -> Self {
        Self {
            payload_is_utf8: self.payload_is_utf8,
            message_expiry_s: self.message_expiry_s,
            content_type: self.content_type.as_ref().map(Text::detached),
            response_topic: self.response_topic.as_ref().map(Text::detached),
            correlation_data: self.correlation_data.as_deref().map(Bytes::copy_from_slice),
            user: (self.user.iter())
                .map(|(name, value)| (name.detached(), value.detached()))
                .collect(),
        }
    }

    /// What they take in memory, roughly, in bytes.
    pub(super) fn byte_len(&self) -> usize {
        let text = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.as_bytes().len());
        let user = self.user.iter().map(|(name, value)| {
            2 * size_of::<Text>() + name.as_bytes().len() + value.as_bytes().len()
        });
        let data = self.correlation_data.as_ref().map_or(0, Bytes::len);
        size_of::<Self>()
            + text(&self.content_type)
            + text(&self.response_topic)
            + data
            + user.sum::<usize>()
    }
}

/// A PUBLISH as it came: well formed, its topic not resolved yet.
#[derive(Debug)]
pub(super) struct Parsed {
    /// `None` if it is empty, which only a topic alias excuses.
    pub(super) topic: Option<Topic>,
    pub(super) topic_alias: Option<u16>,
    pub(super) delivery: Delivery,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) payload: Bytes,
    pub(super) sequence: Option<DeviceSequence>,
    pub(super) maybe_dup: bool,
    pub(super) properties: Option<Box<PublishProperties>>,
    pub(super) refusal: Option<PublishRefusal>,
}

/// Reads the body of a PUBLISH with this fixed header.
pub(super) fn parse(
    version: MqttVersion,
    header: FixedHeader,
    body: Bytes,
) -> Result<Parsed, CloseReason> {
    let mut reader = Reader::new(body);
    let dup = header.first & FLAG_DUP != 0;
    let qos = (header.first >> 1) & 0b11;
    match (qos, dup) {
        (0, true) => return Err(CloseReason::Malformed("DUP on a QoS 0 PUBLISH")), // [MQTT-3.3.1-2]
        (0..=2, _) => {}
        _ => return Err(CloseReason::Malformed("QoS 3")), // [MQTT-3.3.1-4]
    }
    let topic = topic_name(reader.text()?)?;
    let delivery = if qos == 0 {
        Delivery::AtMostOnce
    } else {
        // [MQTT-2.2.1-3]
        let packet_id = NonZeroU16::new(reader.u16()?);
        let packet_id = packet_id.ok_or(CloseReason::Protocol("packet identifier 0"))?;
        match qos {
            1 => Delivery::AtLeastOnce { packet_id },
            _ => Delivery::ExactlyOnce { packet_id },
        }
    };
    let properties = match version {
        MqttVersion::V311 => properties::Parsed::default(),
        MqttVersion::V5 => properties::parse(&mut reader)?,
    };
    Ok(Parsed {
        topic,
        topic_alias: properties.topic_alias,
        delivery,
        retain: header.first & FLAG_RETAIN != 0,
        dup,
        payload: reader.rest(),
        sequence: properties.sequence,
        maybe_dup: properties.maybe_dup,
        properties: properties.kept,
        refusal: properties.refusal,
    })
}

/// [MQTT-3.3.2-2]: no wildcards in the topic of a publish.
fn topic_name(text: Text) -> Result<Option<Topic>, CloseReason> {
    if text.as_bytes().is_empty() {
        return Ok(None);
    }
    let topic = Topic::new(text);
    topic.map(Some).ok_or(CloseReason::Protocol("a wildcard in the topic of a PUBLISH"))
}
