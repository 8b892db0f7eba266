//! A unit: batches sorted by partition with a table of where they lie, or a WAL file with such a table behind its slots
//! (docs/formats/unit.md).
//!
//! [`UnitTable`] reads a unit's directory and entries with their checksums. Readers of one partition do not load tables:
//! [`ExtentRead`] finds an offset with a few small reads, [`ExtentSearch`] a timestamp. [`UnitsOut`] writes units.
//!
//! Invariants: what is handed out agrees with entry, batch header and the batch's CRC; what does not is [`Damage`] with its
//! range. Deliberately missing: which units count, and which extents lie where (the engine and its checkpoints know that).
//!
//! [`Damage`]: crate::Damage
//! [`UnitsOut`]: out::UnitsOut

mod builder;
mod entries;
mod out;
mod read;
mod search;
mod setsum;
mod table;
mod trailer;
mod walk;

use wire::time::UnixMs;

use crate::ids::{SlotNo, UnitId};

pub(crate) use builder::{AfterGap, Origin, WriteFailed};
pub(crate) use entries::ExtentEntries;
pub(crate) use out::{Home, UnitsOut};
pub use read::{ExtentPart, ExtentRead, ReadFailed};
pub use search::{ExtentSearch, FoundRun, SearchFor};
pub use setsum::setsum_of_batch;
pub(crate) use table::{COPY_BYTES_PER_ENTRY, TableBuilder, UnitFacts};
pub use table::{ShardRow, UnitError, UnitTable};
pub(crate) use walk::{Walk, WalkedBatch, first_bad};

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
    /// Wall time of the latest commit among them; 0 if there are none.
    pub max_append_ms: UnixMs,
    /// Sum over its batches (docs/formats/unit.md, "Setsum").
    pub setsum: u64,
    /// The trailer's CRC: tells it from a unit that had its name before.
    pub crc: u32,
}

/// An entry of a made unit ends with the batch that would take it beyond this, so that whoever looks for an offset or a time
/// reads this much at most, or one batch.
pub const UNIT_ENTRY_BATCHES_BYTES: usize = 256 << 10;

/// Time falls into spans of this, in milliseconds, and extents whose latest appends lie in two spans are not made one:
/// retention goes by the latest. The spans stand still, because an extent that is copied again and again, each time with
/// a few later runs, would never grow old if they were counted from its own appends.
pub(crate) const EXTENT_SPAN_MS: i64 = 6 * 60 * 60 * 1000;

/// A made unit ends before its body would be larger: positions are 32 bits.
pub const UNIT_BODY_BYTES_MAX: u64 = 2 << 30;

/// A made unit ends before it would have more entries: whoever writes it keeps them in memory.
pub const UNIT_ENTRIES_MAX: u32 = 1 << 20;

const _: () = assert!(
    UNIT_BODY_BYTES_MAX + crate::SLOT_BYTES_MAX as u64 <= u32::MAX as u64,
    "every position fits, also behind the run that goes beyond the limit"
);
