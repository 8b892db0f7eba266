//! Reading an extent from its start to its end.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::offset::Offset;

use super::{Damage, Walk, WalkedBatch};
use crate::extent::Extent;
use crate::ids::{PartitionKey, UnitId};
use crate::slot::{RunEntry, SLOT_BYTES_MAX};
use crate::store::UnitSource;
use crate::unit::{ExtentEntries, ReadFailed, UnitMeta, first_bad};

/// Entries that are read at a time: 48 KiB.
const ENTRIES_PER_READ: u32 = 1024;

/// Runs that lie one behind the other are read together up to this, in bytes: compaction makes many small ones.
const BYTES_PER_READ: usize = 1 << 20;

/// One run, not looked at yet.
pub(super) struct Run {
    pub(super) unit: UnitId,
    pub(super) entry: RunEntry,
    pub(super) bytes: Bytes,
}

impl Run {
    /// Its batches, if they are what its entry says; their CRCs are not checked.
    pub(super) fn batches(&self) -> Result<Vec<WalkedBatch>, Damage> {
        let batches: Result<Vec<_>, _> = Walk::new(&self.entry, &self.bytes).collect();
        batches.map_err(|bad| {
            let bad = first_bad(&self.entry, &self.bytes, bad);
            let pos = u64::from(self.entry.pos);
            let (from, to) = (pos + bad.at as u64, pos + u64::from(self.entry.len));
            self.damage(from, to, bad.base, self.entry.last_offset)
        })
    }

    /// That one of its batches is not what was written.
    pub(super) fn damage_of(&self, batch: &WalkedBatch) -> Damage {
        let pos = u64::from(self.entry.pos);
        let (from, to) = (pos + batch.range.start as u64, pos + batch.range.end as u64);
        self.damage(from, to, batch.header.base_offset, Offset(batch.next.0 - 1))
    }

    fn damage(&self, from: u64, to: u64, base: Offset, last: Offset) -> Damage {
        Damage { unit: self.unit, from, to, key: self.entry.key, base, last }
    }
}

/// The runs of one extent, in order.
pub(super) struct Runs {
    entries: ExtentEntries,
    unit: UnitId,
    /// Runs that end before are left out.
    from: Offset,
    count: u32,
    index: u32,
    read: VecDeque<Run>,
}

impl Runs {
    pub(super) fn new(key: PartitionKey, extent: Extent, unit: UnitMeta, from: Offset) -> Self {
        Self {
            entries: ExtentEntries::new(key, extent, unit, ENTRIES_PER_READ),
            unit: unit.id,
            from,
            count: extent.count,
            index: 0,
            read: VecDeque::new(),
        }
    }

    /// The next run.
    pub(super) fn next<S: UnitSource>(
        &mut self,
        source: &mut S,
    ) -> Result<Option<Run>, ReadFailed<S::Error>> {
        if self.read.is_empty() {
            self.read_more(source)?;
        }
        Ok(self.read.pop_front())
    }

    fn read_more<S: UnitSource>(&mut self, source: &mut S) -> Result<(), ReadFailed<S::Error>> {
        let mut span: Vec<RunEntry> = Vec::new();
        let mut len = 0;
        while self.index < self.count {
            let entry = self.entries.get(source, self.index)?;
            if entry.len as usize > SLOT_BYTES_MAX {
                return Err(ReadFailed::Damaged(self.entries.damage(self.index)));
            }
            if entry.last_offset < self.from {
                self.index += 1;
                continue;
            }
            let is_behind = span.last().is_none_or(|before| {
                u64::from(entry.pos) == u64::from(before.pos) + u64::from(before.len)
            });
            let fits = span.is_empty() || len + entry.len as usize <= BYTES_PER_READ;
            if !is_behind || !fits {
                break;
            }
            self.index += 1;
            len += entry.len as usize;
            span.push(entry);
        }
        let Some(first) = span.first().copied() else {
            return Ok(());
        };
        let bytes = source.read_at(self.unit, u64::from(first.pos), len);
        let bytes = bytes.map_err(ReadFailed::Source)?;
        self.read.extend(span.into_iter().map(|entry| {
            let at = (entry.pos - first.pos) as usize;
            // A unit that is too short has runs that are too short, which is damage.
            let run = at.min(bytes.len())..bytes.len().min(at + entry.len as usize);
            Run { unit: self.unit, entry, bytes: bytes.slice(run) }
        }));
        Ok(())
    }
}
