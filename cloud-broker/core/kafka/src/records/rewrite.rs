//! A batch with some of its records taken out, for key compaction.
//!
//! What is left is what it was: offsets, timestamps, keys, values, headers, codec, and the batch's producer, sequences and
//! last offset. The delete horizon of KIP-534 takes the place of the base timestamp, so the timestamps' differences are
//! written anew where one is set.

use std::io::Write;

use wire::record_batch::{HEADER_BYTES, Remaining, amend_header};
use wire::time::UnixMs;

use super::compress::Compressor;
use super::{BATCH_BYTES_MAX, Records, RecordsError, decompress, take, take_varint, timestamp};

/// Most bytes of a batch that is written anew. Nobody's level of compression is ours, so it may be larger than what was
/// produced although it has fewer records.
pub const REWRITTEN_BYTES_MAX: usize = 2 * wire::limits::RECORD_BATCH_BYTES_MAX;

const _: () = assert!(REWRITTEN_BYTES_MAX <= BATCH_BYTES_MAX);

/// The batch at the start of `batch` with those of its records that `keep` says, one for each in their order. With a
/// `delete_horizon` the batch says from when on its tombstones may go; without, it says what it said before.
///
/// # Errors
/// [`RecordsError`]: leave the batch as it is. `TooLarge` also if it would be larger than [`REWRITTEN_BYTES_MAX`].
///
/// # Panics
/// If `keep` is not as long as the batch, or keeps none.
pub fn rewrite(
    batch: &[u8],
    keep: &[bool],
    delete_horizon: Option<UnixMs>,
) -> Result<Vec<u8>, RecordsError> {
    let mut records = Records::new(batch)?;
    let header = *records.header();
    let record_count = keep.iter().filter(|kept| **kept).count();
    assert_eq!(keep.len(), header.record_count as usize, "a word on each record");
    assert!(record_count > 0, "a batch has records");

    let base_timestamp = delete_horizon.unwrap_or(header.base_timestamp);
    let mut max_timestamp: Option<UnixMs> = None;
    let failed = |error| decompress::explain(&error);
    let out = batch[..HEADER_BYTES].to_vec();
    let mut out = Compressor::new(header.codec, out, REWRITTEN_BYTES_MAX).map_err(failed)?;
    let (mut length, mut start) = (Vec::new(), Vec::new());
    for kept in keep {
        let record = records.next_record()?.ok_or(RecordsError::Truncated)?;
        if !kept {
            continue;
        }
        let time = UnixMs(header.base_timestamp.0.wrapping_add(record.timestamp_delta));
        let reported = timestamp(&header, record.timestamp_delta);
        max_timestamp = max_timestamp.max(Some(reported));
        let rest = records.behind_timestamp()?;
        start.clear();
        start.push(0); // attributes, of which none is defined
        put_varint(&mut start, time.0.wrapping_sub(base_timestamp.0));
        length.clear();
        put_varint(&mut length, (start.len() + rest.len()) as i64);
        for part in [&length[..], &start, rest] {
            out.write_all(part).map_err(failed)?;
        }
    }
    // Only what was walked to its end is known to be whole.
    if records.next_record()?.is_some() {
        return Err(RecordsError::Trailing);
    }
    let mut out = out.finish().map_err(failed)?;
    let remaining = Remaining {
        record_count: u32::try_from(record_count).expect("no more than the batch had"),
        max_timestamp: max_timestamp.expect("one is kept"),
        delete_horizon,
    };
    if amend_header(&mut out, &remaining) { Ok(out) } else { Err(RecordsError::TooLarge) }
}

impl Records<'_> {
    /// What follows the timestamp in the record that was given out last.
    fn behind_timestamp(&self) -> Result<&[u8], RecordsError> {
        let mut rest = &self.record[..];
        take(&mut rest, 1)?;
        take_varint(&mut rest)?;
        Ok(rest)
    }
}

/// A zigzag varint.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests;
