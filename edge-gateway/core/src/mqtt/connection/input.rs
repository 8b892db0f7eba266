//! From bytes to packets, and what every packet but PUBLISH asks for.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use wire::time::MonoMs;

use super::{Connection, Link, Output, Phase};
use crate::mqtt::close::CloseReason;
use crate::mqtt::connect::{self, MqttVersion};
use crate::mqtt::control::{self, Control, Received};
use crate::mqtt::frame::{FixedHeader, packet_type};
use crate::mqtt::limits::{CONNECT_PACKET_LEN_MAX, CONTROL_PACKET_LEN_MAX, PROGRESS_LEN_MIN};
use crate::mqtt::reply::{Flow, Replies};

/// First byte of the only packet that may open a connection.
const CONNECT_FIRST_BYTE: u8 = packet_type::CONNECT << 4;

impl Connection {
    /// Takes the next complete packet out of `buf`, judging it by its fixed header as soon as that is there.
    pub(super) fn next_packet(
        &self,
        buf: &mut BytesMut,
    ) -> Result<Option<(FixedHeader, Bytes)>, CloseReason> {
        let awaiting = matches!(self.phase, Phase::AwaitingConnect { .. });
        if awaiting && buf.first().is_some_and(|&first| first != CONNECT_FIRST_BYTE) {
            return Err(CloseReason::NotMqtt("the first packet is not a CONNECT"));
        }
        let Some(header) = FixedHeader::peek(buf)? else {
            return Ok(None);
        };
        let is_v5 = self.replies().is_some_and(|replies| replies.version == MqttVersion::V5);
        if is_v5 && !header.is_minimal() {
            return Err(CloseReason::Malformed("a length with more bytes than it needs"));
        }
        let configured = self.limits.packet_len_max.get();
        let max = match header.packet_type() {
            packet_type::CONNECT => CONNECT_PACKET_LEN_MAX,
            packet_type::PUBLISH => configured,
            _ => CONTROL_PACKET_LEN_MAX.min(configured),
        };
        let len = header.total_len();
        if len > max {
            return Err(CloseReason::PacketTooLarge { len, max });
        }
        if buf.len() < len as usize {
            return Ok(None);
        }
        let mut body = buf.split_to(len as usize).freeze();
        body.advance(header.header_len as usize);
        Ok(Some((header, body)))
    }

    pub(super) fn handle_packet(&mut self, now: MonoMs, header: FixedHeader, body: Bytes) {
        let replies = match &mut self.phase {
            Phase::Open(open) => {
                open.alive_at = now;
                open.progress_len = 0;
                open.link.replies
            }
            Phase::AwaitingConnect { .. } => return self.handle_connect(header, &body),
            Phase::Deciding(_) | Phase::Draining { .. } | Phase::Closed => return,
        };
        let outcome = match header.packet_type() {
            // [MQTT-3.1.0-2]
            packet_type::CONNECT => Err(CloseReason::Protocol("a second CONNECT")),
            packet_type::PUBLISH => self.handle_publish(replies, header, body),
            _ => self.handle_control(replies, header, &body),
        };
        if let Err(reason) = outcome {
            self.fail(reason);
        }
    }

    pub(super) fn handle_connect(&mut self, header: FixedHeader, body: &[u8]) {
        match connect::decode(header, body, self.entropy) {
            Ok(connect::Connect { request, replies, receive_max }) => {
                self.phase = Phase::Deciding(Link {
                    replies,
                    keep_alive_s: request.keep_alive_s,
                    session_expiry_s: request.session_expiry_s,
                    client_id: Arc::clone(&request.client_id),
                    client_id_assigned: request.client_id_assigned,
                    receive_max,
                });
                self.outputs.push_back(Output::Connect(request));
            }
            Err(connect::Fault { reason, replies }) => {
                let connack = replies.and_then(|replies| replies.connack_fault(&reason));
                self.outputs.extend(connack.map(Output::Send));
                self.close(reason);
            }
        }
    }

    pub(super) fn handle_control(
        &mut self,
        replies: Replies,
        header: FixedHeader,
        body: &[u8],
    ) -> Result<(), CloseReason> {
        let outbound = &mut self.session.outbound;
        let answer = match control::decode(replies.version, header, body)? {
            Control::Disconnect { reason_code, session_expiry_s } => {
                self.check_session_expiry(session_expiry_s)?;
                self.departure.session_expiry_s = session_expiry_s;
                self.close(CloseReason::ClientDisconnected { reason_code });
                None
            }
            Control::Ping => Some(replies.pingresp()),
            Control::Puback(packet_id) => {
                outbound.puback(packet_id)?;
                None
            }
            Control::Pubrec(packet_id, Received::Taken) => {
                let flow = known(outbound.pubrec(packet_id)?);
                replies.pubrel(packet_id, flow)
            }
            Control::Pubrec(packet_id, Received::Refused) => {
                outbound.pubrec_refused(packet_id);
                None
            }
            Control::Pubcomp(packet_id) => {
                outbound.pubcomp(packet_id)?;
                None
            }
            Control::Pubrel(packet_id) => {
                let flow = known(self.session.received.remove(&packet_id));
                replies.pubcomp(packet_id, flow)
            }
            Control::Subscribe(request) => {
                self.asks = true;
                self.outputs.push_back(Output::Subscribe(request));
                None
            }
            Control::Unsubscribe(request) => {
                self.asks = true;
                self.outputs.push_back(Output::Unsubscribe(request));
                None
            }
            Control::OutOfPlace(what) => return Err(CloseReason::Protocol(what)),
        };
        self.outputs.extend(answer.map(Output::Send));
        Ok(())
    }

    /// v5 3.14.2.2.2: a client that asked for no session to be kept cannot change its mind when it leaves.
    pub(super) fn check_session_expiry(
        &self,
        session_expiry_s: Option<u32>,
    ) -> Result<(), CloseReason> {
        match &self.phase {
            Phase::Open(open)
                if open.link.session_expiry_s == 0 && session_expiry_s.unwrap_or(0) > 0 =>
            {
                Err(CloseReason::Protocol("a session expiry in DISCONNECT after none in CONNECT"))
            }
            Phase::Open(_)
            | Phase::AwaitingConnect { .. }
            | Phase::Deciding(_)
            | Phase::Draining { .. }
            | Phase::Closed => Ok(()),
        }
    }

    /// Counts enough new bytes of an incomplete packet as a sign of life.
    pub(super) fn note_progress(&mut self, now: MonoMs, buffered: usize) {
        if let Phase::Open(open) = &mut self.phase
            && buffered >= open.progress_len + PROGRESS_LEN_MIN
        {
            open.progress_len = buffered;
            open.alive_at = now;
        }
    }
}

fn known(found: bool) -> Flow {
    if found { Flow::Known } else { Flow::Unknown }
}
