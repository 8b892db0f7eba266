//! The machine of one network connection.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use wire::time::MonoMs;

use super::alias::TopicAliases;
use super::close::{CloseReason, ConnectRefusal, PublishRefusal, RejectReason};
use super::connect::{self, ConnectRequest, MqttVersion};
use super::control::{self, Control};
use super::frame::{FixedHeader, packet_type};
use super::gate::Gate;
use super::limits::{
    CONNECT_DEADLINE_MS, CONNECT_PACKET_LEN_MAX, CONTROL_PACKET_LEN_MAX, MqttLimits,
    PROGRESS_LEN_MIN, TOPIC_LEN_MAX,
};
use super::publish::{self, Delivery, Publish};
use super::reply::Replies;
use super::text::Topic;

/// First byte of the only packet that may open a connection.
const CONNECT_FIRST_BYTE: u8 = packet_type::CONNECT << 4;

/// What the machine asks of its shell, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A client asks to connect. Answer with [`Connection::accept_connect`] or [`Connection::refuse_connect`]; nothing
    /// is read until then.
    Connect(ConnectRequest),
    /// Store this. It is answered by [`Connection::committed`] or [`Connection::rejected`], in the order of these
    /// outputs. It stays valid after a [`Output::Close`]: a client may publish and say goodbye at once.
    Publish(Publish),
    /// A publish that was refused without asking the store, for the log and the counters.
    Refused(Refused),
    /// Send these bytes.
    Send(Bytes),
    /// Close the network connection once everything before is sent. It is the last output.
    Close(CloseReason),
}

/// A publish that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where it was published to.
    pub topic: Topic,
    /// How it would have been acknowledged.
    pub delivery: Delivery,
    /// Why.
    pub refusal: PublishRefusal,
}

/// One network connection of an MQTT client, without the network.
///
/// The shell's part, in any order:
/// - bytes came: append them to a buffer, then [`handle_input`](Self::handle_input), as long as
///   [`wants_input`](Self::wants_input) says so; otherwise leave them with the network;
/// - [`next_deadline`](Self::next_deadline) has passed: [`handle_timeout`](Self::handle_timeout);
/// - the store or the authentication answered: [`committed`](Self::committed), [`rejected`](Self::rejected),
///   [`accept_connect`](Self::accept_connect), [`refuse_connect`](Self::refuse_connect), and then `handle_input` again
///   with the same buffer, which may hold packets that had to wait;
/// - after each of these, [`poll_output`](Self::poll_output) until it gives `None`.
#[derive(Debug)]
pub struct Connection {
    limits: MqttLimits,
    entropy: u128,
    phase: Phase,
    gate: Gate,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Phase {
    /// Nothing but a CONNECT may come, and it must come soon.
    AwaitingConnect {
        deadline: MonoMs,
    },
    /// The shell has the CONNECT.
    Deciding(Link),
    /// Serving the client.
    Open(Open),
    /// To be closed with this reason when the publishes before have their answers.
    Draining {
        replies: Replies,
        reason: CloseReason,
    },
    Closed,
}

/// What the CONNECT said that outlives it.
#[derive(Debug)]
struct Link {
    replies: Replies,
    keep_alive_s: u16,
    session_expiry_s: u32,
    assigned_client_id: Option<Arc<str>>,
}

#[derive(Debug)]
struct Open {
    link: Link,
    aliases: TopicAliases,
    /// When the client last showed life.
    alive_at: MonoMs,
    /// Bytes of an incomplete packet that were there at `alive_at`.
    progress_len: usize,
}

impl Connection {
    /// A connection that was made at `now`. `entropy` is used once, to name a client that has no identifier.
    #[must_use]
    pub fn new(limits: MqttLimits, entropy: u128, now: MonoMs) -> Self {
        Self {
            limits,
            entropy,
            phase: Phase::AwaitingConnect { deadline: now + CONNECT_DEADLINE_MS },
            gate: Gate::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether more bytes can be handled: not while a decision is awaited, nor while too much is unacknowledged.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match &self.phase {
            Phase::AwaitingConnect { .. } => true,
            Phase::Open(_) => {
                self.gate.len() < self.limits.unacknowledged_max()
                    && self.gate.bytes() < self.limits.unacknowledged_bytes_max
            }
            Phase::Deciding(_) | Phase::Draining { .. } | Phase::Closed => false,
        }
    }

    /// Handles every complete packet in `buf` while [`wants_input`](Self::wants_input), and takes it out. An incomplete
    /// one stays, as do those that have to wait. Once the connection is closed, `buf` is emptied.
    pub fn handle_input(&mut self, now: MonoMs, buf: &mut BytesMut) {
        while self.wants_input() {
            match self.next_packet(buf) {
                Ok(Some((header, body))) => self.handle_packet(now, header, body),
                Ok(None) => {
                    self.note_progress(now, buf.len());
                    break;
                }
                Err(reason) => self.fail(reason),
            }
        }
        if matches!(self.phase, Phase::Draining { .. } | Phase::Closed) {
            buf.clear();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next. It moves with input and answers.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoMs> {
        match &self.phase {
            Phase::AwaitingConnect { deadline } => Some(*deadline),
            // A client cannot show life while it is not being read.
            Phase::Open(open) if open.link.keep_alive_s > 0 && self.wants_input() => {
                // One and a half times the keep-alive time [MQTT-3.1.2-22].
                Some(open.alive_at + u64::from(open.link.keep_alive_s) * 1_500)
            }
            Phase::Open(_) | Phase::Deciding(_) | Phase::Draining { .. } | Phase::Closed => None,
        }
    }

    /// Closes the connection if its deadline has passed.
    pub fn handle_timeout(&mut self, now: MonoMs) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let reason = match &self.phase {
            Phase::Open(open) => {
                CloseReason::KeepAliveTimeout { keep_alive_s: open.link.keep_alive_s }
            }
            Phase::AwaitingConnect { .. }
            | Phase::Deciding(_)
            | Phase::Draining { .. }
            | Phase::Closed => CloseReason::ConnectTimeout,
        };
        self.fail(reason);
    }

    /// The next thing for the shell to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Lets the client of the pending [`Output::Connect`] in. Whoever was connected with its identifier must be off
    /// before: what it published is committed or discarded (docs/protocols/uplink.md, D3). Does nothing if no CONNECT
    /// is pending.
    pub fn accept_connect(&mut self, now: MonoMs) {
        let link = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Deciding(link) => link,
            phase => {
                self.phase = phase;
                return;
            }
        };
        // No session outlives its connection, and the server's word on that is final (v5 3.2.2.3.2).
        let session_expiry_s = (link.session_expiry_s > 0).then_some(0);
        let assigned = link.assigned_client_id.as_ref();
        match link.replies.connack_accepted(&self.limits, assigned, session_expiry_s) {
            Some(connack) => {
                self.send(connack);
                let aliases = TopicAliases::default();
                self.phase = Phase::Open(Open { link, aliases, alive_at: now, progress_len: 0 });
            }
            None => {
                let what = "Maximum Packet Size has no room for a CONNACK";
                self.outputs.push_back(Output::Close(CloseReason::Protocol(what)));
            }
        }
    }

    /// Turns the client of the pending [`Output::Connect`] away. Does nothing if no CONNECT is pending.
    pub fn refuse_connect(&mut self, refusal: ConnectRefusal) {
        if let Phase::Deciding(link) = &self.phase {
            self.outputs.extend(link.replies.connack_refused(refusal).map(Output::Send));
            self.close(CloseReason::ConnectRefused(refusal));
        }
    }

    /// The oldest `count` publishes that have no answer are durable. Those of QoS 0 count too.
    pub fn committed(&mut self, now: MonoMs, count: usize) {
        let was_full = !self.wants_input();
        let answers = self.gate.commit(count);
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.send(answers);
        self.finish_draining();
        let reads_again = was_full && self.wants_input();
        if let Phase::Open(open) = &mut self.phase
            && reads_again
        {
            open.alive_at = now;
        }
    }

    /// The store refused the oldest publish that has no answer; those after it must not be stored any more.
    pub fn rejected(&mut self, reason: RejectReason) {
        let Some(packet_id) = self.gate.reject() else {
            return;
        };
        let Some(replies) = self.replies() else {
            return;
        };
        let puback = packet_id.and_then(|packet_id| replies.puback_rejected(packet_id, reason));
        self.outputs.extend(puback.map(Output::Send));
        self.fail(CloseReason::Rejected(reason));
    }

    /// Another connection has the same client identifier now (v5 3.1.4, [MQTT-3.1.4-3]).
    ///
    /// What was published before is still acknowledged, once it is durable; nothing more is read.
    pub fn taken_over(&mut self) {
        self.drain(CloseReason::TakenOver);
    }

    /// The gateway is stopping. What was published before is still acknowledged, once it is durable; nothing more is read.
    pub fn shutdown(&mut self) {
        if let Phase::Deciding(link) = &self.phase {
            let connack = link.replies.connack_refused(ConnectRefusal::ServerUnavailable);
            self.outputs.extend(connack.map(Output::Send));
        }
        self.drain(CloseReason::ShuttingDown);
    }

    /// Takes the next complete packet out of `buf`, judging it by its fixed header as soon as that is there.
    fn next_packet(&self, buf: &mut BytesMut) -> Result<Option<(FixedHeader, Bytes)>, CloseReason> {
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

    fn handle_packet(&mut self, now: MonoMs, header: FixedHeader, body: Bytes) {
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

    fn handle_connect(&mut self, header: FixedHeader, body: &[u8]) {
        match connect::decode(header, body, self.entropy) {
            Ok(connect::Connect { request, replies }) => {
                self.phase = Phase::Deciding(Link {
                    replies,
                    keep_alive_s: request.keep_alive_s,
                    session_expiry_s: request.session_expiry_s,
                    assigned_client_id: request
                        .client_id_assigned
                        .then(|| Arc::clone(&request.client_id)),
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

    fn handle_publish(
        &mut self,
        replies: Replies,
        header: FixedHeader,
        body: Bytes,
    ) -> Result<(), CloseReason> {
        let parsed = publish::parse(replies.version, header, body)?;
        let topic = self.resolve_topic(parsed.topic, parsed.topic_alias)?;
        let delivery = parsed.delivery;
        self.check_receive_maximum(replies.version, delivery)?;
        let refusal = if topic.byte_len() > TOPIC_LEN_MAX {
            Some(PublishRefusal::TopicTooLong)
        } else if topic.is_reserved() {
            Some(PublishRefusal::ReservedTopic)
        } else {
            parsed.refusal
        };
        if let Some(refusal) = refusal {
            // A publish whose properties are refused may have been a numbered one: those behind the excess are not read.
            let numbered = parsed.sequence.is_some() || parsed.refusal.is_some();
            return self.refuse_publish(replies, Refused { topic, delivery, refusal }, numbered);
        }
        self.gate.admit(delivery, header.total_len());
        self.outputs.push_back(Output::Publish(Publish {
            topic,
            payload: parsed.payload,
            delivery,
            retain: parsed.retain,
            dup: parsed.dup,
            sequence: parsed.sequence,
            maybe_dup: parsed.maybe_dup,
            properties: parsed.properties,
        }));
        Ok(())
    }

    /// The topic that a publish goes to (v5 3.3.2.1 and 3.3.2.3.4).
    fn resolve_topic(
        &mut self,
        topic: Option<Topic>,
        alias: Option<u16>,
    ) -> Result<Topic, CloseReason> {
        let (Phase::Open(open), Some(alias)) = (&mut self.phase, alias) else {
            return topic.ok_or(CloseReason::Protocol("an empty topic"));
        };
        if !TopicAliases::allows(alias) {
            return Err(CloseReason::TopicAliasInvalid { alias });
        }
        match topic {
            Some(topic) => {
                // A topic that is refused for its length is not worth keeping.
                if topic.byte_len() <= TOPIC_LEN_MAX {
                    open.aliases.set(alias, &topic);
                }
                Ok(topic)
            }
            None => {
                let known = open.aliases.resolve(alias);
                known.ok_or(CloseReason::Protocol("a topic alias that stands for nothing"))
            }
        }
    }

    /// v5 3.3.4: beyond Receive Maximum a client is disconnected. One of 3.1.1 knows no such limit: it is not read.
    fn check_receive_maximum(
        &self,
        version: MqttVersion,
        delivery: Delivery,
    ) -> Result<(), CloseReason> {
        let receive_max = self.limits.receive_max.get();
        match (version, delivery) {
            (MqttVersion::V5, Delivery::AtLeastOnce { .. })
                if self.gate.numbered() >= usize::from(receive_max) =>
            {
                Err(CloseReason::ReceiveMaximumExceeded { receive_max })
            }
            (MqttVersion::V5 | MqttVersion::V311, _) => Ok(()),
        }
    }

    fn refuse_publish(
        &mut self,
        replies: Replies,
        refused: Refused,
        numbered: bool,
    ) -> Result<(), CloseReason> {
        let (delivery, refusal) = (refused.delivery, refused.refusal);
        self.outputs.push_back(Output::Refused(refused));
        if replies.version == MqttVersion::V311 {
            // MQTT 3.1.1 cannot refuse a publish: it is acknowledged or the connection closed (v3 3.3.5).
            return Err(CloseReason::Refused(refusal));
        }
        let puback = delivery.packet_id().and_then(|id| replies.puback_refused(id, refusal));
        if let Some(puback) = puback {
            self.gate.refuse(puback);
            let answers = self.gate.release();
            self.send(answers);
        }
        if numbered {
            // Or the next reading would be taken in the place of this one (docs/protocols/uplink.md, D2).
            self.drain(CloseReason::Refused(refusal));
        }
        Ok(())
    }

    fn handle_control(
        &mut self,
        replies: Replies,
        header: FixedHeader,
        body: &[u8],
    ) -> Result<(), CloseReason> {
        let answer = match control::decode(replies.version, header, body)? {
            Control::Disconnect { reason_code, session_expiry_s } => {
                self.check_session_expiry(session_expiry_s)?;
                self.close(CloseReason::ClientDisconnected { reason_code });
                None
            }
            Control::Ping => Some(replies.pingresp()),
            Control::Release(packet_id) => replies.pubcomp_unknown(packet_id),
            Control::Subscribe { packet_id, filters } => replies.suback_refused(packet_id, filters),
            Control::Unsubscribe { packet_id, filters } => replies.unsuback(packet_id, filters),
            Control::OutOfPlace(what) => return Err(CloseReason::Protocol(what)),
        };
        self.outputs.extend(answer.map(Output::Send));
        Ok(())
    }

    /// v5 3.14.2.2.2: a client that asked for no session to be kept cannot change its mind when it leaves.
    fn check_session_expiry(&self, session_expiry_s: Option<u32>) -> Result<(), CloseReason> {
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
    fn note_progress(&mut self, now: MonoMs, buffered: usize) {
        if let Phase::Open(open) = &mut self.phase
            && buffered >= open.progress_len + PROGRESS_LEN_MIN
        {
            open.progress_len = buffered;
            open.alive_at = now;
        }
    }

    /// Reads nothing more, and closes for `reason` as soon as every publish has its answer.
    fn drain(&mut self, reason: CloseReason) {
        match &self.phase {
            Phase::Open(open) => {
                self.phase = Phase::Draining { replies: open.link.replies, reason };
                self.finish_draining();
            }
            Phase::Draining { .. } => {}
            Phase::AwaitingConnect { .. } | Phase::Deciding(_) | Phase::Closed => self.fail(reason),
        }
    }

    fn finish_draining(&mut self) {
        if let Phase::Draining { reason, .. } = &self.phase
            && self.gate.is_empty()
        {
            let reason = reason.clone();
            self.fail(reason);
        }
    }

    /// How to talk to a client that has its CONNACK.
    fn replies(&self) -> Option<Replies> {
        match &self.phase {
            Phase::Open(open) => Some(open.link.replies),
            Phase::Draining { replies, .. } => Some(*replies),
            Phase::AwaitingConnect { .. } | Phase::Deciding(_) | Phase::Closed => None,
        }
    }

    fn send(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.outputs.push_back(Output::Send(bytes));
        }
    }

    /// Says goodbye where the protocol allows it (no DISCONNECT before the CONNACK [MQTT-3.14.0-1]) and closes.
    fn fail(&mut self, reason: CloseReason) {
        let disconnect = self.replies().and_then(|replies| replies.disconnect(&reason));
        self.outputs.extend(disconnect.map(Output::Send));
        self.close(reason);
    }

    fn close(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closed) {
            self.outputs.push_back(Output::Close(reason));
        }
        self.phase = Phase::Closed;
    }
}
