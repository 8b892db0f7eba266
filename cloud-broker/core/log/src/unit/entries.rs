//! Single entries of a unit's table, for whoever needs those of one extent: a few small reads, not the table.

use bytes::Bytes;
use wire::offset::Offset;

use super::{ReadFailed, UnitMeta};
use crate::extent::Extent;
use crate::ids::PartitionKey;
use crate::job::Damage;
use crate::slot::{RUN_ENTRY_BYTES, RunEntry};
use crate::store::UnitSource;

/// What a search by halves reads at a time: 4 KiB.
pub(crate) const ENTRIES_PER_PAGE: u32 = 4096 / RUN_ENTRY_BYTES as u32;

/// The entries of one extent, numbered from 0. Each is believed only if it agrees with the extent.
#[derive(Debug)]
pub(crate) struct ExtentEntries {
    pub(crate) key: PartitionKey,
    pub(crate) extent: Extent,
    unit: UnitMeta,
    per_page: u32,
    page: u32,
    bytes: Bytes,
}

impl ExtentEntries {
    /// Reads entries `per_page` at a time.
    pub(crate) fn new(key: PartitionKey, extent: Extent, unit: UnitMeta, per_page: u32) -> Self {
        Self { key, extent, unit, per_page: per_page.max(1), page: 0, bytes: Bytes::new() }
    }

    /// The entry number `index`, below the extent's count.
    ///
    /// # Errors
    /// [`ReadFailed`] if it cannot be read, or is not an entry of this extent.
    pub(crate) fn get<S: UnitSource>(
        &mut self,
        source: &mut S,
        index: u32,
    ) -> Result<RunEntry, ReadFailed<S::Error>> {
        let page = index / self.per_page;
        if self.bytes.is_empty() || page != self.page {
            let first = page * self.per_page;
            let count = (self.extent.count - first).min(self.per_page);
            let at = self.unit.entry_pos(self.extent.first.saturating_add(first));
            let len = count as usize * RUN_ENTRY_BYTES;
            self.bytes = source.read_at(self.unit.id, at, len).map_err(ReadFailed::Source)?;
            self.page = page;
        }
        let at = (index % self.per_page) as usize * RUN_ENTRY_BYTES;
        let bytes = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        let entry = bytes.map(RunEntry::decode).filter(|entry| self.agrees(index, entry));
        entry.ok_or_else(|| ReadFailed::Damaged(self.damage(index)))
    }

    /// The first entry that ends at `offset` or behind; `offset` is at most the extent's last.
    ///
    /// # Errors
    /// [`ReadFailed`].
    pub(crate) fn find<S: UnitSource>(
        &mut self,
        source: &mut S,
        offset: Offset,
    ) -> Result<u32, ReadFailed<S::Error>> {
        let (mut low, mut high) = (0, self.extent.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(source, middle)?.last_offset < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low < self.extent.count {
            Ok(low)
        } else {
            // The last entry is held against the extent, so it cannot end before an offset of the extent.
            Err(ReadFailed::Damaged(self.damage(self.extent.count - 1)))
        }
    }

    /// That the entry number `index` is not what it should be. What it would have told is unknown, so all of the extent is
    /// named.
    pub(crate) fn damage(&self, index: u32) -> Damage {
        let from = self.unit.entry_pos(self.extent.first.saturating_add(index));
        Damage {
            unit: self.unit.id,
            from,
            to: from.saturating_add(RUN_ENTRY_BYTES as u64),
            key: self.key,
            base: self.extent.base,
            last: self.extent.last,
        }
    }

    fn agrees(&self, index: u32, entry: &RunEntry) -> bool {
        let extent = &self.extent;
        let end = u64::from(entry.pos) + u64::from(entry.len);
        entry.key == self.key
            && entry.base_offset >= extent.base
            && entry.base_offset <= entry.last_offset
            && entry.last_offset <= extent.last
            && (index > 0 || entry.base_offset == extent.base)
            && (index + 1 < extent.count || entry.last_offset == extent.last)
            && entry.len > 0
            && end <= self.unit.entries_off
    }
}
