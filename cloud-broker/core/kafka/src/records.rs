//! The records inside one batch, for the few who must look: finding a time, compaction by key, and tests. Everything else
//! passes batches on as they are.
//!
//! Records are decompressed as they are walked, one at a time in memory, so what a batch can cost is bounded: its
//! output by [`BATCH_BYTES_MAX`], a record by [`RECORD_BYTES_MAX`], and each codec's own window (see `decompress`).
//!
//! Format: Kafka documentation, "Record" and "Record Header"; the batch's header is `wire::record_batch`.

mod compress;
mod decompress;
mod rewrite;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Read};

use wire::offset::Offset;
use wire::record_batch::{HEADER_BYTES, RecordBatchError, RecordBatchHeader};
use wire::time::UnixMs;

use decompress::Decompressor;

pub use rewrite::{REWRITTEN_BYTES_MAX, rewrite};

/// Most bytes that the records of one batch may be when decompressed.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// Most bytes of one record.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Most bytes of a varint that holds 64 bits.
const VARINT_BYTES_MAX: u32 = 10;

/// How far the buffer of a record grows ahead of its bytes.
const RECORD_STEP_BYTES: usize = 64 << 10;

const _: () = assert!(RECORD_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(wire::limits::RECORD_BATCH_BYTES_MAX <= RECORD_BYTES_MAX);

/// Why the records of a batch cannot be walked. None of these passes with time: answer by the batch's header alone, or
/// refuse the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// The header is no batch's.
    #[error("not a record batch: {0:?}")]
    Batch(RecordBatchError),
    /// The compressed bytes are not what their codec writes, or need a larger window than we give.
    #[error("the compressed records cannot be decompressed")]
    Compression,
    /// A record is not what the format says.
    #[error("a record contradicts the format")]
    Record,
    /// The records, or one of them, are larger than the limits.
    #[error("the records are too large when decompressed")]
    TooLarge,
    /// Bytes behind the last record.
    #[error("bytes behind the last record")]
    Trailing,
    /// The records end before the last one.
    #[error("the records end before the last one")]
    Truncated,
}

/// One record, as long as the walk stays at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset less the batch's.
    pub offset_delta: u32,
    /// Its timestamp less the batch's base timestamp, as written; see [`Records::timestamp`].
    pub timestamp_delta: i64,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: Headers<'a>,
}

/// The headers of a record: name and value, one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        // The record was checked whole before it was given out, so nothing fails here.
        self.left = self.left.checked_sub(1)?;
        take_header(&mut self.rest).ok()
    }
}

/// A walk over the records of one batch.
pub struct Records<'a> {
    header: RecordBatchHeader,
    left: u32,
    source: Bounded<'a>,
    record: Vec<u8>,
}

impl<'a> Records<'a> {
    /// Starts a walk over the batch at the start of `batch`. The CRC is not checked.
    ///
    /// # Errors
    /// [`RecordsError::Batch`]; `Compression` or `TooLarge` where the codec says so at once.
    pub fn new(batch: &'a [u8]) -> Result<Self, RecordsError> {
        let header = RecordBatchHeader::parse(batch).map_err(RecordsError::Batch)?;
        let compressed = &batch[HEADER_BYTES..header.total_len];
        Ok(Self {
            header,
            left: header.record_count,
            source: Bounded {
                bytes: Decompressor::new(header.codec, compressed)?,
                left: BATCH_BYTES_MAX,
            },
            record: Vec::new(),
        })
    }

    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &RecordBatchHeader {
        &self.header
    }

    /// The next record; `None` behind the last, when nothing else follows it. After an error the walk is over.
    ///
    /// # Errors
    /// [`RecordsError`], any but `Batch`.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, RecordsError> {
        if self.left == 0 {
            return match self.source.read_some(&mut [0])? {
                0 => Ok(None),
                _ => Err(RecordsError::Trailing),
            };
        }
        self.left -= 1;
        let length = self.source.read_varint()?;
        let length = usize::try_from(length).map_err(|_| RecordsError::Record)?;
        if length > RECORD_BYTES_MAX {
            return Err(RecordsError::TooLarge);
        }
        self.source.read_record(length, &mut self.record)?;
        let record = parse(&self.record)?;
        if record.offset_delta > self.header.last_offset_delta {
            return Err(RecordsError::Record);
        }
        Ok(Some(record))
    }

    /// The timestamp of a record of this batch with this delta: the broker's where the batch says so (bit 3 of its
    /// attributes), else the producer's.
    #[must_use]
    pub fn timestamp(&self, timestamp_delta: i64) -> UnixMs {
        timestamp(&self.header, timestamp_delta)
    }
}

/// Decompressed bytes, of which no more than the limit come out.
struct Bounded<'a> {
    bytes: Decompressor<'a>,
    left: usize,
}

impl Bounded<'_> {
    fn read_varint(&mut self) -> Result<i64, RecordsError> {
        let mut bytes = [0; VARINT_BYTES_MAX as usize];
        for at in 0..bytes.len() {
            if self.read_some(&mut bytes[at..=at])? == 0 {
                return Err(RecordsError::Truncated);
            }
            if bytes[at] < 0x80 {
                return take_varint(&mut &bytes[..=at]);
            }
        }
        Err(RecordsError::Record)
    }

    /// Fills `record`, which grows only as bytes arrive: a length alone allocates nothing large.
    fn read_record(&mut self, length: usize, record: &mut Vec<u8>) -> Result<(), RecordsError> {
        record.clear();
        while record.len() < length {
            let from = record.len();
            record.resize(length.min(from + RECORD_STEP_BYTES), 0);
            let count = self.read_some(&mut record[from..])?;
            record.truncate(from + count);
            if count == 0 {
                return Err(RecordsError::Truncated);
            }
        }
        Ok(())
    }

    /// Reads at least one byte unless the records have ended.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, RecordsError> {
        loop {
            match self.bytes.read(buffer) {
                Ok(count) => {
                    let left = self.left.checked_sub(count);
                    self.left = left.ok_or(RecordsError::TooLarge)?;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(decompress::explain(&error)),
            }
        }
    }
}

/// Where a record is in the log, and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOffset {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp.
    pub timestamp: UnixMs,
}

/// The first record of a batch that is not older than `time`; `None` if all are.
///
/// # Errors
/// [`RecordsError`], if the batch cannot be walked as far.
pub fn first_at_or_after(batch: &[u8], time: UnixMs) -> Result<Option<TimedOffset>, RecordsError> {
    let mut records = Records::new(batch)?;
    let header = *records.header();
    while let Some(record) = records.next_record()? {
        let timestamp = timestamp(&header, record.timestamp_delta);
        if timestamp >= time {
            return Ok(Some(timed_offset(&header, record.offset_delta, timestamp)));
        }
    }
    Ok(None)
}

/// The first of the records with the batch's greatest timestamp.
///
/// # Errors
/// [`RecordsError`], if the batch cannot be walked to its end.
pub fn first_of_greatest_time(batch: &[u8]) -> Result<TimedOffset, RecordsError> {
    let mut records = Records::new(batch)?;
    let header = *records.header();
    let mut greatest: Option<TimedOffset> = None;
    while let Some(record) = records.next_record()? {
        let timestamp = timestamp(&header, record.timestamp_delta);
        if greatest.is_none_or(|known| timestamp > known.timestamp) {
            greatest = Some(timed_offset(&header, record.offset_delta, timestamp));
        }
    }
    greatest.ok_or(RecordsError::Truncated)
}

fn timed_offset(header: &RecordBatchHeader, delta: u32, timestamp: UnixMs) -> TimedOffset {
    TimedOffset {
        // A base offset near the greatest is nothing the log gives out, but nothing here may panic over one.
        offset: Offset(header.base_offset.0.wrapping_add(i64::from(delta))),
        timestamp,
    }
}

fn timestamp(header: &RecordBatchHeader, delta: i64) -> UnixMs {
    if header.attributes & RecordBatchHeader::LOG_APPEND_TIME != 0 {
        header.max_timestamp
    } else {
        UnixMs(header.base_timestamp.0.wrapping_add(delta))
    }
}

/// Parses what the length of a record covers, to its last byte.
fn parse(mut rest: &[u8]) -> Result<Record<'_>, RecordsError> {
    let rest = &mut rest;
    take(rest, 1)?; // attributes, of which none is defined
    let timestamp_delta = take_varint(rest)?;
    let offset_delta = u32::try_from(take_varint(rest)?).map_err(|_| RecordsError::Record)?;
    let key = take_bytes(rest)?;
    let value = take_bytes(rest)?;
    let count = u32::try_from(take_varint(rest)?).map_err(|_| RecordsError::Record)?;
    let headers = Headers { left: count, rest };
    for _ in 0..count {
        take_header(rest)?;
    }
    if !rest.is_empty() {
        return Err(RecordsError::Record);
    }
    Ok(Record { offset_delta, timestamp_delta, key, value, headers })
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<(&'a str, Option<&'a [u8]>), RecordsError> {
    let name = take_bytes(rest)?.ok_or(RecordsError::Record)?;
    let name = std::str::from_utf8(name).map_err(|_| RecordsError::Record)?;
    Ok((name, take_bytes(rest)?))
}

/// Bytes behind their length; −1 is null.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordsError> {
    let length = take_varint(rest)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| RecordsError::Record)?;
    take(rest, length).map(Some)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], RecordsError> {
    let (taken, after) = rest.split_at_checked(count).ok_or(RecordsError::Record)?;
    *rest = after;
    Ok(taken)
}

/// A zigzag varint of up to 64 bits.
fn take_varint(rest: &mut &[u8]) -> Result<i64, RecordsError> {
    let mut value = 0_u64;
    for at in 0..VARINT_BYTES_MAX {
        let byte = take(rest, 1)?[0];
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * at);
        if shifted >> (7 * at) != bits {
            break;
        }
        value |= shifted;
        if byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(RecordsError::Record)
}
