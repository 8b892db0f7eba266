//! What a gateway says of itself.

use std::fmt;

use wire::ids::Lane;
use wire::time::MonoMs;
use wire::uplink::{RefusedCode, StreamKey};

use super::session::Session;
use super::{Gateway, Now};
use crate::ledger::Ledger;
use crate::spool::store::SpoolStore;

/// Why the uplink needs a person. Readings are still taken and acknowledged: they are safe in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// An assigned or waiting segment cannot be read.
    Damaged {
        /// For people.
        detail: String,
    },
    /// The log holds batches under this spool's name that it did not send: a clone or a restored copy is about.
    Forked {
        /// Where that was seen.
        stream: StreamKey,
    },
    /// A batch was refused for ever.
    Refused {
        /// Its stream.
        stream: StreamKey,
        /// Why.
        code: RefusedCode,
        /// For people.
        detail: String,
    },
    /// The log lost what it had acknowledged.
    Regressed {
        /// Where that was seen.
        stream: StreamKey,
    },
    /// A topic that this spool has appended to was made anew.
    TopicChanged {
        /// Its name.
        topic: String,
    },
}

impl Alarm {
    /// Whether nothing may be sent any more until a person has looked: all of these, as long as RESET and
    /// re-identification are not there.
    #[must_use]
    pub fn stops_uplink(&self) -> bool {
        match self {
            Self::Damaged { .. }
            | Self::Forked { .. }
            | Self::Refused { .. }
            | Self::Regressed { .. }
            | Self::TopicChanged { .. } => true,
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at =
            |stream: &StreamKey| format!("topic {} partition {}", stream.topic, stream.partition);
        match self {
            Self::Damaged { detail } => write!(f, "the spool is damaged: {detail}"),
            Self::Forked { stream } => write!(
                f,
                "FORKED: {} holds batches of this spool that it did not send; was it cloned or \
                 restored from a copy?",
                at(stream)
            ),
            Self::Refused { stream, code, detail } => {
                write!(f, "{} refused a batch for ever ({code:?}): {detail}", at(stream))
            }
            Self::Regressed { stream } => {
                write!(f, "{} lost what it had acknowledged", at(stream))
            }
            Self::TopicChanged { topic } => {
                write!(f, "topic {topic} was deleted and made anew; readings wait in the spool")
            }
        }
    }
}

/// A snapshot for metrics, readiness and people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The ledger.
    pub ledger: Ledger,
    /// Readings on disk that the log has not acknowledged.
    pub spooled: u64,
    /// Unacknowledged batches of the live lane.
    pub window: usize,
    /// Frames of this session without an answer.
    pub unanswered: usize,
    /// Whether a session is up and data may flow.
    pub connected: bool,
    /// When a reading was last acknowledged by the log, or the spool was last empty.
    pub progress: MonoMs,
    /// What needs a person.
    pub alarm: Option<Alarm>,
}

impl<S: SpoolStore> Gateway<S> {
    /// How it stands.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        Status {
            ledger: self.ledger,
            spooled: self.spooled,
            window: self.window.len(Lane::Live),
            unanswered: self.window.unanswered(),
            connected: self.session.as_ref().is_some_and(Session::is_open),
            progress: if self.spooled == 0 { now.mono } else { self.progress },
            alarm: self.alarm.clone(),
        }
    }

    /// The first alarm stays until a person has looked: later ones follow from it.
    pub(super) fn raise(&mut self, alarm: Alarm) {
        self.alarm.get_or_insert(alarm);
    }
}
