//! CONNECT: which protocol a client speaks, and what it asks for.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mqtt_proto::{v3, v5};

use super::close::{CloseReason, ConnectRefusal};
use super::control;
use super::frame::FixedHeader;
use super::limits::CLIENT_ID_LEN_MAX;
use super::reply::Replies;
use super::will::{self, Will, WillFault};

/// Bytes before the connect flags: a length of two bytes, `MQTT`, the protocol level.
const FLAGS_AT: usize = 7;
const FLAG_RESERVED: u8 = 0b0000_0001;
const FLAG_WILL: u8 = 0b0000_0100;
const FLAGS_OF_WILL: u8 = 0b0011_1000;
const FLAG_PASSWORD: u8 = 0b0100_0000;
const FLAG_USERNAME: u8 = 0b1000_0000;

/// Bridges of some brokers set this bit of the level to be told apart from clients.
const LEVEL_BRIDGE_BIT: u8 = 0x80;
const LEVEL_V311: u8 = 4;
const LEVEL_V5: u8 = 5;

/// A version of the protocol that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

impl fmt::Display for MqttVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

/// A client that wants to connect, for the shell to authenticate.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Its identifier: what it sent, or one that was made for it.
    pub client_id: Arc<str>,
    /// Whether the identifier was made here.
    pub client_id_assigned: bool,
    /// The protocol it speaks.
    pub version: MqttVersion,
    /// User name.
    pub username: Option<Arc<str>>,
    /// Password. It is left out of this type's debug output.
    pub password: Option<Bytes>,
    /// Whether it wants to forget its session (Clean Start; Clean Session in 3.1.1).
    pub clean_start: bool,
    /// Keep-alive time in seconds; 0 means none.
    pub keep_alive_s: u16,
    /// How long it wants its session to be kept after a disconnect, in seconds.
    pub session_expiry_s: u32,
    /// What is to be published when it is gone.
    pub will: Option<Box<Will>>,
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("client_id", &self.client_id)
            .field("client_id_assigned", &self.client_id_assigned)
            .field("version", &self.version)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("clean_start", &self.clean_start)
            .field("keep_alive_s", &self.keep_alive_s)
            .field("session_expiry_s", &self.session_expiry_s)
            .field("will", &self.will.as_ref().map(|will| &will.topic))
            .finish()
    }
}

/// A CONNECT that may be accepted, and how to talk to its sender.
#[derive(Debug)]
pub(super) struct Connect {
    pub(super) request: ConnectRequest,
    pub(super) replies: Replies,
    /// Publishes of QoS 1 and 2 that it takes unacknowledged.
    pub(super) receive_max: u16,
}

/// A CONNECT that may not be accepted.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: CloseReason,
    /// How to answer; `None` if the connection is to be closed without a word.
    pub(super) replies: Option<Replies>,
}

/// Decodes a CONNECT. `entropy` makes the identifier of a client that sent none.
pub(super) fn decode(header: FixedHeader, body: &[u8], entropy: u128) -> Result<Connect, Fault> {
    match version(body)? {
        MqttVersion::V311 => decode_v3(header, body, entropy),
        MqttVersion::V5 => decode_v5(header, body, entropy),
    }
}

/// Reads protocol name and level (v5 3.1.2.1). Other versions are told so in words that they understand.
fn version(body: &[u8]) -> Result<MqttVersion, Fault> {
    let unsupported = |level, version| {
        let reason = CloseReason::UnsupportedVersion { level };
        Err(Fault { reason, replies: Some(Replies::of_version(version)) })
    };
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', LEVEL_V311, ..] => Ok(MqttVersion::V311),
        [0, 4, b'M', b'Q', b'T', b'T', LEVEL_V5, ..] => Ok(MqttVersion::V5),
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] if level & !LEVEL_BRIDGE_BIT < LEVEL_V5 => {
            unsupported(*level, MqttVersion::V311)
        }
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] => unsupported(*level, MqttVersion::V5),
        // MQTT 3.1, whose CONNACK has the form of 3.1.1's.
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => {
            unsupported(*level, MqttVersion::V311)
        }
        _ => Err(Fault { reason: CloseReason::NotMqtt("another protocol name"), replies: None }),
    }
}

fn decode_v3(header: FixedHeader, body: &[u8], entropy: u128) -> Result<Connect, Fault> {
    // A CONNECT that does not conform is closed without a CONNACK [MQTT-3.1.4-1].
    let silent = |reason| Fault { reason, replies: None };
    check_flags(MqttVersion::V311, body).map_err(silent)?;
    let packet = control::decode_v3(header, body).map_err(silent)?;
    let v3::Packet::Connect(connect) = packet else {
        return Err(silent(CloseReason::NotMqtt("the first packet is not a CONNECT")));
    };
    control::check_text(&connect.client_id).map_err(silent)?;
    control::check_optional_text(connect.username.as_ref()).map_err(silent)?;

    let replies = Replies::of_version(MqttVersion::V311);
    let refused =
        |refusal| Fault { reason: CloseReason::ConnectRefused(refusal), replies: Some(replies) };
    // [MQTT-3.1.3-8]: without an identifier there is no session to come back to.
    let id_missing = connect.client_id.is_empty() && !connect.clean_session;
    if id_missing || connect.client_id.len() > CLIENT_ID_LEN_MAX {
        return Err(refused(ConnectRefusal::ClientIdInvalid));
    }
    let will =
        connect.last_will.map(|will| will::from_v3(&will)).transpose().map_err(
            |wrong| match wrong {
                WillFault::Broken(reason) => silent(reason),
                WillFault::Refused(refusal) => refused(refusal),
            },
        )?;
    let (client_id, client_id_assigned) = identify(connect.client_id, entropy);
    let request = ConnectRequest {
        client_id,
        client_id_assigned,
        version: MqttVersion::V311,
        username: connect.username,
        password: connect.password,
        clean_start: connect.clean_session,
        keep_alive_s: connect.keep_alive,
        session_expiry_s: if connect.clean_session { 0 } else { u32::MAX },
        will: will.map(Box::new),
    };
    Ok(Connect { request, replies, receive_max: u16::MAX })
}

fn decode_v5(header: FixedHeader, body: &[u8], entropy: u128) -> Result<Connect, Fault> {
    let replies = Replies::of_version(MqttVersion::V5);
    let fault = |reason| Fault { reason, replies: Some(replies) };
    if !header.is_minimal() {
        return Err(fault(CloseReason::Malformed("a length with more bytes than it needs")));
    }
    check_flags(MqttVersion::V5, body).map_err(fault)?;
    let packet = control::decode_v5(header, body).map_err(fault)?;
    let v5::Packet::Connect(connect) = packet else {
        return Err(fault(CloseReason::NotMqtt("the first packet is not a CONNECT")));
    };
    check_v5(&connect).map_err(fault)?;

    let replies = Replies::of_client(&connect.properties);
    let refused =
        |refusal| Fault { reason: CloseReason::ConnectRefused(refusal), replies: Some(replies) };
    if connect.properties.auth_method.is_some() {
        return Err(refused(ConnectRefusal::EnhancedAuthentication));
    }
    if connect.client_id.len() > CLIENT_ID_LEN_MAX {
        return Err(refused(ConnectRefusal::ClientIdInvalid));
    }
    let will =
        connect.last_will.map(|will| will::from_v5(&will)).transpose().map_err(
            |wrong| match wrong {
                WillFault::Broken(reason) => fault(reason),
                WillFault::Refused(refusal) => refused(refusal),
            },
        )?;
    let (client_id, client_id_assigned) = identify(connect.client_id, entropy);
    let request = ConnectRequest {
        client_id,
        client_id_assigned,
        version: MqttVersion::V5,
        username: connect.username,
        password: connect.password,
        clean_start: connect.clean_start,
        keep_alive_s: connect.keep_alive,
        session_expiry_s: connect.properties.session_expiry_interval.unwrap_or(0),
        will: will.map(Box::new),
    };
    let receive_max = connect.properties.receive_max.unwrap_or(u16::MAX);
    Ok(Connect { request, replies, receive_max })
}

/// What the library does not check of the flags.
fn check_flags(version: MqttVersion, body: &[u8]) -> Result<(), CloseReason> {
    let malformed = |what| Err(CloseReason::Malformed(what));
    let Some(&flags) = body.get(FLAGS_AT) else {
        return malformed("a CONNECT without flags");
    };
    if flags & FLAG_RESERVED != 0 {
        return malformed("the reserved flag of the CONNECT is set"); // [MQTT-3.1.2-3]
    }
    if flags & FLAG_WILL == 0 && flags & FLAGS_OF_WILL != 0 {
        return malformed("will QoS or will retain without a will"); // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    }
    let password_alone = flags & FLAG_PASSWORD != 0 && flags & FLAG_USERNAME == 0;
    match version {
        MqttVersion::V311 if password_alone => malformed("a password without a user name"), // v3 [MQTT-3.1.2-22]
        MqttVersion::V311 | MqttVersion::V5 => Ok(()),
    }
}

/// What the library does not check of the rest.
fn check_v5(connect: &v5::Connect) -> Result<(), CloseReason> {
    let properties = &connect.properties;
    control::check_text(&connect.client_id)?;
    control::check_optional_text(connect.username.as_ref())?;
    control::check_optional_text(properties.auth_method.as_ref())?;
    control::check_user_properties(&properties.user_properties)?;
    if properties.receive_max == Some(0) {
        return Err(CloseReason::Protocol("Receive Maximum 0")); // v5 3.1.2.11.3
    }
    if properties.max_packet_size == Some(0) {
        return Err(CloseReason::Protocol("Maximum Packet Size 0")); // v5 3.1.2.11.4
    }
    if properties.auth_data.is_some() && properties.auth_method.is_none() {
        return Err(CloseReason::Protocol("authentication data without a method")); // v5 3.1.2.11.10
    }
    Ok(())
}

/// The client's identifier, and whether it had to be made.
fn identify(client_id: Arc<str>, entropy: u128) -> (Arc<str>, bool) {
    if client_id.is_empty() {
        (format!("auto-{entropy:032x}").into(), true)
    } else {
        (client_id, false)
    }
}
