//! What is known of one partition, as bytes.

use wire::ids::{Partition, ProducerId, Tag};
use wire::offset::{LeaderEpoch, Offset};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;
use wire::uplink::StreamState;

use super::units::{decode_id, encode_id};
use super::{CheckpointErrorKind, PartitionState};
use crate::extent::Extent;
use crate::fields::{Cursor, field, i64_at, put, u32_at, u64_at};
use crate::ids::{FileNo, PartitionKey, TopicNo};
use crate::job::UnitRun;
use crate::slot::{RUN_ENTRY_BYTES, RunEntry};

const FIELD_BYTES: usize = 64;
const EPOCH_BYTES: usize = 12;
const EXTENT_BYTES: usize = 64;
const RUN_BYTES: usize = 24 + RUN_ENTRY_BYTES;
const STREAM_BYTES: usize = 24;

/// Flag of a partition: there is a next horizon.
const HAS_HORIZON: u32 = 1;
/// Flag of a stream: there is a last sequence.
const HAS_LAST: u8 = 1;

/// Writes everything but the producers. `None` if a list is longer than its count can say; what was written then means
/// nothing.
pub(super) fn encode(state: &PartitionState, out: &mut Vec<u8>) -> Option<()> {
    let mut fields = [0; FIELD_BYTES];
    put(&mut fields, 0, state.key.topic_no.0.to_le_bytes());
    put(&mut fields, 4, state.key.partition.0.to_le_bytes());
    put(&mut fields, 8, state.log_start.0.to_le_bytes());
    put(&mut fields, 16, state.next.0.to_le_bytes());
    put(&mut fields, 24, state.cleaned.0.to_le_bytes());
    if let Some(horizon) = state.next_horizon {
        put(&mut fields, 32, horizon.0.to_le_bytes());
        put(&mut fields, 40, HAS_HORIZON.to_le_bytes());
    }
    let lists = [state.epochs.len(), state.extents.len(), state.runs.len(), state.streams.len()];
    let mut counts = [0; 4];
    for (count, len) in counts.iter_mut().zip(lists) {
        *count = u32::try_from(len).ok()?;
    }
    let [epochs, extents, runs, streams] = counts;
    put(&mut fields, 44, epochs.to_le_bytes());
    put(&mut fields, 48, extents.to_le_bytes());
    put(&mut fields, 52, runs.to_le_bytes());
    put(&mut fields, 56, streams.to_le_bytes());
    out.extend_from_slice(&fields);
    for (epoch, start) in &state.epochs {
        out.extend_from_slice(&encode_epoch(*epoch, *start));
    }
    for extent in &state.extents {
        out.extend_from_slice(&encode_extent(extent));
    }
    for (file_no, run) in &state.runs {
        out.extend_from_slice(&encode_run(*file_no, run));
    }
    for (pid, stream) in &state.streams {
        out.extend_from_slice(&encode_stream(*pid, stream));
    }
    Some(())
}

/// Reads everything but the producers, and checks that it is consistent.
pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<PartitionState, CheckpointErrorKind> {
    let state = decode_fields(cursor).ok_or(CheckpointErrorKind::Inconsistent(
        "a partition is cut off or has impossible fields",
    ))?;
    match state.inconsistency() {
        None => Ok(state),
        Some(what) => Err(CheckpointErrorKind::Inconsistent(what)),
    }
}

fn decode_fields(cursor: &mut Cursor<'_>) -> Option<PartitionState> {
    let fields: &[u8; FIELD_BYTES] = cursor.take()?;
    let epochs = cursor.take_list(u32_at(fields, 44))?;
    let extents = cursor.take_list(u32_at(fields, 48))?;
    let runs = cursor.take_list(u32_at(fields, 52))?;
    let streams = cursor.take_list(u32_at(fields, 56))?;
    let horizon = match u32_at(fields, 40) {
        0 => None,
        HAS_HORIZON => Some(UnixMs(i64_at(fields, 32))),
        _ => return None,
    };
    Some(PartitionState {
        key: PartitionKey {
            topic_no: TopicNo(u32_at(fields, 0)),
            partition: Partition(u32_at(fields, 4)),
        },
        log_start: Offset(i64_at(fields, 8)),
        next: Offset(i64_at(fields, 16)),
        cleaned: Offset(i64_at(fields, 24)),
        next_horizon: horizon,
        epochs: epochs.iter().map(decode_epoch).collect(),
        extents: extents.iter().map(decode_extent).collect::<Option<_>>()?,
        runs: runs.iter().map(decode_run).collect(),
        producers: Vec::new(),
        streams: streams.iter().map(decode_stream).collect::<Option<_>>()?,
    })
}

fn encode_epoch(epoch: LeaderEpoch, start: Offset) -> [u8; EPOCH_BYTES] {
    let mut out = [0; EPOCH_BYTES];
    put(&mut out, 0, epoch.0.to_le_bytes());
    put(&mut out, 4, start.0.to_le_bytes());
    out
}

fn decode_epoch(bytes: &[u8; EPOCH_BYTES]) -> (LeaderEpoch, Offset) {
    (LeaderEpoch(i32::from_le_bytes(field(bytes, 0))), Offset(i64_at(bytes, 4)))
}

fn encode_extent(extent: &Extent) -> [u8; EXTENT_BYTES] {
    let (name, number) = encode_id(extent.unit);
    let mut out = [0; EXTENT_BYTES];
    put(&mut out, 0, number.to_le_bytes());
    put(&mut out, 8, extent.base.0.to_le_bytes());
    put(&mut out, 16, extent.last.0.to_le_bytes());
    put(&mut out, 24, extent.max_timestamp.0.to_le_bytes());
    put(&mut out, 32, extent.max_append_ms.0.to_le_bytes());
    put(&mut out, 40, extent.bytes.to_le_bytes());
    put(&mut out, 48, extent.first.to_le_bytes());
    put(&mut out, 52, extent.count.to_le_bytes());
    out[56] = name;
    out
}

fn decode_extent(bytes: &[u8; EXTENT_BYTES]) -> Option<Extent> {
    Some(Extent {
        unit: decode_id(bytes[56], u64_at(bytes, 0))?,
        base: Offset(i64_at(bytes, 8)),
        last: Offset(i64_at(bytes, 16)),
        max_timestamp: UnixMs(i64_at(bytes, 24)),
        max_append_ms: UnixMs(i64_at(bytes, 32)),
        bytes: u64_at(bytes, 40),
        first: u32_at(bytes, 48),
        count: u32_at(bytes, 52),
    })
}

fn encode_run(file_no: FileNo, run: &UnitRun) -> [u8; RUN_BYTES] {
    let mut out = [0; RUN_BYTES];
    put(&mut out, 0, file_no.0.to_le_bytes());
    put(&mut out, 8, run.append_ms.0.to_le_bytes());
    put(&mut out, 16, run.setsum.to_le_bytes());
    put(&mut out, 24, run.entry.encode());
    out
}

fn decode_run(bytes: &[u8; RUN_BYTES]) -> (FileNo, UnitRun) {
    let run = UnitRun {
        entry: RunEntry::decode(&field(bytes, 24)),
        append_ms: UnixMs(i64_at(bytes, 8)),
        setsum: u64_at(bytes, 16),
    };
    (FileNo(u64_at(bytes, 0)), run)
}

fn encode_stream(pid: ProducerId, stream: &StreamState) -> [u8; STREAM_BYTES] {
    let mut out = [0; STREAM_BYTES];
    put(&mut out, 0, pid.0.to_le_bytes());
    put(&mut out, 8, stream.tag.0.to_le_bytes());
    put(&mut out, 20, stream.epoch.0.to_le_bytes());
    if let Some(last) = stream.last {
        put(&mut out, 16, last.get().to_le_bytes());
        out[22] = HAS_LAST;
    }
    out
}

fn decode_stream(bytes: &[u8; STREAM_BYTES]) -> Option<(ProducerId, StreamState)> {
    let last = match bytes[22] {
        0 => None,
        HAS_LAST => Some(StreamSeq::new(i32::from_le_bytes(field(bytes, 16)))?),
        _ => return None,
    };
    let epoch = StreamEpoch(i16::from_le_bytes(field(bytes, 20)));
    Some((ProducerId(i64_at(bytes, 0)), StreamState { epoch, last, tag: Tag(u64_at(bytes, 8)) }))
}
