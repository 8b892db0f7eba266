//! What the log's compaction needs to know of Kafka's records.

use broker_kafka::records::{REWRITTEN_BYTES_MAX, Records, rewrite};
use broker_log::{KeyedRecord, RecordRewriter, SLOT_BYTES_MAX, Unreadable};
use wire::offset::Offset;
use wire::time::UnixMs;

const _: () = assert!(REWRITTEN_BYTES_MAX <= SLOT_BYTES_MAX, "the log keeps what it gets");

/// Reads and rewrites batches of every codec.
#[derive(Debug, Clone, Copy, Default)]
pub struct KafkaRecords;

impl RecordRewriter for KafkaRecords {
    fn walk(&self, batch: &[u8], show: &mut dyn FnMut(KeyedRecord<'_>)) -> Result<(), Unreadable> {
        let mut records = Records::new(batch).map_err(|_| Unreadable)?;
        let base = records.header().base_offset;
        while let Some(record) = records.next_record().map_err(|_| Unreadable)? {
            let offset = base.0.checked_add(i64::from(record.offset_delta)).ok_or(Unreadable)?;
            show(KeyedRecord {
                offset: Offset(offset),
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
        rewrite(batch, keep, delete_horizon).map_err(|_| Unreadable)
    }
}

#[cfg(test)]
mod tests;
