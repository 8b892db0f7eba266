//! The send window: batches that were given a partition, a sequence and a tag, and what the broker says of them.
//!
//! Invariants: a batch is in the window only after it is on the disk; within (stream, epoch) a sequence names one
//! reading for ever; the window is trimmed by tag, never by sequence alone; when-full policies do not touch it.
//!
//! Deliberately missing for now: RESET, re-identification after FORKED. Both stop the uplink loudly instead
//! ([`Outcome::Forked`], [`Outcome::Regressed`]): nothing is lost, the readings stay in the spool.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wire::ids::{Lane, Tag};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::MonoMs;
use wire::uplink::{State, StreamKey, StreamState};

use crate::mutant::{self, Mutant};
use crate::spool::RowNo;

/// Most unacknowledged batches of one lane.
pub const LANE_BATCHES_MAX: usize = 192;

/// Wait before a batch that the broker did not take is sent again, in milliseconds; doubles up to 64 times that.
pub const RETRY_MS: u64 = 50;

const _: () = assert!(LANE_BATCHES_MAX >= wire::limits::UPLINK_LANE_FRAMES_MIN);

/// Number of a batch in the order of assignment, over all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BatchNo(pub u64);

/// An assigned batch: which rows, and their place in their stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Its number.
    pub number: BatchNo,
    /// The rows' lane.
    pub lane: Lane,
    /// The stream.
    pub stream: StreamKey,
    /// Partitions of the topic when it was assigned: with the key it tells which rows belong to it.
    pub partitions: u32,
    /// Epoch of the stream.
    pub epoch: StreamEpoch,
    /// Sequence of the first reading.
    pub base: StreamSeq,
    /// Readings, at least 1.
    pub count: u32,
    /// Tag of the batch before it in the stream.
    pub prev_tag: Tag,
    /// Its tag.
    pub tag: Tag,
    /// First row of the run that it was cut from.
    pub from: RowNo,
    /// The row behind that run.
    pub to: RowNo,
    /// Whether its readings waited for a session that began after they came.
    pub backfill: bool,
}

impl Batch {
    /// Sequence of the last reading.
    #[must_use]
    pub fn last(&self) -> StreamSeq {
        self.base.last_of(self.count)
    }

    /// Most rows of its lane that the run can hold.
    #[must_use]
    pub fn rows(&self) -> u32 {
        u32::try_from(self.to.0.saturating_sub(self.from.0)).unwrap_or(u32::MAX)
    }
}

/// A stream and where it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// The lane it belongs to.
    pub lane: Lane,
    /// Its name.
    pub key: StreamKey,
    /// What the broker acknowledged last.
    pub acked: StreamState,
}

/// What a STATE did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The log holds something under this stream's name that this spool did not send: it was cloned or restored.
    Forked,
    /// Nothing: late, or about something else.
    Ignored,
    /// The log holds less than it acknowledged.
    Regressed,
    /// The stream will be sent again from the first unacknowledged batch.
    Rewound,
    /// These batches are in the log, oldest first.
    Trimmed(Vec<Batch>),
}

#[derive(Debug)]
struct StreamWindow {
    stream: Stream,
    batches: VecDeque<Batch>,
    paused_until: MonoMs,
    rewinds: u32,
}

/// All unacknowledged batches of a spool.
#[derive(Debug, Default)]
pub struct Window {
    streams: BTreeMap<StreamKey, StreamWindow>,
    lane_len: BTreeMap<Lane, usize>,
    /// Batches that this session has still to send.
    unsent: BTreeSet<(Lane, BatchNo, StreamKey)>,
    /// Batches that this session sent and has no answer to, and whether they left after the last trim of their stream, and
    /// once. Only the answer to such a one can say that the log has lost something: any other may have been given before
    /// what is acknowledged was stored, if that became known by another connection.
    unanswered: BTreeMap<(StreamKey, Tag), bool>,
}

impl Window {
    /// The window that a spool remembers.
    #[must_use]
    pub fn recovered(streams: &[Stream], batches: &[Batch]) -> Self {
        let mut window = Self::default();
        for stream in streams {
            window.slot(stream.lane, stream.key).stream = *stream;
        }
        for batch in batches {
            window.push(*batch);
        }
        window.unsent.clear();
        window
    }

    /// Where the next batch of a stream begins: epoch, sequence and the tag before it.
    #[must_use]
    pub fn head(&self, key: StreamKey) -> StreamState {
        let Some(slot) = self.streams.get(&key) else {
            return StreamState::UNKNOWN;
        };
        slot.batches.back().map_or(slot.stream.acked, |batch| StreamState {
            epoch: batch.epoch,
            last: Some(batch.last()),
            tag: batch.tag,
        })
    }

    /// Adds a batch that is on the disk; it will be sent in this session.
    pub fn push(&mut self, batch: Batch) {
        self.slot(batch.lane, batch.stream).batches.push_back(batch);
        *self.lane_len.entry(batch.lane).or_default() += 1;
        self.unsent.insert((batch.lane, batch.number, batch.stream));
    }

    /// Unacknowledged batches of a lane.
    #[must_use]
    pub fn len(&self, lane: Lane) -> usize {
        self.lane_len.get(&lane).copied().unwrap_or(0)
    }

    /// Whether nothing of the lane is unacknowledged.
    #[must_use]
    pub fn is_empty(&self, lane: Lane) -> bool {
        self.len(lane) == 0
    }

    /// The streams of a lane.
    pub fn streams(&self, lane: Lane) -> impl Iterator<Item = &Stream> {
        self.streams.values().map(|slot| &slot.stream).filter(move |stream| stream.lane == lane)
    }

    /// The partition count that the lane's unacknowledged batches were cut by.
    #[must_use]
    pub fn partitions(&self, lane: Lane) -> Option<u32> {
        let slots = self.streams.values().filter(|slot| slot.stream.lane == lane);
        slots.filter_map(|slot| slot.batches.front()).map(|batch| batch.partitions).next()
    }

    /// The batch of a lane that was assigned last, of those unacknowledged.
    #[must_use]
    pub fn last(&self, lane: Lane) -> Option<BatchNo> {
        let slots = self.streams.values().filter(|slot| slot.stream.lane == lane);
        slots.filter_map(|slot| slot.batches.back()).map(|batch| batch.number).max()
    }

    /// The first row of a lane that an unacknowledged batch was cut from.
    #[must_use]
    pub fn first_row(&self, lane: Lane) -> Option<RowNo> {
        let fronts = self.streams.values().filter(|slot| slot.stream.lane == lane);
        fronts.filter_map(|slot| slot.batches.front()).map(|batch| batch.from).min()
    }

    /// A session ended or has not begun: nothing is to be sent, no answer is waited for.
    pub fn close_session(&mut self) {
        self.unsent.clear();
        self.unanswered.clear();
        for slot in self.streams.values_mut() {
            slot.paused_until = MonoMs::default();
            slot.rewinds = 0;
        }
    }

    /// Everything unacknowledged of this lane is to be sent in this session.
    pub fn open_lane(&mut self, lane: Lane) {
        for slot in self.streams.values().filter(|slot| slot.stream.lane == lane) {
            self.unsent.extend(slot.batches.iter().map(|b| (lane, b.number, b.stream)));
        }
    }

    /// Takes the next batch to send, lanes in their order, each in the order of assignment; `None` if nothing is to be
    /// sent now or `unanswered_max` frames have no answer yet.
    pub fn take_unsent(&mut self, now: MonoMs, unanswered_max: usize) -> Option<Batch> {
        if self.unanswered.len() >= unanswered_max {
            return None;
        }
        let ready = |(_, _, key): &&(Lane, BatchNo, StreamKey)| {
            self.streams.get(key).is_some_and(|slot| slot.paused_until <= now)
        };
        let next = *self.unsent.iter().find(ready)?;
        self.unsent.remove(&next);
        let slot = self.streams.get(&next.2)?;
        let batch = *slot.batches.iter().find(|batch| batch.number == next.1)?;
        // What comes next for one sent twice answers the first.
        let is_judge = !self.unanswered.contains_key(&(batch.stream, batch.tag));
        self.unanswered.insert((batch.stream, batch.tag), is_judge);
        Some(batch)
    }

    /// When the next paused stream may be sent again; streams that may be sent now are not waited for.
    #[must_use]
    pub fn next_retry(&self, now: MonoMs) -> Option<MonoMs> {
        let waiting = self.unsent.iter().filter_map(|(_, _, key)| self.streams.get(key));
        waiting.map(|slot| slot.paused_until).filter(|at| *at > now).min()
    }

    /// Frames without an answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Notes that a frame was answered, without word of what is stored.
    pub fn on_answer(&mut self, answer: &State) -> Outcome {
        self.unanswered.remove(&(answer.stream, answer.answers));
        Outcome::Ignored
    }

    /// Applies what the broker says, from whichever connection and however late ("Gateway on STATE").
    pub fn on_state(&mut self, now: MonoMs, answer: &State) -> Outcome {
        let sent = self.unanswered.remove(&(answer.stream, answer.answers));
        let is_judge =
            sent == Some(true) || (sent.is_some() && mutant::is(Mutant::OvertakenProves));
        let Some(slot) = self.streams.get_mut(&answer.stream) else {
            return Outcome::Ignored;
        };
        let first = slot.batches.front().map(|batch| batch.tag);
        let answers_first = sent.is_some() && first == Some(answer.answers);
        let Some(state) = answer.state else {
            return match (slot.stream.acked.last, answers_first) {
                // What was acknowledged is gone. A late answer can say that rightly, one to a current frame cannot.
                (Some(_), _) if is_judge => Outcome::Regressed,
                (Some(_) | None, true) => self.rewind(now, answer.stream),
                (Some(_) | None, false) => Outcome::Ignored,
            };
        };
        let acked = slot.stream.acked;
        if state.epoch < acked.epoch {
            return Outcome::Ignored;
        }
        if state.epoch > acked.epoch {
            return Outcome::Forked;
        }
        let found = slot.batches.iter().position(|batch| Some(batch.last()) == state.last);
        if let Some(at) = found {
            return if slot.batches[at].tag == state.tag || mutant::is(Mutant::TrimBySequence) {
                self.trim(answer.stream, at)
            } else {
                Outcome::Forked
            };
        }
        match distance(acked.last, state.last) {
            0 if state.tag != acked.tag => Outcome::Forked,
            0 if answers_first => self.rewind(now, answer.stream),
            0 => Outcome::Ignored,
            1.. => Outcome::Forked,
            _ if is_judge => Outcome::Regressed,
            _ if answers_first => self.rewind(now, answer.stream),
            _ => Outcome::Ignored,
        }
    }

    /// Trims by what WELCOME says of a stream. Only a hint: whatever does not fit is left to the answers of frames.
    pub fn on_hint(&mut self, key: StreamKey, state: StreamState) -> Vec<Batch> {
        let at = self.streams.get(&key).and_then(|slot| {
            slot.batches.iter().position(|batch| {
                (batch.tag == state.tag || mutant::is(Mutant::HintBySequence))
                    && batch.epoch == state.epoch
                    && Some(batch.last()) == state.last
            })
        });
        match at.map(|at| self.trim(key, at)) {
            Some(Outcome::Trimmed(batches)) => batches,
            _ => Vec::new(),
        }
    }

    /// The broker will not take this stream's next batch now: wait, then send it and all behind it again.
    pub fn pause(&mut self, now: MonoMs, key: StreamKey) {
        self.rewind(now, key);
    }

    fn rewind(&mut self, now: MonoMs, key: StreamKey) -> Outcome {
        let Some(slot) = self.streams.get_mut(&key) else {
            return Outcome::Ignored;
        };
        slot.paused_until = now + (RETRY_MS << slot.rewinds.min(6));
        slot.rewinds = slot.rewinds.saturating_add(1);
        let lane = slot.stream.lane;
        let skipped = usize::from(mutant::is(Mutant::RewindSkipsFirst));
        let batches = slot.batches.iter().skip(skipped);
        self.unsent.extend(batches.map(|batch| (lane, batch.number, key)));
        Outcome::Rewound
    }

    fn trim(&mut self, key: StreamKey, at: usize) -> Outcome {
        let Some(slot) = self.streams.get_mut(&key) else {
            return Outcome::Ignored;
        };
        let trimmed: Vec<_> = slot.batches.drain(..=at).collect();
        if let Some(last) = trimmed.last() {
            slot.stream.acked =
                StreamState { epoch: last.epoch, last: Some(last.last()), tag: last.tag };
        }
        (slot.rewinds, slot.paused_until) = (0, MonoMs::default());
        for (_, is_judge) in self.unanswered.range_mut((key, Tag::NIL)..=(key, Tag(u64::MAX))) {
            *is_judge = false;
        }
        for batch in &trimmed {
            self.unsent.remove(&(batch.lane, batch.number, key));
            let len = self.lane_len.entry(batch.lane).or_default();
            *len = len.saturating_sub(1);
        }
        Outcome::Trimmed(trimmed)
    }

    fn slot(&mut self, lane: Lane, key: StreamKey) -> &mut StreamWindow {
        self.streams.entry(key).or_insert_with(|| StreamWindow {
            stream: Stream { lane, key, acked: StreamState::UNKNOWN },
            batches: VecDeque::new(),
            paused_until: MonoMs::default(),
            rewinds: 0,
        })
    }
}

/// How far `b` lies ahead of `a` (negative: behind) in a stream whose sequences wrap at 2³¹; `None` lies before 0.
fn distance(a: Option<StreamSeq>, b: Option<StreamSeq>) -> i64 {
    const HALF: i64 = 1 << 30;
    let number = |seq: Option<StreamSeq>| seq.map_or(-1, |seq| i64::from(seq.get()));
    match (a, b) {
        (None, None) => 0,
        (None, Some(_)) => 1,
        (Some(_), None) => -1,
        (Some(_), Some(_)) => (number(b) - number(a) + HALF).rem_euclid(2 * HALF) - HALF,
    }
}

#[cfg(test)]
mod tests;
