//! Why connections are closed and publishes refused, in words for a log line and in the protocol's codes.

use mqtt_proto::v3::ConnectReturnCode;
use mqtt_proto::v5::{ConnectReasonCode, DisconnectReasonCode, PubackReasonCode};
use thiserror::Error;
use wire::seq::DeviceSeq;

use super::limits::{TOPIC_ALIAS_MAX, TOPIC_LEN_MAX, USER_PROPERTIES_LEN_MAX, USER_PROPERTIES_MAX};
use super::sequence::SequenceFault;
use crate::device_batch::BatchFault;

/// Why a connection ended. Its text is what the log says, and the reason string that an MQTT 5 client gets.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client said goodbye with this reason code (0 in MQTT 3.1.1).
    #[error("the client disconnected with reason code {reason_code:#04x}")]
    ClientDisconnected {
        /// Reason code of the DISCONNECT.
        reason_code: u8,
    },
    /// The CONNECT was understood and refused.
    #[error("connect refused: {0}")]
    ConnectRefused(ConnectRefusal),
    /// No CONNECT came in time.
    #[error("no CONNECT within {} seconds", super::limits::CONNECT_DEADLINE_MS / 1_000)]
    ConnectTimeout,
    /// Nothing came for one and a half times the keep-alive time.
    #[error("nothing received within one and a half times the keep-alive time of {keep_alive_s} s")]
    KeepAliveTimeout {
        /// What the client asked for, in seconds.
        keep_alive_s: u16,
    },
    /// Bytes that are no packet of the protocol.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// The first packet was not a CONNECT, or not one of MQTT.
    #[error("not an MQTT client: {0}")]
    NotMqtt(&'static str),
    /// A packet larger than this connection takes.
    #[error("packet of {len} bytes, {max} are allowed")]
    PacketTooLarge {
        /// Its length with the fixed header, in bytes.
        len: u32,
        /// What would have been taken, in bytes.
        max: u32,
    },
    /// A packet that the protocol does not allow there.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// More publishes of QoS 1 and 2 at a time than were announced.
    #[error("more than {receive_max} publishes unacknowledged")]
    ReceiveMaximumExceeded {
        /// What was announced.
        receive_max: u16,
    },
    /// A publish that could not be refused any other way.
    #[error("publish refused: {0}")]
    Refused(PublishRefusal),
    /// A publish that the store refused.
    #[error("publish refused: {0}")]
    Rejected(RejectReason),
    /// This gateway is stopping.
    #[error("the gateway is shutting down")]
    ShuttingDown,
    /// The same client connected anew.
    #[error("another connection has taken over this client identifier")]
    TakenOver,
    /// A topic alias outside of what was announced.
    #[error("topic alias {alias}, 1 to {TOPIC_ALIAS_MAX} are allowed")]
    TopicAliasInvalid {
        /// What the client sent.
        alias: u16,
    },
    /// A protocol version other than MQTT 3.1.1 and 5.
    #[error("protocol level {level} is not supported; MQTT 3.1.1 (4) and MQTT 5 (5) are")]
    UnsupportedVersion {
        /// Protocol level of the CONNECT.
        level: u8,
    },
}

impl CloseReason {
    /// Whether the peer did wrong (log as a warning), as opposed to a normal end of a connection.
    #[must_use]
    pub fn is_peer_fault(&self) -> bool {
        match self {
            Self::ClientDisconnected { .. } | Self::ShuttingDown | Self::TakenOver => false,
            Self::Rejected(RejectReason::Full) => false,
            Self::ConnectRefused(refusal) => !matches!(
                refusal,
                ConnectRefusal::QuotaExceeded
                    | ConnectRefusal::ServerBusy
                    | ConnectRefusal::ServerUnavailable
            ),
            Self::ConnectTimeout
            | Self::KeepAliveTimeout { .. }
            | Self::Malformed(_)
            | Self::NotMqtt(_)
            | Self::PacketTooLarge { .. }
            | Self::Protocol(_)
            | Self::ReceiveMaximumExceeded { .. }
            | Self::Refused(_)
            | Self::Rejected(_)
            | Self::TopicAliasInvalid { .. }
            | Self::UnsupportedVersion { .. } => true,
        }
    }

    /// Whether a connection that ends so leaves its will (v5 3.1.2.5, 3.14.4): not after a normal DISCONNECT. Nor when this
    /// gateway is stopping, which says nothing about the client.
    pub(super) fn leaves_will(&self) -> bool {
        match self {
            Self::ClientDisconnected { reason_code } => *reason_code != 0,
            Self::ShuttingDown => false,
            Self::ConnectRefused(_)
            | Self::ConnectTimeout
            | Self::KeepAliveTimeout { .. }
            | Self::Malformed(_)
            | Self::NotMqtt(_)
            | Self::PacketTooLarge { .. }
            | Self::Protocol(_)
            | Self::ReceiveMaximumExceeded { .. }
            | Self::Refused(_)
            | Self::Rejected(_)
            | Self::TakenOver
            | Self::TopicAliasInvalid { .. }
            | Self::UnsupportedVersion { .. } => true,
        }
    }

    /// What a DISCONNECT says about it (v5 table 3-13); `None` where the connection is closed without one.
    pub(super) fn disconnect_code(&self) -> Option<DisconnectReasonCode> {
        use DisconnectReasonCode as Code;
        Some(match self {
            Self::ClientDisconnected { .. }
            | Self::ConnectRefused(_)
            | Self::ConnectTimeout
            | Self::NotMqtt(_)
            | Self::UnsupportedVersion { .. } => return None,
            Self::KeepAliveTimeout { .. } => Code::KeepAliveTimeout,
            Self::Malformed(_) => Code::MalformedPacket,
            Self::PacketTooLarge { .. } => Code::PacketTooLarge,
            Self::Protocol(_) => Code::ProtocolError,
            Self::ReceiveMaximumExceeded { .. } => Code::ReceiveMaximumExceeded,
            Self::Refused(refusal) => refusal.disconnect_code(),
            Self::Rejected(reason) => reason.disconnect_code(),
            Self::ShuttingDown => Code::ServerShuttingDown,
            Self::TakenOver => Code::SessionTakenOver,
            Self::TopicAliasInvalid { .. } => Code::TopicAliasInvalid,
        })
    }
}

/// Why a CONNECT was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectRefusal {
    /// The user name or the password is wrong.
    #[error("bad user name or password")]
    BadCredentials,
    /// The client identifier is empty where it must not be, too long, or not allowed.
    #[error("client identifier not valid")]
    ClientIdInvalid,
    /// Enhanced authentication, which this server does not offer.
    #[error("enhanced authentication is not supported")]
    EnhancedAuthentication,
    /// The client may not connect here.
    #[error("not authorized")]
    NotAuthorized,
    /// A limit on connections is reached.
    #[error("quota exceeded")]
    QuotaExceeded,
    /// Try again later.
    #[error("server busy")]
    ServerBusy,
    /// The server cannot serve anybody now.
    #[error("server unavailable")]
    ServerUnavailable,
    /// The will's topic is reserved or too long.
    #[error("a will cannot be published to this topic")]
    WillTopic,
}

impl ConnectRefusal {
    /// Reason code of the CONNACK (v5 table 3-1).
    pub(super) fn v5_code(self) -> ConnectReasonCode {
        match self {
            Self::BadCredentials => ConnectReasonCode::BadUserNameOrPassword,
            Self::ClientIdInvalid => ConnectReasonCode::ClientIdentifierNotValid,
            Self::EnhancedAuthentication => ConnectReasonCode::BadAuthMethod,
            Self::NotAuthorized => ConnectReasonCode::NotAuthorized,
            Self::QuotaExceeded => ConnectReasonCode::QuotaExceeded,
            Self::ServerBusy => ConnectReasonCode::ServerBusy,
            Self::ServerUnavailable => ConnectReasonCode::ServerUnavailable,
            Self::WillTopic => ConnectReasonCode::TopicNameInvalid,
        }
    }

    /// Return code of the CONNACK (v3 table 3.1).
    pub(super) fn v3_code(self) -> ConnectReturnCode {
        match self {
            Self::BadCredentials => ConnectReturnCode::BadUserNameOrPassword,
            Self::ClientIdInvalid => ConnectReturnCode::IdentifierRejected,
            Self::NotAuthorized | Self::WillTopic => ConnectReturnCode::NotAuthorized,
            Self::EnhancedAuthentication
            | Self::QuotaExceeded
            | Self::ServerBusy
            | Self::ServerUnavailable => ConnectReturnCode::ServerUnavailable,
        }
    }
}

/// Why a publish was refused before anybody was asked to store it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishRefusal {
    /// A device's batch under the name of another device.
    #[error("only the client with that identifier may publish a device's batches")]
    ForeignBatch,
    /// A topic that begins with `$`, or one of the gateway's own.
    #[error("topics that begin with $ or culvert/ are the server's own")]
    ReservedTopic,
    /// The properties that number the reading are not all there or make no sense.
    #[error("device sequence: {0}")]
    Sequence(SequenceFault),
    /// The topic name is too long.
    #[error("topic name longer than {TOPIC_LEN_MAX} bytes")]
    TopicTooLong,
    /// Too many user properties, or too long ones.
    #[error(
        "more than {USER_PROPERTIES_MAX} user properties or {USER_PROPERTIES_LEN_MAX} bytes of them"
    )]
    UserProperties,
}

impl PublishRefusal {
    /// Reason code of the PUBACK (v5 table 3-4).
    pub(super) fn puback_code(self) -> PubackReasonCode {
        match self {
            Self::ForeignBatch => PubackReasonCode::NotAuthorized,
            Self::ReservedTopic | Self::TopicTooLong => PubackReasonCode::TopicNameInvalid,
            Self::Sequence(_) => PubackReasonCode::ImplementationSpecificError,
            Self::UserProperties => PubackReasonCode::QuotaExceeded,
        }
    }

    fn disconnect_code(self) -> DisconnectReasonCode {
        match self {
            Self::ForeignBatch => DisconnectReasonCode::NotAuthorized,
            Self::ReservedTopic | Self::TopicTooLong => DisconnectReasonCode::TopicNameInvalid,
            Self::Sequence(_) => DisconnectReasonCode::ImplementationSpecificError,
            Self::UserProperties => DisconnectReasonCode::QuotaExceeded,
        }
    }
}

/// Why the store refused a publish. Any refusal closes the connection (docs/protocols/uplink.md, D2): a later publish
/// would otherwise be taken in the place of the refused one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// A payload published as a device's batch that cannot be opened.
    #[error("{0}")]
    Batch(BatchFault),
    /// The reading does not follow what is stored of its device's queue.
    #[error("device sequence {first} is neither next nor a copy, {expected} was expected")]
    DeviceSequence {
        /// What would have been taken.
        expected: DeviceSeq,
        /// What the client sent.
        first: DeviceSeq,
    },
    /// The spool is full and its policy is to refuse.
    #[error("the gateway's spool is full")]
    Full,
    /// This client may not publish this.
    #[error("not authorized")]
    NotAuthorized,
}

impl RejectReason {
    /// Reason code of the PUBACK (v5 table 3-4).
    pub(super) fn puback_code(self) -> PubackReasonCode {
        match self {
            Self::Batch(_) => PubackReasonCode::PayloadFormatInvalid,
            Self::DeviceSequence { .. } => PubackReasonCode::ImplementationSpecificError,
            Self::Full => PubackReasonCode::QuotaExceeded,
            Self::NotAuthorized => PubackReasonCode::NotAuthorized,
        }
    }

    fn disconnect_code(self) -> DisconnectReasonCode {
        match self {
            Self::Batch(_) => DisconnectReasonCode::PayloadFormatInvalid,
            Self::DeviceSequence { .. } => DisconnectReasonCode::ImplementationSpecificError,
            Self::Full => DisconnectReasonCode::QuotaExceeded,
            Self::NotAuthorized => DisconnectReasonCode::NotAuthorized,
        }
    }
}
