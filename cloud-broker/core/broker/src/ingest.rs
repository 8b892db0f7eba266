//! The uplink's broker side (docs/protocols/uplink.md, "Broker, per stream" and "Session").
//!
//! HELLO makes a session: which gateway, which spool, which topics. APPEND is judged in the order of rule B3: owner (this
//! broker owns every shard), B1, then validation. Every frame gets exactly one answer, and no answer tells anything that
//! is not durable (B2).
//!
//! A frame for a stream that its session has no right to, or for a topic or partition that this broker does not know, is
//! answered REFUSED, not permanently: the reading stays in its spool while the operator mends the routes or the topic
//! comes back. Nothing is said about such a stream's state. If the topic is known to have been deleted, the session ends: by the
//! next WELCOME the gateway sees that the topic of that name has another id, and keeps its readings with an alarm.

mod request;
mod session;

use std::collections::BTreeMap;

use broker_log::{Log, PartitionKey, SlotNo, TopicNo, UplinkAppend, UplinkOutcome, UplinkStream};
use wire::ids::{GatewayId, Tag};
use wire::limits::UPLINK_FRAME_BYTES_MAX;
use wire::time::UnixMs;
use wire::uplink::{Frame, GoodbyeReason, Refused, RefusedCode, Reset, State, StreamKey};

use crate::event::{Asker, SessionId};
use crate::metadata::Image;
use crate::mutant::{self, Mutant};

pub use request::{AppendRequest, HelloRequest, RequestError, UplinkRequest};
pub(crate) use session::{HelloRefused, Session, check_hello, uplink_partitions, welcome};

/// Unanswered frames that WELCOME allows a session.
pub const SESSION_FRAMES_MAX: u32 = 64;

/// Unanswered bytes that WELCOME allows a session.
pub const SESSION_BYTES_MAX: u32 = 16 << 20;

/// Shards of the log, as gateways see them.
pub const SHARDS: u32 = 1024;

const _: () = assert!(SESSION_FRAMES_MAX as usize >= wire::limits::UPLINK_LANE_FRAMES_MIN);
const _: () = assert!(SESSION_BYTES_MAX as usize >= UPLINK_FRAME_BYTES_MAX);

/// A frame for the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkAnswer {
    /// The frame with its length field.
    pub frame: Vec<u8>,
    /// GOODBYE: the session ends once this is sent. Says why, for the log.
    pub close: Option<GoodbyeReason>,
}

impl UplinkAnswer {
    /// GOODBYE, for a session that ends.
    #[must_use]
    pub fn goodbye(reason: GoodbyeReason, detail: &str) -> Self {
        Self { frame: encode(&Frame::Goodbye(reason, detail)), close: Some(reason) }
    }

    fn of(frame: &Frame<'_>) -> Self {
        Self { frame: encode(frame), close: None }
    }
}

/// An answer that waits until its slot is durable.
#[derive(Debug)]
pub(crate) struct ParkedState {
    pub(crate) asker: Asker,
    stream: StreamKey,
    in_log: UplinkStream,
    answers: Tag,
    refused: Option<RefusedCode>,
}

/// When a frame for a stream is answered.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Now.
    Answer(UplinkAnswer),
    /// When this slot is durable.
    Park(SlotNo, ParkedState),
}

/// The sessions, by connection.
#[derive(Debug)]
pub(crate) struct Ingest {
    sessions: BTreeMap<SessionId, Session>,
}

impl Ingest {
    pub(crate) fn new() -> Self {
        Self { sessions: BTreeMap::new() }
    }

    pub(crate) fn begin(&mut self, id: SessionId, session: Session) {
        self.sessions.insert(id, session);
    }

    pub(crate) fn end(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn append(
        &self,
        now: UnixMs,
        log: &mut Log,
        image: &Image,
        (asker, session): (Asker, SessionId),
        request: AppendRequest,
    ) -> Verdict {
        let (stream, answers) = (request.stream, request.tag);
        let key = match self.admit(image, session, stream) {
            Ok(key) => key,
            Err(answer) => return Verdict::Answer(answer.to_frame(stream, answers)),
        };
        let in_log = UplinkStream { pid: stream.pid, key };
        let append = UplinkAppend {
            stream: in_log,
            epoch: request.epoch,
            base: request.base,
            count: request.count,
            prev_tag: request.prev_tag,
            tag: request.tag,
        };
        let parked = |refused| ParkedState { asker, stream, in_log, answers, refused };
        // What the connection found damaged is judged as an empty batch: B1 still comes before validation.
        let batch = request.intact.unwrap_or_default();
        let (slot, parked) = match log.append_uplink(now, &append, batch) {
            UplinkOutcome::Appended(_) if mutant::is(Mutant::AnswerBeforeDurable) => {
                let state = Some(append.state_after());
                let state = State { stream, answers, state, previous: None };
                return Verdict::Answer(UplinkAnswer::of(&Frame::State(state)));
            }
            UplinkOutcome::Appended(appended) => (Some(appended.slot_no), parked(None)),
            UplinkOutcome::Misfit { answer_after } => (answer_after, parked(None)),
            UplinkOutcome::Refused { code, answer_after } => (answer_after, parked(Some(code))),
        };
        match slot {
            Some(slot_no) => Verdict::Park(slot_no, parked),
            None => Verdict::Answer(parked.answer(log, image)),
        }
    }

    /// RESET is not offered yet: the gateway keeps what it has and asks again. The answer waits for everything that was
    /// appended before it, so that the state it tells is not older than what the stream already holds.
    pub(crate) fn reset(
        &self,
        log: &Log,
        image: &Image,
        (asker, session): (Asker, SessionId),
        reset: &Reset,
    ) -> Verdict {
        let (stream, answers) = (reset.stream, reset.tag);
        let key = match self.admit(image, session, stream) {
            Ok(key) => key,
            Err(answer) => return Verdict::Answer(answer.to_frame(stream, answers)),
        };
        let in_log = UplinkStream { pid: stream.pid, key };
        let refused = Some(RefusedCode::Unsupported);
        let parked = ParkedState { asker, stream, in_log, answers, refused };
        match log.slot_for_answer() {
            Some(slot_no) => Verdict::Park(slot_no, parked),
            None => Verdict::Answer(parked.answer(log, image)),
        }
    }

    /// The partition of a stream that the session may append to.
    fn admit(
        &self,
        image: &Image,
        session: SessionId,
        stream: StreamKey,
    ) -> Result<PartitionKey, NotAdmitted> {
        let session = self.sessions.get(&session).ok_or(NotAdmitted::NoSession)?;
        let Some(topic) = image.by_id(stream.topic) else {
            let was_deleted = image.was_deleted(stream.topic) && session.may_append(stream);
            return Err(if was_deleted { NotAdmitted::Deleted } else { NotAdmitted::UnknownTopic });
        };
        if !session.may_append(stream) {
            return Err(NotAdmitted::Unauthorized);
        }
        if stream.partition.0 >= topic.partitions {
            return Err(NotAdmitted::UnknownPartition);
        }
        Ok(PartitionKey { topic_no: TopicNo(topic.no), partition: stream.partition })
    }
}

impl ParkedState {
    /// The answer, with the state as it is durable now.
    pub(crate) fn answer(self, log: &Log, image: &Image) -> UplinkAnswer {
        if image.by_id(self.stream.topic).is_none() {
            // Deleted meanwhile. That nothing of the stream is stored would tell the gateway that the log has lost it.
            return NotAdmitted::Deleted.to_frame(self.stream, self.answers);
        }
        let state = State {
            stream: self.stream,
            answers: self.answers,
            state: log.stream_state_durable(&self.in_log),
            previous: None,
        };
        match self.refused {
            None => UplinkAnswer::of(&Frame::State(state)),
            Some(code) => refused(state, code, detail_of(code)),
        }
    }
}

/// Why a stream is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotAdmitted {
    Deleted,
    NoSession,
    Unauthorized,
    UnknownPartition,
    UnknownTopic,
}

impl NotAdmitted {
    fn to_frame(self, stream: StreamKey, answers: Tag) -> UplinkAnswer {
        let (code, detail) = match self {
            // A new session tells the gateway the topic's new id.
            Self::Deleted => {
                let detail = "the topic was deleted; come back for another of its name";
                return UplinkAnswer::goodbye(GoodbyeReason::Stopping, detail);
            }
            Self::NoSession => {
                return UplinkAnswer::goodbye(GoodbyeReason::Protocol, "HELLO comes first");
            }
            Self::Unauthorized => (
                RefusedCode::Unauthorized,
                "HELLO did not name this topic, or another spool owns this stream",
            ),
            Self::UnknownPartition => (RefusedCode::Unavailable, "no such partition"),
            Self::UnknownTopic => (RefusedCode::Unavailable, "no topic has this id"),
        };
        let state = State { stream, answers, state: None, previous: None };
        refused(state, code, detail)
    }
}

/// Says whose refusals are permanent: those of a batch that can never be stored. The rest passes, or an operator mends it.
fn is_permanent(code: RefusedCode) -> bool {
    match code {
        RefusedCode::Invalid | RefusedCode::TooLarge => true,
        RefusedCode::Unavailable if mutant::is(Mutant::BusyIsPermanent) => true,
        RefusedCode::Unauthorized | RefusedCode::Unavailable | RefusedCode::Unsupported => false,
    }
}

fn detail_of(code: RefusedCode) -> &'static str {
    match code {
        RefusedCode::Invalid => "the record batch is damaged or contradicts its frame",
        RefusedCode::TooLarge => "the record batch is too large",
        RefusedCode::Unauthorized => "not authorized",
        RefusedCode::Unavailable => "the log cannot take it now",
        RefusedCode::Unsupported => "this broker does not offer RESET yet",
    }
}

fn refused(state: State, code: RefusedCode, detail: &str) -> UplinkAnswer {
    UplinkAnswer::of(&Frame::Refused(Refused {
        state,
        code,
        permanent: is_permanent(code),
        detail,
    }))
}

/// Whether the certificate and HELLO name the same gateway.
pub(crate) fn is_same(identity: &GatewayId, claimed: &str) -> bool {
    identity.as_str() == claimed
}

fn encode(frame: &Frame<'_>) -> Vec<u8> {
    frame.encode().expect(
        "what a broker says is far below a frame's limit: a WELCOME is bounded by its HELLO",
    )
}

#[cfg(test)]
mod tests;
