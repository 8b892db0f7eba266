//! Fetch, versions 4 to 18.
//!
//! The broker plans (below the high watermark only), the connection reads and encodes. There are no fetch sessions: every
//! answer says session 0, which clients take as "send everything again" (KIP-227). Without transactions the last stable
//! offset is the high watermark.

use broker_kafka::ErrorCode;
use broker_kafka::generated::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use broker_log::{FirstBatch, Log, PartitionKey, PartitionOffsets, Piece, ReadError};
use bytes::Bytes;
use wire::offset::Offset;

use super::{NamedBy, ReadPiece, TopicName, check_epoch, partition_of};
use crate::metadata::Image;

/// Most record bytes in one response, whatever the client asks for; a single larger batch is still returned.
pub const FETCH_BYTES_MAX: usize = 50 << 20;

/// Longest wait for data, in milliseconds, whatever the client asks for.
pub const FETCH_WAIT_MS_MAX: u64 = 300_000;

/// The first version that names topics by id.
const IDS_FROM: i16 = 13;

/// The isolation level `read_committed`.
const READ_COMMITTED: i8 = 1;

/// What a fetch asks for, without the bytes of its frame.
#[derive(Debug)]
pub struct FetchQuery {
    topics: Vec<QueryTopic>,
    wait_ms: u64,
    min_bytes: usize,
    max_bytes: usize,
    isolation_level: i8,
    names_session: bool,
}

#[derive(Debug)]
struct QueryTopic {
    name: TopicName,
    partitions: Vec<QueryPartition>,
}

#[derive(Debug, Clone, Copy)]
struct QueryPartition {
    index: i32,
    leader_epoch: i32,
    offset: Offset,
    max_bytes: usize,
}

/// What a fetch gets, before the files are read.
#[derive(Debug)]
pub struct FetchAnswer {
    error: Option<ErrorCode>,
    topics: Vec<AnswerTopic>,
    isolation_level: i8,
    bytes: usize,
    failed: bool,
}

#[derive(Debug)]
struct AnswerTopic {
    name: TopicName,
    partitions: Vec<AnswerPartition>,
}

#[derive(Debug)]
struct AnswerPartition {
    index: i32,
    found: Result<Found, ErrorCode>,
}

#[derive(Debug)]
struct Found {
    offsets: PartitionOffsets,
    pieces: Vec<Piece>,
}

impl FetchQuery {
    /// Takes what matters from a request of this version.
    #[must_use]
    pub fn new(version: i16, request: &FetchRequest) -> Self {
        let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        let by = NamedBy::of(version, IDS_FROM);
        let max_bytes = size(request.max_bytes).min(FETCH_BYTES_MAX);
        let topics = request.topics.iter().map(|topic| QueryTopic {
            name: TopicName::new(&topic.topic, topic.topic_id, by),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| QueryPartition {
                    index: partition.partition,
                    leader_epoch: partition.current_leader_epoch,
                    offset: Offset(partition.fetch_offset),
                    max_bytes: size(partition.partition_max_bytes),
                })
                .collect(),
        });
        Self {
            topics: topics.collect(),
            wait_ms: u64::try_from(request.max_wait_ms).unwrap_or(0).min(FETCH_WAIT_MS_MAX),
            min_bytes: size(request.min_bytes).min(max_bytes),
            max_bytes,
            isolation_level: request.isolation_level,
            // Epoch 0 asks for a new session and −1 for none: both are full fetches. Anything else goes on with one.
            names_session: !matches!(request.session_epoch, -1 | 0),
        }
    }

    pub(crate) fn wait_ms(&self) -> u64 {
        self.wait_ms
    }

    /// The partitions that exist.
    pub(crate) fn partitions(&self, image: &Image) -> Vec<PartitionKey> {
        let topics = self.topics.iter();
        let found = topics.filter_map(|topic| Some((topic.name.find(image).ok()?, topic)));
        found
            .flat_map(|(found, topic)| {
                let indexes = topic.partitions.iter().map(|p| p.index);
                indexes.filter_map(|index| partition_of(found, index).ok())
            })
            .collect()
    }

    /// Plans the answer as the log stands now.
    pub(crate) fn plan(&self, log: &Log, image: &Image) -> FetchAnswer {
        let mut answer = FetchAnswer {
            error: None,
            topics: Vec::new(),
            isolation_level: self.isolation_level,
            bytes: 0,
            failed: false,
        };
        if self.names_session {
            answer.error = Some(ErrorCode::FetchSessionIdNotFound);
            answer.failed = true;
            return answer;
        }
        for topic in &self.topics {
            let found = topic.name.find(image);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let plan = found.and_then(|found| {
                    let key = partition_of(found, partition.index)?;
                    self.plan_partition(log, key, partition, answer.bytes)
                });
                match &plan {
                    Ok((_, bytes)) => answer.bytes += bytes,
                    Err(_) => answer.failed = true,
                }
                partitions.push(AnswerPartition {
                    index: partition.index,
                    found: plan.map(|(found, _)| found),
                });
            }
            answer.topics.push(AnswerTopic { name: topic.name.clone(), partitions });
        }
        answer
    }

    /// Whether `answer` need not wait any longer. Who wants no bytes (`min_bytes` 0) never waits.
    pub(crate) fn is_satisfied(&self, answer: &FetchAnswer) -> bool {
        answer.failed || self.wait_ms == 0 || answer.bytes >= self.min_bytes
    }

    /// Plans one partition after `taken` bytes of others; says how many bytes it adds.
    fn plan_partition(
        &self,
        log: &Log,
        key: PartitionKey,
        partition: &QueryPartition,
        taken: usize,
    ) -> Result<(Found, usize), ErrorCode> {
        check_epoch(partition.leader_epoch, log.leader_epoch())?;
        let limit = partition.max_bytes.min(self.max_bytes.saturating_sub(taken));
        // The first partition that has anything always gives a batch, or a client with small limits would never get on.
        let first = if taken == 0 { FirstBatch::Always } else { FirstBatch::IfItFits };
        let plan = log.read(key, partition.offset, limit, first).map_err(|error| match error {
            ReadError::OutOfRange(_) => ErrorCode::OffsetOutOfRange,
            ReadError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        })?;
        let bytes = plan.pieces.iter().map(|piece| match piece.at_hand() {
            Some(bytes) => bytes.len(),
            None => piece.bytes_max().min(limit.max(1)),
        });
        let bytes = bytes.sum();
        let found = Found { offsets: plan.offsets, pieces: plan.pieces };
        Ok((found, bytes))
    }
}

impl FetchAnswer {
    /// Whether files have to be read.
    #[must_use]
    pub fn has_files(&self) -> bool {
        let mut pieces = self.pieces().flatten();
        pieces.any(|piece| piece.at_hand().is_none())
    }

    /// Memory that [`FetchAnswer::into_response`] takes at most, in bytes. One piece at hand costs nothing.
    #[must_use]
    pub fn gathered_bytes(&self) -> usize {
        let partitions = self.pieces().map(|pieces| match pieces {
            [piece] if piece.at_hand().is_some() => 0,
            pieces => pieces.iter().map(Piece::bytes_max).sum(),
        });
        partitions.sum()
    }

    /// Leaves out what is beyond `max_bytes`, for which the client asks again. The first piece stays, so that it gets on.
    pub fn shorten(&mut self, max_bytes: usize) {
        let mut left = max_bytes;
        let mut is_first = true;
        let partitions = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for found in partitions.filter_map(|partition| partition.found.as_mut().ok()) {
            let mut kept = 0;
            for piece in &mut found.pieces {
                if let Piece::Extent(read, _) = piece {
                    read.max_bytes = read.max_bytes.min(left);
                }
                let bytes = piece.bytes_max();
                if bytes > left && !is_first {
                    break;
                }
                is_first = false;
                left = left.saturating_sub(bytes);
                kept += 1;
            }
            found.pieces.truncate(kept);
        }
    }

    fn pieces(&self) -> impl Iterator<Item = &[Piece]> {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.filter_map(|p| p.found.as_ref().ok().map(|found| &found.pieces[..]))
    }

    /// The response, reading files as it goes. A partition whose file cannot be read gets an error of its own.
    #[must_use]
    pub fn into_response(self, read: &mut ReadPiece<'_>) -> FetchResponse {
        let aborted = (self.isolation_level == READ_COMMITTED).then(Vec::new);
        let topics = self.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let data = partition.found.and_then(|found| {
                    let records = gather(found.pieces, read)?;
                    Ok((found.offsets, records))
                });
                match data {
                    Ok((offsets, records)) => PartitionData {
                        partition_index: partition.index,
                        high_watermark: offsets.high_watermark.0,
                        last_stable_offset: offsets.high_watermark.0,
                        log_start_offset: offsets.log_start.0,
                        aborted_transactions: aborted.clone(),
                        records: Some(records),
                        ..PartitionData::default()
                    },
                    Err(error) => PartitionData {
                        partition_index: partition.index,
                        error_code: i16::from(error),
                        high_watermark: -1,
                        last_stable_offset: -1,
                        log_start_offset: -1,
                        aborted_transactions: aborted.clone(),
                        records: Some(Bytes::new()),
                        ..PartitionData::default()
                    },
                }
            });
            FetchableTopicResponse {
                partitions: partitions.collect(),
                topic: topic.name.name,
                topic_id: topic.name.id,
            }
        });
        FetchResponse {
            responses: topics.collect(),
            error_code: self.error.map_or(0, i16::from),
            ..FetchResponse::default()
        }
    }
}

/// The bytes of all pieces, up to the first that is not whole; one alone is not copied.
fn gather(pieces: Vec<Piece>, read: &mut ReadPiece<'_>) -> Result<Bytes, ErrorCode> {
    let mut all: Vec<Bytes> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let part = match piece.at_hand() {
            Some(bytes) => bytes.clone().into(),
            None => match read(&piece) {
                Ok(part) => part,
                // What comes before is intact; the reader is told when it asks for the rest.
                Err(_) if all.iter().any(|batches| !batches.is_empty()) => break,
                Err(lost) => return Err(lost.code()),
            },
        };
        all.extend(part.batches);
        if !part.is_whole {
            break;
        }
    }
    Ok(match &all[..] {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => Bytes::from(many.concat()),
    })
}
