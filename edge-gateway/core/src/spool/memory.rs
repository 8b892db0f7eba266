//! The twin of the spool's disk for tests and simulation: a store in memory that forgets what was not committed.

use std::collections::BTreeMap;

use wire::ids::{Lane, QueueId, SpoolId};
use wire::seq::DeviceSeq;

use super::RowNo;
use super::segment::Segment;
use super::store::{Recovered, SpoolStore, StoreError};
use crate::dedupe::QUEUES_PER_DEVICE;
use crate::ledger::Ledger;
use crate::uplink::window::{Batch, BatchNo, Stream};

/// A store in memory.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    spool: SpoolId,
    durable: Tables,
    open: Option<Tables>,
    room_bytes: u64,
    fail_syncs: bool,
    commits: u64,
}

#[derive(Debug, Clone, Default)]
struct Tables {
    segments: BTreeMap<RowNo, Segment>,
    /// Per device its queues, oldest first.
    devices: BTreeMap<Vec<u8>, Vec<(QueueId, DeviceSeq)>>,
    batches: BTreeMap<BatchNo, Batch>,
    streams: Vec<Stream>,
    assigned: BTreeMap<Lane, RowNo>,
    next_row: RowNo,
    next_batch: BatchNo,
    ledger: Ledger,
}

impl MemoryStore {
    /// An empty store with this identity.
    #[must_use]
    pub fn new(spool: SpoolId) -> Self {
        let durable = Tables { next_row: RowNo::FIRST, ..Tables::default() };
        Self { spool, durable, open: None, room_bytes: u64::MAX, fail_syncs: false, commits: 0 }
    }

    /// From now on a transaction that leaves more than this many bytes of segments finds no room.
    pub fn set_room(&mut self, bytes: u64) {
        self.room_bytes = bytes;
    }

    /// From now on every sync fails.
    pub fn fail_syncs(&mut self) {
        self.fail_syncs = true;
    }

    /// Transactions committed so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// What is left after a crash: everything committed, nothing else.
    #[must_use]
    pub fn crashed(mut self) -> Self {
        self.open = None;
        self
    }

    fn tables(&mut self) -> Result<&mut Tables, StoreError> {
        self.open.as_mut().ok_or_else(|| StoreError::Disk("no transaction is open".into()))
    }
}

impl Tables {
    fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.data.len() as u64).sum()
    }
}

impl SpoolStore for MemoryStore {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.open = Some(self.durable.clone());
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if self.fail_syncs {
            return Err(StoreError::Disk("injected: sync failed".into()));
        }
        let room = self.room_bytes;
        let before = self.durable.bytes();
        let tables = self.tables()?;
        if tables.bytes() > room && tables.bytes() > before {
            return Err(StoreError::Full(format!("{room} bytes")));
        }
        self.durable = self.open.take().expect("checked by tables()");
        self.commits += 1;
        Ok(())
    }

    fn rollback(&mut self) {
        self.open = None;
    }

    fn recover(&mut self) -> Result<Recovered, StoreError> {
        let tables = &self.durable;
        let waiting = tables.assigned.get(&Lane::Live).copied().unwrap_or(RowNo::FIRST);
        let live = |segment: &&Segment| segment.lane == Lane::Live && segment.first >= waiting;
        let unassigned: u64 =
            tables.segments.values().filter(live).map(|s| u64::from(s.rows)).sum();
        let batches = tables.batches.values().filter(|batch| batch.lane == Lane::Live);
        let in_window: u64 = batches.map(|batch| u64::from(batch.count)).sum();
        Ok(Recovered {
            spool: self.spool,
            next_row: tables.next_row,
            assigned: Lane::ALL
                .iter()
                .map(|lane| (*lane, tables.assigned.get(lane).copied().unwrap_or(RowNo::FIRST)))
                .collect(),
            streams: tables.streams.clone(),
            window: tables.batches.values().copied().collect(),
            next_batch: tables.next_batch,
            ledger: tables.ledger,
            spooled: unassigned + in_window,
        })
    }

    fn device_last(
        &mut self,
        device: &[u8],
        queue: QueueId,
    ) -> Result<Option<DeviceSeq>, StoreError> {
        let queues = self.tables()?.devices.get(device);
        let found = queues.and_then(|queues| queues.iter().find(|(id, _)| *id == queue));
        Ok(found.map(|(_, last)| *last))
    }

    fn put_device_last(
        &mut self,
        device: &[u8],
        queue: QueueId,
        last: DeviceSeq,
    ) -> Result<(), StoreError> {
        let queues = self.tables()?.devices.entry(device.to_vec()).or_default();
        match queues.iter_mut().find(|(id, _)| *id == queue) {
            Some(known) => known.1 = last,
            None => queues.push((queue, last)),
        }
        if queues.len() > QUEUES_PER_DEVICE {
            queues.remove(0);
        }
        Ok(())
    }

    fn put_segment(&mut self, segment: &Segment) -> Result<(), StoreError> {
        let tables = self.tables()?;
        tables.next_row = segment.end();
        tables.segments.insert(segment.first, segment.clone());
        Ok(())
    }

    fn segments(
        &mut self,
        lane: Lane,
        from: RowNo,
        bytes_max: usize,
        rows_max: u32,
    ) -> Result<Vec<Segment>, StoreError> {
        let tables = self.open.as_ref().unwrap_or(&self.durable);
        let (mut bytes, mut rows, mut found) = (0, 0, Vec::new());
        for segment in tables.segments.range(from..).map(|(_, segment)| segment) {
            if segment.lane != lane {
                continue;
            }
            bytes += segment.data.len();
            rows += segment.rows;
            if !found.is_empty() && (bytes > bytes_max || rows > rows_max) {
                break;
            }
            found.push(segment.clone());
        }
        Ok(found)
    }

    fn delete_segments(&mut self, lane: Lane, below: RowNo) -> Result<(), StoreError> {
        self.tables()?.segments.retain(|_, s| s.lane != lane || s.end() > below);
        Ok(())
    }

    fn put_assigned(&mut self, lane: Lane, row: RowNo) -> Result<(), StoreError> {
        self.tables()?.assigned.insert(lane, row);
        Ok(())
    }

    fn put_batch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let tables = self.tables()?;
        tables.next_batch = BatchNo(batch.number.0 + 1);
        tables.batches.insert(batch.number, *batch);
        Ok(())
    }

    fn delete_batch(&mut self, number: BatchNo) -> Result<(), StoreError> {
        self.tables()?.batches.remove(&number);
        Ok(())
    }

    fn put_stream(&mut self, stream: &Stream) -> Result<(), StoreError> {
        let tables = self.tables()?;
        tables.streams.retain(|known| known.key != stream.key);
        tables.streams.push(*stream);
        tables.streams.sort_by_key(|known| known.key);
        Ok(())
    }

    fn put_ledger(&mut self, ledger: &Ledger) -> Result<(), StoreError> {
        self.tables()?.ledger = *ledger;
        Ok(())
    }

    fn used_bytes(&mut self) -> Result<u64, StoreError> {
        Ok(self.open.as_ref().unwrap_or(&self.durable).bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twin_passes_the_conformance_suite() {
        let make = || MemoryStore::new(SpoolId([5; 16]));
        super::super::conformance::check(make, MemoryStore::crashed);
    }
}
