//! Produce, versions 3 to 13.
//!
//! Every acknowledgement, `acks=1` as well as `acks=all`, waits until the batch is durable; `acks=0` gets no response.
//! One batch per partition (Kafka's rule since version 3). A copy of an idempotent producer's batch is answered as the
//! original was, and not before it. The uplink's half of the producer ids is never a Kafka client's.

use broker_kafka::ErrorCode;
use broker_kafka::generated::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use broker_kafka::records::Records;
use broker_kafka::runtime::Text;
use broker_log::{
    AppendError, Appended, COMPACTED_BATCH_RECORDS_MAX, IdempotentError, IdempotentOutcome, Log,
    PartitionKey, SlotNo,
};
use bytes::Bytes;
use wire::limits::RECORD_BATCH_BYTES_MAX;
use wire::offset::Offset;
use wire::record_batch::{Codec, RecordBatchError, RecordBatchHeader, stamp_append_time};
use wire::time::UnixMs;

use super::{NamedBy, TopicName, partition_of};
use crate::groups::is_internal;
use crate::keyed_topics::KeyedTopics;
use crate::metadata::Image;

/// The first version that names topics by id.
const IDS_FROM: i16 = 13;

/// The first version whose clients know zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// A produce request whose batches were checked.
#[derive(Debug)]
pub struct CheckedProduce {
    topics: Vec<CheckedTopic>,
    acks: Acks,
}

/// The response, which the client gets unless it said `acks=0`.
#[derive(Debug)]
pub struct ProduceAnswer {
    /// The response.
    pub response: ProduceResponse,
    /// Whether a partition was refused. With `acks=0` the connection is closed then, which is all that can be said.
    pub failed: bool,
}

/// When a produce request is answered.
#[derive(Debug)]
pub(crate) enum Produced {
    Now(ProduceAnswer),
    WhenDurable(SlotNo, ProduceAnswer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acks {
    None,
    Durable,
}

#[derive(Debug)]
struct CheckedTopic {
    name: TopicName,
    partitions: Vec<(i32, Result<CheckedBatch, Refusal>)>,
}

/// A batch that may be appended.
#[derive(Debug, Clone)]
struct CheckedBatch {
    bytes: Bytes,
    producer: Producer,
}

/// Whether a batch can be told from a copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Producer {
    Idempotent,
    Plain,
}

/// An error for one partition, with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    code: ErrorCode,
    why: &'static str,
    /// The record that is at fault, counted from 0, if one alone is.
    record: Option<i32>,
}

const fn refusal(code: ErrorCode, why: &'static str) -> Refusal {
    Refusal { code, why, record: None }
}

impl CheckedProduce {
    /// Checks the batches of a request of this version: header, CRC and what Kafka's rules say about them. Records are
    /// looked at only for topics that need keys.
    #[must_use]
    pub fn new(version: i16, request: &ProduceRequest, keyed: &KeyedTopics) -> Self {
        let whole = check_request(request);
        let by = NamedBy::of(version, IDS_FROM);
        let topics = request.topic_data.iter().map(|topic| {
            let name = TopicName::new(&topic.name, topic.topic_id, by);
            let needs_keys = keyed.has(&name);
            let partitions = topic.partition_data.iter().map(|data| {
                let batch = whole.and_then(|()| check_batch(version, data.records.as_ref()));
                let batch = batch.and_then(|batch| {
                    if needs_keys { check_keys(&batch.bytes).map(|()| batch) } else { Ok(batch) }
                });
                (data.index, batch)
            });
            CheckedTopic { partitions: partitions.collect(), name }
        });
        Self {
            topics: topics.collect(),
            acks: if request.acks == 0 { Acks::None } else { Acks::Durable },
        }
    }

    /// Bytes of the batches.
    pub(crate) fn bytes(&self) -> usize {
        let batches = self.topics.iter().flat_map(|topic| &topic.partitions);
        batches.map(|(_, batch)| batch.as_ref().map_or(0, |batch| batch.bytes.len())).sum()
    }

    /// Appends what can be appended.
    pub(crate) fn append(self, now: UnixMs, log: &mut Log, image: &Image) -> Produced {
        let mut last_slot = None;
        let mut failed = false;
        let mut responses = Vec::with_capacity(self.topics.len());
        for CheckedTopic { name, partitions } in self.topics {
            let mut partition_responses = Vec::with_capacity(partitions.len());
            for (index, batch) in partitions {
                let appended =
                    batch.and_then(|batch| append_one(now, log, image, &name, (index, batch)));
                partition_responses.push(match appended {
                    Ok(done) => {
                        last_slot = last_slot.max(done.slot_no);
                        done.response
                    }
                    Err(refusal) => {
                        failed = true;
                        refused(index, refusal)
                    }
                });
            }
            responses.push(TopicProduceResponse {
                name: name.name,
                topic_id: name.id,
                partition_responses,
            });
        }
        let answer = ProduceAnswer {
            response: ProduceResponse { responses, ..ProduceResponse::default() },
            failed,
        };
        match (self.acks, last_slot) {
            (Acks::Durable, Some(slot_no)) => Produced::WhenDurable(slot_no, answer),
            (Acks::None, _) | (Acks::Durable, None) => Produced::Now(answer),
        }
    }
}

struct AppendedOne {
    /// Answer when this slot is durable; `None`: now.
    slot_no: Option<SlotNo>,
    response: PartitionProduceResponse,
}

/// Where a batch is.
struct Stored {
    base_offset: Offset,
    append_time: Option<UnixMs>,
    slot_no: Option<SlotNo>,
}

fn append_one(
    now: UnixMs,
    log: &mut Log,
    image: &Image,
    name: &TopicName,
    (index, batch): (i32, CheckedBatch),
) -> Result<AppendedOne, Refusal> {
    let topic = name.find(image).map_err(unknown)?;
    let key = partition_of(topic, index).map_err(unknown)?;
    if is_internal(&topic.name) {
        return Err(refusal(
            ErrorCode::InvalidTopicException,
            "clients do not write to internal topics",
        ));
    }
    if batch.bytes.len() > topic.configs.max_message_bytes() {
        let why = "the record batch exceeds the topic's max.message.bytes";
        return Err(refusal(ErrorCode::MessageTooLarge, why));
    }
    let stored = if topic.configs.is_append_time() {
        store(now, log, key, (stamped(&batch.bytes, now), Some(now)), batch.producer)
    } else {
        store(now, log, key, (batch.bytes, None), batch.producer)
    }?;
    let log_start = log.offsets(key).map_or(-1, |offsets| offsets.log_start.0);
    Ok(AppendedOne {
        slot_no: stored.slot_no,
        response: PartitionProduceResponse {
            index,
            base_offset: stored.base_offset.0,
            log_append_time_ms: stored.append_time.map_or(-1, |time| time.0),
            log_start_offset: log_start,
            ..PartitionProduceResponse::default()
        },
    })
}

fn store(
    now: UnixMs,
    log: &mut Log,
    key: PartitionKey,
    (bytes, append_time): (Bytes, Option<UnixMs>),
    producer: Producer,
) -> Result<Stored, Refusal> {
    let fresh = |appended: Appended| Stored {
        base_offset: appended.base_offset,
        append_time,
        slot_no: Some(appended.slot_no),
    };
    match producer {
        Producer::Plain => log.append(now, key, bytes).map(fresh).map_err(not_appended),
        Producer::Idempotent => match log.append_idempotent(now, key, bytes) {
            Ok(IdempotentOutcome::Appended(appended)) => Ok(fresh(appended)),
            Ok(IdempotentOutcome::Duplicate { base_offset, append_time, answer_after }) => {
                Ok(Stored { base_offset, append_time, slot_no: answer_after })
            }
            Err(IdempotentError::Append(error)) => Err(not_appended(error)),
            Err(IdempotentError::Fenced) => Err(refusal(
                ErrorCode::InvalidProducerEpoch,
                "the producer goes on under a newer epoch",
            )),
            Err(IdempotentError::OutOfOrder) => Err(refusal(
                ErrorCode::OutOfOrderSequenceNumber,
                "the batch does not go on where its producer's last one ended",
            )),
        },
    }
}

/// The batch with the broker's time.
fn stamped(batch: &Bytes, now: UnixMs) -> Bytes {
    let mut batch = batch.to_vec();
    stamp_append_time(&mut batch, now);
    Bytes::from(batch)
}

fn unknown(code: ErrorCode) -> Refusal {
    refusal(code, "this broker has no such topic or partition")
}

fn not_appended(error: AppendError) -> Refusal {
    match error {
        // The one retriable code that clients take as "certainly not stored".
        AppendError::Busy => {
            refusal(ErrorCode::NotEnoughReplicas, "the log has too much to write; try again")
        }
        AppendError::DiskFull => refusal(ErrorCode::KafkaStorageError, "no space left for the log"),
        AppendError::Invalid => refusal(ErrorCode::InvalidRecord, "not one whole record batch"),
        AppendError::TooLarge => TOO_LARGE,
        AppendError::UnknownPartition => unknown(ErrorCode::UnknownTopicOrPartition),
    }
}

fn refused(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: i16::from(refusal.code),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        error_message: Some(Text::from_static(refusal.why)),
        record_errors: refusal
            .record
            .map(|batch_index| BatchIndexAndErrorMessage {
                batch_index,
                batch_index_error_message: Some(Text::from_static(refusal.why)),
            })
            .into_iter()
            .collect(),
        ..PartitionProduceResponse::default()
    }
}

const TOO_LARGE: Refusal =
    refusal(ErrorCode::MessageTooLarge, "the record batch exceeds 8388608 bytes");
const _: () = assert!(RECORD_BATCH_BYTES_MAX == 8_388_608);

/// What makes the whole request wrong.
fn check_request(request: &ProduceRequest) -> Result<(), Refusal> {
    if !(-1..=1).contains(&request.acks) {
        return Err(refusal(ErrorCode::InvalidRequiredAcks, "acks is -1 (all), 0 or 1"));
    }
    if request.transactional_id.is_some() {
        return Err(NO_TRANSACTIONS);
    }
    Ok(())
}

const NO_TRANSACTIONS: Refusal =
    refusal(ErrorCode::InvalidTxnState, "this broker does not offer transactions yet");

/// What a partition's bytes must be: one whole record batch, intact, of a kind that clients may write.
fn check_batch(version: i16, records: Option<&Bytes>) -> Result<CheckedBatch, Refusal> {
    use ErrorCode as E;
    let batch = records
        .filter(|bytes| !bytes.is_empty())
        .ok_or(refusal(E::InvalidRecord, "no record batch"))?;
    let header = RecordBatchHeader::parse(batch).map_err(|error| match error {
        RecordBatchError::Codec => {
            refusal(E::UnsupportedCompressionType, "unknown compression type")
        }
        RecordBatchError::Count => refusal(E::InvalidRecord, "impossible record count"),
        RecordBatchError::Crc => refusal(E::CorruptMessage, "the CRC does not match"),
        RecordBatchError::Length => refusal(E::CorruptMessage, "the record batch is cut short"),
        RecordBatchError::Magic => refusal(E::InvalidRecord, "only magic 2 is taken"),
    })?;
    if header.total_len != batch.len() {
        return Err(refusal(E::InvalidRecord, "exactly one record batch per partition"));
    }
    if batch.len() > RECORD_BATCH_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    let producer = check_header(version, &header)?;
    header.check_crc(batch).map_err(|_| refusal(E::CorruptMessage, "the CRC does not match"))?;
    Ok(CheckedBatch { bytes: batch.clone(), producer })
}

/// What compaction needs of a batch: records in their order, not too many, each with a key.
fn check_keys(batch: &[u8]) -> Result<(), Refusal> {
    use ErrorCode::InvalidRecord;
    let unreadable =
        refusal(InvalidRecord, "a compacted topic takes only records that can be read");
    let mut records = Records::new(batch).map_err(|_| unreadable)?;
    if records.header().record_count > COMPACTED_BATCH_RECORDS_MAX {
        return Err(TOO_MANY);
    }
    let mut index = 0;
    while let Some(record) = records.next_record().map_err(|_| unreadable)? {
        if record.offset_delta != index {
            return Err(refusal(
                InvalidRecord,
                "the records are not in the order of their offsets",
            ));
        }
        if record.key.is_none() {
            let record = i32::try_from(index).ok();
            return Err(Refusal { code: InvalidRecord, why: KEYLESS, record });
        }
        index += 1;
    }
    Ok(())
}

/// Compaction would leave the batch alone, and keep every tombstone behind it for ever. Clients cut a batch in two that is
/// refused so.
const TOO_MANY: Refusal = refusal(
    ErrorCode::MessageTooLarge,
    "a compacted topic takes at most 1048576 records in a batch",
);
const _: () = assert!(COMPACTED_BATCH_RECORDS_MAX == 1_048_576);

const KEYLESS: &str = "a compacted topic does not take a record without a key";

fn check_header(version: i16, header: &RecordBatchHeader) -> Result<Producer, Refusal> {
    use ErrorCode as E;
    if header.last_offset_delta != header.record_count - 1 {
        return Err(refusal(
            E::InvalidRecord,
            "the last offset delta is not the record count less one",
        ));
    }
    if header.is_control() {
        return Err(refusal(E::InvalidRecord, "clients do not write control batches"));
    }
    if header.is_transactional() {
        return Err(NO_TRANSACTIONS);
    }
    if header.attributes & RecordBatchHeader::LOG_APPEND_TIME != 0 {
        return Err(refusal(
            E::InvalidTimestamp,
            "producers do not set the timestamp type to log append time",
        ));
    }
    if header.delete_horizon().is_some() {
        return Err(refusal(E::InvalidRecord, "producers do not set a delete horizon"));
    }
    if header.codec == Codec::Zstd && version < ZSTD_FROM {
        return Err(refusal(E::UnsupportedCompressionType, "zstd needs Produce version 7"));
    }
    if header.producer_id.is_uplink() {
        return Err(refusal(E::InvalidProducerIdMapping, "this producer id belongs to the uplink"));
    }
    if header.producer_id.0 < 0 {
        return Ok(Producer::Plain);
    }
    if header.producer_epoch < 0 || header.base_sequence < 0 {
        let why = "a producer id comes with an epoch and a sequence";
        return Err(refusal(E::InvalidRecord, why));
    }
    Ok(Producer::Idempotent)
}
