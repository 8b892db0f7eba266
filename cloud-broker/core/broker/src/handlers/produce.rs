//! Produce, versions 3 to 13.
//!
//! Every acknowledgement, `acks=1` as well as `acks=all`, waits until the batch is durable; `acks=0` gets no response.
//! One batch per partition (Kafka's rule since version 3). Producer ids are refused as long as InitProducerId is not
//! offered: nobody could have got one from this broker, and the uplink's half is never a Kafka client's.

use broker_kafka::ErrorCode;
use broker_kafka::generated::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use broker_kafka::runtime::Text;
use broker_log::{AppendError, Log, SlotNo};
use bytes::Bytes;
use wire::limits::RECORD_BATCH_BYTES_MAX;
use wire::record_batch::{Codec, RecordBatchError, RecordBatchHeader};
use wire::time::UnixMs;

use super::{NamedBy, TopicName, partition_of};
use crate::groups::is_internal;
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
    partitions: Vec<(i32, Result<Bytes, Refusal>)>,
}

/// An error for one partition, with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    code: ErrorCode,
    why: &'static str,
}

const fn refusal(code: ErrorCode, why: &'static str) -> Refusal {
    Refusal { code, why }
}

impl CheckedProduce {
    /// Checks the batches of a request of this version: header, CRC and what Kafka's rules say about them.
    #[must_use]
    pub fn new(version: i16, request: &ProduceRequest) -> Self {
        let whole = check_request(request);
        let by = NamedBy::of(version, IDS_FROM);
        let topics = request.topic_data.iter().map(|topic| CheckedTopic {
            name: TopicName::new(&topic.name, topic.topic_id, by),
            partitions: topic
                .partition_data
                .iter()
                .map(|data| {
                    let batch = whole.and_then(|()| check_batch(version, data.records.as_ref()));
                    (data.index, batch)
                })
                .collect(),
        });
        Self {
            topics: topics.collect(),
            acks: if request.acks == 0 { Acks::None } else { Acks::Durable },
        }
    }

    /// Bytes of the batches.
    pub(crate) fn bytes(&self) -> usize {
        let batches = self.topics.iter().flat_map(|topic| &topic.partitions);
        batches.map(|(_, batch)| batch.as_ref().map_or(0, Bytes::len)).sum()
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
                        last_slot = last_slot.max(Some(done.slot_no));
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
    slot_no: SlotNo,
    response: PartitionProduceResponse,
}

fn append_one(
    now: UnixMs,
    log: &mut Log,
    image: &Image,
    name: &TopicName,
    (index, batch): (i32, Bytes),
) -> Result<AppendedOne, Refusal> {
    let unknown = |code| refusal(code, "this broker has no such topic or partition");
    let topic = name.find(image).map_err(unknown)?;
    let key = partition_of(topic, index).map_err(unknown)?;
    if is_internal(&topic.name) {
        return Err(refusal(
            ErrorCode::InvalidTopicException,
            "clients do not write to internal topics",
        ));
    }
    let appended = log.append(now, key, batch).map_err(|error| match error {
        // The one retriable code that clients take as "certainly not stored".
        AppendError::Busy => {
            refusal(ErrorCode::NotEnoughReplicas, "the log has too much to write; try again")
        }
        AppendError::Invalid => refusal(ErrorCode::InvalidRecord, "not one whole record batch"),
        AppendError::TooLarge => TOO_LARGE,
        AppendError::UnknownPartition => unknown(ErrorCode::UnknownTopicOrPartition),
    })?;
    let log_start = log.offsets(key).map_or(-1, |offsets| offsets.log_start.0);
    Ok(AppendedOne {
        slot_no: appended.slot_no,
        response: PartitionProduceResponse {
            index,
            base_offset: appended.base_offset.0,
            log_append_time_ms: -1,
            log_start_offset: log_start,
            ..PartitionProduceResponse::default()
        },
    })
}

fn refused(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: i16::from(refusal.code),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        error_message: Some(Text::from_static(refusal.why)),
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
fn check_batch(version: i16, records: Option<&Bytes>) -> Result<Bytes, Refusal> {
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
    check_header(version, &header)?;
    header.check_crc(batch).map_err(|_| refusal(E::CorruptMessage, "the CRC does not match"))?;
    Ok(batch.clone())
}

fn check_header(version: i16, header: &RecordBatchHeader) -> Result<(), Refusal> {
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
    if header.codec == Codec::Zstd && version < ZSTD_FROM {
        return Err(refusal(E::UnsupportedCompressionType, "zstd needs Produce version 7"));
    }
    if header.producer_id.is_uplink() {
        return Err(refusal(E::InvalidProducerIdMapping, "this producer id belongs to the uplink"));
    }
    if header.producer_id.0 >= 0 {
        return Err(refusal(
            E::InvalidProducerIdMapping,
            "idempotent producers are not offered yet; set enable.idempotence=false",
        ));
    }
    Ok(())
}
