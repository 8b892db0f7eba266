//! The log as a consumer finds it.

use broker_core::Image;
use broker_kafka::records::{Record, Records};
use broker_log::sim_disk::SimDisk;
use broker_log::{FirstBatch, Log, PartitionKey, TopicNo};
use bytes::Bytes;
use wire::ids::{Partition, ProducerId};
use wire::limits::DEFAULT_TOPIC;
use wire::record_batch::RecordBatchHeader;

use crate::device::{is_opened, payload};
use crate::oracle::Reading;

/// Bytes of one read: small, so that reads have several pieces.
const READ_BYTES: usize = 4096;

/// A reading in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    /// Which lane of which spool brought it.
    pub(crate) pid: ProducerId,
    pub(crate) reading: Reading,
    pub(crate) maybe_dup: bool,
}

/// The telemetry topic as a consumer finds it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Its readings, partition by partition.
    pub(crate) entries: Vec<Entry>,
    /// Where each partition begins.
    pub(crate) starts: Vec<u64>,
}

/// Every reading of the telemetry topic. What is not as it must be is an error: offsets with a hole, batches that do not
/// parse, readings that no device made.
pub(crate) fn read_log(log: &Log, disk: &mut SimDisk, image: &Image) -> Result<Found, String> {
    let mut found = Found::default();
    let Some(topic) = image.by_name(DEFAULT_TOPIC) else {
        return Ok(found);
    };
    for partition in 0..topic.partitions {
        let topic_no = TopicNo(topic.no);
        let key = PartitionKey { topic_no, partition: Partition(partition) };
        let start = log.offsets(key).map_or(0, |offsets| offsets.log_start.0.unsigned_abs());
        found.starts.push(start);
        read_partition(log, disk, key, &mut found.entries)?;
    }
    Ok(found)
}

fn read_partition(
    log: &Log,
    disk: &mut SimDisk,
    key: PartitionKey,
    entries: &mut Vec<Entry>,
) -> Result<(), String> {
    let Some(offsets) = log.offsets(key) else {
        return Ok(());
    };
    let mut next = offsets.log_start;
    while next < offsets.high_watermark {
        let plan = log.read(key, next, READ_BYTES, FirstBatch::Always);
        let plan = plan.map_err(|error| format!("{key:?} at {}: {error}", next.0))?;
        let before = next;
        for piece in &plan.pieces {
            let read =
                piece.read(disk).map_err(|error| format!("{key:?} at {}: {error}", next.0))?;
            let mut bytes = Bytes::from(read.batches.concat());
            while !bytes.is_empty() {
                let header = RecordBatchHeader::parse(&bytes)
                    .map_err(|error| format!("{key:?}: no batch: {error:?}"))?;
                let batch = bytes.split_to(header.total_len);
                if header.base_offset != next {
                    return Err(format!(
                        "{key:?}: offset {} where {} is due",
                        header.base_offset.0, next.0
                    ));
                }
                read_batch(key, &header, &batch, entries)?;
                next = next.plus(header.last_offset_delta + 1);
            }
            if !read.is_whole {
                break;
            }
        }
        if next == before {
            return Err(format!("{key:?}: nothing at {} below the high watermark", next.0));
        }
    }
    Ok(())
}

fn read_batch(
    key: PartitionKey,
    header: &RecordBatchHeader,
    batch: &Bytes,
    entries: &mut Vec<Entry>,
) -> Result<(), String> {
    header.check_crc(batch).map_err(|error| format!("{key:?}: {error:?}"))?;
    let mut records = Records::new(batch).map_err(|error| error.to_string())?;
    let mut offset = header.base_offset.0.unsigned_abs();
    while let Some(record) = records.next_record().map_err(|error| error.to_string())? {
        let (reading, maybe_dup) =
            reading(&record).ok_or_else(|| format!("no device made {record:?}"))?;
        let (partition, pid) = (key.partition.0, header.producer_id);
        entries.push(Entry { partition, offset, pid, reading, maybe_dup });
        offset += 1;
    }
    Ok(())
}

fn reading(record: &Record<'_>) -> Option<(Reading, bool)> {
    let (mut queue, mut seq, mut maybe_dup, mut batched) = (None, None, false, false);
    for (name, value) in record.headers {
        let number = || std::str::from_utf8(value?).ok()?.parse().ok();
        match name {
            "culvert.queue" => queue = number(),
            "culvert.seq" => seq = number(),
            "culvert.maybe_dup" => maybe_dup = true,
            "mqtt.topic" => batched = value?.starts_with(b"culvert/"),
            _ => {}
        }
    }
    let (device, queue, seq) = (record.key?, queue?, seq?);
    let value = record.value?;
    let whole = if batched {
        is_opened(value, seq)
    } else {
        value == payload(device, queue, seq).as_bytes()
    };
    let reading = Reading { device: Bytes::copy_from_slice(device), queue, seq };
    whole.then_some((reading, maybe_dup))
}
