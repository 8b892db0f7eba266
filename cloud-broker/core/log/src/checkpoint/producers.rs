//! Where the idempotent producers of one partition stand, as bytes.

use wire::ids::{Partition, ProducerId};
use wire::offset::Offset;
use wire::seq::StreamSeq;
use wire::time::UnixMs;

use super::{CheckpointErrorKind, ProducerBatchState, ProducerState};
use crate::fields::{Cursor, field, i64_at, put, u32_at};
use crate::ids::{PartitionKey, TopicNo};
use crate::producer::BATCHES_KEPT;

const GROUP_BYTES: usize = 16;
const PRODUCER_BYTES: usize = 20;
const BATCH_BYTES: usize = 24;

// A bit of one byte for each batch.
const _: () = assert!(BATCHES_KEPT <= 8);

/// Writes the group of a partition.
pub(super) fn encode(key: PartitionKey, producers: &[ProducerState], out: &mut Vec<u8>) {
    let mut fields = [0; GROUP_BYTES];
    put(&mut fields, 0, key.topic_no.0.to_le_bytes());
    put(&mut fields, 4, key.partition.0.to_le_bytes());
    let count = u32::try_from(producers.len()).expect("a log knows PRODUCERS_MAX producers");
    put(&mut fields, 8, count.to_le_bytes());
    out.extend_from_slice(&fields);
    for producer in producers {
        encode_one(producer, out);
    }
}

fn encode_one(producer: &ProducerState, out: &mut Vec<u8>) {
    // Were there more, the newest would be the ones that count.
    let first = producer.batches.len().saturating_sub(BATCHES_KEPT);
    let batches = &producer.batches[first..];
    let stamped = batches
        .iter()
        .enumerate()
        .filter(|(_, batch)| batch.append_time.is_some())
        .fold(0, |bits, (i, _)| bits | 1 << i);
    let mut fields = [0; PRODUCER_BYTES];
    put(&mut fields, 0, producer.pid.0.to_le_bytes());
    put(&mut fields, 8, producer.used.0.to_le_bytes());
    put(&mut fields, 16, producer.epoch.to_le_bytes());
    fields[18] = u8::try_from(batches.len()).expect("at most BATCHES_KEPT");
    fields[19] = stamped;
    out.extend_from_slice(&fields);
    for batch in batches {
        let mut fields = [0; BATCH_BYTES];
        put(&mut fields, 0, batch.base.get().to_le_bytes());
        put(&mut fields, 4, batch.last.get().to_le_bytes());
        put(&mut fields, 8, batch.base_offset.0.to_le_bytes());
        put(&mut fields, 16, batch.append_time.map_or(0, |time| time.0).to_le_bytes());
        out.extend_from_slice(&fields);
    }
}

/// Reads the group of a partition.
pub(super) fn decode(
    cursor: &mut Cursor<'_>,
) -> Result<(PartitionKey, Vec<ProducerState>), CheckpointErrorKind> {
    let short = CheckpointErrorKind::Inconsistent("a group of producers is cut off");
    let fields: &[u8; GROUP_BYTES] = cursor.take().ok_or(short)?;
    let key = PartitionKey {
        topic_no: TopicNo(u32_at(fields, 0)),
        partition: Partition(u32_at(fields, 4)),
    };
    // Grows as producers are read: the count alone allocates nothing.
    let mut producers: Vec<ProducerState> = Vec::new();
    for _ in 0..u32_at(fields, 8) {
        let producer = decode_one(cursor)?;
        if producers.last().is_some_and(|last| last.pid >= producer.pid) {
            return Err(CheckpointErrorKind::Inconsistent("the producers are not in order"));
        }
        producers.push(producer);
    }
    Ok((key, producers))
}

fn decode_one(cursor: &mut Cursor<'_>) -> Result<ProducerState, CheckpointErrorKind> {
    let short = CheckpointErrorKind::Inconsistent("a group of producers is cut off");
    let fields: &[u8; PRODUCER_BYTES] = cursor.take().ok_or(short)?;
    let (count, stamped) = (fields[18], fields[19]);
    if usize::from(count) > BATCHES_KEPT {
        return Err(CheckpointErrorKind::Inconsistent("a producer with too many batches"));
    }
    let batches = cursor.take_list::<BATCH_BYTES>(u32::from(count)).ok_or(short)?;
    let batches: Option<Vec<_>> = batches
        .iter()
        .enumerate()
        .map(|(i, bytes)| decode_batch(bytes, stamped & 1 << i != 0))
        .collect();
    Ok(ProducerState {
        pid: ProducerId(i64_at(fields, 0)),
        epoch: i16::from_le_bytes(field(fields, 16)),
        used: UnixMs(i64_at(fields, 8)),
        batches: batches.ok_or(CheckpointErrorKind::Inconsistent("a negative sequence"))?,
    })
}

fn decode_batch(bytes: &[u8; BATCH_BYTES], is_stamped: bool) -> Option<ProducerBatchState> {
    Some(ProducerBatchState {
        base: StreamSeq::new(i32::from_le_bytes(field(bytes, 0)))?,
        last: StreamSeq::new(i32::from_le_bytes(field(bytes, 4)))?,
        base_offset: Offset(i64_at(bytes, 8)),
        append_time: is_stamped.then_some(UnixMs(i64_at(bytes, 16))),
    })
}
