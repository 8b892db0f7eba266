//! What is in a spool, read off its disk.

use gateway_core::spool::RowNo;
use gateway_core::spool::memory::MemoryStore;
use gateway_core::spool::segment::Row;
use gateway_core::spool::store::{Recovered, SpoolStore};
use wire::ids::Lane;
use wire::partition::partition_for_key;

use crate::oracle::Reading;

/// The readings that a spool still has to deliver: rows without a batch, and those of batches that the log has not
/// acknowledged. A row that is behind both will never be sent and does not count.
pub(super) fn held(store: &mut MemoryStore) -> Result<Vec<Reading>, String> {
    let known = store.recover().map_err(|error| error.to_string())?;
    let segments = store.segments(Lane::Live, RowNo::FIRST, usize::MAX, u32::MAX);
    let mut held = Vec::new();
    for segment in segments.map_err(|error| error.to_string())? {
        let rows = segment.read().map_err(|error| error.to_string())?;
        for (number, row) in (segment.first.0..).zip(rows) {
            if let Some((queue, seq)) = row.sequence
                && is_due(&known, RowNo(number), &row)
            {
                held.push(Reading { device: row.device, queue: queue.0, seq: seq.0 });
            }
        }
    }
    Ok(held)
}

fn is_due(known: &Recovered, number: RowNo, row: &Row) -> bool {
    let assigned = known.assigned.iter().find(|(lane, _)| *lane == Lane::Live);
    if assigned.is_none_or(|(_, waiting)| number >= *waiting) {
        return true;
    }
    known.window.iter().any(|batch| {
        batch.lane == Lane::Live
            && (batch.from..batch.to).contains(&number)
            && partition_for_key(&row.device, batch.partitions) == batch.stream.partition
    })
}
