//! Batches of records as they are fetched, into records.

use broker_kafka::records::{Records, RecordsError};
use thiserror::Error;
use wire::record_batch::{RecordBatchError, RecordBatchHeader};

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Partition.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values, in their order; a name may come twice.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl LogRecord {
    /// The value of the first header called `name`, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}

/// Why bytes are not records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The batch is not what its header says.
    #[error("not a record batch ({0:?})")]
    Batch(RecordBatchError),
    /// The batch ends before the wanted offset: reading would not get on.
    #[error("a batch that ends before the wanted offset")]
    Misplaced,
    /// The records cannot be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// What one batch held.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its records from the wanted offset on.
    pub records: Vec<LogRecord>,
    /// The offset behind its last record.
    pub next_offset: i64,
    /// Its bytes.
    pub length: usize,
}

/// Decodes the batch at the start of `bytes`, leaving out records below `from`: a fetch gives the whole batch that holds
/// the wanted offset. Control batches have no records for readers.
///
/// # Errors
/// [`DecodeError`]; `Batch(Length)` also where `bytes` end inside the batch.
pub fn decode_batch(partition: i32, from: i64, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let header = RecordBatchHeader::parse(bytes).map_err(DecodeError::Batch)?;
    header.check_crc(&bytes[..header.total_len]).map_err(DecodeError::Batch)?;
    let base = header.base_offset.0;
    let mut decoded = Decoded {
        records: Vec::new(),
        next_offset: base.saturating_add(i64::from(header.last_offset_delta)).saturating_add(1),
        length: header.total_len,
    };
    if decoded.next_offset <= from {
        return Err(DecodeError::Misplaced);
    }
    if header.is_control() {
        return Ok(decoded);
    }
    let mut records = Records::new(bytes)?;
    while let Some(record) = records.next_record()? {
        let offset = base.saturating_add(i64::from(record.offset_delta));
        if offset < from {
            continue;
        }
        let timestamp_delta = record.timestamp_delta;
        let mut found = LogRecord {
            partition,
            offset,
            timestamp_ms: 0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
        };
        found.timestamp_ms = records.timestamp(timestamp_delta).0;
        decoded.records.push(found);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use wire::ids::ProducerId;
    use wire::offset::{LeaderEpoch, Offset};
    use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder, assign_place};
    use wire::time::UnixMs;

    use super::*;

    /// A batch of records with these values, at `base`.
    fn batch(base: i64, values: &[&str]) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new();
        for (at, value) in (0..).zip(values) {
            builder.push(&Record {
                timestamp: UnixMs(1_700_000_000_000 + at),
                key: Some(b"dev1"),
                value: Some(value.as_bytes()),
                headers: &[("culvert.seq", b"7")],
            });
        }
        let producer = BatchProducer {
            id: ProducerId::UPLINK_MIN,
            epoch: wire::seq::StreamEpoch::FIRST,
            base: wire::seq::StreamSeq::ZERO,
        };
        let mut batch = builder.seal(producer, Codec::None, builder.records()).unwrap();
        assign_place(&mut batch, Offset(base), LeaderEpoch(0));
        batch
    }

    #[test]
    fn records_below_the_wanted_offset_are_left_out() {
        let bytes = batch(40, &["a", "b", "c"]);
        for (from, expected) in [(0, &["a", "b", "c"][..]), (41, &["b", "c"])] {
            let decoded = decode_batch(2, from, &bytes).unwrap();
            let values = decoded.records.iter().map(|record| record.value.as_deref().unwrap());
            assert_eq!(
                values.collect::<Vec<_>>(),
                expected.iter().map(|v| v.as_bytes()).collect::<Vec<_>>()
            );
            assert_eq!((decoded.next_offset, decoded.length), (43, bytes.len()));
        }
        assert_eq!(decode_batch(2, 43, &bytes), Err(DecodeError::Misplaced));
    }

    #[test]
    fn a_record_is_whole() {
        let decoded = decode_batch(2, 41, &batch(40, &["a", "b"])).unwrap();
        let expected = LogRecord {
            partition: 2,
            offset: 41,
            timestamp_ms: 1_700_000_000_001,
            key: Some(b"dev1".to_vec()),
            value: Some(b"b".to_vec()),
            headers: vec![("culvert.seq".to_owned(), Some(b"7".to_vec()))],
        };
        assert_eq!(decoded.records, [expected]);
        assert_eq!(decoded.records[0].header("culvert.seq"), Some("7"));
        assert_eq!(decoded.records[0].header("culvert.queue"), None);
    }

    #[test]
    fn spoiled_and_cut_batches_are_refused() {
        let whole = batch(0, &["a", "b"]);
        for at in 0..whole.len() {
            assert!(decode_batch(0, 0, &whole[..at]).is_err(), "cut at {at}");
        }
        // What the CRC covers, to the last byte.
        for at in 21..whole.len() {
            let mut spoiled = whole.clone();
            spoiled[at] ^= 0x10;
            assert!(decode_batch(0, 0, &spoiled).is_err(), "spoiled at {at}");
        }
    }
}
