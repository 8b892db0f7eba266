//! A unit: batches sorted by partition with a table of where they lie, or a WAL file with such a table behind its slots
//! (docs/formats/unit.md).

use wire::time::UnixMs;

use crate::ids::{SlotNo, UnitId};

/// What a unit was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitKind {
    /// A WAL file that gets no more slots.
    SealedWal,
    /// Many partitions, copied out of others.
    Evacuated,
    /// One partition, copied out of others.
    OnePartition,
    /// One partition, compacted by key.
    Compacted,
}

/// What a unit's trailer says, and a checkpoint repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitMeta {
    /// Which.
    pub id: UnitId,
    /// What it was made of.
    pub kind: UnitKind,
    /// The whole file's bytes.
    pub len: u64,
    /// Where the table of runs begins.
    pub entries_off: u64,
    /// Where the directory of shards begins.
    pub dir_off: u64,
    /// Runs.
    pub entry_count: u32,
    /// Shards in the directory.
    pub dir_count: u32,
    /// The first slot that its batches come from.
    pub first_slot: SlotNo,
    /// The slot behind the last that its batches come from.
    pub end_slot: SlotNo,
    /// Wall time of the latest commit among them.
    pub max_append_ms: UnixMs,
    /// Sum over its batches (docs/formats/unit.md, "Setsum").
    pub setsum: u64,
    /// The trailer's CRC: tells it from a unit that had its name before.
    pub crc: u32,
}
