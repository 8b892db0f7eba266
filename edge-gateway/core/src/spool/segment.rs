//! The bytes of a segment (docs/formats/spool.md): rows one behind the other, lengths before contents.

use bytes::Bytes;
use thiserror::Error;
use wire::ids::{Lane, QueueId};
use wire::record_batch::crc32c;
use wire::seq::DeviceSeq;
use wire::time::UnixMs;

use super::RowNo;

/// A segment is closed when its rows reach this many bytes; a greater single row gets a segment of its own.
pub const SEGMENT_BYTES_TARGET: usize = 256 << 10;

/// Most rows in a segment, so that one partition's batch of it stays within the uplink's limit.
pub const SEGMENT_ROWS_MAX: u32 = 8_192;

const _: () = assert!(SEGMENT_ROWS_MAX <= wire::limits::UPLINK_BATCH_READINGS_MAX);
const _: () = assert!(SEGMENT_BYTES_TARGET <= wire::limits::UPLINK_BATCH_BYTES_TARGET);

const FLAG_SEQUENCE: u8 = 1;
const FLAG_MAYBE_DUP: u8 = 1 << 1;
/// Two bits: the kind of [`DeviceTime`], 0 for none.
const TIME_SHIFT: u8 = 2;
const TIME_MASK: u8 = 0b11 << TIME_SHIFT;
const FLAGS_KNOWN: u8 = FLAG_SEQUENCE | FLAG_MAYBE_DUP | TIME_MASK;

/// What a row takes beside payload, topic, device and properties, in bytes; generous. A property takes two lengths more.
const ROW_OVERHEAD_BYTES: usize = 64;
const PROPERTY_OVERHEAD_BYTES: usize = 6;

/// What a device says of when it measured, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceTime {
    /// A synced clock's time that cannot be right.
    Implausible(i64),
    /// A synced clock's time that can be right: the record's timestamp.
    Measured(UnixMs),
    /// The time since the device started.
    Uptime(i64),
}

impl DeviceTime {
    /// The record's timestamp, if the reading was received at `received`.
    #[must_use]
    pub fn timestamp(self, received: UnixMs) -> UnixMs {
        match self {
            Self::Implausible(_) | Self::Uptime(_) => received,
            Self::Measured(time) => time,
        }
    }

    fn encode(self) -> (u8, i64) {
        match self {
            Self::Measured(time) => (1, time.0),
            Self::Implausible(ms) => (2, ms),
            Self::Uptime(ms) => (3, ms),
        }
    }
}

/// One reading as the spool keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Wall time of receipt.
    pub received: UnixMs,
    /// Device id (client id): the record's key.
    pub device: Bytes,
    /// MQTT topic; empty for the gateway's own records.
    pub topic: Bytes,
    /// Place in the device's queue, if the device numbers its readings.
    pub sequence: Option<(QueueId, DeviceSeq)>,
    /// When the device measured it, if it says so.
    pub device_time: Option<DeviceTime>,
    /// Whether a copy of this reading may be in the log already.
    pub maybe_dup: bool,
    /// User properties: names and values.
    pub properties: Vec<(Bytes, Bytes)>,
    /// The reading.
    pub payload: Bytes,
}

impl Row {
    /// Bytes that the row takes in a segment, at most.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let property =
            |(name, value): &(Bytes, Bytes)| name.len() + value.len() + PROPERTY_OVERHEAD_BYTES;
        let properties: usize = self.properties.iter().map(property).sum();
        let parts = self.device.len() + self.topic.len() + self.payload.len() + properties;
        parts + ROW_OVERHEAD_BYTES
    }

    /// The record's timestamp.
    #[must_use]
    pub fn timestamp(&self) -> UnixMs {
        self.device_time.map_or(self.received, |time| time.timestamp(self.received))
    }
}

/// A run of consecutive rows of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Number of the first row.
    pub first: RowNo,
    /// The rows' lane.
    pub lane: Lane,
    /// How many rows.
    pub rows: u32,
    /// CRC-32C over first row, lane, count and the CRC-32C of the data.
    pub crc: u32,
    /// The rows' bytes.
    pub data: Bytes,
}

/// Why a segment cannot be read: the disk changed what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// The CRC does not match.
    #[error("segment at row {0}: checksum does not match")]
    Crc(RowNo),
    /// The rows do not follow the format.
    #[error("segment at row {0}: rows do not follow the format")]
    Malformed(RowNo),
}

impl Segment {
    /// Number of the row behind the last one.
    #[must_use]
    pub fn end(&self) -> RowNo {
        self.first.plus(u64::from(self.rows))
    }

    /// Checks the CRC and reads all rows; they share the segment's memory.
    ///
    /// # Errors
    /// [`SegmentError`], always for the whole segment.
    pub fn read(&self) -> Result<Vec<Row>, SegmentError> {
        if checksum(self.first, self.lane, self.rows, &self.data) != self.crc {
            return Err(SegmentError::Crc(self.first));
        }
        let malformed = SegmentError::Malformed(self.first);
        let mut rest = Cursor { data: &self.data, at: 0 };
        // A row takes at least seven bytes, so the data bounds what is reserved.
        let mut rows = Vec::with_capacity((self.rows as usize).min(self.data.len() / 7 + 1));
        for _ in 0..self.rows {
            rows.push(rest.row().ok_or(malformed)?);
        }
        if rest.at == self.data.len() { Ok(rows) } else { Err(malformed) }
    }
}

/// Collects the rows of one commit and lane into segments.
#[derive(Debug)]
pub struct SegmentWriter {
    lane: Lane,
    first: RowNo,
    rows: u32,
    data: Vec<u8>,
    full: Vec<Segment>,
}

impl SegmentWriter {
    /// Begins at row `first`.
    #[must_use]
    pub fn new(lane: Lane, first: RowNo) -> Self {
        Self { lane, first, rows: 0, data: Vec::new(), full: Vec::new() }
    }

    /// Appends a row and returns its number.
    pub fn push(&mut self, row: &Row) -> RowNo {
        let number = self.first.plus(u64::from(self.rows));
        let mut flags = 0;
        if row.sequence.is_some() {
            flags |= FLAG_SEQUENCE;
        }
        if row.maybe_dup {
            flags |= FLAG_MAYBE_DUP;
        }
        let time = row.device_time.map(DeviceTime::encode);
        flags |= time.map_or(0, |(kind, _)| kind << TIME_SHIFT);
        let data = &mut self.data;
        data.push(flags);
        data.extend_from_slice(&row.received.0.to_le_bytes());
        if let Some((queue, seq)) = row.sequence {
            data.extend_from_slice(&queue.0.to_le_bytes());
            put_varint(data, seq.0);
        }
        if let Some((_, ms)) = time {
            data.extend_from_slice(&ms.to_le_bytes());
        }
        put_bytes(data, &row.device);
        put_bytes(data, &row.topic);
        put_varint(data, row.properties.len() as u64);
        for (name, value) in &row.properties {
            put_bytes(data, name);
            put_bytes(data, value);
        }
        put_bytes(data, &row.payload);
        self.rows += 1;
        if self.data.len() >= SEGMENT_BYTES_TARGET || self.rows == SEGMENT_ROWS_MAX {
            self.close();
        }
        number
    }

    /// Bytes of all rows so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len() + self.full.iter().map(|segment| segment.data.len()).sum::<usize>()
    }

    /// The segments, and the number behind their last row.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Segment>, RowNo) {
        self.close();
        (self.full, self.first)
    }

    fn close(&mut self) {
        if self.rows == 0 {
            return;
        }
        let (first, rows) = (self.first, std::mem::take(&mut self.rows));
        let data = Bytes::from(std::mem::take(&mut self.data));
        let crc = checksum(first, self.lane, rows, &data);
        self.first = first.plus(u64::from(rows));
        self.full.push(Segment { first, lane: self.lane, rows, crc, data });
    }
}

fn checksum(first: RowNo, lane: Lane, rows: u32, data: &[u8]) -> u32 {
    let mut head = [0; 17];
    head[..8].copy_from_slice(&first.0.to_le_bytes());
    head[8] = lane as u8;
    head[9..13].copy_from_slice(&rows.to_le_bytes());
    // The data's own sum stands for the data, which is not copied to sit behind the head.
    head[13..].copy_from_slice(&crc32c(data).to_le_bytes());
    crc32c(&head)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

struct Cursor<'a> {
    data: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn row(&mut self) -> Option<Row> {
        let [flags] = self.array()?;
        if flags & !FLAGS_KNOWN != 0 {
            return None;
        }
        let received = UnixMs(self.i64()?);
        let sequence = if flags & FLAG_SEQUENCE == 0 {
            None
        } else {
            Some((QueueId(u64::from_le_bytes(self.array()?)), DeviceSeq(self.varint()?)))
        };
        let device_time = match (flags & TIME_MASK) >> TIME_SHIFT {
            0 => None,
            1 => Some(DeviceTime::Measured(UnixMs(self.i64()?))),
            2 => Some(DeviceTime::Implausible(self.i64()?)),
            _ => Some(DeviceTime::Uptime(self.i64()?)),
        };
        let device = self.bytes()?;
        let topic = self.bytes()?;
        let count = usize::try_from(self.varint()?).ok()?;
        // Each property takes two bytes at least.
        if count > (self.data.len() - self.at) / 2 {
            return None;
        }
        let mut properties = Vec::with_capacity(count);
        for _ in 0..count {
            properties.push((self.bytes()?, self.bytes()?));
        }
        let payload = self.bytes()?;
        let maybe_dup = flags & FLAG_MAYBE_DUP != 0;
        Some(Row { received, device, topic, sequence, device_time, maybe_dup, properties, payload })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.data.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(array)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(len).filter(|end| *end <= self.data.len())?;
        let bytes = self.data.slice(self.at..end);
        self.at = end;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests;
