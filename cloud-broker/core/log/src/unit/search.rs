//! Finding a record of one partition in a unit by its time.

use bytes::Bytes;
use wire::offset::Offset;
use wire::time::UnixMs;

use super::UnitMeta;
use super::entries::{ENTRIES_PER_PAGE, ExtentEntries};
use super::read::{ReadFailed, cut};
use super::table::{UnitError, UnitTable};
use crate::batch_cut::FirstBatch;
use crate::extent::Extent;
use crate::ids::PartitionKey;
use crate::job::Damage;
use crate::slot::{RunEntry, SLOT_BYTES_MAX};
use crate::store::UnitSource;

/// What a search is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchFor {
    /// The first run with a record that is as late as this.
    AtLeast(UnixMs),
    /// The first run with the greatest timestamp of all.
    Greatest,
}

/// A search of one partition in one extent, to be carried out with [`ExtentSearch::run`] while the unit is leased.
#[derive(Debug, Clone, Copy)]
pub struct ExtentSearch {
    /// The partition.
    pub key: PartitionKey,
    /// The unit.
    pub unit: UnitMeta,
    /// What it holds of the partition.
    pub extent: Extent,
    /// Records before this offset do not count.
    pub from: Offset,
    /// What is searched for.
    pub what: SearchFor,
}

/// A run that may hold the record that a search is after. Which record it is, only decoding tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRun {
    /// The run's batches from the one on that holds the offset; empty if there is no such run in the extent.
    pub batches: Bytes,
    /// The offset behind it: if the record is not in these batches, ask again from here.
    pub next: Offset,
}

impl ExtentSearch {
    /// Goes through the entries, which are not sorted by time, and reads the run that was found.
    ///
    /// # Errors
    /// [`ReadFailed`].
    pub fn run<S: UnitSource>(&self, source: &mut S) -> Result<FoundRun, ReadFailed<S::Error>> {
        let behind =
            FoundRun { batches: Bytes::new(), next: Offset(self.extent.last.0.saturating_add(1)) };
        let Some((index, seen)) = self.search(source)? else {
            return Ok(behind);
        };
        let mut entries = ExtentEntries::new(self.key, self.extent, self.unit, ENTRIES_PER_PAGE);
        let entry = entries.get(source, index - self.extent.first)?;
        if entry != seen || entry.len as usize > SLOT_BYTES_MAX {
            return Err(ReadFailed::Damaged(entries.damage(index - self.extent.first)));
        }
        let (pos, len) = (u64::from(entry.pos), entry.len as usize);
        let run = source.read_at(self.unit.id, pos, len).map_err(ReadFailed::Source)?;
        let all = (self.from, usize::MAX, FirstBatch::Always);
        let cut = cut(&entry, &run, (self.unit.id, self.key), all)?;
        Ok(FoundRun { batches: run.slice(cut.range), next: cut.next })
    }

    /// The entry, with its number in the table. Its timestamp cannot be held against its batches before it is chosen, nor
    /// those of the ones that are passed over, so the shard's CRC is checked.
    fn search<S: UnitSource>(
        &self,
        source: &mut S,
    ) -> Result<Option<(u32, RunEntry)>, ReadFailed<S::Error>> {
        let failed = |error| match error {
            UnitError::Source(error) => ReadFailed::Source(error),
            UnitError::Damaged { from, to, .. } => ReadFailed::Damaged(self.damage(from, to)),
            UnitError::Version { .. } => ReadFailed::Damaged(self.damage(0, self.unit.len)),
        };
        let table = UnitTable::read(source, self.unit.id, self.unit.len).map_err(failed)?;
        let row = table.row(self.key.shard()).filter(|_| table.meta == self.unit);
        let row =
            row.ok_or_else(|| ReadFailed::Damaged(self.damage(self.unit.dir_off, self.unit.len)))?;
        let extent = self.extent.first..self.extent.first.saturating_add(self.extent.count);
        let mut found: Option<(u32, RunEntry)> = None;
        let see = |index: u32, entry: RunEntry| {
            if !extent.contains(&index) || entry.last_offset < self.from {
                return;
            }
            let is_better = match self.what {
                SearchFor::AtLeast(timestamp) => {
                    found.is_none() && entry.max_timestamp >= timestamp
                }
                SearchFor::Greatest => {
                    found.is_none_or(|(_, best)| entry.max_timestamp > best.max_timestamp)
                }
            };
            if is_better {
                found = Some((index, entry));
            }
        };
        table.scan(source, row, see).map_err(failed)?;
        Ok(found)
    }

    fn damage(&self, from: u64, to: u64) -> Damage {
        let (base, last) = (self.extent.base, self.extent.last);
        Damage { unit: self.unit.id, from, to, key: self.key, base, last }
    }
}
