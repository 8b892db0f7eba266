//! Every packet but PUBLISH, decoded by `mqtt-proto` on an exact frame, with the checks it leaves out.

use std::num::NonZeroU16;
use std::sync::Arc;

use mqtt_proto::v5::UserProperty;
use mqtt_proto::{Error, Pid, PollHeader, QoS, TopicFilter, v3, v5};

use super::close::CloseReason;
use super::connect::MqttVersion;
use super::filter::wildcards_fill_their_levels;
use super::frame::{self, FixedHeader, packet_type};
use super::subscribe::{SubscribeRequest, SubscriptionOptions, UnsubscribeRequest};

/// Reason codes from here on say that something failed (v5 2.4).
const REASON_CODE_FAILURE_MIN: u8 = 0x80;

/// What a connected client asks for, apart from publishing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control {
    Disconnect {
        reason_code: u8,
        session_expiry_s: Option<u32>,
    },
    Ping,
    Puback(NonZeroU16),
    /// PUBREC: whether it goes on, or is refused.
    Pubrec(NonZeroU16, Received),
    Pubrel(NonZeroU16),
    Pubcomp(NonZeroU16),
    Subscribe(SubscribeRequest),
    Unsubscribe(UnsubscribeRequest),
    /// Well formed, but not for a server in this state.
    OutOfPlace(&'static str),
}

/// What a client says of a QoS 2 publish that it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    Refused,
    Taken,
}

/// Decodes the packet with this fixed header and body. Neither CONNECT nor PUBLISH may be given to it.
pub(super) fn decode(
    version: MqttVersion,
    header: FixedHeader,
    body: &[u8],
) -> Result<Control, CloseReason> {
    match version {
        MqttVersion::V311 => from_v3(decode_v3(header, body)?),
        MqttVersion::V5 => from_v5(decode_v5(header, body)?),
    }
}

/// Decodes an MQTT 3.1.1 packet other than PUBLISH.
pub(super) fn decode_v3(header: FixedHeader, body: &[u8]) -> Result<v3::Packet, CloseReason> {
    let header = v3::Header::new_with(header.first, header.body_len, header.total_len())
        .map_err(v3_fault)?;
    // `decode_buffer` panics on the packets that have no body, so they are told apart first.
    if let Some(packet) = header.build_empty_packet() {
        return only_without_body(packet, body);
    }
    let mut end = 0;
    let packet = header.decode_buffer(body, &mut end).map_err(v3_fault)?;
    ends_at(end, body)?;
    Ok(packet)
}

/// Decodes an MQTT 5 packet other than PUBLISH.
pub(super) fn decode_v5(header: FixedHeader, body: &[u8]) -> Result<v5::Packet, CloseReason> {
    check_property_length(header.packet_type(), body)?;
    let header = v5::Header::new_with(header.first, header.body_len, header.total_len())
        .map_err(v5_fault)?;
    // As in `decode_v3`.
    if let Some(packet) = header.build_empty_packet() {
        return only_without_body(packet, body);
    }
    let mut end = 0;
    let packet = header.decode_buffer(body, &mut end).map_err(v5_fault)?;
    ends_at(end, body)?;
    Ok(packet)
}

/// [MQTT-1.5.4-2]: no U+0000 in a string.
pub(super) fn check_text(text: &str) -> Result<(), CloseReason> {
    if text.contains('\0') {
        return Err(CloseReason::Malformed("a string holds U+0000"));
    }
    Ok(())
}

/// [`check_text`] for a string that may be missing.
pub(super) fn check_optional_text(text: Option<&Arc<str>>) -> Result<(), CloseReason> {
    text.map_or(Ok(()), |text| check_text(text))
}

/// [`check_text`] for names and values.
pub(super) fn check_user_properties(properties: &[UserProperty]) -> Result<(), CloseReason> {
    properties.iter().try_for_each(|property| {
        check_text(&property.name)?;
        check_text(&property.value)
    })
}

fn from_v3(packet: v3::Packet) -> Result<Control, CloseReason> {
    use v3::Packet;
    Ok(match packet {
        Packet::Disconnect => Control::Disconnect { reason_code: 0, session_expiry_s: None },
        Packet::Pingreq => Control::Ping,
        Packet::Puback(pid) => Control::Puback(packet_id(pid)?),
        Packet::Pubrec(pid) => Control::Pubrec(packet_id(pid)?, Received::Taken),
        Packet::Pubrel(pid) => Control::Pubrel(packet_id(pid)?),
        Packet::Pubcomp(pid) => Control::Pubcomp(packet_id(pid)?),
        Packet::Subscribe(subscribe) => {
            subscribe.topics.iter().try_for_each(|(filter, _)| check_filter(filter))?;
            let options = |qos: QoS| SubscriptionOptions::v311(qos.into());
            Control::Subscribe(SubscribeRequest {
                packet_id: packet_id(subscribe.pid)?,
                filters: (subscribe.topics.iter())
                    .map(|(filter, qos)| (Arc::from(&**filter), options(*qos)))
                    .collect(),
            })
        }
        Packet::Unsubscribe(unsubscribe) => unsubscription(unsubscribe.pid, &unsubscribe.topics)?,
        Packet::Connect(_) | Packet::Publish(_) => Control::OutOfPlace("a packet out of order"),
        Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
            Control::OutOfPlace("a packet that only servers send")
        }
    })
}

fn from_v5(packet: v5::Packet) -> Result<Control, CloseReason> {
    use v5::Packet;
    Ok(match packet {
        Packet::Disconnect(disconnect) => {
            check_optional_text(disconnect.properties.reason_string.as_ref())?;
            check_user_properties(&disconnect.properties.user_properties)?;
            Control::Disconnect {
                reason_code: disconnect.reason_code as u8,
                session_expiry_s: disconnect.properties.session_expiry_interval,
            }
        }
        Packet::Pingreq => Control::Ping,
        Packet::Puback(ack) => {
            check_ack(ack.properties.reason_string.as_ref(), &ack.properties.user_properties)?;
            Control::Puback(packet_id(ack.pid)?)
        }
        Packet::Pubrec(ack) => {
            check_ack(ack.properties.reason_string.as_ref(), &ack.properties.user_properties)?;
            let refused = ack.reason_code as u8 >= REASON_CODE_FAILURE_MIN;
            let received = if refused { Received::Refused } else { Received::Taken };
            Control::Pubrec(packet_id(ack.pid)?, received)
        }
        Packet::Pubrel(ack) => {
            check_ack(ack.properties.reason_string.as_ref(), &ack.properties.user_properties)?;
            Control::Pubrel(packet_id(ack.pid)?)
        }
        Packet::Pubcomp(ack) => {
            check_ack(ack.properties.reason_string.as_ref(), &ack.properties.user_properties)?;
            Control::Pubcomp(packet_id(ack.pid)?)
        }
        Packet::Subscribe(subscribe) => subscription(&subscribe)?,
        Packet::Unsubscribe(unsubscribe) => {
            check_user_properties(&unsubscribe.properties.user_properties)?;
            unsubscription(unsubscribe.pid, &unsubscribe.topics)?
        }
        Packet::Auth(_) => Control::OutOfPlace("AUTH without an authentication method in CONNECT"),
        Packet::Connect(_) | Packet::Publish(_) => Control::OutOfPlace("a packet out of order"),
        Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
            Control::OutOfPlace("a packet that only servers send")
        }
    })
}

fn subscription(subscribe: &v5::Subscribe) -> Result<Control, CloseReason> {
    check_user_properties(&subscribe.properties.user_properties)?;
    let id = subscribe.properties.subscription_id.map(|id| id.value());
    // v5 3.8.2.1.2: it is a protocol error if the identifier is 0.
    if id == Some(0) {
        return Err(CloseReason::Protocol("subscription identifier 0"));
    }
    let mut filters = Vec::with_capacity(subscribe.topics.len());
    for (filter, options) in &subscribe.topics {
        check_filter(filter)?;
        if options.no_local && filter.is_shared() {
            return Err(CloseReason::Protocol("No Local on a shared subscription")); // [MQTT-3.8.3-4]
        }
        let options = SubscriptionOptions {
            qos: options.max_qos.into(),
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling.into(),
            id,
        };
        filters.push((Arc::from(&**filter), options));
    }
    Ok(Control::Subscribe(SubscribeRequest { packet_id: packet_id(subscribe.pid)?, filters }))
}

fn unsubscription(pid: Pid, topics: &[TopicFilter]) -> Result<Control, CloseReason> {
    topics.iter().try_for_each(|filter| check_filter(filter))?;
    let filters = topics.iter().map(|filter| Arc::from(&**filter)).collect();
    Ok(Control::Unsubscribe(UnsubscribeRequest { packet_id: packet_id(pid)?, filters }))
}

fn check_ack(reason: Option<&Arc<str>>, user: &[UserProperty]) -> Result<(), CloseReason> {
    check_optional_text(reason)?;
    check_user_properties(user)
}

/// [MQTT-4.7.1-2]: `+` fills its level. The library misses characters after a `+` in the last level.
fn check_filter(filter: &str) -> Result<(), CloseReason> {
    if wildcards_fill_their_levels(filter) {
        return Ok(());
    }
    Err(CloseReason::Malformed("a wildcard that does not fill its level"))
}

/// [MQTT-1.5.5-1]: the library takes lengths with more bytes than they need.
fn check_property_length(packet_type: u8, body: &[u8]) -> Result<(), CloseReason> {
    let at = match packet_type {
        packet_type::CONNECT => 10,
        packet_type::PUBACK | packet_type::PUBREC | packet_type::PUBREL | packet_type::PUBCOMP => 3,
        packet_type::SUBSCRIBE | packet_type::UNSUBSCRIBE => 2,
        packet_type::DISCONNECT => 1,
        _ => return Ok(()),
    };
    let Some((value, len)) = frame::variable(body.get(at..).unwrap_or_default())? else {
        return Ok(()); // Cut short or left out: the library decides which.
    };
    if len != frame::variable_len(value) {
        return Err(CloseReason::Malformed("a length with more bytes than it needs"));
    }
    Ok(())
}

fn only_without_body<P>(packet: P, body: &[u8]) -> Result<P, CloseReason> {
    if body.is_empty() {
        Ok(packet)
    } else {
        Err(CloseReason::Malformed("a body where none belongs"))
    }
}

fn ends_at(end: usize, body: &[u8]) -> Result<(), CloseReason> {
    if end == body.len() {
        Ok(())
    } else {
        Err(CloseReason::Malformed("bytes after the last field"))
    }
}

fn packet_id(pid: Pid) -> Result<NonZeroU16, CloseReason> {
    NonZeroU16::new(pid.value()).ok_or(CloseReason::Protocol("packet identifier 0"))
}

fn v5_fault(error: v5::ErrorV5) -> CloseReason {
    use v5::ErrorV5;
    match error {
        ErrorV5::Common(error) => v3_fault(error),
        ErrorV5::InvalidReasonCode(..) => {
            CloseReason::Malformed("a reason code that does not exist")
        }
        ErrorV5::InvalidSubscriptionOption(_) => CloseReason::Malformed("subscription options"),
        ErrorV5::InvalidPropertyId(_)
        | ErrorV5::InvalidProperty(..)
        | ErrorV5::InvalidWillProperty(_) => {
            CloseReason::Malformed("a property that this packet does not have")
        }
        ErrorV5::InvalidPropertyLength(_) => CloseReason::Malformed("length of the properties"),
        ErrorV5::InvalidByteProperty(..) => CloseReason::Protocol("a property neither 0 nor 1"),
        ErrorV5::DuplicatedProperty(_) => CloseReason::Protocol("a property came twice"),
        ErrorV5::InvalidPayloadFormat => CloseReason::Malformed("a will payload that is not UTF-8"),
        ErrorV5::InvalidResponseTopic => CloseReason::Protocol("a response topic with a wildcard"),
    }
}

fn v3_fault(error: Error) -> CloseReason {
    match error {
        Error::EmptySubscription => CloseReason::Protocol("no topic filter"), // [MQTT-3.8.3-2]
        Error::ZeroPid => CloseReason::Protocol("packet identifier 0"),       // [MQTT-2.2.1-3]
        Error::InvalidTopicFilter(_) => CloseReason::Malformed("a topic filter"),
        Error::InvalidTopicName(_) => CloseReason::Malformed("a topic name"),
        Error::InvalidString => CloseReason::Malformed("a string is not UTF-8"),
        Error::InvalidHeader => CloseReason::Malformed("packet type or flags"),
        Error::InvalidQos(_) => CloseReason::Malformed("a quality of service above 2"),
        Error::InvalidConnectFlags(_) => CloseReason::Malformed("flags of the CONNECT"),
        Error::InvalidRemainingLength
        | Error::InvalidVarByteInt
        | Error::IoError(_)
        | Error::InvalidConnackFlags(_)
        | Error::InvalidConnectReturnCode(_)
        | Error::InvalidProtocol(..)
        | Error::UnexpectedProtocol(_) => {
            CloseReason::Malformed("a field is cut short or not valid")
        }
    }
}
