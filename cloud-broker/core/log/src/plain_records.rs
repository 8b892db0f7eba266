//! A [`RecordRewriter`] for batches that are not compressed: what this package's tests and whoever drives the log without
//! Kafka's codecs need of it.
//!
//! Format: Kafka documentation, "Record". A record's headers are taken as they are.

use wire::offset::Offset;
use wire::record_batch::{Codec, HEADER_BYTES, RecordBatchHeader, Remaining, amend_header};
use wire::time::UnixMs;

use crate::compaction::{KeyedRecord, RecordRewriter, Unreadable};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainRecords;

/// One record.
struct Parsed<'a> {
    time: i64,
    offset_delta: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    /// Everything behind the time.
    behind: &'a [u8],
}

impl RecordRewriter for PlainRecords {
    fn walk(&self, batch: &[u8], show: &mut dyn FnMut(KeyedRecord<'_>)) -> Result<(), Unreadable> {
        let (header, records) = parse(batch).ok_or(Unreadable)?;
        for record in records {
            let offset = header.base_offset.0.checked_add(record.offset_delta);
            show(KeyedRecord {
                offset: Offset(offset.ok_or(Unreadable)?),
                key: record.key,
                is_tombstone: record.value.is_none(),
            });
        }
        Ok(())
    }

    fn rewrite(
        &self,
        batch: &[u8],
        keep: &[bool],
        delete_horizon: Option<UnixMs>,
    ) -> Result<Vec<u8>, Unreadable> {
        let (header, records) = parse(batch).ok_or(Unreadable)?;
        let base = delete_horizon.unwrap_or(header.base_timestamp);
        let mut out = batch[..HEADER_BYTES].to_vec();
        let (mut record_count, mut max_timestamp) = (0, UnixMs(i64::MIN));
        for (record, _) in records.iter().zip(keep).filter(|(_, kept)| **kept) {
            let mut body = vec![0];
            put_varint(&mut body, record.time.wrapping_sub(base.0));
            body.extend_from_slice(record.behind);
            put_varint(&mut out, i64::try_from(body.len()).map_err(|_| Unreadable)?);
            out.extend_from_slice(&body);
            record_count += 1;
            max_timestamp = max_timestamp.max(UnixMs(record.time));
        }
        if header.attributes & RecordBatchHeader::LOG_APPEND_TIME != 0 {
            max_timestamp = header.max_timestamp;
        }
        let remaining = Remaining { record_count, max_timestamp, delete_horizon };
        if record_count > 0 && amend_header(&mut out, &remaining) {
            Ok(out)
        } else {
            Err(Unreadable)
        }
    }
}

fn parse(batch: &[u8]) -> Option<(RecordBatchHeader, Vec<Parsed<'_>>)> {
    let header = RecordBatchHeader::parse(batch).ok()?;
    if header.codec != Codec::None {
        return None;
    }
    let rest = &mut &batch[HEADER_BYTES..header.total_len];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let body = &mut take_bytes(rest)??;
        take(body, 1)?;
        let time = header.base_timestamp.0.wrapping_add(take_varint(body)?);
        let behind = *body;
        let offset_delta = take_varint(body)?;
        let (key, value) = (take_bytes(body)?, take_bytes(body)?);
        records.push(Parsed { time, offset_delta, key, value, behind });
    }
    (records.len() == header.record_count as usize).then_some((header, records))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

/// Bytes behind their length; −1 is null.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_varint(rest)? {
        -1 => Some(None),
        length => take(rest, usize::try_from(length).ok()?).map(Some),
    }
}

/// A zigzag varint.
fn take_varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for at in 0..10 {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
