//! Finding what readers ask for.

use wire::offset::Offset;
use wire::time::UnixMs;

use super::Log;
use crate::batch_cut::FirstBatch;
use crate::ids::PartitionKey;
use crate::read::{Candidate, Planner, ReadError, ReadPlan};
use crate::unit::SearchFor;

impl Log {
    /// Plans a read of at most `max_bytes` of whole batches, from the one that holds `offset`, below the high watermark.
    /// At the high watermark the plan is empty.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &self,
        key: PartitionKey,
        offset: Offset,
        max_bytes: usize,
        first: FirstBatch,
    ) -> Result<ReadPlan, ReadError> {
        let planner = self.planner(key).ok_or(ReadError::UnknownPartition)?;
        planner.plan(offset, max_bytes, first)
    }

    /// The first run from `from` on whose greatest timestamp is at least `timestamp`: the first record that is as late
    /// lies there, if the batch headers tell the truth. `None`: there is none.
    #[must_use]
    pub fn candidate_at_time(
        &self,
        key: PartitionKey,
        timestamp: UnixMs,
        from: Offset,
    ) -> Option<Candidate> {
        let planner = self.planner(key)?;
        let mut extents = planner.partition.extents_from(from).iter();
        if let Some(extent) = extents.find(|extent| extent.max_timestamp >= timestamp) {
            return Some(planner.search(extent, from, SearchFor::AtLeast(timestamp)));
        }
        let mut runs = planner.partition.runs_from(from);
        let run = runs.find(|run| run.max_timestamp >= timestamp)?;
        Some(planner.candidate(run, from))
    }

    /// The first run with the greatest timestamp of the partition; `None` if it is empty. If it begins before the log start,
    /// the record that has it may be deleted: ask [`Log::candidate_at_time`] whether there is a later one than was found.
    #[must_use]
    pub fn candidate_of_max_timestamp(&self, key: PartitionKey) -> Option<Candidate> {
        let planner = self.planner(key)?;
        let from = planner.partition.offsets().log_start;
        let extents = || planner.partition.extents_from(from).iter();
        let runs = || planner.partition.runs_from(from);
        let in_extents = extents().map(|extent| extent.max_timestamp).max();
        let in_runs = runs().map(|run| run.max_timestamp).max();
        let greatest = in_extents.max(in_runs)?;
        if let Some(extent) = extents().find(|extent| extent.max_timestamp == greatest) {
            return Some(planner.search(extent, from, SearchFor::Greatest));
        }
        let run = runs().find(|run| run.max_timestamp == greatest)?;
        Some(planner.candidate(run, run.base.max(from)))
    }

    fn planner(&self, key: PartitionKey) -> Option<Planner<'_>> {
        let partition = self.partitions.get(&key)?;
        Some(Planner { key, partition, catalog: &self.catalog, tail: &self.tail })
    }
}
