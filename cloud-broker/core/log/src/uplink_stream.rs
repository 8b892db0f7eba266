//! Where every uplink stream stands: compare-and-append on the tag chain (docs/protocols/uplink.md, B1, B2, B5).
//!
//! Each stream has two states. Appends are judged against what was *appended*, so that frames can follow each other
//! without waiting for the disk; answers tell only what is *durable*. Both come from WAL entries, never from the record
//! batches, so they outlive the batches.

use std::collections::BTreeMap;

use wire::ids::{ProducerId, Tag};
use wire::record_batch::RecordBatchHeader;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::uplink::{Append, StreamKey, StreamState};

use crate::ids::{PartitionKey, TopicNo};
use crate::mutant::{self, Mutant};

/// An uplink stream as the log names it: [`StreamKey`] with the topic's number in place of its UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UplinkStream {
    /// The partition. First, so that the streams of a topic lie together.
    pub key: PartitionKey,
    /// The lane of the spool.
    pub pid: ProducerId,
}

impl UplinkStream {
    /// The stream that a frame calls `stream`, whose topic has the number `topic_no`.
    #[must_use]
    pub fn new(stream: StreamKey, topic_no: TopicNo) -> Self {
        Self { pid: stream.pid, key: PartitionKey { topic_no, partition: stream.partition } }
    }
}

/// The fields of APPEND, without its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UplinkAppend {
    /// The stream.
    pub stream: UplinkStream,
    /// Its epoch, as the gateway has it.
    pub epoch: StreamEpoch,
    /// Sequence of the first reading.
    pub base: StreamSeq,
    /// Readings.
    pub count: u32,
    /// Tag of the batch before this one.
    pub prev_tag: Tag,
    /// Tag of this batch.
    pub tag: Tag,
}

impl UplinkAppend {
    /// The fields of `frame`, whose topic has the number `topic_no`.
    #[must_use]
    pub fn new(frame: &Append<'_>, topic_no: TopicNo) -> Self {
        Self {
            stream: UplinkStream::new(frame.stream, topic_no),
            epoch: frame.epoch,
            base: frame.base,
            count: frame.count,
            prev_tag: frame.prev_tag,
            tag: frame.tag,
        }
    }

    /// Rule B1: whether this comes right after `state`.
    #[must_use]
    pub fn fits(&self, state: &StreamState) -> bool {
        if mutant::is(Mutant::AcceptAnyTail) {
            return self.epoch == state.epoch;
        }
        let follows = self.prev_tag == state.tag || mutant::is(Mutant::IgnorePrevTag);
        self.epoch == state.epoch && self.base == state.next() && follows
    }

    /// Where the stream stands once this is stored.
    #[must_use]
    pub fn state_after(&self) -> StreamState {
        StreamState { epoch: self.epoch, last: Some(self.base.last_of(self.count)), tag: self.tag }
    }

    /// Whether the batch says the same as the frame around it. Consumers see the batch and the stream's state is made
    /// from the frame, so one that contradicts itself would be stored as something it is not.
    #[must_use]
    pub fn agrees_with(&self, header: &RecordBatchHeader) -> bool {
        self.stream.pid.is_uplink()
            && self.tag != Tag::NIL
            && header.producer_id == self.stream.pid
            && header.producer_epoch == self.epoch.0
            && header.base_sequence == self.base.get()
            && header.record_count == self.count
            && !header.is_control()
            && !header.is_transactional()
    }
}

/// Every stream's two states.
#[derive(Debug, Default)]
pub(crate) struct UplinkStreams {
    streams: BTreeMap<UplinkStream, Stands>,
}

#[derive(Debug)]
struct Stands {
    appended: StreamState,
    durable: Option<StreamState>,
}

impl UplinkStreams {
    pub(crate) fn fits(&self, append: &UplinkAppend) -> bool {
        let stands = self.streams.get(&append.stream);
        append.fits(&stands.map_or(StreamState::UNKNOWN, |s| s.appended))
    }

    pub(crate) fn is_known(&self, stream: &UplinkStream) -> bool {
        self.streams.contains_key(stream)
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn note_appended(&mut self, append: &UplinkAppend) {
        let appended = append.state_after();
        self.streams
            .entry(append.stream)
            .and_modify(|stands| stands.appended = appended)
            .or_insert(Stands { appended, durable: None });
    }

    pub(crate) fn note_durable(&mut self, append: &UplinkAppend) {
        if let Some(stands) = self.streams.get_mut(&append.stream) {
            stands.durable = Some(append.state_after());
        }
    }

    /// Where a partition's streams durably stand, sorted by id.
    pub(crate) fn durable_of(
        &self,
        key: PartitionKey,
    ) -> impl Iterator<Item = (ProducerId, StreamState)> {
        let first = UplinkStream { key, pid: ProducerId(i64::MIN) };
        let last = UplinkStream { key, pid: ProducerId(i64::MAX) };
        let streams = self.streams.range(first..=last);
        streams.filter_map(|(stream, stands)| Some((stream.pid, stands.durable?)))
    }

    /// A stream durably stands here.
    pub(crate) fn restore(&mut self, stream: UplinkStream, state: StreamState) {
        self.streams.insert(stream, Stands { appended: state, durable: Some(state) });
    }

    /// Forgets the streams of a topic that is gone.
    pub(crate) fn remove_topic(&mut self, topic_no: TopicNo) {
        let (first, last) = PartitionKey::all_of(topic_no);
        let first = UplinkStream { key: first, pid: ProducerId(i64::MIN) };
        let last = UplinkStream { key: last, pid: ProducerId(i64::MAX) };
        self.streams.extract_if(first..=last, |_, _| true).for_each(drop);
    }

    pub(crate) fn durable(&self, stream: &UplinkStream) -> Option<StreamState> {
        let stands = self.streams.get(stream)?;
        if mutant::is(Mutant::StateNotDurable) { Some(stands.appended) } else { stands.durable }
    }
}
