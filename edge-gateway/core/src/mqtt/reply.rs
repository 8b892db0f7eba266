//! Packets to the client, apart from acknowledgements of success: those are the gate's alone.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use mqtt_proto::{Pid, VarBytes, v3, v5};

use super::close::{CloseReason, ConnectRefusal, PublishRefusal, RejectReason};
use super::connect::MqttVersion;
use super::frame;
use super::limits::{MqttLimits, TOPIC_ALIAS_MAX};
use super::outgoing::Form;
use super::publish::Delivery;
use super::qos::Qos;
use super::subscribe::{SubscribeOutcome, UnsubscribeOutcome};

/// Whether a CONNACK finds a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionPresence {
    Absent,
    Present,
}

/// Whether a packet identifier of QoS 2 stands for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Known,
    Unknown,
}

/// How to talk to one client. Every method gives `None` where the version has no such packet, or where the packet is
/// larger than the client takes: then it is not sent, as if it had been [MQTT-3.1.2-25].
#[derive(Debug, Clone, Copy)]
pub(super) struct Replies {
    pub(super) version: MqttVersion,
    /// Whether reason strings may go into packets other than CONNACK and DISCONNECT [MQTT-3.1.2-29].
    problem_information: bool,
    /// Longest packet that the client takes, in bytes.
    len_max: u32,
}

impl Replies {
    /// For a client of which nothing but the version is known.
    pub(super) fn of_version(version: MqttVersion) -> Self {
        Self { version, problem_information: true, len_max: u32::MAX }
    }

    /// For an MQTT 5 client that said this in its CONNECT.
    pub(super) fn of_client(properties: &v5::ConnectProperties) -> Self {
        Self {
            version: MqttVersion::V5,
            problem_information: properties.request_problem_info.unwrap_or(true),
            len_max: properties.max_packet_size.unwrap_or(u32::MAX),
        }
    }

    /// How PUBLISH packets to this client are written.
    pub(super) fn form(&self) -> Form {
        Form { version: self.version, len_max: self.len_max }
    }

    /// CONNACK of success. What it does not name is available: QoS 2, retained messages, wildcards, subscription
    /// identifiers (v5 3.2.2.3).
    pub(super) fn connack_accepted(
        &self,
        limits: &MqttLimits,
        session: SessionPresence,
        assigned_client_id: Option<&Arc<str>>,
        session_expiry_s: Option<u32>,
    ) -> Option<Bytes> {
        let present = session == SessionPresence::Present;
        if self.version == MqttVersion::V311 {
            let connack = v3::Connack::new(present, v3::ConnectReturnCode::Accepted);
            return v3_bytes(&connack.into());
        }
        let mut connack = v5::Connack::new(present, v5::ConnectReasonCode::Success);
        connack.properties = v5::ConnackProperties {
            session_expiry_interval: session_expiry_s,
            receive_max: Some(limits.receive_max.get()),
            max_packet_size: Some(limits.packet_len_max.get()),
            assigned_client_id: assigned_client_id.cloned(),
            topic_alias_max: Some(TOPIC_ALIAS_MAX),
            shared_subscription_available: Some(false),
            ..v5::ConnackProperties::default()
        };
        self.fitting(&connack.into())
    }

    /// CONNACK that refuses.
    pub(super) fn connack_refused(&self, refusal: ConnectRefusal) -> Option<Bytes> {
        match self.version {
            MqttVersion::V311 => v3_connack(refusal.v3_code()),
            MqttVersion::V5 => self.v5_connack(refusal.v5_code(), &refusal.to_string()),
        }
    }

    /// CONNACK for a CONNECT that is wrong in itself. MQTT 3.1.1 has one only for a wrong version.
    pub(super) fn connack_fault(&self, fault: &CloseReason) -> Option<Bytes> {
        if let CloseReason::ConnectRefused(refusal) = fault {
            return self.connack_refused(*refusal);
        }
        let unsupported = matches!(fault, CloseReason::UnsupportedVersion { .. });
        match self.version {
            MqttVersion::V311 if unsupported => {
                v3_connack(v3::ConnectReturnCode::UnacceptableProtocolVersion)
            }
            MqttVersion::V311 => None,
            // A later version may have another layout after the reason code, so there is no reason string.
            MqttVersion::V5 if unsupported => {
                let code = v5::ConnectReasonCode::UnsupportedProtocolVersion;
                self.fitting(&v5::Connack::new(false, code).into())
            }
            MqttVersion::V5 => {
                let code = if matches!(fault, CloseReason::Protocol(_)) {
                    v5::ConnectReasonCode::ProtocolError
                } else {
                    v5::ConnectReasonCode::MalformedPacket
                };
                self.v5_connack(code, &fault.to_string())
            }
        }
    }

    /// DISCONNECT.
    pub(super) fn disconnect(&self, reason: &CloseReason) -> Option<Bytes> {
        let code = reason.disconnect_code()?;
        self.v5(Some(&reason.to_string()), |reason_string| {
            let mut disconnect = v5::Disconnect::new(code);
            disconnect.properties.reason_string = reason_string;
            disconnect.into()
        })
    }

    /// PINGRESP, the same in both versions.
    pub(super) fn pingresp(&self) -> Bytes {
        Bytes::from_static(&[0xd0, 0x00])
    }

    /// PUBACK or PUBREC for a publish that was refused before the store saw it.
    pub(super) fn publish_refused(
        &self,
        delivery: Delivery,
        refusal: PublishRefusal,
    ) -> Option<Bytes> {
        self.v5_refusal(delivery, refusal.puback_code(), &refusal.to_string())
    }

    /// PUBACK or PUBREC for a publish that the store refused.
    pub(super) fn publish_rejected(
        &self,
        delivery: Delivery,
        reason: RejectReason,
    ) -> Option<Bytes> {
        self.v5_refusal(delivery, reason.puback_code(), &reason.to_string())
    }

    /// PUBCOMP, for a QoS 2 publish that is known or not.
    pub(super) fn pubcomp(&self, packet_id: NonZeroU16, flow: Flow) -> Option<Bytes> {
        let pid = pid(packet_id);
        match self.version {
            MqttVersion::V311 => v3_bytes(&v3::Packet::Pubcomp(pid)),
            MqttVersion::V5 => {
                let code = match flow {
                    Flow::Known => v5::PubcompReasonCode::Success,
                    Flow::Unknown => v5::PubcompReasonCode::PacketIdentifierNotFound,
                };
                self.fitting(&v5::Pubcomp::new(pid, code).into())
            }
        }
    }

    /// PUBREL, for a QoS 2 publish that is known or not.
    pub(super) fn pubrel(&self, packet_id: NonZeroU16, flow: Flow) -> Option<Bytes> {
        let pid = pid(packet_id);
        match self.version {
            MqttVersion::V311 => v3_bytes(&v3::Packet::Pubrel(pid)),
            MqttVersion::V5 => {
                let code = match flow {
                    Flow::Known => v5::PubrelReasonCode::Success,
                    Flow::Unknown => v5::PubrelReasonCode::PacketIdentifierNotFound,
                };
                self.fitting(&v5::Pubrel::new(pid, code).into())
            }
        }
    }

    /// SUBACK.
    pub(super) fn suback(
        &self,
        packet_id: NonZeroU16,
        outcomes: &[SubscribeOutcome],
    ) -> Option<Bytes> {
        match self.version {
            MqttVersion::V311 => v3_suback(packet_id, outcomes),
            MqttVersion::V5 => {
                let codes = outcomes.iter().map(|outcome| outcome.v5_code()).collect();
                self.fitting(&v5::Suback::new(pid(packet_id), codes).into())
            }
        }
    }

    /// UNSUBACK.
    pub(super) fn unsuback(
        &self,
        packet_id: NonZeroU16,
        outcomes: &[UnsubscribeOutcome],
    ) -> Option<Bytes> {
        let pid = pid(packet_id);
        match self.version {
            MqttVersion::V311 => v3_bytes(&v3::Packet::Unsuback(pid)),
            MqttVersion::V5 => {
                let code = |outcome: &UnsubscribeOutcome| match outcome {
                    UnsubscribeOutcome::NotFound => {
                        v5::UnsubscribeReasonCode::NoSubscriptionExisted
                    }
                    UnsubscribeOutcome::Removed => v5::UnsubscribeReasonCode::Success,
                };
                let codes = outcomes.iter().map(code).collect();
                self.fitting(&v5::Unsuback::new(pid, codes).into())
            }
        }
    }

    fn v5_connack(&self, code: v5::ConnectReasonCode, reason: &str) -> Option<Bytes> {
        self.v5(Some(reason), |reason_string| {
            let mut connack = v5::Connack::new(false, code);
            connack.properties.reason_string = reason_string;
            connack.into()
        })
    }

    fn v5_refusal(
        &self,
        delivery: Delivery,
        code: v5::PubackReasonCode,
        reason: &str,
    ) -> Option<Bytes> {
        let packet_id = delivery.packet_id()?;
        self.v5(self.explanation(reason), |reason_string| match delivery.qos() {
            Qos::AtMostOnce | Qos::AtLeastOnce => {
                let mut puback = v5::Puback::new(pid(packet_id), code);
                puback.properties.reason_string = reason_string;
                puback.into()
            }
            Qos::ExactlyOnce => {
                // Both packets have the same codes (v5 tables 3-4 and 3-5).
                let code = v5::PubrecReasonCode::from_u8(code as u8)
                    .unwrap_or(v5::PubrecReasonCode::UnspecifiedError);
                let mut pubrec = v5::Pubrec::new(pid(packet_id), code);
                pubrec.properties.reason_string = reason_string;
                pubrec.into()
            }
        })
    }

    fn explanation<'a>(&self, reason: &'a str) -> Option<&'a str> {
        self.problem_information.then_some(reason)
    }

    /// An MQTT 5 packet with a reason string, or without one if it would not fit (v5 3.4.2.2.2 and its like).
    fn v5(
        &self,
        reason: Option<&str>,
        build: impl Fn(Option<Arc<str>>) -> v5::Packet,
    ) -> Option<Bytes> {
        if self.version == MqttVersion::V311 {
            return None;
        }
        let explained = reason.and_then(|reason| self.fitting(&build(Some(reason.into()))));
        explained.or_else(|| self.fitting(&build(None)))
    }

    fn fitting(&self, packet: &v5::Packet) -> Option<Bytes> {
        let bytes = bytes_of(packet.encode().ok()?);
        (bytes.len() <= self.len_max as usize).then_some(bytes)
    }
}

fn pid(packet_id: NonZeroU16) -> Pid {
    Pid::try_from(packet_id.get()).expect("not zero")
}

fn v3_connack(code: v3::ConnectReturnCode) -> Option<Bytes> {
    v3_bytes(&v3::Connack::new(false, code).into())
}

/// Written by hand: `mqtt-proto` 0.4.0 encodes the return code of failure as 3, which clients reject.
fn v3_suback(packet_id: NonZeroU16, outcomes: &[SubscribeOutcome]) -> Option<Bytes> {
    let body_len = u32::try_from(2 + outcomes.len()).ok()?;
    let mut suback = BytesMut::with_capacity(outcomes.len() + 7);
    suback.put_u8(0x90);
    frame::put_variable(&mut suback, body_len);
    suback.put_u16(packet_id.get());
    suback.extend(outcomes.iter().map(|outcome| outcome.v3_code()));
    Some(suback.freeze())
}

fn v3_bytes(packet: &v3::Packet) -> Option<Bytes> {
    packet.encode().ok().map(bytes_of)
}

fn bytes_of(encoded: VarBytes) -> Bytes {
    match encoded {
        VarBytes::Dynamic(bytes) => bytes.into(),
        VarBytes::Fixed2(bytes) => Bytes::copy_from_slice(&bytes),
        VarBytes::Fixed4(bytes) => Bytes::copy_from_slice(&bytes),
    }
}
