//! The properties of an MQTT 5 PUBLISH (v5 3.3.2.3).

use bytes::Bytes;

use super::close::{CloseReason, PublishRefusal};
use super::limits::{USER_PROPERTIES_LEN_MAX, USER_PROPERTIES_MAX};
use super::publish::PublishProperties;
use super::reader::Reader;
use super::sequence::{DeviceSequence, SequenceProperties};
use super::text::Text;

/// Property identifiers (v5 table 2-4).
pub(super) mod id {
    pub(in crate::mqtt) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub(in crate::mqtt) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub(in crate::mqtt) const CONTENT_TYPE: u8 = 0x03;
    pub(in crate::mqtt) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in crate::mqtt) const CORRELATION_DATA: u8 = 0x09;
    pub(in crate::mqtt) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
    pub(in crate::mqtt) const TOPIC_ALIAS: u8 = 0x23;
    pub(in crate::mqtt) const USER_PROPERTY: u8 = 0x26;
}

/// Everything that the properties of a PUBLISH say.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) topic_alias: Option<u16>,
    /// `None` if there is nothing to keep, so that a plain publish allocates nothing.
    pub(super) kept: Option<Box<PublishProperties>>,
    pub(super) sequence: Option<DeviceSequence>,
    pub(super) maybe_dup: bool,
    /// Correct by the protocol, but not taken here.
    pub(super) refusal: Option<PublishRefusal>,
}

/// Reads the properties at the front of `body`.
pub(super) fn parse(body: &mut Reader) -> Result<Parsed, CloseReason> {
    let len = body.variable()?;
    if len == 0 {
        return Ok(Parsed::default());
    }
    let mut section = Reader::new(body.take(len as usize)?);
    let mut collector = Collector::default();
    while !section.is_empty() {
        collector.property(&mut section)?;
    }
    Ok(collector.finish())
}

#[derive(Default)]
struct Collector {
    topic_alias: Option<u16>,
    payload_format: Option<u8>,
    message_expiry_s: Option<u32>,
    content_type: Option<Text>,
    response_topic: Option<Text>,
    correlation_data: Option<Bytes>,
    user: Vec<(Text, Text)>,
    user_count: usize,
    user_len: usize,
    sequence: SequenceProperties,
}

impl Collector {
    fn property(&mut self, section: &mut Reader) -> Result<(), CloseReason> {
        match section.u8()? {
            id::PAYLOAD_FORMAT_INDICATOR => {
                once(&mut self.payload_format, payload_format(section)?)
            }
            id::MESSAGE_EXPIRY_INTERVAL => once(&mut self.message_expiry_s, section.u32()?),
            id::CONTENT_TYPE => once(&mut self.content_type, section.text()?),
            id::RESPONSE_TOPIC => once(&mut self.response_topic, response_topic(section)?),
            id::CORRELATION_DATA => once(&mut self.correlation_data, section.binary()?),
            // Only a server may send it [MQTT-3.3.4-6].
            id::SUBSCRIPTION_IDENTIFIER => {
                Err(CloseReason::Protocol("a subscription identifier in a client's PUBLISH"))
            }
            id::TOPIC_ALIAS => once(&mut self.topic_alias, section.u16()?),
            id::USER_PROPERTY => {
                let (name, value) = (section.text()?, section.text()?);
                self.user_property(name, value);
                Ok(())
            }
            // An identifier that is not valid for its packet type makes it malformed (v5 2.2.2.2).
            _ => Err(CloseReason::Malformed("a property that a PUBLISH does not have")),
        }
    }

    fn user_property(&mut self, name: Text, value: Text) {
        self.user_count += 1;
        self.user_len += name.as_bytes().len() + value.as_bytes().len();
        if !self.user_excess() && !self.sequence.take(&name, &value) {
            self.user.push((name, value));
        }
    }

    fn user_excess(&self) -> bool {
        self.user_count > USER_PROPERTIES_MAX || self.user_len > USER_PROPERTIES_LEN_MAX
    }

    fn finish(self) -> Parsed {
        let excess = self.user_excess();
        let maybe_dup = self.sequence.is_maybe_dup();
        let (sequence, fault) = match self.sequence.finish() {
            Ok(sequence) => (sequence, None),
            Err(fault) => (None, Some(PublishRefusal::Sequence(fault))),
        };
        let refusal = if excess { Some(PublishRefusal::UserProperties) } else { fault };
        let kept = PublishProperties {
            payload_is_utf8: self.payload_format == Some(1),
            message_expiry_s: self.message_expiry_s,
            content_type: self.content_type,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            user: self.user,
        };
        let kept = (kept != PublishProperties::default()).then(|| Box::new(kept));
        Parsed { topic_alias: self.topic_alias, kept, sequence, maybe_dup, refusal }
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), CloseReason> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(CloseReason::Protocol("a property came twice")),
    }
}

fn payload_format(section: &mut Reader) -> Result<u8, CloseReason> {
    let indicator = section.u8()?;
    let known = indicator <= 1;
    known.then_some(indicator).ok_or(CloseReason::Protocol("payload format indicator above 1"))
}

/// [MQTT-3.3.2-14]: no wildcards; it is a topic name, so it is not empty either [MQTT-4.7.3-1].
fn response_topic(section: &mut Reader) -> Result<Text, CloseReason> {
    let topic = section.text()?;
    let valid = topic.names_a_topic();
    valid.then_some(topic).ok_or(CloseReason::Protocol("a response topic that names no topic"))
}
