//! The machine of one network connection.

mod ending;
mod input;
mod publishing;

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use wire::time::MonoMs;

use super::alias::TopicAliases;
use super::close::{CloseReason, ConnectRefusal, PublishRefusal, RejectReason};
use super::connect::ConnectRequest;
use super::gate::Gate;
use super::limits::{CONNECT_DEADLINE_MS, CREDIT_WORTH, MqttLimits};
use super::message::{DropReason, Forward};
use super::outbound::Credit;
use super::publish::{Delivery, Publish};
use super::reply::{Replies, SessionPresence};
use super::session::{Departure, SessionGrant, SessionState};
use super::subscribe::{
    SubscribeOutcome, SubscribeRequest, UnsubscribeOutcome, UnsubscribeRequest,
};
use super::text::Topic;

/// What the machine asks of its shell, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A client asks to connect. Answer with [`Connection::accept_connect`] or [`Connection::refuse_connect`]; nothing
    /// is read until then.
    Connect(ConnectRequest),
    /// Store this. It is answered by [`Connection::committed`] or [`Connection::rejected`], in the order of these
    /// outputs. It stays valid after a [`Output::Close`]: a client may publish and say goodbye at once.
    Publish(Publish),
    /// Ask the hub; answer with [`Connection::subscribed`]. Nothing is read until then.
    Subscribe(SubscribeRequest),
    /// Ask the hub; answer with [`Connection::unsubscribed`]. Nothing is read until then.
    Unsubscribe(UnsubscribeRequest),
    /// A message that this client does not get, for the counters.
    Dropped(DropReason),
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
/// - the hub has something for the client: [`forward`](Self::forward), [`subscribed`](Self::subscribed),
///   [`unsubscribed`](Self::unsubscribed); and whenever the network takes more, [`fill`](Self::fill);
/// - after each of these, [`poll_output`](Self::poll_output) until it gives `None`.
#[derive(Debug)]
pub struct Connection {
    limits: MqttLimits,
    entropy: u128,
    phase: Phase,
    gate: Gate,
    session: SessionState,
    /// QoS 2 publishes that an earlier connection left unreleased: Receive Maximum begins anew (v5 4.9).
    resumed: usize,
    /// Whether a SUBSCRIBE or UNSUBSCRIBE awaits the hub's answer. Nothing is read until then.
    asks: bool,
    departure: Departure,
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
    client_id: Arc<str>,
    client_id_assigned: bool,
    /// Publishes of QoS 1 and 2 that the client takes unacknowledged.
    receive_max: u16,
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
            session: SessionState::default(),
            resumed: 0,
            asks: false,
            departure: Departure::LOST,
            outputs: VecDeque::new(),
        }
    }

    /// Whether more bytes can be handled: not while a decision or an answer of the hub is awaited,
    /// nor while too much is unacknowledged.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match &self.phase {
            Phase::AwaitingConnect { .. } => true,
            Phase::Open(_) => {
                self.gate.len() < self.limits.unacknowledged_max()
                    && self.gate.bytes() < self.limits.unacknowledged_bytes_max
                    && !self.asks
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
    pub fn accept_connect(&mut self, now: MonoMs, grant: SessionGrant) {
        let link = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Deciding(link) => link,
            phase => {
                self.phase = phase;
                return;
            }
        };
        let presence =
            if grant.present { SessionPresence::Present } else { SessionPresence::Absent };
        self.session = grant.state;
        self.resumed = self.session.received.len();
        // The server's word on the expiry is final (v5 3.2.2.3.2).
        let expiry = (grant.expiry_s != link.session_expiry_s).then_some(grant.expiry_s);
        let assigned = link.client_id_assigned.then_some(&link.client_id);
        match link.replies.connack_accepted(&self.limits, presence, assigned, expiry) {
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
        let answers = self.gate.commit(count, &mut self.session.received);
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.send(answers);
        self.finish_draining();
        self.note_reading(now, was_full);
    }

    /// The store refused the oldest publish that has no answer; those after it must not be stored any more.
    pub fn rejected(&mut self, reason: RejectReason) {
        let Some(delivery) = self.gate.reject() else {
            return;
        };
        let Some(replies) = self.replies() else {
            return;
        };
        self.outputs.extend(replies.publish_rejected(delivery, reason).map(Output::Send));
        self.fail(CloseReason::Rejected(reason));
    }

    /// A message for the client; it is sent by [`fill`](Self::fill).
    pub fn forward(&mut self, forward: Forward) {
        self.session.outbound.push(forward);
    }

    /// Sends what is owed to the client, up to about `room` bytes.
    pub fn fill(&mut self, now: MonoMs, room: usize) {
        let Phase::Open(open) = &self.phase else { return };
        let mut out = BytesMut::new();
        let form = open.link.replies.form();
        let receive_max = open.link.receive_max;
        let dropped = self.session.outbound.fill(&mut out, room, form, receive_max, now);
        self.outputs.extend(dropped.into_iter().map(Output::Dropped));
        self.send(out.freeze());
    }

    /// Room in the window of the hub, once there is enough of it to tell.
    pub fn take_credit(&mut self) -> Option<Credit> {
        self.session.outbound.take_credit(CREDIT_WORTH)
    }

    /// The hub's answer to the pending [`Output::Subscribe`].
    pub fn subscribed(
        &mut self,
        now: MonoMs,
        packet_id: NonZeroU16,
        outcomes: &[SubscribeOutcome],
    ) {
        let suback = self.replies().and_then(|replies| replies.suback(packet_id, outcomes));
        self.answer(now, suback);
    }

    /// The hub's answer to the pending [`Output::Unsubscribe`].
    pub fn unsubscribed(
        &mut self,
        now: MonoMs,
        packet_id: NonZeroU16,
        outcomes: &[UnsubscribeOutcome],
    ) {
        let unsuback = self.replies().and_then(|replies| replies.unsuback(packet_id, outcomes));
        self.answer(now, unsuback);
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

    /// The session's state, for the hub to keep, when the connection is over and every publish has its answer.
    #[must_use]
    pub fn take_session(&mut self) -> SessionState {
        std::mem::take(&mut self.session)
    }

    /// How the connection ended, for the hub.
    #[must_use]
    pub fn departure(&self) -> Departure {
        self.departure
    }

    /// How to talk to a client that has its CONNACK.
    fn replies(&self) -> Option<Replies> {
        match &self.phase {
            Phase::Open(open) => Some(open.link.replies),
            Phase::Draining { replies, .. } => Some(*replies),
            Phase::AwaitingConnect { .. } | Phase::Deciding(_) | Phase::Closed => None,
        }
    }

    fn answer(&mut self, now: MonoMs, bytes: Option<Bytes>) {
        let waited = std::mem::take(&mut self.asks);
        self.outputs.extend(bytes.map(Output::Send));
        self.note_reading(now, waited);
    }

    /// A client that was not read could not show life.
    fn note_reading(&mut self, now: MonoMs, was_not_read: bool) {
        let reads_again = was_not_read && self.wants_input();
        if let Phase::Open(open) = &mut self.phase
            && reads_again
        {
            open.alive_at = now;
        }
    }

    fn send(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.outputs.push_back(Output::Send(bytes));
        }
    }
}
