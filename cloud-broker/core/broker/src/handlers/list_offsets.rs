//! ListOffsets, versions 1 to 10.
//!
//! The ends of a partition the broker knows. A time it can only narrow down to a run of batches; the connection reads the
//! run and decodes its records, so that the answer is exact to the record. If a header promised more than its records
//! hold, the lookup goes on behind that run.
//!
//! There is no tiered storage: the earliest local offset (−4) is the log start, and the latest tiered one (−5) is
//! unknown, as Kafka answers without tiering.

use std::collections::BTreeSet;

use broker_kafka::ErrorCode;
use broker_kafka::generated::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use broker_kafka::records::{TimedOffset, first_at_or_after, first_of_greatest_time};
use broker_kafka::runtime::{Text, Uuid};
use broker_log::{Candidate, Log, PartitionKey, PieceRead};
use bytes::Bytes;
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::RecordBatchHeader;
use wire::time::UnixMs;

use super::{KafkaRequest, NamedBy, PieceLost, ReadPiece, TopicName, check_epoch, partition_of};
use crate::metadata::Image;

/// Most runs that one request looks into. Only headers that lie make a lookup need more than one for each partition.
pub const LOOKUP_RUNS_MAX: u32 = 10_000;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// The versions from which on these are allowed.
const MAX_TIMESTAMP_FROM: i16 = 7;
const EARLIEST_LOCAL_FROM: i16 = 8;
const LATEST_TIERED_FROM: i16 = 9;

/// The first version whose answers say the leader epoch.
const EPOCH_FROM: i16 = 4;

/// No timestamp, no offset.
const NONE: i64 = -1;

/// What ListOffsets asks for, and what is known of the answer.
#[derive(Debug)]
pub struct LookupQuery {
    version: i16,
    topics: Vec<LookupTopic>,
    runs_looked_into: u32,
}

/// What the broker knows of the answer.
#[derive(Debug)]
pub struct LookupAnswer {
    version: i16,
    topics: Vec<LookupTopic>,
    runs_looked_into: u32,
}

/// What the connection does next with a lookup.
#[derive(Debug)]
pub enum LookupProgress {
    /// Send the response.
    Done(ListOffsetsResponse),
    /// Ask the broker again, with this.
    Again(KafkaRequest),
}

#[derive(Debug)]
struct LookupTopic {
    name: TopicName,
    partitions: Vec<LookupPartition>,
}

#[derive(Debug)]
struct LookupPartition {
    index: i32,
    epoch: i32,
    timestamp: i64,
    /// The latest record that was found so far, if the latest is asked for.
    latest: Option<Position>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The broker has to look, from this offset on if it is a time.
    Ask { from: Offset },
    /// The connection has to look into this.
    Search { run: Candidate },
    /// Answered.
    Done(Result<Position, ErrorCode>),
}

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    timestamp: i64,
    offset: i64,
    epoch: i32,
}

impl Position {
    /// Of a record in the batch with this header.
    fn of(found: TimedOffset, header: &RecordBatchHeader) -> Self {
        Self { timestamp: found.timestamp.0, offset: found.offset.0, epoch: header.leader_epoch.0 }
    }
}

impl LookupQuery {
    /// Takes what matters from a request of this version.
    #[must_use]
    pub fn new(version: i16, request: &ListOffsetsRequest) -> Self {
        let twice = named_twice(request);
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let partitions = topic.partitions.iter().map(|partition| {
                let stage = if twice.contains(&(&*topic.name, partition.partition_index)) {
                    Stage::Done(Err(ErrorCode::InvalidRequest))
                } else if needs_version(partition.timestamp).is_none_or(|first| version < first) {
                    Stage::Done(Err(ErrorCode::UnsupportedVersion))
                } else {
                    Stage::Ask { from: Offset::ZERO }
                };
                LookupPartition {
                    index: partition.partition_index,
                    epoch: partition.current_leader_epoch,
                    timestamp: partition.timestamp,
                    latest: None,
                    stage,
                }
            });
            let partitions = partitions.collect();
            topics.push(LookupTopic {
                name: TopicName::new(&topic.name, Uuid::ZERO, NamedBy::Name),
                partitions,
            });
        }
        Self { version, topics, runs_looked_into: 0 }
    }

    /// What the broker knows now.
    pub(crate) fn look(mut self, log: &Log, image: &Image) -> LookupAnswer {
        for topic in &mut self.topics {
            let found = topic.name.find(image);
            for partition in &mut topic.partitions {
                if let Stage::Ask { from } = partition.stage {
                    let key = found.and_then(|found| partition_of(found, partition.index));
                    let looked = key.and_then(|key| partition.look(log, key, from));
                    partition.stage = looked.unwrap_or_else(|code| Stage::Done(Err(code)));
                }
            }
        }
        LookupAnswer {
            version: self.version,
            topics: self.topics,
            runs_looked_into: self.runs_looked_into,
        }
    }
}

/// Partitions that are named more than once: an ill-formed request, of which Kafka answers neither.
fn named_twice(request: &ListOffsetsRequest) -> BTreeSet<(&str, i32)> {
    let mut seen = BTreeSet::new();
    let topics = request.topics.iter();
    let named = topics.flat_map(|topic| {
        topic.partitions.iter().map(|partition| (&*topic.name, partition.partition_index))
    });
    named.filter(|name| !seen.insert(*name)).collect()
}

/// The first version that may ask for this timestamp; `None` for what only a later release may know.
fn needs_version(timestamp: i64) -> Option<i16> {
    match timestamp {
        LATEST | EARLIEST | 0.. => Some(0),
        MAX_TIMESTAMP => Some(MAX_TIMESTAMP_FROM),
        EARLIEST_LOCAL => Some(EARLIEST_LOCAL_FROM),
        LATEST_TIERED => Some(LATEST_TIERED_FROM),
        _ => None,
    }
}

impl LookupPartition {
    fn look(&self, log: &Log, key: PartitionKey, from: Offset) -> Result<Stage, ErrorCode> {
        check_epoch(self.epoch, log.leader_epoch())?;
        let offsets = log.offsets(key).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let end = |offset: Offset| {
            let epoch = epoch_at(offset, log, key);
            Ok(Stage::Done(Ok(Position { timestamp: NONE, offset: offset.0, epoch: epoch.0 })))
        };
        let run = match self.timestamp {
            LATEST => return end(offsets.high_watermark),
            EARLIEST | EARLIEST_LOCAL => return end(offsets.log_start),
            LATEST_TIERED => return Ok(NOWHERE),
            MAX_TIMESTAMP => match self.after_latest() {
                None => log.candidate_of_max_timestamp(key),
                // Of the run with the greatest timestamp, the record that has it may be deleted.
                Some(time) => log.candidate_at_time(key, time, from.max(offsets.log_start)),
            },
            time => log.candidate_at_time(key, UnixMs(time), from.max(offsets.log_start)),
        };
        let nowhere = self.latest.map_or(NOWHERE, |latest| Stage::Done(Ok(latest)));
        Ok(run.map_or(nowhere, |run| Stage::Search { run }))
    }

    /// What a record would have to be to be later than the latest that was found so far.
    fn after_latest(&self) -> Option<UnixMs> {
        Some(UnixMs(self.latest?.timestamp.saturating_add(1)))
    }

    /// Looks into a run for what is asked.
    fn search(&mut self, run: &Candidate, read: &mut ReadPiece<'_>) -> Stage {
        let part = match run.piece.at_hand() {
            Some(bytes) => Ok(bytes.clone().into()),
            None => read(&run.piece),
        };
        let PieceRead { batches, next, .. } = match part {
            // What is damaged may hold the latest record.
            Ok(part) if !part.is_whole && self.timestamp == MAX_TIMESTAMP => {
                return Stage::Done(Err(PieceLost::Damaged.code()));
            }
            Ok(part) => part,
            Err(lost) => return Stage::Done(Err(lost.code())),
        };
        let bytes = match &batches[..] {
            [one] => one.clone(),
            many => Bytes::from(many.concat()),
        };
        let behind = Stage::Ask { from: next.unwrap_or(run.next) };
        if self.timestamp != MAX_TIMESTAMP {
            let found = first_record_at(&bytes, UnixMs(self.timestamp));
            return found.map_or(behind, |found| Stage::Done(Ok(found)));
        }
        let found = latest_record(&bytes);
        let is_first = self.latest.is_none();
        let is_later =
            |found: &Position| self.after_latest().is_none_or(|t| found.timestamp >= t.0);
        if let Some(found) = found.filter(is_later) {
            self.latest = Some(found);
        }
        // What lies before the first run that was looked into may be later.
        if is_first { Stage::Ask { from: Offset::ZERO } } else { behind }
    }

    fn response(&self, version: i16) -> ListOffsetsPartitionResponse {
        let (code, position) = match &self.stage {
            Stage::Done(Ok(position)) => (0, *position),
            Stage::Done(Err(code)) => (i16::from(*code), NO_POSITION),
            Stage::Ask { .. } | Stage::Search { .. } => {
                (i16::from(ErrorCode::UnknownServerError), NO_POSITION)
            }
        };
        ListOffsetsPartitionResponse {
            partition_index: self.index,
            error_code: code,
            timestamp: position.timestamp,
            offset: position.offset,
            leader_epoch: if version >= EPOCH_FROM { position.epoch } else { NO_POSITION.epoch },
        }
    }
}

/// The epoch that a record at this offset has, or will have.
fn epoch_at(offset: Offset, log: &Log, key: PartitionKey) -> LeaderEpoch {
    let offsets = log.offsets(key);
    if offsets.is_some_and(|offsets| offset >= offsets.high_watermark) {
        return log.leader_epoch();
    }
    let begun = log.epochs(key).iter().rev().find(|(_, begin)| *begin <= offset);
    begun.map_or(log.leader_epoch(), |(epoch, _)| *epoch)
}

/// The batches of a run with their headers, as far as they are batches.
fn batches(mut run: &[u8]) -> impl Iterator<Item = (&[u8], RecordBatchHeader)> {
    std::iter::from_fn(move || {
        let header = RecordBatchHeader::parse(run).ok()?;
        let (batch, rest) = run.split_at_checked(header.total_len)?;
        run = rest;
        Some((batch, header))
    })
}

/// The first record of a run that is not older than `time`. Batches whose records cannot be walked, which only their
/// producer can have made so, count by their headers.
fn first_record_at(run: &[u8], time: UnixMs) -> Option<Position> {
    let mut candidates = batches(run).filter(|(_, header)| header.max_timestamp >= time);
    candidates.find_map(|(batch, header)| {
        let found = first_at_or_after(batch, time).unwrap_or(Some(by_header(&header)))?;
        Some(Position::of(found, &header))
    })
}

/// The first record with the greatest timestamp of a run.
fn latest_record(run: &[u8]) -> Option<Position> {
    let mut latest: Option<(&[u8], RecordBatchHeader)> = None;
    for (batch, header) in batches(run) {
        if latest.is_none_or(|(_, known)| header.max_timestamp > known.max_timestamp) {
            latest = Some((batch, header));
        }
    }
    let (batch, header) = latest?;
    let found = first_of_greatest_time(batch).unwrap_or(by_header(&header));
    Some(Position::of(found, &header))
}

fn by_header(header: &RecordBatchHeader) -> TimedOffset {
    TimedOffset { offset: header.base_offset, timestamp: header.max_timestamp }
}

const NO_POSITION: Position = Position { timestamp: NONE, offset: NONE, epoch: -1 };

/// Nothing there, which is no error.
const NOWHERE: Stage = Stage::Done(Ok(NO_POSITION));

impl LookupAnswer {
    /// Whether runs have to be looked into, which reads files and decompresses: not on a task that others wait for.
    #[must_use]
    pub fn has_searches(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        let mut stages = partitions.map(|partition| &partition.stage);
        stages.any(|stage| matches!(stage, Stage::Search { .. }))
    }

    /// Looks into the runs, one after the other.
    #[must_use]
    pub fn advance(mut self, read: &mut ReadPiece<'_>) -> LookupProgress {
        let mut is_done = true;
        for partition in self.topics.iter_mut().flat_map(|t| &mut t.partitions) {
            if let Stage::Search { run } = &partition.stage {
                self.runs_looked_into += 1;
                let run = run.clone();
                partition.stage = partition.search(&run, read);
                is_done &= matches!(partition.stage, Stage::Done(_));
            }
        }
        if is_done || self.runs_looked_into >= LOOKUP_RUNS_MAX {
            return LookupProgress::Done(self.response());
        }
        LookupProgress::Again(KafkaRequest::Lookup(LookupQuery {
            version: self.version,
            topics: self.topics,
            runs_looked_into: self.runs_looked_into,
        }))
    }

    fn response(&self) -> ListOffsetsResponse {
        let topics = self.topics.iter().map(|topic| ListOffsetsTopicResponse {
            name: Text::clone(&topic.name.name),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| partition.response(self.version))
                .collect(),
        });
        ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
    }
}
