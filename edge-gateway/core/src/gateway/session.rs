//! A session with the broker, as the owner of the spool sees it.
//!
//! A session record on the control lane comes first and must be acknowledged before any data frame is sent: a cloned or
//! restored spool is caught by its control stream before it can do harm.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ids::{Lane, TopicId};
use wire::time::MonoMs;
use wire::uplink::{RefusedCode, State, StreamKey, StreamState, TopicInfo};

use super::{Alarm, Gateway, Now};
use crate::mutant::{self, Mutant};
use crate::routing;
use crate::spool::RowNo;
use crate::spool::segment::Row;
use crate::spool::store::SpoolStore;
use crate::uplink::window::{Batch, BatchNo, Outcome};

/// Unacknowledged session records at which no further one is written.
const CONTROL_BATCHES_MAX: usize = 32;

/// Names one connection to a broker within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What WELCOME said, as far as the spool's owner needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WelcomeFacts {
    /// Per lane, the topic's id and partitions.
    pub topics: Vec<(Lane, TopicId, u32)>,
    /// Where streams stand; a hint.
    pub states: Vec<(StreamKey, StreamState)>,
    /// Unanswered frames that the broker allows, at least 1.
    pub frames_in_flight: usize,
}

impl WelcomeFacts {
    /// Finds the lanes' topics among those that WELCOME names; `None` if one is missing or has no partition.
    #[must_use]
    pub fn new(
        topics: &[TopicInfo<'_>],
        states: &[(StreamKey, StreamState)],
        frames_in_flight: u32,
    ) -> Option<Self> {
        let bind = |lane| {
            let info = topics.iter().find(|info| info.name == routing::topic_of(lane))?;
            (info.partitions > 0).then_some((lane, info.id, info.partitions))
        };
        let topics = Lane::ALL.into_iter().map(bind).collect::<Option<Vec<_>>>()?;
        let frames_in_flight = (frames_in_flight as usize).max(1);
        Some(Self { topics, states: states.to_vec(), frames_in_flight })
    }
}

/// What the uplink reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkEvent {
    /// A session ended.
    Closed(SessionId),
    /// A session began.
    Opened(SessionId, WelcomeFacts),
    /// The broker did not store a frame that fits.
    Refused {
        /// What the answer says of the stream.
        state: State,
        /// Why.
        code: RefusedCode,
        /// Whether for ever.
        permanent: bool,
        /// For people.
        detail: String,
    },
    /// The broker said where a stream stands.
    State(State),
    /// A batch could not be read back from the spool.
    Unreadable {
        /// For people.
        detail: String,
    },
}

/// A lane's topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) topic: TopicId,
    pub(super) partitions: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The session record has no batch yet.
    Recording,
    /// It has this batch, which is not acknowledged yet.
    Proving(BatchNo),
    /// Data may flow.
    Open,
}

#[derive(Debug)]
pub(super) struct Session {
    id: SessionId,
    phase: Phase,
    bindings: BTreeMap<Lane, Binding>,
    pub(super) frames_in_flight: usize,
    /// Rows below this one came before the session: they are backfill.
    backlog_end: RowNo,
    next_record: MonoMs,
}

impl Session {
    pub(super) fn open_lanes(&self) -> Vec<(Lane, Binding)> {
        let is_open = self.is_open() || mutant::is(Mutant::DataBeforeProof);
        let open = |lane: &Lane| *lane == Lane::Control || is_open;
        self.bindings.iter().filter(|(lane, _)| open(lane)).map(|(l, b)| (*l, *b)).collect()
    }

    pub(super) fn is_backlog(&self, lane: Lane, row: RowNo) -> bool {
        lane == Lane::Live && row < self.backlog_end
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(super) fn next_record(&self) -> Option<MonoMs> {
        self.is_open().then_some(self.next_record)
    }

    /// A batch was assigned in this session; the first control batch holds the record that was staged when it began.
    pub(super) fn assigned(&mut self, batch: &Batch) {
        if batch.lane == Lane::Control && self.phase == Phase::Recording {
            self.phase = Phase::Proving(batch.number);
        }
    }

    /// Whether one of these acknowledged batches proves that the log and this spool agree.
    fn is_proved_by(&self, batches: &[Batch]) -> bool {
        match self.phase {
            Phase::Proving(record) => {
                batches.iter().any(|batch| batch.lane == Lane::Control && batch.number >= record)
            }
            Phase::Open | Phase::Recording => false,
        }
    }
}

impl<S: SpoolStore> Gateway<S> {
    /// The streams of which HELLO asks where they stand.
    #[must_use]
    pub fn hello_streams(&self) -> Vec<StreamKey> {
        Lane::ALL.iter().flat_map(|l| self.window.streams(*l)).map(|stream| stream.key).collect()
    }

    /// Takes in what the uplink reports.
    pub fn handle_uplink(&mut self, now: Now, event: UplinkEvent) {
        match event {
            UplinkEvent::Closed(id) => {
                if self.session.as_ref().is_some_and(|session| session.id == id) {
                    self.session = None;
                    self.window.close_session();
                }
            }
            UplinkEvent::Opened(id, facts) => self.open_session(now, id, &facts),
            UplinkEvent::Refused { state, code, permanent, detail } => {
                // A refusal without a state is about the topic or the right to it: it says nothing of what is stored.
                let outcome = match state.state {
                    Some(_) => self.window.on_state(now.mono, &state),
                    None => self.window.on_answer(&state),
                };
                let rewound = outcome == Outcome::Rewound;
                self.apply(now, outcome, state.stream);
                if permanent {
                    self.raise(Alarm::Refused { stream: state.stream, code, detail });
                } else if !rewound {
                    self.window.pause(now.mono, state.stream);
                }
            }
            UplinkEvent::State(state) => {
                let outcome = self.window.on_state(now.mono, &state);
                self.apply(now, outcome, state.stream);
            }
            UplinkEvent::Unreadable { detail } => self.raise(Alarm::Damaged { detail }),
        }
    }

    /// Stages the session record that is due, if one is.
    pub fn handle_timeout(&mut self, now: Now) {
        let due = self.session.as_ref().and_then(Session::next_record);
        if due.is_some_and(|at| at <= now.mono) {
            if self.alarm.is_none() && self.window.is_empty(Lane::Control) {
                self.stage_record(now, "alive");
            } else if let Some(session) = &mut self.session {
                session.next_record = now.mono + self.settings.record_interval_ms;
            }
        }
        // A record that found no room belongs to a session that is over: the next one brings its own.
        if self.session.is_none() {
            self.records.clear();
        }
    }

    fn open_session(&mut self, now: Now, id: SessionId, facts: &WelcomeFacts) {
        self.window.close_session();
        self.session = None;
        if self.alarm.is_some() {
            return;
        }
        let mut bindings = BTreeMap::new();
        for (lane, topic, partitions) in &facts.topics {
            let Some(binding) = self.bind(*lane, *topic, *partitions) else {
                self.raise(Alarm::TopicChanged { topic: routing::topic_of(*lane).to_owned() });
                return;
            };
            bindings.insert(*lane, binding);
        }
        for (key, state) in &facts.states {
            let trimmed = self.window.on_hint(*key, *state);
            self.trim(now, trimmed);
        }
        self.session = Some(Session {
            id,
            phase: Phase::Recording,
            bindings,
            frames_in_flight: facts.frames_in_flight,
            backlog_end: self.next_row,
            next_record: now.mono + self.settings.record_interval_ms,
        });
        self.window.open_lane(Lane::Control);
        if self.window.len(Lane::Control) < CONTROL_BATCHES_MAX {
            self.stage_record(now, "session");
        } else {
            // A broker that welcomes but never acknowledges must not fill the spool with records of it.
            self.prove_by_window();
        }
    }

    /// The topic as this lane may use it: a changed partition count takes effect when the window is empty (rule S4);
    /// another topic id never does by itself.
    fn bind(&self, lane: Lane, topic: TopicId, partitions: u32) -> Option<Binding> {
        if self.window.streams(lane).any(|stream| stream.key.topic != topic) {
            return None;
        }
        let partitions = self.window.partitions(lane).unwrap_or(partitions);
        Some(Binding { topic, partitions })
    }

    fn apply(&mut self, now: Now, outcome: Outcome, stream: StreamKey) {
        match outcome {
            Outcome::Forked => self.raise(Alarm::Forked { stream }),
            Outcome::Ignored | Outcome::Rewound => {}
            Outcome::Regressed => self.raise(Alarm::Regressed { stream }),
            Outcome::Trimmed(batches) => self.trim(now, batches),
        }
    }

    fn trim(&mut self, now: Now, batches: Vec<Batch>) {
        if batches.is_empty() {
            return;
        }
        if batches.iter().any(|batch| batch.lane == Lane::Live) {
            self.progress = now.mono;
        }
        self.trim_due.get_or_insert(now.mono + super::TRIM_DELAY_MS);
        if let Some(session) = &mut self.session
            && session.is_proved_by(&batches)
        {
            session.phase = Phase::Open;
            self.window.open_lane(Lane::Live);
        }
        self.trimmed.extend(batches);
    }

    fn prove_by_window(&mut self) {
        if let (Some(session), Some(last)) = (&mut self.session, self.window.last(Lane::Control)) {
            session.phase = Phase::Proving(last);
        }
    }

    fn stage_record(&mut self, now: Now, event: &str) {
        self.records.clear();
        if let Some(session) = &mut self.session {
            session.next_record = now.mono + self.settings.record_interval_ms;
        }
        let ledger = self.ledger;
        // Every name in it is of characters that JSON takes as they are.
        let value = format!(
            "{{\"event\":\"{event}\",\"gateway\":\"{}\",\"spool\":\"{}\",\"time\":{},\
             \"ledger\":{{\"received\":{},\"delivered\":{},\"spooled\":{},\"deduplicated\":{},\
             \"dropped\":{{\"full\":{}}}}}}}",
            self.settings.gateway,
            self.spool,
            now.wall.0,
            ledger.received,
            ledger.delivered,
            self.spooled,
            ledger.deduplicated,
            ledger.dropped_full,
        );
        self.records.push(Row {
            received: now.wall,
            device: Bytes::copy_from_slice(self.settings.gateway.as_str().as_bytes()),
            topic: Bytes::new(),
            sequence: None,
            device_time: None,
            maybe_dup: false,
            properties: Vec::new(),
            payload: Bytes::from(value),
        });
    }
}
