//! A unit's table: which shards it has entries of, and where each run lies.

use wire::offset::Offset;
use wire::record_batch::crc32c;
use wire::time::UnixMs;

use super::trailer::{self, TRAILER_BYTES, TrailerError, UNIT_VERSION};
use super::{UnitKind, UnitMeta};
use crate::fields::{i64_at, put, u16_at, u32_at};
use crate::ids::{PartitionKey, Shard, SlotNo, UnitId};
use crate::slot::{RUN_ENTRY_BYTES, RunEntry};
use crate::store::UnitSource;

/// Bytes of a directory row.
pub(super) const SHARD_ROW_BYTES: usize = 24;

/// What a unit's table takes up for each of its entries, at most.
pub(crate) const COPY_BYTES_PER_ENTRY: u64 = (RUN_ENTRY_BYTES + SHARD_ROW_BYTES) as u64;

/// Entries are read in pieces of this, where all of a shard are wanted: 64 KiB.
const ENTRIES_PER_READ: u32 = (64 << 10) / RUN_ENTRY_BYTES as u32;

/// What a unit's directory says of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardRow {
    /// The shard.
    pub shard: Shard,
    /// Its first entry.
    pub first: u32,
    /// Its entries, at least one.
    pub count: u32,
    /// CRC of them.
    pub crc: u32,
    /// Wall time of the latest commit among them.
    pub max_append_ms: UnixMs,
}

impl ShardRow {
    fn encode(&self) -> [u8; SHARD_ROW_BYTES] {
        let mut out = [0; SHARD_ROW_BYTES];
        put(&mut out, 0, self.shard.0.to_le_bytes());
        put(&mut out, 4, self.first.to_le_bytes());
        put(&mut out, 8, self.count.to_le_bytes());
        put(&mut out, 12, self.crc.to_le_bytes());
        put(&mut out, 16, self.max_append_ms.0.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; SHARD_ROW_BYTES]) -> Self {
        Self {
            shard: Shard(u16_at(bytes, 0)),
            first: u32_at(bytes, 4),
            count: u32_at(bytes, 8),
            crc: u32_at(bytes, 12),
            max_append_ms: UnixMs(i64_at(bytes, 16)),
        }
    }
}

/// Why a unit's table cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError<E> {
    /// These bytes of it are not what was written, or not a unit's.
    #[error("{unit}: damaged table, bytes {from} to {to}")]
    Damaged {
        /// The unit.
        unit: UnitId,
        /// First byte.
        from: u64,
        /// The byte behind.
        to: u64,
    },
    /// The store could not read it.
    #[error("{0}")]
    Source(E),
    /// Another version wrote it: use that version.
    #[error("{unit} is of version {version}; this program reads version {UNIT_VERSION}")]
    Version {
        /// The unit.
        unit: UnitId,
        /// Its version.
        version: u16,
    },
}

/// A unit's trailer and directory, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitTable {
    /// What the trailer says.
    pub meta: UnitMeta,
    /// The directory, sorted by shard.
    pub shards: Vec<ShardRow>,
}

impl UnitTable {
    /// Reads the table of the unit `id`, a file of `len` bytes. Whether it is the unit that a checkpoint means, tells the
    /// comparison with the [`UnitMeta`] there.
    ///
    /// # Errors
    /// [`UnitError`].
    pub fn read<S: UnitSource>(
        source: &mut S,
        id: UnitId,
        len: u64,
    ) -> Result<Self, UnitError<S::Error>> {
        let trailer_at = len.saturating_sub(TRAILER_BYTES as u64);
        let damaged = |from| UnitError::Damaged { unit: id, from, to: len };
        let bytes = source.read_at(id, trailer_at, TRAILER_BYTES).map_err(UnitError::Source)?;
        let trailer = bytes.first_chunk().ok_or(damaged(trailer_at))?;
        let mut meta = trailer::decode(id, len, trailer).map_err(|error| match error {
            TrailerError::Invalid => damaged(trailer_at),
            TrailerError::Version(version) => UnitError::Version { unit: id, version },
        })?;
        // A shard is 16 bits, so there are not more rows than that; the trailer is not checked yet.
        let dir_bytes = meta.dir_count as usize * SHARD_ROW_BYTES;
        if meta.dir_count > u32::from(u16::MAX) + 1 {
            return Err(damaged(trailer_at));
        }
        let directory = source.read_at(id, meta.dir_off, dir_bytes).map_err(UnitError::Source)?;
        let is_whole = directory.len() == dir_bytes;
        if !is_whole || trailer::crc_of(&directory, trailer) != meta.crc {
            return Err(damaged(meta.dir_off));
        }
        let shards = rows(&directory, meta.entry_count).ok_or(damaged(meta.dir_off))?;
        let times = shards.iter().map(|row| row.max_append_ms);
        meta.max_append_ms = times.max().unwrap_or(UnixMs(0));
        Ok(Self { meta, shards })
    }

    /// Goes through the entries of one shard of a unit that is the `unit` meant, or is damaged. See [`Self::scan`].
    pub(crate) fn read_shard<S: UnitSource>(
        source: &mut S,
        unit: &UnitMeta,
        shard: Shard,
        see: impl FnMut(u32, RunEntry),
    ) -> Result<(), UnitError<S::Error>> {
        let table = Self::read(source, unit.id, unit.len)?;
        match table.row(shard).filter(|_| table.meta == *unit) {
            Some(row) => table.scan(source, row, see),
            None => Err(UnitError::Damaged { unit: unit.id, from: unit.dir_off, to: unit.len }),
        }
    }

    /// The entries of a shard, checked against its CRC.
    ///
    /// # Errors
    /// [`UnitError`].
    pub fn entries<S: UnitSource>(
        &self,
        source: &mut S,
        row: &ShardRow,
    ) -> Result<Vec<RunEntry>, UnitError<S::Error>> {
        let mut entries = Vec::new();
        self.scan(source, row, |_, entry| entries.push(entry))?;
        Ok(entries)
    }

    /// Goes through the entries of a shard, each with its number. What was seen counts only if this returns `Ok`: the CRC is
    /// known at the end.
    pub(crate) fn scan<S: UnitSource>(
        &self,
        source: &mut S,
        row: &ShardRow,
        mut see: impl FnMut(u32, RunEntry),
    ) -> Result<(), UnitError<S::Error>> {
        let at = |index: u32| self.meta.entry_pos(index);
        let (mut next, end) = (row.first, row.first.saturating_add(row.count));
        let damaged = UnitError::Damaged { unit: self.meta.id, from: at(next), to: at(end) };
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        while next < end {
            let count = (end - next).min(ENTRIES_PER_READ);
            let len = count as usize * RUN_ENTRY_BYTES;
            let bytes = source.read_at(self.meta.id, at(next), len).map_err(UnitError::Source)?;
            if bytes.len() != len {
                return Err(damaged);
            }
            digest.update(&bytes);
            for (i, entry) in (next..).zip(bytes.as_chunks().0) {
                see(i, RunEntry::decode(entry));
            }
            next += count;
        }
        if digest.finalize() == u64::from(row.crc) { Ok(()) } else { Err(damaged) }
    }

    /// The row of a shard, if the unit has any of it.
    #[must_use]
    pub fn row(&self, shard: Shard) -> Option<&ShardRow> {
        let found = self.shards.binary_search_by_key(&shard, |row| row.shard);
        found.ok().map(|i| &self.shards[i])
    }
}

impl UnitMeta {
    /// Where an entry of the table lies.
    pub(crate) fn entry_pos(&self, index: u32) -> u64 {
        self.entries_off.saturating_add(u64::from(index) * RUN_ENTRY_BYTES as u64)
    }
}

/// The rows of a directory; `None` if they are not sorted, or do not cover `entry_count` entries.
fn rows(directory: &[u8], entry_count: u32) -> Option<Vec<ShardRow>> {
    let rows: Vec<_> = directory.as_chunks().0.iter().map(ShardRow::decode).collect();
    let mut next = 0_u32;
    for (i, row) in rows.iter().enumerate() {
        let sorted = i == 0 || rows[i - 1].shard < row.shard;
        if !sorted || row.first != next || row.count == 0 {
            return None;
        }
        next = next.checked_add(row.count)?;
    }
    (next == entry_count).then_some(rows)
}

/// Collects the entries of a unit that is being written, in their order.
#[derive(Debug, Default)]
pub(crate) struct TableBuilder {
    entries: Vec<u8>,
    rows: Vec<ShardRow>,
    last: Option<(PartitionKey, Offset)>,
}

/// What the trailer says of a unit beside where its parts lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitFacts {
    pub(crate) id: UnitId,
    pub(crate) kind: UnitKind,
    pub(crate) first_slot: SlotNo,
    pub(crate) end_slot: SlotNo,
    pub(crate) setsum: u64,
}

impl TableBuilder {
    /// Room for so many entries.
    pub(crate) fn with_capacity(entries: usize) -> Self {
        Self { entries: Vec::with_capacity(entries * RUN_ENTRY_BYTES), ..Self::default() }
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.entries.len() / RUN_ENTRY_BYTES).expect("below 2^32 entries")
    }

    /// Adds an entry; `None`, and nothing is added, if it does not belong behind the last one.
    pub(crate) fn push(&mut self, entry: &RunEntry, append_ms: UnixMs) -> Option<()> {
        let key = entry.key;
        let order = |key: PartitionKey| (key.shard(), key);
        if self.last.is_some_and(|(last_key, last)| {
            (order(last_key), last) >= (order(key), entry.base_offset)
        }) {
            return None;
        }
        self.last = Some((key, entry.last_offset));
        let first = self.len();
        self.entries.extend_from_slice(&entry.encode());
        match self.rows.last_mut() {
            Some(row) if row.shard == key.shard() => {
                row.count += 1;
                row.max_append_ms = row.max_append_ms.max(append_ms);
            }
            Some(_) | None => self.rows.push(ShardRow {
                shard: key.shard(),
                first,
                count: 1,
                crc: 0,
                max_append_ms: append_ms,
            }),
        }
        Some(())
    }

    /// What is written from `entries_off` on, to the end of the file.
    pub(crate) fn finish(mut self, facts: UnitFacts, entries_off: u64) -> (Vec<u8>, UnitMeta) {
        let entry_count = self.len();
        let dir_off = entries_off + self.entries.len() as u64;
        let mut directory = Vec::with_capacity(self.rows.len() * SHARD_ROW_BYTES);
        for row in &mut self.rows {
            let start = row.first as usize * RUN_ENTRY_BYTES;
            row.crc = crc32c(&self.entries[start..start + row.count as usize * RUN_ENTRY_BYTES]);
            directory.extend_from_slice(&row.encode());
        }
        let times = self.rows.iter().map(|row| row.max_append_ms);
        let mut meta = UnitMeta {
            id: facts.id,
            kind: facts.kind,
            len: dir_off + (directory.len() + TRAILER_BYTES) as u64,
            entries_off,
            dir_off,
            entry_count,
            dir_count: u32::try_from(self.rows.len()).expect("a shard is 16 bits"),
            first_slot: facts.first_slot,
            end_slot: facts.end_slot,
            max_append_ms: times.max().unwrap_or(UnixMs(0)),
            setsum: facts.setsum,
            crc: 0,
        };
        let (trailer, crc) = trailer::encode(&meta, &directory);
        meta.crc = crc;
        let mut footer = self.entries;
        footer.extend_from_slice(&directory);
        footer.extend_from_slice(&trailer);
        (footer, meta)
    }

    /// Bytes of what [`Self::finish`] returns.
    pub(crate) fn footer_bytes(&self) -> u64 {
        (self.entries.len() + self.rows.len() * SHARD_ROW_BYTES + TRAILER_BYTES) as u64
    }
}
