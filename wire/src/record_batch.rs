//! Kafka's record batch, version 2 (magic 2): the gateway builds it, the broker stores its bytes, consumers fetch them.
//!
//! Layout (Kafka documentation, "Record Batch"; integers big-endian):
//!
//! | offset | field |
//! |---|---|
//! | 0 | base offset i64 |
//! | 8 | batch length i32, of what follows |
//! | 12 | partition leader epoch i32 |
//! | 16 | magic i8 = 2 |
//! | 17 | CRC-32C u32 over everything from offset 21 |
//! | 21 | attributes i16: bits 0–2 codec, 3 log-append time, 4 transactional, 5 control, 6 delete horizon |
//! | 23 | last offset delta i32 |
//! | 27 | base timestamp i64, which is the delete horizon if bit 6 is set (KIP-534); 35 max timestamp i64 |
//! | 43 | producer id i64, 51 producer epoch i16, 53 base sequence i32 |
//! | 57 | record count i32 |
//! | 61 | records, compressed as one block if a codec is set |
//!
//! Base offset and leader epoch lie before the CRC's range, so a broker assigns both without touching the rest.

mod compacted;

pub use compacted::{Remaining, amend_header};

use alloc::vec::Vec;

use crate::ids::ProducerId;
use crate::offset::{LeaderEpoch, Offset};
use crate::seq::{StreamEpoch, StreamSeq};
use crate::time::UnixMs;

/// Bytes before the records.
pub const HEADER_BYTES: usize = 61;

/// Bytes before what the batch length field counts.
pub const LENGTH_END: usize = 12;

/// The first byte under the CRC.
const CRC_START: usize = 21;

const MAGIC: i8 = 2;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy.
    Snappy = 2,
    /// LZ4 frame.
    Lz4 = 3,
    /// Zstandard.
    Zstd = 4,
}

impl Codec {
    fn from_attributes(attributes: i16) -> Option<Self> {
        Some(match attributes & 0x07 {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }
}

/// Why bytes are not a batch that the log takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordBatchError {
    /// The attributes name a codec that does not exist.
    Codec,
    /// The record count is not positive or does not fit the last offset delta.
    Count,
    /// The CRC does not match.
    Crc,
    /// Shorter than its header or than its length field says.
    Length,
    /// Another magic than 2.
    Magic,
}

/// The header of a batch, checked against the bytes it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordBatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the whole batch.
    pub total_len: usize,
    /// Owner's epoch when it was stored.
    pub leader_epoch: LeaderEpoch,
    /// The CRC as stored.
    pub crc: u32,
    /// Codec and flags as stored.
    pub attributes: i16,
    /// The codec in them.
    pub codec: Codec,
    /// Offset of the last record less that of the first; never negative.
    pub last_offset_delta: u32,
    /// Timestamp that the records' differences count from.
    pub base_timestamp: UnixMs,
    /// Greatest timestamp of a record.
    pub max_timestamp: UnixMs,
    /// −1 without idempotence.
    pub producer_id: ProducerId,
    /// −1 without idempotence.
    pub producer_epoch: i16,
    /// −1 without idempotence.
    pub base_sequence: i32,
    /// Records in the batch, at least 1.
    pub record_count: u32,
}

impl RecordBatchHeader {
    /// Bit 3 of the attributes: timestamps are the broker's.
    pub const LOG_APPEND_TIME: i16 = 1 << 3;
    /// Bit 4 of the attributes.
    pub const TRANSACTIONAL: i16 = 1 << 4;
    /// Bit 5 of the attributes.
    pub const CONTROL: i16 = 1 << 5;
    /// Bit 6 of the attributes: the base timestamp says from when on tombstones and markers of the batch may go (KIP-534).
    pub const DELETE_HORIZON: i16 = 1 << 6;

    /// Reads the header of the batch at the start of `bytes`, which may go on behind it. Everything but the CRC is
    /// checked: the batch lies whole in `bytes` and its counts agree.
    ///
    /// # Errors
    /// Every [`RecordBatchError`] but `Crc`.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordBatchError> {
        use RecordBatchError as E;
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(E::Length)?;
        let i16_at = |at: usize| i16::from_be_bytes([header[at], header[at + 1]]);
        let i32_at = |at: usize| i32::from_be_bytes(array(header, at));
        let i64_at = |at: usize| i64::from_be_bytes(array(header, at));
        if i8::from_be_bytes([header[16]]) != MAGIC {
            return Err(E::Magic);
        }
        let after = usize::try_from(i32_at(8)).map_err(|_| E::Length)?;
        let total_len = after + LENGTH_END;
        if total_len < HEADER_BYTES || total_len > bytes.len() {
            return Err(E::Length);
        }
        let attributes = i16_at(21);
        let last_offset_delta = u32::try_from(i32_at(23)).map_err(|_| E::Count)?;
        let record_count = u32::try_from(i32_at(57)).map_err(|_| E::Count)?;
        if record_count == 0 || last_offset_delta < record_count - 1 {
            return Err(E::Count);
        }
        Ok(Self {
            base_offset: Offset(i64_at(0)),
            total_len,
            leader_epoch: LeaderEpoch(i32_at(12)),
            crc: u32::from_be_bytes(array(header, 17)),
            attributes,
            codec: Codec::from_attributes(attributes).ok_or(E::Codec)?,
            last_offset_delta,
            base_timestamp: UnixMs(i64_at(27)),
            max_timestamp: UnixMs(i64_at(35)),
            producer_id: ProducerId(i64_at(43)),
            producer_epoch: i16_at(51),
            base_sequence: i32_at(53),
            record_count,
        })
    }

    /// Checks the CRC of the batch that this header was parsed from.
    ///
    /// # Errors
    /// [`RecordBatchError::Crc`]; `Length` if these are other, shorter bytes.
    pub fn check_crc(&self, bytes: &[u8]) -> Result<(), RecordBatchError> {
        let covered = bytes.get(CRC_START..self.total_len).ok_or(RecordBatchError::Length)?;
        if crc32c(covered) == self.crc { Ok(()) } else { Err(RecordBatchError::Crc) }
    }

    /// Whether a transaction marker, not data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & Self::CONTROL != 0
    }

    /// Whether part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & Self::TRANSACTIONAL != 0
    }

    /// From when on tombstones and markers of the batch may go; `None` until a compaction has said so.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<UnixMs> {
        (self.attributes & Self::DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }
}

/// Gives the batch at the start of `batch` its place in the log. Outside the CRC's range.
///
/// # Panics
/// If `batch` is shorter than [`HEADER_BYTES`]: call it on what [`RecordBatchHeader::parse`] accepted.
pub fn assign_place(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    batch[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[12..16].copy_from_slice(&epoch.0.to_be_bytes());
}

/// Gives all records of the batch at the start of `batch` the broker's time. Under the CRC, which is made anew.
///
/// # Panics
/// If `batch` is not what [`RecordBatchHeader::parse`] accepted, as a whole and nothing else.
pub fn stamp_append_time(batch: &mut [u8], now: UnixMs) {
    batch[22] |= RecordBatchHeader::LOG_APPEND_TIME as u8;
    batch[35..43].copy_from_slice(&now.0.to_be_bytes());
    let crc = crc32c(&batch[CRC_START..]);
    batch[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
}

/// CRC-32C (Castagnoli), as Kafka's batches, the WAL and the spool use it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes))
        .expect("a 32-bit CRC fits 32 bits")
}

/// The producer fields of a batch: which uplink stream it belongs to and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchProducer {
    /// Producer id of the stream.
    pub id: ProducerId,
    /// Epoch of the stream.
    pub epoch: StreamEpoch,
    /// Sequence of the first record.
    pub base: StreamSeq,
}

/// One record to be written.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Timestamp.
    pub timestamp: UnixMs,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Header names and values, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Builds the records of a batch, then the batch around their (perhaps compressed) bytes.
#[derive(Debug, Default)]
pub struct RecordBatchBuilder {
    records: Vec<u8>,
    body: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl RecordBatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record.
    pub fn push(&mut self, record: &Record<'_>) {
        if self.count == 0 {
            self.base_timestamp = record.timestamp.0;
            self.max_timestamp = record.timestamp.0;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp.0);
        let body = &mut self.body;
        body.clear();
        body.push(0); // attributes, unused
        put_varint(body, record.timestamp.0.wrapping_sub(self.base_timestamp));
        put_varint(body, i64::from(self.count));
        put_bytes(body, record.key);
        put_bytes(body, record.value);
        put_varint(body, record.headers.len() as i64);
        for (name, value) in record.headers {
            put_bytes(body, Some(name.as_bytes()));
            put_bytes(body, Some(value));
        }
        put_varint(&mut self.records, self.body.len() as i64);
        self.records.extend_from_slice(&self.body);
        self.count += 1;
    }

    /// The records written so far, not compressed: what a codec takes.
    #[must_use]
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// How many records were written.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The batch around `records`, which are [`Self::records`] after `codec`. Base offset 0; the broker assigns it.
    /// `None` for a batch without records or longer than its length field can say.
    #[must_use]
    pub fn seal(&self, producer: BatchProducer, codec: Codec, records: &[u8]) -> Option<Vec<u8>> {
        let total_len = HEADER_BYTES + records.len();
        let batch_length = i32::try_from(total_len - LENGTH_END).ok()?;
        let last_delta = i32::try_from(self.count.checked_sub(1)?).ok()?;
        let mut out = Vec::with_capacity(total_len);
        out.extend_from_slice(&0_i64.to_be_bytes());
        out.extend_from_slice(&batch_length.to_be_bytes());
        out.extend_from_slice(&0_i32.to_be_bytes());
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&i16::from(codec as u8).to_be_bytes());
        out.extend_from_slice(&last_delta.to_be_bytes());
        out.extend_from_slice(&self.base_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&producer.id.0.to_be_bytes());
        out.extend_from_slice(&producer.epoch.0.to_be_bytes());
        out.extend_from_slice(&producer.base.get().to_be_bytes());
        out.extend_from_slice(&(last_delta + 1).to_be_bytes());
        out.extend_from_slice(records);
        let crc = crc32c(&out[CRC_START..]);
        out[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
        Some(out)
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

/// Zigzag varint, as protobuf and Kafka write it.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn array<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn sample() -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new();
        let headers: [(&str, &[u8]); 1] = [("mqtt.topic", b"plant/1/temp")];
        for (i, value) in [b"21.5", b"21.6"].iter().enumerate() {
            builder.push(&Record {
                timestamp: UnixMs(1_700_000_000_000 + i as i64),
                key: Some(b"dev1"),
                value: Some(&value[..]),
                headers: &headers,
            });
        }
        let producer = BatchProducer {
            id: ProducerId::UPLINK_MIN,
            epoch: StreamEpoch::FIRST,
            base: StreamSeq::ZERO,
        };
        builder.seal(producer, Codec::None, builder.records()).unwrap()
    }

    #[test]
    fn a_built_batch_reads_back() {
        let mut bytes = sample();
        let header = RecordBatchHeader::parse(&bytes).unwrap();
        header.check_crc(&bytes).unwrap();
        assert_eq!((header.record_count, header.last_offset_delta), (2, 1));
        assert_eq!(header.total_len, bytes.len());
        assert_eq!(header.max_timestamp, UnixMs(1_700_000_000_001));
        assert_eq!(header.producer_id, ProducerId::UPLINK_MIN);
        assign_place(&mut bytes, Offset(99), LeaderEpoch(3));
        let placed = RecordBatchHeader::parse(&bytes).unwrap();
        placed.check_crc(&bytes).unwrap();
        assert_eq!((placed.base_offset, placed.leader_epoch), (Offset(99), LeaderEpoch(3)));
    }

    #[test]
    fn every_flipped_bit_under_the_crc_is_found() {
        let good = sample();
        for at in 8..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let found = RecordBatchHeader::parse(&bad).and_then(|h| h.check_crc(&bad));
            // Leader epoch, which the broker writes, is not covered.
            assert_eq!(found.is_ok(), (12..16).contains(&at), "byte {at}");
        }
    }

    #[test]
    fn a_stamped_batch_bears_the_brokers_time() {
        let mut batch = sample();
        let before = RecordBatchHeader::parse(&batch).unwrap();
        stamp_append_time(&mut batch, UnixMs(77));
        let after = RecordBatchHeader::parse(&batch).unwrap();
        after.check_crc(&batch).unwrap();
        assert_eq!(
            after,
            RecordBatchHeader {
                attributes: before.attributes | RecordBatchHeader::LOG_APPEND_TIME,
                max_timestamp: UnixMs(77),
                crc: after.crc,
                ..before
            }
        );
    }

    #[test]
    fn short_and_odd_headers_are_refused() {
        let good = sample();
        for len in 0..good.len() {
            assert_eq!(RecordBatchHeader::parse(&good[..len]), Err(RecordBatchError::Length));
        }
        for (at, value, error) in [
            (16, 1_u8, RecordBatchError::Magic),
            (22, 7, RecordBatchError::Codec),
            (23, 0x80, RecordBatchError::Count),
            (57, 0x80, RecordBatchError::Count),
            (60, 0, RecordBatchError::Count),
            (60, 9, RecordBatchError::Count),
            (8, 0xff, RecordBatchError::Length),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(RecordBatchHeader::parse(&bad), Err(error), "byte {at}");
        }
    }
}
