//! The batches of a run: whether they are what the run's entry says, and what is in them.

use std::io::{self, Write};

use broker_kafka::records::{Record, Records};
use broker_log::{PartitionKey, RunEntry, RunFlags, setsum_of_batch};
use wire::offset::Offset;
use wire::record_batch::{Codec, RecordBatchHeader};
use wire::time::UnixMs;

use super::damage::Damage;
use super::item::{Item, hex32};
use super::output::Output;
use super::{Depth, Wanted};

/// How deep batches lie: file, slot or shard, run, batch.
const DEPTH: usize = 3;

/// What was counted in batches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// Runs.
    pub runs: u64,
    /// Batches.
    pub batches: u64,
    /// Sum over them (docs/formats/unit.md, "Setsum").
    pub setsum: u64,
}

/// A run's line.
pub fn run_item(entry: &RunEntry, depth: usize, pos: u64) -> Item<'static> {
    let flag = |bit| entry.flags.0 & bit != 0;
    Item::new("run", depth)
        .with("topic_no", entry.key.topic_no.0)
        .with("partition", entry.key.partition.0)
        .with("base_offset", entry.base_offset.0)
        .with("last_offset", entry.last_offset.0)
        .with("pos", pos)
        .with("len", entry.len)
        .with("batches", entry.batches)
        .with("leader_epoch", entry.leader_epoch.0)
        .with("max_timestamp", entry.max_timestamp)
        .with("control", flag(RunFlags::CONTROL))
        .with("transactional", flag(RunFlags::TRANSACTIONAL))
        .with("log_append_time", flag(RunFlags::LOG_APPEND))
}

/// Goes through the batches of a run, which lie in `bytes` and begin at `pos` in the file.
pub fn dump_run(
    entry: &RunEntry,
    (pos, bytes): (u64, &[u8]),
    wanted: &Wanted,
    counted: &mut Counted,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    let end = pos + u64::from(entry.len);
    if bytes.len() != entry.len as usize {
        output.damage(Damage::new(pos, end, "the file ends within a run"));
        return Ok(());
    }
    let mut at = 0;
    let mut next = entry.base_offset;
    let mut batches = 0;
    let mut max_timestamp = UnixMs(i64::MIN);
    counted.runs += 1;
    while at < bytes.len() {
        let from = pos + at as u64;
        let header = match RecordBatchHeader::parse(&bytes[at..]) {
            Ok(header) if header.base_offset == next && agrees(&header, entry) => header,
            Ok(_) => {
                output.damage(Damage::new(from, end, "a batch that its run does not have"));
                return Ok(());
            }
            Err(error) => {
                let what = format!("no record batch: {error:?}");
                output.damage(Damage::new(from, end, what));
                return Ok(());
            }
        };
        let batch = &bytes[at..at + header.total_len];
        if header.check_crc(batch).is_err() {
            let to = from + header.total_len as u64;
            output.damage(Damage::new(from, to, "a batch's checksum does not match"));
        } else if wanted.depth == Depth::Records {
            dump_batch(entry.key, &header, (from, batch), output)?;
        }
        let setsum = setsum_of_batch(entry.key, header.base_offset, header.crc);
        counted.setsum = counted.setsum.wrapping_add(setsum);
        counted.batches += 1;
        batches += 1;
        max_timestamp = max_timestamp.max(header.max_timestamp);
        // A run's last offset is below the greatest there is, and so is every batch's that agrees.
        next = Offset(next.0.saturating_add(i64::from(header.last_offset_delta) + 1));
        at += header.total_len;
    }
    let behind = entry.last_offset.0.saturating_add(1);
    let is_all = next.0 == behind && batches == u32::from(entry.batches);
    if !is_all || max_timestamp != entry.max_timestamp {
        output.damage(Damage::new(pos, end, "other batches than the run's"));
    }
    Ok(())
}

fn agrees(header: &RecordBatchHeader, entry: &RunEntry) -> bool {
    header.leader_epoch == entry.leader_epoch && RunFlags::of(header) == entry.flags
}

fn dump_batch(
    key: PartitionKey,
    header: &RecordBatchHeader,
    (pos, batch): (u64, &[u8]),
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    let has_producer = header.producer_id.0 >= 0;
    let item = Item::new("batch", DEPTH)
        .with("topic_no", key.topic_no.0)
        .with("partition", key.partition.0)
        .with("base_offset", header.base_offset.0)
        .with(
            "last_offset",
            header.base_offset.0.saturating_add(i64::from(header.last_offset_delta)),
        )
        .with("pos", pos)
        .with("len", header.total_len)
        .with("records", header.record_count)
        .with("codec", codec_name(header.codec))
        .with("max_timestamp", header.max_timestamp)
        .with("delete_horizon", header.delete_horizon())
        .with("producer_id", has_producer.then_some(header.producer_id.0))
        .with("producer_epoch", has_producer.then_some(header.producer_epoch))
        .with("base_sequence", has_producer.then_some(header.base_sequence))
        .with("crc", hex32(header.crc));
    output.item(&item)?;
    let mut records = match Records::new(batch) {
        Ok(records) => records,
        Err(error) => return unreadable(&error, output),
    };
    loop {
        match records.next_record() {
            Ok(None) => return Ok(()),
            Ok(Some(record)) => {
                let timestamp = timestamp(header, record.timestamp_delta);
                output.item(&record_item(key, &record, header.base_offset.0, timestamp))?;
            }
            Err(error) => return unreadable(&error, output),
        }
    }
}

/// The time of a record as consumers see it.
fn timestamp(header: &RecordBatchHeader, delta: i64) -> UnixMs {
    if header.attributes & RecordBatchHeader::LOG_APPEND_TIME != 0 {
        header.max_timestamp
    } else {
        UnixMs(header.base_timestamp.0.wrapping_add(delta))
    }
}

/// The bytes are as they were written, so nothing is damaged: a client sent records that contradict the format.
fn unreadable(
    error: &broker_kafka::records::RecordsError,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    output.item(&Item::new("unreadable_records", DEPTH + 1).with("what", error.to_string()))
}

fn record_item<'a>(
    key: PartitionKey,
    record: &Record<'a>,
    base: i64,
    timestamp: UnixMs,
) -> Item<'a> {
    let headers: Vec<_> = record.headers.collect();
    Item::new("record", DEPTH + 1)
        .with("topic_no", key.topic_no.0)
        .with("partition", key.partition.0)
        .with("offset", base.saturating_add(i64::from(record.offset_delta)))
        .with("timestamp", timestamp)
        .with("key", record.key)
        .with("value", record.value)
        .with("headers", headers)
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "none",
        Codec::Gzip => "gzip",
        Codec::Snappy => "snappy",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
    }
}
