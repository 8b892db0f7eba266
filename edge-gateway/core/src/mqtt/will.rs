//! What is to be published when a client is gone (v5 3.1.2.5).

use std::sync::Arc;

use bytes::Bytes;
use mqtt_proto::{v3, v5};
use wire::time::MonoMs;

use super::close::{CloseReason, ConnectRefusal};
use super::limits::{TOPIC_LEN_MAX, USER_PROPERTIES_LEN_MAX, USER_PROPERTIES_MAX};
use super::message::{self, Message};
use super::publish::PublishProperties;
use super::qos::Qos;
use super::reserved;
use super::text::{Text, Topic};

/// What a client wants to have published when its connection ends without a goodbye (v5 3.1.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Where to.
    pub topic: Topic,
    /// The message, byte for byte.
    pub payload: Bytes,
    /// With which quality of service.
    pub qos: Qos,
    /// To be kept for future subscribers.
    pub retain: bool,
    /// The properties of MQTT 5, if there are any.
    pub properties: Option<Box<PublishProperties>>,
    /// How long after the connection, in seconds.
    pub delay_s: u32,
}

impl Will {
    /// The will of `publisher`, as it is published at `now`.
    #[must_use]
    pub fn message(&self, publisher: &Arc<str>, now: MonoMs) -> Message {
        Message {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            qos: self.qos,
            retain: self.retain,
            sequence: None,
            maybe_dup: false,
            properties: self.properties.clone(),
            publisher: Some(Arc::clone(publisher)),
            expires_at: message::expiry(self.properties.as_deref(), now),
        }
    }
}

/// What is wrong with a will.
#[derive(Debug)]
pub(super) enum WillFault {
    /// It breaks the protocol.
    Broken(CloseReason),
    /// It is not taken here.
    Refused(ConnectRefusal),
}

/// The will of an MQTT 3.1.1 client.
pub(super) fn from_v3(will: &v3::LastWill) -> Result<Will, WillFault> {
    Ok(Will {
        topic: will_topic(&will.topic_name)?,
        payload: Bytes::copy_from_slice(&will.message),
        qos: will.qos.into(),
        retain: will.retain,
        properties: None,
        delay_s: 0,
    })
}

/// The will of an MQTT 5 client, with the checks that the library leaves out.
pub(super) fn from_v5(will: &v5::LastWill) -> Result<Will, WillFault> {
    let properties = &will.properties;
    let text = |text: &str| {
        let text = Text::new(Bytes::copy_from_slice(text.as_bytes()));
        text.ok_or(WillFault::Broken(CloseReason::Malformed("a string holds U+0000")))
    };
    let mut user = Vec::with_capacity(properties.user_properties.len());
    let mut user_len = 0;
    for property in &properties.user_properties {
        user_len += property.name.len() + property.value.len();
        user.push((text(&property.name)?, text(&property.value)?));
    }
    if user.len() > USER_PROPERTIES_MAX || user_len > USER_PROPERTIES_LEN_MAX {
        return Err(WillFault::Refused(ConnectRefusal::QuotaExceeded));
    }
    let response_topic = properties.response_topic.as_ref().map(|topic| text(topic)).transpose()?;
    if response_topic.as_ref().is_some_and(|topic| !topic.names_a_topic()) {
        let reason = CloseReason::Protocol("a response topic that names no topic");
        return Err(WillFault::Broken(reason));
    }
    let kept = PublishProperties {
        payload_is_utf8: properties.payload_is_utf8.unwrap_or(false),
        message_expiry_s: properties.message_expiry_interval,
        content_type: properties.content_type.as_ref().map(|kind| text(kind)).transpose()?,
        response_topic,
        correlation_data: properties.correlation_data.as_deref().map(Bytes::copy_from_slice),
        user,
    };
    Ok(Will {
        topic: will_topic(&will.topic_name)?,
        payload: Bytes::copy_from_slice(&will.payload),
        qos: will.qos.into(),
        retain: will.retain,
        properties: (kept != PublishProperties::default()).then(|| Box::new(kept)),
        delay_s: properties.delay_interval.unwrap_or(0),
    })
}

/// A will goes where a publish may go, batches of devices excepted.
fn will_topic(topic: &str) -> Result<Topic, WillFault> {
    let text = Text::new(Bytes::copy_from_slice(topic.as_bytes()))
        .ok_or(WillFault::Broken(CloseReason::Malformed("a string holds U+0000")))?;
    let topic = Topic::new(text)
        .ok_or(WillFault::Broken(CloseReason::Protocol("a will topic that names no topic")))?;
    let too_long = topic.byte_len() > TOPIC_LEN_MAX;
    if too_long || topic.is_reserved() || reserved::is_reserved(topic.as_str()) {
        return Err(WillFault::Refused(ConnectRefusal::WillTopic));
    }
    Ok(topic)
}
