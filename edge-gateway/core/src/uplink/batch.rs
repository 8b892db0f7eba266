//! From spooled rows to the record batch that consumers will fetch. The record's contract: docs/protocols/records.md.

use std::io::Write;

use lz4_flex::frame::{FrameEncoder, FrameInfo};
use thiserror::Error;
use wire::ids::GatewayId;
use wire::limits::{
    MQTT_PACKET_BYTES_MAX, RECORD_BATCH_BYTES_MAX, UPLINK_BATCH_BYTES_TARGET,
    UPLINK_BATCH_READINGS_MAX,
};
use wire::partition::partition_for_key;
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder};

use super::window::Batch;
use crate::spool::segment::{
    DeviceTime, Row, SEGMENT_BYTES_TARGET, SEGMENT_ROWS_MAX, Segment, SegmentError,
};

/// What a record takes beyond its row, in bytes, at most: names of headers, numbers written in decimal, the gateway's id.
const RECORD_OVERHEAD_BYTES_MAX: usize = 320;

/// The length of a text of 64 bytes or more may take one byte more than in a row.
const fn record_bytes_max(rows: usize, row_bytes: usize) -> usize {
    rows * RECORD_OVERHEAD_BYTES_MAX + row_bytes + row_bytes / 64
}

// A run of rows is assigned before it is built, so whatever a run may hold must fit one record batch: several segments, or a
// single one that ends with a large packet.
const _: () = {
    let several = record_bytes_max(UPLINK_BATCH_READINGS_MAX as usize, UPLINK_BATCH_BYTES_TARGET);
    assert!(several <= RECORD_BATCH_BYTES_MAX);
    let single = SEGMENT_BYTES_TARGET + MQTT_PACKET_BYTES_MAX;
    assert!(record_bytes_max(SEGMENT_ROWS_MAX as usize, single) <= RECORD_BATCH_BYTES_MAX);
};

/// Why an assigned batch cannot be built. Its readings stay in the spool; sending stops, loudly.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The spool gave other rows than were assigned.
    #[error("batch {number} holds {expected} readings, the spool has {found}")]
    Count {
        /// The batch.
        number: u64,
        /// Readings assigned.
        expected: u32,
        /// Readings found.
        found: u32,
    },
    /// The compressor failed, or the batch is longer than the format can say.
    #[error("batch {0} cannot be encoded")]
    Encode(u64),
    /// A segment cannot be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

/// The rows of a run of segments, read once for all the batches cut from them.
#[derive(Debug)]
pub struct Rows {
    rows: Vec<Row>,
}

impl Rows {
    /// Reads and checks `segments`.
    ///
    /// # Errors
    /// [`SegmentError`] of the first segment that is damaged.
    pub fn read(segments: &[Segment]) -> Result<Self, SegmentError> {
        let mut rows = Vec::new();
        for segment in segments {
            rows.append(&mut segment.read()?);
        }
        Ok(Self { rows })
    }

    /// How many readings each of `partitions` gets.
    #[must_use]
    pub fn count_by_partition(&self, partitions: u32) -> Vec<u32> {
        let mut counts = vec![0; partitions.max(1) as usize];
        for row in &self.rows {
            counts[partition_for_key(&row.device, partitions).0 as usize] += 1;
        }
        counts
    }

    /// Device and payload number of the batch's readings: what a test compares.
    #[cfg(test)]
    pub(crate) fn readings_of(&self, batch: &Batch) -> Vec<(bytes::Bytes, u64)> {
        let rows = self.rows.iter().filter(|row| {
            partition_for_key(&row.device, batch.partitions) == batch.stream.partition
        });
        rows.map(|row| {
            let text = std::str::from_utf8(&row.payload).unwrap();
            // A reading of a batch is JSON, any other is its number.
            let value = text.split_once("\"value\":").and_then(|(_, rest)| rest.split_once(','));
            let number = value.map_or(text, |(value, _)| value).parse().unwrap();
            if let Some((_, sequence)) = row.sequence {
                assert_eq!(
                    sequence.0, number,
                    "each reading has the number that its device gave it"
                );
            }
            (row.device.clone(), number)
        })
        .collect()
    }

    /// The record batch of those of these rows that `batch` holds: lz4, headers as in the contract.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self, batch: &Batch, gateway: &GatewayId) -> Result<Vec<u8>, BuildError> {
        let mut builder = RecordBatchBuilder::new();
        for row in &self.rows {
            if partition_for_key(&row.device, batch.partitions) == batch.stream.partition {
                push(&mut builder, row, batch, gateway);
            }
        }
        let number = batch.number.0;
        if builder.count() != batch.count {
            let (expected, found) = (batch.count, builder.count());
            return Err(BuildError::Count { number, expected, found });
        }
        let compressed = lz4(builder.records()).ok_or(BuildError::Encode(number))?;
        let producer = BatchProducer { id: batch.stream.pid, epoch: batch.epoch, base: batch.base };
        builder.seal(producer, Codec::Lz4, &compressed).ok_or(BuildError::Encode(number))
    }
}

fn push(builder: &mut RecordBatchBuilder, row: &Row, batch: &Batch, gateway: &GatewayId) {
    let (mut queue, mut seq, mut time) = (String::new(), String::new(), String::new());
    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(8 + row.properties.len());
    if !row.topic.is_empty() {
        headers.push(("mqtt.topic", &row.topic));
    }
    headers.push(("culvert.gateway", gateway.as_str().as_bytes()));
    if let Some((queue_id, number)) = row.sequence {
        queue.push_str(&queue_id.to_string());
        seq.push_str(&number.to_string());
        headers.push(("culvert.queue", queue.as_bytes()));
        headers.push(("culvert.seq", seq.as_bytes()));
    }
    match row.device_time {
        None | Some(DeviceTime::Measured(_)) => {}
        Some(DeviceTime::Implausible(ms) | DeviceTime::Uptime(ms)) => {
            time.push_str(&ms.to_string());
            headers.push(("culvert.device_time", time.as_bytes()));
        }
    }
    if let Some(DeviceTime::Uptime(_)) = row.device_time {
        headers.push(("culvert.clock", b"uptime"));
    }
    if batch.backfill {
        headers.push(("culvert.backfill", b"true"));
    }
    if row.maybe_dup {
        headers.push(("culvert.maybe_dup", b"true"));
    }
    for (name, value) in &row.properties {
        // The MQTT codec lets nothing but UTF-8 in; a name that is not would be the disk's, behind a matching CRC.
        headers.push((std::str::from_utf8(name).unwrap_or("mqtt.property"), value));
    }
    builder.push(&Record {
        timestamp: row.timestamp(),
        key: Some(&row.device),
        value: Some(&row.payload),
        headers: &headers,
    });
}

/// One LZ4 frame with independent blocks, which is what Kafka's Java client insists on.
fn lz4(records: &[u8]) -> Option<Vec<u8>> {
    let mut encoder =
        FrameEncoder::with_frame_info(FrameInfo::new(), Vec::with_capacity(records.len() / 2));
    encoder.write_all(records).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests;
